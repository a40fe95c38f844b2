/* SPDX-License-Identifier: MIT */
#include <keel/address.h>

#include <arpa/inet.h>
#include <errno.h>
#include <limits.h>
#include <net/if.h>
#include <netinet/in.h>
#include <stdio.h>
#include <string.h>

#include "io/address_inside.h"

static const uint8_t mapped_head[12] = {[10] = 0xff, [11] = 0xff};

static unsigned bits_of(const struct keel_address *a)
{
    return a->family == KEEL_V4 ? 32 : a->family == KEEL_V6 ? 128 : 0;
}

static bool is_mapped(const struct keel_address *a)
{
    return a->family == KEEL_V6 &&
           !memcmp(a->bytes, mapped_head, sizeof mapped_head);
}

struct keel_address keel_address_unmap(const struct keel_address *a)
{
    struct keel_address v4 = {.family = KEEL_V4, .port = a->port};

    if (!is_mapped(a))
        return *a;
    memcpy(v4.bytes, a->bytes + sizeof mapped_head, 4);
    return v4;
}

/* ---- from text -------------------------------------------------------------------- */

/* Digits only, `most` at the most. */
static int number(const char *text, uint32_t most, uint32_t *ret)
{
    uint64_t n = 0;

    if (!*text)
        return -EINVAL;
    for (; *text; text++) {
        if (*text < '0' || *text > '9')
            return -EINVAL;
        n = n * 10 + (unsigned)(*text - '0');
        if (n > most)
            return -EINVAL;
    }
    *ret = (uint32_t)n;
    return 0;
}

int address_port_parse(const char *text, uint16_t *ret)
{
    uint32_t port;

    if (strlen(text) > 5 || number(text, UINT16_MAX, &port) < 0)
        return -EINVAL;
    *ret = (uint16_t)port;
    return 0;
}

/* Only these are told apart by their interface (RFC 4007 4). */
static bool has_zones(const struct keel_address *a)
{
    return a->family == KEEL_V6 &&
           (a->bytes[0] == 0xff ||
            (a->bytes[0] == 0xfe && (a->bytes[1] & 0xc0) == 0x80));
}

static int zone_parse(const char *text, uint32_t *ret)
{
    uint32_t zone = if_nametoindex(text);

    if (!zone && *text && number(text, INT_MAX, &zone) < 0)
        return -ENODEV;
    if (!zone)
        return -EINVAL;
    *ret = zone;
    return 0;
}

int keel_ip_parse(const char *text, struct keel_address *ret)
{
    struct keel_address a = {0};
    char host[INET6_ADDRSTRLEN];
    size_t size = strcspn(text, "%");
    int rc;

    if (size >= sizeof host)
        return -EINVAL;
    memcpy(host, text, size);
    host[size] = '\0';
    if (inet_pton(AF_INET, host, a.bytes) == 1)
        a.family = KEEL_V4;
    else if (inet_pton(AF_INET6, host, a.bytes) == 1)
        a.family = KEEL_V6;
    else
        return -EINVAL;
    if (text[size] == '%') {
        if (!has_zones(&a))
            return -EINVAL;
        rc = zone_parse(text + size + 1, &a.zone);
        if (rc < 0)
            return rc;
    }
    *ret = a;
    return 0;
}

int keel_address_parse(const char *text, struct keel_address *ret)
{
    const char *colon = strrchr(text, ':');
    bool brackets = text[0] == '[';
    struct keel_address a;
    char host[KEEL_ADDRESS_BYTES];
    size_t size;
    int rc;

    if (!colon)
        return -EINVAL;
    size = (size_t)(colon - text);
    if (brackets) {
        if (size < 2 || colon[-1] != ']')
            return -EINVAL;
        text++;
        size -= 2;
    }
    if (size >= sizeof host)
        return -EINVAL;
    memcpy(host, text, size);
    host[size] = '\0';
    rc = keel_ip_parse(host, &a);
    if (rc < 0)
        return rc;
    if (brackets != (a.family == KEEL_V6))
        return -EINVAL;
    rc = address_port_parse(colon + 1, &a.port);
    if (rc < 0)
        return rc;
    *ret = a;
    return 0;
}

/* ---- to text ---------------------------------------------------------------------------- */

static int print4(const uint8_t *bytes, char *ret, size_t size)
{
    return snprintf(ret, size, "%u.%u.%u.%u", bytes[0], bytes[1], bytes[2],
                    bytes[3]);
}

/* Where the longest run of zero groups begins; its length, 0 for none. */
static int zeros_find(const uint16_t groups[8], int *ret)
{
    int longest = 1, run = 0; /* a single one is written out */

    *ret = -1;
    for (int i = 0; i < 8; i++) {
        run = groups[i] ? 0 : run + 1;
        if (run > longest) {
            longest = run;
            *ret = i + 1 - run;
        }
    }
    return *ret < 0 ? 0 : longest;
}

/* RFC 5952 4.  The C library's prints ::1:2 as ::0.1.0.2. */
static void print6(const uint8_t *bytes, char *ret, size_t size)
{
    uint16_t groups[8];
    int start, length;
    size_t n = 0;

    for (int i = 0; i < 8; i++)
        groups[i] = (uint16_t)(bytes[2 * i] << 8 | bytes[2 * i + 1]);
    length = zeros_find(groups, &start);
    for (int i = 0; i < 8; i++) {
        const char *colon = i && i != start + length ? ":" : "";

        if (i == start) {
            n += (size_t)snprintf(ret + n, size - n, "::");
            i += length - 1;
            continue;
        }
        n += (size_t)snprintf(ret + n, size - n, "%s%x", colon, groups[i]);
    }
}

static void print_zone(uint32_t zone, char *ret, size_t size)
{
    char name[IF_NAMESIZE];

    if (if_indextoname(zone, name))
        (void)snprintf(ret, size, "%%%s", name);
    else
        (void)snprintf(ret, size, "%%%u", zone);
}

void keel_ip_print(const struct keel_address *a, char ret[KEEL_ADDRESS_BYTES])
{
    static const char head[] = "::ffff:";

    if (a->family == KEEL_V4) {
        (void)print4(a->bytes, ret, KEEL_ADDRESS_BYTES);
    } else if (is_mapped(a)) {
        memcpy(ret, head, sizeof head);
        (void)print4(a->bytes + 12, ret + sizeof head - 1,
                     KEEL_ADDRESS_BYTES - sizeof head);
    } else if (a->family == KEEL_V6) {
        size_t size;

        print6(a->bytes, ret, KEEL_ADDRESS_BYTES);
        size = strlen(ret);
        if (a->zone)
            print_zone(a->zone, ret + size, KEEL_ADDRESS_BYTES - size);
    } else {
        memcpy(ret, "-", 2);
    }
}

void keel_address_print(const struct keel_address *a,
                        char ret[KEEL_ADDRESS_BYTES])
{
    const struct keel_address plain = keel_address_unmap(a);
    char host[KEEL_ADDRESS_BYTES];

    keel_ip_print(&plain, host);
    /* 39 of the longest, a zone of 16 at the most: both bounds are there for
     * the compiler. */
    (void)snprintf(ret, KEEL_ADDRESS_BYTES,
                   plain.family == KEEL_V6 ? "[%.100s]:%u" : "%.100s:%u", host,
                   plain.port);
}

/* ---- classes ----------------------------------------------------------------------------- */

struct class_row {
    uint8_t bytes[8]; /* none of the prefixes here is longer, ::1 aside */
    uint8_t bits;
    enum keel_address_class is;
};

/* The first that fits counts. */
static const struct class_row classes4[] = {
    {{0, 0, 0, 0}, 32, KEEL_CLASS_ANY},
    {{255, 255, 255, 255}, 32, KEEL_CLASS_BROADCAST},
    {{127}, 8, KEEL_CLASS_LOOPBACK},
    {{10}, 8, KEEL_CLASS_PRIVATE},
    {{172, 16}, 12, KEEL_CLASS_PRIVATE},
    {{192, 168}, 16, KEEL_CLASS_PRIVATE},
    {{169, 254}, 16, KEEL_CLASS_LINK_LOCAL},
    {{224}, 4, KEEL_CLASS_MULTICAST},
    {{0}, 8, KEEL_CLASS_RESERVED},            /* "this network" */
    {{100, 64}, 10, KEEL_CLASS_RESERVED},     /* RFC 6598: a provider's */
    {{192, 0, 0, 9}, 32, KEEL_CLASS_PUBLIC},  /* RFC 7723 */
    {{192, 0, 0, 10}, 32, KEEL_CLASS_PUBLIC}, /* RFC 8155 */
    {{192, 0, 0}, 24, KEEL_CLASS_RESERVED},   /* protocols, RFC 6890 */
    {{192, 0, 2}, 24, KEEL_CLASS_RESERVED},   /* documentation, RFC 5737 */
    {{198, 51, 100}, 24, KEEL_CLASS_RESERVED},
    {{203, 0, 113}, 24, KEEL_CLASS_RESERVED},
    {{192, 88, 99}, 24, KEEL_CLASS_RESERVED}, /* 6to4, RFC 7526 */
    {{198, 18}, 15, KEEL_CLASS_RESERVED},     /* benchmarks, RFC 2544 */
    {{240}, 4, KEEL_CLASS_RESERVED},
    {{0}, 0, KEEL_CLASS_PUBLIC},
};
static const struct class_row classes6[] = {
    {{0xfe, 0x80}, 10, KEEL_CLASS_LINK_LOCAL},
    {{0xfc}, 7, KEEL_CLASS_PRIVATE},
    {{0xff}, 8, KEEL_CLASS_MULTICAST},
    {{0x20, 0x01, 0x0d, 0xb8}, 32, KEEL_CLASS_RESERVED}, /* documentation */
    {{0x3f, 0xff}, 20, KEEL_CLASS_RESERVED},             /* RFC 9637 */
    {{0x20, 0x01, 0, 0x03}, 32, KEEL_CLASS_PUBLIC},      /* AMT, RFC 7450 */
    {{0x20, 0x01, 0, 0x04, 0x01, 0x12}, 48, KEEL_CLASS_PUBLIC}, /* AS112 */
    {{0x20, 0x01, 0, 0x20}, 28, KEEL_CLASS_PUBLIC},             /* ORCHIDv2 */
    {{0x20, 0x01, 0, 0x30}, 28, KEEL_CLASS_PUBLIC},             /* RFC 9374 */
    {{0x20, 0x01}, 23, KEEL_CLASS_RESERVED}, /* protocols, with Teredo */
    {{0x20, 0x02}, 16, KEEL_CLASS_RESERVED}, /* 6to4 */
    {{0x20}, 3, KEEL_CLASS_PUBLIC},          /* all that is given out */
    {{0}, 0, KEEL_CLASS_RESERVED},
};

static bool starts_alike(const uint8_t *a, const uint8_t *b, unsigned bits)
{
    unsigned whole = bits / 8, rest = bits % 8;

    return !memcmp(a, b, whole) &&
           (rest == 0 || (a[whole] ^ b[whole]) >> (8 - rest) == 0);
}

static enum keel_address_class class4(const uint8_t *bytes)
{
    const struct class_row *row = classes4;

    while (!starts_alike(bytes, row->bytes, row->bits))
        row++;
    return row->is;
}

static enum keel_address_class class6(const uint8_t *bytes)
{
    static const uint8_t zeros[16], one[16] = {[15] = 1};
    /* Where a translator stands, this reaches the v4 address in it (RFC 6052
     * 2.1), loopback included. */
    static const uint8_t nat64[12] = {0x00, 0x64, 0xff, 0x9b};
    const struct class_row *row = classes6;

    if (!memcmp(bytes, zeros, 16))
        return KEEL_CLASS_ANY;
    if (!memcmp(bytes, one, 16))
        return KEEL_CLASS_LOOPBACK;
    if (!memcmp(bytes, nat64, sizeof nat64))
        return class4(bytes + 12);
    while (!starts_alike(bytes, row->bytes, row->bits))
        row++;
    return row->is;
}

enum keel_address_class keel_address_class(const struct keel_address *a)
{
    const struct keel_address plain = keel_address_unmap(a);

    if (plain.family == KEEL_V4)
        return class4(plain.bytes);
    return plain.family == KEEL_V6 ? class6(plain.bytes) : KEEL_CLASS_NONE;
}

const char *keel_address_class_name(enum keel_address_class c)
{
    static const char *const names[KEEL_CLASS_COUNT] = {
        [KEEL_CLASS_NONE] = "none",
        [KEEL_CLASS_ANY] = "any",
        [KEEL_CLASS_LOOPBACK] = "loopback",
        [KEEL_CLASS_PRIVATE] = "private",
        [KEEL_CLASS_LINK_LOCAL] = "link-local",
        [KEEL_CLASS_MULTICAST] = "multicast",
        [KEEL_CLASS_BROADCAST] = "broadcast",
        [KEEL_CLASS_RESERVED] = "reserved",
        [KEEL_CLASS_PUBLIC] = "public",
    };

    keel_assert((unsigned)c < KEEL_CLASS_COUNT);
    return names[c];
}

/* ---- prefixes ------------------------------------------------------------------------------- */

static bool zones_agree(uint32_t a, uint32_t b)
{
    return a == b || !a || !b;
}

bool keel_address_same(const struct keel_address *a,
                       const struct keel_address *b)
{
    const struct keel_address x = keel_address_unmap(a);
    const struct keel_address y = keel_address_unmap(b);

    return x.family == y.family && !memcmp(x.bytes, y.bytes, sizeof x.bytes) &&
           zones_agree(x.zone, y.zone);
}

int keel_mask(int family, unsigned bits, struct keel_address *ret)
{
    struct keel_address mask = {.family = (uint8_t)family};

    if ((family != KEEL_V4 && family != KEEL_V6) || bits > bits_of(&mask))
        return -EINVAL;
    for (unsigned i = 0; i < bits; i++)
        mask.bytes[i / 8] |= (uint8_t)(0x80u >> i % 8);
    *ret = mask;
    return 0;
}

int keel_mask_bits(const struct keel_address *mask)
{
    unsigned size = bits_of(mask) / 8, bits = 0;
    struct keel_address whole;

    if (!size)
        return -EINVAL;
    for (unsigned i = 0; i < size; i++)
        bits += (unsigned)__builtin_popcount(mask->bytes[i]);
    (void)keel_mask(mask->family, bits, &whole);
    return memcmp(whole.bytes, mask->bytes, sizeof whole.bytes) ? -EINVAL
                                                                : (int)bits;
}

int keel_prefix_of(const struct keel_address *a, unsigned bits,
                   struct keel_prefix *ret)
{
    struct keel_prefix p = {.base = *a, .bits = bits};
    struct keel_address mask;

    if (keel_mask(a->family, bits, &mask) < 0)
        return -EINVAL;
    if (is_mapped(a) && bits >= 96) {
        p.base = keel_address_unmap(a);
        p.bits = bits - 96;
        (void)keel_mask(KEEL_V4, p.bits, &mask);
    }
    p.base.port = 0;
    for (size_t i = 0; i < sizeof mask.bytes; i++)
        p.base.bytes[i] &= mask.bytes[i];
    *ret = p;
    return 0;
}

/* What stands behind the slash: a number, or a v4 mask. */
static int bits_parse(const char *text, const struct keel_address *base)
{
    struct keel_address mask;
    uint32_t bits;

    if ((text[0] != '0' || !text[1]) && number(text, bits_of(base), &bits) == 0)
        return (int)bits;
    if (base->family != KEEL_V4 || keel_ip_parse(text, &mask) < 0 ||
        mask.family != KEEL_V4)
        return -EINVAL;
    return keel_mask_bits(&mask);
}

int keel_prefix_parse(const char *text, struct keel_prefix *ret)
{
    size_t size = strcspn(text, "/");
    char host[KEEL_ADDRESS_BYTES];
    struct keel_address a, plain;
    struct keel_prefix p;
    int rc, bits;

    if (size >= sizeof host)
        return -EINVAL;
    memcpy(host, text, size);
    host[size] = '\0';
    rc = keel_ip_parse(host, &a);
    if (rc < 0)
        return rc;
    bits = text[size] ? bits_parse(text + size + 1, &a) : (int)bits_of(&a);
    if (bits < 0)
        return bits;
    rc = keel_prefix_of(&a, (unsigned)bits, &p);
    if (rc < 0)
        return rc;
    plain = p.base.family == KEEL_V4 ? keel_address_unmap(&a) : a;
    if (memcmp(plain.bytes, p.base.bytes, sizeof plain.bytes))
        return -EINVAL;
    *ret = p;
    return 0;
}

void keel_prefix_print(const struct keel_prefix *p,
                       char ret[KEEL_ADDRESS_BYTES])
{
    size_t size;

    keel_ip_print(&p->base, ret);
    size = strlen(ret);
    (void)snprintf(ret + size, KEEL_ADDRESS_BYTES - size, "/%u", p->bits);
}

bool keel_prefix_contains(const struct keel_prefix *p,
                          const struct keel_address *a)
{
    const struct keel_address x = keel_address_unmap(a);

    return x.family != KEEL_NO_ADDRESS && x.family == p->base.family &&
           p->bits <= bits_of(&x) &&
           starts_alike(x.bytes, p->base.bytes, p->bits) &&
           (!p->base.zone || p->base.zone == x.zone);
}

struct keel_address keel_prefix_last(const struct keel_prefix *p)
{
    struct keel_address last = p->base, mask;

    if (keel_mask(last.family, p->bits, &mask) == 0)
        for (unsigned i = 0; i < bits_of(&last) / 8; i++)
            last.bytes[i] |= (uint8_t)~mask.bytes[i];
    return last;
}

bool keel_same_subnet(const struct keel_address *a,
                      const struct keel_address *b, unsigned bits)
{
    const struct keel_address x = keel_address_unmap(a);
    const struct keel_address y = keel_address_unmap(b);

    return x.family != KEEL_NO_ADDRESS && x.family == y.family &&
           bits <= bits_of(&x) && starts_alike(x.bytes, y.bytes, bits) &&
           zones_agree(x.zone, y.zone);
}

/* ---- sockets ----------------------------------------------------------------------------------- */

int keel_address_from_sockaddr(const struct sockaddr *from, socklen_t size,
                               struct keel_address *ret)
{
    const struct sockaddr_in *v4 = (const void *)from;
    const struct sockaddr_in6 *v6 = (const void *)from;
    struct keel_address a = {0};

    if (size < sizeof from->sa_family)
        return -EINVAL;
    switch (from->sa_family) {
    case AF_INET:
        if (size < sizeof *v4)
            return -EINVAL;
        a.family = KEEL_V4;
        a.port = ntohs(v4->sin_port);
        memcpy(a.bytes, &v4->sin_addr, 4);
        break;
    case AF_INET6:
        if (size < sizeof *v6)
            return -EINVAL;
        a.family = KEEL_V6;
        a.port = ntohs(v6->sin6_port);
        memcpy(a.bytes, &v6->sin6_addr, 16);
        a.zone = v6->sin6_scope_id;
        break;
    default:
        return -EAFNOSUPPORT;
    }
    *ret = a;
    return 0;
}

socklen_t keel_address_to_sockaddr(const struct keel_address *a,
                                   struct sockaddr_storage *ret)
{
    struct sockaddr_in *v4 = (void *)ret;
    struct sockaddr_in6 *v6 = (void *)ret;

    memset(ret, 0, sizeof *ret);
    switch (a->family) {
    case KEEL_V4:
        v4->sin_family = AF_INET;
        v4->sin_port = htons(a->port);
        memcpy(&v4->sin_addr, a->bytes, 4);
        return sizeof *v4;
    case KEEL_V6:
        v6->sin6_family = AF_INET6;
        v6->sin6_port = htons(a->port);
        memcpy(&v6->sin6_addr, a->bytes, 16);
        v6->sin6_scope_id = a->zone;
        return sizeof *v6;
    default:
        return 0;
    }
}
