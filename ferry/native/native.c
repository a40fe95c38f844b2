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
#include "native/conn.h"

/* Small files that came with their requests, of all connections together: what
 * is neither written nor refused yet, and the stacks and drafts of those that
 * wait for the disk.  A connection that finds no room is not read. */
#define SMALL_ROOM ((size_t)24 << 20)
#define SMALL_COST ((size_t)24 << 10)

int native_new(const struct native_options *o, struct native **ret)
{
    struct native *n;

    keel_assert(o->loop_count > 0);
    n = keel_calloc(1, sizeof(*n));
    if (!n)
        return -ENOMEM;
    n->o = *o;
    if (!n->o.connections_max)
        n->o.connections_max = 1000;
    if (!n->o.handshake_timeout)
        n->o.handshake_timeout = 10 * KEEL_SECOND;
    if (!n->o.login_timeout)
        n->o.login_timeout = 30 * KEEL_SECOND;
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

/* A request in progress keeps a stopping connection open. */
static void conn_busy(struct conn *c)
{
    if (c->requests++ == 0)
        keel_event_clear(&c->quiet);
}

static void conn_idle(struct conn *c)
{
    keel_assert(c->requests > 0);
    if (--c->requests == 0)
        keel_event_set(&c->quiet);
}

/* The one place that asks for a login. */
static int conn_verb(struct conn *c, const struct verb *v, struct exchange *x,
                     const json_t *body, struct problem *why)
{
    bool in = c->actor.account != 0;
    int rc;

    if (v->needs == VERB_LOGIN && !in)
        return problem(why, LOGIN_NEEDED);
    if (v->needs == VERB_EARLY && in)
        return problem(why, REQUEST_INVALID, .detail = "already logged in");
    conn_busy(c);
    rc = v->large ? keel_semaphore_take(&c->large, KEEL_FOREVER) : 0;
    if (rc == 0) {
        rc = v->run(c, x, body, why);
        if (v->large)
            keel_semaphore_give(&c->large);
    }
    conn_idle(c);
    return rc;
}

/* Every request comes through here. */
static int conn_request(struct exchange *x, const char *verb,
                        const json_t *body, void *arg, struct problem *why)
{
    struct conn *c = arg;
    const struct verb *v = verb_find(verb);
    bool in = c->actor.account != 0;
    int rc = v ? conn_verb(c, v, x, body, why)
               : problem(why, REQUEST_UNKNOWN, .name = verb);

    if (rc < 0 && rc != -ECANCELED) {
        char words[512];

        /* The link broke under the verb: nobody is left to be told why. */
        if (why->id == PROBLEM_NONE)
            snprintf(words, sizeof(words), "%s", strerror(-rc));
        else
            problem_sentence(why, words, sizeof(words));
        log_info("conn=%s peer=%s account=%s request=%" PRIu32 " %s: %s: %s",
                 c->id, c->peer, in ? c->actor.name : "-", exchange_id(x),
                 v ? v->name : "?",
                 why->id == PROBLEM_NONE ? "cut" : problem_code(why), words);
    }
    return rc;
}

static json_t *conn_hello(const struct conn *c)
{
    static const char *const word[] = {"open", "invite", "closed"};

    return json_one("registration",
                    json_string(word[c->native->o.registration]));
}

/* TLS, then HELLO: the link owns the stream afterwards. */
static int conn_shake(struct conn *c, struct problem *why)
{
    struct native *n = c->native;
    struct link_options o = {
        .server = true,
        .agent = n->o.agent,
        .requests_max = 256,
        .hello_timeout = n->o.handshake_timeout,
        .request = conn_request,
        .inline_bytes = verb_put_inline,
        .room = &n->small,
        .inline_cost = SMALL_COST,
        .arg = c,
    };
    int rc;

    if (n->o.tls) {
        struct keel_stream *tls;

        rc = keel_tls_accept(n->o.tls, c->stream,
                             keel_after(n->o.handshake_timeout), &tls);
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
    if (rc == 0)
        c->stream = NULL;
    return rc;
}

/* Serves until the peer leaves, breaks the protocol, does not log in in time,
 * or conn_farewell ends the link. */
static int conn_serve(struct conn *c, struct problem *why)
{
    int rc = link_wait(c->link, keel_after(c->native->o.login_timeout), why);

    if (rc != -ETIMEDOUT)
        return rc;
    if (c->actor.account != 0)
        return link_wait(c->link, KEEL_FOREVER, why);
    rc = problem(why, LOGIN_SLOW,
                 .when = c->native->o.login_timeout / KEEL_SECOND);
    link_goodbye(c->link, why, keel_after(KEEL_SECOND));
    return rc;
}

static void conn_hold(struct conn *c)
{
    c->holders++;
}

/* The last one to let go closes the link, which joins its handlers. */
static void conn_drop(struct conn *c)
{
    struct native *n = c->native;
    bool last;

    {
        keel_guard(&n->lock);
        last = --c->holders == 0;
        if (last)
            TAILQ_REMOVE(&n->conns, c, node);
    }
    if (!last)
        return;
    link_close(c->link);
    keel_stream_close(c->stream);
    login_free(c->login);
    keel_assert(LIST_EMPTY(&c->puts));
    keel_semaphore_fini(&c->hashing);
    keel_semaphore_fini(&c->moving);
    keel_semaphore_fini(&c->large);
    keel_event_fini(&c->quiet);
    keel_free(c);
    /* Under the lock: native_free may follow the last one at once. */
    keel_guard(&n->lock);
    __atomic_store_n(&n->count, n->count - 1, __ATOMIC_RELAXED);
    keel_event_set(&n->changed);
}

static int conn_run(void *arg)
{
    struct conn *c = arg;
    struct problem why = {0};
    char words[512];
    int rc;

    c->co = keel_current();
    log_debug("conn=%s peer=%s open", c->id, c->peer);
    rc = conn_shake(c, &why);
    if (rc == 0)
        rc = conn_serve(c, &why);
    if (rc < 0 && rc != -ECANCELED && why.id != PROBLEM_NONE) {
        problem_sentence(&why, words, sizeof(words));
        log_info("conn=%s peer=%s account=%s closed: %s: %s", c->id, c->peer,
                 c->actor.account ? c->actor.name : "-", problem_code(&why),
                 words);
    } else {
        log_debug("conn=%s peer=%s closed", c->id, c->peer);
    }
    c->co = NULL;
    conn_drop(c);
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

/* Counts a newcomer in, unless the house is full or closing. */
static int native_admit(struct native *n, struct conn *c)
{
    keel_guard(&n->lock);

    if (n->stopping)
        return -ESHUTDOWN;
    if (n->count >= n->o.connections_max)
        return -EUSERS;
    __atomic_store_n(&n->count, n->count + 1, __ATOMIC_RELAXED);
    TAILQ_INSERT_TAIL(&n->conns, c, node);
    return 0;
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

/* A refused newcomer is told why when that costs nothing: TLS would cost a
 * handshake, so it just sees the connection end. */
int native_accept(struct native *n, struct keel_listener *l)
{
    bool full = false;

    for (;;) {
        struct keel_stream *s;
        int rc = keel_accept(l, KEEL_FOREVER, &s);

        if (rc == -EMFILE || rc == -ENFILE || rc == -ENOBUFS || rc == -ENOMEM) {
            /* Somebody must close something first. */
            log_warn("accept: %s; waiting", strerror(-rc));
            if (keel_sleep(keel_after(100 * KEEL_MS)) < 0)
                return -ECANCELED;
            continue;
        }
        if (rc == -ECONNABORTED || rc == -EINTR)
            continue;
        if (rc == -ECANCELED)
            return rc;
        if (rc < 0) {
            /* What the network did to the newcomer (accept(2) lists more than
             * a dozen) must not make the server deaf. */
            log_warn("accept: %s", strerror(-rc));
            if (keel_sleep(keel_after(100 * KEEL_MS)) < 0)
                return -ECANCELED;
            continue;
        }
        rc = native_connection(n, s);
        if (rc < 0) {
            keel_stream_close(s);
            if (rc == -EUSERS && !full)
                log_warn("full: %u connections, the limit",
                         n->o.connections_max);
        }
        full = rc == -EUSERS;
    }
}

/* ---- draining ------------------------------------------------------------------ */

struct farewell {
    struct conn *conn;
    keel_ns deadline;
};

static int conn_farewell(void *arg)
{
    struct farewell f = *(struct farewell *)arg;
    struct conn *c = f.conn;
    struct problem bye;

    keel_free(arg);
    if (c->link) {
        keel_event_wait(&c->quiet, f.deadline);
        problem(&bye, SERVER_STOPPING);
        link_goodbye(c->link, &bye, keel_after(KEEL_SECOND));
    } else if (c->co) {
        keel_cancel(c->co);
    }
    conn_drop(c);
    return 0;
}

void native_drain(struct native *n, keel_ns deadline)
{
    struct conn *c;

    keel_lock_hold(&n->lock);
    n->stopping = true;
    TAILQ_FOREACH (c, &n->conns, node) {
        struct keel_spawn how = {.name = "farewell", .loop = c->loop};
        struct farewell *f = keel_alloc(sizeof(*f));

        if (!f)
            continue; /* its loop's end will cancel it */
        *f = (struct farewell){c, deadline};
        conn_hold(c);
        if (keel_spawn(&how, conn_farewell, f, NULL) < 0) {
            c->holders--;
            keel_free(f);
        }
    }
    keel_lock_drop(&n->lock);

    for (;;) {
        keel_event_clear(&n->changed);
        if (native_connections(n) == 0)
            break;
        if (keel_event_wait(&n->changed, deadline + 2 * KEEL_SECOND) < 0)
            break;
    }
    /* The one that left last has dropped the lock when we can take it. */
    keel_lock_hold(&n->lock);
    keel_lock_drop(&n->lock);
}
