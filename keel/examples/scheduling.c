/* SPDX-License-Identifier: MIT */
/* Four scheduling policies on one mix of jobs.
 *
 *     cc scheduling.c $(pkg-config --cflags --libs keel) && ./a.out
 *
 * Four jobs come at the same time to a pool of one thread: A of 8 steps, B of
 * 4, C of 9, D of 5.  A step takes one tick of the clock here, which only the
 * steps move, so that the figures can be worked out by hand:
 *
 *   first come     A to 8, B to 12, C to 21, D to 26: (8+12+21+26) / 4 = 16.75
 *   shortest       B to 4, D to 9, A to 17, C to 26: (17+4+26+9) / 4 = 14
 *   round robin    four rounds for all, B ends at 14; one more for A, C and D,
 *                  which ends at 19; then A and C in turn: A ends at 24, C at
 *                  26: (24+14+26+19) / 4 = 20.75
 *   feedback       one step each to 4, two each to 12, then four each: A to 16,
 *                  B has one left and ends at 17, C to 21, D ends at 23, A at
 *                  24, C at 26: (24+17+26+23) / 4 = 22.5
 *
 * Turnaround is when a job ends, response when it begins.  Shortest first has
 * the best turnaround, if somebody knows what is short; the two that share in
 * turn have the best response. */
#include <stdio.h>

#include <keel/lock.h>
#include <keel/pool.h>

enum { JOBS = 4 };

struct job {
    char name;
    int steps, left;
    int began, ended;
};

static int ticks;
static char order[64];

/* Hands the thread back after each step. */
static int step(void *arg)
{
    struct job *job = arg;

    if (job->left == job->steps)
        job->began = ticks;
    order[ticks++] = job->name;
    if (--job->left > 0)
        return KEEL_POOL_AGAIN;
    job->ended = ticks;
    return 0;
}

static int wait_for(void *arg)
{
    return keel_event_wait(arg, KEEL_FOREVER);
}

static int run(const char *title, enum keel_pool_policy policy)
{
    const struct keel_pool_how how = {.size = 1, .policy = policy};
    struct job job[JOBS] = {{.name = 'A', .steps = 8},
                            {.name = 'B', .steps = 4},
                            {.name = 'C', .steps = 9},
                            {.name = 'D', .steps = 5}};
    keel_auto(pool) struct keel_pool *p = NULL;
    struct keel_event all_are_here = {0};
    double turnaround = 0, response = 0;
    int rc;

    ticks = 0;
    rc = keel_pool_new(&how, &p);
    if (rc == 0)
        rc = keel_pool_submit(p, wait_for, &all_are_here, KEEL_FOREVER, NULL);
    for (int i = 0; rc == 0 && i < JOBS; i++) {
        job[i].left = job[i].steps;
        rc = keel_pool_submit_cost(p, (uint64_t)job[i].steps, step, &job[i],
                                   KEEL_FOREVER, NULL);
    }
    keel_event_set(&all_are_here);
    if (rc == 0)
        rc = keel_pool_shutdown(p, false, KEEL_FOREVER);
    if (rc < 0)
        return rc;

    for (int i = 0; i < JOBS; i++) {
        turnaround += job[i].ended;
        response += job[i].began;
    }
    printf("%-11s  %.*s  turnaround %5.2f  response %5.2f\n", title, ticks,
           order, turnaround / JOBS, response / JOBS);
    return 0;
}

int main(void)
{
    return run("first come", KEEL_POOL_FIRST_COME) < 0 ||
           run("shortest", KEEL_POOL_SHORTEST) < 0 ||
           run("round robin", KEEL_POOL_ROUND_ROBIN) < 0 ||
           run("feedback", KEEL_POOL_FEEDBACK) < 0;
}
