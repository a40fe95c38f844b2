/* SPDX-License-Identifier: MIT */
/* This machine's interfaces: one block of memory with the list, its rows and
 * all their addresses.
 *
 * 1. getifaddrs tells of each link once (AF_PACKET) and of each address; both
 *    are counted, the block is taken and filled link by link.
 * 2. The default routes are read from /proc and given to their rows.  Without
 *    /proc nobody has a gateway. */
#include <keel/address.h>

#include <errno.h>
#include <ifaddrs.h>
#include <linux/if_packet.h>
#include <net/if.h>
#include <netinet/in.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "io/address_inside.h"

struct list {
    struct keel_interfaces pub;
    struct keel_interface rows[];
};

/* ---- links and addresses ------------------------------------------------------------ */

/* "eth0:1" labels a v4 address of eth0. */
static bool is_of(const struct ifaddrs *a, const char *interface)
{
    size_t size = strcspn(a->ifa_name, ":");

    return strlen(interface) == size && !memcmp(a->ifa_name, interface, size);
}

static bool is_link(const struct ifaddrs *a)
{
    return a->ifa_addr && a->ifa_addr->sa_family == AF_PACKET &&
           strlen(a->ifa_name) < KEEL_INTERFACE_NAME_BYTES;
}

static bool is_address(const struct ifaddrs *a)
{
    return a->ifa_addr && (a->ifa_addr->sa_family == AF_INET ||
                           a->ifa_addr->sa_family == AF_INET6);
}

static struct keel_address read_ip(const struct sockaddr *from)
{
    struct keel_address a = {0};

    if (from)
        (void)keel_address_from_sockaddr(from, sizeof(struct sockaddr_in6), &a);
    return a;
}

static struct keel_interface_address read_address(const struct ifaddrs *a)
{
    struct keel_interface_address ret = {.address = read_ip(a->ifa_addr)};
    struct keel_address mask = read_ip(a->ifa_netmask);
    int bits;

    mask.port = 0;
    bits = keel_mask_bits(&mask);
    ret.bits = bits < 0 ? 0 : (unsigned)bits;
    if (a->ifa_flags & IFF_BROADCAST && ret.address.family == KEEL_V4)
        ret.broadcast = read_ip(a->ifa_broadaddr);
    return ret;
}

static void read_link(const struct ifaddrs *a, struct keel_interface *ret)
{
    const struct sockaddr_ll *ll = (const void *)a->ifa_addr;

    (void)snprintf(ret->name, sizeof ret->name, "%s", a->ifa_name);
    ret->index = (unsigned)ll->sll_ifindex;
    ret->up = a->ifa_flags & IFF_UP;
    ret->loopback = a->ifa_flags & IFF_LOOPBACK;
    ret->broadcast = a->ifa_flags & IFF_BROADCAST;
    ret->multicast = a->ifa_flags & IFF_MULTICAST;
    ret->has_mac = !ret->loopback && ll->sll_halen == KEEL_MAC_BYTES;
    if (ret->has_mac)
        memcpy(ret->mac, ll->sll_addr, KEEL_MAC_BYTES);
}

static int by_index(const void *a, const void *b)
{
    const struct keel_interface *x = a, *y = b;

    return (x->index > y->index) - (x->index < y->index);
}

static int build(const struct ifaddrs *found, struct list **ret)
{
    size_t links = 0, addresses = 0;
    struct keel_interface_address *next;
    struct list *l;

    for (const struct ifaddrs *a = found; a; a = a->ifa_next) {
        links += is_link(a);
        addresses += is_address(a);
    }
    l = keel_calloc(1, sizeof *l + links * sizeof *l->rows +
                           addresses * sizeof(struct keel_interface_address));
    if (!l)
        return -ENOMEM;
    l->pub.rows = l->rows;
    next = (void *)&l->rows[links];
    for (const struct ifaddrs *a = found; a; a = a->ifa_next) {
        struct keel_interface *row = &l->rows[l->pub.count];

        if (!is_link(a))
            continue;
        read_link(a, row);
        row->addresses = next;
        for (const struct ifaddrs *b = found; b; b = b->ifa_next)
            if (is_address(b) && is_of(b, row->name)) {
                *next++ = read_address(b);
                row->address_count++;
            }
        l->pub.count++;
    }
    qsort(l->rows, l->pub.count, sizeof *l->rows, by_index);
    *ret = l;
    return 0;
}

/* ---- gateways ------------------------------------------------------------------------- */

enum { RTF_UP_FLAG = 1, RTF_GATEWAY_FLAG = 2 }; /* <linux/route.h> */

/* The kernel prints the number as it lies in memory: 010200C0 is 192.0.2.1 on
 * a little-endian machine. */
bool route4_parse(const char *line, struct route *ret)
{
    struct route r = {.gateway.family = KEEL_V4};
    unsigned destination, gateway, flags, metric, mask;

    if (sscanf(line, "%15s %8x %8x %4x %*u %*u %9u %8x", r.interface,
               &destination, &gateway, &flags, &metric, &mask) != 6)
        return false;
    if (destination || mask || !(flags & RTF_UP_FLAG) ||
        !(flags & RTF_GATEWAY_FLAG) || !gateway)
        return false;
    memcpy(r.gateway.bytes, &gateway, 4);
    r.metric = metric;
    *ret = r;
    return true;
}

static bool hex16(const char *text, uint8_t ret[16])
{
    if (strlen(text) != 32)
        return false;
    for (int i = 0; i < 16; i++) {
        unsigned byte;

        if (sscanf(text + 2 * i, "%2x", &byte) != 1)
            return false;
        ret[i] = (uint8_t)byte;
    }
    return true;
}

/* destination, its bits, source, its bits, gateway, metric, references, use,
 * flags, interface: all hexadecimal */
bool route6_parse(const char *line, struct route *ret)
{
    struct route r = {.gateway.family = KEEL_V6};
    char destination[33], gateway[33];
    static const uint8_t zeros[16];
    unsigned bits, metric, flags;
    uint8_t to[16];

    if (sscanf(line, "%32s %2x %*32s %*2x %32s %8x %*8x %*8x %8x %15s",
               destination, &bits, gateway, &metric, &flags, r.interface) != 6)
        return false;
    if (!hex16(destination, to) || !hex16(gateway, r.gateway.bytes))
        return false;
    if (bits || memcmp(to, zeros, 16) || !(flags & RTF_UP_FLAG) ||
        !(flags & RTF_GATEWAY_FLAG) || !memcmp(r.gateway.bytes, zeros, 16))
        return false;
    r.metric = metric;
    *ret = r;
    return true;
}

static void give(struct list *l, const struct route *r)
{
    for (size_t i = 0; i < l->pub.count; i++) {
        struct keel_interface *row = &l->rows[i];
        bool v4 = r->gateway.family == KEEL_V4;
        struct keel_address *to = v4 ? &row->gateway4 : &row->gateway6;

        if (strcmp(row->name, r->interface))
            continue;
        *to = r->gateway;
        /* The next hop is often link-local: useless without its link. */
        if (keel_address_class(to) == KEEL_CLASS_LINK_LOCAL && !v4)
            to->zone = row->index;
    }
}

struct best {
    char interface[KEEL_INTERFACE_NAME_BYTES];
    uint32_t metric;
};
enum { BEST_MOST = 64 };

/* True when `r` is preferred to all that `seen` has of its interface. */
static bool is_better(struct best *seen, size_t *count, const struct route *r)
{
    for (size_t i = 0; i < *count; i++)
        if (!strcmp(seen[i].interface, r->interface)) {
            if (r->metric >= seen[i].metric)
                return false;
            seen[i].metric = r->metric;
            return true;
        }
    if (*count == BEST_MOST)
        return false; /* more ways out than anybody has */
    memcpy(seen[*count].interface, r->interface, sizeof r->interface);
    seen[(*count)++].metric = r->metric;
    return true;
}

static void read_routes(struct list *l, const char *path,
                        bool (*parse)(const char *line, struct route *ret))
{
    struct best seen[BEST_MOST];
    size_t count = 0;
    char line[512];
    struct route r;
    FILE *f = fopen(path, "re");

    if (!f)
        return;
    while (fgets(line, sizeof line, f))
        if (parse(line, &r) && is_better(seen, &count, &r))
            give(l, &r);
    (void)fclose(f);
}

/* ---- the list --------------------------------------------------------------------------- */

int keel_interfaces_new(struct keel_interfaces **ret)
{
    struct ifaddrs *found = NULL;
    struct list *l;
    int rc;

    if (getifaddrs(&found) < 0)
        return -errno;
    rc = build(found, &l);
    freeifaddrs(found);
    if (rc < 0)
        return rc;
    read_routes(l, "/proc/net/route", route4_parse);
    read_routes(l, "/proc/net/ipv6_route", route6_parse);
    *ret = &l->pub;
    return 0;
}

void keel_interfaces_free(struct keel_interfaces *l)
{
    keel_free(l);
}

const struct keel_interface *
keel_interface_named(const struct keel_interfaces *l, const char *name)
{
    for (size_t i = 0; i < l->count; i++)
        if (!strcmp(l->rows[i].name, name))
            return &l->rows[i];
    return NULL;
}

void keel_mac_print(const uint8_t mac[KEEL_MAC_BYTES],
                    char ret[KEEL_MAC_TEXT_BYTES])
{
    (void)snprintf(ret, KEEL_MAC_TEXT_BYTES, "%02x:%02x:%02x:%02x:%02x:%02x",
                   mac[0], mac[1], mac[2], mac[3], mac[4], mac[5]);
}
