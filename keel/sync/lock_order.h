/* SPDX-License-Identifier: MIT */
/* Inside keel: the watch over the order in which locks are taken. */
#ifndef KEEL_LOCK_ORDER_H
#define KEEL_LOCK_ORDER_H

#include <stdatomic.h>
#include <stdbool.h>

#include <keel/lock.h>

/* Where a lock was taken: "file:line\nlock" where the program was compiled
 * with KEEL_DEBUG, else the address that the call returns to. */
struct place {
    const char *text;
    const void *pc;
};
#define HERE(place_)                                                           \
    ((struct place){                                                           \
        (place_), __builtin_extract_return_addr(__builtin_return_address(0))})

/* On from the first lock that is taken with a text. */
extern _Atomic bool lock_order_on;
void lock_order_begin(void);

static inline bool lock_order_watched(void)
{
    return __builtin_expect(
        atomic_load_explicit(&lock_order_on, memory_order_relaxed), 0);
}

/* About to wait for `lock`: notes the order, reports what can deadlock. */
void lock_order_want(const void *lock, struct place at);
void lock_order_have(const void *lock, struct place at);
/* By its holder or another. */
void lock_order_drop(const void *lock);
/* The lock begins or ends. */
void lock_order_forget(const void *lock);

/* What the takers of every kind of lock say. */
static inline void lock_order_before(const void *lock, keel_ns deadline,
                                     struct place at)
{
    if (at.text && !lock_order_watched())
        lock_order_begin();
    if (lock_order_watched() && deadline != KEEL_NOW)
        lock_order_want(lock, at);
}

static inline void lock_order_after(const void *lock, struct place at)
{
    if (lock_order_watched())
        lock_order_have(lock, at);
}

/* keel_lock's own, for what is made of one. */
int lock_take(struct keel_lock *l, keel_ns deadline, bool always,
              struct place at);

#endif
