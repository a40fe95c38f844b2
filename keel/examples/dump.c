/* SPDX-License-Identifier: MIT */
/* A dump: every coroutine and thread, what it waits for, for how long, and its
 * backtrace.
 *
 *     cc dump.c $(pkg-config --cflags --libs keel) && ./a.out
 *
 * A server calls keel_dump_on_signal(SIGQUIT) once, and Ctrl-\ or kill -QUIT
 * prints the same to standard error while it goes on. */
#include <stdio.h>

#include <keel/co.h>
#include <keel/debug.h>
#include <keel/lock.h>
#include <keel/queue.h>
#include <keel/thread.h>

static struct keel_lock stove = KEEL_LOCK_INIT;
static struct keel_event closing_time;

static int eat(void *orders)
{
    void *dish;

    return keel_queue_get(orders, keel_after(3600 * KEEL_SECOND), &dish);
}

static int cook(void *arg)
{
    (void)arg;
    keel_lock_hold(&stove);
    keel_lock_drop(&stove);
    return 0;
}

static int wait_for_cook(void *arg)
{
    return keel_join(arg, KEEL_FOREVER, NULL);
}

static int clean(void *arg)
{
    (void)arg;
    return keel_event_wait(&closing_time, KEEL_FOREVER);
}

static int open_kitchen(void *arg)
{
    keel_auto(queue) struct keel_queue *orders = NULL;
    struct keel_co *cooks, *waits, *guest;
    struct keel_thread *cleaner;
    struct keel_counters counters;

    (void)arg;
    keel_lock_hold(&stove);
    if (keel_queue_new(4, KEEL_QUEUE_LOCAL, &orders) < 0 ||
        keel_spawn(&(struct keel_spawn){.name = "guest"}, eat, orders, &guest) <
            0 ||
        keel_spawn(&(struct keel_spawn){.name = "cook"}, cook, NULL, &cooks) <
            0 ||
        keel_spawn(&(struct keel_spawn){.name = "waiter"}, wait_for_cook, cooks,
                   &waits) < 0 ||
        keel_thread_start("cleaner", clean, NULL, &cleaner) < 0)
        return 1;
    keel_yield();            /* they run until they wait */
    keel_thread_id(cleaner); /* it has begun */
    keel_dump(1);

    keel_counters(keel_loop_current(), &counters);
    printf("alive %zu, parked %zu, spawned %d\n", counters.alive,
           counters.parked, (int)counters.spawned);
    keel_lock_drop(&stove);
    keel_cancel(guest);
    keel_join(guest, KEEL_FOREVER, NULL);
    keel_join(waits, KEEL_FOREVER, NULL);
    keel_event_set(&closing_time);
    return keel_thread_join(cleaner, KEEL_FOREVER, NULL);
}

int main(void)
{
    return keel_run(open_kitchen, NULL);
}
