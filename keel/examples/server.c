/* SPDX-License-Identifier: MIT */
/* A server that serves many at once: one handler, as coroutine, thread and
 * process.
 *
 *     cc server.c $(pkg-config --cflags --libs keel) && ./a.out
 *
 * Three clients come at the same time, and each gets its line back in capitals,
 * with who made them.  The handler is the same code in all modes, and for
 * datagrams too.  The last client asks it to stop the server. */
#include <ctype.h>
#include <stdio.h>
#include <string.h>

#include <keel/server.h>

#define SOON (keel_after(10 * KEEL_SECOND))

KEEL_HANDLER(shout)
{
    char line[100], answer[200];
    ssize_t got = keel_stream_read(conn->stream, line, sizeof(line), SOON);
    int n;

    if (got <= 0)
        return (int)got;
    for (ssize_t i = 0; i < got; i++)
        line[i] = (char)toupper(line[i]);
    n = snprintf(answer, sizeof(answer), "%.*s, says %s", (int)got, line,
                 keel_current()                     ? "a coroutine"
                 : conn->mode == KEEL_SERVE_PROCESS ? "a process"
                                                    : "a thread");
    if (got == 3 && !memcmp(line, "BYE", 3))
        keel_conn_stop_server(conn);
    return keel_stream_write(conn->stream, answer, (size_t)n, SOON);
}

static void say(struct keel_stream *s, const char *word)
{
    char answer[200];
    ssize_t got = keel_stream_write(s, word, strlen(word), SOON);

    if (got == 0)
        got = keel_stream_read(s, answer, sizeof(answer), SOON);
    if (got < 0)
        printf("  %s\n", strerror((int)-got));
    else
        printf("  %.*s\n", (int)got, answer);
}

/* All are connected before the first says a word. */
static int visit(void *arg)
{
    static const char *const words[] = {"hello", "there", "bye"};
    struct keel_stream *s[3] = {NULL};
    int rc = 0;

    for (int i = 0; rc == 0 && i < 3; i++)
        rc = keel_dial(arg, SOON, &s[i]);
    for (int i = 0; rc == 0 && i < 3; i++)
        say(s[i], words[i]);
    for (int i = 0; i < 3; i++)
        keel_stream_close(s[i]);
    return rc;
}

static int serve(enum keel_server_mode mode, const char *name)
{
    const struct keel_server_how how = {.handler = "shout", .mode = mode};
    keel_auto(server) struct keel_server *s = NULL;
    struct keel_server_counters count;
    struct keel_co *client;
    int rc = keel_server_new(&how, &s);

    printf("%s\n", name);
    if (rc == 0)
        rc = keel_server_listen(s, "127.0.0.1:0");
    if (rc == 0)
        rc = keel_spawn(NULL, visit,
                        (void *)(uintptr_t)keel_server_address(s, 0), &client);
    if (rc < 0)
        return rc;
    rc = keel_server_run(s); /* until "bye", and that is answered */
    (void)keel_join(client, KEEL_FOREVER, NULL);
    if (rc < 0)
        return rc;
    keel_server_count(s, &count);
    printf("  %d served, %d failed\n", (int)count.served, (int)count.failed);
    return 0;
}

static int run(void *arg)
{
    int rc = serve(KEEL_SERVE_COROUTINE, "coroutines");

    (void)arg;
    if (rc == 0)
        rc = serve(KEEL_SERVE_THREAD, "threads");
    if (rc == 0)
        rc = serve(KEEL_SERVE_PROCESS, "processes");
    return rc;
}

int main(void)
{
    return keel_run(run, NULL) < 0;
}
