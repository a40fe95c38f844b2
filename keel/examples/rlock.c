/* SPDX-License-Identifier: MIT */
/* An rlock: its owner may take it again, so that a function that locks can
 * call another that locks.
 *
 *     cc rlock.c $(pkg-config --cflags --libs keel) && ./a.out
 *
 * With a plain lock the inner call would wait for the outer one for ever. */
#include <stdio.h>
#include <string.h>

#include <keel/lock.h>
#include <keel/thread.h>

struct account {
    struct keel_rlock lock;
    int balance;
};

static int balance(struct account *a)
{
    int now;

    keel_rlock_hold(&a->lock);
    now = a->balance;
    keel_rlock_drop(&a->lock);
    return now;
}

static int withdraw(struct account *a, int amount)
{
    bool enough;

    keel_rlock_hold(&a->lock);
    enough = balance(a) >= amount; /* takes the lock a second time */
    if (enough)
        a->balance -= amount;
    keel_rlock_drop(&a->lock);
    return enough ? 0 : -1;
}

static int withdraw_much(void *arg)
{
    int times = 0;

    while (withdraw(arg, 10) == 0)
        times++;
    return times;
}

static int try_to_take(void *arg)
{
    return keel_rlock_take(arg, KEEL_NOW);
}

int main(void)
{
    static struct account shared = {KEEL_RLOCK_INIT, 1000};
    struct keel_thread *one, *two;
    int first = 0, second = 0, rc = 0;

    if (keel_thread_start("one", withdraw_much, &shared, &one) < 0 ||
        keel_thread_start("two", withdraw_much, &shared, &two) < 0)
        return 1;
    keel_thread_join(one, KEEL_FOREVER, &first);
    keel_thread_join(two, KEEL_FOREVER, &second);
    printf("both withdrew %d times, %d is left\n", first + second,
           balance(&shared));

    keel_rlock_hold(&shared.lock);
    keel_rlock_hold(&shared.lock);
    keel_rlock_drop(&shared.lock);
    if (keel_thread_start("three", try_to_take, &shared.lock, &one) < 0)
        return 1;
    keel_thread_join(one, KEEL_FOREVER, &rc);
    printf("taken twice, dropped once, another thread: %s\n", strerror(-rc));
    keel_rlock_drop(&shared.lock);
    return 0;
}
