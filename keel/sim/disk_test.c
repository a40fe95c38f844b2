/* SPDX-License-Identifier: MIT */
#include <errno.h>
#include <ftw.h>
#include <linux/falloc.h>
#include <pthread.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <cmocka.h>
#include <sys/statfs.h>
#include <unistd.h>

#include <dirent.h>
#include <keel/file.h>

#include "disk.h"

enum { MB = 1 << 20, SEEDS = 300, PAGE = 4096, SECTOR = 512 };

static int root;

static int root_open(void)
{
    int fd = keel_file_open_any("/disk", O_RDONLY | O_DIRECTORY, 0);

    assert_true(fd >= 0);
    return fd;
}

static int begin(void **state)
{
    (void)state;
    test_disk_install(16 * MB);
    root = root_open();
    return 0;
}

static int end(void **state)
{
    (void)state;
    test_disk_remove();
    return 0;
}

static void reboot_to(uint64_t seed)
{
    test_disk_reboot(seed);
    root = root_open();
}

static int create(const char *path)
{
    int fd = keel_file_open(root, path, O_RDWR | O_CREAT | O_EXCL, 0600);

    assert_true(fd >= 0);
    return fd;
}

/* A new file with that text, nothing synced. */
static void put(const char *path, const char *text)
{
    keel_auto(file) int fd = create(path);

    assert_int_equal(keel_file_write(fd, text, strlen(text), 0), 0);
}

/* The text of a file that may be missing: NULL. */
static const char *text_of(const char *path)
{
    static char text[64];
    keel_auto(file) int fd = keel_file_open(root, path, O_RDONLY, 0);
    ssize_t n;

    if (fd < 0) {
        assert_int_equal(fd, -ENOENT);
        return NULL;
    }
    n = keel_file_read(fd, text, sizeof text - 1, 0);
    assert_true(n >= 0);
    text[n] = 0;
    return text;
}

static bool is_there(const char *path)
{
    struct statx facts;
    int rc = keel_file_stat(root, path, &facts);

    assert_true(rc == 0 || rc == -ENOENT);
    return rc == 0;
}

static struct statx facts_of(const char *path)
{
    struct statx facts;

    assert_int_equal(keel_file_stat(root, path, &facts), 0);
    return facts;
}

/* ---- data ---------------------------------------------------------------- */

/* The letters of a page's sectors, each checked to be one letter throughout. */
static void sectors_of(const uint8_t *page, char ret[PAGE / SECTOR + 1])
{
    for (unsigned k = 0; k < PAGE / SECTOR; k++) {
        ret[k] = (char)page[k * SECTOR];
        for (unsigned b = 0; b < SECTOR; b++)
            assert_int_equal(page[k * SECTOR + b], ret[k]);
    }
    ret[PAGE / SECTOR] = 0;
}

static void fill(int fd, char letter, size_t pages)
{
    char page[PAGE];

    memset(page, letter, sizeof page);
    for (size_t k = 0; k < pages; k++)
        assert_int_equal(keel_file_write(fd, page, PAGE, k * PAGE), 0);
}

static void an_unsynced_page_is_old_or_new_or_torn_by_sectors(void **state)
{
    keel_auto(file) int fd = create("f");
    unsigned kept = 0, lost = 0, torn = 0, reordered = 0;
    struct test_disk_image *image;

    (void)state;
    fill(fd, 'o', 2);
    assert_int_equal(keel_file_sync_all(fd), 0);
    fill(fd, 'n', 2);
    image = test_disk_save();
    for (uint64_t seed = 0; seed < SEEDS; seed++) {
        uint8_t pages[2 * PAGE];
        char a[9], b[9];

        test_disk_load(image);
        reboot_to(seed);
        fd = keel_file_open(root, "f", O_RDONLY, 0);
        assert_int_equal(keel_file_read(fd, pages, sizeof pages, 0),
                         sizeof pages);
        sectors_of(pages, a);
        sectors_of(pages + PAGE, b);
        assert_int_equal(strspn(a, "on") + strspn(b, "on"), 16);
        kept += !strcmp(a, "nnnnnnnn") && !strcmp(b, a);
        lost += !strcmp(a, "oooooooo") && !strcmp(b, a);
        torn += strchr(a, 'n') && strchr(a, 'o');
        reordered += !strcmp(a, "oooooooo") && !strcmp(b, "nnnnnnnn");
    }
    test_disk_image_free(image);
    assert_true(kept > 0 && lost > 0 && torn > 0 && reordered > 0);
}

static void an_unsynced_size_is_old_or_new(void **state)
{
    keel_auto(file) int fd = create("f");
    unsigned kept = 0, lost = 0;
    struct test_disk_image *image;

    (void)state;
    assert_int_equal(keel_file_write(fd, "abc", 3, 0), 0);
    assert_int_equal(keel_file_sync_all(fd), 0);
    assert_int_equal(keel_file_write(fd, "defgh", 5, 3), 0);
    image = test_disk_save();
    for (uint64_t seed = 0; seed < SEEDS; seed++) {
        uint64_t size;

        test_disk_load(image);
        reboot_to(seed);
        size = facts_of("f").stx_size;
        kept += size == 8;
        lost += size == 3;
        assert_true(size == 8 || size == 3);
        assert_memory_equal(text_of("f"), "abc", 3);
    }
    test_disk_image_free(image);
    assert_true(kept > 0 && lost > 0);
}

static void bytes_past_a_lost_size_do_not_come_back(void **state)
{
    keel_auto(file) int fd = create("f");

    (void)state;
    assert_int_equal(keel_file_write(fd, "abc", 3, 0), 0);
    assert_int_equal(keel_file_sync_all(fd), 0);
    assert_int_equal(keel_file_write(fd, "secret", 6, 3), 0);
    for (uint64_t seed = 0; seed < SEEDS; seed++) {
        struct test_disk_image *image = test_disk_save();

        reboot_to(seed);
        if (facts_of("f").stx_size == 3) {
            char tail[3];

            fd = keel_file_open(root, "f", O_RDWR, 0);
            assert_int_equal(keel_file_truncate(fd, 9), 0);
            assert_int_equal(keel_file_read(fd, tail, 3, 3), 3);
            assert_memory_equal(tail, "\0\0\0", 3);
        }
        test_disk_load(image);
        test_disk_image_free(image);
    }
}

static void fdatasync_keeps_data_and_size_but_not_the_name(void **state)
{
    keel_auto(file) int fd = create("f");
    unsigned there = 0;
    struct test_disk_image *image;

    (void)state;
    assert_int_equal(keel_file_write(fd, "whole", 5, 0), 0);
    assert_int_equal(keel_file_sync_data(fd), 0);
    image = test_disk_save();
    for (uint64_t seed = 0; seed < SEEDS; seed++) {
        const char *text;

        test_disk_load(image);
        reboot_to(seed);
        text = text_of("f");
        there += text != NULL;
        if (text)
            assert_string_equal(text, "whole");
    }
    assert_true(there > 0 && there < SEEDS);
    test_disk_load(image);
    reboot_to(TEST_DISK_KEEP_NONE);
    assert_false(is_there("f"));
    test_disk_image_free(image);
}

static void a_synced_name_may_still_have_lost_its_data(void **state)
{
    unsigned whole = 0;
    struct test_disk_image *image;

    (void)state;
    put("f", "whole");
    assert_int_equal(keel_file_sync(root), 0);
    image = test_disk_save();
    for (uint64_t seed = 0; seed < SEEDS; seed++) {
        test_disk_load(image);
        reboot_to(seed);
        assert_true(is_there("f"));
        whole += !strcmp(text_of("f"), "whole");
    }
    assert_true(whole > 0 && whole < SEEDS);
    test_disk_load(image);
    reboot_to(TEST_DISK_KEEP_NONE);
    assert_string_equal(text_of("f"), "");
    test_disk_image_free(image);
}

static void times_are_safe_after_fsync_and_with_the_data_only(void **state)
{
    keel_auto(file) int fd = create("f");

    (void)state;
    assert_int_equal(keel_file_sync_all(fd), 0);
    /* with the data */
    assert_int_equal(keel_file_write(fd, "a", 1, 0), 0);
    assert_int_equal(keel_file_set_mtime(fd, 1000 * KEEL_SECOND), 0);
    assert_int_equal(keel_file_sync_data(fd), 0);
    /* after the data: fdatasync has no reason to write them */
    assert_int_equal(keel_file_set_mtime(fd, 2000 * KEEL_SECOND), 0);
    assert_int_equal(keel_file_sync_data(fd), 0);
    assert_int_equal(facts_of("f").stx_mtime.tv_sec, 2000);
    reboot_to(TEST_DISK_KEEP_NONE);
    assert_int_equal(facts_of("f").stx_mtime.tv_sec, 1000);
    fd = keel_file_open(root, "f", O_RDWR, 0);
    assert_int_equal(keel_file_set_mtime(fd, -1), 0);
    assert_int_equal(keel_file_chmod(fd, 0640), 0);
    assert_int_equal(keel_file_sync(fd), 0);
    reboot_to(TEST_DISK_KEEP_NONE);
    assert_int_equal(facts_of("f").stx_mtime.tv_sec, -1);
    assert_int_equal(facts_of("f").stx_mtime.tv_nsec, 999999999);
    assert_int_equal(facts_of("f").stx_mode, S_IFREG | 0640);
}

static void a_truncation_is_volatile_too(void **state)
{
    keel_auto(file) int fd = create("f");

    (void)state;
    fill(fd, 'o', 3);
    assert_int_equal(keel_file_sync_all(fd), 0);
    assert_int_equal(keel_file_truncate(fd, 10), 0);
    assert_int_equal(facts_of("f").stx_size, 10);
    reboot_to(TEST_DISK_KEEP_NONE);
    assert_int_equal(facts_of("f").stx_size, 3 * PAGE);
    fd = keel_file_open(root, "f", O_RDWR | O_TRUNC, 0);
    assert_int_equal(keel_file_sync_data(fd), 0);
    reboot_to(TEST_DISK_KEEP_NONE);
    assert_int_equal(facts_of("f").stx_size, 0);
}

static void a_truncation_happens_whole_or_not_at_all(void **state)
{
    keel_auto(file) int fd = create("f");
    unsigned old = 0, cut = 0, new = 0;
    struct test_disk_image *image;

    (void)state;
    fill(fd, 'o', 3);
    assert_int_equal(keel_file_sync_all(fd), 0);
    assert_int_equal(keel_file_truncate(fd, 0), 0);
    fill(fd, 'n', 2);
    image = test_disk_save();
    for (uint64_t seed = 0; seed < SEEDS; seed++) {
        uint8_t pages[3 * PAGE];
        char sectors[9];
        ssize_t size;

        test_disk_load(image);
        reboot_to(seed);
        fd = keel_file_open(root, "f", O_RDONLY, 0);
        size = keel_file_read(fd, pages, sizeof pages, 0);
        old += size == 3 * PAGE;
        cut += size == 0;
        new += size == 2 * PAGE;
        for (ssize_t at = 0; at < size; at += PAGE) {
            sectors_of(pages + at, sectors);
            for (int k = 0; k < 8; k++)
                if (size == 3 * PAGE)
                    assert_int_equal(sectors[k], 'o');
                else
                    assert_true(sectors[k] == 'n' || sectors[k] == 0);
        }
    }
    assert_true(old > 0 && cut > 0 && new > 0);
    assert_int_equal(old + cut + new, SEEDS);
    test_disk_image_free(image);
}

static void what_a_failed_sync_left_is_never_made_good(void **state)
{
    keel_auto(file) int fd = create("f");
    char back[3];

    (void)state;
    assert_int_equal(keel_file_write(fd, "old", 3, 0), 0);
    assert_int_equal(keel_file_sync_all(fd), 0);
    assert_int_equal(keel_file_write(fd, "new", 3, 0), 0);
    test_disk_fail_sync(1);
    assert_int_equal(keel_file_sync_data(fd), -EIO);
    assert_int_equal(keel_file_sync_data(fd), 0);
    assert_int_equal(keel_file_sync_all(fd), 0);
    assert_int_equal(keel_file_read(fd, back, 3, 0), 3);
    assert_memory_equal(back, "new", 3);
    reboot_to(TEST_DISK_KEEP_NONE);
    assert_string_equal(text_of("f"), "old");
}

/* ---- names --------------------------------------------------------------- */

static void a_name_lives_from_the_sync_of_its_directory(void **state)
{
    keel_auto(file) int dir = -1;

    (void)state;
    assert_int_equal(keel_file_mkdir(root, "d", 0700), 0);
    put("d/f", "");
    dir = keel_file_open(root, "d", O_RDONLY | O_DIRECTORY, 0);
    assert_int_equal(keel_file_sync(dir), 0);
    /* d/f is safe in d, but d in the root is not */
    test_disk_reboot(TEST_DISK_KEEP_NONE);
    root = root_open();
    assert_false(is_there("d"));

    assert_int_equal(keel_file_mkdir(root, "d", 0700), 0);
    put("d/f", "");
    dir = keel_file_open(root, "d", O_RDONLY | O_DIRECTORY, 0);
    assert_int_equal(keel_file_sync_data(dir), 0); /* promises no names */
    assert_int_equal(keel_file_sync(root), 0);
    reboot_to(TEST_DISK_KEEP_NONE);
    assert_true(is_there("d"));
    assert_false(is_there("d/f"));

    put("d/f", "");
    dir = keel_file_open(root, "d", O_RDONLY | O_DIRECTORY, 0);
    assert_int_equal(keel_file_sync(dir), 0);
    for (uint64_t seed = 0; seed < SEEDS; seed++) {
        reboot_to(seed);
        assert_true(is_there("d/f"));
    }
}

static void an_unlink_is_volatile_until_the_directory_is_synced(void **state)
{
    (void)state;
    put("f", "text");
    assert_int_equal(keel_file_sync_all(root), 0);
    assert_int_equal(keel_file_unlink(root, "f"), 0);
    reboot_to(TEST_DISK_KEEP_NONE);
    assert_string_equal(text_of("f"), "text");
    assert_int_equal(keel_file_unlink(root, "f"), 0);
    assert_int_equal(keel_file_sync(root), 0);
    for (uint64_t seed = 0; seed < SEEDS; seed++) {
        reboot_to(seed);
        assert_false(is_there("f"));
    }
}

static void a_removed_directory_may_come_back_as_it_was(void **state)
{
    (void)state;
    assert_int_equal(keel_file_mkdir(root, "d", 0700), 0);
    put("d/f", "text");
    assert_int_equal(keel_file_sync_all(root), 0);
    {
        keel_auto(file) int dir =
            keel_file_open(root, "d", O_RDONLY | O_DIRECTORY, 0);

        assert_int_equal(keel_file_rmdir(root, "d"), -ENOTEMPTY);
        assert_int_equal(keel_file_unlink(dir, "f"), 0);
        assert_int_equal(keel_file_rmdir(root, "d"), 0);
        assert_int_equal(keel_file_open(dir, "g", O_RDWR | O_CREAT, 0600),
                         -ENOENT);
    }
    assert_false(is_there("d"));
    reboot_to(TEST_DISK_KEEP_NONE);
    assert_string_equal(text_of("d/f"), "text");
}

static void a_rename_shows_the_old_name_or_the_new_or_both(void **state)
{
    keel_auto(file) int a = -1, b = -1;
    unsigned old = 0, new = 0, both = 0;
    struct test_disk_image *image;

    (void)state;
    assert_int_equal(keel_file_mkdir(root, "a", 0700), 0);
    assert_int_equal(keel_file_mkdir(root, "b", 0700), 0);
    put("a/f", "text");
    assert_int_equal(keel_file_sync_all(root), 0);
    a = keel_file_open(root, "a", O_RDONLY, 0);
    b = keel_file_open(root, "b", O_RDONLY, 0);
    assert_int_equal(keel_file_rename(a, "f", b, "g", 0), 0);
    image = test_disk_save();
    for (uint64_t seed = 0; seed < SEEDS; seed++) {
        bool is_old, is_new;

        test_disk_load(image);
        reboot_to(seed);
        is_old = is_there("a/f");
        is_new = is_there("b/g");
        assert_true(is_old || is_new);
        old += is_old && !is_new;
        new += is_new && !is_old;
        both += is_new && is_old;
        if (is_new && is_old) {
            assert_int_equal(facts_of("a/f").stx_nlink, 2);
            assert_int_equal(facts_of("a/f").stx_ino, facts_of("b/g").stx_ino);
        }
        assert_string_equal(text_of(is_new ? "b/g" : "a/f"), "text");
    }
    assert_true(old > 0 && new > 0 && both > 0);
    test_disk_image_free(image);
}

static void
syncing_either_directory_of_a_rename_never_loses_the_file(void **state)
{
    (void)state;
    for (int which = 0; which < 2; which++) {
        unsigned seen = 0;
        struct test_disk_image *image;

        test_disk_install(16 * MB);
        root = root_open();
        assert_int_equal(keel_file_mkdir(root, "a", 0700), 0);
        assert_int_equal(keel_file_mkdir(root, "b", 0700), 0);
        put("a/f", "text");
        assert_int_equal(keel_file_sync_all(root), 0);
        {
            keel_auto(file) int a = keel_file_open(root, "a", O_RDONLY, 0);
            keel_auto(file) int b = keel_file_open(root, "b", O_RDONLY, 0);

            assert_int_equal(keel_file_rename(a, "f", b, "g", 0), 0);
            assert_int_equal(keel_file_sync(which ? b : a), 0);
        }
        image = test_disk_save();
        for (uint64_t seed = 0; seed < SEEDS; seed++) {
            test_disk_load(image);
            reboot_to(seed);
            assert_true(is_there("b/g"));
            seen |= is_there("a/f") ? 2u : 1u;
        }
        assert_int_equal(seen, which ? 3 : 1);
        test_disk_image_free(image);
    }
}

static void a_replaced_file_is_old_or_new_never_missing(void **state)
{
    unsigned old = 0, new = 0, draft_left = 0;
    struct test_disk_image *image;

    (void)state;
    put("f", "old");
    put("draft", "new");
    assert_int_equal(keel_file_sync_all(root), 0);
    assert_int_equal(keel_file_rename(root, "draft", root, "f", 0), 0);
    image = test_disk_save();
    for (uint64_t seed = 0; seed < SEEDS; seed++) {
        const char *text;

        test_disk_load(image);
        reboot_to(seed);
        text = text_of("f");
        assert_non_null(text);
        old += !strcmp(text, "old");
        new += !strcmp(text, "new");
        draft_left += is_there("draft");
        if (!strcmp(text_of("f"), "old"))
            assert_true(is_there("draft"));
    }
    assert_int_equal(old + new, SEEDS);
    assert_true(old > 0 && new > 0 && draft_left > old);
    test_disk_image_free(image);
}

static void an_exchange_is_whole_or_not_at_all(void **state)
{
    unsigned swapped = 0;
    struct test_disk_image *image;

    (void)state;
    put("a", "1");
    put("b", "2");
    assert_int_equal(keel_file_sync_all(root), 0);
    assert_int_equal(keel_file_rename(root, "a", root, "b", RENAME_EXCHANGE),
                     0);
    assert_string_equal(text_of("a"), "2");
    image = test_disk_save();
    for (uint64_t seed = 0; seed < SEEDS; seed++) {
        bool now;

        test_disk_load(image);
        reboot_to(seed);
        now = *text_of("a") == '2';
        assert_int_equal(*text_of("b"), now ? '1' : '2');
        swapped += now;
    }
    assert_true(swapped > 0 && swapped < SEEDS);
    test_disk_image_free(image);
}

static void
an_unnamed_file_may_vanish_until_its_directory_is_synced(void **state)
{
    keel_auto(file) int fd = -1;
    unsigned there = 0;
    struct test_disk_image *image;

    (void)state;
    fd = keel_file_open(root, ".", O_TMPFILE | O_WRONLY, 0600);
    assert_true(fd >= 0);
    assert_int_equal(keel_file_write(fd, "text", 4, 0), 0);
    assert_int_equal(keel_file_sync_data(fd), 0);
    image = test_disk_save();
    test_disk_image_free(image); /* held by a descriptor only: not in it */
    put("taken", "");
    assert_int_equal(keel_file_link_fd(fd, root, "taken"), -EEXIST);
    assert_int_equal(keel_file_link_fd(fd, root, "f"), 0);
    image = test_disk_save();
    for (uint64_t seed = 0; seed < SEEDS; seed++) {
        test_disk_load(image);
        reboot_to(seed);
        if (is_there("f")) {
            there++;
            assert_string_equal(text_of("f"), "text");
        }
    }
    assert_true(there > 0 && there < SEEDS);
    test_disk_load(image);
    root = root_open();
    assert_int_equal(keel_file_sync(root), 0);
    reboot_to(TEST_DISK_KEEP_NONE);
    assert_string_equal(text_of("f"), "text");
    test_disk_image_free(image);
}

static void an_unnamed_file_is_gone_with_its_descriptor(void **state)
{
    struct statfs before, now;
    int fd;

    (void)state;
    assert_int_equal(keel_file_statfs(root, &before), 0);
    fd = keel_file_open(root, ".", O_TMPFILE | O_RDWR, 0600);
    fill(fd, 'x', 10);
    assert_int_equal(keel_file_sync_all(fd), 0);
    assert_int_equal(keel_file_statfs(root, &now), 0);
    assert_int_equal(now.f_bfree, before.f_bfree - 10);
    keel_file_close(fd);
    assert_int_equal(keel_file_statfs(root, &now), 0);
    assert_int_equal(now.f_bfree, before.f_bfree);

    fd = keel_file_open(root, ".", O_TMPFILE | O_RDWR | O_EXCL, 0600);
    assert_int_equal(keel_file_link_fd(fd, root, "f"), -ENOENT);
    keel_file_close(fd);
}

static void syncfs_keeps_everything(void **state)
{
    (void)state;
    assert_int_equal(keel_file_mkdir(root, "d", 0700), 0);
    put("d/f", "text");
    put("g", "more");
    put("gone", "");
    assert_int_equal(keel_file_unlink(root, "gone"), 0);
    assert_int_equal(keel_file_rename(root, "g", root, "h", 0), 0);
    assert_int_equal(keel_file_sync_all(root), 0);
    for (uint64_t seed = 0; seed < SEEDS; seed++) {
        reboot_to(seed);
        assert_string_equal(text_of("d/f"), "text");
        assert_string_equal(text_of("h"), "more");
        assert_false(is_there("g"));
        assert_false(is_there("gone"));
    }
}

static void no_chain_of_renames_loses_a_file(void **state)
{
    enum { FILES = 6, STEPS = 12, ROUNDS = 60 };
    uint64_t x = 1;

    (void)state;
    for (int round = 0; round < ROUNDS; round++) {
        struct test_disk_image *image;

        test_disk_install(16 * MB);
        root = root_open();
        for (int k = 0; k < FILES; k++)
            put((char[]){(char)('a' + k), 0}, (char[]){(char)('0' + k), 0});
        assert_int_equal(keel_file_sync_all(root), 0);
        for (int k = 0; k < STEPS; k++) {
            char from[2] = {0}, to[2] = {0};

            x = x * 6364136223846793005u + 1442695040888963407u;
            from[0] = (char)('a' + (x >> 40) % 10);
            to[0] = (char)('a' + (x >> 50) % 10);
            (void)keel_file_rename(root, from, root, to,
                                   x >> 63 ? RENAME_EXCHANGE
                                           : RENAME_NOREPLACE);
        }
        image = test_disk_save();
        for (uint64_t seed = 0; seed < 20; seed++) {
            unsigned seen = 0;

            test_disk_load(image);
            reboot_to(seed);
            for (char name = 'a'; name < 'a' + 10; name++) {
                const char *text = text_of((char[]){name, 0});

                if (text)
                    seen |= 1u << (*text - '0');
            }
            assert_int_equal(seen, (1u << FILES) - 1);
        }
        test_disk_image_free(image);
    }
}

/* ---- crashes and images -------------------------------------------------- */

static void kill_keeps_all_and_a_later_power_cut_forgets(void **state)
{
    int fd;

    (void)state;
    put("f", "text");
    fd = create("g");
    assert_int_equal(keel_file_unlink(root, "g"), 0);
    test_disk_reboot(TEST_DISK_KEEP_ALL);
    assert_int_equal(keel_file_sync(fd), -EBADF);
    root = root_open();
    assert_string_equal(text_of("f"), "text");
    assert_false(is_there("g"));
    reboot_to(TEST_DISK_KEEP_NONE);
    assert_false(is_there("f"));
}

static void nothing_happens_from_the_ordered_operation_on(void **state)
{
    char byte;
    int fd, rc;

    (void)state;
    fd = create("f");
    assert_int_equal(test_disk_ops(), 1);
    test_disk_crash_at(3);
    assert_int_equal(keel_file_write(fd, "a", 1, 0), 0);
    assert_int_equal(keel_file_read(fd, &byte, 1, 0), 1); /* not counted */
    assert_int_equal(keel_file_unlink(root, "missing"), -ENOENT); /* nor this */
    assert_int_equal(keel_file_sync(fd), 0);
    assert_false(test_disk_crashed());
    assert_int_equal(keel_file_sync(root), -EIO);
    assert_true(test_disk_crashed());
    assert_int_equal(keel_file_write(fd, "b", 1, 0), -EIO);
    assert_int_equal(keel_file_read(fd, &byte, 1, 0), -EIO);
    rc = keel_file_open(root, "g", O_RDWR | O_CREAT, 0600);
    assert_int_equal(rc, -EIO);
    assert_int_equal(test_disk_ops(), 3);
    test_disk_reboot(TEST_DISK_KEEP_NONE);
    assert_false(test_disk_crashed());
    assert_int_equal(test_disk_ops(), 0);
    root = root_open();
    assert_false(is_there("f"));
}

/* All that can be seen of the disk, as text. */
static char *seen(void)
{
    FILE *f = tmpfile();
    char *text = calloc(1, 65536);

    assert_non_null(f);
    test_disk_print(fileno(f));
    rewind(f);
    assert_true(fread(text, 1, 65535, f) < 65535);
    fclose(f);
    return text;
}

static void random_work(uint64_t seed, int steps)
{
    uint64_t x = seed * 2 + 1;

    for (int k = 0; k < steps; k++) {
        char name[3] = "a", other[3] = "a";
        keel_auto(file) int fd = -1;

        x = x * 6364136223846793005u + 1442695040888963407u;
        name[0] = (char)('a' + (x >> 33) % 8);
        other[0] = (char)('a' + (x >> 38) % 8);
        switch ((x >> 43) % 8) {
        case 0:
            (void)keel_file_unlink(root, name);
            break;
        case 1:
            (void)keel_file_rename(root, name, root, other, 0);
            break;
        case 2:
            (void)keel_file_link(root, name, root, other);
            break;
        case 3:
            (void)keel_file_sync(root);
            break;
        default:
            fd = keel_file_open(root, name, O_RDWR | O_CREAT, 0600);
            if (fd < 0)
                break;
            (void)keel_file_write(fd, &x, sizeof x, (x >> 50) % 20000);
            if ((x >> 60) == 0)
                (void)keel_file_sync_data(fd);
        }
    }
}

static void the_same_operations_and_seed_give_the_same_disk(void **state)
{
    (void)state;
    for (uint64_t seed = 0; seed < 20; seed++) {
        char *text[3];
        uint8_t first[20008], again[20008];
        struct test_disk_image *image = NULL;

        for (int k = 0; k < 3; k++) {
            keel_auto(file) int fd = -1;

            if (k < 2) {
                test_disk_install(16 * MB);
                root = root_open();
                random_work(seed, 200);
            } else {
                test_disk_load(image);
            }
            if (k == 1)
                image = test_disk_save();
            reboot_to(seed);
            text[k] = seen();
            fd = keel_file_open(root, "c", O_RDONLY, 0);
            if (fd >= 0) {
                memset(k ? again : first, 0, sizeof again);
                (void)keel_file_read(fd, k ? again : first, sizeof again, 0);
                if (k)
                    assert_memory_equal(first, again, sizeof again);
            }
        }
        assert_true(strlen(text[0]) > 0);
        assert_string_equal(text[0], text[1]);
        assert_string_equal(text[0], text[2]);
        for (int k = 0; k < 3; k++)
            free(text[k]);
        test_disk_image_free(image);
    }
}

static void an_image_is_not_touched_by_what_follows(void **state)
{
    keel_auto(file) int fd = create("f");
    struct test_disk_image *image;
    char *before, *after;

    (void)state;
    fill(fd, 'a', 2);
    before = seen();
    image = test_disk_save();
    fill(fd, 'b', 3);
    random_work(7, 100);
    assert_int_equal(keel_file_sync_all(root), 0);
    test_disk_load(image);
    assert_int_equal(keel_file_sync(root), -EBADF);
    after = seen();
    assert_string_equal(before, after);
    root = root_open();
    assert_int_equal(text_of("f")[0], 'a');
    test_disk_image_free(image);
    assert_int_equal(text_of("f")[0], 'a');
    free(before);
    free(after);
}

static void a_lie_syncs_nothing_and_says_it_did(void **state)
{
    int fd;

    (void)state;
    put("f", "1");
    test_disk_lie("syncfs", NULL);
    assert_int_equal(keel_file_sync_all(root), 0);
    reboot_to(TEST_DISK_KEEP_NONE);
    assert_false(is_there("f"));

    put("f", "1");
    put("g", "2");
    test_disk_lie("fdatasync", "/f");
    fd = keel_file_open(root, "f", O_RDWR, 0);
    assert_int_equal(keel_file_sync_data(fd), 0);
    fd = keel_file_open(root, "g", O_RDWR, 0);
    assert_int_equal(keel_file_sync_data(fd), 0);
    assert_int_equal(keel_file_sync(root), 0);
    reboot_to(TEST_DISK_KEEP_NONE);
    assert_string_equal(text_of("f"), "");
    assert_string_equal(text_of("g"), "2");

    test_disk_lie("fsync", ""); /* directories */
    put("h", "3");
    fd = keel_file_open(root, "f", O_RDWR, 0);
    assert_int_equal(keel_file_write(fd, "x", 1, 0), 0);
    assert_int_equal(keel_file_sync(fd), 0);
    assert_int_equal(keel_file_sync(root), 0);
    reboot_to(TEST_DISK_KEEP_NONE);
    assert_string_equal(text_of("f"), "x");
    assert_false(is_there("h"));

    test_disk_lie(NULL, NULL);
    put("h", "3");
    assert_int_equal(keel_file_sync(root), 0);
    reboot_to(TEST_DISK_KEEP_NONE);
    assert_true(is_there("h"));
}

/* ---- space --------------------------------------------------------------- */

static uint64_t pages_free(void)
{
    struct statfs facts;

    assert_int_equal(keel_file_statfs(root, &facts), 0);
    assert_int_equal(facts.f_bsize, PAGE);
    return facts.f_bfree;
}

static void a_full_disk_says_so_and_counts_exactly(void **state)
{
    char *pages = calloc(100, PAGE);
    int fd;

    (void)state;
    test_disk_install(64 * PAGE);
    root = root_open();
    assert_int_equal(pages_free(), 64);
    fd = create("f");
    assert_int_equal(keel_file_reserve(fd, 0, 0, 65 * PAGE), -ENOSPC);
    assert_int_equal(keel_file_reserve(fd, 0, 0, (uint64_t)1 << 40), -ENOSPC);
    assert_int_equal(pages_free(), 64);
    assert_int_equal(keel_file_reserve(fd, 0, 0, 20 * PAGE), 0);
    assert_int_equal(facts_of("f").stx_size, 20 * PAGE);
    assert_int_equal(facts_of("f").stx_blocks, 20 * 8);
    assert_int_equal(pages_free(), 44);
    assert_int_equal(
        keel_file_reserve(fd, FALLOC_FL_KEEP_SIZE, 20 * PAGE, 4 * PAGE), 0);
    assert_int_equal(facts_of("f").stx_size, 20 * PAGE);
    assert_int_equal(pages_free(), 40);
    /* what is reserved needs no room */
    assert_int_equal(keel_file_write(fd, pages, 24 * PAGE, 0), 0);
    assert_int_equal(pages_free(), 40);
    /* a write takes what is left, then fails */
    assert_int_equal(keel_seam.disk->pwrite(fd, pages, 100 * PAGE, 0),
                     64 * PAGE);
    assert_int_equal(keel_seam.disk->pwrite(fd, pages, 1, 64 * PAGE), -ENOSPC);
    assert_int_equal(keel_file_write(fd, pages, 100 * PAGE, 0), -ENOSPC);
    assert_int_equal(pages_free(), 0);
    /* overwriting needs none */
    assert_int_equal(keel_file_write(fd, "x", 1, 5 * PAGE), 0);
    assert_int_equal(
        keel_file_reserve(fd, FALLOC_FL_PUNCH_HOLE | FALLOC_FL_KEEP_SIZE,
                          PAGE - 1, 2 * PAGE),
        0);
    assert_int_equal(pages_free(), 1);
    assert_int_equal(keel_file_truncate(fd, 10 * PAGE + 1), 0);
    assert_int_equal(pages_free(), 64 - 10);
    /* an unlinked file holds its space until it is closed */
    assert_int_equal(keel_file_unlink(root, "f"), 0);
    assert_int_equal(pages_free(), 64 - 10);
    keel_file_close(fd);
    assert_int_equal(pages_free(), 64);
    free(pages);
}

static void a_hole_takes_no_room_and_reads_as_zeros(void **state)
{
    keel_auto(file) int fd = create("f");
    uint64_t before = pages_free();
    char bytes[8];

    (void)state;
    assert_int_equal(keel_file_truncate(fd, (uint64_t)1 << 40), 0);
    assert_int_equal(pages_free(), before);
    assert_int_equal(keel_file_read(fd, bytes, 8, (uint64_t)1 << 39), 8);
    assert_memory_equal(bytes, "\0\0\0\0\0\0\0\0", 8);
    assert_int_equal(keel_file_read(fd, bytes, 8, ((uint64_t)1 << 40) - 3), 3);
    assert_int_equal(keel_file_read(fd, bytes, 8, (uint64_t)1 << 40), 0);
    assert_int_equal(keel_file_write(fd, "x", 1, 10 * PAGE), 0);
    assert_int_equal(pages_free(), before - 1);
}

/* ---- facts --------------------------------------------------------------- */

static int64_t date = 1000 * KEEL_SECOND;

static int64_t test_date(void)
{
    return date;
}

static int64_t ns_of(struct statx_timestamp t)
{
    return t.tv_sec * KEEL_SECOND + t.tv_nsec;
}

static void times_move_in_ticks_of_4_ms(void **state)
{
    int64_t (*before)(void) = keel_seam.wall_ns;
    keel_auto(file) int fd = -1;
    struct statx a, b;

    (void)state;
    keel_seam.wall_ns = test_date;
    fd = create("f");
    a = facts_of("f");
    assert_int_equal(ns_of(a.stx_ctime), 1000 * KEEL_SECOND);
    date += 3999999;
    assert_int_equal(keel_file_write(fd, "a", 1, 0), 0);
    b = facts_of("f");
    assert_int_equal(ns_of(b.stx_ctime), ns_of(a.stx_ctime));
    date += 1;
    assert_int_equal(keel_file_write(fd, "a", 1, 0), 0);
    b = facts_of("f");
    assert_int_equal(ns_of(b.stx_ctime), ns_of(a.stx_ctime) + 4 * KEEL_MS);
    assert_int_equal(ns_of(b.stx_mtime), ns_of(b.stx_ctime));
    assert_int_equal(ns_of(b.stx_btime), ns_of(a.stx_ctime));
    /* rename and link change the ctime and leave the mtime */
    date += 4 * KEEL_MS;
    assert_int_equal(keel_file_rename(root, "f", root, "g", 0), 0);
    a = facts_of("g");
    assert_int_equal(ns_of(a.stx_ctime), ns_of(b.stx_ctime) + 4 * KEEL_MS);
    assert_int_equal(ns_of(a.stx_mtime), ns_of(b.stx_mtime));
    date += 4 * KEEL_MS;
    assert_int_equal(keel_file_link(root, "g", root, "h"), 0);
    assert_int_equal(ns_of(facts_of("g").stx_ctime),
                     ns_of(a.stx_ctime) + 4 * KEEL_MS);
    keel_seam.wall_ns = before;
}

static void an_unlinked_file_lives_while_it_is_open(void **state)
{
    keel_auto(file) int fd = create("f");
    struct statx facts;
    char back[4];

    (void)state;
    assert_int_equal(keel_file_write(fd, "text", 4, 0), 0);
    assert_int_equal(keel_file_link(root, "f", root, "g"), 0);
    assert_int_equal(facts_of("f").stx_nlink, 2);
    assert_int_equal(facts_of("g").stx_ino, facts_of("f").stx_ino);
    assert_int_equal(keel_file_unlink(root, "f"), 0);
    assert_int_equal(facts_of("g").stx_nlink, 1);
    assert_int_equal(keel_file_unlink(root, "g"), 0);
    assert_int_equal(keel_file_stat(fd, NULL, &facts), 0);
    assert_int_equal(facts.stx_nlink, 0);
    assert_int_equal(keel_file_read(fd, back, 4, 0), 4);
    assert_memory_equal(back, "text", 4);
    assert_int_equal(keel_file_link_fd(fd, root, "h"), -ENOENT);
    assert_int_equal(facts_of(".").stx_nlink, 2);
    assert_int_equal(keel_file_mkdir(root, "d", 0700), 0);
    assert_int_equal(facts_of(".").stx_nlink, 3);
}

static int collect(const char *name, unsigned char type, void *arg)
{
    char *list = arg;

    strcat(list, name);
    strcat(list, type == DT_DIR ? "/ " : " ");
    return 0;
}

static void a_directory_lists_each_name_once(void **state)
{
    char list[64] = "";
    unsigned count = 0;
    char name[256];

    (void)state;
    put("b", "");
    put("x", "");
    assert_int_equal(keel_file_mkdir(root, "a", 0700), 0);
    assert_int_equal(keel_file_unlink(root, "x"), 0);
    assert_int_equal(keel_file_list(root, collect, list), 0);
    assert_string_equal(list, "b a/ ");
    /* more than one buffer of long names */
    memset(name, 'n', 255);
    name[255] = 0;
    for (int k = 0; k < 300; k++) {
        snprintf(name, 8, "%07d", k);
        name[7] = 'n';
        put(name, "");
    }
    name[255] = 0;
    {
        char *all = calloc(301, 258);

        assert_int_equal(keel_file_list(root, collect, all), 0);
        for (const char *p = all; *p; p++)
            count += *p == ' ';
        free(all);
    }
    assert_int_equal(count, 302);
}

static void a_lock_is_one_descriptors_until_it_is_closed(void **state)
{
    int a = create("f"), b = keel_file_open(root, "f", O_RDWR, 0);

    (void)state;
    assert_int_equal(keel_file_lock(a), 0);
    assert_int_equal(keel_file_lock(a), 0);
    assert_int_equal(keel_file_lock(b), -EWOULDBLOCK);
    keel_file_close(a);
    assert_int_equal(keel_file_lock(b), 0);
    keel_file_close(b);
}

/* ---- opening ------------------------------------------------------------- */

static int open_how(const char *path, uint64_t flags, uint64_t mode,
                    uint64_t resolve)
{
    struct open_how how = {.flags = flags, .mode = mode, .resolve = resolve};

    return keel_seam.disk->openat2(root, path, &how);
}

static void openat2_stays_beneath_and_refuses_as_the_kernel_does(void **state)
{
    char name[300];
    int fd;

    (void)state;
    assert_int_equal(keel_file_mkdir(root, "d", 0700), 0);
    assert_int_equal(keel_file_mkdir(root, "e", 0700), 0);
    put("d/f", "text");
    put("g", "");
    assert_string_equal(text_of("d/../d/./f"), "text");
    assert_string_equal(text_of("d//f"), "text");
    assert_int_equal(keel_file_open(root, "..", O_RDONLY, 0), -EXDEV);
    assert_int_equal(keel_file_open(root, "d/../../x", O_RDONLY, 0), -EXDEV);
    assert_int_equal(keel_file_open(root, "/disk/g", O_RDONLY, 0), -EXDEV);
    fd = keel_file_open(root, "d", O_RDONLY | O_DIRECTORY, 0);
    assert_int_equal(keel_file_open(fd, "../g", O_RDONLY, 0), -EXDEV);
    keel_file_close(fd);

    fd = keel_file_open_any("/disk/d/f", O_RDONLY, 0);
    assert_true(fd >= 0x10000);
    assert_int_equal(keel_file_open(fd, "x", O_RDONLY, 0), -ENOTDIR);
    assert_int_equal(keel_seam.disk->pwrite(fd, "x", 1, 0), -EBADF);
    keel_file_close(fd);
    assert_int_equal(keel_file_open_any("/etc", O_RDONLY, 0), -ENOENT);
    assert_int_equal(keel_file_open_any("/diskette", O_RDONLY, 0), -ENOENT);
    assert_int_equal(keel_file_open(root, "", O_RDONLY, 0), -ENOENT);
    assert_int_equal(keel_file_open(12345, "x", O_RDONLY, 0), -EBADF);
    assert_int_equal(keel_file_open(root, "g/x", O_RDONLY, 0), -ENOTDIR);
    assert_int_equal(keel_file_open(root, "g/", O_RDONLY, 0), -ENOTDIR);
    assert_int_equal(keel_file_open(root, "x/y", O_RDONLY, 0), -ENOENT);
    assert_int_equal(keel_file_open(root, "d", O_RDWR, 0), -EISDIR);
    assert_int_equal(keel_file_open(root, "g", O_RDONLY | O_DIRECTORY, 0),
                     -ENOTDIR);
    assert_int_equal(keel_file_open(root, "g", O_RDWR | O_CREAT | O_EXCL, 0600),
                     -EEXIST);
    assert_int_equal(keel_file_open(root, "n/", O_RDWR | O_CREAT, 0600),
                     -EISDIR);
    memset(name, 'n', sizeof name);
    name[256] = 0;
    assert_int_equal(keel_file_open(root, name, O_RDWR | O_CREAT, 0600),
                     -ENAMETOOLONG);
    name[255] = 0;
    fd = keel_file_open(root, name, O_RDWR | O_CREAT, 0600);
    assert_true(fd >= 0);
    keel_file_close(fd);

    assert_int_equal(open_how("g", O_RDONLY, 0600, 0), -EINVAL);
    assert_int_equal(open_how("g", O_RDWR | O_CREAT, 0200000, 0), -EINVAL);
    assert_int_equal(open_how("g", O_RDONLY, 0, 1 << 20), -EINVAL);
    assert_int_equal(open_how("g", (uint64_t)1 << 40, 0, 0), -EINVAL);
    assert_int_equal(open_how(".", O_TMPFILE | O_RDONLY, 0600, 0), -EINVAL);
    assert_int_equal(open_how("g", O_TMPFILE | O_RDWR, 0600, 0), -ENOTDIR);
    fd = open_how("/d/../../g", O_RDONLY, 0, RESOLVE_IN_ROOT);
    assert_true(fd >= 0);
    keel_file_close(fd);
    fd = open_how("d", O_PATH | O_DIRECTORY, 0, 0);
    assert_true(fd >= 0);
    assert_int_equal(keel_file_sync(fd), -EBADF);
    assert_true(keel_file_open(fd, "f", O_RDONLY, 0) >= 0);
}

static void direct_access_wants_whole_sectors(void **state)
{
    keel_auto(file) int fd =
        keel_file_open(root, "f", O_RDWR | O_CREAT | O_DIRECT, 0600);
    _Alignas(512) static char buf[1024 + 8];
    struct statx facts;

    (void)state;
    assert_true(fd >= 0);
    assert_int_equal(keel_file_write(fd, buf, 1024, 512), 0);
    assert_int_equal(keel_file_write(fd, buf, 1000, 0), -EINVAL);
    assert_int_equal(keel_file_write(fd, buf, 512, 8), -EINVAL);
    assert_int_equal(keel_file_write(fd, buf + 8, 512, 0), -EINVAL);
    assert_int_equal(keel_file_read(fd, buf, 512, 512), 512);
    assert_int_equal(keel_file_stat(fd, NULL, &facts), 0);
    assert_int_equal(facts.stx_size, 1536);
}

static void rename_keeps_the_rules_of_renameat2(void **state)
{
    (void)state;
    assert_int_equal(keel_file_mkdir(root, "d", 0700), 0);
    assert_int_equal(keel_file_mkdir(root, "e", 0700), 0);
    put("d/in", "");
    put("f", "1");
    put("g", "2");
    assert_int_equal(keel_file_rename(root, "x", root, "y", 0), -ENOENT);
    assert_int_equal(keel_file_rename(root, "f", root, "d", 0), -EISDIR);
    assert_int_equal(keel_file_rename(root, "d", root, "f", 0), -ENOTDIR);
    assert_int_equal(keel_file_rename(root, "e", root, "d", 0), -ENOTEMPTY);
    assert_int_equal(keel_file_rename(root, "f", root, "g", RENAME_NOREPLACE),
                     -EEXIST);
    assert_int_equal(keel_file_rename(root, "f", root, "x", RENAME_EXCHANGE),
                     -ENOENT);
    {
        keel_auto(file) int d = keel_file_open(root, "d", O_RDONLY, 0);

        assert_int_equal(keel_file_rename(root, "d", d, "sub", 0), -EINVAL);
    }
    assert_int_equal(keel_file_link(root, "f", root, "same"), 0);
    assert_int_equal(keel_file_rename(root, "f", root, "same", 0), 0);
    assert_true(is_there("f")); /* two links of one file: nothing happens */
    assert_int_equal(keel_file_rename(root, "d", root, "e", 0), 0);
    assert_true(is_there("e/in"));
    assert_false(is_there("d"));
    assert_int_equal(keel_file_link(root, "e", root, "h"), -EPERM);
    assert_int_equal(keel_file_unlink(root, "e"), -EISDIR);
    assert_int_equal(keel_file_rmdir(root, "f"), -ENOTDIR);
}

/* ---- against the kernel -------------------------------------------------- */

/* One of two disks at work on the same orders. */
struct side {
    const struct keel_disk *disk;
    int root, fd[4];
};

struct order {
    unsigned verb, a, b, fd;
    uint64_t n;
};

static const char *const paths[] = {
    "a",   "b",   "c",   "d",    "d/a",   "d/b",    "e",     "e/a",
    "d/e", "e/d", "./a", "d/..", "e/./a", "d/../a", "d/e/a", "a/b",
};

static int64_t facts_sum(const struct statx *facts)
{
    int64_t size = S_ISREG(facts->stx_mode) ? (int64_t)facts->stx_size : -1;

    /* tmpfs and others count a directory's links in their own ways */
    return size * 100 + (size < 0 ? 0 : facts->stx_nlink);
}

static int open_slot(struct side *s, const struct order *o, uint64_t flags)
{
    struct open_how how = {
        .flags = flags,
        .mode = flags & O_CREAT || (flags & O_TMPFILE) == O_TMPFILE ? 0600 : 0,
        .resolve = RESOLVE_BENEATH,
    };
    int fd;

    do /* the kernel's, when anything anywhere is renamed meanwhile */
        fd = s->disk->openat2(s->root, paths[o->a], &how);
    while (fd == -EAGAIN);
    if (fd < 0)
        return fd;
    if (s->fd[o->fd] >= 0)
        s->disk->close(s->fd[o->fd]);
    s->fd[o->fd] = fd;
    return 0;
}

/* What an order returns: the same on both sides. */
static int64_t obey(struct side *s, const struct order *o)
{
    static const uint64_t flags[] = {
        O_RDWR,
        O_RDWR | O_CREAT,
        O_RDWR | O_CREAT | O_EXCL,
        O_RDWR | O_TRUNC,
        O_RDONLY,
        O_RDONLY | O_DIRECTORY,
        O_WRONLY | O_CREAT,
        O_RDWR | O_TMPFILE,
    };
    static const unsigned renames[] = {0, RENAME_NOREPLACE, RENAME_EXCHANGE, 0};
    char bytes[64] = "";
    struct statx facts;
    int64_t rc;

    switch (o->verb) {
    default:
        return open_slot(s, o, flags[o->n % 8]);
    case 3:
        memset(bytes, (int)o->n & 255, sizeof bytes);
        return s->disk->pwrite(s->fd[o->fd], bytes, o->n % 64, o->n % 9000);
    case 4:
        rc = s->disk->pread(s->fd[o->fd], bytes, 64, o->n % 9000);
        for (unsigned k = 0; rc > 0 && k < sizeof bytes; k++)
            rc += (int64_t)(uint8_t)bytes[k] << (k / 2);
        return rc;
    case 5:
        return s->disk->ftruncate(s->fd[o->fd], o->n % 9000);
    case 6:
        return s->disk->linkat(s->root, paths[o->a], s->root, paths[o->b]);
    case 7:
        return s->disk->linkfd(s->fd[o->fd], s->root, paths[o->b]);
    case 8:
    case 9:
        return s->disk->renameat2(s->root, paths[o->a], s->root, paths[o->b],
                                  renames[o->n % 4]);
    case 10:
        return s->disk->unlinkat(s->root, paths[o->a],
                                 o->n % 3 ? 0 : AT_REMOVEDIR);
    case 11:
        return s->disk->mkdirat(s->root, paths[o->a], 0700);
    case 12:
        rc = s->disk->statx(s->root, paths[o->a], AT_SYMLINK_NOFOLLOW,
                            STATX_BASIC_STATS, &facts);
        return rc < 0 ? rc : facts_sum(&facts);
    case 13:
        rc = s->disk->statx(s->fd[o->fd], "", AT_EMPTY_PATH, STATX_BASIC_STATS,
                            &facts);
        return rc < 0 ? rc : facts_sum(&facts);
    case 14:
        return s->disk->fallocate(s->fd[o->fd], o->n % 2 ? 0 : 1, o->n % 9000,
                                  1 + o->n % 500);
    case 15:
        return s->disk->fsync(s->fd[o->fd]);
    }
}

static int remove_one(const char *path, const struct stat *facts, int type,
                      struct FTW *where)
{
    (void)facts;
    (void)type;
    (void)where;
    return remove(path);
}

static struct order next_order(uint64_t *x)
{
    *x = *x * 6364136223846793005u + 1442695040888963407u;
    return (struct order){
        .verb = (unsigned)(*x >> 60),
        .a = (unsigned)(*x >> 56) & 15,
        .b = (unsigned)(*x >> 52) & 15,
        .fd = (unsigned)(*x >> 50) & 3,
        .n = (*x >> 20) & 0xffffff,
    };
}

/* What was counted step by step is what is found by looking. */
static void check_counts(void)
{
    uint64_t counted;

    test_disk_reboot(TEST_DISK_KEEP_ALL);
    root = root_open();
    counted = pages_free();
    assert_int_equal(keel_file_sync_all(root), 0);
    reboot_to(1);
    assert_int_equal(pages_free(), counted);
}

static void compare_with_kernel(const char *dir, uint64_t x)
{
    struct side sides[2] = {{.disk = keel_seam.disk},
                            {.disk = &keel_disk_real}};
    unsigned worked = 0;

    test_disk_install(256 * MB); /* out of reach, directories pile up */
    root = sides[0].root = root_open();
    sides[1].root = open(dir, O_RDONLY | O_DIRECTORY);
    assert_true(sides[1].root >= 0);
    for (int k = 0; k < 4; k++)
        sides[0].fd[k] = sides[1].fd[k] = -1;
    for (int k = 0; k < 40000; k++) {
        struct order o = next_order(&x);
        int64_t rc = obey(&sides[0], &o), kernel = obey(&sides[1], &o);

        worked += rc >= 0;
        if (rc != kernel)
            fail_msg("step %d verb %u %s %s n %llu: %lld, kernel %lld", k,
                     o.verb, paths[o.a], paths[o.b], (unsigned long long)o.n,
                     (long long)rc, (long long)kernel);
    }
    for (int k = 0; k < 4; k++)
        if (sides[1].fd[k] >= 0)
            close(sides[1].fd[k]);
    close(sides[1].root);
    assert_true(worked > 10000);
    check_counts();
}

static void the_same_orders_give_the_same_results_as_the_kernels(void **state)
{
    uint64_t rounds = getenv("KEEL_TEST_LONG") ? 100 : 1;
    char dir[] = "/dev/shm/disk-test-XXXXXX";

    (void)state;
    if (!mkdtemp(dir))
        skip();
    for (uint64_t k = 0; k < rounds; k++) {
        compare_with_kernel(dir, 42 + k);
        assert_int_equal(nftw(dir, remove_one, 8, FTW_DEPTH | FTW_PHYS), 0);
        assert_int_equal(mkdir(dir, 0700), 0);
    }
    assert_int_equal(rmdir(dir), 0);
}

/* ---- threads ------------------------------------------------------------- */

static void *busy(void *arg)
{
    const char *mine = arg;
    char other[2] = {(char)(*mine ^ 1), 0};

    for (int k = 0; k < 300; k++) {
        keel_auto(file) int fd =
            keel_file_open(root, mine, O_RDWR | O_CREAT, 0600);

        if (fd < 0)
            continue;
        (void)keel_file_write(fd, mine, 1, (uint64_t)k * 100);
        (void)keel_file_sync_data(fd);
        (void)keel_file_rename(root, mine, root, other, 0);
        (void)keel_file_sync(root);
        if (k % 50 == 0)
            (void)keel_file_sync_all(root);
        if (k % 10 == 0)
            (void)keel_file_unlink(root, other);
    }
    return NULL;
}

static void several_threads_may_use_it_at_once(void **state)
{
    static char names[4][2] = {"b", "c", "d", "e"};
    struct statfs facts;
    pthread_t thread[4];
    uint64_t pages = 0;

    (void)state;
    for (int k = 0; k < 4; k++)
        assert_int_equal(pthread_create(&thread[k], NULL, busy, names[k]), 0);
    for (int k = 0; k < 4; k++)
        assert_int_equal(pthread_join(thread[k], NULL), 0);
    for (int k = 0; k < 4; k++)
        if (is_there(names[k]))
            pages += facts_of(names[k]).stx_blocks / 8;
    assert_int_equal(keel_file_statfs(root, &facts), 0);
    assert_int_equal(facts.f_blocks - facts.f_bfree, pages);
}

static void a_link_is_kept_whole_and_never_followed(void **state)
{
    struct statx x;
    char text[32];

    (void)state;
    assert_int_equal(keel_file_symlink("over/there", root, "l"), 0);
    assert_int_equal(keel_file_open(root, "l", O_RDONLY, 0), -ELOOP);
    assert_int_equal(keel_file_open(root, "l/below", O_RDONLY, 0), -ELOOP);
    assert_int_equal(keel_file_set_mtime_at(root, "l", KEEL_SECOND), 0);
    x = facts_of("l");
    assert_true(S_ISLNK(x.stx_mode));
    assert_int_equal(x.stx_mtime.tv_sec, 1);
    reboot_to(TEST_DISK_KEEP_NONE);
    assert_false(is_there("l"));
    assert_int_equal(keel_file_symlink("over/there", root, "l"), 0);
    assert_int_equal(keel_file_sync(root), 0);
    reboot_to(TEST_DISK_KEEP_NONE);
    assert_int_equal(keel_file_readlink(root, "l", text, sizeof text), 10);
    assert_memory_equal(text, "over/there", 10);
    assert_int_equal(keel_file_unlink(root, "l"), 0);
    assert_int_equal(keel_file_readlink(root, "l", text, sizeof text), -ENOENT);
}

int main(void)
{
#define T(name) cmocka_unit_test_setup_teardown(name, begin, end)
    const struct CMUnitTest tests[] = {
        T(a_link_is_kept_whole_and_never_followed),
        T(an_unsynced_page_is_old_or_new_or_torn_by_sectors),
        T(an_unsynced_size_is_old_or_new),
        T(bytes_past_a_lost_size_do_not_come_back),
        T(fdatasync_keeps_data_and_size_but_not_the_name),
        T(a_synced_name_may_still_have_lost_its_data),
        T(times_are_safe_after_fsync_and_with_the_data_only),
        T(a_truncation_is_volatile_too),
        T(a_truncation_happens_whole_or_not_at_all),
        T(what_a_failed_sync_left_is_never_made_good),
        T(a_name_lives_from_the_sync_of_its_directory),
        T(an_unlink_is_volatile_until_the_directory_is_synced),
        T(a_removed_directory_may_come_back_as_it_was),
        T(a_rename_shows_the_old_name_or_the_new_or_both),
        T(syncing_either_directory_of_a_rename_never_loses_the_file),
        T(a_replaced_file_is_old_or_new_never_missing),
        T(an_exchange_is_whole_or_not_at_all),
        T(an_unnamed_file_may_vanish_until_its_directory_is_synced),
        T(an_unnamed_file_is_gone_with_its_descriptor),
        T(syncfs_keeps_everything),
        T(no_chain_of_renames_loses_a_file),
        T(kill_keeps_all_and_a_later_power_cut_forgets),
        T(nothing_happens_from_the_ordered_operation_on),
        T(the_same_operations_and_seed_give_the_same_disk),
        T(an_image_is_not_touched_by_what_follows),
        T(a_lie_syncs_nothing_and_says_it_did),
        T(a_full_disk_says_so_and_counts_exactly),
        T(a_hole_takes_no_room_and_reads_as_zeros),
        T(times_move_in_ticks_of_4_ms),
        T(an_unlinked_file_lives_while_it_is_open),
        T(a_directory_lists_each_name_once),
        T(a_lock_is_one_descriptors_until_it_is_closed),
        T(openat2_stays_beneath_and_refuses_as_the_kernel_does),
        T(direct_access_wants_whole_sectors),
        T(rename_keeps_the_rules_of_renameat2),
        T(the_same_orders_give_the_same_results_as_the_kernels),
        T(several_threads_may_use_it_at_once),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
