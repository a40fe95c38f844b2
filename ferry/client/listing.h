/* SPDX-License-Identifier: MIT */
/* Directories of the server, entry by entry, in bounded memory however large
 * they are.
 *
 * In the order of names a page is asked for when the one before is used up.
 * Sorted otherwise a directory is read whole first: LIST_TOO_LONG when all that
 * is held so would take more than LISTING_BYTES. */
#ifndef FERRY_LISTING_H
#define FERRY_LISTING_H

#include "client/remote.h"

#define LISTING_BYTES ((size_t)64 << 20)

enum listing_sort { SORT_NAME, SORT_SIZE, SORT_TIME };

struct listing_options {
    bool recursive;
    enum listing_sort sort;
    bool reverse;
};
struct listing;

struct listing_entry {
    struct remote_entry e;
    const char *target;      /* a link's text, or NULL */
    const struct path *path; /* from the root of the space */
    const char *below;       /* the same below what is listed: "sub/name" */
    bool last;               /* of its page: a moment to show what is there */
};

/* Borrows the session and `place`. */
int listing_new(struct session *s, const struct place *place,
                const struct listing_options *o, struct listing **ret,
                struct problem *why);
void listing_free(struct listing *l);
/* 1: an entry, lent until the next call; 0: the end.  A directory comes before
 * what is in it. */
int listing_next(struct listing *l, struct listing_entry *ret,
                 struct problem *why);
KEEL_AUTO(listing, struct listing *, listing_free)

#endif
