/* SPDX-License-Identifier: MIT */
/* A pipe between two processes, both ways: whole messages, with descriptors.
 *
 * Each end may have several that put and several that get, in one process or,
 * by its descriptor, in several: messages stay whole.  A process that is
 * killed while it puts has put its message or not. */
#ifndef KEEL_PIPE_H
#define KEEL_PIPE_H

#include <keel/base.h>

struct keel_pipe;

enum { KEEL_PIPE_MESSAGE_MOST = 64 << 10, KEEL_PIPE_FDS_MOST = 16 };

/* Both ends: one is sent to another process, and freed here, since an end is
 * closed when nobody has it.  -EMFILE, -ENFILE, -ENOMEM */
KEEL_API int keel_pipe_new(struct keel_pipe **ret_a, struct keel_pipe **ret_b);
/* The end of another process, by its descriptor, which is taken on success.
 * -EINVAL  that is not of a pipe; -EBADF, -ENOMEM */
KEEL_API int keel_pipe_open(int fd, struct keel_pipe **ret);
KEEL_API void keel_pipe_free(struct keel_pipe *p);    /* accepts NULL */
KEEL_API int keel_pipe_fd(const struct keel_pipe *p); /* lent */

/* Sends a message of 1 to KEEL_PIPE_MESSAGE_MOST bytes; waits while the other
 * end is behind.
 * -EMSGSIZE   it is empty, or too long, or the descriptors are too many
 * -EPIPE      nobody has the other end
 * -ETIMEDOUT, -ECANCELED  nothing was sent */
KEEL_API int keel_pipe_put(struct keel_pipe *p, const void *data, size_t size,
                           keel_ns deadline);
/* With copies of descriptors; the caller's stay its own. */
KEEL_API int keel_pipe_put_fds(struct keel_pipe *p, const void *data,
                               size_t size, const int *fds, size_t fd_count,
                               keel_ns deadline);
/* The oldest message.  Descriptors that came with it are closed.
 * -EPIPE      nobody has the other end, and all that it sent was got
 * -EMSGSIZE   it is longer than `room`, and stays
 * -EMFILE     there was no room for its descriptors here; it is lost
 * -ETIMEDOUT, -ECANCELED */
KEEL_API int keel_pipe_get(struct keel_pipe *p, void *buf, size_t room,
                           keel_ns deadline, size_t *ret_size);
/* With its descriptors, close-on-exec: the caller's; `ret_fds` has room for
 * KEEL_PIPE_FDS_MOST. */
KEEL_API int keel_pipe_get_fds(struct keel_pipe *p, void *buf, size_t room,
                               int *ret_fds, keel_ns deadline, size_t *ret_size,
                               size_t *ret_fd_count);
KEEL_AUTO(pipe, struct keel_pipe *, keel_pipe_free)

#endif
