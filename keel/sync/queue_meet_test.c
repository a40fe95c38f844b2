/* SPDX-License-Identifier: MIT */
#include <keel/queue.h>

#include "test/test.h"

#include <keel/thread.h>

#include "test/fault.h"

static struct keel_queue *channel(void)
{
    struct keel_queue *q;

    assert_int_equal(keel_queue_new(0, KEEL_QUEUE_SHARED, &q), 0);
    return q;
}

static int word = 1, other_word = 2;

static int puts_word(void *q)
{
    return keel_queue_put(q, &word, KEEL_FOREVER);
}

static int gets_word(void *q)
{
    void *got = NULL;
    int rc = keel_queue_get(q, KEEL_FOREVER, &got);

    return rc < 0 ? rc : *(int *)got;
}

CO_TEST(put_waits_until_a_get_takes_the_item)
{
    struct keel_queue *q = channel();
    struct keel_co *co = test_spawn(puts_word, q);
    void *got;

    keel_yield();
    assert_int_equal(keel_join(co, KEEL_NOW, NULL), -ETIMEDOUT);
    assert_int_equal(keel_queue_get(q, KEEL_NOW, &got), 0);
    assert_ptr_equal(got, &word);
    assert_int_equal(test_join(co), 0);

    co = test_spawn(gets_word, q);
    keel_yield();
    assert_int_equal(keel_queue_put(q, &other_word, KEEL_NOW), 0);
    assert_int_equal(test_join(co), 2);
    keel_queue_free(q);
    return 0;
}

CO_TEST(a_channel_holds_nothing)
{
    struct keel_queue *q = channel();
    void *got;

    assert_int_equal(keel_queue_put(q, &word, KEEL_NOW), -ETIMEDOUT);
    assert_int_equal(keel_queue_get(q, KEEL_NOW, &got), -ETIMEDOUT);
    assert_int_equal(keel_queue_peek(q, &got), -EAGAIN);
    assert_int_equal(keel_queue_count(q), 0);
    assert_true(keel_queue_empty(q) && keel_queue_full(q));
    keel_queue_free(q);
    return 0;
}

CO_TEST(who_gave_up_waiting_is_not_met)
{
    struct keel_queue *q = channel();
    struct keel_co *gone = test_spawn(puts_word, q), *waits;
    void *got;

    keel_yield();
    keel_cancel(gone);
    /* Cancelled, and still in the list. */
    assert_int_equal(keel_queue_get(q, KEEL_NOW, &got), -ETIMEDOUT);
    assert_int_equal(test_join(gone), -ECANCELED);
    waits = test_spawn(gets_word, q);
    assert_int_equal(keel_queue_put(q, &word, keel_after(KEEL_SECOND)), 0);
    assert_int_equal(test_join(waits), 1);
    assert_int_equal(keel_queue_put(q, &word, keel_after(KEEL_MS)), -ETIMEDOUT);
    keel_queue_free(q);
    return 0;
}

CO_TEST(close_sends_away_who_waits_and_who_comes)
{
    struct keel_queue *q = channel();
    struct keel_co *co = test_spawn(puts_word, q);

    keel_yield();
    keel_queue_close(q);
    assert_int_equal(test_join(co), -EPIPE);
    assert_int_equal(puts_word(q), -EPIPE);
    assert_int_equal(gets_word(q), -EPIPE);
    keel_queue_free(q);
    q = channel();
    co = test_spawn(gets_word, q);
    keel_yield();
    keel_queue_close_now(q, NULL);
    assert_int_equal(test_join(co), -EPIPE);
    keel_queue_free(q);
    return 0;
}

CO_TEST(what_changed_hands_is_unfinished_until_done)
{
    struct keel_queue *q = channel();
    struct keel_co *co = test_spawn(puts_word, q);

    keel_yield();
    assert_int_equal(keel_queue_join(q, KEEL_NOW), 0);
    assert_int_equal(keel_queue_task_done(q), -EINVAL);
    assert_int_equal(gets_word(q), 1);
    test_join(co);
    assert_int_equal(keel_queue_join(q, KEEL_NOW), -ETIMEDOUT);
    assert_int_equal(keel_queue_task_done(q), 0);
    assert_int_equal(keel_queue_join(q, KEEL_NOW), 0);
    keel_queue_free(q);
    return 0;
}

enum { THREADS = 3, EACH = 2000 };
static _Atomic long sum;

static int put_many(void *q)
{
    for (int i = 0; i < EACH; i++) {
        /* Some give up, and try again. */
        keel_ns deadline = i % 3 ? KEEL_FOREVER : keel_after(20 * KEEL_US);
        int rc = keel_queue_put(q, &word, deadline);

        if (rc == -ETIMEDOUT)
            i--;
        else if (rc < 0)
            return rc;
    }
    return 0;
}

static int get_many(void *q)
{
    void *got;
    int rc;

    for (;;) {
        rc = keel_queue_get(q, keel_after(50 * KEEL_US), &got);
        if (rc == 0)
            sum += *(int *)got;
        else if (rc != -ETIMEDOUT)
            return rc;
    }
}

static void threads_lose_nothing(void **state)
{
    struct keel_queue *q = channel();
    struct keel_thread *t[2 * THREADS];
    int result;

    (void)state;
    for (int i = 0; i < THREADS; i++) {
        assert_int_equal(keel_thread_start("put", put_many, q, &t[i]), 0);
        assert_int_equal(keel_thread_start("get", get_many, q, &t[THREADS + i]),
                         0);
    }
    for (int i = 0; i < THREADS; i++) {
        assert_int_equal(keel_thread_join(t[i], KEEL_FOREVER, &result), 0);
        assert_int_equal(result, 0);
    }
    keel_queue_close(q);
    for (int i = THREADS; i < 2 * THREADS; i++) {
        assert_int_equal(keel_thread_join(t[i], KEEL_FOREVER, &result), 0);
        assert_int_equal(result, -EPIPE);
    }
    assert_int_equal(sum, THREADS * EACH);
    keel_queue_free(q);
}

static void new_survives_an_allocation_failure(void **state)
{
    struct keel_queue *q = NULL;

    (void)state;
    fault_fail_alloc(1);
    assert_int_equal(keel_queue_new(0, KEEL_QUEUE_LOCAL, &q), -ENOMEM);
    assert_true(fault_fired());
    fault_clear();
    assert_null(q);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(put_waits_until_a_get_takes_the_item),
        cmocka_unit_test(a_channel_holds_nothing),
        cmocka_unit_test(who_gave_up_waiting_is_not_met),
        cmocka_unit_test(close_sends_away_who_waits_and_who_comes),
        cmocka_unit_test(what_changed_hands_is_unfinished_until_done),
        cmocka_unit_test(threads_lose_nothing),
        cmocka_unit_test(new_survives_an_allocation_failure),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
