/* SPDX-License-Identifier: MIT */
/* SQLite's files on keel's.
 *
 * SQLite knows a file by a path, keel by a directory descriptor and a name, so
 * the path is "DESCRIPTOR/NAME"; SQLite appends "-wal" and "-journal" to it and
 * looks no further.
 *
 * What is absent, and why that is right: shared memory (the database is opened
 * in exclusive mode, the log's index lives in memory), locks beyond the flock
 * that xOpen takes, temporary files (temp_store=MEMORY), mmap. */
#include "ledger/vfs.h"

#include <errno.h>
#include <limits.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <keel/file.h>

/* The errno behind the last SQLITE_IOERR or SQLITE_CANTOPEN: SQLite asks for
 * it at once and on the same thread. */
static _Thread_local int last_errno;

/* `rc` is keel's; the result is `code`, unless the error has one of its own. */
static int failed(int rc, int code)
{
    last_errno = -rc;
    switch (rc) {
    case -ENOMEM:
        return SQLITE_IOERR_NOMEM;
    case -ENOSPC:
    case -EDQUOT:
        return SQLITE_FULL;
    default:
        return code;
    }
}

/* ---- paths --------------------------------------------------------------- */

enum { PATH_SIZE = 280 }; /* a descriptor, a slash, a name, a suffix */

struct path {
    int dir;
    const char *name;
};

static bool is_component(const char *name)
{
    return *name && !strchr(name, '/') && strcmp(name, ".") &&
           strcmp(name, "..");
}

static bool path_parse(const char *text, struct path *ret)
{
    long dir;
    char *end;

    if (!text || *text < '0' || *text > '9')
        return false;
    errno = 0;
    dir = strtol(text, &end, 10);
    if (errno || dir > INT_MAX || *end != '/' || !is_component(end + 1))
        return false;
    *ret = (struct path){(int)dir, end + 1};
    return true;
}

/* ---- an open file -------------------------------------------------------- */

struct file {
    sqlite3_file base; /* first: SQLite's pointer is ours */
    int fd, dir;
    bool named; /* the directory was synced since the file was opened */
    /* Bytes from the start that have their room on the disk, written or not, as
     * far as we know; and how much more is kept beyond what is written.  0: of
     * a file that has no such room. */
    uint64_t roomy, spare;
};

static struct file *file_of(sqlite3_file *base)
{
    return (struct file *)base;
}

/* Room beyond what is written, so that a disk that others have filled still
 * takes what is needed to remove something, and to log in.  The log begins anew
 * within its room after each checkpoint.  A disk that is full already, or that
 * has no such thing as reserving, is no error. */
#define LOG_SPARE ((uint64_t)4 << 20)
#define MAIN_SPARE ((uint64_t)1 << 20)

static void file_room(struct file *f, uint64_t end)
{
    if (end + f->spare / 2 > f->roomy &&
        keel_file_reserve(f->fd, FALLOC_FL_KEEP_SIZE, end, f->spare) == 0)
        f->roomy = end + f->spare;
}

static int file_close(sqlite3_file *base)
{
    keel_file_close(file_of(base)->fd);
    return SQLITE_OK;
}

static int file_read(sqlite3_file *base, void *buf, int size, sqlite3_int64 at)
{
    ssize_t n =
        keel_file_read(file_of(base)->fd, buf, (size_t)size, (uint64_t)at);

    if (n < 0)
        return failed((int)n, SQLITE_IOERR_READ);
    if (n == size)
        return SQLITE_OK;
    /* SQLite relies on zeros past the end. */
    memset((char *)buf + n, 0, (size_t)(size - n));
    return SQLITE_IOERR_SHORT_READ;
}

static int file_write(sqlite3_file *base, const void *buf, int size,
                      sqlite3_int64 at)
{
    int rc =
        keel_file_write(file_of(base)->fd, buf, (size_t)size, (uint64_t)at);

    if (rc < 0)
        return failed(rc, SQLITE_IOERR_WRITE);
    if (file_of(base)->spare)
        file_room(file_of(base), (uint64_t)at + (uint64_t)size);
    return SQLITE_OK;
}

static int file_truncate(sqlite3_file *base, sqlite3_int64 size)
{
    int rc = keel_file_truncate(file_of(base)->fd, (uint64_t)size);

    if (rc < 0)
        return failed(rc, SQLITE_IOERR_TRUNCATE);
    if (file_of(base)->spare) {
        file_of(base)->roomy = 0; /* what lay beyond went, too */
        file_room(file_of(base), (uint64_t)size);
    }
    return SQLITE_OK;
}

/* fdatasync whatever `flags` ask: it covers data and size, and SQLite uses no
 * other property of a file.  SQLite's own VFS syncs the directory only after
 * it created the file itself; then a file that a killed process had created
 * would never get a durable name. */
static int file_sync(sqlite3_file *base, int flags)
{
    struct file *f = file_of(base);
    int rc = keel_file_sync_data(f->fd);

    (void)flags;
    if (rc < 0)
        return failed(rc, SQLITE_IOERR_FSYNC);
    if (f->named)
        return SQLITE_OK;
    rc = keel_file_sync(f->dir);
    if (rc < 0)
        return failed(rc, SQLITE_IOERR_DIR_FSYNC);
    f->named = true;
    return SQLITE_OK;
}

static int file_size(sqlite3_file *base, sqlite3_int64 *ret)
{
    struct statx facts;
    int rc = keel_file_stat(file_of(base)->fd, NULL, &facts);

    if (rc < 0)
        return failed(rc, SQLITE_IOERR_FSTAT);
    *ret = (sqlite3_int64)facts.stx_size;
    return SQLITE_OK;
}

static int file_lock(sqlite3_file *base, int level)
{
    (void)base;
    (void)level;
    return SQLITE_OK;
}

static int file_reserved(sqlite3_file *base, int *ret)
{
    (void)base;
    *ret = 0; /* nobody else has it open */
    return SQLITE_OK;
}

static int file_control(sqlite3_file *base, int op, void *arg)
{
    (void)base;
    (void)op;
    (void)arg;
    return SQLITE_NOTFOUND;
}

static int file_sector(sqlite3_file *base)
{
    (void)base;
    return 4096;
}

/* As SQLite's own VFS assumes of every disk: a write that is cut off damages
 * no byte outside it. */
static int file_traits(sqlite3_file *base)
{
    (void)base;
    return SQLITE_IOCAP_POWERSAFE_OVERWRITE;
}

static const sqlite3_io_methods methods = {
    .iVersion = 1, /* no shared memory */
    .xClose = file_close,
    .xRead = file_read,
    .xWrite = file_write,
    .xTruncate = file_truncate,
    .xSync = file_sync,
    .xFileSize = file_size,
    .xLock = file_lock,
    .xUnlock = file_lock,
    .xCheckReservedLock = file_reserved,
    .xFileControl = file_control,
    .xSectorSize = file_sector,
    .xDeviceCharacteristics = file_traits,
};

/* ---- the file system ----------------------------------------------------- */

static int open_flags(int flags)
{
    int ret = flags & SQLITE_OPEN_READONLY ? O_RDONLY : O_RDWR;

    if (flags & SQLITE_OPEN_CREATE)
        ret |= O_CREAT;
    if (flags & SQLITE_OPEN_EXCLUSIVE)
        ret |= O_EXCL;
    return ret;
}

static int vfs_open(sqlite3_vfs *vfs, const char *text, sqlite3_file *base,
                    int flags, int *ret_flags)
{
    struct file *f = file_of(base);
    keel_auto(file) int fd = -1;
    struct statx facts;
    struct path path;
    int rc;

    (void)vfs;
    base->pMethods = NULL;
    if (!path_parse(text, &path) || (flags & SQLITE_OPEN_DELETEONCLOSE))
        return failed(-EINVAL, SQLITE_CANTOPEN);
    fd = keel_file_open(path.dir, path.name, open_flags(flags), 0600);
    if (fd < 0)
        return failed(fd, SQLITE_CANTOPEN);
    if (flags & SQLITE_OPEN_MAIN_DB) {
        rc = keel_file_lock(fd);
        if (rc == -EWOULDBLOCK)
            return SQLITE_BUSY;
        if (rc < 0)
            return failed(rc, SQLITE_IOERR_LOCK);
    }
    *f = (struct file){.base.pMethods = &methods, .fd = fd, .dir = path.dir};
    fd = -1;
    if (flags & (SQLITE_OPEN_MAIN_DB | SQLITE_OPEN_WAL)) {
        f->spare = flags & SQLITE_OPEN_WAL ? LOG_SPARE : MAIN_SPARE;
        if (keel_file_stat(f->fd, NULL, &facts) == 0)
            file_room(f, facts.stx_size);
    }
    if (ret_flags)
        *ret_flags = flags;
    return SQLITE_OK;
}

static int vfs_delete(sqlite3_vfs *vfs, const char *text, int sync_dir)
{
    struct path path;
    int rc;

    (void)vfs;
    if (!path_parse(text, &path))
        return failed(-EINVAL, SQLITE_IOERR_DELETE);
    rc = keel_file_unlink(path.dir, path.name);
    if (rc == -ENOENT)
        return failed(rc, SQLITE_IOERR_DELETE_NOENT);
    if (rc < 0)
        return failed(rc, SQLITE_IOERR_DELETE);
    rc = sync_dir ? keel_file_sync(path.dir) : 0;
    return rc < 0 ? failed(rc, SQLITE_IOERR_DIR_FSYNC) : SQLITE_OK;
}

/* An empty log or journal is none, as for SQLite's own VFS. */
static int vfs_access(sqlite3_vfs *vfs, const char *text, int flags, int *ret)
{
    struct statx facts;
    struct path path;
    int rc;

    (void)vfs;
    if (!path_parse(text, &path))
        return failed(-EINVAL, SQLITE_IOERR_ACCESS);
    rc = keel_file_stat(path.dir, path.name, &facts);
    if (rc < 0 && rc != -ENOENT)
        return failed(rc, SQLITE_IOERR_ACCESS);
    *ret = rc == 0 && (flags != SQLITE_ACCESS_EXISTS || facts.stx_size > 0 ||
                       !S_ISREG(facts.stx_mode));
    return SQLITE_OK;
}

static int vfs_full_path(sqlite3_vfs *vfs, const char *text, int size,
                         char *ret)
{
    (void)vfs;
    if (snprintf(ret, (size_t)size, "%s", text) >= size)
        return failed(-ENAMETOOLONG, SQLITE_CANTOPEN);
    return SQLITE_OK;
}

static int vfs_randomness(sqlite3_vfs *vfs, int size, char *ret)
{
    (void)vfs;
    keel_random(ret, (size_t)size);
    return size;
}

/* Called between tries of a lock that somebody else holds: there is nobody. */
static int vfs_sleep(sqlite3_vfs *vfs, int us)
{
    (void)vfs;
    return us;
}

/* 1970-01-01 in milliseconds since noon of the 24th of November 4714 BC. */
#define JULIAN_1970_MS 210866760000000

static int vfs_date_ms(sqlite3_vfs *vfs, sqlite3_int64 *ret)
{
    (void)vfs;
    *ret = JULIAN_1970_MS + keel_wall_ns() / KEEL_MS;
    return SQLITE_OK;
}

static int vfs_date(sqlite3_vfs *vfs, double *ret)
{
    sqlite3_int64 ms;

    (void)vfs_date_ms(vfs, &ms);
    *ret = (double)ms / 86400000.0;
    return SQLITE_OK;
}

static int vfs_last_error(sqlite3_vfs *vfs, int size, char *ret)
{
    (void)vfs;
    (void)size;
    (void)ret;
    return last_errno;
}

static sqlite3_vfs vfs_ferry = {
    .iVersion = 2,
    .szOsFile = sizeof(struct file),
    .mxPathname = PATH_SIZE,
    .zName = "ferry",
    .xOpen = vfs_open,
    .xDelete = vfs_delete,
    .xAccess = vfs_access,
    .xFullPathname = vfs_full_path,
    .xRandomness = vfs_randomness,
    .xSleep = vfs_sleep,
    .xCurrentTime = vfs_date,
    .xCurrentTimeInt64 = vfs_date_ms,
    .xGetLastError = vfs_last_error,
};

/* ---- memory -------------------------------------------------------------- */

/* SQLite asks for the size of a block, which keel does not know; 16 bytes, so
 * that what follows keeps the alignment. */
enum { HEAD = 16 };

static int memory_size(void *p)
{
    int size;

    memcpy(&size, (char *)p - HEAD, sizeof size);
    return size;
}

static void *memory_give(char *block, int size)
{
    if (!block)
        return NULL;
    memcpy(block, &size, sizeof size);
    return block + HEAD;
}

static void *memory_alloc(int size)
{
    return memory_give(keel_alloc((size_t)size + HEAD), size);
}

static void memory_free(void *p)
{
    if (p)
        keel_free((char *)p - HEAD);
}

static void *memory_realloc(void *p, int size)
{
    return memory_give(keel_realloc((char *)p - HEAD, (size_t)size + HEAD),
                       size);
}

static int memory_round(int size)
{
    return (size + 7) & ~7;
}

static int memory_init(void *arg)
{
    (void)arg;
    return SQLITE_OK;
}

static void memory_fini(void *arg)
{
    (void)arg;
}

/* Before main, since SQLite takes it only until its first use, and alone.  It
 * allocates nothing and cannot fail. */
__attribute__((constructor)) static void memory_configure(void)
{
    static const sqlite3_mem_methods memory = {
        .xMalloc = memory_alloc,
        .xFree = memory_free,
        .xRealloc = memory_realloc,
        .xSize = memory_size,
        .xRoundup = memory_round,
        .xInit = memory_init,
        .xShutdown = memory_fini,
    };

    (void)sqlite3_config(SQLITE_CONFIG_MALLOC, &memory);
    /* Counting each allocation under one lock is for nobody to read. */
    (void)sqlite3_config(SQLITE_CONFIG_MEMSTATUS, 0);
}

/* ---- opening ------------------------------------------------------------- */

int ledger_vfs_error(sqlite3 *db)
{
    int code = sqlite3_extended_errcode(db), os;

    if (code == SQLITE_IOERR_NOMEM)
        return -ENOMEM;
    switch (code & 0xff) {
    case SQLITE_NOMEM:
        return -ENOMEM;
    case SQLITE_FULL:
        return -ENOSPC;
    case SQLITE_BUSY:
    case SQLITE_LOCKED:
        return -EBUSY;
    case SQLITE_CONSTRAINT:
        return -EEXIST;
    case SQLITE_CORRUPT:
    case SQLITE_NOTADB:
        return -EBADMSG;
    case SQLITE_IOERR:
    case SQLITE_CANTOPEN:
        os = sqlite3_system_errno(db);
        return os > 0 ? -os : -EIO;
    default:
        return -EIO;
    }
}

static int run(sqlite3 *db, const char *sql)
{
    return sqlite3_exec(db, sql, NULL, NULL, NULL) == SQLITE_OK
               ? 0
               : ledger_vfs_error(db);
}

static int see_wal(void *arg, int columns, char **values, char **names)
{
    (void)names;
    *(bool *)arg = columns == 1 && values[0] && !strcmp(values[0], "wal");
    return 0;
}

/* SQLite answers with the mode that it has now, and calls that a success. */
static int use_wal(sqlite3 *db)
{
    bool is_wal = false;

    if (sqlite3_exec(db, "PRAGMA journal_mode=WAL", see_wal, &is_wal, NULL) !=
        SQLITE_OK)
        return ledger_vfs_error(db);
    return is_wal ? 0 : -EIO;
}

/* Makes what the log showed when it was opened safe before anybody relies on
 * it.  The process before may have died in a commit, or given up after a sync
 * that failed: then the page cache has frames that no later sync would write.
 * Copied to the database they are written anew.  On a full disk they may stay
 * in the log. */
static int settle_log(sqlite3 *db)
{
    int rc = run(db, "PRAGMA wal_checkpoint(TRUNCATE)");

    return rc == -ENOSPC ? 0 : rc;
}

static int configure(sqlite3 *db)
{
    int rc;

    /* Exclusive before the first access: after it, WAL would want shared
     * memory. */
    rc = run(db, "PRAGMA locking_mode=EXCLUSIVE; PRAGMA temp_store=MEMORY;"
                 "PRAGMA trusted_schema=OFF");
    if (rc == 0)
        rc = use_wal(db);
    if (rc == 0)
        rc = run(db, "PRAGMA synchronous=FULL");
    return rc < 0 ? rc : settle_log(db);
}

int ledger_vfs_open(int dir, const char *file, sqlite3 **ret)
{
    keel_auto(ledger_vfs) sqlite3 *db = NULL;
    char path[PATH_SIZE];
    int rc;

    /* Room for the longest suffix; a name that has one already is not ours
     * to tell from a log. */
    if (dir < 0 || !is_component(file) || strlen(file) > 240)
        return -EINVAL;
    snprintf(path, sizeof path, "%d/%s", dir, file);
    /* Registering it again is no change. */
    if (sqlite3_vfs_register(&vfs_ferry, 0) != SQLITE_OK)
        return -ENOMEM;
    rc = sqlite3_open_v2(path, &db,
                         SQLITE_OPEN_READWRITE | SQLITE_OPEN_CREATE |
                             SQLITE_OPEN_NOMUTEX | SQLITE_OPEN_EXRESCODE,
                         vfs_ferry.zName);
    if (rc != SQLITE_OK)
        return db ? ledger_vfs_error(db) : -ENOMEM;
    rc = configure(db);
    if (rc < 0)
        return rc;
    *ret = keel_take(db);
    return 0;
}

void ledger_vfs_close(sqlite3 *db)
{
    keel_assert(sqlite3_close(db) == SQLITE_OK);
}
