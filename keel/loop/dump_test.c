/* SPDX-License-Identifier: MIT */
/* What one sees from outside: the dump, and the report of an overflow. */
#include <keel/debug.h>

#include "test/test.h"

#include <signal.h>
#include <sys/wait.h>
#include <unistd.h>

#include <keel/lock.h>
#include <keel/queue.h>
#include <keel/thread.h>

#include "loop.h"
#include "sanitize.h"

static int out[2];
static char text[65536];

static void read_all(void)
{
    size_t n = 0;
    ssize_t got;

    close(out[1]);
    while (n < sizeof text - 1 &&
           (got = read(out[0], text + n, sizeof text - 1 - n)) > 0)
        n += (size_t)got;
    text[n] = '\0';
    close(out[0]);
}

static int get_item(void *q)
{
    void *got;

    return keel_queue_get(q, keel_after(3600 * KEEL_SECOND), &got);
}

static int nothing(void *arg)
{
    return arg != NULL;
}

static int wait_event(void *e)
{
    return keel_event_wait(e, KEEL_FOREVER);
}

CO_TEST(a_dump_names_every_coroutine_and_what_it_waits_for)
{
    const struct keel_spawn getter = {.name = "hungry"};
    struct keel_spawn there = {.name = "far away"};
    keel_auto(queue) struct keel_queue *q = NULL;
    struct keel_event e;
    struct keel_co *co, *far, *after;

    keel_event_init(&e);
    keel_queue_new(1, KEEL_QUEUE_SHARED, &q);
    assert_int_equal(keel_loop_start("outpost", &there.loop), 0);
    assert_int_equal(keel_spawn(&getter, get_item, q, &co), 0);
    assert_int_equal(keel_spawn(&there, wait_event, &e, &far), 0);
    /* When this one has run, the one before it waits. */
    assert_int_equal(keel_spawn(&there, nothing, NULL, &after), 0);
    test_join(after);
    assert_int_equal(keel_join(co, keel_after(2 * KEEL_MS), NULL), -ETIMEDOUT);
    assert_int_equal(pipe(out), 0);
    keel_dump(out[1]);
    read_all();
    keel_cancel(co);
    test_join(co);
    keel_event_set(&e);
    test_join(far);
    keel_loop_stop(there.loop);
    assert_non_null(strstr(text, "loop 'main'"));
    assert_non_null(strstr(text, "'main' [main] running"));
    assert_non_null(strstr(text, "'hungry' [main] waiting: queue get 0x"));
    assert_non_null(strstr(text, ", for 0."));
    assert_non_null(strstr(text, "at most 3599."));
    assert_non_null(strstr(text, "loop 'outpost'"));
    assert_non_null(strstr(text, "'far away' [outpost] waiting: event"));
#if (defined(__x86_64__) || defined(__aarch64__)) &&                           \
    !defined(KEEL_SWITCH_PORTABLE)
    assert_non_null(strstr(text, "#2 0x"));
#if !defined(KEEL_ASAN) && !defined(KEEL_TSAN)
    assert_non_null(strstr(text, ", at get_item+0x"));
#endif
#endif
    return 0;
}

static int join_it(void *co)
{
    return test_join(co);
}

enum { NOT_YET, SPINS, STOP };

static int never_waits(void *arg)
{
    _Atomic int *stage = arg;

    atomic_store(stage, SPINS);
    while (atomic_load(stage) != STOP)
        ;
    return 0;
}

static void a_loop_that_does_not_answer_is_said_to_be_busy(void **state)
{
    struct keel_spawn how = {.name = "spinner"};
    _Atomic int stage = NOT_YET;
    struct keel_co *co;

    (void)state;
    /* It has one "current stack" for all threads, and takes a coroutine that
     * comes back from a signal on another stack for one whose frames are gone:
     * not each time. */
    if (RUNNING_ON_VALGRIND)
        skip();
    assert_int_equal(keel_loop_start("stuck", &how.loop), 0);
    assert_int_equal(keel_spawn(&how, never_waits, &stage, &co), 0);
    while (atomic_load(&stage) != SPINS)
        keel_yield();
    assert_int_equal(pipe(out), 0);
    keel_dump(out[1]);
    read_all();
    atomic_store(&stage, STOP);
    test_join(co);
    keel_loop_stop(how.loop);
#if defined(KEEL_TSAN)
    assert_non_null(strstr(text, "loop 'stuck': does not answer"));
#else
    assert_non_null(
        strstr(text, "loop 'stuck': does not answer: 'spinner' has run"));
    assert_non_null(strstr(text, "#0 0x"));
#endif
}

static struct keel_lock one_lock = KEEL_LOCK_INIT;

static int take_it(void *arg)
{
    keel_event_set(arg);
    keel_lock_hold(&one_lock);
    keel_lock_drop(&one_lock);
    return 0;
}

static bool says(const char *what)
{
    assert_int_equal(pipe(out), 0);
    keel_dump(out[1]);
    read_all();
    return strstr(text, what) != NULL;
}

CO_TEST(a_dump_names_threads_and_who_holds_a_lock)
{
    const struct keel_spawn second = {.name = "second"},
                            third = {.name = "third"};
    struct keel_thread *thread;
    struct keel_event begun;
    struct keel_co *co, *joiner;

    keel_event_init(&begun);
    keel_lock_hold(&one_lock);
    assert_int_equal(keel_spawn(&second, take_it, &begun, &co), 0);
    assert_int_equal(keel_spawn(&third, join_it, co, &joiner), 0);
    assert_int_equal(keel_event_wait(&begun, KEEL_FOREVER), 0);
    keel_event_clear(&begun);
    assert_int_equal(keel_thread_start("worker", take_it, &begun, &thread), 0);
    assert_int_equal(keel_event_wait(&begun, KEEL_FOREVER), 0);
    /* It is on its way to sleep. */
    while (!says("] waiting: lock 0x"))
        keel_yield();
    assert_non_null(strstr(text, "'second' [main] waiting: lock 0x"));
    assert_non_null(strstr(text, ", held by 'main' [main], for 0."));
    assert_non_null(strstr(text, "'third' [main] waiting: join of 'second'"));
    assert_non_null(strstr(text, "  'worker' ["));
    while (!says(", held by a coroutine of another loop, for"))
        keel_yield();
    assert_non_null(strstr(text, "] runs loop 'main'"));
    keel_lock_drop(&one_lock);
    test_join(joiner);
    return keel_thread_join(thread, KEEL_FOREVER, NULL);
}

static int raise_and_stay(void *arg)
{
    (void)arg;
    assert_int_equal(keel_dump_on_signal(SIGQUIT), 0);
    raise(SIGQUIT);
    return keel_sleep(keel_after(3600 * KEEL_SECOND));
}

/* The writer stays: there is no end of file to wait for. */
static void read_until(const char *said)
{
    size_t n = 0;
    ssize_t got;

    close(out[1]);
    text[0] = '\0';
    while (!strstr(text, said)) {
        got = read(out[0], text + n, sizeof text - 1 - n);
        assert_true(got > 0);
        n += (size_t)got;
        text[n] = '\0';
    }
}

static void a_signal_dumps_and_the_program_goes_on(void **state)
{
    pid_t pid;
    int status;

    (void)state;
    assert_int_equal(pipe(out), 0);
    pid = fork();
    if (pid == 0) {
        dup2(out[1], STDERR_FILENO);
        keel_run(raise_and_stay, NULL);
        _exit(1);
    }
    read_until("'main' [main] ");
    assert_int_equal(waitpid(pid, &status, WNOHANG), 0);
    kill(pid, SIGKILL);
    assert_int_equal(waitpid(pid, &status, 0), pid);
    close(out[0]);
}

/* ---- overflow ---- */

static __attribute__((noinline)) int deep(int n)
{
    volatile char pad[1024];

    pad[0] = (char)n;
    return n > 1000000 ? pad[0] : deep(n + 1) + pad[0];
}

static int overflows(void *arg)
{
    return deep(arg ? 1 : 0);
}

static int spawns_greedy(void *size)
{
    const struct keel_spawn how = {.name = "greedy",
                                   .stack_bytes = (size_t)(uintptr_t)size};
    struct keel_co *co;

    keel_spawn(&how, overflows, NULL, &co);
    keel_join(co, KEEL_FOREVER, NULL);
    return 0;
}

static void overflow_with(const char *guard, size_t size, const char *said)
{
    int status;
    pid_t pid;

    assert_int_equal(pipe(out), 0);
    pid = fork();
    if (pid == 0) {
        setenv("KEEL_GUARD", guard, 1);
        dup2(out[1], STDERR_FILENO);
        keel_run(spawns_greedy, (void *)size);
        _exit(0);
    }
    read_all();
    assert_int_equal(waitpid(pid, &status, 0), pid);
#if defined(__SANITIZE_ADDRESS__) || defined(__SANITIZE_THREAD__)
    assert_true(!WIFEXITED(status) || WEXITSTATUS(status) != 0);
#else
    assert_true(WIFSIGNALED(status) && WTERMSIG(status) == SIGSEGV);
#endif
    assert_non_null(strstr(text, said));
}

/* First of all tests: the guard is chosen at the first spawn. */
static void a_stack_overflow_is_reported_with_the_coroutines_name(void **state)
{
    (void)state;
    if (RUNNING_ON_VALGRIND)
        skip(); /* it reports the fault itself, and dies of ours */
    overflow_with("", 0,
                  "coroutine 'greedy' overflowed its stack of 64 KiB at 0x");
    overflow_with("", 256 * 1024,
                  "coroutine 'greedy' overflowed its stack of 256 KiB at 0x");
    overflow_with("mprotect", 0,
                  "coroutine 'greedy' overflowed its stack of 64 KiB at 0x");
}

static int scribbles(void *arg)
{
    /* As a runaway frame would: the lowest words of the own stack. */
    *(volatile uint64_t *)keel_current()->body->stack->low = 1;
    (void)arg;
    keel_yield();
    return 0;
}

static int spawns_scribbler(void *arg)
{
    (void)arg;
    test_join(test_spawn(scribbles, NULL));
    return 0;
}

static void the_canary_is_looked_at_when_there_is_no_guard(void **state)
{
    int status;
    pid_t pid;

    (void)state;
    assert_int_equal(pipe(out), 0);
    pid = fork();
    if (pid == 0) {
        setenv("KEEL_GUARD", "canary", 1);
        dup2(out[1], STDERR_FILENO);
        keel_run(spawns_scribbler, NULL);
        _exit(0);
    }
    read_all();
    assert_int_equal(waitpid(pid, &status, 0), pid);
    assert_true(WIFSIGNALED(status) && WTERMSIG(status) == SIGABRT);
    assert_non_null(strstr(text, "stack_intact"));
}

/* ---- stacks ---- */

static int rest_short(void *arg)
{
    (void)arg;
    return keel_sleep(keel_after(KEEL_MS));
}

/* More than are kept warm, twice: trimmed stacks work again. */
CO_TEST(stacks_are_given_back_and_used_again)
{
    enum { MANY = 3000 };
    static struct keel_co *co[MANY];

    for (int round = 0; round < 2; round++) {
        for (int i = 0; i < MANY; i++)
            co[i] = test_spawn(rest_short, NULL);
        for (int i = 0; i < MANY; i++)
            assert_int_equal(test_join(co[i]), 0);
        for (int i = 0; i < 300; i++)
            keel_yield();
    }
    return 0;
}

static void stacks_are_pooled(void **state)
{
#if defined(__SANITIZE_THREAD__)
    (void)stacks_are_given_back_and_used_again;
    (void)state;
    skip(); /* a fiber costs TSan 1.7 MB */
#else
    stacks_are_given_back_and_used_again(state);
#endif
}

int main(void)
{
    /* Those that fork come first, while there is one thread: TSan starts none
     * in the child of many. */
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(a_stack_overflow_is_reported_with_the_coroutines_name),
        cmocka_unit_test(the_canary_is_looked_at_when_there_is_no_guard),
        cmocka_unit_test(a_signal_dumps_and_the_program_goes_on),
        cmocka_unit_test(a_dump_names_every_coroutine_and_what_it_waits_for),
        cmocka_unit_test(a_dump_names_threads_and_who_holds_a_lock),
        cmocka_unit_test(a_loop_that_does_not_answer_is_said_to_be_busy),
        cmocka_unit_test(stacks_are_pooled),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
