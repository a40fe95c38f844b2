/* SPDX-License-Identifier: MIT */
/* Inside the simulation: what is said of fibers in a trace. */
#ifndef KEEL_SIM_TURNS_H
#define KEEL_SIM_TURNS_H

/* Of the one whose turn it is; "world" between turns. */
const char *fiber_name(void);

#endif
