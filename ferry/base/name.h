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
    unsigned count;               /* components; 0 is the root "/" */
    uint16_t size;                /* of text, without the NUL */
    uint16_t start[PATH_DEPTH];   /* of each component within text */
    char text[PATH_BYTES + 1];    /* "a/b/c": no leading slash */
};

/* Parses "/a/b" or "a/b"; empty components and a slash at the end are passed
 * over.  NAME_INVALID, PATH_TOO_LONG. */
int path_parse(const void *bytes, size_t size, struct path *ret,
               struct problem *why);
/* The last component; "" for the root. */
const char *path_leaf(const struct path *p);
/* The directory above: `ret` without the leaf. */
void path_parent(const struct path *p, struct path *ret);
int path_append(struct path *p, const char *name, struct problem *why);
/* Checks one component. */
int name_check(const char *name, size_t size, struct problem *why);

/* Account names: 1 to 32 of [a-z0-9._-], first a letter or digit. */
#define ACCOUNT_NAME_BYTES 32
int account_name_check(const char *name, struct problem *why);

/* Copies `in` so that a terminal shows it and does nothing else: control
 * characters, DEL, C1 and invalid UTF-8 become \x1b and the like, a
 * backslash \\.  Always ends in NUL; cut with "..." when `size` is short. */
void text_escape(const char *in, size_t in_size, char *ret, size_t size);
/* "1.5 GiB"; exact bytes below 1 KiB. */
void text_bytes(uint64_t bytes, char ret[32]);

/* JSON: a string, or {"b64": ...} when it is not UTF-8 or contains NUL. */
json_t *text_to_json(const char *bytes, size_t size);
/* Into fresh memory with a NUL behind; -EINVAL, -EMSGSIZE over `max`. */
int text_from_json(const json_t *j, size_t max, char **ret, size_t *ret_size);

#endif
