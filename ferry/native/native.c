/* SPDX-License-Identifier: MIT */
/* The life of a connection: accepted, placed, shaken hands with, logged in,
 * served, drained. */
#include "native/native.h"

#include <errno.h>
#include <inttypes.h>
#include <stdio.h>
#include <string.h>

#include <keel/base.h>

#include "base/log.h"
#include "native/native_inside.h"

/* Small files that came with their requests, of all connections together: what
 * is neither written nor refused yet, and the stacks and drafts of those that
 * wait for the disk.  A connection that finds no room is not read. */
#define SMALL_ROOM ((size_t)16 << 20)
#define SMALL_COST ((size_t)32 << 10)

/* Newcomers beyond the cap, or while it stops, are told so: as many at a time,
 * and each within this time for TLS, and again for its HELLO. */
#define AWAY_MOST 16
#define AWAY_TIME (2 * KEEL_SECOND)

void native_limits(struct native *n, const struct native_options *o)
{
    struct native_limits l = {
        .registration = o->registration,
        .connections_max = o->connections_max ? o->connections_max : 1000,
        .sessions_max = o->sessions_max,
        .handshake_timeout =
            o->handshake_timeout ? o->handshake_timeout : 10 * KEEL_SECOND,
        .login_timeout = o->login_timeout ? o->login_timeout : 30 * KEEL_SECOND,
    };

    n->limits = l;
}

int native_new(const struct native_options *o, struct native **ret)
{
    struct native *n;

    keel_assert(o->loop_count > 0);
    n = keel_calloc(1, sizeof(*n));
    if (!n)
        return -ENOMEM;
    n->o = *o;
    native_limits(n, o);
    keel_lock_init(&n->lock);
    keel_event_init(&n->changed);
    room_init(&n->small, SMALL_ROOM);
    TAILQ_INIT(&n->conns);
    *ret = n;
    return 0;
}

void native_free(struct native *n)
{
    if (!n)
        return;
    keel_assert(TAILQ_EMPTY(&n->conns));
    room_fini(&n->small);
    keel_event_fini(&n->changed);
    keel_lock_fini(&n->lock);
    keel_free(n);
}

unsigned native_connections(const struct native *n)
{
    return __atomic_load_n(&n->count, __ATOMIC_RELAXED);
}

/* ---- one connection --------------------------------------------------------- */

#define HASHING_MOST 2
#define MOVING_MOST 16

static int take_turn(struct keel_semaphore *s, struct problem *why)
{
    if (keel_semaphore_take(s, KEEL_FOREVER) < 0)
        return problem(why, CANCELLED);
    return 0;
}

int conn_hashing_begin(struct conn *c, struct problem *why)
{
    return take_turn(&c->hashing, why);
}

int conn_transfer_begin(struct conn *c, struct problem *why)
{
    return take_turn(&c->moving, why);
}

void conn_transfer_end(struct conn *c)
{
    keel_semaphore_give(&c->moving);
}

void conn_hashing_end(struct conn *c)
{
    keel_semaphore_give(&c->hashing);
}

static json_t *conn_hello(const struct conn *c)
{
    static const char *const word[] = {"open", "invite", "closed"};

    return json_pack("{s:s, s:s}", "registration", word[c->limits.registration],
                     "connection", c->id);
}

/* TLS, then HELLO: the link owns the stream afterwards. */
static int conn_shake(struct conn *c, struct problem *why)
{
    struct native *n = c->native;
    struct link_options o = {
        .server = true,
        .agent = n->o.agent,
        .requests_max = 256,
        .hello_timeout = c->limits.handshake_timeout,
        .request = conn_request,
        .inline_bytes = verb_put_inline,
        .room = &n->small,
        .inline_cost = SMALL_COST,
        .gate = verb_gate,
        .arg = c,
    };
    int rc;

    if (n->o.tls) {
        struct keel_stream *tls;

        rc = keel_tls_accept(n->o.tls, c->stream,
                             keel_after(c->limits.handshake_timeout), &tls);
        if (rc < 0)
            return problem(why, CONNECT_TLS, .errno_ = -rc, .name = c->peer,
                           .detail = keel_tls_error());
        c->stream = tls;
    }
    o.hello = conn_hello(c);
    if (!o.hello)
        return problem(why, NO_MEMORY);
    rc = link_open(c->stream, &o, &c->link, why);
    json_decref(o.hello);
    if (rc < 0)
        return rc;
    c->stream = NULL;
    keel_guard(&n->lock);
    c->counted = c->link;
    return 0;
}

/* Serves until the peer leaves, breaks the protocol, does not log in in time,
 * or conn_farewell ends the link. */
static int conn_serve(struct conn *c, struct problem *why)
{
    int rc = link_wait(c->link, keel_after(c->limits.login_timeout), why);

    if (rc != -ETIMEDOUT)
        return rc;
    if (c->actor.account != 0)
        return link_wait(c->link, KEEL_FOREVER, why);
    rc =
        problem(why, LOGIN_SLOW, .when = c->limits.login_timeout / KEEL_SECOND);
    link_goodbye(c->link, why, keel_after(KEEL_SECOND));
    return rc;
}

bool conn_hold(struct conn *c)
{
    keel_guard(&c->native->lock);

    if (c->holders == 0)
        return false;
    c->holders++;
    return true;
}

/* It is no longer counted among those that are here. */
static void conn_leave(struct native *n, struct conn *c)
{
    uint64_t in = 0, out = 0;

    if (c->counted)
        link_counters(c->counted, &in, &out);
    c->counted = NULL;
    n->bytes_in += in;
    n->bytes_out += out;
    TAILQ_REMOVE(&n->conns, c, node);
}

void conn_drop(struct conn *c)
{
    struct native *n = c->native;
    bool away = c->away.id != PROBLEM_NONE, last;

    {
        keel_guard(&n->lock);
        last = --c->holders == 0;
        if (last && !away)
            conn_leave(n, c);
    }
    if (!last)
        return;
    link_close(c->link);
    keel_stream_close(c->stream);
    login_free(c->login);
    keel_assert(LIST_EMPTY(&c->puts) && LIST_EMPTY(&c->transfers));
    keel_semaphore_fini(&c->hashing);
    keel_semaphore_fini(&c->moving);
    keel_semaphore_fini(&c->large);
    keel_event_fini(&c->quiet);
    keel_event_fini(&c->unwatched);
    keel_lock_fini(&c->look);
    keel_free(c);
    /* Under the lock: native_free may follow the last one at once. */
    keel_guard(&n->lock);
    if (away)
        n->away--;
    else
        __atomic_store_n(&n->count, n->count - 1, __ATOMIC_RELAXED);
    keel_event_set(&n->changed);
}

static int conn_run(void *arg)
{
    struct conn *c = arg;
    struct problem why = {0};
    char words[600], said[512];
    int rc;

    c->co = keel_current();
    log_debug("conn=%s peer=%s open", c->id, c->peer);
    rc = conn_shake(c, &why);
    if (rc == 0 && c->away.id != PROBLEM_NONE)
        link_goodbye(c->link, &c->away, keel_after(KEEL_SECOND));
    else if (rc == 0)
        rc = conn_serve(c, &why);
    if (rc < 0 && rc != -ECANCELED && why.id != PROBLEM_NONE &&
        c->away.id == PROBLEM_NONE) {
        problem_sentence(&why, said, sizeof(said));
        log_info("conn=%s peer=%s account=%s closed result=%s words=%s", c->id,
                 c->peer, c->actor.account ? c->actor.name : "-",
                 problem_code(&why),
                 text_quote_shown(said, words, sizeof(words)));
    } else {
        log_debug("conn=%s peer=%s closed", c->id, c->peer);
    }
    c->co = NULL;
    conn_drop(c);
    return 0;
}

/* Under native's lock. */
static unsigned sessions_of(const struct native *n, int64_t account)
{
    unsigned count = 0;
    struct conn *c;

    TAILQ_FOREACH (c, &n->conns, node)
        count += c->actor.account == account;
    return count;
}

int conn_logged_in(struct conn *c, const struct actor *who, struct problem *why)
{
    struct native *n = c->native;
    unsigned most;

    {
        keel_guard(&n->lock);
        most = n->limits.sessions_max;
        if (most == 0 || sessions_of(n, who->account) < most) {
            c->actor = *who;
            most = 0;
        }
    }
    if (most > 0)
        return problem(why, SESSIONS_MOST, .limit = most, .name = who->name);
    n->counters.logins++;
    link_trust(c->link);
    log_info("conn=%s peer=%s account=%s logged in %s", c->id, c->peer,
             who->name, who->device ? "by device" : "by password");
    return 0;
}

/* ---- accepting --------------------------------------------------------------- */

static struct keel_loop *least_loaded(const struct native *n)
{
    struct keel_loop *best = n->o.loops[0];

    for (unsigned i = 1; i < n->o.loop_count; i++) {
        if (keel_loop_load(n->o.loops[i]) < keel_loop_load(best))
            best = n->o.loops[i];
    }
    return best;
}

/* Under native's lock: a place to be told `why` in. */
static int turn_away(struct native *n, struct conn *c)
{
    if (n->away >= AWAY_MOST)
        return n->stopping ? -ESHUTDOWN : -EUSERS;
    n->away++;
    if (c->limits.handshake_timeout > AWAY_TIME)
        c->limits.handshake_timeout = AWAY_TIME;
    if (n->stopping)
        problem(&c->away, SERVER_STOPPING);
    else
        problem(&c->away, SERVER_FULL, .limit = c->limits.connections_max);
    return 0;
}

/* Counts a newcomer in, or, when the house is full or closing, among those that
 * are turned away. */
static int native_admit(struct native *n, struct conn *c)
{
    bool was_full, full;
    int rc = 0;

    {
        keel_guard(&n->lock);
        c->limits = n->limits;
        was_full = n->full;
        n->full = full = n->count >= n->limits.connections_max;
        if (full || n->stopping) {
            rc = turn_away(n, c);
        } else {
            __atomic_store_n(&n->count, n->count + 1, __ATOMIC_RELAXED);
            TAILQ_INSERT_TAIL(&n->conns, c, node);
            n->counters.accepted++;
        }
    }
    n->counters.refused += full;
    if (full && !was_full)
        log_warn("full: %u connections, the limit", c->limits.connections_max);
    return rc;
}

int native_connection(struct native *n, struct keel_stream *stream)
{
    struct keel_spawn how = {.name = "connection"};
    struct conn *c = keel_calloc(1, sizeof(*c));
    uint32_t id;
    int rc;

    if (!c)
        return -ENOMEM;
    c->native = n;
    c->stream = stream;
    c->holders = 1;
    LIST_INIT(&c->puts);
    LIST_INIT(&c->transfers);
    keel_lock_init(&c->look);
    keel_event_init(&c->unwatched);
    c->since = keel_wall_ns() / KEEL_SECOND;
    keel_event_init(&c->quiet);
    keel_semaphore_init(&c->hashing, HASHING_MOST, HASHING_MOST);
    keel_semaphore_init(&c->moving, MOVING_MOST, MOVING_MOST);
    keel_event_set(&c->quiet);
    keel_semaphore_init(&c->large, 1, 1);
    keel_random(&id, sizeof(id));
    snprintf(c->id, sizeof(c->id), "%08" PRIx32, id);
    if (keel_stream_peer(stream, c->peer) < 0)
        snprintf(c->peer, sizeof(c->peer), "-");
    rc = native_admit(n, c);
    if (rc < 0) {
        keel_free(c);
        return rc;
    }
    how.loop = c->loop = least_loaded(n);
    rc = keel_spawn(&how, conn_run, c, NULL);
    if (rc < 0) {
        c->stream = NULL; /* still the caller's */
        conn_drop(c);
    }
    return rc;
}

/* Somebody must close something first, or what the network did to the newcomer
 * (accept(2) lists more than a dozen) must not make the server deaf: it is tried
 * again, and the log says when that begins and when it is over. */
static int accept_failed(int error, int *was)
{
    if (error != *was)
        log_warn("accept: %s; waiting", strerror(-error));
    *was = error;
    return keel_sleep(keel_after(100 * KEEL_MS)) < 0 ? -ECANCELED : 0;
}

int native_accept(struct native *n, struct keel_listener *l)
{
    int was = 0; /* the error of the last one */

    for (;;) {
        struct keel_stream *s;
        int rc = keel_accept(l, KEEL_FOREVER, &s);

        if (rc == -ECONNABORTED || rc == -EINTR)
            continue;
        if (rc == -ECANCELED)
            return rc;
        if (rc < 0) {
            if (accept_failed(rc, &was) < 0)
                return -ECANCELED;
            continue;
        }
        if (was < 0)
            log_warn("accept: it works again");
        was = 0;
        if (native_connection(n, s) < 0)
            keel_stream_close(s);
    }
}

/* ---- draining ------------------------------------------------------------------ */

struct farewell {
    struct conn *conn;
    struct problem why;
    keel_ns quiet_by; /* until then, requests in progress are waited for */
};

static int conn_farewell(void *arg)
{
    struct farewell f = *(struct farewell *)arg;
    struct conn *c = f.conn;

    keel_free(arg);
    if (c->link) {
        if (f.quiet_by != KEEL_NOW)
            (void)keel_event_wait(&c->quiet, f.quiet_by); /* or not */
        link_goodbye(c->link, &f.why, keel_after(KEEL_SECOND));
    } else if (c->co) {
        keel_cancel(c->co);
    }
    conn_drop(c);
    return 0;
}

int conn_dismiss(struct conn *c, const struct problem *why, keel_ns quiet_by)
{
    struct keel_spawn how = {.name = "farewell", .loop = c->loop};
    struct farewell *f = keel_alloc(sizeof(*f));
    int rc;

    if (!f)
        return -ENOMEM;
    *f = (struct farewell){c, *why, quiet_by};
    c->holders++;
    rc = keel_spawn(&how, conn_farewell, f, NULL);
    if (rc < 0) {
        c->holders--;
        keel_free(f);
    }
    return rc;
}

/* Until there are none of them. */
static void native_wait(struct native *n, const unsigned *count,
                        keel_ns deadline)
{
    unsigned left;

    do {
        keel_event_clear(&n->changed);
        /* The one that left last has dropped the lock when we can take it. */
        keel_lock_hold(&n->lock);
        left = *count;
        keel_lock_drop(&n->lock);
    } while (left > 0 && keel_event_wait(&n->changed, deadline) == 0);
}

void native_drain(struct native *n, keel_ns deadline)
{
    struct problem why = {.id = PROBLEM_SERVER_STOPPING};
    struct conn *c;

    keel_lock_hold(&n->lock);
    n->stopping = true;
    /* One that cannot be told is cancelled by its loop's end. */
    TAILQ_FOREACH (c, &n->conns, node)
        (void)conn_dismiss(c, &why, deadline);
    keel_lock_drop(&n->lock);

    native_wait(n, &n->count, deadline + 2 * KEEL_SECOND);
}

void native_turned_away(struct native *n)
{
    native_wait(n, &n->away, keel_after(2 * AWAY_TIME + KEEL_SECOND));
}
