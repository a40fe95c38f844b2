/* SPDX-License-Identifier: MIT */
/* Inside keel-tls: a session, and the moves its handshake shares with the
 * stream it becomes. */
#ifndef KEEL_TLS_SESSION_H
#define KEEL_TLS_SESSION_H

#include <keel/lock.h>

#include "tls_inside.h"

enum { TLS_OWED = 256 };

struct tls_words {
    char text[160];
};

/* Invariants between calls of OpenSSL:
 *   in_at <= in_bytes; those between are received and not yet decrypted
 *   sent <= out_bytes; those between must leave before anything newer
 *   out_bytes > 0 only while `out` is lent, owed_bytes > 0 only while not
 *   who fills or flushes `out` holds `sending`; a reader only appends
 *   one coroutine at a time receives (`receiving`); others wait for `received`
 * read_end is 1 while reading may go on, then 0 (orderly end) or an error;
 * write_end is 0 while writing may go on, then an error. */
struct tls_session {
    struct keel_stream stream;
    struct keel_stream *below;
    struct keel_tls_config *config; /* held */
    SSL *ssl;
    char *name;       /* under which its tickets are kept; NULL: they are not */
    unsigned tickets; /* that came since the last byte of data */

    struct tls_buffer *in;  /* NULL between bursts */
    const uint8_t *in_from; /* in->bytes or first */
    size_t in_at, in_bytes;
    uint8_t first[64]; /* what ends a wait where no descriptor can be polled */
    bool receiving;
    bool starved; /* OpenSSL asked for input while its reply had no room */
    struct keel_event received;

    struct keel_lock sending;
    struct tls_buffer *out; /* NULL between bursts */
    size_t out_bytes, sent;
    uint8_t owed[TLS_OWED];
    size_t owed_bytes;
    uint64_t records; /* sealed with the present key */

    int read_end, write_end;
    bool finished; /* the closing alert is sealed */
};

/* Borrows `below`. */
int tls_session_new(struct keel_tls_config *c, struct keel_stream *below,
                    struct tls_session **ret);
/* Of an SSL that tls_session_new made. */
struct tls_session *tls_session_of(SSL *ssl);
/* Leaves `below` to the caller. */
void tls_session_free(struct tls_session *t);
KEEL_AUTO(tls_session, struct tls_session *, tls_session_free)

/* A client's: a session with that server (NULL: the only one) is offered if
 * there is one, and what comes is kept. */
int tls_session_offer(struct tls_session *t, const char *name);
/* After a fatal alert, ours or theirs: what is kept of that server goes (RFC
 * 8446 6.2). */
void tls_session_distrust(struct tls_session *t);
/* What OpenSSL's error `e` means, with words for it.  `judged`: the peer's
 * certificate has been found wanting for that reason. */
int tls_refusal(unsigned long e, const struct keel_tls_config *c, long judged,
                struct tls_words *ret);

/* Makes sure that `out` is lent, with what was owed at its front. */
int tls_out_lend(struct tls_session *t);
void tls_out_return(struct tls_session *t);
/* Sends all that is sealed, with what readers append meanwhile.  Under
 * `sending`, or in the handshake. */
int tls_flush(struct tls_session *t, keel_ns deadline);
/* More input for OpenSSL, or somebody else has looked for it meanwhile: in
 * both cases 0, and the caller asks OpenSSL again. */
int tls_fill(struct tls_session *t, keel_ns deadline);
/* Gives `in` back if nothing is left in it. */
void tls_in_return(struct tls_session *t);

#endif
