/* SPDX-License-Identifier: MIT */
#include "account/scram.h"

#include <errno.h>
#include <gsasl.h>
#include <limits.h>
#include <openssl/err.h>
#include <openssl/evp.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <keel/co.h>

#include "account/scram_keys.h"
#include "base/base64.h"
#include "base/name.h"

#define MECHANISM "SCRAM-SHA-256-PLUS"
#define SALT_MOST 1024

/* ---- passwords ---------------------------------------------------------------- */
/* Characters of a text that must be UTF-8; -1: it is not. */
static ssize_t characters(const char *text, size_t size)
{
    ssize_t count = 0;

    for (size_t at = 0; at < size; count++) {
        size_t n = text_utf8(text + at, size - at);

        if (n == 0)
            return -1;
        at += n;
    }
    return count;
}

static int password_bad(const char *detail, struct problem *why)
{
    /* What was typed is a secret, and stays out of every message. */
    return problem(why, NAME_INVALID, .name = "The password", .detail = detail);
}

/* SASLprep (RFC 4013), so that a password typed on another machine has the
 * same bytes.  The copy is free'd by password_free. */
static int password_prepare(const char *password, char **ret,
                            struct problem *why)
{
    size_t size = strnlen(password, PASSWORD_MOST + 1);
    char *prepared = NULL;
    int rc;

    if (size > PASSWORD_MOST)
        return password_bad("it is longer than 1024 bytes", why);
    if (characters(password, size) < 0)
        return password_bad("it is not UTF-8", why);
    rc = gsasl_saslprep(password, 0, &prepared, NULL);
    if (rc == GSASL_MALLOC_ERROR)
        return problem(why, NO_MEMORY);
    if (rc != GSASL_OK)
        return password_bad("it has characters that SASLprep forbids", why);
    *ret = prepared;
    return 0;
}

static void password_free(char *prepared)
{
    if (!prepared)
        return;
    keel_wipe(prepared, strlen(prepared));
    gsasl_free(prepared);
}
KEEL_AUTO(password, char *, password_free)

/* ---- keys ------------------------------------------------------------------------ */
struct derivation {
    const char *password; /* prepared */
    const uint8_t *salt;
    size_t salt_size;
    uint32_t iterations;
    uint8_t salted[32];
};

static int derive_run(void *arg)
{
    struct derivation *d = arg;

    if (PKCS5_PBKDF2_HMAC(d->password, -1, d->salt, (int)d->salt_size,
                          (int)d->iterations, EVP_sha256(), sizeof d->salted,
                          d->salted) == 1)
        return 0;
    ERR_clear_error();
    return -ENOMEM;
}

static int password_strong(const char *password, char **ret,
                           struct problem *why)
{
    keel_auto(password) char *prepared = NULL;
    ssize_t count;
    int rc = password_prepare(password, &prepared, why);

    if (rc < 0)
        return rc;
    count = characters(prepared, strlen(prepared));
    if (count < PASSWORD_LEAST)
        return problem(why, PASSWORD_WEAK, .used = (uint64_t)count,
                       .limit = PASSWORD_LEAST);
    *ret = keel_take(prepared);
    return 0;
}

int scram_password_check(const char *password, struct problem *why)
{
    keel_auto(password) char *prepared = NULL;

    return password_strong(password, &prepared, why);
}

int scram_derive(const char *password, struct ledger_scram *ret,
                 struct problem *why)
{
    keel_auto(password) char *prepared = NULL;
    struct ledger_scram s = {.iterations = SCRAM_ITERATIONS,
                             .salt_size = SCRAM_SALT_BYTES};
    struct derivation d = {
        .salt = s.salt, .salt_size = s.salt_size, .iterations = s.iterations};
    int rc;

    rc = password_strong(password, &prepared, why);
    if (rc < 0)
        return rc;
    keel_random(s.salt, s.salt_size);
    d.password = prepared;
    rc = keel_blocking(derive_run, &d);
    if (rc == 0)
        rc = scram_keys(d.salted, s.stored_key, s.server_key);
    keel_wipe(&d, sizeof d);
    if (rc < 0)
        return problem(why, INTERNAL, .detail = "the keys were not derived",
                       .errno_ = -rc);
    *ret = s;
    return 0;
}

/* ---- the client's half --------------------------------------------------------------- */
/* The library asks for the salted password, and when that is refused for the
 * password itself: it would derive with any count the server names.  So the
 * first answer is made here, and the second is always no. */
struct scram_client {
    Gsasl *library;
    Gsasl_session *session;
    char *name, *password; /* the password prepared */
    char exporter[BASE64_TEXT_BYTES(32)];
    uint64_t strange; /* the count that was refused; 0: none */
    int failed;       /* deriving was not possible */
};

static int answer_derived(struct scram_client *c, Gsasl_session *s)
{
    const char *salt64 = gsasl_property_fast(s, GSASL_SCRAM_SALT);
    const char *count = gsasl_property_fast(s, GSASL_SCRAM_ITER);
    char hex[2 * 32 + 1];
    uint8_t salt[SALT_MOST];
    struct derivation d = {.password = c->password, .salt = salt};
    uint64_t iterations;
    ssize_t n;
    int rc;

    if (!salt64 || !count)
        return GSASL_NO_CALLBACK;
    iterations = scram_iterations(count);
    if (iterations < SCRAM_ITERATIONS_LEAST ||
        iterations > SCRAM_ITERATIONS_MOST) {
        c->strange = iterations ? iterations : 1;
        return GSASL_NO_CALLBACK;
    }
    n = base64_decode(BASE64_STANDARD, salt64, strlen(salt64), salt,
                      sizeof salt);
    if (n <= 0)
        return GSASL_NO_CALLBACK;
    d.salt_size = (size_t)n;
    d.iterations = (uint32_t)iterations;
    c->failed = keel_blocking(derive_run, &d);
    if (c->failed < 0)
        return GSASL_NO_CALLBACK;
    for (size_t i = 0; i < sizeof d.salted; i++)
        snprintf(hex + 2 * i, 3, "%02x", d.salted[i]);
    rc = gsasl_property_set(s, GSASL_SCRAM_SALTED_PASSWORD, hex);
    keel_wipe(&d, sizeof d);
    keel_wipe(hex, sizeof hex);
    return rc;
}

static int answer_client(Gsasl *library, Gsasl_session *s, Gsasl_property what)
{
    struct scram_client *c = gsasl_session_hook_get(s);

    (void)library;
    switch ((int)what) {
    case GSASL_CB_TLS_EXPORTER:
        return gsasl_property_set(s, what, c->exporter);
    case GSASL_AUTHID:
        return gsasl_property_set(s, what, c->name);
    case GSASL_SCRAM_SALTED_PASSWORD:
        return answer_derived(c, s);
    }
    return GSASL_NO_CALLBACK;
}

/* "600000" and nothing else; 0 when it is no such number, UINT64_MAX when it
 * has more than 18 digits. */
uint64_t scram_iterations(const char *text)
{
    size_t digits = strspn(text, "0123456789");

    if (digits == 0 || text[digits] != '\0')
        return 0;
    return digits > 18 ? UINT64_MAX : strtoull(text, NULL, 10);
}

int scram_client_new(const char *name, const char *password,
                     const uint8_t exporter[32], struct scram_client **ret,
                     struct problem *why)
{
    keel_auto(scram_client) struct scram_client *c = NULL;
    int rc;

    rc = account_name_check(name, why);
    if (rc < 0)
        return rc;
    c = keel_calloc(1, sizeof *c);
    if (!c)
        return problem(why, NO_MEMORY);
    rc = password_prepare(password, &c->password, why);
    if (rc < 0)
        return rc;
    c->name = keel_strdup(name);
    if (!c->name)
        return problem(why, NO_MEMORY);
    base64_encode(BASE64_STANDARD, exporter, 32, c->exporter);
    if (gsasl_init(&c->library) != GSASL_OK)
        return problem(why, NO_MEMORY);
    gsasl_callback_set(c->library, answer_client);
    if (gsasl_client_start(c->library, MECHANISM, &c->session) != GSASL_OK)
        return problem(why, INTERNAL, .detail = "GNU SASL lacks " MECHANISM,
                       .errno_ = ENOSYS);
    gsasl_session_hook_set(c->session, c);
    *ret = keel_take(c);
    return 0;
}

/* The library frees its properties without wiping them, so this is done where
 * they lie. */
void scram_session_wipe(Gsasl_session *s)
{
    static const Gsasl_property secrets[] = {
        GSASL_SCRAM_SALTED_PASSWORD, GSASL_PASSWORD, GSASL_SCRAM_SERVERKEY,
        GSASL_SCRAM_STOREDKEY, GSASL_CB_TLS_EXPORTER};

    for (size_t i = 0; s && i < sizeof secrets / sizeof *secrets; i++) {
        char *text = (char *)(uintptr_t)gsasl_property_fast(s, secrets[i]);

        if (text)
            keel_wipe(text, strlen(text));
    }
}

void scram_client_free(struct scram_client *c)
{
    if (!c)
        return;
    scram_session_wipe(c->session);
    if (c->session)
        gsasl_finish(c->session);
    if (c->library)
        gsasl_done(c->library);
    password_free(c->password);
    keel_free(c->name);
    keel_wipe(c, sizeof *c);
    keel_free(c);
}

/* One turn of an exchange: `in` (NULL: none) in, a text of our own out. */
int scram_step(Gsasl_session *s, const char *in, char **ret)
{
    char *out = NULL, *copy = NULL;
    size_t size = 0;
    int rc;

    rc = gsasl_step(s, in, in ? strlen(in) : 0, &out, &size);
    if (rc == GSASL_OK || rc == GSASL_NEEDS_MORE) {
        copy = keel_alloc(size + 1);
        if (copy) {
            memcpy(copy, out ? out : "", size);
            copy[size] = '\0';
            *ret = copy;
        } else {
            rc = GSASL_MALLOC_ERROR;
        }
    }
    gsasl_free(out);
    return rc;
}

int scram_text_check(const char *text, struct problem *why)
{
    size_t size = strnlen(text, SCRAM_TEXT_BYTES + 1);

    if (size > SCRAM_TEXT_BYTES)
        return problem(why, PROTOCOL_TOO_LONG, .size = strlen(text),
                       .limit = SCRAM_TEXT_BYTES);
    return 0;
}

static int client_broken(int rc, struct problem *why)
{
    if (rc == GSASL_MALLOC_ERROR)
        return problem(why, NO_MEMORY);
    return problem(why, PROTOCOL_BROKEN,
                   .detail = "what the server says is not " MECHANISM);
}

int scram_client_first(struct scram_client *c, char **ret, struct problem *why)
{
    int rc = scram_step(c->session, NULL, ret);

    return rc == GSASL_NEEDS_MORE ? 0 : client_broken(rc, why);
}

int scram_client_final(struct scram_client *c, const char *server_first,
                       char **ret, struct problem *why)
{
    int rc;

    rc = scram_text_check(server_first, why);
    if (rc < 0)
        return rc;
    rc = scram_step(c->session, server_first, ret);
    if (rc == GSASL_NEEDS_MORE)
        return 0;
    if (c->strange)
        return problem(why, SCRAM_PARAMETERS, .used = c->strange,
                       .limit = SCRAM_ITERATIONS_LEAST,
                       .size = SCRAM_ITERATIONS_MOST);
    if (c->failed < 0)
        return problem(why, INTERNAL, .detail = "the keys were not derived",
                       .errno_ = -c->failed);
    return client_broken(rc, why);
}

int scram_client_verify(struct scram_client *c, const char *server_final,
                        struct problem *why)
{
    char *more = NULL;
    int rc;

    rc = scram_text_check(server_final, why);
    if (rc < 0)
        return rc;
    rc = scram_step(c->session, server_final, &more);
    if (rc == GSASL_OK || rc == GSASL_NEEDS_MORE)
        keel_free(more);
    if (rc == GSASL_OK)
        return 0;
    if (rc == GSASL_MALLOC_ERROR)
        return problem(why, NO_MEMORY);
    return problem(why, SERVER_CHANGED, .name = "that answered",
                   .detail = "that of one that does not know this account");
}
