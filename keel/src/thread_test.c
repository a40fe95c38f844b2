/* SPDX-License-Identifier: MIT */
#include <keel/thread.h>

#include <errno.h>
#include <pthread.h>
#include <setjmp.h>
#include <signal.h>
#include <stdarg.h>
#include <stddef.h>
#include <string.h>

#include <cmocka.h>

#include <keel/co.h>
#include <keel/lock.h>

#include "test/fault.h"

struct work {
    struct keel_event *go;
    struct keel_thread *self;
    char name[16];
    sigset_t mask;
    int joined;
};

static int answer(void *arg)
{
    struct work *w = arg;

    pthread_getname_np(pthread_self(), w->name, sizeof w->name);
    pthread_sigmask(SIG_SETMASK, NULL, &w->mask);
    if (w->go)
        keel_event_wait(w->go, KEEL_FOREVER);
    if (w->self)
        w->joined = keel_thread_join(w->self, KEEL_NOW, NULL);
    return 42;
}

static void a_thread_is_joined_with_its_result(void **state)
{
    struct keel_thread *t;
    struct work w = {0};
    int result = 0;

    (void)state;
    assert_int_equal(
        keel_thread_start("a name of many letters", answer, &w, &t), 0);
    assert_int_equal(keel_thread_join(t, KEEL_FOREVER, &result), 0);
    assert_int_equal(result, 42);
    assert_string_equal(w.name, "a name of many ");
    assert_true(sigismember(&w.mask, SIGTERM));
    assert_false(sigismember(&w.mask, SIGSEGV));
    pthread_sigmask(SIG_SETMASK, NULL, &w.mask);
    assert_false(sigismember(&w.mask, SIGTERM));
}

static void a_join_that_times_out_leaves_it_running(void **state)
{
    struct keel_thread *t;
    struct keel_event go;
    struct work w = {.go = &go};

    (void)state;
    keel_event_init(&go);
    assert_int_equal(keel_thread_start("slow", answer, &w, &t), 0);
    assert_int_equal(keel_thread_join(t, KEEL_NOW, NULL), -ETIMEDOUT);
    keel_event_set(&go);
    assert_int_equal(keel_thread_join(t, KEEL_FOREVER, NULL), 0);
    keel_event_fini(&go);
}

static void a_thread_does_not_join_itself(void **state)
{
    struct keel_event go;
    struct work w = {.go = &go};

    (void)state;
    keel_event_init(&go);
    assert_int_equal(keel_thread_start("self", answer, &w, &w.self), 0);
    keel_event_set(&go);
    assert_int_equal(keel_thread_join(w.self, KEEL_FOREVER, NULL), 0);
    assert_int_equal(w.joined, -EDEADLK);
    keel_event_fini(&go);
}

static int opener(void *arg)
{
    keel_event_set(arg);
    return 0;
}

/* The other coroutine can only run, and end the thread, if the join parks. */
static int join_parked(void *arg)
{
    struct keel_event go;
    struct work w = {.go = &go};
    struct keel_thread *t;
    int *result = arg;

    keel_event_init(&go);
    assert_int_equal(keel_thread_start("parked", answer, &w, &t), 0);
    assert_int_equal(keel_spawn(NULL, opener, &go, NULL), 0);
    assert_int_equal(keel_thread_join(t, KEEL_FOREVER, result), 0);
    keel_event_fini(&go);
    return 0;
}

static void a_coroutine_that_joins_parks(void **state)
{
    int result = 0;

    (void)state;
    assert_int_equal(keel_run(join_parked, &result), 0);
    assert_int_equal(result, 42);
}

static void start_fails_cleanly(void **state)
{
    struct keel_thread *t = NULL;
    struct work w = {0};

    (void)state;
    fault_fail(KEEL_OP_THREAD, 1, EAGAIN);
    assert_int_equal(keel_thread_start("none", answer, &w, &t), -EAGAIN);
    assert_true(fault_fired());
    fault_fail_alloc(1);
    assert_int_equal(keel_thread_start("none", answer, &w, &t), -ENOMEM);
    assert_true(fault_fired());
    assert_null(t);
    fault_clear();
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(a_thread_is_joined_with_its_result),
        cmocka_unit_test(a_join_that_times_out_leaves_it_running),
        cmocka_unit_test(a_thread_does_not_join_itself),
        cmocka_unit_test(a_coroutine_that_joins_parks),
        cmocka_unit_test(start_fails_cleanly),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
