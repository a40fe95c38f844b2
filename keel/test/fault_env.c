/* SPDX-License-Identifier: MIT */
/* Takes an order for faults from the environment before main: what makes a
 * product's sources into a program that fails on request. */
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "fault.h"

/* Opened at the start: later the program may have confined itself. */
static int log_fd = -1;
static char line[256];

static void log_hit(void)
{
    if (log_fd >= 0 && write(log_fd, line, strlen(line)) < 0)
        _exit(2); /* the test would take a hit for a miss */
}

static _Noreturn void refuse(const char *order)
{
    fprintf(stderr, "KEEL_FAULT: not an order: '%s'\n", order);
    _exit(2);
}

static bool parse_op(const char *text, enum keel_op *ret)
{
    if (!strcmp(text, "any")) {
        *ret = FAULT_ANY;
        return true;
    }
    for (unsigned op = 0; op < KEEL_OP_COUNT; op++) {
        if (!strcmp(text, keel_op_name(op))) {
            *ret = op;
            return true;
        }
    }
    return false;
}

static bool parse_what(const char *text, int *ret)
{
    if (!strcmp(text, "short")) {
        *ret = FAULT_SHORT;
        return true;
    }
    if (!strcmp(text, "kill")) {
        *ret = FAULT_KILL;
        return true;
    }
    for (int error = 1; error < 200; error++) {
        const char *name = strerrorname_np(error);

        if (name && !strcmp(text, name)) {
            *ret = error;
            return true;
        }
    }
    return false;
}

static bool parse_count(const char *text, unsigned *ret)
{
    char *end;
    unsigned long n = strtoul(text, &end, 10);

    if (*text < '0' || *text > '9' || *end || n > 1000000000)
        return false;
    *ret = (unsigned)n;
    return true;
}

__attribute__((constructor)) static void fault_from_environment(void)
{
    const char *order = getenv("KEEL_FAULT"), *file = getenv("KEEL_FAULT_LOG");
    char copy[128], *rest = copy, *part[4];
    unsigned nth, times = 1;
    enum keel_op op;
    int what;

    if (!order)
        return;
    snprintf(copy, sizeof copy, "%s", order);
    for (int k = 0; k < 4; k++)
        part[k] = strsep(&rest, ":");
    if (rest || !part[2] || strlen(order) >= sizeof copy ||
        !parse_op(part[0], &op) || !parse_count(part[1], &nth) || nth == 0 ||
        !parse_what(part[2], &what) ||
        (part[3] && !parse_count(part[3], &times)))
        refuse(order);
    snprintf(line, sizeof line, "fired %s\n", order);
    if (file) {
        log_fd = open(file, O_WRONLY | O_CREAT | O_APPEND | O_CLOEXEC, 0644);
        if (log_fd < 0)
            refuse(file);
    }
    fault_watch(log_hit);
    fault_fail_times(op, nth, what, times);
}
