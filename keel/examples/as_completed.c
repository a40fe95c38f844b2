/* SPDX-License-Identifier: MIT */
/* Futures as they are done, not as they were begun; and callbacks.
 *
 *     cc as_completed.c $(pkg-config --cflags --libs keel) && ./a.out
 *
 * Three cooks promise a dish each; the waiter brings what is ready. */
#include <stdio.h>

#include <keel/co.h>
#include <keel/future.h>

struct cook {
    const char *dish;
    keel_ns span;
    struct keel_future *promise;
};

static int cook_it(void *arg)
{
    struct cook *c = arg;

    if (!keel_future_start(c->promise))
        return 0; /* cancelled before it was begun */
    keel_sleep(keel_after(c->span));
    keel_future_set(c->promise, 0, (void *)c->dish);
    return 0;
}

static void ring(struct keel_future *f, void *arg)
{
    (void)f;
    printf("the bell rings for the %s\n", (const char *)arg);
}

static int serve(struct cook *cooks, struct keel_future **promises)
{
    keel_auto(completed) struct keel_completed *ready = NULL;
    struct keel_future *f;
    void *dish;
    int rc;

    rc = keel_completed_new(promises, 3, &ready);
    for (int i = 0; rc == 0 && i < 3; i++)
        rc = keel_spawn(NULL, cook_it, &cooks[i], NULL);
    while (rc == 0 && (rc = keel_completed_next(ready, KEEL_FOREVER, &f)) == 0)
        if (keel_future_result(f, KEEL_NOW, &dish) == 0)
            printf("served: %s\n", (char *)dish);
        else
            puts("not made: cancelled");
    puts("all have been served");
    return 0;
}

static int run(void *arg)
{
    struct cook cooks[] = {{"roast", 60 * KEEL_MS, NULL},
                           {"salad", 20 * KEEL_MS, NULL},
                           {"cake", 40 * KEEL_MS, NULL}};
    struct keel_future *promises[3];
    int rc;

    (void)arg;
    for (int i = 0; i < 3; i++) {
        if (keel_future_new(&cooks[i].promise) < 0)
            return -1;
        promises[i] = cooks[i].promise;
    }
    keel_future_on_done(promises[1], ring, "salad");
    keel_future_cancel(promises[2]);
    rc = serve(cooks, promises);
    for (int i = 0; i < 3; i++) {
        keel_future_free(promises[i]); /* the waiter's */
        keel_future_free(promises[i]); /* the cook's */
    }
    return rc;
}

int main(void)
{
    return keel_run(run, NULL) < 0;
}
