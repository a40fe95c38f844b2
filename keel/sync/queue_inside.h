/* SPDX-License-Identifier: MIT */
/* Inside keel: what the files of the queue share. */
#ifndef KEEL_QUEUE_INSIDE_H
#define KEEL_QUEUE_INSIDE_H

#include <stdatomic.h>

#include <keel/queue.h>

#include "loop/sched.h"

/* `tail` is the next position to put at, and whether the queue is closed: in
 * one word, so that no put can slip in after the close. */
#define CLOSED (UINT64_C(1) << 63)

/* How the items are kept. */
enum queue_body {
    BODY_RING,    /* queue.c: shared */
    BODY_LOCAL,   /* queue.c: the coroutines of one loop */
    BODY_ORDERED, /* queue_ordered.c */
    BODY_MEET,    /* queue_meet.c: a channel */
};

/* seq is 2p when the cell is free for position p and 2p + 1 when it holds the
 * item of position p; unlike the usual p and p + 1 this also works for a ring
 * of one.  Four to a cache line: with the ring nearly full or nearly empty both
 * sides write the same line then, but most of the time a line goes over once
 * for four items. */
struct cell {
    _Alignas(16) _Atomic uint64_t seq;
    _Atomic(void *) item;
};

/* Those who wait for one thing. */
struct side {
    _Alignas(64) _Atomic uint32_t waiting; /* asleep or about to be */
    struct keel_waitlist list;
};

/* Invariants (shared; positions never repeat):
 *   head <= tail <= head + slots
 *   positions below tail were put, below head were got
 *   done <= tail: items answered by task_done or dropped
 * `ring` is the least power of two >= slots. */
struct keel_queue {
    enum queue_body body;
    uint64_t slots, mask;
    struct keel_loop *loop; /* local: the one */
    void **items;           /* local */
    struct cell *cells;     /* shared */
    struct entry *entries;  /* ordered */
    int (*compare)(const void *a, const void *b);
    /* Shared: follows CLOSED.  Getters ask here, on a line that hardly ever
     * changes: `tail` is the putters', who would have to fetch it back. */
    _Atomic bool closed;
    _Alignas(64) _Atomic uint64_t tail;
    _Alignas(64) _Atomic uint64_t head;
    _Alignas(64) _Atomic uint64_t done;
    struct side putters, getters, joiners;
};

enum outcome { DONE, NOT_YET, NEVER };

/* Of all bodies but the local one. */
static inline bool queue_joined(struct keel_queue *q)
{
    return atomic_load(&q->done) == (atomic_load(&q->tail) & ~CLOSED);
}

static inline struct side *queue_side(struct keel_queue *q, bool put)
{
    return put ? &q->putters : &q->getters;
}

/* A queue, all zero, with `bytes` behind it. */
int queue_alloc(enum queue_body body, size_t slots, size_t bytes,
                struct keel_queue **ret);

/* The ordered and the channel have one hold for everything. */
static inline void queue_hold(struct keel_queue *q)
{
    waitlist_hold(&q->getters.list);
}
static inline void queue_drop(struct keel_queue *q)
{
    waitlist_drop(&q->getters.list);
}

int ordered_put(struct keel_queue *q, void *item, keel_ns deadline);
int ordered_get(struct keel_queue *q, keel_ns deadline, void **ret);
int ordered_peek(struct keel_queue *q, void **ret);
void ordered_close(struct keel_queue *q);
size_t ordered_count(struct keel_queue *q);

int meet_new(struct keel_queue **ret);
int meet_put(struct keel_queue *q, void *item, keel_ns deadline);
int meet_get(struct keel_queue *q, keel_ns deadline, void **ret);
void meet_close(struct keel_queue *q);

/* Somebody in a channel who waits for a partner; the partner, under the hold,
 * takes or gives the item and says how it ended. */
struct meet {
    struct waiter waiter;
    void *item;
    int result;
    bool met;
};

/* ---- for select ---- */
/* Whether a put or get could be done now, or nevermore.  Of the ordered and the
 * channel under the hold; `me` is not one to meet. */
bool queue_can(struct keel_queue *q, bool put, const struct waiter *me);
bool ordered_can(struct keel_queue *q, bool put);
bool meet_can(struct keel_queue *q, bool put, const struct waiter *me);
/* The putters or getters were told of something that we do not take. */
void queue_pass_on(struct keel_queue *q, bool put);
void queue_full_fence(void);

#endif
