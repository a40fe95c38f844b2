/* SPDX-License-Identifier: MIT */
/* Inside the put of trees: what its files share.
 *
 *   put_walk.c     the thread that finds names
 *   put_read.c     the blocking jobs that open, read and hash
 *   put_node.c     directories: made before their content, dated after it
 *   put_send.c     the requests for files and links
 *   put_would.c    what a dry run asks instead
 *   put_report.c   what is said, and what failed
 *   put_tree.c     the whole */
#ifndef FERRY_PUT_INSIDE_H
#define FERRY_PUT_INSIDE_H

#include <stdatomic.h>

#include <keel/lock.h>
#include <keel/queue.h>

#include "client/batch.h"
#include "client/put_known.h"
#include "client/put_tree.h"
#include "client/upload.h"
#include "client/walk.h"

/* A directory, here and there.
 *
 *   NEW --the other side has it--> READY        NEW --refused--> FAILED
 *
 * Invariants:
 *   `pending` counts its items that are under way, a directory below it until
 *   that one is finished, and its own walk until it leaves; at 0 it is finished
 *   (mode, time), lets go of `parent`, and is freed
 *   `reads` counts what still needs `fd`, which is closed at 0
 *   both go up in the walking thread before the item is handed over
 *   `known` is written before `settled` is set, and only read afterwards */
enum node_state { NODE_NEW, NODE_READY, NODE_FAILED };
struct node {
    struct tree *tree;
    struct node *parent;
    const char *name;  /* within `remote`: its last */
    struct path *path; /* there */
    char *local;       /* for words */
    int fd;            /* -1: the sources' own, each with its path */
    mode_t mode;
    int64_t mtime_ns;
    atomic_uint pending, reads;
    enum node_state state;
    struct keel_event settled;
    bool fresh; /* made by us: it has nothing */
    bool same;  /* its time is there already */
    bool touched;
    struct known *known; /* NULL: nothing, or fresh */
};

enum outcome {
    OUT_SMALL, /* bytes, root */
    OUT_LARGE,
    OUT_LINK,   /* target */
    OUT_SAME,   /* there already */
    OUT_FAILED, /* why */
};
/* One name on its way. */
struct item {
    enum walk_kind kind;
    struct node *node;  /* it lies in; ENTER and LEAVE: the one itself */
    char *name;         /* in `node`, here and there */
    const char *source; /* its path, when it was named itself; else NULL */
    struct problem *why;
    /* found by reading */
    enum outcome outcome;
    bool replaces;
    uint64_t size;
    mode_t mode;
    int64_t mtime_ns;
    uint8_t fingerprint[16];
    uint8_t *bytes;
    char *target;
    struct digest root;
};
#define BUNCH_ITEMS 64
struct bunch {
    struct tree *tree;
    unsigned count;
    struct item items[BUNCH_ITEMS];
};

struct failure;
struct report {
    uint64_t files, bytes, same, links, directories, failed;
    struct failure *first, **last;
    unsigned kept;
};

/* Of the space, for a dry run.  0: no limit. */
struct put_room {
    uint64_t bytes, files; /* limits */
    uint64_t used, used_files;
    uint64_t held;    /* by unfinished uploads */
    uint64_t planned; /* by those that would go */
};

struct tree {
    const struct put_order *o;
    struct cli *c;
    enum chunk_hash hash;
    struct buffer_pool *pool; /* of the large ones */
    struct progress progress;
    struct node *base; /* what the sources lie in */
    struct keel_queue *bunches;
    atomic_bool stop;    /* no more is wanted */
    atomic_bool starved; /* the walk ended for want of memory */
    struct keel_group *readers, *makers, *large;
    uint64_t held; /* bytes of small files in memory */
    struct keel_event room, finished;
    struct put_room room_there;
    struct report report;
};

/* ---- put_node.c */
/* In the walking thread.  Takes the place of one of `parent`'s pending. */
int node_new(struct tree *t, struct node *parent, const char *name,
             const char *local, int fd, struct node **ret, struct problem *why);
/* Another use of it, in the walking thread. */
void node_use(struct node *n, bool reads);
void node_read(struct node *n);    /* one needs its `fd` no longer */
void node_release(struct node *n); /* one of `pending` is done */
/* Brings it about on the other side, in a coroutine of its own; takes one of
 * `pending`. */
void node_make(struct node *n);
/* Until it is settled: READY or FAILED. */
enum node_state node_wait(struct node *n);
void node_settle(struct node *n, enum node_state state);
/* The path of `name` in it. */
int node_path(const struct node *n, const char *name, struct path *ret,
              struct problem *why);
/* For words, escaped not. */
void node_local(const struct node *n, const char *name, char *ret, size_t size);
void item_local(const struct item *i, char *ret, size_t size);
/* Frees what it holds, and releases its node. */
void item_free(struct item *i);

/* ---- put_walk.c */
/* The name it gets on the other side: the last one of its path, slashes at the
 * end apart. */
void source_name(const struct put_order *o, const char *source,
                 char ret[NAME_BYTES + 1]);
/* In a thread: all sources, then closes the queue. */
int put_walk_run(void *tree);
/* In a thread: counts them for the progress. */
int put_count_run(void *tree);

/* ---- put_read.c */
/* In a coroutine: opens, reads and hashes items[from] and on, until `count`
 * or a megabyte; returns the index behind the last one done. */
unsigned put_read(struct tree *t, struct item *items, unsigned from,
                  unsigned count);
/* Opens a file for reading; negative, with `why`. */
int put_open(const struct item *i, struct problem *why);

/* ---- put_send.c */
/* Hands over what was read; takes the item's content.  Waits for room. */
void put_send(struct tree *t, struct item *i);

/* ---- put_would.c */
/* A batch_fn, of a tree: what would be refused before the first file. */
int put_would_look(struct session *s, void *tree, struct problem *why);
/* What `i` would be refused for; takes its share of the space. */
int put_would(struct tree *t, const struct item *i, struct problem *why);

/* ---- put_report.c */
void report_init(struct report *r);
void report_failed(struct tree *t, const char *local, const struct path *path,
                   const struct problem *why);
void report_item_failed(struct tree *t, const struct item *i,
                        const struct problem *why);
void report_file(struct tree *t, const struct item *i,
                 const struct upload_result *r);
void report_same(struct tree *t, const struct item *i);
void report_link(struct tree *t, const struct item *i);
void report_directory(struct tree *t, const struct node *n);
/* The list, the sum, and what put_tree returns. */
int report_end(struct tree *t, int rc);

#endif
