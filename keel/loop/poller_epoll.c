/* SPDX-License-Identifier: MIT */
/* The poller by epoll, for kernels where io_uring is missing or forbidden.
 *
 * A descriptor is registered once, edge-triggered, when something first waits
 * on it, and watched until it is closed.  What the edges said is kept in
 * `ready`, so that an attempt that is known to be vain costs no system call,
 * and an operation is tried at the moment its edge arrives.
 *
 * Edges are taken a handful at a time.  Who was served and receives again is
 * tried before the next ones, for some rounds (poller_fresh_first): a peer that
 * answers promptly costs no edge.  Where that is mostly in vain it is left for a
 * while. */
#include "poller.h"

#include <errno.h>
#include <stdatomic.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/eventfd.h>
#include <unistd.h>

#include "sched.h"

enum {
    HANDFUL = POLLER_HANDFUL,
    GLOOM = 64,        /* waits without a round, after one that was in vain */
    FETCH_BYTES = 256, /* an op and the waiter behind it */
    GONE = EPOLLERR | EPOLLHUP,
};

/* op->private[0] */
enum { WAITING, FINISHED };

/* One descriptor's.  Invariants between calls:
 *   `ops` are those submitted for it and not finished, oldest first
 *   every event that they wait for is in `mask`
 *   an event in `mask` and not in `ready` will be told by an edge */
struct watch {
    struct poller_op *ops;
    uint32_t mask;  /* registered; 0: not at all */
    uint32_t ready; /* told, and not known to be used up */
    uint32_t age;   /* of the number, when this was written */
    bool stream;    /* a short transfer means that nothing is left */
};

struct epoll {
    struct poller base;
    int epfd, wake_fd;
    /* Rung and not yet heard: one write wakes for all. */
    _Atomic uint32_t rung;
    struct watch *watches; /* by descriptor */
    size_t watch_count;
    struct poller_op *finished, **finished_tail; /* `done` is still to run */
    bool no_pwait2;
    /* Descriptors of streams that something waits to receive from, since the
     * last wait; those that are too many wait for their edge. */
    int fresh[HANDFUL];
    unsigned fresh_count, gloom;
    struct poller_rounds rounds;
    size_t waiting; /* ops submitted and not finished */
    struct epoll_event events[HANDFUL];
};

static struct epoll *self(struct poller *p)
{
    return (struct epoll *)(void *)p;
}

static void finish(struct epoll *e, struct poller_op *op, int64_t result)
{
    e->waiting--;
    op->result = result;
    op->private[0] = FINISHED;
    op->next = NULL;
    *e->finished_tail = op;
    e->finished_tail = &op->next;
}

/* ---- watches -------------------------------------------------------------------- */

/* What is known of `fd`, NULL if nothing. */
static struct watch *watch_find(struct epoll *e, int fd)
{
    struct watch *w;

    if (fd < 0 || (size_t)fd >= e->watch_count)
        return NULL;
    w = &e->watches[fd];
    if (w->age != poller_fd_age(fd)) {
        /* Closed elsewhere and handed out again: what waited on the old one
         * has only its deadline, but nothing learnt then is true now. */
        w->age = poller_fd_age(fd);
        w->mask = w->ready = 0;
    }
    return w;
}

static struct watch *watch_get(struct epoll *e, int fd)
{
    size_t count = e->watch_count ? e->watch_count : 64;
    struct watch *grown;

    if (fd < 0)
        return NULL;
    if ((size_t)fd < e->watch_count)
        return watch_find(e, fd);
    while (count <= (size_t)fd)
        count *= 2;
    grown = keel_realloc(e->watches, count * sizeof *grown);
    if (!grown)
        return NULL;
    memset(grown + e->watch_count, 0, (count - e->watch_count) * sizeof *grown);
    e->watches = grown;
    e->watch_count = count;
    return watch_find(e, fd);
}

/* Tells the kernel what to report, which reports what is true now. */
static int watch_register(struct epoll *e, struct watch *w, int fd,
                          uint32_t events)
{
    struct epoll_event ev = {
        .events = w->mask | events | EPOLLRDHUP | EPOLLET,
        .data.fd = fd,
    };
    int how = w->mask ? EPOLL_CTL_MOD : EPOLL_CTL_ADD;
    int rc = epoll_ctl(e->epfd, how, fd, &ev) < 0 ? -errno : 0;

    /* Somebody closed the number behind our back, or it has come back. */
    if (rc == -ENOENT && how == EPOLL_CTL_MOD)
        rc = epoll_ctl(e->epfd, EPOLL_CTL_ADD, fd, &ev) < 0 ? -errno : 0;
    else if (rc == -EEXIST)
        rc = epoll_ctl(e->epfd, EPOLL_CTL_MOD, fd, &ev) < 0 ? -errno : 0;
    if (rc < 0)
        return rc;
    if (!w->mask) {
        int type = 0;
        socklen_t size = sizeof type;

        w->stream = !getsockopt(fd, SOL_SOCKET, SO_TYPE, &type, &size) &&
                    type == SOCK_STREAM;
    }
    w->mask |= events | EPOLLRDHUP;
    w->ready &= ~events;
    return 0;
}

/* Events that let `op` go on. */
static uint32_t wanted(const struct poller_op *op)
{
    uint32_t events = poller_events(op);

    return events & EPOLLIN ? events | EPOLLRDHUP : events;
}

/* The op's system call; keeps `w->ready` true to what it tells. */
static int64_t watch_try(struct watch *w, struct poller_op *op)
{
    int64_t rc = poller_try(op);
    bool transfer = op->verb == POLLER_RECV || op->verb == POLLER_SEND;

    if (rc == -EAGAIN)
        w->ready &= ~wanted(op);
    /* A stream that gave less than it was asked is empty, or full: the edge
     * will tell.  Not so once the end was told: that edge has been. */
    else if (transfer && w->stream && rc > 0 && (size_t)rc < op->size &&
             !(w->ready & (EPOLLRDHUP | GONE)))
        w->ready &= ~poller_events(op);
    return rc;
}

/* Goes on with what waits on `w`. */
static void watch_serve(struct epoll *e, struct watch *w)
{
    struct poller_op **link = &w->ops;

    while (*link) {
        struct poller_op *op = *link;
        int64_t rc;

        if (!(w->ready & (wanted(op) | GONE))) {
            link = &op->next;
            continue;
        }
        rc = watch_try(w, op);
        if (rc == -EAGAIN) {
            /* GONE cannot be used up, and must not spin: a connection that is
             * reset answers every call, so only foreign things get here. */
            link = &op->next;
            continue;
        }
        *link = op->next;
        finish(e, op, rc);
    }
}

/* ---- the class ---------------------------------------------------------------------- */

static bool somebody_waits(const struct watch *w, uint32_t events)
{
    for (const struct poller_op *op = w->ops; op; op = op->next)
        if (poller_events(op) & events)
            return true;
    return false;
}

static bool epoll_attempt(struct poller *p, struct poller_op *op)
{
    struct watch *w = watch_find(self(p), op->fd);
    uint32_t events = poller_events(op);

    /* A poll asks the kernel in any case: a foreign descriptor's edges may
     * have been used up by its library. */
    if (!w || !w->mask || op->verb == POLLER_POLL) {
        op->result = poller_try(op);
        return op->result != -EAGAIN;
    }
    if (somebody_waits(w, events))
        return false; /* who comes later does not overtake */
    if ((w->mask & events) == events && !(w->ready & (wanted(op) | GONE)))
        return false; /* in vain, as far as we were told */
    op->result = watch_try(w, op);
    return op->result != -EAGAIN;
}

static void epoll_submit(struct poller *p, struct poller_op *op)
{
    struct epoll *e = self(p);
    struct watch *w = watch_get(e, op->fd);
    uint32_t events = poller_events(op);
    struct poller_op **link;
    int rc = 0;

    loop_submitted();
    e->waiting++;
    op->private[0] = WAITING;
    if (!w) {
        finish(e, op, op->fd < 0 ? -EBADF : -ENOMEM);
        return;
    }
    /* A poll renews the registration each time: its descriptor may belong to
     * a library that closes and opens without telling. */
    if ((w->mask & events) != events || op->verb == POLLER_POLL)
        rc = watch_register(e, w, op->fd, events);
    if (rc < 0) {
        /* EPERM: a regular file, which never waits */
        finish(e, op, rc == -EPERM ? poller_try(op) : rc);
        return;
    }
    op->next = NULL;
    for (link = &w->ops; *link; link = &(*link)->next)
        ;
    *link = op;
    if (w->ready & (wanted(op) | GONE))
        watch_serve(e, w);
    else if (op->verb == POLLER_RECV && w->stream && e->fresh_count < HANDFUL)
        e->fresh[e->fresh_count++] = op->fd;
}

static void epoll_cancel(struct poller *p, struct poller_op *op)
{
    struct epoll *e = self(p);
    struct poller_op **link;

    if (op->private[0] == FINISHED)
        return;
    for (link = &e->watches[op->fd].ops; *link != op; link = &(*link)->next)
        ;
    *link = op->next;
    finish(e, op, -ECANCELED);
}

static void epoll_forget(struct poller *p, int fd)
{
    struct epoll *e = self(p);
    struct watch *w = watch_find(e, fd);

    if (!w)
        return;
    while (w->ops) {
        struct poller_op *op = w->ops;

        w->ops = op->next;
        finish(e, op, -EBADF);
    }
    if (w->mask) /* close does it too, but not while a child holds a copy */
        (void)epoll_ctl(e->epfd, EPOLL_CTL_DEL, fd, NULL);
    w->mask = w->ready = 0;
}

static int run_finished(struct epoll *e)
{
    struct poller_op *op = e->finished;
    int count = 0;

    e->finished = NULL;
    e->finished_tail = &e->finished;
    while (op) {
        struct poller_op *next = op->next;

        loop_completed();
        op->done(op); /* `op` is gone after this */
        op = next;
        count++;
    }
    return count;
}

/* epoll_pwait2 is Linux 5.11's; before it the deadline is rounded up to a
 * millisecond, never down: that would spin. */
static int wait_events(struct epoll *e, keel_ns deadline)
{
    keel_ns span = 0;
    struct timespec ts;
    int rc;

    if (deadline != KEEL_NOW && deadline != KEEL_FOREVER) {
        span = deadline - keel_now();
        if (span < 0)
            span = 0;
    }
    if (!e->no_pwait2) {
        ts.tv_sec = span / KEEL_SECOND;
        ts.tv_nsec = span % KEEL_SECOND;
        rc = epoll_pwait2(e->epfd, e->events, HANDFUL,
                          deadline == KEEL_FOREVER ? NULL : &ts, NULL);
        if (rc >= 0 || errno != ENOSYS)
            return rc < 0 ? -errno : rc;
        e->no_pwait2 = true;
    }
    span = (span + KEEL_MS - 1) / KEEL_MS;
    if (span > 3600 * 1000)
        span = 3600 * 1000;
    rc = epoll_wait(e->epfd, e->events, HANDFUL,
                    deadline == KEEL_FOREVER ? -1 : (int)span);
    return rc < 0 ? -errno : rc;
}

/* What the handful's events need begins its way from memory: the ops, and the
 * waiters behind them. */
static void fetch(const struct epoll *e, int n)
{
    for (int i = 0; i < n; i++) {
        int fd = e->events[i].data.fd;

        if ((size_t)fd >= e->watch_count)
            continue;
        for (uintptr_t at = 0; at < FETCH_BYTES; at += 64)
            __builtin_prefetch(
                (const void *)((uintptr_t)e->watches[fd].ops + at));
    }
}

/* Tries who was just served; true: enough for this wait. */
static bool serve_fresh(struct epoll *e)
{
    unsigned count = e->fresh_count, got = 0;

    e->fresh_count = 0;
    if (e->gloom) {
        e->gloom--;
        return false;
    }
    if (count == 0 || !poller_fresh_first(&e->rounds, e->waiting))
        return false;
    for (unsigned i = 0; i < count; i++) {
        struct watch *w = watch_find(e, e->fresh[i]);
        struct poller_op **before = e->finished_tail;

        if (!w || !w->mask)
            continue; /* closed meanwhile */
        w->ready |= EPOLLIN;
        watch_serve(e, w);
        got += e->finished_tail != before;
    }
    if (2 * got < count)
        e->gloom = GLOOM;
    return got > 0;
}

static int epoll_do_wait(struct poller *p, keel_ns deadline)
{
    struct epoll *e = self(p);
    int count = run_finished(e);
    int n = 0;

    if (!serve_fresh(e))
        n = wait_events(e, count ? KEEL_NOW : deadline);
    fetch(e, n);
    for (int i = 0; i < n; i++) {
        const struct epoll_event *ev = &e->events[i];
        struct watch *w;

        if (ev->data.fd == e->wake_fd) {
            /* Edge-triggered: the counter need not be read. */
            atomic_store(&e->rung, 0);
            continue;
        }
        w = watch_find(e, ev->data.fd);
        if (!w || !w->mask)
            continue; /* of a descriptor closed meanwhile */
        w->ready |= ev->events;
        watch_serve(e, w);
    }
    return count + run_finished(e);
}

static void epoll_wake(struct poller *p)
{
    struct epoll *e = self(p);
    const uint64_t one = 1;

    if (!atomic_exchange(&e->rung, 1) &&
        write(e->wake_fd, &one, sizeof one) < 0)
        atomic_store(&e->rung, 0); /* full: a wake is under way */
}

static void epoll_close(struct poller *p)
{
    struct epoll *e = self(p);

    if (e->wake_fd >= 0)
        (void)close(e->wake_fd);
    if (e->epfd >= 0)
        (void)close(e->epfd);
    keel_free(e->watches);
    keel_free(e);
}

static int epoll_open(struct poller **ret)
{
    struct epoll *e = keel_calloc(1, sizeof *e);
    struct epoll_event ev = {.events = EPOLLIN | EPOLLET};
    int rc;

    if (!e)
        return -ENOMEM;
    e->base.is = &poller_epoll;
    e->finished_tail = &e->finished;
    e->wake_fd = -1;
    e->epfd = epoll_create1(EPOLL_CLOEXEC);
    if (e->epfd < 0)
        goto fail;
    e->wake_fd = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);
    if (e->wake_fd < 0)
        goto fail;
    ev.data.fd = e->wake_fd;
    if (epoll_ctl(e->epfd, EPOLL_CTL_ADD, e->wake_fd, &ev) < 0)
        goto fail;
    *ret = &e->base;
    return 0;

fail:
    rc = -errno;
    epoll_close(&e->base);
    return rc;
}

const struct poller_class poller_epoll = {
    .name = "epoll",
    .open = epoll_open,
    .close = epoll_close,
    .attempt = epoll_attempt,
    .submit = epoll_submit,
    .cancel = epoll_cancel,
    .wait = epoll_do_wait,
    .wake = epoll_wake,
    .forget = epoll_forget,
};
