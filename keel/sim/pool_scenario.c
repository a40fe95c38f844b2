/* SPDX-License-Identifier: MIT */
/* A pool of threads under every policy: jobs in steps, costs, a bound, maps,
 * futures that are cancelled, a pool that is shut down early or late or whose
 * threads cannot begin.  Each job runs to its end or not at all, its future
 * says which, and no two workers run one at a time.  One job waits for another
 * that came with it or later: while a second thread is there, that one may not
 * be left lying. */
#include <errno.h>
#include <stdlib.h>

#include <keel/co.h>
#include <keel/lock.h>
#include <keel/pool.h>
#include <keel/thread.h>

#include "scenarios.h"

enum { JOBS = 40, MAPPED = 12, SUBMITTERS = 3 };
#define PATIENCE KEEL_SECOND /* beyond all that takes time here */

struct job {
    int steps, done; /* to do, done */
    bool runs;
    int result;
    struct keel_future *future;
    struct city *city;
};

struct submitter {
    struct city *city;
    int from, to;
    struct keel_co *co;
    struct keel_thread *thread;
};

struct city {
    struct keel_pool *pool;
    enum keel_pool_policy policy;
    bool broken; /* its threads cannot begin */
    struct job job[JOBS];
    int mapped[MAPPED];
    struct submitter submitter[SUBMITTERS];
    /* The first waits for the second.  NULL: none does. */
    struct job *waiter, *awaited;
    struct keel_event came;
    bool in_vain;
};

static int job_run(void *arg)
{
    struct job *j = arg;

    SIM_CHECK(!j->runs && j->done < j->steps);
    j->runs = true;
    if (j == j->city->awaited)
        keel_event_set(&j->city->came);
    else if (j == j->city->waiter &&
             keel_event_wait(&j->city->came, keel_after(PATIENCE)) < 0)
        j->city->in_vain = true;
    switch (keel_sim_draw(4)) {
    case 0:
        keel_yield();
        break;
    case 1:
        (void)keel_sleep(keel_after((keel_ns)keel_sim_draw(300) * KEEL_US));
        break;
    default:
        break;
    }
    j->runs = false;
    return ++j->done < j->steps ? KEEL_POOL_AGAIN : j->result;
}

static bool refused(const struct city *c, int rc)
{
    return rc == -EPIPE || rc == -ETIMEDOUT || rc == -ECANCELED ||
           (c->broken && rc == -ENOTRECOVERABLE);
}

static keel_ns some_deadline(void)
{
    return keel_sim_draw(3) ? KEEL_FOREVER
                            : keel_after((keel_ns)keel_sim_draw(100) * KEEL_US);
}

static int submit(void *arg)
{
    struct submitter *s = arg;
    struct city *c = s->city;

    for (int i = s->from; i < s->to; i++) {
        struct job *j = &c->job[i];
        uint64_t cost = c->policy == KEEL_POOL_SHORTEST ? keel_sim_draw(9) : 0;
        int rc;

        j->city = c;
        j->steps = 1 + (int)keel_sim_draw(4);
        j->result = (int)keel_sim_draw(3) - 1;
        rc = keel_pool_submit_cost(c->pool, cost, job_run, j, some_deadline(),
                                   &j->future);
        SIM_CHECK(rc == 0 || refused(c, rc));
        if (rc == 0 && keel_sim_draw(8) == 0)
            (void)keel_future_cancel(j->future);
        if (keel_sim_draw(4) == 0)
            (void)keel_sleep(keel_after((keel_ns)keel_sim_draw(90) * KEEL_US));
    }
    return 0;
}

static int map_one(void *arg, size_t index)
{
    struct city *c = arg;

    SIM_CHECK(c->mapped[index] == 0);
    c->mapped[index] = 1;
    keel_yield();
    return index == 9 && keel_sim_draw(4) == 0 ? -EDOM : 0;
}

static void map(struct city *c)
{
    int rc = keel_pool_map(c->pool, keel_sim_draw(4), MAPPED, map_one, c,
                           some_deadline());
    int done = 0;

    SIM_CHECK(rc == 0 || rc == -EDOM || refused(c, rc));
    for (int i = 0; i < MAPPED; i++)
        done += c->mapped[i];
    SIM_CHECK(rc != 0 || done == MAPPED);
}

static int initialize(void *arg)
{
    const struct city *c = arg;

    return c->broken && keel_sim_draw(2) ? -ENODEV : 0;
}

static void pool_make(struct city *c)
{
    struct keel_pool_how how = {
        .size = 1 + (unsigned)keel_sim_draw(4),
        .policy = (enum keel_pool_policy)keel_sim_draw(5),
        .quantum = (unsigned)keel_sim_draw(3),
        .waiting_most = keel_sim_draw(2) ? 1 + keel_sim_draw(5) : 0,
        .initializer = initialize,
        .arg = c,
    };

    c->broken = keel_sim_draw(12) == 0;
    c->policy = how.policy;
    keel_event_init(&c->came);
    if (how.size > 1 && !c->broken) {
        /* The last two as often as all others: nobody comes after them. */
        c->waiter =
            &c->job[keel_sim_draw(2) ? JOBS - 2 : keel_sim_draw(JOBS - 1)];
        c->awaited = c->waiter + 1;
    }
    SIM_CHECK(keel_pool_new(&how, &c->pool) == 0);
}

/* What the future says is what happened. */
static void look(const struct city *c, struct job *j)
{
    int rc;

    if (!j->future) {
        SIM_CHECK(j->done == 0);
        return;
    }
    rc = keel_future_result(j->future, KEEL_FOREVER, NULL);
    if (j->done == 0)
        SIM_CHECK(rc == -ECANCELED || (c->broken && rc == -ENOTRECOVERABLE));
    else
        SIM_CHECK(j->done == j->steps && rc == j->result);
    keel_future_free(j->future);
}

static void submitters_start(struct city *c)
{
    for (int i = 0; i < SUBMITTERS; i++) {
        struct submitter *s = &c->submitter[i];

        *s = (struct submitter){c, i * JOBS / SUBMITTERS,
                                (i + 1) * JOBS / SUBMITTERS, NULL, NULL};
        if (keel_sim_draw(2))
            SIM_CHECK(keel_spawn(NULL, submit, s, &s->co) == 0);
        else
            SIM_CHECK(keel_thread_start("submitter", submit, s, &s->thread) ==
                      0);
    }
}

static void submitters_join(struct city *c)
{
    for (int i = 0; i < SUBMITTERS; i++) {
        struct submitter *s = &c->submitter[i];

        if (s->co)
            SIM_CHECK(keel_join(s->co, KEEL_FOREVER, NULL) == 0);
        else
            SIM_CHECK(keel_thread_join(s->thread, KEEL_FOREVER, NULL) == 0);
    }
}

static int scene(void *arg)
{
    struct city *c = calloc(1, sizeof *c);
    bool early = keel_sim_draw(3) == 0, cancel = keel_sim_draw(2);
    int rc;

    (void)arg;
    SIM_CHECK(c);
    pool_make(c);
    submitters_start(c);
    map(c);
    if (!early)
        submitters_join(c);
    /* Before the shutdown, which wakes everybody. */
    if (!early && c->waiter && c->waiter->future)
        (void)keel_future_result(c->waiter->future, KEEL_FOREVER, NULL);
    rc = keel_pool_shutdown(c->pool, cancel, some_deadline());
    SIM_CHECK(rc == 0 || rc == -ETIMEDOUT);
    if (rc == 0)
        SIM_CHECK(keel_pool_size(c->pool) == 0);
    if (early)
        submitters_join(c);
    keel_pool_free(c->pool);
    for (int i = 0; i < JOBS; i++)
        look(c, &c->job[i]);
    /* It was to come, and did, but only when nobody waited any more. */
    SIM_CHECK(!c->in_vain || c->awaited->done == 0);
    keel_event_fini(&c->came);
    free(c);
    return 0;
}

int pool_program(void *arg)
{
    return keel_run(scene, arg);
}
