/* SPDX-License-Identifier: MIT */
/* The test disk as a struct keel_disk: descriptors, paths, the operations'
 * arguments and errors, and the crash that an operation can be told to be.
 * What is remembered, and forgotten at a crash, is disk_state.c.
 *
 * Each operation asks the fault hook as the real disk does, then holds `lock`
 * until it returns.  Those that change or sync something pass change() when
 * nothing but the change itself is left to do. */
#include "disk.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <linux/falloc.h>
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/file.h>
#include <sys/statfs.h>

#include "disk_state.h"

enum {
    TICK_NS = 4000000, /* a kernel with HZ=250 */
    /* Descriptors after a reboot are none of those before it, so that a stale
     * one is -EBADF and not another file. */
    FD_BASE = 0x20000000,
    FDS_MAX = 0x10000,
    REBOOTS_MAX = 0x2000,
};

struct descriptor {
    struct inode *inode; /* NULL: free */
    uint64_t flags;
    uint64_t listed; /* id of the last name that getdents gave */
    bool dots;       /* "." and ".." were given */
    bool locked;
};

static struct {
    pthread_mutex_t lock;
    struct state *state; /* NULL: not installed */
    const struct keel_disk *before;
    struct descriptor *fd;
    size_t fds;
    unsigned reboots, ops;
    /* operations until the crash, 0: none ordered; likewise a failed sync */
    unsigned crash_in, fail_sync_in;
    bool crashed;
    char lie[16];
    bool lie_some;
    char lie_path[256];
} disk = {.lock = PTHREAD_MUTEX_INITIALIZER};

static void lock_drop(pthread_mutex_t **held)
{
    pthread_mutex_unlock(*held);
}

static pthread_mutex_t *lock_hold(void)
{
    pthread_mutex_lock(&disk.lock);
    return &disk.lock;
}

#define hold_disk()                                                            \
    __attribute__((cleanup(lock_drop), unused)) pthread_mutex_t *held_ =       \
        lock_hold()

static int64_t tick(void)
{
    int64_t now = keel_seam.wall_ns();

    return now - now % TICK_NS;
}

/* The start of every operation, under the lock. */
static int ready(void)
{
    return !disk.state || disk.crashed ? -EIO : 0;
}

/* Counts a change that is about to happen; an error: it does not. */
static int change(void)
{
    if (disk.crash_in && --disk.crash_in == 0) {
        disk.crashed = true;
        return -EIO;
    }
    disk.ops++;
    return 0;
}

static void touched(struct inode *i)
{
    i->now.mtime_ns = i->now.ctime_ns = tick();
}

static void touched_ctime(struct inode *i)
{
    i->now.ctime_ns = tick();
}

/* ---- descriptors --------------------------------------------------------- */

static int fd_first(void)
{
    return FD_BASE + (int)(disk.reboots % REBOOTS_MAX) * FDS_MAX;
}

static struct descriptor *fd_find(int fd)
{
    size_t at = (size_t)(fd - fd_first());

    if (fd < fd_first() || at >= disk.fds || !disk.fd[at].inode)
        return NULL;
    return disk.fd + at;
}

/* A descriptor of a regular file that was opened for `access`. */
static int fd_file(int fd, uint64_t access, struct descriptor **ret)
{
    struct descriptor *d = fd_find(fd);
    uint64_t mode;

    if (!d || (d->flags & O_PATH))
        return -EBADF;
    if (inode_is_dir(d->inode))
        return access == O_WRONLY ? -EBADF : -EISDIR;
    mode = d->flags & O_ACCMODE;
    if (mode != O_RDWR && mode != access)
        return -EBADF;
    *ret = d;
    return 0;
}

static int fd_new(struct inode *i, uint64_t flags)
{
    size_t at = 0;

    while (at < disk.fds && disk.fd[at].inode)
        at++;
    if (at == FDS_MAX)
        return -EMFILE;
    if (at == disk.fds) {
        disk.fd = reallocarray(disk.fd, ++disk.fds, sizeof *disk.fd);
        if (!disk.fd)
            abort();
    }
    disk.fd[at] = (struct descriptor){.inode = i, .flags = flags};
    state_opened(disk.state, i);
    return fd_first() + (int)at;
}

static void fds_close(void)
{
    for (size_t k = 0; k < disk.fds; k++)
        if (disk.fd[k].inode)
            state_closed(disk.state, disk.fd[k].inode);
    free(disk.fd);
    disk.fd = NULL;
    disk.fds = 0;
}

/* ---- paths --------------------------------------------------------------- */

/* Where a path leads: `name` in `dir`, and what is there; with `name` empty
 * the path was of a directory itself. */
struct place {
    struct inode *dir;
    char name[256];
    struct inode *inode; /* NULL: free */
    bool slash;          /* the path says that it is a directory */
    int dots;            /* it ended in "." or ".." */
};

static struct inode *root(void)
{
    return state_inode(disk.state, DISK_ROOT);
}

static bool is_removed(const struct inode *dir)
{
    return dir->nlink == 0 && dir->number != DISK_ROOT;
}

/* Finds where the walk begins, and moves `path` past what that covers. */
static int walk_start(int dir, const char **path, uint64_t resolve,
                      struct inode **ret)
{
    struct descriptor *d;

    if (**path == '/' && (resolve & RESOLVE_BENEATH))
        return -EXDEV;
    if (**path == '/' && !(resolve & RESOLVE_IN_ROOT)) {
        if (strncmp(*path, "/disk", 5) || ((*path)[5] && (*path)[5] != '/'))
            return -ENOENT;
        *path += 5;
        *ret = root();
        return 0;
    }
    d = fd_find(dir);
    if (!d)
        return dir == AT_FDCWD ? -ENOENT : -EBADF;
    if (!inode_is_dir(d->inode))
        return -ENOTDIR;
    *ret = d->inode;
    return 0;
}

static int walk_up(const struct inode *start, uint64_t resolve,
                   struct inode **at)
{
    if (*at == start && (resolve & RESOLVE_BENEATH))
        return -EXDEV;
    if (*at == start && (resolve & RESOLVE_IN_ROOT))
        return 0;
    *at = state_inode(disk.state, (*at)->parent);
    return *at ? 0 : -ENOENT;
}

static int walk(int dir, const char *path, uint64_t resolve, struct place *ret)
{
    struct inode *start;
    struct place p = {0};
    int rc;

    if (!path)
        return -EFAULT;
    if (!*path)
        return -ENOENT;
    if (strlen(path) >= 4096)
        return -ENAMETOOLONG;
    rc = walk_start(dir, &path, resolve, &start);
    if (rc < 0)
        return rc;
    p.dir = p.inode = start;
    while (path += strspn(path, "/"), *path) {
        size_t size = strcspn(path, "/");

        if (!p.inode)
            return -ENOENT;
        if (inode_is_link(p.inode))
            return -ELOOP;
        if (!inode_is_dir(p.inode))
            return -ENOTDIR;
        if (size > 255)
            return -ENAMETOOLONG;
        p.dir = p.inode;
        p.name[0] = 0;
        p.dots = 0;
        p.slash = path[size] == '/';
        if (size == 2 && !memcmp(path, "..", 2)) {
            rc = walk_up(start, resolve, &p.inode);
            if (rc < 0)
                return rc;
            p.dots = 2;
        } else if (size == 1 && *path == '.') {
            p.dots = 1;
        } else {
            memcpy(p.name, path, size);
            p.name[size] = 0;
            p.inode = state_find(disk.state, p.dir, p.name);
        }
        path += size;
    }
    if (p.slash && p.inode && !inode_is_dir(p.inode))
        return -ENOTDIR;
    *ret = p;
    return 0;
}

/* A place where a new name is to appear. */
static int walk_free(int dir, const char *path, struct place *ret)
{
    int rc = walk(dir, path, 0, ret);

    if (rc < 0)
        return rc;
    if (ret->inode || !ret->name[0])
        return -EEXIST;
    return is_removed(ret->dir) ? -ENOENT : 0;
}

/* ---- opening ------------------------------------------------------------- */

#define OPEN_KNOWN                                                             \
    (O_ACCMODE | O_CREAT | O_EXCL | O_TRUNC | O_DIRECTORY | O_TMPFILE |        \
     O_NOFOLLOW | O_CLOEXEC | O_DIRECT | O_NONBLOCK | O_NOCTTY | O_NOATIME |   \
     O_PATH | O_LARGEFILE | 0100000)
#define RESOLVE_KNOWN                                                          \
    (RESOLVE_NO_XDEV | RESOLVE_NO_MAGICLINKS | RESOLVE_NO_SYMLINKS |           \
     RESOLVE_BENEATH | RESOLVE_IN_ROOT | RESOLVE_CACHED)

static bool is_tmpfile(uint64_t flags)
{
    return (flags & O_TMPFILE) == O_TMPFILE;
}

/* What openat2(2) refuses whatever the disk holds. */
static int open_check(const struct open_how *how)
{
    bool makes = (how->flags & O_CREAT) || is_tmpfile(how->flags);
    uint64_t access = how->flags & O_ACCMODE;

    if (how->flags & ~(uint64_t)OPEN_KNOWN)
        return -EINVAL;
    if (how->resolve & ~(uint64_t)RESOLVE_KNOWN)
        return -EINVAL;
    if ((how->resolve & RESOLVE_BENEATH) && (how->resolve & RESOLVE_IN_ROOT))
        return -EINVAL;
    if (makes ? how->mode & ~(uint64_t)07777 : how->mode)
        return -EINVAL;
    if (access == O_ACCMODE)
        return -EINVAL;
    if (is_tmpfile(how->flags) && (access == O_RDONLY || how->flags & O_CREAT))
        return -EINVAL;
    if ((how->flags & O_CREAT) && (how->flags & O_DIRECTORY))
        return -EINVAL;
    return 0;
}

static int open_tmpfile(const struct place *p, const struct open_how *how)
{
    struct inode *i;
    int rc;

    if (!p->inode)
        return -ENOENT;
    if (!inode_is_dir(p->inode))
        return -ENOTDIR;
    if (is_removed(p->inode))
        return -ENOENT;
    rc = change();
    if (rc < 0)
        return rc;
    i = state_make(disk.state, S_IFREG | (mode_t)how->mode, tick());
    i->linkable = !(how->flags & O_EXCL);
    return fd_new(i, how->flags);
}

static int open_new(const struct place *p, const struct open_how *how)
{
    struct inode *i;
    int rc;

    if (!(how->flags & O_CREAT) || is_removed(p->dir))
        return -ENOENT;
    if (p->slash)
        return -EISDIR;
    rc = change();
    if (rc < 0)
        return rc;
    i = state_make(disk.state, S_IFREG | (mode_t)how->mode, tick());
    state_set(disk.state, p->dir, p->name, i);
    touched(p->dir);
    return fd_new(i, how->flags);
}

static int open_old(const struct place *p, const struct open_how *how)
{
    bool writes = (how->flags & O_ACCMODE) != O_RDONLY;
    int rc;

    if ((how->flags & O_CREAT) && (how->flags & O_EXCL))
        return -EEXIST;
    if (inode_is_link(p->inode))
        return -ELOOP;
    if (inode_is_dir(p->inode)) {
        if (!(how->flags & O_PATH) && (writes || (how->flags & O_CREAT)))
            return -EISDIR;
    } else if (how->flags & O_DIRECTORY) {
        return -ENOTDIR;
    }
    if ((how->flags & O_TRUNC) && writes && !(how->flags & O_PATH)) {
        rc = change();
        if (rc < 0)
            return rc;
        state_truncate(disk.state, p->inode, 0);
        touched(p->inode);
    }
    return fd_new(p->inode, how->flags);
}

static int op_openat2(int dir, const char *path, const struct open_how *how)
{
    int rc = keel_seam_enter(KEEL_OP_OPEN, NULL);
    struct place p;

    if (rc < 0)
        return rc;
    hold_disk();
    rc = ready();
    if (rc == 0)
        rc = open_check(how);
    if (rc == 0)
        rc = walk(dir, path, how->resolve, &p);
    if (rc < 0)
        return rc;
    if (is_tmpfile(how->flags))
        return open_tmpfile(&p, how);
    return p.inode ? open_old(&p, how) : open_new(&p, how);
}

static int op_close(int fd)
{
    struct descriptor *d;
    struct inode *i;

    hold_disk();
    d = disk.state ? fd_find(fd) : NULL;
    if (!d)
        return -EBADF;
    i = d->inode;
    d->inode = NULL;
    state_closed(disk.state, i);
    return 0;
}

/* ---- reading and writing ------------------------------------------------- */

/* As ext4 on a disk with sectors of 512 bytes. */
static bool is_misaligned(const struct descriptor *d, const void *buf,
                          size_t size, uint64_t at)
{
    return (d->flags & O_DIRECT) &&
           ((uintptr_t)buf | size | at) % DISK_SECTOR != 0;
}

/* A short transfer of a direct descriptor is one of whole sectors. */
static size_t lowered(const struct descriptor *d, size_t asked, size_t allowed)
{
    if (allowed >= asked || !(d->flags & O_DIRECT))
        return allowed < asked ? allowed : asked;
    allowed -= allowed % DISK_SECTOR;
    return allowed ? allowed : asked;
}

static ssize_t op_pread(int fd, void *buf, size_t size, uint64_t at)
{
    size_t allowed = size;
    int rc = keel_seam_enter(KEEL_OP_READ, &allowed);
    struct descriptor *d = NULL;

    if (rc < 0)
        return rc;
    hold_disk();
    rc = ready();
    if (rc == 0)
        rc = fd_file(fd, O_RDONLY, &d);
    if (rc < 0)
        return rc;
    if (is_misaligned(d, buf, size, at))
        return -EINVAL;
    return (ssize_t)state_read(d->inode, buf, lowered(d, size, allowed), at);
}

static ssize_t op_pwrite(int fd, const void *buf, size_t size, uint64_t at)
{
    size_t allowed = size;
    int rc = keel_seam_enter(KEEL_OP_WRITE, &allowed);
    struct descriptor *d = NULL;
    ssize_t done;

    if (rc < 0)
        return rc;
    hold_disk();
    rc = ready();
    if (rc == 0)
        rc = fd_file(fd, O_WRONLY, &d);
    if (rc == 0 && is_misaligned(d, buf, size, at))
        rc = -EINVAL;
    if (rc == 0)
        rc = change();
    if (rc < 0)
        return rc;
    done =
        state_write(disk.state, d->inode, buf, lowered(d, size, allowed), at);
    if (done > 0)
        touched(d->inode);
    return done;
}

static int op_fallocate(int fd, int mode, uint64_t at, uint64_t size)
{
    int rc = keel_seam_enter(KEEL_OP_RESERVE, NULL);
    struct descriptor *d = NULL;

    if (rc < 0)
        return rc;
    hold_disk();
    rc = ready();
    if (rc == 0)
        rc = fd_file(fd, O_WRONLY, &d);
    if (rc < 0)
        return rc;
    if (size == 0 || at > INT64_MAX || size > INT64_MAX)
        return -EINVAL;
    if (mode & ~(FALLOC_FL_KEEP_SIZE | FALLOC_FL_PUNCH_HOLE))
        return -EOPNOTSUPP;
    if (mode == FALLOC_FL_PUNCH_HOLE) /* only with KEEP_SIZE */
        return -EOPNOTSUPP;
    rc = change();
    if (rc < 0)
        return rc;
    if (mode & FALLOC_FL_PUNCH_HOLE)
        state_punch(disk.state, d->inode, at, size);
    else
        rc = state_reserve(disk.state, d->inode, at, size, mode != 0);
    if (rc == 0)
        touched(d->inode);
    return rc;
}

static int op_ftruncate(int fd, uint64_t size)
{
    int rc = keel_seam_enter(KEEL_OP_RESERVE, NULL);
    struct descriptor *d = NULL;

    if (rc < 0)
        return rc;
    hold_disk();
    rc = ready();
    if (rc == 0)
        rc = fd_file(fd, O_WRONLY, &d);
    if (rc < 0)
        return rc != -EIO && fd_find(fd) ? -EINVAL : rc;
    if (size > INT64_MAX)
        return -EINVAL;
    rc = change();
    if (rc < 0)
        return rc;
    state_truncate(disk.state, d->inode, size);
    touched(d->inode);
    return 0;
}

/* ---- syncing ------------------------------------------------------------- */

static bool is_lie(const char *sync, const struct inode *i)
{
    char path[4096];

    if (strcmp(disk.lie, sync))
        return false;
    if (!disk.lie_some)
        return true;
    if (!disk.lie_path[0])
        return inode_is_dir(i);
    state_path(disk.state, i, path);
    return strstr(path, disk.lie_path);
}

/* What the three have in common; 1: go on and sync `*ret`. */
static int sync_begin(int fd, const char *sync, struct inode **ret)
{
    struct descriptor *d;
    int rc = ready();

    if (rc < 0)
        return rc;
    d = fd_find(fd);
    if (!d || (d->flags & O_PATH))
        return -EBADF;
    rc = change();
    if (rc < 0)
        return rc;
    if (disk.fail_sync_in && --disk.fail_sync_in == 0) {
        state_sync_failed(d->inode);
        return -EIO;
    }
    *ret = d->inode;
    return is_lie(sync, d->inode) ? 0 : 1;
}

static int op_fsync(int fd)
{
    int rc = keel_seam_enter(KEEL_OP_SYNC, NULL);
    struct inode *i;

    if (rc < 0)
        return rc;
    hold_disk();
    rc = sync_begin(fd, "fsync", &i);
    if (rc <= 0)
        return rc;
    if (inode_is_dir(i))
        state_sync_dir(disk.state, i);
    else
        state_sync_file(i);
    return 0;
}

static int op_fdatasync(int fd)
{
    int rc = keel_seam_enter(KEEL_OP_SYNC, NULL);
    struct inode *i;

    if (rc < 0)
        return rc;
    hold_disk();
    rc = sync_begin(fd, "fdatasync", &i);
    if (rc <= 0)
        return rc;
    /* Of a directory it promises no names. */
    state_sync_data(i);
    return 0;
}

static int op_syncfs(int fd)
{
    int rc = keel_seam_enter(KEEL_OP_SYNC, NULL);
    struct inode *i;

    if (rc < 0)
        return rc;
    hold_disk();
    rc = sync_begin(fd, "syncfs", &i);
    if (rc <= 0)
        return rc;
    state_sync_all(disk.state);
    return 0;
}

/* ---- facts --------------------------------------------------------------- */

static struct statx_timestamp stamp(int64_t ns)
{
    struct statx_timestamp t = {.tv_sec = ns / KEEL_SECOND};

    if (ns % KEEL_SECOND < 0)
        t.tv_sec--;
    t.tv_nsec = (uint32_t)(ns - t.tv_sec * KEEL_SECOND);
    return t;
}

static uint32_t links_shown(const struct inode *i)
{
    uint32_t count = 2;

    if (!inode_is_dir(i))
        return i->nlink;
    if (is_removed(i))
        return 0;
    for (size_t k = 0; k < i->entries; k++) {
        const struct inode *in =
            state_inode(disk.state, name_inode(disk.state->name[i->entry[k]]));

        count += in && inode_is_dir(in);
    }
    return count;
}

static void describe(const struct inode *i, struct statx *ret)
{
    memset(ret, 0, sizeof *ret);
    ret->stx_mask = STATX_BASIC_STATS | STATX_BTIME;
    ret->stx_blksize = DISK_PAGE;
    ret->stx_nlink = links_shown(i);
    ret->stx_mode = (uint16_t)i->now.mode;
    ret->stx_ino = i->number;
    ret->stx_size = inode_is_dir(i) ? DISK_PAGE : i->size;
    ret->stx_blocks = i->held * (DISK_PAGE / DISK_SECTOR);
    ret->stx_mtime = ret->stx_atime = stamp(i->now.mtime_ns);
    ret->stx_ctime = stamp(i->now.ctime_ns);
    ret->stx_btime = stamp(i->btime_ns);
    ret->stx_dev_major = 240;
    ret->stx_dev_minor = 1;
#ifdef STATX_DIOALIGN
    ret->stx_mask |= STATX_DIOALIGN;
    ret->stx_dio_mem_align = ret->stx_dio_offset_align = DISK_SECTOR;
#endif
}

static int op_statx(int dir, const char *path, int flags, unsigned mask,
                    struct statx *ret)
{
    int rc = keel_seam_enter(KEEL_OP_STAT, NULL);
    struct descriptor *d;
    struct place p;

    (void)mask; /* all is at hand, and more than asked for is allowed */
    if (rc < 0)
        return rc;
    hold_disk();
    rc = ready();
    if (rc < 0)
        return rc;
    if ((flags & AT_EMPTY_PATH) && (!path || !*path)) {
        d = fd_find(dir);
        if (!d)
            return -EBADF;
        describe(d->inode, ret);
        return 0;
    }
    rc = walk(dir, path, 0, &p);
    if (rc < 0)
        return rc;
    if (!p.inode)
        return -ENOENT;
    describe(p.inode, ret);
    return 0;
}

static int op_statfs(int fd, struct statfs *ret)
{
    int rc = keel_seam_enter(KEEL_OP_STAT, NULL);
    const struct state *s = disk.state;

    if (rc < 0)
        return rc;
    hold_disk();
    rc = ready();
    if (rc < 0)
        return rc;
    if (!fd_find(fd))
        return -EBADF;
    memset(ret, 0, sizeof *ret);
    ret->f_type = 0x4b44; /* no kernel's */
    ret->f_bsize = ret->f_frsize = DISK_PAGE;
    ret->f_blocks = s->total;
    ret->f_bfree = ret->f_bavail = s->used < s->total ? s->total - s->used : 0;
    ret->f_files = ret->f_ffree = 1 << 20;
    ret->f_namelen = 255;
    return 0;
}

/* Room for a record of the longest name. */
#define RECORD_MAX ((offsetof(struct dirent64, d_name) + 256 + 7) / 8 * 8)

static size_t record(void *at, const char *name, uint32_t number,
                     unsigned char type, uint64_t position)
{
    struct dirent64 d = {.d_ino = number, .d_off = (int64_t)position};
    size_t size = offsetof(struct dirent64, d_name) + strlen(name) + 1;

    size = (size + 7) & ~(size_t)7;
    d.d_reclen = (unsigned short)size;
    d.d_type = type;
    snprintf(d.d_name, sizeof d.d_name, "%s", name);
    memcpy(at, &d, size);
    return size;
}

static ssize_t op_getdents(int fd, void *buf, size_t size)
{
    int rc = keel_seam_enter(KEEL_OP_LIST, NULL);
    const struct name *n;
    struct descriptor *d;
    size_t done = 0;

    if (rc < 0)
        return rc;
    hold_disk();
    rc = ready();
    if (rc < 0)
        return rc;
    d = fd_find(fd);
    if (!d || (d->flags & O_PATH))
        return -EBADF;
    if (!inode_is_dir(d->inode))
        return -ENOTDIR;
    if (is_removed(d->inode))
        return -ENOENT;
    if (size < 2 * RECORD_MAX)
        return -EINVAL;
    if (!d->dots) {
        d->dots = true;
        done += record(buf, ".", d->inode->number, DT_DIR, 0);
        done += record((char *)buf + done, "..", d->inode->parent, DT_DIR, 0);
    }
    while (size - done >= RECORD_MAX) {
        const struct inode *i;

        n = state_next(disk.state, d->inode, d->listed);
        if (!n)
            break;
        i = state_inode(disk.state, name_inode(n));
        d->listed = n->id;
        done += record((char *)buf + done, n->text, i->number,
                       (unsigned char)IFTODT(i->now.mode), n->id);
    }
    return (ssize_t)done;
}

/* ---- names --------------------------------------------------------------- */

static bool is_inside(const struct inode *i, const struct inode *dir)
{
    while (i && i != dir && i->number != DISK_ROOT)
        i = state_inode(disk.state, i->parent);
    return i == dir;
}

static int rename_over(const struct inode *from, const struct inode *to)
{
    if (inode_is_dir(from)) {
        if (!inode_is_dir(to))
            return -ENOTDIR;
        return state_empty(disk.state, to) ? 0 : -ENOTEMPTY;
    }
    return inode_is_dir(to) ? -EISDIR : 0;
}

static int rename_check(const struct place *from, const struct place *to,
                        unsigned flags)
{
    if (!from->inode)
        return -ENOENT;
    if (is_removed(to->dir))
        return -ENOENT;
    if (to->slash && !to->inode && !inode_is_dir(from->inode))
        return -ENOTDIR;
    if (to->inode && (flags & RENAME_NOREPLACE))
        return -EEXIST;
    if (!to->inode && (flags & RENAME_EXCHANGE))
        return -ENOENT;
    if (inode_is_dir(from->inode) && is_inside(to->dir, from->inode))
        return -EINVAL;
    if (to->inode && inode_is_dir(to->inode) && is_inside(from->dir, to->inode))
        return flags & RENAME_EXCHANGE ? -EINVAL : -ENOTEMPTY;
    if (to->inode && to->inode != from->inode && !(flags & RENAME_EXCHANGE))
        return rename_over(from->inode, to->inode);
    return 0;
}

static int op_renameat2(int from_dir, const char *from, int to_dir,
                        const char *to, unsigned flags)
{
    int rc = keel_seam_enter(KEEL_OP_RENAME, NULL);
    struct place a, b;

    if (rc < 0)
        return rc;
    if (flags & ~(unsigned)(RENAME_NOREPLACE | RENAME_EXCHANGE) ||
        flags == (RENAME_NOREPLACE | RENAME_EXCHANGE))
        return -EINVAL;
    hold_disk();
    rc = ready();
    if (rc == 0)
        rc = walk(from_dir, from, 0, &a);
    if (rc == 0)
        rc = walk(to_dir, to, 0, &b);
    if (rc == 0 && !a.name[0])
        rc = -EBUSY; /* ".", ".." or the root */
    if (rc == 0 && !b.name[0])
        rc = flags & RENAME_NOREPLACE ? -EEXIST : -EBUSY;
    if (rc == 0)
        rc = rename_check(&a, &b, flags);
    if (rc < 0)
        return rc;
    if (a.inode == b.inode)
        return 0; /* two links of one file: nothing happens */
    rc = change();
    if (rc < 0)
        return rc;
    touched_ctime(a.inode);
    if (b.inode)
        touched_ctime(b.inode);
    touched(a.dir);
    touched(b.dir);
    state_rename(disk.state, a.dir, a.name, b.dir, b.name,
                 flags & RENAME_EXCHANGE);
    return 0;
}

static int link_to(struct inode *i, int to_dir, const char *to)
{
    struct place p;
    int rc = walk_free(to_dir, to, &p);

    if (rc < 0)
        return rc;
    if (p.slash)
        return -ENOENT;
    if (inode_is_dir(i))
        return -EPERM;
    if (i->nlink == 0 && !i->linkable)
        return -ENOENT;
    rc = change();
    if (rc < 0)
        return rc;
    state_set(disk.state, p.dir, p.name, i);
    touched_ctime(i);
    touched(p.dir);
    return 0;
}

static int op_linkat(int from_dir, const char *from, int to_dir, const char *to)
{
    int rc = keel_seam_enter(KEEL_OP_LINK, NULL);
    struct place p;

    if (rc < 0)
        return rc;
    hold_disk();
    rc = ready();
    if (rc == 0)
        rc = walk(from_dir, from, 0, &p);
    if (rc < 0)
        return rc;
    return p.inode ? link_to(p.inode, to_dir, to) : -ENOENT;
}

static int op_linkfd(int fd, int to_dir, const char *to)
{
    int rc = keel_seam_enter(KEEL_OP_LINK, NULL);
    struct descriptor *d;

    if (rc < 0)
        return rc;
    hold_disk();
    rc = ready();
    if (rc < 0)
        return rc;
    d = fd_find(fd);
    return d ? link_to(d->inode, to_dir, to) : -EBADF;
}

static int unlink_dots(const struct place *p, int flags)
{
    if (!flags)
        return -EISDIR;
    return p->dots == 2 ? -ENOTEMPTY : p->dots == 1 ? -EINVAL : -EBUSY;
}

static int op_unlinkat(int dir, const char *path, int flags)
{
    int rc = keel_seam_enter(KEEL_OP_UNLINK, NULL);
    struct place p;

    if (rc < 0)
        return rc;
    if (flags & ~AT_REMOVEDIR)
        return -EINVAL;
    hold_disk();
    rc = ready();
    if (rc == 0)
        rc = walk(dir, path, 0, &p);
    if (rc == 0 && !p.name[0])
        rc = unlink_dots(&p, flags);
    if (rc < 0)
        return rc;
    if (!p.inode)
        return -ENOENT;
    if (flags && !inode_is_dir(p.inode))
        return -ENOTDIR;
    if (!flags && inode_is_dir(p.inode))
        return -EISDIR;
    if (flags && !state_empty(disk.state, p.inode))
        return -ENOTEMPTY;
    rc = change();
    if (rc < 0)
        return rc;
    touched_ctime(p.inode);
    touched(p.dir);
    state_set(disk.state, p.dir, p.name, NULL);
    return 0;
}

static int op_mkdirat(int dir, const char *path, mode_t mode)
{
    int rc = keel_seam_enter(KEEL_OP_MKDIR, NULL);
    struct place p;

    if (rc < 0)
        return rc;
    hold_disk();
    rc = ready();
    if (rc == 0)
        rc = walk_free(dir, path, &p);
    if (rc == 0)
        rc = change();
    if (rc < 0)
        return rc;
    state_set(disk.state, p.dir, p.name,
              state_make(disk.state, S_IFDIR | (mode & 07777), tick()));
    touched(p.dir);
    return 0;
}

static int op_symlinkat(const char *target, int dir, const char *path)
{
    int rc = keel_seam_enter(KEEL_OP_LINK, NULL);
    size_t size = strlen(target);
    struct inode *i;
    struct place p;

    if (rc < 0)
        return rc;
    if (size == 0)
        return -ENOENT;
    if (size >= DISK_PAGE)
        return -ENAMETOOLONG;
    hold_disk();
    rc = ready();
    if (rc == 0)
        rc = walk_free(dir, path, &p);
    if (rc == 0)
        rc = change();
    if (rc < 0)
        return rc;
    i = state_make(disk.state, S_IFLNK | 0777, tick());
    state_opened(disk.state, i);
    if (state_write(disk.state, i, target, size, 0) != (ssize_t)size) {
        state_closed(disk.state, i);
        return -ENOSPC;
    }
    state_sync_file(i);
    state_set(disk.state, p.dir, p.name, i);
    state_closed(disk.state, i);
    touched(p.dir);
    return 0;
}

static ssize_t op_readlinkat(int dir, const char *path, char *buf, size_t size)
{
    int rc = keel_seam_enter(KEEL_OP_STAT, NULL);
    struct place p;

    if (rc < 0)
        return rc;
    hold_disk();
    rc = ready();
    if (rc == 0)
        rc = walk(dir, path, 0, &p);
    if (rc < 0)
        return rc;
    if (!p.inode)
        return -ENOENT;
    return inode_is_link(p.inode) ? (ssize_t)state_read(p.inode, buf, size, 0)
                                  : -EINVAL;
}

/* ---- locks, modes, times ------------------------------------------------- */

/* Never waits: what would have to is refused as with LOCK_NB. */
static int op_flock(int fd, int operation)
{
    int rc = keel_seam_enter(KEEL_OP_LOCK, NULL);
    struct descriptor *d;

    if (rc < 0)
        return rc;
    hold_disk();
    rc = ready();
    if (rc < 0)
        return rc;
    d = fd_find(fd);
    if (!d || (d->flags & O_PATH))
        return -EBADF;
    operation &= ~LOCK_NB;
    if (operation != LOCK_EX && operation != LOCK_UN)
        return -EINVAL;
    for (size_t k = 0; k < disk.fds && operation == LOCK_EX; k++)
        if (disk.fd + k != d && disk.fd[k].inode == d->inode &&
            disk.fd[k].locked)
            return -EWOULDBLOCK;
    d->locked = operation == LOCK_EX;
    return 0;
}

static int op_fchmod(int fd, mode_t mode)
{
    int rc = keel_seam_enter(KEEL_OP_MODE, NULL);
    struct descriptor *d;

    if (rc < 0)
        return rc;
    hold_disk();
    rc = ready();
    if (rc < 0)
        return rc;
    d = fd_find(fd);
    if (!d || (d->flags & O_PATH))
        return -EBADF;
    rc = change();
    if (rc < 0)
        return rc;
    d->inode->now.mode = (d->inode->now.mode & S_IFMT) | (mode & 07777);
    touched_ctime(d->inode);
    return 0;
}

static void times_set(struct inode *i, const struct timespec times[2])
{
    if (!times || times[1].tv_nsec == UTIME_NOW)
        i->now.mtime_ns = tick();
    else if (times[1].tv_nsec != UTIME_OMIT)
        i->now.mtime_ns =
            (int64_t)times[1].tv_sec * KEEL_SECOND + times[1].tv_nsec;
    touched_ctime(i);
}

static int op_utimensat(int dir, const char *path,
                        const struct timespec times[2])
{
    int rc = keel_seam_enter(KEEL_OP_MODE, NULL);
    struct place p;

    if (rc < 0)
        return rc;
    hold_disk();
    rc = ready();
    if (rc == 0)
        rc = walk(dir, path, 0, &p);
    if (rc == 0 && !p.inode)
        rc = -ENOENT;
    if (rc == 0)
        rc = change();
    if (rc == 0)
        times_set(p.inode, times);
    return rc;
}

static int op_futimens(int fd, const struct timespec times[2])
{
    int rc = keel_seam_enter(KEEL_OP_MODE, NULL);
    struct descriptor *d;

    if (rc < 0)
        return rc;
    hold_disk();
    rc = ready();
    if (rc < 0)
        return rc;
    d = fd_find(fd);
    if (!d || (d->flags & O_PATH))
        return -EBADF;
    rc = change();
    if (rc < 0)
        return rc;
    times_set(d->inode, times);
    return 0;
}

static const struct keel_disk operations = {
    .openat2 = op_openat2,
    .close = op_close,
    .pread = op_pread,
    .pwrite = op_pwrite,
    .fsync = op_fsync,
    .fdatasync = op_fdatasync,
    .syncfs = op_syncfs,
    .fallocate = op_fallocate,
    .ftruncate = op_ftruncate,
    .statx = op_statx,
    .statfs = op_statfs,
    .renameat2 = op_renameat2,
    .linkat = op_linkat,
    .linkfd = op_linkfd,
    .unlinkat = op_unlinkat,
    .mkdirat = op_mkdirat,
    .getdents = op_getdents,
    .flock = op_flock,
    .fchmod = op_fchmod,
    .futimens = op_futimens,
    .symlinkat = op_symlinkat,
    .readlinkat = op_readlinkat,
    .utimensat = op_utimensat,
};

/* ---- for the test -------------------------------------------------------- */

static void forget_orders(void)
{
    disk.crash_in = disk.fail_sync_in = 0;
    disk.crashed = false;
}

/* Another state in place of the present one, and nobody has it open. */
static void replace(struct state *s)
{
    if (disk.state)
        fds_close();
    state_free(disk.state);
    disk.state = s;
    disk.reboots++;
    forget_orders();
}

void test_disk_install(uint64_t size_bytes)
{
    hold_disk();
    replace(state_new(size_bytes, tick()));
    disk.ops = 0;
    disk.lie[0] = 0;
    if (keel_seam.disk != &operations)
        disk.before = keel_seam.disk;
    keel_seam.disk = &operations;
}

void test_disk_remove(void)
{
    hold_disk();
    replace(NULL);
    disk.lie[0] = 0;
    if (keel_seam.disk == &operations)
        keel_seam.disk = disk.before;
}

void test_disk_crash_at(unsigned nth)
{
    hold_disk();
    disk.crash_in = nth;
}

bool test_disk_crashed(void)
{
    hold_disk();
    return disk.crashed;
}

unsigned test_disk_ops(void)
{
    hold_disk();
    return disk.ops;
}

void test_disk_fail_sync(unsigned nth)
{
    hold_disk();
    disk.fail_sync_in = nth;
}

void test_disk_reboot(uint64_t seed)
{
    hold_disk();
    keel_assert(disk.state);
    fds_close();
    disk.reboots++;
    disk.ops = 0;
    forget_orders();
    if (seed != TEST_DISK_KEEP_ALL)
        state_crash(disk.state, seed, seed == TEST_DISK_KEEP_NONE);
}

void test_disk_lie(const char *sync, const char *path_part)
{
    hold_disk();
    snprintf(disk.lie, sizeof disk.lie, "%s", sync ? sync : "");
    disk.lie_some = path_part != NULL;
    snprintf(disk.lie_path, sizeof disk.lie_path, "%s",
             path_part ? path_part : "");
}

static void print_name(int fd, const struct name *n)
{
    const struct state *s = disk.state;
    const struct inode *dir = state_inode(s, n->dir);
    const struct inode *i = state_inode(s, name_inode(n));
    char path[4096];

    state_path(s, dir, path);
    if (i)
        dprintf(fd, "%s/%s inode %u, %llu bytes (%llu synced), %u links%s%s\n",
                path, n->text, i->number, (unsigned long long)i->size,
                (unsigned long long)i->safe_size, i->nlink,
                i->dirty_from < i->dirty_to ? ", data not synced" : "",
                n->count > 1 ? ", name not synced" : "");
    else if (n->count > 1)
        dprintf(fd, "%s/%s removed, not synced\n", path, n->text);
}

void test_disk_print(int fd)
{
    hold_disk();
    for (size_t k = 0; disk.state && k < disk.state->names; k++)
        if (disk.state->name[k])
            print_name(fd, disk.state->name[k]);
}

struct test_disk_image {
    struct state *state;
};

struct test_disk_image *test_disk_save(void)
{
    struct test_disk_image *image = malloc(sizeof *image);

    keel_assert(image);
    hold_disk();
    keel_assert(disk.state);
    image->state = state_copy(disk.state);
    return image;
}

void test_disk_load(const struct test_disk_image *image)
{
    hold_disk();
    keel_assert(disk.state);
    replace(state_copy(image->state));
}

void test_disk_image_free(struct test_disk_image *image)
{
    hold_disk();
    if (image)
        state_free(image->state);
    free(image);
}
