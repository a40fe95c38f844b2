/* SPDX-License-Identifier: MIT */
/* A part: a file on its way in, received in any order, invisible until it is
 * whole.  The server's drafts and the client's downloads are parts.
 *
 * Named parts ("NAME" and "NAME.log" in their directory) can be resumed;
 * unnamed ones (O_TMPFILE) vanish by themselves and have no journal.  The whole
 * size is reserved at the start, so that a full disk refuses then (but for an
 * unnamed part of a single chunk, which is about to be written anyway).  Parts of
 * 16 MiB and more are written with O_DIRECT, smaller ones through the page
 * cache.  Every 64 MiB or 2 s the data is synced aside and marked in the
 * journal.
 *
 * Calls are for coroutines and threads; part_write may run for several chunks
 * at once.  part_close and part_drop come after all others have returned. */
#ifndef FERRY_PART_H
#define FERRY_PART_H

#include <keel/base.h>

#include "base/problem.h"
#include "chunk/buffer.h"
#include "chunk/journal.h"
#include "chunk/tree.h"

struct part;

/* Room for ".log" behind it. */
#define PART_NAME_BYTES 251

struct part_options {
    int dir;          /* borrowed while the part is open */
    const char *name; /* one component; NULL: unnamed, in `dir` */
    uint64_t size;
    enum chunk_hash hash;
    uint8_t id[16];
    int64_t source_mtime_ns, source_ctime_ns; /* another source starts afresh */
    mode_t mode;
    bool holes; /* whole blocks (4 KiB) of zeros take no room on the disk */
};

/* Opens or resumes.  What is in doubt after a reboot, or was touched by
 * somebody else since, is read and hashed here before it counts.  A file of
 * that name with another size, or with a second link, is replaced.  An unnamed
 * part is -EOPNOTSUPP where the file system has no O_TMPFILE: open a named one.
 * A named part is locked (flock) while it is open, and until a sync that was
 * under way at its close is done; who comes second waits two seconds at most.
 * DISK_FULL, FILE_TOO_LARGE, FILE_NOT_REGULAR, FILE_LOCAL, TRANSFER_BUSY,
 * CANCELLED, NO_MEMORY */
int part_open(const struct part_options *o, struct part **ret,
              struct problem *why);
/* Lets go; a named part stays for a resume.  Never waits for the disk. */
void part_close(struct part *p);
/* Waits for a sync aside that is under way and lets none begin, so that another
 * part may open the same files.  Only part_close or part_drop may follow. */
void part_rest(struct part *p);
/* Removes the named files, then closes. */
void part_drop(struct part *p);

uint64_t part_size(const struct part *p);
bool part_has(const struct part *p, uint64_t chunk);
/* The first chunk >= `from` that is missing; chunk_count when none is. */
uint64_t part_missing(const struct part *p, uint64_t from);
uint64_t part_bytes(const struct part *p); /* bytes that are there */
/* By number, of the chunks that are there.  Lent while the part is open. */
const struct digest *part_leaves(const struct part *p);

/* Hashes and writes chunk `index`, both at once on other threads, and lists it
 * in the journal.  The buffer is borrowed; of the last chunk only the file's
 * bytes are used.  A chunk that is there already is withdrawn first.  Not cut
 * short by a cancel.
 * TRANSFER_RANGE, REQUEST_INVALID (that chunk is being written by another
 * call), DISK_FULL, FILE_LOCAL, SYNC_FAILED */
int part_write(struct part *p, uint64_t index, struct buffer *b,
               struct problem *why);
/* Withdraws a chunk that proved wrong.  As part_write. */
int part_withdraw(struct part *p, uint64_t index, struct problem *why);

/* Everything received is on stable storage.  SYNC_FAILED is for good, and is
 * what every later call says: the part is dropped by its owner, and nobody can
 * resume it. */
int part_sync(struct part *p, struct problem *why);
/* Of the leaves.  -EINVAL: chunks are missing; -EIO: a sync failed. */
int part_root(const struct part *p, struct digest *ret);
int part_fd(const struct part *p);           /* lent */
const char *part_name(const struct part *p); /* NULL: unnamed */
/* After a successful rename of the file: removes the journal. */
void part_published(struct part *p);
KEEL_AUTO(part, struct part *, part_close)

#endif
