/* SPDX-License-Identifier: MIT */
/* Registering, logging in, devices. */
#include <errno.h>
#include <inttypes.h>
#include <stdio.h>
#include <string.h>

#include "base/log.h"
#include "native/native_inside.h"

/* RFC 5802 messages are short; a long one is no login. */
#define SCRAM_TEXT_BYTES 2048

static int exporter_of(struct conn *c, uint8_t ret[32], struct problem *why)
{
    int rc = keel_tls_exporter(link_stream(c->link), ret);

    if (rc < 0)
        return problem(why, REQUEST_INVALID,
                       .detail = "this connection has no channel binding");
    return 0;
}

static int scram_from_json(const json_t *body, struct ledger_scram *ret,
                           struct problem *why)
{
    const json_t *j = json_object_get(body, "scram");
    uint64_t iterations;
    size_t salt_size;
    int rc;

    memset(ret, 0, sizeof(*ret));
    if (!json_is_object(j))
        return problem(why, REQUEST_INVALID, .detail = "scram");
    rc = field_u64(j, "iterations", UINT32_MAX, &iterations, why);
    if (rc < 0)
        return rc;
    rc = field_blob(j, "salt", 16, sizeof(ret->salt), ret->salt, &salt_size,
                    why);
    if (rc < 0)
        return rc;
    rc = field_bytes(j, "stored", ret->stored_key, 32, why);
    if (rc < 0)
        return rc;
    rc = field_bytes(j, "server", ret->server_key, 32, why);
    if (rc < 0)
        return rc;
    ret->iterations = (uint32_t)iterations;
    ret->salt_size = (uint8_t)salt_size;
    return 0;
}

int verb_register(struct conn *c, struct exchange *x, const struct request *q,
                  struct problem *why)
{
    const char *name, *invite = NULL;
    struct ledger_scram scram;
    struct actor who;
    int rc;

    rc = field_text(q->body, "name", ACCOUNT_NAME_BYTES, &name, why);
    if (rc < 0)
        return rc;
    if (json_object_get(q->body, "invite")) {
        rc = field_text(q->body, "invite", INVITE_TEXT_BYTES, &invite, why);
        if (rc < 0)
            return rc;
    }
    rc = scram_from_json(q->body, &scram, why);
    if (rc < 0)
        return rc;
    rc = account_register(c->native->o.accounts, name, invite, &scram, &who,
                          why);
    if (rc < 0)
        return rc;
    log_info("conn=%s peer=%s account=%s registered", c->id, c->peer, who.name);
    /* It waited: another request may have logged in meanwhile. */
    if (c->actor.account != 0)
        return problem(why, REQUEST_INVALID, .detail = "already logged in");
    rc = conn_logged_in(c, &who, why);
    if (rc < 0)
        return rc;
    return answer(x, json_one("name", json_string(who.name)), why);
}

int verb_login_start(struct conn *c, struct exchange *x,
                     const struct request *q, struct problem *why)
{
    const char *name, *first;
    keel_auto(str) char *server_first = NULL;
    uint8_t exporter[32];
    int rc;

    if (c->login)
        return problem(why, REQUEST_INVALID, .detail = "a login is under way");
    rc = field_text(q->body, "name", ACCOUNT_NAME_BYTES, &name, why);
    if (rc < 0)
        return rc;
    rc = field_text(q->body, "first", SCRAM_TEXT_BYTES, &first, why);
    if (rc < 0)
        return rc;
    rc = exporter_of(c, exporter, why);
    if (rc < 0)
        return rc;
    struct login *login = NULL;

    rc = login_start(c->native->o.accounts, c->peer, name, exporter, first,
                     &login, &server_first, why);
    if (rc < 0)
        return rc;
    /* It waited: another request may have started one meanwhile. */
    login_free(c->login);
    c->login = login;
    snprintf(c->asked, sizeof(c->asked), "%s", name);
    return answer(x, json_one("first", json_string(server_first)), why);
}

int verb_login_finish(struct conn *c, struct exchange *x,
                      const struct request *q, struct problem *why)
{
    keel_auto(login) struct login *login = keel_take(c->login);
    keel_auto(str) char *server_final = NULL;
    const char *final;
    struct actor who;
    json_t *ok;
    int rc;

    if (!login)
        return problem(why, REQUEST_INVALID, .detail = "login.start first");
    rc = field_text(q->body, "final", SCRAM_TEXT_BYTES, &final, why);
    if (rc < 0)
        return rc;
    rc = login_finish(login, final, &server_final, &who, why);
    if (rc < 0)
        return rc;
    if (c->actor.account != 0)
        return problem(why, REQUEST_INVALID, .detail = "already logged in");
    ok = json_pack("{s:s, s:s}", "final", server_final, "name", who.name);
    if (!ok)
        return problem(why, NO_MEMORY);
    rc = conn_logged_in(c, &who, why);
    if (rc < 0) {
        json_decref(ok);
        return rc;
    }
    return exchange_answer(x, ok);
}

int verb_login_device(struct conn *c, struct exchange *x,
                      const struct request *q, struct problem *why)
{
    uint8_t exporter[32], signature[64];
    uint64_t device;
    const char *name;
    struct actor who;
    int rc;

    rc = field_text(q->body, "name", ACCOUNT_NAME_BYTES, &name, why);
    if (rc < 0)
        return rc;
    rc = field_u64(q->body, "device", INT64_MAX, &device, why);
    if (rc < 0)
        return rc;
    rc = field_bytes(q->body, "signature", signature, sizeof(signature), why);
    if (rc < 0)
        return rc;
    rc = exporter_of(c, exporter, why);
    if (rc < 0)
        return rc;
    rc = login_device(c->native->o.accounts, c->peer, name, (int64_t)device,
                      exporter, signature, &who, why);
    if (rc < 0)
        return rc;
    if (c->actor.account != 0)
        return problem(why, REQUEST_INVALID, .detail = "already logged in");
    rc = conn_logged_in(c, &who, why);
    if (rc < 0)
        return rc;
    return answer(x, json_one("name", json_string(who.name)), why);
}

int verb_device_add(struct conn *c, struct exchange *x, const struct request *q,
                    struct problem *why)
{
    uint8_t key[32];
    const char *name;
    int64_t id;
    int rc;

    rc = field_text(q->body, "name", 64, &name, why);
    if (rc < 0)
        return rc;
    rc = field_bytes(q->body, "key", key, sizeof(key), why);
    if (rc < 0)
        return rc;
    rc = account_device_add(c->native->o.accounts, &c->actor, name, key, &id,
                            why);
    if (rc < 0)
        return rc;
    log_info("trace=%s-%" PRIu32 " account=%s device %" PRId64 " added", c->id,
             exchange_id(x), c->actor.name, id);
    return answer(x, json_one("device", json_integer(id)), why);
}

int verb_device_remove(struct conn *c, struct exchange *x,
                       const struct request *q, struct problem *why)
{
    uint64_t id;
    int rc = field_u64(q->body, "device", INT64_MAX, &id, why);

    if (rc < 0)
        return rc;
    if (id == 0)
        id = (uint64_t)c->actor.device;
    rc = account_device_remove(c->native->o.accounts, &c->actor, (int64_t)id,
                               why);
    /* Not that this one may not log in: there is none to take away. */
    if (rc < 0 && why->id == PROBLEM_DEVICE_UNKNOWN &&
        (int64_t)id != c->actor.device) {
        char shown[24];

        snprintf(shown, sizeof(shown), "%" PRIu64, id);
        return problem(why, DEVICE_NONE, .name = shown);
    }
    if (rc < 0)
        return rc;
    log_info("trace=%s-%" PRIu32 " account=%s device %" PRIu64 " removed",
             c->id, exchange_id(x), c->actor.name, id);
    return exchange_answer(x, NULL);
}

#define DEVICES_MOST 100

int verb_device_list(struct conn *c, struct exchange *x,
                     const struct request *q, struct problem *why)
{
    keel_auto(mem) void *memory =
        keel_calloc(DEVICES_MOST, sizeof(struct ledger_device));
    struct ledger_device *d = memory;
    json_t *list;
    int count;

    (void)q;
    if (!d)
        return problem(why, NO_MEMORY);
    count = account_device_list(c->native->o.accounts, &c->actor, d,
                                DEVICES_MOST, why);
    if (count < 0)
        return count;
    list = json_array();
    for (int i = 0; i < count; i++) {
        json_t *j = json_pack(
            "{s:I, s:s, s:I, s:I, s:b}", "device", (json_int_t)d[i].id, "name",
            d[i].name, "created", (json_int_t)d[i].created, "used",
            (json_int_t)d[i].used, "current", d[i].id == c->actor.device);

        if (json_array_append_new(list, j) < 0) {
            json_decref(list);
            return problem(why, NO_MEMORY);
        }
    }
    return answer(x, json_one("devices", list), why);
}

int verb_whoami(struct conn *c, struct exchange *x, const struct request *q,
                struct problem *why)
{
    struct ledger_space home;
    int rc = account_home(c->native->o.accounts, &c->actor, &home, why);

    (void)q;
    if (rc < 0)
        return rc;
    return answer(x,
                  json_pack("{s:s, s:b, s:I, s:I, s:I, s:I, s:I, s:I}", "name",
                            c->actor.name, "admin", c->actor.admin, "device",
                            (json_int_t)c->actor.device, "used_bytes",
                            (json_int_t)home.used_bytes, "used_files",
                            (json_int_t)home.used_files, "quota_bytes",
                            (json_int_t)home.quota_bytes, "quota_files",
                            (json_int_t)home.quota_files, "reserved_bytes",
                            (json_int_t)home.reserved_bytes),
                  why);
}

int verb_password(struct conn *c, struct exchange *x, const struct request *q,
                  struct problem *why)
{
    struct ledger_scram scram;
    int rc;

    if (c->actor.device != 0)
        return problem(why, PASSWORD_NEEDED);
    rc = scram_from_json(q->body, &scram, why);
    if (rc == 0)
        rc = account_password(c->native->o.accounts, &c->actor, &scram, why);
    keel_wipe(&scram, sizeof(scram));
    return rc < 0 ? rc : exchange_answer(x, NULL);
}

/* What an account may enter is an operator's doing, not a client's. */
#define SPACES_MOST 1000

static json_t *rights_to_json(unsigned rights)
{
    char text[64], *rest = text, *word;
    json_t *list = json_array();

    rights_print(rights, text);
    while (list && rights && (word = strsep(&rest, ","))) {
        if (json_array_append_new(list, json_string(word)) < 0) {
            json_decref(list);
            return NULL;
        }
    }
    return list;
}

static json_t *space_to_json(const struct conn *c, const struct space_entry *e)
{
    const struct ledger_space *s = &e->space;

    return json_pack(
        "{s:s, s:o, s:b, s:I, s:I, s:I, s:I, s:I}", "name", s->name, "rights",
        rights_to_json(e->rights), "owner", s->owner == c->actor.account,
        "used_bytes", (json_int_t)s->used_bytes, "used_files",
        (json_int_t)s->used_files, "quota_bytes", (json_int_t)s->quota_bytes,
        "quota_files", (json_int_t)s->quota_files, "reserved_bytes",
        (json_int_t)s->reserved_bytes);
}

int verb_spaces(struct conn *c, struct exchange *x, const struct request *q,
                struct problem *why)
{
    keel_auto(mem) void *memory =
        keel_calloc(SPACES_MOST, sizeof(struct space_entry));
    struct space_entry *e = memory;
    json_t *list;
    int count;

    (void)q;
    if (!e)
        return problem(why, NO_MEMORY);
    count =
        account_spaces(c->native->o.accounts, &c->actor, e, SPACES_MOST, why);
    if (count < 0)
        return count;
    list = json_array();
    for (int i = 0; i < count; i++) {
        if (json_array_append_new(list, space_to_json(c, &e[i])) < 0) {
            json_decref(list);
            return problem(why, NO_MEMORY);
        }
    }
    return answer(x, json_one("spaces", list), why);
}

int verb_ping(struct conn *c, struct exchange *x, const struct request *q,
              struct problem *why)
{
    (void)c;
    (void)q;
    (void)why;
    return exchange_answer(x, NULL);
}
