/* SPDX-License-Identifier: MIT */
/* The kernel's sockets. */
#include <keel/seam.h>

#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <sys/eventfd.h>
#include <sys/socket.h>
#include <unistd.h>

static int code(int rc)
{
    return rc < 0 ? -errno : rc;
}

static int real_socket(int family, int type, int protocol)
{
    return code(socket(family, type | SOCK_NONBLOCK | SOCK_CLOEXEC, protocol));
}

static int real_bind(int fd, const struct sockaddr *addr, unsigned size)
{
    return code(bind(fd, addr, size));
}

static int real_listen(int fd, int backlog)
{
    return code(listen(fd, backlog));
}

static int real_connect(int fd, const struct sockaddr *addr, unsigned size)
{
    return code(connect(fd, addr, size));
}

static int real_accept(int fd, struct sockaddr *addr, unsigned *size)
{
    return code(accept4(fd, addr, size, SOCK_NONBLOCK | SOCK_CLOEXEC));
}

static ssize_t real_recv(int fd, void *buf, size_t size)
{
    ssize_t rc = recv(fd, buf, size, MSG_DONTWAIT);

    if (rc < 0 && errno == ENOTSOCK)
        rc = read(fd, buf, size);
    return rc < 0 ? -errno : rc;
}

static ssize_t real_send(int fd, const void *buf, size_t size)
{
    ssize_t rc = send(fd, buf, size, MSG_DONTWAIT | MSG_NOSIGNAL);

    if (rc < 0 && errno == ENOTSOCK)
        rc = write(fd, buf, size);
    return rc < 0 ? -errno : rc;
}

static ssize_t real_recvmsg(int fd, struct msghdr *msg, int flags)
{
    ssize_t rc = recvmsg(fd, msg, flags | MSG_DONTWAIT);

    return rc < 0 ? -errno : rc;
}

static ssize_t real_sendmsg(int fd, const struct msghdr *msg, int flags)
{
    ssize_t rc = sendmsg(fd, msg, flags | MSG_DONTWAIT | MSG_NOSIGNAL);

    return rc < 0 ? -errno : rc;
}

static int real_shutdown(int fd, int how)
{
    return code(shutdown(fd, how));
}

static int real_getsockopt(int fd, int level, int name, void *value,
                           unsigned *size)
{
    return code(getsockopt(fd, level, name, value, size));
}

static int real_setsockopt(int fd, int level, int name, const void *value,
                           unsigned size)
{
    return code(setsockopt(fd, level, name, value, size));
}

static int real_getsockname(int fd, struct sockaddr *addr, unsigned *size)
{
    return code(getsockname(fd, addr, size));
}

static int real_getpeername(int fd, struct sockaddr *addr, unsigned *size)
{
    return code(getpeername(fd, addr, size));
}

static int real_poll(struct pollfd *fds, unsigned count, keel_ns deadline)
{
    struct timespec ts;
    keel_ns span = 0;

    if (deadline == KEEL_FOREVER)
        return code(ppoll(fds, count, NULL, NULL));
    if (deadline != KEEL_NOW)
        span = deadline - keel_seam.now();
    if (span < 0)
        span = 0;
    ts.tv_sec = span / KEEL_SECOND;
    ts.tv_nsec = span % KEEL_SECOND;
    return code(ppoll(fds, count, &ts, NULL));
}

static int real_eventfd(void)
{
    return code(eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK));
}

static int real_close(int fd)
{
    return code(close(fd));
}

static int real_adopt(int fd)
{
    int flags = fcntl(fd, F_GETFL);

    if (flags < 0 ||
        (!(flags & O_NONBLOCK) && fcntl(fd, F_SETFL, flags | O_NONBLOCK) < 0))
        return -errno;
    flags = fcntl(fd, F_GETFD);
    if (flags < 0 ||
        (!(flags & FD_CLOEXEC) && fcntl(fd, F_SETFD, flags | FD_CLOEXEC) < 0))
        return -errno;
    return 0;
}

const struct keel_net keel_net_real = {
    .socket = real_socket,
    .bind = real_bind,
    .listen = real_listen,
    .connect = real_connect,
    .accept = real_accept,
    .recv = real_recv,
    .send = real_send,
    .recvmsg = real_recvmsg,
    .sendmsg = real_sendmsg,
    .shutdown = real_shutdown,
    .getsockopt = real_getsockopt,
    .setsockopt = real_setsockopt,
    .getsockname = real_getsockname,
    .getpeername = real_getpeername,
    .poll = real_poll,
    .eventfd = real_eventfd,
    .close = real_close,
    .adopt = real_adopt,
    .kernel = true,
};
