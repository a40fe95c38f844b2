/* SPDX-License-Identifier: MIT */
#include <keel/lock.h>

#include "test/test_abort.h"

/* ---- lock ---- */

static struct keel_lock lock;

static int take_forever(void *arg)
{
    (void)arg;
    return keel_lock_take(&lock, KEEL_FOREVER);
}

CO_TEST(a_lock_is_held_by_one_and_dropped_by_any)
{
    struct keel_co *co;

    keel_lock_init(&lock);
    assert_int_equal(keel_lock_take(&lock, KEEL_NOW), 0);
    assert_int_equal(keel_lock_take(&lock, KEEL_NOW), -ETIMEDOUT);
    assert_int_equal(keel_lock_take(&lock, keel_after(KEEL_MS)), -ETIMEDOUT);
    co = test_spawn(take_forever, NULL);
    keel_yield();
    keel_lock_drop(&lock);
    assert_int_equal(test_join(co), 0);
    keel_lock_drop(&lock); /* taken by another */
    keel_lock_fini(&lock);
    return 0;
}

static int hold_then_wait(void *arg)
{
    (void)arg;
    keel_lock_hold(&lock);
    assert_true(keel_cancelled());
    keel_lock_drop(&lock);
    return keel_lock_take(&lock, KEEL_FOREVER);
}

CO_TEST(take_can_be_cancelled_and_hold_cannot)
{
    struct keel_co *co;

    keel_lock_hold(&lock);
    co = test_spawn(take_forever, NULL);
    keel_yield();
    keel_cancel(co);
    assert_int_equal(test_join(co), -ECANCELED);

    co = test_spawn(hold_then_wait, NULL);
    keel_yield();
    keel_cancel(co);
    keel_yield();
    keel_lock_drop(&lock);
    assert_int_equal(test_join(co), 0);
    keel_lock_drop(&lock);
    keel_lock_fini(&lock);
    return 0;
}

static int guarded(void)
{
    keel_guard(&lock);
    return lock.held;
}

CO_TEST(a_guard_drops_at_the_end_of_its_scope)
{
    assert_true(guarded());
    assert_false(lock.held);
    return 0;
}

/* ---- what aborts ---- */

static void drop_free(void)
{
    keel_lock_drop(&lock);
}

static void misuse_is_asserted_with_the_name_of_who_did_it(void **state)
{
    (void)state;
    assert_aborts(drop_free, "keel_lock_drop(0x");
}

/* ---- condition ---- */

static struct keel_cond cond;
static int value;

static bool value_is_3(void *arg)
{
    (void)arg;
    return value == 3;
}

static int wait_for_3(void *deadline)
{
    int rc;

    keel_lock_hold(&lock);
    rc = keel_cond_wait_for(&cond, &lock, value_is_3, NULL,
                            *(keel_ns *)deadline);
    assert_true(lock.held);
    keel_lock_drop(&lock);
    return rc;
}

CO_TEST(a_condition_is_waited_for_until_it_holds)
{
    keel_ns forever = KEEL_FOREVER, soon = keel_after(2 * KEEL_MS);
    struct keel_co *co[3];

    value = 0;
    keel_cond_init(&cond);
    co[0] = test_spawn(wait_for_3, &forever);
    co[1] = test_spawn(wait_for_3, &forever);
    co[2] = test_spawn(wait_for_3, &soon);
    keel_yield();
    /* One total deadline, however often it is woken in vain. */
    while (keel_join(co[2], keel_after(KEEL_MS / 4), NULL) == -ETIMEDOUT)
        keel_cond_broadcast(&cond);
    keel_lock_hold(&lock);
    value = 3;
    keel_lock_drop(&lock);
    keel_cond_signal(&cond);
    assert_int_equal(test_join(co[0]), 0);
    keel_cond_broadcast(&cond);
    assert_int_equal(test_join(co[1]), 0);
    keel_cond_fini(&cond);
    return 0;
}

static int wait_once(void *arg)
{
    int rc;

    (void)arg;
    keel_lock_hold(&lock);
    rc = keel_cond_wait(&cond, &lock, KEEL_FOREVER);
    assert_true(lock.held);
    keel_lock_drop(&lock);
    return rc;
}

CO_TEST(a_signal_wakes_one_and_a_cancelled_one_does_not_swallow_it)
{
    struct keel_co *first = test_spawn(wait_once, NULL);
    struct keel_co *second = test_spawn(wait_once, NULL);

    keel_yield();
    keel_cancel(first);
    keel_cond_signal(&cond);
    assert_int_equal(test_join(first), -ECANCELED);
    assert_int_equal(test_join(second), 0);
    keel_cond_fini(&cond);
    return 0;
}

/* ---- event ---- */

static int wait_event(void *event)
{
    return keel_event_wait(event, KEEL_FOREVER);
}

CO_TEST(an_event_wakes_all_and_stays_set)
{
    struct keel_event e;
    struct keel_co *co[3];

    keel_event_init(&e);
    assert_false(keel_event_is_set(&e));
    for (int i = 0; i < 3; i++)
        co[i] = test_spawn(wait_event, &e);
    keel_yield();
    keel_event_set(&e);
    keel_event_clear(&e); /* who was woken stays woken */
    for (int i = 0; i < 3; i++)
        assert_int_equal(test_join(co[i]), 0);
    assert_int_equal(keel_event_wait(&e, KEEL_NOW), -ETIMEDOUT);
    keel_event_set(&e);
    assert_int_equal(keel_event_wait(&e, KEEL_NOW), 0);
    keel_event_fini(&e);
    return 0;
}

/* ---- semaphore ---- */

static int take_one(void *s)
{
    return keel_semaphore_take(s, KEEL_FOREVER);
}

CO_TEST(a_semaphore_lets_as_many_in_as_it_counts)
{
    struct keel_semaphore s;
    struct keel_co *co;

    keel_semaphore_init(&s, 2, 2);
    assert_int_equal(keel_semaphore_take(&s, KEEL_NOW), 0);
    assert_int_equal(keel_semaphore_take(&s, KEEL_NOW), 0);
    assert_int_equal(keel_semaphore_take(&s, KEEL_NOW), -ETIMEDOUT);
    co = test_spawn(take_one, &s);
    keel_yield();
    keel_semaphore_give(&s);
    assert_int_equal(test_join(co), 0);
    keel_semaphore_give(&s);
    keel_semaphore_give(&s);
    keel_semaphore_fini(&s);
    return 0;
}

/* ---- races: loops and threads, with deadlines and cancels ---- */

enum { LOOPS = 3, COS = 4, ROUNDS = 1500 };
static struct keel_semaphore gate;
static long guarded_count; /* under `lock` */
static _Atomic long taken;
static _Atomic int inside;

static int contend(void *arg)
{
    keel_ns span = (intptr_t)arg % 3 ? 20 * KEEL_US : 2 * KEEL_US;

    for (int i = 0; i < ROUNDS; i++) {
        int rc = keel_lock_take(&lock, i % 2 ? KEEL_FOREVER : keel_after(span));

        if (rc == -ECANCELED)
            return rc;
        if (rc == 0) {
            guarded_count++;
            keel_lock_drop(&lock);
            atomic_fetch_add(&taken, 1);
        }
        rc =
            keel_semaphore_take(&gate, i % 3 ? KEEL_FOREVER : keel_after(span));
        if (rc == -ECANCELED)
            return rc;
        if (rc == 0) {
            assert_true(atomic_fetch_add(&inside, 1) < 2);
            if (i % 8 == 0)
                keel_yield();
            atomic_fetch_sub(&inside, 1);
            keel_semaphore_give(&gate);
        }
    }
    return 0;
}

static void *contend_thread(void *arg)
{
    assert_int_equal(contend(arg), 0);
    return NULL;
}

static void wake_deadline_and_cancel_race_and_nothing_is_lost(void **state)
{
    struct keel_loop *loop[LOOPS];
    struct keel_co *co[LOOPS * COS];
    pthread_t t[3];

    (void)state;
    guarded_count = 0;
    taken = 0;
    keel_semaphore_init(&gate, 2, 2);
    for (int i = 0; i < LOOPS; i++)
        assert_int_equal(keel_loop_start("locks", &loop[i]), 0);
    for (int i = 0; i < LOOPS * COS; i++) {
        struct keel_spawn how = {.loop = loop[i % LOOPS]};

        assert_int_equal(keel_spawn(&how, contend, (void *)(intptr_t)i, &co[i]),
                         0);
    }
    for (int i = 0; i < 3; i++)
        assert_int_equal(
            pthread_create(&t[i], NULL, contend_thread, (void *)(intptr_t)i),
            0);
    for (int i = 0; i < LOOPS * COS; i++) {
        if (i % 4 == 3)
            keel_cancel(co[i]);
        test_join(co[i]);
    }
    for (int i = 0; i < 3; i++)
        pthread_join(t[i], NULL);
    for (int i = 0; i < LOOPS; i++)
        keel_loop_stop(loop[i]);
    assert_int_equal(guarded_count, taken);
    assert_int_equal(gate.count, 2);
    keel_lock_fini(&lock);
    keel_semaphore_fini(&gate);
}

CO_TEST(giving_beyond_the_bound_is_an_error_and_changes_nothing)
{
    struct keel_semaphore s;

    keel_semaphore_init(&s, 1, 2);
    assert_int_equal(keel_semaphore_give(&s), 0);
    assert_int_equal(keel_semaphore_give(&s), -EOVERFLOW);
    assert_int_equal(keel_semaphore_take(&s, KEEL_NOW), 0);
    assert_int_equal(keel_semaphore_take(&s, KEEL_NOW), 0);
    assert_int_equal(keel_semaphore_take(&s, KEEL_NOW), -ETIMEDOUT);
    return 0;
}

int main(void)
{
    /* What forks comes first: TSan's fibers do not survive it. */
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(misuse_is_asserted_with_the_name_of_who_did_it),
        cmocka_unit_test(a_lock_is_held_by_one_and_dropped_by_any),
        cmocka_unit_test(take_can_be_cancelled_and_hold_cannot),
        cmocka_unit_test(a_guard_drops_at_the_end_of_its_scope),
        cmocka_unit_test(a_condition_is_waited_for_until_it_holds),
        cmocka_unit_test(
            a_signal_wakes_one_and_a_cancelled_one_does_not_swallow_it),
        cmocka_unit_test(an_event_wakes_all_and_stays_set),
        cmocka_unit_test(a_semaphore_lets_as_many_in_as_it_counts),
        cmocka_unit_test(wake_deadline_and_cancel_race_and_nothing_is_lost),
        cmocka_unit_test(
            giving_beyond_the_bound_is_an_error_and_changes_nothing),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
