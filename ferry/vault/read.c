/* SPDX-License-Identifier: MIT */
/* Looking, listing, hashing, and opening for a download.
 *
 * What the ledger knows of a file counts while the file is still the one that
 * it knew: device, inode, size, mtime and ctime are the same, and the ctime is
 * older than a tick of the clock, within which a change would not show. */
#include <errno.h>
#include <string.h>

#include <keel/co.h>
#include <keel/file.h>

#include "inside.h"

/* ---- digests -------------------------------------------------------------------- */

static bool ctime_counts(const struct ledger_file *f)
{
    return f->ctime_ns != 0 && keel_wall_ns() - f->ctime_ns > CLOCK_TICK;
}

static bool same_file(const struct ledger_file *a, const struct ledger_file *b)
{
    return a->device == b->device && a->inode == b->inode &&
           a->size == b->size && a->mtime_ns == b->mtime_ns &&
           a->ctime_ns == b->ctime_ns;
}

enum chunk_hash known_digest(struct vault *v, int64_t space, const char *path,
                             const struct statx *now, struct digest *ret)
{
    struct ledger_file known, there;

    store_identity(now, &there);
    if (!ctime_counts(&there) ||
        ledger_file_get(v->ledger, space, path, &known, NULL) < 0 ||
        !same_file(&known, &there))
        return 0;
    *ret = known.root;
    return known.hash;
}

/* Kept for the next time, unless a change while it was read could have gone
 * unseen, or a digest of another kind is there that counts. */
static void digest_remember(struct vault *v, int64_t space, int64_t account,
                            const char *path, const struct statx *x,
                            enum chunk_hash hash, const struct digest *root)
{
    struct ledger_file f = {.hash = hash, .root = *root, .account = account};
    struct digest other;

    store_identity(x, &f);
    if (ctime_counts(&f) && !known_digest(v, space, path, x, &other))
        (void)ledger_file_digest(v->ledger, space, path, &f, NULL);
}

/* ---- places ------------------------------------------------------------------------ */

struct place {
    struct vault *vault;
    const char *space_dir, *path;
    struct problem *why;
    int dir; /* the parent; of the root, the space itself */
    struct statx there;
};

static int place_problem(struct place *p, int rc)
{
    return vault_problem(p->vault, p->why, rc, p->path, 0);
}

/* Opens the parent and looks at the leaf, which is not followed. */
static int place_find(struct place *p)
{
    int rc;

    p->dir =
        store_dir(p->vault->store, p->space_dir, p->path, parent_size(p->path));
    if (p->dir < 0)
        return place_problem(p, p->dir);
    rc = *p->path ? store_look(p->dir, leaf_of(p->path), &p->there)
                  : keel_file_stat(p->dir, NULL, &p->there);
    return rc < 0 ? place_problem(p, rc) : 0;
}

static int must_be_file(struct place *p)
{
    struct shown shown = shown_path(p->path);

    return store_may_replace(&p->there, shown.text, p->why);
}

/* -EAGAIN is keel_blocking's, for want of a thread. */
static int on_pool(int (*fn)(void *arg), struct place *p, void *arg)
{
    int rc = keel_blocking(fn, arg);

    return rc == -EAGAIN ? problem(p->why, NO_MEMORY) : rc;
}

int vault_may(struct vault *v, const struct actor *who, int64_t space,
              const struct path *path, enum right need,
              struct ledger_space *ret, struct problem *why)
{
    int rc;

    space = space ? space : who->home;
    rc = account_may(v->accounts, who, space, path, need, why);
    return rc < 0 ? rc : vault_space(v, space, false, ret, why);
}

/* ---- entries -------------------------------------------------------------------------- */

static char type_letter(mode_t mode)
{
    if (S_ISREG(mode))
        return 'f';
    if (S_ISDIR(mode))
        return 'd';
    return S_ISLNK(mode) ? 'l' : '?';
}

static void entry_fill(struct vault *v, int64_t space, const char *path,
                       const struct statx *x, struct vault_entry *ret)
{
    struct ledger_file f;

    store_identity(x, &f);
    ret->type = type_letter(x->stx_mode);
    ret->size = ret->type == 'd' ? 0 : f.size;
    ret->mtime_ns = f.mtime_ns;
    ret->mode = x->stx_mode & 07777;
    ret->hash = 0;
    if (ret->type == 'f')
        ret->hash = known_digest(v, space, path, x, &ret->root);
}

static void entry_name(struct vault_entry *e, const char *name)
{
    size_t size = strlen(name);

    keel_assert(size <= NAME_BYTES);
    memcpy(e->name, name, size + 1);
}

struct stating {
    struct place place;
    int64_t space;
    struct vault_entry *ret;
};

static int stat_one(void *arg)
{
    struct stating *s = arg;
    int rc = place_find(&s->place);

    keel_file_close(s->place.dir);
    return rc;
}

int vault_stat(struct vault *v, const struct actor *who, int64_t space_id,
               const struct path *path, struct vault_entry *ret,
               struct problem *why)
{
    struct ledger_space space;
    struct stating s = {
        .place = {.vault = v, .path = path->text, .why = why, .dir = -1},
    };
    int rc = vault_may(v, who, space_id, path, RIGHT_LIST, &space, why);

    if (rc < 0)
        return rc;
    s.place.space_dir = space.dir;
    rc = on_pool(stat_one, &s.place, &s);
    if (rc < 0)
        return rc;
    memset(ret, 0, sizeof *ret);
    entry_name(ret, path_leaf(path));
    entry_fill(v, space.id, path->text, &s.place.there, ret);
    return 0;
}

/* ---- lists ----------------------------------------------------------------------------- */

/* The first `most` names after `after`, in one walk and bounded memory.
 *
 * Until the walk ends `heap` is a heap with the greatest name on top: the next
 * one that is smaller takes its place. */
struct listing {
    struct place place;
    int64_t space;
    const char *after;
    struct vault_entry *ret;
    unsigned *heap; /* numbers of entries in ret */
    unsigned count, most;
};

static bool heap_less(const struct listing *l, unsigned a, unsigned b)
{
    return strcmp(l->ret[l->heap[a]].name, l->ret[l->heap[b]].name) < 0;
}

static void heap_swap(struct listing *l, unsigned a, unsigned b)
{
    unsigned kept = l->heap[a];

    l->heap[a] = l->heap[b];
    l->heap[b] = kept;
}

static void heap_up(struct listing *l, unsigned at)
{
    while (at > 0 && heap_less(l, (at - 1) / 2, at)) {
        heap_swap(l, at, (at - 1) / 2);
        at = (at - 1) / 2;
    }
}

static void heap_down(struct listing *l, unsigned count)
{
    unsigned at = 0;

    for (;;) {
        unsigned child = 2 * at + 1;

        if (child >= count)
            return;
        if (child + 1 < count && heap_less(l, child, child + 1))
            child++;
        if (!heap_less(l, at, child))
            return;
        heap_swap(l, at, child);
        at = child;
    }
}

static int list_name(const char *name, unsigned char type, void *arg)
{
    struct listing *l = arg;

    (void)type;
    if (strlen(name) > NAME_BYTES || strcmp(name, l->after) <= 0)
        return 0;
    if (l->count < l->most) {
        l->heap[l->count] = l->count;
        entry_name(&l->ret[l->count], name);
        heap_up(l, l->count++);
    } else if (strcmp(name, l->ret[l->heap[0]].name) < 0) {
        entry_name(&l->ret[l->heap[0]], name);
        heap_down(l, l->count);
    }
    return 0;
}

/* The heap's greatest to the end, one after the other; then the entries take
 * the places that `heap` gives them, cycle by cycle. */
static void list_sort(struct listing *l)
{
    for (unsigned n = l->count; n-- > 1;) {
        heap_swap(l, 0, n);
        heap_down(l, n);
    }
    for (unsigned start = 0; start < l->count; start++) {
        struct vault_entry first = l->ret[start];
        unsigned at = start;

        while (l->heap[at] != start) {
            unsigned from = l->heap[at];

            l->ret[at] = l->ret[from];
            l->heap[at] = at;
            at = from;
        }
        l->ret[at] = first;
        l->heap[at] = at;
    }
}

static void list_entry(struct listing *l, int dir, struct vault_entry *e)
{
    char path[PATH_BYTES + NAME_BYTES + 2];
    size_t size = strlen(l->place.path);
    struct statx x;

    if (store_look(dir, e->name, &x) < 0) {
        e->type = '?'; /* gone meanwhile */
        return;
    }
    memcpy(path, l->place.path, size);
    if (size)
        path[size++] = '/';
    memcpy(path + size, e->name, strlen(e->name) + 1);
    entry_fill(l->place.vault, l->space, path, &x, e);
}

static int list_dir(struct listing *l)
{
    const char *path = l->place.path;
    keel_auto(file) int dir = store_dir(l->place.vault->store,
                                        l->place.space_dir, path, strlen(path));
    int rc;

    if (dir < 0)
        return place_problem(&l->place, dir);
    rc = keel_file_list(dir, list_name, l);
    if (rc < 0)
        return place_problem(&l->place, rc);
    list_sort(l);
    for (unsigned i = 0; i < l->count; i++)
        list_entry(l, dir, &l->ret[i]);
    return (int)l->count;
}

static int list_one(void *arg)
{
    struct listing *l = arg;
    int rc = place_find(&l->place);
    const char *leaf = leaf_of(l->place.path);

    keel_file_close(l->place.dir);
    if (rc < 0)
        return rc;
    if (S_ISDIR(l->place.there.stx_mode))
        return list_dir(l);
    if (strcmp(leaf, l->after) <= 0)
        return 0;
    entry_name(l->ret, leaf);
    entry_fill(l->place.vault, l->space, l->place.path, &l->place.there,
               l->ret);
    return 1;
}

int vault_list(struct vault *v, const struct actor *who, int64_t space_id,
               const struct path *path, const char *after,
               struct vault_entry *ret, unsigned max, struct problem *why)
{
    keel_auto(mem) void *heap = NULL;
    struct ledger_space space;
    int rc = vault_may(v, who, space_id, path, RIGHT_LIST, &space, why);

    if (rc < 0 || max == 0)
        return rc;
    heap = keel_alloc(max * sizeof(unsigned));
    if (!heap)
        return problem(why, NO_MEMORY);
    memset(ret, 0, max * sizeof *ret);
    struct listing l = {
        .place = {.vault = v,
                  .path = path->text,
                  .space_dir = space.dir,
                  .why = why,
                  .dir = -1},
        .space = space.id,
        .after = after,
        .ret = ret,
        .heap = heap,
        .most = max,
    };

    return on_pool(list_one, &l.place, &l);
}

/* ---- opening and hashing ------------------------------------------------------------------ */

struct reading {
    struct place place;
    enum chunk_hash hash;
    struct source *source;
};

static int open_one(void *arg)
{
    struct reading *r = arg;
    struct place *p = &r->place;
    keel_auto(file) int fd = -1;
    int rc = place_find(p);

    if (rc == 0)
        rc = must_be_file(p);
    if (rc == 0)
        fd = keel_file_open(p->dir, leaf_of(p->path), O_RDONLY | O_NONBLOCK, 0);
    keel_file_close(p->dir);
    if (rc < 0)
        return rc;
    if (fd < 0)
        return place_problem(p, fd);
    rc = source_open(fd, r->hash, shown_path(p->path).text, &r->source, p->why);
    if (rc == 0)
        fd = -1;
    return rc;
}

static int source_at(struct vault *v, const char *space_dir, const char *path,
                     enum chunk_hash hash, struct source **ret,
                     struct problem *why)
{
    struct reading r = {
        .place = {.vault = v,
                  .path = path,
                  .space_dir = space_dir,
                  .why = why,
                  .dir = -1},
        .hash = hash,
    };
    int rc = on_pool(open_one, &r.place, &r);

    if (rc == 0)
        *ret = r.source;
    return rc;
}

int vault_file_open(struct vault *v, const struct actor *who, int64_t space_id,
                    const struct path *path, enum chunk_hash hash,
                    struct source **ret, struct vault_entry *ret_entry,
                    struct problem *why)
{
    struct ledger_space space;
    struct source *s = NULL;
    int rc = vault_may(v, who, space_id, path, RIGHT_READ, &space, why);

    if (rc == 0)
        rc = source_at(v, space.dir, path->text, hash, &s, why);
    if (rc < 0)
        return rc;
    memset(ret_entry, 0, sizeof *ret_entry);
    entry_name(ret_entry, path_leaf(path));
    entry_fill(v, space.id, path->text, source_stat(s), ret_entry);
    *ret = s;
    return 0;
}

int read_digest(struct vault *v, int64_t space, int64_t account,
                const char *space_dir, const char *path, enum chunk_hash hash,
                struct digest *ret, struct problem *why)
{
    keel_auto(source) struct source *s = NULL;
    struct digest root;
    int rc = source_at(v, space_dir, path, hash, &s, why);

    if (rc < 0)
        return rc;
    if (known_digest(v, space, path, source_stat(s), ret) == hash)
        return 0;
    /* It may be terabytes, and whoever asked may have left. */
    for (uint64_t i = 0; i < chunk_count(source_size(s)) && rc == 0; i++)
        rc =
            keel_cancelled() ? problem(why, CANCELLED) : source_hash(s, i, why);
    if (rc == 0)
        rc = source_root(s, &root, why);
    if (rc < 0)
        return rc;
    digest_remember(v, space, account, path, source_stat(s), hash, &root);
    *ret = root;
    return 0;
}

int vault_hash(struct vault *v, const struct actor *who, int64_t space_id,
               const struct path *path, enum chunk_hash hash,
               struct digest *ret, struct problem *why)
{
    struct ledger_space space;
    int rc;

    if (!chunk_hash_name(hash))
        return problem(why, REQUEST_INVALID, .detail = "unknown hash");
    rc = vault_may(v, who, space_id, path, RIGHT_READ, &space, why);
    if (rc < 0)
        return rc;
    return read_digest(v, space.id, who->account, space.dir, path->text, hash,
                       ret, why);
}
