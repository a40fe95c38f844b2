/* SPDX-License-Identifier: MIT */
/* The directories under way are a stack of frames.  A frame tells a page of its
 * directory, then walks into each directory of that page, then takes the next
 * page: so a frame keeps one page of directories, whatever it leads to.
 *
 * Ahead of the walk, fetches: the first pages of the next few directories of a
 * frame, and its own next page.  A fetch is a coroutine; whoever needs it waits
 * for it. */
#include "client/remote_walk.h"

#include <errno.h>
#include <string.h>
#include <sys/queue.h>

#include <keel/co.h>

#include "client/walk_page.h"

/* Fetches of a frame, and of the whole walk, at once. */
#define AHEAD_FRAME 16
#define AHEAD_MOST 64
/* What fetched pages that wait may take before no more are asked for ahead. */
#define AHEAD_BYTES ((size_t)4 << 20)

struct fetch {
    TAILQ_ENTRY(fetch) node;
    struct remote_walk *walk;
    struct keel_co *co;
    unsigned index; /* of the directory in its frame's page */
    char after[NAME_BYTES + 1];
    struct walk_answer answer;
    size_t bytes; /* counted in walk->ahead_bytes */
    int rc;
    struct problem why;
    struct path dir;
};
TAILQ_HEAD(fetches, fetch);

enum frame_state {
    FRAME_PAGE, /* its page is to be taken */
    FRAME_DIRS, /* its page was told: into its directories, from `next` on */
};

/* Invariants:
 *   `ahead` are fetches of directories of `dirs` at `next` or behind it, in
 *   order; those of directories before `next` were taken or dropped
 *   `page` is the fetch of the frame's next page, or NULL */
struct frame {
    enum frame_state state;
    bool more;
    struct walk_page *files; /* told by the step before this one */
    struct walk_page *dirs;
    unsigned next, asked; /* in dirs; below `asked` fetches were begun */
    char last[NAME_BYTES + 1];
    struct fetch *page;
    struct fetches ahead;
};

/* `path` is that of the frame on top, or of the directory just entered. */
struct remote_walk {
    walk_ask_fn *ask;
    void *arg;
    struct path path;
    struct frame *frames[PATH_DEPTH + 1];
    unsigned depth; /* frames */
    unsigned ahead; /* fetches that nobody has taken */
    size_t ahead_bytes;
    bool begun, left;
};

/* ---- fetches ------------------------------------------------------------------ */

static int fetch_run(void *arg)
{
    struct fetch *f = arg;
    json_t *ok;
    int rc = f->walk->ask(f->walk->arg, &f->dir, f->after, &ok, &f->why);

    if (rc == 0) {
        rc = walk_answer_parse(ok, f->after, &f->answer, &f->why);
        json_decref(ok);
    }
    if (rc == 0) {
        f->bytes = f->answer.files->bytes + f->answer.dirs->bytes;
        f->walk->ahead_bytes += f->bytes;
    }
    f->rc = rc;
    return 0;
}

/* `name` NULL: of the directory `dir` itself. */
static int fetch_new(struct remote_walk *w, const struct path *dir,
                     const char *name, const char *after, struct fetch **ret)
{
    struct keel_spawn how = {.name = "list"};
    struct fetch *f = keel_calloc(1, sizeof(*f));
    int rc = f ? 0 : -ENOMEM;

    if (rc == 0) {
        f->walk = w;
        f->dir = *dir;
        memcpy(f->after, after, strlen(after) + 1);
        if (name)
            rc = path_append(&f->dir, name, NULL);
    }
    if (rc == 0)
        rc = keel_spawn(&how, fetch_run, f, &f->co);
    if (rc < 0) {
        keel_free(f);
        return rc;
    }
    w->ahead++;
    *ret = f;
    return 0;
}

/* Its page is the caller's from here on, or its problem. */
static int fetch_take(struct fetch *f, struct walk_answer *ret,
                      struct problem *why)
{
    int rc = keel_join(f->co, KEEL_FOREVER, NULL);

    if (rc < 0) { /* cancelled: then it has no more time either */
        keel_cancel(f->co);
        keel_shield();
        (void)keel_join(f->co, KEEL_FOREVER, NULL);
        keel_unshield();
    }
    f->walk->ahead--;
    f->walk->ahead_bytes -= f->bytes;
    rc = f->rc;
    if (rc < 0 && why)
        *why = f->why;
    else if (rc == 0)
        *ret = f->answer;
    keel_free(f);
    return rc;
}

static void fetch_drop(struct fetch *f)
{
    struct walk_answer a;

    if (!f)
        return;
    keel_cancel(f->co);
    if (fetch_take(f, &a, NULL) == 0)
        walk_answer_fini(&a);
}

static bool may_ask(const struct remote_walk *w)
{
    return w->ahead < AHEAD_MOST && w->ahead_bytes < AHEAD_BYTES;
}

/* Memory that is out now is found out when the page is needed. */
static void ask_ahead(struct remote_walk *w, struct frame *f)
{
    unsigned to = f->next + AHEAD_FRAME;

    if (to > f->dirs->count)
        to = f->dirs->count;
    if (f->asked < f->next)
        f->asked = f->next;
    for (; f->asked < to && may_ask(w); f->asked++) {
        struct fetch *x;

        if (fetch_new(w, &w->path, f->dirs->entries[f->asked].name, "", &x) < 0)
            continue; /* too deep, for one */
        x->index = f->asked;
        TAILQ_INSERT_TAIL(&f->ahead, x, node);
    }
    if (f->more && !f->page && f->asked == f->dirs->count && may_ask(w) &&
        fetch_new(w, &w->path, NULL, f->last, &f->page) < 0)
        f->page = NULL;
}

/* The fetch of directory `next`, if there is one. */
static struct fetch *ahead_find(struct frame *f)
{
    struct fetch *x = TAILQ_FIRST(&f->ahead);

    if (!x || x->index != f->next)
        return NULL;
    TAILQ_REMOVE(&f->ahead, x, node);
    return x;
}

/* ---- frames ---------------------------------------------------------------------- */

static void frame_free(struct frame *f)
{
    struct fetch *x;

    while ((x = TAILQ_FIRST(&f->ahead))) {
        TAILQ_REMOVE(&f->ahead, x, node);
        fetch_drop(x);
    }
    fetch_drop(f->page);
    walk_page_drop(f->files);
    walk_page_drop(f->dirs);
    keel_free(f);
}

/* Of the directory w->path, whose first page `first` (may be NULL) fetches. */
static int frame_push(struct remote_walk *w, struct fetch *first,
                      struct problem *why)
{
    struct frame *f = keel_calloc(1, sizeof(*f));

    if (!f) {
        fetch_drop(first);
        return problem(why, NO_MEMORY);
    }
    TAILQ_INIT(&f->ahead);
    f->page = first;
    w->frames[w->depth++] = f;
    return 0;
}

static void frame_pop(struct remote_walk *w)
{
    frame_free(w->frames[--w->depth]);
}

/* A directory that cannot be listed is one of many; a server that is gone, or
 * lies, is the end. */
static bool is_final(const struct problem *p)
{
    return problem_exit_status(p) != 1 || p->id == PROBLEM_PROTOCOL_BROKEN ||
           p->id == PROBLEM_PROTOCOL_TOO_LONG ||
           p->id == PROBLEM_NAME_INVALID || p->id == PROBLEM_CANCELLED ||
           p->id == PROBLEM_NO_MEMORY || p->id == PROBLEM_INTERNAL;
}

static int step(struct remote_step *ret, enum remote_kind kind,
                const struct remote_walk *w)
{
    *ret = (struct remote_step){.kind = kind, .path = &w->path};
    return 1;
}

static int frame_page(struct remote_walk *w, struct frame *f,
                      struct remote_step *ret, struct problem *why)
{
    struct walk_answer a;
    int rc = 0;

    if (!f->page)
        rc = fetch_new(w, &w->path, NULL, f->last, &f->page);
    if (rc < 0)
        return problem(why, NO_MEMORY);
    rc = fetch_take(keel_take(f->page), &a, why);
    if (rc < 0 && is_final(why))
        return rc;
    f->state = FRAME_DIRS;
    if (rc < 0) {
        f->more = false;
        return step(ret, REMOTE_FAILED, w);
    }
    walk_page_drop(f->files);
    walk_page_drop(f->dirs);
    f->files = a.files;
    f->dirs = a.dirs;
    f->more = a.more;
    f->next = f->asked = 0;
    memcpy(f->last, a.last, sizeof(f->last));
    ask_ahead(w, f);
    step(ret, REMOTE_PAGE, w);
    ret->page = f->files;
    return 1;
}

/* Into the next directory of the frame's page. */
static int frame_down(struct remote_walk *w, struct frame *f,
                      struct remote_step *ret, struct problem *why)
{
    struct walk_entry *e = &f->dirs->entries[f->next];
    struct fetch *first = ahead_find(f);
    int rc;

    f->next++;
    ask_ahead(w, f);
    rc = path_append(&w->path, e->name, why);
    if (rc < 0) {
        fetch_drop(first);
        step(ret, REMOTE_FAILED, w);
        ret->entry = e;
        return 1;
    }
    rc = frame_push(w, first, why);
    if (rc < 0)
        return rc;
    step(ret, REMOTE_ENTER, w);
    ret->entry = e;
    return 1;
}

/* ---- the walk ----------------------------------------------------------------------- */

int remote_walk_new(const struct path *root, walk_ask_fn *ask, void *arg,
                    struct remote_walk **ret, struct problem *why)
{
    struct remote_walk *w = keel_calloc(1, sizeof(*w));

    if (!w)
        return problem(why, NO_MEMORY);
    w->path = *root;
    w->ask = ask;
    w->arg = arg;
    *ret = w;
    return 0;
}

void remote_walk_free(struct remote_walk *w)
{
    if (!w)
        return;
    while (w->depth > 0)
        frame_pop(w);
    keel_free(w);
}

static void leave(struct remote_walk *w)
{
    frame_pop(w);
    path_parent(&w->path, &w->path);
}

void remote_walk_skip(struct remote_walk *w)
{
    keel_assert(w->depth > 0);
    leave(w);
}

int remote_walk_next(struct remote_walk *w, struct remote_step *ret,
                     struct problem *why)
{
    struct frame *f;
    int rc;

    /* The directory that was left is gone now that its step is over. */
    if (w->left)
        leave(w);
    w->left = false;
    if (!w->begun) {
        w->begun = true;
        rc = frame_push(w, NULL, why);
        return rc < 0 ? rc : step(ret, REMOTE_ENTER, w);
    }
    if (w->depth == 0)
        return 0;
    f = w->frames[w->depth - 1];
    if (f->state == FRAME_DIRS && f->dirs && f->next < f->dirs->count)
        return frame_down(w, f, ret, why);
    if (f->state == FRAME_PAGE || f->more) {
        f->state = FRAME_PAGE;
        return frame_page(w, f, ret, why);
    }
    w->left = true;
    return step(ret, REMOTE_LEAVE, w);
}
