/* SPDX-License-Identifier: MIT */
/* What the test disk remembers: inodes, their pages, the names in directories,
 * each in the newest version and in the one that would survive a crash.
 *
 * Knows no descriptors, paths or threads (disk.c), and refers to inodes and
 * names by number, so that a copy is a plain copy and a result depends on
 * nothing but the operations and the seed. */
#ifndef KEEL_SIM_DISK_STATE_H
#define KEEL_SIM_DISK_STATE_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <sys/types.h>

#define DISK_PAGE 4096u
#define DISK_SECTOR 512u
#define DISK_ROOT 1u /* the root's inode */

/* Shared between inodes and copies; written only by its one owner. */
struct page {
    unsigned refs;
    uint8_t bytes[DISK_PAGE];
};

/* NULL is a hole: zeros that take no space.  `dirty`: the next sync makes
 * `now` safe.  A page may differ without being dirty: a sync that failed was
 * its last chance.  `cut`: `safe` was past the end of a truncation. */
struct slot {
    struct page *now, *safe;
    bool dirty, cut;
};

struct attrs {
    int64_t mtime_ns, ctime_ns;
    mode_t mode; /* with the type */
};

/* Invariants between calls:
 *   nlink     names whose newest version is this inode
 *   links     versions of names, of any age, that are this inode
 *   opens     descriptors; with links 0 and opens 0 the inode is freed
 *   held      slots whose `now` is not a hole
 *   counted   what of it the disk's `used` includes: held, or 0 without nlink
 *             and opens
 *   slots outside dirty_from ..< dirty_to are not dirty
 *   cut_size  the shortest the file was since it was synced; only then below
 *             safe_size are slots cut
 *   entry     a directory's names in the order of their ids */
struct inode {
    uint32_t number;
    unsigned nlink, links, opens;
    bool linkable; /* an O_TMPFILE that may still get its name */
    struct attrs now, safe;
    int64_t btime_ns;
    uint64_t size, safe_size, cut_size;
    struct slot *slot;
    size_t slots, held, counted, dirty_from, dirty_to;
    uint32_t parent; /* a directory's newest one */
    uint32_t *entry;
    size_t entries;
};

/* A name's history since it was last synced: version[0] is what a crash keeps
 * for certain, the last one is what everybody sees.  Inode 0: no such file. */
struct version {
    uint64_t seq;
    uint32_t inode;
};
struct name {
    uint64_t id;
    uint32_t dir;
    char text[256];
    struct version *version;
    size_t count, chosen;
    unsigned moves; /* of state.move that mention it */
};

/* A rename not yet durable: if `from` survives as of `seq` or later then so
 * does `to`; with `atomic` also the other way round. */
struct move {
    uint32_t from, to; /* names */
    uint64_t seq;
    bool atomic;
};

struct state {
    struct inode **inode; /* by number; [0] unused */
    size_t inodes;
    struct name **name;
    size_t names;
    struct move *move;
    size_t moves;
    uint64_t seq, next_id;
    uint64_t total, used; /* pages */
};

struct state *state_new(uint64_t size_bytes, int64_t now_ns);
/* Without descriptors, hence without inodes that only a descriptor held. */
struct state *state_copy(const struct state *s);
void state_free(struct state *s);

struct inode *state_inode(const struct state *s, uint32_t number);
static inline bool inode_is_dir(const struct inode *i)
{
    return (i->now.mode & 0170000) == 0040000;
}
static inline bool inode_is_link(const struct inode *i)
{
    return (i->now.mode & 0170000) == 0120000;
}
/* A new inode without a name; the caller opens or links it. */
struct inode *state_make(struct state *s, mode_t mode, int64_t now_ns);
void state_opened(struct state *s, struct inode *i);
void state_closed(struct state *s, struct inode *i);

/* The inode under the name, or NULL. */
struct inode *state_find(const struct state *s, const struct inode *dir,
                         const char *text);
/* Lets the name show `i`, or nothing (NULL). */
void state_set(struct state *s, struct inode *dir, const char *text,
               struct inode *i);
/* Both at once; the arguments were checked. */
void state_rename(struct state *s, struct inode *from_dir, const char *from,
                  struct inode *to_dir, const char *to, bool exchange);
bool state_empty(const struct state *s, const struct inode *dir);
/* The first living name of `dir` with an id above `after`, or NULL. */
const struct name *state_next(const struct state *s, const struct inode *dir,
                              uint64_t after);
uint32_t name_inode(const struct name *n);
/* "/disk/..." by one of its names; "" without one. */
void state_path(const struct state *s, const struct inode *i, char ret[4096]);

size_t state_read(const struct inode *i, void *buf, size_t size, uint64_t at);
/* Returns the bytes that found room, -ENOSPC, or -EFBIG. */
ssize_t state_write(struct state *s, struct inode *i, const void *buf,
                    size_t size, uint64_t at);
int state_reserve(struct state *s, struct inode *i, uint64_t at, uint64_t size,
                  bool keep_size);
void state_punch(struct state *s, struct inode *i, uint64_t at, uint64_t size);
void state_truncate(struct state *s, struct inode *i, uint64_t size);

/* fdatasync and fsync of a file; fsync of a directory; syncfs. */
void state_sync_data(struct inode *i);
void state_sync_file(struct inode *i);
void state_sync_dir(struct state *s, struct inode *dir);
void state_sync_all(struct state *s);
/* What a sync that fails leaves: pages that are written and never will be. */
void state_sync_failed(struct inode *i);

/* With no descriptors left: decides by the seed what the disk shows after a
 * power cut, or with `keep_none` only what was synced. */
void state_crash(struct state *s, uint64_t seed, bool keep_none);

#endif
