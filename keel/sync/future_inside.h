/* SPDX-License-Identifier: MIT */
/* Inside keel: a future as part of something larger, as a pool's job is. */
#ifndef KEEL_FUTURE_INSIDE_H
#define KEEL_FUTURE_INSIDE_H

#include <stdatomic.h>
#include <stddef.h>

#include <keel/future.h>
#include <keel/lock.h>

struct future_callback;
struct future_watch;

/* Invariants between calls, under the hold of `waiters`:
 *   result and value are set once, before state becomes DONE
 *   callbacks and watches are empty once it is done and the fulfiller has
 *     taken them
 *   `callbacks` is the youngest of a ring, whose `next` is the oldest
 *   has_callbacks: there are some, or there were
 * Who only wants the result reads `state` without the hold, and after it has
 * seen the end of it sees the hold free, as does who frees the memory: until
 * then the fulfiller may be about to drop it.
 * refs: the two owners.  `release` gives back the memory, once both have let
 * go; NULL: keel_free.
 * Whatever the fulfiller needs is in the first 64 bytes: it has to fetch them
 * from the other owner's processor.  Until the future is done a pool keeps
 * there what it will call, and with what. */
struct keel_future {
    struct keel_waitlist waiters;
    _Atomic uint32_t state;
    _Atomic uint32_t refs;
    int result;
    bool begun; /* of a pool's job */
    bool has_callbacks;
    union {
        void *value;
        void *arg;
    };
    union {
        void (*release)(struct keel_future *f);
        int (*fn)(void *arg);
    };
    struct future_watch *watches;
    struct future_callback *callbacks; /* beyond the 64 bytes */
};
_Static_assert(offsetof(struct keel_future, callbacks) == 64, "one line");

void future_init(struct keel_future *f, uint32_t refs,
                 void (*release)(struct keel_future *f));
/* keel_future_set and keel_future_free in one. */
void future_finish(struct keel_future *f, int result, void *value);

#endif
