/* SPDX-License-Identifier: MIT */
/* Clients' certificates, servers of several names, and what is told of a
 * peer. */
#include "tls_fixture.h"

#include <stdio.h>
#include <unistd.h>

/* ---- a server that asks ----------------------------------------------------------- */

static struct party root, ada, stranger;

static int parties_make(void **state)
{
    party_make(&root, (struct party_of){.name = "root", .ca = true});
    party_make(&ada, (struct party_of){.name = "ada", .issuer = &root});
    party_make(&stranger, (struct party_of){.name = "stranger"});
    return set_up(state);
}

static int parties_free(void **state)
{
    party_free(&root);
    party_free(&ada);
    party_free(&stranger);
    return tear_down(state);
}

/* With the rest of the options, a server of set_up's key. */
static struct keel_tls_config *server_of(struct keel_tls_options o)
{
    o.key_pem = key_pem;
    o.chain_pem = chain_pem;
    return config(o);
}

/* A client that shows `who`, or nothing. */
static struct keel_tls_config *client_of(const struct party *who)
{
    struct keel_tls_options o = {.pin = &server_pin};

    if (who) {
        o.key_pem = who->key_pem;
        o.chain_pem = who->chain_pem;
    }
    return config(o);
}

/* Both handshakes, with configs that are freed. */
static struct talk talk_of(struct keel_tls_config *server,
                           struct keel_tls_config *client)
{
    struct talk t = {.config = {server, client}};

    talk_open(&t, 100000);
    keel_tls_config_free(server);
    keel_tls_config_free(client);
    return t;
}

static void accepted(struct talk t, const struct party *who)
{
    struct keel_tls_certificate seen;

    assert_int_equal(t.rc[0], 0);
    assert_int_equal(t.rc[1], 0);
    if (who) {
        char wanted[100];

        assert_int_equal(keel_tls_peer_certificate(t.tls[0], &seen), 0);
        snprintf(wanted, sizeof wanted, "CN=%s",
                 who == &ada ? "ada" : "stranger");
        assert_string_equal(seen.subject, wanted);
    } else {
        assert_int_equal(keel_tls_peer_certificate(t.tls[0], &seen), -ENOENT);
    }
    talk_word(&t, 0);
    talk_word(&t, 1);
    talk_close(&t);
}

/* The server says `here`; the client, when it reads, `there`. */
static void refused(struct talk t, const char *here, const char *there)
{
    char byte;

    assert_int_equal(t.rc[0], -EACCES);
    assert_string_equal(t.words[0], here);
    assert_int_equal(t.rc[1], 0); /* it was done before the server judged */
    for (int i = 0; i < 2; i++)
        assert_int_equal(keel_stream_read(t.tls[1], &byte, 1, keel_after(SOON)),
                         -EACCES);
    assert_string_equal(keel_tls_error(), there);
    talk_close(&t);
}

static const struct keel_tls_options *asks(enum keel_tls_clients clients)
{
    static struct keel_tls_options o;

    o = (struct keel_tls_options){.ca_pem = root.chain_pem, .clients = clients};
    return &o;
}

static int ask_in(void *arg)
{
    (void)arg;
    accepted(talk_of(server_of(*asks(KEEL_TLS_CLIENTS_ANY)), client_of(&ada)),
             NULL);
    accepted(talk_of(server_of(*asks(KEEL_TLS_CLIENTS_ASK)), client_of(&ada)),
             &ada);
    accepted(talk_of(server_of(*asks(KEEL_TLS_CLIENTS_ASK)), client_of(NULL)),
             NULL);
    accepted(
        talk_of(server_of(*asks(KEEL_TLS_CLIENTS_REQUIRE)), client_of(&ada)),
        &ada);
    return 0;
}

static void a_client_shows_its_certificate_to_a_server_that_asks(void **state)
{
    (void)state;
    on_a_loop(ask_in, NULL);
}

static int missing_in(void *arg)
{
    (void)arg;
    refused(
        talk_of(server_of(*asks(KEEL_TLS_CLIENTS_REQUIRE)), client_of(NULL)),
        "the client showed no certificate",
        "the peer wants a certificate of us");
    return 0;
}

static void a_required_certificate_that_is_missing_is_told_to_both(void **state)
{
    (void)state;
    on_a_loop(missing_in, NULL);
}

static int untrusted_in(void *arg)
{
    struct party old, middle, below;

    (void)arg;
    party_make(&old,
               (struct party_of){.name = "old", .days = -1, .issuer = &root});
    party_make(&middle, (struct party_of){.name = "no CA", .issuer = &root});
    party_make(&below, (struct party_of){.name = "below", .issuer = &middle});
    for (int i = KEEL_TLS_CLIENTS_ASK; i <= KEEL_TLS_CLIENTS_REQUIRE; i++) {
        struct keel_tls_options o = *asks((enum keel_tls_clients)i);

        refused(talk_of(server_of(o), client_of(&stranger)),
                "certificate: self-signed certificate",
                "the peer does not know who issued our certificate");
        refused(talk_of(server_of(o), client_of(&old)),
                "certificate: certificate has expired",
                "the peer holds our certificate for expired");
        refused(talk_of(server_of(o), client_of(&below)),
                "certificate: invalid CA certificate",
                "the peer does not know who issued our certificate");
    }
    party_free(&old);
    party_free(&middle);
    party_free(&below);
    return 0;
}

static void an_untrusted_certificate_is_told_to_both(void **state)
{
    (void)state;
    on_a_loop(untrusted_in, NULL);
}

static struct keel_tls_pin pin_of(const struct party *p)
{
    struct keel_tls_pin pin;

    assert_int_equal(tls_cert_pin(p->cert, &pin), 0);
    return pin;
}

static int pins_in(void *arg)
{
    struct keel_tls_pin pins[] = {pin_of(&ada), pin_of(&stranger)};
    struct keel_tls_options o = {
        .pin = pins, .pin_count = 2, .clients = KEEL_TLS_CLIENTS_REQUIRE};

    (void)arg;
    accepted(talk_of(server_of(o), client_of(&ada)), &ada);
    accepted(talk_of(server_of(o), client_of(&stranger)), &stranger);
    o.pin_count = 0; /* the first */
    accepted(talk_of(server_of(o), client_of(&ada)), &ada);
    refused(talk_of(server_of(o), client_of(&stranger)),
            "the peer's key is not the pinned one",
            "the peer does not trust our certificate");
    refused(talk_of(server_of(o), client_of(NULL)),
            "the client showed no certificate",
            "the peer wants a certificate of us");
    return 0;
}

static void clients_are_known_by_the_pins_of_their_keys(void **state)
{
    (void)state;
    on_a_loop(pins_in, NULL);
}

static int any_in(void *arg)
{
    struct keel_tls_options o = {.any = true,
                                 .clients = KEEL_TLS_CLIENTS_REQUIRE};

    (void)arg;
    accepted(talk_of(server_of(o), client_of(&ada)), &ada);
    accepted(talk_of(server_of(o), client_of(&stranger)), &stranger);
    return 0;
}

static void a_server_may_accept_any_certificate_and_judge_itself(void **state)
{
    (void)state;
    on_a_loop(any_in, NULL);
}

static int again_in(void *arg)
{
    struct keel_tls_options o = *asks(KEEL_TLS_CLIENTS_REQUIRE);
    struct keel_tls_config *server, *client;

    (void)arg;
    o.tickets = 1;
    server = server_of(o);
    client = config((struct keel_tls_options){.pin = &server_pin,
                                              .key_pem = ada.key_pem,
                                              .chain_pem = ada.chain_pem,
                                              .sessions = 1});
    for (int i = 0; i < 2; i++) {
        struct talk t = {.config = {server, client}};

        talk_open(&t, 10000);
        assert_true(keel_tls_resumed(t.tls[0]) == (i == 1));
        accepted(t, &ada);
    }
    keel_tls_config_free(server);
    keel_tls_config_free(client);
    return 0;
}

static void who_resumes_is_known_by_the_same_certificate(void **state)
{
    (void)state;
    on_a_loop(again_in, NULL);
}

/* ---- what a certificate says --------------------------------------------------------- */

static int facts_in(void *arg)
{
    struct keel_tls_options o = {.any = true,
                                 .clients = KEEL_TLS_CLIENTS_REQUIRE};
    struct talk t = talk_of(server_of(o), client_of(&ada));
    struct keel_tls_certificate seen;
    struct keel_tls_pin pin = pin_of(&ada);
    int64_t now = keel_wall_ns() / KEEL_SECOND, day = 24 * 3600;
    uint8_t digest[32];

    (void)arg;
    assert_int_equal(keel_tls_peer_certificate(t.tls[0], &seen), 0);
    assert_string_equal(seen.subject, "CN=ada");
    assert_memory_equal(&seen.pin, &pin, sizeof pin);
    X509_digest(ada.cert, EVP_sha256(), digest, NULL);
    assert_memory_equal(seen.sha256, digest, sizeof digest);
    assert_in_range(seen.not_before, now - 100 * day - 100, now - 100 * day);
    assert_in_range(seen.not_after, now + 10 * day - 100, now + 10 * day);
    assert_int_equal(keel_tls_peer_certificate(t.tls[1], &seen), 0);
    assert_string_equal(seen.subject, "CN=server.test");
    assert_int_equal(keel_tls_peer_certificate(t.below[0], &seen), -ENOTSUP);
    talk_close(&t);
    return 0;
}

static void a_server_reads_the_facts_of_a_clients_certificate(void **state)
{
    (void)state;
    on_a_loop(facts_in, NULL);
}

/* `p` with more names, signed anew. */
static void names_add(struct party *p, const char *value, int count)
{
    BIO *b = BIO_new(BIO_s_mem());
    char *text;
    long size;

    for (int i = 0; i < count; i++)
        assert_int_equal(X509_NAME_add_entry_by_txt(
                             X509_get_subject_name(p->cert), "O", MBSTRING_UTF8,
                             (const unsigned char *)value, -1, -1, 0),
                         1);
    X509_set_issuer_name(p->cert, X509_get_subject_name(p->cert));
    assert_true(X509_sign(p->cert, p->key, EVP_sha256()) > 0);
    PEM_write_bio_X509(b, p->cert);
    size = BIO_get_mem_data(b, &text);
    free(p->chain_pem);
    p->chain_pem = strndup(text, (size_t)size);
    BIO_free(b);
}

static int names_in(void *arg)
{
    struct keel_tls_options o = {.any = true,
                                 .clients = KEEL_TLS_CLIENTS_REQUIRE};
    struct party odd;
    struct keel_tls_certificate seen;
    struct talk t;

    (void)arg;
    party_make(&odd, (struct party_of){.name = "a\n\x1b[31m,b\xc3\xa9"});
    t = talk_of(server_of(o), client_of(&odd));
    assert_int_equal(keel_tls_peer_certificate(t.tls[0], &seen), 0);
    assert_string_equal(seen.subject, "CN=a\\0A\\1B[31m\\,b\\C3\\A9");
    talk_close(&t);

    names_add(&odd, "0123456789012345678901234567890123456789", 12);
    t = talk_of(server_of(o), client_of(&odd));
    assert_int_equal(t.rc[0], 0);
    assert_int_equal(keel_tls_peer_certificate(t.tls[0], &seen), -EMSGSIZE);
    talk_close(&t);
    party_free(&odd);
    return 0;
}

static void a_hostile_subject_is_escaped_or_too_long(void **state)
{
    (void)state;
    on_a_loop(names_in, NULL);
}

/* ---- too much ---------------------------------------------------------------------------- */

enum { DEEP = 12 };

static int deep_in(void *arg)
{
    struct party chain[DEEP];

    (void)arg;
    for (int i = 0; i < DEEP; i++) {
        char name[20];

        snprintf(name, sizeof name, "level %d", i);
        party_make(&chain[i],
                   (struct party_of){.name = name,
                                     .ca = i < DEEP - 1,
                                     .issuer = i ? &chain[i - 1] : &root});
    }
    /* root and 0 to 7 above 8: as many as may be. */
    struct talk t = talk_of(server_of(*asks(KEEL_TLS_CLIENTS_REQUIRE)),
                            client_of(&chain[8]));
    assert_int_equal(t.rc[0], 0);
    talk_close(&t);
    refused(talk_of(server_of(*asks(KEEL_TLS_CLIENTS_REQUIRE)),
                    client_of(&chain[DEEP - 1])),
            "certificate: certificate chain too long",
            "the peer does not know who issued our certificate");
    for (int i = 0; i < DEEP; i++)
        party_free(&chain[i]);
    return 0;
}

static void a_chain_that_is_too_deep_is_refused(void **state)
{
    (void)state;
    on_a_loop(deep_in, NULL);
}

static int long_in(void *arg)
{
    struct party much = ada;
    size_t size = strlen(ada.chain_pem);
    struct talk t;
    char byte;

    (void)arg;
    much.chain_pem = calloc(60, size + 1);
    for (int i = 0; i < 60; i++)
        memcpy(much.chain_pem + (size_t)i * size, ada.chain_pem, size);
    t = talk_of(server_of(*asks(KEEL_TLS_CLIENTS_ASK)), client_of(&much));
    assert_int_equal(t.rc[0], -EPROTO);
    assert_string_equal(t.words[0], "the peer's certificates are too long");
    assert_int_equal(t.rc[1], 0);
    assert_int_equal(keel_stream_read(t.tls[1], &byte, 1, keel_after(SOON)),
                     -EPROTO);
    talk_close(&t);
    free(much.chain_pem);
    return 0;
}

static void certificates_of_too_many_bytes_are_refused(void **state)
{
    (void)state;
    on_a_loop(long_in, NULL);
}

/* ---- slow ones ------------------------------------------------------------------------------ */

/* Says hello, gets all the server has to say, and never says who it is. */
static int shy_in(void *arg)
{
    struct keel_tls_config *server = server_of(*asks(KEEL_TLS_CLIENTS_REQUIRE));
    struct talk t = {.config = {server}, .deadline = keel_after(30 * KEEL_MS)};
    SSL_CTX *ctx = SSL_CTX_new(TLS_client_method());
    struct raw raw;

    (void)arg;
    assert_int_equal(keel_stream_pair(100000, t.below), 0);
    raw_open(&raw, ctx, t.below[1]);
    SSL_set_connect_state(raw.ssl);
    SSL_do_handshake(raw.ssl);
    raw_send(&raw, SIZE_MAX);
    accept_in(&t);
    assert_int_equal(t.rc[0], -ETIMEDOUT);
    assert_string_equal(t.words[0], "the handshake was not done in time");
    keel_stream_close(t.below[1]);
    SSL_free(raw.ssl);
    SSL_CTX_free(ctx);
    keel_tls_config_free(server);
    return 0;
}

static void a_client_that_never_shows_who_it_is_meets_the_deadline(void **s)
{
    (void)s;
    on_a_loop(shy_in, NULL);
}

/* ---- files ------------------------------------------------------------------------------------- */

static char dir[] = "/tmp/keel_tls.XXXXXX";

static const char *file_make(const char *name, const void *bytes, size_t size)
{
    static char paths[8][100];
    static int next;
    char *path = paths[next++ % 8];
    FILE *f;

    snprintf(path, sizeof paths[0], "%s/%s", dir, name);
    f = fopen(path, "w");
    assert_non_null(f);
    assert_int_equal(fwrite(bytes, 1, size, f), size);
    assert_int_equal(fclose(f), 0);
    return path;
}

static void file_refuse(struct keel_tls_options o, int rc, const char *words)
{
    struct keel_tls_config *c = NULL;

    assert_int_equal(keel_tls_config_new(&o, &c), rc);
    assert_null(c);
    if (!strstr(keel_tls_error(), words))
        fail_msg("said: %s", keel_tls_error());
}

static int files_in(void *arg)
{
    const char *key, *chain, *ca, *odd;
    struct keel_tls_options server = {.key_pem = key_pem,
                                      .chain_pem = chain_pem,
                                      .clients = KEEL_TLS_CLIENTS_REQUIRE};
    struct keel_tls_options client = {.pin = &server_pin};
    char *much = calloc(1, MIB + 1);

    (void)arg;
    assert_non_null(mkdtemp(dir));
    key = file_make("key", ada.key_pem, strlen(ada.key_pem));
    chain = file_make("chain", ada.chain_pem, strlen(ada.chain_pem));
    ca = file_make("ca", root.chain_pem, strlen(root.chain_pem));
    server.ca_file = ca;
    client.key_file = key;
    client.chain_file = chain;
    accepted(talk_of(config(server), config(client)), &ada);

    client.key_pem = ada.key_pem;
    file_refuse(client, -EINVAL, "not both");
    client.key_pem = NULL;
    client.key_file = NULL;
    file_refuse(client, -EINVAL, "go together");
    client.key_file = chain;
    file_refuse(client, -EINVAL, "no private key");
    client.key_file = "/nowhere/key";
    file_refuse(client, -ENOENT, "/nowhere/key: No such file");
    client.key_file = key;
    odd = file_make("odd", "a\0b", 3);
    client.chain_file = odd;
    file_refuse(client, -EINVAL, "no text");
    memset(much, '\n', MIB + 1);
    file_make("odd", much, MIB + 1);
    file_refuse(client, -EFBIG, "odd: File too large");
    server.ca_file = odd;
    file_refuse(server, -EFBIG, "odd: File too large");
    server.ca_file = key;
    file_refuse(server, -EINVAL, "no certificate in PEM");
    unlink(key);
    unlink(chain);
    unlink(ca);
    unlink(odd);
    rmdir(dir);
    free(much);
    return 0;
}

static void keys_chains_and_cas_come_from_files_too(void **state)
{
    (void)state;
    on_a_loop(files_in, NULL);
}

/* ---- servers of several names (SNI) ------------------------------------------------------------- */

static void sni_try(struct keel_tls_config *server, const char *name,
                    const char *subject)
{
    struct keel_tls_config *client =
        config((struct keel_tls_options){.ca_pem = root.chain_pem});
    struct keel_tls_config *any =
        config((struct keel_tls_options){.any = true});
    bool known = name && strcmp(name, "unknown.test") != 0;
    struct talk t = {.config = {server, known ? client : any}, .name = name};
    struct keel_tls_certificate seen;

    talk_open(&t, 10000);
    assert_int_equal(t.rc[1], 0);
    assert_int_equal(keel_tls_peer_certificate(t.tls[1], &seen), 0);
    assert_string_equal(seen.subject, subject);
    if (name)
        assert_string_equal(keel_tls_server_name(t.tls[0]), name);
    else
        assert_null(keel_tls_server_name(t.tls[0]));
    assert_null(keel_tls_server_name(t.tls[1]));
    assert_null(keel_tls_server_name(t.below[0]));
    talk_close(&t);
    keel_tls_config_free(client);
    keel_tls_config_free(any);
}

static int sni_in(void *arg)
{
    struct party files, wild;
    struct keel_tls_config *server;

    (void)arg;
    party_make(&files, (struct party_of){.name = "files",
                                         .alt = "DNS:files.test",
                                         .rsa = true,
                                         .issuer = &root});
    party_make(&wild, (struct party_of){.name = "wild",
                                        .alt = "DNS:*.wild.test",
                                        .issuer = &root});
    struct keel_tls_identity more[] = {
        {.key_pem = wild.key_pem, .chain_pem = wild.chain_pem},
        {.key_pem = key_pem, .chain_pem = chain_pem}};

    server = config((struct keel_tls_options){.key_pem = files.key_pem,
                                              .chain_pem = files.chain_pem,
                                              .more = more,
                                              .more_count = 2});
    sni_try(server, "files.test", "CN=files");
    sni_try(server, "a.wild.test", "CN=wild");
    sni_try(server, "unknown.test", "CN=files");
    sni_try(server, NULL, "CN=files");
    keel_tls_config_free(server);

    /* The other way round, so that each kind of key is the first one's. */
    more[0] = (struct keel_tls_identity){.key_pem = files.key_pem,
                                         .chain_pem = files.chain_pem};
    server = config((struct keel_tls_options){.key_pem = wild.key_pem,
                                              .chain_pem = wild.chain_pem,
                                              .more = more,
                                              .more_count = 2});
    sni_try(server, "files.test", "CN=files");
    sni_try(server, "a.wild.test", "CN=wild");
    sni_try(server, "unknown.test", "CN=wild");
    keel_tls_config_free(server);
    party_free(&files);
    party_free(&wild);
    return 0;
}

static void a_server_shows_the_certificate_of_the_name_asked_for(void **state)
{
    (void)state;
    on_a_loop(sni_in, NULL);
}

static void options_refuse(struct keel_tls_options o)
{
    struct keel_tls_config *c = NULL;

    assert_int_equal(keel_tls_config_new(&o, &c), -EINVAL);
    assert_null(c);
}

static void unfit_options_of_clients_and_names_are_refused(void **state)
{
    struct keel_tls_identity broken = {.key_pem = ada.key_pem};
    struct keel_tls_options o = {.key_pem = key_pem,
                                 .chain_pem = chain_pem,
                                 .clients = KEEL_TLS_CLIENTS_ASK};

    (void)state;
    options_refuse(o); /* and whom does it trust? */
    o.any = true;
    o.clients = KEEL_TLS_CLIENTS_REQUIRE + 1;
    options_refuse(o);
    o.clients = KEEL_TLS_CLIENTS_ANY;
    o.pin_count = 2;
    options_refuse(o);
    o.any = false;
    o.pin = &server_pin;
    o.pin_count = KEEL_TLS_PINS_MOST + 1;
    options_refuse(o);
    o.pin_count = 1;
    o.more = &broken;
    o.more_count = 1;
    options_refuse(o);
    broken.chain_pem = stranger.chain_pem;
    options_refuse(o);
    broken.chain_pem = ada.chain_pem;
    o.more_count = KEEL_TLS_IDENTITIES_MOST;
    options_refuse(o);
    o.more_count = 1;
    o.key_pem = o.chain_pem = NULL; /* which would be the first? */
    options_refuse(o);
    options_refuse((struct keel_tls_options){
        .any = true, .clients = KEEL_TLS_CLIENTS_REQUIRE});
}

/* ---- exporter --------------------------------------------------------------------------------------- */

static int export_in(void *arg)
{
    static char label[251];
    struct talk t = {0};
    uint8_t here[8160], there[8160], other[32];

    (void)arg;
    talk_open(&t, 10000);
    for (size_t size = 1; size <= sizeof here; size *= 2) {
        assert_int_equal(
            keel_tls_export(t.tls[0], "EXPORTER-mine", "ctx", 3, here, size),
            0);
        assert_int_equal(
            keel_tls_export(t.tls[1], "EXPORTER-mine", "ctx", 3, there, size),
            0);
        assert_memory_equal(here, there, size);
    }
    keel_tls_export(t.tls[0], "EXPORTER-mine", "ctx", 3, here, 32);
    keel_tls_export(t.tls[0], "EXPORTER-mine", "ctx2", 4, other, 32);
    assert_memory_not_equal(here, other, 32);
    keel_tls_export(t.tls[0], "EXPORTER-yours", "ctx", 3, other, 32);
    assert_memory_not_equal(here, other, 32);
    keel_tls_exporter(t.tls[0], here);
    keel_tls_export(t.tls[1], "EXPORTER-Channel-Binding", NULL, 0, other, 32);
    assert_memory_equal(here, other, 32);

    assert_int_equal(keel_tls_export(t.tls[0], "x", NULL, 0, here, 8160), 0);
    assert_int_equal(keel_tls_export(t.tls[0], "x", NULL, 0, here, 8161),
                     -EINVAL);
    assert_int_equal(keel_tls_export(t.tls[0], "x", NULL, 0, here, 0), -EINVAL);
    assert_int_equal(keel_tls_export(t.tls[0], "", NULL, 0, here, 32), -EINVAL);
    memset(label, 'x', 249);
    assert_int_equal(keel_tls_export(t.tls[0], label, NULL, 0, here, 32), 0);
    label[249] = 'x';
    assert_int_equal(keel_tls_export(t.tls[0], label, NULL, 0, here, 32),
                     -EINVAL);
    assert_int_equal(keel_tls_export(t.below[0], "x", NULL, 0, here, 32),
                     -ENOTSUP);
    talk_close(&t);
    return 0;
}

static void keys_are_exported_by_label_and_context(void **state)
{
    (void)state;
    on_a_loop(export_in, NULL);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(a_client_shows_its_certificate_to_a_server_that_asks),
        cmocka_unit_test(
            a_required_certificate_that_is_missing_is_told_to_both),
        cmocka_unit_test(an_untrusted_certificate_is_told_to_both),
        cmocka_unit_test(clients_are_known_by_the_pins_of_their_keys),
        cmocka_unit_test(a_server_may_accept_any_certificate_and_judge_itself),
        cmocka_unit_test(who_resumes_is_known_by_the_same_certificate),
        cmocka_unit_test(a_server_reads_the_facts_of_a_clients_certificate),
        cmocka_unit_test(a_hostile_subject_is_escaped_or_too_long),
        cmocka_unit_test(a_chain_that_is_too_deep_is_refused),
        cmocka_unit_test(certificates_of_too_many_bytes_are_refused),
        cmocka_unit_test(
            a_client_that_never_shows_who_it_is_meets_the_deadline),
        cmocka_unit_test(keys_chains_and_cas_come_from_files_too),
        cmocka_unit_test(a_server_shows_the_certificate_of_the_name_asked_for),
        cmocka_unit_test(unfit_options_of_clients_and_names_are_refused),
        cmocka_unit_test(keys_are_exported_by_label_and_context),
    };

    return cmocka_run_group_tests(tests, parties_make, parties_free);
}
