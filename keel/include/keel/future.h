/* SPDX-License-Identifier: MIT */
/* A result that somebody will have later.
 *
 * A future has two owners, the one who waits and the one who fulfils; it is
 * freed when both have let go (keel_future_free each).  Any thread or
 * coroutine may do either. */
#ifndef KEEL_FUTURE_H
#define KEEL_FUTURE_H

#include <keel/base.h>

struct keel_future;

KEEL_API int keel_future_new(struct keel_future **ret);
KEEL_API void keel_future_free(struct keel_future *f);

/* The fulfiller's side.  keel_future_start: false when it was cancelled
 * before; from then on it cannot be.  keel_future_set: once. */
KEEL_API bool keel_future_start(struct keel_future *f);
KEEL_API void keel_future_set(struct keel_future *f, int result, void *value);

/* Waits; returns the result given to set (negative: the work's error), with
 * `ret_value` (may be NULL).  -ETIMEDOUT or -ECANCELED of the wait itself are
 * told from the work's by keel_future_done. */
KEEL_API int keel_future_result(struct keel_future *f, keel_ns deadline,
                                void **ret_value);
/* Only before start: true when the work will not run; its result is then
 * -ECANCELED. */
KEEL_API bool keel_future_cancel(struct keel_future *f);
KEEL_API bool keel_future_done(struct keel_future *f);
KEEL_API bool keel_future_running(struct keel_future *f);
/* `fn` runs where the future is fulfilled, in order of adding; at once, here,
 * when it is done already.  What goes wrong in one is its own affair: the next
 * runs all the same.  -ENOMEM */
KEEL_API int keel_future_on_done(struct keel_future *f,
                                 void (*fn)(struct keel_future *f, void *arg),
                                 void *arg);

enum keel_future_until {
    KEEL_FIRST_COMPLETED,
    KEEL_FIRST_ERROR, /* or all completed */
    KEEL_ALL_COMPLETED
};
/* Waits over `count` futures; duplicates count once.  Returns how many are
 * done, or -ETIMEDOUT, -ECANCELED. */
KEEL_API int keel_future_wait(struct keel_future *const *f, size_t count,
                              enum keel_future_until until, keel_ns deadline);

/* One after another, as they are done:
 *
 *     keel_auto(completed) struct keel_completed *c = NULL;
 *
 *     rc = keel_completed_new(futures, count, &c);
 *     while (rc == 0 && (rc = keel_completed_next(c, deadline, &f)) == 0)
 *         use(f);
 */
struct keel_completed;
/* Borrows the futures until it is freed; duplicates count once.  -ENOMEM */
KEEL_API int keel_completed_new(struct keel_future *const *f, size_t count,
                                struct keel_completed **ret);
KEEL_API void keel_completed_free(struct keel_completed *c);
/* The next that is done, cancelled ones too: first those that were when
 * keel_completed_new came, in the order given, then as they end.
 * -ENOENT     all have been given
 * -ETIMEDOUT, -ECANCELED */
KEEL_API int keel_completed_next(struct keel_completed *c, keel_ns deadline,
                                 struct keel_future **ret);
KEEL_AUTO(completed, struct keel_completed *, keel_completed_free)

/* Runs fn(arg) on the blocking pool; its result is the future's. */
KEEL_API int keel_blocking_submit(int (*fn)(void *arg), void *arg,
                                  struct keel_future **ret);
KEEL_AUTO(future, struct keel_future *, keel_future_free)

#endif
