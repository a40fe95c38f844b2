/* SPDX-License-Identifier: MIT */
/* Inside keel: pieces of addresses that others read too, and the lines of
 * /proc/net/route and /proc/net/ipv6_route. */
#ifndef KEEL_IO_ADDRESS_INSIDE_H
#define KEEL_IO_ADDRESS_INSIDE_H

#include <keel/address.h>

/* One to five digits.  -EINVAL */
int address_port_parse(const char *text, uint16_t *ret);

struct route {
    char interface[KEEL_INTERFACE_NAME_BYTES];
    struct keel_address gateway;
    uint32_t metric; /* the least is preferred */
};
/* True for a default route that is up and has a gateway.  A gateway's zone is
 * not in it. */
bool route4_parse(const char *line, struct route *ret);
bool route6_parse(const char *line, struct route *ret);

#endif
