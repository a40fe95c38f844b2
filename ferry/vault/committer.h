/* SPDX-License-Identifier: MIT */
/* Inside the committer: what it shares with names.c. */
#ifndef FERRY_VAULT_COMMITTER_H
#define FERRY_VAULT_COMMITTER_H

#include <sys/queue.h>

#include <keel/lock.h>

#include "vault_inside.h"

enum {
    LANES = 2,
    GROUP_MOST = 1024,
    /* Fewer than these are faster synced one by one, in parallel. */
    GROUP_SYNCFS = 32,
    NAME_BUCKETS = 1024,
    /* A name that others keep taking from a small draft. */
    AGAIN_MOST = 8,
};
#define SETTLE_IDLE (50 * KEEL_MS)
#define SETTLE_RETRY KEEL_SECOND
/* A syncfs that took this long carries others' data: not for a while. */
#define SYNCFS_SLOW (250 * KEEL_MS)
#define SYNCFS_PAUSE KEEL_SECOND

enum publish_state { QUEUED, GROUP, SETTLING, STUCK };

struct publish {
    TAILQ_ENTRY(publish) link; /* queue or settling */
    struct publish *next_name;
    enum publish_state state;
    unsigned refs; /* the caller's and the committer's */

    struct draft *draft; /* NULL once it was used up */
    struct digest root;
    enum vault_level level;
    bool heard;    /* its caller has its answer */
    bool deferred; /* the ledger refused to settle it: nobody waits for that */
    /* Held from the start and dropped with the answer: taking a lock that
     * another drops is the one wait that neither a cancel nor a timeout ends. */
    struct keel_lock answered;
    int result;
    struct problem why;

    /* of the group that it is in */
    int rc; /* negative: it takes no part in further steps */
    int dir;
    bool exists;
    bool again;
    unsigned tries;
    struct ledger_file file;
    int64_t intent, ctime_ns;
    keel_ns settle_by;

    int64_t space;
    char path[];
};
TAILQ_HEAD(publishes, publish);

struct lane {
    struct committer *committer;
    struct keel_thread *thread;
    unsigned count, settled_count;
    struct publish *group[GROUP_MOST];
    struct publish *settling[GROUP_MOST];
    struct ledger_publish items[GROUP_MOST];
    struct publish *item_of[GROUP_MOST];
    struct ledger_settle settled[GROUP_MOST];
    struct publish *syncing[GROUP_MOST];
    struct sync_job *jobs; /* GROUP_MOST of them */
};

/* One syncfs at a time, shared by all who asked before it began. */
struct shared_sync {
    struct keel_lock lock;
    struct keel_cond changed;
    bool busy;
    uint64_t begun, ended;
    uint64_t failed; /* the last run that did */
    int failure;
    keel_ns slow_until;
};

/* One batch of directories at a time (dirsync.c). */
struct dir_syncs {
    struct keel_lock lock;
    struct keel_cond changed;
    struct dir_requests waiting;
    bool busy;
};

struct committer {
    struct vault *vault;
    struct shared_sync sync;
    struct dir_syncs dirs;

    /* All below is under `lock`, which is never held across a wait. */
    struct keel_lock lock;
    struct keel_cond changed; /* for lanes */
    struct keel_cond named;   /* a name came free, or got stuck */
    struct publishes queue, settling;
    unsigned alive;            /* publishes that are not settled or stuck */
    unsigned name_waiters;     /* with any, settling does not wait */
    keel_ns settle_after;      /* the ledger refused: not before */
    struct problem settle_why; /* likewise, the last time: why */
    bool hold, stopping;
    struct publish *names[NAME_BUCKETS];
    TAILQ_HEAD(, name_hold) holds; /* in the order in which they came */

    struct lane lanes[LANES];
};

/* -EBUSY in words: DISK_FULL where that is why intents cannot be settled, else
 * FILE_BUSY.  Under c->lock. */
int committer_busy(struct committer *c, const char *path, struct problem *why);

/* Returns when a syncfs that began after the call has ended.  A failure of a
 * later one counts too: it only makes the caller look closer. */
int shared_sync_join(struct shared_sync *s, struct store *store);
bool shared_sync_slow(struct shared_sync *s);

/* ---- names.c: all under c->lock ------------------------------------------- */

/* Waits until nobody has the name; a live intent is settled for it at once.
 * -EIO: it is stuck; -EBUSY: its intent cannot be settled now; -ECANCELED. */
int name_take(struct committer *c, struct publish *p);
void name_drop(struct committer *c, struct publish *p);
/* At the end: those stuck are recovery's. */
void holds_free(struct committer *c);

#endif
