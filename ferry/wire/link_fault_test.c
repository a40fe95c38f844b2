/* SPDX-License-Identifier: MIT */
#include "link_fixture.h"

#include "test/fault.h"

/* ---- a conversation, cut everywhere ---------------------------------------- */

static void conversation(struct both *b)
{
    raw_json(b, WIRE_HELLO, HELLO);
    raw_json(b, WIRE_REQUEST, "{\"id\":1,\"do\":\"echo\",\"text\":\"x\"}");
    raw_json(b, WIRE_REQUEST, "{\"id\":2,\"do\":\"gate\"}");
    raw_json(b, WIRE_REQUEST, "{\"id\":3,\"do\":\"sink\",\"size\":300}");
    raw_json(b, WIRE_REQUEST, "{\"id\":4,\"do\":\"source\",\"size\":200}");
    raw_small(b, WIRE_CREDIT, 4, 150);
    raw_small(b, WIRE_CANCEL, 2, 0);
}

/* What a client says, `bytes` of it, with data that had its credit. */
static size_t recorded(uint8_t *bytes, size_t most)
{
    struct keel_stream *pair[2];
    struct both b = {.rc = 0};
    ssize_t n;

    assert_int_equal(keel_stream_pair(most, pair), 0);
    b.end[0] = pair[0];
    conversation(&b);
    n = keel_stream_read(pair[1], bytes, most, KEEL_NOW);
    assert_true(n > 0);
    keel_stream_close(pair[0]);
    keel_stream_close(pair[1]);
    return (size_t)n;
}

/* Closed at once, closed after the server did what it could, or only half
 * closed. */
LOOP_TEST(a_peer_may_vanish_at_any_byte)
{
    uint8_t bytes[1024];
    size_t size = recorded(bytes, sizeof(bytes));
    struct both b;

    for (size_t cut = 0; cut <= size; cut++) {
        for (int way = 0; way < 3; way++) {
            raw_begin(&b, 4096);
            raw_write(&b, bytes, cut);
            if (way > 0)
                keel_sleep(keel_after(KEEL_MS));
            if (way == 2)
                keel_stream_finish(b.end[0], KEEL_FOREVER);
            if (way < 2) {
                keel_stream_close(b.end[0]);
                b.end[0] = NULL;
            }
            raw_opened(&b);
            if (b.rc == 0)
                (void)link_wait(b.server, KEEL_FOREVER, NULL);
            both_close(&b);
        }
    }
}

LOOP_TEST(a_peer_may_vanish_at_any_byte_of_its_data)
{
    struct both b;
    uint8_t bytes[317];

    wire_data_head(1, 0, 300, bytes);
    for (size_t i = 0; i < 300; i++)
        bytes[17 + i] = pattern(i);
    for (size_t cut = 0; cut < sizeof(bytes); cut++) {
        sink_open(&b, "{\"id\":1,\"do\":\"sink\",\"size\":300}", 300);
        raw_write(&b, bytes, cut);
        keel_yield();
        keel_stream_close(b.end[0]);
        b.end[0] = NULL;
        assert_true(link_wait(b.server, KEEL_FOREVER, NULL) < 0);
        both_close(&b);
    }
}

LOOP_TEST(a_link_may_be_closed_after_any_byte)
{
    uint8_t bytes[1024];
    size_t size = recorded(bytes, sizeof(bytes));
    struct both b;

    for (size_t cut = 45; cut <= size; cut++) {
        raw_begin(&b, 16); /* replies fill it at once */
        for (size_t i = 0; i < cut; i++)
            if (keel_stream_write(b.end[0], bytes + i, 1, keel_after(KEEL_MS)) <
                0)
                break;
        if (b.server)
            link_close(keel_take(b.server));
        both_close(&b);
    }
}

/* ---- memory ---------------------------------------------------------------- */

static int small_talk(struct both *b)
{
    struct link_options o = {.agent = "client"};
    struct exchange *x = NULL;
    struct problem why;
    json_t *j = NULL;
    int rc;

    memset(b, 0, sizeof(*b));
    serve_init(&b->serve);
    rc = keel_stream_pair(4096, b->end);
    if (rc < 0)
        return rc;
    rc = keel_spawn(NULL, open_server, b, &b->opener);
    if (rc < 0)
        return rc;
    rc = link_open(b->end[0], &o, &b->client, &why);
    if (rc < 0)
        return rc;
    b->end[0] = NULL;
    rc = link_ask(b->client, "echo", text_json("x"), KEEL_FOREVER, &j, &why);
    json_decref(j);
    if (rc < 0)
        return rc;
    rc =
        link_call(b->client, "notes", json_pack("{s:i}", "count", 2), &x, &why);
    if (rc < 0)
        return rc;
    while ((rc = exchange_note(x, KEEL_FOREVER, &j, &why)) == 0)
        json_decref(j);
    if (rc == -ENODATA)
        rc = exchange_reply(x, KEEL_FOREVER, NULL, &why);
    exchange_free(x);
    if (rc < 0)
        return rc;
    rc = link_call(b->client, "source", json_pack("{s:i}", "size", 10), &x,
                   &why);
    if (rc < 0)
        return rc;
    if (exchange_grant(x, 10) == 0)
        rc = exchange_reply(x, KEEL_FOREVER, NULL, &why);
    exchange_free(x);
    if (rc < 0)
        return rc;
    rc = link_call(b->client, "gate", NULL, &x, &why);
    if (rc < 0)
        return rc;
    keel_yield();
    exchange_free(x);
    link_goodbye(b->client, NULL, keel_after(KEEL_SECOND));
    return link_wait(b->client, KEEL_FOREVER, &why);
}

LOOP_TEST(every_allocation_may_fail)
{
    struct both b;
    bool fired = true;
    unsigned nth;

    for (nth = 1; fired; nth++) {
        fault_fail_alloc(nth);
        (void)small_talk(&b);
        fired = fault_fired();
        fault_clear();
        both_close(&b);
    }
    assert_true(nth > 50);
    /* Without a fault all went well. */
    assert_int_equal(small_talk(&b), 0);
    both_close(&b);
}

/* ---- anything at any time ---------------------------------------------------- */

static _Thread_local uint64_t dice = 1;

static unsigned roll(unsigned sides)
{
    dice ^= dice << 13;
    dice ^= dice >> 7;
    dice ^= dice << 17;
    return (unsigned)(dice >> 11) % sides;
}

static void pause_somehow(void)
{
    for (unsigned i = roll(3); i > 0; i--)
        keel_yield();
    if (roll(12) == 0)
        keel_sleep(keel_after((keel_ns)roll(1000) * KEEL_US));
}

static int upload_somehow(struct exchange *x, uint64_t size,
                          struct problem *why)
{
    uint8_t *bytes = malloc(size);
    int rc = 0;

    for (uint64_t i = 0; i < size; i++)
        bytes[i] = pattern(i);
    for (uint64_t at = 0, n; rc == 0 && at < size; at += n) {
        n = 1 + roll(size < 50000 ? 5000 : 200000);
        n = n < size - at ? n : size - at;
        pause_somehow();
        rc = exchange_send(x, at, bytes + at, n,
                           roll(8) ? KEEL_FOREVER
                                   : keel_after((keel_ns)roll(900) * KEEL_US),
                           why);
    }
    free(bytes);
    return rc;
}

/* One client's coroutine: whatever happens to others, what is answered is
 * right. */
static int somehow_run(void *arg)
{
    struct link *l = arg;
    struct exchange *x;
    struct problem why;
    char text[16];
    int rc;

    for (int i = 0; i < 12; i++) {
        uint64_t size = 1 + roll(300000);

        pause_somehow();
        switch (roll(5)) {
        case 0:
            snprintf(text, sizeof(text), "%u", roll(1000));
            echo(l, text);
            break;
        case 1:
            if (link_call(l, roll(2) ? "gate" : "notes",
                          json_pack("{s:i}", "count", roll(60)), &x,
                          &why) == 0) {
                pause_somehow();
                exchange_free(x);
            }
            break;
        case 2:
        case 3:
            assert_int_equal(
                link_call(l, "sink",
                          json_pack("{s:I,s:i}", "size", (json_int_t)size,
                                    "step", 1 + roll(100000)),
                          &x, &why),
                0);
            rc = upload_somehow(x, size, &why);
            if (rc == 0)
                rc = exchange_reply(x, KEEL_FOREVER, NULL, &why);
            assert_true(rc == 0 || rc == -ETIMEDOUT);
            exchange_free(x);
            break;
        default: {
            struct mover m = {l, size, false};

            mover_run(&m);
        }
        }
    }
    return 0;
}

LOOP_TEST(any_order_of_events_keeps_every_promise)
{
    struct keel_group *g;
    struct both b;

    for (uint64_t seed = 1; seed <= 12; seed++) {
        dice = seed * 0x9e3779b97f4a7c15u;
        both_open(&b, 1 + roll(roll(2) ? 100 : 400000));
        keel_event_set(&b.serve.gate);
        assert_int_equal(keel_group_new(0, &g), 0);
        for (int i = 0; i < 6; i++)
            assert_int_equal(keel_spawn(&(struct keel_spawn){.group = g},
                                        somehow_run, b.client, NULL),
                             0);
        assert_int_equal(keel_group_join(g, KEEL_FOREVER), 0);
        keel_group_free(g);
        echo(b.client, "the end"); /* behind every cancel */
        assert_int_equal(b.client->open_count, 0);
        assert_int_equal(b.client->held, 0);
        assert_int_equal(b.server->open_count, 0);
        assert_int_equal(b.serve.running, 0);
        assert_true(TAILQ_EMPTY(&b.client->out));
        assert_int_equal(b.server->out_bytes, 0);
        both_close(&b);
    }
}

/* ---- two loops --------------------------------------------------------------- */

struct far {
    struct both *b;
    struct keel_event done;
};

static int far_run(void *arg)
{
    struct far *f = arg;
    struct both *b = f->b;
    struct link_options o = server_options(&b->serve);
    struct problem why;

    assert_int_equal(link_open(b->end[1], &o, &b->server, &why), 0);
    b->end[1] = NULL;
    link_trust(b->server);
    assert_int_equal(link_wait(b->server, KEEL_FOREVER, &why), 0);
    assert_int_equal(b->server->open_count, 0);
    link_close(b->server);
    b->server = NULL;
    return 0;
}

static int two_loops_main(void *arg)
{
    struct link_options o = {.agent = "client"};
    struct keel_loop *loop;
    struct keel_co *server;
    struct keel_group *g;
    struct problem why;
    struct both b = {.rc = 0};
    struct far f = {.b = &b};
    int rc;

    (void)arg;
    for (uint64_t seed = 1; seed <= 3; seed++) {
        dice = seed * 0x9e3779b97f4a7c15u;
        serve_init(&b.serve);
        keel_event_set(&b.serve.gate);
        assert_int_equal(keel_stream_pair(1 + roll(100000), b.end), 0);
        assert_int_equal(keel_loop_start("far", &loop), 0);
        assert_int_equal(keel_spawn(&(struct keel_spawn){.loop = loop}, far_run,
                                    &f, &server),
                         0);
        assert_int_equal(link_open(b.end[0], &o, &b.client, &why), 0);
        b.end[0] = NULL;
        assert_int_equal(keel_group_new(0, &g), 0);
        for (int i = 0; i < 6; i++)
            assert_int_equal(keel_spawn(&(struct keel_spawn){.group = g},
                                        somehow_run, b.client, NULL),
                             0);
        assert_int_equal(keel_group_join(g, KEEL_FOREVER), 0);
        keel_group_free(g);
        echo(b.client, "the end");
        link_goodbye(b.client, NULL, keel_after(5 * KEEL_SECOND));
        assert_int_equal(link_wait(b.client, KEEL_FOREVER, &why), 0);
        link_close(b.client);
        b.client = NULL;
        assert_int_equal(keel_join(server, KEEL_FOREVER, &rc), 0);
        keel_loop_stop(loop);
    }
    return 0;
}

static void the_ends_may_be_on_different_loops(void **state)
{
    (void)state;
    assert_int_equal(keel_run(two_loops_main, NULL), 0);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(a_peer_may_vanish_at_any_byte),
        cmocka_unit_test(a_peer_may_vanish_at_any_byte_of_its_data),
        cmocka_unit_test(a_link_may_be_closed_after_any_byte),
        cmocka_unit_test(every_allocation_may_fail),
        cmocka_unit_test(any_order_of_events_keeps_every_promise),
        cmocka_unit_test(the_ends_may_be_on_different_loops),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
