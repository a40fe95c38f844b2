/* SPDX-License-Identifier: MIT */
/* Inside keel: the waiter, the loop as seen from what waits, the run queue. */
#ifndef KEEL_SCHED_H
#define KEEL_SCHED_H

#include <stdatomic.h>

#include <keel/co.h>
#include <keel/lock.h>

#include "poller.h"

/* One waiter for coroutines and threads; lives in the sleeper's frame.
 *
 *   ARMED --wake--> WOKEN          one compare-and-swap leaves ARMED
 *   ARMED --deadline--> EXPIRED    the loser of it does nothing; a lost wake
 *   ARMED --cancel--> CANCELLED    goes to the next waiter
 */
struct waiter {
    struct waiter *next, *prev; /* in a wait list, under its spin */
    _Atomic uint32_t state;
    _Atomic uint32_t posted; /* threads: POSTED, SLEEPING */
    struct keel_co *co;      /* NULL: a thread */
    const char *what;        /* "queue get", for the dump */
};

void waiter_arm(struct waiter *w, const char *what);
/* Sleeps until woken (0), -ETIMEDOUT or -ECANCELED.  After an error the caller
 * unlinks `w` from its list before it returns. */
int waiter_sleep(struct waiter *w, keel_ns deadline);
/* Sleeps until woken, whatever else happens. */
void waiter_sleep_always(struct waiter *w);
/* From any thread.  False: it had expired or was cancelled. */
bool waiter_wake(struct waiter *w);

/* Wait lists: see keel_waitlist in <keel/lock.h>. */
void waitlist_hold(struct keel_waitlist *l);
void waitlist_drop(struct keel_waitlist *l);
/* Under the hold: links `w`, drops the hold, sleeps, and on an error holds,
 * unlinks and drops again.  Returns with the list not held. */
int waitlist_sleep(struct keel_waitlist *l, keel_ns deadline, bool always,
                   const char *what);
/* Under the hold: takes the oldest waiter that can still be woken off the list
 * and wakes it.  False: there was none.  */
bool waitlist_wake_one(struct keel_waitlist *l);
void waitlist_wake_all(struct keel_waitlist *l);

/* The current loop's poller; NULL in a plain thread. */
struct poller *loop_poller(void);

#endif
