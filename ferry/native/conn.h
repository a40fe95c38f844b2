/* SPDX-License-Identifier: MIT */
/* Inside the native front end: a connection and its verbs. */
#ifndef FERRY_CONN_H
#define FERRY_CONN_H

#include <sys/queue.h>

#include <keel/lock.h>

#include "native/native.h"
#include "transfer/transfer.h"
#include "wire/link.h"
#include "wire/room.h"

/* Invariants:
 *   `actor.account` is 0 until a login verb succeeded, and then stays
 *   `login` is the one exchange of SCRAM messages in progress, or NULL
 *   `puts` holds the open uploads, by the id of their `put` request
 * All but `node` and `loop` is touched by the connection's own loop only. */
struct put;
struct conn {
    TAILQ_ENTRY(conn) node; /* under native's lock */
    struct native *native;
    struct keel_loop *loop;
    struct keel_co *co;         /* conn_run's, while it runs */
    struct keel_stream *stream; /* until the link has it */
    struct link *link;
    char peer[KEEL_ADDRESS_BYTES];
    char id[9]; /* in log lines */
    struct actor actor;
    struct login *login;
    unsigned holders;        /* conn_run, a farewell; under native's lock */
    unsigned requests;       /* in progress */
    struct keel_event quiet; /* set while there is none */
    struct keel_semaphore
        hashing; /* verbs that read whole files: 2 at a time */
    struct keel_semaphore large;
    struct keel_semaphore moving; /* transfers that move data: 16 at a time */
    LIST_HEAD(, put) puts;
};

struct native {
    struct native_options o;
    struct keel_lock
        lock; /* conns, count, stopping; never held across a wait */
    TAILQ_HEAD(, conn) conns;
    unsigned count;
    bool stopping;
    struct keel_event changed; /* count went down */
    struct room small;         /* for small files on their way in */
};

/* A verb: who may use it, and what it does.  A handler ends in
 * exchange_answer, or returns a negative errno with `why` filled. */
typedef int verb_fn(struct conn *c, struct exchange *x, const json_t *body,
                    struct problem *why);
enum verb_needs { VERB_EARLY, /* before login only */ VERB_LOGIN };
struct verb {
    const char *name;
    enum verb_needs needs;
    verb_fn *run;
    bool large; /* its answer may be: one at a time on a connection, since a
                   client that does not read lets all of them wait in memory */
};
const struct verb *verb_find(const char *name);

/* verbs_people.c */
verb_fn verb_register, verb_login_start, verb_login_finish, verb_login_device,
    verb_device_add, verb_device_remove, verb_device_list, verb_whoami,
    verb_ping;
/* verbs_files.c */
verb_fn verb_list, verb_stat, verb_hash, verb_leaves, verb_get;
/* verbs_put.c */
verb_fn verb_put, verb_put_commit, verb_put_leaves;
/* For link_options.inline_bytes. */
size_t verb_put_inline(const json_t *body, void *arg);

/* Verbs that may read a whole file, and transfers that move data and so hold
 * buffers, take turns: one connection must not have the disk, the pool and all
 * buffers for its hundreds of requests.  CANCELLED */
int conn_hashing_begin(struct conn *c, struct problem *why);
void conn_hashing_end(struct conn *c);
int conn_transfer_begin(struct conn *c, struct problem *why);
void conn_transfer_end(struct conn *c);

/* Fields that several verbs have. */
int field_path(const json_t *body, struct path *ret, struct problem *why);
int field_hash(const json_t *body, enum chunk_hash *ret, struct problem *why);
/* "match": absent leaves *ret_given false. */
int field_match(const json_t *body, enum chunk_hash hash, bool *ret_given,
                struct digest *ret, struct problem *why);
/* {"key": value} or NULL; takes value. */
json_t *json_one(const char *key, json_t *value);
/* Answers with `ok`, or with NO_MEMORY when it is NULL. */
int answer(struct exchange *x, json_t *ok, struct problem *why);

#endif
