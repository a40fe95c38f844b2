/* SPDX-License-Identifier: MIT */
/* Inside libkeel-patch.
 *
 * Every patched call has the same shape: without a coroutine around it, the
 * real one; else look, and park until looking again makes sense.  No look
 * waits, and who need not wait does not switch, but for fair().  errno is
 * written last, after the last switch, and is as it was where nothing failed:
 * the other coroutines of the thread write it too. */
#ifndef KEEL_PATCH_INSIDE_H
#define KEEL_PATCH_INSIDE_H

#include <errno.h>
#include <netdb.h>
#include <poll.h>
#include <pthread.h>
#include <stdbool.h>
#include <stddef.h>
#include <sys/epoll.h>
#include <sys/resource.h>
#include <sys/select.h>
#include <sys/sendfile.h>
#include <sys/socket.h>
#include <sys/time.h>
#include <sys/uio.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

#include <keel/base.h>

#include "loop/patched.h"

/* Defines libc's `name`.  By its assembler name, so that the header's own
 * declaration (which may be a macro, or inline when fortified) is left alone. */
#define PATCHED(type, name, ...)                                               \
    KEEL_API type patched_##name(__VA_ARGS__) __asm__(#name);                  \
    type patched_##name(__VA_ARGS__)

/* ---- the real calls ------------------------------------------------------------- */
/* Those that are system calls are just that until the library is initialised,
 * which may be after other libraries have called them; then libc's, or those
 * of the next library that stands in for it. */
#define REAL_CALLS(X)                                                          \
    X(read)                                                                    \
    X(write)                                                                   \
    X(readv)                                                                   \
    X(writev)                                                                  \
    X(recv)                                                                    \
    X(recvfrom)                                                                \
    X(recvmsg)                                                                 \
    X(recvmmsg)                                                                \
    X(send)                                                                    \
    X(sendto)                                                                  \
    X(sendmsg)                                                                 \
    X(sendmmsg)                                                                \
    X(sendfile)                                                                \
    X(accept)                                                                  \
    X(accept4)                                                                 \
    X(connect)                                                                 \
    X(poll)                                                                    \
    X(ppoll)                                                                   \
    X(select)                                                                  \
    X(pselect)                                                                 \
    X(epoll_wait)                                                              \
    X(epoll_pwait)                                                             \
    X(sleep)                                                                   \
    X(usleep)                                                                  \
    X(nanosleep)                                                               \
    X(clock_nanosleep)

/* Never called before the library is initialised, or by name then. */
#define LATE_CALLS(X)                                                          \
    X(epoll_pwait2)                                                            \
    X(waitpid)                                                                 \
    X(wait4)                                                                   \
    X(waitid)                                                                  \
    X(getaddrinfo)                                                             \
    X(getnameinfo)                                                             \
    X(gethostbyname)                                                           \
    X(gethostbyname2)                                                          \
    X(gethostbyaddr)                                                           \
    X(gethostbyname_r)                                                         \
    X(gethostbyname2_r)                                                        \
    X(gethostbyaddr_r)                                                         \
    X(pthread_mutex_lock)                                                      \
    X(pthread_mutex_trylock)                                                   \
    X(pthread_mutex_timedlock)                                                 \
    X(pthread_mutex_clocklock)                                                 \
    X(pthread_mutex_unlock)                                                    \
    X(pthread_rwlock_rdlock)                                                   \
    X(pthread_rwlock_tryrdlock)                                                \
    X(pthread_rwlock_wrlock)                                                   \
    X(pthread_rwlock_trywrlock)                                                \
    X(pthread_rwlock_unlock)

struct real {
#define X(name) __typeof__(name) *name;
    REAL_CALLS(X)
    LATE_CALLS(X)
#undef X
};
extern struct real real;
/* For a call of the second kind, which may come before the initialisation. */
void real_find(void);
#define LATE(name) (real.name ? real.name : (real_find(), real.name))

/* ---- where we are ------------------------------------------------------------------- */
/* The keel whose coroutine calls; NULL outside.  Safe in a signal handler. */
const struct patched *here(void);

/* True for what was opened blocking, and for -1 and the like. */
bool is_blocking(int fd);
/* -1, with errno. */
int failed(int error);
/* The point `span` from now, at most KEEL_FOREVER. */
keel_ns after(const struct patched *k, keel_ns span);
keel_ns after_ms(const struct patched *k, int ms); /* < 0: never */
/* Never for NULL; false: not a span that a call takes. */
bool after_timespec(const struct patched *k, const struct timespec *t,
                    keel_ns *ret);

/* One wait of a call that may need several.  `deadline` is the call's own.
 * 0, -ETIMEDOUT (a keel_timeout's; or its own, that it_is_over tells),
 * -ECANCELED, -ENOMEM.  A wait that is ended again and again for nothing gets
 * slower. */
struct patience {
    const struct patched *keel;
    const char *what;
    keel_ns deadline;
    unsigned vain;
};
int wait_more(struct patience *p, const struct pollfd *fds, size_t count);
int wait_more_for(struct patience *p, int fd, short events);
bool it_is_over(const struct patience *p);

/* A call that could have waited, and did not: after a run of them the others
 * get a turn.  Not so where `fd` (-1: none) is non-blocking: who uses those
 * counts on not being interrupted.  errno is kept. */
void fair(const struct patched *k, int fd);

/* ---- the detector of mutexes ---------------------------------------------------------- */
/* Begins or ends watching, in every keel that is attached. */
void mutex_watch_keel(const struct patched *k);
/* Calls `fn` for each keel that is attached. */
void each_keel(void (*fn)(const struct patched *k));

#endif
