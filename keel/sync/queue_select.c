/* SPDX-License-Identifier: MIT */
/* One wait in several lists.
 *
 * The selecter has one waiter, and in each queue a proxy of it, which whoever
 * wakes takes off the list under that queue's hold; the compare-and-swap is
 * the waiter's, so that one of all wins.  What it means depends on the queue:
 * in a channel that the item has changed hands, elsewhere that it is worth
 * trying.
 *
 * 1. Try all in order, linked nowhere.
 * 2. Link the proxies; in each queue look whether it could be done by now, and
 *    if so go back to 1 rather than do it: another may have met us meanwhile.
 * 3. Sleep.
 * 4. Unlink them all.  If one was met, that was it; else go back to 1.
 * 5. At the end pass on what was told to us and we have not taken. */
#include "queue_inside.h"

#include <errno.h>

#include "loop/loop.h"

#define FEW 8

struct arm {
    struct meet meet; /* its waiter is the proxy */
    bool linked;
    bool told; /* in any round */
};

struct selecting {
    struct waiter waiter;
    struct keel_select *cases;
    struct arm *arms;
    size_t count;
};

/* ---- 1 ---- */

/* True: case `c` is settled, for good or ill. */
static bool try(struct keel_select *c)
{
    int rc = c->put ? keel_queue_put(c->queue, c->item, KEEL_NOW)
                    : keel_queue_get(c->queue, KEEL_NOW, &c->item);

    if (rc < 0 && rc != -EPIPE)
        return false;
    c->result = rc;
    return true;
}

static int try_all(struct selecting *s)
{
    for (size_t i = 0; i < s->count; i++)
        if (try(&s->cases[i]))
            return (int)i;
    return -EAGAIN;
}

/* ---- 2 ---- */

static bool has_spin(const struct keel_queue *q)
{
    return q->body != BODY_LOCAL;
}

/* The hold of the list that the case waits in. */
static struct keel_waitlist *hold_of(const struct keel_select *c)
{
    struct keel_queue *q = c->queue;

    return q->body == BODY_RING ? &queue_side(q, c->put)->list
                                : &q->getters.list;
}

/* False: it could be done now. */
static bool link_one(struct selecting *s, size_t i)
{
    struct keel_select *c = &s->cases[i];
    struct arm *a = &s->arms[i];
    struct side *side = queue_side(c->queue, c->put);
    bool can;

    a->meet.item = c->item;
    a->meet.result = 0;
    a->meet.met = false;
    waiter_arm(&a->meet.waiter, "select");
    a->meet.waiter.co = NULL;
    a->meet.waiter.proxy = true;
    a->meet.waiter.older = &s->waiter;
    if (has_spin(c->queue))
        waitlist_hold(hold_of(c));
    /* As who sleeps in queue.c: announced, then looked. */
    atomic_fetch_add(&side->waiting, 1);
    queue_full_fence();
    can = queue_can(c->queue, c->put, &s->waiter);
    if (can)
        atomic_fetch_sub(&side->waiting, 1);
    else
        waitlist_link(&side->list, &a->meet.waiter);
    a->linked = !can;
    if (has_spin(c->queue))
        waitlist_drop(hold_of(c));
    return !can;
}

static bool link_all(struct selecting *s)
{
    for (size_t i = 0; i < s->count; i++)
        if (!link_one(s, i))
            return false;
    return true;
}

/* ---- 4 ---- */

static void unlink_one(struct selecting *s, size_t i)
{
    struct keel_select *c = &s->cases[i];
    struct arm *a = &s->arms[i];
    struct side *side = queue_side(c->queue, c->put);

    if (!a->linked)
        return;
    if (has_spin(c->queue))
        waitlist_hold(hold_of(c));
    if (atomic_load(&a->meet.waiter.state) == ARMED)
        waitlist_unlink(&side->list, &a->meet.waiter);
    else
        a->told = true;
    atomic_fetch_sub(&side->waiting, 1);
    if (has_spin(c->queue))
        waitlist_drop(hold_of(c));
    a->linked = false;
}

/* Nobody wakes it from now on; who did already has been waited for. */
static void retire(struct waiter *w)
{
    if (!waiter_leave(w, EXPIRED))
        waiter_sleep_always(w);
}

/* The case that was met, -EAGAIN when it is time to try again, or an error. */
static int wait_for_any(struct selecting *s, keel_ns deadline)
{
    int rc = 0;

    waiter_arm(&s->waiter, "select");
    for (size_t i = 0; i < s->count; i++)
        s->arms[i].linked = s->arms[i].meet.met = false;
    if (link_all(s))
        rc = waiter_sleep(&s->waiter, deadline);
    else
        retire(&s->waiter);
    for (size_t i = 0; i < s->count; i++)
        unlink_one(s, i);
    for (size_t i = 0; i < s->count; i++)
        if (s->arms[i].meet.met) {
            s->cases[i].item = s->arms[i].meet.item;
            s->cases[i].result = s->arms[i].meet.result;
            s->arms[i].told = false;
            return (int)i;
        }
    return rc < 0 ? rc : -EAGAIN;
}

/* ---- 5 ---- */

static void pass_on(struct selecting *s)
{
    for (size_t i = 0; i < s->count; i++)
        if (s->arms[i].told)
            queue_pass_on(s->cases[i].queue, s->cases[i].put);
}

static int run(struct selecting *s, keel_ns deadline)
{
    int rc;

    for (;;) {
        rc = try_all(s);
        if (rc >= 0)
            return rc;
        rc = wait_allowed();
        if (rc < 0)
            return rc;
        if (deadline == KEEL_NOW)
            return -ETIMEDOUT;
        rc = wait_for_any(s, deadline);
        if (rc != -EAGAIN)
            return rc;
    }
}

int keel_queue_select(struct keel_select *cases, size_t count, keel_ns deadline)
{
    struct arm few[FEW], *arms = few;
    struct selecting s = {.cases = cases, .count = count};
    int rc;

    if (count == 0 || count > INT32_MAX / sizeof *arms)
        return -EINVAL;
    if (count > FEW) {
        arms = keel_alloc(count * sizeof *arms);
        if (!arms)
            return -ENOMEM;
    }
    for (size_t i = 0; i < count; i++) {
        if (cases[i].put && !cases[i].item)
            misuse("keel_queue_select", cases[i].queue, "the item is NULL");
        arms[i].told = false;
    }
    s.arms = arms;
    rc = run(&s, deadline);
    pass_on(&s);
    if (arms != few)
        keel_free(arms);
    return rc;
}
