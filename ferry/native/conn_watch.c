/* SPDX-License-Identifier: MIT */
/* What may change in the middle: an account is disabled, a device removed, a
 * grant withdrawn.  A request is looked at when it begins; transfers, which
 * last, are looked at again every second by one coroutine of their connection,
 * as long as there are any. */
#include <errno.h>
#include <string.h>

#include <keel/base.h>

#include "native/native_inside.h"

/* How long somebody who has lost a right may still move data. */
#define WATCH_EVERY KEEL_SECOND

int conn_still(struct conn *c, int64_t space, const struct path *path,
               enum right need, struct problem *why)
{
    struct accounts *a = c->native->o.accounts;
    int rc = account_still(a, &c->actor, why);

    return rc < 0 ? rc : account_may(a, &c->actor, space, path, need, why);
}

/* The look may wait for the ledger, and the transfer be over by then. */
static void watch_one(struct conn *c, struct watched *w)
{
    struct problem why = {.id = PROBLEM_NONE};
    struct path path = *w->path;
    uint64_t number = w->number;
    int rc;

    w->looked = true;
    rc = conn_still(c, w->space, &path, w->need, &why);
    LIST_FOREACH (w, &c->transfers, node) {
        if (w->number == number)
            break;
    }
    if (!w || rc >= 0 || why.id == PROBLEM_CANCELLED)
        return;
    w->why = why;
    keel_cancel(w->co);
}

static void watch_round(struct conn *c)
{
    struct watched *w;

    LIST_FOREACH (w, &c->transfers, node)
        w->looked = false;
    for (w = LIST_FIRST(&c->transfers); w;) {
        if (w->looked) {
            w = LIST_NEXT(w, node);
            continue;
        }
        watch_one(c, w);
        w = LIST_FIRST(&c->transfers);
    }
}

/* Woken because the last transfer was over: by the time this runs there may be
 * another, which relies on it. */
static int watch_run(void *arg)
{
    struct conn *c = arg;
    int rc;

    do {
        rc = keel_event_wait(&c->unwatched, keel_after(WATCH_EVERY));
        if (rc == -ETIMEDOUT)
            watch_round(c);
    } while (rc == -ETIMEDOUT || (rc >= 0 && !LIST_EMPTY(&c->transfers)));
    c->watching = false;
    conn_drop(c);
    return 0;
}

void conn_watch(struct conn *c, struct watched *w)
{
    struct keel_spawn how = {.name = "watch", .loop = c->loop};

    w->number = ++c->watched;
    w->co = keel_current();
    w->why.id = PROBLEM_NONE;
    LIST_INSERT_HEAD(&c->transfers, w, node);
    keel_event_clear(&c->unwatched);
    if (c->watching || !conn_hold(c))
        return;
    c->watching = true;
    if (keel_spawn(&how, watch_run, c, NULL) < 0) {
        /* Memory is out, or the loop ends: looked at when it began, and when
         * it is published. */
        c->watching = false;
        conn_drop(c);
    }
}

int conn_unwatch(struct conn *c, struct watched *w, int rc, struct problem *why)
{
    LIST_REMOVE(w, node);
    if (LIST_EMPTY(&c->transfers))
        keel_event_set(&c->unwatched);
    if (rc >= 0 || w->why.id == PROBLEM_NONE)
        return rc;
    *why = w->why;
    return -problem_row(why->id)->errno_;
}
