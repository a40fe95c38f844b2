/* SPDX-License-Identifier: MIT */
/* A channel holds nothing: whoever comes second serves the first, who waits.
 * Under the hold a wait is won by compare-and-swap, and with it the item has
 * changed hands: a wait that was woken never reports anything else.
 *
 * Invariants between calls, under the hold:
 *   putters or getters wait, of different selects at most both
 *   nobody waits once it is closed
 *   tail counts the items that changed hands */
#include "queue_inside.h"

#include <errno.h>

#include "loop/loop.h"

int meet_new(struct keel_queue **ret)
{
    return queue_alloc(BODY_MEET, 0, 0, ret);
}

static bool closed(struct keel_queue *q)
{
    return atomic_load_explicit(&q->tail, memory_order_relaxed) & CLOSED;
}

/* Under the hold: somebody who waits on that side, to be posted after the item
 * has changed hands; NULL when nobody does. */
static struct waiter *find(struct keel_queue *q, bool put, struct meet **ret)
{
    struct waiter *linked;
    struct waiter *who =
        waitlist_choose_linked(&queue_side(q, put)->list, &linked);

    if (who) {
        *ret = (struct meet *)(void *)linked;
        (*ret)->met = true;
    }
    return who;
}

/* Drops the hold: until a partner has come. */
static int wait_for_one(struct keel_queue *q, bool put, void **item,
                        keel_ns deadline)
{
    struct meet m = {.item = *item};
    struct waiter *w = &m.waiter;
    int rc;

    waiter_arm(w, put ? "channel put" : "channel get");
    waitlist_link(&queue_side(q, put)->list, w);
    queue_drop(q);
    rc = waiter_sleep(w, deadline);
    if (rc < 0) {
        queue_hold(q);
        waitlist_unlink(&queue_side(q, put)->list, w);
        queue_drop(q);
        return rc;
    }
    *item = m.item;
    return m.result;
}

int meet_put(struct keel_queue *q, void *item, keel_ns deadline)
{
    struct waiter *who;
    struct meet *m;

    queue_hold(q);
    if (closed(q)) {
        queue_drop(q);
        return -EPIPE;
    }
    who = find(q, false, &m);
    if (!who)
        return wait_for_one(q, true, &item, deadline);
    m->item = item;
    atomic_fetch_add(&q->tail, 1);
    queue_drop(q);
    waiter_post(who);
    return 0;
}

int meet_get(struct keel_queue *q, keel_ns deadline, void **ret)
{
    struct waiter *who;
    struct meet *m;
    void *item = NULL;
    int rc = 0;

    queue_hold(q);
    if (closed(q)) {
        queue_drop(q);
        return -EPIPE;
    }
    who = find(q, true, &m);
    if (who) {
        item = m->item;
        atomic_fetch_add(&q->tail, 1);
        queue_drop(q);
        waiter_post(who);
    } else {
        rc = wait_for_one(q, false, &item, deadline);
    }
    if (rc == 0)
        *ret = item;
    return rc;
}

static void send_away(struct keel_queue *q, bool put)
{
    struct waiter *who;
    struct meet *m;

    while ((who = find(q, put, &m))) {
        m->result = -EPIPE;
        waiter_post(who);
    }
}

void meet_close(struct keel_queue *q)
{
    queue_hold(q);
    atomic_fetch_or(&q->tail, CLOSED);
    send_away(q, true);
    send_away(q, false);
    queue_drop(q);
}

bool meet_can(struct keel_queue *q, bool put, const struct waiter *me)
{
    struct waiter *w = queue_side(q, !put)->list.head;

    for (; w; w = w->next) {
        struct waiter *who = w->proxy ? w->older : w;

        if (who != me && atomic_load(&who->state) == ARMED)
            return true;
    }
    return closed(q);
}
