/* SPDX-License-Identifier: MIT */
/* Seeing inside a running program. */
#ifndef KEEL_DEBUG_H
#define KEEL_DEBUG_H

#include <keel/base.h>

/* Writes to `fd` a line for every coroutine of every loop: name, loop, state
 * (ready, running, waiting), what for (the call, its deadline), since when.
 * Parked coroutines have their backtrace below.  From any thread; the loops
 * are asked to print themselves, one after another. */
KEEL_API void keel_dump(int fd);
/* keel_dump(2) on this signal, e.g. SIGQUIT. */
KEEL_API int keel_dump_on_signal(int signal);

/* How many pairs of orders that can deadlock were reported: see lock.h. */
KEEL_API size_t keel_lock_order_reports(void);

/* A stack overflow is reported on standard error with the coroutine's name
 * before the process dies of SIGSEGV; every loop installs this itself. */

#endif
