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

/* First in, first out.  With 0 slots it is a channel: it holds nothing, a put
 * waits until a get takes the item from its hand (then either kind may be used
 * from any thread).  -ENOMEM, -EINVAL too many slots */
KEEL_API int keel_queue_new(size_t slots, enum keel_queue_kind kind,
                            struct keel_queue **ret);
/* Last in, first out, for any thread; `slots` >= 1.  -ENOMEM, -EINVAL */
KEEL_API int keel_queue_new_lifo(size_t slots, struct keel_queue **ret);
/* The least item first, by `compare` as for qsort(3), which may not wait; of
 * equal ones the oldest.  For any thread; `slots` >= 1.  -ENOMEM, -EINVAL */
KEEL_API int keel_queue_new_priority(size_t slots,
                                     int (*compare)(const void *a,
                                                    const void *b),
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
/* The item whose turn it is.  A closed queue is drained first, then -EPIPE. */
KEEL_API int keel_queue_get(struct keel_queue *q, keel_ns deadline,
                            void **ret_item);
/* The item whose turn it is, left inside; -EAGAIN when there is none. */
KEEL_API int keel_queue_peek(struct keel_queue *q, void **ret_item);
/* How it was a moment ago, when others use it too.  A channel is both empty
 * and full. */
KEEL_API size_t keel_queue_count(struct keel_queue *q);
KEEL_API bool keel_queue_empty(struct keel_queue *q);
KEEL_API bool keel_queue_full(struct keel_queue *q);

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

/* ---- waiting for several ---- */
struct keel_select {
    struct keel_queue *queue;
    bool put;   /* else get */
    void *item; /* to put; or what was got */
    int result; /* of the one that was done: 0, or -EPIPE when closed */
};
/* Does one of the puts and gets, the first in the order given that can be done
 * without waiting, and when there is none waits until there is.  Returns its
 * index; a queue that is closed (and, for a get, empty) counts as one that can,
 * with the result -EPIPE.  One queue may be there several times; a select never
 * meets itself in a channel.
 * -ETIMEDOUT, -ECANCELED  nothing was done
 * -ENOMEM                 (not with 8 cases or less) likewise
 * -EINVAL                 no cases */
KEEL_API int keel_queue_select(struct keel_select *cases, size_t count,
                               keel_ns deadline);
KEEL_AUTO(queue, struct keel_queue *, keel_queue_free)

#endif
