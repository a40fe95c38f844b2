/* SPDX-License-Identifier: MIT */
/* Who is trusted, and what a peer's certificate says. */
#include <errno.h>
#include <string.h>

#include <openssl/err.h>
#include <openssl/x509v3.h>

#include "tls_session.h"

KEEL_AUTO(bio, BIO *, BIO_vfree)
KEEL_AUTO(asn1_time, ASN1_TIME *, ASN1_TIME_free)

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

static bool pinned(const struct keel_tls_config *c, X509 *cert)
{
    struct keel_tls_pin pin;

    if (!cert || tls_cert_pin(cert, &pin) < 0)
        return false;
    for (size_t i = 0; i < c->pin_count; i++)
        if (keel_same(pin.sha256, c->pins[i].sha256, sizeof pin.sha256))
            return true;
    return false;
}

/* In place of the chain's verification: X509_V_OK lets the handshake go on,
 * which then proves that the peer holds the key. */
static int verify_pin(X509_STORE_CTX *x, void *arg)
{
    const struct keel_tls_config *c = arg;

    if (c->trust != TRUST_ANY && !pinned(c, X509_STORE_CTX_get0_cert(x))) {
        X509_STORE_CTX_set_error(x, X509_V_ERR_CERT_REJECTED);
        return 0;
    }
    X509_STORE_CTX_set_error(x, X509_V_OK);
    return 1;
}

/* ---- setting it up ---------------------------------------------------------------- */

static int ca_add(X509 *x, void *arg)
{
    struct keel_tls_config *c = arg;

    if (X509_STORE_add_cert(SSL_CTX_get_cert_store(c->ctx), x) != 1)
        return -ENOMEM;
    /* A hint for clients that have several certificates. */
    if (c->clients && SSL_CTX_add_client_CA(c->ctx, x) != 1)
        return -ENOMEM;
    return 0;
}

static int ca_init(struct keel_tls_config *c, const struct keel_tls_options *o)
{
    keel_auto(text) char *pem = NULL;
    int rc;

    if (o->ca_pem && !*o->ca_pem && !o->ca_file)
        return SSL_CTX_set_default_verify_paths(c->ctx) == 1 ? 0 : -ENOMEM;
    rc = tls_text_load(o->ca_pem, o->ca_file, &pem);
    if (rc < 0)
        return rc;
    rc = tls_certs_read(pem, ca_add, c);
    if (rc == 0 || rc == -EINVAL)
        tls_error_set("the CA's text is no certificate in PEM");
    return rc == 0 ? -EINVAL : rc < 0 ? rc : 0;
}

static int pins_init(struct keel_tls_config *c,
                     const struct keel_tls_options *o)
{
    c->pin_count = o->pin_count ? o->pin_count : 1;
    if (c->pin_count > KEEL_TLS_PINS_MOST) {
        tls_error_set("too many pins");
        return -EINVAL;
    }
    c->pins = keel_calloc(c->pin_count, sizeof(*c->pins));
    if (!c->pins)
        return -ENOMEM;
    memcpy(c->pins, o->pin, c->pin_count * sizeof(*c->pins));
    return 0;
}

static int fits(const struct keel_tls_config *c,
                const struct keel_tls_options *o)
{
    bool ca = o->ca_pem || o->ca_file;
    int given = (o->pin != NULL) + ca + o->any;

    if (given > 1 || (given == 0 && !c->identity_count)) {
        tls_error_set("give one of pin, ca and any");
        return -EINVAL;
    }
    if (o->pin_count > 0 && !o->pin) {
        tls_error_set("a number of pins, but no pins");
        return -EINVAL;
    }
    if (c->clients > KEEL_TLS_CLIENTS_REQUIRE ||
        (c->clients && (given == 0 || !c->identity_count))) {
        tls_error_set("who asks for clients' certificates needs a key of its "
                      "own, and one of pin, ca and any");
        return -EINVAL;
    }
    return 0;
}

int tls_trust_init(struct keel_tls_config *c, const struct keel_tls_options *o)
{
    int rc;

    c->clients = o->clients;
    rc = fits(c, o);
    if (rc < 0)
        return rc;
    if (o->ca_pem || o->ca_file) {
        c->trust = TRUST_CA;
        return ca_init(c, o);
    }
    if (o->pin) {
        c->trust = TRUST_PIN;
        rc = pins_init(c, o);
    } else if (o->any) {
        c->trust = TRUST_ANY;
    }
    if (c->trust != TRUST_NOBODY)
        SSL_CTX_set_cert_verify_callback(c->ctx, verify_pin, c);
    return rc;
}

/* ---- certificates ------------------------------------------------------------------ */

bool tls_cert_is_over(const X509 *cert)
{
    time_t now = (time_t)(keel_wall_ns() / KEEL_SECOND);

    /* 0 is for a date that cannot be understood. */
    return X509_cmp_time(X509_get0_notAfter(cert), &now) <= 0;
}

static int date_of(const ASN1_TIME *t, int64_t *ret)
{
    keel_auto(asn1_time) ASN1_TIME *epoch = ASN1_TIME_set(NULL, 0);
    int days, seconds;

    if (!epoch)
        return -ENOMEM;
    if (ASN1_TIME_diff(&days, &seconds, epoch, t) != 1)
        return -EPROTO;
    *ret = (int64_t)days * 86400 + seconds;
    return 0;
}

static int subject_of(X509 *cert, char *ret, size_t size)
{
    keel_auto(bio) BIO *b = BIO_new(BIO_s_mem());
    char *text;
    long n;

    if (!b || X509_NAME_print_ex(b, X509_get_subject_name(cert), 0,
                                 XN_FLAG_RFC2253) < 0)
        return -ENOMEM;
    n = BIO_get_mem_data(b, &text);
    if (n < 0 || (size_t)n >= size)
        return -EMSGSIZE;
    if (n > 0)
        memcpy(ret, text, (size_t)n);
    ret[n] = '\0';
    return 0;
}

static int facts_of(X509 *cert, struct keel_tls_certificate *ret)
{
    struct keel_tls_certificate draft = {.subject = ""};
    unsigned size = sizeof(draft.sha256);
    int rc = tls_cert_pin(cert, &draft.pin);

    if (rc == 0 && X509_digest(cert, EVP_sha256(), draft.sha256, &size) != 1)
        rc = -ENOMEM;
    if (rc == 0)
        rc = date_of(X509_get0_notBefore(cert), &draft.not_before);
    if (rc == 0)
        rc = date_of(X509_get0_notAfter(cert), &draft.not_after);
    if (rc == 0)
        rc = subject_of(cert, draft.subject, sizeof(draft.subject));
    if (rc == 0)
        *ret = draft;
    return rc;
}

static int peer_of(struct keel_stream *s, X509 **ret)
{
    SSL *ssl = tls_ssl_of(s);

    if (!ssl)
        return -ENOTSUP;
    *ret = SSL_get0_peer_certificate(ssl);
    return *ret ? 0 : -ENOENT;
}

int keel_tls_peer_pin(struct keel_stream *s, struct keel_tls_pin *ret)
{
    X509 *cert;
    int rc = peer_of(s, &cert);

    return rc == 0 ? tls_cert_pin(cert, ret) : rc;
}

int keel_tls_peer_certificate(struct keel_stream *s,
                              struct keel_tls_certificate *ret)
{
    X509 *cert;
    int rc = peer_of(s, &cert);

    if (rc < 0)
        return rc;
    rc = facts_of(cert, ret);
    ERR_clear_error();
    return rc;
}

int keel_tls_own_pin(struct keel_tls_config *c, struct keel_tls_pin *ret)
{
    if (!c->identity_count)
        return -ENOENT;
    *ret = c->own;
    return 0;
}
