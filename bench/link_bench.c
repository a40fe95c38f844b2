/* SPDX-License-Identifier: MIT */
/* link_bench [MIB]: what a link costs over its stream, TLS on the loopback.
 *
 * Server and client have a loop each.  Data: one exchange sends MIB (1024) in
 * DATA frames to a client that grants 8 chunks ahead and does nothing with
 * them; tls_bulk is the same without a link.  Requests: `ping`s, one at a time
 * and 64 at a time.  Idle: what one open link has on the heap, its stream not
 * counted.  Prints one line of JSON. */
#include <malloc.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <netinet/in.h>
#include <netinet/tcp.h>
#include <sys/socket.h>

#include <keel/co.h>
#include <keel/lock.h>
#include <keel/net.h>
#include <keel/tls.h>

#include "chunk/tree.h"
#include "wire/link.h"

#define AHEAD (8 * CHUNK_BYTES)
#define PINGS 20000
#define TOGETHER 64

static struct {
    uint64_t bytes;
    struct keel_tls_config *server, *client;
    struct keel_listener *listener;
} bench = {.bytes = (uint64_t)1 << 30};

static void check(const char *what, int rc)
{
    if (rc >= 0)
        return;
    fprintf(stderr, "%s: %s\n", what, strerror(-rc));
    exit(1);
}

static void use_cubic(struct keel_stream *s)
{
    if (setsockopt(keel_stream_fd(s), IPPROTO_TCP, TCP_CONGESTION, "cubic", 5))
        fprintf(stderr, "no cubic here\n");
}

/* ---- server --------------------------------------------------------------- */

static int serve(struct exchange *x, const char *verb, const json_t *body,
                 void *arg, struct problem *why)
{
    static const uint8_t chunk[CHUNK_BYTES];
    int rc = 0;

    (void)body, (void)arg;
    if (strcmp(verb, "data") == 0)
        for (uint64_t at = 0; rc == 0 && at < bench.bytes; at += CHUNK_BYTES)
            rc = exchange_send(x, at, chunk, CHUNK_BYTES, KEEL_FOREVER, why);
    return rc < 0 ? rc : exchange_answer(x, NULL);
}

static int server_run(void *arg)
{
    const struct link_options o = {
        .server = true, .agent = "bench", .request = serve};
    struct keel_stream *tcp, *tls;
    struct problem why;
    struct link *l;

    (void)arg;
    check("accept", keel_accept(bench.listener, KEEL_FOREVER, &tcp));
    use_cubic(tcp);
    check("handshake", keel_tls_accept(bench.server, tcp, KEEL_FOREVER, &tls));
    check("link", link_open(tls, &o, &l, &why));
    link_trust(l);
    (void)link_wait(l, KEEL_FOREVER, &why);
    link_close(l);
    return 0;
}

/* ---- client --------------------------------------------------------------- */

struct take {
    struct exchange *x;
    uint64_t landed;
    struct keel_event whole;
    uint8_t chunk[CHUNK_BYTES];
};

static void *take_place(void *arg, uint64_t offset, uint32_t size,
                        struct problem *why)
{
    struct take *t = arg;

    (void)size, (void)why;
    return t->chunk + offset % CHUNK_BYTES;
}

static void take_landed(void *arg, uint64_t offset, uint32_t size)
{
    struct take *t = arg;

    t->landed += size;
    if ((offset + size) % CHUNK_BYTES == 0 && t->landed + AHEAD <= bench.bytes)
        check("grant", exchange_grant(t->x, (uint32_t)CHUNK_BYTES));
    if (t->landed == bench.bytes)
        keel_event_set(&t->whole);
}

static double data_gb_per_s(struct link *l)
{
    struct take *t = keel_calloc(1, sizeof(*t));
    uint64_t first = bench.bytes < AHEAD ? bench.bytes : AHEAD;
    struct problem why;
    keel_ns began;

    if (!t)
        exit(1);
    keel_event_init(&t->whole);
    began = keel_now();
    check("data", link_call(l, "data", NULL, &t->x, &why));
    exchange_data_on(t->x, &(struct exchange_sink){.place = take_place,
                                                   .landed = take_landed,
                                                   .arg = t});
    check("grant", exchange_grant(t->x, (uint32_t)first));
    check("wait", keel_event_wait(&t->whole, KEEL_FOREVER));
    began = keel_now() - began;
    exchange_data_off(t->x);
    check("reply", exchange_reply(t->x, KEEL_FOREVER, NULL, &why));
    exchange_free(t->x);
    keel_free(t);
    return (double)bench.bytes / (double)began;
}

struct pinger {
    struct link *link;
    unsigned count;
};

static int ping_run(void *arg)
{
    struct pinger *p = arg;
    struct problem why;

    for (unsigned i = 0; i < p->count; i++)
        check("ping",
              link_ask(p->link, "ping", NULL, KEEL_FOREVER, NULL, &why));
    return 0;
}

static double pings_per_s(struct link *l, unsigned together)
{
    struct pinger p = {l, PINGS / together};
    struct keel_group *g;
    keel_ns began = keel_now();

    check("group", keel_group_new(0, &g));
    for (unsigned i = 0; i < together; i++)
        check("spawn",
              keel_spawn(&(struct keel_spawn){.group = g}, ping_run, &p, NULL));
    check("join", keel_group_join(g, KEEL_FOREVER));
    keel_group_free(g);
    return p.count * together * 1e9 / (double)(keel_now() - began);
}

/* What a link holds on the heap, its stream not counted. */
static size_t idle_bytes(void)
{
    enum { LINKS = 100 };
    static struct link *links[LINKS];
    const struct link_options o = {.agent = "bench"};
    struct keel_stream *pair[LINKS][2];
    struct problem why;
    size_t before;

    for (int i = 0; i < LINKS; i++)
        check("pair", keel_stream_pair(256, pair[i]));
    before = mallinfo2().uordblks;
    for (int i = 0; i < LINKS; i++) {
        static const char hello[] = "\0\0\0\x24\1{\"version\":1,\"agent\":"
                                    "\"ferry 0.1.0\"}";

        check("hello", keel_stream_write(pair[i][0], hello, sizeof(hello) - 1,
                                         KEEL_NOW));
        check("link", link_open(pair[i][1], &o, &links[i], &why));
    }
    before = mallinfo2().uordblks - before;
    for (int i = 0; i < LINKS; i++) {
        link_close(links[i]);
        keel_stream_close(pair[i][0]);
    }
    return before / LINKS;
}

static int run(void *arg)
{
    const struct link_options o = {.agent = "bench"};
    double data, one, many;
    struct keel_loop *loop;
    struct keel_co *server;
    struct keel_stream *tcp, *tls;
    struct problem why;
    struct link *l;

    (void)arg;
    check("loop", keel_loop_start("server", &loop));
    check("listen", keel_listen("127.0.0.1:0", &bench.listener));
    check("spawn", keel_spawn(&(struct keel_spawn){.loop = loop}, server_run,
                              NULL, &server));
    check("dial",
          keel_dial(keel_listener_address(bench.listener), KEEL_FOREVER, &tcp));
    use_cubic(tcp);
    check("handshake",
          keel_tls_connect(bench.client, tcp, NULL, KEEL_FOREVER, &tls));
    check("link", link_open(tls, &o, &l, &why));
    data = data_gb_per_s(l);
    one = pings_per_s(l, 1);
    many = pings_per_s(l, TOGETHER);
    link_goodbye(l, NULL, keel_after(KEEL_SECOND));
    link_close(l);
    check("join", keel_join(server, KEEL_FOREVER, NULL));
    keel_listener_close(bench.listener);
    keel_loop_stop(loop);
    printf("{\"bench\": \"link\", \"poller\": \"%s\", \"gb_per_s\": %.3f, "
           "\"pings_per_s\": %.0f, \"pings_per_s_64\": %.0f, "
           "\"idle_heap_bytes\": %zu}\n",
           keel_poller_name(), data, one, many, idle_bytes());
    return 0;
}

int main(int argc, char **argv)
{
    struct keel_tls_options server = {0}, client = {0};
    struct keel_tls_pin pin;
    char *key, *chain;

    if (argc > 1)
        bench.bytes = (uint64_t)strtoul(argv[1], NULL, 10) << 20;
    if (bench.bytes == 0 || argc > 2) {
        fprintf(stderr, "usage: link_bench [MIB]\n");
        return 2;
    }
    check("key", keel_tls_key_new("bench", &key, &chain));
    server.key_pem = key;
    server.chain_pem = chain;
    check("server", keel_tls_config_new(&server, &bench.server));
    check("pin", keel_tls_own_pin(bench.server, &pin));
    client.pin = &pin;
    check("client", keel_tls_config_new(&client, &bench.client));
    check("run", keel_run(run, NULL));
    keel_tls_config_free(bench.server);
    keel_tls_config_free(bench.client);
    keel_wipe(key, strlen(key));
    keel_free(key);
    keel_free(chain);
    return 0;
}
