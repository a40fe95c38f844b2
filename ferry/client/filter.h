/* SPDX-License-Identifier: MIT */
/* --exclude and --include: patterns over the names of a tree, as in .gitignore.
 *
 *     *.o        a name anywhere
 *     /build     only in the tree's root; as src/?.c, which has a slash inside
 *     cache/     only directories
 *     a/b        "**" in place of a or b is any number of names, none too
 *
 * The first pattern that matches decides; what none matches is kept.  A
 * directory that is excluded is not entered.  What was named on the command
 * line itself is not asked about. */
#ifndef FERRY_FILTER_H
#define FERRY_FILTER_H

#include "client/cli.h"

/* `path` is relative to the tree's root: "src/a.c". */
bool filter_keeps(const struct filter *filters, unsigned count,
                  const char *path, bool directory);

#endif
