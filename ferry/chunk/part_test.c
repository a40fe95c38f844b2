/* SPDX-License-Identifier: MIT */
#include <errno.h>
#include <fcntl.h>
#include <setjmp.h>
#include <signal.h>
#include <spawn.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/statfs.h>
#include <sys/wait.h>
#include <unistd.h>

#include <linux/magic.h>

#include <cmocka.h>

#include <keel/co.h>
#include <keel/file.h>
#include <keel/thread.h>

#include "chunk/part.h"
#include "sim/disk.h"
#include "test/fault.h"

static char place[] = "/tmp/ferry-part-XXXXXX";
static int dir = -1;
static struct buffer_pool *pool;
static uint8_t boot;

static int boot_of_test(uint8_t ret[16])
{
    memset(ret, boot, 16);
    return 0;
}

/* A clock that tests move, so that two seconds pass at once. */
static keel_ns skipped;
static keel_ns stands_at; /* the clock stands: a slow machine changes nothing */
static keel_ns (*real_now)(void);
static keel_ns clock_of_test(void)
{
    return (stands_at ? stands_at : real_now()) + skipped;
}

static void clean(void)
{
    unlinkat(dir, "p", 0);
    unlinkat(dir, "p.log", 0);
    unlinkat(dir, "q", 0);
}

static int fresh(void **state)
{
    (void)state;
    clean();
    boot = 1;
    stands_at = 0;
    return 0;
}

static struct part_options options(uint64_t size)
{
    return (struct part_options){.dir = dir,
                                 .name = "p",
                                 .size = size,
                                 .hash = CHUNK_XXH128,
                                 .id = "0123456789abcde",
                                 .mode = 0600};
}

static struct part *opened(uint64_t size)
{
    struct part_options o = options(size);
    struct problem why;
    struct part *p = NULL;

    if (part_open(&o, &p, &why) < 0) {
        char text[512];

        problem_sentence(&why, text, sizeof text);
        fail_msg("%s", text);
    }
    return p;
}

/* The bytes of chunk `index`, in one of several versions. */
static void fill(uint8_t *bytes, uint64_t index, unsigned version)
{
    for (size_t i = 0; i < CHUNK_BYTES; i += 8) {
        uint64_t word = (i / 8 + index * 977) * 0x9e3779b97f4a7c15 + version;

        memcpy(bytes + i, &word, 8);
    }
}

static int put(struct part *p, uint64_t index, unsigned version,
               struct problem *why)
{
    keel_auto(buffer) struct buffer *b = NULL;

    assert_int_equal(buffer_take(pool, KEEL_FOREVER, &b), 0);
    fill(b->bytes, index, version);
    return part_write(p, index, b, why);
}

static void put_well(struct part *p, uint64_t index)
{
    assert_int_equal(put(p, index, 0, NULL), 0);
}

/* Whatever happened, what the part has is in the file with that hash. */
static void check_truth(struct part *p, enum chunk_hash hash)
{
    uint8_t *bytes = malloc(CHUNK_BYTES);

    for (uint64_t i = 0; i < chunk_count(part_size(p)); i++) {
        size_t size = chunk_size(part_size(p), i);
        struct digest leaf;

        if (!part_has(p, i))
            continue;
        assert_int_equal(
            keel_file_read(part_fd(p), bytes, size, i * CHUNK_BYTES), size);
        chunk_leaf(hash, bytes, size, &leaf);
        assert_memory_equal(&leaf, &part_leaves(p)[i], sizeof leaf);
    }
    free(bytes);
}

static void check_chunk(int fd, uint64_t index, size_t size, unsigned version)
{
    uint8_t *bytes = malloc(CHUNK_BYTES), *expected = malloc(CHUNK_BYTES);

    fill(expected, index, version);
    assert_int_equal(keel_file_read(fd, bytes, size, index * CHUNK_BYTES),
                     size);
    assert_memory_equal(bytes, expected, size);
    free(bytes);
    free(expected);
}

static void check_content(int fd, uint64_t size, unsigned version)
{
    char beyond;

    for (uint64_t i = 0; i < chunk_count(size); i++)
        check_chunk(fd, i, chunk_size(size, i), version);
    assert_int_equal(keel_file_read(fd, &beyond, 1, size), 0);
}

static bool exists(const char *name)
{
    struct stat st;

    return fstatat(dir, name, &st, AT_SYMLINK_NOFOLLOW) == 0;
}

/* ---- */

static void chunks_in_any_order_make_the_file(void **state)
{
    static const uint64_t sizes[] = {
        0,
        1,
        4096,
        CHUNK_BYTES,
        3 * CHUNK_BYTES + 4095,
        16 * CHUNK_BYTES,        /* from here on with O_DIRECT */
        16 * CHUNK_BYTES + 1,    /* the last chunk has no whole block */
        16 * CHUNK_BYTES + 4097, /* one, and a byte */
    };

    (void)state;
    for (size_t k = 0; k < sizeof sizes / sizeof *sizes; k++) {
        uint64_t size = sizes[k], count = chunk_count(size), bytes = 0;
        static struct digest leaves[20];
        struct digest root, expected;
        struct part *p;

        clean();
        p = opened(size);
        assert_int_equal(part_size(p), size);
        assert_int_equal(part_missing(p, 0), 0);
        for (uint64_t n = 0; n < count; n++) {
            uint64_t i = (n * 7 + 3) % count;

            while (part_has(p, i))
                i = (i + 1) % count;
            assert_int_equal(part_root(p, &root), -EINVAL);
            put_well(p, i);
            bytes += chunk_size(size, i);
            assert_int_equal(part_bytes(p), bytes);
        }
        assert_int_equal(bytes, size);
        assert_int_equal(part_missing(p, 0), count);
        check_content(part_fd(p), size, 0);

        keel_auto(buffer) struct buffer *b = NULL;

        assert_int_equal(buffer_take(pool, KEEL_NOW, &b), 0);
        for (uint64_t i = 0; i < count; i++) {
            fill(b->bytes, i, 0);
            chunk_leaf(CHUNK_XXH128, b->bytes, chunk_size(size, i), &leaves[i]);
        }
        chunk_root(CHUNK_XXH128, leaves, count, &expected);
        assert_int_equal(part_root(p, &root), 0);
        assert_memory_equal(&root, &expected, sizeof root);
        assert_int_equal(part_sync(p, NULL), 0);
        part_close(p);
    }
}

static void large_parts_go_past_the_page_cache(void **state)
{
    struct part *p = opened(16 * CHUNK_BYTES + 5);
    unsigned opens = 0;
    char link[64], target[256];

    (void)state;
    /* One of this process' descriptors of that file has O_DIRECT. */
    for (int fd = 3; fd < 200; fd++) {
        ssize_t n;

        snprintf(link, sizeof link, "/proc/self/fd/%d", fd);
        n = readlink(link, target, sizeof target - 1);
        if (n < 2)
            continue;
        target[n] = '\0';
        if (!strcmp(target + n - 2, "/p") && (fcntl(fd, F_GETFL) & O_DIRECT))
            opens++;
    }
    assert_int_equal(opens, 1);
    part_close(p);
}

static void a_part_is_resumed_without_reading_it(void **state)
{
    struct part *p = opened(9 * CHUNK_BYTES + 5);
    unsigned reads;

    (void)state;
    for (uint64_t i = 0; i < 6; i++)
        put_well(p, i);
    part_close(p);

    fault_clear();
    p = opened(9 * CHUNK_BYTES + 5);
    reads = fault_seen(KEEL_OP_READ);
    assert_int_equal(part_missing(p, 0), 6);
    assert_int_equal(part_bytes(p), 6 * CHUNK_BYTES);
    assert_in_range(reads, 1, 5); /* the journal's */
    for (uint64_t i = 6; i < 10; i++)
        put_well(p, i);
    check_content(part_fd(p), 9 * CHUNK_BYTES + 5, 0);
    part_close(p);
}

static void another_source_starts_afresh(void **state)
{
    (void)state;
    for (int how = 0; how < 5; how++) {
        struct part_options o = options(3 * CHUNK_BYTES);
        struct part *p;

        clean();
        p = opened(3 * CHUNK_BYTES);
        put_well(p, 1);
        part_close(p);
        o.id[0] = how == 0 ? 'x' : '0';
        o.source_mtime_ns += how == 1;
        o.source_ctime_ns += how == 2;
        o.hash = how == 3 ? CHUNK_SHA256 : CHUNK_XXH128;
        o.size += how == 4;
        assert_int_equal(part_open(&o, &p, NULL), 0);
        assert_int_equal(part_bytes(p), 0);
        part_close(p);
    }
}

static void tamper(off_t at)
{
    int fd = openat(dir, "p", O_WRONLY);

    assert_int_equal(pwrite(fd, "!", 1, at), 1);
    close(fd);
}

/* Until the file system's clock has gone on from the journal's last change: two
 * within a tick have the same time. */
static void wait_a_tick(void)
{
    struct stat a, b;

    assert_int_equal(fstatat(dir, "p.log", &a, 0), 0);
    do {
        int fd = openat(dir, "q", O_CREAT | O_WRONLY, 0600);

        assert_int_equal(futimens(fd, NULL), 0);
        assert_int_equal(fstat(fd, &b), 0);
        close(fd);
    } while (b.st_ctim.tv_sec < a.st_ctim.tv_sec ||
             (b.st_ctim.tv_sec == a.st_ctim.tv_sec &&
              b.st_ctim.tv_nsec <= a.st_ctim.tv_nsec));
}

static void only_a_damaged_chunk_is_moved_again(void **state)
{
    (void)state;
    for (int large = 0; large < 2; large++) {
        uint64_t size = (large ? 17 : 5) * CHUNK_BYTES + 99;
        uint64_t count = chunk_count(size);
        struct part *p;

        clean();
        p = opened(size);
        for (uint64_t i = 0; i < count; i++)
            put_well(p, i);
        part_close(p);
        wait_a_tick();
        tamper(2 * CHUNK_BYTES + 17);

        p = opened(size);
        assert_int_equal(part_missing(p, 0), 2);
        assert_int_equal(part_missing(p, 3), count);
        check_truth(p, CHUNK_XXH128);
        part_close(p);

        p = opened(size); /* and that was written down */
        assert_int_equal(part_missing(p, 0), 2);
        put_well(p, 2);
        check_content(part_fd(p), size, 0);
        part_close(p);
    }
}

static void after_a_reboot_the_tail_is_proven(void **state)
{
    struct part *p = opened(6 * CHUNK_BYTES);

    (void)state;
    for (uint64_t i = 0; i < 2; i++)
        put_well(p, i);
    assert_int_equal(part_sync(p, NULL), 0);
    for (uint64_t i = 2; i < 5; i++)
        put_well(p, i);
    part_close(p);
    tamper(3 * CHUNK_BYTES); /* what a power cut may do */

    boot = 2;
    fault_clear();
    p = opened(6 * CHUNK_BYTES);
    assert_true(part_has(p, 0) && part_has(p, 1));
    assert_true(part_has(p, 2) && part_has(p, 4));
    assert_int_equal(part_missing(p, 0), 3);
    check_truth(p, CHUNK_XXH128);
    part_close(p);
    p = opened(6 * CHUNK_BYTES);
    assert_int_equal(part_missing(p, 0), 3);
    assert_int_equal(part_missing(p, 4), 5);
    part_close(p);
}

static void a_rewritten_chunk_has_its_new_hash(void **state)
{
    struct part *p = opened(2 * CHUNK_BYTES);
    struct digest first;

    (void)state;
    put_well(p, 0);
    first = part_leaves(p)[0];
    assert_int_equal(put(p, 0, 1, NULL), 0);
    assert_memory_not_equal(&first, &part_leaves(p)[0], sizeof first);
    check_truth(p, CHUNK_XXH128);
    assert_int_equal(part_withdraw(p, 0, NULL), 0);
    assert_int_equal(part_bytes(p), 0);
    part_close(p);
    p = opened(2 * CHUNK_BYTES);
    assert_int_equal(part_bytes(p), 0);
    part_close(p);
}

static void a_chunk_beyond_the_end_is_refused(void **state)
{
    struct part *p = opened(2 * CHUNK_BYTES);
    struct problem why;

    (void)state;
    assert_int_equal(put(p, 2, 0, &why), -EPROTO);
    assert_int_equal(why.id, PROBLEM_TRANSFER_RANGE);
    assert_int_equal(put(p, UINT64_MAX, 0, &why), -EPROTO);
    assert_int_equal(part_withdraw(p, 2, &why), -EPROTO);
    part_close(p);
}

static void an_unnamed_part_leaves_nothing(void **state)
{
    (void)state;
    for (int large = 0; large < 2; large++) {
        uint64_t size = (large ? 16 : 2) * CHUNK_BYTES + 7;
        struct part_options o = options(size);
        struct digest root;
        struct part *p;

        o.name = NULL;
        assert_int_equal(part_open(&o, &p, NULL), 0);
        assert_null(part_name(p));
        for (uint64_t i = 0; i < chunk_count(size); i++)
            put_well(p, i);
        assert_int_equal(part_withdraw(p, 1, NULL), 0);
        put_well(p, 1);
        assert_int_equal(part_sync(p, NULL), 0);
        assert_int_equal(part_root(p, &root), 0);
        check_content(part_fd(p), size, 0);
        assert_int_equal(keel_file_link_fd(part_fd(p), dir, "q"), 0);
        part_published(p);
        part_drop(p);
        assert_true(exists("q"));
        assert_false(exists("p") || exists("p.log"));
        clean();
    }
}

static void a_dropped_part_is_gone(void **state)
{
    struct part *p = opened(2 * CHUNK_BYTES);

    (void)state;
    assert_string_equal(part_name(p), "p");
    assert_true(exists("p") && exists("p.log"));
    part_drop(p);
    assert_false(exists("p") || exists("p.log"));
    part_drop(NULL);
    part_close(NULL);
}

static void a_published_part_loses_its_journal_only(void **state)
{
    struct part *p = opened(CHUNK_BYTES);

    (void)state;
    put_well(p, 0);
    assert_int_equal(renameat(dir, "p", dir, "q"), 0);
    part_published(p);
    assert_false(exists("p.log"));
    close(openat(dir, "p", O_CREAT | O_WRONLY, 0600)); /* somebody's next */
    part_drop(p);
    assert_true(exists("q") && exists("p"));
}

static void a_file_with_a_second_link_is_not_written_to(void **state)
{
    struct part *p = opened(CHUNK_BYTES);

    (void)state;
    put_well(p, 0);
    part_close(p);
    assert_int_equal(linkat(dir, "p", dir, "q", 0), 0);
    p = opened(CHUNK_BYTES);
    assert_int_equal(part_bytes(p), 0);
    assert_int_equal(put(p, 0, 1, NULL), 0);
    part_close(p);

    int fd = openat(dir, "q", O_RDONLY);

    check_content(fd, CHUNK_BYTES, 0);
    close(fd);
}

static void a_journal_without_its_file_is_not_believed(void **state)
{
    struct part *p = opened(CHUNK_BYTES);

    (void)state;
    put_well(p, 0);
    part_close(p);
    unlinkat(dir, "p", 0); /* the next file gets its inode number */
    p = opened(CHUNK_BYTES);
    assert_int_equal(part_bytes(p), 0);
    part_close(p);
}

static void what_is_no_file_is_refused(void **state)
{
    struct part_options o = options(CHUNK_BYTES);
    struct problem why;
    struct part *p;

    (void)state;
    assert_int_equal(symlinkat("q", dir, "p"), 0);
    assert_true(part_open(&o, &p, &why) < 0);
    assert_int_equal(why.id, PROBLEM_FILE_LOCAL);
    unlinkat(dir, "p", 0);
    assert_int_equal(mkdirat(dir, "p", 0700), 0);
    assert_true(part_open(&o, &p, &why) < 0);
    assert_int_equal(unlinkat(dir, "p", AT_REMOVEDIR), 0);
    o.size = UINT64_MAX;
    assert_int_equal(part_open(&o, &p, &why), -EFBIG);
    assert_int_equal(why.id, PROBLEM_FILE_TOO_LARGE);
    assert_false(exists("p"));
}

/* Half a second passes between two looks. */
static keel_ns hurried_clock(void)
{
    skipped += KEEL_SECOND / 2;
    return clock_of_test();
}

static void a_part_has_one_receiver(void **state)
{
    struct part_options o = options(CHUNK_BYTES);
    struct part *p = opened(CHUNK_BYTES), *second = NULL;
    struct problem why;

    (void)state;
    put_well(p, 0);
    keel_seam.now = hurried_clock;
    assert_int_equal(part_open(&o, &second, &why), -EBUSY);
    assert_int_equal(why.id, PROBLEM_TRANSFER_BUSY);
    o.size++; /* nor is it replaced under the hands of the first */
    assert_int_equal(part_open(&o, &second, &why), -EBUSY);
    keel_seam.now = clock_of_test;
    assert_int_equal(part_bytes(p), CHUNK_BYTES);
    part_close(p);
    p = opened(CHUNK_BYTES);
    assert_int_equal(part_bytes(p), CHUNK_BYTES);
    part_close(p);
}

static void many_withdrawals_cost_one_sync(void **state)
{
    struct part *p = opened(9 * CHUNK_BYTES);

    (void)state;
    for (uint64_t i = 0; i < 9; i++)
        put_well(p, i);
    fault_clear();
    for (uint64_t i = 0; i < 9; i++)
        assert_int_equal(part_withdraw(p, i, NULL), 0);
    assert_int_equal(fault_seen(KEEL_OP_SYNC), 0);
    put_well(p, 0);
    assert_int_equal(fault_seen(KEEL_OP_SYNC), 1);
    put_well(p, 1);
    assert_int_equal(fault_seen(KEEL_OP_SYNC), 1);
    part_close(p);
}

/* ---- syncing */

static void a_failed_sync_is_for_good(void **state)
{
    struct part *p = opened(3 * CHUNK_BYTES);
    struct problem why;
    struct digest root;

    (void)state;
    put_well(p, 0);
    put_well(p, 1);
    fault_fail(KEEL_OP_SYNC, 1, EIO);
    assert_int_equal(part_sync(p, &why), -EIO);
    assert_true(fault_fired());
    assert_int_equal(why.id, PROBLEM_SYNC_FAILED);
    /* The disk is well again, and nothing is believed all the same. */
    assert_int_equal(part_sync(p, &why), -EIO);
    assert_int_equal(why.id, PROBLEM_SYNC_FAILED);
    assert_int_equal(put(p, 2, 0, &why), -EIO);
    assert_int_equal(why.id, PROBLEM_SYNC_FAILED);
    assert_int_equal(part_withdraw(p, 0, &why), -EIO);
    assert_int_equal(part_root(p, &root), -EIO);
    part_close(p); /* as if killed before it was dropped */

    p = opened(3 * CHUNK_BYTES);
    assert_int_equal(part_bytes(p), 0);
    part_close(p);
}

static void data_is_synced_aside_by_bytes_and_by_time(void **state)
{
    struct part *p;

    (void)state;
    stands_at = real_now();
    p = opened(67 * CHUNK_BYTES);
    for (uint64_t i = 0; i < 65; i++)
        put_well(p, i);
    part_close(p);
    boot = 2;
    fault_clear();
    p = opened(67 * CHUNK_BYTES);
    /* All but the last one were marked: one chunk and the journal are read. */
    assert_in_range(fault_seen(KEEL_OP_READ), 2, 6);
    assert_int_equal(part_missing(p, 0), 65);

    skipped += 3 * KEEL_SECOND;
    fault_clear();
    put_well(p, 65);
    assert_in_range(fault_seen(KEEL_OP_SYNC), 1, 3);
    fault_clear();
    put_well(p, 66);
    assert_int_equal(fault_seen(KEEL_OP_SYNC), 0);
    part_close(p);
}

static void a_sync_aside_that_fails_poisons_the_part(void **state)
{
    struct part *p = opened(3 * CHUNK_BYTES);
    struct problem why;

    (void)state;
    skipped += 3 * KEEL_SECOND;
    fault_fail(KEEL_OP_SYNC, 1, EIO);
    assert_int_equal(put(p, 0, 0, &why), -EIO);
    assert_true(fault_fired());
    assert_int_equal(why.id, PROBLEM_SYNC_FAILED);
    assert_int_equal(part_sync(p, NULL), -EIO);
    part_drop(p);
}

/* ---- a small disk, faults, power cuts */

static int disk_install(void **state)
{
    (void)state;
    test_disk_install(40 << 20);
    dir = keel_file_open_any("/disk", O_RDONLY | O_DIRECTORY, 0);
    boot = 1;
    return 0;
}

static int real_dir;
static int disk_remove(void **state)
{
    (void)state;
    test_disk_remove();
    dir = real_dir;
    return 0;
}

static void a_full_disk_refuses_at_the_start_with_numbers(void **state)
{
    struct part_options o = options(100 << 20);
    struct problem why;
    struct part *p;

    (void)state;
    for (int unnamed = 0; unnamed < 2; unnamed++) {
        struct statx st;

        if (unnamed)
            o.name = NULL;
        assert_int_equal(part_open(&o, &p, &why), -ENOSPC);
        assert_int_equal(why.id, PROBLEM_DISK_FULL);
        assert_int_equal(why.size, 100 << 20);
        assert_in_range(why.bytes, 1 << 20, 40 << 20);
        assert_int_equal(keel_file_stat(dir, "p", &st), -ENOENT);
        assert_int_equal(keel_file_stat(dir, "p.log", &st), -ENOENT);
    }
}

static void on_tmpfs_room_is_compared_and_not_taken(void **state)
{
    char own[] = "/dev/shm/ferry-part-test.XXXXXX";
    struct part_options o = options(32 << 20);
    struct problem why;
    struct statfs fs;
    struct statx st;
    struct part *p;

    (void)state;
    if (statfs("/dev/shm", &fs) < 0 || fs.f_type != TMPFS_MAGIC ||
        fs.f_blocks == 0 || !mkdtemp(own))
        skip();
    o.dir = open(own, O_RDONLY | O_DIRECTORY);
    assert_true(o.dir >= 0);
    assert_int_equal(part_open(&o, &p, &why), 0);
    assert_int_equal(keel_file_stat(part_fd(p), NULL, &st), 0);
    assert_int_equal(st.stx_size, 32 << 20);
    assert_in_range(st.stx_blocks, 0, 64);
    part_drop(p);

    o.size = (uint64_t)fs.f_blocks * (uint64_t)fs.f_bsize + (32 << 20);
    assert_int_equal(part_open(&o, &p, &why), -ENOSPC);
    assert_int_equal(why.id, PROBLEM_DISK_FULL);
    assert_int_equal(why.size, o.size);
    assert_in_range(why.bytes, 1, o.size);
    close(o.dir);
    assert_int_equal(rmdir(own), 0); /* nothing is left */
}

/* A life of a part: received with a withdrawal, a second version, two syncs.
 * Stops at the first error.  `ret_synced`: whether a sync was acknowledged. */
static int live(uint64_t size, bool *ret_synced)
{
    struct part_options o = options(size);
    struct part *p = NULL;
    struct problem why;
    struct digest root;
    int rc;

    rc = part_open(&o, &p, &why);
    if (rc < 0)
        return rc;
    (void)keel_file_sync(dir); /* its names survive */
    for (unsigned i = 0; rc == 0 && i < 8; i++) {
        if (i == 3)
            rc = part_withdraw(p, 1, &why);
        if (i == 5)
            skipped += 3 * KEEL_SECOND; /* synced aside */
        if (rc == 0)
            rc = put(p, i % 4, i, &why);
        if (rc == 0 && i == 6) {
            rc = part_sync(p, &why);
            *ret_synced = rc == 0;
        }
    }
    if (rc == 0)
        rc = part_root(p, &root);
    part_close(p);
    return rc;
}

/* Goes on with whatever is there until it is whole. */
static void finish(uint64_t size, struct part *p)
{
    check_truth(p, CHUNK_XXH128);
    for (uint64_t i = 0; i < chunk_count(size); i++)
        assert_int_equal(put(p, i, 9, NULL), 0);
    check_content(part_fd(p), size, 9);
    part_drop(p);
}

static void each_fault_is_reported_and_survived(void **state)
{
    static const enum keel_op ops[] = {
        KEEL_OP_ALLOC,  KEEL_OP_LOCK, KEEL_OP_OPEN,    KEEL_OP_READ,
        KEEL_OP_WRITE,  KEEL_OP_SYNC, KEEL_OP_RESERVE, KEEL_OP_STAT,
        KEEL_OP_UNLINK, KEEL_OP_MODE};
    static const int errors[] = {EIO, ENOSPC, EINTR, EINVAL, FAULT_SHORT};
    uint64_t size = 3 * CHUNK_BYTES + 4100;

    (void)state;
    for (size_t o = 0; o < sizeof ops / sizeof *ops; o++)
        for (size_t e = 0; e < sizeof errors / sizeof *errors; e++)
            for (unsigned nth = 1;; nth++) {
                bool synced = false;
                int rc;

                if (ops[o] == KEEL_OP_ALLOC && e > 0)
                    break;
                disk_install(NULL);
                fault_fail(ops[o], nth, errors[e]);
                rc = live(size, &synced);
                if (!fault_fired()) {
                    assert_int_equal(rc, 0);
                    break;
                }
                if (errors[e] == FAULT_SHORT)
                    assert_int_equal(rc, 0);
                if (rc == 0)
                    assert_true(synced);
                finish(size, opened(size));
            }
    disk_remove(NULL);
}

static void a_power_cut_at_any_moment_is_survived(void **state)
{
    uint64_t size = 3 * CHUNK_BYTES + 4100;
    unsigned runs = 0;

    (void)state;
    for (unsigned nth = 1;; nth++) {
        struct test_disk_image *image;
        bool crashed, synced = false;

        disk_install(NULL);
        test_disk_crash_at(nth);
        (void)live(size, &synced);
        crashed = test_disk_crashed();
        image = test_disk_save();
        for (uint64_t s = 0; s < 24; s++) {
            uint64_t seed = s == 0   ? TEST_DISK_KEEP_ALL
                            : s == 1 ? TEST_DISK_KEEP_NONE
                                     : s;
            struct part *p;

            test_disk_load(image);
            test_disk_reboot(seed);
            dir = keel_file_open_any("/disk", O_RDONLY | O_DIRECTORY, 0);
            /* kill -9 leaves the machine up, and the page cache. */
            boot = s == 0 ? 1 : 2;
            p = opened(size);
            if (s < 2)
                finish(size, p);
            else {
                check_truth(p, CHUNK_XXH128);
                if (synced) /* acknowledged, and not written to since */
                    for (unsigned i = 4; i < 7; i++)
                        check_chunk(part_fd(p), i % 4, CHUNK_BYTES, i);
                part_close(p);
            }
            runs++;
        }
        test_disk_image_free(image);
        if (!crashed)
            break;
    }
    print_message("%u power cuts\n", runs);
    disk_remove(NULL);
}

/* Not needed for truth: journal and names go to the disk as well, so that there
 * is something to go on from. */
static void what_was_synced_aside_is_there_after_a_power_cut(void **state)
{
    uint64_t size = 64 * CHUNK_BYTES; /* large enough for its own directory */
    struct part *p;

    (void)state;
    test_disk_install(200 << 20);
    dir = keel_file_open_any("/disk", O_RDONLY | O_DIRECTORY, 0);
    stands_at = real_now();
    p = opened(size);
    assert_int_equal(put(p, 0, 1, NULL), 0);
    skipped += 3 * KEEL_SECOND;
    assert_int_equal(put(p, 1, 2, NULL), 0); /* a sync is due: done here */
    assert_int_equal(put(p, 2, 3, NULL), 0);
    part_close(p);

    test_disk_reboot(TEST_DISK_KEEP_NONE);
    dir = keel_file_open_any("/disk", O_RDONLY | O_DIRECTORY, 0);
    boot = 2;
    p = opened(size);
    assert_int_equal(part_missing(p, 0), 2);
    check_chunk(part_fd(p), 0, CHUNK_BYTES, 1);
    check_chunk(part_fd(p), 1, CHUNK_BYTES, 2);
    part_drop(p);
    disk_remove(NULL);
}

/* ---- several at once */

struct work {
    struct part *part;
    uint64_t first, step;
    int result;
    int tell; /* a descriptor that gets a byte a chunk, or -1 */
};

static int write_some(void *arg)
{
    struct work *w = arg;

    for (uint64_t i = w->first; i < chunk_count(part_size(w->part));
         i += w->step) {
        keel_auto(buffer) struct buffer *b = NULL;
        int rc = buffer_take(pool, KEEL_FOREVER, &b);

        if (rc == 0) {
            fill(b->bytes, i, 0);
            rc = part_write(w->part, i, b, NULL);
        }
        if (rc < 0)
            return w->result = rc;
        if (w->tell >= 0 && write(w->tell, ".", 1) != 1)
            return w->result = -EPIPE;
    }
    return 0;
}

static void threads_write_side_by_side(void **state)
{
    uint64_t size = 20 * CHUNK_BYTES + 77;
    struct part *p = opened(size);
    struct keel_thread *t[4];
    struct work w[4];

    (void)state;
    for (uint64_t i = 0; i < 4; i++) {
        w[i] = (struct work){p, i, 4, 0, -1};
        assert_int_equal(keel_thread_start("writer", write_some, &w[i], &t[i]),
                         0);
    }
    for (int i = 0; i < 4; i++) {
        assert_int_equal(keel_thread_join(t[i], KEEL_FOREVER, NULL), 0);
        assert_int_equal(w[i].result, 0);
    }
    assert_int_equal(part_bytes(p), size);
    check_content(part_fd(p), size, 0);
    part_close(p);
    p = opened(size);
    assert_int_equal(part_bytes(p), size);
    check_truth(p, CHUNK_XXH128);
    part_close(p);
}

static int write_the_same(void *arg)
{
    struct work *w = arg;

    for (int i = 0; i < 30; i++) {
        int rc = put(w->part, (uint64_t)i % 3, (unsigned)w->first, NULL);

        if (rc < 0 && rc != -EINVAL) /* another one is at it */
            return w->result = rc;
    }
    return 0;
}

static void two_writers_of_one_chunk_never_mix(void **state)
{
    struct part *p = opened(3 * CHUNK_BYTES);
    struct keel_thread *t[3];
    struct work w[3];

    (void)state;
    for (uint64_t i = 0; i < 3; i++) {
        w[i] = (struct work){p, i, 1, 0, -1};
        assert_int_equal(
            keel_thread_start("writer", write_the_same, &w[i], &t[i]), 0);
    }
    for (int i = 0; i < 3; i++) {
        assert_int_equal(keel_thread_join(t[i], KEEL_FOREVER, NULL), 0);
        assert_int_equal(w[i].result, 0);
    }
    check_truth(p, CHUNK_XXH128);
    part_close(p);
}

static int receive(void *arg)
{
    keel_auto(group) struct keel_group *g = NULL;
    struct keel_spawn how = {0};
    struct work *w = arg, mine[8];

    if (keel_group_new(0, &g) < 0)
        return -1;
    how.group = g;
    for (uint64_t i = 0; i < 8; i++) {
        mine[i] = (struct work){w->part, i, 8, 0, w->tell};
        if (keel_spawn(&how, write_some, &mine[i], NULL) < 0)
            return -1;
    }
    return keel_group_join(g, KEEL_FOREVER);
}

static void coroutines_write_side_by_side(void **state)
{
    uint64_t size = 70 * CHUNK_BYTES + 77;
    struct work w = {.part = opened(size), .tell = -1};

    (void)state;
    assert_int_equal(keel_run(receive, &w), 0);
    assert_int_equal(part_bytes(w.part), size);
    check_content(part_fd(w.part), size, 0);
    assert_int_equal(part_sync(w.part, NULL), 0);
    part_close(w.part);

    boot = 2; /* synced by 64 MiB and at the end: nothing is in doubt */
    fault_clear();
    w.part = opened(size);
    assert_in_range(fault_seen(KEEL_OP_READ), 1, 5);
    assert_int_equal(part_bytes(w.part), size);
    part_close(w.part);
}

#define KILLED_SIZE (60 * CHUNK_BYTES + 77)
static const char *self;

/* The process that is killed: receives, and tells of each chunk. */
static int be_killed(const char *path)
{
    struct work w = {.tell = 1};

    dir = open(path, O_RDONLY | O_DIRECTORY);
    w.part = opened(KILLED_SIZE);
    return keel_run(receive, &w);
}

static void kill_9_loses_no_chunk_that_was_told_of(void **state)
{
    (void)state;
    for (uint64_t after = 1; after < 60; after += 11) {
        char *arguments[] = {(char *)(uintptr_t)self, "--be-killed", place,
                             NULL};
        posix_spawn_file_actions_t actions;
        uint64_t told = 0;
        struct part *p;
        pid_t pid;
        int pipes[2];
        char byte;

        clean();
        assert_int_equal(pipe2(pipes, O_CLOEXEC), 0);
        posix_spawn_file_actions_init(&actions);
        posix_spawn_file_actions_adddup2(&actions, pipes[1], 1);
        assert_int_equal(
            posix_spawn(&pid, self, &actions, NULL, arguments, environ), 0);
        posix_spawn_file_actions_destroy(&actions);
        close(pipes[1]);
        while (told < after && read(pipes[0], &byte, 1) == 1)
            told++;
        assert_int_equal(told, after);
        assert_int_equal(kill(pid, SIGKILL), 0);
        assert_int_equal(waitpid(pid, NULL, 0), pid);
        while (read(pipes[0], &byte, 1) == 1)
            told++; /* before it died */
        close(pipes[0]);

        p = opened(KILLED_SIZE);
        assert_true(part_bytes(p) + CHUNK_BYTES > told * CHUNK_BYTES);
        check_truth(p, CHUNK_XXH128);
        for (uint64_t i = 0; i < chunk_count(KILLED_SIZE); i++)
            if (!part_has(p, i))
                put_well(p, i);
        check_content(part_fd(p), KILLED_SIZE, 0);
        part_close(p);
    }
}

/* In a coroutine, what is in doubt is proven on several threads. */
static int resume(void *arg)
{
    *(struct part **)arg = opened(20 * CHUNK_BYTES);
    return 0;
}

static void a_coroutine_proves_on_the_pool(void **state)
{
    struct part *p = opened(20 * CHUNK_BYTES);

    (void)state;
    for (uint64_t i = 0; i < 20; i++)
        put_well(p, i);
    part_close(p);
    tamper(11 * CHUNK_BYTES + 1);
    boot = 2;
    assert_int_equal(keel_run(resume, &p), 0);
    assert_int_equal(part_missing(p, 0), 11);
    assert_int_equal(part_missing(p, 12), 20);
    part_close(p);
}

static int cancel_one(void *arg)
{
    struct work *w = arg;
    struct keel_co *co;
    int rc, result = 0;

    rc = keel_spawn(NULL, write_some, w, &co);
    if (rc < 0)
        return rc;
    keel_yield();
    keel_cancel(co);
    rc = keel_join(co, KEEL_FOREVER, &result);
    if (rc < 0)
        return rc;
    return result == 0 || result == -ECANCELED ? 0 : result;
}

static void a_cancelled_coroutine_leaves_the_truth(void **state)
{
    struct work w = {.part = opened(9 * CHUNK_BYTES), .step = 1, .tell = -1};

    (void)state;
    assert_int_equal(keel_run(cancel_one, &w), 0);
    check_truth(w.part, CHUNK_XXH128);
    part_close(w.part);
}

struct life {
    uint64_t size;
    bool synced;
};

static int live_in_coroutine(void *arg)
{
    struct life *l = arg;

    return live(l->size, &l->synced);
}

static void each_fault_in_a_coroutine_is_survived(void **state)
{
    static const enum keel_op ops[] = {KEEL_OP_ALLOC, KEEL_OP_WRITE,
                                       KEEL_OP_SYNC, KEEL_OP_THREAD};
    static const int errors[] = {EIO, FAULT_SHORT};

    (void)state;
    for (size_t o = 0; o < sizeof ops / sizeof *ops; o++)
        for (size_t e = 0; e < 2; e++)
            for (unsigned nth = 1;; nth++) {
                struct life l = {.size = 3 * CHUNK_BYTES + 4100};
                int rc;

                clean();
                fault_fail(ops[o], nth, errors[e]);
                rc = keel_run(live_in_coroutine, &l);
                if (!fault_fired()) {
                    assert_int_equal(rc, 0);
                    break;
                }
                if (rc == 0)
                    assert_true(l.synced);
                finish(l.size, opened(l.size));
            }
}

#define T(f) cmocka_unit_test_setup(f, fresh)
#define ON_TEST_DISK(f)                                                        \
    cmocka_unit_test_setup_teardown(f, disk_install, disk_remove)
/* ---- holes --------------------------------------------------------------- */

static int put_mixed(struct part *p, uint64_t index)
{
    keel_auto(buffer) struct buffer *b = NULL;

    assert_int_equal(buffer_take(pool, KEEL_FOREVER, &b), 0);
    memset(b->bytes, 0, CHUNK_BYTES);
    memset(b->bytes + 100000, 'x', 5000);
    return part_write(p, index, b, NULL);
}

static uint64_t blocks_of(const struct part *p)
{
    struct statx st;

    assert_int_equal(keel_file_stat(part_fd(p), NULL, &st), 0);
    assert_int_equal(st.stx_size, part_size(p));
    return st.stx_blocks * 512;
}

static void zeros_take_no_room(void **state)
{
    static const uint64_t sizes[] = {CHUNK_BYTES * 20 + 5000, 300000};

    (void)state;
    for (int named = 0; named < 2; named++)
        for (int i = 0; i < 2; i++) {
            struct part_options o = options(sizes[i]);
            struct part *p;

            clean();
            o.name = named ? "p" : NULL;
            o.holes = true;
            assert_int_equal(part_open(&o, &p, NULL), 0);
            for (uint64_t c = 0; c < chunk_count(o.size); c++) {
                put_well(p, c); /* what was there gives way to a hole */
                assert_int_equal(put_mixed(p, c), 0);
            }
            assert_true(blocks_of(p) < o.size / 16 + 65536);
            check_truth(p, o.hash);
            part_rest(p);
            part_close(p);
            if (!named)
                continue;
            assert_int_equal(part_open(&o, &p, NULL), 0);
            assert_int_equal(part_bytes(p), o.size);
            assert_true(blocks_of(p) < o.size / 16 + 65536);
            part_close(p);
        }
}

int main(int argc, char **argv)
{
    const struct CMUnitTest tests[] = {
        T(chunks_in_any_order_make_the_file),
        T(large_parts_go_past_the_page_cache),
        T(a_part_is_resumed_without_reading_it),
        T(another_source_starts_afresh),
        T(only_a_damaged_chunk_is_moved_again),
        T(after_a_reboot_the_tail_is_proven),
        T(a_rewritten_chunk_has_its_new_hash),
        T(a_chunk_beyond_the_end_is_refused),
        T(zeros_take_no_room),
        T(an_unnamed_part_leaves_nothing),
        T(a_dropped_part_is_gone),
        T(a_published_part_loses_its_journal_only),
        T(a_file_with_a_second_link_is_not_written_to),
        T(a_journal_without_its_file_is_not_believed),
        T(what_is_no_file_is_refused),
        T(a_part_has_one_receiver),
        T(many_withdrawals_cost_one_sync),
        T(a_failed_sync_is_for_good),
        T(data_is_synced_aside_by_bytes_and_by_time),
        T(a_sync_aside_that_fails_poisons_the_part),
        ON_TEST_DISK(a_full_disk_refuses_at_the_start_with_numbers),
        T(on_tmpfs_room_is_compared_and_not_taken),
        T(each_fault_is_reported_and_survived),
        T(a_power_cut_at_any_moment_is_survived),
        T(what_was_synced_aside_is_there_after_a_power_cut),
        T(threads_write_side_by_side),
        T(two_writers_of_one_chunk_never_mix),
        T(coroutines_write_side_by_side),
        T(kill_9_loses_no_chunk_that_was_told_of),
        T(a_coroutine_proves_on_the_pool),
        T(a_cancelled_coroutine_leaves_the_truth),
        T(each_fault_in_a_coroutine_is_survived),
    };
    int rc;

    if (buffer_pool_new(8, &pool) < 0)
        return 1;
    boot = 1;
    journal_boot_id = boot_of_test;
    if (argc > 2 && !strcmp(argv[1], "--be-killed"))
        return be_killed(argv[2]) < 0;
    self = argv[0];
    if (!mkdtemp(place))
        return 1;
    real_dir = dir = open(place, O_RDONLY | O_DIRECTORY);
    real_now = keel_seam.now;
    keel_seam.now = clock_of_test;
    if (argc > 1)
        cmocka_set_test_filter(argv[1]);
    rc = cmocka_run_group_tests(tests, NULL, NULL);
    clean();
    buffer_pool_free(pool);
    close(dir);
    rmdir(place);
    return rc;
}
