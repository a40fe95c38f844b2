/* SPDX-License-Identifier: MIT */
/* A bounded queue of pointers between coroutines and threads.
 *
 * Put waits while the queue is full, get while it is empty: a coroutine parks,
 * a plain thread blocks.  Waiters are woken oldest first, but a newcomer may
 * overtake one that was just woken. */
#ifndef KEEL_QUEUE_H
#define KEEL_QUEUE_H

#include <keel/base.h>

struct keel_queue;

enum keel_queue_kind {
    KEEL_QUEUE_SHARED, /* any thread, any loop */
    KEEL_QUEUE_LOCAL,  /* the coroutines of one loop: cheaper, asserted */
};

/* `slots` >= 1. */
KEEL_API int keel_queue_new(size_t slots, enum keel_queue_kind kind,
                            struct keel_queue **ret);
/* Items left inside are dropped; nobody may be waiting. */
KEEL_API void keel_queue_free(struct keel_queue *q);

/* Appends `item` (not NULL), waiting for room until `deadline`.
 * Takes the item on success; on error it is still the caller's.
 *
 * -EPIPE      the queue was closed
 * -ETIMEDOUT  no room before the deadline (at once with KEEL_NOW)
 * -ECANCELED  the calling coroutine is being cancelled */
KEEL_API int keel_queue_put(struct keel_queue *q, void *item, keel_ns deadline);
/* The oldest item.  A closed queue is drained first, then -EPIPE. */
KEEL_API int keel_queue_get(struct keel_queue *q, keel_ns deadline,
                            void **ret_item);
/* The oldest item, left inside; -EAGAIN when empty. */
KEEL_API int keel_queue_peek(struct keel_queue *q, void **ret_item);
KEEL_API size_t keel_queue_count(struct keel_queue *q);

/* Each item got is answered by one task_done; join waits until all that were
 * put are done.  One too many is -EINVAL. */
KEEL_API int keel_queue_task_done(struct keel_queue *q);
KEEL_API int keel_queue_join(struct keel_queue *q, keel_ns deadline);

/* Put fails from now on, get drains and then fails. */
KEEL_API void keel_queue_close(struct keel_queue *q);
/* Also drains: `drop` (may be NULL) gets each item, and the unfinished count
 * goes down by as many; join wakes only if that reaches 0. */
KEEL_API void keel_queue_close_now(struct keel_queue *q,
                                   void (*drop)(void *item));
KEEL_AUTO(queue, struct keel_queue *, keel_queue_free)

#endif
