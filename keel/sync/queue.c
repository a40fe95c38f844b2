/* SPDX-License-Identifier: MIT */
/* Two bodies behind one header; the others are in queue_ordered.c and
 * queue_meet.c.
 *
 * Shared: the items are in a ring of cells with sequence words; the wait lists
 * are entered only by who has to sleep.  Who sleeps and who changes the ring
 * meet like this, so that one of them sees the other:
 *     sleeper: raise `waiting`; full fence; try the ring once more, then sleep
 *     changer: exchange the cell's sequence word; if (waiting) wake one
 * The changer needs no fence of its own, since its exchange and its load are
 * both sequentially consistent.  Let the load not see the raise: then it comes
 * before the raise in their one order, the exchange before the load, and the
 * raise before the fence; so what the sleeper reads after its fence is the
 * exchanged word.  The sleeper does need the fence, because it only acquires
 * what it reads.
 *
 * Local: the coroutines of one loop, which nobody interrupts between two
 * waits: plain words and lists, no locked instruction. */
#include <keel/queue.h>

#include <errno.h>
#include <sched.h>
#include <stdlib.h>
#include <string.h>

#include <keel/seam.h>

#include "loop/park.h"
#include "loop/worker.h"
#include "queue_inside.h"
#include "seam/quarantine.h"

#define SPINS 100 /* about a microsecond */
/* Of who lost a claim, doubled with each of the next few: some 0.3 to 5 us. */
#define BACKOFF 32
#define BACKOFF_MOST 512

static inline void full_fence(void)
{
#ifdef KEEL_TSAN
    /* TSan knows no fences. */
    static _Atomic int any;

    atomic_fetch_add(&any, 0);
#else
    if (!__libc_single_threaded)
        atomic_thread_fence(memory_order_seq_cst);
#endif
}

void queue_full_fence(void)
{
    full_fence();
}

static inline uint64_t tail_of(struct keel_queue *q)
{
    return atomic_load_explicit(&q->tail, memory_order_acquire);
}

static inline bool is_closed(struct keel_queue *q)
{
    return atomic_load_explicit(&q->closed, memory_order_acquire);
}

/* ---- shared: the ring ---- */

/* Where the ring is larger than `slots`, the item `slots` before must be gone
 * as well. */
static inline bool slot_free(struct keel_queue *q, uint64_t t)
{
    struct cell *c;

    if (q->mask + 1 == q->slots || t < q->slots)
        return true;
    t -= q->slots;
    c = &q->cells[t & q->mask];
    return atomic_load_explicit(&c->seq, memory_order_acquire) > 2 * t + 1;
}

/* Several claim at the same end: who has lost one keeps away for a while, so
 * that the winner makes a run of claims before the line goes to another
 * processor, which takes ten times as long as a claim.  Returns the end as it
 * is after that. */
static uint64_t back_off(_Atomic uint64_t *end, unsigned *spins)
{
    for (unsigned i = 0; i < *spins; i++)
        cpu_relax();
    if (*spins < BACKOFF_MOST)
        *spins *= 2;
    return atomic_load_explicit(end, memory_order_relaxed);
}

/* An exchange, because of who sleeps: see at the top. */
static inline void cell_change(struct cell *c, uint64_t seq)
{
    (void)atomic_exchange(&c->seq, seq);
}

static enum outcome ring_put(struct keel_queue *q, void *item)
{
    uint64_t t = atomic_load_explicit(&q->tail, memory_order_relaxed);
    unsigned spins = BACKOFF;

    for (;;) {
        struct cell *c = &q->cells[t & q->mask];
        uint64_t seq;

        if (t & CLOSED)
            return NEVER;
        seq = atomic_load_explicit(&c->seq, memory_order_acquire);
        if (seq == 2 * t && slot_free(q, t)) {
            if (!atomic_compare_exchange_strong_explicit(
                    &q->tail, &t, t + 1, memory_order_relaxed,
                    memory_order_relaxed)) {
                t = back_off(&q->tail, &spins);
                continue;
            }
            worker_point();
            atomic_store_explicit(&c->item, item, memory_order_relaxed);
            cell_change(c, 2 * t + 1);
            worker_point();
            return DONE;
        }
        if (seq <= 2 * t)
            return NOT_YET;
        t = atomic_load_explicit(&q->tail, memory_order_relaxed);
    }
}

static enum outcome ring_get(struct keel_queue *q, void **ret)
{
    uint64_t h = atomic_load_explicit(&q->head, memory_order_relaxed);
    unsigned spins = BACKOFF;

    for (;;) {
        struct cell *c = &q->cells[h & q->mask];
        uint64_t seq = atomic_load_explicit(&c->seq, memory_order_acquire);

        if (seq == 2 * h + 1) {
            if (!atomic_compare_exchange_strong_explicit(
                    &q->head, &h, h + 1, memory_order_relaxed,
                    memory_order_relaxed)) {
                h = back_off(&q->head, &spins);
                continue;
            }
            worker_point();
            *ret = atomic_load_explicit(&c->item, memory_order_relaxed);
            cell_change(c, 2 * (h + q->mask + 1));
            worker_point();
            return DONE;
        }
        /* Empty, but a put that came before the close may still be writing:
         * its wake will come. */
        if (seq < 2 * h + 1)
            return is_closed(q) && tail_of(q) == (h | CLOSED) ? NEVER : NOT_YET;
        h = atomic_load_explicit(&q->head, memory_order_relaxed);
    }
}

/* ---- shared: waking and sleeping ---- */

static void wake_one(struct side *s)
{
    struct waiter *w;

    waitlist_hold(&s->list);
    w = waitlist_choose(&s->list);
    waitlist_drop(&s->list);
    waiter_post(w);
}

static void wake_all(struct side *s)
{
    waitlist_hold(&s->list);
    waitlist_wake_all(&s->list);
    waitlist_drop(&s->list);
}

/* The caller has changed a cell for the better of `s`. */
static inline void changed(struct side *s)
{
    if (__builtin_expect(atomic_load(&s->waiting), 0))
        wake_one(s);
}

/* Somebody else may have, and the wake came to the caller. */
static void pass_on(struct side *s)
{
    full_fence();
    changed(s);
}

/* What a side tries: put `*item`, get into `*item`, or find all done. */
typedef enum outcome attempt(struct keel_queue *q, void **item);

static enum outcome try_put(struct keel_queue *q, void **item)
{
    return ring_put(q, *item);
}

static enum outcome try_join(struct keel_queue *q, void **item)
{
    (void)item;
    return queue_joined(q) ? DONE : NOT_YET;
}

/* Waiters that are announced make each item of the other side a wake, so one
 * looks a while longer first.  A loop with other coroutines to run has better
 * to do than to spin: they may be those that one would wait for.  That is a
 * wait already, which a cancel ends. */
static int look_again(struct keel_queue *q, attempt *try, void **item,
                      enum outcome *ret)
{
    enum outcome o = NOT_YET;

    if (loop_here && loop_here->run_head) {
        keel_yield();
        if (wait_allowed() < 0)
            return -ECANCELED;
        *ret = try(q, item);
        return 0;
    }
    if (loop_may_spin())
        for (int i = 0; i < SPINS && o == NOT_YET; i++) {
            cpu_relax();
            o = try(q, item);
        }
    *ret = o;
    return 0;
}

static int sleep_once(struct keel_queue *q, struct side *s, attempt *try,
                      void **item, keel_ns deadline, const char *what,
                      enum outcome *ret)
{
    int rc = 0;

    waitlist_hold(&s->list);
    atomic_fetch_add(&s->waiting, 1);
    full_fence();
    worker_point();
    *ret = try(q, item);
    if (*ret == NOT_YET)
        rc = waitlist_sleep_on(&s->list, q, deadline, false, what);
    else
        waitlist_drop(&s->list);
    atomic_fetch_sub(&s->waiting, 1);
    return rc;
}

static int wait_shared(struct keel_queue *q, struct side *s, attempt *try,
                       void **item, keel_ns deadline, const char *what)
{
    enum outcome o = NOT_YET;
    int rc;

    if (deadline == KEEL_NOW) {
        rc = wait_allowed();
        return rc < 0 ? rc : -ETIMEDOUT;
    }
    rc = look_again(q, try, item, &o);
    if (rc < 0)
        return rc;
    while (o == NOT_YET) {
        rc = sleep_once(q, s, try, item, deadline, what, &o);
        if (rc < 0)
            return rc;
        if (o == NOT_YET)
            o = try(q, item);
        /* Cells fill and empty out of order, so that our wake may have stood
         * for two: pass it on; the next one finds out whether there is more. */
        if (o == DONE)
            pass_on(s);
    }
    return o == DONE ? 0 : -EPIPE;
}

static int put_shared(struct keel_queue *q, void *item, keel_ns deadline)
{
    enum outcome o = ring_put(q, item);
    int rc;

    if (o == NOT_YET) {
        rc = wait_shared(q, &q->putters, try_put, &item, deadline, "queue put");
        if (rc < 0)
            return rc;
    } else if (o == NEVER) {
        return -EPIPE;
    }
    changed(&q->getters);
    return 0;
}

static int get_shared(struct keel_queue *q, keel_ns deadline, void **ret)
{
    enum outcome o = ring_get(q, ret);
    int rc;

    if (o == NOT_YET) {
        rc = wait_shared(q, &q->getters, ring_get, ret, deadline, "queue get");
        if (rc < 0)
            return rc;
    } else if (o == NEVER) {
        return -EPIPE;
    }
    changed(&q->putters);
    /* The last item of a closed queue is bad news for all who wait. */
    if (is_closed(q) && atomic_load(&q->getters.waiting))
        wake_all(&q->getters);
    return 0;
}

static int peek_shared(struct keel_queue *q, void **ret)
{
    for (;;) {
        uint64_t h = atomic_load_explicit(&q->head, memory_order_acquire);
        struct cell *c = &q->cells[h & q->mask];
        uint64_t seq = atomic_load_explicit(&c->seq, memory_order_acquire);
        void *item;

        if (seq < 2 * h + 1)
            return -EAGAIN;
        item = atomic_load_explicit(&c->item, memory_order_acquire);
        if (seq == 2 * h + 1 &&
            atomic_load_explicit(&c->seq, memory_order_relaxed) == seq) {
            *ret = item;
            return 0;
        }
    }
}

/* ---- local ---- */

static inline uint64_t plain(_Atomic uint64_t *word)
{
    return atomic_load_explicit(word, memory_order_relaxed);
}

static inline void set_plain(_Atomic uint64_t *word, uint64_t value)
{
    atomic_store_explicit(word, value, memory_order_relaxed);
}

/* Nobody but this loop changes the state of its coroutines' waiters here,
 * except of a select's, which others may wake through other queues. */
static bool wake_here(struct keel_waitlist *l)
{
    for (struct waiter *w = l->head; w; w = w->next) {
        if (__builtin_expect(w->proxy, 0)) {
            if (waitlist_wake_one(l))
                return true;
            continue;
        }
        if (atomic_load_explicit(&w->state, memory_order_relaxed) == ARMED) {
            atomic_store_explicit(&w->state, WOKEN, memory_order_relaxed);
            waitlist_unlink(l, w);
            run_push(w->co->loop, w->co);
            return true;
        }
    }
    return false;
}

static void wake_all_here(struct keel_waitlist *l)
{
    while (wake_here(l))
        ;
}

static inline int sleep_here(const struct keel_queue *q,
                             struct keel_waitlist *l, keel_ns deadline,
                             const char *what)
{
    struct waiter w;
    int rc;

    waiter_arm_inline(&w, what);
    w.on = q;
    waitlist_link(l, &w);
    rc = waiter_sleep_in_co(&w, deadline);
    if (rc < 0)
        waitlist_unlink(l, &w);
    return rc;
}

static inline void of_this_loop(struct keel_queue *q)
{
    if (__builtin_expect(q->loop != loop_here, 0)) {
        if (q->loop || !loop_here) /* one loop's, for ever */
            misuse("keel_queue", q,
                   "a local queue is for the coroutines of one loop");
        q->loop = loop_here;
    }
}

static int put_local(struct keel_queue *q, void *item, keel_ns deadline)
{
    uint64_t t;
    int rc;

    of_this_loop(q);
    for (;;) {
        t = plain(&q->tail);
        if (t & CLOSED)
            return -EPIPE;
        if (t - plain(&q->head) < q->slots)
            break;
        rc = sleep_here(q, &q->putters.list, deadline, "queue put");
        if (rc < 0)
            return rc;
    }
    q->items[t & q->mask] = item;
    set_plain(&q->tail, t + 1);
    if (q->getters.list.head)
        wake_here(&q->getters.list);
    return 0;
}

static int get_local(struct keel_queue *q, keel_ns deadline, void **ret)
{
    uint64_t h;
    int rc;

    of_this_loop(q);
    for (;;) {
        h = plain(&q->head);
        if (h != (plain(&q->tail) & ~CLOSED))
            break;
        if (plain(&q->tail) & CLOSED)
            return -EPIPE;
        rc = sleep_here(q, &q->getters.list, deadline, "queue get");
        if (rc < 0)
            return rc;
    }
    *ret = q->items[h & q->mask];
    set_plain(&q->head, h + 1);
    if (q->putters.list.head)
        wake_here(&q->putters.list);
    return 0;
}

/* ---- both ---- */

int queue_alloc(enum queue_body body, size_t slots, size_t bytes,
                struct keel_queue **ret)
{
    struct keel_queue *q;

    q = lines_alloc(sizeof *q + bytes);
    if (!q)
        return -ENOMEM;
    memset(q, 0, sizeof *q);
    q->body = body;
    q->slots = slots;
    *ret = q;
    return 0;
}

int keel_queue_new(size_t slots, enum keel_queue_kind kind,
                   struct keel_queue **ret)
{
    bool local = kind == KEEL_QUEUE_LOCAL;
    size_t ring = 1, each = local ? sizeof(void *) : sizeof(struct cell);
    struct keel_queue *q;
    int rc;

    if (slots == 0)
        return meet_new(ret);
    if (slots > ((size_t)1 << 40))
        return -EINVAL;
    while (ring < slots)
        ring *= 2;
    if (ring > (SIZE_MAX / 2 - sizeof *q) / each)
        return -ENOMEM;
    rc = queue_alloc(local ? BODY_LOCAL : BODY_RING, slots, ring * each, &q);
    if (rc < 0)
        return rc;
    q->mask = ring - 1;
    q->loop = local ? loop_here : NULL;
    q->items = (void **)(q + 1);
    q->cells = (struct cell *)(q + 1);
    for (size_t i = 0; !local && i < ring; i++)
        atomic_init(&q->cells[i].seq, 2 * i);
    *ret = q;
    return 0;
}

void keel_queue_free(struct keel_queue *q)
{
    if (!q)
        return;
    if (q->putters.list.head || q->getters.list.head || q->joiners.list.head)
        misuse("keel_queue_free", q, "somebody waits for it");
    keel_free(q);
}

int keel_queue_put(struct keel_queue *q, void *item, keel_ns deadline)
{
    int rc;

    if (!item)
        misuse("keel_queue_put", q, "the item is NULL");
    if (q->body == BODY_LOCAL)
        rc = put_local(q, item, deadline);
    else if (q->body == BODY_RING)
        rc = put_shared(q, item, deadline);
    else if (q->body == BODY_ORDERED)
        rc = ordered_put(q, item, deadline);
    else
        rc = meet_put(q, item, deadline);
    if (rc == 0)
        loop_step();
    return rc;
}

int keel_queue_get(struct keel_queue *q, keel_ns deadline, void **ret_item)
{
    void *item;
    int rc;

    if (q->body == BODY_LOCAL)
        rc = get_local(q, deadline, &item);
    else if (q->body == BODY_RING)
        rc = get_shared(q, deadline, &item);
    else if (q->body == BODY_ORDERED)
        rc = ordered_get(q, deadline, &item);
    else
        rc = meet_get(q, deadline, &item);
    if (rc < 0)
        return rc;
    *ret_item = item;
    loop_step();
    return 0;
}

int keel_queue_peek(struct keel_queue *q, void **ret_item)
{
    uint64_t h;

    if (q->body == BODY_RING)
        return peek_shared(q, ret_item);
    if (q->body == BODY_ORDERED)
        return ordered_peek(q, ret_item);
    if (q->body == BODY_MEET)
        return -EAGAIN;
    of_this_loop(q);
    h = plain(&q->head);
    if (h == (plain(&q->tail) & ~CLOSED))
        return -EAGAIN;
    *ret_item = q->items[h & q->mask];
    return 0;
}

size_t keel_queue_count(struct keel_queue *q)
{
    uint64_t h, count;

    if (q->body == BODY_ORDERED)
        return ordered_count(q);
    if (q->body == BODY_MEET)
        return 0;
    /* Head first: it never passes the tail that is read after it. */
    h = atomic_load_explicit(&q->head, memory_order_acquire);
    count = (tail_of(q) & ~CLOSED) - h;
    return count < q->slots ? (size_t)count : (size_t)q->slots;
}

bool keel_queue_empty(struct keel_queue *q)
{
    return keel_queue_count(q) == 0;
}

bool keel_queue_full(struct keel_queue *q)
{
    return keel_queue_count(q) == q->slots;
}

/* ---- unfinished work ---- */

static void done_changed(struct keel_queue *q)
{
    if (try_join(q, NULL) != DONE)
        return;
    if (q->body == BODY_LOCAL)
        wake_all_here(&q->joiners.list);
    else if (atomic_load(&q->joiners.waiting))
        wake_all(&q->joiners);
}

static int one_too_many(struct keel_queue *q)
{
    return mistake("keel_queue_task_done", q, "nothing is unfinished", -EINVAL);
}

int keel_queue_task_done(struct keel_queue *q)
{
    uint64_t done = atomic_load(&q->done);

    if (q->body == BODY_LOCAL) {
        if (done >= (tail_of(q) & ~CLOSED))
            return one_too_many(q);
        set_plain(&q->done, done + 1);
        done_changed(q);
        return 0;
    }
    do
        if (done >= (tail_of(q) & ~CLOSED))
            return one_too_many(q);
    while (!atomic_compare_exchange_weak(&q->done, &done, done + 1));
    worker_point();
    done_changed(q);
    return 0;
}

int keel_queue_join(struct keel_queue *q, keel_ns deadline)
{
    int rc = 0;

    if (q->body != BODY_LOCAL)
        return try_join(q, NULL) == DONE
                   ? 0
                   : wait_shared(q, &q->joiners, try_join, NULL, deadline,
                                 "queue join");
    of_this_loop(q);
    while (rc == 0 && try_join(q, NULL) != DONE)
        rc = sleep_here(q, &q->joiners.list, deadline, "queue join");
    return rc;
}

/* ---- closing ---- */

void keel_queue_close(struct keel_queue *q)
{
    if (q->body == BODY_LOCAL) {
        of_this_loop(q);
        set_plain(&q->tail, plain(&q->tail) | CLOSED);
        wake_all_here(&q->putters.list);
        wake_all_here(&q->getters.list);
        return;
    }
    if (q->body == BODY_ORDERED) {
        ordered_close(q);
        return;
    }
    if (q->body == BODY_MEET) {
        meet_close(q);
        return;
    }
    atomic_fetch_or(&q->tail, CLOSED);
    worker_point();
    atomic_store(&q->closed, true);
    wake_all(&q->putters);
    wake_all(&q->getters);
}

/* Takes an item out of the closed queue; false when it is empty for ever. */
static bool drain_one(struct keel_queue *q, void **ret)
{
    enum outcome o;

    if (q->body == BODY_LOCAL)
        return get_local(q, KEEL_NOW, ret) == 0;
    if (q->body == BODY_ORDERED)
        return ordered_get(q, KEEL_NOW, ret) == 0;
    if (q->body == BODY_MEET)
        return false;
    /* What a put claimed before the close is written in a moment. */
    while ((o = ring_get(q, ret)) == NOT_YET)
        worker_yield();
    return o == DONE;
}

void keel_queue_close_now(struct keel_queue *q, void (*drop)(void *item))
{
    void *item;

    keel_queue_close(q);
    while (drain_one(q, &item)) {
        if (drop)
            drop(item);
        atomic_fetch_add(&q->done, 1);
    }
    done_changed(q);
    if (q->body == BODY_RING)
        wake_all(&q->getters);
}

/* ---- for select ---- */

static bool ring_can(struct keel_queue *q, bool put)
{
    uint64_t at = atomic_load(put ? &q->tail : &q->head), seq;

    if (put && at & CLOSED)
        return true;
    seq = atomic_load(&q->cells[at & q->mask].seq);
    /* Larger: somebody was faster, and one must look again. */
    if (put)
        return seq > 2 * at || (seq == 2 * at && slot_free(q, at));
    return seq >= 2 * at + 1 || (is_closed(q) && tail_of(q) == (at | CLOSED));
}

static bool local_can(struct keel_queue *q, bool put)
{
    uint64_t count = (plain(&q->tail) & ~CLOSED) - plain(&q->head);

    of_this_loop(q);
    if (plain(&q->tail) & CLOSED)
        return true;
    return put ? count < q->slots : count > 0;
}

bool queue_can(struct keel_queue *q, bool put, const struct waiter *me)
{
    switch (q->body) {
    case BODY_RING:
        return ring_can(q, put);
    case BODY_LOCAL:
        return local_can(q, put);
    case BODY_ORDERED:
        return ordered_can(q, put);
    default:
        return meet_can(q, put, me);
    }
}

void queue_pass_on(struct keel_queue *q, bool put)
{
    struct side *s = queue_side(q, put);
    struct waiter *w;

    if (q->body == BODY_RING) {
        pass_on(s);
    } else if (q->body == BODY_LOCAL) {
        wake_here(&s->list);
    } else if (q->body == BODY_ORDERED) {
        queue_hold(q);
        w = waitlist_choose(&s->list);
        queue_drop(q);
        waiter_post(w);
    }
}
