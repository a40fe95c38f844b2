/* SPDX-License-Identifier: MIT */
/* Inside keel: for a simulation, which keeps it for each of its threads. */
#ifndef KEEL_POOL_INSIDE_H
#define KEEL_POOL_INSIDE_H

struct worker;
/* Of the pool whose thread the caller is; NULL: of none. */
extern _Thread_local struct worker *pool_worker;

#endif
