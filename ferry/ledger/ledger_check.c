/* SPDX-License-Identifier: MIT */
/* Reading everything once: pages, references, sums, and what belongs to what. */
#include <stdio.h>

#include "base/log.h"
#include "base/name.h"
#include "ledger/ledger_inside.h"

/* Said, not acted on: whoever asked decides whether to stop. */
static int finding(struct problem *why, const char *detail)
{
    return problem(why, DATA_DAMAGED, .name = "ledger.db", .detail = detail);
}

static int check_pages(struct ledger *l, struct problem *why)
{
    keel_auto(rows) sqlite3_stmt *q = NULL;
    const char *text;
    int rc;

    rc = db_rows(l, SQL_CHECK_PAGES, &q, why, "");
    if (rc < 0)
        return rc;
    text = rc > 0 ? (const char *)sqlite3_column_text(q, 0) : NULL;
    if (!text || strcmp(text, "ok") != 0) {
        char quoted[512];

        log_error("file=ledger.db damaged: sqlite=%s",
                  text_quote_shown(text ? text : "", quoted, sizeof quoted));
        return finding(why, DB_CORRUPT);
    }
    return 0;
}

static int check_keys(struct ledger *l, struct problem *why)
{
    keel_auto(rows) sqlite3_stmt *q = NULL;
    char detail[128];
    int rc;

    rc = db_rows(l, SQL_CHECK_KEYS, &q, why, "");
    if (rc <= 0)
        return rc;
    snprintf(detail, sizeof detail, "a row of %s belongs to nothing",
             (const char *)sqlite3_column_text(q, 0));
    return finding(why, detail);
}

static int check_sums(struct ledger *l, struct problem *why)
{
    keel_auto(rows) sqlite3_stmt *q = NULL;
    char detail[PROBLEM_TEXT_BYTES];
    int rc;

    rc = db_rows(l, SQL_CHECK_USED, &q, why, "");
    for (; rc > 0; rc = db_next(l, q, why)) {
        long long v[7];

        for (int i = 0; i < 7; i++)
            v[i] = sqlite3_column_int64(q, i);
        if (v[1] == v[3] && v[2] == v[4] && v[5] == v[6])
            continue;
        snprintf(detail, sizeof detail,
                 "space %lld says %lld bytes in %lld files and %lld reserved, "
                 "its rows say %lld in %lld and %lld",
                 v[0], v[1], v[2], v[5], v[3], v[4], v[6]);
        return finding(why, detail);
    }
    return rc;
}

/* A query for what should not be; the finding has a number to name. */
static int check_none(struct ledger *l, enum sql id, const char *what,
                      const char *is, struct problem *why)
{
    keel_auto(rows) sqlite3_stmt *q = NULL;
    char detail[128];
    int rc;

    rc = db_rows(l, id, &q, why, "");
    if (rc <= 0)
        return rc;
    snprintf(detail, sizeof detail, "%s %lld %s", what,
             (long long)sqlite3_column_int64(q, 0), is);
    return finding(why, detail);
}

static int check_run(struct ledger *l, void *arg, struct problem *why)
{
    int rc;

    (void)arg;
    rc = check_pages(l, why);
    if (rc == 0)
        rc = check_keys(l, why);
    if (rc == 0)
        rc = check_sums(l, why);
    if (rc == 0)
        rc = check_none(l, SQL_CHECK_INTENTS, "intent",
                        "is not what its file is", why);
    if (rc == 0)
        rc = check_none(l, SQL_CHECK_HELD, "intent",
                        "and the outbox do not agree", why);
    if (rc == 0)
        rc = check_none(l, SQL_CHECK_CHANGES, "change",
                        "and its names do not agree", why);
    return rc;
}

int ledger_check(struct ledger *l, struct problem *why)
{
    return ledger_read(l, check_run, NULL, why);
}
