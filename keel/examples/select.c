/* SPDX-License-Identifier: MIT */
/* A channel hands over from one to the other and holds nothing; select waits
 * for several at once.
 *
 *     cc select.c $(pkg-config --cflags --libs keel) && ./a.out
 *
 * Two coroutines offer what they have, each in its channel, until a third
 * channel is closed: they wait for both at the same time, so that none is left
 * behind with an offer that nobody takes. */
#include <stdio.h>

#include <keel/co.h>
#include <keel/queue.h>

struct offers {
    const char *name;
    char *next; /* in a text of one-letter offers */
    struct keel_queue *channel, *stop;
};

static int offer(void *arg)
{
    struct offers *o = arg;

    for (;; o->next++) {
        struct keel_select either[] = {
            {.queue = o->channel, .put = true, .item = o->next},
            {.queue = o->stop}};
        int rc = keel_queue_select(either, 2, KEEL_FOREVER);

        if (rc < 0)
            return rc;
        if (rc == 1) /* closed: that counts as something to get */
            break;
    }
    printf("%s stop before '%c'\n", o->name, *o->next);
    return 0;
}

static int take(struct keel_queue *numbers, struct keel_queue *letters)
{
    struct keel_select from[] = {{.queue = numbers}, {.queue = letters}};
    int rc = keel_queue_select(from, 2, KEEL_FOREVER);

    if (rc >= 0)
        printf("from the %s: '%c'\n", rc == 0 ? "numbers" : "letters",
               *(char *)from[rc].item);
    return rc;
}

static int run(void *arg)
{
    keel_auto(queue) struct keel_queue *numbers = NULL, *letters = NULL;
    keel_auto(queue) struct keel_queue *stop = NULL;
    keel_auto(group) struct keel_group *group = NULL;
    struct keel_spawn how = {0};

    (void)arg;
    if (keel_queue_new(0, KEEL_QUEUE_SHARED, &numbers) < 0 ||
        keel_queue_new(0, KEEL_QUEUE_SHARED, &letters) < 0 ||
        keel_queue_new(0, KEEL_QUEUE_SHARED, &stop) < 0 ||
        keel_group_new(0, &group) < 0)
        return -1;
    char digits[] = "12345678", abc[] = "abcdefgh";
    struct offers one = {"the numbers", digits, numbers, stop};
    struct offers two = {"the letters", abc, letters, stop};

    how.group = group;
    if (keel_spawn(&how, offer, &one, NULL) < 0 ||
        keel_spawn(&how, offer, &two, NULL) < 0)
        return -1;
    for (int i = 0; i < 6; i++)
        if (take(numbers, letters) < 0)
            return -1;
    keel_queue_close(stop);
    return keel_group_join(group, KEEL_FOREVER);
}

int main(void)
{
    return keel_run(run, NULL) < 0;
}
