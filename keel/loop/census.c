/* SPDX-License-Identifier: MIT */
#include "census.h"

#include <string.h>
#include <unistd.h>

#include "worker.h"

static pthread_mutex_t lock = PTHREAD_MUTEX_INITIALIZER;
static struct presence *first;
static pthread_key_t ends;
static pthread_once_t once = PTHREAD_ONCE_INIT;
static _Thread_local struct presence own;
static _Thread_local struct presence *lent; /* a simulated thread's */
#define here (*(lent ? lent : &own))

/* As the thread ends, before its thread-locals do. */
void presence_leave(struct presence *gone)
{
    if (!gone->listed)
        return;
    pthread_mutex_lock(&lock);
    if (gone->prev)
        gone->prev->next = gone->next;
    else
        first = gone->next;
    if (gone->next)
        gone->next->prev = gone->prev;
    gone->listed = false;
    pthread_mutex_unlock(&lock);
}

static void leave(void *p)
{
    presence_leave(p);
}

struct presence *presence_exchange(struct presence *next)
{
    struct presence *before = lent;

    lent = next;
    return before;
}

static void before_fork(void)
{
    pthread_mutex_lock(&lock);
}

static void after_fork(void)
{
    pthread_mutex_unlock(&lock);
}

/* The child has the one thread that forked. */
static void in_child(void)
{
    pthread_mutex_init(&lock, NULL);
    first = here.listed ? &here : NULL;
    here.next = here.prev = NULL;
    here.id = gettid();
}

static void open_census(void)
{
    pthread_key_create(&ends, leave);
    pthread_atfork(before_fork, after_fork, in_child);
}

static void enter(const char *name, bool service)
{
    pthread_once(&once, open_census);
    here.thread = pthread_self();
    here.id = gettid();
    here.worker = worker_self();
    here.service = service;
    if (name)
        strncpy(here.name, name, sizeof here.name - 1);
    else
        pthread_getname_np(here.thread, here.name, sizeof here.name);
    if (here.listed)
        return;
    pthread_mutex_lock(&lock);
    here.prev = NULL;
    here.next = first;
    if (first)
        first->prev = &here;
    first = &here;
    here.listed = true;
    pthread_mutex_unlock(&lock);
    if (!lent)
        pthread_setspecific(ends, &own);
}

void presence_enter(const char *name)
{
    enter(name, false);
}

void presence_serve(const char *name)
{
    enter(name, true);
}

void presence_loop(struct keel_loop *l)
{
    if (!here.listed)
        presence_enter(NULL);
    atomic_store(&here.loop, l);
}

void presence_nap(const struct waiter *w, keel_ns deadline, void *frame)
{
    uint64_t naps;

    if (!here.listed)
        presence_enter(NULL);
    naps = atomic_load_explicit(&here.naps, memory_order_relaxed);
    waitlist_hold(&here.hold);
    here.waits = w;
    here.deadline = deadline;
    here.since = real_clock();
    here.frame = frame;
    waitlist_drop(&here.hold);
    atomic_store(&here.naps, naps + (deadline == KEEL_FOREVER ? 1 : 2));
}

void presence_wake(void)
{
    uint64_t naps = atomic_load_explicit(&here.naps, memory_order_relaxed);

    atomic_store(&here.naps, naps + (naps & 1));
    waitlist_hold(&here.hold);
    here.waits = NULL;
    waitlist_drop(&here.hold);
}

struct presence *census_hold(void)
{
    pthread_mutex_lock(&lock);
    return first;
}

void census_drop(void)
{
    pthread_mutex_unlock(&lock);
}

struct presence *census_first(void)
{
    return first;
}
