/* SPDX-License-Identifier: MIT */
/* TLS 1.3 over any stream, with OpenSSL (library keel-tls).
 *
 * OpenSSL never waits: its bytes go through an own BIO over buffers of 256 KiB
 * that are lent to a session for a burst and given back, and the wait is
 * outside.  An idle session holds no buffer.  A config is shared by any number
 * of sessions and threads; a session belongs to one loop. */
#ifndef KEEL_TLS_H
#define KEEL_TLS_H

#include <keel/stream.h>

struct keel_tls_config;

/* SHA-256 of the certificate's SubjectPublicKeyInfo (RFC 7469 2.4). */
struct keel_tls_pin {
    uint8_t sha256[32];
};

struct keel_tls_options {
    /* A server's key and chain, PEM, as file contents. */
    const char *key_pem, *chain_pem;
    /* A client's trust: exactly one.  `pin`: the key and nothing else counts.
     * `ca_pem` (file contents; "" = the system's): chain and name are verified.
     * `any`: accept all; read the pin afterwards and decide. */
    const struct keel_tls_pin *pin;
    const char *ca_pem;
    bool any;
    const char *alpn; /* one protocol name, or NULL; a mismatch is refused */
};

KEEL_API int keel_tls_config_new(const struct keel_tls_options *o,
                                 struct keel_tls_config **ret);
KEEL_API void keel_tls_config_free(struct keel_tls_config *c);
/* A fresh P-256 key and a self-signed certificate for it, valid 100 years, as
 * PEM strings (keel_free; wipe the key). */
KEEL_API int keel_tls_key_new(const char *common_name, char **ret_key_pem,
                              char **ret_chain_pem);

/* Hand shakes over `below`; on success the new stream owns it, on error it is
 * still the caller's.  `server_name` is for SNI and for verifying (may be
 * NULL with pin or any).
 * -EPROTO      not TLS, or not 1.3; keel_tls_error says
 * -EACCES      the peer's key or chain is not trusted
 * -ETIMEDOUT   not done by the deadline */
KEEL_API int keel_tls_accept(struct keel_tls_config *c,
                             struct keel_stream *below, keel_ns deadline,
                             struct keel_stream **ret);
KEEL_API int keel_tls_connect(struct keel_tls_config *c,
                              struct keel_stream *below,
                              const char *server_name, keel_ns deadline,
                              struct keel_stream **ret);

/* Of the peer of a finished handshake. */
KEEL_API int keel_tls_peer_pin(struct keel_stream *s, struct keel_tls_pin *ret);
/* Of a server's own config, for showing and for invites. */
KEEL_API int keel_tls_own_pin(struct keel_tls_config *c,
                              struct keel_tls_pin *ret);
/* Keying material of RFC 9266 (label EXPORTER-Channel-Binding, empty context
 * present, 32 bytes): binds a login to this connection.  -ENOTSUP when the
 * stream is not TLS. */
KEEL_API int keel_tls_exporter(struct keel_stream *s, uint8_t ret[32]);
/* Words for the last failed handshake of this thread; lent. */
KEEL_API const char *keel_tls_error(void);
/* "TLS_AES_128_GCM_SHA256"; NULL when not TLS. */
KEEL_API const char *keel_tls_cipher(struct keel_stream *s);
KEEL_AUTO(tls_config, struct keel_tls_config *, keel_tls_config_free)

#endif
