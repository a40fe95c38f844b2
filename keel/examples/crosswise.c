/* SPDX-License-Identifier: MIT */
/* Two locks taken crosswise: a deadlock that did not happen, yet is reported.
 *
 *     cc -DKEEL_DEBUG crosswise.c $(pkg-config --cflags --libs keel) && ./a.out
 *
 * The first thread moves money from left to right, the second, when the first
 * has ended, from right to left.  Had they run at the same time each could
 * have held one lock and waited for the other for ever.  The report on
 * standard error names both places.  The cure is one order for all: moving
 * in one order brings no report. */
#ifndef KEEL_DEBUG
#define KEEL_DEBUG /* before the header */
#endif
#include <stdio.h>

#include <keel/debug.h>
#include <keel/lock.h>
#include <keel/thread.h>

struct account {
    const char *name;
    int balance;
    struct keel_lock lock;
};

static struct account left = {"left", 100, KEEL_LOCK_INIT};
static struct account right = {"right", 100, KEEL_LOCK_INIT};

static void move(struct account *from, struct account *to)
{
    from->balance -= 10;
    to->balance += 10;
}

static int left_to_right(void *arg)
{
    (void)arg;
    keel_guard(&left.lock);
    keel_guard(&right.lock);
    move(&left, &right);
    return 0;
}

static int right_to_left(void *arg)
{
    (void)arg;
    keel_guard(&right.lock);
    keel_guard(&left.lock);
    move(&right, &left);
    return 0;
}

static int right_to_left_in_order(void *arg)
{
    (void)arg;
    keel_guard(&left.lock);
    keel_guard(&right.lock);
    move(&right, &left);
    return 0;
}

static int run(const char *name, int (*fn)(void *arg))
{
    struct keel_thread *thread;
    int rc = keel_thread_start(name, fn, NULL, &thread);

    return rc < 0 ? rc : keel_thread_join(thread, KEEL_FOREVER, NULL);
}

int main(void)
{
    setvbuf(stdout, NULL, _IOLBF, 0);
    if (run("one", left_to_right) < 0 ||
        run("ordered", right_to_left_in_order) < 0)
        return 1;
    printf("in one order: %zu reports\n", keel_lock_order_reports());
    if (run("two", right_to_left) < 0)
        return 1;
    printf("crosswise: %zu report\n", keel_lock_order_reports());
    return 0;
}
