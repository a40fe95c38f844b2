/* SPDX-License-Identifier: MIT */
#include "link_fixture.h"

/* ---- hello ---------------------------------------------------------------- */

LOOP_TEST(hello_tells_each_side_who_the_other_is)
{
    json_t *more = json_pack("{s:s}", "registration", "invite");
    struct link_options o = {.agent = "client 1"};
    struct both b = {.rc = 0};
    struct problem why;

    serve_init(&b.serve);
    b.hello = more;
    assert_int_equal(keel_stream_pair(16, b.end), 0);
    assert_int_equal(keel_spawn(NULL, open_server, &b, &b.opener), 0);
    assert_int_equal(link_open(b.end[0], &o, &b.client, &why), 0);
    b.end[0] = NULL;
    raw_opened(&b);
    assert_string_equal(
        json_string_value(json_object_get(link_peer_hello(b.client), "agent")),
        "server 1");
    assert_string_equal(
        json_string_value(json_object_get(link_peer_hello(b.server), "agent")),
        "client 1");
    assert_int_equal(json_integer_value(
                         json_object_get(link_peer_hello(b.server), "version")),
                     1);
    assert_string_equal(json_string_value(json_object_get(
                            link_peer_hello(b.client), "registration")),
                        "invite");
    json_decref(more);
    both_close(&b);
}

LOOP_TEST(a_hello_that_does_not_fit_is_told_why)
{
    static const struct {
        const char *text, *code;
    } row[] = {
        {"{\"version\":0}", "protocol.version"},
        {"{\"version\":2,\"least\":2}", "protocol.version"},
        {"{\"version\":\"1\"}", "protocol.broken"},
        {"{}", "protocol.broken"},
        {"{\"version\":1,\"features\":{}}", "protocol.broken"},
        {"{\"version\":1,\"agent\":7}", "protocol.broken"},
        {"[]", "protocol.broken"},
    };
    struct both b;

    for (size_t i = 0; i < sizeof(row) / sizeof(*row); i++) {
        raw_begin(&b, 4096);
        raw_json(&b, WIRE_HELLO, row[i].text);
        raw_goodbye(&b, row[i].code);
        raw_opened(&b);
        assert_true(b.rc < 0);
        assert_string_equal(problem_code(&b.why), row[i].code);
        both_close(&b);
    }
}

LOOP_TEST(a_newer_side_that_still_speaks_ours_is_welcome)
{
    struct both b;

    raw_begin(&b, 4096);
    raw_json(&b, WIRE_HELLO, "{\"version\":9,\"least\":1,\"new\":[{}]}");
    raw_opened(&b);
    assert_int_equal(b.rc, 0);
    both_close(&b);
}

static void hello_of(struct both *b, size_t size, char **text)
{
    *text = malloc(size + 1);
    memset(*text, ' ', size);
    memcpy(*text, "{\"version\":1", 12);
    (*text)[size - 1] = '}';
    (*text)[size] = 0;
    raw_begin(b, 64 * 1024);
    raw_json(b, WIRE_HELLO, *text);
    free(*text);
}

LOOP_TEST(a_hello_has_at_most_8_kib)
{
    struct both b;
    char *text;

    hello_of(&b, 8191, &text);
    raw_opened(&b);
    assert_int_equal(b.rc, 0);
    both_close(&b);
    hello_of(&b, 8192, &text);
    raw_opened(&b);
    assert_int_equal(b.rc, 0);
    both_close(&b);
    hello_of(&b, 8193, &text);
    raw_goodbye(&b, "protocol.too_long");
    both_close(&b);
}

LOOP_TEST(at_most_32_features_are_named)
{
    struct both b;
    char text[256];

    for (int count = 31; count <= 33; count++) {
        char *at = stpcpy(text, "{\"version\":1,\"features\":[0");

        for (int i = 1; i < count; i++)
            at = stpcpy(at, ",0");
        strcpy(at, "]}");
        raw_begin(&b, 4096);
        raw_json(&b, WIRE_HELLO, text);
        if (count > 32)
            raw_goodbye(&b, "protocol.broken");
        raw_opened(&b);
        assert_int_equal(b.rc, count > 32 ? -EPROTO : 0);
        both_close(&b);
    }
}

LOOP_TEST(who_says_no_hello_is_left_after_ten_seconds)
{
    struct both b;
    keel_ns began = keel_now();

    raw_begin(&b, 4096);
    raw_opened(&b);
    assert_int_equal(b.rc, -ETIMEDOUT);
    assert_int_equal(b.why.id, PROBLEM_CONNECT_LOST);
    assert_true(keel_now() - began >= 10 * KEEL_SECOND &&
                keel_now() - began < 11 * KEEL_SECOND);
    both_close(&b);
}

LOOP_TEST(a_hello_by_drops_is_left_after_ten_seconds)
{
    struct both b;
    keel_ns began = keel_now();
    uint8_t head[] = {0, 0, 1, 0, WIRE_HELLO};

    raw_begin(&b, 4096);
    raw_write(&b, head, sizeof(head));
    while (b.rc == 0 && keel_now() - began < 20 * KEEL_SECOND) {
        (void)keel_stream_write(b.end[0], " ", 1, KEEL_FOREVER);
        keel_sleep(keel_after(KEEL_SECOND));
    }
    assert_int_equal(b.rc, -ETIMEDOUT);
    assert_true(keel_now() - began < 12 * KEEL_SECOND);
    both_close(&b);
}

LOOP_TEST(a_request_before_hello_breaks_the_protocol)
{
    struct both b;

    raw_begin(&b, 4096);
    raw_json(&b, WIRE_REQUEST, "{\"id\":1,\"do\":\"echo\"}");
    raw_goodbye(&b, "protocol.broken");
    both_close(&b);
}

LOOP_TEST(a_goodbye_instead_of_hello_brings_its_reason)
{
    struct both b;

    raw_begin(&b, 4096);
    raw_json(&b, WIRE_GOODBYE,
             "{\"problem\":{\"code\":\"server.full\",\"limit\":9}}");
    raw_opened(&b);
    assert_int_equal(b.rc, -EUSERS);
    assert_int_equal(b.why.id, PROBLEM_SERVER_FULL);
    assert_int_equal(b.why.limit, 9);
    both_close(&b);
}

LOOP_TEST(opening_can_be_cancelled)
{
    struct both b;
    int rc;

    raw_begin(&b, 4096);
    keel_yield();
    keel_cancel(b.opener);
    assert_int_equal(keel_join(b.opener, KEEL_FOREVER, &rc), 0);
    b.opener = NULL;
    assert_int_equal(b.rc, -ECANCELED);
    both_close(&b);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(hello_tells_each_side_who_the_other_is),
        cmocka_unit_test(a_hello_that_does_not_fit_is_told_why),
        cmocka_unit_test(a_newer_side_that_still_speaks_ours_is_welcome),
        cmocka_unit_test(a_hello_has_at_most_8_kib),
        cmocka_unit_test(at_most_32_features_are_named),
        cmocka_unit_test(who_says_no_hello_is_left_after_ten_seconds),
        cmocka_unit_test(a_hello_by_drops_is_left_after_ten_seconds),
        cmocka_unit_test(a_request_before_hello_breaks_the_protocol),
        cmocka_unit_test(a_goodbye_instead_of_hello_brings_its_reason),
        cmocka_unit_test(opening_can_be_cancelled),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
