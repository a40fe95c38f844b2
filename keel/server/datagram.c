/* SPDX-License-Identifier: MIT */
#include "datagram.h"

#include <arpa/inet.h>
#include <errno.h>
#include <net/if.h>
#include <netdb.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

#include <keel/co.h>
#include <keel/io.h>
#include <keel/seam.h>

/* ---- the port ---- */

struct lookup {
    char host[256], port[8];
    struct addrinfo *found;
};

/* On the blocking pool. */
static int look_up(void *arg)
{
    struct lookup *l = arg;
    struct addrinfo hints = {.ai_socktype = SOCK_DGRAM,
                             .ai_flags = AI_NUMERICSERV};

    switch (getaddrinfo(l->host, l->port, &hints, &l->found)) {
    case 0:
        return 0;
    case EAI_AGAIN:
        return -EAGAIN;
    case EAI_MEMORY:
        return -ENOMEM;
    default:
        return -ENOENT;
    }
}

static int split(const char *address, struct lookup *ret)
{
    const char *colon = strrchr(address, ':'), *host = address;
    size_t size = colon ? (size_t)(colon - address) : 0;

    if (!colon || !colon[1] || strlen(colon + 1) > 5 ||
        strspn(colon + 1, "0123456789") != strlen(colon + 1))
        return -EINVAL;
    if (size > 2 && *host == '[' && colon[-1] == ']') {
        host++;
        size -= 2;
    } else if (memchr(address, ':', size)) {
        return -EINVAL; /* a v6 address wants brackets */
    }
    if (size == 0 || size >= sizeof(ret->host))
        return -EINVAL;
    memcpy(ret->host, host, size);
    ret->host[size] = '\0';
    (void)snprintf(ret->port, sizeof(ret->port), "%s", colon + 1);
    return 0;
}

static int bind_to(const struct addrinfo *ai)
{
    const struct sockaddr_in6 *v6 = (const void *)ai->ai_addr;
    int both =
        ai->ai_family == AF_INET6 && IN6_IS_ADDR_UNSPECIFIED(&v6->sin6_addr);
    int v6_only = !both, rc = keel_seam_enter(KEEL_OP_SOCKET, NULL);
    int fd;

    if (rc < 0)
        return rc;
    fd = socket(ai->ai_family, SOCK_DGRAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0);
    if (fd < 0)
        return -errno;
    if (ai->ai_family == AF_INET6)
        (void)setsockopt(fd, IPPROTO_IPV6, IPV6_V6ONLY, &v6_only,
                         sizeof(v6_only));
    rc = keel_fd_adopt(fd);
    if (rc == 0 && bind(fd, ai->ai_addr, ai->ai_addrlen) < 0)
        rc = -errno;
    if (rc == 0)
        return fd;
    keel_fd_close(fd);
    return rc;
}

int datagram_bind(const char *address, char ret_address[KEEL_ADDRESS_BYTES])
{
    struct lookup l = {.found = NULL};
    struct datagram_from own = {.size = sizeof(own.addr)};
    char text[KEEL_ADDRESS_BYTES];
    int rc = split(address, &l);

    if (rc == 0)
        rc = keel_blocking(look_up, &l);
    if (rc < 0)
        return rc;
    rc = bind_to(l.found);
    freeaddrinfo(l.found);
    if (rc < 0)
        return rc;
    if (getsockname(rc, &own.addr.any, &own.size) < 0) {
        int error = -errno;

        keel_fd_close(rc);
        return error;
    }
    datagram_print(&own, text);
    (void)snprintf(ret_address, KEEL_ADDRESS_BYTES, "udp:%.*s",
                   KEEL_ADDRESS_BYTES - 5, text);
    return rc;
}

ssize_t datagram_receive(int port, void *buf, size_t size, keel_ns deadline,
                         struct datagram_from *ret_from)
{
    struct datagram_from from = {.size = 0};
    struct iovec part = {buf, size};
    struct msghdr m = {.msg_name = &from.addr,
                       .msg_namelen = sizeof(from.addr),
                       .msg_iov = &part,
                       .msg_iovlen = 1};
    ssize_t rc = keel_fd_recvmsg(port, &m, 0, deadline);

    if (rc < 0)
        return rc;
    from.size = m.msg_namelen;
    *ret_from = from;
    return rc;
}

void datagram_print(const struct datagram_from *from,
                    char ret[KEEL_ADDRESS_BYTES])
{
    const struct in6_addr *a = &from->addr.v6.sin6_addr;
    char host[INET6_ADDRSTRLEN] = "?";
    unsigned port = ntohs(from->addr.v4.sin_port); /* where v6 has it too */

    if (from->addr.any.sa_family == AF_INET) {
        (void)inet_ntop(AF_INET, &from->addr.v4.sin_addr, host, sizeof(host));
        (void)snprintf(ret, KEEL_ADDRESS_BYTES, "%s:%u", host, port);
    } else if (IN6_IS_ADDR_V4MAPPED(a)) {
        (void)inet_ntop(AF_INET, &a->s6_addr[12], host, sizeof(host));
        (void)snprintf(ret, KEEL_ADDRESS_BYTES, "%s:%u", host, port);
    } else {
        (void)inet_ntop(AF_INET6, a, host, sizeof(host));
        (void)snprintf(ret, KEEL_ADDRESS_BYTES, "[%s]:%u", host, port);
    }
}

/* ---- one as a stream ---- */

/* bytes[at .. size) are still to be read; `out` is what was written, until it
 * is sent. */
struct datagram {
    struct keel_stream stream;
    int port;
    struct datagram_from from;
    bool sent;
    uint8_t *out;
    size_t out_size;
    size_t size, at;
    uint8_t bytes[];
};

static struct datagram *of(struct keel_stream *s)
{
    return (struct datagram *)(void *)s;
}

static ssize_t datagram_read(struct keel_stream *s, void *buf, size_t size,
                             keel_ns deadline)
{
    struct datagram *d = of(s);

    (void)deadline; /* it is here */
    if (size > d->size - d->at)
        size = d->size - d->at;
    memcpy(buf, d->bytes + d->at, size);
    d->at += size;
    return (ssize_t)size;
}

static int datagram_writev(struct keel_stream *s, const struct iovec *iov,
                           int count, keel_ns deadline)
{
    struct datagram *d = of(s);
    size_t size = d->out_size;
    uint8_t *more;

    (void)deadline;
    if (d->sent)
        return -EPIPE;
    for (int i = 0; i < count; i++) {
        if (iov[i].iov_len > DATAGRAM_MOST - size)
            return -EMSGSIZE;
        size += iov[i].iov_len;
    }
    more = keel_realloc(d->out, size ? size : 1);
    if (!more)
        return -ENOMEM;
    d->out = more;
    for (int i = 0; i < count; i++) {
        memcpy(d->out + d->out_size, iov[i].iov_base, iov[i].iov_len);
        d->out_size += iov[i].iov_len;
    }
    return 0;
}

/* The port belongs to the loop that receives, and may be another: so that
 * nobody waits on it here, a full queue, which is rare, is asked again. */
static int datagram_finish(struct keel_stream *s, keel_ns deadline)
{
    struct datagram *d = of(s);
    struct iovec part = {d->out, d->out_size};
    struct msghdr m = {.msg_name = &d->from.addr,
                       .msg_namelen = d->from.size,
                       .msg_iov = &part,
                       .msg_iovlen = 1};
    ssize_t rc;

    if (!d->out || d->sent)
        return 0;
    for (;;) {
        rc = keel_fd_sendmsg(d->port, &m, 0, KEEL_NOW);
        if (rc != -ETIMEDOUT || keel_now() >= deadline)
            break;
        rc = keel_sleep(keel_after(KEEL_MS));
        if (rc < 0)
            break;
    }
    if (rc < 0)
        return (int)rc;
    d->sent = true;
    return 0;
}

static void datagram_close(struct keel_stream *s)
{
    keel_free(of(s)->out);
    keel_free(s);
}

static int datagram_fd(struct keel_stream *s)
{
    (void)s; /* the port is everybody's */
    return -1;
}

static const struct keel_stream_class datagram_class = {
    .name = "datagram",
    .read = datagram_read,
    .writev = datagram_writev,
    .finish = datagram_finish,
    .close = datagram_close,
    .fd = datagram_fd,
};

int datagram_new(int port, const struct datagram_from *from, const void *bytes,
                 size_t size, struct keel_stream **ret)
{
    struct datagram *d = keel_alloc(sizeof(*d) + size);

    if (!d)
        return -ENOMEM;
    *d = (struct datagram){
        .stream = {&datagram_class}, .port = port, .from = *from, .size = size};
    memcpy(d->bytes, bytes, size);
    *ret = &d->stream;
    return 0;
}

bool is_datagram(const struct keel_stream *s)
{
    return s->is == &datagram_class;
}

const void *datagram_bytes(const struct keel_stream *s, size_t *ret_size,
                           int *ret_port, struct datagram_from *ret_from)
{
    const struct datagram *d = (const void *)s;

    *ret_size = d->size;
    *ret_port = d->port;
    *ret_from = d->from;
    return d->bytes;
}
