/* SPDX-License-Identifier: MIT */
/* Who goes on.
 *
 * A simulated thread is a fiber: a stack, and what keel keeps for a thread.
 * Between two turns the scheduler runs, on the stack of who called
 * keel_sim_run: it lets happen what is due, draws one of those who can go on,
 * and when there is none moves the clock to what comes next.
 *
 * Invariants between two turns:
 *   each fiber is READY, WAITS or ENDED; those READY are in `ready`
 *   the thread-locals of keel are the caller's own, as they were before
 *   events are a heap by time, then by age */
#include "turns.h"

#include <errno.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "io/io_inside.h"
#include "loop/census.h"
#include "loop/park.h"
#include "loop/report.h"
#include "pool/pool_inside.h"
#include "sim_inside.h"

#ifdef KEEL_ASAN
#define FIBER_BYTES ((size_t)4 << 20)
#else
#define FIBER_BYTES ((size_t)1 << 20)
#endif
enum {
    STACKS_KEPT = 64,
    NAME_BYTES = 16,
    POSTED_PASS = 300000, /* chances, in millionths */
    POINT_PASS = 60000,
    PRIORITY_CHANGE = 50000,
    TURN_NS_MOST = 2000,
    TOLD_MOST = 64,
};

enum fiber_state { READY, WAITS, ENDED };

/* What keel keeps for a thread. */
struct words {
    struct keel_loop *loop;
    keel_ns timeout;
    struct thread_mark *mark;
    struct keel_thread *thread;
    struct thread_stop *stop;
    struct presence *presence;
    struct worker *pool_worker;
    unsigned at_once;
};

struct local {
    struct local *next;
    const void *key;
    void (*destroy)(void *value);
    void *value;
};

struct fiber {
    struct fiber *older; /* of all */
    unsigned number;
    char name[NAME_BYTES];
    enum fiber_state state;
    struct stack *stack;
    void *sp;
    void *fake;      /* ASan's */
    const void *low; /* of where it stopped: a coroutine's stack, perhaps */
    size_t size;
    void *tsan;
    void *(*fn)(void *arg);
    void *arg;
    struct words words;
    struct thread_mark mark;
    struct presence presence;
    struct local *locals;
    const char *why;
    const struct waiter *waits; /* for the report; NULL: see `why` */
    keel_ns until;
    bool timed_out;
    bool detached;
    _Atomic uint32_t *word; /* that it dozes on */
    struct fiber *joiner;
    uint64_t priority;
};

struct event {
    keel_ns at;
    uint64_t age;
    void (*fn)(void *arg, uint64_t number);
    void *arg;
    uint64_t number;
};

static struct {
    struct fiber *all, *current;
    struct fiber **ready;
    size_t ready_count, ready_room;
    unsigned numbers, alive;
    bool by_priority;
    struct event *heap;
    size_t heap_count, heap_room;
    uint64_t heap_age;
    struct stack *stacks;
    unsigned stack_count;
    /* where the scheduler stopped */
    void *sp, *fake;
    const void *low;
    size_t size;
    void *tsan;
    struct words words;
    int (*program)(void *arg);
    void *arg;
    int value;
} t;

/* ---- whose turn it is ---- */

struct fiber *fiber_self(void)
{
    return t.current;
}

unsigned fiber_number(const struct fiber *f)
{
    if (!f)
        f = t.current;
    return f ? f->number : 0;
}

const char *fiber_name(void)
{
    return t.current ? t.current->name : "world";
}

/* The one place where the threads' words change hands. */
static void words_exchange(struct words *w)
{
    struct words was = {
        .loop = loop_here,
        .timeout = thread_timeout,
        .mark = thread_mark_lent,
        .thread = thread_self,
        .stop = thread_stop_here,
        .presence = presence_exchange(w->presence),
        .pool_worker = pool_worker,
        .at_once = io_at_once,
    };

    loop_here = w->loop;
    thread_timeout = w->timeout;
    thread_mark_lent = w->mark;
    thread_self = w->thread;
    thread_stop_here = w->stop;
    pool_worker = w->pool_worker;
    io_at_once = w->at_once;
    *w = was;
}

/* ---- from stack to stack ---- */

static void enter(struct fiber *f)
{
    t.current = f;
    words_exchange(&f->words);
    SAN_TSAN(t.tsan = __tsan_get_current_fiber());
    SAN_ASAN(__sanitizer_start_switch_fiber(&t.fake, f->low, f->size));
    SAN_TSAN(__tsan_switch_to_fiber(f->tsan, 0));
    switch_stacks(&t.sp, f->sp);
    SAN_ASAN(__sanitizer_finish_switch_fiber(t.fake, &f->low, &f->size));
    words_exchange(&f->words);
    t.current = NULL;
}

/* Back to the scheduler, until the next turn. */
static void leave(struct fiber *f)
{
    SAN_TSAN(f->tsan = __tsan_get_current_fiber());
    SAN_ASAN(__sanitizer_start_switch_fiber(&f->fake, t.low, t.size));
    SAN_TSAN(__tsan_switch_to_fiber(t.tsan, 0));
    switch_stacks(&f->sp, t.sp);
    SAN_ASAN(__sanitizer_finish_switch_fiber(f->fake, NULL, NULL));
}

static SAN_NO_TSAN _Noreturn void leave_last(void)
{
    static void *nowhere;

    SAN_ASAN(__sanitizer_start_switch_fiber(NULL, t.low, t.size));
    SAN_TSAN(__tsan_switch_to_fiber(t.tsan, 0));
    switch_stacks(&nowhere, t.sp);
    abort();
}

static void locals_end(struct fiber *f)
{
    while (f->locals) {
        struct local *l = f->locals;

        f->locals = l->next;
        if (l->destroy && l->value)
            l->destroy(l->value);
        free(l);
    }
}

static void run(struct fiber *f)
{
    f->fn(f->arg);
    locals_end(f);
    presence_leave(&f->presence);
    trace("ends");
    f->state = ENDED;
    t.alive--;
    if (f->joiner)
        fiber_wake(f->joiner);
}

static SAN_NO_TSAN void fiber_entry(void)
{
    SAN_ASAN(__sanitizer_finish_switch_fiber(NULL, &t.low, &t.size));
    run(t.current);
    leave_last();
}

/* ---- fibers ---- */

static int stack_take(size_t bytes, struct stack **ret)
{
    if (bytes <= FIBER_BYTES && t.stacks) {
        *ret = t.stacks;
        t.stacks = t.stacks->next;
        t.stack_count--;
        return 0;
    }
    return stack_get(NULL, bytes > FIBER_BYTES ? bytes : FIBER_BYTES, ret);
}

static void stack_give(struct stack *s)
{
    SAN_ASAN(
        ASAN_UNPOISON_MEMORY_REGION(s->low, (size_t)(stack_top(s) - s->low)));
    if (t.stack_count == STACKS_KEPT ||
        (size_t)(stack_top(s) - s->low) > 2 * FIBER_BYTES) {
        stack_drop(s);
        return;
    }
    s->next = t.stacks;
    t.stacks = s;
    t.stack_count++;
}

static void set_ready(struct fiber *f)
{
    if (t.ready_count == t.ready_room) {
        t.ready_room = t.ready_room ? 2 * t.ready_room : 64;
        t.ready = reallocarray(t.ready, t.ready_room, sizeof(*t.ready));
        keel_assert(t.ready);
    }
    f->state = READY;
    t.ready[t.ready_count++] = f;
}

static int fiber_new(const char *name, size_t stack_bytes,
                     void *(*fn)(void *arg), void *arg, struct fiber **ret)
{
    struct fiber *f = calloc(1, sizeof *f);
    int rc;

    if (!f)
        return -ENOMEM;
    rc = stack_take(stack_bytes, &f->stack);
    if (rc < 0) {
        free(f);
        return rc;
    }
    f->number = ++t.numbers;
    snprintf(f->name, sizeof f->name, "%s", name);
    f->fn = fn;
    f->arg = arg;
    f->words.timeout = KEEL_FOREVER;
    f->words.mark = &f->mark;
    f->words.presence = &f->presence;
    f->sp = switch_prepare(f->stack->low, stack_top(f->stack), fiber_entry);
    f->low = f->stack->low;
    f->size = (size_t)(stack_top(f->stack) - f->stack->low);
    f->tsan = f->stack->fiber;
    f->priority = draw(BY_TURNS, UINT64_C(1) << 32);
    f->older = t.all;
    t.all = f;
    t.alive++;
    trace("starts %u:%s", f->number, f->name);
    set_ready(f);
    *ret = f;
    return 0;
}

static void fiber_free(struct fiber *f)
{
    struct fiber **at = &t.all;

    while (*at != f)
        at = &(*at)->older;
    *at = f->older;
    stack_give(f->stack);
    free(f);
}

/* ---- waiting ---- */

static void stop(const char *why, keel_ns until)
{
    struct fiber *f = t.current;

    f->why = why;
    f->until = until;
    f->timed_out = false;
    leave(f);
}

int fiber_wait(const char *why, keel_ns until)
{
    struct fiber *f = t.current;

    f->state = WAITS;
    stop(why, until);
    return f->timed_out ? -ETIMEDOUT : 0;
}

void fiber_wake(struct fiber *f)
{
    if (f->state == WAITS)
        set_ready(f);
}

/* Its turn ends, and it is the least pressing. */
static void turns_yield(void)
{
    struct fiber *f = t.current;

    if (t.by_priority)
        f->priority = draw(BY_TURNS, 1000);
    set_ready(f);
    stop("yield", KEEL_FOREVER);
}

void fiber_pass(void)
{
    if (!t.current || t.ready_count == 0)
        return;
    set_ready(t.current);
    stop("pass", KEEL_FOREVER);
}

static void turns_posted(void)
{
    if (chance(BY_TURNS, POSTED_PASS))
        fiber_pass();
}

static void turns_point(void)
{
    if (!t.current || !chance(BY_TURNS, POINT_PASS))
        return;
    if (t.by_priority) /* else it would go on at once */
        t.current->priority = draw(BY_TURNS, 1000);
    fiber_pass();
}

static void turns_doze(_Atomic uint32_t *word, uint32_t value, keel_ns until,
                       const struct waiter *w)
{
    struct fiber *f = t.current;

    if (atomic_load(word) != value)
        return;
    f->word = word;
    f->waits = w;
    (void)fiber_wait(w->what, until);
    f->word = NULL;
    f->waits = NULL;
}

static void turns_rouse(_Atomic uint32_t *word)
{
    for (struct fiber *f = t.all; f; f = f->older)
        if (f->word == word && f->state == WAITS) {
            fiber_wake(f);
            break;
        }
    turns_posted();
}

/* ---- as threads ---- */

static int turns_start(const char *name, size_t stack_bytes,
                       void *(*fn)(void *arg), void *arg, pthread_t *ret)
{
    struct fiber *f;
    int rc = fiber_new(name, stack_bytes, fn, arg, &f);

    if (rc < 0)
        return -EAGAIN;
    *ret = (pthread_t)(uintptr_t)f;
    turns_posted();
    return 0;
}

static int turns_join(pthread_t thread)
{
    struct fiber *f = (struct fiber *)(uintptr_t)thread;

    f->joiner = t.current;
    while (f->state != ENDED)
        (void)fiber_wait("join of a thread", KEEL_FOREVER);
    fiber_free(f);
    return 0;
}

static void turns_detach(pthread_t thread)
{
    struct fiber *f = (struct fiber *)(uintptr_t)thread;

    f->detached = true;
    if (f->state == ENDED)
        fiber_free(f); /* else the scheduler does, when it ends */
}

static unsigned turns_budget(unsigned most)
{
    return t.by_priority ? 1 + (unsigned)draw(BY_TURNS, most)
                         : 1 + (unsigned)draw(BY_TURNS, 4);
}

static struct local **local_find(const void *key)
{
    struct local **at = &t.current->locals;

    while (*at && (*at)->key != key)
        at = &(*at)->next;
    return at;
}

static void *turns_local_get(const void *key)
{
    struct local *l = *local_find(key);

    return l ? l->value : NULL;
}

static int turns_local_set(const void *key, void (*destroy)(void *value),
                           void *value)
{
    struct local **at = local_find(key);

    if (!*at) {
        *at = calloc(1, sizeof(**at));
        if (!*at)
            return -ENOMEM;
        (*at)->key = key;
        (*at)->destroy = destroy;
    }
    (*at)->value = value;
    return 0;
}

static void turns_stack(void **ret_low, size_t *ret_size)
{
    const struct stack *s = t.current->stack;

    *ret_low = s->low;
    *ret_size = (size_t)(stack_top(s) - s->low);
}

const struct worker_class turns_class = {
    .poller = &poller_simulated,
    .start = turns_start,
    .join = turns_join,
    .detach = turns_detach,
    .yield = turns_yield,
    .posted = turns_posted,
    .point = turns_point,
    .doze = turns_doze,
    .rouse = turns_rouse,
    .budget = turns_budget,
    .local_get = turns_local_get,
    .local_set = turns_local_set,
    .stack = turns_stack,
};

/* ---- events ---- */

static bool sooner(const struct event *a, const struct event *b)
{
    return a->at < b->at || (a->at == b->at && a->age < b->age);
}

void event_at(keel_ns at, void (*fn)(void *arg, uint64_t number), void *arg,
              uint64_t number)
{
    struct event e = {at, t.heap_age++, fn, arg, number};
    size_t i = t.heap_count++;

    if (t.heap_count > t.heap_room) {
        t.heap_room = t.heap_room ? 2 * t.heap_room : 256;
        t.heap = reallocarray(t.heap, t.heap_room, sizeof(*t.heap));
        keel_assert(t.heap);
    }
    for (; i > 0 && sooner(&e, &t.heap[(i - 1) / 2]); i = (i - 1) / 2)
        t.heap[i] = t.heap[(i - 1) / 2];
    t.heap[i] = e;
}

static struct event event_take(void)
{
    struct event first = t.heap[0], last = t.heap[--t.heap_count];
    size_t i = 0, child;

    while ((child = 2 * i + 1) < t.heap_count) {
        if (child + 1 < t.heap_count &&
            sooner(&t.heap[child + 1], &t.heap[child]))
            child++;
        if (!sooner(&t.heap[child], &last))
            break;
        t.heap[i] = t.heap[child];
        i = child;
    }
    t.heap[i] = last;
    return first;
}

/* ---- the scheduler ---- */

/* Lets happen what is due; returns when something else will be. */
static keel_ns happen(void)
{
    keel_ns next = KEEL_FOREVER;

    while (t.heap_count && t.heap[0].at <= world.now) {
        struct event e = event_take();

        e.fn(e.arg, e.number);
    }
    if (t.heap_count)
        next = t.heap[0].at;
    for (struct fiber *f = t.all; f; f = f->older) {
        if (f->state != WAITS)
            continue;
        if (f->until <= world.now) {
            f->timed_out = true;
            set_ready(f);
        } else if (f->until < next) {
            next = f->until;
        }
    }
    return next;
}

static struct fiber *choose(void)
{
    size_t at = draw(BY_TURNS, t.ready_count);
    struct fiber *f;

    if (t.by_priority) {
        at = 0;
        for (size_t i = 1; i < t.ready_count; i++)
            if (t.ready[i]->priority > t.ready[at]->priority)
                at = i;
        if (chance(BY_TURNS, PRIORITY_CHANGE))
            t.ready[at]->priority = draw(BY_TURNS, UINT64_C(1) << 32);
    }
    f = t.ready[at];
    memmove(&t.ready[at], &t.ready[at + 1],
            (t.ready_count - at - 1) * sizeof(struct fiber *));
    t.ready_count--;
    return f;
}

static int turn(void)
{
    keel_ns next = happen();
    struct fiber *f;

    if (t.ready_count == 0) {
        if (next == KEEL_FOREVER)
            return -EDEADLK;
        world.now = next;
        return 0;
    }
    if (++world.result.steps > world.how.steps_most ||
        world.now - KEEL_SECOND > world.how.time_most)
        return -ETIME;
    f = choose();
    trace("-> %u:%s", f->number, f->name);
    enter(f);
    if (f->state == ENDED && f->detached)
        fiber_free(f);
    world.now += (keel_ns)draw(BY_TURNS, TURN_NS_MOST);
    return 0;
}

/* ---- who waits for what ---- */

static bool tell_bodies(const struct keel_loop *l, unsigned *told)
{
    for (const struct body *b = l->bodies; b; b = b->next) {
        if (++*told > TOLD_MOST)
            return false;
        if (b->waits)
            (void)fprintf(stderr, "    '%s' waits: %s\n", b->name,
                          b->waits->what);
        else
            (void)fprintf(stderr, "    '%s' could run\n", b->name);
    }
    return true;
}

static void tell(const char *what)
{
    unsigned told = 0;

    (void)fprintf(stderr,
                  "keel: simulation of seed %llu: %s, after %llu steps\n",
                  (unsigned long long)world.how.seed, what,
                  (unsigned long long)world.result.steps);
    for (const struct fiber *f = t.all; f; f = f->older) {
        if (f->state == ENDED || ++told > TOLD_MOST)
            continue;
        (void)fprintf(stderr, "  %u:%s %s%s\n", f->number, f->name,
                      f->state == WAITS ? "waits: " : "could run",
                      f->state == WAITS ? f->why : "");
        if (f->words.loop && !tell_bodies(f->words.loop, &told))
            break;
    }
}

static void *program_main(void *arg)
{
    (void)arg;
    presence_enter("program");
    t.value = t.program(t.arg);
    trace("returns %d", t.value);
    return NULL;
}

static void reset(void)
{
    free(t.ready);
    free(t.heap);
    t.ready = NULL;
    t.heap = NULL;
    t.ready_count = t.ready_room = t.heap_count = t.heap_room = 0;
    t.heap_age = 0;
    t.all = t.current = NULL;
    t.numbers = t.alive = 0;
}

int turns_run(int (*program)(void *arg), void *arg, int *ret_value)
{
    struct fiber *first;
    int rc;

    reset();
    t.by_priority = draw(BY_TURNS, 2);
    t.program = program;
    t.arg = arg;
    rc = fiber_new("program", 0, program_main, NULL, &first);
    if (rc < 0)
        return rc;
    first->detached = true;
    while (rc == 0 && t.alive > 0)
        rc = turn();
    if (rc == 0) {
        *ret_value = t.value;
        reset();
        return 0;
    }
    tell(rc == -EDEADLK ? "nobody can go on" : "it does not end");
    return rc;
}
