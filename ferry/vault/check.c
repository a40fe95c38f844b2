/* SPDX-License-Identifier: MIT */
/* The ledger compared with the disk, one space at a time and in bounded
 * memory.  It may run while the space is in use: what looks wrong is looked
 * at again while its name is held. */
#include <dirent.h>
#include <errno.h>
#include <limits.h>
#include <stdio.h>
#include <string.h>
#include <sys/queue.h>

#include <keel/co.h>
#include <keel/file.h>

#include "vault_inside.h"

enum { BATCH = 256 };

enum verdict {
    ROW_FINE,
    ROW_UNSURE,  /* just published, or its time is being set */
    ROW_GONE,    /* no file under the name */
    ROW_CHANGED, /* another file, or the same after somebody wrote to it */
};

struct checking {
    struct vault *vault;
    struct ledger_space space;
    bool repair;
    int (*each)(const struct vault_finding *f, void *arg);
    void *arg;
    struct problem *why;
    unsigned count;
    char *paths[BATCH];
    struct ledger_file rows[BATCH];
    enum verdict verdicts[BATCH];
    struct vault_outside outside;
    unsigned node_count; /* directories and links */
    char *nodes[BATCH];
    bool known[BATCH];
    bool adopt; /* those without a row get one: nothing else is looked at */
    int result; /* of each, when it ended the check */
};

static bool is_nowhere(int rc)
{
    return rc == -ENOENT || rc == -ENOTDIR || rc == -ELOOP || rc == -EXDEV;
}

/* The device is not compared: its number may be another after a restart. What
 * was found on the disk may change as its owner likes. */
static enum verdict compare(const struct ledger_file *row,
                            const struct statx *x)
{
    struct ledger_file there;

    store_identity(x, &there);
    if (row->found)
        return ROW_FINE;
    if (row->inode != there.inode || row->size != there.size)
        return ROW_CHANGED;
    if (!row->ctime_ns)
        return ROW_UNSURE;
    return row->mtime_ns == there.mtime_ns ? ROW_FINE : ROW_CHANGED;
}

/* A verdict, or a problem. */
static int look_for(struct checking *c, const char *path,
                    const struct ledger_file *row)
{
    keel_auto(file) int dir =
        store_dir(c->vault->store, c->space.dir, path, parent_size(path));
    struct statx x;
    int rc = dir < 0 ? dir : store_look(dir, leaf_of(path), &x);

    if (is_nowhere(rc))
        return ROW_GONE;
    if (rc < 0)
        return vault_problem(c->vault, c->why, rc, path, 0);
    if (!S_ISREG(x.stx_mode))
        return ROW_GONE;
    return (int)compare(row, &x);
}

static int look_for_batch(void *arg)
{
    struct checking *c = arg;

    for (unsigned i = 0; i < c->count; i++) {
        int rc = look_for(c, c->paths[i], &c->rows[i]);

        if (rc < 0)
            return rc;
        c->verdicts[i] = (enum verdict)rc;
    }
    return 0;
}

static int tell(struct checking *c, const char *path, const char *what,
                bool repaired)
{
    struct vault_finding f = {path, what, repaired, NULL};
    int rc = c->each(&f, c->arg);

    if (rc < 0)
        c->result = rc;
    return rc;
}

struct again {
    struct checking *check;
    const char *path;
    const struct ledger_file *row;
};

static int look_again(void *arg)
{
    struct again *a = arg;

    return look_for(a->check, a->path, a->row);
}

/* With its name held, so that no upload is between row and file. */
static int row_confirm(struct checking *c, const char *path)
{
    static const char *const words[] = {
        [ROW_GONE] = "is in the ledger and not on the disk",
        [ROW_CHANGED] = "was changed by somebody else, and its hash on record "
                        "does not count",
    };
    struct ledger_file row;
    struct again again = {c, path, &row};
    enum verdict verdict;
    bool repaired = false;
    int rc;

    if (ledger_file_get(c->vault->ledger, c->space.id, path, &row, NULL) < 0)
        return 0;
    rc = keel_blocking(look_again, &again);
    if (rc == -EAGAIN)
        return problem(c->why, NO_MEMORY);
    if (rc < 0)
        return rc;
    if (rc == ROW_FINE || rc == ROW_UNSURE)
        return 0;
    verdict = (enum verdict)rc;
    if (c->repair) {
        rc = ledger_file_remove(c->vault->ledger, c->space.id, path, c->why);
        if (rc < 0)
            return rc;
        repaired = true;
    }
    return tell(c, path, words[verdict], repaired);
}

static int doubtful(struct checking *c, const char *path,
                    int (*confirm)(struct checking *c, const char *path))
{
    struct name_hold *h = name_hold_new(NAME_LEAF, c->space.id, path, NULL);
    int rc;

    if (!h)
        return problem(c->why, NO_MEMORY);
    rc = committer_hold_name(c->vault->committer, h, c->why);
    if (rc < 0) {
        keel_free(h);
        return rc;
    }
    rc = confirm(c, path);
    committer_drop_name(c->vault->committer, h);
    return rc;
}

static int batch_end(struct checking *c)
{
    int rc = keel_blocking(look_for_batch, c);

    if (rc == -EAGAIN)
        rc = problem(c->why, NO_MEMORY);
    for (unsigned i = 0; i < c->count; i++) {
        if (rc >= 0 && c->verdicts[i] != ROW_FINE)
            rc = doubtful(c, c->paths[i], row_confirm);
        keel_free(c->paths[i]);
    }
    c->count = 0;
    return rc < 0 ? rc : 0;
}

static int batch_add(const char *path, const struct ledger_file *f, void *arg)
{
    struct checking *c = arg;
    char *kept = keel_strdup(path);

    if (!kept)
        return problem(c->why, NO_MEMORY);
    c->rows[c->count] = *f;
    c->paths[c->count++] = kept;
    if (keel_cancelled())
        return problem(c->why, CANCELLED);
    return c->count < BATCH ? 0 : batch_end(c);
}

static int check_rows(struct checking *c)
{
    int rc =
        ledger_file_list(c->vault->ledger, c->space.id, batch_add, c, c->why);

    if (rc == 0)
        return batch_end(c);
    while (c->count > 0)
        keel_free(c->paths[--c->count]);
    return rc;
}

/* ---- directories and links ---------------------------------------------------------- */

/* 1 when one of either is there. */
static int node_is_there(struct checking *c, const char *path)
{
    keel_auto(file) int dir =
        store_dir(c->vault->store, c->space.dir, path, parent_size(path));
    struct statx x;
    int rc = dir < 0 ? dir : store_look(dir, leaf_of(path), &x);

    if (is_nowhere(rc))
        return 0;
    if (rc < 0)
        return vault_problem(c->vault, c->why, rc, path, 0);
    return S_ISDIR(x.stx_mode) || S_ISLNK(x.stx_mode);
}

static int nodes_look(void *arg)
{
    struct checking *c = arg;

    for (unsigned i = 0; i < c->node_count; i++) {
        int rc = node_is_there(c, c->nodes[i]);

        if (rc < 0)
            return rc;
        c->known[i] = rc > 0;
    }
    return 0;
}

struct node_again {
    struct checking *check;
    const char *path;
};

static int node_look_again(void *arg)
{
    struct node_again *a = arg;

    return node_is_there(a->check, a->path);
}

/* With its name held: as row_confirm. */
static int node_confirm(struct checking *c, const char *path)
{
    struct node_again again = {c, path};
    bool has_row = false;
    int rc = ledger_nodes_get(c->vault->ledger, c->space.id, &path, 1, &has_row,
                              c->why);

    if (rc < 0 || !has_row)
        return rc;
    rc = keel_blocking(node_look_again, &again);
    if (rc == -EAGAIN)
        return problem(c->why, NO_MEMORY);
    if (rc != 0)
        return rc < 0 ? rc : 0;
    if (c->repair)
        rc = ledger_node_remove(c->vault->ledger, c->space.id, path, c->why);
    if (rc < 0)
        return rc;
    return tell(c, path, "is in the ledger and not on the disk", c->repair);
}

static void nodes_drop(struct checking *c)
{
    while (c->node_count > 0)
        keel_free(c->nodes[--c->node_count]);
}

static int nodes_end(struct checking *c)
{
    int rc = keel_blocking(nodes_look, c);

    if (rc == -EAGAIN)
        rc = problem(c->why, NO_MEMORY);
    for (unsigned i = 0; i < c->node_count && rc >= 0; i++)
        if (!c->known[i])
            rc = doubtful(c, c->nodes[i], node_confirm);
    nodes_drop(c);
    return rc < 0 ? rc : 0;
}

static int nodes_add(const char *path, void *arg)
{
    struct checking *c = arg;
    char *kept = keel_strdup(path);

    if (!kept)
        return problem(c->why, NO_MEMORY);
    c->nodes[c->node_count++] = kept;
    if (keel_cancelled())
        return problem(c->why, CANCELLED);
    return c->node_count < BATCH ? 0 : nodes_end(c);
}

static int check_nodes(struct checking *c)
{
    int rc =
        ledger_node_list(c->vault->ledger, c->space.id, nodes_add, c, c->why);

    if (rc == 0)
        return nodes_end(c);
    nodes_drop(c);
    return rc;
}

static int check_sums(struct checking *c)
{
    struct ledger_sums s;
    char what[160];
    int rc =
        ledger_space_sum(c->vault->ledger, c->space.id, c->repair, &s, c->why);

    if (rc < 0 || (s.said_bytes == s.bytes && s.said_files == s.files))
        return rc;
    (void)snprintf(what, sizeof what,
                   "is said to use %lld bytes in %lld names; they come to %lld "
                   "bytes in %lld names",
                   (long long)s.said_bytes, (long long)s.said_files,
                   (long long)s.bytes, (long long)s.files);
    return tell(c, "", what, c->repair);
}

/* ---- what came from outside --------------------------------------------------------- */

/* Directories that are still to be read: the last first, so that no more wait
 * than there are beside each other on the way down. */
struct pending {
    SLIST_ENTRY(pending) link;
    unsigned depth;
    char path[];
};

struct outside {
    struct checking *check;
    SLIST_HEAD(, pending) pending;
    const struct pending *at;
    int dir;
};

static int path_join(const char *path, const char *name, char **ret)
{
    size_t size = strlen(path), more = strlen(name);
    char *text = keel_alloc(size + more + 2);

    if (!text)
        return -ENOMEM;
    memcpy(text, path, size);
    if (size)
        text[size++] = '/';
    memcpy(text + size, name, more + 1);
    *ret = text;
    return 0;
}

/* Those without a row. */
static int outside_files(struct outside *o)
{
    struct checking *c = o->check;
    const char *paths[BATCH];
    int rc = 0;

    for (unsigned i = 0; i < c->count; i++)
        paths[i] = c->paths[i];
    if (c->count)
        rc = ledger_files_get(c->vault->ledger, c->space.id, paths, c->count,
                              c->rows, c->why);
    for (unsigned i = 0; i < c->count; i++) {
        c->outside.files += rc == 0 && (!c->rows[i].hash || c->rows[i].found);
        keel_free(c->paths[i]);
    }
    c->count = 0;
    return rc;
}

static int outside_file(struct outside *o, const char *name)
{
    struct checking *c = o->check;

    if (path_join(o->at->path, name, &c->paths[c->count]) < 0)
        return problem(c->why, NO_MEMORY);
    return ++c->count < BATCH ? 0 : outside_files(o);
}

/* Directories and links without a row. */
static int outside_nodes(struct outside *o)
{
    struct checking *c = o->check;
    const char *paths[BATCH];
    unsigned count = 0;
    int rc;

    for (unsigned i = 0; i < c->node_count; i++)
        paths[i] = c->nodes[i];
    rc = ledger_nodes_get(c->vault->ledger, c->space.id, paths, c->node_count,
                          c->known, c->why);
    for (unsigned i = 0; rc == 0 && i < c->node_count; i++)
        if (!c->known[i])
            paths[count++] = c->nodes[i];
    if (rc == 0 && c->adopt)
        rc = ledger_nodes_found(c->vault->ledger, c->space.id, paths, count,
                                c->why);
    c->outside.names += count;
    nodes_drop(c);
    return rc;
}

static int outside_node(struct outside *o, const char *name)
{
    struct checking *c = o->check;

    if (path_join(o->at->path, name, &c->nodes[c->node_count]) < 0)
        return problem(c->why, NO_MEMORY);
    return ++c->node_count < BATCH ? 0 : outside_nodes(o);
}

static int outside_directory(struct outside *o, const char *name)
{
    size_t size = strlen(o->at->path), more = strlen(name);
    struct pending *p;
    int rc;

    if (size + more + 1 > PATH_BYTES) { /* nobody can name it */
        o->check->outside.others++;
        return 0;
    }
    rc = outside_node(o, name);
    if (rc < 0)
        return rc;
    p = keel_alloc(sizeof *p + size + more + 2);
    if (!p)
        return problem(o->check->why, NO_MEMORY);
    p->depth = o->at->depth + 1;
    (void)snprintf(p->path, size + more + 2, "%s%s%s", o->at->path,
                   size ? "/" : "", name);
    SLIST_INSERT_HEAD(&o->pending, p, link);
    return 0;
}

/* Whether a link's text, followed from that many directories down, would leave
 * the space. */
static bool leads_out(const char *target, unsigned depth)
{
    if (*target == '/')
        return true;
    while (*target) {
        size_t size = strcspn(target, "/");

        if (size == 2 && !memcmp(target, "..", 2)) {
            if (depth-- == 0)
                return true;
        } else if (size > 1 || (size == 1 && *target != '.')) {
            depth++;
        }
        target += size + (target[size] == '/');
    }
    return false;
}

static int outside_link(struct outside *o, const char *name)
{
    keel_auto(mem) void *memory = keel_alloc(PATH_MAX + 1);
    char *text = memory;
    ssize_t size;

    if (!text)
        return problem(o->check->why, NO_MEMORY);
    size = keel_file_readlink(o->dir, name, text, PATH_MAX);
    if (size < 0) /* gone meanwhile */
        return 0;
    text[size] = '\0';
    o->check->outside.links += leads_out(text, o->at->depth);
    if (strlen(o->at->path) + strlen(name) + 1 > PATH_BYTES)
        return 0;
    return outside_node(o, name);
}

static unsigned char type_at(int dir, const char *name, unsigned char type)
{
    struct statx x;

    if (type != DT_UNKNOWN)
        return type;
    return store_look(dir, name, &x) < 0 ? DT_UNKNOWN
                                         : (unsigned char)IFTODT(x.stx_mode);
}

static int outside_name(const char *name, unsigned char type, void *arg)
{
    struct outside *o = arg;

    if (keel_cancelled())
        return problem(o->check->why, CANCELLED);
    switch (type_at(o->dir, name, type)) {
    case DT_REG:
        return outside_file(o, name);
    case DT_DIR:
        return outside_directory(o, name);
    case DT_LNK:
        return outside_link(o, name);
    case DT_UNKNOWN: /* gone meanwhile */
        return 0;
    default:
        o->check->outside.others++;
        return 0;
    }
}

/* What goes meanwhile is passed over. */
static int outside_read(struct outside *o)
{
    struct checking *c = o->check;
    const char *path = o->at->path;
    int rc;

    o->dir = store_dir(c->vault->store, c->space.dir, path, strlen(path));
    if (is_nowhere(o->dir))
        return 0;
    if (o->dir < 0)
        return vault_problem(c->vault, c->why, o->dir, path, 0);
    rc = keel_file_list(o->dir, outside_name, o);
    keel_file_close(o->dir);
    return rc;
}

static int outside_walk(struct outside *o)
{
    struct pending *p;
    int rc = 0;

    while (rc == 0 && (p = SLIST_FIRST(&o->pending))) {
        SLIST_REMOVE_HEAD(&o->pending, link);
        o->at = p;
        rc = outside_read(o);
        keel_free(p);
    }
    while ((p = SLIST_FIRST(&o->pending))) {
        SLIST_REMOVE_HEAD(&o->pending, link);
        keel_free(p);
    }
    return rc;
}

static int outside_tell(struct checking *c)
{
    const struct vault_outside *o = &c->outside;
    char what[240];
    struct vault_finding f = {"", what, false, o};
    int rc;

    if (o->files + o->names + o->links + o->others == 0)
        return 0;
    (void)snprintf(what, sizeof what,
                   "from outside: files, served and in no quota: %llu; "
                   "directories and links, likewise: %llu; links "
                   "that lead out, never followed: %llu; others, never "
                   "served: %llu",
                   (unsigned long long)o->files, (unsigned long long)o->names,
                   (unsigned long long)o->links, (unsigned long long)o->others);
    rc = c->each(&f, c->arg);
    if (rc < 0)
        c->result = rc;
    return rc;
}

static int outside_run(struct checking *c)
{
    struct outside o = {.check = c};
    struct pending *top = keel_calloc(1, sizeof *top + 1);
    int rc;

    if (!top)
        return problem(c->why, NO_MEMORY);
    SLIST_INIT(&o.pending);
    SLIST_INSERT_HEAD(&o.pending, top, link);
    rc = outside_walk(&o);
    if (rc >= 0)
        rc = outside_files(&o);
    if (rc >= 0)
        rc = outside_nodes(&o);
    while (c->count > 0)
        keel_free(c->paths[--c->count]);
    nodes_drop(c);
    return rc;
}

static int check_outside(struct checking *c)
{
    int rc = outside_run(c);

    return rc < 0 ? rc : outside_tell(c);
}

int vault_adopt(struct vault *v, const struct ledger_space *space,
                uint64_t *ret_names, struct problem *why)
{
    keel_auto(mem) void *memory = keel_calloc(1, sizeof(struct checking));
    struct checking *c = memory;
    int rc;

    if (!c)
        return problem(why, NO_MEMORY);
    *c = (struct checking){
        .vault = v, .space = *space, .adopt = true, .why = why};
    rc = outside_run(c);
    if (rc == 0)
        rc = ledger_space_counted(v->ledger, space->id, why);
    if (rc == 0)
        *ret_names = c->outside.names;
    return rc;
}

/* ---- the directory itself ------------------------------------------------------------- */

static int any_row(const char *path, const struct ledger_file *f, void *arg)
{
    (void)path;
    (void)f;
    (void)arg;
    return -E2BIG;
}

static int any_node(const char *path, void *arg)
{
    (void)path;
    (void)arg;
    return -E2BIG;
}

/* 1: there is nothing to compare with.  It is made with its first file. */
static int check_directory(struct checking *c)
{
    int rc = store_space_look(c->vault->store, c->space.dir);
    char what[80];

    if (rc == -ESTALE) {
        rc = tell(c, "", "spaces/ is another directory than ferryd opened",
                  false);
        return rc < 0 ? rc : 1;
    }
    if (rc != -ENOENT)
        return rc < 0 ? vault_problem(c->vault, c->why, rc, "", 0) : 0;
    rc = ledger_file_list(c->vault->ledger, c->space.id, any_row, NULL, c->why);
    if (rc == 0)
        rc = ledger_node_list(c->vault->ledger, c->space.id, any_node, NULL,
                              c->why);
    if (rc != -E2BIG)
        return rc < 0 ? rc : 1;
    /* Not to be repaired: the rows are all that tells what was there. */
    (void)snprintf(what, sizeof what, "spaces/%s is missing with all its files",
                   c->space.dir);
    rc = tell(c, "", what, false);
    return rc < 0 ? rc : 1;
}

int vault_check(struct vault *v, int64_t space, bool repair,
                int (*each)(const struct vault_finding *f, void *arg),
                void *arg, struct problem *why)
{
    keel_auto(mem) void *memory = keel_calloc(1, sizeof(struct checking));
    struct checking *c = memory;
    int rc;

    if (!c)
        return problem(why, NO_MEMORY);
    *c = (struct checking){
        .vault = v, .repair = repair, .each = each, .arg = arg, .why = why};
    rc = vault_space(v, space, true, &c->space, why);
    if (rc == 0)
        rc = check_directory(c);
    if (rc == 0)
        rc = check_rows(c);
    if (rc == 0)
        rc = check_nodes(c);
    if (rc == 0)
        rc = check_outside(c);
    if (rc >= 0)
        rc = check_sums(c);
    return c->result < 0 ? c->result : rc;
}
