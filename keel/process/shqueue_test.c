/* SPDX-License-Identifier: MIT */
#include <keel/shqueue.h>

#include "shtest.h"

#include <sys/mman.h>

#include <keel/thread.h>

enum { MANY = 20000 };

static struct keel_shqueue *opened(const struct keel_process_arg *arg)
{
    static struct keel_shqueue *q; /* to the end of the process */

    assert_int_equal(keel_shqueue_open(arg->fds[0], &q), 0);
    return q;
}

static struct keel_shqueue *queue(size_t slots, size_t most, int *ret_fd)
{
    struct keel_shqueue *q = NULL;

    assert_int_equal(keel_shqueue_new(slots, most, &q), 0);
    *ret_fd = keel_shqueue_fd(q);
    return q;
}

KEEL_PROCESS(puts_many)
{
    struct keel_shqueue *q = opened(arg);

    for (uint32_t i = 0; i < MANY; i++)
        if (keel_shqueue_put(q, &i, sizeof(i), SOON) != 0)
            return 1;
    return 0;
}

/* Sums up, in the memory, until the queue is closed. */
KEEL_PROCESS(gets_many)
{
    struct keel_shqueue *q = opened(arg);
    keel_auto(shared) struct keel_shared *s = NULL;
    uint32_t i;
    size_t size;
    int rc;

    if (keel_shared_open(arg->fds[1], &s) < 0)
        return 1;
    while ((rc = keel_shqueue_get(q, &i, sizeof(i), SOON, &size)) == 0)
        keel_shvalue_add(keel_shared_memory(s), i);
    return rc == -EPIPE ? 0 : 2;
}

KEEL_PROCESS(gets_one_and_stays)
{
    struct keel_shqueue *q = opened(arg);
    char c;
    size_t size;

    if (keel_shqueue_get(q, &c, 1, SOON, &size) != 0 ||
        keel_shqueue_put(q, "t", 1, SOON) != 0)
        return 1;
    pause();
    return 0;
}

static void producers_and_consumers_lose_nothing(void **state)
{
    int fds[2];
    struct keel_shqueue *q = queue(8, 4, &fds[0]);
    struct keel_shared *s = NULL;
    struct keel_shvalue *sum = test_memory(sizeof(*sum), &s);
    struct keel_process *put[2], *get[2];

    (void)state;
    fds[1] = keel_shared_fd(s);
    for (int i = 0; i < 2; i++) {
        put[i] = test_start("puts_many", NULL, 0, fds, 1);
        get[i] = test_start("gets_many", NULL, 0, fds, 2);
    }
    for (int i = 0; i < 2; i++)
        assert_int_equal(test_finish(put[i]), 0);
    keel_shqueue_close(q);
    for (int i = 0; i < 2; i++)
        assert_int_equal(test_finish(get[i]), 0);
    assert_int_equal(keel_shvalue_get(sum), (int64_t)MANY * (MANY - 1));
    keel_shared_free(s);
    keel_shqueue_free(q);
}

static void it_is_bounded_and_first_in_is_first_out(void **state)
{
    int fd;
    struct keel_shqueue *q = queue(3, 8, &fd); /* rounded up to 4 */
    char buf[8];
    size_t size = 0;

    (void)state;
    assert_true(keel_shqueue_empty(q));
    assert_int_equal(keel_shqueue_peek(q, buf, 8, &size), -EAGAIN);
    for (int lap = 0; lap < 3; lap++) {
        for (char i = 'a'; i < 'e'; i++)
            assert_int_equal(keel_shqueue_put(q, &i, 1, KEEL_NOW), 0);
        assert_true(keel_shqueue_full(q));
        assert_int_equal(keel_shqueue_count(q), 4);
        assert_int_equal(keel_shqueue_put(q, "x", 1, KEEL_NOW), -ETIMEDOUT);
        assert_int_equal(keel_shqueue_put(q, "x", 1, keel_after(KEEL_MS)),
                         -ETIMEDOUT);
        assert_int_equal(keel_shqueue_peek(q, buf, 8, &size), 0);
        assert_int_equal(buf[0], 'a');
        for (char i = 'a'; i < 'e'; i++) {
            assert_int_equal(keel_shqueue_get(q, buf, 8, KEEL_NOW, &size), 0);
            assert_int_equal(size, 1);
            assert_int_equal(buf[0], i);
        }
        assert_int_equal(keel_shqueue_get(q, buf, 8, KEEL_NOW, &size),
                         -ETIMEDOUT);
    }
    keel_shqueue_free(q);
}

static void sizes_are_checked(void **state)
{
    static char big[5000], got[5000];
    int fd;
    struct keel_shqueue *q = queue(2, sizeof(big), &fd), *r = NULL;
    size_t size = 0;

    (void)state;
    memset(big, 'b', sizeof(big));
    assert_int_equal(keel_shqueue_put(q, big, 5001, SOON), -EMSGSIZE);
    assert_int_equal(keel_shqueue_put(q, big, 5000, SOON), 0);
    assert_int_equal(keel_shqueue_put(q, NULL, 0, SOON), 0);
    assert_int_equal(keel_shqueue_get(q, got, 4999, SOON, &size), -EMSGSIZE);
    assert_int_equal(keel_shqueue_get(q, got, 5000, SOON, &size), 0);
    assert_memory_equal(got, big, 5000);
    assert_int_equal(keel_shqueue_get(q, got, 0, SOON, &size), 0);
    assert_int_equal(size, 0);
    keel_shqueue_free(q);
    assert_int_equal(keel_shqueue_new(0, 8, &q), -EINVAL);
    assert_int_equal(keel_shqueue_new(SIZE_MAX, 8, &q), -EINVAL);
    assert_int_equal(keel_shqueue_new(8, SIZE_MAX, &q), -EINVAL);
    fd = memfd_create("other", MFD_CLOEXEC);
    assert_int_equal(keel_shqueue_open(fd, &r), -EINVAL);
    close(fd);
}

static void close_drains_and_then_fails(void **state)
{
    int fd;
    struct keel_shqueue *q = queue(2, 8, &fd);
    char c;
    size_t size;

    (void)state;
    assert_int_equal(keel_shqueue_put(q, "a", 1, SOON), 0);
    assert_int_equal(keel_shqueue_put(q, "b", 1, SOON), 0);
    keel_shqueue_close(q); /* full */
    assert_int_equal(keel_shqueue_put(q, "c", 1, SOON), -EPIPE);
    assert_int_equal(keel_shqueue_get(q, &c, 1, SOON, &size), 0);
    assert_int_equal(keel_shqueue_put(q, "c", 1, SOON), -EPIPE);
    assert_int_equal(keel_shqueue_get(q, &c, 1, SOON, &size), 0);
    assert_int_equal(c, 'b');
    assert_int_equal(keel_shqueue_get(q, &c, 1, SOON, &size), -EPIPE);
    assert_int_equal(keel_shqueue_get(q, &c, 1, SOON, &size), -EPIPE);
    assert_int_equal(keel_shqueue_put(q, "c", 1, SOON), -EPIPE);
    assert_int_equal(keel_shqueue_peek(q, &c, 1, &size), -EPIPE);
    keel_shqueue_close(q);
    keel_shqueue_free(q);
}

static struct keel_shqueue *shared;
static int gets(void *arg)
{
    char c;
    size_t size;

    (void)arg;
    return keel_shqueue_get(shared, &c, 1, SOON, &size);
}

static int puts_one(void *arg)
{
    (void)arg;
    return keel_shqueue_put(shared, "x", 1, SOON);
}

static int joins(void *arg)
{
    (void)arg;
    return keel_shqueue_join(shared, SOON);
}

CO_TEST(close_wakes_those_who_wait)
{
    int fd;
    struct keel_co *co[4];

    shared = queue(1, 8, &fd);
    for (int i = 0; i < 4; i++)
        co[i] = test_spawn(gets, NULL);
    keel_sleep(keel_after(KEEL_MS));
    keel_shqueue_close(shared);
    for (int i = 0; i < 4; i++)
        assert_int_equal(test_join(co[i]), -EPIPE);
    keel_shqueue_free(shared);

    shared = queue(1, 8, &fd);
    assert_int_equal(keel_shqueue_put(shared, "x", 1, SOON), 0);
    co[0] = test_spawn(puts_one, NULL);
    keel_sleep(keel_after(KEEL_MS));
    keel_shqueue_close(shared);
    assert_int_equal(test_join(co[0]), -EPIPE);
    keel_shqueue_free(shared);
    return 0;
}

CO_TEST(coroutines_park_and_can_be_cancelled)
{
    int fd;
    struct keel_co *co[50];
    int cancelled = 0, served = 0;

    shared = queue(1, 8, &fd);
    for (int i = 0; i < 50; i++)
        co[i] = test_spawn(gets, NULL);
    keel_sleep(keel_after(KEEL_MS));
    for (int i = 0; i < 50; i += 2)
        keel_cancel(co[i]);
    /* what the cancelled might have been woken for goes to the others */
    for (int i = 0; i < 25; i++)
        assert_int_equal(keel_shqueue_put(shared, "x", 1, SOON), 0);
    for (int i = 0; i < 50; i++) {
        int rc = test_join(co[i]);

        served += rc == 0;
        cancelled += rc == -ECANCELED;
    }
    assert_int_equal(served + cancelled, 50);
    assert_true(cancelled <= 25);
    assert_int_equal(served + (int)keel_shqueue_count(shared), 25);
    keel_shqueue_free(shared);
    return 0;
}

CO_TEST(join_waits_until_all_that_were_put_are_done)
{
    int fd;
    struct keel_co *co;
    char c;
    size_t size;

    shared = queue(4, 8, &fd);
    assert_int_equal(keel_shqueue_join(shared, KEEL_NOW), 0);
    assert_int_equal(keel_shqueue_task_done(shared), -EINVAL);
    for (int i = 0; i < 2; i++)
        assert_int_equal(keel_shqueue_put(shared, "x", 1, SOON), 0);
    co = test_spawn(joins, NULL);
    for (int i = 0; i < 2; i++) {
        assert_int_equal(keel_shqueue_get(shared, &c, 1, SOON, &size), 0);
        assert_int_equal(keel_shqueue_join(shared, keel_after(KEEL_MS)),
                         -ETIMEDOUT);
        assert_int_equal(keel_shqueue_task_done(shared), 0);
    }
    assert_int_equal(test_join(co), 0);
    assert_int_equal(keel_shqueue_task_done(shared), -EINVAL);
    keel_shqueue_free(shared);
    return 0;
}

static void close_now_wakes_join_only_when_nothing_is_left(void **state)
{
    int fd;
    struct keel_shqueue *q = queue(4, 8, &fd);
    char c;
    size_t size;

    (void)state;
    for (int i = 0; i < 4; i++)
        assert_int_equal(keel_shqueue_put(q, "x", 1, SOON), 0);
    assert_int_equal(keel_shqueue_get(q, &c, 1, SOON, &size), 0);
    assert_int_equal(keel_shqueue_close_now(q), 3);
    assert_int_equal(keel_shqueue_join(q, keel_after(KEEL_MS)), -ETIMEDOUT);
    assert_int_equal(keel_shqueue_task_done(q), 0);
    assert_int_equal(keel_shqueue_join(q, SOON), 0);
    assert_int_equal(keel_shqueue_get(q, &c, 1, SOON, &size), -EPIPE);
    keel_shqueue_free(q);
}

static void what_a_killed_process_had_got_is_done(void **state)
{
    int fd;
    struct keel_shqueue *q = queue(4, 8, &fd);
    struct keel_process *p = test_start("gets_one_and_stays", NULL, 0, &fd, 1);
    char c;
    size_t size;

    (void)state;
    assert_int_equal(keel_shqueue_put(q, "x", 1, SOON), 0);
    do
        assert_int_equal(keel_shqueue_get(q, &c, 1, SOON, &size), 0);
    while (c == 'x' && keel_shqueue_put(q, "x", 1, SOON) == 0 &&
           keel_shqueue_task_done(q) == 0);
    assert_int_equal(c, 't');
    assert_int_equal(keel_shqueue_task_done(q), 0);
    assert_int_equal(keel_shqueue_join(q, keel_after(KEEL_MS)), -ETIMEDOUT);
    keel_process_kill(p);
    assert_int_equal(keel_shqueue_join(q, SOON), 0);
    assert_int_equal(test_finish(p), -SIGKILL);
    keel_shqueue_free(q);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(producers_and_consumers_lose_nothing),
        cmocka_unit_test(it_is_bounded_and_first_in_is_first_out),
        cmocka_unit_test(sizes_are_checked),
        cmocka_unit_test(close_drains_and_then_fails),
        cmocka_unit_test(close_wakes_those_who_wait),
        cmocka_unit_test(coroutines_park_and_can_be_cancelled),
        cmocka_unit_test(join_waits_until_all_that_were_put_are_done),
        cmocka_unit_test(close_now_wakes_join_only_when_nothing_is_left),
        cmocka_unit_test(what_a_killed_process_had_got_is_done),
    };

    alarm(100);
    return cmocka_run_group_tests(tests, NULL, NULL);
}
