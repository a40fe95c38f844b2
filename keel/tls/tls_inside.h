/* SPDX-License-Identifier: MIT */
/* Inside keel-tls: lent buffers, the config as a session sees it, and what the
 * tests look at. */
#ifndef KEEL_TLS_INSIDE_H
#define KEEL_TLS_INSIDE_H

#include <pthread.h>
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
    /* Of a peer: its certificates, and those above its own in the chain. */
    TLS_CERTS_MOST = 32 * 1024,
    TLS_DEPTH_MOST = 8,
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

/* A key, its certificate, and the chain above that. */
struct tls_identity {
    X509 *leaf;
    EVP_PKEY *key;
    STACK_OF(X509) * chain; /* NULL: nothing above */
};

struct tls_tickets;
struct tls_store;

/* Never changed once made, but for tickets and store, which have locks.  The
 * owner and each session count as references: a reload may free it at any
 * time. */
struct keel_tls_config {
    atomic_uint refs;
    SSL_CTX *ctx;
    struct tls_identity *identities; /* `identity_count`, the first one ours */
    size_t identity_count;
    struct keel_tls_pin own; /* of the first */
    enum tls_trust trust;
    struct keel_tls_pin *pins; /* TRUST_PIN: `pin_count` of them */
    size_t pin_count;
    enum keel_tls_clients clients;
    struct tls_tickets *tickets; /* NULL: a server that gives none */
    struct tls_store *store;     /* NULL: a client that keeps none */
    uint8_t alpn[1 + 255];       /* length and name, as on the wire */
    size_t alpn_bytes;           /* 0: none wanted */
};

/* Adds a reference, which keel_tls_config_free drops; returns `c`. */
struct keel_tls_config *tls_config_hold(struct keel_tls_config *c);

/* ---- its parts --------------------------------------------------------------- */
/* Each leaves to keel_tls_config_free what it had when it failed, and words. */
int tls_identities_init(struct keel_tls_config *c,
                        const struct keel_tls_options *o);
void tls_identities_free(struct keel_tls_config *c);
int tls_trust_init(struct keel_tls_config *c, const struct keel_tls_options *o);
int tls_resume_init(struct keel_tls_config *c,
                    const struct keel_tls_options *o);
void tls_resume_free(struct keel_tls_config *c);

/* A copy of `pem` or what is in `file`: one of them is given. */
int tls_text_load(const char *pem, const char *file, char **ret);
/* Wipes it. */
void tls_text_free(char *text);
KEEL_AUTO(text, char *, tls_text_free)
/* Calls `each` with the certificates of a text; a negative value ends that.
 * Returns how many there were; -EINVAL: and then one that cannot be read. */
int tls_certs_read(const char *pem, int (*each)(X509 *cert, void *arg),
                   void *arg);

int tls_cert_pin(X509 *cert, struct keel_tls_pin *ret);
/* By the date of keel's clock. */
bool tls_cert_is_over(const X509 *cert);

/* What keel_tls_error says next on this thread: the words, or with NULL those
 * of OpenSSL's oldest queued error. */
void tls_error_set(const char *words);

/* NULL: the stream is not TLS. */
SSL *tls_ssl_of(struct keel_stream *s);

/* ---- for tests -------------------------------------------------------------- */
/* Records sealed with one key before the next is asked for. */
extern uint64_t tls_key_records;

#endif
