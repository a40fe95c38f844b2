/* SPDX-License-Identifier: MIT */
/* Files for coroutines and threads.
 *
 * Every call is a struct job and a function that does it by the seam's disk.
 * perform() decides where it runs:
 *   in a plain thread, or on a test disk     here
 *   in a coroutine                           on the blocking pool
 * and a read, write or sync of a coroutine whose poller knows files goes to
 * that instead.  EINTR and short transfers are handled in this file only;
 * the fault hook is asked once per attempt, by keel_disk_real or by ring(). */
#include <keel/file.h>

#include <dirent.h>
#include <errno.h>
#include <limits.h>
#include <linux/io_uring.h>
#include <string.h>
#include <sys/file.h>

#include <keel/co.h>
#include <keel/seam.h>

#include "seam/disk.h"
#include "loop/sched.h"

enum {
    /* A rename elsewhere in the tree makes a beneath-lookup fail with EAGAIN;
   * 64 in a row is an attack, not an accident. */
    OPEN_TRIES = 64,
    LIST_BYTES = 32 * 1024,
};

/* The arguments of one call; each `run` uses the fields that it needs. */
struct job {
    ssize_t (*run)(struct job *j);
    int fd, to_dir;
    const char *path, *to;
    void *buf;
    size_t size;
    uint64_t at, length;
    unsigned flags;
    mode_t mode;
    const struct open_how *how;
    ssize_t result;
};

static int run_on_pool(void *arg)
{
    struct job *j = arg;

    do
        j->result = j->run(j);
    while (j->result == -EINTR);
    return 0;
}

static ssize_t perform(struct job *j)
{
    int rc;

    if ((keel_seam.disk != &keel_disk_real && !keel_seam.disk_waits) ||
        !keel_current()) {
        (void)run_on_pool(j);
        return j->result;
    }
    rc = keel_blocking(run_on_pool, j);
    return rc < 0 ? rc : j->result;
}

/* ---- by the poller
 * ----------------------------------------------------------- */

/* The current coroutine's poller when it takes files; else NULL. */
static struct poller *file_poller(void)
{
    struct poller *p;

    if (keel_seam.disk != &keel_disk_real || !keel_current())
        return NULL;
    p = loop_poller();
    return p && p->is->files ? p : NULL;
}

struct file_op {
    struct poller_op op;
    struct waiter waiter;
};

static void file_done(struct poller_op *op)
{
    (void)waiter_wake(&((struct file_op *)(void *)op)->waiter);
}

/* One attempt; the caller handles EINTR and short transfers. */
static int64_t ring(struct poller *p, enum poller_verb verb, int fd, void *buf,
                    size_t size, uint64_t at, unsigned flags)
{
    static const enum keel_op kinds[] = {
        [POLLER_READ] = KEEL_OP_READ,
        [POLLER_WRITE] = KEEL_OP_WRITE,
        [POLLER_SYNC] = KEEL_OP_SYNC,
    };
    static const char *const names[] = {
        [POLLER_READ] = "file read",
        [POLLER_WRITE] = "file write",
        [POLLER_SYNC] = "file sync",
    };
    struct file_op f = {
        .op =
            {
                .done = file_done,
                .verb = verb,
                .fd = fd,
                .buf = buf,
                .at = at,
                .flags = flags,
            },
    };
    size_t allowed = size;
    int rc = keel_seam_enter(kinds[verb], size ? &allowed : NULL);

    if (rc < 0)
        return rc;
    f.op.size = disk_lowered(fd, size, allowed);
    waiter_arm(&f.waiter, names[verb]);
    p->is->submit(p, &f.op);
    /* The buffer is the kernel's until the end: neither a cancel nor a
   * deadline takes it back. */
    waiter_sleep_always(&f.waiter);
    return f.op.result;
}

/* ---- reading and writing
 * ------------------------------------------------------ */

static ssize_t run_read(struct job *j)
{
    size_t done = 0;

    while (done < j->size) {
        ssize_t rc = keel_seam.disk->pread(j->fd, (char *)j->buf + done,
                                           j->size - done, j->at + done);
        if (rc == -EINTR)
            continue;
        if (rc < 0)
            return rc;
        if (rc == 0)
            break;
        done += (size_t)rc;
    }
    return (ssize_t)done;
}

static ssize_t run_write(struct job *j)
{
    size_t done = 0;

    while (done < j->size) {
        ssize_t rc = keel_seam.disk->pwrite(j->fd, (const char *)j->buf + done,
                                            j->size - done, j->at + done);
        if (rc == -EINTR)
            continue;
        if (rc < 0)
            return rc;
        if (rc == 0) /* no file does this; not to be repeated for ever */
            return -EIO;
        done += (size_t)rc;
    }
    return 0;
}

static ssize_t ring_read(struct poller *p, struct job *j)
{
    size_t done = 0;

    while (done < j->size) {
        int64_t rc = ring(p, POLLER_READ, j->fd, (char *)j->buf + done,
                          j->size - done, j->at + done, 0);
        if (rc == -EINTR)
            continue;
        if (rc < 0)
            return rc;
        if (rc == 0)
            break;
        done += (size_t)rc;
    }
    return (ssize_t)done;
}

static int ring_write(struct poller *p, struct job *j)
{
    size_t done = 0;

    while (done < j->size) {
        int64_t rc = ring(p, POLLER_WRITE, j->fd, (char *)j->buf + done,
                          j->size - done, j->at + done, 0);
        if (rc == -EINTR)
            continue;
        if (rc < 0)
            return (int)rc;
        if (rc == 0)
            return -EIO;
        done += (size_t)rc;
    }
    return 0;
}

ssize_t keel_file_read(int fd, void *buf, size_t size, uint64_t at)
{
    struct job j = {run_read, .fd = fd, .buf = buf, .size = size, .at = at};
    struct poller *p = file_poller();

    keel_assert(size <= SSIZE_MAX);
    return p ? ring_read(p, &j) : perform(&j);
}

int keel_file_write(int fd, const void *buf, size_t size, uint64_t at)
{
    /* The job's pointer serves reads too; run_write does not write by it. */
    struct job j = {run_write, .fd = fd, .buf = (void *)(uintptr_t)buf,
                    .size = size, .at = at};
    struct poller *p = file_poller();

    keel_assert(size <= SSIZE_MAX);
    return p ? ring_write(p, &j) : (int)perform(&j);
}

/* ---- syncing
 * ------------------------------------------------------------------- */

static ssize_t run_fsync(struct job *j)
{
    return keel_seam.disk->fsync(j->fd);
}

static ssize_t run_fdatasync(struct job *j)
{
    return keel_seam.disk->fdatasync(j->fd);
}

static ssize_t run_syncfs(struct job *j)
{
    return keel_seam.disk->syncfs(j->fd);
}

static int ring_sync(struct poller *p, int fd, unsigned flags)
{
    int64_t rc;

    do
        rc = ring(p, POLLER_SYNC, fd, NULL, 0, 0, flags);
    while (rc == -EINTR);
    return (int)rc;
}

int keel_file_sync(int fd)
{
    struct job j = {run_fsync, .fd = fd};
    struct poller *p = file_poller();

    return p ? ring_sync(p, fd, 0) : (int)perform(&j);
}

int keel_file_sync_data(int fd)
{
    struct job j = {run_fdatasync, .fd = fd};
    struct poller *p = file_poller();

    return p ? ring_sync(p, fd, IORING_FSYNC_DATASYNC) : (int)perform(&j);
}

int keel_file_sync_all(int fd)
{
    struct job j = {run_syncfs, .fd = fd};

    return (int)perform(&j);
}

/* ---- opening
 * --------------------------------------------------------------------- */

static ssize_t run_open(struct job *j)
{
    ssize_t rc = -EAGAIN;

    for (int tries = 0; tries < OPEN_TRIES; tries++) {
        rc = keel_seam.disk->openat2(j->fd, j->path, j->how);
        if (rc != -EAGAIN || !(j->how->resolve & RESOLVE_BENEATH))
            break;
    }
    return rc;
}

static int open_at(int dir, const char *path, int flags, mode_t mode,
                   uint64_t resolve)
{
    bool makes = (flags & O_CREAT) || (flags & O_TMPFILE) == O_TMPFILE;
    struct open_how how = {
        .flags = (uint64_t)(unsigned)(flags | O_CLOEXEC),
        /* openat2 refuses a mode where it has no meaning */
        .mode = makes ? mode & 07777 : 0,
        .resolve = resolve,
    };
    struct job j = {run_open, .fd = dir, .path = path, .how = &how};

    keel_assert(path);
    return (int)perform(&j);
}

int keel_file_open(int dir, const char *path, int flags, mode_t mode)
{
    return open_at(dir, path, flags, mode,
                   RESOLVE_BENEATH | RESOLVE_NO_MAGICLINKS |
                       RESOLVE_NO_SYMLINKS);
}

int keel_file_open_any(const char *path, int flags, mode_t mode)
{
    return open_at(AT_FDCWD, path, flags, mode, 0);
}

void keel_file_close(int fd)
{
    if (fd >= 0)
        (void)keel_seam.disk->close(fd);
}

/* ---- sizes and facts
 * --------------------------------------------------------------- */

static ssize_t run_reserve(struct job *j)
{
    return keel_seam.disk->fallocate(j->fd, (int)j->flags, j->at, j->length);
}

int keel_file_reserve(int fd, int mode, uint64_t at, uint64_t size)
{
    return (int)perform(&(struct job){run_reserve, .fd = fd,
                                      .flags = (unsigned)mode, .at = at,
                                      .length = size});
}

static ssize_t run_truncate(struct job *j)
{
    return keel_seam.disk->ftruncate(j->fd, j->length);
}

int keel_file_truncate(int fd, uint64_t size)
{
    return (int)perform(&(struct job){run_truncate, .fd = fd, .length = size});
}

/* statx(2) knows no RESOLVE_BENEATH, so all but the last component is opened
 * first; the last is never followed. */
static ssize_t run_stat(struct job *j)
{
    const unsigned mask = STATX_BASIC_STATS | STATX_BTIME;
    const char *slash = j->path ? strrchr(j->path, '/') : NULL;
    const char *last = slash ? slash + 1 : j->path;
    int parent = j->fd;
    int rc;

    if (!j->path)
        return keel_seam.disk->statx(j->fd, "", AT_EMPTY_PATH, mask, j->buf);
    if (!strcmp(last, ".."))
        return -EXDEV;
    if (slash == j->path)
        return -EXDEV; /* absolute */
    if (slash) {
        char head[PATH_MAX];
        struct open_how how = {
            .flags = O_PATH | O_DIRECTORY | O_CLOEXEC,
            .resolve =
                RESOLVE_BENEATH | RESOLVE_NO_MAGICLINKS | RESOLVE_NO_SYMLINKS,
        };
        struct job opening = {run_open, .fd = j->fd, .path = head, .how = &how};

        if ((size_t)(slash - j->path) >= sizeof head)
            return -ENAMETOOLONG;
        memcpy(head, j->path, (size_t)(slash - j->path));
        head[slash - j->path] = '\0';
        parent = (int)run_open(&opening);
        if (parent < 0)
            return parent;
    }
    rc = keel_seam.disk->statx(parent, *last ? last : ".", AT_SYMLINK_NOFOLLOW,
                               mask, j->buf);
    if (slash)
        (void)keel_seam.disk->close(parent);
    return rc;
}

int keel_file_stat(int dir, const char *path, struct statx *ret)
{
    return (int)perform(
        &(struct job){run_stat, .fd = dir, .path = path, .buf = ret});
}

static ssize_t run_statfs(struct job *j)
{
    return keel_seam.disk->statfs(j->fd, j->buf);
}

int keel_file_statfs(int fd, struct statfs *ret)
{
    struct job j = {run_statfs, .fd = fd, .buf = ret};

    return (int)perform(&j);
}

/* ---- names
 * -------------------------------------------------------------------------- */

static void assert_component(const char *name)
{
    keel_assert(name && *name && !strchr(name, '/'));
    keel_assert(strcmp(name, "..") && strcmp(name, "."));
}

static ssize_t run_rename(struct job *j)
{
    return keel_seam.disk->renameat2(j->fd, j->path, j->to_dir, j->to,
                                     j->flags);
}

int keel_file_rename(int from_dir, const char *from, int to_dir, const char *to,
                     unsigned flags)
{
    struct job j = {run_rename,       .fd = from_dir, .path = from,
                    .to_dir = to_dir, .to = to,       .flags = flags};

    assert_component(from);
    assert_component(to);
    return (int)perform(&j);
}

static ssize_t run_link(struct job *j)
{
    return keel_seam.disk->linkat(j->fd, j->path, j->to_dir, j->to);
}

int keel_file_link(int from_dir, const char *from, int to_dir, const char *to)
{
    struct job j = {run_link, .fd = from_dir, .path = from, .to_dir = to_dir,
                    .to = to};

    assert_component(from);
    assert_component(to);
    return (int)perform(&j);
}

static ssize_t run_link_fd(struct job *j)
{
    return keel_seam.disk->linkfd(j->fd, j->to_dir, j->to);
}

int keel_file_link_fd(int fd, int to_dir, const char *to)
{
    struct job j = {run_link_fd, .fd = fd, .to_dir = to_dir, .to = to};

    assert_component(to);
    return (int)perform(&j);
}

static ssize_t run_unlink(struct job *j)
{
    return keel_seam.disk->unlinkat(j->fd, j->path, (int)j->flags);
}

int keel_file_unlink(int dir, const char *name)
{
    struct job j = {run_unlink, .fd = dir, .path = name};

    assert_component(name);
    return (int)perform(&j);
}

int keel_file_rmdir(int dir, const char *name)
{
    struct job j = {run_unlink, .fd = dir, .path = name, .flags = AT_REMOVEDIR};

    assert_component(name);
    return (int)perform(&j);
}

static ssize_t run_mkdir(struct job *j)
{
    return keel_seam.disk->mkdirat(j->fd, j->path, j->mode);
}

int keel_file_mkdir(int dir, const char *name, mode_t mode)
{
    struct job j = {run_mkdir, .fd = dir, .path = name, .mode = mode};

    assert_component(name);
    return (int)perform(&j);
}

static ssize_t run_symlink(struct job *j)
{
    return keel_seam.disk->symlinkat(j->path, j->fd, j->to);
}

int keel_file_symlink(const char *target, int dir, const char *name)
{
    struct job j = {run_symlink, .fd = dir, .path = target, .to = name};

    assert_component(name);
    keel_assert(target);
    return (int)perform(&j);
}

static ssize_t run_readlink(struct job *j)
{
    return keel_seam.disk->readlinkat(j->fd, j->path, j->buf, j->size);
}

ssize_t keel_file_readlink(int dir, const char *name, char *buf, size_t size)
{
    struct job j = {run_readlink, .fd = dir, .path = name, .buf = buf,
                    .size = size};

    assert_component(name);
    return perform(&j);
}

/* ---- locks, modes, times
 * --------------------------------------------------------------- */

static ssize_t run_lock(struct job *j)
{
    return keel_seam.disk->flock(j->fd, LOCK_EX | LOCK_NB);
}

int keel_file_lock(int fd)
{
    return (int)perform(&(struct job){run_lock, .fd = fd});
}

static ssize_t run_chmod(struct job *j)
{
    return keel_seam.disk->fchmod(j->fd, j->mode);
}

int keel_file_chmod(int fd, mode_t mode)
{
    return (int)perform(&(struct job){run_chmod, .fd = fd, .mode = mode});
}

static ssize_t run_times(struct job *j)
{
    return keel_seam.disk->futimens(j->fd, j->buf);
}

static ssize_t run_times_at(struct job *j)
{
    return keel_seam.disk->utimensat(j->fd, j->path, j->buf);
}

static void times_of(int64_t mtime_ns, struct timespec ret[2])
{
    int64_t s = mtime_ns / KEEL_SECOND, ns = mtime_ns % KEEL_SECOND;

    if (ns < 0) { /* before 1970 the division rounds the wrong way */
        ns += KEEL_SECOND;
        s--;
    }
    ret[0] = (struct timespec){.tv_nsec = UTIME_OMIT};
    ret[1] = (struct timespec){.tv_sec = s, .tv_nsec = ns};
}

int keel_file_set_mtime(int fd, int64_t mtime_ns)
{
    struct timespec times[2];
    struct job j = {run_times, .fd = fd, .buf = times};

    times_of(mtime_ns, times);
    return (int)perform(&j);
}

int keel_file_set_mtime_at(int dir, const char *name, int64_t mtime_ns)
{
    struct timespec times[2];
    struct job j = {run_times_at, .fd = dir, .path = name, .buf = times};

    assert_component(name);
    times_of(mtime_ns, times);
    return (int)perform(&j);
}

/* ---- listing
 * ------------------------------------------------------------------------------
 */

static ssize_t run_list(struct job *j)
{
    return keel_seam.disk->getdents(j->fd, j->buf, j->size);
}

static int list_each(const char *records, size_t size,
                     int (*each)(const char *name, unsigned char type,
                                 void *arg),
                     void *arg)
{
    for (size_t at = 0; at < size;) {
        /* the kernel aligns its records to 8 bytes */
        const struct dirent64 *d = (const void *)(records + at);
        int rc = 0;

        keel_assert(d->d_reclen > 0 && d->d_reclen <= size - at);
        if (strcmp(d->d_name, ".") && strcmp(d->d_name, ".."))
            rc = each(d->d_name, d->d_type, arg);
        if (rc)
            return rc;
        at += d->d_reclen;
    }
    return 0;
}

int keel_file_list(int dir,
                   int (*each)(const char *name, unsigned char type, void *arg),
                   void *arg)
{
    /* A descriptor of its own: the position of `dir` is shared with whoever
   * else lists it, and may stand at the end. */
    keel_auto(file) int fd =
        keel_file_open(dir, ".", O_RDONLY | O_DIRECTORY, 0);
    keel_auto(mem) void *records = NULL;
    struct job j = {run_list, .fd = fd, .size = LIST_BYTES};

    if (fd < 0)
        return fd;
    records = keel_alloc(LIST_BYTES);
    if (!records)
        return -ENOMEM;
    j.buf = records;
    for (;;) {
        ssize_t got = perform(&j);
        int rc;

        if (got <= 0)
            return (int)got;
        rc = list_each(records, (size_t)got, each, arg);
        if (rc)
            return rc;
    }
}
