/* SPDX-License-Identifier: MIT */
/* A SOCK_SEQPACKET pair: the kernel keeps messages whole, whoever is killed. */
#include <keel/pipe.h>

#include <errno.h>
#include <fcntl.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

#include <keel/io.h>
#include "loop/worker.h"

struct keel_pipe {
    int fd;
};

static int wrap(int fd, struct keel_pipe **ret)
{
    struct keel_pipe *p = keel_alloc(sizeof(*p));
    int rc;

    if (!p)
        return -ENOMEM;
    rc = keel_fd_adopt(fd);
    if (rc < 0) {
        keel_free(p);
        return rc;
    }
    p->fd = fd;
    *ret = p;
    return 0;
}

int keel_pipe_open(int fd, struct keel_pipe **ret)
{
    int type = 0;
    socklen_t size = sizeof(type);

    if (getsockopt(fd, SOL_SOCKET, SO_TYPE, &type, &size) < 0)
        return errno == EBADF ? -EBADF : -EINVAL;
    return type == SOCK_SEQPACKET ? wrap(fd, ret) : -EINVAL;
}

int keel_pipe_new(struct keel_pipe **ret_a, struct keel_pipe **ret_b)
{
    keel_auto(pipe) struct keel_pipe *a = NULL;
    /* Twice the longest: each is counted with the kernel's own. */
    const int room = 4 * KEEL_PIPE_MESSAGE_MOST;
    int pair[2], rc;

    if (worker_is_simulated())
        return -EOPNOTSUPP;
    if (socketpair(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC, 0, pair) < 0)
        return -errno;
    for (int i = 0; i < 2; i++)
        (void)setsockopt(pair[i], SOL_SOCKET, SO_SNDBUF, &room, sizeof(room));
    rc = wrap(pair[0], &a);
    if (rc < 0) {
        (void)close(pair[0]);
        (void)close(pair[1]);
        return rc;
    }
    rc = wrap(pair[1], ret_b);
    if (rc < 0) {
        (void)close(pair[1]);
        return rc;
    }
    *ret_a = keel_take(a);
    return 0;
}

void keel_pipe_free(struct keel_pipe *p)
{
    if (!p)
        return;
    keel_fd_close(p->fd);
    keel_free(p);
}

int keel_pipe_fd(const struct keel_pipe *p)
{
    return p->fd;
}

/* ---- put ---- */

int keel_pipe_put_fds(struct keel_pipe *p, const void *data, size_t size,
                      const int *fds, size_t fd_count, keel_ns deadline)
{
    ssize_t rc;

    if (size < 1 || size > KEEL_PIPE_MESSAGE_MOST ||
        fd_count > KEEL_PIPE_FDS_MOST)
        return -EMSGSIZE;
    rc = keel_fd_send_fds(p->fd, data, size, fds, fd_count, deadline);
    if (rc == -ECONNRESET)
        return -EPIPE;
    return rc < 0 ? (int)rc : 0;
}

int keel_pipe_put(struct keel_pipe *p, const void *data, size_t size,
                  keel_ns deadline)
{
    return keel_pipe_put_fds(p, data, size, NULL, 0, deadline);
}

/* ---- get ---- */

/* How long the next message is.  Several may get: the one that it was said of
 * may be another's by then. */
static ssize_t next_size(struct keel_pipe *p, keel_ns deadline)
{
    char c;
    struct iovec part = {&c, 1};
    struct msghdr m = {.msg_iov = &part, .msg_iovlen = 1};

    return keel_fd_recvmsg(p->fd, &m, MSG_PEEK | MSG_TRUNC, deadline);
}

int keel_pipe_get_fds(struct keel_pipe *p, void *buf, size_t room, int *ret_fds,
                      keel_ns deadline, size_t *ret_size, size_t *ret_fd_count)
{
    int fds[KEEL_PIPE_FDS_MOST];
    size_t count;
    ssize_t rc;

    if (room < KEEL_PIPE_MESSAGE_MOST) {
        rc = next_size(p, deadline);
        if (rc > 0 && (size_t)rc > room)
            return -EMSGSIZE;
        if (rc < 0)
            return rc == -ECONNRESET ? -EPIPE : (int)rc;
    }
    rc = keel_fd_recv_fds(p->fd, buf, room, fds, KEEL_PIPE_FDS_MOST, deadline,
                          &count);
    if (rc == 0 || rc == -ECONNRESET)
        return -EPIPE;
    if (rc < 0) /* no end of a pipe sends too many */
        return rc == -E2BIG ? -EMFILE : (int)rc;
    memcpy(ret_fds, fds, count * sizeof(int));
    *ret_size = (size_t)rc;
    *ret_fd_count = count;
    return 0;
}

int keel_pipe_get(struct keel_pipe *p, void *buf, size_t room, keel_ns deadline,
                  size_t *ret_size)
{
    int fds[KEEL_PIPE_FDS_MOST];
    size_t count = 0;
    int rc = keel_pipe_get_fds(p, buf, room, fds, deadline, ret_size, &count);

    if (rc < 0)
        return rc;
    for (size_t i = 0; i < count; i++)
        (void)close(fds[i]);
    return 0;
}
