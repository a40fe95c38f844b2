/* SPDX-License-Identifier: MIT */
/* The sorted names of large directories, kept for the pages that follow.
 *
 * A name_list is a window: the names after one name, up to as many as fit into
 * LIST_BYTES, in the order of their bytes.  Lists are kept by what a directory
 * is and when it was changed last, within a budget; one that was changed is
 * read anew. */
#ifndef FERRY_VAULT_LISTS_H
#define FERRY_VAULT_LISTS_H

#include <sys/stat.h>

#include <keel/base.h>

struct lists;
struct name_list;

int lists_new(struct lists **ret); /* -ENOMEM */
void lists_free(struct lists *l);  /* accepts NULL; no list is lent */

/* The names of `dir` (which `now` is of) after `after`: kept ones, or read.
 * Lends until list_put. */
int list_get(struct lists *l, int dir, const struct statx *now,
             const char *after, struct name_list **ret);
/* Keeps it for who asks for the next page, or forgets it. */
void list_put(struct lists *l, struct name_list *n, bool keep);

unsigned list_count(const struct name_list *n);
const char *list_name(const struct name_list *n, unsigned i);
/* The first that is greater than `after`; list_count when none is. */
unsigned list_after(const struct name_list *n, const char *after);
/* False when the directory has names behind the last one. */
bool list_whole(const struct name_list *n);

/* For tests: directories that were read, bytes that are kept. */
uint64_t lists_read(struct lists *l);
size_t lists_bytes(struct lists *l);
/* What one list holds at most, before any is read. */
void lists_window(struct lists *l, size_t bytes, unsigned names);

#endif
