/* SPDX-License-Identifier: MIT */
/* A pool of threads that run jobs.
 *
 *     keel_auto(pool) struct keel_pool *p = NULL;
 *     keel_auto(future) struct keel_future *f = NULL;
 *
 *     rc = keel_pool_new(NULL, &p);
 *     if (rc == 0)
 *         rc = keel_pool_submit(p, work, arg, KEEL_FOREVER, &f);
 *     if (rc == 0)
 *         rc = keel_future_result(f, deadline, NULL);
 *
 * A job is a function that runs plainly on one of the pool's threads, not in a
 * coroutine: it may call what blocks, of keel and of other libraries, has the
 * thread's own stack (8 MiB, mostly), and as many run at once as the pool has
 * threads, whatever they wait for.  keel's calls block in it; those that need a
 * loop (keel_spawn) have one inside keel_run.  A job that waits for another of
 * the same pool keeps a thread from it: when all do so, all wait for ever.
 *
 * Any thread or coroutine may use a pool. */
#ifndef KEEL_POOL_H
#define KEEL_POOL_H

#include <keel/base.h>
#include <keel/future.h>

struct keel_pool;

/* ---- whose turn it is ----------------------------------------------------------
 * A job may run in steps: when it returns KEEL_POOL_AGAIN it hands the thread
 * back, and is called again with the same argument when it is its turn, on this
 * thread or another.  Any other result ends it. */
#define KEEL_POOL_AGAIN INT32_MAX

enum keel_pool_policy {
    /* The fastest, for when nothing is said.  In order of submission, but that
     * threads take small jobs (of less than 4 us) up to 8 at a time: a later job
     * may begin up to about a millisecond before one that another thread has
     * taken and not begun.  A job that hands back goes on at once. */
    KEEL_POOL_USUAL,
    /* In order of submission, exactly; a job that hands back goes on at once. */
    KEEL_POOL_FIRST_COME,
    /* The least cost first (keel_pool_submit_cost), among equal ones in order
     * of submission.  A job that hands back goes on unless one of less cost has
     * come meanwhile. */
    KEEL_POOL_SHORTEST,
    /* In turn: after `quantum` steps a job goes behind all that wait. */
    KEEL_POOL_ROUND_ROBIN,
    /* Multi-level feedback: a job begins on the highest of `levels`, and goes
     * down by one when it has run for the level's quantum: `quantum` steps on
     * the highest, twice as many on each level below.  The lowest level is
     * round robin.  A job of a higher level comes first, also before what is
     * left of the quantum of one below.  So short jobs are done soon without
     * anybody's saying that they are short.  After `boost` steps of all jobs
     * together those waiting begin anew on the highest level: none starves. */
    KEEL_POOL_FEEDBACK,
};

struct keel_pool_how {
    const char *name; /* its threads are NAME-0, NAME-1, cut to 15 bytes;
                         NULL: "pool" */
    unsigned size;    /* threads; 0: one for each processor; at most 1,024 */
    enum keel_pool_policy policy;
    unsigned quantum;    /* steps; 0: 1 */
    unsigned levels;     /* 0: 3; at most 8 */
    unsigned boost;      /* steps; 0: 1,000 */
    size_t waiting_most; /* jobs that have not begun; 0: no bound */
    size_t stack_bytes;  /* of its threads; 0: the system's */
    /* Each thread calls it before its first job.  One that returns a negative
     * errno breaks the pool: what has not begun ends with -ENOTRECOVERABLE, as
     * does every later submit, and keel_pool_error says what it returned. */
    int (*initializer)(void *arg);
    void *arg;
};

/* Starts the threads; `how` may be NULL.
 * -EINVAL  beyond the limits
 * -ENOMEM; -EAGAIN the limit of threads, as keel_thread_begin */
KEEL_API int keel_pool_new(const struct keel_pool_how *how,
                           struct keel_pool **ret);
/* Cancels what has not begun, unless the pool was shut down before, and waits
 * until all has ended.  NULL is fine.  Futures may outlive it.  By one of its
 * own jobs: asserted.  A pool that is left when the program exits is shut down,
 * and the exit waits for its jobs. */
KEEL_API void keel_pool_free(struct keel_pool *p);
KEEL_AUTO(pool, struct keel_pool *, keel_pool_free)

/* No job is taken from now on; what was submitted runs (with `cancel`, what has
 * not begun ends with -ECANCELED), then the threads end.  Waits for that until
 * `deadline`; it goes on by itself whatever this returns: with KEEL_NOW nobody
 * waits, and what is pending still runs.
 * -ETIMEDOUT  not all has ended
 * -ECANCELED  the caller is being cancelled
 * -EDEADLK    waiting, by one of its own jobs; the pool is shut down */
KEEL_API int keel_pool_shutdown(struct keel_pool *p, bool cancel,
                                keel_ns deadline);

/* Threads that have not ended. */
KEEL_API unsigned keel_pool_size(struct keel_pool *p);
/* The failed initializer's result; 0: the pool is not broken. */
KEEL_API int keel_pool_error(struct keel_pool *p);

/* ---- submit ---------------------------------------------------------------------- */

/* Runs fn(arg) when it is its turn.  The future has its result, and `arg` for
 * its value; keel_future_cancel keeps it from beginning.  `ret` NULL: nobody
 * wants to know.  Waits until `deadline` only where `waiting_most` bounds the
 * pool.
 * -EPIPE            after shutdown
 * -ENOTRECOVERABLE  the pool is broken: keel_pool_error
 * -ENOMEM
 * -ETIMEDOUT        no room before the deadline (at once with KEEL_NOW)
 * -ECANCELED        the caller is being cancelled */
KEEL_API int keel_pool_submit(struct keel_pool *p, int (*fn)(void *arg),
                              void *arg, keel_ns deadline,
                              struct keel_future **ret);
/* Also says what it costs, in any unit, for KEEL_POOL_SHORTEST; 0 elsewhere. */
KEEL_API int keel_pool_submit_cost(struct keel_pool *p, uint64_t cost,
                                   int (*fn)(void *arg), void *arg,
                                   keel_ns deadline, struct keel_future **ret);

/* ---- map ------------------------------------------------------------------------- */

/* Calls fn(arg, 0) to fn(arg, count - 1) on the pool, submitted in that order,
 * at most `limit` of them under way (0: 16 for each thread), and waits for all:
 * fn leaves what it has to say where `arg` says.  The first error in order of
 * the index, the deadline, which counts for the whole, or a cancel of the
 * caller end it: those that have not begun never do, those that run are waited
 * for, since a thread cannot be stopped.
 * 0; that first negative result; -ETIMEDOUT, -ECANCELED; or as submit */
KEEL_API int keel_pool_map(struct keel_pool *p, size_t limit, size_t count,
                           int (*fn)(void *arg, size_t index), void *arg,
                           keel_ns deadline);

/* The same, result by result, in order of the index:
 *
 *     keel_auto(pool_map) struct keel_pool_map *m = NULL;
 *
 *     rc = keel_pool_map_begin(p, 8, count, fn, arg, deadline, &m);
 *     while (rc == 0 && (rc = keel_pool_map_next(m, &result)) == 0)
 *         use(result);
 *
 * `limit` bounds what was submitted and not yet given, so that who is slow to
 * ask is not overrun.  The deadline is that of the whole map, not of each
 * result.  One thread or coroutine uses it. */
struct keel_pool_map;
/* Submits the first.  -ENOMEM, or as submit */
KEEL_API int keel_pool_map_begin(struct keel_pool *p, size_t limit,
                                 size_t count,
                                 int (*fn)(void *arg, size_t index), void *arg,
                                 keel_ns deadline, struct keel_pool_map **ret);
/* -ENOENT     all have been given
 * -ETIMEDOUT  the next was not there by the deadline
 * -ECANCELED  the caller is being cancelled
 * or as submit, when the pool ended meanwhile and all before was given */
KEEL_API int keel_pool_map_next(struct keel_pool_map *m, int *ret_result);
/* Those that have not begun never do; waits for those that run. */
KEEL_API void keel_pool_map_free(struct keel_pool_map *m);
KEEL_AUTO(pool_map, struct keel_pool_map *, keel_pool_map_free)

#endif
