/* SPDX-License-Identifier: MIT */
#include "client/session.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include <keel/net.h>
#include <keel/tls.h>

#include "account/scram.h"
#include "base/base64.h"
#include "client/password.h"
#include "client/progress.h"
#include "client/text.h"

#define SILENCE_MOST 60 /* seconds */
#define TIMEOUT_MOST 86400
#define DIAL_MOST (15 * KEEL_SECOND)
#define TYPED_MOST 3 /* wrong passwords */

/* ---- silence ------------------------------------------------------------------ */

/* Seconds; 0: FERRY_TIMEOUT says nothing of use. */
static long timeout_told(const char *told)
{
    char *end = NULL;
    long seconds = strtol(told, &end, 10);

    return *end || seconds < 1 || seconds > TIMEOUT_MOST ? 0 : seconds;
}

keel_ns session_patience(void)
{
    const char *told = getenv("FERRY_TIMEOUT");
    long seconds = told ? timeout_told(told) : 0;

    return (seconds ? seconds : SILENCE_MOST) * KEEL_SECOND;
}

int session_patience_check(struct problem *why)
{
    const char *told = getenv("FERRY_TIMEOUT");
    char detail[160];

    if (!told || timeout_told(told))
        return 0;
    snprintf(detail, sizeof detail,
             _("FERRY_TIMEOUT is a number of seconds, 1 to %d, not '%.40s'"),
             TIMEOUT_MOST, told);
    return problem(why, USAGE, .detail = detail);
}

/* A connection is made faster than most requests are answered. */
static keel_ns dial_time(void)
{
    keel_ns patience = session_patience();

    return patience < DIAL_MOST ? patience : DIAL_MOST;
}

/* Data that moves, either way, is a sign of life, and so is any answer to a
 * ping: a refusal too.  On a slow line a ping may have to wait behind what is
 * on its way already, but then data moves. */
static int watch_run(void *arg)
{
    struct session *s = arg;
    keel_ns patience = session_patience();

    for (;;) {
        uint64_t in, out, in_before, out_before;
        struct problem why = {0};

        link_counters(s->link, &in_before, &out_before);
        if (keel_sleep(keel_after(patience / 2)) < 0)
            return 0;
        link_counters(s->link, &in, &out);
        if (in != in_before || out != out_before)
            continue;
        if (link_ask(s->link, "ping", NULL, keel_after(patience), NULL, &why) ==
                0 ||
            why.id != PROBLEM_CONNECT_TIMEOUT)
            continue;
        link_counters(s->link, &in, &out);
        if (in != in_before || out != out_before)
            continue;
        problem(&why, CONNECT_TIMEOUT, .name = s->profile.login.server,
                .when = patience * 3 / 2 / KEEL_SECOND);
        link_goodbye(s->link, &why, KEEL_NOW);
        return 0;
    }
}

static int session_watch(struct session *s, struct problem *why)
{
    struct keel_spawn how = {.name = "watch"};
    int rc = keel_group_new(0, &s->watch);

    if (rc == 0) {
        how.group = s->watch;
        rc = keel_spawn(&how, watch_run, s, NULL);
    }
    return rc < 0 ? problem(why, NO_MEMORY) : 0;
}

int answer_check(int rc, struct problem *why)
{
    char detail[96];

    if (rc == 0 || !why || why->id != PROBLEM_REQUEST_INVALID)
        return rc;
    snprintf(detail, sizeof(detail), _("'%.40s' in its answer makes no sense"),
             why->detail);
    return problem(why, PROTOCOL_BROKEN, .detail = detail);
}

/* ---- is it the server it was? -------------------------------------------------- */

static void pin_print(const uint8_t pin[32], char ret[64])
{
    base64_encode(BASE64_URL, pin, 32, ret);
}

/* As ssh warns: nobody should pass over this. */
static int pin_changed(const char *server, const uint8_t pin[32],
                       struct problem *why)
{
    char text[64];

    pin_print(pin, text);
    progress_aside();
    fprintf(stderr,
            _("@@@@@@@@@@@@@@@@@@@@@@@@@@@@@@@@@@@@@@@@@@@@@@@@@@@@@@@@@@@\n"
              "@       WARNING: THE KEY OF THE SERVER HAS CHANGED!       @\n"
              "@@@@@@@@@@@@@@@@@@@@@@@@@@@@@@@@@@@@@@@@@@@@@@@@@@@@@@@@@@@\n"
              "Somebody may be listening in right now, in the place of %s.\n"
              "Nothing was sent to it.\n"),
            server);
    return problem(why, SERVER_CHANGED, .name = server, .detail = text);
}

/* 1: somebody said yes. */
static int pin_ask(struct cli *c, const char *server, const uint8_t pin[32],
                   struct problem *why)
{
    char text[64], question[512];
    int rc;

    pin_print(pin, text);
    if (c->accept_key || c->new_key)
        return 0;
    snprintf(question, sizeof(question),
             _("%s is not known here yet. Its key is\n    %s\n"
               "Is that what its operator says? [y/N] "),
             server, text);
    rc = ask_yes(question);
    if (rc == -ENOTTY)
        return problem(why, USAGE,
                       .detail = "the server's key is not known here, and "
                                 "there is no terminal to ask at; use "
                                 "--accept-key, or 'ferry join LINK'");
    if (rc == 0)
        return problem(why, SERVER_DECLINED, .name = server);
    return rc == 1 ? 1 : problem(why, CANCELLED);
}

/* Compares the key the handshake showed.  Nothing has been sent yet.  1: it was
 * asked for, which takes longer than a server waits. */
static int pin_check(struct cli *c, struct session *s, const uint8_t *told,
                     const uint8_t shown[32], struct problem *why)
{
    const char *server = s->profile.login.server;
    uint8_t stored[32];
    bool known;
    int rc;

    if (told)
        return keel_same(told, shown, 32) ? 0 : pin_changed(server, shown, why);
    rc = pin_load(&s->home, server, &known, stored, why);
    if (rc < 0)
        return rc;
    if (known && keel_same(stored, shown, 32))
        return 0;
    if (known && !c->new_key)
        return pin_changed(server, shown, why);
    rc = pin_ask(c, server, shown, why);
    if (rc < 0)
        return rc;
    return pin_store(&s->home, server, shown, why) < 0 ? -EIO : rc;
}

/* ---- connecting ------------------------------------------------------------------- */

static int session_shake(struct cli *c, struct session *s, const uint8_t *pin,
                         struct keel_stream **below, struct keel_stream **ret,
                         struct problem *why)
{
    keel_auto(tls_config) struct keel_tls_config *tls = NULL;
    keel_auto(stream) struct keel_stream *stream = NULL;
    struct keel_tls_options o = {.any = true, .alpn = "ferry/1"};
    const char *server = s->profile.login.server;
    struct keel_tls_pin shown;
    int rc = keel_tls_config_new(&o, &tls);

    if (rc < 0)
        return problem(why, NO_MEMORY);
    rc = keel_tls_connect(tls, *below, NULL, keel_after(dial_time()), &stream);
    if (rc == -ETIMEDOUT)
        return problem(why, CONNECT_TIMEOUT, .name = server,
                       .when = dial_time() / KEEL_SECOND);
    /* A line that broke, or a server that has its fill. */
    if (rc == -ECONNABORTED || rc == -ECONNRESET || rc == -EPIPE)
        return problem(why, CONNECT_FAILED, .errno_ = ECONNRESET,
                       .name = server);
    if (rc < 0)
        return problem(why, CONNECT_TLS, .name = server,
                       .detail = keel_tls_error());
    *below = NULL; /* the stream's now */
    rc = keel_tls_peer_pin(stream, &shown);
    if (rc == 0)
        rc = keel_tls_exporter(stream, s->exporter);
    if (rc < 0)
        return problem(why, CONNECT_TLS, .name = server,
                       .detail = "it has no key to know it by");
    rc = pin_check(c, s, pin, shown.sha256, why);
    if (rc != 0)
        return rc;
    cli_trace(c, "connected to %s, %s", server, keel_tls_cipher(stream));
    *ret = keel_take(stream);
    return 0;
}

int session_connect(struct cli *c, struct session *s, const uint8_t *pin,
                    struct problem *why)
{
    keel_auto(stream) struct keel_stream *below = NULL;
    keel_auto(stream) struct keel_stream *stream = NULL;
    struct link_options o = {.agent = "ferry " FERRY_VERSION,
                             .hello_timeout = dial_time()};
    const char *server = s->profile.login.server;
    char name[PROBLEM_TRACE_BYTES];
    int rc;

    cli_trace(c, "dialling %s (%s)", server, keel_poller_name());
    rc = keel_dial(server, keel_after(dial_time()), &below);
    if (rc == -ETIMEDOUT)
        return problem(why, CONNECT_TIMEOUT, .name = server,
                       .when = dial_time() / KEEL_SECOND);
    if (rc == -ENOENT)
        return problem(why, CONNECT_NO_HOST, .name = server);
    if (rc < 0)
        return problem(why, CONNECT_FAILED, .errno_ = -rc, .name = server);
    rc = session_shake(c, s, pin, &below, &stream, why);
    if (rc == 1) /* it is known now */
        return session_connect(c, s, pin, why);
    if (rc < 0)
        return rc;
    rc = link_open(stream, &o, &s->link, why);
    if (rc < 0)
        return rc;
    stream = NULL; /* the link's now */
    link_trace(s->link, 0, name);
    if (name[0])
        cli_trace(c, "the server's log has this connection as %s", name);
    return 0;
}

/* ---- logging in ---------------------------------------------------------------------- */

/* Asks for `key` of the reply to a login verb; the text is the caller's. */
static int ask_text(struct session *s, const char *verb, json_t *fields,
                    const char *key, char **ret, struct problem *why)
{
    const char *text;
    json_t *ok;
    int rc = link_ask(s->link, verb, fields, keel_after(ASK_TIME), &ok, why);

    if (rc < 0)
        return rc;
    rc = answer_check(field_text(ok, key, 4096, &text, why), why);
    if (rc == 0) {
        *ret = keel_strdup(text);
        rc = *ret ? 0 : problem(why, NO_MEMORY);
    }
    json_decref(ok);
    return rc;
}

int session_password_login(struct cli *c, struct session *s,
                           const char *password, struct problem *why)
{
    keel_auto(scram_client) struct scram_client *scram = NULL;
    keel_auto(str) char *first = NULL, *server_first = NULL, *final = NULL,
                        *server_final = NULL;
    const char *name = s->profile.login.user;
    int rc;

    rc = scram_client_new(name, password, s->exporter, &scram, why);
    if (rc < 0)
        return rc;
    rc = scram_client_first(scram, &first, why);
    if (rc < 0)
        return rc;
    rc = ask_text(s, "login.start",
                  json_pack("{s:s, s:s}", "name", name, "first", first),
                  "first", &server_first, why);
    if (rc < 0)
        return rc;
    rc = scram_client_final(scram, server_first, &final, why);
    if (rc < 0)
        return rc;
    rc = ask_text(s, "login.finish", json_pack("{s:s}", "final", final),
                  "final", &server_final, why);
    if (rc < 0)
        return rc;
    rc = scram_client_verify(scram, server_final, why);
    if (rc == 0)
        cli_trace(c, "logged in as %s by password", name);
    return rc;
}

static int session_device_login(struct cli *c, struct session *s,
                                struct problem *why)
{
    uint8_t signature[64];
    json_t *ok;
    int rc = device_key_sign(s->profile.key, s->exporter, signature);

    if (rc < 0)
        return problem(why, INTERNAL, .errno_ = -rc, .detail = "signing");
    rc =
        link_ask(s->link, "login.device",
                 json_pack("{s:s, s:I, s:o}", "name", s->profile.login.user,
                           "device", (json_int_t)s->profile.device, "signature",
                           bytes_to_json(signature, sizeof(signature))),
                 keel_after(ASK_TIME), &ok, why);
    if (rc < 0)
        return rc;
    json_decref(ok);
    cli_trace(c, "logged in as %s by device %lld", s->profile.login.user,
              (long long)s->profile.device);
    return 0;
}

int session_register(struct cli *c, struct session *s, const char *invite,
                     const char *password, struct problem *why)
{
    struct ledger_scram scram;
    json_t *fields, *ok;
    int rc = scram_derive(password, &scram, why);

    if (rc < 0)
        return rc;
    fields = json_pack("{s:s, s:{s:I, s:o, s:o, s:o}}", "name",
                       s->profile.login.user, "scram", "iterations",
                       (json_int_t)scram.iterations, "salt",
                       bytes_to_json(scram.salt, scram.salt_size), "stored",
                       bytes_to_json(scram.stored_key, 32), "server",
                       bytes_to_json(scram.server_key, 32));
    if (fields && invite)
        json_object_set_new(fields, "invite", json_string(invite));
    if (!fields)
        return problem(why, NO_MEMORY);
    rc = link_ask(s->link, "register", fields, keel_after(ASK_TIME), &ok, why);
    if (rc < 0)
        return rc;
    json_decref(ok);
    cli_trace(c, "registered %s", s->profile.login.user);
    return 0;
}

int session_add_device(struct session *s, struct problem *why)
{
    char name[65] = "device";
    uint8_t public_key[32];
    uint64_t id;
    json_t *ok;
    int rc = device_key_new(s->profile.key, public_key);

    if (rc < 0)
        return problem(why, INTERNAL, .errno_ = -rc, .detail = "a device key");
    gethostname(name, sizeof(name) - 1);
    rc = link_ask(s->link, "device.add",
                  json_pack("{s:s, s:o}", "name", name, "key",
                            bytes_to_json(public_key, 32)),
                  keel_after(ASK_TIME), &ok, why);
    if (rc < 0)
        return rc;
    rc = answer_check(field_u64(ok, "device", INT64_MAX, &id, why), why);
    json_decref(ok);
    if (rc < 0)
        return rc;
    s->profile.device = (int64_t)id;
    return profile_store(&s->home, &s->profile, why);
}

/* ---- the whole ----------------------------------------------------------------------------- */

int session_profile(struct cli *c, const struct home *h,
                    const struct place *place, struct profile *ret,
                    struct problem *why)
{
    const char *name = place && place->profile[0] ? place->profile : c->profile;

    if (!place || !place->login.user[0])
        return profile_load(h, name, ret, why);
    /* ferry://USER@HOST/...: the profile of that login if there is one. */
    if (profile_load(h, name ? name : place->login.user, ret, NULL) == 0 &&
        strcmp(ret->login.user, place->login.user) == 0 &&
        strcmp(ret->login.server, place->login.server) == 0)
        return 0;
    memset(ret, 0, sizeof(*ret));
    ret->login = place->login;
    return 0;
}

static int connect_again(struct cli *c, struct session *s, struct problem *why)
{
    link_goodbye(s->link, NULL, keel_after(KEEL_SECOND));
    link_close(s->link);
    s->link = NULL;
    return session_connect(c, s, NULL, why);
}

/* Not by link_wait's result: what ends a link may be a timeout, too. */
static bool is_over(struct link *l)
{
    struct problem why = {0};

    return link_wait(l, KEEL_NOW, &why) == 0 ||
           why.id != PROBLEM_CONNECT_TIMEOUT;
}

/* The server waits less long than people take to find a password. */
static int password_once(struct cli *c, struct session *s, bool anew,
                         struct problem *why)
{
    char password[PASSWORD_BYTES], prompt[128];
    int rc;

    snprintf(prompt, sizeof(prompt), _("Password of %s: "),
             s->profile.login.user);
    rc = password_get(c, prompt, false, password, why);
    if (rc == 0 && (anew || is_over(s->link)))
        rc = connect_again(c, s, why);
    if (rc == 0)
        rc = session_password_login(c, s, password, why);
    keel_wipe(password, sizeof(password));
    return rc;
}

int session_password_ask(struct cli *c, struct session *s, struct problem *why)
{
    for (int tries = 1;; tries++) {
        int rc = password_once(c, s, tries > 1, why);

        if (rc == 0 || why->id != PROBLEM_LOGIN_REFUSED ||
            tries == TYPED_MOST || !password_typed(c))
            return rc;
        fprintf(stderr, "%s\n",
                _("The name or the password is wrong; once more."));
    }
}

static int session_login(struct cli *c, struct session *s, struct problem *why)
{
    return s->profile.device ? session_device_login(c, s, why)
                             : session_password_ask(c, s, why);
}

static int session_open_own(struct cli *c, const struct place *place,
                            struct session *ret, struct problem *why)
{
    struct session s = {.home = {-1, -1, -1}};
    int rc = home_open(&s.home, why);

    if (rc < 0)
        return rc;
    rc = session_profile(c, &s.home, place, &s.profile, why);
    if (rc == 0)
        rc = session_connect(c, &s, NULL, why);
    if (rc == 0)
        rc = session_login(c, &s, why);
    if (rc < 0) {
        session_close(&s);
        return rc;
    }
    *ret = s;
    rc = session_watch(ret, why);
    if (rc < 0)
        session_close(ret);
    return rc;
}

/* Whether `kept` would be that session; false also when it cannot be said. */
static bool kept_fits(struct cli *c, const struct place *place,
                      const struct session *kept)
{
    struct home h = {-1, -1, -1};
    struct profile p;
    bool fits = false;

    if (home_open(&h, NULL) < 0)
        return false;
    if (session_profile(c, &h, place, &p, NULL) == 0)
        fits = strcmp(p.login.user, kept->profile.login.user) == 0 &&
               strcmp(p.login.server, kept->profile.login.server) == 0 &&
               p.device == kept->profile.device;
    keel_wipe(p.key, sizeof(p.key));
    home_close(&h);
    return fits;
}

int session_open(struct cli *c, const struct place *place, struct session *ret,
                 struct problem *why)
{
    struct session *kept = c->kept;
    int rc;

    if (!kept || kept->lent)
        return session_open_own(c, place, ret, why);
    if (kept->link && !kept_fits(c, place, kept))
        return session_open_own(c, place, ret, why);
    if (kept->link && link_wait(kept->link, KEEL_NOW, NULL) != -ETIMEDOUT) {
        cli_trace(c, "the connection was lost; once more");
        session_close(kept);
    }
    if (!kept->link) {
        rc = session_open_own(c, place, kept, why);
        if (rc < 0)
            return rc;
    }
    *ret = *kept;
    ret->lender = kept;
    kept->lent = true;
    return 0;
}

void session_close(struct session *s)
{
    if (s->lender) {
        s->lender->lent = false;
        keel_wipe(s, sizeof(*s));
        return;
    }
    keel_group_free(s->watch);
    s->watch = NULL;
    if (s->link) {
        link_goodbye(s->link, NULL, keel_after(KEEL_SECOND));
        link_close(s->link);
    }
    s->link = NULL;
    keel_wipe(s->profile.key, sizeof(s->profile.key));
    home_close(&s->home);
    s->home = (struct home){-1, -1, -1};
}
