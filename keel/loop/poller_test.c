/* SPDX-License-Identifier: MIT */
/* The rules of poller.h, on both pollers. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>

#include <cmocka.h>

#include <errno.h>
#include <fcntl.h>
#include <linux/filter.h>
#include <linux/seccomp.h>
#include <poll.h>
#include <pthread.h>
#include <stdlib.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <unistd.h>

#include "poller.h"

static struct poller *p;
static int ends[2];

struct counted {
    struct poller_op op;
    int done;
};

static void count_done(struct poller_op *op)
{
    ((struct counted *)(void *)op)->done++;
}

static struct counted op_of(enum poller_verb verb, int fd, void *buf,
                            size_t size)
{
    return (struct counted){.op = {.done = count_done,
                                   .verb = verb,
                                   .fd = fd,
                                   .buf = buf,
                                   .size = size}};
}

/* Waits until the op is done, at most 5 s. */
static int64_t finish(struct counted *c)
{
    keel_ns deadline = keel_after(5 * KEEL_SECOND);

    while (!c->done && keel_now() < deadline)
        (void)p->is->wait(p, deadline);
    assert_int_equal(c->done, 1);
    return c->op.result;
}

/* Everything that is due; nothing may come later. */
static void settle(void)
{
    while (p->is->wait(p, keel_after(5 * KEEL_MS)) > 0)
        ;
}

static void adopt(int fd)
{
    assert_int_equal(poller_fd_renew(fd), 0);
}

static int begin(void **state)
{
    const struct poller_class *class = *state;

    /* One that this kernel has not got is not tested here. */
    if (class->open(&p) < 0) {
        p = NULL;
        return 0;
    }
    if (socketpair(AF_UNIX, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0,
                   ends))
        return -1;
    adopt(ends[0]);
    adopt(ends[1]);
    return 0;
}

static void shut(int *fd)
{
    if (*fd < 0)
        return;
    p->is->forget(p, *fd);
    (void)poller_fd_renew(*fd);
    (void)close(*fd);
    *fd = -1;
}

static int end(void **state)
{
    (void)state;
    if (!p)
        return 0;
    shut(&ends[0]);
    shut(&ends[1]);
    settle();
    p->is->close(p);
    return 0;
}

#define NEEDS_POLLER                                                           \
    if (!p)                                                                    \
    skip()

/* ---- completing ------------------------------------------------------------- */

static void an_op_completes_once_and_never_inside_submit(void **state)
{
    char buf[8];
    struct counted c = op_of(POLLER_RECV, ends[0], buf, sizeof buf);

    (void)state;
    NEEDS_POLLER;
    assert_int_equal(write(ends[1], "abc", 3), 3);
    p->is->submit(p, &c.op);
    assert_int_equal(c.done, 0);
    assert_int_equal(finish(&c), 3);
    assert_memory_equal(buf, "abc", 3);
    settle();
    assert_int_equal(c.done, 1);
}

static void a_receive_waits_for_its_data(void **state)
{
    char buf[8];
    struct counted c = op_of(POLLER_RECV, ends[0], buf, sizeof buf);

    (void)state;
    NEEDS_POLLER;
    p->is->submit(p, &c.op);
    settle();
    assert_int_equal(c.done, 0);
    assert_int_equal(write(ends[1], "x", 1), 1);
    assert_int_equal(finish(&c), 1);
    /* and again, now that the descriptor is known */
    c = op_of(POLLER_RECV, ends[0], buf, sizeof buf);
    if (p->is->attempt)
        assert_false(p->is->attempt(p, &c.op));
    p->is->submit(p, &c.op);
    settle();
    assert_int_equal(c.done, 0);
    assert_int_equal(write(ends[1], "yz", 2), 2);
    assert_int_equal(finish(&c), 2);
}

static void the_end_of_a_stream_is_told_after_its_last_bytes(void **state)
{
    char buf[8];

    (void)state;
    NEEDS_POLLER;
    for (int i = 0; i < 2; i++) {
        struct counted c = op_of(POLLER_RECV, ends[0], buf, sizeof buf);

        if (i == 0) {
            p->is->submit(p, &c.op);
            settle(); /* known, so that what follows is one edge */
            assert_int_equal(write(ends[1], "end", 3), 3);
            shut(&ends[1]);
            assert_int_equal(finish(&c), 3);
            continue;
        }
        if (!p->is->attempt || !p->is->attempt(p, &c.op)) {
            p->is->submit(p, &c.op);
            (void)finish(&c);
        }
        assert_int_equal(c.op.result, 0);
    }
}

static void a_send_waits_for_room(void **state)
{
    static char big[1 << 20], sink[1 << 20];
    size_t sent = 0, got = 0;
    struct counted c;

    (void)state;
    NEEDS_POLLER;
    while (true) { /* until one has to wait */
        c = op_of(POLLER_SEND, ends[0], big, sizeof big);
        p->is->submit(p, &c.op);
        settle();
        if (!c.done)
            break;
        assert_true(c.op.result > 0);
        sent += (size_t)c.op.result;
    }
    while (got < sent) {
        ssize_t n = read(ends[1], sink, sizeof sink);

        assert_true(n > 0);
        got += (size_t)n;
    }
    assert_true(finish(&c) > 0);
}

static void a_reader_and_a_writer_wait_side_by_side(void **state)
{
    static char big[1 << 20], sink[1 << 20];
    char buf[8];
    struct counted r = op_of(POLLER_RECV, ends[0], buf, sizeof buf), w;

    (void)state;
    NEEDS_POLLER;
    p->is->submit(p, &r.op);
    do {
        w = op_of(POLLER_SEND, ends[0], big, sizeof big);
        p->is->submit(p, &w.op);
        settle();
    } while (w.done);
    assert_int_equal(r.done, 0);
    assert_int_equal(write(ends[1], "r", 1), 1);
    assert_int_equal(finish(&r), 1);
    assert_int_equal(w.done, 0);
    while (read(ends[1], sink, sizeof sink) > 0)
        ;
    assert_true(finish(&w) > 0);
}

static void a_pipe_is_read_and_written_like_a_socket(void **state)
{
    int fds[2];
    char buf[8];
    struct counted r, w;

    (void)state;
    NEEDS_POLLER;
    for (int flags = 0; flags <= O_NONBLOCK; flags += O_NONBLOCK) {
        if (p->is == &poller_epoll && !flags)
            continue; /* descriptors are non-blocking, says the contract */
        assert_int_equal(pipe2(fds, O_CLOEXEC | flags), 0);
        adopt(fds[0]);
        adopt(fds[1]);
        for (int i = 0; i < 2; i++) {
            r = op_of(POLLER_RECV, fds[0], buf, sizeof buf);
            p->is->submit(p, &r.op);
            settle();
            assert_int_equal(r.done, 0);
            w = op_of(POLLER_SEND, fds[1], (char[]){"pipe"}, 4);
            p->is->submit(p, &w.op);
            assert_int_equal(finish(&w), 4);
            assert_int_equal(finish(&r), 4);
        }
        r = op_of(POLLER_RECV, fds[0], buf, sizeof buf);
        p->is->submit(p, &r.op);
        settle();
        shut(&fds[1]);
        assert_int_equal(finish(&r), 0);
        shut(&fds[0]);
    }
}

static void datagrams_that_queue_up_are_all_received(void **state)
{
    int fds[2];
    char buf[64];

    (void)state;
    NEEDS_POLLER;
    assert_int_equal(socketpair(AF_UNIX, SOCK_DGRAM | SOCK_NONBLOCK, 0, fds),
                     0);
    adopt(fds[0]);
    adopt(fds[1]);
    for (int i = 0; i < 3; i++) {
        struct counted c = op_of(POLLER_RECV, fds[0], buf, sizeof buf);

        if (i == 0) {
            p->is->submit(p, &c.op);
            settle();
            /* one edge for three short messages */
            for (int j = 0; j < 3; j++)
                assert_int_equal(write(fds[1], "dgram", 5), 5);
        } else if (!p->is->attempt || !p->is->attempt(p, &c.op)) {
            p->is->submit(p, &c.op);
        } else {
            c.done = 1;
        }
        assert_int_equal(finish(&c), 5);
    }
    shut(&fds[0]);
    shut(&fds[1]);
}

static void a_bad_descriptor_is_an_error_of_the_op(void **state)
{
    char buf[8];

    (void)state;
    NEEDS_POLLER;
    for (int fd = -1; fd < 9999; fd += 9999) {
        struct counted c = op_of(POLLER_RECV, fd, buf, sizeof buf);
        struct counted d = op_of(POLLER_POLL, fd, NULL, 0);

        d.op.flags = POLLIN;
        p->is->submit(p, &c.op);
        p->is->submit(p, &d.op);
        assert_int_equal(c.done + d.done, 0);
        assert_int_equal(finish(&c), -EBADF);
        assert_int_equal(finish(&d), -EBADF);
    }
}

static void pairs_make(int (*fds)[2], int count)
{
    for (int i = 0; i < count; i++) {
        assert_int_equal(
            socketpair(AF_UNIX, SOCK_STREAM | SOCK_NONBLOCK, 0, fds[i]), 0);
        adopt(fds[i][0]);
        adopt(fds[i][1]);
    }
}

static void pairs_shut(int (*fds)[2], int count)
{
    for (int i = 0; i < count; i++) {
        shut(&fds[i][0]);
        shut(&fds[i][1]);
    }
}

static void more_ops_than_the_queue_holds_are_all_done(void **state)
{
    enum { PAIRS = 400, ROUNDS = 4 };
    static int fds[PAIRS][2];
    static struct counted r[PAIRS], w[PAIRS];
    static char buf[PAIRS];

    (void)state;
    NEEDS_POLLER;
    pairs_make(fds, PAIRS);
    for (int round = 0; round < ROUNDS; round++) {
        for (int i = 0; i < PAIRS; i++) {
            r[i] = op_of(POLLER_RECV, fds[i][0], &buf[i], 1);
            w[i] = op_of(POLLER_SEND, fds[i][1], (char[]){(char)i}, 1);
            p->is->submit(p, &r[i].op);
        }
        for (int i = 0; i < PAIRS; i++) {
            static char byte[PAIRS];

            byte[i] = (char)i;
            w[i].op.buf = &byte[i];
            p->is->submit(p, &w[i].op);
        }
        for (int i = 0; i < PAIRS; i++) {
            assert_int_equal(finish(&w[i]), 1);
            assert_int_equal(finish(&r[i]), 1);
            assert_int_equal(buf[i], (char)i);
        }
    }
    pairs_shut(fds, PAIRS);
}

static void who_is_served_again_and_again_does_not_starve_the_rest(void **state)
{
    enum { QUIET = 100, BUSY = 48, PAIRS = QUIET + BUSY, WAITS = 60 };
    static int fds[PAIRS][2];
    static struct counted r[PAIRS];
    static char buf[PAIRS];
    int quiet = 0;

    (void)state;
    NEEDS_POLLER;
    pairs_make(fds, PAIRS);
    for (int i = 0; i < PAIRS; i++) {
        assert_int_equal(write(fds[i][1], "q", 1), 1);
        r[i] = op_of(POLLER_RECV, fds[i][0], &buf[i], 1);
        p->is->submit(p, &r[i].op);
    }
    for (int wait = 0; quiet < QUIET && wait < WAITS; wait++) {
        (void)p->is->wait(p, keel_after(KEEL_SECOND));
        for (int i = QUIET; i < PAIRS; i++)
            if (r[i].done) {
                assert_int_equal(write(fds[i][1], "b", 1), 1);
                r[i] = op_of(POLLER_RECV, fds[i][0], &buf[i], 1);
                p->is->submit(p, &r[i].op);
            }
        quiet = 0;
        for (int i = 0; i < QUIET; i++)
            quiet += r[i].done;
    }
    assert_int_equal(quiet, QUIET);
    for (int i = QUIET; i < PAIRS; i++)
        assert_int_equal(finish(&r[i]), 1);
    pairs_shut(fds, PAIRS);
}

static void who_comes_later_does_not_overtake(void **state)
{
    enum { PAIRS = 100 };
    static int fds[PAIRS][2];
    static struct counted r[PAIRS];
    static char buf[PAIRS], first, second;
    struct counted c = op_of(POLLER_RECV, ends[0], &first, 1);
    struct counted d = op_of(POLLER_RECV, ends[0], &second, 1);

    (void)state;
    NEEDS_POLLER;
    pairs_make(fds, PAIRS);
    assert_int_equal(write(ends[1], "12", 2), 2);
    p->is->submit(p, &c.op);
    for (int i = 0; i < PAIRS; i++) {
        r[i] = op_of(POLLER_RECV, fds[i][0], &buf[i], 1);
        p->is->submit(p, &r[i].op);
    }
    p->is->submit(p, &d.op);
    assert_int_equal(finish(&d), 1);
    assert_int_equal(finish(&c), 1);
    assert_int_equal(first, '1');
    assert_int_equal(second, '2');
    pairs_shut(fds, PAIRS);
    for (int i = 0; i < PAIRS; i++)
        assert_int_equal(finish(&r[i]), -EBADF);
}

static void
what_is_submitted_and_taken_back_among_others_is_done_once(void **state)
{
    enum { PAIRS = 100 };
    static int fds[PAIRS][2];
    static struct counted r[PAIRS];
    static char buf[PAIRS];

    (void)state;
    NEEDS_POLLER;
    pairs_make(fds, PAIRS);
    for (int i = 0; i < PAIRS; i++) {
        r[i] = op_of(POLLER_RECV, fds[i][0], &buf[i], 1);
        p->is->submit(p, &r[i].op);
    }
    for (int i = 0; i < PAIRS; i += 3)
        p->is->cancel(p, &r[i].op);
    for (int i = 1; i < PAIRS; i += 3)
        shut(&fds[i][0]);
    for (int i = 2; i < PAIRS; i += 3)
        assert_int_equal(write(fds[i][1], "x", 1), 1);
    for (int i = 0; i < PAIRS; i++)
        assert_int_equal(finish(&r[i]), i % 3 == 0   ? -ECANCELED
                                        : i % 3 == 1 ? -EBADF
                                                     : 1);
    settle();
    for (int i = 0; i < PAIRS; i++)
        assert_int_equal(r[i].done, 1);
    pairs_shut(fds, PAIRS);
}

/* ---- cancelling and closing ---------------------------------------------------- */

static void a_cancelled_op_completes_once_with_ecanceled(void **state)
{
    char buf[8];
    struct counted c = op_of(POLLER_RECV, ends[0], buf, sizeof buf);

    (void)state;
    NEEDS_POLLER;
    p->is->submit(p, &c.op);
    settle();
    p->is->cancel(p, &c.op);
    assert_int_equal(finish(&c), -ECANCELED);
    /* at once after the submit, too */
    c = op_of(POLLER_RECV, ends[0], buf, sizeof buf);
    p->is->submit(p, &c.op);
    p->is->cancel(p, &c.op);
    assert_int_equal(finish(&c), -ECANCELED);
    settle();
    assert_int_equal(c.done, 1);
    /* and nothing was eaten by the two */
    assert_int_equal(write(ends[1], "kept", 4), 4);
    c = op_of(POLLER_RECV, ends[0], buf, sizeof buf);
    p->is->submit(p, &c.op);
    assert_int_equal(finish(&c), 4);
}

static void bytes_that_came_before_the_cancel_are_not_lost(void **state)
{
    char buf[8];
    struct counted c = op_of(POLLER_RECV, ends[0], buf, sizeof buf);

    (void)state;
    NEEDS_POLLER;
    p->is->submit(p, &c.op);
    settle();
    assert_int_equal(write(ends[1], "data", 4), 4);
    p->is->cancel(p, &c.op);
    if (finish(&c) != 4) {
        assert_int_equal(c.op.result, -ECANCELED);
        assert_int_equal(read(ends[0], buf, sizeof buf), 4);
    }
    assert_memory_equal(buf, "data", 4);
}

static void closing_ends_what_waits_with_ebadf(void **state)
{
    char buf[8];
    struct counted c = op_of(POLLER_RECV, ends[0], buf, sizeof buf);
    struct counted d = op_of(POLLER_POLL, ends[0], NULL, 0);

    (void)state;
    NEEDS_POLLER;
    d.op.flags = POLLIN;
    p->is->submit(p, &c.op);
    p->is->submit(p, &d.op);
    settle();
    assert_int_equal(c.done + d.done, 0);
    shut(&ends[0]);
    assert_int_equal(c.done + d.done, 0);
    assert_int_equal(finish(&c), -EBADF);
    assert_int_equal(finish(&d), -EBADF);
    settle();
    assert_int_equal(c.done, 1);
}

static void a_reused_number_is_another_descriptor(void **state)
{
    char buf[8];
    int old = ends[0], fresh[2];
    struct counted c = op_of(POLLER_RECV, old, buf, sizeof buf);

    (void)state;
    NEEDS_POLLER;
    /* Unsubmitted to the kernel yet when the number changes hands. */
    p->is->submit(p, &c.op);
    shut(&ends[0]);
    assert_int_equal(socketpair(AF_UNIX, SOCK_STREAM | SOCK_NONBLOCK, 0, fresh),
                     0);
    assert_int_equal(fresh[0], old);
    adopt(fresh[0]);
    adopt(fresh[1]);
    assert_int_equal(write(fresh[1], "new", 3), 3);
    assert_int_equal(finish(&c), -EBADF);
    assert_int_equal(read(fresh[0], buf, sizeof buf), 3);

    /* Closed without telling this poller, as by another thread. */
    c = op_of(POLLER_RECV, fresh[0], buf, sizeof buf);
    p->is->submit(p, &c.op);
    assert_int_equal(write(fresh[1], "one", 3), 3);
    assert_int_equal(finish(&c), 3);
    close(fresh[0]);
    close(fresh[1]);
    assert_int_equal(socketpair(AF_UNIX, SOCK_STREAM | SOCK_NONBLOCK, 0, fresh),
                     0);
    adopt(fresh[0]);
    adopt(fresh[1]);
    assert_int_equal(write(fresh[1], "two", 3), 3);
    c = op_of(POLLER_RECV, fresh[0], buf, sizeof buf);
    if (p->is->attempt && p->is->attempt(p, &c.op)) {
        assert_int_equal(c.op.result, 3);
    } else {
        p->is->submit(p, &c.op);
        assert_int_equal(finish(&c), 3);
    }
    shut(&fresh[0]);
    shut(&fresh[1]);
}

/* A library's descriptor, closed and opened behind our back. */
static void a_poll_finds_a_number_that_changed_hands(void **state)
{
    int fds[2];

    (void)state;
    NEEDS_POLLER;
    for (int i = 0; i < 3; i++) {
        struct counted c;

        assert_int_equal(pipe2(fds, O_NONBLOCK), 0);
        c = op_of(POLLER_POLL, fds[0], NULL, 0);
        c.op.flags = POLLIN;
        p->is->submit(p, &c.op);
        settle();
        assert_int_equal(c.done, 0);
        assert_int_equal(write(fds[1], "x", 1), 1);
        assert_int_equal(finish(&c), POLLIN);
        /* not read: a poll reports what is there */
        c = op_of(POLLER_POLL, fds[0], NULL, 0);
        c.op.flags = POLLIN;
        p->is->submit(p, &c.op);
        assert_int_equal(finish(&c), POLLIN);
        c = op_of(POLLER_POLL, fds[1], NULL, 0);
        c.op.flags = POLLOUT;
        p->is->submit(p, &c.op);
        assert_int_equal(finish(&c), POLLOUT);
        close(fds[0]);
        close(fds[1]);
    }
}

/* ---- waking and time -------------------------------------------------------------- */

static void *wake_it(void *arg)
{
    struct poller *other = arg;

    other->is->wake(other);
    return NULL;
}

static void a_wake_ends_this_wait_or_the_next(void **state)
{
    pthread_t t;
    keel_ns begun = keel_now();

    (void)state;
    NEEDS_POLLER;
    for (int i = 0; i < 200; i++) {
        assert_int_equal(pthread_create(&t, NULL, wake_it, p), 0);
        if (i % 2) /* before the wait */
            pthread_join(t, NULL);
        p->is->wait(p, keel_after(20 * KEEL_SECOND));
        if (!(i % 2))
            pthread_join(t, NULL);
    }
    assert_true(keel_now() - begun < 15 * KEEL_SECOND);
}

static void a_wait_ends_at_its_deadline_and_not_before(void **state)
{
    int early = 0;

    (void)state;
    NEEDS_POLLER;
    for (int i = 0; i < 5; i++) {
        keel_ns begun = keel_now(), deadline = begun + 3 * KEEL_MS + 300 * i;

        /* The kernel interrupts a wait now and then, as it does when the ring
         * of the test before is taken down; a poller that did not sleep would
         * be back far more often. */
        do
            assert_int_equal(p->is->wait(p, deadline), 0);
        while (keel_now() < deadline && early++ < 3);
        assert_true(keel_now() >= deadline);
        assert_true(keel_now() < begun + 5 * KEEL_SECOND);
    }
    assert_int_equal(p->is->wait(p, KEEL_NOW), 0);
}

/* ---- files --------------------------------------------------------------------------- */

static void files_go_through_where_the_poller_says_so(void **state)
{
    char name[] = "/tmp/keel-poller-XXXXXX", buf[16] = "";
    struct counted c;
    int fd;

    (void)state;
    NEEDS_POLLER;
    if (!p->is->files)
        skip();
    fd = mkstemp(name);
    assert_true(fd >= 0);
    unlink(name);
    c = op_of(POLLER_WRITE, fd, (char[]){"contents"}, 8);
    c.op.at = 5;
    p->is->submit(p, &c.op);
    assert_int_equal(finish(&c), 8);
    c = op_of(POLLER_SYNC, fd, NULL, 0);
    p->is->submit(p, &c.op);
    assert_int_equal(finish(&c), 0);
    c = op_of(POLLER_READ, fd, buf, sizeof buf);
    c.op.at = 9;
    p->is->submit(p, &c.op);
    assert_int_equal(finish(&c), 4);
    assert_string_equal(buf, "ents");
    close(fd);
}

/* ---- choosing ------------------------------------------------------------------------- */

static void the_environment_chooses(void **state)
{
    struct poller *q = NULL;
    char *before = getenv("KEEL_POLLER");

    (void)state;
    before = before ? strdup(before) : NULL;
    setenv("KEEL_POLLER", "epoll", 1);
    assert_int_equal(poller_open(&q), 0);
    assert_string_equal(q->is->name, "epoll");
    q->is->close(q);
    q = NULL;
    setenv("KEEL_POLLER", "kqueue", 1);
    assert_int_equal(poller_open(&q), -EINVAL);
    assert_null(q);
    unsetenv("KEEL_POLLER");
    assert_int_equal(poller_open(&q), 0);
    q->is->close(q);
    if (before)
        setenv("KEEL_POLLER", before, 1);
    free(before);
}

/* In a child whose sandbox answers io_uring_setup(2) with `error`. */
static int child_without_uring(int error)
{
    struct sock_filter code[] = {
        BPF_STMT(BPF_LD | BPF_W | BPF_ABS, offsetof(struct seccomp_data, nr)),
        BPF_JUMP(BPF_JMP | BPF_JEQ | BPF_K, SYS_io_uring_setup, 0, 1),
        BPF_STMT(BPF_RET | BPF_K,
                 SECCOMP_RET_ERRNO | ((unsigned)error & SECCOMP_RET_DATA)),
        BPF_STMT(BPF_RET | BPF_K, SECCOMP_RET_ALLOW),
    };
    struct sock_fprog filter = {sizeof code / sizeof *code, code};
    struct poller *q = NULL;

    if (prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0) ||
        prctl(PR_SET_SECCOMP, SECCOMP_MODE_FILTER, &filter))
        return 77;
    unsetenv("KEEL_POLLER");
    if (poller_open(&q) < 0 || q->is != &poller_epoll)
        return 1;
    q->is->close(q);
    setenv("KEEL_POLLER", "uring", 1);
    return poller_open(&q) == -error ? 0 : 2;
}

static void epoll_takes_over_where_io_uring_is_forbidden(void **state)
{
    static const int errors[] = {EPERM, ENOSYS};

    (void)state;
    for (size_t i = 0; i < sizeof errors / sizeof *errors; i++) {
        pid_t pid = fork();
        int status = 0;

        assert_true(pid >= 0);
        if (pid == 0)
            _exit(child_without_uring(errors[i]));
        assert_int_equal(waitpid(pid, &status, 0), pid);
        if (WIFEXITED(status) && WEXITSTATUS(status) == 77)
            skip(); /* no seccomp here */
        assert_int_equal(status, 0);
    }
}

#define RULE(test, class)                                                      \
    {                                                                          \
#test " (" #class ")", test, begin, end, (void *)(uintptr_t) & class   \
    }
#define BOTH(test) RULE(test, poller_uring), RULE(test, poller_epoll)

int main(void)
{
    const struct CMUnitTest tests[] = {
        BOTH(an_op_completes_once_and_never_inside_submit),
        BOTH(a_receive_waits_for_its_data),
        BOTH(the_end_of_a_stream_is_told_after_its_last_bytes),
        BOTH(a_send_waits_for_room),
        BOTH(a_reader_and_a_writer_wait_side_by_side),
        BOTH(a_pipe_is_read_and_written_like_a_socket),
        BOTH(datagrams_that_queue_up_are_all_received),
        BOTH(a_bad_descriptor_is_an_error_of_the_op),
        BOTH(more_ops_than_the_queue_holds_are_all_done),
        BOTH(who_is_served_again_and_again_does_not_starve_the_rest),
        BOTH(who_comes_later_does_not_overtake),
        BOTH(what_is_submitted_and_taken_back_among_others_is_done_once),
        BOTH(a_cancelled_op_completes_once_with_ecanceled),
        BOTH(bytes_that_came_before_the_cancel_are_not_lost),
        BOTH(closing_ends_what_waits_with_ebadf),
        BOTH(a_reused_number_is_another_descriptor),
        BOTH(a_poll_finds_a_number_that_changed_hands),
        BOTH(a_wake_ends_this_wait_or_the_next),
        BOTH(a_wait_ends_at_its_deadline_and_not_before),
        BOTH(files_go_through_where_the_poller_says_so),
        cmocka_unit_test(the_environment_chooses),
        cmocka_unit_test(epoll_takes_over_where_io_uring_is_forbidden),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
