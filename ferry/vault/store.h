/* SPDX-License-Identifier: MIT */
/* Where names and bytes are: DATA/spaces and DATA/drafts on one file system.
 *
 * The vault's rules stand above this header and know directories only as
 * descriptors that it lends; store_disk.c is the one form of it so far.  Calls
 * block: they run on pool threads and on the committer's. Results are a
 * negative errno of the disk; store_problem makes words of them. */
#ifndef FERRY_STORE_H
#define FERRY_STORE_H

#include <sys/stat.h>
#include <sys/statfs.h>

#include <keel/base.h>

#include "base/problem.h"
#include "ledger/ledger.h"

#define DRAFT_ID_BYTES 16
#define DRAFT_NAME_BYTES 33 /* 32 hex digits and the NUL */

struct store;

/* Makes what is missing of the layout (vault.h); vault_recover makes it last. */
int store_open(int data_dir, struct store **ret, struct problem *why);
void store_close(struct store *s); /* accepts NULL */
uint64_t store_device(const struct store *s);
int store_statfs(const struct store *s, struct statfs *ret);

/* The directory for what is to be removed.  Lent. */
int store_trash(const struct store *s);

/* ---- names in a space -------------------------------------------------- */
/* The directory `path` (its first `size` bytes; 0: the space's root) of the
 * space whose directory is `space`, which is made when it is absent.  Returns
 * a descriptor.  No link is followed on the way: -ELOOP, -EXDEV. */
int store_dir(const struct store *s, const char *space, const char *path,
              size_t size);
/* 0 when the space has its directory, -ENOENT when not; -ESTALE when DATA/spaces
 * is not the directory any more that was opened. */
int store_space_look(const struct store *s, const char *space);
/* The space's directory, which is not made: -ENOENT; -ENOTDIR, -ELOOP. */
int store_space_open(const struct store *s, const char *space);
/* It goes under that name of the trash. */
int store_space_trash(const struct store *s, const char *space,
                      const char *trash);
/* What `leaf` is, itself; -ENOENT. */
int store_look(int dir, const char *leaf, struct statx *ret);
/* 0 when a put may take the place of what is there; else FILE_IS_DIRECTORY,
 * FILE_ESCAPES (a link), FILE_NOT_REGULAR. */
int store_may_replace(const struct statx *there, const char *shown,
                      struct problem *why);

/* ---- drafts -------------------------------------------------------------- */
void store_draft_name(const uint8_t id[DRAFT_ID_BYTES],
                      char ret[DRAFT_NAME_BYTES]);
/* The directory of that draft, drafts/NN; made when absent and `make`. */
int store_draft_dir(const struct store *s, const uint8_t id[DRAFT_ID_BYTES],
                    bool make);
/* The names from DATA down to a new draft's directory are on stable storage. */
int store_draft_dir_sync(const struct store *s, int dir);
/* Removes file and journal; what is not there is no error. */
int store_draft_remove(const struct store *s, const uint8_t id[DRAFT_ID_BYTES]);
/* -ENOENT */
int store_draft_look(const struct store *s, const uint8_t id[DRAFT_ID_BYTES],
                     struct statx *ret);
/* Every draft with a file or a journal; one that has both comes twice. A
 * negative value ends it.  Names that are no draft's are passed over. */
int store_draft_each(const struct store *s,
                     int (*each)(const uint8_t id[DRAFT_ID_BYTES], void *arg),
                     void *arg);

/* ---- facts ---------------------------------------------------------------- */
/* Device, inode, size, mtime and ctime. */
void store_identity(const struct statx *x, struct ledger_file *ret);
int store_sync_all(const struct store *s);
/* Words for what the disk said about `shown`; returns the problem's errno. */
int store_problem(struct problem *why, int rc, const char *shown);

#endif
