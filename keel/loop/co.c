/* SPDX-License-Identifier: MIT */
#include <keel/co.h>

#include <errno.h>
#include <sched.h>
#include <string.h>

#include <keel/thread.h>

#include "park.h"
#include "worker.h"

/* ---- the handle's word ---- */

/* False: the coroutine has ended, and nobody else touches the handle now. */
static inline bool handle_hold(struct keel_co *co)
{
    uint32_t open = HANDLE_OPEN;

    if (__libc_single_threaded) {
        if (atomic_load_explicit(&co->word, memory_order_relaxed) <=
            HANDLE_ENDED)
            return false;
        atomic_store_explicit(&co->word, HANDLE_HELD, memory_order_relaxed);
        return true;
    }
    while (!atomic_compare_exchange_weak_explicit(&co->word, &open, HANDLE_HELD,
                                                  memory_order_acquire,
                                                  memory_order_acquire)) {
        if (open <= HANDLE_ENDED)
            return false;
        spin_wait(&co->word, HANDLE_HELD);
        open = HANDLE_OPEN;
    }
    return true;
}

static void handle_drop(struct keel_co *co, uint32_t word)
{
    atomic_store_explicit(&co->word, word, memory_order_release);
}

/* The handle's last user lets go of it.  False: a cancel under way still needs
 * it, and who takes that gives it back. */
static inline bool handle_release(struct keel_co *co)
{
    uint8_t sent = MESSAGE_SENT;

    atomic_store_explicit(&co->word, HANDLE_FREE, memory_order_relaxed);
    return atomic_load_explicit(&co->message, memory_order_acquire) !=
               MESSAGE_SENT ||
           !atomic_compare_exchange_strong(&co->message, &sent, MESSAGE_ORPHAN);
}

/* The handle outlived the join that freed it; until a new coroutine has it that
 * can be told. */
static inline bool is_free(struct keel_co *co)
{
    return atomic_load_explicit(&co->word, memory_order_relaxed) == HANDLE_FREE;
}

/* ---- the end ---- */

/* Nobody else wakes a joiner.  So when it is of this loop, which is also who
 * would cancel or expire it, no other thread moves its state. */
static inline void joiner_wake(struct keel_loop *l, struct waiter *w)
{
    if (!w->co || w->co->loop != l) {
        waiter_wake(w);
        return;
    }
    if (atomic_load_explicit(&w->state, memory_order_relaxed) != ARMED)
        return;
    atomic_store_explicit(&w->state, WOKEN, memory_order_relaxed);
    run_push(l, w->co);
}

/* False: the handle is the body's own, and a cancel under way still needs it. */
static inline bool finish(struct keel_loop *l, struct keel_co *co, int result)
{
    bool owned = co->owned, own = co->own, held;

    co->body = NULL;
    co->result = result;
    held = handle_hold(co);
    keel_assert(held); /* else it ended twice */
    if (co->joiner)
        joiner_wake(l, co->joiner);
    co->joiner = NULL;
    /* The last touch: the joiner may free the handle from here on. */
    handle_drop(co, HANDLE_ENDED);
    alive_add(l, (size_t)-1);
    if (owned)
        return true;
    if (!handle_release(co))
        return !own;
    if (!own)
        handle_put(l, co);
    return true;
}

static void body_unlist(struct keel_loop *l, struct body *b)
{
    if (b->prev)
        b->prev->next = b->next;
    else
        l->bodies = b->next;
    if (b->next)
        b->next->prev = b->prev;
    if (__builtin_expect(l->cooling == b, 0))
        l->cooling = b->next;
}

static void stack_leave(struct keel_loop *l, struct stack *s)
{
    /* What lies in frames that will not return must not look poisoned to the
     * stack's next user. */
    SAN_ASAN(
        ASAN_UNPOISON_MEMORY_REGION(s->low, (size_t)(stack_top(s) - s->low)));
    if (!s->slab) {
        s->next = l->dead;
        l->dead = s;
    } else {
        stack_keep(&l->stacks, s);
    }
}

/* Nothing is kept of who leaves.  Its handle may be another coroutine's by
 * now, so where it stopped is noted nowhere.  Not on this stack either: the
 * frame of a variable whose address is taken would stay poisoned for the
 * stack's next user. */
ALWAYS_INLINE SAN_NO_TSAN _Noreturn void leave(struct keel_loop *l)
{
    static _Thread_local void *nowhere;
    struct keel_co *to = next_to_run(l);

    SAN_ASAN(
        __sanitizer_start_switch_fiber(NULL, to->body->low, to->body->size));
    SAN_TSAN(__tsan_switch_to_fiber(to->body->stack->fiber, 0));
    switch_stacks(&nowhere, to->sp);
    __builtin_unreachable();
}

/* Inline, as all that never returns: a call without its return would make the
 * processor mispredict every return of whoever runs next. */
ALWAYS_INLINE SAN_NO_TSAN _Noreturn void end(struct keel_co *co, int result)
{
    struct keel_loop *l = co->loop;
    struct body *b = co->body;
    struct stack *s = b->stack;

    if (__builtin_expect(stack_canary, 0))
        keel_assert(stack_intact(s));
    body_unlist(l, b);
    if (b->group)
        group_ended(b->group, b, result);
    if (__builtin_expect(b->kin, 0))
        switch_ended(l, b);
    /* From here on only the thread's own next steps may use the stack. */
    if (__builtin_expect(finish(l, co, result), 1))
        stack_leave(l, s);
    leave(l);
}

SAN_NO_TSAN void co_entry(void)
{
    struct keel_co *co = loop_here->current;

    SAN_ASAN(__sanitizer_finish_switch_fiber(NULL, NULL, NULL));
    end(co, co->body->fn(co->body->arg));
}

/* ---- spawning ---- */

static inline void name_copy(struct body *b, const char *from)
{
    static const char usual[sizeof b->name] = "co";
    size_t n = 0;

    if (!from) {
        memcpy(b->name, usual, sizeof usual);
        return;
    }
    for (; n < sizeof b->name - 1 && from[n]; n++)
        b->name[n] = from[n];
    b->name[n] = '\0';
}

static inline struct body *body_of(struct stack *s)
{
    return (struct body *)(((uintptr_t)s - sizeof(struct body)) &
                           ~(uintptr_t)63);
}

/* Field by field: clearing it all first would cost as much as the rest of the
 * spawn.  What is not set here is set before it is read. */
static inline void body_init(struct body *b, struct keel_co *co,
                             struct stack *s, const struct keel_spawn *how)
{
    b->co = co;
    b->stack = s;
    b->waits = NULL;
    b->group = how->group;
    b->timeout = KEEL_FOREVER;
    b->since = b->cooled = 0;
    b->fake = NULL;
    b->low = s->low;
    b->size = (size_t)((char *)b - s->low);
    b->shields = 0;
    b->listed = b->foreign = b->paused = false;
    b->kin = 0;
    name_copy(b, how->name);
    co->body = b;
    co->sp = switch_prepare(s->low, b, co_entry);
}

static inline void co_init(struct keel_co *co, struct keel_loop *l, bool owned,
                           bool own, uint32_t era)
{
    uint32_t serial = atomic_load_explicit(&co->serial, memory_order_relaxed);

    /* New memory has forgotten how many had it. */
    if (serial == 0)
        serial = era;
    co->loop = l;
    atomic_store_explicit(&co->serial, serial + 1, memory_order_relaxed);
    co->joiner = NULL;
    atomic_init(&co->word, HANDLE_OPEN);
    atomic_init(&co->cancelled, 0);
    atomic_init(&co->message, MESSAGE_NONE);
    co->owned = owned;
    co->own = own;
    co->joining = false;
}

static int co_make(struct keel_loop *l, const struct keel_spawn *how,
                   bool owned, struct keel_co **ret)
{
    struct keel_co *co;
    struct stack *s;
    struct body *b;
    bool own;
    int rc;

    rc = stack_get(loop_here ? &loop_here->stacks : NULL, how->stack_bytes, &s);
    if (rc < 0)
        return rc;
    b = body_of(s);
    own = !owned && s->slab;
    co = own ? &b->own : handle_get(loop_here);
    if (!co) {
        stack_drop(s);
        return -ENOMEM;
    }
    co_init(co, l, owned, own, s->era);
    body_init(b, co, s, how);
    *ret = co;
    return 0;
}

static int spawn_here(struct keel_loop *l, struct keel_co *co)
{
    loop_adopt(l, co);
    run_push(l, co);
    return 0;
}

static int spawn_there(struct keel_loop *l, struct keel_co *co)
{
    struct stack *s = co->body->stack;

    co->body->foreign = true;
    atomic_fetch_add_explicit(&l->incoming, 1, memory_order_relaxed);
    if (loop_send(l, co))
        return 0;
    atomic_fetch_sub_explicit(&l->incoming, 1, memory_order_relaxed);
    if (co->body->group)
        group_unlink(co->body->group, co->body);
    if (co->own)
        atomic_store_explicit(&co->word, HANDLE_FREE, memory_order_relaxed);
    else
        handle_put(loop_here, co);
    stack_drop(s);
    return -EAGAIN;
}

static int spawn(struct keel_loop *l, const struct keel_spawn *how,
                 int (*fn)(void *arg), void *arg, struct keel_co **ret)
{
    struct keel_co *co;
    int rc;

    if (atomic_load_explicit(&l->stop, memory_order_relaxed))
        return -EAGAIN;
    rc = co_make(l, how, ret != NULL, &co);
    if (rc < 0)
        return rc;
    co->body->fn = fn;
    co->body->arg = arg;
    if (how->group)
        group_link(how->group, co->body);
    /* Written first: from another thread's view the coroutine may be over by
     * the time we return. */
    if (__builtin_expect(how->paused, 0))
        switch_adopt(l, co);
    else if (l == loop_here)
        rc = spawn_here(l, co);
    else
        rc = spawn_there(l, co);
    if (rc == 0 && ret)
        *ret = co;
    return rc;
}

int keel_spawn(const struct keel_spawn *how, int (*fn)(void *arg), void *arg,
               struct keel_co **ret)
{
    static const struct keel_spawn usual;
    struct keel_loop *l;
    int rc;

    if (!how)
        how = &usual;
    l = how->loop ? how->loop : loop_here;
    if (!l)
        misuse("keel_spawn", how, "a plain thread must name the loop");
    if (how->paused && (l != loop_here || !l->current))
        return mistake("keel_spawn", how,
                       "paused, and not of the caller's loop", -EINVAL);
    if (how->group) {
        rc = group_enter(how->group);
        if (rc < 0)
            return rc;
    }
    rc = spawn(l, how, fn, arg, ret);
    if (rc < 0 && how->group)
        group_back_out(how->group);
    return rc;
}

/* ---- joining ---- */

ALWAYS_INLINE int join_sleep(struct keel_co *co, keel_ns deadline)
{
    struct waiter w;
    int rc;

    /* The word is held, and dropped here. */
    waiter_arm_inline(&w, "join");
    w.on = co;
    co->joiner = &w;
    co->joining = true;
    handle_drop(co, HANDLE_OPEN);
    rc = w.co ? waiter_sleep_in_co(&w, deadline) : waiter_sleep(&w, deadline);
    if (rc == 0) { /* the finisher wakes while it holds */
        spin_wait(&co->word, HANDLE_HELD);
        return 0;
    }
    if (!handle_hold(co))
        return rc; /* ended, but our wait before that */
    co->joiner = NULL;
    co->joining = false;
    handle_drop(co, HANDLE_OPEN);
    return rc;
}

int keel_join(struct keel_co *co, keel_ns deadline, int *ret_result)
{
    int rc = 0;

    if (co == keel_current())
        return mistake("keel_join", co, "it is the caller itself", -EDEADLK);
    if (handle_hold(co)) {
        if (co->joining) {
            handle_drop(co, HANDLE_OPEN);
            return mistake("keel_join", co, "somebody else joins it already",
                           -EINVAL);
        }
        rc = join_sleep(co, deadline);
    } else if (__builtin_expect(is_free(co), 0)) {
        misuse("keel_join", co, "it was joined already");
    }
    if (rc < 0)
        return rc;
    if (ret_result)
        *ret_result = co->result;
    if (handle_release(co))
        handle_put(loop_here, co);
    return 0;
}

/* ---- cancelling ---- */

void co_interrupt(struct keel_co *co)
{
    struct body *b = co->body;
    struct waiter *w = b ? b->waits : NULL;

    if (b && b->paused) {
        b->paused = false;
        run_push(co->loop, co);
        return;
    }
    if (w && !w->always && !b->shields && waiter_leave(w, CANCELLED))
        run_push(co->loop, co);
}

static struct body *own_body(struct keel_co *co)
{
    return (struct body *)(void *)((char *)co - offsetof(struct body, own));
}

void co_cancel_taken(struct keel_co *co)
{
    uint8_t sent = MESSAGE_SENT;

    if (!handle_is_over(co))
        co_interrupt(co);
    if (atomic_compare_exchange_strong(&co->message, &sent, MESSAGE_NONE))
        return;
    /* Orphaned meanwhile. */
    if (co->own)
        stack_leave(co->loop, own_body(co)->stack);
    else
        handle_put(loop_here, co);
}

/* Sends `co` to its loop's list of cancels, once. */
static void cancel_send(struct keel_co *co)
{
    struct keel_loop *l = co->loop;
    struct keel_co *old;
    uint8_t none = MESSAGE_NONE;

    if (!atomic_compare_exchange_strong(&co->message, &none, MESSAGE_SENT))
        return;
    old = atomic_load_explicit(&l->cancels, memory_order_relaxed);
    do
        co->cancel_next = old;
    while (!atomic_compare_exchange_weak(&l->cancels, &old, co));
    loop_poke(l);
}

void co_cancel_from_elsewhere(struct keel_co *co)
{
    atomic_store(&co->cancelled, 1);
    cancel_send(co);
}

void keel_cancel(struct keel_co *co)
{
    if (is_free(co) && co->owned)
        misuse("keel_cancel", co, "it was joined already");
    atomic_store(&co->cancelled, 1);
    if (handle_is_over(co))
        return;
    if (co->loop == loop_here)
        co_interrupt(co);
    else
        cancel_send(co);
}

bool keel_cancelled(void)
{
    struct keel_co *co = keel_current();

    if (!co)
        return thread_stop_asked(true);
    return atomic_load_explicit(&co->cancelled, memory_order_relaxed);
}

void keel_shield(void)
{
    struct keel_co *co = keel_current();

    if (co)
        co->body->shields++;
    else
        thread_stop_shield(1);
}

void keel_unshield(void)
{
    struct keel_co *co = keel_current();

    if (!co) {
        thread_stop_shield(-1);
        return;
    }
    if (co->body->shields == 0)
        misuse("keel_unshield", co, "there is no keel_shield before it");
    co->body->shields--;
}

/* ---- timeouts, sleeping, yielding ---- */

void keel_timeout_begin(struct keel_timeout *t, keel_ns deadline)
{
    keel_ns *now = wait_scope();

    t->outer = *now;
    if (deadline < *now)
        *now = deadline;
}

void keel_timeout_end(struct keel_timeout *t)
{
    *wait_scope() = t->outer;
}

int keel_sleep(keel_ns deadline)
{
    struct waiter w;
    keel_ns until;
    int rc;

    /* The scopes' end is a timeout, the sleeper's own is what it came for. */
    until = wait_until(deadline);
    waiter_arm(&w, "sleep");
    rc = w.co ? waiter_sleep_in_co(&w, deadline) : waiter_sleep(&w, deadline);
    if (rc == -ETIMEDOUT && until == deadline)
        return 0;
    return rc;
}

void keel_yield(void)
{
    struct keel_loop *l = loop_here;
    struct keel_co *self, *to;

    if (!l) {
        worker_yield();
        return;
    }
    self = l->current;
    keel_assert(self);
    run_push(l, self);
    if (park_is_watched())
        park_look(self);
    to = next_to_run(l);
    if (to != self)
        jump_away(self, to);
}

/* ---- who am I ---- */

struct keel_co *keel_current(void)
{
    return loop_here ? loop_here->current : NULL;
}

_Thread_local const char *process_name;

const char *keel_name(void)
{
    struct keel_loop *l = loop_here;

    if (!l)
        return keel_thread_current() ? keel_thread_name(NULL)
               : process_name        ? process_name
                                     : "thread";
    return l->current && l->current->body ? l->current->body->name : l->name;
}

const char *keel_stack_error(void)
{
    return stack_error();
}
