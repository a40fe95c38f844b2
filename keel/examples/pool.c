/* SPDX-License-Identifier: MIT */
/* A pool of threads: submit, map, callback, cancel, shutdown.
 *
 *     cc pool.c $(pkg-config --cflags --libs keel) && ./a.out
 *
 * A job is a function; its future has what it returns.  A map's results come in
 * order, whichever thread was first. */
#include <stdatomic.h>
#include <stdio.h>
#include <string.h>

#include <keel/co.h>
#include <keel/lock.h>
#include <keel/pool.h>

/* How many steps from n to 1, halving what is even, else times three plus
 * one. */
static int steps(int n)
{
    int count = 0;

    for (long at = n; at != 1; count++)
        at = at % 2 ? 3 * at + 1 : at / 2;
    return count;
}

static int steps_from(void *arg)
{
    return steps(*(int *)arg);
}

static int steps_from_index(void *arg, size_t index)
{
    (void)arg;
    return steps((int)index + 1);
}

/* Runs on the pool's thread, as soon as the job is done. */
static void note(struct keel_future *f, void *arg)
{
    atomic_fetch_add((_Atomic int *)arg, keel_future_result(f, KEEL_NOW, NULL));
}

static int wait_for(void *arg)
{
    return keel_event_wait(arg, KEEL_FOREVER);
}

static void submit(struct keel_pool *p)
{
    keel_auto(future) struct keel_future *f = NULL;
    int n = 27;

    if (keel_pool_submit(p, steps_from, &n, KEEL_FOREVER, &f) == 0)
        printf("from %d: %d steps\n", n,
               keel_future_result(f, KEEL_FOREVER, NULL));
}

static void map(struct keel_pool *p)
{
    keel_auto(pool_map) struct keel_pool_map *m = NULL;
    int count;

    printf("from 1 to 10:");
    if (keel_pool_map_begin(p, 4, 10, steps_from_index, NULL,
                            keel_after(10 * KEEL_SECOND), &m) < 0)
        return;
    while (keel_pool_map_next(m, &count) == 0)
        printf(" %d", count);
    printf("\n");
}

int main(void)
{
    const struct keel_pool_how how = {.name = "worker", .size = 2};
    keel_auto(pool) struct keel_pool *p = NULL;
    struct keel_future *busy[3];
    struct keel_event go = {0};
    _Atomic int sum = 0;
    int n[4] = {6, 7, 8, 9}, rc;

    if (keel_pool_new(&how, &p) < 0)
        return 1;
    submit(p);
    map(p);

    for (int i = 0; i < 4; i++) {
        keel_auto(future) struct keel_future *f = NULL;

        if (keel_pool_submit(p, steps_from, &n[i], KEEL_FOREVER, &f) == 0)
            keel_future_on_done(f, note, &sum);
    }

    /* Two jobs keep both threads, the third has not begun. */
    for (int i = 0; i < 3; i++) {
        if (keel_pool_submit(p, wait_for, &go, KEEL_FOREVER, &busy[i]) < 0)
            return 1;
        while (i < 2 && !keel_future_running(busy[i]))
            keel_yield();
    }
    printf("cancel one that runs: %s\n",
           keel_future_cancel(busy[0]) ? "yes" : "no");
    printf("cancel one that waits: %s\n",
           keel_future_cancel(busy[2]) ? "yes" : "no");

    rc = keel_pool_shutdown(p, false, KEEL_NOW);
    printf("shutdown without waiting: %s\n", strerror(-rc));
    keel_event_set(&go);
    rc = keel_pool_shutdown(p, false, KEEL_FOREVER);
    printf("shutdown: %d, threads left: %u\n", rc, keel_pool_size(p));
    printf("the callbacks added up %d\n", sum);
    rc = keel_pool_submit(p, steps_from, n, KEEL_FOREVER, NULL);
    printf("submit after it: %s\n", strerror(-rc));
    for (int i = 0; i < 3; i++)
        keel_future_free(busy[i]);
    return 0;
}
