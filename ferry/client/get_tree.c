/* SPDX-License-Identifier: MIT */
#include "client/get_tree.h"

#include <errno.h>
#include <string.h>

#include <keel/co.h>
#include <keel/file.h>

#include "client/get_inside.h"

/* Files that come by chunks, at once. */
#define LARGE_MOST 12

/* ---- what was asked for --------------------------------------------------------- */

struct stating {
    const struct place *place;
    struct remote_entry entry;
    char *target;
};

static int stat_task(struct session *s, void *arg, struct problem *why)
{
    struct stating *x = arg;

    keel_free(x->target);
    x->target = NULL;
    return remote_stat_place(s, x->place, &x->entry, &x->target, why);
}

/* A page with the one entry that was asked for, as a list would have it. */
static int page_of_one(const struct stating *x, const char *name,
                       struct walk_page **ret)
{
    size_t name_size = strlen(name) + 1;
    size_t target_size = x->target ? strlen(x->target) + 1 : 0;
    size_t size = sizeof(struct walk_page) + sizeof(struct walk_entry);
    struct walk_page *p = keel_alloc(size + name_size + target_size);
    char *text = (char *)p + size;

    if (!p)
        return -ENOMEM;
    *p = (struct walk_page){.refs = 1, .count = 1, .bytes = size};
    p->entries[0] = (struct walk_entry){
        .name = memcpy(text, name, name_size),
        .target = target_size ? memcpy(text + name_size, x->target, target_size)
                              : NULL,
        .size = x->entry.size,
        .mtime_ns = x->entry.mtime_ns,
        .mode = x->entry.mode,
        .type = x->entry.type,
        .hash = x->entry.hash,
        .root = x->entry.root,
    };
    *ret = p;
    return 0;
}

/* A space's root has no name of its own. */
static const char *name_of(const struct getting *g, const struct place *p)
{
    if (p->path.count > 0)
        return path_leaf(&p->path);
    return *p->space ? p->space : batch_session(g->batch)->profile.login.user;
}

/* Whether this very command began to make DEST. */
static bool goes_on(struct getting *g, const struct get_order *o,
                    const struct place *place)
{
    if (o->count > 1 || !g->c->recursive)
        return false;
    begun_of("get", &batch_session(g->batch)->profile.login, place->space,
             &place->path, o->dest, &g->begun);
    return begun_is(&g->begun);
}

/* DEST: an existing directory, or, of the only one that was asked for, its new
 * name. */
static int base_of(struct getting *g, const struct get_order *o,
                   const struct place *place, const char **ret_name,
                   char **ret_copy, struct local_dir **ret, struct problem *why)
{
    char *copy = keel_strdup(o->dest), *slash;
    size_t size = strlen(o->dest);
    struct path parent;
    int rc;

    if (!copy)
        return problem(why, NO_MEMORY);
    *ret_copy = copy;
    *ret_name = name_of(g, place);
    path_parent(&place->path, &parent);
    rc = goes_on(g, o, place)
             ? -ENOENT
             : get_base_open(g, o->dest, strcmp(o->dest, ".") ? o->dest : "",
                             parent.text, ret, why);
    if (rc != -ENOENT || o->count > 1)
        return rc;
    if (!g->c->dry_run)
        begun_set(&g->begun);
    while (size > 1 && copy[size - 1] == '/')
        copy[--size] = 0;
    slash = strrchr(copy, '/');
    *ret_name = slash ? slash + 1 : copy;
    if (slash)
        *slash = 0;
    rc = name_check(*ret_name, strlen(*ret_name), why);
    return rc < 0 ? rc
                  : get_base_open(g,
                                  !slash          ? "."
                                  : slash == copy ? "/"
                                                  : copy,
                                  slash ? copy : "", parent.text, ret, why);
}

static int get_directory(struct getting *g, const struct get_order *o,
                         const struct stating *x, struct problem *why)
{
    struct tour t = {.g = g,
                     .place = x->place,
                     /* a space's own directory has a mode of the server's */
                     .mode = x->place->path.count ? x->entry.mode : 0777,
                     .mtime_ns = x->entry.mtime_ns};
    keel_auto(str) char *copy = NULL;
    int rc = base_of(g, o, x->place, &t.name, &copy, &t.base, why);

    if (rc < 0)
        return rc;
    t.base->space = x->place->space;
    rc = get_tour(&t, why);
    get_dir_drop(g, t.base);
    return rc;
}

/* A link, or a file that keeps its name. */
static int get_entry(struct getting *g, const struct get_order *o,
                     const struct stating *x, struct problem *why)
{
    struct tour t = {.g = g, .place = x->place, .named = true};
    keel_auto(str) char *copy = NULL;
    struct walk_page *page = NULL;
    int rc = base_of(g, o, x->place, &t.name, &copy, &t.base, why);

    if (rc < 0)
        return rc;
    t.base->space = x->place->space;
    t.dir = t.base;
    rc = page_of_one(x, t.name, &page) < 0 ? problem(why, NO_MEMORY)
                                           : get_page(&t, page, why);
    walk_page_drop(page);
    get_dir_drop(g, t.base);
    return rc;
}

static int get_place(struct getting *g, const struct get_order *o,
                     const struct place *place, struct problem *why)
{
    struct stating x = {.place = place};
    char words[PROBLEM_TEXT_BYTES];
    int rc = batch_run(g->batch, stat_task, &x, why);

    place_print(place, words, sizeof(words));
    if (rc == 0 && x.entry.type == 'd' && !g->c->recursive)
        rc = problem(why, FILE_IS_DIRECTORY, .name = words);
    else if (rc == 0 && x.entry.type == 'd')
        rc = get_directory(g, o, &x, why);
    else if (rc == 0)
        rc = get_entry(g, o, &x, why);
    keel_free(x.target);
    return rc;
}

/* ---- the whole ------------------------------------------------------------------- */

static int getting_begin(struct getting *g, const struct get_order *o,
                         struct problem *why)
{
    *g = (struct getting){.c = o->c,
                          .order = o,
                          .batch = o->batch,
                          .hash = o->hash,
                          .pool = o->pool,
                          .sync_fd = -1};
    (void)local_mask(); /* there are no jobs yet */
    keel_semaphore_init(&g->large, LARGE_MOST, 0);
    keel_event_init(&g->room);
    keel_event_init(&g->work);
    keel_event_init(&g->quiet);
    STAILQ_INIT(&g->queue);
    STAILQ_INIT(&g->ends);
    g->failures = keel_calloc(FAILURES_KEPT, sizeof(*g->failures));
    if (!g->failures)
        return problem(why, NO_MEMORY);
    return get_writers_start(g, why);
}

static void getting_end(struct getting *g)
{
    get_writers_stop(g);
    for (unsigned k = 0; k < g->failures_kept; k++)
        keel_free(g->failures[k].path);
    keel_free(g->failures);
    keel_file_close(g->sync_fd);
    keel_semaphore_fini(&g->large);
    keel_event_fini(&g->room);
    keel_event_fini(&g->work);
    keel_event_fini(&g->quiet);
}

/* Several go into a directory, which is there. */
static int check_dest(const struct get_order *o, struct problem *why)
{
    int fd = o->count == 1
                 ? -1
                 : keel_file_open_any(o->dest, O_RDONLY | O_DIRECTORY, 0);

    if (o->count == 1)
        return 0;
    if (fd == -ENOTDIR)
        return problem(why, FILE_NOT_DIRECTORY, .name = o->dest);
    if (fd < 0)
        return problem(why, FILE_LOCAL, .errno_ = -fd, .name = o->dest);
    keel_file_close(fd);
    return 0;
}

/* Each is looked at and walked; what fails is one of many, unless it is the
 * server, or the disk. */
static int get_places(struct getting *g, const struct get_order *o,
                      struct problem *why)
{
    for (unsigned k = 0; k < o->count && !g->full; k++) {
        int rc = get_place(g, o, &o->places[k], why);

        if (rc >= 0)
            continue;
        if (batch_broken(g->batch) || o->count == 1 || g->full ||
            problem_exit_status(why) != 1)
            return rc;
        get_failed(g, NULL, o->places[k].path.text, why);
    }
    return 0;
}

/* One for all: until here a power cut may take any of them. */
static int get_sync(struct getting *g, const char *dest, struct problem *why)
{
    int rc =
        g->sync_fd < 0 || g->c->dry_run ? 0 : keel_file_sync_all(g->sync_fd);

    return rc < 0 ? problem(why, FILE_LOCAL, .errno_ = -rc, .name = dest) : 0;
}

static int get_all(struct getting *g, const struct get_order *o,
                   struct problem *why)
{
    struct problem end;
    int rc, joined;

    rc = get_places(g, o, why);
    if (rc < 0 && g->full && g->items + g->files > 0) {
        get_failed(g, o->dest, NULL, why); /* the rest of it */
        rc = 0;
    }
    joined = batch_join(g->batch, &end);
    get_writers_finish(g);
    if (joined < 0) { /* what the connection says is what matters */
        *why = end;
        return joined;
    }
    return rc < 0 ? rc : get_sync(g, o->dest, why);
}

static bool is_something(const struct getting *g)
{
    return g->files + g->dirs + g->links + g->unchanged > 0;
}

/* Nothing was done: then the last failure is the command's. */
static bool is_nothing(const struct getting *g)
{
    return g->failed > 0 && !is_something(g);
}

int get_tree(const struct get_order *o)
{
    struct problem *why = o->c->why;
    struct getting g;
    int rc = check_dest(o, why);

    if (rc < 0)
        return rc;
    rc = getting_begin(&g, o, why);

    if (rc == 0) {
        progress_start_tree(&g.progress, o->c);
        batch_progress(o->batch, &g.progress);
        get_count_start(&g);
        rc = get_all(&g, o, why);
        get_count_stop(&g);
        progress_counted(&g.progress);
        progress_stop(&g.progress);
        batch_progress(o->batch, NULL);
        if (rc == 0 && is_nothing(&g)) {
            *why = g.last;
            get_failures_but_last(&g);
            rc = -problem_row(why->id)->errno_;
        } else if (rc == 0 || is_something(&g)) {
            rc = get_summary(&g, rc);
            if (rc == 0 && !o->c->dry_run)
                begun_drop(&g.begun);
        } else {
            get_failures(&g);
        }
    }
    getting_end(&g);
    return rc;
}
