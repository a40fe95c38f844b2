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

/* Linux 6.13.  Unlike PROT_NONE it does not split the mapping, of which a
 * process may have vm.max_map_count. */
#ifndef MADV_GUARD_INSTALL
#define MADV_GUARD_INSTALL 102
#endif

#define SLOT_BYTES (STACK_GUARD_BYTES + STACK_BYTES)
#define SLAB_FIRST 16u
#define SLAB_MOST 1024u
#define STACKS_WARM 1024u /* free stacks that keep their pages: 4 to 64 MiB */
#define TRIM_BATCH 32u
#define CANARY_BYTES 64u

/* Invariants, under `lock`:
 *   every stack of a slab is in use, in one loop's cache, on `free_warm` or
 *     `free_cold`, or not yet carved (slab index >= carved)
 *   `slab` is the newest, the only one that may have uncarved slots
 *   slabs are never unmapped: their pages are given back instead */
struct slab {
    struct slab *older; /* keeps old slabs reachable for leak checkers */
    char *base;
    unsigned slots, carved;
    struct stack stack[];
};

static pthread_mutex_t lock = PTHREAD_MUTEX_INITIALIZER;
static struct slab *slab;
static struct stack *free_warm, *free_cold;
static unsigned warm_count;
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
    return -ENOMEM;
}

static int no_guard(void)
{
    snprintf(error_text, sizeof error_text,
             "vm.max_map_count (%ld) allows no more guard pages "
             "(KEEL_GUARD=canary does without)",
             limit_from("/proc/sys/vm/max_map_count"));
    return -ENOMEM;
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

static void stack_init(struct stack *s, char *slot, size_t bytes)
{
    *s = (struct stack){.low = slot + STACK_GUARD_BYTES};
    s->top = s->low + bytes;
    s->valgrind_id = VALGRIND_STACK_REGISTER(s->low, s->top);
    SAN_TSAN(s->fiber = __tsan_create_fiber(0));
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
    s = keel_alloc(sizeof *s + slots * sizeof s->stack[0]);
    if (!s) {
        errno = ENOMEM;
        return no_memory("a slab", slots * sizeof s->stack[0]);
    }
    s->base = map(slots * SLOT_BYTES);
    if (!s->base) {
        keel_free(s);
        return no_memory("stacks", slots * SLOT_BYTES);
    }
    s->older = slab;
    s->slots = slots;
    s->carved = 0;
    slab = s;
    return 0;
}

static int stack_carve(struct stack **ret)
{
    struct stack *s;
    char *slot;
    int rc;

    if (!slab || slab->carved == slab->slots) {
        rc = slab_new();
        if (rc < 0)
            return rc;
    }
    s = &slab->stack[slab->carved];
    slot = slab->base + slab->carved * SLOT_BYTES;
    rc = guard_install(slot);
    if (rc < 0)
        return rc;
    stack_init(s, slot, STACK_BYTES);
    slab->carved++;
    *ret = s;
    return 0;
}

static int stack_single(size_t bytes, struct stack **ret)
{
    size_t page = (size_t)sysconf(_SC_PAGESIZE);
    struct stack *s;
    char *slot;
    int rc;

    if (bytes > SIZE_MAX / 2) {
        errno = ENOMEM;
        return no_memory("a stack", bytes);
    }
    bytes = (bytes + page - 1) & ~(page - 1);
    s = keel_alloc(sizeof *s);
    if (!s) {
        errno = ENOMEM;
        return no_memory("a stack", bytes);
    }
    slot = map(STACK_GUARD_BYTES + bytes);
    if (!slot) {
        keel_free(s);
        return no_memory("a stack", bytes);
    }
    rc = guard_install(slot);
    if (rc < 0) {
        munmap(slot, STACK_GUARD_BYTES + bytes);
        keel_free(s);
        return rc;
    }
    stack_init(s, slot, bytes);
    s->single = true;
    *ret = s;
    return 0;
}

int stack_fetch(struct stack_cache *cache, size_t bytes, struct stack **ret)
{
    int rc = 0;

    pthread_once(&settled, settle);
    if (cache)
        cache->fetched++;
    if (bytes > STACK_BYTES)
        return stack_single(bytes, ret);
    pthread_mutex_lock(&lock);
    if (free_warm) {
        *ret = free_warm;
        free_warm = free_warm->next;
        warm_count--;
    } else if (free_cold) {
        *ret = free_cold;
        free_cold = free_cold->next;
    } else {
        rc = stack_carve(ret);
    }
    pthread_mutex_unlock(&lock);
    return rc;
}

void stack_drop(struct stack *s)
{
    if (!s)
        return;
    if (s->single) {
        SAN_TSAN(__tsan_destroy_fiber(s->fiber));
        VALGRIND_STACK_DEREGISTER(s->valgrind_id);
        munmap(s->low - STACK_GUARD_BYTES,
               (size_t)(s->top - s->low) + STACK_GUARD_BYTES);
        keel_free(s);
        return;
    }
    pthread_mutex_lock(&lock);
    s->next = free_warm;
    free_warm = s;
    warm_count++;
    pthread_mutex_unlock(&lock);
}

/* Cuts the cache behind its first `keep`, which are the ones used last. */
static struct stack *cut(struct stack_cache *cache, unsigned keep)
{
    struct stack **at = &cache->head, *rest;

    for (unsigned i = 0; i < keep; i++)
        at = &(*at)->next;
    rest = *at;
    *at = NULL;
    cache->count = keep;
    return rest;
}

static unsigned take_warm(struct stack *batch[TRIM_BATCH])
{
    unsigned n = 0;

    while (n < TRIM_BATCH && warm_count > STACKS_WARM) {
        batch[n++] = free_warm;
        free_warm = free_warm->next;
        warm_count--;
    }
    return n;
}

bool stack_trim(struct stack_cache *cache)
{
    struct stack *batch[TRIM_BATCH], *rest, *next;
    bool more;
    unsigned n;

    rest = cache->count > STACK_CACHE_MOST ? cut(cache, STACK_CACHE_MOST / 2)
                                           : NULL;
    pthread_mutex_lock(&lock);
    for (; rest; rest = next) {
        next = rest->next;
        rest->next = free_warm;
        free_warm = rest;
        warm_count++;
    }
    n = take_warm(batch);
    more = warm_count > STACKS_WARM;
    pthread_mutex_unlock(&lock);
    if (n == 0)
        return false;

    for (unsigned i = 0; i < n; i++)
        madvise(batch[i]->low, (size_t)(batch[i]->top - batch[i]->low),
                MADV_DONTNEED);
    pthread_mutex_lock(&lock);
    for (unsigned i = 0; i < n; i++) {
        batch[i]->next = free_cold;
        free_cold = batch[i];
    }
    pthread_mutex_unlock(&lock);
    return more;
}

void stack_cache_empty(struct stack_cache *cache)
{
    struct stack *next;

    for (struct stack *s = cache->head; s; s = next) {
        next = s->next;
        stack_drop(s);
    }
    cache->head = NULL;
    cache->count = 0;
}

bool stack_intact(const struct stack *s)
{
    const volatile uint64_t *word = (const volatile uint64_t *)s->low;

    for (unsigned i = 0; i < CANARY_BYTES / sizeof *word; i++)
        if (word[i] != 0)
            return false;
    return true;
}
