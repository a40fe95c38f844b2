/* SPDX-License-Identifier: MIT */
/* Echo on keel: a coroutine for each connection.
 *
 *     echo_keel PORT LOOPS
 *
 * Connections are accepted on the first loop and placed on the others in
 * turn.  Prints "listening on ADDRESS" and runs until it is killed. */
#include <errno.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <keel/co.h>
#include <keel/net.h>

enum { LOOPS_MOST = 64, MESSAGE_BYTES = 4096 };

static unsigned short port;
static int loop_count;

static int serve(void *arg)
{
    keel_auto(stream) struct keel_stream *s = arg;
    char buf[MESSAGE_BYTES];

    for (;;) {
        ssize_t got = keel_stream_read(s, buf, sizeof buf, KEEL_FOREVER);
        int rc;

        if (got <= 0)
            return (int)got;
        rc = keel_stream_write(s, buf, (size_t)got, KEEL_FOREVER);
        if (rc < 0)
            return rc;
    }
}

static int accept_all(void *arg)
{
    keel_auto(listener) struct keel_listener *l = NULL;
    struct keel_loop *loops[LOOPS_MOST] = {NULL};
    char address[32];
    int rc;

    (void)arg;
    snprintf(address, sizeof address, "127.0.0.1:%hu", port);
    rc = keel_listen(address, &l);
    for (int i = 1; rc == 0 && i < loop_count; i++)
        rc = keel_loop_start("echo", &loops[i]);
    if (rc < 0)
        return rc;
    printf("listening on %s (%s)\n", keel_listener_address(l),
           keel_poller_name());
    fflush(stdout);
    for (int next = 0;; next = (next + 1) % loop_count) {
        struct keel_spawn how = {.name = "echo", .loop = loops[next]};
        struct keel_stream *s;

        rc = keel_accept(l, KEEL_FOREVER, &s);
        if (rc == -EMFILE)
            (void)keel_sleep(keel_after(10 * KEEL_MS));
        else if (rc < 0)
            return rc;
        else if (keel_spawn(&how, serve, s, NULL) < 0)
            keel_stream_close(s);
    }
}

int main(int argc, char **argv)
{
    int rc;

    if (argc != 3 || atoi(argv[2]) < 1 || atoi(argv[2]) > LOOPS_MOST) {
        fprintf(stderr, "usage: echo_keel PORT LOOPS\n");
        return 2;
    }
    port = (unsigned short)atoi(argv[1]);
    loop_count = atoi(argv[2]);
    rc = keel_run(accept_all, NULL);
    if (rc < 0)
        fprintf(stderr, "echo_keel: %s\n", strerror(-rc));
    return rc < 0;
}
