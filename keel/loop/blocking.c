/* SPDX-License-Identifier: MIT */
/* The pool of threads for work that blocks.
 *
 * A job goes to the thread that fell idle last, else to a new one, else it
 * waits its turn.  The last to fall idle is taken so that the others stay idle
 * long enough to end. */
#include <keel/co.h>

#include <errno.h>
#include <pthread.h>
#include <signal.h>
#include <stdlib.h>

#include <keel/future.h>
#include <keel/seam.h>

#include "census.h"
#include "worker.h"

#define THREADS_USUAL 16u
#define IDLE (10 * KEEL_SECOND)

/* A job lies in the frame of who waits for it, or in a `struct promise`. */
struct job {
    struct job *next;
    int (*fn)(void *arg);
    void *arg;
    int result;
    void (*done)(struct job *job); /* on the pool's thread; the last touch */
};

/* Invariants between calls, under the hold of `idle`:
 *   `idle` are the waiters of the threads that have nothing to do, the one
 *     that fell idle last in front
 *   jobs wait in the list only while no thread is idle
 *   threads counts those alive, started or being started */
static struct pool {
    struct keel_waitlist idle;
    struct job *first, **last;
    unsigned threads, most;
} pool;

_Atomic unsigned blocking_under_way;

static void hold(void)
{
    waitlist_hold(&pool.idle);
}

static void drop(void)
{
    waitlist_drop(&pool.idle);
}

/* Under the hold. */
static unsigned most_threads(void)
{
    const char *text;
    unsigned long n;

    if (pool.most == 0) {
        text = getenv("KEEL_BLOCKING_THREADS");
        n = text ? strtoul(text, NULL, 10) : THREADS_USUAL;
        pool.most = n >= 1 && n <= 4096 ? (unsigned)n : THREADS_USUAL;
    }
    return pool.most;
}

void keel_blocking_limit(unsigned threads)
{
    hold();
    pool.most = threads > 0 ? threads : 1;
    drop();
}

/* ---- the threads ---- */

/* Under the hold, dropped meanwhile: idles until there may be a job.  False:
 * long enough. */
static bool idle(void)
{
    struct waiter w;
    int rc;

    waiter_arm(&w, "idle");
    waitlist_link_first(&pool.idle, &w);
    drop();
    rc = waiter_sleep_real(&w, IDLE);
    hold();
    if (rc < 0)
        waitlist_unlink(&pool.idle, &w);
    return rc == 0;
}

static struct job *job_take(void)
{
    struct job *job = pool.first;

    if (!job)
        return NULL;
    pool.first = job->next;
    if (!pool.first)
        pool.last = &pool.first;
    return job;
}

static void *worker(void *arg)
{
    struct job *job;

    (void)arg;
    presence_serve("keel-blocking");
    hold();
    for (;;) {
        job = job_take();
        if (!job) {
            if (pool.threads <= most_threads() && idle())
                continue;
            if (pool.first)
                continue; /* came while we were leaving */
            break;
        }
        drop();
        job->result = job->fn(job->arg);
        job->done(job);
        atomic_fetch_sub(&blocking_under_way, 1);
        hold();
    }
    pool.threads--;
    drop();
    return NULL;
}

static int start_thread(void)
{
    pthread_attr_t attr;
    pthread_t thread;
    sigset_t all, before;
    int rc;

    rc = keel_seam_enter(KEEL_OP_THREAD, NULL);
    if (rc < 0)
        return -EAGAIN;
    if (pthread_attr_init(&attr) != 0)
        return -EAGAIN;
    pthread_attr_setdetachstate(&attr, PTHREAD_CREATE_DETACHED);
    /* Signals are for the threads that the program made, but those by which
     * the processor reports a fault: blocked, they kill without a word. */
    sigfillset(&all);
    sigdelset(&all, SIGSEGV);
    sigdelset(&all, SIGBUS);
    sigdelset(&all, SIGFPE);
    sigdelset(&all, SIGILL);
    pthread_sigmask(SIG_BLOCK, &all, &before);
    rc = worker_start("blocking", &attr, worker, NULL, &thread);
    pthread_sigmask(SIG_SETMASK, &before, NULL);
    pthread_attr_destroy(&attr);
    return rc == 0 ? 0 : -EAGAIN;
}

/* ---- handing over ---- */

static void job_put(struct job *job)
{
    job->next = NULL;
    if (!pool.first)
        pool.last = &pool.first;
    *pool.last = job;
    pool.last = &job->next;
}

/* Takes back a job that nobody took.  False: somebody did. */
static bool job_withdraw(struct job *job)
{
    for (struct job **at = &pool.first; *at; at = &(*at)->next)
        if (*at == job) {
            *at = job->next;
            if (!*at)
                pool.last = at;
            return true;
        }
    return false;
}

/* Gives the job to the pool.  Without a thread to spare it waits for one that
 * is there; -EAGAIN when there is none at all. */
static int submit(struct job *job)
{
    struct waiter *w;
    bool start, stranded;

    atomic_fetch_add(&blocking_under_way, 1);
    hold();
    job_put(job);
    w = waitlist_choose(&pool.idle);
    start = !w && pool.threads < most_threads();
    if (start)
        pool.threads++;
    drop();
    waiter_post(w);
    if (!start || start_thread() == 0)
        return 0;

    hold();
    pool.threads--;
    stranded = pool.threads == 0 && job_withdraw(job);
    drop();
    if (!stranded)
        return 0;
    atomic_fetch_sub(&blocking_under_way, 1);
    return -EAGAIN;
}

/* ---- waiting for it ---- */

struct call {
    struct job job;
    struct waiter waiter;
};

static void call_done(struct job *job)
{
    waiter_wake(&((struct call *)(void *)job)->waiter);
}

int keel_blocking(int (*fn)(void *arg), void *arg)
{
    struct call call = {.job = {.fn = fn, .arg = arg, .done = call_done}};
    int rc;

    if (!loop_here)
        return fn(arg);
    waiter_arm(&call.waiter, "blocking call");
    rc = submit(&call.job);
    if (rc < 0)
        return rc;
    waiter_sleep_always(&call.waiter);
    return call.job.result;
}

/* ---- or not waiting ---- */

struct promise {
    struct job job;
    struct keel_future *future;
    int (*fn)(void *arg);
    void *arg;
    bool wanted;
};

static int promise_run(void *arg)
{
    struct promise *p = arg;

    p->wanted = keel_future_start(p->future);
    return p->wanted ? p->fn(p->arg) : -ECANCELED;
}

static void promise_done(struct job *job)
{
    struct promise *p = (struct promise *)(void *)job;

    if (p->wanted)
        keel_future_set(p->future, job->result, NULL);
    keel_future_free(p->future);
    keel_free(p);
}

int keel_blocking_submit(int (*fn)(void *arg), void *arg,
                         struct keel_future **ret)
{
    struct promise *p = keel_calloc(1, sizeof *p);
    struct keel_future *future;
    int rc;

    if (!p)
        return -ENOMEM;
    rc = keel_future_new(&p->future);
    if (rc < 0) {
        keel_free(p);
        return rc;
    }
    future = p->future;
    p->fn = fn;
    p->arg = arg;
    p->job = (struct job){.fn = promise_run, .arg = p, .done = promise_done};
    rc = submit(&p->job);
    if (rc < 0) {
        keel_future_free(future);
        keel_future_free(future);
        keel_free(p);
        return rc;
    }
    *ret = future;
    return 0;
}
