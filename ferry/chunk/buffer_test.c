/* SPDX-License-Identifier: MIT */
#include <errno.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <string.h>

#include <cmocka.h>

#include <keel/thread.h>

#include "chunk/buffer.h"

static void buffers_are_apart_aligned_and_whole(void **state)
{
    struct buffer_pool *p;
    struct buffer *b[3];

    (void)state;
    assert_int_equal(buffer_pool_new(3, &p), 0);
    for (int i = 0; i < 3; i++) {
        assert_int_equal(buffer_take(p, KEEL_NOW, &b[i]), 0);
        assert_int_equal((uintptr_t)b[i]->bytes % 4096, 0);
        memset(b[i]->bytes, 'a' + i, CHUNK_BYTES);
    }
    for (int i = 0; i < 3; i++) {
        assert_int_equal(b[i]->bytes[0], 'a' + i);
        assert_int_equal(b[i]->bytes[CHUNK_BYTES - 1], 'a' + i);
        buffer_give(b[i]);
    }
    buffer_give(NULL);
    buffer_pool_free(p);
    buffer_pool_free(NULL);
}

static void an_empty_pool_makes_wait(void **state)
{
    keel_auto(buffer) struct buffer *first = NULL;
    struct buffer *second = NULL;
    struct buffer_pool *p;

    (void)state;
    assert_int_equal(buffer_pool_new(1, &p), 0);
    assert_int_equal(buffer_take(p, KEEL_NOW, &first), 0);
    assert_int_equal(buffer_take(p, KEEL_NOW, &second), -ETIMEDOUT);
    assert_null(second);
    second = first; /* the warm one comes back */
    buffer_give(keel_take(first));
    assert_int_equal(buffer_take(p, KEEL_NOW, &first), 0);
    assert_ptr_equal(first, second);
    buffer_give(keel_take(first));
    buffer_pool_free(p);
}

static int borrow_many(void *arg)
{
    struct buffer_pool *p = arg;

    for (int i = 0; i < 2000; i++) {
        struct buffer *b;
        uint8_t mark = (uint8_t)i;

        if (buffer_take(p, KEEL_FOREVER, &b) < 0)
            return -1;
        b->bytes[0] = mark;
        b->bytes[4096] = mark;
        if (b->bytes[0] != b->bytes[4096])
            return -1;
        buffer_give(b);
    }
    return 0;
}

static void several_threads_never_share_a_buffer(void **state)
{
    struct keel_thread *t[4];
    struct buffer_pool *p;

    (void)state;
    assert_int_equal(buffer_pool_new(2, &p), 0);
    for (int i = 0; i < 4; i++)
        assert_int_equal(keel_thread_start("borrower", borrow_many, p, &t[i]),
                         0);
    for (int i = 0; i < 4; i++) {
        int result = -1;

        assert_int_equal(keel_thread_join(t[i], KEEL_FOREVER, &result), 0);
        assert_int_equal(result, 0);
    }
    buffer_pool_free(p);
}

static void spare_buffers_are_for_those_who_ask_for_them(void **state)
{
    struct buffer_pool *p;
    struct buffer *b[4];

    (void)state;
    assert_int_equal(buffer_pool_new(2, &p), 0);
    /* First the others are used. */
    assert_int_equal(buffer_take_spare(p, KEEL_NOW, &b[0]), 0);
    assert_int_equal(buffer_take(p, KEEL_NOW, &b[1]), 0);
    assert_int_equal(buffer_take(p, KEEL_NOW, &b[2]), -ETIMEDOUT);
    assert_int_equal(buffer_take_spare(p, KEEL_NOW, &b[2]), 0);
    assert_int_equal(buffer_take_spare(p, KEEL_NOW, &b[3]), -ETIMEDOUT);
    buffer_give(b[2]);
    assert_int_equal(buffer_take(p, KEEL_NOW, &b[2]), -ETIMEDOUT);
    buffer_give(b[0]);
    assert_int_equal(buffer_take(p, KEEL_NOW, &b[0]), 0);
    buffer_give(b[0]);
    buffer_give(b[1]);
    buffer_pool_free(p);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(buffers_are_apart_aligned_and_whole),
        cmocka_unit_test(an_empty_pool_makes_wait),
        cmocka_unit_test(spare_buffers_are_for_those_who_ask_for_them),
        cmocka_unit_test(several_threads_never_share_a_buffer),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
