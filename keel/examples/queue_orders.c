/* SPDX-License-Identifier: MIT */
/* The orders in which a queue gives its items back: as they came, the newest
 * first, the least first.  And how a queue is closed.
 *
 *     cc queue_orders.c $(pkg-config --cflags --libs keel) && ./a.out */
#include <stdio.h>
#include <string.h>

#include <keel/queue.h>

static int by_text(const void *a, const void *b)
{
    return strcmp(a, b);
}

static void fill(struct keel_queue *q)
{
    static char words[][6] = {"delta", "alpha", "gamma", "beta"};

    for (size_t i = 0; i < sizeof words / sizeof *words; i++)
        keel_queue_put(q, words[i], KEEL_NOW);
}

static void print_all(const char *order, struct keel_queue *q)
{
    void *word;

    fill(q);
    printf("%s:", order);
    while (!keel_queue_empty(q) && keel_queue_get(q, KEEL_NOW, &word) == 0) {
        printf(" %s", (char *)word);
        keel_queue_task_done(q);
    }
    puts("");
}

static void drop(void *word)
{
    printf("dropped: %s\n", (char *)word);
}

int main(void)
{
    keel_auto(queue) struct keel_queue *fifo = NULL, *lifo = NULL,
                                       *least = NULL;
    void *word;

    if (keel_queue_new(4, KEEL_QUEUE_SHARED, &fifo) < 0 ||
        keel_queue_new_lifo(4, &lifo) < 0 ||
        keel_queue_new_priority(4, by_text, &least) < 0)
        return 1;
    print_all("first in, first out", fifo);
    print_all("last in, first out", lifo);
    print_all("the least first", least);

    /* Closed, a queue takes nothing more and gives what it has. */
    fill(fifo);
    keel_queue_close(fifo);
    printf("put: %s\n", strerror(-keel_queue_put(fifo, "omega", KEEL_FOREVER)));
    keel_queue_get(fifo, KEEL_FOREVER, &word);
    printf("get: %s\n", (char *)word);

    /* Closed now, it drops what it has; what was got is still to be done. */
    keel_queue_close_now(fifo, drop);
    printf("get: %s\n", strerror(-keel_queue_get(fifo, KEEL_FOREVER, &word)));
    printf("join: %s\n", strerror(-keel_queue_join(fifo, KEEL_NOW)));
    keel_queue_task_done(fifo);
    printf("join: %s\n", strerror(-keel_queue_join(fifo, KEEL_NOW)));
    return 0;
}
