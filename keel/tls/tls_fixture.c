/* SPDX-License-Identifier: MIT */
#include "tls_fixture.h"

#if defined(__SANITIZE_THREAD__)
/* Sessions are shared between loops and counted by OpenSSL's atomics, which
 * TSan does not see in a library that was compiled without it: it sees only
 * memory copied and freed (tsan/flags, suppressions). */
const char *__tsan_default_suppressions(void);
const char *__tsan_default_suppressions(void)
{
    return "race:OPENSSL_sk_\nrace:SSL_SESSION_\n";
}
#endif

/* ---- two ends -------------------------------------------------------------------- */

char *key_pem, *chain_pem;
struct keel_tls_config *server_config, *client_config;
struct keel_tls_pin server_pin;

struct keel_tls_config *config(struct keel_tls_options o)
{
    struct keel_tls_config *c = NULL;

    assert_int_equal(keel_tls_config_new(&o, &c), 0);
    return c;
}

int set_up(void **state)
{
    (void)state;
    assert_int_equal(keel_tls_key_new("server.test", &key_pem, &chain_pem), 0);
    server_config = config(
        (struct keel_tls_options){.key_pem = key_pem, .chain_pem = chain_pem});
    assert_int_equal(keel_tls_own_pin(server_config, &server_pin), 0);
    client_config = config((struct keel_tls_options){.pin = &server_pin});
    return 0;
}

int tear_down(void **state)
{
    (void)state;
    keel_tls_config_free(server_config);
    keel_tls_config_free(client_config);
    keel_free(key_pem);
    keel_free(chain_pem);
    assert_int_equal(tls_buffers_lent(), 0);
    return 0;
}

int accept_in(void *arg)
{
    struct talk *t = arg;

    t->rc[0] =
        keel_tls_accept(t->config[0], t->below[0], t->deadline, &t->tls[0]);
    if (t->rc[0] < 0) {
        strcpy(t->words[0], keel_tls_error());
        keel_stream_close(t->below[0]);
        t->below[0] = NULL;
    }
    return 0;
}

int connect_in(void *arg)
{
    struct talk *t = arg;

    t->rc[1] = keel_tls_connect(t->config[1], t->below[1], t->name, t->deadline,
                                &t->tls[1]);
    if (t->rc[1] < 0) {
        strcpy(t->words[1], keel_tls_error());
        keel_stream_close(t->below[1]);
        t->below[1] = NULL;
    }
    return 0;
}

void both(int (*a)(void *), int (*b)(void *), void *arg)
{
    struct keel_co *co = NULL, *second = NULL;

    assert_int_equal(keel_spawn(NULL, a, arg, &co), 0);
    assert_int_equal(keel_spawn(NULL, b, arg, &second), 0);
    assert_int_equal(keel_join(co, KEEL_FOREVER, NULL), 0);
    assert_int_equal(keel_join(second, KEEL_FOREVER, NULL), 0);
}

static void shake_hands(struct talk *t)
{
    if (!t->deadline)
        t->deadline = keel_after(SOON);
    if (!t->config[0])
        t->config[0] = server_config;
    if (!t->config[1])
        t->config[1] = client_config;
    both(accept_in, connect_in, t);
}

void talk_open(struct talk *t, size_t pipe_bytes)
{
    assert_int_equal(keel_stream_pair(pipe_bytes, t->below), 0);
    shake_hands(t);
}

void talk_close(struct talk *t)
{
    for (int i = 0; i < 2; i++) {
        keel_stream_close(t->rc[i] == 0 ? t->tls[i] : t->below[i]);
        t->tls[i] = t->below[i] = NULL;
    }
}

void talk_dial(struct talk *t)
{
    keel_auto(listener) struct keel_listener *l = NULL;

    assert_int_equal(keel_listen("127.0.0.1:0", &l), 0);
    assert_int_equal(
        keel_dial(keel_listener_address(l), keel_after(SOON), &t->below[1]), 0);
    assert_int_equal(keel_accept(l, keel_after(SOON), &t->below[0]), 0);
    shake_hands(t);
}

void talk_word(struct talk *t, int from)
{
    char word[4];

    assert_int_equal(
        keel_stream_write(t->tls[from], "word", 4, keel_after(SOON)), 0);
    assert_int_equal(
        keel_stream_read_all(t->tls[!from], word, 4, NULL, keel_after(SOON)),
        0);
    assert_memory_equal(word, "word", 4);
}

void on_a_loop(int (*fn)(void *), void *arg)
{
    assert_int_equal(keel_run(fn, arg), 0);
    assert_int_equal(tls_buffers_lent(), 0);
}

/* ---- bytes that can be told apart --------------------------------------------------- */

static uint8_t byte_at(uint64_t at, unsigned seed)
{
    return (uint8_t)((at * 0x9e3779b97f4a7c15 + seed) >> 53);
}

void pattern_fill(uint8_t *buf, size_t size, uint64_t at, unsigned seed)
{
    for (size_t i = 0; i < size; i++)
        buf[i] = byte_at(at + i, seed);
}

void pattern_check(const uint8_t *buf, size_t size, uint64_t at, unsigned seed)
{
    for (size_t i = 0; i < size; i++)
        if (buf[i] != byte_at(at + i, seed))
            fail_msg("byte %llu is wrong", (unsigned long long)(at + i));
}

int flow_write(void *arg)
{
    struct flow *f = arg;
    uint8_t *buf = malloc(MIB);

    for (size_t at = 0, i = 0; at < f->total; i++) {
        size_t size = f->sizes[i % f->count];

        if (size > f->total - at)
            size = f->total - at;
        pattern_fill(buf, size, at, f->seed);
        assert_int_equal(
            keel_stream_write(f->from, buf, size, keel_after(60 * SOON)), 0);
        at += size;
    }
    free(buf);
    return 0;
}

int flow_read(void *arg)
{
    struct flow *f = arg;
    uint8_t *buf = malloc(MIB);

    for (size_t at = 0, i = 0; at < f->total; i++) {
        size_t most = f->sizes[(i + 3) % f->count];
        ssize_t n = keel_stream_read(f->to, buf, most, keel_after(60 * SOON));

        assert_true(n > 0 && (size_t)n <= most);
        pattern_check(buf, (size_t)n, at, f->seed);
        at += (size_t)n;
    }
    free(buf);
    return 0;
}

void cross(struct talk *t, const size_t *sizes, size_t count, size_t total)
{
    struct flow up = {t->tls[1], t->tls[0], sizes, count, total, 1};
    struct flow down = {t->tls[0], t->tls[1], sizes, count, total, 7};
    struct keel_group *g = NULL;
    struct keel_spawn in = {.name = "flow"};

    assert_int_equal(keel_group_new(0, &g), 0);
    in.group = g;
    assert_int_equal(keel_spawn(&in, flow_write, &up, NULL), 0);
    assert_int_equal(keel_spawn(&in, flow_read, &up, NULL), 0);
    assert_int_equal(keel_spawn(&in, flow_write, &down, NULL), 0);
    assert_int_equal(keel_spawn(&in, flow_read, &down, NULL), 0);
    assert_int_equal(keel_group_join(g, KEEL_FOREVER), 0);
    keel_group_free(g);
}

/* ---- keys and certificates ------------------------------------------------------ */

static void extension_add(X509 *x, int nid, const char *value)
{
    X509_EXTENSION *e = X509V3_EXT_conf_nid(NULL, NULL, nid, value);

    assert_non_null(e);
    X509_add_ext(x, e, -1);
    X509_EXTENSION_free(e);
}

static X509 *cert_make(const struct party *p, const struct party_of *of)
{
    X509 *x = X509_new();
    X509_NAME *n = X509_get_subject_name(x);
    time_t now = (time_t)(keel_wall_ns() / KEEL_SECOND);

    X509_set_version(x, X509_VERSION_3);
    ASN1_INTEGER_set(X509_get_serialNumber(x), of->ca ? 1 : 2);
    X509_time_adj_ex(X509_getm_notBefore(x), -100, 0, &now);
    X509_time_adj_ex(X509_getm_notAfter(x), of->days ? of->days : 10, 0, &now);
    X509_NAME_add_entry_by_txt(n, "CN", MBSTRING_UTF8,
                               (const unsigned char *)of->name, -1, -1, 0);
    X509_set_issuer_name(x, of->issuer ? X509_get_subject_name(of->issuer->cert)
                                       : n);
    X509_set_pubkey(x, p->key);
    extension_add(x, NID_basic_constraints,
                  of->ca ? "critical,CA:TRUE" : "critical,CA:FALSE");
    if (of->alt)
        extension_add(x, NID_subject_alt_name, of->alt);
    assert_true(
        X509_sign(x, of->issuer ? of->issuer->key : p->key, EVP_sha256()) > 0);
    return x;
}

static char *bio_text(BIO *b)
{
    char *bytes, *text;
    long size = BIO_get_mem_data(b, &bytes);

    text = calloc(1, (size_t)size + 1);
    memcpy(text, bytes, (size_t)size);
    BIO_free(b);
    return text;
}

void party_make(struct party *p, struct party_of of)
{
    BIO *key = BIO_new(BIO_s_mem()), *chain = BIO_new(BIO_s_mem());

    p->key = of.rsa ? EVP_RSA_gen(2048) : EVP_EC_gen("P-256");
    p->cert = cert_make(p, &of);
    PEM_write_bio_PKCS8PrivateKey(key, p->key, NULL, NULL, 0, NULL, NULL);
    PEM_write_bio_X509(chain, p->cert);
    if (of.issuer)
        BIO_puts(chain, of.issuer->chain_pem);
    p->key_pem = bio_text(key);
    p->chain_pem = bio_text(chain);
}

void party_free(struct party *p)
{
    EVP_PKEY_free(p->key);
    X509_free(p->cert);
    free(p->key_pem);
    free(p->chain_pem);
}

X509 *cert_read(const char *pem)
{
    BIO *b = BIO_new_mem_buf(pem, -1);
    X509 *x = PEM_read_bio_X509(b, NULL, NULL, NULL);

    assert_non_null(x);
    BIO_free(b);
    return x;
}

void raw_open(struct raw *r, SSL_CTX *x, struct keel_stream *below)
{
    r->ssl = SSL_new(x);
    r->in = BIO_new(BIO_s_mem());
    r->out = BIO_new(BIO_s_mem());
    BIO_set_mem_eof_return(r->in, -1);
    SSL_set_bio(r->ssl, r->in, r->out);
    r->below = below;
}

void raw_send(struct raw *r, size_t most)
{
    char buf[20000];

    while (most > 0) {
        int n =
            BIO_read(r->out, buf, (int)(most < sizeof buf ? most : sizeof buf));

        if (n <= 0)
            return;
        assert_int_equal(
            keel_stream_write(r->below, buf, (size_t)n, keel_after(SOON)), 0);
        most -= (size_t)n;
    }
}

bool raw_receive(struct raw *r)
{
    char buf[20000];
    ssize_t n = keel_stream_read(r->below, buf, sizeof buf, keel_after(SOON));

    if (n > 0)
        BIO_write(r->in, buf, (int)n);
    return n > 0;
}

int raw_shake(struct raw *r)
{
    for (;;) {
        int rc;

        ERR_clear_error();
        rc = SSL_do_handshake(r->ssl);
        raw_send(r, SIZE_MAX);
        if (rc == 1)
            return 0;
        if (SSL_get_error(r->ssl, rc) != SSL_ERROR_WANT_READ || !raw_receive(r))
            return -1;
    }
}

SSL_CTX *raw_server_ctx(void)
{
    SSL_CTX *x = SSL_CTX_new(TLS_server_method());
    BIO *b = BIO_new_mem_buf(key_pem, -1);
    EVP_PKEY *key = PEM_read_bio_PrivateKey(b, NULL, NULL, NULL);
    X509 *cert = cert_read(chain_pem);

    BIO_free(b);
    assert_int_equal(SSL_CTX_use_certificate(x, cert), 1);
    assert_int_equal(SSL_CTX_use_PrivateKey(x, key), 1);
    X509_free(cert);
    EVP_PKEY_free(key);
    SSL_CTX_set_num_tickets(x, 0);
    return x;
}
