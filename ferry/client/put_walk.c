/* SPDX-License-Identifier: MIT */
#include <errno.h>
#include <stdio.h>
#include <string.h>

#include <keel/file.h>

#include "client/put_inside.h"

/* Ends the walk: nobody wants more, or there is no memory. */
#define WALK_STOP 1

/* Invariant: `at` is the directory that is being walked, base at the end. */
struct producer {
    struct tree *t;
    struct bunch *bunch;
    struct node *at;
};

/* ---- handing over ---------------------------------------------------------------- */

static void bunch_drop(struct bunch *b)
{
    for (unsigned i = 0; i < b->count; i++) {
        struct item *item = &b->items[i];

        if (item->kind != WALK_LEAVE && item->kind != WALK_ENTER)
            node_read(item->node);
        item_free(item);
    }
    keel_free(b);
}

static int bunch_flush(struct producer *p)
{
    struct bunch *b = p->bunch;

    p->bunch = NULL;
    if (!b)
        return 0;
    if (keel_queue_put(p->t->bunches, b, KEEL_FOREVER) == 0)
        return 0;
    bunch_drop(b);
    return WALK_STOP;
}

/* Takes `i`, whose node has been told of the use. */
static int item_put(struct producer *p, struct item *i)
{
    if (!p->bunch) {
        p->bunch = keel_alloc(sizeof(*p->bunch));
        if (p->bunch) {
            p->bunch->tree = p->t;
            p->bunch->count = 0;
        }
    }
    if (!p->bunch || (i->kind > WALK_LEAVE && !i->name)) {
        atomic_store(&p->t->starved, true);
        atomic_store(&p->t->stop, true);
        if (i->kind != WALK_LEAVE && i->kind != WALK_ENTER)
            node_read(i->node);
        item_free(i);
        return WALK_STOP;
    }
    p->bunch->items[p->bunch->count++] = *i;
    return p->bunch->count == BUNCH_ITEMS ? bunch_flush(p) : 0;
}

static int tell_problem(struct producer *p, const char *name,
                        const char *source, const struct problem *why)
{
    struct item i = {.kind = WALK_PROBLEM,
                     .node = p->at,
                     .name = keel_strdup(name),
                     .source = source,
                     .why = keel_alloc(sizeof(*why))};

    if (i.why)
        *i.why = *why;
    node_use(p->at, true);
    return item_put(p, &i);
}

static int tell_name(struct producer *p, enum walk_kind kind, const char *name,
                     const char *source)
{
    struct item i = {.kind = kind,
                     .node = p->at,
                     .name = keel_strdup(name),
                     .source = source};

    node_use(p->at, true);
    return item_put(p, &i);
}

static int enter(struct producer *p, const char *name, const char *local,
                 int fd)
{
    struct item i = {.kind = WALK_ENTER};
    struct problem why;
    struct node *n;
    int rc = node_new(p->t, p->at, name, local, fd, &n, &why);

    if (rc < 0)
        return tell_problem(p, name, NULL, &why) ? WALK_STOP : -1;
    node_use(p->at, false);
    node_use(n, false);
    p->at = n;
    i.node = n;
    rc = item_put(p, &i);
    if (rc == 0)
        return 0;
    p->at = n->parent;
    node_read(n);
    node_release(n);
    return rc;
}

static int leave(struct producer *p)
{
    struct item i = {.kind = WALK_LEAVE, .node = p->at};
    struct node *n = p->at;

    p->at = n->parent;
    node_read(n);
    return item_put(p, &i);
}

/* ---- one tree ---------------------------------------------------------------------- */

struct tree_walk {
    struct producer *p;
    const char *name; /* of the root, there */
    const char *local;
    bool entered;
};

static int walk_one(const struct walk_event *e, void *arg)
{
    struct tree_walk *w = arg;
    struct producer *p = w->p;
    char local[PATH_BYTES * 2];
    int rc;

    if (e->kind == WALK_LEAVE) {
        leave(p);
        return 0;
    }
    if (atomic_load(&p->t->stop))
        return WALK_STOP;
    switch (e->kind) {
    case WALK_ENTER:
        if (e->dir < 0)
            snprintf(local, sizeof(local), "%s", w->local);
        else
            node_local(p->at, e->name, local, sizeof(local));
        rc = enter(p, e->dir < 0 ? w->name : e->name, local, e->self);
        /* -1: said already; there is nothing inside for us. */
        return rc < 0 ? WALK_SKIP : rc;
    case WALK_PROBLEM:
        return tell_problem(p, e->name, NULL, e->why);
    default:
        return tell_name(p, e->kind, e->name, NULL);
    }
}

/* ---- the sources ----------------------------------------------------------------------- */

/* Their content goes to the target itself. */
static bool nameless(const char *name)
{
    return !*name || strcmp(name, ".") == 0 || strcmp(name, "..") == 0;
}

void source_name(const struct put_order *o, const char *source,
                 char ret[NAME_BYTES + 1])
{
    size_t size = strlen(source), from;

    while (size > 0 && source[size - 1] == '/')
        size--;
    for (from = size; from > 0 && source[from - 1] != '/';)
        from--;
    if (o->as)
        snprintf(ret, NAME_BYTES + 1, "%s", o->as);
    else
        snprintf(ret, NAME_BYTES + 1, "%.*s", (int)(size - from),
                 source + from);
}

static struct walk_options options_of(const struct tree *t, const char *source,
                                      const char *name)
{
    return (struct walk_options){
        .filters = t->c->filters,
        .filter_count = t->c->filter_count,
        .base_depth = t->o->target->count + (*name != 0),
        .base_size = t->o->target->size + strlen(name) + 1,
        .name = source,
    };
}

static int source_type(const struct tree *t, const char *source, mode_t *ret)
{
    /* Without -r a link is what it leads to, as for cp. */
    int flags = O_PATH | (t->c->recursive ? O_NOFOLLOW : 0);
    int fd = keel_file_open_any(source, flags, 0), rc;
    struct statx st;

    if (fd < 0)
        return fd;
    rc = keel_file_stat(fd, NULL, &st);
    keel_file_close(fd);
    if (rc == 0)
        *ret = st.stx_mode;
    return rc;
}

static int source_walk(struct producer *p, const char *source, const char *name)
{
    struct tree_walk w = {.p = p, .name = name, .local = source};
    struct walk_options o = options_of(p->t, source, name);
    struct problem why;
    int fd = keel_file_open_any(source, O_RDONLY | O_DIRECTORY, 0), rc;

    if (fd < 0) {
        problem(&why, FILE_LOCAL, .errno_ = -fd, .name = source);
        return tell_problem(p, name, source, &why);
    }
    rc = walk(&o, fd, walk_one, &w);
    keel_file_close(fd);
    if (rc >= 0)
        return rc;
    problem(&why, FILE_LOCAL, .errno_ = -rc, .name = source);
    return tell_problem(p, name, source, &why);
}

static int source_one(struct producer *p, const char *source)
{
    struct tree *t = p->t;
    char name[NAME_BYTES + 1];
    struct problem why;
    mode_t mode = 0;
    int rc = source_type(t, source, &mode);

    source_name(t->o, source, name);
    if (rc < 0)
        problem(&why, FILE_LOCAL, .errno_ = -rc, .name = source);
    else if (S_ISDIR(mode) && !t->c->recursive)
        rc = problem(&why, FILE_IS_DIRECTORY, .name = source);
    if (rc < 0)
        return tell_problem(p, name, source, &why);
    if (S_ISDIR(mode))
        return source_walk(p, source, nameless(name) ? "" : name);
    return tell_name(p,
                     S_ISREG(mode)   ? WALK_FILE
                     : S_ISLNK(mode) ? WALK_LINK
                                     : WALK_OTHER,
                     name, source);
}

int put_walk_run(void *arg)
{
    struct tree *t = arg;
    struct producer p = {.t = t, .at = t->base};
    int rc = 0;

    for (int i = 0; i < t->o->count && rc == 0; i++)
        rc = source_one(&p, t->o->sources[i]);
    rc = bunch_flush(&p);
    keel_queue_close(t->bunches);
    return rc;
}

/* ---- counting -------------------------------------------------------------------------- */

static int count_one(const struct walk_event *e, void *arg)
{
    struct tree *t = arg;
    struct statx st;

    if (atomic_load(&t->stop))
        return WALK_STOP;
    if (e->kind == WALK_LINK)
        progress_count(&t->progress, 1, 0);
    else if (e->kind == WALK_FILE && keel_file_stat(e->dir, e->name, &st) == 0)
        progress_count(&t->progress, 1, st.stx_size);
    return 0;
}

static void count_source(struct tree *t, const char *source)
{
    struct walk_options o = options_of(t, source, "");
    struct statx st;
    mode_t mode;
    int fd;

    if (source_type(t, source, &mode) < 0)
        return;
    if (S_ISLNK(mode))
        progress_count(&t->progress, 1, 0);
    if (!S_ISREG(mode) && !S_ISDIR(mode))
        return;
    fd = keel_file_open_any(source, O_RDONLY | O_NONBLOCK, 0);
    if (fd < 0)
        return;
    if (S_ISDIR(mode))
        (void)walk(&o, fd, count_one, t);
    else if (keel_file_stat(fd, NULL, &st) == 0)
        progress_count(&t->progress, 1, st.stx_size);
    keel_file_close(fd);
}

int put_count_run(void *arg)
{
    struct tree *t = arg;

    progress_count(&t->progress, 0, 0);
    for (int i = 0; i < t->o->count && !atomic_load(&t->stop); i++)
        count_source(t, t->o->sources[i]);
    progress_counted(&t->progress);
    return 0;
}
