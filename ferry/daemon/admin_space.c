/* SPDX-License-Identifier: MIT */
/* Requests about spaces that people share:
 *
 *     space.add      name, owner, quota_bytes, quota_files
 *     space.list     -> rows
 *     space.grants   name (absent: all) -> rows
 *     space.grant    name, account (null: everybody), path, rights
 *     space.revoke   name, account, path -> rights (that were taken), left (what
 *                    reaches the account by other grants: path, rights,
 *                    everybody), more (that are not in left), owner
 *     space.quota    name, quota_bytes, quota_files
 *     space.delete   name
 */
#include <stdio.h>
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
            rc = space_find(h->accounts, name, &s, why);
        if (rc == 0)
            rc = grants_of(h, &s, &teller, why);
    }
    return rc < 0 ? rc : admin_ok(json_object(), ret_ok, why);
}

/* ---- changes ------------------------------------------------------------------- */

/* A grant as it was asked for, and what stood there before. */
struct granted {
    const char *space, *who;   /* who NULL: everybody */
    char path[PATH_BYTES + 2]; /* with its leading slash */
    struct ledger_space in;
    int64_t account; /* 0: everybody */
    unsigned before; /* rights of the grant at `path`, 0: there is none */
    unsigned more;   /* not in `left`, which is full */
    json_t *left;    /* grants that reach `who` by other rows */
};

static int granted_read(struct house *h, const json_t *request,
                        struct granted *ret, struct problem *why)
{
    const json_t *account = json_object_get(request, "account");
    const json_t *where = json_object_get(request, "path");
    keel_auto(str) char *path = NULL;
    struct ledger_account a = {0};
    struct path parsed;
    size_t size = 0;
    int rc = field_space(request, &ret->space, why);

    if (rc == 0)
        rc = space_find(h->accounts, ret->space, &ret->in, why);
    if (rc == 0 && !json_is_null(account)) {
        rc = admin_account(h, request, "account", &a, why);
        ret->who = json_string_value(account);
        ret->account = a.id;
        keel_wipe(&a, sizeof(a));
    }
    if (rc < 0)
        return rc;
    if (where && text_from_json(where, PATH_BYTES, &path, &size) < 0)
        return problem(why, REQUEST_INVALID, .detail = "'path' is no path");
    if (path && strlen(path) != size)
        return problem(why, NAME_INVALID, .name = path,
                       .detail = "it contains a NUL");
    rc = path_parse(path ? path : "", size, &parsed, why);
    if (rc < 0)
        return rc;
    ret->path[0] = '/';
    memcpy(ret->path + 1, parsed.text, parsed.size + 1u);
    return 0;
}

/* How many other grants an answer names, and how long they may be: it is one
 * message of at most 64 KiB, where a byte may take six. */
#define LEFT_MOST 16
#define LEFT_BYTES 500

static int left_one(const struct ledger_grant *row, void *arg)
{
    struct granted *g = arg;
    char rights[64], path[PATH_BYTES + 2];

    if (row->account == g->account && strcmp(row->path, g->path + 1) == 0) {
        g->before = row->rights;
        return 0;
    }
    if (row->account != 0 && row->account != g->account)
        return 0;
    if (json_array_size(g->left) == LEFT_MOST ||
        strlen(row->path) > LEFT_BYTES) {
        g->more++;
        return 0;
    }
    rights_print(row->rights, rights);
    path[0] = '/';
    memcpy(path + 1, row->path, strlen(row->path) + 1);
    json_array_append_new(g->left,
                          json_pack("{s:o, s:s, s:b}", "path",
                                    text_to_json(path, strlen(path)), "rights",
                                    rights, "everybody", row->account == 0));
    return 0;
}

static int granted_look(struct house *h, struct granted *g, struct problem *why)
{
    g->left = json_array();
    if (!g->left)
        return problem(why, NO_MEMORY);
    return ledger_grant_list(h->ledger, g->in.id, -1, left_one, g, why);
}

static json_t *granted_json(const struct granted *g, unsigned rights)
{
    char words[64];

    rights_print(rights, words);
    return json_pack("{s:s, s:o, s:s, s:o}", "name", g->space, "account",
                     g->who ? json_string(g->who) : json_null(), "rights",
                     words, "path", text_to_json(g->path, strlen(g->path)));
}

static void granted_log(const struct granted *g, unsigned rights)
{
    char words[64], path[600];

    rights_print(rights, words);
    log_info("space=%s %s%s path=%s: %s", g->space,
             g->who ? "account=" : "everybody", g->who ? g->who : "",
             text_quote(g->path, strlen(g->path), path, sizeof(path)), words);
}

static int answer_grant(struct house *h, const json_t *request,
                        const struct teller *t, json_t **ret_ok,
                        struct problem *why)
{
    struct granted g = {0};
    const char *words;
    unsigned rights;
    int rc = field_text(request, "rights", 63, &words, why);

    (void)t;
    if (rc < 0)
        return rc;
    if (rights_parse(words, &rights) < 0 || rights == 0)
        return problem(why, RIGHTS_UNKNOWN, .name = words);
    rc = granted_read(h, request, &g, why);
    if (rc == 0)
        rc = grant_set(h->accounts, g.space, g.path, g.who, rights, why);
    if (rc < 0)
        return rc;
    granted_log(&g, rights);
    return admin_ok(granted_json(&g, rights), ret_ok, why);
}

/* Says what was taken, and what they can do still: who takes a grant away wants
 * somebody out, and another grant may let them in. */
static int revoke(struct house *h, struct granted *g, json_t **ret_ok,
                  struct problem *why)
{
    bool owner = g->who && g->in.owner == g->account;
    char detail[80];
    json_t *ok;
    int rc = granted_look(h, g, why);

    if (rc == 0 && g->before == 0 && owner) {
        snprintf(detail, sizeof(detail), "%s, who owns the space,", g->who);
        return problem(why, GRANT_UNKNOWN, .name = g->path, .detail = detail);
    }
    if (rc == 0)
        rc = grant_set(h->accounts, g->space, g->path, g->who, 0, why);
    if (rc < 0)
        return rc;
    granted_log(g, 0);
    ok = granted_json(g, g->before);
    if (!ok || json_object_set(ok, "left", g->left) < 0 ||
        json_object_set_new(ok, "more", json_integer(g->more)) < 0 ||
        json_object_set_new(ok, "owner", json_boolean(owner)) < 0) {
        json_decref(ok);
        ok = NULL;
    }
    return admin_ok(ok, ret_ok, why);
}

static int answer_revoke(struct house *h, const json_t *request,
                         const struct teller *t, json_t **ret_ok,
                         struct problem *why)
{
    struct granted g = {0};
    int rc = granted_read(h, request, &g, why);

    (void)t;
    if (rc == 0)
        rc = revoke(h, &g, ret_ok, why);
    json_decref(g.left);
    return rc;
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
        rc = space_find(h->accounts, name, &s, why);
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
    struct vault_closing *closing;
    struct ledger_space s;
    const char *name;
    int rc = field_space(request, &name, why);

    (void)t;
    if (rc == 0)
        rc = space_find(h->accounts, name, &s, why);
    if (rc == 0)
        rc = vault_closing_space(h->vault, s.id, &closing, why);
    if (rc < 0)
        return rc;
    rc = space_delete(h->accounts, name, why);
    vault_closing_end(closing, rc == 0);
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
