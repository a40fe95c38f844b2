/* SPDX-License-Identifier: MIT */
/* Datagrams as connections, for handlers that know streams alone. */
#ifndef KEEL_SERVER_DATAGRAM_H
#define KEEL_SERVER_DATAGRAM_H

#include <netinet/in.h>
#include <sys/socket.h>

#include <keel/net.h>

enum { DATAGRAM_MOST = 65535 };

/* Where one came from. */
struct datagram_from {
    union {
        struct sockaddr any;
        struct sockaddr_in v4;
        struct sockaddr_in6 v6;
    } addr;
    socklen_t size;
};

/* Binds "HOST:PORT" and returns the descriptor, with its printable address.
 * Errors of keel_listen. */
int datagram_bind(const char *address, char ret_address[KEEL_ADDRESS_BYTES]);
/* Waits for one; returns its size. */
ssize_t datagram_receive(int port, void *buf, size_t size, keel_ns deadline,
                         struct datagram_from *ret_from);
void datagram_print(const struct datagram_from *from,
                    char ret[KEEL_ADDRESS_BYTES]);

/* A stream that gives the `size` bytes, which are copied, then ends; what is
 * written is sent by finish, once and in one piece.  Borrows the port. */
int datagram_new(int port, const struct datagram_from *from, const void *bytes,
                 size_t size, struct keel_stream **ret);
bool is_datagram(const struct keel_stream *s);
/* All of it, for passing it on; lent. */
const void *datagram_bytes(const struct keel_stream *s, size_t *ret_size,
                           int *ret_port, struct datagram_from *ret_from);

#endif
