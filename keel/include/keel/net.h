/* SPDX-License-Identifier: MIT */
/* TCP and Unix sockets by name.
 *
 * An address is "HOST:PORT", "[V6]:PORT" or "unix:PATH".  Names are resolved on
 * the blocking pool; dialling tries the addresses after RFC 8305 (Happy
 * Eyeballs: v6 and v4 in turn, 250 ms apart, the first that answers wins). */
#ifndef KEEL_NET_H
#define KEEL_NET_H

#include <keel/address.h>
#include <keel/stream.h>

struct keel_listener;

/* TCP_NODELAY and keep-alive are on; a machine that vanished is noticed after
 * two minutes.  Looking a name up in a plain thread ends when the resolver
 * says so, not by the deadline; there the addresses are tried in turn, each
 * with its share of the time.
 * -EINVAL        the address cannot be read
 * -ENAMETOOLONG  a unix path of 108 bytes or more
 * -ENOENT        the name has no address, or the unix path does not exist
 * -EAGAIN        the name server does not answer
 * -ECONNREFUSED  and others of connect(2): of the last address tried */
KEEL_API int keel_dial(const char *address, keel_ns deadline,
                       struct keel_stream **ret);

/* The addresses of "HOST:PORT", with the port, families in turn, in the order
 * to try them: at most `room`, and KEEL_RESOLVE_MOST.  Returns how many.
 * Errors as keel_dial; a unix path has none: -EINVAL */
enum { KEEL_RESOLVE_MOST = 16 };
KEEL_API int keel_resolve(const char *address, keel_ns deadline,
                          struct keel_address *ret, size_t room);

/* SO_REUSEADDR is on; "[::]:PORT" serves both families; port 0 lets the kernel
 * choose.  A name's first address is taken.  A unix socket left by a dead
 * listener is replaced; it has mode 0600 and is removed at close. */
KEEL_API int keel_listen(const char *address, struct keel_listener **ret);
/* Takes a listening descriptor, as from a service manager. */
KEEL_API int keel_listener_adopt(int fd, struct keel_listener **ret);
/* Accepting coroutines of this loop, and threads, get -EBADF. */
KEEL_API void keel_listener_close(struct keel_listener *l);
/* Printable, with the real port; lent. */
KEEL_API const char *keel_listener_address(const struct keel_listener *l);
/* -EMFILE and the like: wait a moment and try again; the listener is sound. */
KEEL_API int keel_accept(struct keel_listener *l, keel_ns deadline,
                         struct keel_stream **ret);
/* A connected socket as a stream; takes the descriptor on success. */
KEEL_API int keel_stream_from_fd(int fd, struct keel_stream **ret);
/* The other end, printable; a v4 peer of a v6 socket as v4.  -ENOTSOCK when
 * there is no socket below. */
KEEL_API int keel_stream_peer(struct keel_stream *s,
                              char ret[KEEL_ADDRESS_BYTES]);
/* Who connected to a unix socket (SO_PEERCRED).  -EINVAL: not a unix socket */
KEEL_API int keel_stream_peer_user(struct keel_stream *s, uid_t *ret);
KEEL_AUTO(listener, struct keel_listener *, keel_listener_close)

#endif
