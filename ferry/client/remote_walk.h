/* SPDX-License-Identifier: MIT */
/* A walk through a tree of the server: directories before what is in them, in
 * bounded memory however large the tree is.
 *
 * Pages of lists are asked for ahead, several at a time, so that a long line
 * costs a round trip now and then and not one a directory.  The server is not
 * trusted: names out of order, empty pages that promise more, and names that
 * are none end the walk (PROTOCOL_BROKEN, NAME_INVALID); a tree deeper than
 * paths may be is told and passed over, entry by entry. */
#ifndef FERRY_REMOTE_WALK_H
#define FERRY_REMOTE_WALK_H

#include "client/remote.h"

struct remote_walk;

/* An entry of a directory; lent with its page. */
struct walk_entry {
    const char *name;
    const char *target; /* a link's text; NULL: none was sent */
    uint64_t size;
    int64_t mtime_ns;
    mode_t mode;
    char type;
    enum chunk_hash hash; /* 0: none known */
    struct digest root;
};
struct walk_page {
    unsigned refs;
    unsigned count;
    size_t bytes; /* that it takes in memory */
    struct walk_entry entries[];
};
void walk_page_hold(struct walk_page *p);
void walk_page_drop(struct walk_page *p); /* accepts NULL */

/* One page of `dir` behind the name `after`, as "ok" of `list` has it.  May be
 * called by several coroutines of the loop at once. */
typedef int walk_ask_fn(void *arg, const struct path *dir, const char *after,
                        json_t **ret_ok, struct problem *why);

enum remote_kind {
    REMOTE_ENTER,  /* a directory: `path`, and `entry`, NULL for the root */
    REMOTE_PAGE,   /* some of its files and links, never its directories */
    REMOTE_LEAVE,  /* all below it has been told */
    REMOTE_FAILED, /* `path`, or with `entry` that one in it, cannot be walked
                    into: `why` */
};
struct remote_step {
    enum remote_kind kind;
    const struct path *path; /* lent until the next step, as the rest is */
    const struct walk_entry *entry;
    struct walk_page *page;
};

/* `ask`'s directories are those of `root` and below. */
int remote_walk_new(const struct path *root, walk_ask_fn *ask, void *arg,
                    struct remote_walk **ret, struct problem *why);
/* Cancels what was asked ahead, and waits for that.  Accepts NULL. */
void remote_walk_free(struct remote_walk *w);
/* 1: a step; 0: the end.  Negative: it cannot go on.  `why` is also filled by
 * REMOTE_FAILED. */
int remote_walk_next(struct remote_walk *w, struct remote_step *ret,
                     struct problem *why);
/* After REMOTE_ENTER: not into it.  No REMOTE_LEAVE follows. */
void remote_walk_skip(struct remote_walk *w);
KEEL_AUTO(remote_walk, struct remote_walk *, remote_walk_free)

#endif
