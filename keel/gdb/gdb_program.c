/* SPDX-License-Identifier: MIT */
/* What the test of keel.py looks at: one coroutine parked below two functions,
 * one that joins it, one that runs, one not begun. */
#include <keel/co.h>
#include <keel/lock.h>

static struct keel_event never;

__attribute__((noinline)) static int inner(int depth)
{
    volatile int kept = depth + 41;
    int rc = keel_event_wait(&never, KEEL_FOREVER);

    return rc + kept;
}

__attribute__((noinline)) static int outer(void *arg)
{
    volatile int rc = inner(1);

    return rc + (arg != NULL);
}

/* gdb stops here. */
__attribute__((noinline)) void stop_here(void)
{
    __asm__ volatile("");
}

static int begin(void *arg)
{
    const struct keel_spawn deep = {.name = "deep"};
    const struct keel_spawn paused = {.name = "paused", .paused = true};
    struct keel_co *co, *later;

    if (keel_spawn(&deep, outer, NULL, &co) < 0 ||
        keel_spawn(&paused, outer, arg, &later) < 0)
        return 1;
    keel_yield();
    stop_here();
    return 0;
}

int main(void)
{
    return keel_run(begin, NULL);
}
