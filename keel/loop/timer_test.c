/* SPDX-License-Identifier: MIT */
#include <keel/thread.h>

#include "test/test.h"

#include <keel/lock.h>

#include "test/fault.h"

/* Each test in a coroutine and in a plain thread: `both` runs it so. */
static void both(int (*body)(void *arg))
{
    assert_int_equal(keel_run(body, NULL), 0);
    assert_int_equal(body(NULL), 0);
}

static _Atomic int rung;
static struct keel_event leave;

static void ring(void *arg)
{
    rung += *(int *)arg;
}

static void ring_long(void *arg)
{
    ring(arg);
    keel_event_wait(&leave, KEEL_FOREVER);
}

static int rings(void *arg)
{
    keel_auto(timer) struct keel_timer *t = NULL;
    keel_ns at = keel_after(5 * KEEL_MS);
    int one = 1;

    (void)arg;
    rung = 0;
    assert_int_equal(keel_timer_start(at, ring, &one, &t), 0);
    assert_int_equal(keel_timer_join(t, KEEL_FOREVER), 0);
    assert_true(keel_now() >= at);
    assert_int_equal(rung, 1);
    assert_false(keel_timer_cancel(t));
    assert_int_equal(keel_timer_join(t, KEEL_NOW), 0);
    return 0;
}

static void a_timer_rings_once_at_its_time(void **state)
{
    (void)state;
    both(rings);
}

static int cancelled_in_time(void *arg)
{
    keel_auto(timer) struct keel_timer *t = NULL;
    int one = 1;

    (void)arg;
    rung = 0;
    assert_int_equal(keel_timer_start(KEEL_FOREVER, ring, &one, &t), 0);
    assert_int_equal(keel_timer_join(t, KEEL_NOW), -ETIMEDOUT);
    assert_true(keel_timer_cancel(t));
    assert_false(keel_timer_cancel(t));
    assert_int_equal(keel_timer_join(t, KEEL_FOREVER), 0);
    assert_int_equal(rung, 0);
    return 0;
}

static void a_timer_cancelled_in_time_does_not_ring(void **state)
{
    (void)state;
    both(cancelled_in_time);
}

static int cancelled_late(void *arg)
{
    keel_auto(timer) struct keel_timer *t = NULL;
    int one = 1;

    (void)arg;
    rung = 0;
    keel_event_init(&leave);
    assert_int_equal(keel_timer_start(KEEL_NOW, ring_long, &one, &t), 0);
    while (rung == 0)
        keel_yield();
    assert_false(keel_timer_cancel(t));
    assert_int_equal(keel_timer_join(t, KEEL_NOW), -ETIMEDOUT);
    keel_event_set(&leave);
    assert_int_equal(keel_timer_join(t, KEEL_FOREVER), 0);
    return 0;
}

static void a_cancel_while_it_rings_says_so(void **state)
{
    (void)state;
    both(cancelled_late);
}

static struct keel_timer *itself;
static int joined;

static void join_itself(void *arg)
{
    keel_event_wait(arg, KEEL_FOREVER); /* the handle is written */
    joined = keel_timer_join(itself, KEEL_FOREVER);
}

static int joins_itself(void *arg)
{
    struct keel_event written;

    (void)arg;
    joined = 0;
    keel_event_init(&written);
    assert_int_equal(keel_timer_start(KEEL_NOW, join_itself, &written, &itself),
                     0);
    keel_event_set(&written);
    assert_int_equal(keel_timer_join(itself, KEEL_FOREVER), 0);
    assert_int_equal(joined, -EDEADLK);
    keel_timer_free(itself);
    return 0;
}

static void a_timer_does_not_join_itself(void **state)
{
    (void)state;
    both(joins_itself);
}

static struct keel_timer *left;
static int one = 1;

static int leave_a_timer(void *arg)
{
    (void)arg;
    return keel_timer_start(KEEL_FOREVER, ring, &one, &left);
}

static void a_loop_that_ends_cancels_its_timers(void **state)
{
    (void)state;
    rung = 0;
    assert_int_equal(keel_run(leave_a_timer, NULL), 0);
    assert_int_equal(keel_timer_join(left, KEEL_NOW), 0);
    assert_int_equal(rung, 0);
    keel_timer_free(left);
}

static void start_survives_each_failure(void **state)
{
    struct keel_timer *t = NULL;

    (void)state;
    for (unsigned nth = 1; nth <= 2; nth++) {
        fault_fail_alloc(nth);
        assert_int_equal(keel_timer_start(KEEL_NOW, ring, &one, &t), -ENOMEM);
        assert_true(fault_fired());
    }
    fault_fail(KEEL_OP_THREAD, 1, EAGAIN);
    assert_int_equal(keel_timer_start(KEEL_NOW, ring, &one, &t), -EAGAIN);
    assert_true(fault_fired());
    fault_clear();
    assert_null(t);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(a_timer_rings_once_at_its_time),
        cmocka_unit_test(a_timer_cancelled_in_time_does_not_ring),
        cmocka_unit_test(a_cancel_while_it_rings_says_so),
        cmocka_unit_test(a_timer_does_not_join_itself),
        cmocka_unit_test(a_loop_that_ends_cancels_its_timers),
        cmocka_unit_test(start_survives_each_failure),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
