/* SPDX-License-Identifier: MIT */
/* Logging in: the server's half of SCRAM, and device keys.
 *
 * A name that does not exist costs what one that does costs: the same look-ups
 * in the ledger, the same HMACs (its salt and keys are made of a secret and the
 * name, always, and then taken or not), the same texts, the same refusal. */
#include <errno.h>
#include <stdio.h>
#include <string.h>

#include <keel/co.h>

#include "account/account_inside.h"
#include "account/scram.h"
#include "account/scram_keys.h"
#include "base/base64.h"

#define MECHANISM "SCRAM-SHA-256-PLUS"
#define BINDING "p=tls-exporter,"
/* A login is cut off by the connection's own deadline; its words are these. */
enum { LOGIN_SECONDS = 30 };

/* `known`: the account is one, and not a decoy.  Freed by its owner after one
 * try of login_finish, whatever came of it. */
struct login {
    struct accounts *accounts;
    Gsasl_session *session;
    struct ledger_account account;
    bool known, finished;
    struct delay_key key;
};

void login_free(struct login *l)
{
    if (!l)
        return;
    scram_session_wipe(l->session);
    if (l->session)
        gsasl_finish(l->session);
    keel_wipe(l, sizeof *l);
    keel_free(l);
}

int login_answer(Gsasl *library, Gsasl_session *s, Gsasl_property what)
{
    (void)library;
    (void)s;
    (void)what;
    return GSASL_NO_CALLBACK;
}

static int wait_turn(struct accounts *a, const struct delay_key *key,
                     struct problem *why)
{
    keel_ns turn = delay_turn(a->delays, key);
    int rc;

    if (turn == KEEL_NOW)
        return 0;
    rc = keel_sleep(turn);
    /* The longest wait is as long as a connection may take to log in: whoever
     * is cut off at its end finds the door open the next time. */
    if (rc < 0)
        delay_left(a->delays, key, turn);
    if (rc == -ETIMEDOUT)
        return problem(why, LOGIN_SLOW, .when = LOGIN_SECONDS);
    return rc < 0 ? problem(why, CANCELLED) : 0;
}

static int refused(struct accounts *a, const struct delay_key *key,
                   struct problem *why)
{
    delay_failed(a->delays, key);
    return problem(why, LOGIN_REFUSED);
}

/* ---- whose keys -------------------------------------------------------------------- */
static int decoy_make(const struct accounts *a, const char *name,
                      struct ledger_scram *ret)
{
    struct ledger_scram s = {.iterations = SCRAM_ITERATIONS,
                             .salt_size = SCRAM_SALT_BYTES};
    int rc;

    rc = scram_hmac(a->decoy, sizeof a->decoy, "salt", name, s.salt);
    if (rc == 0)
        rc =
            scram_hmac(a->decoy, sizeof a->decoy, "stored", name, s.stored_key);
    if (rc == 0)
        rc =
            scram_hmac(a->decoy, sizeof a->decoy, "server", name, s.server_key);
    if (rc == 0)
        *ret = s;
    return rc;
}

/* The account, or one that nobody can log in to. */
static int account_or_decoy(struct accounts *a, const char *name,
                            struct ledger_account *ret, bool *ret_known,
                            struct problem *why)
{
    struct ledger_account found, decoy = {0};
    struct problem said = {0};
    int rc;

    if (decoy_make(a, name, &decoy.scram) < 0)
        return problem(why, NO_MEMORY);
    rc = ledger_account_find(a->options.ledger, name, &found, &said);
    if (rc < 0 && said.id != PROBLEM_ACCOUNT_UNKNOWN) {
        if (why)
            *why = said;
        return rc;
    }
    *ret_known = rc == 0;
    *ret = rc == 0 ? found : decoy;
    return 0;
}

/* ---- by password ---------------------------------------------------------------------- */
static int set_bytes(Gsasl_session *s, Gsasl_property what,
                     const uint8_t *bytes, size_t size)
{
    char text[BASE64_TEXT_BYTES(32)];
    int rc;

    base64_encode(BASE64_STANDARD, bytes, size, text);
    rc = gsasl_property_set(s, what, text);
    keel_wipe(text, sizeof text);
    return rc;
}

static int session_start(struct login *l, const uint8_t exporter[32])
{
    const struct ledger_scram *k = &l->account.scram;
    char iterations[16];
    int rc;

    rc = gsasl_server_start(l->accounts->library, MECHANISM, &l->session);
    if (rc != GSASL_OK)
        return rc;
    snprintf(iterations, sizeof iterations, "%u", k->iterations);
    rc = set_bytes(l->session, GSASL_CB_TLS_EXPORTER, exporter, 32);
    if (rc == GSASL_OK)
        rc = gsasl_property_set(l->session, GSASL_SCRAM_ITER, iterations);
    if (rc == GSASL_OK)
        rc = set_bytes(l->session, GSASL_SCRAM_SALT, k->salt, k->salt_size);
    if (rc == GSASL_OK)
        rc = set_bytes(l->session, GSASL_SCRAM_STOREDKEY, k->stored_key, 32);
    if (rc == GSASL_OK)
        rc = set_bytes(l->session, GSASL_SCRAM_SERVERKEY, k->server_key, 32);
    return rc;
}

/* The exchange is about the name that was looked up, and about nobody else. */
static bool same_name(Gsasl_session *s, const char *name)
{
    const char *authid = gsasl_property_fast(s, GSASL_AUTHID);
    const char *authzid = gsasl_property_fast(s, GSASL_AUTHZID);

    return authid && strcmp(authid, name) == 0 &&
           (!authzid || !*authzid || strcmp(authzid, name) == 0);
}

static int broken(int rc, struct problem *why)
{
    if (rc == GSASL_MALLOC_ERROR)
        return problem(why, NO_MEMORY);
    return problem(why, PROTOCOL_BROKEN,
                   .detail = "the text is not one of " MECHANISM);
}

static int first_step(struct login *l, const char *name,
                      const uint8_t exporter[32], const char *client_first,
                      char **ret, struct problem *why)
{
    char *text = NULL;
    int rc;

    rc = session_start(l, exporter);
    if (rc != GSASL_OK)
        return rc == GSASL_MALLOC_ERROR
                   ? problem(why, NO_MEMORY)
                   : problem(why, INTERNAL,
                             .detail = "GNU SASL lacks " MECHANISM,
                             .errno_ = ENOSYS);
    rc = scram_step(l->session, client_first, &text);
    if (rc != GSASL_NEEDS_MORE || !same_name(l->session, name)) {
        if (rc == GSASL_OK || rc == GSASL_NEEDS_MORE)
            keel_free(text);
        return broken(rc, why);
    }
    *ret = text;
    return 0;
}

int login_start(struct accounts *a, const char *peer, const char *name,
                const uint8_t exporter[32], const char *client_first,
                struct login **ret, char **ret_server_first,
                struct problem *why)
{
    keel_auto(login) struct login *l = NULL;
    int rc;

    rc = scram_text_check(client_first, why);
    if (rc < 0)
        return rc;
    if (strncmp(client_first, BINDING, strlen(BINDING)) != 0)
        return broken(0, why);
    /* What cannot be a name is nobody's, as anybody may know. */
    if (account_name_check(name, NULL) < 0)
        return problem(why, LOGIN_REFUSED);

    l = keel_calloc(1, sizeof *l);
    if (!l)
        return problem(why, NO_MEMORY);
    l->accounts = a;
    delay_key(peer, name, &l->key);
    rc = wait_turn(a, &l->key, why);
    if (rc < 0)
        return rc;
    rc = account_or_decoy(a, name, &l->account, &l->known, why);
    if (rc < 0)
        return rc;
    rc = first_step(l, name, exporter, client_first, ret_server_first, why);
    if (rc < 0)
        return rc;
    *ret = keel_take(l);
    return 0;
}

int login_finish(struct login *l, const char *client_final,
                 char **ret_server_final, struct actor *ret,
                 struct problem *why)
{
    struct accounts *a = l->accounts;
    char *text = NULL;
    int rc;

    if (l->finished)
        return problem(why, PROTOCOL_BROKEN,
                       .detail = "a login is finished once");
    l->finished = true;
    rc = scram_text_check(client_final, why);
    if (rc < 0)
        return rc;
    rc = scram_step(l->session, client_final, &text);
    if (rc == GSASL_MALLOC_ERROR)
        return problem(why, NO_MEMORY);
    /* A decoy's keys are random: its proof never fits.  `known` says it again,
     * so that nothing hangs on that alone. */
    if (rc != GSASL_OK || !l->known) {
        if (rc == GSASL_OK || rc == GSASL_NEEDS_MORE)
            keel_free(text);
        if (rc == GSASL_MECHANISM_PARSE_ERROR) {
            delay_failed(a->delays, &l->key);
            return broken(rc, why);
        }
        return refused(a, &l->key, why);
    }
    delay_passed(a->delays, &l->key);
    if (l->account.disabled) {
        keel_free(text);
        return problem(why, LOGIN_DISABLED, .name = l->account.name);
    }
    actor_of(ret, &l->account, 0);
    *ret_server_final = text;
    return 0;
}

/* ---- by device ---------------------------------------------------------------------------- */
/* For a device that does not exist a key that nobody has the other half of,
 * so that checking costs the same. */
static int device_or_none(struct accounts *a, int64_t id,
                          struct ledger_device *ret, struct problem *why)
{
    struct problem said = {0};
    int rc;

    rc = ledger_device_find(a->options.ledger, id, ret, &said);
    if (rc == 0)
        return 0;
    if (said.id != PROBLEM_DEVICE_UNKNOWN) {
        if (why)
            *why = said;
        return rc;
    }
    *ret = (struct ledger_device){0};
    memcpy(ret->public_key, a->nobodys_key, sizeof ret->public_key);
    return 0;
}

int login_device(struct accounts *a, const char *peer, const char *name,
                 int64_t device, const uint8_t exporter[32],
                 const uint8_t signature[64], struct actor *ret,
                 struct problem *why)
{
    struct ledger_account account;
    struct ledger_device d;
    struct delay_key key;
    bool known = false, good;
    int rc;

    if (account_name_check(name, NULL) < 0)
        return problem(why, DEVICE_UNKNOWN);
    delay_key(peer, name, &key);
    rc = wait_turn(a, &key, why);
    if (rc == 0)
        rc = account_or_decoy(a, name, &account, &known, why);
    if (rc == 0)
        rc = device_or_none(a, device, &d, why);
    if (rc < 0)
        return rc;

    good = device_key_verify(d.public_key, exporter, signature);
    if (!good || !known || d.id == 0 || d.account != account.id) {
        /* A revoked device, another's, a wrong signature: one answer. */
        delay_failed(a->delays, &key);
        return problem(why, DEVICE_UNKNOWN);
    }
    delay_passed(a->delays, &key);
    if (account.disabled)
        return problem(why, LOGIN_DISABLED, .name = account.name);
    rc = ledger_device_touch(a->options.ledger, d.id, account_now(), why);
    if (rc < 0)
        return rc;
    actor_of(ret, &account, d.id);
    return 0;
}
