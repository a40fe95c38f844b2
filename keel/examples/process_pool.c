/* SPDX-License-Identifier: MIT */
/* A pool of processes: submit, map, a task that crashes, one that is stopped.
 *
 *     cc process_pool.c $(pkg-config --cflags --libs keel) && ./a.out
 *
 * Only the task that crashed fails: its worker is replaced, and the others
 * never notice. */
#include <errno.h>
#include <signal.h>
#include <stdio.h>
#include <unistd.h>

#include <keel/procpool.h>

/* How many primes are below n. */
KEEL_TASK(primes)
{
    int n = *(const int *)in, count = 0;

    for (int i = 2; i < n; i++) {
        int d = 2;

        while (d * d <= i && i % d)
            d++;
        count += d * d > i;
    }
    *(int *)out = count;
    *ret_size = sizeof(count);
    return 0;
}

KEEL_TASK(crash)
{
    raise(SIGKILL);
    return 0;
}

KEEL_TASK(forever)
{
    pause();
    return 0;
}

static void report(struct keel_procpool *p, const char *what,
                   struct keel_proctask t)
{
    struct keel_proctask_end end;
    int n = 0;

    if (keel_procpool_result(p, t, &n, sizeof(n), KEEL_FOREVER, &end) < 0)
        return;
    if (end.result == 0)
        printf("%s: %d\n", what, n);
    else if (end.result == -EOWNERDEAD)
        printf("%s: its worker died of signal %d\n", what, end.signal);
    else if (end.result == -ETIMEDOUT)
        printf("%s: stopped at its limit\n", what);
}

int main(void)
{
    keel_auto(procpool) struct keel_procpool *p = NULL;
    struct keel_procpool_how how = {.workers = 2};
    struct keel_proctask good, bad, slow;
    int in[8], out[8], n = 1000;

    if (keel_procpool_new(&how, &p) < 0)
        return 1;

    if (keel_procpool_submit(p, "primes", &n, sizeof(n), KEEL_FOREVER,
                             KEEL_FOREVER, &good) < 0 ||
        keel_procpool_submit(p, "crash", NULL, 0, KEEL_FOREVER, KEEL_FOREVER,
                             &bad) < 0 ||
        keel_procpool_submit(p, "forever", NULL, 0, keel_after(50 * KEEL_MS),
                             KEEL_FOREVER, &slow) < 0)
        return 1;
    report(p, "primes below 1000", good);
    report(p, "crash", bad);
    report(p, "forever", slow);

    for (int i = 0; i < 8; i++)
        in[i] = 100 * (i + 1);
    if (keel_procpool_map(p, "primes", in, sizeof(*in), 8, out, sizeof(*out), 2,
                          KEEL_FOREVER) < 0)
        return 1;
    for (int i = 0; i < 8; i++)
        printf("primes below %d: %d\n", in[i], out[i]);

    keel_procpool_shutdown(p, false, KEEL_FOREVER);
    printf("after shutdown %u workers are left\n", keel_procpool_size(p));
    return 0;
}
