/* SPDX-License-Identifier: MIT */
/* Locks are nodes; an edge from A to B says that somebody wanted B while it
 * held A, and where.  A cycle is an order that can deadlock: each of its edges
 * is somebody who waits for the next.  The edge that closes one is reported,
 * before its taker waits, so that a deadlock that does happen was named too.
 *
 * All of it is under one lock and meant for debugging.  Where memory is out an
 * edge is not noted: the watch sees less, and says nothing wrong. */
#include "lock_order.h"

#include <dlfcn.h>
#include <pthread.h>
#include <stdarg.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include <keel/debug.h>

#include "loop/sched.h"

#define BUCKETS 1024u

struct edge {
    struct edge *next; /* of the same node */
    struct node *to;
    struct place had, wanted;
    char who[24];
};

struct node {
    struct node *next; /* in its bucket */
    const void *lock;
    struct edge *edges;
    const struct edge *via; /* how the search came here */
    struct node *from;
    uint64_t seen; /* by which search */
};

/* Who holds what: an entry for each taking. */
struct held {
    struct held *next; /* in the holder's bucket */
    const void *who, *lock;
    struct place at;
};

_Atomic bool lock_order_on;
static _Atomic size_t reports;

static pthread_mutex_t order = PTHREAD_MUTEX_INITIALIZER;
static struct node *nodes[BUCKETS];
static struct held *holders[BUCKETS];
static uint64_t searches;

static size_t bucket(const void *p)
{
    return ((uintptr_t)p >> 4) * UINT64_C(0x9e3779b97f4a7c15) >> 54;
}

void lock_order_begin(void)
{
    atomic_store(&lock_order_on, true);
}

size_t keel_lock_order_reports(void)
{
    return atomic_load(&reports);
}

/* ---- the graph ---- */

static struct node *node_of(const void *lock, bool make)
{
    struct node **at = &nodes[bucket(lock)], *n;

    for (n = *at; n && n->lock != lock; n = n->next)
        ;
    if (n || !make)
        return n;
    n = calloc(1, sizeof *n);
    if (!n)
        return NULL;
    n->lock = lock;
    n->next = *at;
    *at = n;
    return n;
}

static bool has_edge(const struct node *from, const struct node *to)
{
    for (const struct edge *e = from->edges; e; e = e->next)
        if (e->to == to)
            return true;
    return false;
}

static struct edge *edge_add(struct node *from, struct node *to,
                             struct place had, struct place wanted)
{
    struct edge *e = calloc(1, sizeof *e);

    if (!e)
        return NULL;
    e->to = to;
    e->had = had;
    e->wanted = wanted;
    snprintf(e->who, sizeof e->who, "%s", keel_name());
    e->next = from->edges;
    from->edges = e;
    return e;
}

/* Breadth first, so that the shortest way is found; `from` and `via` lead back.
 * Ways through more nodes than fit are not found. */
static bool find_way(struct node *from, const struct node *to)
{
    struct node *todo[256];
    size_t first = 0, last = 0;

    searches++;
    from->seen = searches;
    from->from = NULL;
    todo[last++] = from;
    while (first < last) {
        struct node *n = todo[first++];

        if (n == to)
            return true;
        for (struct edge *e = n->edges; e; e = e->next)
            if (e->to->seen != searches && last < sizeof todo / sizeof *todo) {
                e->to->seen = searches;
                e->to->via = e;
                e->to->from = n;
                todo[last++] = e->to;
            }
    }
    return false;
}

/* ---- the report ---- */

struct text {
    size_t used;
    char bytes[4096];
};

__attribute__((format(printf, 2, 3))) static void say(struct text *t,
                                                      const char *format, ...)
{
    size_t room = sizeof t->bytes - t->used;
    va_list args;
    int n;

    va_start(args, format);
    n = vsnprintf(t->bytes + t->used, room, format, args);
    va_end(args);
    if (n > 0)
        t->used += (size_t)n < room ? (size_t)n : room - 1;
}

static void say_place(struct text *t, const void *lock, struct place at)
{
    const char *end = at.text ? strchr(at.text, '\n') : NULL, *file = end;
    Dl_info info;

    if (end) {
        while (file > at.text && file[-1] != '/')
            file--;
        say(t, "%s at %.*s", end + 1, (int)(end - file), file);
        return;
    }
    say(t, "%p at ", lock);
    if (dladdr(at.pc, &info) && info.dli_sname)
        say(t, "%s+0x%lx", info.dli_sname,
            (unsigned long)((uintptr_t)at.pc - (uintptr_t)info.dli_saddr));
    else
        say(t, "%p", at.pc);
}

static void say_edge(struct text *t, const char *takes, const char *holds,
                     const struct node *from, const struct edge *e)
{
    say(t, "  '%s' %s ", e->who, takes);
    say_place(t, e->to->lock, e->wanted);
    say(t, ", %s ", holds);
    say_place(t, from->lock, e->had);
    say(t, "\n");
}

/* The way found leads from what is wanted to what is held. */
static void report(const struct node *held, const struct edge *closes)
{
    struct text text = {0};

    say(&text, "keel: locks are taken in orders that can deadlock:\n");
    say_edge(&text, "takes", "holding", held, closes);
    for (const struct node *n = held; n->from; n = n->from)
        say_edge(&text, "took", "holding", n->from, n->via);
    atomic_fetch_add(&reports, 1);
    if (write(STDERR_FILENO, text.bytes, text.used) < 0)
        return; /* nobody to tell */
}

/* ---- what the locks say ---- */

static void note(const struct held *h, const void *lock, struct place at)
{
    struct node *held = node_of(h->lock, true), *wanted = node_of(lock, true);
    struct edge *e;
    bool cycle;

    if (!held || !wanted || has_edge(held, wanted))
        return;
    cycle = find_way(wanted, held);
    e = edge_add(held, wanted, h->at, at);
    if (cycle && e)
        report(held, e);
}

void lock_order_want(const void *lock, struct place at)
{
    const void *me = worker_self();

    pthread_mutex_lock(&order);
    for (struct held *h = holders[bucket(me)]; h; h = h->next)
        if (h->who == me && h->lock != lock)
            note(h, lock, at);
    pthread_mutex_unlock(&order);
}

void lock_order_have(const void *lock, struct place at)
{
    const void *me = worker_self();
    struct held *h = calloc(1, sizeof *h), **in = &holders[bucket(me)];

    if (!h)
        return;
    *h = (struct held){.who = me, .lock = lock, .at = at};
    pthread_mutex_lock(&order);
    h->next = *in;
    *in = h;
    pthread_mutex_unlock(&order);
}

/* Takes one entry of `lock` out of the bucket: `who`'s, or with NULL any. */
static bool drop_one(struct held **in, const void *who, const void *lock)
{
    for (struct held *h; (h = *in); in = &h->next)
        if (h->lock == lock && (!who || h->who == who)) {
            *in = h->next;
            free(h);
            return true;
        }
    return false;
}

void lock_order_drop(const void *lock)
{
    const void *me = worker_self();
    bool found;

    pthread_mutex_lock(&order);
    found = drop_one(&holders[bucket(me)], me, lock);
    for (size_t i = 0; i < BUCKETS && !found; i++)
        found = drop_one(&holders[i], NULL, lock);
    pthread_mutex_unlock(&order);
}

static void edges_drop(struct node *from, const struct node *to)
{
    for (struct edge **in = &from->edges, *e; (e = *in);)
        if (!to || e->to == to) {
            *in = e->next;
            free(e);
        } else {
            in = &e->next;
        }
}

static void node_drop(struct node *gone)
{
    struct node **in = &nodes[bucket(gone->lock)];

    for (size_t i = 0; i < BUCKETS; i++)
        for (struct node *n = nodes[i]; n; n = n->next)
            edges_drop(n, gone);
    edges_drop(gone, NULL);
    while (*in != gone)
        in = &(*in)->next;
    *in = gone->next;
    free(gone);
}

void lock_order_forget(const void *lock)
{
    struct node *n;

    pthread_mutex_lock(&order);
    for (size_t i = 0; i < BUCKETS; i++)
        while (drop_one(&holders[i], NULL, lock))
            ;
    n = node_of(lock, false);
    if (n)
        node_drop(n);
    pthread_mutex_unlock(&order);
}
