/* SPDX-License-Identifier: MIT */
/* Legitimacy of a client by challenge: who has the key is served.
 *
 *     cc peer.c $(pkg-config --cflags --libs keel-tls) && ./a.out
 *
 * Server and client prove to each other that they have the same key, which
 * never travels.  A wrong key costs the server one round trip; what somebody
 * overheard is of no use another time. */
#include <stdio.h>
#include <string.h>

#include <keel/co.h>
#include <keel/net.h>
#include <keel/peer.h>

#define SOON (keel_after(5 * KEEL_SECOND))

static const struct keel_peer_key
    key = {.secret = "32 bytes that came from a random", .secret_size = 32},
    guess = {.secret = "32 bytes that somebody made up..", .secret_size = 32};

static int serve(void *arg)
{
    struct keel_listener *l = arg;

    for (;;) {
        keel_auto(stream) struct keel_stream *s = NULL;
        int rc = keel_accept(l, KEEL_FOREVER, &s);

        if (rc < 0)
            return rc;
        rc = keel_peer_challenge(s, &key, SOON);
        printf("server: %s\n", rc < 0 ? strerror(-rc) : "one of ours");
        if (rc == 0)
            (void)keel_stream_write(s, "the answer is 42\n", 17, SOON);
    }
}

static int dial(struct keel_listener *l, struct keel_stream **ret)
{
    return keel_dial(keel_listener_address(l), SOON, ret);
}

static void visit(struct keel_listener *l, const struct keel_peer_key *with)
{
    keel_auto(stream) struct keel_stream *s = NULL;
    char line[100];
    ssize_t got = dial(l, &s);

    if (got == 0)
        got = keel_peer_answer(s, with, SOON);
    if (got == 0)
        got = keel_stream_read(s, line, sizeof(line), SOON);
    if (got < 0)
        printf("client: %s\n", strerror((int)-got));
    else
        printf("client: %.*s", (int)got, line);
}

/* Says what a legitimate client said in another conversation. */
static void visit_with_old_words(struct keel_listener *l)
{
    keel_auto(stream) struct keel_stream *s = NULL;
    char question[36], words[68] = "KPA1 overheard yesterday", verdict[36];
    int rc = dial(l, &s);

    if (rc == 0)
        rc = keel_stream_read_all(s, question, sizeof(question), NULL, SOON);
    if (rc == 0)
        rc = keel_stream_write(s, words, sizeof(words), SOON);
    if (rc == 0)
        rc = keel_stream_read_all(s, verdict, sizeof(verdict), NULL, SOON);
    if (rc == 0)
        printf("eavesdropper: the server says %.4s\n", verdict);
}

static int run(void *arg)
{
    keel_auto(listener) struct keel_listener *l = NULL;
    int rc = keel_listen("127.0.0.1:0", &l);

    (void)arg;
    if (rc == 0)
        rc = keel_spawn(NULL, serve, l, NULL);
    if (rc < 0)
        return rc;
    visit(l, &key);
    visit(l, &guess);
    visit_with_old_words(l);
    return 0;
}

int main(void)
{
    return keel_run(run, NULL) < 0;
}
