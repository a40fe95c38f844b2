/* SPDX-License-Identifier: MIT */
/* Inside the walk: pages as they come from the server. */
#ifndef FERRY_WALK_PAGE_H
#define FERRY_WALK_PAGE_H

#include "client/remote_walk.h"

/* What one answer to `list` holds; `files` are all that is no directory. */
struct walk_answer {
    struct walk_page *files, *dirs;
    char last[NAME_BYTES + 1]; /* where the next page begins */
    bool more;
};
/* Checks every field, and that the names go on behind `after`. */
int walk_answer_parse(const json_t *ok, const char *after,
                      struct walk_answer *ret, struct problem *why);
void walk_answer_fini(struct walk_answer *a);

#endif
