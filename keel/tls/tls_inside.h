/* SPDX-License-Identifier: MIT */
/* Inside keel-tls: lent buffers, the config as a session sees it, and what the
 * tests look at. */
#ifndef KEEL_TLS_INSIDE_H
#define KEEL_TLS_INSIDE_H

#include <stdatomic.h>

#include <openssl/ssl.h>

#include <keel/tls.h>

enum {
    TLS_RECORD = 16384,    /* plain bytes of a full record */
    TLS_SEAL = 5 + 1 + 16, /* header, inner type, tag: RFC 8446 5.2 */
    TLS_BURST = 256 * 1024,
    /* Sealed, a frame of TLS_BURST bytes and its header leave in one send:
     * hence the extra record.  The last page is for what reading makes us
     * send (answers to key updates, alerts) while a send is under way. */
    TLS_OUT = TLS_BURST + TLS_RECORD + 4096,
    TLS_OUT_FILL = TLS_OUT - 2048,
};

/* ---- lent buffers --------------------------------------------------------- */
/* A session borrows one to receive a burst, one to send one, and gives them
 * back before it waits for the peer's next move.  Each thread keeps a few
 * spares, so that a loop of thousands of sessions runs on a handful. */
struct tls_buffer {
    struct tls_buffer *next;
    uint8_t bytes[TLS_OUT];
    uint8_t gather[TLS_RECORD]; /* small pieces on their way to one record */
};

/* NULL when memory is out. */
struct tls_buffer *tls_buffer_lend(void);
/* Accepts NULL. */
void tls_buffer_return(struct tls_buffer *b);
/* Buffers out of the pools now, in the whole process. */
size_t tls_buffers_lent(void);

/* ---- the config ------------------------------------------------------------ */
enum tls_trust { TRUST_NOBODY, TRUST_PIN, TRUST_CA, TRUST_ANY };

/* Never changed once made.  The owner and each handshake under way count as
 * references, so that a reload may free it at any time. */
struct keel_tls_config {
    atomic_uint refs;
    SSL_CTX *ctx;
    bool has_key;
    enum tls_trust trust;
    struct keel_tls_pin pin; /* TRUST_PIN */
    struct keel_tls_pin own; /* has_key */
    uint8_t alpn[1 + 255];   /* length and name, as on the wire */
    size_t alpn_bytes;       /* 0: none wanted */
};

/* Adds a reference, which keel_tls_config_free drops; returns `c`. */
struct keel_tls_config *tls_config_hold(struct keel_tls_config *c);
int tls_cert_pin(X509 *cert, struct keel_tls_pin *ret);

/* What keel_tls_error says next on this thread: the words, or with NULL those
 * of OpenSSL's oldest queued error. */
void tls_error_set(const char *words);

/* ---- for tests -------------------------------------------------------------- */
/* Records sealed with one key before the next is asked for. */
extern uint64_t tls_key_records;
SSL *tls_ssl(struct keel_stream *s);

#endif
