/* SPDX-License-Identifier: MIT */
/* Lock, rlock, condition, semaphore, event, barrier: between processes of one
 * family, a program and the processes it started (<keel/process.h>).
 *
 * The structs lie in shared memory (<keel/shared.h>), and are initialised by
 * one process before the others come; nothing needs releasing.  Zeroed memory
 * is an unlocked lock, rlock, condition and event.
 *
 * They outlive a killed owner.  A lock is held by a thread; when that ends
 * with the lock, the next to take it gets 1 instead of 0: it has the lock, and
 * what the lock guards may be half changed.  Nobody waits for the dead.
 *
 * A coroutine that waits parks, a thread blocks.  A coroutine may hold a lock
 * across a wait, but its thread must live until it is dropped.
 *
 * All that wait return
 * -ETIMEDOUT, -ECANCELED
 * -EAGAIN, -ENOMEM, -EMFILE  at the first use in a thread: more than 1,022
 *                            threads of the family use such objects, or there
 *                            is no room for the page that counts them */
#ifndef KEEL_SHLOCK_H
#define KEEL_SHLOCK_H

#include <keel/base.h>

/* ---- lock: may be dropped by another ------------------------------------------ */
struct keel_shlock {
    uint32_t word;
};
KEEL_API void keel_shlock_init(struct keel_shlock *l);
/* 0; 1: taken from the dead. */
KEEL_API int keel_shlock_take(struct keel_shlock *l, keel_ns deadline);
/* -EPERM  nobody holds it */
KEEL_API int keel_shlock_drop(struct keel_shlock *l);

/* ---- rlock: its owner may take it again ----------------------------------------- */
/* The owner is a coroutine, or a thread outside coroutines. */
struct keel_shrlock {
    uint32_t word, count;
    uint64_t who;
};
KEEL_API void keel_shrlock_init(struct keel_shrlock *l);
/* 0; 1: taken from the dead. */
KEEL_API int keel_shrlock_take(struct keel_shrlock *l, keel_ns deadline);
/* -EPERM  the caller is not its owner */
KEEL_API int keel_shrlock_drop(struct keel_shrlock *l);

/* ---- condition -------------------------------------------------------------------- */
struct keel_shcond {
    uint32_t turn;
};
KEEL_API void keel_shcond_init(struct keel_shcond *c);
/* Drops `l`, waits, takes `l` again (always, also on error).  Returns early
 * now and then, as when a process has ended: look again.
 * 1: woken or not, `l` was taken from the dead */
KEEL_API int keel_shcond_wait(struct keel_shcond *c, struct keel_shlock *l,
                              keel_ns deadline);
/* Until `test(arg)` holds, looked at under `l`; one total deadline. */
KEEL_API int keel_shcond_wait_for(struct keel_shcond *c, struct keel_shlock *l,
                                  bool (*test)(void *arg), void *arg,
                                  keel_ns deadline);
KEEL_API void keel_shcond_signal(struct keel_shcond *c);
KEEL_API void keel_shcond_broadcast(struct keel_shcond *c);

/* ---- semaphore --------------------------------------------------------------------- */
/* Without a bound, its units are nobody's, and those that a killed process took
 * are gone.  With one, they are who took them's, and come back when that
 * dies; a unit is given back by the same thread, else the others' are given. */
enum { KEEL_SHSEMAPHORE_BOUND_MOST = 64 };
struct keel_shsemaphore {
    uint32_t count, bound; /* count: without a bound */
    uint32_t bell;
    uint32_t holders[KEEL_SHSEMAPHORE_BOUND_MOST];
};
/* -EINVAL  `count` beyond the bound, or that beyond its limit; bound 0: none */
KEEL_API int keel_shsemaphore_init(struct keel_shsemaphore *s, uint32_t count,
                                   uint32_t bound);
KEEL_API int keel_shsemaphore_take(struct keel_shsemaphore *s,
                                   keel_ns deadline);
/* -EOVERFLOW  there are `bound` already (2^31 without one) */
KEEL_API int keel_shsemaphore_give(struct keel_shsemaphore *s);

/* ---- event: set stays set until cleared ---------------------------------------------- */
struct keel_shevent {
    uint32_t word;
};
KEEL_API void keel_shevent_init(struct keel_shevent *e);
KEEL_API void keel_shevent_set(struct keel_shevent *e);
KEEL_API void keel_shevent_clear(struct keel_shevent *e);
KEEL_API bool keel_shevent_is_set(const struct keel_shevent *e);
KEEL_API int keel_shevent_wait(struct keel_shevent *e, keel_ns deadline);

/* ---- barrier: all wait until all have come ---------------------------------------------- */
/* It can be used again and again.  It breaks, for all who wait and who come
 * later, when one of those who wait gives up or dies, or by abort; reset mends
 * it.  Who dies on the way to it is not missed: give a deadline. */
enum { KEEL_SHBARRIER_PARTIES_MOST = 64 };
struct keel_shbarrier {
    uint32_t lock, round, parties, arrived, broken;
    uint32_t members[KEEL_SHBARRIER_PARTIES_MOST];
    uint64_t bad; /* of the last 64 rounds, which ended badly */
};
/* -EINVAL  `parties` 0 or beyond the limit */
KEEL_API int keel_shbarrier_init(struct keel_shbarrier *b, uint32_t parties);
/* Returns as the how manieth the caller came: 0 to parties - 1.
 * -ETIMEDOUT, -ECANCELED  the caller gave up, and broke it
 * -EPIPE                  it is broken, or was reset meanwhile */
KEEL_API int keel_shbarrier_wait(struct keel_shbarrier *b, keel_ns deadline);
/* Who waits gets -EPIPE; who comes from now on begins a new round. */
KEEL_API int keel_shbarrier_reset(struct keel_shbarrier *b);
KEEL_API int keel_shbarrier_abort(struct keel_shbarrier *b);
KEEL_API bool keel_shbarrier_is_broken(const struct keel_shbarrier *b);
KEEL_API uint32_t keel_shbarrier_waiting(const struct keel_shbarrier *b);

#endif
