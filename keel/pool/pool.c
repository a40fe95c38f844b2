/* SPDX-License-Identifier: MIT */
/* Jobs come by a queue that who submits appends to without a lock, and go by
 * the hold of those who take.  Each node of the queue points to the next:
 *
 *   submit: old = tail, tail = job by compare-and-swap; old->next = job
 *   take:   under `hold`, head and head->next, until next is not there (yet)
 *
 * `stub` stands in the queue when nothing else does; `last` is appended by
 * whoever ends the pool, and nothing after it.
 *
 * First come, first served takes from there.  The other policies move all that
 * has come to `turns` first, under the same hold.
 *
 * Where nothing waits and somebody looks for work, a job goes from hand to hand:
 * `hand` is NULL, or `wanted`, which who looks writes there, or a job in the
 * place of that.  What is in it is never forgotten: nobody writes `wanted` but
 * who looks, and before he stops looking, to run a job or to sleep, he has
 * taken a job out of it, or found it NULL, or made it NULL; whoever finds
 * a job there when he does so runs it.  All three are one access to the one
 * word, so that no fence is needed, and who submits needs not know whether
 * anybody sleeps.  A job does not overtake: who submits sees in `tail` what he
 * himself appended before, and hands over only while that shows nothing; and
 * who looks empties his hand before he takes from the queue.  So round a job
 * that is alone goes only the line of `hand` and that of its future: the queue
 * would be three more, its stub, tail and crowd.
 *
 * Taking is dear when jobs are small, since all compete for the hold.  So a
 * worker whose jobs were done within BATCH_NS takes twice as many the next
 * time, the first to run now, the others into its `slot`s, of which anybody
 * helps himself who finds the queue empty, or has not looked for LOOK_NS: a job
 * that turns out long keeps none waiting.
 *
 * Waking is dear too, so that one searcher is enough: while a worker looks for
 * work, nobody is woken for what comes.  `crowd` counts in one word who looks
 * and who sleeps.
 *   submit: append; load crowd; nobody looks and somebody sleeps: wake one
 *   worker: became a sleeper in crowd; look at the queue; sleep
 * One of the two sees the other.  A worker that takes and leaves more behind
 * wakes another, as submit does; a woken one counts as one that looks from the
 * wake on.
 *
 * Why not a coroutine for each job: it would cost a stack and two switches, and
 * a job that blocks by a foreign library would stop those beside it.  Why not
 * one mechanism with keel_blocking: that one starts and ends threads as they
 * are needed, takes jobs that lie in their caller's frame and so never need
 * memory, and must be there before there are futures. */
#include <keel/pool.h>

#include <errno.h>
#include <pthread.h>
#include <sched.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <keel/co.h>
#include <keel/lock.h>
#include <keel/seam.h>
#include <keel/system.h>
#include <keel/thread.h>

#include "job.h"
#include "loop/loop.h"
#include "loop/worker.h"
#include "pool_inside.h"
#include "seam/quarantine.h"

enum {
    SIZE_MOST = 1024,
    SLOTS = 7,
    SPINS = 150,       /* a microsecond or two */
    SPINS_MOST = 4800, /* about twice as long as a wake takes */
    SPINS_YIELD = 200, /* then somebody has lost his processor */
};
#define SHORT_NS (60 * KEEL_US)
#define BATCH_NS (4 * KEEL_US)
#define LOOK_NS KEEL_MS

#define LOOKS 1U
#define SLEEPS (1U << 16)

struct worker {
    _Alignas(64) _Atomic(struct job *) slot[SLOTS];
    struct keel_pool *pool;
    unsigned number;
    unsigned used, filled; /* slots */
    unsigned batch;        /* how many to take; 1 to 1 + SLOTS */
    unsigned spins;        /* before it sleeps */
    keel_ns taken_at, looked_at;
};

/* Invariants:
 *   policy is never KEEL_POOL_USUAL: that is FIRST_COME with larger batches
 *   under `hold`: head, turns, drained; `waiting` is turns.count
 *   after `drained`, no job comes by the queue
 *   the workers and the owner each have a ref; `over` is set by the last
 *     worker before it gives up its own */
struct keel_pool {
    enum keel_pool_policy policy;
    unsigned size, batch_most;
    char name[16];
    size_t stack_bytes;
    bool bounded;
    int (*initializer)(void *arg);
    void *arg;
    struct job_store *store;
    struct keel_pool *next, *prev; /* of the registry */
    struct keel_event over;
    struct keel_semaphore room; /* with `bounded` */
    _Atomic int broken;
    _Atomic bool closed;
    _Atomic unsigned alive, refs;

    _Alignas(64) _Atomic(struct job *) tail;
    _Alignas(64) _Atomic(struct job *) hand;
    _Alignas(64) _Atomic uint32_t crowd;
    struct keel_waitlist beds;
    _Alignas(64) _Atomic uint32_t hold;
    struct job *head;
    struct turns turns;
    _Atomic size_t waiting;
    _Atomic bool drained;
    struct job stub, last;
    struct worker worker[];
};

_Thread_local struct worker *pool_worker;
#define me pool_worker

/* ---- the queue ---- */

/* False: the pool has ended. */
static bool queue_append(struct keel_pool *p, struct job *job)
{
    struct job *old = atomic_load_explicit(&p->tail, memory_order_relaxed);

    job_link(job, NULL);
    do
        if (old == &p->last)
            return false;
    while (!atomic_compare_exchange_weak(&p->tail, &old, job));
    worker_point();
    atomic_store_explicit(&old->next, job, memory_order_release);
    worker_point();
    return true;
}

/* Under the hold.  NULL: empty, or who appends has not linked it yet. */
static struct job *queue_take(struct keel_pool *p)
{
    struct job *job = p->head, *next, *old;

    next = atomic_load_explicit(&job->next, memory_order_acquire);
    if (job == &p->stub) {
        if (!next)
            return NULL;
        p->head = job = next;
        next = atomic_load_explicit(&job->next, memory_order_acquire);
    }
    if (job == &p->last) {
        atomic_store(&p->drained, true);
        return NULL;
    }
    if (!next) { /* the stub goes behind it, if it is the last still */
        old = job;
        job_link(&p->stub, NULL);
        if (!atomic_compare_exchange_strong(&p->tail, &old, &p->stub))
            return NULL;
        next = &p->stub;
    }
    p->head = next;
    return job;
}

static bool has_work(struct keel_pool *p)
{
    return atomic_load(&p->waiting) ||
           (atomic_load(&p->tail) != &p->stub && !atomic_load(&p->drained));
}

/* ---- from hand to hand ---- */

static struct job wanted; /* its address */

/* True: somebody who looks takes it.  `tail` hardly changes while jobs go this
 * way; `hand` is tried unseen, since to look first would fetch it twice. */
static inline bool hand_over(struct keel_pool *p, struct job *job)
{
    struct job *hand = &wanted;

    if (p->policy != KEEL_POOL_FIRST_COME ||
        atomic_load_explicit(&p->tail, memory_order_relaxed) != &p->stub)
        return false;
    worker_point();
    return atomic_compare_exchange_strong(&p->hand, &hand, job);
}

static inline struct job *hand_take(struct keel_pool *p)
{
    struct job *job = atomic_load_explicit(&p->hand, memory_order_relaxed);

    if (!job || job == &wanted)
        return NULL;
    cpu_fetch_to_write(job);
    return atomic_compare_exchange_strong(&p->hand, &job, NULL) ? job : NULL;
}

static inline void hand_hold_out(struct keel_pool *p)
{
    struct job *none = NULL;

    if (!atomic_load_explicit(&p->hand, memory_order_relaxed))
        (void)atomic_compare_exchange_strong(&p->hand, &none, &wanted);
}

/* Returns what was put there, by the way. */
static struct job *hand_draw_back(struct keel_pool *p)
{
    struct job *job;

    if (!atomic_load_explicit(&p->hand, memory_order_relaxed))
        return NULL;
    job = atomic_exchange(&p->hand, NULL);
    return job == &wanted ? NULL : job;
}

/* ---- waking ---- */

static bool all_asleep(uint32_t crowd)
{
    return crowd >= SLEEPS && crowd % SLEEPS == 0;
}

/* A sleeper begins to look, if there is any and nobody looks. */
static void wake_one(struct keel_pool *p)
{
    struct waiter *w = NULL;

    waitlist_hold(&p->beds);
    if (all_asleep(atomic_load(&p->crowd))) {
        w = waitlist_choose(&p->beds);
        if (w)
            atomic_fetch_add(&p->crowd, LOOKS - SLEEPS);
    }
    waitlist_drop(&p->beds);
    waiter_post(w);
}

static inline void tell(struct keel_pool *p)
{
    if (all_asleep(atomic_load(&p->crowd)))
        wake_one(p);
}

static void wake_all(struct keel_pool *p)
{
    struct waiter *w;

    waitlist_hold(&p->beds);
    while ((w = waitlist_choose(&p->beds))) {
        atomic_fetch_add(&p->crowd, LOOKS - SLEEPS);
        waiter_post(w);
    }
    waitlist_drop(&p->beds);
}

/* ---- taking ---- */

/* Under the hold: one to run now, and some for the slots. */
static struct job *take_first_come(struct keel_pool *p, struct worker *w)
{
    struct job *job = queue_take(p), *more;

    w->used = w->filled = 0;
    while (job && w->filled + 1 < w->batch && (more = queue_take(p)))
        atomic_store_explicit(&w->slot[w->filled++], more,
                              memory_order_release);
    return job;
}

/* Under the hold: `back` is one that hands back, or NULL. */
static struct job *take_turn(struct keel_pool *p, struct job *back)
{
    struct job *job;

    while ((job = queue_take(p)))
        turns_add(&p->turns, job);
    if (back)
        turns_back(&p->turns, back);
    job = turns_take(&p->turns);
    atomic_store(&p->waiting, p->turns.count);
    return job;
}

static struct job *take_shared(struct keel_pool *p, struct worker *w,
                               struct job *back)
{
    bool drained = atomic_load_explicit(&p->drained, memory_order_relaxed);
    struct job *job;

    if (!back && !has_work(p))
        return NULL;
    spin_hold(&p->hold);
    job = p->policy == KEEL_POOL_FIRST_COME ? take_first_come(p, w)
                                            : take_turn(p, back);
    spin_drop(&p->hold);
    if (w->filled > 0) /* slots are written before the crowd is looked at */
        atomic_thread_fence(memory_order_seq_cst);
    worker_point();
    if (!drained && atomic_load_explicit(&p->drained, memory_order_relaxed))
        wake_all(p);
    else if (job && (w->filled > 0 || has_work(p)))
        tell(p);
    return job;
}

static struct job *slot_empty(_Atomic(struct job *) *slot)
{
    if (!atomic_load_explicit(slot, memory_order_relaxed))
        return NULL;
    return atomic_exchange_explicit(slot, NULL, memory_order_acquire);
}

static struct job *take_own(struct worker *w)
{
    struct job *job = NULL;

    while (!job && w->used < w->filled)
        job = slot_empty(&w->slot[w->used++]);
    return job;
}

static struct job *take_others(struct keel_pool *p, struct worker *w)
{
    struct job *job = hand_take(p);

    if (job) /* whose taker has lost his processor, perhaps */
        return job;
    for (unsigned i = 1; i < p->size; i++) {
        struct worker *o = &p->worker[(w->number + i) % p->size];

        for (unsigned k = 0; k < SLOTS; k++)
            if ((job = slot_empty(&o->slot[k])))
                return job;
    }
    return NULL;
}

static bool slots_filled(struct keel_pool *p)
{
    for (unsigned i = 0; i < p->size; i++)
        for (unsigned k = 0; k < SLOTS; k++)
            if (atomic_load(&p->worker[i].slot[k]))
                return true;
    return false;
}

/* How much to take at once, by how long the last took; true: it is time to
 * look at the others' slots. */
static bool measure(struct worker *w)
{
    keel_ns now = keel_now();
    bool look = now - w->looked_at > LOOK_NS;

    if (now - w->taken_at > BATCH_NS)
        w->batch = 1;
    else if (w->batch < w->pool->batch_most)
        w->batch *= 2;
    w->taken_at = now;
    if (look)
        w->looked_at = now;
    return look;
}

static struct job *take(struct keel_pool *p, struct worker *w, struct job *back)
{
    struct job *job;

    if (p->policy != KEEL_POOL_FIRST_COME)
        return take_shared(p, w, back);
    job = take_own(w);
    if (job)
        return job;
    if (measure(w) && (job = take_others(p, w)))
        return job;
    job = take_shared(p, w, NULL);
    return job ? job : take_others(p, w);
}

/* ---- a worker without work ---- */

static bool is_over(struct keel_pool *p)
{
    return atomic_load(&p->drained) && atomic_load(&p->waiting) == 0;
}

static struct job *look(struct keel_pool *p, struct worker *w)
{
    unsigned spins = loop_may_spin() ? w->spins : 0;
    bool hand = p->policy == KEEL_POOL_FIRST_COME &&
                (spins > 0 || worker_is_simulated());
    struct job *job;

    for (unsigned n = 0;; n++) {
        if (hand) {
            job = hand_take(p);
            if (job)
                return job;
            hand_hold_out(p);
            worker_point();
        }
        if (has_work(p)) {
            job = hand ? hand_draw_back(p) : NULL;
            if (!job)
                job = take(p, w, NULL);
            if (job)
                return job;
            if (n % SPINS_YIELD == SPINS_YIELD - 1)
                worker_yield();
        } else if (n >= spins || is_over(p)) {
            return hand ? hand_draw_back(p) : NULL;
        }
        cpu_relax();
    }
}

/* Counted as one that looks before and after. */
static void sleep_(struct keel_pool *p)
{
    struct waiter w;

    waiter_arm(&w, "pool, job");
    waitlist_hold(&p->beds);
    waitlist_link_first(&p->beds, &w);
    atomic_fetch_add(&p->crowd, SLEEPS - LOOKS);
    waitlist_drop(&p->beds);

    if (has_work(p) || is_over(p) || slots_filled(p)) {
        waitlist_hold(&p->beds);
        if (waiter_leave(&w, CANCELLED)) {
            waitlist_unlink(&p->beds, &w);
            atomic_fetch_add(&p->crowd, LOOKS - SLEEPS);
            waitlist_drop(&p->beds);
            return;
        }
        waitlist_drop(&p->beds); /* woken: the post is on its way */
    }
    waiter_sleep_always(&w);
}

/* Two that wake each other in turn would do so for ever, since a wake takes
 * longer than the other looks: after a short sleep one looks that long. */
static void rest(struct keel_pool *p, struct worker *w)
{
    keel_ns begun = keel_now();

    sleep_(p);
    if (keel_now() - begun > SHORT_NS)
        w->spins = SPINS;
    else if (w->spins < SPINS_MOST)
        w->spins *= 2;
    w->taken_at = 0;
}

/* NULL: there will be none. */
static struct job *wait_for_job(struct keel_pool *p, struct worker *w)
{
    struct job *job;
    uint32_t crowd;

    w->batch = 1;
    atomic_fetch_add(&p->crowd, LOOKS);
    for (;;) {
        job = look(p, w);
        if (!job)
            job = take_others(p, w);
        if (job || is_over(p))
            break;
        rest(p, w);
    }
    worker_point();
    crowd = atomic_fetch_sub(&p->crowd, LOOKS);
    /* The last that looked: what came meanwhile has woken nobody. */
    if (all_asleep(crowd - LOOKS) && has_work(p))
        wake_one(p);
    return job;
}

/* ---- jobs ---- */

static void job_end(struct job *job, int result)
{
    job_is_future(job);
    future_finish(&job->future, result, job->future.arg);
}

/* What will not run. */
static void job_refuse(struct keel_pool *p, struct job *job, int result)
{
    if (p->bounded)
        keel_semaphore_give(&p->room);
    if (result == -ECANCELED)
        (void)keel_future_cancel(&job->future);
    else if (keel_future_start(&job->future))
        keel_future_set(&job->future, result, job->future.arg);
    job_is_future(job);
    keel_future_free(&job->future);
}

/* True: it hands back. */
static bool job_run(struct keel_pool *p, struct job *job)
{
    int rc;

    if (!job_has_begun(job)) {
        if (p->bounded)
            keel_semaphore_give(&p->room);
        if (!keel_future_start(&job->future)) {
            job_is_future(job);
            keel_future_free(&job->future);
            return false;
        }
        job->future.begun = true;
    }
    do
        rc = job->future.fn(job->future.arg);
    while (rc == KEEL_POOL_AGAIN && p->policy == KEEL_POOL_FIRST_COME);
    if (rc == KEEL_POOL_AGAIN)
        return true;
    job_end(job, rc);
    return false;
}

/* All that has not begun, of a closed pool.  What others take at the same time
 * they run. */
static void refuse_all(struct keel_pool *p, int result)
{
    struct job *fresh, *job, *next;

    spin_hold(&p->hold);
    while (!atomic_load(&p->drained)) {
        job = queue_take(p);
        if (job) {
            turns_add(&p->turns, job);
        } else { /* somebody has appended and not linked yet */
            spin_drop(&p->hold);
            worker_yield();
            spin_hold(&p->hold);
        }
    }
    fresh = turns_take_fresh(&p->turns);
    atomic_store(&p->waiting, p->turns.count);
    spin_drop(&p->hold);
    for (job = fresh; job; job = next) {
        next = job_next(job);
        job_refuse(p, job, result);
    }
    for (unsigned i = 0; i < p->size; i++)
        for (unsigned k = 0; k < SLOTS; k++)
            if ((job = slot_empty(&p->worker[i].slot[k])))
                job_refuse(p, job, result);
    /* Also while jobs that have begun wait for their turn: who takes the last
     * of them wakes nobody. */
    wake_all(p);
}

/* Nothing is taken from now on. */
static void close_(struct keel_pool *p)
{
    atomic_store(&p->closed, true);
    if (queue_append(p, &p->last))
        tell(p);
}

static void break_(struct keel_pool *p, int error)
{
    int none = 0;

    atomic_compare_exchange_strong(&p->broken, &none, error);
    close_(p);
    refuse_all(p, -ENOTRECOVERABLE);
}

/* ---- the pools of this program ---- */

static pthread_mutex_t lock = PTHREAD_MUTEX_INITIALIZER;
static struct keel_pool *pools;

static void close_at_exit(void)
{
    pthread_mutex_lock(&lock);
    for (struct keel_pool *p = pools; p; p = p->next)
        close_(p);
    pthread_mutex_unlock(&lock);
}

/* The child of a fork has none of the threads. */
static void forget_in_child(void)
{
    pthread_mutex_init(&lock, NULL);
    pools = NULL;
}

static void registry_open(void)
{
    atexit(close_at_exit);
    pthread_atfork(NULL, NULL, forget_in_child);
}

static void registry_add(struct keel_pool *p)
{
    pthread_mutex_lock(&lock);
    p->prev = NULL;
    p->next = pools;
    if (pools)
        pools->prev = p;
    pools = p;
    pthread_mutex_unlock(&lock);
}

static void registry_remove(struct keel_pool *p)
{
    pthread_mutex_lock(&lock);
    if (p->prev)
        p->prev->next = p->next;
    else if (pools == p)
        pools = p->next;
    if (p->next)
        p->next->prev = p->prev;
    pthread_mutex_unlock(&lock);
}

/* ---- the threads ---- */

static void unref(struct keel_pool *p)
{
    if (atomic_fetch_sub(&p->refs, 1) > 1)
        return;
    job_store_free(p->store);
    keel_free(p);
}

static void serve(struct keel_pool *p, struct worker *w)
{
    struct job *job = NULL;
    bool back = false;

    for (;;) {
        job = take(p, w, back ? job : NULL);
        if (!job)
            job = wait_for_job(p, w);
        if (!job)
            return;
        back = job_run(p, job);
    }
}

static void leave(struct keel_pool *p)
{
    if (atomic_fetch_sub(&p->alive, 1) == 1)
        keel_event_set(&p->over);
    unref(p);
}

static int worker_main(void *arg)
{
    struct worker *w = arg;
    struct keel_pool *p = w->pool;
    int rc = 0;

    me = w;
    if (p->initializer)
        rc = p->initializer(p->arg);
    if (rc < 0)
        break_(p, rc);
    else
        serve(p, w);
    me = NULL;
    leave(p);
    return 0;
}

static int worker_begin(struct keel_pool *p, unsigned number)
{
    char name[32];
    const struct keel_thread_how how = {.name = name,
                                        .stack_bytes = p->stack_bytes};
    keel_auto(thread) struct keel_thread *t = NULL;
    struct worker *w = &p->worker[number];
    int rc;

    (void)snprintf(name, sizeof name, "%s-%u", p->name, number);
    w->pool = p;
    w->number = number;
    w->batch = 1;
    w->spins = SPINS;
    rc = keel_thread_new(&how, worker_main, w, &t);
    if (rc < 0)
        return rc;
    return keel_thread_begin(t);
}

/* ---- beginning and end ---- */

/* Whatever happens. */
static void wait_until_over(struct keel_pool *p)
{
    keel_ns *scope = wait_scope(), outer = *scope;

    *scope = KEEL_FOREVER;
    keel_shield();
    keel_assert(keel_event_wait(&p->over, KEEL_FOREVER) == 0);
    keel_unshield();
    *scope = outer;
}

static bool within_limits(const struct keel_pool_how *how)
{
    return how->size <= SIZE_MOST && how->levels <= LEVELS_MOST &&
           how->quantum <= 1U << 20 &&
           (unsigned)how->policy <= KEEL_POOL_FEEDBACK;
}

static int pool_make(const struct keel_pool_how *how, unsigned size,
                     struct keel_pool **ret)
{
    size_t bytes = sizeof **ret + size * sizeof *(*ret)->worker;
    struct keel_pool *p = lines_alloc(bytes);
    int rc;

    if (!p)
        return -ENOMEM;
    memset(p, 0, bytes);
    rc = job_store_new(&p->store);
    if (rc < 0) {
        keel_free(p);
        return rc;
    }
    p->size = size;
    p->policy =
        how->policy == KEEL_POOL_USUAL ? KEEL_POOL_FIRST_COME : how->policy;
    p->batch_most = how->policy == KEEL_POOL_USUAL ? 1 + SLOTS : 1;
    p->turns.policy = p->policy;
    p->turns.quantum = how->quantum ? how->quantum : 1;
    p->turns.levels = how->levels ? how->levels : 3;
    p->turns.boost = how->boost ? how->boost : 1000;
    if (how->policy != KEEL_POOL_FEEDBACK)
        p->turns.levels = 1;
    p->stack_bytes = how->stack_bytes;
    p->initializer = how->initializer;
    p->arg = how->arg;
    p->bounded = how->waiting_most > 0;
    keel_semaphore_init(&p->room, how->waiting_most, 0);
    keel_event_init(&p->over);
    (void)snprintf(p->name, sizeof p->name, "%s",
                   how->name ? how->name : "pool");
    p->head = &p->stub;
    atomic_init(&p->tail, &p->stub);
    *ret = p;
    return 0;
}

int keel_pool_new(const struct keel_pool_how *how, struct keel_pool **ret)
{
    static pthread_once_t once = PTHREAD_ONCE_INIT;
    static const struct keel_pool_how usual;
    struct keel_pool *p;
    unsigned size;
    int rc;

    if (!how)
        how = &usual;
    if (!within_limits(how))
        return -EINVAL;
    size = how->size ? how->size : keel_cpu_count();
    rc = pool_make(how, size < SIZE_MOST ? size : SIZE_MOST, &p);
    if (rc < 0)
        return rc;
    /* All count from the beginning: the first may end before the last
     * begins. */
    atomic_init(&p->alive, p->size);
    atomic_init(&p->refs, 1 + p->size);
    for (unsigned i = 0; i < p->size; i++) {
        if (rc == 0)
            rc = worker_begin(p, i);
        if (rc < 0)
            leave(p);
    }
    /* After the first thread: what is entered later is called earlier. */
    pthread_once(&once, registry_open);
    registry_add(p);
    if (rc < 0) {
        keel_pool_free(p);
        return rc;
    }
    *ret = p;
    return 0;
}

void keel_pool_free(struct keel_pool *p)
{
    if (!p)
        return;
    if (me && me->pool == p)
        misuse("keel_pool_free", p, "a job frees its own pool");
    if (!atomic_load(&p->closed))
        (void)keel_pool_shutdown(p, true, KEEL_NOW);
    wait_until_over(p);
    registry_remove(p);
    unref(p);
}

int keel_pool_shutdown(struct keel_pool *p, bool cancel, keel_ns deadline)
{
    close_(p);
    if (cancel)
        refuse_all(p, -ECANCELED);
    if (me && me->pool == p && deadline != KEEL_NOW)
        return mistake("keel_pool_shutdown", p,
                       "a job waits for the end of its own pool", -EDEADLK);
    return keel_event_wait(&p->over, deadline);
}

unsigned keel_pool_size(struct keel_pool *p)
{
    return atomic_load(&p->alive);
}

int keel_pool_error(struct keel_pool *p)
{
    return atomic_load(&p->broken);
}

/* ---- submit ---- */

static int refusal(struct keel_pool *p)
{
    return atomic_load(&p->broken) ? -ENOTRECOVERABLE : -EPIPE;
}

int keel_pool_submit_cost(struct keel_pool *p, uint64_t cost,
                          int (*fn)(void *arg), void *arg, keel_ns deadline,
                          struct keel_future **ret)
{
    struct job *job;
    int rc;

    if (atomic_load_explicit(&p->closed, memory_order_relaxed))
        return refusal(p);
    if (p->bounded) {
        rc = keel_semaphore_take(&p->room, deadline);
        if (rc < 0)
            return rc;
    }
    job = job_new(p->store, ret ? 2 : 1, fn, arg);
    rc = job ? 0 : -ENOMEM;
    if (job) {
        job->cost = cost;
        if (hand_over(p, job)) {
            if (ret)
                *ret = &job->future;
            return 0;
        }
        if (!queue_append(p, job)) {
            rc = refusal(p);
            atomic_store(&job->future.refs, 1);
            job_is_future(job);
            keel_future_free(&job->future);
        }
    }
    if (rc < 0) {
        if (p->bounded)
            keel_semaphore_give(&p->room);
        return rc;
    }
    tell(p);
    if (ret)
        *ret = &job->future;
    return 0;
}

int keel_pool_submit(struct keel_pool *p, int (*fn)(void *arg), void *arg,
                     keel_ns deadline, struct keel_future **ret)
{
    return keel_pool_submit_cost(p, 0, fn, arg, deadline, ret);
}
