/* SPDX-License-Identifier: MIT */
#include "patched.h"

#include <dlfcn.h>
#include <errno.h>
#include <pthread.h>
#include <stdio.h>

#include <keel/seam.h>

#include "park.h"

/* ---- one wait for several descriptors ------------------------------------------- */

enum { USUAL = 4 }; /* more of them are not kept on the stack */

struct patched_wait {
    struct waiter waiter;
    size_t under_way;
    bool ending; /* what is under way was asked back: only the last wakes */
};

struct patched_op {
    struct poller_op op;
    struct patched_wait *wait;
    bool completed;
};

static void op_done(struct poller_op *op)
{
    struct patched_op *o = (struct patched_op *)(void *)op;
    struct patched_wait *w = o->wait;

    o->completed = true;
    w->under_way--;
    if (!w->ending || !w->under_way)
        (void)waiter_wake(&w->waiter);
}

static void submit(struct poller *p, struct patched_wait *w,
                   struct patched_op *ops, const struct pollfd *fds,
                   size_t count)
{
    for (size_t i = 0; i < count; i++) {
        ops[i].completed = fds[i].fd < 0; /* as poll(2), which skips it */
        if (ops[i].completed)
            continue;
        ops[i].wait = w;
        ops[i].op = (struct poller_op){
            .done = op_done,
            .verb = POLLER_POLL,
            .fd = fds[i].fd,
            .flags = (unsigned short)fds[i].events,
        };
        w->under_way++;
        p->is->submit(p, &ops[i].op);
    }
}

/* Every op ends before its memory does. */
static void take_back(struct poller *p, struct patched_wait *w,
                      struct patched_op *ops, size_t count, const char *what)
{
    if (!w->under_way)
        return;
    waiter_arm(&w->waiter, what);
    w->ending = true;
    for (size_t i = 0; i < count; i++)
        if (!ops[i].completed)
            p->is->cancel(p, &ops[i].op);
    waiter_sleep_always(&w->waiter);
}

static int wait_with(struct patched_op *ops, const struct pollfd *fds,
                     size_t count, keel_ns deadline, const char *what)
{
    struct poller *p = loop_poller();
    struct patched_wait w = {.under_way = 0};
    int rc;

    waiter_arm(&w.waiter, what);
    submit(p, &w, ops, fds, count);
    rc = waiter_sleep(&w.waiter, deadline);
    take_back(p, &w, ops, count, what);
    return rc;
}

static int patched_wait(const struct pollfd *fds, size_t count,
                        keel_ns deadline, const char *what)
{
    struct patched_op few[USUAL], *ops = few;
    int rc;

    rc = wait_allowed();
    if (rc < 0)
        return rc;
    rc = keel_seam_enter(KEEL_OP_POLL, NULL);
    if (rc < 0)
        return rc == -EINTR ? 0 : rc;
    if (count > USUAL) {
        ops = keel_calloc(count, sizeof *ops);
        if (!ops)
            return -ENOMEM;
    }
    rc = wait_with(ops, fds, count, deadline, what);
    if (ops != few)
        keel_free(ops);
    return rc;
}

/* ---- the rest of the table --------------------------------------------------------- */

static bool patched_inside(void)
{
    return loop_here && loop_here->current;
}

static const void *patched_self(void)
{
    return keel_current();
}

static void (*_Atomic park_hook)(const char *what);

void park_look(struct keel_co *self)
{
    void (*hook)(const char *) = atomic_load(&park_hook);

    if (stack_canary)
        keel_assert(stack_intact(self->body->stack));
    if (hook)
        hook(self->body->waits ? self->body->waits->what : NULL);
}

static void patched_watch(void (*hook)(const char *what))
{
    atomic_store(&park_hook, hook);
    if (hook)
        park_watched = true;
}

static const struct patched table = {
    .version = PATCHED_VERSION,
    .inside = patched_inside,
    .self = patched_self,
    .name = keel_name,
    .now = keel_now,
    .allowed = wait_allowed,
    .wait = patched_wait,
    .sleep = keel_sleep,
    .yield = keel_yield,
    .blocking = keel_blocking,
    .watch = patched_watch,
};

static void offer_once(void)
{
    patched_attach *attach = NULL;

    *(void **)&attach = dlsym(RTLD_DEFAULT, PATCHED_ATTACH);
    if (attach && attach(&table) < 0)
        (void)fprintf(stderr, "keel: this libkeel-patch is of another version: "
                              "nothing is patched\n");
}

void patched_offer(void)
{
    static pthread_once_t once = PTHREAD_ONCE_INIT;

    (void)pthread_once(&once, offer_once);
}
