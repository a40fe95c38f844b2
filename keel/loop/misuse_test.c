/* SPDX-License-Identifier: MIT */
/* Programmer's mistakes: each names the call, the object and the coroutine. */
#include <keel/co.h>

#include "test/test_abort.h"

#include <keel/future.h>
#include <keel/lock.h>
#include <keel/queue.h>
#include <keel/thread.h>

static int nothing(void *arg)
{
    return arg != NULL;
}

static int wait_for(void *event)
{
    return keel_event_wait(event, KEEL_FOREVER);
}

static void join_twice(void)
{
    struct keel_co *co = test_spawn(nothing, NULL);

    keel_join(co, KEEL_FOREVER, NULL);
    keel_join(co, KEEL_FOREVER, NULL);
}

static void cancel_the_joined(void)
{
    struct keel_co *co = test_spawn(nothing, NULL);

    keel_join(co, KEEL_FOREVER, NULL);
    keel_cancel(co);
}

static void a_handle_used_after_its_join_is_named(void **state)
{
    (void)state;
    assert_aborts(join_twice, "keel_join(0x");
    assert_aborts(join_twice, "): it was joined already, in 'main'");
    assert_aborts(cancel_the_joined, "keel_cancel(0x");
    assert_aborts(cancel_the_joined, "): it was joined already, in 'main'");
}

static int joins_its_group(void *group)
{
    return keel_group_join(group, KEEL_FOREVER);
}

static void join_as_member(void)
{
    struct keel_spawn how = {.name = "main"};

    if (keel_group_new(0, &how.group) < 0)
        return;
    keel_spawn(&how, joins_its_group, how.group, NULL);
    keel_yield();
}

static void stop_own_loop(void)
{
    keel_loop_stop(keel_loop_current());
}

static void a_wait_for_oneself_is_named(void **state)
{
    (void)state;
    assert_aborts(join_as_member, "keel_group_join(0x");
    assert_aborts(join_as_member, "): the caller is one of its members");
    assert_aborts(stop_own_loop, "keel_loop_stop(0x");
    assert_aborts(stop_own_loop, "): the caller runs on it");
}

static void unshield_too_often(void)
{
    keel_shield();
    keel_unshield();
    keel_unshield();
}

static void one_unshield_too_many_is_named(void **state)
{
    (void)state;
    assert_aborts(unshield_too_often, "keel_unshield(0x");
    assert_aborts(unshield_too_often, "): there is no keel_shield before it");
}

static void fini_of_the_held(void)
{
    static struct keel_lock lock = KEEL_LOCK_INIT;

    keel_lock_hold(&lock);
    keel_lock_fini(&lock);
}

static void fini_of_the_awaited(void)
{
    static struct keel_event event;

    test_spawn(wait_for, &event);
    keel_yield();
    keel_event_fini(&event);
}

static int get_one(void *queue)
{
    void *got;

    return keel_queue_get(queue, KEEL_FOREVER, &got);
}

static void free_of_the_awaited(void)
{
    struct keel_queue *q;

    if (keel_queue_new(1, KEEL_QUEUE_LOCAL, &q) < 0)
        return;
    test_spawn(get_one, q);
    keel_yield();
    keel_queue_free(q);
}

static void what_is_in_use_is_not_ended_in_silence(void **state)
{
    (void)state;
    assert_aborts(fini_of_the_held, "keel_lock_fini(0x");
    assert_aborts(fini_of_the_held, "): somebody holds it");
    assert_aborts(fini_of_the_awaited, "keel_event_fini(0x");
    assert_aborts(fini_of_the_awaited, "): somebody waits for it");
    assert_aborts(free_of_the_awaited, "keel_queue_free(0x");
    assert_aborts(free_of_the_awaited, "): somebody waits for it");
}

static void set_twice(void)
{
    struct keel_future *f;

    if (keel_future_new(&f) < 0)
        return;
    keel_future_set(f, 0, NULL);
    keel_future_set(f, 0, NULL);
}

static void put_nothing(void)
{
    struct keel_queue *q;

    if (keel_queue_new(1, KEEL_QUEUE_LOCAL, &q) == 0)
        keel_queue_put(q, NULL, KEEL_NOW);
}

static void what_can_be_done_once_is_not_done_twice(void **state)
{
    (void)state;
    assert_aborts(set_twice, "keel_future_set(0x");
    assert_aborts(set_twice, "): it has its result already");
    assert_aborts(put_nothing, "keel_queue_put(0x");
    assert_aborts(put_nothing, "): the item is NULL");
}

static struct keel_rlock rlock = KEEL_RLOCK_INIT;

static int take_rlock(void *arg)
{
    (void)arg;
    keel_rlock_hold(&rlock);
    return 0;
}

static void drop_as_a_stranger(void)
{
    test_join(test_spawn(take_rlock, NULL));
    keel_rlock_drop(&rlock);
}

static void a_stranger_does_not_drop_an_rlock(void **state)
{
    (void)state;
    assert_aborts(drop_as_a_stranger, "keel_rlock_drop(0x");
    assert_aborts(drop_as_a_stranger,
                  "): the caller is not its owner, in 'main'");
}

static int begin_twice(void *arg)
{
    struct keel_thread *t;

    (void)arg;
    assert_int_equal(keel_thread_new(NULL, nothing, NULL, &t), 0);
    assert_int_equal(keel_thread_begin(t), 0);
    assert_int_equal(keel_thread_begin(t), -EALREADY);
    assert_int_equal(keel_join(keel_current(), KEEL_NOW, NULL), -EDEADLK);
    return keel_thread_join(t, KEEL_FOREVER, NULL);
}

static void mistakes_that_harm_nothing_are_errors(void **state)
{
    (void)state;
    assert_int_equal(keel_run(begin_twice, NULL), 0);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(a_handle_used_after_its_join_is_named),
        cmocka_unit_test(a_wait_for_oneself_is_named),
        cmocka_unit_test(one_unshield_too_many_is_named),
        cmocka_unit_test(what_is_in_use_is_not_ended_in_silence),
        cmocka_unit_test(what_can_be_done_once_is_not_done_twice),
        cmocka_unit_test(a_stranger_does_not_drop_an_rlock),
        cmocka_unit_test(mistakes_that_harm_nothing_are_errors),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
