/* SPDX-License-Identifier: MIT */
/* Inside keel: a ring of small numbers between processes, each of which says
 * "look there".
 *
 * What is to be done is written elsewhere, where whoever comes first takes it:
 * so a hint may come twice, or be out of date.  It may also be lost, with a
 * process that dies just after it took it; then they are all given anew.  So
 * no place of the ring is ever anybody's, and there is nothing to repair.
 *
 * One process puts, one thread at a time; any takes:
 *   put:  note[tail] = n; tail + 1; nobody looks, and the bell is set: ring
 *   take: read notes from head; head + n by compare-and-swap, which fails if
 *         somebody was faster, and then the notes may have been others
 *
 * Sleeping: one looks for a while (`looker` names it), the others sleep on the
 * bell; bit 0 = "somebody may sleep here".
 *   sleeper: set bit 0; looker = 0; look again; sleep while it is unchanged
 *   ringer:  put; load looker, bell; clear bit 0, count up and wake one
 *   woken:   set bit 0 for the others
 *   looker, who takes: looker = 0; more is there: ring
 * One of put and look again sees the other. */
#ifndef KEEL_HINTS_H
#define KEEL_HINTS_H

#include <stdatomic.h>

#include <keel/base.h>

/* Zeroed, but for `slots`: a power of two. */
struct hints {
    uint32_t slots;
    _Atomic uint32_t closed;
    uint64_t head_seen; /* by who puts */
    _Alignas(64) _Atomic uint64_t head;
    /* One line, for who puts needs all three. */
    _Alignas(64) _Atomic uint64_t tail;
    _Atomic uint32_t bell;
    _Atomic uint32_t looker; /* 0: nobody looks */
    _Alignas(64) _Atomic uint32_t note[];
};

static inline size_t hints_bytes(size_t slots)
{
    return (sizeof(struct hints) + slots * sizeof(uint32_t) + 63) / 64 * 64;
}

/* False: it is full. */
bool hints_put(struct hints *h, uint32_t note);
/* Wakes whoever must hear of what was put. */
void hints_tell(struct hints *h);
/* Drops all. */
void hints_clear(struct hints *h);
/* At most `most`; 0: there are none. */
unsigned hints_take(struct hints *h, uint32_t *ret_notes, unsigned most);
static inline bool hints_any(struct hints *h)
{
    return atomic_load(&h->tail) != atomic_load(&h->head);
}
/* Since the beginning. */
static inline uint64_t hints_put_count(struct hints *h)
{
    return atomic_load_explicit(&h->tail, memory_order_relaxed);
}
/* Everybody looks, and finds `closed`. */
void hints_close(struct hints *h);

/* The caller, numbered `me`, waits until there may be hints, or something for
 * `other` to find; `spins` is between two waits the caller's to keep, 0 first.
 * `busy`: they come so fast that looking less often is no loss.  May return for
 * no reason. */
void hints_wait(struct hints *h, uint32_t me, bool busy, bool (*other)(void),
                unsigned *spins);
/* A looker that died. */
void hints_forget(struct hints *h, uint32_t who);

#endif
