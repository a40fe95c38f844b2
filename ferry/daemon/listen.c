/* SPDX-License-Identifier: MIT */
#include "daemon/listen.h"

#include <errno.h>
#include <string.h>

#include <keel/address.h>

#include "daemon/conf.h"

/* A name server that says nothing does not hold a reload for longer. */
#define RESOLVE_TIME (10 * KEEL_SECOND)

int listen_failed(int rc, const char *address, struct problem *why)
{
    return problem(why, LISTEN_FAILED, .errno_ = -rc, .name = address,
                   .detail = rc == -ENOENT ? "the host has no address"
                                           : strerrordesc_np(-rc));
}

/* Of two such sockets only one can listen.  Port 0 is a new one each time. */
static bool collide(const struct keel_address *a, const struct keel_address *b)
{
    return a->port != 0 && a->port == b->port &&
           (keel_address_same(a, b) ||
            keel_address_class(a) == KEEL_CLASS_ANY ||
            keel_address_class(b) == KEEL_CLASS_ANY);
}

static bool one_collides(const struct keel_address *a,
                         struct keel_listener *const *ours, unsigned count)
{
    for (unsigned i = 0; i < count; i++) {
        struct keel_address b;

        if (keel_address_parse(keel_listener_address(ours[i]), &b) == 0 &&
            collide(a, &b))
            return true;
    }
    return false;
}

static bool named_before(const struct keel_address *all, unsigned at)
{
    for (unsigned i = 0; i < at; i++) {
        if (all[i].port != 0 && all[i].port == all[at].port &&
            keel_address_same(&all[i], &all[at]))
            return true;
    }
    return false;
}

/* No descriptor to be had says nothing of the address. */
static bool untried(int rc)
{
    return rc == -EMFILE || rc == -ENFILE || rc == -ENOMEM || rc == -ENOBUFS;
}

int listen_try(char *const *addresses, unsigned count,
               struct keel_listener *const *ours, unsigned our_count,
               struct problem *why)
{
    struct keel_address found[CONF_LISTEN_MOST];
    struct keel_listener *tried[CONF_LISTEN_MOST];
    unsigned open = 0;
    int rc = 0;

    keel_assert(count <= CONF_LISTEN_MOST);
    for (unsigned i = 0; i < count && rc == 0; i++) {
        rc = keel_resolve(addresses[i], keel_after(RESOLVE_TIME), &found[i], 1);
        if (rc >= 0)
            rc = named_before(found, i) ? -EADDRINUSE : 0;
        if (rc == 0 && !one_collides(&found[i], ours, our_count)) {
            /* Kept until all are: each must be free beside the others. */
            rc = keel_listen(addresses[i], &tried[open]);
            open += rc == 0;
        }
        if (rc < 0)
            rc = untried(rc) ? 0 : listen_failed(rc, addresses[i], why);
    }
    while (open > 0)
        keel_listener_close(tried[--open]);
    return rc;
}
