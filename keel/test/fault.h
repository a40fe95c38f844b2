/* SPDX-License-Identifier: MIT */
/* Faults on order, for tests: the nth operation of the seam fails.
 *
 * One order at a time; a new one replaces it and counts from 0.  Operations
 * are counted and hit in whatever thread they happen; orders are given while
 * no other thread is in an operation.
 *
 * Linked into test programs only (library keel-test).  A test program that is
 * a whole server or client (linked with keel_fault_env_dep) reads its order
 * from the environment:
 * KEEL_FAULT=OP:NTH:WHAT[:TIMES] with OP a name of keel_op_name or "any", WHAT
 * an errno name (EIO), "short" (one byte less, at least one) or "kill" (SIGKILL
 * at that point), TIMES how many operations in a row, 1 unless given, 0 for
 * all that follow.  KEEL_FAULT_LOG=FILE gets a line "fired OP:NTH:WHAT" at each
 * hit; a program checks by it that the order was reached.  An order that
 * cannot be understood ends the program with status 2. */
#ifndef KEEL_TEST_FAULT_H
#define KEEL_TEST_FAULT_H

#include <keel/seam.h>

#define FAULT_ANY KEEL_OP_COUNT
/* In place of an errno. */
#define FAULT_SHORT (-1) /* one byte less, at least one */
#define FAULT_KILL (-2)  /* SIGKILL to this process */

/* The `nth` (from 1) operation of kind `op` from now fails with -`error`. */
void fault_fail(enum keel_op op, unsigned nth, int error);
/* And the `times` - 1 after it; 0: and all after it. */
void fault_fail_times(enum keel_op op, unsigned nth, int error, unsigned times);
/* Likewise for allocations: NULL. */
void fault_fail_alloc(unsigned nth);
/* True when the ordered fault has happened; clears the order.  A short one
 * that met an operation of a single byte, or of none, counts as happened. */
bool fault_fired(void);
void fault_clear(void);
/* Operations of that kind seen since the last order or clear. */
unsigned fault_seen(enum keel_op op);
/* Called at each hit, before it takes effect; NULL for none. */
void fault_watch(void (*hit)(void));

#endif
