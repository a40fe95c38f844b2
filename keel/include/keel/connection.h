/* SPDX-License-Identifier: MIT */
/* Messages between processes that have a key in common, wherever they run: over
 * TCP or a Unix socket (library keel-tls).
 *
 * Both ends prove the key before the first message (peer.h).  A listener does
 * that by itself, on a thread of its own, with 10 s for each newcomer and for
 * up to 1,000 of them at once: who connects and says nothing, or has another
 * key, never holds up keel_connection_accept.
 *
 * Messages are frames (frame.h): a length of 4 bytes, big-endian, and that many
 * bytes.  They are neither encrypted nor signed.  One may put while another
 * gets; both belong to one loop, or are threads. */
#ifndef KEEL_CONNECTION_H
#define KEEL_CONNECTION_H

#include <keel/net.h>
#include <keel/peer.h>

struct keel_connection;
struct keel_connection_listener;

/* ---- either end ----------------------------------------------------------------- */

/* Dials and proves.  Errors of keel_dial and keel_peer_answer. */
KEEL_API int keel_connection_dial(const char *address,
                                  const struct keel_peer_key *key,
                                  keel_ns deadline,
                                  struct keel_connection **ret);
/* Lets go at once; accepts NULL. */
KEEL_API void keel_connection_close(struct keel_connection *c);
/* The stream below, lent, for keel_stream_peer and the like. */
KEEL_API struct keel_stream *keel_connection_stream(struct keel_connection *c);

/* Sends a message of any size below 4 GiB, also 0.
 * -ETIMEDOUT, -ECANCELED  part of it may have left: the connection cannot put
 *                         any more (-EPIPE), but get
 * -EPIPE, -ECONNRESET     the peer is gone
 * -EMSGSIZE               too long; nothing was sent */
KEEL_API int keel_connection_put(struct keel_connection *c, const void *data,
                                 size_t size, keel_ns deadline);
/* The next message, of at most `max_bytes`, in fresh memory (keel_free).
 * Returns its size.  The length is compared before memory is taken.
 * -ENODATA       the peer has closed, after a whole message
 * -ECONNABORTED  it closed in the middle of one
 * -EMSGSIZE      it is longer; it stays, and can be asked for with more room
 * -ENOMEM        likewise
 * -ETIMEDOUT, -ECANCELED  nothing is lost: what came is kept for the next get
 */
KEEL_API ssize_t keel_connection_get(struct keel_connection *c,
                                     size_t max_bytes, void **ret,
                                     keel_ns deadline);
KEEL_AUTO(connection, struct keel_connection *, keel_connection_close)

/* ---- who waits for others ------------------------------------------------------- */

/* The key is copied; it has no context.  Errors of keel_listen,
 * keel_loop_start, keel_server_new; -EINVAL: the key is beyond the limits. */
KEEL_API int keel_connection_listen(const char *address,
                                    const struct keel_peer_key *key,
                                    struct keel_connection_listener **ret);
/* Ends its thread.  Nobody may be waiting in accept: cancel them first.
 * Connections that were not accepted are closed. */
KEEL_API void
keel_connection_listener_close(struct keel_connection_listener *l);
/* Printable, with the real port; lent. */
KEEL_API const char *
keel_connection_listener_address(const struct keel_connection_listener *l);
/* The next that has proven the key, in order of proving.
 * -ENOMEM  that one is lost
 * -ETIMEDOUT, -ECANCELED */
KEEL_API int keel_connection_accept(struct keel_connection_listener *l,
                                    keel_ns deadline,
                                    struct keel_connection **ret);
/* How many came and did not prove it. */
KEEL_API uint64_t keel_connection_refused(struct keel_connection_listener *l);
KEEL_AUTO(connection_listener, struct keel_connection_listener *,
          keel_connection_listener_close)

#endif
