/* SPDX-License-Identifier: MIT */
/* How much there is to fetch, found by a walk of its own that runs ahead: the
 * one that fetches is never far ahead of its files. */
#include <string.h>

#include <keel/co.h>

#include "client/filter.h"
#include "client/get_inside.h"

struct counting {
    struct getting *g;
    const struct place *place;
    struct remote_entry entry;
};

static int stat_task(struct session *s, void *arg, struct problem *why)
{
    struct counting *n = arg;

    return remote_stat_place(s, n->place, &n->entry, NULL, why);
}

static int ask(void *arg, const struct path *dir, const char *after,
               json_t **ret_ok, struct problem *why)
{
    struct counting *n = arg;

    return get_ask(n->g, n->place->space, dir, after, ret_ok, why);
}

static void count_page(struct counting *n, const struct path *dir,
                       const struct walk_page *page)
{
    uint64_t files = 0, bytes = 0;

    for (unsigned k = 0; k < page->count; k++) {
        const struct walk_entry *e = &page->entries[k];

        if (!get_kept(n->g, n->place, dir->text, e->name, false))
            continue;
        files++;
        bytes += e->type == 'f' ? e->size : 0;
    }
    progress_count(&n->g->progress, files, bytes);
}

static int count_tree(struct counting *n)
{
    keel_auto(remote_walk) struct remote_walk *w = NULL;
    struct remote_step step;
    struct problem why;
    int rc = remote_walk_new(&n->place->path, ask, n, &w, &why);

    while (rc >= 0) {
        rc = remote_walk_next(w, &step, &why);
        if (rc <= 0)
            break;
        if (step.kind == REMOTE_PAGE)
            count_page(n, step.path, step.page);
        else if (step.kind == REMOTE_ENTER && step.entry &&
                 !get_kept(n->g, n->place, step.path->text, "", true))
            remote_walk_skip(w);
    }
    return rc;
}

/* What cannot be counted is told by who fetches it; the line goes on without a
 * total. */
static int count_run(void *arg)
{
    struct getting *g = arg;
    struct problem why;
    int rc = 0;

    progress_count(&g->progress, 0, 0);
    for (unsigned k = 0; k < g->order->count && rc >= 0; k++) {
        struct counting n = {.g = g, .place = &g->order->places[k]};

        rc = batch_run(g->batch, stat_task, &n, &why);
        if (rc == 0 && n.entry.type == 'd')
            rc = count_tree(&n);
        else if (rc == 0)
            progress_count(&g->progress, 1,
                           n.entry.type == 'f' ? n.entry.size : 0);
    }
    if (rc >= 0)
        progress_counted(&g->progress);
    return 0;
}

void get_count_start(struct getting *g)
{
    struct keel_spawn how = {.name = "count"};

    /* Only a line on the terminal shows it. */
    if (!g->progress.shown || g->c->dry_run || !g->c->recursive)
        return;
    if (keel_group_new(0, &g->counters) < 0)
        return;
    how.group = g->counters;
    g->counted_ahead = keel_spawn(&how, count_run, g, NULL) == 0;
}

void get_count_stop(struct getting *g)
{
    if (!g->counters)
        return;
    keel_group_cancel(g->counters);
    (void)keel_group_join(g->counters, KEEL_FOREVER);
    keel_group_free(g->counters);
    g->counters = NULL;
}
