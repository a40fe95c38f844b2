/* SPDX-License-Identifier: MIT */
/* Datagrams, on the poller that KEEL_POLLER names, and in threads.  All of it
 * stays on the loopback interface. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>

#include <cmocka.h>

#include <errno.h>
#include <net/if.h>
#include <netinet/in.h>
#include <pthread.h>
#include <stdio.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

#include <keel/co.h>
#include <keel/net.h>
#include <keel/udp.h>

#include "test/both.h"
#include "test/fault.h"

static keel_ns soon(void)
{
    return keel_after(20 * KEEL_SECOND);
}

/* What is sent on loopback is there when the send returns: what has not come
 * then does not come. */
static keel_ns at_once(void)
{
    return keel_current() ? keel_after(5 * KEEL_MS) : KEEL_NOW;
}

static int end(void **state)
{
    (void)state;
    keel_seam.fault = NULL;
    return 0;
}

static struct keel_address ip(const char *text, uint16_t port)
{
    struct keel_address a;

    assert_int_equal(keel_ip_parse(text, &a), 0);
    a.port = port;
    return a;
}

static struct keel_address home_of(struct keel_udp *u)
{
    struct keel_address a;

    assert_int_equal(keel_udp_local(u, &a), 0);
    assert_int_not_equal(a.port, 0);
    return a;
}

static void says(const struct keel_address *a, const char *text)
{
    char printed[KEEL_ADDRESS_BYTES];

    keel_ip_print(a, printed);
    assert_string_equal(printed, text);
}

/* `u` receives `text`, next. */
static struct keel_datagram gets(struct keel_udp *u, const char *text)
{
    struct keel_datagram d;
    char buf[64];

    assert_int_equal(keel_udp_recv(u, buf, sizeof buf, soon(), &d),
                     (ssize_t)strlen(text));
    assert_memory_equal(buf, text, strlen(text));
    assert_int_equal(d.size, strlen(text));
    return d;
}

static void gets_nothing(struct keel_udp *u)
{
    char buf[64];

    assert_int_equal(keel_udp_recv(u, buf, sizeof buf, at_once(), NULL),
                     -ETIMEDOUT);
}

static void sends_to(struct keel_udp *u, const struct keel_address *to,
                     const char *text)
{
    assert_int_equal(keel_udp_send_to(u, to, text, strlen(text), soon()), 0);
}

/* ---- one to one ------------------------------------------------------------------- */

static int datagrams_go_both_ways_and_stay_whole(void *arg)
{
    static const char *const hosts[][2] = {{"127.0.0.1:0", "127.0.0.1"},
                                           {"[::1]:0", "::1"}};

    (void)arg;
    for (int i = 0; i < 2; i++) {
        keel_auto(udp) struct keel_udp *a = NULL, *b = NULL;
        struct keel_address to;
        struct keel_datagram d;

        assert_int_equal(keel_udp_open(hosts[i][0], 0, &a), 0);
        assert_int_equal(keel_udp_open(hosts[i][0], 0, &b), 0);
        to = home_of(b);
        sends_to(a, &to, "one");
        sends_to(a, &to, "");
        sends_to(a, &to, "three");
        d = gets(b, "one");
        says(&d.from, hosts[i][1]);
        assert_int_equal(d.from.port, home_of(a).port);
        says(&d.to, hosts[i][1]);
        assert_int_equal(d.to.port, to.port);
        assert_int_equal(d.interface, if_nametoindex("lo"));
        (void)gets(b, "");
        d = gets(b, "three");
        sends_to(b, &d.from, "back");
        (void)gets(a, "back");
    }
    return 0;
}

static int a_socket_for_both_families_tells_v4_as_v4(void *arg)
{
    keel_auto(udp) struct keel_udp *both = NULL, *four = NULL, *six = NULL;
    struct keel_address to4, to6;
    struct keel_datagram d;

    (void)arg;
    assert_int_equal(keel_udp_open("[::]:0", 0, &both), 0);
    assert_int_equal(keel_udp_open("127.0.0.1:0", 0, &four), 0);
    assert_int_equal(keel_udp_open("[::1]:0", 0, &six), 0);
    to4 = ip("127.0.0.1", home_of(both).port);
    to6 = ip("::1", home_of(both).port);
    sends_to(four, &to4, "four");
    sends_to(six, &to6, "six");
    d = gets(both, "four");
    says(&d.from, "127.0.0.1");
    says(&d.to, "127.0.0.1");
    sends_to(both, &d.from, "to four"); /* mapped on its way out */
    (void)gets(four, "to four");
    d = gets(both, "six");
    says(&d.from, "::1");
    assert_int_equal(keel_udp_connect(both, &d.from), 0);
    assert_int_equal(keel_udp_send(both, "to six", 6, soon()), 0);
    (void)gets(six, "to six");

    /* what has no way to be written there */
    assert_int_equal(keel_udp_send_to(four, &to6, "x", 1, soon()),
                     -EAFNOSUPPORT);
    assert_int_equal(keel_udp_send_to(six, &to4, "x", 1, soon()), -ENETUNREACH);
    assert_int_equal(keel_udp_connect(four, &to6), -EAFNOSUPPORT);
    to4 = ip("::ffff:127.0.0.1", to4.port);
    sends_to(four, &to4, "mapped"); /* is v4 */
    return 0;
}

static int a_connected_socket_hears_one_and_is_told_of_refusal(void *arg)
{
    keel_auto(udp) struct keel_udp *a = NULL, *b = NULL, *other = NULL;
    struct keel_address to_a, to_b;
    struct keel_datagram d;
    char address[KEEL_ADDRESS_BYTES], c;

    (void)arg;
    assert_int_equal(keel_udp_open("127.0.0.1:0", 0, &b), 0);
    assert_int_equal(keel_udp_open("127.0.0.1:0", 0, &other), 0);
    to_b = home_of(b);
    keel_address_print(&to_b, address);
    assert_int_equal(keel_udp_send(b, "x", 1, soon()), -EDESTADDRREQ);
    assert_int_equal(keel_udp_dial(address, soon(), &a), 0);
    to_a = home_of(a);
    sends_to(other, &to_a, "from another");
    assert_int_equal(keel_udp_send(a, "hello", 5, soon()), 0);
    d = gets(b, "hello");
    assert_int_equal(d.from.port, to_a.port);
    sends_to(b, &to_a, "from b");
    (void)gets(a, "from b");
    gets_nothing(a);

    /* dissolved, it hears everybody, on the port it had */
    assert_int_equal(keel_udp_connect(a, NULL), 0);
    assert_int_equal(home_of(a).port, to_a.port);
    sends_to(other, &to_a, "now");
    (void)gets(a, "now");
    assert_int_equal(keel_udp_send(a, "x", 1, soon()), -EDESTADDRREQ);

    /* nobody listens there any more */
    assert_int_equal(keel_udp_connect(a, &to_b), 0);
    keel_udp_close(keel_take(b));
    assert_int_equal(keel_udp_send(a, "x", 1, soon()), 0);
    assert_int_equal(keel_udp_recv(a, &c, 1, soon(), NULL), -ECONNREFUSED);
    /* and the socket is sound */
    assert_int_equal(keel_udp_connect(a, &to_a), 0);
    assert_int_equal(keel_udp_send(a, "self", 4, soon()), 0);
    (void)gets(a, "self");
    return 0;
}

static int what_is_cut_is_an_error_that_says_so(void *arg)
{
    keel_auto(udp) struct keel_udp *u = NULL;
    struct keel_address to;
    struct keel_datagram d;
    static char big[KEEL_UDP_BYTES_MOST + 1];
    char buf[8] = "-------";

    (void)arg;
    assert_int_equal(keel_udp_open("127.0.0.1:0", 0, &u), 0);
    to = home_of(u);
    sends_to(u, &to, "exactly!");
    sends_to(u, &to, "one byte too long"); /* several */
    sends_to(u, &to, "next");
    assert_int_equal(keel_udp_recv(u, buf, 8, soon(), &d), 8);
    assert_int_equal(keel_udp_recv(u, buf, 7, soon(), &d), -EMSGSIZE);
    assert_int_equal(d.size, 17);
    assert_int_equal(d.from.port, to.port);
    assert_memory_equal(buf, "one byt!", 8);
    (void)gets(u, "next"); /* the rest is lost, what follows is whole */
    sends_to(u, &to, "x");
    assert_int_equal(keel_udp_recv(u, NULL, 0, soon(), NULL), -EMSGSIZE);

    sends_to(u, &to, "");
    assert_int_equal(keel_udp_recv(u, NULL, 0, soon(), NULL), 0);
    assert_int_equal(keel_udp_send_to(u, &to, big, sizeof big, soon()),
                     -EMSGSIZE);
    memset(big, 7, sizeof big);
    assert_int_equal(keel_udp_send_to(u, &to, big, KEEL_UDP_BYTES_MOST, soon()),
                     0);
    assert_int_equal(keel_udp_recv(u, big, sizeof big, soon(), &d),
                     KEEL_UDP_BYTES_MOST);
    return 0;
}

/* ---- waiting ----------------------------------------------------------------------- */

static int recv_task(void *arg)
{
    char c;

    return (int)keel_udp_recv(arg, &c, 1, KEEL_FOREVER, NULL);
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

static int waits_end_by_datagram_deadline_cancel_and_close(void *arg)
{
    struct keel_udp *u = NULL;
    struct keel_address to;
    struct keel_co *co;
    char c;

    (void)arg;
    assert_int_equal(keel_udp_open("127.0.0.1:0", 0, &u), 0);
    to = home_of(u);
    assert_int_equal(keel_udp_recv(u, &c, 1, KEEL_NOW, NULL), -ETIMEDOUT);
    assert_int_equal(keel_udp_recv(u, &c, 1, keel_after(2 * KEEL_MS), NULL),
                     -ETIMEDOUT);
    assert_int_equal(keel_spawn(NULL, recv_task, u, &co), 0);
    settle();
    sends_to(u, &to, "x");
    assert_int_equal(result_of(co), 1);
    assert_int_equal(keel_spawn(NULL, recv_task, u, &co), 0);
    settle();
    keel_cancel(co);
    assert_int_equal(result_of(co), -ECANCELED);
    assert_int_equal(keel_spawn(NULL, recv_task, u, &co), 0);
    settle();
    keel_udp_close(u);
    assert_int_equal(result_of(co), -EBADF);
    return 0;
}

static void *recv_thread(void *arg)
{
    return (void *)(intptr_t)recv_task(arg);
}

static void a_thread_waits_for_a_datagram_and_for_its_deadline(void **state)
{
    keel_auto(udp) struct keel_udp *u = NULL;
    struct keel_address to;
    pthread_t thread;
    void *result;
    char c;

    (void)state;
    assert_int_equal(keel_udp_open("127.0.0.1:0", 0, &u), 0);
    to = home_of(u);
    assert_int_equal(keel_udp_recv(u, &c, 1, keel_after(2 * KEEL_MS), NULL),
                     -ETIMEDOUT);
    assert_int_equal(pthread_create(&thread, NULL, recv_thread, u), 0);
    sends_to(u, &to, "x");
    assert_int_equal(pthread_join(thread, &result), 0);
    assert_int_equal((intptr_t)result, 1);
}

/* ---- one to many --------------------------------------------------------------------- */

static void close_all(struct keel_udp **list, int count)
{
    for (int i = 0; i < count; i++)
        keel_udp_close(list[i]);
}

/* `real`: not the loopback interface, on which everything comes back. */
static void group_reaches_its_members(const char *sender, const char *text,
                                      const char *receivers, unsigned by,
                                      bool real)
{
    keel_auto(udp) struct keel_udp *out = NULL;
    struct keel_udp *in[3] = {0};
    struct keel_address group;
    struct keel_datagram d;
    char local[64];

    assert_int_equal(keel_udp_open(receivers, KEEL_UDP_SHARED, &in[0]), 0);
    (void)snprintf(local, sizeof local, "%.*s%u",
                   (int)(strrchr(receivers, ':') + 1 - receivers), receivers,
                   home_of(in[0]).port);
    for (int i = 1; i < 3; i++)
        assert_int_equal(keel_udp_open(local, KEEL_UDP_SHARED, &in[i]), 0);
    group = ip(text, home_of(in[0]).port);
    assert_int_equal(keel_udp_open(sender, 0, &out), 0);
    assert_int_equal(keel_udp_multicast_by(out, by), 0);
    assert_int_equal(keel_udp_multicast_ttl(out, 0), 0); /* not outside */

    assert_int_equal(keel_udp_join(in[0], &group, by), 0);
    assert_int_equal(keel_udp_join(in[1], &group, by), 0);
    assert_int_equal(keel_udp_join(in[1], &group, by), -EADDRINUSE);
    /* A machine may have interfaces that lead nowhere. */
    if (real && keel_udp_send_to(out, &group, "", 0, soon()) < 0) {
        close_all(in, 3);
        return;
    }
    if (real)
        for (int i = 0; i < 2; i++)
            (void)gets(in[i], "");
    sends_to(out, &group, "to all");
    for (int i = 0; i < 2; i++) {
        d = gets(in[i], "to all");
        assert_true(keel_address_same(&d.to, &group));
        assert_int_equal(d.interface, by);
        assert_int_equal(d.from.port, home_of(out).port);
    }
    gets_nothing(in[2]); /* the same port, but not a member */

    assert_int_equal(keel_udp_leave(in[0], &group, by), 0);
    assert_int_equal(keel_udp_leave(in[0], &group, by), -EADDRNOTAVAIL);
    sends_to(out, &group, "to one");
    (void)gets(in[1], "to one");
    gets_nothing(in[0]);

    assert_int_equal(keel_udp_multicast_loop(out, false), 0);
    sends_to(out, &group, "to others");
    if (real)
        gets_nothing(in[1]);
    else
        (void)gets(in[1], "to others");
    close_all(in, 3);
}

static int a_group_reaches_its_members_and_nobody_else(void *arg)
{
    unsigned lo = if_nametoindex("lo");

    (void)arg;
    group_reaches_its_members("127.0.0.1:0", "239.255.77.1", "0.0.0.0:0", lo,
                              false);
    group_reaches_its_members("127.0.0.1:0", "239.255.77.2", "[::]:0", lo,
                              false);
    group_reaches_its_members("[::]:0", "239.255.77.3", "[::]:0", lo, false);
    return 0;
}

/* One that has an address of that family, and groups; 0: none. */
static unsigned real_interface(int family)
{
    keel_auto(interfaces) struct keel_interfaces *l = NULL;

    assert_int_equal(keel_interfaces_new(&l), 0);
    for (size_t i = 0; i < l->count; i++) {
        const struct keel_interface *row = &l->rows[i];

        for (size_t k = 0; k < row->address_count; k++)
            if (row->up && row->multicast && !row->loopback &&
                row->addresses[k].address.family == family)
                return row->index;
    }
    return 0;
}

/* Linux has no way to v6 groups by the loopback interface. */
static int on_a_real_interface_members_may_leave_out_this_machine(void *arg)
{
    unsigned by4 = real_interface(KEEL_V4), by6 = real_interface(KEEL_V6);

    (void)arg;
    if (by4)
        group_reaches_its_members("0.0.0.0:0", "239.255.77.1", "0.0.0.0:0", by4,
                                  true);
    if (by6)
        group_reaches_its_members("[::]:0", "ff02::7777", "[::]:0", by6, true);
    return 0;
}

static int a_zone_says_by_which_interface_a_group_is_joined(void *arg)
{
    keel_auto(udp) struct keel_udp *u = NULL;
    struct keel_address group;

    (void)arg;
    assert_int_equal(keel_udp_open("[::]:0", 0, &u), 0);
    group = ip("ff02::7778%lo", home_of(u).port);
    assert_int_equal(keel_udp_join(u, &group, 0), 0);
    assert_int_equal(keel_udp_leave(u, &group, if_nametoindex("lo")), 0);
    return 0;
}

static int option_of(struct keel_udp *u, int level, int name)
{
    int value = -1;
    socklen_t size = sizeof value;

    assert_int_equal(getsockopt(keel_udp_fd(u), level, name, &value, &size), 0);
    return value;
}

static int options_are_set_for_both_families(void *arg)
{
    keel_auto(udp) struct keel_udp *u = NULL;

    (void)arg;
    assert_int_equal(keel_udp_open("[::]:0", 0, &u), 0);
    assert_int_equal(option_of(u, IPPROTO_IP, IP_MULTICAST_TTL), 1);
    assert_int_equal(option_of(u, IPPROTO_IP, IP_MULTICAST_LOOP), 1);
    assert_int_equal(keel_udp_multicast_ttl(u, 7), 0);
    assert_int_equal(option_of(u, IPPROTO_IP, IP_MULTICAST_TTL), 7);
    assert_int_equal(option_of(u, IPPROTO_IPV6, IPV6_MULTICAST_HOPS), 7);
    assert_int_equal(keel_udp_multicast_loop(u, false), 0);
    assert_int_equal(option_of(u, IPPROTO_IP, IP_MULTICAST_LOOP), 0);
    assert_int_equal(option_of(u, IPPROTO_IPV6, IPV6_MULTICAST_LOOP), 0);
    return 0;
}

static int what_is_wrong_with_a_group_is_said(void *arg)
{
    keel_auto(udp) struct keel_udp *four = NULL, *six = NULL;
    struct keel_address group4 = ip("239.255.77.4", 0),
                        group6 = ip("ff02::7777", 0), host = ip("10.0.0.1", 0);
    enum { NOBODY = 999999999 };

    (void)arg;
    assert_int_equal(keel_udp_open("0.0.0.0:0", 0, &four), 0);
    assert_int_equal(keel_udp_open("[::]:0", 0, &six), 0);
    assert_int_equal(keel_udp_join(four, &host, 0), -EINVAL);
    assert_int_equal(keel_udp_join(four, &group6, 0), -EAFNOSUPPORT);
    assert_int_equal(keel_udp_join(four, &group4, NOBODY), -ENODEV);
    assert_int_equal(keel_udp_join(six, &group6, NOBODY), -ENODEV);
    assert_int_equal(keel_udp_join(six, &group4, NOBODY), -ENODEV);
    assert_int_equal(keel_udp_multicast_by(four, NOBODY), -ENODEV);
    assert_int_equal(keel_udp_multicast_by(six, NOBODY), -ENODEV);
    assert_int_equal(keel_udp_multicast_ttl(four, 256), -EINVAL);
    assert_int_equal(keel_udp_multicast_ttl(six, 255), 0);
    return 0;
}

/* ---- many to many ------------------------------------------------------------------------ */

static int
broadcast_reaches_all_who_share_the_port_when_it_is_allowed(void *arg)
{
    struct keel_udp *peers[3] = {0};
    struct keel_prefix lo;
    struct keel_address all;
    char local[64];

    (void)arg;
    assert_int_equal(keel_prefix_parse("127.0.0.0/8", &lo), 0);
    all = keel_prefix_last(&lo);
    for (int i = 0; i < 3; i++) {
        (void)snprintf(local, sizeof local, i == 2 ? "[::]:%u" : "0.0.0.0:%u",
                       all.port);
        assert_int_equal(keel_udp_open(local, KEEL_UDP_SHARED, &peers[i]), 0);
        all.port = home_of(peers[i]).port;
    }
    assert_int_equal(keel_udp_send_to(peers[0], &all, "x", 1, soon()), -EACCES);
    for (int from = 0; from < 3; from++) {
        char text[] = {'f', 'r', 'o', 'm', ' ', (char)('0' + from), 0};

        assert_int_equal(keel_udp_broadcast(peers[from], true), 0);
        sends_to(peers[from], &all, text);
        for (int to = 0; to < 3; to++) {
            struct keel_datagram d = gets(peers[to], text);

            says(&d.to, "127.255.255.255");
        }
        assert_int_equal(keel_udp_broadcast(peers[from], false), 0);
    }
    close_all(peers, 3);
    return 0;
}

static int a_port_is_shared_only_when_both_say_so(void *arg)
{
    keel_auto(udp) struct keel_udp *a = NULL, *b = NULL;
    char local[KEEL_ADDRESS_BYTES];
    struct keel_address at;

    (void)arg;
    assert_int_equal(keel_udp_open("127.0.0.1:0", 0, &a), 0);
    at = home_of(a);
    keel_address_print(&at, local);
    assert_int_equal(keel_udp_open(local, 0, &b), -EADDRINUSE);
    assert_int_equal(keel_udp_open(local, KEEL_UDP_SHARED, &b), -EADDRINUSE);
    assert_null(b);
    return 0;
}

/* ---- what fails ----------------------------------------------------------------------------- */

static int a_socket_that_others_made_is_taken(void *arg)
{
    struct sockaddr_in any = {.sin_family = AF_INET};
    keel_auto(udp) struct keel_udp *ours = NULL, *other = NULL;
    struct keel_address to;
    struct keel_datagram d;
    int fd = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);

    (void)arg;
    assert_int_equal(keel_udp_adopt(fd, &ours), -EINVAL);
    close(fd);
    assert_int_equal(keel_udp_adopt(fd, &ours), -EBADF);
    fd = socket(AF_INET, SOCK_DGRAM | SOCK_CLOEXEC, 0);
    any.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
    assert_int_equal(bind(fd, (struct sockaddr *)&any, sizeof any), 0);
    assert_int_equal(keel_udp_adopt(fd, &ours), 0);
    assert_int_equal(keel_udp_fd(ours), fd);
    to = home_of(ours);
    assert_int_equal(keel_udp_open("127.0.0.1:0", 0, &other), 0);
    sends_to(other, &to, "hello");
    d = gets(ours, "hello");
    says(&d.to, "127.0.0.1");
    assert_int_equal(d.to.port, to.port);
    sends_to(ours, &d.from, "back");
    gets(other, "back");
    return 0;
}

static int bad_addresses_are_refused(void *arg)
{
    static const char *const bad[] = {"", "nonsense", "unix:/tmp/x",
                                      "[1.2.3.4]:1", "127.0.0.1:65536"};
    struct keel_udp *u = NULL;

    (void)arg;
    for (size_t i = 0; i < sizeof bad / sizeof *bad; i++) {
        assert_int_equal(keel_udp_open(bad[i], 0, &u), -EINVAL);
        assert_int_equal(keel_udp_dial(bad[i], soon(), &u), -EINVAL);
    }
    assert_int_equal(keel_udp_dial("127.0.0.1:0", soon(), &u), -EINVAL);
    /* not an address of this machine (RFC 5737) */
    assert_int_equal(keel_udp_open("203.0.113.7:0", 0, &u), -EADDRNOTAVAIL);
    assert_null(u);
    return 0;
}

static int every_failing_call_is_reported_and_nothing_leaks(void *arg)
{
    struct keel_udp *u = NULL;
    struct keel_address to;
    struct keel_datagram d;
    int fd = dup(0), after;
    char buf[8];

    (void)arg;
    close(fd);
    for (unsigned nth = 1; nth < 3; nth++) {
        int rc;

        fault_fail_alloc(nth);
        rc = keel_udp_open("127.0.0.1:0", 0, &u);
        assert_int_equal(rc, fault_fired() ? -ENOMEM : 0);
        keel_udp_close(keel_take(u));
    }
    fault_fail(KEEL_OP_SOCKET, 1, EMFILE);
    assert_int_equal(keel_udp_open("127.0.0.1:0", 0, &u), -EMFILE);
    fault_fail(KEEL_OP_CONNECT, 1, ENETUNREACH);
    assert_int_equal(keel_udp_dial("127.0.0.1:9", soon(), &u), -ENETUNREACH);
    assert_null(u);

    fault_clear();
    assert_int_equal(keel_udp_open("127.0.0.1:0", 0, &u), 0);
    to = home_of(u);
    fault_fail(KEEL_OP_SEND, 1, ENOBUFS);
    assert_int_equal(keel_udp_send_to(u, &to, "x", 1, soon()), -ENOBUFS);
    fault_fail(KEEL_OP_SEND, 1, EINTR);
    sends_to(u, &to, "again");
    fault_fail(KEEL_OP_RECV, 1, EINTR);
    assert_int_equal(keel_udp_recv(u, buf, 8, soon(), &d), 5);
    sends_to(u, &to, "whole");
    fault_fail(KEEL_OP_RECV, 1, FAULT_SHORT);
    assert_int_equal(keel_udp_recv(u, buf, 5, soon(), &d), -EMSGSIZE);
    assert_int_equal(d.size, 5);
    keel_udp_close(u);
    keel_udp_close(NULL);
    fault_clear();

    /* What was closed is gone once the loop has looked round. */
    if (keel_current())
        assert_int_equal(keel_sleep(keel_after(5 * KEEL_MS)), 0);
    after = dup(0);
    close(after);
    assert_int_equal(after, fd);
    return 0;
}

IN_BOTH(datagrams_go_both_ways_and_stay_whole)
IN_BOTH(a_socket_for_both_families_tells_v4_as_v4)
IN_BOTH(a_connected_socket_hears_one_and_is_told_of_refusal)
IN_BOTH(what_is_cut_is_an_error_that_says_so)
IN_CO(waits_end_by_datagram_deadline_cancel_and_close)
IN_BOTH(a_group_reaches_its_members_and_nobody_else)
IN_BOTH(on_a_real_interface_members_may_leave_out_this_machine)
IN_BOTH(options_are_set_for_both_families)
IN_BOTH(a_zone_says_by_which_interface_a_group_is_joined)
IN_BOTH(what_is_wrong_with_a_group_is_said)
IN_BOTH(broadcast_reaches_all_who_share_the_port_when_it_is_allowed)
IN_BOTH(a_port_is_shared_only_when_both_say_so)
IN_BOTH(bad_addresses_are_refused)
IN_BOTH(a_socket_that_others_made_is_taken)
IN_BOTH(every_failing_call_is_reported_and_nothing_leaks)

#define TEST(name) cmocka_unit_test_teardown(name, end)

int main(void)
{
    const struct CMUnitTest tests[] = {
        BOTH(datagrams_go_both_ways_and_stay_whole),
        BOTH(a_socket_for_both_families_tells_v4_as_v4),
        BOTH(a_connected_socket_hears_one_and_is_told_of_refusal),
        BOTH(what_is_cut_is_an_error_that_says_so),
        CO(waits_end_by_datagram_deadline_cancel_and_close),
        TEST(a_thread_waits_for_a_datagram_and_for_its_deadline),
        BOTH(a_group_reaches_its_members_and_nobody_else),
        BOTH(on_a_real_interface_members_may_leave_out_this_machine),
        BOTH(options_are_set_for_both_families),
        BOTH(a_zone_says_by_which_interface_a_group_is_joined),
        BOTH(what_is_wrong_with_a_group_is_said),
        BOTH(broadcast_reaches_all_who_share_the_port_when_it_is_allowed),
        BOTH(a_port_is_shared_only_when_both_say_so),
        BOTH(bad_addresses_are_refused),
        BOTH(a_socket_that_others_made_is_taken),
        BOTH(every_failing_call_is_reported_and_nothing_leaks),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
