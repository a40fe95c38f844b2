/* SPDX-License-Identifier: MIT */
/* Waiting for child processes.  One child is a descriptor (pidfd_open(2)); for
 * "any child" and for stops there is none, and the coroutine looks again and
 * again, less and less often. */
#include <signal.h>
#include <sys/syscall.h>

#include "patch_inside.h"

#define PAUSE_MOST (50 * KEEL_MS)

/* How one wait goes on. */
struct child_wait {
    struct patience patience;
    keel_ns pause;
    int fd;   /* to park on; -1: none */
    bool own; /* and closed here */
};

static struct child_wait child_wait(const struct patched *k, const char *what)
{
    return (struct child_wait){
        .patience = {.keel = k, .what = what, .deadline = KEEL_FOREVER},
        .pause = KEEL_MS,
        .fd = -1,
    };
}

static void child_open(struct child_wait *c, pid_t pid)
{
    int before = errno;

    c->fd = (int)syscall(SYS_pidfd_open, pid, 0);
    c->own = c->fd >= 0;
    errno = before;
}

static void child_close(struct child_wait *c)
{
    if (c->own)
        (void)close(c->fd);
}

/* 0: look again; or a negative errno. */
static int child_park(struct child_wait *c)
{
    const struct patched *k = c->patience.keel;
    int rc = k->allowed();

    if (rc < 0)
        return rc;
    if (c->fd >= 0)
        return wait_more_for(&c->patience, c->fd, POLLIN);
    rc = k->sleep(after(k, c->pause));
    if (c->pause < PAUSE_MOST)
        c->pause *= 2;
    return rc;
}

PATCHED(pid_t, wait4, pid_t pid, int *status, int options, struct rusage *usage)
{
    const struct patched *k = here();
    struct child_wait c = child_wait(k, "wait for a child");
    int before = errno, rc = 0;
    pid_t found;

    if (!k || (options & WNOHANG))
        return LATE(wait4)(pid, status, options, usage);
    if (pid > 0 && !(options & (WUNTRACED | WCONTINUED)))
        child_open(&c, pid);
    while ((found = real.wait4(pid, status, options | WNOHANG, usage)) == 0) {
        rc = child_park(&c);
        if (rc < 0)
            break;
    }
    child_close(&c);
    if (rc < 0)
        return failed(rc);
    if (found > 0)
        errno = before;
    return found;
}

PATCHED(pid_t, waitpid, pid_t pid, int *status, int options)
{
    return here() ? patched_wait4(pid, status, options, NULL)
                  : LATE(waitpid)(pid, status, options);
}

PATCHED(pid_t, wait, int *status)
{
    return patched_waitpid(-1, status, 0);
}

PATCHED(pid_t, wait3, int *status, int options, struct rusage *usage)
{
    return patched_wait4(-1, status, options, usage);
}

static void child_of(struct child_wait *c, idtype_t type, id_t id, int options)
{
    if (options & (WSTOPPED | WCONTINUED))
        return;
    if (type == P_PID)
        child_open(c, (pid_t)id);
    else if (type == P_PIDFD)
        c->fd = (int)id;
}

PATCHED(int, waitid, idtype_t type, id_t id, siginfo_t *info, int options)
{
    const struct patched *k = here();
    struct child_wait c = child_wait(k, "wait for a child");
    siginfo_t found;
    int before = errno, rc, failure = 0;

    if (!k || (options & WNOHANG))
        return LATE(waitid)(type, id, info, options);
    child_of(&c, type, id, options);
    for (;;) {
        found.si_pid = 0;
        rc = real.waitid(type, id, &found, options | WNOHANG);
        if (rc < 0 || found.si_pid)
            break;
        failure = child_park(&c);
        if (failure < 0)
            break;
    }
    child_close(&c);
    if (failure < 0)
        return failed(failure);
    if (rc < 0)
        return rc;
    if (info)
        *info = found;
    errno = before;
    return 0;
}
