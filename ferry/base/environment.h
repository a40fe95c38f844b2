/* SPDX-License-Identifier: MIT */
/* What the environment asks of every program of ferry. */
#ifndef FERRY_ENVIRONMENT_H
#define FERRY_ENVIRONMENT_H

#include "base/problem.h"

/* Whether KEEL_POLLER, when set, names a poller.  Call it before anything is
 * made or asked.  USAGE */
int poller_check(struct problem *why);
/* The words for a program that keel_run could not run at all: USAGE when the
 * poller that KEEL_POLLER asks for does not work here, else INTERNAL about
 * `doing`. */
int run_failed(int rc, const char *doing, struct problem *why);

#endif
