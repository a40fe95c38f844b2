/* SPDX-License-Identifier: MIT */
#include "chunk/buffer.h"

#include <errno.h>

#include <keel/lock.h>

/* What O_DIRECT may ask for on any file system that we know. */
#define ALIGNMENT ((uintptr_t)4096)

/* Invariants between calls:
 *   `room` and `spare` together count the buffers in the list `free`; which of
 *   the two a buffer counts for is decided when it is lent
 *   a buffer is in the list or lent, never both
 *   `waiting` callers wait for `room`, or were woken and have not run yet
 * `free` is read and written under `lock`, which is never held across a
 * wait. */
struct buffer_pool {
    struct keel_semaphore room, spare;
    unsigned waiting;
    struct keel_lock lock;
    struct buffer *free;
    unsigned count;
    void *memory;
    struct buffer buffers[];
};

int buffer_pool_new(unsigned count, struct buffer_pool **ret)
{
    struct buffer_pool *p;
    uintptr_t at;

    unsigned spare = count < 16 ? 1 : count / 16;

    keel_assert(count > 0);
    count += spare;
    p = keel_calloc(1, sizeof *p + count * sizeof p->buffers[0]);
    if (!p)
        return -ENOMEM;
    /* One piece, of which the kernel gives only the pages that are used. */
    p->memory = keel_alloc(count * CHUNK_BYTES + ALIGNMENT - 1);
    if (!p->memory) {
        keel_free(p);
        return -ENOMEM;
    }
    at = ((uintptr_t)p->memory + ALIGNMENT - 1) & ~(ALIGNMENT - 1);

    keel_semaphore_init(&p->room, count - spare, count - spare);
    keel_semaphore_init(&p->spare, spare, spare);
    keel_lock_init(&p->lock);
    p->count = count;
    for (unsigned i = count; i-- > 0;) {
        struct buffer *b = &p->buffers[i];

        b->bytes = (uint8_t *)at + i * CHUNK_BYTES;
        b->pool = p;
        b->next = p->free;
        p->free = b;
    }
    *ret = p;
    return 0;
}

void buffer_pool_free(struct buffer_pool *p)
{
    unsigned there = 0;

    if (!p)
        return;
    for (struct buffer *b = p->free; b; b = b->next)
        there++;
    keel_assert(there == p->count); /* else somebody still writes into one */
    keel_semaphore_fini(&p->room);
    keel_semaphore_fini(&p->spare);
    keel_lock_fini(&p->lock);
    keel_free(p->memory);
    keel_free(p);
}

/* A buffer for what was counted down. */
static struct buffer *lend(struct buffer_pool *p, bool spare)
{
    struct buffer *b;

    keel_lock_hold(&p->lock);
    b = p->free;
    p->free = b->next;
    keel_lock_drop(&p->lock);
    b->next = NULL;
    b->spare = spare;
    return b;
}

int buffer_take(struct buffer_pool *p, keel_ns deadline, struct buffer **ret)
{
    int rc;

    /* The semaphore would let us overtake who was woken and has not run yet:
     * somebody who gives and takes all the time would starve him. */
    if (deadline <= keel_now() &&
        __atomic_load_n(&p->waiting, __ATOMIC_RELAXED) > 0)
        return -ETIMEDOUT;
    __atomic_fetch_add(&p->waiting, 1, __ATOMIC_RELAXED);
    rc = keel_semaphore_take(&p->room, deadline);
    __atomic_fetch_sub(&p->waiting, 1, __ATOMIC_RELAXED);
    if (rc < 0)
        return rc;
    *ret = lend(p, false);
    return 0;
}

int buffer_take_spare(struct buffer_pool *p, keel_ns deadline,
                      struct buffer **ret)
{
    int rc = buffer_take(p, KEEL_NOW, ret);

    if (rc != -ETIMEDOUT)
        return rc;
    rc = keel_semaphore_take(&p->spare, deadline);
    if (rc < 0)
        return rc;
    *ret = lend(p, true);
    return 0;
}

void buffer_give(struct buffer *b)
{
    struct buffer_pool *p;
    bool spare;

    if (!b)
        return;
    p = b->pool;
    spare = b->spare;
    keel_lock_hold(&p->lock);
    b->next = p->free;
    p->free = b;
    keel_lock_drop(&p->lock);
    keel_semaphore_give(spare ? &p->spare : &p->room);
}
