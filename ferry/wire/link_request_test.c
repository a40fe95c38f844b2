/* SPDX-License-Identifier: MIT */
#include "link_fixture.h"

/* ---- requests ------------------------------------------------------------- */

LOOP_TEST(requests_are_answered_in_any_order)
{
    struct exchange *slow;
    struct problem why;
    struct both b;

    both_open(&b, 4096);
    assert_int_equal(link_call(b.client, "gate", NULL, &slow, &why), 0);
    for (int i = 0; i < 10; i++)
        echo(b.client, "quick");
    assert_int_equal(exchange_reply(slow, keel_after(KEEL_SECOND), NULL, &why),
                     -ETIMEDOUT);
    assert_int_equal(why.id, PROBLEM_CONNECT_TIMEOUT);
    assert_int_equal(exchange_check(slow, &why), 1);
    keel_event_set(&b.serve.gate);
    assert_int_equal(exchange_reply(slow, KEEL_FOREVER, NULL, &why), 0);
    assert_int_equal(exchange_check(slow, &why), 0);
    exchange_free(slow);
    both_close(&b);
}

LOOP_TEST(a_refusal_brings_its_numbers)
{
    struct problem why;
    struct both b;

    both_open(&b, 4096);
    assert_int_equal(
        link_ask(b.client, "refuse", NULL, KEEL_FOREVER, NULL, &why), -EDQUOT);
    assert_int_equal(why.id, PROBLEM_QUOTA_BYTES);
    assert_true(why.limit == 5 && why.used == 4 && why.size == 3);
    assert_int_equal(
        link_ask(b.client, "nonsense", NULL, KEEL_FOREVER, NULL, &why),
        -ENOSYS);
    assert_string_equal(why.name, "nonsense");
    both_close(&b);
}

LOOP_TEST(every_request_gets_a_reply_whatever_its_handler_does)
{
    struct problem why;
    struct both b;

    both_open(&b, 4096);
    assert_true(link_ask(b.client, "silent", NULL, KEEL_FOREVER, NULL, &why) <
                0);
    assert_int_equal(why.id, PROBLEM_INTERNAL);
    assert_true(link_ask(b.client, "wordless", NULL, KEEL_FOREVER, NULL, &why) <
                0);
    assert_int_equal(why.id, PROBLEM_INTERNAL);
    assert_int_equal(why.errno_, EIO);
    assert_true(link_ask(b.client, "big", json_pack("{s:i}", "size", 2 << 20),
                         KEEL_FOREVER, NULL, &why) < 0);
    assert_int_equal(why.id, PROBLEM_INTERNAL);
    assert_int_equal(why.errno_, EMSGSIZE);
    echo(b.client, "still here");
    both_close(&b);
}

LOOP_TEST(a_cancelled_request_is_answered_too)
{
    struct both b;

    raw_open(&b);
    raw_json(&b, WIRE_REQUEST, "{\"id\":5,\"do\":\"gate\"}");
    assert_int_equal(keel_event_wait(&b.serve.entered, KEEL_FOREVER), 0);
    raw_small(&b, WIRE_CANCEL, 5, 0);
    raw_refused(&b, 5, "cancelled");
    assert_int_equal(b.serve.cancelled, 1);
    /* The id is free again. */
    raw_json(&b, WIRE_REQUEST, "{\"id\":5,\"do\":\"echo\",\"text\":1}");
    raw_answered(&b, 5);
    both_close(&b);
}

LOOP_TEST(a_cancel_right_behind_its_request_counts)
{
    struct both b;

    raw_open(&b);
    raw_json(&b, WIRE_REQUEST, "{\"id\":5,\"do\":\"gate\"}");
    raw_small(&b, WIRE_CANCEL, 5, 0);
    raw_refused(&b, 5, "cancelled");
    both_close(&b);
}

LOOP_TEST(letting_go_of_an_exchange_cancels_it)
{
    struct exchange *x;
    struct problem why;
    struct both b;

    both_open(&b, 4096);
    assert_int_equal(link_call(b.client, "gate", NULL, &x, &why), 0);
    assert_int_equal(keel_event_wait(&b.serve.entered, KEEL_FOREVER), 0);
    exchange_free(x);
    echo(b.client, "on");
    assert_int_equal(b.serve.cancelled, 1);
    assert_int_equal(b.client->open_count, 0);
    both_close(&b);
}

LOOP_TEST(notes_come_before_their_reply)
{
    struct exchange *x;
    struct problem why;
    struct both b;
    json_t *note;

    both_open(&b, 4096);
    assert_int_equal(
        link_call(b.client, "notes", json_pack("{s:i}", "count", 60), &x, &why),
        0);
    for (int i = 0; i < 60; i++) {
        assert_int_equal(exchange_note(x, KEEL_FOREVER, &note, &why), 0);
        assert_int_equal(json_integer_value(json_object_get(note, "n")), i);
        json_decref(note);
    }
    assert_int_equal(exchange_note(x, KEEL_FOREVER, &note, &why), -ENODATA);
    assert_int_equal(exchange_reply(x, KEEL_FOREVER, NULL, &why), 0);
    exchange_free(x);
    /* Who asks for the reply only gets past them. */
    assert_int_equal(link_ask(b.client, "notes",
                              json_pack("{s:i}", "count", 500), KEEL_FOREVER,
                              NULL, &why),
                     0);
    both_close(&b);
}

LOOP_TEST(a_flood_of_notes_ends_the_link)
{
    struct exchange *x;
    struct problem why;
    struct both b;

    for (int count = 63; count <= 65; count++) {
        both_open(&b, 4096);
        assert_int_equal(link_call(b.client, "notes",
                                   json_pack("{s:i}", "count", count), &x,
                                   &why),
                         0);
        keel_sleep(keel_after(KEEL_SECOND));
        assert_int_equal(exchange_check(x, &why), count > 64 ? -EPROTO : 0);
        exchange_free(x);
        both_close(&b);
    }
}

LOOP_TEST(a_verb_from_outside_is_not_trusted_with_a_terminal)
{
    struct both b;

    raw_open(&b);
    raw_json(&b, WIRE_REQUEST, "{\"id\":1,\"do\":\"\\u001b[31m\"}");
    raw_refused(&b, 1, "request.unknown");
    raw_json(&b, WIRE_REQUEST, "{\"id\":1,\"do\":7}");
    raw_refused(&b, 1, "request.invalid");
    raw_json(&b, WIRE_REQUEST, "{\"id\":1}");
    raw_refused(&b, 1, "request.invalid");
    both_close(&b);
}

LOOP_TEST(ids_are_checked)
{
    static const char *const bad[] = {
        "{\"do\":\"echo\"}",
        "{\"id\":0,\"do\":\"echo\"}",
        "{\"id\":-1,\"do\":\"echo\"}",
        "{\"id\":2147483648,\"do\":\"echo\"}",
        "{\"id\":\"1\",\"do\":\"echo\"}",
        "{\"id\":1.0,\"do\":\"echo\"}",
        "{\"id\":7,\"do\":\"gate\"}", /* open already */
    };
    struct both b;

    for (size_t i = 0; i < sizeof(bad) / sizeof(*bad); i++) {
        raw_open(&b);
        raw_json(&b, WIRE_REQUEST, "{\"id\":7,\"do\":\"gate\"}");
        raw_json(&b, WIRE_REQUEST,
                 "{\"id\":2147483647,\"do\":\"echo\",\"text\":1}");
        raw_answered(&b, 2147483647);
        raw_json(&b, WIRE_REQUEST, bad[i]);
        raw_goodbye(&b, "protocol.broken");
        assert_int_equal(link_wait(b.server, KEEL_FOREVER, NULL), -EPROTO);
        both_close(&b);
    }
}

static void open_many(struct both *b, int count)
{
    char text[64];

    for (int i = 1; i <= count; i++) {
        snprintf(text, sizeof(text), "{\"id\":%d,\"do\":\"gate\"}", i);
        raw_json(b, WIRE_REQUEST, text);
    }
}

LOOP_TEST(open_requests_are_counted)
{
    static const struct {
        bool trusted;
        int most;
    } row[] = {{false, 8}, {true, 256}};
    struct both b;

    for (size_t i = 0; i < 2; i++) {
        for (int count = row[i].most - 1; count <= row[i].most + 1; count++) {
            raw_open(&b);
            if (row[i].trusted)
                link_trust(b.server);
            open_many(&b, count);
            if (count <= row[i].most) {
                keel_sleep(keel_after(KEEL_SECOND));
                assert_int_equal(b.serve.running, (unsigned)count);
                raw_small(&b, WIRE_CANCEL, 3, 0);
                raw_refused(&b, 3, "cancelled");
            } else {
                raw_goodbye(&b, "request.too_many");
            }
            both_close(&b);
        }
    }
}

LOOP_TEST(before_login_texts_are_short)
{
    char *text = malloc(16384);
    struct both b;

    for (int size = 8191; size <= 8193; size++) {
        raw_open(&b);
        snprintf(text, 16384, "{\"id\":1,\"do\":\"echo\",\"text\":\"%*s\"}",
                 size - 30, "");
        assert_int_equal(strlen(text), size);
        raw_json(&b, WIRE_REQUEST, text);
        if (size <= 8192)
            raw_answered(&b, 1);
        else
            raw_goodbye(&b, "protocol.too_long");
        both_close(&b);
        raw_open(&b);
        link_trust(b.server);
        raw_json(&b, WIRE_REQUEST, text);
        raw_answered(&b, 1);
        both_close(&b);
    }
    free(text);
}

LOOP_TEST(before_login_values_are_few)
{
    char text[512], *at;
    struct both b;

    for (int values = 63; values <= 65; values++) {
        raw_open(&b);
        at = stpcpy(text, "{\"id\":1,\"do\":\"echo\",\"text\":[0");
        for (int i = 4; i < values; i++)
            at = stpcpy(at, ",0");
        strcpy(at, "]}");
        raw_json(&b, WIRE_REQUEST, text);
        if (values <= 64)
            raw_answered(&b, 1);
        else
            raw_goodbye(&b, "protocol.broken");
        both_close(&b);
    }
}

/* 16 requests of 64 KiB make a megabyte. */
LOOP_TEST(open_requests_have_at_most_a_megabyte_of_text)
{
    char *text = malloc(70000);
    struct both b;
    int n;

    for (int more = 0; more <= 1; more++) {
        raw_open(&b);
        link_trust(b.server);
        for (int id = 1; id <= 16; id++) {
            n = snprintf(text, 70000, "{\"id\":%d,\"do\":\"gate\",\"x\":\"",
                         id);
            snprintf(text + n, (size_t)(70000 - n), "%*s\"}", 65536 - n - 2,
                     "");
            raw_json(&b, WIRE_REQUEST, text);
        }
        if (more) {
            raw_json(&b, WIRE_REQUEST, "{\"id\":17,\"do\":\"gate\"}");
            raw_goodbye(&b, "protocol.broken");
        } else {
            raw_small(&b, WIRE_CANCEL, 16, 0);
            raw_refused(&b, 16, "cancelled");
            raw_json(&b, WIRE_REQUEST, "{\"id\":17,\"do\":\"gate\"}");
            raw_small(&b, WIRE_CANCEL, 17, 0);
            raw_refused(&b, 17, "cancelled");
        }
        both_close(&b);
    }
    free(text);
}

static int call_many(void *arg)
{
    struct both *b = arg;
    char *text = malloc(60000);
    struct problem why;

    memset(text, 'x', 59999);
    text[59999] = 0;
    for (int i = 0; i < 2; i++)
        assert_int_equal(link_ask(b->client, "echo", text_json(text),
                                  KEEL_FOREVER, NULL, &why),
                         0);
    free(text);
    return 0;
}

LOOP_TEST(a_client_counts_its_own_requests)
{
    struct keel_group *g;
    struct both b;

    both_open(&b, 65536);
    assert_int_equal(keel_group_new(0, &g), 0);
    for (int i = 0; i < 300; i++)
        assert_int_equal(
            keel_spawn(&(struct keel_spawn){.group = g}, call_many, &b, NULL),
            0);
    assert_int_equal(keel_group_join(g, KEEL_FOREVER), 0);
    keel_group_free(g);
    assert_int_equal(b.serve.served, 600);
    both_close(&b);
}

LOOP_TEST(cancels_for_nothing_are_bounded)
{
    struct both b;

    for (int over = 0; over <= 1; over++) {
        raw_open(&b);
        for (int i = 0; i < 1024 + over; i++)
            raw_small(&b, i % 2 ? WIRE_CANCEL : WIRE_CREDIT, 9, 1);
        raw_json(&b, WIRE_REQUEST, "{\"id\":1,\"do\":\"echo\",\"text\":1}");
        if (over) {
            raw_goodbye(&b, "protocol.broken");
        } else {
            raw_answered(&b, 1);
            /* It has paid for some. */
            for (int i = 0; i < 64; i++)
                raw_small(&b, WIRE_CANCEL, 1, 0);
            raw_json(&b, WIRE_REQUEST, "{\"id\":1,\"do\":\"echo\",\"text\":1}");
            raw_answered(&b, 1);
        }
        both_close(&b);
    }
}

LOOP_TEST(kinds_that_have_no_place_break_the_protocol)
{
    static const uint8_t bad[] = {0, WIRE_HELLO, WIRE_REPLY, WIRE_NOTE, 9, 255};
    struct both b;

    for (size_t i = 0; i < sizeof(bad); i++) {
        raw_open(&b);
        raw_json(&b, bad[i], "{\"id\":1,\"version\":1,\"ok\":{}}");
        raw_goodbye(&b, "protocol.broken");
        both_close(&b);
    }
}

LOOP_TEST(a_client_does_not_trust_its_server)
{
    static const struct {
        uint8_t kind;
        const char *text;
    } bad[] = {
        {WIRE_REPLY, "{\"id\":9,\"ok\":{}}"},
        {WIRE_REPLY, "{\"id\":1}"},
        {WIRE_REPLY, "{\"id\":1,\"ok\":7}"},
        {WIRE_REPLY, "{\"id\":1,\"ok\":{},\"problem\":{}}"},
        {WIRE_NOTE, "{\"id\":9}"},
        {WIRE_NOTE, "{}"},
        {WIRE_REQUEST, "{\"id\":1,\"do\":\"x\"}"},
        {WIRE_HELLO, HELLO},
        {WIRE_CANCEL, "\1\1\1\1"},
        {WIRE_DATA, "\0\0\0\1........x"},
    };
    struct link_options o = {.agent = "client"};
    struct exchange *x;
    struct problem why;
    struct both b;

    for (size_t i = 0; i < sizeof(bad) / sizeof(*bad); i++) {
        memset(&b, 0, sizeof(b));
        assert_int_equal(keel_stream_pair(4096, b.end), 0);
        raw_json(&b, WIRE_HELLO, HELLO);
        assert_int_equal(link_open(b.end[1], &o, &b.client, &why), 0);
        b.end[1] = NULL;
        assert_int_equal(link_call(b.client, "x", NULL, &x, &why), 0);
        raw_json(&b, bad[i].kind, bad[i].text);
        raw_goodbye(&b, "protocol.broken");
        assert_int_equal(exchange_reply(x, KEEL_FOREVER, NULL, &why), -EPROTO);
        assert_int_equal(why.id, PROBLEM_PROTOCOL_BROKEN);
        exchange_free(x);
        both_close(&b);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(requests_are_answered_in_any_order),
        cmocka_unit_test(a_refusal_brings_its_numbers),
        cmocka_unit_test(every_request_gets_a_reply_whatever_its_handler_does),
        cmocka_unit_test(a_cancelled_request_is_answered_too),
        cmocka_unit_test(a_cancel_right_behind_its_request_counts),
        cmocka_unit_test(letting_go_of_an_exchange_cancels_it),
        cmocka_unit_test(notes_come_before_their_reply),
        cmocka_unit_test(a_flood_of_notes_ends_the_link),
        cmocka_unit_test(a_verb_from_outside_is_not_trusted_with_a_terminal),
        cmocka_unit_test(ids_are_checked),
        cmocka_unit_test(open_requests_are_counted),
        cmocka_unit_test(before_login_texts_are_short),
        cmocka_unit_test(before_login_values_are_few),
        cmocka_unit_test(open_requests_have_at_most_a_megabyte_of_text),
        cmocka_unit_test(a_client_counts_its_own_requests),
        cmocka_unit_test(cancels_for_nothing_are_bounded),
        cmocka_unit_test(kinds_that_have_no_place_break_the_protocol),
        cmocka_unit_test(a_client_does_not_trust_its_server),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
