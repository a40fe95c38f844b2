/* SPDX-License-Identifier: MIT */
/* What is whole goes to the disk by jobs of the blocking pool, many files a
 * job: a thread's waking costs as much as making a file. */
#include <errno.h>
#include <string.h>

#include <keel/co.h>
#include <keel/file.h>

#include "client/get_inside.h"

#define WRITERS 3
#define JOB_ITEMS 32

struct get_job {
    struct getting *g;
    struct item *items[JOB_ITEMS];
    struct local_dir *ends[JOB_ITEMS];
    struct problem end_why[JOB_ITEMS];
    int end_rc[JOB_ITEMS];
    unsigned item_count, end_count;
};

/* ---- on the pool ------------------------------------------------------------------ */

static void item_make(struct item *i)
{
    struct local_new n = {
        .dir = i->dir->fd,
        .name = i->name,
        .target = i->target,
        .bytes = i->bytes,
        .size = i->entry.size,
        .mode = i->entry.mode,
        .mtime_ns = i->entry.mtime_ns,
        .fresh = i->dir->fresh,
        .no_replace = i->g->c->no_replace,
    };

    i->rc = local_make(&n, &i->why);
}

/* Another file system, mounted below the destination, is synced by itself. */
static int dir_end(struct local_dir *d, struct problem *why)
{
    int rc = 0, synced = 0;

    if (d->fd < 0)
        return 0;
    if (d->ends)
        rc = local_dir_end(d->fd, d->mode, d->mtime_ns, d->fresh, why);
    if (d->parent && d->parent->device != d->device)
        synced = keel_file_sync_all(d->fd);
    keel_file_close(d->fd);
    if (rc == 0 && synced < 0)
        rc = problem(why, FILE_LOCAL, .errno_ = -synced);
    return rc;
}

static int job_run(void *arg)
{
    struct get_job *j = arg;

    for (unsigned k = 0; k < j->item_count; k++)
        item_make(j->items[k]);
    for (unsigned k = 0; k < j->end_count; k++)
        j->end_rc[k] = dir_end(j->ends[k], &j->end_why[k]);
    return 0;
}

/* ---- directories -------------------------------------------------------------------- */

struct local_dir *get_dir_hold(struct local_dir *d)
{
    d->refs++;
    return d;
}

void get_dir_drop(struct getting *g, struct local_dir *d)
{
    if (!d || --d->refs > 0)
        return;
    STAILQ_INSERT_TAIL(&g->ends, d, node);
    keel_event_clear(&g->quiet);
    keel_event_set(&g->work);
}

static void dir_ended(struct getting *g, struct local_dir *d, int rc,
                      const struct problem *why)
{
    struct local_dir *parent = d->parent;

    if (rc < 0)
        get_failed(g, d->local, d->remote, why);
    g->dirs_open--;
    keel_free(d);
    keel_event_set(&g->room);
    get_dir_drop(g, parent);
}

/* ---- writers ---------------------------------------------------------------------------- */

void get_write(struct item *i)
{
    STAILQ_INSERT_TAIL(&i->g->queue, i, node);
    keel_event_clear(&i->g->quiet);
    keel_event_set(&i->g->work);
}

static bool is_idle(const struct getting *g)
{
    return STAILQ_EMPTY(&g->queue) && STAILQ_EMPTY(&g->ends);
}

static void job_take(struct get_job *j)
{
    struct getting *g = j->g;

    j->item_count = j->end_count = 0;
    while (!STAILQ_EMPTY(&g->queue) && j->item_count < JOB_ITEMS) {
        j->items[j->item_count++] = STAILQ_FIRST(&g->queue);
        STAILQ_REMOVE_HEAD(&g->queue, node);
    }
    while (!STAILQ_EMPTY(&g->ends) && j->end_count < JOB_ITEMS) {
        j->ends[j->end_count++] = STAILQ_FIRST(&g->ends);
        STAILQ_REMOVE_HEAD(&g->ends, node);
    }
    if (is_idle(g))
        keel_event_clear(&g->work);
}

static void job_do(struct get_job *j)
{
    struct getting *g = j->g;

    g->writing++;
    job_take(j);
    if (keel_blocking(job_run, j) < 0) /* no thread to be had */
        job_run(j);
    for (unsigned k = 0; k < j->item_count; k++)
        get_done(j->items[k], j->items[k]->rc, &j->items[k]->why);
    for (unsigned k = 0; k < j->end_count; k++)
        dir_ended(g, j->ends[k], j->end_rc[k], &j->end_why[k]);
    if (--g->writing == 0 && is_idle(g))
        keel_event_set(&g->quiet);
}

static int writer_run(void *arg)
{
    struct get_job *j = arg;
    int rc;

    for (;;) {
        rc = keel_event_wait(&j->g->work, KEEL_FOREVER);
        if (rc < 0)
            return rc;
        if (!is_idle(j->g))
            job_do(j);
    }
}

int get_writers_start(struct getting *g, struct problem *why)
{
    struct keel_spawn how = {.name = "writer"};
    int rc = keel_group_new(0, &g->writers);

    how.group = g->writers;
    g->jobs = keel_calloc(WRITERS, sizeof(*g->jobs));
    if (!g->jobs)
        rc = -ENOMEM;
    for (int i = 0; i < WRITERS && rc == 0; i++) {
        g->jobs[i].g = g;
        rc = keel_spawn(&how, writer_run, &g->jobs[i], NULL);
    }
    return rc < 0 ? problem(why, NO_MEMORY) : 0;
}

void get_writers_finish(struct getting *g)
{
    /* Whatever happens: what is queued holds descriptors, and is whole. */
    keel_shield();
    while (!is_idle(g) || g->writing > 0)
        (void)keel_event_wait(&g->quiet, KEEL_FOREVER);
    keel_unshield();
}

void get_writers_stop(struct getting *g)
{
    keel_group_free(g->writers);
    g->writers = NULL;
    keel_free(g->jobs);
    g->jobs = NULL;
}
