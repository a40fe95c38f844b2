/* SPDX-License-Identifier: MIT */
/* Sockets by name, on the poller that KEEL_POLLER names, and in threads. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>

#include <cmocka.h>

#include <arpa/inet.h>
#include <errno.h>
#include <netdb.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/resource.h>
#include <sys/stat.h>
#include <sys/un.h>
#include <unistd.h>

#include <keel/co.h>
#include <keel/io.h>
#include <keel/net.h>
#include <keel/seam.h>

#include "test/both.h"
#include "test/fault.h"

#include "test/clock.h"

static char dir[64];

/* In place of the C library's: a name with the addresses that a test wants.
 * Everything else it does not know. */
static struct sockaddr_storage answers[4];
static int answer_count;

int getaddrinfo(const char *name, const char *service,
                const struct addrinfo *hints, struct addrinfo **ret)
{
    struct addrinfo *list = NULL;

    (void)service;
    assert_int_equal(hints->ai_socktype, SOCK_STREAM);
    if (!strcmp(name, "slow.test"))
        return EAI_AGAIN;
    if (strcmp(name, "several.test") && strcmp(name, "localhost"))
        return EAI_NONAME;
    for (int i = answer_count - 1; i >= 0; i--) {
        struct addrinfo *ai = calloc(1, sizeof *ai);

        ai->ai_family = answers[i].ss_family;
        ai->ai_addr = (struct sockaddr *)&answers[i];
        ai->ai_addrlen = ai->ai_family == AF_INET ? sizeof(struct sockaddr_in)
                                                  : sizeof(struct sockaddr_in6);
        ai->ai_next = list;
        list = ai;
    }
    *ret = list;
    return 0;
}

void freeaddrinfo(struct addrinfo *list)
{
    while (list) {
        struct addrinfo *next = list->ai_next;

        free(list);
        list = next;
    }
}

static void answer(const char *const *hosts, int count)
{
    answer_count = count;
    for (int i = 0; i < count; i++) {
        struct sockaddr_in *v4 = (void *)&answers[i];
        struct sockaddr_in6 *v6 = (void *)&answers[i];

        memset(&answers[i], 0, sizeof answers[i]);
        answers[i].ss_family = strchr(hosts[i], ':') ? AF_INET6 : AF_INET;
        assert_int_equal(inet_pton(answers[i].ss_family, hosts[i],
                                   strchr(hosts[i], ':')
                                       ? (void *)&v6->sin6_addr
                                       : (void *)&v4->sin_addr),
                         1);
    }
}

static void answer_localhost(void)
{
    answer((const char *const[]){"::1", "127.0.0.1"}, 2);
}

static int begin(void **state)
{
    (void)state;
    answer_localhost();
    snprintf(dir, sizeof dir, "/tmp/keel-net-XXXXXX");
    return mkdtemp(dir) ? 0 : -1;
}

static int end(void **state)
{
    (void)state;
    keel_seam.fault = NULL;
    return rmdir(dir); /* fails when a socket was left behind */
}

static keel_ns soon(void)
{
    return keel_after(20 * KEEL_SECOND);
}

static void settle(void)
{
    for (int i = 0; i < 20; i++)
        keel_yield();
    assert_int_equal(keel_sleep(keel_after(KEEL_MS)), 0);
}

static int result_of(struct keel_co *co)
{
    int result = 77;

    assert_int_equal(keel_join(co, soon(), &result), 0);
    return result;
}

/* ---- an echo over each kind of address ------------------------------------------- */

static int echo_once(void *arg)
{
    keel_auto(stream) struct keel_stream *s = NULL;
    char buf[64];
    size_t got = 0;
    int rc = keel_accept(arg, soon(), &s);

    if (rc < 0)
        return rc;
    /* until the peer's half close, then answer: the other half still lives */
    rc = keel_stream_read_all(s, buf, sizeof buf, &got, soon());
    assert_int_equal(rc, -ECONNABORTED);
    assert_int_equal(keel_stream_write(s, buf, got, soon()), 0);
    return (int)got;
}

static void ask(const char *address)
{
    keel_auto(stream) struct keel_stream *s = NULL;
    struct iovec iov[40];
    char buf[64] = "";
    size_t got = 0;

    assert_int_equal(keel_dial(address, soon(), &s), 0);
    for (int i = 0; i < 40; i++) /* more than go in one call */
        iov[i] = (struct iovec){"x", i % 4 != 3};
    assert_int_equal(keel_stream_writev(s, iov, 40, soon()), 0);
    assert_int_equal(keel_stream_finish(s, soon()), 0);
    assert_int_equal(keel_stream_read_all(s, buf, sizeof buf, &got, soon()),
                     -ECONNABORTED);
    assert_int_equal(got, 30);
}

static void port_of(const struct keel_listener *l, char ret[8])
{
    snprintf(ret, 8, "%s", strrchr(keel_listener_address(l), ':') + 1);
}

static void echo_over(const char *listen_at, const char *dial_host)
{
    keel_auto(listener) struct keel_listener *l = NULL;
    char address[300], port[8];
    struct keel_co *co;

    assert_int_equal(keel_listen(listen_at, &l), 0);
    port_of(l, port);
    if (dial_host)
        snprintf(address, sizeof address, "%s:%s", dial_host, port);
    else
        snprintf(address, sizeof address, "%s", keel_listener_address(l));
    assert_int_equal(keel_spawn(NULL, echo_once, l, &co), 0);
    ask(address);
    assert_int_equal(result_of(co), 30);
}

static int every_kind_of_address_carries_bytes(void *arg)
{
    char unix_path[100];

    (void)arg;
    echo_over("127.0.0.1:0", NULL);
    echo_over("[::1]:0", NULL);
    echo_over("[::]:0", "127.0.0.1");
    echo_over("[::]:0", "[::1]");
    echo_over("[::]:0", "localhost");
    echo_over("127.0.0.1:0", "localhost"); /* where ::1 refuses */
    snprintf(unix_path, sizeof unix_path, "unix:%s/s", dir);
    echo_over(unix_path, NULL);
    return 0;
}

static int bad_addresses_are_refused(void *arg)
{
    static const char *const bad[] = {
        "",
        "host",
        ":80",
        "host:",
        "host:x",
        "host:65536",
        "host:-1",
        "host: 1",
        "::1:80",
        "[::1]80",
        "[::1:80",
        "[nonsense]:80",
        "unix:",
        "[]:80",
        "host:0",
        "[1.2.3.4]:80",
        "[fe80::1%nosuchif]:80",
        "host:000080",
    };
    char long_one[400];
    struct keel_stream *s = NULL;
    struct keel_listener *l = NULL;

    (void)arg;
    for (size_t i = 0; i < sizeof bad / sizeof *bad; i++)
        if (keel_dial(bad[i], soon(), &s) != -EINVAL)
            fail_msg("%s", bad[i]);
    memset(long_one, 'a', sizeof long_one);
    memcpy(long_one + 300, ":80", 4);
    assert_int_equal(keel_dial(long_one, soon(), &s), -EINVAL);
    memcpy(long_one, "unix:/", 6);
    long_one[5 + 108] = '\0';
    assert_int_equal(keel_dial(long_one, soon(), &s), -ENAMETOOLONG);
    assert_int_equal(keel_listen(long_one, &l), -ENAMETOOLONG);
    assert_int_equal(keel_listen("nonsense", &l), -EINVAL);
    assert_null(s);
    assert_null(l);
    return 0;
}

static int a_name_without_address_is_enoent(void *arg)
{
    struct keel_stream *s = NULL;

    (void)arg;
    assert_int_equal(keel_dial("no-such-host.test:80", soon(), &s), -ENOENT);
    assert_int_equal(keel_dial("slow.test:80", soon(), &s), -EAGAIN);
    answer_count = 0;
    assert_int_equal(keel_dial("several.test:80", soon(), &s), -ENOENT);
    assert_null(s);
    return 0;
}

static int nobody_listening_is_refused(void *arg)
{
    struct keel_stream *s = NULL;
    struct keel_listener *l = NULL;
    char address[KEEL_ADDRESS_BYTES], name[KEEL_ADDRESS_BYTES];

    (void)arg;
    assert_int_equal(keel_listen("127.0.0.1:0", &l), 0);
    snprintf(address, sizeof address, "%s", keel_listener_address(l));
    snprintf(name, sizeof name, "localhost%s", strrchr(address, ':'));
    keel_listener_close(l);
    assert_int_equal(keel_dial(address, soon(), &s), -ECONNREFUSED);
    assert_int_equal(keel_dial(name, soon(), &s), -ECONNREFUSED);
    snprintf(address, sizeof address, "unix:%s/none", dir);
    assert_int_equal(keel_dial(address, soon(), &s), -ENOENT);
    assert_null(s);
    return 0;
}

static int a_taken_port_is_in_use(void *arg)
{
    keel_auto(listener) struct keel_listener *l = NULL;
    struct keel_listener *second = NULL;

    (void)arg;
    assert_int_equal(keel_listen("127.0.0.1:0", &l), 0);
    assert_int_equal(keel_listen(keel_listener_address(l), &second),
                     -EADDRINUSE);
    assert_null(second);
    return 0;
}

static int options_are_set_on_both_ends(void *arg)
{
    keel_auto(listener) struct keel_listener *l = NULL;
    keel_auto(stream) struct keel_stream *out = NULL;
    keel_auto(stream) struct keel_stream *in = NULL;
    struct keel_stream *ends[2];

    (void)arg;
    assert_int_equal(keel_listen("127.0.0.1:0", &l), 0);
    assert_int_equal(keel_dial(keel_listener_address(l), soon(), &out), 0);
    assert_int_equal(keel_accept(l, soon(), &in), 0);
    ends[0] = out;
    ends[1] = in;
    for (int i = 0; i < 2; i++) {
        int fd = keel_stream_fd(ends[i]), value = 0;
        socklen_t size = sizeof value;

        assert_int_equal(
            getsockopt(fd, IPPROTO_TCP, TCP_NODELAY, &value, &size), 0);
        assert_int_equal(value, 1);
        assert_int_equal(
            getsockopt(fd, SOL_SOCKET, SO_KEEPALIVE, &value, &size), 0);
        assert_int_equal(value, 1);
        assert_int_equal(
            getsockopt(fd, IPPROTO_TCP, TCP_KEEPIDLE, &value, &size), 0);
        assert_int_equal(value, 60);
    }
    return 0;
}

static int option_of(struct keel_stream *s, int level, int name)
{
    int value = -1;
    socklen_t size = sizeof value;

    assert_int_equal(getsockopt(keel_stream_fd(s), level, name, &value, &size),
                     0);
    return value;
}

static int options_change_on_tcp_only(void *arg)
{
    keel_auto(listener) struct keel_listener *l = NULL;
    keel_auto(stream) struct keel_stream *s = NULL;
    struct keel_stream *ends[2];
    int fds[2];

    (void)arg;
    assert_int_equal(keel_listen("127.0.0.1:0", &l), 0);
    assert_int_equal(keel_dial(keel_listener_address(l), soon(), &s), 0);
    assert_int_equal(keel_stream_nodelay(s, false), 0);
    assert_int_equal(option_of(s, IPPROTO_TCP, TCP_NODELAY), 0);
    assert_int_equal(keel_stream_keepalive(s, KEEL_FOREVER), 0);
    assert_int_equal(option_of(s, SOL_SOCKET, SO_KEEPALIVE), 0);
    assert_int_equal(keel_stream_keepalive(s, 10 * KEEL_SECOND), 0);
    assert_int_equal(option_of(s, SOL_SOCKET, SO_KEEPALIVE), 1);
    assert_int_equal(option_of(s, IPPROTO_TCP, TCP_KEEPIDLE), 10);
    assert_int_equal(option_of(s, IPPROTO_TCP, TCP_KEEPINTVL), 3);
    assert_int_equal(keel_stream_keepalive(s, KEEL_NOW), 0);
    assert_int_equal(option_of(s, IPPROTO_TCP, TCP_KEEPIDLE), 1);
    assert_int_equal(keel_stream_keepalive(s, KEEL_FOREVER - 1), 0);

    assert_int_equal(keel_stream_pair(8, ends), 0);
    assert_int_equal(keel_stream_nodelay(ends[0], true), -ENOTSOCK);
    assert_int_equal(keel_stream_keepalive(ends[0], KEEL_SECOND), -ENOTSOCK);
    keel_stream_close(ends[0]);
    keel_stream_close(ends[1]);
    assert_int_equal(socketpair(AF_UNIX, SOCK_STREAM, 0, fds), 0);
    keel_stream_close(keel_take(s));
    assert_int_equal(keel_stream_from_fd(fds[0], &s), 0);
    assert_int_equal(keel_stream_nodelay(s, true), -EOPNOTSUPP);
    assert_int_equal(keel_stream_keepalive(s, KEEL_SECOND), -EOPNOTSUPP);
    close(fds[1]);
    return 0;
}

static int a_names_addresses_come_with_families_in_turn(void *arg)
{
    static const char *const turns[] = {"[2001:db8::1]:80", "192.0.2.1:80",
                                        "[2001:db8::2]:80"};
    struct keel_address found[KEEL_RESOLVE_MOST];
    char text[KEEL_ADDRESS_BYTES];

    (void)arg;
    answer((const char *const[]){"2001:db8::1", "2001:db8::2", "192.0.2.1"}, 3);
    assert_int_equal(keel_resolve("several.test:80", soon(), found, 16), 3);
    for (int i = 0; i < 3; i++) {
        keel_address_print(&found[i], text);
        assert_string_equal(text, turns[i]);
    }
    assert_int_equal(keel_resolve("several.test:80", soon(), found, 2), 2);
    assert_int_equal(keel_resolve("192.0.2.7:0", soon(), found, 1), 1);
    keel_address_print(&found[0], text);
    assert_string_equal(text, "192.0.2.7:0");
    assert_int_equal(keel_resolve("no-such-host.test:1", soon(), found, 1),
                     -ENOENT);
    assert_int_equal(keel_resolve("unix:/x", soon(), found, 1), -EINVAL);
    assert_int_equal(keel_resolve("nonsense", soon(), found, 1), -EINVAL);
    return 0;
}

static int peers_are_printed(void *arg)
{
    static const char *const hosts[] = {"127.0.0.1", "[::1]"};
    struct keel_stream *ends[2];
    char peer[KEEL_ADDRESS_BYTES], own[KEEL_ADDRESS_BYTES];

    (void)arg;
    for (int i = 0; i < 2; i++) {
        keel_auto(listener) struct keel_listener *l = NULL;
        keel_auto(stream) struct keel_stream *out = NULL;
        keel_auto(stream) struct keel_stream *in = NULL;
        char address[KEEL_ADDRESS_BYTES], port[8];

        /* a v6 listener sees the v4 peer mapped, and prints it as v4 */
        assert_int_equal(keel_listen("[::]:0", &l), 0);
        assert_int_equal(strncmp(keel_listener_address(l), "[::]:", 5), 0);
        port_of(l, port);
        snprintf(address, sizeof address, "%s:%s", hosts[i], port);
        assert_int_equal(keel_dial(address, soon(), &out), 0);
        assert_int_equal(keel_accept(l, soon(), &in), 0);
        assert_int_equal(keel_stream_peer(out, peer), 0);
        assert_string_equal(peer, address);
        assert_int_equal(keel_stream_peer(in, peer), 0);
        snprintf(own, sizeof own, "%s:", hosts[i]);
        assert_int_equal(strncmp(peer, own, strlen(own)), 0);
    }
    assert_int_equal(keel_stream_pair(8, ends), 0);
    assert_int_equal(keel_stream_peer(ends[0], peer), -ENOTSOCK);
    keel_stream_close(ends[0]);
    keel_stream_close(ends[1]);
    return 0;
}

/* ---- unix sockets ------------------------------------------------------------------ */

static int a_unix_socket_is_private_and_removed_at_close(void *arg)
{
    struct keel_listener *l = NULL;
    char address[100];
    struct stat st;
    mode_t before = umask(0);

    (void)arg;
    snprintf(address, sizeof address, "unix:%s/s", dir);
    assert_int_equal(keel_listen(address, &l), 0);
    assert_string_equal(keel_listener_address(l), address);
    assert_int_equal(stat(address + 5, &st), 0);
    assert_true(S_ISSOCK(st.st_mode));
    assert_int_equal(st.st_mode & 07777, 0600);
    keel_listener_close(l);
    assert_int_equal(stat(address + 5, &st), -1);
    umask(before);
    return 0;
}

static int a_dead_unix_socket_is_replaced_and_a_live_one_is_not(void *arg)
{
    struct keel_listener *l = NULL, *second = NULL;
    struct sockaddr_un un = {.sun_family = AF_UNIX};
    char address[100];
    FILE *f;
    int fd;

    (void)arg;
    snprintf(address, sizeof address, "unix:%s/s", dir);
    snprintf(un.sun_path, sizeof un.sun_path, "%s", address + 5);
    fd = socket(AF_UNIX, SOCK_STREAM, 0);
    assert_int_equal(bind(fd, (struct sockaddr *)&un, sizeof un), 0);
    assert_int_equal(listen(fd, 1), 0);
    assert_int_equal(keel_listen(address, &second), -EADDRINUSE);
    close(fd); /* died: the name stays */
    assert_int_equal(keel_listen(address, &l), 0);
    assert_int_equal(keel_listen(address, &second), -EADDRINUSE);
    keel_listener_close(l);

    /* What is not a socket is not ours to remove. */
    f = fopen(address + 5, "w");
    assert_non_null(f);
    fclose(f);
    assert_int_equal(keel_listen(address, &second), -EADDRINUSE);
    assert_int_equal(unlink(address + 5), 0);
    assert_null(second);
    return 0;
}

static int a_listening_descriptor_is_adopted(void *arg)
{
    struct sockaddr_in any = {.sin_family = AF_INET,
                              .sin_addr.s_addr = htonl(INADDR_LOOPBACK)};
    keel_auto(listener) struct keel_listener *l = NULL;
    struct keel_co *co;
    int fd = socket(AF_INET, SOCK_STREAM, 0);

    (void)arg;
    assert_int_equal(bind(fd, (struct sockaddr *)&any, sizeof any), 0);
    assert_int_equal(keel_listener_adopt(fd, &l), -EINVAL);
    assert_int_equal(listen(fd, 5), 0);
    assert_int_equal(keel_listener_adopt(fd, &l), 0);
    assert_int_equal(strncmp(keel_listener_address(l), "127.0.0.1:", 10), 0);
    assert_int_equal(keel_spawn(NULL, echo_once, l, &co), 0);
    ask(keel_listener_address(l));
    assert_int_equal(result_of(co), 30);
    return 0;
}

/* ---- ending waits ------------------------------------------------------------------- */

static int accept_task(void *arg)
{
    struct keel_stream *s = NULL;
    int rc = keel_accept(arg, KEEL_FOREVER, &s);

    keel_stream_close(s);
    return rc;
}

static int waits_for_a_peer_end_by_deadline_cancel_and_close(void *arg)
{
    struct keel_listener *l = NULL;
    struct keel_stream *s = NULL;
    struct keel_co *co;

    (void)arg;
    assert_int_equal(keel_listen("127.0.0.1:0", &l), 0);
    assert_int_equal(keel_accept(l, keel_after(2 * KEEL_MS), &s), -ETIMEDOUT);
    assert_int_equal(keel_accept(l, KEEL_NOW, &s), -ETIMEDOUT);
    assert_int_equal(keel_spawn(NULL, accept_task, l, &co), 0);
    settle();
    keel_cancel(co);
    assert_int_equal(result_of(co), -ECANCELED);
    assert_int_equal(keel_spawn(NULL, accept_task, l, &co), 0);
    settle();
    keel_listener_close(l);
    assert_int_equal(result_of(co), -EBADF);
    assert_null(s);
    return 0;
}

/* A listener whose queue is full lets a connect hang. */
static int full_listener(struct sockaddr_in *ret, int fillers[8])
{
    socklen_t size = sizeof *ret;
    int fd = socket(AF_INET, SOCK_STREAM, 0);

    *ret = (struct sockaddr_in){.sin_family = AF_INET,
                                .sin_addr.s_addr = htonl(INADDR_LOOPBACK)};
    assert_int_equal(bind(fd, (struct sockaddr *)ret, sizeof *ret), 0);
    assert_int_equal(listen(fd, 0), 0);
    assert_int_equal(getsockname(fd, (struct sockaddr *)ret, &size), 0);
    for (int i = 0; i < 8; i++) {
        fillers[i] = socket(AF_INET, SOCK_STREAM | SOCK_NONBLOCK, 0);
        (void)connect(fillers[i], (struct sockaddr *)ret, sizeof *ret);
    }
    return fd;
}

static int dial_task(void *arg)
{
    struct keel_stream *s = NULL;
    int rc = keel_dial(arg, KEEL_FOREVER, &s);

    keel_stream_close(s);
    return rc;
}

static int a_connect_that_hangs_ends_by_deadline_and_cancel(void *arg)
{
    struct sockaddr_in addr;
    char address[64];
    int fillers[8], fd = full_listener(&addr, fillers);
    struct keel_stream *s = NULL;
    struct keel_co *co;

    (void)arg;
    snprintf(address, sizeof address, "127.0.0.1:%u", ntohs(addr.sin_port));
    assert_int_equal(keel_dial(address, keel_after(5 * KEEL_MS), &s),
                     -ETIMEDOUT);
    assert_null(s);
    if (keel_current()) {
        assert_int_equal(keel_spawn(NULL, dial_task, address, &co), 0);
        settle();
        keel_cancel(co);
        assert_int_equal(result_of(co), -ECANCELED);
        /* several addresses: the race is given up too */
        snprintf(address, sizeof address, "localhost:%u", ntohs(addr.sin_port));
        assert_int_equal(keel_spawn(NULL, dial_task, address, &co), 0);
        assert_int_equal(keel_sleep(keel_after(20 * KEEL_MS)), 0);
        keel_cancel(co);
        assert_int_equal(result_of(co), -ECANCELED);
        assert_int_equal(keel_dial(address, keel_after(20 * KEEL_MS), &s),
                         -ETIMEDOUT);
        assert_null(s);
    }
    for (int i = 0; i < 8; i++)
        close(fillers[i]);
    close(fd);
    return 0;
}

static _Atomic int connects;

static int count_connects(enum keel_op op, size_t *size)
{
    (void)size;
    if (op == KEEL_OP_CONNECT)
        connects++;
    return 0;
}

/* Three addresses, of which the first hangs, the second has the first's family
 * and hangs too, and the third answers: it must be the second one tried, a
 * quarter of a (virtual) second after the first. */
static int a_family_that_hangs_does_not_delay_the_other(void *arg)
{
    keel_auto(listener) struct keel_listener *l = NULL;
    keel_auto(stream) struct keel_stream *s = NULL;
    struct sockaddr_in addr;
    char address[64], peer[KEEL_ADDRESS_BYTES];
    int fillers[8], fd = full_listener(&addr, fillers);
    keel_ns begun = keel_now();

    (void)arg;
    snprintf(address, sizeof address, "127.0.0.2:%u", ntohs(addr.sin_port));
    assert_int_equal(keel_listen(address, &l), 0);
    answer((const char *const[]){"::ffff:127.0.0.1", "::ffff:127.0.0.1",
                                 "127.0.0.2"},
           3);
    snprintf(address, sizeof address, "several.test:%u", ntohs(addr.sin_port));
    connects = 0;
    keel_seam.fault = count_connects;
    assert_int_equal(keel_dial(address, keel_after(10 * KEEL_SECOND), &s), 0);
    assert_int_equal(connects, 2);
    assert_int_equal(keel_stream_peer(s, peer), 0);
    assert_int_equal(strncmp(peer, "127.0.0.2:", 10), 0);
    assert_true(keel_now() - begun >= 250 * KEEL_MS);
    assert_true(keel_now() - begun < KEEL_SECOND);
    for (int i = 0; i < 8; i++)
        close(fillers[i]);
    close(fd);
    return 0;
}

static void
a_family_that_hangs_does_not_delay_the_other_in_a_coroutine(void **state)
{
    (void)state;
    test_clock_install();
    assert_int_equal(
        keel_run(a_family_that_hangs_does_not_delay_the_other, NULL), 0);
    test_clock_remove();
}

/* One after another, each with its share of the time. */
static void a_thread_gives_each_address_its_share_of_the_time(void **state)
{
    keel_auto(listener) struct keel_listener *l = NULL;
    keel_auto(stream) struct keel_stream *s = NULL;
    struct sockaddr_in addr;
    char address[64];
    int fillers[8], fd = full_listener(&addr, fillers);

    (void)state;
    snprintf(address, sizeof address, "127.0.0.2:%u", ntohs(addr.sin_port));
    assert_int_equal(keel_listen(address, &l), 0);
    answer((const char *const[]){"127.0.0.1", "127.0.0.2"}, 2);
    snprintf(address, sizeof address, "several.test:%u", ntohs(addr.sin_port));
    assert_int_equal(keel_dial(address, keel_after(600 * KEEL_MS), &s), 0);
    for (int i = 0; i < 8; i++)
        close(fillers[i]);
    close(fd);
}

static int read_task(void *arg)
{
    char c;

    return (int)keel_stream_read(arg, &c, 1, KEEL_FOREVER);
}

static int a_peer_that_resets_or_closes_is_noticed(void *arg)
{
    keel_auto(listener) struct keel_listener *l = NULL;
    const struct linger hard = {1, 0};
    struct keel_stream *out, *in;
    struct keel_co *co;
    char c = 'c';

    (void)arg;
    assert_int_equal(keel_listen("127.0.0.1:0", &l), 0);
    for (int reset = 0; reset < 2; reset++) {
        assert_int_equal(keel_dial(keel_listener_address(l), soon(), &out), 0);
        assert_int_equal(keel_accept(l, soon(), &in), 0);
        assert_int_equal(keel_spawn(NULL, read_task, in, &co), 0);
        settle();
        if (reset)
            setsockopt(keel_stream_fd(out), SOL_SOCKET, SO_LINGER, &hard,
                       sizeof hard);
        keel_stream_close(out);
        assert_int_equal(result_of(co), reset ? -ECONNRESET : 0);
        if (!reset) { /* the first write is answered by a reset */
            int rc = keel_stream_write(in, &c, 1, soon());

            while (rc == 0)
                rc = keel_stream_write(in, &c, 1, soon());
            assert_true(rc == -EPIPE || rc == -ECONNRESET);
        }
        keel_stream_close(in);
    }
    return 0;
}

/* ---- descriptors run out ------------------------------------------------------------- */

static int a_listener_survives_having_no_descriptors(void *arg)
{
    keel_auto(listener) struct keel_listener *l = NULL;
    keel_auto(stream) struct keel_stream *out = NULL;
    struct keel_stream *in = NULL;
    struct rlimit before, none;
    int fd;

    (void)arg;
    /* valgrind counts descriptors itself: it takes the connection, closes it
     * and then says EMFILE. */
    if (getenv("KEEL_TEST_VALGRIND"))
        return 0;
    assert_int_equal(keel_listen("127.0.0.1:0", &l), 0);
    /* Whatever a wait needs once is made now. */
    assert_int_equal(keel_accept(l, keel_after(KEEL_MS), &in), -ETIMEDOUT);
    assert_int_equal(keel_dial(keel_listener_address(l), soon(), &out), 0);
    assert_int_equal(getrlimit(RLIMIT_NOFILE, &before), 0);
    none = before;
    fd = dup(0);
    none.rlim_cur = (rlim_t)fd;
    close(fd);
    assert_int_equal(setrlimit(RLIMIT_NOFILE, &none), 0);
    assert_int_equal(keel_accept(l, soon(), &in), -EMFILE);
    assert_int_equal(setrlimit(RLIMIT_NOFILE, &before), 0);
    assert_int_equal(keel_accept(l, soon(), &in), 0);
    keel_stream_close(in);
    return 0;
}

static int every_failing_call_is_reported_and_nothing_leaks(void *arg)
{
    keel_auto(listener) struct keel_listener *l = NULL;
    struct keel_listener *other = NULL;
    struct keel_stream *s = NULL;
    const char *address;
    char name[100];
    int fd = dup(0), after;

    (void)arg;
    close(fd);
    assert_int_equal(keel_listen("127.0.0.1:0", &l), 0);
    address = keel_listener_address(l);
    fault_fail(KEEL_OP_SOCKET, 1, ENFILE);
    assert_int_equal(keel_dial(address, soon(), &s), -ENFILE);
    fault_fail(KEEL_OP_SOCKET, 1, ENFILE);
    assert_int_equal(keel_listen("127.0.0.1:0", &other), -ENFILE);
    fault_fail(KEEL_OP_CONNECT, 1, ENETUNREACH);
    assert_int_equal(keel_dial(address, soon(), &s), -ENETUNREACH);
    fault_fail(KEEL_OP_SOCKET, 1, EINTR);
    assert_int_equal(keel_dial(address, soon(), &s), 0);
    fault_fail(KEEL_OP_SHUTDOWN, 1, EINTR);
    assert_int_equal(keel_stream_finish(s, soon()), 0);
    fault_fail(KEEL_OP_SHUTDOWN, 1, EIO);
    assert_int_equal(keel_stream_finish(s, soon()), -EIO);
    keel_stream_close(s);
    s = NULL;
    fault_fail(KEEL_OP_ALLOC, 1, ENOMEM);
    assert_int_equal(keel_accept(l, soon(), &s), -ENOMEM);
    for (unsigned nth = 1; nth <= 8;
         nth++) { /* by name: lookups, group, stacks */
        int rc;

        snprintf(name, sizeof name, "localhost%s", strrchr(address, ':'));
        fault_fail(KEEL_OP_ALLOC, nth, ENOMEM);
        rc = keel_dial(name, soon(), &s);
        assert_true(rc == 0 || rc == -ENOMEM);
        if (rc == 0)
            keel_stream_close(s);
        s = NULL;
        keel_seam.fault = NULL;
    }
    for (unsigned nth = 1; nth <= 2; nth++) {
        snprintf(name, sizeof name, "unix:%s/s", dir);
        fault_fail(KEEL_OP_ALLOC, nth, ENOMEM);
        assert_int_equal(keel_listen(name, &other), -ENOMEM);
    }
    keel_seam.fault = NULL;
    assert_null(other);
    keel_listener_close(l);
    l = NULL;
    /* What was closed is gone once the loop has looked round. */
    assert_int_equal(keel_sleep(keel_after(5 * KEEL_MS)), 0);
    after = dup(0);
    close(after);
    assert_int_equal(after, fd);
    return 0;
}

/* ---- registration ---------------------------------------------------------------------- */

IN_CO(every_kind_of_address_carries_bytes)
IN_BOTH(bad_addresses_are_refused)
IN_BOTH(a_name_without_address_is_enoent)
IN_BOTH(nobody_listening_is_refused)
IN_BOTH(a_taken_port_is_in_use)
IN_BOTH(options_are_set_on_both_ends)
IN_BOTH(options_change_on_tcp_only)
IN_BOTH(a_names_addresses_come_with_families_in_turn)
IN_BOTH(peers_are_printed)
IN_BOTH(a_unix_socket_is_private_and_removed_at_close)
IN_BOTH(a_dead_unix_socket_is_replaced_and_a_live_one_is_not)
IN_CO(a_listening_descriptor_is_adopted)
IN_CO(waits_for_a_peer_end_by_deadline_cancel_and_close)
IN_BOTH(a_connect_that_hangs_ends_by_deadline_and_cancel)
IN_CO(a_peer_that_resets_or_closes_is_noticed)
IN_BOTH(a_listener_survives_having_no_descriptors)
IN_BOTH(every_failing_call_is_reported_and_nothing_leaks)

#define TEST(name) cmocka_unit_test_setup_teardown(name, begin, end)

int main(void)
{
    const struct CMUnitTest tests[] = {
        CO(every_kind_of_address_carries_bytes),
        BOTH(bad_addresses_are_refused),
        BOTH(a_name_without_address_is_enoent),
        BOTH(nobody_listening_is_refused),
        BOTH(a_taken_port_is_in_use),
        BOTH(options_are_set_on_both_ends),
        BOTH(options_change_on_tcp_only),
        BOTH(a_names_addresses_come_with_families_in_turn),
        BOTH(peers_are_printed),
        BOTH(a_unix_socket_is_private_and_removed_at_close),
        BOTH(a_dead_unix_socket_is_replaced_and_a_live_one_is_not),
        CO(a_listening_descriptor_is_adopted),
        CO(waits_for_a_peer_end_by_deadline_cancel_and_close),
        BOTH(a_connect_that_hangs_ends_by_deadline_and_cancel),
        CO(a_family_that_hangs_does_not_delay_the_other),
        TEST(a_thread_gives_each_address_its_share_of_the_time),
        CO(a_peer_that_resets_or_closes_is_noticed),
        BOTH(a_listener_survives_having_no_descriptors),
        BOTH(every_failing_call_is_reported_and_nothing_leaks),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
