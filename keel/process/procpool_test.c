/* SPDX-License-Identifier: MIT */
#include <keel/procpool.h>

#include "shtest.h"

#include <stdio.h>

#include <keel/thread.h>

/* ---- tasks ---- */

KEEL_TASK(square)
{
    int n = *(const int *)in;

    *(int *)out = n * n;
    *ret_size = sizeof(int);
    return n < 0 ? n : 0;
}

KEEL_TASK(reverse)
{
    for (size_t i = 0; i < size; i++)
        ((char *)out)[i] = ((const char *)in)[size - 1 - i];
    *ret_size = size;
    return (int)room;
}

/* Sleeps as many milliseconds as its input says. */
KEEL_TASK(naps)
{
    usleep(*(const unsigned *)in * 1000);
    return 0;
}

/* Tells that it has begun. */
KEEL_TASK(naps_aloud)
{
    kill(keel_process_parent(), SIGUSR1);
    return naps(in, size, out, room, ret_size);
}

KEEL_TASK(dies)
{
    raise(*(const int *)in);
    return 0;
}

KEEL_TASK(dies_late)
{
    usleep(50 * 1000);
    raise(*(const int *)in);
    return 0;
}

KEEL_TASK(leaves)
{
    _exit(3);
    return 0;
}

KEEL_TASK(who)
{
    *(pid_t *)out = getpid();
    *ret_size = sizeof(pid_t);
    return 0;
}

static int base;
KEEL_TASK(sets_base)
{
    base = *(const int *)in;
    return 0;
}
KEEL_TASK(adds_base)
{
    *(int *)out = base + *(const int *)in;
    *ret_size = sizeof(int);
    return 0;
}
KEEL_TASK(fails)
{
    return -EACCES;
}

/* ---- tests ---- */

static struct keel_procpool *pool(unsigned workers, size_t tasks)
{
    struct keel_procpool *p = NULL;

    assert_int_equal(
        keel_procpool_new(
            &(struct keel_procpool_how){.workers = workers, .tasks = tasks},
            &p),
        0);
    return p;
}

static struct keel_proctask submit(struct keel_procpool *p, const char *task,
                                   int n)
{
    struct keel_proctask t = {0};

    assert_int_equal(
        keel_procpool_submit(p, task, &n, sizeof(n), KEEL_FOREVER, SOON, &t),
        0);
    return t;
}

static struct keel_proctask submit_begun(struct keel_procpool *p, int n)
{
    struct keel_proctask t = submit(p, "naps_aloud", n);
    sigset_t set;
    int got;

    sigemptyset(&set);
    sigaddset(&set, SIGUSR1);
    assert_int_equal(sigwait(&set, &got), 0);
    return t;
}

static struct keel_proctask_end take(struct keel_procpool *p,
                                     struct keel_proctask t, int *out)
{
    struct keel_proctask_end end = {0};

    assert_int_equal(keel_procpool_result(p, t, out, sizeof(*out), SOON, &end),
                     0);
    return end;
}

static void results_come_back(void **state)
{
    keel_auto(procpool) struct keel_procpool *p = pool(2, 64);
    struct keel_proctask t[50], gone;
    struct keel_proctask_end end;
    char text[8] = "";
    int n = 0;

    (void)state;
    for (int i = 0; i < 50; i++)
        t[i] = submit(p, "square", i);
    for (int i = 49; i >= 0; i--) {
        end = take(p, t[i], &n);
        assert_int_equal(end.result, 0);
        assert_int_equal(end.size, sizeof(int));
        assert_int_equal(n, i * i);
    }
    assert_int_equal(
        keel_procpool_submit(p, "reverse", "abc", 3, KEEL_FOREVER, SOON, &gone),
        0);
    assert_int_equal(keel_procpool_result(p, gone, text, 2, SOON, &end), 0);
    assert_string_equal(text, "cb"); /* no more than there is room */
    assert_int_equal(end.size, 3);
    assert_int_equal(end.result, 64);
    /* taken once */
    assert_int_equal(keel_procpool_result(p, gone, text, 2, SOON, &end),
                     -EINVAL);
    end = take(p, submit(p, "square", -5), &n);
    assert_int_equal(end.result, -5);
}

/* Each wake is of one: those who sleep on must still be seen. */
static void a_sleeping_worker_is_woken_while_others_are_busy(void **state)
{
    struct keel_procpool *p = pool(4, 0);
    struct keel_proctask busy[3];
    struct keel_proctask_end end;
    int out = 0, n = 5;

    (void)state;
    for (int i = 0; i < 3; i++) {
        struct keel_proctask t;

        busy[i] = submit_begun(p, 60000);
        assert_int_equal(keel_procpool_submit(p, "square", &n, sizeof(n),
                                              KEEL_FOREVER, SOON, &t),
                         0);
        assert_int_equal(keel_procpool_result(p, t, &out, sizeof(out),
                                              keel_after(700 * KEEL_MS), &end),
                         0);
        assert_int_equal(out, 25);
    }
    keel_procpool_terminate(p);
    for (int i = 0; i < 3; i++)
        assert_int_equal(take(p, busy[i], &out).result, -ECANCELED);
    keel_procpool_free(p);
}

/* Among short tasks, of which a worker takes several at once. */
static void a_long_task_keeps_no_other_waiting(void **state)
{
    struct keel_procpool *p = pool(2, 0);
    struct keel_proctask t[200], before[200];
    struct keel_proctask_end end;
    int out = 0, n = 3;

    (void)state;
    for (int round = 0; round < 5; round++) {
        for (int i = 0; i < 200; i++)
            before[i] = submit(p, "square", i);
        t[0] = submit(p, "naps", 60000);
        for (int i = 1; i < 200; i++)
            t[i] = submit(p, "square", n);
        for (int i = 0; i < 200; i++)
            assert_int_equal(take(p, before[i], &out).result, 0);
        for (int i = 1; i < 200; i++) {
            assert_int_equal(take(p, t[i], &out).result, 0);
            assert_int_equal(out, 9);
        }
        assert_int_equal(keel_procpool_result(p, t[0], NULL, 0, KEEL_NOW, &end),
                         -ETIMEDOUT);
        if (round < 4) { /* one worker is left; make it two */
            keel_procpool_free(p);
            p = pool(2, 0);
        }
    }
    keel_procpool_free(p);
}

/* What is cancelled leaves a hint behind. */
static void hints_out_of_date_do_not_fill_the_pool(void **state)
{
    struct keel_procpool *p = pool(1, 4);
    struct keel_proctask busy, t;
    pid_t worker = 0;
    int out = 0;

    (void)state;
    assert_int_equal(take(p, submit(p, "who", 0), &worker).result, 0);
    busy = submit_begun(p, 60000);
    for (int i = 0; i < 100; i++) {
        t = submit(p, "square", i);
        assert_true(keel_procpool_cancel(p, t));
        assert_int_equal(take(p, t, &out).result, -ECANCELED);
    }
    t = submit(p, "square", 6);
    assert_int_equal(kill(worker, SIGKILL), 0);
    assert_int_equal(take(p, busy, &out).result, -EOWNERDEAD);
    assert_int_equal(take(p, t, &out).result, 0);
    assert_int_equal(out, 36);
    keel_procpool_free(p);
}

static void what_is_wrong_is_refused(void **state)
{
    keel_auto(procpool) struct keel_procpool *p = pool(1, 2), *q = NULL;
    struct keel_proctask t, u, v;
    char big[65] = "";
    int n;

    (void)state;
    assert_int_equal(
        keel_procpool_submit(p, "nobody", NULL, 0, KEEL_FOREVER, SOON, &t),
        -ENOENT);
    assert_int_equal(
        keel_procpool_submit(p, "square", big, 65, KEEL_FOREVER, SOON, &t),
        -E2BIG);
    assert_int_equal(
        keel_procpool_new(&(struct keel_procpool_how){.workers = 257}, &q),
        -EINVAL);
    assert_int_equal(
        keel_procpool_new(&(struct keel_procpool_how){.initializer = "nobody"},
                          &q),
        -ENOENT);
    /* no more in flight than there are places */
    t = submit(p, "naps", 20);
    u = submit(p, "square", 3);
    assert_int_equal(
        keel_procpool_submit(p, "square", &n, 4, KEEL_FOREVER, KEEL_NOW, &v),
        -ETIMEDOUT);
    take(p, t, &n);
    take(p, u, &n);
    assert_int_equal(n, 9);
}

static void only_the_task_of_a_dead_worker_fails(void **state)
{
    enum { COUNT = 300 };
    keel_auto(procpool) struct keel_procpool *p = pool(3, 512);
    struct keel_proctask t[COUNT];
    int dead = 0;

    (void)state;
    for (int i = 0; i < COUNT; i++)
        t[i] = i % 30 == 7    ? submit(p, "dies", SIGUSR2)
               : i % 30 == 20 ? submit(p, "leaves", 0)
                              : submit(p, "square", i);
    for (int i = 0; i < COUNT; i++) {
        int n = -1;
        struct keel_proctask_end end = take(p, t[i], &n);

        if (i % 30 == 7 || i % 30 == 20) {
            assert_int_equal(end.result, -EOWNERDEAD);
            assert_int_equal(end.signal, i % 30 == 7 ? SIGUSR2 : 0);
            assert_true(end.usage.ru_maxrss > 0);
            dead++;
        } else {
            assert_int_equal(end.result, 0);
            assert_int_equal(n, i * i);
        }
    }
    assert_int_equal(dead, 20);
    /* A task ends before its worker is replaced. */
    while (keel_procpool_replaced(p) < 20)
        keel_sleep(keel_after(KEEL_MS));
}

static void workers_killed_from_outside_are_replaced(void **state)
{
    enum { LAPS = 60 };
    keel_auto(procpool) struct keel_procpool *p = pool(3, 512);
    int failed = 0, done = 0;

    (void)state;
    for (int lap = 0; lap < LAPS; lap++) {
        struct keel_proctask t[200], victim = submit(p, "who", 0);
        pid_t pid = 0;

        for (int i = 0; i < 200; i++)
            t[i] = submit(p, "square", i);
        if (take(p, victim, &pid).result == 0)
            kill(pid, SIGKILL);
        for (int i = 0; i < 200; i++) {
            int n = -1;
            struct keel_proctask_end end = take(p, t[i], &n);

            if (end.result == 0) {
                assert_int_equal(n, i * i);
                done++;
            } else {
                assert_int_equal(end.result, -EOWNERDEAD);
                assert_int_equal(end.signal, SIGKILL);
                failed++;
            }
        }
    }
    assert_int_equal(done + failed, LAPS * 200);
    assert_true(failed <= LAPS);
}

static void a_limit_stops_the_task_and_no_other(void **state)
{
    keel_auto(procpool) struct keel_procpool *p = pool(1, 16);
    struct keel_proctask slow, queued, late;
    struct keel_proctask_end end;
    int long_time = 60000, n = 4;

    (void)state;
    assert_int_equal(keel_procpool_submit(p, "naps", &long_time, 4,
                                          keel_after(30 * KEEL_MS), SOON,
                                          &slow),
                     0);
    /* one whose limit comes before it begins, and one that just waits */
    assert_int_equal(keel_procpool_submit(p, "square", &n, 4,
                                          keel_after(10 * KEEL_MS), SOON,
                                          &late),
                     0);
    queued = submit(p, "square", 6);
    end = take(p, late, &n);
    assert_int_equal(end.result, -ETIMEDOUT);
    assert_int_equal(end.signal, 0);
    end = take(p, slow, &n);
    assert_int_equal(end.result, -ETIMEDOUT);
    assert_int_equal(end.signal, SIGKILL);
    assert_int_equal(take(p, queued, &n).result, 0);
    assert_int_equal(n, 36);
}

/* Processor time of this process, all its threads. */
static keel_ns cpu_now(void)
{
    struct timespec t;

    clock_gettime(CLOCK_PROCESS_CPUTIME_ID, &t);
    return (keel_ns)t.tv_sec * KEEL_SECOND + t.tv_nsec;
}

static void a_pool_that_waits_for_a_limit_uses_no_processor(void **state)
{
    keel_auto(procpool) struct keel_procpool *p = pool(1, 16);
    unsigned ms = 400;
    int nothing;
    struct keel_proctask t = {0};
    keel_ns before;

    (void)state;
    take(p, submit(p, "naps", 0), &nothing); /* all have started */
    before = cpu_now();
    assert_int_equal(keel_procpool_submit(p, "naps", &ms, sizeof(ms),
                                          keel_after(3600 * KEEL_SECOND), SOON,
                                          &t),
                     0);
    assert_int_equal(take(p, t, &nothing).result, 0);
    assert_true(cpu_now() - before < 100 * KEEL_MS);
}

static void deaths_cost_little(void **state)
{
    enum { COUNT = 20 };
    keel_auto(procpool) struct keel_procpool *p = pool(2, 16);
    struct keel_proctask t[COUNT / 2];
    keel_ns before = cpu_now();
    int nothing;

    (void)state;
    for (int lap = 0; lap < 2; lap++) {
        for (int i = 0; i < COUNT / 2; i++) {
            int signal = SIGKILL;

            assert_int_equal(keel_procpool_submit(
                                 p, "dies_late", &signal, sizeof(signal),
                                 keel_after(3600 * KEEL_SECOND), SOON, &t[i]),
                             0);
        }
        for (int i = 0; i < COUNT / 2; i++)
            assert_int_equal(take(p, t[i], &nothing).result, -EOWNERDEAD);
    }
    assert_true(cpu_now() - before < COUNT * 10 * KEEL_MS);
}

static void cancel_only_before_it_begins(void **state)
{
    keel_auto(procpool) struct keel_procpool *p = pool(1, 16);
    struct keel_proctask running = submit_begun(p, 50), next;
    int n = 0;

    (void)state;
    next = submit(p, "square", 2);
    assert_false(keel_procpool_cancel(p, running));
    assert_true(keel_procpool_cancel(p, next));
    assert_true(keel_procpool_done(p, next));
    assert_int_equal(take(p, next, &n).result, -ECANCELED);
    /* its place is used again while its number is still in the queue */
    next = submit(p, "square", 5);
    assert_int_equal(take(p, next, &n).result, 0);
    assert_int_equal(n, 25);
    assert_int_equal(take(p, running, &n).result, 0);
    assert_false(keel_procpool_cancel(p, running));
}

static void map_is_ordered_and_travels_in_chunks(void **state)
{
    enum { COUNT = 1000 };
    keel_auto(procpool) struct keel_procpool *p = pool(3, 8);
    static int in[COUNT], out[COUNT];
    static const size_t chunks[] = {0, 1, 7, 16};

    (void)state;
    for (int i = 0; i < COUNT; i++)
        in[i] = i;
    for (size_t c = 0; c < 4; c++) {
        memset(out, -1, sizeof(out));
        assert_int_equal(keel_procpool_map(p, "square", in, 4, COUNT, out, 4,
                                           chunks[c], SOON),
                         0);
        for (int i = 0; i < COUNT; i++)
            assert_int_equal(out[i], i * i);
    }
    in[500] = -7;
    in[700] = -8;
    assert_int_equal(
        keel_procpool_map(p, "square", in, 4, COUNT, out, 4, 0, SOON), -7);
    assert_int_equal(out[999], 999 * 999);
    assert_int_equal(
        keel_procpool_map(p, "square", in, 4, COUNT, out, 4, 17, SOON), -E2BIG);
    assert_int_equal(keel_procpool_map(p, "square", in, 4, 0, out, 4, 0, SOON),
                     0);
}

static void the_deadline_of_map_counts_from_the_call(void **state)
{
    keel_auto(procpool) struct keel_procpool *p = pool(2, 64);
    unsigned naps[40];
    keel_ns began = keel_now();
    int n = 0;

    (void)state;
    for (int i = 0; i < 40; i++)
        naps[i] = 1000;
    assert_int_equal(keel_procpool_map(p, "naps", naps, 4, 40, NULL, 0, 1,
                                       keel_after(50 * KEEL_MS)),
                     -ETIMEDOUT);
    assert_true(keel_now() - began < 15 * KEEL_SECOND);
    assert_int_equal(take(p, submit(p, "square", 3), &n).result, 0);
    assert_int_equal(n, 9);
}

static void shutdown_runs_what_is_pending_and_takes_no_more(void **state)
{
    keel_auto(procpool) struct keel_procpool *p = pool(2, 64);
    struct keel_proctask t[20], u;
    int n = 0;

    (void)state;
    for (int i = 0; i < 20; i++)
        t[i] = submit(p, i < 2 ? "naps" : "square", 20);
    assert_int_equal(keel_procpool_shutdown(p, false, KEEL_NOW), -ETIMEDOUT);
    assert_int_equal(
        keel_procpool_submit(p, "square", &n, 4, KEEL_FOREVER, SOON, &u),
        -EPIPE);
    for (int i = 0; i < 20; i++)
        assert_int_equal(take(p, t[i], &n).result, 0);
    assert_int_equal(keel_procpool_shutdown(p, false, SOON), 0);
    assert_int_equal(keel_procpool_size(p), 0);
}

static void shutdown_can_cancel_what_has_not_begun(void **state)
{
    keel_auto(procpool) struct keel_procpool *p = pool(1, 64);
    struct keel_proctask first = submit_begun(p, 60), t[10];
    int n = 0;

    (void)state;
    for (int i = 0; i < 10; i++)
        t[i] = submit(p, "square", i);
    assert_int_equal(keel_procpool_shutdown(p, true, SOON), 0);
    assert_int_equal(take(p, first, &n).result, 0);
    for (int i = 0; i < 10; i++)
        assert_int_equal(take(p, t[i], &n).result, -ECANCELED);
}

static void terminate_ends_what_runs(void **state)
{
    keel_auto(procpool) struct keel_procpool *p = pool(2, 64);
    struct keel_proctask t[10];
    int n = 0;

    (void)state;
    for (int i = 0; i < 10; i++)
        t[i] = submit(p, "naps", 60000);
    keel_sleep(keel_after(10 * KEEL_MS));
    keel_procpool_terminate(p);
    for (int i = 0; i < 10; i++)
        assert_int_equal(take(p, t[i], &n).result, -ECANCELED);
    assert_int_equal(keel_procpool_shutdown(p, false, SOON), 0);
}

static void a_worker_is_replaced_after_its_share(void **state)
{
    keel_auto(procpool) struct keel_procpool *p = NULL;
    pid_t pid = 0, last = 0;
    int changes = 0;

    (void)state;
    assert_int_equal(
        keel_procpool_new(
            &(struct keel_procpool_how){.workers = 1, .per_child = 3}, &p),
        0);
    for (int i = 0; i < 12; i++) {
        assert_int_equal(take(p, submit(p, "who", 0), &pid).result, 0);
        changes += pid != last;
        last = pid;
    }
    assert_int_equal(changes, 4);
}

static void the_initializer_runs_in_each_worker(void **state)
{
    keel_auto(procpool) struct keel_procpool *p = NULL;
    int n = 100;

    (void)state;
    assert_int_equal(keel_procpool_new(
                         &(struct keel_procpool_how){.workers = 2,
                                                     .per_child = 1,
                                                     .initializer = "sets_base",
                                                     .arg = &n,
                                                     .arg_size = sizeof(n)},
                         &p),
                     0);
    for (int i = 0; i < 6; i++) {
        assert_int_equal(take(p, submit(p, "adds_base", i), &n).result, 0);
        assert_int_equal(n, 100 + i);
    }
}

static void a_failing_initializer_breaks_the_pool(void **state)
{
    static const char *const how[] = {"fails", "leaves"};

    (void)state;
    for (int i = 0; i < 2; i++) {
        keel_auto(procpool) struct keel_procpool *p = NULL;
        struct keel_proctask t;
        int n = 0, rc;

        assert_int_equal(keel_procpool_new(
                             &(struct keel_procpool_how){.workers = 2,
                                                         .initializer = how[i]},
                             &p),
                         0);
        while ((rc = keel_procpool_submit(p, "square", &n, 4, KEEL_FOREVER,
                                          SOON, &t)) == 0)
            assert_int_equal(take(p, t, &n).result, -ENOTRECOVERABLE);
        assert_int_equal(rc, -ENOTRECOVERABLE);
    }
}

static struct keel_procpool *shared;
static int uses(void *arg)
{
    for (int i = 0; i < 200; i++) {
        int n = 0;

        if (take(shared, submit(shared, "square", i), &n).result || n != i * i)
            return -1;
    }
    return arg != NULL;
}

CO_TEST(coroutines_and_threads_use_it_at_the_same_time)
{
    struct keel_co *co[8];
    struct keel_thread *t[2];
    int result = -1;

    shared = pool(2, 4);
    for (int i = 0; i < 2; i++)
        assert_int_equal(keel_thread_start("user", uses, NULL, &t[i]), 0);
    for (int i = 0; i < 8; i++)
        co[i] = test_spawn(uses, NULL);
    for (int i = 0; i < 8; i++)
        assert_int_equal(test_join(co[i]), 0);
    for (int i = 0; i < 2; i++) {
        assert_int_equal(keel_thread_join(t[i], SOON, &result), 0);
        assert_int_equal(result, 0);
    }
    keel_procpool_free(shared);
    return 0;
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(results_come_back),
        cmocka_unit_test(a_sleeping_worker_is_woken_while_others_are_busy),
        cmocka_unit_test(a_long_task_keeps_no_other_waiting),
        cmocka_unit_test(hints_out_of_date_do_not_fill_the_pool),
        cmocka_unit_test(what_is_wrong_is_refused),
        cmocka_unit_test(only_the_task_of_a_dead_worker_fails),
        cmocka_unit_test(workers_killed_from_outside_are_replaced),
        cmocka_unit_test(a_limit_stops_the_task_and_no_other),
        cmocka_unit_test(a_pool_that_waits_for_a_limit_uses_no_processor),
        cmocka_unit_test(deaths_cost_little),
        cmocka_unit_test(cancel_only_before_it_begins),
        cmocka_unit_test(map_is_ordered_and_travels_in_chunks),
        cmocka_unit_test(the_deadline_of_map_counts_from_the_call),
        cmocka_unit_test(shutdown_runs_what_is_pending_and_takes_no_more),
        cmocka_unit_test(shutdown_can_cancel_what_has_not_begun),
        cmocka_unit_test(terminate_ends_what_runs),
        cmocka_unit_test(a_worker_is_replaced_after_its_share),
        cmocka_unit_test(the_initializer_runs_in_each_worker),
        cmocka_unit_test(a_failing_initializer_breaks_the_pool),
        cmocka_unit_test(coroutines_and_threads_use_it_at_the_same_time),
    };

    sigset_t set;

    sigemptyset(&set);
    sigaddset(&set, SIGUSR1);
    sigprocmask(SIG_BLOCK, &set, NULL);
    alarm(120);
    return cmocka_run_group_tests(tests, NULL, NULL);
}
