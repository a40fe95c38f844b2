/* SPDX-License-Identifier: MIT */
/* Group commit: the steps 1 to 6 of vault.h, for all who wait at once.
 *
 * Two lanes, threads of the same code.  A lane takes whatever is queued, up to
 * GROUP_MOST, and walks it through the steps; meanwhile the other lane takes
 * what arrived since.  No timer makes a group larger: a group is what came
 * while the last one was synced.  A syncfs is shared: who asks while one runs
 * gets the next, so one call serves step 1 of one lane and step 4 of the
 * other.
 *
 *   QUEUED --lane_take--> GROUP --finish--> SETTLING --settled--> (gone)
 *     ^                     |                  ^ |
 *     +---- again ----------+                  +-+ the ledger refused: later
 *                           +--failed before or taken back--> (gone)
 *                           +--cannot be taken back--> STUCK
 *   QUEUED    waits for a lane; a cancelled caller takes it out again
 *   GROUP     belongs to one lane, without the lock
 *   SETTLING  durable and acknowledged; its intent is live, and who looks at the
 *             file hears of its digest from here (committer_knows)
 *   STUCK     its intent is live and nobody here knows what the disk has: the
 *             name stays locked until a restart, where recovery looks
 *
 * A publish holds its name from before QUEUED until it is gone. */
#include <errno.h>
#include <stdio.h>
#include <string.h>
#include <sys/queue.h>

#include <keel/co.h>
#include <keel/file.h>
#include <keel/future.h>
#include <keel/thread.h>

#include "base/log.h"
#include "committer.h"

/* ---- one publish -------------------------------------------------------------------- */

static struct publish *publish_new(struct draft *d, const struct digest *root,
                                   enum vault_level level)
{
    size_t size = strlen(d->path) + 1;
    struct publish *p = keel_calloc(1, sizeof *p + size);

    if (!p)
        return NULL;
    p->refs = 2;
    p->draft = d;
    p->root = *root;
    p->level = level;
    p->dir = -1;
    p->space = d->space;
    memcpy(p->path, d->path, size);
    keel_lock_init(&p->answered);
    keel_lock_hold(&p->answered);
    return p;
}

/* Nobody waits on it: its caller has been answered, or has left. */
static void publish_free(struct publish *p)
{
    if (!p->heard)
        keel_lock_drop(&p->answered);
    keel_lock_fini(&p->answered);
    keel_free(p);
}

static void publish_unref(struct committer *c, struct publish *p)
{
    bool last;

    {
        keel_guard(&c->lock);
        last = --p->refs == 0;
    }
    if (last)
        publish_free(p);
}

/* The first call answers the caller, later ones do nothing. */
static void publish_answer(struct publish *p, int result)
{
    if (p->heard)
        return;
    p->heard = true;
    p->result = result;
    if (result == 0 && p->draft)
        draft_leave(p->draft);
    keel_lock_drop(&p->answered);
}

static void publish_reached(struct publish *p, enum vault_level level)
{
    if (p->rc == 0 && p->level == level)
        publish_answer(p, 0);
}

static int publish_failed(struct publish *p, int rc)
{
    struct draft *d = p->draft;

    if (rc == -EEXIST)
        p->rc = draft_refused(d, &p->why);
    else
        p->rc = vault_problem(d->vault, &p->why, rc, d->path, d->size);
    return p->rc;
}

static void sync_failed(struct publish *p, int rc)
{
    p->rc = problem(&p->why, SYNC_FAILED, .errno_ = -rc,
                    .name = shown_path(p->path).text);
}

/* ---- the caller's side ------------------------------------------------------------------ */

/* True when the caller gave it up while no lane had it. */
static bool publish_withdraw(struct committer *c, struct publish *p)
{
    keel_guard(&c->lock);

    if (p->state != QUEUED)
        return false;
    TAILQ_REMOVE(&c->queue, p, link);
    name_drop(c, p);
    c->alive--;
    p->refs--;
    return true;
}

int committer_busy(struct committer *c, const char *path, struct problem *why)
{
    if (c->settle_why.id != PROBLEM_DISK_FULL)
        return problem(why, FILE_BUSY, .name = shown_path(path).text);
    if (why)
        *why = c->settle_why;
    return -ENOSPC;
}

static int wait_problem(struct committer *c, const struct publish *p, int rc,
                        struct problem *why)
{
    if (rc == -ECANCELED)
        return problem(why, CANCELLED);
    return rc == -EBUSY
               ? committer_busy(c, p->path, why)
               : problem(why, FILE_BUSY, .name = shown_path(p->path).text);
}

/* Once a lane has it, the answer is waited for whatever happens. */
static int publish_wait(struct committer *c, struct publish *p,
                        struct problem *why)
{
    int rc = keel_lock_take(&p->answered, KEEL_FOREVER);

    if (rc < 0 && publish_withdraw(c, p))
        return wait_problem(c, p, rc, why);
    if (rc < 0)
        keel_lock_hold(&p->answered);
    keel_lock_drop(&p->answered);
    if (p->result < 0 && why)
        *why = p->why;
    return p->result;
}

static int publish_enter(struct committer *c, struct publish *p,
                         struct problem *why)
{
    keel_guard(&c->lock);
    int rc = name_take(c, p);

    if (rc == -EIO)
        return problem(why, SYNC_FAILED, .errno_ = EIO,
                       .name = shown_path(p->path).text);
    return rc < 0 ? wait_problem(c, p, rc, why) : 0;
}

static void publish_leave(struct committer *c, struct publish *p)
{
    keel_guard(&c->lock);

    name_drop(c, p);
}

static void publish_queue(struct committer *c, struct publish *p)
{
    keel_guard(&c->lock);

    p->state = QUEUED;
    c->alive++;
    TAILQ_INSERT_TAIL(&c->queue, p, link);
    keel_cond_signal(&c->changed);
}

int committer_publish(struct committer *c, struct draft *d,
                      const struct digest *root, enum vault_level level,
                      struct problem *why)
{
    struct publish *p = publish_new(d, root, level);
    int rc;

    if (!p)
        return problem(why, NO_MEMORY);
    rc = publish_enter(c, p, why);
    if (rc < 0) {
        publish_free(p);
        return rc;
    }
    /* Under the name's lock, so that what it compares with stays. */
    rc = d->has_match ? draft_match(d, why) : 0;
    if (rc < 0) {
        publish_leave(c, p);
        publish_free(p);
        return rc;
    }
    if (level == VAULT_RECEIVED)
        publish_answer(p, 0); /* it goes on without its caller */
    publish_queue(c, p);
    rc = publish_wait(c, p, why);
    publish_unref(c, p);
    return rc;
}

/* ---- step 0: what may be refused without a trace ------------------------------------------- */

/* The parent is opened anew: somebody may have moved or exchanged directories
 * while the upload ran. */
static int place_look(struct publish *p)
{
    struct draft *d = p->draft;
    struct shown shown = shown_path(p->path);
    struct statx there;
    int rc;

    p->dir =
        store_dir(d->vault->store, d->space_dir, p->path, parent_size(p->path));
    if (p->dir < 0)
        return publish_failed(p, p->dir);
    rc = store_look(p->dir, leaf_of(p->path), &there);
    p->exists = rc == 0;
    if (rc == -ENOENT)
        return 0;
    if (rc < 0)
        return publish_failed(p, rc);
    p->rc = d->drop ? 0 : store_may_replace(&there, shown.text, &p->why);
    if (p->rc == 0 && d->no_replace)
        p->rc = draft_refused(d, &p->why);
    return p->rc;
}

/* Only a rename replaces, and that needs a name to begin with. */
static int draft_link(struct draft *d)
{
    char name[DRAFT_NAME_BYTES];
    int rc = draft_open_drafts_dir(d);

    if (rc < 0)
        return rc;
    store_draft_name(d->id, name);
    rc = keel_file_link_fd(part_fd(d->part), d->drafts_dir, name);
    if (rc == 0)
        d->kind = DRAFT_LINKED;
    return rc;
}

/* Times and mode before the sync that makes them durable: recovery knows the
 * file by its mtime. */
static int draft_dress(struct draft *d)
{
    int fd = part_fd(d->part);
    int rc;

    if (d->kind == DRAFT_REGISTERED) {
        rc = keel_file_chmod(fd, file_mode(d->mode));
        if (rc < 0)
            return rc;
    }
    return keel_file_set_mtime(fd, d->mtime_ns);
}

static void prepare(struct lane *l)
{
    for (unsigned i = 0; i < l->count; i++) {
        struct publish *p = l->group[i];
        struct draft *d = p->draft;
        int rc;

        if (place_look(p) < 0)
            continue;
        rc = draft_dress(d);
        if (rc == 0 && p->exists && d->kind == DRAFT_SMALL)
            rc = draft_link(d);
        if (rc < 0)
            publish_failed(p, rc);
    }
}

/* ---- syncing --------------------------------------------------------------------------------- */

static int shared_sync_run(struct shared_sync *s, struct store *store)
{
    keel_ns began = keel_now();
    int rc = store_sync_all(store);
    keel_ns took = keel_now() - began;

    keel_lock_hold(&s->lock);
    if (took > SYNCFS_SLOW)
        s->slow_until = keel_after(SYNCFS_PAUSE);
    return rc;
}

int shared_sync_join(struct shared_sync *s, struct store *store)
{
    uint64_t mine;
    int rc = 0;

    keel_lock_hold(&s->lock);
    mine = s->begun + 1;
    while (s->ended < mine) {
        if (s->busy) {
            (void)keel_cond_wait(&s->changed, &s->lock, KEEL_FOREVER);
            continue;
        }
        uint64_t run = ++s->begun;

        s->busy = true;
        keel_lock_drop(&s->lock);
        rc = shared_sync_run(s, store); /* holds the lock again */
        s->busy = false;
        s->ended = run;
        if (rc < 0) {
            s->failed = run;
            s->failure = rc;
        }
        keel_cond_broadcast(&s->changed);
    }
    rc = s->failed >= mine ? s->failure : 0;
    keel_lock_drop(&s->lock);
    return rc;
}

bool shared_sync_slow(struct shared_sync *s)
{
    keel_guard(&s->lock);

    return keel_now() < s->slow_until;
}

struct sync_job {
    struct publish *publish;
    int (*sync)(struct publish *p);
    struct keel_future *future;
};

static int sync_one(void *arg)
{
    struct sync_job *j = arg;

    return j->sync(j->publish);
}

/* sync(p) for the first `count` of l->syncing, on pool threads; `failed` for
 * those it fails. */
static void sync_each(struct lane *l, unsigned count,
                      int (*sync)(struct publish *p),
                      void (*failed)(struct publish *p, int rc))
{
    for (unsigned i = 0; i < count; i++) {
        struct sync_job *j = &l->jobs[i];

        *j = (struct sync_job){.publish = l->syncing[i], .sync = sync};
        /* The last one here: a group of one costs no thread. */
        if (i + 1 == count || keel_blocking_submit(sync_one, j, &j->future) < 0)
            j->future = NULL;
    }
    for (unsigned i = count; i-- > 0;) {
        struct sync_job *j = &l->jobs[i];
        int rc = j->future ? keel_future_result(j->future, KEEL_FOREVER, NULL)
                           : sync_one(j);

        keel_future_free(j->future);
        if (rc < 0)
            failed(j->publish, rc);
    }
}

static bool on_our_device(const struct publish *p)
{
    return p->file.device == store_device(p->draft->vault->store);
}

/* ---- step 1: data --------------------------------------------------------------------------------- */

/* part_sync knows whether an earlier sync aside has failed (of small drafts
 * there is none); fdatasync leaves out the times, keel_file_sync does not. */
static int data_sync(struct publish *p)
{
    int rc = 0;

    if (p->draft->kind == DRAFT_REGISTERED)
        rc = part_sync(p->draft->part, NULL);
    return rc < 0 ? rc : keel_file_sync(part_fd(p->draft->part));
}

static int data_identity(struct publish *p)
{
    struct statx x;
    int rc = keel_file_stat(part_fd(p->draft->part), NULL, &x);

    if (rc < 0)
        return publish_failed(p, rc);
    store_identity(&x, &p->file);
    p->file.ctime_ns = 0; /* the rename is still to change it */
    p->file.hash = p->draft->hash;
    p->file.root = p->root;
    p->file.account = p->draft->account;
    return 0;
}

static void data_failed(struct publish *p, int rc)
{
    sync_failed(p, rc);
    draft_condemn(p->draft);
}

static void sync_data(struct lane *l)
{
    struct committer *c = l->committer;
    unsigned small = 0, count = 0;
    bool shared = false;

    for (unsigned i = 0; i < l->count; i++)
        if (l->group[i]->rc == 0 && data_identity(l->group[i]) == 0)
            small += l->group[i]->draft->kind != DRAFT_REGISTERED &&
                     on_our_device(l->group[i]);
    if (small >= GROUP_SYNCFS && !shared_sync_slow(&c->sync)) {
        int rc = shared_sync_join(&c->sync, c->vault->store);

        /* It failed for some file of the file system, perhaps not ours: each
         * descriptor then tells of its own. */
        shared = rc == 0;
        if (rc < 0)
            log_warn("vault: syncfs failed: %s", strerror(-rc));
    }
    for (unsigned i = 0; i < l->count; i++) {
        struct publish *p = l->group[i];
        bool covered =
            shared && p->draft->kind != DRAFT_REGISTERED && on_our_device(p);

        if (p->rc == 0 && !covered)
            l->syncing[count++] = p;
    }
    sync_each(l, count, data_sync, data_failed);
    for (unsigned i = 0; i < l->count; i++)
        publish_reached(l->group[i], VAULT_SYNCED);
}

/* ---- step 2: the ledger ----------------------------------------------------------------------------- */

static void item_fill(struct ledger_publish *item, struct publish *p)
{
    struct draft *d = p->draft;

    *item = (struct ledger_publish){
        .space = d->space,
        .account = d->account,
        .path = p->path,
        .named = d->kind != DRAFT_SMALL,
        .no_row = d->kind != DRAFT_REGISTERED,
        .file = p->file,
        .now = vault_now_s(),
        /* What lies on the disk decides; a row may be older than that. */
        .replace = true,
        .why = &p->why,
    };
    if (item->named)
        memcpy(item->draft, d->id, sizeof item->draft);
}

/* Durable and in the ledger: nothing is left but to forget. */
static void settled_forget(struct committer *c, struct publish *p)
{
    {
        keel_guard(&c->lock);
        name_drop(c, p);
        c->alive--;
        keel_cond_broadcast(&c->changed);
    }
    publish_unref(c, p);
}

/* Its intent stays: tried again later, or recovery's when there is no later. */
static void settled_defer(struct committer *c, struct publish *p,
                          const struct problem *why)
{
    keel_guard(&c->lock);

    c->settle_why = *why;
    c->settle_after = keel_after(SETTLE_RETRY);
    p->deferred = true;
    keel_cond_broadcast(&c->named);
    if (c->stopping) {
        p->state = STUCK;
        c->alive--;
        keel_cond_broadcast(&c->changed);
        return;
    }
    TAILQ_INSERT_TAIL(&c->settling, p, link);
}

/* The settled ones of earlier groups, after the transaction that had them. */
static void settled_done(struct lane *l, int rc, const struct problem *why)
{
    for (unsigned i = 0; i < l->settled_count; i++) {
        if (rc == 0)
            settled_forget(l->committer, l->settling[i]);
        else
            settled_defer(l->committer, l->settling[i], why);
    }
    l->settled_count = 0;
}

static void settled_fill(struct lane *l)
{
    for (unsigned i = 0; i < l->settled_count; i++)
        l->settled[i] = (struct ledger_settle){
            .intent = l->settling[i]->intent,
            .ctime_ns = l->settling[i]->ctime_ns,
        };
}

static void commit_failed(struct publish *p, int rc, const struct problem *why)
{
    p->why = *why;
    p->rc = rc;
}

static void commit(struct lane *l)
{
    struct committer *c = l->committer;
    struct problem why = {.id = PROBLEM_NONE};
    unsigned count = 0;
    int rc;

    for (unsigned i = 0; i < l->count; i++) {
        if (l->group[i]->rc < 0)
            continue;
        l->item_of[count] = l->group[i];
        item_fill(&l->items[count++], l->group[i]);
    }
    settled_fill(l);
    if (count > 0)
        rc = ledger_publish(c->vault->ledger, l->items, count, l->settled,
                            l->settled_count, &why);
    else if (l->settled_count > 0)
        rc =
            ledger_settle(c->vault->ledger, l->settled, l->settled_count, &why);
    else
        return;
    settled_done(l, rc, &why);
    for (unsigned i = 0; i < count; i++) {
        struct publish *p = l->item_of[i];

        if (rc < 0)
            commit_failed(p, rc, &why);
        else if (l->items[i].result < 0)
            p->rc = l->items[i].result;
        else
            p->intent = l->items[i].intent;
    }
}

/* ---- step 3: the name ----------------------------------------------------------------------------------- */

/* A rename to a name that must be free; file systems without the flag get
 * what was looked up in step 0. */
static int rename_fresh(struct draft *d, const char *from, int dir,
                        const char *leaf)
{
    int rc = keel_file_rename(d->drafts_dir, from, dir, leaf, RENAME_NOREPLACE);

    if (rc != -EINVAL)
        return rc;
    return keel_file_rename(d->drafts_dir, from, dir, leaf, 0);
}

static int name_one(struct publish *p)
{
    struct draft *d = p->draft;
    const char *leaf = leaf_of(p->path);
    char from[DRAFT_NAME_BYTES];

    if (d->kind == DRAFT_SMALL)
        return keel_file_link_fd(part_fd(d->part), p->dir, leaf);
    store_draft_name(d->id, from);
    if (d->no_replace)
        return rename_fresh(d, from, p->dir, leaf);
    return keel_file_rename(d->drafts_dir, from, p->dir, leaf, 0);
}

/* Nobody here can say any more whether it is published. */
static void publish_stick(struct committer *c, struct publish *p)
{
    log_error("vault: '%s' stays locked until a restart looks at it",
              shown_path(p->path).text);
    keel_guard(&c->lock);
    p->state = STUCK;
    c->alive--;
    keel_cond_broadcast(&c->named);
    keel_cond_broadcast(&c->changed);
}

/* Step 2 is taken back.  The row of a registered draft went with it, and is
 * made anew so that a resume finds it. */
static void undo(struct committer *c, struct publish *p)
{
    struct draft *d = p->draft;
    struct ledger_draft row = draft_row(d);

    if (ledger_undo(c->vault->ledger, p->intent, NULL) < 0) {
        publish_stick(c, p);
        return;
    }
    p->intent = 0;
    if (d->kind == DRAFT_REGISTERED &&
        ledger_draft_open(c->vault->ledger, &row, NULL) < 0)
        /* No resume then; what stays has no row and goes at the next start. */
        (void)store_draft_remove(c->vault->store, d->id);
}

/* The name was taken by a foreign hand between step 0 and now. */
static bool name_lost(const struct publish *p, int rc)
{
    return rc == -EEXIST && p->draft->kind == DRAFT_SMALL &&
           !p->draft->no_replace && p->tries < AGAIN_MOST;
}

/* A failure may have come after the change: 1 when the name is the draft, 0
 * when it surely is not. */
static int name_is_ours(const struct publish *p)
{
    struct statx x;
    struct ledger_file there;
    int rc = store_look(p->dir, leaf_of(p->path), &x);

    if (rc == -ENOENT)
        return 0;
    if (rc < 0)
        return rc;
    store_identity(&x, &there);
    return there.device == p->file.device && there.inode == p->file.inode;
}

static void name_all(struct lane *l)
{
    for (unsigned i = 0; i < l->count; i++) {
        struct publish *p = l->group[i];
        int rc;

        if (p->rc < 0)
            continue;
        rc = name_one(p);
        if (rc == 0 || name_is_ours(p) > 0)
            continue;
        p->again = name_lost(p, rc);
        publish_failed(p, rc);
        if (name_is_ours(p) < 0)
            publish_stick(l->committer, p);
        else
            undo(l->committer, p);
    }
}

/* ---- step 4: its directory --------------------------------------------------------------------------------- */

static int dir_sync(struct publish *p)
{
    return keel_file_sync(p->dir);
}

/* The name is there, the ledger has it, and nobody knows whether the disk
 * does: not acknowledged, and not to be built upon. */
static void dir_failed(struct publish *p, int rc)
{
    sync_failed(p, rc);
}

static bool same_parent(const struct publish *a, const struct publish *b)
{
    size_t size = parent_size(a->path);

    return a->space == b->space && parent_size(b->path) == size &&
           !memcmp(a->path, b->path, size);
}

/* Where `p` is covered by the sync of an earlier one of l->syncing. */
static struct publish *parent_synced(struct lane *l, unsigned count,
                                     const struct publish *p)
{
    for (unsigned i = 0; i < count; i++)
        if (same_parent(l->syncing[i], p))
            return l->syncing[i];
    return NULL;
}

static void sync_dirs_each(struct lane *l)
{
    unsigned count = 0;

    for (unsigned i = 0; i < l->count; i++) {
        struct publish *p = l->group[i];

        if (p->rc == 0 && !parent_synced(l, count, p))
            l->syncing[count++] = p;
    }
    sync_each(l, count, dir_sync, dir_failed);
    for (unsigned i = 0; i < l->count; i++) {
        struct publish *p = l->group[i], *leader;

        if (p->rc < 0)
            continue;
        leader = parent_synced(l, count, p);
        if (leader->rc < 0) {
            p->rc = leader->rc;
            p->why = leader->why;
        }
    }
}

static void sync_dirs(struct lane *l)
{
    struct committer *c = l->committer;
    unsigned alive = 0;
    bool ours = true;
    int rc;

    for (unsigned i = 0; i < l->count; i++) {
        struct publish *p = l->group[i];

        alive += p->rc == 0;
        ours &= p->rc < 0 || on_our_device(p);
    }
    if (alive >= GROUP_SYNCFS && ours && !shared_sync_slow(&c->sync)) {
        rc = shared_sync_join(&c->sync, c->vault->store);
        if (rc == 0)
            return;
        log_warn("vault: syncfs failed: %s", strerror(-rc));
    }
    sync_dirs_each(l);
}

/* ---- steps 5 and 6 -------------------------------------------------------------------------------------------- */

static int64_t ctime_now(struct publish *p)
{
    struct ledger_file f;
    struct statx x;

    if (keel_file_stat(part_fd(p->draft->part), NULL, &x) < 0)
        return 0; /* the digest will not count; the file does */
    store_identity(&x, &f);
    return f.ctime_ns;
}

static void finish_published(struct committer *c, struct publish *p)
{
    struct draft *d = keel_take(p->draft);

    if (d->kind == DRAFT_REGISTERED)
        part_published(d->part);
    draft_free(d); /* its names are gone: nothing to close */
    keel_guard(&c->lock);
    p->settle_by = keel_after(SETTLE_IDLE);
    TAILQ_INSERT_TAIL(&c->settling, p, link);
}

/* The caller has the draft back, or has left it to us. */
static void finish_failed(struct committer *c, struct publish *p)
{
    struct draft *d = keel_take(p->draft);
    bool stuck = p->state == STUCK, heard = p->heard;

    if (heard)
        log_warn("vault: '%s', acknowledged as %s, failed: %s",
                 shown_path(p->path).text, vault_level_name(p->level),
                 problem_code(&p->why));
    if (!stuck) {
        keel_guard(&c->lock);
        name_drop(c, p);
        c->alive--;
        keel_cond_broadcast(&c->changed);
    }
    publish_answer(p, p->rc);
    if (heard)
        draft_close(d);
    if (!stuck)
        publish_unref(c, p);
}

static void finish_again(struct committer *c, struct publish *p)
{
    p->rc = 0;
    p->again = false;
    p->tries++;
    keel_guard(&c->lock);
    p->state = QUEUED;
    TAILQ_INSERT_TAIL(&c->queue, p, link);
    keel_cond_signal(&c->changed);
    keel_cond_broadcast(&c->named);
}

/* Before any of them is answered: whoever hears of a file may look at it. */
static void finish_durable(struct lane *l)
{
    struct committer *c = l->committer;

    for (unsigned i = 0; i < l->count; i++)
        if (l->group[i]->rc == 0)
            l->group[i]->ctime_ns = ctime_now(l->group[i]);
    keel_guard(&c->lock);
    for (unsigned i = 0; i < l->count; i++)
        if (l->group[i]->rc == 0)
            l->group[i]->state = SETTLING;
    keel_cond_broadcast(&c->named);
}

static void finish(struct lane *l)
{
    struct committer *c = l->committer;

    finish_durable(l);
    for (unsigned i = 0; i < l->count; i++) {
        struct publish *p = l->group[i];
        struct problem *why = &p->why;

        if (p->rc < 0 && p->intent && p->state != STUCK)
            publish_stick(c, p);
        keel_file_close(p->dir);
        p->dir = -1;
        if (p->rc == 0) {
            why->id = PROBLEM_NONE;
            publish_reached(p, VAULT_COMMITTED);
            finish_published(c, p);
        } else if (p->again && p->state != STUCK) {
            finish_again(c, p);
        } else {
            finish_failed(c, p);
        }
    }
}

/* ---- lanes --------------------------------------------------------------------------------------------------------- */

/* When there is something to do: 0; else the time at which there will be. */
static keel_ns lane_due(struct committer *c)
{
    struct publish *oldest = TAILQ_FIRST(&c->settling);
    keel_ns due;

    if (!TAILQ_EMPTY(&c->queue) && !c->hold)
        return KEEL_NOW;
    if (!oldest)
        return KEEL_FOREVER;
    if (c->stopping)
        return KEEL_NOW;
    due = c->name_waiters > 0 ? KEEL_NOW : oldest->settle_by;
    return due > c->settle_after ? due : c->settle_after;
}

static void lane_fill(struct lane *l)
{
    struct committer *c = l->committer;
    struct publish *p;

    l->count = l->settled_count = 0;
    while (!c->hold && l->count < GROUP_MOST && (p = TAILQ_FIRST(&c->queue))) {
        TAILQ_REMOVE(&c->queue, p, link);
        p->state = GROUP;
        l->group[l->count++] = p;
    }
    while (l->settled_count < GROUP_MOST && (p = TAILQ_FIRST(&c->settling))) {
        TAILQ_REMOVE(&c->settling, p, link);
        l->settling[l->settled_count++] = p;
    }
}

/* False at the end. */
static bool lane_take(struct lane *l)
{
    struct committer *c = l->committer;
    keel_guard(&c->lock);

    for (;;) {
        keel_ns due = lane_due(c);

        if (due <= keel_now()) {
            lane_fill(l);
            return true;
        }
        if (c->stopping && c->alive == 0)
            return false;
        (void)keel_cond_wait(&c->changed, &c->lock, due);
    }
}

static void lane_group(struct lane *l)
{
    prepare(l);
    sync_data(l);
    commit(l);
    name_all(l);
    sync_dirs(l);
    finish(l);
}

static int lane_run(void *arg)
{
    struct lane *l = arg;

    while (lane_take(l))
        lane_group(l);
    return 0;
}

/* ---- opening and closing -------------------------------------------------------------------------------------------- */

static int lane_start(struct committer *c, struct lane *l)
{
    l->committer = c;
    l->jobs = keel_calloc(GROUP_MOST, sizeof *l->jobs);
    if (!l->jobs)
        return -ENOMEM;
    return keel_thread_start("committer", lane_run, l, &l->thread);
}

int committer_open(struct vault *v, struct committer **ret, struct problem *why)
{
    struct committer *c = keel_calloc(1, sizeof *c);
    int rc = 0;

    if (!c)
        return problem(why, NO_MEMORY);
    c->vault = v;
    keel_lock_init(&c->lock);
    keel_cond_init(&c->changed);
    keel_cond_init(&c->named);
    keel_lock_init(&c->sync.lock);
    keel_cond_init(&c->sync.changed);
    keel_lock_init(&c->dirs.lock);
    keel_cond_init(&c->dirs.changed);
    STAILQ_INIT(&c->dirs.waiting);
    TAILQ_INIT(&c->holds);
    TAILQ_INIT(&c->queue);
    TAILQ_INIT(&c->settling);
    for (unsigned i = 0; i < LANES && rc == 0; i++)
        rc = lane_start(c, &c->lanes[i]);
    if (rc < 0) {
        committer_close(c);
        return rc == -ENOMEM ? problem(why, NO_MEMORY)
                             : problem(why, INTERNAL, .errno_ = -rc,
                                       .detail = "starting the committer");
    }
    *ret = c;
    return 0;
}

static void committer_stop(struct committer *c)
{
    keel_guard(&c->lock);

    c->hold = false;
    c->stopping = true;
    keel_cond_broadcast(&c->changed);
}

/* Those stuck are recovery's: only their memory goes. */
static void names_free(struct committer *c)
{
    for (unsigned i = 0; i < NAME_BUCKETS; i++) {
        struct publish *p;

        while ((p = c->names[i])) {
            c->names[i] = p->next_name;
            publish_unref(c, p);
        }
    }
}

void committer_close(struct committer *c)
{
    if (!c)
        return;
    committer_stop(c);
    for (unsigned i = 0; i < LANES; i++) {
        if (c->lanes[i].thread)
            (void)keel_thread_join(c->lanes[i].thread, KEEL_FOREVER, NULL);
        keel_free(c->lanes[i].jobs);
    }
    names_free(c);
    holds_free(c);
    keel_cond_fini(&c->changed);
    keel_cond_fini(&c->named);
    keel_cond_fini(&c->sync.changed);
    keel_lock_fini(&c->sync.lock);
    keel_cond_fini(&c->dirs.changed);
    keel_lock_fini(&c->dirs.lock);
    keel_lock_fini(&c->lock);
    keel_free(c);
}

void committer_hold(struct committer *c, bool hold)
{
    keel_guard(&c->lock);

    c->hold = hold;
    keel_cond_broadcast(&c->changed);
}

unsigned committer_waiting(struct committer *c)
{
    keel_guard(&c->lock);
    unsigned count = c->name_waiters;
    struct publish *p;

    TAILQ_FOREACH (p, &c->queue, link)
        count++;
    return count;
}

void committer_drain(struct committer *c)
{
    keel_guard(&c->lock);

    /* As one who waits for a name: settling is hurried. */
    c->name_waiters++;
    while (c->alive > 0) {
        keel_cond_broadcast(&c->changed);
        (void)keel_cond_wait(&c->named, &c->lock, KEEL_FOREVER);
    }
    c->name_waiters--;
}
