/* SPDX-License-Identifier: MIT */
#include "stack.h"

#include <errno.h>
#include <pthread.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

#include <keel/co.h>
#include <keel/seam.h>

#include "sanitize.h"
#include "seam/limit.h"

/* Linux 6.13.  Unlike PROT_NONE it does not split the mapping, of which a
 * process may have vm.max_map_count. */
#ifndef MADV_GUARD_INSTALL
#define MADV_GUARD_INSTALL 102
#endif

#define SLOT_BYTES (STACK_GUARD_BYTES + STACK_BYTES)
#define SLAB_FIRST 16u
#define SLAB_MOST 1024u
#define STACKS_WARM 1024u /* free stacks that keep their pages: 4 to 64 MiB */
#define TRIM_BATCH 64u
#define CANARY_BYTES 64u
#define ERA_STEP 0x9e3779b9u /* odd: 2^32 eras before one comes again */

/* Invariants, under `lock`:
 *   every slot of a slab has a stack that is in use, in one loop's cache or on
 *     `warm`, or is cold: its bit is set and its pages are given back, or
 *     not yet carved (index >= carved)
 *   `slab` is the newest, the only one that may have uncarved slots
 *   `cold` lists the slabs with a bit set
 *   `warm` lists bundles, each a list of stacks whose first one knows how many
 *     they are; warm_count stacks in all
 *   slabs are never unmapped: their pages are given back instead */
struct slab {
    struct slab *older; /* keeps old slabs reachable for leak checkers */
    struct slab *next_cold;
    char *base;
    unsigned slots, carved, cold_count;
    uint64_t cold[SLAB_MOST / 64];
};

static pthread_mutex_t lock = PTHREAD_MUTEX_INITIALIZER;
static struct slab *slab, *cold;
static struct stack *warm;
static unsigned warm_count;
static uint32_t eras;
static bool guard_by_mprotect;

bool stack_canary;
_Atomic bool park_watched;
static pthread_once_t settled = PTHREAD_ONCE_INIT;

static _Thread_local char error_text[160];

static void settle(void)
{
    const char *guard = getenv("KEEL_GUARD");

    stack_canary = guard && strcmp(guard, "canary") == 0;
    if (stack_canary)
        park_watched = true;
    guard_by_mprotect = guard && strcmp(guard, "mprotect") == 0;
}

const char *stack_error(void)
{
    return error_text[0] ? error_text : "no spawn of this thread has failed";
}

static long limit_from(const char *path)
{
    FILE *f = fopen(path, "re");
    long value = -1;

    if (!f)
        return -1;
    if (fscanf(f, "%ld", &value) != 1)
        value = -1;
    fclose(f);
    return value;
}

static int no_memory(const char *what, size_t bytes)
{
    snprintf(error_text, sizeof error_text,
             "no memory for %s of %zu KiB: %s (see ulimit -v and "
             "vm.overcommit_memory)",
             what, bytes / 1024, strerror(errno));
    return limit_met(LIMIT_STACK, -ENOMEM);
}

static int no_guard(void)
{
    snprintf(error_text, sizeof error_text,
             "vm.max_map_count (%ld) allows no more guard pages "
             "(KEEL_GUARD=canary does without)",
             limit_from("/proc/sys/vm/max_map_count"));
    return limit_met(LIMIT_STACK, -ENOMEM);
}

static int guard_install(char *at)
{
    if (stack_canary)
        return 0;
    if (!guard_by_mprotect) {
        if (madvise(at, STACK_GUARD_BYTES, MADV_GUARD_INSTALL) == 0)
            return 0;
        guard_by_mprotect = true; /* EINVAL: the kernel is older */
    }
    return mprotect(at, STACK_GUARD_BYTES, PROT_NONE) == 0 ? 0 : no_guard();
}

/* Touches the stack's first page. */
static struct stack *stack_new(char *slot, size_t bytes, struct slab *of,
                               uint32_t era)
{
    char *low = slot + STACK_GUARD_BYTES;
    struct stack *s = (struct stack *)(void *)(low + bytes) - 1;

    *s = (struct stack){.low = low, .slab = of, .era = era};
    s->valgrind_id = VALGRIND_STACK_REGISTER(low, s);
    SAN_TSAN(s->fiber = __tsan_create_fiber(0));
    return s;
}

/* What the tools know of it.  Its memory goes next. */
static void stack_forget(struct stack *s)
{
    SAN_TSAN(__tsan_destroy_fiber(s->fiber));
    VALGRIND_STACK_DEREGISTER(s->valgrind_id);
}

static char *map(size_t bytes)
{
    char *m;

    if (keel_seam_enter(KEEL_OP_ALLOC, NULL) < 0) {
        errno = ENOMEM;
        return NULL;
    }
    m = mmap(NULL, bytes, PROT_READ | PROT_WRITE,
             MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE | MAP_STACK, -1, 0);
    if (m == MAP_FAILED)
        return NULL;
    /* A huge page would make 2 MiB resident for the first touch. */
    madvise(m, bytes, MADV_NOHUGEPAGE);
    return m;
}

/* The first slab is small, so that a small daemon stays small. */
static int slab_new(void)
{
    unsigned slots = slab ? slab->slots * 2 : SLAB_FIRST;
    struct slab *s;

    if (slots > SLAB_MOST)
        slots = SLAB_MOST;
    s = keel_calloc(1, sizeof *s);
    if (!s) {
        errno = ENOMEM;
        return no_memory("a slab", sizeof *s);
    }
    s->base = map(slots * SLOT_BYTES);
    if (!s->base) {
        keel_free(s);
        return no_memory("stacks", slots * SLOT_BYTES);
    }
    s->older = slab;
    s->slots = slots;
    slab = s;
    return 0;
}

/* A slot whose guard is there and whose memory is new. */
static int slot_carve(struct slab **ret_slab, char **ret)
{
    char *slot;
    int rc;

    if (!slab || slab->carved == slab->slots) {
        rc = slab_new();
        if (rc < 0)
            return rc;
    }
    slot = slab->base + slab->carved * SLOT_BYTES;
    rc = guard_install(slot);
    if (rc < 0)
        return rc;
    slab->carved++;
    *ret_slab = slab;
    *ret = slot;
    return 0;
}

/* The same, of one that was in use before; guards outlive the pages. */
static char *slot_warm(struct slab **ret_slab)
{
    struct slab *s = cold;
    unsigned word = 0, bit;

    if (!s)
        return NULL;
    while (!s->cold[word])
        word++;
    bit = (unsigned)__builtin_ctzll(s->cold[word]);
    s->cold[word] &= s->cold[word] - 1;
    if (--s->cold_count == 0)
        cold = s->next_cold;
    *ret_slab = s;
    return s->base + (word * 64 + bit) * SLOT_BYTES;
}

static void slot_cool(struct slab *s, const char *low)
{
    size_t index = (size_t)(low - s->base) / SLOT_BYTES;

    s->cold[index / 64] |= UINT64_C(1) << index % 64;
    if (s->cold_count++ == 0) {
        s->next_cold = cold;
        cold = s;
    }
}

static int stack_single(size_t bytes, struct stack **ret)
{
    size_t page = (size_t)sysconf(_SC_PAGESIZE);
    char *slot;
    int rc;

    if (bytes > SIZE_MAX / 2) {
        errno = ENOMEM;
        return no_memory("a stack", bytes);
    }
    bytes = (bytes + page - 1) & ~(page - 1);
    slot = map(STACK_GUARD_BYTES + bytes);
    if (!slot)
        return no_memory("a stack", bytes);
    rc = guard_install(slot);
    if (rc < 0) {
        munmap(slot, STACK_GUARD_BYTES + bytes);
        return rc;
    }
    *ret = stack_new(slot, bytes, NULL, 0);
    return 0;
}

/* ---- the process's list ---- */

/* Under `lock`: one of them, or NULL. */
static struct stack *warm_take(void)
{
    struct stack *s = warm;

    if (!s)
        return NULL;
    warm = s->next ? s->next : s->next_bundle;
    if (s->next) {
        warm->next_bundle = s->next_bundle;
        warm->bundle_count = s->bundle_count - 1;
    }
    warm_count--;
    return s;
}

static void bundle_give(struct stack *first, unsigned count)
{
    if (!first)
        return;
    first->bundle_count = count;
    pthread_mutex_lock(&lock);
    first->next_bundle = warm;
    warm = first;
    warm_count += count;
    pthread_mutex_unlock(&lock);
}

/* Into an empty cache. */
static void bundle_take(struct stack_cache *cache)
{
    pthread_mutex_lock(&lock);
    cache->head = warm;
    if (warm) {
        cache->count = warm->bundle_count;
        warm_count -= warm->bundle_count;
        warm = warm->next_bundle;
    }
    pthread_mutex_unlock(&lock);
}

/* One of the process's, warm, cold or new. */
static int stack_find(struct stack **ret)
{
    struct slab *of = NULL;
    char *slot = NULL;
    struct stack *s;
    uint32_t era;
    int rc = 0;

    pthread_mutex_lock(&lock);
    s = warm_take();
    if (!s)
        slot = slot_warm(&of);
    if (!s && !slot)
        rc = slot_carve(&of, &slot);
    era = eras += ERA_STEP;
    pthread_mutex_unlock(&lock);
    if (rc < 0)
        return rc;
    *ret = s ? s : stack_new(slot, STACK_BYTES, of, era);
    return 0;
}

int stack_fetch(struct stack_cache *cache, size_t bytes, struct stack **ret)
{
    pthread_once(&settled, settle);
    if (bytes > STACK_BYTES) {
        if (cache)
            cache->fetched++;
        return stack_single(bytes, ret);
    }
    if (!cache)
        return stack_find(ret);
    if (cache->spare) {
        cache->head = cache->spare;
        cache->count = cache->spare_count;
        cache->spare = NULL;
        cache->spare_count = 0;
        return stack_get(cache, bytes, ret);
    }
    cache->fetched++;
    bundle_take(cache);
    return cache->head ? stack_get(cache, bytes, ret) : stack_find(ret);
}

void stack_drop(struct stack *s)
{
    if (!s)
        return;
    if (!s->slab) {
        stack_forget(s);
        munmap(s->low - STACK_GUARD_BYTES,
               (size_t)((char *)(s + 1) - s->low) + STACK_GUARD_BYTES);
        return;
    }
    s->next = NULL;
    bundle_give(s, 1);
}

void stack_cool(const struct stack *s, const void *sp)
{
    static const uintptr_t below = 1024; /* swapcontext's frame, where it is */
    uintptr_t page = (uintptr_t)sysconf(_SC_PAGESIZE);
    uintptr_t low = (uintptr_t)s->low;
    uintptr_t end = ((uintptr_t)sp - below) & ~(page - 1);

    if (end > low)
        (void)madvise(s->low, end - low, MADV_DONTNEED);
}

void stack_shed(struct stack_cache *cache)
{
    bundle_give(cache->spare, cache->spare_count);
    cache->spare = cache->head;
    cache->spare_count = cache->count;
    cache->head = NULL;
    cache->count = 0;
}

bool stack_trim(void)
{
    struct slab *of[TRIM_BATCH];
    char *low[TRIM_BATCH];
    unsigned n = 0;
    bool more;

    for (; n < TRIM_BATCH; n++) {
        struct stack *s = NULL;

        pthread_mutex_lock(&lock);
        if (warm_count > STACKS_WARM)
            s = warm_take();
        pthread_mutex_unlock(&lock);
        if (!s)
            break;
        of[n] = s->slab;
        low[n] = s->low;
        stack_forget(s);
        madvise(low[n], STACK_BYTES, MADV_DONTNEED);
    }
    pthread_mutex_lock(&lock);
    for (unsigned i = 0; i < n; i++)
        slot_cool(of[i], low[i]);
    more = warm_count > STACKS_WARM;
    pthread_mutex_unlock(&lock);
    return more;
}

void stack_cache_empty(struct stack_cache *cache)
{
    stack_shed(cache);
    stack_shed(cache);
}

bool stack_intact(const struct stack *s)
{
    const volatile uint64_t *word = (const volatile uint64_t *)s->low;

    for (unsigned i = 0; i < CANARY_BYTES / sizeof *word; i++)
        if (word[i] != 0)
            return false;
    return true;
}
