/* SPDX-License-Identifier: MIT */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>

#include <cmocka.h>

#include <dirent.h>
#include <errno.h>
#include <linux/fs.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include <keel/co.h>
#include <keel/file.h>
#include <keel/seam.h>

#include "test/both.h"
#include "test/fault.h"

/* Real files, in a directory of each test's own.  Every test body runs twice:
 * in this plain thread and in a coroutine of a loop. */

static int root = -1;
static char root_path[64];

static int begin(void **state)
{
    (void)state;
    snprintf(root_path, sizeof root_path, "/tmp/keel-file-XXXXXX");
    if (!mkdtemp(root_path))
        return -1;
    root = keel_file_open_any(root_path, O_RDONLY | O_DIRECTORY, 0);
    return root < 0 ? -1 : 0;
}

static int remove_each(const char *name, unsigned char type, void *arg)
{
    int dir = *(int *)arg;

    if (type == DT_DIR) {
        int sub = keel_file_open(dir, name, O_RDONLY | O_DIRECTORY, 0);

        (void)keel_file_list(sub, remove_each, &sub);
        keel_file_close(sub);
        return keel_file_rmdir(dir, name);
    }
    return keel_file_unlink(dir, name);
}

static int end(void **state)
{
    (void)state;
    keel_seam.fault = NULL;
    (void)keel_file_list(root, remove_each, &root);
    keel_file_close(root);
    return rmdir(root_path);
}

static char pattern[200000], copy[sizeof pattern + 10];

static void fill(void)
{
    for (size_t i = 0; i < sizeof pattern; i++)
        pattern[i] = (char)(i * 7 + i / 251);
    memset(copy, 0, sizeof copy);
}

static int what_is_written_is_read_back(void *arg)
{
    (void)arg;
    keel_auto(file) int fd = keel_file_open(root, "f", O_RDWR | O_CREAT, 0600);

    fill();
    assert_true(fd >= 0);
    assert_true(fcntl(fd, F_GETFD) & FD_CLOEXEC);
    assert_int_equal(keel_file_write(fd, pattern, sizeof pattern, 3), 0);
    assert_int_equal(keel_file_read(fd, copy, sizeof copy, 3), sizeof pattern);
    assert_memory_equal(copy, pattern, sizeof pattern);
    assert_int_equal(keel_file_read(fd, copy, 10, sizeof pattern + 3), 0);
    assert_int_equal(keel_file_read(fd, copy, 10, sizeof pattern), 3);
    assert_int_equal(keel_file_sync(fd), 0);
    assert_int_equal(keel_file_sync_data(fd), 0);
    assert_int_equal(keel_file_sync_all(fd), 0);
    assert_int_equal(keel_file_sync(root), 0);
    return 0;
}

static int interrupted_and_short_transfers_are_finished(void *arg)
{
    (void)arg;
    keel_auto(file) int fd = keel_file_open(root, "f", O_RDWR | O_CREAT, 0600);

    fill();
    for (unsigned nth = 1; nth <= 2; nth++)
        for (int short_one = 0; short_one <= 1; short_one++) {
            int error = short_one ? FAULT_SHORT : EINTR;

            memset(copy, 0, sizeof copy);
            fault_fail(KEEL_OP_WRITE, nth, error);
            assert_int_equal(keel_file_write(fd, pattern, sizeof pattern, 0),
                             0);
            assert_int_equal(fault_fired(), nth == 1);
            /* asked once per attempt: one more after the fault */
            assert_int_equal(fault_seen(KEEL_OP_WRITE), nth == 1 ? 2 : 1);
            fault_fail(KEEL_OP_READ, nth, error);
            assert_int_equal(keel_file_read(fd, copy, sizeof pattern, 0),
                             sizeof pattern);
            assert_int_equal(fault_fired(), nth == 1);
            assert_int_equal(fault_seen(KEEL_OP_READ), nth == 1 ? 2 : 1);
            assert_memory_equal(copy, pattern, sizeof pattern);

            memset(copy, 0, sizeof copy);
            fault_fail(KEEL_OP_READ, nth, error);
            assert_int_equal(keel_file_read_once(fd, copy, sizeof pattern, 0),
                             sizeof pattern);
            assert_int_equal(fault_fired(), nth == 1);
            assert_int_equal(fault_seen(KEEL_OP_READ), nth == 1 ? 2 : 1);
            assert_memory_equal(copy, pattern, sizeof pattern);
        }
    fault_fail(KEEL_OP_SYNC, 1, EINTR);
    assert_int_equal(keel_file_sync(fd), 0);
    assert_int_equal(fault_seen(KEEL_OP_SYNC), 2);
    fault_fail(KEEL_OP_OPEN, 1, EINTR);
    keel_auto(file) int again = keel_file_open(root, "f", O_RDONLY, 0);
    assert_true(again >= 0);
    keel_seam.fault = NULL;
    return 0;
}

static int each_kind_reports_its_fault_without_doing_it(void *arg)
{
    (void)arg;
    struct statx st;
    struct statfs fs;
    keel_auto(file) int fd = keel_file_open(root, "f", O_RDWR | O_CREAT, 0600);

#define FAILS(op, call)                                                        \
    fault_fail(op, 1, EIO);                                                    \
    assert_int_equal(call, -EIO);                                              \
    assert_int_equal(fault_fired(), 1);                                        \
    assert_int_equal(fault_seen(op), 1)

    FAILS(KEEL_OP_OPEN, keel_file_open(root, "g", O_RDWR | O_CREAT, 0600));
    FAILS(KEEL_OP_WRITE, keel_file_write(fd, "x", 1, 0));
    FAILS(KEEL_OP_READ, keel_file_read(fd, copy, 1, 0));
    FAILS(KEEL_OP_SYNC, keel_file_sync(fd));
    FAILS(KEEL_OP_SYNC, keel_file_sync_data(fd));
    FAILS(KEEL_OP_SYNC, keel_file_sync_all(fd));
    FAILS(KEEL_OP_RESERVE, keel_file_reserve(fd, 0, 0, 100));
    FAILS(KEEL_OP_RESERVE, keel_file_truncate(fd, 100));
    FAILS(KEEL_OP_STAT, keel_file_stat(root, "f", &st));
    FAILS(KEEL_OP_STAT, keel_file_statfs(fd, &fs));
    FAILS(KEEL_OP_RENAME, keel_file_rename(root, "f", root, "h", 0));
    FAILS(KEEL_OP_LINK, keel_file_link(root, "f", root, "h"));
    FAILS(KEEL_OP_LINK, keel_file_link_fd(fd, root, "h"));
    FAILS(KEEL_OP_UNLINK, keel_file_unlink(root, "f"));
    FAILS(KEEL_OP_UNLINK, keel_file_rmdir(root, "f"));
    FAILS(KEEL_OP_MKDIR, keel_file_mkdir(root, "d", 0700));
    FAILS(KEEL_OP_LIST, keel_file_list(root, remove_each, &root));
    FAILS(KEEL_OP_LOCK, keel_file_lock(fd));
    FAILS(KEEL_OP_MODE, keel_file_chmod(fd, 0644));
    FAILS(KEEL_OP_MODE, keel_file_set_mtime(fd, 0));
#undef FAILS
    keel_seam.fault = NULL;
    assert_int_equal(keel_file_stat(fd, NULL, &st), 0);
    assert_int_equal(st.stx_size, 0);
    assert_int_equal(st.stx_nlink, 1);
    assert_int_equal(st.stx_mode & 07777, 0600);
    assert_int_equal(keel_file_stat(root, "g", &st), -ENOENT);
    assert_int_equal(keel_file_stat(root, "h", &st), -ENOENT);
    assert_int_equal(keel_file_stat(root, "d", &st), -ENOENT);
    return 0;
}

static int nothing_leads_out_of_the_directory(void *arg)
{
    (void)arg;
    struct statx st;
    keel_auto(file) int sub = -1;
    keel_auto(file) int fd = -1;

    assert_int_equal(keel_file_mkdir(root, "sub", 0700), 0);
    sub = keel_file_open(root, "sub", O_RDONLY | O_DIRECTORY, 0);
    assert_true(sub >= 0);
    fd = keel_file_open(root, "sub/deep", O_RDWR | O_CREAT, 0600);
    assert_true(fd >= 0);
    assert_int_equal(symlinkat("..", sub, "out"), 0);
    assert_int_equal(symlinkat("deep", sub, "in"), 0);

    assert_int_equal(keel_file_open(sub, "../sub/deep", O_RDONLY, 0), -EXDEV);
    assert_int_equal(keel_file_open(sub, "/etc/passwd", O_RDONLY, 0), -EXDEV);
    assert_int_equal(keel_file_open(sub, "out", O_RDONLY, 0), -ELOOP);
    assert_int_equal(keel_file_open(sub, "out/sub/deep", O_RDONLY, 0), -ELOOP);
    assert_int_equal(keel_file_open(sub, "in", O_RDONLY, 0), -ELOOP);
    assert_int_equal(keel_file_stat(root, "sub/deep", &st), 0);
    assert_int_equal(keel_file_stat(sub, "in", &st), 0);
    assert_true(S_ISLNK(st.stx_mode));
    assert_int_equal(keel_file_stat(sub, "..", &st), -EXDEV);
    assert_int_equal(keel_file_stat(sub, "../sub", &st), -EXDEV);
    assert_int_equal(keel_file_stat(sub, "out/sub", &st), -ELOOP);
    assert_int_equal(keel_file_stat(sub, "/etc", &st), -EXDEV);
    assert_int_equal(keel_file_stat(sub, "no/such", &st), -ENOENT);
    return 0;
}

static int an_unstable_lookup_is_tried_again_but_not_for_ever(void *arg)
{
    (void)arg;
    int fd;

    fault_fail(KEEL_OP_OPEN, 1, EAGAIN);
    fd = keel_file_open(root, "f", O_RDWR | O_CREAT, 0600);
    assert_true(fd >= 0);
    assert_int_equal(fault_seen(KEEL_OP_OPEN), 2);
    keel_file_close(fd);
    keel_seam.fault = NULL;
    return 0;
}

static int names_are_moved_linked_and_removed(void *arg)
{
    (void)arg;
    struct statx st;
    keel_auto(file) int fd =
        keel_file_open(root, ".", O_RDWR | O_TMPFILE, 0640);
    keel_auto(file) int other =
        keel_file_open(root, "b", O_RDWR | O_CREAT, 0600);

    assert_true(fd >= 0 && other >= 0);
    assert_int_equal(keel_file_link_fd(fd, root, "a"), 0);
    assert_int_equal(keel_file_link_fd(fd, root, "a"), -EEXIST);
    assert_int_equal(keel_file_rename(root, "a", root, "b", RENAME_NOREPLACE),
                     -EEXIST);
    assert_int_equal(keel_file_rename(root, "a", root, "b", 0), 0);
    assert_int_equal(keel_file_stat(root, "a", &st), -ENOENT);
    assert_int_equal(keel_file_link(root, "b", root, "c"), 0);
    assert_int_equal(keel_file_stat(root, "c", &st), 0);
    assert_int_equal(st.stx_nlink, 2);
    assert_int_equal(keel_file_unlink(root, "b"), 0);
    assert_int_equal(keel_file_unlink(root, "b"), -ENOENT);
    assert_int_equal(keel_file_chmod(fd, 0604), 0);
    assert_int_equal(keel_file_set_mtime(fd, -1), 0);
    assert_int_equal(keel_file_reserve(fd, 0, 0, 10000), 0);
    assert_int_equal(keel_file_stat(fd, NULL, &st), 0);
    assert_int_equal(st.stx_size, 10000);
    assert_int_equal(st.stx_mode & 07777, 0604);
    assert_int_equal(keel_file_truncate(fd, 10), 0);
    assert_int_equal(keel_file_set_mtime(fd, -1), 0);
    assert_int_equal(keel_file_stat(fd, NULL, &st), 0);
    assert_int_equal(st.stx_size, 10);
    assert_int_equal(st.stx_mtime.tv_sec, -1);
    assert_int_equal(st.stx_mtime.tv_nsec, 999999999);
    assert_int_equal(keel_file_mkdir(root, "d", 0700), 0);
    assert_int_equal(keel_file_rmdir(root, "d"), 0);
    return 0;
}

static int a_lock_excludes_another_descriptor(void *arg)
{
    (void)arg;
    int one = keel_file_open(root, "l", O_RDWR | O_CREAT, 0600);
    keel_auto(file) int two = keel_file_open(root, "l", O_RDWR, 0);

    assert_int_equal(keel_file_lock(one), 0);
    assert_int_equal(keel_file_lock(two), -EWOULDBLOCK);
    keel_file_close(one);
    assert_int_equal(keel_file_lock(two), 0);
    return 0;
}

static int count_each(const char *name, unsigned char type, void *arg)
{
    assert_int_equal(type, DT_REG);
    assert_int_equal(strncmp(name, "entry-", 6), 0);
    ++*(int *)arg;
    return 0;
}

static int stop_at_once(const char *name, unsigned char type, void *arg)
{
    (void)name;
    (void)type;
    (void)arg;
    return 7;
}

static int a_listing_is_complete_each_time(void *arg)
{
    (void)arg;
    char name[80];
    int count = 0;

    for (int i = 0; i < 1500; i++) { /* more than one buffer */
        snprintf(name, sizeof name, "entry-%040d", i);
        keel_file_close(keel_file_open(root, name, O_RDWR | O_CREAT, 0600));
    }
    for (int i = 0; i < 2; i++) {
        count = 0;
        assert_int_equal(keel_file_list(root, count_each, &count), 0);
        assert_int_equal(count, 1500);
    }
    assert_int_equal(keel_file_list(root, stop_at_once, NULL), 7);
    return 0;
}

static int a_direct_transfer_is_short_by_whole_blocks(void *arg)
{
    (void)arg;
    void *block = NULL;
    int fd = open("/var/tmp", O_TMPFILE | O_RDWR | O_DIRECT, 0600);

    if (fd < 0)
        return 0; /* no file system here that knows O_DIRECT */
    assert_int_equal(posix_memalign(&block, 4096, 65536), 0);
    memset(block, 'd', 65536);
    for (unsigned nth = 1; nth <= 2; nth++) {
        fault_fail(KEEL_OP_WRITE, nth, FAULT_SHORT);
        assert_int_equal(keel_file_write(fd, block, 65536, 0), 0);
        fault_fail(KEEL_OP_READ, nth, FAULT_SHORT);
        assert_int_equal(keel_file_read(fd, block, 65536, 0), 65536);
    }
    keel_seam.fault = NULL;
    free(block);
    keel_file_close(fd);
    return 0;
}

static int a_link_is_made_read_dated_and_never_followed(void *arg)
{
    const int64_t before_1970 = -1500000000;
    struct statx x;
    char text[64];

    (void)arg;
    assert_int_equal(keel_file_symlink("else/where", root, "l"), 0);
    assert_int_equal(keel_file_symlink("twice", root, "l"), -EEXIST);
    assert_int_equal(keel_file_readlink(root, "l", text, sizeof text), 10);
    assert_memory_equal(text, "else/where", 10);
    assert_int_equal(keel_file_readlink(root, "l", text, 4), 4);
    assert_int_equal(keel_file_set_mtime_at(root, "l", before_1970), 0);
    assert_int_equal(keel_file_stat(root, "l", &x), 0);
    assert_true(S_ISLNK(x.stx_mode));
    assert_int_equal(x.stx_mtime.tv_sec, -2);
    assert_int_equal(x.stx_mtime.tv_nsec, 500000000);
    assert_int_equal(keel_file_open(root, "l", O_RDONLY, 0), -ELOOP);
    assert_int_equal(keel_file_unlink(root, "l"), 0);
    return 0;
}

static int opens_the_pipe(void *arg)
{
    int fd = keel_file_open(root, "pipe", O_RDONLY, 0);

    *(int *)arg = fd;
    return 0;
}

/* The kernel keeps who opens a pipe until somebody opens the other end: a disk
 * that takes its time. */
static int a_slow_disk_stalls_no_other_coroutine(void *arg)
{
    struct keel_co *co;
    int in = -1, out;

    (void)arg;
    assert_int_equal(mkfifoat(root, "pipe", 0600), 0);
    assert_int_equal(keel_spawn(NULL, opens_the_pipe, &in, &co), 0);
    for (int i = 0; i < 3; i++)
        assert_int_equal(keel_sleep(keel_after(KEEL_MS)), 0);
    assert_int_equal(keel_join(co, KEEL_NOW, NULL), -ETIMEDOUT);
    out = keel_file_open(root, "pipe", O_WRONLY, 0);
    assert_true(out >= 0);
    assert_int_equal(keel_join(co, KEEL_FOREVER, NULL), 0);
    assert_true(in >= 0);
    keel_file_close(in);
    keel_file_close(out);
    return 0;
}

IN_BOTH(what_is_written_is_read_back)
IN_BOTH(interrupted_and_short_transfers_are_finished)
IN_BOTH(each_kind_reports_its_fault_without_doing_it)
IN_BOTH(nothing_leads_out_of_the_directory)
IN_BOTH(an_unstable_lookup_is_tried_again_but_not_for_ever)
IN_BOTH(names_are_moved_linked_and_removed)
IN_BOTH(a_link_is_made_read_dated_and_never_followed)
IN_BOTH(a_lock_excludes_another_descriptor)
IN_BOTH(a_listing_is_complete_each_time)
IN_BOTH(a_direct_transfer_is_short_by_whole_blocks)
IN_CO(a_slow_disk_stalls_no_other_coroutine)

#define TEST(name) cmocka_unit_test_setup_teardown(name, begin, end)

int main(void)
{
    const struct CMUnitTest tests[] = {
        BOTH(what_is_written_is_read_back),
        BOTH(interrupted_and_short_transfers_are_finished),
        BOTH(each_kind_reports_its_fault_without_doing_it),
        BOTH(nothing_leads_out_of_the_directory),
        BOTH(an_unstable_lookup_is_tried_again_but_not_for_ever),
        BOTH(names_are_moved_linked_and_removed),
        BOTH(a_link_is_made_read_dated_and_never_followed),
        BOTH(a_lock_excludes_another_descriptor),
        BOTH(a_listing_is_complete_each_time),
        BOTH(a_direct_transfer_is_short_by_whole_blocks),
        CO(a_slow_disk_stalls_no_other_coroutine),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
