/* SPDX-License-Identifier: MIT */
/* Inside keel: what the kinds of socket share. */
#ifndef KEEL_IO_SOCKET_INSIDE_H
#define KEEL_IO_SOCKET_INSIDE_H

#include <errno.h>
#include <sys/socket.h>
#include <unistd.h>

#include <keel/io.h>
#include <keel/net.h>
#include <keel/seam.h>

/* Asks the fault hook; EINTR is no reason. */
static inline int socket_enter(enum keel_op op)
{
    int rc;

    do
        rc = keel_seam_enter(op, NULL);
    while (rc == -EINTR);
    return rc;
}

/* A new one, adopted. */
static inline int socket_new_fd(int family, int type)
{
    int rc = socket_enter(KEEL_OP_SOCKET);
    int fd;

    if (rc < 0)
        return rc;
    fd = keel_seam.net->socket(family, type, 0);
    if (fd < 0)
        return fd;
    rc = keel_fd_adopt(fd);
    if (rc < 0) {
        keel_fd_close(fd);
        return rc;
    }
    return fd;
}

/* Lent. */
int listener_fd(const struct keel_listener *l);

#endif
