/* SPDX-License-Identifier: MIT */
/* LIFO and priority: a stack or a heap under one hold.
 *
 * Invariants between calls, under the hold:
 *   head counts the items inside, head <= slots, in entries[0 .. head - 1]
 *   LIFO: the newest is the last; priority: no entry comes before its parent
 *   tail counts those ever put, whose number is their turn */
#include "queue_inside.h"

#include <errno.h>

struct entry {
    void *item;
    uint64_t turn;
};

static int ordered_new(size_t slots,
                       int (*compare)(const void *a, const void *b),
                       struct keel_queue **ret)
{
    struct keel_queue *q;
    int rc;

    if (slots < 1 || slots > ((size_t)1 << 40))
        return -EINVAL;
    rc = queue_alloc(BODY_ORDERED, slots, slots * sizeof(struct entry), &q);
    if (rc < 0)
        return rc;
    q->entries = (struct entry *)(q + 1);
    q->compare = compare;
    *ret = q;
    return 0;
}

int keel_queue_new_lifo(size_t slots, struct keel_queue **ret)
{
    return ordered_new(slots, NULL, ret);
}

int keel_queue_new_priority(size_t slots,
                            int (*compare)(const void *a, const void *b),
                            struct keel_queue **ret)
{
    if (!compare)
        misuse("keel_queue_new_priority", ret, "there is no comparison");
    return ordered_new(slots, compare, ret);
}

/* ---- the heap ---- */

static bool before(const struct keel_queue *q, const struct entry *a,
                   const struct entry *b)
{
    int order = q->compare(a->item, b->item);

    return order < 0 || (order == 0 && a->turn < b->turn);
}

static void rise(struct keel_queue *q, size_t i)
{
    struct entry e = q->entries[i];

    for (; i > 0 && before(q, &e, &q->entries[(i - 1) / 2]); i = (i - 1) / 2)
        q->entries[i] = q->entries[(i - 1) / 2];
    q->entries[i] = e;
}

/* `e` goes into the heap of `count`, whose root is free. */
static void sink(struct keel_queue *q, struct entry e, size_t count)
{
    size_t i = 0, child;

    while ((child = 2 * i + 1) < count) {
        if (child + 1 < count &&
            before(q, &q->entries[child + 1], &q->entries[child]))
            child++;
        if (!before(q, &q->entries[child], &e))
            break;
        q->entries[i] = q->entries[child];
        i = child;
    }
    q->entries[i] = e;
}

/* ---- under the hold ---- */

static uint64_t word(_Atomic uint64_t *w)
{
    return atomic_load_explicit(w, memory_order_relaxed);
}

static bool closed(struct keel_queue *q)
{
    return word(&q->tail) & CLOSED;
}

static void push(struct keel_queue *q, void *item)
{
    size_t count = word(&q->head);

    q->entries[count] = (struct entry){item, word(&q->tail)};
    if (q->compare)
        rise(q, count);
    atomic_store(&q->head, count + 1);
    atomic_fetch_add(&q->tail, 1);
}

static void *pop(struct keel_queue *q)
{
    size_t last = word(&q->head) - 1;
    void *item = q->entries[q->compare ? 0 : last].item;

    if (q->compare && last > 0)
        sink(q, q->entries[last], last);
    atomic_store(&q->head, last);
    return item;
}

/* Drops the hold, and has it again after a wake only. */
static int sleep_on(struct keel_queue *q, struct side *s, keel_ns deadline,
                    const char *what)
{
    struct waiter w;
    int rc;

    waiter_arm(&w, what);
    w.on = q;
    waitlist_link(&s->list, &w);
    queue_drop(q);
    rc = waiter_sleep(&w, deadline);
    queue_hold(q);
    if (rc < 0) {
        waitlist_unlink(&s->list, &w);
        queue_drop(q);
    }
    return rc;
}

/* ---- the verbs ---- */

int ordered_put(struct keel_queue *q, void *item, keel_ns deadline)
{
    struct waiter *w;
    int rc;

    queue_hold(q);
    while (!closed(q) && word(&q->head) == q->slots) {
        rc = sleep_on(q, &q->putters, deadline, "queue put");
        if (rc < 0)
            return rc;
    }
    if (closed(q)) {
        queue_drop(q);
        return -EPIPE;
    }
    push(q, item);
    w = waitlist_choose(&q->getters.list);
    queue_drop(q);
    waiter_post(w);
    return 0;
}

int ordered_get(struct keel_queue *q, keel_ns deadline, void **ret)
{
    struct waiter *w;
    int rc;

    queue_hold(q);
    while (word(&q->head) == 0) {
        if (closed(q)) {
            queue_drop(q);
            return -EPIPE;
        }
        rc = sleep_on(q, &q->getters, deadline, "queue get");
        if (rc < 0)
            return rc;
    }
    *ret = pop(q);
    w = waitlist_choose(&q->putters.list);
    queue_drop(q);
    waiter_post(w);
    return 0;
}

int ordered_peek(struct keel_queue *q, void **ret)
{
    size_t count;

    queue_hold(q);
    count = word(&q->head);
    if (count > 0)
        *ret = q->entries[q->compare ? 0 : count - 1].item;
    queue_drop(q);
    return count > 0 ? 0 : -EAGAIN;
}

size_t ordered_count(struct keel_queue *q)
{
    return atomic_load(&q->head);
}

void ordered_close(struct keel_queue *q)
{
    queue_hold(q);
    atomic_fetch_or(&q->tail, CLOSED);
    waitlist_wake_all(&q->putters.list);
    waitlist_wake_all(&q->getters.list);
    queue_drop(q);
}

bool ordered_can(struct keel_queue *q, bool put)
{
    return closed(q) || (put ? word(&q->head) < q->slots : word(&q->head) > 0);
}
