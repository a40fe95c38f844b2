/* SPDX-License-Identifier: MIT */
/* Inside keel: stacks for coroutines.
 *
 * Stacks of the usual size lie in slabs, each above its guard, and are pooled:
 * a list for each loop, last in first out, so that the next coroutine finds its
 * stack in the cache, and one for the process.  What the process keeps beyond
 * STACKS_WARM gives its pages back.  Other sizes are mapped one by one and not
 * kept.
 *
 * What is known of a stack lies at its own top, in the page that whoever runs
 * on it needs anyway: a parked coroutine shall cost that page, and little of
 * anything else.  Page tables are eight bytes for each page of a stack and its
 * guard, touched or not. */
#ifndef KEEL_STACK_H
#define KEEL_STACK_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#define STACK_BYTES ((size_t)65536)
/* Libraries not built with -fstack-clash-protection have frames of up to
 * 16 KiB that step over a guard of one page. */
#define STACK_GUARD_BYTES ((size_t)20480)

struct slab;
struct stack {
    struct stack *next;
    struct stack *next_bundle; /* of a bundle's first: see stack.c */
    unsigned bundle_count;
    char *low;         /* usable: up to the struct itself */
    void *fiber;       /* TSan's; kept with the stack while it is warm */
    struct slab *slab; /* NULL: mapped alone */
    unsigned valgrind_id;
    uint32_t era; /* differs each time that the memory is new */
};

static inline char *stack_top(const struct stack *s)
{
    return (char *)(uintptr_t)s;
}

/* A loop's own free stacks: those used last, and a bundle that filled before
 * them, so that nobody comes and goes to the process's list at a boundary. */
struct stack_cache {
    struct stack *head, *spare;
    unsigned count, spare_count;
    _Atomic uint64_t fetched; /* that it did not have: a counter */
};

/* What a cache has not got.  -ENOMEM, and stack_error() says why. */
int stack_fetch(struct stack_cache *cache, size_t bytes, struct stack **ret);
/* `cache` may be NULL. */
static inline int stack_get(struct stack_cache *cache, size_t bytes,
                            struct stack **ret)
{
    if (bytes > STACK_BYTES || !cache || !cache->head)
        return stack_fetch(cache, bytes, ret);
    *ret = cache->head;
    cache->head = (*ret)->next;
    cache->count--;
    return 0;
}
/* Keeps the stack in the cache.  The caller may still be running on it, as
 * long as its thread does not get or trim before it has left it; singles are
 * not for this, but for stack_drop from another stack. */
static inline void stack_keep(struct stack_cache *cache, struct stack *s)
{
    s->next = cache->head;
    cache->head = s;
    cache->count++;
}
void stack_drop(struct stack *s);
/* Gives back the pages below `sp`, of a coroutine that is parked there. */
void stack_cool(const struct stack *s, const void *sp);
/* Makes room in a cache that has more than STACK_BUNDLE: they become its spare
 * bundle, and what was that goes to the process's list. */
void stack_shed(struct stack_cache *cache);
#define STACK_BUNDLE 256u
/* Gives back the pages of some stacks of the process's list.  False when there
 * is nothing more to do. */
bool stack_trim(void);
/* Hands everything over. */
void stack_cache_empty(struct stack_cache *cache);

/* KEEL_GUARD=canary: there is no guard, the lowest words must stay zero. */
extern bool stack_canary;
/* Something is to be looked at before a coroutine parks: see park_look. */
extern _Atomic bool park_watched;
bool stack_intact(const struct stack *s);

const char *stack_error(void);

#endif
