/* SPDX-License-Identifier: MIT */
/* What a program without loops sees of the scheduler: every thread is a plain
 * one.  Weak, so that the scheduler's own definitions take their place. */
#include <stdlib.h>

#include "sched.h"

#define WEAK __attribute__((weak))

WEAK struct keel_co *keel_current(void)
{
    return NULL;
}

WEAK const char *keel_name(void)
{
    return "thread";
}

WEAK int keel_blocking(int (*fn)(void *arg), void *arg)
{
    return fn(arg);
}

WEAK struct poller *loop_poller(void)
{
    return NULL;
}

WEAK void waiter_arm(struct waiter *w, const char *what)
{
    (void)w;
    (void)what;
    abort(); /* only coroutines get here */
}

WEAK void waiter_sleep_always(struct waiter *w)
{
    (void)w;
    abort();
}

WEAK bool waiter_wake(struct waiter *w)
{
    (void)w;
    abort();
}
