/* SPDX-License-Identifier: MIT */
/* SQLite on keel's files: a VFS named "ferry".
 *
 * A database lies beneath a directory descriptor, and everything SQLite does
 * to it goes through <keel/file.h>, keel_random and keel_wall_ns, so that a
 * test can put its own disk, faults and date behind it.  SQLite's memory comes
 * from keel_alloc.  All calls block: run them on a plain thread, one thread at
 * a time for one database.
 *
 * A database has one connection, ever: shared memory is absent, and opening
 * takes a flock of the main file, so that a second connection, of this process
 * or another, is refused.  Checkpoints therefore run on the same connection.
 *
 * Database and log keep some room beyond what is written in them (1 MiB and 4
 * MiB, where the file system can: not on one that copies on write), so that a
 * full disk still takes small transactions.
 *
 * Durability: when a COMMIT has returned SQLITE_OK, the transaction is on
 * stable storage.  The names of database and log are, too: the first sync of
 * each file after it was opened syncs the directory as well, since a process
 * that was killed may have left a name that only the page cache knew. */
#ifndef FERRY_LEDGER_VFS_H
#define FERRY_LEDGER_VFS_H

#include <sqlite3.h>

#include <keel/base.h>

/* Opens `file` (one component) beneath `dir`, creating it if absent (0600).
 * `dir` is borrowed until ledger_vfs_close.  The first call in a process
 * registers the VFS and gives SQLite keel's allocator: nothing may use SQLite
 * before it.
 *
 * The connection comes with locking_mode=EXCLUSIVE, journal_mode=WAL,
 * synchronous=FULL, temp_store=MEMORY, extended result codes and trusted_schema
 * off; automatic checkpoints are SQLite's (1,000 pages) unless changed.
 *
 * -EINVAL   `file` is no single component
 * -EBUSY    somebody has it open
 * -EBADMSG  it is no database, or damaged
 * or what the disk said (-EIO, -ENOSPC, -ENOENT, ...), -ENOMEM */
int ledger_vfs_open(int dir, const char *file, sqlite3 **ret);

/* Closes; the log is checkpointed and removed if that is possible, and left to
 * the next open if not.  All statements must be finalized (asserted).  Accepts
 * NULL. */
void ledger_vfs_close(sqlite3 *db);
KEEL_AUTO(ledger_vfs, sqlite3 *, ledger_vfs_close)

/* The negative errno for the last failed call on `db`: the disk's own where
 * it was the disk, else by meaning (SQLITE_NOMEM -ENOMEM, SQLITE_FULL -ENOSPC,
 * SQLITE_BUSY -EBUSY, SQLITE_CONSTRAINT -EEXIST, SQLITE_CORRUPT and
 * SQLITE_NOTADB -EBADMSG, otherwise -EIO). */
int ledger_vfs_error(sqlite3 *db);

#endif
