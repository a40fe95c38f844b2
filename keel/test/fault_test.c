/* SPDX-License-Identifier: MIT */
#include <errno.h>
#include <fcntl.h>
#include <pthread.h>
#include <setjmp.h>
#include <signal.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>
#include <sys/wait.h>
#include <unistd.h>

#include <keel/file.h>

#include "sim/disk.h"
#include "fault.h"

static int file_new(void)
{
    int fd;

    test_disk_install(1 << 20);
    fd = keel_file_open_any("/disk/f", O_RDWR | O_CREAT, 0600);
    assert_true(fd >= 0);
    return fd;
}

static int end(void **state)
{
    (void)state;
    fault_clear();
    test_disk_remove();
    return 0;
}

static void exactly_the_nth_operation_of_its_kind_fails(void **state)
{
    int fd = file_new();
    char byte = 'x';

    (void)state;
    fault_fail(KEEL_OP_WRITE, 3, EIO);
    assert_int_equal(keel_file_write(fd, "a", 1, 0), 0);
    assert_int_equal(keel_file_read(fd, &byte, 1, 0), 1);
    assert_int_equal(keel_file_write(fd, "b", 1, 0), 0);
    assert_int_equal(keel_file_write(fd, "c", 1, 0), -EIO);
    assert_int_equal(keel_file_write(fd, "d", 1, 5), 0);
    assert_int_equal(fault_seen(KEEL_OP_WRITE), 4);
    assert_int_equal(fault_seen(FAULT_ANY), 5);
    assert_true(fault_fired());
    assert_false(fault_fired());
    assert_int_equal(keel_file_read(fd, &byte, 1, 0), 1);
    assert_int_equal(byte, 'b'); /* the failed one did nothing */
}

static void an_order_may_last_for_some_or_for_all_operations(void **state)
{
    int fd = file_new();

    (void)state;
    fault_fail_times(KEEL_OP_SYNC, 2, EIO, 2);
    assert_int_equal(keel_file_sync(fd), 0);
    assert_int_equal(keel_file_sync(fd), -EIO);
    assert_int_equal(keel_file_sync_data(fd), -EIO);
    assert_int_equal(keel_file_sync(fd), 0);
    fault_fail_times(FAULT_ANY, 2, ENOSPC, 0);
    assert_int_equal(keel_file_sync(fd), 0);
    for (int k = 0; k < 10; k++)
        assert_int_equal(keel_file_write(fd, "a", 1, 0), -ENOSPC);
    fault_clear();
    assert_int_equal(keel_file_write(fd, "a", 1, 0), 0);
    assert_false(fault_fired());
}

static void an_allocation_fails_once_and_the_next_succeeds(void **state)
{
    void *p;

    (void)state;
    fault_fail_alloc(2);
    p = keel_alloc(8);
    assert_non_null(p);
    keel_free(p);
    assert_null(keel_alloc(8));
    assert_true(fault_fired());
    p = keel_alloc(8);
    assert_non_null(p);
    keel_free(p);
}

static void a_short_write_is_continued_by_the_caller(void **state)
{
    int fd = file_new();
    char back[4];

    (void)state;
    fault_fail(KEEL_OP_WRITE, 1, FAULT_SHORT);
    assert_int_equal(keel_seam.disk->pwrite(fd, "abcd", 4, 0), 3);
    assert_true(fault_fired());
    fault_fail(KEEL_OP_WRITE, 1, FAULT_SHORT);
    assert_int_equal(keel_file_write(fd, "wxyz", 4, 0), 0);
    assert_int_equal(fault_seen(KEEL_OP_WRITE), 2);
    assert_int_equal(keel_file_read(fd, back, 4, 0), 4);
    assert_memory_equal(back, "wxyz", 4);
}

static void *write_many(void *arg)
{
    int fd = *(int *)arg, failed = 0;

    for (unsigned k = 0; k < 2000; k++)
        failed += keel_file_write(fd, "a", 1, k) < 0;
    return (void *)(intptr_t)failed;
}

static void one_operation_fails_however_many_threads_there_are(void **state)
{
    int fd = file_new();
    pthread_t thread[4];
    intptr_t failed = 0;

    (void)state;
    fault_fail(KEEL_OP_WRITE, 5000, EIO);
    for (int k = 0; k < 4; k++)
        assert_int_equal(pthread_create(&thread[k], NULL, write_many, &fd), 0);
    for (int k = 0; k < 4; k++) {
        void *ret;

        assert_int_equal(pthread_join(thread[k], &ret), 0);
        failed += (intptr_t)ret;
    }
    assert_int_equal(failed, 1);
    assert_int_equal(fault_seen(KEEL_OP_WRITE), 8000);
}

static void a_kill_ends_the_process_before_the_operation(void **state)
{
    int fd = file_new(), status;
    pid_t pid;

    (void)state;
    pid = fork();
    assert_true(pid >= 0);
    if (pid == 0) {
        fault_fail(KEEL_OP_SYNC, 1, FAULT_KILL);
        keel_file_sync(fd);
        _exit(0);
    }
    assert_int_equal(waitpid(pid, &status, 0), pid);
    assert_true(WIFSIGNALED(status));
    assert_int_equal(WTERMSIG(status), SIGKILL);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_teardown(exactly_the_nth_operation_of_its_kind_fails,
                                  end),
        cmocka_unit_test_teardown(
            an_order_may_last_for_some_or_for_all_operations, end),
        cmocka_unit_test_teardown(
            an_allocation_fails_once_and_the_next_succeeds, end),
        cmocka_unit_test_teardown(a_short_write_is_continued_by_the_caller,
                                  end),
        cmocka_unit_test_teardown(
            one_operation_fails_however_many_threads_there_are, end),
        cmocka_unit_test_teardown(a_kill_ends_the_process_before_the_operation,
                                  end),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
