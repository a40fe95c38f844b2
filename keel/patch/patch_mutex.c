/* SPDX-License-Identifier: MIT */
/* The detector: who parks while it holds a mutex or rwlock of libc's.
 *
 * A coroutine never changes its thread, so what it holds is in a list of its
 * thread's, with the coroutine that took it.  keel asks before each park. */
#include <keel/patch.h>

#include <dlfcn.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "patch_inside.h"

enum { HELD_MOST = 32, PLACES_MOST = 256 };

struct held {
    const void *lock;
    const void *place; /* the code that took it */
    const void *by;    /* the coroutine */
    const char *kind;
};
static _Thread_local struct held held[HELD_MOST];
static _Thread_local unsigned held_count;

static _Atomic int how; /* enum keel_patch_mutex */
static _Atomic size_t reports;

/* ---- reporting -------------------------------------------------------------------- */

static const char *base_name(const char *path)
{
    const char *slash = strrchr(path, '/');

    return slash ? slash + 1 : path;
}

/* "function (libx.so+0x12)", or as much of it as is known. */
static void place_write(char *to, size_t size, const void *place)
{
    const char *p = place;
    Dl_info info;

    if (!dladdr(place, &info) || !info.dli_fname)
        (void)snprintf(to, size, "%p", place);
    else
        (void)snprintf(to, size, "%s (%s+0x%zx)",
                       info.dli_sname ? info.dli_sname : "?",
                       base_name(info.dli_fname),
                       (size_t)(p - (const char *)info.dli_fbase));
}

/* True for the first time of a place. */
static bool is_new(const void *place)
{
    static const void *_Atomic places[PLACES_MOST];

    for (int i = 0; i < PLACES_MOST; i++) {
        const void *none = NULL;

        if (atomic_compare_exchange_strong(&places[i], &none, place))
            return true;
        if (none == place)
            return false;
    }
    return false;
}

static void report(const struct patched *k, const struct held *h,
                   const char *what)
{
    char text[512], lock[128] = "", place[128];
    Dl_info info;
    int size;

    if (dladdr(h->lock, &info) && info.dli_sname)
        (void)snprintf(lock, sizeof lock, " (%s of %s)", info.dli_sname,
                       base_name(info.dli_fname));
    place_write(place, sizeof place, h->place);
    size = snprintf(text, sizeof text,
                    "keel: coroutine '%s' parks (%s) while it holds %s %p%s, "
                    "taken in %s: who wants it next stops the whole loop\n",
                    k->name(), what ? what : "yield", h->kind, h->lock, lock,
                    place);
    if (size > 0)
        (void)!real.write(STDERR_FILENO, text, strnlen(text, sizeof text));
}

static void parks(const char *what)
{
    const struct patched *k = here();
    const void *self = k ? k->self() : NULL;
    int mode = atomic_load(&how), before = errno;

    for (unsigned i = 0; self && i < held_count; i++) {
        if (held[i].by != self)
            continue;
        if (!is_new(held[i].place) && mode != KEEL_PATCH_MUTEX_ABORT)
            continue;
        report(k, &held[i], what);
        atomic_fetch_add(&reports, 1);
        if (mode == KEEL_PATCH_MUTEX_ABORT)
            abort();
    }
    errno = before;
}

/* ---- switching it on ------------------------------------------------------------------ */

void mutex_watch_keel(const struct patched *k)
{
    if (atomic_load(&how) != KEEL_PATCH_MUTEX_OFF)
        k->watch(parks);
}

static void unwatch_keel(const struct patched *k)
{
    k->watch(NULL);
}

void keel_patch_mutex(enum keel_patch_mutex mode)
{
    atomic_store(&how, (int)mode);
    each_keel(mode == KEEL_PATCH_MUTEX_OFF ? unwatch_keel : mutex_watch_keel);
}

size_t keel_patch_mutex_reports(void)
{
    return atomic_load(&reports);
}

__attribute__((constructor(102))) static void begin(void)
{
    const char *mode = getenv("KEEL_PATCH_MUTEX");

    if (mode && !strcmp(mode, "report"))
        keel_patch_mutex(KEEL_PATCH_MUTEX_REPORT);
    else if (mode && !strcmp(mode, "abort"))
        keel_patch_mutex(KEEL_PATCH_MUTEX_ABORT);
}

/* ---- counting ---------------------------------------------------------------------------- */

static bool is_watched(void)
{
    return __builtin_expect(
        atomic_load_explicit(&how, memory_order_relaxed) != 0, 0);
}

/* EOWNERDEAD is a mutex that one has got, too. */
static int took(int rc, const void *lock, const void *place, const char *kind)
{
    const struct patched *k;

    if (!is_watched() || (rc && rc != EOWNERDEAD))
        return rc;
    k = here();
    if (k && held_count < HELD_MOST)
        held[held_count++] = (struct held){lock, place, k->self(), kind};
    return rc;
}

/* The last that was taken first.  What was taken before the watch began, or
 * when there was no room, is not there. */
static void dropped(const void *lock)
{
    for (unsigned i = held_count; i-- > 0;) {
        if (held[i].lock != lock)
            continue;
        memmove(&held[i], &held[i + 1], (held_count - i - 1) * sizeof *held);
        held_count--;
        return;
    }
}

#define TOOK(call, lock, kind)                                                 \
    took(call, lock, __builtin_return_address(0), kind)

PATCHED(int, pthread_mutex_lock, pthread_mutex_t *m)
{
    return TOOK(LATE(pthread_mutex_lock)(m), m, "mutex");
}

PATCHED(int, pthread_mutex_trylock, pthread_mutex_t *m)
{
    return TOOK(LATE(pthread_mutex_trylock)(m), m, "mutex");
}

PATCHED(int, pthread_mutex_timedlock, pthread_mutex_t *m,
        const struct timespec *until)
{
    return TOOK(LATE(pthread_mutex_timedlock)(m, until), m, "mutex");
}

PATCHED(int, pthread_mutex_clocklock, pthread_mutex_t *m, clockid_t clock,
        const struct timespec *until)
{
    return TOOK(LATE(pthread_mutex_clocklock)(m, clock, until), m, "mutex");
}

PATCHED(int, pthread_mutex_unlock, pthread_mutex_t *m)
{
    if (held_count)
        dropped(m);
    return LATE(pthread_mutex_unlock)(m);
}

PATCHED(int, pthread_rwlock_rdlock, pthread_rwlock_t *l)
{
    return TOOK(LATE(pthread_rwlock_rdlock)(l), l, "rwlock");
}

PATCHED(int, pthread_rwlock_tryrdlock, pthread_rwlock_t *l)
{
    return TOOK(LATE(pthread_rwlock_tryrdlock)(l), l, "rwlock");
}

PATCHED(int, pthread_rwlock_wrlock, pthread_rwlock_t *l)
{
    return TOOK(LATE(pthread_rwlock_wrlock)(l), l, "rwlock");
}

PATCHED(int, pthread_rwlock_trywrlock, pthread_rwlock_t *l)
{
    return TOOK(LATE(pthread_rwlock_trywrlock)(l), l, "rwlock");
}

PATCHED(int, pthread_rwlock_unlock, pthread_rwlock_t *l)
{
    if (held_count)
        dropped(l);
    return LATE(pthread_rwlock_unlock)(l);
}
