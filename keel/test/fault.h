/* SPDX-License-Identifier: MIT */
/* Faults on order, for tests: the nth operation of the seam fails.
 *
 * Linked into test programs only (library keel-test).  A test program that is
 * a whole server or client reads its orders from the environment:
 * KEEL_FAULT=OP:NTH:WHAT[:TIMES] with OP a name of keel_op_name or "any", WHAT an errno name,
 * "short" (one byte less, at least one) or "kill" (SIGKILL at that point), and
 * KEEL_FAULT_LOG=FILE gets one line "fired" when it did. */
#ifndef KEEL_TEST_FAULT_H
#define KEEL_TEST_FAULT_H

#include <keel/seam.h>

#define FAULT_ANY KEEL_OP_COUNT
#define FAULT_SHORT 1 /* in place of an errno */

/* The `nth` (from 1) operation of kind `op` from now fails with -`error`. */
void fault_fail(enum keel_op op, unsigned nth, int error);
/* Likewise for allocations: NULL. */
void fault_fail_alloc(unsigned nth);
/* True when the ordered fault has happened; clears the order. */
bool fault_fired(void);
void fault_clear(void);
/* Operations of that kind seen since the last order or clear. */
unsigned fault_seen(enum keel_op op);

#endif
