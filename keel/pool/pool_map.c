/* SPDX-License-Identifier: MIT */
#include <keel/pool.h>

#include <errno.h>

#include <keel/co.h>

#include "loop/loop.h"

enum { EACH = 16 }; /* thread, under way at most, if nobody says otherwise */

struct item {
    struct keel_pool_map *map;
    size_t index;
    struct keel_future *future;
};

/* Submitted are the indices from `given` to `sent`, less than `window` of them,
 * each in item[index % window]. */
struct keel_pool_map {
    struct keel_pool *pool;
    int (*fn)(void *arg, size_t index);
    void *arg;
    keel_ns deadline;
    size_t count, window, sent, given;
    int refused; /* why there was no submitting */
    struct item item[];
};

static int item_run(void *arg)
{
    struct item *it = arg;

    return it->map->fn(it->map->arg, it->index);
}

/* While there is one to give, room in the pool is not waited for. */
static void fill(struct keel_pool_map *m)
{
    while (m->refused == 0 && m->sent < m->count &&
           m->sent - m->given < m->window) {
        struct item *it = &m->item[m->sent % m->window];
        bool some = m->given < m->sent;
        int rc;

        it->map = m;
        it->index = m->sent;
        rc = keel_pool_submit(m->pool, item_run, it,
                              some ? KEEL_NOW : m->deadline, &it->future);
        if (rc == -ETIMEDOUT && some)
            return;
        if (rc < 0)
            m->refused = rc;
        else
            m->sent++;
    }
}

int keel_pool_map_begin(struct keel_pool *p, size_t limit, size_t count,
                        int (*fn)(void *arg, size_t index), void *arg,
                        keel_ns deadline, struct keel_pool_map **ret)
{
    keel_auto(pool_map) struct keel_pool_map *m = NULL;
    size_t window = limit ? limit : EACH * (size_t)keel_pool_size(p);

    if (window > count)
        window = count;
    if (window == 0)
        window = 1;
    if (window > (SIZE_MAX - sizeof *m) / sizeof *m->item)
        return -ENOMEM;
    m = keel_calloc(1, sizeof *m + window * sizeof *m->item);
    if (!m)
        return -ENOMEM;
    m->pool = p;
    m->fn = fn;
    m->arg = arg;
    m->deadline = deadline;
    m->count = count;
    m->window = window;
    fill(m);
    if (m->refused < 0 && m->sent == 0)
        return m->refused;
    *ret = keel_take(m);
    return 0;
}

/* Takes one off the front. */
static void give(struct keel_pool_map *m)
{
    struct item *it = &m->item[m->given++ % m->window];

    keel_future_free(keel_take(it->future));
}

int keel_pool_map_next(struct keel_pool_map *m, int *ret_result)
{
    struct keel_future *f;
    int rc;

    if (m->given == m->count)
        return -ENOENT;
    fill(m);
    if (m->given == m->sent)
        return m->refused;
    f = m->item[m->given % m->window].future;
    rc = keel_future_result(f, m->deadline, NULL);
    if (rc < 0 && !keel_future_done(f))
        return rc; /* of the wait */
    rc = keel_future_result(f, KEEL_NOW, NULL);
    give(m);
    fill(m);
    *ret_result = rc;
    return 0;
}

void keel_pool_map_free(struct keel_pool_map *m)
{
    keel_ns *scope = wait_scope(), outer = *scope;

    if (!m)
        return;
    for (size_t i = m->given; i < m->sent; i++)
        (void)keel_future_cancel(m->item[i % m->window].future);
    *scope = KEEL_FOREVER;
    keel_shield();
    while (m->given < m->sent) {
        (void)keel_future_result(m->item[m->given % m->window].future,
                                 KEEL_FOREVER, NULL);
        give(m);
    }
    keel_unshield();
    *scope = outer;
    keel_free(m);
}

int keel_pool_map(struct keel_pool *p, size_t limit, size_t count,
                  int (*fn)(void *arg, size_t index), void *arg,
                  keel_ns deadline)
{
    keel_auto(pool_map) struct keel_pool_map *m = NULL;
    int rc, result = 0;

    rc = keel_pool_map_begin(p, limit, count, fn, arg, deadline, &m);
    while (rc == 0) {
        rc = keel_pool_map_next(m, &result);
        if (rc == 0 && result < 0)
            return result;
    }
    return rc == -ENOENT ? 0 : rc;
}
