/* SPDX-License-Identifier: MIT */
#include <keel/process.h>

#include "test/test.h"

#include <dirent.h>
#include <fcntl.h>
#include <poll.h>
#include <signal.h>
#include <stdio.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/wait.h>
#include <unistd.h>

#include <keel/debug.h>
#include <keel/io.h>
#include <keel/thread.h>

#include "test/fault.h"

/* ---- entry points ---- */

KEEL_PROCESS(exit_with)
{
    return *(const int *)arg->data;
}

KEEL_PROCESS(sleeps)
{
    for (size_t i = 0; i < arg->fd_count; i++)
        if (write(arg->fds[i], "x", 1) != 1)
            return 1;
    for (;;)
        pause();
}

KEEL_PROCESS(waits_for_a_byte)
{
    char c;

    return read(arg->fds[0], &c, 1) == 1 ? c : 255;
}

/* What a process knows of itself, as text. */
KEEL_PROCESS(tells)
{
    char line[200], cwd[100];
    int n;

    if (!getcwd(cwd, sizeof(cwd)))
        return 1;
    n = snprintf(line, sizeof(line), "%s %d %d %d %s", keel_process_name_here(),
                 keel_process_is_daemon(), (int)keel_process_parent(),
                 (int)getpid(), cwd);
    return write(arg->fds[0], line, (size_t)n) == n ? 0 : 2;
}

KEEL_PROCESS(echoes)
{
    return write(arg->fds[0], arg->data, arg->size) == (ssize_t)arg->size ? 0
                                                                          : 1;
}

KEEL_PROCESS(aborts)
{
    raise(SIGABRT);
    return 0;
}

KEEL_PROCESS(uses_memory)
{
    size_t size = 32 << 20;
    char *p = mmap(NULL, size, PROT_READ | PROT_WRITE,
                   MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);

    memset(p, 1, size);
    return p[size / 2] - 1;
}

KEEL_PROCESS(prints)
{
    printf("a line without its end");
    return 0;
}

/* Starts one of its own: 0, or minus what start said. */
KEEL_PROCESS(has_a_child)
{
    struct keel_process *p = NULL;
    int three = 3, code = 0;
    int rc = keel_process_start(
        "exit_with", &(struct keel_process_how){.arg = &three, .arg_size = 4},
        &p);

    if (rc < 0)
        return -rc;
    rc = keel_process_join(p, keel_after(10 * KEEL_SECOND), NULL);
    if (rc == 0)
        rc = keel_process_exitcode(p, &code);
    keel_process_free(p);
    return rc < 0 || code != 3 ? 1 : 0;
}

/* Descriptors that are open beyond those it should have. */
KEEL_PROCESS(counts_descriptors)
{
    DIR *dir = opendir("/proc/self/fd");
    int n = 0;

    while (readdir(dir))
        n++;
    closedir(dir);
    return n - 2 - 1 - (int)arg->fd_count;
}

KEEL_PROCESS(signal_mask_is_empty)
{
    struct sigaction sa;
    sigset_t set;

    sigprocmask(SIG_BLOCK, NULL, &set);
    sigaction(SIGINT, NULL, &sa);
    return !sigisemptyset(&set) || sa.sa_handler != SIG_DFL;
}

/* A program of its own, whose processes must end as it does.  Its argument:
 * how it ends. */
enum { ENDS_BY_EXIT, ENDS_BY_KILL, ENDS_WITH_SPAWNER };
KEEL_PROCESS(program)
{
    struct keel_process *daemon = NULL, *other = NULL;
    int how = *(const int *)arg->data, ready[2];
    char c;

    if (pipe2(ready, O_CLOEXEC) < 0)
        return 1;
    if (keel_process_start(
            "sleeps",
            &(struct keel_process_how){.daemon = true,
                                       .fds = (int[]){arg->fds[0], ready[1]},
                                       .fd_count = 2},
            &daemon) < 0 ||
        read(ready[0], &c, 1) != 1)
        return 1;
    if (how == ENDS_BY_EXIT &&
        keel_process_start(
            "waits_for_a_byte",
            &(struct keel_process_how){.fds = arg->fds + 1, .fd_count = 1},
            &other) < 0)
        return 1;
    close(arg->fds[0]);
    close(arg->fds[1]);
    if (how == ENDS_BY_KILL)
        raise(SIGKILL);
    if (how == ENDS_WITH_SPAWNER) {
        char path[64], said[64] = "";
        int fd;

        snprintf(path, sizeof(path), "/proc/%d/stat",
                 (int)keel_process_pid(daemon));
        fd = open(path, O_RDONLY);
        if (read(fd, said, sizeof(said) - 1) <= 0)
            return 1;
        close(fd);
        kill(atoi(strrchr(said, ')') + 4), SIGKILL);
        if (keel_process_join(daemon, keel_after(10 * KEEL_SECOND), NULL) < 0 ||
            keel_process_exitcode(daemon, &how) != -ECHILD)
            return 2;
        /* and a new one is made */
        keel_process_free(daemon);
        how = 0;
        if (keel_process_start(
                "exit_with",
                &(struct keel_process_how){.arg = &how, .arg_size = 4},
                &daemon) < 0)
            return 3;
        if (keel_process_join(daemon, keel_after(10 * KEEL_SECOND), NULL) < 0)
            return 4;
    }
    keel_process_free(daemon);
    keel_process_free(other);
    return 0;
}

/* What it waits in; its first descriptor says that it is about to. */
enum { IN_SLEEP, IN_READ, IN_LOOP, IN_SHIELD, IN_WAYS };
static int sleeps_long(void *arg)
{
    (void)arg;
    return keel_sleep(keel_after(20 * KEEL_SECOND));
}

static int wait_in(int way, int fd)
{
    char c;
    int rc;

    switch (way) {
    case IN_READ:
        if (keel_fd_adopt(fd) < 0)
            return 1;
        return (int)keel_fd_read(fd, &c, 1, keel_after(20 * KEEL_SECOND));
    case IN_LOOP:
        return keel_run(sleeps_long, NULL);
    case IN_SHIELD:
        keel_shield();
        while (!keel_cancelled())
            (void)keel_sleep(keel_after(KEEL_MS));
        rc = keel_sleep(keel_after(KEEL_MS));
        keel_unshield();
        return rc ? 1 : sleeps_long(NULL);
    default:
        return sleeps_long(NULL);
    }
}

KEEL_PROCESS(waits_until_cancelled)
{
    if (write(arg->fds[0], "x", 1) != 1)
        return 1;
    if (wait_in(*(const int *)arg->data, arg->fds[1]) != -ECANCELED)
        return 2;
    /* for good */
    return keel_cancelled() && sleeps_long(NULL) == -ECANCELED ? 0 : 3;
}

/* ---- tests ---- */
static struct keel_process *start(const char *entry, const void *data,
                                  size_t size, const int *fds, size_t fd_count)
{
    struct keel_process *p = NULL;

    assert_int_equal(
        keel_process_start(entry,
                           &(struct keel_process_how){.arg = data,
                                                      .arg_size = size,
                                                      .fds = fds,
                                                      .fd_count = fd_count},
                           &p),
        0);
    return p;
}

static int finish(struct keel_process *p)
{
    int code = 1000;

    assert_int_equal(keel_process_join(p, keel_after(20 * KEEL_SECOND), NULL),
                     0);
    assert_false(keel_process_is_alive(p));
    assert_int_equal(keel_process_exitcode(p, &code), 0);
    keel_process_free(p);
    return code;
}

static void the_exit_code_is_what_the_entry_returns(void **state)
{
    const int codes[] = {0, 7, 255, 300, -5};
    const int expected[] = {0, 7, 255, 255, 255};

    (void)state;
    for (size_t i = 0; i < sizeof(codes) / sizeof(*codes); i++)
        assert_int_equal(finish(start("exit_with", &codes[i], 4, NULL, 0)),
                         expected[i]);
}

static void a_signal_is_a_negative_exit_code(void **state)
{
    struct keel_process *p;

    (void)state;
    assert_int_equal(finish(start("aborts", NULL, 0, NULL, 0)), -SIGABRT);
    p = start("sleeps", NULL, 0, NULL, 0);
    assert_int_equal(keel_process_terminate(p), 0);
    assert_int_equal(finish(p), -SIGTERM);
    p = start("sleeps", NULL, 0, NULL, 0);
    assert_int_equal(keel_process_kill(p), 0);
    assert_int_equal(finish(p), -SIGKILL);
    p = start("sleeps", NULL, 0, NULL, 0);
    assert_int_equal(keel_process_interrupt(p), 0);
    assert_int_equal(finish(p), -SIGINT);
}

static void join_that_times_out_leaves_it_running(void **state)
{
    int p[2], code;
    struct keel_process *child;

    (void)state;
    assert_int_equal(pipe2(p, O_CLOEXEC), 0);
    child = start("waits_for_a_byte", NULL, 0, p, 1);
    assert_int_equal(keel_process_join(child, KEEL_NOW, NULL), -ETIMEDOUT);
    assert_int_equal(keel_process_join(child, keel_after(KEEL_MS), NULL),
                     -ETIMEDOUT);
    assert_true(keel_process_is_alive(child));
    assert_int_equal(keel_process_exitcode(child, &code), -EBUSY);
    assert_int_equal(write(p[1], "\x05", 1), 1);
    assert_int_equal(keel_process_join(child, KEEL_FOREVER, NULL), 0);
    /* and again: joining twice is no mistake */
    assert_int_equal(keel_process_join(child, KEEL_NOW, NULL), 0);
    assert_int_equal(keel_process_terminate(child), -ESRCH);
    assert_int_equal(finish(child), 5);
    close(p[0]);
    close(p[1]);
}

static void a_dump_tells_of_processes(void **state)
{
    int p[2], out[2];
    struct keel_process *child;
    char text[65536], line[64];
    size_t n = 0;
    ssize_t got;

    (void)state;
    assert_int_equal(pipe2(p, O_CLOEXEC), 0);
    child = start("waits_for_a_byte", NULL, 0, p, 1);
    assert_int_equal(pipe2(out, O_CLOEXEC), 0);
    keel_dump(out[1]);
    close(out[1]);
    while ((got = read(out[0], text + n, sizeof(text) - 1 - n)) > 0)
        n += (size_t)got;
    text[n] = '\0';
    close(out[0]);
    (void)snprintf(line, sizeof(line), "  'waits_for_a_byte' [%d] running, for",
                   (int)keel_process_pid(child));
    assert_non_null(strstr(text, "\nprocesses: 1\n"));
    assert_non_null(strstr(text, line));
    assert_int_equal(write(p[1], "\x05", 1), 1);
    assert_int_equal(finish(child), 5);
    close(p[0]);
    close(p[1]);
}

static void the_sentinel_is_readable_at_the_end(void **state)
{
    struct keel_process *p = start("sleeps", NULL, 0, NULL, 0);
    struct pollfd fd = {.fd = keel_process_sentinel(p), .events = POLLIN};

    (void)state;
    assert_int_equal(poll(&fd, 1, 0), 0);
    keel_process_kill(p);
    assert_true(keel_fd_poll(fd.fd, POLLIN, KEEL_FOREVER) & POLLIN);
    assert_false(keel_process_is_alive(p));
    assert_int_equal(finish(p), -SIGKILL);
}

static void a_process_knows_itself_and_the_directory(void **state)
{
    char said[200] = "", expected[200], cwd[100];
    struct keel_process *child = NULL;
    int p[2];

    (void)state;
    assert_int_equal(pipe2(p, O_CLOEXEC), 0);
    assert_int_equal(chdir("/"), 0);
    assert_non_null(getcwd(cwd, sizeof(cwd)));
    assert_null(keel_process_name_here());
    assert_int_equal(
        keel_process_start(
            "tells",
            &(struct keel_process_how){
                .name = "ada", .daemon = true, .fds = &p[1], .fd_count = 1},
            &child),
        0);
    assert_true(read(p[0], said, sizeof(said) - 1) > 0);
    snprintf(expected, sizeof(expected), "ada 1 %d %d %s", (int)getpid(),
             (int)keel_process_pid(child), cwd);
    assert_string_equal(said, expected);
    assert_string_equal(keel_process_name(child), "ada");
    assert_int_equal(finish(child), 0);
    close(p[0]);
    close(p[1]);
}

static void arguments_arrive_whole_and_are_bounded(void **state)
{
    static char big[KEEL_PROCESS_ARG_MOST + 1], got[KEEL_PROCESS_ARG_MOST];
    struct keel_process *p;
    int fd, fds[KEEL_PROCESS_FDS_MOST + 1];

    (void)state;
    for (size_t i = 0; i < sizeof(big); i++)
        big[i] = (char)(i * 7 + i / 251);
    fd = memfd_create("got", MFD_CLOEXEC);
    assert_int_equal(
        finish(start("echoes", big, KEEL_PROCESS_ARG_MOST, &fd, 1)), 0);
    assert_int_equal(pread(fd, got, sizeof(got), 0), sizeof(got));
    assert_memory_equal(got, big, sizeof(got));
    for (size_t i = 0; i <= KEEL_PROCESS_FDS_MOST; i++)
        fds[i] = fd;
    assert_int_equal(finish(start("counts_descriptors", NULL, 0, fds,
                                  KEEL_PROCESS_FDS_MOST)),
                     3 + 2); /* standard, its page of lives, its parent */
    assert_int_equal(
        keel_process_start(
            "echoes",
            &(struct keel_process_how){.arg = big, .arg_size = sizeof(big)},
            &p),
        -E2BIG);
    assert_int_equal(keel_process_start(
                         "echoes",
                         &(struct keel_process_how){
                             .fds = fds, .fd_count = KEEL_PROCESS_FDS_MOST + 1},
                         &p),
                     -E2BIG);
    close(fd);
}

static void wrong_names_are_refused(void **state)
{
    struct keel_process *p = NULL;

    (void)state;
    assert_int_equal(keel_process_start("nobody", NULL, &p), -ENOENT);
    assert_int_equal(keel_process_start("", NULL, &p), -EINVAL);
    assert_int_equal(
        keel_process_start("sleeps",
                           &(struct keel_process_how){
                               .name = "12345678901234567890123456789012"},
                           &p),
        -EINVAL);
    fault_fail(KEEL_OP_PROCESS, 1, EAGAIN);
    assert_int_equal(keel_process_start("sleeps", NULL, &p), -EAGAIN);
    fault_clear();
    assert_null(p);
}

static void a_child_has_children_but_a_daemon_may_not(void **state)
{
    struct keel_process *p = NULL;

    (void)state;
    assert_int_equal(finish(start("has_a_child", NULL, 0, NULL, 0)), 0);
    assert_int_equal(
        keel_process_start("has_a_child",
                           &(struct keel_process_how){.daemon = true}, &p),
        0);
    assert_int_equal(finish(p), EPERM);
}

static void the_note_tells_what_it_used(void **state)
{
    struct keel_process *p = start("uses_memory", NULL, 0, NULL, 0);
    struct rusage usage;

    (void)state;
    assert_int_equal(keel_process_join(p, KEEL_FOREVER, NULL), 0);
    assert_int_equal(keel_process_usage(p, &usage), 0);
    assert_true(usage.ru_maxrss >= 32 << 10);
    assert_int_equal(finish(p), 0);
}

static void what_it_prints_is_flushed_and_goes_where_ours_goes(void **state)
{
    char said[100] = "";
    int p[2], saved = dup(1);

    (void)state;
    fflush(stdout);
    assert_int_equal(pipe2(p, O_CLOEXEC), 0);
    dup2(p[1], 1); /* long after the spawner's start */
    assert_int_equal(finish(start("prints", NULL, 0, NULL, 0)), 0);
    dup2(saved, 1);
    close(saved);
    close(p[1]);
    assert_int_equal(read(p[0], said, sizeof(said)), 22);
    assert_string_equal(said, "a line without its end");
    close(p[0]);
}

static void signals_are_as_if_nobody_had_touched_them(void **state)
{
    sigset_t set, before;

    (void)state;
    sigfillset(&set);
    sigprocmask(SIG_BLOCK, &set, &before);
    assert_int_equal(finish(start("signal_mask_is_empty", NULL, 0, NULL, 0)),
                     0);
    sigprocmask(SIG_SETMASK, &before, NULL);
}

static bool gone(int fd)
{
    struct pollfd p = {.fd = fd, .events = POLLIN};
    char c;

    return poll(&p, 1, 10000) == 1 && read(fd, &c, 1) == 0;
}

/* The program that a test starts is orphaned by nobody but itself: its
 * processes hold the write end of `p` as long as they live. */
static void daemons_end_with_the_parent_however_it_ends(void **state)
{
    (void)state;
    for (int how = ENDS_BY_EXIT; how <= ENDS_WITH_SPAWNER; how++) {
        struct keel_process *program;
        int p[2], q[2];
        char c;

        assert_int_equal(pipe2(p, O_CLOEXEC), 0);
        assert_int_equal(pipe2(q, O_CLOEXEC), 0);
        program = start("program", &how, sizeof(how), (int[]){p[1], q[0]}, 2);
        close(p[1]);
        assert_int_equal(read(p[0], &c, 1), 1); /* the daemon runs */
        if (how == ENDS_BY_EXIT) {
            /* it waits for its other process, not for its daemon */
            assert_true(gone(p[0]));
            assert_int_equal(
                keel_process_join(program, keel_after(20 * KEEL_MS), NULL),
                -ETIMEDOUT);
            assert_int_equal(write(q[1], "", 1), 1);
        }
        assert_int_equal(finish(program), how == ENDS_BY_KILL ? -SIGKILL : 0);
        if (how != ENDS_BY_EXIT)
            assert_true(gone(p[0]));
        close(p[0]);
        close(q[0]);
        close(q[1]);
    }
}

static bool is_zombie(pid_t pid)
{
    char path[64], said[200] = "";
    int fd;

    snprintf(path, sizeof(path), "/proc/%d/stat", (int)pid);
    fd = open(path, O_RDONLY);
    if (fd < 0)
        return false;
    if (read(fd, said, sizeof(said) - 1) < 0)
        said[0] = '\0';
    close(fd);
    return strstr(said, ") Z ") != NULL;
}

static void no_zombie_is_left_even_unjoined(void **state)
{
    enum { COUNT = 50 };
    pid_t pids[COUNT];
    const int zero = 0;

    (void)state;
    for (int i = 0; i < COUNT; i++) {
        struct keel_process *p = start("exit_with", &zero, 4, NULL, 0);

        pids[i] = keel_process_pid(p);
        keel_process_free(p);
    }
    for (int i = 0; i < 5000 && keel_process_count() > 0; i++)
        keel_sleep(keel_after(KEEL_MS));
    assert_int_equal(keel_process_count(), 0);
    for (int i = 0; i < COUNT; i++)
        assert_false(is_zombie(pids[i]));
    assert_true(waitpid(-1, NULL, WNOHANG) <= 0);
}

static int one_after_another(void *arg)
{
    (void)arg;
    for (int i = 0; i < 10; i++)
        if (finish(start("exit_with", &i, sizeof(i), NULL, 0)) != i)
            return -1;
    return 0;
}

static void threads_start_processes_at_the_same_time(void **state)
{
    struct keel_thread *t[4];

    (void)state;
    for (int i = 0; i < 4; i++)
        assert_int_equal(
            keel_thread_start("starter", one_after_another, NULL, &t[i]), 0);
    for (int i = 0; i < 4; i++) {
        int result = -1;

        assert_int_equal(keel_thread_join(t[i], KEEL_FOREVER, &result), 0);
        assert_int_equal(result, 0);
    }
}

static struct keel_process *slow;
static int joins_slow(void *arg)
{
    (void)arg;
    return keel_process_join(slow, KEEL_FOREVER, NULL);
}

CO_TEST(a_coroutine_parks_in_join_and_can_be_cancelled)
{
    struct keel_co *a, *b;

    slow = start("sleeps", NULL, 0, NULL, 0);
    a = test_spawn(joins_slow, NULL);
    b = test_spawn(joins_slow, NULL);
    keel_yield();
    keel_cancel(a);
    assert_int_equal(test_join(a), -ECANCELED);
    assert_true(keel_process_is_alive(slow));
    keel_process_kill(slow);
    assert_int_equal(test_join(b), 0);
    assert_int_equal(finish(slow), -SIGKILL);
    return 0;
}

static int starts_one(void *arg)
{
    (void)arg;
    return finish(start("exit_with", &(int){9}, sizeof(int), NULL, 0));
}

CO_TEST(a_start_is_not_cut_by_a_cancel_or_a_deadline)
{
    struct keel_timeout t;
    struct keel_process *p = NULL;
    int rc;

    keel_timeout_begin(&t, keel_after(10 * KEEL_US));
    rc = keel_process_start("sleeps", NULL, &p);
    keel_timeout_end(&t);
    assert_int_equal(rc, 0);
    keel_process_kill(p);
    assert_int_equal(finish(p), -SIGKILL);
    assert_int_equal(test_join(test_spawn(starts_one, NULL)), 9);
    return 0;
}

static void a_cancel_ends_the_waits_of_a_process(void **state)
{
    int ready[2], never[2];
    char c;

    (void)state;
    assert_int_equal(pipe2(ready, O_CLOEXEC), 0);
    assert_int_equal(pipe2(never, O_CLOEXEC), 0);
    for (int i = 0; i < 3 * IN_WAYS; i++) {
        int way = i % IN_WAYS;
        struct keel_process *p =
            start("waits_until_cancelled", &way, sizeof(way),
                  (int[]){ready[1], never[0]}, 2);

        /* Before it waits, as it begins to, and long after. */
        if (i / IN_WAYS > 0)
            assert_int_equal(read(ready[0], &c, 1), 1);
        if (i / IN_WAYS > 1)
            assert_int_equal(
                keel_process_join(p, keel_after(5 * KEEL_MS), NULL),
                -ETIMEDOUT);
        keel_process_cancel(p);
        assert_int_equal(finish(p), 0);
        if (i / IN_WAYS == 0)
            assert_int_equal(read(ready[0], &c, 1), 1);
    }
    for (int i = 0; i < 2; i++) {
        close(ready[i]);
        close(never[i]);
    }
}

static void a_cancel_after_the_end_harms_nobody(void **state)
{
    int seven = 7, result = 0;
    struct keel_process *p = start("exit_with", &seven, 4, NULL, 0);

    (void)state;
    assert_int_equal(keel_process_join(p, KEEL_FOREVER, &result), 0);
    assert_int_equal(result, 7);
    keel_process_cancel(p);
    assert_int_equal(finish(p), 7);
}

int main(void)
{
    alarm(60); /* rather than wait at the exit for what a failed test left */
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(the_exit_code_is_what_the_entry_returns),
        cmocka_unit_test(a_signal_is_a_negative_exit_code),
        cmocka_unit_test(join_that_times_out_leaves_it_running),
        cmocka_unit_test(a_dump_tells_of_processes),
        cmocka_unit_test(the_sentinel_is_readable_at_the_end),
        cmocka_unit_test(a_process_knows_itself_and_the_directory),
        cmocka_unit_test(arguments_arrive_whole_and_are_bounded),
        cmocka_unit_test(wrong_names_are_refused),
        cmocka_unit_test(a_child_has_children_but_a_daemon_may_not),
        cmocka_unit_test(the_note_tells_what_it_used),
        cmocka_unit_test(what_it_prints_is_flushed_and_goes_where_ours_goes),
        cmocka_unit_test(signals_are_as_if_nobody_had_touched_them),
        cmocka_unit_test(daemons_end_with_the_parent_however_it_ends),
        cmocka_unit_test(no_zombie_is_left_even_unjoined),
        cmocka_unit_test(threads_start_processes_at_the_same_time),
        cmocka_unit_test(a_coroutine_parks_in_join_and_can_be_cancelled),
        cmocka_unit_test(a_cancel_ends_the_waits_of_a_process),
        cmocka_unit_test(a_cancel_after_the_end_harms_nobody),
        cmocka_unit_test(a_start_is_not_cut_by_a_cancel_or_a_deadline),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
