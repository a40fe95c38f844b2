/* SPDX-License-Identifier: MIT */
/* Inside keel: coroutines and the loop that runs them, for the files that make
 * up the scheduler. */
#ifndef KEEL_LOOP_H
#define KEEL_LOOP_H

#include <pthread.h>
#include <signal.h>
#include <sys/single_threaded.h>

#include <keel/debug.h>

#include "sched.h"
#include "stack.h"

#if defined(__x86_64__)
#define cpu_relax() __builtin_ia32_pause()
#elif defined(__aarch64__)
#define cpu_relax() __asm__ volatile("yield")
#else
#define cpu_relax() ((void)0)
#endif

/* Begins to fetch a line that will be written: after a fetch to read the write
 * would wait for the line a second time. */
static inline void cpu_fetch_to_write(const void *line)
{
#if defined(__x86_64__) /* where the builtin is a fetch to read */
    __asm__ volatile("prefetchw %0" : : "m"(*(const char *)line));
#else
    __builtin_prefetch(line, 1);
#endif
}

/* The states of a waiter, and the words of a thread's `posted`. */
enum { ARMED, WOKEN, EXPIRED, CANCELLED };
enum { UNPOSTED, POSTED, SLEEPING };

/* A coroutine is in two pieces.  The handle is what others may touch: it
 * outlives the end of the coroutine until it is joined, and its memory is never
 * anything but a handle, or zero.  The body lies on the stack's top page,
 * which a parked coroutine costs anyway, and only its loop touches it.
 *
 * A handle that somebody owns, who will join it, comes from a pool.  Where
 * nobody does, it ends with the coroutine and is its body's `own`; the stack
 * stays mapped for ever, too.  A stack that does not has a pooled one always.
 *
 * `word` is a spinlock and the end in one: OPEN and HELD alternate until the
 * finisher, holding it, leaves it ENDED, which is the last it does to it.
 * FREE: joined, or nobody's; what touches it by then has kept it too long. */
enum { HANDLE_FREE, HANDLE_ENDED, HANDLE_OPEN, HANDLE_HELD };
/* A cancel from another thread travels as a message; whoever frees the handle
 * while it is under way leaves that to the loop. */
enum { MESSAGE_NONE, MESSAGE_SENT, MESSAGE_ORPHAN };

struct keel_co {
    struct keel_co *next; /* run queue, inbox or pool */
    void *sp;             /* where it goes on */
    struct body *body;
    struct keel_loop *loop;
    struct keel_co *cancel_next; /* the loop's list of cancels */
    struct waiter *joiner;       /* holding `word` */
    _Atomic uint32_t serial;     /* of the coroutines that had the handle */
    _Atomic uint32_t word;
    int result;
    _Atomic uint8_t cancelled;
    _Atomic uint8_t message;
    bool joining; /* holding `word` */
    bool owned : 1;
    bool own : 1; /* its body's */
};

/* It has ended, or nobody has it: see `word`. */
static inline bool handle_is_over(const struct keel_co *co)
{
    return atomic_load_explicit(&co->word, memory_order_acquire) <=
           HANDLE_ENDED;
}

/* What a body's `kin` says of paused coroutines: it was one, spawned by
 * `starter`; it spawned some, who may look for its handle when it has ended, and
 * know by the serial that it is another's. */
enum { KIN_STARTER = 1, KIN_SPAWNER = 2 };

struct body {
    struct keel_co own;
    struct keel_co *co;       /* `own` or a pooled one */
    struct body *next, *prev; /* all of the loop */
    struct stack *stack;
    int (*fn)(void *arg);
    void *arg;
    struct waiter *waits; /* NULL: does not wait */
    struct keel_group *group;
    struct body *group_next, *group_prev; /* under the group's hold */
    keel_ns timeout;                      /* of the scopes around it */
    keel_ns since;                        /* it waits */
    keel_ns cooled;  /* `since`, when its stack's cold pages were given back */
    void *fake;      /* ASan's */
    const void *low; /* ASan's: the stack, also of the loop's own context */
    size_t size;
    unsigned shields;
    bool listed;  /* among the loop's bodies */
    bool foreign; /* spawned from another thread */
    bool paused;  /* not begun, and in no queue */
    uint8_t kin;
    uint32_t starter_serial; /* with KIN_STARTER */
    struct keel_co *starter;
    char name[24];
};

/* What a loop counts: written by its own thread alone, read by any. */
struct loop_counts {
    _Atomic uint64_t switches, turns, sleeps, posts, spawned;
    _Atomic uint64_t submitted, completed; /* the difference is in flight */
    _Atomic uint64_t asleep_ns, blocked_ns, longest_ns;
};

static inline void count_add(_Atomic uint64_t *count, uint64_t n)
{
    uint64_t now = atomic_load_explicit(count, memory_order_relaxed);

    atomic_store_explicit(count, now + n, memory_order_relaxed);
}

static inline uint64_t count_of(const _Atomic uint64_t *count)
{
    return atomic_load_explicit(count, memory_order_relaxed);
}

/* A loop's memory is never freed but used again for the next loop: whoever
 * holds a handle of a loop that ended may still look at its inbox, and finds
 * it closed, or is harmless there. */
struct keel_loop {
    /* the loop's own */
    struct keel_co *run_head, *run_tail;
    struct keel_co *current;
    _Atomic unsigned budget; /* switches until the loop looks round */
    unsigned steps;          /* operations until the current one yields */
    struct keel_co home;
    struct body home_body;
    struct stack home_stack; /* for its fiber */
    struct poller *poller;
    struct stack_cache stacks;
    struct stack *dead; /* singles to unmap */
    struct keel_co *handles;
    unsigned handle_count;
    struct body *bodies;
    struct body *cooling; /* the next to cool: see loop_cool */
    keel_ns cool_at;      /* KEEL_FOREVER: nobody has run since the last time */
    uint64_t cool_turns;  /* counts.turns when this round began */
    bool cool_again;      /* somebody has not waited for long enough */
    struct waiter *timers;
    uint64_t timer_turn;
    keel_ns now, polled;
    keel_ns turned;        /* the turn under way began; 0: none is */
    int credit;            /* spins that may fail before spinning stops */
    _Atomic bool stopping; /* written by the loop alone; read by any */
    bool trim; /* there are free stacks whose pages are to go back */
    keel_ns trim_at;
    int (*main)(void *arg);
    void *main_arg;
    int main_result;
    void *alt_stack;
    stack_t alt_before;
    pthread_t thread;
    _Atomic pid_t thread_id;
    struct keel_counters counted; /* before this loop */
    char name[16];                /* what the kernel keeps of a thread's name */

    /* under the list's lock */
    struct keel_loop *pool_next, *all_next;
    bool open, idle;
    keel_ns idle_until;

    /* the watchdog's: as of its last look */
    struct {
        uint64_t turns;
        unsigned budget;
        unsigned looks; /* in a row at the same */
        bool told;
        keel_ns since;
    } watched;

    /* everybody's */
    _Alignas(64) _Atomic(struct keel_co *) inbox;
    _Atomic(struct keel_co *) cancels;
    _Atomic uint32_t stop; /* asked to */
    _Atomic size_t incoming;
    _Alignas(64) _Atomic uint32_t sleeping;
    _Atomic uint32_t wakers;
    _Atomic uint32_t request; /* for a dump: see dump.c */
    _Atomic(struct dump_order *) order;
    /* Odd while it sleeps for want of anything that could come by itself: no
     * timer, no descriptor; see deadlock.c. */
    _Atomic uint64_t rests;
    _Alignas(64) _Atomic size_t alive;
    _Atomic size_t parked;
    struct loop_counts counts;
};

extern _Thread_local struct keel_loop *loop_here
    __attribute__((tls_model("initial-exec")));
extern _Thread_local keel_ns thread_timeout
    __attribute__((tls_model("initial-exec")));

/* Closed for ever: the loop has ended. */
#define INBOX_CLOSED ((struct keel_co *)1)

/* Whoever parks is looked at first: the canary of its stack, what the detector
 * of libkeel-patch says (patched.h). */
void park_look(struct keel_co *self);
static inline bool park_is_watched(void)
{
    return __builtin_expect(
        atomic_load_explicit(&park_watched, memory_order_relaxed), 0);
}

/* ---- run queue ---- */
static inline void run_push(struct keel_loop *l, struct keel_co *co)
{
    co->next = NULL;
    if (l->run_head)
        l->run_tail->next = co;
    else
        l->run_head = co;
    l->run_tail = co;
}

static inline struct keel_co *run_pop(struct keel_loop *l)
{
    struct keel_co *co = l->run_head;

    l->run_head = co->next;
    return co;
}

/* Makes a parked coroutine run, from any thread. */
void co_post(struct keel_co *co);
/* Puts into another loop's inbox.  False: the loop has ended. */
bool loop_send(struct keel_loop *l, struct keel_co *co);
/* Ends its sleep. */
void loop_poke(struct keel_loop *l);
/* On the coroutine's loop: ends its wait if that may be cancelled. */
void co_interrupt(struct keel_co *co);
/* As keel_cancel by another thread; safe in a signal's handler. */
void co_cancel_from_elsewhere(struct keel_co *co);
void co_cancel_taken(struct keel_co *co);
void co_entry(void);
/* Enters one that is to begin by a switch, spawned by the current one. */
void switch_adopt(struct keel_loop *l, struct keel_co *co);
/* A coroutine with kin ends. */
void switch_ended(struct keel_loop *l, struct body *b);
/* Gives back, of some coroutines that have waited for a while at `now`, the
 * pages that lie below where they wait. */
void loop_cool(struct keel_loop *l, keel_ns now);
/* Cancels what is there; nothing new is taken. */
void loop_wind_up(struct keel_loop *l);

/* Only the loop's thread changes `alive`: no locked instruction. */
static inline void alive_add(struct keel_loop *l, size_t n)
{
    size_t alive = atomic_load_explicit(&l->alive, memory_order_relaxed);

    atomic_store_explicit(&l->alive, alive + n, memory_order_relaxed);
}

/* Enters a new coroutine in the list of its loop, which this is. */
static inline void loop_adopt(struct keel_loop *l, struct keel_co *co)
{
    struct body *b = co->body;

    b->listed = true;
    b->prev = NULL;
    b->next = l->bodies;
    if (b->next)
        b->next->prev = b;
    l->bodies = b;
    if (b->foreign)
        atomic_fetch_sub_explicit(&l->incoming, 1, memory_order_relaxed);
    alive_add(l, 1);
    count_add(&l->counts.spawned, 1);
    if (__builtin_expect(
            atomic_load_explicit(&l->stopping, memory_order_relaxed), 0))
        atomic_store_explicit(&co->cancelled, 1, memory_order_relaxed);
}

static inline void parked_add(struct keel_loop *l, size_t n)
{
    size_t parked = atomic_load_explicit(&l->parked, memory_order_relaxed);

    atomic_store_explicit(&l->parked, parked + n, memory_order_relaxed);
}

/* One switch of the turn's; false: it has none left. */
static inline bool budget_use(struct keel_loop *l)
{
    unsigned left = atomic_load_explicit(&l->budget, memory_order_relaxed);

    if (left == 0)
        return false;
    atomic_store_explicit(&l->budget, left - 1, memory_order_relaxed);
    return true;
}

/* Where another thread could come in between: for the scenarios of keel/sim,
 * which compile keel once more, with these. */
#ifdef KEEL_SIM_POINTS
void worker_point(void);
#else
static inline void worker_point(void)
{
}
#endif

/* ---- waiters ---- */
/* Leaves ARMED, once.  With one thread in the process (glibc knows) nobody
 * can come in between. */
static inline bool waiter_leave(struct waiter *w, uint32_t to)
{
    uint32_t armed = ARMED;

    worker_point();
    if (__libc_single_threaded) {
        if (atomic_load_explicit(&w->state, memory_order_relaxed) != ARMED)
            return false;
        atomic_store_explicit(&w->state, to, memory_order_relaxed);
        return true;
    }
    return atomic_compare_exchange_strong(&w->state, &armed, to);
}

/* Who took a lock: a coroutine's handle, of that age, or the mark of a thread,
 * which is odd. */
struct owner {
    const void *who;
    uint32_t age;
};
struct thread_mark {
    _Alignas(2) char even;
    char odd;
};
extern _Thread_local struct thread_mark thread_mark
    __attribute__((tls_model("initial-exec")));
/* In place of its own, in a simulation: see worker.h. */
extern _Thread_local struct thread_mark *thread_mark_lent
    __attribute__((tls_model("initial-exec")));

static inline const void *thread_mark_here(void)
{
    return thread_mark_lent ? &thread_mark_lent->odd : &thread_mark.odd;
}

static inline struct owner owner_here(void)
{
    struct keel_loop *l = loop_here;

    if (l && l->current)
        return (struct owner){
            l->current,
            atomic_load_explicit(&l->current->serial, memory_order_relaxed)};
    return (struct owner){thread_mark_here(), 0};
}

static inline bool owner_is_thread(struct owner o)
{
    return (uintptr_t)o.who & 1;
}

/* The deadline of the keel_timeout scopes around the caller. */
keel_ns *wait_scope(void);

void timer_add(struct keel_loop *l, struct waiter *w, keel_ns deadline);
void timer_drop(struct keel_loop *l, struct waiter *w);
/* Expires what is due. */
void timers_run(struct keel_loop *l, keel_ns now);

/* Also while time is virtual. */
keel_ns real_clock(void);
/* A thread's wait by the real clock, also while time is virtual. */
int waiter_sleep_real(struct waiter *w, keel_ns span);

/* ---- cancelling threads ---- */
/* Of a thread that keel started, and of a process's first.  `waits` is what it
 * sleeps on and may be cancelled, or `bell`, less one, an eventfd that it polls,
 * or `cancelled` a futex that it sleeps on; `first` is the first coroutine of
 * the keel_run in it.  Changed under `hold`, which a cancel by another thread
 * takes.  A process is cancelled by a signal's handler in that very thread,
 * which cannot take it: therefore each field is one atomic word, and who is
 * going to wait says on what before he looks whether he may. */
struct thread_stop {
    struct keel_waitlist hold;
    struct waiter *_Atomic waits;
    struct keel_co *_Atomic first;
    _Atomic int bell;
    _Atomic unsigned shields;
    _Atomic uint32_t cancelled;
};
extern _Thread_local struct thread_stop *thread_stop_here
    __attribute__((tls_model("initial-exec")));
/* In the first thread of a process that keel started. */
extern _Thread_local const char *process_name
    __attribute__((tls_model("initial-exec")));
/* -ECANCELED: it was asked before. */
int thread_stop_begin(struct thread_stop *s, struct waiter *w);
void thread_stop_end(struct thread_stop *s);
/* The same for a poll; 0 for the bell ends it. */
void thread_stop_bell(struct thread_stop *s, int bell_plus_one);
bool thread_stop_asked(bool shielded_too);
/* Cancels the calling thread; safe in a signal's handler. */
void thread_stop_interrupt(struct thread_stop *s);
/* The first coroutine begins, or ends (NULL). */
void thread_stop_first(struct keel_co *co);
void thread_stop_shield(int by);

/* ---- spins ---- */
void spin_wait(_Atomic uint32_t *word, uint32_t while_it_is);

static inline void spin_hold(_Atomic uint32_t *word)
{
    worker_point();
    if (__libc_single_threaded) {
        atomic_store_explicit(word, 1, memory_order_relaxed);
        return;
    }
    while (atomic_exchange_explicit(word, 1, memory_order_acquire))
        spin_wait(word, 1);
}

static inline void spin_drop(_Atomic uint32_t *word)
{
    atomic_store_explicit(word, 0, memory_order_release);
    worker_point();
}

/* True while spinning may help: there are other threads, and not more loops
 * than processors for them. */
bool loop_may_spin(void);
/* Processors the process could use when it began. */
unsigned loop_cpus(void);

/* ---- handles ----
 * A loop keeps some of its own; the others are the process's. */
#define HANDLES_MOST 1024u
struct keel_co *handle_fetch(void);
void handle_return(struct keel_co *co);

static inline struct keel_co *handle_get(struct keel_loop *l)
{
    struct keel_co *co = l ? l->handles : NULL;

    if (!co)
        return handle_fetch();
    l->handles = co->next;
    l->handle_count--;
    return co;
}

static inline void handle_put(struct keel_loop *l, struct keel_co *co)
{
    if (!l || l->handle_count >= HANDLES_MOST) {
        handle_return(co);
        return;
    }
    co->next = l->handles;
    l->handles = co;
    l->handle_count++;
}

/* ---- groups ---- */
int group_enter(struct keel_group *g); /* waits while full */
/* The spawn failed. */
void group_back_out(struct keel_group *g);
void group_link(struct keel_group *g, struct body *b);
void group_unlink(struct keel_group *g, struct body *b);
/* The last the member does to the group, which may be gone after it. */
void group_ended(struct keel_group *g, struct body *b, int result);

/* ---- all loops ---- */
/* The list of every loop there ever was: it only grows, at its head. */
struct keel_loop *loops_first(void);
bool loop_is_open(struct keel_loop *l);
/* Something is on its way to it. */
bool loop_has_news(struct keel_loop *l);
extern _Atomic unsigned loops_alive;
/* Blocking jobs under way: virtual time stands still meanwhile. */
extern _Atomic unsigned blocking_under_way;
/* Child processes whose end has not been told to all who wait for it: until
 * then somebody outside may wake whoever sleeps here. */
extern _Atomic unsigned processes_under_way;

/* ---- overflow report ---- */
int overflow_watch(struct keel_loop *l);
/* The handler alone. */
void faults_watch(void);
void overflow_unwatch(struct keel_loop *l);

/* ---- counters ---- */
void counters_begin(struct keel_loop *l);

/* ---- deadlocks ---- */
/* How long who sleeps without a deadline waits with the next of its looks;
 * KEEL_FOREVER: those were all. */
keel_ns deadlock_patience(unsigned looks);
/* Reports one if that is what keeps the caller, who sleeps, asleep. */
void deadlock_look(void);

/* ---- dump ---- */
void dump_answer(struct keel_loop *l);

#endif
