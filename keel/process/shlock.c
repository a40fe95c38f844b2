/* SPDX-License-Identifier: MIT */
/* A lock's word is its owner (family.h) and, in the top bit, whether somebody
 * may sleep on it.  It changes by one instruction at a time, so that a killed
 * process leaves it free, or its own, which is as good as free.
 *
 * Who is woken and gives up, or dies, has a wake that others need: the one
 * hands it on, and for the other everybody is woken. */
#include <keel/shlock.h>

#include <errno.h>
#include <string.h>

#include <keel/co.h>

#include "family.h"
#include "loop/sched.h"

#define WAITERS (1U << 31)
#define NOBODY OWNER_MASK /* holds what nobody took yet; never an owner's */

static _Atomic uint32_t *at(uint32_t *word)
{
    return (_Atomic uint32_t *)word;
}

static uint32_t look(const uint32_t *word)
{
    return atomic_load((_Atomic uint32_t *)(uintptr_t)word);
}

/* ---- the word ---- */

static void word_give_up(_Atomic uint32_t *word)
{
    uint32_t w = atomic_load(word);

    while (w && !(w & WAITERS))
        if (atomic_compare_exchange_weak(word, &w, w | WAITERS))
            return;
    if (!w)
        family_wake(word, 1);
}

static int word_take(_Atomic uint32_t *word, keel_ns deadline, bool always,
                     const char *what)
{
    uint32_t me, flag = 0;
    unsigned spins = 0;
    int rc = family_me(&me);

    if (rc < 0)
        return rc;
    for (;;) {
        uint32_t deaths = family_deaths(), w = atomic_load(word);
        bool dead = w && family_dead(w & OWNER_MASK);

        STEP();
        if (!w || dead) {
            if (atomic_compare_exchange_strong(
                    word, &w, me | flag | (dead ? WAITERS : 0)))
                return dead;
            continue;
        }
        if (deadline != KEEL_NOW && family_spin(&spins))
            continue;
        if (!(w & WAITERS) && deadline != KEEL_NOW &&
            !atomic_compare_exchange_strong(word, &w, w | WAITERS))
            continue;
        STEP();
        rc = family_sleep(word, w | WAITERS, deaths, deadline, always, what);
        if (rc < 0) {
            word_give_up(word);
            return rc;
        }
        STEP();
        flag = WAITERS; /* others may sleep who were not woken */
    }
}

static int word_drop(_Atomic uint32_t *word, const char *call)
{
    uint32_t w = atomic_exchange(word, 0);

    STEP();
    if (!w)
        return mistake(call, word, "nobody holds it", -EPERM);
    if (w & WAITERS)
        family_wake(word, 1);
    STEP();
    return 0;
}

/* ---- lock ---- */

void keel_shlock_init(struct keel_shlock *l)
{
    memset(l, 0, sizeof(*l));
}

int keel_shlock_take(struct keel_shlock *l, keel_ns deadline)
{
    return word_take(at(&l->word), deadline, false, "lock between processes");
}

int keel_shlock_drop(struct keel_shlock *l)
{
    return word_drop(at(&l->word), "keel_shlock_drop");
}

/* ---- rlock ---- */

void keel_shrlock_init(struct keel_shrlock *l)
{
    memset(l, 0, sizeof(*l));
}

static uint64_t self(void)
{
    struct keel_co *co = keel_current();

    return co ? (uint64_t)(uintptr_t)co : 1;
}

/* `who` and `count` belong to the thread in the word: only it looks at them. */
static bool is_mine(struct keel_shrlock *l, uint32_t me)
{
    return (look(&l->word) & OWNER_MASK) == me && l->who == self();
}

int keel_shrlock_take(struct keel_shrlock *l, keel_ns deadline)
{
    uint32_t me;
    int rc = family_me(&me);

    if (rc < 0)
        return rc;
    if (is_mine(l, me)) {
        l->count++;
        return 0;
    }
    rc = word_take(at(&l->word), deadline, false, "rlock between processes");
    if (rc < 0)
        return rc;
    STEP();
    l->count = 1;
    STEP();
    l->who = self();
    return rc;
}

int keel_shrlock_drop(struct keel_shrlock *l)
{
    uint32_t me;
    int rc = family_me(&me);

    if (rc < 0)
        return rc;
    if (!is_mine(l, me))
        return mistake("keel_shrlock_drop", l, "the caller is not its owner",
                       -EPERM);
    STEP();
    if (--l->count > 0)
        return 0;
    l->who = 0;
    return word_drop(at(&l->word), "keel_shrlock_drop");
}

/* ---- condition ---- */

void keel_shcond_init(struct keel_shcond *c)
{
    memset(c, 0, sizeof(*c));
}

int keel_shcond_wait(struct keel_shcond *c, struct keel_shlock *l,
                     keel_ns deadline)
{
    uint32_t turn = look(&c->turn), deaths = family_deaths();
    int rc = word_drop(at(&l->word), "keel_shcond_wait"), taken;

    if (rc < 0)
        return rc;
    while (rc == 0 && look(&c->turn) == turn && family_deaths() == deaths) {
        STEP();
        rc = family_sleep(at(&c->turn), turn, deaths, deadline, false,
                          "condition between processes");
    }
    STEP();
    if (rc < 0 && look(&c->turn) != turn)
        family_wake(at(&c->turn), 1);
    taken =
        word_take(at(&l->word), KEEL_FOREVER, true, "lock between processes");
    return taken ? taken : rc;
}

int keel_shcond_wait_for(struct keel_shcond *c, struct keel_shlock *l,
                         bool (*test)(void *arg), void *arg, keel_ns deadline)
{
    int dead = 0;

    while (!test(arg)) {
        int rc = keel_shcond_wait(c, l, deadline);

        if (rc < 0)
            return test(arg) ? dead : rc;
        dead |= rc;
    }
    return dead;
}

static void cond_wake(struct keel_shcond *c, int count)
{
    atomic_fetch_add(at(&c->turn), 1);
    STEP();
    family_wake(at(&c->turn), count);
}

void keel_shcond_signal(struct keel_shcond *c)
{
    cond_wake(c, 1);
}

void keel_shcond_broadcast(struct keel_shcond *c)
{
    cond_wake(c, INT32_MAX);
}

/* ---- semaphore ---- */

int keel_shsemaphore_init(struct keel_shsemaphore *s, uint32_t count,
                          uint32_t bound)
{
    if (bound > KEEL_SHSEMAPHORE_BOUND_MOST || (bound && count > bound) ||
        count > INT32_MAX)
        return -EINVAL;
    memset(s, 0, sizeof(*s));
    s->bound = bound;
    s->count = bound ? 0 : count;
    for (uint32_t i = count; i < bound; i++)
        s->holders[i] = NOBODY;
    return 0;
}

static bool unit_take(struct keel_shsemaphore *s, uint32_t me)
{
    uint32_t w;

    if (!s->bound) {
        w = look(&s->count);
        while (w > 0)
            if (atomic_compare_exchange_weak(at(&s->count), &w, w - 1))
                return true;
        return false;
    }
    for (uint32_t i = 0; i < s->bound; i++) {
        w = look(&s->holders[i]);
        STEP();
        if ((!w || (w != NOBODY && family_dead(w))) &&
            atomic_compare_exchange_strong(at(&s->holders[i]), &w, me))
            return true;
    }
    return false;
}

int keel_shsemaphore_take(struct keel_shsemaphore *s, keel_ns deadline)
{
    uint32_t me;
    unsigned spins = 0;
    int rc = family_me(&me);

    while (rc == 0) {
        uint32_t deaths = family_deaths(), bell = look(&s->bell);

        STEP();
        if (unit_take(s, me))
            return 0;
        STEP();
        if (deadline == KEEL_NOW || !family_spin(&spins))
            rc = family_sleep(at(&s->bell), bell, deaths, deadline, false,
                              "semaphore between processes");
        if (rc < 0 && look(&s->bell) != bell)
            family_wake(at(&s->bell), 1);
        STEP();
    }
    return rc;
}

/* One's own before another's. */
static bool unit_give(struct keel_shsemaphore *s, uint32_t me)
{
    for (int own = 1; own >= 0; own--)
        for (uint32_t i = 0; i < s->bound; i++) {
            uint32_t w = look(&s->holders[i]);

            STEP();
            if (w && (w == me || !own) &&
                atomic_compare_exchange_strong(at(&s->holders[i]), &w, 0))
                return true;
        }
    return false;
}

static int is_full(struct keel_shsemaphore *s)
{
    return mistake("keel_shsemaphore_give", s, "it is full", -EOVERFLOW);
}

int keel_shsemaphore_give(struct keel_shsemaphore *s)
{
    uint32_t me;
    int rc = family_me(&me);

    if (rc < 0)
        return rc;
    if (s->bound) {
        if (!unit_give(s, me))
            return is_full(s);
    } else {
        uint32_t w = look(&s->count);

        do
            if (w == INT32_MAX)
                return is_full(s);
        while (!atomic_compare_exchange_weak(at(&s->count), &w, w + 1));
    }
    STEP();
    atomic_fetch_add(at(&s->bell), 1);
    STEP();
    family_wake(at(&s->bell), 1);
    return 0;
}

/* ---- event: bit 0 is set or not, the rest counts the sets ---- */

void keel_shevent_init(struct keel_shevent *e)
{
    memset(e, 0, sizeof(*e));
}

void keel_shevent_set(struct keel_shevent *e)
{
    uint32_t w = look(&e->word);

    while (!(w & 1))
        if (atomic_compare_exchange_weak(at(&e->word), &w, (w + 2) | 1))
            break;
    STEP();
    /* Also when it was set: who set it may have died before this. */
    family_wake(at(&e->word), INT32_MAX);
}

void keel_shevent_clear(struct keel_shevent *e)
{
    atomic_fetch_and(at(&e->word), ~1U);
}

bool keel_shevent_is_set(const struct keel_shevent *e)
{
    return look(&e->word) & 1;
}

int keel_shevent_wait(struct keel_shevent *e, keel_ns deadline)
{
    uint32_t w = look(&e->word);

    /* Another word has been set since, even if it is clear again by now. */
    while (!(w & 1) && look(&e->word) == w) {
        int rc = family_sleep(at(&e->word), w, family_deaths(), deadline, false,
                              "event between processes");

        if (rc < 0)
            return rc;
    }
    return 0;
}

/* ---- barrier: all but `round` under the lock ---- */

int keel_shbarrier_init(struct keel_shbarrier *b, uint32_t parties)
{
    if (parties < 1 || parties > KEEL_SHBARRIER_PARTIES_MOST)
        return -EINVAL;
    memset(b, 0, sizeof(*b));
    b->parties = parties;
    return 0;
}

/* The lock is held for some instructions, never across a wait. */
static void round_end(struct keel_shbarrier *b, bool bad)
{
    uint32_t round = look(&b->round);
    uint64_t bit = 1ULL << round % 64;

    b->bad = bad ? b->bad | bit : b->bad & ~bit;
    STEP();
    atomic_store(at(&b->arrived), 0);
    STEP();
    atomic_store(at(&b->round), round + 1);
}

static void barrier_break(struct keel_shbarrier *b)
{
    atomic_store(at(&b->broken), 1);
    STEP();
    round_end(b, true);
}

/* Who died within the lock was one of the parties. */
static int barrier_hold(struct keel_shbarrier *b)
{
    int rc = word_take(at(&b->lock), KEEL_FOREVER, true,
                       "barrier between processes");

    if (rc > 0)
        barrier_break(b);
    return rc < 0 ? rc : 0;
}

static void barrier_drop(struct keel_shbarrier *b)
{
    (void)word_drop(at(&b->lock), "keel_shbarrier");
    family_wake(at(&b->round), INT32_MAX);
}

static bool member_died(const struct keel_shbarrier *b)
{
    for (uint32_t i = 0; i < b->arrived; i++)
        if (family_dead(b->members[i]))
            return true;
    return false;
}

/* After a sleep: the outcome, or 1 to sleep on.  Under the lock. */
static int barrier_look(struct keel_shbarrier *b, uint32_t round, int slept)
{
    if (look(&b->round) != round)
        return b->bad >> round % 64 & 1 ? -EPIPE : 0;
    if (slept < 0 || member_died(b)) {
        barrier_break(b);
        return slept < 0 ? slept : -EPIPE;
    }
    return 1;
}

static int barrier_sleep(struct keel_shbarrier *b, uint32_t round,
                         keel_ns deadline)
{
    for (;;) {
        uint32_t deaths = family_deaths();
        int rc, slept = 0;

        /* Looked at after `deaths`: one of the others may be dead by now. */
        rc = barrier_hold(b);
        if (rc < 0)
            return rc;
        rc = barrier_look(b, round, 0);
        barrier_drop(b);
        if (rc == 1) {
            slept = family_sleep(at(&b->round), round, deaths, deadline, false,
                                 "barrier between processes");
            STEP();
            if (slept == 0)
                continue;
            rc = barrier_hold(b);
            if (rc < 0)
                return rc;
            rc = barrier_look(b, round, slept);
            barrier_drop(b);
        }
        return rc;
    }
}

int keel_shbarrier_wait(struct keel_shbarrier *b, keel_ns deadline)
{
    uint32_t place, round, me;
    int rc = family_me(&me);

    if (rc == 0)
        rc = barrier_hold(b);
    if (rc < 0)
        return rc;
    if (b->broken) {
        barrier_drop(b);
        return -EPIPE;
    }
    place = b->arrived;
    round = look(&b->round);
    b->members[place] = me;
    STEP();
    atomic_store(at(&b->arrived), place + 1);
    STEP();
    if (place + 1 == b->parties) {
        round_end(b, false);
        STEP();
        barrier_drop(b);
        return (int)place;
    }
    (void)word_drop(at(&b->lock), "keel_shbarrier");
    rc = barrier_sleep(b, round, deadline);
    return rc < 0 ? rc : (int)place;
}

int keel_shbarrier_reset(struct keel_shbarrier *b)
{
    int rc = barrier_hold(b);

    if (rc < 0)
        return rc;
    if (b->arrived > 0)
        round_end(b, true);
    atomic_store(at(&b->broken), 0);
    barrier_drop(b);
    return 0;
}

int keel_shbarrier_abort(struct keel_shbarrier *b)
{
    int rc = barrier_hold(b);

    if (rc < 0)
        return rc;
    barrier_break(b);
    barrier_drop(b);
    return 0;
}

bool keel_shbarrier_is_broken(const struct keel_shbarrier *b)
{
    return look(&b->broken);
}

uint32_t keel_shbarrier_waiting(const struct keel_shbarrier *b)
{
    return look(&b->arrived);
}
