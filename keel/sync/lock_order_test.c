/* SPDX-License-Identifier: MIT */
#define KEEL_DEBUG 1
#include <keel/lock.h>

#include "test/test.h"

#include <stdio.h>
#include <unistd.h>

#include <keel/debug.h>

static struct keel_lock a = KEEL_LOCK_INIT, b = KEEL_LOCK_INIT,
                        c = KEEL_LOCK_INIT;

/* ---- what is said on standard error ---- */

static char said[8192];
static int saved, out[2];
static size_t before;

static void listen_in(void)
{
    before = keel_lock_order_reports();
    saved = dup(STDERR_FILENO);
    assert_int_equal(pipe(out), 0);
    dup2(out[1], STDERR_FILENO);
    close(out[1]);
}

/* How many reports there were meanwhile. */
static size_t heard(void)
{
    size_t n = 0;
    ssize_t got;

    dup2(saved, STDERR_FILENO);
    close(saved);
    while ((got = read(out[0], said + n, sizeof said - 1 - n)) > 0)
        n += (size_t)got;
    said[n] = '\0';
    close(out[0]);
    return keel_lock_order_reports() - before;
}

static int begin(void **state)
{
    (void)state;
    keel_lock_init(&a);
    keel_lock_init(&b);
    keel_lock_init(&c);
    return 0;
}

static int one_at, two_at; /* the lines before they take their first */

static int a_then_b(void *arg)
{
    (void)arg;
    one_at = __LINE__;
    keel_lock_hold(&a);
    keel_lock_take(&b, KEEL_FOREVER);
    keel_lock_drop(&b);
    keel_lock_drop(&a);
    return 0;
}

static int b_then_a(void *arg)
{
    (void)arg;
    two_at = __LINE__;
    keel_guard(&b);
    {
        keel_guard(&a);
    }
    return 0;
}

static int crosswise(void *arg)
{
    const struct keel_spawn one = {.name = "one"}, two = {.name = "two"};
    struct keel_co *co;

    (void)arg;
    assert_int_equal(keel_spawn(&one, a_then_b, NULL, &co), 0);
    test_join(co);
    assert_int_equal(keel_spawn(&two, b_then_a, NULL, &co), 0);
    test_join(co);
    return 0;
}

#define AT "lock_order_test.c:%d"

static void two_orders_are_reported_once_with_both_places(void **state)
{
    char right[256];

    (void)state;
    listen_in();
    assert_int_equal(keel_run(crosswise, NULL), 0);
    assert_int_equal(keel_run(crosswise, NULL), 0);
    assert_int_equal(heard(), 1);
    snprintf(right, sizeof right,
             "  'two' takes &a at " AT ", holding &b at " AT "\n"
             "  'one' took &b at " AT ", holding &a at " AT "\n",
             two_at + 3, two_at + 1, one_at + 2, one_at + 1);
    assert_non_null(strstr(said, right));
}

static void one_order_is_no_cause_for_a_report(void **state)
{
    (void)state;
    listen_in();
    for (int i = 0; i < 3; i++)
        a_then_b(NULL);
    assert_int_equal(heard(), 0);
    assert_string_equal(said, "");
}

static void a_ring_of_three_is_found(void **state)
{
    struct keel_lock *const first[] = {&a, &b, &c}, *const second[] = {&b, &c,
                                                                       &a};

    (void)state;
    listen_in();
    for (int i = 0; i < 3; i++) {
        keel_lock_hold(first[i]);
        keel_lock_hold(second[i]);
        keel_lock_drop(second[i]);
        keel_lock_drop(first[i]);
    }
    assert_int_equal(heard(), 1);
}

static void what_is_only_tried_waits_for_nobody(void **state)
{
    (void)state;
    listen_in();
    a_then_b(NULL);
    keel_lock_hold(&b);
    assert_int_equal(keel_lock_take(&a, KEEL_NOW), 0);
    keel_lock_drop(&a);
    keel_lock_drop(&b);
    assert_int_equal(heard(), 0);
}

static int drop_a(void *arg)
{
    (void)arg;
    keel_lock_drop(&a);
    return 0;
}

static int dropped_by_another(void *arg)
{
    (void)arg;
    keel_lock_hold(&a);
    test_join(test_spawn(drop_a, NULL));
    keel_lock_hold(&b); /* nothing is held now */
    keel_lock_drop(&b);
    b_then_a(NULL);
    return 0;
}

static void a_lock_that_another_dropped_is_not_held(void **state)
{
    (void)state;
    listen_in();
    assert_int_equal(keel_run(dropped_by_another, NULL), 0);
    assert_int_equal(heard(), 0);
}

static void a_lock_that_ended_is_forgotten(void **state)
{
    (void)state;
    listen_in();
    a_then_b(NULL);
    keel_lock_fini(&a);
    keel_lock_init(&a);
    b_then_a(NULL);
    assert_int_equal(heard(), 0);
}

static void rlocks_and_rwlocks_are_watched_too(void **state)
{
    struct keel_rlock r = KEEL_RLOCK_INIT;
    struct keel_rwlock w = KEEL_RWLOCK_INIT;

    (void)state;
    listen_in();
    keel_rlock_hold(&r);
    keel_rwlock_take_read(&w, KEEL_FOREVER);
    keel_rlock_hold(&r); /* its owner waits for nobody */
    keel_rlock_drop(&r);
    keel_rwlock_drop(&w);
    keel_rlock_drop(&r);
    assert_int_equal(keel_lock_order_reports(), before);
    keel_rwlock_take_write(&w, KEEL_FOREVER);
    keel_rlock_take(&r, KEEL_FOREVER);
    keel_rlock_drop(&r);
    keel_rwlock_drop(&w);
    assert_int_equal(heard(), 1);
    assert_non_null(strstr(said, "takes &r at"));
    keel_rlock_fini(&r);
    keel_rwlock_fini(&w);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup(two_orders_are_reported_once_with_both_places,
                               begin),
        cmocka_unit_test_setup(one_order_is_no_cause_for_a_report, begin),
        cmocka_unit_test_setup(a_ring_of_three_is_found, begin),
        cmocka_unit_test_setup(what_is_only_tried_waits_for_nobody, begin),
        cmocka_unit_test_setup(a_lock_that_another_dropped_is_not_held, begin),
        cmocka_unit_test_setup(a_lock_that_ended_is_forgotten, begin),
        cmocka_unit_test_setup(rlocks_and_rwlocks_are_watched_too, begin),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
