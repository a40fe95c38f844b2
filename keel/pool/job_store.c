/* SPDX-License-Identifier: MIT */
/* Memory of jobs: taken in blocks, used again.
 *
 * Who submits takes from `free`, under its hold.  A job comes back where its
 * last owner lets go of the future, on any thread, into `back`, a stack onto
 * which is only pushed and which is taken whole: nobody meets the same head
 * twice in between.  The pool ends by closing `back`; from then on each job
 * that comes counts `missing` down, and the last one frees all. */
#include "job.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include <keel/seam.h>

#include "loop/loop.h"
#include "seam/quarantine.h"

enum { JOBS_A_BLOCK = 64 };

struct block {
    struct block *older;
    struct job jobs[JOBS_A_BLOCK];
};

/* Jobs are `total`: those in `free`, in `back`, and those that are out. */
struct job_store {
    _Alignas(64) _Atomic uint32_t hold;
    struct job *free;
    struct block *blocks;
    size_t total;
    _Alignas(64) _Atomic(struct job *) back;
    _Atomic int64_t missing;
};

static struct job closed; /* its address, in `back` */

int job_store_new(struct job_store **ret)
{
    struct job_store *s = lines_alloc(sizeof *s);

    if (!s)
        return -ENOMEM;
    memset(s, 0, sizeof *s);
    *ret = s;
    return 0;
}

static void store_release(struct job_store *s)
{
    struct block *older;

    for (struct block *b = s->blocks; b; b = older) {
        older = b->older;
        keel_free(b);
    }
    keel_free(s);
}

static size_t length(const struct job *job)
{
    size_t n = 0;

    for (; job; job = job_next(job))
        n++;
    return n;
}

void job_store_free(struct job_store *s)
{
    struct job *back;
    int64_t out;

    if (!s)
        return;
    back = atomic_exchange(&s->back, &closed);
    out = (int64_t)(s->total - length(s->free) - length(back));
    if (atomic_fetch_add(&s->missing, out) + out == 0)
        store_release(s);
}

static void job_release(struct keel_future *f)
{
    struct job *job = (struct job *)(void *)f;
    struct job_store *s = job->store;
    struct job *old = atomic_load_explicit(&s->back, memory_order_relaxed);

    do {
        if (old == &closed) {
            if (atomic_fetch_sub(&s->missing, 1) == 1)
                store_release(s);
            return;
        }
        job_link(job, old);
    } while (!atomic_compare_exchange_weak(&s->back, &old, job));
}

/* Under the hold, dropped meanwhile. */
static bool grow(struct job_store *s)
{
    struct block *b;

    spin_drop(&s->hold);
    b = lines_alloc(sizeof *b);
    spin_hold(&s->hold);
    if (!b)
        return false;
    b->older = s->blocks;
    s->blocks = b;
    s->total += JOBS_A_BLOCK;
    for (size_t i = 0; i < JOBS_A_BLOCK; i++) {
        b->jobs[i].store = s;
        atomic_init(&b->jobs[i].next, s->free);
        s->free = &b->jobs[i];
    }
    return true;
}

void job_is_future(struct job *job)
{
    job->future.release = job_release;
}

struct job *job_new(struct job_store *s, uint32_t owners, int (*fn)(void *arg),
                    void *arg)
{
    struct job *job;

    spin_hold(&s->hold);
    if (!s->free && atomic_load_explicit(&s->back, memory_order_relaxed))
        s->free =
            atomic_exchange_explicit(&s->back, NULL, memory_order_acquire);
    while (!s->free)
        if (!grow(s)) {
            spin_drop(&s->hold);
            return NULL;
        }
    job = s->free;
    s->free = job_next(job);
    spin_drop(&s->hold);
    future_init(&job->future, owners, NULL);
    job->future.fn = fn;
    job->future.arg = arg;
    return job;
}
