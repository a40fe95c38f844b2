/* SPDX-License-Identifier: MIT */
#include "test/test.h"

#include <keel/lock.h>

static char trace[128];

static void note(const char *what)
{
    strcat(trace, what);
}

static struct keel_co *paused(int (*fn)(void *arg), void *arg)
{
    const struct keel_spawn how = {.name = "paused", .paused = true};
    struct keel_co *co;

    assert_int_equal(keel_spawn(&how, fn, arg, &co), 0);
    return co;
}

static struct keel_co *one, *two, *home;

static int odd(void *arg)
{
    (void)arg;
    note("1 ");
    assert_int_equal(keel_switch(two, NULL, KEEL_FOREVER, NULL), 0);
    note("3 ");
    assert_int_equal(keel_switch(two, NULL, KEEL_FOREVER, NULL), 0);
    return 0;
}

static int even(void *arg)
{
    (void)arg;
    note("2 ");
    assert_int_equal(keel_switch(one, NULL, KEEL_FOREVER, NULL), 0);
    note("4 ");
    assert_int_equal(keel_switch(home, NULL, KEEL_FOREVER, NULL), 0);
    return 0;
}

CO_TEST(two_coroutines_switch_1_2_3_4)
{
    trace[0] = '\0';
    home = keel_current();
    one = paused(odd, NULL);
    two = paused(even, NULL);
    keel_yield();
    assert_string_equal(trace, ""); /* they wait for no turn */
    assert_int_equal(keel_switch(one, NULL, KEEL_FOREVER, NULL), 0);
    assert_string_equal(trace, "1 2 3 4 ");
    /* Each ends when it is switched to again, and we are told. */
    assert_int_equal(keel_switch(one, NULL, KEEL_FOREVER, NULL), 1);
    assert_int_equal(keel_switch(two, NULL, KEEL_FOREVER, NULL), 1);
    assert_int_equal(test_join(one), 0);
    assert_int_equal(test_join(two), 0);
    return 0;
}

static int doubles(void *arg)
{
    void *value = NULL;
    int n = 1;

    (void)arg;
    while (keel_switch(home, &n, KEEL_FOREVER, &value) == 0 && value)
        n = *(int *)value * 2;
    return n;
}

CO_TEST(a_value_goes_along_both_ways)
{
    struct keel_co *co = paused(doubles, NULL);
    int n = 0;
    void *got;

    home = keel_current();
    assert_int_equal(keel_switch(co, &n, KEEL_FOREVER, &got), 0);
    assert_int_equal(*(int *)got, 1);
    for (n = 1; n < 5; n++) {
        assert_int_equal(keel_switch(co, &n, KEEL_FOREVER, &got), 0);
        assert_int_equal(*(int *)got, 2 * n);
    }
    assert_int_equal(keel_switch(home, &n, KEEL_FOREVER, &got), 0);
    assert_ptr_equal(got, &n); /* to oneself: at once */
    assert_int_equal(keel_switch(co, NULL, KEEL_FOREVER, &got), 1);
    assert_int_equal(test_join(co), 8);
    return 0;
}

static int counts_turns(void *arg)
{
    while (!keel_cancelled()) {
        ++*(int *)arg;
        keel_yield();
    }
    return 0;
}

static int answers(void *arg)
{
    (void)arg;
    while (keel_switch(home, NULL, KEEL_FOREVER, NULL) == 0)
        ;
    return 0;
}

CO_TEST(scheduled_ones_get_their_turns_meanwhile)
{
    int turns = 0;
    struct keel_co *scheduled = test_spawn(counts_turns, &turns);
    struct keel_co *co = paused(answers, NULL);

    home = keel_current();
    for (int i = 0; i < 10000; i++)
        assert_int_equal(keel_switch(co, NULL, KEEL_FOREVER, NULL), 0);
    assert_in_range(turns, 20000 / 64 / 2, 20000 / 64 * 2);
    keel_cancel(scheduled);
    keel_cancel(co);
    assert_int_equal(test_join(scheduled), 0);
    assert_int_equal(test_join(co), 0);
    return 0;
}

static int sleeps(void *arg)
{
    return keel_event_wait(arg, KEEL_FOREVER);
}

static int returns(void *arg)
{
    (void)arg;
    return 7;
}

static int switches_to(void *co)
{
    return keel_switch(co, NULL, KEEL_FOREVER, NULL);
}

CO_TEST(only_what_is_stopped_on_this_loop_can_be_switched_to)
{
    struct keel_event event;
    struct keel_co *waits, *ready, *over;
    struct keel_loop *loop;
    struct keel_spawn there = {0};
    int result;

    keel_event_init(&event);
    waits = test_spawn(sleeps, &event);
    over = test_spawn(returns, NULL);
    keel_yield();
    ready = test_spawn(returns, NULL);
    assert_int_equal(switches_to(waits), -EBUSY);
    assert_int_equal(switches_to(ready), -EBUSY);
    assert_int_equal(switches_to(over), -ESRCH);
    assert_int_equal(keel_loop_start("other", &loop), 0);
    there.loop = loop;
    assert_int_equal(keel_spawn(&there, switches_to, waits, &one), 0);
    assert_int_equal(keel_join(one, KEEL_FOREVER, &result), 0);
    assert_int_equal(result, -EXDEV);
    there.paused = true;
    assert_int_equal(keel_spawn(&there, returns, NULL, NULL), -EINVAL);
    keel_loop_stop(loop);
    keel_event_set(&event);
    test_join(waits);
    assert_int_equal(test_join(ready), 7);
    assert_int_equal(test_join(over), 7);
    return 0;
}

CO_TEST(who_has_stopped_can_be_cancelled_and_times_out)
{
    struct keel_co *co, *stopped;

    co = paused(sleeps, &(struct keel_event){0});
    assert_int_equal(keel_switch(co, NULL, KEEL_NOW, NULL), -ETIMEDOUT);
    assert_int_equal(keel_switch(co, NULL, keel_after(KEEL_MS), NULL),
                     -ETIMEDOUT);
    keel_cancel(co);
    assert_int_equal(test_join(co), -ECANCELED);

    co = paused(sleeps, &(struct keel_event){0});
    stopped = test_spawn(switches_to, co);
    keel_yield();
    keel_cancel(stopped);
    assert_int_equal(keel_switch(stopped, NULL, KEEL_FOREVER, NULL), -EBUSY);
    assert_int_equal(test_join(stopped), -ECANCELED);
    keel_cancel(co);
    assert_int_equal(test_join(co), -ECANCELED);
    return 0;
}

CO_TEST(one_that_is_cancelled_before_it_begins_begins_and_is_cancelled)
{
    static struct keel_event never; /* is waited for when we have returned */
    struct keel_co *co = paused(sleeps, &never);

    keel_cancel(co);
    assert_int_equal(test_join(co), -ECANCELED);
    paused(sleeps, &never); /* the loop's end cancels it */
    return 0;
}

static int begins_and_ends(void *co)
{
    static struct keel_event never;
    const struct keel_spawn how = {.paused = true};

    assert_int_equal(keel_spawn(&how, sleeps, &never, co), 0);
    assert_int_equal(
        keel_switch(*(struct keel_co **)co, NULL, keel_after(KEEL_MS), NULL),
        -ETIMEDOUT);
    return 0;
}

CO_TEST(one_whose_starter_has_ended_ends_all_the_same)
{
    static struct keel_event never;
    struct keel_co *co = NULL, *next, *target = paused(sleeps, &never);

    assert_int_equal(test_join(test_spawn(begins_and_ends, &co)), 0);
    /* The starter's handle is another's now, which stops by a switch too and
     * must not be told. */
    next = test_spawn(switches_to, target);
    keel_yield();
    keel_cancel(co);
    assert_int_equal(test_join(co), -ECANCELED);
    assert_int_equal(keel_join(next, KEEL_NOW, NULL), -ETIMEDOUT);
    keel_cancel(next);
    assert_int_equal(test_join(next), -ECANCELED);
    return 0;
}

static int where(void *arg)
{
    *(uintptr_t *)arg = (uintptr_t)__builtin_frame_address(0);
    return 0;
}

CO_TEST(the_stack_of_one_that_ended_is_the_next_one_s)
{
    uintptr_t first = 0, second = 0;
    struct keel_co *ended = test_spawn(where, &first);

    while (!first)
        keel_yield();
    /* At once: it has ended, and nobody has joined it. */
    test_join(test_spawn(where, &second));
    assert_int_equal(first, second);
    test_join(ended);
    return 0;
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(two_coroutines_switch_1_2_3_4),
        cmocka_unit_test(a_value_goes_along_both_ways),
        cmocka_unit_test(scheduled_ones_get_their_turns_meanwhile),
        cmocka_unit_test(only_what_is_stopped_on_this_loop_can_be_switched_to),
        cmocka_unit_test(who_has_stopped_can_be_cancelled_and_times_out),
        cmocka_unit_test(
            one_that_is_cancelled_before_it_begins_begins_and_is_cancelled),
        cmocka_unit_test(one_whose_starter_has_ended_ends_all_the_same),
        cmocka_unit_test(the_stack_of_one_that_ended_is_the_next_one_s),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
