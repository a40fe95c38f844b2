/* SPDX-License-Identifier: MIT */
#include <keel/thread.h>

#include <errno.h>
#include <pthread.h>
#include <setjmp.h>
#include <signal.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdlib.h>
#include <string.h>
#include <sys/wait.h>
#include <unistd.h>

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

static void a_thread_begins_once(void **state)
{
    struct keel_thread *t;
    struct work w = {0};

    (void)state;
    assert_int_equal(keel_thread_new(NULL, answer, &w, &t), 0);
    assert_false(keel_thread_is_alive(t));
    assert_int_equal(keel_thread_id(t), 0);
    assert_int_equal(keel_thread_join(t, KEEL_FOREVER, NULL), -ESRCH);
    assert_int_equal(keel_thread_begin(t), 0);
    assert_int_equal(keel_thread_begin(t), -EALREADY);
    assert_int_equal(keel_thread_join(t, KEEL_FOREVER, NULL), 0);
    assert_string_equal(w.name, "thread");
    assert_int_equal(keel_thread_new(NULL, answer, &w, &t), 0);
    keel_thread_free(t); /* never begun */
}

struct watched {
    struct keel_event told, go;
    struct keel_thread *handle; /* as the thread sees it */
    pid_t id;
    char name[16];
    bool daemon;
};

static int tell(void *arg)
{
    struct watched *w = arg;

    w->handle = keel_thread_current();
    w->id = keel_thread_id(NULL);
    w->daemon = keel_thread_is_daemon(NULL);
    strcpy(w->name, keel_thread_name(NULL));
    keel_event_set(&w->told);
    keel_event_wait(&w->go, KEEL_FOREVER);
    return 0;
}

static struct keel_thread *watch(struct watched *w, const char *name,
                                 bool daemon)
{
    const struct keel_thread_how how = {
        .name = name, .daemon = daemon, .stack_bytes = 1 << 20};
    struct keel_thread *t;

    memset(w, 0, sizeof *w);
    assert_int_equal(keel_thread_new(&how, tell, w, &t), 0);
    assert_int_equal(keel_thread_begin(t), 0);
    keel_event_wait(&w->told, KEEL_FOREVER);
    return t;
}

static void a_thread_knows_its_name_its_id_and_itself(void **state)
{
    struct watched w;
    struct keel_thread *t;

    (void)state;
    assert_null(keel_thread_current());
    assert_int_equal(keel_thread_id(NULL), getpid());
    assert_true(keel_thread_is_alive(NULL));
    assert_false(keel_thread_is_daemon(NULL));
    t = watch(&w, "knows", true);
    assert_ptr_equal(w.handle, t);
    assert_int_equal(w.id, keel_thread_id(t));
    assert_int_not_equal(w.id, getpid());
    assert_string_equal(w.name, "knows");
    assert_string_equal(keel_thread_name(t), "knows");
    assert_true(w.daemon && keel_thread_is_daemon(t));
    assert_true(keel_thread_is_alive(t));
    keel_event_set(&w.go);
    assert_int_equal(keel_thread_join(t, KEEL_FOREVER, NULL), 0);
}

static void enumerate_lists_the_living_oldest_first(void **state)
{
    struct keel_thread_info info[8];
    struct watched one, two;
    struct keel_thread *t1, *t2;

    (void)state;
    assert_int_equal(keel_thread_enumerate(NULL, 0), 1);
    t1 = watch(&one, "one", false);
    t2 = watch(&two, "two", true);
    assert_int_equal(keel_thread_enumerate(info, 8), 3);
    assert_true(info[0].is_main && info[0].id == getpid());
    assert_string_equal(info[1].name, "one");
    assert_false(info[1].daemon);
    assert_int_equal(info[1].id, one.id);
    assert_string_equal(info[2].name, "two");
    assert_true(info[2].daemon);
    keel_event_set(&one.go);
    assert_int_equal(keel_thread_join(t1, KEEL_FOREVER, NULL), 0);
    assert_int_equal(keel_thread_enumerate(info, 2), 2);
    assert_string_equal(info[1].name, "two");
    keel_event_set(&two.go);
    assert_int_equal(keel_thread_join(t2, KEEL_FOREVER, NULL), 0);
}

static int join_the_other(void *arg)
{
    int rc;

    /* The first may come while the other has a look. */
    do
        rc = keel_thread_join(arg, KEEL_FOREVER, NULL);
    while (rc == -EINVAL);
    return rc;
}

static void joining_what_somebody_else_joins_is_an_error(void **state)
{
    struct watched w;
    struct keel_thread *t = watch(&w, "joined", false), *joiner;
    int result, rc;

    (void)state;
    assert_int_equal(keel_thread_start("joiner", join_the_other, t, &joiner),
                     0);
    /* Until the other has come, our own join is one that times out. */
    while ((rc = keel_thread_join(t, KEEL_NOW, NULL)) == -ETIMEDOUT)
        keel_yield();
    assert_int_equal(rc, -EINVAL);
    keel_event_set(&w.go);
    assert_int_equal(keel_thread_join(joiner, KEEL_FOREVER, &result), 0);
    assert_int_equal(result, 0);
}

/* ---- cancelling ---- */

static int waits_twice(void *arg)
{
    struct keel_event *go = arg, never;

    keel_event_init(&never);
    keel_shield();
    if (keel_event_wait(go, KEEL_FOREVER) < 0)
        return -1;
    keel_unshield();
    return keel_cancelled() ? keel_event_wait(&never, KEEL_FOREVER) : -2;
}

static void a_cancelled_thread_waits_no_more_unless_shielded(void **state)
{
    struct keel_event go;
    struct keel_thread *t;
    int result;

    (void)state;
    keel_event_init(&go);
    assert_int_equal(keel_thread_start("shielded", waits_twice, &go, &t), 0);
    /* Shielded by the time it waits; the cancel may come before that. */
    assert_int_equal(keel_thread_join(t, keel_after(KEEL_MS), NULL),
                     -ETIMEDOUT);
    keel_thread_cancel(t);
    keel_event_set(&go);
    assert_int_equal(keel_thread_join(t, KEEL_FOREVER, &result), 0);
    assert_int_equal(result, -ECANCELED);
}

static int waits_for_ever(void *arg)
{
    return keel_event_wait(arg, KEEL_FOREVER);
}

static void a_cancel_wakes_a_thread_that_waits(void **state)
{
    struct keel_event never;
    struct keel_thread *t;
    int result;

    (void)state;
    keel_event_init(&never);
    assert_int_equal(keel_thread_start("waits", waits_for_ever, &never, &t), 0);
    keel_thread_join(t, keel_after(KEEL_MS), NULL); /* let it wait */
    keel_thread_cancel(t);
    assert_int_equal(keel_thread_join(t, KEEL_FOREVER, &result), 0);
    assert_int_equal(result, -ECANCELED);
    keel_event_fini(&never);
}

static int parks_for_ever(void *arg)
{
    return keel_run(waits_for_ever, arg);
}

static void a_cancel_reaches_the_first_coroutine_of_a_thread(void **state)
{
    struct keel_event never;
    int result;

    (void)state;
    keel_event_init(&never);
    for (int i = 0; i < 2; i++) {
        struct keel_thread *t;

        assert_int_equal(keel_thread_new(NULL, parks_for_ever, &never, &t), 0);
        if (i == 0) /* before there is a loop */
            keel_thread_cancel(t);
        assert_int_equal(keel_thread_begin(t), 0);
        if (i == 1) {
            keel_thread_join(t, keel_after(KEEL_MS), NULL); /* let it wait */
            keel_thread_cancel(t);
        }
        assert_int_equal(keel_thread_join(t, KEEL_FOREVER, &result), 0);
        assert_int_equal(result, -ECANCELED);
    }
    keel_event_fini(&never);
}

/* ---- the program's end ---- */

static int ends_late(void *arg)
{
    char byte;

    (void)arg;
    if (read(STDIN_FILENO, &byte, 1) == 1)
        _exit(42);
    return 0;
}

/* This program started again: begins a thread that reads a byte, and returns
 * from main. */
static int main_of_child(bool daemon)
{
    const struct keel_thread_how how = {.name = "late", .daemon = daemon};
    keel_auto(thread) struct keel_thread *t = NULL;

    return keel_thread_new(&how, ends_late, NULL, &t) < 0 ||
           keel_thread_begin(t) < 0;
}

/* argv[0]: valgrind refuses to run /proc/self/exe, which is itself. */
static const char *program;

/* The child's exit status; `feed` it with the byte when it has had time to be
 * at its end. */
static int exit_with_thread(const char *kind, bool feed)
{
    int fd[2], status;
    pid_t pid;

    assert_int_equal(pipe(fd), 0);
    pid = fork();
    assert_true(pid >= 0);
    if (pid == 0) {
        dup2(fd[0], STDIN_FILENO);
        execl(program, "thread_test", kind, NULL);
        _exit(1);
    }
    if (feed) {
        usleep(20000);
        assert_int_equal(write(fd[1], "x", 1), 1);
    }
    assert_int_equal(waitpid(pid, &status, 0), pid);
    close(fd[0]);
    close(fd[1]);
    assert_true(WIFEXITED(status));
    return WEXITSTATUS(status);
}

static void exit_waits_for_a_thread_that_is_no_daemon(void **state)
{
    (void)state;
    assert_int_equal(exit_with_thread("plain", true), 42);
}

static void exit_does_not_wait_for_a_daemon(void **state)
{
    (void)state;
    assert_int_equal(exit_with_thread("daemon", false), 0);
}

static void a_forked_child_waits_for_no_thread_of_its_parent(void **state)
{
    struct watched w;
    struct keel_thread *t = watch(&w, "parent's", false);
    int status;
    pid_t pid;

    (void)state;
    pid = fork();
    if (pid == 0) {
        if (keel_thread_enumerate(NULL, 0) != 1)
            _exit(1);
        exit(0);
    }
    assert_int_equal(waitpid(pid, &status, 0), pid);
    assert_true(WIFEXITED(status) && WEXITSTATUS(status) == 0);
    keel_event_set(&w.go);
    assert_int_equal(keel_thread_join(t, KEEL_FOREVER, NULL), 0);
}

/* ---- a value for each thread ---- */

static int destroyed;

static void destroy(void *value)
{
    destroyed += *(int *)value;
}

static int set_mine(void *arg)
{
    static int seven = 7;

    if (keel_local_get(arg) || keel_local_set(arg, &seven) < 0)
        return -1;
    return *(int *)keel_local_get(arg);
}

static void a_thread_s_value_is_its_own_and_destroyed_with_it(void **state)
{
    keel_auto(local) struct keel_local *l = NULL;
    struct keel_thread *t;
    int mine = 100, result;

    (void)state;
    assert_int_equal(keel_local_new(destroy, &l), 0);
    assert_null(keel_local_get(l));
    assert_int_equal(keel_local_set(l, &mine), 0);
    assert_int_equal(keel_thread_start("local", set_mine, l, &t), 0);
    assert_int_equal(keel_thread_join(t, KEEL_FOREVER, &result), 0);
    assert_int_equal(result, 7);
    assert_int_equal(destroyed, 7);
    assert_ptr_equal(keel_local_get(l), &mine);
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

int main(int argc, char **argv)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(a_thread_is_joined_with_its_result),
        cmocka_unit_test(a_join_that_times_out_leaves_it_running),
        cmocka_unit_test(a_thread_does_not_join_itself),
        cmocka_unit_test(a_coroutine_that_joins_parks),
        cmocka_unit_test(a_thread_begins_once),
        cmocka_unit_test(a_thread_knows_its_name_its_id_and_itself),
        cmocka_unit_test(enumerate_lists_the_living_oldest_first),
        cmocka_unit_test(joining_what_somebody_else_joins_is_an_error),
        cmocka_unit_test(a_cancelled_thread_waits_no_more_unless_shielded),
        cmocka_unit_test(a_cancel_wakes_a_thread_that_waits),
        cmocka_unit_test(a_cancel_reaches_the_first_coroutine_of_a_thread),
        cmocka_unit_test(exit_waits_for_a_thread_that_is_no_daemon),
        cmocka_unit_test(exit_does_not_wait_for_a_daemon),
        cmocka_unit_test(a_forked_child_waits_for_no_thread_of_its_parent),
        cmocka_unit_test(a_thread_s_value_is_its_own_and_destroyed_with_it),
        cmocka_unit_test(start_fails_cleanly),
    };

    program = argv[0];
    if (argc == 2)
        return main_of_child(strcmp(argv[1], "daemon") == 0);
    return cmocka_run_group_tests(tests, NULL, NULL);
}
