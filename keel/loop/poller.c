/* SPDX-License-Identifier: MIT */
/* What the pollers share, and the choice between them. */
#include "poller.h"

#include <errno.h>
#include <poll.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include <keel/seam.h>
#include <keel/system.h>

#include "sanitize.h"
#include "sched.h"
#include "seam/limit.h"
#include "worker.h"

/* ---- the choice ----------------------------------------------------------------- */

static const struct poller_class *const classes[] = {&poller_uring,
                                                     &poller_epoll};
enum { CLASSES = sizeof classes / sizeof *classes };

static void say_missing(const char *name, int error)
{
    const char *limit = keel_limit_error(error);

    (void)fprintf(stderr, "keel: KEEL_POLLER=%s: not available: %s%s%s\n", name,
                  strerrordesc_np(-error), limit ? ": " : "",
                  limit ? limit : "");
}

static int open_forced(const char *name, struct poller **ret)
{
    for (int i = 0; i < CLASSES; i++) {
        int rc;

        if (strcmp(name, classes[i]->name))
            continue;
        rc = classes[i]->open(ret);
        if (rc < 0)
            say_missing(name, limit_met(LIMIT_POLLER, rc));
        return rc;
    }
    (void)fprintf(stderr, "keel: KEEL_POLLER=%s: must be uring or epoll\n",
                  name);
    return -EINVAL;
}

int poller_open(struct poller **ret)
{
    const char *name = getenv("KEEL_POLLER");
    int rc = -ENOSYS;

    if (worker_is_simulated())
        return worker_class->poller->open(ret);
    if (name && *name)
        return open_forced(name, ret);
    /* io_uring may be missing, forbidden or cut down: only opening tells.
     * Valgrind does not know that its calls block, and stops all threads while
     * one waits. */
    for (int i = RUNNING_ON_VALGRIND ? 1 : 0; i < CLASSES && rc < 0; i++)
        rc = classes[i]->open(ret);
    return rc;
}

const char *keel_poller_name(void)
{
    struct poller *p = loop_poller();
    const char *name;

    if (p)
        return p->is->name;
    if (poller_open(&p) < 0)
        return NULL;
    name = p->is->name;
    p->is->close(p);
    return name;
}

/* ---- one attempt ------------------------------------------------------------------ */

static ssize_t try_recv(struct poller_op *op)
{
    ssize_t rc = recv(op->fd, op->buf, op->size, MSG_DONTWAIT);

    if (rc < 0 && errno == ENOTSOCK)
        rc = read(op->fd, op->buf, op->size);
    return rc < 0 ? -errno : rc;
}

static ssize_t try_send(struct poller_op *op)
{
    ssize_t rc = send(op->fd, op->buf, op->size, MSG_DONTWAIT | MSG_NOSIGNAL);

    if (rc < 0 && errno == ENOTSOCK)
        rc = write(op->fd, op->buf, op->size);
    return rc < 0 ? -errno : rc;
}

static ssize_t try_accept(struct poller_op *op)
{
    int rc =
        accept4(op->fd, op->buf, &op->addr_size, SOCK_NONBLOCK | SOCK_CLOEXEC);

    return rc < 0 ? -errno : rc;
}

static ssize_t try_poll(struct poller_op *op)
{
    struct pollfd pfd = {.fd = op->fd, .events = (short)op->flags};
    int rc = poll(&pfd, 1, 0);

    if (rc < 0)
        return -errno;
    if (rc == 0)
        return -EAGAIN;
    return pfd.revents & POLLNVAL ? -EBADF : pfd.revents;
}

/* The same on another network. */
static int64_t try_elsewhere(struct poller_op *op)
{
    const struct keel_net *net = keel_seam.net;
    struct pollfd pfd = {.fd = op->fd, .events = (short)op->flags};
    int rc;

    switch (op->verb) {
    case POLLER_RECV:
        return net->recv(op->fd, op->buf, op->size);
    case POLLER_SEND:
        return net->send(op->fd, op->buf, op->size);
    case POLLER_RECVMSG:
        return net->recvmsg(op->fd, op->buf, (int)op->flags);
    case POLLER_SENDMSG:
        return net->sendmsg(op->fd, op->buf, (int)op->flags);
    case POLLER_ACCEPT:
        return net->accept(op->fd, op->buf, &op->addr_size);
    case POLLER_POLL:
        rc = net->poll(&pfd, 1, KEEL_NOW);
        if (rc <= 0)
            return rc < 0 ? rc : -EAGAIN;
        return pfd.revents & POLLNVAL ? -EBADF : pfd.revents;
    default:
        return -EOPNOTSUPP;
    }
}

int64_t poller_try(struct poller_op *op)
{
    ssize_t rc = -EOPNOTSUPP;

    if (!keel_net_is_real())
        return try_elsewhere(op);

    switch (op->verb) {
    case POLLER_RECV:
        return try_recv(op);
    case POLLER_SEND:
        return try_send(op);
    case POLLER_RECVMSG:
        rc = recvmsg(op->fd, op->buf, (int)op->flags | MSG_DONTWAIT);
        return rc < 0 ? -errno : rc;
    case POLLER_SENDMSG:
        rc = sendmsg(op->fd, op->buf,
                     (int)op->flags | MSG_DONTWAIT | MSG_NOSIGNAL);
        return rc < 0 ? -errno : rc;
    case POLLER_ACCEPT:
        return try_accept(op);
    case POLLER_POLL:
        return try_poll(op);
    case POLLER_READ:
    case POLLER_WRITE:
    case POLLER_SYNC:
        break;
    }
    return rc;
}

unsigned poller_events(const struct poller_op *op)
{
    switch (op->verb) {
    case POLLER_SEND:
    case POLLER_SENDMSG:
        return POLLOUT;
    case POLLER_POLL:
        return op->flags;
    default:
        return POLLIN;
    }
}

/* ---- whose turn it is ------------------------------------------------------------------- */

#define WARM KEEL_MS
#define PATIENCE (50 * KEEL_MS)
/* A virtual clock may stand still. */
enum { ROUNDS = 16 };

bool poller_fresh_first(struct poller_rounds *r, size_t waiting)
{
    keel_ns most = PATIENCE / (keel_ns)(waiting / POLLER_HANDFUL + 1);
    keel_ns now = keel_now();

    if (most > WARM)
        most = WARM;
    if (r->count < ROUNDS && now - r->since < most) {
        r->count++;
        return true;
    }
    r->count = 0;
    r->since = now;
    return false;
}

/* ---- ages of descriptor numbers ------------------------------------------------------ */

/* A table of tables, so that growing moves nothing that another thread reads:
 * 4,096 times 4,096 is the kernel's hard limit of descriptors a hundredfold. */
enum { AGE_BITS = 12, AGES = 1 << AGE_BITS };
static _Atomic(_Atomic uint32_t *) ages[AGES];

static _Atomic uint32_t *age_of(int fd)
{
    _Atomic uint32_t *table;

    if (fd < 0 || fd >= AGES * AGES)
        return NULL;
    table = atomic_load_explicit(&ages[fd >> AGE_BITS], memory_order_acquire);
    return table ? &table[fd & (AGES - 1)] : NULL;
}

uint32_t poller_fd_age(int fd)
{
    _Atomic uint32_t *age = age_of(fd);

    return age ? atomic_load_explicit(age, memory_order_relaxed) : 0;
}

int poller_fd_renew(int fd)
{
    _Atomic uint32_t *age = age_of(fd);

    if (!age) {
        _Atomic uint32_t *none = NULL, *table;

        if (fd < 0 || fd >= AGES * AGES)
            return -EBADF;
        table = keel_calloc(AGES, sizeof *table);
        if (!table)
            return -ENOMEM;
        if (!atomic_compare_exchange_strong(&ages[fd >> AGE_BITS], &none,
                                            table))
            keel_free(table); /* somebody was faster */
        age = age_of(fd);
    }
    atomic_fetch_add_explicit(age, 1, memory_order_relaxed);
    return 0;
}
