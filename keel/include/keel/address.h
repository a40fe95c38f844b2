/* SPDX-License-Identifier: MIT */
/* Internet addresses: their text, what kind they are, prefixes, and those of
 * this machine.
 *
 * A v4 address that came mapped into v6 (::ffff:192.0.2.1, RFC 4291 2.5.5.2)
 * is told as it came, and treated as the v4 address that it is: it has that
 * one's class, lies in that one's prefixes and is the same address.  So no rule
 * for v4 is passed by through a v6 socket.
 *
 * Nothing here waits.  Only a zone ("%eth0") and keel_interfaces ask the
 * kernel. */
#ifndef KEEL_ADDRESS_H
#define KEEL_ADDRESS_H

#include <sys/socket.h>

#include <keel/base.h>

enum { KEEL_NO_ADDRESS = 0, KEEL_V4 = 4, KEEL_V6 = 6 };

/* A value: copied and compared field by field when a port or the mapped form
 * matters, else by keel_address_same.  All zero is no address. */
struct keel_address {
    uint8_t family;    /* KEEL_V4, KEEL_V6 */
    uint8_t bytes[16]; /* as on the wire; v4: the first four, zeros behind */
    uint16_t port;     /* in the machine's order; 0: none */
    uint32_t zone;     /* v6, link-local: index of the interface; 0: none */
};

/* "[" v6 "%" zone "]:" port, or "unix:" + a path: enough for all of net.h. */
#define KEEL_ADDRESS_BYTES 128

/* ---- text ---------------------------------------------------------------- */

/* "192.0.2.1", "2001:db8::1", "fe80::1%eth0", "fe80::1%2": the forms of
 * RFC 4291 2.2; a v4 address has four decimal numbers without leading zeros.
 * The port becomes 0.
 * -EINVAL  something else, or a zone on an address that has none
 * -ENODEV  the zone's interface does not exist */
KEEL_API int keel_ip_parse(const char *text, struct keel_address *ret);
/* "192.0.2.1:80", "[2001:db8::1]:80".  Names are keel_resolve's.  Errors are
 * keel_ip_parse's. */
KEEL_API int keel_address_parse(const char *text, struct keel_address *ret);
/* RFC 5952: lower case, no leading zeros, the longest run of zeros (two groups
 * at least, the first of equals) as "::"; ::ffff:192.0.2.1 mixed.  A zone is
 * its interface's name, or its number when that is gone.  No address is "-". */
KEEL_API void keel_ip_print(const struct keel_address *a,
                            char ret[KEEL_ADDRESS_BYTES]);
/* With the port; a mapped address as v4. */
KEEL_API void keel_address_print(const struct keel_address *a,
                                 char ret[KEEL_ADDRESS_BYTES]);

/* ---- rules --------------------------------------------------------------- */

/* What an address is for: IANA's special-purpose registries (RFC 6890), each
 * address in one class. */
enum keel_address_class {
    KEEL_CLASS_NONE,       /* no address */
    KEEL_CLASS_ANY,        /* 0.0.0.0, :: */
    KEEL_CLASS_LOOPBACK,   /* 127.0.0.0/8, ::1 */
    KEEL_CLASS_PRIVATE,    /* RFC 1918, fc00::/7 */
    KEEL_CLASS_LINK_LOCAL, /* 169.254.0.0/16, fe80::/10 */
    KEEL_CLASS_MULTICAST,  /* 224.0.0.0/4, ff00::/8 */
    KEEL_CLASS_BROADCAST,  /* 255.255.255.255 */
    KEEL_CLASS_RESERVED,   /* documentation, benchmarks, a provider's own
                              100.64.0.0/10, tunnels, not yet given out */
    KEEL_CLASS_PUBLIC,     /* reachable from everywhere */
    KEEL_CLASS_COUNT
};
KEEL_API enum keel_address_class
keel_address_class(const struct keel_address *a);
/* "loopback", "link-local" ... */
KEEL_API const char *keel_address_class_name(enum keel_address_class c);

/* A mapped address as v4, any other as it is. */
KEEL_API struct keel_address keel_address_unmap(const struct keel_address *a);
/* The same host, whatever the ports; zones must agree where both have one. */
KEEL_API bool keel_address_same(const struct keel_address *a,
                                const struct keel_address *b);

/* ---- prefixes ------------------------------------------------------------ */

/* The addresses whose first `bits` bits are base's; base has no others, and no
 * port.  A zone in it is demanded, none means all. */
struct keel_prefix {
    struct keel_address base;
    unsigned bits;
};

/* "10.0.0.0/8", "10.0.0.0/255.0.0.0", "fe80::%eth0/10"; without a slash the
 * one address.  "::ffff:10.0.0.0/104" is 10.0.0.0/8.
 * -EINVAL  something else, more bits than there are, a mask with holes, or
 *          bits set behind the prefix: 10.0.0.1/8 is a slip in a rule
 * -ENODEV  as keel_ip_parse */
KEEL_API int keel_prefix_parse(const char *text, struct keel_prefix *ret);
KEEL_API void keel_prefix_print(const struct keel_prefix *p,
                                char ret[KEEL_ADDRESS_BYTES]);
/* The prefix that `a` lies in.  -EINVAL: no address, or more bits than it has
 */
KEEL_API int keel_prefix_of(const struct keel_address *a, unsigned bits,
                            struct keel_prefix *ret);
/* A v6 prefix contains no v4 address: ::/0 holds for no mapped one either. */
KEEL_API bool keel_prefix_contains(const struct keel_prefix *p,
                                   const struct keel_address *a);
/* The last address: of a v4 network its broadcast address. */
KEEL_API struct keel_address keel_prefix_last(const struct keel_prefix *p);
/* 255.255.255.0 of 24 bits and KEEL_V4.  -EINVAL: more bits than there are */
KEEL_API int keel_mask(int family, unsigned bits, struct keel_address *ret);
/* 24 of 255.255.255.0.  -EINVAL: the mask has holes */
KEEL_API int keel_mask_bits(const struct keel_address *mask);
/* Both in one prefix of `bits`; false for addresses of two families, or more
 * bits than they have. */
KEEL_API bool keel_same_subnet(const struct keel_address *a,
                               const struct keel_address *b, unsigned bits);

/* ---- sockets ------------------------------------------------------------- */

/* -EAFNOSUPPORT: neither v4 nor v6; -EINVAL: shorter than its family is */
KEEL_API int keel_address_from_sockaddr(const struct sockaddr *from,
                                        socklen_t size,
                                        struct keel_address *ret);
/* Returns its size, 0 for no address. */
KEEL_API socklen_t keel_address_to_sockaddr(const struct keel_address *a,
                                            struct sockaddr_storage *ret);

/* ---- this machine -------------------------------------------------------- */

struct keel_interface_address {
    struct keel_address address;
    unsigned bits; /* of its network: keel_mask, keel_prefix_of */
    struct keel_address broadcast; /* v4, none: family 0 */
};

enum { KEEL_INTERFACE_NAME_BYTES = 16, KEEL_MAC_BYTES = 6 };

struct keel_interface {
    char name[KEEL_INTERFACE_NAME_BYTES];
    unsigned index; /* as a zone, and for keel_udp_join */
    bool up, loopback, broadcast, multicast;
    bool has_mac; /* of Ethernet's kind */
    uint8_t mac[KEEL_MAC_BYTES];
    /* The next hop of the default route through it, the preferred one; family
     * 0 when it has none, or the kernel does not show its routes. */
    struct keel_address gateway4, gateway6;
    size_t address_count;
    const struct keel_interface_address *addresses;
};
struct keel_interfaces {
    size_t count;
    const struct keel_interface *rows; /* by index */
};

/* Those of this moment, from getifaddrs(3); gateways from /proc/net/route and
 * /proc/net/ipv6_route.  -ENOMEM, or what getifaddrs says */
KEEL_API int keel_interfaces_new(struct keel_interfaces **ret);
KEEL_API void keel_interfaces_free(struct keel_interfaces *l);
/* NULL when there is none. */
KEEL_API const struct keel_interface *
keel_interface_named(const struct keel_interfaces *l, const char *name);
/* "02:fc:00:00:00:01" */
#define KEEL_MAC_TEXT_BYTES 18
KEEL_API void keel_mac_print(const uint8_t mac[KEEL_MAC_BYTES],
                             char ret[KEEL_MAC_TEXT_BYTES]);
KEEL_AUTO(interfaces, struct keel_interfaces *, keel_interfaces_free)

#endif
