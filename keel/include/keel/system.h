/* SPDX-License-Identifier: MIT */
/* The process itself: its signals, and what it may reach. */
#ifndef KEEL_SYSTEM_H
#define KEEL_SYSTEM_H

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
/* Root becomes somebody else for good: real, effective and saved user and
 * group, and no other group.  Call it before the first thread starts.  -EPERM */
KEEL_API int keel_become(uid_t user, gid_t group);
/* This process: bytes of memory that are its own or shared now (RSS), and open
 * descriptors; 0: /proc does not say. */
KEEL_API uint64_t keel_process_memory(void);
KEEL_API unsigned keel_process_descriptors(void);
/* As many descriptors as the hard limit allows (setrlimit(2)), for a program that
 * never uses select(2); returns how many it may have now. */
KEEL_API uint64_t keel_descriptors_most(void);
/* Which limit a call of this thread ran into that failed with `error` just now,
 * with its value: "RLIMIT_NOFILE (1024) allows no more descriptors in this
 * process".  Knows those of descriptors, memory, stacks, threads, processes,
 * shared memory and io_uring; NULL: it is the error of no limit that it knows.
 * Valid until the thread's next call of it. */
KEEL_API const char *keel_limit_error(int error);
/* Processors this process may run on. */
KEEL_API unsigned keel_cpu_count(void);

#endif
