/* SPDX-License-Identifier: MIT */
#include "chunk/buffer.h"

#include <errno.h>

#include <keel/lock.h>

/* What O_DIRECT may ask for on any file system that we know. */
#define ALIGNMENT ((uintptr_t)4096)

/* Invariants between calls:
 *   `room` counts the buffers in the list `free`
 *   a buffer is in the list or lent, never both
 * `free` is read and written under `lock`, which is never held across a
 * wait. */
struct buffer_pool {
    struct keel_semaphore room;
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

    keel_assert(count > 0);
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

    keel_semaphore_init(&p->room, count, count);
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
    keel_lock_fini(&p->lock);
    keel_free(p->memory);
    keel_free(p);
}

int buffer_take(struct buffer_pool *p, keel_ns deadline, struct buffer **ret)
{
    struct buffer *b;
    int rc;

    rc = keel_semaphore_take(&p->room, deadline);
    if (rc < 0)
        return rc;
    keel_lock_hold(&p->lock);
    b = p->free;
    p->free = b->next;
    keel_lock_drop(&p->lock);
    b->next = NULL;
    *ret = b;
    return 0;
}

void buffer_give(struct buffer *b)
{
    struct buffer_pool *p;

    if (!b)
        return;
    p = b->pool;
    keel_lock_hold(&p->lock);
    b->next = p->free;
    p->free = b;
    keel_lock_drop(&p->lock);
    keel_semaphore_give(&p->room);
}
