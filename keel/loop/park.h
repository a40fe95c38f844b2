/* SPDX-License-Identifier: MIT */
/* Inside keel: parking, inline.
 *
 * After a switch every return up to the coroutine's own code is mispredicted
 * (switch.h), so what parks often has the way down to the switch inlined. */
#ifndef KEEL_PARK_H
#define KEEL_PARK_H

#include <errno.h>

#include <keel/seam.h>

#include "loop.h"
#include "sanitize.h"
#include "switch.h"

#define STEPS 1024u /* operations between two hidden yields */
#define ALWAYS_INLINE static inline __attribute__((always_inline))

ALWAYS_INLINE void jump(struct keel_co *from, struct keel_co *to)
{
    SAN_ASAN(__sanitizer_start_switch_fiber(&from->body->fake, to->body->low,
                                            to->body->size));
    SAN_TSAN(__tsan_switch_to_fiber(to->body->stack->fiber, 0));
    switch_stacks(&from->sp, to->sp);
    SAN_ASAN(__sanitizer_finish_switch_fiber(from->body->fake, NULL, NULL));
}

/* The same at the end of a function. */
ALWAYS_INLINE void jump_away(struct keel_co *from, struct keel_co *to)
{
#if defined(KEEL_ASAN) || defined(KEEL_TSAN)
    jump(from, to);
#else
    switch_away(&from->sp, to->sp);
#endif
}

/* Begins to fetch the stack of the one after this one: among a thousand
 * parked coroutines it has left the caches, and the switch would wait for it.
 * A parked read's frames are about this long.  Where two take turns nothing
 * is cold, and nothing is fetched. */
#define FETCH_BYTES 512
static inline void fetch_next(const struct keel_co *to)
{
    const struct keel_co *next = to->next;
    const char *frames;

    if (!next)
        return;
    frames = next->sp;
    for (size_t at = 0; at < FETCH_BYTES; at += 64)
        __builtin_prefetch(frames + at);
    __builtin_prefetch(next->body);
    __builtin_prefetch(next->next);
}

static inline struct keel_co *next_to_run(struct keel_loop *l)
{
    struct keel_co *to;

    if (l->run_head && budget_use(l)) {
        to = run_pop(l);
        l->current = to;
        fetch_next(to);
    } else {
        to = &l->home;
        l->current = NULL;
    }
    l->steps = STEPS;
    return to;
}

/* The current coroutine stops here until it is posted. */
ALWAYS_INLINE void co_park(struct keel_loop *l, struct keel_co *self)
{
    struct keel_co *to;

    if (park_is_watched())
        park_look(self);
    to = next_to_run(l);
    if (to != self)
        jump(self, to);
}

static inline void waiter_arm_inline(struct waiter *w, const char *what)
{
    struct keel_loop *l = loop_here;

    keel_assert(!l || l->current); /* a poller's callback may not wait */
    w->next = w->prev = NULL;
    atomic_init(&w->state, ARMED);
    atomic_init(&w->posted, UNPOSTED);
    w->co = l ? l->current : NULL;
    w->what = what;
    w->on = NULL;
    w->timed = false;
    w->always = false;
    w->proxy = false;
}

ALWAYS_INLINE void waiter_park(struct waiter *w, keel_ns deadline)
{
    struct keel_co *co = w->co;
    struct keel_loop *l = co->loop;
    struct body *b = co->body;

    if (deadline != KEEL_FOREVER)
        timer_add(l, w, deadline);
    b->waits = w;
    b->since = l->now;
    parked_add(l, 1);
    co_park(l, co);
    parked_add(l, (size_t)-1);
    b->waits = NULL;
    if (w->timed)
        timer_drop(l, w);
}

static inline int waiter_outcome(struct waiter *w)
{
    switch (atomic_load_explicit(&w->state, memory_order_acquire)) {
    case WOKEN:
        return 0;
    case EXPIRED:
        return -ETIMEDOUT;
    default:
        return -ECANCELED;
    }
}

/* The loop's clock is as old as its turn, which matters only for a deadline
 * near it: turns of 20 ms are a fault that has worse consequences. */
static inline bool is_past(struct keel_loop *l, keel_ns deadline)
{
    if (deadline <= l->now)
        return true;
    if (deadline - l->now > 20 * KEEL_MS)
        return false;
    l->now = keel_seam.now();
    return deadline <= l->now;
}

ALWAYS_INLINE int waiter_sleep_in_co(struct waiter *w, keel_ns deadline)
{
    struct body *b = w->co->body;

    /* Once woken the post is under way and must be waited for, so that a
     * cancel or a deadline in the past gives up only what is still armed. */
    if (!b->shields &&
        atomic_load_explicit(&w->co->cancelled, memory_order_relaxed)) {
        if (waiter_leave(w, CANCELLED))
            return -ECANCELED;
        deadline = KEEL_FOREVER;
    } else {
        if (b->timeout < deadline)
            deadline = b->timeout;
        if (is_past(w->co->loop, deadline)) {
            if (waiter_leave(w, EXPIRED))
                return -ETIMEDOUT;
            deadline = KEEL_FOREVER;
        }
    }
    waiter_park(w, deadline);
    return waiter_outcome(w);
}

#endif
