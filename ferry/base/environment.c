/* SPDX-License-Identifier: MIT */
#include "base/environment.h"

#include <stdlib.h>
#include <string.h>

#include <keel/co.h>

static const char *asked(void)
{
    const char *name = getenv("KEEL_POLLER");

    return name && *name ? name : NULL;
}

int poller_check(struct problem *why)
{
    const char *name = asked();

    if (!name || strcmp(name, "uring") == 0 || strcmp(name, "epoll") == 0)
        return 0;
    return problem(why, USAGE,
                   .detail = "KEEL_POLLER is neither uring nor epoll; without "
                             "it the best that works is taken");
}

int run_failed(int rc, const char *doing, struct problem *why)
{
    if (!asked() || keel_poller_name())
        return problem(why, INTERNAL, .errno_ = -rc, .detail = doing);
    return problem(why, USAGE,
                   .detail = "the poller that KEEL_POLLER asks for does not "
                             "work here; without it the best that works is "
                             "taken");
}
