/* SPDX-License-Identifier: MIT */
#include "client/get_tree.h"

#include <errno.h>
#include <string.h>
#include <sys/stat.h>

#include <keel/co.h>
#include <keel/file.h>

#include "client/filter.h"
#include "client/getting.h"

/* Descriptors of directories that are being filled. */
#define DIRS_MOST 384
/* Files that come by chunks, at once. */
#define LARGE_MOST 12
/* Larger ones look for their room themselves, and may have holes. */
#define ROOM_CHECKED ((uint64_t)4 << 20)

/* ---- the destination --------------------------------------------------------------- */

/* Paths are behind the struct: for words and for requests. */
static struct local_dir *dir_new(const char *remote, const char *local)
{
    size_t remote_size = strlen(remote) + 1, local_size = strlen(local) + 1;
    struct local_dir *d = keel_calloc(1, sizeof(*d) + remote_size + local_size);
    char *text;

    if (!d)
        return NULL;
    text = (char *)(d + 1);
    memcpy(text, remote, remote_size);
    memcpy(text + remote_size, local, local_size);
    d->remote = text;
    d->local = text + remote_size;
    d->refs = 1;
    d->fd = -1;
    return d;
}

struct entering {
    const char *name;
    int dir;
    bool dry;
    struct local_entered entered;
    struct problem *why;
};

static int enter_dry(struct entering *e)
{
    struct statx st;
    int fd = -ENOENT;

    e->entered = (struct local_entered){.fd = -1, .fresh = true};
    if (e->dir >= 0)
        fd = keel_file_open(e->dir, e->name, O_RDONLY | O_DIRECTORY, 0);
    if (fd == -ENOENT)
        return 0;
    if (fd == -ENOTDIR)
        return problem(e->why, FILE_NOT_DIRECTORY, .name = e->name);
    if (fd < 0)
        return local_problem(e->dir, e->name, 0, fd, e->why);
    e->entered.fd = fd;
    e->entered.fresh = false;
    if (keel_file_stat(fd, NULL, &st) == 0)
        e->entered.device = (uint64_t)st.stx_dev_major << 32 | st.stx_dev_minor;
    return 0;
}

static int enter_job(void *arg)
{
    struct entering *e = arg;

    return e->dry ? enter_dry(e)
                  : local_dir_enter(e->dir, e->name, &e->entered, e->why);
}

/* Directory `name` of `parent`, made if it is not there. */
static int dir_enter(struct getting *g, struct local_dir *parent,
                     const char *name, const char *remote,
                     struct local_dir **ret, struct problem *why)
{
    struct entering e = {name, parent->fd, g->c->dry_run, {.fd = -1}, why};
    char local[SHOWN_BYTES];
    struct local_dir *d;
    int rc;

    get_path(parent->local, name, local);
    d = dir_new(remote, local);
    if (!d)
        return problem(why, NO_MEMORY);
    rc = keel_blocking(enter_job, &e);
    if (rc < 0) {
        keel_free(d);
        return rc == -EAGAIN ? problem(why, NO_MEMORY) : rc;
    }
    d->fd = e.entered.fd;
    d->device = e.entered.device;
    d->fresh = e.entered.fresh;
    d->parent = get_dir_hold(parent);
    g->dirs_open++;
    *ret = d;
    return 0;
}

/* Where all goes: an existing directory. */
static int base_open(struct getting *g, const char *path, const char *words,
                     const char *remote, struct local_dir **ret,
                     struct problem *why)
{
    struct statx st;
    struct local_dir *d = dir_new(remote, words);
    int rc;

    if (!d)
        return problem(why, NO_MEMORY);
    d->fd = keel_file_open_any(path, O_RDONLY | O_DIRECTORY, 0);
    rc = d->fd < 0 ? d->fd : keel_file_stat(d->fd, NULL, &st);
    if (rc == 0 && g->sync_fd < 0) {
        g->sync_fd = keel_file_open(d->fd, ".", O_RDONLY | O_DIRECTORY, 0);
        rc = g->sync_fd < 0 ? g->sync_fd : 0;
    }
    if (rc < 0) {
        keel_file_close(d->fd);
        keel_free(d);
        return rc == -ENOTDIR
                   ? problem(why, FILE_NOT_DIRECTORY, .name = path)
                   : problem(why, FILE_LOCAL, .errno_ = -rc, .name = path);
    }
    d->device = (uint64_t)st.stx_dev_major << 32 | st.stx_dev_minor;
    g->dirs_open++;
    *ret = d;
    return 0;
}

/* One thing that was asked for, on its way. */
struct tour {
    struct getting *g;
    const struct place *place;
    struct local_dir *base, *dir;
    const char *name; /* of the tree's root here */
    mode_t mode;      /* of the tree's root */
    int64_t mtime_ns;
    bool named; /* one entry that was asked for: no filter is asked */
};

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
static bool is_kept(const struct tour *t, const char *remote, const char *name,
                    bool directory)
{
    const struct cli *c = t->g->c;
    size_t root = t->place->path.size;
    char path[SHOWN_BYTES];

    if (c->filter_count == 0 || t->named)
        return true;
    get_path(remote, name, path);
    return filter_keeps(c->filters, c->filter_count, path + root + (root > 0),
                        directory);
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

static int page_get(struct tour *t, struct walk_page *page, struct problem *why)
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
    const struct tour *t;
    const struct path *dir;
    const char *after;
    json_t **ret;
};

static int ask_task(struct session *s, void *arg, struct problem *why)
{
    struct asking *a = arg;
    json_t *fields = path_fields_in(a->t->place->space, a->dir);

    if (!fields ||
        (*a->after &&
         json_object_set_new(fields, "after",
                             text_to_json(a->after, strlen(a->after))) < 0)) {
        json_decref(fields);
        return problem(why, NO_MEMORY);
    }
    return link_ask(s->link, "list", fields, KEEL_FOREVER, a->ret, why);
}

static int ask(void *arg, const struct path *dir, const char *after,
               json_t **ret_ok, struct problem *why)
{
    struct tour *t = arg;
    struct asking a = {t, dir, after, ret_ok};

    return batch_run(t->g->batch, ask_task, &a, why);
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
    rc = dir_enter(g, parent, name, step->path->text, &d, &here);
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
        return page_get(t, step->page, why);
    case REMOTE_LEAVE:
        tour_leave(t);
        return 0;
    case REMOTE_FAILED:
        tour_failed(t, step, why);
        return 0;
    }
    return 0;
}

static int tour_run(struct tour *t, struct problem *why)
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
    rc = base_open(g, o->dest, strcmp(o->dest, ".") ? o->dest : "", parent.text,
                   ret, why);
    if (rc != -ENOENT || o->count > 1)
        return rc;
    while (size > 1 && copy[size - 1] == '/')
        copy[--size] = 0;
    slash = strrchr(copy, '/');
    *ret_name = slash ? slash + 1 : copy;
    if (slash)
        *slash = 0;
    rc = name_check(*ret_name, strlen(*ret_name), why);
    return rc < 0 ? rc
                  : base_open(g,
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
    rc = tour_run(&t, why);
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
    t.dir = t.base;
    rc = page_of_one(x, t.name, &page) < 0 ? problem(why, NO_MEMORY)
                                           : page_get(&t, page, why);
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
        char words[PROBLEM_TEXT_BYTES];
        int rc = get_place(g, o, &o->places[k], why);

        if (rc >= 0)
            continue;
        if (batch_broken(g->batch) || o->count == 1 || g->full ||
            problem_exit_status(why) != 1)
            return rc;
        place_print(&o->places[k], words, sizeof(words));
        get_failed(g, NULL, words, why);
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

/* Nothing was done: then the last failure is the command's. */
static bool is_nothing(const struct getting *g)
{
    return g->failed > 0 && g->files + g->dirs + g->links + g->unchanged == 0;
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
        rc = get_all(&g, o, why);
        progress_counted(&g.progress);
        progress_stop(&g.progress);
        batch_progress(o->batch, NULL);
        if (rc == 0 && is_nothing(&g)) {
            *why = g.last;
            get_failures_but_last(&g);
            rc = -problem_row(why->id)->errno_;
        } else if (rc == 0) {
            rc = get_summary(&g);
        } else {
            get_failures(&g);
        }
    }
    getting_end(&g);
    return rc;
}
