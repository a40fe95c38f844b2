/* SPDX-License-Identifier: MIT */
/* Moving and removing, what they exclude, and what they leave behind. */
#include <sqlite3.h>

#include "ledger/ledger_inside.h"
#include "ledger/ledger_test.h"

static struct ledger_change change(const struct ledger_account *a,
                                   const char *path, const char *to)
{
    return (struct ledger_change){.kind = to ? LEDGER_MOVE : LEDGER_REMOVE,
                                  .space = a->home,
                                  .account = a->id,
                                  .path = path,
                                  .to = to,
                                  .device = 3,
                                  .inode = 4,
                                  .now = 2000};
}

/* Published and settled. */
static void put(struct ledger *l, const struct ledger_account *a,
                const char *path, uint64_t size)
{
    struct ledger_publish p = item(a, path, size, size);
    struct problem why;

    assert_int_equal(publish(l, &p, &why), 0);
    settle(l, p.intent, 9);
}

/* From begin to end; its number. */
static int64_t changed(struct ledger *l, struct ledger_change c, bool done)
{
    struct problem why;

    assert_int_equal(ledger_change_begin(l, &c, &why), 0);
    assert_int_equal(ledger_change_end(l, c.id, done, &why), 0);
    return c.id;
}

static bool there(struct ledger *l, const struct ledger_account *a,
                  const char *path, uint64_t size)
{
    struct ledger_file f;
    struct problem why = {0};
    int rc = ledger_file_get(l, a->home, path, &f, &why);

    if (rc < 0)
        assert_int_equal(why.id, PROBLEM_FILE_MISSING);
    return rc == 0 && f.size == size && f.ctime_ns == 9;
}

static int count_change(const struct ledger_change *c, void *arg)
{
    (void)c;
    ++*(int *)arg;
    return 0;
}

static int changes(struct ledger *l)
{
    int count = 0;

    assert_int_equal(ledger_change_list(l, count_change, &count, NULL), 0);
    return count;
}

/* ---- rows -------------------------------------------------------------------------- */
/* Names that lie close to "dir/..." in the order of bytes, and are not in it. */
static const char *const neighbours[] = {"dir-",   "dir.",    "dir0",
                                         "dir!x",  "dir\xff", "di",
                                         "dirr/x", "a/dir/x", "Dir/x"};
enum { NEIGHBOURS = sizeof neighbours / sizeof *neighbours };

static void a_moved_directory_takes_its_rows_along(void **state)
{
    struct house *h = *state;
    struct ledger_account a = account_new(h->ledger, "mara", 0, 0);
    struct ledger_space before;

    put(h->ledger, &a, "dir/x", 10);
    put(h->ledger, &a, "dir/y/\xff\x01%_", 20);
    put(h->ledger, &a, "dir/\x01", 30);
    put(h->ledger, &a, "dir/dir/dir", 40);
    for (int i = 0; i < NEIGHBOURS; i++)
        put(h->ledger, &a, neighbours[i], 100 + (uint64_t)i);
    before = space_of(h->ledger, a.home);

    changed(h->ledger, change(&a, "dir", "n/e"), true);
    assert_true(there(h->ledger, &a, "n/e/x", 10));
    assert_true(there(h->ledger, &a, "n/e/y/\xff\x01%_", 20));
    assert_true(there(h->ledger, &a, "n/e/\x01", 30));
    assert_true(there(h->ledger, &a, "n/e/dir/dir", 40));
    assert_false(there(h->ledger, &a, "dir/x", 10));
    for (int i = 0; i < NEIGHBOURS; i++)
        assert_true(there(h->ledger, &a, neighbours[i], 100 + (uint64_t)i));
    assert_int_equal(space_of(h->ledger, a.home).used_bytes, before.used_bytes);
    assert_int_equal(space_of(h->ledger, a.home).used_files, before.used_files);
    assert_int_equal(changes(h->ledger), 0);
    assert_sound(h->ledger);
}

static void a_moved_file_replaces_what_was_there(void **state)
{
    struct house *h = *state;
    struct ledger_account a = account_new(h->ledger, "mara", 0, 0);

    put(h->ledger, &a, "x", 10);
    put(h->ledger, &a, "y", 20);
    put(h->ledger, &a, "z/1", 30);
    put(h->ledger, &a, "z/2", 40);
    put(h->ledger, &a, "x2", 50);
    changed(h->ledger, change(&a, "x", "y"), true);
    assert_true(there(h->ledger, &a, "y", 10));
    assert_false(there(h->ledger, &a, "x", 10));
    assert_int_equal(space_of(h->ledger, a.home).used_bytes, 130);
    assert_int_equal(space_of(h->ledger, a.home).used_files, 4);
    changed(h->ledger, change(&a, "y", "z"), true);
    assert_true(there(h->ledger, &a, "z", 10));
    assert_int_equal(space_of(h->ledger, a.home).used_bytes, 60);
    assert_int_equal(space_of(h->ledger, a.home).used_files, 2);
    assert_true(there(h->ledger, &a, "x2", 50));
    assert_sound(h->ledger);
}

static void a_removed_directory_gives_its_quota_back(void **state)
{
    struct house *h = *state;
    struct ledger_account a = account_new(h->ledger, "mara", 0, 0);
    struct ledger_file found = {.size = 7, .hash = CHUNK_SHA256};
    struct problem why;

    put(h->ledger, &a, "dir/x", 10);
    put(h->ledger, &a, "dir/y/z", 20);
    for (int i = 0; i < NEIGHBOURS; i++)
        put(h->ledger, &a, neighbours[i], 1);
    /* In nobody's quota. */
    assert_int_equal(
        ledger_file_digest(h->ledger, a.home, "dir/found", &found, &why), 0);
    changed(h->ledger, change(&a, "dir", NULL), true);
    assert_int_equal(space_of(h->ledger, a.home).used_bytes, NEIGHBOURS);
    assert_int_equal(space_of(h->ledger, a.home).used_files, NEIGHBOURS);
    for (int i = 0; i < NEIGHBOURS; i++)
        assert_true(there(h->ledger, &a, neighbours[i], 1));
    assert_true(ledger_file_get(h->ledger, a.home, "dir/found", &found, &why) <
                0);
    assert_sound(h->ledger);
}

static void what_was_not_done_changes_nothing(void **state)
{
    struct house *h = *state;
    struct ledger_account a = account_new(h->ledger, "mara", 0, 0);

    put(h->ledger, &a, "dir/x", 10);
    put(h->ledger, &a, "to", 20);
    changed(h->ledger, change(&a, "dir", "to"), false);
    changed(h->ledger, change(&a, "dir", NULL), false);
    assert_true(there(h->ledger, &a, "dir/x", 10));
    assert_true(there(h->ledger, &a, "to", 20));
    assert_int_equal(space_of(h->ledger, a.home).used_bytes, 30);
    assert_int_equal(changes(h->ledger), 0);
    assert_sound(h->ledger);
}

static void an_end_is_said_twice_without_harm(void **state)
{
    struct house *h = *state;
    struct ledger_account a = account_new(h->ledger, "mara", 0, 0);
    struct problem why;
    int64_t id;

    put(h->ledger, &a, "x", 10);
    id = changed(h->ledger, change(&a, "x", "y"), true);
    put(h->ledger, &a, "x", 20);
    assert_int_equal(ledger_change_end(h->ledger, id, true, &why), 0);
    assert_int_equal(ledger_change_end(h->ledger, id, false, &why), 0);
    assert_int_equal(ledger_change_end(h->ledger, 4711, true, &why), 0);
    assert_true(there(h->ledger, &a, "x", 20));
    assert_true(there(h->ledger, &a, "y", 10));
}

static void changes_that_cannot_be_are_refused(void **state)
{
    struct house *h = *state;
    struct ledger_account a = account_new(h->ledger, "mara", 0, 0);
    static const char *const inside[][2] = {
        {"x", "x"}, {"x", "x/y"}, {"x/y", "x"}, {"x", "x/y/z"}};
    char longest[PATH_BYTES + 2], deep[PATH_BYTES];
    struct ledger_change c;
    struct problem why;

    for (size_t i = 0; i < sizeof inside / sizeof *inside; i++) {
        c = change(&a, inside[i][0], inside[i][1]);
        assert_refused(ledger_change_begin(h->ledger, &c, &why), FILE_INSIDE);
    }
    c = change(&a, "", "x");
    assert_refused(ledger_change_begin(h->ledger, &c, &why), NAME_INVALID);
    c = change(&a, "x", "");
    assert_refused(ledger_change_begin(h->ledger, &c, &why), NAME_INVALID);
    memset(longest, 'a', sizeof longest);
    longest[PATH_BYTES + 1] = '\0';
    c = change(&a, longest, NULL);
    assert_refused(ledger_change_begin(h->ledger, &c, &why), PATH_TOO_LONG);
    c = change(&a, "x", "y");
    c.space = 77;
    assert_refused(ledger_change_begin(h->ledger, &c, &why), FILE_MISSING);

    /* What lies below would have no name any more. */
    memset(deep, 'd', sizeof deep);
    deep[1] = '/';
    deep[PATH_BYTES - 1] = '\0';
    put(h->ledger, &a, deep, 1);
    c = change(&a, "d", "eee");
    assert_refused(ledger_change_begin(h->ledger, &c, &why), PATH_TOO_LONG);
    assert_int_equal(why.size, PATH_BYTES + 1);
    assert_int_equal(changes(h->ledger), 0);
    changed(h->ledger, change(&a, "d", "ee"), true);
    memmove(deep + 1, deep, PATH_BYTES - 1);
    memcpy(deep, "ee/", 3);
    longest[PATH_BYTES] = '\0';
    memset(longest, 'd', PATH_BYTES);
    memcpy(longest, "ee/", 3);
    assert_true(there(h->ledger, &a, longest, 1));
    assert_sound(h->ledger);
}

/* The longest names have a range, too. */
static void names_of_any_length_are_changed(void **state)
{
    struct house *h = *state;
    struct ledger_account a = account_new(h->ledger, "mara", 0, 0);
    char longest[PATH_BYTES + 1];

    memset(longest, 'a', PATH_BYTES);
    longest[PATH_BYTES] = '\0';
    put(h->ledger, &a, longest, 5);
    changed(h->ledger, change(&a, longest, "b"), true);
    assert_true(there(h->ledger, &a, "b", 5));
    changed(h->ledger, change(&a, "b", longest), true);
    assert_true(there(h->ledger, &a, longest, 5));
    changed(h->ledger, change(&a, longest, NULL), true);
    assert_int_equal(space_of(h->ledger, a.home).used_files, 0);
    assert_sound(h->ledger);
}

/* ---- who excludes whom ------------------------------------------------------------------ */
static const struct {
    const char *path;
    bool busy; /* while something happens at "a/b" */
} near[] = {{"a/b", true},     {"a", true},        {"a/b/c", true},
            {"a/b/c/d", true}, {"a/b/\xff", true}, {"a/b0", false},
            {"a/b.", false},   {"a/bc/d", false},  {"a/c", false},
            {"ab", false},     {"a0", false},      {"b", false},
            {"a/a", false},    {"A/b", false}};
enum { NEAR = sizeof near / sizeof *near };

static void expect(int rc, const struct problem *why, int i)
{
    if (near[i].busy != (rc < 0 && why->id == PROBLEM_FILE_BUSY) ||
        (!near[i].busy && rc < 0))
        fail_msg("at '%s': %d, problem %d", near[i].path, rc, (int)why->id);
    if (rc < 0)
        assert_string_equal(why->name, shown_path(near[i].path).text);
}

static void nothing_is_published_where_something_changes(void **state)
{
    struct house *h = *state;
    struct ledger_account a = account_new(h->ledger, "mara", 0, 0),
                          other = account_new(h->ledger, "ines", 0, 0);
    static const char *const names[][2] = {
        {"a/b", NULL}, {"a/b", "elsewhere"}, {"elsewhere", "a/b"}};

    for (int n = 0; n < 3; n++) {
        struct ledger_change c = change(&a, names[n][0], names[n][1]);
        struct problem why = {0};

        assert_int_equal(ledger_change_begin(h->ledger, &c, &why), 0);
        for (int i = 0; i < NEAR; i++) {
            struct ledger_publish p = item(&a, near[i].path, 1, 1),
                                  q = item(&other, near[i].path, 1, 1);
            struct ledger_file f = {.size = 1, .hash = CHUNK_SHA256};
            int rc;

            rc = publish(h->ledger, &p, &why);
            expect(rc, &why, i);
            if (rc == 0)
                settle(h->ledger, p.intent, 9);
            assert_int_equal(publish(h->ledger, &q, &why), 0);
            settle(h->ledger, q.intent, 9);
            rc = ledger_file_digest(h->ledger, a.home, near[i].path, &f, &why);
            expect(rc, &why, i);
            rc = ledger_file_remove(h->ledger, a.home, near[i].path, &why);
            expect(rc, &why, i);
        }
        assert_int_equal(ledger_change_end(h->ledger, c.id, false, &why), 0);
    }
    for (int i = 0; i < NEAR; i++)
        put(h->ledger, &a, near[i].path, 1);
    assert_sound(h->ledger);
}

static void a_change_waits_for_what_is_published_or_changed(void **state)
{
    struct house *h = *state;
    struct ledger_account a = account_new(h->ledger, "mara", 0, 0);
    struct ledger_publish p = item(&a, "a/b", 1, 1);
    struct ledger_change first = change(&a, "a/b", NULL);
    struct problem why = {0};

    for (int by_change = 0; by_change < 2; by_change++) {
        if (by_change)
            assert_int_equal(ledger_change_begin(h->ledger, &first, &why), 0);
        else
            assert_int_equal(publish(h->ledger, &p, &why), 0);
        for (int i = 0; i < NEAR; i++) {
            struct ledger_change all[] = {change(&a, near[i].path, NULL),
                                          change(&a, near[i].path, "far/off"),
                                          change(&a, "far/off", near[i].path)};

            for (int k = 0; k < 3; k++) {
                int rc = ledger_change_begin(h->ledger, &all[k], &why);

                expect(rc, &why, i);
                if (rc == 0)
                    assert_int_equal(
                        ledger_change_end(h->ledger, all[k].id, false, &why),
                        0);
            }
        }
        settle(h->ledger, p.intent, 9);
    }
    assert_int_equal(ledger_change_end(h->ledger, first.id, true, &why), 0);
    assert_int_equal(space_of(h->ledger, a.home).used_files, 0);
    assert_sound(h->ledger);
}

/* ---- many ---------------------------------------------------------------------------------- */
static void house_sql(struct house *h, const char *text)
{
    char path[128];
    struct problem why;
    sqlite3 *db;

    ledger_close(h->ledger);
    h->ledger = NULL;
    snprintf(path, sizeof path, "%s/ledger.db", h->path);
    assert_int_equal(sqlite3_open(path, &db), SQLITE_OK);
    assert_int_equal(sqlite3_exec(db, text, NULL, NULL, NULL), SQLITE_OK);
    assert_int_equal(sqlite3_close(db), SQLITE_OK);
    assert_int_equal(ledger_open(h->dir, &h->ledger, &why), 0);
}

static void a_large_subtree_takes_no_memory_for_each_row(void **state)
{
    static const char fill[] =
        "WITH RECURSIVE n(i) AS (VALUES(0) UNION ALL SELECT i + 1 FROM n WHERE "
        "i < %d) INSERT INTO file SELECT 1, CAST(printf('from/the/directory/"
        "of/origin/%%03d/name-%%d', i %% 1000, i) AS BLOB), 3, 1, i, 0, 9, 1, "
        "zeroblob(32), 1, 3 FROM n; UPDATE space SET used_bytes = 3 * (%d + 1),"
        " used_files = %d + 1";
    struct house *h = *state;
    int most = getenv("KEEL_TEST_LONG") ? 199999 : 29999;
    struct ledger_account a = account_new(h->ledger, "mara", 0, 0);
    struct ledger_change c = change(&a, "from/the/directory", "to");
    struct problem why;
    char text[640];
    unsigned commits;

    snprintf(text, sizeof text, fill, most, most, most);
    house_sql(h, text);
    commits = h->ledger->commits;
    assert_int_equal(ledger_change_begin(h->ledger, &c, &why), 0);
    sqlite3_memory_highwater(1);
    assert_int_equal(ledger_change_end(h->ledger, c.id, true, &why), 0);
    /* What SQLite keeps of pages, and the pages of one transaction. */
    assert_true(sqlite3_memory_highwater(0) < 8 << 20);
    assert_true(h->ledger->commits - commits >
                (unsigned)most / LEDGER_CHANGE_ROWS);
    assert_true(there(h->ledger, &a, "to/of/origin/007/name-7", 3));
    assert_int_equal(space_of(h->ledger, a.home).used_files, most + 1);

    c = change(&a, "to", NULL);
    assert_int_equal(ledger_change_begin(h->ledger, &c, &why), 0);
    sqlite3_memory_highwater(1);
    assert_int_equal(ledger_change_end(h->ledger, c.id, true, &why), 0);
    assert_true(sqlite3_memory_highwater(0) < 8 << 20);
    assert_int_equal(space_of(h->ledger, a.home).used_files, 0);
    assert_int_equal(space_of(h->ledger, a.home).used_bytes, 0);
    assert_sound(h->ledger);
}

static void the_audit_keeps_its_newest_rows(void **state)
{
    struct house *h = *state;
    struct ledger_account a = account_new(h->ledger, "mara", 0, 0);
    sqlite3_stmt *q;
    sqlite3 *db;
    char path[128];

    /* As long as that of an older version may be. */
    house_sql(h, "WITH RECURSIVE n(i) AS (VALUES(1) UNION ALL SELECT i + 1 "
                 "FROM n WHERE i < 100800) INSERT INTO audit(id, at, account, "
                 "space, path, kind, size) SELECT i, 1, 1, 1, x'61', 'x', 0 "
                 "FROM n");
    for (int i = 0; i < LEDGER_AUDIT_EVERY; i++) {
        struct ledger_change c = change(&a, "x", NULL);
        struct problem why;

        assert_int_equal(ledger_change_begin(h->ledger, &c, &why), 0);
        assert_int_equal(ledger_change_end(h->ledger, c.id, true, &why), 0);
    }
    ledger_close(h->ledger);
    h->ledger = NULL;
    snprintf(path, sizeof path, "%s/ledger.db", h->path);
    assert_int_equal(sqlite3_open(path, &db), SQLITE_OK);
    assert_int_equal(sqlite3_prepare_v2(db,
                                        "SELECT count(*), max(id) FROM audit",
                                        -1, &q, NULL),
                     SQLITE_OK);
    assert_int_equal(sqlite3_step(q), SQLITE_ROW);
    assert_in_range(sqlite3_column_int(q, 0), LEDGER_AUDIT_ROWS,
                    LEDGER_AUDIT_ROWS + LEDGER_AUDIT_EVERY);
    assert_int_equal(sqlite3_column_int(q, 1), 100800 + LEDGER_AUDIT_EVERY);
    sqlite3_finalize(q);
    assert_int_equal(sqlite3_close(db), SQLITE_OK);
}

static int in_order(const struct ledger_change *c, void *arg)
{
    int *next = arg;
    char path[32];

    snprintf(path, sizeof path, "x/%d", *next);
    assert_string_equal(c->path, path);
    if (*next % 2) {
        snprintf(path, sizeof path, "y/%d", *next);
        assert_string_equal(c->to, path);
        assert_int_equal(c->kind, LEDGER_MOVE);
    } else {
        assert_null(c->to);
        assert_int_equal(c->kind, LEDGER_REMOVE);
    }
    assert_int_equal(c->device, 3);
    assert_int_equal(c->inode, 4);
    assert_int_equal(c->now, 2000);
    return ++*next == 140 ? -EINTR : 0;
}

static void changes_are_listed_in_the_order_they_were_begun(void **state)
{
    struct house *h = *state;
    struct ledger_account a = account_new(h->ledger, "mara", 0, 0);
    struct problem why;
    int next = 0;

    for (int i = 0; i < 150; i++) {
        char path[32], to[32];
        struct ledger_change c;

        snprintf(path, sizeof path, "x/%d", i);
        snprintf(to, sizeof to, "y/%d", i);
        c = change(&a, path, i % 2 ? to : NULL);
        assert_int_equal(ledger_change_begin(h->ledger, &c, &why), 0);
    }
    reopen(h);
    assert_sound(h->ledger);
    assert_int_equal(ledger_change_list(h->ledger, in_order, &next, &why),
                     -EINTR);
    assert_int_equal(next, 140);
}

/* ---- what follows ------------------------------------------------------------------------ */
struct events {
    int count;
    char kind[4][32], path[4][32], to[4][32];
};

static int keep_event(const struct ledger_event *e, void *arg)
{
    struct events *all = arg;

    assert_true(all->count < 4);
    assert_false(e->held);
    snprintf(all->kind[all->count], 32, "%s", e->kind);
    snprintf(all->path[all->count], 32, "%s", e->path);
    snprintf(all->to[all->count++], 32, "%s", e->to ? e->to : "none");
    return 0;
}

static void what_was_changed_is_told(void **state)
{
    struct house *h = *state;
    struct ledger_account a = account_new(h->ledger, "mara", 0, 0);
    struct events all = {0};
    struct problem why;

    put(h->ledger, &a, "x", 1);
    changed(h->ledger, change(&a, "x", "y"), true);
    changed(h->ledger, change(&a, "y", "z"), false);
    changed(h->ledger, change(&a, "y", NULL), true);
    assert_int_equal(ledger_outbox_list(h->ledger, 0, keep_event, &all, &why),
                     0);
    assert_int_equal(all.count, 3);
    assert_string_equal(all.kind[0], "file.published");
    assert_string_equal(all.to[0], "none");
    assert_string_equal(all.kind[1], "file.moved");
    assert_string_equal(all.path[1], "x");
    assert_string_equal(all.to[1], "y");
    assert_string_equal(all.kind[2], "file.removed");
    assert_string_equal(all.path[2], "y");
    assert_string_equal(all.to[2], "none");
}

static void the_check_finds_a_change_without_its_names(void **state)
{
    struct house *h = *state;
    struct ledger_account a = account_new(h->ledger, "mara", 0, 0);
    struct ledger_change c = change(&a, "x", "y");
    struct problem why;

    assert_int_equal(ledger_change_begin(h->ledger, &c, &why), 0);
    assert_sound(h->ledger);
    house_sql(h, "DELETE FROM change_path WHERE path = x'79'");
    assert_refused(ledger_check(h->ledger, &why), DATA_DAMAGED);
    house_sql(h, "INSERT INTO change_path VALUES(1, x'79', 1)");
    assert_sound(h->ledger);
    house_sql(h, "DELETE FROM change");
    assert_refused(ledger_check(h->ledger, &why), DATA_DAMAGED);
}

/* ---- against a model ------------------------------------------------------------------------ */
/* Short paths of two letters, three deep, and a set of those that have rows. */
enum { LETTERS = 2, PATHS = 2 + 4 + 8 };
struct model {
    char path[PATHS][8];
    uint64_t size[PATHS]; /* 0: no row */
    unsigned random;
};

static unsigned dice(struct model *m, unsigned sides)
{
    m->random = m->random * 1103515245u + 12345u;
    return m->random >> 16 & 0x7fff ? (m->random >> 16 & 0x7fff) % sides : 0;
}

static bool below_or_at(const char *path, const char *of)
{
    size_t n = strlen(of);

    return strncmp(path, of, n) == 0 && (path[n] == '/' || path[n] == '\0');
}

static int model_find(const struct model *m, const char *path)
{
    for (int i = 0; i < PATHS; i++) {
        if (strcmp(m->path[i], path) == 0)
            return i;
    }
    return -1;
}

static void model_init(struct model *m, unsigned seed)
{
    int n = 0;

    memset(m, 0, sizeof *m);
    m->random = seed;
    for (int i = 0; i < LETTERS; i++) {
        snprintf(m->path[n++], 8, "%c", 'a' + i);
        for (int j = 0; j < LETTERS; j++) {
            snprintf(m->path[n++], 8, "%c/%c", 'a' + i, 'a' + j);
            for (int k = 0; k < LETTERS; k++)
                snprintf(m->path[n++], 8, "%c/%c/%c", 'a' + i, 'a' + j,
                         'a' + k);
        }
    }
    assert_int_equal(n, PATHS);
}

static void model_drop(struct model *m, const char *path)
{
    for (int i = 0; i < PATHS; i++) {
        if (below_or_at(m->path[i], path))
            m->size[i] = 0;
    }
}

/* False: something would come to lie deeper than the model goes. */
static bool model_move(struct model *m, const char *path, const char *to)
{
    uint64_t moved[PATHS] = {0};

    for (int i = 0; i < PATHS; i++) {
        char name[32];
        int n;

        if (!m->size[i] || !below_or_at(m->path[i], path))
            continue;
        snprintf(name, sizeof name, "%s%s", to, m->path[i] + strlen(path));
        n = model_find(m, name);
        if (n < 0)
            return false;
        moved[n] = m->size[i];
    }
    model_drop(m, to);
    model_drop(m, path);
    for (int i = 0; i < PATHS; i++)
        m->size[i] |= moved[i];
    return true;
}

static void model_compare(struct model *m, struct ledger *l,
                          const struct ledger_account *a)
{
    int64_t bytes = 0, files = 0;

    for (int i = 0; i < PATHS; i++) {
        struct ledger_file f;
        int rc = ledger_file_get(l, a->home, m->path[i], &f, NULL);

        assert_int_equal(rc == 0 ? f.size : 0, m->size[i]);
        bytes += (int64_t)m->size[i];
        files += m->size[i] > 0;
    }
    assert_int_equal(space_of(l, a->home).used_bytes, bytes);
    assert_int_equal(space_of(l, a->home).used_files, files);
}

static void any_order_of_changes_is_that_of_the_model(void **state)
{
    struct house *h = *state;
    struct ledger_account a = account_new(h->ledger, "mara", 0, 0);
    struct model m;

    model_init(&m, 7);
    for (int step = 0; step < 400; step++) {
        const char *path = m.path[dice(&m, PATHS)];
        const char *to = m.path[dice(&m, PATHS)];
        struct ledger_change c = change(&a, path, NULL);
        uint64_t size = 1 + dice(&m, 1000);

        switch (dice(&m, 5)) {
        case 0:
            changed(h->ledger, c, true);
            model_drop(&m, path);
            break;
        case 1:
        case 2:
            if (below_or_at(path, to) || below_or_at(to, path) ||
                !model_move(&m, path, to))
                break;
            c = change(&a, path, to);
            changed(h->ledger, c, true);
            break;
        default:
            put(h->ledger, &a, path, size);
            m.size[model_find(&m, path)] = size;
        }
        model_compare(&m, h->ledger, &a);
    }
    assert_sound(h->ledger);
}

#define T(f) cmocka_unit_test_setup_teardown(f, setup, teardown)

int main(void)
{
    const struct CMUnitTest tests[] = {
        T(a_moved_directory_takes_its_rows_along),
        T(a_moved_file_replaces_what_was_there),
        T(a_removed_directory_gives_its_quota_back),
        T(what_was_not_done_changes_nothing),
        T(an_end_is_said_twice_without_harm),
        T(changes_that_cannot_be_are_refused),
        T(names_of_any_length_are_changed),
        T(nothing_is_published_where_something_changes),
        T(a_change_waits_for_what_is_published_or_changed),
        T(a_large_subtree_takes_no_memory_for_each_row),
        T(the_audit_keeps_its_newest_rows),
        T(changes_are_listed_in_the_order_they_were_begun),
        T(what_was_changed_is_told),
        T(the_check_finds_a_change_without_its_names),
        T(any_order_of_changes_is_that_of_the_model),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
