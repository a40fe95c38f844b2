/* SPDX-License-Identifier: MIT */
/* Requests about spaces that people share:
 *
 *     space.add      name, owner, quota_bytes, quota_files
 *     space.list     -> rows
 *     space.grants   name (absent: all) -> rows
 *     space.grant    name, account (null: everybody), path, rights
 *     space.revoke   name, account, path
 *     space.quota    name, quota_bytes, quota_files
 *     space.delete   name
 */
#include <string.h>

#include "base/log.h"
#include "daemon/admin.h"
#include "wire/frame.h"

#define PAGE 64

static int field_space(const json_t *request, const char **ret,
                       struct problem *why)
{
    int rc = field_text(request, "name", 4 * SPACE_NAME_BYTES, ret, why);

    return rc < 0 ? rc : space_name_check(*ret, why);
}

static int answer_add(struct house *h, const json_t *request,
                      const struct teller *t, json_t **ret_ok,
                      struct problem *why)
{
    const char *name, *owner;
    uint64_t bytes, files;
    int rc;

    (void)t;
    rc = field_space(request, &name, why);
    if (rc == 0)
        rc = field_text(request, "owner", 4 * ACCOUNT_NAME_BYTES, &owner, why);
    if (rc == 0)
        rc = account_name_check(owner, why);
    if (rc == 0)
        rc = field_u64_or(request, "quota_bytes", INT64_MAX, 0, &bytes, why);
    if (rc == 0)
        rc = field_u64_or(request, "quota_files", INT64_MAX, 0, &files, why);
    if (rc == 0)
        rc = space_add(h->accounts, name, owner, (int64_t)bytes, (int64_t)files,
                       why);
    if (rc < 0)
        return rc;
    log_info("space=%s added, owner %s", name, owner);
    return admin_ok(json_pack("{s:s}", "name", name), ret_ok, why);
}

/* ---- lists -------------------------------------------------------------------- */

static int count_one(const struct ledger_grant *g, void *arg)
{
    (void)g;
    ++*(json_int_t *)arg;
    return 0;
}

static int list_one(struct house *h, const struct ledger_space *s,
                    const struct teller *t, struct problem *why)
{
    struct ledger_account owner = {0};
    json_int_t grants = 0;
    int rc = ledger_grant_list(h->ledger, s->id, -1, count_one, &grants, why);

    if (rc == 0)
        rc = ledger_account_get(h->ledger, s->owner, &owner, why);
    if (rc < 0)
        return rc;
    return admin_row(
        t,
        json_pack("{s:s, s:s, s:I, s:I, s:I, s:I, s:I, s:I}", "name", s->name,
                  "owner", owner.name, "used_bytes", (json_int_t)s->used_bytes,
                  "reserved_bytes", (json_int_t)s->reserved_bytes,
                  "quota_bytes", (json_int_t)s->quota_bytes, "used_files",
                  (json_int_t)s->used_files, "quota_files",
                  (json_int_t)s->quota_files, "grants", grants),
        why);
}

int admin_spaces(struct house *h,
                 int (*each)(struct house *h, const struct ledger_space *s,
                             void *arg, struct problem *why),
                 void *arg, struct problem *why)
{
    struct ledger_space *page = keel_calloc(PAGE, sizeof(*page));
    int64_t after = 0;
    int got, rc = page ? 0 : problem(why, NO_MEMORY);

    while (rc == 0) {
        got = ledger_space_list(h->ledger, after, page, PAGE, why);
        for (int i = 0; i < got && rc == 0; i++)
            rc = each(h, &page[i], arg, why);
        if (got < 0)
            rc = got;
        if (got < PAGE)
            break;
        after = page[got - 1].id;
    }
    keel_free(page);
    return rc;
}

static int each_space(struct house *h, const struct ledger_space *s, void *arg,
                      struct problem *why)
{
    /* A home is its account's: `user list` shows it. */
    return s->name[0] ? list_one(h, s, arg, why) : 0;
}

static int answer_list(struct house *h, const json_t *request,
                       const struct teller *t, json_t **ret_ok,
                       struct problem *why)
{
    struct teller teller = *t;
    int rc = admin_spaces(h, each_space, &teller, why);

    (void)request;
    return rc < 0 ? rc : admin_ok(json_object(), ret_ok, why);
}

struct granting {
    struct house *house;
    const struct teller *teller;
    const char *space;
    struct problem *why;
};

static int each_grant(const struct ledger_grant *g, void *arg)
{
    struct granting *with = arg;
    struct ledger_account who = {0};
    char rights[64], path[PATH_BYTES + 2];
    int rc = g->account ? ledger_account_get(with->house->ledger, g->account,
                                             &who, with->why)
                        : 0;

    if (rc < 0)
        return rc;
    rights_print(g->rights, rights);
    path[0] = '/';
    memcpy(path + 1, g->path, strlen(g->path) + 1);
    return admin_row(
        with->teller,
        json_pack("{s:s, s:o, s:s, s:o}", "name", with->space, "account",
                  g->account ? json_string(who.name) : json_null(), "rights",
                  rights, "path", text_to_json(path, strlen(path))),
        with->why);
}

static int grants_of(struct house *h, const struct ledger_space *s, void *arg,
                     struct problem *why)
{
    struct granting with = {h, arg, s->name, why};

    return s->name[0]
               ? ledger_grant_list(h->ledger, s->id, -1, each_grant, &with, why)
               : 0;
}

static int answer_grants(struct house *h, const json_t *request,
                         const struct teller *t, json_t **ret_ok,
                         struct problem *why)
{
    struct teller teller = *t;
    struct ledger_space s;
    const char *name;
    int rc;

    if (!json_object_get(request, "name")) {
        rc = admin_spaces(h, grants_of, &teller, why);
    } else {
        rc = field_space(request, &name, why);
        if (rc == 0)
            rc = ledger_space_find(h->ledger, name, &s, why);
        if (rc == 0)
            rc = grants_of(h, &s, &teller, why);
    }
    return rc < 0 ? rc : admin_ok(json_object(), ret_ok, why);
}

/* ---- changes ------------------------------------------------------------------- */

static int grant(struct house *h, const json_t *request, unsigned rights,
                 json_t **ret_ok, struct problem *why)
{
    const json_t *account = json_object_get(request, "account");
    const json_t *where = json_object_get(request, "path");
    keel_auto(str) char *path = NULL;
    const char *name, *who = NULL;
    char words[64];
    size_t size;
    int rc = field_space(request, &name, why);

    if (rc == 0 && !json_is_null(account)) {
        rc = field_text(request, "account", 4 * ACCOUNT_NAME_BYTES, &who, why);
        if (rc == 0)
            rc = account_name_check(who, why);
    }
    if (rc < 0)
        return rc;
    if (where && text_from_json(where, PATH_BYTES, &path, &size) < 0)
        return problem(why, REQUEST_INVALID, .detail = "'path' is no path");
    if (path && strlen(path) != size)
        return problem(why, NAME_INVALID, .name = path,
                       .detail = "it contains a NUL");
    rc = grant_set(h->accounts, name, path ? path : "", who, rights, why);
    if (rc < 0)
        return rc;
    rights_print(rights, words);
    log_info("space=%s %s%s: %s", name, who ? "account=" : "everybody",
             who ? who : "", words);
    return admin_ok(json_pack("{s:s, s:o, s:s}", "name", name, "account",
                              who ? json_string(who) : json_null(), "rights",
                              words),
                    ret_ok, why);
}

static int answer_grant(struct house *h, const json_t *request,
                        const struct teller *t, json_t **ret_ok,
                        struct problem *why)
{
    const char *words;
    unsigned rights;
    int rc = field_text(request, "rights", 63, &words, why);

    (void)t;
    if (rc < 0)
        return rc;
    if (rights_parse(words, &rights) < 0 || rights == 0)
        return problem(why, REQUEST_INVALID,
                       .detail = "rights are read, write, list, delete, drop, "
                                 "separated by commas, or all");
    return grant(h, request, rights, ret_ok, why);
}

static int answer_revoke(struct house *h, const json_t *request,
                         const struct teller *t, json_t **ret_ok,
                         struct problem *why)
{
    (void)t;
    return grant(h, request, 0, ret_ok, why);
}

static int answer_quota(struct house *h, const json_t *request,
                        const struct teller *t, json_t **ret_ok,
                        struct problem *why)
{
    struct ledger_space s;
    const char *name;
    int rc = field_space(request, &name, why);

    (void)t;
    if (rc == 0)
        rc = ledger_space_find(h->ledger, name, &s, why);
    if (rc == 0)
        rc = admin_quota(request, &s, why);
    if (rc == 0)
        rc = space_quota(h->accounts, name, false, s.quota_bytes, s.quota_files,
                         why);
    if (rc < 0)
        return rc;
    log_info("space=%s quota of %lld bytes, %lld files (0: none)", name,
             (long long)s.quota_bytes, (long long)s.quota_files);
    return admin_ok(json_pack("{s:s, s:I, s:I}", "name", name, "quota_bytes",
                              (json_int_t)s.quota_bytes, "quota_files",
                              (json_int_t)s.quota_files),
                    ret_ok, why);
}

static int answer_delete(struct house *h, const json_t *request,
                         const struct teller *t, json_t **ret_ok,
                         struct problem *why)
{
    const char *name;
    int rc = field_space(request, &name, why);

    (void)t;
    if (rc == 0)
        rc = space_delete(h->accounts, name, why);
    if (rc < 0)
        return rc;
    log_info("space=%s deleted", name);
    return admin_ok(json_pack("{s:s}", "name", name), ret_ok, why);
}

const struct admin_request space_requests[] = {
    {"space.add", answer_add},       {"space.list", answer_list},
    {"space.grants", answer_grants}, {"space.grant", answer_grant},
    {"space.revoke", answer_revoke}, {"space.quota", answer_quota},
    {"space.delete", answer_delete}, {NULL, NULL},
};
