/* SPDX-License-Identifier: MIT */
/* Who is connected, what was done, and showing somebody out. */
#include <errno.h>
#include <inttypes.h>
#include <stdio.h>
#include <string.h>

#include <keel/base.h>

#include "native/native_inside.h"

static void session_doing(struct conn *c, struct native_session *ret)
{
    char path[sizeof(ret->doing) - 24];
    keel_guard(&c->look);

    if (ret->requests == 0) {
        snprintf(ret->doing, sizeof(ret->doing), "idle");
    } else if (ret->requests > 1 || !c->verb) {
        snprintf(ret->doing, sizeof(ret->doing), "%u requests", ret->requests);
    } else {
        text_escape(c->shown, strlen(c->shown), path, sizeof(path));
        snprintf(ret->doing, sizeof(ret->doing), *path ? "%s '%s'" : "%s",
                 c->verb->name, path);
    }
}

/* Under native's lock. */
static void session_fill(struct conn *c, struct native_session *ret)
{
    memset(ret, 0, sizeof(*ret));
    memcpy(ret->id, c->id, sizeof(ret->id));
    memcpy(ret->peer, c->peer, sizeof(ret->peer));
    if (c->actor.account)
        memcpy(ret->account, c->actor.name, sizeof(ret->account));
    ret->device = c->actor.device;
    ret->since = c->since;
    ret->requests = c->requests;
    if (c->counted)
        link_counters(c->counted, &ret->bytes_in, &ret->bytes_out);
    session_doing(c, ret);
}

unsigned native_sessions(struct native *n, struct native_session *ret,
                         unsigned max)
{
    struct conn *c;
    unsigned count = 0;
    keel_guard(&n->lock);

    TAILQ_FOREACH (c, &n->conns, node) {
        if (count < max)
            session_fill(c, &ret[count]);
        count++;
    }
    return count;
}

int native_kick(struct native *n, const char *id)
{
    struct problem why = {.id = PROBLEM_SESSION_KICKED};
    struct conn *c;
    keel_guard(&n->lock);

    TAILQ_FOREACH (c, &n->conns, node) {
        if (strcmp(c->id, id) == 0)
            return conn_dismiss(c, &why, KEEL_NOW);
    }
    return -ENOENT;
}

unsigned native_kick_account(struct native *n, int64_t account,
                             const struct problem *why)
{
    unsigned count = 0;
    struct conn *c;
    keel_guard(&n->lock);

    TAILQ_FOREACH (c, &n->conns, node) {
        if (account && c->actor.account == account)
            count += conn_dismiss(c, why, KEEL_NOW) == 0;
    }
    return count;
}

void native_configure(struct native *n, const struct native_options *o)
{
    keel_guard(&n->lock);

    native_limits(n, o);
}

/* ---- counters ------------------------------------------------------------------ */

static void stats_connections(struct native *n, struct native_counters *ret)
{
    struct conn *c;
    keel_guard(&n->lock);

    ret->connections_now = n->count;
    ret->bytes_in = n->bytes_in;
    ret->bytes_out = n->bytes_out;
    TAILQ_FOREACH (c, &n->conns, node) {
        uint64_t in = 0, out = 0;

        ret->sessions_now += c->actor.account != 0;
        if (c->counted)
            link_counters(c->counted, &in, &out);
        ret->bytes_in += in;
        ret->bytes_out += out;
    }
}

void native_stats(struct native *n, struct native_counters *ret)
{
    memset(ret, 0, sizeof(*ret));
    stats_connections(n, ret);
    ret->connections_accepted = n->counters.accepted;
    ret->connections_refused = n->counters.refused;
    ret->logins = n->counters.logins;
    ret->logins_refused = n->counters.logins_refused;
    ret->requests_now = n->counters.requests;
    ret->puts_now = n->counters.puts;
    ret->gets_now = n->counters.gets;
    ret->inline_bytes_now = room_taken(&n->small);
    ret->verb_count = verb_number(NULL) + 1;
    for (unsigned i = 0; i < ret->verb_count; i++)
        ret->verbs[i] = (struct native_verb_counter){
            .ok = n->counters.verbs[i].ok,
            .refused = n->counters.verbs[i].refused,
            .cut = n->counters.verbs[i].cut,
        };
}
