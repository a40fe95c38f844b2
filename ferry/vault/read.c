/* SPDX-License-Identifier: MIT */
/* Looking, listing, hashing, and opening for a download.
 *
 * What the ledger knows of a file counts while the file is still the one that
 * it knew: device, inode, size, mtime and ctime are the same.  A file that was
 * just published is known to the committer until its ctime is in the ledger, so
 * nobody who looks after an acknowledgement finds it without its digest.
 *
 * A change by another hand may leave the ctime as it was within one tick of the
 * clock, but not the mtime: a published file's is its sender's.  What is read
 * anew is therefore remembered only when its ctime is older than a tick. */
#include <errno.h>
#include <limits.h>
#include <stdio.h>
#include <string.h>

#include <keel/co.h>
#include <keel/file.h>

#include "vault_inside.h"
#include "lists.h"

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

/* What is on record for the name: 1, or 0 when nothing is.  `ret_moves`: the
 * name is in somebody's hands, and what was found may be another file's. */
static int record_of(struct vault *v, int64_t space, const char *path,
                     struct ledger_file *ret, bool *ret_moves)
{
    /* In this order: what the committer forgets is in the ledger by then. */
    int rc = committer_knows(v->committer, space, path, ret);

    *ret_moves = rc < 0;
    if (rc > 0)
        return 1;
    return ledger_file_get(v->ledger, space, path, ret, NULL) == 0;
}

static bool record_counts(const struct ledger_file *known,
                          const struct ledger_file *there)
{
    return known->ctime_ns != 0 && same_file(known, there);
}

enum chunk_hash known_digest(struct vault *v, int64_t space, const char *path,
                             const struct statx *now, struct digest *ret)
{
    struct ledger_file known, there;
    bool moves;

    store_identity(now, &there);
    if (!record_of(v, space, path, &known, &moves) ||
        !record_counts(&known, &there))
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
    /* Not remembered, it is computed again. */
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

/* All but name and digest. */
static void entry_facts(const struct statx *x, struct vault_entry *ret)
{
    struct ledger_file f;

    store_identity(x, &f);
    ret->type = type_letter(x->stx_mode);
    ret->size = ret->type == 'd' ? 0 : f.size;
    ret->mtime_ns = f.mtime_ns;
    ret->mode = x->stx_mode & 07777;
    ret->hash = 0;
    ret->target = NULL;
}

/* How a file and its record go together. */
enum sight {
    CLEAR, /* as they will stay: the digest is known, or there is none */
    STALE, /* they differ: one of them was looked at before a change */
    MOVES, /* somebody has the name in his hands */
};

static enum sight record_sight(struct vault *v, int64_t space, const char *path,
                               const struct statx *x, struct ledger_file *ret,
                               bool *ret_counts)
{
    struct ledger_file there;
    bool moves, found = record_of(v, space, path, ret, &moves);

    store_identity(x, &there);
    *ret_counts = found && record_counts(ret, &there);
    if (*ret_counts)
        return CLEAR;
    return moves ? MOVES : found ? STALE : CLEAR;
}

static enum sight entry_digest(struct vault *v, int64_t space, const char *path,
                               const struct statx *x, struct vault_entry *ret)
{
    struct ledger_file known;
    enum sight seen;
    bool counts;

    if (ret->type != 'f')
        return CLEAR;
    seen = record_sight(v, space, path, x, &known, &counts);
    if (counts) {
        ret->hash = known.hash;
        ret->root = known.root;
    }
    return seen;
}

/* Whether to look again, after whoever has the name is done with it.  A file
 * that another hand changed stays stale: once more is enough for that. */
enum { LOOKS_MOST = 16, LOOKS_STALE = LOOKS_MOST / 2 };
static bool look_again(struct vault *v, int64_t space, const char *path,
                       enum sight seen, unsigned *looks)
{
    if (seen == CLEAR)
        return false;
    *looks += seen == STALE ? LOOKS_STALE : 1;
    return *looks < LOOKS_MOST &&
           committer_await(v->committer, space, path) == 0;
}

/* A link's text; one that went meanwhile has none. */
static int entry_target(int dir, struct vault_entry *ret)
{
    keel_auto(mem) void *memory = keel_alloc(PATH_MAX + 1);
    char *text = memory;
    ssize_t size;

    if (!text)
        return -ENOMEM;
    size = keel_file_readlink(dir, ret->name, text, PATH_MAX);
    if (size == -ENOENT || size == -EINVAL) {
        ret->type = '?';
        return 0;
    }
    if (size < 0)
        return (int)size;
    text[size] = '\0';
    ret->target = keel_strdup(text);
    return ret->target ? 0 : -ENOMEM;
}

static void entry_name(struct vault_entry *e, const char *name)
{
    size_t size = strlen(name);

    keel_assert(size <= NAME_BYTES);
    memcpy(e->name, name, size + 1);
}

struct stating {
    struct place place;
    struct vault_entry *ret;
};

static int stat_one(void *arg)
{
    struct stating *s = arg;
    int rc = place_find(&s->place);

    if (rc == 0) {
        entry_name(s->ret, leaf_of(s->place.path));
        entry_facts(&s->place.there, s->ret);
    }
    if (rc == 0 && s->ret->type == 'l') {
        rc = entry_target(s->place.dir, s->ret);
        rc = rc < 0 ? place_problem(&s->place, rc) : 0;
    }
    keel_file_close(s->place.dir);
    return rc;
}

static int stat_at(struct vault *v, const struct ledger_space *space,
                   const char *path, struct vault_entry *ret,
                   struct problem *why)
{
    struct vault_entry e = {.type = '?'};
    struct stating s = {
        .place = {.vault = v,
                  .path = path,
                  .space_dir = space->dir,
                  .why = why,
                  .dir = -1},
        .ret = &e,
    };
    unsigned looks = 0;
    enum sight seen;
    int rc;

    do {
        rc = on_pool(stat_one, &s.place, &s);
        if (rc < 0)
            return rc;
        seen = entry_digest(v, space->id, path, &s.place.there, &e);
    } while (look_again(v, space->id, path, seen, &looks));
    *ret = e;
    return 0;
}

int vault_stat(struct vault *v, const struct actor *who, int64_t space_id,
               const struct path *path, struct vault_entry *ret,
               struct problem *why)
{
    struct ledger_space space;
    int rc = vault_may(v, who, space_id, path, RIGHT_LOOK, &space, why);

    return rc < 0 ? rc : stat_at(v, &space, path->text, ret, why);
}

/* ---- who published it -------------------------------------------------------------------- */

static int published_look(void *arg)
{
    struct place *p = arg;
    int rc = place_find(p);

    keel_file_close(p->dir);
    return rc;
}

int read_published(struct vault *v, int64_t space, int64_t account,
                   const char *space_dir, const char *path,
                   struct ledger_file *ret, struct problem *why)
{
    struct problem said = {.id = PROBLEM_NONE};
    struct place p = {.vault = v,
                      .path = path,
                      .space_dir = space_dir,
                      .why = &said,
                      .dir = -1};
    unsigned looks = 0;
    enum sight seen;
    bool counts;
    int rc;

    do {
        rc = on_pool(published_look, &p, &p);
        if (rc < 0 && said.id == PROBLEM_FILE_MISSING)
            return 0;
        if (rc < 0) {
            if (why)
                *why = said;
            return rc;
        }
        seen = record_sight(v, space, path, &p.there, ret, &counts);
    } while (look_again(v, space, path, seen, &looks));
    return counts && S_ISREG(p.there.stx_mode) && !ret->found &&
           ret->account == account;
}

/* ---- lists ----------------------------------------------------------------------------- */

enum { LIST_BATCH = 64 }; /* whose digests are asked for at once */

struct listing {
    struct place place;
    const struct actor *who;
    int64_t space;
    const char *after;
    struct vault_entry *ret;
    unsigned count, most;
    bool *again;         /* for each entry: it is to be looked at once more */
    bool single;         /* the place is a file: its one entry is itself */
    struct path *filter; /* NULL: all is shown; else for account_leads */
    struct statx facts[LIST_BATCH];
};

/* Whether the actor may know of the name. */
static bool is_shown(struct listing *l, const char *name)
{
    struct path parent;
    bool shown;

    if (!l->filter)
        return true;
    if (path_append(l->filter, name, NULL) < 0)
        return false;
    shown =
        account_leads(l->place.vault->accounts, l->who, l->space, l->filter);
    path_parent(l->filter, &parent);
    *l->filter = parent;
    return shown;
}

/* What is gone since the names were read is passed over. */
static int list_look(struct listing *l, int dir, const char *name)
{
    struct vault_entry *e = &l->ret[l->count];
    struct statx *x = &l->facts[l->count % LIST_BATCH];
    int rc = store_look(dir, name, x);

    if (rc == -ENOENT)
        return 0;
    if (rc < 0)
        return place_problem(&l->place, rc);
    entry_name(e, name);
    entry_facts(x, e);
    if (e->type == 'l')
        rc = entry_target(dir, e);
    if (rc < 0)
        return place_problem(&l->place, rc);
    return 1;
}

/* "directory/name" for each of the batch, in one piece of memory. */
static int batch_paths(struct listing *l, unsigned from, const char **ret_paths,
                       void **ret_memory)
{
    size_t top = strlen(l->place.path), size = 0;
    char *at;

    for (unsigned i = from; i < l->count; i++)
        size += top + strlen(l->ret[i].name) + 2;
    at = keel_alloc(size ? size : 1);
    if (!at)
        return problem(l->place.why, NO_MEMORY);
    *ret_memory = at;
    for (unsigned i = from; i < l->count; i++) {
        size_t name = strlen(l->ret[i].name) + 1;

        ret_paths[i - from] = at;
        memcpy(at, l->place.path, top);
        at += top;
        if (top)
            *at++ = '/';
        memcpy(at, l->ret[i].name, name);
        at += name;
    }
    return 0;
}

/* What is on record for each of them: the committer's first, as in record_of.
 * hash 0 where nothing is. */
static int batch_records(struct listing *l, unsigned from,
                         const char *const *paths, struct ledger_file *ret)
{
    struct vault *v = l->place.vault;
    struct ledger_file known[LIST_BATCH];
    unsigned count = l->count - from;
    bool live[LIST_BATCH];
    int rc;

    for (unsigned i = 0; i < count; i++) {
        rc = committer_knows(v->committer, l->space, paths[i], &known[i]);
        live[i] = rc > 0;
        l->again[from + i] = rc < 0;
    }
    rc = ledger_files_get(v->ledger, l->space, paths, count, ret, l->place.why);
    for (unsigned i = 0; i < count && rc == 0; i++)
        if (live[i])
            ret[i] = known[i];
    return rc;
}

/* A record that does not count: of the file that came since it was looked at, or
 * of one that another hand changed. */
static bool is_replaced(int dir, const char *name,
                        const struct ledger_file *there)
{
    struct ledger_file now;
    struct statx x;

    if (store_look(dir, name, &x) < 0)
        return false;
    store_identity(&x, &now);
    return !same_file(&now, there);
}

/* Their digests, from the ledger in one call. */
static int list_digests(struct listing *l, int dir, unsigned from)
{
    keel_auto(mem) void *memory = NULL;
    keel_auto(mem) void *rows = NULL;
    struct ledger_file *files, there;
    const char *paths[LIST_BATCH];
    unsigned count = l->count - from;
    int rc = batch_paths(l, from, paths, &memory);

    if (rc < 0)
        return rc;
    files = rows = keel_alloc((count + 1) * sizeof *files);
    if (!files)
        return problem(l->place.why, NO_MEMORY);
    rc = batch_records(l, from, paths, files);
    for (unsigned i = 0; i < count && rc == 0; i++) {
        struct vault_entry *e = &l->ret[from + i];

        store_identity(&l->facts[(from + i) % LIST_BATCH], &there);
        if (e->type == 'f' && files[i].hash &&
            record_counts(&files[i], &there)) {
            e->hash = files[i].hash;
            e->root = files[i].root;
        }
        if (e->type != 'f' || e->hash)
            l->again[from + i] = false;
        else if (files[i].hash && !l->again[from + i])
            l->again[from + i] = is_replaced(dir, e->name, &there);
    }
    return rc;
}

/* Entries of what one list has; 1: there may be more behind it. */
static int list_some(struct listing *l, int dir, const struct name_list *names)
{
    unsigned i = list_after(names, l->after), from = l->count;
    int rc = 0;

    for (; i < list_count(names) && l->count < l->most && rc >= 0; i++) {
        l->after = list_name(names, i);
        if (!is_shown(l, l->after))
            continue;
        rc = list_look(l, dir, l->after);
        l->count += rc > 0;
        if (rc > 0 && l->count % LIST_BATCH == 0) {
            rc = list_digests(l, dir, from);
            from = l->count;
        }
    }
    if (rc >= 0 && from < l->count)
        rc = list_digests(l, dir, from);
    if (rc < 0)
        return rc;
    return i < list_count(names) || !list_whole(names);
}

static int list_pages(struct listing *l, int dir)
{
    struct lists *lists = l->place.vault->lists;
    char after[NAME_BYTES + 1];
    struct statx now;
    int rc = keel_file_stat(dir, NULL, &now), more = 1;

    if (rc < 0)
        return place_problem(&l->place, rc);
    while (more > 0 && l->count < l->most) {
        struct name_list *names;

        rc = list_get(lists, dir, &now, l->after, &names);
        if (rc < 0)
            return place_problem(&l->place, rc);
        more = list_some(l, dir, names);
        /* The name that it points to is the list's. */
        (void)snprintf(after, sizeof after, "%s", l->after);
        l->after = after;
        list_put(lists, names, more > 0);
    }
    return more < 0 ? more : (int)l->count;
}

static int list_dir(struct listing *l)
{
    const char *path = l->place.path;
    keel_auto(file) int dir = store_dir(l->place.vault->store,
                                        l->place.space_dir, path, strlen(path));

    return dir < 0 ? place_problem(&l->place, dir) : list_pages(l, dir);
}

static int list_one(void *arg)
{
    struct listing *l = arg;
    int rc = place_find(&l->place);
    const char *leaf = leaf_of(l->place.path);

    if (rc == 0 && S_ISDIR(l->place.there.stx_mode)) {
        rc = list_dir(l);
    } else if (rc == 0 && strcmp(leaf, l->after) > 0) {
        rc = list_look(l, l->place.dir, leaf);
        l->single = true;
        if (rc > 0)
            l->again[0] = entry_digest(l->place.vault, l->space, l->place.path,
                                       &l->facts[0], l->ret) != CLEAR;
    }
    keel_file_close(l->place.dir);
    return rc;
}

/* What leads to a grant is all that is shown above it. */
static struct path *list_filter(struct vault *v, const struct actor *who,
                                int64_t space, const struct path *path,
                                struct path *room)
{
    if (account_list_all(v->accounts, who, space, path))
        return NULL;
    *room = *path;
    return room;
}

/* Off the pool, where waiting is no harm.  What is gone by now stays as it was
 * seen. */
static int list_again(struct listing *l, const struct ledger_space *space,
                      unsigned i)
{
    const char *top = l->place.path, *name = l->ret[i].name;
    size_t size = strlen(top) + strlen(name) + 2;
    keel_auto(mem) void *memory = NULL;
    char *path;

    if (l->single) {
        (void)stat_at(l->place.vault, space, top, &l->ret[i], NULL);
        return 0;
    }
    path = memory = keel_alloc(size);
    if (!path)
        return problem(l->place.why, NO_MEMORY);
    (void)snprintf(path, size, "%s%s%s", top, *top ? "/" : "", name);
    (void)stat_at(l->place.vault, space, path, &l->ret[i], NULL);
    return 0;
}

static int list_settle(struct listing *l, const struct ledger_space *space,
                       unsigned count)
{
    int rc = 0;

    for (unsigned i = 0; i < count && rc == 0; i++)
        if (l->again[i])
            rc = list_again(l, space, i);
    return rc < 0 ? rc : (int)count;
}

int vault_list(struct vault *v, const struct actor *who, int64_t space_id,
               const struct path *path, const char *after,
               struct vault_entry *ret, unsigned max, struct problem *why)
{
    keel_auto(mem) void *memory = NULL;
    struct ledger_space space;
    struct path filter;
    struct listing *l;
    int rc = vault_may(v, who, space_id, path, RIGHT_LIST, &space, why);

    if (rc < 0 || max == 0)
        return rc;
    l = memory = keel_calloc(1, sizeof *l + max * sizeof *l->again);
    if (!l)
        return problem(why, NO_MEMORY);
    l->again = (bool *)(l + 1);
    memset(ret, 0, max * sizeof *ret);
    l->place = (struct place){.vault = v,
                              .path = path->text,
                              .space_dir = space.dir,
                              .why = why,
                              .dir = -1};
    l->who = who;
    l->space = space.id;
    l->after = after;
    l->ret = ret;
    l->most = max;
    l->filter = list_filter(v, who, space.id, path, &filter);
    rc = on_pool(list_one, &l->place, l);
    if (rc > 0)
        rc = list_settle(l, &space, (unsigned)rc);
    if (rc < 0)
        for (unsigned i = 0; i < max; i++)
            vault_entry_fini(&ret[i]);
    return rc;
}

/* ---- reading files ------------------------------------------------------------------------ */

struct reading {
    struct place place;
    enum chunk_hash hash;
    bool load; /* a small one is wanted whole */
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
    if (rc < 0)
        return rc;
    fd = -1;
    if (r->load)
        source_load(r->source);
    return 0;
}

static int source_at(struct vault *v, const char *space_dir, const char *path,
                     enum chunk_hash hash, bool load, struct source **ret,
                     struct problem *why)
{
    struct reading r = {
        .place = {.vault = v,
                  .path = path,
                  .space_dir = space_dir,
                  .why = why,
                  .dir = -1},
        .hash = hash,
        .load = load,
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
    keel_auto(source) struct source *s = NULL;
    struct ledger_space space;
    unsigned looks = 0;
    enum sight seen;
    int rc = vault_may(v, who, space_id, path, RIGHT_READ, &space, why);

    if (rc < 0)
        return rc;
    memset(ret_entry, 0, sizeof *ret_entry);
    entry_name(ret_entry, path_leaf(path));
    do {
        source_close(keel_take(s));
        rc = source_at(v, space.dir, path->text, hash, true, &s, why);
        if (rc < 0)
            return rc;
        entry_facts(source_stat(s), ret_entry);
        seen = entry_digest(v, space.id, path->text, source_stat(s), ret_entry);
    } while (look_again(v, space.id, path->text, seen, &looks));
    *ret = keel_take(s);
    return 0;
}

int read_digest(struct vault *v, int64_t space, int64_t account,
                const char *space_dir, const char *path, enum chunk_hash hash,
                struct digest *ret, uint64_t *ret_size, struct problem *why)
{
    keel_auto(source) struct source *s = NULL;
    struct digest root;
    int rc = source_at(v, space_dir, path, hash, false, &s, why);

    if (rc < 0)
        return rc;
    if (known_digest(v, space, path, source_stat(s), &root) == hash) {
        *ret = root;
        *ret_size = source_size(s);
        return 0;
    }
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
    *ret_size = source_size(s);
    return 0;
}

int vault_hash(struct vault *v, const struct actor *who, int64_t space_id,
               const struct path *path, enum chunk_hash hash,
               struct digest *ret, uint64_t *ret_size, struct problem *why)
{
    struct ledger_space space;
    int rc;

    if (!chunk_hash_name(hash))
        return problem(why, REQUEST_INVALID, .detail = "unknown hash");
    rc = vault_may(v, who, space_id, path, RIGHT_READ, &space, why);
    if (rc < 0)
        return rc;
    return read_digest(v, space.id, who->account, space.dir, path->text, hash,
                       ret, ret_size, why);
}
