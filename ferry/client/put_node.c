/* SPDX-License-Identifier: MIT */
#include <stdio.h>
#include <string.h>

#include <keel/file.h>

#include "client/put_inside.h"

/* ---- making one --------------------------------------------------------------- */

static int64_t ns_of(const struct statx_timestamp *t)
{
    return t->tv_sec * 1000000000 + t->tv_nsec;
}

static void node_free(struct node *n)
{
    keel_file_close(n->fd);
    known_free(n->known);
    keel_free(n->path);
    keel_free(n->local);
    keel_free(n);
}

int node_new(struct tree *t, struct node *parent, const char *name,
             const char *local, int fd, struct node **ret, struct problem *why)
{
    struct node *n = keel_calloc(1, sizeof(*n));
    struct statx st;
    int rc;

    if (!n)
        return problem(why, NO_MEMORY);
    n->tree = t;
    n->fd = -1;
    n->path = keel_alloc(sizeof(*n->path));
    n->local = keel_strdup(local);
    if (!n->path || !n->local) {
        node_free(n);
        return problem(why, NO_MEMORY);
    }
    keel_event_init(&n->settled);
    atomic_store(&n->pending, 1);
    atomic_store(&n->reads, 1);
    rc = fd < 0 ? 0 : keel_file_stat(fd, NULL, &st);
    /* A descriptor of its own: the walker closes its one when it leaves. */
    if (rc == 0 && fd >= 0)
        rc = n->fd = keel_file_open(fd, ".", O_RDONLY | O_DIRECTORY, 0);
    if (rc < 0) {
        node_free(n);
        return problem(why, FILE_LOCAL, .errno_ = -rc, .name = local);
    }
    if (fd >= 0) {
        n->mode = st.stx_mode & 07777;
        n->mtime_ns = ns_of(&st.stx_mtime);
    }
    *n->path = parent ? *parent->path : *t->o->target;
    rc = *name ? path_append(n->path, name, why) : 0;
    if (rc < 0) {
        node_free(n);
        return rc;
    }
    n->name = path_leaf(n->path);
    n->parent = parent;
    *ret = n;
    return 0;
}

void node_use(struct node *n, bool reads)
{
    atomic_fetch_add(&n->pending, 1);
    if (reads)
        atomic_fetch_add(&n->reads, 1);
}

void node_read(struct node *n)
{
    if (atomic_fetch_sub(&n->reads, 1) != 1)
        return;
    keel_file_close(n->fd);
    n->fd = -1;
}

enum node_state node_wait(struct node *n)
{
    keel_shield(); /* its maker settles it, whatever happens */
    (void)keel_event_wait(&n->settled, KEEL_FOREVER);
    keel_unshield();
    return n->state;
}

void node_settle(struct node *n, enum node_state state)
{
    n->state = state;
    keel_event_set(&n->settled);
}

int node_path(const struct node *n, const char *name, struct path *ret,
              struct problem *why)
{
    *ret = *n->path;
    return path_append(ret, name, why);
}

void node_local(const struct node *n, const char *name, char *ret, size_t size)
{
    size_t local = strlen(n->local);

    snprintf(ret, size, "%s%s%s", n->local,
             !*name || (local > 0 && n->local[local - 1] == '/') ? "" : "/",
             name);
}

void item_local(const struct item *i, char *ret, size_t size)
{
    if (i->source)
        snprintf(ret, size, "%s", i->source);
    else
        node_local(i->node, i->name, ret, size);
}

void item_free(struct item *i)
{
    struct node *n = i->node;

    keel_free(i->name);
    keel_free(i->why);
    keel_free(i->bytes);
    keel_free(i->target);
    memset(i, 0, sizeof(*i));
    if (n)
        node_release(n);
}

/* ---- on the other side ------------------------------------------------------------ */

static int look(struct session *s, struct node *n, char *ret_type,
                struct problem *why)
{
    struct remote_entry e;
    struct problem missing;
    int rc;

    *ret_type = 0;
    if (n->path->count == 0) {
        *ret_type = 'd'; /* a root is there */
        return 0;
    }
    rc = remote_stat_in(s, n->tree->o->space, n->path, &e, &missing);
    /* Who may only drop learns nothing of what is there. */
    if (rc < 0 && (missing.id == PROBLEM_FILE_MISSING ||
                   missing.id == PROBLEM_RIGHT_MISSING))
        return 0;
    if (rc < 0) {
        *why = missing;
        return rc;
    }
    *ret_type = e.type;
    n->same = e.type == 'd' && e.mtime_ns == n->mtime_ns &&
              mode_kept('d', e.mode) == mode_kept('d', n->mode);
    return 0;
}

/* What the directory above was found to have. */
static bool parent_tells(struct node *n, char *ret_type)
{
    struct known_version v = {'d', 0, n->mtime_ns, n->mode, NULL};
    const struct node *up = n->parent;

    /* Of the directory the sources go to only some names were looked for. */
    if (!up || up == n->tree->base || !(up->fresh || up->known))
        return false;
    *ret_type = up->fresh ? 0 : known_type(up->known, n->name);
    n->same =
        *ret_type == 'd' && known_ask(up->known, n->name, &v) == KNOWN_SAME;
    return true;
}

static int mkdir_ask(struct session *s, struct node *n, bool parents,
                     struct problem *why)
{
    json_t *fields = path_fields_in(n->tree->o->space, n->path);

    /* Whatever its own mode will be, its content must fit in. */
    if (!fields ||
        (parents && json_object_set_new(fields, "parents", json_true()) < 0) ||
        json_object_set_new(fields, "mode",
                            json_integer((n->mode & 0777) | 0700)) < 0) {
        json_decref(fields);
        return problem(why, NO_MEMORY);
    }
    return link_ask(s->link, "mkdir", fields, KEEL_FOREVER, NULL, why);
}

static int make(struct session *s, void *arg, struct problem *why)
{
    struct node *n = arg;
    char type = 0;
    bool unseen = false;
    int rc = 0;

    if (!parent_tells(n, &type))
        rc = look(s, n, &type, why);
    if (rc == 0 && !type && !n->tree->c->dry_run) {
        rc = mkdir_ask(s, n, false, why);
        /* Somebody was faster: perhaps we, before the line broke. */
        if (rc < 0 && why->id == PROBLEM_FILE_EXISTS) {
            rc = look(s, n, &type, why);
            unseen = rc == 0 && !type;
        }
    }
    /* In a drop box, where an earlier run made it: there is nothing to be seen,
     * but `parents` takes a directory that is there, and nothing else. */
    if (unseen)
        rc = mkdir_ask(s, n, true, why);
    if (rc < 0)
        return rc;
    if (unseen) {
        n->fresh = false;
        return 0;
    }
    if (type && type != 'd') {
        char path[PROBLEM_TEXT_BYTES];

        path_print(n->path, path, sizeof(path));
        return problem(why, FILE_NOT_DIRECTORY, .name = path);
    }
    n->fresh = !type;
    return type ? known_list(s, n->tree->o->space, n->path, &n->known, why) : 0;
}

static int make_run(void *arg)
{
    struct node *n = arg;
    struct tree *t = n->tree;
    struct problem why = {0};
    int rc;

    if (n->parent && node_wait(n->parent) == NODE_FAILED) {
        node_settle(n, NODE_FAILED); /* that one was said */
    } else {
        rc = batch_run(t->o->batch, make, n, &why);
        if (rc < 0)
            report_failed(t, n->local, n->path, &why);
        else if (n->fresh && n->parent)
            n->parent->touched = true;
        if (rc == 0)
            report_directory(t, n);
        node_settle(n, rc < 0 ? NODE_FAILED : NODE_READY);
    }
    node_release(n);
    return 0;
}

void node_make(struct node *n)
{
    struct keel_spawn how = {.name = "mkdir", .group = n->tree->makers};
    struct problem why;

    if (keel_spawn(&how, make_run, n, NULL) == 0)
        return;
    problem(&why, NO_MEMORY);
    report_failed(n->tree, n->local, n->path, &why);
    node_settle(n, NODE_FAILED);
    node_release(n);
}

/* ---- at the end ------------------------------------------------------------------- */

static int set(struct session *s, void *arg, struct problem *why)
{
    struct node *n = arg;
    json_t *fields = path_fields_in(n->tree->o->space, n->path);
    int rc;

    if (!fields ||
        json_object_update_new(
            fields, json_pack("{s:i, s:I}", "mode", (int)(n->mode & 0777),
                              "mtime_ns", (json_int_t)n->mtime_ns)) < 0) {
        json_decref(fields);
        return problem(why, NO_MEMORY);
    }
    rc = link_ask(s->link, "set", fields, KEEL_FOREVER, NULL, why);
    /* In a drop box what was made is the box's: its files came with their
     * dates, its directories keep those of the day. */
    return rc < 0 && why->id == PROBLEM_RIGHT_MISSING ? 0 : rc;
}

static void node_end(struct node *n)
{
    struct node *parent = n->parent;
    struct tree *t = n->tree;

    if (n == t->base)
        keel_event_set(&t->finished);
    else
        node_free(n);
    if (parent)
        node_release(parent);
}

static int set_run(void *arg)
{
    struct node *n = arg;
    struct problem why = {0};
    int rc = batch_run(n->tree->o->batch, set, n, &why);

    /* Who may only drop may not date what they made: it is there all the same. */
    if (rc < 0 && why.id == PROBLEM_RIGHT_MISSING)
        cli_trace(n->tree->c, "the time of a directory could not be set");
    else if (rc < 0)
        report_failed(n->tree, n->local, n->path, &why);
    node_end(n);
    return 0;
}

/* Also in the walking thread, but then `stop` is set and there is nothing to
 * ask for. */
static bool wants_set(const struct node *n)
{
    const struct tree *t = n->tree;

    return !atomic_load(&t->stop) && n->state == NODE_READY && n != t->base &&
           n->path->count > 0 && !t->c->dry_run &&
           (n->fresh || n->touched || !n->same) && !batch_broken(t->o->batch);
}

void node_release(struct node *n)
{
    struct keel_spawn how = {.name = "set", .group = n->tree->makers};

    if (atomic_fetch_sub(&n->pending, 1) != 1)
        return;
    if (wants_set(n) && keel_spawn(&how, set_run, n, NULL) == 0)
        return;
    node_end(n);
}
