/* SPDX-License-Identifier: MIT */
#include <errno.h>
#include <string.h>

#include <keel/co.h>
#include <keel/file.h>

#include "client/put_inside.h"

/* A job ends when it has read so much; what is left is for the next one. */
#define JOB_BYTES ((size_t)1 << 20)
#define LINK_BYTES 4095

struct reading {
    struct tree *tree;
    struct item *items;
    unsigned at, count;
};

static int64_t ns_of(const struct statx_timestamp *t)
{
    return t->tv_sec * 1000000000 + t->tv_nsec;
}

/* ---- one name --------------------------------------------------------------------- */

static void item_fail(struct item *i, const struct problem *why)
{
    keel_free(i->bytes);
    i->bytes = NULL;
    i->outcome = OUT_FAILED;
    if (!i->why)
        i->why = keel_alloc(sizeof(*why));
    if (i->why)
        *i->why = *why;
}

#define item_problem(i, ID, ...)                                               \
    do {                                                                       \
        char name_[PATH_BYTES + 1];                                            \
        struct problem why_;                                                   \
                                                                               \
        item_local((i), name_, sizeof(name_));                                 \
        problem(&why_, ID, ##__VA_ARGS__, .name = name_);                      \
        item_fail((i), &why_);                                                 \
    } while (0)

int put_open(const struct item *i, struct problem *why)
{
    int flags = O_RDONLY | O_NONBLOCK, fd; /* a fifo would wait for a writer */
    char local[PATH_BYTES + 1];

    fd = i->source
             ? keel_file_open_any(i->source, flags, 0)
             : keel_file_open(i->node->fd, i->name, flags | O_NOFOLLOW, 0);
    if (fd >= 0)
        return fd;
    item_local(i, local, sizeof(local));
    return problem(why, FILE_LOCAL, .errno_ = -fd, .name = local);
}

/* In the server's words. */
static void item_taken(struct item *i)
{
    char shown[PROBLEM_TEXT_BYTES];
    struct problem why;
    struct path path;

    if (node_path(i->node, i->name, &path, &why) == 0) {
        path_print(&path, shown, sizeof(shown));
        problem(&why, FILE_EXISTS, .name = shown);
    }
    item_fail(i, &why);
}

/* What the other side has under this name. */
static bool already_there(const struct tree *t, struct item *i,
                          const struct known_version *v)
{
    const struct node *n = i->node;
    enum known_answer answer =
        n->known ? known_ask(n->known, i->name, v) : KNOWN_ABSENT;

    i->replaces = answer == KNOWN_OTHER;
    if (answer == KNOWN_SAME)
        i->outcome = OUT_SAME;
    if (i->replaces && t->c->no_replace)
        item_taken(i);
    return answer == KNOWN_SAME || i->outcome == OUT_FAILED;
}

static void fingerprint(struct item *i, const struct statx *st)
{
    const uint64_t facts[] = {st->stx_dev_major,
                              st->stx_dev_minor,
                              st->stx_ino,
                              st->stx_size,
                              (uint64_t)ns_of(&st->stx_mtime),
                              (uint64_t)ns_of(&st->stx_ctime)};
    struct digest d;

    chunk_leaf(CHUNK_XXH128, facts, sizeof(facts), &d);
    memcpy(i->fingerprint, d.bytes, sizeof(i->fingerprint));
}

static bool same_file(const struct statx *a, const struct statx *b)
{
    return a->stx_ino == b->stx_ino && a->stx_size == b->stx_size &&
           ns_of(&a->stx_mtime) == ns_of(&b->stx_mtime) &&
           ns_of(&a->stx_ctime) == ns_of(&b->stx_ctime);
}

static void read_small(struct tree *t, struct item *i, int fd,
                       const struct statx *st)
{
    size_t size = (size_t)st->stx_size;
    struct statx after;
    struct digest leaf;
    ssize_t got;
    int rc;

    i->bytes = keel_alloc(size + 1);
    if (!i->bytes) {
        item_problem(i, NO_MEMORY);
        return;
    }
    /* A byte more than there was: has it grown? */
    got = keel_file_read(fd, i->bytes, size + 1, 0);
    rc = got < 0 ? (int)got : keel_file_stat(fd, NULL, &after);
    if (rc < 0) {
        item_problem(i, FILE_LOCAL, .errno_ = -rc);
        return;
    }
    if (size == 0 && got > 0 && after.stx_size == 0) { /* as in /proc */
        item_problem(i, FILE_NOT_REGULAR);
        return;
    }
    if ((size_t)got != size || !same_file(st, &after)) {
        item_problem(i, FILE_CHANGED);
        return;
    }
    chunk_leaf(t->hash, i->bytes, size, &leaf);
    chunk_root(t->hash, &leaf, size > 0, &i->root);
    fingerprint(i, st);
    i->outcome = OUT_SMALL;
}

static void read_file(struct tree *t, struct item *i)
{
    struct problem why;
    struct statx st;
    int fd = put_open(i, &why), rc;

    if (fd < 0) {
        item_fail(i, &why);
        return;
    }
    rc = keel_file_stat(fd, NULL, &st);
    if (rc < 0) {
        item_problem(i, FILE_LOCAL, .errno_ = -rc);
    } else if (S_ISDIR(st.stx_mode)) { /* replaced since it was listed */
        item_problem(i, FILE_IS_DIRECTORY);
    } else if (!S_ISREG(st.stx_mode)) {
        item_problem(i, FILE_NOT_REGULAR);
    } else {
        struct known_version v = {'f', st.stx_size, ns_of(&st.stx_mtime),
                                  st.stx_mode, NULL};

        i->size = st.stx_size;
        i->mode = st.stx_mode & 07777;
        i->mtime_ns = v.mtime_ns;
        if (!already_there(t, i, &v)) {
            if (i->size > SMALL_BYTES || t->c->dry_run)
                i->outcome = OUT_LARGE;
            else
                read_small(t, i, fd, &st);
        }
    }
    keel_file_close(fd);
}

/* The directory a source lies in, and its name there. */
static int open_above(const char *source, const char **ret_name)
{
    keel_auto(str) char *copy = keel_strdup(source);
    char *slash = copy ? strrchr(copy, '/') : NULL;

    if (!copy)
        return -ENOMEM;
    *ret_name = slash ? source + (slash - copy) + 1 : source;
    if (slash)
        slash[slash == copy] = 0;
    return keel_file_open_any(slash ? copy : ".", O_RDONLY | O_DIRECTORY, 0);
}

static void read_link(struct tree *t, struct item *i)
{
    const char *name = i->name;
    int dir = i->source ? open_above(i->source, &name) : i->node->fd;
    ssize_t size = dir;
    struct statx st;

    i->target = keel_alloc(LINK_BYTES + 1);
    if (dir >= 0 && i->target) {
        size = keel_file_readlink(dir, name, i->target, LINK_BYTES);
        if (size >= 0) {
            int rc = keel_file_stat(dir, name, &st);

            size = rc < 0 ? rc : size;
        }
    }
    if (i->source)
        keel_file_close(dir);
    if (!i->target) {
        item_problem(i, NO_MEMORY);
    } else if (size < 0) {
        item_problem(i, FILE_LOCAL, .errno_ = (int)-size);
    } else {
        struct known_version v = {'l', 0, ns_of(&st.stx_mtime), 0, i->target};

        i->target[size] = 0;
        i->mtime_ns = v.mtime_ns;
        i->outcome = OUT_LINK;
        (void)already_there(t, i, &v);
    }
}

/* ---- many ------------------------------------------------------------------------- */

static int read_job(void *arg)
{
    struct reading *r = arg;
    size_t bytes = 0;

    for (; r->at < r->count && bytes < JOB_BYTES; r->at++) {
        struct item *i = &r->items[r->at];

        switch (i->kind) {
        case WALK_FILE:
            read_file(r->tree, i);
            break;
        case WALK_LINK:
            read_link(r->tree, i);
            break;
        case WALK_OTHER:
            item_problem(i, FILE_NOT_REGULAR);
            break;
        case WALK_PROBLEM:
            i->outcome = OUT_FAILED;
            break;
        default:
            continue;
        }
        bytes += i->bytes ? (size_t)i->size : 0;
        /* By chunks it is opened again. */
        if (i->outcome != OUT_LARGE)
            node_read(i->node);
    }
    return 0;
}

unsigned put_read(struct tree *t, struct item *items, unsigned from,
                  unsigned count)
{
    struct reading r = {t, items, from, count};

    if (keel_blocking(read_job, &r) < 0) /* no thread to be had */
        read_job(&r);
    return r.at;
}
