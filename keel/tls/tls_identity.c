/* SPDX-License-Identifier: MIT */
/* Keys and their chains, from texts and files; and which of them a server
 * shows. */
#include <errno.h>
#include <stdio.h>
#include <string.h>

#include <openssl/err.h>
#include <openssl/pem.h>
#include <openssl/x509v3.h>

#include <keel/file.h>

#include "tls_inside.h"

enum { TEXT_MOST = 1 << 20 };

KEEL_AUTO(bio, BIO *, BIO_vfree)
KEEL_AUTO(cert, X509 *, X509_free)

/* OpenSSL's own would ask on the terminal. */
static int no_password(char *buf, int size, int rw, void *arg)
{
    (void)buf, (void)size, (void)rw, (void)arg;
    return -1;
}

/* ---- texts ------------------------------------------------------------------ */

void tls_text_free(char *text)
{
    if (text)
        keel_wipe(text, strlen(text));
    keel_free(text);
}

static ssize_t file_read(const char *path, char *buf)
{
    keel_auto(file) int fd = keel_file_open_any(path, O_RDONLY, 0);
    ssize_t n = fd < 0 ? fd : keel_file_read(fd, buf, TEXT_MOST + 1, 0);

    if (n > TEXT_MOST)
        return -EFBIG;
    /* Else the text would seem to end there. */
    return n > 0 && memchr(buf, '\0', (size_t)n) ? -EINVAL : n;
}

static int file_load(const char *path, char **ret)
{
    char *buf = keel_alloc(TEXT_MOST + 1), words[200];
    ssize_t n;

    if (!buf)
        return -ENOMEM;
    n = file_read(path, buf);
    if (n < 0) {
        snprintf(words, sizeof(words), "%.150s: %s", path,
                 n == -EINVAL ? "no text" : strerrordesc_np((int)-n));
        tls_error_set(words);
        keel_wipe(buf, TEXT_MOST + 1);
        keel_free(buf);
        return (int)n;
    }
    buf[n] = '\0';
    *ret = buf;
    return 0;
}

int tls_text_load(const char *pem, const char *file, char **ret)
{
    if (pem && file) {
        tls_error_set("give a text or its file, not both");
        return -EINVAL;
    }
    if (file)
        return file_load(file, ret);
    *ret = keel_strdup(pem);
    return *ret ? 0 : -ENOMEM;
}

int tls_certs_read(const char *pem, int (*each)(X509 *cert, void *arg),
                   void *arg)
{
    keel_auto(bio) BIO *b = BIO_new_mem_buf(pem, -1);
    int count = 0;

    if (!b)
        return -ENOMEM;
    for (;; count++) {
        keel_auto(cert) X509 *x = PEM_read_bio_X509(b, NULL, no_password, NULL);
        int rc;

        if (!x)
            break;
        rc = each(x, arg);
        if (rc < 0)
            return rc;
    }
    if (ERR_GET_REASON(ERR_peek_last_error()) != PEM_R_NO_START_LINE)
        return -EINVAL;
    ERR_clear_error();
    return count;
}

/* ---- an identity -------------------------------------------------------------- */

void tls_identity_fini(struct tls_identity *i)
{
    X509_free(i->leaf);
    EVP_PKEY_free(i->key);
    sk_X509_pop_free(i->chain, X509_free);
}

static int cert_add(X509 *x, void *arg)
{
    struct tls_identity *i = arg;

    if (!i->leaf) {
        i->leaf = x;
    } else {
        if (!i->chain)
            i->chain = sk_X509_new_null();
        if (!i->chain || !sk_X509_push(i->chain, x))
            return -ENOMEM;
    }
    X509_up_ref(x);
    return 0;
}

static int chain_read(struct tls_identity *i, const char *pem)
{
    int rc = tls_certs_read(pem, cert_add, i);

    if (rc == -EINVAL && i->leaf)
        tls_error_set(NULL);
    else if (rc == 0 || rc == -EINVAL)
        tls_error_set("the chain does not begin with a certificate in PEM");
    return rc == 0 ? -EINVAL : rc < 0 ? rc : 0;
}

static int key_read(struct tls_identity *i, const char *pem)
{
    keel_auto(bio) BIO *b = BIO_new_mem_buf(pem, -1);

    if (!b)
        return -ENOMEM;
    i->key = PEM_read_bio_PrivateKey(b, NULL, no_password, NULL);
    if (!i->key) {
        tls_error_set("the key is no private key in PEM");
        return -EINVAL;
    }
    if (X509_check_private_key(i->leaf, i->key) != 1) {
        tls_error_set("the key is not that of the chain's first certificate");
        return -EINVAL;
    }
    return 0;
}

int tls_identity_init(struct tls_identity *i,
                      const struct keel_tls_identity *from)
{
    keel_auto(text) char *key = NULL, *chain = NULL;
    bool has_key = from->key_pem || from->key_file;
    bool has_chain = from->chain_pem || from->chain_file;
    int rc;

    if (!has_key || !has_chain) {
        tls_error_set("a key and its chain go together");
        return -EINVAL;
    }
    rc = tls_text_load(from->chain_pem, from->chain_file, &chain);
    if (rc == 0)
        rc = tls_text_load(from->key_pem, from->key_file, &key);
    if (rc == 0)
        rc = chain_read(i, chain);
    return rc == 0 ? key_read(i, key) : rc;
}

/* ---- which one (SNI) -------------------------------------------------------------- */

static bool is_for(const struct tls_identity *i, const char *name)
{
    return X509_check_host(i->leaf, name, 0,
                           X509_CHECK_FLAG_NO_PARTIAL_WILDCARDS, NULL) == 1;
}

/* Before the server says who it is.  The first identity is there already. */
static int identity_choose(SSL *ssl, void *arg)
{
    const struct keel_tls_config *c = arg;
    const char *name = SSL_get_servername(ssl, TLSEXT_NAMETYPE_host_name);

    if (!SSL_is_server(ssl) || !name || is_for(&c->identities[0], name))
        return 1;
    for (size_t n = 1; n < c->identity_count; n++) {
        const struct tls_identity *i = &c->identities[n];

        if (!is_for(i, name))
            continue;
        /* Else one of another kind of key would stay beside it. */
        SSL_certs_clear(ssl);
        return SSL_use_cert_and_key(ssl, i->leaf, i->key, i->chain, 1);
    }
    return 1;
}

static int identity_add(struct keel_tls_config *c,
                        const struct keel_tls_identity *from)
{
    struct tls_identity *i = &c->identities[c->identity_count];

    c->identity_count++; /* half-built ones are released too */
    return tls_identity_init(i, from);
}

static int first_use(struct keel_tls_config *c)
{
    const struct tls_identity *i = &c->identities[0];

    if (SSL_CTX_use_cert_and_key(c->ctx, i->leaf, i->key, i->chain, 1) == 1)
        return tls_cert_pin(i->leaf, &c->own);
    tls_error_set(NULL);
    return -EINVAL;
}

/* Now is better than when a client asks for its name. */
static int other_try(struct keel_tls_config *c, const struct tls_identity *i)
{
    SSL *trial = SSL_new(c->ctx);
    int ok;

    if (!trial)
        return -ENOMEM;
    ok = SSL_use_cert_and_key(trial, i->leaf, i->key, i->chain, 1);
    if (ok != 1)
        tls_error_set(NULL);
    SSL_free(trial);
    return ok == 1 ? 0 : -EINVAL;
}

static bool given(const struct keel_tls_identity *i)
{
    return i->key_pem || i->key_file || i->chain_pem || i->chain_file;
}

static int others_add(struct keel_tls_config *c,
                      const struct keel_tls_options *o)
{
    int rc = 0;

    for (size_t n = 0; rc == 0 && n < o->more_count; n++) {
        rc = identity_add(c, &o->more[n]);
        if (rc == 0)
            rc = other_try(c, &c->identities[1 + n]);
    }
    if (o->more_count > 0)
        SSL_CTX_set_cert_cb(c->ctx, identity_choose, c);
    return rc;
}

int tls_identities_init(struct keel_tls_config *c,
                        const struct keel_tls_options *o)
{
    const struct keel_tls_identity first = {.key_pem = o->key_pem,
                                            .chain_pem = o->chain_pem,
                                            .key_file = o->key_file,
                                            .chain_file = o->chain_file};
    int rc;

    if (!given(&first) && o->more_count == 0)
        return 0;
    if (o->more_count >= KEEL_TLS_IDENTITIES_MOST) {
        tls_error_set("too many keys");
        return -EINVAL;
    }
    c->identities = keel_calloc(1 + o->more_count, sizeof(*c->identities));
    if (!c->identities)
        return -ENOMEM;
    rc = identity_add(c, &first);
    if (rc == 0)
        rc = first_use(c);
    return rc == 0 ? others_add(c, o) : rc;
}

void tls_identities_free(struct keel_tls_config *c)
{
    for (size_t n = 0; n < c->identity_count; n++)
        tls_identity_fini(&c->identities[n]);
    keel_free(c->identities);
}
