/* SPDX-License-Identifier: MIT */
/* Inside the native front end: a connection and its verbs. */
#ifndef FERRY_NATIVE_INSIDE_H
#define FERRY_NATIVE_INSIDE_H

#include <stdatomic.h>
#include <sys/queue.h>

#include <keel/lock.h>

#include "native/native.h"
#include "transfer/transfer.h"
#include "wire/link.h"
#include "wire/room.h"

/* What may be changed while it runs; under native's lock, and in each
 * connection as it was when that began. */
struct native_limits {
    enum registration registration;
    unsigned connections_max, sessions_max;
    keel_ns handshake_timeout, login_timeout;
};

/* Invariants:
 *   `actor.account` is 0 until a login verb succeeded, and then stays
 *   `login` is the one exchange of SCRAM messages in progress, or NULL
 *   `puts` holds the open uploads, by the id of their `put` request
 *   `transfers` holds the transfers that conn_watch looks after; it runs while
 *   there are any, and is one of the holders
 * All is touched by the connection's own loop only, but what is said to be
 * under a lock: `actor` is written under native's lock, and `counted` is the
 * link from its opening until the connection leaves native's list. */
struct put;
struct watched;
struct conn {
    TAILQ_ENTRY(conn) node; /* under native's lock */
    struct link *counted;   /* likewise */
    int64_t since;          /* seconds since 1970 */
    struct native *native;
    struct native_limits limits;
    struct problem away; /* it is told this, and no more; or PROBLEM_NONE */
    struct keel_loop *loop;
    struct keel_co *co;         /* conn_run's, while it runs */
    struct keel_stream *stream; /* until the link has it */
    struct link *link;
    char peer[KEEL_ADDRESS_BYTES];
    char id[9]; /* in log lines */
    struct actor actor;
    struct login *login;
    char asked[ACCOUNT_NAME_BYTES + 1]; /* whose name `login` was begun with */
    unsigned holders;          /* conn_run, a farewell; under native's lock */
    _Atomic unsigned requests; /* in progress; written by its loop */
    struct keel_event quiet;   /* set while there is none */
    struct keel_semaphore
        hashing; /* verbs that read whole files: 2 at a time */
    struct keel_semaphore large;
    struct keel_semaphore moving; /* transfers that move data: 16 at a time */
    LIST_HEAD(, put) puts;
    LIST_HEAD(, watched) transfers;
    bool watching;
    uint64_t watched;            /* so far */
    struct keel_event unwatched; /* set while `transfers` is empty */
    struct keel_lock look;       /* for what follows */
    const struct verb *verb;     /* of the request that began last */
    char shown[48];              /* the beginning of its path */
};

/* A transfer whose rights are looked at while it runs: its coroutine is
 * cancelled when they have gone, and finds in `why` what for. */
struct watched {
    LIST_ENTRY(watched) node;
    struct keel_co *co;
    uint64_t number;
    bool looked; /* at, in this round */
    int64_t space;
    const struct path *path;
    enum right need;
    struct problem why; /* PROBLEM_NONE: it goes on */
};
/* `w` is the caller's, filled but for `node`, `co` and `why`, until conn_unwatch,
 * which returns `rc`, or the refusal if there was one. */
void conn_watch(struct conn *c, struct watched *w);
int conn_unwatch(struct conn *c, struct watched *w, int rc,
                 struct problem *why);
/* The account, its device and a right, as they are now. */
int conn_still(struct conn *c, int64_t space, const struct path *path,
               enum right need, struct problem *why);
/* The last one to let go closes the link, which joins its handlers: these find
 * that there is nothing to hold any more. */
bool conn_hold(struct conn *c);
void conn_drop(struct conn *c);
/* For link_options.request. */
int conn_request(struct exchange *x, const char *verb, const json_t *body,
                 void *arg, struct problem *why);
void native_limits(struct native *n, const struct native_options *o);
/* The actor of `c`, from here on; SESSIONS_MOST. */
int conn_logged_in(struct conn *c, const struct actor *who,
                   struct problem *why);
/* Tells the peer `why` and ends the connection; under native's lock, from any
 * loop.  -ENOMEM, -EAGAIN: its loop is ending, and with it the connection. */
int conn_dismiss(struct conn *c, const struct problem *why, keel_ns quiet_by);

struct native {
    struct native_options o;
    struct keel_lock lock; /* for what follows; never held across a wait */
    TAILQ_HEAD(, conn) conns;
    struct native_limits limits;
    uint64_t bytes_in, bytes_out; /* of the connections that are over */
    unsigned count;
    unsigned away; /* that are told so, and not counted */
    bool stopping, full;
    struct keel_event changed; /* count or away went down */
    struct room small;         /* for small files on their way in */
    struct {
        _Atomic uint64_t accepted, refused, logins, logins_refused, requests;
        _Atomic uint64_t puts, gets;
        struct {
            _Atomic uint64_t ok, refused, cut;
        } verbs[NATIVE_VERBS];
    } counters;
};

/* A request.  `space` and `path` are those of verbs that name a right, which
 * the actor has been found to have there. */
struct request {
    const json_t *body;
    int64_t space;
    struct path path;
};

/* A verb: who may use it, and what it does.  A handler ends in
 * exchange_answer, or returns a negative errno with `why` filled. */
typedef int verb_fn(struct conn *c, struct exchange *x, const struct request *q,
                    struct problem *why);
enum verb_needs { VERB_EARLY, /* before login only */ VERB_LOGIN };
enum verb_log {
    LOG_LOUD,  /* an info line when it has ended well: it changed something */
    LOG_LARGE, /* when it moved more than a small file */
    LOG_QUIET, /* a debug line */
};
struct verb {
    const char *name;
    enum verb_needs needs;
    enum right right; /* at the request's "path"; the vault may want more */
    enum verb_log log;
    enum verb_gate {
        GATE_NONE,
        GATE_GET,   /* it waits for the client's credit */
        GATE_HASH,  /* it may read a whole file */
        GATE_QUICK, /* it ends by itself, and soon */
    } gate;
    verb_fn *run;
    bool large; /* its answer may be: one at a time on a connection, since a
                   client that does not read lets all of them wait in memory */
};
const struct verb *verb_find(const char *name);
/* Its place in the counters; NULL: of what names no verb. */
unsigned verb_number(const struct verb *v);

/* verbs_people.c */
verb_fn verb_register, verb_login_start, verb_login_finish, verb_login_device,
    verb_device_add, verb_device_remove, verb_device_list, verb_whoami,
    verb_password, verb_spaces, verb_ping;
/* verbs_files.c */
verb_fn verb_list, verb_stat, verb_hash, verb_leaves, verb_get;
/* verbs_names.c */
verb_fn verb_mkdir, verb_link, verb_set, verb_move, verb_remove;
/* verbs_put.c */
verb_fn verb_put, verb_put_commit, verb_put_leaves;
/* verbs_uploads.c */
verb_fn verb_uploads, verb_upload_drop;
/* For link_options.gate and inline_bytes. */
unsigned verb_gate(const json_t *body, void *arg);
size_t verb_put_inline(const json_t *body, void *arg);

/* Verbs that may read a whole file, and transfers that move data and so hold
 * buffers, take turns: one connection must not have the disk, the pool and all
 * buffers for its hundreds of requests.  CANCELLED */
int conn_hashing_begin(struct conn *c, struct problem *why);
void conn_hashing_end(struct conn *c);
int conn_transfer_begin(struct conn *c, struct problem *why);
void conn_transfer_end(struct conn *c);

/* Fields that several verbs have. */
int field_path(const json_t *body, const char *key, struct path *ret,
               struct problem *why);
/* "space": absent is the actor's home. */
int field_space(struct conn *c, const json_t *body, int64_t *ret,
                struct problem *why);
/* Bytes as a string or {"b64"}, `least` to `most` of them, no NUL inside; for
 * keel_free. */
int field_raw(const json_t *body, const char *key, size_t least, size_t most,
              char **ret, struct problem *why);
int field_hash(const json_t *body, enum chunk_hash *ret, struct problem *why);
/* "match": absent leaves *ret_given false. */
int field_match(const json_t *body, enum chunk_hash hash, bool *ret_given,
                struct digest *ret, struct problem *why);
/* {"key": value} or NULL; takes value. */
json_t *json_one(const char *key, json_t *value);
/* Answers with `ok`, or with NO_MEMORY when it is NULL. */
int answer(struct exchange *x, json_t *ok, struct problem *why);

#endif
