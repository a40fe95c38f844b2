/* SPDX-License-Identifier: MIT */
/* A source: a file on its way out, read chunk by chunk ahead of its use.
 *
 * The file's identity (inode, size, mtime, ctime) is taken at the start and
 * compared at the end: a source that shrank, grew or was rewritten meanwhile, or
 * has more bytes than it says, is FILE_CHANGED.  Files of 64 MiB and more leave no trace in the page cache
 * where the kernel can do that. */
#ifndef FERRY_SOURCE_H
#define FERRY_SOURCE_H

#include <sys/stat.h>

#include <keel/base.h>

#include "base/problem.h"
#include "chunk/buffer.h"
#include "chunk/tree.h"

struct source;

/* Takes `fd` (a regular file, readable) on success.  With `hash` 0 nothing is
 * hashed.  `name` is for words; copied.
 * FILE_IS_DIRECTORY, FILE_NOT_REGULAR, FILE_LOCAL, NO_MEMORY */
int source_open(int fd, enum chunk_hash hash, const char *name,
                struct source **ret, struct problem *why);
void source_close(struct source *s);
const struct statx *source_stat(const struct source *s);
uint64_t source_size(const struct source *s);

/* Reads a small file (up to 32 KiB) here and now, where a read may block, for
 * source_small.  What all sources together keep so is bounded: beyond that, and
 * when it cannot be read, this does nothing. */
void source_load(struct source *s);
/* All of a file that source_load has read, hashed if that is wanted; NULL for
 * others.  Lent until the source is closed. */
const void *source_small(struct source *s);

/* Fills `b` with chunk `index`, and hashes it if that is wanted and its leaf is
 * not known yet, on other threads.  `index` is below the chunk count.  May run
 * for several chunks at once, and is not cut short by a cancel.  FILE_CHANGED
 * when bytes are missing; FILE_LOCAL */
int source_read(struct source *s, uint64_t index, struct buffer *b,
                struct problem *why);
/* Hashes without keeping: for chunks the other side has already.  As
 * source_read. */
int source_hash(struct source *s, uint64_t index, struct problem *why);
bool source_hashed(const struct source *s, uint64_t index);
/* By number, of the chunks that are hashed; NULL without a hash.  Lent. */
const struct digest *source_leaves(const struct source *s);
/* A leaf known from before (a cache keyed by the same identity). */
void source_know(struct source *s, uint64_t index, const struct digest *leaf);
/* From here on nothing is hashed: the root is known from elsewhere, and whoever
 * receives the bytes compares with that.  Before the first read. */
void source_trust(struct source *s);
/* Compares the identity (FILE_CHANGED, FILE_LOCAL); then the root of all
 * leaves.  -ENODATA, `why` untouched: unchanged, but some chunks were not
 * hashed. */
int source_root(struct source *s, struct digest *ret, struct problem *why);
KEEL_AUTO(source, struct source *, source_close)

#endif
