/* SPDX-License-Identifier: MIT */
/*   idle --first--> run --result >= 0--> done for ever
 *    ^               |
 *    +---- error ----+
 * `done` is read without the hold; the result is written before it. */
#include <keel/lock.h>

#include <errno.h>

#include "loop/sched.h"

static bool done(const struct keel_once *o)
{
    return __atomic_load_n(&o->done, __ATOMIC_ACQUIRE);
}

/* The caller is o->runner. */
static int run(struct keel_once *o, int (*fn)(void *arg), void *arg)
{
    int rc = fn(arg);

    waitlist_hold(&o->waiters);
    o->runner = NULL;
    if (rc >= 0) {
        o->result = rc;
        __atomic_store_n(&o->done, 1, __ATOMIC_RELEASE);
    }
    waitlist_wake_all(&o->waiters);
    waitlist_drop(&o->waiters);
    return rc;
}

int keel_once(struct keel_once *o, int (*fn)(void *arg), void *arg,
              keel_ns deadline)
{
    const void *me = worker_self();
    int rc = 0;

    if (done(o))
        return o->result;
    waitlist_hold(&o->waiters);
    while (!done(o) && o->runner) {
        if (o->runner == me) {
            waitlist_drop(&o->waiters);
            return mistake("keel_once", o, "the caller is in its function",
                           -EDEADLK);
        }
        rc = waitlist_sleep(&o->waiters, deadline, false, "once");
        if (rc < 0)
            return rc;
        waitlist_hold(&o->waiters);
    }
    if (!done(o))
        o->runner = me;
    waitlist_drop(&o->waiters);
    return done(o) ? o->result : run(o, fn, arg);
}
