/* SPDX-License-Identifier: MIT */
/* Files and directories, from coroutines and threads alike.
 *
 * The calls are the kernel's, through the seam's disk, with EINTR and short
 * transfers handled here.  In a coroutine a call goes to io_uring where that
 * knows it, else to the blocking pool: a slow disk never stalls the loop.  On
 * a pool thread, or in any plain thread, it blocks.  On a test disk it is
 * answered at once.
 *
 * File operations have no deadline and are not cancelled half way: the kernel
 * could not take them back.  A pending cancel shows at the next wait that can
 * be cancelled.
 *
 * Paths are opened beneath a directory, in the sense of openat2(2):
 * keel_file_open resolves with RESOLVE_BENEATH | RESOLVE_NO_MAGICLINKS |
 * RESOLVE_NO_SYMLINKS; what leads out is -EXDEV, a symbolic link -ELOOP. */
#ifndef KEEL_FILE_H
#define KEEL_FILE_H

#include <fcntl.h>
#include <sys/stat.h>
#include <sys/statfs.h>

#include <keel/base.h>

struct statx; /* <sys/stat.h> hides it without _GNU_SOURCE */

/* Opens `path` beneath `dir`; O_CLOEXEC is added.  `path` is relative and
 * may have several components.  Returns a descriptor. */
KEEL_API int keel_file_open(int dir, const char *path, int flags, mode_t mode);
/* Opens a place the operator or user named: any path, links followed. */
KEEL_API int keel_file_open_any(const char *path, int flags, mode_t mode);
/* Never waits for data to reach the disk.  Accepts -1. */
KEEL_API void keel_file_close(int fd);
static inline void keel_auto_file(int *fd)
{
    keel_file_close(*fd);
}

/* All of `size` bytes, or fewer at the end of the file: returns the count. */
KEEL_API ssize_t keel_file_read(int fd, void *buf, size_t size, uint64_t at);
/* The same for what is read only once: uses what is in the page cache, but
 * leaves nothing new in it (Linux 6.14; else as keel_file_read). */
KEEL_API ssize_t keel_file_read_once(int fd, void *buf, size_t size,
                                     uint64_t at);
/* All of `size` bytes: returns 0. */
KEEL_API int keel_file_write(int fd, const void *buf, size_t size, uint64_t at);

KEEL_API int
keel_file_sync(int fd); /* data and metadata; a directory's names */
KEEL_API int keel_file_sync_data(int fd); /* fdatasync */
KEEL_API int keel_file_sync_all(int fd);  /* syncfs of its file system */

KEEL_API int keel_file_reserve(int fd, int mode, uint64_t at, uint64_t size);
KEEL_API int keel_file_truncate(int fd, uint64_t size);
/* `path` beneath `dir`, last link not followed; NULL: `dir` itself. */
KEEL_API int keel_file_stat(int dir, const char *path, struct statx *ret);
KEEL_API int keel_file_statfs(int fd, struct statfs *ret);

/* The last steps: `from` and `to` are single components (asserted: no '/'). */
KEEL_API int keel_file_rename(int from_dir, const char *from, int to_dir,
                              const char *to, unsigned flags);
KEEL_API int keel_file_link(int from_dir, const char *from, int to_dir,
                            const char *to);
KEEL_API int keel_file_link_fd(int fd, int to_dir, const char *to);
KEEL_API int keel_file_unlink(int dir, const char *name);
KEEL_API int keel_file_rmdir(int dir, const char *name);
KEEL_API int keel_file_mkdir(int dir, const char *name, mode_t mode);
KEEL_API int keel_file_symlink(const char *target, int dir, const char *name);
/* A link's text, without a NUL behind it: at most `size` bytes, cut there.
 * Returns how many. */
KEEL_API ssize_t keel_file_readlink(int dir, const char *name, char *buf,
                                    size_t size);

KEEL_API int
keel_file_lock(int fd); /* exclusive flock, never waits: -EWOULDBLOCK */
KEEL_API int keel_file_chmod(int fd, mode_t mode);
KEEL_API int keel_file_set_mtime(int fd, int64_t mtime_ns);
/* Of `name` itself: a link is not followed. */
KEEL_API int keel_file_set_mtime_at(int dir, const char *name,
                                    int64_t mtime_ns);

/* Calls `each` for every name except "." and "..", in the directory's own
 * order; a value other than 0 ends the walk and is returned.  `type` is DT_*. */
KEEL_API int keel_file_list(int dir,
                            int (*each)(const char *name, unsigned char type,
                                        void *arg),
                            void *arg);

#endif
