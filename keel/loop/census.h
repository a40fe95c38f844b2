/* SPDX-License-Identifier: MIT */
/* Inside keel: the threads that keel knows, besides those of its loops. */
#ifndef KEEL_CENSUS_H
#define KEEL_CENSUS_H

#include "loop.h"

/* A thread's entry; it is in the list from the first time it has to do with
 * keel until it ends.
 *
 * Under `hold`: waits and what is said of it.  `naps` is odd while the thread
 * sleeps without a deadline; every sleep steps it. */
struct presence {
    struct presence *next, *prev;
    struct keel_waitlist hold;
    const struct waiter *waits;
    keel_ns since; /* by the real clock, which a test does not change */
    keel_ns deadline;
    void *frame; /* of the call that waits */
    _Atomic uint64_t naps;
    bool listed, service;
    _Atomic(struct keel_loop *) loop; /* that it runs */
    const void *worker;
    pthread_t thread;
    pid_t id;
    char name[16];
};

/* The calling thread is listed; NULL: by what the kernel calls it. */
void presence_enter(const char *name);
/* It serves keel: what it waits for is work, and it wakes nobody without. */
void presence_serve(const char *name);
/* It runs this loop, or none any more. */
void presence_loop(struct keel_loop *l);
/* Around a sleep. */
void presence_nap(const struct waiter *w, keel_ns deadline, void *frame);
void presence_wake(void);

/* The list, locked: from the first, until dropped. */
struct presence *census_hold(void);
struct presence *census_first(void); /* likewise, by who holds it */
void census_drop(void);

#endif
