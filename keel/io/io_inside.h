/* SPDX-License-Identifier: MIT */
/* Inside keel: for a simulation, which keeps it for each of its threads. */
#ifndef KEEL_IO_INSIDE_H
#define KEEL_IO_INSIDE_H

/* Operations of this loop that did not wait since one that did, or since the
 * last yield.  A coroutine never changes its thread. */
extern _Thread_local unsigned io_at_once;

#endif
