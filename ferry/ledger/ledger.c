/* SPDX-License-Identifier: MIT */
/* The ledger's thread: requests in, transactions out.
 *
 *   1  The owner takes all requests that wait.
 *   2  Those that only read are run and answered.
 *   3  The rest becomes one transaction, a savepoint a request: a request that
 *      is refused takes its own changes back and no other's.
 *   4  After COMMIT, which syncs the log once, all are answered.
 *
 * What can fail: the disk or SQLite itself, in 3 or 4: the transaction goes
 * back whole, and every request in it gets that problem.  A failed sync leaves
 * nobody knowing what is on the disk (the kernel forgets the pages it could
 * not write): from then on everything is refused until the next start, which
 * reads the log again.  A damaged page ends it likewise, and the file is left
 * as it is. */
#include "ledger/ledger_inside.h"

#include <errno.h>
#include <stdarg.h>
#include <stdio.h>

#include <keel/co.h>
#include <keel/file.h>
#include <keel/thread.h>

#include "base/log.h"
#include "base/name.h"
#include "ledger/vfs.h"

/* The log is written back this long after the last commit. */
#define IDLE_NS KEEL_SECOND

static const char *const sql_text[SQL_COUNT] = {
#define Q(id, text) [SQL_##id] = text,
#include "ledger/ledger_sql.def"
#undef Q
};

/* ---- errors ----------------------------------------------------------------- */
int db_damaged(struct ledger *l, struct problem *why, const char *detail)
{
    l->hard = true;
    l->failed = problem(&l->failure, DATA_DAMAGED, .name = "ledger.db",
                        .detail = detail);
    if (why)
        *why = l->failure;
    return l->failed;
}

/* What SQLite found is for who mends databases: it goes to the log. */
static int db_corrupt(struct ledger *l, struct problem *why, const char *said)
{
    char quoted[512];

    log_error("file=ledger.db damaged: sqlite=%s",
              text_quote_shown(said, quoted, sizeof quoted));
    return db_damaged(l, why, DB_CORRUPT);
}

static bool sync_failed(int code)
{
    return code == SQLITE_IOERR_FSYNC || code == SQLITE_IOERR_DIR_FSYNC;
}

static int full(struct ledger *l, struct problem *why)
{
    struct statfs s = {0};

    if (keel_file_statfs(l->dir, &s) < 0)
        s.f_bavail = 0;
    return problem(why, DISK_FULL,
                   .bytes = (uint64_t)s.f_bavail * (uint64_t)s.f_bsize,
                   .size = 4096 /* a page at least */);
}

int db_failed(struct ledger *l, struct problem *why)
{
    int code = sqlite3_extended_errcode(l->db);
    int rc = ledger_vfs_error(l->db);

    /* What the schema forbids was our caller's mistake, or ours: it ends the
     * request it is in, and no other. */
    if ((code & 0xff) == SQLITE_CONSTRAINT)
        return problem(why, INTERNAL, .detail = sqlite3_errmsg(l->db),
                       .errno_ = -rc);
    l->hard = true;
    if (sync_failed(code)) {
        l->failed = problem(&l->failure, SYNC_FAILED, .name = "the ledger",
                            .errno_ = -rc);
        if (why)
            *why = l->failure;
        return l->failed;
    }
    switch (code & 0xff) {
    case SQLITE_CORRUPT:
    case SQLITE_NOTADB:
        return db_corrupt(l, why, sqlite3_errmsg(l->db));
    case SQLITE_NOMEM:
        return problem(why, NO_MEMORY);
    case SQLITE_FULL:
        return full(l, why);
    }
    if (rc == -ENOMEM)
        return problem(why, NO_MEMORY);
    if (rc == -ENOSPC || rc == -EDQUOT)
        return full(l, why);
    if ((code & 0xff) == SQLITE_IOERR || (code & 0xff) == SQLITE_CANTOPEN)
        return problem(why, DATA_ACCESS, .name = "ledger.db", .errno_ = -rc);
    return problem(why, INTERNAL, .detail = sqlite3_errmsg(l->db),
                   .errno_ = -rc);
}

/* ---- statements --------------------------------------------------------------- */
static int prepare(struct ledger *l, enum sql id, sqlite3_stmt **ret)
{
    int rc = SQLITE_OK;

    if (!l->prepared[id])
        rc = sqlite3_prepare_v3(l->db, sql_text[id], -1,
                                SQLITE_PREPARE_PERSISTENT, &l->prepared[id],
                                NULL);
    *ret = l->prepared[id];
    keel_assert(rc != SQLITE_OK || !sqlite3_stmt_busy(*ret));
    return rc;
}

static int bind(sqlite3_stmt *q, const char *types, va_list values)
{
    int rc = SQLITE_OK;

    keel_assert((int)strlen(types) == sqlite3_bind_parameter_count(q));
    for (int i = 1; *types && rc == SQLITE_OK; types++, i++) {
        const void *bytes;
        int64_t n;

        switch (*types) {
        case 'i':
            rc = sqlite3_bind_int64(q, i, va_arg(values, int64_t));
            break;
        case 'o':
            n = va_arg(values, int64_t);
            rc = n < 0 ? sqlite3_bind_null(q, i) : sqlite3_bind_int64(q, i, n);
            break;
        case 't':
            rc = sqlite3_bind_text(q, i, va_arg(values, const char *), -1,
                                   SQLITE_STATIC);
            break;
        case 'p':
            bytes = va_arg(values, const char *);
            rc = sqlite3_bind_blob(q, i, bytes, bytes ? (int)strlen(bytes) : 0,
                                   SQLITE_STATIC);
            break;
        case 'b':
            bytes = va_arg(values, const void *);
            rc = sqlite3_bind_blob(q, i, bytes, va_arg(values, int),
                                   SQLITE_STATIC);
            break;
        case 'k':
            rc = sqlite3_bind_blob(q, i, va_arg(values, const void *), 32,
                                   SQLITE_STATIC);
            break;
        default:
            keel_assert(*types == 'n');
            rc = sqlite3_bind_null(q, i);
        }
    }
    return rc;
}

void db_release(sqlite3_stmt *q)
{
    if (!q)
        return;
    sqlite3_reset(q);
    sqlite3_clear_bindings(q);
}

int db_next(struct ledger *l, sqlite3_stmt *q, struct problem *why)
{
    int rc = sqlite3_step(q);

    if (rc == SQLITE_ROW)
        return 1;
    return rc == SQLITE_DONE ? 0 : db_failed(l, why);
}

int db_each(struct ledger *l, sqlite3_stmt *q, int rc,
            int (*row)(struct ledger *l, sqlite3_stmt *q, void *arg,
                       struct problem *why),
            void *arg, struct problem *why)
{
    while (rc > 0) {
        rc = row(l, q, arg, why);
        if (rc >= 0)
            rc = db_next(l, q, why);
    }
    return rc;
}

static int rows(struct ledger *l, enum sql id, sqlite3_stmt **ret,
                struct problem *why, const char *types, va_list values)
{
    sqlite3_stmt *q;
    int rc;

    if (prepare(l, id, &q) != SQLITE_OK ||
        bind(q, types, values) != SQLITE_OK) {
        rc = db_failed(l, why);
        db_release(q);
        return rc;
    }
    rc = db_next(l, q, why);
    if (rc < 0)
        db_release(q);
    else
        *ret = q;
    return rc;
}

int db_rows(struct ledger *l, enum sql id, sqlite3_stmt **ret,
            struct problem *why, const char *types, ...)
{
    va_list values;
    int rc;

    va_start(values, types);
    rc = rows(l, id, ret, why, types, values);
    va_end(values);
    return rc;
}

int db_run(struct ledger *l, enum sql id, struct problem *why,
           const char *types, ...)
{
    keel_auto(rows) sqlite3_stmt *q = NULL;
    va_list values;
    int rc;

    va_start(values, types);
    rc = rows(l, id, &q, why, types, values);
    va_end(values);
    return rc < 0 ? rc : sqlite3_changes(l->db);
}

int db_bytes(struct ledger *l, sqlite3_stmt *q, int column, void *ret,
             size_t size, struct problem *why)
{
    const void *bytes = sqlite3_column_blob(q, column);

    if (!bytes || (size_t)sqlite3_column_bytes(q, column) != size)
        return db_damaged(l, why, "a row has bytes of a wrong length");
    memcpy(ret, bytes, size);
    return 0;
}

int db_text(struct ledger *l, sqlite3_stmt *q, int column, char *ret,
            size_t size, struct problem *why)
{
    const void *text = sqlite3_column_text(q, column);
    size_t n = (size_t)sqlite3_column_bytes(q, column);

    if (!text || n >= size)
        return db_damaged(l, why, "a row has a text of a wrong length");
    memcpy(ret, text, n);
    ret[n] = '\0';
    return 0;
}

int db_path(struct ledger *l, sqlite3_stmt *q, int column, char **ret,
            struct problem *why)
{
    const void *bytes = sqlite3_column_blob(q, column);
    size_t n = (size_t)sqlite3_column_bytes(q, column);
    char *path;

    if (!bytes || n > PATH_BYTES || memchr(bytes, '\0', n))
        return db_damaged(l, why, "a row has a path that is none");
    path = keel_alloc(n + 1);
    if (!path)
        return problem(why, NO_MEMORY);
    memcpy(path, bytes, n);
    path[n] = '\0';
    *ret = path;
    return 0;
}

/* ---- transactions --------------------------------------------------------------- */
static void take_back(struct ledger *l)
{
    struct problem ignored;

    /* Some failures have ended the transaction already. */
    if (!sqlite3_get_autocommit(l->db))
        db_run(l, SQL_ROLLBACK, &ignored, "");
    keel_assert(sqlite3_get_autocommit(l->db));
}

/* Runs one request between savepoints; its refusal stays its own. */
static int run_saved(struct ledger *l, struct request *r, struct problem *why)
{
    struct problem said = {0};
    int rc;

    rc = db_run(l, SQL_SAVE, why, "");
    if (rc < 0)
        return rc;
    l->sums.id = 0;
    r->result = r->run(l, r->arg, &said);
    keel_assert(r->result < 0 || !l->sums.id);
    if (l->hard) {
        *why = said;
        return r->result;
    }
    if (r->result < 0) {
        if (r->why)
            *r->why = said;
        rc = db_run(l, SQL_SAVE_UNDO, why, "");
        if (rc < 0)
            return rc;
    }
    return db_run(l, SQL_SAVE_KEEP, why, "");
}

static int write_made(struct ledger *l, struct problem *why)
{
    for (unsigned i = 0; i < l->made_count; i++) {
        int rc = db_run(l, SQL_NODE_MADE, why, "i", l->made[i]);

        if (rc < 0)
            return rc;
    }
    return 0;
}

/* Uses of devices ride along. */
static int write_touches(struct ledger *l, struct problem *why)
{
    for (unsigned i = 0; i < l->touch_count; i++) {
        int rc = db_run(l, SQL_DEVICE_TOUCH, why, "ii", l->touches[i].device,
                        l->touches[i].used);

        if (rc < 0)
            return rc;
    }
    return 0;
}

static int commit(struct ledger *l, struct requests *all, struct problem *why)
{
    struct request *r;
    int rc;

    rc = db_run(l, SQL_BEGIN, why, "");
    STAILQ_FOREACH (r, all, next) {
        if (rc >= 0)
            rc = run_saved(l, r, why);
    }
    if (rc >= 0)
        rc = write_touches(l, why);
    if (rc >= 0)
        rc = write_made(l, why);
    if (rc >= 0)
        rc = db_run(l, SQL_COMMIT, why, "");
    if (rc < 0)
        return rc;
    l->touch_count = l->made_count = 0;
    l->log_stale = false;
    l->commits++;
    return 0;
}

static void answer(struct request *r)
{
    /* The caller goes on as soon as it is dropped: `r` is gone then. */
    keel_lock_drop(&r->answered);
}

static void refuse_all(struct requests *all, int rc, const struct problem *why)
{
    struct request *r;

    while ((r = STAILQ_FIRST(all))) {
        STAILQ_REMOVE_HEAD(all, next);
        r->result = rc;
        if (r->why)
            *r->why = *why;
        answer(r);
    }
}

static void write_all(struct ledger *l, struct requests *all)
{
    struct problem why = {0};
    struct request *r;
    int rc;

    l->hard = false;
    rc = commit(l, all, &why);
    if (rc < 0) {
        take_back(l);
        refuse_all(all, rc, l->failed < 0 ? &l->failure : &why);
        return;
    }
    while ((r = STAILQ_FIRST(all))) {
        STAILQ_REMOVE_HEAD(all, next);
        answer(r);
    }
}

static void read_one(struct ledger *l, struct request *r)
{
    l->hard = false;
    r->result = r->run(l, r->arg, r->why);
    answer(r);
}

static void serve(struct ledger *l, struct requests *all)
{
    struct requests writes = STAILQ_HEAD_INITIALIZER(writes);
    struct request *r;

    /* Readers do not wait for a sync that is not theirs.  None of these calls
     * began after another of them ended, so any order among them is right. */
    while (l->failed == 0 && (r = STAILQ_FIRST(all))) {
        STAILQ_REMOVE_HEAD(all, next);
        if (r->writes)
            STAILQ_INSERT_TAIL(&writes, r, next);
        else
            read_one(l, r);
    }
    STAILQ_CONCAT(&writes, all);
    if (l->failed < 0)
        refuse_all(&writes, l->failed, &l->failure);
    else if (!STAILQ_EMPTY(&writes))
        write_all(l, &writes);
}

/* ---- the log ---------------------------------------------------------------------- */
static int after_commit(void *arg, sqlite3 *db, const char *name, int pages)
{
    struct ledger *l = arg;

    (void)db;
    (void)name;
    l->log_pages = pages;
    return SQLITE_OK;
}

/* Copies the log into the database and begins it anew.  When that fails the
 * log still has everything; but after a failed sync nothing may be believed,
 * and above all not a second sync that succeeds. */
static void write_back(struct ledger *l)
{
    struct problem ignored;

    if (sqlite3_wal_checkpoint_v2(l->db, NULL, SQLITE_CHECKPOINT_PASSIVE, NULL,
                                  NULL) == SQLITE_OK)
        l->log_pages = 0;
    else
        db_failed(l, &ignored);
    l->log_stale = true;
}

/* ---- the owner ---------------------------------------------------------------------- */
struct opening {
    struct ledger *ledger;
    int rc;
    struct problem *why;
    struct keel_lock done;
};

static int open_failed(struct ledger *l, int rc, struct problem *why)
{
    switch (-rc) {
    case EBADMSG:
        return db_damaged(l, why, "it is no database");
    case EBUSY:
        return problem(why, DATA_LOCKED, .name = "ledger.db");
    case ENOMEM:
        return problem(why, NO_MEMORY);
    case ENOSPC:
    case EDQUOT:
        return full(l, why);
    }
    return problem(why, DATA_ACCESS, .name = "ledger.db", .errno_ = -rc);
}

/* What PRAGMA quick_check or integrity_check says, if it is not "ok". */
static int check_pages(struct ledger *l, const char *pragma,
                       struct problem *why)
{
    sqlite3_stmt *q = NULL;
    int rc = 0;

    if (sqlite3_prepare_v2(l->db, pragma, -1, &q, NULL) != SQLITE_OK ||
        sqlite3_step(q) != SQLITE_ROW)
        rc = db_failed(l, why);
    else if (strcmp((const char *)sqlite3_column_text(q, 0), "ok") != 0)
        rc = db_corrupt(l, why, (const char *)sqlite3_column_text(q, 0));
    sqlite3_finalize(q);
    return rc;
}

static int64_t page_count(struct ledger *l)
{
    sqlite3_stmt *q = NULL;
    int64_t n = 0;

    if (sqlite3_prepare_v2(l->db, "PRAGMA page_count", -1, &q, NULL) ==
            SQLITE_OK &&
        sqlite3_step(q) == SQLITE_ROW)
        n = sqlite3_column_int64(q, 0);
    sqlite3_finalize(q);
    return n;
}

static bool is_there(struct ledger *l, const char *name, uint64_t *ret_size)
{
    struct statx st;

    if (keel_file_stat(l->dir, name, &st) < 0)
        return false;
    *ret_size = st.stx_size;
    return true;
}

/* A ledger is made only where none was.  The vault makes spaces/ when the ledger
 * is there, synced with its name: from then on one that is gone or empty was
 * lost, and a new one in its place would hide that.  A log without its database
 * says the same, and SQLite would remove it. */
static int look_before(struct ledger *l, struct problem *why)
{
    uint64_t size = 0, log = 0, any;
    bool there = is_there(l, "ledger.db", &size);

    if (there && size > 0)
        return 0;
    if (is_there(l, "spaces", &any))
        return db_damaged(l, why,
                          there ? "it is empty, and spaces/ is there"
                                : "it is gone, and spaces/ is there");
    if (is_there(l, "ledger.db-wal", &log) && log > 0)
        return db_damaged(l, why,
                          there ? "it is empty, and its log is not"
                                : "it is gone, and its log is there");
    return 0;
}

/* While the ledger is closed its log's room (vfs.h) lies in a file of its own, so
 * that it opens, and does what makes room, on a disk that was filled meanwhile. */
#define RESERVE "ledger.reserve"
#define RESERVE_BYTES ((uint64_t)17 << 18) /* 4 MiB and a little */

static void reserve_keep(struct ledger *l)
{
    keel_auto(file) int fd =
        keel_file_open(l->dir, RESERVE, O_RDWR | O_CREAT, 0600);

    for (uint64_t size = RESERVE_BYTES; fd >= 0 && size > 4096; size /= 2) {
        if (keel_file_reserve(fd, 0, 0, size) == 0)
            return;
    }
}

static void reserve_use(struct ledger *l)
{
    (void)keel_file_unlink(l->dir, RESERVE);
}

static int open_database(struct ledger *l, struct problem *why)
{
    int rc;

    rc = look_before(l, why);
    if (rc < 0)
        return rc;
    reserve_use(l);
    rc = ledger_vfs_open(l->dir, "ledger.db", &l->db);
    if (rc < 0)
        return open_failed(l, rc, why);
    /* Looking must not change a damaged file, so nothing is written back from
     * the log before all is well. */
    sqlite3_db_config(l->db, SQLITE_DBCONFIG_NO_CKPT_ON_CLOSE, 1, NULL);
    sqlite3_db_config(l->db, SQLITE_DBCONFIG_DEFENSIVE, 1, NULL);
    sqlite3_wal_hook(l->db, after_commit, l);
    sqlite3_limit(l->db, SQLITE_LIMIT_LENGTH, 1 << 20);
    if (sqlite3_exec(l->db, "PRAGMA foreign_keys = ON", NULL, NULL, NULL) !=
        SQLITE_OK)
        return db_failed(l, why);

    if (page_count(l) <= LEDGER_QUICK_PAGES) {
        rc = check_pages(l, "PRAGMA quick_check(1)", why);
        if (rc < 0)
            return rc;
    }
    rc = ledger_schema_migrate(l->db, ledger_schema, ledger_schema_count, why);
    if (rc > 0)
        return db_failed(l, why);
    if (rc < 0)
        return rc;
    sqlite3_db_config(l->db, SQLITE_DBCONFIG_NO_CKPT_ON_CLOSE, 0, NULL);
    return 0;
}

static void close_database(struct ledger *l)
{
    if (!l->db)
        return;
    if (l->failed < 0)
        sqlite3_db_config(l->db, SQLITE_DBCONFIG_NO_CKPT_ON_CLOSE, 1, NULL);
    for (unsigned i = 0; i < SQL_COUNT; i++)
        sqlite3_finalize(l->prepared[i]);
    ledger_vfs_close(l->db);
    l->db = NULL;
    reserve_keep(l);
}

/* Takes what waits; sleeps until there is something, until the log has been
 * idle for long enough, or until the ledger closes.  False: it closes, and
 * nothing is left. */
static bool take_waiting(struct ledger *l, struct requests *ret)
{
    keel_guard(&l->lock);
    keel_ns deadline = KEEL_FOREVER;

    if (l->log_pages > 0 && !l->log_stale && l->failed == 0)
        deadline = keel_after(IDLE_NS);
    while (STAILQ_EMPTY(&l->waiting) && !l->closing) {
        if (keel_cond_wait(&l->work, &l->lock, deadline) == -ETIMEDOUT)
            break;
    }
    STAILQ_CONCAT(ret, &l->waiting);
    return !STAILQ_EMPTY(ret) || !l->closing;
}

static int owner_main(void *arg)
{
    struct opening *o = arg;
    struct ledger *l = o->ledger;
    int rc;

    rc = open_database(l, o->why);
    if (rc < 0)
        close_database(l);
    o->rc = rc;
    keel_lock_drop(&o->done); /* and `o` is gone */
    if (rc < 0) {
        keel_lock_drop(&l->ended);
        return rc;
    }

    for (;;) {
        struct requests all = STAILQ_HEAD_INITIALIZER(all);

        if (!take_waiting(l, &all))
            break;
        if (l->failed == 0 && !l->log_stale &&
            (STAILQ_EMPTY(&all) || l->log_pages >= LEDGER_LOG_PAGES))
            write_back(l);
        serve(l, &all);
    }
    if (l->touch_count + l->made_count > 0 && l->failed == 0) {
        struct requests none = STAILQ_HEAD_INITIALIZER(none);

        write_all(l, &none);
    }
    close_database(l);
    keel_lock_drop(&l->ended);
    return 0;
}

/* ---- callers -------------------------------------------------------------------------- */
static int hand_in(struct ledger *l, struct request *r)
{
    keel_lock_init(&r->answered);
    keel_lock_hold(&r->answered);
    {
        keel_guard(&l->lock);

        keel_assert(!l->closing);
        STAILQ_INSERT_TAIL(&l->waiting, r, next);
        keel_cond_signal(&l->work);
    }
    keel_lock_hold(&r->answered);
    keel_lock_drop(&r->answered);
    keel_lock_fini(&r->answered);
    return r->result;
}

int ledger_read(struct ledger *l,
                int (*run)(struct ledger *l, void *arg, struct problem *why),
                void *arg, struct problem *why)
{
    struct request r = {.run = run, .arg = arg, .why = why};

    return hand_in(l, &r);
}

int ledger_write(struct ledger *l,
                 int (*run)(struct ledger *l, void *arg, struct problem *why),
                 void *arg, struct problem *why)
{
    struct request r = {.run = run, .arg = arg, .why = why, .writes = true};

    return hand_in(l, &r);
}

int ledger_pages(struct ledger *l,
                 int (*run)(struct ledger *l, void *page, struct problem *why),
                 int (*tell)(void *page, int row, bool wanted), void *page,
                 struct problem *why)
{
    struct page *p = page;
    int rc;

    do {
        p->count = 0;
        rc = ledger_read(l, run, page, why);
        for (int row = 0; row < p->count; row++) {
            int told = tell(page, row, rc >= 0);

            rc = rc < 0 ? rc : told;
        }
    } while (rc >= 0 && p->count == LEDGER_PAGE);
    return rc < 0 ? rc : 0;
}

int ledger_path_check(const char *path, struct problem *why)
{
    size_t size = strnlen(path, PATH_BYTES + 1);

    if (size == 0)
        return problem(why, NAME_INVALID, .name = "", .detail = "it is empty");
    if (size > PATH_BYTES)
        return problem(why, PATH_TOO_LONG, .size = strlen(path),
                       .limit = PATH_BYTES);
    return 0;
}

/* ---- open and close ---------------------------------------------------------------------- */
static void ledger_release(struct ledger *l)
{
    keel_cond_fini(&l->work);
    keel_lock_fini(&l->lock);
    keel_lock_fini(&l->ended);
    keel_file_close(l->dir);
    keel_free(l);
}

/* A daemon: a program that ends with its ledger open, as one that crashes,
 * loses nothing that was acknowledged. */
static int owner_start(struct opening *o, struct keel_thread **ret)
{
    const struct keel_thread_how how = {.name = "ledger", .daemon = true};
    keel_auto(thread) struct keel_thread *t = NULL;
    int rc;

    rc = keel_thread_new(&how, owner_main, o, &t);
    if (rc == 0)
        rc = keel_thread_begin(t);
    if (rc == 0)
        *ret = keel_take(t);
    return rc;
}

int ledger_open(int data_dir, struct ledger **ret, struct problem *why)
{
    struct opening o = {.why = why};
    struct ledger *l;
    int rc;

    l = keel_calloc(1, sizeof *l);
    if (!l)
        return problem(why, NO_MEMORY);
    keel_lock_init(&l->lock);
    keel_cond_init(&l->work);
    STAILQ_INIT(&l->waiting);
    l->dir = keel_file_open(data_dir, ".", O_RDONLY | O_DIRECTORY, 0);
    if (l->dir < 0) {
        rc = problem(why, DATA_ACCESS, .name = ".", .errno_ = -l->dir);
        ledger_release(l);
        return rc;
    }

    o.ledger = l;
    keel_lock_init(&l->ended);
    keel_lock_hold(&l->ended);
    keel_lock_init(&o.done);
    keel_lock_hold(&o.done);
    rc = owner_start(&o, &l->owner);
    if (rc < 0) {
        rc = problem(why, INTERNAL, .detail = "no thread for the ledger",
                     .errno_ = -rc);
        keel_lock_drop(&o.done);
        keel_lock_drop(&l->ended);
        ledger_release(l);
        return rc;
    }
    keel_lock_hold(&o.done);
    keel_lock_drop(&o.done);
    keel_lock_fini(&o.done);
    if (o.rc < 0) {
        ledger_close(l);
        return o.rc;
    }
    *ret = l;
    return 0;
}

void ledger_close(struct ledger *l)
{
    if (!l)
        return;
    {
        keel_guard(&l->lock);

        l->closing = true;
        keel_cond_signal(&l->work);
    }
    /* What was handed in is finished, whoever is cancelled or out of time
     * meanwhile; the join has then only the thread's last steps to wait for. */
    keel_lock_hold(&l->ended);
    keel_lock_drop(&l->ended);
    keel_shield();
    while (keel_thread_join(l->owner, KEEL_FOREVER, NULL) < 0)
        continue;
    keel_unshield();
    ledger_release(l);
}
