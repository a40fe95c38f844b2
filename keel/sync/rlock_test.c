/* SPDX-License-Identifier: MIT */
#include <keel/lock.h>

#include "test/test_abort.h"

#include <keel/thread.h>

static struct keel_rlock rlock = KEEL_RLOCK_INIT;

static int take_now(void *arg)
{
    int rc = keel_rlock_take(&rlock, KEEL_NOW);

    (void)arg;
    if (rc == 0)
        keel_rlock_drop(&rlock);
    return rc;
}

CO_TEST(its_owner_takes_it_again_and_others_wait_for_the_last_drop)
{
    keel_rlock_init(&rlock);
    assert_int_equal(keel_rlock_take(&rlock, KEEL_NOW), 0);
    assert_int_equal(keel_rlock_take(&rlock, KEEL_NOW), 0);
    keel_rlock_hold(&rlock);
    for (int left = 3; left > 0; left--) {
        assert_int_equal(test_join(test_spawn(take_now, NULL)), -ETIMEDOUT);
        keel_rlock_drop(&rlock);
    }
    assert_int_equal(test_join(test_spawn(take_now, NULL)), 0);
    keel_rlock_fini(&rlock);
    return 0;
}

CO_TEST(a_thread_is_another_owner_than_a_coroutine)
{
    struct keel_thread *t;
    int result;

    keel_rlock_hold(&rlock);
    assert_int_equal(keel_thread_start("rlock", take_now, NULL, &t), 0);
    assert_int_equal(keel_thread_join(t, KEEL_FOREVER, &result), 0);
    assert_int_equal(result, -ETIMEDOUT);
    keel_rlock_drop(&rlock);
    return 0;
}

static int take_forever(void *arg)
{
    (void)arg;
    return keel_rlock_take(&rlock, KEEL_FOREVER);
}

CO_TEST(a_take_can_time_out_or_be_cancelled)
{
    struct keel_co *co;

    keel_rlock_hold(&rlock);
    co = test_spawn(take_forever, NULL);
    keel_yield();
    keel_cancel(co);
    assert_int_equal(test_join(co), -ECANCELED);
    keel_rlock_drop(&rlock);
    return 0;
}

static int hold_it(void *arg)
{
    (void)arg;
    keel_rlock_hold(&rlock);
    return 0;
}

static void drop_what_another_owns(void)
{
    test_join(test_spawn(hold_it, NULL));
    keel_rlock_drop(&rlock);
}

static void drop_once_too_often(void)
{
    keel_rlock_hold(&rlock);
    keel_rlock_drop(&rlock);
    keel_rlock_drop(&rlock);
}

static void only_its_owner_may_drop_it(void **state)
{
    (void)state;
    assert_aborts(drop_what_another_owns, "keel_rlock_drop(0x");
    assert_aborts(drop_once_too_often, "not its owner");
}

static int sum;

static int add_many(void *arg)
{
    (void)arg;
    for (int i = 0; i < 2000; i++) {
        keel_rlock_hold(&rlock);
        keel_rlock_hold(&rlock);
        sum++;
        keel_rlock_drop(&rlock);
        keel_rlock_drop(&rlock);
    }
    return 0;
}

static void threads_exclude_each_other(void **state)
{
    struct keel_thread *t[4];

    (void)state;
    for (int i = 0; i < 4; i++)
        assert_int_equal(keel_thread_start("add", add_many, NULL, &t[i]), 0);
    for (int i = 0; i < 4; i++)
        assert_int_equal(keel_thread_join(t[i], KEEL_FOREVER, NULL), 0);
    assert_int_equal(sum, 8000);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        /* First: TSan wants no threads before a fork. */
        cmocka_unit_test(only_its_owner_may_drop_it),
        cmocka_unit_test(
            its_owner_takes_it_again_and_others_wait_for_the_last_drop),
        cmocka_unit_test(a_thread_is_another_owner_than_a_coroutine),
        cmocka_unit_test(a_take_can_time_out_or_be_cancelled),
        cmocka_unit_test(threads_exclude_each_other),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
