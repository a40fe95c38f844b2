/* SPDX-License-Identifier: MIT */
/* The config: keys, trust, what is offered, and words for what went wrong. */
#include <errno.h>
#include <stdio.h>
#include <string.h>

#if defined(__aarch64__)
#include <asm/hwcap.h>
#include <sys/auxv.h>
#endif

#include <openssl/err.h>
#include <openssl/pem.h>

#include "tls_inside.h"

KEEL_AUTO(config_draft, struct keel_tls_config *, keel_tls_config_free)
KEEL_AUTO(bio, BIO *, BIO_vfree)
KEEL_AUTO(pkey, EVP_PKEY *, EVP_PKEY_free)
KEEL_AUTO(cert, X509 *, X509_free)

/* ---- words -------------------------------------------------------------------- */

static _Thread_local char words_now[200];

void tls_error_set(const char *words)
{
    unsigned long e = words ? 0 : ERR_peek_error();
    const char *reason = e ? ERR_reason_error_string(e) : NULL;

    if (!words)
        words = reason ? reason : "no reason given";
    snprintf(words_now, sizeof words_now, "%s", words);
}

const char *keel_tls_error(void)
{
    return words_now[0] ? words_now : "no handshake has failed";
}

/* ---- pins ---------------------------------------------------------------------- */

int tls_cert_pin(X509 *cert, struct keel_tls_pin *ret)
{
    unsigned char *der = NULL;
    int size = i2d_X509_PUBKEY(X509_get_X509_PUBKEY(cert), &der);
    unsigned n = 0;
    int ok;

    if (size <= 0)
        return -ENOMEM;
    ok = EVP_Digest(der, (size_t)size, ret->sha256, &n, EVP_sha256(), NULL);
    OPENSSL_free(der);
    return ok == 1 && n == sizeof ret->sha256 ? 0 : -ENOMEM;
}

/* In place of the chain's verification: X509_V_OK lets the handshake go on,
 * which then proves that the peer holds the key. */
static int verify_pin(X509_STORE_CTX *x, void *arg)
{
    const struct keel_tls_config *c = arg;
    X509 *cert = X509_STORE_CTX_get0_cert(x);
    struct keel_tls_pin pin;

    if (c->trust != TRUST_ANY &&
        (!cert || tls_cert_pin(cert, &pin) < 0 ||
         !keel_same(pin.sha256, c->pin.sha256, sizeof pin.sha256))) {
        X509_STORE_CTX_set_error(x, X509_V_ERR_CERT_REJECTED);
        return 0;
    }
    X509_STORE_CTX_set_error(x, X509_V_OK);
    return 1;
}

/* ---- ALPN (RFC 7301) -------------------------------------------------------------- */

static int alpn_select(SSL *ssl, const unsigned char **out,
                       unsigned char *out_bytes, const unsigned char *in,
                       unsigned in_bytes, void *arg)
{
    const struct keel_tls_config *c = arg;

    (void)ssl;
    for (size_t at = 0; at < in_bytes; at += (size_t)in[at] + 1)
        if (in_bytes - at >= c->alpn_bytes &&
            memcmp(in + at, c->alpn, c->alpn_bytes) == 0) {
            *out = in + at + 1;
            *out_bytes = in[at];
            return SSL_TLSEXT_ERR_OK;
        }
    return SSL_TLSEXT_ERR_ALERT_FATAL;
}

/* alpn_select is not asked when the client offers nothing at all. */
static int alpn_demand(SSL *ssl, int *alert, void *arg)
{
    const unsigned char *ext;
    size_t size;

    (void)arg;
    if (SSL_client_hello_get0_ext(
            ssl, TLSEXT_TYPE_application_layer_protocol_negotiation, &ext,
            &size) == 1)
        return SSL_CLIENT_HELLO_SUCCESS;
    *alert = SSL_AD_NO_APPLICATION_PROTOCOL;
    return SSL_CLIENT_HELLO_ERROR;
}

static int alpn_init(struct keel_tls_config *c, const char *name)
{
    size_t size = strlen(name);

    if (size == 0 || size > 255)
        return -EINVAL;
    c->alpn[0] = (uint8_t)size;
    memcpy(c->alpn + 1, name, size);
    c->alpn_bytes = 1 + size;

    /* Unlike its neighbours this one returns 0 for success. */
    if (SSL_CTX_set_alpn_protos(c->ctx, c->alpn, (unsigned)c->alpn_bytes))
        return -ENOMEM;
    SSL_CTX_set_alpn_select_cb(c->ctx, alpn_select, c);
    SSL_CTX_set_client_hello_cb(c->ctx, alpn_demand, c);
    return 0;
}

/* ---- key and chain -------------------------------------------------------------- */

/* OpenSSL's own would ask on the terminal. */
static int no_password(char *buf, int size, int rw, void *arg)
{
    (void)buf, (void)size, (void)rw, (void)arg;
    return -1;
}

static BIO *text_open(const char *text)
{
    return BIO_new_mem_buf(text, -1);
}

/* After a certificate that could not be read: 0 when there was none. */
static int text_ended(void)
{
    if (ERR_GET_REASON(ERR_peek_last_error()) != PEM_R_NO_START_LINE)
        return -EINVAL;
    ERR_clear_error();
    return 0;
}

static int key_init(struct keel_tls_config *c, const char *pem)
{
    keel_auto(bio) BIO *b = text_open(pem);
    keel_auto(pkey) EVP_PKEY *key = NULL;

    if (!b)
        return -ENOMEM;
    key = PEM_read_bio_PrivateKey(b, NULL, no_password, NULL);
    if (!key) {
        tls_error_set("the key is no private key in PEM");
        return -EINVAL;
    }
    /* The one sees a key of the chain's kind, the other one of another kind,
     * which would be kept beside the chain. */
    if (SSL_CTX_use_PrivateKey(c->ctx, key) != 1 ||
        SSL_CTX_check_private_key(c->ctx) != 1) {
        tls_error_set("the key is not that of the chain's first certificate");
        return -EINVAL;
    }
    return 0;
}

static int chain_init(struct keel_tls_config *c, const char *pem)
{
    keel_auto(bio) BIO *b = text_open(pem);
    keel_auto(cert) X509 *leaf = NULL;
    int rc;

    if (!b)
        return -ENOMEM;
    leaf = PEM_read_bio_X509(b, NULL, no_password, NULL);
    if (!leaf || SSL_CTX_use_certificate(c->ctx, leaf) != 1) {
        tls_error_set("the chain does not begin with a certificate in PEM");
        return -EINVAL;
    }
    rc = tls_cert_pin(leaf, &c->own);
    if (rc < 0)
        return rc;

    for (;;) {
        keel_auto(cert) X509 *x = PEM_read_bio_X509(b, NULL, no_password, NULL);

        if (!x) {
            rc = text_ended();
            if (rc < 0)
                tls_error_set(NULL);
            return rc;
        }
        if (SSL_CTX_add0_chain_cert(c->ctx, x) != 1)
            return -ENOMEM;
        keel_take(x);
    }
}

/* ---- trust ------------------------------------------------------------------------ */

static int ca_init(struct keel_tls_config *c, const char *pem)
{
    X509_STORE *store = SSL_CTX_get_cert_store(c->ctx);
    keel_auto(bio) BIO *b = NULL;
    size_t count = 0;

    if (!*pem)
        return SSL_CTX_set_default_verify_paths(c->ctx) == 1 ? 0 : -ENOMEM;

    b = text_open(pem);
    if (!b)
        return -ENOMEM;
    for (;; count++) {
        keel_auto(cert) X509 *x = PEM_read_bio_X509(b, NULL, no_password, NULL);

        if (!x)
            return count > 0 ? text_ended() : -EINVAL;
        if (X509_STORE_add_cert(store, x) != 1)
            return -ENOMEM;
    }
}

static int trust_init(struct keel_tls_config *c,
                      const struct keel_tls_options *o)
{
    int given = (o->pin != NULL) + (o->ca_pem != NULL) + o->any;

    if (given > 1 || (given == 0 && !o->key_pem)) {
        tls_error_set("give one of pin, ca and any");
        return -EINVAL;
    }
    if (o->ca_pem) {
        int rc = ca_init(c, o->ca_pem);

        if (rc < 0)
            tls_error_set(NULL);
        c->trust = TRUST_CA;
        return rc;
    }
    if (o->pin) {
        c->trust = TRUST_PIN;
        c->pin = *o->pin;
    } else if (o->any) {
        c->trust = TRUST_ANY;
    }
    if (c->trust != TRUST_NOBODY)
        SSL_CTX_set_cert_verify_callback(c->ctx, verify_pin, c);
    return 0;
}

/* ---- ciphers ----------------------------------------------------------------------- */

/* GCM in software is slow and hard to make even in time; ChaCha20 is not. */
static bool cpu_has_aes(void)
{
#if defined(__x86_64__) || defined(__i386__)
    return __builtin_cpu_supports("aes") && __builtin_cpu_supports("pclmul");
#elif defined(__aarch64__)
    unsigned long has = getauxval(AT_HWCAP);

    return (has & HWCAP_AES) && (has & HWCAP_PMULL);
#else
    return false;
#endif
}

static int ctx_init(struct keel_tls_config *c)
{
    const char *suites =
        cpu_has_aes() ? "TLS_AES_128_GCM_SHA256:TLS_CHACHA20_POLY1305_SHA256:"
                        "TLS_AES_256_GCM_SHA384"
                      : "TLS_CHACHA20_POLY1305_SHA256:TLS_AES_128_GCM_SHA256:"
                        "TLS_AES_256_GCM_SHA384";

    c->ctx = SSL_CTX_new(TLS_method());
    if (!c->ctx)
        return -ENOMEM;
    if (SSL_CTX_set_min_proto_version(c->ctx, TLS1_3_VERSION) != 1 ||
        SSL_CTX_set_ciphersuites(c->ctx, suites) != 1 ||
        SSL_CTX_set1_groups_list(c->ctx, "X25519:P-256") != 1)
        return -ENOMEM;

    /* A server chooses, but lets a client without AES have ChaCha20. */
    SSL_CTX_set_options(c->ctx, SSL_OP_CIPHER_SERVER_PREFERENCE |
                                    SSL_OP_PRIORITIZE_CHACHA |
                                    SSL_OP_NO_TICKET);
    /* No tickets: nobody resumes here, and one that lies unread when a client
     * closes turns its last bytes into a reset. */
    SSL_CTX_set_num_tickets(c->ctx, 0);
    SSL_CTX_set_session_cache_mode(c->ctx, SSL_SESS_CACHE_OFF);
    SSL_CTX_set_mode(c->ctx, SSL_MODE_RELEASE_BUFFERS |
                                 SSL_MODE_ACCEPT_MOVING_WRITE_BUFFER);
    return 0;
}

/* ---- making one -------------------------------------------------------------------- */

static int config_fill(struct keel_tls_config *c,
                       const struct keel_tls_options *o)
{
    int rc = ctx_init(c);

    if (rc < 0)
        return rc;
    if (!o->key_pem != !o->chain_pem) {
        tls_error_set("a key and its chain go together");
        return -EINVAL;
    }
    if (o->key_pem) {
        rc = chain_init(c, o->chain_pem);
        if (rc == 0)
            rc = key_init(c, o->key_pem);
        if (rc < 0)
            return rc;
        c->has_key = true;
    }
    rc = trust_init(c, o);
    if (rc == 0 && o->alpn)
        rc = alpn_init(c, o->alpn);
    return rc;
}

int keel_tls_config_new(const struct keel_tls_options *o,
                        struct keel_tls_config **ret)
{
    keel_auto(config_draft) struct keel_tls_config *draft = NULL;
    int rc;

    ERR_clear_error();
    draft = keel_calloc(1, sizeof *draft);
    if (!draft)
        return -ENOMEM;
    atomic_init(&draft->refs, 1);
    rc = config_fill(draft, o);
    ERR_clear_error();
    if (rc < 0)
        return rc;
    *ret = keel_take(draft);
    return 0;
}

struct keel_tls_config *tls_config_hold(struct keel_tls_config *c)
{
    atomic_fetch_add_explicit(&c->refs, 1, memory_order_relaxed);
    return c;
}

void keel_tls_config_free(struct keel_tls_config *c)
{
    if (!c || atomic_fetch_sub_explicit(&c->refs, 1, memory_order_acq_rel) > 1)
        return;
    SSL_CTX_free(c->ctx);
    keel_free(c);
}

int keel_tls_own_pin(struct keel_tls_config *c, struct keel_tls_pin *ret)
{
    if (!c->has_key)
        return -ENOENT;
    *ret = c->own;
    return 0;
}
