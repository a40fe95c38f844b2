/* SPDX-License-Identifier: MIT */
/* Inside keel: a look into a loop that runs and does not answer. */
#ifndef KEEL_WATCHDOG_H
#define KEEL_WATCHDOG_H

#include "report.h"

struct stack_look {
    char name[24];     /* of the coroutine that runs */
    bool in_coroutine; /* else it is the loop itself */
    uint64_t turns;    /* where the loop was then */
    unsigned budget;
    struct frames frames;
};

/* False: its thread has not taken the signal within a second. */
bool stack_look(struct keel_loop *l, struct stack_look *ret);

#endif
