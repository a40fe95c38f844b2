/* SPDX-License-Identifier: MIT */
/* The walk through a tree of the server: which of it is fetched, and where it
 * goes. */
#include <errno.h>
#include <string.h>
#include <sys/stat.h>

#include <keel/co.h>
#include <keel/file.h>

#include "client/filter.h"
#include "client/get_inside.h"

/* Descriptors of directories that are being filled. */
#define DIRS_MOST 384
/* Larger ones look for their room themselves, and may have holes. */
#define ROOM_CHECKED ((uint64_t)4 << 20)

/* ---- what is there already --------------------------------------------------------------- */

struct looking {
    const struct local_dir *dir;
    const struct walk_page *page;
    bool *same;
    uint64_t room; /* on the disk; UINT64_MAX: not known */
};

static bool is_same(const struct walk_entry *e, const struct statx *st)
{
    return S_ISREG(st->stx_mode) && st->stx_size == e->size &&
           st->stx_mtime.tv_sec * KEEL_SECOND + st->stx_mtime.tv_nsec ==
               e->mtime_ns;
}

/* The content is the same; its mode may have been changed since. */
static void set_mode(int dir, const struct walk_entry *e,
                     const struct statx *st)
{
    int fd;

    if ((st->stx_mode & 0777) == (e->mode & local_mask()))
        return;
    fd = keel_file_open(dir, e->name, O_RDONLY | O_NONBLOCK, 0);
    if (fd < 0)
        return;
    (void)keel_file_chmod(fd, e->mode & local_mask());
    keel_file_close(fd);
}

static int look_job(void *arg)
{
    struct looking *l = arg;
    struct statfs fs;
    struct statx st;

    if (keel_file_statfs(l->dir->fd, &fs) == 0 && fs.f_blocks > 0)
        l->room = (uint64_t)fs.f_bavail *
                  (uint64_t)(fs.f_frsize ? fs.f_frsize : fs.f_bsize);
    for (unsigned k = 0; k < l->page->count && !l->dir->fresh; k++) {
        const struct walk_entry *e = &l->page->entries[k];

        if (e->type != 'f' || keel_file_stat(l->dir->fd, e->name, &st) < 0)
            continue;
        l->same[k] = is_same(e, &st);
        if (l->same[k])
            set_mode(l->dir->fd, e, &st);
    }
    return 0;
}

/* ---- files and links ------------------------------------------------------------------------ */

static struct item *item_new(const struct tour *t, struct walk_page *page,
                             const struct walk_entry *e)
{
    struct item *i = keel_calloc(1, sizeof(*i));

    if (!i)
        return NULL;
    i->g = t->g;
    i->space = t->place->space;
    i->dir = get_dir_hold(t->dir);
    i->page = page;
    walk_page_hold(page);
    i->name = e->name;
    i->target = e->target;
    i->kind = e->type == 'l' ? ITEM_LINK : ITEM_FILE;
    i->entry.type = e->type;
    i->entry.size = e->size;
    i->entry.mtime_ns = e->mtime_ns;
    i->entry.mode = e->mode;
    i->entry.hash = e->hash;
    i->entry.root = e->root;
    return i;
}

static int entry_failed(struct getting *g, const struct local_dir *dir,
                        const struct walk_entry *e, const struct problem *why)
{
    char local[SHOWN_BYTES], remote[SHOWN_BYTES];

    get_path(dir->local, e->name, local);
    get_path(dir->remote, e->name, remote);
    get_failed(g, local, remote, why);
    return 0;
}

/* One entry that is no directory. */
static int entry_get(const struct tour *t, struct walk_page *page,
                     const struct walk_entry *e, struct problem *why)
{
    struct getting *g = t->g;
    struct problem odd;
    struct item *i;

    if (e->type != 'f' && !(e->type == 'l' && e->target)) {
        problem(&odd, FILE_NOT_REGULAR, .name = e->name);
        return entry_failed(g, t->dir, e, &odd);
    }
    if (g->c->dry_run) {
        get_told_would(g, t->dir, e);
        return 0;
    }
    i = item_new(t, page, e);
    if (!i)
        return problem(why, NO_MEMORY);
    if (i->kind == ITEM_FILE)
        return get_fetch(i, why);
    g->items++;
    get_write(i);
    return 0;
}

/* ---- pages ------------------------------------------------------------------------------------ */

/* Filters look at the path within the tree. */
bool get_kept(const struct getting *g, const struct place *place,
              const char *remote, const char *name, bool directory)
{
    const struct cli *c = g->c;
    size_t root = place->path.size;
    char path[SHOWN_BYTES];

    if (c->filter_count == 0)
        return true;
    get_path(remote, name, path);
    return filter_keeps(c->filters, c->filter_count, path + root + (root > 0),
                        directory);
}

static bool is_kept(const struct tour *t, const char *remote, const char *name,
                    bool directory)
{
    return t->named || get_kept(t->g, t->place, remote, name, directory);
}

/* What the page's small files need is compared with what there is, before the
 * first of them moves. */
static int page_room(struct tour *t, const struct looking *l,
                     struct problem *why)
{
    struct getting *g = t->g;
    uint64_t need = g->held;

    for (unsigned k = 0; k < l->page->count; k++) {
        const struct walk_entry *e = &l->page->entries[k];

        if (e->type == 'f' && !l->same[k] && e->size < ROOM_CHECKED &&
            is_kept(t, t->dir->remote, e->name, false))
            need += e->size;
    }
    if (need <= l->room)
        return 0;
    g->full = true;
    return problem(why, DISK_FULL, .bytes = l->room, .size = need);
}

static int page_look(struct tour *t, struct looking *l, struct problem *why)
{
    int rc;

    if (l->dir->fd < 0)
        return 0;
    rc = keel_blocking(look_job, l);
    if (rc == -EAGAIN)
        rc = look_job(l);
    return t->g->c->dry_run ? 0 : page_room(t, l, why);
}

int get_page(struct tour *t, struct walk_page *page, struct problem *why)
{
    struct getting *g = t->g;
    keel_auto(mem) void *memory = keel_calloc(page->count + 1u, sizeof(bool));
    struct looking l = {t->dir, page, memory, UINT64_MAX};
    int rc;

    if (!memory)
        return problem(why, NO_MEMORY);
    rc = page_look(t, &l, why);
    for (unsigned k = 0; k < page->count && rc == 0 && !g->full; k++) {
        const struct walk_entry *e = &page->entries[k];

        if (!is_kept(t, t->dir->remote, e->name, false))
            continue;
        if (!g->counted_ahead)
            progress_count(&g->progress, 1, e->type == 'f' ? e->size : 0);
        if (l.same[k]) {
            get_told_same(g, t->dir, e);
            continue;
        }
        rc = entry_get(t, page, e, why);
    }
    return rc;
}

/* ---- the walk ------------------------------------------------------------------------------------ */

struct asking {
    const char *space;
    const struct path *dir;
    const char *after;
    json_t **ret;
};

static int ask_task(struct session *s, void *arg, struct problem *why)
{
    struct asking *a = arg;
    json_t *fields = path_fields_in(a->space, a->dir);

    if (!fields ||
        (*a->after &&
         json_object_set_new(fields, "after",
                             text_to_json(a->after, strlen(a->after))) < 0)) {
        json_decref(fields);
        return problem(why, NO_MEMORY);
    }
    return link_ask(s->link, "list", fields, KEEL_FOREVER, a->ret, why);
}

int get_ask(struct getting *g, const char *space, const struct path *dir,
            const char *after, json_t **ret_ok, struct problem *why)
{
    struct asking a = {space, dir, after, ret_ok};

    return batch_run(g->batch, ask_task, &a, why);
}

static int ask(void *arg, const struct path *dir, const char *after,
               json_t **ret_ok, struct problem *why)
{
    struct tour *t = arg;

    return get_ask(t->g, t->place->space, dir, after, ret_ok, why);
}

static int wait_dirs(struct getting *g)
{
    int rc = 0;

    while (rc == 0 && g->dirs_open >= DIRS_MOST) {
        keel_event_clear(&g->room);
        rc = keel_event_wait(&g->room, KEEL_FOREVER);
    }
    return rc;
}

static int tour_enter(struct tour *t, struct remote_walk *w,
                      const struct remote_step *step, struct problem *why)
{
    struct getting *g = t->g;
    const struct walk_entry *e = step->entry;
    struct local_dir *parent = t->dir ? t->dir : t->base, *d = NULL;
    const char *name = e ? e->name : t->name;
    struct problem here;
    int rc;

    if (e && !is_kept(t, step->path->text, "", true)) {
        remote_walk_skip(w);
        return 0;
    }
    if (wait_dirs(g) < 0)
        return problem(why, CANCELLED);
    rc = get_dir_enter(g, parent, name, step->path->text, &d, &here);
    if (rc < 0) {
        char path[SHOWN_BYTES];

        get_path(parent->local, name, path);
        get_failed(g, path, step->path->text, &here);
        remote_walk_skip(w);
        return 0;
    }
    d->ends = true;
    d->mode = e ? e->mode : t->mode;
    d->mtime_ns = e ? e->mtime_ns : t->mtime_ns;
    t->dir = d;
    get_told_directory(g, d);
    return 0;
}

static void tour_leave(struct tour *t)
{
    struct local_dir *d = t->dir;

    t->dir = d->parent == t->base ? NULL : d->parent;
    get_dir_drop(t->g, d);
}

static void tour_failed(struct tour *t, const struct remote_step *step,
                        const struct problem *why)
{
    const struct local_dir *at = t->dir ? t->dir : t->base;
    char path[SHOWN_BYTES];

    get_path(at->local, step->entry ? step->entry->name : "", path);
    get_failed(t->g, path, NULL, why);
}

static int tour_step(struct tour *t, struct remote_walk *w,
                     const struct remote_step *step, struct problem *why)
{
    switch (step->kind) {
    case REMOTE_ENTER:
        return tour_enter(t, w, step, why);
    case REMOTE_PAGE:
        return get_page(t, step->page, why);
    case REMOTE_LEAVE:
        tour_leave(t);
        return 0;
    case REMOTE_FAILED:
        tour_failed(t, step, why);
        return 0;
    }
    return 0;
}

int get_tour(struct tour *t, struct problem *why)
{
    keel_auto(remote_walk) struct remote_walk *w = NULL;
    struct remote_step step;
    int rc = remote_walk_new(&t->place->path, ask, t, &w, why);

    while (rc >= 0 && !t->g->full) {
        rc = remote_walk_next(w, &step, why);
        if (rc <= 0)
            break;
        rc = tour_step(t, w, &step, why);
    }
    while (t->dir) { /* ended early: what is there gets its mode all the same */
        t->dir->ends = t->dir->fresh;
        tour_leave(t);
    }
    return rc;
}
