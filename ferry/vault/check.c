/* SPDX-License-Identifier: MIT */
/* The ledger compared with the disk, one space at a time and in bounded
 * memory.  It may run while the space is in use: what looks wrong is looked
 * at again while its name is held. */
#include <errno.h>
#include <stdio.h>
#include <string.h>

#include <keel/co.h>
#include <keel/file.h>

#include "inside.h"

enum { BATCH = 256 };

struct checking {
    struct vault *vault;
    struct ledger_space space;
    bool repair;
    int (*each)(const struct vault_finding *f, void *arg);
    void *arg;
    struct problem *why;
    unsigned count;
    char *paths[BATCH];
    bool missing[BATCH];
    int result; /* of each, when it ended the check */
};

static bool is_nowhere(int rc)
{
    return rc == -ENOENT || rc == -ENOTDIR || rc == -ELOOP || rc == -EXDEV;
}

/* 1: there is no file under the name. */
static int look_for(struct checking *c, const char *path)
{
    keel_auto(file) int dir =
        store_dir(c->vault->store, c->space.dir, path, parent_size(path));
    struct statx x;
    int rc = dir < 0 ? dir : store_look(dir, leaf_of(path), &x);

    if (is_nowhere(rc))
        return 1;
    if (rc < 0)
        return vault_problem(c->vault, c->why, rc, path, 0);
    return !S_ISREG(x.stx_mode);
}

static int look_for_batch(void *arg)
{
    struct checking *c = arg;

    for (unsigned i = 0; i < c->count; i++) {
        int rc = look_for(c, c->paths[i]);

        if (rc < 0)
            return rc;
        c->missing[i] = rc > 0;
    }
    return 0;
}

static int tell(struct checking *c, const char *path, const char *what,
                bool repaired)
{
    struct vault_finding f = {path, what, repaired};
    int rc = c->each(&f, c->arg);

    if (rc < 0)
        c->result = rc;
    return rc;
}

struct again {
    struct checking *check;
    const char *path;
};

static int look_again(void *arg)
{
    struct again *a = arg;

    return look_for(a->check, a->path);
}

/* With its name held, so that no upload is between row and file. */
static int row_confirm(struct checking *c, const char *path)
{
    struct again again = {c, path};
    struct ledger_file row;
    bool repaired = false;
    int rc;

    if (ledger_file_get(c->vault->ledger, c->space.id, path, &row, NULL) < 0)
        return 0;
    rc = keel_blocking(look_again, &again);
    if (rc == -EAGAIN)
        return problem(c->why, NO_MEMORY);
    if (rc <= 0)
        return rc;
    if (c->repair) {
        rc = ledger_file_remove(c->vault->ledger, c->space.id, path, c->why);
        if (rc < 0)
            return rc;
        repaired = true;
    }
    return tell(c, path, "is in the ledger and not on the disk", repaired);
}

static int row_missing(struct checking *c, const char *path)
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
    rc = row_confirm(c, path);
    committer_drop_name(c->vault->committer, h);
    return rc;
}

static int batch_end(struct checking *c)
{
    int rc = keel_blocking(look_for_batch, c);

    if (rc == -EAGAIN)
        rc = problem(c->why, NO_MEMORY);
    for (unsigned i = 0; i < c->count; i++) {
        if (rc >= 0 && c->missing[i])
            rc = row_missing(c, c->paths[i]);
        keel_free(c->paths[i]);
    }
    c->count = 0;
    return rc < 0 ? rc : 0;
}

static int batch_add(const char *path, const struct ledger_file *f, void *arg)
{
    struct checking *c = arg;
    char *kept = keel_strdup(path);

    (void)f;
    if (!kept)
        return problem(c->why, NO_MEMORY);
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

static int check_sums(struct checking *c)
{
    struct ledger_sums s;
    char what[160];
    int rc =
        ledger_space_sum(c->vault->ledger, c->space.id, c->repair, &s, c->why);

    if (rc < 0 || (s.said_bytes == s.bytes && s.said_files == s.files))
        return rc;
    (void)snprintf(what, sizeof what,
                   "is said to use %lld bytes in %lld files; they come to %lld "
                   "bytes in %lld files",
                   (long long)s.said_bytes, (long long)s.said_files,
                   (long long)s.bytes, (long long)s.files);
    return tell(c, "", what, c->repair);
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
        rc = check_rows(c);
    if (rc == 0)
        rc = check_sums(c);
    return c->result < 0 ? c->result : rc;
}
