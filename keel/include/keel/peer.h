/* SPDX-License-Identifier: MIT */
/* Is the other end one of ours?  Challenge and response with a shared key, over
 * any stream (library keel-tls, for OpenSSL's HMAC-SHA-256).
 *
 *     who accepted: keel_peer_challenge        who dialled: keel_peer_answer
 *
 *       "KPC1"  S, a fresh nonce of 32 bytes        ->           36 bytes
 *     <-  "KPA1"  C, likewise; MAC("answer")                     68 bytes
 *       "KPW1"  MAC("welcome")                      ->           36 bytes
 *    or "KPN1"  32 zeros: refused
 *
 *     MAC(role) = HMAC-SHA-256(secret, role in 16 bytes, zero-padded
 *                                      | S | C | context)
 *
 * Both ends have proven the key when both calls have returned 0.  The role keeps
 * a message from being sent back to who made it, the two nonces keep one of
 * another conversation from being used again, and both are as fresh as one's
 * own nonce.  Who accepted shows nothing that depends on the key before the
 * other has proven it: a wrong key costs one round trip and one HMAC.  Every
 * message has one length, so nothing is read that is not in the drawing.
 *
 * This proves who is there, not that nobody is in between who passes the
 * messages on and then reads or changes what follows.  On TLS, `context` binds
 * the proof to the connection; on a network without TLS what follows is as open
 * as it was. */
#ifndef KEEL_PEER_H
#define KEEL_PEER_H

#include <keel/stream.h>

enum {
    KEEL_PEER_SECRET_LEAST = 16, /* bytes, */
    KEEL_PEER_SECRET_MOST = 1024,
    KEEL_PEER_CONTEXT_MOST = 256
};

struct keel_peer_key {
    /* Random bytes, 32 of them for choice; no password: who sees or leads a
     * conversation can try words against it at leisure. */
    const void *secret;
    size_t secret_size;
    /* What both ends know of this connection alone, as keel_tls_exporter's 32
     * bytes; none: 0. */
    const void *context;
    size_t context_size;
};

/* Proves each to the other; the caller accepted the stream.  On an error the
 * stream is of no more use.
 * -EACCES        the peer does not have the key (or the context); it was told,
 *                as far as that could be done without waiting
 * -EPROTO        that was no answer
 * -ECONNABORTED  the peer closed in the middle
 * -EINVAL        the key is beyond the limits
 * -ENOMEM, -ETIMEDOUT, -ECANCELED, and what the stream says */
KEEL_API int keel_peer_challenge(struct keel_stream *s,
                                 const struct keel_peer_key *key,
                                 keel_ns deadline);
/* The same for who dialled.
 * -EACCES  it refused us, or does not have the key itself
 * -EPROTO  it speaks something else; the others as above */
KEEL_API int keel_peer_answer(struct keel_stream *s,
                              const struct keel_peer_key *key,
                              keel_ns deadline);

#endif
