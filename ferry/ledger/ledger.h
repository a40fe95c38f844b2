/* SPDX-License-Identifier: MIT */
/* The ledger: the one transactional store.  People, spaces, quota, which file
 * is which version, what is being published, and what follows a file.
 *
 * SQLite in WAL mode, synchronous FULL, on keel's seam; one thread owns the
 * database, and the calls below hand it closed transactions and wait for their
 * commit: what returned 0 survives a power cut.  There is no SQL above this
 * header.  Calls come from any coroutine or thread; each is one transaction,
 * and those waiting together share one sync.  Checkpoints run when it is idle,
 * or when the log grows past 16 MiB.
 *
 * Any call may fail with NO_MEMORY, DISK_FULL (nothing was changed, and the next
 * call may succeed) or DATA_ACCESS.  After a sync that failed nobody knows what
 * the disk holds: every call is SYNC_FAILED until the ledger was closed and
 * opened again; DATA_DAMAGED likewise.  Callbacks run in the caller, and may
 * call the ledger; calls are never cancelled half way.
 *
 * Keys of files are (space, path), the path as bytes without a leading slash.
 * The schema has a version in user_version; an older one is migrated at open,
 * a newer one refused (DATA_FORMAT), a damaged file too (DATA_DAMAGED). */
#ifndef FERRY_LEDGER_H
#define FERRY_LEDGER_H

#include <keel/base.h>

#include "base/name.h"
#include "base/problem.h"
#include "chunk/tree.h"

struct ledger;

/* "ledger.db" in the directory, made when nothing was there before.  One that is
 * absent or empty beside spaces/ or its own log was lost: DATA_DAMAGED, and
 * nothing is touched. */
int ledger_open(int data_dir, struct ledger **ret, struct problem *why);
/* Finishes what was handed in, checkpoints, joins the thread. */
void ledger_close(struct ledger *l);
/* Reads everything once: DATA_DAMAGED with the first finding. */
int ledger_check(struct ledger *l, struct problem *why);

/* A random secret of this installation, made at first use ("decoy", ...). */
int ledger_secret(struct ledger *l, const char *name, uint8_t ret[32],
                  struct problem *why);

/* ---- accounts ------------------------------------------------------------- */
/* What a server keeps of a password: RFC 5802 section 3. */
struct ledger_scram {
    uint32_t iterations;
    uint8_t salt[32];
    uint8_t salt_size;
    uint8_t stored_key[32], server_key[32];
};
struct ledger_account {
    int64_t id;
    char name[ACCOUNT_NAME_BYTES + 1];
    bool admin, disabled;
    int64_t home;    /* its space */
    int64_t created; /* seconds */
    struct ledger_scram scram;
};
struct ledger_registration {
    const char *name; /* checked by the caller */
    bool admin;       /* an invite's word counts instead where one is given */
    const uint8_t *invite; /* SHA-256 of its secret, used up here; or NULL */
    struct ledger_scram scram;
    int64_t quota_bytes, quota_files; /* of the home space; 0: none */
    int64_t now;
};
/* Account, home space and the invite's use, all or nothing.
 * ACCOUNT_EXISTS, INVITE_INVALID */
int ledger_register(struct ledger *l, const struct ledger_registration *r,
                    struct ledger_account *ret, struct problem *why);
/* ACCOUNT_UNKNOWN */
int ledger_account_find(struct ledger *l, const char *name,
                        struct ledger_account *ret, struct problem *why);
/* By its number.  ACCOUNT_UNKNOWN */
int ledger_account_get(struct ledger *l, int64_t account,
                       struct ledger_account *ret, struct problem *why);
/* Ordered by name, those after `after` ("" from the start); returns a count. */
int ledger_account_list(struct ledger *l, const char *after,
                        struct ledger_account *ret, unsigned max,
                        struct problem *why);
int ledger_account_scram(struct ledger *l, int64_t account,
                         const struct ledger_scram *s, struct problem *why);
int ledger_account_disable(struct ledger *l, int64_t account, bool disabled,
                           struct problem *why);
/* The account, its devices, grants and invites; its home goes too when it is
 * empty of files (SPACE_NOT_EMPTY otherwise, and when it owns another space
 * that is not). */
int ledger_account_delete(struct ledger *l, int64_t account,
                          struct problem *why);

/* ---- invites ----------------------------------------------------------------- */
struct ledger_invite {
    uint8_t hash[32]; /* SHA-256 of the secret */
    bool admin;
    int64_t uses, expires, created;
    int64_t created_by; /* account, 0: the operator, or LEDGER_FIRST */
};
/* The invite for the first account: with any account it is gone. */
#define LEDGER_FIRST (-1)
int ledger_invite_add(struct ledger *l, const struct ledger_invite *i,
                      struct problem *why);
/* Those that are good at `now`, by hash, after `after` (NULL: from the start);
 * returns a count. */
int ledger_invite_list(struct ledger *l, const uint8_t after[32], int64_t now,
                       struct ledger_invite *ret, unsigned max,
                       struct problem *why);
/* Removes those whose hash begins so; returns how many. */
int ledger_invite_revoke(struct ledger *l, const uint8_t *hash, size_t size,
                         struct problem *why);
/* Removes those that were made by this account, 0 or LEDGER_FIRST. */
int ledger_invite_drop(struct ledger *l, int64_t created_by,
                       struct problem *why);

/* ---- devices ------------------------------------------------------------------ */
struct ledger_device {
    int64_t id, account;
    char name[65];
    uint8_t public_key[32]; /* Ed25519 */
    int64_t created, used;
};
/* Fills id.  REQUEST_INVALID: the account has 64 of them. */
int ledger_device_add(struct ledger *l, struct ledger_device *d,
                      struct problem *why);
/* DEVICE_UNKNOWN */
int ledger_device_find(struct ledger *l, int64_t id, struct ledger_device *ret,
                       struct problem *why);
int ledger_device_list(struct ledger *l, int64_t account,
                       struct ledger_device *ret, unsigned max,
                       struct problem *why);
int ledger_device_remove(struct ledger *l, int64_t account, int64_t id,
                         struct problem *why);
/* When it was last used: not worth a sync of its own, rides along. */
int ledger_device_touch(struct ledger *l, int64_t id, int64_t now,
                        struct problem *why);

/* ---- spaces --------------------------------------------------------------------- */
struct ledger_space {
    int64_t id;
    char dir[33];  /* its opaque directory's name */
    char name[65]; /* "" for a home */
    int64_t owner;
    int64_t quota_bytes, quota_files; /* 0: none */
    int64_t used_bytes;               /* of published files */
    int64_t used_files;     /* published, and directories and links made */
    int64_t reserved_bytes; /* open drafts */
    bool counted;           /* its directories and links have rows */
};
/* How many files, directories and links a space may have, 0: any number.  Where
 * a quota is set in bytes only, each costs what it takes of a disk even if it is
 * empty, and some are free. */
#define SPACE_NAME_COST ((uint64_t)4096)
#define SPACE_NAMES_LEAST ((uint64_t)10000)
uint64_t space_names_most(const struct ledger_space *s);
/* So many more would be too many. */
bool space_names_over(const struct ledger_space *s, int64_t more);
/* FILE_MISSING: there is no such space. */
int ledger_space_get(struct ledger *l, int64_t space, struct ledger_space *ret,
                     struct problem *why);
int ledger_space_list(struct ledger *l, int64_t after, struct ledger_space *ret,
                      unsigned max, struct problem *why);
int ledger_space_quota(struct ledger *l, int64_t space, int64_t bytes,
                       int64_t files, struct problem *why);
/* A shared space; fills id and dir.  SPACE_EXISTS, ACCOUNT_UNKNOWN (owner) */
int ledger_space_add(struct ledger *l, struct ledger_space *s,
                     struct problem *why);
/* By its name.  SPACE_UNKNOWN */
int ledger_space_find(struct ledger *l, const char *name,
                      struct ledger_space *ret, struct problem *why);
/* By its directory's name.  SPACE_UNKNOWN */
int ledger_space_in(struct ledger *l, const char *dir, struct ledger_space *ret,
                    struct problem *why);
/* Shared ones ordered by name, those after `after` ("" from the start); returns
 * a count. */
int ledger_space_shared(struct ledger *l, const char *after,
                        struct ledger_space *ret, unsigned max,
                        struct problem *why);
/* A shared space with its grants and drafts.  SPACE_UNKNOWN, SPACE_NOT_EMPTY,
 * FILE_BUSY */
int ledger_space_delete(struct ledger *l, int64_t space, struct problem *why);

/* ---- grants ------------------------------------------------------------------------ */
/* What an account, or everybody, may do in a space at a path and below it. */
struct ledger_grant {
    int64_t space, account;    /* account 0: everybody */
    char path[PATH_BYTES + 1]; /* without a leading slash; "": all of it */
    unsigned rights;           /* RIGHT_* of account.h; 0 takes it away */
};
/* Sets it, in place of an earlier one of the same space, path and account.
 * Grants are of paths: they stay when what lies there is moved or removed.
 * FILE_MISSING (the space), ACCOUNT_UNKNOWN, PATH_TOO_LONG, GRANT_UNKNOWN (there
 * is none to take away) */
int ledger_grant_set(struct ledger *l, const struct ledger_grant *g,
                     struct problem *why);
/* Those of a space (account -1: of anybody), or of an account in all spaces
 * (space 0), everybody's included; ordered by space, path, account. */
int ledger_grant_list(struct ledger *l, int64_t space, int64_t account,
                      int (*each)(const struct ledger_grant *g, void *arg),
                      void *arg, struct problem *why);

/* ---- drafts ------------------------------------------------------------------------ */
struct ledger_draft {
    uint8_t id[16];
    int64_t space, account;
    const char *path; /* in lists: lent until the list's callback returns */
    uint64_t size;
    enum chunk_hash hash;
    uint8_t source[16]; /* the sender's fingerprint of the file, for resume */
    int64_t created, expires;
    uint64_t reserved; /* in lists: what it holds of the quota */
};
/* Reserves in the space's quota by how much `size` is larger than what the file
 * of that name is charged for now, or all of it when another draft would replace
 * that, too; what is charged in the end is decided when it
 * is published.  QUOTA_BYTES, QUOTA_FILES. */
int ledger_draft_open(struct ledger *l, const struct ledger_draft *d,
                      struct problem *why);
/* The draft of the same account, space, path, size, hash and source;
 * TRANSFER_UNKNOWN.  Its expiry is moved to `expires`. */
int ledger_draft_find(struct ledger *l, const struct ledger_draft *like,
                      int64_t expires, uint8_t ret_id[16], struct problem *why);
/* Gives the reservation back.  Unknown ids are no error. */
int ledger_draft_drop(struct ledger *l, const uint8_t id[16],
                      struct problem *why);
/* By its id.  The path is `ret_path`'s.  TRANSFER_UNKNOWN */
int ledger_draft_get(struct ledger *l, const uint8_t id[16],
                     struct ledger_draft *ret, char ret_path[PATH_BYTES + 1],
                     struct problem *why);
/* Those of an account whose ids come after `after`, by id; as below. */
int ledger_draft_of(struct ledger *l, int64_t account, const uint8_t after[16],
                    int (*each)(const struct ledger_draft *d, void *arg),
                    void *arg, struct problem *why);
/* Those that expire before `before`; a callback's negative value ends it. */
int ledger_draft_list(struct ledger *l, int64_t before,
                      int (*each)(const struct ledger_draft *d, void *arg),
                      void *arg, struct problem *why);

/* ---- files ----------------------------------------------------------------------- */
struct ledger_file {
    uint64_t size;
    uint64_t device, inode;
    int64_t mtime_ns;
    int64_t ctime_ns; /* 0: not known yet; the digest then does not count */
    enum chunk_hash hash;
    struct digest root;
    int64_t account; /* who published it */
    bool found;      /* on the disk, and in no quota: nobody published it */
};
/* FILE_MISSING: no row (the disk may have one all the same). */
int ledger_file_get(struct ledger *l, int64_t space, const char *path,
                    struct ledger_file *ret, struct problem *why);
/* A digest computed for a file found on the disk; quota is not touched.
 * FILE_BUSY while the name has a live intent. */
int ledger_file_digest(struct ledger *l, int64_t space, const char *path,
                       const struct ledger_file *f, struct problem *why);

/* Of many at once; hash 0 where there is no row. */
int ledger_files_get(struct ledger *l, int64_t space, const char *const *paths,
                     unsigned count, struct ledger_file *ret,
                     struct problem *why);
/* All of a space by path, in the order of bytes; `path` is lent.  A callback's
 * negative value ends it.  What changes meanwhile may show or not. */
int ledger_file_list(struct ledger *l, int64_t space,
                     int (*each)(const char *path, const struct ledger_file *f,
                                 void *arg),
                     void *arg, struct problem *why);
/* What a space says that it uses, and what its files, directories and links come
 * to; with `repair` it says the latter from now on. */
struct ledger_sums {
    int64_t said_bytes, said_files, bytes, files;
};
int ledger_space_sum(struct ledger *l, int64_t space, bool repair,
                     struct ledger_sums *ret, struct problem *why);

/* ---- publishing --------------------------------------------------------------------- */
/* One group is one transaction: for each item the file row, quota, the draft's
 * row and reservation gone, an audit row, a held outbox row, and the intent
 * from which a crash is redone; before them, the settled intents of earlier
 * groups are dropped, their ctime recorded and their outbox rows released. */
struct ledger_publish {
    int64_t space, account;
    const char *path;
    uint8_t draft[16]; /* zeros: it has neither row nor name (small files) */
    bool named;        /* the draft has a name under drafts/ */
    bool no_row;       /* that name only: nothing was registered of it */
    struct ledger_file file; /* ctime_ns 0 */
    int64_t now;
    bool replace;               /* false: FILE_EXISTS when a row is there */
    const struct digest *match; /* FILE_MATCH unless the row's root is this */
    /* results, per item */
    int result; /* 0, or negative: this item is not part of the commit */
    struct problem *why; /* may be NULL */
    int64_t intent;
};
struct ledger_settle {
    int64_t intent;
    int64_t ctime_ns; /* read after the rename */
};
/* Returns 0 when the transaction committed, whatever single items say. A live
 * intent for the same name is FILE_BUSY: the caller keeps names apart.  On an
 * error each item's result and problem are the call's.  To settle what is
 * settled or undone is no error. */
int ledger_publish(struct ledger *l, struct ledger_publish *items,
                   unsigned count, const struct ledger_settle *settled,
                   unsigned settled_count, struct problem *why);
int ledger_settle(struct ledger *l, const struct ledger_settle *settled,
                  unsigned count, struct problem *why);

struct ledger_intent {
    int64_t intent, space;
    const char *path; /* lent to the callback */
    uint8_t draft[16];
    bool named;
    uint64_t inode, device, size;
    int64_t mtime_ns;
};
/* Live ones in the order they were made. */
int ledger_intent_list(struct ledger *l,
                       int (*each)(const struct ledger_intent *i, void *arg),
                       void *arg, struct problem *why);
/* Takes row, quota and outbox back: the replaced file's row returns, the
 * draft's does not.  Twice is no error. */
int ledger_undo(struct ledger *l, int64_t intent, struct problem *why);

/* A file is gone from the disk, by `rm` or by another's hand: row and quota.
 * FILE_MISSING, FILE_BUSY */
int ledger_file_remove(struct ledger *l, int64_t space, const char *path,
                       struct problem *why);

/* ---- directories and links ------------------------------------------------------ */
/* Each that is made through us has a row and counts in the quota of files; one
 * that somebody else made has none and counts for nothing.  The row is there
 * before the name, and is its own redo record: begin, make it on the disk, sync,
 * and say what came of it.  What was not said of is looked at by recovery.  A
 * name that has a row already is not counted twice. */
struct ledger_making {
    int64_t space;
    const char *path;
    size_t first;  /* bytes of the path up to the end of the first name made */
    bool replaces; /* one name, in place of a file: not one more */
    int64_t account; /* whose link it is; 0: a directory, which is nobody's */
    int64_t id;      /* filled by begin */
};
/* QUOTA_FILES, FILE_BUSY (a change lives there) */
int ledger_making_begin(struct ledger *l, struct ledger_making *m,
                        struct problem *why);
/* All is there and durable.  Rides along with the next transaction. */
void ledger_making_done(struct ledger *l, int64_t id);
/* What is longer than `kept` bytes is not there. */
int ledger_making_back(struct ledger *l, const struct ledger_making *m,
                       size_t kept, struct problem *why);
/* A link is there, durable, in place of a file: that one's row and quota go,
 * with an audit row and an outbox row ("file.removed"). */
int ledger_making_over(struct ledger *l, const struct ledger_making *m,
                       int64_t account, int64_t now, struct problem *why);
/* Those of which nothing was said, in the order in which they began; `m->path`
 * is lent, and is one name. */
int ledger_making_list(struct ledger *l,
                       int (*each)(const struct ledger_making *m, void *arg),
                       void *arg, struct problem *why);
/* All of a space by path; as ledger_file_list. */
int ledger_node_list(struct ledger *l, int64_t space,
                     int (*each)(const char *path, void *arg), void *arg,
                     struct problem *why);
/* Whether each of some names has a row. */
int ledger_nodes_get(struct ledger *l, int64_t space, const char *const *paths,
                     unsigned count, bool *ret, struct problem *why);
/* The account that made the link, if nobody has replaced it since; else, and when
 * nothing is on record, 0. */
int ledger_node_maker(struct ledger *l, int64_t space, const char *path,
                      int64_t *ret, struct problem *why);
/* It is not there any more.  FILE_MISSING, FILE_BUSY */
int ledger_node_remove(struct ledger *l, int64_t space, const char *path,
                       struct problem *why);
/* Of a space that was made before directories and links were counted: they lie
 * there, and no quota refuses them; in the end the space is `counted`. */
int ledger_nodes_found(struct ledger *l, int64_t space,
                       const char *const *paths, unsigned count,
                       struct problem *why);
int ledger_space_counted(struct ledger *l, int64_t space, struct problem *why);

/* ---- moving and removing -------------------------------------------------------------- */
/* The commit point and redo record of a change of names, as an intent is of a
 * publish: begin, do it on the disk, sync the directories, end.  A name at,
 * above or below which something is being published or changed is FILE_BUSY,
 * and so is, while a change lives, publishing, hashing or removing a file there.
 */
enum ledger_change_kind { LEDGER_MOVE, LEDGER_REMOVE };
struct ledger_change {
    int64_t id; /* filled by begin */
    enum ledger_change_kind kind;
    int64_t space, account;
    const char *path;       /* in lists: lent to the callback */
    const char *to;         /* MOVE */
    uint64_t device, inode; /* of what lies at `path` */
    int64_t now;
};
/* FILE_BUSY; FILE_INSIDE: one path is the other or lies in it; PATH_TOO_LONG:
 * something below `path` would have too long a path below `to`. */
int ledger_change_begin(struct ledger *l, struct ledger_change *c,
                        struct problem *why);
/* Rows are those of files, directories and links.  MOVE: the rows at and below
 * `path` are now at `to`; those that were at or
 * below `to` are gone with their quota.  REMOVE: the rows at and below `path`
 * are gone, with their quota.  An audit row and an outbox row ("file.moved",
 * "file.removed") are written.  `done` false: nothing was changed after all.
 *
 * Many rows are several transactions; between them, and after a crash or an
 * error, the change is still live and quota is exact, and an end with `done` is
 * repeated until it succeeds (it goes on where it stopped; `done` false then
 * goes on as well).  The end of a change that is not there is no error. */
int ledger_change_end(struct ledger *l, int64_t id, bool done,
                      struct problem *why);
int ledger_change_list(struct ledger *l,
                       int (*each)(const struct ledger_change *c, void *arg),
                       void *arg, struct problem *why);

/* ---- what follows a file ---------------------------------------------------------------- */
struct ledger_event {
    int64_t id, space, account, at;
    const char *kind; /* "file.published", "file.moved", "file.removed" */
    const char *path;
    const char *to; /* of "file.moved"; NULL otherwise */
    bool held;      /* its intent has not settled */
};
int ledger_outbox_list(struct ledger *l, int64_t after,
                       int (*each)(const struct ledger_event *e, void *arg),
                       void *arg, struct problem *why);
/* Unknown and held ones are left alone. */
int ledger_outbox_done(struct ledger *l, int64_t id, struct problem *why);

#endif
