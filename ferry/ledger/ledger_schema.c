/* SPDX-License-Identifier: MIT */
#include "ledger/ledger_inside.h"

#include <stdio.h>

/* Each step is applied once and never changed after a release: what is new
 * becomes a new step.
 *
 *   account, invite, device   people; ids are never used twice
 *   space    used_bytes is the sum of `charged` over its files, used_files their
 *            number and that of its nodes, reserved_bytes the sum of `reserved`
 *            over its drafts; the home's name is ''
 *   file     charged: its bytes in the quota, NULL for a file that was found
 *            on the disk and only hashed; ctime_ns 0: the digest counts for
 *            nothing yet
 *   draft    reserved: by how much it is larger than what it replaces
 *   intent   a name that is being published, and the row it replaces (old_*;
 *            old_size NULL: none)
 *   outbox   held while there is an intent of the same id, so that settling
 *            need not touch it; ids are never used twice
 *   grant    account 0: everybody
 *   change   a move (kind 0) or removal (1) that has begun; state as drawn in
 *            ledger_change.c
 *   node     a directory or link that was made through us, which counts as a
 *            file does; `making`: its begin's number, looked at again after a
 *            crash; NULL: it is durable
 *   node.account    who made the link, of others 0: none is on record
 *   space.counted   0: from before there were nodes; what lies in it has none
 *   change_path   the names of live changes, by which they are found: no two of
 *            them lie at, above or below each other */
static const char version_1[] =
    "CREATE TABLE secret("
    " name TEXT PRIMARY KEY,"
    " value BLOB NOT NULL CHECK(length(value) = 32)) STRICT, WITHOUT ROWID;"

    "CREATE TABLE account("
    " id INTEGER PRIMARY KEY AUTOINCREMENT,"
    " name TEXT NOT NULL UNIQUE,"
    " admin INTEGER NOT NULL CHECK(admin IN (0, 1)),"
    " disabled INTEGER NOT NULL CHECK(disabled IN (0, 1)),"
    " created INTEGER NOT NULL,"
    " iterations INTEGER NOT NULL,"
    " salt BLOB NOT NULL CHECK(length(salt) BETWEEN 1 AND 32),"
    " stored_key BLOB NOT NULL CHECK(length(stored_key) = 32),"
    " server_key BLOB NOT NULL CHECK(length(server_key) = 32)) STRICT;"

    "CREATE TABLE invite("
    " hash BLOB PRIMARY KEY CHECK(length(hash) = 32),"
    " admin INTEGER NOT NULL CHECK(admin IN (0, 1)),"
    " uses INTEGER NOT NULL CHECK(uses >= 0),"
    " expires INTEGER NOT NULL,"
    " created INTEGER NOT NULL,"
    " created_by INTEGER NOT NULL) STRICT, WITHOUT ROWID;"

    "CREATE TABLE device("
    " id INTEGER PRIMARY KEY AUTOINCREMENT,"
    " account INTEGER NOT NULL REFERENCES account(id) ON DELETE CASCADE,"
    " name TEXT NOT NULL,"
    " public_key BLOB NOT NULL CHECK(length(public_key) = 32),"
    " created INTEGER NOT NULL,"
    " used INTEGER NOT NULL) STRICT;"
    "CREATE INDEX device_account ON device(account);"

    "CREATE TABLE space("
    " id INTEGER PRIMARY KEY AUTOINCREMENT,"
    " dir TEXT NOT NULL UNIQUE,"
    " name TEXT NOT NULL,"
    " owner INTEGER NOT NULL REFERENCES account(id),"
    " quota_bytes INTEGER NOT NULL CHECK(quota_bytes >= 0),"
    " quota_files INTEGER NOT NULL CHECK(quota_files >= 0),"
    " used_bytes INTEGER NOT NULL DEFAULT 0 CHECK(used_bytes >= 0),"
    " used_files INTEGER NOT NULL DEFAULT 0 CHECK(used_files >= 0),"
    " reserved_bytes INTEGER NOT NULL DEFAULT 0 CHECK(reserved_bytes >= 0))"
    " STRICT;"
    "CREATE UNIQUE INDEX space_home ON space(owner) WHERE name = '';"
    "CREATE UNIQUE INDEX space_name ON space(name) WHERE name <> '';"

    "CREATE TABLE draft("
    " id BLOB PRIMARY KEY CHECK(length(id) = 16),"
    " space INTEGER NOT NULL REFERENCES space(id),"
    " account INTEGER NOT NULL REFERENCES account(id),"
    " path BLOB NOT NULL,"
    " size INTEGER NOT NULL CHECK(size >= 0),"
    " hash INTEGER NOT NULL,"
    " source BLOB NOT NULL CHECK(length(source) = 16),"
    " created INTEGER NOT NULL,"
    " expires INTEGER NOT NULL) STRICT, WITHOUT ROWID;"
    "CREATE INDEX draft_path ON draft(space, path, account);"
    "CREATE INDEX draft_expires ON draft(expires, id);"
    "CREATE INDEX draft_account ON draft(account);"

    "CREATE TABLE file("
    " space INTEGER NOT NULL REFERENCES space(id),"
    " path BLOB NOT NULL,"
    " size INTEGER NOT NULL CHECK(size >= 0),"
    " device INTEGER NOT NULL,"
    " inode INTEGER NOT NULL,"
    " mtime_ns INTEGER NOT NULL,"
    " ctime_ns INTEGER NOT NULL,"
    " hash INTEGER NOT NULL,"
    " root BLOB NOT NULL CHECK(length(root) = 32),"
    " account INTEGER NOT NULL,"
    " charged INTEGER CHECK(charged >= 0),"
    " PRIMARY KEY(space, path)) STRICT, WITHOUT ROWID;"

    "CREATE TABLE intent("
    " id INTEGER PRIMARY KEY,"
    " space INTEGER NOT NULL,"
    " path BLOB NOT NULL,"
    " draft BLOB NOT NULL CHECK(length(draft) = 16),"
    " named INTEGER NOT NULL CHECK(named IN (0, 1)),"
    " device INTEGER NOT NULL,"
    " inode INTEGER NOT NULL,"
    " size INTEGER NOT NULL,"
    " mtime_ns INTEGER NOT NULL,"
    " old_size INTEGER, old_device INTEGER, old_inode INTEGER,"
    " old_mtime_ns INTEGER, old_ctime_ns INTEGER, old_hash INTEGER,"
    " old_root BLOB, old_account INTEGER, old_charged INTEGER,"
    " UNIQUE(space, path)) STRICT;"

    "CREATE TABLE audit("
    " id INTEGER PRIMARY KEY,"
    " at INTEGER NOT NULL,"
    " account INTEGER NOT NULL,"
    " space INTEGER NOT NULL,"
    " path BLOB NOT NULL,"
    " kind TEXT NOT NULL,"
    " size INTEGER NOT NULL) STRICT;"

    "CREATE TABLE outbox("
    " id INTEGER PRIMARY KEY AUTOINCREMENT,"
    " at INTEGER NOT NULL,"
    " account INTEGER NOT NULL,"
    " space INTEGER NOT NULL,"
    " kind TEXT NOT NULL,"
    " path BLOB NOT NULL) STRICT;";

static const char version_2[] =
    "CREATE TABLE grant("
    " space INTEGER NOT NULL REFERENCES space(id),"
    " path BLOB NOT NULL,"
    " account INTEGER NOT NULL,"
    " rights INTEGER NOT NULL CHECK(rights > 0),"
    " PRIMARY KEY(space, path, account)) STRICT, WITHOUT ROWID;"
    "CREATE INDEX grant_account ON grant(account);"
    "CREATE INDEX space_owner ON space(owner);"

    "CREATE TABLE change("
    " id INTEGER PRIMARY KEY AUTOINCREMENT,"
    " kind INTEGER NOT NULL CHECK(kind IN (0, 1)),"
    " space INTEGER NOT NULL REFERENCES space(id),"
    " account INTEGER NOT NULL,"
    " path BLOB NOT NULL,"
    " target BLOB CHECK((target IS NULL) = (kind = 1)),"
    " device INTEGER NOT NULL,"
    " inode INTEGER NOT NULL,"
    " at INTEGER NOT NULL,"
    " state INTEGER NOT NULL CHECK(state IN (0, 1, 2))) STRICT;"
    "CREATE TABLE change_path("
    " space INTEGER NOT NULL,"
    " path BLOB NOT NULL,"
    " change INTEGER NOT NULL,"
    " PRIMARY KEY(space, path)) STRICT, WITHOUT ROWID;"

    "ALTER TABLE draft ADD COLUMN reserved INTEGER NOT NULL DEFAULT 0"
    " CHECK(reserved BETWEEN 0 AND size);"
    "UPDATE draft SET reserved = size;"
    "ALTER TABLE audit ADD COLUMN target BLOB;"
    "ALTER TABLE outbox ADD COLUMN target BLOB;";

static const char version_3[] =
    "CREATE TABLE node("
    " space INTEGER NOT NULL REFERENCES space(id),"
    " path BLOB NOT NULL,"
    " making INTEGER,"
    " account INTEGER NOT NULL DEFAULT 0,"
    " PRIMARY KEY(space, path)) STRICT, WITHOUT ROWID;"
    "CREATE INDEX node_making ON node(making) WHERE making IS NOT NULL;"
    "ALTER TABLE space ADD COLUMN counted INTEGER NOT NULL DEFAULT 1"
    " CHECK(counted IN (0, 1));"
    "UPDATE space SET counted = 0;";

const char *const ledger_schema[] = {version_1, version_2, version_3};
const unsigned ledger_schema_count =
    sizeof ledger_schema / sizeof *ledger_schema;

/* The number that a pragma or a count answers. */
static int number(sqlite3 *db, const char *sql, int64_t *ret)
{
    sqlite3_stmt *q = NULL;
    int rc;

    rc = sqlite3_prepare_v2(db, sql, -1, &q, NULL);
    if (rc == SQLITE_OK)
        rc = sqlite3_step(q);
    if (rc == SQLITE_ROW)
        *ret = sqlite3_column_int64(q, 0);
    sqlite3_finalize(q);
    return rc == SQLITE_ROW ? SQLITE_OK : rc;
}

static int apply(sqlite3 *db, const char *const *steps, unsigned from,
                 unsigned count)
{
    char text[96];
    int rc;

    rc = sqlite3_exec(db, "BEGIN IMMEDIATE", NULL, NULL, NULL);
    for (unsigned i = from; rc == SQLITE_OK && i < count; i++)
        rc = sqlite3_exec(db, steps[i], NULL, NULL, NULL);
    if (rc == SQLITE_OK) {
        snprintf(text, sizeof text,
                 "PRAGMA application_id = %d; PRAGMA user_version = %u",
                 LEDGER_APPLICATION_ID, count);
        rc = sqlite3_exec(db, text, NULL, NULL, NULL);
    }
    if (rc == SQLITE_OK)
        rc = sqlite3_exec(db, "COMMIT", NULL, NULL, NULL);
    if (rc != SQLITE_OK && !sqlite3_get_autocommit(db))
        sqlite3_exec(db, "ROLLBACK", NULL, NULL, NULL);
    return rc;
}

int ledger_schema_migrate(sqlite3 *db, const char *const *steps, unsigned count,
                          struct problem *why)
{
    int64_t version = 0, application = 0, tables = 0;
    char detail[96];
    int rc;

    rc = number(db, "PRAGMA user_version", &version);
    if (rc == SQLITE_OK)
        rc = number(db, "PRAGMA application_id", &application);
    if (rc == SQLITE_OK)
        rc = number(db, "SELECT count(*) FROM sqlite_schema", &tables);
    if (rc != SQLITE_OK)
        return 1;

    if (tables == 0 && version == 0 && application == 0)
        return apply(db, steps, 0, count) == SQLITE_OK ? 0 : 1;
    if (application != LEDGER_APPLICATION_ID || version < 1)
        return problem(why, DATA_FORMAT, .name = "ledger.db",
                       .detail = "the database is another program's");
    if (version > count) {
        snprintf(detail, sizeof detail,
                 "its version is %lld, and this program knows up to %u",
                 (long long)version, count);
        return problem(why, DATA_FORMAT, .name = "ledger.db", .detail = detail);
    }
    if (version == count)
        return 0;
    return apply(db, steps, (unsigned)version, count) == SQLITE_OK ? 0 : 1;
}
