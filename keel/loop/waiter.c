/* SPDX-License-Identifier: MIT */
/* One wait, step by step, and why no wake is lost:
 *
 * 1. A waiter is armed, and linked under the object's hold after the condition
 *    was seen false under that same hold.  A change of the condition therefore
 *    finds every waiter that must hear of it.
 * 2. One compare-and-swap out of ARMED decides between wake, deadline and
 *    cancel.  The loser does nothing more; a wake that lost goes on to the
 *    next waiter, so that a deadline cannot swallow it.
 * 3. After WOKEN the waker touches the waiter once more, to post it.  The
 *    sleeper may not return before that: a coroutine cannot, because only its
 *    loop resumes it, after the post; a thread waits for POSTED.
 * 4. After EXPIRED or CANCELLED the sleeper holds the object and unlinks
 *    itself before it returns: nobody finds a dead waiter. */
#include "sched.h"

#include <errno.h>
#include <linux/futex.h>
#include <sched.h>
#include <sys/syscall.h>
#include <time.h>
#include <unistd.h>

#include <keel/seam.h>

#include "census.h"
#include "park.h"
#include "seam/quarantine.h"
#include "worker.h"

#define THREAD_SPINS 200

_Thread_local keel_ns thread_timeout = KEEL_FOREVER;
_Thread_local struct thread_mark thread_mark;
_Thread_local struct thread_mark *thread_mark_lent;

static long futex(_Atomic uint32_t *word, int op, uint32_t value,
                  const struct timespec *until)
{
    return syscall(SYS_futex, word, op | FUTEX_PRIVATE_FLAG, value, until, NULL,
                   FUTEX_BITSET_MATCH_ANY);
}

/* ---- spins ---- */

void spin_wait(_Atomic uint32_t *word, uint32_t while_it_is)
{
    for (int n = 1;
         atomic_load_explicit(word, memory_order_acquire) == while_it_is; n++) {
        cpu_relax();
        if (n % 200 == 0 || worker_is_simulated())
            worker_yield(); /* the holder may have lost its processor */
    }
}

/* ---- the pairing heap of timers ----
 * The root is the earliest.  `child` is the youngest of a node's children,
 * `younger` and `older` are its siblings; the youngest's `younger` is the
 * parent. */

static bool before(const struct waiter *a, const struct waiter *b)
{
    return a->deadline < b->deadline ||
           (a->deadline == b->deadline && a->turn < b->turn);
}

static struct waiter *meld(struct waiter *a, struct waiter *b)
{
    struct waiter *t;

    if (!a)
        return b;
    if (!b)
        return a;
    if (before(b, a)) {
        t = a;
        a = b;
        b = t;
    }
    b->older = a->child;
    if (a->child)
        a->child->younger = b;
    b->younger = a;
    a->child = b;
    return a;
}

/* The children of a removed node become one heap: in pairs, then pair by pair
 * from the last, which is what makes removal logarithmic on average. */
static struct waiter *meld_children(struct waiter *first)
{
    struct waiter *pairs = NULL, *a, *b, *rest, *all = NULL;

    for (a = first; a; a = rest) {
        b = a->older;
        rest = b ? b->older : NULL;
        a->older = a->younger = NULL;
        if (b)
            b->older = b->younger = NULL;
        a = meld(a, b);
        a->older = pairs;
        pairs = a;
    }
    for (a = pairs; a; a = rest) {
        rest = a->older;
        a->older = NULL;
        all = meld(all, a);
    }
    return all;
}

void timer_add(struct keel_loop *l, struct waiter *w, keel_ns deadline)
{
    w->deadline = deadline;
    w->turn = l->timer_turn++;
    w->child = w->younger = w->older = NULL;
    w->timed = true;
    l->timers = meld(l->timers, w);
}

void timer_drop(struct keel_loop *l, struct waiter *w)
{
    struct waiter *below = meld_children(w->child);

    w->child = NULL;
    w->timed = false;
    if (l->timers == w) {
        l->timers = below;
        return;
    }
    if (w->younger->child == w)
        w->younger->child = w->older;
    else
        w->younger->older = w->older;
    if (w->older)
        w->older->younger = w->younger;
    l->timers = meld(l->timers, below);
}

void timers_run(struct keel_loop *l, keel_ns now)
{
    while (l->timers && l->timers->deadline <= now) {
        struct waiter *w = l->timers;

        timer_drop(l, w);
        if (waiter_leave(w, EXPIRED))
            run_push(l, w->co);
    }
}

/* ---- one waiter ---- */

void waiter_arm(struct waiter *w, const char *what)
{
    waiter_arm_inline(w, what);
}

keel_ns real_clock(void)
{
    struct timespec t;

    if (worker_is_simulated())
        return keel_seam.now();
    clock_gettime(CLOCK_MONOTONIC, &t);
    return (keel_ns)t.tv_sec * KEEL_SECOND + t.tv_nsec;
}

/* Sleeps on `posted` until the real point `until`, or at least a look. */
static void thread_doze(struct waiter *w, keel_ns until)
{
    struct timespec at = {(time_t)(until / KEEL_SECOND),
                          (long)(until % KEEL_SECOND)};

    if (worker_is_simulated())
        worker_class->doze(&w->posted, SLEEPING, until, w);
    else
        futex(&w->posted, FUTEX_WAIT_BITSET, SLEEPING,
              until == KEEL_FOREVER ? NULL : &at);
#ifdef KEEL_TSAN
    (void)real_clock(); /* it holds signals back until the next call it knows */
#endif
}

static void doze_for_ever(struct waiter *w, unsigned *looks)
{
    keel_ns patience = deadlock_patience((*looks)++);
    keel_ns until =
        patience == KEEL_FOREVER ? KEEL_FOREVER : real_clock() + patience;

    thread_doze(w, until);
    if (until != KEEL_FOREVER && real_clock() >= until)
        deadlock_look();
}

/* `virtual`: the deadline is on a test's clock, which no futex knows. */
static int nap(struct waiter *w, keel_ns deadline, bool virtual)
{
    unsigned looks = 0;
    keel_ns until;

    for (;;) {
        uint32_t unposted = UNPOSTED;

        if (!atomic_compare_exchange_strong(&w->posted, &unposted, SLEEPING) &&
            unposted == POSTED)
            return 0;
        if (deadline != KEEL_FOREVER &&
            (virtual ? keel_now() : real_clock()) >= deadline) {
            if (waiter_leave(w, EXPIRED))
                return -ETIMEDOUT;
            deadline = KEEL_FOREVER; /* a wake won: its post is coming */
        }
        until = deadline;
        if (virtual && deadline != KEEL_FOREVER)
            until = real_clock() + KEEL_MS;
        if (deadline == KEEL_FOREVER)
            doze_for_ever(w, &looks);
        else
            thread_doze(w, until);
    }
}

static int sleep_in_thread(struct waiter *w, keel_ns deadline, bool virtual)
{
    int rc;

    if (loop_may_spin())
        for (int i = 0; i < THREAD_SPINS; i++) {
            if (atomic_load_explicit(&w->posted, memory_order_acquire) ==
                POSTED)
                return 0;
            cpu_relax();
        }
    presence_nap(w, deadline, __builtin_frame_address(0));
    rc = nap(w, deadline, virtual);
    presence_wake();
    return rc;
}

/* As waiter_sleep_in_co: what is woken already has its post under way. */
static int sleep_unless_cancelled(struct thread_stop *s, struct waiter *w,
                                  keel_ns deadline)
{
    int rc;

    if (thread_stop_begin(s, w) < 0) {
        if (waiter_leave(w, CANCELLED))
            return -ECANCELED;
        (void)sleep_in_thread(w, KEEL_FOREVER, false);
        return waiter_outcome(w);
    }
    rc = sleep_in_thread(w, deadline, keel_seam.virtual_time);
    thread_stop_end(s);
    return rc < 0 ? rc : waiter_outcome(w);
}

int waiter_sleep(struct waiter *w, keel_ns deadline)
{
    if (w->co)
        return waiter_sleep_in_co(w, deadline);
    if (thread_timeout < deadline)
        deadline = thread_timeout;
    if (thread_stop_here)
        return sleep_unless_cancelled(thread_stop_here, w, deadline);
    return sleep_in_thread(w, deadline, keel_seam.virtual_time);
}

int waiter_sleep_real(struct waiter *w, keel_ns span)
{
    keel_assert(!w->co);
    return sleep_in_thread(w, real_clock() + span, false);
}

void waiter_sleep_always(struct waiter *w)
{
    if (w->co) {
        w->always = true;
        waiter_park(w, KEEL_FOREVER);
    } else {
        sleep_in_thread(w, KEEL_FOREVER, false);
    }
}

static void rouse(_Atomic uint32_t *posted)
{
    if (worker_is_simulated())
        worker_class->rouse(posted);
    else
        futex(posted, FUTEX_WAKE, 1, NULL);
}

void waiter_post(struct waiter *w)
{
    if (!w)
        return;
    if (w->co)
        co_post(w->co);
    /* After this exchange `w` may be gone; only its address is woken. */
    else if (atomic_exchange(&w->posted, POSTED) == SLEEPING)
        rouse(&w->posted);
}

bool waiter_wake(struct waiter *w)
{
    if (!waiter_leave(w, WOKEN))
        return false;
    waiter_post(w);
    return true;
}

/* ---- wait lists ---- */

static _Atomic uint32_t *spin_of(struct keel_waitlist *l)
{
    return (_Atomic uint32_t *)&l->spin;
}

/* The tail of a list whose object has ended, in programs compiled with
 * KEEL_DEBUG. */
static struct waiter ended;

void waitlist_hold(struct keel_waitlist *l)
{
    spin_hold(spin_of(l));
    if (__builtin_expect(l->tail == &ended, 0))
        misuse_here(l, "it has ended (_fini or _free)");
}

void waitlist_end(struct keel_waitlist *l)
{
    if (debug_program())
        l->tail = &ended;
}

void waitlist_drop(struct keel_waitlist *l)
{
    spin_drop(spin_of(l));
}

void waitlist_link(struct keel_waitlist *l, struct waiter *w)
{
    struct waiter *last = l->tail;

    w->prev = last;
    w->next = NULL;
    if (last)
        last->next = w;
    else
        l->head = w;
    l->tail = w;
}

void waitlist_link_first(struct keel_waitlist *l, struct waiter *w)
{
    struct waiter *first = l->head;

    w->prev = NULL;
    w->next = first;
    if (first)
        first->prev = w;
    else
        l->tail = w;
    l->head = w;
}

void waitlist_unlink(struct keel_waitlist *l, struct waiter *w)
{
    if (w->prev)
        w->prev->next = w->next;
    else
        l->head = w->next;
    if (w->next)
        w->next->prev = w->prev;
    else
        l->tail = w->prev;
    w->next = w->prev = NULL;
}

int waitlist_sleep(struct keel_waitlist *l, keel_ns deadline, bool always,
                   const char *what)
{
    return waitlist_sleep_on(l, l, deadline, always, what);
}

int waitlist_sleep_on(struct keel_waitlist *l, const void *on, keel_ns deadline,
                      bool always, const char *what)
{
    struct waiter w;
    int rc = 0;

    waiter_arm(&w, what);
    w.on = on;
    waitlist_link(l, &w);
    waitlist_drop(l);
    if (always)
        waiter_sleep_always(&w);
    else
        rc = waiter_sleep(&w, deadline);
    if (rc < 0) {
        waitlist_hold(l);
        waitlist_unlink(l, &w);
        waitlist_drop(l);
    }
    return rc;
}

struct waiter *waitlist_choose_linked(struct keel_waitlist *l,
                                      struct waiter **ret_linked)
{
    for (struct waiter *w = l->head; w; w = w->next) {
        struct waiter *who = w->proxy ? w->older : w;

        if (!waiter_leave(who, WOKEN))
            continue;
        waitlist_unlink(l, w);
        if (w->proxy)
            atomic_store_explicit(&w->state, WOKEN, memory_order_relaxed);
        *ret_linked = w;
        return who;
    }
    return NULL;
}

struct waiter *waitlist_choose(struct keel_waitlist *l)
{
    struct waiter *linked;

    return waitlist_choose_linked(l, &linked);
}

bool waitlist_wake_one(struct keel_waitlist *l)
{
    struct waiter *w = waitlist_choose(l);

    waiter_post(w);
    return w != NULL;
}

void waitlist_wake_all(struct keel_waitlist *l)
{
    while (waitlist_wake_one(l))
        ;
}

/* ---- what a wait is bounded by ---- */

keel_ns *wait_scope(void)
{
    struct keel_loop *l = loop_here;

    return l && l->current ? &l->current->body->timeout : &thread_timeout;
}

keel_ns wait_until(keel_ns deadline)
{
    keel_ns scope = *wait_scope();

    return scope < deadline ? scope : deadline;
}

int wait_allowed(void)
{
    struct keel_loop *l = loop_here;

    if (l && l->current && !l->current->body->shields &&
        atomic_load_explicit(&l->current->cancelled, memory_order_relaxed))
        return -ECANCELED;
    if (!l && thread_stop_asked(false))
        return -ECANCELED;
    return 0;
}

const void *worker_self(void)
{
    struct keel_co *co = keel_current();

    return co ? (const void *)co : thread_mark_here();
}
