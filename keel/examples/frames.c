/* SPDX-License-Identifier: MIT */
/* Sticky packets, and what keeps messages apart.
 *
 *     cc frames.c $(pkg-config --cflags --libs keel) && ./a.out
 *
 * A stream has no packets: two writes may be read as one, one in two parts.  A
 * frame says how long it is; a message has a header of text beside that, and a
 * body that may be longer than memory.  A length is compared before memory is
 * taken, and what is cut says how much is missing. */
#include <errno.h>
#include <stdio.h>
#include <string.h>

#include <keel/co.h>
#include <keel/frame.h>
#include <keel/message.h>
#include <keel/net.h>

static const char *const words[] = {"one", "two", "", "three"};

/* What the client does on each connection. */
static int send_sticky(struct keel_stream *s, keel_ns deadline)
{
    int rc = 0;

    for (int i = 0; rc == 0 && i < 4; i++)
        rc = keel_stream_write(s, words[i], strlen(words[i]), deadline);
    return rc;
}

static int send_frames(struct keel_stream *s, keel_ns deadline)
{
    int rc = 0;

    for (int i = 0; rc == 0 && i < 4; i++)
        rc = keel_frame_write(s, words[i], strlen(words[i]), deadline);
    return rc;
}

static int send_messages(struct keel_stream *s, keel_ns deadline)
{
    static const char header[] = "{\"name\":\"song.txt\"}";
    struct keel_message m;
    int rc = keel_message_begin(s, header, strlen(header), 100, deadline, &m);

    for (int i = 0; rc == 0 && i < 10; i++) /* piece by piece */
        rc = keel_message_put(&m, "lalalalala", 10, deadline);
    if (rc == 0) /* and one that breaks off */
        rc = keel_message_begin(s, header, strlen(header), 100, deadline, &m);
    if (rc == 0)
        rc = keel_message_put(&m, "lala", 4, deadline);
    return rc;
}

/* What the server does. */
static int read_sticky(struct keel_stream *s, keel_ns deadline)
{
    char buf[64];
    size_t got = 0;
    int rc = keel_stream_read_all(s, buf, sizeof(buf), &got, deadline);

    printf("stream: four writes, and one heap of bytes: '%.*s'\n", (int)got,
           buf);
    return rc == -ECONNABORTED ? 0 : rc;
}

static int read_frames(struct keel_stream *s, keel_ns deadline)
{
    void *body = NULL;
    ssize_t size;

    while ((size = keel_frame_read(s, 4, &body, NULL, deadline)) >= 0) {
        printf("frame: '%.*s'\n", (int)size, (char *)body);
        keel_free(keel_take(body));
    }
    if (size == -EMSGSIZE)
        printf("frame: longer than 4 bytes, refused\n");
    return size == -EMSGSIZE ? 0 : (int)size;
}

static int read_messages(struct keel_stream *s, keel_ns deadline)
{
    struct keel_message m;
    int rc;

    while ((rc = keel_message_read(s, 1000, 1 << 20, deadline, &m, NULL)) ==
           0) {
        char buf[32];
        ssize_t n;

        printf("message: %s, %llu bytes\n", m.header,
               (unsigned long long)m.body_size);
        while ((n = keel_message_get(&m, buf, sizeof(buf), deadline)) > 0)
            ;
        if (n == -ECONNABORTED) {
            printf("message: cut, %llu bytes are missing\n",
                   (unsigned long long)m.left);
            keel_message_fini(&m);
            return 0;
        }
        keel_message_fini(&m);
        if (n < 0)
            return (int)n;
    }
    return rc;
}

struct talk {
    struct keel_stream *stream;
    int (*send)(struct keel_stream *s, keel_ns deadline);
};

static int client(void *arg)
{
    struct talk *t = arg;
    keel_ns deadline = keel_after(10 * KEEL_SECOND);
    int rc = t->send(t->stream, deadline);

    return rc < 0 ? rc : keel_stream_finish(t->stream, deadline);
}

static int run(void *arg)
{
    static int (*const sends[])(struct keel_stream * s, keel_ns deadline) = {
        send_sticky, send_frames, send_messages};
    static int (*const reads[])(struct keel_stream * s, keel_ns deadline) = {
        read_sticky, read_frames, read_messages};
    keel_auto(listener) struct keel_listener *l = NULL;
    int rc = keel_listen("127.0.0.1:0", &l);

    (void)arg;
    for (int i = 0; rc == 0 && i < 3; i++) {
        keel_auto(stream) struct keel_stream *a = NULL;
        keel_auto(stream) struct keel_stream *b = NULL;
        keel_ns deadline = keel_after(10 * KEEL_SECOND);
        struct talk talk = {.send = sends[i]};
        struct keel_co *co;

        rc = keel_dial(keel_listener_address(l), deadline, &a);
        if (rc == 0)
            rc = keel_accept(l, deadline, &b);
        talk.stream = a;
        if (rc == 0)
            rc = keel_spawn(NULL, client, &talk, &co);
        if (rc < 0)
            break;
        rc = reads[i](b, deadline);
        keel_join(co, KEEL_FOREVER, NULL);
    }
    return rc;
}

int main(void)
{
    return keel_run(run, NULL) == 0 ? 0 : 1;
}
