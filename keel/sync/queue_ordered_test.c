/* SPDX-License-Identifier: MIT */
#include <keel/queue.h>

#include "test/test.h"

#include <keel/thread.h>

#include "test/fault.h"

struct job {
    int urgency, number;
};

static int by_urgency(const void *a, const void *b)
{
    const struct job *x = a, *y = b;

    return (x->urgency > y->urgency) - (x->urgency < y->urgency);
}

static struct keel_queue *lifo(size_t slots)
{
    struct keel_queue *q;

    assert_int_equal(keel_queue_new_lifo(slots, &q), 0);
    return q;
}

static struct keel_queue *priority(size_t slots)
{
    struct keel_queue *q;

    assert_int_equal(keel_queue_new_priority(slots, by_urgency, &q), 0);
    return q;
}

static struct job *get(struct keel_queue *q)
{
    void *got;

    assert_int_equal(keel_queue_get(q, KEEL_FOREVER, &got), 0);
    return got;
}

CO_TEST(lifo_gives_the_newest_first)
{
    struct keel_queue *q = lifo(3);
    struct job job[4];
    void *peeked;

    assert_int_equal(keel_queue_peek(q, &peeked), -EAGAIN);
    assert_true(keel_queue_empty(q));
    for (int i = 0; i < 3; i++)
        assert_int_equal(keel_queue_put(q, &job[i], KEEL_NOW), 0);
    assert_true(keel_queue_full(q));
    assert_int_equal(keel_queue_put(q, &job[3], KEEL_NOW), -ETIMEDOUT);
    assert_int_equal(keel_queue_peek(q, &peeked), 0);
    assert_ptr_equal(peeked, &job[2]);
    assert_ptr_equal(get(q), &job[2]);
    assert_int_equal(keel_queue_put(q, &job[3], KEEL_NOW), 0);
    assert_ptr_equal(get(q), &job[3]);
    assert_ptr_equal(get(q), &job[1]);
    assert_int_equal(keel_queue_count(q), 1);
    assert_ptr_equal(get(q), &job[0]);
    keel_queue_free(q);
    return 0;
}

CO_TEST(priority_gives_the_least_first_and_of_equals_the_oldest)
{
    struct keel_queue *q = priority(500);
    struct job job[500];
    const struct job *last = NULL;
    unsigned seed = 7;

    for (int i = 0; i < 500; i++) {
        seed = seed * 1103515245 + 12345;
        job[i] = (struct job){(int)(seed >> 16) % 20, i};
        assert_int_equal(keel_queue_put(q, &job[i], KEEL_NOW), 0);
    }
    for (int i = 0; i < 500; i++) {
        void *peeked;
        const struct job *got;

        assert_int_equal(keel_queue_peek(q, &peeked), 0);
        got = get(q);
        assert_ptr_equal(got, peeked);
        assert_true(
            !last || last->urgency < got->urgency ||
            (last->urgency == got->urgency && last->number < got->number));
        last = got;
    }
    assert_int_equal(keel_queue_count(q), 0);
    keel_queue_free(q);
    return 0;
}

static int put_three(void *q)
{
    static struct job job[] = {{3, 0}, {1, 1}, {2, 2}};

    for (int i = 0; i < 3; i++)
        assert_int_equal(keel_queue_put(q, &job[i], KEEL_FOREVER), 0);
    return 0;
}

static int get_forever(void *q)
{
    void *got;

    return keel_queue_get(q, KEEL_FOREVER, &got);
}

CO_TEST(put_waits_for_room_and_get_for_an_item)
{
    struct keel_queue *q = priority(2);
    struct keel_co *co = test_spawn(put_three, q);

    keel_yield();
    assert_int_equal(keel_queue_count(q), 2);
    assert_int_equal(get(q)->urgency, 1);
    assert_int_equal(test_join(co), 0);
    assert_int_equal(get(q)->urgency, 2);
    assert_int_equal(get(q)->urgency, 3);
    co = test_spawn(get_forever, q);
    keel_yield();
    keel_cancel(co);
    assert_int_equal(test_join(co), -ECANCELED);
    keel_queue_free(q);
    return 0;
}

CO_TEST(close_refuses_puts_and_drains_gets_in_order)
{
    struct keel_queue *q = priority(8);
    struct keel_co *co;

    put_three(q);
    keel_queue_close(q);
    assert_int_equal(keel_queue_put(q, q, KEEL_FOREVER), -EPIPE);
    for (int urgency = 1; urgency <= 3; urgency++)
        assert_int_equal(get(q)->urgency, urgency);
    assert_int_equal(get_forever(q), -EPIPE);
    keel_queue_free(q);

    q = lifo(1);
    co = test_spawn(get_forever, q);
    keel_yield();
    keel_queue_close(q);
    assert_int_equal(test_join(co), -EPIPE);
    keel_queue_free(q);
    return 0;
}

static int dropped;

static void drop(void *item)
{
    dropped += ((struct job *)item)->urgency;
}

CO_TEST(unfinished_work_is_counted_and_close_now_lowers_it)
{
    struct keel_queue *q = lifo(8);

    put_three(q);
    get(q);
    assert_int_equal(keel_queue_join(q, KEEL_NOW), -ETIMEDOUT);
    keel_queue_close_now(q, drop);
    assert_int_equal(dropped, 4);
    assert_int_equal(keel_queue_join(q, KEEL_NOW), -ETIMEDOUT);
    assert_int_equal(keel_queue_task_done(q), 0);
    assert_int_equal(keel_queue_task_done(q), -EINVAL);
    assert_int_equal(keel_queue_join(q, KEEL_NOW), 0);
    keel_queue_free(q);
    return 0;
}

enum { THREADS = 4, EACH = 3000 };
static struct job jobs[THREADS][EACH];
static _Atomic int got_of[THREADS * EACH];

static int put_many(void *arg)
{
    struct keel_queue *q = ((void **)arg)[0];
    struct job *mine = ((void **)arg)[1];

    for (int i = 0; i < EACH; i++)
        if (keel_queue_put(q, &mine[i], KEEL_FOREVER) < 0)
            return -1;
    return 0;
}

static int get_many(void *q)
{
    void *got;

    while (keel_queue_get(q, KEEL_FOREVER, &got) == 0)
        got_of[((struct job *)got)->number]++;
    return 0;
}

static void no_item_is_lost_or_doubled_between_threads(void **state)
{
    struct keel_queue *q = priority(16);
    struct keel_thread *t[2 * THREADS];
    void *arg[THREADS][2];

    (void)state;
    for (int i = 0; i < THREADS; i++) {
        for (int k = 0; k < EACH; k++)
            jobs[i][k] = (struct job){k % 7, i * EACH + k};
        arg[i][0] = q;
        arg[i][1] = jobs[i];
        assert_int_equal(keel_thread_start("put", put_many, arg[i], &t[i]), 0);
        assert_int_equal(keel_thread_start("get", get_many, q, &t[THREADS + i]),
                         0);
    }
    for (int i = 0; i < THREADS; i++)
        assert_int_equal(keel_thread_join(t[i], KEEL_FOREVER, NULL), 0);
    keel_queue_close(q);
    for (int i = THREADS; i < 2 * THREADS; i++)
        assert_int_equal(keel_thread_join(t[i], KEEL_FOREVER, NULL), 0);
    for (int i = 0; i < THREADS * EACH; i++)
        assert_int_equal(got_of[i], 1);
    keel_queue_free(q);
}

static void what_cannot_be_is_refused(void **state)
{
    struct keel_queue *q = NULL;

    (void)state;
    assert_int_equal(keel_queue_new_lifo(0, &q), -EINVAL);
    assert_int_equal(keel_queue_new_lifo(SIZE_MAX, &q), -EINVAL);
    assert_int_equal(keel_queue_new_priority(0, by_urgency, &q), -EINVAL);
    fault_fail_alloc(1);
    assert_int_equal(keel_queue_new_lifo(1, &q), -ENOMEM);
    assert_true(fault_fired());
    fault_clear();
    assert_null(q);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(lifo_gives_the_newest_first),
        cmocka_unit_test(
            priority_gives_the_least_first_and_of_equals_the_oldest),
        cmocka_unit_test(put_waits_for_room_and_get_for_an_item),
        cmocka_unit_test(close_refuses_puts_and_drains_gets_in_order),
        cmocka_unit_test(unfinished_work_is_counted_and_close_now_lowers_it),
        cmocka_unit_test(no_item_is_lost_or_doubled_between_threads),
        cmocka_unit_test(what_cannot_be_is_refused),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
