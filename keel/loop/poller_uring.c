/* SPDX-License-Identifier: MIT */
/* The poller by io_uring.
 *
 * Operations are one-shot: the kernel tries at once and, when it would block,
 * waits by itself and finishes the work.  What was submitted goes to the
 * kernel in the call that also waits, a handful at a time (poller_fresh_first).
 * A send is tried at once, while what it sends is warm. */
#include "poller.h"

#include <errno.h>
#include <liburing.h>
#include <poll.h>
#include <stdatomic.h>
#include <string.h>
#include <sys/eventfd.h>
#include <unistd.h>

#include "sched.h"

enum {
    /* A handful, cancels and what goes round again; more are handed over in
     * several calls.  Completions beyond the ring's wait in the kernel. */
    ENTRIES = 128,
    COMPLETIONS = 8192,
    HANDFUL = POLLER_HANDFUL,
    AT_ONCE_BYTES = 16384, /* a send of more goes by the ring */
    AHEAD = 4,
    FETCH_BYTES = 256, /* an op and the waiter behind it */
};

/* op->private[0]: what the operation is doing.  WAITS_THEN_TRIES: the kernel
 * said EAGAIN, as some do for a descriptor with O_NONBLOCK; a poll is out, and
 * the operation follows it.  QUEUED: the kernel has not seen it; its place in
 * the queue is in the bits above. */
enum { FINISHED, WORKS, WAITS_THEN_TRIES, QUEUED, STATE_BITS = 2 };
/* op->private[1]: how it was interrupted. */
enum { NOT, CANCELLED, FORGOTTEN };

/* user_data that is not an op's address */
enum { NOBODY = 0, WAKE = 1 };

/* What is known of a descriptor.  `ops` are in flight for it, files' aside:
 * closing must find them. */
struct entry {
    struct poller_op *ops;
    uint32_t age;
    bool no_socket; /* recv and send said ENOTSOCK: read and write */
};

/* What was submitted and not yet handed over, by age: the places `head` ..
 * `tail` - 1, modulo `room`, a power of two.  A place whose op was taken back
 * is NULL.  Those from `fresh` on came since the last hand-over.  Those before
 * `in_order` go oldest first: one of them has the same descriptor as another,
 * and who comes later does not overtake. */
struct queue {
    struct poller_op **ops;
    size_t room, head, tail, fresh, in_order;
    struct poller_rounds rounds;
};

struct uring {
    struct poller base;
    struct io_uring ring;
    struct queue queue;
    int wake_fd;
    uint64_t wake_count;
    bool deaf;             /* the read of wake_fd is not queued */
    _Atomic uint32_t rung; /* and not yet heard: one write wakes for all */
    struct entry *entries; /* by descriptor */
    size_t entry_count;
    struct poller_op *finished, **finished_tail; /* `done` is still to run */
};

static struct uring *self(struct poller *p)
{
    return (struct uring *)(void *)p;
}

/* ---- descriptors ------------------------------------------------------------------- */

static struct entry *entry_get(struct uring *u, int fd)
{
    struct entry *en;

    if (fd < 0)
        return NULL;
    if ((size_t)fd >= u->entry_count) {
        size_t count = u->entry_count ? u->entry_count : 64;
        struct entry *grown;

        /* By less when there are many: half of them would be memory that
         * nobody uses. */
        while (count <= (size_t)fd)
            count += count < 4096 ? count : 1024;
        grown = keel_realloc(u->entries, count * sizeof *grown);
        if (!grown)
            return NULL;
        memset(grown + u->entry_count, 0,
               (count - u->entry_count) * sizeof *grown);
        u->entries = grown;
        u->entry_count = count;
    }
    en = &u->entries[fd];
    if (en->age != poller_fd_age(fd)) {
        en->age = poller_fd_age(fd);
        en->no_socket = false;
    }
    return en;
}

static bool of_file(const struct poller_op *op)
{
    return op->verb == POLLER_READ || op->verb == POLLER_WRITE ||
           op->verb == POLLER_SYNC;
}

/* ---- queueing ------------------------------------------------------------------------ */

/* A free entry of the submission queue; NULL when the kernel takes nothing. */
static struct io_uring_sqe *sqe_get(struct uring *u)
{
    struct io_uring_sqe *sqe = io_uring_get_sqe(&u->ring);

    if (sqe)
        return sqe;
    (void)io_uring_submit(&u->ring);
    return io_uring_get_sqe(&u->ring);
}

static void prepare(struct uring *u, struct io_uring_sqe *sqe,
                    struct poller_op *op)
{
    unsigned size = op->size > INT32_MAX ? INT32_MAX : (unsigned)op->size;
    bool no_socket = !of_file(op) && u->entries[op->fd].no_socket;

    switch (op->verb) {
    case POLLER_READ:
        io_uring_prep_read(sqe, op->fd, op->buf, size, op->at);
        break;
    case POLLER_WRITE:
        io_uring_prep_write(sqe, op->fd, op->buf, size, op->at);
        break;
    case POLLER_SYNC:
        io_uring_prep_fsync(sqe, op->fd, op->flags);
        break;
    case POLLER_RECV:
        if (no_socket)
            io_uring_prep_read(sqe, op->fd, op->buf, size, (uint64_t)-1);
        else
            io_uring_prep_recv(sqe, op->fd, op->buf, size, 0);
        break;
    case POLLER_SEND:
        if (no_socket)
            io_uring_prep_write(sqe, op->fd, op->buf, size, (uint64_t)-1);
        else
            io_uring_prep_send(sqe, op->fd, op->buf, size, MSG_NOSIGNAL);
        break;
    case POLLER_RECVMSG:
        io_uring_prep_recvmsg(sqe, op->fd, op->buf, op->flags);
        break;
    case POLLER_SENDMSG:
        io_uring_prep_sendmsg(sqe, op->fd, op->buf, op->flags | MSG_NOSIGNAL);
        break;
    case POLLER_ACCEPT:
        io_uring_prep_accept(sqe, op->fd, op->buf, &op->addr_size,
                             SOCK_NONBLOCK | SOCK_CLOEXEC);
        break;
    case POLLER_POLL:
        io_uring_prep_poll_add(sqe, op->fd, op->flags);
        break;
    }
}

static void finish_later(struct uring *u, struct poller_op *op, int64_t result)
{
    op->result = result;
    op->private[0] = FINISHED;
    op->next = NULL;
    *u->finished_tail = op;
    u->finished_tail = &op->next;
}

static void unlink_op(struct uring *u, struct poller_op *op)
{
    struct poller_op **link = &u->entries[op->fd].ops;

    while (*link != op)
        link = &(*link)->next;
    *link = op->next;
}

/* Hands over the op, or the poll that goes before it.  False: the kernel takes
 * nothing more. */
static bool hand_over(struct uring *u, struct poller_op *op, bool poll_first)
{
    struct io_uring_sqe *sqe = sqe_get(u);

    if (!sqe)
        return false;
    if (poll_first)
        io_uring_prep_poll_add(sqe, op->fd, poller_events(op));
    else
        prepare(u, sqe, op);
    io_uring_sqe_set_data(sqe, op);
    op->private[0] = poll_first ? WAITS_THEN_TRIES : WORKS;
    return true;
}

static bool uring_attempt(struct poller *p, struct poller_op *op)
{
    struct uring *u = self(p);
    struct entry *en;
    ssize_t rc;

    if (op->verb != POLLER_SEND || op->size > AT_ONCE_BYTES)
        return false;
    en = entry_get(u, op->fd);
    if (!en || en->no_socket)
        return false;
    for (const struct poller_op *o = en->ops; o; o = o->next)
        if (poller_events(o) & POLLOUT)
            return false; /* who comes later does not overtake */
    rc = send(op->fd, op->buf, op->size, MSG_DONTWAIT | MSG_NOSIGNAL);
    if (rc < 0 && errno == ENOTSOCK)
        en->no_socket = true;
    if (rc < 0 && (errno == EAGAIN || errno == EINTR || errno == ENOTSOCK))
        return false;
    op->result = rc < 0 ? -errno : rc;
    return true;
}

static bool queue_grow(struct queue *q)
{
    size_t room = q->room ? 2 * q->room : 64;
    struct poller_op **ops = keel_alloc(room * sizeof(struct poller_op *));

    if (!ops)
        return false;
    for (size_t at = q->head; at < q->tail; at++)
        ops[at & (room - 1)] = q->ops[at & (q->room - 1)];
    keel_free(q->ops);
    q->ops = ops;
    q->room = room;
    return true;
}

static struct poller_op **queue_at(struct queue *q, size_t place)
{
    return &q->ops[place & (q->room - 1)];
}

static bool queue_put(struct queue *q, struct poller_op *op)
{
    if (q->tail - q->head == q->room && !queue_grow(q))
        return false;
    op->private[0] = QUEUED | (uint64_t)q->tail << STATE_BITS;
    *queue_at(q, q->tail++) = op;
    return true;
}

static bool is_queued(const struct poller_op *op)
{
    return (op->private[0] & ((1 << STATE_BITS) - 1)) == QUEUED;
}

static void uring_submit(struct poller *p, struct poller_op *op)
{
    struct uring *u = self(p);
    struct entry *en = NULL;

    loop_submitted();
    op->private[1] = NOT;
    if (!of_file(op)) {
        en = entry_get(u, op->fd);
        if (!en) {
            finish_later(u, op, op->fd < 0 ? -EBADF : -ENOMEM);
            return;
        }
    }
    if (!queue_put(&u->queue, op)) {
        finish_later(u, op, -ENOMEM);
        return;
    }
    if (!en)
        return;
    for (const struct poller_op *o = en->ops; o; o = o->next)
        if (is_queued(o))
            u->queue.in_order = u->queue.tail;
    op->next = en->ops;
    en->ops = op;
}

/* An op of the queue goes into the ring. */
static void give(struct uring *u, struct poller_op *op)
{
    if (!hand_over(u, op, false)) {
        if (!of_file(op))
            unlink_op(u, op);
        finish_later(u, op, -ENOMEM);
    }
}

/* Out of the queue: it is nobody's then. */
static struct poller_op *unqueue(struct uring *u, struct poller_op *op)
{
    *queue_at(&u->queue, op->private[0] >> STATE_BITS) = NULL;
    return op;
}

/* Asks the kernel to give `op` back. */
static void interrupt(struct uring *u, struct poller_op *op, uint64_t how)
{
    struct io_uring_sqe *sqe;

    op->private[1] = how;
    sqe = sqe_get(u);
    /* Only a kernel without memory leaves no room; the op then ends by
     * itself or with the ring. */
    if (!sqe)
        return;
    io_uring_prep_cancel64(sqe, (uint64_t)(uintptr_t)op, 0);
    io_uring_sqe_set_data64(sqe, NOBODY);
}

static void uring_cancel(struct poller *p, struct poller_op *op)
{
    struct uring *u = self(p);

    /* The kernel tries it before it sees the cancel: what is at hand is not
     * lost. */
    if (is_queued(op))
        give(u, unqueue(u, op));
    if (op->private[0] != FINISHED && op->private[1] == NOT)
        interrupt(u, op, CANCELLED);
}

static void uring_forget(struct poller *p, int fd)
{
    struct uring *u = self(p);

    if (fd < 0 || (size_t)fd >= u->entry_count || !u->entries[fd].ops)
        return;
    for (struct poller_op *op = u->entries[fd].ops, *next; op; op = next) {
        next = op->next;
        if (is_queued(op)) {
            unlink_op(u, unqueue(u, op));
            finish_later(u, op, -EBADF);
        } else {
            interrupt(u, op, FORGOTTEN);
        }
    }
    /* What is handed over names the descriptor by its number, which may be
     * another one's after the close: the kernel must see it now. */
    (void)io_uring_submit(&u->ring);
}

/* ---- completing ------------------------------------------------------------------------ */

static void arm_wake(struct uring *u)
{
    struct io_uring_sqe *sqe = sqe_get(u);

    u->deaf = !sqe;
    if (!sqe)
        return;
    io_uring_prep_read(sqe, u->wake_fd, &u->wake_count, sizeof u->wake_count,
                       0);
    io_uring_sqe_set_data64(sqe, WAKE);
}

/* The result of an op; or true: it goes round once more. */
static bool again(struct uring *u, struct poller_op *op, int res)
{
    bool transfer = op->verb == POLLER_RECV || op->verb == POLLER_SEND;

    if (op->private[1] != NOT || of_file(op))
        return false;
    if (op->private[0] == WAITS_THEN_TRIES)
        return res >= 0 && hand_over(u, op, false);
    if (res == -ENOTSOCK && transfer && !u->entries[op->fd].no_socket) {
        u->entries[op->fd].no_socket = true;
        return hand_over(u, op, false);
    }
    return res == -EAGAIN && hand_over(u, op, true);
}

static int complete(struct uring *u, struct poller_op *op, int res)
{
    if (again(u, op, res))
        return 0;
    if (!of_file(op))
        unlink_op(u, op);
    /* A poll that went before is not the answer. */
    if (op->private[0] == WAITS_THEN_TRIES && res >= 0)
        res = op->private[1] == NOT ? -ENOMEM : -ECANCELED;
    if (res == -ECANCELED && op->private[1] == FORGOTTEN)
        res = -EBADF;
    op->private[0] = FINISHED;
    op->result = res;
    loop_completed();
    op->done(op); /* `op` is gone after this */
    return 1;
}

/* The op of a completion further on begins its way from memory, where a
 * thousand parked coroutines have left it.  What lies behind the last
 * completion is an old address, which does no harm. */
static void fetch_ahead(const struct uring *u, unsigned head)
{
    const struct io_uring_cqe *cqe =
        &u->ring.cq.cqes[(head + AHEAD) & u->ring.cq.ring_mask];

    for (uintptr_t at = 0; at < FETCH_BYTES; at += 64)
        __builtin_prefetch((const void *)((uintptr_t)cqe->user_data + at));
}

static int reap(struct uring *u)
{
    struct io_uring_cqe *cqe;
    unsigned head, seen = 0;
    int count = 0;

    io_uring_for_each_cqe(&u->ring, head, cqe)
    {
        seen++;
        fetch_ahead(u, head);
        if (cqe->user_data == NOBODY)
            continue;
        if (cqe->user_data == WAKE) {
            /* Heard first, then armed: a wake in between finds the counter,
             * and the armed read finds that. */
            atomic_store(&u->rung, 0);
            arm_wake(u);
            continue;
        }
        count += complete(u, (struct poller_op *)(uintptr_t)cqe->user_data,
                          cqe->res);
    }
    io_uring_cq_advance(&u->ring, seen);
    return count;
}

static int run_finished(struct uring *u)
{
    struct poller_op *op = u->finished;
    int count = 0;

    u->finished = NULL;
    u->finished_tail = &u->finished;
    while (op) {
        struct poller_op *next = op->next;

        loop_completed();
        op->done(op);
        op = next;
        count++;
    }
    return count;
}

/* A kernel short of memory or with much to deliver takes the rest later.
 * Anything else, as the use by another thread, would make the loop spin. */
static void took(int rc)
{
    keel_assert(rc >= 0 || rc == -EINTR || rc == -ETIME || rc == -EAGAIN ||
                rc == -EBUSY || rc == -ENOMEM);
}

/* Hands over the youngest, in the order in which they came; returns how
 * many. */
static unsigned give_fresh(struct uring *u, unsigned most)
{
    struct queue *q = &u->queue;
    size_t from = q->tail, tail = q->tail;
    unsigned count = 0;

    while (from > q->fresh && from > q->head && count < most)
        count += *queue_at(q, --from) != NULL;
    for (size_t at = from; at < tail; at++)
        if (*queue_at(q, at))
            give(u, *queue_at(q, at));
    q->tail = from;
    return count;
}

static void give_oldest(struct uring *u, unsigned most)
{
    struct queue *q = &u->queue;

    for (unsigned count = 0; count < most && q->head < q->tail; q->head++)
        if (*queue_at(q, q->head)) {
            give(u, *queue_at(q, q->head));
            count++;
        }
}

/* A handful of the queue goes into the ring. */
static void give_some(struct uring *u)
{
    struct queue *q = &u->queue;
    unsigned count = 0;

    if (q->head == q->tail)
        return;
    if (q->head >= q->in_order &&
        poller_fresh_first(&q->rounds, q->tail - q->head))
        count = give_fresh(u, HANDFUL);
    give_oldest(u, HANDFUL - count);
    q->fresh = q->tail;
}

/* Hands over what is in the ring; runs what the kernel put off for us. */
static void look(struct uring *u)
{
    const unsigned put_off = IORING_SQ_TASKRUN | IORING_SQ_CQ_OVERFLOW;

    if (io_uring_sq_ready(&u->ring))
        took(io_uring_submit_and_get_events(&u->ring));
    else if (IO_URING_READ_ONCE(*u->ring.sq.kflags) & put_off)
        took(io_uring_get_events(&u->ring));
}

static void sleep_until(struct uring *u, keel_ns deadline)
{
    struct io_uring_cqe *cqe;
    struct __kernel_timespec ts;
    keel_ns span;

    if (deadline == KEEL_FOREVER) {
        took(io_uring_submit_and_wait(&u->ring, 1));
        return;
    }
    span = deadline - keel_now();
    if (span <= 0) {
        look(u);
        return;
    }
    ts.tv_sec = span / KEEL_SECOND;
    ts.tv_nsec = span % KEEL_SECOND;
    took(io_uring_submit_and_wait_timeout(&u->ring, &cqe, 1, &ts, NULL));
}

/* All is handed over before a sleep, and nobody sleeps over an answer. */
static int uring_wait(struct poller *p, keel_ns deadline)
{
    struct uring *u = self(p);
    int count = run_finished(u);

    if (u->deaf)
        arm_wake(u);
    give_some(u);
    while (u->queue.head < u->queue.tail && !io_uring_cq_ready(&u->ring)) {
        look(u);
        if (io_uring_cq_ready(&u->ring))
            return count + reap(u);
        give_some(u);
    }
    if (count || u->deaf || u->finished || deadline == KEEL_NOW ||
        io_uring_cq_ready(&u->ring))
        look(u);
    else
        sleep_until(u, deadline);
    return count + reap(u);
}

static void uring_wake(struct poller *p)
{
    struct uring *u = self(p);
    const uint64_t one = 1;

    if (!atomic_exchange(&u->rung, 1) &&
        write(u->wake_fd, &one, sizeof one) < 0)
        atomic_store(&u->rung, 0); /* full: a wake is under way */
}

/* ---- opening ----------------------------------------------------------------------------- */

static void uring_close(struct poller *p)
{
    struct uring *u = self(p);

    if (u->ring.ring_fd >= 0)
        io_uring_queue_exit(&u->ring);
    if (u->wake_fd >= 0)
        (void)close(u->wake_fd);
    keel_free(u->queue.ops);
    keel_free(u->entries);
    keel_free(u);
}

/* Task work is run when we ask for it (DEFER_TASKRUN, 6.1), or at least not
 * by an interrupt (COOP_TASKRUN, 5.19). */
static int ring_open(struct io_uring *ring)
{
    static const unsigned flags[] = {
        IORING_SETUP_SINGLE_ISSUER | IORING_SETUP_DEFER_TASKRUN |
            IORING_SETUP_SUBMIT_ALL | IORING_SETUP_TASKRUN_FLAG,
        IORING_SETUP_COOP_TASKRUN | IORING_SETUP_SUBMIT_ALL |
            IORING_SETUP_TASKRUN_FLAG,
        0,
    };
    int rc = -ENOSYS;

    for (size_t i = 0; i < sizeof flags / sizeof *flags; i++) {
        struct io_uring_params params = {
            .flags = flags[i] | IORING_SETUP_CQSIZE,
            .cq_entries = COMPLETIONS,
        };

        rc = io_uring_queue_init_params(ENTRIES, ring, &params);
        if (rc < 0 && rc != -EINVAL)
            break;
        if (rc < 0)
            continue;
        /* 5.11: a wait with a deadline in one call, and no lost completions */
        if ((params.features & IORING_FEAT_EXT_ARG) &&
            (params.features & IORING_FEAT_NODROP))
            return 0;
        io_uring_queue_exit(ring);
        rc = -ENOSYS;
        break;
    }
    return rc;
}

/* True when this kernel knows every operation that we use. */
static bool ring_able(struct io_uring *ring)
{
    static const int needed[] = {
        IORING_OP_READ,    IORING_OP_WRITE,        IORING_OP_FSYNC,
        IORING_OP_RECV,    IORING_OP_SEND,         IORING_OP_RECVMSG,
        IORING_OP_SENDMSG, IORING_OP_ACCEPT,       IORING_OP_POLL_ADD,
        IORING_OP_NOP,     IORING_OP_ASYNC_CANCEL,
    };
    struct io_uring_probe *probe = io_uring_get_probe_ring(ring);
    bool able = probe != NULL;

    for (size_t i = 0; able && i < sizeof needed / sizeof *needed; i++)
        able = io_uring_opcode_supported(probe, needed[i]);
    io_uring_free_probe(probe);
    return able;
}

static int uring_open(struct poller **ret)
{
    struct uring *u = keel_calloc(1, sizeof *u);
    int rc;

    if (!u)
        return -ENOMEM;
    u->base.is = &poller_uring;
    u->finished_tail = &u->finished;
    u->ring.ring_fd = -1;
    u->wake_fd = eventfd(0, EFD_CLOEXEC);
    rc = u->wake_fd < 0 ? -errno : ring_open(&u->ring);
    if (rc < 0) {
        u->ring.ring_fd = -1;
        uring_close(&u->base);
        return rc;
    }
    if (!ring_able(&u->ring)) {
        uring_close(&u->base);
        return -ENOSYS;
    }
    arm_wake(u);
    /* A sandbox may allow the set-up and forbid the use. */
    rc = io_uring_submit(&u->ring);
    if (rc < 0) {
        uring_close(&u->base);
        return rc;
    }
    *ret = &u->base;
    return 0;
}

const struct poller_class poller_uring = {
    .name = "uring",
    .open = uring_open,
    .close = uring_close,
    .attempt = uring_attempt,
    .submit = uring_submit,
    .cancel = uring_cancel,
    .wait = uring_wait,
    .wake = uring_wake,
    .forget = uring_forget,
    .files = true,
};
