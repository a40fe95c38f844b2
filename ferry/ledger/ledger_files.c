/* SPDX-License-Identifier: MIT */
/* Many files at once: for listings, and for who compares ledger and disk. */
#include "ledger/ledger_inside.h"

/* ---- those of some names ------------------------------------------------------ */
struct files_call {
    int64_t space;
    const char *const *paths;
    unsigned count;
    struct ledger_file *ret;
};

static int files_get_run(struct ledger *l, void *arg, struct problem *why)
{
    struct files_call *c = arg;

    for (unsigned i = 0; i < c->count; i++) {
        struct file_row row;
        int rc = file_get(l, c->space, c->paths[i], &row, why);

        if (rc < 0)
            return rc;
        if (rc > 0)
            c->ret[i] = row.file;
        else
            c->ret[i] = (struct ledger_file){0};
    }
    return 0;
}

int ledger_files_get(struct ledger *l, int64_t space, const char *const *paths,
                     unsigned count, struct ledger_file *ret,
                     struct problem *why)
{
    struct files_call c = {space, paths, count, ret};

    return count == 0 ? 0 : ledger_read(l, files_get_run, &c, why);
}

/* ---- all of a space ------------------------------------------------------------- */
enum { FILES_PAGE = 256 };
struct files_page {
    int64_t space;
    const char *after;
    unsigned count;
    char *paths[FILES_PAGE];
    struct ledger_file files[FILES_PAGE];
};

static void files_page_free(struct files_page *p)
{
    for (unsigned i = 0; i < p->count; i++)
        keel_free(p->paths[i]);
    p->count = 0;
}

static void files_page_end(struct files_page *p)
{
    if (p)
        files_page_free(p);
    keel_free(p);
}
KEEL_AUTO(files_page, struct files_page *, files_page_end)

static int files_list_run(struct ledger *l, void *arg, struct problem *why)
{
    keel_auto(rows) sqlite3_stmt *q = NULL;
    struct files_page *p = arg;
    int rc;

    rc = db_rows(l, SQL_FILE_LIST, &q, why, "ipi", p->space, p->after,
                 (int64_t)FILES_PAGE);
    while (rc > 0 && p->count < FILES_PAGE) {
        struct file_row row;

        rc = db_path(l, q, 0, &p->paths[p->count], why);
        if (rc < 0)
            return rc;
        file_of_row(&row, q, 1);
        p->files[p->count++] = row.file;
        rc = db_next(l, q, why);
    }
    return rc < 0 ? rc : 0;
}

int ledger_file_list(struct ledger *l, int64_t space,
                     int (*each)(const char *path, const struct ledger_file *f,
                                 void *arg),
                     void *arg, struct problem *why)
{
    keel_auto(files_page) struct files_page *p = keel_calloc(1, sizeof *p);
    keel_auto(str) char *after = keel_strdup("");
    unsigned count;
    int rc;

    if (!p || !after)
        return problem(why, NO_MEMORY);
    p->space = space;
    do {
        p->after = after;
        rc = ledger_read(l, files_list_run, p, why);
        count = p->count;
        for (unsigned i = 0; i < count && rc >= 0; i++)
            rc = each(p->paths[i], &p->files[i], arg);
        if (count > 0) {
            keel_free(after);
            after = keel_take(p->paths[count - 1]);
        }
        files_page_free(p);
    } while (rc >= 0 && count == FILES_PAGE);
    return rc < 0 ? rc : 0;
}

/* ---- sums ------------------------------------------------------------------------ */
struct sum_call {
    int64_t space;
    bool repair;
    struct ledger_sums *ret;
};

static int space_sum_run(struct ledger *l, void *arg, struct problem *why)
{
    keel_auto(rows) sqlite3_stmt *q = NULL;
    struct sum_call *c = arg;
    struct ledger_sums *s = c->ret;
    struct ledger_space space;
    int rc = space_get(l, c->space, &space, why);

    if (rc == 0)
        rc = db_rows(l, SQL_FILE_SUM, &q, why, "i", c->space);
    if (rc <= 0)
        return rc;
    *s = (struct ledger_sums){.said_bytes = space.used_bytes,
                              .said_files = space.used_files,
                              .bytes = sqlite3_column_int64(q, 0),
                              .files = sqlite3_column_int64(q, 1)};
    if (!c->repair || (s->bytes == s->said_bytes && s->files == s->said_files))
        return 0;
    rc = db_run(l, SQL_SPACE_USE, why, "iiii", c->space, s->bytes, s->files,
                space.reserved_bytes);
    return rc < 0 ? rc : 0;
}

int ledger_space_sum(struct ledger *l, int64_t space, bool repair,
                     struct ledger_sums *ret, struct problem *why)
{
    struct sum_call c = {space, repair, ret};

    return repair ? ledger_write(l, space_sum_run, &c, why)
                  : ledger_read(l, space_sum_run, &c, why);
}
