/* SPDX-License-Identifier: MIT */
/* Waiting on descriptors: sockets and pipes that the caller owns.
 *
 * Descriptors are non-blocking (keel_fd_adopt makes them so).  One reader and
 * one writer may wait on a descriptor at a time.  A descriptor belongs to the
 * loop that first waits on it; plain threads may use any.  Close it with
 * keel_fd_close only, on its loop: the coroutines of that loop, and the
 * threads, that wait on it get -EBADF.  Closed elsewhere it leaves a waiting
 * coroutine to its deadline.  SIGPIPE is ignored in the whole process.
 */
#ifndef KEEL_IO_H
#define KEEL_IO_H

#include <sys/socket.h>
#include <sys/uio.h>

#include <keel/base.h>

/* Sets O_NONBLOCK and FD_CLOEXEC.  Every descriptor that is read, written or
 * accepted on comes from here, or from keel_fd_accept; keel_fd_poll takes
 * foreign ones too, as a library's that closes and opens by itself.
 * -EBADF, -ENOMEM */
KEEL_API int keel_fd_adopt(int fd);
KEEL_API void keel_fd_close(int fd); /* accepts -1 */
static inline void keel_auto_fd(int *fd)
{
    keel_fd_close(*fd);
}

/* At least one byte, or 0 at the end of the stream. */
KEEL_API ssize_t keel_fd_read(int fd, void *buf, size_t size, keel_ns deadline);
/* At least one byte. */
KEEL_API ssize_t keel_fd_write(int fd, const void *buf, size_t size,
                               keel_ns deadline);
/* What a socket, pipe, terminal or file takes at once, and -EAGAIN when that is
 * nothing; parks nobody and leaves the descriptor's mode, which other
 * processes may share, as it is: for a log. */
KEEL_API ssize_t keel_fd_write_now(int fd, const void *buf, size_t size);
/* Puts `fd`'s file in the place of `over`'s, for those who use that number; on
 * success `fd` is closed.  For a log that is opened anew. */
KEEL_API int keel_fd_replace(int fd, int over);
KEEL_API ssize_t keel_fd_recvmsg(int fd, struct msghdr *msg, int flags,
                                 keel_ns deadline);
KEEL_API ssize_t keel_fd_sendmsg(int fd, const struct msghdr *msg, int flags,
                                 keel_ns deadline);
/* Descriptors through a unix socket (SCM_RIGHTS), with at least one byte: they
 * travel with the first.  Who reads past that byte otherwise closes them.
 * Sending returns how many bytes went, and leaves the descriptors as they are.
 * -E2BIG    more than KEEL_FDS_MOST
 * -EINVAL   no bytes to carry them
 * -EBADF    one of them, or the socket, is none */
enum { KEEL_FDS_MOST = 16 };
KEEL_API ssize_t keel_fd_send_fds(int fd, const void *data, size_t size,
                                  const int *fds, size_t count,
                                  keel_ns deadline);
/* At least one byte, or 0 at the end, and the descriptors that came with them:
 * the caller's, close-on-exec, not adopted; at most `room`, KEEL_FDS_MOST at
 * the most.  A message that is refused leaves no descriptor behind; its bytes
 * are lost.
 * -E2BIG     it came with more than `room`
 * -EMFILE    this process has no room for its descriptors
 * -EMSGSIZE  of a socket that keeps messages: it was longer than `size` */
KEEL_API ssize_t keel_fd_recv_fds(int fd, void *buf, size_t size, int *ret_fds,
                                  size_t room, keel_ns deadline,
                                  size_t *ret_count);
/* A descriptor, adopted already; `ret_peer` may be NULL.  -EMFILE and the like
 * leave the listener sound. */
KEEL_API int keel_fd_accept(int fd, struct sockaddr_storage *ret_peer,
                            keel_ns deadline);
KEEL_API int keel_fd_connect(int fd, const struct sockaddr *addr,
                             socklen_t size, keel_ns deadline);
/* Waits for POLLIN, POLLOUT ...; returns the events, with POLLERR and POLLHUP
 * when they happened. */
KEEL_API int keel_fd_poll(int fd, short events, keel_ns deadline);

#endif
