/* SPDX-License-Identifier: MIT */
/* The journal of a part: which chunks are there, with their hashes.
 *
 * An append-only file of 48-byte records after a 96-byte header, little-endian:
 *
 *   header  0  8  "FERRYLG1"             record  0  1  kind: 1 CHUNK, 2 SYNCED, 3 BAD, 4 BOOT
 *           8  4  header bytes, 96               1  3  zero
 *          12  4  chunk bytes, 1048576           4  4  CHUNK, BAD: chunk number; SYNCED: records
 *          16  8  size of the file                     0 .. value-1 are on stable storage; BOOT: 0
 *          24  8  device    32  8  inode         8 32  CHUNK: leaf; BOOT: the kernel's boot id in
 *          40 16  id of the transfer                   16 bytes, then zero; else zero
 *          56  8  source: mtime, ns             40  4  record number n
 *          64  8  source: ctime, ns             44  4  CRC-32C of bytes 0..43, continued from the
 *          72  4  chunk hash id                        header's CRC
 *          76 16  zero
 *          92  4  CRC-32C of bytes 0..91        record 0 is BOOT, as is the first after each boot
 *
 * A CHUNK record is appended after the write of its chunk completed; that
 * survives kill -9.  After a sync of the data, SYNCED k.  Read back: up to the
 * first record whose number or CRC is wrong, truncated there.  Same boot:
 * every CHUNK counts.  Another boot: those before the last SYNCED count; the
 * later ones only if their chunk, read again, has that hash. */
#ifndef FERRY_JOURNAL_H
#define FERRY_JOURNAL_H

#include <keel/base.h>

#include "base/problem.h"
#include "chunk/tree.h"

struct journal;

struct journal_key {
    uint64_t size;
    uint64_t device, inode; /* of the file the journal is about */
    uint8_t id[16];
    int64_t source_mtime_ns, source_ctime_ns;
    enum chunk_hash hash;
};

enum journal_state {
    JOURNAL_ABSENT = 0, /* not there, or not about this key: started afresh */
    JOURNAL_TRUSTED,    /* all listed chunks count */
    JOURNAL_TAIL,       /* another boot: chunks of `journal_doubt` are unproven */
};

/* Opens or creates `name` in `dir`; a file with another key is replaced.
 * Returns a journal_state. */
int journal_open(int dir, const char *name, const struct journal_key *key,
                 struct journal **ret);
void journal_close(struct journal *j); /* accepts NULL */
bool journal_has(const struct journal *j, uint64_t chunk);
/* Listed, but written after the last sync before a restart of the machine. */
bool journal_doubt(const struct journal *j, uint64_t chunk);
uint64_t journal_count(const struct journal *j); /* chunks it has */
const struct digest *journal_leaves(const struct journal *j); /* by number */
/* Any of these may be called from several threads. */
int journal_add(struct journal *j, uint64_t chunk, const struct digest *leaf);
int journal_drop(struct journal *j, uint64_t chunk); /* BAD */
int journal_prove(struct journal *j, uint64_t chunk); /* doubt removed */
/* The record count to hand to journal_synced after the data was synced. */
uint64_t journal_mark(const struct journal *j);
int journal_synced(struct journal *j, uint64_t mark);
/* The file's ctime, for "was the draft touched after it". */
int journal_fd(const struct journal *j);

#endif
