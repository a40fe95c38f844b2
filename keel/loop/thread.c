/* SPDX-License-Identifier: MIT */
#include <keel/thread.h>

#include <errno.h>
#include <limits.h>
#include <linux/futex.h>
#include <pthread.h>
#include <sched.h>
#include <signal.h>
#include <stdlib.h>
#include <string.h>
#include <sys/syscall.h>
#include <unistd.h>

#include <keel/lock.h>
#include <keel/seam.h>

#include "census.h"
#include "worker.h"

enum { NAME_BYTES_MOST = 15 }; /* what the kernel keeps of a thread's name */

enum { NEW, ALIVE, ENDED };

/* Invariants:
 *   state goes NEW, ALIVE, ENDED, and back to NEW only if nothing was begun
 *   `thread` is written by pthread_create before begin returns, and read by
 *     the owner of the handle only
 *   result is written before state becomes ENDED and `ended` is set
 *   refs: the owner's, and the thread's from begin to its end
 * `next` and `prev` are the registry's, under its lock. */
struct keel_thread {
    pthread_t thread;
    char name[NAME_BYTES_MOST + 1];
    bool daemon;
    bool awaited; /* by the program's end: a simulation's end waits for all */
    size_t stack_bytes;
    int (*fn)(void *arg);
    void *arg;
    int result;
    _Atomic uint32_t state;
    _Atomic uint32_t refs;
    _Atomic pid_t id;
    _Atomic bool joining;
    struct keel_event ended;
    struct thread_stop stop;
    struct keel_thread *next, *prev;
};

_Thread_local struct keel_thread *thread_self;

static void unref(struct keel_thread *t)
{
    if (atomic_fetch_sub(&t->refs, 1) > 1)
        return;
    keel_event_fini(&t->ended);
    keel_free(t);
}

/* ---- those alive, oldest first, and the program's end ---- */

static pthread_mutex_t lock = PTHREAD_MUTEX_INITIALIZER;
static pthread_cond_t changed = PTHREAD_COND_INITIALIZER;
static struct keel_thread *oldest, *youngest;
static size_t alive, awaited; /* awaited: those that are no daemons */

static void registry_add(struct keel_thread *t)
{
    pthread_mutex_lock(&lock);
    t->next = NULL;
    t->prev = youngest;
    if (youngest)
        youngest->next = t;
    else
        oldest = t;
    youngest = t;
    alive++;
    t->awaited = !t->daemon && !worker_is_simulated();
    awaited += t->awaited;
    pthread_mutex_unlock(&lock);
}

static void registry_remove(struct keel_thread *t)
{
    pthread_mutex_lock(&lock);
    if (t->prev)
        t->prev->next = t->next;
    else
        oldest = t->next;
    if (t->next)
        t->next->prev = t->prev;
    else
        youngest = t->prev;
    alive--;
    awaited -= t->awaited;
    pthread_cond_broadcast(&changed);
    pthread_mutex_unlock(&lock);
}

/* A thread that calls exit(3) cannot wait for itself. */
static void wait_at_exit(void)
{
    size_t myself = thread_self && thread_self->awaited;

    pthread_mutex_lock(&lock);
    while (awaited > myself)
        pthread_cond_wait(&changed, &lock);
    pthread_mutex_unlock(&lock);
}

/* The child of a fork has none of the threads; the handles are lost with
 * them. */
static void forget_in_child(void)
{
    pthread_mutex_init(&lock, NULL);
    pthread_cond_init(&changed, NULL);
    oldest = youngest = NULL;
    alive = awaited = 0;
}

static void registry_open(void)
{
    atexit(wait_at_exit);
    pthread_atfork(NULL, NULL, forget_in_child);
}

/* ---- the thread ---- */

static void *thread_main(void *arg)
{
    struct keel_thread *t = arg;

    thread_self = t;
    thread_stop_here = &t->stop;
    worker_name(t->name);
    presence_enter(t->name);
    atomic_store(&t->id, gettid()); /* who asks for it finds it in the dump */
    t->result = t->fn(t->arg);
    thread_stop_here = NULL;
    thread_self = NULL;
    registry_remove(t);
    atomic_store(&t->state, ENDED);
    keel_event_set(&t->ended);
    unref(t);
    return NULL;
}

/* All signals are for the threads that asked for them, but those by which the
 * processor reports a fault: blocked, they kill without a word.  SIGURG is for
 * the loop that the thread may run: see watchdog.c. */
static void thread_signals(sigset_t *ret)
{
    static const int faults[] = {SIGSEGV, SIGBUS,  SIGILL, SIGFPE,
                                 SIGTRAP, SIGABRT, SIGSYS, SIGURG};

    sigfillset(ret);
    for (size_t i = 0; i < sizeof faults / sizeof *faults; i++)
        sigdelset(ret, faults[i]);
}

int keel_thread_new(const struct keel_thread_how *how, int (*fn)(void *arg),
                    void *arg, struct keel_thread **ret)
{
    static const struct keel_thread_how usual;
    struct keel_thread *t;

    if (!how)
        how = &usual;
    t = keel_calloc(1, sizeof *t);
    if (!t)
        return -ENOMEM;
    strncpy(t->name, how->name ? how->name : "thread", NAME_BYTES_MOST);
    t->daemon = how->daemon;
    t->stack_bytes = how->stack_bytes;
    t->fn = fn;
    t->arg = arg;
    atomic_init(&t->refs, 1);
    keel_event_init(&t->ended);
    *ret = t;
    return 0;
}

static int create(struct keel_thread *t)
{
    pthread_attr_t attr;
    sigset_t blocked, before;
    int rc;

    rc = -pthread_attr_init(&attr);
    if (rc < 0)
        return rc;
    if (t->stack_bytes)
        rc = -pthread_attr_setstacksize(&attr, t->stack_bytes);
    if (rc == 0) {
        /* A thread is born with its maker's mask: set it before, so that no
         * signal arrives in between. */
        thread_signals(&blocked);
        pthread_sigmask(SIG_SETMASK, &blocked, &before);
        rc = worker_start(t->name, t->stack_bytes ? &attr : NULL, thread_main,
                          t, &t->thread);
        pthread_sigmask(SIG_SETMASK, &before, NULL);
    }
    pthread_attr_destroy(&attr);
    return rc;
}

int keel_thread_begin(struct keel_thread *t)
{
    static pthread_once_t once = PTHREAD_ONCE_INIT;
    uint32_t new = NEW;
    int rc;

    rc = keel_seam_enter(KEEL_OP_THREAD, NULL);
    if (rc < 0)
        return rc;
    if (!atomic_compare_exchange_strong(&t->state, &new, ALIVE))
        return mistake("keel_thread_begin", t, "it began before", -EALREADY);
    pthread_once(&once, registry_open);
    /* Before it runs, so that an exit that comes now waits for it. */
    registry_add(t);
    atomic_fetch_add(&t->refs, 1);
    rc = create(t);
    if (rc < 0) {
        registry_remove(t);
        atomic_fetch_sub(&t->refs, 1);
        atomic_store(&t->state, NEW);
    }
    return rc;
}

int keel_thread_start(const char *name, int (*fn)(void *arg), void *arg,
                      struct keel_thread **ret)
{
    const struct keel_thread_how how = {.name = name};
    keel_auto(thread) struct keel_thread *t = NULL;
    int rc;

    rc = keel_thread_new(&how, fn, arg, &t);
    if (rc < 0)
        return rc;
    rc = keel_thread_begin(t);
    if (rc < 0)
        return rc;
    *ret = keel_take(t);
    return 0;
}

int keel_thread_join(struct keel_thread *t, keel_ns deadline, int *ret_result)
{
    int rc;

    if (t == thread_self)
        return mistake("keel_thread_join", t, "it is the caller itself",
                       -EDEADLK);
    if (atomic_load(&t->state) == NEW)
        return mistake("keel_thread_join", t, "it has not begun", -ESRCH);
    if (atomic_exchange(&t->joining, true))
        return mistake("keel_thread_join", t, "somebody else joins it already",
                       -EINVAL);
    rc = keel_event_wait(&t->ended, deadline);
    if (rc < 0) {
        atomic_store(&t->joining, false);
        return rc;
    }
    /* The thread has a few instructions left, and the destroyers of its
     * values: this waits for nothing else. */
    worker_join(t->thread);
    if (ret_result)
        *ret_result = t->result;
    unref(t);
    return 0;
}

void keel_thread_free(struct keel_thread *t)
{
    if (!t)
        return;
    if (atomic_load(&t->state) != NEW)
        worker_detach(t->thread);
    unref(t);
}

/* ---- cancelling ---- */

_Thread_local struct thread_stop *thread_stop_here;

void thread_stop_interrupt(struct thread_stop *s)
{
    const uint64_t one = 1;
    struct waiter *w;
    ssize_t rung;
    int bell;

    s->cancelled = 1;
    if (s->first)
        co_cancel_from_elsewhere(s->first);
    if (s->shields)
        return;
    w = s->waits;
    if (w && waiter_leave(w, CANCELLED))
        waiter_post(w);
    bell = s->bell;
    if (bell) {
        rung = keel_seam.net->send(bell - 1, &one, sizeof(one));
        keel_assert(rung > 0 || rung == -EAGAIN);
    }
    (void)syscall(SYS_futex, &s->cancelled, FUTEX_WAKE_PRIVATE, 1, NULL, NULL,
                  0);
}

void keel_thread_cancel(struct keel_thread *t)
{
    waitlist_hold(&t->stop.hold);
    thread_stop_interrupt(&t->stop);
    waitlist_drop(&t->stop.hold);
}

void thread_stop_first(struct keel_co *co)
{
    struct thread_stop *s = thread_stop_here;

    if (!s)
        return;
    waitlist_hold(&s->hold);
    s->first = co;
    if (co && s->cancelled)
        keel_cancel(co);
    waitlist_drop(&s->hold);
}

void thread_stop_bell(struct thread_stop *s, int bell_plus_one)
{
    waitlist_hold(&s->hold);
    s->bell = bell_plus_one;
    waitlist_drop(&s->hold);
}

int thread_stop_begin(struct thread_stop *s, struct waiter *w)
{
    bool cancelled;

    waitlist_hold(&s->hold);
    s->waits = w;
    cancelled = s->cancelled && s->shields == 0;
    if (cancelled)
        s->waits = NULL;
    waitlist_drop(&s->hold);
    return cancelled ? -ECANCELED : 0;
}

void thread_stop_end(struct thread_stop *s)
{
    waitlist_hold(&s->hold);
    s->waits = NULL;
    waitlist_drop(&s->hold);
}

bool thread_stop_asked(bool shielded_too)
{
    struct thread_stop *s = thread_stop_here;
    bool asked;

    if (!s)
        return false;
    waitlist_hold(&s->hold);
    asked = s->cancelled && (shielded_too || s->shields == 0);
    waitlist_drop(&s->hold);
    return asked;
}

void thread_stop_shield(int by)
{
    struct thread_stop *s = thread_stop_here;

    if (!s)
        return;
    waitlist_hold(&s->hold);
    if (by < 0 && s->shields == 0)
        misuse("keel_unshield", keel_thread_current(),
               "there is no keel_shield before it");
    s->shields += (unsigned)by;
    waitlist_drop(&s->hold);
}

/* ---- who is who ---- */

bool keel_thread_is_alive(const struct keel_thread *t)
{
    return !t || atomic_load(&t->state) == ALIVE;
}

const char *keel_thread_name(const struct keel_thread *t)
{
    static _Thread_local char name[NAME_BYTES_MOST + 1];

    if (!t)
        t = thread_self;
    if (t)
        return t->name;
    pthread_getname_np(pthread_self(), name, sizeof name);
    return name;
}

pid_t keel_thread_id(const struct keel_thread *t)
{
    pid_t id;

    if (!t)
        return gettid();
    /* One that has just begun says in a moment. */
    while ((id = atomic_load(&t->id)) == 0 && atomic_load(&t->state) != NEW)
        worker_yield();
    return id;
}

bool keel_thread_is_daemon(const struct keel_thread *t)
{
    if (!t)
        t = thread_self;
    return t && t->daemon;
}

struct keel_thread *keel_thread_current(void)
{
    return thread_self;
}

static struct keel_thread_info info_of(const struct keel_thread *t)
{
    struct keel_thread_info info = {.daemon = t->daemon};

    memcpy(info.name, t->name, sizeof info.name);
    /* 0 for one that has not come to say it: it is on its way, and needs
     * nothing of us. */
    while ((info.id = atomic_load(&t->id)) == 0)
        worker_yield();
    return info;
}

size_t keel_thread_enumerate(struct keel_thread_info *ret, size_t most)
{
    struct keel_thread_info main = {
        .id = getpid(), .is_main = true, .name = "main"};
    struct keel_thread *t;
    size_t n = 0;

    if (most > 0)
        ret[n++] = main;
    pthread_mutex_lock(&lock);
    for (t = oldest; t && n < most; t = t->next)
        ret[n++] = info_of(t);
    n = alive + 1;
    pthread_mutex_unlock(&lock);
    return n;
}

/* ---- a value for each thread ---- */

struct keel_local {
    pthread_key_t key;
    void (*destroy)(void *value);
};

int keel_local_new(void (*destroy)(void *value), struct keel_local **ret)
{
    struct keel_local *l = keel_alloc(sizeof *l);
    int rc;

    if (!l)
        return -ENOMEM;
    l->destroy = destroy;
    rc = -pthread_key_create(&l->key, destroy);
    if (rc < 0) {
        keel_free(l);
        return rc;
    }
    *ret = l;
    return 0;
}

void keel_local_free(struct keel_local *l)
{
    if (!l)
        return;
    pthread_key_delete(l->key);
    keel_free(l);
}

void *keel_local_get(const struct keel_local *l)
{
    if (worker_is_simulated())
        return worker_class->local_get(l);
    return pthread_getspecific(l->key);
}

int keel_local_set(struct keel_local *l, void *value)
{
    if (worker_is_simulated())
        return worker_class->local_set(l, l->destroy, value);
    return -pthread_setspecific(l->key, value);
}
