/* SPDX-License-Identifier: MIT */
/* Moving and removing: the redo record of a change of names, and its rows.
 *
 *   (no row) --begin--> BEGUN --end, not done--> (gone)   rows as they were
 *                         |
 *                         +-----end, done--+---> (gone)   rows as they are now
 *                         |                |
 *                         +--> CLEARING ---+
 *                         |                |
 *                         +--> MOVING -----+
 *
 *   BEGUN     the disk is being changed, or was; nothing is decided here
 *   CLEARING  it was done; rows that go are going, LEDGER_CHANGE_ROWS in each
 *             transaction with their quota
 *   MOVING    what was replaced is gone; rows go from `path` to `target`
 *
 * While a change lives no other begins at, above or below its names, and
 * nothing is published, hashed or removed there: between two transactions the
 * rows are this change's alone.
 *
 * All names below "a" are those from "a/" up to, not with, "a0" ('0' follows
 * '/'); "a" alone is from "a" up to "a\0".  So each is one range of the key. */
#include <errno.h>

#include "ledger/ledger_inside.h"

enum change_state { BEGUN, CLEARING, MOVING };

/* ---- ranges of names -------------------------------------------------------------- */
struct range {
    char from[PATH_BYTES + 1], to[PATH_BYTES + 1];
    int from_size, to_size;
};

static void range_at(struct range *r, const char *path)
{
    size_t size = strlen(path);

    memcpy(r->from, path, size);
    memcpy(r->to, path, size);
    r->to[size] = '\0';
    r->from_size = (int)size;
    r->to_size = (int)size + 1;
}

static void range_below(struct range *r, const char *path)
{
    range_at(r, path);
    r->from[r->from_size++] = '/';
    r->to[r->to_size - 1] = '/' + 1;
}

/* Ends the range before its row number `most` of the table of `nth`, counted
 * from 0.  Returns 1 when that leaves rows out. */
static int range_cut(struct ledger *l, enum sql nth, int64_t space,
                     struct range *r, unsigned most, struct problem *why)
{
    keel_auto(rows) sqlite3_stmt *q = NULL;
    const void *next;
    int rc, size;

    rc = db_rows(l, nth, &q, why, "ibbi", space, r->from, r->from_size, r->to,
                 r->to_size, (int64_t)most);
    if (rc <= 0)
        return rc;
    next = sqlite3_column_blob(q, 0);
    size = sqlite3_column_bytes(q, 0);
    if (!next || size > (int)sizeof r->to)
        return db_damaged(l, why, "a row has a path that is none");
    memcpy(r->to, next, (size_t)size);
    r->to_size = size;
    return 1;
}

/* Drops the rows of files in a range, and their quota. */
static int range_drop(struct ledger *l, int64_t space, const struct range *r,
                      struct problem *why)
{
    struct space_change change = {0};
    int rc;

    {
        keel_auto(rows) sqlite3_stmt *q = NULL;

        rc = db_rows(l, SQL_RANGE_SUMS, &q, why, "ibb", space, r->from,
                     r->from_size, r->to, r->to_size);
        if (rc < 0)
            return rc;
        change.used_bytes = -sqlite3_column_int64(q, 0);
        change.used_files = -sqlite3_column_int64(q, 1);
    }
    rc = db_run(l, SQL_RANGE_DROP, why, "ibb", space, r->from, r->from_size,
                r->to, r->to_size);
    if (rc <= 0)
        return rc;
    rc = space_change_now(l, space, &change, why);
    return rc < 0 ? rc : 0;
}

/* Likewise of directories and links. */
static int nodes_drop(struct ledger *l, int64_t space, const struct range *r,
                      struct problem *why)
{
    struct space_change change = {0};
    int rc = db_run(l, SQL_NODES_DROP, why, "ibb", space, r->from, r->from_size,
                    r->to, r->to_size);

    if (rc <= 0)
        return rc;
    change.used_files = -rc;
    return space_change_now(l, space, &change, why);
}

/* Rows whose path begins with `old` begin with `new` instead. */
static int range_move(struct ledger *l, enum sql id, int64_t space,
                      const struct range *r, const char *old, const char *new,
                      struct problem *why)
{
    int rc = db_run(l, id, why, "ibbpi", space, r->from, r->from_size, r->to,
                    r->to_size, new, (int64_t)strlen(old) + 1);

    return rc < 0 ? rc : 0;
}

/* ---- who is in the way --------------------------------------------------------------- */
static int is_row(struct ledger *l, enum sql id, int64_t space,
                  const char *bytes, size_t size, struct problem *why)
{
    keel_auto(rows) sqlite3_stmt *q = NULL;

    return db_rows(l, id, &q, why, "ib", space, bytes, (int)size);
}

/* 1 when a row of the one table lies at, above or below `path`. */
static int is_near(struct ledger *l, enum sql at, enum sql below, int64_t space,
                   const char *path, struct problem *why)
{
    keel_auto(rows) sqlite3_stmt *q = NULL;
    struct range r;
    int rc = 0;

    for (const char *end = path; rc == 0 && *end; end++) {
        end += strcspn(end, "/");
        rc = is_row(l, at, space, path, (size_t)(end - path), why);
        if (*end == '\0')
            break;
    }
    if (rc != 0)
        return rc;
    range_below(&r, path);
    return db_rows(l, below, &q, why, "ibb", space, r.from, r.from_size, r.to,
                   r.to_size);
}

/* 1 when any change lives in the space. */
static int is_any(struct ledger *l, int64_t space, struct problem *why)
{
    keel_auto(rows) sqlite3_stmt *q = NULL;

    return db_rows(l, SQL_CHANGE_ANY, &q, why, "i", space);
}

int change_none_in(struct ledger *l, int64_t space, const char *name,
                   struct problem *why)
{
    int rc = is_any(l, space, why);

    return rc > 0 ? problem(why, FILE_BUSY, .name = name) : rc;
}

int change_none(struct ledger *l, int64_t space, const char *path,
                struct problem *why)
{
    int rc = is_any(l, space, why);

    /* Nearly always there is none, and nothing more to look for. */
    if (rc > 0)
        rc = is_near(l, SQL_CHANGE_AT, SQL_CHANGE_BELOW, space, path, why);
    return rc > 0 ? problem(why, FILE_BUSY, .name = shown_path(path).text) : rc;
}

/* Neither published nor changed, nor anything above or below it. */
static int quiet(struct ledger *l, int64_t space, const char *path,
                 struct problem *why)
{
    int rc = is_near(l, SQL_INTENT_AT, SQL_INTENT_BELOW, space, path, why);

    if (rc > 0)
        return problem(why, FILE_BUSY, .name = shown_path(path).text);
    return rc < 0 ? rc : change_none(l, space, path, why);
}

/* ---- begin ------------------------------------------------------------------------------ */
static bool is_inside(const char *path, const char *of)
{
    size_t size = strlen(of);

    return strncmp(path, of, size) == 0 &&
           (path[size] == '\0' || path[size] == '/');
}

/* What lies below `path` must have a path below `to`, too. */
static int is_short_enough(struct ledger *l, enum sql id,
                           const struct ledger_change *c, struct problem *why)
{
    keel_auto(rows) sqlite3_stmt *q = NULL;
    size_t longer = strlen(c->to), shorter = strlen(c->path);
    struct range r;
    int rc;

    if (longer <= shorter)
        return 0;
    longer -= shorter;
    range_below(&r, c->path);
    rc = db_rows(l, id, &q, why, "ibbi", c->space, r.from, r.from_size, r.to,
                 r.to_size, (int64_t)(PATH_BYTES - longer));
    if (rc <= 0)
        return rc;
    return problem(why, PATH_TOO_LONG,
                   .size = (uint64_t)sqlite3_column_int64(q, 0) + longer,
                   .limit = PATH_BYTES);
}

static int begin_decide(struct ledger *l, const struct ledger_change *c,
                        struct problem *why)
{
    struct ledger_space s;
    int rc;

    rc = space_get(l, c->space, &s, why);
    if (rc == 0)
        rc = quiet(l, c->space, c->path, why);
    if (rc < 0 || c->kind == LEDGER_REMOVE)
        return rc;
    rc = quiet(l, c->space, c->to, why);
    if (rc == 0)
        rc = is_short_enough(l, SQL_RANGE_LONGER, c, why);
    if (rc == 0)
        rc = is_short_enough(l, SQL_NODES_LONGER, c, why);
    return rc;
}

static int begin_run(struct ledger *l, void *arg, struct problem *why)
{
    struct ledger_change *c = arg;
    int rc;

    rc = begin_decide(l, c, why);
    if (rc < 0)
        return rc;
    rc = db_run(l, SQL_CHANGE_ADD, why, "iiippiii", (int64_t)c->kind, c->space,
                c->account, c->path, c->to, (int64_t)c->device,
                (int64_t)c->inode, c->now);
    if (rc < 0)
        return rc;
    c->id = sqlite3_last_insert_rowid(l->db);
    rc = db_run(l, SQL_CHANGE_PATH_ADD, why, "ipi", c->space, c->path, c->id);
    if (rc >= 0 && c->to)
        rc = db_run(l, SQL_CHANGE_PATH_ADD, why, "ipi", c->space, c->to, c->id);
    return rc < 0 ? rc : 0;
}

int ledger_change_begin(struct ledger *l, struct ledger_change *c,
                        struct problem *why)
{
    struct ledger_change copy = *c;
    int rc;

    keel_assert(c->kind == LEDGER_REMOVE || c->to);
    if (c->kind == LEDGER_REMOVE)
        copy.to = NULL;
    rc = ledger_path_check(c->path, why);
    if (rc == 0 && copy.to)
        rc = ledger_path_check(copy.to, why);
    if (rc < 0)
        return rc;
    if (copy.to &&
        (is_inside(copy.to, copy.path) || is_inside(copy.path, copy.to)))
        return problem(why, FILE_INSIDE, .name = shown_path(copy.path).text);
    rc = ledger_write(l, begin_run, &copy, why);
    if (rc == 0)
        c->id = copy.id;
    return rc;
}

/* ---- end -------------------------------------------------------------------------------- */
/* A change's row, with its texts in memory of its own. */
struct live {
    struct ledger_change change;
    enum change_state state;
    char *path, *to;
};

static void live_fini(struct live *v)
{
    keel_free(v->path);
    keel_free(v->to);
    v->path = v->to = NULL;
}

static int live_of_row(struct ledger *l, sqlite3_stmt *q, struct live *v,
                       struct problem *why)
{
    struct ledger_change *c = &v->change;
    int rc;

    v->path = v->to = NULL;
    rc = db_path(l, q, 4, &v->path, why);
    if (rc == 0 && sqlite3_column_type(q, 5) != SQLITE_NULL)
        rc = db_path(l, q, 5, &v->to, why);
    if (rc < 0) {
        live_fini(v);
        return rc;
    }
    *c = (struct ledger_change){
        .id = sqlite3_column_int64(q, 0),
        .kind = (enum ledger_change_kind)sqlite3_column_int64(q, 1),
        .space = sqlite3_column_int64(q, 2),
        .account = sqlite3_column_int64(q, 3),
        .path = v->path,
        .to = v->to,
        .device = (uint64_t)sqlite3_column_int64(q, 6),
        .inode = (uint64_t)sqlite3_column_int64(q, 7),
        .now = sqlite3_column_int64(q, 8)};
    v->state = (enum change_state)sqlite3_column_int64(q, 9);
    return 0;
}

/* 1, or 0 when there is none. */
static int live_get(struct ledger *l, int64_t id, struct live *ret,
                    struct problem *why)
{
    keel_auto(rows) sqlite3_stmt *q = NULL;
    int rc;

    rc = db_rows(l, SQL_CHANGE_GET, &q, why, "i", id);
    if (rc <= 0)
        return rc;
    rc = live_of_row(l, q, ret, why);
    return rc < 0 ? rc : 1;
}

static int forget(struct ledger *l, const struct ledger_change *c,
                  struct problem *why)
{
    int rc;

    rc = db_run(l, SQL_CHANGE_PATH_DROP, why, "ip", c->space, c->path);
    if (rc >= 0 && c->to)
        rc = db_run(l, SQL_CHANGE_PATH_DROP, why, "ip", c->space, c->to);
    if (rc >= 0)
        rc = db_run(l, SQL_CHANGE_DROP, why, "i", c->id);
    return rc < 0 ? rc : 0;
}

/* The name itself and all below it, LEDGER_CHANGE_ROWS at most of each table.
 * Returns 1 when rows are left. */
static int clear(struct ledger *l, int64_t space, const char *path,
                 struct problem *why)
{
    struct range at, files, nodes;
    int rc, more, more_nodes;

    range_at(&at, path);
    range_below(&files, path);
    range_below(&nodes, path);
    rc = range_drop(l, space, &at, why);
    if (rc == 0)
        rc = nodes_drop(l, space, &at, why);
    if (rc < 0)
        return rc;
    more = range_cut(l, SQL_RANGE_NTH, space, &files, LEDGER_CHANGE_ROWS, why);
    if (more < 0)
        return more;
    more_nodes =
        range_cut(l, SQL_NODES_NTH, space, &nodes, LEDGER_CHANGE_ROWS, why);
    if (more_nodes < 0)
        return more_nodes;
    rc = range_drop(l, space, &files, why);
    if (rc == 0)
        rc = nodes_drop(l, space, &nodes, why);
    return rc < 0 ? rc : more | more_nodes;
}

static int move_table(struct ledger *l, enum sql id, enum sql nth,
                      const struct ledger_change *c, struct problem *why)
{
    struct range r;
    int rc, more;

    range_at(&r, c->path);
    rc = range_move(l, id, c->space, &r, c->path, c->to, why);
    if (rc < 0)
        return rc;
    range_below(&r, c->path);
    more = range_cut(l, nth, c->space, &r, LEDGER_CHANGE_ROWS, why);
    if (more < 0)
        return more;
    rc = range_move(l, id, c->space, &r, c->path, c->to, why);
    return rc < 0 ? rc : more;
}

static int move(struct ledger *l, const struct ledger_change *c,
                struct problem *why)
{
    int files, nodes;

    files = move_table(l, SQL_RANGE_MOVE, SQL_RANGE_NTH, c, why);
    if (files < 0)
        return files;
    nodes = move_table(l, SQL_NODES_MOVE, SQL_NODES_NTH, c, why);
    return nodes < 0 ? nodes : files | nodes;
}

/* One transaction's part of the rows; 1 when there is more to do, and the row
 * then says where to go on. */
static int rows_step(struct ledger *l, const struct live *v,
                     struct problem *why)
{
    const struct ledger_change *c = &v->change;
    enum change_state state = v->state;
    int rc = 0;

    if (state != MOVING) {
        state = CLEARING;
        rc = clear(l, c->space, c->to ? c->to : c->path, why);
    }
    if (rc == 0 && c->to) {
        state = MOVING;
        rc = move(l, c, why);
    }
    if (rc > 0 && state != v->state) {
        rc = db_run(l, SQL_CHANGE_STATE, why, "ii", c->id, (int64_t)state);
        return rc < 0 ? rc : 1;
    }
    return rc;
}

static int followers_add(struct ledger *l, const struct ledger_change *c,
                         struct problem *why)
{
    const char *kind = c->to ? "file.moved" : "file.removed";
    int rc;

    rc = db_run(l, SQL_OUTBOX_ADD, why, "iiitpp", c->now, c->account, c->space,
                kind, c->path, c->to);
    if (rc < 0)
        return rc;
    return audit_add(l, c->now, c->account, c->space, c->path, c->to, kind, 0,
                     why);
}

struct end_call {
    int64_t id;
    bool done;
};

static int end_run(struct ledger *l, void *arg, struct problem *why)
{
    struct end_call *e = arg;
    struct live v;
    int rc;

    rc = live_get(l, e->id, &v, why);
    if (rc <= 0)
        return rc; /* ended already */
    rc = 0;
    if (e->done || v.state != BEGUN) {
        rc = rows_step(l, &v, why);
        if (rc == 0)
            rc = followers_add(l, &v.change, why);
    }
    if (rc == 0)
        rc = forget(l, &v.change, why);
    live_fini(&v);
    return rc;
}

int ledger_change_end(struct ledger *l, int64_t id, bool done,
                      struct problem *why)
{
    struct end_call e = {.id = id, .done = done};
    int rc;

    do
        rc = ledger_write(l, end_run, &e, why);
    while (rc > 0);
    return rc;
}

/* ---- list -------------------------------------------------------------------------------- */
struct change_page {
    struct page page;
    int64_t after;
    struct live rows[LEDGER_PAGE];
    int (*each)(const struct ledger_change *c, void *arg);
    void *arg;
};
KEEL_AUTO(change_page, struct change_page *, keel_free)

static int change_row(struct ledger *l, sqlite3_stmt *q, void *arg,
                      struct problem *why)
{
    struct change_page *p = arg;
    int rc = live_of_row(l, q, &p->rows[p->page.count], why);

    p->page.count += rc == 0;
    return rc;
}

static int change_list_run(struct ledger *l, void *arg, struct problem *why)
{
    keel_auto(rows) sqlite3_stmt *q = NULL;
    struct change_page *p = arg;
    int rc = db_rows(l, SQL_CHANGE_LIST, &q, why, "ii", p->after,
                     (int64_t)LEDGER_PAGE);

    return db_each(l, q, rc, change_row, p, why);
}

static int change_tell(void *page, int row, bool wanted)
{
    struct change_page *p = page;
    struct live *v = &p->rows[row];
    int rc = wanted ? p->each(&v->change, p->arg) : 0;

    p->after = v->change.id;
    live_fini(v);
    return rc;
}

int ledger_change_list(struct ledger *l,
                       int (*each)(const struct ledger_change *c, void *arg),
                       void *arg, struct problem *why)
{
    keel_auto(change_page) struct change_page *p = keel_calloc(1, sizeof *p);

    if (!p)
        return problem(why, NO_MEMORY);
    p->each = each;
    p->arg = arg;
    return ledger_pages(l, change_list_run, change_tell, p, why);
}
