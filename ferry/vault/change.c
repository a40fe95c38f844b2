/* SPDX-License-Identifier: MIT */
/* Changing names: directories, links, times, moving, removing.
 *
 * Whoever changes a name holds it (names.c), so that nobody publishes there
 * meanwhile.  Times and modes are set on the disk and synced.  What is made,
 * directories and links, gets
 *
 *   1  ledger_making_begin: its rows, which count in the quota
 *   2  its names on the disk, synced
 *   3  ledger_making_done, which waits for nobody; or what there is not is
 *      given back
 *
 * and of rows of which nothing was said recovery looks whether there is
 * something.  What is moved or removed goes
 *
 *   1  ledger_change_begin: what is to be done, and to which inode
 *   2  one rename or unlink, which is the change for everybody else
 *   3  its directories are synced
 *   4  ledger_change_end: rows and quota follow
 *
 * and recovery tells by the inode whether step 2 happened.  A failure after
 * step 2 leaves the change to a restart, its names locked.
 *
 * A tree is removed by a rename into DATA/trash, where trash.c takes it apart
 * afterwards. */
#include <errno.h>
#include <string.h>

#include <keel/co.h>
#include <keel/file.h>

#include "vault_inside.h"

enum {
    /* Another hand removes what was found a moment ago. */
    LOOKS_MOST = 8,
    LINK_BYTES = 4095,
};

struct change {
    struct vault *vault;
    struct problem *why;
    int64_t space, account;
    char space_dir[33];
    const char *path, *to; /* to: of a move */
    struct name_hold *hold;
    int dir, to_dir, fd;
    struct statx there, to_there;
    bool exists, to_exists;

    size_t made; /* MADE: the path up to the end of the first that is missing */
    bool no_replace, drop, recursive;
    mode_t mode;
    int64_t mtime_ns;
    const char *target;
    char temp[TRASH_NAME_BYTES]; /* in the trash; "": none */
    int64_t id;                  /* of the ledger's change; 0: none */
};

static int failed_at(struct change *c, int rc, const char *path)
{
    return vault_problem(c->vault, c->why, rc, path, 0);
}

static int failed(struct change *c, int rc)
{
    return failed_at(c, rc, c->path);
}

static int failed_parent(struct change *c, int rc, const char *path)
{
    keel_auto(str) char *parent = keel_strdup(path);

    if (!parent)
        return problem(c->why, NO_MEMORY);
    parent[parent_size(path)] = '\0';
    return failed_at(c, rc, parent);
}

static int on_pool(struct change *c, int (*fn)(void *arg))
{
    int rc = keel_blocking(fn, c);

    /* What fn says is a problem's; only keel_blocking says EAGAIN. */
    return rc == -EAGAIN ? problem(c->why, NO_MEMORY) : rc;
}

static int change_start(struct change *c, struct vault *v,
                        const struct actor *who, int64_t space,
                        const struct path *path, struct problem *why)
{
    struct ledger_space s;
    int rc;

    *c = (struct change){
        .vault = v,
        .why = why,
        .space = space ? space : who->home,
        .account = who->account,
        .path = path->text,
        .dir = -1,
        .to_dir = -1,
        .fd = -1,
    };
    rc = vault_space(v, c->space, false, &s, why);
    if (rc == 0)
        memcpy(c->space_dir, s.dir, sizeof c->space_dir);
    return rc;
}

/* From here on it is not cancelled. */
static int change_hold(struct change *c, enum name_kind kind)
{
    int rc;

    c->hold = name_hold_new(kind, c->space, c->path, c->to);
    if (!c->hold)
        return problem(c->why, NO_MEMORY);
    if (kind == NAME_MADE)
        c->hold->made = c->made;
    rc = committer_hold_name(c->vault->committer, c->hold, c->why);
    if (rc < 0) {
        keel_free(c->hold);
        c->hold = NULL;
        return rc;
    }
    keel_shield();
    return 0;
}

static void change_release(struct change *c)
{
    if (!c->hold)
        return;
    committer_drop_name(c->vault->committer, c->hold);
    c->hold = NULL;
    keel_unshield();
}

/* Nobody knows what the disk or the ledger has. */
static void change_stick(struct change *c)
{
    committer_stick_name(c->vault->committer, c->hold);
    c->hold = NULL;
    keel_unshield();
}

static void change_finish(struct change *c)
{
    change_release(c);
    if (*c->temp) /* what stays in the trash goes at the next start */
        (void)keel_file_unlink(store_trash(c->vault->store), c->temp);
    keel_file_close(c->dir);
    keel_file_close(c->to_dir);
    keel_file_close(c->fd);
}

/* Opens the parent of a path and looks at its leaf; the root's parent is the
 * root, and it is there. */
static int look_at(struct change *c, const char *path, int *ret_dir,
                   bool *ret_exists, struct statx *ret)
{
    int rc;

    keel_file_close(*ret_dir);
    *ret_dir =
        store_dir(c->vault->store, c->space_dir, path, parent_size(path));
    if (*ret_dir < 0)
        return failed_parent(c, *ret_dir, path);
    rc = *path ? store_look(*ret_dir, leaf_of(path), ret)
               : keel_file_stat(*ret_dir, NULL, ret);
    *ret_exists = rc == 0;
    return rc == 0 || rc == -ENOENT ? 0 : failed_at(c, rc, path);
}

static int look(struct change *c)
{
    return look_at(c, c->path, &c->dir, &c->exists, &c->there);
}

static int missing(struct change *c)
{
    return problem(c->why, FILE_MISSING, .name = shown_path(c->path).text);
}

static int sync_problem(struct change *c, int rc)
{
    return problem(c->why, SYNC_FAILED, .errno_ = -rc,
                   .name = shown_path(c->path).text);
}

static int sync_two(struct change *c, int a, int b)
{
    struct dir_request r[2];
    unsigned count = 0;
    int rc = dir_request_fill(&r[count++], a);

    if (rc == 0 && b >= 0)
        rc = dir_request_fill(&r[count++], b);
    if (rc == 0)
        rc = committer_sync_dirs(c->vault->committer, r, count);
    return rc < 0 ? sync_problem(c, rc) : 0;
}

/* ---- the ledger's part ------------------------------------------------------------ */

static int ledger_begin(struct change *c, enum ledger_change_kind kind)
{
    struct ledger_file there;
    struct ledger_change change = {
        .kind = kind,
        .space = c->space,
        .account = c->account,
        .path = c->path,
        .to = c->to,
        .now = vault_now_s(),
    };
    int rc;

    store_identity(&c->there, &there);
    change.device = there.device;
    change.inode = there.inode;
    rc = ledger_change_begin(c->vault->ledger, &change, c->why);
    if (rc == 0)
        c->id = change.id;
    return rc;
}

/* Step 2 did not happen: the failure stands. */
static int ledger_back(struct change *c, int rc)
{
    if (c->id && ledger_change_end(c->vault->ledger, c->id, false, NULL) < 0)
        change_stick(c);
    c->id = 0;
    return rc;
}

/* Steps 3 and 4, after step 2 happened in these directories. */
static int ledger_done(struct change *c, int a, int b)
{
    int rc = sync_two(c, a, b);

    if (rc == 0 && c->id)
        rc = ledger_change_end(c->vault->ledger, c->id, true, c->why);
    if (rc < 0)
        change_stick(c);
    return rc;
}

/* ---- mkdir ------------------------------------------------------------------------------ */

struct making {
    struct change change;
    const struct path *path;
    bool parents;
    bool again;
    size_t there;   /* bytes of the path whose names are there after all */
    unsigned count; /* directories made, and those in which they were */
    int dirs[PATH_DEPTH];
    int leaf; /* the last one made; -1: it was there */
    mode_t mode;
    unsigned first; /* component that was made first */
};

/* Length of the path up to the end of component i. */
static size_t size_to(const struct path *p, unsigned i)
{
    return i + 1 < p->count ? p->start[i + 1] - 1u : p->size;
}

/* A component's name, by itself. */
static void component(const struct path *p, unsigned i,
                      char ret[NAME_BYTES + 1])
{
    size_t size = size_to(p, i) - p->start[i];

    memcpy(ret, p->text + p->start[i], size);
    ret[size] = '\0';
}

static int failed_component(struct making *m, int rc, unsigned i)
{
    keel_auto(str) char *text = keel_strdup(m->path->text);

    if (!text)
        return problem(m->change.why, NO_MEMORY);
    text[size_to(m->path, i)] = '\0';
    return failed_at(&m->change, rc, text);
}

/* Opens down to the last directory that is there: its depth, or a problem. */
static int descend(struct making *m, int *ret_dir, unsigned *ret_depth)
{
    struct change *c = &m->change;
    keel_auto(file) int dir = -1;
    char name[NAME_BYTES + 1];
    unsigned i = 0;

    /* The usual case: all but the last is there. */
    dir =
        store_dir(c->vault->store, c->space_dir, c->path, parent_size(c->path));
    if (dir >= 0)
        i = m->path->count - 1;
    else if (dir == -ENOENT && m->parents)
        dir = store_dir(c->vault->store, c->space_dir, "", 0);
    if (dir < 0)
        return failed_parent(c, dir, c->path);
    for (; i < m->path->count; i++) {
        int next;

        component(m->path, i, name);
        next = keel_file_open(dir, name, O_RDONLY | O_DIRECTORY, 0);
        if (next == -ENOENT)
            break;
        if (next < 0 && i + 1 == m->path->count)
            return problem(c->why, FILE_EXISTS,
                           .name = shown_path(c->path).text);
        if (next < 0)
            return failed_component(m, next, i);
        keel_file_close(dir);
        dir = next;
    }
    *ret_depth = i;
    *ret_dir = dir;
    dir = -1;
    return 0;
}

static int make_look(void *arg)
{
    struct making *m = arg;
    keel_auto(file) int dir = -1;
    unsigned depth;
    int rc = descend(m, &dir, &depth);

    if (rc == 0)
        m->change.made =
            size_to(m->path, depth < m->path->count ? depth : depth - 1);
    return rc;
}

/* Makes component i in the last of m->dirs. */
static int make_one(struct making *m, unsigned i)
{
    char name[NAME_BYTES + 1];
    int at = m->dirs[m->count - 1];
    bool last = i + 1 == m->path->count, made;
    int rc, fd;

    component(m->path, i, name);
    rc = keel_file_mkdir(at, name, 0700);
    made = rc == 0;
    if (rc < 0 && (rc != -EEXIST || (last && !m->parents)))
        return failed_component(m, rc, i);
    m->there = size_to(m->path, i);
    if (last && !made)
        return 0;
    fd = keel_file_open(at, name, O_RDONLY | O_DIRECTORY, 0);
    if (fd < 0)
        return failed_component(m, fd, i);
    if (last)
        m->leaf = fd;
    else
        m->dirs[m->count++] = fd;
    /* mkdir heeds the umask, which is the service's. */
    rc = made ? keel_file_chmod(fd, dir_mode(m->mode)) : 0;
    return rc < 0 ? failed_component(m, rc, i) : 0;
}

/* Under the hold: where it begins.  Nothing is left to make when no directory
 * stays open. */
static int make_place(void *arg)
{
    struct making *m = arg;
    struct change *c = &m->change;
    keel_auto(file) int dir = -1;
    unsigned depth;
    size_t made;
    int rc = descend(m, &dir, &depth);

    if (rc < 0)
        return rc;
    if (depth == m->path->count)
        return m->parents ? 0
                          : problem(c->why, FILE_EXISTS,
                                    .name = shown_path(c->path).text);
    made = size_to(m->path, depth);
    if (made < c->hold->made) { /* somebody took away what was there */
        m->again = true;
        return 0;
    }
    committer_narrow_name(c->vault->committer, c->hold, made);
    m->first = depth;
    m->there = size_to(m->path, depth) - 1;
    m->dirs[m->count++] = dir;
    dir = -1;
    return 0;
}

static int make_all(void *arg)
{
    struct making *m = arg;
    int rc = 0;

    for (unsigned i = m->first; i < m->path->count && rc == 0; i++)
        rc = make_one(m, i);
    return rc;
}

/* After a failed sync: not to be found later as if they were durable. */
static bool unmake(struct making *m)
{
    bool all = true;

    for (unsigned k = m->count; k-- > 0;) {
        char name[NAME_BYTES + 1];
        int rc;

        component(m->path, m->first + k, name);
        rc = keel_file_rmdir(m->dirs[k], name);
        all &= rc == 0 || rc == -ENOENT;
    }
    return all;
}

static int make_sync(struct making *m)
{
    keel_auto(mem) void *memory = NULL;
    struct dir_request *r;
    unsigned count = m->count;
    int rc = 0;

    if (count == 0)
        return 0;
    r = memory = keel_calloc(count + 1, sizeof *r);
    if (!r)
        rc = -ENOMEM;
    for (unsigned i = 0; i < count && rc == 0; i++)
        rc = dir_request_fill(&r[i], m->dirs[i]);
    if (rc == 0 && m->leaf >= 0) /* its mode */
        rc = dir_request_fill(&r[count++], m->leaf);
    if (rc == 0)
        rc = committer_sync_dirs(m->change.vault->committer, r, count);
    if (rc == 0)
        return 0;
    rc = sync_problem(&m->change, rc);
    if (!unmake(m))
        change_stick(&m->change);
    return rc;
}

/* Rows first.  What was made stays, whole or half: it is made durable in any
 * case, and what is not there counts no more.  After a sync that failed the
 * rows stay for recovery to look at. */
static int make_names(struct making *m)
{
    struct change *c = &m->change;
    struct ledger_making rows = {
        .space = c->space,
        .path = c->path,
        .first = size_to(m->path, m->first),
    };
    int rc = ledger_making_begin(c->vault->ledger, &rows, c->why), synced;

    if (rc < 0)
        return rc;
    rc = on_pool(c, make_all);
    synced = make_sync(m);
    if (synced == 0 && rc == 0)
        ledger_making_done(c->vault->ledger, rows.id);
    else if (synced == 0)
        (void)ledger_making_back(c->vault->ledger, &rows, m->there, NULL);
    return rc < 0 ? rc : synced;
}

static int make_once(struct making *m)
{
    struct change *c = &m->change;
    int rc = on_pool(c, make_look);

    if (rc < 0)
        return rc;
    rc = change_hold(c, NAME_MADE);
    if (rc < 0)
        return rc;
    m->again = false;
    m->count = 0;
    m->leaf = -1;
    rc = on_pool(c, make_place);
    if (rc == 0 && m->count > 0)
        rc = make_names(m);
    for (unsigned i = 0; i < m->count; i++)
        keel_file_close(m->dirs[i]);
    keel_file_close(m->leaf);
    change_release(c);
    return rc;
}

/* Write, or for new names drop. */
int vault_may_add(struct vault *v, const struct actor *who, int64_t space,
                  const struct path *path, bool *ret_drop, struct problem *why)
{
    int rc = account_may(v->accounts, who, space, path, RIGHT_WRITE, why);

    *ret_drop = false;
    if (rc < 0 &&
        account_may(v->accounts, who, space, path, RIGHT_DROP, NULL) == 0) {
        *ret_drop = true;
        if (why)
            why->id = PROBLEM_NONE;
        return 0;
    }
    return rc;
}

int vault_mkdir(struct vault *v, const struct actor *who, int64_t space,
                const struct path *path, mode_t mode, bool parents,
                struct problem *why)
{
    struct making m = {.path = path, .parents = parents, .mode = mode};
    bool drop;
    int rc = change_start(&m.change, v, who, space, path, why);

    if (rc == 0)
        rc = vault_may_add(v, who, m.change.space, path, &drop, why);
    if (rc < 0)
        return rc;
    if (path->count == 0)
        return parents ? 0 : problem(why, FILE_EXISTS, .name = "/");
    for (int looks = 0; looks < LOOKS_MOST; looks++) {
        rc = make_once(&m);
        if (rc < 0 || !m.again)
            return rc;
    }
    return problem(why, FILE_BUSY, .name = shown_path(path->text).text);
}

/* ---- links -------------------------------------------------------------------------------- */

static int link_may_replace(struct change *c)
{
    struct shown shown = shown_path(c->path);
    int rc;

    if (c->drop)
        return problem(c->why, RIGHT_MISSING, .detail = "replace",
                       .name = shown.text);
    if (c->no_replace)
        return problem(c->why, FILE_EXISTS, .name = shown.text);
    if (S_ISLNK(c->there.stx_mode))
        return 0;
    rc = store_may_replace(&c->there, shown.text, c->why);
    return rc;
}

static int link_make(struct change *c, int dir, const char *name)
{
    int rc = keel_file_symlink(c->target, dir, name);

    if (rc < 0)
        return rc;
    if (c->mtime_ns != INT64_MIN)
        rc = keel_file_set_mtime_at(dir, name, c->mtime_ns);
    if (rc < 0)
        (void)keel_file_unlink(dir, name);
    return rc;
}

static int link_aside(struct change *c)
{
    int rc;

    trash_name(c->vault, c->temp);
    rc = link_make(c, store_trash(c->vault->store), c->temp);
    if (rc < 0)
        *c->temp = '\0';
    return rc < 0 ? failed(c, rc) : 0;
}

static int link_place(struct change *c, unsigned flags)
{
    int rc = keel_file_rename(store_trash(c->vault->store), c->temp, c->dir,
                              leaf_of(c->path), flags);

    if (rc < 0)
        return failed(c, rc);
    *c->temp = '\0';
    return 0;
}

/* Who may only drop repeats what was cut: a link that is there may be theirs. */
static bool link_may_be_there(const struct change *c)
{
    return c->exists && c->drop && !c->no_replace && S_ISLNK(c->there.stx_mode);
}

static int link_look(void *arg)
{
    struct change *c = arg;
    int rc = look(c);

    return rc == 0 && c->exists && !link_may_be_there(c) ? link_may_replace(c)
                                                         : rc;
}

/* 1 when it is the very link that is wanted, its time included: no other hand has
 * made it. */
static int link_compare(void *arg)
{
    struct change *c = arg;
    char target[LINK_BYTES + 1];
    struct ledger_file there;
    ssize_t size =
        keel_file_readlink(c->dir, leaf_of(c->path), target, sizeof target);

    if (size < 0)
        return failed(c, (int)size);
    store_identity(&c->there, &there);
    return (size_t)size == strlen(c->target) &&
           !memcmp(target, c->target, (size_t)size) &&
           there.mtime_ns == c->mtime_ns;
}

/* 0 when their own link is there; of another's nothing is looked at. */
static int link_was_there(struct change *c)
{
    int64_t maker;
    int rc =
        ledger_node_maker(c->vault->ledger, c->space, c->path, &maker, c->why);

    if (rc == 0 && maker == c->account)
        rc = on_pool(c, link_compare);
    if (rc < 0)
        return rc;
    return rc > 0 ? 0 : link_may_replace(c);
}

/* Where nothing is, it is made and stands in its place; else it is made aside.
 * One that has a time gets its name after that, so that no kill in between
 * leaves it with another. */
static int link_prepare(void *arg)
{
    struct change *c = arg;
    int rc;

    if (!c->exists && c->mtime_ns == INT64_MIN) {
        rc = link_make(c, c->dir, leaf_of(c->path));
        return rc < 0 ? failed(c, rc) : 0;
    }
    rc = link_aside(c);
    return rc < 0 || c->exists ? rc : link_place(c, RENAME_NOREPLACE);
}

static int link_replace(void *arg)
{
    return link_place(arg, 0);
}

/* After a failure: whether what was there is not any more. */
static int is_gone(void *arg)
{
    struct change *c = arg;
    struct ledger_file was, is;
    struct statx x;
    int rc = store_look(c->dir, leaf_of(c->path), &x);

    if (rc == -ENOENT)
        return 1;
    if (rc < 0)
        return rc == -EAGAIN ? -EIO : rc;
    store_identity(&c->there, &was);
    store_identity(&x, &is);
    return was.device != is.device || was.inode != is.inode;
}

/* Step 2 failed, or did it?  1: go on, it happened. */
static int step_failed(struct change *c, int rc)
{
    int gone = keel_blocking(is_gone, c);

    if (gone > 0)
        return 1;
    if (gone < 0) {
        change_stick(c);
        return rc;
    }
    return ledger_back(c, rc);
}

/* Looked at after a failure: 1 when all is as before, 0 when something else has
 * the name now, an error when nobody knows. */
static int link_is_not(void *arg)
{
    struct change *c = arg;
    struct ledger_file was, is;
    struct statx x;
    int rc = store_look(c->dir, leaf_of(c->path), &x);

    if (rc == -ENOENT && !c->exists)
        return 1;
    if (rc < 0)
        return rc;
    if (!c->exists)
        return 0;
    store_identity(&c->there, &was);
    store_identity(&x, &is);
    return was.device == is.device && was.inode == is.inode;
}

static int link_do(struct change *c)
{
    int rc = on_pool(c, link_prepare);

    if (rc == 0 && c->exists) {
        rc = on_pool(c, link_replace);
        if (rc < 0 && keel_blocking(link_is_not, c) == 0)
            rc = 0; /* it happened all the same */
    }
    return rc;
}

static int link_run(struct change *c)
{
    struct ledger *l = c->vault->ledger;
    struct ledger_making row = {
        .space = c->space, .path = c->path, .account = c->account};
    bool over;
    int rc = change_hold(c, NAME_LEAF);

    if (rc == 0)
        rc = on_pool(c, link_look);
    if (rc < 0)
        return rc;
    if (link_may_be_there(c))
        return link_was_there(c);
    over = row.replaces = c->exists && S_ISREG(c->there.stx_mode);
    row.first = strlen(c->path);
    rc = ledger_making_begin(l, &row, c->why);
    if (rc < 0)
        return rc;
    rc = link_do(c);
    if (rc < 0) {
        /* Where nobody can tell, recovery does. */
        if (keel_blocking(link_is_not, c) == 1)
            (void)ledger_making_back(l, &row, 0, NULL);
        else if (c->exists)
            change_stick(c);
        return rc;
    }
    rc = sync_two(c, c->dir, -1);
    if (rc == 0 && over)
        rc = ledger_making_over(l, &row, c->account, vault_now_s(), c->why);
    else if (rc == 0)
        ledger_making_done(l, row.id);
    if (rc < 0)
        change_stick(c);
    return rc;
}

int vault_link(struct vault *v, const struct actor *who, int64_t space,
               const struct path *path, const char *target, int64_t mtime_ns,
               bool no_replace, struct problem *why)
{
    size_t size = strlen(target);
    struct change c;
    bool drop;
    int rc = change_start(&c, v, who, space, path, why);

    if (rc == 0)
        rc = vault_may_add(v, who, c.space, path, &drop, why);
    if (rc < 0)
        return rc;
    if (path->count == 0)
        return problem(why, FILE_IS_DIRECTORY, .name = "/");
    if (size == 0 || size > LINK_BYTES)
        return problem(why, REQUEST_INVALID,
                       .detail = "a link's target has 1 to 4,095 bytes");
    c.target = target;
    c.mtime_ns = mtime_ns;
    c.no_replace = no_replace;
    c.drop = drop;
    rc = link_run(&c);
    change_finish(&c);
    return rc < 0 ? rc : 0;
}

/* ---- modes and times ------------------------------------------------------------------------ */

static int set_look(void *arg)
{
    struct change *c = arg;
    int rc = look(c);

    if (rc < 0)
        return rc;
    if (!c->exists)
        return missing(c);
    if (S_ISDIR(c->there.stx_mode))
        return 0;
    return store_may_replace(&c->there, shown_path(c->path).text, c->why);
}

/* Opens what was looked at; O_NONBLOCK, as a pipe may be in its place. */
static int set_open(struct change *c)
{
    int rc = set_look(c);

    if (rc < 0)
        return rc;
    c->fd = *c->path ? keel_file_open(c->dir, leaf_of(c->path),
                                      O_RDONLY | O_NONBLOCK, 0)
                     : keel_file_open(c->dir, ".", O_RDONLY | O_DIRECTORY, 0);
    if (c->fd < 0)
        return failed(c, c->fd);
    rc = keel_file_stat(c->fd, NULL, &c->there);
    if (rc < 0)
        return failed(c, rc);
    if (S_ISDIR(c->there.stx_mode))
        return 0;
    return store_may_replace(&c->there, shown_path(c->path).text, c->why);
}

static int set_do(void *arg)
{
    struct change *c = arg;
    int rc = 0;

    /* The space itself stays as the server made it. */
    if (c->mode != (mode_t)-1 && *c->path)
        rc = keel_file_chmod(c->fd, S_ISDIR(c->there.stx_mode)
                                        ? dir_mode(c->mode)
                                        : file_mode(c->mode));
    if (rc == 0 && c->mtime_ns != INT64_MIN)
        rc = keel_file_set_mtime(c->fd, c->mtime_ns);
    if (rc == 0)
        rc = keel_file_stat(c->fd, NULL, &c->to_there);
    return rc < 0 ? failed(c, rc) : 0;
}

static int set_open_run(void *arg)
{
    return set_open(arg);
}

/* The row of the very file, if it has one: its time is about to change, and a
 * crash in the middle must not look like somebody else's doing, so the ctime is
 * taken out of it first. */
static int set_announce(struct change *c, struct ledger_file *ret,
                        bool *ret_row)
{
    struct ledger_file there;
    struct problem p;
    int rc;

    *ret_row = false;
    store_identity(&c->there, &there);
    rc = ledger_file_get(c->vault->ledger, c->space, c->path, ret, &p);
    if (rc < 0 && p.id != PROBLEM_FILE_MISSING) {
        /* There may be one. */
        if (c->why)
            *c->why = p;
        return rc;
    }
    if (rc < 0 || ret->inode != there.inode || ret->size != there.size ||
        ret->mtime_ns != there.mtime_ns)
        return 0;
    *ret_row = true;
    if (ret->ctime_ns == 0 || c->mtime_ns == INT64_MIN)
        return 0;
    ret->ctime_ns = 0;
    return ledger_file_digest(c->vault->ledger, c->space, c->path, ret, c->why);
}

/* The digest that was known of a file is known of it still; one that did not
 * count, as after a change a moment ago, does not now. */
static int set_remember(struct change *c, const struct ledger_file *row,
                        bool counts)
{
    struct ledger_file f = *row;

    if (c->there.stx_size != c->to_there.stx_size)
        return 0;
    store_identity(&c->to_there, &f);
    f.ctime_ns = counts ? f.ctime_ns : 0;
    return ledger_file_digest(c->vault->ledger, c->space, c->path, &f, c->why);
}

static int set_run(struct change *c)
{
    struct ledger_file row;
    struct digest root;
    bool has_row = false, counts = false;
    int rc = on_pool(c, set_look);

    if (rc == 0)
        rc = change_hold(c, S_ISDIR(c->there.stx_mode) ? NAME_USED : NAME_LEAF);
    if (rc == 0)
        rc = on_pool(c, set_open_run);
    if (rc < 0)
        return rc;
    if (S_ISREG(c->there.stx_mode) && c->hold->kind == NAME_LEAF) {
        counts =
            known_digest(c->vault, c->space, c->path, &c->there, &root) != 0;
        rc = set_announce(c, &row, &has_row);
    }
    if (rc == 0)
        rc = on_pool(c, set_do);
    if (rc == 0)
        rc = sync_two(c, c->fd, -1);
    return rc < 0 || !has_row ? rc : set_remember(c, &row, counts);
}

int vault_set(struct vault *v, const struct actor *who, int64_t space,
              const struct path *path, mode_t mode, int64_t mtime_ns,
              struct problem *why)
{
    struct change c;
    int rc = change_start(&c, v, who, space, path, why);

    if (rc == 0)
        rc = account_may(v->accounts, who, c.space, path, RIGHT_WRITE, why);
    if (rc < 0)
        return rc;
    c.mode = mode;
    c.mtime_ns = mtime_ns;
    rc = set_run(&c);
    change_finish(&c);
    return rc;
}

/* ---- moving -------------------------------------------------------------------------------------- */

static bool is_inside(const char *path, const char *top)
{
    size_t size = strlen(top);

    return !strncmp(path, top, size) && path[size] == '/';
}

static int move_may_replace(struct change *c)
{
    struct shown shown = shown_path(c->to);

    if (S_ISDIR(c->to_there.stx_mode))
        return problem(c->why, FILE_IS_DIRECTORY, .name = shown.text);
    if (c->no_replace || S_ISDIR(c->there.stx_mode))
        return problem(c->why, FILE_EXISTS, .name = shown.text);
    if (S_ISLNK(c->to_there.stx_mode))
        return 0;
    return store_may_replace(&c->to_there, shown.text, c->why);
}

static int move_look(void *arg)
{
    struct change *c = arg;
    int rc = look(c);

    if (rc == 0 && !c->exists)
        rc = missing(c);
    if (rc == 0)
        rc = look_at(c, c->to, &c->to_dir, &c->to_exists, &c->to_there);
    if (rc == 0 && c->to_exists)
        rc = move_may_replace(c);
    return rc;
}

/* A rename between two links of one file does nothing: the old one goes. */
static int move_same_file(struct change *c)
{
    struct ledger_file a, b;

    if (!c->to_exists)
        return 0;
    store_identity(&c->there, &a);
    store_identity(&c->to_there, &b);
    return a.device == b.device && a.inode == b.inode;
}

static int move_do(void *arg)
{
    struct change *c = arg;
    const char *from = leaf_of(c->path), *to = leaf_of(c->to);
    int rc;

    if (move_same_file(c)) {
        rc = keel_file_unlink(c->dir, from);
        return rc < 0 ? failed(c, rc) : 0;
    }
    rc = keel_file_rename(c->dir, from, c->to_dir, to,
                          c->to_exists ? 0 : RENAME_NOREPLACE);
    if (rc == -EINVAL && !c->to_exists) /* unknown to the file system */
        rc = keel_file_rename(c->dir, from, c->to_dir, to, 0);
    return rc < 0 ? failed_at(c, rc, c->to) : 0;
}

static int move_look_after(void *arg)
{
    struct change *c = arg;

    return store_look(c->to_dir, leaf_of(c->to), &c->to_there);
}

/* A rename changes a file's ctime.  What is not remembered is computed anew. */
static void move_remember(struct change *c, enum chunk_hash hash,
                          const struct digest *root)
{
    struct ledger_file was, f = {.hash = hash, .root = *root};

    if (!hash || keel_blocking(move_look_after, c) < 0)
        return;
    store_identity(&c->there, &was);
    store_identity(&c->to_there, &f);
    f.account = c->account;
    if (was.device == f.device && was.inode == f.inode && was.size == f.size &&
        was.mtime_ns == f.mtime_ns)
        /* Not remembered, it is computed when somebody asks. */
        (void)ledger_file_digest(c->vault->ledger, c->space, c->to, &f, NULL);
}

static int move_run(struct change *c, const struct actor *who,
                    const struct path *to)
{
    enum chunk_hash hash = 0;
    struct digest root = {0};
    int rc = change_hold(c, NAME_TREE);

    if (rc == 0)
        rc = on_pool(c, move_look);
    if (rc == 0 && c->to_exists)
        rc = account_may(c->vault->accounts, who, c->space, to, RIGHT_DELETE,
                         c->why);
    if (rc == 0)
        rc = ledger_begin(c, LEDGER_MOVE);
    if (rc < 0)
        return rc;
    if (S_ISREG(c->there.stx_mode))
        hash = known_digest(c->vault, c->space, c->path, &c->there, &root);
    rc = on_pool(c, move_do);
    if (rc < 0)
        rc = step_failed(c, rc);
    if (rc >= 0)
        rc = ledger_done(c, c->dir, c->to_dir);
    if (rc == 0)
        move_remember(c, hash, &root);
    return rc;
}

int vault_move(struct vault *v, const struct actor *who, int64_t space,
               const struct path *from, const struct path *to, bool no_replace,
               struct problem *why)
{
    struct change c;
    int rc = change_start(&c, v, who, space, from, why);

    if (rc == 0)
        rc = account_may(v->accounts, who, c.space, from, RIGHT_DELETE, why);
    if (rc == 0)
        rc = account_may(v->accounts, who, c.space, to, RIGHT_WRITE, why);
    if (rc < 0)
        return rc;
    if (from->count == 0 || is_inside(to->text, from->text))
        return problem(why, FILE_INSIDE, .name = shown_path(from->text).text);
    if (to->count == 0)
        return problem(why, FILE_IS_DIRECTORY, .name = "/");
    if (!strcmp(from->text, to->text))
        return problem(why, FILE_EXISTS, .name = shown_path(to->text).text);
    c.to = to->text;
    c.no_replace = no_replace;
    rc = move_run(&c, who, to);
    change_finish(&c);
    return rc;
}

/* ---- removing ----------------------------------------------------------------------------------------- */

static int remove_look(void *arg)
{
    struct change *c = arg;
    int rc = look(c);

    return rc == 0 && !c->exists ? missing(c) : rc;
}

static int remove_do(void *arg)
{
    struct change *c = arg;
    const char *leaf = leaf_of(c->path);
    int rc;

    if (!S_ISDIR(c->there.stx_mode)) {
        rc = keel_file_unlink(c->dir, leaf);
    } else if (c->recursive) {
        trash_name(c->vault, c->temp);
        rc = keel_file_rename(c->dir, leaf, store_trash(c->vault->store),
                              c->temp, RENAME_NOREPLACE);
        if (rc == -EINVAL)
            rc = keel_file_rename(c->dir, leaf, store_trash(c->vault->store),
                                  c->temp, 0);
    } else {
        rc = keel_file_rmdir(c->dir, leaf);
    }
    if (rc == -ENOTEMPTY || rc == -EEXIST)
        return problem(c->why, FILE_NOT_EMPTY,
                       .name = shown_path(c->path).text);
    return rc < 0 ? failed(c, rc) : 0;
}

static int remove_run(struct change *c)
{
    int rc = change_hold(c, NAME_TREE);

    if (rc == 0)
        rc = on_pool(c, remove_look);
    if (rc == 0)
        rc = ledger_begin(c, LEDGER_REMOVE);
    if (rc < 0)
        return rc;
    rc = on_pool(c, remove_do);
    if (rc < 0)
        rc = step_failed(c, rc);
    if (rc < 0)
        return rc;
    /* What a power cut takes out of the trash is none too many. */
    return ledger_done(c, c->dir, -1);
}

int vault_remove(struct vault *v, const struct actor *who, int64_t space,
                 const struct path *path, bool recursive,
                 struct vault_removed *ret, struct problem *why)
{
    struct vault_removed removed = {0};
    char tree[TRASH_NAME_BYTES];
    struct change c;
    int rc = change_start(&c, v, who, space, path, why);

    if (rc == 0)
        rc = account_may(v->accounts, who, c.space, path, RIGHT_DELETE, why);
    if (rc < 0)
        return rc;
    if (path->count == 0)
        return problem(why, RIGHT_MISSING, .detail = "remove", .name = "/");
    c.recursive = recursive;
    rc = remove_run(&c);
    memcpy(tree, c.temp, sizeof tree);
    *c.temp = '\0'; /* not one file that could be unlinked */
    change_finish(&c);
    if (rc < 0)
        return rc;
    if (*tree)
        trash_empty(v, tree, &removed);
    else if (S_ISDIR(c.there.stx_mode))
        removed.directories = 1;
    else
        removed.files = 1;
    *ret = removed;
    return 0;
}
