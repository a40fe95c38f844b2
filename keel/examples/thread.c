/* SPDX-License-Identifier: MIT */
/* Threads: begin, look at, join with a deadline and join; a daemon; a value
 * for each thread; a timer, and one that is cancelled.
 *
 *     cc thread.c $(pkg-config --cflags --libs keel) && ./a.out */
#include <stdio.h>
#include <string.h>

#include <keel/lock.h>
#include <keel/thread.h>

static struct keel_event finish, never;
static struct keel_local *scratch;

static void scratch_gone(void *value)
{
    printf("the scratch of '%s' is destroyed\n", (char *)value);
}

static int work(void *arg)
{
    keel_local_set(scratch, arg);
    keel_event_wait(&finish, KEEL_FOREVER);
    return 42;
}

/* Nobody sets `never`: only a daemon may wait for it at the program's end. */
static int wait_for_ever(void *arg)
{
    (void)arg;
    return keel_event_wait(&never, KEEL_FOREVER);
}

static void ring(void *arg)
{
    printf("timer: %s\n", (char *)arg);
}

static int join_worker(struct keel_thread *worker)
{
    int result = 0, rc;

    rc = keel_thread_join(worker, keel_after(10 * KEEL_MS), &result);
    printf("join for 10 ms: %s\n", rc < 0 ? strerror(-rc) : "joined");
    printf("alive: %s\n", keel_thread_is_alive(worker) ? "yes" : "no");
    keel_event_set(&finish);
    rc = keel_thread_join(worker, KEEL_FOREVER, &result);
    printf("join for ever: result %d\n", result);
    return rc;
}

static int use_timers(void)
{
    keel_auto(timer) struct keel_timer *soon = NULL, *later = NULL;
    int rc;

    rc = keel_timer_start(keel_after(KEEL_MS), ring, "rings", &soon);
    if (rc < 0)
        return rc;
    rc = keel_timer_start(keel_after(KEEL_SECOND * 60), ring, "never", &later);
    if (rc < 0)
        return rc;
    rc = keel_timer_join(soon, KEEL_FOREVER);
    printf("cancelled in time: %s\n", keel_timer_cancel(later) ? "yes" : "no");
    return rc;
}

int main(void)
{
    const struct keel_thread_how how = {.name = "waiter", .daemon = true};
    keel_auto(thread) struct keel_thread *daemon = NULL;
    struct keel_thread *worker;
    struct keel_thread_info info[3];
    size_t n;

    if (keel_local_new(scratch_gone, &scratch) < 0 ||
        keel_thread_new(&how, wait_for_ever, NULL, &daemon) < 0 ||
        keel_thread_begin(daemon) < 0 ||
        keel_thread_start("worker", work, "worker", &worker) < 0)
        return 1;
    printf("begun again: %s\n", strerror(-keel_thread_begin(daemon)));
    n = keel_thread_enumerate(info, 3);
    for (size_t i = 0; i < n && i < 3; i++)
        printf("'%s'%s\n", info[i].name, info[i].daemon ? ", a daemon" : "");
    return join_worker(worker) < 0 || use_timers() < 0;
}
