/* SPDX-License-Identifier: MIT */
/* Where ferryd listens: what a start could not, told before there is one. */
#ifndef FERRY_LISTEN_H
#define FERRY_LISTEN_H

#include <keel/net.h>

#include "base/problem.h"

/* LISTEN_FAILED, of an error of keel_listen or keel_resolve. */
int listen_failed(int rc, const char *address, struct problem *why);
/* Whether a start could listen on all of these.  They are listened on for a
 * moment and closed; what `ours`, the listeners now, are in the way of is free at
 * a start, and is not tried.  For a coroutine.  LISTEN_FAILED */
int listen_try(char *const *addresses, unsigned count,
               struct keel_listener *const *ours, unsigned our_count,
               struct problem *why);

#endif
