/* SPDX-License-Identifier: MIT */
#include <keel/queue.h>

#include "test/test.h"

#include "test/fault.h"

static void *item(intptr_t n)
{
    return (void *)n;
}

static enum keel_queue_kind kinds[] = {KEEL_QUEUE_SHARED, KEEL_QUEUE_LOCAL};
#define EACH_KIND(k) for (int k = 0; k < 2; k++)

static struct keel_queue *make(size_t slots, int kind)
{
    struct keel_queue *q;

    assert_int_equal(keel_queue_new(slots, kinds[kind], &q), 0);
    return q;
}

static intptr_t get(struct keel_queue *q)
{
    void *got;

    assert_int_equal(keel_queue_get(q, KEEL_FOREVER, &got), 0);
    return (intptr_t)got;
}

/* ---- order and bounds ---- */

CO_TEST(items_come_out_in_order_and_the_bound_is_exact)
{
    EACH_KIND(k)
    for (size_t slots = 1; slots < 12; slots++) {
        keel_auto(queue) struct keel_queue *q = make(slots, k);
        intptr_t in = 1, out = 1;
        void *got;

        for (int round = 0; round < 5; round++) {
            for (size_t i = 0; i < slots; i++) {
                assert_int_equal(keel_queue_count(q), i);
                assert_int_equal(keel_queue_put(q, item(in++), KEEL_NOW), 0);
            }
            assert_int_equal(keel_queue_put(q, item(9), KEEL_NOW), -ETIMEDOUT);
            assert_int_equal(keel_queue_peek(q, &got), 0);
            assert_ptr_equal(got, item(out));
            for (size_t i = 0; i < slots; i++)
                assert_int_equal(get(q), out++);
            assert_int_equal(keel_queue_get(q, KEEL_NOW, &got), -ETIMEDOUT);
            assert_int_equal(keel_queue_peek(q, &got), -EAGAIN);
        }
    }
    return 0;
}

CO_TEST(a_queue_of_too_many_slots_is_refused)
{
    struct keel_queue *q = NULL;

    EACH_KIND(k)
    {
        assert_int_equal(keel_queue_new(SIZE_MAX, kinds[k], &q), -EINVAL);
    }
    assert_null(q);
    return 0;
}

/* ---- waiting ---- */

static int puts_five(void *q)
{
    for (intptr_t i = 1; i <= 5; i++)
        assert_int_equal(keel_queue_put(q, item(i), KEEL_FOREVER), 0);
    return 0;
}

CO_TEST(put_waits_for_room_and_get_for_an_item)
{
    EACH_KIND(k)
    {
        keel_auto(queue) struct keel_queue *q = make(2, k);
        struct keel_co *co = test_spawn(puts_five, q);

        for (intptr_t i = 1; i <= 5; i++)
            assert_int_equal(get(q), i);
        assert_int_equal(test_join(co), 0);
    }
    return 0;
}

static int put_one(void *q)
{
    return keel_queue_put(q, item(8), KEEL_FOREVER);
}

static int get_one(void *q)
{
    void *got;
    int rc = keel_queue_get(q, KEEL_FOREVER, &got);

    return rc < 0 ? rc : (int)(intptr_t)got;
}

CO_TEST(a_deadline_passes_and_nothing_is_lost)
{
    EACH_KIND(k)
    {
        keel_auto(queue) struct keel_queue *q = make(1, k);
        void *got;

        assert_int_equal(keel_queue_get(q, keel_after(KEEL_MS), &got),
                         -ETIMEDOUT);
        assert_int_equal(keel_queue_put(q, item(1), KEEL_FOREVER), 0);
        assert_int_equal(keel_queue_put(q, item(2), keel_after(KEEL_MS)),
                         -ETIMEDOUT);
        assert_int_equal(get(q), 1);
        assert_int_equal(keel_queue_count(q), 0);
    }
    return 0;
}

CO_TEST(a_cancelled_waiter_leaves_without_an_item)
{
    EACH_KIND(k)
    {
        keel_auto(queue) struct keel_queue *q = make(1, k);
        struct keel_co *first = test_spawn(get_one, q);
        struct keel_co *second = test_spawn(get_one, q);

        keel_yield();
        keel_cancel(first);
        assert_int_equal(keel_queue_put(q, item(4), KEEL_FOREVER), 0);
        assert_int_equal(test_join(first), -ECANCELED);
        assert_int_equal(test_join(second), 4);
    }
    return 0;
}

/* ---- closing ---- */

CO_TEST(a_closed_queue_refuses_puts_and_drains_gets)
{
    EACH_KIND(k)
    {
        keel_auto(queue) struct keel_queue *q = make(3, k);
        void *got;

        keel_queue_put(q, item(1), KEEL_FOREVER);
        keel_queue_put(q, item(2), KEEL_FOREVER);
        keel_queue_close(q);
        keel_queue_close(q);
        assert_int_equal(keel_queue_put(q, item(3), KEEL_FOREVER), -EPIPE);
        assert_int_equal(get(q), 1);
        assert_int_equal(get(q), 2);
        assert_int_equal(keel_queue_get(q, KEEL_FOREVER, &got), -EPIPE);
        assert_int_equal(keel_queue_count(q), 0);
    }
    return 0;
}

CO_TEST(close_wakes_those_who_wait)
{
    EACH_KIND(k)
    {
        keel_auto(queue) struct keel_queue *empty = make(1, k);
        keel_auto(queue) struct keel_queue *full = make(1, k);
        struct keel_co *co[4];

        keel_queue_put(full, item(1), KEEL_FOREVER);
        for (int i = 0; i < 2; i++)
            co[i] = test_spawn(get_one, empty);
        for (int i = 2; i < 4; i++)
            co[i] = test_spawn(put_one, full);
        keel_yield();
        keel_queue_close(empty);
        keel_queue_close(full);
        for (int i = 0; i < 4; i++)
            assert_int_equal(test_join(co[i]), -EPIPE);
    }
    return 0;
}

static int dropped;

static void count_drop(void *it)
{
    dropped += (int)(intptr_t)it;
}

static int join_it(void *q)
{
    return keel_queue_join(q, KEEL_FOREVER);
}

CO_TEST(close_now_counts_what_it_drains_as_done_and_no_more)
{
    EACH_KIND(k)
    {
        keel_auto(queue) struct keel_queue *q = make(8, k);
        struct keel_co *co;

        dropped = 0;
        for (intptr_t i = 1; i <= 4; i++)
            keel_queue_put(q, item(i), KEEL_FOREVER);
        assert_int_equal(get(q), 1);
        co = test_spawn(join_it, q);
        keel_yield();
        keel_queue_close_now(q, count_drop);
        assert_int_equal(dropped, 2 + 3 + 4);
        /* The one that was got is still unfinished. */
        assert_int_equal(keel_join(co, keel_after(KEEL_MS), NULL), -ETIMEDOUT);
        assert_int_equal(keel_queue_task_done(q), 0);
        assert_int_equal(test_join(co), 0);
        assert_int_equal(keel_queue_task_done(q), -EINVAL);
    }
    return 0;
}

/* ---- unfinished work ---- */

CO_TEST(join_waits_for_the_last_task_done)
{
    EACH_KIND(k)
    {
        keel_auto(queue) struct keel_queue *q = make(4, k);
        struct keel_co *co;

        assert_int_equal(keel_queue_join(q, KEEL_NOW), 0);
        assert_int_equal(keel_queue_task_done(q), -EINVAL);
        keel_queue_put(q, item(1), KEEL_FOREVER);
        keel_queue_put(q, item(2), KEEL_FOREVER);
        co = test_spawn(join_it, q);
        get(q);
        get(q);
        assert_int_equal(keel_queue_task_done(q), 0);
        assert_int_equal(keel_queue_join(q, keel_after(KEEL_MS)), -ETIMEDOUT);
        assert_int_equal(keel_queue_task_done(q), 0);
        assert_int_equal(test_join(co), 0);
        assert_int_equal(keel_queue_task_done(q), -EINVAL);
    }
    return 0;
}

/* ---- races: threads, loops, deadlines, cancels ---- */

enum { WORKERS = 4, COS = 4, ITEMS = 3000 };
static struct keel_queue *shared;
static _Atomic long in_sum, out_sum, out_count, expired;
static keel_ns patience;

static keel_ns soon(void)
{
    return patience ? keel_after(patience) : KEEL_FOREVER;
}

static int putter(void *arg)
{
    (void)arg;
    for (intptr_t i = 1; i <= ITEMS; i++) {
        while (keel_queue_put(shared, item(i), soon()) == -ETIMEDOUT)
            atomic_fetch_add(&expired, 1);
        atomic_fetch_add(&in_sum, i);
    }
    return 0;
}

/* Ends with the queue, or cancelled. */
static int getter(void *arg)
{
    int rc;

    (void)arg;
    for (;;) {
        void *got;

        rc = keel_queue_get(shared, soon(), &got);
        if (rc == -ETIMEDOUT) {
            atomic_fetch_add(&expired, 1);
            continue;
        }
        if (rc < 0)
            return rc;
        atomic_fetch_add(&out_sum, (intptr_t)got);
        atomic_fetch_add(&out_count, 1);
        keel_queue_task_done(shared);
    }
}

static void *putter_thread(void *arg)
{
    putter(arg);
    return NULL;
}

static void *getter_thread(void *arg)
{
    assert_int_equal(getter(arg), -EPIPE);
    return NULL;
}

static void everybody(size_t slots, keel_ns wait)
{
    struct keel_loop *loop[WORKERS];
    struct keel_co *put[WORKERS * COS], *get_[WORKERS * COS], *gone[WORKERS];
    pthread_t pt[2], gt[2];

    in_sum = 0;
    out_sum = 0;
    out_count = 0;
    patience = wait;
    shared = make(slots, 0);
    for (int i = 0; i < WORKERS; i++)
        assert_int_equal(keel_loop_start("queue", &loop[i]), 0);
    for (int i = 0; i < WORKERS * COS; i++) {
        struct keel_spawn how = {.loop = loop[i % WORKERS]};

        assert_int_equal(keel_spawn(&how, getter, NULL, &get_[i]), 0);
        assert_int_equal(keel_spawn(&how, putter, NULL, &put[i]), 0);
        if (i < WORKERS)
            assert_int_equal(keel_spawn(&how, getter, NULL, &gone[i]), 0);
    }
    for (int i = 0; i < 2; i++) {
        assert_int_equal(pthread_create(&pt[i], NULL, putter_thread, NULL), 0);
        assert_int_equal(pthread_create(&gt[i], NULL, getter_thread, NULL), 0);
    }
    /* Some are cancelled in the middle of it: their wakes go to others. */
    for (int i = 0; i < WORKERS; i++) {
        keel_cancel(gone[i]);
        assert_int_equal(test_join(gone[i]), -ECANCELED);
    }
    for (int i = 0; i < WORKERS * COS; i++)
        test_join(put[i]);
    for (int i = 0; i < 2; i++)
        pthread_join(pt[i], NULL);
    assert_int_equal(keel_queue_join(shared, KEEL_FOREVER), 0);
    keel_queue_close(shared);
    for (int i = 0; i < WORKERS * COS; i++)
        assert_int_equal(test_join(get_[i]), -EPIPE);
    for (int i = 0; i < 2; i++)
        pthread_join(gt[i], NULL);
    for (int i = 0; i < WORKERS; i++)
        keel_loop_stop(loop[i]);
    assert_int_equal(out_count, (WORKERS * COS + 2) * ITEMS);
    assert_int_equal(out_sum, in_sum);
    keel_queue_free(shared);
}

static void no_item_is_lost_or_doubled_between_loops_and_threads(void **state)
{
    (void)state;
    everybody(1024, 0);
    everybody(3, 0);
    everybody(1, 0);
}

static void nor_when_deadlines_race_with_wakes(void **state)
{
    (void)state;
    expired = 0;
    everybody(2, 3 * KEEL_US);
    everybody(5, 200 * KEEL_US);
}

static int closer(void *arg)
{
    for (int i = 0; i < (int)(intptr_t)arg; i++)
        keel_yield();
    keel_queue_close_now(shared, count_drop);
    return 0;
}

static int puts_until_closed(void *arg)
{
    long *sum = arg;
    int rc;

    for (intptr_t i = 1;; i++) {
        rc = keel_queue_put(shared, item(i), KEEL_FOREVER);
        if (rc < 0)
            return rc;
        *sum += i;
    }
}

static int gets_until_closed(void *arg)
{
    long *sum = arg;
    void *got;
    int rc;

    while ((rc = keel_queue_get(shared, KEEL_FOREVER, &got)) == 0)
        *sum += (intptr_t)got;
    return rc;
}

/* What was put is got or dropped, whatever moment the close comes at. */
static void close_now_races_with_puts_and_gets(void **state)
{
    struct keel_loop *loop[3];

    (void)state;
    for (int i = 0; i < 3; i++)
        assert_int_equal(keel_loop_start("close", &loop[i]), 0);
    for (int round = 0; round < 200; round++) {
        struct keel_co *co[5];
        struct keel_spawn how[3];
        long put[2] = {0}, got[2] = {0};

        dropped = 0;
        shared = make(4, 0);
        for (int i = 0; i < 3; i++)
            how[i] = (struct keel_spawn){.loop = loop[i]};
        for (int i = 0; i < 2; i++) {
            keel_spawn(&how[0], puts_until_closed, &put[i], &co[i]);
            keel_spawn(&how[1], gets_until_closed, &got[i], &co[2 + i]);
        }
        keel_spawn(&how[2], closer, (void *)(intptr_t)(round % 40), &co[4]);
        for (int i = 0; i < 5; i++)
            test_join(co[i]);
        assert_int_equal(put[0] + put[1], got[0] + got[1] + dropped);
        keel_queue_free(shared);
    }
    for (int i = 0; i < 3; i++)
        keel_loop_stop(loop[i]);
}

CO_TEST(it_is_empty_or_full_or_neither)
{
    EACH_KIND(k)
    {
        struct keel_queue *q = make(2, k);

        assert_true(keel_queue_empty(q) && !keel_queue_full(q));
        keel_queue_put(q, item(1), KEEL_NOW);
        assert_true(!keel_queue_empty(q) && !keel_queue_full(q));
        keel_queue_put(q, item(2), KEEL_NOW);
        assert_true(!keel_queue_empty(q) && keel_queue_full(q));
        keel_queue_free(q);
    }
    return 0;
}

static int gets_for_ever(void *q)
{
    void *got;

    return keel_queue_get(q, KEEL_FOREVER, &got);
}

CO_TEST(close_passes_over_a_waiter_that_was_just_cancelled)
{
    EACH_KIND(k)
    {
        struct keel_queue *q = make(1, k);
        struct keel_co *gone = test_spawn(gets_for_ever, q),
                       *waits = test_spawn(gets_for_ever, q);

        keel_yield();
        keel_cancel(gone);
        keel_queue_close(q); /* before it could leave the list */
        assert_int_equal(test_join(gone), -ECANCELED);
        assert_int_equal(test_join(waits), -EPIPE);
        keel_queue_free(q);
    }
    return 0;
}

static void new_survives_each_allocation_failure(void **state)
{
    (void)state;
    EACH_KIND(k)
    for (unsigned nth = 1;; nth++) {
        struct keel_queue *q = NULL;
        int rc;

        fault_fail_alloc(nth);
        rc = keel_queue_new(8, kinds[k], &q);
        if (!fault_fired()) {
            assert_int_equal(rc, 0);
            keel_queue_free(q);
            break;
        }
        assert_int_equal(rc, -ENOMEM);
        assert_null(q);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(items_come_out_in_order_and_the_bound_is_exact),
        cmocka_unit_test(a_queue_of_too_many_slots_is_refused),
        cmocka_unit_test(put_waits_for_room_and_get_for_an_item),
        cmocka_unit_test(a_deadline_passes_and_nothing_is_lost),
        cmocka_unit_test(a_cancelled_waiter_leaves_without_an_item),
        cmocka_unit_test(a_closed_queue_refuses_puts_and_drains_gets),
        cmocka_unit_test(close_wakes_those_who_wait),
        cmocka_unit_test(close_now_counts_what_it_drains_as_done_and_no_more),
        cmocka_unit_test(join_waits_for_the_last_task_done),
        cmocka_unit_test(no_item_is_lost_or_doubled_between_loops_and_threads),
        cmocka_unit_test(nor_when_deadlines_race_with_wakes),
        cmocka_unit_test(close_now_races_with_puts_and_gets),
        cmocka_unit_test(it_is_empty_or_full_or_neither),
        cmocka_unit_test(close_passes_over_a_waiter_that_was_just_cancelled),
        cmocka_unit_test(new_survives_each_allocation_failure),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
