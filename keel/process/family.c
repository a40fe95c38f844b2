/* SPDX-License-Identifier: MIT */
/* A coroutine cannot sleep in the kernel, so watchers do it for it: threads
 * that wait on many words at once.  A watcher may be woken for a coroutine that
 * no longer sleeps, and then passes the wake on. */
#include "family.h"

#include <errno.h>
#include <linux/futex.h>
#include <pthread.h>
#include <sched.h>
#include <signal.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/syscall.h>
#include <time.h>
#include <unistd.h>

#include <keel/seam.h>

#include "loop/loop.h"
#include "loop/sanitize.h"
#include "seam/limit.h"

#define SLEEP_MOST KEEL_SECOND
/* Where the kernel knows no futex_waitv (before 5.16): deaths are found by
 * looking. */
#define SLEEP_BLIND (100 * KEEL_MS)
enum { SPINS_MOST = 400, WATCHED_MOST = 120 };

struct place {
    _Alignas(64) pthread_mutex_t life;
    _Atomic uint32_t age;
    _Atomic int32_t pid;
};

struct family {
    _Atomic uint32_t ready;
    _Alignas(64) _Atomic uint32_t deaths;
    _Alignas(64) _Atomic uint32_t next; /* the place to try first */
    struct place place[PLACES]; /* the first and the last are nobody's */
};

static pthread_mutex_t page_lock = PTHREAD_MUTEX_INITIALIZER;
static _Atomic(struct family *) page;
static int page_fd = -1;

_Thread_local uint32_t family_owner;
static pthread_once_t leave_once = PTHREAD_ONCE_INIT;
static pthread_key_t leave_key;

#ifdef KEEL_TEST_STEPS
void (*keel_test_step)(void);
#endif

/* ---- the page ---- */

static int page_init(struct family *f)
{
    pthread_mutexattr_t attr;
    int rc;

    rc = pthread_mutexattr_init(&attr);
    if (rc)
        return -rc;
    (void)pthread_mutexattr_setpshared(&attr, PTHREAD_PROCESS_SHARED);
    (void)pthread_mutexattr_setrobust(&attr, PTHREAD_MUTEX_ROBUST);
    for (size_t i = 0; i < PLACES; i++)
        (void)pthread_mutex_init(&f->place[i].life, &attr);
    (void)pthread_mutexattr_destroy(&attr);
    atomic_store(&f->next, 1);
    return 0;
}

static int page_map(int fd, struct family **ret)
{
    void *p = mmap(NULL, sizeof(struct family), PROT_READ | PROT_WRITE,
                   MAP_SHARED, fd, 0);

    if (p == MAP_FAILED)
        return -errno;
    *ret = p;
    return 0;
}

static int page_new(void)
{
    struct family *f = NULL;
    int fd, rc;

    fd = memfd_create("keel-family", MFD_CLOEXEC);
    if (fd < 0)
        return -errno;
    rc = limit_resize(fd, sizeof(struct family));
    if (!rc)
        rc = page_map(fd, &f);
    if (!rc)
        rc = page_init(f);
    if (rc) {
        (void)close(fd);
        return rc;
    }
    page_fd = fd;
    atomic_store(&page, f);
    return 0;
}

static int page_need(void)
{
    int rc = 0;

    if (atomic_load(&page))
        return 0;
    (void)pthread_mutex_lock(&page_lock);
    if (!atomic_load(&page))
        rc = page_new();
    (void)pthread_mutex_unlock(&page_lock);
    return rc;
}

int family_fd(void)
{
    int rc = page_need();

    return rc < 0 ? rc : page_fd;
}

int family_adopt(int fd)
{
    struct family *f = NULL;
    int rc = page_map(fd, &f);

    if (rc < 0)
        return rc;
    page_fd = fd;
    atomic_store(&page, f);
    return 0;
}

/* ---- lives ---- */

static void leave(void *arg)
{
    struct place *at = arg;

    family_owner = 0;
    atomic_store(&at->pid, 0);
    (void)pthread_mutex_unlock(&at->life);
}

/* The copy of a thread that was forked is nobody yet. */
static void forked(void)
{
    family_owner = 0;
    if (pthread_getspecific(leave_key))
        (void)pthread_setspecific(leave_key, NULL);
}

static void leave_init(void)
{
    keel_assert(!pthread_key_create(&leave_key, leave));
    (void)pthread_atfork(NULL, NULL, forked);
}

/* A place is used again only when all others have been tried: whoever looks
 * for the dead of its last age has long done so. */
static bool place_take(struct family *f, uint32_t i, uint32_t *ret_owner)
{
    struct place *at = &f->place[i];
    uint32_t age;
    int rc = pthread_mutex_trylock(&at->life);

    if (rc && rc != EOWNERDEAD)
        return false;
    age = atomic_fetch_add(&at->age, 1) + 1;
    if (rc == EOWNERDEAD)
        (void)pthread_mutex_consistent(&at->life);
    atomic_store(&at->pid, getpid());
    (void)pthread_setspecific(leave_key, at);
    *ret_owner = (age << 10 | i) & OWNER_MASK;
    return true;
}

int family_enter(uint32_t *ret_owner)
{
    struct family *f;
    int rc = page_need();

    if (rc < 0)
        return rc;
    (void)pthread_once(&leave_once, leave_init);
    f = atomic_load(&page);
    for (unsigned tries = 0; tries < 2 * PLACES; tries++) {
        uint32_t i = atomic_fetch_add(&f->next, 1) % PLACES;

        if (i && i < PLACES - 1 && place_take(f, i, &family_owner)) {
            *ret_owner = family_owner;
            return 0;
        }
    }
    return -EAGAIN;
}

bool family_dead(uint32_t owner)
{
    struct place *at = &atomic_load(&page)->place[owner % PLACES];
    /* glibc's layout, which the kernel's list of robust futexes fixes. */
    uint32_t life =
        __atomic_load_n((uint32_t *)&at->life.__data.__lock, __ATOMIC_ACQUIRE);

    return life & FUTEX_OWNER_DIED || !(life & FUTEX_TID_MASK) ||
           ((atomic_load(&at->age) ^ owner >> 10) & (OWNER_MASK >> 10)) != 0;
}

pid_t family_pid(uint32_t place)
{
    return atomic_load(&atomic_load(&page)->place[place].pid);
}

/* ---- sleeping in the kernel ---- */

static keel_ns real_now(void)
{
    struct timespec t;

    clock_gettime(CLOCK_MONOTONIC, &t);
    return (keel_ns)t.tv_sec * KEEL_SECOND + t.tv_nsec;
}

static struct timespec timespec_of(keel_ns at)
{
    return (struct timespec){(time_t)(at / KEEL_SECOND),
                             (long)(at % KEEL_SECOND)};
}

void family_wake(_Atomic uint32_t *word, int count)
{
    (void)syscall(SYS_futex, word, FUTEX_WAKE, count, NULL, NULL, 0);
}

uint32_t family_deaths(void)
{
    struct family *f = atomic_load(&page);

    return f ? atomic_load(&f->deaths) : 0;
}

void family_bury(void)
{
    struct family *f = atomic_load(&page);

    if (!f)
        return;
    atomic_fetch_add(&f->deaths, 1);
    family_wake(&f->deaths, INT32_MAX);
}

static _Atomic bool blind;

/* Until the real point `until` at most. */
static void wait_on(struct futex_waitv *waits, unsigned count, keel_ns until)
{
    struct timespec at = timespec_of(until);

    if (!atomic_load_explicit(&blind, memory_order_relaxed)) {
        if (syscall(SYS_futex_waitv, waits, count, 0, &at, CLOCK_MONOTONIC) >=
                0 ||
            errno != ENOSYS)
            return;
        atomic_store(&blind, true);
    }
    if (until > real_now() + SLEEP_BLIND)
        at = timespec_of(real_now() + SLEEP_BLIND);
    (void)syscall(SYS_futex, waits[0].uaddr, FUTEX_WAIT_BITSET, waits[0].val,
                  &at, NULL, FUTEX_BITSET_MATCH_ANY);
}

static struct futex_waitv wait_for(_Atomic uint32_t *word, uint32_t seen)
{
    return (struct futex_waitv){
        .val = seen, .uaddr = (uintptr_t)word, .flags = FUTEX_32};
}

unsigned family_patience(void)
{
    return loop_cpus() > 1 ? 128 : 8;
}

bool family_spin(unsigned *spins)
{
    if (loop_here && loop_here->current) {
        /* Others have work: a coroutine lets them. */
        if (*spins >= 2)
            return false;
        ++*spins;
        keel_yield();
        return true;
    }
    if (*spins >= SPINS_MOST)
        return false;
    ++*spins;
    if (*spins % family_patience() == 0)
        sched_yield();
    cpu_relax();
    return true;
}

static int sleep_in_thread(_Atomic uint32_t *word, uint32_t seen,
                           uint32_t deaths, keel_ns deadline, bool always)
{
    struct thread_stop *stop = thread_stop_here;
    struct futex_waitv waits[3] = {
        wait_for(word, seen), wait_for(&atomic_load(&page)->deaths, deaths)};
    unsigned count = 2;
    keel_ns until = real_now() + SLEEP_MOST;

    /* A cancel since family_sleep looked has changed it. */
    if (!always && stop && stop->shields == 0) {
        waits[count] = wait_for(&stop->cancelled, 0);
        waits[count++].flags |= FUTEX_PRIVATE_FLAG;
    }

    if (keel_seam.virtual_time && deadline != KEEL_FOREVER)
        until = real_now() + KEEL_MS;
    else if (deadline < until)
        until = deadline;
    wait_on(waits, count, until);
    return 0;
}

/* ---- watchers ---- */

/* A coroutine's sleep.  Linked while somebody must wake it. */
struct watch {
    struct watch *next, **link;
    _Atomic uint32_t *word;
    uint32_t seen, deaths;
    struct waiter waiter;
};

/* `watches` and `count` under `lock`.  `changed` is counted up after each
 * change of them.  A watcher is never freed. */
struct watcher {
    struct watcher *next;
    pthread_mutex_t lock;
    struct watch *watches;
    unsigned count;
    _Atomic uint32_t changed;
};
static pthread_mutex_t watchers_lock = PTHREAD_MUTEX_INITIALIZER;
static struct watcher *watchers;

static void watch_unlink(struct watcher *at, struct watch *w)
{
    *w->link = w->next;
    if (w->next)
        w->next->link = w->link;
    w->link = NULL;
    at->count--;
}

/* Wakes who need not sleep; lists what the rest sleep on. */
static unsigned watcher_look(struct watcher *at, struct futex_waitv *waits,
                             uint32_t deaths)
{
    struct watch *w, *next;
    unsigned n = 0;

    for (w = at->watches; w; w = next) {
        next = w->next;
        if (w->deaths != deaths || atomic_load(w->word) != w->seen) {
            watch_unlink(at, w);
            (void)waiter_wake(&w->waiter);
        } else {
            waits[n++] = wait_for(w->word, w->seen);
        }
    }
    return n;
}

/* Those of the last list that nobody sleeps on now: they may have had a wake
 * that was another's. */
static void pass_on(struct watcher *at, struct futex_waitv *waits, unsigned n)
{
    /* Memory that is gone by now is -EFAULT and no harm, but valgrind says it
     * is; there the wake is found by the second's look. */
    if (RUNNING_ON_VALGRIND)
        return;
    for (unsigned i = 0; i < n; i++) {
        struct watch *w;

        for (w = at->watches; w; w = w->next)
            if ((uintptr_t)w->word == waits[i].uaddr)
                break;
        if (!w)
            (void)syscall(SYS_futex, waits[i].uaddr, FUTEX_WAKE, 1, NULL, NULL,
                          0);
    }
}

static void *watcher_main(void *arg)
{
    struct watcher *at = arg;
    struct futex_waitv waits[WATCHED_MOST + 2];
    unsigned n = 0;

    (void)pthread_setname_np(pthread_self(), "keel-watcher");
    for (;;) {
        uint32_t changed, deaths;
        unsigned had = n;
        keel_ns until = real_now() + SLEEP_MOST;

        (void)pthread_mutex_lock(&at->lock);
        changed = atomic_load(&at->changed);
        deaths = family_deaths();
        pass_on(at, waits + 2, had);
        n = watcher_look(at, waits + 2, deaths);
        if (n == 0)
            until = KEEL_FOREVER / 2;
        (void)pthread_mutex_unlock(&at->lock);

        waits[0] = wait_for(&at->changed, changed);
        waits[1] = wait_for(&atomic_load(&page)->deaths, deaths);
        if (atomic_load(&blind) && n > 0)
            until = real_now() + KEEL_MS;
        wait_on(waits, n + 2, until);
        if (n == 0)
            continue;
        /* A second without news: everybody looks. */
        if (real_now() >= until && !atomic_load(&blind)) {
            (void)pthread_mutex_lock(&at->lock);
            while (at->watches) {
                struct watch *w = at->watches;

                watch_unlink(at, w);
                (void)waiter_wake(&w->waiter);
            }
            (void)pthread_mutex_unlock(&at->lock);
        }
    }
    return NULL;
}

static int watcher_new(struct watcher **ret)
{
    struct watcher *at = keel_calloc(1, sizeof(*at));
    sigset_t all, before;
    pthread_attr_t attr;
    pthread_t id;
    int rc;

    if (!at)
        return -ENOMEM;
    (void)pthread_mutex_init(&at->lock, NULL);
    rc = pthread_attr_init(&attr);
    if (rc) {
        keel_free(at);
        return -rc;
    }
    (void)pthread_attr_setdetachstate(&attr, PTHREAD_CREATE_DETACHED);
    (void)pthread_attr_setstacksize(&attr, 128 << 10);
    sigfillset(&all);
    (void)pthread_sigmask(SIG_SETMASK, &all, &before);
    rc = pthread_create(&id, &attr, watcher_main, at);
    (void)pthread_sigmask(SIG_SETMASK, &before, NULL);
    (void)pthread_attr_destroy(&attr);
    if (rc) {
        keel_free(at);
        return -rc;
    }
    *ret = at;
    return 0;
}

/* One with room; returns with its lock held. */
static int watcher_choose(struct watcher **ret)
{
    struct watcher *at;
    int rc = 0;

    (void)pthread_mutex_lock(&watchers_lock);
    for (at = watchers; at; at = at->next) {
        (void)pthread_mutex_lock(&at->lock);
        if (at->count < WATCHED_MOST)
            break;
        (void)pthread_mutex_unlock(&at->lock);
    }
    if (!at) {
        rc = watcher_new(&at);
        if (!rc) {
            at->next = watchers;
            watchers = at;
            (void)pthread_mutex_lock(&at->lock);
        }
    }
    (void)pthread_mutex_unlock(&watchers_lock);
    if (rc < 0)
        return rc;
    *ret = at;
    return 0;
}

static void watcher_poke(struct watcher *at)
{
    atomic_fetch_add(&at->changed, 1);
    family_wake(&at->changed, 1);
}

static int sleep_in_co(_Atomic uint32_t *word, uint32_t seen, uint32_t deaths,
                       keel_ns deadline, bool always, const char *what)
{
    struct watch w = {.word = word, .seen = seen, .deaths = deaths};
    struct watcher *at = NULL;
    int rc = watcher_choose(&at);

    if (rc < 0) /* no thread: look now and then */
        return keel_sleep(keel_after(KEEL_MS)) && !always ? -ECANCELED : 0;
    waiter_arm(&w.waiter, what);
    w.next = at->watches;
    w.link = &at->watches;
    if (w.next)
        w.next->link = &w.next;
    at->watches = &w;
    at->count++;
    (void)pthread_mutex_unlock(&at->lock);
    watcher_poke(at);

    if (always)
        waiter_sleep_always(&w.waiter);
    else
        rc = waiter_sleep(&w.waiter, deadline);
    if (rc < 0) {
        (void)pthread_mutex_lock(&at->lock);
        if (w.link)
            watch_unlink(at, &w);
        (void)pthread_mutex_unlock(&at->lock);
        watcher_poke(at);
    }
    return rc;
}

int family_sleep(_Atomic uint32_t *word, uint32_t seen, uint32_t deaths,
                 keel_ns deadline, bool always, const char *what)
{
    int rc = always ? 0 : wait_allowed();

    if (rc < 0)
        return rc;
    rc = page_need();
    if (rc < 0)
        return rc;
    deadline = always ? KEEL_FOREVER : wait_until(deadline);
    if (deadline != KEEL_FOREVER && keel_now() >= deadline)
        return -ETIMEDOUT;
    if (loop_here && loop_here->current)
        return sleep_in_co(word, seen, deaths, deadline, always, what);
    return sleep_in_thread(word, seen, deaths, deadline, always);
}
