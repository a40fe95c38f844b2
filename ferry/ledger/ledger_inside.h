/* SPDX-License-Identifier: MIT */
/* Inside the ledger: its thread, the requests handed to it, and the little
 * language in which they speak to SQLite. */
#ifndef FERRY_LEDGER_INSIDE_H
#define FERRY_LEDGER_INSIDE_H

#include <sqlite3.h>
#include <string.h>
#include <sys/queue.h>

#include <keel/lock.h>

#include "ledger/ledger.h"

enum sql {
#define Q(id, text) SQL_##id,
#include "ledger/ledger_sql.def"
#undef Q
    SQL_COUNT
};

/* "FRRY" in the file's header. */
#define LEDGER_APPLICATION_ID 0x46525259
/* A log of this many pages of 4 KiB is written back: 16 MiB. */
#define LEDGER_LOG_PAGES 4096
/* A file of more pages is not read through at open, but by ledger_check. */
#define LEDGER_QUICK_PAGES 16384
/* Uses of devices that wait to ride along with a transaction. */
#define LEDGER_TOUCHES 64
/* Makings that are done, likewise. */
#define LEDGER_MADE 256
/* Devices of one account. */
#define LEDGER_DEVICES 64
/* Rows a listing takes from the owner at a time. */
#define LEDGER_PAGE 64
/* Rows of files that a change moves or removes in one transaction: what a
 * transaction holds in memory is bounded, and others have their turn between
 * two of them. */
#define LEDGER_CHANGE_ROWS 2048
/* The newest rows of the audit that are kept; now and then a few old ones are
 * cut off, many enough that a longer table shrinks. */
#define LEDGER_AUDIT_ROWS 100000
#define LEDGER_AUDIT_EVERY 256
#define LEDGER_AUDIT_CUT 1024

/* One call in another thread's frame, waiting for its answer.
 *
 * `run` is called by the owner, inside a savepoint when it writes; negative
 * takes back what it did.  It may fill `why`, and write what `arg` points to,
 * which the caller looks at only when the call succeeded: a transaction that
 * cannot be committed fails after `run` returned. */
struct request {
    STAILQ_ENTRY(request) next;
    int (*run)(struct ledger *l, void *arg, struct problem *why);
    void *arg;
    bool writes;
    int result;
    struct problem *why;
    /* Held from the start, dropped by the owner when all above is final.
     * Taking a lock that another drops is the one wait that neither a cancel
     * nor a timeout ends: the owner writes into the caller's frame. */
    struct keel_lock answered;
};
STAILQ_HEAD(requests, request);

struct touch {
    int64_t device, used;
};

/* `lock` guards `waiting` and `closing`.  All below is the owner's alone.
 *
 *   hard: the statement that failed last was not refused by us but by SQLite
 *   or the disk, and the whole transaction goes back
 *   failed < 0: nothing is done any more; every call gets this and `failure` */
struct ledger {
    struct keel_lock lock;
    struct keel_cond work;
    struct requests waiting;
    bool closing;
    struct keel_thread *owner;
    struct keel_lock ended; /* held until the owner has nothing left to do */

    int dir; /* borrowed until the open returns, then our own */
    sqlite3 *db;
    sqlite3_stmt *prepared[SQL_COUNT];
    bool hard;
    int failed;
    struct problem failure;
    struct ledger_space sums; /* id 0: none; see space_change */
    int log_pages;            /* in the log since it was last written back */
    bool log_stale;           /* a write-back was tried since the last commit */
    struct touch touches[LEDGER_TOUCHES];
    unsigned touch_count;
    int64_t made[LEDGER_MADE];
    unsigned made_count;
    int64_t making;   /* the last number given; 0: none yet */
    unsigned commits; /* for tests */
};

/* ---- for callers: hands it to the owner and waits ------------------------- */
int ledger_read(struct ledger *l,
                int (*run)(struct ledger *l, void *arg, struct problem *why),
                void *arg, struct problem *why);
int ledger_write(struct ledger *l,
                 int (*run)(struct ledger *l, void *arg, struct problem *why),
                 void *arg, struct problem *why);
/* Lists: a page of rows is taken from the owner at a time (`run`, which gets the
 * page), and each row of it told here, where what is told may call the ledger
 * again.  `tell` gets every row, that it may free it; with `wanted` false that
 * is all.  It says where the next page begins by what it leaves in the page,
 * whose first member this is. */
struct page {
    int count; /* of rows in it: at most LEDGER_PAGE */
};
int ledger_pages(struct ledger *l,
                 int (*run)(struct ledger *l, void *page, struct problem *why),
                 int (*tell)(void *page, int row, bool wanted), void *page,
                 struct problem *why);
/* Asks for a path: 1 to PATH_BYTES bytes.  NAME_INVALID, PATH_TOO_LONG */
int ledger_path_check(const char *path, struct problem *why);

/* ---- for the owner ---------------------------------------------------------- */
/* A row, or several, of a statement; released (reset) at the scope's end.
 *
 *     keel_auto(rows) sqlite3_stmt *q = NULL;
 *
 *     rc = db_rows(l, SQL_SPACE_GET, &q, why, "i", space);
 *     if (rc <= 0)
 *         return rc < 0 ? rc : problem(why, ...);
 *
 * Types: i int64_t, o the same but SQL's NULL when negative, t text, p a path
 * (text, kept as bytes; NULL is SQL's), b bytes and int size, k 32 bytes, n
 * SQL's NULL.  What
 * is bound is borrowed until the release.
 * Returns 1 when `*ret` stands on the first row, 0 when there is none. */
int db_rows(struct ledger *l, enum sql id, sqlite3_stmt **ret,
            struct problem *why, const char *types, ...);
/* The next row: 1, 0 at the end. */
int db_next(struct ledger *l, sqlite3_stmt *q, struct problem *why);
/* Calls `row` for every row of `q`, where `rc` is what db_rows returned.  0, or
 * the first error. */
int db_each(struct ledger *l, sqlite3_stmt *q, int rc,
            int (*row)(struct ledger *l, sqlite3_stmt *q, void *arg,
                       struct problem *why),
            void *arg, struct problem *why);
void db_release(sqlite3_stmt *q);
KEEL_AUTO(rows, sqlite3_stmt *, db_release)
/* A statement without rows.  Returns how many rows it changed. */
int db_run(struct ledger *l, enum sql id, struct problem *why,
           const char *types, ...);
/* The last call to SQLite failed: says why, and marks the transaction. */
int db_failed(struct ledger *l, struct problem *why);
/* Copies a column of bytes that must have `size` of them; a row that does not
 * is DATA_DAMAGED. */
int db_bytes(struct ledger *l, sqlite3_stmt *q, int column, void *ret,
             size_t size, struct problem *why);
/* A text of at most `size` - 1 bytes, or DATA_DAMAGED. */
int db_text(struct ledger *l, sqlite3_stmt *q, int column, char *ret,
            size_t size, struct problem *why);
/* A path into fresh memory, ended by NUL. */
int db_path(struct ledger *l, sqlite3_stmt *q, int column, char **ret,
            struct problem *why);
/* The words for what SQLite finds wrong in its own way. */
#define DB_CORRUPT "parts of the file are not what was written"
int db_damaged(struct ledger *l, struct problem *why, const char *detail);

/* ---- ledger_schema.c ---------------------------------------------------------- */
/* Step i makes version i + 1 out of version i. */
extern const char *const ledger_schema[];
extern const unsigned ledger_schema_count;
/* Brings the file to version `count`, in one transaction.  DATA_FORMAT for
 * one that is newer, or another program's.  1: SQLite failed, and the
 * connection knows how; the file is as it was. */
int ledger_schema_migrate(sqlite3 *db, const char *const *steps, unsigned count,
                          struct problem *why);

/* ---- ledger_space.c: quota, used by publishing ----------------------------------- */
int space_get(struct ledger *l, int64_t space, struct ledger_space *ret,
              struct problem *why);
/* A file's row; charged -1: found on the disk, and in nobody's quota.
 * Returns 1, or 0 when there is none. */
struct file_row {
    struct ledger_file file;
    int64_t charged;
};
int file_get(struct ledger *l, int64_t space, const char *path,
             struct file_row *ret, struct problem *why);
int file_put(struct ledger *l, int64_t space, const char *path,
             const struct file_row *row, struct problem *why);
void file_of_row(struct file_row *ret, sqlite3_stmt *q, int column);

/* What a change does to a space.  Growth beyond its quota is refused; what is
 * over already may shrink. */
struct space_change {
    int64_t used_bytes, used_files, reserved_bytes; /* added */
    uint64_t asked; /* for the words of a refusal */
};
/* Noted in `sums`, and written by space_flush at the end of the request. */
int space_change(struct ledger *l, int64_t space, const struct space_change *c,
                 bool refuse, struct problem *why);
int space_flush(struct ledger *l, struct problem *why);
/* Never refused, and written at once. */
int space_change_now(struct ledger *l, int64_t space,
                     const struct space_change *c, struct problem *why);
/* FILE_BUSY while an intent for this name lives, or a change at, above or below
 * it. */
int name_free(struct ledger *l, int64_t space, const char *path,
              struct problem *why);
int draft_get(struct ledger *l, const uint8_t id[16], int64_t *ret_space,
              int64_t *ret_reserved, struct problem *why);
/* A new opaque name for a space's directory. */
void space_dir_new(char ret[33]);
int space_row(struct ledger *l, sqlite3_stmt *q, struct ledger_space *ret,
              struct problem *why);
/* All of `q` into an array that is large enough; how many.  `rc`: db_each's. */
int space_rows(struct ledger *l, sqlite3_stmt *q, int rc,
               struct ledger_space *ret, struct problem *why);

/* ---- ledger_account.c ------------------------------------------------------------- */
/* By number.  ACCOUNT_UNKNOWN */
int account_by_id(struct ledger *l, int64_t account, struct ledger_account *ret,
                  struct problem *why);

/* ---- ledger_publish.c --------------------------------------------------------------- */
/* `to` NULL: of a move only. */
int audit_add(struct ledger *l, int64_t at, int64_t account, int64_t space,
              const char *path, const char *to, const char *kind, int64_t size,
              struct problem *why);

/* ---- ledger_change.c ---------------------------------------------------------------- */
/* FILE_BUSY while a change lives at, above or below this name. */
int change_none(struct ledger *l, int64_t space, const char *path,
                struct problem *why);
/* FILE_BUSY while any change lives in the space. */
int change_none_in(struct ledger *l, int64_t space, const char *name,
                   struct problem *why);

#endif
