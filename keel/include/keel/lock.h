/* SPDX-License-Identifier: MIT */
/* Lock, rlock, rwlock, condition, event, semaphore, barrier, once: between
 * coroutines, loops and threads.
 *
 * Waiters are woken oldest first; a newcomer may overtake one just woken.
 * The storage is the caller's; `_init` cannot fail, nothing needs releasing,
 * and freeing the memory while somebody waits is a programmer's mistake that
 * `_fini` asserts.  Not between processes.
 *
 * Compiled with -DKEEL_DEBUG a program watches the order in which it takes its
 * locks, and reports on standard error, once for each, two orders that can
 * deadlock, though they have not yet: who took which lock where while holding
 * which.  What is taken with KEEL_NOW waits for nobody and is no part of an
 * order.  Locks without _init or _fini in memory used again may be taken for
 * those that were there before. */
#ifndef KEEL_LOCK_H
#define KEEL_LOCK_H

#include <keel/base.h>

/* A word for spinning briefly, and the waiters, oldest first. */
struct keel_waitlist {
    uint32_t spin;
    void *head, *tail;
};

/* ---- lock: held by one; may be released by another ---------------------------- */
struct keel_lock {
    struct keel_waitlist waiters;
    bool held;
    uint32_t owner_age; /* of the coroutine's handle */
    const void *owner;  /* who took it, for debug.h */
};
#define KEEL_LOCK_INIT                                                         \
    {                                                                          \
        {0, NULL, NULL}, false, 0, NULL                                        \
    }
KEEL_API void keel_lock_init(struct keel_lock *l);
KEEL_API void keel_lock_fini(struct keel_lock *l);
/* -ETIMEDOUT, -ECANCELED */
KEEL_API int keel_lock_take(struct keel_lock *l, keel_ns deadline);
/* Waits for ever and is not cancelled: for short sections that must happen. */
KEEL_API void keel_lock_hold(struct keel_lock *l);
/* Releasing what nobody holds is asserted. */
KEEL_API void keel_lock_drop(struct keel_lock *l);
/* With the place, for the watch over the order: "file:line\nlock". */
KEEL_API int keel_lock_take_at(struct keel_lock *l, keel_ns deadline,
                               const char *place);
KEEL_API void keel_lock_hold_at(struct keel_lock *l, const char *place);
static inline void keel_auto_lock(struct keel_lock **l)
{
    if (*l)
        keel_lock_drop(*l);
}
/* Holds `l` until the end of the scope: keel_guard(l); */
#define KEEL_CAT_(a, b) a##b
#define KEEL_CAT(a, b) KEEL_CAT_(a, b)
#define keel_guard(l)                                                          \
    __attribute__((cleanup(keel_auto_lock), unused)) struct keel_lock *        \
    KEEL_CAT(held_, __LINE__) = (keel_lock_hold(l), (l))

/* ---- rlock: its owner may take it again ----------------------------------------- */
/* The owner is the coroutine, or plain thread, that took it; it drops as often
 * as it took. */
struct keel_rlock {
    struct keel_lock lock;
    const void *owner;
    size_t count;
};
#define KEEL_RLOCK_INIT                                                        \
    {                                                                          \
        KEEL_LOCK_INIT, NULL, 0                                                \
    }
KEEL_API void keel_rlock_init(struct keel_rlock *l);
KEEL_API void keel_rlock_fini(struct keel_rlock *l);
/* -ETIMEDOUT, -ECANCELED; none of them to the owner */
KEEL_API int keel_rlock_take(struct keel_rlock *l, keel_ns deadline);
/* Waits for ever and is not cancelled. */
KEEL_API void keel_rlock_hold(struct keel_rlock *l);
/* By another than the owner is asserted. */
KEEL_API void keel_rlock_drop(struct keel_rlock *l);
KEEL_API int keel_rlock_take_at(struct keel_rlock *l, keel_ns deadline,
                                const char *place);
KEEL_API void keel_rlock_hold_at(struct keel_rlock *l, const char *place);

/* ---- rwlock: many readers or one writer ------------------------------------------ */
/* Neither side starves: a reader who comes while a writer waits goes behind
 * it, and the readers who waited during a write come before the next writer.
 * So who reads must not take it to read again: a writer between the two would
 * stop it for ever. */
struct keel_rwlock {
    struct keel_waitlist readers; /* who wait */
    struct keel_waitlist writers; /* likewise; under the hold of `readers` */
    size_t reading;
    bool writing;
    uint32_t writer_age;
    const void *writer; /* who took it to write, for debug.h */
};
#define KEEL_RWLOCK_INIT                                                       \
    {                                                                          \
        {0, NULL, NULL}, {0, NULL, NULL}, 0, false, 0, NULL                    \
    }
KEEL_API void keel_rwlock_init(struct keel_rwlock *l);
KEEL_API void keel_rwlock_fini(struct keel_rwlock *l);
/* -ETIMEDOUT, -ECANCELED */
KEEL_API int keel_rwlock_take_read(struct keel_rwlock *l, keel_ns deadline);
KEEL_API int keel_rwlock_take_write(struct keel_rwlock *l, keel_ns deadline);
/* Of either kind; by whom does not matter.  When nobody has it: asserted. */
KEEL_API void keel_rwlock_drop(struct keel_rwlock *l);
KEEL_API int keel_rwlock_take_read_at(struct keel_rwlock *l, keel_ns deadline,
                                      const char *place);
KEEL_API int keel_rwlock_take_write_at(struct keel_rwlock *l, keel_ns deadline,
                                       const char *place);

/* ---- condition ------------------------------------------------------------------ */
struct keel_cond {
    struct keel_waitlist waiters;
};
KEEL_API void keel_cond_init(struct keel_cond *c);
KEEL_API void keel_cond_fini(struct keel_cond *c);
/* Releases `l`, waits, takes `l` again (always, also on error). */
KEEL_API int keel_cond_wait(struct keel_cond *c, struct keel_lock *l,
                            keel_ns deadline);
/* Until `test(arg)` holds, looked at under `l`; one total deadline. */
KEEL_API int keel_cond_wait_for(struct keel_cond *c, struct keel_lock *l,
                                bool (*test)(void *arg), void *arg,
                                keel_ns deadline);
KEEL_API void keel_cond_signal(struct keel_cond *c);
KEEL_API void keel_cond_broadcast(struct keel_cond *c);

/* ---- event: set stays set until cleared ------------------------------------------ */
struct keel_event {
    struct keel_waitlist waiters;
    bool set;
};
KEEL_API void keel_event_init(struct keel_event *e);
KEEL_API void keel_event_fini(struct keel_event *e);
KEEL_API void keel_event_set(struct keel_event *e);
KEEL_API void keel_event_clear(struct keel_event *e);
KEEL_API bool keel_event_is_set(struct keel_event *e);
KEEL_API int keel_event_wait(struct keel_event *e, keel_ns deadline);

/* ---- semaphore ---------------------------------------------------------------------- */
/* `bound` 0: none. */
struct keel_semaphore {
    struct keel_waitlist waiters;
    size_t count, bound;
};
KEEL_API void keel_semaphore_init(struct keel_semaphore *s, size_t count,
                                  size_t bound);
KEEL_API void keel_semaphore_fini(struct keel_semaphore *s);
KEEL_API int keel_semaphore_take(struct keel_semaphore *s, keel_ns deadline);
/* -EOVERFLOW  there are `bound` already; nothing changed */
KEEL_API int keel_semaphore_give(struct keel_semaphore *s);

/* ---- barrier: all wait until all have come ---------------------------------------- */
/* It can be used again and again.  It breaks, for all who wait and who come
 * later, when one of those who wait gives up, when `action` fails, or by
 * abort; reset mends it. */
struct keel_barrier {
    struct keel_waitlist waiters;
    struct keel_waitlist
        door; /* while `action` runs, for who comes too early */
    size_t parties, arrived;
    uint64_t round;
    int (*action)(void *arg);
    void *arg;
    bool acting, broken;
};
/* `action` (may be NULL) is run by the last to come, before it lets all go. */
KEEL_API void keel_barrier_init(struct keel_barrier *b, size_t parties,
                                int (*action)(void *arg), void *arg);
KEEL_API void keel_barrier_fini(struct keel_barrier *b);
/* Returns as the how manieth the caller came: 0 to parties - 1.
 * -ETIMEDOUT, -ECANCELED  the caller gave up, and broke it
 * -EPIPE      it is broken, or was reset meanwhile
 * or the error of `action`, to the one who ran it */
KEEL_API int keel_barrier_wait(struct keel_barrier *b, keel_ns deadline);
/* Who waits gets -EPIPE; who comes from now on begins a new round. */
KEEL_API void keel_barrier_reset(struct keel_barrier *b);
/* Breaks it. */
KEEL_API void keel_barrier_abort(struct keel_barrier *b);
KEEL_API bool keel_barrier_is_broken(struct keel_barrier *b);
/* How many wait. */
KEEL_API size_t keel_barrier_waiting(struct keel_barrier *b);

/* ---- once: what must be made by one ------------------------------------------------ */
struct keel_once {
    struct keel_waitlist waiters;
    const void *runner;
    uint32_t done;
    int result;
};
#define KEEL_ONCE_INIT                                                         \
    {                                                                          \
        {0, NULL, NULL}, NULL, 0, 0                                            \
    }
/* The first to come runs fn(arg), while the others wait until `deadline`; then
 * all, now and later, have its result.  A negative one is only that caller's,
 * and the next tries again.
 * -ETIMEDOUT, -ECANCELED  another still runs fn
 * -EDEADLK    the caller is in fn already */
KEEL_API int keel_once(struct keel_once *o, int (*fn)(void *arg), void *arg,
                       keel_ns deadline);

#ifdef KEEL_DEBUG
#define KEEL_TEXT_(x) #x
#define KEEL_TEXT(x) KEEL_TEXT_(x)
#define KEEL_PLACE(l) __FILE__ ":" KEEL_TEXT(__LINE__) "\n" #l
#define keel_lock_take(l, deadline)                                            \
    keel_lock_take_at((l), (deadline), KEEL_PLACE(l))
#define keel_lock_hold(l) keel_lock_hold_at((l), KEEL_PLACE(l))
#define keel_rlock_take(l, deadline)                                           \
    keel_rlock_take_at((l), (deadline), KEEL_PLACE(l))
#define keel_rlock_hold(l) keel_rlock_hold_at((l), KEEL_PLACE(l))
#define keel_rwlock_take_read(l, deadline)                                     \
    keel_rwlock_take_read_at((l), (deadline), KEEL_PLACE(l))
#define keel_rwlock_take_write(l, deadline)                                    \
    keel_rwlock_take_write_at((l), (deadline), KEEL_PLACE(l))
#endif

#endif
