/* SPDX-License-Identifier: MIT */
#include "vault.h"

#include <errno.h>
#include <stdio.h>
#include <string.h>

#include <keel/file.h>

#include "vault_inside.h"
#include "lists.h"

enum { BUFFERS = 16 };
static const int64_t draft_ttl_s = 7 * 24 * 3600;

/* ---- words and small things ------------------------------------------------- */

mode_t file_mode(mode_t mode)
{
    return 0400 | (mode & 0777);
}

mode_t dir_mode(mode_t mode)
{
    return 0700 | (mode & 0777);
}

void vault_entry_fini(struct vault_entry *e)
{
    keel_free(e->target);
    e->target = NULL;
}

int64_t vault_now_s(void)
{
    return keel_wall_ns() / KEEL_SECOND;
}

size_t parent_size(const char *path)
{
    const char *slash = strrchr(path, '/');

    return slash ? (size_t)(slash - path) : 0;
}

const char *leaf_of(const char *path)
{
    const char *slash = strrchr(path, '/');

    return slash ? slash + 1 : path;
}

int vault_problem(struct vault *v, struct problem *why, int rc,
                  const char *path, uint64_t size)
{
    struct statfs fs;

    if (rc != -ENOSPC && rc != -EDQUOT)
        return store_problem(why, rc, shown_path(path).text);
    if (store_statfs(v->store, &fs) < 0)
        memset(&fs, 0, sizeof fs);
    return problem(why, DISK_FULL, .size = size,
                   .bytes = (uint64_t)fs.f_bavail * (uint64_t)fs.f_bsize);
}

/* ---- spaces --------------------------------------------------------------------- */

static bool memo_find(struct vault *v, int64_t space, keel_ns oldest,
                      struct ledger_space *ret)
{
    keel_guard(&v->lock);

    for (unsigned i = 0; i < SPACE_MEMOS; i++) {
        struct space_memo *m = &v->memos[i];

        if (m->space.id == space && m->looked >= oldest) {
            *ret = m->space;
            return true;
        }
    }
    return false;
}

static void memo_keep(struct vault *v, const struct ledger_space *space,
                      keel_ns looked)
{
    keel_guard(&v->lock);
    struct space_memo *m = NULL;

    for (unsigned i = 0; i < SPACE_MEMOS && !m; i++)
        if (v->memos[i].space.id == space->id)
            m = &v->memos[i];
    if (!m)
        m = &v->memos[v->next_memo++ % SPACE_MEMOS];
    m->space = *space;
    m->looked = looked;
}

int vault_space(struct vault *v, int64_t space, bool fresh,
                struct ledger_space *ret, struct problem *why)
{
    keel_ns now = keel_now();
    int rc;

    keel_assert(space != 0);
    if (!fresh && memo_find(v, space, now - SPACE_FRESH, ret))
        return 0;
    rc = ledger_space_get(v->ledger, space, ret, why);
    if (rc < 0)
        return rc;
    memo_keep(v, ret, now);
    return 0;
}

/* ---- opening and closing ------------------------------------------------------------ */

int vault_open(const struct vault_options *o, struct vault **ret,
               struct problem *why)
{
    struct vault *v = keel_calloc(1, sizeof *v);
    int rc;

    if (!v)
        return problem(why, NO_MEMORY);
    v->ledger = o->ledger;
    v->accounts = o->accounts;
    v->draft_ttl_s = o->draft_ttl_s ? o->draft_ttl_s : draft_ttl_s;
    keel_lock_init(&v->lock);
    keel_cond_init(&v->released);
    keel_random(&v->run, sizeof v->run);
    rc = store_open(o->data_dir, &v->store, why);
    if (rc == 0 &&
        buffer_pool_new(o->buffers ? o->buffers : BUFFERS, &v->buffers) < 0)
        rc = problem(why, NO_MEMORY);
    if (rc == 0 && lists_new(&v->lists) < 0)
        rc = problem(why, NO_MEMORY);
    if (rc == 0)
        rc = vault_recover(v, why);
    if (rc == 0)
        rc = committer_open(v, &v->committer, why);
    if (rc == 0)
        rc = trash_sweep(v, why);
    if (rc < 0) {
        vault_close(v);
        return rc;
    }
    *ret = v;
    return 0;
}

void vault_close(struct vault *v)
{
    if (!v)
        return;
    trash_stop(v);
    committer_close(v->committer);
    keel_assert(v->open_drafts == 0);
    if (v->buffers)
        buffer_pool_free(v->buffers);
    lists_free(v->lists);
    store_close(v->store);
    keel_lock_fini(&v->lock);
    keel_free(v);
}

void vault_configure(struct vault *v, int64_t ttl_s)
{
    atomic_store(&v->draft_ttl_s, ttl_s ? ttl_s : draft_ttl_s);
}

struct buffer_pool *vault_buffers(struct vault *v)
{
    return v->buffers;
}

const char *vault_level_name(enum vault_level l)
{
    static const char *const names[] = {
        [VAULT_RECEIVED] = "received",
        [VAULT_SYNCED] = "synced",
        [VAULT_COMMITTED] = "committed",
    };

    return (unsigned)l < sizeof names / sizeof *names ? names[l] : "unknown";
}
