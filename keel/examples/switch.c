/* SPDX-License-Identifier: MIT */
/* Two coroutines that switch to each other by name, and count 1 2 3 4; beside
 * them one that is scheduled as usual.
 *
 *     cc switch.c $(pkg-config --cflags --libs keel) && ./a.out */
#include <stdio.h>

#include <keel/co.h>

static struct keel_co *odd, *even, *home;

static int count_odd(void *arg)
{
    (void)arg;
    puts("1");
    keel_switch(even, NULL, KEEL_FOREVER, NULL);
    puts("3");
    keel_switch(even, NULL, KEEL_FOREVER, NULL);
    return 0;
}

static int count_even(void *arg)
{
    void *word;

    (void)arg;
    puts("2");
    keel_switch(odd, NULL, KEEL_FOREVER, NULL);
    puts("4");
    keel_switch(home, "counted", KEEL_FOREVER, &word); /* a value goes along */
    printf("even was told: %s\n", (char *)word);
    return 0;
}

static int scheduled(void *arg)
{
    (void)arg;
    puts("the scheduled one has its turn");
    return 0;
}

static int run(void *arg)
{
    const struct keel_spawn how = {.paused = true};
    void *word = NULL;
    int rc;

    (void)arg;
    home = keel_current();
    if (keel_spawn(&how, count_odd, NULL, &odd) < 0 ||
        keel_spawn(&how, count_even, NULL, &even) < 0 ||
        keel_spawn(NULL, scheduled, NULL, NULL) < 0)
        return -1;
    rc = keel_switch(odd, NULL, KEEL_FOREVER, &word);
    if (rc < 0)
        return rc;
    printf("home was told: %s\n", (char *)word);
    keel_yield();

    /* Where one ends that we have spawned paused, we go on, and are told 1. */
    printf("even has ended: %d\n",
           keel_switch(even, "thanks", KEEL_FOREVER, NULL));
    printf("odd has ended: %d\n", keel_switch(odd, NULL, KEEL_FOREVER, NULL));
    keel_join(even, KEEL_FOREVER, NULL);
    return keel_join(odd, KEEL_FOREVER, NULL);
}

int main(void)
{
    return keel_run(run, NULL) < 0;
}
