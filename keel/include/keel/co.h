/* SPDX-License-Identifier: MIT */
/* Coroutines, groups of them, and the loops that run them.
 *
 * A coroutine is a function with a stack of its own that parks whenever a call
 * of keel waits.  It belongs to the loop it was spawned on and never moves.  A
 * loop is one thread.  Plain threads may spawn onto loops, join, and cancel.
 *
 * Cancelling is sticky: from then on each wait of that coroutine returns
 * -ECANCELED, until it ends or shields itself.  A wait that was both woken and
 * cancelled reports the wake; the cancel shows at the wait after it. */
#ifndef KEEL_CO_H
#define KEEL_CO_H

#include <keel/base.h>

struct keel_co;
struct keel_loop;
struct keel_group;

/* ---- loops ---------------------------------------------------------------- */
/* Runs a loop on this thread with `fn` as its first coroutine, until `fn` has
 * returned and every coroutine spawned on the loop has ended (those left when
 * `fn` returns are cancelled, and no new ones are taken).  Returns fn's result,
 * or a negative errno when the loop could not be made; -EBUSY on a thread that
 * runs one already. */
KEEL_API int keel_run(int (*fn)(void *arg), void *arg);

/* Starts a thread with a loop of its own.  keel_loop_stop cancels its
 * coroutines, waits for them and for the thread, and frees the loop; not to be
 * called from that loop. */
KEEL_API int keel_loop_start(const char *name, struct keel_loop **ret);
KEEL_API void keel_loop_stop(struct keel_loop *loop);
/* The current loop; NULL in a plain thread. */
KEEL_API struct keel_loop *keel_loop_current(void);
/* Coroutines alive on it or on their way to it, for placing work. */
KEEL_API size_t keel_loop_load(const struct keel_loop *loop);
/* "uring" or "epoll": forced by KEEL_POLLER, else the best that works.  NULL
 * and errno -EINVAL from keel_run when KEEL_POLLER names something else. */
KEEL_API const char *keel_poller_name(void);

/* ---- coroutines ------------------------------------------------------------ */
struct keel_spawn {
    const char *name;       /* copied, 23 bytes of it; NULL: "co" */
    struct keel_loop *loop; /* NULL: the current one */
    struct keel_group *group;
    size_t stack_bytes; /* 0: 64 KiB */
    bool paused; /* begins by keel_switch, not by its turn; this loop only */
};

/* Of each stack some 300 bytes are keel's.  Below it lies a guard of 20 KiB; who
 * runs into it is named on standard error before the process dies (debug.h).
 * KEEL_GUARD=canary in the environment does without guards, for kernels before
 * 6.13 where they are limited to some 32,000: there the stack's lowest words are
 * checked when its coroutine parks and ends.
 *
 * Memory is taken a page at a time, as deep as the stack was used.  Who has
 * waited for two seconds on a loop with nothing to do gives back what lies below
 * the place where it waits; a wait in shallow frames costs one page, 4.2 KB with
 * all that belongs to it. */

/* Starts fn(arg) as a coroutine.  With `ret`, the handle must be given to
 * keel_join exactly once; without, the coroutine is nobody's and its result is
 * dropped.  `how` may be NULL.
 * -ENOMEM  no stack: keel_stack_error() says which limit
 * -EAGAIN  the loop is stopping
 * -EINVAL  `paused` on another loop */
KEEL_API int keel_spawn(const struct keel_spawn *how, int (*fn)(void *arg),
                        void *arg, struct keel_co **ret);

/* Waits for the end of `co` and frees the handle.
 * -EDEADLK    it is the caller itself
 * -EINVAL     somebody else joins it already
 * -ETIMEDOUT  it still runs; the handle stays valid
 * -ECANCELED  the caller is being cancelled; the handle stays valid */
KEEL_API int keel_join(struct keel_co *co, keel_ns deadline, int *ret_result);

/* Asks `co` to end; from any thread. */
KEEL_API void keel_cancel(struct keel_co *co);
/* True once the current coroutine, or thread (keel_thread_cancel), was
 * cancelled, shielded or not. */
KEEL_API bool keel_cancelled(void);
/* Between shield and unshield waits are not cancelled.  Nests. */
KEEL_API void keel_shield(void);
KEEL_API void keel_unshield(void);

/* Goes on in `to` at once, without asking whose turn it is; the caller stops
 * until somebody switches to it.  `to` must not have begun (`paused`) or have
 * stopped by a switch itself: there its call returns 0 with `value` in
 * `ret_value` (may be NULL).  The scheduled coroutines of the loop get their
 * turns whenever those that switch wait or end, and after every 64 switches.
 *
 * When a coroutine ends that was spawned `paused`, the one that spawned it goes
 * on next, if it has stopped by a switch: its call returns 1.
 *
 * 0           somebody switched back; also, at once, to oneself, with `value`
 * 1           one that the caller spawned `paused` has ended
 * -EBUSY      `to` waits for something else, or for its turn
 * -ESRCH      `to` has ended
 * -EXDEV      `to` belongs to another loop
 * -ETIMEDOUT  nobody has switched back by `deadline`
 * -ECANCELED  the caller is being cancelled
 * Before the switch the errors change nothing; the last two may also come
 * while the caller is stopped, which then waits for its turn. */
KEEL_API int keel_switch(struct keel_co *to, void *value, keel_ns deadline,
                         void **ret_value);

/* Every wait of this coroutine inside the scope ends by `deadline` with
 * -ETIMEDOUT, whatever deadline of its own it has.  Scopes nest; the earliest
 * deadline counts.  The struct is the caller's. */
struct keel_timeout {
    keel_ns outer;
};
KEEL_API void keel_timeout_begin(struct keel_timeout *t, keel_ns deadline);
KEEL_API void keel_timeout_end(struct keel_timeout *t);

/* Lets the others run; never waits.  In a thread: sched_yield. */
KEEL_API void keel_yield(void);
/* Until `deadline`: 0, or -ECANCELED. */
KEEL_API int keel_sleep(keel_ns deadline);

/* The current coroutine, borrowed; NULL in a plain thread. */
KEEL_API struct keel_co *keel_current(void);
/* Its name, or that of a keel_thread, or in the first thread of a keel_process
 * the process's; else "thread". */
KEEL_API const char *keel_name(void);
/* Why the last keel_spawn of this thread had no stack, e.g. "vm.max_map_count
 * (65530) allows no more guard pages". */
KEEL_API const char *keel_stack_error(void);

/* ---- groups ----------------------------------------------------------------- */
/* A group owns its members: freeing it cancels and joins them.  `limit` bounds
 * the members alive (0: none): keel_spawn into a full group waits.  Members may
 * live on several loops.  A member cannot join or free its own group
 * (asserted). */
KEEL_API int keel_group_new(size_t limit, struct keel_group **ret);
KEEL_API void keel_group_free(struct keel_group *g);
/* Cancels the members, and those that are spawned before the next join has seen
 * the last of them end. */
KEEL_API void keel_group_cancel(struct keel_group *g);
/* Waits for all members.  Returns 0, or the first negative result in order of
 * ending (the others go on: cancel them or wait again). */
KEEL_API int keel_group_join(struct keel_group *g, keel_ns deadline);
/* As above but returns at the first member that fails, cancelling the rest and
 * joining them. */
KEEL_API int keel_group_join_or_cancel(struct keel_group *g, keel_ns deadline);
/* Waits until any member has ended; its result in `ret_result`, each result
 * once, in order of ending.  -ECHILD when there is none.  Results nobody asks
 * for are forgotten at the next join that waits for all, and the oldest when
 * more than 4,096 runs of equal ones have gathered. */
KEEL_API int keel_group_join_any(struct keel_group *g, keel_ns deadline,
                                 int *ret_result);
KEEL_AUTO(group, struct keel_group *, keel_group_free)

/* Calls fn(arg, 0) to fn(arg, count - 1) in coroutines of this loop, begun in
 * that order, at most `limit` (at least 1) at a time, and waits for all: fn
 * leaves its results where `arg` says.  The first that fails, the deadline or a
 * cancel end it: no more are begun, those under way are cancelled and joined.
 * Returns 0, that first negative result, -ETIMEDOUT or -ECANCELED; -ENOMEM,
 * -EAGAIN as keel_spawn.  In a coroutine only. */
KEEL_API int keel_group_map(size_t limit, size_t count,
                            int (*fn)(void *arg, size_t index), void *arg,
                            keel_ns deadline);

/* ---- blocking work ----------------------------------------------------------- */
/* Runs fn(arg) on a thread of the blocking pool and returns its result; the
 * coroutine parks meanwhile and cannot be cancelled until it is done, so `arg`
 * may be on its stack.  In a plain thread fn is called directly.
 * -EAGAIN  no thread could be started, and none is there */
KEEL_API int keel_blocking(int (*fn)(void *arg), void *arg);
/* The pool's most threads (default: 16 or KEEL_BLOCKING_THREADS). They start
 * when needed and end after 10 idle seconds. */
KEEL_API void keel_blocking_limit(unsigned threads);

#endif
