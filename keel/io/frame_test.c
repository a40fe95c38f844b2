/* SPDX-License-Identifier: MIT */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>

#include <cmocka.h>

#include <errno.h>
#include <string.h>

#include <keel/frame.h>
#include <keel/seam.h>

static struct keel_stream *a, *b;

static int begin(void **state)
{
    struct keel_stream *ends[2];

    (void)state;
    if (keel_stream_pair(256, ends) < 0)
        return -1;
    a = ends[0];
    b = ends[1];
    return 0;
}

static int end(void **state)
{
    (void)state;
    keel_seam.fault = NULL;
    keel_stream_close(a);
    keel_stream_close(b);
    return 0;
}

static void send_raw(const char *bytes, size_t size)
{
    assert_int_equal(keel_stream_write(a, bytes, size, KEEL_NOW), 0);
}

static void messages_arrive_one_by_one_and_then_the_end(void **state)
{
    void *body = NULL;

    (void)state;
    assert_int_equal(keel_frame_write(a, "hello", 5, KEEL_NOW), 0);
    assert_int_equal(keel_frame_write(a, NULL, 0, KEEL_NOW), 0);
    assert_int_equal(keel_frame_write(a, "!", 1, KEEL_NOW), 0);
    assert_int_equal(keel_stream_finish(a, KEEL_NOW), 0);

    assert_int_equal(keel_frame_read(b, 5, &body, NULL, KEEL_NOW), 5);
    assert_memory_equal(body, "hello", 5);
    keel_free(body);
    body = NULL;
    assert_int_equal(keel_frame_read(b, 5, &body, NULL, KEEL_NOW), 0);
    assert_non_null(body);
    keel_free(body);
    assert_int_equal(keel_frame_read(b, 5, &body, NULL, KEEL_NOW), 1);
    keel_free(body);
    body = NULL;
    assert_int_equal(keel_frame_read(b, 5, &body, NULL, KEEL_NOW), -ENODATA);
    assert_null(body);
}

static void the_length_is_big_endian_on_the_wire(void **state)
{
    char raw[7];

    (void)state;
    assert_int_equal(keel_frame_write(a, "abc", 3, KEEL_NOW), 0);
    assert_int_equal(keel_stream_read(b, raw, sizeof raw, KEEL_NOW), 7);
    assert_memory_equal(raw, "\0\0\0\3abc", 7);
}

static int no_memory(enum keel_op op, size_t *size)
{
    (void)size;
    return op == KEEL_OP_ALLOC ? -ENOMEM : 0;
}

static void a_long_message_is_refused_before_memory_is_taken(void **state)
{
    void *body = NULL;

    (void)state;
    send_raw("\xff\xff\xff\xff", 4);
    keel_seam.fault = no_memory; /* would show as -ENOMEM */
    assert_int_equal(keel_frame_read(b, 100, &body, NULL, KEEL_NOW), -EMSGSIZE);
    send_raw("\0\0\0\x65", 4);
    assert_int_equal(keel_frame_read(b, 100, &body, NULL, KEEL_NOW), -EMSGSIZE);
    send_raw("\0\0\0\x64", 4);
    assert_int_equal(keel_frame_read(b, 100, &body, NULL, KEEL_NOW), -ENOMEM);
    assert_null(body);
}

static void a_message_that_is_cut_says_how_much_is_missing(void **state)
{
    static const struct {
        const char *bytes;
        size_t size, missing;
    } cuts[] = {
        {"\0", 1, 3},
        {"\0\0\0", 3, 1},
        {"\0\0\0\5", 4, 5},
        {"\0\0\0\5abcd", 8, 1},
    };

    for (size_t i = 0; i < sizeof cuts / sizeof *cuts; i++) {
        void *body = NULL;
        size_t missing = 77;

        send_raw(cuts[i].bytes, cuts[i].size);
        assert_int_equal(keel_stream_finish(a, KEEL_NOW), 0);
        assert_int_equal(keel_frame_read(b, 100, &body, &missing, KEEL_NOW),
                         -ECONNABORTED);
        assert_int_equal(missing, cuts[i].missing);
        assert_null(body);
        end(state);
        assert_int_equal(begin(state), 0);
    }
}

static void a_wait_for_the_rest_ends_at_the_deadline(void **state)
{
    void *body = NULL;

    (void)state;
    send_raw("\0\0\0\5ab", 6);
    assert_int_equal(keel_frame_read(b, 100, &body, NULL, keel_after(KEEL_MS)),
                     -ETIMEDOUT);
    assert_null(body);
}

#define TEST(name) cmocka_unit_test_setup_teardown(name, begin, end)

int main(void)
{
    const struct CMUnitTest tests[] = {
        TEST(messages_arrive_one_by_one_and_then_the_end),
        TEST(the_length_is_big_endian_on_the_wire),
        TEST(a_long_message_is_refused_before_memory_is_taken),
        TEST(a_message_that_is_cut_says_how_much_is_missing),
        TEST(a_wait_for_the_rest_ends_at_the_deadline),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
