/* SPDX-License-Identifier: MIT */
#include <keel/lock.h>

#include "test/test.h"

#include <keel/thread.h>

static struct keel_barrier barrier;

static int wait_until(void *arg)
{
    return keel_barrier_wait(&barrier, *(keel_ns *)arg);
}

static keel_ns forever = KEEL_FOREVER;

CO_TEST(all_wait_for_the_last_and_know_their_places)
{
    struct keel_co *first, *second;

    keel_barrier_init(&barrier, 3, NULL, NULL);
    for (int round = 0; round < 2; round++) {
        first = test_spawn(wait_until, &forever);
        second = test_spawn(wait_until, &forever);
        keel_yield();
        assert_int_equal(keel_barrier_waiting(&barrier), 2);
        assert_int_equal(keel_barrier_wait(&barrier, KEEL_FOREVER), 2);
        assert_int_equal(keel_barrier_waiting(&barrier), 0);
        assert_int_equal(test_join(second), 1);
        assert_int_equal(test_join(first), 0);
    }
    keel_barrier_fini(&barrier);
    return 0;
}

CO_TEST(a_timeout_breaks_it_for_all)
{
    keel_ns soon = keel_after(5 * KEEL_MS);
    struct keel_co *late, *patient;

    keel_barrier_init(&barrier, 3, NULL, NULL);
    patient = test_spawn(wait_until, &forever);
    late = test_spawn(wait_until, &soon);
    assert_int_equal(test_join(late), -ETIMEDOUT);
    assert_int_equal(test_join(patient), -EPIPE);
    assert_true(keel_barrier_is_broken(&barrier));
    assert_int_equal(keel_barrier_wait(&barrier, KEEL_FOREVER), -EPIPE);
    keel_barrier_fini(&barrier);
    return 0;
}

CO_TEST(a_cancel_breaks_it_too)
{
    struct keel_co *gone, *patient;

    keel_barrier_init(&barrier, 3, NULL, NULL);
    patient = test_spawn(wait_until, &forever);
    gone = test_spawn(wait_until, &forever);
    keel_yield();
    keel_cancel(gone);
    assert_int_equal(test_join(gone), -ECANCELED);
    assert_int_equal(test_join(patient), -EPIPE);
    keel_barrier_fini(&barrier);
    return 0;
}

CO_TEST(abort_breaks_it_and_reset_mends_it)
{
    struct keel_co *co;

    keel_barrier_init(&barrier, 2, NULL, NULL);
    co = test_spawn(wait_until, &forever);
    keel_yield();
    keel_barrier_abort(&barrier);
    assert_int_equal(test_join(co), -EPIPE);
    assert_int_equal(keel_barrier_wait(&barrier, KEEL_FOREVER), -EPIPE);
    keel_barrier_reset(&barrier);
    assert_false(keel_barrier_is_broken(&barrier));
    co = test_spawn(wait_until, &forever);
    keel_yield();
    assert_int_equal(keel_barrier_wait(&barrier, KEEL_FOREVER), 1);
    assert_int_equal(test_join(co), 0);
    keel_barrier_fini(&barrier);
    return 0;
}

CO_TEST(reset_sends_away_who_waits)
{
    struct keel_co *co;

    keel_barrier_init(&barrier, 2, NULL, NULL);
    co = test_spawn(wait_until, &forever);
    keel_yield();
    keel_barrier_reset(&barrier);
    assert_int_equal(test_join(co), -EPIPE);
    assert_false(keel_barrier_is_broken(&barrier));
    keel_barrier_fini(&barrier);
    return 0;
}

static int acted, action_result;
static struct keel_event acts, go_on;

static int act(void *arg)
{
    (void)arg;
    acted++;
    keel_event_set(&acts);
    keel_event_wait(&go_on, KEEL_FOREVER);
    return action_result;
}

static void acting_barrier(int result)
{
    acted = 0;
    action_result = result;
    keel_event_init(&acts);
    keel_event_init(&go_on);
    keel_barrier_init(&barrier, 2, act, NULL);
}

CO_TEST(the_last_runs_the_action_before_all_go)
{
    struct keel_co *first, *last, *early;

    acting_barrier(0);
    first = test_spawn(wait_until, &forever);
    last = test_spawn(wait_until, &forever);
    keel_event_wait(&acts, KEEL_FOREVER);
    assert_int_equal(keel_join(first, keel_after(KEEL_MS), NULL), -ETIMEDOUT);
    /* Of the next round already. */
    early = test_spawn(wait_until, &forever);
    keel_yield();
    keel_event_set(&go_on);
    assert_int_equal(test_join(first), 0);
    assert_int_equal(test_join(last), 1);
    assert_int_equal(keel_barrier_wait(&barrier, KEEL_FOREVER), 1);
    assert_int_equal(test_join(early), 0);
    assert_int_equal(acted, 2);
    keel_barrier_fini(&barrier);
    return 0;
}

CO_TEST(an_action_that_fails_breaks_it)
{
    struct keel_co *first;

    acting_barrier(-EIO);
    keel_event_set(&go_on);
    first = test_spawn(wait_until, &forever);
    keel_yield();
    assert_int_equal(keel_barrier_wait(&barrier, KEEL_FOREVER), -EIO);
    assert_int_equal(test_join(first), -EPIPE);
    assert_true(keel_barrier_is_broken(&barrier));
    keel_barrier_fini(&barrier);
    return 0;
}

CO_TEST(what_breaks_during_the_action_is_told_to_who_runs_it)
{
    struct keel_co *first, *last;

    acting_barrier(0);
    first = test_spawn(wait_until, &forever);
    last = test_spawn(wait_until, &forever);
    keel_event_wait(&acts, KEEL_FOREVER);
    keel_cancel(first);
    assert_int_equal(test_join(first), -ECANCELED);
    keel_event_set(&go_on);
    assert_int_equal(test_join(last), -EPIPE);
    keel_barrier_fini(&barrier);
    return 0;
}

enum { THREADS = 4, ROUNDS = 500 };
static _Atomic int came;

static int go_round(void *arg)
{
    (void)arg;
    for (int round = 1; round <= ROUNDS; round++) {
        came++;
        if (keel_barrier_wait(&barrier, KEEL_FOREVER) < 0)
            return -1;
        if (came < round * THREADS)
            return -2; /* let go before all had come */
        if (keel_barrier_wait(&barrier, KEEL_FOREVER) < 0)
            return -3;
    }
    return 0;
}

static void threads_meet_round_after_round(void **state)
{
    struct keel_thread *t[THREADS];
    int result;

    (void)state;
    keel_barrier_init(&barrier, THREADS, NULL, NULL);
    for (int i = 0; i < THREADS; i++)
        assert_int_equal(keel_thread_start("round", go_round, NULL, &t[i]), 0);
    for (int i = 0; i < THREADS; i++) {
        assert_int_equal(keel_thread_join(t[i], KEEL_FOREVER, &result), 0);
        assert_int_equal(result, 0);
    }
    keel_barrier_fini(&barrier);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(all_wait_for_the_last_and_know_their_places),
        cmocka_unit_test(a_timeout_breaks_it_for_all),
        cmocka_unit_test(a_cancel_breaks_it_too),
        cmocka_unit_test(abort_breaks_it_and_reset_mends_it),
        cmocka_unit_test(reset_sends_away_who_waits),
        cmocka_unit_test(the_last_runs_the_action_before_all_go),
        cmocka_unit_test(an_action_that_fails_breaks_it),
        cmocka_unit_test(what_breaks_during_the_action_is_told_to_who_runs_it),
        cmocka_unit_test(threads_meet_round_after_round),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
