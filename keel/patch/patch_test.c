/* SPDX-License-Identifier: MIT */
/* Linked with libkeel-patch: libc's calls in coroutines, outside of them, and
 * the detector.  That a call parks is shown by others that run meanwhile: one
 * that blocked would stop the only loop for ever. */
#include <keel/patch.h>

#include "test/test.h"
#include "test/clock.h"
#include "test/test_abort.h"

#include <arpa/inet.h>
#include <fcntl.h>
#include <netdb.h>
#include <netinet/in.h>
#include <poll.h>
#include <signal.h>
#include <stdio.h>
#include <sys/epoll.h>
#include <sys/eventfd.h>
#include <sys/resource.h>
#include <sys/select.h>
#include <sys/sendfile.h>
#include <sys/socket.h>
#include <sys/time.h>
#include <sys/uio.h>
#include <sys/un.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

#include <keel/io.h>

#include "loop/sanitize.h"

/* Two blocking ends, of what the test needs. */
static int ends[2];

static void pair(int type)
{
    assert_int_equal(socketpair(AF_UNIX, type, 0, ends), 0);
}

static void unpair(void)
{
    close(ends[0]);
    close(ends[1]);
}

/* Everybody else has come to their wait. */
static void settle(void)
{
    for (int i = 0; i < 50; i++)
        keel_yield();
}

/* ---- what waits for input ----------------------------------------------------------- */

/* Each makes one call on ends[0] and expects what arrive() brings. */
static void got_hello(const char *got, ssize_t n)
{
    assert_int_equal(n, 5);
    assert_memory_equal(got, "hello", 5);
}

static int by_read(void *arg)
{
    char buf[8];

    (void)arg;
    got_hello(buf, read(ends[0], buf, sizeof buf));
    return 0;
}

static int by_readv(void *arg)
{
    char buf[5];
    struct iovec v[2] = {{buf, 2}, {buf + 2, 3}};

    (void)arg;
    got_hello(buf, readv(ends[0], v, 2));
    return 0;
}

static int by_recv(void *arg)
{
    char buf[8];

    (void)arg;
    got_hello(buf, recv(ends[0], buf, sizeof buf, 0));
    return 0;
}

static int by_recvfrom(void *arg)
{
    char buf[8];
    struct sockaddr_storage from;
    socklen_t size = sizeof from;

    (void)arg;
    got_hello(buf, recvfrom(ends[0], buf, sizeof buf, 0,
                            (struct sockaddr *)&from, &size));
    return 0;
}

static int by_recvmsg(void *arg)
{
    char buf[8];
    struct iovec v = {buf, sizeof buf};
    struct msghdr msg = {.msg_iov = &v, .msg_iovlen = 1};

    (void)arg;
    got_hello(buf, recvmsg(ends[0], &msg, 0));
    return 0;
}

static int by_recvmmsg(void *arg)
{
    char buf[8];
    struct iovec v = {buf, sizeof buf};
    struct mmsghdr msgs[2] = {{.msg_hdr = {.msg_iov = &v, .msg_iovlen = 1}},
                              {.msg_hdr = {.msg_iov = &v, .msg_iovlen = 1}}};

    (void)arg;
    assert_int_equal(recvmmsg(ends[0], msgs, 2, MSG_WAITFORONE, NULL), 1);
    got_hello(buf, (ssize_t)msgs[0].msg_len);
    return 0;
}

static int by_poll(void *arg)
{
    struct pollfd p[2] = {{.fd = ends[0], .events = POLLIN}, {.fd = -1}};

    assert_int_equal(poll(p, 2, -1), 1);
    assert_int_equal(p[0].revents, POLLIN);
    return by_read(arg);
}

static int by_ppoll(void *arg)
{
    struct pollfd p = {.fd = ends[0], .events = POLLIN};
    struct timespec t = {60, 0};

    assert_int_equal(ppoll(&p, 1, &t, NULL), 1);
    assert_int_equal(p.revents, POLLIN);
    return by_read(arg);
}

static int by_poll_of_many(void *arg)
{
    struct pollfd p[9];

    for (int i = 0; i < 9; i++)
        p[i] = (struct pollfd){.fd = ends[1], .events = POLLPRI};
    p[8] = (struct pollfd){.fd = ends[0], .events = POLLIN};
    assert_int_equal(poll(p, 9, 60000), 1);
    assert_int_equal(p[8].revents, POLLIN);
    return by_read(arg);
}

static int by_select(void *arg)
{
    struct timeval tv = {60, 0};
    fd_set r, w, x;

    FD_ZERO(&r);
    FD_ZERO(&w);
    FD_ZERO(&x);
    FD_SET(ends[0], &r);
    FD_SET(ends[0], &x);
    assert_int_equal(select(ends[0] + 1, &r, &w, &x, &tv), 1);
    assert_true(FD_ISSET(ends[0], &r));
    assert_false(FD_ISSET(ends[0], &x));
    assert_true(tv.tv_sec < 60 && tv.tv_sec > 0); /* what was left */
    return by_read(arg);
}

static int by_pselect(void *arg)
{
    fd_set r;

    FD_ZERO(&r);
    FD_SET(ends[0], &r);
    assert_int_equal(pselect(ends[0] + 1, &r, NULL, NULL, NULL, NULL), 1);
    assert_true(FD_ISSET(ends[0], &r));
    return by_read(arg);
}

static int epoll_of(int fd)
{
    struct epoll_event ev = {.events = EPOLLIN, .data.fd = fd};
    int ep = epoll_create1(EPOLL_CLOEXEC);

    assert_true(ep >= 0);
    assert_int_equal(epoll_ctl(ep, EPOLL_CTL_ADD, fd, &ev), 0);
    return ep;
}

static int by_epoll_wait(void *arg)
{
    struct epoll_event ev;
    int ep = epoll_of(ends[0]);

    assert_int_equal(epoll_wait(ep, &ev, 1, -1), 1);
    assert_int_equal(ev.data.fd, ends[0]);
    close(ep);
    return by_read(arg);
}

static int by_epoll_pwait(void *arg)
{
    struct epoll_event ev;
    int ep = epoll_of(ends[0]);

    assert_int_equal(epoll_pwait(ep, &ev, 1, 60000, NULL), 1);
    close(ep);
    return by_read(arg);
}

static int by_epoll_pwait2(void *arg)
{
    struct timespec t = {60, 0};
    struct epoll_event ev;
    int ep = epoll_of(ends[0]), rc = epoll_pwait2(ep, &ev, 1, &t, NULL);

    if (!getenv("KEEL_TEST_VALGRIND")) /* which has none */
        assert_int_equal(rc, 1);
    close(ep);
    return by_read(arg);
}

/* Behind the headers' backs, as a program built with _FORTIFY_SOURCE. */
ssize_t __read_chk(int fd, void *buf, size_t size, size_t room);
ssize_t __recv_chk(int fd, void *buf, size_t size, size_t room, int flags);
ssize_t __recvfrom_chk(int fd, void *buf, size_t size, size_t room, int flags,
                       struct sockaddr *from, socklen_t *from_size);
int __poll_chk(struct pollfd *fds, nfds_t count, int ms, size_t room);
int __ppoll_chk(struct pollfd *fds, nfds_t count, const struct timespec *t,
                const sigset_t *mask, size_t room);

static int by_fortified_read(void *arg)
{
    char buf[8];
    struct pollfd p = {.fd = ends[0], .events = POLLIN};

    (void)arg;
    assert_int_equal(__poll_chk(&p, 1, -1, sizeof p), 1);
    assert_int_equal(__ppoll_chk(&p, 1, NULL, NULL, sizeof p), 1);
    got_hello(buf, __read_chk(ends[0], buf, sizeof buf, sizeof buf));
    return 0;
}

static int by_fortified_recv(void *arg)
{
    char buf[8];

    (void)arg;
    got_hello(buf, __recv_chk(ends[0], buf, 5, sizeof buf, MSG_PEEK));
    got_hello(buf, __recvfrom_chk(ends[0], buf, sizeof buf, sizeof buf, 0, NULL,
                                  NULL));
    return 0;
}

static int (*const on_sockets[])(void *) = {
    by_read,         by_readv,        by_recv,           by_recvfrom,
    by_recvmsg,      by_recvmmsg,     by_poll,           by_ppoll,
    by_poll_of_many, by_select,       by_pselect,        by_epoll_wait,
    by_epoll_pwait,  by_epoll_pwait2, by_fortified_read, by_fortified_recv,
};
static int (*const on_pipes[])(void *) = {
    by_read,    by_readv,      by_poll,           by_poll_of_many,
    by_pselect, by_epoll_wait, by_fortified_read,
};

static void parks_until_input(int (*call)(void *))
{
    struct keel_co *co = test_spawn(call, NULL);
    int rc;

    settle();
    assert_int_equal(keel_join(co, KEEL_NOW, &rc), -ETIMEDOUT);
    assert_int_equal(write(ends[1], "hello", 5), 5);
    assert_int_equal(test_join(co), 0);
}

CO_TEST(what_waits_for_a_socket_parks)
{
    for (size_t i = 0; i < sizeof on_sockets / sizeof *on_sockets; i++) {
        pair(SOCK_STREAM);
        parks_until_input(on_sockets[i]);
        unpair();
    }
    return 0;
}

CO_TEST(what_waits_for_a_datagram_parks)
{
    for (int i = 0; i < 6; i++) {
        pair(SOCK_DGRAM);
        parks_until_input(on_sockets[i]);
        unpair();
    }
    return 0;
}

CO_TEST(what_waits_for_a_pipe_parks)
{
    for (size_t i = 0; i < sizeof on_pipes / sizeof *on_pipes; i++) {
        assert_int_equal(pipe(ends), 0);
        parks_until_input(on_pipes[i]);
        unpair();
    }
    return 0;
}

static int reads_terminal(void *arg)
{
    char buf[16];

    assert_int_equal(read(*(int *)arg, buf, sizeof buf), 6);
    assert_memory_equal(buf, "hello\n", 6);
    return 0;
}

CO_TEST(what_waits_for_a_terminal_parks)
{
    int master = posix_openpt(O_RDWR | O_NOCTTY), slave;
    struct keel_co *co;

    assert_true(master >= 0);
    assert_int_equal(grantpt(master), 0);
    assert_int_equal(unlockpt(master), 0);
    slave = open(ptsname(master), O_RDWR | O_NOCTTY);
    assert_true(slave >= 0);
    co = test_spawn(reads_terminal, &slave);
    settle();
    assert_int_equal(write(master, "hello\n", 6), 6);
    assert_int_equal(test_join(co), 0);
    close(slave);
    close(master);
    return 0;
}

static int reads_eventfd(void *arg)
{
    eventfd_t value = 0;

    assert_int_equal(read(*(int *)arg, &value, sizeof value), sizeof value);
    return (int)value;
}

CO_TEST(what_waits_for_an_eventfd_parks)
{
    int fd = eventfd(0, EFD_CLOEXEC);
    struct keel_co *co = test_spawn(reads_eventfd, &fd);

    settle();
    assert_int_equal(eventfd_write(fd, 7), 0);
    assert_int_equal(test_join(co), 7);
    close(fd);
    return 0;
}

static int takes_all(void *arg)
{
    char buf[10] = {0};
    ssize_t n = recv(ends[0], buf, sizeof buf, MSG_WAITALL);

    (void)arg;
    assert_memory_equal(buf, "helloworld", (size_t)n);
    return (int)n;
}

CO_TEST(msg_waitall_waits_for_all)
{
    struct keel_co *co;

    pair(SOCK_STREAM);
    for (int whole = 1; whole >= 0; whole--) {
        co = test_spawn(takes_all, NULL);
        settle();
        assert_int_equal(write(ends[1], "hello", 5), 5);
        settle();
        if (whole)
            assert_int_equal(write(ends[1], "world", 5), 5);
        else
            assert_int_equal(shutdown(ends[1], SHUT_WR), 0);
        assert_int_equal(test_join(co), whole ? 10 : 5);
    }
    unpair();
    return 0;
}

/* ---- what waits for room -------------------------------------------------------------- */

enum { MUCH = 3 * 1024 * 1024 };
static char much[MUCH];

static void fill_much(void)
{
    for (size_t i = 0; i < MUCH; i++)
        much[i] = (char)(i * 7 + i / 4096);
}

static ssize_t by_write(void)
{
    return write(ends[1], much, MUCH);
}

static ssize_t by_writev(void)
{
    struct iovec v[3] = {
        {much, 1000}, {much + 1000, 500000}, {much + 501000, MUCH - 501000}};

    return writev(ends[1], v, 3);
}

static ssize_t by_send(void)
{
    return send(ends[1], much, MUCH, 0);
}

static ssize_t by_sendto(void)
{
    return sendto(ends[1], much, MUCH, MSG_NOSIGNAL, NULL, 0);
}

static ssize_t by_sendmsg(void)
{
    struct iovec v[2] = {{much, 12345}, {much + 12345, MUCH - 12345}};
    struct msghdr msg = {.msg_iov = v, .msg_iovlen = 2};

    return sendmsg(ends[1], &msg, 0);
}

static ssize_t by_sendmmsg(void)
{
    struct iovec v[2] = {{much, MUCH / 2}, {much + MUCH / 2, MUCH - MUCH / 2}};
    struct mmsghdr msgs[2] = {{.msg_hdr = {.msg_iov = &v[0], .msg_iovlen = 1}},
                              {.msg_hdr = {.msg_iov = &v[1], .msg_iovlen = 1}}};

    assert_int_equal(sendmmsg(ends[1], msgs, 2, 0), 2);
    return (ssize_t)(msgs[0].msg_len + msgs[1].msg_len);
}

static int file_of_much(void)
{
    char name[] = "/tmp/keel-patch.XXXXXX";
    int fd = mkstemp(name);

    assert_true(fd >= 0);
    assert_int_equal(unlink(name), 0);
    assert_int_equal(write(fd, much, MUCH), MUCH);
    assert_int_equal(lseek(fd, 0, SEEK_SET), 0);
    return fd;
}

static ssize_t by_sendfile(void)
{
    int fd = file_of_much();
    off_t at = MUCH / 2;
    ssize_t n = sendfile(ends[1], fd, NULL, MUCH / 2);

    assert_int_equal(n, MUCH / 2);
    assert_int_equal(lseek(fd, 0, SEEK_CUR), MUCH / 2);
    n += sendfile(ends[1], fd, &at, MUCH); /* as much as there is */
    assert_int_equal(at, MUCH);
    assert_int_equal(lseek(fd, 0, SEEK_CUR), MUCH / 2);
    close(fd);
    return n;
}

typedef ssize_t writes(void);

static int writes_much(void *arg)
{
    writes *const *call = arg;

    errno = 1234;
    assert_int_equal((*call)(), MUCH);
    assert_int_equal(errno, 1234);
    return 0;
}

static void parks_until_room(writes *call)
{
    struct keel_co *co = test_spawn(writes_much, &call);
    static char back[MUCH];
    size_t done = 0;
    int rc;

    settle();
    assert_int_equal(keel_join(co, KEEL_NOW, &rc), -ETIMEDOUT);
    while (done < MUCH) {
        ssize_t n = read(ends[0], back + done, MUCH - done);

        assert_true(n > 0);
        done += (size_t)n;
    }
    assert_memory_equal(back, much, MUCH);
    assert_int_equal(test_join(co), 0);
}

CO_TEST(what_waits_for_room_parks_and_moves_all)
{
    static writes *const calls[] = {by_write,   by_writev,  by_send,
                                    by_sendto,  by_sendmsg, by_sendmmsg,
                                    by_sendfile};

    fill_much();
    for (size_t i = 0; i < sizeof calls / sizeof *calls; i++) {
        pair(SOCK_STREAM);
        parks_until_room(calls[i]);
        unpair();
    }
    for (int i = 0; i < 2; i++) {
        assert_int_equal(pipe(ends), 0);
        parks_until_room(calls[i]);
        unpair();
    }
    return 0;
}

static int sends_then_fails(void *arg)
{
    ssize_t n = send(ends[1], much, MUCH, 0);

    (void)arg;
    assert_true(n > 0 && n < MUCH);
    assert_int_equal(send(ends[1], much, MUCH, 0), -1);
    return errno;
}

CO_TEST(a_peer_that_goes_is_told_after_what_was_sent)
{
    struct keel_co *co;

    pair(SOCK_STREAM);
    co = test_spawn(sends_then_fails, NULL);
    settle();
    close(ends[0]);
    assert_int_equal(test_join(co), EPIPE); /* and no signal */
    close(ends[1]);
    return 0;
}

/* ---- connections -------------------------------------------------------------------------- */

static int tcp_listener(struct sockaddr_in *ret)
{
    int fd = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
    socklen_t size = sizeof *ret;

    *ret = (struct sockaddr_in){.sin_family = AF_INET,
                                .sin_addr.s_addr = htonl(INADDR_LOOPBACK)};
    assert_int_equal(bind(fd, (struct sockaddr *)ret, sizeof *ret), 0);
    assert_int_equal(listen(fd, 16), 0);
    assert_int_equal(getsockname(fd, (struct sockaddr *)ret, &size), 0);
    return fd;
}

static int accepts(void *arg)
{
    struct sockaddr_in peer;
    socklen_t size = sizeof peer;
    int fd = accept(*(int *)arg, (struct sockaddr *)&peer, &size);

    assert_true(fd >= 0);
    assert_int_equal(peer.sin_family, AF_INET);
    assert_false(fcntl(fd, F_GETFL) & O_NONBLOCK);
    close(fd);
    fd = accept4(*(int *)arg, NULL, NULL, SOCK_NONBLOCK | SOCK_CLOEXEC);
    assert_true(fd >= 0);
    assert_true(fcntl(fd, F_GETFL) & O_NONBLOCK);
    assert_true(fcntl(fd, F_GETFD) & FD_CLOEXEC);
    close(fd);
    return 0;
}

CO_TEST(accept_parks_and_connect_connects)
{
    struct sockaddr_in at;
    int listener = tcp_listener(&at), fd;
    struct keel_co *co = test_spawn(accepts, &listener);

    for (int i = 0; i < 2; i++) {
        settle();
        fd = socket(AF_INET, SOCK_STREAM, 0);
        assert_int_equal(connect(fd, (struct sockaddr *)&at, sizeof at), 0);
        assert_false(fcntl(fd, F_GETFL) & O_NONBLOCK);
        close(fd);
    }
    assert_int_equal(test_join(co), 0);
    close(listener);
    fd = socket(AF_INET, SOCK_STREAM, 0);
    assert_int_equal(connect(fd, (struct sockaddr *)&at, sizeof at), -1);
    assert_int_equal(errno, ECONNREFUSED);
    /* What accept refuses, it refuses at once. */
    assert_int_equal(accept(fd, NULL, NULL), -1);
    assert_int_equal(errno, EINVAL);
    close(fd);
    return 0;
}

static struct sockaddr_un full_address;

static int connects_to_full(void *arg)
{
    int fd = socket(AF_UNIX, SOCK_STREAM, 0), rc;
    struct timeval tv = {0, arg ? 20000 : 0};

    assert_int_equal(setsockopt(fd, SOL_SOCKET, SO_SNDTIMEO, &tv, sizeof tv),
                     0);
    rc = connect(fd, (struct sockaddr *)&full_address, sizeof full_address);
    rc = rc < 0 ? -errno : 0;
    close(fd);
    return rc;
}

/* A unix listener is full with one more than its backlog. */
CO_TEST(connect_parks_until_there_is_room)
{
    int listener = socket(AF_UNIX, SOCK_STREAM, 0), in_time = 1;
    struct keel_co *first, *second, *third;

    full_address = (struct sockaddr_un){.sun_family = AF_UNIX};
    (void)snprintf(full_address.sun_path + 1, sizeof full_address.sun_path - 1,
                   "keel-patch-%d", (int)getpid());
    assert_int_equal(
        bind(listener, (struct sockaddr *)&full_address, sizeof full_address),
        0);
    assert_int_equal(listen(listener, 0), 0);
    first = test_spawn(connects_to_full, NULL);
    settle();
    second = test_spawn(connects_to_full, NULL);
    third = test_spawn(connects_to_full, &in_time);
    assert_int_equal(test_join(first), 0);
    assert_int_equal(test_join(third), -EAGAIN);
    close(accept(listener, NULL, NULL));
    assert_int_equal(test_join(second), 0);
    close(listener);
    return 0;
}

/* ---- as ever ------------------------------------------------------------------------------- */

CO_TEST(a_non_blocking_descriptor_behaves_as_ever)
{
    struct sockaddr_in at;
    int listener = tcp_listener(&at);
    struct iovec v = {much, 10};
    struct msghdr msg = {.msg_iov = &v, .msg_iovlen = 1};
    char buf[10];
    int fds[2];

    pair(SOCK_STREAM);
    for (int i = 0; i < 2; i++)
        assert_int_equal(fcntl(ends[i], F_SETFL, O_NONBLOCK), 0);
#define AGAIN(call)                                                            \
    do {                                                                       \
        errno = 0;                                                             \
        assert_int_equal(call, -1);                                            \
        assert_int_equal(errno, EAGAIN);                                       \
    } while (0)
    AGAIN(read(ends[0], buf, sizeof buf));
    AGAIN(readv(ends[0], &v, 1));
    AGAIN(recv(ends[0], buf, sizeof buf, 0));
    AGAIN(recv(ends[0], buf, sizeof buf, MSG_WAITALL));
    AGAIN(recvfrom(ends[0], buf, sizeof buf, 0, NULL, NULL));
    AGAIN(recvmsg(ends[0], &msg, 0));
    assert_true(write(ends[1], much, MUCH) < MUCH);
    AGAIN(write(ends[1], much, MUCH));
    AGAIN(writev(ends[1], &v, 1));
    AGAIN(send(ends[1], much, MUCH, 0));
    AGAIN(sendmsg(ends[1], &msg, 0));
    assert_int_equal(fcntl(listener, F_SETFL, O_NONBLOCK), 0);
    AGAIN(accept(listener, NULL, NULL));
    AGAIN(accept4(listener, NULL, NULL, 0));
    assert_int_equal(pipe2(fds, O_NONBLOCK), 0);
    AGAIN(read(fds[0], buf, sizeof buf));
    assert_true(write(fds[1], much, MUCH) < MUCH);
    AGAIN(write(fds[1], much, MUCH));
    close(fds[0]);
    close(fds[1]);
    close(listener);
    unpair();
    pair(SOCK_STREAM); /* blocking, but for the call */
    AGAIN(recv(ends[0], buf, sizeof buf, MSG_DONTWAIT));
    assert_true(send(ends[1], much, MUCH, MSG_DONTWAIT) < MUCH);
    AGAIN(send(ends[1], much, MUCH, MSG_DONTWAIT));
    unpair();
    return 0;
}

#define FAILS(call, error)                                                     \
    do {                                                                       \
        errno = 0;                                                             \
        assert_int_equal(call, -1);                                            \
        assert_int_equal(errno, error);                                        \
    } while (0)

CO_TEST(errors_are_those_of_the_kernel)
{
    struct sockaddr_in any = {.sin_family = AF_INET};
    struct timespec wrong = {0, -1};
    struct pollfd p = {.fd = 9999, .events = POLLIN};
    struct epoll_event ev;
    char buf[8] = {0};
    fd_set set;
    int dir = open("/", O_RDONLY | O_DIRECTORY);
    int tcp = socket(AF_INET, SOCK_STREAM, 0);
    int event = eventfd(0, 0);

    FAILS(read(-1, buf, 8), EBADF);
    FAILS(write(9999, buf, 8), EBADF);
    FAILS(read(dir, buf, 8), EISDIR);
    FAILS(recv(dir, buf, 8, 0), ENOTSOCK);
    FAILS(send(dir, buf, 8, 0), ENOTSOCK);
    FAILS(accept(dir, NULL, NULL), ENOTSOCK);
    FAILS(connect(-1, (struct sockaddr *)&any, sizeof any), EBADF);
    FAILS(recv(tcp, buf, 8, 0), ENOTCONN);
    FAILS(read(event, buf, 4), EINVAL);
    FAILS(epoll_wait(dir, &ev, 1, -1), EINVAL);
    FAILS(epoll_wait(-1, &ev, 1, -1), EBADF);
    FAILS(nanosleep(&wrong, NULL), EINVAL);
    assert_int_equal(clock_nanosleep(CLOCK_MONOTONIC, 0, &wrong, NULL), EINVAL);
    assert_int_equal(poll(&p, 1, -1), 1);
    assert_int_equal(p.revents, POLLNVAL);
    FD_ZERO(&set);
    FD_SET(event, &set);
    close(event);
    FAILS(select(event + 1, &set, NULL, NULL, NULL), EBADF);
    FAILS(select(-1, NULL, NULL, NULL, NULL), EINVAL);
    FAILS(waitpid(getpid(), NULL, 0), ECHILD);
    assert_int_equal(read(dir, buf, 0), -1);
    assert_int_equal(writev(tcp, NULL, 0), 0);
    close(tcp);
    close(dir);
    return 0;
}

CO_TEST(a_file_is_read_and_written_as_ever)
{
    char buf[100];
    int fd;

    fill_much();
    fd = file_of_much();
    assert_int_equal(read(fd, buf, sizeof buf), sizeof buf);
    assert_memory_equal(buf, much, sizeof buf);
    assert_int_equal(lseek(fd, 0, SEEK_CUR), sizeof buf);
    close(fd);
    return 0;
}

CO_TEST(errno_is_left_alone_where_nothing_fails)
{
    struct pollfd p;
    char buf[8];

    pair(SOCK_STREAM);
    p = (struct pollfd){.fd = ends[0], .events = POLLIN};
    errno = 77;
    assert_int_equal(write(ends[1], "hello", 5), 5);
    assert_int_equal(poll(&p, 1, 10), 1);
    assert_int_equal(read(ends[0], buf, 8), 5);
    assert_int_equal(poll(&p, 1, 1), 0);
    assert_int_equal(usleep(1000), 0);
    assert_int_equal(errno, 77);
    unpair();
    return 0;
}

static void *blocks_as_ever(void *arg)
{
    struct timeval tv = {0, 20000};
    struct timespec t = {0, 1000000}, before, later;
    struct pollfd p;
    char buf[8];

    pair(SOCK_STREAM);
    p = (struct pollfd){.fd = ends[0], .events = POLLIN};
    assert_int_equal(
        setsockopt(ends[0], SOL_SOCKET, SO_RCVTIMEO, &tv, sizeof tv), 0);
    FAILS(read(ends[0], buf, 8), EAGAIN);
    FAILS(recv(ends[0], buf, 8, 0), EAGAIN);
    assert_int_equal(poll(&p, 1, 5), 0);
    clock_gettime(CLOCK_MONOTONIC, &before);
    assert_int_equal(nanosleep(&t, NULL), 0);
    assert_int_equal(usleep(1000), 0);
    assert_int_equal(clock_nanosleep(CLOCK_MONOTONIC, 0, &t, NULL), 0);
    clock_gettime(CLOCK_MONOTONIC, &later);
    assert_true((later.tv_sec - before.tv_sec) * 1000000000 + later.tv_nsec -
                    before.tv_nsec >=
                3000000);
    assert_int_equal(write(ends[1], "hello", 5), 5);
    got_hello(buf, read(ends[0], buf, 8));
    unpair();
    return arg;
}

/* Not in this one: what io_uring leaves behind in a thread that ran a loop may
 * interrupt its next call. */
static void in_a_thread_calls_block_as_ever(void **state)
{
    pthread_t thread;

    (void)state;
    assert_int_equal(pthread_create(&thread, NULL, blocks_as_ever, NULL), 0);
    assert_int_equal(pthread_join(thread, NULL), 0);
}

static volatile sig_atomic_t alarms;

static void on_alarm(int signal)
{
    (void)signal;
    alarms++;
}

/* In a thread a signal ends the call; in a coroutine it does not. */
static void signals_interrupt_threads_alone(void **state)
{
    struct itimerval soon = {.it_value = {0, 5000}};
    struct sigaction act = {.sa_handler = on_alarm}, old;
    char buf[8];

    (void)state;
    pair(SOCK_STREAM);
    assert_int_equal(sigaction(SIGALRM, &act, &old), 0);
    alarms = 0;
    assert_int_equal(setitimer(ITIMER_REAL, &soon, NULL), 0);
    FAILS(read(ends[0], buf, 8), EINTR);
    assert_int_equal(alarms, 1);
    assert_int_equal(sigaction(SIGALRM, &old, NULL), 0);
    unpair();
}

CO_TEST(a_signal_does_not_end_a_parked_call)
{
    struct itimerval soon = {.it_value = {0, 5000}};
    struct sigaction act = {.sa_handler = on_alarm}, old;
    struct timespec span = {0, 20000000};

    alarms = 0;
    assert_int_equal(sigaction(SIGALRM, &act, &old), 0);
    assert_int_equal(setitimer(ITIMER_REAL, &soon, NULL), 0);
    assert_int_equal(nanosleep(&span, NULL), 0);
    assert_int_equal(alarms, 1);
    assert_int_equal(sigaction(SIGALRM, &old, NULL), 0);
    return 0;
}

CO_TEST(a_mask_lets_its_signal_end_the_call)
{
    struct itimerval soon = {.it_value = {0, 5000}};
    struct sigaction act = {.sa_handler = on_alarm}, old;
    sigset_t blocked, before, mask;

    alarms = 0;
    sigemptyset(&blocked);
    sigaddset(&blocked, SIGALRM);
    assert_int_equal(pthread_sigmask(SIG_BLOCK, &blocked, &before), 0);
    mask = before;
    sigdelset(&mask, SIGALRM);
    assert_int_equal(sigaction(SIGALRM, &act, &old), 0);
    assert_int_equal(setitimer(ITIMER_REAL, &soon, NULL), 0);
    FAILS(ppoll(NULL, 0, NULL, &mask), EINTR);
    assert_int_equal(alarms, 1);
    assert_int_equal(pthread_sigmask(SIG_SETMASK, &before, NULL), 0);
    assert_int_equal(sigaction(SIGALRM, &old, NULL), 0);
    return 0;
}

static int pulse[2];

static void on_alarm_write(int signal)
{
    (void)signal;
    if (write(pulse[1], "!", 1) == 1)
        alarms++;
}

CO_TEST(a_handler_may_write_while_it_interrupts_a_coroutine)
{
    struct itimerval often = {.it_value = {0, 500}, .it_interval = {0, 500}};
    struct itimerval never = {.it_value = {0, 0}};
    struct sigaction act = {.sa_handler = on_alarm_write,
                            .sa_flags = SA_RESTART};
    struct sigaction old;
    char buf[64];
    struct timespec now;
    int sum = 0;

    alarms = 0;
    assert_int_equal(pipe(pulse), 0);
    assert_int_equal(sigaction(SIGALRM, &act, &old), 0);
    assert_int_equal(setitimer(ITIMER_REAL, &often, NULL), 0);
    while (alarms < 50) /* interrupted here: TSan puts it off to a call */
        clock_gettime(CLOCK_MONOTONIC, &now);
    assert_int_equal(setitimer(ITIMER_REAL, &never, NULL), 0);
    while (sum < alarms)
        sum += (int)read(pulse[0], buf, sizeof buf);
    assert_int_equal(sum, alarms);
    assert_int_equal(sigaction(SIGALRM, &old, NULL), 0);
    close(pulse[0]);
    close(pulse[1]);
    return 0;
}

/* ---- time ------------------------------------------------------------------------------ */

static keel_ns took_from;

static void took(keel_ns span)
{
    assert_true(keel_now() - took_from == span);
    took_from = keel_now();
}

static int sleeps(void *arg)
{
    struct timespec t = {2, 500000000}, date;
    struct timeval tv = {1, 500000};
    struct pollfd p = {.fd = ends[0], .events = POLLIN};
    struct epoll_event ev;
    int ep = epoll_of(ends[0]);
    fd_set r;

    (void)arg;
    took_from = keel_now();
    assert_int_equal(sleep(3), 0);
    took(3 * KEEL_SECOND);
    assert_int_equal(usleep(1500), 0);
    took(1500 * KEEL_US);
    assert_int_equal(nanosleep(&t, NULL), 0);
    took(2500 * KEEL_MS);
    assert_int_equal(clock_nanosleep(CLOCK_MONOTONIC, 0, &t, NULL), 0);
    took(2500 * KEEL_MS);
    clock_gettime(CLOCK_REALTIME, &date); /* has been: no sleep */
    assert_int_equal(
        clock_nanosleep(CLOCK_REALTIME, TIMER_ABSTIME, &date, NULL), 0);
    took(0);
    assert_int_equal(poll(&p, 1, 700), 0);
    took(700 * KEEL_MS);
    assert_int_equal(poll(NULL, 0, 30), 0);
    took(30 * KEEL_MS);
    assert_int_equal(ppoll(&p, 1, &t, NULL), 0);
    took(2500 * KEEL_MS);
    FD_ZERO(&r);
    FD_SET(ends[0], &r);
    assert_int_equal(select(ends[0] + 1, &r, NULL, NULL, &tv), 0);
    assert_false(FD_ISSET(ends[0], &r));
    assert_int_equal(tv.tv_sec, 0);
    assert_int_equal(tv.tv_usec, 0);
    took(1500 * KEEL_MS);
    assert_int_equal(pselect(0, NULL, NULL, NULL, &t, NULL), 0);
    took(2500 * KEEL_MS);
    assert_int_equal(epoll_wait(ep, &ev, 1, 90), 0);
    took(90 * KEEL_MS);
    close(ep);
    return 0;
}

/* On a clock that moves only when all wait. */
static void spans_are_kept(void **state)
{
    (void)state;
    pair(SOCK_STREAM);
    test_clock_install();
    assert_int_equal(keel_run(sleeps, NULL), 0);
    test_clock_remove();
    unpair();
}

CO_TEST(a_date_is_slept_until)
{
    struct timespec date, now;

    clock_gettime(CLOCK_REALTIME, &date);
    date.tv_nsec += 20000000;
    if (date.tv_nsec >= 1000000000) {
        date.tv_nsec -= 1000000000;
        date.tv_sec++;
    }
    assert_int_equal(
        clock_nanosleep(CLOCK_REALTIME, TIMER_ABSTIME, &date, NULL), 0);
    clock_gettime(CLOCK_REALTIME, &now);
    assert_true(now.tv_sec > date.tv_sec ||
                (now.tv_sec == date.tv_sec && now.tv_nsec >= date.tv_nsec));
    return 0;
}

static int waits_in_vain(void *arg)
{
    struct timeval tv = {3, 0};
    struct sockaddr_in at;
    int listener = tcp_listener(&at);
    char buf[8];

    (void)arg;
    took_from = keel_now();
    for (int i = 0; i < 2; i++)
        assert_int_equal(setsockopt(ends[i], SOL_SOCKET,
                                    i ? SO_SNDTIMEO : SO_RCVTIMEO, &tv,
                                    sizeof tv),
                         0);
    FAILS(read(ends[0], buf, 8), EAGAIN);
    took(3 * KEEL_SECOND);
    FAILS(recvfrom(ends[0], buf, 8, 0, NULL, NULL), EAGAIN);
    took(3 * KEEL_SECOND);
    assert_true(send(ends[1], much, MUCH, 0) < MUCH);
    took(3 * KEEL_SECOND);
    FAILS(write(ends[1], much, MUCH), EAGAIN);
    took(3 * KEEL_SECOND);
    assert_int_equal(
        setsockopt(listener, SOL_SOCKET, SO_RCVTIMEO, &tv, sizeof tv), 0);
    FAILS(accept(listener, NULL, NULL), EAGAIN);
    took(3 * KEEL_SECOND);
    close(listener);
    return 0;
}

static void timeouts_of_the_socket_are_kept(void **state)
{
    (void)state;
    pair(SOCK_STREAM);
    test_clock_install();
    assert_int_equal(keel_run(waits_in_vain, NULL), 0);
    test_clock_remove();
    unpair();
}

/* Each of the calls, in a scope that ends, and in a coroutine that is
 * cancelled before or while it waits. */
static int c_read(void)
{
    char buf[8];

    return (int)read(ends[0], buf, 8);
}

static int c_recvmsg(void)
{
    char buf[8];
    struct iovec v = {buf, 8};
    struct msghdr msg = {.msg_iov = &v, .msg_iovlen = 1};

    return (int)recvmsg(ends[0], &msg, MSG_WAITALL);
}

static int c_poll(void)
{
    struct pollfd p = {.fd = ends[0], .events = POLLIN};

    return poll(&p, 1, -1);
}

static int c_select(void)
{
    fd_set r;

    FD_ZERO(&r);
    FD_SET(ends[0], &r);
    return select(ends[0] + 1, &r, NULL, NULL, NULL);
}

static int c_epoll(void)
{
    struct epoll_event ev;
    int ep = epoll_of(ends[0]), rc = epoll_wait(ep, &ev, 1, -1), error = errno;

    close(ep);
    errno = error;
    return rc;
}

static int c_usleep(void)
{
    return usleep(60000000);
}

static int c_nanosleep(void)
{
    struct timespec t = {60, 0}, left = {0, 0};
    int rc = nanosleep(&t, &left);

    assert_true(left.tv_sec >= 50 && left.tv_sec <= 60);
    return rc;
}

static int c_clock_nanosleep(void)
{
    struct timespec t = {60, 0};
    int rc = clock_nanosleep(CLOCK_MONOTONIC, 0, &t, NULL);

    errno = rc;
    return rc ? -1 : 0;
}

static int c_sleep(void)
{
    unsigned left = sleep(60);

    assert_true(left >= 50 && left <= 60);
    return -1;
}

static int c_accept(void)
{
    struct sockaddr_in at;
    int listener = tcp_listener(&at), rc, error;

    rc = accept(listener, NULL, NULL);
    error = errno;
    close(listener);
    errno = error;
    return rc;
}

static int c_wait(void)
{
    return wait(NULL); /* for the child that the test keeps */
}

static int (*const waiting[])(void) = {
    c_read,  c_recvmsg, c_poll,      c_select,          c_epoll,
    c_sleep, c_usleep,  c_nanosleep, c_clock_nanosleep, c_accept,
    c_wait,
};

static pid_t child_new(int *ret_leash)
{
    int leash[2];
    pid_t pid;

    assert_int_equal(pipe2(leash, O_CLOEXEC), 0);
    pid = fork();
    assert_true(pid >= 0);
    if (pid == 0) {
        char c;

        close(leash[1]);
        _exit(read(leash[0], &c, 1) == 1 ? c : 99);
    }
    close(leash[0]);
    *ret_leash = leash[1];
    return pid;
}

static int waits_cancelled(void *arg)
{
    int (*const *call)(void) = arg;
    int rc;

    errno = 0;
    rc = (*call)();
    assert_int_equal(rc, -1);
    return errno;
}

CO_TEST(a_cancelled_call_fails_with_ecanceled)
{
    int leash, status;
    pid_t pid = child_new(&leash);
    struct keel_co *co;

    pair(SOCK_STREAM);
    for (size_t i = 0; i < sizeof waiting / sizeof *waiting; i++) {
        co = test_spawn(waits_cancelled, (void *)&waiting[i]);
        settle();
        keel_cancel(co);
        assert_int_equal(test_join(co), ECANCELED);
        co = test_spawn(waits_cancelled, (void *)&waiting[i]);
        keel_cancel(co); /* before it began */
        assert_int_equal(test_join(co), ECANCELED);
    }
    unpair();
    close(leash);
    assert_int_equal(waitpid(pid, &status, 0), pid);
    return 0;
}

static int writes_cancelled(void *arg)
{
    (void)arg;
    assert_int_equal(write(ends[1], "hello", 5), 5);
    assert_true(write(ends[1], much, MUCH) < MUCH);
    FAILS(write(ends[1], much, MUCH), ECANCELED);
    return 0;
}

CO_TEST(who_is_cancelled_writes_what_need_not_wait)
{
    struct keel_co *co;

    for (int i = 0; i < 2; i++) {
        if (i)
            assert_int_equal(pipe(ends), 0);
        else
            pair(SOCK_STREAM);
        co = test_spawn(writes_cancelled, NULL);
        keel_cancel(co);
        assert_int_equal(test_join(co), 0);
        unpair();
    }
    return 0;
}

static int reads_shielded(void *arg)
{
    char buf[8];

    (void)arg;
    keel_shield();
    got_hello(buf, read(ends[0], buf, 5));
    keel_unshield();
    FAILS(read(ends[0], buf, 8), ECANCELED); /* though there is something */
    return 0;
}

CO_TEST(a_shield_holds_for_these_calls_too)
{
    struct keel_co *co;

    pair(SOCK_STREAM);
    co = test_spawn(reads_shielded, NULL);
    settle();
    keel_cancel(co);
    settle();
    assert_int_equal(write(ends[1], "hello", 5), 5);
    assert_int_equal(write(ends[1], "again", 5), 5);
    (void)test_join(co);
    unpair();
    return 0;
}

CO_TEST(a_scope_ends_them_with_etimedout)
{
    int leash, status;
    pid_t pid = child_new(&leash);

    pair(SOCK_STREAM);
    for (size_t i = 0; i < sizeof waiting / sizeof *waiting; i++) {
        struct keel_timeout scope;

        keel_timeout_begin(&scope, keel_after(5 * KEEL_MS));
        FAILS(waiting[i](), ETIMEDOUT);
        keel_timeout_end(&scope);
    }
    unpair();
    close(leash);
    assert_int_equal(waitpid(pid, &status, 0), pid);
    return 0;
}

/* ---- fairness ---------------------------------------------------------------------------- */

static int turns;

static int counts_turns(void *arg)
{
    (void)arg;
    for (int i = 0; i < 10; i++) {
        turns++;
        keel_yield();
    }
    return 0;
}

CO_TEST(who_never_waits_lets_the_others_run)
{
    struct pollfd p;
    struct keel_co *co;
    char c;

    fill_much();
    pair(SOCK_STREAM);
    assert_int_equal(write(ends[1], much, 1000), 1000);
    p = (struct pollfd){.fd = ends[0], .events = POLLIN};
    turns = 0;
    co = test_spawn(counts_turns, NULL);
    for (int i = 0; i < 100; i++)
        assert_int_equal(read(ends[0], &c, 1), 1);
    assert_true(turns >= 3);
    for (int i = 0; i < 100; i++)
        assert_int_equal(poll(&p, 1, 1000), 1);
    assert_true(turns >= 6);
    (void)test_join(co);
    unpair();
    return 0;
}

/* A hang-up ends every poll at once, and is nothing select asks for here. */
CO_TEST(select_for_urgent_data_does_not_spin_on_a_hang_up)
{
    struct timeval tv = {0, 50000};
    struct rusage before, later;
    fd_set x;

    pair(SOCK_STREAM);
    close(ends[1]);
    FD_ZERO(&x);
    FD_SET(ends[0], &x);
    getrusage(RUSAGE_THREAD, &before);
    assert_int_equal(select(ends[0] + 1, NULL, NULL, &x, &tv), 0);
    getrusage(RUSAGE_THREAD, &later);
    assert_true((later.ru_utime.tv_sec - before.ru_utime.tv_sec) * 1000000 +
                    later.ru_utime.tv_usec - before.ru_utime.tv_usec <
                40000);
    close(ends[0]);
    return 0;
}

/* ---- names --------------------------------------------------------------------------------- */

static int resolves(void *arg)
{
    struct addrinfo hints = {.ai_family = AF_INET, .ai_socktype = SOCK_STREAM};
    struct sockaddr_in at = {.sin_family = AF_INET,
                             .sin_addr.s_addr = htonl(INADDR_LOOPBACK)};
    struct hostent host, *found = NULL;
    struct addrinfo *a = NULL;
    char buf[2048], name[NI_MAXHOST];
    int error = 0;

    (void)arg;
    assert_int_equal(getaddrinfo("localhost", "80", &hints, &a), 0);
    assert_int_equal(((struct sockaddr_in *)(void *)a->ai_addr)->sin_port,
                     htons(80));
    freeaddrinfo(a);
    assert_int_equal(getaddrinfo("127.0.0.1", "80", NULL, &a), 0);
    freeaddrinfo(a);
    assert_int_equal(getaddrinfo(NULL, "80", &hints, &a), 0);
    freeaddrinfo(a);
    hints.ai_flags = AI_NUMERICHOST;
    assert_int_equal(getaddrinfo("localhost", "80", &hints, &a), EAI_NONAME);
    assert_int_equal(getnameinfo((struct sockaddr *)&at, sizeof at, name,
                                 sizeof name, NULL, 0, 0),
                     0);
    assert_int_equal(getnameinfo((struct sockaddr *)&at, sizeof at, name,
                                 sizeof name, NULL, 0, NI_NUMERICHOST),
                     0);
    assert_string_equal(name, "127.0.0.1");
    assert_non_null(gethostbyname("localhost"));
    assert_non_null(gethostbyname2("localhost", AF_INET));
    assert_non_null(gethostbyaddr(&at.sin_addr, sizeof at.sin_addr, AF_INET));
    assert_int_equal(
        gethostbyname_r("localhost", &host, buf, sizeof buf, &found, &error),
        0);
    assert_ptr_equal(found, &host);
    assert_int_equal(gethostbyname2_r("localhost", AF_INET, &host, buf,
                                      sizeof buf, &found, &error),
                     0);
    assert_int_equal(gethostbyaddr_r(&at.sin_addr, sizeof at.sin_addr, AF_INET,
                                     &host, buf, sizeof buf, &found, &error),
                     0);
    return 0;
}

CO_TEST(names_are_looked_up_in_other_threads)
{
    struct keel_co *co[8];

    turns = 0;
    for (int i = 0; i < 8; i++)
        co[i] = test_spawn(resolves, NULL);
    keel_yield();
    (void)counts_turns(NULL); /* while they are under way */
    assert_int_equal(turns, 10);
    for (int i = 0; i < 8; i++)
        assert_int_equal(test_join(co[i]), 0);
    return 0;
}

static int resolves_cancelled(void *arg)
{
    struct addrinfo *a = NULL;
    struct hostent *h;

    (void)arg;
    assert_int_equal(getaddrinfo("localhost", NULL, NULL, &a), EAI_SYSTEM);
    assert_int_equal(errno, ECANCELED);
    h = gethostbyname("localhost");
    assert_null(h);
    assert_int_equal(errno, ECANCELED);
    return 0;
}

CO_TEST(who_is_cancelled_looks_up_nothing)
{
    struct keel_co *co = test_spawn(resolves_cancelled, NULL);

    keel_cancel(co);
    assert_int_equal(test_join(co), 0);
    return 0;
}

/* ---- children -------------------------------------------------------------------------------- */

static pid_t awaited;

static int w_waitpid(void)
{
    int status;

    assert_int_equal(waitpid(awaited, &status, 0), awaited);
    return WEXITSTATUS(status);
}

static int w_wait(void)
{
    int status;

    assert_int_equal(wait(&status), awaited);
    return WEXITSTATUS(status);
}

static int w_wait4(void)
{
    struct rusage usage;
    int status;

    assert_int_equal(wait4(awaited, &status, 0, &usage), awaited);
    return WEXITSTATUS(status);
}

static int w_waitid(void)
{
    siginfo_t info;

    assert_int_equal(waitid(P_PID, (id_t)awaited, &info, WEXITED), 0);
    assert_int_equal(info.si_pid, awaited);
    return info.si_status;
}

static int waits_for_child(void *arg)
{
    int (*const *call)(void) = arg;

    return (*call)();
}

CO_TEST(who_waits_for_a_child_parks)
{
    static int (*const calls[])(void) = {w_waitpid, w_wait, w_wait4, w_waitid};

    for (size_t i = 0; i < sizeof calls / sizeof *calls; i++) {
        int leash, rc;
        struct keel_co *co;

        awaited = child_new(&leash);
        assert_int_equal(waitpid(awaited, NULL, WNOHANG), 0);
        co = test_spawn(waits_for_child, (void *)&calls[i]);
        settle();
        assert_int_equal(keel_join(co, KEEL_NOW, &rc), -ETIMEDOUT);
        assert_int_equal(write(leash, "\7", 1), 1);
        assert_int_equal(test_join(co), 7);
        close(leash);
    }
    return 0;
}

/* Its loop is a copy: parked there, it would wait for ever. */
CO_TEST(in_a_coroutines_child_calls_block_as_ever)
{
    int status;
    pid_t pid;

    pair(SOCK_STREAM);
    pid = fork();
    assert_true(pid >= 0);
    if (pid == 0) {
        char buf[8];

        usleep(1000);
        _exit(read(ends[0], buf, 8) == 5 ? 42 : 1);
    }
    assert_int_equal(usleep(20000), 0);
    assert_int_equal(write(ends[1], "hello", 5), 5);
    assert_int_equal(waitpid(pid, &status, 0), pid);
    assert_int_equal(WEXITSTATUS(status), 42);
    unpair();
    return 0;
}

/* ---- mutexes ---------------------------------------------------------------------------------- */

pthread_mutex_t KEEL_API ledger_mutex = PTHREAD_MUTEX_INITIALIZER;
static pthread_rwlock_t rwlock = PTHREAD_RWLOCK_INITIALIZER;

/* Long enough not to be over before it parks. */
enum { A_WHILE_US = 50000 };

static int parks_holding(void *arg)
{
    (void)arg;
    pthread_mutex_lock(&ledger_mutex);
    usleep(A_WHILE_US);
    pthread_mutex_unlock(&ledger_mutex);
    return 0;
}

static int parks_holding_rwlock(void *arg)
{
    (void)arg;
    pthread_rwlock_rdlock(&rwlock);
    keel_sleep(keel_after(A_WHILE_US * KEEL_US));
    pthread_rwlock_unlock(&rwlock);
    return 0;
}

static int parks_holding_nothing(void *arg)
{
    (void)arg;
    for (int i = 0; i < 3; i++) {
        pthread_mutex_lock(&ledger_mutex);
        pthread_mutex_unlock(&ledger_mutex);
        usleep(A_WHILE_US);
    }
    return 0;
}

static int culprit(int (*fn)(void *arg))
{
    const struct keel_spawn how = {.name = "culprit"};
    struct keel_co *co;

    assert_int_equal(keel_spawn(&how, fn, NULL, &co), 0);
    return test_join(co);
}

/* What is said on standard error meanwhile. */
static void said_while(int (*fn)(void *arg), char *ret, size_t size)
{
    int out[2], before = dup(STDERR_FILENO);
    ssize_t n;

    assert_int_equal(pipe2(out, O_NONBLOCK), 0);
    dup2(out[1], STDERR_FILENO);
    assert_int_equal(culprit(fn), 0);
    dup2(before, STDERR_FILENO);
    n = read(out[0], ret, size - 1);
    ret[n > 0 ? n : 0] = '\0';
    close(out[0]);
    close(out[1]);
    close(before);
}

CO_TEST(who_parks_with_a_mutex_is_named_once)
{
    char said[1024], mutex[32];

    keel_patch_mutex(KEEL_PATCH_MUTEX_REPORT);
    said_while(parks_holding, said, sizeof said);
    (void)snprintf(mutex, sizeof mutex, "mutex %p", (void *)&ledger_mutex);
    assert_non_null(strstr(said, "'culprit'"));
    assert_non_null(strstr(said, mutex));
    assert_non_null(strstr(said, "taken in "));
#ifndef KEEL_TSAN /* which takes it for us */
    assert_non_null(strstr(said, "patch_test+0x"));
#endif
    assert_int_equal(keel_patch_mutex_reports(), 1);

    said_while(parks_holding, said, sizeof said);
    assert_string_equal(said, "");
    assert_int_equal(keel_patch_mutex_reports(), 1);

    said_while(parks_holding_rwlock, said, sizeof said);
    assert_non_null(strstr(said, "rwlock"));
    assert_int_equal(keel_patch_mutex_reports(), 2);

    said_while(parks_holding_nothing, said, sizeof said);
    assert_string_equal(said, "");
    keel_patch_mutex(KEEL_PATCH_MUTEX_OFF);
    assert_int_equal(keel_patch_mutex_reports(), 2);
    return 0;
}

/* Another place than above: there it was told already. */
static int parks_holding_to_die(void *arg)
{
    (void)arg;
    pthread_mutex_lock(&ledger_mutex);
    usleep(A_WHILE_US);
    return 0;
}

static void asked_for_the_process_dies_of_it(void **state)
{
    int status;
    pid_t pid;

    (void)state;
    pid = fork();
    assert_true(pid >= 0);
    if (pid == 0) {
        signal(SIGABRT, SIG_DFL);
        dup2(open("/dev/null", O_WRONLY), STDERR_FILENO);
        keel_patch_mutex(KEEL_PATCH_MUTEX_ABORT);
        keel_run(parks_holding_to_die, NULL);
        _exit(0);
    }
    assert_int_equal(waitpid(pid, &status, 0), pid);
    assert_true(WIFSIGNALED(status) && WTERMSIG(status) == SIGABRT);
}

static void keel_found_the_library(void **state)
{
    (void)state;
    assert_true(keel_patched());
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        /* Forks: before there are threads, says TSan. */
        cmocka_unit_test(asked_for_the_process_dies_of_it),
        cmocka_unit_test(what_waits_for_a_socket_parks),
        cmocka_unit_test(keel_found_the_library),
        cmocka_unit_test(what_waits_for_a_datagram_parks),
        cmocka_unit_test(what_waits_for_a_pipe_parks),
        cmocka_unit_test(what_waits_for_a_terminal_parks),
        cmocka_unit_test(what_waits_for_an_eventfd_parks),
        cmocka_unit_test(msg_waitall_waits_for_all),
        cmocka_unit_test(what_waits_for_room_parks_and_moves_all),
        cmocka_unit_test(a_peer_that_goes_is_told_after_what_was_sent),
        cmocka_unit_test(accept_parks_and_connect_connects),
        cmocka_unit_test(connect_parks_until_there_is_room),
        cmocka_unit_test(a_non_blocking_descriptor_behaves_as_ever),
        cmocka_unit_test(errors_are_those_of_the_kernel),
        cmocka_unit_test(a_file_is_read_and_written_as_ever),
        cmocka_unit_test(errno_is_left_alone_where_nothing_fails),
        cmocka_unit_test(in_a_thread_calls_block_as_ever),
        cmocka_unit_test(signals_interrupt_threads_alone),
        cmocka_unit_test(a_signal_does_not_end_a_parked_call),
        cmocka_unit_test(a_mask_lets_its_signal_end_the_call),
        cmocka_unit_test(a_handler_may_write_while_it_interrupts_a_coroutine),
        cmocka_unit_test(spans_are_kept),
        cmocka_unit_test(a_date_is_slept_until),
        cmocka_unit_test(timeouts_of_the_socket_are_kept),
        cmocka_unit_test(a_cancelled_call_fails_with_ecanceled),
        cmocka_unit_test(who_is_cancelled_writes_what_need_not_wait),
        cmocka_unit_test(a_shield_holds_for_these_calls_too),
        cmocka_unit_test(a_scope_ends_them_with_etimedout),
        cmocka_unit_test(who_never_waits_lets_the_others_run),
        cmocka_unit_test(select_for_urgent_data_does_not_spin_on_a_hang_up),
        cmocka_unit_test(names_are_looked_up_in_other_threads),
        cmocka_unit_test(who_is_cancelled_looks_up_nothing),
        cmocka_unit_test(who_waits_for_a_child_parks),
        cmocka_unit_test(in_a_coroutines_child_calls_block_as_ever),
        cmocka_unit_test(who_parks_with_a_mutex_is_named_once),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
