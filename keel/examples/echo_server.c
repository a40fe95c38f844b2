/* SPDX-License-Identifier: MIT */
/* An echo server on several loops: a coroutine for each connection.
 *
 *     cc echo_server.c $(pkg-config --cflags --libs keel) -o echo_server
 *     ./echo_server PORT LOOPS
 *
 * Each connection goes to the loop that has least to do, a thread of its own.
 * One that waits costs its coroutine's stack, as many pages as were used: with a
 * buffer of 2 KiB that is one.
 * Port 0 lets the kernel choose; the server runs until SIGINT or SIGTERM, then
 * gives those it serves a second.  Without arguments it shows itself. */
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <keel/co.h>
#include <keel/server.h>
#include <keel/system.h>

enum { LOOPS_MOST = 64 };

KEEL_HANDLER(echo)
{
    char buf[2048];
    ssize_t got;
    int rc = 0;

    while (rc == 0 && (got = keel_stream_read(conn->stream, buf, sizeof(buf),
                                              KEEL_FOREVER)) > 0)
        rc = keel_stream_write(conn->stream, buf, (size_t)got, KEEL_FOREVER);
    return rc;
}

struct echo {
    unsigned short port;
    unsigned loop_count;
    bool show;
    struct keel_signals *signals;
    struct keel_server *server;
};

static int stop_on_signal(void *arg)
{
    struct echo *e = arg;

    if (keel_signals_wait(e->signals, KEEL_FOREVER) > 0)
        keel_server_stop(e->server);
    return 0;
}

/* What a client sees. */
static int show(void *arg)
{
    struct echo *e = arg;
    static const char *const words[] = {"one", "two", "three"};

    for (size_t i = 0; i < 3; i++) {
        keel_auto(stream) struct keel_stream *s = NULL;
        char got[8] = "";
        int rc = keel_dial(keel_server_address(e->server, 0), KEEL_FOREVER, &s);

        if (rc == 0)
            rc = keel_stream_write(s, words[i], strlen(words[i]), KEEL_FOREVER);
        if (rc == 0)
            rc = keel_stream_read_all(s, got, strlen(words[i]), NULL,
                                      KEEL_FOREVER);
        printf("%s: %s\n", words[i], rc < 0 ? strerror(-rc) : got);
    }
    keel_server_stop(e->server);
    return 0;
}

static int serve(void *arg)
{
    struct echo *e = arg;
    struct keel_loop *loops[LOOPS_MOST] = {keel_loop_current()};
    struct keel_server_how how = {.handler = "echo",
                                  .loops = loops,
                                  .loop_count = e->loop_count,
                                  .connections_most = 1000000,
                                  .grace = KEEL_SECOND};
    keel_auto(server) struct keel_server *s = NULL;
    struct keel_server_counters count;
    char address[32];
    int rc = 0;

    for (unsigned i = 1; rc == 0 && i < e->loop_count; i++)
        rc = keel_loop_start("echo", &loops[i]);
    snprintf(address, sizeof(address), "127.0.0.1:%hu", e->port);
    if (rc == 0)
        rc = keel_server_new(&how, &s);
    if (rc == 0)
        rc = keel_server_listen(s, address);
    e->server = s;
    if (rc == 0)
        rc = keel_spawn(NULL, e->show ? show : stop_on_signal, e, NULL);
    if (rc == 0 && !e->show)
        printf("listening on %s (%s)\n", keel_server_address(s, 0),
               keel_poller_name());
    fflush(stdout);
    if (rc == 0)
        rc = keel_server_run(s);
    if (rc == 0) {
        keel_server_count(s, &count);
        printf("served %d\n", (int)count.accepted);
    }
    for (unsigned i = 1; i < e->loop_count; i++)
        keel_loop_stop(loops[i]);
    return rc;
}

int main(int argc, char **argv)
{
    static const int signals[] = {SIGINT, SIGTERM};
    struct echo e = {.loop_count = 2, .show = argc == 1};
    int rc;

    if (argc == 3) {
        e.port = (unsigned short)atoi(argv[1]);
        e.loop_count = (unsigned)atoi(argv[2]);
    }
    if ((argc != 1 && argc != 3) || e.loop_count < 1 ||
        e.loop_count > LOOPS_MOST) {
        fprintf(stderr, "usage: echo_server PORT LOOPS\n");
        return 2;
    }
    keel_descriptors_most();
    rc = keel_signals_open(signals, 2, &e.signals);
    if (rc == 0)
        rc = keel_run(serve, &e);
    keel_signals_close(e.signals);
    if (rc < 0)
        fprintf(stderr, "echo_server: %s\n", strerror(-rc));
    return rc < 0;
}
