/* SPDX-License-Identifier: MIT */
#include "client/walk.h"

#include <dirent.h>
#include <errno.h>
#include <stdio.h>
#include <string.h>

#include <keel/file.h>

/* Invariant: `path` is that of the directory being listed, "" or without a
 * slash at its end, of `size` bytes. */
struct walker {
    const struct walk_options *o;
    int (*each)(const struct walk_event *e, void *arg);
    void *arg;
    unsigned depth; /* names in `path` */
    size_t size;
    char path[PATH_BYTES + 1];
};

struct level {
    struct walker *w;
    int dir;
};

static int tell_problem(struct walker *w, int dir, const char *name,
                        const struct problem *why)
{
    struct walk_event e = {.kind = WALK_PROBLEM,
                           .dir = dir,
                           .self = -1,
                           .name = name,
                           .path = w->path,
                           .why = why};

    return w->each(&e, w->arg);
}

static int tell_errno(struct walker *w, int dir, const char *name, int rc)
{
    char words[PROBLEM_TEXT_BYTES * 2];
    struct problem why;

    snprintf(words, sizeof(words), "%.255s%s%.255s", w->o->name,
             w->size ? "/" : "", w->path);
    problem(&why, FILE_LOCAL, .errno_ = -rc, .name = words);
    return tell_problem(w, dir, name, &why);
}

static int list(struct walker *w, int dir);

static int enter(struct walker *w, int dir, const char *name)
{
    int self =
        keel_file_open(dir, name, O_RDONLY | O_DIRECTORY | O_NOFOLLOW, 0);
    struct walk_event e = {.kind = WALK_ENTER,
                           .dir = dir,
                           .self = self,
                           .name = name,
                           .path = w->path};
    int rc;

    if (self < 0)
        return tell_errno(w, dir, name, self);
    rc = w->each(&e, w->arg);
    if (rc == 0) {
        rc = list(w, self);
        e.kind = WALK_LEAVE;
        w->each(&e, w->arg);
    }
    keel_file_close(self);
    return rc == WALK_SKIP ? 0 : rc;
}

/* The other side could not name it. */
static bool too_far(const struct walker *w, struct problem *why)
{
    size_t size = w->o->base_size + 1 + w->size;

    if (w->o->base_depth + w->depth > PATH_DEPTH)
        problem(why, PATH_TOO_DEEP, .size = w->o->base_depth + w->depth,
                .limit = PATH_DEPTH);
    else if (size > PATH_BYTES)
        problem(why, PATH_TOO_LONG, .size = size, .limit = PATH_BYTES);
    else
        return false;
    return true;
}

static unsigned char type_of(int dir, const char *name, unsigned char type,
                             int *ret_rc)
{
    struct statx st;

    *ret_rc = 0;
    if (type != DT_UNKNOWN)
        return type;
    *ret_rc = keel_file_stat(dir, name, &st);
    return *ret_rc < 0 ? type : (unsigned char)IFTODT(st.stx_mode);
}

static int tell(struct walker *w, int dir, const char *name, unsigned char type)
{
    struct walk_event e = {
        .dir = dir, .self = -1, .name = name, .path = w->path};
    struct problem why;
    int rc;

    type = type_of(dir, name, type, &rc);
    if (rc < 0)
        return tell_errno(w, dir, name, rc);
    if (!filter_keeps(w->o->filters, w->o->filter_count, w->path,
                      type == DT_DIR))
        return 0;
    if (too_far(w, &why))
        return tell_problem(w, dir, name, &why);
    if (type == DT_DIR)
        return enter(w, dir, name);
    e.kind = type == DT_REG   ? WALK_FILE
             : type == DT_LNK ? WALK_LINK
                              : WALK_OTHER;
    return w->each(&e, w->arg);
}

static int list_one(const char *name, unsigned char type, void *arg)
{
    struct level *l = arg;
    struct walker *w = l->w;
    size_t before = w->size, size = strlen(name);
    int rc;

    if (before + 1 + size > PATH_BYTES) {
        struct problem why;

        problem(&why, PATH_TOO_LONG, .size = before + 1 + size,
                .limit = PATH_BYTES);
        return tell_problem(w, l->dir, name, &why);
    }
    if (before > 0)
        w->path[w->size++] = '/';
    memcpy(w->path + w->size, name, size + 1);
    w->size += size;
    w->depth++;
    rc = tell(w, l->dir, name, type);
    w->depth--;
    w->size = before;
    w->path[before] = 0;
    return rc;
}

static int list(struct walker *w, int dir)
{
    struct level l = {w, dir};
    int rc = keel_file_list(dir, list_one, &l);

    /* Errors of the disk; the callback's own values are positive. */
    return rc < 0 ? tell_errno(w, dir, "", rc) : rc;
}

int walk(const struct walk_options *o, int root,
         int (*each)(const struct walk_event *e, void *arg), void *arg)
{
    struct walker *w = keel_calloc(1, sizeof(*w));
    struct walk_event e = {
        .kind = WALK_ENTER, .dir = -1, .self = root, .name = "", .path = ""};
    int rc;

    if (!w)
        return -ENOMEM;
    w->o = o;
    w->each = each;
    w->arg = arg;
    rc = each(&e, arg);
    if (rc == 0) {
        rc = list(w, root);
        e.kind = WALK_LEAVE;
        each(&e, arg);
    }
    keel_free(w);
    return rc == WALK_SKIP ? 0 : rc;
}
