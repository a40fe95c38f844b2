/* SPDX-License-Identifier: MIT */
/* Sockets by name.
 *
 * 1. address_parse splits the text; nothing is looked up.
 * 2. resolve turns it into targets: literals by themselves, names on the
 *    blocking pool, at most
 *    KEEL_RESOLVE_MOST of them, families in turn (RFC 8305 4).
 * 3. dial races the targets, one coroutine each; a plain thread tries them
 *    one after another. */
#include <keel/net.h>

#include <errno.h>
#include <netdb.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/un.h>
#include <unistd.h>

#include <keel/co.h>
#include <keel/io.h>
#include <keel/lock.h>
#include <keel/seam.h>

#include "io/address_inside.h"
#include "io/socket_inside.h"

enum {
    HOST_BYTES = 256, /* a DNS name has at most 253, and the final zero */
    BACKLOG = 4096,
    /* A peer whose machine vanished is noticed after two minutes. */
    KEEP_IDLE_S = 60,
    KEEP_INTERVAL_S = 15,
    KEEP_COUNT = 4,
};
/* RFC 8305 5: Connection Attempt Delay */
#define ATTEMPT_DELAY (250 * KEEL_MS)

/* ---- addresses as text ----------------------------------------------------------- */

struct address {
    const char *unix_path;  /* NULL: by host and port */
    struct keel_address ip; /* no address: by `host` */
    char host[HOST_BYTES];
    uint16_t port;
};

static int unix_parse(const char *path, struct address *ret)
{
    if (!*path)
        return -EINVAL;
    if (strlen(path) >= sizeof((struct sockaddr_un *)0)->sun_path)
        return -ENAMETOOLONG;
    *ret = (struct address){.unix_path = path};
    return 0;
}

static int address_parse(const char *text, struct address *ret)
{
    struct address a = {0};
    const char *colon = strrchr(text, ':');
    size_t size;
    int rc;

    if (!strncmp(text, "unix:", 5))
        return unix_parse(text + 5, ret);
    if (keel_address_parse(text, &a.ip) == 0) {
        a.port = a.ip.port;
        *ret = a;
        return 0;
    }
    if (!colon || text[0] == '[')
        return -EINVAL;
    size = (size_t)(colon - text);
    if (size == 0 || size >= sizeof a.host || memchr(text, ':', size))
        return -EINVAL; /* a v6 address wants brackets */
    memcpy(a.host, text, size);
    rc = address_port_parse(colon + 1, &a.port);
    if (rc < 0)
        return rc;
    *ret = a;
    return 0;
}

static void print_address(const struct sockaddr *addr, socklen_t size,
                          char ret[KEEL_ADDRESS_BYTES])
{
    const struct sockaddr_un *un = (const void *)addr;
    size_t path = size > offsetof(struct sockaddr_un, sun_path)
                      ? size - offsetof(struct sockaddr_un, sun_path)
                      : 0;
    struct keel_address ip;

    if (keel_address_from_sockaddr(addr, size, &ip) == 0)
        keel_address_print(&ip, ret);
    else if (addr->sa_family == AF_UNIX)
        (void)snprintf(ret, KEEL_ADDRESS_BYTES, "unix:%.*s", (int)path,
                       un->sun_path);
    else
        (void)snprintf(ret, KEEL_ADDRESS_BYTES, "?");
}

/* ---- resolving ------------------------------------------------------------------------ */

struct target {
    union {
        struct sockaddr any;
        struct sockaddr_in v4;
        struct sockaddr_in6 v6;
        struct sockaddr_un un;
    } addr;
    socklen_t size;
};

static struct target target_of(const struct keel_address *ip)
{
    struct sockaddr_storage addr;
    struct target t = {.size = keel_address_to_sockaddr(ip, &addr)};

    memcpy(&t.addr, &addr, t.size);
    return t;
}

/* A name being looked up.  The C library's resolver cannot be interrupted, so
 * who gives up waiting leaves it behind: `refs` counts the asker and the
 * coroutine that is on the blocking pool, both of one loop. */
struct lookup {
    char host[HOST_BYTES];
    int rc;
    struct addrinfo *found;
    struct keel_event done;
    int refs;
};

static void lookup_drop(struct lookup *l)
{
    if (--l->refs)
        return;
    if (l->found)
        freeaddrinfo(l->found);
    keel_event_fini(&l->done);
    keel_free(l);
}

/* On the blocking pool, or in a plain thread. */
static int lookup_run(void *arg)
{
    struct lookup *l = arg;
    struct addrinfo hints = {.ai_socktype = SOCK_STREAM};

    if (!keel_seam.net->kernel) {
        l->rc = -ENOENT; /* a world without names */
        return 0;
    }
    switch (getaddrinfo(l->host, NULL, &hints, &l->found)) {
    case 0:
        l->rc = 0;
        break;
    case EAI_AGAIN:
        l->rc = -EAGAIN;
        break;
    case EAI_MEMORY:
        l->rc = -ENOMEM;
        break;
    case EAI_SYSTEM:
        l->rc = -errno;
        break;
    default:
        l->rc = -ENOENT;
        break;
    }
    return 0;
}

static int lookup_co(void *arg)
{
    struct lookup *l = arg;
    int rc = keel_blocking(lookup_run, l);

    if (rc < 0)
        l->rc = rc;
    keel_event_set(&l->done);
    lookup_drop(l);
    return 0;
}

static int lookup_wait(struct lookup *l, keel_ns deadline)
{
    const struct keel_spawn how = {.name = "resolver"};
    int rc;

    if (!keel_current())
        return lookup_run(l);
    l->refs++;
    rc = keel_spawn(&how, lookup_co, l, NULL);
    if (rc < 0) {
        l->refs--;
        return rc;
    }
    return keel_event_wait(&l->done, deadline);
}

/* Takes the addresses with the families in turn, the resolver's first first:
 * a family that leads nowhere delays the other by one attempt only. */
static int take_found(const struct addrinfo *found, uint16_t port,
                      struct keel_address *ret, int room)
{
    const struct addrinfo *at[2] = {found, found};
    int first = found ? found->ai_family : AF_UNSPEC;
    int count = 0;

    for (int turn = 0; count < room && (at[0] || at[1]); turn = !turn) {
        const struct addrinfo **ai = &at[turn];

        while (*ai && ((*ai)->ai_family == first) != (turn == 0))
            *ai = (*ai)->ai_next;
        if (!*ai)
            continue;
        if (keel_address_from_sockaddr((*ai)->ai_addr, (*ai)->ai_addrlen,
                                       &ret[count]) == 0)
            ret[count++].port = port;
        *ai = (*ai)->ai_next;
    }
    return count;
}

static int resolve_name(const struct address *a, keel_ns deadline,
                        struct keel_address *ret, int room)
{
    struct lookup *l = keel_calloc(1, sizeof *l);
    int rc;

    if (!l)
        return -ENOMEM;
    l->refs = 1;
    keel_event_init(&l->done);
    memcpy(l->host, a->host, sizeof l->host);
    rc = lookup_wait(l, deadline);
    if (rc == 0)
        rc = l->rc;
    if (rc == 0) {
        rc = take_found(l->found, a->port, ret, room);
        if (rc == 0)
            rc = -ENOENT;
    }
    lookup_drop(l);
    return rc;
}

/* Returns how many. */
static int resolve_ip(const struct address *a, keel_ns deadline,
                      struct keel_address *ret, int room)
{
    if (a->ip.family == KEEL_NO_ADDRESS)
        return resolve_name(a, deadline, ret, room);
    ret[0] = a->ip;
    return 1;
}

int keel_resolve(const char *address, keel_ns deadline,
                 struct keel_address *ret, size_t room)
{
    struct keel_address found[KEEL_RESOLVE_MOST];
    struct address a;
    int count;
    int rc = address_parse(address, &a);

    keel_assert(room > 0);
    if (rc < 0)
        return rc;
    if (a.unix_path)
        return -EINVAL;
    if (room > KEEL_RESOLVE_MOST)
        room = KEEL_RESOLVE_MOST;
    count = resolve_ip(&a, deadline, found, (int)room);
    if (count > 0)
        memcpy(ret, found, (size_t)count * sizeof *ret);
    return count;
}

/* Returns how many. */
static int resolve(const struct address *a, keel_ns deadline,
                   struct target ret[KEEL_RESOLVE_MOST])
{
    struct keel_address found[KEEL_RESOLVE_MOST];
    int count;

    if (a->unix_path) {
        struct target t = {.size = sizeof t.addr.un};

        t.addr.un.sun_family = AF_UNIX;
        memcpy(t.addr.un.sun_path, a->unix_path, strlen(a->unix_path));
        ret[0] = t;
        return 1;
    }
    count = resolve_ip(a, deadline, found, KEEL_RESOLVE_MOST);
    for (int i = 0; i < count; i++)
        ret[i] = target_of(&found[i]);
    return count;
}

/* ---- sockets as streams ----------------------------------------------------------------- */

struct socket {
    struct keel_stream stream;
    int fd;
    sa_family_t family;
    /* The peer's, kept because a connection that is gone cannot be asked, in as
     * many bytes as it has: there are many of these.  A unix peer has none. */
    uint16_t port;
    uint32_t zone;
    uint8_t bytes[];
};

static uint8_t address_family(sa_family_t family)
{
    return family == AF_INET    ? KEEL_V4
           : family == AF_INET6 ? KEEL_V6
                                : KEEL_NO_ADDRESS;
}

static size_t address_bytes(uint8_t family)
{
    return family == KEEL_V4 ? 4 : family == KEEL_V6 ? 16 : 0;
}

static struct socket *socket_of(struct keel_stream *s)
{
    return (struct socket *)(void *)s;
}

static ssize_t socket_read(struct keel_stream *s, void *buf, size_t size,
                           keel_ns deadline)
{
    return keel_fd_read(socket_of(s)->fd, buf, size, deadline);
}

static int write_all(int fd, const char *buf, size_t size, keel_ns deadline)
{
    while (size) {
        ssize_t sent = keel_fd_write(fd, buf, size, deadline);

        if (sent < 0)
            return (int)sent;
        buf += sent;
        size -= (size_t)sent;
    }
    return 0;
}

/* Sends up to 16 buffers in one call, and the rest of the one in which the
 * call stopped.  Returns how many buffers are done. */
static int write_some(int fd, const struct iovec *iov, int count,
                      keel_ns deadline)
{
    struct msghdr msg = {
        .msg_iov = (struct iovec *)(uintptr_t)iov, /* only read */
        .msg_iovlen = (size_t)(count < 16 ? count : 16),
    };
    ssize_t sent = keel_fd_sendmsg(fd, &msg, 0, deadline);
    int done = 0;

    if (sent < 0)
        return (int)sent;
    while (done < count && (size_t)sent >= iov[done].iov_len &&
           done < (int)msg.msg_iovlen)
        sent -= (ssize_t)iov[done++].iov_len;
    if (sent > 0) {
        int rc = write_all(fd, (const char *)iov[done].iov_base + sent,
                           iov[done].iov_len - (size_t)sent, deadline);
        if (rc < 0)
            return rc;
        done++;
    }
    return done;
}

static int socket_writev(struct keel_stream *s, const struct iovec *iov,
                         int count, keel_ns deadline)
{
    int fd = socket_of(s)->fd;

    while (count > 1) {
        int done = write_some(fd, iov, count, deadline);

        if (done < 0)
            return done;
        iov += done;
        count -= done;
    }
    return count ? write_all(fd, iov->iov_base, iov->iov_len, deadline) : 0;
}

static int socket_finish(struct keel_stream *s, keel_ns deadline)
{
    int rc = socket_enter(KEEL_OP_SHUTDOWN);

    (void)deadline; /* the kernel has the bytes: there is nothing to wait for */
    if (rc < 0)
        return rc;
    return keel_seam.net->shutdown(socket_of(s)->fd, SHUT_WR);
}

static void socket_close(struct keel_stream *s)
{
    keel_fd_close(socket_of(s)->fd);
    keel_free(s);
}

static int socket_fd(struct keel_stream *s)
{
    return socket_of(s)->fd;
}

static const struct keel_stream_class socket_class = {
    .name = "socket",
    .read = socket_read,
    .writev = socket_writev,
    .finish = socket_finish,
    .close = socket_close,
    .fd = socket_fd,
};

static struct keel_address socket_peer(const struct socket *s)
{
    struct keel_address a = {.port = s->port, .zone = s->zone};

    a.family = address_family(s->family);
    memcpy(a.bytes, s->bytes, address_bytes(a.family));
    return a;
}

/* Takes the descriptor on success. */
static int socket_new(int fd, const struct sockaddr *peer, socklen_t size,
                      struct keel_stream **ret)
{
    struct keel_address ip = {0};
    struct socket *s;

    (void)keel_address_from_sockaddr(peer, size, &ip);
    s = keel_alloc(offsetof(struct socket, bytes) + address_bytes(ip.family));
    if (!s)
        return -ENOMEM;
    s->stream.is = &socket_class;
    s->fd = fd;
    s->family = peer->sa_family;
    s->port = ip.port;
    s->zone = ip.zone;
    memcpy(s->bytes, ip.bytes, address_bytes(ip.family));
    *ret = &s->stream;
    return 0;
}

int keel_stream_from_fd(int fd, struct keel_stream **ret)
{
    struct sockaddr_storage peer = {0};
    socklen_t size = sizeof peer;
    int rc = keel_fd_adopt(fd);

    if (rc < 0)
        return rc;
    rc = keel_seam.net->getpeername(fd, (struct sockaddr *)&peer, &size);
    if (rc < 0)
        return rc;
    return socket_new(fd, (struct sockaddr *)&peer, size, ret);
}

static bool is_unix(struct keel_stream *s)
{
    return s->is == &socket_class && socket_of(s)->family == AF_UNIX;
}

int keel_stream_send_fds(struct keel_stream *s, const void *data, size_t size,
                         const int *fds, size_t count, keel_ns deadline)
{
    ssize_t sent;

    if (!is_unix(s))
        return -EINVAL;
    sent = keel_fd_send_fds(socket_of(s)->fd, data, size, fds, count, deadline);
    if (sent < 0)
        return (int)sent;
    return write_all(socket_of(s)->fd, (const char *)data + sent,
                     size - (size_t)sent, deadline);
}

int keel_stream_recv_fds(struct keel_stream *s, void *buf, size_t size,
                         int *ret_fds, size_t room, keel_ns deadline,
                         size_t *ret_count)
{
    int fds[KEEL_FDS_MOST];
    size_t got = 0, count = 0;
    ssize_t n = 1;

    if (!is_unix(s) || size == 0)
        return -EINVAL;
    while (got < size && n > 0) {
        size_t more = 0;

        n = keel_fd_recv_fds(socket_of(s)->fd, (char *)buf + got, size - got,
                             fds + count, room - count, deadline, &more);
        if (n > 0) {
            got += (size_t)n;
            count += more;
        }
    }
    if (n > 0) {
        for (size_t i = 0; i < count; i++)
            ret_fds[i] = fds[i];
        *ret_count = count;
        return 0;
    }
    for (size_t i = 0; i < count; i++)
        (void)close(fds[i]);
    if (n < 0)
        return (int)n;
    return got ? -ECONNABORTED : -ENODATA;
}

int keel_stream_peer(struct keel_stream *s, char ret[KEEL_ADDRESS_BYTES])
{
    struct sockaddr_storage peer = {0};
    socklen_t size = sizeof peer;
    int fd, rc;

    if (s->is == &socket_class) {
        struct keel_address ip = socket_peer(socket_of(s));

        if (ip.family)
            keel_address_print(&ip, ret);
        else
            (void)snprintf(ret, KEEL_ADDRESS_BYTES, "%s",
                           socket_of(s)->family == AF_UNIX ? "unix:" : "?");
        return 0;
    }
    fd = keel_stream_fd(s);
    if (fd < 0)
        return -ENOTSOCK;
    rc = keel_seam.net->getpeername(fd, (struct sockaddr *)&peer, &size);
    if (rc < 0)
        return rc;
    print_address((struct sockaddr *)&peer, size, ret);
    return 0;
}

/* ---- options -------------------------------------------------------------------------------- */

/* Of a socket about to connect, or of a listener: what it accepts inherits
 * them. */
static void set_options(int fd, int family)
{
    static const struct {
        int level, name, value;
    } options[] = {
        {IPPROTO_TCP, TCP_NODELAY, 1},
        {SOL_SOCKET, SO_KEEPALIVE, 1},
        {IPPROTO_TCP, TCP_KEEPIDLE, KEEP_IDLE_S},
        {IPPROTO_TCP, TCP_KEEPINTVL, KEEP_INTERVAL_S},
        {IPPROTO_TCP, TCP_KEEPCNT, KEEP_COUNT},
    };

    if (family != AF_INET && family != AF_INET6)
        return;
    /* A kernel that refuses one of them still carries the bytes. */
    for (size_t i = 0; i < sizeof options / sizeof *options; i++)
        (void)keel_seam.net->setsockopt(fd, options[i].level, options[i].name,
                                        &options[i].value,
                                        sizeof options[i].value);
}

static int set_option(struct keel_stream *s, int level, int name, int value)
{
    int fd = keel_stream_fd(s);

    if (fd < 0)
        return -ENOTSOCK;
    return keel_seam.net->setsockopt(fd, level, name, &value, sizeof value);
}

int keel_stream_nodelay(struct keel_stream *s, bool on)
{
    return set_option(s, IPPROTO_TCP, TCP_NODELAY, on);
}

int keel_stream_keepalive(struct keel_stream *s, keel_ns silence)
{
    /* What the kernel takes at the most, nine hours. */
    const keel_ns most = 32767 * KEEL_SECOND;
    int idle, rc;

    if (silence == KEEL_FOREVER)
        return set_option(s, SOL_SOCKET, SO_KEEPALIVE, 0);
    idle = (int)((silence < most ? silence : most) / KEEL_SECOND);
    if (idle < 1)
        idle = 1;
    rc = set_option(s, IPPROTO_TCP, TCP_KEEPIDLE, idle);
    if (rc == 0)
        rc = set_option(s, IPPROTO_TCP, TCP_KEEPINTVL, (idle + 3) / 4);
    if (rc == 0)
        rc = set_option(s, IPPROTO_TCP, TCP_KEEPCNT, KEEP_COUNT);
    if (rc == 0)
        rc = set_option(s, SOL_SOCKET, SO_KEEPALIVE, 1);
    return rc;
}

static int socket_open(int family)
{
    int fd = socket_new_fd(family, SOCK_STREAM);

    if (fd >= 0)
        set_options(fd, family);
    return fd;
}

/* ---- dialling ----------------------------------------------------------------------------------- */

/* A connected descriptor. */
static int connect_target(const struct target *t, keel_ns deadline)
{
    int fd = socket_open(t->addr.any.sa_family);
    int rc;

    if (fd < 0)
        return fd;
    rc = keel_fd_connect(fd, &t->addr.any, t->size, deadline);
    if (rc < 0) {
        keel_fd_close(fd);
        return rc;
    }
    return fd;
}

/* All of it belongs to one loop, and lives until its attempts were joined. */
struct race {
    const struct target *targets;
    keel_ns deadline;
    struct keel_event news; /* an attempt ended */
    int running;
    int winner; /* the descriptor, -1: none yet */
    int winner_is;
    int error; /* of the attempt that failed last */
};
struct attempt {
    struct race *race;
    int target;
};

static int attempt_co(void *arg)
{
    struct attempt *a = arg;
    struct race *r = a->race;
    int fd = connect_target(&r->targets[a->target], r->deadline);

    if (fd < 0) {
        r->error = fd;
    } else if (r->winner < 0) {
        r->winner = fd;
        r->winner_is = a->target;
    } else {
        keel_fd_close(fd); /* a photo finish */
    }
    r->running--;
    keel_event_set(&r->news);
    return 0;
}

static int race_wait(struct race *r, keel_ns until)
{
    int rc = keel_event_wait(&r->news, until);

    keel_event_clear(&r->news);
    return rc;
}

/* Starts one attempt after another, each when the one before failed or has
 * had its time, until one wins.  RFC 8305 5. */
static int race_run(struct race *r, struct keel_group *group,
                    struct attempt *attempts, int count)
{
    const struct keel_spawn how = {.name = "dial", .group = group};
    int rc;

    for (int i = 0; i < count; i++) {
        int running;
        keel_ns next = keel_after(ATTEMPT_DELAY);

        attempts[i] = (struct attempt){r, i};
        r->running++;
        rc = keel_spawn(&how, attempt_co, &attempts[i], NULL);
        if (rc < 0) {
            r->running--;
            return rc;
        }
        running = r->running;
        rc = 0;
        while (r->winner < 0 && r->running == running && rc == 0)
            rc = race_wait(r, next < r->deadline ? next : r->deadline);
        if (r->winner >= 0)
            return 0;
        if (rc == -ECANCELED || (rc == -ETIMEDOUT && keel_now() >= r->deadline))
            return rc;
    }
    while (r->winner < 0 && r->running > 0) {
        rc = race_wait(r, r->deadline);
        if (rc < 0)
            return rc;
    }
    return r->winner < 0 ? r->error : 0;
}

static int dial_race(const struct target *targets, int count, keel_ns deadline,
                     int *ret_which)
{
    struct attempt attempts[KEEL_RESOLVE_MOST];
    struct race r = {.targets = targets, .deadline = deadline, .winner = -1};
    struct keel_group *group = NULL;
    int rc;

    rc = keel_group_new(0, &group);
    if (rc < 0)
        return rc;
    keel_event_init(&r.news);
    rc = race_run(&r, group, attempts, count);
    keel_group_free(group); /* cancels and joins the losers */
    keel_event_fini(&r.news);
    if (r.winner < 0)
        return rc;
    /* It may have won while the race was given up. */
    if (rc < 0) {
        keel_fd_close(r.winner);
        return rc;
    }
    *ret_which = r.winner_is;
    return r.winner;
}

/* A thread cannot race; each address gets its share of the time. */
static int dial_in_turn(const struct target *targets, int count,
                        keel_ns deadline, int *ret_which)
{
    int rc = -ENOENT;

    for (int i = 0; i < count; i++) {
        keel_ns share = deadline;

        if (deadline != KEEL_FOREVER && deadline > keel_now())
            share = keel_after((deadline - keel_now()) / (count - i));
        rc = connect_target(&targets[i], share);
        if (rc >= 0) {
            *ret_which = i;
            return rc;
        }
    }
    return rc;
}

int keel_dial(const char *address, keel_ns deadline, struct keel_stream **ret)
{
    struct target targets[KEEL_RESOLVE_MOST];
    struct address a;
    int count, which = 0;
    int rc = address_parse(address, &a);

    if (rc < 0)
        return rc;
    if (!a.unix_path && a.port == 0)
        return -EINVAL;
    count = resolve(&a, deadline, targets);
    if (count < 0)
        return count;
    if (count == 1)
        rc = connect_target(&targets[0], deadline);
    else if (keel_current())
        rc = dial_race(targets, count, deadline, &which);
    else
        rc = dial_in_turn(targets, count, deadline, &which);
    if (rc >= 0) {
        int fd = rc;

        rc = socket_new(fd, &targets[which].addr.any, targets[which].size, ret);
        if (rc < 0)
            keel_fd_close(fd);
    }
    return rc;
}

/* ---- listening -------------------------------------------------------------------------------------- */

struct keel_listener {
    int fd;
    char address[KEEL_ADDRESS_BYTES];
    /* A unix socket's name, to be removed while it is still ours. */
    char *path;
    dev_t dev;
    ino_t ino;
};

static void unlink_own(const struct keel_listener *l)
{
    struct stat st;

    if (l->path && lstat(l->path, &st) == 0 && st.st_dev == l->dev &&
        st.st_ino == l->ino)
        (void)unlink(l->path);
}

void keel_listener_close(struct keel_listener *l)
{
    if (!l)
        return;
    if (l->fd >= 0) {
        unlink_own(l);
        keel_fd_close(l->fd);
    }
    keel_free(l->path);
    keel_free(l);
}

static int listener_new(struct keel_listener **ret)
{
    struct keel_listener *l = keel_calloc(1, sizeof *l);

    if (!l)
        return -ENOMEM;
    l->fd = -1;
    *ret = l;
    return 0;
}

/* Reads the real address back. */
static int listener_name(struct keel_listener *l)
{
    struct sockaddr_storage own = {0};
    socklen_t size = sizeof own;
    int rc;

    rc = keel_seam.net->getsockname(l->fd, (struct sockaddr *)&own, &size);
    if (rc < 0)
        return rc;
    print_address((struct sockaddr *)&own, size, l->address);
    return 0;
}

/* True when `path` is a socket that nobody listens on. */
static bool is_dead(const struct target *t)
{
    struct stat st;
    int fd, rc;

    if (lstat(t->addr.un.sun_path, &st) < 0 || !S_ISSOCK(st.st_mode))
        return false;
    fd = socket(AF_UNIX, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0);
    if (fd < 0)
        return false;
    rc = connect(fd, &t->addr.any, t->size) < 0 ? -errno : 0;
    (void)close(fd);
    return rc == -ECONNREFUSED;
}

static int bind_unix(struct keel_listener *l, const struct target *t)
{
    const char *path = t->addr.un.sun_path;
    int rc = keel_seam.net->bind(l->fd, &t->addr.any, t->size);
    struct stat st;

    if (!keel_seam.net->kernel)
        return rc; /* its names are in no file system */

    if (rc == -EADDRINUSE && is_dead(t)) {
        (void)unlink(path);
        rc = keel_seam.net->bind(l->fd, &t->addr.any, t->size);
    }
    if (rc < 0)
        return rc;
    /* Before listen(2), so that nobody connects by the mode of the umask. */
    if (lstat(path, &st) < 0)
        return -errno;
    l->dev = st.st_dev;
    l->ino = st.st_ino;
    l->path = keel_strdup(path);
    if (!l->path) {
        (void)unlink(path);
        return -ENOMEM;
    }
    return chmod(path, 0600) < 0 ? -errno : 0;
}

static int bind_ip(struct keel_listener *l, const struct target *t)
{
    const int on = 1;
    int v6_only = !IN6_IS_ADDR_UNSPECIFIED(&t->addr.v6.sin6_addr);

    (void)keel_seam.net->setsockopt(l->fd, SOL_SOCKET, SO_REUSEADDR, &on,
                                    sizeof on);
    if (t->addr.any.sa_family == AF_INET6)
        (void)keel_seam.net->setsockopt(l->fd, IPPROTO_IPV6, IPV6_V6ONLY,
                                        &v6_only, sizeof v6_only);
    return keel_seam.net->bind(l->fd, &t->addr.any, t->size);
}

static int listener_open(struct keel_listener *l, const struct target *t)
{
    int rc = socket_open(t->addr.any.sa_family);

    if (rc < 0)
        return rc;
    l->fd = rc;
    rc = t->addr.any.sa_family == AF_UNIX ? bind_unix(l, t) : bind_ip(l, t);
    if (rc < 0)
        return rc;
    rc = keel_seam.net->listen(l->fd, BACKLOG);
    if (rc < 0)
        return rc;
    return listener_name(l);
}

/* "[::]" on a machine without IPv6 means all that it has. */
static bool any6(const struct target *t)
{
    return t->addr.any.sa_family == AF_INET6 &&
           IN6_IS_ADDR_UNSPECIFIED(&t->addr.v6.sin6_addr);
}

int keel_listen(const char *address, struct keel_listener **ret)
{
    keel_auto(listener) struct keel_listener *l = NULL;
    struct target targets[KEEL_RESOLVE_MOST];
    struct address a;
    int rc = address_parse(address, &a);

    if (rc == 0)
        rc = resolve(&a, KEEL_FOREVER, targets);
    if (rc < 0)
        return rc;
    rc = listener_new(&l);
    if (rc < 0)
        return rc;
    rc = listener_open(l, &targets[0]);
    if (rc == -EAFNOSUPPORT && any6(&targets[0])) {
        const struct target all4 = {
            .addr.v4 = {.sin_family = AF_INET, .sin_port = htons(a.port)},
            .size = sizeof all4.addr.v4,
        };

        rc = listener_open(l, &all4);
    }
    if (rc < 0)
        return rc;
    *ret = keel_take(l);
    return 0;
}

int keel_listener_adopt(int fd, struct keel_listener **ret)
{
    keel_auto(listener) struct keel_listener *l = NULL;
    int listens = 0, domain = 0;
    socklen_t size = sizeof listens;
    int rc;

    rc = keel_seam.net->getsockopt(fd, SOL_SOCKET, SO_ACCEPTCONN, &listens,
                                   &size);
    if (rc < 0)
        return rc;
    if (!listens)
        return -EINVAL;
    rc = keel_fd_adopt(fd);
    if (rc < 0)
        return rc;
    rc = listener_new(&l);
    if (rc < 0)
        return rc;
    size = sizeof domain;
    rc = keel_seam.net->getsockopt(fd, SOL_SOCKET, SO_DOMAIN, &domain, &size);
    if (rc < 0)
        return rc;
    set_options(fd, domain);
    l->fd = fd;
    rc = listener_name(l);
    if (rc < 0) {
        l->fd = -1; /* still the caller's */
        return rc;
    }
    *ret = keel_take(l);
    return 0;
}

const char *keel_listener_address(const struct keel_listener *l)
{
    return l->address;
}

int listener_fd(const struct keel_listener *l)
{
    return l->fd;
}

/* After the wait the listener may be gone: it is not touched again. */
int keel_accept(struct keel_listener *l, keel_ns deadline,
                struct keel_stream **ret)
{
    struct sockaddr_storage peer;
    int fd = keel_fd_accept(l->fd, &peer, deadline);
    int rc;

    if (fd < 0)
        return fd;
    rc = socket_new(fd, (struct sockaddr *)&peer, sizeof peer, ret);
    if (rc < 0)
        keel_fd_close(fd);
    return rc;
}
