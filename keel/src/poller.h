/* SPDX-License-Identifier: MIT */
/* Inside keel: a loop's door to the kernel, by io_uring or epoll.
 *
 * Completions only: an operation is a struct in the parked coroutine's frame;
 * submit it, park, find the result in it.  A loop has one poller and nobody
 * else calls it, except wake.  Rules that both keep, and one test suite checks:
 *   an op given to submit completes exactly once, never inside submit;
 *   its buffers are the poller's until then, cancelled or not;
 *   cancel asks; the op still completes, with -ECANCELED or its own result (the
 *     kernel may have done the work already, and a received byte is not lost);
 *   closing a descriptor completes what waits on it, with -EBADF. */
#ifndef KEEL_POLLER_H
#define KEEL_POLLER_H

#include <sys/socket.h>
#include <sys/uio.h>

#include <keel/base.h>

enum poller_verb {
    POLLER_READ, /* a file, at `at` */
    POLLER_WRITE,
    POLLER_SYNC, /* `flags` IORING_FSYNC_DATASYNC */
    POLLER_RECV,
    POLLER_SEND,
    POLLER_RECVMSG,
    POLLER_SENDMSG,
    POLLER_ACCEPT,
    POLLER_CONNECT,
    POLLER_POLL,
};

struct poller_op {
    struct poller_op *next; /* the poller's */
    void (*done)(struct poller_op *op); /* run inside wait */
    enum poller_verb verb;
    int fd;
    void *buf; /* or struct msghdr, struct sockaddr */
    size_t size;
    uint64_t at;
    unsigned flags; /* or poll events */
    int64_t result; /* >= 0, or a negative errno */
    uint64_t private[6];
};

struct poller;
struct poller_class {
    const char *name; /* "uring", "epoll" */
    int (*open)(struct poller **ret);
    void (*close)(struct poller *p);
    /* Queues; the next wait hands the whole batch over. */
    void (*submit)(struct poller *p, struct poller_op *op);
    void (*cancel)(struct poller *p, struct poller_op *op);
    /* Hands over what is queued, runs `done` for what completed; sleeps until
     * `deadline` if nothing did and nobody called wake.  KEEL_NOW only looks. */
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

/* Opens the one KEEL_POLLER names, else the best that works here. */
int poller_open(struct poller **ret);

#endif
