/* SPDX-License-Identifier: MIT */
#include "client/put_tree.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <keel/thread.h>

#include "client/put_inside.h"
#include "client/text.h"

#define BUNCHES_AHEAD 4
#define READERS 4
#define MAKERS 128
#define LARGE_AT_ONCE 2
/* So many sources are looked for one by one; for more the directory is listed. */
#define LOOKED_FOR 16

/* ---- a bunch ------------------------------------------------------------------------ */

/* What lies in a directory that could not be made is not said again. */
static void item_without_node(struct tree *t, struct item *i)
{
    node_read(i->node);
    progress_file_done(&t->progress);
    item_free(i);
}

/* The items from `from` on whose directories are there; the others are let go.
 * Returns the index behind them. */
static unsigned run_ready(struct tree *t, struct bunch *b, unsigned from)
{
    unsigned at = from;

    for (; at < b->count; at++) {
        struct item *i = &b->items[at];

        if (i->kind <= WALK_LEAVE)
            continue;
        if (node_wait(i->node) == NODE_READY && !batch_broken(t->o->batch))
            continue;
        if (at > from)
            break; /* first what can be done */
        item_without_node(t, i);
        i->kind = WALK_LEAVE; /* and without a node */
        from = at + 1;
    }
    return at;
}

static int reader_run(void *arg)
{
    struct bunch *b = arg;
    struct tree *t = b->tree;
    unsigned at = 0;

    while (at < b->count) {
        unsigned to = run_ready(t, b, at);

        while (at < to) {
            unsigned done = put_read(t, b->items, at, to);

            for (; at < done; at++) {
                struct item *i = &b->items[at];

                if (i->kind > WALK_LEAVE)
                    put_send(t, i);
                else
                    item_free(i); /* LEAVE */
            }
        }
    }
    keel_free(b);
    return 0;
}

static void bunch_take(struct tree *t, struct bunch *b)
{
    struct keel_spawn how = {.name = "reader", .group = t->readers};

    /* In the order of the walk: a directory before what is in it. */
    for (unsigned i = 0; i < b->count; i++) {
        if (b->items[i].kind == WALK_ENTER) {
            node_make(b->items[i].node);
            b->items[i].node = NULL;
        }
    }
    if (keel_spawn(&how, reader_run, b, NULL) < 0)
        reader_run(b);
}

/* ---- the sources' directory ---------------------------------------------------------- */

static int names_order(const void *a, const void *b)
{
    return strcmp(a, b);
}

/* Two sources of one name would take each other's place. */
static int names_check(const struct put_order *o, struct problem *why)
{
    char(*names)[NAME_BYTES + 1] =
        keel_calloc((size_t)o->count, NAME_BYTES + 1);
    char detail[PROBLEM_TEXT_BYTES + 64];
    int rc = 0;

    if (!names)
        return problem(why, NO_MEMORY);
    for (int i = 0; i < o->count; i++)
        source_name(o, o->sources[i], names[i]);
    qsort(names, (size_t)o->count, NAME_BYTES + 1, names_order);
    for (int i = 1; i < o->count && rc == 0; i++) {
        if (strcmp(names[i], names[i - 1]) != 0)
            continue;
        snprintf(detail, sizeof(detail),
                 _("two sources have the name '%.180s'"), names[i]);
        rc = problem(why, USAGE, .detail = detail);
    }
    keel_free(names);
    return rc;
}

static int base_know(struct session *s, void *arg, struct problem *why)
{
    struct tree *t = arg;
    struct node *base = t->base;
    int rc = 0;

    known_free(base->known);
    base->known = NULL;
    if (t->o->count > LOOKED_FOR) {
        rc = known_list(s, t->o->space, base->path, &base->known, why);
        /* Who may only drop learns nothing of what is there. */
        if (rc == 0 || why->id != PROBLEM_RIGHT_MISSING)
            return rc;
        memset(why, 0, sizeof(*why));
    }
    if (known_new(&base->known) < 0)
        return problem(why, NO_MEMORY);
    if (t->o->count > LOOKED_FOR)
        return 0;
    for (int i = 0; i < t->o->count && rc == 0; i++) {
        char name[NAME_BYTES + 1];
        struct path path;

        source_name(t->o, t->o->sources[i], name);
        /* A name that cannot be one is the walk's to tell. */
        if (node_path(base, name, &path, NULL) == 0)
            rc = known_stat(base->known, s, t->o->space, &path, why);
    }
    return rc;
}

static int base_new(struct tree *t, struct problem *why)
{
    int rc = node_new(t, NULL, "", "", -1, &t->base, why);

    if (rc < 0)
        return rc;
    rc = t->c->dry_run ? batch_run(t->o->batch, put_would_look, t, why) : 0;
    if (rc == 0)
        rc = batch_run(t->o->batch, base_know, t, why);
    node_settle(t->base, NODE_READY);
    return rc;
}

/* ---- the whole ---------------------------------------------------------------------------- */

static int tree_init(struct tree *t, const struct put_order *o,
                     struct problem *why)
{
    int rc = cli_hash(o->c, &t->hash, why);

    if (rc == 0)
        rc = names_check(o, why);
    if (rc < 0)
        return rc;
    t->o = o;
    t->c = o->c;
    report_init(&t->report);
    keel_event_init(&t->room);
    keel_event_init(&t->finished);
    if (buffer_pool_new(UPLOAD_BUFFERS, &t->pool) < 0 ||
        keel_queue_new(BUNCHES_AHEAD, KEEL_QUEUE_SHARED, &t->bunches) < 0 ||
        keel_group_new(t->c->dry_run ? 1 : READERS, &t->readers) < 0 ||
        keel_group_new(MAKERS, &t->makers) < 0 ||
        keel_group_new(LARGE_AT_ONCE, &t->large) < 0)
        return problem(why, NO_MEMORY);
    return base_new(t, why);
}

static void tree_fini(struct tree *t)
{
    keel_group_free(t->readers);
    keel_group_free(t->makers);
    keel_group_free(t->large);
    keel_queue_free(t->bunches);
    if (t->pool)
        buffer_pool_free(t->pool);
    if (t->base) {
        known_free(t->base->known);
        keel_free(t->base->path);
        keel_free(t->base->local);
        keel_free(t->base);
    }
}

static void bunch_forget(void *item)
{
    struct bunch *b = item;

    for (unsigned i = 0; i < b->count; i++) {
        struct item *one = &b->items[i];

        if (one->kind > WALK_LEAVE)
            node_read(one->node);
        else if (one->kind == WALK_ENTER)
            node_settle(one->node, NODE_FAILED);
        item_free(one);
    }
    keel_free(b);
}

static int tree_run(struct tree *t, struct problem *why)
{
    void *bunch;
    int rc = 0;

    while (keel_queue_get(t->bunches, KEEL_FOREVER, &bunch) == 0) {
        bunch_take(t, bunch);
        if (batch_broken(t->o->batch))
            break;
    }
    if (batch_broken(t->o->batch)) {
        atomic_store(&t->stop, true);
        keel_queue_close_now(t->bunches, bunch_forget);
    }
    keel_group_join(t->readers, KEEL_FOREVER);
    keel_group_join(t->large, KEEL_FOREVER);
    rc = batch_join(t->o->batch, why);
    keel_group_join(t->makers, KEEL_FOREVER);
    return rc;
}

static int tree_walk(struct tree *t, struct problem *why)
{
    struct keel_thread *walker = NULL, *counter = NULL;
    int rc;

    rc = keel_thread_start("walk", put_walk_run, t, &walker);
    if (rc < 0)
        return problem(why, NO_MEMORY);
    if (t->progress.shown)
        (void)keel_thread_start("count", put_count_run, t, &counter);
    rc = tree_run(t, why);
    keel_thread_join(walker, KEEL_FOREVER, NULL);
    node_release(t->base);
    keel_event_wait(&t->finished, KEEL_FOREVER);
    /* What the last of them had begun. */
    keel_group_join(t->makers, KEEL_FOREVER);
    if (rc == 0)
        rc = batch_join(t->o->batch, why);
    atomic_store(&t->stop, true);
    if (counter)
        keel_thread_join(counter, KEEL_FOREVER, NULL);
    return rc == 0 && atomic_load(&t->starved) ? problem(why, NO_MEMORY) : rc;
}

int put_tree(const struct put_order *o)
{
    struct tree t = {.o = NULL};
    int rc = tree_init(&t, o, o->c->why);

    if (rc == 0) {
        progress_start_tree(&t.progress, o->c);
        batch_progress(o->batch, &t.progress);
        rc = tree_walk(&t, o->c->why);
        batch_progress(o->batch, NULL);
        progress_stop(&t.progress);
        rc = report_end(&t, rc);
    }
    tree_fini(&t);
    return rc;
}
