/* SPDX-License-Identifier: MIT */
/* Inside get of trees: what its parts share.
 *
 *     get_tree.c    what was asked for, one after the other
 *     get_tour.c    the walk: filters, what is there already
 *     get_count.c   how much there is, found ahead of the walk
 *     get_dest.c    directories
 *     get_fetch.c   the files, from the server
 *     get_write.c   what is whole, onto the disk, by batches of jobs
 *     get_tell.c    what became of it: failures, sums, JSON
 *
 * All but the jobs that are named so runs on one loop. */
#ifndef FERRY_GET_INSIDE_H
#define FERRY_GET_INSIDE_H

#include <sys/queue.h>

#include <keel/lock.h>

#include "chunk/buffer.h"
#include "client/batch.h"
#include "client/begun.h"
#include "client/get_tree.h"
#include "client/local_make.h"
#include "client/progress.h"
#include "client/remote_walk.h"

/* A directory of this machine that is being filled.  It is held by each item
 * that goes into it, by each directory in it, and by the walk while that is
 * inside; who lets go last queues its end (get_write.c). */
struct local_dir {
    STAILQ_ENTRY(local_dir) node; /* while its end is queued */
    struct local_dir *parent;     /* held; NULL: where all goes */
    const char *space;            /* lent by what was asked for */
    unsigned refs;
    int fd; /* -1: a dry run's, that is not there */
    uint64_t device;
    bool fresh;
    bool ends; /* mode and mtime_ns are what it gets in the end */
    mode_t mode;
    int64_t mtime_ns;
    const char *remote,
        *local; /* paths: of the server without a slash in front,
                                   and for words; behind the struct */
};

enum item_kind { ITEM_FILE, ITEM_LINK };
/* A file or link on its way. */
struct item {
    STAILQ_ENTRY(item) node; /* while it waits to be written */
    struct getting *g;
    struct local_dir *dir;  /* held */
    struct walk_page *page; /* held; has the name and the target */
    const char *name, *target;
    const char *space; /* lent by what was asked for */
    enum item_kind kind;
    struct remote_entry entry; /* its facts, as they were told last */
    uint8_t *bytes;            /* a small file's */
    uint64_t held;             /* counted in getting.held */
    struct progress_part part;
    unsigned tries;
    bool whole; /* in `bytes`, to be written */
    uint64_t received;
    struct digest root;
    int rc;
    struct problem why;
};

struct failure {
    char *path;
    struct problem why;
};
#define FAILURES_KEPT 1000

/* Invariants:
 *   items, held: of the items that there are; room is set when they shrink
 *   queue, ends: what the writers take; `work` is set when they are not empty
 *   large: one for each file that comes by chunks */
struct getting {
    struct cli *c;
    const struct get_order *order;
    struct batch *batch;
    enum chunk_hash hash;
    struct buffer_pool *pool;
    struct progress progress;
    struct keel_group *counters; /* NULL: nobody counts ahead */
    bool counted_ahead;          /* what the walk finds is counted already */
    struct keel_semaphore large;

    unsigned items, dirs_open;
    uint64_t held;
    struct keel_event room;

    STAILQ_HEAD(, item) queue;
    STAILQ_HEAD(, local_dir) ends;
    struct keel_event work;
    struct keel_group *writers;
    struct get_job *jobs; /* one for each of them */
    unsigned writing;     /* jobs under way */
    struct keel_event quiet;

    int sync_fd; /* of the destination */
    uint64_t device;
    struct begun begun; /* a tree under a new name; empty: it is not */
    bool full;          /* the disk is: what needs room is not begun */

    uint64_t files, links, dirs, unchanged, bytes, received, failed;
    struct problem last; /* of what failed */
    struct failure *failures;
    unsigned failures_kept;
};

/* One thing that was asked for, on its way. */
struct tour {
    struct getting *g;
    const struct place *place;
    struct local_dir *base, *dir;
    const char *name; /* of the tree's root here */
    mode_t mode;      /* of the tree's root */
    int64_t mtime_ns;
    bool named; /* one entry that was asked for: no filter is asked */
};

/* ---- get_dest.c */
/* Where all goes, an existing directory; `words` and `remote` are its paths. */
int get_base_open(struct getting *g, const char *path, const char *words,
                  const char *remote, struct local_dir **ret,
                  struct problem *why);
/* Directory `name` of `parent`, made if it is not there. */
int get_dir_enter(struct getting *g, struct local_dir *parent, const char *name,
                  const char *remote, struct local_dir **ret,
                  struct problem *why);

/* ---- get_tour.c */
/* The tree at t->place, into directory t->name of t->base. */
int get_tour(struct tour *t, struct problem *why);
/* A page of files and links, into t->dir. */
int get_page(struct tour *t, struct walk_page *page, struct problem *why);

/* Whether the filters take `name`, in directory `remote` below the place. */
bool get_kept(const struct getting *g, const struct place *place,
              const char *remote, const char *name, bool directory);
/* A page of a list, for a walk. */
int get_ask(struct getting *g, const char *space, const struct path *dir,
            const char *after, json_t **ret_ok, struct problem *why);

/* ---- get_count.c */
/* Counts what was ordered, where its progress is shown. */
void get_count_start(struct getting *g);
void get_count_stop(struct getting *g);

/* ---- get_fetch.c */
/* Takes the item, whatever happens.  Negative: the batch is broken. */
int get_fetch(struct item *i, struct problem *why);

/* ---- get_write.c */
int get_writers_start(struct getting *g, struct problem *why);
/* Takes the item, to be made. */
void get_write(struct item *i);
/* Waits until all is made that was queued. */
void get_writers_finish(struct getting *g);
void get_writers_stop(struct getting *g);

struct local_dir *get_dir_hold(struct local_dir *d);
void get_dir_drop(struct getting *g, struct local_dir *d);

/* ---- get_tell.c */
/* The item's end: told, counted, freed. */
void get_done(struct item *i, int rc, const struct problem *why);
/* `local` or `remote` may be NULL. */
void get_failed(struct getting *g, const char *local, const char *remote,
                const struct problem *why);
void get_told_same(struct getting *g, const struct local_dir *dir,
                   const struct walk_entry *e);
void get_told_would(struct getting *g, const struct local_dir *dir,
                    const struct walk_entry *e);
void get_told_directory(struct getting *g, const struct local_dir *d);
/* "a/b" beneath a directory for words; cut when it is long. */
#define SHOWN_BYTES (PATH_BYTES + NAME_BYTES + 2)
void get_path(const char *dir, const char *name, char ret[SHOWN_BYTES]);
/* What failed, at the end. */
void get_failures(struct getting *g);
void get_failures_but_last(struct getting *g);
/* The failures, and the sums.  `rc`, if that is negative: it broke off; else 0 or
 * CLI_PARTLY. */
int get_summary(struct getting *g, int rc);

#endif
