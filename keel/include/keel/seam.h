/* SPDX-License-Identifier: MIT */
/* The seam: the only way in which keel, and all that stands on it, reaches the
 * world.  Programs do not call it; tests put their own clock, randomness, disk
 * and faults behind it.
 *
 * The network's transfers are behind the pollers (io_uring, epoll), which ask
 * the same fault hook before each operation, so that one test runs on both.
 * <keel/sim.h> puts a whole simulated world behind all of it. */
#ifndef KEEL_SEAM_H
#define KEEL_SEAM_H

#include <linux/openat2.h>
#include <sys/stat.h>
#include <sys/statfs.h>
#include <time.h>

#include <keel/base.h>

struct statx; /* <sys/stat.h> hides it without _GNU_SOURCE */

/* The kinds of operation, for the fault hook and for counters. */
enum keel_op {
    KEEL_OP_ALLOC,
    KEEL_OP_OPEN,
    KEEL_OP_READ, /* files: pread */
    KEEL_OP_WRITE,
    KEEL_OP_SYNC,    /* fsync, fdatasync, syncfs */
    KEEL_OP_RESERVE, /* fallocate, ftruncate */
    KEEL_OP_STAT,
    KEEL_OP_RENAME,
    KEEL_OP_LINK,
    KEEL_OP_UNLINK,
    KEEL_OP_MKDIR,
    KEEL_OP_LIST,
    KEEL_OP_LOCK,
    KEEL_OP_MODE,   /* fchmod, futimens, utimensat */
    KEEL_OP_SOCKET, /* socket, bind, listen, setsockopt */
    KEEL_OP_ACCEPT,
    KEEL_OP_CONNECT,
    KEEL_OP_RECV, /* sockets and pipes */
    KEEL_OP_SEND,
    KEEL_OP_SHUTDOWN,
    KEEL_OP_POLL,
    KEEL_OP_THREAD,
    KEEL_OP_PROCESS,
    KEEL_OP_COUNT
};
KEEL_API const char *keel_op_name(enum keel_op op);

/* Files, as the system calls of the same names, except that they return a
 * negative errno.  They block and know nothing of coroutines: <keel/file.h>
 * is what programs call.  A descriptor of a test disk is a number of its own,
 * far above the kernel's. */
struct keel_disk {
    int (*openat2)(int dir, const char *path, const struct open_how *how);
    int (*close)(int fd);
    ssize_t (*pread)(int fd, void *buf, size_t size, uint64_t at);
    ssize_t (*pwrite)(int fd, const void *buf, size_t size, uint64_t at);
    int (*fsync)(int fd);
    int (*fdatasync)(int fd);
    int (*syncfs)(int fd);
    int (*fallocate)(int fd, int mode, uint64_t at, uint64_t size);
    int (*ftruncate)(int fd, uint64_t size);
    /* path "" with AT_EMPTY_PATH: the descriptor itself */
    int (*statx)(int dir, const char *path, int flags, unsigned mask,
                 struct statx *ret);
    int (*statfs)(int fd, struct statfs *ret);
    int (*renameat2)(int from_dir, const char *from, int to_dir, const char *to,
                     unsigned flags);
    int (*linkat)(int from_dir, const char *from, int to_dir, const char *to);
    /* Gives a name to an O_TMPFILE. */
    int (*linkfd)(int fd, int to_dir, const char *to);
    int (*unlinkat)(int dir, const char *path, int flags);
    int (*mkdirat)(int dir, const char *path, mode_t mode);
    /* As getdents64(2): records of struct linux_dirent64, 0 at the end. */
    ssize_t (*getdents)(int fd, void *buf, size_t size);
    int (*flock)(int fd, int operation);
    int (*fchmod)(int fd, mode_t mode);
    int (*futimens)(int fd, const struct timespec times[2]);
    int (*symlinkat)(const char *target, int dir, const char *path);
    ssize_t (*readlinkat)(int dir, const char *path, char *buf, size_t size);
    /* with AT_SYMLINK_NOFOLLOW */
    int (*utimensat)(int dir, const char *path, const struct timespec times[2]);
};

struct sockaddr;
struct msghdr;
struct pollfd;

/* Sockets, as the system calls of the same names, except that they return a
 * negative errno and never wait (-EAGAIN), `poll` excepted.  The pollers call
 * the kernel themselves while `keel_seam.net` is `&keel_net_real`.  The
 * descriptors of a simulated network are numbers of its own, far above the
 * kernel's; what it is given of the kernel's it passes on. */
struct keel_net {
    int (*socket)(int family, int type, int protocol);
    int (*bind)(int fd, const struct sockaddr *addr, unsigned size);
    int (*listen)(int fd, int backlog);
    int (*connect)(int fd, const struct sockaddr *addr, unsigned size);
    int (*accept)(int fd, struct sockaddr *addr, unsigned *size);
    /* of sockets, and as read and write of anything else */
    ssize_t (*recv)(int fd, void *buf, size_t size);
    ssize_t (*send)(int fd, const void *buf, size_t size);
    ssize_t (*recvmsg)(int fd, struct msghdr *msg, int flags);
    ssize_t (*sendmsg)(int fd, const struct msghdr *msg, int flags);
    int (*shutdown)(int fd, int how);
    int (*getsockopt)(int fd, int level, int name, void *value, unsigned *size);
    int (*setsockopt)(int fd, int level, int name, const void *value,
                      unsigned size);
    int (*getsockname)(int fd, struct sockaddr *addr, unsigned *size);
    int (*getpeername)(int fd, struct sockaddr *addr, unsigned *size);
    /* As ppoll until `deadline`, in a thread. */
    int (*poll)(struct pollfd *fds, unsigned count, keel_ns deadline);
    int (*eventfd)(void);
    int (*close)(int fd);
    /* Non-blocking, closed by exec. */
    int (*adopt)(int fd);
    /* False: no names in the file system, no resolver, no credentials. */
    bool kernel;
};

struct keel_seam {
    keel_ns (*now)(void);
    int64_t (*wall_ns)(void);
    void (*random)(void *buf, size_t size);
    const struct keel_disk *disk;
    const struct keel_net *net;
    /* The disk's calls take time, as the kernel's do, though it is not the
     * kernel's: coroutines have them done on the blocking pool. */
    bool disk_waits;
    /* NULL, or asked before each operation: 0 goes on, a negative errno is the
     * operation's result without doing it.  `size` is NULL, or the bytes the
     * operation asks for, which the hook may lower (a short read or write).
     * Called from any thread. */
    int (*fault)(enum keel_op op, size_t *size);
    /* True while `now` is a virtual clock: a loop with nothing to run and no
     * completion at hand calls `advance` with its next deadline instead of
     * sleeping until it. */
    bool virtual_time;
    void (*advance)(keel_ns to);
};

/* The seam in force.  Tests change its fields before they start anything. */
KEEL_API_DATA struct keel_seam keel_seam;
/* The kernel's own disk, for a test that puts something in front of it. */
KEEL_API_DATA const struct keel_disk keel_disk_real;
KEEL_API_DATA const struct keel_net keel_net_real;

static inline bool keel_net_is_real(void)
{
    return __builtin_expect(keel_seam.net == &keel_net_real, 1);
}

/* Asks the fault hook. */
static inline int keel_seam_enter(enum keel_op op, size_t *size)
{
    return __builtin_expect(keel_seam.fault != NULL, 0)
               ? keel_seam.fault(op, size)
               : 0;
}

#endif
