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
/* Writes `data`, with copies of `fds` at its first byte; the caller's stay.
 * The other side must read that byte by keel_stream_recv_fds.
 * -EINVAL   not a unix socket, or no bytes
 * -E2BIG    more than KEEL_FDS_MOST (io.h)
 * -EBADF    one of them is none; others as keel_stream_write */
KEEL_API int keel_stream_send_fds(struct keel_stream *s, const void *data,
                                  size_t size, const int *fds, size_t count,
                                  keel_ns deadline);
/* Exactly `size` bytes, and the descriptors that came with them: at most
 * `room`, the caller's, close-on-exec.  On an error all are closed.  Nothing
 * of the message may be in a keel_reader's buffer.
 * -ENODATA        the stream ended before the first byte
 * -ECONNABORTED   it ended inside
 * -E2BIG, -EMFILE  as keel_fd_recv_fds; the stream is of no more use
 * -EINVAL         not a unix socket, or no bytes */
KEEL_API int keel_stream_recv_fds(struct keel_stream *s, void *buf, size_t size,
                                  int *ret_fds, size_t room, keel_ns deadline,
                                  size_t *ret_count);

/* What keel_dial and keel_accept set, changed: small writes wait to be joined
 * (off), or go at once (on). */
KEEL_API int keel_stream_nodelay(struct keel_stream *s, bool on);
/* After `silence` (whole seconds, at least one) the peer is asked whether it is
 * there, four times a quarter of that apart, then reads say -ETIMEDOUT;
 * KEEL_FOREVER asks nobody.  Both: -ENOTSOCK, -EOPNOTSUPP (no TCP) */
KEEL_API int keel_stream_keepalive(struct keel_stream *s, keel_ns silence);
KEEL_AUTO(listener, struct keel_listener *, keel_listener_close)

#endif
