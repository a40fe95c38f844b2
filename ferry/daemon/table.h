/* SPDX-License-Identifier: MIT */
/* Rows for people, in columns as wide as they need to be. */
#ifndef FERRY_TABLE_H
#define FERRY_TABLE_H

#include <jansson.h>

#include <keel/base.h>

#define TABLE_COLUMNS 10

/* `heads` are "NAME", or ">SIZE" for a column that is aligned to the right;
 * ends in NULL. */
struct table {
    const char *const *heads;
    unsigned columns;
    char **cells; /* row by row */
    size_t count, room;
    bool failed; /* memory was out */
};
void table_init(struct table *t, const char *const *heads);
void table_fini(struct table *t);
/* The next cell; escaped for a terminal. */
void table_text(struct table *t, const char *text);
/* The same for what is safe for a terminal already. */
void table_shown(struct table *t, const char *shown);
void table_number(struct table *t, int64_t n);
/* A limit: 0, which is none, is "-". */
void table_quota(struct table *t, int64_t n);
/* "1.5 GiB"; 0 is "-" where it means none. */
void table_bytes(struct table *t, int64_t n, bool zero_is_none);
/* A date, "-" for 0. */
void table_when(struct table *t, int64_t seconds);
/* All rows, or `none` alone when there are none.  -ENOMEM */
int table_print(const struct table *t, const char *none);

/* Fields of a row that another program made: what is missing or of another
 * kind is "" or 0. */
const char *row_text(const json_t *row, const char *key);
int64_t row_number(const json_t *row, const char *key);
bool row_true(const json_t *row, const char *key);

/* "10 GiB, 5 files": what a quota allows, for people. */
void quota_text(int64_t bytes, int64_t files, char *ret, size_t size);

#endif
