/* SPDX-License-Identifier: MIT */
/* Workers: start, join, deadlines, cancels, names. */
#include "conform.h"

#include <stdio.h>

/* ---- jobs ---- */

static int gives(struct conform *c, int arg)
{
    (void)c;
    return arg;
}

static int waits_for_event(struct conform *c, int which)
{
    EXPECT(c->sync->event_wait(c->w, which, SOON) == 0);
    return 7;
}

/* Says by event 0 that it is about to wait. */
static int waits_until_cancelled(struct conform *c, int arg)
{
    (void)arg;
    c->sync->event_set(c->w, 0);
    EXPECT(c->sync->event_wait(c->w, 1, SOON) == -ECANCELED);
    return 7;
}

/* ---- start and join ---- */

static void a_result_comes_back(struct conform *c)
{
    assert_int_equal(end(begin(c, gives, 7)), 7);
    assert_int_equal(end(begin(c, gives, 0)), 0);
}

static void each_has_its_argument_and_result(struct conform *c)
{
    struct worker *w[8];

    for (int i = 0; i < 8; i++)
        w[i] = begin(c, gives, i * 3);
    for (int i = 7; i >= 0; i--)
        assert_int_equal(end(w[i]), i * 3);
}

static void a_result_nobody_asks_for_is_dropped(struct conform *c)
{
    struct worker *w = begin(c, gives, 7);

    assert_int_equal(c->worker->join(w, SOON, NULL), 0);
    keel_process_free(keel_take(w->process));
}

static void a_join_after_the_end_has_the_result(struct conform *c)
{
    struct worker *w = begin(c, gives, 5);
    int result = -1, rc;

    do { /* a join that does not wait says whether it has ended */
        assert_int_equal(keel_sleep(keel_after(KEEL_MS / 10)), 0);
        rc = c->worker->join(w, KEEL_NOW, &result);
    } while (rc == -ETIMEDOUT);
    assert_int_equal(rc, 0);
    assert_int_equal(result, 5);
    keel_process_free(keel_take(w->process));
}

static void a_join_that_times_out_leaves_it_running(struct conform *c)
{
    struct worker *w = begin(c, waits_for_event, 0);
    keel_ns at = SHORTLY;

    assert_int_equal(c->worker->join(w, at, NULL), -ETIMEDOUT);
    assert_true(keel_now() >= at);
    assert_int_equal(c->worker->join(w, SHORTLY, NULL), -ETIMEDOUT);
    c->sync->event_set(c->w, 0);
    assert_int_equal(end(w), 7);
}

static void a_join_by_a_deadline_in_the_past_does_not_wait(struct conform *c)
{
    struct worker *w = begin(c, waits_for_event, 0);
    int result = -1;

    assert_int_equal(c->worker->join(w, KEEL_NOW, &result), -ETIMEDOUT);
    assert_int_equal(c->worker->join(w, -5, &result), -ETIMEDOUT);
    assert_int_equal(c->worker->join(w, 1, &result), -ETIMEDOUT);
    assert_int_equal(c->worker->join(w, keel_now() - 1, &result), -ETIMEDOUT);
    assert_int_equal(result, -1); /* outputs are written only on success */
    c->sync->event_set(c->w, 0);
    assert_int_equal(end(w), 7);
}

static void a_join_without_deadline_waits(struct conform *c)
{
    struct worker *w = begin(c, waits_for_event, 0);
    int result = -1;

    c->sync->event_set(c->w, 0);
    assert_int_equal(c->worker->join(w, KEEL_FOREVER, &result), 0);
    assert_int_equal(result, 7);
    keel_process_free(keel_take(w->process));
}

static int joins_itself(struct conform *c, int arg)
{
    (void)arg;
    EXPECT(c->worker->join_itself(SOON) == -EDEADLK);
    EXPECT(c->worker->join_itself(KEEL_NOW) == -EDEADLK);
    return 7;
}

static void joining_oneself_is_an_error(struct conform *c)
{
    assert_int_equal(end(begin(c, joins_itself, 0)), 7);
}

/* In this program: joins the worker of that index. */
static int joins(struct conform *c, int index)
{
    int result = -1;

    c->sync->event_set(c->w, 2);
    EXPECT(c->worker->join(&c->workers[index], SOON, &result) == 0);
    return result;
}

static void joining_what_another_joins_is_an_error(struct conform *c)
{
    struct worker *w = begin(c, waits_for_event, 0), *other;
    const struct worker_verbs *verbs = begin_here(c, joins, 0, &other);
    int result = -1, rc;

    wait_event(c, 2);
    do { /* it is on its way into the join */
        rc = c->worker->join(w, keel_after(KEEL_MS), NULL);
    } while (rc == -ETIMEDOUT);
    assert_int_equal(rc, -EINVAL);
    c->sync->event_set(c->w, 0);
    assert_int_equal(verbs->join(other, SOON, &result), 0);
    assert_int_equal(result, 7);
}

static void several_may_join_a_process_again_and_again(struct conform *c)
{
    struct worker *w = begin(c, waits_for_event, 0), *other;
    const struct worker_verbs *verbs = begin_here(c, joins, 0, &other);
    int result = -1;

    c->sync->event_set(c->w, 0);
    assert_int_equal(c->worker->join(w, SOON, &result), 0);
    assert_int_equal(result, 7);
    assert_int_equal(verbs->join(other, SOON, &result), 0);
    assert_int_equal(result, 7);
    assert_int_equal(end(w), 7);
}

static int joins_until_cancelled(struct conform *c, int index)
{
    c->sync->event_set(c->w, 2);
    EXPECT(c->worker->join(&c->workers[index], SOON, NULL) == -ECANCELED);
    return 9;
}

static void who_joins_can_be_cancelled_and_the_handle_stays(struct conform *c)
{
    struct worker *w = begin(c, waits_for_event, 0), *other;
    const struct worker_verbs *verbs =
        begin_here(c, joins_until_cancelled, 0, &other);
    int result = -1;

    wait_event(c, 2);
    verbs->cancel(other);
    assert_int_equal(verbs->join(other, SOON, &result), 0);
    assert_int_equal(result, 9);
    c->sync->event_set(c->w, 0);
    assert_int_equal(end(w), 7);
}

static int counts_up(struct conform *c, int arg)
{
    atomic_fetch_add(&c->w->number[0], arg);
    c->sync->event_set(c->w, 0);
    return 7;
}

static void who_is_let_go_runs_all_the_same(struct conform *c)
{
    struct worker *w = &c->workers[c->started++];

    *w = (struct worker){.c = c, .fn = counts_up, .arg = 3, .name = "free"};
    c->worker->let_go(w);
    wait_event(c, 0);
    assert_int_equal(c->w->number[0], 3);
}

static int has_two_of_its_own(struct conform *c, int arg)
{
    struct conform *mine = keel_calloc(1, sizeof(*mine));
    int sum = 0;

    EXPECT(mine);
    *mine = (struct conform){.kind = c->kind,
                             .worker = c->worker,
                             .w = c->w,
                             .memory = c->memory,
                             .loop = c->loop};
    for (int i = 0; i < 2; i++) {
        struct worker *w = &mine->workers[i];
        int result = -1;

        *w = (struct worker){
            .c = mine, .fn = gives, .arg = arg + i, .name = "child"};
        EXPECT(c->worker->start(w) == 0);
        EXPECT(c->worker->join(w, SOON, &result) == 0);
        keel_process_free(keel_take(w->process));
        sum += result;
    }
    keel_free(mine);
    return sum;
}

static void a_worker_starts_workers(struct conform *c)
{
    assert_int_equal(end(begin(c, has_two_of_its_own, 10)), 21);
}

static void many_run_at_the_same_time(struct conform *c)
{
    struct worker *w[24];

    assert_int_equal(c->sync->barrier_init(c->w, 1), 0);
    for (int i = 0; i < 24; i++)
        w[i] = begin(c, waits_for_event, 0);
    c->sync->event_set(c->w, 0);
    for (int i = 0; i < 24; i++)
        assert_int_equal(end(w[i]), 7);
}

/* ---- cancel ---- */

static int meets_a_cancel(struct conform *c, int arg)
{
    (void)arg;
    EXPECT(c->sync->event_wait(c->w, 1, SOON) == -ECANCELED);
    return 7;
}

static void a_cancel_before_the_start_shows_at_the_first_wait(struct conform *c)
{
    struct worker *w = &c->workers[c->started++];

    *w = (struct worker){.c = c, .fn = meets_a_cancel, .name = "early"};
    assert_int_equal(c->worker->start_cancelled(w), 0);
    assert_int_equal(end(w), 7);
}

static void a_cancel_ends_the_wait(struct conform *c)
{
    struct worker *w = begin(c, waits_until_cancelled, 0);

    wait_event(c, 0);
    assert_int_equal(c->worker->join(w, SHORTLY, NULL), -ETIMEDOUT);
    c->worker->cancel(w);
    assert_int_equal(end(w), 7);
}

static void a_second_cancel_changes_nothing(struct conform *c)
{
    struct worker *w = begin(c, waits_until_cancelled, 0);

    wait_event(c, 0);
    c->worker->cancel(w);
    c->worker->cancel(w);
    assert_int_equal(end(w), 7);
}

static void a_cancel_after_the_end_leaves_the_result(struct conform *c)
{
    struct worker *w = begin(c, counts_up, 1);

    wait_event(c, 0);
    assert_int_equal(keel_sleep(SHORTLY), 0);
    c->worker->cancel(w); /* has ended, most likely; its result is its own */
    assert_int_equal(end(w), 7);
}

/* What can be waited in; 2 is the event that is never set. */
enum { IN_SLEEP, IN_EVENT, IN_LOCK, IN_RLOCK, IN_SEMAPHORE, IN_COND, WAITS };

static bool never(void *arg)
{
    (void)arg;
    return false;
}

static int wait_in(struct conform *c, int way, keel_ns deadline)
{
    int rc, dropped;

    switch (way) {
    case IN_SLEEP:
        return keel_sleep(deadline);
    case IN_EVENT:
        return c->sync->event_wait(c->w, 2, deadline);
    case IN_LOCK:
        return c->sync->take(c->w, deadline);
    case IN_RLOCK:
        return c->sync->rlock_take(c->w, deadline);
    case IN_SEMAPHORE:
        return c->sync->semaphore_take(c->w, deadline);
    default:
        rc = c->sync->take(c->w, SOON);
        if (rc < 0)
            return rc;
        rc = c->sync->cond_wait_for(c->w, never, NULL, deadline);
        dropped = c->sync->drop(c->w);
        return dropped < 0 ? dropped : rc;
    }
}

static int is_cancelled_for_good(struct conform *c, int way)
{
    c->sync->event_set(c->w, 0);
    EXPECT(wait_in(c, way, SOON) == -ECANCELED);
    EXPECT(keel_cancelled());
    EXPECT(keel_sleep(SOON) == -ECANCELED);
    EXPECT(c->sync->event_wait(c->w, 2, SOON) == -ECANCELED);
    EXPECT(keel_sleep(KEEL_FOREVER) == -ECANCELED);
    return way;
}

/* What is waited for is held by the case. */
static void hold_all(struct conform *c, int way)
{
    assert_int_equal(c->sync->semaphore_init(c->w, 0, 0), 0);
    if (way == IN_LOCK)
        assert_int_equal(c->sync->take(c->w, SOON), 0);
    if (way == IN_RLOCK)
        assert_int_equal(c->sync->rlock_take(c->w, SOON), 0);
}

static void drop_all(struct conform *c, int way)
{
    if (way == IN_LOCK)
        assert_int_equal(c->sync->drop(c->w), 0);
    if (way == IN_RLOCK)
        assert_int_equal(c->sync->rlock_drop(c->w), 0);
}

static void a_cancel_is_sticky_whatever_is_waited_for(struct conform *c)
{
    for (int way = 0; way < WAITS; way++) {
        struct worker *w;

        hold_all(c, way);
        w = begin(c, is_cancelled_for_good, way);
        wait_event(c, 0);
        c->sync->event_clear(c->w, 0);
        assert_int_equal(c->worker->join(w, keel_after(KEEL_MS), NULL),
                         -ETIMEDOUT);
        c->worker->cancel(w);
        assert_int_equal(end(w), way);
        drop_all(c, way);
    }
}

static int shields_itself(struct conform *c, int arg)
{
    (void)arg;
    keel_shield();
    keel_shield(); /* nests */
    c->sync->event_set(c->w, 0);
    EXPECT(c->sync->event_wait(c->w, 1, SOON) == 0);
    keel_unshield();
    EXPECT(keel_cancelled());
    EXPECT(keel_sleep(keel_after(KEEL_MS)) == 0);
    keel_unshield();
    EXPECT(keel_sleep(SOON) == -ECANCELED);
    return 7;
}

static void who_shields_itself_waits_in_peace(struct conform *c)
{
    struct worker *w = begin(c, shields_itself, 0);

    wait_event(c, 0);
    c->worker->cancel(w);
    assert_int_equal(c->worker->join(w, SHORTLY, NULL), -ETIMEDOUT);
    c->sync->event_set(c->w, 1);
    assert_int_equal(end(w), 7);
}

static int is_woken_then_cancelled(struct conform *c, int arg)
{
    (void)arg;
    c->sync->event_set(c->w, 0);
    EXPECT(c->sync->event_wait(c->w, 1, SOON) == 0);
    while (!keel_cancelled())
        keel_yield();
    EXPECT(keel_sleep(SOON) == -ECANCELED);
    return 7;
}

static void a_wait_woken_and_cancelled_reports_the_wake(struct conform *c)
{
    struct worker *w = begin(c, is_woken_then_cancelled, 0);

    wait_event(c, 0);
    assert_int_equal(keel_sleep(SHORTLY), 0); /* it waits by now */
    c->sync->event_set(c->w, 1);
    c->worker->cancel(w);
    assert_int_equal(end(w), 7);
}

/* ---- deadlines ---- */

static int times_out(struct conform *c, int way)
{
    keel_ns at;

    EXPECT(wait_in(c, way, KEEL_NOW) == (way == IN_SLEEP ? 0 : -ETIMEDOUT));
    EXPECT(wait_in(c, way, keel_now() - KEEL_MS) ==
           (way == IN_SLEEP ? 0 : -ETIMEDOUT));
    at = SHORTLY;
    EXPECT(wait_in(c, way, at) == (way == IN_SLEEP ? 0 : -ETIMEDOUT));
    EXPECT(keel_now() >= at);
    return way;
}

static void each_wait_ends_at_its_deadline_not_before(struct conform *c)
{
    for (int way = 0; way < WAITS; way++) {
        hold_all(c, way);
        assert_int_equal(end(begin(c, times_out, way)), way);
        drop_all(c, way);
    }
}

static int is_bounded_by_scopes(struct conform *c, int way)
{
    struct keel_timeout outer, inner;
    keel_ns at = SHORTLY;

    keel_timeout_begin(&outer, at);
    keel_timeout_begin(&inner, SOON); /* later: the outer one counts */
    EXPECT(wait_in(c, way, KEEL_FOREVER) == -ETIMEDOUT);
    EXPECT(keel_now() >= at);
    keel_timeout_end(&inner);
    EXPECT(wait_in(c, way, SOON) == -ETIMEDOUT);
    keel_timeout_end(&outer);

    keel_timeout_begin(&outer, SOON);
    at = SHORTLY;
    keel_timeout_begin(&inner, at);
    EXPECT(wait_in(c, way, KEEL_FOREVER) == -ETIMEDOUT);
    EXPECT(keel_now() >= at);
    keel_timeout_end(&inner);
    keel_timeout_end(&outer);
    return way;
}

static void the_earliest_of_nested_scopes_counts(struct conform *c)
{
    for (int way = 0; way < WAITS; way++) {
        hold_all(c, way);
        assert_int_equal(end(begin(c, is_bounded_by_scopes, way)), way);
        drop_all(c, way);
    }
}

static int does_what_can_be_done(struct conform *c, int arg)
{
    (void)arg;
    EXPECT(c->sync->take(c->w, KEEL_NOW) == 0);
    EXPECT(c->sync->drop(c->w) == 0);
    EXPECT(c->sync->rlock_take(c->w, KEEL_NOW) == 0);
    EXPECT(c->sync->rlock_drop(c->w) == 0);
    EXPECT(c->sync->semaphore_take(c->w, KEEL_NOW) == 0);
    EXPECT(c->sync->event_wait(c->w, 0, -1) == 0);
    return 7;
}

static void
what_can_be_done_at_once_is_done_past_the_deadline(struct conform *c)
{
    assert_int_equal(c->sync->semaphore_init(c->w, 1, 1), 0);
    c->sync->event_set(c->w, 0);
    assert_int_equal(end(begin(c, does_what_can_be_done, 0)), 7);
}

/* ---- who is who ---- */

static int knows_its_name(struct conform *c, int arg)
{
    const char *name = c->worker->own_name();

    if (strcmp(name, "alice") != 0)
        (void)fprintf(stderr, "it is named '%s'\n", name);
    EXPECT(strcmp(name, "alice") == 0);
    return arg;
}

static void a_worker_knows_its_name(struct conform *c)
{
    assert_int_equal(end(begin_named(c, "alice", knows_its_name, 3)), 3);
}

static void the_living_are_counted(struct conform *c)
{
    size_t before = c->worker->count(c);
    struct worker *w = begin(c, waits_for_event, 0);

    assert_int_equal(c->worker->count(c), before + 1);
    c->sync->event_set(c->w, 0);
    assert_int_equal(end(w), 7);
    assert_int_equal(c->worker->count(c), before);
}

static void it_is_alive_until_it_ends(struct conform *c)
{
    struct worker *w = begin(c, waits_for_event, 0);

    assert_true(c->worker->is_alive(w));
    assert_int_equal(c->worker->join(w, SHORTLY, NULL), -ETIMEDOUT);
    assert_true(c->worker->is_alive(w));
    c->sync->event_set(c->w, 0);
    while (c->worker->is_alive(w))
        assert_int_equal(keel_sleep(keel_after(KEEL_MS / 10)), 0);
    assert_int_equal(c->worker->join(w, SOON, NULL), 0);
    keel_process_free(keel_take(w->process));
}

static int is_a_coroutine_or_not(struct conform *c, int arg)
{
    (void)arg;
    EXPECT((keel_current() != NULL) == (c->kind->is == COROUTINE));
    EXPECT((keel_thread_current() != NULL) == (c->kind->is == THREAD));
    EXPECT((keel_process_name_here() != NULL) == (c->kind->is == PROCESS));
    return 7;
}

static void a_worker_knows_of_what_kind_it_is(struct conform *c)
{
    assert_int_equal(end(begin(c, is_a_coroutine_or_not, 0)), 7);
}

#define HAS_NO_HANDLE "a process has no handle of itself"
#define STAYS "a process's handle stays: it has more to tell than the result"
#define JOIN_SAYS "a coroutine's join with KEEL_NOW says so"
#define IS_FREED "the first join frees the handle"

const struct conform_case worker_cases[] = {
    {"a result comes back", a_result_comes_back},
    {"each has its argument and result", each_has_its_argument_and_result},
    {"a result nobody asks for is dropped",
     a_result_nobody_asks_for_is_dropped},
    {"a join after the end has the result",
     a_join_after_the_end_has_the_result},
    {"a join that times out leaves it running",
     a_join_that_times_out_leaves_it_running},
    {"a join by a deadline in the past does not wait",
     a_join_by_a_deadline_in_the_past_does_not_wait},
    {"a join without deadline waits", a_join_without_deadline_waits},
    {"joining oneself is an error",
     joining_oneself_is_an_error,
     {[PROCESS] = HAS_NO_HANDLE}},
    {"joining what another joins is an error",
     joining_what_another_joins_is_an_error,
     {[PROCESS] = STAYS}},
    {"several may join a process, again and again",
     several_may_join_a_process_again_and_again,
     {[COROUTINE] = IS_FREED, [THREAD] = IS_FREED}},
    {"who joins can be cancelled, and the handle stays",
     who_joins_can_be_cancelled_and_the_handle_stays},
    {"who is let go runs all the same", who_is_let_go_runs_all_the_same},
    {"a worker starts workers", a_worker_starts_workers},
    {"many run at the same time", many_run_at_the_same_time},
    {"a cancel before the start shows at the first wait",
     a_cancel_before_the_start_shows_at_the_first_wait},
    {"a cancel ends the wait", a_cancel_ends_the_wait},
    {"a second cancel changes nothing", a_second_cancel_changes_nothing},
    {"a cancel after the end leaves the result",
     a_cancel_after_the_end_leaves_the_result},
    {"a cancel is sticky, whatever is waited for",
     a_cancel_is_sticky_whatever_is_waited_for},
    {"who shields itself waits in peace", who_shields_itself_waits_in_peace},
    {"a wait woken and cancelled reports the wake",
     a_wait_woken_and_cancelled_reports_the_wake},
    {"each wait ends at its deadline, not before",
     each_wait_ends_at_its_deadline_not_before},
    {"the earliest of nested scopes counts",
     the_earliest_of_nested_scopes_counts},
    {"what can be done at once is done past the deadline",
     what_can_be_done_at_once_is_done_past_the_deadline},
    {"a worker knows its name", a_worker_knows_its_name},
    {"the living are counted", the_living_are_counted},
    {"it is alive until it ends",
     it_is_alive_until_it_ends,
     {[COROUTINE] = JOIN_SAYS}},
    {"a worker knows of what kind it is", a_worker_knows_of_what_kind_it_is},
};
const size_t worker_case_count = sizeof(worker_cases) / sizeof(*worker_cases);
