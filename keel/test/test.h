/* SPDX-License-Identifier: MIT */
/* For the scheduler's tests: what each of them would otherwise repeat. */
#ifndef KEEL_TEST_H
#define KEEL_TEST_H

#include <errno.h>
#include <pthread.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdatomic.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include <keel/co.h>

/* A test whose body runs as the first coroutine of a loop. */
#define CO_TEST(name)                                                          \
    static int name##_body(void *arg);                                         \
    static void name(void **state)                                             \
    {                                                                          \
        (void)state;                                                           \
        assert_int_equal(keel_run(name##_body, NULL), 0);                      \
    }                                                                          \
    static int name##_body(__attribute__((unused)) void *arg)

static inline struct keel_co *test_spawn(int (*fn)(void *arg), void *arg)
{
    struct keel_co *co;

    assert_int_equal(keel_spawn(NULL, fn, arg, &co), 0);
    return co;
}

static inline int test_join(struct keel_co *co)
{
    int result;

    assert_int_equal(keel_join(co, KEEL_FOREVER, &result), 0);
    return result;
}

#endif
