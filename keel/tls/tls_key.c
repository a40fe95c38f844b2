/* SPDX-License-Identifier: MIT */
/* Making a key and its certificate. */
#include <errno.h>
#include <string.h>

#include <arpa/inet.h>

#include <openssl/err.h>
#include <openssl/pem.h>
#include <openssl/x509v3.h>

#include "tls_inside.h"

enum {
    NAME_MOST = 64, /* ub-common-name, RFC 5280 */
    DAYS = 36525,
    DAYS_BEFORE = 1, /* clocks differ */
};

KEEL_AUTO(pkey, EVP_PKEY *, EVP_PKEY_free)
KEEL_AUTO(cert, X509 *, X509_free)
KEEL_AUTO(bio, BIO *, BIO_vfree)
KEEL_AUTO(bignum, BIGNUM *, BN_free)
KEEL_AUTO(extension, X509_EXTENSION *, X509_EXTENSION_free)

/* 127 random bits and a positive sign: RFC 5280 4.1.2.2 wants it unique. */
static bool serial_set(X509 *x)
{
    uint8_t bytes[16];
    keel_auto(bignum) BIGNUM *n = NULL;

    keel_random(bytes, sizeof bytes);
    bytes[0] = (uint8_t)((bytes[0] & 0x7f) | 0x40);
    n = BN_bin2bn(bytes, sizeof bytes, NULL);
    return n && BN_to_ASN1_INTEGER(n, X509_get_serialNumber(x));
}

static bool dates_set(X509 *x)
{
    time_t now = (time_t)(keel_wall_ns() / KEEL_SECOND);

    return X509_time_adj_ex(X509_getm_notBefore(x), -DAYS_BEFORE, 0, &now) &&
           X509_time_adj_ex(X509_getm_notAfter(x), DAYS, 0, &now);
}

static bool name_set(X509 *x, const char *common_name)
{
    X509_NAME *n = X509_get_subject_name(x);

    return X509_NAME_add_entry_by_txt(n, "CN", MBSTRING_UTF8,
                                      (const unsigned char *)common_name, -1,
                                      -1, 0) == 1 &&
           X509_set_issuer_name(x, n) == 1;
}

static bool extension_add(X509 *x, int nid, const char *value)
{
    keel_auto(extension) X509_EXTENSION *e =
        X509V3_EXT_conf_nid(NULL, NULL, nid, value);

    return e && X509_add_ext(x, e, -1) == 1;
}

/* A name that can be a host's is one: then the certificate also serves who
 * verifies names. */
static bool host_set(X509 *x, const char *name)
{
    static const char letters[] = "abcdefghijklmnopqrstuvwxyz"
                                  "ABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789-.";
    uint8_t address[16];
    char value[8 + NAME_MOST];
    bool ip = inet_pton(AF_INET, name, address) == 1 ||
              inet_pton(AF_INET6, name, address) == 1;

    if (!ip && name[strspn(name, letters)] != '\0')
        return true;
    strcpy(value, ip ? "IP:" : "DNS:");
    strcat(value, name);
    return extension_add(x, NID_subject_alt_name, value);
}

static X509 *cert_new(EVP_PKEY *key, const char *common_name)
{
    keel_auto(cert) X509 *x = X509_new();

    if (!x || X509_set_version(x, X509_VERSION_3) != 1 || !serial_set(x) ||
        !dates_set(x) || !name_set(x, common_name) ||
        X509_set_pubkey(x, key) != 1 ||
        !extension_add(x, NID_basic_constraints, "critical,CA:FALSE") ||
        !host_set(x, common_name) || X509_sign(x, key, EVP_sha256()) == 0)
        return NULL;
    return keel_take(x);
}

/* The bytes of a memory BIO as a string of ours. */
static char *text_of(BIO *b)
{
    char *bytes, *text;
    long size = BIO_get_mem_data(b, &bytes);

    if (size <= 0)
        return NULL;
    text = keel_alloc((size_t)size + 1);
    if (!text)
        return NULL;
    memcpy(text, bytes, (size_t)size);
    text[size] = '\0';
    return text;
}

/* The BIO's memory is wiped by OpenSSL when it is freed. */
static char *key_pem(EVP_PKEY *key)
{
    keel_auto(bio) BIO *b = BIO_new(BIO_s_mem());

    if (!b ||
        PEM_write_bio_PKCS8PrivateKey(b, key, NULL, NULL, 0, NULL, NULL) != 1)
        return NULL;
    return text_of(b);
}

static char *cert_pem(X509 *x)
{
    keel_auto(bio) BIO *b = BIO_new(BIO_s_mem());

    if (!b || PEM_write_bio_X509(b, x) != 1)
        return NULL;
    return text_of(b);
}

int keel_tls_key_new(const char *common_name, char **ret_key_pem,
                     char **ret_chain_pem)
{
    size_t size = strlen(common_name);
    keel_auto(pkey) EVP_PKEY *key = NULL;
    keel_auto(cert) X509 *cert = NULL;
    keel_auto(str) char *chain = NULL;
    char *secret;

    if (size == 0 || size > NAME_MOST)
        return -EINVAL;

    ERR_clear_error();
    key = EVP_EC_gen("P-256");
    cert = key ? cert_new(key, common_name) : NULL;
    if (!cert) {
        tls_error_set(NULL);
        return -ENOMEM;
    }
    chain = cert_pem(cert);
    if (!chain)
        return -ENOMEM;
    secret = key_pem(key);
    if (!secret)
        return -ENOMEM;
    *ret_key_pem = secret;
    *ret_chain_pem = keel_take(chain);
    return 0;
}
