/* SPDX-License-Identifier: MIT */
/* Listing directories, large ones above all. */
#include <errno.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include <cmocka.h>

#include <keel/co.h>
#include <keel/file.h>

#include "base/log.h"
#include "vault_inside.h"
#include "lists.h"
#include "test/fault.h"
#include "world_test.h"

enum { MANY = 5000, PAGE = 700 };

static char real_path[64];
static struct vault_entry entries[PAGE];
static struct problem why;

static int setup(void **state)
{
    static struct world w;

    if (world_open(&w, world_real_data(real_path), &why) < 0)
        return -1;
    *state = &w;
    return 0;
}

static int teardown(void **state)
{
    world_close(*state);
    return world_real_remove(real_path);
}

static void name_of(unsigned i, char ret[64])
{
    /* Not in the order of their numbers, of several lengths, with a beginning
     * that all of them have. */
    (void)snprintf(ret, 64, "name-%u-%.*s", i * 7919 % 100003, (int)(i % 30),
                   "..............................");
}

static int make_names(struct world *w, const char *where, unsigned count)
{
    keel_auto(file) int home = world_home_dir(w);
    int dir, fd;

    assert_int_equal(keel_file_mkdir(home, where, 0700), 0);
    dir = keel_file_open(home, where, O_RDONLY | O_DIRECTORY, 0);
    for (unsigned i = 0; i < count; i++) {
        char name[64];

        name_of(i, name);
        fd = keel_file_open(dir, name, O_CREAT | O_EXCL | O_WRONLY, 0600);
        assert_true(fd >= 0);
        keel_file_close(fd);
    }
    keel_sleep(keel_after(3 * CLOCK_TICK)); /* so that a change would show */
    return dir;
}

/* All pages: their names are in order, and as many as there should be. */
static void list_all(struct world *w, const char *where, unsigned page,
                     unsigned expected)
{
    char after[NAME_BYTES + 1] = "";
    unsigned total = 0;
    struct path p;
    int count;

    assert_int_equal(world_path(where, &p), 0);
    do {
        count =
            vault_list(w->vault, &w->who, 0, &p, after, entries, page, &why);
        assert_true(count >= 0);
        for (int i = 0; i < count; i++) {
            assert_true(strcmp(entries[i].name, after) > 0);
            strcpy(after, entries[i].name);
            assert_int_equal(entries[i].type, 'f');
        }
        total += (unsigned)count;
    } while (count == (int)page);
    assert_int_equal(total, expected);
}

static void pages_that_follow_do_not_read_the_directory(void **state)
{
    struct world *w = *state;
    struct lists *l = w->vault->lists;
    uint64_t before = lists_read(l);

    keel_file_close(make_names(w, "d", MANY));
    list_all(w, "/d", PAGE, MANY);
    assert_int_equal(lists_read(l) - before, 1);
    assert_int_equal(lists_bytes(l), 0); /* nobody asks for more */
}

static void a_list_larger_than_its_room_comes_in_windows(void **state)
{
    struct world *w = *state;
    struct lists *l = w->vault->lists;
    uint64_t before = lists_read(l);

    lists_window(l, 16 << 10, 1000000);
    keel_file_close(make_names(w, "d", MANY));
    list_all(w, "/d", 100, MANY);
    print_message("%u names: %u windows\n", MANY,
                  (unsigned)(lists_read(l) - before));
    assert_true(lists_read(l) - before > 5);
    assert_true(lists_read(l) - before < MANY / 100);
    before = lists_read(l);
    lists_window(l, 1 << 20, 900);
    list_all(w, "/d", 100, MANY);
    assert_true(lists_read(l) - before > 5);
}

static void a_directory_that_changed_is_read_anew(void **state)
{
    struct world *w = *state;
    struct lists *l = w->vault->lists;
    uint64_t before = lists_read(l);
    keel_auto(file) int dir = make_names(w, "d", 300);
    struct path p;
    char name[64];
    int fd;

    assert_int_equal(world_path("/d", &p), 0);
    assert_int_equal(
        vault_list(w->vault, &w->who, 0, &p, "", entries, 100, &why), 100);
    assert_true(lists_bytes(l) > 0);
    assert_int_equal(
        vault_list(w->vault, &w->who, 0, &p, "", entries, 100, &why), 100);
    assert_int_equal(lists_read(l) - before, 1);
    fd = keel_file_open(dir, "a-first", O_CREAT | O_WRONLY, 0600);
    keel_file_close(fd);
    assert_int_equal(
        vault_list(w->vault, &w->who, 0, &p, "", entries, 100, &why), 100);
    assert_string_equal(entries[0].name, "a-first");
    assert_int_equal(keel_file_unlink(dir, "a-first"), 0);
    name_of(5, name);
    assert_int_equal(keel_file_unlink(dir, name), 0);
    list_all(w, "/d", 100, 299);
}

static void what_is_kept_stays_within_its_budget(void **state)
{
    struct world *w = *state;
    struct path p;
    char name[16];

    for (unsigned i = 0; i < 80; i++) {
        (void)snprintf(name, sizeof name, "d%u", i);
        keel_file_close(make_names(w, name, 20));
        assert_int_equal(world_path(name, &p), 0);
        assert_int_equal(
            vault_list(w->vault, &w->who, 0, &p, "", entries, 10, &why), 10);
    }
    assert_true(lists_bytes(w->vault->lists) > 0);
    assert_true(lists_bytes(w->vault->lists) < 16 << 20);
}

static void each_kind_of_name_is_told(void **state)
{
    struct world *w = *state;
    keel_auto(file) int home = world_home_dir(w);
    struct world_put put = {.path = "file", .tag = 1, .size = 100};
    struct path p;

    put.level = VAULT_COMMITTED;
    assert_int_equal(world_put(w, &put, &why), 0);
    committer_drain(w->vault->committer);
    assert_int_equal(keel_file_mkdir(home, "dir", 0700), 0);
    assert_int_equal(symlinkat("/etc/passwd", home, "link"), 0);
    assert_int_equal(mkfifoat(home, "pipe", 0600), 0);
    keel_sleep(keel_after(3 * CLOCK_TICK));
    assert_int_equal(world_path("", &p), 0);
    assert_int_equal(
        vault_list(w->vault, &w->who, 0, &p, "", entries, 10, &why), 4);
    assert_int_equal(entries[0].type, 'd');
    assert_int_equal(entries[1].type, 'f');
    assert_int_equal(entries[1].size, 100);
    assert_int_equal(entries[1].hash, CHUNK_XXH128);
    assert_int_equal(entries[2].type, 'l');
    assert_string_equal(entries[2].target, "/etc/passwd");
    assert_int_equal(entries[3].type, '?');
    for (unsigned i = 0; i < 4; i++)
        vault_entry_fini(&entries[i]);
    assert_int_equal(world_path("link", &p), 0);
    assert_int_equal(
        vault_list(w->vault, &w->who, 0, &p, "", entries, 10, &why), 1);
    assert_string_equal(entries[0].target, "/etc/passwd");
    vault_entry_fini(&entries[0]);
    assert_int_equal(
        vault_list(w->vault, &w->who, 0, &p, "zz", entries, 10, &why), 0);
}

static void any_failure_is_told_and_leaves_nothing(void **state)
{
    static const enum keel_op ops[] = {KEEL_OP_ALLOC, KEEL_OP_OPEN,
                                       KEEL_OP_STAT, KEEL_OP_LIST};
    struct world *w = *state;
    keel_auto(file) int dir = make_names(w, "d", 100);
    struct path p;

    assert_int_equal(symlinkat("/etc/passwd", dir, "link"), 0);
    assert_int_equal(world_path("d", &p), 0);
    for (size_t k = 0; k < sizeof ops / sizeof *ops; k++) {
        for (unsigned nth = 1;; nth++) {
            bool fired;
            int rc;

            if (ops[k] == KEEL_OP_ALLOC)
                fault_fail_alloc(nth);
            else
                fault_fail(ops[k], nth, EIO);
            rc = vault_list(w->vault, &w->who, 0, &p, "", entries, PAGE, &why);
            fired = fault_fired();
            fault_clear();
            assert_true(rc < 0 || rc == 101);
            for (int i = 0; i < rc; i++)
                vault_entry_fini(&entries[i]);
            if (!fired)
                break;
        }
    }
}

int main(void)
{
#define T(name) cmocka_unit_test_setup_teardown(name, setup, teardown)
    const struct CMUnitTest tests[] = {
        T(pages_that_follow_do_not_read_the_directory),
        T(a_list_larger_than_its_room_comes_in_windows),
        T(a_directory_that_changed_is_read_anew),
        T(what_is_kept_stays_within_its_budget),
        T(each_kind_of_name_is_told),
        T(any_failure_is_told_and_leaves_nothing),
    };

    log_open(-1, LOG_ERROR);
    return cmocka_run_group_tests(tests, NULL, NULL);
}
