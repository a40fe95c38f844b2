/* SPDX-License-Identifier: MIT */
/* Preloaded into ferryd by test_log.py: while the file HANG is there, whoever
 * writes to the file LOG hangs, as on a disk that does not answer.  Never
 * installed. */
#include <dlfcn.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/uio.h>
#include <unistd.h>

static bool is_log(int fd)
{
    const char *log = getenv("LOG");
    char link[64], path[4096];
    ssize_t n;

    snprintf(link, sizeof(link), "/proc/self/fd/%d", fd);
    n = log ? readlink(link, path, sizeof(path) - 1) : -1;
    if (n < 0)
        return false;
    path[n] = '\0';
    return strcmp(path, log) == 0;
}

static void hang(int fd)
{
    const char *sign = getenv("HANG");

    if (!sign || !is_log(fd))
        return;
    while (access(sign, F_OK) == 0)
        usleep(1000);
}

/* As pwritev2 is called where files may be large. */
__attribute__((visibility("default"))) ssize_t
pwritev64v2(int fd, const struct iovec *v, int count, off64_t at, int flags)
{
    ssize_t (*next)(int, const struct iovec *, int, off64_t, int) =
        dlsym(RTLD_NEXT, "pwritev64v2");

    hang(fd);
    return next(fd, v, count, at, flags);
}
