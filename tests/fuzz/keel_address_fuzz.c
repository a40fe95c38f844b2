/* SPDX-License-Identifier: MIT */
/* Addresses, with and without ports, prefixes, and the lines of the kernel's
 * tables of routes. */
#include <stdlib.h>
#include <string.h>

#include <keel/address.h>

#include "io/address_inside.h"

static bool equal(const struct keel_address *a, const struct keel_address *b)
{
    return a->family == b->family && a->port == b->port && a->zone == b->zone &&
           !memcmp(a->bytes, b->bytes, sizeof(a->bytes));
}

/* What was read prints as something that reads the same. */
static void check_ip(const char *text)
{
    char printed[KEEL_ADDRESS_BYTES];
    struct keel_address a, again;
    enum keel_address_class class;

    if (keel_ip_parse(text, &a) < 0)
        return;
    keel_assert(a.family == KEEL_V4 || a.family == KEEL_V6);
    keel_assert(a.port == 0);
    keel_ip_print(&a, printed);
    keel_assert(keel_ip_parse(printed, &again) == 0 && equal(&a, &again));
    class = keel_address_class(&a);
    keel_assert(class > KEEL_CLASS_NONE && class < KEEL_CLASS_COUNT);
    again = keel_address_unmap(&a);
    keel_assert(keel_address_class(&again) == class);
    keel_assert(keel_address_same(&a, &again));
}

static void check_address(const char *text)
{
    char printed[KEEL_ADDRESS_BYTES];
    struct keel_address a, plain, again;
    struct sockaddr_storage addr;
    socklen_t size;

    if (keel_address_parse(text, &a) < 0)
        return;
    keel_address_print(&a, printed);
    plain = keel_address_unmap(&a);
    keel_assert(keel_address_parse(printed, &again) == 0 &&
                equal(&plain, &again));
    size = keel_address_to_sockaddr(&a, &addr);
    keel_assert(keel_address_from_sockaddr((void *)&addr, size, &again) == 0 &&
                equal(&a, &again));
}

static void check_prefix(const char *text)
{
    char printed[KEEL_ADDRESS_BYTES];
    struct keel_prefix p, again;
    struct keel_address last;

    if (keel_prefix_parse(text, &p) < 0)
        return;
    keel_prefix_print(&p, printed);
    keel_assert(keel_prefix_parse(printed, &again) == 0);
    keel_assert(p.bits == again.bits && equal(&p.base, &again.base));
    last = keel_prefix_last(&p);
    keel_assert(keel_prefix_contains(&p, &p.base));
    /* A v6 prefix around ::ffff:0:0/96 has a v4 address as its last. */
    if (keel_address_unmap(&last).family != p.base.family)
        return;
    keel_assert(keel_prefix_contains(&p, &last));
    keel_assert(keel_same_subnet(&p.base, &last, p.bits));
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);
int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    char *text = malloc(size + 1);
    struct route r;

    keel_assert(text);
    if (size)
        memcpy(text, data, size);
    text[size] = 0;
    check_ip(text);
    check_address(text);
    check_prefix(text);
    if (route4_parse(text, &r) || route6_parse(text, &r))
        keel_assert(strlen(r.interface) < sizeof(r.interface));
    free(text);
    return 0;
}
