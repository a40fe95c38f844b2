/* SPDX-License-Identifier: MIT */
/* Producers and consumers, in coroutines of three loops and in threads, over a
 * queue of any kind with little room; with deadlines, cancels, and a close
 * early or late.  Nothing is lost, nothing comes twice, and one producer's items
 * come to one consumer in order. */
#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include <keel/co.h>
#include <keel/queue.h>
#include <keel/thread.h>

#include "scenarios.h"

enum { WORKERS = 6, ITEMS = 24, LOOPS = 2 };

enum fate { NOT_PUT, REFUSED, PUT, GOT, DROPPED };

struct item {
    enum fate fate;
    int producer, number;
};

struct worker {
    struct town *town;
    int index;
    bool producer;
    struct keel_co *co;
    struct keel_thread *thread;
    int last[WORKERS]; /* the number got last of each producer */
};

struct town {
    struct keel_queue *queue;
    bool in_order; /* first in, first out */
    struct item item[WORKERS][ITEMS];
    struct worker worker[2 * WORKERS];
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

static int produce(struct worker *w)
{
    for (int i = 0; i < ITEMS; i++) {
        struct item *item = &w->town->item[w->index][i];
        int rc;

        item->producer = w->index;
        item->number = i;
        item->fate = PUT; /* from the put on it may be got at any moment */
        rc = keel_queue_put(w->town->queue, item, some_deadline());
        if (rc < 0) {
            SIM_CHECK(item->fate == PUT);
            item->fate = REFUSED;
        }
        SIM_CHECK(rc == 0 || rc == -EPIPE || rc == -ETIMEDOUT ||
                  rc == -ECANCELED);
        if (rc == -ECANCELED || rc == -EPIPE)
            return rc;
        dawdle();
    }
    return 0;
}

static int consume(struct worker *w)
{
    for (;;) {
        struct item *item;
        void *got;
        int rc = keel_queue_get(w->town->queue, some_deadline(), &got);

        SIM_CHECK(rc == 0 || rc == -EPIPE || rc == -ETIMEDOUT ||
                  rc == -ECANCELED);
        if (rc == -ECANCELED || rc == -EPIPE)
            return rc;
        if (rc < 0) {
            (void)keel_sleep(keel_after(20 * KEEL_US));
            continue;
        }
        item = got;
        SIM_CHECK(item->fate == PUT);
        item->fate = GOT;
        SIM_CHECK(!w->town->in_order || item->number > w->last[item->producer]);
        w->last[item->producer] = item->number;
        SIM_CHECK(keel_queue_task_done(w->town->queue) == 0);
        dawdle();
    }
}

static int work(void *arg)
{
    struct worker *w = arg;

    return w->producer ? produce(w) : consume(w);
}

static void dropped(void *arg)
{
    struct item *item = arg;

    SIM_CHECK(item->fate == PUT);
    item->fate = DROPPED;
}

static int by_number(const void *a, const void *b)
{
    const struct item *x = a, *y = b;

    return x->number - y->number;
}

static void queue_make(struct town *t)
{
    size_t slots = 1 + keel_sim_draw(6);
    int rc;

    t->in_order = true;
    switch (keel_sim_draw(8)) {
    case 0:
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
                  bool producer)
{
    struct worker *w = &t->worker[t->count++];
    uint64_t where = keel_sim_draw(LOOPS + 2);
    struct keel_spawn how = {.name = producer ? "producer" : "consumer"};

    w->town = t;
    w->index = index;
    w->producer = producer;
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
static void count_all(struct town *t, bool all_wanted)
{
    for (int p = 0; p < WORKERS; p++)
        for (int i = 0; i < ITEMS; i++) {
            enum fate fate = t->item[p][i].fate;

            SIM_CHECK(fate != PUT);
            SIM_CHECK(!all_wanted || fate != DROPPED);
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

static void end(struct town *t, int producers)
{
    uint64_t way = t->count > producers ? keel_sim_draw(4) : 0;

    if (way == 0) { /* early */
        let_them();
        keel_queue_close_now(t->queue, dropped);
    } else if (way == 1) {
        let_them();
        keel_queue_close(t->queue);
    } else if (way == 2) { /* some are cancelled, the queue goes on */
        int victim = (int)keel_sim_draw((uint64_t)producers);

        let_them();
        cancel(&t->worker[victim]);
    }
    for (int i = 0; i < producers; i++)
        join(&t->worker[i]);
    if (way == 3) /* all that was put is answered */
        SIM_CHECK(keel_queue_join(t->queue, KEEL_FOREVER) == 0);
    keel_queue_close(t->queue);
    for (int i = producers; i < t->count; i++)
        join(&t->worker[i]);
    count_all(t, way != 0);
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
    for (int i = 0; i < LOOPS; i++)
        SIM_CHECK(keel_loop_start("other", &loops[i]) == 0);
    for (int i = 0; i < producers; i++)
        start(t, loops, i, true);
    for (int i = 0; i < consumers; i++)
        start(t, loops, i, false);
    end(t, producers);
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
