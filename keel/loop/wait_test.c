/* SPDX-License-Identifier: MIT */
/* Cancelling, deadlines, scopes, on a virtual clock. */
#include "test/test.h"

#include <keel/lock.h>

#include "test/clock.h"

static struct keel_event event;

static int sleep_an_hour(void *arg)
{
    (void)arg;
    return keel_sleep(keel_after(3600 * KEEL_SECOND));
}

static int wait_event(void *arg)
{
    (void)arg;
    return keel_event_wait(&event, KEEL_FOREVER);
}

/* ---- deadlines ---- */

CO_TEST(sleep_lasts_until_its_deadline)
{
    keel_ns t = keel_now();

    assert_int_equal(sleep_an_hour(NULL), 0);
    assert_true(keel_now() == t + 3600 * KEEL_SECOND);
    return 0;
}

static int order[3];
static int ordered;

static int sleep_for(void *arg)
{
    keel_sleep(keel_after((intptr_t)arg * KEEL_SECOND));
    order[ordered++] = (int)(intptr_t)arg;
    return 0;
}

CO_TEST(sleepers_wake_in_order_of_their_deadlines)
{
    struct keel_co *co[3];

    ordered = 0;
    co[0] = test_spawn(sleep_for, (void *)3);
    co[1] = test_spawn(sleep_for, (void *)1);
    co[2] = test_spawn(sleep_for, (void *)2);
    for (int i = 0; i < 3; i++)
        test_join(co[i]);
    for (int i = 0; i < 3; i++)
        assert_int_equal(order[i], i + 1);
    return 0;
}

static int same[200];
static int same_count;

static int sleep_same(void *arg)
{
    /* Some give up early: what they leave in the heap is the test. */
    int nr = (int)(intptr_t)arg;
    keel_ns span = nr % 7 == 3 ? nr * KEEL_US : KEEL_SECOND;

    assert_int_equal(
        keel_sleep(keel_now() - keel_now() % KEEL_SECOND + KEEL_SECOND + span),
        0);
    if (nr % 7 != 3)
        same[same_count++] = nr;
    return 0;
}

CO_TEST(equal_deadlines_expire_in_order_of_sleeping)
{
    struct keel_co *co[200];
    int last = -1;

    same_count = 0;
    for (int i = 0; i < 200; i++)
        co[i] = test_spawn(sleep_same, (void *)(intptr_t)i);
    for (int i = 0; i < 200; i++)
        test_join(co[i]);
    for (int i = 0; i < same_count; i++) {
        assert_true(same[i] > last);
        last = same[i];
    }
    return 0;
}

CO_TEST(a_deadline_in_the_past_does_not_wait)
{
    keel_ns t = keel_now();

    assert_int_equal(keel_event_wait(&event, KEEL_NOW), -ETIMEDOUT);
    assert_int_equal(keel_event_wait(&event, t - 1), -ETIMEDOUT);
    assert_true(keel_now() == t);
    keel_event_set(&event);
    assert_int_equal(keel_event_wait(&event, KEEL_NOW), 0);
    keel_event_clear(&event);
    return 0;
}

/* ---- scopes ---- */

CO_TEST(the_earliest_of_nested_scopes_counts)
{
    struct keel_timeout outer, inner;
    keel_ns t = keel_now();

    keel_timeout_begin(&outer, keel_after(2 * KEEL_SECOND));
    keel_timeout_begin(&inner, keel_after(KEEL_SECOND));
    assert_int_equal(wait_event(NULL), -ETIMEDOUT);
    assert_true(keel_now() == t + KEEL_SECOND);
    keel_timeout_end(&inner);
    assert_int_equal(wait_event(NULL), -ETIMEDOUT);
    assert_true(keel_now() == t + 2 * KEEL_SECOND);
    keel_timeout_end(&outer);

    /* An inner scope cannot outlast the outer one. */
    keel_timeout_begin(&outer, keel_after(KEEL_SECOND));
    keel_timeout_begin(&inner, keel_after(9 * KEEL_SECOND));
    assert_int_equal(wait_event(NULL), -ETIMEDOUT);
    assert_true(keel_now() == t + 3 * KEEL_SECOND);
    keel_timeout_end(&inner);
    keel_timeout_end(&outer);
    return 0;
}

CO_TEST(a_sleep_cut_short_by_a_scope_says_so)
{
    struct keel_timeout t;

    keel_timeout_begin(&t, keel_after(KEEL_SECOND));
    assert_int_equal(keel_sleep(keel_after(KEEL_MS)), 0);
    assert_int_equal(keel_sleep(keel_after(5 * KEEL_SECOND)), -ETIMEDOUT);
    keel_timeout_end(&t);
    assert_int_equal(keel_sleep(keel_after(5 * KEEL_SECOND)), 0);
    return 0;
}

/* ---- cancelling ---- */

static int waits_three_times(void *arg)
{
    (void)arg;
    assert_int_equal(wait_event(NULL), -ECANCELED);
    assert_int_equal(sleep_an_hour(NULL), -ECANCELED);
    assert_true(keel_cancelled());
    return wait_event(NULL);
}

CO_TEST(a_cancel_is_sticky)
{
    struct keel_co *co = test_spawn(waits_three_times, NULL);

    keel_yield();
    keel_cancel(co);
    assert_int_equal(test_join(co), -ECANCELED);
    assert_false(keel_cancelled());
    return 0;
}

CO_TEST(a_cancel_before_the_first_wait_shows_at_it)
{
    struct keel_co *co = test_spawn(waits_three_times, NULL);

    keel_cancel(co);
    assert_int_equal(test_join(co), -ECANCELED);
    return 0;
}

static int wait_then_wait(void *arg)
{
    (void)arg;
    assert_int_equal(wait_event(NULL), 0);
    keel_event_clear(&event);
    return wait_event(NULL);
}

CO_TEST(a_wait_both_woken_and_cancelled_reports_the_wake)
{
    struct keel_co *co = test_spawn(wait_then_wait, NULL);

    keel_yield();
    keel_event_set(&event);
    keel_cancel(co);
    assert_int_equal(test_join(co), -ECANCELED);
    return 0;
}

static int cleans_up(void *arg)
{
    int *cleaned = arg;

    assert_int_equal(wait_event(NULL), -ECANCELED);
    keel_shield();
    keel_shield();
    assert_int_equal(sleep_an_hour(NULL), 0);
    keel_unshield();
    assert_int_equal(sleep_an_hour(NULL), 0);
    assert_true(keel_cancelled());
    keel_unshield();
    *cleaned = 1;
    return wait_event(NULL);
}

CO_TEST(between_shield_and_unshield_waits_are_not_cancelled)
{
    int cleaned = 0;
    struct keel_co *co = test_spawn(cleans_up, &cleaned);

    keel_yield();
    keel_cancel(co);
    assert_int_equal(test_join(co), -ECANCELED);
    assert_int_equal(cleaned, 1);
    return 0;
}

static int shielded_first(void *arg)
{
    (void)arg;
    keel_shield();
    assert_int_equal(sleep_an_hour(NULL), 0);
    keel_unshield();
    return sleep_an_hour(NULL);
}

CO_TEST(a_cancel_during_a_shield_shows_after_it)
{
    struct keel_co *co = test_spawn(shielded_first, NULL);
    keel_ns t = keel_now();

    keel_yield();
    keel_cancel(co);
    assert_int_equal(test_join(co), -ECANCELED);
    assert_true(keel_now() == t + 3600 * KEEL_SECOND);
    return 0;
}

/* ---- a virtual clock and several loops ---- */

static void time_moves_only_when_every_loop_is_idle(void **state)
{
    struct keel_loop *loop[2];
    struct keel_co *co[2];
    keel_ns t = keel_now();

    (void)state;
    for (int i = 0; i < 2; i++)
        assert_int_equal(keel_loop_start("timed", &loop[i]), 0);
    for (int i = 0; i < 2; i++) {
        struct keel_spawn how = {.loop = loop[i]};

        assert_int_equal(keel_spawn(&how, sleep_an_hour, NULL, &co[i]), 0);
    }
    for (int i = 0; i < 2; i++)
        assert_int_equal(test_join(co[i]), 0);
    assert_true(keel_now() >= t + 3600 * KEEL_SECOND);
    assert_true(keel_now() <= t + 2 * 3600 * KEEL_SECOND);
    for (int i = 0; i < 2; i++)
        keel_loop_stop(loop[i]);
}

static void *advances(void *arg)
{
    test_clock_advance(10 * KEEL_SECOND);
    return arg;
}

static void a_thread_waits_by_the_virtual_clock(void **state)
{
    keel_ns t = keel_now();
    pthread_t thread;

    (void)state;
    assert_int_equal(pthread_create(&thread, NULL, advances, NULL), 0);
    assert_int_equal(keel_sleep(t + 10 * KEEL_SECOND), 0);
    pthread_join(thread, NULL);
    assert_true(keel_now() == t + 10 * KEEL_SECOND);
}

static void the_date_moves_with_the_clock(void **state)
{
    int64_t date = keel_wall_ns();

    (void)state;
    test_clock_advance(KEEL_SECOND);
    assert_true(keel_wall_ns() == date + KEEL_SECOND);
    assert_true(keel_wall_ns() / KEEL_SECOND >= 1767225600);
    assert_true(keel_after(KEEL_FOREVER) == KEEL_FOREVER);
}

static int install(void **state)
{
    (void)state;
    test_clock_install();
    keel_event_init(&event);
    return 0;
}

static int removes(void **state)
{
    (void)state;
    test_clock_remove();
    keel_event_fini(&event);
    return 0;
}

#define TIMED(test) cmocka_unit_test_setup_teardown(test, install, removes)

int main(void)
{
    const struct CMUnitTest tests[] = {
        TIMED(sleep_lasts_until_its_deadline),
        TIMED(sleepers_wake_in_order_of_their_deadlines),
        TIMED(equal_deadlines_expire_in_order_of_sleeping),
        TIMED(a_deadline_in_the_past_does_not_wait),
        TIMED(the_earliest_of_nested_scopes_counts),
        TIMED(a_sleep_cut_short_by_a_scope_says_so),
        TIMED(a_cancel_is_sticky),
        TIMED(a_cancel_before_the_first_wait_shows_at_it),
        TIMED(a_wait_both_woken_and_cancelled_reports_the_wake),
        TIMED(between_shield_and_unshield_waits_are_not_cancelled),
        TIMED(a_cancel_during_a_shield_shows_after_it),
        TIMED(time_moves_only_when_every_loop_is_idle),
        TIMED(a_thread_waits_by_the_virtual_clock),
        TIMED(the_date_moves_with_the_clock),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
