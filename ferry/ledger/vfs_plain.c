/* SPDX-License-Identifier: MIT */
/* SQLite on its own file access: what stands in for vfs.c before it lands. */
#include "ledger/vfs.h"

#include <errno.h>
#include <stdio.h>

int ledger_vfs_open(int dir, const char *file, sqlite3 **ret)
{
    char path[300];
    sqlite3 *db = NULL;
    int rc;

    snprintf(path, sizeof path, "/proc/self/fd/%d/%s", dir, file);
    rc = sqlite3_open_v2(path, &db,
                         SQLITE_OPEN_READWRITE | SQLITE_OPEN_CREATE |
                             SQLITE_OPEN_NOMUTEX | SQLITE_OPEN_EXRESCODE,
                         NULL);
    if (rc == SQLITE_OK)
        rc = sqlite3_exec(db,
                          "PRAGMA locking_mode=EXCLUSIVE;"
                          "PRAGMA journal_mode=WAL; PRAGMA synchronous=FULL;"
                          "PRAGMA temp_store=MEMORY;"
                          "PRAGMA trusted_schema=OFF;",
                          NULL, NULL, NULL);
    if (rc != SQLITE_OK) {
        rc = db ? ledger_vfs_error(db) : -ENOMEM;
        sqlite3_close(db);
        return rc;
    }
    *ret = db;
    return 0;
}

void ledger_vfs_close(sqlite3 *db)
{
    keel_assert(sqlite3_close(db) == SQLITE_OK);
}

int ledger_vfs_error(sqlite3 *db)
{
    switch (sqlite3_errcode(db) & 0xff) {
    case SQLITE_NOMEM:
        return -ENOMEM;
    case SQLITE_FULL:
        return -ENOSPC;
    case SQLITE_BUSY:
        return -EBUSY;
    case SQLITE_CONSTRAINT:
        return -EEXIST;
    case SQLITE_CORRUPT:
    case SQLITE_NOTADB:
        return -EBADMSG;
    }
    return -EIO;
}
