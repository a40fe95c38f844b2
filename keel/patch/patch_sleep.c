/* SPDX-License-Identifier: MIT */
/* Sleeping.  By keel's clock, so that a test's clock moves these too. */
#include "patch_inside.h"

/* 0, or a negative errno, with what was left. */
static int sleep_until(const struct patched *k, keel_ns deadline,
                       struct timespec *ret_left)
{
    int before = errno, rc = k->sleep(deadline);
    keel_ns left = deadline - k->now();

    errno = before;
    if (rc < 0 && ret_left) {
        if (left < 0)
            left = 0;
        ret_left->tv_sec = left / KEEL_SECOND;
        ret_left->tv_nsec = left % KEEL_SECOND;
    }
    return rc;
}

PATCHED(int, nanosleep, const struct timespec *t, struct timespec *left)
{
    const struct patched *k = here();
    keel_ns deadline;
    int rc;

    if (!k || !t || !after_timespec(k, t, &deadline))
        return real.nanosleep(t, left);
    rc = sleep_until(k, deadline, left);
    return rc < 0 ? failed(rc) : 0;
}

PATCHED(int, usleep, useconds_t us)
{
    const struct patched *k = here();
    int rc;

    if (!k)
        return real.usleep(us);
    rc = sleep_until(k, after(k, us * KEEL_US), NULL);
    return rc < 0 ? failed(rc) : 0;
}

/* What is left is rounded up: 0 would say that nothing is. */
PATCHED(unsigned, sleep, unsigned seconds)
{
    const struct patched *k = here();
    struct timespec left;
    int rc;

    if (!k)
        return real.sleep(seconds);
    rc = sleep_until(k, after(k, seconds * KEEL_SECOND), &left);
    if (rc == 0)
        return 0;
    errno = -rc;
    return (unsigned)left.tv_sec + (left.tv_nsec > 0);
}

/* Until the date `t` of a clock that may be set meanwhile. */
static int sleep_until_date(const struct patched *k, clockid_t clock,
                            const struct timespec *t)
{
    for (;;) {
        struct timespec now;
        keel_ns left;
        int rc;

        if (clock_gettime(clock, &now) < 0)
            return -errno;
        if (now.tv_sec > t->tv_sec ||
            (now.tv_sec == t->tv_sec && now.tv_nsec >= t->tv_nsec))
            return 0;
        left = t->tv_sec - now.tv_sec > 1
                   ? KEEL_SECOND
                   : (t->tv_sec - now.tv_sec) * KEEL_SECOND + t->tv_nsec -
                         now.tv_nsec;
        rc = sleep_until(k, after(k, left), NULL);
        if (rc < 0)
            return rc;
    }
}

/* A clock of processor time stands still while we park: not ours. */
static bool is_wall(clockid_t clock)
{
    return clock == CLOCK_REALTIME || clock == CLOCK_MONOTONIC ||
           clock == CLOCK_BOOTTIME || clock == CLOCK_TAI;
}

/* Returns the error, and leaves errno alone. */
PATCHED(int, clock_nanosleep, clockid_t clock, int flags,
        const struct timespec *t, struct timespec *left)
{
    const struct patched *k = here();
    keel_ns deadline;

    if (!k || !is_wall(clock) || !t || !after_timespec(k, t, &deadline))
        return real.clock_nanosleep(clock, flags, t, left);
    return flags & TIMER_ABSTIME ? -sleep_until_date(k, clock, t)
                                 : -sleep_until(k, deadline, left);
}
