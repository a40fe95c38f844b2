/* SPDX-License-Identifier: MIT */
/* Names and paths from outside.
 *
 * A name is 1 to 255 bytes without '/' and NUL, and not "." or ".."; every
 * other name is legal and kept as it is, UTF-8 or not.  A path is parsed once
 * into components; what is not a struct path has not been checked. */
#ifndef FERRY_NAME_H
#define FERRY_NAME_H

#include <keel/base.h>

#include "base/problem.h"

#define NAME_BYTES 255
#define PATH_BYTES 4096
#define PATH_DEPTH 128

struct path {
    unsigned count;             /* components; 0 is the root "/" */
    uint16_t size;              /* of text, without the NUL */
    uint16_t start[PATH_DEPTH]; /* of each component within text */
    char text[PATH_BYTES + 1];  /* "a/b/c": no leading slash */
};

/* Parses "/a/b" or "a/b"; empty components and a slash at the end are passed
 * over.  NAME_INVALID, PATH_TOO_LONG (more than PATH_BYTES as given),
 * PATH_TOO_DEEP. */
int path_parse(const void *bytes, size_t size, struct path *ret,
               struct problem *why);
/* The last component; "" for the root. */
const char *path_leaf(const struct path *p);
/* The directory above: `p` without the leaf; the root's is the root.  `ret`
 * may be `p`. */
void path_parent(const struct path *p, struct path *ret);
/* On error `p` is as it was.  NAME_INVALID, PATH_TOO_LONG, PATH_TOO_DEEP. */
int path_append(struct path *p, const char *name, struct problem *why);
/* A path for words, the same in all of them: "/a/b", cut to what a problem can
 * carry. */
struct shown {
    char text[PROBLEM_TEXT_BYTES];
};
struct shown shown_path(const char *path);
/* Checks one component.  NAME_INVALID. */
int name_check(const char *name, size_t size, struct problem *why);

/* Account names: 1 to 32 of [a-z0-9._-], first a letter or digit. */
#define ACCOUNT_NAME_BYTES 32
/* ACCOUNT_NAME */
int account_name_check(const char *name, struct problem *why);

/* Space names: 1 to 64 of the same. */
#define SPACE_NAME_BYTES 64
/* SPACE_NAME */
int space_name_check(const char *name, struct problem *why);

/* Copies `in` so that a terminal shows it and does nothing else: control
 * characters, DEL, C1, marks that turn the direction of text, and what is not
 * UTF-8 become \x1b and the like, byte by byte, a backslash \\.  Always ends in
 * NUL; cut with "..." when `size` is short. */
void text_escape(const char *in, size_t in_size, char *ret, size_t size);
/* Likewise between single quotes, with \' for one of its own: a value in the log
 * (log.h), whose end nobody outside can forge.  Returns `ret`.  The other one is
 * for a text that was escaped already, as a problem's sentence was. */
char *text_quote(const char *in, size_t in_size, char *ret, size_t size);
char *text_quote_shown(const char *in, char *ret, size_t size);
/* The "s" of an English plural; "" for one.  For what is not translated: the
 * server's own words. */
const char *text_plural(int64_t n);
/* "1.5 GiB", "2 MiB" when it is just that; "17 bytes" below 1 KiB. */
void text_bytes(uint64_t bytes, char ret[32]);

#define text_utf8 keel_utf8
/* How many letters must change to make `b` of `a`: to guess what was meant.
 * Looks at the first 63 bytes of each. */
unsigned text_distance(const char *a, const char *b);

/* JSON: a string, or {"b64": ...} when it is not UTF-8 or contains NUL. */
json_t *text_to_json(const char *bytes, size_t size);
/* Sets `key` of *j and takes `value`.  Without memory (either is NULL, too) *j
 * is freed and NULL from then on: several in a row, and one look at the end. */
void json_add(json_t **j, const char *key, json_t *value);
/* Into fresh memory (keel_free) with a NUL behind; -EINVAL, -EMSGSIZE over
 * `max`, -ENOMEM. */
int text_from_json(const json_t *j, size_t max, char **ret, size_t *ret_size);

#endif
