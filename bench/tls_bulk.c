/* SPDX-License-Identifier: MIT */
/* tls_bulk [STREAMS [MIB [LOOPS]]]: bytes through TLS over the loopback.
 *
 * Each stream has its sender on one loop and its receiver on another; LOOPS
 * pairs of loops (default 1, so two threads) share the streams.  Both sockets
 * use cubic, so that runs compare whatever the machine's default is.  Prints
 * one line of JSON; CPU seconds are both sides' together. */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <netinet/in.h>
#include <netinet/tcp.h>
#include <sys/resource.h>
#include <sys/socket.h>

#include <keel/co.h>
#include <keel/net.h>
#include <keel/tls.h>

enum { STREAMS_MOST = 64, CHUNK = 256 * 1024 };

struct stream {
    struct keel_listener *listener;
    keel_ns begin, end;
    struct keel_co *sender, *receiver;
};

static struct {
    unsigned streams, loops;
    uint64_t bytes; /* of each stream */
    struct keel_tls_config *server, *client;
    struct stream stream[STREAMS_MOST];
    const char *cipher;
} bench = {.streams = 1, .loops = 1, .bytes = (uint64_t)1 << 30};

static void check(const char *what, int rc)
{
    if (rc >= 0)
        return;
    fprintf(stderr, "%s: %s (%s)\n", what, strerror(-rc), keel_tls_error());
    exit(1);
}

static void use_cubic(struct keel_stream *s)
{
    if (setsockopt(keel_stream_fd(s), IPPROTO_TCP, TCP_CONGESTION, "cubic", 5))
        fprintf(stderr, "no cubic here\n");
}

static int send_all(void *arg)
{
    struct stream *s = arg;
    keel_auto(stream) struct keel_stream *tls = NULL;
    keel_auto(mem) void *buf = keel_alloc(CHUNK);
    struct keel_stream *tcp;

    check("accept", keel_accept(s->listener, KEEL_FOREVER, &tcp));
    use_cubic(tcp);
    check("handshake", keel_tls_accept(bench.server, tcp, KEEL_FOREVER, &tls));
    memset(buf, 7, CHUNK);
    for (uint64_t at = 0; at < bench.bytes; at += CHUNK)
        check("write", keel_stream_write(tls, buf, CHUNK, KEEL_FOREVER));
    check("finish", keel_stream_finish(tls, KEEL_FOREVER));
    return 0;
}

static int receive_all(void *arg)
{
    struct stream *s = arg;
    keel_auto(stream) struct keel_stream *tls = NULL;
    keel_auto(mem) void *buf = keel_alloc(CHUNK);
    struct keel_stream *tcp;
    uint64_t got = 0;
    ssize_t n;

    check("dial",
          keel_dial(keel_listener_address(s->listener), KEEL_FOREVER, &tcp));
    use_cubic(tcp);
    check("handshake",
          keel_tls_connect(bench.client, tcp, NULL, KEEL_FOREVER, &tls));
    bench.cipher = keel_tls_cipher(tls);
    s->begin = keel_now();
    while ((n = keel_stream_read(tls, buf, CHUNK, KEEL_FOREVER)) > 0)
        got += (uint64_t)n;
    check("read", (int)n);
    s->end = keel_now();
    if (got != bench.bytes)
        check("count", -1);
    return 0;
}

static double cpu_seconds(void)
{
    struct rusage u;

    getrusage(RUSAGE_SELF, &u);
    return (double)(u.ru_utime.tv_sec + u.ru_stime.tv_sec) +
           (double)(u.ru_utime.tv_usec + u.ru_stime.tv_usec) * 1e-6;
}

static void report(double cpu)
{
    keel_ns begin = KEEL_FOREVER, end = 0;
    double gb = (double)bench.streams * (double)bench.bytes / 1e9;

    for (unsigned i = 0; i < bench.streams; i++) {
        const struct stream *s = &bench.stream[i];

        begin = s->begin < begin ? s->begin : begin;
        end = s->end > end ? s->end : end;
    }
    printf("{\"bench\": \"tls_bulk\", \"poller\": \"%s\", \"cipher\": \"%s\", "
           "\"streams\": %u, \"loops\": %u, \"gb\": %.3f, \"gb_per_s\": %.3f, "
           "\"cpu_s_per_gb\": %.3f}\n",
           keel_poller_name(), bench.cipher, bench.streams, 2 * bench.loops, gb,
           gb / ((double)(end - begin) * 1e-9), cpu / gb);
}

static int run(void *arg)
{
    struct keel_loop *loops[2 * STREAMS_MOST] = {NULL};
    double cpu = cpu_seconds();

    (void)arg;
    for (unsigned i = 0; i < 2 * bench.loops; i++)
        check("loop", keel_loop_start("bulk", &loops[i]));
    for (unsigned i = 0; i < bench.streams; i++) {
        struct stream *s = &bench.stream[i];
        unsigned at = i % bench.loops * 2;
        struct keel_spawn send = {.name = "send", .loop = loops[at]};
        struct keel_spawn receive = {.name = "recv", .loop = loops[at + 1]};

        check("listen", keel_listen("127.0.0.1:0", &s->listener));
        check("spawn", keel_spawn(&send, send_all, s, &s->sender));
        check("spawn", keel_spawn(&receive, receive_all, s, &s->receiver));
    }
    for (unsigned i = 0; i < bench.streams; i++) {
        check("join", keel_join(bench.stream[i].sender, KEEL_FOREVER, NULL));
        check("join", keel_join(bench.stream[i].receiver, KEEL_FOREVER, NULL));
        keel_listener_close(bench.stream[i].listener);
    }
    report(cpu_seconds() - cpu);
    for (unsigned i = 0; i < 2 * bench.loops; i++)
        keel_loop_stop(loops[i]);
    return 0;
}

static unsigned number(const char *text, unsigned most)
{
    char *end;
    unsigned long n = strtoul(text, &end, 10);

    if (*end || n < 1 || n > most) {
        fprintf(stderr, "usage: tls_bulk [STREAMS [MIB [LOOPS]]]\n");
        exit(2);
    }
    return (unsigned)n;
}

int main(int argc, char **argv)
{
    struct keel_tls_options server = {0}, client = {0};
    struct keel_tls_pin pin;
    char *key, *chain;

    if (argc > 1)
        bench.streams = number(argv[1], STREAMS_MOST);
    if (argc > 2)
        bench.bytes = (uint64_t)number(argv[2], 1 << 20) << 20;
    if (argc > 3)
        bench.loops = number(argv[3], STREAMS_MOST);

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
