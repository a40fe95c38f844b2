/* SPDX-License-Identifier: MIT */
/* A queue between processes: two producers, three consumers.
 *
 *     cc process_queue.c $(pkg-config --cflags --libs keel) && ./a.out
 *
 * The queue is bounded: producers wait while it is full.  join waits until all
 * that were put are done; close lets the consumers end. */
#include <stdio.h>

#include <keel/process.h>
#include <keel/shared.h>
#include <keel/shqueue.h>

enum { PRODUCERS = 2, CONSUMERS = 3, EACH = 1000 };

KEEL_PROCESS(producer)
{
    keel_auto(shqueue) struct keel_shqueue *q = NULL;

    if (keel_shqueue_open(arg->fds[0], &q) < 0)
        return 1;
    for (int i = 1; i <= EACH; i++)
        if (keel_shqueue_put(q, &i, sizeof(i), KEEL_FOREVER) < 0)
            return 1;
    return 0;
}

KEEL_PROCESS(consumer)
{
    keel_auto(shqueue) struct keel_shqueue *q = NULL;
    keel_auto(shared) struct keel_shared *memory = NULL;
    size_t size;
    int i;

    if (keel_shqueue_open(arg->fds[0], &q) < 0 ||
        keel_shared_open(arg->fds[1], &memory) < 0)
        return 1;
    while (keel_shqueue_get(q, &i, sizeof(i), KEEL_FOREVER, &size) == 0) {
        keel_shvalue_add(keel_shared_memory(memory), i);
        keel_shqueue_task_done(q);
    }
    return 0; /* closed, and empty */
}

int main(void)
{
    keel_auto(shqueue) struct keel_shqueue *q = NULL;
    keel_auto(shared) struct keel_shared *memory = NULL;
    struct keel_process *p[PRODUCERS + CONSUMERS];
    int fds[2];

    if (keel_shqueue_new(16, sizeof(int), &q) < 0 ||
        keel_shared_new(sizeof(struct keel_shvalue), &memory) < 0)
        return 1;
    fds[0] = keel_shqueue_fd(q);
    fds[1] = keel_shared_fd(memory);
    for (int i = 0; i < PRODUCERS + CONSUMERS; i++) {
        struct keel_process_how how = {.fds = fds, .fd_count = 2};

        if (keel_process_start(i < PRODUCERS ? "producer" : "consumer", &how,
                               &p[i]) < 0)
            return 1;
    }

    for (int i = 0; i < PRODUCERS; i++)
        keel_process_join(p[i], KEEL_FOREVER, NULL);
    keel_shqueue_join(q, KEEL_FOREVER);
    printf("all done: the sum is %d\n",
           (int)keel_shvalue_get(keel_shared_memory(memory)));
    keel_shqueue_close(q);
    for (int i = 0; i < PRODUCERS + CONSUMERS; i++) {
        int code = -1;

        keel_process_join(p[i], KEEL_FOREVER, NULL);
        keel_process_exitcode(p[i], &code);
        printf("%s returned %d\n", keel_process_name(p[i]), code);
        keel_process_free(p[i]);
    }
    return 0;
}
