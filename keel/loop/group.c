/* SPDX-License-Identifier: MIT */
#include <errno.h>
#include <string.h>

#include "loop.h"

/* Results wait for keel_group_join_any as runs of equal ones, so that a server
 * whose handlers all return 0 keeps one run, however many they were. */
struct run {
    int result;
    unsigned count;
};
#define RUNS_MOST 4096u

/* Invariants between calls, under the hold of `joiners`:
 *   alive counts the members that have entered and not ended
 *   the members linked are those that can be cancelled
 *   runs[first], runs[first + 1], ... (`runs_used` of them, modulo `room`) are
 *     the results of ended members, oldest first
 *   room >= runs_used + alive, or RUNS_MOST: then the oldest is forgotten
 *   error is the first negative result since the last join */
struct keel_group {
    struct keel_waitlist joiners;  /* woken at each end */
    struct keel_waitlist spawners; /* for room; under the same hold */
    struct body *members;
    size_t alive, limit;
    bool cancelled; /* members to come are born cancelled */
    int error;
    struct run *runs;
    unsigned first, runs_used, room;
};

static void hold(struct keel_group *g)
{
    waitlist_hold(&g->joiners);
}

static void drop(struct keel_group *g)
{
    waitlist_drop(&g->joiners);
}

int keel_group_new(size_t limit, struct keel_group **ret)
{
    struct keel_group *g = keel_calloc(1, sizeof *g);

    if (!g)
        return -ENOMEM;
    g->limit = limit;
    *ret = g;
    return 0;
}

/* ---- results ---- */

/* Room for `room` runs, out of which the old ones are copied in order. */
static void runs_move(struct keel_group *g, struct run *to, unsigned room)
{
    for (unsigned i = 0; i < g->runs_used; i++)
        to[i] = g->runs[(g->first + i) % g->room];
    g->runs = to;
    g->first = 0;
    g->room = room;
}

/* Under the hold, which it may drop meanwhile: room for the result of one more
 * member, taken now, because an end cannot fail. */
static int runs_reserve(struct keel_group *g)
{
    while (g->room < RUNS_MOST && g->room < g->runs_used + g->alive + 1) {
        unsigned room = g->room ? g->room * 2 : 8;
        struct run *bigger, *old = NULL;

        drop(g);
        bigger = keel_alloc(room * sizeof *bigger);
        hold(g);
        if (!bigger)
            return -ENOMEM;
        if (room > g->room) {
            old = g->runs;
            runs_move(g, bigger, room);
        } else {
            old = bigger; /* another spawner was faster */
        }
        keel_free(old);
    }
    return 0;
}

static void runs_put(struct keel_group *g, int result)
{
    struct run *last = &g->runs[(g->first + g->runs_used - 1) % g->room];

    if (g->runs_used > 0 && last->result == result) {
        last->count++;
        return;
    }
    if (g->runs_used == g->room) {
        g->first = (g->first + 1) % g->room;
        g->runs_used--;
    }
    g->runs[(g->first + g->runs_used) % g->room] = (struct run){result, 1};
    g->runs_used++;
}

static bool runs_take(struct keel_group *g, int *ret_result)
{
    struct run *run;

    if (g->runs_used == 0)
        return false;
    run = &g->runs[g->first];
    *ret_result = run->result;
    if (--run->count == 0) {
        g->first = (g->first + 1) % g->room;
        g->runs_used--;
    }
    return true;
}

/* ---- the members' side ---- */

/* Links a waiter under the hold of the whole group, and sleeps without it. */
static int sleep_on(struct keel_group *g, struct keel_waitlist *l,
                    keel_ns deadline, bool always, const char *what)
{
    if (l == &g->joiners)
        return waitlist_sleep_on(l, g, deadline, always, what);
    waitlist_hold(l);
    drop(g);
    return waitlist_sleep_on(l, g, deadline, always, what);
}

int group_enter(struct keel_group *g)
{
    int rc;

    hold(g);
    while (g->limit && g->alive >= g->limit) {
        rc = sleep_on(g, &g->spawners, KEEL_FOREVER, false, "room in a group");
        if (rc < 0)
            return rc;
        hold(g);
    }
    /* Counted first: the hold is dropped while memory is had. */
    g->alive++;
    rc = runs_reserve(g);
    drop(g);
    if (rc < 0)
        group_back_out(g);
    return rc;
}

/* Under the hold: one less, dropping it. */
static void leave(struct keel_group *g)
{
    struct keel_waitlist *spawners = &g->spawners;

    g->alive--;
    waitlist_hold(spawners);
    waitlist_wake_one(spawners);
    waitlist_drop(spawners);
    /* All: each may wait for something else.  Woken under the hold, because
     * the group may be freed once it is dropped. */
    waitlist_wake_all(&g->joiners);
    drop(g);
}

void group_back_out(struct keel_group *g)
{
    hold(g);
    leave(g);
}

void group_link(struct keel_group *g, struct body *b)
{
    hold(g);
    b->group_prev = NULL;
    b->group_next = g->members;
    if (b->group_next)
        b->group_next->group_prev = b;
    g->members = b;
    if (g->cancelled)
        atomic_store_explicit(&b->co->cancelled, 1, memory_order_relaxed);
    drop(g);
}

static void unlink_held(struct keel_group *g, struct body *b)
{
    if (b->group_prev)
        b->group_prev->group_next = b->group_next;
    else
        g->members = b->group_next;
    if (b->group_next)
        b->group_next->group_prev = b->group_prev;
}

void group_unlink(struct keel_group *g, struct body *b)
{
    hold(g);
    unlink_held(g, b);
    drop(g);
}

void group_ended(struct keel_group *g, struct body *b, int result)
{
    hold(g);
    unlink_held(g, b);
    runs_put(g, result);
    if (result < 0 && g->error == 0)
        g->error = result;
    leave(g);
}

/* ---- the owner's side ---- */

void keel_group_cancel(struct keel_group *g)
{
    hold(g);
    g->cancelled = true;
    /* A member cannot end while the group is held, so the handles are good. */
    for (struct body *b = g->members; b; b = b->group_next)
        keel_cancel(b->co);
    drop(g);
}

/* Under the hold, everybody gone: ready for another round.  Drops it. */
static int settle(struct keel_group *g)
{
    int error = g->error;

    g->error = 0;
    g->cancelled = false;
    g->runs_used = 0;
    drop(g);
    return error;
}

/* A member that waited for its group would wait for itself. */
static void not_a_member(struct keel_group *g)
{
    struct keel_co *co = keel_current();

    if (co && co->body->group == g)
        misuse("keel_group_join", g, "the caller is one of its members");
}

/* Waits until nobody is left, or with `or_error` until a member has failed.
 * Returns held. */
static int await(struct keel_group *g, keel_ns deadline, bool always,
                 bool or_error)
{
    int rc;

    not_a_member(g);
    hold(g);
    while (g->alive > 0 && !(or_error && g->error < 0)) {
        rc = sleep_on(g, &g->joiners, deadline, always, "group join");
        hold(g);
        if (rc < 0)
            return rc;
    }
    return 0;
}

int keel_group_join(struct keel_group *g, keel_ns deadline)
{
    int rc = await(g, deadline, false, false);

    if (rc < 0 && g->alive > 0) {
        drop(g);
        return rc;
    }
    return settle(g);
}

int keel_group_join_or_cancel(struct keel_group *g, keel_ns deadline)
{
    int rc = await(g, deadline, false, true);
    int error;

    if (rc < 0 && g->alive > 0 && g->error == 0) {
        drop(g);
        return rc;
    }
    drop(g);
    keel_group_cancel(g);
    await(g, KEEL_FOREVER, true, false);
    error = settle(g);
    return error;
}

int keel_group_join_any(struct keel_group *g, keel_ns deadline, int *ret_result)
{
    int rc = 0, result;

    hold(g);
    while (!runs_take(g, &result)) {
        if (g->alive == 0)
            rc = -ECHILD;
        if (rc < 0) {
            drop(g);
            return rc;
        }
        rc = sleep_on(g, &g->joiners, deadline, false, "group join any");
        hold(g);
    }
    drop(g);
    if (ret_result)
        *ret_result = result;
    return 0;
}

void keel_group_free(struct keel_group *g)
{
    if (!g)
        return;
    keel_group_cancel(g);
    await(g, KEEL_FOREVER, true, false);
    drop(g);
    keel_free(g->runs);
    keel_free(g);
}

/* ---- a bounded map ---- */

struct map {
    int (*fn)(void *arg, size_t index);
    void *arg;
    size_t next, count;
};

/* One of `limit`: takes the next while there is one. */
static int map_work(void *arg)
{
    struct map *m = arg;
    int rc = 0;

    while (rc >= 0 && m->next < m->count && !keel_cancelled())
        rc = m->fn(m->arg, m->next++);
    return rc < 0 ? rc : 0;
}

int keel_group_map(size_t limit, size_t count,
                   int (*fn)(void *arg, size_t index), void *arg,
                   keel_ns deadline)
{
    keel_auto(group) struct keel_group *g = NULL;
    struct map m = {.fn = fn, .arg = arg, .count = count};
    struct keel_spawn how = {.name = "map"};
    int rc;

    keel_assert(keel_current() && limit > 0);
    rc = keel_group_new(0, &g);
    how.group = g;
    for (size_t i = 0; rc == 0 && i < limit && i < count; i++)
        rc = keel_spawn(&how, map_work, &m, NULL);
    if (rc == 0)
        rc = keel_group_join_or_cancel(g, deadline);
    return rc; /* the group's end cancels and joins those left */
}
