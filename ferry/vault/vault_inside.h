/* SPDX-License-Identifier: MIT */
/* Inside the vault: what its files share. */
#ifndef FERRY_VAULT_INSIDE_H
#define FERRY_VAULT_INSIDE_H

#include <stdatomic.h>
#include <sys/queue.h>

#include <keel/base.h>
#include <keel/lock.h>

#include "store.h"
#include "vault.h"

/* Two changes of a file within one tick of the kernel's clock cannot be told
 * apart by its times: 4 ms at HZ=250, 10 at HZ=100. */
#define CLOCK_TICK (10 * KEEL_MS)

/* The directory of a space never changes; what it holds is a look at most
 * SPACE_FRESH old, good for an early refusal and nothing else: the ledger
 * decides. */
#define SPACE_FRESH KEEL_SECOND
#define SPACE_MEMOS 64
struct space_memo {
    struct ledger_space space; /* id 0: empty */
    keel_ns looked;
};

#define CLAIM_BUCKETS 64

/* `claims` are the open drafts that can be resumed, by their key; both tables
 * are read and written under `lock`, never held across a wait. */
struct vault {
    struct store *store;
    struct ledger *ledger;
    struct accounts *accounts;
    struct buffer_pool *buffers;
    struct lists *lists;
    struct committer *committer;
    _Atomic int64_t draft_ttl_s;
    _Atomic bool no_tmpfile; /* the file system refused one */
    _Atomic unsigned open_drafts;

    /* trash.c */
    uint64_t run;
    _Atomic uint64_t trash_next;
    _Atomic bool sweep_stop;
    struct keel_thread *sweeper;

    struct keel_lock lock;
    struct draft *claims[CLAIM_BUCKETS];
    struct keel_cond released; /* a claim went */
    struct space_memo memos[SPACE_MEMOS];
    unsigned next_memo;
};

int64_t vault_now_s(void);
/* With `fresh`, not older than this call. */
int vault_space(struct vault *v, int64_t space, bool fresh,
                struct ledger_space *ret, struct problem *why);
/* As store_problem, with numbers for a full disk. */
int vault_problem(struct vault *v, struct problem *why, int rc,
                  const char *path, uint64_t size);
/* The bytes of `path` before its leaf's slash: its parent's length. */
size_t parent_size(const char *path);
const char *leaf_of(const char *path);

/* What an upload's or a setting's mode becomes on disk: its permission bits, and
 * what the server needs whatever the sender says. */
mode_t file_mode(mode_t mode);
mode_t dir_mode(mode_t mode);
/* account_may, and the space. */
int vault_may(struct vault *v, const struct actor *who, int64_t space,
              const struct path *path, enum right need,
              struct ledger_space *ret, struct problem *why);
/* To write, or (`drop`) only to make what is not there. */
int vault_may_add(struct vault *v, const struct actor *who, int64_t space,
                  const struct path *path, bool *ret_drop, struct problem *why);

/* ---- drafts ------------------------------------------------------------- */
/*   SMALL     no name, no row, no journal: up to one chunk
 *     |       where the file system has O_TMPFILE
 *     +-- LINKED  it got its name under drafts/, to be renamed from there
 *   REGISTERED    a name, a row with its reservation, a journal: resumable
 *   THERE         nothing: its account has published it there before
 */
enum draft_kind { DRAFT_SMALL, DRAFT_LINKED, DRAFT_REGISTERED, DRAFT_THERE };

struct draft {
    struct vault *vault;
    enum draft_kind kind;
    uint8_t id[DRAFT_ID_BYTES];
    int64_t space, account;
    char space_dir[33];
    uint64_t size;
    enum chunk_hash hash;
    int64_t mtime_ns;
    mode_t mode;
    uint8_t source[16];
    bool no_replace, has_match;
    bool fresh; /* its sender wants a name that was not there */
    bool drop;  /* its sender may not replace, nor learn what is there */
    struct digest match;
    int dir;        /* the parent, as it was when the draft was opened */
    int drafts_dir; /* drafts/NN; -1 while it has no name there */
    struct part *part;
    bool claimed;
    bool sync_failed;       /* dropped: nothing that is left of it counts */
    struct keel_co *holder; /* NULL, or who can be asked to let go */
    bool leaving;           /* was asked, or has no more to do with it */
    struct draft *next_claim;
    char path[]; /* in the space */
};

/* Its row, as the ledger wants it. */
struct ledger_draft draft_row(const struct draft *d);
/* Its sender is about to be answered and has no more to do with it: the holder's
 * coroutine may end, while the draft has still to go. */
void draft_leave(struct draft *d);
/* Opens d->drafts_dir, made if needed. */
int draft_open_drafts_dir(struct draft *d);
/* There is something under its name: FILE_EXISTS, or RIGHT_MISSING. */
int draft_refused(const struct draft *d, struct problem *why);
/* FILE_MATCH unless the name has the root that the sender expects. */
int draft_match(struct draft *d, struct problem *why);
/* After a failed sync: files, row and reservation go, `d` stays to be closed. */
void draft_condemn(struct draft *d);
/* Frees it, leaving whatever there is on disk and in the ledger. */
void draft_free(struct draft *d);

/* ---- the committer ------------------------------------------------------ */
struct committer;
int committer_open(struct vault *v, struct committer **ret,
                   struct problem *why);
/* Finishes what is waiting and settles it. */
void committer_close(struct committer *c); /* accepts NULL */
/* Steps 1 to 6 of vault.h for one draft, which it frees on success. */
int committer_publish(struct committer *c, struct draft *d,
                      const struct digest *root, enum vault_level level,
                      struct problem *why);
/* For tests: with `hold`, what arrives waits until it is let go, and is then
 * one group. */
void committer_hold(struct committer *c, bool hold);
/* How many wait: for a lane, or for a name. */
unsigned committer_waiting(struct committer *c);
/* Until every publish so far is settled or stuck. */
void committer_drain(struct committer *c);
/* What is durable under the name and the ledger is still to hear of in full: 1
 * and the file.  0: ask the ledger.  -EAGAIN: ask it too, but disk and ledger may
 * differ until committer_await has returned. */
int committer_knows(struct committer *c, int64_t space, const char *path,
                    struct ledger_file *ret);
/* Returns when nobody has the name in his hands.  -ECANCELED.  Not on a pool
 * thread, where the steps that are waited for run, and not for a name that the
 * caller holds. */
int committer_await(struct committer *c, int64_t space, const char *path);

/* ---- names that are being changed (names.c) ------------------------------- */
enum name_kind { NAME_TREE, NAME_LEAF, NAME_MADE, NAME_USED };
struct name_hold {
    TAILQ_ENTRY(name_hold) link;
    enum name_kind kind;
    bool stuck;
    int64_t space;
    size_t made;           /* MADE: what of the path was not there */
    const char *path, *to; /* in text; to: NULL, or TREE's second one */
    char text[];
};
/* NULL: no memory.  For keel_free until it is held. */
struct name_hold *name_hold_new(enum name_kind kind, int64_t space,
                                const char *path, const char *to);
/* Waits until all who came before are gone.  FILE_BUSY, SYNC_FAILED (stuck),
 * CANCELLED; it is then not held. */
int committer_hold_name(struct committer *c, struct name_hold *h,
                        struct problem *why);
/* MADE: more of the path turned out to be there. */
void committer_narrow_name(struct committer *c, struct name_hold *h,
                           size_t made);
/* Frees it. */
void committer_drop_name(struct committer *c, struct name_hold *h);
/* Leaves it to the committer, and to a restart. */
void committer_stick_name(struct committer *c, struct name_hold *h);

/* ---- directories synced together (dirsync.c) -------------------------------- */
struct dir_request {
    STAILQ_ENTRY(dir_request) link;
    int dir; /* borrowed */
    uint64_t device, inode;
    struct dir_request *leader; /* one for the same directory, or NULL */
    int result;
    bool done;
};
STAILQ_HEAD(dir_requests, dir_request);
/* `dir` is a file or directory: its own sync. */
int dir_request_fill(struct dir_request *ret, int dir);
/* Returns when all are on stable storage; not cancelled. */
int committer_sync_dirs(struct committer *c, struct dir_request *r,
                        unsigned count);

/* ---- what was removed (trash.c) ---------------------------------------------- */
#define TRASH_NAME_BYTES 64
/* A name in the trash that nobody had. */
void trash_name(struct vault *v, char ret[TRASH_NAME_BYTES]);
/* Takes apart what lies under a trash_name; what cannot be removed stays for
 * another start. */
void trash_empty(struct vault *v, const char *tree, struct vault_removed *ret);
/* What earlier runs left: at once, or aside when it is much. */
int trash_sweep(struct vault *v, struct problem *why);
void trash_stop(struct vault *v);

/* ---- spaces from before directories and links were counted (check.c) ------ */
/* Each of those gets its row. */
int vault_adopt(struct vault *v, const struct ledger_space *space,
                uint64_t *ret_names, struct problem *why);

/* ---- recovery ------------------------------------------------------------- */
/* What a crash left: intents, then drafts. */
int vault_recover(struct vault *v, struct problem *why);

/* ---- reading --------------------------------------------------------------- */
/* The digest that the ledger knows for what lies there now; 0 when none. */
enum chunk_hash known_digest(struct vault *v, int64_t space, const char *path,
                             const struct statx *now, struct digest *ret);
/* The root of the file, from the ledger or by reading, and its size. */
int read_digest(struct vault *v, int64_t space, int64_t account,
                const char *space_dir, const char *path, enum chunk_hash hash,
                struct digest *ret, uint64_t *ret_size, struct problem *why);
/* What the account itself published under the name, when that is still what lies
 * there: 1.  0: something else, or nothing.  Who has the name in his hands is
 * waited for. */
int read_published(struct vault *v, int64_t space, int64_t account,
                   const char *space_dir, const char *path,
                   struct ledger_file *ret, struct problem *why);

#endif
