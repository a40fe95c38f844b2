/* SPDX-License-Identifier: MIT */
/* Directories and links in the quota of files. */
#include <errno.h>
#include <fcntl.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include <cmocka.h>
#include <sqlite3.h>

#include <keel/file.h>
#include <keel/thread.h>

#include "base/log.h"
#include "vault_inside.h"
#include "world_test.h"

static char real_path[64];
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
    struct world *w = *state;

    assert_int_equal(world_findings(w, w->who.home), 0);
    assert_int_equal(ledger_check(w->ledger, &why), 0);
    world_close(w);
    return world_real_remove(real_path);
}

/* ---- in short --------------------------------------------------------------------- */

static struct path path_of(const char *text)
{
    struct path p;

    assert_int_equal(world_path(text, &p), 0);
    return p;
}

static int make(struct world *w, const char *text)
{
    struct path p = path_of(text);

    return vault_mkdir(w->vault, &w->who, 0, &p, 0700, true, &why);
}

static int link_to(struct world *w, const char *text)
{
    struct path p = path_of(text);

    return vault_link(w->vault, &w->who, 0, &p, "target", INT64_MIN, false,
                      &why);
}

static int put(struct world *w, const char *text)
{
    struct world_put p = {
        .path = text, .size = 10, .tag = 1, .level = VAULT_COMMITTED};

    return world_put(w, &p, &why);
}

static int move(struct world *w, const char *from, const char *to)
{
    struct path a = path_of(from), b = path_of(to);

    return vault_move(w->vault, &w->who, 0, &a, &b, false, &why);
}

static int rm(struct world *w, const char *text)
{
    struct vault_removed removed;
    struct path p = path_of(text);

    return vault_remove(w->vault, &w->who, 0, &p, true, &removed, &why);
}

static bool is_there(struct world *w, const char *text)
{
    struct vault_entry e;
    struct path p = path_of(text);

    if (vault_stat(w->vault, &w->who, 0, &p, &e, NULL) < 0)
        return false;
    vault_entry_fini(&e);
    return true;
}

static int64_t used(struct world *w)
{
    struct ledger_space s;

    assert_int_equal(ledger_space_get(w->ledger, w->who.home, &s, NULL), 0);
    return s.used_files;
}

static void quota(struct world *w, int64_t bytes, int64_t files)
{
    assert_int_equal(
        ledger_space_quota(w->ledger, w->who.home, bytes, files, NULL), 0);
}

#define refused(call, name)                                                    \
    do {                                                                       \
        why = (struct problem){0};                                             \
        assert_true((call) < 0);                                               \
        assert_int_equal(why.id, PROBLEM_##name);                              \
    } while (0)

/* ---- the quota -------------------------------------------------------------------- */

static void each_name_counts_one(void **state)
{
    struct world *w = *state;

    quota(w, 0, 5);
    assert_int_equal(make(w, "/d/e"), 0);
    assert_int_equal(used(w), 2);
    assert_int_equal(make(w, "/d/e"), 0); /* there already */
    assert_int_equal(link_to(w, "/l"), 0);
    assert_int_equal(put(w, "/d/e/f"), 0);
    assert_int_equal(used(w), 4);

    refused(make(w, "/g/h"), QUOTA_FILES);
    assert_int_equal(why.limit, 5);
    assert_int_equal(why.used, 4);
    assert_false(is_there(w, "/g"));
    assert_int_equal(make(w, "/g"), 0);
    refused(link_to(w, "/m"), QUOTA_FILES);
    refused(put(w, "/n"), QUOTA_FILES);
    assert_false(is_there(w, "/m"));
    assert_int_equal(used(w), 5);

    /* What takes another's place is not one more. */
    assert_int_equal(link_to(w, "/l"), 0);
    assert_int_equal(link_to(w, "/d/e/f"), 0);
    assert_int_equal(used(w), 5);
    assert_int_equal(move(w, "/d", "/g/d"), 0);
    assert_int_equal(move(w, "/l", "/g/d/e/f"), 0);
    assert_int_equal(used(w), 4);
    assert_int_equal(rm(w, "/g"), 0);
    assert_int_equal(used(w), 0);
    assert_int_equal(make(w, "/1/2/3/4/5"), 0);
    assert_int_equal(used(w), 5);
}

static void a_lowered_quota_lets_it_shrink_and_not_grow(void **state)
{
    struct world *w = *state;

    assert_int_equal(make(w, "/a/b/c"), 0);
    assert_int_equal(put(w, "/f"), 0);
    quota(w, 0, 1);
    refused(make(w, "/d"), QUOTA_FILES);
    assert_int_equal(link_to(w, "/f"), 0);
    assert_int_equal(move(w, "/a/b/c", "/c"), 0);
    assert_int_equal(rm(w, "/a"), 0);
    assert_int_equal(used(w), 2);
    refused(make(w, "/d"), QUOTA_FILES);
}

static void a_directory_that_cannot_be_made_counts_for_nothing(void **state)
{
    struct world *w = *state;

    assert_int_equal(put(w, "/f"), 0);
    assert_true(make(w, "/f/d") < 0);
    assert_int_equal(used(w), 1);
    /* The second name in a directory from outside that nobody may write to. */
    if (geteuid() != 0) {
        keel_auto(file) int home = world_home_dir(w);

        assert_int_equal(keel_file_mkdir(home, "o", 0500), 0);
        assert_true(make(w, "/o/d/e") < 0);
        assert_int_equal(used(w), 1);
        assert_int_equal(unlinkat(home, "o", AT_REMOVEDIR), 0);
    }
}

/* Of so many there is no directory; the check takes them back. */
static void fill(struct world *w, unsigned count)
{
    char texts[250][32];
    const char *paths[250];

    for (unsigned at = 0; at < count; at += 250) {
        for (unsigned i = 0; i < 250; i++) {
            (void)snprintf(texts[i], sizeof texts[i], "t/%06u", at + i);
            paths[i] = texts[i];
        }
        assert_int_equal(
            ledger_nodes_found(w->ledger, w->who.home, paths, 250, &why), 0);
    }
}

static int any(const struct vault_finding *f, void *arg)
{
    *(unsigned *)arg += !f->outside;
    return 0;
}

static void bytes_alone_bound_the_names_too(void **state)
{
    struct world *w = *state;
    unsigned found = 0;

    quota(w, 1 << 20, 0);
    fill(w, (unsigned)SPACE_NAMES_LEAST - 250);
    fill(w, 0); /* twice is once */
    assert_int_equal(used(w), SPACE_NAMES_LEAST - 250);
    assert_int_equal(make(w, "/a"), 0);
    fill(w, (unsigned)SPACE_NAMES_LEAST);
    assert_int_equal(used(w), SPACE_NAMES_LEAST + 1);
    refused(make(w, "/b"), QUOTA_FILES);
    assert_int_equal(why.limit, SPACE_NAMES_LEAST);
    quota(w, (int64_t)(SPACE_NAMES_LEAST + 2) * (int64_t)SPACE_NAME_COST, 0);
    assert_int_equal(make(w, "/b"), 0);
    refused(make(w, "/c"), QUOTA_FILES);
    quota(w, 0, 0);
    assert_int_equal(make(w, "/c"), 0);

    assert_int_equal(
        vault_check(w->vault, w->who.home, false, any, &found, &why), 0);
    assert_int_equal(found, SPACE_NAMES_LEAST);
    assert_int_equal(
        vault_check(w->vault, w->who.home, true, any, &found, &why), 0);
    assert_int_equal(used(w), 3);
}

/* ---- rows ------------------------------------------------------------------------- */

static int count_at(const char *path, void *arg)
{
    *(unsigned *)arg += !strncmp(path, "b/t", 3);
    return 0;
}

static void more_rows_than_one_transaction_moves_go_along(void **state)
{
    struct world *w = *state;
    unsigned count = 5000, moved = 0;

    assert_int_equal(make(w, "/t"), 0);
    assert_int_equal(make(w, "/b"), 0);
    fill(w, count);
    assert_int_equal(move(w, "/t", "/b/t"), 0);
    assert_int_equal(used(w), count + 2);
    assert_int_equal(
        ledger_node_list(w->ledger, w->who.home, count_at, &moved, &why), 0);
    assert_int_equal(moved, count + 1);
    assert_int_equal(rm(w, "/b"), 0);
    assert_int_equal(used(w), 0);
}

static void a_path_below_that_would_be_too_long_is_refused(void **state)
{
    struct world *w = *state;
    char text[PATH_BYTES + 1];

    memset(text, 'x', sizeof text);
    for (size_t i = 1; i < sizeof text; i += 100)
        text[i] = '/';
    text[PATH_BYTES] = '\0';
    assert_int_equal(make(w, text), 0);
    refused(move(w, "/x", "/longer"), PATH_TOO_LONG);
    assert_int_equal(rm(w, "/x"), 0);
}

static void what_came_from_outside_counts_for_nothing(void **state)
{
    struct world *w = *state;

    assert_int_equal(put(w, "/f"), 0);
    {
        keel_auto(file) int home = world_home_dir(w);

        assert_int_equal(keel_file_mkdir(home, "o", 0700), 0);
        assert_int_equal(symlinkat("f", home, "o/l"), 0);
    }
    quota(w, 0, 2);
    assert_int_equal(used(w), 1);
    assert_int_equal(move(w, "/o", "/p"), 0);
    assert_int_equal(used(w), 1);
    assert_int_equal(link_to(w, "/p/l"), 0); /* ours from now on */
    assert_int_equal(used(w), 2);
    refused(make(w, "/p/d"), QUOTA_FILES);
    assert_int_equal(rm(w, "/p"), 0);
    assert_int_equal(used(w), 1);
}

/* As an earlier version left it: version 3 of the schema taken back. */
static void take_back(void)
{
    char path[128];
    sqlite3 *db;

    (void)snprintf(path, sizeof path, "%s/ledger.db", real_path);
    assert_int_equal(sqlite3_open(path, &db), SQLITE_OK);
    assert_int_equal(
        sqlite3_exec(db,
                     "UPDATE space SET used_files = used_files - (SELECT "
                     "count(*) FROM node WHERE space = space.id);"
                     "DROP TABLE node;"
                     "ALTER TABLE space DROP COLUMN counted;"
                     "PRAGMA user_version = 2",
                     NULL, NULL, NULL),
        SQLITE_OK);
    assert_int_equal(sqlite3_close(db), SQLITE_OK);
}

static void names_of_an_earlier_version_are_counted_once(void **state)
{
    struct world *w = *state;
    char text[32];

    for (unsigned i = 0; i < 300; i++) { /* more than one batch */
        (void)snprintf(text, sizeof text, "/%u/%u/%u", i % 3, i % 7, i);
        assert_int_equal(make(w, text), 0);
    }
    assert_int_equal(link_to(w, "/1/l"), 0);
    assert_int_equal(put(w, "/1/f"), 0);
    assert_int_equal(used(w), 3 + 21 + 300 + 2);
    for (int again = 0; again < 2; again++) {
        world_close(w);
        if (!again)
            take_back();
        assert_int_equal(
            world_open(w, open(real_path, O_RDONLY | O_DIRECTORY), &why), 0);
        assert_int_equal(used(w), 3 + 21 + 300 + 2);
        assert_int_equal(world_findings(w, w->who.home), 0);
    }
    assert_int_equal(rm(w, "/1"), 0);
    assert_int_equal(used(w), 2 + 14 + 200);
}

/* ---- at once ---------------------------------------------------------------------- */

struct maker {
    struct world *world;
    unsigned number, made;
};

static int make_some(void *arg)
{
    struct maker *m = arg;
    struct problem said;
    char text[32];

    for (unsigned i = 0; i < 40; i++) {
        struct path p;

        (void)snprintf(text, sizeof text, "/m%u-%u", m->number, i);
        if (world_path(text, &p) < 0)
            return -EINVAL;
        if (vault_mkdir(m->world->vault, &m->world->who, 0, &p, 0700, false,
                        &said) == 0)
            m->made++;
        else if (said.id != PROBLEM_QUOTA_FILES)
            return -EIO;
    }
    return 0;
}

static void many_at_once_do_not_go_beyond(void **state)
{
    struct world *w = *state;
    struct keel_thread *threads[4];
    struct maker makers[4];
    unsigned made = 0;
    int result;

    quota(w, 0, 100);
    for (unsigned i = 0; i < 4; i++) {
        makers[i] = (struct maker){w, i, 0};
        assert_int_equal(
            keel_thread_start("maker", make_some, &makers[i], &threads[i]), 0);
    }
    for (unsigned i = 0; i < 4; i++) {
        assert_int_equal(keel_thread_join(threads[i], KEEL_FOREVER, &result),
                         0);
        assert_int_equal(result, 0);
        made += makers[i].made;
    }
    assert_int_equal(made, 100);
    assert_int_equal(used(w), 100);
}

int main(void)
{
#define T(name) cmocka_unit_test_setup_teardown(name, setup, teardown)
    const struct CMUnitTest tests[] = {
        T(each_name_counts_one),
        T(a_lowered_quota_lets_it_shrink_and_not_grow),
        T(a_directory_that_cannot_be_made_counts_for_nothing),
        T(bytes_alone_bound_the_names_too),
        T(more_rows_than_one_transaction_moves_go_along),
        T(a_path_below_that_would_be_too_long_is_refused),
        T(what_came_from_outside_counts_for_nothing),
        T(names_of_an_earlier_version_are_counted_once),
        T(many_at_once_do_not_go_beyond),
    };

    log_open(-1, LOG_ERROR);
    return cmocka_run_group_tests(tests, NULL, NULL);
}
