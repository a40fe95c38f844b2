/* SPDX-License-Identifier: MIT */
/* A pool of processes that run tasks, and heals.
 *
 * A task is a function that is registered by name where it is written:
 *
 *     KEEL_TASK(square)
 *     {
 *         int n = *(const int *)in;
 *
 *         *(int *)out = n * n;
 *         *ret_size = sizeof(int);
 *         return 0;
 *     }
 *
 * Input and output are copied by way of shared memory; pointers mean nothing
 * in them.  When a worker dies, only the task that it ran fails, with signal
 * and resource use; what it had taken and not begun is run by another, and it
 * is replaced.  A task whose limit comes is stopped by the end of its worker.
 *
 * Any thread or coroutine of the process that made the pool may use it. */
#ifndef KEEL_PROCPOOL_H
#define KEEL_PROCPOOL_H

#include <sys/resource.h>

#include <keel/base.h>

struct keel_procpool;

/* ---- tasks --------------------------------------------------------------------- */

/* Returns the task's result, by convention 0 or a negative errno, and at most
 * `room` bytes of output, `*ret_size` of them (0 if it is left alone). */
typedef int keel_task_fn(const void *in, size_t size, void *out, size_t room,
                         size_t *ret_size);
struct keel_task {
    const char *name;
    keel_task_fn *fn;
    struct keel_task *next;
    uint32_t number;
};
KEEL_API void keel_task_register(struct keel_task *task);
/* Begins the definition of a task, as above. */
#define KEEL_TASK(name_)                                                       \
    static keel_task_fn name_;                                                 \
    static struct keel_task keel_task_##name_ = {.name = #name_, .fn = name_}; \
    __attribute__((constructor(2000))) static void keel_enter_##name_(void)    \
    {                                                                          \
        keel_task_register(&keel_task_##name_);                                \
    }                                                                          \
    __attribute__((constructor)) static void keel_begin_##name_(void)          \
    {                                                                          \
        keel_process_begin();                                                  \
    }                                                                          \
    static int name_(__attribute__((unused)) const void *in,                   \
                     __attribute__((unused)) size_t size,                      \
                     __attribute__((unused)) void *out,                        \
                     __attribute__((unused)) size_t room,                      \
                     __attribute__((unused)) size_t *ret_size)
KEEL_API void keel_process_begin(void);

/* ---- the pool -------------------------------------------------------------------- */

struct keel_procpool_how {
    const char *name;   /* of its processes; NULL: "pool" */
    unsigned workers;   /* 0: one for each processor; at most 256 */
    size_t tasks;       /* in flight at most; 0: 1,024; at most 65,536 */
    size_t in_most;     /* bytes of a task's input; 0: 64 */
    size_t out_most;    /* and output; 0: 64; both at most 16 MiB */
    unsigned per_child; /* a worker is replaced after as many; 0: never */
    /* A task that each worker runs first.  One that returns an error, or three
     * in a row that die of it, break the pool. */
    const char *initializer;
    const void *arg; /* its input, at most `in_most` */
    size_t arg_size;
};
/* Starts the workers; `how` may be NULL.
 * -ENOENT  no task has the initializer's name
 * -EINVAL, -E2BIG  beyond the limits
 * or an error of keel_process_start, keel_shqueue_new, keel_thread_start */
KEEL_API int keel_procpool_new(const struct keel_procpool_how *how,
                               struct keel_procpool **ret);
/* Kills the workers, and waits until they are gone; accepts NULL.  Nobody may be
 * waiting for a result. */
KEEL_API void keel_procpool_free(struct keel_procpool *p);
KEEL_AUTO(procpool, struct keel_procpool *, keel_procpool_free)
/* No task is taken from now on; what is pending runs (with `cancel`, what has
 * not begun ends with -ECANCELED), then the workers end.  Waits for that, and
 * after -ETIMEDOUT or -ECANCELED it goes on by itself: KEEL_NOW does not wait.
 * Results can be taken afterwards. */
KEEL_API int keel_procpool_shutdown(struct keel_procpool *p, bool cancel,
                                    keel_ns deadline);
/* Kills the workers: what ran or was pending ends with -ECANCELED. */
KEEL_API void keel_procpool_terminate(struct keel_procpool *p);
/* Workers that run now, and how many were replaced since the beginning. */
KEEL_API unsigned keel_procpool_size(struct keel_procpool *p);
KEEL_API uint64_t keel_procpool_replaced(struct keel_procpool *p);

/* ---- submit ---------------------------------------------------------------------- */

/* A task under way, by value.  keel_procpool_result takes it, once; one that
 * nobody takes keeps its place in the pool. */
struct keel_proctask {
    uint32_t place, turn;
};
/* How it ended. */
struct keel_proctask_end {
    /* What the function returned; or
     * -EOWNERDEAD       the worker died in it: of `signal`, or by exit
     * -ETIMEDOUT        its limit came
     * -ECANCELED        it was cancelled, or the pool terminated
     * -ENOTRECOVERABLE  the pool is broken: its initializer failed */
    int result;
    int signal;
    size_t size;         /* of the output */
    struct rusage usage; /* of the worker that died, else zero */
};

/* Waits for a place until `deadline`.  The task is stopped at `limit`, begun or
 * not; KEEL_FOREVER: never.
 * -ENOENT    no task has that name;  -E2BIG  more than `in_most`
 * -EPIPE     after shutdown
 * -ENOTRECOVERABLE  its initializer failed
 * -ETIMEDOUT, -ECANCELED */
KEEL_API int keel_procpool_submit(struct keel_procpool *p, const char *task,
                                  const void *in, size_t size, keel_ns limit,
                                  keel_ns deadline, struct keel_proctask *ret);
/* Waits for its end; `out` has `room` bytes, and gets no more.
 * -ETIMEDOUT, -ECANCELED of the wait: it goes on, and can be asked again
 * -EINVAL  it was taken before */
KEEL_API int keel_procpool_result(struct keel_procpool *p,
                                  struct keel_proctask t, void *out,
                                  size_t room, keel_ns deadline,
                                  struct keel_proctask_end *ret);
/* True: it had not begun and will not; its result is -ECANCELED. */
KEEL_API bool keel_procpool_cancel(struct keel_procpool *p,
                                   struct keel_proctask t);
KEEL_API bool keel_procpool_done(struct keel_procpool *p,
                                 struct keel_proctask t);

/* Runs the task for each of `count` items of `item_bytes`, several at once, and
 * puts their outputs of `result_bytes` in order into `results` (an output that
 * is shorter is followed by zeros).  `chunk` items travel together; 0: as suits.  The deadline counts
 * from the call, for all: what runs then is stopped.
 * The first error in order of the items, if one fails; the others have run.
 * -E2BIG  a chunk is beyond `in_most` or `out_most`; else as submit */
KEEL_API int keel_procpool_map(struct keel_procpool *p, const char *task,
                               const void *items, size_t item_bytes,
                               size_t count, void *results, size_t result_bytes,
                               size_t chunk, keel_ns deadline);

#endif
