/* SPDX-License-Identifier: MIT */
#include <keel/future.h>

#include <errno.h>
#include <string.h>

#include "future_inside.h"
#include "loop/loop.h"

/*   PENDING --start--> RUNNING --set--> DONE
 *      |  +-----------------------set-----^
 *      +--cancel--> CANCELLED_                 both ends are "done" */
enum { PENDING, RUNNING, DONE, GIVEN_UP };
/* Before a wait: the first look after some 0.2 us, the last after two. */
enum { LOOKS = 26, LOOK_FIRST = 14, LOOK_SPINS = 6 };

struct future_callback {
    struct future_callback *next;
    void (*fn)(struct keel_future *f, void *arg);
    void *arg;
};

/* Somebody waits over several: one of these in each of them. */
struct future_watch {
    struct future_watch *next, *prev;
    struct many *many;
    bool counted; /* the future was done when we came, or is since */
    /* For keel_completed, under its hold. */
    struct keel_future *future;
    struct future_watch *done_next;
};

/* One wait over several.  Under its own hold, taken inside a future's. */
struct many {
    struct keel_waitlist hold;
    size_t left;    /* futures not done */
    bool error;     /* one of the done failed */
    bool satisfied; /* and woken */
    enum keel_future_until until;
    struct waiter waiter;
    /* For keel_completed, whose takers wait in `hold`: those done and not yet
     * taken, in order. */
    bool one_by_one;
    struct future_watch *done_first, **done_last;
};

static void hold(struct keel_future *f)
{
    waitlist_hold(&f->waiters);
}

static void drop(struct keel_future *f)
{
    waitlist_drop(&f->waiters);
}

static uint32_t state_of(const struct keel_future *f)
{
    return atomic_load_explicit(&f->state, memory_order_acquire);
}

static void state_set(struct keel_future *f, uint32_t state)
{
    atomic_store_explicit(&f->state, state, memory_order_release);
}

static bool over(const struct keel_future *f)
{
    return state_of(f) >= DONE;
}

/* Returns when nobody holds it, nor would hold it any more. */
static void hold_end(struct keel_future *f)
{
    _Atomic uint32_t *spin = (_Atomic uint32_t *)&f->waiters.spin;

    while (atomic_load_explicit(spin, memory_order_acquire))
        spin_wait(spin, 1);
}

/* Over, and the fulfiller does not touch it any more, but for its ref. */
static bool settled(struct keel_future *f)
{
    if (!over(f))
        return false;
    hold_end(f);
    return true;
}

void future_init(struct keel_future *f, uint32_t refs,
                 void (*release)(struct keel_future *f))
{
    memset(f, 0, sizeof *f);
    atomic_init(&f->refs, refs);
    f->release = release;
}

int keel_future_new(struct keel_future **ret)
{
    struct keel_future *f = keel_alloc(sizeof *f);

    if (!f)
        return -ENOMEM;
    future_init(f, 2, NULL);
    *ret = f;
    return 0;
}

/* Out of the ring; the oldest first, NULL at the end. */
static struct future_callback *callbacks_take(struct keel_future *f)
{
    struct future_callback *youngest = f->has_callbacks ? f->callbacks : NULL,
                           *oldest;

    if (!youngest)
        return NULL;
    oldest = youngest->next;
    youngest->next = NULL;
    f->callbacks = NULL;
    return oldest;
}

static void callbacks_add(struct keel_future *f, struct future_callback *c)
{
    struct future_callback *youngest = f->callbacks;

    c->next = youngest ? youngest->next : c;
    if (youngest)
        youngest->next = c;
    f->callbacks = c;
    f->has_callbacks = true;
}

/* By the last owner. */
static void release(struct keel_future *f)
{
    struct future_callback *next;

    for (struct future_callback *c = callbacks_take(f); c; c = next) {
        next = c->next;
        keel_free(c);
    }
    if (f->release)
        f->release(f);
    else
        keel_free(f);
}

void keel_future_free(struct keel_future *f)
{
    uint32_t refs = f ? atomic_fetch_sub(&f->refs, 1) : 0;

    if (f && refs == 0)
        misuse("keel_future_free", f, "both its owners have freed it");
    if (refs != 1)
        return;
    hold_end(f);
    waitlist_end(&f->waiters);
    release(f);
}

/* ---- the end ---- */

static bool satisfied(const struct many *m, size_t total_left)
{
    switch (m->until) {
    case KEEL_FIRST_COMPLETED:
        return true;
    case KEEL_FIRST_ERROR:
        return m->error || total_left == 0;
    default:
        return total_left == 0;
    }
}

/* Under the future's hold. */
static void watch_tell(struct future_watch *w, int result)
{
    struct many *m = w->many;

    waitlist_hold(&m->hold);
    w->counted = true;
    m->left--;
    m->error = m->error || result < 0;
    if (m->one_by_one) {
        *m->done_last = w;
        m->done_last = &w->done_next;
        waitlist_wake_one(&m->hold);
    } else if (!m->satisfied && satisfied(m, m->left)) {
        m->satisfied = true;
        waiter_wake(&m->waiter);
    }
    waitlist_drop(&m->hold);
}

/* Under the hold, which it drops; runs the callbacks without it. */
static void conclude(struct keel_future *f, uint32_t state, int result,
                     void *value)
{
    struct future_callback *c, *next;

    f->result = result;
    f->value = value;
    state_set(f, state);
    for (struct future_watch *w = f->watches; w; w = w->next)
        watch_tell(w, result);
    waitlist_wake_all(&f->waiters);
    /* Who adds one while these run must come after them: the list stays
     * `callbacks` until it is found empty. */
    while ((c = callbacks_take(f))) {
        drop(f);
        for (; c; c = next) {
            next = c->next;
            c->fn(f, c->arg);
            keel_free(c);
        }
        hold(f);
    }
    drop(f);
}

bool keel_future_start(struct keel_future *f)
{
    bool started;

    hold(f);
    started = state_of(f) == PENDING;
    if (!started && state_of(f) != GIVEN_UP)
        misuse("keel_future_start", f, "it was started before");
    if (started)
        state_set(f, RUNNING);
    drop(f);
    return started;
}

void keel_future_set(struct keel_future *f, int result, void *value)
{
    hold(f);
    if (over(f))
        misuse("keel_future_set", f, "it has its result already");
    conclude(f, DONE, result, value);
}

/* Where nobody waits in earnest and nothing is to be called, one hold is the
 * whole end, so that the line goes over once. */
void future_finish(struct keel_future *f, int result, void *value)
{
    bool last;

    hold(f);
    if (over(f))
        misuse("keel_future_set", f, "it has its result already");
    if (f->has_callbacks || f->watches || f->waiters.head) {
        conclude(f, DONE, result, value);
        keel_future_free(f);
        return;
    }
    f->result = result;
    f->value = value;
    /* Who looks for the end finds the hold free a moment later, as nothing
     * slow is in between; the other owner, if it is the last, waits for that. */
    last = atomic_fetch_sub(&f->refs, 1) == 1;
    state_set(f, DONE);
    drop(f);
    if (last)
        release(f);
}

bool keel_future_cancel(struct keel_future *f)
{
    bool cancelled;

    hold(f);
    if (state_of(f) == PENDING) {
        conclude(f, GIVEN_UP, -ECANCELED, NULL);
        return true;
    }
    cancelled = state_of(f) == GIVEN_UP;
    drop(f);
    return cancelled;
}

bool keel_future_done(struct keel_future *f)
{
    bool done;

    hold(f);
    done = over(f);
    drop(f);
    return done;
}

bool keel_future_running(struct keel_future *f)
{
    bool running;

    hold(f);
    running = state_of(f) == RUNNING;
    drop(f);
    return running;
}

int keel_future_on_done(struct keel_future *f,
                        void (*fn)(struct keel_future *f, void *arg), void *arg)
{
    struct future_callback *c;

    if (!keel_future_done(f)) {
        c = keel_alloc(sizeof *c);
        if (!c)
            return -ENOMEM;
        *c = (struct future_callback){.fn = fn, .arg = arg};
        hold(f);
        if (!over(f)) {
            callbacks_add(f, c);
            drop(f);
            return 0;
        }
        drop(f);
        keel_free(c);
    }
    fn(f, arg);
    return 0;
}

/* ---- waiting ---- */

static int result_of(const struct keel_future *f, void **ret_value)
{
    if (ret_value)
        *ret_value = f->value;
    return f->result;
}

/* A waiter that is announced costs the fulfiller a few more lines, so one looks
 * for a microsecond or two first.  Each look takes the line away from the
 * fulfiller, who has to fetch it back for his next step: so the first one comes
 * when an empty job may be done, and the others are not much closer. */
static bool settles_soon(struct keel_future *f, keel_ns deadline)
{
    if (deadline == KEEL_NOW || (loop_here && loop_here->run_head) ||
        !loop_may_spin())
        return false;
    for (int i = 0; i < LOOKS; i++) {
        for (int k = 0; k < (i == 0 ? LOOK_FIRST : LOOK_SPINS); k++)
            cpu_relax();
        if (settled(f))
            return true;
    }
    return false;
}

int keel_future_result(struct keel_future *f, keel_ns deadline,
                       void **ret_value)
{
    int rc;

    if (settled(f) || settles_soon(f, deadline))
        return result_of(f, ret_value);
    hold(f);
    while (!over(f)) {
        rc = waitlist_sleep(&f->waiters, deadline, false, "future");
        if (rc < 0)
            return rc;
        hold(f);
    }
    drop(f);
    return result_of(f, ret_value);
}

static bool seen_before(struct keel_future *const *f, size_t i)
{
    for (size_t k = 0; k < i; k++)
        if (f[k] == f[i])
            return true;
    return false;
}

/* Watches `f`, or counts it if it is done. */
static void watch_begin(struct keel_future *f, struct future_watch *w)
{
    hold(f);
    if (over(f)) {
        watch_tell(w, f->result);
    } else {
        w->prev = NULL;
        w->next = f->watches;
        if (w->next)
            w->next->prev = w;
        f->watches = w;
    }
    drop(f);
}

/* Returns whether it was done. */
static bool watch_end(struct keel_future *f, struct future_watch *w)
{
    bool listed;

    hold(f);
    for (struct future_watch *at = f->watches;
         (listed = at != NULL) && at != w;)
        at = at->next;
    if (listed) {
        if (w->prev)
            w->prev->next = w->next;
        else
            f->watches = w->next;
        if (w->next)
            w->next->prev = w->prev;
    }
    drop(f);
    return w->counted;
}

/* Waits for `m`, whose watches are set. */
static int many_sleep(struct many *m, keel_ns deadline)
{
    waitlist_hold(&m->hold);
    if (m->left == 0 && !m->satisfied) {
        m->satisfied = true;
        waitlist_drop(&m->hold);
        return 0;
    }
    waitlist_drop(&m->hold);
    /* Satisfied before we sleep is a wake before we sleep: at once. */
    return waiter_sleep(&m->waiter, deadline);
}

int keel_future_wait(struct keel_future *const *f, size_t count,
                     enum keel_future_until until, keel_ns deadline)
{
    struct future_watch few[16], *w = few;
    struct many m = {.until = until};
    int rc, done = 0;

    if (count > sizeof few / sizeof *few) {
        w = keel_alloc(count * sizeof *w);
        if (!w)
            return -ENOMEM;
    }
    for (size_t i = 0; i < count; i++) {
        w[i] = (struct future_watch){.many = seen_before(f, i) ? NULL : &m};
        m.left += w[i].many != NULL;
    }
    waiter_arm(&m.waiter, "futures");
    for (size_t i = 0; i < count; i++)
        if (w[i].many)
            watch_begin(f[i], &w[i]);
    rc = many_sleep(&m, deadline);
    for (size_t i = 0; i < count; i++)
        if (w[i].many)
            done += watch_end(f[i], &w[i]);
    if (w != few)
        keel_free(w);
    return rc < 0 ? rc : done;
}

/* ---- as they are done ---- */

struct keel_completed {
    struct many many;
    size_t count;
    size_t to_give; /* under many.hold */
    struct future_watch watches[];
};

int keel_completed_new(struct keel_future *const *f, size_t count,
                       struct keel_completed **ret)
{
    struct keel_completed *c;

    if (count > (SIZE_MAX / 2 - sizeof *c) / sizeof *c->watches)
        return -ENOMEM;
    c = keel_calloc(1, sizeof *c + count * sizeof *c->watches);
    if (!c)
        return -ENOMEM;
    c->count = count;
    c->many.one_by_one = true;
    c->many.done_last = &c->many.done_first;
    for (size_t i = 0; i < count; i++) {
        c->watches[i].future = f[i];
        c->watches[i].many = seen_before(f, i) ? NULL : &c->many;
        c->many.left += c->watches[i].many != NULL;
    }
    c->to_give = c->many.left;
    for (size_t i = 0; i < count; i++)
        if (c->watches[i].many)
            watch_begin(f[i], &c->watches[i]);
    *ret = c;
    return 0;
}

void keel_completed_free(struct keel_completed *c)
{
    if (!c)
        return;
    if (c->many.hold.head)
        misuse("keel_completed_free", c, "somebody waits for it");
    for (size_t i = 0; i < c->count; i++)
        if (c->watches[i].many)
            watch_end(c->watches[i].future, &c->watches[i]);
    keel_free(c);
}

int keel_completed_next(struct keel_completed *c, keel_ns deadline,
                        struct keel_future **ret)
{
    struct many *m = &c->many;
    struct future_watch *w;
    int rc;

    waitlist_hold(&m->hold);
    while (!(w = m->done_first)) {
        if (c->to_give == 0) {
            waitlist_drop(&m->hold);
            return -ENOENT;
        }
        rc = waitlist_sleep(&m->hold, deadline, false, "future completed");
        if (rc < 0)
            return rc;
        waitlist_hold(&m->hold);
    }
    m->done_first = w->done_next;
    if (!m->done_first)
        m->done_last = &m->done_first;
    /* The last: who waits for another waits in vain. */
    if (--c->to_give == 0)
        waitlist_wake_all(&m->hold);
    waitlist_drop(&m->hold);
    *ret = w->future;
    return 0;
}
