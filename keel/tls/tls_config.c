/* SPDX-License-Identifier: MIT */
/* The config: its parts, what is offered, and words for what went wrong. */
#include <errno.h>
#include <stdio.h>
#include <string.h>

#if defined(__aarch64__)
#include <asm/hwcap.h>
#include <sys/auxv.h>
#endif

#include <openssl/err.h>

#include "tls_inside.h"

KEEL_AUTO(config_draft, struct keel_tls_config *, keel_tls_config_free)

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
                                    SSL_OP_PRIORITIZE_CHACHA);
    SSL_CTX_set_max_cert_list(c->ctx, TLS_CERTS_MOST);
    SSL_CTX_set_verify_depth(c->ctx, TLS_DEPTH_MOST);
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
    rc = tls_identities_init(c, o);
    if (rc == 0)
        rc = tls_trust_init(c, o);
    if (rc == 0)
        rc = tls_resume_init(c, o);
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
    tls_resume_free(c);
    tls_identities_free(c);
    keel_free(c->pins);
    keel_free(c);
}
