/* SPDX-License-Identifier: MIT */
/* A counter raced by four threads, without a lock and with one.
 *
 *     cc counter.c $(pkg-config --cflags --libs keel) && ./a.out
 *
 * To add one is to read, to add and to write.  Without a lock two may read the
 * same value, and one addition is lost.  By chance that is rare; here a
 * barrier between read and write makes it certain: all four read before any
 * writes, every time, and of four additions one remains. */
#include <stdatomic.h>
#include <stdio.h>
#include <unistd.h>

#include <keel/lock.h>
#include <keel/thread.h>

enum { THREADS = 4, ROUNDS = 1000 };

static _Atomic long counter;
static struct keel_barrier all_have_read, all_have_written;
static struct keel_lock lock = KEEL_LOCK_INIT;

static int add_unlocked(void *arg)
{
    (void)arg;
    for (int i = 0; i < ROUNDS; i++) {
        long value = counter;

        keel_barrier_wait(&all_have_read, KEEL_FOREVER);
        counter = value + 1;
        keel_barrier_wait(&all_have_written, KEEL_FOREVER);
    }
    return 0;
}

static int add_locked(void *arg)
{
    (void)arg;
    for (int i = 0; i < ROUNDS; i++) {
        keel_guard(&lock); /* until the end of the block */
        long value = counter;

        counter = value + 1;
    }
    return 0;
}

static int race(const char *how, int (*add)(void *arg))
{
    struct keel_thread *thread[THREADS];
    int begun = 0;

    counter = 0;
    while (begun < THREADS &&
           keel_thread_start("adder", add, NULL, &thread[begun]) == 0)
        begun++;
    if (begun < THREADS)
        _exit(1); /* those begun wait for the others for ever */
    for (int i = 0; i < THREADS; i++)
        keel_thread_join(thread[i], KEEL_FOREVER, NULL);
    printf("%s: %d additions, and the counter is %ld\n", how, THREADS * ROUNDS,
           (long)counter);
    return 0;
}

int main(void)
{
    keel_barrier_init(&all_have_read, THREADS, NULL, NULL);
    keel_barrier_init(&all_have_written, THREADS, NULL, NULL);
    return race("without a lock", add_unlocked) ||
           race("with a lock", add_locked);
}
