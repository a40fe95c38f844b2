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
    const void *on;          /* the object; NULL: see `what` */
    /* The rest is the loop's: its timers are a pairing heap of waiters. */
    keel_ns deadline;
    uint64_t turn; /* equal deadlines expire in order of sleeping */
    struct waiter *child, *younger, *older; /* older: parent for the first */
    bool timed;
    bool always;
    bool proxy; /* stands in one list for `older`, who waits in several */
};

void waiter_arm(struct waiter *w, const char *what);
/* Sleeps until woken (0), -ETIMEDOUT or -ECANCELED.  After an error the caller
 * unlinks `w` from its list before it returns.  To sleep again, arm again. */
int waiter_sleep(struct waiter *w, keel_ns deadline);
/* Sleeps until woken, whatever else happens. */
void waiter_sleep_always(struct waiter *w);
/* From any thread.  False: it had expired or was cancelled. */
bool waiter_wake(struct waiter *w);

/* Wait lists: see keel_waitlist in <keel/lock.h>. */
void waitlist_hold(struct keel_waitlist *l);
void waitlist_drop(struct keel_waitlist *l);
/* Its object has ended: whoever holds it from now on is told, in programs
 * compiled with KEEL_DEBUG. */
void waitlist_end(struct keel_waitlist *l);
/* Under the hold. */
void waitlist_link(struct keel_waitlist *l, struct waiter *w);
void waitlist_link_first(struct keel_waitlist *l, struct waiter *w);
void waitlist_unlink(struct keel_waitlist *l, struct waiter *w);
/* Under the hold: links a waiter, drops the hold, sleeps, and on an error holds,
 * unlinks and drops again.  Returns with the list not held. */
int waitlist_sleep(struct keel_waitlist *l, keel_ns deadline, bool always,
                   const char *what);
/* The same, for the list of a larger object, which begins elsewhere. */
int waitlist_sleep_on(struct keel_waitlist *l, const void *on, keel_ns deadline,
                      bool always, const char *what);
/* Under the hold: takes the oldest waiter that can still be woken off the list
 * and wakes it.  False: there was none.  */
bool waitlist_wake_one(struct keel_waitlist *l);
void waitlist_wake_all(struct keel_waitlist *l);
/* The same in two steps, so that the woken one does not run into the hold:
 * choose under it, post (NULL is fine) after the drop. */
struct waiter *waitlist_choose(struct keel_waitlist *l);
/* Also says who was linked, where that is a proxy. */
struct waiter *waitlist_choose_linked(struct keel_waitlist *l,
                                      struct waiter **ret_linked);
void waiter_post(struct waiter *w);

/* A programmer's mistake that the expression alone would not explain: what is
 * wrong with `object` in `call`. */
_Noreturn void misuse(const char *call, const void *object, const char *what);

/* The same, of the call of keel that we are in. */
_Noreturn void misuse_here(const void *object, const char *what);
/* A mistake that harms nothing: says so, and returns `error`; programs compiled
 * with KEEL_DEBUG stop there. */
int mistake(const char *call, const void *object, const char *what, int error);

/* Who calls: differs between any two coroutines and threads alive. */
const void *worker_self(void);

/* A peer that is gone is -EPIPE, not the end of the process. */
void ignore_sigpipe(void);
/* The current loop's poller; NULL in a plain thread. */
struct poller *loop_poller(void);
/* What a poller says of its operations: one was submitted; one has completed.
 * While any is under way the loop is waiting for something outside. */
void loop_submitted(void);
void loop_completed(void);
/* Called after an operation that did not have to wait: after a long run of
 * them the others get their turn. */
void loop_step(void);
/* The earlier of `deadline` and that of the keel_timeout scopes around the
 * caller.  waiter_sleep sees to it by itself. */
keel_ns wait_until(keel_ns deadline);
/* -ECANCELED when a wait that begins now would be cancelled, else 0. */
int wait_allowed(void);

#endif
