/* SPDX-License-Identifier: MIT */
/* Two who talk over TCP, both at once: each side has a coroutine that speaks
 * and one that listens.
 *
 *     cc tcp_talk.c $(pkg-config --cflags --libs keel) && ./a.out
 *
 * When one has no more to say it finishes its half; the other half lives on
 * until its speaker does the same. */
#include <errno.h>
#include <stdio.h>
#include <string.h>

#include <keel/co.h>
#include <keel/net.h>

struct side {
    const char *name;
    const char *const *lines;
    struct keel_stream *stream;
    char heard[200];
};

static int speak(void *arg)
{
    struct side *me = arg;
    keel_auto(writer) struct keel_writer *out = NULL;
    keel_ns deadline = keel_after(10 * KEEL_SECOND);
    int rc = keel_writer_new(me->stream, 100, &out);

    for (int i = 0; rc == 0 && me->lines[i]; i++) {
        rc = keel_writer_put(out, me->lines[i], strlen(me->lines[i]), deadline);
        if (rc == 0)
            rc = keel_writer_put(out, "\r\n", 2, deadline);
        if (rc == 0)
            rc = keel_writer_flush(out, deadline);
        keel_yield(); /* let the other say something */
    }
    return rc < 0 ? rc : keel_stream_finish(me->stream, deadline);
}

static int listen_to(void *arg)
{
    struct side *me = arg;
    keel_auto(reader) struct keel_reader *in = NULL;
    keel_ns deadline = keel_after(10 * KEEL_SECOND);
    const char *line;
    ssize_t size;

    if (keel_reader_new(me->stream, 100, &in) < 0)
        return -ENOMEM;
    while ((size = keel_reader_line(in, &line, deadline)) >= 0) {
        size_t used = strlen(me->heard);

        snprintf(me->heard + used, sizeof(me->heard) - used,
                 "%s heard: %s (%zd bytes)\n", me->name, line, size);
    }
    return size == -ENODATA ? 0 : (int)size; /* the orderly end */
}

static int talk(void *arg)
{
    static const char *const questions[] = {"Are you there?", "How many?",
                                            NULL};
    static const char *const answers[] = {"I am.", "", "Forty-two.", NULL};
    struct side ada = {.name = "ada", .lines = questions};
    struct side ben = {.name = "ben", .lines = answers};
    keel_auto(listener) struct keel_listener *door = NULL;
    keel_auto(stream) struct keel_stream *a = NULL;
    keel_auto(stream) struct keel_stream *b = NULL;
    keel_auto(group) struct keel_group *all = NULL;
    keel_ns deadline = keel_after(10 * KEEL_SECOND);
    int rc;

    (void)arg;
    rc = keel_listen("127.0.0.1:0", &door); /* a port of the kernel's choice */
    if (rc == 0)
        rc = keel_dial(keel_listener_address(door), deadline, &a);
    if (rc == 0)
        rc = keel_accept(door, deadline, &b);
    if (rc == 0)
        rc = keel_group_new(0, &all);
    ada.stream = a;
    ben.stream = b;
    for (int i = 0; rc == 0 && i < 2; i++) {
        const struct keel_spawn how = {.group = all};

        rc = keel_spawn(&how, speak, i ? &ben : &ada, NULL);
        if (rc == 0)
            rc = keel_spawn(&how, listen_to, i ? &ben : &ada, NULL);
    }
    if (rc == 0)
        rc = keel_group_join(all, deadline);
    printf("%s%s", ada.heard, ben.heard);
    return rc;
}

int main(void)
{
    return keel_run(talk, NULL) == 0 ? 0 : 1;
}
