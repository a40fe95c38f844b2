/* SPDX-License-Identifier: MIT */
#include <keel/lock.h>

#include "test/test.h"

#include <keel/thread.h>

static struct keel_once once;
static _Atomic int made;
static struct keel_event go_on;

static int make(void *arg)
{
    made++;
    keel_event_wait(&go_on, KEEL_FOREVER);
    return *(int *)arg;
}

static int seven = 7, failure = -EIO;

static int call(void *arg)
{
    return keel_once(&once, make, arg, KEEL_FOREVER);
}

static void begin(void)
{
    once = (struct keel_once)KEEL_ONCE_INIT;
    made = 0;
    keel_event_init(&go_on);
}

CO_TEST(it_runs_once_and_all_have_its_result)
{
    struct keel_co *first, *second;

    begin();
    first = test_spawn(call, &seven);
    second = test_spawn(call, &failure);
    keel_yield();
    assert_int_equal(keel_once(&once, make, &seven, KEEL_NOW), -ETIMEDOUT);
    keel_event_set(&go_on);
    assert_int_equal(test_join(first), 7);
    assert_int_equal(test_join(second), 7);
    assert_int_equal(keel_once(&once, make, &failure, KEEL_NOW), 7);
    assert_int_equal(made, 1);
    return 0;
}

CO_TEST(after_a_failure_the_next_tries_again)
{
    struct keel_co *first, *second;

    begin();
    first = test_spawn(call, &failure);
    second = test_spawn(call, &seven);
    keel_yield();
    keel_event_set(&go_on);
    assert_int_equal(test_join(first), -EIO);
    assert_int_equal(test_join(second), 7);
    assert_int_equal(made, 2);
    return 0;
}

static int again(void *arg)
{
    return keel_once(&once, again, arg, KEEL_FOREVER);
}

CO_TEST(from_within_it_is_an_error)
{
    begin();
    assert_int_equal(keel_once(&once, again, NULL, KEEL_FOREVER), -EDEADLK);
    return 0;
}

static void ten_threads_make_one(void **state)
{
    struct keel_thread *t[10];
    int result;

    (void)state;
    begin();
    for (int i = 0; i < 10; i++)
        assert_int_equal(keel_thread_start("once", call, &seven, &t[i]), 0);
    keel_event_set(&go_on);
    for (int i = 0; i < 10; i++) {
        assert_int_equal(keel_thread_join(t[i], KEEL_FOREVER, &result), 0);
        assert_int_equal(result, 7);
    }
    assert_int_equal(made, 1);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(it_runs_once_and_all_have_its_result),
        cmocka_unit_test(after_a_failure_the_next_tries_again),
        cmocka_unit_test(from_within_it_is_an_error),
        cmocka_unit_test(ten_threads_make_one),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
