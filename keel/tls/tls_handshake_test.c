/* SPDX-License-Identifier: MIT */
#include "tls_fixture.h"

/* ---- who is trusted ------------------------------------------------------------------------ */

static int pins_in(void *arg)
{
    struct keel_tls_pin other = server_pin, seen;
    struct keel_tls_config *wrong, *any;
    struct talk t = {0};

    (void)arg;
    talk_open(&t, 10000);
    assert_int_equal(t.rc[1], 0);
    assert_int_equal(keel_tls_peer_pin(t.tls[1], &seen), 0);
    assert_memory_equal(&seen, &server_pin, sizeof seen);
    assert_int_equal(keel_tls_peer_pin(t.tls[0], &seen), -ENOENT);
    assert_int_equal(keel_tls_peer_pin(t.below[0], &seen), -ENOTSUP);
    assert_string_equal(keel_tls_cipher(t.tls[0]), keel_tls_cipher(t.tls[1]));
    assert_null(keel_tls_cipher(t.below[0]));
    talk_close(&t);

    other.sha256[31] ^= 1;
    wrong = config((struct keel_tls_options){.pin = &other});
    t = (struct talk){.config = {NULL, wrong}};
    talk_open(&t, 10000);
    assert_int_equal(t.rc[1], -EACCES);
    assert_string_equal(t.words[1], "the peer's key is not the pinned one");
    assert_int_equal(t.rc[0], -EPROTO); /* the client's alert */
    keel_tls_config_free(wrong);

    any = config((struct keel_tls_options){.any = true});
    t = (struct talk){.config = {NULL, any}, .name = "whoever.test"};
    talk_open(&t, 10000);
    assert_int_equal(t.rc[1], 0);
    assert_int_equal(keel_tls_peer_pin(t.tls[1], &seen), 0);
    assert_memory_equal(&seen, &server_pin, sizeof seen);
    talk_close(&t);
    keel_tls_config_free(any);
    return 0;
}

static void the_pinned_key_counts_and_no_other(void **state)
{
    (void)state;
    on_a_loop(pins_in, NULL);
}

static void ca_try(struct keel_tls_config *server,
                   struct keel_tls_config *client, const char *name, int rc,
                   const char *words)
{
    struct talk t = {.config = {server, client}, .name = name};

    talk_open(&t, 10000);
    assert_int_equal(t.rc[1], rc);
    if (rc == 0)
        talk_close(&t);
    else if (words && !strstr(t.words[1], words))
        fail_msg("said: %s", t.words[1]);
    if (rc == -EACCES)
        assert_int_equal(t.rc[0], -EPROTO);
    talk_close(&t);
}

/* Root, intermediate, leaf: the server sends the last two. */
static int ca_in(void *arg)
{
    struct party root, middle, leaf;
    struct keel_tls_config *server, *client, *own, *system;

    (void)arg;
    party_make(&root, (struct party_of){.name = "root", .ca = true});
    party_make(&middle, (struct party_of){
                            .name = "middle", .ca = true, .issuer = &root});
    party_make(&leaf, (struct party_of){.name = "leaf",
                                        .alt = "DNS:files.test,DNS:*.wild.test,"
                                               "IP:127.0.0.1,IP:::1",
                                        .issuer = &middle});
    server = config((struct keel_tls_options){.key_pem = leaf.key_pem,
                                              .chain_pem = leaf.chain_pem});
    client = config((struct keel_tls_options){.ca_pem = root.chain_pem});
    ca_try(server, client, "files.test", 0, NULL);
    ca_try(server, client, "a.wild.test", 0, NULL);
    ca_try(server, client, "127.0.0.1", 0, NULL);
    ca_try(server, client, "::1", 0, NULL);
    ca_try(server, client, "b.a.wild.test", -EACCES, "hostname mismatch");
    ca_try(server, client, "other.test", -EACCES, "hostname mismatch");
    ca_try(server, client, "leaf", -EACCES, "hostname mismatch");
    ca_try(server, client, "127.0.0.2", -EACCES, "IP address mismatch");
    ca_try(server_config, client, "server.test", -EACCES, "self-signed");

    /* A self-signed certificate of ours, trusted as a root of its own. */
    own = config((struct keel_tls_options){.ca_pem = chain_pem});
    ca_try(server_config, own, "server.test", 0, NULL);
    ca_try(server_config, own, "files.test", -EACCES, "hostname mismatch");
    ca_try(server, own, "files.test", -EACCES, "certificate: ");
    system = config((struct keel_tls_options){.ca_pem = ""});
    ca_try(server, system, "files.test", -EACCES, "certificate: ");

    keel_tls_config_free(server);
    keel_tls_config_free(client);
    keel_tls_config_free(own);
    keel_tls_config_free(system);
    party_free(&root);
    party_free(&middle);
    party_free(&leaf);
    return 0;
}

static void a_chain_and_its_name_are_verified(void **state)
{
    (void)state;
    on_a_loop(ca_in, NULL);
}

static int nameless_in(void *arg)
{
    struct keel_tls_config *ca =
        config((struct keel_tls_options){.ca_pem = chain_pem});
    struct keel_stream *below[2], *s = NULL;

    (void)arg;
    assert_int_equal(keel_stream_pair(1000, below), 0);
    assert_int_equal(keel_tls_connect(ca, below[0], NULL, KEEL_FOREVER, &s),
                     -EINVAL);
    assert_int_equal(
        keel_tls_connect(server_config, below[0], "x", KEEL_FOREVER, &s),
        -EINVAL);
    assert_int_equal(keel_tls_accept(ca, below[0], KEEL_FOREVER, &s), -EINVAL);
    assert_null(s);
    keel_stream_close(below[0]);
    keel_stream_close(below[1]);
    keel_tls_config_free(ca);
    return 0;
}

static void a_config_unfit_for_the_part_is_refused(void **state)
{
    (void)state;
    on_a_loop(nameless_in, NULL);
}

static void options_refuse(struct keel_tls_options o)
{
    struct keel_tls_config *c = NULL;

    assert_int_equal(keel_tls_config_new(&o, &c), -EINVAL);
    assert_null(c);
}

static void bad_options_are_refused(void **state)
{
    char name[300], *other_key, *other_chain;

    (void)state;
    memset(name, 'a', sizeof name - 1);
    name[sizeof name - 1] = '\0';
    assert_int_equal(keel_tls_key_new("other", &other_key, &other_chain), 0);
    options_refuse((struct keel_tls_options){0});
    options_refuse((struct keel_tls_options){.any = true, .pin = &server_pin});
    options_refuse((struct keel_tls_options){.any = true, .ca_pem = chain_pem});
    options_refuse((struct keel_tls_options){.key_pem = key_pem});
    options_refuse((struct keel_tls_options){.chain_pem = chain_pem});
    options_refuse((struct keel_tls_options){.key_pem = key_pem,
                                             .chain_pem = other_chain});
    options_refuse(
        (struct keel_tls_options){.key_pem = chain_pem, .chain_pem = key_pem});
    options_refuse((struct keel_tls_options){.key_pem = "", .chain_pem = ""});
    options_refuse((struct keel_tls_options){.ca_pem = "no certificate"});
    options_refuse((struct keel_tls_options){
        .ca_pem = "-----BEGIN CERTIFICATE-----\nAAAA\n"
                  "-----END CERTIFICATE-----\n"});
    options_refuse((struct keel_tls_options){.any = true, .alpn = ""});
    options_refuse((struct keel_tls_options){.any = true, .alpn = name});
    assert_int_equal(keel_tls_key_new("", &other_key, &other_chain), -EINVAL);
    assert_int_equal(keel_tls_key_new(name, &other_key, &other_chain), -EINVAL);
    keel_free(other_key);
    keel_free(other_chain);
}

static void a_new_key_has_its_own_serial_and_a_century(void **state)
{
    char *key, *chain;
    X509 *a, *b;
    time_t now = (time_t)(keel_wall_ns() / KEEL_SECOND);
    int days, seconds;

    (void)state;
    assert_int_equal(keel_tls_key_new("server.test", &key, &chain), 0);
    a = cert_read(chain_pem);
    b = cert_read(chain);
    assert_int_not_equal(
        ASN1_INTEGER_cmp(X509_get0_serialNumber(a), X509_get0_serialNumber(b)),
        0);
    ASN1_TIME *t = ASN1_TIME_adj(NULL, now, 0, 0);
    assert_int_equal(ASN1_TIME_diff(&days, &seconds, t, X509_get0_notAfter(b)),
                     1);
    assert_in_range(days, 36523, 36526);
    assert_int_equal(EVP_PKEY_get_bits(X509_get0_pubkey(b)), 256);
    assert_int_equal(X509_verify(b, X509_get0_pubkey(b)), 1);
    ASN1_TIME_free(t);
    X509_free(a);
    X509_free(b);
    keel_wipe(key, strlen(key));
    keel_free(key);
    keel_free(chain);
}

/* ---- ALPN -------------------------------------------------------------------------------------- */

static void alpn_try(const char *server_name, const char *client_name,
                     bool agreed, bool server_knows)
{
    struct talk t = {
        .config = {config((struct keel_tls_options){.key_pem = key_pem,
                                                    .chain_pem = chain_pem,
                                                    .alpn = server_name}),
                   config((struct keel_tls_options){.pin = &server_pin,
                                                    .alpn = client_name})}};

    talk_open(&t, 10000);
    if (agreed) {
        assert_int_equal(t.rc[0], 0);
        assert_int_equal(t.rc[1], 0);
    } else {
        assert_int_equal(t.rc[1], -EPROTO);
        assert_non_null(strstr(t.words[1], "application protocol"));
        assert_int_equal(t.rc[0], server_knows ? -EPROTO : -ECONNABORTED);
    }
    keel_tls_config_free(t.config[0]);
    keel_tls_config_free(t.config[1]);
    talk_close(&t);
}

static int alpn_in(void *arg)
{
    (void)arg;
    alpn_try("ferry/1", "ferry/1", true, true);
    alpn_try(NULL, NULL, true, true);
    alpn_try("ferry/1", "ferry/2", false, true);
    alpn_try("ferry/1", "ferry/11", false, true);
    alpn_try("ferry/1", NULL, false, true);
    alpn_try(NULL, "ferry/1", false, false);
    return 0;
}

static void another_application_protocol_is_refused(void **state)
{
    (void)state;
    on_a_loop(alpn_in, NULL);
}

/* ---- exporter ------------------------------------------------------------------------------------ */

static int exporter_in(void *arg)
{
    uint8_t key[4][32];

    (void)arg;
    for (int i = 0; i < 2; i++) {
        struct talk t = {0};

        talk_open(&t, 10000);
        assert_int_equal(keel_tls_exporter(t.tls[0], key[i * 2]), 0);
        assert_int_equal(keel_tls_exporter(t.tls[1], key[i * 2 + 1]), 0);
        assert_memory_equal(key[i * 2], key[i * 2 + 1], 32);
        assert_int_equal(keel_tls_exporter(t.below[0], key[0]), -ENOTSUP);
        talk_close(&t);
    }
    assert_memory_not_equal(key[0], key[2], 32);
    return 0;
}

static void both_ends_export_the_same_key_once(void **state)
{
    (void)state;
    on_a_loop(exporter_in, NULL);
}

/* ---- peers that are not what they should be --------------------------------------------------------- */

static void garbage_try(bool server, const void *bytes, size_t size)
{
    struct talk t = {.deadline = keel_after(SOON),
                     .config = {server_config, client_config}};
    char answer[4096];
    int end = server ? 0 : 1;

    assert_int_equal(keel_stream_pair(10000, t.below), 0);
    assert_int_equal(
        keel_stream_write(t.below[!end], bytes, size, KEEL_FOREVER), 0);
    assert_int_equal(keel_stream_finish(t.below[!end], KEEL_FOREVER), 0);
    (server ? accept_in : connect_in)(&t);
    assert_int_equal(t.rc[end], size ? -EPROTO : -ECONNABORTED);
    assert_string_not_equal(t.words[end], "");
    /* Whatever it answered, it has let go of the stream. */
    while (keel_stream_read(t.below[!end], answer, sizeof answer,
                            keel_after(SOON)) > 0)
        ;
    keel_stream_close(t.below[!end]);
}

static int garbage_in(void *arg)
{
    static const char *const lines[] = {
        "GET / HTTP/1.0\r\n\r\n", "SSH-2.0-OpenSSH_9.2\r\n",
        "EHLO mail.test\r\n", "\x16\x03\x01\xff\xff\x01", "\x15\x03\x03\x02"};
    uint8_t noise[3000];
    /* TLS 1.2, as a record with an alert that says goodbye */
    static const char alert[] = "\x15\x03\x03\x00\x02\x01\x00";

    (void)arg;
    for (int end = 0; end < 2; end++) {
        for (size_t i = 0; i < 3; i++)
            garbage_try(end == 0, lines[i], strlen(lines[i]));
        garbage_try(end == 0, alert, sizeof alert - 1);
        garbage_try(end == 0, "", 0);
        for (unsigned seed = 1; seed < 200; seed++) {
            pattern_fill(noise, sizeof noise, 0, seed);
            noise[0] = seed % 2 ? 0x16 : noise[0];
            noise[1] = 3;
            noise[2] = 3;
            noise[3] = seed % 3 ? 1 : 0x7f;
            garbage_try(end == 0, noise, sizeof noise);
        }
    }
    return 0;
}

static void what_is_not_tls_is_a_protocol_error(void **state)
{
    (void)state;
    on_a_loop(garbage_in, NULL);
}

struct old {
    struct talk talk;
    SSL_CTX *ctx;
    struct raw raw;
    bool server;
    int rc;
};

static int old_peer(void *arg)
{
    struct old *o = arg;

    raw_open(&o->raw, o->ctx, o->talk.below[o->server ? 0 : 1]);
    if (o->server)
        SSL_set_accept_state(o->raw.ssl);
    else
        SSL_set_connect_state(o->raw.ssl);
    o->rc = raw_shake(&o->raw);
    SSL_free(o->raw.ssl);
    return 0;
}

static int old_accept(void *arg)
{
    return accept_in(&((struct old *)arg)->talk);
}

static int old_connect(void *arg)
{
    return connect_in(&((struct old *)arg)->talk);
}

static int old_in(void *arg)
{
    (void)arg;
    for (int i = 0; i < 2; i++) {
        struct old o = {.talk = {.config = {server_config, client_config},
                                 .deadline = keel_after(SOON)},
                        .server = i};

        o.ctx = i ? raw_server_ctx() : SSL_CTX_new(TLS_client_method());
        SSL_CTX_set_max_proto_version(o.ctx, TLS1_2_VERSION);
        assert_int_equal(keel_stream_pair(10000, o.talk.below), 0);
        both(old_peer, i ? old_connect : old_accept, &o);
        assert_int_equal(o.rc, -1);
        assert_int_equal(o.talk.rc[i], -EPROTO);
        assert_string_equal(o.talk.words[i], "the peer does not speak TLS 1.3");
        keel_stream_close(o.talk.below[!i]);
        SSL_CTX_free(o.ctx);
    }
    return 0;
}

static void a_peer_with_an_older_version_is_refused(void **state)
{
    (void)state;
    on_a_loop(old_in, NULL);
}

static int silent_in(void *arg)
{
    (void)arg;
    for (int i = 0; i < 2; i++) {
        struct talk t = {.config = {server_config, client_config},
                         .deadline = keel_after(20 * KEEL_MS)};

        assert_int_equal(keel_stream_pair(10000, t.below), 0);
        /* The beginning of a record, and then nothing more. */
        assert_int_equal(keel_stream_write(t.below[!i], "\x16\x03", 2, SOON),
                         0);
        (i == 0 ? accept_in : connect_in)(&t);
        assert_int_equal(t.rc[i], -ETIMEDOUT);
        assert_string_equal(t.words[i], "the handshake was not done in time");
        keel_stream_close(t.below[!i]);
    }
    return 0;
}

static void handshakes_have_deadlines(void **state)
{
    (void)state;
    on_a_loop(silent_in, NULL);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(the_pinned_key_counts_and_no_other),
        cmocka_unit_test(a_chain_and_its_name_are_verified),
        cmocka_unit_test(a_config_unfit_for_the_part_is_refused),
        cmocka_unit_test(bad_options_are_refused),
        cmocka_unit_test(a_new_key_has_its_own_serial_and_a_century),
        cmocka_unit_test(another_application_protocol_is_refused),
        cmocka_unit_test(both_ends_export_the_same_key_once),
        cmocka_unit_test(what_is_not_tls_is_a_protocol_error),
        cmocka_unit_test(a_peer_with_an_older_version_is_refused),
        cmocka_unit_test(handshakes_have_deadlines),
    };

    return cmocka_run_group_tests(tests, set_up, tear_down);
}
