/* SPDX-License-Identifier: MIT */
/* The kernel's own disk: raw system calls behind the seam's table.
 *
 * Each call asks the fault hook first, and turns errno into a return value on
 * the line after the system call, the only place where keel reads it for
 * files.  EINTR and short transfers are left to file.c, so that a test which
 * orders them exercises the code that handles the kernel's. */
#include "disk.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <sys/file.h>
#include <sys/syscall.h>
#include <unistd.h>

#include <keel/seam.h>

size_t disk_lowered(int fd, size_t asked, size_t allowed)
{
    int flags;

    if (allowed >= asked)
        return asked;
    /* A direct transfer is short by whole blocks; any other size would be
   * refused by the kernel rather than be short. */
    flags = fcntl(fd, F_GETFL);
    if (flags >= 0 && (flags & O_DIRECT)) {
        allowed &= ~(size_t)4095;
        return allowed ? allowed : asked;
    }
    return allowed;
}

static int code(long rc)
{
    return rc < 0 ? -errno : (int)rc;
}

static int disk_openat2(int dir, const char *path, const struct open_how *how)
{
    int rc = keel_seam_enter(KEEL_OP_OPEN, NULL);

    if (rc < 0)
        return rc;
    return code(syscall(SYS_openat2, dir, path, how, sizeof *how));
}

static int disk_close(int fd)
{
    return code(close(fd));
}

static ssize_t disk_pread(int fd, void *buf, size_t size, uint64_t at)
{
    size_t allowed = size;
    ssize_t rc = keel_seam_enter(KEEL_OP_READ, &allowed);

    if (rc < 0)
        return rc;
    rc = pread(fd, buf, disk_lowered(fd, size, allowed), (off_t)at);
    return rc < 0 ? -errno : rc;
}

static ssize_t disk_pwrite(int fd, const void *buf, size_t size, uint64_t at)
{
    size_t allowed = size;
    ssize_t rc = keel_seam_enter(KEEL_OP_WRITE, &allowed);

    if (rc < 0)
        return rc;
    rc = pwrite(fd, buf, disk_lowered(fd, size, allowed), (off_t)at);
    return rc < 0 ? -errno : rc;
}

static int disk_fsync(int fd)
{
    int rc = keel_seam_enter(KEEL_OP_SYNC, NULL);

    return rc < 0 ? rc : code(fsync(fd));
}

static int disk_fdatasync(int fd)
{
    int rc = keel_seam_enter(KEEL_OP_SYNC, NULL);

    return rc < 0 ? rc : code(fdatasync(fd));
}

static int disk_syncfs(int fd)
{
    int rc = keel_seam_enter(KEEL_OP_SYNC, NULL);

    return rc < 0 ? rc : code(syncfs(fd));
}

static int disk_fallocate(int fd, int mode, uint64_t at, uint64_t size)
{
    int rc = keel_seam_enter(KEEL_OP_RESERVE, NULL);

    return rc < 0 ? rc : code(fallocate(fd, mode, (off_t)at, (off_t)size));
}

static int disk_ftruncate(int fd, uint64_t size)
{
    int rc = keel_seam_enter(KEEL_OP_RESERVE, NULL);

    return rc < 0 ? rc : code(ftruncate(fd, (off_t)size));
}

static int disk_statx(int dir, const char *path, int flags, unsigned mask,
                      struct statx *ret)
{
    int rc = keel_seam_enter(KEEL_OP_STAT, NULL);

    return rc < 0 ? rc : code(statx(dir, path, flags, mask, ret));
}

static int disk_statfs(int fd, struct statfs *ret)
{
    int rc = keel_seam_enter(KEEL_OP_STAT, NULL);

    return rc < 0 ? rc : code(fstatfs(fd, ret));
}

static int disk_renameat2(int from_dir, const char *from, int to_dir,
                          const char *to, unsigned flags)
{
    int rc = keel_seam_enter(KEEL_OP_RENAME, NULL);

    return rc < 0 ? rc : code(renameat2(from_dir, from, to_dir, to, flags));
}

static int disk_linkat(int from_dir, const char *from, int to_dir,
                       const char *to)
{
    int rc = keel_seam_enter(KEEL_OP_LINK, NULL);

    return rc < 0 ? rc : code(linkat(from_dir, from, to_dir, to, 0));
}

static int disk_linkfd(int fd, int to_dir, const char *to)
{
    char path[32];
    int rc = keel_seam_enter(KEEL_OP_LINK, NULL);

    if (rc < 0)
        return rc;
    rc = code(linkat(fd, "", to_dir, to, AT_EMPTY_PATH));
    if (rc != -ENOENT)
        return rc;
    /* Kernels before 6.10 answer so without CAP_DAC_READ_SEARCH; through
   * /proc everybody may. */
    (void)snprintf(path, sizeof path, "/proc/self/fd/%d", fd);
    return code(linkat(AT_FDCWD, path, to_dir, to, AT_SYMLINK_FOLLOW));
}

static int disk_unlinkat(int dir, const char *path, int flags)
{
    int rc = keel_seam_enter(KEEL_OP_UNLINK, NULL);

    return rc < 0 ? rc : code(unlinkat(dir, path, flags));
}

static int disk_mkdirat(int dir, const char *path, mode_t mode)
{
    int rc = keel_seam_enter(KEEL_OP_MKDIR, NULL);

    return rc < 0 ? rc : code(mkdirat(dir, path, mode));
}

static ssize_t disk_getdents(int fd, void *buf, size_t size)
{
    ssize_t rc = keel_seam_enter(KEEL_OP_LIST, NULL);

    if (rc < 0)
        return rc;
    rc = syscall(SYS_getdents64, fd, buf, size);
    return rc < 0 ? -errno : rc;
}

static int disk_flock(int fd, int operation)
{
    int rc = keel_seam_enter(KEEL_OP_LOCK, NULL);

    return rc < 0 ? rc : code(flock(fd, operation));
}

static int disk_fchmod(int fd, mode_t mode)
{
    int rc = keel_seam_enter(KEEL_OP_MODE, NULL);

    return rc < 0 ? rc : code(fchmod(fd, mode));
}

static int disk_futimens(int fd, const struct timespec times[2])
{
    int rc = keel_seam_enter(KEEL_OP_MODE, NULL);

    return rc < 0 ? rc : code(futimens(fd, times));
}

static int disk_symlinkat(const char *target, int dir, const char *path)
{
    int rc = keel_seam_enter(KEEL_OP_LINK, NULL);

    return rc < 0 ? rc : code(symlinkat(target, dir, path));
}

static ssize_t disk_readlinkat(int dir, const char *path, char *buf,
                               size_t size)
{
    ssize_t rc = keel_seam_enter(KEEL_OP_STAT, NULL);

    if (rc < 0)
        return rc;
    rc = readlinkat(dir, path, buf, size);
    return rc < 0 ? -errno : rc;
}

static int disk_utimensat(int dir, const char *path,
                          const struct timespec times[2])
{
    int rc = keel_seam_enter(KEEL_OP_MODE, NULL);

    return rc < 0 ? rc : code(utimensat(dir, path, times, AT_SYMLINK_NOFOLLOW));
}

const struct keel_disk keel_disk_real = {
    .openat2 = disk_openat2,
    .close = disk_close,
    .pread = disk_pread,
    .pwrite = disk_pwrite,
    .fsync = disk_fsync,
    .fdatasync = disk_fdatasync,
    .syncfs = disk_syncfs,
    .fallocate = disk_fallocate,
    .ftruncate = disk_ftruncate,
    .statx = disk_statx,
    .statfs = disk_statfs,
    .renameat2 = disk_renameat2,
    .linkat = disk_linkat,
    .linkfd = disk_linkfd,
    .unlinkat = disk_unlinkat,
    .mkdirat = disk_mkdirat,
    .getdents = disk_getdents,
    .flock = disk_flock,
    .fchmod = disk_fchmod,
    .futimens = disk_futimens,
    .symlinkat = disk_symlinkat,
    .readlinkat = disk_readlinkat,
    .utimensat = disk_utimensat,
};
