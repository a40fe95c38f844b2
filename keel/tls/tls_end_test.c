/* SPDX-License-Identifier: MIT */
#include "tls_fixture.h"

/* ---- ends ------------------------------------------------------------------------------------------ */

static int ends_in(void *arg)
{
    struct talk t = {0};
    char buf[100];

    (void)arg;
    talk_open(&t, 10000);
    assert_int_equal(keel_stream_write(t.tls[0], "last", 4, KEEL_FOREVER), 0);
    assert_int_equal(keel_stream_finish(t.tls[0], KEEL_FOREVER), 0);
    assert_int_equal(keel_stream_finish(t.tls[0], KEEL_FOREVER), 0);
    assert_int_equal(keel_stream_write(t.tls[0], "x", 1, KEEL_FOREVER), -EPIPE);
    assert_int_equal(
        keel_stream_read(t.tls[1], buf, sizeof buf, keel_after(SOON)), 4);
    for (int i = 0; i < 2; i++)
        assert_int_equal(
            keel_stream_read(t.tls[1], buf, sizeof buf, keel_after(SOON)), 0);
    /* The other direction goes on. */
    assert_int_equal(keel_stream_write(t.tls[1], "still", 5, KEEL_FOREVER), 0);
    assert_int_equal(
        keel_stream_read(t.tls[0], buf, sizeof buf, keel_after(SOON)), 5);
    assert_int_equal(keel_stream_finish(t.tls[1], KEEL_FOREVER), 0);
    assert_int_equal(
        keel_stream_read(t.tls[0], buf, sizeof buf, keel_after(SOON)), 0);
    talk_close(&t);
    return 0;
}

static void finish_is_the_end_of_one_direction(void **state)
{
    (void)state;
    on_a_loop(ends_in, NULL);
}

static int truncated_in(void *arg)
{
    char buf[100];

    (void)arg;
    for (int i = 0; i < 2; i++) {
        struct talk t = {0};

        talk_open(&t, 10000);
        assert_int_equal(keel_stream_write(t.tls[i], "part", 4, KEEL_FOREVER),
                         0);
        if (i == 0) { /* an orderly end, but below TLS */
            assert_int_equal(keel_stream_finish(t.below[i], KEEL_FOREVER), 0);
        } else {
            keel_stream_close(t.tls[i]);
            t.tls[i] = NULL;
        }
        assert_int_equal(
            keel_stream_read(t.tls[!i], buf, sizeof buf, keel_after(SOON)), 4);
        for (int k = 0; k < 2; k++)
            assert_int_equal(
                keel_stream_read(t.tls[!i], buf, sizeof buf, keel_after(SOON)),
                -ECONNABORTED);
        talk_close(&t);
    }
    return 0;
}

static void a_truncated_stream_is_an_error_not_an_end_of_file(void **state)
{
    (void)state;
    on_a_loop(truncated_in, NULL);
}

/* ---- deadlines and cancelling ------------------------------------------------------------------------ */

static int patience_in(void *arg)
{
    struct talk t = {0};
    char buf[100];

    (void)arg;
    talk_open(&t, 10000);
    for (int i = 0; i < 3; i++) {
        assert_int_equal(
            keel_stream_read(t.tls[i % 2], buf, sizeof buf,
                             i == 2 ? keel_after(KEEL_MS) : KEEL_NOW),
            -ETIMEDOUT);
        assert_int_equal(tls_buffers_lent(), 0);
    }
    assert_int_equal(keel_stream_write(t.tls[0], "later", 5, KEEL_FOREVER), 0);
    assert_int_equal(keel_stream_read(t.tls[1], buf, sizeof buf, KEEL_NOW), 5);
    talk_close(&t);
    return 0;
}

static void a_read_that_timed_out_has_lost_nothing(void **state)
{
    (void)state;
    on_a_loop(patience_in, NULL);
}

struct giving_up {
    struct talk talk;
    int rc;
    keel_ns deadline;
};

static int write_too_much(void *arg)
{
    struct giving_up *g = arg;
    uint8_t *buf = malloc(MIB);

    pattern_fill(buf, MIB, 0, 11);
    g->rc = keel_stream_write(g->talk.tls[0], buf, MIB, g->deadline);
    free(buf);
    return 0;
}

static int giving_up_in(void *arg)
{
    bool cancel = *(bool *)arg;
    struct giving_up g = {.deadline =
                              cancel ? KEEL_FOREVER : keel_after(20 * KEEL_MS)};
    struct keel_co *co = NULL;
    uint8_t buf[5000];
    size_t got = 0;
    ssize_t n;

    talk_open(&g.talk, 10000);
    assert_int_equal(keel_spawn(NULL, write_too_much, &g, &co), 0);
    for (int i = 0; i < 10; i++)
        keel_yield();
    if (cancel)
        keel_cancel(co);
    assert_int_equal(keel_join(co, KEEL_FOREVER, NULL), 0);
    assert_int_equal(g.rc, cancel ? -ECANCELED : -ETIMEDOUT);

    assert_int_equal(keel_stream_write(g.talk.tls[0], "x", 1, KEEL_FOREVER),
                     -EPIPE);
    assert_int_equal(keel_stream_finish(g.talk.tls[0], KEEL_FOREVER), -EPIPE);
    assert_int_equal(
        keel_stream_read(g.talk.tls[0], buf, sizeof buf, KEEL_FOREVER),
        -ECONNABORTED);
    assert_int_equal(tls_buffers_lent(), 0);

    /* The peer gets what left, whole, and then sees the cut. */
    keel_stream_close(g.talk.tls[0]);
    g.talk.tls[0] = NULL;
    while ((n = keel_stream_read(g.talk.tls[1], buf, sizeof buf,
                                 keel_after(SOON))) > 0) {
        pattern_check(buf, (size_t)n, got, 11);
        got += (size_t)n;
    }
    assert_int_equal(n, -ECONNABORTED);
    assert_true(got < MIB);
    talk_close(&g.talk);
    return 0;
}

static void a_write_given_up_makes_the_stream_unusable(void **state)
{
    (void)state;
    on_a_loop(giving_up_in, &(bool){false});
    on_a_loop(giving_up_in, &(bool){true});
}

/* What the peer said before it went away. */
static int last_words_in(void *arg)
{
    struct talk t = {0};
    uint8_t buf[20000];
    int rc = 0;

    (void)arg;
    memset(buf, 0, sizeof buf);
    talk_open(&t, 100000);
    assert_int_equal(keel_stream_write(t.tls[0], "refused", 7, KEEL_FOREVER),
                     0);
    assert_int_equal(keel_stream_finish(t.tls[0], KEEL_FOREVER), 0);
    keel_stream_close(t.tls[0]);
    t.tls[0] = NULL;
    for (int i = 0; i < 10 && rc == 0; i++)
        rc = keel_stream_write(t.tls[1], buf, sizeof buf, keel_after(SOON));
    assert_true(rc == -EPIPE || rc == -ECONNRESET);
    assert_int_equal(keel_stream_write(t.tls[1], buf, 1, keel_after(SOON)), rc);
    assert_int_equal(
        keel_stream_read(t.tls[1], buf, sizeof buf, keel_after(SOON)), 7);
    assert_int_equal(
        keel_stream_read(t.tls[1], buf, sizeof buf, keel_after(SOON)), 0);
    talk_close(&t);
    return 0;
}

static void the_last_words_of_a_peer_that_is_gone_can_be_read(void **state)
{
    (void)state;
    on_a_loop(last_words_in, NULL);
}

static int tampered_in(void *arg)
{
    struct talk t = {0};
    char buf[100];

    (void)arg;
    talk_open(&t, 10000);
    assert_int_equal(keel_stream_write(t.below[0],
                                       "\x17\x03\x03\x00\x20"
                                       "0123456789abcdef0123456789abcdef",
                                       37, keel_after(SOON)),
                     0);
    for (int i = 0; i < 2; i++)
        assert_int_equal(
            keel_stream_read(t.tls[1], buf, sizeof buf, keel_after(SOON)),
            -EPROTO);
    /* Its alert reaches the peer. */
    assert_int_equal(
        keel_stream_read(t.tls[0], buf, sizeof buf, keel_after(SOON)), -EPROTO);
    talk_close(&t);
    return 0;
}

static void a_forged_record_ends_the_stream(void **state)
{
    (void)state;
    on_a_loop(tampered_in, NULL);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(finish_is_the_end_of_one_direction),
        cmocka_unit_test(a_truncated_stream_is_an_error_not_an_end_of_file),
        cmocka_unit_test(a_read_that_timed_out_has_lost_nothing),
        cmocka_unit_test(a_write_given_up_makes_the_stream_unusable),
        cmocka_unit_test(the_last_words_of_a_peer_that_is_gone_can_be_read),
        cmocka_unit_test(a_forged_record_ends_the_stream),
    };

    return cmocka_run_group_tests(tests, set_up, tear_down);
}
