/* SPDX-License-Identifier: MIT */
/* A few who put once and a few who get once, for ever if need be, all at the
 * same time, over one queue or by select over two; perhaps somebody closes
 * meanwhile.  Nobody comes later whose wake would make good for one that was
 * lost: who is forgotten waits for ever, which ends the run. */
#include <errno.h>
#include <stdlib.h>

#include <keel/co.h>
#include <keel/queue.h>
#include <keel/thread.h>

#include "scenarios.h"

enum { ROUNDS = 8, LOOPS = 2, MOST = 5, CLOSERS = 2, JOINERS = 2 };

struct round {
    struct keel_queue *queue[2];
    size_t queues, slots;
    int inside[MOST]; /* put, and neither got nor dropped */
    int got;
};

struct one {
    struct round *round;
    int (*does)(struct one *o);
    int number, result;
    struct keel_co *co;
    struct keel_thread *thread;
};

/* ---- what they do ---- */

/* Puts or gets; by select where there are two, and sometimes where not. */
static int deal(struct round *r, bool put, void **item)
{
    struct keel_select s[2];
    int rc;

    if (r->queues == 1 && keel_sim_draw(4))
        return put ? keel_queue_put(r->queue[0], *item, KEEL_FOREVER)
                   : keel_queue_get(r->queue[0], KEEL_FOREVER, item);
    for (size_t i = 0; i < 2; i++)
        s[i] = (struct keel_select){
            .queue = r->queue[i % r->queues], .put = put, .item = *item};
    rc = keel_queue_select(s, 2, KEEL_FOREVER);
    if (rc < 0)
        return rc;
    *item = s[rc].item;
    return s[rc].result;
}

static int puts_one(struct one *o)
{
    int *inside = &o->round->inside[o->number], rc;
    void *item = inside;

    *inside = 1;
    rc = deal(o->round, true, &item);
    if (rc < 0) {
        SIM_CHECK(*inside == 1);
        *inside = 0;
    }
    return rc;
}

static void took(struct round *r, void *item)
{
    int *inside = item;

    SIM_CHECK(*inside == 1);
    *inside = 0;
    r->got++;
}

static int gets_one(struct one *o)
{
    void *item = NULL;
    int rc = deal(o->round, false, &item);

    if (rc == 0)
        took(o->round, item);
    if (rc == 0 && o->round->queues == 1)
        SIM_CHECK(keel_queue_task_done(o->round->queue[0]) == 0);
    return rc;
}

static void drop(void *item)
{
    SIM_CHECK(*(int *)item == 1);
    *(int *)item = 0;
}

static int closes(struct one *o)
{
    struct round *r = o->round;
    bool now = keel_sim_draw(2);

    for (size_t i = 0; i < r->queues; i++)
        if (now)
            keel_queue_close_now(r->queue[i], drop);
        else
            keel_queue_close(r->queue[i]);
    return 0;
}

static int joins(struct one *o)
{
    return keel_queue_join(o->round->queue[0], KEEL_FOREVER);
}

static int work(void *arg)
{
    struct one *o = arg;

    for (uint64_t n = keel_sim_draw(3); n > 0; n--)
        keel_yield();
    o->result = o->does(o);
    return 0;
}

/* ---- a round ---- */

static void queues_make(struct round *r)
{
    uint64_t kind = keel_sim_draw(8);

    r->queues = 1 + (keel_sim_draw(3) == 0);
    r->slots = kind == 0 ? 0 : 1 + keel_sim_draw(3);
    for (size_t i = 0; i < r->queues; i++)
        SIM_CHECK((kind == 1 ? keel_queue_new_lifo(r->slots, &r->queue[i])
                             : keel_queue_new(r->slots, KEEL_QUEUE_SHARED,
                                              &r->queue[i])) == 0);
}

static void start(struct one *o, struct round *r, struct keel_loop **loops,
                  int number, int (*does)(struct one *o))
{
    uint64_t where = keel_sim_draw(LOOPS + 2);
    struct keel_spawn how = {.name = "one"};

    *o = (struct one){.round = r, .does = does, .number = number};
    how.loop = where < LOOPS ? loops[where] : NULL;
    if (where == LOOPS + 1)
        SIM_CHECK(keel_thread_start("one", work, o, &o->thread) == 0);
    else
        SIM_CHECK(keel_spawn(&how, work, o, &o->co) == 0);
}

static int join(struct one *o)
{
    if (o->co)
        SIM_CHECK(keel_join(o->co, KEEL_FOREVER, NULL) == 0);
    else
        SIM_CHECK(keel_thread_join(o->thread, KEEL_FOREVER, NULL) == 0);
    return o->result;
}

/* Where nobody closes all come to an end: there is room for what nobody gets,
 * and an item for each who waits. */
static int getters_for(const struct round *r, int putters, int closers)
{
    int left;

    if (closers > 0)
        return (int)keel_sim_draw(MOST + 1);
    left = (int)keel_sim_draw(r->slots + 1);
    return left < putters ? putters - left : 0;
}

static void round_run(struct keel_loop **loops)
{
    struct round r = {.got = 0};
    struct one one[2 * MOST + CLOSERS + JOINERS];
    int putters = 1 + (int)keel_sim_draw(MOST);
    int closers = keel_sim_draw(2) ? (int)keel_sim_draw(CLOSERS + 1) : 0;
    int getters, joiners, count = 0, put = 0;

    queues_make(&r);
    getters = getters_for(&r, putters, closers);
    joiners = r.queues == 1 ? (int)keel_sim_draw(JOINERS + 1) : 0;
    for (int i = 0; i < getters; i++)
        start(&one[count++], &r, loops, i, gets_one);
    for (int i = 0; i < putters; i++)
        start(&one[count++], &r, loops, i, puts_one);
    for (int i = 0; i < closers; i++)
        start(&one[count++], &r, loops, i, closes);
    for (int i = 0; i < joiners; i++)
        start(&one[count++], &r, loops, i, joins);
    for (int i = 0; i < count - joiners; i++) {
        int rc = join(&one[i]);

        SIM_CHECK(rc == 0 || (rc == -EPIPE && closers > 0));
        put += i >= getters && i < getters + putters && rc == 0;
    }
    for (size_t i = 0; i < r.queues; i++)
        keel_queue_close_now(r.queue[i], drop);
    for (int i = count - joiners; i < count; i++)
        SIM_CHECK(join(&one[i]) == 0);
    SIM_CHECK(r.got <= put && (closers > 0 || r.got == getters));
    for (int i = 0; i < MOST; i++)
        SIM_CHECK(r.inside[i] == 0);
    for (size_t i = 0; i < r.queues; i++)
        keel_queue_free(r.queue[i]);
}

static int scene(void *arg)
{
    struct keel_loop *loops[LOOPS];

    (void)arg;
    for (int i = 0; i < LOOPS; i++)
        SIM_CHECK(keel_loop_start("other", &loops[i]) == 0);
    for (int i = 0; i < ROUNDS; i++)
        round_run(loops);
    for (int i = 0; i < LOOPS; i++)
        keel_loop_stop(loops[i]);
    return 0;
}

int brief_program(void *arg)
{
    return keel_run(scene, arg);
}
