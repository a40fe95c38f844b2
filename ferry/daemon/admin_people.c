/* SPDX-License-Identifier: MIT */
/* Requests about accounts:
 *
 *     invite        admin, uses, lifetime_s -> link
 *     invite.list   -> rows
 *     invite.revoke id
 *     user.add      name, admin, scram, quota_bytes, quota_files
 *     user.list     -> rows
 *     user.passwd   name, scram
 *     user.disable, user.enable, user.delete, user.quota   name
 *                   -> last_admin: no administrator is left who can log in
 *
 * "scram" is what a server keeps of a password (secret.h): no password ever
 * crosses the socket. */
#include <stdio.h>
#include <string.h>

#include "base/log.h"
#include "daemon/admin.h"
#include "daemon/secret.h"
#include "wire/frame.h"

#define PAGE 64

int admin_account(struct house *h, const json_t *request, const char *key,
                  struct ledger_account *ret, struct problem *why)
{
    const char *name;
    int rc = field_text(request, key, 4 * ACCOUNT_NAME_BYTES, &name, why);

    if (rc == 0)
        rc = account_name_check(name, why);
    if (rc < 0)
        return rc;
    return ledger_account_find(h->ledger, name, ret, why);
}

/* ---- invites ----------------------------------------------------------------- */

int admin_invite(struct house *h, bool admin, int64_t uses, int64_t lifetime_s,
                 int64_t created_by, char ret_link[INVITE_LINK_BYTES],
                 struct problem *why)
{
    struct invite_link l;
    int rc;

    if (!h->server[0])
        return problem(why, USAGE,
                       .detail = "ferryd has not run on this directory yet: "
                                 "--public HOST:PORT is needed");
    rc = account_invite_new(h->accounts, admin, uses, lifetime_s, created_by,
                            l.secret, why);
    if (rc < 0)
        return rc;
    memcpy(l.server, h->server, sizeof(l.server));
    memcpy(l.pin, h->pin, sizeof(l.pin));
    invite_link_print(&l, ret_link);
    keel_wipe(l.secret, sizeof(l.secret));
    return 0;
}

static int answer_invite(struct house *h, const json_t *request,
                         const struct teller *t, json_t **ret_ok,
                         struct problem *why)
{
    char link[INVITE_LINK_BYTES];
    uint64_t uses, lifetime;
    bool admin;
    int rc;

    (void)t;
    rc = field_bool_or(request, "admin", false, &admin, why);
    if (rc == 0)
        rc = field_u64_or(request, "uses", INVITE_USES_MOST, 1, &uses, why);
    if (rc == 0)
        rc = field_u64_or(request, "lifetime_s", INVITE_LIFETIME_MOST,
                          7 * 86400, &lifetime, why);
    if (rc < 0)
        return rc;
    if (uses == 0 || lifetime == 0)
        return problem(why, REQUEST_INVALID,
                       .detail = "an invite needs uses and time");
    rc = admin_invite(h, admin, (int64_t)uses, (int64_t)lifetime, 0, link, why);
    if (rc < 0)
        return rc;
    log_info("made an invite%s, good for %llu account%s",
             admin ? " for an administrator" : "", (unsigned long long)uses,
             text_plural((int64_t)uses));
    rc = admin_ok(json_pack("{s:s}", "link", link), ret_ok, why);
    keel_wipe(link, sizeof(link));
    return rc;
}

/* An invite's name is the beginning of its hash, which tells nothing of its
 * secret. */
#define INVITE_ID_BYTES 6
#define INVITE_ID_TEXT (2 * INVITE_ID_BYTES + 1)

static void invite_id(const struct ledger_invite *i, char ret[INVITE_ID_TEXT])
{
    for (unsigned n = 0; n < INVITE_ID_BYTES; n++)
        snprintf(ret + 2 * n, 3, "%02x", i->hash[n]);
}

static int invite_tell(struct house *h, const struct ledger_invite *i,
                       const struct teller *t, struct problem *why)
{
    bool first = i->created_by == LEDGER_FIRST;
    struct ledger_account by = {0};
    char id[INVITE_ID_TEXT];

    /* Whoever made it may be gone by now, as in between. */
    if (i->created_by > 0 &&
        ledger_account_get(h->ledger, i->created_by, &by, NULL) < 0)
        by.name[0] = 0;
    invite_id(i, id);
    return admin_row(t,
                     json_pack("{s:s, s:b, s:b, s:I, s:I, s:I, s:o}", "id", id,
                               "admin", i->admin, "first", first, "uses",
                               (json_int_t)i->uses, "created",
                               (json_int_t)i->created, "expires",
                               (json_int_t)i->expires, "by",
                               by.name[0] ? json_string(by.name) : json_null()),
                     why);
}

static int answer_invites(struct house *h, const json_t *request,
                          const struct teller *t, json_t **ret_ok,
                          struct problem *why)
{
    struct ledger_invite *page = keel_calloc(PAGE, sizeof(*page));
    int64_t now = keel_wall_ns() / KEEL_SECOND, count = 0;
    const uint8_t *after = NULL;
    int got = PAGE, rc = page ? 0 : problem(why, NO_MEMORY);

    (void)request;
    while (rc == 0 && got == PAGE) {
        got = ledger_invite_list(h->ledger, after, now, page, PAGE, why);
        for (int i = 0; i < got && rc == 0; i++, count++)
            rc = invite_tell(h, &page[i], t, why);
        if (got < 0)
            rc = got;
        else if (got > 0)
            after = page[got - 1].hash;
    }
    keel_free(page);
    if (rc < 0)
        return rc;
    return admin_ok(json_pack("{s:I}", "count", (json_int_t)count), ret_ok,
                    why);
}

static int answer_invite_revoke(struct house *h, const json_t *request,
                                const struct teller *t, json_t **ret_ok,
                                struct problem *why)
{
    uint8_t hash[INVITE_ID_BYTES];
    unsigned value[INVITE_ID_BYTES];
    const char *id;
    int rc = field_text(request, "id", 64, &id, why);

    (void)t;
    if (rc < 0)
        return rc;
    if (strlen(id) != INVITE_ID_TEXT - 1 ||
        strspn(id, "0123456789abcdef") != INVITE_ID_TEXT - 1)
        return problem(why, INVITE_UNKNOWN, .name = id);
    sscanf(id, "%2x%2x%2x%2x%2x%2x", &value[0], &value[1], &value[2], &value[3],
           &value[4], &value[5]);
    for (unsigned i = 0; i < INVITE_ID_BYTES; i++)
        hash[i] = (uint8_t)value[i];
    rc = ledger_invite_revoke(h->ledger, hash, sizeof(hash), why);
    if (rc == 0)
        return problem(why, INVITE_UNKNOWN, .name = id);
    if (rc < 0)
        return rc;
    log_info("revoked the invite %s", id);
    return admin_ok(json_pack("{s:s}", "id", id), ret_ok, why);
}

/* ---- accounts -------------------------------------------------------------------- */

static int list_one(struct house *h, const struct ledger_account *a,
                    const struct teller *t, struct problem *why)
{
    struct ledger_device any[64];
    struct ledger_space home = {0};
    int devices = ledger_device_list(h->ledger, a->id, any, 64, why);
    int rc = devices < 0 ? devices
                         : ledger_space_get(h->ledger, a->home, &home, why);

    if (rc < 0)
        return rc;
    return admin_row(
        t,
        json_pack("{s:s, s:b, s:b, s:I, s:i, s:I, s:I, s:I, s:I, s:I}", "name",
                  a->name, "admin", a->admin, "disabled", a->disabled,
                  "created", (json_int_t)a->created, "devices", devices,
                  "used_bytes", (json_int_t)home.used_bytes, "quota_bytes",
                  (json_int_t)home.quota_bytes, "used_files",
                  (json_int_t)home.used_files, "quota_files",
                  (json_int_t)home.quota_files, "reserved_bytes",
                  (json_int_t)home.reserved_bytes),
        why);
}

static int answer_list(struct house *h, const json_t *request,
                       const struct teller *t, json_t **ret_ok,
                       struct problem *why)
{
    struct ledger_account *page = keel_calloc(PAGE, sizeof(*page));
    char after[ACCOUNT_NAME_BYTES + 1] = "";
    int64_t count = 0;
    int got, rc = page ? 0 : problem(why, NO_MEMORY);

    (void)request;
    while (rc == 0) {
        got = ledger_account_list(h->ledger, after, page, PAGE, why);
        for (int i = 0; i < got && rc == 0; i++, count++)
            rc = list_one(h, &page[i], t, why);
        if (got < 0)
            rc = got;
        if (got < PAGE)
            break;
        memcpy(after, page[got - 1].name, sizeof(after));
    }
    keel_free(page);
    if (rc < 0)
        return rc;
    return admin_ok(json_pack("{s:I}", "count", (json_int_t)count), ret_ok,
                    why);
}

static int answer_add(struct house *h, const json_t *request,
                      const struct teller *t, json_t **ret_ok,
                      struct problem *why)
{
    struct ledger_registration r = {.now = keel_wall_ns() / KEEL_SECOND};
    struct ledger_account made;
    uint64_t bytes, files;
    int rc;

    (void)t;
    rc = field_text(request, "name", 4 * ACCOUNT_NAME_BYTES, &r.name, why);
    if (rc == 0)
        rc = account_name_check(r.name, why);
    if (rc == 0)
        rc = field_bool_or(request, "admin", false, &r.admin, why);
    if (rc == 0)
        rc = field_u64_or(request, "quota_bytes", INT64_MAX,
                          (uint64_t)h->quota_bytes, &bytes, why);
    if (rc == 0)
        rc = field_u64_or(request, "quota_files", INT64_MAX,
                          (uint64_t)h->quota_files, &files, why);
    if (rc == 0)
        rc = secret_scram(request, &r.scram, why);
    if (rc < 0)
        return rc;
    r.quota_bytes = (int64_t)bytes;
    r.quota_files = (int64_t)files;
    rc = ledger_register(h->ledger, &r, &made, why);
    keel_wipe(&r.scram, sizeof(r.scram));
    if (rc < 0)
        return rc;
    accounts_changed(h->accounts);
    log_info("account=%s added%s", made.name,
             r.admin ? " as an administrator" : "");
    return admin_ok(json_pack("{s:s}", "name", made.name), ret_ok, why);
}

static int answer_passwd(struct house *h, const json_t *request,
                         const struct teller *t, json_t **ret_ok,
                         struct problem *why)
{
    struct ledger_account a;
    struct ledger_scram s;
    int rc = admin_account(h, request, "name", &a, why);

    (void)t;
    if (rc == 0)
        rc = secret_scram(request, &s, why);
    if (rc < 0)
        return rc;
    rc = ledger_account_scram(h->ledger, a.id, &s, why);
    keel_wipe(&s, sizeof(s));
    if (rc < 0)
        return rc;
    accounts_changed(h->accounts);
    log_info("account=%s has a new password", a.name);
    return admin_ok(json_pack("{s:s}", "name", a.name), ret_ok, why);
}

/* How many administrators can log in. */
static int admins_count(struct house *h, int64_t *ret, struct problem *why)
{
    struct ledger_account *page = keel_calloc(PAGE, sizeof(*page));
    char after[ACCOUNT_NAME_BYTES + 1] = "";
    int64_t count = 0;
    int got = PAGE, rc = page ? 0 : problem(why, NO_MEMORY);

    while (rc == 0 && got == PAGE) {
        got = ledger_account_list(h->ledger, after, page, PAGE, why);
        for (int i = 0; i < got; i++)
            count += page[i].admin && !page[i].disabled;
        if (got < 0)
            rc = got;
        else if (got > 0)
            memcpy(after, page[got - 1].name, sizeof(after));
    }
    keel_free(page);
    if (rc == 0)
        *ret = count;
    return rc;
}

/* Whether what was just done to an account that was an active administrator
 * left none.  It is done: that it cannot be counted is no failure of it. */
static bool was_last(struct house *h, const struct ledger_account *a)
{
    int64_t left = 1;

    return a->admin && !a->disabled && admins_count(h, &left, NULL) == 0 &&
           left == 0;
}

static int disable(struct house *h, const json_t *request, bool disabled,
                   json_t **ret_ok, struct problem *why)
{
    struct ledger_account a;
    struct problem bye;
    int rc = admin_account(h, request, "name", &a, why);

    if (rc == 0)
        rc = account_disable(h->accounts, a.name, disabled, why);
    if (rc < 0)
        return rc;
    problem(&bye, LOGIN_DISABLED, .name = a.name);
    if (disabled && h->native)
        native_kick_account(h->native, a.id, &bye);
    log_info("account=%s %s", a.name, disabled ? "disabled" : "enabled");
    return admin_ok(json_pack("{s:s, s:b, s:b}", "name", a.name, "disabled",
                              disabled, "last_admin",
                              disabled && was_last(h, &a)),
                    ret_ok, why);
}

static int answer_disable(struct house *h, const json_t *request,
                          const struct teller *t, json_t **ret_ok,
                          struct problem *why)
{
    (void)t;
    return disable(h, request, true, ret_ok, why);
}

static int answer_enable(struct house *h, const json_t *request,
                         const struct teller *t, json_t **ret_ok,
                         struct problem *why)
{
    (void)t;
    return disable(h, request, false, ret_ok, why);
}

static int answer_delete(struct house *h, const json_t *request,
                         const struct teller *t, json_t **ret_ok,
                         struct problem *why)
{
    struct vault_closing *closing;
    struct ledger_account a;
    struct problem bye;
    int rc = admin_account(h, request, "name", &a, why);

    (void)t;
    if (rc == 0)
        rc = vault_closing_account(h->vault, a.id, &closing, why);
    if (rc < 0)
        return rc;
    rc = account_delete(h->accounts, a.name, why);
    vault_closing_end(closing, rc == 0);
    if (rc < 0)
        return rc;
    problem(&bye, ACCOUNT_UNKNOWN, .name = a.name);
    if (h->native)
        native_kick_account(h->native, a.id, &bye);
    log_info("account=%s deleted", a.name);
    return admin_ok(
        json_pack("{s:s, s:b}", "name", a.name, "last_admin", was_last(h, &a)),
        ret_ok, why);
}

/* A field that is not there leaves that half of the quota as it is. */
static int answer_quota(struct house *h, const json_t *request,
                        const struct teller *t, json_t **ret_ok,
                        struct problem *why)
{
    struct ledger_account a;
    struct ledger_space home;
    int rc = admin_account(h, request, "name", &a, why);

    (void)t;
    if (rc == 0)
        rc = ledger_space_get(h->ledger, a.home, &home, why);
    if (rc == 0)
        rc = admin_quota(request, &home, why);
    if (rc == 0)
        rc = space_quota(h->accounts, a.name, true, home.quota_bytes,
                         home.quota_files, why);
    if (rc < 0)
        return rc;
    log_info("account=%s quota of %lld bytes, %lld files (0: none)", a.name,
             (long long)home.quota_bytes, (long long)home.quota_files);
    return admin_ok(json_pack("{s:s, s:I, s:I}", "name", a.name, "quota_bytes",
                              (json_int_t)home.quota_bytes, "quota_files",
                              (json_int_t)home.quota_files),
                    ret_ok, why);
}

const struct admin_request people_requests[] = {
    {"invite", answer_invite},
    {"invite.list", answer_invites},
    {"invite.revoke", answer_invite_revoke},
    {"user.add", answer_add},
    {"user.list", answer_list},
    {"user.passwd", answer_passwd},
    {"user.disable", answer_disable},
    {"user.enable", answer_enable},
    {"user.delete", answer_delete},
    {"user.quota", answer_quota},
    {NULL, NULL},
};
