/* SPDX-License-Identifier: MIT */
/* Descriptors as ancillary data of a unix socket.
 *
 * The kernel installs those that came before anybody can say no, so each way
 * out of receiving closes what it does not hand over. */
#include <keel/io.h>

#include <errno.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

ssize_t keel_fd_send_fds(int fd, const void *data, size_t size, const int *fds,
                         size_t count, keel_ns deadline)
{
    _Alignas(struct cmsghdr) char
        control[CMSG_SPACE(sizeof(int) * KEEL_FDS_MOST)] = {0};
    struct iovec part = {(void *)(uintptr_t)data, size}; /* only read */
    struct msghdr msg = {.msg_iov = &part, .msg_iovlen = 1};

    if (count > KEEL_FDS_MOST)
        return -E2BIG;
    if (size == 0)
        return -EINVAL;
    if (count) {
        struct cmsghdr *c;

        msg.msg_control = control;
        msg.msg_controllen = CMSG_SPACE(sizeof(int) * count);
        c = CMSG_FIRSTHDR(&msg);
        c->cmsg_level = SOL_SOCKET;
        c->cmsg_type = SCM_RIGHTS;
        c->cmsg_len = CMSG_LEN(sizeof(int) * count);
        memcpy(CMSG_DATA(c), fds, sizeof(int) * count);
    }
    return keel_fd_sendmsg(fd, &msg, 0, deadline);
}

/* Calls `fn` with each descriptor that came. */
static void each_fd(struct msghdr *msg, void (*fn)(int fd, void *arg),
                    void *arg)
{
    for (struct cmsghdr *c = CMSG_FIRSTHDR(msg); c; c = CMSG_NXTHDR(msg, c)) {
        size_t bytes = c->cmsg_len - CMSG_LEN(0);

        if (c->cmsg_level != SOL_SOCKET || c->cmsg_type != SCM_RIGHTS)
            continue;
        for (size_t at = 0; at + sizeof(int) <= bytes; at += sizeof(int)) {
            int fd;

            memcpy(&fd, CMSG_DATA(c) + at, sizeof fd);
            fn(fd, arg);
        }
    }
}

static void count_fd(int fd, void *arg)
{
    (void)fd;
    ++*(size_t *)arg;
}

static void close_fd(int fd, void *arg)
{
    (void)arg;
    (void)close(fd);
}

static void store_fd(int fd, void *arg)
{
    int **next = arg;

    *(*next)++ = fd;
}

ssize_t keel_fd_recv_fds(int fd, void *buf, size_t size, int *ret_fds,
                         size_t room, keel_ns deadline, size_t *ret_count)
{
    /* One more than anybody may send, so that too many shows as too many; the
     * rest is for who asked for credentials (SO_PASSCRED). */
    _Alignas(struct cmsghdr) char
        control[CMSG_SPACE(sizeof(int) * (KEEL_FDS_MOST + 1)) +
                CMSG_SPACE(sizeof(struct ucred))];
    struct iovec part = {buf, size};
    struct msghdr msg = {.msg_iov = &part,
                         .msg_iovlen = 1,
                         .msg_control = control,
                         .msg_controllen = sizeof control};
    size_t count = 0;
    ssize_t got;
    int rc = 0;

    keel_assert(room <= KEEL_FDS_MOST);
    got = keel_fd_recvmsg(fd, &msg, MSG_CMSG_CLOEXEC, deadline);
    if (got < 0)
        return got;
    each_fd(&msg, count_fd, &count);
    if (count > room)
        rc = -E2BIG;
    else if (msg.msg_flags & MSG_CTRUNC)
        rc = -EMFILE;
    else if (msg.msg_flags & MSG_TRUNC)
        rc = -EMSGSIZE;
    if (rc < 0) {
        each_fd(&msg, close_fd, NULL);
        return rc;
    }
    each_fd(&msg, store_fd, &ret_fds);
    *ret_count = count;
    return got;
}
