/* SPDX-License-Identifier: MIT */
/* get of trees and of several files: many at once, in bounded memory.
 *
 * The walk through the server's tree goes ahead of the files by a page or two;
 * directories are made as the walk enters them, and get their modes and times
 * when all that goes into them is there.  Nothing is synced file by file: a
 * file appears under its name only whole and verified, and before the end is
 * told all of it is brought to stable storage at once (syncfs).
 *
 * A file of the same size and time that is here already is taken for the same:
 * so the same command, repeated, goes on.  What fails is told at the end, and
 * the rest is done. */
#ifndef FERRY_GET_TREE_H
#define FERRY_GET_TREE_H

#include "base/address.h"
#include "client/batch.h"

struct get_order {
    struct cli *c;
    struct batch *batch;
    const struct place *places; /* of one server and login */
    unsigned count;
    enum chunk_hash hash;
    struct buffer_pool *pool;
    const char *dest; /* a place of this machine, as the user wrote it */
};
#define GET_BUFFERS 24

/* 0, CLI_PARTLY, or a problem in c->why. */
int get_tree(const struct get_order *o);

#endif
