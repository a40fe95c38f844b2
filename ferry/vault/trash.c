/* SPDX-License-Identifier: MIT */
/* What was removed, until it is taken apart.
 *
 * DATA/trash holds trees that were renamed there, which is their removal for
 * everybody, and links on their way to replace something.  Names are
 *
 *   RUN-NUMBER.PIECE     hex; RUN is drawn anew at each start
 *
 * A tree is taken apart piece by piece: what is not a directory is unlinked,
 * a directory in it becomes the next piece.  So neither depth nor size needs
 * memory, and whatever a crash leaves is found by the next run as names that
 * are not its own. */
#include <errno.h>
#include <stdio.h>
#include <string.h>

#include <keel/co.h>
#include <keel/file.h>
#include <keel/thread.h>

#include "base/log.h"
#include "vault_inside.h"

enum {
    /* Unlinked before the thread is given to others. */
    SLICE = 4096,
    /* Removed while the start waits; more than that goes on aside. */
    SWEEP_NOW = 256,
};

static void piece_name(const char *tree, uint64_t piece,
                       char ret[TRASH_NAME_BYTES])
{
    int size = (int)strcspn(tree, ".");

    (void)snprintf(ret, TRASH_NAME_BYTES, "%.*s.%llx", size, tree,
                   (unsigned long long)piece);
}

void trash_name(struct vault *v, char ret[TRASH_NAME_BYTES])
{
    (void)snprintf(ret, TRASH_NAME_BYTES, "%016llx-%llx.0",
                   (unsigned long long)v->run,
                   (unsigned long long)v->trash_next++);
}

static bool is_own(struct vault *v, const char *name)
{
    char run[20];

    (void)snprintf(run, sizeof run, "%016llx-", (unsigned long long)v->run);
    return !strncmp(name, run, strlen(run));
}

/* Pieces from `at` on, up to `pieces`, are still to be taken apart. */
struct emptying {
    struct vault *vault;
    const char *tree;
    uint64_t at, pieces;
    struct vault_removed removed;
    unsigned done; /* of this slice */
    int dir;       /* the piece */
    int failed;    /* what could not be removed, the last of it */
};

static int empty_name(const char *name, unsigned char type, void *arg)
{
    struct emptying *e = arg;
    char piece[TRASH_NAME_BYTES];
    int rc = -EISDIR;

    (void)type; /* not every file system says it */
    if (e->vault->sweep_stop || e->done++ >= SLICE)
        return 1;
    rc = keel_file_unlink(e->dir, name);
    if (rc == 0) {
        e->removed.files++;
        return 0;
    }
    if (rc == -EISDIR || rc == -EPERM) {
        piece_name(e->tree, e->pieces, piece);
        rc = keel_file_rename(e->dir, name, store_trash(e->vault->store), piece,
                              0);
        if (rc == 0)
            e->pieces++;
    }
    if (rc < 0)
        e->failed = rc;
    return 0;
}

/* 1: the slice is over and the piece is not. */
static int empty_piece(struct emptying *e, const char *piece)
{
    int trash = store_trash(e->vault->store);
    int rc;

    e->dir = keel_file_open(trash, piece, O_RDONLY | O_DIRECTORY, 0);
    if (e->dir < 0)
        return e->dir;
    rc = keel_file_list(e->dir, empty_name, e);
    keel_file_close(e->dir);
    if (rc != 0)
        return rc;
    rc = keel_file_rmdir(trash, piece);
    /* Names that a listing passed over while others went. */
    if (rc == -ENOTEMPTY && !e->failed)
        return 1;
    e->removed.directories += rc == 0;
    return rc;
}

static int empty_slice(void *arg)
{
    struct emptying *e = arg;

    e->done = 0;
    while (e->at < e->pieces && e->done < SLICE) {
        char piece[TRASH_NAME_BYTES];
        int rc;

        piece_name(e->tree, e->at, piece);
        rc = empty_piece(e, piece);
        if (rc > 0)
            return 0;
        if (rc < 0 && rc != -ENOENT)
            e->failed = rc;
        e->at++;
    }
    return 0;
}

void trash_empty(struct vault *v, const char *tree, struct vault_removed *ret)
{
    struct emptying e = {.vault = v, .tree = tree, .pieces = 1};

    while (e.at < e.pieces && !v->sweep_stop)
        if (keel_blocking(empty_slice, &e) == -EAGAIN)
            (void)empty_slice(&e);
    if (e.failed)
        log_warn("vault: not all of what was removed could be deleted: %s",
                 strerror(-e.failed));
    *ret = e.removed;
}

/* ---- what an earlier run left ----------------------------------------------------- */

struct sweep {
    struct vault *vault;
    unsigned count, most;
};

static int sweep_name(const char *name, unsigned char type, void *arg)
{
    struct sweep *s = arg;
    struct vault *v = s->vault;
    int trash = store_trash(v->store);
    char tree[TRASH_NAME_BYTES];
    struct vault_removed removed;
    int rc;

    (void)type;
    if (is_own(v, name))
        return 0;
    if (v->sweep_stop || s->count++ >= s->most)
        return 1;
    rc = keel_file_unlink(trash, name);
    if (rc != -EISDIR && rc != -EPERM)
        return 0;
    trash_name(v, tree);
    if (keel_file_rename(trash, name, trash, tree, 0) == 0)
        trash_empty(v, tree, &removed);
    return 0;
}

static int sweep_run(void *arg)
{
    struct vault *v = arg;
    struct sweep s = {.vault = v, .most = UINT32_MAX};

    (void)keel_file_list(store_trash(v->store), sweep_name, &s);
    return 0;
}

int trash_sweep(struct vault *v, struct problem *why)
{
    struct sweep s = {.vault = v, .most = SWEEP_NOW};
    int rc = keel_file_list(store_trash(v->store), sweep_name, &s);

    if (rc < 0)
        return problem(why, DATA_ACCESS, .errno_ = -rc, .name = "trash");
    if (rc == 0)
        return 0;
    /* Not worth failing the start: the next one tries again. */
    rc = keel_thread_start("sweeper", sweep_run, v, &v->sweeper);
    if (rc < 0)
        log_warn("vault: what was removed is not deleted yet: %s",
                 strerror(-rc));
    return 0;
}

void trash_stop(struct vault *v)
{
    v->sweep_stop = true;
    if (v->sweeper)
        (void)keel_thread_join(v->sweeper, KEEL_FOREVER, NULL);
    v->sweeper = NULL;
}
