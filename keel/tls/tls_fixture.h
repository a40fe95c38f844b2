/* SPDX-License-Identifier: MIT */
/* What the tests of keel-tls share: two ends that talk, keys and certificates,
 * bytes that can be told apart, and a peer that is OpenSSL alone.  Checks with
 * cmocka. */
#ifndef KEEL_TLS_FIXTURE_H
#define KEEL_TLS_FIXTURE_H

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include <openssl/err.h>
#include <openssl/pem.h>
#include <openssl/x509v3.h>

#include <keel/co.h>
#include <keel/lock.h>
#include <keel/net.h>

#include "tls_inside.h"

#define MIB ((size_t)1 << 20)
#define SOON (10 * KEEL_SECOND)

/* ---- two ends --------------------------------------------------------------- */

/* A server "server.test", and a client who has its pin: made by set_up. */
extern char *key_pem, *chain_pem;
extern struct keel_tls_config *server_config, *client_config;
extern struct keel_tls_pin server_pin;

int set_up(void **state);
int tear_down(void **state);

struct keel_tls_config *config(struct keel_tls_options o);

/* A conversation of two ends; [0] is the server's, [1] the client's. */
struct talk {
    struct keel_tls_config *config[2]; /* NULL: those of set_up */
    const char *name;
    keel_ns deadline; /* 0: SOON */
    struct keel_stream *below[2], *tls[2];
    int rc[2];
    char words[2][200];
};

/* The handshake of one end; on failure the stream below is closed. */
int accept_in(void *talk);
int connect_in(void *talk);
/* Runs both in coroutines of this loop until both have ended. */
void both(int (*a)(void *), int (*b)(void *), void *arg);
/* Both handshakes over a pair of streams, over the loopback. */
void talk_open(struct talk *t, size_t pipe_bytes);
void talk_dial(struct talk *t);
void talk_close(struct talk *t);
/* A word from `from`, which the other end must get. */
void talk_word(struct talk *t, int from);

void on_a_loop(int (*fn)(void *), void *arg);

/* ---- keys and certificates ------------------------------------------------------ */

struct party {
    EVP_PKEY *key;
    X509 *cert;
    char *key_pem, *chain_pem; /* its own certificate, then those above */
};
struct party_of {
    const char *name, *alt;     /* alt: subjectAltName as OpenSSL writes it */
    bool ca, rsa;               /* rsa: in place of P-256 */
    int days;                   /* left; 0: 10 */
    const struct party *issuer; /* NULL: itself */
};
void party_make(struct party *p, struct party_of of);
void party_free(struct party *p);

X509 *cert_read(const char *pem);

/* ---- bytes that can be told apart ------------------------------------------------ */

void pattern_fill(uint8_t *buf, size_t size, uint64_t at, unsigned seed);
void pattern_check(const uint8_t *buf, size_t size, uint64_t at, unsigned seed);

/* One direction of a transfer. */
struct flow {
    struct keel_stream *from, *to;
    const size_t *sizes; /* written in turn, over and over */
    size_t count, total;
    unsigned seed;
};
int flow_write(void *flow);
int flow_read(void *flow);
/* Both directions of a conversation at once. */
void cross(struct talk *t, const size_t *sizes, size_t count, size_t total);

/* ---- a peer that is OpenSSL alone -------------------------------------------------- */

/* Moved by hand; each move sends what it wants sent and receives once. */
struct raw {
    SSL *ssl;
    BIO *in, *out;
    struct keel_stream *below;
};
void raw_open(struct raw *r, SSL_CTX *x, struct keel_stream *below);
void raw_send(struct raw *r, size_t most);
bool raw_receive(struct raw *r);
int raw_shake(struct raw *r);
/* With the key of set_up, and no tickets. */
SSL_CTX *raw_server_ctx(void);

#endif
