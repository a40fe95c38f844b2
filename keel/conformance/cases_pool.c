/* SPDX-License-Identifier: MIT */
/* Pools and futures.  For coroutines and threads the jobs are done by threads,
 * for processes by processes. */
#include "conform.h"

#include <keel/future.h>

static void open_pool(struct conform *c, unsigned workers)
{
    assert_int_equal(c->pool->new (c, workers, false), 0);
}

static void submit(struct conform *c, enum work work, int arg,
                   struct ticket *ret)
{
    assert_int_equal(c->pool->submit(c, work, arg, ret), 0);
}

static int result(struct ticket *t)
{
    int n = -1;

    assert_int_equal(t->c->pool->result(t, SOON, &n), 0);
    return n;
}

/* One worker, which is at a gate. */
static void busy_pool(struct conform *c, struct ticket *gate)
{
    open_pool(c, 1);
    submit(c, GATE, 7, gate);
    wait_event(c, 0);
}

static void open_gate(struct conform *c)
{
    c->sync->event_set(c->w, 1);
}

/* ---- submit ---- */

static void each_job_has_its_result(struct conform *c)
{
    struct ticket t[20];

    open_pool(c, 3);
    for (int i = 0; i < 20; i++)
        submit(c, SQUARE, i, &t[i]);
    for (int i = 19; i >= 0; i--)
        assert_int_equal(result(&t[i]), i * i);
}

static void a_jobs_error_is_its_result(struct conform *c)
{
    struct ticket fails, next;

    open_pool(c, 1);
    submit(c, FAIL, 0, &fails);
    submit(c, SQUARE, 3, &next);
    assert_int_equal(result(&fails), -EACCES);
    assert_int_equal(result(&next), 9);
}

static void a_wait_for_a_result_times_out_and_can_be_repeated(struct conform *c)
{
    struct ticket gate;
    keel_ns at;
    int n = -1;

    busy_pool(c, &gate);
    assert_false(c->pool->done(&gate));
    assert_int_equal(c->pool->result(&gate, KEEL_NOW, &n), -ETIMEDOUT);
    at = SHORTLY;
    assert_int_equal(c->pool->result(&gate, at, &n), -ETIMEDOUT);
    assert_true(keel_now() >= at);
    assert_int_equal(n, -1);
    open_gate(c);
    while (!c->pool->done(&gate))
        assert_int_equal(keel_sleep(keel_after(KEEL_MS / 10)), 0);
    assert_int_equal(c->pool->result(&gate, KEEL_NOW, &n), 0);
    assert_int_equal(n, 7);
}

/* Waits for the result of the ticket that the case left. */
static struct ticket *awaited;
static int waits_for_the_result(struct conform *c, int arg)
{
    int n;

    EXPECT(c->pool->result(awaited, SOON, &n) == -ECANCELED);
    return arg;
}

static void who_waits_for_a_result_can_be_cancelled(struct conform *c)
{
    struct ticket gate;
    struct worker *w;
    const struct worker_verbs *verbs;
    int n = -1;

    busy_pool(c, &gate);
    awaited = &gate;
    verbs = begin_here(c, waits_for_the_result, 5, &w);
    assert_int_equal(verbs->join(w, SHORTLY, NULL), -ETIMEDOUT);
    verbs->cancel(w);
    assert_int_equal(verbs->join(w, SOON, &n), 0);
    assert_int_equal(n, 5);
    open_gate(c);
    assert_int_equal(result(&gate), 7); /* the job went on */
}

static void only_what_has_not_begun_can_be_cancelled(struct conform *c)
{
    struct ticket gate, pending;

    busy_pool(c, &gate);
    submit(c, COUNT, 1, &pending);
    assert_false(c->pool->cancel(&gate));
    assert_true(c->pool->cancel(&pending));
    assert_true(c->pool->done(&pending));
    assert_int_equal(result(&pending), -ECANCELED);
    open_gate(c);
    assert_int_equal(result(&gate), 7);
    assert_int_equal(c->pool->shutdown(c, false, SOON), 0);
    assert_int_equal(c->w->number[0], 0); /* it never ran */
}

static void what_is_done_cannot_be_cancelled(struct conform *c)
{
    struct ticket t;

    open_pool(c, 1);
    submit(c, SQUARE, 5, &t);
    while (!c->pool->done(&t))
        assert_int_equal(keel_sleep(keel_after(KEEL_MS / 10)), 0);
    assert_false(c->pool->cancel(&t));
    assert_int_equal(result(&t), 25);
}

/* ---- map ---- */

static void map_gives_results_in_order(struct conform *c)
{
    int results[40] = {0};

    open_pool(c, 3);
    assert_int_equal(c->pool->map(c, SQUARE, 40, results, SOON), 0);
    for (int i = 0; i < 40; i++)
        assert_int_equal(results[i], i * i);
    assert_int_equal(c->pool->map(c, SQUARE, 0, results, SOON), 0);
}

static void map_says_that_a_job_failed(struct conform *c)
{
    int results[5] = {0};

    open_pool(c, 2);
    assert_int_equal(c->pool->map(c, FAIL, 5, results, SOON), -EACCES);
}

static void maps_deadline_counts_from_the_call(struct conform *c)
{
    int results[NUMBERS];
    keel_ns at = keel_after(40 * KEEL_MS);

    /* 0, 1, 2 ... 63 ms one after another: each of them would be in time. */
    open_pool(c, 1);
    assert_int_equal(c->pool->map(c, NAP, NUMBERS, results, at), -ETIMEDOUT);
    assert_true(keel_now() >= at);
    assert_true(keel_now() < at + 15 * KEEL_SECOND);
}

/* ---- shutdown ---- */

static void after_shutdown_nothing_is_taken(struct conform *c)
{
    struct ticket t;
    int results[2];

    open_pool(c, 2);
    submit(c, SQUARE, 4, &t);
    assert_int_equal(c->pool->shutdown(c, false, SOON), 0);
    assert_int_equal(result(&t), 16); /* results outlive it */
    assert_int_equal(c->pool->submit(c, SQUARE, 1, &t), -EPIPE);
    assert_int_equal(c->pool->map(c, SQUARE, 2, results, SOON), -EPIPE);
    assert_int_equal(c->pool->shutdown(c, false, SOON), 0); /* again */
    assert_int_equal(c->pool->size(c), 0);
}

static void shutdown_without_wait_still_runs_what_is_pending(struct conform *c)
{
    struct ticket gate, pending[5];

    busy_pool(c, &gate);
    for (int i = 0; i < 5; i++)
        submit(c, COUNT, 1 + i, &pending[i]);
    assert_int_equal(c->pool->shutdown(c, false, KEEL_NOW), -ETIMEDOUT);
    assert_int_equal(c->pool->shutdown(c, false, SHORTLY), -ETIMEDOUT);
    open_gate(c);
    assert_int_equal(result(&gate), 7);
    for (int i = 0; i < 5; i++)
        assert_int_equal(result(&pending[i]), 1 + i);
    assert_int_equal(c->w->number[0], 15);
    assert_int_equal(c->pool->shutdown(c, false, SOON), 0);
}

static void shutdown_can_cancel_what_is_pending(struct conform *c)
{
    struct ticket gate, pending[5];

    busy_pool(c, &gate);
    for (int i = 0; i < 5; i++)
        submit(c, COUNT, 1, &pending[i]);
    assert_int_equal(c->pool->shutdown(c, true, KEEL_NOW), -ETIMEDOUT);
    for (int i = 0; i < 5; i++)
        assert_int_equal(result(&pending[i]), -ECANCELED);
    open_gate(c);
    assert_int_equal(result(&gate), 7); /* what had begun ends */
    assert_int_equal(c->pool->shutdown(c, false, SOON), 0);
    assert_int_equal(c->w->number[0], 0);
}

static void a_failing_initializer_breaks_the_pool(struct conform *c)
{
    struct ticket t;
    int rc;

    assert_int_equal(c->pool->new (c, 2, true), 0);
    rc = c->pool->submit(c, COUNT, 1, &t);
    if (rc == 0) /* it had not failed yet */
        rc = result(&t);
    assert_int_equal(rc, -ENOTRECOVERABLE);
    assert_int_equal(c->pool->submit(c, COUNT, 1, &t), -ENOTRECOVERABLE);
    assert_int_equal(c->w->number[0], 0);
}

static void a_pool_has_the_size_asked_for(struct conform *c)
{
    struct ticket t;

    open_pool(c, 3);
    submit(c, SQUARE, 1, &t);
    assert_int_equal(result(&t), 1);
    assert_int_equal(c->pool->size(c), 3);
}

/* ---- futures ---- */

static void notes(struct keel_future *f, void *arg)
{
    struct conform *c = arg;
    int place = atomic_fetch_add(&c->w->number[1], 1);

    (void)f;
    c->w->number[2 + place] = place + 10;
}

static void notes_last(struct keel_future *f, void *arg)
{
    struct conform *c = arg;

    notes(f, c);
    c->sync->event_set(c->w, 2);
}

static void
callbacks_run_in_order_and_at_once_when_it_is_done(struct conform *c)
{
    struct ticket gate;

    busy_pool(c, &gate);
    assert_true(keel_future_running(gate.future));
    for (int i = 0; i < 3; i++)
        assert_int_equal(
            keel_future_on_done(gate.future, i < 2 ? notes : notes_last, c), 0);
    assert_int_equal(c->w->number[1], 0);
    open_gate(c);
    wait_event(c, 2);
    assert_int_equal(c->w->number[1], 3);
    assert_int_equal(keel_future_result(gate.future, SOON, NULL), 7);
    assert_false(keel_future_running(gate.future));
    assert_int_equal(keel_future_on_done(gate.future, notes, c), 0);
    for (int i = 0; i < 4; i++)
        assert_int_equal(c->w->number[2 + i], 10 + i);
    assert_int_equal(result(&gate), 7);
}

static void a_wait_over_several_counts_each_once(struct conform *c)
{
    struct ticket gate, done;
    struct keel_future *all[3];

    open_pool(c, 2);
    submit(c, GATE, 7, &gate);
    wait_event(c, 0);
    submit(c, SQUARE, 2, &done);
    all[0] = all[1] = done.future;
    all[2] = gate.future;
    assert_int_equal(keel_future_wait(all, 3, KEEL_FIRST_COMPLETED, SOON), 1);
    assert_int_equal(keel_future_wait(all, 3, KEEL_ALL_COMPLETED, SHORTLY),
                     -ETIMEDOUT);
    open_gate(c);
    assert_int_equal(keel_future_wait(all, 3, KEEL_ALL_COMPLETED, SOON), 2);
    assert_int_equal(result(&gate), 7);
    assert_int_equal(result(&done), 4);
}

#define BY_VALUE                                                               \
    "a task in other processes is a value, asked by its result: nobody here "  \
    "runs where it ends"

const struct conform_case pool_cases[] = {
    {"each job has its result", each_job_has_its_result},
    {"a job's error is its result", a_jobs_error_is_its_result},
    {"a wait for a result times out, and can be repeated",
     a_wait_for_a_result_times_out_and_can_be_repeated},
    {"who waits for a result can be cancelled",
     who_waits_for_a_result_can_be_cancelled},
    {"only what has not begun can be cancelled",
     only_what_has_not_begun_can_be_cancelled},
    {"what is done cannot be cancelled", what_is_done_cannot_be_cancelled},
    {"map gives results in order", map_gives_results_in_order},
    {"map says that a job failed", map_says_that_a_job_failed},
    {"map's deadline counts from the call", maps_deadline_counts_from_the_call},
    {"after shutdown nothing is taken", after_shutdown_nothing_is_taken},
    {"shutdown without wait still runs what is pending",
     shutdown_without_wait_still_runs_what_is_pending},
    {"shutdown can cancel what is pending",
     shutdown_can_cancel_what_is_pending},
    {"a failing initializer breaks the pool",
     a_failing_initializer_breaks_the_pool},
    {"a pool has the size asked for", a_pool_has_the_size_asked_for},
    {"callbacks run in order, and at once when it is done",
     callbacks_run_in_order_and_at_once_when_it_is_done,
     {[PROCESS] = BY_VALUE}},
    {"a wait over several counts each once",
     a_wait_over_several_counts_each_once,
     {[PROCESS] = BY_VALUE}},
};
const size_t pool_case_count = sizeof(pool_cases) / sizeof(*pool_cases);
