/* SPDX-License-Identifier: MIT */
/* A plain thread, for work that must own one: keel's calls block in it. */
#ifndef KEEL_THREAD_H
#define KEEL_THREAD_H

#include <keel/base.h>

struct keel_thread;

/* `name` is cut to 15 bytes.  Signals are blocked in it. -EAGAIN, -ENOMEM */
KEEL_API int keel_thread_start(const char *name, int (*fn)(void *arg),
                               void *arg, struct keel_thread **ret);
/* Waits for its end, from a coroutine or a thread, and frees the handle.
 * -EDEADLK itself; -ETIMEDOUT it still runs and the handle stays valid. */
KEEL_API int keel_thread_join(struct keel_thread *t, keel_ns deadline,
                              int *ret_result);

#endif
