/* SPDX-License-Identifier: MIT */
/* Keys: those a password makes, and those a device has. */
#include <errno.h>
#include <openssl/err.h>
#include <openssl/evp.h>
#include <openssl/hmac.h>
#include <string.h>

#include "account/scram.h"
#include "account/scram_keys.h"

/* OpenSSL keeps errors in a queue of the thread, where the next reader, maybe
 * another coroutine's TLS, would take them for its own. */
static int openssl_failed(int rc)
{
    ERR_clear_error();
    return rc;
}

/* ---- of passwords ---------------------------------------------------------------- */
int scram_sha256(const void *bytes, size_t size, uint8_t ret[32])
{
    if (EVP_Digest(bytes, size, ret, NULL, EVP_sha256(), NULL) != 1)
        return openssl_failed(-ENOMEM);
    return 0;
}

int scram_hmac(const void *key, size_t key_size, const char *label,
               const char *text, uint8_t ret[32])
{
    uint8_t message[256];
    size_t label_size = strlen(label), text_size = strlen(text);

    keel_assert(label_size + 1 + text_size <= sizeof message);
    memcpy(message, label, label_size + 1);
    memcpy(message + label_size + 1, text, text_size);
    if (!HMAC(EVP_sha256(), key, (int)key_size, message,
              label_size + 1 + text_size, ret, NULL))
        return openssl_failed(-ENOMEM);
    return 0;
}

static int rfc_hmac(const uint8_t key[32], const char *text, uint8_t ret[32])
{
    if (!HMAC(EVP_sha256(), key, 32, (const uint8_t *)text, strlen(text), ret,
              NULL))
        return openssl_failed(-ENOMEM);
    return 0;
}

int scram_keys(const uint8_t salted[32], uint8_t ret_stored[32],
               uint8_t ret_server[32])
{
    uint8_t client[32];
    int rc;

    rc = rfc_hmac(salted, "Client Key", client);
    if (rc == 0)
        rc = scram_sha256(client, sizeof client, ret_stored);
    if (rc == 0)
        rc = rfc_hmac(salted, "Server Key", ret_server);
    keel_wipe(client, sizeof client);
    return rc;
}

/* ---- of devices --------------------------------------------------------------------- */
#define MESSAGE_LABEL "ferry device login v1" /* and its NUL */
enum { MESSAGE_BYTES = sizeof MESSAGE_LABEL + 32 };

static void message(const uint8_t exporter[32], uint8_t ret[MESSAGE_BYTES])
{
    memcpy(ret, MESSAGE_LABEL, sizeof MESSAGE_LABEL);
    memcpy(ret + sizeof MESSAGE_LABEL, exporter, 32);
}

static void pkey_free(EVP_PKEY *k)
{
    EVP_PKEY_free(k);
}
KEEL_AUTO(pkey, EVP_PKEY *, pkey_free)
static void md_free(EVP_MD_CTX *m)
{
    EVP_MD_CTX_free(m);
}
KEEL_AUTO(md, EVP_MD_CTX *, md_free)

int device_key_new(uint8_t ret_private[32], uint8_t ret_public[32])
{
    keel_auto(pkey) EVP_PKEY *key = NULL;
    uint8_t seed[32], public_key[32];
    size_t size = sizeof public_key;

    /* Any 32 random bytes are a private key (RFC 8032 section 5.1.5). */
    keel_random(seed, sizeof seed);
    key =
        EVP_PKEY_new_raw_private_key(EVP_PKEY_ED25519, NULL, seed, sizeof seed);
    if (!key || EVP_PKEY_get_raw_public_key(key, public_key, &size) != 1) {
        keel_wipe(seed, sizeof seed);
        return openssl_failed(-ENOMEM);
    }
    memcpy(ret_private, seed, sizeof seed);
    memcpy(ret_public, public_key, sizeof public_key);
    keel_wipe(seed, sizeof seed);
    return 0;
}

int device_key_sign(const uint8_t private_key[32], const uint8_t exporter[32],
                    uint8_t ret[64])
{
    keel_auto(pkey) EVP_PKEY *key = NULL;
    keel_auto(md) EVP_MD_CTX *m = EVP_MD_CTX_new();
    uint8_t text[MESSAGE_BYTES], signature[64];
    size_t size = sizeof signature;

    message(exporter, text);
    key = EVP_PKEY_new_raw_private_key(EVP_PKEY_ED25519, NULL, private_key, 32);
    if (!key || !m || EVP_DigestSignInit(m, NULL, NULL, NULL, key) != 1 ||
        EVP_DigestSign(m, signature, &size, text, sizeof text) != 1)
        return openssl_failed(-ENOMEM);
    memcpy(ret, signature, sizeof signature);
    return 0;
}

bool device_key_verify(const uint8_t public_key[32], const uint8_t exporter[32],
                       const uint8_t signature[64])
{
    keel_auto(pkey) EVP_PKEY *key = NULL;
    keel_auto(md) EVP_MD_CTX *m = EVP_MD_CTX_new();
    uint8_t text[MESSAGE_BYTES];
    bool good;

    message(exporter, text);
    key = EVP_PKEY_new_raw_public_key(EVP_PKEY_ED25519, NULL, public_key, 32);
    good = key && m && EVP_DigestVerifyInit(m, NULL, NULL, NULL, key) == 1 &&
           EVP_DigestVerify(m, signature, 64, text, sizeof text) == 1;
    ERR_clear_error();
    return good;
}
