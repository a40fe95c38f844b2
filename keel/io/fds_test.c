/* SPDX-License-Identifier: MIT */
/* Descriptors through unix sockets, on the poller that KEEL_POLLER names, and
 * in threads. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>

#include <cmocka.h>

#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <unistd.h>

#include <keel/co.h>
#include <keel/io.h>
#include <keel/net.h>

#include "test/both.h"
#include "test/fault.h"

static keel_ns soon(void)
{
    return keel_after(20 * KEEL_SECOND);
}

static void pair(struct keel_stream *ret[2])
{
    int fds[2];

    assert_int_equal(socketpair(AF_UNIX, SOCK_STREAM, 0, fds), 0);
    for (int i = 0; i < 2; i++)
        assert_int_equal(keel_stream_from_fd(fds[i], &ret[i]), 0);
}

static int file_with(const char *text)
{
    int fd = memfd_create("passed", MFD_CLOEXEC);

    assert_true(fd >= 0);
    assert_int_equal(write(fd, text, strlen(text)), (ssize_t)strlen(text));
    return fd;
}

static void holds(int fd, const char *text)
{
    char buf[64];

    assert_int_equal(pread(fd, buf, sizeof buf, 0), (ssize_t)strlen(text));
    assert_memory_equal(buf, text, strlen(text));
}

/* The lowest number that is free: grows with what leaks. */
static int lowest(void)
{
    int fd = dup(0);

    close(fd);
    return fd;
}

/* What a wait needs once in its thread or loop is made. */
static void warm_up(struct keel_stream *s)
{
    char c;

    assert_int_equal(keel_stream_read(s, &c, 1, keel_after(KEEL_MS)),
                     -ETIMEDOUT);
}

static int files_arrive_with_their_bytes_and_close_on_exec(void *arg)
{
    struct keel_stream *s[2];
    int out[2] = {file_with("first"), file_with("second")}, in[4];
    size_t count = 77;
    char buf[16];

    (void)arg;
    pair(s);
    assert_int_equal(keel_stream_send_fds(s[0], "two files", 9, out, 2, soon()),
                     0);
    assert_int_equal(keel_stream_send_fds(s[0], "none", 4, NULL, 0, soon()), 0);
    assert_int_equal(keel_stream_recv_fds(s[1], buf, 9, in, 4, soon(), &count),
                     0);
    assert_int_equal(count, 2);
    assert_memory_equal(buf, "two files", 9);
    for (int i = 0; i < 2; i++) {
        assert_true(fcntl(in[i], F_GETFD) & FD_CLOEXEC);
        holds(in[i], i ? "second" : "first");
        holds(out[i], i ? "second" : "first"); /* still ours */
        close(in[i]);
        close(out[i]);
    }
    assert_int_equal(keel_stream_recv_fds(s[1], buf, 4, in, 4, soon(), &count),
                     0);
    assert_int_equal(count, 0);

    assert_int_equal(keel_stream_finish(s[0], soon()), 0);
    assert_int_equal(keel_stream_recv_fds(s[1], buf, 4, in, 4, soon(), &count),
                     -ENODATA);
    keel_stream_close(s[0]);
    keel_stream_close(s[1]);
    return 0;
}

struct sending {
    struct keel_stream *to;
    const char *data;
    size_t size;
    int fd;
};

static int send_task(void *arg)
{
    struct sending *s = arg;

    return keel_stream_send_fds(s->to, s->data, s->size, &s->fd, 1, soon());
}

/* Longer than the socket's buffer: it goes in parts, the descriptor with the
 * first. */
static int a_long_message_is_put_together(void *arg)
{
    enum { LONG = 1 << 20 };
    struct keel_stream *s[2];
    struct sending sending = {.size = LONG, .fd = file_with("long")};
    char *data = keel_alloc(LONG), *got = keel_alloc(LONG);
    struct keel_co *co;
    int fd, result;
    size_t count = 0;

    (void)arg;
    assert_true(data && got);
    for (int i = 0; i < LONG; i++)
        data[i] = (char)(i * 7 + i / 256);
    sending.data = data;
    pair(s);
    sending.to = s[0];
    assert_int_equal(keel_spawn(NULL, send_task, &sending, &co), 0);
    assert_int_equal(
        keel_stream_recv_fds(s[1], got, LONG, &fd, 1, soon(), &count), 0);
    assert_int_equal(count, 1);
    assert_memory_equal(got, data, LONG);
    holds(fd, "long");
    assert_int_equal(keel_join(co, soon(), &result), 0);
    assert_int_equal(result, 0);
    close(fd);
    close(sending.fd);
    keel_free(data);
    keel_free(got);
    keel_stream_close(s[0]);
    keel_stream_close(s[1]);
    return 0;
}

static int a_refused_message_leaves_no_descriptor_behind(void *arg)
{
    struct keel_stream *s[2];
    int out[KEEL_FDS_MOST + 1], in[KEEL_FDS_MOST], before;
    size_t count = 77;
    char c;

    (void)arg;
    pair(s);
    for (int i = 0; i <= KEEL_FDS_MOST; i++)
        out[i] = 0;
    warm_up(s[1]);
    before = lowest();
    /* more than the receiver wants, none included */
    for (size_t room = 0; room < 5; room++) {
        assert_int_equal(
            keel_stream_send_fds(s[0], "x", 1, out, room + 1, soon()), 0);
        assert_int_equal(
            keel_stream_recv_fds(s[1], &c, 1, in, room, soon(), &count),
            -E2BIG);
        assert_int_equal(lowest(), before);
    }
    /* more than anybody may send */
    assert_int_equal(
        keel_stream_send_fds(s[0], "x", 1, out, KEEL_FDS_MOST + 1, soon()),
        -E2BIG);
    /* cut in the middle, after the descriptors came */
    assert_int_equal(keel_stream_send_fds(s[0], "x", 1, out, 3, soon()), 0);
    assert_int_equal(keel_stream_finish(s[0], soon()), 0);
    assert_int_equal(keel_stream_recv_fds(s[1], in, 2, in, 3, soon(), &count),
                     -ECONNABORTED);
    assert_int_equal(lowest(), before);
    assert_int_equal(count, 77);
    keel_stream_close(s[0]);
    keel_stream_close(s[1]);
    return 0;
}

/* A peer that does not keep to KEEL_FDS_MOST: as many as the kernel takes. */
static int a_peer_that_sends_too_many_is_refused(void *arg)
{
    enum { MANY = 253 };
    _Alignas(struct cmsghdr) char control[CMSG_SPACE(sizeof(int) * MANY)] = {0};
    struct iovec part = {"x", 1};
    struct msghdr msg = {.msg_iov = &part,
                         .msg_iovlen = 1,
                         .msg_control = control,
                         .msg_controllen = sizeof control};
    struct cmsghdr *h = CMSG_FIRSTHDR(&msg);
    struct keel_stream *s[2];
    int in[KEEL_FDS_MOST], before;
    size_t count;
    char c;

    (void)arg;
    pair(s);
    warm_up(s[1]);
    h->cmsg_level = SOL_SOCKET;
    h->cmsg_type = SCM_RIGHTS;
    h->cmsg_len = CMSG_LEN(sizeof(int) * MANY); /* all of them 0 */
    before = lowest();
    assert_int_equal(sendmsg(keel_stream_fd(s[0]), &msg, 0), 1);
    assert_int_equal(
        keel_stream_recv_fds(s[1], &c, 1, in, KEEL_FDS_MOST, soon(), &count),
        -E2BIG);
    assert_int_equal(lowest(), before);
    keel_stream_close(s[0]);
    keel_stream_close(s[1]);
    return 0;
}

static int having_no_room_for_descriptors_is_said(void *arg)
{
    struct keel_stream *s[2];
    struct rlimit limit, few;
    int out[4] = {0}, in[4], before;
    size_t count;
    char c;

    (void)arg;
    /* valgrind keeps descriptors of its own above the limit, and says that
     * nothing is missing. */
    if (getenv("KEEL_TEST_VALGRIND"))
        return 0;
    pair(s);
    warm_up(s[1]);
    before = lowest();
    assert_int_equal(getrlimit(RLIMIT_NOFILE, &limit), 0);
    few = limit;
    few.rlim_cur = (rlim_t)before + 2; /* for two of the four */
    assert_int_equal(keel_stream_send_fds(s[0], "x", 1, out, 4, soon()), 0);
    assert_int_equal(setrlimit(RLIMIT_NOFILE, &few), 0);
    assert_int_equal(keel_stream_recv_fds(s[1], &c, 1, in, 4, soon(), &count),
                     -EMFILE);
    assert_int_equal(lowest(), before);
    assert_int_equal(setrlimit(RLIMIT_NOFILE, &limit), 0);
    keel_stream_close(s[0]);
    keel_stream_close(s[1]);
    return 0;
}

static int what_cannot_carry_descriptors_says_so(void *arg)
{
    struct keel_stream *memory[2], *s[2], *out = NULL;
    keel_auto(listener) struct keel_listener *l = NULL;
    int fd = 0, bad = 999999;
    size_t count;
    char c;

    (void)arg;
    assert_int_equal(keel_stream_pair(16, memory), 0);
    assert_int_equal(keel_stream_send_fds(memory[0], "x", 1, &fd, 1, soon()),
                     -EINVAL);
    assert_int_equal(
        keel_stream_recv_fds(memory[1], &c, 1, &fd, 1, soon(), &count),
        -EINVAL);
    keel_stream_close(memory[0]);
    keel_stream_close(memory[1]);
    assert_int_equal(keel_listen("127.0.0.1:0", &l), 0);
    assert_int_equal(keel_dial(keel_listener_address(l), soon(), &out), 0);
    assert_int_equal(keel_stream_send_fds(out, "x", 1, &fd, 1, soon()),
                     -EINVAL);
    keel_stream_close(out);

    pair(s);
    assert_int_equal(keel_stream_send_fds(s[0], "", 0, &fd, 1, soon()),
                     -EINVAL);
    assert_int_equal(keel_stream_send_fds(s[0], "x", 1, &bad, 1, soon()),
                     -EBADF);
    assert_int_equal(
        keel_stream_recv_fds(s[1], &c, 1, &fd, 1, keel_after(KEEL_MS), &count),
        -ETIMEDOUT);
    fault_fail(KEEL_OP_SEND, 1, ENOBUFS);
    assert_int_equal(keel_stream_send_fds(s[0], "x", 1, &fd, 1, soon()),
                     -ENOBUFS);
    fault_clear();
    keel_seam.fault = NULL;
    keel_stream_close(s[0]);
    assert_int_equal(keel_stream_send_fds(s[1], "x", 1, &fd, 1, soon()),
                     -EPIPE);
    keel_stream_close(s[1]);
    return 0;
}

/* A socket that keeps messages, by its descriptor. */
static int a_whole_message_that_is_too_long_is_refused(void *arg)
{
    int sockets[2], fd = 0, in, before;
    size_t count;
    char c;

    (void)arg;
    assert_int_equal(socketpair(AF_UNIX, SOCK_SEQPACKET, 0, sockets), 0);
    for (int i = 0; i < 2; i++)
        assert_int_equal(keel_fd_adopt(sockets[i]), 0);
    assert_int_equal(keel_fd_recv_fds(sockets[1], &c, 1, &in, 1,
                                      keel_after(KEEL_MS), &count),
                     -ETIMEDOUT);
    before = lowest();
    assert_int_equal(keel_fd_send_fds(sockets[0], "two", 3, &fd, 1, soon()), 3);
    assert_int_equal(
        keel_fd_recv_fds(sockets[1], &c, 1, &in, 1, soon(), &count), -EMSGSIZE);
    assert_int_equal(lowest(), before);
    keel_fd_close(sockets[0]);
    assert_int_equal(
        keel_fd_recv_fds(sockets[1], &c, 1, &in, 1, soon(), &count), 0);
    keel_fd_close(sockets[1]);
    return 0;
}

IN_BOTH(files_arrive_with_their_bytes_and_close_on_exec)
IN_CO(a_long_message_is_put_together)
IN_BOTH(a_refused_message_leaves_no_descriptor_behind)
IN_BOTH(a_peer_that_sends_too_many_is_refused)
IN_BOTH(having_no_room_for_descriptors_is_said)
IN_BOTH(what_cannot_carry_descriptors_says_so)
IN_BOTH(a_whole_message_that_is_too_long_is_refused)

#define TEST(name) cmocka_unit_test(name)

int main(void)
{
    const struct CMUnitTest tests[] = {
        BOTH(files_arrive_with_their_bytes_and_close_on_exec),
        CO(a_long_message_is_put_together),
        BOTH(a_refused_message_leaves_no_descriptor_behind),
        BOTH(a_peer_that_sends_too_many_is_refused),
        BOTH(having_no_room_for_descriptors_is_said),
        BOTH(what_cannot_carry_descriptors_says_so),
        BOTH(a_whole_message_that_is_too_long_is_refused),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
