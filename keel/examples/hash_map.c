/* SPDX-License-Identifier: MIT */
/* A hash map that four threads use at once: they count words in it, and one
 * finds a counter that another removes.
 *
 *     cc hash_map.c $(pkg-config --cflags --libs keel) && ./a.out
 *
 * keel_map_update runs its function while the entry stands still, so counting
 * needs no lock of its own. */
#include <stdio.h>
#include <string.h>

#include <keel/map.h>
#include <keel/thread.h>

static const char *const words[] = {"the", "ship", "the",  "keel",
                                    "the", "sea",  "ship", "lies"};
static struct keel_map *counts;

static void *one_more(void *value, void *arg)
{
    int *count = value ? value : keel_calloc(1, sizeof *count);

    (void)arg;
    if (count) /* NULL: no memory, and no entry */
        ++*count;
    return count;
}

static int count_words(void *arg)
{
    (void)arg;
    for (int round = 0; round < 100; round++)
        for (size_t i = 0; i < sizeof words / sizeof *words; i++)
            if (keel_map_update(counts, words[i], strlen(words[i]), one_more,
                                NULL) < 0)
                return -1;
    return 0;
}

static int number(void *value, void *arg)
{
    (void)arg;
    return *(int *)value;
}

static int sum(const void *key, size_t size, void *value, void *arg)
{
    (void)key;
    (void)size;
    *(int *)arg += *(int *)value;
    return 0;
}

int main(void)
{
    struct keel_thread *t[4];
    int all = 0;
    void *sea;

    if (keel_map_new(&counts) < 0)
        return 1;
    for (int i = 0; i < 4; i++)
        if (keel_thread_start("count", count_words, NULL, &t[i]) < 0)
            return 1;
    for (int i = 0; i < 4; i++)
        keel_thread_join(t[i], KEEL_FOREVER, NULL);

    printf("%zu words\n", keel_map_count(counts));
    printf("the: %d\n", keel_map_look(counts, "the", 3, number, NULL));
    printf("ship: %d\n", keel_map_look(counts, "ship", 4, number, NULL));
    sea = keel_map_remove(counts, "sea", 3);
    printf("sea: %d, removed; then: %s\n", *(int *)sea,
           strerror(-keel_map_look(counts, "sea", 3, number, NULL)));
    keel_free(sea);
    keel_map_each(counts, sum, &all);
    printf("the others together: %d\n", all);
    keel_map_clear(counts, keel_free);
    keel_map_free(counts);
    return 0;
}
