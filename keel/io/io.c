/* SPDX-License-Identifier: MIT */
/* Descriptors for coroutines and threads.
 *
 * Every call is a poller_op, done by run(): the one place where the fault hook
 * is asked, EINTR is swallowed, and it is decided how to wait:
 *   in a coroutine   the poller's attempt, where it has one; then park
 *   in a thread      try, poll(2), try again
 *
 * A parked operation ends once.  When the wait for it ends first, by deadline
 * or cancel, the poller is asked for it back and its end is awaited: the
 * buffer is the kernel's until then.  What it brought wins over the reason.
 *
 * The way from a read down to the switch is one function (INLINE): each return
 * after a switch is mispredicted, and each frame is one more line of a stack
 * that has left the caches. */
#include <keel/io.h>

#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <pthread.h>
#include <signal.h>
#include <stdatomic.h>
#include <string.h>
#include <unistd.h>

#include <keel/co.h>
#include <keel/seam.h>

#include "io_inside.h"
#include "loop/loop.h"
#include "loop/park.h"
#include "loop/sched.h"
#include "loop/worker.h"

#define INLINE static inline __attribute__((always_inline))

enum { AT_ONCE_MOST = 32 };

struct io {
    struct poller_op op;
    struct waiter waiter;
    const char *what;
    bool completed;
};

/* ---- in a thread ---------------------------------------------------------------- */

/* Threads that wait, for keel_fd_close to find: a close must not leave one
 * polling a number that may soon be another file's.  Under `lock`.
 * keel_thread_cancel rings the same bell. */
struct thread_wait {
    struct thread_wait *next, **link;
    int fd, bell;
    bool closed;
};
static pthread_mutex_t lock = PTHREAD_MUTEX_INITIALIZER;
static struct thread_wait *thread_waits;
static _Atomic int thread_wait_count;

/* One eventfd a thread, made when it first waits, closed when it ends. */
static pthread_once_t bell_once = PTHREAD_ONCE_INIT;
static pthread_key_t bell_key;
static _Thread_local int bell_plus_one;

static void bell_close(void *arg)
{
    (void)close((int)(intptr_t)arg - 1);
}

static void bell_init(void)
{
    keel_assert(!pthread_key_create(&bell_key, bell_close));
}

/* -1 when there is none: the wait then looks every BELL_LESS. */
static int bell(void)
{
    int fd;

    if (!keel_net_is_real())
        return keel_seam.net->eventfd(); /* for this wait only */
    if (bell_plus_one)
        return bell_plus_one - 1;
    (void)pthread_once(&bell_once, bell_init);
    fd = keel_seam.net->eventfd();
    if (fd < 0)
        return -1;
    if (pthread_setspecific(bell_key, (void *)(intptr_t)(fd + 1))) {
        (void)close(fd);
        return -1;
    }
    bell_plus_one = fd + 1;
    return fd;
}

/* `age` is the number's, from before the descriptor was last used: a close
 * since then has looked for waiters in vain, and the number may be the bell's
 * by now. */
static void thread_wait_begin(struct thread_wait *t, int fd, uint32_t age)
{
    *t = (struct thread_wait){.fd = fd, .bell = bell()};
    (void)pthread_mutex_lock(&lock);
    t->closed = poller_fd_age(fd) != age;
    t->next = thread_waits;
    t->link = &thread_waits;
    if (t->next)
        t->next->link = &t->next;
    thread_waits = t;
    atomic_fetch_add(&thread_wait_count, 1);
    (void)pthread_mutex_unlock(&lock);
    if (thread_stop_here)
        thread_stop_bell(thread_stop_here, t->bell + 1);
}

/* True: the descriptor was closed meanwhile. */
static bool thread_wait_end(struct thread_wait *t)
{
    uint64_t rings;
    ssize_t heard;

    (void)pthread_mutex_lock(&lock);
    *t->link = t->next;
    if (t->next)
        t->next->link = t->link;
    atomic_fetch_sub(&thread_wait_count, 1);
    (void)pthread_mutex_unlock(&lock);
    if (thread_stop_here)
        thread_stop_bell(thread_stop_here, 0);
    /* Now nobody rings: what rang must not end the next wait. */
    if ((t->closed || thread_stop_asked(true)) && t->bell >= 0) {
        heard = keel_seam.net->recv(t->bell, &rings, sizeof rings);
        keel_assert(heard > 0 || heard == -EAGAIN);
    }
    if (!keel_net_is_real() && t->bell >= 0)
        (void)keel_seam.net->close(t->bell);
    return t->closed;
}

static bool thread_wait_closed(struct thread_wait *t)
{
    bool closed;

    (void)pthread_mutex_lock(&lock);
    closed = t->closed;
    (void)pthread_mutex_unlock(&lock);
    return closed;
}

static void thread_waits_close(int fd)
{
    const uint64_t one = 1;
    ssize_t rung;

    if (!atomic_load(&thread_wait_count))
        return;
    (void)pthread_mutex_lock(&lock);
    for (struct thread_wait *t = thread_waits; t; t = t->next)
        if (t->fd == fd) {
            t->closed = true;
            if (t->bell < 0)
                continue;
            rung = keel_seam.net->send(t->bell, &one, sizeof one);
            keel_assert(rung > 0 || rung == -EAGAIN);
        }
    (void)pthread_mutex_unlock(&lock);
}

/* Until when poll(2) may sleep at most: for ever, except that nobody can ring
 * without a bell, and that a virtual clock moves without telling. */
static keel_ns poll_until(const struct thread_wait *t, keel_ns deadline)
{
    keel_ns most = KEEL_FOREVER;

    if (t->bell < 0)
        most = 50 * KEEL_MS;
    if (deadline != KEEL_FOREVER && keel_seam.virtual_time)
        most = KEEL_MS;
    if (most == KEEL_FOREVER)
        return deadline;
    most = keel_after(most);
    return deadline < most ? deadline : most;
}

/* Waits for the events: returns them, or a negative errno. */
static int thread_poll(int fd, short events, uint32_t age, keel_ns deadline)
{
    struct thread_wait t;
    int rc = 0;

    deadline = wait_until(deadline);
    thread_wait_begin(&t, fd, age);
    while (!rc && !thread_wait_closed(&t)) {
        struct pollfd pfds[2] = {{.fd = fd, .events = events},
                                 {.fd = t.bell, .events = POLLIN}};

        if (thread_stop_asked(false)) {
            rc = -ECANCELED;
            break;
        }
        rc = keel_seam.net->poll(pfds, 2, poll_until(&t, deadline));
        if (rc < 0)
            rc = rc == -EINTR ? 0 : rc;
        else if (pfds[0].revents & POLLNVAL)
            rc = -EBADF;
        else if (pfds[0].revents)
            rc = pfds[0].revents;
        else if (deadline != KEEL_FOREVER && keel_now() >= deadline)
            rc = -ETIMEDOUT;
        else
            rc = 0;
    }
    return thread_wait_end(&t) ? -EBADF : rc;
}

static int64_t block(struct io *io, keel_ns deadline)
{
    uint32_t age = poller_fd_age(io->op.fd);

    for (;;) {
        int64_t rc = poller_try(&io->op);

        if (rc != -EAGAIN)
            return rc;
        rc = thread_poll(io->op.fd, (short)poller_events(&io->op), age,
                         deadline);
        if (rc < 0 || io->op.verb == POLLER_POLL)
            return rc;
    }
}

/* ---- in a coroutine ---------------------------------------------------------------- */

static void io_done(struct poller_op *op)
{
    struct io *io = (struct io *)(void *)op;

    io->completed = true;
    (void)waiter_wake(&io->waiter);
}

/* The wait ended by `reason`, and the op has not. */
static int64_t take_back(struct poller *p, struct io *io, int reason)
{
    if (!io->completed) {
        waiter_arm(&io->waiter, io->what);
        p->is->cancel(p, &io->op);
        waiter_sleep_always(&io->waiter);
    }
    return io->op.result == -ECANCELED ? reason : io->op.result;
}

INLINE int64_t park(struct poller *p, struct io *io, keel_ns deadline)
{
    int rc;

    io->completed = false;
    io->op.done = io_done;
    waiter_arm_inline(&io->waiter, io->what);
    p->is->submit(p, &io->op);
    rc = waiter_sleep_in_co(&io->waiter, deadline);
    return rc == 0 ? io->op.result : take_back(p, io, rc);
}

_Thread_local unsigned io_at_once;
#define at_once io_at_once

/* Who never waits lets the others run now and then: 32 reads of 256 KiB are
 * two milliseconds. */
static void had_at_once(void)
{
    if (++at_once < AT_ONCE_MOST)
        return;
    at_once = 0;
    keel_yield();
}

INLINE int64_t run_in_co(struct poller *p, struct io *io, keel_ns deadline)
{
    if (deadline == KEEL_NOW) {
        int64_t rc = poller_try(&io->op);

        if (rc == -EAGAIN)
            return -ETIMEDOUT;
        had_at_once();
        return rc;
    }
    if (p->is->attempt && p->is->attempt(p, &io->op)) {
        had_at_once();
        return io->op.result;
    }
    at_once = 0;
    return park(p, io, deadline);
}

/* ---- one operation -------------------------------------------------------------------- */

/* A message's op works on a copy of the caller's header: the hook may shorten
 * it, and sending takes a const one.  Never more than 8 of its buffers when
 * short, which only tests order. */
struct msg_io {
    struct io io;
    const struct msghdr *msg;
    struct msghdr copy;
    struct iovec room[8];
};

static size_t msg_size(const struct msghdr *msg)
{
    size_t size = 0;

    for (size_t i = 0; i < msg->msg_iovlen; i++)
        size += msg->msg_iov[i].iov_len;
    return size;
}

static void msg_shorten(struct msg_io *m, size_t size)
{
    const size_t most = sizeof m->room / sizeof *m->room;
    size_t count = 0;

    for (; count < m->msg->msg_iovlen && count < most && size; count++) {
        m->room[count] = m->msg->msg_iov[count];
        if (m->room[count].iov_len > size)
            m->room[count].iov_len = size;
        size -= m->room[count].iov_len;
    }
    m->copy.msg_iov = m->room;
    m->copy.msg_iovlen = count;
}

/* Sets up the op for `allowed` of the `asked` bytes. */
static void allow(struct io *io, size_t asked, size_t allowed)
{
    struct msg_io *m = (struct msg_io *)(void *)io;

    if (io->op.verb == POLLER_RECVMSG || io->op.verb == POLLER_SENDMSG) {
        m->copy = *m->msg;
        io->op.buf = &m->copy;
        if (allowed < asked)
            msg_shorten(m, allowed);
    } else if (allowed < asked) {
        io->op.size = allowed;
    }
}

/* The poller of the current coroutine's loop; NULL in a thread. */
static inline struct poller *poller_here(void)
{
    struct keel_loop *l = loop_here;

    return l && l->current ? l->poller : NULL;
}

INLINE int64_t run(enum keel_op kind, struct io *io, size_t asked,
                   keel_ns deadline)
{
    struct poller *p = poller_here();
    int64_t rc;

    do {
        size_t allowed = asked;

        /* A coroutine that was cancelled before it came here gets nothing:
         * else one whose data never runs dry could not be stopped. */
        rc = wait_allowed();
        if (rc < 0)
            break;
        rc = keel_seam_enter(kind, asked ? &allowed : NULL);
        if (rc < 0)
            continue;
        allow(io, asked, allowed);
        rc = p ? run_in_co(p, io, deadline) : block(io, deadline);
    } while (rc == -EINTR);
    return rc;
}

/* ---- transfers ------------------------------------------------------------------------- */

ssize_t keel_fd_read(int fd, void *buf, size_t size, keel_ns deadline)
{
    struct io io = {
        .op = {.verb = POLLER_RECV, .fd = fd, .buf = buf, .size = size},
        .what = "read",
    };

    return run(KEEL_OP_RECV, &io, size, deadline);
}

ssize_t keel_fd_write(int fd, const void *buf, size_t size, keel_ns deadline)
{
    struct io io = {
        .op = {.verb = POLLER_SEND,
               .fd = fd,
               .buf = (void *)(uintptr_t)buf, /* only read */
               .size = size},
        .what = "write",
    };

    return run(KEEL_OP_SEND, &io, size, deadline);
}

ssize_t keel_fd_recvmsg(int fd, struct msghdr *msg, int flags, keel_ns deadline)
{
    struct msg_io m = {
        .io = {.op = {.verb = POLLER_RECVMSG,
                      .fd = fd,
                      .flags = (unsigned)flags},
               .what = "recvmsg"},
        .msg = msg,
    };
    int64_t rc = run(KEEL_OP_RECV, &m.io, msg_size(msg), deadline);

    if (rc >= 0) { /* what the kernel writes back */
        msg->msg_namelen = m.copy.msg_namelen;
        msg->msg_controllen = m.copy.msg_controllen;
        msg->msg_flags = m.copy.msg_flags;
    }
    return rc;
}

ssize_t keel_fd_sendmsg(int fd, const struct msghdr *msg, int flags,
                        keel_ns deadline)
{
    struct msg_io m = {
        .io = {.op = {.verb = POLLER_SENDMSG,
                      .fd = fd,
                      .flags = (unsigned)flags},
               .what = "sendmsg"},
        .msg = msg,
    };

    return run(KEEL_OP_SEND, &m.io, msg_size(msg), deadline);
}

/* ---- connections --------------------------------------------------------------------------- */

/* Errors of a connection that died before it was accepted, which Linux passes
 * on: the listener is sound, and the next one may be. */
static bool died_early(int64_t rc)
{
    switch (rc) {
    case -ECONNABORTED:
    case -EPROTO:
    case -ENETDOWN:
    case -ENOPROTOOPT:
    case -EHOSTDOWN:
    case -ENONET:
    case -EHOSTUNREACH:
    case -ENETUNREACH:
        return true;
    default:
        return false;
    }
}

int keel_fd_accept(int fd, struct sockaddr_storage *ret_peer, keel_ns deadline)
{
    struct sockaddr_storage peer;
    int64_t rc;
    int renewed;

    do {
        struct io io = {
            .op = {.verb = POLLER_ACCEPT,
                   .fd = fd,
                   .buf = &peer,
                   .addr_size = sizeof peer},
            .what = "accept",
        };

        memset(&peer, 0, sizeof peer); /* a unix peer has no address */
        rc = run(KEEL_OP_ACCEPT, &io, 0, deadline);
    } while (died_early(rc));
    if (rc < 0)
        return (int)rc;
    renewed = poller_fd_renew((int)rc);
    if (renewed < 0) {
        (void)keel_seam.net->close((int)rc);
        return renewed;
    }
    if (ret_peer)
        *ret_peer = peer;
    return (int)rc;
}

static int64_t wait_for(int fd, short events, keel_ns deadline,
                        const char *what)
{
    struct poller *p = poller_here();
    struct io io = {
        .op = {.verb = POLLER_POLL, .fd = fd, .flags = (unsigned short)events},
        .what = what,
    };

    return p ? run_in_co(p, &io, deadline) : block(&io, deadline);
}

/* The end of a connect that could not be had at once. */
static int connect_wait(int fd, keel_ns deadline)
{
    int error = 0;
    socklen_t size = sizeof error;
    int64_t rc;

    do
        rc = wait_for(fd, POLLOUT, deadline, "connect");
    while (rc == -EINTR);
    if (rc < 0)
        return (int)rc;
    rc = keel_seam.net->getsockopt(fd, SOL_SOCKET, SO_ERROR, &error, &size);
    return rc < 0 ? (int)rc : -error;
}

int keel_fd_connect(int fd, const struct sockaddr *addr, socklen_t size,
                    keel_ns deadline)
{
    /* A unix listener whose queue is full says EAGAIN, and no event tells
     * when it has room. */
    keel_ns pause = KEEL_MS;
    int rc;

    do {
        rc = wait_allowed();
        if (rc < 0)
            return rc;
        rc = keel_seam_enter(KEEL_OP_CONNECT, NULL);
    } while (rc == -EINTR);
    if (rc < 0)
        return rc;
    for (;;) {
        keel_ns again;

        rc = keel_seam.net->connect(fd, addr, size);
        /* Interrupted, it goes on in the kernel as if in progress. */
        if (rc == -EINPROGRESS || rc == -EINTR)
            return connect_wait(fd, deadline);
        if (rc != -EAGAIN)
            return rc;
        deadline = wait_until(deadline);
        again = keel_after(pause);
        if (again >= deadline)
            return -ETIMEDOUT;
        rc = keel_sleep(again);
        if (rc < 0)
            return rc;
        if (pause < 50 * KEEL_MS)
            pause *= 2;
    }
}

int keel_fd_poll(int fd, short events, keel_ns deadline)
{
    struct io io = {
        .op = {.verb = POLLER_POLL, .fd = fd, .flags = (unsigned short)events},
        .what = "poll",
    };
    int rc;

    deadline = wait_until(deadline);
    for (;;) {
        rc = (int)run(KEEL_OP_POLL, &io, 0, deadline);
        if (rc != -EINVAL || !keel_net_is_real() || !isatty(fd))
            return rc;
        /* A terminal woken for nothing, as by a change of its modes: io_uring
         * looks again, and gives up on a file with two wait queues.  Not at
         * once: who changes the modes may not be done. */
        rc = keel_sleep(keel_after(KEEL_MS));
        if (rc < 0)
            return rc;
    }
}

/* ---- ownership ------------------------------------------------------------------------------- */

/* A peer that is gone is -EPIPE, not the end of the process.  Not by
 * pthread_once: a signal handler may log while its thread is in here.  To do it
 * twice does no harm. */
void ignore_sigpipe(void)
{
    static atomic_bool done;
    struct sigaction old;

    if (atomic_load_explicit(&done, memory_order_relaxed))
        return;
    if (sigaction(SIGPIPE, NULL, &old) == 0 && old.sa_handler == SIG_DFL)
        (void)signal(SIGPIPE, SIG_IGN);
    atomic_store_explicit(&done, true, memory_order_relaxed);
}

int keel_fd_adopt(int fd)
{
    int rc;

    ignore_sigpipe();
    rc = keel_seam.net->adopt(fd);
    return rc < 0 ? rc : poller_fd_renew(fd);
}

void keel_fd_close(int fd)
{
    struct poller *p = loop_poller();

    if (fd < 0)
        return;
    if (p)
        p->is->forget(p, fd);
    /* Without room for an age nobody remembers the number either.  It changes
     * before the waiters are looked for: see thread_wait_begin. */
    (void)poller_fd_renew(fd);
    thread_waits_close(fd);
    (void)keel_seam.net->close(fd);
}
