/* SPDX-License-Identifier: MIT */
/* Lock, condition, event, semaphore: between coroutines, loops and threads.
 *
 * Waiters are woken oldest first; a newcomer may overtake one just woken.
 * The storage is the caller's; `_init` cannot fail, nothing needs releasing,
 * and freeing the memory while somebody waits is a programmer's mistake that
 * `_fini` asserts.  Not between processes. */
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
};
#define KEEL_LOCK_INIT                                                         \
    {                                                                          \
        {0, NULL, NULL}, false                                                 \
    }
KEEL_API void keel_lock_init(struct keel_lock *l);
KEEL_API void keel_lock_fini(struct keel_lock *l);
/* -ETIMEDOUT, -ECANCELED */
KEEL_API int keel_lock_take(struct keel_lock *l, keel_ns deadline);
/* Waits for ever and is not cancelled: for short sections that must happen. */
KEEL_API void keel_lock_hold(struct keel_lock *l);
/* Releasing what nobody holds is asserted. */
KEEL_API void keel_lock_drop(struct keel_lock *l);
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
/* `bound` 0: none; giving back beyond the bound is asserted. */
struct keel_semaphore {
    struct keel_waitlist waiters;
    size_t count, bound;
};
KEEL_API void keel_semaphore_init(struct keel_semaphore *s, size_t count,
                                  size_t bound);
KEEL_API void keel_semaphore_fini(struct keel_semaphore *s);
KEEL_API int keel_semaphore_take(struct keel_semaphore *s, keel_ns deadline);
KEEL_API void keel_semaphore_give(struct keel_semaphore *s);

#endif
