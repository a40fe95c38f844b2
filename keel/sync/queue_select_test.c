/* SPDX-License-Identifier: MIT */
#include <keel/queue.h>

#include "test/test.h"

#include <keel/thread.h>

#include "test/fault.h"

static int one = 1, two = 2;

static int by_value(const void *a, const void *b)
{
    return *(const int *)a - *(const int *)b;
}

/* A queue of each body, of one slot where there are slots. */
enum { BODIES = 5 };
static struct keel_queue *make(int body)
{
    struct keel_queue *q = NULL;

    switch (body) {
    case 0:
        keel_queue_new(1, KEEL_QUEUE_SHARED, &q);
        break;
    case 1:
        keel_queue_new(1, KEEL_QUEUE_LOCAL, &q);
        break;
    case 2:
        keel_queue_new_lifo(1, &q);
        break;
    case 3:
        keel_queue_new_priority(1, by_value, &q);
        break;
    default:
        keel_queue_new(0, KEEL_QUEUE_SHARED, &q);
    }
    assert_non_null(q);
    return q;
}

static bool is_channel(int body)
{
    return body == 4;
}

struct pair {
    struct keel_queue *first, *second;
    keel_ns deadline;
    struct keel_select c[2];
};

/* Gets from either. */
static int select_two(void *arg)
{
    struct pair *p = arg;

    p->c[0] = (struct keel_select){.queue = p->first};
    p->c[1] = (struct keel_select){.queue = p->second};
    return keel_queue_select(p->c, 2, p->deadline);
}

static int put_one(void *q)
{
    return keel_queue_put(q, &one, KEEL_FOREVER);
}

CO_TEST(the_first_that_can_is_done_and_only_that)
{
    for (int a = 0; a < BODIES; a++)
        for (int b = 0; b < BODIES; b++) {
            struct pair p = {make(a), make(b), KEEL_NOW};
            struct keel_co *x, *y;

            assert_int_equal(select_two(&p), -ETIMEDOUT);
            x = test_spawn(put_one, p.second);
            keel_yield();
            assert_int_equal(select_two(&p), 1);
            assert_ptr_equal(p.c[1].item, &one);
            assert_int_equal(p.c[1].result, 0);
            test_join(x);
            x = test_spawn(put_one, p.first);
            y = test_spawn(put_one, p.second);
            keel_yield();
            assert_int_equal(select_two(&p), 0);
            assert_int_equal(select_two(&p), 1);
            test_join(x);
            test_join(y);
            keel_queue_free(p.first);
            keel_queue_free(p.second);
        }
    return 0;
}

CO_TEST(it_waits_for_whichever_comes_first)
{
    for (int a = 0; a < BODIES; a++)
        for (int b = 0; b < BODIES; b++)
            for (int which = 0; which < 2; which++) {
                struct pair p = {make(a), make(b), KEEL_FOREVER};
                struct keel_co *co = test_spawn(select_two, &p);

                keel_yield();
                assert_int_equal(put_one(which ? p.second : p.first), 0);
                assert_int_equal(test_join(co), which);
                assert_ptr_equal(p.c[which].item, &one);
                /* Nothing of it is left in the other. */
                assert_int_equal(keel_queue_count(p.first), 0);
                assert_int_equal(keel_queue_count(p.second), 0);
                keel_queue_free(p.first);
                keel_queue_free(p.second);
            }
    return 0;
}

static int put_either(void *arg)
{
    struct keel_queue **q = arg;
    struct keel_select c[] = {{.queue = q[0], .put = true, .item = &one},
                              {.queue = q[1], .put = true, .item = &two}};

    return keel_queue_select(c, 2, KEEL_FOREVER);
}

CO_TEST(puts_are_selected_too)
{
    for (int b = 0; b < BODIES; b++) {
        struct keel_queue *q[2] = {make(b), make(b)};
        struct keel_co *co;
        void *got;

        if (!is_channel(b))
            for (int i = 0; i < 2; i++)
                assert_int_equal(keel_queue_put(q[i], &one, KEEL_NOW), 0);
        co = test_spawn(put_either, q);
        keel_yield();
        assert_int_equal(keel_queue_get(q[1], KEEL_NOW, &got), 0);
        assert_int_equal(test_join(co), 1);
        assert_ptr_equal(got, is_channel(b) ? &two : &one);
        if (!is_channel(b))
            assert_int_equal(keel_queue_get(q[1], KEEL_NOW, &got), 0);
        assert_ptr_equal(got, &two);
        keel_queue_free(q[0]);
        keel_queue_free(q[1]);
    }
    return 0;
}

CO_TEST(two_selects_meet_in_a_channel_and_one_not_itself)
{
    struct keel_queue *q = make(4), *idle = make(4);
    struct pair p = {idle, q, KEEL_FOREVER};
    struct keel_queue *to[2] = {q, q};
    struct keel_select both[] = {{.queue = q, .put = true, .item = &one},
                                 {.queue = q}};
    struct keel_co *getter, *putter;

    assert_int_equal(keel_queue_select(both, 2, keel_after(KEEL_MS)),
                     -ETIMEDOUT);
    getter = test_spawn(select_two, &p);
    putter = test_spawn(put_either, to);
    assert_int_equal(test_join(putter), 0);
    assert_int_equal(test_join(getter), 1);
    putter = test_spawn(put_either, to);
    getter = test_spawn(select_two, &p);
    assert_int_equal(test_join(putter), 0);
    assert_int_equal(test_join(getter), 1);
    keel_queue_free(q);
    keel_queue_free(idle);
    return 0;
}

CO_TEST(a_closed_queue_can_and_says_so)
{
    for (int b = 0; b < BODIES; b++) {
        struct pair p = {make(0), make(b), KEEL_FOREVER};
        struct keel_co *co = test_spawn(select_two, &p);

        keel_yield();
        keel_queue_close(p.second);
        assert_int_equal(test_join(co), 1);
        assert_int_equal(p.c[1].result, -EPIPE);
        assert_int_equal(select_two(&p), 1);
        keel_queue_free(p.first);
        keel_queue_free(p.second);
    }
    return 0;
}

CO_TEST(it_gives_up_at_its_deadline_or_when_cancelled)
{
    for (int b = 0; b < BODIES; b++) {
        struct pair p = {make(b), make(0), keel_after(KEEL_MS)};
        struct keel_co *co;

        assert_int_equal(select_two(&p), -ETIMEDOUT);
        p.deadline = KEEL_FOREVER;
        co = test_spawn(select_two, &p);
        keel_yield();
        keel_cancel(co);
        assert_int_equal(test_join(co), -ECANCELED);
        keel_queue_free(p.first);
        keel_queue_free(p.second);
    }
    return 0;
}

static int get_one(void *q)
{
    void *got;
    int rc = keel_queue_get(q, KEEL_FOREVER, &got);

    return rc < 0 ? rc : *(int *)got;
}

/* Told of an item in both, the selecter takes the first; the other getter must
 * hear of the second. */
CO_TEST(a_wake_it_does_not_use_goes_to_the_next)
{
    for (int a = 0; a < BODIES; a++)
        for (int b = 0; b < BODIES - 1; b++) {
            struct pair p = {make(a), make(b), KEEL_FOREVER};
            struct keel_co *select = test_spawn(select_two, &p), *getter,
                           *putter;

            keel_yield();
            getter = test_spawn(get_one, p.second);
            keel_yield();
            keel_yield(); /* it looks twice before it waits */
            assert_int_equal(put_one(p.second), 0);
            putter = test_spawn(put_one, p.first);
            if (!is_channel(a))
                assert_int_equal(keel_queue_put(p.first, &two, KEEL_NOW), 0);
            assert_int_equal(test_join(select), is_channel(a) ? 1 : 0);
            if (is_channel(a)) {
                get_one(p.first);
                assert_int_equal(put_one(p.second), 0);
            }
            assert_int_equal(test_join(getter), 1);
            test_join(putter);
            keel_queue_free(p.first);
            keel_queue_free(p.second);
        }
    return 0;
}

CO_TEST(without_cases_or_memory_it_is_refused)
{
    struct keel_queue *q = make(0);
    struct keel_select many[9];

    assert_int_equal(keel_queue_select(NULL, 0, KEEL_NOW), -EINVAL);
    for (int i = 0; i < 9; i++)
        many[i] = (struct keel_select){.queue = q};
    assert_int_equal(keel_queue_select(many, 9, KEEL_NOW), -ETIMEDOUT);
    fault_fail_alloc(1);
    assert_int_equal(keel_queue_select(many, 9, KEEL_NOW), -ENOMEM);
    assert_true(fault_fired());
    fault_clear();
    keel_queue_free(q);
    return 0;
}

/* ---- threads ---- */

enum { THREADS = 2, EACH = 2000 };
static struct keel_queue *shared[4];
static _Atomic long put_sum, got_sum;

static int put_somewhere(void *arg)
{
    (void)arg;
    for (int i = 0; i < EACH; i++) {
        struct keel_select c[4];
        int rc;

        for (int k = 0; k < 4; k++)
            c[k] = (struct keel_select){
                .queue = shared[(i + k) % 4], .put = true, .item = &two};
        rc = keel_queue_select(c, 4,
                               i % 4 ? KEEL_FOREVER : keel_after(20 * KEEL_US));
        if (rc >= 0)
            put_sum += 2;
        else if (rc != -ETIMEDOUT)
            return rc;
    }
    return 0;
}

static int get_anywhere(void *arg)
{
    struct keel_select c[4];
    int closed = 0, rc;

    (void)arg;
    for (int i = 0;; i++) {
        for (int k = 0; k < 4; k++)
            c[k] = (struct keel_select){.queue = shared[(i + k) % 4]};
        rc = keel_queue_select(c, 4, KEEL_FOREVER);
        if (rc < 0)
            return rc;
        if (c[rc].result == 0)
            got_sum += *(int *)c[rc].item;
        else if (++closed == 16)
            return 0; /* all of them, in every order */
    }
}

static int get_anywhere_in_a_coroutine(void *arg)
{
    return keel_run(get_anywhere, arg);
}

static void threads_lose_and_double_nothing(void **state)
{
    static const int bodies[] = {0, 2, 3, 4};
    struct keel_thread *put[THREADS], *take[THREADS];
    int result;

    (void)state;
    for (int i = 0; i < 4; i++)
        shared[i] = make(bodies[i]);
    for (int i = 0; i < THREADS; i++) {
        assert_int_equal(keel_thread_start("put", put_somewhere, NULL, &put[i]),
                         0);
        assert_int_equal(
            keel_thread_start("get",
                              i ? get_anywhere_in_a_coroutine : get_anywhere,
                              NULL, &take[i]),
            0);
    }
    for (int i = 0; i < THREADS; i++) {
        assert_int_equal(keel_thread_join(put[i], KEEL_FOREVER, &result), 0);
        assert_int_equal(result, 0);
    }
    for (int i = 0; i < 4; i++)
        keel_queue_close(shared[i]);
    for (int i = 0; i < THREADS; i++) {
        assert_int_equal(keel_thread_join(take[i], KEEL_FOREVER, &result), 0);
        assert_int_equal(result, 0);
    }
    for (int i = 0; i < 4; i++) {
        void *left;

        while (keel_queue_get(shared[i], KEEL_NOW, &left) == 0)
            got_sum += *(int *)left;
        keel_queue_free(shared[i]);
    }
    assert_true(put_sum > 0);
    assert_int_equal(got_sum, put_sum);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(the_first_that_can_is_done_and_only_that),
        cmocka_unit_test(it_waits_for_whichever_comes_first),
        cmocka_unit_test(puts_are_selected_too),
        cmocka_unit_test(two_selects_meet_in_a_channel_and_one_not_itself),
        cmocka_unit_test(a_closed_queue_can_and_says_so),
        cmocka_unit_test(it_gives_up_at_its_deadline_or_when_cancelled),
        cmocka_unit_test(a_wake_it_does_not_use_goes_to_the_next),
        cmocka_unit_test(without_cases_or_memory_it_is_refused),
        cmocka_unit_test(threads_lose_and_double_nothing),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
