/* SPDX-License-Identifier: MIT */
/* The vault: bytes and names.
 *
 * A space's files are ordinary files below DATA/spaces/DIR.  An upload is a
 * draft, invisible under its name until it is published:
 *
 *   1  the draft's data is synced
 *   2  one ledger transaction: file, quota, audit, outbox (held), intent
 *   3  rename over the name, or linkat for an unnamed draft
 *   4  the name's directory is synced
 *   5  acknowledged
 *   6  settled later: intent dropped, ctime recorded, outbox released
 *
 * Step 2 decides.  vault_open looks at every intent left and finishes, redoes
 * or undoes it by what lies under the name (device, inode, size, mtime).
 * Steps 1 to 4 of all who publish at the same time are done together by one
 * committer, two groups in turn; fewer than 32 waiting are synced one by one
 * in parallel.  docs/decisions/0002-publishing.md has the crash
 * table.
 *
 * DATA, all directories 0700 and all files 0600 but those of spaces:
 *
 *   ledger.db*          the ledger's
 *   format lock tls/    and more: the daemon's (daemon/data.h)
 *   spaces/DIR/...      a space's files; DIR is the ledger's opaque name.  On
 *                       disk a file has the permission bits of its sender's
 *                       mode and 0400, a directory these and 0700: the server
 *                       must read, and go in and out.  DATA lets nobody else in
 *   drafts/NN/ID        uploads on their way; ID is 32 hex digits, NN its first
 *   drafts/NN/ID.log    two.  A draft that can be resumed has a journal
 *   trash/              trees that were removed, until they are taken apart
 *
 * spaces, drafts and trash must be one file system.  Drafts of at most one chunk have
 * no name until they are published (O_TMPFILE), no journal and no row in the
 * ledger: their room and quota are refused early by what is known, and decided
 * by the ledger in step 2.
 *
 * Everything is opened beneath the space's directory without following links.
 * Calls are for coroutines and threads of any loop. */
#ifndef FERRY_VAULT_H
#define FERRY_VAULT_H

#include <keel/base.h>

#include "account/account.h"
#include "base/name.h"
#include "base/problem.h"
#include "chunk/part.h"
#include "chunk/source.h"
#include "ledger/ledger.h"

struct vault;

struct vault_options {
    int data_dir; /* borrowed */
    struct ledger *ledger;
    struct accounts *accounts;
    unsigned buffers;    /* chunk buffers for all transfers; 0: 16 */
    int64_t draft_ttl_s; /* 0: 7 days */
};
/* Makes what is missing of the layout and recovers before it returns.
 * DATA_FORMAT (not one file system), DATA_ACCESS, SYNC_FAILED; a disk that gives no clear answer
 * fails the start rather than an upload. */
int vault_open(const struct vault_options *o, struct vault **ret,
               struct problem *why);
/* Publishes in progress are finished and settled first.  All drafts and
 * buffers must have been given back (asserted). */
void vault_close(struct vault *v);
/* Drafts that are opened or continued from now on are kept so long; while others
 * call (a reload). */
void vault_configure(struct vault *v, int64_t draft_ttl_s);
struct buffer_pool *vault_buffers(struct vault *v);
/* Removes drafts past their time; returns how many. */
int vault_expire(struct vault *v, struct problem *why);

/* ---- uploads --------------------------------------------------------------- */
struct draft;
struct vault_put {
    int64_t space;           /* 0: the actor's home, here and below */
    const struct path *path; /* parents must exist */
    uint64_t size;
    enum chunk_hash hash;
    int64_t mtime_ns;
    mode_t mode;        /* permission bits; others are masked off */
    uint8_t source[16]; /* the sender's fingerprint: same again = resume */
    /* NULL, or the coroutine that will close the draft: it is cancelled when the
     * same sender opens the same draft again, as after a line that broke. */
    struct keel_co *holder;
    bool no_replace;
    const struct digest *match; /* NULL, or the root the name must have */
    /* NULL, or all of the file, at most one chunk: written while it is opened,
     * which is one step less than part_write. */
    const void *content;
};
/* A new draft, or the one that was left, with what it has.  One open at a time
 * for one draft: FILE_BUSY, unless its holder can be asked to let go.  With the
 * right to drop only, a name that exists is RIGHT_MISSING, here and at
 * publishing - unless the same account published what is there, with the same
 * size and root, and did not ask for `no_replace`: then it is published.  RIGHT_MISSING, QUOTA_*, DISK_FULL, FILE_EXISTS, FILE_MISSING (a
 * parent), FILE_IS_DIRECTORY ... */
int vault_draft_open(struct vault *v, const struct actor *who,
                     const struct vault_put *put, struct draft **ret,
                     struct problem *why);
/* For part_write and the like; NULL: all of it is there, and was published by the
 * same account before, if the root says so too. */
struct part *draft_part(struct draft *d);
const uint8_t *draft_id(const struct draft *d); /* 16 bytes */
/* That it was opened by: RIGHT_WRITE, or RIGHT_DROP, which makes new names
 * only.  Who has lost it meanwhile may not publish. */
enum right draft_right(const struct draft *d);
/* The same sender has opened this draft anew and waits for its close. */
bool draft_taken(struct draft *d);
/* Lets go without publishing: kept for a resume, if it is named. */
void draft_close(struct draft *d);
/* Gives it up: files and reservation go. */
int draft_drop(struct draft *d, struct problem *why);

/* ---- uploads that are not finished ---------------------------------------------- */
struct vault_upload {
    uint8_t id[16];
    int64_t space, account;
    char space_name[65]; /* "" for a home */
    const char *path;    /* lent */
    uint64_t size, held; /* held: of the quota */
    int64_t created, expires;
    bool active; /* somebody sends it now */
};
/* As people and programs write it: 32 hex digits. */
#define UPLOAD_ID_TEXT 33
void upload_id_print(const uint8_t id[16], char ret[UPLOAD_ID_TEXT]);
/* -EINVAL */
int upload_id_parse(const char *text, uint8_t ret[16]);
/* Those of an account after `after` (zeros: from the start), by id; or of all, by
 * their expiry, with account 0.  A callback's negative value ends it. */
int vault_uploads(struct vault *v, int64_t account, const uint8_t after[16],
                  int (*each)(const struct vault_upload *u, void *arg),
                  void *arg, struct problem *why);
/* Gives one up: what came of it and what it holds go.  One that is being sent is
 * refused; who begins it again meanwhile waits.  With account 0 it may be
 * anybody's.  TRANSFER_UNKNOWN, TRANSFER_BUSY */
int vault_upload_drop(struct vault *v, int64_t account, const uint8_t id[16],
                      struct problem *why);

enum vault_level { VAULT_RECEIVED, VAULT_SYNCED, VAULT_COMMITTED };
const char *vault_level_name(enum vault_level l);

/* All chunks are there and `root` is the sender's: publishes, and returns when
 * the level is reached (COMMITTED: after step 4).  Takes the draft on success,
 * also when a lower level is reached: it is published to its end, and a failure
 * after the answer is logged.  On an error the draft is still the caller's, who
 * may fill it again and publish again, or close it; after a failed sync its
 * files and row are gone and it can only be closed.  TRANSFER_INCOMPLETE,
 * TRANSFER_DAMAGED, FILE_MATCH, FILE_EXISTS, SYNC_FAILED, QUOTA_*.
 *
 * A name is published by one at a time; who comes second waits until the first
 * is settled.  While it waits for its turn it can be cancelled; then not. */
int draft_publish(struct draft *d, const struct digest *root,
                  enum vault_level level, struct problem *why);
KEEL_AUTO(draft, struct draft *, draft_close)

/* ---- reading ------------------------------------------------------------------ */
/* A file that was acknowledged as committed is seen with its digest at once, also
 * while it is replaced, moved or set: who looks in the middle of that waits for
 * its end. */
struct vault_entry {
    char name[NAME_BYTES + 1]; /* leaf, raw bytes */
    char type;                 /* 'f' file, 'd' directory, 'l' link, '?' */
    uint64_t size;
    int64_t mtime_ns;
    mode_t mode;
    enum chunk_hash hash; /* 0: no digest known */
    struct digest root;
    char *target; /* of a link, for keel_free; NULL otherwise */
};
void vault_entry_fini(struct vault_entry *e);
int vault_stat(struct vault *v, const struct actor *who, int64_t space,
               const struct path *path, struct vault_entry *ret,
               struct problem *why);
/* A directory's entries ordered by name (bytes), those after `after` ("": from
 * the start), at most `max`; or the one entry when it is a file.  Returns the
 * count.  Pages of one directory that follow each other do not read it anew
 * each time, and a first page does not wait for the last name of a large one
 * to be looked at. */
int vault_list(struct vault *v, const struct actor *who, int64_t space,
               const struct path *path, const char *after,
               struct vault_entry *ret, unsigned max, struct problem *why);
/* For a download; the root is in `ret_entry` when the ledger knows it. */
int vault_file_open(struct vault *v, const struct actor *who, int64_t space,
                    const struct path *path, enum chunk_hash hash,
                    struct source **ret, struct vault_entry *ret_entry,
                    struct problem *why);
/* The root, from the ledger or by reading the file (and remembered), and the
 * size of the very version that it is of. */
int vault_hash(struct vault *v, const struct actor *who, int64_t space,
               const struct path *path, enum chunk_hash hash,
               struct digest *ret, uint64_t *ret_size, struct problem *why);

/* ---- changing names ----------------------------------------------------------- */
/* Each returns when the change would survive a power cut. */

/* One directory; `parents`: those above it too, and one that is there already is
 * no error.  What is made has the permission bits of `mode`, and 0700.
 * FILE_EXISTS, FILE_MISSING (a parent), RIGHT_MISSING (write) */
int vault_mkdir(struct vault *v, const struct actor *who, int64_t space,
                const struct path *path, mode_t mode, bool parents,
                struct problem *why);
/* A symbolic link with that text, which is kept and never followed.  Replaces a
 * file or link, unless `no_replace`.  With the right to drop only, what is there is
 * RIGHT_MISSING, but for the account's own link of that text and time, which is
 * done already. */
int vault_link(struct vault *v, const struct actor *who, int64_t space,
               const struct path *path, const char *target, int64_t mtime_ns,
               bool no_replace, struct problem *why);
/* Permission bits (as at the upload; of the space itself: as it is) and mtime of a
 * file or directory, after its content; a digest that was known is known
 * still. mode (mode_t)-1, mtime_ns INT64_MIN: as it is. */
int vault_set(struct vault *v, const struct actor *who, int64_t space,
              const struct path *path, mode_t mode, int64_t mtime_ns,
              struct problem *why);
/* Within one space.  Replaces a file or link (right delete), never a directory;
 * a directory not into itself.  FILE_EXISTS, FILE_BUSY */
int vault_move(struct vault *v, const struct actor *who, int64_t space,
               const struct path *from, const struct path *to, bool no_replace,
               struct problem *why);
struct vault_removed {
    uint64_t files, directories;
};
/* A file, a link, an empty directory; `recursive`: a directory with all that is
 * in it.  FILE_NOT_EMPTY, FILE_BUSY, RIGHT_MISSING (delete) */
int vault_remove(struct vault *v, const struct actor *who, int64_t space,
                 const struct path *path, bool recursive,
                 struct vault_removed *ret, struct problem *why);
/* ---- the end of spaces ----------------------------------------------------------- */
/* Around the ledger's transaction that deletes an account with its spaces, or
 * one space: begin looks at the directories, refuses what is in them
 * and in no ledger too, and holds every name in them until the end.  `deleted`:
 * directories and unfinished uploads then go, which a start or a check does if a
 * crash comes between.  SPACE_NOT_EMPTY, FILE_BUSY, SYNC_FAILED, CANCELLED */
struct vault_closing;
int vault_closing_account(struct vault *v, int64_t account,
                          struct vault_closing **ret, struct problem *why);
int vault_closing_space(struct vault *v, int64_t space,
                        struct vault_closing **ret, struct problem *why);
void vault_closing_end(struct vault_closing *c, bool deleted);

/* What is under a name of DATA/spaces that is no space's; with `repair` it is
 * removed when it has no file: 1. */
struct vault_tree {
    uint64_t files, links, others, directories; /* those within */
    uint64_t bytes;
};
int vault_stray(struct vault *v, const char *name, bool repair,
                struct vault_tree *ret, struct problem *why);

/* ---- checking --------------------------------------------------------------------- */
/* Compares ledger and disk of one space, in use or not: rows without a file, or
 * directory or link,
 * files that somebody else has changed (inode, size or time), the space's
 * directory, and quota that is not the sum of its files.  `repair` drops such
 * rows, after which the file is one from outside, and counts the quota anew; no
 * file is touched, and of a directory that is missing nothing is dropped.  What
 * came from outside is in order, and counted.  Each finding is told; a negative
 * value of `each` ends it, and is returned. */
struct vault_outside {
    uint64_t files, names;  /* names: directories and links in no quota */
    uint64_t links, others; /* links that lead out of the space */
};
struct vault_finding {
    const char *path, *what; /* path "": the space */
    bool repaired;
    const struct vault_outside *outside; /* not NULL: it is no fault */
};
int vault_check(struct vault *v, int64_t space, bool repair,
                int (*each)(const struct vault_finding *f, void *arg),
                void *arg, struct problem *why);

#endif
