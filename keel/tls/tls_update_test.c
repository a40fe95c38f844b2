/* SPDX-License-Identifier: MIT */
#include "tls_fixture.h"

/* ---- key updates ---------------------------------------------------------------------------------------- */

static unsigned key_updates[2][2]; /* [received or sent][server, client] */

static void count_updates(int sent, int version, int type, const void *buf,
                          size_t size, SSL *ssl, void *arg)
{
    (void)version, (void)size, (void)ssl, (void)arg;
    if (type == SSL3_RT_HANDSHAKE &&
        *(const uint8_t *)buf == SSL3_MT_KEY_UPDATE)
        key_updates[!!sent][SSL_is_server(ssl) ? 0 : 1]++;
}

static void updates_watch(struct talk *t)
{
    memset(key_updates, 0, sizeof key_updates);
    for (int i = 0; i < 2; i++)
        SSL_set_msg_callback(tls_ssl_of(t->tls[i]), count_updates);
}

static int key_updates_in(void *arg)
{
    static const size_t sizes[] = {100, 40000, 262144, 5};

    (void)arg;
    for (uint64_t every = 1; every < 50; every *= 5)
        for (size_t pipe = 3000; pipe <= 300000; pipe *= 100) {
            struct talk t = {0};

            tls_key_records = every;
            talk_open(&t, pipe);
            updates_watch(&t);
            cross(&t, sizes, 4, 2 * MIB);
            for (int i = 0; i < 2; i++) {
                assert_true(key_updates[0][i] > 1);
                assert_true(key_updates[1][i] > 1);
            }
            assert_int_equal(tls_buffers_lent(), 0);
            talk_close(&t);
        }
    tls_key_records = 1 << 21;
    return 0;
}

static void keys_change_while_both_ends_write(void **state)
{
    (void)state;
    on_a_loop(key_updates_in, NULL);
}

/* An end that never writes owes its answers, and yet is not kept by them, nor
 * keeps a buffer; it pays when there are too many, or when it writes. */
static int debts_in(void *arg)
{
    struct talk t = {0};
    char buf[100];

    (void)arg;
    tls_key_records = 1;
    talk_open(&t, 10000);
    updates_watch(&t);
    for (int i = 0; i < 30; i++) {
        assert_int_equal(
            keel_stream_write(t.tls[0], "down", 4, keel_after(SOON)), 0);
        assert_int_equal(
            keel_stream_read(t.tls[1], buf, sizeof buf, keel_after(SOON)), 4);
        assert_int_equal(tls_buffers_lent(), 0);
    }
    assert_int_equal(key_updates[1][0], 30);
    assert_int_equal(key_updates[0][1], 30);
    tls_key_records = 1 << 21;
    assert_int_equal(keel_stream_write(t.tls[1], "up", 2, keel_after(SOON)), 0);
    assert_int_equal(
        keel_stream_read(t.tls[0], buf, sizeof buf, keel_after(SOON)), 2);
    assert_int_equal(key_updates[0][0], 30);

    /* Many in one burst: more than there is room for answers. */
    tls_key_records = 1;
    for (int i = 0; i < 100; i++)
        assert_int_equal(
            keel_stream_write(t.tls[0], "more", 4, keel_after(SOON)), 0);
    tls_key_records = 1 << 21;
    for (int i = 0; i < 100; i++)
        assert_int_equal(keel_stream_read(t.tls[1], buf, 4, keel_after(SOON)),
                         4);
    assert_int_equal(keel_stream_write(t.tls[1], "up", 2, keel_after(SOON)), 0);
    assert_int_equal(
        keel_stream_read(t.tls[0], buf, sizeof buf, keel_after(SOON)), 2);
    assert_int_equal(key_updates[0][0], 130);
    talk_close(&t);
    return 0;
}

static void who_only_reads_answers_key_updates_later(void **state)
{
    (void)state;
    on_a_loop(debts_in, NULL);
}

/* Two ends that ask for new keys with every record, both pipes full: readers
 * must get on without their answers being taken. */
static int gridlock_in(void *arg)
{
    static const size_t sizes[] = {1, 7};

    (void)arg;
    struct talk t = {0};

    tls_key_records = 1;
    talk_open(&t, 200);
    cross(&t, sizes, 2, 3000);
    talk_close(&t);
    tls_key_records = 1 << 21;
    return 0;
}

static void key_updates_do_not_lock_two_writers(void **state)
{
    (void)state;
    on_a_loop(gridlock_in, NULL);
}

struct flood {
    struct talk talk;
    SSL_CTX *ctx;
    struct raw raw;
};

static int flood_peer(void *arg)
{
    struct flood *f = arg;

    raw_open(&f->raw, f->ctx, f->talk.below[1]);
    SSL_set_connect_state(f->raw.ssl);
    assert_int_equal(raw_shake(&f->raw), 0);
    for (int i = 0; i < 10000; i++) {
        SSL_key_update(f->raw.ssl, SSL_KEY_UPDATE_REQUESTED);
        assert_int_equal(SSL_do_handshake(f->raw.ssl), 1);
    }
    raw_send(&f->raw, SIZE_MAX);
    SSL_free(f->raw.ssl);
    return 0;
}

static int flood_accept(void *arg)
{
    return accept_in(&((struct flood *)arg)->talk);
}

static int flood_in(void *arg)
{
    struct flood f = {
        .talk = {.config = {server_config}, .deadline = keel_after(SOON)},
        .ctx = SSL_CTX_new(TLS_client_method())};
    char byte;

    (void)arg;
    assert_int_equal(keel_stream_pair(MIB, f.talk.below), 0);
    both(flood_accept, flood_peer, &f);
    assert_int_equal(f.talk.rc[0], 0);
    assert_int_equal(
        keel_stream_read(f.talk.tls[0], &byte, 1, keel_after(SOON)), -EPROTO);
    keel_stream_close(f.talk.tls[0]);
    keel_stream_close(f.talk.below[1]);
    SSL_CTX_free(f.ctx);
    return 0;
}

static void a_flood_of_key_updates_is_not_borne(void **state)
{
    (void)state;
    on_a_loop(flood_in, NULL);
}

/* ---- half of a message after the handshake --------------------------------------------------------------- */

struct half {
    struct talk talk;
    SSL_CTX *ctx;
    struct raw raw;
    struct keel_event shaken, finished;
    bool reads; /* a reader waits already when the writer comes */
    int rc;
};

/* A ticket too long for one record: its first record comes at once, the rest
 * when the client's writer is seen to wait for it. */
static int half_server(void *arg)
{
    struct half *h = arg;
    char long_data[2000] = {1}, buf[100];
    int rc;

    raw_open(&h->raw, h->ctx, h->talk.below[0]);
    SSL_set_accept_state(h->raw.ssl);
    SSL_set_max_send_fragment(h->raw.ssl, 512);
    assert_int_equal(raw_shake(&h->raw), 0);
    SSL_SESSION_set1_ticket_appdata(SSL_get_session(h->raw.ssl), long_data,
                                    sizeof long_data);
    assert_int_equal(SSL_new_session_ticket(h->raw.ssl), 1);
    SSL_write(h->raw.ssl, "after", 5);
    raw_send(&h->raw, 512 + TLS_SEAL);
    assert_int_equal(keel_event_wait(&h->shaken, keel_after(SOON)), 0);
    for (int i = 0; i < 20; i++)
        keel_yield();
    assert_int_equal(h->rc, 1); /* it waits */
    raw_send(&h->raw, SIZE_MAX);

    while ((rc = SSL_read(h->raw.ssl, buf, sizeof buf)) <= 0 &&
           SSL_get_error(h->raw.ssl, rc) == SSL_ERROR_WANT_READ)
        assert_true(raw_receive(&h->raw));
    if (rc > 0) {
        assert_int_equal(rc, 4);
        assert_memory_equal(buf, "word", 4);
    } else {
        assert_int_equal(SSL_get_error(h->raw.ssl, rc), SSL_ERROR_ZERO_RETURN);
    }
    SSL_free(h->raw.ssl);
    return 0;
}

static int half_reader(void *arg)
{
    struct half *h = arg;
    char buf[100];

    assert_int_equal(
        keel_stream_read(h->talk.tls[1], buf, sizeof buf, keel_after(SOON)), 5);
    return 0;
}

static int half_client(void *arg)
{
    struct half *h = arg;
    struct keel_co *reader = NULL;

    connect_in(&h->talk);
    assert_int_equal(h->talk.rc[1], 0);
    if (h->reads) {
        assert_int_equal(keel_spawn(NULL, half_reader, h, &reader), 0);
        for (int i = 0; i < 5; i++)
            keel_yield();
    } else { /* meets the half ticket, and goes away */
        char buf[100];

        assert_int_equal(keel_stream_read(h->talk.tls[1], buf, sizeof buf,
                                          keel_after(KEEL_MS)),
                         -ETIMEDOUT);
    }
    h->rc = 1;
    keel_event_set(&h->shaken);
    if (h->finished.set)
        h->rc = keel_stream_finish(h->talk.tls[1], keel_after(SOON));
    else
        h->rc = keel_stream_write(h->talk.tls[1], "word", 4, keel_after(SOON));
    assert_int_equal(h->rc, 0);
    if (reader)
        assert_int_equal(keel_join(reader, KEEL_FOREVER, NULL), 0);
    else
        half_reader(h);
    return 0;
}

static int half_in(void *arg)
{
    (void)arg;
    for (int i = 0; i < 4; i++) {
        struct half h = {.talk = {.config = {NULL, client_config},
                                  .deadline = keel_after(SOON)},
                         .ctx = raw_server_ctx(),
                         .reads = i & 1};

        keel_event_init(&h.shaken);
        keel_event_init(&h.finished);
        h.finished.set = i & 2;
        assert_int_equal(keel_stream_pair(10000, h.talk.below), 0);
        both(half_server, half_client, &h);
        keel_stream_close(h.talk.tls[1]);
        keel_stream_close(h.talk.below[0]);
        SSL_CTX_free(h.ctx);
    }
    return 0;
}

static void a_writer_waits_for_the_rest_of_a_message(void **state)
{
    (void)state;
    on_a_loop(half_in, NULL);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(keys_change_while_both_ends_write),
        cmocka_unit_test(who_only_reads_answers_key_updates_later),
        cmocka_unit_test(key_updates_do_not_lock_two_writers),
        cmocka_unit_test(a_flood_of_key_updates_is_not_borne),
        cmocka_unit_test(a_writer_waits_for_the_rest_of_a_message),
    };

    return cmocka_run_group_tests(tests, set_up, tear_down);
}
