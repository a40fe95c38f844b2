/* SPDX-License-Identifier: MIT */
/* The poller of a simulated loop: its operations lie with the sockets, and are
 * tried again whenever something changes there, between two turns. */
#include <errno.h>
#include <poll.h>
#include <stdlib.h>

#include "net.h"

enum { LOOK_PASS = 4 }; /* one look in so many lets others go on */

/* op->private[0]: its poller, [1]: the socket that it waits on, 0: finished */
struct sim_poller {
    struct poller base;
    struct poller_op *finished, **finished_tail;
    struct fiber *waits; /* the loop, in wait */
    bool rung;
};

static struct sim_poller *self(struct poller *p)
{
    return (struct sim_poller *)(void *)p;
}

static void wake_loop(struct sim_poller *p)
{
    if (p->waits)
        fiber_wake(p->waits);
}

static void finish(struct poller_op *op, int64_t result)
{
    struct sim_poller *p = (struct sim_poller *)(uintptr_t)op->private[0];

    op->result = result;
    op->private[1] = 0;
    op->next = NULL;
    *p->finished_tail = op;
    p->finished_tail = &op->next;
    wake_loop(p);
}

static bool same_way(const struct poller_op *a, const struct poller_op *b)
{
    return poller_events(a) & poller_events(b);
}

/* One direction's operations go in the order in which they came. */
void poller_serve(struct sock *s)
{
    struct poller_op **at = sock_ops(s), *op;
    unsigned held = 0;

    while ((op = *at)) {
        int64_t rc = poller_events(op) & held ? -EAGAIN : poller_try(op);

        if (rc == -EAGAIN) {
            if (op->verb != POLLER_POLL)
                held |= poller_events(op);
            at = &op->next;
            continue;
        }
        *at = op->next;
        finish(op, rc);
    }
}

/* ---- the kernel's descriptors: the whole run waits ---- */

static bool is_foreign(const struct poller_op *op)
{
    return op->fd >= 0 && !sock_is_ours(op->fd);
}

static int64_t foreign(struct poller_op *op)
{
    struct pollfd pfd = {.fd = op->fd, .events = (short)poller_events(op)};
    int64_t rc;

    while ((rc = poller_try(op)) == -EAGAIN)
        if (keel_net_real.poll(&pfd, 1, KEEL_FOREVER) < 0)
            return -EBADF;
    return rc;
}

/* ---- the class ---- */

static bool sim_attempt(struct poller *p, struct poller_op *op)
{
    struct sock *s = sock_find(op->fd);

    (void)p;
    if (is_foreign(op)) {
        op->result = foreign(op);
        return true;
    }
    if (s && op->verb != POLLER_POLL)
        for (struct poller_op *o = *sock_ops(s); o; o = o->next)
            if (o->verb != POLLER_POLL && same_way(o, op))
                return false; /* who comes later does not overtake */
    op->result = poller_try(op);
    return op->result != -EAGAIN;
}

static void sim_submit(struct poller *p, struct poller_op *op)
{
    struct sock *s = sock_find(op->fd);
    struct poller_op **at;

    loop_submitted();
    op->private[0] = (uint64_t)(uintptr_t)p;
    if (!s) {
        finish(op, is_foreign(op) ? foreign(op) : -EBADF);
        return;
    }
    op->private[1] = (uint64_t)(uintptr_t)s;
    op->next = NULL;
    for (at = sock_ops(s); *at; at = &(*at)->next)
        ;
    *at = op;
    poller_serve(s);
}

static void take_off(struct poller_op *op)
{
    struct sock *s = (struct sock *)(uintptr_t)op->private[1];
    struct poller_op **at = sock_ops(s);

    while (*at != op)
        at = &(*at)->next;
    *at = op->next;
}

static void sim_cancel(struct poller *p, struct poller_op *op)
{
    (void)p;
    if (!op->private[1])
        return;
    take_off(op);
    finish(op, -ECANCELED);
}

static void sim_forget(struct poller *p, int fd)
{
    struct sock *s = sock_find(fd);
    struct poller_op **at;

    if (!s)
        return;
    for (at = sock_ops(s); *at;) {
        struct poller_op *op = *at;

        if (op->private[0] != (uint64_t)(uintptr_t)p) {
            at = &op->next;
            continue;
        }
        *at = op->next;
        finish(op, -EBADF);
    }
}

static int run_finished(struct sim_poller *p)
{
    struct poller_op *op = p->finished;
    int count = 0;

    p->finished = NULL;
    p->finished_tail = &p->finished;
    while (op) {
        struct poller_op *next = op->next;

        loop_completed();
        op->done(op); /* `op` is gone after this */
        op = next;
        count++;
    }
    return count;
}

static int sim_wait(struct poller *poller, keel_ns deadline)
{
    struct sim_poller *p = self(poller);

    if (deadline == KEEL_NOW || p->finished || p->rung) {
        if (draw(BY_TURNS, LOOK_PASS) == 0)
            fiber_pass();
    } else {
        p->waits = fiber_self();
        (void)fiber_wait("nothing to run", deadline);
        p->waits = NULL;
    }
    p->rung = false;
    return run_finished(p);
}

static void sim_wake(struct poller *p)
{
    self(p)->rung = true;
    wake_loop(self(p));
}

static void sim_close(struct poller *p)
{
    free(self(p));
}

static int sim_open(struct poller **ret)
{
    struct sim_poller *p = calloc(1, sizeof *p);

    if (!p)
        return -ENOMEM;
    p->base.is = &poller_simulated;
    p->finished_tail = &p->finished;
    *ret = &p->base;
    return 0;
}

const struct poller_class poller_simulated = {
    .name = "simulated",
    .open = sim_open,
    .close = sim_close,
    .attempt = sim_attempt,
    .submit = sim_submit,
    .cancel = sim_cancel,
    .wait = sim_wait,
    .wake = sim_wake,
    .forget = sim_forget,
};
