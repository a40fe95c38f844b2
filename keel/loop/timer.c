/* SPDX-License-Identifier: MIT */
/* A timer is a worker that sleeps: a coroutine or a thread, like its maker. */
#include <keel/thread.h>

#include <errno.h>

#include "loop.h"

/*   WAITING --at--> RUNS --> OVER
 *      +--cancel, or the loop stops--> OVER */
enum { WAITING, RUNS, OVER };

/* Invariants between calls, under the hold of `waiters`, where the worker
 * waits for `at` and the others for OVER:
 *   runner is who runs fn, while it does
 * refs: the handle's and the worker's. */
struct keel_timer {
    struct keel_waitlist waiters;
    uint32_t state;
    _Atomic uint32_t refs;
    const void *runner;
    keel_ns at;
    void (*fn)(void *arg);
    void *arg;
};

static void unref(struct keel_timer *t)
{
    if (atomic_fetch_sub(&t->refs, 1) == 1)
        keel_free(t);
}

/* Under the hold. */
static void set_state(struct keel_timer *t, uint32_t state)
{
    t->state = state;
    t->runner = state == RUNS ? worker_self() : NULL;
    waitlist_wake_all(&t->waiters);
}

/* Held before and after: until `at` or the cancel. */
static void wait_for_it(struct keel_timer *t)
{
    while (t->state == WAITING) {
        int rc = waitlist_sleep(&t->waiters, t->at, false, "timer");

        waitlist_hold(&t->waiters);
        if (rc < 0 && t->state == WAITING)
            set_state(t, rc == -ETIMEDOUT ? RUNS : OVER);
    }
}

static int timer_run(void *arg)
{
    struct keel_timer *t = arg;

    waitlist_hold(&t->waiters);
    wait_for_it(t);
    if (t->state == RUNS) {
        waitlist_drop(&t->waiters);
        t->fn(t->arg);
        waitlist_hold(&t->waiters);
        set_state(t, OVER);
    }
    waitlist_drop(&t->waiters);
    unref(t);
    return 0;
}

static int start_thread(struct keel_timer *t)
{
    const struct keel_thread_how how = {.name = "timer", .daemon = true};
    keel_auto(thread) struct keel_thread *thread = NULL;
    int rc;

    rc = keel_thread_new(&how, timer_run, t, &thread);
    if (rc < 0)
        return rc;
    return keel_thread_begin(thread);
}

int keel_timer_start(keel_ns at, void (*fn)(void *arg), void *arg,
                     struct keel_timer **ret)
{
    const struct keel_spawn how = {.name = "timer"};
    struct keel_timer *t = keel_calloc(1, sizeof *t);
    int rc;

    if (!t)
        return -ENOMEM;
    t->at = at;
    t->fn = fn;
    t->arg = arg;
    atomic_init(&t->refs, 2);
    rc =
        keel_current() ? keel_spawn(&how, timer_run, t, NULL) : start_thread(t);
    if (rc < 0) {
        keel_free(t);
        return rc;
    }
    *ret = t;
    return 0;
}

bool keel_timer_cancel(struct keel_timer *t)
{
    bool cancelled;

    waitlist_hold(&t->waiters);
    cancelled = t->state == WAITING;
    if (cancelled)
        set_state(t, OVER);
    waitlist_drop(&t->waiters);
    return cancelled;
}

int keel_timer_join(struct keel_timer *t, keel_ns deadline)
{
    int rc = 0;

    waitlist_hold(&t->waiters);
    while (t->state != OVER) {
        if (t->runner == worker_self())
            rc = -EDEADLK;
        if (rc < 0)
            break;
        rc = waitlist_sleep(&t->waiters, deadline, false, "timer join");
        waitlist_hold(&t->waiters);
    }
    if (t->state == OVER)
        rc = 0;
    waitlist_drop(&t->waiters);
    return rc == -EDEADLK
               ? mistake("keel_timer_join", t, "its function is the caller", rc)
               : rc;
}

void keel_timer_free(struct keel_timer *t)
{
    if (!t)
        return;
    keel_timer_cancel(t);
    unref(t);
}
