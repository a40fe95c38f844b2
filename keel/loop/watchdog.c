/* SPDX-License-Identifier: MIT */
/* A loop that is awake and does not switch is looked into: a signal makes its
 * thread note where it is.  One look at a time:
 *
 *   NONE --asker--> ASKED --handler--> ANSWERS --handler--> DONE
 *                     |
 *                     +--asker, who waited long enough--> NONE */
#include "watchdog.h"

#include <errno.h>
#include <semaphore.h>
#include <string.h>
#include <sys/syscall.h>
#include <time.h>
#include <ucontext.h>
#include <unistd.h>

#if defined(__x86_64__) && defined(__GLIBC__)
#include <execinfo.h>
#define BY_TABLES 1
#endif

#define PATIENCE KEEL_SECOND

enum { NONE, ASKED, ANSWERS, DONE };

static pthread_mutex_t looking = PTHREAD_MUTEX_INITIALIZER;
static struct sigaction urgent_before;
static sem_t answered;
static _Atomic uint32_t state;
static _Atomic(struct keel_loop *) asked;
static struct stack_look answer;

/* ---- on the loop's thread ---- */

static void context_of(const ucontext_t *c, void **ret_pc, void **ret_frame)
{
#if defined(__x86_64__)
    *ret_pc = (void *)c->uc_mcontext.gregs[REG_RIP];
    *ret_frame = (void *)c->uc_mcontext.gregs[REG_RBP];
#elif defined(__aarch64__)
    *ret_pc = (void *)c->uc_mcontext.pc;
    *ret_frame = (void *)c->uc_mcontext.regs[29];
#else
    (void)c;
    *ret_pc = *ret_frame = NULL;
#endif
}

/* A function that was interrupted may use the frame pointer for other things,
 * so where there are the compiler's tables they are asked first.  They begin
 * with this handler. */
static bool frames_by_tables(struct frames *f, void *pc)
{
#ifdef BY_TABLES
    void *all[FRAMES_MOST + 8];
    int n = backtrace(all, FRAMES_MOST + 8), first = 0;

    while (first < n && all[first] != pc)
        first++;
    if (first == n)
        return false;
    for (int i = first; i < n && f->count < FRAMES_MOST; i++)
        if (all[i])
            f->pc[f->count++] = all[i];
    return true;
#else
    (void)f;
    (void)pc;
    return false;
#endif
}

static void fill(struct stack_look *k, const struct keel_loop *l,
                 const ucontext_t *c)
{
    const struct body *b = l->current ? l->current->body : NULL;
    void *pc, *frame;

    k->frames.count = 0;
    k->name[0] = '\0';
    k->in_coroutine = b != NULL;
    k->turns = count_of(&l->counts.turns);
    k->budget = atomic_load_explicit(&l->budget, memory_order_relaxed);
    if (b)
        strcpy(k->name, b->name);
    context_of(c, &pc, &frame);
    if (!b || !pc || frames_by_tables(&k->frames, pc))
        return;
    k->frames.pc[k->frames.count++] = pc;
    frames_walk(&k->frames, frame, (uintptr_t)b->stack->low, (uintptr_t)b);
}

static void on_urgent(int signal, siginfo_t *info, void *context)
{
    uint32_t expected = ASKED;
    int saved = errno;

    if (loop_here && loop_here == atomic_load(&asked) &&
        atomic_compare_exchange_strong(&state, &expected, ANSWERS)) {
        fill(&answer, loop_here, context);
        atomic_store(&state, DONE);
        sem_post(&answered);
    } else if (urgent_before.sa_flags & SA_SIGINFO) {
        urgent_before.sa_sigaction(signal, info, context);
    } else if (urgent_before.sa_handler != SIG_DFL &&
               urgent_before.sa_handler != SIG_IGN) {
        urgent_before.sa_handler(signal);
    }
    errno = saved;
}

/* ---- asking ---- */

static void install(void)
{
    struct sigaction sa = {.sa_sigaction = on_urgent,
                           .sa_flags = SA_SIGINFO | SA_RESTART | SA_ONSTACK};

#ifdef BY_TABLES
    void *here[4];

    (void)backtrace(here, 4); /* loads what it needs, now and not there */
#endif
    sem_init(&answered, 0, 0);
    sigemptyset(&sa.sa_mask);
    sigaction(SIGURG, &sa, &urgent_before);
}

static bool wait_answer(void)
{
    struct timespec until;
    uint32_t expected = ASKED;

    clock_gettime(CLOCK_MONOTONIC, &until);
    until.tv_sec += PATIENCE / KEEL_SECOND;
    while (sem_clockwait(&answered, CLOCK_MONOTONIC, &until) < 0)
        if (errno == ETIMEDOUT &&
            atomic_compare_exchange_strong(&state, &expected, NONE))
            return false;
    while (atomic_load(&state) != DONE)
        ; /* said before the post */
    return true;
}

bool stack_look(struct keel_loop *l, struct stack_look *ret)
{
    static pthread_once_t once = PTHREAD_ONCE_INIT;
    bool seen = false;

    pthread_once(&once, install);
    pthread_mutex_lock(&looking);
    atomic_store(&asked, l);
    atomic_store(&state, ASKED);
    if (syscall(SYS_tgkill, getpid(), atomic_load(&l->thread_id), SIGURG) == 0)
        seen = wait_answer();
    if (seen)
        *ret = answer;
    atomic_store(&state, NONE);
    pthread_mutex_unlock(&looking);
    return seen;
}

/* ---- the watchdog ---- */

enum { LOOKS = 4 /* in the limit */ };

/* Held by who begins or ends it. */
static pthread_mutex_t changing = PTHREAD_MUTEX_INITIALIZER;
static pthread_mutex_t lock = PTHREAD_MUTEX_INITIALIZER;
static pthread_cond_t changed;
static pthread_once_t made = PTHREAD_ONCE_INIT;
/* Under `lock`. */
static keel_ns limit; /* 0: it is to end */
/* Under `changing`. */
static bool runs;
static pthread_t thread;

static void make(void)
{
    pthread_condattr_t attr;

    pthread_condattr_init(&attr);
    pthread_condattr_setclock(&attr, CLOCK_MONOTONIC);
    pthread_cond_init(&changed, &attr);
    pthread_condattr_destroy(&attr);
}

static void tell(struct keel_loop *l, keel_ns span)
{
    struct stack_look k;
    struct page p = {0};

    if (!stack_look(l, &k) || !k.in_coroutine)
        return;
    /* Until its thread took the signal it may have switched. */
    if (k.turns != l->watched.turns || k.budget != l->watched.budget)
        return;
    page_print(&p, "keel: coroutine '%s' [%s] has run", k.name, l->name);
    page_seconds(&p, " for ", span);
    page_print(&p, " without waiting; the others of its loop stand still\n");
    page_frames(&p, &k.frames);
    report(KEEL_REPORT_BLOCKED, &p);
    page_fini(&p);
}

/* The same turn and the same switch within it as last time, and awake: the same
 * coroutine still runs.  Time alone does not say so: when the process was
 * stopped, or the machine stood still, the watchdog may be the first to run
 * again.  So as many looks must have seen it as fit into the limit. */
static void look_at(struct keel_loop *l, keel_ns now, keel_ns most)
{
    uint64_t turns = count_of(&l->counts.turns);
    unsigned budget = atomic_load_explicit(&l->budget, memory_order_relaxed);

    if (atomic_load_explicit(&l->sleeping, memory_order_relaxed) ||
        turns != l->watched.turns || budget != l->watched.budget) {
        l->watched.turns = turns;
        l->watched.budget = budget;
        l->watched.since = now;
        l->watched.looks = 0;
        l->watched.told = false;
        return;
    }
    l->watched.looks++;
    if (l->watched.told || l->watched.looks < LOOKS ||
        now - l->watched.since < most)
        return;
    l->watched.told = true;
    tell(l, now - l->watched.since);
}

static void *watch(void *arg)
{
    keel_ns most, until;
    struct timespec at;

    presence_serve("keel-watchdog");
    pthread_setname_np(pthread_self(), "keel-watchdog");
    pthread_mutex_lock(&lock);
    while ((most = limit) > 0) {
        pthread_mutex_unlock(&lock);
        for (struct keel_loop *l = loops_first(); l; l = l->all_next)
            if (loop_is_open(l))
                look_at(l, real_clock(), most);
        until = real_clock() + most / LOOKS;
        at = (struct timespec){until / KEEL_SECOND, until % KEEL_SECOND};
        pthread_mutex_lock(&lock);
        if (limit == most)
            pthread_cond_timedwait(&changed, &lock, &at);
    }
    pthread_mutex_unlock(&lock);
    return arg;
}

static int begin(void)
{
    sigset_t all, before;
    int rc;

    sigfillset(&all);
    pthread_sigmask(SIG_SETMASK, &all, &before);
    rc = -pthread_create(&thread, NULL, watch, NULL);
    pthread_sigmask(SIG_SETMASK, &before, NULL);
    return rc;
}

int keel_watchdog(keel_ns most)
{
    int rc = 0;

    if (most < 0 || (most > 0 && most < KEEL_MS))
        return -EINVAL;
    pthread_once(&made, make);
    pthread_mutex_lock(&changing);
    pthread_mutex_lock(&lock);
    limit = most;
    pthread_cond_signal(&changed);
    pthread_mutex_unlock(&lock);
    if (most > 0 && !runs) {
        rc = begin();
        runs = rc == 0;
    } else if (most == 0 && runs) {
        pthread_join(thread, NULL);
        runs = false;
    }
    pthread_mutex_unlock(&changing);
    return rc;
}
