/* SPDX-License-Identifier: MIT */
/* In front of the disk in memory: the time that an operation takes, and the
 * loss of power. */
#include <errno.h>
#include <fcntl.h>

#include "disk.h"
#include "sim_inside.h"

static struct {
    const struct keel_disk *disk;
    bool cut, told;
} f;

/* False: there is no power. */
static bool begin(const char *what, const char *of)
{
    if (fiber_self())
        (void)fiber_wait("disk",
                         world.now + draw_span(BY_DISK, world.how.disk_least,
                                               world.how.disk_most));
    trace("%s %s", what, of);
    return !f.cut;
}

static void end(void)
{
    if (f.told || !(f.cut || test_disk_crashed()))
        return;
    f.told = true;
    world.result.crashes++;
    trace("the power is cut");
    net_reset_all();
}

#define DO(what, of, call)                                                     \
    do {                                                                       \
        ssize_t rc_ = begin(what, of) ? (call) : -EIO;                         \
                                                                               \
        end();                                                                 \
        return (__typeof__(call))rc_;                                          \
    } while (0)

static int f_openat2(int dir, const char *path, const struct open_how *how)
{
    DO("open", path, f.disk->openat2(dir, path, how));
}

static int f_close(int fd)
{
    trace("close");
    return f.disk->close(fd); /* takes no time, and never fails */
}

static ssize_t f_pread(int fd, void *buf, size_t size, uint64_t at)
{
    DO("read", "", f.disk->pread(fd, buf, size, at));
}

static ssize_t f_pwrite(int fd, const void *buf, size_t size, uint64_t at)
{
    DO("write", "", f.disk->pwrite(fd, buf, size, at));
}

static int f_fsync(int fd)
{
    DO("fsync", "", f.disk->fsync(fd));
}

static int f_fdatasync(int fd)
{
    DO("fdatasync", "", f.disk->fdatasync(fd));
}

static int f_syncfs(int fd)
{
    DO("syncfs", "", f.disk->syncfs(fd));
}

static int f_fallocate(int fd, int mode, uint64_t at, uint64_t size)
{
    DO("fallocate", "", f.disk->fallocate(fd, mode, at, size));
}

static int f_ftruncate(int fd, uint64_t size)
{
    DO("ftruncate", "", f.disk->ftruncate(fd, size));
}

static int f_statx(int dir, const char *path, int flags, unsigned mask,
                   struct statx *ret)
{
    DO("statx", path, f.disk->statx(dir, path, flags, mask, ret));
}

static int f_statfs(int fd, struct statfs *ret)
{
    DO("statfs", "", f.disk->statfs(fd, ret));
}

static int f_renameat2(int from_dir, const char *from, int to_dir,
                       const char *to, unsigned flags)
{
    DO("rename to", to, f.disk->renameat2(from_dir, from, to_dir, to, flags));
}

static int f_linkat(int from_dir, const char *from, int to_dir, const char *to)
{
    DO("link", to, f.disk->linkat(from_dir, from, to_dir, to));
}

static int f_linkfd(int fd, int to_dir, const char *to)
{
    DO("link", to, f.disk->linkfd(fd, to_dir, to));
}

static int f_unlinkat(int dir, const char *path, int flags)
{
    DO("unlink", path, f.disk->unlinkat(dir, path, flags));
}

static int f_mkdirat(int dir, const char *path, mode_t mode)
{
    DO("mkdir", path, f.disk->mkdirat(dir, path, mode));
}

static ssize_t f_getdents(int fd, void *buf, size_t size)
{
    DO("list", "", f.disk->getdents(fd, buf, size));
}

static int f_flock(int fd, int operation)
{
    DO("flock", "", f.disk->flock(fd, operation));
}

static int f_fchmod(int fd, mode_t mode)
{
    DO("chmod", "", f.disk->fchmod(fd, mode));
}

static int f_futimens(int fd, const struct timespec times[2])
{
    DO("utimens", "", f.disk->futimens(fd, times));
}

static int f_symlinkat(const char *target, int dir, const char *path)
{
    DO("symlink", path, f.disk->symlinkat(target, dir, path));
}

static ssize_t f_readlinkat(int dir, const char *path, char *buf, size_t size)
{
    DO("readlink", path, f.disk->readlinkat(dir, path, buf, size));
}

static int f_utimensat(int dir, const char *path,
                       const struct timespec times[2])
{
    DO("utimens", path, f.disk->utimensat(dir, path, times));
}

static const struct keel_disk front = {
    .openat2 = f_openat2,
    .close = f_close,
    .pread = f_pread,
    .pwrite = f_pwrite,
    .fsync = f_fsync,
    .fdatasync = f_fdatasync,
    .syncfs = f_syncfs,
    .fallocate = f_fallocate,
    .ftruncate = f_ftruncate,
    .statx = f_statx,
    .statfs = f_statfs,
    .renameat2 = f_renameat2,
    .linkat = f_linkat,
    .linkfd = f_linkfd,
    .unlinkat = f_unlinkat,
    .mkdirat = f_mkdirat,
    .getdents = f_getdents,
    .flock = f_flock,
    .fchmod = f_fchmod,
    .futimens = f_futimens,
    .symlinkat = f_symlinkat,
    .readlinkat = f_readlinkat,
    .utimensat = f_utimensat,
};

/* ---- power ---- */

static void order(void)
{
    f.cut = f.told = false;
    test_disk_crash_at(world.how.crash_within && !world.calm
                           ? 1 + (unsigned)draw(BY_DISK, world.how.crash_within)
                           : 0);
}

void keel_sim_crash(void)
{
    keel_assert(world.runs);
    f.cut = true;
    end();
}

bool keel_sim_crashed(void)
{
    keel_assert(world.runs);
    return f.told;
}

void keel_sim_reboot(void)
{
    keel_assert(world.runs);
    test_disk_reboot(draw(BY_DISK, UINT64_C(1) << 62));
    trace("reboot");
    order();
}

void files_open(void)
{
    test_disk_install(world.how.disk_bytes);
    f.disk = keel_seam.disk;
    keel_seam.disk = &front;
    order();
}

void files_close(void)
{
    keel_seam.disk = f.disk;
    test_disk_remove();
}
