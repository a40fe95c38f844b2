/* SPDX-License-Identifier: MIT */
/* The walker of local trees, for a thread of its own (it blocks).
 *
 * Each directory is opened beneath the one above, and no link is followed: what
 * was a directory a moment ago and is a link now is a problem, not a way out. A
 * directory's entries come in its own order, those of a directory inside it
 * between ENTER and LEAVE.  Nothing is gathered: memory is a path, and two
 * descriptors for each directory that is open. */
#ifndef FERRY_WALK_H
#define FERRY_WALK_H

#include "base/name.h"
#include "client/filter.h"

enum walk_kind {
    WALK_ENTER, /* a directory; `self` is open until its LEAVE */
    WALK_LEAVE, /* comes for each ENTER that returned 0, whatever happens */
    WALK_FILE,
    WALK_LINK,
    WALK_OTHER, /* a fifo, a socket, a device */
    WALK_PROBLEM,
};
/* From `each` at an ENTER: go on without what is inside, and no LEAVE. */
#define WALK_SKIP 2
/* Lent during the call. */
struct walk_event {
    enum walk_kind kind;
    int dir;          /* the directory it lies in; of the root: -1 */
    int self;         /* ENTER, LEAVE */
    const char *name; /* in `dir`; of the root: "" */
    const char *path; /* relative to the root: "a/b"; of the root: "" */
    const struct problem *why; /* PROBLEM */
};
struct walk_options {
    const struct filter *filters;
    unsigned filter_count;
    /* What the other side has above the root: of a path too deep or too long for
     * PATH_DEPTH and PATH_BYTES there is a problem, and no entering. */
    unsigned base_depth;
    size_t base_size;
    const char *name; /* of the root, for words */
};
/* `root` is a directory; borrowed.  A value above 0 from `each` ends the walk and
 * is returned; LEAVE's is passed over.  -ENOMEM */
int walk(const struct walk_options *o, int root,
         int (*each)(const struct walk_event *e, void *arg), void *arg);

#endif
