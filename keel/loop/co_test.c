/* SPDX-License-Identifier: MIT */
#include <keel/co.h>

#include <errno.h>
#include <pthread.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdatomic.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>

#include <cmocka.h>

#include <keel/lock.h>

#include "loop/loop.h"
#include "test/fault.h"

static int give(void *arg)
{
    return (int)(intptr_t)arg;
}

static int wait_for(void *event)
{
    return keel_event_wait(event, KEEL_FOREVER);
}

static struct keel_co *spawn(int (*fn)(void *arg), void *arg)
{
    struct keel_co *co;

    assert_int_equal(keel_spawn(NULL, fn, arg, &co), 0);
    return co;
}

/* ---- results and errors ---- */

static int joins_three(void *arg)
{
    struct keel_co *co[3];
    int result;

    (void)arg;
    for (int i = 0; i < 3; i++)
        co[i] = spawn(give, (void *)(intptr_t)(i + 7));
    for (int i = 2; i >= 0; i--) {
        assert_int_equal(keel_join(co[i], KEEL_FOREVER, &result), 0);
        assert_int_equal(result, i + 7);
    }
    return 42;
}

static void join_brings_the_result_and_run_that_of_the_first(void **state)
{
    (void)state;
    assert_int_equal(keel_run(joins_three, NULL), 42);
}

static int joins_itself(void *arg)
{
    (void)arg;
    return keel_join(keel_current(), KEEL_FOREVER, NULL);
}

static void joining_oneself_is_an_error(void **state)
{
    (void)state;
    assert_int_equal(keel_run(joins_itself, NULL), -EDEADLK);
}

static int join_it(void *co)
{
    return keel_join(co, KEEL_FOREVER, NULL);
}

static int two_join(void *arg)
{
    struct keel_event e;
    struct keel_co *co, *first;
    int result;

    (void)arg;
    keel_event_init(&e);
    co = spawn(wait_for, &e);
    first = spawn(join_it, co);
    keel_yield();
    assert_int_equal(keel_join(co, KEEL_FOREVER, NULL), -EINVAL);
    keel_event_set(&e);
    assert_int_equal(keel_join(first, KEEL_FOREVER, &result), 0);
    assert_int_equal(result, 0);
    return 0;
}

static void joining_what_somebody_else_joins_is_an_error(void **state)
{
    (void)state;
    assert_int_equal(keel_run(two_join, NULL), 0);
}

static int join_expires(void *arg)
{
    struct keel_event e;
    struct keel_co *co;

    (void)arg;
    keel_event_init(&e);
    co = spawn(wait_for, &e);
    assert_int_equal(keel_join(co, KEEL_NOW, NULL), -ETIMEDOUT);
    assert_int_equal(keel_join(co, keel_after(KEEL_MS), NULL), -ETIMEDOUT);
    keel_event_set(&e);
    return keel_join(co, KEEL_FOREVER, NULL);
}

static void a_join_that_timed_out_leaves_it_running_and_joinable(void **state)
{
    (void)state;
    assert_int_equal(keel_run(join_expires, NULL), 0);
}

static int run_again(void *arg)
{
    return keel_run(give, arg);
}

static void a_loop_inside_a_loop_is_refused(void **state)
{
    (void)state;
    assert_int_equal(keel_run(run_again, NULL), -EBUSY);
}

static void an_unknown_poller_is_refused(void **state)
{
    const char *forced = getenv("KEEL_POLLER");
    char *before = forced ? strdup(forced) : NULL;

    (void)state;
    setenv("KEEL_POLLER", "carrier-pigeon", 1);
    assert_int_equal(keel_run(give, NULL), -EINVAL);
    assert_null(keel_poller_name());
    if (before)
        setenv("KEEL_POLLER", before, 1);
    else
        unsetenv("KEEL_POLLER");
    free(before);
}

/* ---- names ---- */

static int check_name(void *want)
{
    assert_string_equal(keel_name(), want);
    return 0;
}

static int names(void *arg)
{
    const struct keel_spawn how[] = {
        {.name = "reaper"},
        {.name = "a name that is longer than there is room for"},
    };

    (void)arg;
    assert_string_equal(keel_name(), "main");
    assert_int_equal(keel_spawn(&how[0], check_name, "reaper", NULL), 0);
    assert_int_equal(
        keel_spawn(&how[1], check_name, "a name that is longer t", NULL), 0);
    assert_int_equal(keel_spawn(NULL, check_name, "co", NULL), 0);
    keel_yield();
    return 0;
}

static void a_coroutine_has_a_name_of_23_bytes(void **state)
{
    (void)state;
    assert_string_equal(keel_name(), "thread");
    assert_int_equal(keel_run(names, NULL), 0);
}

/* ---- scheduling ---- */

static char order[64];
static size_t ordered;

static int writes_twice(void *arg)
{
    for (int i = 0; i < 2; i++) {
        order[ordered++] = (char)(intptr_t)arg;
        keel_yield();
    }
    return 0;
}

static int three_write(void *arg)
{
    struct keel_co *co[3];

    (void)arg;
    for (int i = 0; i < 3; i++)
        co[i] = spawn(writes_twice, (void *)(intptr_t)('a' + i));
    for (int i = 0; i < 3; i++)
        keel_join(co[i], KEEL_FOREVER, NULL);
    return 0;
}

static void yield_lets_the_others_run_in_order(void **state)
{
    (void)state;
    ordered = 0;
    memset(order, 0, sizeof order);
    keel_run(three_write, NULL);
    assert_string_equal(order, "abcabc");
}

static int yields(void *arg)
{
    for (int i = 0; i < 1000; i++)
        keel_yield();
    return (int)(intptr_t)arg;
}

static int a_thousand(void *arg)
{
    struct keel_co *co[1000];
    int result;

    (void)arg;
    for (int i = 0; i < 1000; i++)
        co[i] = spawn(yields, (void *)(intptr_t)i);
    assert_true(keel_loop_load(keel_loop_current()) == 1001);
    for (int i = 0; i < 1000; i++) {
        assert_int_equal(keel_join(co[i], KEEL_FOREVER, &result), 0);
        assert_int_equal(result, i);
    }
    return 0;
}

/* TSan has room for 8,000 fibers, at 1.7 MB each. */
static void a_thousand_coroutines_take_turns(void **state)
{
    (void)state;
#if !defined(__SANITIZE_THREAD__)
    assert_int_equal(keel_run(a_thousand, NULL), 0);
#else
    (void)a_thousand;
    skip();
#endif
}

/* ---- the end of a loop ---- */

static int ended;

static int counts_its_end(void *event)
{
    int rc = keel_event_wait(event, KEEL_FOREVER);

    assert_int_equal(rc, -ECANCELED);
    ended++;
    return rc;
}

static struct keel_event never;

static int leaves_two_behind(void *arg)
{
    keel_event_init(&never);
    for (int i = 0; i < 2; i++)
        assert_int_equal(keel_spawn(NULL, counts_its_end, &never, NULL), 0);
    keel_yield();
    (void)arg;
    return 5;
}

static void those_left_at_the_end_are_cancelled(void **state)
{
    (void)state;
    ended = 0;
    assert_int_equal(keel_run(leaves_two_behind, NULL), 5);
    assert_int_equal(ended, 2);
    keel_event_fini(&never);
}

static int spawns_late(void *event)
{
    assert_int_equal(keel_event_wait(event, KEEL_FOREVER), -ECANCELED);
    ended = keel_spawn(NULL, give, NULL, NULL);
    return 0;
}

static int leaves_a_spawner(void *arg)
{
    (void)arg;
    keel_event_init(&never);
    assert_int_equal(keel_spawn(NULL, spawns_late, &never, NULL), 0);
    keel_yield();
    return 0;
}

static void a_stopping_loop_takes_no_new_coroutine(void **state)
{
    (void)state;
    assert_int_equal(keel_run(leaves_a_spawner, NULL), 0);
    assert_int_equal(ended, -EAGAIN);
}

/* ---- across threads ---- */

static void a_thread_spawns_joins_and_stops(void **state)
{
    struct keel_loop *loop;
    struct keel_spawn how = {0};
    struct keel_co *co[50];
    int result;

    (void)state;
    assert_int_equal(keel_loop_start("worker", &loop), 0);
    how.loop = loop;
    for (int i = 0; i < 50; i++)
        assert_int_equal(keel_spawn(&how, i % 2 ? yields : give,
                                    (void *)(intptr_t)i, &co[i]),
                         0);
    for (int i = 0; i < 50; i++) {
        assert_int_equal(keel_join(co[i], KEEL_FOREVER, &result), 0);
        assert_int_equal(result, i);
    }
    keel_loop_stop(loop);
}

static void a_thread_cancels_what_waits_on_a_loop(void **state)
{
    struct keel_loop *loop;
    struct keel_event e;
    struct keel_spawn how = {0};
    struct keel_co *co;
    int result;

    (void)state;
    keel_event_init(&e);
    assert_int_equal(keel_loop_start("worker", &loop), 0);
    how.loop = loop;
    assert_int_equal(keel_spawn(&how, wait_for, &e, &co), 0);
    assert_int_equal(keel_join(co, keel_after(KEEL_MS), NULL), -ETIMEDOUT);
    keel_cancel(co);
    assert_int_equal(keel_join(co, KEEL_FOREVER, &result), 0);
    assert_int_equal(result, -ECANCELED);
    keel_loop_stop(loop);
    keel_event_fini(&e);
}

static void stopping_a_loop_cancels_its_coroutines(void **state)
{
    struct keel_loop *loop;
    struct keel_event e;
    struct keel_spawn how = {0};
    struct keel_co *co;
    int result;

    (void)state;
    keel_event_init(&e);
    assert_int_equal(keel_loop_start("worker", &loop), 0);
    how.loop = loop;
    assert_int_equal(keel_spawn(&how, wait_for, &e, &co), 0);
    keel_loop_stop(loop);
    /* The handle outlives the loop. */
    keel_cancel(co);
    assert_int_equal(keel_join(co, KEEL_FOREVER, &result), 0);
    assert_int_equal(result, -ECANCELED);
}

static int stops_another(void *arg)
{
    struct keel_loop *loop;

    (void)arg;
    assert_int_equal(keel_loop_start("other", &loop), 0);
    keel_loop_stop(loop);
    return 0;
}

static void a_coroutine_stops_another_loop(void **state)
{
    (void)state;
    for (int i = 0; i < 20; i++)
        assert_int_equal(keel_run(stops_another, NULL), 0);
}

/* ---- stress: loops spawn on each other, threads join and cancel ---- */

enum { LOOPS = 3, ROUNDS = 60, EACH = 20 };
static struct keel_loop *loops[LOOPS];
static _Atomic long sum, want;

static int adds(void *arg)
{
    keel_yield();
    atomic_fetch_add(&sum, (long)(intptr_t)arg);
    return (int)(intptr_t)arg;
}

static int adds_or_is_cancelled(void *arg)
{
    int rc = keel_sleep(keel_after((intptr_t)arg % 3 * 100 * KEEL_US));

    atomic_fetch_add(&sum, (long)(intptr_t)arg);
    return rc;
}

static int spawns_around(void *arg)
{
    struct keel_co *co[EACH];
    int result;

    for (int r = 0; r < ROUNDS; r++) {
        for (int i = 0; i < EACH; i++) {
            struct keel_spawn how = {.loop = loops[(r + i) % LOOPS]};

            assert_int_equal(keel_spawn(&how,
                                        i % 3 ? adds : adds_or_is_cancelled,
                                        (void *)(intptr_t)(i + 1), &co[i]),
                             0);
            atomic_fetch_add(&want, i + 1);
        }
        for (int i = 0; i < EACH; i++) {
            if ((i + r) % 5 == 0)
                keel_cancel(co[i]);
            while (keel_join(co[i], keel_after((i % 4) * 50 * KEEL_US),
                             &result) < 0)
                keel_yield();
            assert_true(result == i + 1 || i % 3 == 0);
        }
    }
    (void)arg;
    return 0;
}

static void *spawner_thread(void *arg)
{
    spawns_around(arg);
    return NULL;
}

static void spawn_join_and_cancel_hold_between_loops_and_threads(void **state)
{
    struct keel_co *co[LOOPS];
    pthread_t t[2];

    (void)state;
    for (int i = 0; i < LOOPS; i++)
        assert_int_equal(keel_loop_start("stress", &loops[i]), 0);
    for (int i = 0; i < LOOPS; i++) {
        struct keel_spawn how = {.loop = loops[i]};

        assert_int_equal(keel_spawn(&how, spawns_around, NULL, &co[i]), 0);
    }
    for (int i = 0; i < 2; i++)
        assert_int_equal(pthread_create(&t[i], NULL, spawner_thread, NULL), 0);
    for (int i = 0; i < LOOPS; i++)
        assert_int_equal(keel_join(co[i], KEEL_FOREVER, NULL), 0);
    for (int i = 0; i < 2; i++)
        pthread_join(t[i], NULL);
    for (int i = 0; i < LOOPS; i++)
        keel_loop_stop(loops[i]);
    assert_int_equal(sum, want);
}

/* ---- memory ---- */

static void run_survives_each_allocation_failure(void **state)
{
    (void)state;
    for (unsigned nth = 1;; nth++) {
        int rc;

        fault_fail_alloc(nth);
        rc = keel_run(joins_itself, NULL);
        if (!fault_fired()) {
            assert_int_equal(rc, -EDEADLK);
            return;
        }
        assert_true(rc == -ENOMEM || rc == -EDEADLK);
    }
}

static int spawns_a_large_one(void *arg)
{
    const struct keel_spawn how = {.stack_bytes = 1 << 20};
    struct keel_co *co;
    int rc;

    rc = keel_spawn(&how, give, arg, &co);
    if (rc < 0)
        return rc;
    return keel_join(co, KEEL_FOREVER, NULL);
}

static void spawn_survives_each_allocation_failure(void **state)
{
    (void)state;
    for (unsigned nth = 1;; nth++) {
        int rc;

        fault_fail_alloc(nth);
        rc = keel_run(spawns_a_large_one, NULL);
        if (!fault_fired()) {
            assert_int_equal(rc, 0);
            return;
        }
        assert_true(rc == -ENOMEM || rc == 0);
        if (rc < 0)
            assert_string_not_equal(keel_stack_error(), "");
    }
}

static void loop_start_survives_each_failure(void **state)
{
    struct keel_loop *loop = NULL;

    (void)state;
    for (unsigned nth = 1;; nth++) {
        bool fired;
        int rc;

        fault_fail_alloc(nth);
        rc = keel_loop_start("unlucky", &loop);
        fired = fault_fired();
        if (rc == 0) { /* one poller may stand in for the other */
            keel_loop_stop(loop);
            loop = NULL;
        } else {
            assert_int_equal(rc, -ENOMEM);
            assert_null(loop);
        }
        if (!fired)
            break;
    }
    fault_fail(KEEL_OP_THREAD, 1, EAGAIN);
    assert_int_equal(keel_loop_start("unlucky", &loop), -EAGAIN);
    assert_true(fault_fired());
    assert_null(loop);
}

static char *deepest(char *buf, size_t size)
{
    volatile char *p = buf;

    for (size_t i = 0; i < size; i += 512)
        p[i] = (char)i;
    return buf;
}

static int uses_a_megabyte(void *arg)
{
    char buf[900 * 1024];

    (void)arg;
    return deepest(buf, sizeof buf) ? 3 : 0;
}

static int runs_a_large_one(void *arg)
{
    const struct keel_spawn how = {.stack_bytes = 1 << 20};
    struct keel_co *co;
    int result = 0;

    (void)arg;
    for (int i = 0; i < 3; i++) {
        assert_int_equal(keel_spawn(&how, uses_a_megabyte, NULL, &co), 0);
        assert_int_equal(keel_join(co, KEEL_FOREVER, &result), 0);
    }
    return result;
}

static void a_stack_is_as_large_as_asked(void **state)
{
    (void)state;
    assert_int_equal(keel_run(runs_a_large_one, NULL), 3);
}

/* ---- stacks that come again ---- */

enum { MANY = 3000 }; /* more than are kept warm */

static int writes_and_waits(void *event)
{
    char deep[6000];

    deepest(deep, sizeof deep);
    return keel_event_wait(event, KEEL_FOREVER) < 0 ? -EIO : 0;
}

static void many_at_once(int round)
{
    keel_auto(group) struct keel_group *g = NULL;
    struct keel_spawn how = {.name = "one of many"};
    struct keel_event go;

    keel_event_init(&go);
    assert_int_equal(keel_group_new(0, &g), 0);
    how.group = g;
    for (int i = 0; i < MANY; i++)
        assert_int_equal(keel_spawn(&how, writes_and_waits, &go, NULL), 0);
    for (int i = 0; i < 3; i++)
        keel_yield();
    /* In one round they are cancelled, in the others woken. */
    if (round == 1)
        keel_group_cancel(g);
    else
        keel_event_set(&go);
    assert_int_equal(keel_group_join(g, KEEL_FOREVER), round == 1 ? -EIO : 0);
    keel_event_fini(&go);
    /* Each millisecond gives back the pages of some. */
    assert_int_equal(keel_sleep(keel_after(40 * KEEL_MS)), 0);
}

static int many_again(void *arg)
{
    (void)arg;
    for (int round = 0; round < 4; round++)
        many_at_once(round);
    return 5;
}

static void stacks_whose_pages_were_given_back_are_used_again(void **state)
{
    (void)state;
    assert_int_equal(keel_run(many_again, NULL), 5);
}

struct sleeper {
    struct keel_event go;
    char *page; /* wholly below where it waits */
    int sum;
};

static __attribute__((noinline)) char *goes_deep(void)
{
    char deep[24 * 1024];

    return (char *)(((uintptr_t)deepest(deep, sizeof deep) + 8191) & ~4095UL);
}

static int goes_deep_and_waits(void *arg)
{
    struct sleeper *s = arg;
    volatile char own[2000];

    s->page = goes_deep();
    for (int i = 0; i < 2000; i++)
        own[i] = (char)(i % 50);
    keel_event_wait(&s->go, KEEL_FOREVER);
    for (int i = 0; i < 2000; i++)
        s->sum += own[i];
    return 0;
}

static bool is_resident(char *page)
{
    unsigned char there;

    assert_int_equal(mincore(page, 1, &there), 0);
    return there & 1;
}

static int lets_one_wait(void *arg)
{
    struct sleeper s = {.sum = 0};
    struct keel_co *co;

    (void)arg;
    keel_event_init(&s.go);
    co = spawn(goes_deep_and_waits, &s);
    keel_yield();
    loop_cool(keel_loop_current(), keel_now());
    assert_true(is_resident(s.page));
    loop_cool(keel_loop_current(), keel_after(60 * KEEL_SECOND));
    assert_false(is_resident(s.page));
    keel_event_set(&s.go);
    assert_int_equal(keel_join(co, KEEL_FOREVER, NULL), 0);
    keel_event_fini(&s.go);
    return s.sum;
}

static void
who_waits_for_long_gives_back_the_cold_pages_of_its_stack(void **state)
{
    (void)state;
#if defined(__SANITIZE_ADDRESS__)
    skip(); /* its frames may lie elsewhere (detect_stack_use_after_return) */
#endif
    assert_int_equal(keel_run(lets_one_wait, NULL), 40 * 49 * 25);
}

static int lets_the_loop_find_one(void *arg)
{
    struct keel_loop *loop = keel_loop_current();
    struct sleeper s = {.sum = 0};
    struct keel_co *co;

    (void)arg;
    keel_event_init(&s.go);
    co = spawn(goes_deep_and_waits, &s);
    keel_yield();
    co->body->since -= 60 * KEEL_SECOND;
    loop->cool_at = keel_now();
    for (int looks = 0; is_resident(s.page) && looks < 20000; looks++)
        keel_sleep(keel_after(KEEL_MS));
    assert_false(is_resident(s.page));
    keel_event_set(&s.go);
    assert_int_equal(keel_join(co, KEEL_FOREVER, NULL), 0);
    keel_event_fini(&s.go);
    return s.sum;
}

static void a_loop_looks_for_cold_pages_when_it_has_nothing_to_do(void **state)
{
    (void)state;
#if defined(__SANITIZE_ADDRESS__)
    skip();
#endif
    assert_int_equal(keel_run(lets_the_loop_find_one, NULL), 40 * 49 * 25);
}

/* 1,024 free stacks stay as they are, and some hundreds of the loop's. */
enum { CROWD = 2400, CROWD_AT_ONCE = 100 };

static unsigned residents(struct sleeper *s)
{
    unsigned n = 0;

    for (int i = 0; i < CROWD; i++)
        n += is_resident(s[i].page);
    return n;
}

static int lets_a_crowd_end(void *arg)
{
    struct sleeper *s = calloc(CROWD, sizeof(*s));
    struct keel_co *co[CROWD];

    (void)arg;
    assert_non_null(s);
    for (int i = 0; i < CROWD; i++) {
        keel_event_init(&s[i].go);
        co[i] = spawn(goes_deep_and_waits, &s[i]);
    }
    keel_yield();
    assert_int_equal(residents(s), CROWD);
    for (int i = 0; i < CROWD; i++) {
        keel_event_set(&s[i].go);
        assert_int_equal(keel_join(co[i], KEEL_FOREVER, NULL), 0);
        if (i % CROWD_AT_ONCE == 0)
            keel_sleep(keel_after(KEEL_US));
    }
    for (int looks = 0; residents(s) == CROWD && looks < 5000; looks++)
        keel_sleep(keel_after(KEEL_MS));
    assert_true(residents(s) < CROWD);
    free(s);
    return 0;
}

static void free_stacks_beyond_a_thousand_give_back_their_pages(void **state)
{
    (void)state;
#if defined(__SANITIZE_ADDRESS__)
    skip();
#endif
    assert_int_equal(keel_run(lets_a_crowd_end, NULL), 0);
}

static _Atomic(struct keel_co *) nobodys;
static atomic_bool was_cancelled;

/* Does not wait: the cancel cannot be taken before it has ended. */
static int ends_with_a_cancel_under_way(void *arg)
{
    (void)arg;
    nobodys = keel_current();
    while (!was_cancelled)
        ;
    return 0;
}

static int sleeps_a_little(void *arg)
{
    (void)arg;
    return keel_sleep(keel_after(KEEL_MS));
}

static void a_cancel_under_way_is_not_the_next_ones(void **state)
{
    const char *const names[] = {"first", "second"};
    struct keel_loop *loop;
    struct keel_co *co;
    int result;

    (void)state;
    assert_int_equal(keel_loop_start("late", &loop), 0);
    for (int round = 0; round < 50; round++) {
        struct keel_spawn how = {.name = names[round % 2], .loop = loop};

        nobodys = NULL;
        was_cancelled = false;
        assert_int_equal(
            keel_spawn(&how, ends_with_a_cancel_under_way, NULL, NULL), 0);
        while (!nobodys)
            ;
        keel_cancel(nobodys);
        was_cancelled = true;
        assert_int_equal(keel_spawn(&how, give, NULL, NULL), 0);
        assert_int_equal(keel_spawn(&how, sleeps_a_little, NULL, &co), 0);
        assert_int_equal(keel_join(co, KEEL_FOREVER, &result), 0);
        assert_int_equal(result, 0);
    }
    keel_loop_stop(loop);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(spawn_survives_each_allocation_failure),
        cmocka_unit_test(run_survives_each_allocation_failure),
        cmocka_unit_test(loop_start_survives_each_failure),
        cmocka_unit_test(join_brings_the_result_and_run_that_of_the_first),
        cmocka_unit_test(joining_oneself_is_an_error),
        cmocka_unit_test(joining_what_somebody_else_joins_is_an_error),
        cmocka_unit_test(a_join_that_timed_out_leaves_it_running_and_joinable),
        cmocka_unit_test(a_loop_inside_a_loop_is_refused),
        cmocka_unit_test(an_unknown_poller_is_refused),
        cmocka_unit_test(a_coroutine_has_a_name_of_23_bytes),
        cmocka_unit_test(yield_lets_the_others_run_in_order),
        cmocka_unit_test(a_thousand_coroutines_take_turns),
        cmocka_unit_test(those_left_at_the_end_are_cancelled),
        cmocka_unit_test(a_stopping_loop_takes_no_new_coroutine),
        cmocka_unit_test(a_thread_spawns_joins_and_stops),
        cmocka_unit_test(a_thread_cancels_what_waits_on_a_loop),
        cmocka_unit_test(stopping_a_loop_cancels_its_coroutines),
        cmocka_unit_test(a_coroutine_stops_another_loop),
        cmocka_unit_test(spawn_join_and_cancel_hold_between_loops_and_threads),
        cmocka_unit_test(a_stack_is_as_large_as_asked),
        cmocka_unit_test(stacks_whose_pages_were_given_back_are_used_again),
        cmocka_unit_test(a_cancel_under_way_is_not_the_next_ones),
        cmocka_unit_test(
            who_waits_for_long_gives_back_the_cold_pages_of_its_stack),
        cmocka_unit_test(a_loop_looks_for_cold_pages_when_it_has_nothing_to_do),
        cmocka_unit_test(free_stacks_beyond_a_thousand_give_back_their_pages),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
