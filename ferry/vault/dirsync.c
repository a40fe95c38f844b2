/* SPDX-License-Identifier: MIT */
/* Directories synced for many callers at once.
 *
 * Whoever comes while a sync runs waits for the next one, which is for all who
 * came meanwhile: the first of them does it, once for each directory.  So a
 * thousand names made at the same time cost a few syncs, and one made alone
 * its own. */
#include <errno.h>
#include <string.h>

#include <keel/co.h>
#include <keel/file.h>

#include "base/log.h"
#include "committer.h"

enum { BATCH = 1024 };

struct dir_batch {
    struct committer *committer;
    struct dir_requests requests;
    unsigned count;
};

/* The earlier request of the batch for the same directory. */
static struct dir_request *same_dir(struct dir_batch *b,
                                    const struct dir_request *r)
{
    struct dir_request *other;

    STAILQ_FOREACH (other, &b->requests, link) {
        if (other == r)
            break;
        if (other->device == r->device && other->inode == r->inode)
            return other;
    }
    return NULL;
}

static bool batch_by_syncfs(struct dir_batch *b, unsigned distinct)
{
    struct committer *c = b->committer;
    struct dir_request *r;

    if (distinct < GROUP_SYNCFS || shared_sync_slow(&c->sync))
        return false;
    STAILQ_FOREACH (r, &b->requests, link)
        if (r->device != store_device(c->vault->store))
            return false;
    return shared_sync_join(&c->sync, c->vault->store) == 0;
}

static int batch_run(void *arg)
{
    struct dir_batch *b = arg;
    struct dir_request *r;
    unsigned distinct = 0;

    STAILQ_FOREACH (r, &b->requests, link) {
        r->leader = same_dir(b, r);
        distinct += !r->leader;
    }
    if (batch_by_syncfs(b, distinct))
        return 0;
    STAILQ_FOREACH (r, &b->requests, link)
        r->result = r->leader ? r->leader->result : keel_file_sync(r->dir);
    return 0;
}

/* Takes what waits, under the lock. */
static void batch_take(struct dir_syncs *s, struct dir_batch *b)
{
    struct dir_request *r;

    STAILQ_INIT(&b->requests);
    while (b->count < BATCH && (r = STAILQ_FIRST(&s->waiting))) {
        STAILQ_REMOVE_HEAD(&s->waiting, link);
        STAILQ_INSERT_TAIL(&b->requests, r, link);
        b->count++;
    }
}

static void batch_lead(struct committer *c)
{
    struct dir_syncs *s = &c->dirs;
    struct dir_batch b = {.committer = c};
    struct dir_request *r;

    batch_take(s, &b);
    s->busy = true;
    keel_lock_drop(&s->lock);
    /* Without a thread for it the syncs are this coroutine's own waits. */
    if (keel_blocking(batch_run, &b) == -EAGAIN)
        (void)batch_run(&b);
    keel_lock_hold(&s->lock);
    s->busy = false;
    STAILQ_FOREACH (r, &b.requests, link)
        r->done = true;
    keel_cond_broadcast(&s->changed);
}

int committer_sync_dirs(struct committer *c, struct dir_request *r,
                        unsigned count)
{
    struct dir_syncs *s = &c->dirs;
    int rc = 0;

    keel_shield();
    keel_lock_hold(&s->lock);
    for (unsigned i = 0; i < count; i++) {
        r[i].result = 0;
        r[i].done = false;
        STAILQ_INSERT_TAIL(&s->waiting, &r[i], link);
    }
    for (unsigned i = 0; i < count; i++) {
        while (!r[i].done) {
            if (s->busy)
                (void)keel_cond_wait(&s->changed, &s->lock, KEEL_FOREVER);
            else
                batch_lead(c);
        }
        if (r[i].result < 0)
            rc = r[i].result;
    }
    keel_lock_drop(&s->lock);
    keel_unshield();
    return rc;
}

int dir_request_fill(struct dir_request *ret, int dir)
{
    struct ledger_file f;
    struct statx x;
    int rc = keel_file_stat(dir, NULL, &x);

    if (rc < 0)
        return rc;
    store_identity(&x, &f);
    *ret =
        (struct dir_request){.dir = dir, .device = f.device, .inode = f.inode};
    return 0;
}
