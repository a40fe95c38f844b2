/* SPDX-License-Identifier: MIT */
/* Programmer's mistakes: each names the call, the object and the coroutine. */
#include <keel/co.h>

#include "test/test_abort.h"

#include <stdio.h>

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

/* ---- what the call refuses: an error, and a line ---- */

static int begin_twice(void)
{
    keel_auto(thread) struct keel_thread *t = NULL;

    if (keel_thread_start("begun", nothing, NULL, &t) < 0)
        return 1;
    return keel_thread_begin(t);
}

static int join_before_the_begin(void)
{
    keel_auto(thread) struct keel_thread *t = NULL;

    if (keel_thread_new(NULL, nothing, NULL, &t) < 0)
        return 1;
    return keel_thread_join(t, KEEL_NOW, NULL);
}

static int join_oneself(void)
{
    return keel_join(keel_current(), KEEL_NOW, NULL);
}

static int joins(void *co)
{
    return keel_join(co, KEEL_FOREVER, NULL);
}

static int join_what_another_joins(void)
{
    static struct keel_event event;
    struct keel_co *co = test_spawn(wait_for, &event), *first;
    int rc;

    first = test_spawn(joins, co);
    keel_yield();
    keel_yield();
    rc = keel_join(co, KEEL_NOW, NULL);
    keel_event_set(&event);
    test_join(first);
    return rc;
}

static struct keel_timer *timer;
static struct keel_event timer_ran;
static int timer_joined;

static void joins_its_timer(void *arg)
{
    (void)arg;
    timer_joined = keel_timer_join(timer, KEEL_FOREVER);
    keel_event_set(&timer_ran);
}

static int join_own_timer(void)
{
    keel_event_init(&timer_ran);
    if (keel_timer_start(KEEL_NOW, joins_its_timer, NULL, &timer) < 0 ||
        keel_event_wait(&timer_ran, KEEL_FOREVER) < 0)
        return 1;
    keel_timer_free(timer);
    return timer_joined;
}

static struct keel_once once = KEEL_ONCE_INIT;

static int begins_again(void *arg)
{
    return keel_once(&once, begins_again, arg, KEEL_FOREVER);
}

static int once_within_itself(void)
{
    return keel_once(&once, begins_again, NULL, KEEL_FOREVER);
}

static int run_within_a_run(void)
{
    return keel_run(nothing, NULL);
}

static int give_what_is_full(void)
{
    static struct keel_semaphore s;

    keel_semaphore_init(&s, 1, 1);
    return keel_semaphore_give(&s);
}

static int one_task_done_too_many(void)
{
    keel_auto(queue) struct keel_queue *q = NULL;

    if (keel_queue_new(1, KEEL_QUEUE_LOCAL, &q) < 0)
        return 1;
    return keel_queue_task_done(q);
}

static const struct refused {
    int (*make)(void);
    int error;
    const char *call, *what, *who;
} refused[] = {
    {begin_twice, -EALREADY, "keel_thread_begin", "it began before", "main"},
    {join_before_the_begin, -ESRCH, "keel_thread_join", "it has not begun",
     "main"},
    {join_oneself, -EDEADLK, "keel_join", "it is the caller itself", "main"},
    {join_what_another_joins, -EINVAL, "keel_join",
     "somebody else joins it already", "main"},
    {join_own_timer, -EDEADLK, "keel_timer_join", "its function is the caller",
     "timer"},
    {once_within_itself, -EDEADLK, "keel_once", "the caller is in its function",
     "main"},
    {run_within_a_run, -EBUSY, "keel_run", "the thread runs a loop already",
     "main"},
    {give_what_is_full, -EOVERFLOW, "keel_semaphore_give", "it is full",
     "main"},
    {one_task_done_too_many, -EINVAL, "keel_queue_task_done",
     "nothing is unfinished", "main"},
};
enum { REFUSED = sizeof(refused) / sizeof(*refused) };

struct trial {
    const struct refused *mistake;
    bool debug;
};

static int tries(void *arg)
{
    const struct trial *t = arg;

    return t->mistake->make() == t->mistake->error ? 0 : 1;
}

/* In a process of its own, which may die of it; its status, and what it said. */
static int try(struct trial t, char *ret_said, size_t room)
{
    int out[2], status;
    size_t n = 0;
    ssize_t got;
    pid_t pid;

    assert_int_equal(pipe(out), 0);
    pid = fork();
    if (pid == 0) {
        dup2(out[1], STDERR_FILENO);
        signal(SIGABRT, SIG_DFL);
        if (t.debug)
            keel_debug_program();
        _exit(keel_run(tries, &t));
    }
    close(out[1]);
    while ((got = read(out[0], ret_said + n, room - 1 - n)) > 0)
        n += (size_t)got;
    ret_said[n] = '\0';
    close(out[0]);
    assert_int_equal(waitpid(pid, &status, 0), pid);
    return status;
}

static void assert_said(const struct refused *m, const char *said)
{
    char call[64], what[128];

    (void)snprintf(call, sizeof(call), "%s(0x", m->call);
    (void)snprintf(what, sizeof(what), "): %s, in '%s'\n", m->what, m->who);
    assert_non_null(strstr(said, call));
    assert_non_null(strstr(said, what));
}

static void mistakes_that_harm_nothing_are_told_and_are_errors(void **state)
{
    (void)state;
    for (size_t i = 0; i < REFUSED; i++) {
        char said[4096];
        int status = try((struct trial){&refused[i], false}, said, sizeof said);

        assert_int_equal(status, 0);
        assert_said(&refused[i], said);
        assert_null(strstr(said, "assertion failed"));
    }
}

static void a_program_of_keel_debug_stops_at_them(void **state)
{
    (void)state;
    for (size_t i = 0; i < REFUSED; i++) {
        char said[4096];
        int status = try((struct trial){&refused[i], true}, said, sizeof said);

        assert_true(WIFSIGNALED(status) && WTERMSIG(status) == SIGABRT);
        assert_said(&refused[i], said);
        assert_non_null(strstr(said, "assertion failed"));
    }
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
        cmocka_unit_test(mistakes_that_harm_nothing_are_told_and_are_errors),
        cmocka_unit_test(a_program_of_keel_debug_stops_at_them),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
