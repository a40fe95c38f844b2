/* SPDX-License-Identifier: MIT */
/* An echo server over TLS that knows its clients by their keys, and a client
 * that comes twice: the second time its session is resumed, without
 * certificates and signatures.
 *
 *     cc tls_talk.c $(pkg-config --cflags --libs keel-tls) && ./a.out
 *
 * Each side has a fresh key and a certificate of its own making, and pins the
 * other's key: no authority is needed where both have met before.  Whoever
 * comes without the right key is told so, and at the server the reason is on
 * record.  An end that is not announced is an error, never the end of what the
 * other had to say. */
#include <errno.h>
#include <stdio.h>
#include <string.h>

#include <keel/co.h>
#include <keel/net.h>
#include <keel/tls.h>

struct party {
    char *key, *chain; /* PEM */
    struct keel_tls_pin pin;
};

struct place {
    struct party server, ada, bob;
    struct keel_listener *door;
    struct keel_tls_config *tls; /* the server's */
};

static void party_drop(struct party *p)
{
    if (p->key)
        keel_wipe(p->key, strlen(p->key));
    keel_free(p->key);
    keel_free(p->chain);
}

static int party_make(struct party *p, const char *name)
{
    keel_auto(tls_config) struct keel_tls_config *own = NULL;
    struct keel_tls_options mine = {0};
    int rc = keel_tls_key_new(name, &p->key, &p->chain);

    mine.key_pem = p->key;
    mine.chain_pem = p->chain;
    if (rc == 0)
        rc = keel_tls_config_new(&mine, &own);
    return rc == 0 ? keel_tls_own_pin(own, &p->pin) : rc;
}

/* ---- the server ---- */

static int echo(struct keel_stream *s, keel_ns deadline)
{
    char buf[100];
    ssize_t n;
    int rc = 0;

    while ((n = keel_stream_read(s, buf, sizeof(buf), deadline)) > 0 && rc == 0)
        rc = keel_stream_write(s, buf, (size_t)n, deadline);
    if (n < 0) /* -ECONNABORTED: cut, and not the end */
        return (int)n;
    return rc < 0 ? rc : keel_stream_finish(s, deadline);
}

static int visitor(struct place *p, keel_ns deadline)
{
    keel_auto(stream) struct keel_stream *below = NULL;
    keel_auto(stream) struct keel_stream *s = NULL;
    struct keel_tls_certificate who;
    int rc = keel_accept(p->door, deadline, &below);

    if (rc < 0)
        return rc;
    rc = keel_tls_accept(p->tls, below, deadline, &s);
    if (rc < 0) {
        printf("server: refused: %s\n", keel_tls_error());
        return 0;
    }
    below = NULL; /* the TLS stream's now */
    rc = keel_tls_peer_certificate(s, &who);
    if (rc == 0)
        printf("server: %s is here%s\n", who.subject,
               keel_tls_resumed(s) ? " again, resumed" : "");
    return rc == 0 ? echo(s, deadline) : rc;
}

static int serve(void *arg)
{
    keel_ns deadline = keel_after(10 * KEEL_SECOND);
    int rc = 0;

    for (int i = 0; rc == 0 && i < 3; i++)
        rc = visitor(arg, deadline);
    return rc;
}

/* ---- a client ---- */

/* To the end, where tickets for the next time have come, too. */
static int hear(struct keel_stream *s, keel_ns deadline)
{
    char buf[100];
    size_t size = 0;
    ssize_t n = 1;

    while (size < sizeof(buf) && n > 0) {
        n = keel_stream_read(s, buf + size, sizeof(buf) - size, deadline);
        if (n > 0)
            size += (size_t)n;
    }
    if (n == -EACCES) {
        printf("client: turned away: %s\n", keel_tls_error());
        return 0;
    }
    printf("client: heard \"%.*s\"\n", (int)size, buf);
    return n < 0 ? (int)n : 0;
}

static int say(struct keel_stream *s, const char *text, keel_ns deadline)
{
    int rc = keel_stream_write(s, text, strlen(text), deadline);

    if (rc == 0)
        rc = keel_stream_finish(s, deadline);
    /* A server that has hung up may have said why. */
    if (rc == 0 || rc == -EPIPE || rc == -ECONNRESET)
        rc = hear(s, deadline);
    return rc;
}

static int visit(struct place *p, struct keel_tls_config *tls, const char *text)
{
    keel_auto(stream) struct keel_stream *below = NULL;
    keel_auto(stream) struct keel_stream *s = NULL;
    keel_ns deadline = keel_after(10 * KEEL_SECOND);
    int rc = keel_dial(keel_listener_address(p->door), deadline, &below);

    if (rc == 0)
        rc = keel_tls_connect(tls, below, "echo.example", deadline, &s);
    if (rc < 0)
        return rc;
    below = NULL;
    return say(s, text, deadline);
}

static int visits(struct place *p, const struct party *who, int times)
{
    const struct keel_tls_options o = {.pin = &p->server.pin,
                                       .key_pem = who->key,
                                       .chain_pem = who->chain,
                                       .sessions = 1};
    keel_auto(tls_config) struct keel_tls_config *tls = NULL;
    int rc = keel_tls_config_new(&o, &tls);

    for (int i = 0; rc == 0 && i < times; i++)
        rc = visit(p, tls, i ? "me again" : "hello");
    return rc;
}

/* ---- both ---- */

static int meet(struct place *p)
{
    const struct keel_tls_options o = {.key_pem = p->server.key,
                                       .chain_pem = p->server.chain,
                                       .pin = &p->ada.pin,
                                       .clients = KEEL_TLS_CLIENTS_REQUIRE,
                                       .tickets = 1};
    struct keel_co *server = NULL;
    int rc = keel_tls_config_new(&o, &p->tls), served = 0;

    if (rc == 0)
        rc = keel_listen("127.0.0.1:0", &p->door);
    if (rc == 0)
        rc = keel_spawn(NULL, serve, p, &server);
    if (rc == 0)
        rc = visits(p, &p->ada, 2);
    if (rc == 0)
        rc = visits(p, &p->bob, 1);
    if (rc < 0 && server)
        keel_cancel(server);
    if (server)
        keel_join(server, KEEL_FOREVER, &served);
    return rc < 0 ? rc : served;
}

static int talk(void *arg)
{
    struct place p = {0};
    int rc = party_make(&p.server, "echo.example");

    (void)arg;
    if (rc == 0)
        rc = party_make(&p.ada, "ada");
    if (rc == 0)
        rc = party_make(&p.bob, "bob");
    if (rc == 0)
        rc = meet(&p);
    keel_listener_close(p.door);
    keel_tls_config_free(p.tls);
    party_drop(&p.server);
    party_drop(&p.ada);
    party_drop(&p.bob);
    return rc;
}

int main(void)
{
    return keel_run(talk, NULL) == 0 ? 0 : 1;
}
