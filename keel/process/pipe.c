/* SPDX-License-Identifier: MIT */
/* A SOCK_SEQPACKET pair: the kernel keeps messages whole, whoever is killed. */
#include <keel/pipe.h>

#include <errno.h>
#include <fcntl.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

#include <keel/io.h>

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
    _Alignas(struct cmsghdr) char
        room[CMSG_SPACE(sizeof(int) * KEEL_PIPE_FDS_MOST)] = {0};
    struct iovec part = {(void *)(uintptr_t)data, size};
    struct msghdr m = {.msg_iov = &part, .msg_iovlen = 1};
    ssize_t rc;

    if (size < 1 || size > KEEL_PIPE_MESSAGE_MOST ||
        fd_count > KEEL_PIPE_FDS_MOST)
        return -EMSGSIZE;
    if (fd_count > 0) {
        struct cmsghdr *c;

        m.msg_control = room;
        m.msg_controllen = CMSG_SPACE(sizeof(int) * fd_count);
        c = CMSG_FIRSTHDR(&m);
        c->cmsg_len = CMSG_LEN(sizeof(int) * fd_count);
        c->cmsg_level = SOL_SOCKET;
        c->cmsg_type = SCM_RIGHTS;
        memcpy(CMSG_DATA(c), fds, sizeof(int) * fd_count);
    }
    rc = keel_fd_sendmsg(p->fd, &m, MSG_NOSIGNAL, deadline);
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

static size_t take_fds(struct msghdr *m, int *fds)
{
    size_t count = 0;

    for (struct cmsghdr *c = CMSG_FIRSTHDR(m); c; c = CMSG_NXTHDR(m, c)) {
        size_t n = (c->cmsg_len - CMSG_LEN(0)) / sizeof(int);

        if (c->cmsg_level != SOL_SOCKET || c->cmsg_type != SCM_RIGHTS ||
            n > KEEL_PIPE_FDS_MOST - count)
            continue;
        memcpy(fds + count, CMSG_DATA(c), n * sizeof(int));
        count += n;
    }
    return count;
}

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
    _Alignas(struct cmsghdr) char
        control[CMSG_SPACE(sizeof(int) * KEEL_PIPE_FDS_MOST)];
    struct iovec part = {buf, room};
    struct msghdr m = {.msg_iov = &part,
                       .msg_iovlen = 1,
                       .msg_control = control,
                       .msg_controllen = sizeof(control)};
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
    rc = keel_fd_recvmsg(p->fd, &m, MSG_CMSG_CLOEXEC, deadline);
    if (rc <= 0)
        return rc == 0 || rc == -ECONNRESET ? -EPIPE : (int)rc;
    count = take_fds(&m, fds);
    if (m.msg_flags & (MSG_CTRUNC | MSG_TRUNC)) {
        for (size_t i = 0; i < count; i++)
            (void)close(fds[i]);
        return m.msg_flags & MSG_CTRUNC ? -EMFILE : -EMSGSIZE;
    }
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
