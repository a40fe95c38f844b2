/* SPDX-License-Identifier: MIT */
/* All look alike: a condition and the waiters for it, under the waiters'
 * spin.  Who waits looks again after each wake, because somebody who never
 * waited may have been faster; so a wake is a hint, never a gift, and one that
 * comes too late for a waiter that expired goes to the next. */
#include <keel/lock.h>

#include <errno.h>

#include "lock_order.h"
#include "loop/loop.h"

#undef keel_lock_take
#undef keel_lock_hold

/* The list is the object's first member. */
static void nobody_waits(const char *call, struct keel_waitlist *l)
{
    waitlist_hold(l);
    if (l->head)
        misuse(call, l, "somebody waits for it");
    waitlist_drop(l);
    waitlist_end(l);
}

/* A waiter that was woken, and then gives up although the thing it was woken
 * for is there, would lose the wake.  None does: the wake is reported as 0 and
 * the loop takes what is there. */

/* Drops the hold first: the woken one will want it. */
static void drop_and_wake_one(struct keel_waitlist *l)
{
    struct waiter *w = waitlist_choose(l);

    waitlist_drop(l);
    waiter_post(w);
}

/* ---- lock ---- */

void keel_lock_init(struct keel_lock *l)
{
    *l = (struct keel_lock)KEEL_LOCK_INIT;
    if (lock_order_watched())
        lock_order_forget(l);
}

void keel_lock_fini(struct keel_lock *l)
{
    if (l->held)
        misuse("keel_lock_fini", l, "somebody holds it");
    nobody_waits("keel_lock_fini", &l->waiters);
    if (lock_order_watched())
        lock_order_forget(l);
}

int lock_take(struct keel_lock *l, keel_ns deadline, bool always,
              struct place at)
{
    struct owner owner;
    int rc;

    lock_order_before(l, deadline, at);
    waitlist_hold(&l->waiters);
    while (l->held) {
        rc = waitlist_sleep(&l->waiters, deadline, always, "lock");
        if (rc < 0)
            return rc;
        waitlist_hold(&l->waiters);
    }
    l->held = true;
    owner = owner_here();
    l->owner = owner.who;
    l->owner_age = owner.age;
    waitlist_drop(&l->waiters);
    lock_order_after(l, at);
    return 0;
}

int keel_lock_take(struct keel_lock *l, keel_ns deadline)
{
    return lock_take(l, deadline, false, HERE(NULL));
}

int keel_lock_take_at(struct keel_lock *l, keel_ns deadline, const char *place)
{
    return lock_take(l, deadline, false, HERE(place));
}

void keel_lock_hold(struct keel_lock *l)
{
    lock_take(l, KEEL_FOREVER, true, HERE(NULL));
}

void keel_lock_hold_at(struct keel_lock *l, const char *place)
{
    lock_take(l, KEEL_FOREVER, true, HERE(place));
}

void keel_lock_drop(struct keel_lock *l)
{
    /* First: once it is dropped the next may have it already. */
    if (lock_order_watched())
        lock_order_drop(l);
    waitlist_hold(&l->waiters);
    if (__builtin_expect(!l->held, 0))
        misuse("keel_lock_drop", l, "nobody holds it");
    l->held = false;
    drop_and_wake_one(&l->waiters);
}

/* ---- condition ---- */

void keel_cond_init(struct keel_cond *c)
{
    *c = (struct keel_cond){0};
}

void keel_cond_fini(struct keel_cond *c)
{
    nobody_waits("keel_cond_fini", &c->waiters);
}

int keel_cond_wait(struct keel_cond *c, struct keel_lock *l, keel_ns deadline)
{
    struct waiter w;
    int rc;

    if (!l->held)
        misuse("keel_cond_wait", l, "nobody holds it");
    /* Linked before the lock is dropped: a signal sent under the lock after
     * that finds us. */
    waiter_arm(&w, "condition");
    w.on = c;
    waitlist_hold(&c->waiters);
    waitlist_link(&c->waiters, &w);
    waitlist_drop(&c->waiters);
    keel_lock_drop(l);
    rc = waiter_sleep(&w, deadline);
    if (rc < 0) {
        waitlist_hold(&c->waiters);
        waitlist_unlink(&c->waiters, &w);
        waitlist_drop(&c->waiters);
    }
    lock_take(l, KEEL_FOREVER, true, HERE(NULL));
    return rc;
}

int keel_cond_wait_for(struct keel_cond *c, struct keel_lock *l,
                       bool (*test)(void *arg), void *arg, keel_ns deadline)
{
    while (!test(arg)) {
        int rc = keel_cond_wait(c, l, deadline);

        if (rc < 0)
            return test(arg) ? 0 : rc;
    }
    return 0;
}

void keel_cond_signal(struct keel_cond *c)
{
    waitlist_hold(&c->waiters);
    drop_and_wake_one(&c->waiters);
}

void keel_cond_broadcast(struct keel_cond *c)
{
    waitlist_hold(&c->waiters);
    waitlist_wake_all(&c->waiters);
    waitlist_drop(&c->waiters);
}

/* ---- event ---- */

void keel_event_init(struct keel_event *e)
{
    *e = (struct keel_event){0};
}

void keel_event_fini(struct keel_event *e)
{
    nobody_waits("keel_event_fini", &e->waiters);
}

void keel_event_set(struct keel_event *e)
{
    /* All within the hold: the last waiter may free the event when it has
     * been dropped. */
    waitlist_hold(&e->waiters);
    e->set = true;
    waitlist_wake_all(&e->waiters);
    waitlist_drop(&e->waiters);
}

void keel_event_clear(struct keel_event *e)
{
    waitlist_hold(&e->waiters);
    e->set = false;
    waitlist_drop(&e->waiters);
}

bool keel_event_is_set(struct keel_event *e)
{
    bool set;

    waitlist_hold(&e->waiters);
    set = e->set;
    waitlist_drop(&e->waiters);
    return set;
}

int keel_event_wait(struct keel_event *e, keel_ns deadline)
{
    int rc = 0;

    waitlist_hold(&e->waiters);
    if (!e->set) {
        rc = waitlist_sleep(&e->waiters, deadline, false, "event");
        /* Woken it was set, even if it is clear again by now.  The hold is
         * for the setter, who may not have left the event yet. */
        waitlist_hold(&e->waiters);
    }
    waitlist_drop(&e->waiters);
    return rc;
}

/* ---- semaphore ---- */

void keel_semaphore_init(struct keel_semaphore *s, size_t count, size_t bound)
{
    if (bound > 0 && count > bound)
        misuse("keel_semaphore_init", s, "the count is beyond the bound");
    *s = (struct keel_semaphore){.count = count, .bound = bound};
}

void keel_semaphore_fini(struct keel_semaphore *s)
{
    nobody_waits("keel_semaphore_fini", &s->waiters);
}

int keel_semaphore_take(struct keel_semaphore *s, keel_ns deadline)
{
    int rc;

    waitlist_hold(&s->waiters);
    while (s->count == 0) {
        rc = waitlist_sleep(&s->waiters, deadline, false, "semaphore");
        if (rc < 0)
            return rc;
        waitlist_hold(&s->waiters);
    }
    s->count--;
    waitlist_drop(&s->waiters);
    return 0;
}

int keel_semaphore_give(struct keel_semaphore *s)
{
    waitlist_hold(&s->waiters);
    if (s->bound > 0 && s->count >= s->bound) {
        waitlist_drop(&s->waiters);
        return mistake("keel_semaphore_give", s, "it is full", -EOVERFLOW);
    }
    s->count++;
    drop_and_wake_one(&s->waiters);
    return 0;
}
