/* SPDX-License-Identifier: MIT */
/* The end of spaces on the disk, and directories of no space.
 *
 * The ledger decides whether a space ends, and knows only files that it was
 * told of.  So the directory is looked at before, with every name in it held,
 * and goes after; a crash between leaves a tree in which no file is, which
 * `check --repair` finds. */
#include <dirent.h>
#include <errno.h>
#include <stdio.h>
#include <string.h>
#include <sys/queue.h>

#include <keel/co.h>
#include <keel/file.h>

#include "base/log.h"
#include "vault_inside.h"

/* ---- what is in a tree --------------------------------------------------------- */

/* Directories that are still to be read: the last first, so that no more wait
 * than there are beside each other on the way down. */
struct pending {
    SLIST_ENTRY(pending) link;
    char path[];
};

struct tree {
    struct vault_tree *counts;
    SLIST_HEAD(, pending) pending;
    const char *at;
    int root, dir;
};

static int tree_directory(struct tree *t, const char *name)
{
    size_t size = strlen(t->at) + strlen(name) + 2;
    struct pending *p;

    t->counts->directories++;
    if (size > PATH_BYTES) { /* nobody can name it, nor look into it */
        t->counts->others++;
        return 0;
    }
    p = keel_alloc(sizeof *p + size);
    if (!p)
        return -ENOMEM;
    (void)snprintf(p->path, size, "%s%s%s", t->at, *t->at ? "/" : "", name);
    SLIST_INSERT_HEAD(&t->pending, p, link);
    return 0;
}

static int tree_name(const char *name, unsigned char type, void *arg)
{
    struct tree *t = arg;
    struct statx x;
    int rc = store_look(t->dir, name, &x);

    (void)type; /* not every file system says it */
    if (rc < 0) /* gone meanwhile, or nobody knows */
        return rc == -ENOENT ? 0 : rc;
    if (S_ISDIR(x.stx_mode))
        return tree_directory(t, name);
    if (S_ISREG(x.stx_mode)) {
        t->counts->files++;
        t->counts->bytes += x.stx_size;
    } else if (S_ISLNK(x.stx_mode)) {
        t->counts->links++;
    } else {
        t->counts->others++;
    }
    return 0;
}

static int tree_read(struct tree *t)
{
    int rc;

    t->dir = keel_file_open(t->root, *t->at ? t->at : ".",
                            O_RDONLY | O_DIRECTORY, 0);
    if (t->dir < 0)
        return t->dir == -ENOENT ? 0 : t->dir;
    rc = keel_file_list(t->dir, tree_name, t);
    keel_file_close(t->dir);
    return rc;
}

static int tree_walk(int root, struct vault_tree *ret)
{
    struct tree t = {.counts = ret, .root = root, .at = ""};
    struct pending *p;
    int rc;

    SLIST_INIT(&t.pending);
    rc = tree_read(&t);
    while ((p = SLIST_FIRST(&t.pending))) {
        SLIST_REMOVE_HEAD(&t.pending, link);
        t.at = p->path;
        if (rc == 0)
            rc = tree_read(&t);
        keel_free(p);
    }
    return rc;
}

/* Of DATA/spaces/`name`, whatever that is. */
static int tree_count(struct vault *v, const char *name, struct vault_tree *ret,
                      struct problem *why)
{
    struct vault_tree counts = {0};
    keel_auto(file) int root = store_space_open(v->store, name);
    int rc = root;

    if (rc >= 0)
        rc = tree_walk(root, &counts);
    else if (rc == -ENOTDIR || rc == -ELOOP)
        rc = (int)(counts.others = 1);
    if (rc == -ENOMEM)
        return problem(why, NO_MEMORY);
    if (rc < 0 && rc != -ENOENT)
        return problem(why, DATA_ACCESS, .errno_ = -rc, .name = name);
    *ret = counts;
    return 0;
}

/* ---- spaces that end ------------------------------------------------------------ */

/* Between begin and end every name of the spaces is held, and the caller is not
 * cancelled. */
struct vault_closing {
    struct vault *vault;
    int64_t account, space; /* one of them, the other 0 */
    unsigned count, draft_count;
    size_t room, draft_room;
    struct closing_space {
        struct ledger_space space;
        struct name_hold *hold;
    } * spaces;
    uint8_t (*drafts)[DRAFT_ID_BYTES];
    struct problem *why;
};

static int room_for(void **array, unsigned count, size_t *room, size_t size)
{
    size_t want = *room ? 2 * *room : 8;
    void *more;

    if (count < *room)
        return 0;
    more = keel_realloc(*array, want * size);
    if (!more)
        return -ENOMEM;
    *array = more;
    *room = want;
    return 0;
}

static int closing_add(struct vault_closing *c, const struct ledger_space *s)
{
    void *array = c->spaces;

    if (room_for(&array, c->count, &c->room, sizeof *c->spaces) < 0)
        return problem(c->why, NO_MEMORY);
    c->spaces = array;
    c->spaces[c->count++] = (struct closing_space){.space = *s};
    return 0;
}

/* In the order of their numbers, in which all who hold several take them. */
static int closing_spaces(struct vault_closing *c)
{
    struct ledger_space page[16];
    struct ledger_space one;
    int64_t after = 0;
    int got, rc;

    if (c->space) {
        rc = ledger_space_get(c->vault->ledger, c->space, &one, c->why);
        return rc < 0 ? rc : closing_add(c, &one);
    }
    do {
        got = ledger_space_list(c->vault->ledger, after, page, 16, c->why);
        for (int i = 0; i < got; i++) {
            rc = page[i].owner == c->account ? closing_add(c, &page[i]) : 0;
            if (rc < 0)
                return rc;
        }
        if (got > 0)
            after = page[got - 1].id;
    } while (got == 16);
    return got < 0 ? got : 0;
}

static int closing_hold(struct vault_closing *c, struct closing_space *s)
{
    struct name_hold *h = name_hold_new(NAME_TREE, s->space.id, "", NULL);
    int rc;

    if (!h)
        return problem(c->why, NO_MEMORY);
    rc = committer_hold_name(c->vault->committer, h, c->why);
    if (rc < 0)
        keel_free(h);
    else
        s->hold = h;
    return rc;
}

static int any_file(const char *path, const struct ledger_file *f, void *arg)
{
    (void)path;
    (void)f;
    (void)arg;
    return -E2BIG;
}

/* A space that has files in the ledger is refused there, and not read here. */
static int closing_look(struct vault_closing *c, const struct ledger_space *s)
{
    struct ledger_account owner = {0};
    struct vault_tree t;
    char shown[80];
    int rc;

    rc = ledger_file_list(c->vault->ledger, s->id, any_file, NULL, c->why);
    if (rc < 0)
        return rc == -E2BIG ? 0 : rc;
    rc = tree_count(c->vault, s->dir, &t, c->why);
    if (rc < 0 || t.files + t.links + t.others == 0)
        return rc;
    if (!s->name[0])
        (void)ledger_account_get(c->vault->ledger, s->owner, &owner, NULL);
    (void)snprintf(shown, sizeof shown, "%s%s", s->name[0] ? "@" : "",
                   s->name[0] ? s->name : owner.name);
    keel_wipe(&owner, sizeof owner);
    return problem(c->why, SPACE_NOT_EMPTY, .name = shown,
                   .used = t.files + t.links + t.others, .bytes = t.bytes);
}

/* The ledger's own thread calls it: collecting only. */
static int closing_draft(const struct ledger_draft *d, void *arg)
{
    struct vault_closing *c = arg;
    void *array = c->drafts;
    bool ends = d->account == c->account;

    for (unsigned i = 0; i < c->count && !ends; i++)
        ends = d->space == c->spaces[i].space.id;
    if (!ends)
        return 0;
    if (room_for(&array, c->draft_count, &c->draft_room, sizeof *c->drafts) < 0)
        return -ENOMEM;
    c->drafts = array;
    memcpy(c->drafts[c->draft_count++], d->id, DRAFT_ID_BYTES);
    return 0;
}

static void closing_free(struct vault_closing *c)
{
    for (unsigned i = 0; i < c->count; i++)
        if (c->spaces[i].hold)
            committer_drop_name(c->vault->committer, c->spaces[i].hold);
    keel_free(c->spaces);
    keel_free(c->drafts);
    keel_free(c);
}

static int closing_begin(struct vault_closing *c)
{
    int rc = closing_spaces(c);

    for (unsigned i = 0; rc == 0 && i < c->count; i++)
        rc = closing_hold(c, &c->spaces[i]);
    for (unsigned i = 0; rc == 0 && i < c->count; i++)
        rc = closing_look(c, &c->spaces[i].space);
    if (rc < 0)
        return rc;
    rc = ledger_draft_list(c->vault->ledger, INT64_MAX, closing_draft, c,
                           c->why);
    return rc == -ENOMEM ? problem(c->why, NO_MEMORY) : rc;
}

static int begin(struct vault *v, int64_t account, int64_t space,
                 struct vault_closing **ret, struct problem *why)
{
    struct vault_closing *c = keel_calloc(1, sizeof *c);
    int rc;

    if (!c)
        return problem(why, NO_MEMORY);
    *c = (struct vault_closing){
        .vault = v, .account = account, .space = space, .why = why};
    rc = closing_begin(c);
    if (rc < 0) {
        closing_free(c);
        return rc;
    }
    keel_shield();
    *ret = c;
    return 0;
}

int vault_closing_account(struct vault *v, int64_t account,
                          struct vault_closing **ret, struct problem *why)
{
    keel_assert(account > 0);
    return begin(v, account, 0, ret, why);
}

int vault_closing_space(struct vault *v, int64_t space,
                        struct vault_closing **ret, struct problem *why)
{
    keel_assert(space > 0);
    return begin(v, 0, space, ret, why);
}

/* Looked at once more: what somebody has put there from outside meanwhile is
 * left to him, and to `check`. */
static int discard(struct vault *v, const char *name, struct vault_tree *ret,
                   bool links_too, struct problem *why)
{
    char tree[TRASH_NAME_BYTES];
    struct vault_removed removed;
    int rc = tree_count(v, name, ret, why);

    if (rc < 0 || ret->files + ret->others > 0 || (ret->links && !links_too))
        return rc;
    trash_name(v, tree);
    rc = store_space_trash(v->store, name, tree);
    if (rc == -ENOENT)
        return 0;
    if (rc < 0)
        return problem(why, DATA_ACCESS, .errno_ = -rc, .name = name);
    trash_empty(v, tree, &removed);
    return 1;
}

void vault_closing_end(struct vault_closing *c, bool deleted)
{
    struct problem why = {0};
    struct vault_tree t;
    char text[PROBLEM_TEXT_BYTES];
    int rc = 0;

    for (unsigned i = 0; deleted && i < c->draft_count; i++) {
        int one = store_draft_remove(c->vault->store, c->drafts[i]);

        rc = one < 0
                 ? problem(&why, DATA_ACCESS, .errno_ = -one, .name = "drafts/")
                 : rc;
    }
    for (unsigned i = 0; deleted && i < c->count; i++) {
        int one = discard(c->vault, c->spaces[i].space.dir, &t, false, &why);

        rc = one < 0 ? one : rc;
    }
    if (rc < 0) {
        problem_sentence(&why, text, sizeof text);
        log_warn("vault: not all of what was deleted is gone: %s", text);
    }
    closing_free(c);
    keel_unshield();
}

/* ---- directories of no space ------------------------------------------------------ */

int vault_stray(struct vault *v, const char *name, bool repair,
                struct vault_tree *ret, struct problem *why)
{
    return repair ? discard(v, name, ret, true, why)
                  : tree_count(v, name, ret, why);
}
