/* SPDX-License-Identifier: MIT */
#include "tls_fixture.h"

#include "test/clock.h"
#include "test/fault.h"

/* ---- a server that gives tickets, a client that keeps them ---------------------- */

struct pair {
    struct keel_tls_config *server, *client;
};

static struct pair pair_make(unsigned tickets, unsigned sessions)
{
    return (struct pair){
        config((struct keel_tls_options){
            .key_pem = key_pem, .chain_pem = chain_pem, .tickets = tickets}),
        config((struct keel_tls_options){.pin = &server_pin,
                                         .sessions = sessions})};
}

static void pair_free(struct pair *p)
{
    keel_tls_config_free(p->server);
    keel_tls_config_free(p->client);
}

/* One more connection; true: a session was resumed, as both ends say. */
static bool talk_begin(struct talk *t, const struct pair *p, const char *name)
{
    bool resumed;

    *t = (struct talk){.config = {p->server, p->client}, .name = name};
    talk_open(t, 10000);
    assert_int_equal(t->rc[0], 0);
    assert_int_equal(t->rc[1], 0);
    resumed = keel_tls_resumed(t->tls[1]);
    assert_true(keel_tls_resumed(t->tls[0]) == resumed);
    return resumed;
}

/* A whole one, in which the client gets its tickets. */
static bool talk_once(const struct pair *p, const char *name)
{
    struct talk t;
    bool resumed = talk_begin(&t, p, name);

    talk_word(&t, 0);
    talk_word(&t, 1);
    talk_close(&t);
    return resumed;
}

/* ---- what is resumed ---------------------------------------------------------------- */

static int twice_in(void *arg)
{
    struct pair p = pair_make(2, 1);
    uint8_t key[4][32];
    struct keel_tls_pin seen;

    (void)arg;
    for (int i = 0; i < 2; i++) {
        struct talk t;

        assert_true(talk_begin(&t, &p, "server.test") == (i == 1));
        assert_int_equal(keel_tls_peer_pin(t.tls[1], &seen), 0);
        assert_memory_equal(&seen, &server_pin, sizeof seen);
        assert_string_equal(keel_tls_server_name(t.tls[0]), "server.test");
        for (int end = 0; end < 2; end++)
            assert_int_equal(keel_tls_exporter(t.tls[end], key[2 * i + end]),
                             0);
        assert_memory_equal(key[2 * i], key[2 * i + 1], 32);
        talk_word(&t, 0);
        talk_word(&t, 1);
        assert_int_equal(tls_buffers_lent(), 0);
        talk_close(&t);
    }
    /* A login bound to the one connection is worth nothing on the other. */
    assert_memory_not_equal(key[0], key[2], 32);
    pair_free(&p);
    return 0;
}

static void a_second_connection_resumes_and_exports_a_key_of_its_own(void **s)
{
    (void)s;
    on_a_loop(twice_in, NULL);
}

static int neither_in(void *arg)
{
    struct pair p[] = {pair_make(0, 4), pair_make(4, 0), pair_make(0, 0)};

    (void)arg;
    for (size_t i = 0; i < 3; i++) {
        assert_false(talk_once(&p[i], "server.test"));
        assert_false(talk_once(&p[i], "server.test"));
        pair_free(&p[i]);
    }
    return 0;
}

static void nobody_resumes_unless_both_configs_say_so(void **state)
{
    (void)state;
    on_a_loop(neither_in, NULL);
}

static int single_use_in(void *arg)
{
    struct pair p = pair_make(1, 1);
    struct talk t[2];

    (void)arg;
    assert_false(talk_once(&p, NULL));
    /* One ticket, and no reading in which another could come. */
    assert_true(talk_begin(&t[0], &p, NULL));
    assert_false(talk_begin(&t[1], &p, NULL));
    talk_close(&t[0]);
    talk_close(&t[1]);
    /* Who resumes gets one, so it goes on like that. */
    assert_false(talk_once(&p, NULL));
    for (int i = 0; i < 20; i++)
        assert_true(talk_once(&p, NULL));
    pair_free(&p);
    return 0;
}

static void a_ticket_is_offered_once(void **state)
{
    (void)state;
    on_a_loop(single_use_in, NULL);
}

static int at_once_in(void *arg)
{
    struct pair p = pair_make(4, 1);
    struct talk t[5];

    (void)arg;
    assert_false(talk_once(&p, "server.test"));
    for (int i = 0; i < 5; i++)
        assert_true(talk_begin(&t[i], &p, "server.test") == (i < 4));
    for (int i = 0; i < 5; i++)
        talk_close(&t[i]);
    pair_free(&p);
    return 0;
}

static void as_many_connections_resume_at_once_as_there_are_tickets(void **s)
{
    (void)s;
    on_a_loop(at_once_in, NULL);
}

static int names_in(void *arg)
{
    struct pair p = pair_make(2, 2);

    (void)arg;
    assert_false(talk_once(&p, "a.test"));
    assert_false(talk_once(&p, "b.test"));
    assert_true(talk_once(&p, "a.test")); /* b is the older one now */
    assert_false(talk_once(&p, "c.test"));
    assert_true(talk_once(&p, "c.test"));
    assert_true(talk_once(&p, "a.test"));
    assert_false(talk_once(&p, "b.test"));
    pair_free(&p);
    return 0;
}

static void sessions_are_kept_by_name_of_those_used_last(void **state)
{
    (void)state;
    on_a_loop(names_in, NULL);
}

static int nameless_in(void *arg)
{
    struct pair p = pair_make(2, 2);

    (void)arg;
    keel_tls_config_free(p.client);
    p.client = config((struct keel_tls_options){.any = true, .sessions = 2});
    assert_false(talk_once(&p, NULL));
    assert_false(talk_once(&p, NULL));
    assert_false(talk_once(&p, "server.test"));
    assert_true(talk_once(&p, "server.test"));
    pair_free(&p);
    return 0;
}

static void sessions_of_anybody_without_a_name_are_not_kept(void **state)
{
    (void)state;
    on_a_loop(nameless_in, NULL);
}

/* The same key, but another config: a restart, or another machine. */
static int stranger_in(void *arg)
{
    struct pair p = pair_make(1, 1), q = pair_make(1, 1);
    struct pair mixed = {q.server, p.client};

    (void)arg;
    assert_false(talk_once(&p, NULL));
    assert_false(talk_once(&mixed, NULL));
    assert_true(talk_once(&mixed, NULL));
    pair_free(&p);
    pair_free(&q);
    return 0;
}

static void
a_ticket_that_the_server_does_not_know_costs_a_full_handshake(void **state)
{
    (void)state;
    on_a_loop(stranger_in, NULL);
}

/* Somebody writes into the stream: what was kept of that server goes. */
static int distrust_in(void *arg)
{
    struct pair p = pair_make(4, 1);
    struct talk t;
    char byte;

    (void)arg;
    assert_false(talk_once(&p, "server.test"));
    assert_true(talk_begin(&t, &p, "server.test"));
    talk_word(&t, 0);
    assert_int_equal(keel_stream_write(t.below[0],
                                       "\x17\x03\x03\x00\x20"
                                       "0123456789abcdef0123456789abcdef",
                                       37, keel_after(SOON)),
                     0);
    assert_int_equal(keel_stream_read(t.tls[1], &byte, 1, keel_after(SOON)),
                     -EPROTO);
    talk_close(&t);
    assert_false(talk_once(&p, "server.test"));
    assert_true(talk_once(&p, "server.test"));
    pair_free(&p);
    return 0;
}

static void sessions_of_a_server_that_broke_the_protocol_are_forgotten(void **s)
{
    (void)s;
    on_a_loop(distrust_in, NULL);
}

/* ---- time -------------------------------------------------------------------------- */

static int keys_turn_in(void *arg)
{
    static const struct {
        int after; /* tenths of a life */
        bool resumed;
    } step[] = {{0, false}, {4, true},   {5, true},    {9, true},
                {9, true},  {21, false}, {19, true},   {19, true},
                {1, true},  {20, false}, {100, false}, {0, true}};
    keel_ns life = 100 * KEEL_SECOND;
    struct pair p = {
        config((struct keel_tls_options){.key_pem = key_pem,
                                         .chain_pem = chain_pem,
                                         .tickets = 1,
                                         .ticket_life = life}),
        config((struct keel_tls_options){.pin = &server_pin, .sessions = 1})};

    (void)arg;
    for (size_t i = 0; i < sizeof step / sizeof *step; i++) {
        test_clock_advance(step[i].after * life / 10);
        if (talk_once(&p, NULL) != step[i].resumed)
            fail_msg("step %zu", i);
    }
    pair_free(&p);
    return 0;
}

static void ticket_keys_change_and_open_for_one_more_life(void **state)
{
    (void)state;
    test_clock_install();
    on_a_loop(keys_turn_in, NULL);
    test_clock_remove();
}

/* Who verifies (0: the server its clients, 1: the client its server) does not
 * resume when the other's certificate is over. */
static void over_try(int who)
{
    struct party root, peer;
    struct keel_tls_options o[2] = {
        {.key_pem = key_pem,
         .chain_pem = chain_pem,
         .tickets = 1,
         .ticket_life = 7 * 24 * 3600 * KEEL_SECOND},
        {.pin = &server_pin, .sessions = 1}};
    struct pair p;
    struct talk t;

    party_make(&root,
               (struct party_of){.name = "root", .ca = true, .days = 100});
    party_make(&peer, (struct party_of){.name = "peer",
                                        .alt = "DNS:peer.test",
                                        .days = 2,
                                        .issuer = &root});
    o[!who].key_pem = peer.key_pem;
    o[!who].chain_pem = peer.chain_pem;
    o[who].pin = NULL;
    o[who].ca_pem = root.chain_pem;
    if (who == 0)
        o[0].clients = KEEL_TLS_CLIENTS_REQUIRE;
    p = (struct pair){config(o[0]), config(o[1])};
    assert_false(talk_once(&p, "peer.test"));
    test_clock_advance(24 * 3600 * KEEL_SECOND);
    assert_true(talk_once(&p, "peer.test"));
    test_clock_advance(25 * 3600 * KEEL_SECOND);
    t = (struct talk){.config = {p.server, p.client}, .name = "peer.test"};
    talk_open(&t, 10000);
    assert_int_equal(t.rc[who], -EACCES);
    assert_string_equal(t.words[who], "certificate: certificate has expired");
    talk_close(&t);
    pair_free(&p);
    party_free(&peer);
    party_free(&root);
}

static int over_in(void *arg)
{
    over_try(*(int *)arg);
    return 0;
}

static void a_session_ends_with_the_certificate_of_the_peer(void **state)
{
    (void)state;
    for (int who = 0; who < 2; who++) {
        test_clock_install();
        on_a_loop(over_in, &who);
        test_clock_remove();
    }
}

/* ---- who leaves early ---------------------------------------------------------------- */

static int short_visit(void *arg)
{
    struct talk *t = arg;

    connect_in(t);
    assert_int_equal(t->rc[1], 0);
    assert_int_equal(keel_stream_write(t->tls[1], "word", 4, keel_after(SOON)),
                     0);
    assert_int_equal(keel_stream_finish(t->tls[1], keel_after(SOON)), 0);
    keel_stream_close(t->tls[1]);
    return 0;
}

static int leaving_in(void *arg)
{
    struct pair p = pair_make(8, 1);
    struct talk t = {.config = {p.server, p.client},
                     .deadline = keel_after(SOON)};
    char word[4];

    (void)arg;
    assert_int_equal(keel_stream_pair(100000, t.below), 0);
    both(short_visit, accept_in, &t);
    assert_int_equal(t.rc[0], 0);
    assert_int_equal(keel_stream_read_all(t.tls[0], word, 4, NULL, KEEL_NOW),
                     0);
    assert_memory_equal(word, "word", 4);
    assert_int_equal(keel_stream_read(t.tls[0], word, 4, KEEL_NOW), 0);
    keel_stream_close(t.tls[0]);
    pair_free(&p);
    return 0;
}

static void a_client_that_left_its_tickets_behind_is_heard(void **state)
{
    (void)state;
    on_a_loop(leaving_in, NULL);
}

/* The tickets come when the client's config is freed already. */
static int freed_in(void *arg)
{
    struct pair p = pair_make(8, 1);
    struct talk t;

    (void)arg;
    talk_begin(&t, &p, NULL);
    pair_free(&p);
    talk_word(&t, 0);
    talk_word(&t, 1);
    talk_close(&t);
    return 0;
}

static void a_config_may_go_before_its_sessions(void **state)
{
    (void)state;
    on_a_loop(freed_in, NULL);
}

/* ---- several loops -------------------------------------------------------------------- */

enum { LOOPS = 3, ROUNDS = 25, NAMES = 3 };

struct crowd {
    struct pair p;
    atomic_uint resumed;
};

static int one_of_many(void *arg)
{
    struct crowd *c = arg;

    for (int i = 0; i < ROUNDS; i++) {
        char name[] = "0.test";

        name[0] = (char)('0' + i % NAMES);
        c->resumed += talk_once(&c->p, name);
    }
    return 0;
}

static void loops_share_sessions_and_ticket_keys(void **state)
{
    struct crowd c = {.p = pair_make(2, NAMES)};
    struct keel_loop *loop[LOOPS];
    struct keel_co *co[LOOPS];

    (void)state;
    for (int i = 0; i < LOOPS; i++) {
        struct keel_spawn there = {.name = "crowd"};

        assert_int_equal(keel_loop_start("crowd", &loop[i]), 0);
        there.loop = loop[i];
        assert_int_equal(keel_spawn(&there, one_of_many, &c, &co[i]), 0);
    }
    for (int i = 0; i < LOOPS; i++)
        assert_int_equal(keel_join(co[i], KEEL_FOREVER, NULL), 0);
    for (int i = 0; i < LOOPS; i++)
        keel_loop_stop(loop[i]);
    /* All but the first of each name on each loop. */
    assert_in_range(c.resumed, LOOPS * (ROUNDS - NAMES),
                    LOOPS * ROUNDS - NAMES);
    pair_free(&c.p);
}

/* ---- peers that are not what they should be ------------------------------------------------ */

struct generous {
    struct talk talk;
    SSL_CTX *ctx;
    struct raw raw;
    int tickets;
    size_t size; /* of what each holds besides */
};

static int generous_server(void *arg)
{
    struct generous *g = arg;
    char *data = calloc(1, g->size + 1);

    raw_open(&g->raw, g->ctx, g->talk.below[0]);
    SSL_set_accept_state(g->raw.ssl);
    assert_int_equal(raw_shake(&g->raw), 0);
    SSL_SESSION_set1_ticket_appdata(SSL_get_session(g->raw.ssl), data, g->size);
    for (int i = 0; i < g->tickets; i++)
        assert_int_equal(SSL_new_session_ticket(g->raw.ssl), 1);
    assert_int_equal(SSL_write(g->raw.ssl, "word", 4), 4);
    raw_send(&g->raw, SIZE_MAX);
    free(data);
    return 0;
}

static int generous_client(void *arg)
{
    return connect_in(&((struct generous *)arg)->talk);
}

/* What the client reads; *ret: whether it resumed. */
static ssize_t generous_try(struct keel_tls_config *client, SSL_CTX *ctx,
                            int tickets, size_t size, bool *ret)
{
    struct generous g = {
        .talk = {.config = {NULL, client}, .deadline = keel_after(SOON)},
        .ctx = ctx,
        .tickets = tickets,
        .size = size};
    char buf[100];
    ssize_t n;

    assert_int_equal(keel_stream_pair(16 * MIB, g.talk.below), 0);
    both(generous_server, generous_client, &g);
    assert_int_equal(g.talk.rc[1], 0);
    *ret = keel_tls_resumed(g.talk.tls[1]);
    n = keel_stream_read(g.talk.tls[1], buf, sizeof buf, keel_after(SOON));
    keel_stream_close(g.talk.tls[1]);
    keel_stream_close(g.talk.below[0]);
    SSL_free(g.raw.ssl);
    return n;
}

static int generous_in(void *arg)
{
    SSL_CTX *ctx = raw_server_ctx();
    struct pair p = pair_make(1, 1);
    bool resumed;

    (void)arg;
    SSL_CTX_set_session_id_context(ctx, (const unsigned char *)"x", 1);
    /* Far too large to be kept, */
    assert_int_equal(generous_try(p.client, ctx, 3, 20000, &resumed), 4);
    assert_false(resumed);
    assert_int_equal(generous_try(p.client, ctx, 60, 100, &resumed), 4);
    assert_false(resumed);
    /* a few of many are, */
    for (int i = 0; i < 8; i++) {
        assert_int_equal(generous_try(p.client, ctx, 0, 0, &resumed), 4);
        assert_true(resumed);
    }
    assert_int_equal(generous_try(p.client, ctx, 0, 0, &resumed), 4);
    assert_false(resumed);
    /* and too many in a row are not borne, by whoever. */
    assert_int_equal(generous_try(p.client, ctx, 300, 0, &resumed), -EPROTO);
    assert_string_equal(keel_tls_error(), "the server floods us with tickets");
    assert_int_equal(generous_try(client_config, ctx, 300, 0, &resumed),
                     -EPROTO);
    pair_free(&p);
    SSL_CTX_free(ctx);
    return 0;
}

static void tickets_of_a_generous_server_are_bounded(void **state)
{
    (void)state;
    on_a_loop(generous_in, NULL);
}

/* A client that offers what it likes: a session with one byte changed. */
struct forger {
    struct talk talk;
    SSL_CTX *ctx;
    SSL_SESSION *offer;
    bool resumed, shaken;
};

static SSL_SESSION *caught;

static int catch_one(SSL *ssl, SSL_SESSION *one)
{
    (void)ssl;
    SSL_SESSION_free(caught);
    caught = one;
    return 1;
}

static int forger_client(void *arg)
{
    struct forger *f = arg;
    struct raw raw;
    char buf[100];
    int rc;

    raw_open(&raw, f->ctx, f->talk.below[1]);
    SSL_set_connect_state(raw.ssl);
    if (f->offer)
        assert_int_equal(SSL_set_session(raw.ssl, f->offer), 1);
    f->shaken = raw_shake(&raw) == 0;
    f->resumed = SSL_session_reused(raw.ssl);
    while (f->shaken && (rc = SSL_read(raw.ssl, buf, sizeof buf)) <= 0 &&
           SSL_get_error(raw.ssl, rc) == SSL_ERROR_WANT_READ &&
           raw_receive(&raw))
        ;
    /* Else it would forget what it has caught. */
    SSL_set_shutdown(raw.ssl, SSL_SENT_SHUTDOWN | SSL_RECEIVED_SHUTDOWN);
    SSL_free(raw.ssl);
    return 0;
}

static int forger_server(void *arg)
{
    struct forger *f = arg;

    accept_in(&f->talk);
    if (f->talk.rc[0] == 0)
        assert_int_equal(
            keel_stream_write(f->talk.tls[0], "word", 4, keel_after(SOON)), 0);
    return 0;
}

static void forger_run(struct forger *f)
{
    f->talk.deadline = keel_after(SOON);
    assert_int_equal(keel_stream_pair(100000, f->talk.below), 0);
    both(forger_server, forger_client, f);
    keel_stream_close(f->talk.rc[0] == 0 ? f->talk.tls[0] : f->talk.below[0]);
    keel_stream_close(f->talk.below[1]);
    f->talk.tls[0] = NULL;
}

/* The session with one bit of its ticket changed. */
static SSL_SESSION *forged(SSL_SESSION *one, size_t nth)
{
    unsigned char *der = NULL, *at;
    const unsigned char *ticket, *from;
    size_t size;
    int der_size = i2d_SSL_SESSION(one, &der);
    SSL_SESSION *other;

    SSL_SESSION_get0_ticket(one, &ticket, &size);
    at = memmem(der, (size_t)der_size, ticket, size);
    assert_non_null(at);
    at[nth % size] ^= (unsigned char)(1 << nth % 8);
    from = der;
    other = d2i_SSL_SESSION(NULL, &from, der_size);
    assert_non_null(other);
    OPENSSL_free(der);
    return other;
}

static int forged_in(void *arg)
{
    struct pair p = pair_make(1, 1);
    struct forger f = {.talk = {.config = {p.server}},
                       .ctx = SSL_CTX_new(TLS_client_method())};
    SSL_SESSION *good;

    (void)arg;
    SSL_CTX_set_session_cache_mode(f.ctx, SSL_SESS_CACHE_CLIENT |
                                              SSL_SESS_CACHE_NO_INTERNAL);
    SSL_CTX_sess_set_new_cb(f.ctx, catch_one);
    forger_run(&f);
    assert_true(f.shaken && !f.resumed);
    good = keel_take(caught);
    assert_non_null(good);
    for (size_t i = 0; i < 100; i++) {
        f.offer = forged(good, i * 7);
        forger_run(&f);
        assert_false(f.resumed);
        assert_int_equal(f.talk.rc[0], 0); /* a full handshake */
        SSL_SESSION_free(f.offer);
    }
    f.offer = good;
    forger_run(&f);
    assert_true(f.resumed);
    SSL_SESSION_free(good);
    SSL_SESSION_free(keel_take(caught));
    SSL_CTX_free(f.ctx);
    pair_free(&p);
    return 0;
}

static void a_forged_ticket_resumes_nothing(void **state)
{
    (void)state;
    on_a_loop(forged_in, NULL);
}

/* ---- options --------------------------------------------------------------------------------- */

static void options_refuse(struct keel_tls_options o)
{
    struct keel_tls_config *c = NULL;

    assert_int_equal(keel_tls_config_new(&o, &c), -EINVAL);
    assert_null(c);
}

static void unfit_options_of_resumption_are_refused(void **state)
{
    struct keel_tls_options server = {
        .key_pem = key_pem, .chain_pem = chain_pem, .tickets = 1};
    struct keel_tls_options client = {.any = true, .sessions = 1};

    (void)state;
    server.tickets = KEEL_TLS_TICKETS_MOST + 1;
    options_refuse(server);
    server.tickets = 1;
    server.ticket_life = KEEL_SECOND - 1;
    options_refuse(server);
    server.ticket_life = 7 * 24 * 3600 * KEEL_SECOND + 1;
    options_refuse(server);
    server.ticket_life = 0;
    server.sessions = 1; /* whose? it trusts nobody */
    options_refuse(server);
    client.sessions = KEEL_TLS_SESSIONS_MOST + 1;
    options_refuse(client);
    client.sessions = 1;
    client.tickets = 1; /* with which key? */
    options_refuse(client);
}

static int shortage_in(void *arg)
{
    struct pair p = pair_make(1, 1);

    (void)arg;
    for (unsigned nth = 1;; nth++) {
        struct keel_tls_options o = {.key_pem = key_pem,
                                     .chain_pem = chain_pem,
                                     .any = true,
                                     .tickets = 1,
                                     .sessions = 3};
        struct keel_tls_config *c = NULL;
        int rc;

        fault_fail_alloc(nth);
        rc = keel_tls_config_new(&o, &c);
        if (!fault_fired()) {
            assert_int_equal(rc, 0);
            keel_tls_config_free(c);
            break;
        }
        assert_int_equal(rc, -ENOMEM);
        assert_null(c);
    }
    /* And no ticket is lost by a connection that came to nothing. */
    assert_false(talk_once(&p, "server.test"));
    for (unsigned nth = 1; nth < 3; nth++) {
        struct keel_stream *below[2], *s = NULL;

        assert_int_equal(keel_stream_pair(10000, below), 0);
        fault_fail_alloc(nth);
        assert_int_equal(keel_tls_connect(p.client, below[1], "server.test",
                                          keel_after(SOON), &s),
                         -ENOMEM);
        assert_true(fault_fired());
        keel_stream_close(below[0]);
        keel_stream_close(below[1]);
    }
    assert_true(talk_once(&p, "server.test"));
    pair_free(&p);
    return 0;
}

static void resumption_survives_shortage_of_memory(void **state)
{
    (void)state;
    on_a_loop(shortage_in, NULL);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(
            a_second_connection_resumes_and_exports_a_key_of_its_own),
        cmocka_unit_test(nobody_resumes_unless_both_configs_say_so),
        cmocka_unit_test(a_ticket_is_offered_once),
        cmocka_unit_test(
            as_many_connections_resume_at_once_as_there_are_tickets),
        cmocka_unit_test(sessions_are_kept_by_name_of_those_used_last),
        cmocka_unit_test(sessions_of_anybody_without_a_name_are_not_kept),
        cmocka_unit_test(
            a_ticket_that_the_server_does_not_know_costs_a_full_handshake),
        cmocka_unit_test(
            sessions_of_a_server_that_broke_the_protocol_are_forgotten),
        cmocka_unit_test(ticket_keys_change_and_open_for_one_more_life),
        cmocka_unit_test(a_session_ends_with_the_certificate_of_the_peer),
        cmocka_unit_test(a_client_that_left_its_tickets_behind_is_heard),
        cmocka_unit_test(a_config_may_go_before_its_sessions),
        cmocka_unit_test(loops_share_sessions_and_ticket_keys),
        cmocka_unit_test(tickets_of_a_generous_server_are_bounded),
        cmocka_unit_test(a_forged_ticket_resumes_nothing),
        cmocka_unit_test(unfit_options_of_resumption_are_refused),
        cmocka_unit_test(resumption_survives_shortage_of_memory),
    };

    return cmocka_run_group_tests(tests, set_up, tear_down);
}
