/* SPDX-License-Identifier: MIT */
/* For the tests with real servers: many coroutines of one thread in a library
 * that knows nothing of them.  What shows that they overlap is what the server
 * counts, which lets none of them go on before all are there; calls that
 * blocked the thread would hang the first of them for ever. */
#ifndef KEEL_PATCH_TOGETHER_H
#define KEEL_PATCH_TOGETHER_H

#include <stdio.h>
#include <stdlib.h>

#include <keel/co.h>
#include <keel/patch.h>

#define CHECK(expr)                                                            \
    do {                                                                       \
        if (!(expr)) {                                                         \
            (void)fprintf(stderr, "%s:%d: %s: failed: %s\n", __FILE__,         \
                          __LINE__, keel_name(), #expr);                       \
            exit(1);                                                           \
        }                                                                      \
    } while (0)

/* COUNT ADDRESS, of the command line. */
static int together;
static const char *address;

/* Of libraries written for threads, which have more. */
enum { STACK_BYTES = 128 * 1024 };

/* Starts the many. */
static inline void together_start(struct keel_group *g, int (*fn)(void *arg))
{
    for (int i = 0; i < together; i++) {
        char name[24];
        struct keel_spawn how = {
            .name = name, .group = g, .stack_bytes = STACK_BYTES};

        (void)snprintf(name, sizeof name, "client-%d", i);
        CHECK(keel_spawn(&how, fn, (void *)(intptr_t)i, NULL) == 0);
    }
}

static inline int together_main(int argc, char **argv, int (*fn)(void *arg))
{
    CHECK(argc == 3);
    together = atoi(argv[1]);
    address = argv[2];
    CHECK(together > 0);
    /* A mutex held across a park would be a dead end for the next one. */
    keel_patch_mutex(KEEL_PATCH_MUTEX_ABORT);
    CHECK(keel_run(fn, NULL) == 0);
    CHECK(keel_patched());
    CHECK(keel_patch_mutex_reports() == 0);
    return 0;
}

#endif
