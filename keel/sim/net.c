/* SPDX-License-Identifier: MIT */
/* Sockets between the ends of one program.
 *
 * What is sent is a packet in the receiver's queue, with the time at which it
 * arrives; until then nobody sees it.  What else happens to a socket later (it
 * is connected, reset, its peer has read) is an event.  Sockets that were
 * closed stay in memory until the run ends, because events name them.
 *
 * Invariants between calls:
 *   packets of a stream lie in order of their times
 *   `out` counts what a stream has sent and was not told to be read: at most
 *     its `window`
 *   of two connected streams each is the other's `other`, until one is closed
 */
#include "net.h"

#include <errno.h>
#include <netinet/in.h>
#include <poll.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/un.h>

/* Above the kernel's numbers, below the end of the pollers' table of ages. */
#define FD_BASE 0xF00000
#define FDS_MOST 0x80000

/* As Linux: SYN retries; a connection that keel made notices a peer that has
 * vanished. */
#define CONNECT_GIVES_UP (130 * KEEL_SECOND)
#define KEEPALIVE_GIVES_UP (120 * KEEL_SECOND)

enum { SHORT_PPM = 200000, SILENT_PPM = 300000, DATAGRAM_MOST = 65507 };

enum kind { STREAM, LISTENER, DATAGRAM, BELL };
enum life { FRESH, CONNECTING, CONNECTED, DEAD };

struct name {
    struct sockaddr_storage addr;
    unsigned size;
};

struct packet {
    struct packet *next;
    keel_ns at;
    bool end;
    size_t size, used;
    struct name from; /* of a datagram */
    char data[];
};

struct sock {
    struct sock *older; /* of all there were */
    int fd;             /* -1: closed */
    enum kind kind;
    enum life life;
    int family, error;
    struct name local, peer;
    struct sock *other;
    struct packet *packets;
    keel_ns last_at; /* of the packet that arrives last */
    size_t window, out;
    bool ended;  /* it sends nothing more */
    bool silent; /* nothing arrives any more, either way */
    uint64_t rung;
    struct sock *pending,
        *pending_next; /* connections to accept, oldest first */
    unsigned pending_count, backlog;
    struct poller_op *ops;
};

/* A fiber in poll. */
struct poll_wait {
    struct poll_wait *next;
    const struct pollfd *fds;
    unsigned count;
    struct fiber *fiber;
};

static struct {
    struct sock *all;
    struct sock **by_fd;
    size_t fds;
    struct poll_wait *polls;
    uint16_t port;
} n;

/* ---- descriptors ---- */

bool sock_is_ours(int fd)
{
    return fd >= FD_BASE && fd < FD_BASE + FDS_MOST;
}

struct sock *sock_find(int fd)
{
    size_t at = (size_t)(fd - FD_BASE);

    return fd >= FD_BASE && at < n.fds ? n.by_fd[at] : NULL;
}

struct poller_op **sock_ops(struct sock *s)
{
    return &s->ops;
}

static int number(const struct sock *s)
{
    return s->fd - FD_BASE;
}

/* Gives it the lowest number, as the kernel does. */
static int fd_give(struct sock *s)
{
    size_t at = 0;

    while (at < n.fds && n.by_fd[at])
        at++;
    if (at == FDS_MOST)
        return -EMFILE;
    if (at == n.fds) {
        n.by_fd = reallocarray(n.by_fd, n.fds + 64, sizeof(*n.by_fd));
        keel_assert(n.by_fd);
        memset(n.by_fd + n.fds, 0, 64 * sizeof(*n.by_fd));
        n.fds += 64;
    }
    n.by_fd[at] = s;
    s->fd = FD_BASE + (int)at;
    return s->fd;
}

static struct sock *sock_new(enum kind kind, int family)
{
    struct sock *s = calloc(1, sizeof *s);

    keel_assert(s);
    s->fd = -1;
    s->kind = kind;
    s->family = family;
    s->window = (size_t)1 << (12 + draw(BY_NET, 7));
    s->older = n.all;
    n.all = s;
    return s;
}

/* ---- names ---- */

static struct name name_of(const struct sockaddr *addr, unsigned size)
{
    struct name name = {.size = size};

    memset(&name.addr, 0, sizeof name.addr);
    memcpy(&name.addr, addr, size < sizeof name.addr ? size : sizeof name.addr);
    return name;
}

static uint16_t *name_port(struct name *name)
{
    if (name->addr.ss_family == AF_INET)
        return &((struct sockaddr_in *)&name->addr)->sin_port;
    if (name->addr.ss_family == AF_INET6)
        return &((struct sockaddr_in6 *)&name->addr)->sin6_port;
    return NULL;
}

static bool name_is_any(const struct name *name)
{
    const struct sockaddr_in *v4 = (const void *)&name->addr;
    const struct sockaddr_in6 *v6 = (const void *)&name->addr;

    if (name->addr.ss_family == AF_INET)
        return v4->sin_addr.s_addr == htonl(INADDR_ANY);
    return name->addr.ss_family == AF_INET6 &&
           IN6_IS_ADDR_UNSPECIFIED(&v6->sin6_addr);
}

/* A socket bound to `own` is meant by `to`. */
static bool name_means(const struct name *own, const struct name *to)
{
    const struct sockaddr_in *a4 = (const void *)&own->addr,
                             *b4 = (const void *)&to->addr;
    const struct sockaddr_in6 *a6 = (const void *)&own->addr,
                              *b6 = (const void *)&to->addr;
    bool any = name_is_any(own);

    switch (to->addr.ss_family) {
    case AF_INET:
        /* "[::]" takes v4 as well */
        if (own->addr.ss_family == AF_INET6)
            return any && a6->sin6_port == b4->sin_port;
        return own->addr.ss_family == AF_INET && a4->sin_port == b4->sin_port &&
               (any || a4->sin_addr.s_addr == b4->sin_addr.s_addr);
    case AF_INET6:
        return own->addr.ss_family == AF_INET6 &&
               a6->sin6_port == b6->sin6_port &&
               (any || !memcmp(&a6->sin6_addr, &b6->sin6_addr, 16));
    case AF_UNIX:
        return own->addr.ss_family == AF_UNIX &&
               !strcmp(((const struct sockaddr_un *)a4)->sun_path,
                       ((const struct sockaddr_un *)b4)->sun_path);
    default:
        return false;
    }
}

static struct sock *bound_to(enum kind kind, const struct name *to)
{
    for (size_t at = 0; at < n.fds; at++) {
        struct sock *s = n.by_fd[at];

        if (s && s->kind == kind && s->local.size && name_means(&s->local, to))
            return s;
    }
    return NULL;
}

static void port_give(struct name *name)
{
    uint16_t *port = name_port(name);

    if (port && !*port)
        *port = htons(n.port++);
}

/* The end that connects has the address it connects to, and a port. */
static void local_give(struct sock *s, const struct name *to)
{
    if (s->local.size)
        return;
    s->local = *to;
    if (s->family == AF_UNIX)
        memset(((struct sockaddr_un *)&s->local.addr)->sun_path, 0,
               sizeof(((struct sockaddr_un *)0)->sun_path));
    else
        *name_port(&s->local) = 0;
    port_give(&s->local);
}

static int name_tell(const struct name *name, struct sockaddr *addr,
                     unsigned *size)
{
    memcpy(addr, &name->addr, *size < name->size ? *size : name->size);
    *size = name->size;
    return 0;
}

/* ---- what happens later ---- */

static keel_ns latency(const struct sock *s)
{
    if (s->family == AF_UNIX)
        return draw_span(BY_NET, KEEL_US, 20 * KEEL_US);
    return draw_span(BY_NET, world.how.latency_least, world.how.latency_most);
}

/* Whoever waits for something of it looks again. */
static void changed(struct sock *s)
{
    poller_serve(s);
    for (struct poll_wait *w = n.polls; w; w = w->next)
        for (unsigned i = 0; i < w->count; i++)
            if (w->fds[i].fd == s->fd)
                fiber_wake(w->fiber);
}

static void changes(void *arg, uint64_t unused)
{
    (void)unused;
    changed(arg);
}

static void packets_free(struct sock *s)
{
    while (s->packets) {
        struct packet *p = s->packets;

        s->packets = p->next;
        free(p);
    }
}

/* It is told that the connection is gone. */
static void dies(void *arg, uint64_t error)
{
    struct sock *s = arg;

    if (s->life == DEAD || s->fd < 0)
        return;
    if (s->kind == DATAGRAM) {
        s->error = (int)error;
        changed(s);
        return;
    }
    trace("socket %d dies: %d", number(s), (int)error);
    s->life = DEAD;
    s->error = (int)error;
    packets_free(s);
    changed(s);
}

static void die_soon(struct sock *s, int error)
{
    event_at(world.now + latency(s), dies, s, (uint64_t)error);
}

static void was_read(void *arg, uint64_t bytes)
{
    struct sock *s = arg;

    s->out -= bytes < s->out ? (size_t)bytes : s->out;
    changed(s);
}

/* In order of arrival; of the same time, of sending. */
static void packet_send(struct sock *to, struct packet *p)
{
    struct packet **at = &to->packets;

    while (*at && (*at)->at <= p->at)
        at = &(*at)->next;
    p->next = *at;
    *at = p;
    event_at(p->at, changes, to, 0);
}

static struct packet *packet_new(const struct iovec *iov, size_t count,
                                 size_t size)
{
    struct packet *p = calloc(1, sizeof *p + size);

    keel_assert(p);
    for (size_t i = 0; i < count && p->size < size; i++) {
        size_t more =
            iov[i].iov_len < size - p->size ? iov[i].iov_len : size - p->size;

        if (more)
            memcpy(p->data + p->size, iov[i].iov_base, more);
        p->size += more;
    }
    return p;
}

/* Behind what was sent before. */
static void stream_send(struct sock *s, struct packet *p)
{
    keel_ns at = world.now + latency(s);

    if (at < s->other->last_at)
        at = s->other->last_at;
    s->other->last_at = p->at = at;
    packet_send(s->other, p);
}

/* ---- connections ---- */

static void break_silently(struct sock *s)
{
    struct sock *ends[] = {s, s->other};

    for (int i = 0; i < 2; i++) {
        struct packet **at = &ends[i]->packets;

        ends[i]->silent = true;
        while (*at && (*at)->at <= world.now)
            at = &(*at)->next;
        while (*at) { /* under way, and lost */
            struct packet *p = *at;

            *at = p->next;
            free(p);
        }
        event_at(world.now + KEEPALIVE_GIVES_UP, dies, ends[i], ETIMEDOUT);
    }
}

static void break_(struct sock *s, bool silently)
{
    if (s->life != CONNECTED || !s->other || s->silent)
        return;
    world.result.lost++;
    trace("socket %d %s", number(s), silently ? "falls silent" : "is cut");
    if (silently) {
        break_silently(s);
        return;
    }
    s->silent = s->other->silent = true; /* what is sent now goes nowhere */
    die_soon(s, ECONNRESET);
    die_soon(s->other, ECONNRESET);
}

static void breaks(void *arg, uint64_t silently)
{
    if (!world.calm)
        break_(arg, silently);
}

void net_cut_all(void)
{
    for (struct sock *s = n.all; s; s = s->older)
        if (s->fd >= 0 && s->kind == STREAM)
            break_(s, chance(BY_NET, SILENT_PPM));
}

void net_reset_all(void)
{
    for (struct sock *s = n.all; s; s = s->older)
        if (s->fd >= 0 && s->kind == STREAM)
            break_(s, false);
}

static void established(void *arg, uint64_t unused)
{
    struct sock *s = arg;

    (void)unused;
    if (s->life != CONNECTING)
        return;
    s->life = CONNECTED;
    changed(s);
}

/* A connection arrives at who listens. */
static void arrives(void *arg, uint64_t unused)
{
    struct sock *s = arg, *listener = bound_to(LISTENER, &s->peer), *c, **at;

    (void)unused;
    if (s->fd < 0 || s->life != CONNECTING)
        return;
    if (!listener || listener->pending_count >= listener->backlog) {
        die_soon(s, ECONNREFUSED);
        return;
    }
    c = sock_new(STREAM, s->family);
    c->life = CONNECTED;
    c->local = s->peer;
    c->peer = s->local;
    c->other = s;
    s->other = c;
    s->last_at = world.now + latency(s);
    event_at(s->last_at, established, s, 0);
    for (at = &listener->pending; *at; at = &(*at)->pending_next)
        ;
    *at = c;
    listener->pending_count++;
    world.result.connections++;
    if (s->family != AF_UNIX && !world.calm &&
        chance(BY_NET, world.how.lost_ppm))
        event_at(world.now +
                     (keel_ns)draw(BY_NET, (uint64_t)world.how.lost_within),
                 breaks, s, chance(BY_NET, SILENT_PPM));
    changed(listener);
}

static int connect_stream(struct sock *s)
{
    if (s->life == CONNECTING)
        return -EALREADY;
    if (s->life != FRESH)
        return -EISCONN;
    local_give(s, &s->peer);
    s->life = CONNECTING;
    trace("socket %d connects", number(s));
    if (s->family != AF_UNIX && !world.calm &&
        chance(BY_NET, world.how.refused_ppm)) {
        if (draw(BY_NET, 2))
            die_soon(s, ECONNREFUSED);
        else
            event_at(world.now + CONNECT_GIVES_UP, dies, s, ETIMEDOUT);
    } else {
        event_at(world.now + latency(s), arrives, s, 0);
    }
    return -EINPROGRESS;
}

/* ---- the calls ---- */

/* What the call is not for: the kernel's own, or nobody's. */
#define OURS(fd, s, call)                                                      \
    struct sock *s = sock_find(fd);                                            \
    do {                                                                       \
        if (!s)                                                                \
            return sock_is_ours(fd) ? -EBADF : (call);                         \
    } while (0)

static int sim_socket(int family, int type, int protocol)
{
    bool stream = type == SOCK_STREAM;

    (void)protocol;
    if (family != AF_INET && family != AF_INET6 &&
        (family != AF_UNIX || !stream))
        return -EAFNOSUPPORT;
    if (!stream && type != SOCK_DGRAM)
        return -EPROTONOSUPPORT;
    return fd_give(sock_new(stream ? STREAM : DATAGRAM, family));
}

static int sim_bind(int fd, const struct sockaddr *addr, unsigned size)
{
    OURS(fd, s, keel_net_real.bind(fd, addr, size));
    struct name name = name_of(addr, size);
    uint16_t *port = name_port(&name);

    if (s->local.size)
        return -EINVAL;
    if (!port || *port)
        if (bound_to(s->kind == DATAGRAM ? DATAGRAM : LISTENER, &name))
            return -EADDRINUSE;
    port_give(&name);
    s->local = name;
    return 0;
}

static int sim_listen(int fd, int backlog)
{
    OURS(fd, s, keel_net_real.listen(fd, backlog));

    if (s->kind != STREAM || s->life != FRESH)
        return -EINVAL;
    s->kind = LISTENER;
    s->backlog = backlog > 0 ? (unsigned)backlog : 1;
    return 0;
}

static int sim_connect(int fd, const struct sockaddr *addr, unsigned size)
{
    OURS(fd, s, keel_net_real.connect(fd, addr, size));

    if (s->kind == DATAGRAM && addr->sa_family == AF_UNSPEC) {
        memset(&s->peer, 0, sizeof s->peer);
        return 0;
    }
    if (s->kind == STREAM && s->life == FRESH)
        s->peer = name_of(addr, size);
    if (s->kind == STREAM)
        return connect_stream(s);
    if (s->kind != DATAGRAM)
        return -EOPNOTSUPP;
    s->peer = name_of(addr, size);
    local_give(s, &s->peer);
    return 0;
}

static int sim_accept(int fd, struct sockaddr *addr, unsigned *size)
{
    OURS(fd, s, keel_net_real.accept(fd, addr, size));
    struct sock *c = s->pending;
    int rc;

    if (s->kind != LISTENER)
        return -EINVAL;
    if (!c)
        return -EAGAIN;
    rc = fd_give(c);
    if (rc < 0)
        return rc;
    s->pending = c->pending_next;
    s->pending_count--;
    if (addr)
        (void)name_tell(&c->peer, addr, size);
    trace("socket %d accepts %d", number(s), number(c));
    return rc;
}

/* ---- receiving ---- */

static bool arrived(const struct sock *s)
{
    return s->packets && s->packets->at <= world.now;
}

/* At most as much as it finds, and now and then less. */
static size_t shortened(size_t size)
{
    return size > 1 && chance(BY_NET, SHORT_PPM)
               ? 1 + (size_t)draw(BY_NET, size)
               : size;
}

static size_t take(struct sock *s, char *buf, size_t size)
{
    size_t got = 0;

    while (got < size && arrived(s) && !s->packets->end) {
        struct packet *p = s->packets;
        size_t more =
            p->size - p->used < size - got ? p->size - p->used : size - got;

        memcpy(buf + got, p->data + p->used, more);
        got += more;
        p->used += more;
        if (p->used < p->size)
            break;
        s->packets = p->next;
        free(p);
    }
    return got;
}

static ssize_t stream_recv(struct sock *s, void *buf, size_t size)
{
    size_t got;

    if (s->error) {
        int error = s->error;

        s->error = 0;
        return -error;
    }
    if (s->life == DEAD)
        return 0;
    if (s->life != CONNECTED)
        return s->life == CONNECTING ? -EAGAIN : -ENOTCONN;
    if (!arrived(s))
        return -EAGAIN;
    if (s->packets->end)
        return 0;
    got = take(s, buf, shortened(size));
    if (s->other && !s->silent)
        event_at(world.now + latency(s), was_read, s->other, got);
    trace("socket %d reads %zu", number(s), got);
    return (ssize_t)got;
}

static ssize_t bell_recv(struct sock *s, void *buf, size_t size)
{
    if (s->rung == 0)
        return -EAGAIN;
    if (size < sizeof s->rung)
        return -EINVAL;
    memcpy(buf, &s->rung, sizeof s->rung);
    s->rung = 0;
    return sizeof s->rung;
}

static ssize_t datagram_recv(struct sock *s, struct msghdr *msg)
{
    struct packet *p = s->packets;
    size_t at = 0;

    if (s->error) {
        int error = s->error;

        s->error = 0;
        return -error;
    }
    if (!arrived(s))
        return -EAGAIN;
    s->packets = p->next;
    for (size_t i = 0; i < msg->msg_iovlen; i++) {
        size_t more = msg->msg_iov[i].iov_len < p->size - at
                          ? msg->msg_iov[i].iov_len
                          : p->size - at;

        memcpy(msg->msg_iov[i].iov_base, p->data + at, more);
        at += more;
    }
    if (msg->msg_name)
        (void)name_tell(&p->from, msg->msg_name, &msg->msg_namelen);
    msg->msg_controllen = 0;
    msg->msg_flags = at < p->size ? MSG_TRUNC : 0;
    trace("socket %d gets a datagram of %zu", number(s), p->size);
    free(p);
    return (ssize_t)at;
}

static ssize_t sim_recvmsg(int fd, struct msghdr *msg, int flags)
{
    OURS(fd, s, keel_net_real.recvmsg(fd, msg, flags));
    ssize_t rc;

    if (flags & MSG_PEEK)
        return -EOPNOTSUPP;
    if (s->kind == DATAGRAM)
        return datagram_recv(s, msg);
    if (s->kind != STREAM)
        return -EOPNOTSUPP;
    if (msg->msg_iovlen == 0)
        return 0;
    rc = stream_recv(s, msg->msg_iov[0].iov_base, msg->msg_iov[0].iov_len);
    if (rc >= 0) {
        msg->msg_namelen = 0;
        msg->msg_controllen = 0;
        msg->msg_flags = 0;
    }
    return rc;
}

static ssize_t sim_recv(int fd, void *buf, size_t size)
{
    OURS(fd, s, keel_net_real.recv(fd, buf, size));
    struct iovec v = {buf, size};
    struct msghdr msg = {.msg_iov = &v, .msg_iovlen = 1};

    if (s->kind == BELL)
        return bell_recv(s, buf, size);
    if (s->kind == DATAGRAM)
        return datagram_recv(s, &msg);
    return s->kind == STREAM ? stream_recv(s, buf, size) : -EINVAL;
}

/* ---- sending ---- */

static ssize_t stream_sendv(struct sock *s, const struct iovec *iov,
                            size_t count, size_t size)
{
    if (s->error) {
        int error = s->error;

        s->error = 0;
        return -error;
    }
    if (s->life == DEAD || s->ended)
        return -EPIPE;
    if (s->life != CONNECTED)
        return s->life == CONNECTING ? -EAGAIN : -ENOTCONN;
    if (s->out >= s->window)
        return -EAGAIN;
    if (size > s->window - s->out)
        size = s->window - s->out;
    size = shortened(size);
    s->out += size;
    trace("socket %d sends %zu", number(s), size);
    if (s->silent)
        return (ssize_t)size;
    if (s->other)
        stream_send(s, packet_new(iov, count, size));
    else
        die_soon(s, ECONNRESET); /* its peer has closed, and says so */
    return (ssize_t)size;
}

static struct packet *packet_copy(const struct packet *p)
{
    struct packet *copy = malloc(sizeof *copy + p->size);

    keel_assert(copy);
    memcpy(copy, p, sizeof *copy + p->size);
    return copy;
}

static ssize_t datagram_send(struct sock *s, const struct name *to,
                             const struct iovec *iov, size_t count, size_t size)
{
    struct sock *other = bound_to(DATAGRAM, to);
    struct packet *p;

    if (s->error) {
        int error = s->error;

        s->error = 0;
        return -error;
    }
    if (size > DATAGRAM_MOST)
        return -EMSGSIZE;
    trace("socket %d sends a datagram of %zu", number(s), size);
    if (!other) {
        if (s->peer.size) /* the other machine says that nobody is there */
            event_at(world.now + latency(s), dies, s, ECONNREFUSED);
        return (ssize_t)size;
    }
    if (other->peer.size && !name_means(&s->local, &other->peer))
        return (ssize_t)size;
    if (!world.calm && chance(BY_NET, world.how.datagram_lost_ppm)) {
        trace("a datagram is lost");
        return (ssize_t)size;
    }
    p = packet_new(iov, count, size);
    p->from = s->local;
    p->at = world.now + latency(s);
    if (!world.calm && chance(BY_NET, world.how.datagram_lost_ppm / 2)) {
        struct packet *twin = packet_copy(p);

        twin->at += latency(s);
        packet_send(other, twin);
    }
    packet_send(other, p);
    return (ssize_t)size;
}

static ssize_t sim_sendmsg(int fd, const struct msghdr *msg, int flags)
{
    OURS(fd, s, keel_net_real.sendmsg(fd, msg, flags));
    struct name to = s->peer;
    size_t size = 0;

    for (size_t i = 0; i < msg->msg_iovlen; i++)
        size += msg->msg_iov[i].iov_len;
    if (s->kind == STREAM && msg->msg_controllen)
        return -EOPNOTSUPP; /* descriptors */
    if (s->kind == STREAM)
        return stream_sendv(s, msg->msg_iov, msg->msg_iovlen, size);
    if (s->kind != DATAGRAM)
        return -EOPNOTSUPP;
    if (msg->msg_name)
        to = name_of(msg->msg_name, msg->msg_namelen);
    if (!to.size)
        return -EDESTADDRREQ;
    local_give(s, &to);
    return datagram_send(s, &to, msg->msg_iov, msg->msg_iovlen, size);
}

static ssize_t sim_send(int fd, const void *buf, size_t size)
{
    OURS(fd, s, keel_net_real.send(fd, buf, size));
    struct iovec v = {(void *)(uintptr_t)buf, size};
    struct msghdr msg = {.msg_iov = &v, .msg_iovlen = 1};

    if (s->kind == BELL) {
        s->rung += *(const uint64_t *)buf;
        changed(s);
        return sizeof s->rung;
    }
    return sim_sendmsg(fd, &msg, 0);
}

/* ---- ending ---- */

static void end_send(struct sock *s)
{
    struct packet *p;

    if (s->ended)
        return;
    s->ended = true;
    if (!s->other || s->silent)
        return;
    p = packet_new(NULL, 0, 0);
    p->end = true;
    stream_send(s, p);
}

static int sim_shutdown(int fd, int how)
{
    OURS(fd, s, keel_net_real.shutdown(fd, how));

    if (s->kind != STREAM || s->life != CONNECTED)
        return -ENOTCONN;
    if (how != SHUT_RD)
        end_send(s);
    trace("socket %d ends", number(s));
    return 0;
}

static void stream_close(struct sock *s)
{
    bool unread = arrived(s) && !s->packets->end;

    if (s->other) {
        if (unread && !s->silent)
            die_soon(s->other, ECONNRESET);
        else
            end_send(s);
        s->other->other = NULL;
        s->other = NULL;
    }
    s->life = DEAD;
    packets_free(s);
}

static int sim_close(int fd)
{
    OURS(fd, s, keel_net_real.close(fd));

    if (s->kind != BELL)
        trace("socket %d closes", number(s));
    for (struct sock *c = s->pending; c; c = c->pending_next)
        if (c->other) {
            die_soon(c->other, ECONNRESET);
            c->other->other = NULL;
            c->other = NULL;
        }
    s->pending = NULL;
    stream_close(s);
    n.by_fd[number(s)] = NULL;
    s->fd = -1;
    return 0;
}

/* ---- asking ---- */

static int int_tell(void *value, unsigned *size, int is)
{
    if (*size < sizeof is)
        return -EINVAL;
    memcpy(value, &is, sizeof is);
    *size = sizeof is;
    return 0;
}

static int sim_getsockopt(int fd, int level, int name, void *value,
                          unsigned *size)
{
    OURS(fd, s, keel_net_real.getsockopt(fd, level, name, value, size));
    int error = s->error;

    if (level != SOL_SOCKET)
        return -ENOPROTOOPT;
    switch (name) {
    case SO_ERROR:
        s->error = 0;
        return int_tell(value, size, error);
    case SO_TYPE:
        return int_tell(value, size,
                        s->kind == DATAGRAM ? SOCK_DGRAM : SOCK_STREAM);
    case SO_DOMAIN:
        return int_tell(value, size, s->family);
    case SO_ACCEPTCONN:
        return int_tell(value, size, s->kind == LISTENER);
    default:
        return -ENOPROTOOPT;
    }
}

/* Options change nothing here, and groups of many are not there. */
static int sim_setsockopt(int fd, int level, int name, const void *value,
                          unsigned size)
{
    OURS(fd, s, keel_net_real.setsockopt(fd, level, name, value, size));

    (void)s;
    if ((level == IPPROTO_IP || level == IPPROTO_IPV6) &&
        (name == MCAST_JOIN_GROUP || name == MCAST_LEAVE_GROUP))
        return -ENODEV;
    return 0;
}

static int sim_getsockname(int fd, struct sockaddr *addr, unsigned *size)
{
    OURS(fd, s, keel_net_real.getsockname(fd, addr, size));

    if (!s->local.size) {
        s->local.addr.ss_family = (sa_family_t)s->family;
        s->local.size = s->family == AF_INET6 ? sizeof(struct sockaddr_in6)
                                              : sizeof(struct sockaddr_in);
    }
    return name_tell(&s->local, addr, size);
}

static int sim_getpeername(int fd, struct sockaddr *addr, unsigned *size)
{
    OURS(fd, s, keel_net_real.getpeername(fd, addr, size));

    return s->peer.size ? name_tell(&s->peer, addr, size) : -ENOTCONN;
}

/* ---- waiting ---- */

static short stream_events(const struct sock *s)
{
    short events = 0;

    if (s->life == DEAD || s->error)
        return POLLIN | POLLOUT | POLLERR | POLLHUP | POLLRDHUP;
    if (s->life == FRESH)
        return POLLOUT | POLLHUP;
    if (s->life != CONNECTED)
        return 0;
    if (arrived(s))
        events = s->packets->end ? POLLIN | POLLRDHUP : POLLIN;
    if (s->out < s->window || s->ended)
        events |= POLLOUT;
    return events;
}

static short sock_events(const struct sock *s)
{
    switch (s->kind) {
    case STREAM:
        return stream_events(s);
    case LISTENER:
        return s->pending ? POLLIN : 0;
    case DATAGRAM:
        return (short)(POLLOUT | (arrived(s) || s->error ? POLLIN : 0) |
                       (s->error ? POLLERR : 0));
    case BELL:
        return s->rung ? POLLIN | POLLOUT : POLLOUT;
    }
    return 0;
}

/* Returns how many of ours have events; of the kernel's, only with `foreign`.
 */
static int look(struct pollfd *fds, unsigned count)
{
    int ready = 0;

    for (unsigned i = 0; i < count; i++) {
        const struct sock *s = sock_find(fds[i].fd);
        short always = POLLERR | POLLHUP;

        fds[i].revents = 0;
        if (s)
            fds[i].revents = (short)(sock_events(s) & (fds[i].events | always));
        else if (sock_is_ours(fds[i].fd))
            fds[i].revents = POLLNVAL;
        else if (fds[i].fd >= 0)
            (void)keel_net_real.poll(&fds[i], 1, KEEL_NOW);
        ready += fds[i].revents != 0;
    }
    return ready;
}

/* The kernel's descriptors make all of the run wait: no time passes in it. */
static bool wait_for_kernel(struct pollfd *fds, unsigned count)
{
    for (unsigned i = 0; i < count; i++)
        if (fds[i].fd >= 0 && !sock_is_ours(fds[i].fd))
            return keel_net_real.poll(&fds[i], 1, KEEL_FOREVER) > 0;
    return false;
}

static int sim_poll(struct pollfd *fds, unsigned count, keel_ns deadline)
{
    struct poll_wait w = {n.polls, fds, count, fiber_self()};
    int ready = look(fds, count), rc;

    if (ready || deadline == KEEL_NOW)
        return ready;
    if (wait_for_kernel(fds, count))
        return look(fds, count);
    n.polls = &w;
    do {
        rc = fiber_wait("poll", deadline);
        ready = look(fds, count);
    } while (!ready && rc == 0);
    for (struct poll_wait **at = &n.polls; *at; at = &(*at)->next)
        if (*at == &w) {
            *at = w.next;
            break;
        }
    return ready;
}

static int sim_eventfd(void)
{
    return fd_give(sock_new(BELL, AF_UNSPEC));
}

static int sim_adopt(int fd)
{
    OURS(fd, s, keel_net_real.adopt(fd));

    return s ? 0 : -EBADF;
}

const struct keel_net net_simulated = {
    .socket = sim_socket,
    .bind = sim_bind,
    .listen = sim_listen,
    .connect = sim_connect,
    .accept = sim_accept,
    .recv = sim_recv,
    .send = sim_send,
    .recvmsg = sim_recvmsg,
    .sendmsg = sim_sendmsg,
    .shutdown = sim_shutdown,
    .getsockopt = sim_getsockopt,
    .setsockopt = sim_setsockopt,
    .getsockname = sim_getsockname,
    .getpeername = sim_getpeername,
    .poll = sim_poll,
    .eventfd = sim_eventfd,
    .close = sim_close,
    .adopt = sim_adopt,
};

void net_open(void)
{
    memset(&n, 0, sizeof n);
    n.port = 30000;
}

void net_close(void)
{
    while (n.all) {
        struct sock *s = n.all;

        n.all = s->older;
        packets_free(s);
        free(s);
    }
    free(n.by_fd);
    memset(&n, 0, sizeof n);
}
