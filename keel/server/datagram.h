/* SPDX-License-Identifier: MIT */
/* Datagrams as connections, for handlers that know streams alone. */
#ifndef KEEL_SERVER_DATAGRAM_H
#define KEEL_SERVER_DATAGRAM_H

#include <keel/stream.h>
#include <keel/udp.h>

enum { DATAGRAM_MOST = 65535 };

/* A stream that gives the `size` bytes, which are copied, then ends; what is
 * written is sent by finish, once and in one piece.  Borrows the socket. */
int datagram_new(struct keel_udp *udp, const struct keel_address *from,
                 const void *bytes, size_t size, struct keel_stream **ret);
bool is_datagram(const struct keel_stream *s);
/* All of it, for passing it on; lent. */
const void *datagram_bytes(const struct keel_stream *s, size_t *ret_size,
                           struct keel_udp **ret_udp,
                           struct keel_address *ret_from);

#endif
