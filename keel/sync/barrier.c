/* SPDX-License-Identifier: MIT */
/* Invariants between calls, under the hold of `waiters`:
 *   arrived waiters are linked in `waiters`, in order, fewer than `parties`;
 *     with `acting` one less than `parties` or broken
 *   `round` counts the rounds begun: it tells who ran `action` whether the
 *     round is still his */
#include <keel/lock.h>

#include <errno.h>

#include "loop/sched.h"

/* One who has arrived.  Whoever ends the round unlinks all, those too that
 * have given up but not yet said so. */
struct arrival {
    struct waiter waiter;
    int result;
    bool released;
};

static void hold(struct keel_barrier *b)
{
    waitlist_hold(&b->waiters);
}

static void drop(struct keel_barrier *b)
{
    waitlist_drop(&b->waiters);
}

void keel_barrier_init(struct keel_barrier *b, size_t parties,
                       int (*action)(void *arg), void *arg)
{
    if (parties == 0)
        misuse("keel_barrier_init", b, "it is for nobody");
    *b =
        (struct keel_barrier){.parties = parties, .action = action, .arg = arg};
}

void keel_barrier_fini(struct keel_barrier *b)
{
    hold(b);
    if (b->waiters.head || b->door.head)
        misuse("keel_barrier_fini", b, "somebody waits for it");
    drop(b);
    waitlist_end(&b->waiters);
}

/* ---- the end of a round, under the hold ---- */

/* Lets all go, with their place in the order, or with `error`. */
static void release(struct keel_barrier *b, int error)
{
    struct waiter *w;
    int place = 0;

    while ((w = b->waiters.head)) {
        struct arrival *a = (struct arrival *)(void *)w;

        waitlist_unlink(&b->waiters, w);
        a->result = error < 0 ? error : place++;
        a->released = true;
        waiter_wake(w);
    }
    b->arrived = 0;
    b->acting = false;
    b->round++;
    waitlist_hold(&b->door);
    waitlist_wake_all(&b->door);
    waitlist_drop(&b->door);
}

static void break_it(struct keel_barrier *b)
{
    b->broken = true;
    release(b, -EPIPE);
}

/* ---- waiting ---- */

/* Held before and after: while an action runs, its round is full. */
static int enter(struct keel_barrier *b, keel_ns deadline)
{
    int rc = 0;

    while (b->acting && rc == 0) {
        waitlist_hold(&b->door);
        drop(b);
        rc = waitlist_sleep_on(&b->door, b, deadline, false, "barrier");
        hold(b);
    }
    if (rc < 0)
        break_it(b);
    else if (b->broken)
        rc = -EPIPE;
    return rc;
}

/* Held, and dropped here. */
static int wait_for_the_rest(struct keel_barrier *b, keel_ns deadline)
{
    struct arrival a = {0};
    int rc;

    waiter_arm(&a.waiter, "barrier");
    a.waiter.on = b;
    waitlist_link(&b->waiters, &a.waiter);
    b->arrived++;
    drop(b);
    rc = waiter_sleep(&a.waiter, deadline);
    if (rc == 0)
        return a.result;
    hold(b);
    if (a.released)
        rc = a.result; /* the round ended before we could break it */
    else
        break_it(b);
    drop(b);
    return rc;
}

/* Held before and after. */
static int act(struct keel_barrier *b)
{
    uint64_t round = b->round;
    int rc;

    b->acting = true;
    drop(b);
    rc = b->action(b->arg);
    hold(b);
    if (b->round != round)
        return rc < 0 ? rc : -EPIPE; /* broken or reset meanwhile */
    if (rc < 0)
        break_it(b);
    return rc;
}

int keel_barrier_wait(struct keel_barrier *b, keel_ns deadline)
{
    int rc;

    hold(b);
    rc = enter(b, deadline);
    if (rc == 0 && b->arrived + 1 < b->parties)
        return wait_for_the_rest(b, deadline);
    if (rc == 0 && b->action)
        rc = act(b);
    if (rc >= 0) {
        rc = (int)b->arrived;
        release(b, 0);
    }
    drop(b);
    return rc;
}

/* ---- from outside ---- */

void keel_barrier_reset(struct keel_barrier *b)
{
    hold(b);
    release(b, -EPIPE);
    b->broken = false;
    drop(b);
}

void keel_barrier_abort(struct keel_barrier *b)
{
    hold(b);
    break_it(b);
    drop(b);
}

bool keel_barrier_is_broken(struct keel_barrier *b)
{
    bool broken;

    hold(b);
    broken = b->broken;
    drop(b);
    return broken;
}

size_t keel_barrier_waiting(struct keel_barrier *b)
{
    size_t waiting;

    hold(b);
    waiting = b->arrived;
    drop(b);
    return waiting;
}
