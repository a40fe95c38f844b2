/* SPDX-License-Identifier: MIT */
/* put of several files and of trees: docs/protocol.md's `put`, many at once.
 *
 * A thread walks the sources and hands over bunches of names.  For each bunch a
 * reader waits until the directories it needs exist on the other side, then
 * opens, reads and hashes its small files on the blocking pool, a megabyte a
 * job, and starts a task for each (batch.h).  What is larger goes by chunks, two
 * at a time.  A directory gets its mode and time when all below it is done.
 *
 * Nothing grows with the tree: what is on its way is bounded by the number of
 * bunches, of tasks, and of bytes held.  Of a directory that is there already a
 * few bytes a name are kept while it is compared (put_known.h). */
#ifndef FERRY_PUT_TREE_H
#define FERRY_PUT_TREE_H

#include "client/batch.h"

struct put_order {
    struct cli *c;
    struct batch *batch;
    const char *space;
    const struct path *target;
    /* NULL: the sources go inside `target`, a directory there, under their own
     * names.  Else there is one, and it goes under this name. */
    const char *as;
    char **sources;
    int count;
};
/* 0, CLI_PARTLY, or a problem in c->why: nothing was done, or the server is out
 * of reach. */
int put_tree(const struct put_order *o);

#endif
