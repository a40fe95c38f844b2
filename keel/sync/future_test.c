/* SPDX-License-Identifier: MIT */
/* Futures, and the blocking pool that fulfils some. */
#include <keel/future.h>

#include "test/test.h"

#include <sched.h>

#include "test/fault.h"

static struct keel_future *make(void)
{
    struct keel_future *f;

    assert_int_equal(keel_future_new(&f), 0);
    return f;
}

static void both_let_go(struct keel_future *f)
{
    keel_future_free(f);
    keel_future_free(f);
}

static int result_of(void *f)
{
    return keel_future_result(f, KEEL_FOREVER, NULL);
}

CO_TEST(a_result_is_waited_for)
{
    struct keel_future *f = make();
    struct keel_co *co = test_spawn(result_of, f);
    void *value = NULL;
    int it;

    assert_int_equal(keel_future_result(f, KEEL_NOW, &value), -ETIMEDOUT);
    assert_false(keel_future_done(f));
    assert_true(keel_future_start(f));
    assert_true(keel_future_running(f));
    keel_future_set(f, 12, &it);
    assert_int_equal(test_join(co), 12);
    assert_int_equal(keel_future_result(f, KEEL_NOW, &value), 12);
    assert_ptr_equal(value, &it);
    assert_true(keel_future_done(f));
    assert_false(keel_future_running(f));
    both_let_go(f);
    return 0;
}

CO_TEST(only_what_has_not_started_can_be_cancelled)
{
    struct keel_future *f = make(), *g = make();

    assert_true(keel_future_cancel(f));
    assert_true(keel_future_cancel(f));
    assert_int_equal(result_of(f), -ECANCELED);
    assert_true(keel_future_done(f));
    assert_false(keel_future_start(f));
    assert_true(keel_future_start(g));
    assert_false(keel_future_cancel(g));
    keel_future_set(g, -EIO, NULL);
    assert_false(keel_future_cancel(g));
    assert_int_equal(result_of(g), -EIO);
    both_let_go(f);
    both_let_go(g);
    return 0;
}

/* ---- callbacks ---- */

static char called[8];
static size_t calls;

static void note(struct keel_future *f, void *arg)
{
    assert_true(keel_future_done(f));
    called[calls++] = (char)(intptr_t)arg;
}

static void note_and_add(struct keel_future *f, void *arg)
{
    note(f, arg);
    assert_int_equal(keel_future_on_done(f, note, (void *)'c'), 0);
}

CO_TEST(callbacks_run_in_order_or_at_once)
{
    struct keel_future *f = make();

    calls = 0;
    memset(called, 0, sizeof called);
    keel_future_on_done(f, note, (void *)'a');
    keel_future_on_done(f, note_and_add, (void *)'b');
    assert_int_equal(calls, 0);
    keel_future_set(f, 0, NULL);
    assert_string_equal(called, "abc");
    keel_future_on_done(f, note, (void *)'d');
    assert_string_equal(called, "abcd");
    both_let_go(f);
    return 0;
}

/* All that can go wrong in a callback: its own calls fail, and its worker is
 * cancelled. */
static void go_wrong(struct keel_future *f, void *arg)
{
    note(f, arg);
    keel_cancel(keel_current());
    assert_int_equal(keel_sleep(KEEL_FOREVER), -ECANCELED);
}

static int set_with_a_failing_callback(void *arg)
{
    keel_future_set(arg, 0, NULL);
    return 0;
}

CO_TEST(a_failing_callback_does_not_stop_the_next)
{
    struct keel_future *f = make();

    calls = 0;
    memset(called, 0, sizeof called);
    keel_future_on_done(f, note, (void *)'a');
    keel_future_on_done(f, go_wrong, (void *)'b');
    keel_future_on_done(f, note, (void *)'c');
    test_join(test_spawn(set_with_a_failing_callback, f));
    assert_string_equal(called, "abc");
    both_let_go(f);
    return 0;
}

CO_TEST(callbacks_of_a_future_never_fulfilled_are_freed)
{
    struct keel_future *f = make();

    keel_future_on_done(f, note, NULL);
    both_let_go(f);
    return 0;
}

/* ---- several ---- */

static int set_two(void *arg)
{
    struct keel_future **f = arg;

    keel_future_set(f[1], 1, NULL);
    keel_yield();
    keel_yield();
    keel_future_set(f[0], -EIO, NULL);
    keel_yield();
    keel_yield();
    keel_future_set(f[2], 2, NULL);
    return 0;
}

CO_TEST(wait_returns_when_first_failed_or_all_are_done)
{
    struct keel_future *f[] = {make(), make(), make()};
    struct keel_future *twice[] = {f[0], f[1], f[1], f[2], f[0]};
    struct keel_co *co;

    assert_int_equal(keel_future_wait(f, 0, KEEL_ALL_COMPLETED, KEEL_FOREVER),
                     0);
    assert_int_equal(keel_future_wait(f, 3, KEEL_FIRST_COMPLETED, KEEL_NOW),
                     -ETIMEDOUT);
    co = test_spawn(set_two, f);
    assert_int_equal(
        keel_future_wait(twice, 5, KEEL_FIRST_COMPLETED, KEEL_FOREVER), 1);
    assert_int_equal(
        keel_future_wait(twice, 5, KEEL_FIRST_COMPLETED, KEEL_FOREVER), 1);
    assert_int_equal(keel_future_wait(twice, 5, KEEL_FIRST_ERROR, KEEL_FOREVER),
                     2);
    assert_int_equal(
        keel_future_wait(twice, 5, KEEL_ALL_COMPLETED, keel_now() - 1),
        -ETIMEDOUT);
    assert_int_equal(
        keel_future_wait(twice, 5, KEEL_ALL_COMPLETED, KEEL_FOREVER), 3);
    test_join(co);
    for (int i = 0; i < 3; i++)
        both_let_go(f[i]);
    return 0;
}

/* ---- the pool ---- */

static int add_one(void *arg)
{
    return ++*(int *)arg;
}

static int in_pool(void *arg)
{
    assert_null(keel_current());
    assert_null(keel_loop_current());
    assert_ptr_not_equal(*(pthread_t *)arg, pthread_self());
    return 77;
}

CO_TEST(blocking_work_runs_on_another_thread)
{
    pthread_t self = pthread_self();

    assert_int_equal(keel_blocking(in_pool, &self), 77);
    return 0;
}

static void in_a_thread_it_is_a_plain_call(void **state)
{
    int n = 4;

    (void)state;
    assert_int_equal(keel_blocking(add_one, &n), 5);
}

static int block_on_yields(void *arg)
{
    volatile _Atomic int *go = arg;

    while (!*go)
        sched_yield();
    return 0;
}

static int call_pool(void *go)
{
    return keel_blocking(block_on_yields, go);
}

CO_TEST(the_others_run_meanwhile_and_a_cancel_waits)
{
    _Atomic int go = 0;
    struct keel_co *co = test_spawn(call_pool, (void *)&go);

    keel_yield();
    keel_cancel(co);
    assert_int_equal(keel_join(co, keel_after(KEEL_MS), NULL), -ETIMEDOUT);
    atomic_store(&go, 1);
    assert_int_equal(test_join(co), 0);
    return 0;
}

enum { CALLERS = 50, CALLS = 40 };
static int counts[CALLERS];

static int calls_often(void *arg)
{
    int *n = arg;

    for (int i = 0; i < CALLS; i++)
        assert_int_equal(keel_blocking(add_one, n), i + 1);
    return 0;
}

CO_TEST(many_calls_share_few_threads)
{
    struct keel_co *co[CALLERS];

    keel_blocking_limit(3);
    memset(counts, 0, sizeof counts);
    for (int i = 0; i < CALLERS; i++)
        co[i] = test_spawn(calls_often, &counts[i]);
    for (int i = 0; i < CALLERS; i++)
        test_join(co[i]);
    for (int i = 0; i < CALLERS; i++)
        assert_int_equal(counts[i], CALLS);
    keel_blocking_limit(16);
    return 0;
}

static void submitted_work_fulfils_its_future(void **state)
{
    struct keel_future *f[100];
    int n[100];

    (void)state;
    for (int i = 0; i < 100; i++) {
        n[i] = i;
        assert_int_equal(keel_blocking_submit(add_one, &n[i], &f[i]), 0);
    }
    assert_int_equal(keel_future_wait(f, 100, KEEL_ALL_COMPLETED, KEEL_FOREVER),
                     100);
    for (int i = 0; i < 100; i++) {
        assert_int_equal(result_of(f[i]), i + 1);
        keel_future_free(f[i]);
    }
}

/* ---- races ---- */

static _Atomic long sum;

static void add_result(struct keel_future *f, void *arg)
{
    void *value;

    (void)arg;
    atomic_fetch_add(&sum, keel_future_result(f, KEEL_NOW, &value));
}

static int submits_and_waits(void *arg)
{
    (void)arg;
    for (int r = 0; r < 100; r++) {
        struct keel_future *f[8];
        int n[8], rc;

        for (int i = 0; i < 8; i++) {
            n[i] = i;
            assert_int_equal(keel_blocking_submit(add_one, &n[i], &f[i]), 0);
            assert_int_equal(keel_future_on_done(f[i], add_result, NULL), 0);
        }
        if (r % 3 == 0 && keel_future_cancel(f[7]))
            atomic_fetch_add(&sum, ECANCELED + 8);
        rc = keel_future_wait(f, 8, (enum keel_future_until)(r % 3),
                              keel_after(5 * KEEL_US));
        assert_true(rc >= 0 || rc == -ETIMEDOUT);
        rc = keel_future_wait(f, 8, KEEL_ALL_COMPLETED, KEEL_FOREVER);
        assert_int_equal(rc, 8);
        for (int i = 0; i < 8; i++)
            keel_future_free(f[i]);
    }
    return 0;
}

static void *submits_in_thread(void *arg)
{
    submits_and_waits(arg);
    return NULL;
}

static void fulfil_wait_cancel_and_deadline_race(void **state)
{
    struct keel_loop *loop[2];
    struct keel_co *co[6];
    pthread_t t[2];

    (void)state;
    sum = 0;
    for (int i = 0; i < 2; i++)
        assert_int_equal(keel_loop_start("futures", &loop[i]), 0);
    for (int i = 0; i < 6; i++) {
        struct keel_spawn how = {.loop = loop[i % 2]};

        assert_int_equal(keel_spawn(&how, submits_and_waits, NULL, &co[i]), 0);
    }
    for (int i = 0; i < 2; i++)
        assert_int_equal(pthread_create(&t[i], NULL, submits_in_thread, NULL),
                         0);
    for (int i = 0; i < 6; i++)
        test_join(co[i]);
    for (int i = 0; i < 2; i++)
        pthread_join(t[i], NULL);
    for (int i = 0; i < 2; i++)
        keel_loop_stop(loop[i]);
    /* Callbacks run after the waiters were woken: the last may be due. */
    for (int i = 0; i < 1000000 && sum < 8 * 100 * 36; i++)
        sched_yield();
    assert_int_equal(sum, 8 * 100 * 36);
}

/* ---- failures ---- */

static void submit_survives_each_allocation_failure(void **state)
{
    (void)state;
    for (unsigned nth = 1;; nth++) {
        struct keel_future *f = NULL;
        int n = 0, rc;

        fault_fail_alloc(nth);
        rc = keel_blocking_submit(add_one, &n, &f);
        if (!fault_fired()) {
            assert_int_equal(rc, 0);
            assert_int_equal(result_of(f), 1);
            keel_future_free(f);
            return;
        }
        assert_int_equal(rc, -ENOMEM);
        assert_null(f);
    }
}

/* First of all tests, while the pool is empty. */
CO_TEST(without_any_thread_a_call_is_refused)
{
    int n = 0;

    fault_fail(KEEL_OP_THREAD, 1, EAGAIN);
    assert_int_equal(keel_blocking(add_one, &n), -EAGAIN);
    assert_true(fault_fired());
    assert_int_equal(n, 0);
    assert_int_equal(keel_blocking(add_one, &n), 1);
    return 0;
}

/* ---- as they are done ---- */

static int set_in_turn(void *arg)
{
    struct keel_future **f = arg;

    keel_future_set(f[2], 0, NULL);
    keel_yield();
    keel_future_set(f[0], -EIO, NULL);
    keel_yield();
    keel_future_cancel(f[1]);
    return 0;
}

CO_TEST(completed_ones_come_in_order_of_ending_and_once)
{
    struct keel_future *f[4] = {make(), make(), make(), make()};
    struct keel_future *twice[] = {f[0], f[1], f[2], f[0], f[3], f[2]};
    const int order[] = {3, 2, 0, 1};
    struct keel_completed *c;
    struct keel_future *got;
    struct keel_co *co;

    keel_future_set(f[3], 0, NULL); /* before we came */
    assert_int_equal(keel_completed_new(twice, 6, &c), 0);
    co = test_spawn(set_in_turn, f);
    for (int i = 0; i < 4; i++) {
        assert_int_equal(keel_completed_next(c, KEEL_FOREVER, &got), 0);
        assert_ptr_equal(got, f[order[i]]);
        assert_true(keel_future_done(got));
    }
    assert_int_equal(keel_completed_next(c, KEEL_FOREVER, &got), -ENOENT);
    test_join(co);
    keel_completed_free(c);
    for (int i = 0; i < 4; i++)
        both_let_go(f[i]);
    return 0;
}

static int next_of(void *c)
{
    struct keel_future *got;

    return keel_completed_next(c, KEEL_FOREVER, &got);
}

CO_TEST(waiting_for_the_next_completed_ends_by_deadline_cancel_or_the_last)
{
    struct keel_future *f = make();
    struct keel_completed *c;
    struct keel_future *got;
    struct keel_co *one, *two;

    assert_int_equal(keel_completed_new(&f, 1, &c), 0);
    assert_int_equal(keel_completed_next(c, KEEL_NOW, &got), -ETIMEDOUT);
    one = test_spawn(next_of, c);
    keel_yield();
    keel_cancel(one);
    assert_int_equal(test_join(one), -ECANCELED);
    one = test_spawn(next_of, c);
    two = test_spawn(next_of, c);
    keel_yield();
    keel_future_set(f, 0, NULL);
    assert_int_equal(test_join(one), 0);
    assert_int_equal(test_join(two), -ENOENT);
    keel_completed_free(c);
    /* Given up before its future is done. */
    both_let_go(f);
    f = make();
    assert_int_equal(keel_completed_new(&f, 1, &c), 0);
    keel_completed_free(c);
    keel_future_set(f, 0, NULL);
    both_let_go(f);
    return 0;
}

static int seven_later(void *arg)
{
    (void)arg;
    return 7;
}

static void a_thread_takes_what_the_pool_completes(void **state)
{
    struct keel_future *f[50], *got;
    struct keel_completed *c;

    (void)state;
    for (int i = 0; i < 50; i++)
        assert_int_equal(keel_blocking_submit(seven_later, NULL, &f[i]), 0);
    assert_int_equal(keel_completed_new(f, 50, &c), 0);
    for (int i = 0; i < 50; i++) {
        assert_int_equal(keel_completed_next(c, KEEL_FOREVER, &got), 0);
        assert_int_equal(keel_future_result(got, KEEL_NOW, NULL), 7);
    }
    assert_int_equal(keel_completed_next(c, KEEL_FOREVER, &got), -ENOENT);
    keel_completed_free(c);
    for (int i = 0; i < 50; i++)
        keel_future_free(f[i]);
    fault_fail_alloc(1);
    assert_int_equal(keel_completed_new(f, 50, &c), -ENOMEM);
    assert_true(fault_fired());
    fault_clear();
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(without_any_thread_a_call_is_refused),
        cmocka_unit_test(a_result_is_waited_for),
        cmocka_unit_test(only_what_has_not_started_can_be_cancelled),
        cmocka_unit_test(callbacks_run_in_order_or_at_once),
        cmocka_unit_test(callbacks_of_a_future_never_fulfilled_are_freed),
        cmocka_unit_test(wait_returns_when_first_failed_or_all_are_done),
        cmocka_unit_test(blocking_work_runs_on_another_thread),
        cmocka_unit_test(in_a_thread_it_is_a_plain_call),
        cmocka_unit_test(the_others_run_meanwhile_and_a_cancel_waits),
        cmocka_unit_test(many_calls_share_few_threads),
        cmocka_unit_test(submitted_work_fulfils_its_future),
        cmocka_unit_test(fulfil_wait_cancel_and_deadline_race),
        cmocka_unit_test(submit_survives_each_allocation_failure),
        cmocka_unit_test(a_failing_callback_does_not_stop_the_next),
        cmocka_unit_test(completed_ones_come_in_order_of_ending_and_once),
        cmocka_unit_test(
            waiting_for_the_next_completed_ends_by_deadline_cancel_or_the_last),
        cmocka_unit_test(a_thread_takes_what_the_pool_completes),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
