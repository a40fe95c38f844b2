/* SPDX-License-Identifier: MIT */
#include <keel/server.h>

#include "test/test.h"

#include <arpa/inet.h>
#include <fcntl.h>
#include <inttypes.h>
#include <limits.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <unistd.h>

#include <keel/io.h>
#include <keel/lock.h>
#include <keel/process.h>
#include <keel/thread.h>

#include "test/fault.h"

#define SOON (keel_after(20 * KEEL_SECOND))

static const enum keel_server_mode modes[] = {
    KEEL_SERVE_COROUTINE, KEEL_SERVE_THREAD, KEEL_SERVE_PROCESS};

/* ---- handlers ---- */

KEEL_HANDLER(echo)
{
    enum { MOST = 70000 }; /* more than any datagram */
    char *buf = malloc(MOST);
    ssize_t got = 0;
    int rc = 0;

    while (rc == 0 &&
           (got = keel_stream_read(conn->stream, buf, MOST, KEEL_FOREVER)) > 0)
        rc = keel_stream_write(conn->stream, buf, (size_t)got, KEEL_FOREVER);
    free(buf);
    return rc < 0 ? rc : (int)got;
}

/* Who serves whom with what. */
KEEL_HANDLER(tells)
{
    char line[400], byte;
    int n = snprintf(line, sizeof(line), "%d %d %d %s %s %" PRIu64 " %.*s",
                     (int)conn->mode, (int)getpid(), (int)gettid(), conn->peer,
                     conn->here, conn->number, (int)conn->arg_size,
                     conn->arg ? (char *)conn->arg : "");

    if (keel_stream_read(conn->stream, &byte, 1, KEEL_FOREVER) < 0)
        return -1;
    return keel_stream_write(conn->stream, line, (size_t)n, KEEL_FOREVER);
}

/* Says "h", then waits for ever. */
KEEL_HANDLER(hangs)
{
    char byte;
    int rc = keel_stream_write(conn->stream, "h", 1, KEEL_FOREVER);

    return rc < 0 ? rc
                  : (int)keel_stream_read(conn->stream, &byte, 1, KEEL_FOREVER);
}

/* In a process only: does not even hear a SIGTERM. */
KEEL_HANDLER(is_deaf)
{
    (void)signal(SIGTERM, SIG_IGN);
    if (keel_stream_write(conn->stream, "h", 1, KEEL_FOREVER) < 0)
        return -1;
    for (;;)
        pause();
}

KEEL_HANDLER(crashes)
{
    return raise(SIGKILL);
}

/* Returns minus the byte that it is sent. */
KEEL_HANDLER(fails)
{
    char byte;

    if (keel_stream_read(conn->stream, &byte, 1, KEEL_FOREVER) != 1)
        return -EIO;
    (void)keel_stream_write(conn->stream, "written in vain", 15, KEEL_FOREVER);
    return -byte;
}

/* Asks for a stop, and says, once it is to stop, whether it knew before. */
KEEL_HANDLER(stops)
{
    bool before = keel_conn_is_stopping(conn);

    keel_conn_stop_server(conn);
    while (!keel_conn_is_stopping(conn))
        if (keel_sleep(keel_after(KEEL_MS)) < 0)
            return -1;
    return keel_stream_write(conn->stream, before ? "b" : "a", 1, KEEL_FOREVER);
}

/* Keeps the connection when it has returned. */
static struct keel_stream *kept;

KEEL_HANDLER(keeps)
{
    kept = keel_take(conn->stream);
    return 0;
}

static struct keel_server *shut;

KEEL_HANDLER(shuts_down)
{
    int rc = keel_server_shutdown(shut, KEEL_FOREVER);

    return keel_stream_write(conn->stream, rc == -EDEADLK ? "d" : "?", 1,
                             KEEL_FOREVER);
}

/* ---- a server that runs ---- */

struct running {
    struct keel_server *server;
    struct keel_co *co;
};

static int run_it(void *arg)
{
    return keel_server_run(arg);
}

static struct keel_server *made(const struct keel_server_how *how,
                                const char *address)
{
    struct keel_server *s = NULL;

    assert_int_equal(keel_server_new(how, &s), 0);
    assert_int_equal(keel_server_listen(s, address), 0);
    return s;
}

static struct running begin(const struct keel_server_how *how,
                            const char *address)
{
    struct running r = {made(how, address), NULL};

    r.co = test_spawn(run_it, r.server);
    return r;
}

static struct keel_server_counters counters(struct running *r)
{
    struct keel_server_counters c;

    keel_server_count(r->server, &c);
    return c;
}

/* Until so many are there. */
static void await_now(struct running *r, unsigned now)
{
    keel_ns end = SOON;

    while (counters(r).now != now) {
        assert_true(keel_now() < end);
        keel_sleep(keel_after(KEEL_MS));
    }
}

static struct keel_server_counters end(struct running *r)
{
    struct keel_server_counters c;

    keel_server_stop(r->server);
    assert_int_equal(test_join(r->co), 0);
    c = counters(r);
    assert_int_equal(c.now, 0);
    keel_server_free(r->server);
    return c;
}

static struct keel_stream *dial_door(struct running *r, unsigned nth)
{
    const char *address = keel_server_address(r->server, nth);
    struct keel_stream *s = NULL;

    assert_int_equal(keel_dial(address, SOON, &s), 0);
    return s;
}

static struct keel_stream *dial(struct running *r)
{
    return dial_door(r, 0);
}

static void expect(struct keel_stream *s, const char *text)
{
    char got[100];

    assert_int_equal(keel_stream_read_all(s, got, strlen(text), NULL, SOON), 0);
    assert_memory_equal(got, text, strlen(text));
}

/* The end, or a reset. */
static void expect_end(struct keel_stream *s)
{
    char byte;
    ssize_t got = keel_stream_read(s, &byte, 1, SOON);

    assert_true(got == 0 || got == -ECONNRESET);
}

static void ask(struct keel_stream *s, const char *text)
{
    assert_int_equal(keel_stream_write(s, text, strlen(text), SOON), 0);
    expect(s, text);
}

static const char *own_path(void)
{
    static char path[80];

    snprintf(path, sizeof(path), "unix:/tmp/keel_server_test_%d", getpid());
    return path;
}

/* A socket for datagrams, "connected" to the server. */
static int port_to(struct running *r)
{
    struct sockaddr_in to = {.sin_family = AF_INET};
    const char *address = keel_server_address(r->server, 0);
    int fd = socket(AF_INET, SOCK_DGRAM | SOCK_CLOEXEC, 0);

    to.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
    to.sin_port = htons((uint16_t)atoi(strrchr(address, ':') + 1));
    assert_true(fd >= 0);
    assert_int_equal(keel_fd_adopt(fd), 0);
    assert_int_equal(connect(fd, (struct sockaddr *)&to, sizeof(to)), 0);
    return fd;
}

/* ---- one handler, every mode, every address ---- */

CO_TEST(a_handler_serves_as_coroutine_thread_and_process)
{
    for (size_t i = 0; i < 3; i++) {
        const struct keel_server_how how = {.handler = "echo",
                                            .mode = modes[i]};
        const char *const addresses[] = {"127.0.0.1:0", own_path()};

        for (size_t a = 0; a < 2; a++) {
            struct running r = begin(&how, addresses[a]);
            struct keel_stream *s[3];
            struct keel_server_counters c;

            for (size_t k = 0; k < 3; k++) {
                s[k] = dial(&r);
                ask(s[k], "all at the same time");
            }
            assert_int_equal(counters(&r).now, 3);
            for (size_t k = 0; k < 3; k++) {
                ask(s[k], "and again");
                keel_stream_close(s[k]);
            }
            await_now(&r, 0);
            c = end(&r);
            assert_int_equal(c.accepted, 3);
            assert_int_equal(c.served, 3);
            assert_int_equal(c.most, 3);
            assert_int_equal(c.failed + c.refused + c.cancelled, 0);
        }
    }
    return 0;
}

CO_TEST(a_handler_answers_datagrams_in_every_mode)
{
    static const size_t sizes[] = {0, 1, 1400, 65507};
    char *sent = calloc(1, 65507), *got = calloc(1, 65536);

    for (size_t i = 0; i < 65507; i++)
        sent[i] = (char)(i * 7 + i / 251);
    for (size_t i = 0; i < 3; i++) {
        const struct keel_server_how how = {.handler = "echo",
                                            .mode = modes[i]};
        struct running r = begin(&how, "udp:127.0.0.1:0");
        int fd = port_to(&r);
        struct keel_server_counters c;

        for (size_t k = 1; k < 4; k++) {
            assert_int_equal(keel_fd_write(fd, sent, sizes[k], SOON), sizes[k]);
            assert_int_equal(keel_fd_read(fd, got, 65536, SOON), sizes[k]);
            assert_memory_equal(got, sent, sizes[k]);
        }
        /* An empty one has nothing to echo: no answer. */
        assert_int_equal(send(fd, "", 0, 0), 0);
        assert_int_equal(keel_fd_write(fd, "x", 1, SOON), 1);
        assert_int_equal(keel_fd_read(fd, got, 65536, SOON), 1);
        keel_fd_close(fd);
        await_now(&r, 0);
        c = end(&r);
        assert_int_equal(c.accepted, 5);
        assert_int_equal(c.served, 5);
    }
    free(sent);
    free(got);
    return 0;
}

CO_TEST(a_handler_knows_its_mode_peer_address_number_and_argument)
{
    for (size_t i = 0; i < 3; i++) {
        const struct keel_server_how how = {.handler = "tells",
                                            .mode = modes[i],
                                            .arg = (char *)(uintptr_t) "seven",
                                            .arg_size = 5};
        struct running r = begin(&how, "127.0.0.1:0");

        for (unsigned nth = 1; nth <= 2; nth++) {
            struct keel_stream *s = dial(&r);
            char line[401] = "", peer[100], here[100], word[20];
            int mode, pid, tid;
            unsigned long number;

            assert_int_equal(keel_stream_write(s, "?", 1, SOON), 0);
            for (ssize_t got, at = 0; at < 400; at += got)
                if ((got = keel_stream_read(s, line + at, 400 - (size_t)at,
                                            SOON)) <= 0)
                    break;
            assert_int_equal(sscanf(line, "%d %d %d %99s %99s %lu %19s", &mode,
                                    &pid, &tid, peer, here, &number, word),
                             7);
            assert_int_equal(mode, modes[i]);
            assert_int_equal(pid == getpid(), modes[i] != KEEL_SERVE_PROCESS);
            assert_int_equal(tid == gettid(), modes[i] == KEEL_SERVE_COROUTINE);
            assert_string_equal(here, keel_server_address(r.server, 0));
            assert_int_equal(strncmp(peer, "127.0.0.1:", 10), 0);
            assert_int_equal(number, nth);
            assert_string_equal(word, "seven");
            keel_stream_close(s);
        }
        end(&r);
    }
    return 0;
}

CO_TEST(an_answer_too_long_for_a_datagram_or_of_a_failure_is_not_sent)
{
    const struct keel_server_how how = {.handler = "fails"};
    struct running r = begin(&how, "udp:127.0.0.1:0");
    int fd = port_to(&r);
    char byte;

    assert_int_equal(keel_fd_write(fd, "\5", 1, SOON), 1);
    while (counters(&r).failed == 0)
        keel_yield();
    assert_int_equal(keel_fd_read(fd, &byte, 1, KEEL_NOW), -ETIMEDOUT);
    keel_fd_close(fd);
    end(&r);
    return 0;
}

CO_TEST(one_server_listens_at_several_addresses)
{
    const struct keel_server_how how = {.handler = "echo"};
    struct keel_server *s = made(&how, "127.0.0.1:0");
    struct keel_listener *l;
    struct running r = {s, NULL};
    int i = 2;

    assert_int_equal(keel_server_listen(s, own_path()), 0);
    assert_int_equal(keel_listen("127.0.0.1:0", &l), 0);
    assert_int_equal(keel_server_adopt(s, l), 0);
    while (i < 15 && keel_server_listen(s, "udp:127.0.0.1:0") == 0)
        i++;
    assert_int_equal(keel_server_listen(s, "127.0.0.1:0"), -E2BIG);
    assert_null(keel_server_address(s, 16));
    r.co = test_spawn(run_it, s);
    for (unsigned nth = 0; nth < 3; nth++) {
        struct keel_stream *c;

        assert_int_equal(keel_dial(keel_server_address(s, nth), SOON, &c), 0);
        ask(c, "here too");
        keel_stream_close(c);
    }
    end(&r);
    return 0;
}

CO_TEST(what_cannot_be_served_is_refused_at_once)
{
    static char much[32769];
    struct keel_server *s = NULL;

    assert_int_equal(
        keel_server_new(&(struct keel_server_how){.handler = "nobody"}, &s),
        -ENOENT);
    assert_int_equal(
        keel_server_new(&(struct keel_server_how){.handler = "echo",
                                                  .mode = KEEL_SERVE_PROCESS,
                                                  .arg = much,
                                                  .arg_size = sizeof(much)},
                        &s),
        -E2BIG);
    assert_int_equal(
        keel_server_new(&(struct keel_server_how){.handler = "echo"}, &s), 0);
    assert_int_equal(keel_server_listen(s, "nowhere"), -EINVAL);
    assert_int_equal(keel_server_listen(s, "udp:nowhere"), -EINVAL);
    assert_int_equal(keel_server_listen(s, "udp:::1:7"), -EINVAL);
    assert_int_equal(keel_server_listen(s, "udp:127.0.0.1:x"), -EINVAL);
    assert_int_equal(keel_server_run(s), -EINVAL); /* no address */
    keel_server_free(s);
    return 0;
}

CO_TEST(an_address_that_is_taken_is_an_error)
{
    const struct keel_server_how how = {.handler = "echo"};
    struct keel_server *a = made(&how, "127.0.0.1:0"),
                       *b = made(&how, "udp:127.0.0.1:0"), *c = NULL;

    assert_int_equal(keel_server_new(&how, &c), 0);
    assert_int_equal(keel_server_listen(c, keel_server_address(a, 0)),
                     -EADDRINUSE);
    assert_int_equal(keel_server_listen(c, keel_server_address(b, 0)),
                     -EADDRINUSE);
    keel_server_free(a);
    keel_server_free(b);
    keel_server_free(c);
    return 0;
}

CO_TEST(a_handler_may_keep_the_stream)
{
    const struct keel_server_how how = {.handler = "keeps"};
    struct running r = begin(&how, "127.0.0.1:0");
    struct keel_stream *s = dial(&r);

    while (counters(&r).served == 0)
        keel_yield();
    assert_int_equal(keel_stream_write(kept, "still here", 10, SOON), 0);
    expect(s, "still here");
    keel_stream_close(kept);
    expect_end(s);
    keel_stream_close(s);
    end(&r);
    return 0;
}

/* ---- placing ---- */

CO_TEST(connections_go_to_the_least_loaded_loop)
{
    struct keel_loop *loops[2];
    struct keel_server_how how = {
        .handler = "hangs", .loops = loops, .loop_count = 2};
    struct keel_stream *s[6];
    struct running r;

    assert_int_equal(keel_loop_start("a", &loops[0]), 0);
    assert_int_equal(keel_loop_start("b", &loops[1]), 0);
    r = begin(&how, "127.0.0.1:0");
    for (size_t i = 0; i < 6; i++) {
        s[i] = dial(&r);
        expect(s[i], "h");
    }
    assert_int_equal(keel_loop_load(loops[0]), 3);
    assert_int_equal(keel_loop_load(loops[1]), 3);
    for (size_t i = 0; i < 6; i++)
        keel_stream_close(s[i]);
    end(&r);
    keel_loop_stop(loops[0]);
    keel_loop_stop(loops[1]);
    return 0;
}

/* ---- the cap ---- */

/* Who has connected to that port and was not accepted; proc(5): the listener's
 * rx_queue. */
static unsigned unaccepted(struct running *r)
{
    const char *address = keel_server_address(r->server, 0);
    unsigned own = (unsigned)atoi(strrchr(address, ':') + 1);
    unsigned port, state, queued, found = UINT_MAX;
    FILE *f = fopen("/proc/net/tcp", "re");
    char line[256];

    assert_non_null(f);
    while (fgets(line, sizeof(line), f))
        if (sscanf(line, "%*d: %*8x:%4x %*8x:%*4x %2x %*8x:%8x", &port, &state,
                   &queued) == 3 &&
            port == own && state == TCP_LISTEN)
            found = queued;
    fclose(f);
    return found;
}

CO_TEST(at_the_cap_newcomers_wait_and_are_served_when_one_leaves)
{
    for (size_t i = 0; i < 3; i++) {
        const struct keel_server_how how = {
            .handler = "echo", .mode = modes[i], .connections_most = 2};
        struct running r = begin(&how, "127.0.0.1:0");
        struct keel_stream *s[4];
        char byte;

        for (size_t k = 0; k < 2; k++) {
            s[k] = dial(&r);
            ask(s[k], "served");
        }
        s[2] = dial(&r);
        s[3] = dial(&r);
        assert_int_equal(keel_stream_write(s[2], "x", 1, SOON), 0);
        assert_int_equal(
            keel_stream_read(s[2], &byte, 1, keel_after(20 * KEEL_MS)),
            -ETIMEDOUT);
        assert_int_equal(unaccepted(&r), 2);
        assert_int_equal(counters(&r).accepted, 2);
        keel_stream_close(s[0]);
        expect(s[2], "x");
        keel_stream_close(s[1]);
        ask(s[3], "at last");
        assert_int_equal(counters(&r).most, 2);
        keel_stream_close(s[2]);
        keel_stream_close(s[3]);
        assert_int_equal(end(&r).turned_away, 0);
    }
    return 0;
}

CO_TEST(at_the_cap_datagrams_wait_and_are_answered_in_turn)
{
    for (size_t i = 0; i < 3; i++) {
        const struct keel_server_how how = {
            .handler = "echo", .mode = modes[i], .connections_most = 1};
        struct running r = begin(&how, "udp:127.0.0.1:0");
        int fd = port_to(&r);
        char got;

        for (char k = 0; k < 5; k++)
            assert_int_equal(keel_fd_write(fd, &k, 1, SOON), 1);
        for (char k = 0; k < 5; k++) {
            assert_int_equal(keel_fd_read(fd, &got, 1, SOON), 1);
            assert_int_equal(got, k);
        }
        keel_fd_close(fd);
        assert_int_equal(end(&r).most, 1);
    }
    return 0;
}

CO_TEST(under_a_cap_no_door_keeps_a_place_from_another)
{
    for (size_t i = 0; i < 3; i++) {
        const struct keel_server_how how = {
            .handler = "echo", .mode = modes[i], .connections_most = 1};
        struct running r = {0};
        struct keel_stream *s[2];

        r.server = made(&how, "127.0.0.1:0");
        assert_int_equal(keel_server_listen(r.server, "127.0.0.1:0"), 0);
        assert_int_equal(keel_server_listen(r.server, "udp:127.0.0.1:0"), 0);
        r.co = test_spawn(run_it, r.server);
        for (size_t lap = 0; lap < 6; lap++) {
            s[0] = dial_door(&r, lap % 2);
            ask(s[0], "this one");
            s[1] = dial_door(&r, !(lap % 2));
            keel_stream_close(s[0]);
            ask(s[1], "then that");
            keel_stream_close(s[1]);
        }
        assert_int_equal(end(&r).most, 1);
    }
    return 0;
}

CO_TEST(at_the_cap_newcomers_are_closed_if_so_told)
{
    const struct keel_server_how how = {
        .handler = "echo", .connections_most = 1, .turn_away = true};
    struct running r = begin(&how, "127.0.0.1:0");
    struct keel_stream *in = dial(&r), *out;

    ask(in, "served");
    out = dial(&r);
    expect_end(out);
    keel_stream_close(out);
    ask(in, "still");
    keel_stream_close(in);
    await_now(&r, 0);
    in = dial(&r);
    ask(in, "there is room again");
    keel_stream_close(in);
    assert_int_equal(end(&r).turned_away, 1);
    return 0;
}

CO_TEST(a_stop_does_not_wait_for_who_waits_at_the_cap)
{
    const struct keel_server_how how = {.handler = "echo",
                                        .connections_most = 1};
    struct running r = begin(&how, "127.0.0.1:0");
    struct keel_stream *in = dial(&r), *waits;
    char byte;

    ask(in, "served");
    waits = dial(&r);
    while (counters(&r).accepted < 1)
        keel_yield();
    keel_server_stop(r.server);
    assert_int_not_equal(keel_stream_read(waits, &byte, 1, SOON), -ETIMEDOUT);
    keel_stream_close(in);
    keel_stream_close(waits);
    end(&r);
    return 0;
}

/* ---- verify ---- */

static int verify_byte(struct keel_conn *conn, keel_ns deadline)
{
    char byte;
    ssize_t got = keel_stream_read(conn->stream, &byte, 1, deadline);

    if (got != 1)
        return got < 0 ? (int)got : -ECONNABORTED;
    return byte == 'y' ? 0 : -EACCES;
}

static int ended_result[100];
static _Atomic unsigned ended_count;

static void note_end(struct keel_conn *conn, int result)
{
    ended_result[conn->number] = result;
    ended_count++;
}

CO_TEST(who_is_not_verified_never_meets_the_handler)
{
    for (size_t i = 0; i < 3; i++) {
        const struct keel_server_how how = {.handler = "echo",
                                            .mode = modes[i],
                                            .verify = verify_byte,
                                            .verify_most = 30 * KEEL_MS,
                                            .ended = note_end};
        struct running r = begin(&how, "127.0.0.1:0");
        struct keel_stream *good, *bad, *silent;
        struct keel_server_counters c;

        silent = dial(&r);
        bad = dial(&r);
        good = dial(&r);
        assert_int_equal(keel_stream_write(bad, "nnn", 3, SOON), 0);
        assert_int_equal(keel_stream_write(good, "y", 1, SOON), 0);
        ask(good, "served");
        expect_end(bad);
        expect_end(silent); /* by verify's deadline */
        keel_stream_close(good);
        await_now(&r, 0);
        assert_int_equal(ended_result[1], -ETIMEDOUT);
        assert_int_equal(ended_result[2], -EACCES);
        assert_int_equal(ended_result[3], 0);
        keel_stream_close(bad);
        keel_stream_close(silent);
        c = end(&r);
        assert_int_equal(c.refused, 2);
        assert_int_equal(c.served, 1);
    }
    return 0;
}

static int verify_waits(struct keel_conn *conn, keel_ns deadline)
{
    char byte;

    (void)deadline; /* forgotten */
    return (int)keel_stream_read(conn->stream, &byte, 1, KEEL_FOREVER);
}

CO_TEST(a_verify_that_forgets_its_deadline_ends_all_the_same)
{
    const struct keel_server_how how = {
        .handler = "echo", .verify = verify_waits, .verify_most = 10 * KEEL_MS};
    struct running r = begin(&how, "127.0.0.1:0");
    struct keel_stream *s = dial(&r);

    expect_end(s);
    keel_stream_close(s);
    assert_int_equal(end(&r).refused, 1);
    return 0;
}

/* ---- hostile and dead peers ---- */

CO_TEST(who_connects_and_says_nothing_keeps_nobody_else_waiting)
{
    for (size_t i = 0; i < 3; i++) {
        const struct keel_server_how how = {.handler = "echo",
                                            .mode = modes[i]};
        struct running r = begin(&how, "127.0.0.1:0");
        struct keel_stream *silent[4], *s;

        for (size_t k = 0; k < 4; k++)
            silent[k] = dial(&r);
        s = dial(&r);
        ask(s, "served meanwhile");
        keel_stream_close(s);
        for (size_t k = 0; k < 4; k++)
            keel_stream_close(silent[k]);
        await_now(&r, 0);
        end(&r);
    }
    return 0;
}

CO_TEST(who_says_nothing_is_let_go_after_the_time_a_connection_may_take)
{
    for (size_t i = 0; i < 3; i++) {
        const struct keel_server_how how = {.handler = "echo",
                                            .mode = modes[i],
                                            .time_most = 20 * KEEL_MS,
                                            .ended = note_end};
        struct running r = begin(&how, "127.0.0.1:0");
        struct keel_stream *silent[2];

        for (size_t k = 0; k < 2; k++)
            silent[k] = dial(&r);
        for (size_t k = 0; k < 2; k++)
            expect_end(silent[k]);
        await_now(&r, 0);
        for (size_t k = 1; k <= 2; k++)
            assert_int_equal(ended_result[k], -ETIMEDOUT);
        for (size_t k = 0; k < 2; k++)
            keel_stream_close(silent[k]);
        assert_int_equal(end(&r).failed, 2);
    }
    return 0;
}

/* Closes with a reset. */
static void vanish(struct keel_stream *s)
{
    const struct linger now = {1, 0};

    assert_int_equal(
        setsockopt(keel_stream_fd(s), SOL_SOCKET, SO_LINGER, &now, sizeof(now)),
        0);
    keel_stream_close(s);
}

CO_TEST(who_vanishes_leaves_nothing_behind)
{
    for (size_t i = 0; i < 3; i++) {
        const struct keel_server_how how = {.handler = "echo",
                                            .mode = modes[i]};
        struct running r = begin(&how, "127.0.0.1:0");
        unsigned before;
        int fd;

        before = (unsigned)(fd = dup(0));
        close(fd);
        for (int k = 0; k < 10; k++) {
            struct keel_stream *s = dial(&r);

            if (k % 2)
                ask(s, "half a word");
            if (k % 3)
                vanish(s);
            else
                keel_stream_close(s);
        }
        while (counters(&r).accepted < 10)
            keel_sleep(keel_after(KEEL_MS));
        await_now(&r, 0);
        assert_int_equal(fd = dup(0), before);
        close(fd);
        end(&r);
    }
    return 0;
}

/* ---- handlers that fail ---- */

CO_TEST(a_result_is_counted_and_told_in_every_mode)
{
    for (size_t i = 0; i < 3; i++) {
        const struct keel_server_how how = {
            .handler = "fails", .mode = modes[i], .ended = note_end};
        struct running r = begin(&how, "127.0.0.1:0");
        struct keel_stream *s = dial(&r);

        assert_int_equal(keel_stream_write(s, "\7", 1, SOON), 0);
        expect(s, "written in vain");
        expect_end(s);
        await_now(&r, 0);
        assert_int_equal(ended_result[1], -7);
        keel_stream_close(s);
        assert_int_equal(end(&r).failed, 1);
    }
    return 0;
}

CO_TEST(a_process_that_dies_takes_nobody_with_it)
{
    const struct keel_server_how how = {
        .handler = "crashes", .mode = KEEL_SERVE_PROCESS, .ended = note_end};
    struct running r = begin(&how, "127.0.0.1:0");

    for (int i = 0; i < 3; i++) {
        struct keel_stream *s = dial(&r);

        expect_end(s);
        keel_stream_close(s);
    }
    await_now(&r, 0);
    assert_int_equal(ended_result[3], -EOWNERDEAD);
    assert_int_equal(end(&r).failed, 3);
    return 0;
}

CO_TEST(a_thread_or_process_that_cannot_be_had_costs_that_connection_alone)
{
    static const enum keel_op op[] = {0, KEEL_OP_THREAD, KEEL_OP_PROCESS};

    for (size_t i = 1; i < 3; i++) {
        const struct keel_server_how how = {
            .handler = "echo", .mode = modes[i], .ended = note_end};
        struct running r = begin(&how, "127.0.0.1:0");
        struct keel_stream *s;

        fault_fail(op[i], 1, EAGAIN);
        s = dial(&r);
        expect_end(s);
        assert_true(fault_fired());
        keel_stream_close(s);
        s = dial(&r);
        ask(s, "served");
        keel_stream_close(s);
        await_now(&r, 0);
        assert_int_equal(ended_result[1], -EAGAIN);
        assert_int_equal(end(&r).failed, 1);
    }
    return 0;
}

CO_TEST(memory_that_is_out_costs_connections_and_never_the_server)
{
    for (size_t i = 0; i < 3; i++) {
        const struct keel_server_how how = {.handler = "echo",
                                            .mode = modes[i]};
        struct running r = begin(&how, "127.0.0.1:0");
        struct keel_stream *s = dial(&r);
        bool fired = true;

        ask(s, "warm");
        keel_stream_close(s);
        await_now(&r, 0);
        for (unsigned nth = 1; fired && nth < 60; nth++) {
            ssize_t got;
            char byte;

            /* Ours is the socket alone. */
            s = dial(&r);
            keel_stream_close(s);
            await_now(&r, 0);
            fault_fail_alloc(nth);
            if (keel_dial(keel_server_address(r.server, 0), SOON, &s) == 0) {
                got = keel_stream_write(s, "x", 1, SOON);
                if (got == 0)
                    got = keel_stream_read(s, &byte, 1, SOON);
                assert_int_not_equal(got, -ETIMEDOUT);
                keel_stream_close(s);
            }
            await_now(&r, 0);
            fired = fault_fired();
        }
        assert_false(fired);
        s = dial(&r);
        ask(s, "served");
        keel_stream_close(s);
        end(&r);
    }
    return 0;
}

static void new_survives_each_allocation_failure(void **state)
{
    const struct keel_server_how how = {.handler = "echo"};

    (void)state;
    for (unsigned nth = 1;; nth++) {
        struct keel_server *s = NULL;
        int rc;

        fault_fail_alloc(nth);
        rc = keel_server_new(&how, &s);
        if (!fault_fired()) {
            assert_int_equal(rc, 0);
            keel_server_free(s);
            return;
        }
        assert_int_equal(rc, -ENOMEM);
        assert_null(s);
    }
}

/* ---- out of descriptors ---- */

static int trouble_first, trouble_last;

static void note_trouble(void *arg, int error)
{
    (void)arg;
    if (!trouble_first)
        trouble_first = error;
    trouble_last = error;
}

/* So many more descriptors can be had; fills the holes below.  Returns how many
 * it filled. */
static size_t leave(size_t most, int *filled, size_t room)
{
    struct rlimit limit;
    size_t n = 0;
    int fd, highest = 0;

    for (fd = 0; fd < 4096; fd++)
        if (fcntl(fd, F_GETFD) >= 0)
            highest = fd;
    assert_int_equal(getrlimit(RLIMIT_NOFILE, &limit), 0);
    limit.rlim_cur = (rlim_t)highest + 1;
    do { /* again when the server's own threads took some meanwhile */
        limit.rlim_cur += most - n;
        assert_int_equal(setrlimit(RLIMIT_NOFILE, &limit), 0);
        while ((fd = dup(0)) >= 0) {
            assert_true(n < room);
            filled[n++] = fd;
        }
        assert_int_equal(errno, EMFILE);
    } while (n < most);
    for (size_t i = 0; i < most; i++)
        close(filled[--n]);
    return n;
}

/* valgrind counts descriptors itself: it takes the connection, closes it and
 * then says EMFILE. */
static bool descriptors_are_valgrinds(void)
{
    return getenv("KEEL_TEST_VALGRIND") != NULL;
}

CO_TEST(out_of_descriptors_newcomers_wait_and_all_are_served)
{
    enum { CLIENTS = 8 };

    if (descriptors_are_valgrinds())
        return 0;
    for (size_t i = 0; i < 2; i++) { /* a process needs several at once */
        const struct keel_server_how how = {
            .handler = "echo", .mode = modes[i], .trouble = note_trouble};
        struct keel_server *s = made(&how, "127.0.0.1:0");
        struct running r = {s, NULL};
        struct keel_stream *c[CLIENTS];
        struct rlimit before;
        int filled[4096];
        size_t n;

        trouble_first = 0;
        for (size_t k = 0; k < CLIENTS; k++) {
            c[k] = dial(&r);
            assert_int_equal(keel_stream_write(c[k], "x", 1, SOON), 0);
        }
        /* The loop and its poller have what they need. */
        assert_int_equal(keel_sleep(keel_after(KEEL_MS)), 0);
        assert_int_equal(getrlimit(RLIMIT_NOFILE, &before), 0);
        n = leave(3, filled, 4096);
        r.co = test_spawn(run_it, s);
        expect(c[0], "x");
        while (counters(&r).troubles == 0)
            keel_sleep(keel_after(KEEL_MS));
        /* It does not spin: 10, 20, 40 ms. */
        keel_sleep(keel_after(50 * KEEL_MS));
        assert_true(counters(&r).troubles < 10);
        assert_int_equal(trouble_first, -EMFILE);
        /* Each that leaves makes room for the next. */
        for (size_t k = 0; k < CLIENTS; k++) {
            if (k > 0)
                expect(c[k], "x");
            keel_stream_close(c[k]);
        }
        while (n)
            close(filled[--n]);
        assert_int_equal(setrlimit(RLIMIT_NOFILE, &before), 0);
        c[0] = dial(&r);
        ask(c[0], "without trouble");
        keel_stream_close(c[0]);
        await_now(&r, 0);
        assert_int_equal(trouble_last, 0);
        assert_int_equal(end(&r).served, CLIENTS + 1);
    }
    return 0;
}

CO_TEST(a_server_of_processes_survives_the_end_of_descriptors)
{
    const struct keel_server_how how = {.handler = "echo",
                                        .mode = KEEL_SERVE_PROCESS};
    struct running r;
    struct keel_stream *c, *later[3];
    struct rlimit before;
    int filled[4096];
    size_t n;

    if (descriptors_are_valgrinds())
        return 0;
    r = begin(&how, "127.0.0.1:0");
    c = dial(&r);
    ask(c, "before");
    for (size_t k = 0; k < 3; k++) {
        assert_int_equal(getrlimit(RLIMIT_NOFILE, &before), 0);
        n = leave(1 + k, filled, 4096); /* ours takes one of them */
        later[k] = dial(&r);
        ask(c, "meanwhile");
        keel_sleep(keel_after(20 * KEEL_MS));
        while (n)
            close(filled[--n]);
        assert_int_equal(setrlimit(RLIMIT_NOFILE, &before), 0);
    }
    for (size_t k = 0; k < 3; k++)
        keel_stream_close(later[k]);
    ask(c, "after");
    keel_stream_close(c);
    await_now(&r, 0);
    c = dial(&r);
    ask(c, "served again");
    keel_stream_close(c);
    end(&r);
    return 0;
}

/* ---- stopping ---- */

CO_TEST(a_stop_lets_those_finish_who_are_being_served)
{
    for (size_t i = 0; i < 3; i++) {
        const struct keel_server_how how = {.handler = "echo",
                                            .mode = modes[i]};
        struct running r = begin(&how, "127.0.0.1:0");
        char address[KEEL_ADDRESS_BYTES];
        struct keel_stream *s = dial(&r), *late;
        struct keel_server_counters c;
        int rc = 0;

        ask(s, "before");
        snprintf(address, sizeof(address), "%s",
                 keel_server_address(r.server, 0));
        keel_server_stop(r.server);
        while (rc != -ECONNREFUSED) { /* until nobody listens */
            rc = keel_dial(address, SOON, &late);
            if (rc == 0)
                keel_stream_close(late);
            assert_int_not_equal(rc, -ETIMEDOUT);
        }
        ask(s, "in its grace");
        keel_stream_close(s);
        c = end(&r);
        assert_int_equal(c.cancelled, 0);
        assert_int_equal(c.failed, 0);
    }
    return 0;
}

CO_TEST(after_the_grace_who_is_left_is_cancelled)
{
    for (size_t i = 0; i < 3; i++) {
        const struct keel_server_how how = {.handler = "hangs",
                                            .mode = modes[i],
                                            .grace = 20 * KEEL_MS,
                                            .ended = note_end};
        struct running r = begin(&how, "127.0.0.1:0");
        struct keel_stream *s = dial(&r);
        struct keel_server_counters c;

        expect(s, "h");
        c = end(&r);
        assert_int_equal(c.cancelled, 1);
        assert_int_equal(c.failed, 1);
        assert_int_equal(ended_result[1], modes[i] == KEEL_SERVE_PROCESS
                                              ? -EOWNERDEAD
                                              : -ECANCELED);
        keel_stream_close(s);
    }
    return 0;
}

CO_TEST(a_process_that_does_not_hear_is_killed)
{
    const struct keel_server_how how = {
        .handler = "is_deaf", .mode = KEEL_SERVE_PROCESS, .grace = KEEL_MS};
    struct running r = begin(&how, "127.0.0.1:0");
    struct keel_stream *s = dial(&r);

    expect(s, "h");
    assert_int_equal(end(&r).cancelled, 1);
    assert_int_equal(keel_process_count(), 0);
    keel_stream_close(s);
    return 0;
}

CO_TEST(a_handler_stops_its_server_whatever_runs_it)
{
    for (size_t i = 0; i < 3; i++) {
        const struct keel_server_how how = {
            .handler = "stops", .mode = modes[i], .grace = KEEL_FOREVER};
        struct running r = begin(&how, "127.0.0.1:0");
        struct keel_stream *s = dial(&r);

        assert_int_equal(test_join(r.co), 0);
        expect(s, "a");
        assert_int_equal(counters(&r).served, 1);
        keel_stream_close(s);
        keel_server_free(r.server);
    }
    return 0;
}

CO_TEST(a_shutdown_from_inside_a_handler_does_not_deadlock)
{
    for (size_t i = 0; i < 2; i++) {
        const struct keel_server_how how = {
            .handler = "shuts_down", .mode = modes[i], .grace = KEEL_FOREVER};
        struct running r = {made(&how, "127.0.0.1:0"), NULL};
        struct keel_stream *s;

        shut = r.server;
        r.co = test_spawn(run_it, r.server);
        s = dial(&r);
        assert_int_equal(test_join(r.co), 0);
        expect(s, "d");
        keel_stream_close(s);
        keel_server_free(r.server);
    }
    return 0;
}

CO_TEST(a_shutdown_from_outside_waits_for_the_end)
{
    const struct keel_server_how how = {.handler = "hangs",
                                        .grace = 30 * KEEL_MS};
    struct running r = begin(&how, "127.0.0.1:0");
    struct keel_stream *s = dial(&r);

    expect(s, "h");
    assert_int_equal(keel_server_shutdown(r.server, KEEL_NOW), -ETIMEDOUT);
    assert_int_equal(keel_server_shutdown(r.server, SOON), 0);
    assert_int_equal(counters(&r).now, 0);
    assert_int_equal(test_join(r.co), 0);
    assert_int_equal(keel_server_shutdown(r.server, KEEL_NOW), 0);
    assert_int_equal(keel_server_run(r.server), -EINVAL); /* it ran before */
    keel_stream_close(s);
    keel_server_free(r.server);
    return 0;
}

CO_TEST(a_stop_before_the_run_is_not_lost)
{
    const struct keel_server_how how = {.handler = "echo"};
    struct keel_server *s = made(&how, "127.0.0.1:0");

    assert_int_equal(keel_server_shutdown(s, KEEL_FOREVER), 0);
    assert_int_equal(keel_server_run(s), 0);
    keel_server_free(s);
    return 0;
}

CO_TEST(who_runs_it_and_is_cancelled_grants_no_grace)
{
    for (size_t i = 0; i < 3; i++) {
        const struct keel_server_how how = {
            .handler = "hangs", .mode = modes[i], .grace = KEEL_FOREVER};
        struct running r = begin(&how, "127.0.0.1:0");
        struct keel_stream *s = dial(&r);

        expect(s, "h");
        if (i == 1) /* also when the grace has begun */
            keel_server_stop(r.server);
        keel_yield();
        keel_cancel(r.co);
        assert_int_equal(test_join(r.co), i == 1 ? 0 : -ECANCELED);
        assert_int_equal(counters(&r).now, 0);
        keel_stream_close(s);
        keel_server_free(r.server);
    }
    return 0;
}

/* ---- in a plain thread ---- */

static int dial_and_stop(void *arg)
{
    struct running r = {arg, NULL};
    struct keel_stream *s = dial(&r);

    ask(s, "from another thread");
    keel_stream_close(s);
    return keel_server_shutdown(arg, SOON);
}

static void a_plain_thread_runs_it_too(void **state)
{
    (void)state;
    for (size_t i = 0; i < 3; i++) {
        const struct keel_server_how how = {.handler = "echo",
                                            .mode = modes[i]};
        struct keel_server *s = made(&how, "127.0.0.1:0");
        struct keel_thread *t;
        int result;

        assert_int_equal(keel_thread_start("client", dial_and_stop, s, &t), 0);
        assert_int_equal(keel_server_run(s), 0);
        assert_int_equal(keel_thread_join(t, KEEL_FOREVER, &result), 0);
        assert_int_equal(result, 0);
        keel_server_free(s);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(a_handler_serves_as_coroutine_thread_and_process),
        cmocka_unit_test(a_handler_answers_datagrams_in_every_mode),
        cmocka_unit_test(
            a_handler_knows_its_mode_peer_address_number_and_argument),
        cmocka_unit_test(
            an_answer_too_long_for_a_datagram_or_of_a_failure_is_not_sent),
        cmocka_unit_test(one_server_listens_at_several_addresses),
        cmocka_unit_test(what_cannot_be_served_is_refused_at_once),
        cmocka_unit_test(an_address_that_is_taken_is_an_error),
        cmocka_unit_test(a_handler_may_keep_the_stream),
        cmocka_unit_test(connections_go_to_the_least_loaded_loop),
        cmocka_unit_test(
            at_the_cap_newcomers_wait_and_are_served_when_one_leaves),
        cmocka_unit_test(at_the_cap_datagrams_wait_and_are_answered_in_turn),
        cmocka_unit_test(under_a_cap_no_door_keeps_a_place_from_another),
        cmocka_unit_test(at_the_cap_newcomers_are_closed_if_so_told),
        cmocka_unit_test(a_stop_does_not_wait_for_who_waits_at_the_cap),
        cmocka_unit_test(who_is_not_verified_never_meets_the_handler),
        cmocka_unit_test(a_verify_that_forgets_its_deadline_ends_all_the_same),
        cmocka_unit_test(
            who_connects_and_says_nothing_keeps_nobody_else_waiting),
        cmocka_unit_test(
            who_says_nothing_is_let_go_after_the_time_a_connection_may_take),
        cmocka_unit_test(who_vanishes_leaves_nothing_behind),
        cmocka_unit_test(a_result_is_counted_and_told_in_every_mode),
        cmocka_unit_test(a_process_that_dies_takes_nobody_with_it),
        cmocka_unit_test(
            a_thread_or_process_that_cannot_be_had_costs_that_connection_alone),
        cmocka_unit_test(
            memory_that_is_out_costs_connections_and_never_the_server),
        cmocka_unit_test(new_survives_each_allocation_failure),
        cmocka_unit_test(out_of_descriptors_newcomers_wait_and_all_are_served),
        cmocka_unit_test(a_server_of_processes_survives_the_end_of_descriptors),
        cmocka_unit_test(a_stop_lets_those_finish_who_are_being_served),
        cmocka_unit_test(after_the_grace_who_is_left_is_cancelled),
        cmocka_unit_test(a_process_that_does_not_hear_is_killed),
        cmocka_unit_test(a_handler_stops_its_server_whatever_runs_it),
        cmocka_unit_test(a_shutdown_from_inside_a_handler_does_not_deadlock),
        cmocka_unit_test(a_shutdown_from_outside_waits_for_the_end),
        cmocka_unit_test(a_stop_before_the_run_is_not_lost),
        cmocka_unit_test(who_runs_it_and_is_cancelled_grants_no_grace),
        cmocka_unit_test(a_plain_thread_runs_it_too),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
