/* SPDX-License-Identifier: MIT */
#include "fault.h"

#include <errno.h>
#include <signal.h>
#include <stdatomic.h>
#include <unistd.h>

/* The order's fields are written before `armed` and read after it. */
static struct {
    atomic_bool armed, fired;
    _Atomic unsigned seen[KEEL_OP_COUNT + 1]; /* the last: of any kind */
    enum keel_op op;
    unsigned nth, times;
    int error;
    void (*hit)(void);
} fault;

static bool is_due(enum keel_op op, unsigned seen)
{
    return atomic_load_explicit(&fault.armed, memory_order_acquire) &&
           fault.op == op && seen >= fault.nth &&
           (fault.times == 0 || seen - fault.nth < fault.times);
}

static int act(size_t *size)
{
    atomic_store(&fault.fired, true);
    if (fault.hit)
        fault.hit();
    switch (fault.error) {
    case FAULT_SHORT:
        if (size && *size > 1)
            --*size;
        return 0;
    case FAULT_KILL:
        kill(getpid(), SIGKILL);
        pause();
        return 0;
    default:
        return -fault.error;
    }
}

static int hook(enum keel_op op, size_t *size)
{
    unsigned kind = atomic_fetch_add(&fault.seen[op], 1) + 1;
    unsigned any = atomic_fetch_add(&fault.seen[FAULT_ANY], 1) + 1;

    if (is_due(op, kind) || is_due(FAULT_ANY, any))
        return act(size);
    return 0;
}

void fault_clear(void)
{
    atomic_store(&fault.armed, false);
    atomic_store(&fault.fired, false);
    for (unsigned k = 0; k <= KEEL_OP_COUNT; k++)
        atomic_store(&fault.seen[k], 0);
    keel_seam.fault = hook;
}

void fault_fail_times(enum keel_op op, unsigned nth, int error, unsigned times)
{
    fault_clear();
    fault.op = op;
    fault.nth = nth;
    fault.error = error;
    fault.times = times;
    atomic_store_explicit(&fault.armed, nth > 0, memory_order_release);
}

void fault_fail(enum keel_op op, unsigned nth, int error)
{
    fault_fail_times(op, nth, error, 1);
}

void fault_fail_alloc(unsigned nth)
{
    fault_fail(KEEL_OP_ALLOC, nth, ENOMEM);
}

bool fault_fired(void)
{
    atomic_store(&fault.armed, false);
    return atomic_exchange(&fault.fired, false);
}

unsigned fault_seen(enum keel_op op)
{
    return atomic_load(&fault.seen[op]);
}

void fault_watch(void (*hit)(void))
{
    fault.hit = hit;
}
