/* SPDX-License-Identifier: MIT */
/* What a commit promises, tried on a disk that keeps no promise of its own.
 *
 * The work is TRANSACTIONS transactions, some large enough to spill, with
 * checkpoints every few pages and a close and reopen in the middle; each puts
 * ROWS rows whose bytes follow from its number. */
#include <errno.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <cmocka.h>
#include <unistd.h>

#include <keel/file.h>
#include <keel/seam.h>

#include "ledger/vfs.h"
#include "sim/disk.h"
#include "test/fault.h"

enum {
    TRANSACTIONS = 10,
    ROWS = 4,
    DISK_BYTES = 8 << 20,
    ACKED = 1, /* of work.state */
    REFUSED = 2,
};

static int root;

/* Ten times the seeds, and every operation fails once. */
static bool is_long;

/* What was promised. */
struct work {
    int state[TRANSACTIONS];
};

static int root_open(void)
{
    int fd;

    /* an order for faults must not hit the test's own preparation */
    int (*hook)(enum keel_op, size_t *) = keel_seam.fault;

    keel_seam.fault = NULL;
    fd = keel_file_open_any("/disk", O_RDONLY | O_DIRECTORY, 0);
    keel_seam.fault = hook;
    assert_true(fd >= 0);
    return fd;
}

static void fresh(void)
{
    test_disk_install(DISK_BYTES);
    root = root_open();
}

static int end(void **state)
{
    (void)state;
    fault_clear();
    keel_seam.fault = NULL;
    test_disk_lie(NULL, NULL);
    test_disk_remove();
    return 0;
}

static int run(sqlite3 *db, const char *sql)
{
    return sqlite3_exec(db, sql, NULL, NULL, NULL) == SQLITE_OK
               ? 0
               : ledger_vfs_error(db);
}

static int row_size(int transaction, int row)
{
    return 100 + (transaction * 977 + row * 2711) % 9000;
}

/* ---- the work ------------------------------------------------------------ */

static int put_rows(sqlite3 *db, int transaction)
{
    char sql[200];
    int rc = 0;

    for (int row = 0; row < ROWS && rc == 0; row++) {
        snprintf(sql, sizeof sql,
                 "INSERT INTO t(tx, row, bytes) VALUES (%d, %d, "
                 "replace(hex(zeroblob(%d)), '00', '%c'))",
                 transaction, row, row_size(transaction, row),
                 'a' + transaction);
        rc = run(db, sql);
    }
    return rc;
}

static int transact(sqlite3 *db, int transaction)
{
    int rc = run(db, "BEGIN");

    if (rc == 0)
        rc = put_rows(db, transaction);
    if (rc == 0)
        rc = run(db, "COMMIT");
    if (rc < 0 && !sqlite3_get_autocommit(db))
        (void)run(db, "ROLLBACK");
    return rc;
}

static int begin_work(sqlite3 **ret)
{
    keel_auto(ledger_vfs) sqlite3 *db = NULL;
    int rc = ledger_vfs_open(root, "ledger.db", &db);

    if (rc == 0)
        rc = run(db, "PRAGMA wal_autocheckpoint=12; PRAGMA cache_size=10;"
                     "CREATE TABLE IF NOT EXISTS t(tx, row, bytes, "
                     "PRIMARY KEY(tx, row)) WITHOUT ROWID");
    if (rc < 0)
        return rc;
    *ret = keel_take(db);
    return 0;
}

/* Goes on after a transaction that failed, as a daemon would. */
static void do_work(struct work *w)
{
    keel_auto(ledger_vfs) sqlite3 *db = NULL;

    memset(w, 0, sizeof *w);
    for (int k = 0; k < TRANSACTIONS; k++) {
        if (k == TRANSACTIONS / 2) {
            ledger_vfs_close(db);
            db = NULL;
        }
        if (!db && begin_work(&db) < 0)
            continue;
        w->state[k] = transact(db, k) == 0 ? ACKED : REFUSED;
    }
}

/* ---- the proof ----------------------------------------------------------- */

struct sight {
    int rows[TRANSACTIONS];
    bool damaged;
};

static int see_row(void *arg, int columns, char **values, char **names)
{
    struct sight *s = arg;
    int tx = atoi(values[0]), row = atoi(values[1]);
    size_t size = strlen(values[2]);
    char want[2] = {(char)('a' + tx), 0};

    (void)columns;
    (void)names;
    if (tx < 0 || tx >= TRANSACTIONS || size != (size_t)row_size(tx, row) ||
        strspn(values[2], want) != size)
        s->damaged = true;
    else
        s->rows[tx]++;
    return 0;
}

static int see_ok(void *arg, int columns, char **values, char **names)
{
    struct sight *s = arg;

    (void)columns;
    (void)names;
    if (strcmp(values[0], "ok"))
        s->damaged = true;
    return 0;
}

static bool has_table(sqlite3 *db)
{
    sqlite3_stmt *st = NULL;
    bool has;

    if (sqlite3_prepare_v2(db, "SELECT 1 FROM sqlite_schema", -1, &st, NULL))
        return true; /* let the query find what is wrong */
    has = sqlite3_step(st) != SQLITE_DONE;
    sqlite3_finalize(st);
    return has;
}

/* What is wrong with the database after `w`, or NULL. */
static const char *verdict(const struct work *w)
{
    keel_auto(ledger_vfs) sqlite3 *db = NULL;
    struct sight s = {0};

    if (ledger_vfs_open(root, "ledger.db", &db) < 0)
        return "does not open";
    if (sqlite3_exec(db, "PRAGMA integrity_check", see_ok, &s, NULL) ||
        s.damaged)
        return "fails the integrity check";
    if (has_table(db) &&
        sqlite3_exec(db, "SELECT tx, row, bytes FROM t", see_row, &s, NULL))
        return "cannot be read";
    if (s.damaged)
        return "has rows that nobody wrote";
    for (int k = 0; k < TRANSACTIONS; k++) {
        if (w->state[k] == ACKED && s.rows[k] != ROWS)
            return "lost an acknowledged transaction";
        if (s.rows[k] != 0 && s.rows[k] != ROWS)
            return "has half a transaction";
        if (!w->state[k] && s.rows[k])
            return "has a transaction that was never begun";
    }
    return NULL;
}

/* Crashes the work at its operation `nth` and looks at it with some seeds; false: the work
 * ended before. */
static bool crash_at(unsigned nth, uint64_t seeds, unsigned *ret_bad,
                     const char **ret_why)
{
    struct test_disk_image *image;
    struct work w;
    bool crashed;

    fresh();
    test_disk_crash_at(nth);
    do_work(&w);
    crashed = test_disk_crashed();
    image = test_disk_save();
    for (uint64_t seed = 0; seed < seeds + 2; seed++) {
        const char *why;

        test_disk_load(image);
        test_disk_reboot(seed < seeds    ? nth * 1000 + seed
                         : seed == seeds ? TEST_DISK_KEEP_NONE
                                         : TEST_DISK_KEEP_ALL);
        root = root_open();
        why = verdict(&w);
        if (!why)
            continue;
        ++*ret_bad;
        *ret_why = why;
    }
    test_disk_image_free(image);
    return crashed;
}

static void acknowledged_transactions_survive_a_crash_anywhere(void **state)
{
    unsigned bad = 0, nth = 1;
    const char *why = "";

    (void)state;
    while (crash_at(nth, is_long ? 40 : 4, &bad, &why)) {
        if (bad)
            fail_msg("crash at operation %u: %s", nth, why);
        nth++;
    }
    assert_true(nth > 100); /* there was something to crash */
}

/* How many of the crashes are found when syncs of this kind do nothing. */
static unsigned crashes_found(const char *sync, const char *path_part)
{
    unsigned bad = 0;
    const char *why = "";

    for (unsigned nth = 1;; nth += 3) {
        bool crashed;

        /* a new disk forgets the lie: told again inside the run */
        fresh();
        test_disk_lie(sync, path_part);
        {
            struct test_disk_image *image;
            struct work w;

            test_disk_crash_at(nth);
            do_work(&w);
            crashed = test_disk_crashed();
            image = test_disk_save();
            test_disk_lie(NULL, NULL);
            for (uint64_t seed = 0; seed < 4; seed++) {
                test_disk_load(image);
                test_disk_reboot(nth * 1000 + seed);
                root = root_open();
                why = verdict(&w);
                bad += why != NULL;
            }
            test_disk_image_free(image);
        }
        if (!crashed)
            return bad;
    }
}

static void the_mutation_is_found_when_a_sync_is_left_out(void **state)
{
    (void)state;
    assert_int_equal(crashes_found(NULL, NULL), 0);
    assert_true(crashes_found("fdatasync", NULL) > 0);
    assert_true(crashes_found("fdatasync", "-wal") > 0);
    assert_true(crashes_found("fsync", "") > 0); /* the directory's */
}

static void a_crash_in_recovery_is_recovered(void **state)
{
    unsigned tried = 0;

    (void)state;
    for (unsigned nth = 20; nth < 200; nth += 9) {
        struct test_disk_image *image;
        struct work w;

        fresh();
        test_disk_crash_at(nth);
        do_work(&w);
        test_disk_reboot(nth);
        image = test_disk_save();
        for (unsigned again = 1;; again++) {
            const char *why;
            bool crashed;

            test_disk_load(image);
            root = root_open();
            test_disk_crash_at(again);
            (void)verdict(&w);
            crashed = test_disk_crashed();
            test_disk_reboot(nth + again);
            root = root_open();
            why = verdict(&w);
            if (why)
                fail_msg("crash at %u, in recovery at %u: %s", nth, again, why);
            tried++;
            if (!crashed)
                break;
        }
        test_disk_image_free(image);
    }
    assert_true(tried > 40);
}

static void a_killed_process_leaves_names_that_the_next_one_syncs(void **state)
{
    struct work w = {{0}};

    (void)state;
    /* each operation of a first process that is killed, then a second one
     * that commits, then a power cut */
    for (unsigned nth = 1; nth < 60; nth++) {
        keel_auto(ledger_vfs) sqlite3 *db = NULL;
        struct work first;
        const char *why;

        fresh();
        test_disk_crash_at(nth);
        do_work(&first);
        test_disk_reboot(TEST_DISK_KEEP_ALL);
        root = root_open();
        assert_int_equal(begin_work(&db), 0);
        assert_int_equal(run(db, "DELETE FROM t"), 0);
        assert_int_equal(transact(db, 7), 0);
        memset(&w, 0, sizeof w);
        w.state[7] = ACKED;
        test_disk_crash_at(1);
        ledger_vfs_close(keel_take(db));
        test_disk_reboot(nth % 2 ? TEST_DISK_KEEP_NONE : nth);
        root = root_open();
        why = verdict(&w);
        if (why)
            fail_msg("killed at %u: %s", nth, why);
    }
}

static void a_sync_that_fails_is_not_taken_for_one_by_the_next(void **state)
{
    (void)state;
    for (int reopens = 0; reopens < 2; reopens++) {
        for (unsigned nth = 1; nth < 60; nth++) {
            keel_auto(ledger_vfs) sqlite3 *db = NULL;
            struct work w = {{0}};
            const char *why;

            fresh();
            test_disk_fail_sync(nth);
            for (int k = 0; k < TRANSACTIONS; k++) {
                if (!db && begin_work(&db) < 0)
                    continue;
                w.state[k] = transact(db, k) == 0 ? ACKED : REFUSED;
                if (w.state[k] == REFUSED && reopens) {
                    /* the process gives up, and another begins */
                    struct sqlite3 *old = keel_take(db);

                    test_disk_crash_at(1);
                    ledger_vfs_close(old);
                    test_disk_reboot(TEST_DISK_KEEP_ALL);
                    root = root_open();
                }
            }
            test_disk_crash_at(1);
            ledger_vfs_close(keel_take(db));
            test_disk_reboot(TEST_DISK_KEEP_NONE);
            root = root_open();
            why = verdict(&w);
            if (why)
                fail_msg("sync %u failed, %s: %s", nth,
                         reopens ? "reopened" : "went on", why);
        }
    }
}

/* ---- faults -------------------------------------------------------------- */

/* Each `step`th operation of the kind fails; the database must be whole and
 * hold what was acknowledged.  Returns how many faults were tried. */
static unsigned sweep(enum keel_op op, int error, unsigned step)
{
    for (unsigned nth = 1, tried = 0;; nth += step, tried++) {
        struct work w;
        const char *why;
        bool fired;

        fresh();
        fault_fail(op, nth, error);
        do_work(&w);
        fired = fault_fired();
        fault_clear();
        why = verdict(&w);
        if (why)
            fail_msg("%s %u failed with %d: %s", keel_op_name(op), nth, error,
                     why);
        if (!fired) {
            for (int k = 0; k < TRANSACTIONS; k++)
                assert_int_equal(w.state[k], ACKED);
            return tried;
        }
    }
}

static void no_single_fault_damages_the_database(void **state)
{
    static const struct {
        enum keel_op op;
        int error;
        unsigned step;
    } orders[] = {
        {KEEL_OP_OPEN, EIO, 1},          {KEEL_OP_READ, EIO, 7},
        {KEEL_OP_READ, FAULT_SHORT, 11}, {KEEL_OP_WRITE, EIO, 2},
        {KEEL_OP_WRITE, ENOSPC, 3},      {KEEL_OP_WRITE, FAULT_SHORT, 7},
        {KEEL_OP_WRITE, EINTR, 29},      {KEEL_OP_SYNC, EIO, 1},
        {KEEL_OP_SYNC, ENOSPC, 1},       {KEEL_OP_RESERVE, EIO, 1},
        {KEEL_OP_STAT, EIO, 1},          {KEEL_OP_UNLINK, EIO, 1},
        {KEEL_OP_LOCK, EIO, 1},          {KEEL_OP_ALLOC, ENOMEM, 97},
        {KEEL_OP_OPEN, ENOMEM, 1},
    };

    (void)state;
    for (size_t k = 0; k < sizeof orders / sizeof *orders; k++)
        assert_true(sweep(orders[k].op, orders[k].error,
                          is_long ? 1 : orders[k].step) > 0);
}

static void a_full_disk_refuses_and_recovers(void **state)
{
    keel_auto(ledger_vfs) sqlite3 *db = NULL;
    keel_auto(file) int ballast = -1;
    struct work w = {{0}};
    struct statfs facts;
    int refused = 0;

    (void)state;
    test_disk_install(960 << 10); /* too small for room of its own */
    root = root_open();
    assert_int_equal(begin_work(&db), 0);
    assert_int_equal(transact(db, 0), 0);
    w.state[0] = ACKED;
    ballast = keel_file_open(root, "ballast", O_RDWR | O_CREAT, 0600);
    assert_int_equal(keel_file_statfs(root, &facts), 0);
    assert_int_equal(
        keel_file_reserve(ballast, 0, 0, (facts.f_bfree - 4) * 4096), 0);
    for (int k = 1; k < 5; k++) {
        int rc = transact(db, k);

        assert_true(rc == 0 || rc == -ENOSPC);
        w.state[k] = rc == 0 ? ACKED : REFUSED;
        refused += rc < 0;
    }
    assert_true(refused > 0);
    /* it opens on a full disk, too */
    ledger_vfs_close(keel_take(db));
    assert_null(verdict(&w));
    assert_int_equal(keel_file_truncate(ballast, 0), 0);
    assert_int_equal(begin_work(&db), 0);
    assert_int_equal(transact(db, 9), 0);
    w.state[9] = ACKED;
    ledger_vfs_close(keel_take(db));
    assert_null(verdict(&w));
}

static void a_disk_that_others_filled_takes_more(void **state)
{
    keel_auto(ledger_vfs) sqlite3 *db = NULL;
    keel_auto(file) int ballast = -1;
    struct work w = {{0}};
    struct statfs facts;

    (void)state;
    test_disk_install(16 << 20);
    root = root_open();
    assert_int_equal(begin_work(&db), 0);
    assert_int_equal(transact(db, 0), 0);
    w.state[0] = ACKED;
    ballast = keel_file_open(root, "ballast", O_RDWR | O_CREAT, 0600);
    assert_int_equal(keel_file_statfs(root, &facts), 0);
    assert_int_equal(keel_file_reserve(ballast, 0, 0, facts.f_bfree * 4096), 0);
    for (int k = 1; k < 9; k++) {
        assert_int_equal(transact(db, k), 0);
        w.state[k] = ACKED;
        /* its room stays when it begins anew */
        if (k == 4)
            assert_int_equal(run(db, "PRAGMA wal_checkpoint(TRUNCATE)"), 0);
    }
    ledger_vfs_close(keel_take(db));
    assert_null(verdict(&w));
}

/* ---- the rest ------------------------------------------------------------ */

static void open_says_why_it_refuses(void **state)
{
    keel_auto(ledger_vfs) sqlite3 *db = NULL, *other = NULL;
    char junk[8192];
    int fd;

    (void)state;
    fresh();
    assert_int_equal(ledger_vfs_open(root, "", &db), -EINVAL);
    assert_int_equal(ledger_vfs_open(root, "a/b", &db), -EINVAL);
    assert_int_equal(ledger_vfs_open(root, "..", &db), -EINVAL);
    assert_int_equal(ledger_vfs_open(-1, "a", &db), -EINVAL);
    assert_int_equal(ledger_vfs_open(12345, "a", &db), -EBADF);
    assert_int_equal(ledger_vfs_open(root, "ledger.db", &db), 0);
    assert_int_equal(ledger_vfs_open(root, "ledger.db", &other), -EBUSY);
    assert_null(other);
    assert_int_equal(run(db, "CREATE TABLE u(a UNIQUE)"), 0);
    assert_int_equal(run(db, "INSERT INTO u VALUES(1)"), 0);
    assert_int_equal(run(db, "INSERT INTO u VALUES(1)"), -EEXIST);
    ledger_vfs_close(keel_take(db));
    memset(junk, 'j', sizeof junk);
    fd = keel_file_open(root, "junk", O_RDWR | O_CREAT, 0600);
    assert_int_equal(keel_file_write(fd, junk, sizeof junk, 0), 0);
    keel_file_close(fd);
    assert_int_equal(ledger_vfs_open(root, "junk", &db), -EBADMSG);
    assert_int_equal(keel_file_mkdir(root, "dir", 0700), 0);
    assert_int_equal(ledger_vfs_open(root, "dir", &db), -EISDIR);
    ledger_vfs_close(NULL);
}

/* SQLite asks for it with synchronous=EXTRA, which is not ours; a VFS that was
 * asked has to do it. */
static void a_deletion_lasts_when_that_is_asked_for(void **state)
{
    (void)state;
    for (int asked = 0; asked < 2; asked++) {
        keel_auto(ledger_vfs) sqlite3 *db = NULL;
        sqlite3_vfs *vfs;
        struct statx st;
        char path[40];
        int fd;

        fresh();
        assert_int_equal(ledger_vfs_open(root, "ledger.db", &db), 0);
        assert_int_equal(
            sqlite3_file_control(db, NULL, SQLITE_FCNTL_VFS_POINTER, &vfs),
            SQLITE_OK);
        fd = keel_file_open(root, "journal", O_CREAT | O_RDWR, 0600);
        assert_true(fd >= 0);
        keel_file_close(fd);
        assert_int_equal(keel_file_sync_all(root), 0);
        snprintf(path, sizeof path, "%d/journal", root);
        assert_int_equal(vfs->xDelete(vfs, path, asked), SQLITE_OK);
        ledger_vfs_close(keel_take(db));
        test_disk_reboot(TEST_DISK_KEEP_NONE);
        root = root_open();
        assert_int_equal(keel_file_stat(root, "journal", &st),
                         asked ? -ENOENT : 0);
    }
}

static int see_text(void *arg, int columns, char **values, char **names)
{
    (void)columns;
    (void)names;
    snprintf(arg, 64, "%s", values[0]);
    return 0;
}

static int64_t test_date(void)
{
    return 1767225600 * KEEL_SECOND; /* 2026-01-01 */
}

static void the_connection_comes_as_promised(void **state)
{
    static const char *const facts[][2] = {
        {"PRAGMA journal_mode", "wal"},
        {"PRAGMA locking_mode", "exclusive"},
        {"PRAGMA synchronous", "2"},
        {"PRAGMA temp_store", "2"},
        {"PRAGMA trusted_schema", "0"},
        {"SELECT datetime('now')", "2026-01-01 00:00:00"},
    };
    int64_t (*before)(void) = keel_seam.wall_ns;
    keel_auto(ledger_vfs) sqlite3 *db = NULL;

    (void)state;
    fresh();
    keel_seam.wall_ns = test_date;
    assert_int_equal(ledger_vfs_open(root, "ledger.db", &db), 0);
    for (size_t k = 0; k < sizeof facts / sizeof *facts; k++) {
        char text[64] = "";

        assert_int_equal(sqlite3_exec(db, facts[k][0], see_text, text, NULL),
                         0);
        assert_string_equal(text, facts[k][1]);
    }
    keel_seam.wall_ns = before;
    assert_int_equal(fault_seen(KEEL_OP_ALLOC), 0);
    fault_clear();
    assert_int_equal(run(db, "CREATE TABLE x(a)"), 0);
    assert_true(fault_seen(KEEL_OP_ALLOC) > 0); /* memory is keel's */
}

static void it_works_on_the_kernels_files(void **state)
{
    char dir[] = "/tmp/vfs-test-XXXXXX";
    keel_auto(ledger_vfs) sqlite3 *other = NULL;
    struct work w;

    (void)state;
    test_disk_remove();
    assert_non_null(mkdtemp(dir));
    root = open(dir, O_RDONLY | O_DIRECTORY);
    assert_true(root >= 0);
    do_work(&w);
    for (int k = 0; k < TRANSACTIONS; k++)
        assert_int_equal(w.state[k], ACKED);
    assert_null(verdict(&w));
    {
        keel_auto(ledger_vfs) sqlite3 *db = NULL;

        assert_int_equal(ledger_vfs_open(root, "ledger.db", &db), 0);
        assert_int_equal(ledger_vfs_open(root, "ledger.db", &other), -EBUSY);
    }
    assert_int_equal(unlinkat(root, "ledger.db", 0), 0);
    close(root);
    assert_int_equal(rmdir(dir), 0); /* no log, no journal is left */
}

int main(void)
{
#define T(name) cmocka_unit_test_teardown(name, end)
    const struct CMUnitTest tests[] = {
        T(acknowledged_transactions_survive_a_crash_anywhere),
        T(the_mutation_is_found_when_a_sync_is_left_out),
        T(a_crash_in_recovery_is_recovered),
        T(a_killed_process_leaves_names_that_the_next_one_syncs),
        T(a_sync_that_fails_is_not_taken_for_one_by_the_next),
        T(no_single_fault_damages_the_database),
        T(a_full_disk_refuses_and_recovers),
        T(a_disk_that_others_filled_takes_more),
        T(open_says_why_it_refuses),
        T(a_deletion_lasts_when_that_is_asked_for),
        T(the_connection_comes_as_promised),
        T(it_works_on_the_kernels_files),
    };

    is_long = getenv("KEEL_TEST_LONG") != NULL;
    return cmocka_run_group_tests(tests, NULL, NULL);
}
