/* SPDX-License-Identifier: MIT */
/* What a crash left, put right before anybody is served.
 *
 * Each intent, in the order they were made, by what its name shows:
 *
 *   FINISH  the name is the intent's file (device, inode, size, mtime): the
 *           crash came after step 3.  If the draft's name is still there as
 *           well (a file system that logs the two halves of a rename apart),
 *           it is unlinked: a rename between two links of one file does
 *           nothing.
 *   REDO    it is not, and the draft is there: renamed now.
 *   UNDO    neither, or the redo is refused for good: row, quota and outbox
 *           are taken back.  It was never acknowledged.
 *
 * Each change of names likewise, by the inode it is about:
 *
 *   a move is done when the inode is at its target; whether it still shows at
 *   its old name as well (as above), that link goes
 *   a removal is done when it is not at its name any more
 *   else nothing happened, and the ledger hears that
 *
 * Each directory or link in the making stays in the quota if it is there.
 *
 * What the crash left is made durable first, by one syncfs; what is redone, by
 * the sync of its directory before it is settled.  That of drafts needs none: a
 * name that comes back there has no row and goes at the next start.
 * Undo takes evidence: a disk that does not answer fails the start instead.
 * All of it may be cut short at any point and started again. */
#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include <keel/file.h>

#include "base/log.h"
#include "vault_inside.h"

enum {
    BATCH = 256,
    /* More directories than this are synced by one syncfs. */
    BATCH_SYNCFS = 32,
};

struct intent {
    int64_t id, space;
    uint8_t draft[DRAFT_ID_BYTES];
    bool named;
    struct ledger_file file; /* device, inode, size and mtime of it */
    char *path;
    int dir, drafts_dir; /* open until the batch is settled; -1: undone */
    bool redone;
    int64_t ctime_ns;
};

struct kept_change {
    struct ledger_change change; /* its paths are our own */
    char *path, *to;
};

struct recovery {
    struct vault *vault;
    struct problem *why;
    unsigned finished, redone, undone, dropped;
    struct intent *intents;
    size_t count, room;
    struct kept_change *changes;
    size_t change_count, change_room;
    unsigned changed, unchanged;
    struct ledger_making *makings; /* their paths are our own */
    size_t making_count, making_room;
    /* ids of drafts: those that have a row; those found on the disk */
    uint8_t (*rows)[DRAFT_ID_BYTES];
    size_t row_count, row_room;
    uint8_t (*orphans)[DRAFT_ID_BYTES];
    size_t orphan_count, orphan_room;
};

/* Makes room for one more of `size` bytes in an array that doubles. */
static int grow(void **array, size_t count, size_t *room, size_t size)
{
    size_t more = *room ? *room * 2 : 64;
    void *bigger;

    if (count < *room)
        return 0;
    bigger = keel_realloc(*array, more * size);
    if (!bigger)
        return -ENOMEM;
    *array = bigger;
    *room = more;
    return 0;
}

/* ---- intents ------------------------------------------------------------------ */

static int intent_keep(const struct ledger_intent *i, void *arg)
{
    struct recovery *r = arg;
    void *array = r->intents;
    struct intent *kept;
    int rc = grow(&array, r->count, &r->room, sizeof *r->intents);

    if (rc < 0)
        return rc;
    r->intents = array;
    kept = &r->intents[r->count];
    *kept = (struct intent){
        .id = i->intent,
        .space = i->space,
        .named = i->named,
        .file = {.device = i->device,
                 .inode = i->inode,
                 .size = i->size,
                 .mtime_ns = i->mtime_ns},
        .path = keel_strdup(i->path),
        .dir = -1,
        .drafts_dir = -1,
    };
    memcpy(kept->draft, i->draft, sizeof kept->draft);
    if (!kept->path)
        return -ENOMEM;
    r->count++;
    return 0;
}

/* 1 when `name` in `dir` is the intent's file, 0 when it is not or is absent;
 * `ret` then says nothing. */
static int is_it(const struct intent *i, int dir, const char *name,
                 struct ledger_file *ret)
{
    struct statx x;
    int rc = keel_file_stat(dir, name, &x);

    if (rc == -ENOENT)
        return 0;
    if (rc < 0)
        return rc;
    store_identity(&x, ret);
    return S_ISREG(x.stx_mode) && ret->device == i->file.device &&
           ret->inode == i->file.inode && ret->size == i->file.size &&
           ret->mtime_ns == i->file.mtime_ns;
}

/* What proves that there is no such directory, as against a disk in trouble. */
static bool is_nowhere(int rc)
{
    return rc == -ENOENT || rc == -ENOTDIR || rc == -ELOOP || rc == -EXDEV ||
           rc == -ENAMETOOLONG;
}

/* What a rename says that would say so again. */
static bool is_refusal(int rc)
{
    switch (-rc) {
    case EISDIR:
    case EEXIST:
    case ENOTEMPTY:
    case ENOSPC:
    case EDQUOT:
    case EACCES:
    case EPERM:
    case EMLINK:
        return true;
    default:
        return is_nowhere(rc);
    }
}

static int intent_places(struct recovery *r, struct intent *i)
{
    struct ledger_space s;
    int rc = vault_space(r->vault, i->space, false, &s, r->why);

    if (rc < 0)
        return rc;
    i->dir = store_dir(r->vault->store, s.dir, i->path, parent_size(i->path));
    if (i->dir < 0 && !is_nowhere(i->dir))
        return vault_problem(r->vault, r->why, i->dir, i->path, 0);
    if (!i->named)
        return 0;
    i->drafts_dir = store_draft_dir(r->vault->store, i->draft, false);
    if (i->drafts_dir < 0 && i->drafts_dir != -ENOENT)
        return vault_problem(r->vault, r->why, i->drafts_dir, i->path, 0);
    return 0;
}

static void intent_release(struct intent *i)
{
    keel_file_close(i->dir);
    keel_file_close(i->drafts_dir);
    i->dir = i->drafts_dir = -1;
}

static int intent_undo(struct recovery *r, struct intent *i)
{
    intent_release(i);
    r->undone++;
    return ledger_undo(r->vault->ledger, i->id, r->why);
}

static int intent_finish(struct recovery *r, struct intent *i,
                         const char *draft)
{
    struct ledger_file f;
    int rc = i->drafts_dir < 0 ? 0 : is_it(i, i->drafts_dir, draft, &f);

    if (rc > 0)
        rc = keel_file_unlink(i->drafts_dir, draft);
    if (rc < 0)
        return vault_problem(r->vault, r->why, rc, i->path, 0);
    r->finished++;
    return 0;
}

static int intent_redo(struct recovery *r, struct intent *i, const char *draft)
{
    int rc =
        keel_file_rename(i->drafts_dir, draft, i->dir, leaf_of(i->path), 0);

    if (rc == 0) {
        i->redone = true;
        r->redone++;
        return 0;
    }
    if (is_refusal(rc))
        return intent_undo(r, i);
    return vault_problem(r->vault, r->why, rc, i->path, 0);
}

static int intent_decide(struct recovery *r, struct intent *i)
{
    char draft[DRAFT_NAME_BYTES];
    struct ledger_file f;
    int rc = intent_places(r, i);

    if (rc < 0)
        return rc;
    if (i->dir < 0)
        return intent_undo(r, i);
    store_draft_name(i->draft, draft);
    rc = is_it(i, i->dir, leaf_of(i->path), &f);
    if (rc > 0)
        return intent_finish(r, i, draft);
    if (rc == 0 && i->drafts_dir >= 0)
        rc = is_it(i, i->drafts_dir, draft, &f);
    if (rc < 0)
        return vault_problem(r->vault, r->why, rc, i->path, 0);
    return rc > 0 ? intent_redo(r, i, draft) : intent_undo(r, i);
}

/* The names of a batch, then the ctimes that they gave. */
static int batch_sync(struct recovery *r, struct intent *batch, size_t count)
{
    int rc = 0;

    if (count >= BATCH_SYNCFS)
        rc = store_sync_all(r->vault->store);
    for (size_t k = 0; k < count && count < BATCH_SYNCFS && rc == 0; k++)
        if (batch[k].redone)
            rc = keel_file_sync(batch[k].dir);
    return rc < 0
               ? problem(r->why, SYNC_FAILED, .errno_ = -rc, .name = "spaces")
               : 0;
}

static int batch_settle(struct recovery *r, struct intent *batch, size_t count)
{
    keel_auto(mem) void *memory =
        keel_alloc(BATCH * sizeof(struct ledger_settle));
    struct ledger_settle *settled = memory;
    unsigned settled_count = 0;

    if (!settled)
        return problem(r->why, NO_MEMORY);
    for (size_t k = 0; k < count; k++) {
        struct intent *i = &batch[k];
        struct ledger_file f;
        int rc;

        if (i->dir < 0)
            continue;
        rc = is_it(i, i->dir, leaf_of(i->path), &f);
        if (rc < 0)
            return vault_problem(r->vault, r->why, rc, i->path, 0);
        settled[settled_count++] = (struct ledger_settle){
            .intent = i->id,
            /* changed by somebody since: then the digest does not count */
            .ctime_ns = rc > 0 ? f.ctime_ns : 0,
        };
    }
    return settled_count
               ? ledger_settle(r->vault->ledger, settled, settled_count, r->why)
               : 0;
}

static int recover_intents(struct recovery *r)
{
    int rc = ledger_intent_list(r->vault->ledger, intent_keep, r, r->why);

    if (rc == -ENOMEM)
        return problem(r->why, NO_MEMORY);
    for (size_t at = 0; at < r->count && rc >= 0; at += BATCH) {
        struct intent *batch = r->intents + at;
        size_t count = r->count - at < BATCH ? r->count - at : BATCH;

        for (size_t k = 0; k < count && rc >= 0; k++)
            rc = intent_decide(r, &batch[k]);
        if (rc >= 0)
            rc = batch_sync(r, batch, count);
        if (rc >= 0)
            rc = batch_settle(r, batch, count);
        for (size_t k = 0; k < count; k++)
            intent_release(&batch[k]);
    }
    return rc < 0 ? rc : 0;
}

/* ---- changes of names -------------------------------------------------------------- */

static int change_keep(const struct ledger_change *c, void *arg)
{
    struct recovery *r = arg;
    void *array = r->changes;
    struct kept_change *kept;
    int rc = grow(&array, r->change_count, &r->change_room, sizeof *r->changes);

    if (rc < 0)
        return rc;
    r->changes = array;
    kept = &r->changes[r->change_count];
    *kept = (struct kept_change){
        .change = *c,
        .path = keel_strdup(c->path),
        .to = c->kind == LEDGER_MOVE ? keel_strdup(c->to) : NULL,
    };
    r->change_count++;
    return kept->path && (kept->to || c->kind != LEDGER_MOVE) ? 0 : -ENOMEM;
}

/* The parent of a path into `ret_dir`, -1 when there is surely none; 1 when the
 * change's inode is under the leaf. */
static int change_look(struct recovery *r, const struct kept_change *k,
                       const char *path, int *ret_dir, struct statx *ret)
{
    struct ledger_file there;
    struct ledger_space s;
    int rc = vault_space(r->vault, k->change.space, false, &s, r->why);

    if (rc < 0)
        return rc;
    *ret_dir = store_dir(r->vault->store, s.dir, path, parent_size(path));
    if (*ret_dir < 0 && is_nowhere(*ret_dir)) {
        *ret_dir = -1;
        return 0;
    }
    rc = *ret_dir < 0 ? *ret_dir : store_look(*ret_dir, leaf_of(path), ret);
    if (rc == -ENOENT)
        return 0;
    if (rc < 0)
        return vault_problem(r->vault, r->why, rc, path, 0);
    store_identity(ret, &there);
    return there.device == k->change.device && there.inode == k->change.inode;
}

/* Whether it happened, into *ret; what shows twice is put right. */
static int change_decide(struct recovery *r, const struct kept_change *k,
                         int from, bool at_from, bool at_to, bool *ret)
{
    int rc;

    *ret = k->change.kind == LEDGER_MOVE ? at_to : !at_from;
    if (k->change.kind != LEDGER_MOVE || !at_to || !at_from)
        return 0;
    rc = keel_file_unlink(from, leaf_of(k->path));
    if (rc < 0)
        return vault_problem(r->vault, r->why, rc, k->path, 0);
    rc = keel_file_sync(from);
    return rc < 0
               ? problem(r->why, SYNC_FAILED, .errno_ = -rc, .name = "spaces")
               : 0;
}

static int recover_change(struct recovery *r, const struct kept_change *k)
{
    keel_auto(file) int from = -1;
    keel_auto(file) int to = -1;
    struct statx x;
    int at_from, at_to = 0, rc;
    bool done;

    at_from = change_look(r, k, k->path, &from, &x);
    if (at_from >= 0 && k->to)
        at_to = change_look(r, k, k->to, &to, &x);
    if (at_from < 0 || at_to < 0)
        return at_from < 0 ? at_from : at_to;
    rc = change_decide(r, k, from, at_from, at_to, &done);
    if (rc < 0)
        return rc;
    r->changed += done;
    r->unchanged += !done;
    return ledger_change_end(r->vault->ledger, k->change.id, done, r->why);
}

static int recover_changes(struct recovery *r)
{
    int rc = ledger_change_list(r->vault->ledger, change_keep, r, r->why);

    if (rc == -ENOMEM)
        return problem(r->why, NO_MEMORY);
    for (size_t i = 0; i < r->change_count && rc >= 0; i++)
        rc = recover_change(r, &r->changes[i]);
    return rc < 0 ? rc : 0;
}

/* ---- directories and links in the making ------------------------------------------ */

static int making_keep(const struct ledger_making *m, void *arg)
{
    struct recovery *r = arg;
    void *array = r->makings;
    struct ledger_making *kept;
    int rc = grow(&array, r->making_count, &r->making_room, sizeof *r->makings);

    if (rc < 0)
        return rc;
    r->makings = array;
    kept = &r->makings[r->making_count];
    *kept = *m;
    kept->path = keel_strdup(m->path);
    if (!kept->path)
        return -ENOMEM;
    r->making_count++;
    return 0;
}

/* 1 when a directory or a link is there. */
static int making_look(struct recovery *r, const struct ledger_making *m)
{
    keel_auto(file) int dir = -1;
    struct ledger_space s;
    struct statx x;
    int rc = vault_space(r->vault, m->space, false, &s, r->why);

    if (rc < 0)
        return rc;
    dir = store_dir(r->vault->store, s.dir, m->path, parent_size(m->path));
    rc = dir < 0 ? dir : store_look(dir, leaf_of(m->path), &x);
    if (rc < 0)
        return is_nowhere(rc) ? 0
                              : vault_problem(r->vault, r->why, rc, m->path, 0);
    return S_ISDIR(x.stx_mode) || S_ISLNK(x.stx_mode);
}

/* Of a file that a link has replaced the row is still there. */
static int making_stays(struct recovery *r, const struct ledger_making *m)
{
    struct ledger *l = r->vault->ledger;
    struct ledger_file file;

    if (ledger_file_get(l, m->space, m->path, &file, NULL) == 0)
        return ledger_making_over(l, m, 0, vault_now_s(), r->why);
    ledger_making_done(l, m->id);
    return 0;
}

/* Those that are not there go first: what is said of one of several that were
 * made together is said of all that are left. */
static int makings_decide(struct recovery *r)
{
    size_t stay = 0;
    int rc = 0;

    for (size_t i = 0; i < r->making_count; i++) {
        struct ledger_making m = r->makings[i];

        rc = making_look(r, &m);
        if (rc == 0)
            rc = ledger_node_remove(r->vault->ledger, m.space, m.path, r->why);
        if (rc < 0)
            return rc;
        if (rc == 0) {
            r->unchanged++;
            continue;
        }
        r->makings[i] = r->makings[stay];
        r->makings[stay++] = m;
    }
    r->changed += (unsigned)stay;
    for (size_t i = 0; i < stay && rc >= 0; i++)
        rc = making_stays(r, &r->makings[i]);
    return rc < 0 ? rc : 0;
}

/* After the changes, which may have moved or removed them. */
static int recover_makings(struct recovery *r)
{
    int rc = ledger_making_list(r->vault->ledger, making_keep, r, r->why);

    if (rc == -ENOMEM)
        return problem(r->why, NO_MEMORY);
    return rc < 0 ? rc : makings_decide(r);
}

/* What an earlier version made has no rows: found once, and counted. */
static int recover_counts(struct recovery *r)
{
    struct ledger_space page[16];
    uint64_t names = 0;
    int64_t after = 0;
    int got, rc = 0;

    do {
        got = ledger_space_list(r->vault->ledger, after, page, 16, r->why);
        for (int i = 0; i < got && rc == 0; i++) {
            if (page[i].counted)
                continue;
            rc = vault_adopt(r->vault, &page[i], &names, r->why);
            if (rc == 0 && names)
                log_info("vault: space %s: %llu directories and links count "
                         "in its quota from now on",
                         page[i].dir, (unsigned long long)names);
        }
        if (got > 0)
            after = page[got - 1].id;
    } while (got == 16 && rc == 0);
    return got < 0 ? got : rc;
}

/* ---- drafts ----------------------------------------------------------------------- */

static int row_keep(const struct ledger_draft *d, void *arg)
{
    struct recovery *r = arg;
    void *array = r->rows;
    int rc = grow(&array, r->row_count, &r->row_room, sizeof *r->rows);

    if (rc < 0)
        return rc;
    r->rows = array;
    memcpy(r->rows[r->row_count++], d->id, DRAFT_ID_BYTES);
    return 0;
}

/* A row stays if its file does: one that is there, has no other link (a
 * published file!) and whose time is not up; vault_expire does the last. */
static int row_check(struct recovery *r, const uint8_t id[DRAFT_ID_BYTES])
{
    struct statx x;
    int rc = store_draft_look(r->vault->store, id, &x);

    if (rc == 0 && S_ISREG(x.stx_mode) && x.stx_nlink == 1)
        return 0;
    if (rc < 0 && rc != -ENOENT)
        return vault_problem(r->vault, r->why, rc, "drafts", 0);
    rc = store_draft_remove(r->vault->store, id);
    if (rc < 0)
        return vault_problem(r->vault, r->why, rc, "drafts", 0);
    r->dropped++;
    return ledger_draft_drop(r->vault->ledger, id, r->why);
}

static int by_id(const void *a, const void *b)
{
    return memcmp(a, b, DRAFT_ID_BYTES);
}

static int orphan_keep(const uint8_t id[DRAFT_ID_BYTES], void *arg)
{
    struct recovery *r = arg;
    void *array = r->orphans;
    int rc;

    if (r->row_count &&
        bsearch(id, r->rows, r->row_count, sizeof *r->rows, by_id))
        return 0;
    rc = grow(&array, r->orphan_count, &r->orphan_room, sizeof *r->orphans);
    if (rc < 0)
        return rc;
    r->orphans = array;
    memcpy(r->orphans[r->orphan_count++], id, DRAFT_ID_BYTES);
    return 0;
}

/* After the intents: whoever had one is a file or is gone. */
static int recover_drafts(struct recovery *r)
{
    struct vault *v = r->vault;
    int rc = ledger_draft_list(v->ledger, INT64_MAX, row_keep, r, r->why);

    if (rc == -ENOMEM)
        return problem(r->why, NO_MEMORY);
    if (rc < 0)
        return rc;
    for (size_t k = 0; k < r->row_count && rc >= 0; k++)
        rc = row_check(r, r->rows[k]);
    if (rc < 0)
        return rc;
    if (r->row_count)
        qsort(r->rows, r->row_count, sizeof *r->rows, by_id);
    rc = store_draft_each(v->store, orphan_keep, r);
    for (size_t k = 0; k < r->orphan_count && rc == 0; k++) {
        rc = store_draft_remove(v->store, r->orphans[k]);
        r->dropped++;
    }
    if (rc < 0)
        return vault_problem(v, r->why, rc, "drafts", 0);
    rc = vault_expire(v, r->why);
    if (rc > 0)
        r->dropped += (unsigned)rc;
    return rc < 0 ? rc : 0;
}

/* A process that was killed may have left names that only the page cache knows:
 * those that the ledger is about to be told of, and directories, where what is
 * put into them now must not lose its ground. */
static int recover_ground(struct recovery *r)
{
    int rc = store_sync_all(r->vault->store);

    return rc < 0
               ? problem(r->why, SYNC_FAILED, .errno_ = -rc, .name = "spaces")
               : 0;
}

static void recovery_free(struct recovery *r)
{
    for (size_t k = 0; k < r->count; k++)
        keel_free(r->intents[k].path);
    keel_free(r->intents);
    for (size_t k = 0; k < r->change_count; k++) {
        keel_free(r->changes[k].path);
        keel_free(r->changes[k].to);
    }
    keel_free(r->changes);
    for (size_t k = 0; k < r->making_count; k++)
        keel_free((void *)(uintptr_t)r->makings[k].path);
    keel_free(r->makings);
    keel_free(r->rows);
    keel_free(r->orphans);
}

int vault_recover(struct vault *v, struct problem *why)
{
    struct recovery r = {.vault = v, .why = why};
    int rc = recover_ground(&r);

    if (rc == 0)
        rc = recover_intents(&r);
    if (rc == 0)
        rc = recover_changes(&r);
    if (rc == 0)
        rc = recover_makings(&r);
    if (rc == 0)
        rc = recover_counts(&r);
    if (rc == 0)
        rc = recover_drafts(&r);
    if (r.finished + r.redone + r.undone + r.dropped + r.changed + r.unchanged)
        log_info("vault: recovered: %u finished, %u redone, %u taken back, "
                 "%u drafts dropped, %u changes of names done, %u not",
                 r.finished, r.redone, r.undone, r.dropped, r.changed,
                 r.unchanged);
    recovery_free(&r);
    return rc;
}
