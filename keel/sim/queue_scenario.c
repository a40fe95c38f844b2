/* SPDX-License-Identifier: MIT */
/* Producers, consumers and who waits for all to be answered, in coroutines of
 * three loops and in threads, over a queue of any kind with little room, alone
 * or by select; with deadlines, cancels, and a close early or late.  Nothing is
 * lost, nothing comes twice, one producer's items come to one consumer in order,
 * never more are inside than there is room for, no wait ends before its
 * deadline, and in the end nothing is unfinished. */
#include <errno.h>
#include <limits.h>
#include <stdlib.h>
#include <string.h>

#include <keel/co.h>
#include <keel/queue.h>
#include <keel/thread.h>

#include "scenarios.h"

enum { WORKERS = 6, ITEMS = 24, LOOPS = 2, JOINERS = 2 };

enum fate { NOT_PUT, REFUSED, PUT, GOT, DROPPED };

struct item {
    enum fate fate;
    int producer, number;
};

struct worker {
    struct town *town;
    int index;
    int (*does)(struct worker *w);
    struct keel_co *co;
    struct keel_thread *thread;
    int left;          /* to get, before it leaves: then others must be woken */
    int last[WORKERS]; /* the number got last of each producer */
};

struct town {
    struct keel_queue *queue;
    size_t slots;
    size_t put, asked; /* puts that are over; gets, but those in vain */
    bool in_order;     /* first in, first out */
    bool all_close;    /* producers too, at any moment */
    bool dropped;      /* somebody has closed it with what was inside */
    struct item item[WORKERS][ITEMS];
    struct worker worker[2 * WORKERS + JOINERS];
    int count;
};

static keel_ns some_deadline(void)
{
    switch (keel_sim_draw(4)) {
    case 0:
        return KEEL_NOW;
    case 1:
        return keel_after((keel_ns)keel_sim_draw(200) * KEEL_US);
    default:
        return KEEL_FOREVER;
    }
}

static void dawdle(void)
{
    switch (keel_sim_draw(6)) {
    case 0:
        keel_yield();
        break;
    case 1:
        (void)keel_sleep(keel_after((keel_ns)keel_sim_draw(50) * KEEL_US));
        break;
    default:
        break;
    }
}

static void check_result(int rc, keel_ns deadline)
{
    SIM_CHECK(rc == 0 || rc == -EPIPE || rc == -ETIMEDOUT || rc == -ECANCELED);
    SIM_CHECK(rc != -ETIMEDOUT || keel_now() >= deadline);
}

static int put(struct town *t, struct item *item)
{
    struct keel_select s = {.queue = t->queue, .put = true, .item = item};
    keel_ns deadline = some_deadline();
    int rc;

    if (keel_sim_draw(4)) {
        rc = keel_queue_put(t->queue, item, deadline);
    } else {
        rc = keel_queue_select(&s, 1, deadline);
        rc = rc < 0 ? rc : s.result;
    }
    check_result(rc, deadline);
    if (rc == 0) /* asked for counts more than was got */
        SIM_CHECK(++t->put <= t->asked + t->slots);
    return rc;
}

static int get(struct town *t, struct item **ret)
{
    struct keel_select s[2] = {{.queue = t->queue}, {.queue = t->queue}};
    keel_ns deadline = some_deadline();
    void *item;
    int rc;

    t->asked++;
    if (keel_sim_draw(4)) {
        rc = keel_queue_get(t->queue, deadline, &item);
    } else {
        rc = keel_queue_select(s, 2, deadline);
        item = rc < 0 ? NULL : s[rc].item;
        rc = rc < 0 ? rc : s[rc].result;
    }
    check_result(rc, deadline);
    if (rc < 0)
        t->asked--;
    else
        *ret = item;
    return rc;
}

static void dropped(void *arg)
{
    struct item *item = arg;

    SIM_CHECK(item->fate == PUT);
    item->fate = DROPPED;
}

static void close_it(struct town *t, bool now)
{
    if (now) {
        t->dropped = true;
        keel_queue_close_now(t->queue, dropped);
    } else {
        keel_queue_close(t->queue);
    }
}

static int produce(struct worker *w)
{
    for (int i = 0; i < ITEMS; i++) {
        struct item *item = &w->town->item[w->index][i];
        int rc;

        item->producer = w->index;
        item->number = i;
        item->fate = PUT; /* from the put on it may be got at any moment */
        rc = put(w->town, item);
        if (rc < 0) {
            SIM_CHECK(item->fate == PUT);
            item->fate = REFUSED;
        }
        if (rc == -ECANCELED || rc == -EPIPE)
            return rc;
        if (w->town->all_close && keel_sim_draw(16) == 0)
            close_it(w->town, keel_sim_draw(2));
        dawdle();
    }
    return 0;
}

static int consume(struct worker *w)
{
    while (w->left-- > 0) {
        struct item *item;
        int rc = get(w->town, &item);

        if (rc == -ECANCELED || rc == -EPIPE)
            return rc;
        if (rc < 0) {
            (void)keel_sleep(keel_after(20 * KEEL_US));
            continue;
        }
        SIM_CHECK(item->fate == PUT);
        item->fate = GOT;
        SIM_CHECK(!w->town->in_order || item->number > w->last[item->producer]);
        w->last[item->producer] = item->number;
        SIM_CHECK(keel_queue_task_done(w->town->queue) == 0);
        dawdle();
    }
    return 0;
}

static int wait_for_all(struct worker *w)
{
    keel_ns deadline = some_deadline();
    int rc;

    dawdle();
    rc = keel_queue_join(w->town->queue, deadline);
    check_result(rc, deadline);
    return 0;
}

static int work(void *arg)
{
    struct worker *w = arg;

    return w->does(w);
}

static int by_number(const void *a, const void *b)
{
    const struct item *x = a, *y = b;

    return x->number - y->number;
}

static void queue_make(struct town *t)
{
    size_t slots = t->slots = 1 + keel_sim_draw(6);
    int rc;

    t->in_order = true;
    switch (keel_sim_draw(8)) {
    case 0:
        t->slots = 0;
        rc = keel_queue_new(0, KEEL_QUEUE_SHARED, &t->queue);
        break;
    case 1:
        t->in_order = false;
        rc = keel_queue_new_lifo(slots, &t->queue);
        break;
    case 2:
        t->in_order = false;
        rc = keel_queue_new_priority(slots, by_number, &t->queue);
        break;
    default:
        rc = keel_queue_new(slots, KEEL_QUEUE_SHARED, &t->queue);
        break;
    }
    SIM_CHECK(rc == 0);
}

static void start(struct town *t, struct keel_loop **loops, int index,
                  const char *name, int (*does)(struct worker *w))
{
    struct worker *w = &t->worker[t->count++];
    uint64_t where = keel_sim_draw(LOOPS + 2);
    struct keel_spawn how = {.name = name};

    w->town = t;
    w->index = index;
    w->does = does;
    w->left =
        index == 0 || keel_sim_draw(2) ? INT_MAX : 1 + (int)keel_sim_draw(4);
    for (int i = 0; i < WORKERS; i++)
        w->last[i] = -1;
    if (where == LOOPS + 1) {
        SIM_CHECK(keel_thread_start(how.name, work, w, &w->thread) == 0);
        return;
    }
    how.loop = where < LOOPS ? loops[where] : NULL;
    SIM_CHECK(keel_spawn(&how, work, w, &w->co) == 0);
}

static void cancel(struct worker *w)
{
    if (w->co)
        keel_cancel(w->co);
    else
        keel_thread_cancel(w->thread);
}

static void join(struct worker *w)
{
    if (w->co)
        SIM_CHECK(keel_join(w->co, KEEL_FOREVER, NULL) == 0);
    else
        SIM_CHECK(keel_thread_join(w->thread, KEEL_FOREVER, NULL) == 0);
}

/* Each item: what was put was got or dropped. */
static void count_all(struct town *t)
{
    for (int p = 0; p < WORKERS; p++)
        for (int i = 0; i < ITEMS; i++) {
            enum fate fate = t->item[p][i].fate;

            SIM_CHECK(fate != PUT);
            SIM_CHECK(t->dropped || fate != DROPPED);
        }
}

/* For a while, or for a few turns, so that they are in the middle of it. */
static void let_them(void)
{
    if (keel_sim_draw(2))
        (void)keel_sleep(keel_after((keel_ns)keel_sim_draw(500) * KEEL_US));
    else
        for (uint64_t n = keel_sim_draw(40); n > 0; n--)
            keel_yield();
}

/* And each was answered by somebody. */
static void nothing_is_left(struct town *t)
{
    SIM_CHECK(keel_queue_empty(t->queue));
    SIM_CHECK(keel_queue_join(t->queue, KEEL_NOW) == 0);
}

static void end(struct town *t, int producers, int consumers)
{
    uint64_t way = consumers > 0 ? keel_sim_draw(4) : 0;

    if (way == 0) { /* early */
        let_them();
        close_it(t, true);
    } else if (way == 1) {
        let_them();
        close_it(t, false);
    } else if (way == 2) { /* some are cancelled, the queue goes on */
        int victim = (int)keel_sim_draw((uint64_t)producers);

        let_them();
        cancel(&t->worker[victim]);
    }
    for (int i = 0; i < producers; i++)
        join(&t->worker[i]);
    if (way == 3) /* all that was put is answered */
        SIM_CHECK(keel_queue_join(t->queue, KEEL_FOREVER) == 0);
    close_it(t, false);
    for (int i = producers; i < t->count; i++)
        join(&t->worker[i]);
    count_all(t);
    nothing_is_left(t);
}

static int scene(void *arg)
{
    struct town *t = calloc(1, sizeof *t);
    struct keel_loop *loops[LOOPS];
    int producers = 1 + (int)keel_sim_draw(WORKERS);
    int consumers = (int)keel_sim_draw(WORKERS + 1);

    (void)arg;
    SIM_CHECK(t);
    queue_make(t);
    t->all_close = keel_sim_draw(3) == 0;
    for (int i = 0; i < LOOPS; i++)
        SIM_CHECK(keel_loop_start("other", &loops[i]) == 0);
    for (int i = 0; i < producers; i++)
        start(t, loops, i, "producer", produce);
    for (int i = 0; i < consumers; i++)
        start(t, loops, i, "consumer", consume);
    for (uint64_t i = keel_sim_draw(JOINERS + 1); i > 0; i--)
        start(t, loops, 0, "joiner", wait_for_all);
    end(t, producers, consumers);
    for (int i = 0; i < LOOPS; i++)
        keel_loop_stop(loops[i]);
    keel_queue_free(t->queue);
    free(t);
    return 0;
}

int queue_program(void *arg)
{
    return keel_run(scene, arg);
}
