/* SPDX-License-Identifier: MIT */
/* Reading, writing, receiving, sending.
 *
 * A socket's call is tried with MSG_DONTWAIT, whatever its descriptor's mode:
 * where it succeeds at once, which is most of the time, that is all.  Only when
 * it would wait, the mode tells whether EAGAIN is the answer or parking.  Pipes
 * and the like have RWF_NOWAIT, or poll(2) first where they do not know it.
 * Files never wait for a peer and are left alone. */
#include <fcntl.h>
#include <limits.h>
#include <sys/stat.h>

#include "patch_inside.h"

/* A call on its way: what it moves, how long it may wait.  `msg` or, without
 * one, the single buffer with an address. */
struct transfer {
    struct patience patience;
    int fd, flags;
    int option; /* SO_RCVTIMEO or SO_SNDTIMEO; 0: not a socket */
    short events;
    bool timed; /* the deadline is known */
    struct iovec *iov;
    size_t count;
    struct msghdr *msg;
    struct sockaddr *address;
    socklen_t *address_size; /* receiving */
    socklen_t to_size;       /* sending */
};

static size_t iov_size(const struct iovec *iov, size_t count)
{
    size_t size = 0;

    for (size_t i = 0; i < count; i++)
        size += iov[i].iov_len;
    return size;
}

/* The piece that is next after `done` bytes; false: there is none. */
static bool iov_rest(const struct iovec *iov, size_t count, size_t done,
                     struct iovec *ret)
{
    for (size_t i = 0; i < count; i++) {
        if (done < iov[i].iov_len) {
            ret->iov_base = (char *)iov[i].iov_base + done;
            ret->iov_len = iov[i].iov_len - done;
            return true;
        }
        done -= iov[i].iov_len;
    }
    return false;
}

/* ---- waiting ------------------------------------------------------------------------ */

static keel_ns socket_deadline(const struct patched *k, int fd, int option)
{
    struct timeval tv = {0, 0};
    socklen_t size = sizeof tv;

    if (getsockopt(fd, SOL_SOCKET, option, &tv, &size) < 0 ||
        (!tv.tv_sec && !tv.tv_usec))
        return KEEL_FOREVER;
    return after(k, tv.tv_sec * KEEL_SECOND + tv.tv_usec * 1000);
}

/* A coroutine that was cancelled before gets nothing more from what blocks:
 * else one whose data never runs dry could not be stopped.  What it writes is
 * refused only when that would wait: keel itself may ring a bell in it. */
static bool is_refused(const struct patched *k, int fd)
{
    int rc = k->allowed();

    if (rc == 0 || !is_blocking(fd))
        return false;
    errno = -rc;
    return true;
}

/* 0: try again; -1 with errno. */
static int would_wait(struct transfer *t)
{
    struct patience *p = &t->patience;
    int rc;

    if (!t->timed) {
        t->timed = true;
        if (t->option)
            p->deadline = socket_deadline(p->keel, t->fd, t->option);
    }
    rc = wait_more_for(p, t->fd, t->events);
    if (rc == -ETIMEDOUT && it_is_over(p))
        rc = -EAGAIN;
    return rc < 0 ? failed(rc) : 0;
}

static ssize_t ended(ssize_t n, int before)
{
    if (n < 0)
        return n;
    errno = before;
    return n;
}

/* ---- sockets ------------------------------------------------------------------------- */

static ssize_t try_receive(struct transfer *t)
{
    if (t->msg)
        return real.recvmsg(t->fd, t->msg, t->flags | MSG_DONTWAIT);
    if (t->count != 1) {
        struct msghdr msg = {.msg_iov = t->iov, .msg_iovlen = t->count};

        return real.recvmsg(t->fd, &msg, t->flags | MSG_DONTWAIT);
    }
    return real.recvfrom(t->fd, t->iov->iov_base, t->iov->iov_len,
                         t->flags | MSG_DONTWAIT, t->address, t->address_size);
}

static ssize_t try_send(struct transfer *t)
{
    if (t->msg)
        return real.sendmsg(t->fd, t->msg, t->flags | MSG_DONTWAIT);
    if (t->count != 1) {
        const struct msghdr msg = {.msg_iov = t->iov, .msg_iovlen = t->count};

        return real.sendmsg(t->fd, &msg, t->flags | MSG_DONTWAIT);
    }
    return real.sendto(t->fd, t->iov->iov_base, t->iov->iov_len,
                       t->flags | MSG_DONTWAIT, t->address, t->to_size);
}

/* Whatever it is, once. */
static ssize_t transfer_once(struct transfer *t, bool receives)
{
    for (;;) {
        ssize_t n = receives ? try_receive(t) : try_send(t);

        if (n >= 0 || errno != EAGAIN)
            return n;
        if (!is_blocking(t->fd))
            return failed(EAGAIN);
        if (would_wait(t) < 0)
            return -1;
    }
}

static bool is_stream(int fd)
{
    int type = 0;
    socklen_t size = sizeof type;

    return getsockopt(fd, SOL_SOCKET, SO_TYPE, &type, &size) == 0 &&
           type == SOCK_STREAM;
}

/* After `done` bytes the rest, piece by piece.  Who got something says how
 * much: the error shows at the next call. */
static ssize_t transfer_rest(struct transfer *t, ssize_t done, bool receives)
{
    struct transfer rest = *t;
    struct iovec piece;

    if (!is_stream(t->fd) || !is_blocking(t->fd))
        return done;
    rest.iov = &piece;
    rest.count = 1;
    rest.msg = NULL;
    rest.address = NULL;
    rest.address_size = NULL;
    rest.to_size = 0;
    while (iov_rest(t->iov, t->count, (size_t)done, &piece)) {
        ssize_t n = transfer_once(&rest, receives);

        if (n <= 0)
            break;
        rest.patience.vain = 0;
        done += n;
    }
    return done;
}

/* One call on a socket; on anything else -1 with ENOTSOCK. */
static ssize_t transfer(struct transfer *t, bool receives)
{
    const struct patched *k = t->patience.keel;
    bool whole =
        receives ? (t->flags & MSG_WAITALL) && !(t->flags & MSG_PEEK) : true;
    int before = errno;
    ssize_t n;

    if (receives && is_refused(k, t->fd))
        return -1;
    n = transfer_once(t, receives);
    if (n > 0 && whole && (size_t)n < iov_size(t->iov, t->count))
        n = transfer_rest(t, n, receives);
    /* A handler of a signal may send, but never switch. */
    if (n >= 0 && receives && !t->timed)
        fair(k, t->fd);
    return ended(n, before);
}

static struct transfer receiving(const struct patched *k, int fd,
                                 struct iovec *iov, size_t count, int flags,
                                 const char *what)
{
    return (struct transfer){
        .patience = {.keel = k, .what = what, .deadline = KEEL_FOREVER},
        .fd = fd,
        .flags = flags,
        .option = SO_RCVTIMEO,
        .events = POLLIN,
        .iov = iov,
        .count = count,
    };
}

static struct transfer sending(const struct patched *k, int fd,
                               struct iovec *iov, size_t count, int flags,
                               const char *what)
{
    struct transfer t = receiving(k, fd, iov, count, flags, what);

    t.option = SO_SNDTIMEO;
    t.events = POLLOUT;
    return t;
}

/* ---- pipes, terminals, eventfds and the like -------------------------------------------- */

static bool is_ready(struct transfer *t)
{
    struct pollfd p = {.fd = t->fd, .events = t->events};

    return real.poll(&p, 1, 0) != 0;
}

/* Errors by which a descriptor says that it does not know RWF_NOWAIT. */
static bool is_foreign_to_nowait(int error)
{
    return error == EOPNOTSUPP || error == ENOSYS || error == ESPIPE;
}

/* One piece, without waiting: -1 and EAGAIN instead.  What takes no RWF_NOWAIT
 * is asked first; of a pipe or terminal that is ready no more than PIPE_BUF
 * bytes are sure to be taken. */
static ssize_t try_flow(struct transfer *t, const struct iovec *iov,
                        size_t count, bool in, mode_t mode)
{
    struct iovec some = *iov;
    ssize_t n = in ? preadv2(t->fd, iov, (int)count, -1, RWF_NOWAIT)
                   : pwritev2(t->fd, iov, (int)count, -1, RWF_NOWAIT);

    if (n >= 0 || (!is_foreign_to_nowait(errno) && errno != EINVAL))
        return n;
    if (is_foreign_to_nowait(errno) && !is_ready(t))
        return failed(EAGAIN);
    if (in)
        return real.readv(t->fd, iov, (int)count);
    if (some.iov_len <= PIPE_BUF || (!S_ISFIFO(mode) && !isatty(t->fd)))
        return real.writev(t->fd, iov, (int)count);
    some.iov_len = PIPE_BUF;
    return real.writev(t->fd, &some, 1);
}

static ssize_t flow_once(struct transfer *t, const struct iovec *iov,
                         size_t count, bool in, mode_t mode)
{
    for (;;) {
        ssize_t n = try_flow(t, iov, count, in, mode);

        if (n >= 0 || errno != EAGAIN)
            return n;
        if (would_wait(t) < 0)
            return -1;
    }
}

static ssize_t flow(struct transfer *t, bool in)
{
    const struct patched *k = t->patience.keel;
    int before = errno;
    struct iovec piece;
    struct stat st;
    ssize_t done;

    if (fstat(t->fd, &st) < 0 || S_ISREG(st.st_mode) || S_ISDIR(st.st_mode) ||
        S_ISBLK(st.st_mode) || !is_blocking(t->fd)) {
        errno = before;
        return in ? real.readv(t->fd, t->iov, (int)t->count)
                  : real.writev(t->fd, t->iov, (int)t->count);
    }
    if (in && is_refused(k, t->fd))
        return -1;
    t->option = 0;
    done = flow_once(t, t->iov, t->count, in, st.st_mode);
    while (!in && done > 0 &&
           iov_rest(t->iov, t->count, (size_t)done, &piece)) {
        ssize_t n;

        t->patience.vain = 0;
        n = flow_once(t, &piece, 1, false, st.st_mode);
        if (n <= 0)
            break;
        done += n;
    }
    if (done >= 0 && in && !t->timed)
        fair(k, t->fd);
    return ended(done, before);
}

/* read, readv, write and writev take either. */
static ssize_t either(struct transfer *t, bool in)
{
    int before = errno;
    ssize_t n = transfer(t, in);

    if (n >= 0 || errno != ENOTSOCK)
        return n;
    errno = before;
    return flow(t, in);
}

/* ---- the calls ------------------------------------------------------------------------- */

PATCHED(ssize_t, read, int fd, void *buf, size_t size)
{
    const struct patched *k = here();
    struct iovec v = {buf, size};
    struct transfer t;

    if (!k || !size)
        return real.read(fd, buf, size);
    t = receiving(k, fd, &v, 1, 0, "read");
    return either(&t, true);
}

PATCHED(ssize_t, write, int fd, const void *buf, size_t size)
{
    const struct patched *k = here();
    struct iovec v = {(void *)(uintptr_t)buf, size}; /* only read */
    struct transfer t;

    if (!k || !size)
        return real.write(fd, buf, size);
    t = sending(k, fd, &v, 1, 0, "write");
    return either(&t, false);
}

/* Not for what the kernel refuses by itself. */
static bool is_sound(const struct iovec *iov, int count)
{
    return count > 0 && count <= IOV_MAX && iov &&
           iov_size(iov, (size_t)count) > 0;
}

PATCHED(ssize_t, readv, int fd, const struct iovec *iov, int count)
{
    const struct patched *k = here();
    struct transfer t;

    if (!k || !is_sound(iov, count))
        return real.readv(fd, iov, count);
    t = receiving(k, fd, (struct iovec *)(uintptr_t)iov, (size_t)count, 0,
                  "readv");
    return either(&t, true);
}

PATCHED(ssize_t, writev, int fd, const struct iovec *iov, int count)
{
    const struct patched *k = here();
    struct transfer t;

    if (!k || !is_sound(iov, count))
        return real.writev(fd, iov, count);
    t = sending(k, fd, (struct iovec *)(uintptr_t)iov, (size_t)count, 0,
                "writev");
    return either(&t, false);
}

/* What never waits: the error queue and urgent data. */
static bool is_patient(const struct patched *k, int flags)
{
    return k && !(flags & (MSG_DONTWAIT | MSG_ERRQUEUE | MSG_OOB));
}

PATCHED(ssize_t, recv, int fd, void *buf, size_t size, int flags)
{
    const struct patched *k = here();
    struct iovec v = {buf, size};
    struct transfer t;

    if (!is_patient(k, flags))
        return real.recv(fd, buf, size, flags);
    t = receiving(k, fd, &v, 1, flags, "recv");
    return transfer(&t, true);
}

PATCHED(ssize_t, recvfrom, int fd, void *buf, size_t size, int flags,
        struct sockaddr *from, socklen_t *from_size)
{
    const struct patched *k = here();
    struct iovec v = {buf, size};
    struct transfer t;

    if (!is_patient(k, flags))
        return real.recvfrom(fd, buf, size, flags, from, from_size);
    t = receiving(k, fd, &v, 1, flags, "recvfrom");
    t.address = from;
    t.address_size = from_size;
    return transfer(&t, true);
}

PATCHED(ssize_t, recvmsg, int fd, struct msghdr *msg, int flags)
{
    const struct patched *k = here();
    struct transfer t;

    if (!is_patient(k, flags))
        return real.recvmsg(fd, msg, flags);
    t = receiving(k, fd, msg->msg_iov, msg->msg_iovlen, flags, "recvmsg");
    t.msg = msg;
    return transfer(&t, true);
}

PATCHED(ssize_t, send, int fd, const void *buf, size_t size, int flags)
{
    const struct patched *k = here();
    struct iovec v = {(void *)(uintptr_t)buf, size}; /* only read */
    struct transfer t;

    if (!is_patient(k, flags))
        return real.send(fd, buf, size, flags);
    t = sending(k, fd, &v, 1, flags, "send");
    return transfer(&t, false);
}

/* MSG_FASTOPEN connects too, and is left to wait for that. */
PATCHED(ssize_t, sendto, int fd, const void *buf, size_t size, int flags,
        const struct sockaddr *to, socklen_t to_size)
{
    const struct patched *k = here();
    struct iovec v = {(void *)(uintptr_t)buf, size}; /* only read */
    struct transfer t;

    if (!is_patient(k, flags) || (flags & MSG_FASTOPEN))
        return real.sendto(fd, buf, size, flags, to, to_size);
    t = sending(k, fd, &v, 1, flags, "sendto");
    t.address = (struct sockaddr *)(uintptr_t)to;
    t.to_size = to_size;
    return transfer(&t, false);
}

PATCHED(ssize_t, sendmsg, int fd, const struct msghdr *msg, int flags)
{
    const struct patched *k = here();
    struct transfer t;

    if (!is_patient(k, flags) || (flags & MSG_FASTOPEN))
        return real.sendmsg(fd, msg, flags);
    t = sending(k, fd, msg->msg_iov, msg->msg_iovlen, flags, "sendmsg");
    t.msg = (struct msghdr *)(uintptr_t)msg;
    return transfer(&t, false);
}

/* Several messages are one after another: as in the kernel, the time is looked
 * at after each, and an error after the first one shows at the next call. */
PATCHED(int, recvmmsg, int fd, struct mmsghdr *msgs, unsigned count, int flags,
        struct timespec *timeout)
{
    const struct patched *k = here();
    keel_ns deadline = KEEL_FOREVER;
    unsigned done = 0;
    int before = errno;

    if (!is_patient(k, flags) || !count ||
        !after_timespec(k, timeout, &deadline))
        return real.recvmmsg(fd, msgs, count, flags, timeout);
    while (done < count) {
        ssize_t n =
            patched_recvmsg(fd, &msgs[done].msg_hdr, flags & ~MSG_WAITFORONE);

        if (n < 0)
            break;
        msgs[done++].msg_len = (unsigned)n;
        if (flags & MSG_WAITFORONE)
            flags |= MSG_DONTWAIT;
        if (deadline != KEEL_FOREVER && k->now() >= deadline)
            break;
    }
    if (!done)
        return -1;
    errno = before;
    return (int)done;
}

PATCHED(int, sendmmsg, int fd, struct mmsghdr *msgs, unsigned count, int flags)
{
    unsigned done = 0;
    int before = errno;

    if (!is_patient(here(), flags) || !count)
        return real.sendmmsg(fd, msgs, count, flags);
    while (done < count) {
        ssize_t n = patched_sendmsg(fd, &msgs[done].msg_hdr, flags);

        if (n < 0)
            break;
        msgs[done++].msg_len = (unsigned)n;
    }
    if (!done)
        return -1;
    errno = before;
    return (int)done;
}

/* ---- sendfile: there is no way to ask it not to wait, so by reading and sending --------- */

enum { PIECE = 8192 }; /* of a small stack */

/* -1 only when nothing was sent. */
static ssize_t send_file(int to, int from, off_t at, size_t size)
{
    char piece[PIECE];
    size_t done = 0;

    while (done < size) {
        size_t most = size - done < PIECE ? size - done : PIECE;
        ssize_t n = pread(from, piece, most, at + (off_t)done), sent;

        if (n <= 0)
            return done ? (ssize_t)done : n;
        sent = patched_send(to, piece, (size_t)n, 0);
        if (sent < 0)
            return done ? (ssize_t)done : -1;
        done += (size_t)sent;
        if (sent < n)
            break;
    }
    return (ssize_t)done;
}

PATCHED(ssize_t, sendfile, int to, int from, off_t *at, size_t size)
{
    int before = errno;
    struct stat in, out;
    ssize_t done;
    off_t from_at;

    if (!here() || !is_blocking(to) || fstat(to, &out) < 0 ||
        !S_ISSOCK(out.st_mode) || fstat(from, &in) < 0 || !S_ISREG(in.st_mode))
        return real.sendfile(to, from, at, size);
    from_at = at ? *at : lseek(from, 0, SEEK_CUR);
    if (from_at < 0)
        return real.sendfile(to, from, at, size);
    done = send_file(to, from, from_at, size);
    if (done < 0)
        return -1;
    if (at)
        *at = from_at + done;
    else if (lseek(from, from_at + done, SEEK_SET) < 0)
        return -1;
    errno = before;
    return done;
}

/* What a program with _FILE_OFFSET_BITS=64 calls; on 64 bits the same. */
_Static_assert(sizeof(off_t) == 8 && sizeof(void *) == 8, "64 bits");
PATCHED(ssize_t, sendfile64, int to, int from, off_t *at, size_t size)
{
    return patched_sendfile(to, from, at, size);
}

/* ---- connections ------------------------------------------------------------------------ */

static bool listens(int fd)
{
    int yes = 0;
    socklen_t size = sizeof yes;

    return getsockopt(fd, SOL_SOCKET, SO_ACCEPTCONN, &yes, &size) == 0 && yes;
}

/* Until there is a connection to accept: 0; -1 with errno. */
static int await_connection(const struct patched *k, int fd, const char *what)
{
    struct transfer t = receiving(k, fd, NULL, 0, 0, what);

    if (is_refused(k, fd))
        return -1;
    while (!is_ready(&t))
        if (would_wait(&t) < 0)
            return -1;
    if (!t.timed)
        fair(k, fd);
    return 0;
}

PATCHED(int, accept4, int fd, struct sockaddr *peer, socklen_t *size, int flags)
{
    const struct patched *k = here();
    int before = errno;

    if (k && is_blocking(fd) && listens(fd)) {
        if (await_connection(k, fd, "accept") < 0)
            return -1;
        errno = before;
    }
    return real.accept4(fd, peer, size, flags);
}

PATCHED(int, accept, int fd, struct sockaddr *peer, socklen_t *size)
{
    return here() ? patched_accept4(fd, peer, size, 0)
                  : real.accept(fd, peer, size);
}

/* Begins; the mode that others may see is back before anybody else runs.  0,
 * or a negative errno. */
static int connect_begin(int fd, const struct sockaddr *to, socklen_t size)
{
    int flags = fcntl(fd, F_GETFL), rc;

    if (flags < 0 || fcntl(fd, F_SETFL, flags | O_NONBLOCK) < 0)
        return -errno;
    rc = real.connect(fd, to, size) < 0 ? -errno : 0;
    (void)fcntl(fd, F_SETFL, flags);
    return rc;
}

/* A unix listener with a full queue says EAGAIN, and no event tells when it has
 * room: it is asked again, less and less often. */
static int connect_again(struct patience *p, int fd, const struct sockaddr *to,
                         socklen_t size)
{
    keel_ns pause = KEEL_MS, at;
    int rc;

    for (;;) {
        at = after(p->keel, pause);
        rc = p->keel->sleep(at < p->deadline ? at : p->deadline);
        if (rc < 0)
            return rc;
        rc = connect_begin(fd, to, size);
        if (rc != -EAGAIN || it_is_over(p))
            return rc;
        if (pause < 50 * KEEL_MS)
            pause *= 2;
    }
}

static int connect_await(struct patience *p, int fd)
{
    struct transfer t = {.patience = *p, .fd = fd, .events = POLLOUT};
    int error = 0, rc = 0;
    socklen_t size = sizeof error;

    while (rc == 0 && !is_ready(&t))
        rc = wait_more_for(&t.patience, fd, POLLOUT);
    if (rc == -ETIMEDOUT && it_is_over(p))
        return -EINPROGRESS; /* what the kernel says after SO_SNDTIMEO */
    if (rc < 0)
        return rc;
    if (getsockopt(fd, SOL_SOCKET, SO_ERROR, &error, &size) < 0)
        return -errno;
    return -error;
}

PATCHED(int, connect, int fd, const struct sockaddr *to, socklen_t size)
{
    const struct patched *k = here();
    struct patience p = {.keel = k, .what = "connect"};
    int before = errno, rc;

    if (!k || !is_blocking(fd))
        return real.connect(fd, to, size);
    if (is_refused(k, fd))
        return -1;
    rc = connect_begin(fd, to, size);
    if (rc == -EAGAIN || rc == -EINPROGRESS || rc == -EALREADY) {
        p.deadline = socket_deadline(k, fd, SO_SNDTIMEO);
        rc = rc == -EAGAIN ? connect_again(&p, fd, to, size)
                           : connect_await(&p, fd);
    }
    if (rc < 0)
        return failed(rc);
    errno = before;
    return 0;
}

/* ---- what a program built with _FORTIFY_SOURCE calls instead ------------------------------ */

_Noreturn void __chk_fail(void);

PATCHED(ssize_t, __read_chk, int fd, void *buf, size_t size, size_t room)
{
    if (size > room)
        __chk_fail();
    return patched_read(fd, buf, size);
}

PATCHED(ssize_t, __recv_chk, int fd, void *buf, size_t size, size_t room,
        int flags)
{
    if (size > room)
        __chk_fail();
    return patched_recv(fd, buf, size, flags);
}

PATCHED(ssize_t, __recvfrom_chk, int fd, void *buf, size_t size, size_t room,
        int flags, struct sockaddr *from, socklen_t *from_size)
{
    if (size > room)
        __chk_fail();
    return patched_recvfrom(fd, buf, size, flags, from, from_size);
}
