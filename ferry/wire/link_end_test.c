/* SPDX-License-Identifier: MIT */
#include "link_fixture.h"

/* ---- ends ----------------------------------------------------------------- */

LOOP_TEST(goodbye_in_order_is_an_end_in_order)
{
    struct problem why;
    struct both b;

    both_open(&b, 4096);
    echo(b.client, "x");
    link_goodbye(b.client, NULL, keel_after(KEEL_SECOND));
    assert_int_equal(link_wait(b.client, KEEL_FOREVER, &why), 0);
    assert_int_equal(link_wait(b.server, KEEL_FOREVER, &why), 0);
    assert_int_equal(link_ask(b.client, "echo", NULL, KEEL_FOREVER, NULL, &why),
                     -EPIPE);
    both_close(&b);
}

LOOP_TEST(goodbye_brings_its_reason_to_who_waits)
{
    struct exchange *x;
    struct problem bye, why;
    struct both b;

    both_open(&b, 4096);
    assert_int_equal(link_call(b.client, "gate", NULL, &x, &why), 0);
    keel_event_wait(&b.serve.entered, KEEL_FOREVER);
    problem(&bye, SERVER_STOPPING);
    link_goodbye(b.server, &bye, keel_after(KEEL_SECOND));
    assert_int_equal(b.serve.cancelled, 1);
    assert_int_equal(exchange_reply(x, KEEL_FOREVER, NULL, &why), -ESHUTDOWN);
    assert_int_equal(why.id, PROBLEM_SERVER_STOPPING);
    assert_int_equal(link_wait(b.client, KEEL_FOREVER, &why), -ESHUTDOWN);
    exchange_free(x);
    both_close(&b);
}

LOOP_TEST(goodbye_to_who_does_not_read_ends_at_its_deadline)
{
    struct both b;
    keel_ns began;

    raw_open(&b);
    raw_json(&b, WIRE_REQUEST, "{\"id\":1,\"do\":\"big\",\"size\":500000}");
    keel_sleep(keel_after(KEEL_SECOND));
    began = keel_now();
    link_goodbye(b.server, NULL, keel_after(3 * KEEL_SECOND));
    assert_true(keel_now() - began < 4 * KEEL_SECOND);
    both_close(&b);
}

LOOP_TEST(the_end_of_the_stream_is_in_order_only_when_nothing_is_open)
{
    struct problem why;
    struct both b;

    raw_open(&b);
    keel_stream_finish(b.end[0], KEEL_FOREVER);
    assert_int_equal(link_wait(b.server, KEEL_FOREVER, &why), 0);
    both_close(&b);
    raw_open(&b);
    raw_json(&b, WIRE_REQUEST, "{\"id\":1,\"do\":\"gate\"}");
    keel_stream_finish(b.end[0], KEEL_FOREVER);
    assert_int_equal(link_wait(b.server, KEEL_FOREVER, &why), -ECONNABORTED);
    keel_sleep(keel_after(KEEL_SECOND));
    assert_int_equal(b.serve.cancelled, 1);
    both_close(&b);
}

LOOP_TEST(who_breaks_the_protocol_and_stops_writing_still_hears_why)
{
    struct both b;

    raw_open(&b);
    raw_json(&b, 99, "{}");
    keel_stream_finish(b.end[0], KEEL_FOREVER);
    raw_goodbye(&b, "protocol.broken");
    both_close(&b);
}

static int cutter_run(void *arg)
{
    struct both *b = arg;

    keel_sleep(keel_after(KEEL_SECOND));
    link_cut(b->client);
    return 0;
}

LOOP_TEST(a_cut_ends_a_send_that_is_stuck_in_a_frame)
{
    struct both b = {.rc = 0};
    struct link_options o = {.agent = "client"};
    uint8_t *bytes = calloc(1, MIB);
    struct exchange *x;
    struct problem why;

    assert_int_equal(keel_stream_pair(4096, b.end), 0);
    raw_json(&b, WIRE_HELLO, HELLO);
    assert_int_equal(link_open(b.end[1], &o, &b.client, &why), 0);
    b.end[1] = NULL;
    assert_int_equal(link_call(b.client, "x", NULL, &x, &why), 0);
    raw_small(&b, WIRE_CREDIT, 1, 1 << 20);
    assert_int_equal(keel_spawn(NULL, cutter_run, &b, NULL), 0);
    assert_int_equal(exchange_send(x, 0, bytes, MIB, KEEL_FOREVER, &why),
                     -ECANCELED);
    free(bytes);
    exchange_free(x);
    both_close(&b);
}

/* The memory that place lends is the caller's again after data_off, though the
 * peer is in the middle of a frame. */
LOOP_TEST(data_off_takes_the_memory_back_in_the_middle_of_a_frame)
{
    struct both b = {.rc = 0};
    struct link_options o = {.agent = "client"};
    struct serve s = {.into_size = 1000, .granted = 1000};
    uint8_t head[17], bytes[1000] = {0};
    struct exchange *x;
    struct problem why;

    assert_int_equal(keel_stream_pair(4096, b.end), 0);
    raw_json(&b, WIRE_HELLO, HELLO);
    assert_int_equal(link_open(b.end[1], &o, &b.client, &why), 0);
    b.end[1] = NULL;
    assert_int_equal(link_call(b.client, "x", NULL, &x, &why), 0);
    s.into = malloc(1000);
    exchange_data_on(
        x, &(struct exchange_sink){serve_place, serve_landed, NULL, &s});
    assert_int_equal(exchange_grant(x, 2000), 0);
    keel_sleep(keel_after(KEEL_SECOND));
    wire_data_head(1, 0, 1000, head);
    raw_write(&b, head, 17);
    raw_write(&b, bytes, 500);
    keel_sleep(keel_after(KEEL_SECOND));
    exchange_data_off(x);
    free(s.into);
    raw_write(&b, bytes, 500);
    raw_json(&b, WIRE_REPLY, "{\"id\":1,\"ok\":{}}");
    assert_int_equal(exchange_reply(x, KEEL_FOREVER, NULL, &why), 0);
    assert_int_equal(s.landed, 0);
    exchange_free(x);
    both_close(&b);
}

LOOP_TEST(a_handler_may_cut_its_link)
{
    struct problem why;
    struct both b;

    both_open(&b, 4096);
    assert_true(link_ask(b.client, "cut", NULL, keel_after(KEEL_SECOND), NULL,
                         &why) < 0);
    both_close(&b);
}

LOOP_TEST(closing_ends_everything_that_is_in_progress)
{
    struct exchange *x[4];
    struct problem why;
    struct both b;

    both_open(&b, 4096);
    assert_int_equal(link_call(b.client, "gate", NULL, &x[0], &why), 0);
    assert_int_equal(link_call(b.client, "source",
                               json_pack("{s:i}", "size", 1 << 20), &x[1],
                               &why),
                     0);
    assert_int_equal(link_call(b.client, "sink",
                               json_pack("{s:i}", "size", 1 << 20), &x[2],
                               &why),
                     0);
    assert_int_equal(link_call(b.client, "big",
                               json_pack("{s:i}", "size", 1000000), &x[3],
                               &why),
                     0);
    assert_int_equal(exchange_grant(x[1], 1000), 0);
    keel_sleep(keel_after(100 * KEEL_MS));
    link_close(b.server);
    b.server = NULL;
    for (int i = 0; i < 4; i++) {
        (void)exchange_reply(x[i], KEEL_FOREVER, NULL, &why);
        exchange_free(x[i]);
    }
    assert_int_equal(b.serve.running, 0);
    both_close(&b);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(goodbye_in_order_is_an_end_in_order),
        cmocka_unit_test(goodbye_brings_its_reason_to_who_waits),
        cmocka_unit_test(goodbye_to_who_does_not_read_ends_at_its_deadline),
        cmocka_unit_test(
            the_end_of_the_stream_is_in_order_only_when_nothing_is_open),
        cmocka_unit_test(
            who_breaks_the_protocol_and_stops_writing_still_hears_why),
        cmocka_unit_test(a_cut_ends_a_send_that_is_stuck_in_a_frame),
        cmocka_unit_test(
            data_off_takes_the_memory_back_in_the_middle_of_a_frame),
        cmocka_unit_test(a_handler_may_cut_its_link),
        cmocka_unit_test(closing_ends_everything_that_is_in_progress),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
