/* SPDX-License-Identifier: MIT */
/* Shared spaces and grants, and the end of spaces and accounts. */
#include <stdio.h>

#include "ledger/ledger_inside.h"

/* ---- shared spaces ---------------------------------------------------------------- */
struct find_call {
    enum sql by;
    const char *name;
    struct ledger_space space;
};

/* 1, or 0 when there is none. */
static int space_by(struct ledger *l, enum sql by, const char *name,
                    struct ledger_space *ret, struct problem *why)
{
    keel_auto(rows) sqlite3_stmt *q = NULL;
    int rc;

    rc = db_rows(l, by, &q, why, "t", name);
    if (rc <= 0)
        return rc;
    rc = space_row(l, q, ret, why);
    return rc < 0 ? rc : 1;
}

static int space_find_run(struct ledger *l, void *arg, struct problem *why)
{
    struct find_call *c = arg;
    int rc = space_by(l, c->by, c->name, &c->space, why);

    if (rc == 0)
        return problem(why, SPACE_UNKNOWN, .name = c->name);
    return rc < 0 ? rc : 0;
}

static int space_find(struct ledger *l, enum sql by, const char *name,
                      struct ledger_space *ret, struct problem *why)
{
    struct find_call c = {.by = by, .name = name};
    int rc;

    rc = ledger_read(l, space_find_run, &c, why);
    if (rc == 0)
        *ret = c.space;
    return rc;
}

int ledger_space_find(struct ledger *l, const char *name,
                      struct ledger_space *ret, struct problem *why)
{
    return space_find(l, SQL_SPACE_FIND, name, ret, why);
}

int ledger_space_in(struct ledger *l, const char *dir, struct ledger_space *ret,
                    struct problem *why)
{
    return space_find(l, SQL_SPACE_IN, dir, ret, why);
}

struct shared_call {
    const char *after;
    struct ledger_space *ret;
    unsigned max;
};

static int space_shared_run(struct ledger *l, void *arg, struct problem *why)
{
    keel_auto(rows) sqlite3_stmt *q = NULL;
    struct shared_call *c = arg;
    int rc =
        db_rows(l, SQL_SPACE_SHARED, &q, why, "ti", c->after, (int64_t)c->max);

    return space_rows(l, q, rc, c->ret, why);
}

int ledger_space_shared(struct ledger *l, const char *after,
                        struct ledger_space *ret, unsigned max,
                        struct problem *why)
{
    struct shared_call c = {.after = after, .ret = ret, .max = max};

    return max == 0 ? 0 : ledger_read(l, space_shared_run, &c, why);
}

static int space_add_run(struct ledger *l, void *arg, struct problem *why)
{
    struct ledger_space *s = arg;
    struct ledger_account owner;
    struct ledger_space other;
    int rc;

    rc = account_by_id(l, s->owner, &owner, why);
    if (rc == 0)
        rc = space_by(l, SQL_SPACE_FIND, s->name, &other, why);
    if (rc > 0)
        return problem(why, SPACE_EXISTS, .name = s->name);
    if (rc == 0)
        rc = db_run(l, SQL_SPACE_ADD, why, "ttiii", s->dir, s->name, s->owner,
                    s->quota_bytes, s->quota_files);
    if (rc < 0)
        return rc;
    s->id = sqlite3_last_insert_rowid(l->db);
    return 0;
}

int ledger_space_add(struct ledger *l, struct ledger_space *s,
                     struct problem *why)
{
    struct ledger_space copy = *s;
    int rc;

    keel_assert(s->name[0] && s->quota_bytes >= 0 && s->quota_files >= 0);
    copy.used_bytes = copy.used_files = copy.reserved_bytes = 0;
    space_dir_new(copy.dir);
    rc = ledger_write(l, space_add_run, &copy, why);
    if (rc == 0)
        *s = copy;
    return rc;
}

/* ---- the end of a space ----------------------------------------------------------------- */
/* Its drafts lose their rows here; their files are the vault's. */
static int space_end(struct ledger *l, int64_t space, const char *name,
                     struct problem *why)
{
    static const enum sql steps[] = {SQL_GRANT_DROP_SPACE, SQL_DRAFT_DROP_SPACE,
                                     SQL_NODE_DROP_SPACE, SQL_SPACE_DROP};
    int64_t files, bytes;
    int rc;

    {
        keel_auto(rows) sqlite3_stmt *q = NULL;

        rc = db_rows(l, SQL_SPACE_FILES, &q, why, "i", space);
        if (rc < 0)
            return rc;
        files = sqlite3_column_int64(q, 0);
        bytes = sqlite3_column_int64(q, 1);
    }
    if (files > 0)
        return problem(why, SPACE_NOT_EMPTY, .name = name,
                       .used = (uint64_t)files, .bytes = (uint64_t)bytes);
    rc = change_none_in(l, space, name, why);
    for (size_t i = 0; rc >= 0 && i < sizeof steps / sizeof *steps; i++)
        rc = db_run(l, steps[i], why, "i", space);
    return rc < 0 ? rc : 0;
}

/* How a refusal names it: "mara", or "@team". */
static void space_shown(const struct ledger_space *s, const char *owner,
                        char ret[80])
{
    snprintf(ret, 80, "%s%s", s->name[0] ? "@" : "",
             s->name[0] ? s->name : owner);
}

static int space_delete_run(struct ledger *l, void *arg, struct problem *why)
{
    const int64_t *space = arg;
    struct ledger_space s;
    char name[80];
    int rc;

    rc = space_get(l, *space, &s, why);
    if (rc < 0)
        return rc;
    keel_assert(s.name[0]); /* a home goes with its account */
    space_shown(&s, "", name);
    return space_end(l, *space, name, why);
}

int ledger_space_delete(struct ledger *l, int64_t space, struct problem *why)
{
    return ledger_write(l, space_delete_run, &space, why);
}

/* ---- the end of an account ----------------------------------------------------------------- */
static int space_owned(struct ledger *l, int64_t account, int64_t *ret,
                       struct problem *why)
{
    keel_auto(rows) sqlite3_stmt *q = NULL;
    int rc;

    rc = db_rows(l, SQL_SPACE_OWNED, &q, why, "i", account);
    if (rc > 0)
        *ret = sqlite3_column_int64(q, 0);
    return rc;
}

static int spaces_end(struct ledger *l, const struct ledger_account *a,
                      struct problem *why)
{
    struct ledger_space s;
    int64_t space = 0;
    char name[80];
    int rc;

    while ((rc = space_owned(l, a->id, &space, why)) > 0) {
        rc = space_get(l, space, &s, why);
        if (rc < 0)
            return rc;
        space_shown(&s, a->name, name);
        rc = space_end(l, space, name, why);
        if (rc < 0)
            return rc;
    }
    return rc;
}

/* Its devices go with it, by the schema.  Who published a file stays written at
 * the file: numbers of accounts are never used again. */
static int account_delete_run(struct ledger *l, void *arg, struct problem *why)
{
    static const enum sql steps[] = {
        SQL_DRAFT_FREE_ACCOUNT, SQL_DRAFT_DROP_ACCOUNT, SQL_GRANT_DROP_ACCOUNT,
        SQL_INVITE_DROP, SQL_ACCOUNT_DROP};
    const int64_t *id = arg;
    struct ledger_account a;
    int rc;

    rc = account_by_id(l, *id, &a, why);
    if (rc == 0)
        rc = spaces_end(l, &a, why);
    for (size_t i = 0; rc >= 0 && i < sizeof steps / sizeof *steps; i++)
        rc = db_run(l, steps[i], why, "i", *id);
    return rc < 0 ? rc : 0;
}

int ledger_account_delete(struct ledger *l, int64_t account,
                          struct problem *why)
{
    keel_assert(account > 0);
    return ledger_write(l, account_delete_run, &account, why);
}

/* ---- grants -------------------------------------------------------------------------------- */
static int grant_path_check(const char *path, struct problem *why)
{
    return path[0] ? ledger_path_check(path, why) : 0;
}

static int grant_set_run(struct ledger *l, void *arg, struct problem *why)
{
    const struct ledger_grant *const *c = arg, *g = *c;
    struct ledger_account account;
    struct ledger_space s;
    int rc;

    rc = space_get(l, g->space, &s, why);
    if (rc == 0 && g->account != 0)
        rc = account_by_id(l, g->account, &account, why);
    if (rc < 0)
        return rc;
    if (g->rights == 0) {
        char shown[PATH_BYTES + 2];

        rc = db_run(l, SQL_GRANT_DROP, why, "ipi", g->space, g->path,
                    g->account);
        (void)snprintf(shown, sizeof shown, "/%s", g->path);
        if (rc == 0)
            return problem(why, GRANT_UNKNOWN, .name = shown,
                           .detail = g->account ? account.name : "Everybody");
    } else
        rc = db_run(l, SQL_GRANT_SET, why, "ipii", g->space, g->path,
                    g->account, (int64_t)g->rights);
    return rc < 0 ? rc : 0;
}

int ledger_grant_set(struct ledger *l, const struct ledger_grant *g,
                     struct problem *why)
{
    int rc;

    rc = grant_path_check(g->path, why);
    return rc < 0 ? rc : ledger_write(l, grant_set_run, &g, why);
}

/* The last row of a page is where the next one begins. */
struct grant_page {
    struct page page;
    int64_t space, account;
    struct ledger_grant rows[LEDGER_PAGE];
    struct ledger_grant after;
    int (*each)(const struct ledger_grant *g, void *arg);
    void *arg;
};
KEEL_AUTO(grant_page, struct grant_page *, keel_free)

static int grant_row(struct ledger *l, sqlite3_stmt *q, void *arg,
                     struct problem *why)
{
    struct grant_page *p = arg;
    struct ledger_grant *ret = &p->rows[p->page.count];
    const void *path = sqlite3_column_blob(q, 1); /* NULL when it is empty */
    int size = sqlite3_column_bytes(q, 1);

    if (size > PATH_BYTES)
        return db_damaged(l, why, "a row has a path that is none");
    if (size > 0)
        memcpy(ret->path, path, (size_t)size);
    ret->path[size] = '\0';
    ret->space = sqlite3_column_int64(q, 0);
    ret->account = sqlite3_column_int64(q, 2);
    ret->rights = (unsigned)sqlite3_column_int64(q, 3);
    p->page.count++;
    return 0;
}

static int grant_list_run(struct ledger *l, void *arg, struct problem *why)
{
    keel_auto(rows) sqlite3_stmt *q = NULL;
    struct grant_page *p = arg;
    int rc = db_rows(l, SQL_GRANT_LIST, &q, why, "ipiiii", p->after.space,
                     p->after.path, p->after.account, p->space, p->account,
                     (int64_t)LEDGER_PAGE);

    return db_each(l, q, rc, grant_row, p, why);
}

static int grant_tell(void *page, int row, bool wanted)
{
    struct grant_page *p = page;

    p->after = p->rows[row];
    return wanted ? p->each(&p->rows[row], p->arg) : 0;
}

int ledger_grant_list(struct ledger *l, int64_t space, int64_t account,
                      int (*each)(const struct ledger_grant *g, void *arg),
                      void *arg, struct problem *why)
{
    keel_auto(grant_page) struct grant_page *p = keel_calloc(1, sizeof *p);

    if (!p)
        return problem(why, NO_MEMORY);
    p->space = space;
    p->account = account;
    /* Before all: those of everybody for a whole space come first. */
    p->after.account = -1;
    p->after.space = space;
    p->each = each;
    p->arg = arg;
    return ledger_pages(l, grant_list_run, grant_tell, p, why);
}
