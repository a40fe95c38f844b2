/* SPDX-License-Identifier: MIT */
#include "scenario.h"

#include <errno.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

enum { OTHER_PROCESS = 3, AGAIN_EVERY = 16 };

static char self[4096];
static char repeat[4400]; /* how to run what runs now */

/* ---- what is said of a failure ---- */

static void tell_repeat(void)
{
    (void)!write(STDERR_FILENO, repeat, strlen(repeat));
}

void scenario_failed(const char *file, int line, const char *what)
{
    (void)fprintf(stderr, "%s:%d: not so: %s\n", file, line, what);
    tell_repeat();
    _exit(1);
}

static void on_death(int number)
{
    tell_repeat();
    signal(number, SIG_DFL);
    raise(number);
}

static void run_one(const struct scenario *s, uint64_t seed,
                    struct keel_sim_result *ret)
{
    struct keel_sim_how how = {.seed = seed};
    int rc;

    (void)snprintf(repeat, sizeof repeat,
                   "to repeat: KEEL_SIM_SEED=%llu %s %s\n",
                   (unsigned long long)seed, self, s->name);
    if (s->world)
        s->world(&how);
    rc = keel_sim_run(&how, s->program, NULL, ret);
    if (rc == 0)
        rc = ret->value;
    if (rc == 0)
        return;
    (void)fprintf(stderr, "%s: ended with %d\n", s->name, rc);
    tell_repeat();
    _exit(1);
}

/* ---- many ---- */

static void run_again(const struct scenario *s, uint64_t seed,
                      const struct keel_sim_result *first)
{
    struct keel_sim_result again;

    run_one(s, seed, &again);
    if (again.trace != first->trace || again.steps != first->steps ||
        again.time != first->time)
        scenario_failed(s->name, 0, "the same seed gives the same trace");
}

static void run_elsewhere(const struct scenario *s, uint64_t seed,
                          const struct keel_sim_result *first)
{
    char command[4500];
    unsigned long long trace = 0;
    FILE *out;

    (void)snprintf(command, sizeof command, "%s --trace-of %s %llu", self,
                   s->name, (unsigned long long)seed);
    out = popen(command, "re");
    if (!out || fscanf(out, "%llx", &trace) != 1 || pclose(out) != 0 ||
        trace != first->trace)
        scenario_failed(s->name, 0,
                        "the same seed gives the same trace in a process "
                        "with other addresses");
}

static int compare(const void *a, const void *b)
{
    const uint64_t *x = a, *y = b;

    return *x < *y ? -1 : *x > *y;
}

static void all_differ(const struct scenario *s, uint64_t *traces,
                       unsigned count)
{
    qsort(traces, count, sizeof *traces, compare);
    for (unsigned i = 1; i < count; i++)
        if (traces[i] == traces[i - 1])
            scenario_failed(s->name, 0, "two seeds give two traces");
}

static double seconds(void)
{
    struct timespec t;

    (void)clock_gettime(CLOCK_MONOTONIC, &t);
    return (double)t.tv_sec + (double)t.tv_nsec / 1e9;
}

static unsigned from_environment(const char *name, unsigned usual)
{
    const char *text = getenv(name);

    return text && *text ? (unsigned)strtoul(text, NULL, 10) : usual;
}

static void run_many(const struct scenario *s)
{
    unsigned count = from_environment("SEEDS", s->seeds), runs = 0;
    uint64_t first = from_environment("KEEL_SIM_FIRST", 1);
    struct keel_sim_result r, sum = {0};
    uint64_t *traces = calloc(count ? count : 1, sizeof *traces);
    double began = seconds();

    if (!traces)
        abort();
    for (unsigned i = 0; i < count; i++) {
        run_one(s, first + i, &r);
        runs++;
        traces[i] = r.trace;
        sum.steps += r.steps;
        sum.connections += r.connections;
        sum.lost += r.lost;
        sum.faults += r.faults;
        sum.crashes += r.crashes;
        sum.time += r.time;
        if (i < s->seeds || i % AGAIN_EVERY == 0) {
            run_again(s, first + i, &r);
            runs++;
        }
        if (i < OTHER_PROCESS)
            run_elsewhere(s, first + i, &r);
    }
    all_differ(s, traces, count);
    free(traces);
    printf("%-12s %6u seeds, %5.0f runs/s; %llu steps, %.0f s inside, "
           "%u connections, %u lost, %u faults, %u crashes\n",
           s->name, count, (double)runs / (seconds() - began),
           (unsigned long long)sum.steps, (double)sum.time / 1e9,
           sum.connections, sum.lost, sum.faults, sum.crashes);
    (void)fflush(stdout);
}

/* ---- the program ---- */

static const struct scenario *find(const struct scenario *all, size_t count,
                                   const char *name)
{
    for (size_t i = 0; i < count; i++)
        if (!strcmp(all[i].name, name))
            return &all[i];
    (void)fprintf(stderr, "%s: no such scenario\n", name);
    exit(2);
}

static void run_named(const struct scenario *s)
{
    const char *seed = getenv("KEEL_SIM_SEED");
    struct keel_sim_result r;

    if (!seed || !*seed) {
        run_many(s);
        return;
    }
    run_one(s, strtoull(seed, NULL, 10), &r);
    printf("%s: trace %016llx, %llu steps, %.3f s inside\n", s->name,
           (unsigned long long)r.trace, (unsigned long long)r.steps,
           (double)r.time / 1e9);
}

int scenario_main(int argc, char **argv, const struct scenario *all,
                  size_t count)
{
    struct keel_sim_result r;

    if (readlink("/proc/self/exe", self, sizeof self - 1) < 0)
        return 2;
    signal(SIGABRT, on_death);
    signal(SIGSEGV, on_death);
    if (argc == 4 && !strcmp(argv[1], "--trace-of")) {
        run_one(find(all, count, argv[2]), strtoull(argv[3], NULL, 10), &r);
        printf("%llx\n", (unsigned long long)r.trace);
        return 0;
    }
    for (int i = 1; i < argc; i++)
        run_named(find(all, count, argv[i]));
    for (size_t i = 0; argc < 2 && i < count; i++)
        run_named(&all[i]);
    return 0;
}
