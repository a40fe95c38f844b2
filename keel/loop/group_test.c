/* SPDX-License-Identifier: MIT */
#include "test/test.h"

#include <keel/lock.h>

#include "test/clock.h"
#include "test/fault.h"

static int started, running, most;

/* Sleeps as many milliseconds as its number, which is its result. */
static int take_time(void *arg)
{
    int rc;

    started++;
    running++;
    if (running > most)
        most = running;
    rc = keel_sleep(keel_after((intptr_t)arg * KEEL_MS));
    running--;
    return rc < 0 ? rc : (int)(intptr_t)arg;
}

static int fail_after(void *arg)
{
    int rc = keel_sleep(keel_after((intptr_t)arg * KEEL_MS));

    return rc < 0 ? rc : -(int)(intptr_t)arg;
}

static void add(struct keel_group *g, int (*fn)(void *arg), intptr_t n)
{
    struct keel_spawn how = {.group = g};

    assert_int_equal(keel_spawn(&how, fn, (void *)n, NULL), 0);
}

static struct keel_group *make(size_t limit)
{
    struct keel_group *g;

    started = running = most = 0;
    assert_int_equal(keel_group_new(limit, &g), 0);
    return g;
}

CO_TEST(join_waits_for_all)
{
    keel_auto(group) struct keel_group *g = make(0);

    assert_int_equal(keel_group_join(g, KEEL_NOW), 0);
    for (int i = 1; i <= 5; i++)
        add(g, take_time, i);
    assert_int_equal(keel_group_join(g, keel_after(3 * KEEL_MS)), -ETIMEDOUT);
    assert_int_equal(keel_group_join(g, KEEL_FOREVER), 0);
    assert_int_equal(running, 0);
    return 0;
}

CO_TEST(join_returns_the_first_failure_and_lets_the_others_end)
{
    keel_auto(group) struct keel_group *g = make(0);

    add(g, take_time, 9);
    add(g, fail_after, 5);
    add(g, fail_after, 3);
    assert_int_equal(keel_group_join(g, KEEL_FOREVER), -3);
    assert_int_equal(running, 0);
    /* The next round starts afresh. */
    add(g, take_time, 1);
    assert_int_equal(keel_group_join(g, KEEL_FOREVER), 0);
    return 0;
}

CO_TEST(join_or_cancel_ends_at_the_first_failure)
{
    keel_auto(group) struct keel_group *g = make(0);
    keel_ns t = keel_now();

    add(g, take_time, 900);
    add(g, fail_after, 5);
    assert_int_equal(keel_group_join_or_cancel(g, KEEL_FOREVER), -5);
    assert_int_equal(running, 0);
    assert_true(keel_now() == t + 5 * KEEL_MS);
    return 0;
}

CO_TEST(join_any_gives_the_results_in_order_of_ending)
{
    keel_auto(group) struct keel_group *g = make(0);
    int result;

    assert_int_equal(keel_group_join_any(g, KEEL_FOREVER, &result), -ECHILD);
    for (int i = 40; i >= 1; i--)
        add(g, take_time, i);
    assert_int_equal(keel_group_join_any(g, KEEL_NOW, &result), -ETIMEDOUT);
    for (int i = 1; i <= 40; i++) {
        assert_int_equal(keel_group_join_any(g, KEEL_FOREVER, &result), 0);
        assert_int_equal(result, i);
    }
    assert_int_equal(keel_group_join_any(g, KEEL_FOREVER, &result), -ECHILD);
    return 0;
}

CO_TEST(equal_results_are_counted_each)
{
    keel_auto(group) struct keel_group *g = make(0);
    int result, n = 0;

    for (int i = 0; i < 30; i++)
        add(g, take_time, 1 + i / 10);
    while (keel_group_join_any(g, KEEL_FOREVER, &result) == 0)
        assert_int_equal(result, 1 + n++ / 10);
    assert_int_equal(n, 30);
    return 0;
}

CO_TEST(spawn_into_a_full_group_waits)
{
    keel_auto(group) struct keel_group *g = make(3);

    for (int i = 0; i < 20; i++)
        add(g, take_time, 1);
    assert_int_equal(keel_group_join(g, KEEL_FOREVER), 0);
    assert_int_equal(started, 20);
    assert_int_equal(most, 3);
    return 0;
}

static int spawn_into(void *g)
{
    struct keel_spawn how = {.group = g};

    return keel_spawn(&how, take_time, (void *)1, NULL);
}

CO_TEST(a_spawn_that_waits_can_be_cancelled)
{
    keel_auto(group) struct keel_group *g = make(1);
    struct keel_co *co;

    add(g, take_time, 1000);
    co = test_spawn(spawn_into, g);
    keel_yield();
    keel_cancel(co);
    assert_int_equal(test_join(co), -ECANCELED);
    return 0;
}

CO_TEST(free_cancels_and_joins)
{
    struct keel_group *g = make(0);
    keel_ns t = keel_now();

    for (int i = 0; i < 5; i++)
        add(g, take_time, 5000);
    keel_yield();
    keel_group_free(g);
    assert_int_equal(started, 5);
    assert_int_equal(running, 0);
    assert_true(keel_now() == t);
    keel_group_free(NULL);
    return 0;
}

static struct keel_group *family;

static int has_children(void *arg)
{
    intptr_t depth = (intptr_t)arg;

    if (depth > 0)
        add(family, has_children, depth - 1);
    return keel_sleep(keel_after(5 * KEEL_SECOND));
}

CO_TEST(members_spawned_after_a_cancel_are_born_cancelled)
{
    keel_ns t = keel_now();

    family = make(0);
    add(family, has_children, 3);
    keel_group_cancel(family);
    assert_int_equal(keel_group_join(family, KEEL_FOREVER), -ECANCELED);
    assert_true(keel_now() == t);
    keel_group_free(family);
    return 0;
}

static int return_at_once(void *arg)
{
    return (int)(intptr_t)arg;
}

static int sleep_long(void *arg)
{
    return keel_sleep(keel_after((intptr_t)arg * KEEL_SECOND));
}

CO_TEST(a_group_spans_loops)
{
    struct keel_group *g = make(4);
    struct keel_loop *loop[3];
    int sum = 0, result;

    for (int i = 0; i < 3; i++)
        assert_int_equal(keel_loop_start("group", &loop[i]), 0);
    for (int i = 0; i < 300; i++) {
        struct keel_spawn how = {.group = g, .loop = loop[i % 3]};

        assert_int_equal(
            keel_spawn(&how, return_at_once, (void *)(intptr_t)i, NULL), 0);
    }
    while (keel_group_join_any(g, KEEL_FOREVER, &result) == 0)
        sum += result;
    assert_int_equal(sum, 299 * 300 / 2);
    for (int i = 0; i < 3; i++) {
        struct keel_spawn how = {.group = g, .loop = loop[i]};

        assert_int_equal(keel_spawn(&how, sleep_long, (void *)100, NULL), 0);
    }
    keel_group_free(g);
    for (int i = 0; i < 3; i++)
        keel_loop_stop(loop[i]);
    return 0;
}

CO_TEST(spawn_into_a_group_survives_each_allocation_failure)
{
    for (unsigned nth = 1;; nth++) {
        struct keel_group *g = NULL;
        struct keel_spawn how = {0};
        bool fired;
        int rc;

        fault_fail_alloc(nth);
        rc = keel_group_new(0, &g);
        if (rc == 0) {
            how.group = g;
            for (int i = 0; i < 20 && rc == 0; i++)
                rc = keel_spawn(&how, return_at_once, NULL, NULL);
        }
        fired = fault_fired();
        if (fired)
            assert_int_equal(rc, -ENOMEM);
        else
            assert_int_equal(rc, 0);
        if (g)
            assert_int_equal(keel_group_join(g, KEEL_FOREVER), 0);
        keel_group_free(g);
        if (!fired)
            return 0;
    }
}

static int install(void **state)
{
    (void)state;
    test_clock_install();
    return 0;
}

static int removes(void **state)
{
    (void)state;
    test_clock_remove();
    return 0;
}

#define TIMED(test) cmocka_unit_test_setup_teardown(test, install, removes)

/* ---- a bounded map ---- */

struct squares {
    size_t under_way, most, ended;
    size_t fails_at;
    size_t square[10];
};

static int square_slowly(void *arg, size_t i)
{
    struct squares *s = arg;
    int rc;

    if (i == s->fails_at)
        return -EIO;
    s->under_way++;
    if (s->under_way > s->most)
        s->most = s->under_way;
    rc = keel_sleep(keel_after(KEEL_MS));
    s->under_way--;
    s->ended++;
    s->square[i] = i * i;
    return rc;
}

CO_TEST(map_calls_each_once_and_no_more_at_a_time_than_allowed)
{
    struct squares s = {.fails_at = SIZE_MAX};

    assert_int_equal(keel_group_map(3, 10, square_slowly, &s, KEEL_FOREVER), 0);
    assert_int_equal(s.most, 3);
    assert_int_equal(s.ended, 10);
    for (size_t i = 0; i < 10; i++)
        assert_int_equal(s.square[i], i * i);
    assert_int_equal(keel_group_map(3, 0, square_slowly, &s, KEEL_NOW), 0);
    return 0;
}

CO_TEST(a_map_ends_at_its_first_failure_and_leaves_nobody)
{
    struct squares s = {.fails_at = 4};

    assert_int_equal(keel_group_map(3, 10, square_slowly, &s, KEEL_FOREVER),
                     -EIO);
    assert_int_equal(s.under_way, 0);
    assert_in_range(s.ended, 3, 6);
    return 0;
}

CO_TEST(a_map_ends_at_its_deadline_and_leaves_nobody)
{
    struct squares s = {.fails_at = SIZE_MAX};

    assert_int_equal(
        keel_group_map(1, 10000000, square_slowly, &s, keel_after(KEEL_US)),
        -ETIMEDOUT);
    assert_int_equal(s.under_way, 0);
    return 0;
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        TIMED(join_waits_for_all),
        TIMED(join_returns_the_first_failure_and_lets_the_others_end),
        TIMED(join_or_cancel_ends_at_the_first_failure),
        TIMED(join_any_gives_the_results_in_order_of_ending),
        TIMED(equal_results_are_counted_each),
        TIMED(spawn_into_a_full_group_waits),
        TIMED(a_spawn_that_waits_can_be_cancelled),
        TIMED(free_cancels_and_joins),
        TIMED(members_spawned_after_a_cancel_are_born_cancelled),
        cmocka_unit_test(a_group_spans_loops),
        TIMED(spawn_into_a_group_survives_each_allocation_failure),
        cmocka_unit_test(
            map_calls_each_once_and_no_more_at_a_time_than_allowed),
        cmocka_unit_test(a_map_ends_at_its_first_failure_and_leaves_nobody),
        cmocka_unit_test(a_map_ends_at_its_deadline_and_leaves_nobody),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
