/* SPDX-License-Identifier: MIT */
#include "wire/frame.h"

#include <errno.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <string.h>

#include <cmocka.h>

#include <keel/co.h>

#include "test/fault.h"

#define ALL 0x1feu

static const struct wire_limits limits = {
    .kinds = ALL,
    .json_bytes = WIRE_JSON_BYTES,
    .reply_bytes = WIRE_REPLY_BYTES,
};

/* A stream that has `size` bytes to read, then its end. */
static struct keel_stream *stream_of(const void *bytes, size_t size,
                                     struct keel_stream **ret_other)
{
    struct keel_stream *pair[2];

    assert_int_equal(keel_stream_pair(size + 1, pair), 0);
    assert_int_equal(keel_stream_write(pair[0], bytes, size, KEEL_FOREVER), 0);
    assert_int_equal(keel_stream_finish(pair[0], KEEL_FOREVER), 0);
    *ret_other = pair[0];
    return pair[1];
}

static int read_of(const void *bytes, size_t size,
                   const struct wire_limits *most, struct wire_frame *ret,
                   struct problem *why)
{
    struct keel_stream *other, *s = stream_of(bytes, size, &other);
    int rc = wire_read(s, most, ret, KEEL_FOREVER, why);

    keel_stream_close(s);
    keel_stream_close(other);
    return rc;
}

/* A frame of `body` bytes of which only `there` are in the stream. */
static int read_frame(uint8_t kind, uint32_t length, const void *body,
                      size_t there, struct wire_frame *ret, struct problem *why)
{
    static uint8_t bytes[WIRE_HEAD_BYTES + WIRE_REPLY_BYTES + 16];

    keel_be32_put(bytes, length);
    bytes[4] = kind;
    memcpy(bytes + 5, body, there);
    return read_of(bytes, 5 + there, &limits, ret, why);
}

static void what_is_encoded_is_read(void **state)
{
    json_t *j = json_pack("{s:i, s:s}", "id", 7, "do", "list");
    struct wire_frame f;
    struct problem why;
    uint8_t *bytes;
    size_t size;

    (void)state;
    assert_int_equal(wire_json_encode(WIRE_REQUEST, j, &bytes, &size), 0);
    assert_int_equal(read_of(bytes, size, &limits, &f, &why), 0);
    assert_int_equal(f.kind, WIRE_REQUEST);
    assert_int_equal(f.size, size - 5);
    assert_true(json_equal(f.json, j));
    wire_frame_fini(&f);
    keel_free(bytes);
    json_decref(j);
}

static void the_documented_examples_are_the_bytes_written(void **state)
{
    static const uint8_t credit[] = {0, 0, 0, 9, 5, 0, 0, 0, 7, 0, 0x10, 0, 0};
    static const uint8_t cancel[] = {0, 0, 0, 5, 6, 0, 0, 0, 7};
    static const uint8_t data[] = {0, 0, 0, 0x10, 4, 0,    0, 0, 7,
                                   0, 0, 0, 0,    0, 0x20, 0, 0};
    uint8_t small[16], head[17];
    json_t *j = json_pack("{s:n}", "problem");
    struct wire_frame f;
    struct problem why;
    uint8_t *bytes;
    size_t size;

    (void)state;
    assert_int_equal(wire_small(WIRE_CREDIT, 7, 1 << 20, small), 13);
    assert_memory_equal(small, credit, 13);
    assert_int_equal(read_of(credit, 13, &limits, &f, &why), 0);
    assert_true(f.kind == WIRE_CREDIT && f.id == 7 && f.size == 1 << 20);
    assert_int_equal(wire_small(WIRE_CANCEL, 7, 0, small), 9);
    assert_memory_equal(small, cancel, 9);
    assert_int_equal(read_of(cancel, 9, &limits, &f, &why), 0);
    assert_true(f.kind == WIRE_CANCEL && f.id == 7);
    wire_data_head(7, 2 << 20, 3, head);
    assert_memory_equal(head, data, 17);
    assert_int_equal(read_of(data, 17, &limits, &f, &why), 0);
    assert_true(f.kind == WIRE_DATA && f.id == 7 && f.offset == 2 << 20 &&
                f.size == 3);
    assert_int_equal(wire_json_encode(WIRE_GOODBYE, j, &bytes, &size), 0);
    assert_int_equal(size, 21);
    assert_memory_equal(bytes, "\0\0\0\x11\x07{\"problem\":null}", 21);
    keel_free(bytes);
    json_decref(j);
}

static void lengths_are_compared_before_anything_is_read(void **state)
{
    static const struct {
        uint8_t kind;
        uint32_t length;
        enum problem_id id;
    } row[] = {
        {WIRE_REQUEST, 0, PROBLEM_PROTOCOL_BROKEN},
        {WIRE_REQUEST, 1, PROBLEM_PROTOCOL_BROKEN},
        {WIRE_REQUEST, 2, PROBLEM_PROTOCOL_BROKEN},
        {WIRE_REQUEST, 3, PROBLEM_CONNECT_LOST}, /* in order; cut short here */
        {WIRE_REQUEST, 65537, PROBLEM_CONNECT_LOST},
        {WIRE_REQUEST, 65538, PROBLEM_PROTOCOL_TOO_LONG},
        {WIRE_REQUEST, UINT32_MAX, PROBLEM_PROTOCOL_TOO_LONG},
        {WIRE_HELLO, 65538, PROBLEM_PROTOCOL_TOO_LONG},
        {WIRE_GOODBYE, 65538, PROBLEM_PROTOCOL_TOO_LONG},
        {WIRE_REPLY, 1048577, PROBLEM_CONNECT_LOST},
        {WIRE_REPLY, 1048578, PROBLEM_PROTOCOL_TOO_LONG},
        {WIRE_NOTE, 1048577, PROBLEM_CONNECT_LOST},
        {WIRE_NOTE, 1048578, PROBLEM_PROTOCOL_TOO_LONG},
        {WIRE_DATA, 13, PROBLEM_PROTOCOL_BROKEN},
        {WIRE_DATA, 14, PROBLEM_CONNECT_LOST},
        {WIRE_DATA, 262157, PROBLEM_CONNECT_LOST},
        {WIRE_DATA, 262158, PROBLEM_PROTOCOL_TOO_LONG},
        {WIRE_CREDIT, 8, PROBLEM_PROTOCOL_BROKEN},
        {WIRE_CREDIT, 9, PROBLEM_CONNECT_LOST},
        {WIRE_CREDIT, 10, PROBLEM_PROTOCOL_TOO_LONG},
        {WIRE_CANCEL, 4, PROBLEM_PROTOCOL_BROKEN},
        {WIRE_CANCEL, 5, PROBLEM_CONNECT_LOST},
        {WIRE_CANCEL, 6, PROBLEM_PROTOCOL_TOO_LONG},
        {0, 5, PROBLEM_PROTOCOL_BROKEN},
        {9, 5, PROBLEM_PROTOCOL_BROKEN},
        {255, 5, PROBLEM_PROTOCOL_BROKEN},
    };
    struct wire_frame f;
    struct problem why;

    (void)state;
    for (size_t i = 0; i < sizeof(row) / sizeof(*row); i++) {
        assert_true(read_frame(row[i].kind, row[i].length, "", 0, &f, &why) <
                    0);
        assert_int_equal(why.id, row[i].id);
    }
}

static void kinds_without_a_place_are_refused(void **state)
{
    const struct wire_limits none = {.kinds = ALL & ~(1u << WIRE_CANCEL)};
    struct wire_frame f;
    struct problem why;
    uint8_t small[16];
    size_t size = wire_small(WIRE_CANCEL, 7, 0, small);

    (void)state;
    assert_int_equal(read_of(small, size, &none, &f, &why), -EPROTO);
    assert_int_equal(why.id, PROBLEM_PROTOCOL_BROKEN);
}

static void numbers_in_binary_frames_have_limits(void **state)
{
    static const struct {
        uint8_t kind;
        uint32_t id;
        uint64_t number; /* offset, or bytes of credit */
        bool fine;
    } row[] = {
        {WIRE_CANCEL, 0, 0, false},
        {WIRE_CANCEL, 1, 0, true},
        {WIRE_CANCEL, INT32_MAX, 0, true},
        {WIRE_CANCEL, (uint32_t)INT32_MAX + 1, 0, false},
        {WIRE_CREDIT, 1, 0, false},
        {WIRE_CREDIT, 1, 1, true},
        {WIRE_CREDIT, 1, 1 << 30, true},
        {WIRE_CREDIT, 1, (1 << 30) + 1, false},
        {WIRE_DATA, 0, 0, false},
        {WIRE_DATA, 1, 0, true},
        {WIRE_DATA, 1, INT64_MAX - 1, true},
        {WIRE_DATA, 1, INT64_MAX, false},
        {WIRE_DATA, 1, UINT64_MAX, false},
    };
    struct wire_frame f;
    struct problem why;
    uint8_t bytes[32];
    size_t size;

    (void)state;
    for (size_t i = 0; i < sizeof(row) / sizeof(*row); i++) {
        size = sizeof(bytes);
        if (row[i].kind == WIRE_DATA)
            wire_data_head(row[i].id, row[i].number, 1, bytes);
        else
            size = wire_small(row[i].kind, row[i].id, (uint32_t)row[i].number,
                              bytes);
        assert_int_equal(read_of(bytes, size, &limits, &f, &why),
                         row[i].fine ? 0 : -EPROTO);
    }
}

static void
a_stream_cut_inside_a_frame_is_lost_and_between_is_its_end(void **state)
{
    json_t *j = json_pack("{s:i, s:s}", "id", 7, "do", "list");
    struct wire_frame f;
    struct problem why = {.id = PROBLEM_NONE};
    uint8_t *bytes;
    size_t size;

    (void)state;
    assert_int_equal(wire_json_encode(WIRE_REQUEST, j, &bytes, &size), 0);
    assert_int_equal(read_of(bytes, 0, &limits, &f, &why), -ENODATA);
    assert_int_equal(why.id, PROBLEM_NONE);
    for (size_t cut = 1; cut < size; cut++) {
        assert_int_equal(read_of(bytes, cut, &limits, &f, &why), -ECONNABORTED);
        assert_int_equal(why.id, PROBLEM_CONNECT_LOST);
    }
    keel_free(bytes);
    json_decref(j);
}

static int parse(const char *text, struct problem *why)
{
    json_t *j;
    int rc = wire_json_parse(text, strlen(text), &j, why);

    if (rc == 0)
        json_decref(j);
    return rc;
}

static void broken_json_is_refused(void **state)
{
    static const char *const bad[] = {
        "",
        "[]",
        "1",
        "null",
        "\"x\"",
        "{",
        "}",
        "{]",
        "{\"a\":}",
        "{\"a\":1,}",
        "{\"a\":1}x",
        "{\"a\":1}{}",
        "{\"a\":1,\"a\":2}",
        "{\"a\":{\"b\":1,\"b\":1}}",
        "{a:1}",
        "{\"a\":01}",
        "{\"a\":9223372036854775808}",
        "{\"a\":-9223372036854775809}",
        "{\"a\":1e999}",
        "{\"a\":NaN}",
        "{\"a\":\"\\u0000\"}",
        "{\"\\u0000\":1}",
        "{\"a\":\"\\ud800\"}",
        "{\"a\":\"\\x\"}",
        "{\"a\":\"\xff\"}",
        "{\"a\":\"\xc0\x80\"}",
        "{\"a\":\"\xed\xa0\x80\"}",
        "{\"a\":\"\x01\"}",
        "{\"a\":\"\\\"}",
        "\xef\xbb\xbf{}",
        "{\"a\":'b'}",
        "{\"a\":/**/1}",
    };
    struct problem why;

    (void)state;
    for (size_t i = 0; i < sizeof(bad) / sizeof(*bad); i++) {
        assert_true(parse(bad[i], &why) < 0);
        assert_int_equal(why.id, PROBLEM_PROTOCOL_BROKEN);
    }
    assert_int_equal(parse("{}", &why), 0);
    assert_int_equal(parse("{\"a\":9223372036854775807}", &why), 0);
    assert_int_equal(parse("{\"a\":\"[[[[[[[[[[[[[[[[[[[[[[\\\"{{\"}", &why),
                     0);
}

static void a_nul_byte_in_json_is_refused(void **state)
{
    struct problem why;
    json_t *j;

    (void)state;
    assert_true(wire_json_parse("{\"a\":\"b\0c\"}", 11, &j, &why) < 0);
    assert_true(wire_json_parse("{}\0", 3, &j, &why) < 0);
    assert_int_equal(wire_json_parse("{}", 2, &j, &why), 0);
    json_decref(j);
}

static void json_is_at_most_16_deep(void **state)
{
    char text[64];
    struct problem why;

    (void)state;
    for (int depth = 15; depth <= 17; depth++) {
        snprintf(text, sizeof(text), "{\"a\":%.*s%.*s}", depth - 1,
                 "[[[[[[[[[[[[[[[[[[", depth - 1, "]]]]]]]]]]]]]]]]]]");
        assert_int_equal(parse(text, &why), depth <= 16 ? 0 : -EPROTO);
    }
}

/* {"a":[0,0,...]}: the brackets are two, each comma one more. */
static void json_has_at_most_16384_values(void **state)
{
    static char text[40000];
    struct problem why;

    (void)state;
    for (size_t count = 16381; count <= 16383; count++) {
        char *at = stpcpy(text, "{\"a\":[0");

        for (size_t i = 0; i < count; i++)
            at = stpcpy(at, ",0");
        strcpy(at, "]}");
        assert_int_equal(parse(text, &why), count + 2 <= 16384 ? 0 : -EPROTO);
    }
}

static void parsing_survives_each_allocation_failure(void **state)
{
    static const char text[] = "{\"a\":[1,2,{\"b\":\"c\"}],\"d\":1.5}";
    struct problem why;
    bool fired;
    int rc;

    (void)state;
    for (unsigned nth = 1;; nth++) {
        fault_fail_alloc(nth);
        rc = parse(text, &why);
        fired = fault_fired();
        if (rc == 0)
            break;
        assert_true(fired);
        /* Of a later one jansson says that the token is invalid. */
        if (nth == 1)
            assert_int_equal(why.id, PROBLEM_NO_MEMORY);
    }
    assert_false(fired);
}

static void encoding_survives_each_allocation_failure(void **state)
{
    json_t *j = json_pack("{s:i, s:[i,i]}", "id", 7, "x", 1, 2);
    uint8_t *bytes = NULL;
    size_t size;
    int rc;

    (void)state;
    for (unsigned nth = 1;; nth++) {
        fault_fail_alloc(nth);
        rc = wire_json_encode(WIRE_REQUEST, j, &bytes, &size);
        if (!fault_fired())
            break;
        assert_int_equal(rc, -ENOMEM);
        assert_null(bytes);
    }
    assert_int_equal(rc, 0);
    keel_free(bytes);
    json_decref(j);
}

static void what_a_peer_would_not_take_is_not_encoded(void **state)
{
    static char text[WIRE_JSON_BYTES];
    uint8_t *bytes;
    json_t *j;
    size_t size;

    (void)state;
    memset(text, 'x', sizeof(text));
    /* {"a":"..."} is 8 bytes more. */
    j = json_pack("{s:s%}", "a", text, sizeof(text) - 8);
    assert_int_equal(wire_json_encode(WIRE_REQUEST, j, &bytes, &size), 0);
    assert_int_equal(size, 5 + WIRE_JSON_BYTES);
    keel_free(bytes);
    json_decref(j);
    j = json_pack("{s:s%}", "a", text, sizeof(text) - 7);
    assert_int_equal(wire_json_encode(WIRE_REQUEST, j, &bytes, &size),
                     -EMSGSIZE);
    assert_int_equal(wire_json_encode(WIRE_REPLY, j, &bytes, &size), 0);
    keel_free(bytes);
    json_decref(j);
}

static void numbers_are_checked(void **state)
{
    json_t *j = json_pack("{s:i,s:i,s:f,s:s,s:b,s:n}", "ten", 10, "less", -1,
                          "real", 1.0, "text", "10", "yes", 1, "null");
    struct problem why;
    uint64_t n = 99;
    int64_t i = 99;
    bool b;

    (void)state;
    assert_int_equal(field_u64(j, "ten", 10, &n, &why), 0);
    assert_int_equal(n, 10);
    assert_int_equal(field_u64(j, "ten", 9, &n, &why), -EINVAL);
    assert_int_equal(why.id, PROBLEM_REQUEST_INVALID);
    assert_string_equal(why.detail, "'ten' is too large");
    assert_int_equal(field_u64(j, "less", 10, &n, &why), -EINVAL);
    assert_int_equal(field_u64(j, "real", 10, &n, &why), -EINVAL);
    assert_int_equal(field_u64(j, "text", 10, &n, &why), -EINVAL);
    assert_int_equal(field_u64(j, "null", 10, &n, &why), -EINVAL);
    assert_int_equal(field_u64(j, "none", 10, &n, &why), -EINVAL);
    assert_int_equal(n, 10); /* only written on success */
    assert_int_equal(field_u64_or(j, "none", 10, 3, &n, &why), 0);
    assert_int_equal(n, 3);
    assert_int_equal(field_u64_or(j, "text", 10, 3, &n, &why), -EINVAL);
    assert_int_equal(field_i64(j, "less", &i, &why), 0);
    assert_int_equal(i, -1);
    assert_int_equal(field_i64(j, "real", &i, &why), -EINVAL);
    assert_int_equal(field_bool_or(j, "yes", false, &b, &why), 0);
    assert_true(b);
    assert_int_equal(field_bool_or(j, "none", true, &b, &why), 0);
    assert_true(b);
    assert_int_equal(field_bool_or(j, "ten", true, &b, &why), -EINVAL);
    json_decref(j);
}

static void texts_are_checked(void **state)
{
    json_t *j = json_pack("{s:s,s:s%,s:i}", "text", "abcd", "nul", "a\0b",
                          (size_t)3, "one", 1);
    struct problem why;
    const char *text;

    (void)state;
    assert_int_equal(field_text(j, "text", 4, &text, &why), 0);
    assert_string_equal(text, "abcd");
    assert_int_equal(field_text(j, "text", 3, &text, &why), -EINVAL);
    assert_int_equal(field_text(j, "nul", 9, &text, &why), -EINVAL);
    assert_int_equal(field_text(j, "one", 9, &text, &why), -EINVAL);
    assert_int_equal(field_text(j, "none", 9, &text, &why), -EINVAL);
    json_decref(j);
}

static void bytes_travel_as_base64(void **state)
{
    uint8_t bytes[64], back[64];
    struct problem why;
    json_t *j;
    size_t size;

    (void)state;
    keel_random(bytes, sizeof(bytes));
    for (size_t n = 0; n <= sizeof(bytes); n++) {
        j = json_pack("{s:o}", "b", bytes_to_json(bytes, n));
        assert_int_equal(field_blob(j, "b", 0, n, back, &size, &why), 0);
        assert_int_equal(size, n);
        assert_memory_equal(back, bytes, n);
        assert_int_equal(field_bytes(j, "b", back, n, &why), 0);
        if (n > 0) {
            assert_int_equal(field_blob(j, "b", 0, n - 1, back, &size, &why),
                             -EINVAL);
            assert_int_equal(field_bytes(j, "b", back, n - 1, &why), -EINVAL);
        }
        if (n < sizeof(bytes)) {
            assert_int_equal(
                field_blob(j, "b", n + 1, sizeof(back), back, &size, &why),
                -EINVAL);
            assert_int_equal(field_bytes(j, "b", back, n + 1, &why), -EINVAL);
        }
        json_decref(j);
    }
    j = json_pack("{s:s,s:i}", "blank", "AA A", "number", 1);
    assert_int_equal(field_blob(j, "blank", 0, 9, back, &size, &why), -EINVAL);
    assert_int_equal(field_blob(j, "number", 0, 9, back, &size, &why), -EINVAL);
    assert_int_equal(field_blob(j, "none", 0, 9, back, &size, &why), -EINVAL);
    json_decref(j);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(what_is_encoded_is_read),
        cmocka_unit_test(the_documented_examples_are_the_bytes_written),
        cmocka_unit_test(lengths_are_compared_before_anything_is_read),
        cmocka_unit_test(kinds_without_a_place_are_refused),
        cmocka_unit_test(numbers_in_binary_frames_have_limits),
        cmocka_unit_test(
            a_stream_cut_inside_a_frame_is_lost_and_between_is_its_end),
        cmocka_unit_test(broken_json_is_refused),
        cmocka_unit_test(a_nul_byte_in_json_is_refused),
        cmocka_unit_test(json_is_at_most_16_deep),
        cmocka_unit_test(json_has_at_most_16384_values),
        cmocka_unit_test(parsing_survives_each_allocation_failure),
        cmocka_unit_test(encoding_survives_each_allocation_failure),
        cmocka_unit_test(what_a_peer_would_not_take_is_not_encoded),
        cmocka_unit_test(numbers_are_checked),
        cmocka_unit_test(texts_are_checked),
        cmocka_unit_test(bytes_travel_as_base64),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
