/* SPDX-License-Identifier: MIT */
/* Switching by name: a wait whose wake is the switch itself, so that cancel,
 * deadline and the dump know it as they know every other. */
#include <keel/co.h>

#include "park.h"

static const char switch_wait[] = "switch";

/* In the frame of one who has stopped. */
struct stop {
    struct waiter waiter;
    void *value;
    bool ended; /* woken by the end of one it spawned */
};

/* NULL: `co`, of this loop and alive, does not wait in a switch. */
static struct stop *stop_of(struct keel_co *co)
{
    struct waiter *w = co->body->waits;

    if (!w || w->what != switch_wait || atomic_load(&w->state) != ARMED)
        return NULL;
    return (struct stop *)(void *)w;
}

/* Makes `to` ready, without a place in the queue.  False: it is not there to be
 * switched to. */
static bool resume(struct keel_co *to, void *value)
{
    struct body *b = to->body;
    struct stop *s;

    if (b->paused) {
        b->paused = false;
        return true;
    }
    s = stop_of(to);
    if (!s || !waiter_leave(&s->waiter, WOKEN))
        return false;
    s->value = value;
    return true;
}

/* Straight to `to`, but for the loop's look round and the others' turn. */
static void leave_for(struct keel_loop *l, struct keel_co *self,
                      struct keel_co *to)
{
    if (!budget_use(l)) {
        run_push(l, to);
        co_park(l, self);
        return;
    }
    if (park_is_watched())
        park_look(self);
    l->steps = STEPS;
    l->current = to;
    jump(self, to);
}

static int stop_for(struct keel_loop *l, struct keel_co *to, struct stop *s,
                    keel_ns deadline)
{
    struct keel_co *self = l->current;

    if (deadline != KEEL_FOREVER)
        timer_add(l, &s->waiter, deadline);
    self->body->waits = &s->waiter;
    self->body->since = l->now;
    parked_add(l, 1);
    leave_for(l, self, to);
    parked_add(l, (size_t)-1);
    self->body->waits = NULL;
    if (s->waiter.timed)
        timer_drop(l, &s->waiter);
    return waiter_outcome(&s->waiter);
}

int keel_switch(struct keel_co *to, void *value, keel_ns deadline,
                void **ret_value)
{
    struct keel_loop *l = loop_here;
    struct stop s = {.value = value};
    int rc;

    if (!l || !l->current)
        misuse("keel_switch", to, "a thread has nothing to switch to");
    if (to != l->current) {
        if (to->loop != l)
            return -EXDEV;
        if (handle_is_over(to))
            return -ESRCH;
        rc = wait_allowed();
        if (rc < 0)
            return rc;
        deadline = wait_until(deadline);
        if (is_past(l, deadline))
            return -ETIMEDOUT;
        waiter_arm(&s.waiter, switch_wait);
        if (!resume(to, value))
            return -EBUSY;
        rc = stop_for(l, to, &s, deadline);
        if (rc < 0 || s.ended)
            return rc < 0 ? rc : 1;
    }
    if (ret_value)
        *ret_value = s.value;
    return 0;
}

void switch_adopt(struct keel_loop *l, struct keel_co *co)
{
    struct body *b = co->body;

    loop_adopt(l, co);
    b->kin = KIN_STARTER;
    b->starter = l->current;
    b->starter_serial = l->current->serial;
    l->current->body->kin |= KIN_SPAWNER;
    /* One that is born cancelled begins by itself, to end. */
    if (atomic_load_explicit(&co->cancelled, memory_order_relaxed))
        run_push(l, co);
    else
        b->paused = true;
}

static void go_first(struct keel_loop *l, struct keel_co *co)
{
    co->next = l->run_head;
    if (!l->run_head)
        l->run_tail = co;
    l->run_head = co;
}

void switch_ended(struct keel_loop *l, struct body *b)
{
    struct keel_co *starter = b->starter;
    struct stop *s;

    if (b->kin & KIN_SPAWNER)
        b->co->serial++;
    /* The starter's handle may be another's by now. */
    if (!(b->kin & KIN_STARTER) || starter->serial != b->starter_serial ||
        handle_is_over(starter))
        return;
    s = stop_of(starter);
    if (!s || !waiter_leave(&s->waiter, WOKEN))
        return;
    s->ended = true;
    go_first(l, starter);
}
