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
 *   -EACCES, of a client's read: the server did not take the certificate, or
 *     wants one.  A client's handshake is done before the server has judged,
 *     so that comes with the first read (after a write that returned -EPIPE or
 *     -ECONNRESET, too); keel_tls_error has words for all three
 * Keys are renewed by either side at work, every 32 GiB.
 *
 * What a peer can make us keep or work on is bounded: 32 KiB of certificates,
 * 8 of them between its own and the root, names of 255 bytes, 64 tickets in a
 * row without a byte of data (then -EPROTO), and of those kept the newest 8 of
 * at most 16 KiB.
 *
 * Sessions are resumed (RFC 8446 2.2) where both configs say so: the server
 * gives `tickets`, the client keeps them by the server's name, and a later
 * handshake needs no certificates and no signatures.  That saves a client half
 * of its time (550 us of a processor became 290) and a server with an RSA key
 * as much, one with P-256 nothing; round trips are as many.  Keys are agreed
 * anew, so forward secrecy stays.  Each ticket is offered once
 * (RFC 8446 C.4): nobody can tell by it that two connections are of one
 * client.  A refused ticket costs nothing but a full handshake.  There is no
 * early data.  Tickets are sealed with a key of the config's own that changes
 * every `ticket_life` and opens for one more; they go with their config.
 * Where chains are verified, a session ends with the peer's certificate; after
 * a fatal alert what is kept of that server is forgotten.
 * Tickets lie in front of the server's first bytes: a client has them after
 * its first read, and one that closes without ever reading may find, as with
 * any bytes unread, that TCP resets the connection over its last ones. */
#ifndef KEEL_TLS_H
#define KEEL_TLS_H

#include <keel/stream.h>

#define KEEL_TLS_PINS_MOST 64
#define KEEL_TLS_IDENTITIES_MOST 64
#define KEEL_TLS_TICKETS_MOST 8
#define KEEL_TLS_SESSIONS_MOST 256
#define KEEL_TLS_TICKET_LIFE (2 * 3600 * KEEL_SECOND)

struct keel_tls_config;

/* SHA-256 of the certificate's SubjectPublicKeyInfo (RFC 7469 2.4). */
struct keel_tls_pin {
    uint8_t sha256[32];
};

/* A private key and its chain, the certificate of that key first: PEM texts, or
 * files that hold them, each of at most 1 MiB. */
struct keel_tls_identity {
    const char *key_pem, *chain_pem;
    const char *key_file, *chain_file;
};

/* What a server wants of its clients. */
enum keel_tls_clients {
    KEEL_TLS_CLIENTS_ANY,     /* asks for no certificate */
    KEEL_TLS_CLIENTS_ASK,     /* may show none, but not a wrong one */
    KEEL_TLS_CLIENTS_REQUIRE, /* no certificate, no connection */
};

struct keel_tls_options {
    /* Who we are: a server's key and chain, or a client's to show to servers
     * that ask.  Texts (PEM, as file contents) or files, as above. */
    const char *key_pem, *chain_pem;
    /* Who is trusted: at most one.  A client needs it, and a server that asks
     * for certificates.
     * `pin`: these keys and nothing else count, `pin_count` of them (0: one).
     * `ca_pem` (file contents; "" = the system's) or `ca_file`: the chain is
     *   verified, and a server's name.
     * `any`: accept all; look at the certificate afterwards and decide. */
    const struct keel_tls_pin *pin;
    const char *ca_pem;
    bool any;
    const char *alpn; /* one protocol name, or NULL; a mismatch is refused */

    const char *key_file, *chain_file, *ca_file;
    size_t pin_count;
    enum keel_tls_clients clients;
    /* A server of several names (SNI): the first identity, that above being
     * number one, whose certificate is for the name that the client asks for;
     * none: the one above. */
    const struct keel_tls_identity *more;
    size_t more_count;
    /* A server: tickets for each client that had none, up to 8; who resumed
     * gets one.  As many as a client will open connections at once.  0: nobody
     * resumes.  They are good for `ticket_life`, a second to 7 days; 0: two
     * hours. */
    unsigned tickets;
    keel_ns ticket_life;
    /* A client: of so many servers sessions are kept, up to 256, those used
     * last; told apart by `server_name`.  0: none.  Under `any`, not of a
     * server without a name: who knows who that is. */
    unsigned sessions;
};

/* -EINVAL  the options do not fit each other, or a text is not PEM of that
 *          kind, or the key is not the chain's; keel_tls_error says
 * -EFBIG   a file is larger than 1 MiB
 * and what opening and reading a file can fail with */
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
 * -EACCES      the peer's key or chain is not trusted, or it showed none though
 *              that was required
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

/* Of the peer of a finished handshake, also of a resumed session.
 * -ENOENT   it showed no certificate, as clients do not unless asked
 * -ENOTSUP  the stream is not TLS */
KEEL_API int keel_tls_peer_pin(struct keel_stream *s, struct keel_tls_pin *ret);

struct keel_tls_certificate {
    struct keel_tls_pin pin; /* of its key */
    uint8_t sha256[32];      /* of all of it: the fingerprint browsers show */
    int64_t not_before, not_after; /* seconds since 1970-01-01 UTC */
    /* "CN=ada,O=Example" (RFC 2253: the last part first), printable ASCII:
     * other bytes are escaped.  Under `any` and `pin` nobody but the peer
     * vouches for it. */
    char subject[512];
};
/* As keel_tls_peer_pin.  -EMSGSIZE: the subject is longer than that. */
KEEL_API int keel_tls_peer_certificate(struct keel_stream *s,
                                       struct keel_tls_certificate *ret);
/* Of a server's own config (the first identity), for showing and for
 * invites. */
KEEL_API int keel_tls_own_pin(struct keel_tls_config *c,
                              struct keel_tls_pin *ret);
/* The session was resumed: nobody showed a certificate now. */
KEEL_API bool keel_tls_resumed(struct keel_stream *s);
/* The name that the client asked for (SNI), at a server; NULL: none, or not
 * TLS.  Lent until the stream is closed. */
KEEL_API const char *keel_tls_server_name(struct keel_stream *s);
/* Keying material of RFC 9266 (label EXPORTER-Channel-Binding, empty context
 * present, 32 bytes): binds a login to this connection, a resumed one too.
 * -ENOTSUP when the stream is not TLS. */
KEEL_API int keel_tls_exporter(struct keel_stream *s, uint8_t ret[32]);
/* The same for a use of your own (RFC 8446 7.5): up to 255 * 32 bytes under a
 * label of 1 to 249 bytes.  -EINVAL: other sizes. */
KEEL_API int keel_tls_export(struct keel_stream *s, const char *label,
                             const void *context, size_t context_size,
                             void *ret, size_t size);
/* Words for the last handshake, config or read that failed on this thread over
 * TLS, for the user; lent until the next wait. */
KEEL_API const char *keel_tls_error(void);
/* "TLS_AES_128_GCM_SHA256"; NULL when not TLS. */
KEEL_API const char *keel_tls_cipher(struct keel_stream *s);
KEEL_AUTO(tls_config, struct keel_tls_config *, keel_tls_config_free)

#endif
