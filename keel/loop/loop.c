/* SPDX-License-Identifier: MIT */
/* The loop: a thread that switches between its coroutines.
 *
 * A coroutine that parks switches straight to the next runnable one; only
 * every TURN switches, or when nothing is runnable, the loop's own context
 * runs, looks at the inbox, the timers and the poller, and sleeps.
 *
 * Other threads reach a loop through its inbox, a lock-free stack taken whole:
 *     poster: push;          if (sleeping) wake the poller
 *     loop:   sleeping = 1;  if (inbox empty) sleep in the poller
 * Both orders are sequentially consistent, so that either the poster sees
 * `sleeping` or the loop sees the post.  The exchange of `sleeping` lets one
 * poster of many pay for the wake. */
#include "loop.h"

#include <errno.h>
#include <pthread.h>
#include <sched.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include <keel/seam.h>

#include "census.h"
#include "park.h"
#include "patched.h"
#include "worker.h"

#define TURN 64u /* switches between two looks round */
/* How old the poller's news may get while there are coroutines to run: more
 * of them than a handful would only wait, and grow cold. */
#define POLL_NS (200 * KEEL_US)
#define SPINS 100 /* about a microsecond */
#define CREDIT 16
/* Under virtual time: what the kernel gets to deliver what was sent. */
#define GRACE_NS (200 * KEEL_US)
/* A turn as long as this keeps the others waiting for somebody who does not
 * wait. */
/* Who has waited that long, while the loop has nothing to do, gives back what
 * of its stack it does not need meanwhile; so many at a time. */
#define COOL_NS (2 * KEEL_SECOND)
#define COOL_BATCH 64
#define COOL_PAUSE (5 * KEEL_MS)
/* Stacks that are free give back their pages no faster than that: the next
 * wave of coroutines may come at once. */
#define TRIM_PAUSE KEEL_MS
#define BLOCKED_NS ((uint64_t)(10 * KEEL_MS))
#define RELOOK_NS (5 * KEEL_MS) /* while others keep virtual time still */
#define HANDLES_A_BLOCK 64u

_Thread_local struct keel_loop *loop_here;

/* Under `lock`: the list of all loops there ever were, and those not in use;
 * of each loop whether it is open and, for virtual time, idle. */
static pthread_mutex_t lock = PTHREAD_MUTEX_INITIALIZER;
static struct keel_loop *loops_all;
static struct keel_loop *loops_unused;
_Atomic unsigned loops_alive;

/* ---- handles ---- */

/* Memory of handles is theirs for ever: a late look at a handle is harmless. */
struct handle_block {
    struct handle_block *older;
    struct keel_co co[HANDLES_A_BLOCK];
};
static pthread_mutex_t handle_lock = PTHREAD_MUTEX_INITIALIZER;
static struct handle_block *handle_blocks;
static struct keel_co *handles_free;

static int handle_block_new(void)
{
    struct handle_block *b = keel_alloc(sizeof *b);

    if (!b)
        return -ENOMEM;
    b->older = handle_blocks;
    handle_blocks = b;
    for (unsigned i = 0; i < HANDLES_A_BLOCK; i++) {
        atomic_init(&b->co[i].serial, 0);
        b->co[i].next = handles_free;
        handles_free = &b->co[i];
    }
    return 0;
}

struct keel_co *handle_fetch(void)
{
    struct keel_co *co;

    pthread_mutex_lock(&handle_lock);
    if (!handles_free && handle_block_new() < 0) {
        pthread_mutex_unlock(&handle_lock);
        return NULL;
    }
    co = handles_free;
    handles_free = co->next;
    pthread_mutex_unlock(&handle_lock);
    return co;
}

void handle_return(struct keel_co *co)
{
    pthread_mutex_lock(&handle_lock);
    co->next = handles_free;
    handles_free = co;
    pthread_mutex_unlock(&handle_lock);
}

static void handles_empty(struct keel_loop *l)
{
    pthread_mutex_lock(&handle_lock);
    while (l->handles) {
        struct keel_co *co = l->handles;

        l->handles = co->next;
        co->next = handles_free;
        handles_free = co;
    }
    l->handle_count = 0;
    pthread_mutex_unlock(&handle_lock);
}

/* ---- from other threads ---- */

void loop_poke(struct keel_loop *l)
{
    if (!atomic_load(&l->sleeping))
        return;
    /* `wakers` keeps the poller open: the loop clears `sleeping` before it
     * looks at `wakers` and closes, we raise `wakers` before we look again. */
    atomic_fetch_add(&l->wakers, 1);
    if (atomic_exchange(&l->sleeping, 0))
        l->poller->is->wake(l->poller);
    atomic_fetch_sub(&l->wakers, 1);
}

bool loop_send(struct keel_loop *l, struct keel_co *co)
{
    struct keel_co *old = atomic_load_explicit(&l->inbox, memory_order_relaxed);

    do {
        if (old == INBOX_CLOSED)
            return false;
        co->next = old;
    } while (!atomic_compare_exchange_weak(&l->inbox, &old, co));
    /* `co` may have run and be gone by now; the loop's memory stays. */
    loop_poke(l);
    if (worker_is_simulated())
        worker_class->posted();
    return true;
}

void co_post(struct keel_co *co)
{
    struct keel_loop *l = co->loop;

    if (l == loop_here)
        run_push(l, co);
    else
        loop_send(l, co); /* not closed: `co` lives on it */
}

/* ---- the loop's own context ---- */

static void inbox_run(struct keel_loop *l)
{
    struct keel_co *co, *next, *turned = NULL;
    uint64_t count = 0;

    if (!atomic_load_explicit(&l->inbox, memory_order_relaxed))
        return;
    co = atomic_exchange_explicit(&l->inbox, NULL, memory_order_acquire);
    for (; co; co = next) {
        next = co->next;
        co->next = turned;
        turned = co;
    }
    for (co = turned; co; co = next) {
        next = co->next;
        if (!co->body->listed)
            loop_adopt(l, co);
        run_push(l, co);
        count++;
    }
    count_add(&l->counts.posts, count);
}

static void cancels_run(struct keel_loop *l)
{
    struct keel_co *co, *next;

    if (!atomic_load_explicit(&l->cancels, memory_order_relaxed))
        return;
    co = atomic_exchange_explicit(&l->cancels, NULL, memory_order_acquire);
    for (; co; co = next) {
        next = co->cancel_next;
        co_cancel_taken(co);
    }
}

/* Everything asked of this loop from outside. */
static void news(struct keel_loop *l)
{
    inbox_run(l);
    cancels_run(l);
    if (atomic_load_explicit(&l->stop, memory_order_relaxed))
        loop_wind_up(l);
    if (atomic_load_explicit(&l->request, memory_order_relaxed))
        dump_answer(l);
}

bool loop_has_news(struct keel_loop *l)
{
    return atomic_load(&l->inbox) || atomic_load(&l->cancels) ||
           (atomic_load(&l->stop) && !l->stopping) || atomic_load(&l->request);
}

void loop_wind_up(struct keel_loop *l)
{
    if (l->stopping)
        return;
    l->stopping = true;
    atomic_store(&l->stop, 1);
    for (struct body *b = l->bodies; b; b = b->next) {
        atomic_store_explicit(&b->co->cancelled, 1, memory_order_relaxed);
        co_interrupt(b->co);
    }
}

/* ---- stacks that nobody runs on ---- */

static void tidy(struct keel_loop *l)
{
    while (l->dead) {
        struct stack *s = l->dead;

        l->dead = s->next;
        stack_drop(s);
    }
    if (l->stacks.count > STACK_BUNDLE) {
        stack_shed(&l->stacks);
        l->trim = true;
    }
    if (l->trim && (l->now >= l->trim_at || keel_seam.virtual_time)) {
        l->trim = stack_trim();
        l->trim_at = l->now + TRIM_PAUSE;
    }
}

/* ---- idling ---- */

/* Processors this process may use, looked at before the program binds its
 * threads to one each. */
static unsigned cpus = 1, spin_cpus = 1;
static unsigned simulated_cpus; /* 0: not simulated */

__attribute__((constructor)) static void cpus_count(void)
{
    cpu_set_t set;

    if (sched_getaffinity(0, sizeof set, &set) == 0)
        cpus = spin_cpus = (unsigned)CPU_COUNT(&set);
}

unsigned loop_cpus(void)
{
    return simulated_cpus ? simulated_cpus : cpus;
}

void loop_cpus_simulate(unsigned count)
{
    simulated_cpus = count;
    spin_cpus = count ? 1 : cpus; /* whoever spins keeps all others waiting */
}

bool loop_may_spin(void)
{
    return !__libc_single_threaded && spin_cpus > 1 &&
           atomic_load_explicit(&loops_alive, memory_order_relaxed) <=
               spin_cpus;
}

/* Waking a sleeping thread costs thirty times the spin.  Spins that found
 * nothing use up credit, so that a loop nobody sends to stops trying. */
static bool spin_found(struct keel_loop *l)
{
    if (l->credit == 0 || !loop_may_spin())
        return false;
    for (int i = 0; i < SPINS; i++) {
        if (atomic_load_explicit(&l->inbox, memory_order_relaxed)) {
            l->credit = CREDIT;
            return true;
        }
        cpu_relax();
    }
    l->credit--;
    return false;
}

static void poll_until(struct keel_loop *l, keel_ns deadline)
{
    l->poller->is->wait(l->poller, deadline);
    l->now = l->polled = keel_seam.now();
}

/* Sleeps, unless there is news. */
static void nap(struct keel_loop *l, keel_ns deadline)
{
    keel_ns began = l->now;

    atomic_store(&l->sleeping, 1);
    if (loop_has_news(l))
        deadline = KEEL_NOW;
    poll_until(l, deadline);
    atomic_store(&l->sleeping, 0);
    count_add(&l->counts.sleeps, 1);
    count_add(&l->counts.asleep_ns, (uint64_t)(l->now - began));
    if (atomic_load_explicit(&l->inbox, memory_order_relaxed))
        l->credit = CREDIT; /* woken by a post: the next may come sooner */
}

/* False: it has not waited for long enough. */
static bool cool(struct body *b, keel_ns now)
{
    if (!b->waits || b->cooled == b->since)
        return true;
    if (now - b->since < COOL_NS / 2)
        return false;
    stack_cool(b->stack, b->co->sp);
    b->cooled = b->since;
    return true;
}

void loop_cool(struct keel_loop *l, keel_ns now)
{
    struct body *b = l->cooling;

    if (!b) {
        b = l->bodies;
        l->cool_turns = count_of(&l->counts.turns);
        l->cool_again = false;
    }
    for (unsigned n = 0; b && n < COOL_BATCH; n++, b = b->next)
        if (!cool(b, now))
            l->cool_again = true;
    l->cooling = b;
    if (b)
        l->cool_at = now + COOL_PAUSE;
    else if (l->cool_again || l->cool_turns != count_of(&l->counts.turns))
        l->cool_at = now + COOL_NS;
    else
        l->cool_at = KEEL_FOREVER;
}

/* When there is something to do that can wait for idle times. */
static keel_ns chore_at(const struct keel_loop *l)
{
    if (keel_seam.virtual_time || worker_is_simulated())
        return KEEL_FOREVER;
    return l->trim && l->trim_at < l->cool_at ? l->trim_at : l->cool_at;
}

/* The same, and uses the time. */
static void doze(struct keel_loop *l, keel_ns deadline)
{
    keel_ns chore;

    while ((chore = chore_at(l)) < deadline) {
        nap(l, chore);
        if (l->run_head || l->now < chore || loop_has_news(l))
            return;
        if (l->now >= l->cool_at)
            loop_cool(l, l->now);
        tidy(l);
    }
    nap(l, deadline);
}

/* Until somebody else wakes it. */
static void doze_for_ever(struct keel_loop *l)
{
    bool outside =
        count_of(&l->counts.submitted) != count_of(&l->counts.completed);
    keel_ns patience = KEEL_FOREVER;

    if (outside) {
        doze(l, KEEL_FOREVER);
        return;
    }
    atomic_fetch_add(&l->rests, 1);
    for (unsigned looks = 0;; looks++) {
        patience = deadlock_patience(looks);
        doze(l, patience == KEEL_FOREVER ? KEEL_FOREVER : keel_after(patience));
        if (l->run_head || loop_has_news(l) || patience == KEEL_FOREVER)
            break;
        deadlock_look();
    }
    atomic_fetch_add(&l->rests, 1);
}

/* Virtual time goes on only when nobody has anything to do: the last loop to
 * fall idle moves the clock to the earliest deadline of all. */
static keel_ns next_deadline(struct keel_loop *l)
{
    return l->timers ? l->timers->deadline : KEEL_FOREVER;
}

/* Under `lock`: true when `l`, idle, is the last, with the earliest
 * deadline. */
static bool all_idle(struct keel_loop *l, keel_ns *ret)
{
    keel_ns first = next_deadline(l);

    if (atomic_load(&blocking_under_way))
        return false;
    for (struct keel_loop *o = loops_all; o; o = o->all_next) {
        if (o == l || !o->open)
            continue;
        if (!o->idle || loop_has_news(o))
            return false;
        if (o->idle_until < first)
            first = o->idle_until;
    }
    *ret = first;
    return true;
}

static void doze_virtually(struct keel_loop *l)
{
    keel_ns to = KEEL_FOREVER;
    bool last;

    /* What was sent but not yet delivered is no reason to let time pass. */
    poll_until(l, keel_now() + GRACE_NS);
    if (l->run_head || loop_has_news(l))
        return;
    pthread_mutex_lock(&lock);
    l->idle = true;
    l->idle_until = next_deadline(l);
    last = all_idle(l, &to);
    if (last && to != KEEL_FOREVER && to > keel_now())
        keel_seam.advance(to);
    if (last)
        for (struct keel_loop *o = loops_all; o; o = o->all_next)
            if (o->open && o->idle && o->idle_until <= to) {
                o->idle = false;
                if (o != l)
                    loop_poke(o);
            }
    pthread_mutex_unlock(&lock);
    if (last && next_deadline(l) <= to && to != KEEL_FOREVER) {
        l->now = keel_now();
        return;
    }
    /* Another loop or the pool is at work.  The poller's deadline is the
     * seam's clock, by which it reckons how long to sleep. */
    if (last && to == KEEL_FOREVER)
        doze_for_ever(l);
    else
        doze(l, keel_now() + RELOOK_NS);
    pthread_mutex_lock(&lock);
    l->idle = false;
    pthread_mutex_unlock(&lock);
}

static void rest(struct keel_loop *l)
{
    if (keel_seam.virtual_time) {
        doze_virtually(l);
        return;
    }
    if (l->credit > 0 && loop_may_spin()) {
        /* What was submitted goes out before the spin. */
        poll_until(l, KEEL_NOW);
        if (l->run_head || spin_found(l))
            return;
    }
    if (l->timers)
        doze(l, l->timers->deadline);
    else
        doze_for_ever(l);
}

/* ---- turns ---- */

static bool poll_due(struct keel_loop *l)
{
    /* A virtual clock does not show how long the poller was left alone. */
    return keel_seam.virtual_time || l->now - l->polled >= POLL_NS;
}

/* Nothing left to run here, and nothing more can come. */
static bool ended(struct keel_loop *l)
{
    struct keel_co *none = NULL;

    if (!l->stopping || atomic_load_explicit(&l->alive, memory_order_relaxed))
        return false;
    return atomic_compare_exchange_strong(&l->inbox, &none, INBOX_CLOSED);
}

/* Lets up to TURN of them run. */
static void turn(struct keel_loop *l)
{
    l->turned = l->now;
    jump(&l->home, next_to_run(l));
    count_add(&l->counts.switches,
              TURN - atomic_load_explicit(&l->budget, memory_order_relaxed));
    count_add(&l->counts.turns, 1);
    atomic_store_explicit(&l->budget, TURN, memory_order_relaxed);
    if (l->cool_at == KEEL_FOREVER)
        l->cool_at = l->now + COOL_NS;
}

/* After a turn, and one look at the clock. */
static void turn_timed(struct keel_loop *l)
{
    uint64_t spent = (uint64_t)(l->now - l->turned);

    if (l->turned == 0)
        return;
    l->turned = 0;
    if (spent > count_of(&l->counts.longest_ns))
        atomic_store_explicit(&l->counts.longest_ns, spent,
                              memory_order_relaxed);
    if (spent >= BLOCKED_NS)
        count_add(&l->counts.blocked_ns, spent);
}

static void loop_turns(struct keel_loop *l)
{
    for (;;) {
        if (worker_is_simulated())
            atomic_store(&l->budget, worker_class->budget(TURN));
        news(l);
        tidy(l);
        l->now = keel_seam.now();
        turn_timed(l);
        timers_run(l, l->now);
        if (l->run_head && poll_due(l))
            poll_until(l, KEEL_NOW);
        if (l->run_head) {
            turn(l);
        } else if (ended(l)) {
            break;
        } else {
            rest(l);
        }
    }
    /* Cancels that came too late, of coroutines that have ended. */
    cancels_run(l);
}

/* ---- making and ending loops ---- */

static struct keel_loop *loop_take(void)
{
    struct keel_loop *l;

    pthread_mutex_lock(&lock);
    l = loops_unused;
    if (l)
        loops_unused = l->pool_next;
    pthread_mutex_unlock(&lock);
    if (l)
        return l;
    if (keel_seam_enter(KEEL_OP_ALLOC, NULL) < 0)
        return NULL;
    l = aligned_alloc(_Alignof(struct keel_loop), sizeof *l);
    if (!l)
        return NULL;
    memset(l, 0, sizeof *l);
    atomic_store(&l->inbox, INBOX_CLOSED);
    pthread_mutex_lock(&lock);
    l->all_next = loops_all;
    loops_all = l;
    pthread_mutex_unlock(&lock);
    return l;
}

static void loop_return(struct keel_loop *l)
{
    pthread_mutex_lock(&lock);
    l->pool_next = loops_unused;
    loops_unused = l;
    pthread_mutex_unlock(&lock);
}

/* The thread's own stack, for ASan, which must know where it returns to. */
static void home_init(struct keel_loop *l)
{
    l->home.body = &l->home_body;
    l->home.loop = l;
    l->home_body.stack = &l->home_stack;
    l->home_body.timeout = KEEL_FOREVER;
#ifdef KEEL_ASAN
    pthread_attr_t attr;
    void *low = NULL;
    size_t size = 0;

    if (worker_is_simulated()) {
        worker_class->stack(&low, &size);
    } else if (pthread_getattr_np(pthread_self(), &attr) == 0) {
        pthread_attr_getstack(&attr, &low, &size);
        pthread_attr_destroy(&attr);
    }
    l->home_body.low = low;
    l->home_body.size = size;
#endif
    SAN_TSAN(l->home_stack.fiber = __tsan_get_current_fiber());
}

/* Opens `l` for this thread. */
static int loop_open(struct keel_loop *l, const char *name)
{
    int rc;

    patched_offer();
    rc = poller_open(&l->poller);
    if (rc < 0)
        return rc;
    rc = overflow_watch(l);
    if (rc < 0) {
        l->poller->is->close(l->poller);
        return rc;
    }
    home_init(l);
    l->run_head = l->run_tail = l->current = NULL;
    l->stopping = false;
    l->trim = false;
    l->trim_at = 0;
    l->cooling = NULL;
    l->cool_at = KEEL_FOREVER;
    l->credit = CREDIT;
    l->now = l->polled = keel_seam.now();
    l->turned = 0;
    atomic_store(&l->budget, TURN);
    counters_begin(l);
    atomic_store(&l->thread_id, gettid());
    presence_loop(l);
    snprintf(l->name, sizeof l->name, "%s", name ? name : "loop");
    atomic_store(&l->stop, 0);
    atomic_store(&l->alive, 0);
    atomic_store(&l->incoming, 0);
    atomic_store(&l->inbox, NULL);
    atomic_fetch_add(&loops_alive, 1);
    pthread_mutex_lock(&lock);
    l->open = true;
    l->idle = false;
    pthread_mutex_unlock(&lock);
    loop_here = l;
    return 0;
}

static void loop_close(struct keel_loop *l)
{
    pthread_mutex_lock(&lock);
    l->open = false;
    pthread_mutex_unlock(&lock);
    atomic_fetch_sub(&loops_alive, 1);
    /* Who saw us asleep may be about to wake the poller: see loop_poke. */
    while (atomic_load(&l->wakers))
        worker_yield();
    if (atomic_load(&l->request))
        dump_answer(l);
    loop_here = NULL;
    presence_loop(NULL);
    l->poller->is->close(l->poller);
    overflow_unwatch(l);
    handles_empty(l);
    tidy(l);
    stack_cache_empty(&l->stacks);
}

static int main_run(void *arg)
{
    struct keel_loop *l = arg;

    thread_stop_first(keel_current());
    l->main_result = l->main(l->main_arg);
    thread_stop_first(NULL);
    loop_wind_up(l);
    return 0;
}

int keel_run(int (*fn)(void *arg), void *arg)
{
    const struct keel_spawn how = {.name = "main"};
    struct keel_loop *l;
    int rc;

    if (loop_here)
        return mistake("keel_run", loop_here, "the thread runs a loop already",
                       -EBUSY);
    l = loop_take();
    if (!l)
        return -ENOMEM;
    rc = loop_open(l, "main");
    if (rc < 0) {
        loop_return(l);
        return rc;
    }
    l->main = fn;
    l->main_arg = arg;
    rc = keel_spawn(&how, main_run, l, NULL);
    if (rc < 0)
        l->stopping = true;
    loop_turns(l);
    loop_close(l);
    if (rc == 0)
        rc = l->main_result;
    loop_return(l);
    return rc;
}

/* A loop's thread tells its starter whether the loop could be made. */
struct start {
    struct keel_loop *loop;
    const char *name;
    int rc;
    struct waiter waiter;
};

static void *thread_main(void *arg)
{
    struct start *s = arg;
    struct keel_loop *l = s->loop;
    int rc;

    rc = loop_open(l, s->name);
    s->rc = rc;
    /* By the thread itself: another's name is a file in /proc, out of reach
     * after keel_confine. */
    if (rc == 0) {
        worker_name(l->name);
        presence_enter(l->name);
    }
    waiter_wake(&s->waiter); /* `s` is gone after this */
    if (rc < 0)
        return NULL;
    loop_turns(l);
    loop_close(l);
    return NULL;
}

static int thread_start(struct keel_loop *l, const char *name)
{
    struct start s = {.loop = l, .name = name};
    sigset_t all, before;
    int rc;

    rc = keel_seam_enter(KEEL_OP_THREAD, NULL);
    if (rc < 0)
        return rc;
    waiter_arm(&s.waiter, "loop start");
    /* Signals are for the threads that the program made. */
    sigfillset(&all);
    sigdelset(&all, SIGSEGV);
    sigdelset(&all, SIGBUS);
    sigdelset(&all, SIGFPE);
    sigdelset(&all, SIGILL);
    sigdelset(&all, SIGURG); /* see watchdog.c */
    pthread_sigmask(SIG_BLOCK, &all, &before);
    rc = worker_start(name ? name : "loop", NULL, thread_main, &s, &l->thread);
    pthread_sigmask(SIG_SETMASK, &before, NULL);
    if (rc < 0)
        return rc;
    waiter_sleep_always(&s.waiter);
    if (s.rc < 0)
        worker_join(l->thread);
    return s.rc;
}

int keel_loop_start(const char *name, struct keel_loop **ret)
{
    struct keel_loop *l = loop_take();
    int rc;

    if (!l)
        return -ENOMEM;
    rc = thread_start(l, name);
    if (rc < 0) {
        loop_return(l);
        return rc;
    }
    *ret = l;
    return 0;
}

static int join_thread(void *arg)
{
    struct keel_loop *l = arg;

    return worker_join(l->thread);
}

void keel_loop_stop(struct keel_loop *loop)
{
    if (!loop)
        return;
    if (loop == loop_here)
        misuse("keel_loop_stop", loop, "the caller runs on it");
    atomic_store(&loop->stop, 1);
    loop_poke(loop);
    /* The caller's own loop goes on meanwhile: one of the coroutines that end
     * may be waiting for something of it.  Without a thread to spare it blocks. */
    if (keel_blocking(join_thread, loop) == -EAGAIN)
        join_thread(loop);
    loop_return(loop);
}

struct keel_loop *keel_loop_current(void)
{
    return loop_here;
}

size_t keel_loop_load(const struct keel_loop *loop)
{
    return atomic_load_explicit(&loop->alive, memory_order_relaxed) +
           atomic_load_explicit(&loop->incoming, memory_order_relaxed);
}

struct poller *loop_poller(void)
{
    return loop_here ? loop_here->poller : NULL;
}

void loop_submitted(void)
{
    if (loop_here)
        count_add(&loop_here->counts.submitted, 1);
}

void loop_completed(void)
{
    if (loop_here)
        count_add(&loop_here->counts.completed, 1);
}

void loop_step(void)
{
    struct keel_loop *l = loop_here;

    if (l && l->current && --l->steps == 0)
        keel_yield();
}

struct keel_loop *loops_first(void)
{
    struct keel_loop *first;

    pthread_mutex_lock(&lock);
    first = loops_all;
    pthread_mutex_unlock(&lock);
    return first;
}

bool loop_is_open(struct keel_loop *l)
{
    bool open;

    pthread_mutex_lock(&lock);
    open = l->open;
    pthread_mutex_unlock(&lock);
    return open;
}
