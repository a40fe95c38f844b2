/* SPDX-License-Identifier: MIT */
/* Deadlock report, watchdog, counters. */
#include <keel/debug.h>

#include "test/test.h"

#include <signal.h>
#include <stdio.h>
#include <sys/wait.h>
#include <unistd.h>

#include <keel/io.h>
#include <keel/lock.h>
#include <keel/process.h>
#include <keel/queue.h>
#include <keel/thread.h>

#include "loop.h"
#include "sanitize.h"

/* ---- a program that ends in a deadlock ---- */

static char text[65536];

static void say_and_end(enum keel_report kind, const char *report, void *arg)
{
    (void)arg;
    if (kind == KEEL_REPORT_DEADLOCK &&
        write(STDOUT_FILENO, report, strlen(report)) < 0)
        _exit(2);
    _exit(0);
}

/* A child that runs `program` until it reports or `seconds` have passed. */
struct child {
    pid_t pid;
    int out;
};

static struct child start(void (*program)(void), int seconds)
{
    struct child c;
    int out[2];

    assert_int_equal(pipe(out), 0);
    c.out = out[0];
    c.pid = fork();
    if (c.pid == 0) {
        dup2(out[1], STDOUT_FILENO);
        close(out[0]);
        close(out[1]);
        signal(SIGALRM, SIG_DFL);
        alarm((unsigned)seconds);
        keel_on_report(say_and_end, NULL);
        program();
        _exit(3);
    }
    close(out[1]);
    return c;
}

/* `text` is what it reported; empty: nothing. */
static void await(struct child c)
{
    size_t n = 0;
    ssize_t got;
    int status;

    while ((got = read(c.out, text + n, sizeof text - 1 - n)) > 0)
        n += (size_t)got;
    text[n] = '\0';
    close(c.out);
    assert_int_equal(waitpid(c.pid, &status, 0), c.pid);
}

static void run_until_report(void (*program)(void))
{
    await(start(program, 60));
}

/* Which adds threads, and has its own mind about those in the child of a fork:
 * they look like strangers. */
static void skip_under_tsan(void)
{
#if defined(KEEL_TSAN)
    skip();
#endif
}

static void assert_said(const char *what)
{
    if (!strstr(text, what))
        fail_msg("'%s' is not in:\n%s", what, text);
}

static struct keel_lock fork_lock[2] = {KEEL_LOCK_INIT, KEEL_LOCK_INIT};
static struct keel_event never;

static int take_both(void *arg)
{
    int first = arg != NULL;

    keel_lock_hold(&fork_lock[first]);
    keel_yield();
    keel_lock_hold(&fork_lock[!first]);
    return 0;
}

static int dine(void *arg)
{
    struct keel_spawn how = {.name = "plato"};
    struct keel_co *plato, *kant;

    (void)arg;
    keel_spawn(&how, take_both, NULL, &plato);
    how.name = "kant";
    keel_spawn(&how, take_both, &never, &kant);
    return keel_join(plato, KEEL_FOREVER, NULL);
}

static void two_locks(void)
{
    keel_run(dine, NULL);
}

static void a_deadlock_is_reported_with_names_locks_and_holders(void **state)
{
    (void)state;
    run_until_report(two_locks);
    assert_said("keel: deadlock: 3 coroutines and 0 threads wait");
    assert_said("'plato' [main] waits: lock 0x");
    assert_said("held by 'kant' [main], for 0.");
    assert_said("held by 'plato' [main], for 0.");
    assert_said("'main' [main] waits: join of 'plato' [main]");
#if !defined(KEEL_ASAN) && !defined(KEEL_TSAN)
    assert_said(", at take_both+0x");
    assert_said(" lock_take+0x");
#endif
}

/* ---- across loops and threads ---- */

static int take_first(void *arg)
{
    (void)arg;
    keel_lock_hold(&fork_lock[0]);
    return 0;
}

static int wait_never(void *arg)
{
    (void)arg;
    return keel_event_wait(&never, KEEL_FOREVER);
}

static int wait_all_over(void *arg)
{
    struct keel_spawn there = {.name = "far"};
    struct keel_thread *thread;
    struct keel_co *co;
    int *stage = arg;

    keel_lock_hold(&fork_lock[0]);
    if (keel_loop_start("outpost", &there.loop) < 0 ||
        keel_spawn(&there, take_first, NULL, &co) < 0 ||
        keel_thread_start("worker", wait_never, NULL, &thread) < 0)
        _exit(4);
    *stage = 1;
    return keel_join(co, KEEL_FOREVER, NULL);
}

static void all_over(void)
{
    int stage = 0;

    keel_run(wait_all_over, &stage);
}

static void it_is_seen_across_loops_and_threads(void **state)
{
    (void)state;
    skip_under_tsan();
    run_until_report(all_over);
    assert_said("keel: deadlock: 2 coroutines and 1 thread wait");
    assert_said("'far' [outpost] waits: lock 0x");
    assert_said("held by 'main' [main]");
    assert_said("thread 'worker' waits: event 0x");
    assert_said("'main' [main] waits: join of 'far' [outpost]");
}

static int take_and_end(void *arg)
{
    (void)arg;
    keel_lock_hold(&fork_lock[0]);
    return 0;
}

static int wait_for_the_dead(void *arg)
{
    struct keel_co *co = test_spawn(take_and_end, NULL);

    (void)arg;
    keel_join(co, KEEL_FOREVER, NULL);
    /* The handle is another's. */
    co = test_spawn(take_first, NULL);
    return keel_join(co, KEEL_FOREVER, NULL);
}

static void dead_owner(void)
{
    keel_run(wait_for_the_dead, NULL);
}

static void
a_holder_that_has_ended_is_not_mistaken_for_its_successor(void **state)
{
    (void)state;
    run_until_report(dead_owner);
    assert_said("held by a coroutine that has ended");
}

static void threads_only(void)
{
    struct keel_thread *t;

    if (keel_thread_start("worker", wait_never, NULL, &t) == 0)
        keel_thread_join(t, KEEL_FOREVER, NULL);
}

static void threads_alone_can_deadlock_too(void **state)
{
    (void)state;
    skip_under_tsan();
    run_until_report(threads_only);
    assert_said("0 coroutines and 2 threads wait");
}

KEEL_PROCESS(pass)
{
    (void)arg;
    return 0;
}

KEEL_PROCESS(linger)
{
    (void)arg;
    pause();
    return 0;
}

static int wait_after_process(void *arg)
{
    struct keel_process *p;

    (void)arg;
    if (keel_process_start("pass", NULL, &p) < 0 ||
        keel_process_join(p, KEEL_FOREVER, NULL) < 0)
        _exit(4);
    keel_process_free(p);
    return wait_never(NULL);
}

static void after_a_process(void)
{
    keel_run(wait_after_process, NULL);
}

static void a_deadlock_is_seen_when_the_processes_have_ended(void **state)
{
    (void)state;
    skip_under_tsan();
    run_until_report(after_a_process);
    assert_said("keel: deadlock: 1 coroutine and 0 threads wait");
}

/* ---- when it is silent: for longer than the first two looks take ---- */

enum { LONG_ENOUGH = 2, PROGRAMS = 7 };

static int sleep_meant(void *arg)
{
    test_spawn(wait_never, NULL);
    (void)arg;
    return keel_sleep(KEEL_FOREVER);
}

static void meant(void)
{
    keel_run(sleep_meant, NULL);
}

static int wait_with_deadline(void *arg)
{
    (void)arg;
    test_spawn(wait_never, NULL);
    return keel_event_wait(&never, keel_after(3600 * KEEL_SECOND));
}

static void a_deadline(void)
{
    keel_run(wait_with_deadline, NULL);
}

static int wait_for_fd(void *arg)
{
    int ends[2];
    char c;

    (void)arg;
    test_spawn(wait_never, NULL);
    if (pipe(ends) < 0)
        return -errno;
    keel_fd_adopt(ends[0]);
    return (int)keel_fd_read(ends[0], &c, 1, KEEL_FOREVER);
}

static void a_descriptor(void)
{
    keel_run(wait_for_fd, NULL);
}

static void *stranger(void *arg)
{
    pause();
    return arg;
}

static int wait_beside_stranger(void *arg)
{
    pthread_t thread;

    (void)arg;
    if (pthread_create(&thread, NULL, stranger, NULL) != 0)
        return -EAGAIN;
    return wait_never(NULL);
}

static void a_strange_thread(void)
{
    keel_run(wait_beside_stranger, NULL);
}

static int run_outside(void *arg)
{
    (void)arg;
    pause();
    return 0;
}

static int wait_beside_job(void *arg)
{
    (void)arg;
    test_spawn(wait_never, NULL);
    return keel_blocking(run_outside, NULL);
}

static void a_blocking_job(void)
{
    keel_run(wait_beside_job, NULL);
}

static int wait_beside_process(void *arg)
{
    const struct keel_process_how how = {.daemon = true};
    struct keel_process *p;

    (void)arg;
    if (keel_process_start("linger", &how, &p) < 0)
        _exit(4);
    return wait_never(NULL);
}

static void a_process(void)
{
    keel_run(wait_beside_process, NULL);
}

static void switched_off(void)
{
    keel_deadlock_watch(false);
    keel_run(wait_never, NULL);
}

static void it_is_silent_while_anything_could_come(void **state)
{
    void (*const programs[PROGRAMS])(void) = {
        meant,          a_deadline, a_descriptor, a_strange_thread,
        a_blocking_job, a_process,  switched_off,
    };
    struct child children[PROGRAMS];

    (void)state;
    for (int i = 0; i < PROGRAMS; i++)
        children[i] = start(programs[i], LONG_ENOUGH);
    for (int i = 0; i < PROGRAMS; i++) {
        await(children[i]);
#if defined(KEEL_TSAN)
        if (programs[i] == a_strange_thread)
            continue; /* may be TSan's */
#endif
        if (text[0])
            fail_msg("program %d: %s", i, text);
    }
}

/* ---- the watchdog ---- */

static _Atomic int reports;
static bool hog_only;
static char blocked[8192];

static void note_report(enum keel_report kind, const char *report, void *arg)
{
    assert_int_equal(kind, KEEL_REPORT_BLOCKED);
    assert_ptr_equal(arg, &reports);
    /* On a busy machine others stand still too. */
    if (hog_only && !strstr(report, "'hog'"))
        return;
    if (atomic_load(&reports) == 0)
        snprintf(blocked, sizeof blocked, "%s", report);
    atomic_fetch_add(&reports, 1);
}

static void run_for(keel_ns span)
{
    keel_ns until = real_clock() + span;

    while (real_clock() < until)
        ;
}

/* Runs until it was reported, and longer. */
static __attribute__((noinline)) int hogs(void *arg)
{
    (void)arg;
    while (atomic_load(&reports) == 0)
        run_for(KEEL_MS);
    run_for(60 * KEEL_MS);
    return 0;
}

CO_TEST(who_keeps_a_loop_is_reported_once_with_name_and_stack)
{
    const struct keel_spawn how = {.name = "hog"};
    struct keel_co *co;

    atomic_store(&reports, 0);
    hog_only = true;
    keel_on_report(note_report, &reports);
    assert_int_equal(keel_watchdog(KEEL_US), -EINVAL);
    assert_int_equal(keel_watchdog(20 * KEEL_MS), 0);
    assert_int_equal(keel_spawn(&how, hogs, NULL, &co), 0);
    test_join(co);
    assert_int_equal(keel_watchdog(0), 0);
    keel_on_report(NULL, NULL);
    assert_int_equal(atomic_load(&reports), 1);
    assert_non_null(
        strstr(blocked, "keel: coroutine 'hog' [main] has run for "));
#if defined(__x86_64__) && !defined(KEEL_ASAN)
    assert_non_null(strstr(blocked, " hogs+0x"));
#endif
    return 0;
}

CO_TEST(the_watchdog_is_silent_about_loops_that_switch_or_sleep)
{
    keel_ns until = real_clock() + KEEL_SECOND + 200 * KEEL_MS;

    atomic_store(&reports, 0);
    hog_only = false;
    keel_on_report(note_report, &reports);
    assert_int_equal(keel_watchdog(KEEL_SECOND), 0);
    while (real_clock() < until)
        keel_yield();
    keel_sleep(keel_after(KEEL_SECOND + 200 * KEEL_MS));
    assert_int_equal(keel_watchdog(0), 0);
    keel_on_report(NULL, NULL);
    assert_int_equal(atomic_load(&reports), 0);
    return 0;
}

/* Two looks, then a stop for longer than the limit, again and again. */
enum { STOPS = 5, LIMIT_MS = 200 };

static int switch_watched(void *arg)
{
    keel_ns until = real_clock() + STOPS * 2 * LIMIT_MS * KEEL_MS;

    (void)arg;
    if (keel_watchdog(LIMIT_MS * KEEL_MS) < 0)
        _exit(4);
    while (real_clock() < until)
        keel_yield();
    return keel_watchdog(0);
}

static void say_it_was_blocked(enum keel_report kind, const char *report,
                               void *arg)
{
    (void)arg;
    if (kind == KEEL_REPORT_BLOCKED &&
        write(STDOUT_FILENO, report, strlen(report)) < 0)
        _exit(2);
}

static void switching(void)
{
    keel_on_report(say_it_was_blocked, NULL);
    keel_run(switch_watched, NULL);
}

static void pass_time(keel_ns span)
{
    const struct timespec t = {.tv_nsec = span};

    nanosleep(&t, NULL);
}

static void a_process_that_was_stopped_kept_nobody_from_running(void **state)
{
    struct child c;

    (void)state;
    skip_under_tsan();
    c = start(switching, 60);
    for (int i = 0; i < STOPS; i++) {
        pass_time(LIMIT_MS * KEEL_MS / 2);
        kill(c.pid, SIGSTOP);
        pass_time(LIMIT_MS * KEEL_MS * 3 / 2);
        kill(c.pid, SIGCONT);
    }
    await(c);
    assert_string_equal(text, "");
}

static void watchdog_reports(void **state)
{
#if defined(KEEL_TSAN)
    /* TSan delivers signals when the thread next calls something. */
    (void)who_keeps_a_loop_is_reported_once_with_name_and_stack;
    (void)state;
    skip();
#else
    who_keeps_a_loop_is_reported_once_with_name_and_stack(state);
#endif
}

/* ---- counters ---- */

static int nothing(void *arg)
{
    return arg != NULL;
}

CO_TEST(a_loop_counts_what_it_does)
{
    struct keel_counters before, after;
    struct keel_co *co[3];
    int ends[2];
    char c = 'c';

    keel_event_init(&never);
    keel_counters(keel_loop_current(), &before);
    assert_int_equal(before.alive, 1);
    for (int i = 0; i < 3; i++)
        co[i] = test_spawn(wait_never, NULL);
    keel_yield();
    assert_int_equal(pipe(ends), 0);
    keel_fd_adopt(ends[0]);
    assert_int_equal(keel_fd_read(ends[0], &c, 1, keel_after(50 * KEEL_MS)),
                     -ETIMEDOUT);
    keel_counters(keel_loop_current(), &after);
    assert_int_equal(after.alive, 4);
    assert_int_equal(after.parked, 3);
    assert_int_equal(after.spawned - before.spawned, 3);
    assert_true(after.switches - before.switches >= 4);
    assert_true(after.turns > before.turns);
    assert_true(after.sleeps > before.sleeps);
    assert_true(after.asleep_ns - before.asleep_ns >= 10 * KEEL_MS);
    assert_int_equal(after.submissions - before.submissions, 1);
    assert_int_equal(after.completions, after.submissions);
    keel_event_set(&never);
    for (int i = 0; i < 3; i++)
        test_join(co[i]);
    keel_counters(keel_loop_current(), &after);
    assert_int_equal(after.parked, 0);
    close(ends[1]);
    keel_fd_close(ends[0]);
    return 0;
}

CO_TEST(long_turns_and_wakes_from_elsewhere_are_counted)
{
    struct keel_counters here, sum;
    struct keel_spawn there = {.name = "far"};
    struct keel_co *co;

    run_for(25 * KEEL_MS);
    keel_yield();
    while (keel_counters(keel_loop_current(), &here), here.turns == 0)
        keel_yield();
    assert_true(here.blocked_ns >= 20 * KEEL_MS);
    assert_true(here.longest_ns >= 20 * KEEL_MS);
    assert_int_equal(keel_loop_start("outpost", &there.loop), 0);
    assert_int_equal(keel_spawn(&there, nothing, NULL, &co), 0);
    test_join(co);
    keel_counters(there.loop, &here);
    assert_int_equal(here.wakes, 1);
    assert_int_equal(here.spawned, 1);
    keel_counters(NULL, &sum);
    assert_true(sum.spawned >= 2);
    assert_true(sum.longest_ns >= 20 * KEEL_MS);
    keel_loop_stop(there.loop);
    return 0;
}

int main(void)
{
    /* Those that fork come first, while there is one thread. */
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(a_deadlock_is_reported_with_names_locks_and_holders),
        cmocka_unit_test(it_is_seen_across_loops_and_threads),
        cmocka_unit_test(
            a_holder_that_has_ended_is_not_mistaken_for_its_successor),
        cmocka_unit_test(threads_alone_can_deadlock_too),
        cmocka_unit_test(a_deadlock_is_seen_when_the_processes_have_ended),
        cmocka_unit_test(it_is_silent_while_anything_could_come),
        cmocka_unit_test(a_process_that_was_stopped_kept_nobody_from_running),
        cmocka_unit_test(watchdog_reports),
        cmocka_unit_test(
            the_watchdog_is_silent_about_loops_that_switch_or_sleep),
        cmocka_unit_test(a_loop_counts_what_it_does),
        cmocka_unit_test(long_turns_and_wakes_from_elsewhere_are_counted),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
