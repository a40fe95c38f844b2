/* SPDX-License-Identifier: MIT */
/* Inside keel: where the memory of a program compiled with KEEL_DEBUG comes
 * from, see loop/quarantine.c. */
#ifndef KEEL_QUARANTINE_H
#define KEEL_QUARANTINE_H

#include <stdatomic.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

struct quarantine {
    /* Zeroed; NULL: malloc(3)'s turn. */
    void *(*alloc)(size_t size);
    /* False: it is not from here. */
    bool (*free)(void *p);
    /* The bytes that were asked for; 0: it is not from here. */
    size_t (*size)(const void *p);
};

/* NULL, as it is in other programs. */
extern _Atomic(const struct quarantine *) quarantine;

static inline const struct quarantine *quarantine_here(void)
{
    return atomic_load_explicit(&quarantine, memory_order_acquire);
}

/* As keel_alloc, at a cache line's begin; for keel_free. */
void *lines_alloc(size_t size);

/* Is this a program compiled with KEEL_DEBUG? */
bool debug_program(void);
/* A fault at `at`: says so if that was freed.  In the handler. */
void quarantine_fault(uintptr_t at, void *context);

#endif
