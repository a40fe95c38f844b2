/* SPDX-License-Identifier: MIT */
/* Preloaded under valgrind 3.19, which knows no openat2: does its work with
 * openat, a component at a time, so that whatever opens files can be looked at.
 * And a futex is woken unseen: who wakes a sleeper by its address may find that
 * it woke by itself and its stack is another's, which the kernel does not mind
 * (FUTEX_WAKE reads nothing) and valgrind does.
 *
 * RESOLVE_BENEATH and RESOLVE_NO_SYMLINKS are kept (keel asks for both or for
 * nothing), but an entry swapped meanwhile is not noticed: no program that is
 * not under test may run with this. */
#include <dlfcn.h>
#include <errno.h>
#include <fcntl.h>
#include <linux/futex.h>
#include <linux/openat2.h>
#include <stdarg.h>
#include <stdbool.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <unistd.h>

#if __has_include(<valgrind/valgrind.h>)
#include <valgrind/valgrind.h>
#else
#define VALGRIND_DISABLE_ERROR_REPORTING ((void)0)
#define VALGRIND_ENABLE_ERROR_REPORTING ((void)0)
#endif

#define EXPORT __attribute__((visibility("default")))

static bool is_link(int dir, const char *name)
{
    struct stat st;

    return fstatat(dir, name, &st, AT_SYMLINK_NOFOLLOW) == 0 &&
           S_ISLNK(st.st_mode);
}

/* One component that may be no link, unless the link itself is asked for.
 * `depth` is how far below the first directory `dir` is. */
static int step(int dir, const char *name, int flags, mode_t mode, int *depth)
{
    bool itself = flags & O_PATH && flags & O_NOFOLLOW;
    int fd;

    if (strcmp(name, ".") != 0)
        *depth += strcmp(name, "..") == 0 ? -1 : 1;
    if (*depth < 0) {
        errno = EXDEV;
        return -1;
    }
    fd = openat(dir, name, flags | O_NOFOLLOW, mode);
    if (fd < 0 && errno == ENOTDIR && !itself && is_link(dir, name))
        errno = ELOOP;
    if (fd >= 0 && flags & O_PATH && !itself && is_link(dir, name)) {
        close(fd);
        errno = ELOOP;
        return -1;
    }
    return fd;
}

static int beneath(int dir, const char *path, int flags, mode_t mode)
{
    char copy[8192], *rest = copy, *name;
    int at = dir, depth = 0, fd, error;

    if (*path == '/' || strlen(path) >= sizeof(copy)) {
        errno = *path == '/' ? EXDEV : ENAMETOOLONG;
        return -1;
    }
    strcpy(copy, path);
    while ((name = strsep(&rest, "/"))) {
        if (rest && !*name)
            continue;
        fd = rest && *rest
                 ? step(at, name, O_PATH | O_DIRECTORY | O_CLOEXEC, 0, &depth)
                 : step(at, name, flags, mode, &depth);
        error = errno;
        if (at != dir)
            close(at);
        errno = error;
        if (fd < 0 || !rest || !*rest)
            return fd;
        at = fd;
    }
    return at;
}

static int openat2_by_steps(int dir, const char *path,
                            const struct open_how *how)
{
    int flags = (int)how->flags;

    /* What the kernel refuses first. */
    if (how->flags >> 32 || how->mode & ~(uint64_t)07777 ||
        (how->mode && !(flags & O_CREAT) && (flags & O_TMPFILE) != O_TMPFILE)) {
        errno = EINVAL;
        return -1;
    }
    return how->resolve & RESOLVE_BENEATH
               ? beneath(dir, path, flags, (mode_t)how->mode)
               : openat(dir, path, flags, (mode_t)how->mode);
}

EXPORT long syscall(long number, ...)
{
    static long (*real)(long, ...);
    long a[6];
    va_list ap;
    bool wake;

    va_start(ap, number);
    for (int i = 0; i < 6; i++)
        a[i] = va_arg(ap, long);
    va_end(ap);
    if (number == SYS_openat2)
        return openat2_by_steps((int)a[0], (const char *)a[1],
                                (const struct open_how *)a[2]);
    if (!real)
        real = (long (*)(long, ...))dlsym(RTLD_NEXT, "syscall");
    wake = number == SYS_futex && (a[1] & FUTEX_CMD_MASK) == FUTEX_WAKE;
    if (wake)
        VALGRIND_DISABLE_ERROR_REPORTING;
    a[0] = real(number, a[0], a[1], a[2], a[3], a[4], a[5]);
    if (wake)
        VALGRIND_ENABLE_ERROR_REPORTING;
    return a[0];
}

/* Unknown to valgrind too, which says so at length each time; keel then takes
 * epoll_wait. */
EXPORT int epoll_pwait2(int fd, struct epoll_event *events, int count,
                        const struct timespec *timeout, const sigset_t *mask)
{
    (void)fd, (void)events, (void)count, (void)timeout, (void)mask;
    errno = ENOSYS;
    return -1;
}
