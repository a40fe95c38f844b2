/* SPDX-License-Identifier: MIT */
/* Who calls, and what is real. */
#include <keel/patch.h>

#include <dlfcn.h>
#include <fcntl.h>
#include <signal.h>
#include <stdatomic.h>
#include <sys/syscall.h>

#include "patch_inside.h"

/* ---- keels ------------------------------------------------------------------------ */

/* One in the program, one in libkeel.so, and what plugins may bring.  The list
 * only grows, at its end. */
enum { KEELS_MOST = 8 };
static const struct patched *_Atomic keels[KEELS_MOST];

/* The child of a fork in a coroutine: its loop is a copy, whose io_uring or
 * epoll is the parent's own. */
static _Atomic bool orphaned;

KEEL_API patched_attach keel_patch_attach;
int keel_patch_attach(const struct patched *keel)
{
    struct sigaction old;

    if (keel->version != PATCHED_VERSION)
        return -EINVAL;
    real_find();
    /* Libraries that set the action around a call and restore it afterwards
     * (libcurl) undo each other's when their calls interleave; ignored from
     * the beginning, it is ignored whatever they restore. */
    if (sigaction(SIGPIPE, NULL, &old) == 0 && old.sa_handler == SIG_DFL)
        (void)signal(SIGPIPE, SIG_IGN);
    for (int i = 0; i < KEELS_MOST; i++) {
        const struct patched *none = NULL;

        if (atomic_compare_exchange_strong(&keels[i], &none, keel)) {
            mutex_watch_keel(keel);
            return 0;
        }
    }
    return 0; /* its coroutines block, as if unpatched */
}

void each_keel(void (*fn)(const struct patched *k))
{
    for (int i = 0; i < KEELS_MOST; i++) {
        const struct patched *k = atomic_load(&keels[i]);

        if (k)
            fn(k);
    }
}

const struct patched *here(void)
{
    for (int i = 0; i < KEELS_MOST; i++) {
        const struct patched *k =
            atomic_load_explicit(&keels[i], memory_order_acquire);

        if (!k)
            return NULL;
        if (k->inside())
            return atomic_load_explicit(&orphaned, memory_order_relaxed) ? NULL
                                                                         : k;
    }
    return NULL;
}

bool keel_patched(void)
{
    return atomic_load(&keels[0]) != NULL;
}

static void forked(void)
{
    if (here())
        atomic_store(&orphaned, true);
}

/* ---- real calls ---------------------------------------------------------------------- */

static ssize_t raw_read(int fd, void *buf, size_t size)
{
    return syscall(SYS_read, fd, buf, size);
}

static ssize_t raw_write(int fd, const void *buf, size_t size)
{
    return syscall(SYS_write, fd, buf, size);
}

static ssize_t raw_readv(int fd, const struct iovec *v, int count)
{
    return syscall(SYS_readv, fd, v, count);
}

static ssize_t raw_writev(int fd, const struct iovec *v, int count)
{
    return syscall(SYS_writev, fd, v, count);
}

static ssize_t raw_recvfrom(int fd, void *buf, size_t size, int flags,
                            __SOCKADDR_ARG from, socklen_t *from_size)
{
    return syscall(SYS_recvfrom, fd, buf, size, flags, from.__sockaddr__,
                   from_size);
}

static ssize_t raw_recv(int fd, void *buf, size_t size, int flags)
{
    return syscall(SYS_recvfrom, fd, buf, size, flags, NULL, NULL);
}

static ssize_t raw_recvmsg(int fd, struct msghdr *msg, int flags)
{
    return syscall(SYS_recvmsg, fd, msg, flags);
}

static int raw_recvmmsg(int fd, struct mmsghdr *msgs, unsigned count, int flags,
                        struct timespec *timeout)
{
    return (int)syscall(SYS_recvmmsg, fd, msgs, count, flags, timeout);
}

static ssize_t raw_sendto(int fd, const void *buf, size_t size, int flags,
                          __CONST_SOCKADDR_ARG to, socklen_t to_size)
{
    return syscall(SYS_sendto, fd, buf, size, flags, to.__sockaddr__, to_size);
}

static ssize_t raw_send(int fd, const void *buf, size_t size, int flags)
{
    return syscall(SYS_sendto, fd, buf, size, flags, NULL, 0);
}

static ssize_t raw_sendmsg(int fd, const struct msghdr *msg, int flags)
{
    return syscall(SYS_sendmsg, fd, msg, flags);
}

static int raw_sendmmsg(int fd, struct mmsghdr *msgs, unsigned count, int flags)
{
    return (int)syscall(SYS_sendmmsg, fd, msgs, count, flags);
}

static ssize_t raw_sendfile(int to, int from, off_t *at, size_t size)
{
    return syscall(SYS_sendfile, to, from, at, size);
}

static int raw_accept4(int fd, __SOCKADDR_ARG peer, socklen_t *size, int flags)
{
    return (int)syscall(SYS_accept4, fd, peer.__sockaddr__, size, flags);
}

static int raw_accept(int fd, __SOCKADDR_ARG peer, socklen_t *size)
{
    return raw_accept4(fd, peer, size, 0);
}

static int raw_connect(int fd, __CONST_SOCKADDR_ARG to, socklen_t size)
{
    return (int)syscall(SYS_connect, fd, to.__sockaddr__, size);
}

/* The kernel's mask is 8 bytes, and it writes what is left into `t`. */
static int raw_ppoll(struct pollfd *fds, nfds_t count, const struct timespec *t,
                     const sigset_t *mask)
{
    struct timespec left = t ? *t : (struct timespec){0, 0};

    return (int)syscall(SYS_ppoll, fds, count, t ? &left : NULL, mask, 8);
}

static struct timespec from_ms(int ms)
{
    return (struct timespec){ms / 1000, (long)(ms % 1000) * 1000000};
}

static int raw_poll(struct pollfd *fds, nfds_t count, int ms)
{
    struct timespec t = from_ms(ms);

    return raw_ppoll(fds, count, ms < 0 ? NULL : &t, NULL);
}

static int raw_pselect(int count, fd_set *r, fd_set *w, fd_set *x,
                       const struct timespec *t, const sigset_t *mask)
{
    struct timespec left = t ? *t : (struct timespec){0, 0};
    const struct {
        const sigset_t *mask;
        size_t size;
    } set = {mask, 8};

    return (int)syscall(SYS_pselect6, count, r, w, x, t ? &left : NULL, &set);
}

static int raw_select(int count, fd_set *r, fd_set *w, fd_set *x,
                      struct timeval *tv)
{
    struct timespec t = {0, 0};
    int rc;

    if (tv)
        t = (struct timespec){tv->tv_sec, tv->tv_usec * 1000};
    rc = (int)syscall(SYS_pselect6, count, r, w, x, tv ? &t : NULL, NULL);
    if (tv)
        *tv = (struct timeval){t.tv_sec, t.tv_nsec / 1000};
    return rc;
}

static int raw_epoll_pwait(int fd, struct epoll_event *events, int count,
                           int ms, const sigset_t *mask)
{
    return (int)syscall(SYS_epoll_pwait, fd, events, count, ms, mask, 8);
}

static int raw_epoll_wait(int fd, struct epoll_event *events, int count, int ms)
{
    return raw_epoll_pwait(fd, events, count, ms, NULL);
}

static int raw_clock_nanosleep(clockid_t clock, int flags,
                               const struct timespec *t, struct timespec *left)
{
    int before = errno, rc = 0;

    if (syscall(SYS_clock_nanosleep, clock, flags, t, left) < 0)
        rc = errno;
    errno = before;
    return rc;
}

static int raw_nanosleep(const struct timespec *t, struct timespec *left)
{
    return (int)syscall(SYS_clock_nanosleep, CLOCK_REALTIME, 0, t, left);
}

static unsigned raw_sleep(unsigned seconds)
{
    struct timespec t = {(time_t)seconds, 0};

    return raw_nanosleep(&t, &t) < 0 ? (unsigned)t.tv_sec : 0;
}

static int raw_usleep(useconds_t us)
{
    struct timespec t = {(time_t)(us / 1000000), (long)(us % 1000000) * 1000};

    return raw_nanosleep(&t, NULL);
}

struct real real = {
#define X(name) .name = raw_##name,
    REAL_CALLS(X)
#undef X
};

/* A name that libc has not (an older one's epoll_pwait2) stays as it is. */
#define X(name)                                                                \
    {                                                                          \
        void *found = dlsym(RTLD_NEXT, #name);                                 \
                                                                               \
        if (found)                                                             \
            *(void **)&real.name = found;                                      \
    }
void real_find(void)
{
    static _Atomic bool done;

    if (atomic_load(&done))
        return;
    REAL_CALLS(X)
    LATE_CALLS(X)
    atomic_store(&done, true);
}
#undef X

__attribute__((constructor(101))) static void begin(void)
{
    real_find();
    (void)pthread_atfork(NULL, NULL, forked);
}

/* ---- waiting -------------------------------------------------------------------------- */

bool is_blocking(int fd)
{
    int before = errno;
    int flags = fcntl(fd, F_GETFL);

    errno = before;
    return flags >= 0 && !(flags & O_NONBLOCK);
}

int failed(int error)
{
    errno = error < 0 ? -error : error;
    return -1;
}

keel_ns after(const struct patched *k, keel_ns span)
{
    keel_ns now = k->now();

    return span > KEEL_FOREVER - now ? KEEL_FOREVER : now + span;
}

keel_ns after_ms(const struct patched *k, int ms)
{
    if (ms < 0)
        return KEEL_FOREVER;
    return ms ? after(k, ms * KEEL_MS) : KEEL_NOW;
}

bool after_timespec(const struct patched *k, const struct timespec *t,
                    keel_ns *ret)
{
    if (!t) {
        *ret = KEEL_FOREVER;
        return true;
    }
    if (t->tv_sec < 0 || t->tv_nsec < 0 || t->tv_nsec >= KEEL_SECOND)
        return false;
    if (!t->tv_sec && !t->tv_nsec)
        *ret = KEEL_NOW;
    else if (t->tv_sec >= KEEL_FOREVER / KEEL_SECOND)
        *ret = KEEL_FOREVER;
    else
        *ret = after(k, t->tv_sec * KEEL_SECOND + t->tv_nsec);
    return true;
}

bool it_is_over(const struct patience *p)
{
    return p->deadline != KEEL_FOREVER && p->keel->now() >= p->deadline;
}

int wait_more(struct patience *p, const struct pollfd *fds, size_t count)
{
    /* What ended the last waits is no event for this call: a hang-up where
     * it asks for room, say, which ends every wait at once. */
    if (p->vain++ >= 3) {
        keel_ns pause = after(p->keel, KEEL_MS);
        int rc = p->keel->sleep(pause < p->deadline ? pause : p->deadline);

        if (rc < 0)
            return rc;
    }
    return p->keel->wait(fds, count, p->deadline, p->what);
}

int wait_more_for(struct patience *p, int fd, short events)
{
    const struct pollfd one = {.fd = fd, .events = events};

    return wait_more(p, &one, 1);
}

void fair(const struct patched *k, int fd)
{
    enum { AT_ONCE_MOST = 32 };
    static _Thread_local unsigned at_once;
    int before = errno;

    if (++at_once < AT_ONCE_MOST)
        return;
    at_once = 0;
    if (fd >= 0 && !is_blocking(fd))
        return;
    k->yield();
    errno = before;
}
