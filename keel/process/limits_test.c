/* SPDX-License-Identifier: MIT */
/* What the system has no more of is an error, and keel_limit_error says which
 * limit that was.  Each test in a process of its own, which lowers it. */
#include <keel/co.h>

#include "test/test.h"

#include <stdio.h>
#include <sys/resource.h>
#include <sys/wait.h>
#include <unistd.h>

#include <keel/net.h>
#include <keel/pipe.h>
#include <keel/process.h>
#include <keel/shared.h>
#include <keel/shqueue.h>
#include <keel/system.h>
#include <keel/thread.h>

#include "loop/sanitize.h"
#include "seam/limit.h"

#if defined(KEEL_ASAN) || defined(KEEL_TSAN)
#define WATCHED 1 /* whose shadow is larger than any limit of addresses */
#else
#define WATCHED 0
#endif

static void lower(int resource, rlim_t to)
{
    const struct rlimit l = {to, to};

    if (setrlimit((__rlimit_resource_t)resource, &l) < 0)
        _exit(10);
}

static rlim_t addresses(void)
{
    unsigned long pages = 0;
    FILE *f = fopen("/proc/self/statm", "r");

    if (!f || fscanf(f, "%lu", &pages) != 1)
        _exit(10);
    fclose(f);
    return pages * (rlim_t)sysconf(_SC_PAGESIZE);
}

/* Root has as many processes as it likes. */
static void become_nobody(void)
{
    if (geteuid() == 0 && keel_become(65534, 65534) < 0)
        _exit(10);
}

/* Ends the child: 0 when `rc` is `error` and the words begin as they should. */
static _Noreturn void expect(int rc, int error, const char *words)
{
    const char *said = keel_limit_error(rc);

    if (rc == error && said && strncmp(said, words, strlen(words)) == 0 &&
        strstr(said, "allows no more"))
        _exit(0);
    fprintf(stderr, "%s: got %d, %s\n", words, rc, said ? said : "nothing");
    _exit(1);
}

static void must_succeed(void (*fn)(void))
{
    int status;
    pid_t pid = fork();

    if (pid == 0) {
        fn();
        _exit(2);
    }
    assert_int_equal(waitpid(pid, &status, 0), pid);
    assert_int_equal(status, 0);
}

static int nothing(void *arg)
{
    return arg != NULL;
}

static void no_descriptor(void)
{
    struct keel_pipe *a, *b;

    lower(RLIMIT_NOFILE, 3);
    expect(keel_pipe_new(&a, &b), -EMFILE, "RLIMIT_NOFILE (3)");
}

static void no_socket(void)
{
    struct keel_listener *l;

    lower(RLIMIT_NOFILE, 3);
    expect(keel_listen("127.0.0.1:0", &l), -EMFILE, "RLIMIT_NOFILE (3)");
}

static void no_descriptor_for_a_process(void)
{
    struct keel_process *p;

    lower(RLIMIT_NOFILE, 3);
    expect(keel_process_start("pass", NULL, &p), -EMFILE, "RLIMIT_NOFILE (3)");
}

static void descriptors_are_an_error_that_says_so(void **state)
{
    (void)state;
    must_succeed(no_descriptor);
    must_succeed(no_socket);
    must_succeed(no_descriptor_for_a_process);
}

static void no_thread(void)
{
    struct keel_thread *t;

    become_nobody();
    lower(RLIMIT_NPROC, 1);
    expect(keel_thread_start("t", nothing, NULL, &t), -EAGAIN,
           "RLIMIT_NPROC (1)");
}

static void no_loop(void)
{
    struct keel_loop *l;

    become_nobody();
    lower(RLIMIT_NPROC, 1);
    expect(keel_loop_start("l", &l), -EAGAIN, "RLIMIT_NPROC (1)");
}

static void no_room_for_a_thread(void)
{
    struct keel_thread *t;

    lower(RLIMIT_AS, addresses() + (1 << 20));
    expect(keel_thread_start("t", nothing, NULL, &t), -EAGAIN, "RLIMIT_AS");
}

static void threads_are_an_error_that_says_so(void **state)
{
    (void)state;
    must_succeed(no_thread);
    must_succeed(no_loop);
    if (!WATCHED)
        must_succeed(no_room_for_a_thread);
}

KEEL_PROCESS(pass)
{
    (void)arg;
    return 0;
}

static void no_process(void)
{
    struct keel_process *p;

    become_nobody();
    lower(RLIMIT_NPROC, 1);
    expect(keel_process_start("pass", NULL, &p), -EAGAIN, "RLIMIT_NPROC (1)");
}

static void processes_are_an_error_that_says_so(void **state)
{
    (void)state;
    must_succeed(no_process);
}

static void too_large(void)
{
    struct keel_shared *s;

    lower(RLIMIT_FSIZE, 4096);
    expect(keel_shared_new(1 << 20, &s), -EFBIG, "RLIMIT_FSIZE (4096)");
}

static void too_large_a_queue(void)
{
    struct keel_shqueue *q;

    lower(RLIMIT_FSIZE, 4096);
    expect(keel_shqueue_new(1000, 1000, &q), -EFBIG, "RLIMIT_FSIZE (4096)");
}

static void no_addresses(void)
{
    struct keel_shared *s;

    lower(RLIMIT_AS, addresses() + (64 << 20));
    expect(keel_shared_new((size_t)1 << 30, &s), -ENOMEM, "RLIMIT_AS");
}

static void shared_memory_is_an_error_that_says_so(void **state)
{
    (void)state;
    must_succeed(too_large);
    must_succeed(too_large_a_queue);
    if (!WATCHED)
        must_succeed(no_addresses);
}

static int spawn_until_it_fails(void *arg)
{
    const struct keel_spawn how = {.stack_bytes = 64 << 20};
    int rc = 0;

    lower(RLIMIT_AS, addresses() + (256 << 20));
    for (int i = 0; i < 100 && rc == 0; i++)
        rc = keel_spawn(&how, nothing, NULL, NULL);
    if (rc != -ENOMEM || !strstr(keel_limit_error(rc), "ulimit -v"))
        _exit(1);
    _exit(0);
    return arg != NULL;
}

static void no_stack(void)
{
    keel_run(spawn_until_it_fails, NULL);
}

static void stacks_are_an_error_that_says_so(void **state)
{
    (void)state;
    if (WATCHED)
        skip();
    must_succeed(no_stack);
}

/* Kernels since 5.12 count rings as memory of the control group, so that this
 * cannot be brought about on most. */
static void no_ring(void)
{
    lower(RLIMIT_MEMLOCK, 65536);
    expect(limit_met(LIMIT_POLLER, -ENOMEM), -ENOMEM, "RLIMIT_MEMLOCK (65536)");
}

static void locked_memory_is_an_error_that_says_so(void **state)
{
    (void)state;
    must_succeed(no_ring);
}

static void other_errors_are_of_no_limit(void **state)
{
    (void)state;
    assert_null(keel_limit_error(-EPIPE));
    assert_null(keel_limit_error(0));
    /* Of what was wanted before, that error only. */
    limit_met(LIMIT_THREAD, -EAGAIN);
    assert_null(keel_limit_error(-ECONNREFUSED));
}

int main(void)
{
    /* All fork, from one thread. */
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(descriptors_are_an_error_that_says_so),
        cmocka_unit_test(threads_are_an_error_that_says_so),
        cmocka_unit_test(processes_are_an_error_that_says_so),
        cmocka_unit_test(shared_memory_is_an_error_that_says_so),
        cmocka_unit_test(stacks_are_an_error_that_says_so),
        cmocka_unit_test(locked_memory_is_an_error_that_says_so),
        cmocka_unit_test(other_errors_are_of_no_limit),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
