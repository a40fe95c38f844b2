/* SPDX-License-Identifier: MIT */
/* What sending and receiving share. */
#ifndef FERRY_TRANSFER_INSIDE_H
#define FERRY_TRANSFER_INSIDE_H

#include <keel/co.h>

#include "transfer/transfer.h"

/* Waits for a buffer, by somebody who holds none, as long as `x` is open; who
 * `sends` may have a spare one. */
int transfer_buffer(struct buffer_pool *pool, struct exchange *x, bool sends,
                    struct buffer **ret, struct problem *why);
/* Lets the members finish: they use buffers, and what they do to the disk is
 * worth keeping. */
void transfer_join(struct keel_group *g);

#endif
