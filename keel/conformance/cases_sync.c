/* SPDX-License-Identifier: MIT */
/* Locks, conditions, semaphores, events, barriers, once. */
#include "conform.h"

/* ---- lock ---- */

enum { ROUNDS = 300 };

static int counts_under_the_lock(struct conform *c, int arg)
{
    for (int i = 0; i < ROUNDS; i++) {
        int seen;

        EXPECT(c->sync->take(c->w, SOON) == 0);
        seen = c->w->plain;
        if (i % 16 == 0)
            keel_yield(); /* the others find it held */
        c->w->plain = seen + 1;
        EXPECT(c->sync->drop(c->w) == 0);
    }
    return arg;
}

static void a_lock_is_held_by_one(struct conform *c)
{
    struct worker *w[4];

    for (int i = 0; i < 4; i++)
        w[i] = begin(c, counts_under_the_lock, i);
    for (int i = 0; i < 4; i++)
        assert_int_equal(end(w[i]), i);
    assert_int_equal(c->w->plain, 4 * ROUNDS);
}

static int drops_the_lock(struct conform *c, int arg)
{
    EXPECT(c->sync->drop(c->w) == 0);
    return arg;
}

static void a_lock_may_be_dropped_by_another(struct conform *c)
{
    assert_int_equal(c->sync->take(c->w, SOON), 0);
    assert_int_equal(end(begin(c, drops_the_lock, 7)), 7);
    assert_int_equal(c->sync->take(c->w, KEEL_NOW), 0);
    assert_int_equal(c->sync->drop(c->w), 0);
}

static int takes_and_keeps(struct conform *c, int arg)
{
    EXPECT(c->sync->take(c->w, SOON) == 0);
    c->sync->event_set(c->w, 0);
    EXPECT(c->sync->event_wait(c->w, 1, SOON) == 0);
    EXPECT(c->sync->drop(c->w) == 0);
    return arg;
}

static void a_held_lock_times_out_and_comes_when_dropped(struct conform *c)
{
    struct worker *w = begin(c, takes_and_keeps, 7);
    keel_ns at;

    wait_event(c, 0);
    assert_int_equal(c->sync->take(c->w, KEEL_NOW), -ETIMEDOUT);
    at = SHORTLY;
    assert_int_equal(c->sync->take(c->w, at), -ETIMEDOUT);
    assert_true(keel_now() >= at);
    c->sync->event_set(c->w, 1);
    assert_int_equal(c->sync->take(c->w, SOON), 0);
    assert_int_equal(c->sync->drop(c->w), 0);
    assert_int_equal(end(w), 7);
}

static void dropping_what_nobody_holds_is_an_error(struct conform *c)
{
    assert_int_equal(c->sync->drop(c->w), -EPERM);
    assert_int_equal(c->sync->take(c->w, SOON), 0);
    assert_int_equal(c->sync->drop(c->w), 0);
    assert_int_equal(c->sync->drop(c->w), -EPERM);
}

/* ---- rlock ---- */

static int takes_it_three_times(struct conform *c, int arg)
{
    for (int i = 0; i < 3; i++)
        EXPECT(c->sync->rlock_take(c->w, i ? KEEL_NOW : SOON) == 0);
    for (int i = 0; i < 3; i++) {
        c->sync->event_set(c->w, 0);
        EXPECT(c->sync->event_wait(c->w, 1, SOON) == 0);
        c->sync->event_clear(c->w, 1);
        EXPECT(c->sync->rlock_drop(c->w) == 0);
    }
    return arg;
}

static void an_rlock_is_free_when_dropped_as_often_as_taken(struct conform *c)
{
    struct worker *w = begin(c, takes_it_three_times, 7);

    for (int i = 0; i < 3; i++) {
        wait_event(c, 0);
        c->sync->event_clear(c->w, 0);
        assert_int_equal(c->sync->rlock_take(c->w, KEEL_NOW), -ETIMEDOUT);
        c->sync->event_set(c->w, 1);
    }
    assert_int_equal(c->sync->rlock_take(c->w, SOON), 0);
    assert_int_equal(c->sync->rlock_drop(c->w), 0);
    assert_int_equal(end(w), 7);
}

static int is_refused_the_drop(struct conform *c, int arg)
{
    EXPECT(c->sync->rlock_drop(c->w) == -EPERM);
    return arg;
}

static void only_its_owner_drops_an_rlock(struct conform *c)
{
    assert_int_equal(c->sync->rlock_drop(c->w), -EPERM);
    assert_int_equal(c->sync->rlock_take(c->w, SOON), 0);
    assert_int_equal(end(begin(c, is_refused_the_drop, 7)), 7);
    assert_int_equal(c->sync->rlock_drop(c->w), 0);
    assert_int_equal(c->sync->rlock_drop(c->w), -EPERM);
}

/* ---- condition ---- */

static bool has_come(void *arg)
{
    return ((struct world *)arg)->plain > 0;
}

static bool never(void *arg)
{
    (void)arg;
    return false;
}

static int waits_for_the_condition(struct conform *c, int arg)
{
    EXPECT(c->sync->take(c->w, SOON) == 0);
    atomic_fetch_add(&c->w->number[0], 1);
    EXPECT(c->sync->cond_wait_for(c->w, has_come, c->w, SOON) == 0);
    EXPECT(c->w->plain > 0);
    c->w->plain--;
    EXPECT(c->sync->drop(c->w) == 0);
    return arg;
}

static void change(struct conform *c, int by)
{
    assert_int_equal(c->sync->take(c->w, SOON), 0);
    c->w->plain += by;
    assert_int_equal(c->sync->drop(c->w), 0);
}

static void a_condition_is_waited_for_until_it_holds(struct conform *c)
{
    struct worker *w = begin(c, waits_for_the_condition, 7);

    while (c->w->number[0] == 0)
        assert_int_equal(keel_sleep(keel_after(KEEL_MS / 10)), 0);
    change(c, 0);
    c->sync->cond_signal(c->w); /* it looks, and waits on */
    assert_int_equal(c->worker->join(w, SHORTLY, NULL), -ETIMEDOUT);
    change(c, 1);
    c->sync->cond_signal(c->w);
    assert_int_equal(end(w), 7);
}

static void a_broadcast_wakes_all_who_wait(struct conform *c)
{
    struct worker *w[3];

    for (int i = 0; i < 3; i++)
        w[i] = begin(c, waits_for_the_condition, i);
    while (c->w->number[0] < 3)
        assert_int_equal(keel_sleep(keel_after(KEEL_MS / 10)), 0);
    change(c, 3); /* the lock is free: all of them wait */
    c->sync->cond_broadcast(c->w);
    for (int i = 0; i < 3; i++)
        assert_int_equal(end(w[i]), i);
    assert_int_equal(c->w->plain, 0);
}

static int signals_all_the_time(struct conform *c, int arg)
{
    while (!c->sync->event_is_set(c->w, 1)) {
        c->sync->cond_signal(c->w);
        EXPECT(keel_sleep(keel_after(KEEL_MS)) == 0);
    }
    return arg;
}

static void wait_for_has_one_total_deadline(struct conform *c)
{
    struct worker *w = begin(c, signals_all_the_time, 7);
    keel_ns at = keel_after(30 * KEEL_MS);

    assert_int_equal(c->sync->take(c->w, SOON), 0);
    assert_int_equal(c->sync->cond_wait_for(c->w, never, NULL, at), -ETIMEDOUT);
    assert_true(keel_now() >= at);
    assert_true(keel_now() < at + 10 * KEEL_SECOND);
    /* it was taken again */
    assert_int_equal(c->sync->take(c->w, KEEL_NOW), -ETIMEDOUT);
    assert_int_equal(c->sync->drop(c->w), 0);
    c->sync->event_set(c->w, 1);
    assert_int_equal(end(w), 7);
}

/* ---- semaphore ---- */

static int is_one_of_few(struct conform *c, int arg)
{
    for (int i = 0; i < 50; i++) {
        int inside;

        EXPECT(c->sync->semaphore_take(c->w, SOON) == 0);
        inside = atomic_fetch_add(&c->w->number[0], 1) + 1;
        EXPECT(inside <= 2);
        keel_yield();
        atomic_fetch_sub(&c->w->number[0], 1);
        EXPECT(c->sync->semaphore_give(c->w) == 0);
    }
    return arg;
}

static void a_semaphore_lets_in_as_many_as_it_counts(struct conform *c)
{
    struct worker *w[4];

    assert_int_equal(c->sync->semaphore_init(c->w, 2, 0), 0);
    for (int i = 0; i < 4; i++)
        w[i] = begin(c, is_one_of_few, i);
    for (int i = 0; i < 4; i++)
        assert_int_equal(end(w[i]), i);
}

static void a_semaphore_takes_no_more_than_its_bound(struct conform *c)
{
    assert_int_equal(c->sync->semaphore_init(c->w, 1, 1), 0);
    assert_int_equal(c->sync->semaphore_give(c->w), -EOVERFLOW);
    assert_int_equal(c->sync->semaphore_take(c->w, KEEL_NOW), 0);
    assert_int_equal(c->sync->semaphore_take(c->w, SHORTLY), -ETIMEDOUT);
    assert_int_equal(c->sync->semaphore_give(c->w), 0);
    assert_int_equal(c->sync->semaphore_give(c->w), -EOVERFLOW);
    assert_int_equal(c->sync->semaphore_take(c->w, KEEL_NOW), 0);
}

static int gives_one(struct conform *c, int arg)
{
    EXPECT(c->sync->semaphore_give(c->w) == 0);
    return arg;
}

static void a_unit_may_be_given_by_another(struct conform *c)
{
    assert_int_equal(c->sync->semaphore_init(c->w, 0, 0), 0);
    assert_int_equal(end(begin(c, gives_one, 7)), 7);
    assert_int_equal(c->sync->semaphore_take(c->w, KEEL_NOW), 0);
}

/* ---- event ---- */

static int waits_twice(struct conform *c, int arg)
{
    EXPECT(c->sync->event_wait(c->w, 0, SOON) == 0);
    EXPECT(c->sync->event_wait(c->w, 0, KEEL_NOW) == 0);
    return arg;
}

static void an_event_wakes_all_and_stays_set_until_cleared(struct conform *c)
{
    struct worker *w[3];

    assert_false(c->sync->event_is_set(c->w, 0));
    for (int i = 0; i < 3; i++)
        w[i] = begin(c, waits_twice, i);
    assert_int_equal(c->worker->join(w[0], SHORTLY, NULL), -ETIMEDOUT);
    c->sync->event_set(c->w, 0);
    for (int i = 0; i < 3; i++)
        assert_int_equal(end(w[i]), i);
    c->sync->event_set(c->w, 0); /* again: no change */
    assert_true(c->sync->event_is_set(c->w, 0));
    c->sync->event_clear(c->w, 0);
    assert_false(c->sync->event_is_set(c->w, 0));
    assert_int_equal(c->sync->event_wait(c->w, 0, KEEL_NOW), -ETIMEDOUT);
}

/* ---- barrier ---- */

/* Its place of `round` goes into the numbers from there. */
static int comes_twice(struct conform *c, int arg)
{
    for (int round = 0; round < 2; round++) {
        int place = c->sync->barrier_wait(c->w, SOON);

        EXPECT(place >= 0 && place < 3);
        atomic_fetch_add(&c->w->number[3 * round + place], 1);
    }
    return arg;
}

static void a_barrier_gives_each_its_place_again_and_again(struct conform *c)
{
    struct worker *w[3];

    assert_int_equal(c->sync->barrier_init(c->w, 3), 0);
    for (int i = 0; i < 3; i++)
        w[i] = begin(c, comes_twice, i);
    for (int i = 0; i < 3; i++)
        assert_int_equal(end(w[i]), i);
    for (int i = 0; i < 6; i++)
        assert_int_equal(c->w->number[i], 1);
}

/* 1: it was sent away. */
static int is_sent_away(struct conform *c, int arg)
{
    int rc = c->sync->barrier_wait(c->w, SOON);

    (void)arg;
    EXPECT(rc == -EPIPE);
    return 1;
}

static struct worker *one_waits(struct conform *c)
{
    struct worker *w = begin(c, is_sent_away, 0);

    while (c->sync->barrier_waiting(c->w) < 1)
        assert_int_equal(keel_sleep(keel_after(KEEL_MS / 10)), 0);
    return w;
}

static void a_barrier_timeout_breaks_it_for_all(struct conform *c)
{
    struct worker *w;

    assert_int_equal(c->sync->barrier_init(c->w, 3), 0);
    w = one_waits(c);
    assert_false(c->sync->barrier_is_broken(c->w));
    assert_int_equal(c->sync->barrier_wait(c->w, SHORTLY), -ETIMEDOUT);
    assert_int_equal(end(w), 1);
    assert_true(c->sync->barrier_is_broken(c->w));
    assert_int_equal(c->sync->barrier_wait(c->w, SOON), -EPIPE);
}

static void a_barrier_aborted_is_broken_until_reset(struct conform *c)
{
    struct worker *w, *of[3];

    assert_int_equal(c->sync->barrier_init(c->w, 3), 0);
    w = one_waits(c);
    assert_int_equal(c->sync->barrier_abort(c->w), 0);
    assert_int_equal(end(w), 1);
    assert_true(c->sync->barrier_is_broken(c->w));
    assert_int_equal(c->sync->barrier_reset(c->w), 0);
    assert_false(c->sync->barrier_is_broken(c->w));
    for (int i = 0; i < 3; i++)
        of[i] = begin(c, comes_twice, i);
    for (int i = 0; i < 3; i++)
        assert_int_equal(end(of[i]), i);
}

static void a_reset_sends_away_who_waits(struct conform *c)
{
    struct worker *w;

    assert_int_equal(c->sync->barrier_init(c->w, 2), 0);
    w = one_waits(c);
    assert_int_equal(c->sync->barrier_reset(c->w), 0);
    assert_int_equal(end(w), 1);
    assert_false(c->sync->barrier_is_broken(c->w));
    assert_int_equal(c->sync->barrier_waiting(c->w), 0);
}

static int gives_up_by_a_cancel(struct conform *c, int arg)
{
    EXPECT(c->sync->barrier_wait(c->w, SOON) == -ECANCELED);
    return arg;
}

static void who_is_cancelled_breaks_the_barrier(struct conform *c)
{
    struct worker *w, *other;

    assert_int_equal(c->sync->barrier_init(c->w, 3), 0);
    w = begin(c, gives_up_by_a_cancel, 5);
    while (c->sync->barrier_waiting(c->w) < 1)
        assert_int_equal(keel_sleep(keel_after(KEEL_MS / 10)), 0);
    other = begin(c, is_sent_away, 0);
    while (c->sync->barrier_waiting(c->w) < 2)
        assert_int_equal(keel_sleep(keel_after(KEEL_MS / 10)), 0);
    c->worker->cancel(w);
    assert_int_equal(end(w), 5);
    assert_int_equal(end(other), 1);
    assert_true(c->sync->barrier_is_broken(c->w));
}

/* ---- once ---- */

static struct keel_once once;
static int made, refusals;

static int makes(void *arg)
{
    (void)arg;
    keel_yield();
    if (refusals > 0) {
        refusals--;
        return -EAGAIN;
    }
    return ++made;
}

static int has_it_made(struct conform *c, int arg)
{
    (void)c;
    EXPECT(keel_once(&once, makes, NULL, SOON) == 1);
    return arg;
}

static void once_runs_once_and_all_have_its_result(struct conform *c)
{
    struct worker *w[10];

    once = (struct keel_once)KEEL_ONCE_INIT;
    made = 0;
    refusals = 1;
    assert_int_equal(keel_once(&once, makes, NULL, SOON), -EAGAIN);
    for (int i = 0; i < 10; i++)
        w[i] = begin(c, has_it_made, i);
    for (int i = 0; i < 10; i++)
        assert_int_equal(end(w[i]), i);
    assert_int_equal(made, 1);
}

/* ---- rwlock ---- */

static struct keel_rwlock rwlock;

static int reads_with_the_others(struct conform *c, int arg)
{
    EXPECT(keel_rwlock_take_read(&rwlock, SOON) == 0);
    atomic_fetch_add(&c->w->number[0], 1);
    EXPECT(c->sync->event_wait(c->w, 0, SOON) == 0);
    keel_rwlock_drop(&rwlock);
    return arg;
}

static void many_read_and_one_writes_alone(struct conform *c)
{
    struct worker *w[3];

    keel_rwlock_init(&rwlock);
    for (int i = 0; i < 3; i++)
        w[i] = begin(c, reads_with_the_others, i);
    while (c->w->number[0] < 3)
        assert_int_equal(keel_sleep(keel_after(KEEL_MS / 10)), 0);
    assert_int_equal(keel_rwlock_take_write(&rwlock, SHORTLY), -ETIMEDOUT);
    c->sync->event_set(c->w, 0);
    assert_int_equal(keel_rwlock_take_write(&rwlock, SOON), 0);
    assert_int_equal(keel_rwlock_take_read(&rwlock, KEEL_NOW), -ETIMEDOUT);
    keel_rwlock_drop(&rwlock);
    for (int i = 0; i < 3; i++)
        assert_int_equal(end(w[i]), i);
    keel_rwlock_fini(&rwlock);
}

#define IS_ASSERTED                                                            \
    "in one program it is a mistake, and stops it with names; between "        \
    "processes the dead may have had it"
#define MAKES_HERE "what it makes lies in the memory of one program"
#define NOT_BETWEEN "there is none between processes"

const struct conform_case sync_cases[] = {
    {"a lock is held by one", a_lock_is_held_by_one},
    {"a lock may be dropped by another", a_lock_may_be_dropped_by_another},
    {"a held lock times out, and comes when dropped",
     a_held_lock_times_out_and_comes_when_dropped},
    {"dropping what nobody holds is an error",
     dropping_what_nobody_holds_is_an_error,
     {[COROUTINE] = IS_ASSERTED, [THREAD] = IS_ASSERTED}},
    {"an rlock is free when dropped as often as taken",
     an_rlock_is_free_when_dropped_as_often_as_taken},
    {"only its owner drops an rlock",
     only_its_owner_drops_an_rlock,
     {[COROUTINE] = IS_ASSERTED, [THREAD] = IS_ASSERTED}},
    {"a condition is waited for until it holds",
     a_condition_is_waited_for_until_it_holds},
    {"a broadcast wakes all who wait", a_broadcast_wakes_all_who_wait},
    {"wait_for has one total deadline", wait_for_has_one_total_deadline},
    {"a semaphore lets in as many as it counts",
     a_semaphore_lets_in_as_many_as_it_counts},
    {"a semaphore takes no more than its bound",
     a_semaphore_takes_no_more_than_its_bound},
    {"a unit may be given by another", a_unit_may_be_given_by_another},
    {"an event wakes all and stays set until cleared",
     an_event_wakes_all_and_stays_set_until_cleared},
    {"a barrier gives each its place, again and again",
     a_barrier_gives_each_its_place_again_and_again},
    {"a barrier timeout breaks it for all",
     a_barrier_timeout_breaks_it_for_all},
    {"a barrier aborted is broken until reset",
     a_barrier_aborted_is_broken_until_reset},
    {"a reset sends away who waits", a_reset_sends_away_who_waits},
    {"who is cancelled breaks the barrier",
     who_is_cancelled_breaks_the_barrier},
    {"once runs once, and all have its result",
     once_runs_once_and_all_have_its_result,
     {[PROCESS] = MAKES_HERE}},
    {"many read and one writes alone",
     many_read_and_one_writes_alone,
     {[PROCESS] = NOT_BETWEEN}},
};
const size_t sync_case_count = sizeof(sync_cases) / sizeof(*sync_cases);
