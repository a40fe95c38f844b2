/* SPDX-License-Identifier: MIT */
/* The journal of a part: which chunks are there, with their hashes.
 *
 * An append-only file of 48-byte records after a 96-byte header, little-endian:
 *
 *   header  0  8  "FERRYLG1"             record  0  1  kind: 1 CHUNK, 2 SYNCED, 3 BAD, 4 BOOT,
 *           8  4  header bytes, 96                     5 SUSPECT
 *          12  4  chunk bytes, 1048576           1  3  zero
 *          16  8  size of the file               4  4  CHUNK, BAD: chunk number; SYNCED: records
 *          24  8  device    32  8  inode               0 .. value-1 are on stable storage; else 0
 *          40 16  id of the transfer             8 32  CHUNK: leaf; BOOT: the kernel's boot id in
 *          56  8  source: mtime, ns                    16 bytes, then zero; else zero
 *          64  8  source: ctime, ns             40  4  record number n
 *          72  4  chunk hash id                 44  4  CRC-32C of bytes 0..43, continued from the
 *          76 16  zero                                 header's CRC
 *          92  4  CRC-32C of bytes 0..91        record 0 is BOOT, as is the first after each boot
 *
 * A CHUNK record is appended after the write of its chunk completed; that
 * survives kill -9.  After a sync of the data, SYNCED k.  Read back: up to the
 * first record whose number or CRC is wrong, truncated there.  The latest
 * record of a chunk speaks for it.  A CHUNK counts when it was written since
 * this boot's BOOT, or lies before the last SYNCED; any other is in doubt until
 * its chunk, read again, has that hash, and then it is listed anew.  SUSPECT
 * puts everything before it in doubt: somebody else wrote to the file. */
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
    /* Not part of the identity: the file's ctime now.  When the journal's own
     * is earlier, the file was touched by somebody else, and all that is
     * listed is in doubt.  0: not asked. */
    int64_t ctime_ns;
};

enum journal_state {
    JOURNAL_ABSENT = 0, /* not there, or not about this key: started afresh */
    JOURNAL_TRUSTED,    /* all listed chunks count */
    JOURNAL_TAIL,       /* some are in doubt */
};

/* Opens or creates `name` in `dir`; a file with another key is replaced.
 * With `name` NULL the journal is kept in memory alone and `dir` is not used.
 * Returns a journal_state.
 *
 * -EFBIG   the file has more than 2^32 chunks (4 PiB)
 * -ENOMEM, and what opening, reading and writing the file may say */
int journal_open(int dir, const char *name, const struct journal_key *key,
                 struct journal **ret);
void journal_close(struct journal *j); /* accepts NULL */
/* Listed, and not in doubt. */
bool journal_has(const struct journal *j, uint64_t chunk);
/* Listed, but in doubt: it does not count until journal_prove. */
bool journal_doubt(const struct journal *j, uint64_t chunk);
uint64_t journal_count(const struct journal *j); /* chunks it has */
/* The first chunk >= `from` that it does not have; else their number. */
uint64_t journal_missing(const struct journal *j, uint64_t from);
/* By number; what is neither listed nor in doubt is unspecified. */
const struct digest *journal_leaves(const struct journal *j);

/* Any of these may be called from several threads.  They are refused with the
 * errno of the disk, and with -EFBIG after 2^32 records. */
int journal_add(struct journal *j, uint64_t chunk, const struct digest *leaf);
/* BAD: the chunk does not count any more, even on error.  Before it may be
 * overwritten, the record must be where no power cut brings the old one back:
 * journal_sync. */
int journal_drop(struct journal *j, uint64_t chunk);
int journal_sync(struct journal *j);
int journal_prove(struct journal *j, uint64_t chunk); /* doubt removed */
/* The record count to hand to journal_synced after the data was synced. */
uint64_t journal_mark(const struct journal *j);
int journal_synced(struct journal *j, uint64_t mark);
/* A sync of the data failed: nothing listed may be believed by anybody. Empties
 * the file; what is in memory stays for the owner to look at. */
int journal_forget(struct journal *j);
/* Moves the file's ctime to now: called while a write to the data is under way,
 * so that the journal is never the older one after kill -9. */
void journal_touch(struct journal *j);
/* Takes `chunk` for one writer; false: another one has it. */
bool journal_claim(struct journal *j, uint64_t chunk);
void journal_release(struct journal *j, uint64_t chunk);

/* The kernel's boot id, or, where it is hidden, one that no other open has.
 * Tests put their own here. */
extern int (*journal_boot_id)(uint8_t ret[16]);

#endif
