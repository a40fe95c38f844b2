/* SPDX-License-Identifier: MIT */
/* The process itself: its signals, and what it may reach. */
#ifndef KEEL_PROCESS_H
#define KEEL_PROCESS_H

#include <keel/base.h>

/* ---- signals as events ------------------------------------------------------ */
struct keel_signals;

/* Blocks `signals` in this thread, and so in all that it starts: call it before
 * the first loop or thread. */
KEEL_API int keel_signals_open(const int *signals, size_t count,
                               struct keel_signals **ret);
KEEL_API void keel_signals_close(struct keel_signals *s); /* accepts NULL */
/* Waits for one of them; returns its number. */
KEEL_API int keel_signals_wait(struct keel_signals *s, keel_ns deadline);
KEEL_AUTO(signals, struct keel_signals *, keel_signals_close)

/* ---- confinement --------------------------------------------------------------- */
/* A place that stays reachable after keel_confine. */
struct keel_place {
    const char *path;
    bool write; /* else files there are only read */
};
/* From now on this process and its threads open, make and remove files only
 * below `places`, and execute nothing (landlock(7)).  Call it before the first
 * thread starts.  Descriptors that are open stay usable.  A place that does
 * not exist is passed over.
 * -EOPNOTSUPP, -ENOSYS  the kernel has no Landlock */
KEEL_API int keel_confine(const struct keel_place *places, size_t count);

/* ---- who and where ------------------------------------------------------------- */
/* The effective user. */
KEEL_API uid_t keel_user(void);
KEEL_API bool keel_is_root(void);
/* Processors this process may run on. */
KEEL_API unsigned keel_cpu_count(void);

#endif
