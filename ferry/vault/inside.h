/* SPDX-License-Identifier: MIT */
/* Inside the vault: what its files share. */
#ifndef FERRY_VAULT_INSIDE_H
#define FERRY_VAULT_INSIDE_H

#include <stdatomic.h>

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
    struct committer *committer;
    int64_t draft_ttl_s;
    _Atomic bool no_tmpfile; /* the file system refused one */
    _Atomic unsigned open_drafts;

    struct keel_lock lock;
    struct draft *claims[CLAIM_BUCKETS];
    struct keel_cond released; /* a claim went */
    struct space_memo memos[SPACE_MEMOS];
    unsigned next_memo;
};

/* A path for words: "/a/b", cut to what a problem can carry. */
struct shown {
    char text[PROBLEM_TEXT_BYTES];
};
struct shown shown_path(const char *path);

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

/* ---- drafts ------------------------------------------------------------- */
/*   SMALL     no name, no row, no journal: up to one chunk
 *     |       where the file system has O_TMPFILE
 *     +-- LINKED  it got its name under drafts/, to be renamed from there
 *   REGISTERED    a name, a row with its reservation, a journal: resumable
 */
enum draft_kind { DRAFT_SMALL, DRAFT_LINKED, DRAFT_REGISTERED };

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
    struct digest match;
    int dir;        /* the parent, as it was when the draft was opened */
    int drafts_dir; /* drafts/NN; -1 while it has no name there */
    struct part *part;
    bool claimed;
    bool sync_failed;       /* dropped: nothing that is left of it counts */
    struct keel_co *holder; /* NULL, or who can be asked to let go */
    bool leaving;           /* and was */
    struct draft *next_claim;
    char path[]; /* in the space */
};

/* Owner's bits only, and readable to the server whatever the sender says. */
mode_t draft_mode(const struct draft *d);
/* Its row, as the ledger wants it. */
struct ledger_draft draft_row(const struct draft *d);
/* Opens d->drafts_dir, made if needed. */
int draft_open_drafts_dir(struct draft *d);
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

/* ---- recovery ------------------------------------------------------------- */
/* What a crash left: intents, then drafts. */
int vault_recover(struct vault *v, struct problem *why);

/* ---- reading --------------------------------------------------------------- */
/* The digest that the ledger knows for what lies there now; 0 when none. */
enum chunk_hash known_digest(struct vault *v, int64_t space, const char *path,
                             const struct statx *now, struct digest *ret);
/* The root of the file, from the ledger or by reading. */
int read_digest(struct vault *v, int64_t space, int64_t account,
                const char *space_dir, const char *path, enum chunk_hash hash,
                struct digest *ret, struct problem *why);

#endif
