/* SPDX-License-Identifier: MIT */
#include "link_fixture.h"

/* ---- back-pressure -------------------------------------------------------- */

LOOP_TEST(replies_that_nobody_reads_stall_their_handlers)
{
    struct both b;
    char text[64];

    raw_open(&b);
    link_trust(b.server);
    for (int i = 1; i <= 200; i++) {
        snprintf(text, sizeof(text),
                 "{\"id\":%d,\"do\":\"big\",\"size\":200000}", i);
        raw_json(&b, WIRE_REQUEST, text);
    }
    keel_sleep(keel_after(KEEL_SECOND));
    assert_int_equal(b.serve.served, 200);
    assert_true(b.serve.running > 190);
    assert_true(b.server->out_bytes < 512 * 1024);
    for (int i = 1; i <= 200; i++)
        raw_expect(&b, WIRE_REPLY);
    keel_sleep(keel_after(KEEL_SECOND));
    assert_int_equal(b.serve.running, 0);
    assert_int_equal(b.server->out_bytes, 0);
    both_close(&b);
}

LOOP_TEST(a_peer_that_never_reads_is_cut_off)
{
    struct problem why;
    struct both b;

    raw_open(&b);
    raw_json(&b, WIRE_REQUEST, "{\"id\":1,\"do\":\"big\",\"size\":500000}");
    assert_int_equal(link_wait(b.server, keel_after(119 * KEEL_SECOND), &why),
                     -ETIMEDOUT);
    assert_int_equal(why.id, PROBLEM_CONNECT_TIMEOUT);
    assert_int_equal(link_wait(b.server, keel_after(3 * KEEL_SECOND), &why),
                     -ETIMEDOUT);
    assert_int_equal(why.id, PROBLEM_CONNECT_LOST);
    both_close(&b);
}

LOOP_TEST(a_cancelled_handler_that_waits_for_room_answers_when_there_is)
{
    struct both b;

    raw_open(&b);
    raw_json(&b, WIRE_REQUEST, "{\"id\":9,\"do\":\"gate\"}");
    for (int i = 1; i <= 3; i++) {
        char text[64];

        snprintf(text, sizeof(text),
                 "{\"id\":%d,\"do\":\"big\",\"size\":200000}", i);
        raw_json(&b, WIRE_REQUEST, text);
    }
    keel_sleep(keel_after(KEEL_SECOND));
    raw_small(&b, WIRE_CANCEL, 9, 0);
    keel_sleep(keel_after(KEEL_SECOND));
    assert_int_equal(b.serve.cancelled, 1);
    assert_true(b.serve.running > 0);
    raw_refused(&b, 9, "cancelled");
    both_close(&b);
}

LOOP_TEST(data_never_overtakes_what_announces_it)
{
    struct wire_frame f;
    bool told = false;
    char text[64];
    struct both b;

    raw_open(&b);
    link_trust(b.server);
    /* The writer is stuck while the queue grows. */
    raw_json(&b, WIRE_REQUEST, "{\"id\":201,\"do\":\"big\",\"size\":200000}");
    keel_sleep(keel_after(KEEL_SECOND));
    for (int i = 1; i <= 100; i++) {
        snprintf(text, sizeof(text), "{\"id\":%d,\"do\":\"echo\",\"text\":1}",
                 i);
        raw_json(&b, WIRE_REQUEST, text);
    }
    raw_json(&b, WIRE_REQUEST, "{\"id\":200,\"do\":\"told\",\"size\":1}");
    raw_small(&b, WIRE_CREDIT, 200, 1);
    keel_sleep(keel_after(KEEL_SECOND));
    do {
        assert_int_equal(raw_read(&b, &f), 0);
        told |= f.kind == WIRE_NOTE;
        wire_frame_fini(&f);
    } while (f.kind != WIRE_DATA);
    assert_true(told);
    both_close(&b);
}

LOOP_TEST(data_of_several_requests_takes_turns)
{
    struct wire_frame f;
    uint8_t *bytes = malloc(WIRE_DATA_BYTES);
    struct both b;

    raw_open(&b);
    for (uint32_t id = 1; id <= 3; id++) {
        char text[64];

        snprintf(text, sizeof(text),
                 "{\"id\":%u,\"do\":\"source\",\"size\":1048576}", id);
        raw_json(&b, WIRE_REQUEST, text);
        raw_small(&b, WIRE_CREDIT, id, 1 << 20);
    }
    keel_sleep(keel_after(KEEL_SECOND));
    for (uint32_t i = 0; i < 12; i++) {
        do {
            assert_int_equal(raw_read(&b, &f), 0);
            wire_frame_fini(&f);
        } while (f.kind == WIRE_REPLY);
        assert_int_equal(f.kind, WIRE_DATA);
        /* The first frame may go before the others have asked. */
        if (i >= 3)
            assert_int_equal(f.offset, i / 3 * WIRE_DATA_BYTES);
        assert_int_equal(f.size, WIRE_DATA_BYTES);
        assert_int_equal(
            keel_stream_read_all(b.end[0], bytes, f.size, NULL, KEEL_FOREVER),
            0);
    }
    free(bytes);
    both_close(&b);
}

static int chatter_run(void *arg)
{
    struct mover *m = arg;
    size_t size = m->size < MIB ? 2000 : 20000;
    char *text = malloc(size);

    memset(text, 'y', size - 1);
    text[size - 1] = 0;
    for (int i = 0; i < 50; i++)
        echo(m->link, text);
    free(text);
    return 0;
}

LOOP_TEST(full_buffers_in_both_directions_stop_nothing)
{
    static const size_t buffers[] = {1, 7, 64, 5000, 300000};
    struct keel_group *g;
    struct mover m[4];
    struct both b;

    for (size_t k = 0; k < sizeof(buffers) / sizeof(*buffers); k++) {
        uint64_t size = buffers[k] < 64 ? 20000 : 3 * MIB + 17;

        both_open(&b, buffers[k]);
        assert_int_equal(keel_group_new(0, &g), 0);
        for (int i = 0; i < 4; i++) {
            m[i] = (struct mover){b.client, size, i % 2 == 0};
            assert_int_equal(keel_spawn(&(struct keel_spawn){.group = g},
                                        mover_run, &m[i], NULL),
                             0);
            assert_int_equal(keel_spawn(&(struct keel_spawn){.group = g},
                                        chatter_run, &m[i], NULL),
                             0);
        }
        assert_int_equal(keel_group_join(g, KEEL_FOREVER), 0);
        keel_group_free(g);
        assert_int_equal(b.server->bytes_in, 2 * size);
        assert_int_equal(b.client->bytes_in, 2 * size);
        both_close(&b);
    }
}

/* ---- credit --------------------------------------------------------------- */

LOOP_TEST(data_up_to_the_credit_is_taken_and_no_byte_more)
{
    struct both b;

    sink_open(&b, "{\"id\":1,\"do\":\"sink\",\"size\":2000,\"step\":1000}",
              1000);
    raw_data(&b, 1, 0, 999);
    raw_data(&b, 1, 999, 1);
    raw_expect(&b, WIRE_CREDIT);
    raw_data(&b, 1, 1000, 1000);
    raw_answered(&b, 1);
    both_close(&b);

    sink_open(&b, "{\"id\":1,\"do\":\"sink\",\"size\":2000,\"step\":1000}",
              1000);
    raw_data(&b, 1, 0, 1001);
    raw_goodbye(&b, "transfer.credit");
    both_close(&b);

    sink_open(&b, "{\"id\":1,\"do\":\"sink\",\"size\":2000,\"step\":1000}",
              1000);
    raw_data(&b, 1, 0, 500);
    raw_data(&b, 1, 500, 501);
    raw_goodbye(&b, "transfer.credit");
    both_close(&b);
}

LOOP_TEST(data_that_has_no_place_breaks_the_protocol)
{
    struct both b;

    sink_open(&b, "{\"id\":1,\"do\":\"sink\",\"size\":2000}", 2000);
    raw_data(&b, 1, 1500, 501);
    raw_goodbye(&b, "transfer.range");
    both_close(&b);
}

LOOP_TEST(data_for_no_request_is_beyond_the_credit)
{
    struct both b;

    raw_open(&b);
    raw_data(&b, 1, 0, 1);
    raw_goodbye(&b, "transfer.credit");
    both_close(&b);
    raw_open(&b);
    raw_json(&b, WIRE_REQUEST, "{\"id\":1,\"do\":\"gate\"}");
    raw_data(&b, 1, 0, 1);
    raw_goodbye(&b, "transfer.credit");
    both_close(&b);
}

LOOP_TEST(data_that_crossed_the_reply_is_dropped_within_its_credit)
{
    struct both b;

    for (uint32_t over = 0; over <= 1; over++) {
        sink_open(&b, "{\"id\":1,\"do\":\"sink\",\"size\":2000}", 2000);
        raw_data(&b, 1, 0, 500);
        raw_small(&b, WIRE_CANCEL, 1, 0);
        raw_refused(&b, 1, "cancelled");
        raw_data(&b, 1, 500, 1000);
        raw_data(&b, 1, 1500, 500 + over);
        raw_json(&b, WIRE_REQUEST, "{\"id\":1,\"do\":\"echo\",\"text\":1}");
        if (over)
            raw_goodbye(&b, "transfer.credit");
        else
            raw_answered(&b, 1);
        both_close(&b);
    }
}

LOOP_TEST(a_sender_sends_what_was_granted)
{
    struct wire_frame f;
    uint8_t byte;
    struct both b;

    raw_open(&b);
    raw_json(&b, WIRE_REQUEST, "{\"id\":1,\"do\":\"source\",\"size\":3}");
    keel_sleep(keel_after(KEEL_SECOND));
    for (uint64_t i = 0; i < 3; i++) {
        raw_small(&b, WIRE_CREDIT, 1, i < 2 ? 1 : 100);
        assert_int_equal(raw_read(&b, &f), 0);
        assert_true(f.kind == WIRE_DATA && f.offset == i && f.size == 1);
        assert_int_equal(
            keel_stream_read_all(b.end[0], &byte, 1, NULL, KEEL_FOREVER), 0);
        assert_int_equal(byte, pattern(i));
    }
    raw_answered(&b, 1);
    both_close(&b);
}

LOOP_TEST(open_credit_is_bounded)
{
    struct both b;

    for (int over = 0; over <= 1; over++) {
        raw_open(&b);
        raw_json(&b, WIRE_REQUEST, "{\"id\":1,\"do\":\"gate\"}");
        for (int i = 0; i < 4; i++)
            raw_small(&b, WIRE_CREDIT, 1, 1 << 30);
        if (over) {
            raw_small(&b, WIRE_CREDIT, 1, 1);
            raw_goodbye(&b, "protocol.broken");
        } else {
            raw_small(&b, WIRE_CANCEL, 1, 0);
            raw_refused(&b, 1, "cancelled");
        }
        both_close(&b);
    }
}

LOOP_TEST(a_transfer_without_credit_delays_nobody)
{
    struct exchange *x;
    struct problem why;
    struct both b;

    both_open(&b, 4096);
    assert_int_equal(link_call(b.client, "source",
                               json_pack("{s:i}", "size", 1 << 20), &x, &why),
                     0);
    for (int i = 0; i < 20; i++)
        echo(b.client, "quick");
    assert_int_equal(b.client->bytes_in, 0);
    exchange_free(x);
    both_close(&b);
}

/* As the reader does when the reply to an abandoned request comes before its
 * CANCEL is written. */
static int take_back(void *arg)
{
    struct exchange *x = arg;

    assert_true(x->last.queued);
    out_remove(x->link, &x->last);
    return 0;
}

LOOP_TEST(data_does_not_wait_for_a_frame_that_was_taken_back)
{
    struct exchange *abandoned, *upload;
    struct keel_co *reader;
    struct problem why;
    struct both b;
    uint8_t byte = pattern(0);

    both_open(&b, 4096);
    assert_int_equal(link_call(b.client, "gate", NULL, &abandoned, &why), 0);
    assert_int_equal(link_call(b.client, "sink", json_pack("{s:i}", "size", 1),
                               &upload, &why),
                     0);
    assert_int_equal(exchange_credit_wait(upload, 0, KEEL_FOREVER, &why), 0);
    /* In this order: the CANCEL is queued, the data begins, the frame goes. */
    assert_int_equal(keel_spawn(NULL, take_back, abandoned, &reader), 0);
    exchange_free(abandoned);
    assert_int_equal(
        exchange_send(upload, 0, &byte, 1, keel_after(10 * KEEL_SECOND), &why),
        0);
    assert_int_equal(keel_join(reader, KEEL_FOREVER, NULL), 0);
    exchange_free(upload);
    both_close(&b);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(replies_that_nobody_reads_stall_their_handlers),
        cmocka_unit_test(a_peer_that_never_reads_is_cut_off),
        cmocka_unit_test(
            a_cancelled_handler_that_waits_for_room_answers_when_there_is),
        cmocka_unit_test(data_never_overtakes_what_announces_it),
        cmocka_unit_test(data_of_several_requests_takes_turns),
        cmocka_unit_test(full_buffers_in_both_directions_stop_nothing),
        cmocka_unit_test(data_up_to_the_credit_is_taken_and_no_byte_more),
        cmocka_unit_test(data_that_has_no_place_breaks_the_protocol),
        cmocka_unit_test(data_for_no_request_is_beyond_the_credit),
        cmocka_unit_test(
            data_that_crossed_the_reply_is_dropped_within_its_credit),
        cmocka_unit_test(a_sender_sends_what_was_granted),
        cmocka_unit_test(open_credit_is_bounded),
        cmocka_unit_test(a_transfer_without_credit_delays_nobody),
        cmocka_unit_test(data_does_not_wait_for_a_frame_that_was_taken_back),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
