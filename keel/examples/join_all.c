/* SPDX-License-Identifier: MIT */
/* Spawn and join all: three coroutines sleep at the same time in one thread,
 * and a group joins them.
 *
 *     cc join_all.c $(pkg-config --cflags --libs keel) && ./a.out
 *
 * They wake in the order of their sleeps: none waits for another. */
#include <stdio.h>

#include <keel/co.h>

struct nap {
    const char *name;
    keel_ns span;
};

static int take_nap(void *arg)
{
    const struct nap *n = arg;

    printf("%s sleeps\n", n->name);
    keel_sleep(keel_after(n->span));
    printf("%s is awake\n", n->name);
    return 0;
}

static int run(void *arg)
{
    static struct nap naps[] = {
        {"anna", 60 * KEEL_MS}, {"bela", 20 * KEEL_MS}, {"cleo", 40 * KEEL_MS}};
    keel_auto(group) struct keel_group *group = NULL;
    int rc;

    (void)arg;
    rc = keel_group_new(0, &group);
    if (rc < 0)
        return rc;
    for (int i = 0; i < 3; i++) {
        const struct keel_spawn how = {.name = naps[i].name, .group = group};

        rc = keel_spawn(&how, take_nap, &naps[i], NULL);
        if (rc < 0)
            return rc;
    }
    puts("all have been spawned");
    rc = keel_group_join(group, KEEL_FOREVER);
    puts("all have been joined");
    return rc;
}

int main(void)
{
    return keel_run(run, NULL) < 0;
}
