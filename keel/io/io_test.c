/* SPDX-License-Identifier: MIT */
/* Waiting on descriptors.  Bodies run in a coroutine, on the poller that
 * KEEL_POLLER names, and where it makes sense in a plain thread too. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>

#include <cmocka.h>

#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <pthread.h>
#include <sched.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/syscall.h>
#include <sys/un.h>
#include <termios.h>
#include <unistd.h>

#include <keel/co.h>
#include <keel/io.h>
#include <keel/seam.h>
#include <keel/thread.h>

#include "test/both.h"
#include "test/fault.h"

static int ends[2];

static keel_ns soon(void)
{
    return keel_after(20 * KEEL_SECOND);
}

static int begin(void **state)
{
    (void)state;
    if (socketpair(AF_UNIX, SOCK_STREAM, 0, ends))
        return -1;
    return keel_fd_adopt(ends[0]) || keel_fd_adopt(ends[1]);
}

static void shut(int *fd)
{
    keel_fd_close(*fd);
    *fd = -1;
}

static int end(void **state)
{
    (void)state;
    keel_seam.fault = NULL;
    shut(&ends[0]);
    shut(&ends[1]);
    return 0;
}

/* Lets every other coroutine of the loop come to its wait. */
static void settle(void)
{
    for (int i = 0; i < 20; i++)
        keel_yield();
    assert_int_equal(keel_sleep(keel_after(KEEL_MS)), 0);
}

/* ---- faults ------------------------------------------------------------------ */

/* ---- transfers ------------------------------------------------------------------ */

static int adopted_descriptors_do_not_block_and_close_on_exec(void *arg)
{
    (void)arg;
    assert_true(fcntl(ends[0], F_GETFL) & O_NONBLOCK);
    assert_true(fcntl(ends[0], F_GETFD) & FD_CLOEXEC);
    assert_int_equal(keel_fd_adopt(-1), -EBADF);
    keel_fd_close(-1);
    return 0;
}

static int bytes_cross(void *arg)
{
    char buf[16];

    (void)arg;
    assert_int_equal(keel_fd_write(ends[0], "hello", 5, soon()), 5);
    assert_int_equal(keel_fd_read(ends[1], buf, sizeof buf, soon()), 5);
    assert_memory_equal(buf, "hello", 5);
    shut(&ends[0]);
    assert_int_equal(keel_fd_read(ends[1], buf, sizeof buf, soon()), 0);
    assert_int_equal(keel_fd_write(ends[1], "x", 1, soon()), -EPIPE);
    return 0;
}

static int messages_cross_with_their_descriptors(void *arg)
{
    char one[3] = "ab", two[4] = "cde", got[8] = "", bytes[8];
    struct iovec out[2] = {{one, 2}, {two, 3}}, in = {got, sizeof got};
    union {
        struct cmsghdr head;
        char space[CMSG_SPACE(sizeof(int))];
    } control = {0}, received = {0};
    struct msghdr msg = {
        .msg_iov = out,
        .msg_iovlen = 2,
        .msg_control = &control,
        .msg_controllen = sizeof control,
    };
    struct msghdr back = {
        .msg_iov = &in,
        .msg_iovlen = 1,
        .msg_control = &received,
        .msg_controllen = sizeof received,
    };
    int fds[2], passed;

    (void)arg;
    assert_int_equal(pipe(fds), 0);
    control.head = (struct cmsghdr){
        .cmsg_len = CMSG_LEN(sizeof(int)),
        .cmsg_level = SOL_SOCKET,
        .cmsg_type = SCM_RIGHTS,
    };
    memcpy(CMSG_DATA(&control.head), &fds[1], sizeof(int));
    assert_int_equal(keel_fd_sendmsg(ends[0], &msg, 0, soon()), 5);
    assert_int_equal(keel_fd_recvmsg(ends[1], &back, MSG_CMSG_CLOEXEC, soon()),
                     5);
    assert_string_equal(got, "abcde");
    assert_int_equal(back.msg_controllen, sizeof received);
    memcpy(&passed, CMSG_DATA(&received.head), sizeof(int));
    assert_int_equal(write(passed, "via", 3), 3);
    assert_int_equal(read(fds[0], bytes, sizeof bytes), 3);
    close(passed);
    close(fds[0]);
    close(fds[1]);
    return 0;
}

static int what_is_at_hand_is_done_even_past_the_deadline(void *arg)
{
    char buf[4];

    (void)arg;
    assert_int_equal(keel_fd_write(ends[0], "x", 1, KEEL_NOW), 1);
    assert_int_equal(keel_fd_read(ends[1], buf, 4, KEEL_NOW), 1);
    assert_int_equal(keel_fd_read(ends[1], buf, 4, KEEL_NOW), -ETIMEDOUT);
    assert_int_equal(keel_fd_write(ends[0], "x", 1, keel_now() - 1), 1);
    assert_int_equal(keel_fd_read(ends[1], buf, 4, keel_now() - 1), 1);
    assert_int_equal(keel_fd_read(ends[1], buf, 4, keel_now() - 1), -ETIMEDOUT);
    return 0;
}

static int a_wait_ends_at_its_deadline_and_loses_nothing(void *arg)
{
    keel_ns deadline = keel_after(5 * KEEL_MS);
    char buf[4];

    (void)arg;
    assert_int_equal(keel_fd_read(ends[1], buf, 4, deadline), -ETIMEDOUT);
    assert_true(keel_now() >= deadline);
    assert_int_equal(keel_fd_write(ends[0], "abc", 3, soon()), 3);
    assert_int_equal(keel_fd_read(ends[1], buf, 4, soon()), 3);
    return 0;
}

static int the_scope_of_a_timeout_bounds_a_wait(void *arg)
{
    struct keel_timeout t;
    char buf[4];

    (void)arg;
    keel_timeout_begin(&t, keel_after(3 * KEEL_MS));
    assert_int_equal(keel_fd_read(ends[1], buf, 4, KEEL_FOREVER), -ETIMEDOUT);
    keel_timeout_end(&t);
    return 0;
}

static int polling_tells_the_events(void *arg)
{
    (void)arg;
    assert_int_equal(keel_fd_poll(ends[0], POLLIN, keel_after(2 * KEEL_MS)),
                     -ETIMEDOUT);
    assert_int_equal(keel_fd_poll(ends[0], POLLIN, KEEL_NOW), -ETIMEDOUT);
    assert_int_equal(keel_fd_poll(ends[0], POLLIN | POLLOUT, soon()), POLLOUT);
    assert_int_equal(keel_fd_write(ends[1], "x", 1, soon()), 1);
    assert_int_equal(keel_fd_poll(ends[0], POLLIN, soon()), POLLIN);
    assert_int_equal(keel_fd_poll(ends[0], POLLIN, KEEL_NOW), POLLIN);
    assert_int_equal(keel_fd_poll(9999, POLLIN, soon()), -EBADF);
    return 0;
}

static int wait_for_a_key(void *arg)
{
    return keel_fd_poll(*(int *)arg, POLLIN, soon());
}

/* Whatever wakes who waits, like a job that is stopped and goes on. */
static int a_terminal_is_waited_for_through_a_change_of_its_modes(void *arg)
{
    int far = posix_openpt(O_RDWR | O_NOCTTY), near, rc;
    struct termios modes;
    struct keel_co *co;

    (void)arg;
    assert_true(far >= 0 && grantpt(far) == 0 && unlockpt(far) == 0);
    near = open(ptsname(far), O_RDWR | O_NOCTTY | O_CLOEXEC);
    assert_true(near >= 0);
    assert_int_equal(keel_spawn(NULL, wait_for_a_key, &near, &co), 0);
    settle();
    assert_int_equal(tcgetattr(near, &modes), 0);
    for (int i = 0; i < 4; i++) {
        modes.c_lflag ^= ICANON;
        assert_int_equal(tcsetattr(near, TCSANOW, &modes), 0);
        settle();
    }
    assert_int_equal(write(far, "x\n", 2), 2);
    assert_int_equal(keel_join(co, soon(), &rc), 0);
    assert_int_equal(rc, POLLIN);
    close(near);
    close(far);
    return 0;
}

static int faults_are_asked_once_and_eintr_is_swallowed(void *arg)
{
    char buf[8];
    struct iovec out = {"abcd", 4}, in = {buf, sizeof buf};
    struct msghdr msg = {.msg_iov = &out, .msg_iovlen = 1};
    struct msghdr back = {.msg_iov = &in, .msg_iovlen = 1};

    (void)arg;
    fault_fail(KEEL_OP_SEND, 1, EINTR);
    assert_int_equal(keel_fd_write(ends[0], "abcd", 4, soon()), 4);
    assert_int_equal(fault_seen(KEEL_OP_SEND), 2);
    fault_fail(KEEL_OP_RECV, 1, EINTR);
    assert_int_equal(keel_fd_read(ends[1], buf, 8, soon()), 4);
    assert_int_equal(fault_seen(KEEL_OP_RECV), 2);

    fault_fail(KEEL_OP_SEND, 1, FAULT_SHORT);
    assert_int_equal(keel_fd_write(ends[0], "abcd", 4, soon()), 3);
    assert_int_equal(fault_seen(KEEL_OP_SEND), 1);
    fault_fail(KEEL_OP_RECV, 1, FAULT_SHORT);
    assert_int_equal(keel_fd_read(ends[1], buf, 3, soon()), 2);
    assert_int_equal(fault_seen(KEEL_OP_RECV), 1);
    assert_int_equal(keel_fd_read(ends[1], buf, 3, soon()), 1);

    fault_fail(KEEL_OP_SEND, 1, FAULT_SHORT);
    assert_int_equal(keel_fd_sendmsg(ends[0], &msg, 0, soon()), 3);
    fault_fail(KEEL_OP_RECV, 2, FAULT_SHORT);
    assert_int_equal(keel_fd_recvmsg(ends[1], &back, 0, soon()), 3);
    assert_int_equal(fault_fired(), 0);

    fault_fail(KEEL_OP_RECV, 1, ECONNRESET);
    assert_int_equal(keel_fd_read(ends[1], buf, 8, soon()), -ECONNRESET);
    fault_fail(KEEL_OP_SEND, 1, EPIPE);
    assert_int_equal(keel_fd_write(ends[1], buf, 8, soon()), -EPIPE);
    fault_fail(KEEL_OP_POLL, 1, EIO);
    assert_int_equal(keel_fd_poll(ends[1], POLLIN, soon()), -EIO);
    assert_int_equal(fault_seen(KEEL_OP_POLL), 1);

    /* A wait in between is no second attempt. */
    fault_fail(KEEL_OP_RECV, 2, EIO);
    assert_int_equal(keel_fd_read(ends[1], buf, 8, keel_after(KEEL_MS)),
                     -ETIMEDOUT);
    assert_int_equal(fault_seen(KEEL_OP_RECV), 1);
    return 0;
}

static int a_pipe_is_read_and_written_too(void *arg)
{
    int fds[2];
    char buf[8];

    (void)arg;
    assert_int_equal(pipe(fds), 0);
    assert_int_equal(keel_fd_adopt(fds[0]), 0);
    assert_int_equal(keel_fd_adopt(fds[1]), 0);
    assert_int_equal(keel_fd_read(fds[0], buf, 8, keel_after(KEEL_MS)),
                     -ETIMEDOUT);
    assert_int_equal(keel_fd_write(fds[1], "pipe", 4, soon()), 4);
    assert_int_equal(keel_fd_read(fds[0], buf, 8, soon()), 4);
    keel_fd_close(fds[0]);
    assert_int_equal(keel_fd_write(fds[1], "pipe", 4, soon()), -EPIPE);
    keel_fd_close(fds[1]);
    return 0;
}

static int a_table_that_cannot_grow_is_an_error_of_the_call(void *arg)
{
    char buf[4];
    int high = fcntl(ends[1], F_DUPFD_CLOEXEC, 700);

    (void)arg;
    assert_true(high >= 700);
    fault_fail(KEEL_OP_ALLOC, 1, ENOMEM);
    assert_int_equal(keel_fd_read(high, buf, 4, soon()), -ENOMEM);
    assert_int_equal(fault_fired(), 1);
    assert_int_equal(keel_fd_write(ends[0], "x", 1, soon()), 1);
    assert_int_equal(keel_fd_read(high, buf, 4, soon()), 1);
    keel_fd_close(high);
    return 0;
}

/* ---- several coroutines ------------------------------------------------------------ */

struct task {
    int fd;
    keel_ns deadline;
    char buf[64];
    size_t size;
};

static int read_task(void *arg)
{
    struct task *t = arg;

    return (int)keel_fd_read(t->fd, t->buf, sizeof t->buf, t->deadline);
}

static int poll_task(void *arg)
{
    struct task *t = arg;

    return keel_fd_poll(t->fd, POLLIN, t->deadline);
}

static int result_of(struct keel_co *co)
{
    int result = 77;

    assert_int_equal(keel_join(co, soon(), &result), 0);
    return result;
}

static int a_cancelled_wait_returns_and_leaves_the_bytes(void *arg)
{
    struct task t = {.fd = ends[1], .deadline = KEEL_FOREVER};
    struct keel_co *co;
    char buf[8];

    (void)arg;
    for (int parked = 0; parked < 2; parked++) {
        assert_int_equal(keel_spawn(NULL, read_task, &t, &co), 0);
        if (parked)
            settle();
        keel_cancel(co);
        assert_int_equal(result_of(co), -ECANCELED);
        assert_int_equal(keel_fd_write(ends[0], "kept", 4, soon()), 4);
        assert_int_equal(keel_fd_read(ends[1], buf, 8, soon()), 4);
    }
    return 0;
}

static int read_twice(void *arg)
{
    struct task *t = arg;
    int rc = read_task(t);

    if (rc < 0)
        return rc;
    t->size = (size_t)rc;
    return read_task(t);
}

static int bytes_that_came_win_over_the_cancel_which_shows_next(void *arg)
{
    struct task t = {.fd = ends[1], .deadline = KEEL_FOREVER};
    struct keel_co *co;
    char buf[8];
    int rc;

    (void)arg;
    assert_int_equal(keel_spawn(NULL, read_twice, &t, &co), 0);
    settle();
    assert_int_equal(write(ends[0], "both", 4), 4);
    keel_cancel(co);
    rc = result_of(co);
    assert_int_equal(rc, -ECANCELED);
    /* Either way the bytes are somewhere, once. */
    if (t.size == 0)
        assert_int_equal(keel_fd_read(ends[1], buf, 8, soon()), 4);
    else
        assert_int_equal(t.size, 4);
    return 0;
}

static int read_for_ever(void *arg)
{
    struct task *t = arg;
    int rc;

    do {
        rc = (int)keel_fd_write(ends[0], "more", 4, KEEL_FOREVER);
        if (rc >= 0)
            rc = read_task(t);
    } while (rc >= 0);
    return rc;
}

static int a_coroutine_whose_data_never_ends_can_be_cancelled(void *arg)
{
    struct task t = {.fd = ends[1], .deadline = KEEL_FOREVER};
    struct keel_co *co;

    (void)arg;
    assert_int_equal(keel_spawn(NULL, read_for_ever, &t, &co), 0);
    settle(); /* comes back at all: it yields now and then */
    keel_cancel(co);
    assert_int_equal(result_of(co), -ECANCELED);
    return 0;
}

static int closing_wakes_who_waits_with_ebadf(void *arg)
{
    struct task r = {.fd = ends[1], .deadline = KEEL_FOREVER};
    struct task p = {.fd = ends[1], .deadline = KEEL_FOREVER};
    struct keel_co *reader, *poller;
    int fresh[2];
    char buf[8];

    (void)arg;
    assert_int_equal(keel_spawn(NULL, read_task, &r, &reader), 0);
    assert_int_equal(keel_spawn(NULL, poll_task, &p, &poller), 0);
    settle();
    shut(&ends[1]);
    /* The number is used again at once. */
    assert_int_equal(socketpair(AF_UNIX, SOCK_STREAM, 0, fresh), 0);
    assert_int_equal(keel_fd_adopt(fresh[0]), 0);
    assert_int_equal(keel_fd_adopt(fresh[1]), 0);
    assert_int_equal(keel_fd_write(fresh[1], "new", 3, soon()), 3);
    assert_int_equal(result_of(reader), -EBADF);
    assert_int_equal(result_of(poller), -EBADF);
    assert_int_equal(keel_fd_read(fresh[0], buf, 8, soon()), 3);
    keel_fd_close(fresh[0]);
    keel_fd_close(fresh[1]);
    return 0;
}

enum { MANY = 2000000 };

static int pour(void *arg)
{
    struct task *t = arg;
    static char chunk[100000];
    size_t sent = 0;

    while (sent < MANY) {
        size_t n = MANY - sent < sizeof chunk ? MANY - sent : sizeof chunk;
        ssize_t rc = keel_fd_write(t->fd, chunk, n, soon());

        assert_true(rc > 0);
        sent += (size_t)rc;
    }
    return 0;
}

static int drink(void *arg)
{
    struct task *t = arg;
    static char chunk[70000];
    size_t got = 0;

    while (got < MANY) {
        ssize_t rc = keel_fd_read(t->fd, chunk, sizeof chunk, soon());

        assert_true(rc > 0);
        got += (size_t)rc;
    }
    return 0;
}

static int one_reads_while_another_writes_the_same_descriptor(void *arg)
{
    struct task left = {.fd = ends[0]}, right = {.fd = ends[1]};
    struct keel_co *co[4];

    (void)arg;
    assert_int_equal(keel_spawn(NULL, drink, &left, &co[0]), 0);
    assert_int_equal(keel_spawn(NULL, pour, &left, &co[1]), 0);
    assert_int_equal(keel_spawn(NULL, drink, &right, &co[2]), 0);
    assert_int_equal(keel_spawn(NULL, pour, &right, &co[3]), 0);
    for (int i = 0; i < 4; i++)
        assert_int_equal(result_of(co[i]), 0);
    return 0;
}

/* ---- between threads ---------------------------------------------------------------- */

static void *write_later(void *arg)
{
    struct task *t = arg;

    assert_int_equal(keel_fd_poll(t->fd, POLLOUT, soon()), POLLOUT);
    assert_int_equal(keel_fd_write(t->fd, "late", 4, soon()), 4);
    return NULL;
}

static int a_wait_ends_when_a_thread_writes(void *arg)
{
    struct task t = {.fd = ends[0]};
    pthread_t thread;
    char buf[8];

    (void)arg;
    assert_int_equal(pthread_create(&thread, NULL, write_later, &t), 0);
    assert_int_equal(keel_fd_read(ends[1], buf, 8, soon()), 4);
    pthread_join(thread, NULL);
    return 0;
}

static _Atomic pid_t reader;

/* Comes back when the reader sleeps in poll(2); after two seconds anyway, on
 * a kernel that does not tell. */
static void await_sleep(void)
{
    keel_ns deadline = keel_after(2 * KEEL_SECOND);
    char path[64], text[64] = "";

    do {
        FILE *f;

        sched_yield();
        snprintf(path, sizeof path, "/proc/self/task/%d/syscall", reader);
        f = fopen(path, "re");
        if (f && !fgets(text, sizeof text, f))
            text[0] = '\0';
        if (f)
            fclose(f);
    } while (atoi(text) != SYS_ppoll && keel_now() < deadline);
}

static void *read_in_thread(void *arg)
{
    struct task *t = arg;

    reader = gettid();
    t->size = (size_t)-read_task(t);
    return NULL;
}

static void closing_wakes_a_thread_that_waits(void **state)
{
    (void)state;
    for (int i = 0; i < 20; i++) {
        struct task t = {.fd = ends[1], .deadline = soon()};
        pthread_t thread;

        reader = 0;
        assert_int_equal(pthread_create(&thread, NULL, read_in_thread, &t), 0);
        while (!reader)
            sched_yield();
        await_sleep();
        shut(&ends[1]);
        pthread_join(thread, NULL);
        assert_int_equal(t.size, EBADF);
        end(NULL);
        assert_int_equal(begin(NULL), 0);
    }
}

/* Cancelled it reads no more, but shielded it does. */
static int reads_twice(void *arg)
{
    int fd = *(int *)arg, rc;
    char byte;

    rc = (int)keel_fd_read(fd, &byte, 1, KEEL_FOREVER);
    if (rc != -ECANCELED || keel_fd_read(fd, &byte, 1, KEEL_FOREVER) != rc)
        return -1;
    keel_shield();
    rc = (int)keel_fd_write(fd, "c", 1, KEEL_NOW);
    if (rc == 1)
        rc = (int)keel_fd_read(fd, &byte, 1, soon());
    keel_unshield();
    return rc == 1 ? byte : rc;
}

static void a_cancel_wakes_a_thread_that_reads(void **state)
{
    (void)state;
    for (int lap = 0; lap < 20; lap++) {
        struct keel_thread *t;
        char byte;
        int result = 0;

        assert_int_equal(keel_thread_start("reads", reads_twice, &ends[1], &t),
                         0);
        if (lap % 2) /* let it wait */
            assert_int_equal(keel_thread_join(t, keel_after(KEEL_MS), NULL),
                             -ETIMEDOUT);
        keel_thread_cancel(t);
        assert_int_equal(keel_fd_read(ends[0], &byte, 1, soon()), 1);
        assert_int_equal(keel_thread_join(t, keel_after(KEEL_MS), NULL),
                         -ETIMEDOUT);
        assert_int_equal(keel_fd_write(ends[0], "x", 1, KEEL_NOW), 1);
        assert_int_equal(keel_thread_join(t, KEEL_FOREVER, &result), 0);
        assert_int_equal(result, 'x');
    }
}

/* A number that another thread closes and the kernel gives out again must not
 * keep what this loop had learnt about it. */
static void *close_in_thread(void *arg)
{
    keel_fd_close(*(int *)arg);
    return NULL;
}

static int a_number_closed_by_a_thread_is_forgotten(void *arg)
{
    char buf[8];

    (void)arg;
    for (int i = 0; i < 3; i++) {
        pthread_t thread;
        int fd = ends[1];

        assert_int_equal(keel_fd_read(fd, buf, 8, keel_after(KEEL_MS)),
                         -ETIMEDOUT);
        assert_int_equal(pthread_create(&thread, NULL, close_in_thread, &fd),
                         0);
        pthread_join(thread, NULL);
        shut(&ends[0]);
        assert_int_equal(begin(NULL), 0);
        assert_int_equal(keel_fd_write(ends[0], "x", 1, soon()), 1);
        assert_int_equal(keel_fd_read(ends[1], buf, 8, soon()), 1);
    }
    return 0;
}

/* ---- connections ---------------------------------------------------------------------- */

static int listening(struct sockaddr_un *ret, socklen_t *ret_size, int backlog)
{
    int fd = socket(AF_UNIX, SOCK_STREAM, 0);

    *ret = (struct sockaddr_un){.sun_family = AF_UNIX};
    *ret_size = sizeof(sa_family_t);
    /* autobind: an abstract name that the kernel picks */
    assert_int_equal(bind(fd, (struct sockaddr *)ret, *ret_size), 0);
    *ret_size = sizeof *ret;
    assert_int_equal(getsockname(fd, (struct sockaddr *)ret, ret_size), 0);
    assert_int_equal(listen(fd, backlog), 0);
    assert_int_equal(keel_fd_adopt(fd), 0);
    return fd;
}

static int accept_task(void *arg)
{
    struct task *t = arg;
    struct sockaddr_storage peer;
    int fd = keel_fd_accept(t->fd, &peer, t->deadline);

    if (fd < 0)
        return fd;
    assert_int_equal(peer.ss_family, AF_UNIX);
    assert_true(fcntl(fd, F_GETFL) & O_NONBLOCK);
    assert_true(fcntl(fd, F_GETFD) & FD_CLOEXEC);
    keel_fd_close(fd);
    return 0;
}

static int new_socket(void)
{
    int fd = socket(AF_UNIX, SOCK_STREAM, 0);

    assert_int_equal(keel_fd_adopt(fd), 0);
    return fd;
}

static int connections_are_made_and_accepted(void *arg)
{
    struct sockaddr_un addr;
    socklen_t size;
    struct task t = {.fd = listening(&addr, &size, 5),
                     .deadline = KEEL_FOREVER};
    struct keel_co *co;
    int fd = new_socket();

    (void)arg;
    assert_int_equal(keel_spawn(NULL, accept_task, &t, &co), 0);
    settle();
    assert_int_equal(keel_fd_connect(fd, (void *)&addr, size, soon()), 0);
    assert_int_equal(result_of(co), 0);
    keel_fd_close(fd);

    t.deadline = keel_after(2 * KEEL_MS);
    assert_int_equal(accept_task(&t), -ETIMEDOUT);
    t.deadline = KEEL_NOW;
    assert_int_equal(accept_task(&t), -ETIMEDOUT);
    t.deadline = KEEL_FOREVER;
    assert_int_equal(keel_spawn(NULL, accept_task, &t, &co), 0);
    settle();
    keel_cancel(co);
    assert_int_equal(result_of(co), -ECANCELED);
    assert_int_equal(keel_spawn(NULL, accept_task, &t, &co), 0);
    settle();
    keel_fd_close(t.fd);
    assert_int_equal(result_of(co), -EBADF);

    fd = new_socket();
    assert_int_equal(keel_fd_connect(fd, (void *)&addr, size, soon()),
                     -ECONNREFUSED);
    keel_fd_close(fd);
    return 0;
}

static int faults_of_connections_are_asked_once(void *arg)
{
    struct sockaddr_un addr;
    socklen_t size;
    struct task t = {.fd = listening(&addr, &size, 5), .deadline = soon()};
    int fd = new_socket();

    (void)arg;
    fault_fail(KEEL_OP_CONNECT, 1, ETIMEDOUT);
    assert_int_equal(keel_fd_connect(fd, (void *)&addr, size, soon()),
                     -ETIMEDOUT);
    fault_fail(KEEL_OP_CONNECT, 1, EINTR);
    assert_int_equal(keel_fd_connect(fd, (void *)&addr, size, soon()), 0);
    assert_int_equal(fault_seen(KEEL_OP_CONNECT), 2);
    fault_fail(KEEL_OP_ACCEPT, 1, EMFILE);
    assert_int_equal(accept_task(&t), -EMFILE);
    assert_int_equal(fault_seen(KEEL_OP_ACCEPT), 1);
    /* Died in the queue: the next one is as good. */
    fault_fail(KEEL_OP_ACCEPT, 1, ECONNABORTED);
    assert_int_equal(accept_task(&t), 0);
    assert_int_equal(fault_seen(KEEL_OP_ACCEPT), 2);
    keel_fd_close(fd);
    keel_fd_close(t.fd);
    return 0;
}

static int a_full_unix_listener_is_waited_for(void *arg)
{
    struct sockaddr_un addr;
    socklen_t size;
    struct task t = {.fd = listening(&addr, &size, 0), .deadline = soon()};
    int fd[2] = {new_socket(), new_socket()};

    (void)arg;
    assert_int_equal(keel_fd_connect(fd[0], (void *)&addr, size, soon()), 0);
    assert_int_equal(
        keel_fd_connect(fd[1], (void *)&addr, size, keel_after(5 * KEEL_MS)),
        -ETIMEDOUT);
    assert_int_equal(accept_task(&t), 0);
    assert_int_equal(keel_fd_connect(fd[1], (void *)&addr, size, soon()), 0);
    keel_fd_close(fd[0]);
    keel_fd_close(fd[1]);
    keel_fd_close(t.fd);
    return 0;
}

/* ---- registration ---------------------------------------------------------------------- */

IN_BOTH(adopted_descriptors_do_not_block_and_close_on_exec)
IN_BOTH(bytes_cross)
IN_BOTH(messages_cross_with_their_descriptors)
IN_BOTH(what_is_at_hand_is_done_even_past_the_deadline)
IN_BOTH(a_wait_ends_at_its_deadline_and_loses_nothing)
IN_BOTH(the_scope_of_a_timeout_bounds_a_wait)
IN_BOTH(polling_tells_the_events)
IN_BOTH(faults_are_asked_once_and_eintr_is_swallowed)
IN_BOTH(a_pipe_is_read_and_written_too)
IN_BOTH(a_wait_ends_when_a_thread_writes)
IN_BOTH(a_full_unix_listener_is_waited_for)
IN_BOTH(faults_of_connections_are_asked_once)
IN_CO(a_terminal_is_waited_for_through_a_change_of_its_modes)
IN_CO(a_table_that_cannot_grow_is_an_error_of_the_call)
IN_CO(a_cancelled_wait_returns_and_leaves_the_bytes)
IN_CO(bytes_that_came_win_over_the_cancel_which_shows_next)
IN_CO(a_coroutine_whose_data_never_ends_can_be_cancelled)
IN_CO(closing_wakes_who_waits_with_ebadf)
IN_CO(one_reads_while_another_writes_the_same_descriptor)
IN_CO(a_number_closed_by_a_thread_is_forgotten)
IN_CO(connections_are_made_and_accepted)

#define TEST(name) cmocka_unit_test_setup_teardown(name, begin, end)

int main(void)
{
    const struct CMUnitTest tests[] = {
        BOTH(adopted_descriptors_do_not_block_and_close_on_exec),
        BOTH(bytes_cross),
        BOTH(messages_cross_with_their_descriptors),
        BOTH(what_is_at_hand_is_done_even_past_the_deadline),
        BOTH(a_wait_ends_at_its_deadline_and_loses_nothing),
        BOTH(the_scope_of_a_timeout_bounds_a_wait),
        BOTH(polling_tells_the_events),
        BOTH(faults_are_asked_once_and_eintr_is_swallowed),
        BOTH(a_pipe_is_read_and_written_too),
        BOTH(a_wait_ends_when_a_thread_writes),
        BOTH(a_full_unix_listener_is_waited_for),
        BOTH(faults_of_connections_are_asked_once),
        CO(a_terminal_is_waited_for_through_a_change_of_its_modes),
        CO(a_table_that_cannot_grow_is_an_error_of_the_call),
        CO(a_cancelled_wait_returns_and_leaves_the_bytes),
        CO(bytes_that_came_win_over_the_cancel_which_shows_next),
        CO(a_coroutine_whose_data_never_ends_can_be_cancelled),
        CO(closing_wakes_who_waits_with_ebadf),
        CO(one_reads_while_another_writes_the_same_descriptor),
        CO(a_number_closed_by_a_thread_is_forgotten),
        CO(connections_are_made_and_accepted),
        TEST(closing_wakes_a_thread_that_waits),
        TEST(a_cancel_wakes_a_thread_that_reads),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
