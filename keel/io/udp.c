/* SPDX-License-Identifier: MIT */
/* UDP on keel_fd_sendmsg and keel_fd_recvmsg.
 *
 * A socket of v6 that serves both families speaks v4 by mapped addresses:
 * target_of maps what goes out, receiving unmaps.  Linux takes the options of
 * v4 on it too, so that each is set for both. */
#include <keel/udp.h>

#include <errno.h>
#include <netinet/in.h>
#include <string.h>
#include <sys/socket.h>

#include <keel/io.h>
#include <keel/net.h>

#include "io/socket_inside.h"

#ifndef IPV6_MULTICAST_ALL
#define IPV6_MULTICAST_ALL 29
#endif

struct keel_udp {
    int fd;
    int family;               /* AF_INET, AF_INET6 */
    struct keel_address home; /* where it was bound, with the real port */
};

/* ---- opening -------------------------------------------------------------------- */

void keel_udp_close(struct keel_udp *u)
{
    if (!u)
        return;
    keel_fd_close(u->fd);
    keel_free(u);
}

int keel_udp_fd(const struct keel_udp *u)
{
    return u->fd;
}

int keel_udp_local(struct keel_udp *u, struct keel_address *ret)
{
    struct sockaddr_storage own = {0};
    socklen_t size = sizeof own;
    int rc;

    rc = keel_seam.net->getsockname(u->fd, (struct sockaddr *)&own, &size);
    if (rc < 0)
        return rc;
    return keel_address_from_sockaddr((struct sockaddr *)&own, size, ret);
}

static int set(const struct keel_udp *u, int level, int name, int value)
{
    return keel_seam.net->setsockopt(u->fd, level, name, &value, sizeof value);
}

/* An option of v4 and its twin of v6. */
static int set_both(const struct keel_udp *u, int name4, int name6, int value)
{
    int rc = set(u, IPPROTO_IP, name4, value);

    if (rc == 0 && u->family == AF_INET6)
        rc = set(u, IPPROTO_IPV6, name6, value);
    return rc;
}

/* Where one was sent to, and by which interface it came. */
static int set_arrival(const struct keel_udp *u)
{
    return u->family == AF_INET6 ? set(u, IPPROTO_IPV6, IPV6_RECVPKTINFO, 1)
                                 : set(u, IPPROTO_IP, IP_PKTINFO, 1);
}

static int set_options(const struct keel_udp *u, unsigned flags, bool dual)
{
    int rc = 0;

    if (flags & KEEL_UDP_SHARED)
        rc = set(u, SOL_SOCKET, SO_REUSEADDR, 1);
    if (rc == 0 && u->family == AF_INET6)
        rc = set(u, IPPROTO_IPV6, IPV6_V6ONLY, !dual);
    if (rc == 0)
        rc = set_arrival(u);
    /* Else it gets what any other socket of this machine has joined.  Kernels
     * before 4.20 do not know it for v6. */
    (void)set_both(u, IP_MULTICAST_ALL, IPV6_MULTICAST_ALL, 0);
    return rc;
}

static int bind_to(struct keel_udp *u, const struct keel_address *local)
{
    struct sockaddr_storage addr;
    socklen_t size = keel_address_to_sockaddr(local, &addr);

    return keel_seam.net->bind(u->fd, (struct sockaddr *)&addr, size);
}

static int open_at(const struct keel_address *local, unsigned flags,
                   struct keel_udp **ret)
{
    keel_auto(udp) struct keel_udp *u = keel_calloc(1, sizeof *u);
    bool any = keel_address_class(local) == KEEL_CLASS_ANY;
    int rc;

    if (!u)
        return -ENOMEM;
    u->family = local->family == KEEL_V6 ? AF_INET6 : AF_INET;
    u->fd = socket_new_fd(u->family, SOCK_DGRAM);
    if (u->fd < 0)
        return u->fd;
    rc = set_options(u, flags, any);
    if (rc == 0)
        rc = bind_to(u, local);
    if (rc == 0)
        rc = keel_udp_local(u, &u->home);
    if (rc < 0)
        return rc;
    *ret = keel_take(u);
    return 0;
}

int keel_udp_open(const char *local, unsigned flags, struct keel_udp **ret)
{
    struct keel_address at;
    int rc = keel_resolve(local, KEEL_FOREVER, &at, 1);

    if (rc < 0)
        return rc;
    rc = open_at(&at, flags, ret);
    /* "[::]" on a machine without IPv6 means all that it has. */
    if (rc == -EAFNOSUPPORT && at.family == KEEL_V6 &&
        keel_address_class(&at) == KEEL_CLASS_ANY) {
        const struct keel_address all4 = {.family = KEEL_V4, .port = at.port};

        rc = open_at(&all4, flags, ret);
    }
    return rc;
}

int keel_udp_adopt(int fd, struct keel_udp **ret)
{
    struct keel_udp *u;
    int type = 0, domain = 0;
    socklen_t size = sizeof type;
    int rc;

    rc = keel_seam.net->getsockopt(fd, SOL_SOCKET, SO_TYPE, &type, &size);
    if (rc == 0)
        rc = keel_seam.net->getsockopt(fd, SOL_SOCKET, SO_DOMAIN, &domain,
                                       &size);
    if (rc < 0)
        return rc == -EBADF ? -EBADF : -EINVAL;
    if (type != SOCK_DGRAM || (domain != AF_INET && domain != AF_INET6))
        return -EINVAL;
    rc = keel_fd_adopt(fd);
    if (rc < 0)
        return rc;
    u = keel_calloc(1, sizeof *u);
    if (!u)
        return -ENOMEM;
    u->fd = fd;
    u->family = domain;
    rc = set_arrival(u);
    if (rc == 0)
        rc = keel_udp_local(u, &u->home);
    if (rc < 0)
        keel_free(u); /* the descriptor is still the caller's */
    else
        *ret = u;
    return rc;
}

/* ---- to whom --------------------------------------------------------------------- */

/* `to` as this socket's family writes it. */
static int target_of(const struct keel_udp *u, const struct keel_address *to,
                     struct sockaddr_storage *ret)
{
    struct keel_address a = keel_address_unmap(to);

    if (u->family == AF_INET6 && a.family == KEEL_V4) {
        memcpy(a.bytes + 12, a.bytes, 4);
        memset(a.bytes, 0, 10);
        a.bytes[10] = a.bytes[11] = 0xff;
        a.family = KEEL_V6;
    }
    if (a.family != (u->family == AF_INET6 ? KEEL_V6 : KEEL_V4))
        return -EAFNOSUPPORT;
    return (int)keel_address_to_sockaddr(&a, ret);
}

/* A port that the kernel chose goes with the connection: Linux keeps only one
 * that was asked for by its number. */
static int disconnect(struct keel_udp *u)
{
    const struct sockaddr none = {.sa_family = AF_UNSPEC};
    struct keel_address now;
    int rc;

    rc = keel_seam.net->connect(u->fd, &none, sizeof none);
    if (rc < 0)
        return rc;
    rc = keel_udp_local(u, &now);
    if (rc == 0 && now.port == 0)
        rc = bind_to(u, &u->home);
    return rc;
}

int keel_udp_connect(struct keel_udp *u, const struct keel_address *to)
{
    struct sockaddr_storage addr;
    int rc = socket_enter(KEEL_OP_CONNECT);
    int size;

    if (rc < 0)
        return rc;
    if (!to)
        return disconnect(u);
    size = target_of(u, to, &addr);
    if (size < 0)
        return size;
    return keel_seam.net->connect(u->fd, (struct sockaddr *)&addr,
                                  (socklen_t)size);
}

int keel_udp_dial(const char *address, keel_ns deadline, struct keel_udp **ret)
{
    struct keel_address to[KEEL_RESOLVE_MOST];
    int count = keel_resolve(address, deadline, to, KEEL_RESOLVE_MOST);
    int rc = count;

    if (count > 0 && to[0].port == 0)
        return -EINVAL;
    for (int i = 0; i < count; i++) {
        keel_auto(udp) struct keel_udp *u = NULL;
        const struct keel_address any = {.family = to[i].family};

        rc = open_at(&any, 0, &u);
        if (rc == 0)
            rc = keel_udp_connect(u, &to[i]);
        if (rc == 0) {
            *ret = keel_take(u);
            return 0;
        }
    }
    return rc;
}

/* ---- datagrams -------------------------------------------------------------------- */

static int send_msg(struct keel_udp *u, struct msghdr *msg, const void *data,
                    size_t size, keel_ns deadline)
{
    struct iovec part = {(void *)(uintptr_t)data, size}; /* only read */
    ssize_t sent;

    msg->msg_iov = &part;
    msg->msg_iovlen = 1;
    sent = keel_fd_sendmsg(u->fd, msg, 0, deadline);
    if (sent < 0)
        return (int)sent;
    return (size_t)sent < size ? -EMSGSIZE : 0;
}

int keel_udp_send(struct keel_udp *u, const void *data, size_t size,
                  keel_ns deadline)
{
    struct msghdr msg = {0};

    return send_msg(u, &msg, data, size, deadline);
}

int keel_udp_send_to(struct keel_udp *u, const struct keel_address *to,
                     const void *data, size_t size, keel_ns deadline)
{
    struct sockaddr_storage addr;
    struct msghdr msg = {.msg_name = &addr};
    int rc = target_of(u, to, &addr);

    if (rc < 0)
        return rc;
    msg.msg_namelen = (socklen_t)rc;
    return send_msg(u, &msg, data, size, deadline);
}

/* What the kernel says of a datagram beside its bytes. */
static void read_control(struct msghdr *msg, struct keel_datagram *ret)
{
    for (struct cmsghdr *c = CMSG_FIRSTHDR(msg); c; c = CMSG_NXTHDR(msg, c)) {
        struct keel_address to = {.port = 0};

        if (c->cmsg_level == IPPROTO_IP && c->cmsg_type == IP_PKTINFO) {
            struct in_pktinfo info;

            memcpy(&info, CMSG_DATA(c), sizeof info);
            to.family = KEEL_V4;
            memcpy(to.bytes, &info.ipi_addr, 4);
            ret->interface = (unsigned)info.ipi_ifindex;
        } else if (c->cmsg_level == IPPROTO_IPV6 &&
                   c->cmsg_type == IPV6_PKTINFO) {
            struct in6_pktinfo info;

            memcpy(&info, CMSG_DATA(c), sizeof info);
            to.family = KEEL_V6;
            memcpy(to.bytes, &info.ipi6_addr, 16);
            ret->interface = info.ipi6_ifindex;
        } else {
            continue;
        }
        ret->to = keel_address_unmap(&to);
    }
}

/* After the wait the socket may be gone: it is not touched again. */
ssize_t keel_udp_recv(struct keel_udp *u, void *buf, size_t room,
                      keel_ns deadline, struct keel_datagram *ret)
{
    _Alignas(
        struct cmsghdr) char control[CMSG_SPACE(sizeof(struct in_pktinfo)) +
                                     CMSG_SPACE(sizeof(struct in6_pktinfo))];
    const uint16_t port = u->home.port;
    struct sockaddr_storage from = {0};
    struct iovec part = {buf, room};
    struct msghdr msg = {
        .msg_name = &from,
        .msg_namelen = sizeof from,
        .msg_iov = &part,
        .msg_iovlen = 1,
        .msg_control = control,
        .msg_controllen = sizeof control,
    };
    /* With MSG_TRUNC it tells the size as sent. */
    ssize_t size = keel_fd_recvmsg(u->fd, &msg, MSG_TRUNC, deadline);

    if (size < 0)
        return size;
    if (ret) {
        struct keel_datagram d = {.size = (size_t)size};
        struct keel_address sender = {0};

        (void)keel_address_from_sockaddr((struct sockaddr *)&from,
                                         msg.msg_namelen, &sender);
        d.from = keel_address_unmap(&sender);
        read_control(&msg, &d);
        d.to.port = port;
        *ret = d;
    }
    return msg.msg_flags & MSG_TRUNC ? -EMSGSIZE : size;
}

/* ---- groups and broadcast ------------------------------------------------------------- */

/* MCAST_JOIN_GROUP and MCAST_LEAVE_GROUP (RFC 3678 5.1). */
static int change_group(struct keel_udp *u, int how,
                        const struct keel_address *group, unsigned interface)
{
    const struct keel_address g = keel_address_unmap(group);
    struct group_req request = {.gr_interface = interface};
    struct sockaddr_storage addr;
    int level = g.family == KEEL_V6 ? IPPROTO_IPV6 : IPPROTO_IP;
    int rc = socket_enter(KEEL_OP_SOCKET);

    if (rc < 0)
        return rc;
    if (keel_address_class(&g) != KEEL_CLASS_MULTICAST)
        return -EINVAL;
    if (g.family == KEEL_V6 && u->family == AF_INET)
        return -EAFNOSUPPORT;
    if (!interface)
        request.gr_interface = g.zone;
    (void)keel_address_to_sockaddr(&g, &addr);
    memcpy(&request.gr_group, &addr, sizeof request.gr_group);
    return keel_seam.net->setsockopt(u->fd, level, how, &request,
                                     sizeof request);
}

int keel_udp_join(struct keel_udp *u, const struct keel_address *group,
                  unsigned interface)
{
    return change_group(u, MCAST_JOIN_GROUP, group, interface);
}

int keel_udp_leave(struct keel_udp *u, const struct keel_address *group,
                   unsigned interface)
{
    return change_group(u, MCAST_LEAVE_GROUP, group, interface);
}

int keel_udp_multicast_by(struct keel_udp *u, unsigned interface)
{
    const struct ip_mreqn by = {.imr_ifindex = (int)interface};
    int rc = socket_enter(KEEL_OP_SOCKET);

    if (rc < 0)
        return rc;
    rc = keel_seam.net->setsockopt(u->fd, IPPROTO_IP, IP_MULTICAST_IF, &by,
                                   sizeof by);
    if (rc < 0)
        /* v4 says otherwise of an interface that is not there. */
        return rc == -EADDRNOTAVAIL ? -ENODEV : rc;
    if (u->family == AF_INET6)
        return set(u, IPPROTO_IPV6, IPV6_MULTICAST_IF, (int)interface);
    return 0;
}

int keel_udp_multicast_ttl(struct keel_udp *u, unsigned hops)
{
    if (hops > 255)
        return -EINVAL;
    return set_both(u, IP_MULTICAST_TTL, IPV6_MULTICAST_HOPS, (int)hops);
}

int keel_udp_multicast_loop(struct keel_udp *u, bool on)
{
    return set_both(u, IP_MULTICAST_LOOP, IPV6_MULTICAST_LOOP, on);
}

int keel_udp_broadcast(struct keel_udp *u, bool on)
{
    return set(u, SOL_SOCKET, SO_BROADCAST, on);
}
