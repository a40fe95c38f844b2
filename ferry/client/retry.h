/* SPDX-License-Identifier: MIT */
/* --retry: waiting for a server to be reachable again.  What is tried again is
 * what time may mend: connections that fail or break, and a server that stops.
 * A refusal, and a login that is not accepted, are final. */
#ifndef FERRY_RETRY_H
#define FERRY_RETRY_H

#include "client/cli.h"
#include "client/progress.h"

struct retry {
    unsigned tries; /* since the last success */
};
bool retry_worth(const struct problem *p);
/* Waits 1 s, doubling to 30 s, of each a random part between half and all;
 * says what for, and counts down where `p` (may be NULL) has a terminal.
 * -ECANCELED */
int retry_wait(struct retry *r, const struct cli *c, struct progress *p,
               const struct problem *why);
/* It went on: the next wait is a short one again. */
void retry_reset(struct retry *r);

#endif
