/* SPDX-License-Identifier: MIT */
/* For tests whose body, int body(void *arg), runs in a coroutine of a loop, or
 * in a coroutine and again in a plain thread.  Before main:
 *
 *     IN_CO(one)  IN_BOTH(another)
 *
 * and in its table CO(one), BOTH(another); there TEST(name) says with which
 * setup and teardown a function of cmocka's is entered. */
#ifndef KEEL_TEST_BOTH_H
#define KEEL_TEST_BOTH_H

#define IN_CO(body)                                                            \
    static void body##_in_a_coroutine(void **state)                            \
    {                                                                          \
        (void)state;                                                           \
        assert_int_equal(keel_run(body, NULL), 0);                             \
    }
#define IN_BOTH(body)                                                          \
    static void body##_in_a_thread(void **state)                               \
    {                                                                          \
        (void)state;                                                           \
        assert_int_equal(body(NULL), 0);                                       \
    }                                                                          \
    IN_CO(body)

#define CO(body) TEST(body##_in_a_coroutine)
#define BOTH(body) TEST(body##_in_a_thread), CO(body)

#endif
