/* SPDX-License-Identifier: MIT */
/* The kernel says that there is no more, not of what: several limits share an
 * error.  Those that can be compared with what is used are; what is left is
 * the user's number of processes, which nobody tells. */
#include "limit.h"

#include <errno.h>
#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>
#include <string.h>
#include <sys/resource.h>
#include <unistd.h>

#include <keel/co.h>
#include <keel/system.h>

enum { ROOM = 256 };

static _Thread_local struct {
    enum limit_of what;
    int error;
    char text[ROOM];
} met;

int limit_met(enum limit_of what, int error)
{
    met.what = what;
    met.error = error;
    return error;
}

/* ---- what there is ---- */

/* The `nth` number in a file of /proc or /sys; false: none. */
static bool number_in(const char *path, const char *format, uint64_t *ret)
{
    FILE *f = fopen(path, "re");
    unsigned long long value;
    bool found;

    if (!f)
        return false;
    found = fscanf(f, format, &value) == 1;
    fclose(f);
    if (found)
        *ret = value;
    return found;
}

/* False: unlimited. */
static bool rlimit_of(int resource, uint64_t *ret)
{
    struct rlimit l;

    if (getrlimit((__rlimit_resource_t)resource, &l) < 0 ||
        l.rlim_cur == RLIM_INFINITY)
        return false;
    *ret = l.rlim_cur;
    return true;
}

/* Of the control group's file `name`, version 2. */
static bool group_number(const char *name, uint64_t *ret)
{
    char group[256], path[512];
    FILE *f = fopen("/proc/self/cgroup", "re");
    bool found = false;

    if (!f)
        return false;
    while (!found && fgets(group, sizeof group, f))
        found = strncmp(group, "0::", 3) == 0;
    fclose(f);
    if (!found)
        return false;
    group[strcspn(group, "\n")] = '\0';
    snprintf(path, sizeof path, "/sys/fs/cgroup%s/%s", group + 3, name);
    return number_in(path, "%llu", ret);
}

int limit_resize(int fd, size_t size)
{
    uint64_t most;

    if (rlimit_of(RLIMIT_FSIZE, &most) && size > most)
        return limit_met(LIMIT_SHARED, -EFBIG);
    if (ftruncate(fd, (off_t)size) < 0)
        return limit_met(LIMIT_SHARED, -errno);
    return 0;
}

/* ---- which it was ---- */

static const char *say(const char *limit, uint64_t value, const char *what)
{
    snprintf(met.text, sizeof met.text, "%s (%llu) allows no more %s", limit,
             (unsigned long long)value, what);
    return met.text;
}

/* An address space with no room for another MiB: pages that were asked for do
 * not fit, whatever else there is. */
static bool addresses_are_out(uint64_t wanted, uint64_t *ret_limit)
{
    uint64_t pages, page = (uint64_t)sysconf(_SC_PAGESIZE);

    return rlimit_of(RLIMIT_AS, ret_limit) &&
           number_in("/proc/self/statm", "%llu", &pages) &&
           pages * page + wanted > *ret_limit;
}

static const char *of_tasks(const char *what)
{
    uint64_t most, now;

    if (addresses_are_out(16 << 20, &most))
        return say("RLIMIT_AS", most, "addresses");
    if (group_number("pids.max", &most) && group_number("pids.current", &now) &&
        now >= most)
        return say("pids.max of the control group", most, what);
    if (number_in("/proc/sys/kernel/threads-max", "%llu", &most) &&
        number_in("/proc/loadavg", "%*s %*s %*s %*u/%llu", &now) && now >= most)
        return say("kernel.threads-max", most, what);
    if (rlimit_of(RLIMIT_NPROC, &most))
        return say("RLIMIT_NPROC", most, what);
    return say("kernel.pid_max or vm.max_map_count", 0, what);
}

static const char *of_shared(int error)
{
    uint64_t most;

    if (error == -ENOMEM && rlimit_of(RLIMIT_AS, &most))
        return say("RLIMIT_AS", most, "addresses");
    return NULL;
}

static const char *of_poller(int error)
{
    uint64_t most;

    if (error == -ENOMEM && rlimit_of(RLIMIT_MEMLOCK, &most))
        return say("RLIMIT_MEMLOCK", most, "memory for io_uring");
    if (error == -EPERM &&
        number_in("/proc/sys/kernel/io_uring_disabled", "%llu", &most) && most)
        return say("kernel.io_uring_disabled", most, "rings of io_uring");
    return NULL;
}

/* A call that said what it wanted, and nothing since. */
static const char *of_what_was_wanted(int error)
{
    switch (met.what) {
    case LIMIT_STACK:
        return keel_stack_error();
    case LIMIT_THREAD:
        return error == -EAGAIN ? of_tasks("threads") : NULL;
    case LIMIT_PROCESS:
        return error == -EAGAIN ? of_tasks("processes") : NULL;
    case LIMIT_SHARED:
        return of_shared(error);
    case LIMIT_POLLER:
        return of_poller(error);
    default:
        return NULL;
    }
}

const char *keel_limit_error(int error)
{
    const char *said = met.error == error ? of_what_was_wanted(error) : NULL;
    uint64_t most = 0;

    if (said)
        return said;
    if (error == -EMFILE && rlimit_of(RLIMIT_NOFILE, &most))
        return say("RLIMIT_NOFILE", most, "descriptors in this process");
    if (error == -EFBIG && rlimit_of(RLIMIT_FSIZE, &most))
        return say("RLIMIT_FSIZE", most, "bytes in a file or shared memory");
    if (error == -ENFILE) {
        (void)number_in("/proc/sys/fs/file-max", "%llu", &most);
        return say("fs.file-max", most, "open files in this system");
    }
    if (error == -ENOMEM && rlimit_of(RLIMIT_AS, &most))
        return say("RLIMIT_AS", most, "memory");
    if (error == -ENOMEM && group_number("memory.max", &most))
        return say("memory.max of the control group", most, "memory");
    return NULL;
}
