/* SPDX-License-Identifier: MIT */
#include <keel/seam.h>

#include <errno.h>
#include <stdlib.h>
#include <sys/random.h>
#include <time.h>

static keel_ns real_now(void)
{
    struct timespec t;

    clock_gettime(CLOCK_MONOTONIC, &t);
    return (keel_ns)t.tv_sec * KEEL_SECOND + t.tv_nsec;
}

static int64_t real_wall_ns(void)
{
    struct timespec t;

    clock_gettime(CLOCK_REALTIME, &t);
    return (int64_t)t.tv_sec * KEEL_SECOND + t.tv_nsec;
}

static void real_random(void *buf, size_t size)
{
    char *at = buf;

    while (size > 0) {
        ssize_t n = getrandom(at, size, 0);

        if (n < 0 && errno == EINTR)
            continue;
        if (n <= 0)
            abort(); /* no keys without randomness */
        at += n;
        size -= (size_t)n;
    }
}

struct keel_seam keel_seam = {
    .now = real_now,
    .wall_ns = real_wall_ns,
    .random = real_random,
    .disk = &keel_disk_real,
    .net = &keel_net_real,
};

const char *keel_op_name(enum keel_op op)
{
    static const char *const names[KEEL_OP_COUNT] = {
        [KEEL_OP_ALLOC] = "alloc",     [KEEL_OP_OPEN] = "open",
        [KEEL_OP_READ] = "read",       [KEEL_OP_WRITE] = "write",
        [KEEL_OP_SYNC] = "sync",       [KEEL_OP_RESERVE] = "reserve",
        [KEEL_OP_STAT] = "stat",       [KEEL_OP_RENAME] = "rename",
        [KEEL_OP_LINK] = "link",       [KEEL_OP_UNLINK] = "unlink",
        [KEEL_OP_MKDIR] = "mkdir",     [KEEL_OP_LIST] = "list",
        [KEEL_OP_LOCK] = "lock",       [KEEL_OP_MODE] = "mode",
        [KEEL_OP_SOCKET] = "socket",   [KEEL_OP_ACCEPT] = "accept",
        [KEEL_OP_CONNECT] = "connect", [KEEL_OP_RECV] = "recv",
        [KEEL_OP_SEND] = "send",       [KEEL_OP_SHUTDOWN] = "shutdown",
        [KEEL_OP_POLL] = "poll",       [KEEL_OP_THREAD] = "thread",
        [KEEL_OP_PROCESS] = "process",
    };

    return (unsigned)op < KEEL_OP_COUNT ? names[op] : "unknown";
}
