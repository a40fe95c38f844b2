/* SPDX-License-Identifier: MIT */
/* Inside keel: from one stack to another.
 *
 * A context that does not run is its stack pointer: the registers a function
 * must keep lie on its stack, the return address above them. */
#ifndef KEEL_SWITCH_H
#define KEEL_SWITCH_H

#include <stddef.h>

/* Leaves this stack, noting in `*from` where, and goes on at `to`.  Returns
 * when somebody switches back to `*from`. */
void switch_stacks(void **from, void *to);

/* Makes the stack [low, top) ready: the first switch to the pointer returned
 * calls entry(), which never returns. */
void *switch_prepare(void *low, void *top, void (*entry)(void));

/* Of a context that does not run: where it goes on, and its frame pointer, for
 * a backtrace.  False where this machine cannot say. */
int switch_where(void *sp, void **ret_pc, void **ret_frame);

#endif
