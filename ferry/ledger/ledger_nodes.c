/* SPDX-License-Identifier: MIT */
/* Directories and links: a row for each that is made through us.
 *
 *   (no row) --begin--> MAKING --done, over--> MADE
 *                         |
 *                         +------back--------> (gone)
 *
 *   MAKING    charged; the disk is being changed, or was, and recovery looks
 *   MADE      the name is durable
 *
 * The row comes before the name and goes after it (ledger_change.c), so that at
 * no moment there is a name that counts for nothing. */
#include <stdio.h>

#include "ledger/ledger_inside.h"

/* ---- making ------------------------------------------------------------------- */
static int next_making(struct ledger *l, int64_t *ret, struct problem *why)
{
    keel_auto(rows) sqlite3_stmt *q = NULL;
    int rc;

    if (l->making == 0) {
        rc = db_rows(l, SQL_NODE_LAST, &q, why, "");
        if (rc < 0)
            return rc;
        l->making = sqlite3_column_int64(q, 0);
    }
    *ret = ++l->making;
    return 0;
}

/* A row for each name from the first on.  Returns how many there were not. */
static int add_names(struct ledger *l, const struct ledger_making *m,
                     struct problem *why)
{
    size_t size = strlen(m->path);
    int added = 0;

    for (size_t end = m->first; end <= size; end++) {
        int rc;

        end += strcspn(m->path + end, "/");
        rc = db_run(l, SQL_NODE_ADD, why, "ibii", m->space, m->path, (int)end,
                    m->id, m->account);
        if (rc < 0)
            return rc;
        added += rc;
    }
    return added;
}

static int making_begin_run(struct ledger *l, void *arg, struct problem *why)
{
    struct ledger_making *m = arg;
    struct space_change change = {0};
    bool one_more = true;
    int rc = change_none(l, m->space, m->path, why);

    if (rc == 0 && m->replaces) {
        struct file_row old;

        rc = file_get(l, m->space, m->path, &old, why);
        one_more = rc == 0 || old.charged < 0;
    }
    if (rc >= 0)
        rc = next_making(l, &m->id, why);
    if (rc >= 0)
        rc = add_names(l, m, why);
    /* In the place of another's it may be this one's or, after a failure, still
     * that one's: it is nobody's. */
    if (rc == 0) {
        rc = db_run(l, SQL_NODE_OTHER, why, "ipi", m->space, m->path,
                    m->account);
        return rc < 0 ? rc : 0;
    }
    if (rc < 0)
        return rc;
    change.used_files = rc;
    change.asked = 1;
    rc = space_change(l, m->space, &change, one_more, why);
    if (rc == 0)
        rc = space_flush(l, why);
    return rc;
}

int ledger_making_begin(struct ledger *l, struct ledger_making *m,
                        struct problem *why)
{
    struct ledger_making copy = *m;
    int rc = ledger_path_check(m->path, why);

    if (rc < 0)
        return rc;
    keel_assert(m->first > 0 && m->first <= strlen(m->path));
    rc = ledger_write(l, making_begin_run, &copy, why);
    if (rc == 0)
        m->id = copy.id;
    return rc;
}

/* With no room left it is forgotten: recovery looks at it. */
static int making_done_run(struct ledger *l, void *arg, struct problem *why)
{
    (void)why;
    if (l->made_count < LEDGER_MADE)
        l->made[l->made_count++] = *(int64_t *)arg;
    return 0;
}

void ledger_making_done(struct ledger *l, int64_t id)
{
    (void)ledger_read(l, making_done_run, &id, NULL);
}

struct making_call {
    const struct ledger_making *making;
    size_t kept;
    int64_t account, now;
};

static int making_back_run(struct ledger *l, void *arg, struct problem *why)
{
    struct making_call *c = arg;
    const struct ledger_making *m = c->making;
    struct space_change change = {0};
    int rc = db_run(l, SQL_NODE_UNMADE, why, "ii", m->id, (int64_t)c->kept);

    if (rc > 0) {
        change.used_files = -rc;
        rc = space_change_now(l, m->space, &change, why);
    }
    if (rc >= 0)
        rc = db_run(l, SQL_NODE_MADE, why, "i", m->id);
    return rc < 0 ? rc : 0;
}

int ledger_making_back(struct ledger *l, const struct ledger_making *m,
                       size_t kept, struct problem *why)
{
    struct making_call c = {.making = m, .kept = kept};

    return ledger_write(l, making_back_run, &c, why);
}

/* The file's row, if it had one. */
static int file_gone(struct ledger *l, const struct ledger_making *m,
                     struct problem *why)
{
    struct space_change change = {.used_files = -1};
    struct file_row old;
    int rc = file_get(l, m->space, m->path, &old, why);

    if (rc <= 0)
        return rc;
    rc = db_run(l, SQL_FILE_DROP, why, "ip", m->space, m->path);
    if (rc < 0 || old.charged < 0)
        return rc;
    change.used_bytes = -old.charged;
    return space_change_now(l, m->space, &change, why);
}

static int making_over_run(struct ledger *l, void *arg, struct problem *why)
{
    struct making_call *c = arg;
    const struct ledger_making *m = c->making;
    int rc = file_gone(l, m, why);

    if (rc >= 0)
        rc = db_run(l, SQL_NODE_MADE, why, "i", m->id);
    if (rc >= 0)
        rc = db_run(l, SQL_OUTBOX_ADD, why, "iiitpn", c->now, c->account,
                    m->space, "file.removed", m->path);
    if (rc >= 0)
        rc = audit_add(l, c->now, c->account, m->space, m->path, NULL,
                       "file.removed", 0, why);
    return rc < 0 ? rc : 0;
}

int ledger_making_over(struct ledger *l, const struct ledger_making *m,
                       int64_t account, int64_t now, struct problem *why)
{
    struct making_call c = {.making = m, .account = account, .now = now};

    return ledger_write(l, making_over_run, &c, why);
}

struct making_page {
    struct page page;
    int64_t after, after_space;
    char after_path[PATH_BYTES + 1];
    int64_t ids[LEDGER_PAGE], spaces[LEDGER_PAGE];
    char *paths[LEDGER_PAGE];
    int (*each)(const struct ledger_making *m, void *arg);
    void *arg;
};
KEEL_AUTO(making_page, struct making_page *, keel_free)

static int making_row(struct ledger *l, sqlite3_stmt *q, void *arg,
                      struct problem *why)
{
    struct making_page *p = arg;
    int at = p->page.count;
    int rc = db_path(l, q, 1, &p->paths[at], why);

    if (rc < 0)
        return rc;
    p->spaces[at] = sqlite3_column_int64(q, 0);
    p->ids[at] = sqlite3_column_int64(q, 2);
    p->page.count++;
    return 0;
}

static int making_list_run(struct ledger *l, void *arg, struct problem *why)
{
    keel_auto(rows) sqlite3_stmt *q = NULL;
    struct making_page *p = arg;
    int rc = db_rows(l, SQL_NODE_MAKING, &q, why, "iipi", p->after,
                     p->after_space, p->after_path, (int64_t)LEDGER_PAGE);

    return db_each(l, q, rc, making_row, p, why);
}

static int making_tell(void *page, int row, bool wanted)
{
    struct making_page *p = page;
    struct ledger_making m = {.space = p->spaces[row],
                              .path = p->paths[row],
                              .first = strlen(p->paths[row]),
                              .id = p->ids[row]};
    int rc = wanted ? p->each(&m, p->arg) : 0;

    p->after = m.id;
    p->after_space = m.space;
    (void)snprintf(p->after_path, sizeof p->after_path, "%s", m.path);
    keel_free(p->paths[row]);
    return rc;
}

int ledger_making_list(struct ledger *l,
                       int (*each)(const struct ledger_making *m, void *arg),
                       void *arg, struct problem *why)
{
    keel_auto(making_page) struct making_page *p = keel_calloc(1, sizeof *p);

    if (!p)
        return problem(why, NO_MEMORY);
    p->each = each;
    p->arg = arg;
    return ledger_pages(l, making_list_run, making_tell, p, why);
}

/* ---- all of a space ------------------------------------------------------------- */
struct node_page {
    struct page page;
    int64_t space;
    char after[PATH_BYTES + 1];
    char *paths[LEDGER_PAGE];
    int (*each)(const char *path, void *arg);
    void *arg;
};
KEEL_AUTO(node_page, struct node_page *, keel_free)

static int node_row(struct ledger *l, sqlite3_stmt *q, void *arg,
                    struct problem *why)
{
    struct node_page *p = arg;
    int rc = db_path(l, q, 0, &p->paths[p->page.count], why);

    p->page.count += rc == 0;
    return rc;
}

static int node_list_run(struct ledger *l, void *arg, struct problem *why)
{
    keel_auto(rows) sqlite3_stmt *q = NULL;
    struct node_page *p = arg;
    int rc = db_rows(l, SQL_NODE_LIST, &q, why, "ipi", p->space, p->after,
                     (int64_t)LEDGER_PAGE);

    return db_each(l, q, rc, node_row, p, why);
}

static int node_tell(void *page, int row, bool wanted)
{
    struct node_page *p = page;
    int rc = wanted ? p->each(p->paths[row], p->arg) : 0;

    (void)snprintf(p->after, sizeof p->after, "%s", p->paths[row]);
    keel_free(p->paths[row]);
    return rc;
}

int ledger_node_list(struct ledger *l, int64_t space,
                     int (*each)(const char *path, void *arg), void *arg,
                     struct problem *why)
{
    keel_auto(node_page) struct node_page *p = keel_calloc(1, sizeof *p);

    if (!p)
        return problem(why, NO_MEMORY);
    p->space = space;
    p->each = each;
    p->arg = arg;
    return ledger_pages(l, node_list_run, node_tell, p, why);
}

/* ---- single names --------------------------------------------------------------- */
struct nodes_call {
    int64_t space;
    const char *const *paths;
    unsigned count;
    bool *ret;
};

static int nodes_get_run(struct ledger *l, void *arg, struct problem *why)
{
    struct nodes_call *c = arg;

    for (unsigned i = 0; i < c->count; i++) {
        keel_auto(rows) sqlite3_stmt *q = NULL;
        int rc = db_rows(l, SQL_NODE_GET, &q, why, "ip", c->space, c->paths[i]);

        if (rc < 0)
            return rc;
        c->ret[i] = rc > 0;
    }
    return 0;
}

int ledger_nodes_get(struct ledger *l, int64_t space, const char *const *paths,
                     unsigned count, bool *ret, struct problem *why)
{
    struct nodes_call c = {space, paths, count, ret};

    return count == 0 ? 0 : ledger_read(l, nodes_get_run, &c, why);
}

struct maker_call {
    int64_t space;
    const char *path;
    int64_t account;
};

static int node_maker_run(struct ledger *l, void *arg, struct problem *why)
{
    keel_auto(rows) sqlite3_stmt *q = NULL;
    struct maker_call *c = arg;
    int rc = db_rows(l, SQL_NODE_MAKER, &q, why, "ip", c->space, c->path);

    c->account = rc > 0 ? sqlite3_column_int64(q, 0) : 0;
    return rc < 0 ? rc : 0;
}

int ledger_node_maker(struct ledger *l, int64_t space, const char *path,
                      int64_t *ret, struct problem *why)
{
    struct maker_call c = {.space = space, .path = path};
    int rc = ledger_read(l, node_maker_run, &c, why);

    if (rc == 0)
        *ret = c.account;
    return rc;
}

static int node_remove_run(struct ledger *l, void *arg, struct problem *why)
{
    struct nodes_call *c = arg;
    struct space_change change = {.used_files = -1};
    int rc = change_none(l, c->space, c->paths[0], why);

    if (rc == 0)
        rc = db_run(l, SQL_NODE_DROP, why, "ip", c->space, c->paths[0]);
    if (rc < 0)
        return rc;
    if (rc == 0)
        return problem(why, FILE_MISSING, .name = shown_path(c->paths[0]).text);
    return space_change_now(l, c->space, &change, why);
}

int ledger_node_remove(struct ledger *l, int64_t space, const char *path,
                       struct problem *why)
{
    struct nodes_call c = {.space = space, .paths = &path};

    return ledger_write(l, node_remove_run, &c, why);
}

/* ---- spaces from before ----------------------------------------------------------- */
static int nodes_found_run(struct ledger *l, void *arg, struct problem *why)
{
    struct nodes_call *c = arg;
    struct space_change change = {0};

    for (unsigned i = 0; i < c->count; i++) {
        size_t size = strlen(c->paths[i]);
        int rc = db_run(l, SQL_NODE_ADD, why, "ibni", c->space, c->paths[i],
                        (int)size, (int64_t)0);

        if (rc < 0)
            return rc;
        change.used_files += rc;
    }
    return space_change_now(l, c->space, &change, why);
}

int ledger_nodes_found(struct ledger *l, int64_t space,
                       const char *const *paths, unsigned count,
                       struct problem *why)
{
    struct nodes_call c = {.space = space, .paths = paths, .count = count};

    return count == 0 ? 0 : ledger_write(l, nodes_found_run, &c, why);
}

static int space_counted_run(struct ledger *l, void *arg, struct problem *why)
{
    int rc = db_run(l, SQL_SPACE_COUNTED, why, "i", *(int64_t *)arg);

    return rc < 0 ? rc : 0;
}

int ledger_space_counted(struct ledger *l, int64_t space, struct problem *why)
{
    return ledger_write(l, space_counted_run, &space, why);
}
