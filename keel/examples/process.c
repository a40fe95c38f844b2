/* SPDX-License-Identifier: MIT */
/* Processes: a daemon and others, join, terminate, is_alive, exit codes.
 *
 *     cc process.c $(pkg-config --cflags --libs keel) && ./a.out
 *
 * A process begins at an entry point with a name, and gets its argument as
 * bytes.  A daemon ends with the program; the end of the program waits for the
 * others. */
#include <stdio.h>
#include <string.h>
#include <unistd.h>

#include <keel/process.h>

KEEL_PROCESS(adder)
{
    const int *n = arg->data;

    printf("  %s: %d + %d\n", keel_process_name_here(), n[0], n[1]);
    return n[0] + n[1];
}

KEEL_PROCESS(sleeper)
{
    pause();
    return 0;
}

KEEL_PROCESS(late)
{
    usleep(50000);
    printf("  late: the program waited for me\n");
    return 0;
}

static void report(struct keel_process *p)
{
    int code;

    if (keel_process_exitcode(p, &code) < 0)
        printf("%s runs\n", keel_process_name(p));
    else if (code < 0)
        printf("%s was ended by signal %d\n", keel_process_name(p), -code);
    else
        printf("%s returned %d\n", keel_process_name(p), code);
}

int main(void)
{
    keel_auto(process) struct keel_process *sum = NULL, *nap = NULL,
                                           *end = NULL;
    int numbers[] = {40, 2};
    int rc;

    setlinebuf(stdout); /* the lines of several processes, in order */
    rc = keel_process_start(
        "adder",
        &(struct keel_process_how){
            .name = "sum", .arg = numbers, .arg_size = sizeof(numbers)},
        &sum);
    if (rc < 0) {
        printf("no process: %s\n", strerror(-rc));
        return 1;
    }
    keel_process_join(sum, KEEL_FOREVER, NULL);
    report(sum);

    if (keel_process_start("sleeper", NULL, &nap) < 0)
        return 1;
    rc = keel_process_join(nap, keel_after(10 * KEEL_MS), NULL);
    printf("join for 10 ms: %s\n", rc == 0 ? "ended" : strerror(-rc));
    report(nap);
    keel_process_terminate(nap);
    keel_process_join(nap, KEEL_FOREVER, NULL);
    printf("is it alive? %s\n", keel_process_is_alive(nap) ? "yes" : "no");
    report(nap);

    /* Nobody joins these two: the daemon is killed at the end, the other is
     * waited for. */
    keel_process_free(keel_take(nap));
    if (keel_process_start(
            "sleeper", &(struct keel_process_how){.daemon = true}, &nap) < 0 ||
        keel_process_start("late", NULL, &end) < 0)
        return 1;
    printf("the end of main\n");
    return 0;
}
