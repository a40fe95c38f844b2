/* SPDX-License-Identifier: MIT */
/* Publishing: the commit point, its intents, and what follows a file.
 *
 *   (no row) --publish--> LIVE --settle--> (gone)   the name is durable
 *                          |
 *                          +----undo-----> (gone)   the old row is back
 *
 * An intent is LIVE from the transaction that decided until the name was seen
 * to be durable.  While it lives its path belongs to it: no other publishing,
 * removing or hashing of that name, and its outbox row is held. */
#include <errno.h>
#include <stdio.h>

#include "ledger/ledger_inside.h"

static const uint8_t no_draft[16];

int name_free(struct ledger *l, int64_t space, const char *path,
              struct problem *why)
{
    keel_auto(rows) sqlite3_stmt *q = NULL;
    int rc;

    rc = db_rows(l, SQL_INTENT_AT, &q, why, "ip", space, path);
    if (rc > 0)
        return problem(why, FILE_BUSY, .name = shown_path(path).text);
    return rc < 0 ? rc : change_none(l, space, path, why);
}

int audit_add(struct ledger *l, int64_t at, int64_t account, int64_t space,
              const char *path, const char *to, const char *kind, int64_t size,
              struct problem *why)
{
    int64_t id;
    int rc;

    rc = db_run(l, SQL_AUDIT_ADD, why, "iiippti", at, account, space, path, to,
                kind, size);
    if (rc < 0)
        return rc;
    id = sqlite3_last_insert_rowid(l->db);
    if (id % LEDGER_AUDIT_EVERY != 0)
        return 0;
    rc = db_run(l, SQL_AUDIT_TRIM, why, "ii", id - LEDGER_AUDIT_ROWS,
                (int64_t)LEDGER_AUDIT_CUT - 1);
    return rc < 0 ? rc : 0;
}

/* ---- publish ------------------------------------------------------------------- */
static int condition(const struct ledger_publish *p, const struct file_row *old,
                     struct problem *why)
{
    if (!p->replace && old)
        return problem(why, FILE_EXISTS, .name = shown_path(p->path).text);
    if (p->match &&
        (!old || memcmp(p->match, &old->file.root, sizeof *p->match) != 0))
        return problem(why, FILE_MATCH, .name = shown_path(p->path).text);
    return 0;
}

static int intent_add(struct ledger *l, struct ledger_publish *p,
                      const struct file_row *old, struct problem *why)
{
    const struct ledger_file *f = &p->file;
    int rc;

    if (old) {
        const struct ledger_file *o = &old->file;

        rc = db_run(l, SQL_INTENT_ADD, why, "iipbiiiiiiiiiiikio", p->intent,
                    p->space, p->path, p->draft, 16, (int64_t)p->named,
                    (int64_t)f->device, (int64_t)f->inode, (int64_t)f->size,
                    f->mtime_ns, (int64_t)o->size, (int64_t)o->device,
                    (int64_t)o->inode, o->mtime_ns, o->ctime_ns,
                    (int64_t)o->hash, o->root.bytes, o->account, old->charged);
    } else {
        rc = db_run(l, SQL_INTENT_ADD, why, "iipbiiiiinnnnnnnnn", p->intent,
                    p->space, p->path, p->draft, 16, (int64_t)p->named,
                    (int64_t)f->device, (int64_t)f->inode, (int64_t)f->size,
                    f->mtime_ns);
    }
    return rc < 0 ? rc : 0;
}

/* The event's number is the intent's, too. */
static int followers_add(struct ledger *l, struct ledger_publish *p,
                         struct problem *why)
{
    int rc;

    rc = db_run(l, SQL_OUTBOX_ADD, why, "iiitpn", p->now, p->account, p->space,
                "file.published", p->path);
    if (rc < 0)
        return rc;
    p->intent = sqlite3_last_insert_rowid(l->db);
    return audit_add(l, p->now, p->account, p->space, p->path, NULL,
                     "file.published", (int64_t)p->file.size, why);
}

static bool registered(const struct ledger_publish *p)
{
    return !p->no_row && memcmp(p->draft, no_draft, sizeof no_draft) != 0;
}

/* What the item does to its space's sums. */
static int charge(struct ledger *l, const struct ledger_publish *p,
                  const struct file_row *old, struct problem *why)
{
    int64_t charged = old && old->charged >= 0 ? old->charged : 0;
    struct space_change change = {.used_bytes = (int64_t)p->file.size - charged,
                                  .used_files =
                                      old && old->charged >= 0 ? 0 : 1,
                                  .asked = p->file.size};
    int64_t space = 0, reserved = 0;
    int rc;

    if (registered(p)) {
        rc = draft_get(l, p->draft, &space, &reserved, why);
        if (rc < 0)
            return rc;
        if (rc == 0 || space != p->space)
            return problem(why, TRANSFER_UNKNOWN);
        change.reserved_bytes = -reserved;
    }
    return space_change(l, p->space, &change, true, why);
}

/* All that can be refused, and nothing written but the sums in memory.
 * `ret_old` is the row that is replaced, if there is one. */
static int item_decide(struct ledger *l, const struct ledger_publish *p,
                       struct file_row *ret_old, bool *ret_replaces,
                       struct problem *why)
{
    int rc;

    rc = ledger_path_check(p->path, why);
    if (rc < 0)
        return rc;
    if (p->file.size > INT64_MAX)
        return problem(why, FILE_TOO_LARGE, .name = shown_path(p->path).text,
                       .size = p->file.size, .limit = INT64_MAX);
    rc = name_free(l, p->space, p->path, why);
    if (rc < 0)
        return rc;
    rc = file_get(l, p->space, p->path, ret_old, why);
    if (rc < 0)
        return rc;
    *ret_replaces = rc > 0;
    rc = condition(p, rc > 0 ? ret_old : NULL, why);
    if (rc < 0)
        return rc;
    return charge(l, p, *ret_replaces ? ret_old : NULL, why);
}

static int item_write(struct ledger *l, struct ledger_publish *p,
                      const struct file_row *old, struct problem *why)
{
    struct file_row row = {.file = p->file, .charged = (int64_t)p->file.size};
    int rc = 0;

    row.file.account = p->account;
    row.file.ctime_ns = 0;
    if (registered(p))
        rc = db_run(l, SQL_DRAFT_DROP, why, "b", p->draft, 16);
    if (rc >= 0)
        rc = file_put(l, p->space, p->path, &row, why);
    if (rc >= 0)
        rc = followers_add(l, p, why);
    if (rc >= 0)
        rc = intent_add(l, p, old, why);
    return rc < 0 ? rc : 0;
}

/* A refusal is the item's own; what fails in writing is the whole group's, for
 * there is no savepoint around an item: it would copy every page once for
 * each. */
static int publish_item(struct ledger *l, struct ledger_publish *p,
                        struct problem *why)
{
    struct problem said = {0};
    struct file_row old;
    bool replaces = false;

    p->result = item_decide(l, p, &old, &replaces, &said);
    if (l->hard) {
        *why = said;
        return p->result;
    }
    if (p->result == 0)
        return item_write(l, p, replaces ? &old : NULL, why);
    if (p->why)
        *p->why = said;
    return 0;
}

struct publish_call {
    struct ledger_publish *items;
    unsigned count;
    const struct ledger_settle *settled;
    unsigned settled_count;
};

static int settle_one(struct ledger *l, const struct ledger_settle *s,
                      struct problem *why)
{
    keel_auto(rows) sqlite3_stmt *q = NULL;
    const void *path;
    int rc;

    rc = db_rows(l, SQL_INTENT_GET, &q, why, "i", s->intent);
    if (rc <= 0)
        return rc; /* settled already: to say it twice is no harm */
    path = sqlite3_column_blob(q, 1);
    rc = db_run(l, SQL_FILE_CTIME, why, "ibi", sqlite3_column_int64(q, 0), path,
                sqlite3_column_bytes(q, 1), s->ctime_ns);
    if (rc >= 0)
        rc = db_run(l, SQL_INTENT_DROP, why, "i", s->intent);
    return rc < 0 ? rc : 0;
}

static int publish_run(struct ledger *l, void *arg, struct problem *why)
{
    struct publish_call *c = arg;
    int rc;

    for (unsigned i = 0; i < c->settled_count; i++) {
        rc = settle_one(l, &c->settled[i], why);
        if (rc < 0)
            return rc;
    }
    for (unsigned i = 0; i < c->count; i++) {
        rc = publish_item(l, &c->items[i], why);
        if (rc < 0)
            return rc;
    }
    return space_flush(l, why);
}

int ledger_publish(struct ledger *l, struct ledger_publish *items,
                   unsigned count, const struct ledger_settle *settled,
                   unsigned settled_count, struct problem *why)
{
    struct publish_call c = {.items = items,
                             .count = count,
                             .settled = settled,
                             .settled_count = settled_count};
    struct problem said = {0};
    int rc;

    rc = ledger_write(l, publish_run, &c, &said);
    if (rc == 0)
        return 0;
    for (unsigned i = 0; i < count; i++) {
        items[i].result = rc;
        if (items[i].why)
            *items[i].why = said;
    }
    if (why)
        *why = said;
    return rc;
}

int ledger_settle(struct ledger *l, const struct ledger_settle *settled,
                  unsigned count, struct problem *why)
{
    struct publish_call c = {.settled = settled, .settled_count = count};

    return count == 0 ? 0 : ledger_write(l, publish_run, &c, why);
}

/* ---- undo -------------------------------------------------------------------------- */
struct undo_call {
    int64_t intent;
    char *path;
};

/* The sums without the new row and with the old one: what a quota that was
 * lowered meanwhile says does not count. */
static int uncharge(struct ledger *l, int64_t space, const struct file_row *new,
                    const struct file_row *old, struct problem *why)
{
    struct space_change change = {0};

    if (new->charged >= 0) {
        change.used_bytes -= new->charged;
        change.used_files--;
    }
    if (old && old->charged >= 0) {
        change.used_bytes += old->charged;
        change.used_files++;
    }
    return space_change_now(l, space, &change, why);
}

static int undo_file(struct ledger *l, sqlite3_stmt *q, const char *path,
                     struct problem *why)
{
    int64_t space = sqlite3_column_int64(q, 0);
    bool replaced = sqlite3_column_type(q, 2) != SQLITE_NULL;
    struct file_row new, old;
    int rc;

    rc = file_get(l, space, path, &new, why);
    if (rc < 0)
        return rc;
    if (rc == 0)
        return db_damaged(l, why, "an intent has no file");
    if (replaced)
        file_of_row(&old, q, 2);
    rc = uncharge(l, space, &new, replaced ? &old : NULL, why);
    if (rc < 0)
        return rc;
    if (replaced)
        return file_put(l, space, path, &old, why);
    return db_run(l, SQL_FILE_DROP, why, "ip", space, path);
}

static int undo_run(struct ledger *l, void *arg, struct problem *why)
{
    keel_auto(rows) sqlite3_stmt *q = NULL;
    struct undo_call *c = arg;
    int rc;

    rc = db_rows(l, SQL_INTENT_GET, &q, why, "i", c->intent);
    if (rc <= 0)
        return rc; /* undone already */
    keel_free(c->path);
    c->path = NULL;
    rc = db_path(l, q, 1, &c->path, why);
    if (rc == 0)
        rc = undo_file(l, q, c->path, why);
    if (rc >= 0)
        rc = db_run(l, SQL_OUTBOX_DROP, why, "i", c->intent);
    if (rc >= 0)
        rc = audit_add(l, keel_wall_ns() / KEEL_SECOND, 0,
                       sqlite3_column_int64(q, 0), c->path, NULL, "file.undone",
                       0, why);
    if (rc >= 0)
        rc = db_run(l, SQL_INTENT_DROP, why, "i", c->intent);
    return rc < 0 ? rc : 0;
}

int ledger_undo(struct ledger *l, int64_t intent, struct problem *why)
{
    struct undo_call c = {.intent = intent};
    int rc = ledger_write(l, undo_run, &c, why);

    keel_free(c.path);
    return rc;
}

/* ---- lists --------------------------------------------------------------------------- */
struct intent_page {
    struct page page;
    int64_t after;
    struct ledger_intent rows[LEDGER_PAGE];
    char *paths[LEDGER_PAGE];
    int (*each)(const struct ledger_intent *i, void *arg);
    void *arg;
};
KEEL_AUTO(intent_page, struct intent_page *, keel_free)

static int intent_row(struct ledger *l, sqlite3_stmt *q, void *arg,
                      struct problem *why)
{
    struct intent_page *p = arg;
    struct ledger_intent *i = &p->rows[p->page.count];
    int rc = db_path(l, q, 2, &p->paths[p->page.count], why);

    if (rc < 0)
        return rc;
    i->path = p->paths[p->page.count++];
    i->intent = sqlite3_column_int64(q, 0);
    i->space = sqlite3_column_int64(q, 1);
    i->named = sqlite3_column_int64(q, 4) != 0;
    i->device = (uint64_t)sqlite3_column_int64(q, 5);
    i->inode = (uint64_t)sqlite3_column_int64(q, 6);
    i->size = (uint64_t)sqlite3_column_int64(q, 7);
    i->mtime_ns = sqlite3_column_int64(q, 8);
    return db_bytes(l, q, 3, i->draft, sizeof i->draft, why);
}

static int intent_list_run(struct ledger *l, void *arg, struct problem *why)
{
    keel_auto(rows) sqlite3_stmt *q = NULL;
    struct intent_page *p = arg;
    int rc = db_rows(l, SQL_INTENT_LIST, &q, why, "ii", p->after,
                     (int64_t)LEDGER_PAGE);

    return db_each(l, q, rc, intent_row, p, why);
}

static int intent_tell(void *page, int row, bool wanted)
{
    struct intent_page *p = page;
    int rc = wanted ? p->each(&p->rows[row], p->arg) : 0;

    p->after = p->rows[row].intent;
    keel_free(p->paths[row]);
    return rc;
}

int ledger_intent_list(struct ledger *l,
                       int (*each)(const struct ledger_intent *i, void *arg),
                       void *arg, struct problem *why)
{
    keel_auto(intent_page) struct intent_page *p = keel_calloc(1, sizeof *p);

    if (!p)
        return problem(why, NO_MEMORY);
    p->each = each;
    p->arg = arg;
    return ledger_pages(l, intent_list_run, intent_tell, p, why);
}

struct event_page {
    struct page page;
    int64_t after;
    struct ledger_event rows[LEDGER_PAGE];
    char kinds[LEDGER_PAGE][64];
    char *paths[LEDGER_PAGE], *targets[LEDGER_PAGE];
    int (*each)(const struct ledger_event *e, void *arg);
    void *arg;
};
KEEL_AUTO(event_page, struct event_page *, keel_free)

static int event_row(struct ledger *l, sqlite3_stmt *q, void *arg,
                     struct problem *why)
{
    struct event_page *p = arg;
    int row = p->page.count;
    struct ledger_event *e = &p->rows[row];
    int rc = db_path(l, q, 5, &p->paths[row], why);

    if (rc < 0)
        return rc;
    p->page.count++;
    p->targets[row] = NULL;
    if (sqlite3_column_type(q, 7) != SQLITE_NULL) {
        rc = db_path(l, q, 7, &p->targets[row], why);
        if (rc < 0)
            return rc;
    }
    *e = (struct ledger_event){
        .id = sqlite3_column_int64(q, 0),
        .space = sqlite3_column_int64(q, 1),
        .account = sqlite3_column_int64(q, 2),
        .at = sqlite3_column_int64(q, 3),
        .kind = p->kinds[row],
        .path = p->paths[row],
        .to = p->targets[row],
        .held = sqlite3_column_int64(q, 6) != 0,
    };
    return db_text(l, q, 4, p->kinds[row], sizeof p->kinds[row], why);
}

static int outbox_list_run(struct ledger *l, void *arg, struct problem *why)
{
    keel_auto(rows) sqlite3_stmt *q = NULL;
    struct event_page *p = arg;
    int rc = db_rows(l, SQL_OUTBOX_LIST, &q, why, "ii", p->after,
                     (int64_t)LEDGER_PAGE);

    return db_each(l, q, rc, event_row, p, why);
}

static int event_tell(void *page, int row, bool wanted)
{
    struct event_page *p = page;
    int rc = wanted ? p->each(&p->rows[row], p->arg) : 0;

    p->after = p->rows[row].id;
    keel_free(p->paths[row]);
    keel_free(p->targets[row]);
    return rc;
}

int ledger_outbox_list(struct ledger *l, int64_t after,
                       int (*each)(const struct ledger_event *e, void *arg),
                       void *arg, struct problem *why)
{
    keel_auto(event_page) struct event_page *p = keel_calloc(1, sizeof *p);

    if (!p)
        return problem(why, NO_MEMORY);
    p->after = after;
    p->each = each;
    p->arg = arg;
    return ledger_pages(l, outbox_list_run, event_tell, p, why);
}

static int outbox_done_run(struct ledger *l, void *arg, struct problem *why)
{
    const int64_t *id = arg;
    int rc = db_run(l, SQL_OUTBOX_DONE, why, "i", *id);

    return rc < 0 ? rc : 0;
}

int ledger_outbox_done(struct ledger *l, int64_t id, struct problem *why)
{
    return ledger_write(l, outbox_done_run, &id, why);
}
