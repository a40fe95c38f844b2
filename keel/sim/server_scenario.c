/* SPDX-License-Identifier: MIT */
/* A server of either kind that answers each line with the line, and clients that
 * come over a bad network: late, in pieces, cut in the middle, refused; then it
 * is asked to stop while some still talk.  What a client is answered is what it
 * asked; the cap holds; the counters add up; the stop ends within its grace and
 * a little. */
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <keel/net.h>
#include <keel/server.h>
#include <keel/stream.h>

#include "scenarios.h"

enum { CLIENTS = 8, LINES = 6, LINE_BYTES = 64, CAP = 5 };
#define GRACE (200 * KEEL_MS)

struct shop {
    struct keel_server *server;
    unsigned now, most; /* handlers at work */
    unsigned begun, over;
    keel_ns stopped; /* asked to */
    uint64_t answered;
    bool serves_all; /* nobody is turned away, nothing is lost */
};

static bool good; /* the network */

KEEL_HANDLER(sim_line_echo)
{
    struct shop *s = *(struct shop **)conn->arg;
    keel_auto(reader) struct keel_reader *r = NULL;
    int rc = keel_reader_new(conn->stream, 256, &r);

    s->begun++;
    s->now++;
    if (s->now > s->most)
        s->most = s->now;
    while (rc == 0 && !keel_conn_is_stopping(conn)) {
        const char *line;
        char copy[2 * LINE_BYTES];
        ssize_t size = keel_reader_line(r, &line, KEEL_FOREVER);

        if (size < 0) {
            rc = size == -ENODATA ? 1 : (int)size;
            break;
        }
        SIM_CHECK(size < LINE_BYTES);
        memcpy(copy, line, (size_t)size);
        copy[size] = '\n';
        if (keel_sim_draw(5) == 0)
            (void)keel_sleep(keel_after((keel_ns)keel_sim_draw(20) * KEEL_MS));
        rc = keel_stream_write(conn->stream, copy, (size_t)size + 1,
                               KEEL_FOREVER);
    }
    s->now--;
    return rc < 0 ? rc : 0;
}

static void over(struct keel_conn *conn, int result)
{
    struct shop *s = *(struct shop **)conn->arg;

    (void)result;
    s->over++;
}

/* ---- a client ---- */

static int talk(struct shop *s, struct keel_stream *stream, int who)
{
    keel_auto(reader) struct keel_reader *r = NULL;
    char asked[LINE_BYTES];
    const char *got;
    int rc = keel_reader_new(stream, 256, &r);

    for (int i = 0; rc == 0 && i < LINES; i++) {
        int size = snprintf(asked, sizeof asked, "%d says %d for the %llu.\n",
                            who, i, (unsigned long long)keel_sim_draw(1000));
        keel_ns deadline = keel_after(5 * KEEL_SECOND);
        ssize_t n;

        rc = keel_stream_write(stream, asked, (size_t)size, deadline);
        if (rc < 0)
            break;
        n = keel_reader_line(r, &got, deadline);
        if (n < 0)
            return (int)n;
        SIM_CHECK(n == size - 1 && !memcmp(got, asked, (size_t)n));
        s->answered++;
        if (keel_sim_draw(3) == 0)
            (void)keel_sleep(keel_after((keel_ns)keel_sim_draw(30) * KEEL_MS));
    }
    return rc;
}

struct client {
    struct shop *shop;
    int who;
};

static int client(void *arg)
{
    const struct client *c = arg;

    for (int turn = 0; turn < 2; turn++) {
        keel_auto(stream) struct keel_stream *stream = NULL;
        int rc;

        (void)keel_sleep(keel_after((keel_ns)keel_sim_draw(40) * KEEL_MS));
        rc = keel_dial(keel_server_address(c->shop->server, 0),
                       keel_after(KEEL_SECOND), &stream);
        if (rc == 0)
            rc = talk(c->shop, stream, c->who);
        keel_sim_note("client %d: %d", c->who, rc);
        SIM_CHECK(rc == 0 || !c->shop->serves_all);
        SIM_CHECK(rc == 0 || rc == -ECONNREFUSED || rc == -ECONNRESET ||
                  rc == -EPIPE || rc == -ETIMEDOUT || rc == -ENODATA ||
                  rc == -ECONNABORTED);
    }
    return 0;
}

/* ---- the shop ---- */

static int serve(void *arg)
{
    struct shop *s = arg;

    return keel_server_run(s->server);
}

static void server_make(struct shop *s, struct keel_loop **loops,
                        struct shop **arg, bool early)
{
    struct keel_server_how how = {
        .handler = "sim_line_echo",
        .mode = keel_sim_draw(2) ? KEEL_SERVE_COROUTINE : KEEL_SERVE_THREAD,
        .arg = arg,
        .arg_size = sizeof *arg,
        .loops = loops,
        .loop_count = (unsigned)keel_sim_draw(3),
        .connections_most = CAP,
        .turn_away = keel_sim_draw(2),
        .time_most = 5 * KEEL_SECOND,
        .grace = GRACE,
        .ended = over,
    };

    s->serves_all = good && !early && !how.turn_away;
    SIM_CHECK(keel_server_new(&how, &s->server) == 0);
    SIM_CHECK(keel_server_listen(s->server, "127.0.0.1:0") == 0);
}

static void count(struct shop *s)
{
    struct keel_server_counters c;

    keel_server_count(s->server, &c);
    SIM_CHECK(c.now == 0 && s->now == 0);
    SIM_CHECK(s->most <= CAP && c.most <= CAP);
    SIM_CHECK(c.served + c.failed == s->begun);
    /* One may have waited for a place when the stop came. */
    SIM_CHECK(c.accepted - s->begun - c.turned_away <= 1);
    SIM_CHECK(s->over == s->begun);
}

static int scene(void *unused)
{
    struct shop *s = calloc(1, sizeof *s), *arg = s;
    struct keel_loop *loops[2];
    struct client clients[CLIENTS];
    keel_auto(group) struct keel_group *group = NULL;
    const struct keel_spawn as_server = {.name = "server"};
    struct keel_spawn as_client = {.name = "client"};
    struct keel_co *server;
    bool early = keel_sim_draw(2);

    (void)unused;
    SIM_CHECK(s);
    for (int i = 0; i < 2; i++)
        SIM_CHECK(keel_loop_start("serve", &loops[i]) == 0);
    server_make(s, loops, &arg, early);
    SIM_CHECK(keel_spawn(&as_server, serve, s, &server) == 0);
    SIM_CHECK(keel_group_new(0, &group) == 0);
    as_client.group = group;
    for (int i = 0; i < CLIENTS; i++) {
        clients[i] = (struct client){s, i};
        SIM_CHECK(keel_spawn(&as_client, client, &clients[i], NULL) == 0);
    }
    if (early)
        (void)keel_sleep(keel_after((keel_ns)keel_sim_draw(100) * KEEL_MS));
    else
        SIM_CHECK(keel_group_join(group, KEEL_FOREVER) == 0);
    s->stopped = keel_now();
    SIM_CHECK(keel_server_shutdown(s->server, KEEL_FOREVER) == 0);
    /* The handlers' own sleep may be in the way of a cancel only as long as a
     * turn takes. */
    SIM_CHECK(keel_now() - s->stopped <= GRACE + 50 * KEEL_MS);
    SIM_CHECK(keel_join(server, KEEL_FOREVER, NULL) == 0);
    SIM_CHECK(keel_group_join(group, KEEL_FOREVER) == 0);
    for (int i = 0; i < 2; i++)
        keel_loop_stop(loops[i]);
    count(s);
    keel_server_free(s->server);
    free(s);
    return 0;
}

int server_program(void *arg)
{
    return keel_run(scene, arg);
}

void server_world(struct keel_sim_how *how)
{
    bool bad = how->seed % 4 != 0;

    good = !bad;
    how->lost_ppm = bad ? 300000 : 0;
    how->lost_within = 200 * KEEL_MS;
    how->refused_ppm = bad ? 50000 : 0;
    if (how->seed % 3 == 0) {
        how->latency_least = KEEL_US;
        how->latency_most = 20 * KEEL_MS;
    }
}
