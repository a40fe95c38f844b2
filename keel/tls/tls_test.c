/* SPDX-License-Identifier: MIT */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include <errno.h>
#include <malloc.h>
#include <stdlib.h>
#include <string.h>

#include <openssl/err.h>
#include <openssl/pem.h>
#include <openssl/x509v3.h>

#include <keel/co.h>
#include <keel/lock.h>
#include <keel/net.h>

#include "test/clock.h"
#include "test/fault.h"
#include "tls_inside.h"

#define MIB ((size_t)1 << 20)
#define SOON (10 * KEEL_SECOND)

/* ---- what OpenSSL holds ------------------------------------------------------- */

static atomic_long openssl_bytes;

static void *counted_alloc(size_t size, const char *file, int line)
{
    void *p = malloc(size);

    (void)file, (void)line;
    openssl_bytes += (long)malloc_usable_size(p);
    return p;
}

static void counted_free(void *p, const char *file, int line)
{
    (void)file, (void)line;
    openssl_bytes -= (long)malloc_usable_size(p);
    free(p);
}

static void *counted_realloc(void *p, size_t size, const char *file, int line)
{
    long before = (long)malloc_usable_size(p);
    void *q;

    (void)file, (void)line;
    q = realloc(p, size);
    openssl_bytes += (long)malloc_usable_size(q) - before;
    return q;
}

/* ---- two ends -------------------------------------------------------------------- */

static char *key_pem, *chain_pem;
static struct keel_tls_config *server_config, *client_config;
static struct keel_tls_pin server_pin;

static struct keel_tls_config *config(struct keel_tls_options o)
{
    struct keel_tls_config *c = NULL;

    assert_int_equal(keel_tls_config_new(&o, &c), 0);
    return c;
}

static int set_up(void **state)
{
    (void)state;
    assert_int_equal(keel_tls_key_new("server.test", &key_pem, &chain_pem), 0);
    server_config = config(
        (struct keel_tls_options){.key_pem = key_pem, .chain_pem = chain_pem});
    assert_int_equal(keel_tls_own_pin(server_config, &server_pin), 0);
    client_config = config((struct keel_tls_options){.pin = &server_pin});
    return 0;
}

static int tear_down(void **state)
{
    (void)state;
    keel_tls_config_free(server_config);
    keel_tls_config_free(client_config);
    keel_free(key_pem);
    keel_free(chain_pem);
    assert_int_equal(tls_buffers_lent(), 0);
    return 0;
}

/* A conversation of two ends; [0] is the server's, [1] the client's. */
struct talk {
    struct keel_tls_config *config[2];
    const char *name;
    keel_ns deadline;
    struct keel_stream *below[2], *tls[2];
    int rc[2];
    char words[2][200];
};

static int accept_in(void *arg)
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

static int connect_in(void *arg)
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

/* Runs both in coroutines of this loop until both have ended. */
static void both(int (*a)(void *), int (*b)(void *), void *arg)
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

static void talk_open(struct talk *t, size_t pipe_bytes)
{
    assert_int_equal(keel_stream_pair(pipe_bytes, t->below), 0);
    shake_hands(t);
}

static void talk_close(struct talk *t)
{
    for (int i = 0; i < 2; i++) {
        keel_stream_close(t->rc[i] == 0 ? t->tls[i] : t->below[i]);
        t->tls[i] = t->below[i] = NULL;
    }
}

/* As above over the loopback. */
static void talk_dial(struct talk *t)
{
    keel_auto(listener) struct keel_listener *l = NULL;

    assert_int_equal(keel_listen("127.0.0.1:0", &l), 0);
    assert_int_equal(
        keel_dial(keel_listener_address(l), keel_after(SOON), &t->below[1]), 0);
    assert_int_equal(keel_accept(l, keel_after(SOON), &t->below[0]), 0);
    shake_hands(t);
}

static void on_a_loop(int (*fn)(void *), void *arg)
{
    assert_int_equal(keel_run(fn, arg), 0);
    assert_int_equal(tls_buffers_lent(), 0);
}

/* ---- bytes that can be told apart --------------------------------------------------- */

static uint8_t byte_at(uint64_t at, unsigned seed)
{
    return (uint8_t)((at * 0x9e3779b97f4a7c15 + seed) >> 53);
}

static void pattern_fill(uint8_t *buf, size_t size, uint64_t at, unsigned seed)
{
    for (size_t i = 0; i < size; i++)
        buf[i] = byte_at(at + i, seed);
}

static void pattern_check(const uint8_t *buf, size_t size, uint64_t at,
                          unsigned seed)
{
    for (size_t i = 0; i < size; i++)
        if (buf[i] != byte_at(at + i, seed))
            fail_msg("byte %llu is wrong", (unsigned long long)(at + i));
}

/* One direction of a transfer. */
struct flow {
    struct keel_stream *from, *to;
    const size_t *sizes; /* written in turn, over and over */
    size_t count, total;
    unsigned seed;
};

static int flow_write(void *arg)
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

static int flow_read(void *arg)
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

/* All four at once. */
static void cross(struct talk *t, const size_t *sizes, size_t count,
                  size_t total)
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

static const size_t many_sizes[] = {1,     2,      13,     511,     16383,
                                    16384, 16385,  32768,  65537,   262143,
                                    3,     262144, 262145, 1 << 20, 999999};
#define MANY (sizeof many_sizes / sizeof *many_sizes)

static int many_sizes_in(void *arg)
{
    (void)arg;
    for (size_t pipe = 1000; pipe <= 1000000; pipe *= 1000) {
        struct talk t = {0};

        talk_open(&t, pipe);
        assert_int_equal(t.rc[0], 0);
        assert_int_equal(t.rc[1], 0);
        cross(&t, many_sizes, MANY, 6 * MIB);
        assert_int_equal(tls_buffers_lent(), 0);
        talk_close(&t);
    }
    return 0;
}

static void bytes_of_any_size_cross_both_ways_at_once(void **state)
{
    (void)state;
    on_a_loop(many_sizes_in, NULL);
}

static int tcp_in(void *arg)
{
    static const size_t sizes[] = {262144, 262157};
    struct talk t = {0};

    (void)arg;
    talk_dial(&t);
    assert_int_equal(t.rc[0], 0);
    assert_int_equal(t.rc[1], 0);
    assert_true(keel_stream_fd(t.tls[0]) >= 0);
    cross(&t, sizes, 2, 64 * MIB);
    assert_int_equal(tls_buffers_lent(), 0);
    talk_close(&t);
    return 0;
}

static void sixty_four_mebibytes_cross_a_socket_unchanged(void **state)
{
    (void)state;
    on_a_loop(tcp_in, NULL);
}

/* Each end on a loop, that is a thread, of its own. */
struct far {
    struct talk talk;
    struct keel_event done;
};

static int far_end(void *arg)
{
    struct far *f = arg;
    struct flow down = {.from = NULL,
                        .sizes = many_sizes,
                        .count = MANY,
                        .total = 4 * MIB,
                        .seed = 3};

    accept_in(&f->talk);
    assert_int_equal(f->talk.rc[0], 0);
    down.from = f->talk.tls[0];
    flow_write(&down);
    assert_int_equal(keel_stream_finish(f->talk.tls[0], keel_after(SOON)), 0);
    assert_int_equal(
        keel_stream_read(f->talk.tls[0], &(char){0}, 1, keel_after(SOON)), 0);
    keel_event_set(&f->done);
    return 0;
}

static int two_loops_in(void *arg)
{
    struct keel_loop *loop = NULL;
    struct far f = {.talk = {.config = {server_config, client_config},
                             .deadline = keel_after(SOON)}};
    struct keel_spawn there = {.name = "far"};
    struct flow down = {
        .sizes = many_sizes, .count = MANY, .total = 4 * MIB, .seed = 3};

    (void)arg;
    keel_event_init(&f.done);
    assert_int_equal(keel_loop_start("far", &loop), 0);
    assert_int_equal(keel_stream_pair(100000, f.talk.below), 0);
    there.loop = loop;
    assert_int_equal(keel_spawn(&there, far_end, &f, NULL), 0);
    connect_in(&f.talk);
    assert_int_equal(f.talk.rc[1], 0);
    down.to = f.talk.tls[1];
    flow_read(&down);
    assert_int_equal(keel_stream_read(down.to, &(char){0}, 1, keel_after(SOON)),
                     0);
    assert_int_equal(keel_stream_finish(down.to, keel_after(SOON)), 0);
    assert_int_equal(keel_event_wait(&f.done, keel_after(SOON)), 0);
    keel_loop_stop(loop);
    talk_close(&f.talk);
    keel_event_fini(&f.done);
    return 0;
}

static void two_loops_talk_with_one_config(void **state)
{
    (void)state;
    on_a_loop(two_loops_in, NULL);
}

/* ---- pieces ------------------------------------------------------------------------------ */

enum { PIECES = 1500 };
struct scatter {
    struct talk talk;
    uint8_t *bytes;
    size_t total;
    struct iovec iov[PIECES];
};

/* Nothing, small, about a record, large; never in step. */
static void scatter_lay(struct scatter *s)
{
    for (size_t i = 0; i < PIECES; i++) {
        size_t size = i % 5 == 0    ? 0
                      : i % 97 == 0 ? 70000 + i
                      : i % 31 == 0 ? TLS_RECORD
                                    : i * 37 % 900;

        s->iov[i] = (struct iovec){s->bytes + s->total, size};
        s->total += size;
    }
    assert_true(s->total > MIB && s->total < 4 * MIB);
    pattern_fill(s->bytes, s->total, 0, 5);
}

static int scatter_write(void *arg)
{
    struct scatter *s = arg;

    assert_int_equal(
        keel_stream_writev(s->talk.tls[0], s->iov, PIECES, keel_after(SOON)),
        0);
    assert_int_equal(
        keel_stream_writev(s->talk.tls[0], s->iov, 0, keel_after(SOON)), 0);
    assert_int_equal(keel_stream_finish(s->talk.tls[0], keel_after(SOON)), 0);
    return 0;
}

static int scatter_read(void *arg)
{
    struct scatter *s = arg;
    uint8_t *got = malloc(s->total + 1);
    size_t n;

    assert_int_equal(keel_stream_read_all(s->talk.tls[1], got, s->total + 1, &n,
                                          keel_after(SOON)),
                     -ECONNABORTED);
    assert_int_equal(n, s->total);
    pattern_check(got, n, 0, 5);
    free(got);
    return 0;
}

static int scatter_in(void *arg)
{
    struct scatter *s = calloc(1, sizeof *s);

    (void)arg;
    s->bytes = malloc(4 * MIB);
    scatter_lay(s);
    talk_open(&s->talk, 30000);
    both(scatter_write, scatter_read, s);
    talk_close(&s->talk);
    free(s->bytes);
    free(s);
    return 0;
}

static void many_small_pieces_are_written_as_one(void **state)
{
    (void)state;
    on_a_loop(scatter_in, NULL);
}

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

/* A certificate for `key`, signed with `by`, as PEM appended to `out`. */
static X509 *cert_make(EVP_PKEY *key, const char *name, const char *alt,
                       bool ca, X509 *issuer, EVP_PKEY *by, BIO *out)
{
    X509 *x = X509_new();
    X509_NAME *n = X509_get_subject_name(x);
    time_t now = (time_t)(keel_wall_ns() / KEEL_SECOND);
    X509_EXTENSION *e;

    X509_set_version(x, X509_VERSION_3);
    ASN1_INTEGER_set(X509_get_serialNumber(x), ca ? 1 : 2);
    X509_time_adj_ex(X509_getm_notBefore(x), -1, 0, &now);
    X509_time_adj_ex(X509_getm_notAfter(x), 10, 0, &now);
    X509_NAME_add_entry_by_txt(n, "CN", MBSTRING_ASC,
                               (const unsigned char *)name, -1, -1, 0);
    X509_set_issuer_name(x, issuer ? X509_get_subject_name(issuer) : n);
    X509_set_pubkey(x, key);
    e = X509V3_EXT_conf_nid(NULL, NULL, NID_basic_constraints,
                            ca ? "critical,CA:TRUE" : "critical,CA:FALSE");
    X509_add_ext(x, e, -1);
    X509_EXTENSION_free(e);
    if (alt) {
        e = X509V3_EXT_conf_nid(NULL, NULL, NID_subject_alt_name, alt);
        X509_add_ext(x, e, -1);
        X509_EXTENSION_free(e);
    }
    assert_true(X509_sign(x, by, EVP_sha256()) > 0);
    PEM_write_bio_X509(out, x);
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
    EVP_PKEY *keys[3];
    BIO *root_pem = BIO_new(BIO_s_mem()), *chain = BIO_new(BIO_s_mem()),
        *middle_pem = BIO_new(BIO_s_mem()), *key = BIO_new(BIO_s_mem());
    X509 *root, *middle, *leaf;
    char *texts[4];
    struct keel_tls_config *server, *client, *own, *system;

    (void)arg;
    for (int i = 0; i < 3; i++)
        keys[i] = EVP_EC_gen("P-256");
    root = cert_make(keys[0], "root", NULL, true, NULL, keys[0], root_pem);
    middle =
        cert_make(keys[1], "middle", NULL, true, root, keys[0], middle_pem);
    leaf = cert_make(keys[2], "leaf",
                     "DNS:files.test,DNS:*.wild.test,IP:127.0.0.1,IP:::1",
                     false, middle, keys[1], chain);
    texts[0] = bio_text(middle_pem);
    BIO_puts(chain, texts[0]);
    PEM_write_bio_PKCS8PrivateKey(key, keys[2], NULL, NULL, 0, NULL, NULL);
    texts[1] = bio_text(chain);
    texts[2] = bio_text(key);
    texts[3] = bio_text(root_pem);

    server = config(
        (struct keel_tls_options){.key_pem = texts[2], .chain_pem = texts[1]});
    client = config((struct keel_tls_options){.ca_pem = texts[3]});
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
    X509_free(root);
    X509_free(middle);
    X509_free(leaf);
    for (int i = 0; i < 3; i++)
        EVP_PKEY_free(keys[i]);
    for (int i = 0; i < 4; i++)
        free(texts[i]);
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

static X509 *cert_read(const char *pem)
{
    BIO *b = BIO_new_mem_buf(pem, -1);
    X509 *x = PEM_read_bio_X509(b, NULL, NULL, NULL);

    assert_non_null(x);
    BIO_free(b);
    return x;
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

/* A peer that is OpenSSL alone, moved by hand; each move sends what it wants
 * sent and receives once. */
struct raw {
    SSL *ssl;
    BIO *in, *out;
    struct keel_stream *below;
};

static void raw_open(struct raw *r, SSL_CTX *x, struct keel_stream *below)
{
    r->ssl = SSL_new(x);
    r->in = BIO_new(BIO_s_mem());
    r->out = BIO_new(BIO_s_mem());
    BIO_set_mem_eof_return(r->in, -1);
    SSL_set_bio(r->ssl, r->in, r->out);
    r->below = below;
}

static void raw_send(struct raw *r, size_t most)
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

static bool raw_receive(struct raw *r)
{
    char buf[20000];
    ssize_t n = keel_stream_read(r->below, buf, sizeof buf, keel_after(SOON));

    if (n > 0)
        BIO_write(r->in, buf, (int)n);
    return n > 0;
}

static int raw_shake(struct raw *r)
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

static SSL_CTX *raw_server_ctx(void)
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

static void a_handshake_ends_at_its_deadline(void **state)
{
    (void)state;
    on_a_loop(silent_in, NULL);
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

static void a_cut_stream_is_no_end(void **state)
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
        SSL_set_msg_callback(tls_ssl(t->tls[i]), count_updates);
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

/* ---- memory ------------------------------------------------------------------------------------------------ */

static void a_key_and_a_config_survive_each_failing_allocation(void **state)
{
    (void)state;
    for (unsigned nth = 1;; nth++) {
        char *key = NULL, *chain = NULL;
        int rc;

        fault_fail_alloc(nth);
        rc = keel_tls_key_new("some.test", &key, &chain);
        if (!fault_fired()) {
            assert_int_equal(rc, 0);
            keel_free(key);
            keel_free(chain);
            break;
        }
        assert_int_equal(rc, -ENOMEM);
        assert_null(key);
        assert_null(chain);
    }
    for (unsigned nth = 1;; nth++) {
        struct keel_tls_config *c = NULL;
        struct keel_tls_options o = {.any = true};
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
}

struct shortage {
    unsigned nth;
    int rc;
    bool fired;
};

static int shortage_in(void *arg)
{
    struct shortage *s = arg;
    struct talk t = {.deadline = keel_after(SOON),
                     .config = {server_config, client_config}};
    char buf[100];
    struct keel_co *far = NULL;
    int rc = 0;
    ssize_t n;

    assert_int_equal(keel_stream_pair(10000, t.below), 0);
    assert_int_equal(keel_spawn(NULL, accept_in, &t, &far), 0);
    /* From here the only allocations are ours: the coroutine has its stack. */
    fault_fail_alloc(s->nth);
    connect_in(&t);
    assert_int_equal(keel_join(far, KEEL_FOREVER, NULL), 0);
    if (t.rc[0] == 0 && t.rc[1] == 0) {
        rc = keel_stream_write(t.tls[0], "word", 4, keel_after(SOON));
        /* Nothing has happened, so it can be tried again. */
        if (rc == -ENOMEM)
            assert_int_equal(
                keel_stream_write(t.tls[0], "word", 4, keel_after(SOON)), 0);
        n = keel_stream_read(t.tls[1], buf, sizeof buf, keel_after(SOON));
        if (n == -ENOMEM) {
            rc = -ENOMEM;
            n = keel_stream_read(t.tls[1], buf, sizeof buf, keel_after(SOON));
        }
        assert_int_equal(n, 4);
    }
    s->fired = fault_fired();
    s->rc = t.rc[0] == -ENOMEM || t.rc[1] == -ENOMEM ? -ENOMEM : rc;
    talk_close(&t);
    return 0;
}

static void a_session_survives_each_shortage_of_memory(void **state)
{
    struct shortage s = {0};

    (void)state;
    do {
        s.nth++;
        on_a_loop(shortage_in, &s);
        assert_int_equal(s.rc, s.fired ? -ENOMEM : 0);
    } while (s.fired);
    assert_true(s.nth > 2);
}

enum { IDLE = 40 };

static void clients_close(struct talk *t, int count)
{
    for (int i = 0; i < count; i++) {
        keel_stream_close(t[i].tls[1]);
        t[i].tls[1] = NULL;
    }
}

static int idle_in(void *arg)
{
    struct talk t[IDLE];
    char buf[64] = {0};
    long before = 0;

    (void)arg;
    memset(t, 0, sizeof t);
    for (int i = 0; i < IDLE; i++) {
        if (i == IDLE / 2) { /* the first pay for tables */
            clients_close(t, i);
            before = openssl_bytes;
        }
        talk_open(&t[i], 10000);
        for (int end = 0; end < 2; end++) {
            assert_int_equal(keel_stream_write(t[i].tls[end], buf, sizeof buf,
                                               keel_after(SOON)),
                             0);
            assert_int_equal(keel_stream_read(t[i].tls[!end], buf, sizeof buf,
                                              keel_after(SOON)),
                             sizeof buf);
            assert_int_equal(keel_stream_read(t[i].tls[!end], buf, sizeof buf,
                                              keel_after(KEEL_MS)),
                             -ETIMEDOUT);
        }
    }
    assert_int_equal(tls_buffers_lent(), 0);
    clients_close(t, IDLE);
    long each = (openssl_bytes - before) / (IDLE / 2);
    print_message("an idle session: %ld bytes in OpenSSL\n", each);
    assert_in_range(each, 1000, 14 * 1024);
    for (int i = 0; i < IDLE; i++)
        talk_close(&t[i]);
    return 0;
}

static void an_idle_session_is_small(void **state)
{
    (void)state;
    on_a_loop(idle_in, NULL);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(bytes_of_any_size_cross_both_ways_at_once),
        cmocka_unit_test(sixty_four_mebibytes_cross_a_socket_unchanged),
        cmocka_unit_test(two_loops_talk_with_one_config),
        cmocka_unit_test(many_small_pieces_are_written_as_one),
        cmocka_unit_test(the_pinned_key_counts_and_no_other),
        cmocka_unit_test(a_chain_and_its_name_are_verified),
        cmocka_unit_test(a_config_unfit_for_the_part_is_refused),
        cmocka_unit_test(bad_options_are_refused),
        cmocka_unit_test(a_new_key_has_its_own_serial_and_a_century),
        cmocka_unit_test(another_application_protocol_is_refused),
        cmocka_unit_test(both_ends_export_the_same_key_once),
        cmocka_unit_test(what_is_not_tls_is_a_protocol_error),
        cmocka_unit_test(a_peer_with_an_older_version_is_refused),
        cmocka_unit_test(a_handshake_ends_at_its_deadline),
        cmocka_unit_test(a_forged_record_ends_the_stream),
        cmocka_unit_test(finish_is_the_end_of_one_direction),
        cmocka_unit_test(a_cut_stream_is_no_end),
        cmocka_unit_test(a_read_that_timed_out_has_lost_nothing),
        cmocka_unit_test(a_write_given_up_makes_the_stream_unusable),
        cmocka_unit_test(the_last_words_of_a_peer_that_is_gone_can_be_read),
        cmocka_unit_test(keys_change_while_both_ends_write),
        cmocka_unit_test(who_only_reads_answers_key_updates_later),
        cmocka_unit_test(key_updates_do_not_lock_two_writers),
        cmocka_unit_test(a_flood_of_key_updates_is_not_borne),
        cmocka_unit_test(a_writer_waits_for_the_rest_of_a_message),
        cmocka_unit_test(a_key_and_a_config_survive_each_failing_allocation),
        cmocka_unit_test(a_session_survives_each_shortage_of_memory),
        cmocka_unit_test(an_idle_session_is_small),
    };

    CRYPTO_set_mem_functions(counted_alloc, counted_realloc, counted_free);
    return cmocka_run_group_tests(tests, set_up, tear_down);
}
