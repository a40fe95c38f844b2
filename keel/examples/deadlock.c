/* SPDX-License-Identifier: MIT */
/* A deadlock: two transfers lock two accounts in opposite orders.  Half a second
 * after everything has come to a stop keel reports who waits for what, and who
 * has it.
 *
 *     cc deadlock.c $(pkg-config --cflags --libs keel) && ./a.out
 *
 * By default the report goes to standard error and the program stays as it is,
 * for a debugger; here a hook prints it and ends the program. */
#include <stdio.h>
#include <unistd.h>

#include <keel/co.h>
#include <keel/debug.h>
#include <keel/lock.h>

struct account {
    struct keel_lock lock;
    int balance;
};

struct transfer {
    struct account *from, *to;
};

static struct account anna = {KEEL_LOCK_INIT, 100};
static struct account bert = {KEEL_LOCK_INIT, 100};

static int move_ten(void *arg)
{
    struct transfer *t = arg;

    keel_guard(&t->from->lock);
    keel_yield(); /* the other one gets its turn, and its first lock */
    keel_guard(&t->to->lock);
    t->from->balance -= 10;
    t->to->balance += 10;
    return 0;
}

static void print_and_end(enum keel_report kind, const char *text, void *arg)
{
    (void)arg;
    if (kind != KEEL_REPORT_DEADLOCK)
        return;
    printf("%s", text);
    fflush(stdout);
    _exit(0);
}

static int trade(void *arg)
{
    struct transfer there = {&anna, &bert}, back = {&bert, &anna};
    struct keel_spawn how = {.name = "there"};
    struct keel_co *first, *second;

    (void)arg;
    if (keel_spawn(&how, move_ten, &there, &first) < 0)
        return 1;
    how.name = "back";
    if (keel_spawn(&how, move_ten, &back, &second) < 0)
        return 1;
    keel_join(first, KEEL_FOREVER, NULL); /* never */
    return 1;
}

int main(void)
{
    keel_on_report(print_and_end, NULL);
    return keel_run(trade, NULL);
}
