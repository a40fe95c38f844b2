/* SPDX-License-Identifier: MIT */
/* Waiting for events: poll, select, epoll_wait and their kin.
 *
 * The real call looks, with no time to wait; then the coroutine parks on the
 * same descriptors, and the real call looks again, so that what it tells is
 * always its own.  An epoll descriptor is one that can be waited on itself.
 *
 * A mask of signals holds only while the real call looks: the thread belongs to
 * others too.  A signal that only the mask lets through is therefore met by
 * looking now and then. */
#include <signal.h>
#include <stdlib.h>
#include <string.h>

#include "patch_inside.h"

#define LOOK_FOR_SIGNALS (50 * KEEL_MS)

/* One call: `look` is the real one. */
struct watch {
    struct patience patience;
    const sigset_t *mask;
    int (*look)(struct watch *w);
    const struct pollfd *fds; /* to park on */
    size_t count;
};

/* 0: look again; 1: the time is over; -1 with errno. */
static int park(struct watch *w)
{
    struct patience p = w->patience;
    int rc;

    if (w->mask) {
        keel_ns next = after(p.keel, LOOK_FOR_SIGNALS);

        if (next < p.deadline)
            p.deadline = next;
    }
    rc = wait_more(&p, w->fds, w->count);
    w->patience.vain = rc < 0 ? 0 : p.vain;
    if (rc == 0)
        return 0;
    if (rc != -ETIMEDOUT)
        return failed(rc);
    if (it_is_over(&w->patience))
        return 1;
    return it_is_over(&p) ? 0 : failed(ETIMEDOUT);
}

static int watch(struct watch *w)
{
    int before = errno, rc, over;

    rc = w->look(w);
    if (rc == 0 && w->patience.deadline == KEEL_NOW)
        return rc;
    if (rc > 0)
        fair(w->patience.keel, -1);
    while (rc == 0) {
        over = park(w);
        if (over < 0)
            return -1;
        rc = w->look(w);
        if (over)
            break;
    }
    if (rc >= 0)
        errno = before;
    return rc;
}

/* ---- poll --------------------------------------------------------------------------- */

struct poll_watch {
    struct watch watch;
    struct pollfd *fds;
    nfds_t count;
};

static int look_poll(struct watch *w)
{
    static const struct timespec none = {0, 0};
    struct poll_watch *p = (struct poll_watch *)(void *)w;

    return w->mask ? real.ppoll(p->fds, p->count, &none, w->mask)
                   : real.poll(p->fds, p->count, 0);
}

static int watch_poll(const struct patched *k, struct pollfd *fds, nfds_t count,
                      keel_ns deadline, const sigset_t *mask, const char *what)
{
    struct poll_watch p = {
        .watch = {.patience = {.keel = k, .what = what, .deadline = deadline},
                  .mask = mask,
                  .look = look_poll,
                  .fds = fds,
                  .count = count},
        .fds = fds,
        .count = count,
    };

    return watch(&p.watch);
}

PATCHED(int, poll, struct pollfd *fds, nfds_t count, int ms)
{
    const struct patched *k = here();

    if (!k || !ms)
        return real.poll(fds, count, ms);
    return watch_poll(k, fds, count, after_ms(k, ms), NULL, "poll");
}

PATCHED(int, ppoll, struct pollfd *fds, nfds_t count, const struct timespec *t,
        const sigset_t *mask)
{
    const struct patched *k = here();
    keel_ns deadline;

    if (!k || !after_timespec(k, t, &deadline))
        return real.ppoll(fds, count, t, mask);
    return watch_poll(k, fds, count, deadline, mask, "ppoll");
}

/* ---- select ------------------------------------------------------------------------- */

/* The program's sets may be longer than an fd_set. */
enum { SET_BITS = 8 * (int)sizeof(fd_mask), SETS = 3, FEW_WORDS = 16 };
static const short set_events[SETS] = {POLLIN, POLLOUT, POLLPRI};

/* `asked` keeps the sets as they came, as the real call writes its answer over
 * them. */
struct select_watch {
    struct watch watch;
    int count;
    size_t words;
    fd_mask *sets[SETS], *asked[SETS]; /* NULL: not given */
};

static int look_select(struct watch *w)
{
    static const struct timespec none = {0, 0};
    struct select_watch *s = (struct select_watch *)(void *)w;

    for (int i = 0; i < SETS; i++)
        if (s->sets[i])
            memcpy(s->sets[i], s->asked[i], s->words * sizeof(fd_mask));
    return real.pselect(s->count, (fd_set *)(void *)s->sets[0],
                        (fd_set *)(void *)s->sets[1],
                        (fd_set *)(void *)s->sets[2], &none, w->mask);
}

static short events_of(const struct select_watch *s, int fd)
{
    size_t word = (size_t)fd / SET_BITS;
    fd_mask bit = (fd_mask)(1ul << ((unsigned)fd % SET_BITS));
    int events = 0;

    for (int i = 0; i < SETS; i++)
        if (s->asked[i] && (s->asked[i][word] & bit))
            events |= set_events[i];
    return (short)events;
}

/* Counts them, and writes them where there is room. */
static size_t select_fds(const struct select_watch *s, struct pollfd *ret)
{
    size_t count = 0;

    for (int fd = 0; fd < s->count; fd++) {
        short events = events_of(s, fd);

        if (!events)
            continue;
        if (ret)
            ret[count] = (struct pollfd){.fd = fd, .events = events};
        count++;
    }
    return count;
}

/* With memory for what the call needs: the sets, then the descriptors. */
static int watch_select_in(struct select_watch *s, fd_mask *room)
{
    struct pollfd few[4], *fds = few;
    size_t count;
    int rc;

    for (int i = 0; i < SETS; i++) {
        if (!s->sets[i])
            continue;
        s->asked[i] = room;
        memcpy(room, s->sets[i], s->words * sizeof *room);
        room += s->words;
    }
    count = select_fds(s, NULL);
    if (count > sizeof few / sizeof *few) {
        fds = calloc(count, sizeof *fds);
        if (!fds)
            return failed(ENOMEM);
    }
    s->watch.count = select_fds(s, fds);
    s->watch.fds = fds;
    rc = watch(&s->watch);
    if (fds != few)
        free(fds);
    return rc;
}

static int watch_select(const struct patched *k, int count, fd_set *r,
                        fd_set *w, fd_set *x, keel_ns deadline,
                        const sigset_t *mask, const char *what)
{
    struct select_watch s = {
        .watch = {.patience = {.keel = k, .what = what, .deadline = deadline},
                  .mask = mask,
                  .look = look_select},
        .count = count,
        .words = ((size_t)count + SET_BITS - 1) / SET_BITS,
        .sets = {r ? r->fds_bits : NULL, w ? w->fds_bits : NULL,
                 x ? x->fds_bits : NULL},
    };
    fd_mask few[SETS * FEW_WORDS], *room = few;
    int rc;

    if (s.words > FEW_WORDS) {
        room = calloc(SETS * s.words, sizeof *room);
        if (!room)
            return failed(ENOMEM);
    }
    rc = watch_select_in(&s, room);
    if (room != few)
        free(room);
    return rc;
}

/* Who makes the kernel look beyond the descriptors there are gets what it
 * says. */
static bool is_odd(int count)
{
    struct rlimit most;

    if (count < 0)
        return true;
    return getrlimit(RLIMIT_NOFILE, &most) < 0 ||
           ((rlim_t)count > most.rlim_cur && count > FD_SETSIZE);
}

/* As Linux does, it leaves in `tv` what was left of it. */
PATCHED(int, select, int count, fd_set *r, fd_set *w, fd_set *x,
        struct timeval *tv)
{
    const struct patched *k = here();
    keel_ns deadline = KEEL_FOREVER, left;
    struct timespec t;
    int rc;

    if (!k || is_odd(count))
        return real.select(count, r, w, x, tv);
    if (tv) {
        if (tv->tv_sec < 0 || tv->tv_usec < 0)
            return real.select(count, r, w, x, tv);
        t = (struct timespec){tv->tv_sec + tv->tv_usec / 1000000,
                              tv->tv_usec % 1000000 * 1000};
        if (!after_timespec(k, &t, &deadline))
            return real.select(count, r, w, x, tv);
    }
    rc = watch_select(k, count, r, w, x, deadline, NULL, "select");
    if (tv && deadline != KEEL_FOREVER) {
        left = deadline > k->now() ? deadline - k->now() : 0;
        tv->tv_sec = left / KEEL_SECOND;
        tv->tv_usec = left % KEEL_SECOND / 1000;
    }
    return rc;
}

PATCHED(int, pselect, int count, fd_set *r, fd_set *w, fd_set *x,
        const struct timespec *t, const sigset_t *mask)
{
    const struct patched *k = here();
    keel_ns deadline;

    if (!k || is_odd(count) || !after_timespec(k, t, &deadline))
        return real.pselect(count, r, w, x, t, mask);
    return watch_select(k, count, r, w, x, deadline, mask, "pselect");
}

/* ---- epoll ---------------------------------------------------------------------------- */

struct epoll_watch {
    struct watch watch;
    struct pollfd self;
    struct epoll_event *events;
    int count;
};

static int look_epoll(struct watch *w)
{
    struct epoll_watch *e = (struct epoll_watch *)(void *)w;

    return real.epoll_pwait(e->self.fd, e->events, e->count, 0, w->mask);
}

static int watch_epoll(const struct patched *k, int fd,
                       struct epoll_event *events, int count, keel_ns deadline,
                       const sigset_t *mask, const char *what)
{
    struct epoll_watch e = {
        .watch = {.patience = {.keel = k, .what = what, .deadline = deadline},
                  .mask = mask,
                  .look = look_epoll,
                  .count = 1},
        .self = {.fd = fd, .events = POLLIN},
        .events = events,
        .count = count,
    };

    e.watch.fds = &e.self;
    return watch(&e.watch);
}

PATCHED(int, epoll_wait, int fd, struct epoll_event *events, int count, int ms)
{
    const struct patched *k = here();

    if (!k || !ms)
        return real.epoll_wait(fd, events, count, ms);
    return watch_epoll(k, fd, events, count, after_ms(k, ms), NULL,
                       "epoll_wait");
}

PATCHED(int, epoll_pwait, int fd, struct epoll_event *events, int count, int ms,
        const sigset_t *mask)
{
    const struct patched *k = here();

    if (!k || !ms)
        return real.epoll_pwait(fd, events, count, ms, mask);
    return watch_epoll(k, fd, events, count, after_ms(k, ms), mask,
                       "epoll_pwait");
}

PATCHED(int, epoll_pwait2, int fd, struct epoll_event *events, int count,
        const struct timespec *t, const sigset_t *mask)
{
    const struct patched *k = here();
    keel_ns deadline;

    if (!k || !after_timespec(k, t, &deadline)) {
        if (LATE(epoll_pwait2))
            return real.epoll_pwait2(fd, events, count, t, mask);
        return failed(ENOSYS);
    }
    return watch_epoll(k, fd, events, count, deadline, mask, "epoll_pwait2");
}

/* ---- what a program built with _FORTIFY_SOURCE calls instead ------------------------------ */

_Noreturn void __chk_fail(void);

PATCHED(int, __poll_chk, struct pollfd *fds, nfds_t count, int ms, size_t room)
{
    if (room / sizeof *fds < count)
        __chk_fail();
    return patched_poll(fds, count, ms);
}

PATCHED(int, __ppoll_chk, struct pollfd *fds, nfds_t count,
        const struct timespec *t, const sigset_t *mask, size_t room)
{
    if (room / sizeof *fds < count)
        __chk_fail();
    return patched_ppoll(fds, count, t, mask);
}
