/* SPDX-License-Identifier: MIT */
/* Inside keel: the jobs of a pool, where their memory comes from, and whose
 * turn it is. */
#ifndef KEEL_JOB_H
#define KEEL_JOB_H

#include <stdatomic.h>

#include <keel/pool.h>

#include "sync/future_inside.h"

/* A future, which says until it is done what is to be run, and what the pool
 * keeps beside it; each in a cache line.  `next` is the queue's, then that of
 * the policy's lists, then that of the store's. */
struct job {
    _Alignas(64) struct keel_future future; /* first: release finds the job */
    _Atomic(struct job *) next;
    struct job_store *store;
    union {
        struct { /* shortest first */
            uint64_t cost;
            uint64_t order; /* how manieth it came */
            struct job *child;
        };
        struct { /* feedback, round robin */
            uint32_t level;
            uint32_t used; /* steps, of the level's quantum */
        };
    };
};
_Static_assert(sizeof(struct job) == 128, "two cache lines");

/* It has run for a step and handed back. */
static inline bool job_has_begun(const struct job *job)
{
    return job->future.begun;
}

/* ---- memory (job_store.c) ---- */

struct job_store;
int job_store_new(struct job_store **ret);
/* The last job that comes back takes the memory with it. */
void job_store_free(struct job_store *s);
/* `owners` hold the future, `fn` is in the place of its release.  NULL:
 * -ENOMEM */
struct job *job_new(struct job_store *s, uint32_t owners, int (*fn)(void *arg),
                    void *arg);
/* Will not be run again; before the pool lets go of it. */
void job_is_future(struct job *job);

/* ---- turns (job_turns.c) ---- */

enum { LEVELS_MOST = 8 };

/* Jobs that wait, for the policies that are not simply a queue.
 *
 * Shortest first: `heap` is a pairing heap by cost, then order; `child` is a
 * node's first child, `next` its next sibling.
 * The others: `level` are lists, oldest first, round robin has one. */
struct turns {
    enum keel_pool_policy policy;
    unsigned quantum, levels, boost;
    unsigned steps; /* since the last boost */
    uint64_t came;
    size_t count;
    struct job *heap;
    struct {
        struct job *first, *last;
    } level[LEVELS_MOST];
};

/* One that has come. */
void turns_add(struct turns *t, struct job *job);
/* One that ran for a step and hands back. */
void turns_back(struct turns *t, struct job *job);
/* The one whose turn it is; NULL: none waits. */
struct job *turns_take(struct turns *t);
/* All that have not begun, linked by `next`. */
struct job *turns_take_fresh(struct turns *t);

static inline struct job *job_next(const struct job *job)
{
    return atomic_load_explicit(&job->next, memory_order_relaxed);
}

static inline void job_link(struct job *job, struct job *next)
{
    atomic_store_explicit(&job->next, next, memory_order_relaxed);
}

#endif
