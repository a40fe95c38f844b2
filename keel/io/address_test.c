/* SPDX-License-Identifier: MIT */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>

#include <cmocka.h>

#include <arpa/inet.h>
#include <errno.h>
#include <ifaddrs.h>
#include <net/if.h>
#include <netinet/in.h>
#include <stdio.h>
#include <string.h>

#include <keel/address.h>

#include "io/address_inside.h"
#include "test/fault.h"

static struct keel_address ip(const char *text)
{
    struct keel_address a;

    if (keel_ip_parse(text, &a) < 0)
        fail_msg("%s", text);
    return a;
}

static struct keel_prefix prefix(const char *text)
{
    struct keel_prefix p;

    if (keel_prefix_parse(text, &p) < 0)
        fail_msg("%s", text);
    return p;
}

/* ---- text --------------------------------------------------------------------- */

static void addresses_are_printed_after_rfc_5952(void **state)
{
    static const char *const rows[][2] = {
        {"0.0.0.0", "0.0.0.0"},
        {"255.255.255.255", "255.255.255.255"},
        {"192.0.2.1", "192.0.2.1"},
        {"::", "::"},
        {"::1", "::1"},
        {"1::", "1::"},
        {"2001:DB8::0001", "2001:db8::1"},
        {"2001:0db8:0000:0000:0000:0000:0000:0001", "2001:db8::1"},
        /* one group of zeros is no run (4.2.2) */
        {"2001:db8:0:1:1:1:1:1", "2001:db8:0:1:1:1:1:1"},
        {"2001:db8::1:1:1:1:1", "2001:db8:0:1:1:1:1:1"},
        /* the longest, then the first (4.2.3) */
        {"2001:0:0:1:0:0:0:1", "2001:0:0:1::1"},
        {"2001:db8:0:0:1:0:0:1", "2001:db8::1:0:0:1"},
        {"0:0:1:0:0:0:0:0", "0:0:1::"},
        {"1:2:3:4:5:6:7:8", "1:2:3:4:5:6:7:8"},
        {"1:2:3:4:5:6:0:0", "1:2:3:4:5:6::"},
        {"::2:3:4:5:6:7:8", "0:2:3:4:5:6:7:8"},
        /* mixed for the mapped alone (5) */
        {"::ffff:192.0.2.1", "::ffff:192.0.2.1"},
        {"::FFFF:c000:0201", "::ffff:192.0.2.1"},
        {"::1:2", "::1:2"},
        {"64:ff9b::192.0.2.33", "64:ff9b::c000:221"},
        {"1:2:3:4:5:6:192.0.2.1", "1:2:3:4:5:6:c000:201"},
    };

    (void)state;
    for (size_t i = 0; i < sizeof rows / sizeof *rows; i++) {
        struct keel_address a = ip(rows[i][0]);
        char text[KEEL_ADDRESS_BYTES];

        keel_ip_print(&a, text);
        assert_string_equal(text, rows[i][1]);
    }
    struct keel_address none = {0};
    char text[KEEL_ADDRESS_BYTES];

    keel_ip_print(&none, text);
    assert_string_equal(text, "-");
}

static void what_is_no_address_is_refused(void **state)
{
    static const char *const bad[] = {
        "",
        "1",
        "1.2.3",
        "1.2.3.4.5",
        "1.2.3.256",
        "01.2.3.4",
        "1.2.3.04",
        "1.2.3.4 ",
        " 1.2.3.4",
        "1.2.3.4%lo",
        ":",
        ":::",
        "1::2::3",
        "12345::",
        "1:2:3:4:5:6",
        "1:2:3:4:5:6:7:8:9",
        "g::",
        "::1.2.3",
        "::1%lo",
        "2001:db8::1%lo",
        "[::1]",
        "1.2.3.4:80",
        "fe80::1%",
        "::ffff:1.2.3.04",
        "0x7f.0.0.1",
        "127.1",
        "1:2:3:4:5:6:7:",
        "0000:0000:0000:0000:0000:0000:0000:00000001",
        "aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa",
    };

    (void)state;
    for (size_t i = 0; i < sizeof bad / sizeof *bad; i++) {
        struct keel_address a = {.port = 77};

        if (keel_ip_parse(bad[i], &a) != -EINVAL || a.port != 77)
            fail_msg("%s", bad[i]);
    }
}

static void a_port_stands_behind_and_v6_in_brackets(void **state)
{
    static const char *const good[] = {"127.0.0.1:80", "[::1]:65535",
                                       "[2001:db8::1]:0"};
    static const char *const bad[] = {
        "127.0.0.1",
        "127.0.0.1:",
        "127.0.0.1:65536",
        "127.0.0.1:-1",
        "127.0.0.1: 1",
        "127.0.0.1:000080",
        "::1:80",
        "[::1]80",
        "[::1]",
        "[127.0.0.1]:80",
        "[::1:80",
        "[]:80",
        "[:80",
        "host:80",
        ":80",
        "",
        "[::1]:80x",
    };
    char text[KEEL_ADDRESS_BYTES];
    struct keel_address a;

    (void)state;
    for (size_t i = 0; i < sizeof good / sizeof *good; i++) {
        assert_int_equal(keel_address_parse(good[i], &a), 0);
        keel_address_print(&a, text);
        assert_string_equal(text, good[i]);
    }
    for (size_t i = 0; i < sizeof bad / sizeof *bad; i++)
        if (keel_address_parse(bad[i], &a) != -EINVAL)
            fail_msg("%s", bad[i]);
    assert_int_equal(keel_address_parse("[::ffff:192.0.2.1]:80", &a), 0);
    keel_address_print(&a, text);
    assert_string_equal(text, "192.0.2.1:80");
}

static void a_zone_is_an_interface_by_name_or_number(void **state)
{
    char text[KEEL_ADDRESS_BYTES], name[IF_NAMESIZE];
    struct keel_address a;
    unsigned lo = if_nametoindex("lo");

    (void)state;
    assert_int_not_equal(lo, 0);
    a = ip("fe80::1%lo");
    assert_int_equal(a.zone, lo);
    keel_ip_print(&a, text);
    assert_string_equal(text, "fe80::1%lo");
    a.port = 80;
    keel_address_print(&a, text);
    assert_string_equal(text, "[fe80::1%lo]:80");

    /* by number, also of one that is not there (any more) */
    assert_null(if_indextoname(999999999, name));
    a = ip("ff02::1%999999999");
    assert_int_equal(a.zone, 999999999);
    keel_ip_print(&a, text);
    assert_string_equal(text, "ff02::1%999999999");
    assert_int_equal(keel_ip_parse("fe80::1%nosuchif", &a), -ENODEV);
    assert_int_equal(keel_ip_parse("fe80::1%99999999999", &a), -ENODEV);
    assert_int_equal(keel_ip_parse("fe80::1%0", &a), -EINVAL);
}

/* ---- classes ------------------------------------------------------------------------ */

static void each_address_has_its_class(void **state)
{
    static const struct {
        const char *text;
        enum keel_address_class is;
    } rows[] = {
        {"0.0.0.0", KEEL_CLASS_ANY},
        {"0.0.0.1", KEEL_CLASS_RESERVED},
        {"127.0.0.1", KEEL_CLASS_LOOPBACK},
        {"127.255.255.255", KEEL_CLASS_LOOPBACK},
        {"128.0.0.1", KEEL_CLASS_PUBLIC},
        {"10.0.0.1", KEEL_CLASS_PRIVATE},
        {"11.0.0.1", KEEL_CLASS_PUBLIC},
        {"172.15.255.255", KEEL_CLASS_PUBLIC},
        {"172.16.0.0", KEEL_CLASS_PRIVATE},
        {"172.31.255.255", KEEL_CLASS_PRIVATE},
        {"172.32.0.0", KEEL_CLASS_PUBLIC},
        {"192.168.1.1", KEEL_CLASS_PRIVATE},
        {"169.254.169.254", KEEL_CLASS_LINK_LOCAL},
        {"224.0.0.1", KEEL_CLASS_MULTICAST},
        {"239.255.255.255", KEEL_CLASS_MULTICAST},
        {"240.0.0.1", KEEL_CLASS_RESERVED},
        {"255.255.255.255", KEEL_CLASS_BROADCAST},
        {"100.63.255.255", KEEL_CLASS_PUBLIC},
        {"100.64.0.1", KEEL_CLASS_RESERVED},
        {"192.0.0.8", KEEL_CLASS_RESERVED},
        {"192.0.0.9", KEEL_CLASS_PUBLIC},
        {"192.0.2.1", KEEL_CLASS_RESERVED},
        {"198.19.0.1", KEEL_CLASS_RESERVED},
        {"198.51.100.1", KEEL_CLASS_RESERVED},
        {"203.0.113.1", KEEL_CLASS_RESERVED},
        {"8.8.8.8", KEEL_CLASS_PUBLIC},
        {"::", KEEL_CLASS_ANY},
        {"::1", KEEL_CLASS_LOOPBACK},
        {"::2", KEEL_CLASS_RESERVED},
        {"fe80::1", KEEL_CLASS_LINK_LOCAL},
        {"febf::1", KEEL_CLASS_LINK_LOCAL},
        {"fec0::1", KEEL_CLASS_RESERVED},
        {"fc00::1", KEEL_CLASS_PRIVATE},
        {"fdff::1", KEEL_CLASS_PRIVATE},
        {"ff02::1", KEEL_CLASS_MULTICAST},
        {"2001:db8::1", KEEL_CLASS_RESERVED},
        {"2001:db9::1", KEEL_CLASS_PUBLIC},
        {"2001::1", KEEL_CLASS_RESERVED},
        {"2001:20::1", KEEL_CLASS_PUBLIC},
        {"2001:200::1", KEEL_CLASS_PUBLIC},
        {"2002::1", KEEL_CLASS_RESERVED},
        {"2606:4700::1111", KEEL_CLASS_PUBLIC},
        {"3fff::1", KEEL_CLASS_RESERVED},
        {"3fff:1000::1", KEEL_CLASS_PUBLIC},
        {"4000::1", KEEL_CLASS_RESERVED},
        {"100::1", KEEL_CLASS_RESERVED},
        /* through a translator to the host itself */
        {"64:ff9b::127.0.0.1", KEEL_CLASS_LOOPBACK},
        {"64:ff9b::8.8.8.8", KEEL_CLASS_PUBLIC},
        {"64:ff9b:1::1", KEEL_CLASS_RESERVED},
    };
    const struct keel_address none = {0};

    (void)state;
    for (size_t i = 0; i < sizeof rows / sizeof *rows; i++) {
        struct keel_address a = ip(rows[i].text);

        if (keel_address_class(&a) != rows[i].is)
            fail_msg("%s: %s", rows[i].text,
                     keel_address_class_name(keel_address_class(&a)));
    }
    assert_int_equal(keel_address_class(&none), KEEL_CLASS_NONE);
    assert_string_equal(keel_address_class_name(KEEL_CLASS_LINK_LOCAL),
                        "link-local");
}

static void a_mapped_address_is_v4_in_every_rule(void **state)
{
    static const char *const plain[] = {"127.0.0.1",   "10.1.2.3",  "0.0.0.0",
                                        "169.254.1.1", "224.0.0.1", "8.8.8.8"};
    struct keel_prefix ten = prefix("10.0.0.0/8"), all6 = prefix("::/0");
    struct keel_address a;

    (void)state;
    for (size_t i = 0; i < sizeof plain / sizeof *plain; i++) {
        struct keel_address v4 = ip(plain[i]);
        char text[64];

        (void)snprintf(text, sizeof text, "::ffff:%s", plain[i]);
        a = ip(text);
        assert_int_equal(a.family, KEEL_V6);
        assert_int_equal(keel_address_class(&a), keel_address_class(&v4));
        assert_true(keel_address_same(&a, &v4));
        assert_true(keel_same_subnet(&a, &v4, 32));
        assert_int_equal(keel_prefix_contains(&ten, &a), i == 1);
        assert_false(keel_prefix_contains(&all6, &a));
    }
    assert_true(
        keel_prefix_contains(&all6, &(struct keel_address){.family = KEEL_V6}));
    /* and in a rule itself */
    ten = prefix("::ffff:10.0.0.0/104");
    assert_int_equal(ten.base.family, KEEL_V4);
    assert_int_equal(ten.bits, 8);
    a = ip("10.255.0.1");
    assert_true(keel_prefix_contains(&ten, &a));
}

static void the_same_host_is_told_by_address_and_zone(void **state)
{
    struct keel_address a = ip("fe80::1%1"), b = ip("fe80::1%2"),
                        c = ip("fe80::1"), d = ip("fe80::2"),
                        v4 = ip("1.2.3.4"), v6 = ip("102:304::");

    (void)state;
    a.port = 80;
    assert_false(keel_address_same(&a, &b));
    assert_true(keel_address_same(&a, &c));
    assert_false(keel_address_same(&c, &d));
    assert_false(keel_address_same(&v4, &v6)); /* the same bytes */
}

/* ---- prefixes ------------------------------------------------------------------------- */

static void prefixes_are_read_and_printed(void **state)
{
    static const char *const rows[][2] = {
        {"10.0.0.0/8", "10.0.0.0/8"},
        {"10.0.0.0/255.0.0.0", "10.0.0.0/8"},
        {"192.0.2.128/25", "192.0.2.128/25"},
        {"0.0.0.0/0", "0.0.0.0/0"},
        {"0.0.0.0/0.0.0.0", "0.0.0.0/0"},
        {"192.0.2.1", "192.0.2.1/32"},
        {"::/0", "::/0"},
        {"2001:db8::/32", "2001:db8::/32"},
        {"2001:db8::1", "2001:db8::1/128"},
        {"fe80::%lo/10", "fe80::%lo/10"},
        {"::ffff:192.0.2.0/120", "192.0.2.0/24"},
    };
    static const char *const bad[] = {
        "",
        "/8",
        "10.0.0.0/",
        "10.0.0.0/33",
        "10.0.0.1/8",
        "10.0.0.0/-1",
        "10.0.0.0/8x",
        "10.0.0.0/255.0.255.0",
        "::/129",
        "::1/127",
        "::/255.0.0.0",
        "10.0.0.0/8/8",
        "10/8",
        "fe80::/10%lo",
        "10.0.0.0/08",
        "10.0.0.0/ffff::",
        "::ffff:10.0.0.1/104",
    };
    char text[KEEL_ADDRESS_BYTES];
    struct keel_prefix p;

    (void)state;
    for (size_t i = 0; i < sizeof rows / sizeof *rows; i++) {
        p = prefix(rows[i][0]);
        keel_prefix_print(&p, text);
        assert_string_equal(text, rows[i][1]);
    }
    for (size_t i = 0; i < sizeof bad / sizeof *bad; i++)
        if (keel_prefix_parse(bad[i], &p) != -EINVAL)
            fail_msg("%s", bad[i]);
}

static void a_prefix_contains_what_begins_like_it(void **state)
{
    struct keel_prefix p = prefix("192.0.2.128/25"),
                       zone = prefix("fe80::%1/10");
    struct keel_address a = ip("192.0.2.128"), b = ip("192.0.2.255"),
                        c = ip("192.0.2.127"), d = ip("192.0.3.128");
    struct keel_address z1 = ip("fe80::1%1"), z2 = ip("fe80::1%2"),
                        z0 = ip("fe80::1");
    const struct keel_address none = {0};

    (void)state;
    assert_true(keel_prefix_contains(&p, &a));
    assert_true(keel_prefix_contains(&p, &b));
    assert_false(keel_prefix_contains(&p, &c));
    assert_false(keel_prefix_contains(&p, &d));
    assert_false(keel_prefix_contains(&p, &none));
    assert_true(keel_prefix_contains(&zone, &z1));
    assert_false(keel_prefix_contains(&zone, &z2));
    assert_false(keel_prefix_contains(&zone, &z0));
    a = keel_prefix_last(&p);
    assert_true(keel_address_same(&a, &b));

    /* at every length, of both families: exactly one of two that differ in
     * the bit behind the prefix and in the last bit of it */
    for (unsigned bits = 0; bits <= 128; bits++) {
        struct keel_address x = ip("2001:db8:5555:aaaa:1234:5678:9abc:def0");
        struct keel_address inside = x, outside = x;

        assert_int_equal(keel_prefix_of(&x, bits, &p), 0);
        if (bits < 128)
            inside.bytes[bits / 8] ^= (uint8_t)(0x80u >> bits % 8);
        assert_true(keel_prefix_contains(&p, &inside));
        assert_true(keel_same_subnet(&x, &inside, bits));
        if (bits == 0)
            continue;
        outside.bytes[(bits - 1) / 8] ^= (uint8_t)(0x80u >> (bits - 1) % 8);
        assert_false(keel_prefix_contains(&p, &outside));
        assert_false(keel_same_subnet(&x, &outside, bits));
    }
    assert_int_equal(keel_prefix_of(&none, 0, &p), -EINVAL);
    assert_int_equal(keel_prefix_of(&b, 33, &p), -EINVAL);
    assert_false(keel_same_subnet(&b, &b, 33));
    assert_false(keel_same_subnet(&none, &none, 0));
}

static void masks_and_their_bits_are_one(void **state)
{
    struct keel_address mask;
    char text[KEEL_ADDRESS_BYTES];

    (void)state;
    for (unsigned bits = 0; bits <= 32; bits++) {
        assert_int_equal(keel_mask(KEEL_V4, bits, &mask), 0);
        assert_int_equal(keel_mask_bits(&mask), (int)bits);
    }
    for (unsigned bits = 0; bits <= 128; bits++) {
        assert_int_equal(keel_mask(KEEL_V6, bits, &mask), 0);
        assert_int_equal(keel_mask_bits(&mask), (int)bits);
    }
    assert_int_equal(keel_mask(KEEL_V4, 20, &mask), 0);
    keel_ip_print(&mask, text);
    assert_string_equal(text, "255.255.240.0");
    assert_int_equal(keel_mask(KEEL_V4, 33, &mask), -EINVAL);
    assert_int_equal(keel_mask(KEEL_V6, 129, &mask), -EINVAL);
    assert_int_equal(keel_mask(5, 1, &mask), -EINVAL);
    mask = ip("255.0.255.0");
    assert_int_equal(keel_mask_bits(&mask), -EINVAL);
    mask = (struct keel_address){0};
    assert_int_equal(keel_mask_bits(&mask), -EINVAL);
}

static void sockaddrs_go_there_and_back(void **state)
{
    static const char *const texts[] = {"192.0.2.1:80", "[2001:db8::1]:443",
                                        "[fe80::1%lo]:9"};
    struct sockaddr_storage addr;
    struct keel_address a, b;
    socklen_t size;

    (void)state;
    for (size_t i = 0; i < 3; i++) {
        assert_int_equal(keel_address_parse(texts[i], &a), 0);
        size = keel_address_to_sockaddr(&a, &addr);
        assert_int_equal(keel_address_from_sockaddr((void *)&addr, size, &b),
                         0);
        assert_memory_equal(a.bytes, b.bytes, sizeof a.bytes);
        assert_int_equal(a.port, b.port);
        assert_int_equal(a.zone, b.zone);
        assert_int_equal(
            keel_address_from_sockaddr((void *)&addr, size - 1, &b), -EINVAL);
    }
    assert_int_equal(keel_address_from_sockaddr((void *)&addr, 1, &b), -EINVAL);
    addr.ss_family = AF_UNIX;
    assert_int_equal(keel_address_from_sockaddr((void *)&addr, sizeof addr, &b),
                     -EAFNOSUPPORT);
    a = (struct keel_address){0};
    assert_int_equal(keel_address_to_sockaddr(&a, &addr), 0);
}

/* ---- this machine ------------------------------------------------------------------------- */

static void count_of_the_kernel(size_t *ret_links, size_t *ret_addresses)
{
    struct ifaddrs *found;

    *ret_links = *ret_addresses = 0;
    assert_int_equal(getifaddrs(&found), 0);
    for (struct ifaddrs *a = found; a; a = a->ifa_next) {
        if (!a->ifa_addr)
            continue;
        *ret_links += a->ifa_addr->sa_family == AF_PACKET;
        *ret_addresses += a->ifa_addr->sa_family == AF_INET ||
                          a->ifa_addr->sa_family == AF_INET6;
    }
    freeifaddrs(found);
}

static void interfaces_are_those_of_the_kernel(void **state)
{
    keel_auto(interfaces) struct keel_interfaces *l = NULL;
    const struct keel_interface *lo;
    struct keel_address home = ip("127.0.0.1");
    size_t links, addresses, links_after, addresses_after, listed = 0;
    bool at_home = false;

    (void)state;
    do { /* others may make some meanwhile, as for containers */
        keel_interfaces_free(keel_take(l));
        count_of_the_kernel(&links, &addresses);
        assert_int_equal(keel_interfaces_new(&l), 0);
        count_of_the_kernel(&links_after, &addresses_after);
    } while (links != links_after || addresses != addresses_after);
    assert_int_equal(l->count, links);
    for (size_t i = 0; i < l->count; i++) {
        const struct keel_interface *row = &l->rows[i];

        assert_int_equal(row->index, if_nametoindex(row->name));
        assert_true(i == 0 || row[-1].index < row->index);
        assert_ptr_equal(keel_interface_named(l, row->name), row);
        listed += row->address_count;
    }
    assert_int_equal(listed, addresses);

    lo = keel_interface_named(l, "lo");
    assert_non_null(lo);
    assert_true(lo->up && lo->loopback && !lo->has_mac);
    assert_int_equal(lo->gateway4.family, KEEL_NO_ADDRESS);
    for (size_t i = 0; i < lo->address_count; i++)
        if (keel_address_same(&lo->addresses[i].address, &home)) {
            assert_int_equal(lo->addresses[i].bits, 8);
            at_home = true;
        }
    assert_true(at_home);
    assert_null(keel_interface_named(l, "nosuchif"));
}

static void interfaces_survive_each_allocation_failure(void **state)
{
    (void)state;
    for (unsigned nth = 1;; nth++) {
        struct keel_interfaces *l = NULL;
        int rc;

        fault_fail_alloc(nth);
        rc = keel_interfaces_new(&l);
        if (!fault_fired()) {
            assert_int_equal(rc, 0);
            assert_true(nth > 1);
            keel_interfaces_free(l);
            keel_seam.fault = NULL;
            return;
        }
        assert_int_equal(rc, -ENOMEM);
        assert_null(l);
    }
}

static void default_routes_are_read_from_the_kernels_tables(void **state)
{
    static const char *const not4[] = {
        "Iface\tDestination\tGateway \tFlags\tRefCnt\tUse\tMetric\tMask\n",
        "eth0\t000200C0\t00000000\t0001\t0\t0\t0\t00FFFFFF\t0\t0\t0\n",
        "eth0\t00000000\t00000000\t0001\t0\t0\t0\t00000000\t0\t0\t0\n",
        "eth0\t00000000\t010200C0\t0002\t0\t0\t0\t00000000\t0\t0\t0\n",
        "eth0\t00000000\t010200C0\t0003\t0\t0\t0\t000000FF\t0\t0\t0\n",
        "eth0\t00000000\n",
        "",
    };
    static const char zeros[] = "00000000000000000000000000000000";
    char line[400], text[KEEL_ADDRESS_BYTES];
    uint32_t gateway = htonl(0xc0000201); /* as it lies in memory */
    struct route r;

    (void)state;
    (void)snprintf(line, sizeof line,
                   "wan0\t00000000\t%08X\t0003\t0\t0\t100\t00000000\t0\t0\t0\n",
                   gateway);
    assert_true(route4_parse(line, &r));
    assert_string_equal(r.interface, "wan0");
    assert_int_equal(r.metric, 100);
    keel_ip_print(&r.gateway, text);
    assert_string_equal(text, "192.0.2.1");
    for (size_t i = 0; i < sizeof not4 / sizeof *not4; i++)
        if (route4_parse(not4[i], &r))
            fail_msg("%s", not4[i]);

    (void)snprintf(line, sizeof line,
                   "%s 00 %s 00 fd000000000000000000000000000001 00000400 "
                   "00000005 00000000 00000003     eth0\n",
                   zeros, zeros);
    assert_true(route6_parse(line, &r));
    assert_string_equal(r.interface, "eth0");
    assert_int_equal(r.metric, 1024);
    keel_ip_print(&r.gateway, text);
    assert_string_equal(text, "fd00::1");
    line[strlen(line) - 11] = '1'; /* flags: up, no gateway */
    assert_false(route6_parse(line, &r));
    (void)snprintf(line, sizeof line,
                   "%s 40 %s 00 fd000000000000000000000000000001 00000400 "
                   "00000005 00000000 00000003     eth0\n",
                   zeros, zeros);
    assert_false(route6_parse(line, &r));
    line[10] = 'x';
    assert_false(route6_parse(line, &r));
    assert_false(route6_parse("", &r));
}

static void a_mac_is_six_pairs(void **state)
{
    const uint8_t mac[KEEL_MAC_BYTES] = {0x02, 0xfc, 0, 0, 0xAB, 1};
    char text[KEEL_MAC_TEXT_BYTES];

    (void)state;
    keel_mac_print(mac, text);
    assert_string_equal(text, "02:fc:00:00:ab:01");
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(addresses_are_printed_after_rfc_5952),
        cmocka_unit_test(what_is_no_address_is_refused),
        cmocka_unit_test(a_port_stands_behind_and_v6_in_brackets),
        cmocka_unit_test(a_zone_is_an_interface_by_name_or_number),
        cmocka_unit_test(each_address_has_its_class),
        cmocka_unit_test(a_mapped_address_is_v4_in_every_rule),
        cmocka_unit_test(the_same_host_is_told_by_address_and_zone),
        cmocka_unit_test(prefixes_are_read_and_printed),
        cmocka_unit_test(a_prefix_contains_what_begins_like_it),
        cmocka_unit_test(masks_and_their_bits_are_one),
        cmocka_unit_test(sockaddrs_go_there_and_back),
        cmocka_unit_test(interfaces_are_those_of_the_kernel),
        cmocka_unit_test(interfaces_survive_each_allocation_failure),
        cmocka_unit_test(default_routes_are_read_from_the_kernels_tables),
        cmocka_unit_test(a_mac_is_six_pairs),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
