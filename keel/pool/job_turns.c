/* SPDX-License-Identifier: MIT */
#include "job.h"

/* ---- shortest first ---- */

static bool before(const struct job *a, const struct job *b)
{
    return a->cost < b->cost || (a->cost == b->cost && a->order < b->order);
}

static struct job *meld(struct job *a, struct job *b)
{
    struct job *t;

    if (!a)
        return b;
    if (!b)
        return a;
    if (before(b, a)) {
        t = a;
        a = b;
        b = t;
    }
    job_link(b, a->child);
    a->child = b;
    return a;
}

static void heap_add(struct turns *t, struct job *job)
{
    job->child = NULL;
    job_link(job, NULL);
    t->heap = meld(t->heap, job);
}

/* The children become one heap: in pairs, then pair by pair from the last,
 * which is what makes it logarithmic on average. */
static struct job *heap_take(struct turns *t)
{
    struct job *least = t->heap, *pairs = NULL, *a, *b, *rest;

    if (!least)
        return NULL;
    for (a = least->child; a; a = rest) {
        b = job_next(a);
        rest = b ? job_next(b) : NULL;
        a = meld(a, b);
        job_link(a, pairs);
        pairs = a;
    }
    t->heap = NULL;
    for (a = pairs; a; a = rest) {
        rest = job_next(a);
        job_link(a, NULL);
        t->heap = meld(t->heap, a);
    }
    return least;
}

/* ---- levels ---- */

static void list_append(struct turns *t, unsigned level, struct job *job)
{
    job->level = level;
    job_link(job, NULL);
    if (t->level[level].first)
        job_link(t->level[level].last, job);
    else
        t->level[level].first = job;
    t->level[level].last = job;
}

static void list_prepend(struct turns *t, unsigned level, struct job *job)
{
    job_link(job, t->level[level].first);
    if (!t->level[level].first)
        t->level[level].last = job;
    t->level[level].first = job;
}

static struct job *list_take(struct turns *t, unsigned level)
{
    struct job *job = t->level[level].first;

    t->level[level].first = job_next(job);
    return job;
}

static struct job *levels_take(struct turns *t)
{
    for (unsigned i = 0; i < t->levels; i++)
        if (t->level[i].first)
            return list_take(t, i);
    return NULL;
}

/* All begin anew, the higher ones first. */
static void boost(struct turns *t)
{
    t->steps = 0;
    for (unsigned i = 1; i < t->levels; i++)
        while (t->level[i].first) {
            struct job *job = list_take(t, i);

            job->used = 0;
            list_append(t, 0, job);
        }
}

/* What is left of its quantum it may use first, after those above it. */
static void levels_back(struct turns *t, struct job *job)
{
    unsigned level = job->level;

    if (++job->used < t->quantum << level) {
        list_prepend(t, level, job);
    } else {
        job->used = 0;
        list_append(t, level + 1 < t->levels ? level + 1 : level, job);
    }
    if (++t->steps >= t->boost)
        boost(t);
}

/* ---- either ---- */

void turns_add(struct turns *t, struct job *job)
{
    t->count++;
    if (t->policy == KEEL_POOL_SHORTEST) {
        job->order = t->came++;
        heap_add(t, job);
    } else {
        job->used = 0;
        list_append(t, 0, job);
    }
}

void turns_back(struct turns *t, struct job *job)
{
    t->count++;
    if (t->policy == KEEL_POOL_SHORTEST)
        heap_add(t, job);
    else
        levels_back(t, job);
}

struct job *turns_take(struct turns *t)
{
    struct job *job =
        t->policy == KEEL_POOL_SHORTEST ? heap_take(t) : levels_take(t);

    if (job)
        t->count--;
    return job;
}

struct job *turns_take_fresh(struct turns *t)
{
    struct job *all = NULL, *fresh = NULL, *job, *next;

    while ((job = turns_take(t))) {
        job_link(job, all);
        all = job;
    }
    /* Last first now: those that go back are put in front of their level. */
    for (job = all; job; job = next) {
        next = job_next(job);
        if (!job_has_begun(job)) {
            job_link(job, fresh);
            fresh = job;
        } else if (t->policy == KEEL_POOL_SHORTEST) {
            t->count++;
            heap_add(t, job);
        } else {
            t->count++;
            list_prepend(t, job->level, job);
        }
    }
    return fresh;
}
