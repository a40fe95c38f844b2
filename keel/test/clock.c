/* SPDX-License-Identifier: MIT */
#include "clock.h"

#include <stdatomic.h>

/* 2026-01-01 00:00:00 UTC, when the clock stands at one second. */
#define DATE_AT_START (INT64_C(1767225600) * KEEL_SECOND)

static _Atomic keel_ns now;
static struct keel_seam before;

static keel_ns test_now(void)
{
    return atomic_load(&now);
}

static int64_t test_wall_ns(void)
{
    return DATE_AT_START + atomic_load(&now) - KEEL_SECOND;
}

/* Never back: two may have read the same clock and move it. */
static void test_advance(keel_ns to)
{
    keel_ns at = atomic_load(&now);

    while (at < to && !atomic_compare_exchange_weak(&now, &at, to))
        ;
}

void test_clock_install(void)
{
    if (!keel_seam.virtual_time)
        before = keel_seam;
    atomic_store(&now, KEEL_SECOND);
    keel_seam.now = test_now;
    keel_seam.wall_ns = test_wall_ns;
    keel_seam.advance = test_advance;
    keel_seam.virtual_time = true;
}

void test_clock_advance(keel_ns span)
{
    keel_assert(keel_seam.virtual_time && span >= 0);
    atomic_fetch_add(&now, span);
}

void test_clock_remove(void)
{
    if (!keel_seam.virtual_time)
        return;
    keel_seam.now = before.now;
    keel_seam.wall_ns = before.wall_ns;
    keel_seam.advance = before.advance;
    keel_seam.virtual_time = false;
}
