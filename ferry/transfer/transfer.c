/* SPDX-License-Identifier: MIT */
#include "transfer/transfer.h"

#include <errno.h>

#include "transfer/transfer_inside.h"

/* A pool's waiter cannot be told that its exchange ended: it looks. */
#define LOOK KEEL_SECOND

int transfer_buffer(struct buffer_pool *pool, struct exchange *x, bool sends,
                    struct buffer **ret, struct problem *why)
{
    for (;;) {
        int rc = exchange_check(x, why);

        if (rc < 0)
            return rc;
        if (rc == 0)
            return problem(why, PROTOCOL_BROKEN,
                           .detail = "the reply came before all data");
        rc = (sends ? buffer_take_spare : buffer_take)(pool, keel_after(LOOK),
                                                       ret);
        if (rc >= 0)
            return 0;
        if (rc == -ECANCELED)
            return problem(why, CANCELLED);
        if (rc != -ETIMEDOUT)
            return problem(why, NO_MEMORY);
    }
}

void transfer_join(struct keel_group *g)
{
    if (!g)
        return;
    keel_shield();
    (void)keel_group_join(g, KEEL_FOREVER);
    keel_group_free(g);
    keel_unshield();
}
