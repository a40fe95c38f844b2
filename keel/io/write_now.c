/* SPDX-License-Identifier: MIT */
#include <keel/io.h>

#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <sys/stat.h>
#include <unistd.h>

#include <keel/seam.h>

#include "loop/sched.h"

ssize_t keel_fd_write_now(int fd, const void *buf, size_t size)
{
    struct iovec v = {.iov_base = (void *)buf, .iov_len = size};
    struct pollfd p = {.fd = fd, .events = POLLOUT};
    struct stat st;
    ssize_t n;

    n = keel_seam_enter(KEEL_OP_SEND, &v.iov_len);
    if (n < 0)
        return n;
    ignore_sigpipe();
    n = send(fd, buf, v.iov_len, MSG_DONTWAIT | MSG_NOSIGNAL);
    if (n >= 0)
        return n;
    if (errno != ENOTSOCK)
        return -errno;

    /* A pipe, from Linux 6.5 on.  What does not know the flag (a terminal, a
     * file through the page cache) says so. */
    n = pwritev2(fd, &v, 1, -1, RWF_NOWAIT);
    if (n >= 0)
        return n;
    if (errno == EAGAIN && fstat(fd, &st) == 0 && S_ISREG(st.st_mode)) {
        /* Some file systems (xfs, btrfs) say so of a file that must grow. */
    } else if (errno != EOPNOTSUPP && errno != EINVAL && errno != ENOSYS) {
        return -errno;
    }

    n = poll(&p, 1, 0);
    if (n < 0)
        return -errno;
    if (n == 0)
        return -EAGAIN;
    n = write(fd, buf, v.iov_len);
    return n >= 0 ? n : -errno;
}

int keel_fd_replace(int fd, int over)
{
    if (dup3(fd, over, O_CLOEXEC) < 0)
        return -errno;
    close(fd);
    return 0;
}
