/* SPDX-License-Identifier: MIT */
/* Inside keel: a loop's door to the kernel, by io_uring or epoll.
 *
 * Completions only: an operation is a struct in the parked coroutine's frame;
 * submit it, park, find the result in it.  A loop has one poller and nobody
 * else calls it, except wake; the thread that opens it is the one that uses it
 * (io_uring is told so).  Rules that both keep, and one test suite checks:
 *   an op given to submit completes exactly once, never inside submit;
 *   its buffers are the poller's until then, cancelled or not;
 *   cancel asks; the op still completes, with -ECANCELED or its own result (the
 *     kernel may have done the work already, and a received byte is not lost);
 *   closing a descriptor completes what waits on it, with -EBADF.
 *
 * The fault hook is not asked here but by who makes the op: io.c and file.c,
 * once for an op, so that a test counts alike on both and in threads. */
#ifndef KEEL_POLLER_H
#define KEEL_POLLER_H

#include <sys/socket.h>
#include <sys/uio.h>

#include <keel/base.h>

enum poller_verb {
    POLLER_READ, /* a file, at `at`; only where `files` */
    POLLER_WRITE,
    POLLER_SYNC, /* `flags` IORING_FSYNC_DATASYNC */
    POLLER_RECV, /* sockets; pipes and the like too */
    POLLER_SEND,
    POLLER_RECVMSG, /* buf: struct msghdr, flags: MSG_* */
    POLLER_SENDMSG,
    POLLER_ACCEPT, /* buf: struct sockaddr, of `addr_size` */
    POLLER_POLL,   /* flags: POLLIN and so on; result: the events */
};

struct poller_op {
    struct poller_op *next;             /* the poller's */
    void (*done)(struct poller_op *op); /* run inside wait */
    enum poller_verb verb;
    int fd;
    void *buf;
    size_t size;
    uint64_t at;
    unsigned flags;
    socklen_t addr_size;
    int64_t result; /* >= 0, or a negative errno */
    uint64_t private[2];
};

struct poller;
struct poller_class {
    const char *name; /* "uring", "epoll" */
    int (*open)(struct poller **ret);
    void (*close)(struct poller *p);
    /* Does the op at once if that needs no wait: true, with its result; `done`
     * is not called.  False: submit it.  NULL: submitting is as cheap. */
    bool (*attempt)(struct poller *p, struct poller_op *op);
    /* Queues; the next wait hands the whole batch over. */
    void (*submit)(struct poller *p, struct poller_op *op);
    void (*cancel)(struct poller *p, struct poller_op *op);
    /* Hands over what is queued, runs `done` for what completed; sleeps until
     * `deadline` if nothing did and nobody called wake.  KEEL_NOW only looks.
     * Returns how many ops completed. */
    int (*wait)(struct poller *p, keel_ns deadline);
    /* From any thread: ends a wait, this one or the next. */
    void (*wake)(struct poller *p);
    /* Before close(2) of a descriptor this loop has waited on. */
    void (*forget)(struct poller *p, int fd);
    /* True when regular files go through it; else they go to the pool. */
    bool files;
};
extern const struct poller_class poller_uring, poller_epoll;

/* Every concrete poller begins with this. */
struct poller {
    const struct poller_class *is;
};

/* Opens the one KEEL_POLLER names, else the best that works here.
 * -EINVAL  KEEL_POLLER names neither (said on standard error)
 * other    of the one that was forced, e.g. -EPERM (likewise) */
int poller_open(struct poller **ret);

/* ---- for the pollers, and for plain threads ---------------------------------- */

/* The op's system call, once, without waiting; -EAGAIN when it would.  Not for
 * files. */
int64_t poller_try(struct poller_op *op);
/* The events that say the op can go on. */
unsigned poller_events(const struct poller_op *op);

/* Among a thousand busy sockets a message is best answered while what belongs
 * to its socket is still in the caches.  So the pollers go on with a handful at
 * a time, and who was just served goes first for some rounds: a peer that
 * answers promptly finds its connection warm.
 *
 * True: one more round for the fresh ones.  False: now it is the oldest's turn.
 * A handful keeps its turn for a millisecond, and of many that `wait` for so
 * short a time that the last has its turn within 50 ms, as far as handlers and
 * their number permit; that is where going round without rounds ends too. */
enum { POLLER_HANDFUL = 24 };
struct poller_rounds {
    unsigned count;
    keel_ns since;
};
bool poller_fresh_first(struct poller_rounds *r, size_t waiting);

/* A descriptor's number is used again after close(2); a poller that remembers
 * things about a number remembers its age too.  adopt and close step it. */
uint32_t poller_fd_age(int fd);
int poller_fd_renew(int fd); /* -ENOMEM */

#endif
