/* SPDX-License-Identifier: MIT */
#include "hints.h"

#include <sched.h>

#include "family.h"
#include "loop/loop.h"

enum {
    SPINS_LEAST = 256, /* a few microseconds */
    SPINS_MOST = 4096, /* about twice as long as a wake takes */
    /* Spins from a look to the next: each takes the line from who puts. */
    OFTEN = 4,
    BUSY = 32,
    SELDOM = 256,
};
#define SHORT_NS (60 * KEEL_US)

/* ---- put ---- */

bool hints_put(struct hints *h, uint32_t note)
{
    uint64_t t = atomic_load_explicit(&h->tail, memory_order_relaxed);

    if (t - h->head_seen >= h->slots) {
        h->head_seen = atomic_load_explicit(&h->head, memory_order_acquire);
        if (t - h->head_seen >= h->slots)
            return false;
    }
    atomic_store_explicit(&h->note[t & (h->slots - 1)], note,
                          memory_order_relaxed);
    (void)atomic_exchange(&h->tail, t + 1);
    return true;
}

static void ring(struct hints *h, int sleepers)
{
    uint32_t v = atomic_load(&h->bell);

    while (v & 1)
        if (atomic_compare_exchange_weak(&h->bell, &v, (v + 2) & ~1U)) {
            family_wake(&h->bell, sleepers);
            return;
        }
}

void hints_tell(struct hints *h)
{
    if (atomic_load(&h->looker) == 0)
        ring(h, 1);
}

void hints_clear(struct hints *h)
{
    uint64_t head = atomic_load(&h->head);

    while (
        !atomic_compare_exchange_weak(&h->head, &head, atomic_load(&h->tail)))
        ;
}

void hints_close(struct hints *h)
{
    atomic_store(&h->closed, 1);
    ring(h, INT32_MAX);
}

/* ---- take ---- */

unsigned hints_take(struct hints *h, uint32_t *ret_notes, unsigned most)
{
    uint64_t head = atomic_load_explicit(&h->head, memory_order_acquire);

    for (;;) {
        uint64_t n =
            atomic_load_explicit(&h->tail, memory_order_acquire) - head;

        if (n == 0)
            return 0;
        if (n > most)
            n = most;
        for (uint64_t i = 0; i < n; i++)
            ret_notes[i] = atomic_load_explicit(
                &h->note[(head + i) & (h->slots - 1)], memory_order_relaxed);
        if (atomic_compare_exchange_strong(&h->head, &head, head + n))
            return (unsigned)n;
    }
}

/* ---- waiting ---- */

static bool found(struct hints *h, bool (*other)(void))
{
    return hints_any(h) || atomic_load(&h->closed) || other();
}

static bool look_first(struct hints *h, uint32_t me)
{
    uint32_t nobody = 0;

    return atomic_load_explicit(&h->looker, memory_order_relaxed) == 0 &&
           atomic_compare_exchange_strong(&h->looker, &nobody, me);
}

/* True: there are some.  One looks often, the others seldom. */
static bool look(struct hints *h, uint32_t me, unsigned often, unsigned spins)
{
    unsigned patience = family_patience();
    bool first = look_first(h, me);

    for (unsigned n = 1; n <= spins; n++) {
        cpu_relax();
        if (n % patience == 0)
            sched_yield();
        else if (n % (first ? often : SELDOM) != 0)
            continue;
        if (hints_any(h))
            return true;
        if (!first)
            first = look_first(h, me);
    }
    return false;
}

static void look_no_more(struct hints *h, uint32_t me)
{
    if (atomic_load_explicit(&h->looker, memory_order_relaxed) == me)
        atomic_store(&h->looker, 0);
}

static void sleep_(struct hints *h, uint32_t me, bool (*other)(void))
{
    uint32_t deaths = family_deaths();
    uint32_t v = atomic_fetch_or(&h->bell, 1) | 1;

    look_no_more(h, me);
    if (!found(h, other))
        (void)family_sleep(&h->bell, v, deaths, KEEL_FOREVER, false,
                           "process pool, task");
    (void)atomic_fetch_or(&h->bell, 1);
}

void hints_wait(struct hints *h, uint32_t me, bool busy, bool (*other)(void),
                unsigned *spins)
{
    keel_ns begun;

    if (*spins == 0)
        *spins = SPINS_LEAST;
    if (!look(h, me, busy ? BUSY : OFTEN, *spins)) {
        begun = keel_now();
        sleep_(h, me, other);
        /* Two that wake each other in turn would do so for ever, since a wake
         * takes longer than the other looks: after a short sleep one looks
         * that long. */
        if (keel_now() - begun > SHORT_NS)
            *spins = SPINS_LEAST;
        else if (*spins < SPINS_MOST)
            *spins *= 2;
    }
    look_no_more(h, me);
}

void hints_forget(struct hints *h, uint32_t who)
{
    look_no_more(h, who);
}
