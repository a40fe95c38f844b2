/* SPDX-License-Identifier: MIT */
/* One table of cases for the three kinds of worker.
 *
 * A case is plain code: it starts workers, waits for them, and uses locks,
 * queues and pools by the verbs below, never by those of one kind.  It runs
 *
 *   coroutine          among the coroutines of one loop
 *   coroutine-loops    from a thread, with the coroutines of another loop
 *   thread             from a thread
 *   thread-parks       from a coroutine, with threads
 *   process            from a thread
 *   process-parks      from a coroutine, with processes
 *
 * Where a kind cannot do what a case is about, the case says why.  A job runs
 * in a worker: it may use what it is given, the numbers and objects of the
 * world, and the verbs; its result is 0 to 249 (a process's exit code). */
#ifndef KEEL_CONFORM_H
#define KEEL_CONFORM_H

#include "test/test.h"

#include <keel/lock.h>
#include <keel/process.h>
#include <keel/shared.h>
#include <keel/shlock.h>
#include <keel/thread.h>

#define SOON (keel_after(20 * KEEL_SECOND))
#define SHORTLY (keel_after(5 * KEEL_MS))

struct conform;
typedef int job_fn(struct conform *c, int arg);

/* ---- workers ---- */

struct worker {
    struct conform *c;
    job_fn *fn;
    int arg;
    char name[16];
    struct keel_co *co;
    struct keel_thread *thread;
    struct keel_process *process;
};

struct worker_verbs {
    int (*start)(struct worker *w);
    /* Asked to end before it has begun, where that can be. */
    int (*start_cancelled)(struct worker *w);
    int (*join)(struct worker *w, keel_ns deadline, int *ret_result);
    void (*cancel)(struct worker *w);
    void (*let_go)(struct worker *w); /* nobody wants its result */
    /* Of the worker that calls. */
    int (*join_itself)(keel_ns deadline);
    const char *(*own_name)(void);
    /* Of the kind, those that live. */
    size_t (*count)(struct conform *c);
    bool (*is_alive)(struct worker *w);
};

/* ---- what they share ---- */

enum { NUMBERS = 64, EVENTS = 4 };

struct world {
    _Atomic int number[NUMBERS];
    int plain; /* guarded by the lock, if that is worth its name */
    struct {
        struct keel_lock lock;
        struct keel_rlock rlock;
        struct keel_cond cond;
        struct keel_semaphore semaphore;
        struct keel_event event[EVENTS];
        struct keel_barrier barrier;
    } here;
    struct {
        struct keel_shlock lock;
        struct keel_shrlock rlock;
        struct keel_shcond cond;
        struct keel_shsemaphore semaphore;
        struct keel_shevent event[EVENTS];
        struct keel_shbarrier barrier;
    } between;
};

struct sync_verbs {
    int (*take)(struct world *w, keel_ns deadline);
    int (*drop)(struct world *w);
    int (*rlock_take)(struct world *w, keel_ns deadline);
    int (*rlock_drop)(struct world *w);
    int (*cond_wait_for)(struct world *w, bool (*test)(void *arg), void *arg,
                         keel_ns deadline);
    void (*cond_signal)(struct world *w);
    void (*cond_broadcast)(struct world *w);
    int (*semaphore_init)(struct world *w, unsigned count, unsigned bound);
    int (*semaphore_take)(struct world *w, keel_ns deadline);
    int (*semaphore_give)(struct world *w);
    void (*event_set)(struct world *w, int which);
    void (*event_clear)(struct world *w, int which);
    bool (*event_is_set)(struct world *w, int which);
    int (*event_wait)(struct world *w, int which, keel_ns deadline);
    int (*barrier_init)(struct world *w, unsigned parties);
    int (*barrier_wait)(struct world *w, keel_ns deadline);
    int (*barrier_reset)(struct world *w);
    int (*barrier_abort)(struct world *w);
    bool (*barrier_is_broken)(struct world *w);
    unsigned (*barrier_waiting)(struct world *w);
};

/* A queue of numbers from 1. */
struct queue_verbs {
    int (*new)(struct conform *c, size_t slots);
    void (*free)(struct conform *c);
    int (*put)(struct conform *c, int number, keel_ns deadline);
    int (*get)(struct conform *c, keel_ns deadline, int *ret);
    int (*peek)(struct conform *c, int *ret);
    size_t (*count)(struct conform *c);
    bool (*empty)(struct conform *c);
    bool (*full)(struct conform *c);
    int (*task_done)(struct conform *c);
    int (*join)(struct conform *c, keel_ns deadline);
    void (*close)(struct conform *c);
    void (*close_now)(struct conform *c);
};

/* What the jobs of a pool do. */
enum work {
    SQUARE, /* of its argument */
    GATE,   /* sets event 0 and waits for event 1; its argument */
    COUNT,  /* adds its argument to the first number; that */
    FAIL,   /* -EACCES */
    NAP     /* of its argument in milliseconds; that */
};
struct ticket {
    struct conform *c;
    enum work work;
    int arg;
    struct keel_future *future;
    uint32_t place, turn;
};
struct pool_verbs {
    int (*new)(struct conform *c, unsigned workers, bool failing);
    void (*free)(struct conform *c);
    int (*submit)(struct conform *c, enum work work, int arg,
                  struct ticket *ret);
    /* 0 and its result, or an error of the wait. */
    int (*result)(struct ticket *t, keel_ns deadline, int *ret);
    bool (*cancel)(struct ticket *t);
    bool (*done)(struct ticket *t);
    int (*map)(struct conform *c, enum work work, int count, int *results,
               keel_ns deadline);
    int (*shutdown)(struct conform *c, bool cancel, keel_ns deadline);
    unsigned (*size)(struct conform *c);
};

extern const struct worker_verbs coroutines, threads, processes;
extern const struct sync_verbs sync_here, sync_between;
extern const struct queue_verbs queue_here, queue_between;
extern const struct pool_verbs pool_of_threads, pool_of_processes;

/* ---- kinds and cases ---- */

enum is { COROUTINE, THREAD, PROCESS, KINDS };
struct kind {
    const char *name;
    enum is is;
    bool parks;    /* the case runs in a coroutine */
    bool far_away; /* the coroutines belong to another loop */
    const struct worker_verbs *worker;
    const struct sync_verbs *sync;
    const struct queue_verbs *queue;
    const struct pool_verbs *pool;
};
extern const struct kind kinds[];
extern const size_t kind_count;

struct conform {
    const struct kind *kind;
    const struct worker_verbs *worker;
    const struct sync_verbs *sync;
    const struct queue_verbs *queue;
    const struct pool_verbs *pool;
    struct world *w;
    struct keel_shared *memory;
    struct keel_loop *loop;
    struct keel_queue *queue_here;
    struct keel_shqueue *queue_between;
    struct keel_pool *pool_here;
    struct keel_procpool *pool_between;
    struct worker workers[NUMBERS];
    int started;
};

struct conform_case {
    const char *name;
    void (*run)(struct conform *c);
    const char *not_for[KINDS]; /* why */
};
extern const struct conform_case worker_cases[], sync_cases[], queue_cases[],
    pool_cases[], mistake_cases[];
extern const size_t worker_case_count, sync_case_count, queue_case_count,
    pool_case_count, mistake_case_count;

/* ---- for cases ---- */

struct worker *begin(struct conform *c, job_fn *fn, int arg);
struct worker *begin_named(struct conform *c, const char *name, job_fn *fn,
                           int arg);
/* Somebody of this program, whatever the kind: a coroutine where the case is
 * one, else a thread. */
const struct worker_verbs *begin_here(struct conform *c, job_fn *fn, int arg,
                                      struct worker **ret);
/* Joins it; its result. */
int end(struct worker *w);
void wait_event(struct conform *c, int which);

/* ---- for jobs ---- */

int conform_fault(const char *what, const char *file, int line);
#define EXPECT(expr)                                                           \
    do {                                                                       \
        if (!(expr))                                                           \
            return conform_fault(#expr, __FILE__, __LINE__);                   \
    } while (0)

#endif
