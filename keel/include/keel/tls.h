/* SPDX-License-Identifier: MIT */
/* TLS 1.3 over any stream, with OpenSSL (library keel-tls).
 *
 * OpenSSL never waits: its bytes go through an own BIO over buffers of 256 KiB
 * that are lent to a session for a burst and given back, and the wait is
 * outside.  An idle session holds no buffer.  A config is shared by any number
 * of sessions and threads; a session belongs to one loop.
 *
 * A TLS stream is a struct keel_stream with these habits:
 *   read that timed out or was cancelled has lost nothing: read again
 *   write whose deadline passed or that was cancelled makes the stream
 *     unusable, as part of a record may have left: later writes return -EPIPE,
 *     reads -ECONNABORTED.  When the peer is gone (-EPIPE, -ECONNRESET), what
 *     it said before can still be read
 *   finish sends the closing alert; the socket below stays open both ways
 *   a stream cut without that alert reads -ECONNABORTED, never 0
 *   -EPROTO: the peer broke the protocol, or sent a fatal alert
 * Keys are renewed by either side at work, every 32 GiB.  There are no session
 * tickets. */
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

/* -EINVAL  the options do not fit each other, or a text is not PEM of that
 *          kind, or the key is not the chain's; keel_tls_error says */
KEEL_API int keel_tls_config_new(const struct keel_tls_options *o,
                                 struct keel_tls_config **ret);
/* At any time: handshakes under way and sessions keep what they need. */
KEEL_API void keel_tls_config_free(struct keel_tls_config *c);
/* A fresh P-256 key and a self-signed certificate for it, valid 100 years, as
 * PEM strings (keel_free; wipe the key).  The name, 1 to 64 bytes, is also the
 * certificate's DNS name or address where it can be one. */
KEEL_API int keel_tls_key_new(const char *common_name, char **ret_key_pem,
                              char **ret_chain_pem);

/* Hand shakes over `below`; on success the new stream owns it, on error it is
 * still the caller's.  `server_name` is for SNI and for verifying (may be
 * NULL with pin or any).
 * -EPROTO      not TLS, or not 1.3, or the peer refused; keel_tls_error says
 * -EACCES      the peer's key or chain is not trusted
 * -ETIMEDOUT   not done by the deadline
 * -ECONNABORTED  the peer closed in the middle
 * -EINVAL      a server without a key, a client without trust, or with ca_pem
 *              and no name */
KEEL_API int keel_tls_accept(struct keel_tls_config *c,
                             struct keel_stream *below, keel_ns deadline,
                             struct keel_stream **ret);
KEEL_API int keel_tls_connect(struct keel_tls_config *c,
                              struct keel_stream *below,
                              const char *server_name, keel_ns deadline,
                              struct keel_stream **ret);

/* Of the peer of a finished handshake; -ENOENT: it showed no certificate, as
 * clients do not. */
KEEL_API int keel_tls_peer_pin(struct keel_stream *s, struct keel_tls_pin *ret);
/* Of a server's own config, for showing and for invites. */
KEEL_API int keel_tls_own_pin(struct keel_tls_config *c,
                              struct keel_tls_pin *ret);
/* Keying material of RFC 9266 (label EXPORTER-Channel-Binding, empty context
 * present, 32 bytes): binds a login to this connection.  -ENOTSUP when the
 * stream is not TLS. */
KEEL_API int keel_tls_exporter(struct keel_stream *s, uint8_t ret[32]);
/* Words for the last handshake or config that failed on this thread, for the
 * user; lent until the next wait. */
KEEL_API const char *keel_tls_error(void);
/* "TLS_AES_128_GCM_SHA256"; NULL when not TLS. */
KEEL_API const char *keel_tls_cipher(struct keel_stream *s);
KEEL_AUTO(tls_config, struct keel_tls_config *, keel_tls_config_free)

#endif
