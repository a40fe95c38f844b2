/* SPDX-License-Identifier: MIT */
/* Spaces and their quota, drafts, files. */
#include <errno.h>
#include <stdio.h>

#include "ledger/ledger_inside.h"

/* ---- spaces --------------------------------------------------------------------- */
int space_row(struct ledger *l, sqlite3_stmt *q, struct ledger_space *ret,
              struct problem *why)
{
    struct ledger_space s = {.id = sqlite3_column_int64(q, 0),
                             .owner = sqlite3_column_int64(q, 3),
                             .quota_bytes = sqlite3_column_int64(q, 4),
                             .quota_files = sqlite3_column_int64(q, 5),
                             .used_bytes = sqlite3_column_int64(q, 6),
                             .used_files = sqlite3_column_int64(q, 7),
                             .reserved_bytes = sqlite3_column_int64(q, 8),
                             .counted = sqlite3_column_int64(q, 9) != 0};
    int rc;

    rc = db_text(l, q, 1, s.dir, sizeof s.dir, why);
    if (rc == 0)
        rc = db_text(l, q, 2, s.name, sizeof s.name, why);
    if (rc == 0)
        *ret = s;
    return rc;
}

static int space_unknown(int64_t space, struct problem *why)
{
    char name[40];

    snprintf(name, sizeof name, "space number %lld", (long long)space);
    return problem(why, FILE_MISSING, .name = name);
}

int space_get(struct ledger *l, int64_t space, struct ledger_space *ret,
              struct problem *why)
{
    keel_auto(rows) sqlite3_stmt *q = NULL;
    int rc;

    rc = db_rows(l, SQL_SPACE_GET, &q, why, "i", space);
    if (rc < 0)
        return rc;
    return rc == 0 ? space_unknown(space, why) : space_row(l, q, ret, why);
}

/* A group of files is mostly of one space: its sums are kept while the request
 * runs, and written once. */
int space_flush(struct ledger *l, struct problem *why)
{
    const struct ledger_space *s = &l->sums;
    int rc;

    if (!s->id)
        return 0;
    rc = db_run(l, SQL_SPACE_USE, why, "iiii", s->id, s->used_bytes,
                s->used_files, s->reserved_bytes);
    l->sums.id = 0;
    return rc < 0 ? rc : 0;
}

static int space_load(struct ledger *l, int64_t space, struct problem *why)
{
    struct ledger_space s;
    int rc;

    if (l->sums.id == space && space)
        return 0;
    rc = space_flush(l, why);
    if (rc == 0)
        rc = space_get(l, space, &s, why);
    if (rc == 0)
        l->sums = s;
    return rc;
}

uint64_t space_names_most(const struct ledger_space *s)
{
    if (s->quota_files)
        return (uint64_t)s->quota_files;
    if (!s->quota_bytes)
        return 0;
    if ((uint64_t)s->quota_bytes < SPACE_NAMES_LEAST * SPACE_NAME_COST)
        return SPACE_NAMES_LEAST;
    return (uint64_t)s->quota_bytes / SPACE_NAME_COST;
}

bool space_names_over(const struct ledger_space *s, int64_t more)
{
    uint64_t most = space_names_most(s);

    return most && more > 0 && (uint64_t)s->used_files + (uint64_t)more > most;
}

/* a + b, which is at least 0 for what a ledger in order can hold. */
static bool add(int64_t a, int64_t b, int64_t *ret)
{
    return !__builtin_add_overflow(a, b, ret) && *ret >= 0;
}

int space_change(struct ledger *l, int64_t space, const struct space_change *c,
                 bool refuse, struct problem *why)
{
    struct ledger_space s;
    int64_t used, files, reserved, before, after;
    int rc;

    rc = space_load(l, space, why);
    if (rc < 0)
        return rc;
    s = l->sums;
    if (!add(s.used_bytes, s.reserved_bytes, &before))
        return db_damaged(l, why, "a space uses more than there can be");
    if (!add(s.used_bytes, c->used_bytes, &used) ||
        !add(s.reserved_bytes, c->reserved_bytes, &reserved) ||
        !add(used, reserved, &after) ||
        !add(s.used_files, c->used_files, &files)) {
        /* Beyond 2^63 upwards, or below nothing: the second is damage. */
        if (c->asked == 0 || !refuse)
            return db_damaged(l, why, "a space's sums do not add up");
        return problem(why, QUOTA_BYTES,
                       .limit = s.quota_bytes ? (uint64_t)s.quota_bytes
                                              : (uint64_t)INT64_MAX,
                       .used = (uint64_t)s.used_bytes,
                       .bytes = (uint64_t)s.reserved_bytes, .size = c->asked);
    }
    if (refuse && s.quota_bytes && after > before && after > s.quota_bytes)
        return problem(why, QUOTA_BYTES, .limit = (uint64_t)s.quota_bytes,
                       .used = (uint64_t)s.used_bytes,
                       .bytes = (uint64_t)s.reserved_bytes, .size = c->asked);
    if (refuse && space_names_over(&s, c->used_files))
        return problem(why, QUOTA_FILES, .limit = space_names_most(&s),
                       .used = (uint64_t)s.used_files);
    l->sums.used_bytes = used;
    l->sums.used_files = files;
    l->sums.reserved_bytes = reserved;
    return 0;
}

int space_change_now(struct ledger *l, int64_t space,
                     const struct space_change *c, struct problem *why)
{
    int rc = space_change(l, space, c, false, why);

    return rc < 0 ? rc : space_flush(l, why);
}

/* A name that says nothing of its owner, and that no two ever share. */
void space_dir_new(char ret[33])
{
    uint8_t random[16];

    keel_random(random, sizeof random);
    for (size_t i = 0; i < sizeof random; i++)
        snprintf(ret + 2 * i, 3, "%02x", random[i]);
}

struct space_call {
    int64_t space;
    int64_t bytes, files;
    struct ledger_space *ret;
    unsigned max;
};

static int space_get_run(struct ledger *l, void *arg, struct problem *why)
{
    struct space_call *c = arg;

    return space_get(l, c->space, c->ret, why);
}

int ledger_space_get(struct ledger *l, int64_t space, struct ledger_space *ret,
                     struct problem *why)
{
    struct space_call c = {.space = space, .ret = ret};

    return ledger_read(l, space_get_run, &c, why);
}

struct space_array {
    struct ledger_space *rows;
    int count;
};

static int space_add_row(struct ledger *l, sqlite3_stmt *q, void *arg,
                         struct problem *why)
{
    struct space_array *a = arg;
    int rc = space_row(l, q, &a->rows[a->count], why);

    a->count += rc == 0;
    return rc;
}

int space_rows(struct ledger *l, sqlite3_stmt *q, int rc,
               struct ledger_space *ret, struct problem *why)
{
    struct space_array a = {.rows = ret};

    rc = db_each(l, q, rc, space_add_row, &a, why);
    return rc < 0 ? rc : a.count;
}

static int space_list_run(struct ledger *l, void *arg, struct problem *why)
{
    keel_auto(rows) sqlite3_stmt *q = NULL;
    struct space_call *c = arg;
    int rc =
        db_rows(l, SQL_SPACE_LIST, &q, why, "ii", c->space, (int64_t)c->max);

    return space_rows(l, q, rc, c->ret, why);
}

int ledger_space_list(struct ledger *l, int64_t after, struct ledger_space *ret,
                      unsigned max, struct problem *why)
{
    struct space_call c = {.space = after, .ret = ret, .max = max};

    return max == 0 ? 0 : ledger_read(l, space_list_run, &c, why);
}

static int space_quota_run(struct ledger *l, void *arg, struct problem *why)
{
    struct space_call *c = arg;
    int rc =
        db_run(l, SQL_SPACE_QUOTA, why, "iii", c->space, c->bytes, c->files);

    if (rc == 0)
        return space_unknown(c->space, why);
    return rc < 0 ? rc : 0;
}

int ledger_space_quota(struct ledger *l, int64_t space, int64_t bytes,
                       int64_t files, struct problem *why)
{
    struct space_call c = {.space = space, .bytes = bytes, .files = files};

    keel_assert(bytes >= 0 && files >= 0);
    return ledger_write(l, space_quota_run, &c, why);
}

/* ---- drafts ------------------------------------------------------------------------ */
static int size_check(uint64_t size, const char *path, struct problem *why)
{
    if (size > INT64_MAX)
        return problem(why, FILE_TOO_LARGE, .name = shown_path(path).text,
                       .size = size, .limit = INT64_MAX);
    return 0;
}

/* 1 when another draft is to have that name: only one of them can replace what is
 * there, and the disk holds both until then. */
static int draft_rival(struct ledger *l, const struct ledger_draft *d,
                       struct problem *why)
{
    keel_auto(rows) sqlite3_stmt *q = NULL;

    return db_rows(l, SQL_DRAFT_RIVAL, &q, why, "ip", d->space, d->path);
}

/* What the draft adds to what its name is charged for.  A new name needs room
 * for one more file, too: both are looked at here so that an upload is refused
 * at its start, and once more when it is published. */
static int draft_needs(struct ledger *l, const struct ledger_draft *d,
                       int64_t *ret_bytes, struct problem *why)
{
    int64_t size = (int64_t)d->size;
    struct ledger_space s;
    struct file_row old;
    int rc;

    rc = file_get(l, d->space, d->path, &old, why);
    if (rc < 0)
        return rc;
    if (rc > 0 && old.charged >= 0) {
        rc = draft_rival(l, d, why);
        if (rc < 0)
            return rc;
        if (rc > 0)
            *ret_bytes = size;
        else
            *ret_bytes = size > old.charged ? size - old.charged : 0;
        return 0;
    }
    *ret_bytes = size;
    rc = space_get(l, d->space, &s, why);
    if (rc < 0)
        return rc;
    if (space_names_over(&s, 1))
        return problem(why, QUOTA_FILES, .limit = space_names_most(&s),
                       .used = (uint64_t)s.used_files);
    return 0;
}

static int draft_open_run(struct ledger *l, void *arg, struct problem *why)
{
    const struct ledger_draft *d = arg;
    struct space_change change = {0};
    int rc;

    rc = draft_needs(l, d, &change.reserved_bytes, why);
    if (rc < 0)
        return rc;
    change.asked = (uint64_t)change.reserved_bytes;
    rc = space_change(l, d->space, &change, true, why);
    if (rc == 0)
        rc = space_flush(l, why);
    if (rc < 0)
        return rc;
    rc = db_run(l, SQL_DRAFT_ADD, why, "biipiibiii", d->id, 16, d->space,
                d->account, d->path, (int64_t)d->size, (int64_t)d->hash,
                d->source, 16, d->created, d->expires, change.reserved_bytes);
    return rc < 0 ? rc : 0;
}

int ledger_draft_open(struct ledger *l, const struct ledger_draft *d,
                      struct problem *why)
{
    struct ledger_draft copy = *d;
    int rc;

    rc = ledger_path_check(d->path, why);
    if (rc == 0)
        rc = size_check(d->size, d->path, why);
    return rc < 0 ? rc : ledger_write(l, draft_open_run, &copy, why);
}

struct draft_find_call {
    const struct ledger_draft *like;
    int64_t expires;
    uint8_t id[16];
};

static int draft_find_run(struct ledger *l, void *arg, struct problem *why)
{
    keel_auto(rows) sqlite3_stmt *q = NULL;
    struct draft_find_call *c = arg;
    const struct ledger_draft *d = c->like;
    int rc;

    rc = db_rows(l, SQL_DRAFT_FIND, &q, why, "iipiib", d->account, d->space,
                 d->path, (int64_t)d->size, (int64_t)d->hash, d->source, 16);
    if (rc < 0)
        return rc;
    if (rc == 0)
        return problem(why, TRANSFER_UNKNOWN);
    rc = db_bytes(l, q, 0, c->id, sizeof c->id, why);
    if (rc < 0)
        return rc;
    rc = db_run(l, SQL_DRAFT_EXPIRY, why, "bi", c->id, 16, c->expires);
    return rc < 0 ? rc : 0;
}

int ledger_draft_find(struct ledger *l, const struct ledger_draft *like,
                      int64_t expires, uint8_t ret_id[16], struct problem *why)
{
    struct draft_find_call c = {.like = like, .expires = expires};
    int rc;

    rc = ledger_path_check(like->path, why);
    if (rc == 0)
        rc = size_check(like->size, like->path, why);
    if (rc == 0)
        rc = ledger_write(l, draft_find_run, &c, why);
    if (rc == 0)
        memcpy(ret_id, c.id, sizeof c.id);
    return rc;
}

/* 1, or 0 when there is none. */
int draft_get(struct ledger *l, const uint8_t id[16], int64_t *ret_space,
              int64_t *ret_reserved, struct problem *why)
{
    keel_auto(rows) sqlite3_stmt *q = NULL;
    int rc;

    rc = db_rows(l, SQL_DRAFT_GET, &q, why, "b", id, 16);
    if (rc <= 0)
        return rc;
    *ret_space = sqlite3_column_int64(q, 0);
    *ret_reserved = sqlite3_column_int64(q, 1);
    return 1;
}

static int draft_drop_run(struct ledger *l, void *arg, struct problem *why)
{
    struct space_change change = {0};
    int64_t space = 0, reserved = 0;
    int rc;

    rc = draft_get(l, arg, &space, &reserved, why);
    if (rc <= 0)
        return rc;
    change.reserved_bytes = -reserved;
    rc = space_change_now(l, space, &change, why);
    if (rc == 0)
        rc = db_run(l, SQL_DRAFT_DROP, why, "b", arg, 16);
    return rc < 0 ? rc : 0;
}

int ledger_draft_drop(struct ledger *l, const uint8_t id[16],
                      struct problem *why)
{
    uint8_t copy[16];

    memcpy(copy, id, sizeof copy);
    return ledger_write(l, draft_drop_run, copy, why);
}

struct draft_page {
    struct page page;
    int64_t account; /* of draft_of */
    int64_t before, after_expires;
    uint8_t after_id[16];
    struct ledger_draft rows[LEDGER_PAGE];
    char *paths[LEDGER_PAGE];
    int (*each)(const struct ledger_draft *d, void *arg);
    void *arg;
};
KEEL_AUTO(draft_page, struct draft_page *, keel_free)

static int draft_row(struct ledger *l, sqlite3_stmt *q, void *arg,
                     struct problem *why)
{
    struct draft_page *p = arg;
    struct ledger_draft *d = &p->rows[p->page.count];
    int rc = db_path(l, q, 3, &p->paths[p->page.count], why);

    if (rc < 0)
        return rc;
    d->path = p->paths[p->page.count++];
    d->space = sqlite3_column_int64(q, 1);
    d->account = sqlite3_column_int64(q, 2);
    d->size = (uint64_t)sqlite3_column_int64(q, 4);
    d->hash = (enum chunk_hash)sqlite3_column_int64(q, 5);
    d->created = sqlite3_column_int64(q, 7);
    d->expires = sqlite3_column_int64(q, 8);
    d->reserved = (uint64_t)sqlite3_column_int64(q, 9);
    rc = db_bytes(l, q, 0, d->id, sizeof d->id, why);
    if (rc == 0)
        rc = db_bytes(l, q, 6, d->source, sizeof d->source, why);
    return rc;
}

static int draft_of_run(struct ledger *l, void *arg, struct problem *why)
{
    keel_auto(rows) sqlite3_stmt *q = NULL;
    struct draft_page *p = arg;
    int rc = db_rows(l, SQL_DRAFT_OF, &q, why, "ibi", p->account, p->after_id,
                     16, (int64_t)LEDGER_PAGE);

    return db_each(l, q, rc, draft_row, p, why);
}

static int draft_get_run(struct ledger *l, void *arg, struct problem *why)
{
    keel_auto(rows) sqlite3_stmt *q = NULL;
    struct draft_page *p = arg;
    int rc = db_rows(l, SQL_DRAFT_ROW, &q, why, "b", p->after_id, 16);

    return rc > 0 ? draft_row(l, q, p, why) : rc;
}

static int draft_list_run(struct ledger *l, void *arg, struct problem *why)
{
    keel_auto(rows) sqlite3_stmt *q = NULL;
    struct draft_page *p = arg;
    int rc = db_rows(l, SQL_DRAFT_LIST, &q, why, "iibi", p->before,
                     p->after_expires, p->after_id, 16, (int64_t)LEDGER_PAGE);

    return db_each(l, q, rc, draft_row, p, why);
}

static int draft_tell(void *page, int row, bool wanted)
{
    struct draft_page *p = page;
    int rc = wanted ? p->each(&p->rows[row], p->arg) : 0;

    p->after_expires = p->rows[row].expires;
    memcpy(p->after_id, p->rows[row].id, sizeof p->after_id);
    keel_free(p->paths[row]);
    return rc;
}

int ledger_draft_list(struct ledger *l, int64_t before,
                      int (*each)(const struct ledger_draft *d, void *arg),
                      void *arg, struct problem *why)
{
    keel_auto(draft_page) struct draft_page *p = keel_calloc(1, sizeof *p);

    if (!p)
        return problem(why, NO_MEMORY);
    p->before = before;
    p->after_expires = INT64_MIN;
    p->each = each;
    p->arg = arg;
    return ledger_pages(l, draft_list_run, draft_tell, p, why);
}

int ledger_draft_of(struct ledger *l, int64_t account, const uint8_t after[16],
                    int (*each)(const struct ledger_draft *d, void *arg),
                    void *arg, struct problem *why)
{
    keel_auto(draft_page) struct draft_page *p = keel_calloc(1, sizeof *p);

    if (!p)
        return problem(why, NO_MEMORY);
    p->account = account;
    memcpy(p->after_id, after, sizeof p->after_id);
    p->each = each;
    p->arg = arg;
    return ledger_pages(l, draft_of_run, draft_tell, p, why);
}

int ledger_draft_get(struct ledger *l, const uint8_t id[16],
                     struct ledger_draft *ret, char ret_path[PATH_BYTES + 1],
                     struct problem *why)
{
    keel_auto(draft_page) struct draft_page *p = keel_calloc(1, sizeof *p);
    int rc;

    if (!p)
        return problem(why, NO_MEMORY);
    memcpy(p->after_id, id, sizeof p->after_id);
    rc = ledger_read(l, draft_get_run, p, why);
    if (rc == 0 && p->page.count == 0)
        rc = problem(why, TRANSFER_UNKNOWN);
    if (rc == 0) {
        *ret = p->rows[0];
        ret->path = strcpy(ret_path, p->paths[0]);
    }
    for (int i = 0; i < p->page.count; i++)
        keel_free(p->paths[i]);
    return rc;
}

/* ---- files ------------------------------------------------------------------------- */
/* The columns size, device, inode, mtime_ns, ctime_ns, hash, root, account,
 * charged, from `column`.  The root's length was checked by the table. */
void file_of_row(struct file_row *ret, sqlite3_stmt *q, int column)
{
    const void *root = sqlite3_column_blob(q, column + 6);

    *ret = (struct file_row){
        .file = {.size = (uint64_t)sqlite3_column_int64(q, column),
                 .device = (uint64_t)sqlite3_column_int64(q, column + 1),
                 .inode = (uint64_t)sqlite3_column_int64(q, column + 2),
                 .mtime_ns = sqlite3_column_int64(q, column + 3),
                 .ctime_ns = sqlite3_column_int64(q, column + 4),
                 .hash = (enum chunk_hash)sqlite3_column_int64(q, column + 5),
                 .account = sqlite3_column_int64(q, column + 7)},
        .charged = sqlite3_column_type(q, column + 8) == SQLITE_NULL
                       ? -1
                       : sqlite3_column_int64(q, column + 8)};
    ret->file.found = ret->charged < 0;
    if (root &&
        sqlite3_column_bytes(q, column + 6) == (int)sizeof ret->file.root.bytes)
        memcpy(ret->file.root.bytes, root, sizeof ret->file.root.bytes);
    else
        ret->file.ctime_ns = 0; /* a root that cannot be read counts not */
}

int file_get(struct ledger *l, int64_t space, const char *path,
             struct file_row *ret, struct problem *why)
{
    keel_auto(rows) sqlite3_stmt *q = NULL;
    int rc;

    rc = db_rows(l, SQL_FILE_GET, &q, why, "ip", space, path);
    if (rc > 0)
        file_of_row(ret, q, 0);
    return rc;
}

int file_put(struct ledger *l, int64_t space, const char *path,
             const struct file_row *row, struct problem *why)
{
    const struct ledger_file *f = &row->file;

    return db_run(l, SQL_FILE_PUT, why, "ipiiiiiikio", space, path,
                  (int64_t)f->size, (int64_t)f->device, (int64_t)f->inode,
                  f->mtime_ns, f->ctime_ns, (int64_t)f->hash, f->root.bytes,
                  f->account, row->charged);
}

struct file_call {
    int64_t space;
    const char *path;
    struct file_row row;
};

static int file_get_run(struct ledger *l, void *arg, struct problem *why)
{
    struct file_call *c = arg;
    int rc = file_get(l, c->space, c->path, &c->row, why);

    if (rc == 0)
        return problem(why, FILE_MISSING, .name = shown_path(c->path).text);
    return rc < 0 ? rc : 0;
}

int ledger_file_get(struct ledger *l, int64_t space, const char *path,
                    struct ledger_file *ret, struct problem *why)
{
    struct file_call c = {.space = space, .path = path};
    int rc;

    rc = ledger_path_check(path, why);
    if (rc == 0)
        rc = ledger_read(l, file_get_run, &c, why);
    if (rc == 0)
        *ret = c.row.file;
    return rc;
}

static int file_digest_run(struct ledger *l, void *arg, struct problem *why)
{
    struct file_call *c = arg;
    struct file_row old;
    int rc;

    /* Undoing would bring back what this overwrites. */
    rc = name_free(l, c->space, c->path, why);
    if (rc < 0)
        return rc;
    rc = file_get(l, c->space, c->path, &old, why);
    if (rc < 0)
        return rc;
    c->row.charged = rc > 0 ? old.charged : -1;
    if (rc > 0)
        c->row.file.account = old.file.account;
    rc = file_put(l, c->space, c->path, &c->row, why);
    return rc < 0 ? rc : 0;
}

int ledger_file_digest(struct ledger *l, int64_t space, const char *path,
                       const struct ledger_file *f, struct problem *why)
{
    struct file_call c = {.space = space, .path = path, .row.file = *f};
    int rc;

    rc = ledger_path_check(path, why);
    if (rc == 0)
        rc = size_check(f->size, path, why);
    return rc < 0 ? rc : ledger_write(l, file_digest_run, &c, why);
}

static int file_remove_run(struct ledger *l, void *arg, struct problem *why)
{
    struct file_call *c = arg;
    struct space_change change = {0};
    struct file_row old;
    int rc;

    rc = name_free(l, c->space, c->path, why);
    if (rc < 0)
        return rc;
    rc = file_get(l, c->space, c->path, &old, why);
    if (rc < 0)
        return rc;
    if (rc == 0)
        return problem(why, FILE_MISSING, .name = shown_path(c->path).text);
    rc = db_run(l, SQL_FILE_DROP, why, "ip", c->space, c->path);
    if (rc < 0)
        return rc;
    if (old.charged < 0)
        return 0;
    change.used_bytes = -old.charged;
    change.used_files = -1;
    return space_change_now(l, c->space, &change, why);
}

int ledger_file_remove(struct ledger *l, int64_t space, const char *path,
                       struct problem *why)
{
    struct file_call c = {.space = space, .path = path};
    int rc;

    rc = ledger_path_check(path, why);
    return rc < 0 ? rc : ledger_write(l, file_remove_run, &c, why);
}
