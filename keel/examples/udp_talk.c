/* SPDX-License-Identifier: MIT */
/* One to one over UDP, in threads: no coroutine anywhere, the same calls.
 *
 *     cc udp_talk.c $(pkg-config --cflags --libs keel) && ./a.out
 *
 * Datagrams stay whole, and what is too long for the receiver is said, not
 * passed on as if it were all.  A real network loses some: whoever needs an
 * answer asks again after a deadline. */
#include <errno.h>
#include <stdio.h>
#include <string.h>

#include <keel/thread.h>
#include <keel/udp.h>

/* Tells whoever asks how long the question was; ends at an empty one. */
static int answer(void *arg)
{
    struct keel_udp *u = arg;
    struct keel_datagram d;
    char text[16], reply[64];
    ssize_t size;

    do {
        size = keel_udp_recv(u, text, sizeof(text),
                             keel_after(10 * KEEL_SECOND), &d);
        if (size == -EMSGSIZE)
            snprintf(reply, sizeof(reply), "%zu bytes are more than I can take",
                     d.size);
        else if (size < 0)
            return (int)size;
        else
            snprintf(reply, sizeof(reply), "%zd bytes: %.*s", size, (int)size,
                     text);
        if (keel_udp_send_to(u, &d.from, reply, strlen(reply),
                             keel_after(KEEL_SECOND)) < 0)
            return 1;
    } while (size != 0);
    return 0;
}

int main(void)
{
    static const char *const questions[] = {"hello", "exactly 16 bytes",
                                            "this one is longer than that", ""};
    keel_auto(udp) struct keel_udp *server = NULL;
    keel_auto(udp) struct keel_udp *client = NULL;
    struct keel_thread *thread;
    char address[KEEL_ADDRESS_BYTES], reply[64];
    struct keel_address at;
    int result = 1;

    if (keel_udp_open("127.0.0.1:0", 0, &server) < 0 ||
        keel_udp_local(server, &at) < 0 ||
        keel_thread_start(NULL, answer, server, &thread) < 0)
        return 1;
    keel_address_print(&at, address);
    if (keel_udp_dial(address, keel_after(KEEL_SECOND), &client) < 0)
        return 1;

    for (int i = 0; i < 4; i++) {
        ssize_t size;

        if (keel_udp_send(client, questions[i], strlen(questions[i]),
                          keel_after(KEEL_SECOND)) < 0)
            return 1;
        size = keel_udp_recv(client, reply, sizeof(reply),
                             keel_after(10 * KEEL_SECOND), NULL);
        if (size < 0)
            return 1;
        printf("%s -> %.*s\n", questions[i], (int)size, reply);
    }
    keel_thread_join(thread, KEEL_FOREVER, &result);
    return result;
}
