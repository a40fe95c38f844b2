/* SPDX-License-Identifier: MIT */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>

#include <cmocka.h>

#include <errno.h>
#include <string.h>

#include <keel/frame.h>
#include <keel/message.h>

#include "test/fault.h"

static struct keel_stream *a, *b;

static int begin(void **state)
{
    struct keel_stream *ends[2];

    (void)state;
    if (keel_stream_pair(4096, ends) < 0)
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

static int read_one(struct keel_message *ret, size_t *missing)
{
    return keel_message_read(b, 100, 1000, KEEL_NOW, ret, missing);
}

static void messages_arrive_whole_one_after_another(void **state)
{
    struct keel_message m = {0};
    char buf[16];

    (void)state;
    assert_int_equal(keel_message_write(a, "{\"a\":1}", 7, "body", 4, KEEL_NOW),
                     0);
    assert_int_equal(keel_message_write(a, "{}", 2, NULL, 0, KEEL_NOW), 0);
    assert_int_equal(keel_message_begin(a, "", 0, 6, KEEL_NOW, &m), 0);
    assert_int_equal(keel_message_put(&m, "pie", 3, KEEL_NOW), 0);
    assert_int_equal(keel_message_put(&m, "", 0, KEEL_NOW), 0);
    assert_int_equal(keel_message_put(&m, "ces", 3, KEEL_NOW), 0);
    assert_int_equal(m.left, 0);
    assert_int_equal(keel_stream_finish(a, KEEL_NOW), 0);

    assert_int_equal(read_one(&m, NULL), 0);
    assert_string_equal(m.header, "{\"a\":1}");
    assert_int_equal(m.header_size, 7);
    assert_int_equal(m.body_size, 4);
    assert_int_equal(keel_message_get(&m, buf, 3, KEEL_NOW), 3);
    assert_int_equal(m.left, 1);
    assert_int_equal(keel_message_get(&m, buf + 3, 13, KEEL_NOW), 1);
    assert_memory_equal(buf, "body", 4);
    assert_int_equal(keel_message_get(&m, buf, 16, KEEL_NOW), 0);
    keel_message_fini(&m);

    assert_int_equal(read_one(&m, NULL), 0);
    assert_string_equal(m.header, "{}");
    assert_int_equal(keel_message_get_all(&m, buf, 16, KEEL_NOW), 0);
    keel_message_fini(&m);

    assert_int_equal(read_one(&m, NULL), 0);
    assert_string_equal(m.header, "");
    assert_int_equal(keel_message_get_all(&m, buf, 5, KEEL_NOW), -EMSGSIZE);
    assert_int_equal(keel_message_get_all(&m, buf, 6, KEEL_NOW), 6);
    assert_memory_equal(buf, "pieces", 6);
    keel_message_fini(&m);
    assert_int_equal(read_one(&m, NULL), -ENODATA);
}

static void the_lengths_are_big_endian_and_the_header_is_a_frame(void **state)
{
    static const char wire[] = "\0\0\0\2{}\0\0\0\0\0\0\0\3abc";
    char raw[64];
    struct keel_message m;
    void *header;

    (void)state;
    assert_int_equal(keel_message_write(a, "{}", 2, "abc", 3, KEEL_NOW), 0);
    assert_int_equal(keel_stream_read(b, raw, sizeof raw, KEEL_NOW),
                     sizeof wire - 1);
    assert_memory_equal(raw, wire, sizeof wire - 1);
    /* a length that 32 bits do not hold */
    assert_int_equal(
        keel_message_begin(a, "x", 1, 0x0102030405060708, KEEL_NOW, &m), 0);
    assert_int_equal(m.left, 0x0102030405060708);
    assert_int_equal(keel_frame_read(b, 1, &header, NULL, KEEL_NOW), 1);
    keel_free(header);
    assert_int_equal(keel_stream_read(b, raw, sizeof raw, KEEL_NOW), 8);
    assert_memory_equal(raw, "\1\2\3\4\5\6\7\x08", 8);
}

static void a_body_is_exactly_as_long_as_promised(void **state)
{
    struct keel_message m;
    char buf[16];

    (void)state;
    assert_int_equal(keel_message_begin(a, "h", 1, 3, KEEL_NOW, &m), 0);
    assert_int_equal(keel_message_put(&m, "abcd", 4, KEEL_NOW), -EMSGSIZE);
    assert_int_equal(keel_message_put(&m, "ab", 2, KEEL_NOW), 0);
    assert_int_equal(keel_message_put(&m, "cd", 2, KEEL_NOW), -EMSGSIZE);
    assert_int_equal(m.left, 1);
    assert_int_equal(keel_message_put(&m, "c", 1, KEEL_NOW), 0);
    assert_int_equal(keel_message_write(a, "next", 4, NULL, 0, KEEL_NOW), 0);
    assert_int_equal(read_one(&m, NULL), 0);
    /* no byte of the next one */
    assert_int_equal(keel_message_get(&m, buf, sizeof buf, KEEL_NOW), 3);
    assert_memory_equal(buf, "abc", 3);
    keel_message_fini(&m);
    assert_int_equal(read_one(&m, NULL), 0);
    assert_string_equal(m.header, "next");
    keel_message_fini(&m);
}

static void what_is_left_of_a_body_is_skipped(void **state)
{
    struct keel_message m;
    char buf[3000] = "";

    (void)state;
    assert_int_equal(keel_message_write(a, "1", 1, buf, 1000, KEEL_NOW), 0);
    assert_int_equal(keel_message_write(a, "2", 1, NULL, 0, KEEL_NOW), 0);
    assert_int_equal(read_one(&m, NULL), 0);
    assert_int_equal(keel_message_get(&m, buf, 10, KEEL_NOW), 10);
    assert_int_equal(keel_message_skip(&m, KEEL_NOW), 0);
    assert_int_equal(keel_message_skip(&m, KEEL_NOW), 0);
    keel_message_fini(&m);
    assert_int_equal(read_one(&m, NULL), 0);
    assert_string_equal(m.header, "2");
    keel_message_fini(&m);
}

static void lengths_are_compared_before_memory_is_taken(void **state)
{
    static const char long_header[] = "\xff\xff\xff\xff";
    static const char over[] = "\0\0\0\x65";
    static const char long_body[] = "\0\0\0\1x\0\0\0\0\0\0\3\xe9";
    static const char longest[] = "\0\0\0\1x\xff\xff\xff\xff\xff\xff\xff\xff";
    struct keel_message m = {0};

    (void)state;
    fault_fail_times(KEEL_OP_ALLOC, 1, ENOMEM, 0); /* would show as that */
    assert_int_equal(keel_stream_write(a, long_header, 4, KEEL_NOW), 0);
    assert_int_equal(read_one(&m, NULL), -EMSGSIZE);
    assert_int_equal(keel_stream_write(a, over, 4, KEEL_NOW), 0);
    assert_int_equal(read_one(&m, NULL), -EMSGSIZE);
    assert_false(fault_fired());
    fault_clear();
    assert_int_equal(keel_stream_write(a, long_body, 13, KEEL_NOW), 0);
    assert_int_equal(read_one(&m, NULL), -EMSGSIZE);
    assert_int_equal(keel_stream_write(a, longest, 13, KEEL_NOW), 0);
    assert_int_equal(read_one(&m, NULL), -EMSGSIZE);
    assert_null(m.header);
    /* whoever has no limit gets it, and its bytes as they come */
    assert_int_equal(keel_stream_write(a, longest, 13, KEEL_NOW), 0);
    assert_int_equal(keel_message_read(b, 1, UINT64_MAX, KEEL_NOW, &m, NULL),
                     0);
    assert_true(m.left == UINT64_MAX);
    keel_message_fini(&m);
}

static void a_message_that_is_cut_says_how_much_is_missing(void **state)
{
    static const char wire[] = "\0\0\0\2{}\0\0\0\0\0\0\0\5abcde";

    for (size_t cut = 1; cut < sizeof wire - 1; cut++) {
        struct keel_message m = {0};
        size_t missing = 77;
        char buf[8];
        int rc;

        assert_int_equal(keel_stream_write(a, wire, cut, KEEL_NOW), 0);
        assert_int_equal(keel_stream_finish(a, KEEL_NOW), 0);
        rc = read_one(&m, &missing);
        if (cut < 14) {
            assert_int_equal(rc, -ECONNABORTED);
            assert_int_equal(missing, (cut < 4 ? 4 : cut < 6 ? 6 : 14) - cut);
            assert_null(m.header);
        } else {
            assert_int_equal(rc, 0);
            assert_int_equal(missing, 77);
            assert_int_equal(keel_message_get_all(&m, buf, 8, KEEL_NOW),
                             -ECONNABORTED);
            assert_int_equal(m.left, 19 - cut);
            assert_int_equal(keel_message_skip(&m, KEEL_NOW), -ECONNABORTED);
            keel_message_fini(&m);
        }
        end(state);
        assert_int_equal(begin(state), 0);
    }
}

static void a_header_that_is_no_text_is_refused_on_both_sides(void **state)
{
    static const struct {
        const char *bytes;
        size_t size;
        bool text;
    } rows[] = {
        {"plain", 5, true},
        {"\xc3\xa9\xe2\x82\xac\xf0\x9f\x9a\xa2", 9, true},
        {"\x7f\xc2\x80\xdf\xbf\xe0\xa0\x80\xef\xbf\xbf", 11, true},
        {"\xf0\x90\x80\x80\xf4\x8f\xbf\xbf", 8, true},
        {"\xed\x9f\xbf\xee\x80\x80", 6, true},
        {"a\0b", 3, false},
        {"\x80", 1, false},
        {"\xc3", 1, false}, /* cut */
        {"\xe2\x82", 2, false},
        {"\xc0\x80", 2, false}, /* too long for what it is */
        {"\xc1\xbf", 2, false},
        {"\xe0\x9f\xbf", 3, false},
        {"\xf0\x8f\xbf\xbf", 4, false},
        {"\xed\xa0\x80", 3, false},     /* surrogate */
        {"\xf4\x90\x80\x80", 4, false}, /* behind U+10FFFF */
        {"\xf5\x80\x80\x80", 4, false},
        {"\xff", 1, false},
        {"\xc3\x28", 2, false},
        {"\xe2\x28\xa1", 3, false},
        {"\xe2\x82\x28", 3, false},
    };

    (void)state;
    for (size_t i = 0; i < sizeof rows / sizeof *rows; i++) {
        struct keel_message m = {0};
        int want = rows[i].text ? 0 : -EILSEQ;

        assert_int_equal(keel_message_write(a, rows[i].bytes, rows[i].size,
                                            NULL, 0, KEEL_NOW),
                         want);
        if (want < 0) { /* nothing was sent: by hand */
            assert_int_equal(
                keel_frame_write(a, rows[i].bytes, rows[i].size, KEEL_NOW), 0);
        }
        assert_int_equal(read_one(&m, NULL), want);
        keel_message_fini(&m);
    }
}

static void reading_survives_each_allocation_failure(void **state)
{
    for (unsigned nth = 1;; nth++) {
        struct keel_message m = {0};
        int rc;

        assert_int_equal(keel_message_write(a, "{}", 2, "x", 1, KEEL_NOW), 0);
        fault_fail_alloc(nth);
        rc = read_one(&m, NULL);
        if (!fault_fired()) {
            assert_int_equal(rc, 0);
            assert_true(nth > 1);
            keel_message_fini(&m);
            return;
        }
        assert_int_equal(rc, -ENOMEM);
        assert_null(m.header);
        end(state);
        assert_int_equal(begin(state), 0);
    }
}

static void a_wait_for_the_rest_ends_at_the_deadline(void **state)
{
    struct keel_message m;
    char buf[4];

    (void)state;
    assert_int_equal(keel_stream_write(a, "\0\0\0\2{", 5, KEEL_NOW), 0);
    assert_int_equal(keel_message_read(b, 9, 9, keel_after(KEEL_MS), &m, NULL),
                     -ETIMEDOUT);
    end(state);
    assert_int_equal(begin(state), 0);
    assert_int_equal(keel_message_begin(a, "", 0, 4, KEEL_NOW, &m), 0);
    assert_int_equal(keel_message_put(&m, "ab", 2, KEEL_NOW), 0);
    assert_int_equal(read_one(&m, NULL), 0);
    assert_int_equal(keel_message_get_all(&m, buf, 4, keel_after(KEEL_MS)),
                     -ETIMEDOUT);
    assert_int_equal(m.left, 2);
    keel_message_fini(&m);
}

#define TEST(name) cmocka_unit_test_setup_teardown(name, begin, end)

int main(void)
{
    const struct CMUnitTest tests[] = {
        TEST(messages_arrive_whole_one_after_another),
        TEST(the_lengths_are_big_endian_and_the_header_is_a_frame),
        TEST(a_body_is_exactly_as_long_as_promised),
        TEST(what_is_left_of_a_body_is_skipped),
        TEST(lengths_are_compared_before_memory_is_taken),
        TEST(a_message_that_is_cut_says_how_much_is_missing),
        TEST(a_header_that_is_no_text_is_refused_on_both_sides),
        TEST(reading_survives_each_allocation_failure),
        TEST(a_wait_for_the_rest_ends_at_the_deadline),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
