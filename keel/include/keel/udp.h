/* SPDX-License-Identifier: MIT */
/* Datagrams: UDP to one, to a group (multicast), to all on a network
 * (broadcast).
 *
 * A datagram arrives whole, twice or not at all, and in any order; keel adds
 * nothing to that.  What is too long for the receiver's buffer is an error
 * there, never a short datagram.
 *
 *     one to one      keel_udp_dial on one side, open on the other
 *     one to many     the receivers open with KEEL_UDP_SHARED and join a group
 *     many to many    everybody does both; or keel_udp_broadcast
 *
 * One coroutine may receive while another sends; both belong to one loop. */
#ifndef KEEL_UDP_H
#define KEEL_UDP_H

#include <keel/address.h>

struct keel_udp;

/* What fits into a datagram of v4; what is longer than a path's packets, 1,232
 * bytes to be sure, travels in pieces and is lost with the first of them. */
enum { KEEL_UDP_BYTES_MOST = 65507 };

enum {
    /* Several sockets of this machine share the port: each gets the group's
     * and the broadcast datagrams; one to a single host goes to one of them. */
    KEEL_UDP_SHARED = 1,
};

/* Receives at "HOST:PORT", "[V6]:PORT"; "[::]:PORT" serves both families, and
 * v4 alone where there is no v6; port 0 lets the kernel choose.  A name's first
 * address is taken.
 * -EADDRINUSE  somebody has the port, and not both say KEEL_UDP_SHARED
 * and keel_resolve's */
KEEL_API int keel_udp_open(const char *local, unsigned flags,
                           struct keel_udp **ret);
/* Takes a bound socket for datagrams, as from a service manager or another
 * process, on success.  -EINVAL: it is another kind of socket; -EBADF, -ENOMEM
 */
KEEL_API int keel_udp_adopt(int fd, struct keel_udp **ret);
/* A socket of any port that talks to one address: the first of the name's that
 * can be reached from here (nobody is asked whether they listen).  Errors are
 * keel_resolve's and connect(2)'s. */
KEEL_API int keel_udp_dial(const char *address, keel_ns deadline,
                           struct keel_udp **ret);
/* Who waits on it, of this loop or in a thread, gets -EBADF; accepts NULL. */
KEEL_API void keel_udp_close(struct keel_udp *u);
/* Its own address, with the real port. */
KEEL_API int keel_udp_local(struct keel_udp *u, struct keel_address *ret);
KEEL_API int keel_udp_fd(const struct keel_udp *u); /* lent */

/* From now on sends go to `to`, and only what comes from there is received;
 * NULL ends that, and the port stays.  -EAFNOSUPPORT: v6 on a v4 socket */
KEEL_API int keel_udp_connect(struct keel_udp *u,
                              const struct keel_address *to);

/* ---- talking ------------------------------------------------------------- */

/* One datagram, 0 bytes too; 0 when the kernel has it.
 * -EDESTADDRREQ   keel_udp_send: it is not connected
 * -EMSGSIZE       longer than KEEL_UDP_BYTES_MOST, or than the way allows
 * -EACCES         to a broadcast address without keel_udp_broadcast
 * -EAFNOSUPPORT   v6 on a v4 socket
 * -ECONNREFUSED   connected: nobody listens there, as told of an earlier one
 * -ENETUNREACH, -EHOSTUNREACH   no way there
 * -ETIMEDOUT, -ECANCELED        not sent */
KEEL_API int keel_udp_send(struct keel_udp *u, const void *data, size_t size,
                           keel_ns deadline);
KEEL_API int keel_udp_send_to(struct keel_udp *u, const struct keel_address *to,
                              const void *data, size_t size, keel_ns deadline);

/* Of a datagram that was received. */
struct keel_datagram {
    struct keel_address from; /* v4 also on a socket for both families */
    struct keel_address to;   /* host, group or broadcast; its port is ours */
    unsigned interface;       /* index of the one that it came in by */
    size_t size;              /* as it was sent */
};
/* One datagram; returns its size, which may be 0.  `ret` may be NULL.
 * -EMSGSIZE       it was longer than `room`: the first `room` bytes are in
 *                 `buf`, the rest is lost; *ret is written and has the size
 * -ECONNREFUSED   connected: nobody listens there
 * -ETIMEDOUT, -ECANCELED, -EBADF (closed) */
KEEL_API ssize_t keel_udp_recv(struct keel_udp *u, void *buf, size_t room,
                               keel_ns deadline, struct keel_datagram *ret);

/* ---- groups and broadcast ------------------------------------------------ */

/* Receives what is sent to `group` on the interface (its index; 0: the group's
 * zone, else the route's).  A socket gets the groups it joined, not those of
 * others on this machine.
 * -EINVAL         that is no multicast address
 * -ENODEV         no such interface, or no route to choose one by
 * -EADDRINUSE     joined already
 * -EADDRNOTAVAIL  leave: it was not joined
 * -EAFNOSUPPORT   a v6 group on a v4 socket
 * -ENOBUFS        more groups than the system allows */
KEEL_API int keel_udp_join(struct keel_udp *u, const struct keel_address *group,
                           unsigned interface);
KEEL_API int keel_udp_leave(struct keel_udp *u,
                            const struct keel_address *group,
                            unsigned interface);
/* How what is sent to groups leaves: by which interface (0: the route's); over
 * how many routers (0 to 255, counting this machine; 1 unless said); whether
 * members on this machine get it too (yes unless said; what leaves by the
 * loopback interface comes back in any case, and v6 has no way out by it).
 * -EINVAL  more than 255 hops; -ENODEV */
KEEL_API int keel_udp_multicast_by(struct keel_udp *u, unsigned interface);
KEEL_API int keel_udp_multicast_ttl(struct keel_udp *u, unsigned hops);
KEEL_API int keel_udp_multicast_loop(struct keel_udp *u, bool on);
/* Lets it send to broadcast addresses (keel_prefix_last of a v4 network, or
 * 255.255.255.255); who receives has opened "0.0.0.0:PORT" or "[::]:PORT". */
KEEL_API int keel_udp_broadcast(struct keel_udp *u, bool on);
KEEL_AUTO(udp, struct keel_udp *, keel_udp_close)

#endif
