/* SPDX-License-Identifier: MIT */
/* Inside keel: which limit of the system was in the way. */
#ifndef KEEL_LIMIT_H
#define KEEL_LIMIT_H

#include <stddef.h>

enum limit_of {
    LIMIT_NONE,
    LIMIT_STACK,
    LIMIT_THREAD,
    LIMIT_PROCESS,
    LIMIT_SHARED,
    LIMIT_POLLER,
};

/* What this thread wanted when it met `error`, which is returned; for
 * keel_limit_error. */
int limit_met(enum limit_of what, int error);

/* ftruncate(2) of a new memfd; where that would be SIGXFSZ it is -EFBIG. */
int limit_resize(int fd, size_t size);

#endif
