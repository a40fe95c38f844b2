/* SPDX-License-Identifier: MIT */
/* People: secrets, accounts, invites, devices. */
#include <stdio.h>

#include "ledger/ledger_inside.h"

enum { SECRET_NAME_BYTES = 64 };

/* ---- secrets ------------------------------------------------------------------ */
struct secret_call {
    const char *name;
    uint8_t value[32];
};

static int secret_get(struct ledger *l, void *arg, struct problem *why)
{
    keel_auto(rows) sqlite3_stmt *q = NULL;
    struct secret_call *c = arg;
    int rc;

    rc = db_rows(l, SQL_SECRET_GET, &q, why, "t", c->name);
    if (rc <= 0)
        return rc;
    rc = db_bytes(l, q, 0, c->value, sizeof c->value, why);
    return rc < 0 ? rc : 1;
}

static int secret_make(struct ledger *l, void *arg, struct problem *why)
{
    struct secret_call *c = arg;
    int rc;

    /* Somebody may have been quicker. */
    rc = secret_get(l, c, why);
    if (rc != 0)
        return rc;
    keel_random(c->value, sizeof c->value);
    return db_run(l, SQL_SECRET_ADD, why, "tk", c->name, c->value);
}

int ledger_secret(struct ledger *l, const char *name, uint8_t ret[32],
                  struct problem *why)
{
    struct secret_call c = {.name = name};
    int rc;

    keel_assert(strlen(name) <= SECRET_NAME_BYTES);
    rc = ledger_read(l, secret_get, &c, why);
    if (rc == 0)
        rc = ledger_write(l, secret_make, &c, why);
    if (rc >= 0)
        memcpy(ret, c.value, sizeof c.value);
    keel_wipe(&c, sizeof c);
    return rc < 0 ? rc : 0;
}

/* ---- accounts ------------------------------------------------------------------- */
static int account_row(struct ledger *l, sqlite3_stmt *q,
                       struct ledger_account *ret, struct problem *why)
{
    struct ledger_account a = {.id = sqlite3_column_int64(q, 0),
                               .admin = sqlite3_column_int64(q, 2) != 0,
                               .disabled = sqlite3_column_int64(q, 3) != 0,
                               .home = sqlite3_column_int64(q, 4),
                               .created = sqlite3_column_int64(q, 5)};
    int salt_size = sqlite3_column_bytes(q, 7);
    int rc;

    if (salt_size < 1 || salt_size > (int)sizeof a.scram.salt)
        return db_damaged(l, why, "an account's salt has a wrong length");
    a.scram.iterations = (uint32_t)sqlite3_column_int64(q, 6);
    a.scram.salt_size = (uint8_t)salt_size;
    rc = db_text(l, q, 1, a.name, sizeof a.name, why);
    if (rc == 0)
        rc = db_bytes(l, q, 7, a.scram.salt, (size_t)salt_size, why);
    if (rc == 0)
        rc = db_bytes(l, q, 8, a.scram.stored_key, 32, why);
    if (rc == 0)
        rc = db_bytes(l, q, 9, a.scram.server_key, 32, why);
    if (rc == 0)
        *ret = a;
    return rc;
}

/* 1, or 0 when there is none. */
static int account_get(struct ledger *l, const char *name,
                       struct ledger_account *ret, struct problem *why)
{
    keel_auto(rows) sqlite3_stmt *q = NULL;
    int rc;

    rc = db_rows(l, SQL_ACCOUNT_FIND, &q, why, "t", name);
    if (rc <= 0)
        return rc;
    rc = account_row(l, q, ret, why);
    return rc < 0 ? rc : 1;
}

struct register_call {
    const struct ledger_registration *r;
    struct ledger_account account;
};

static void invite_row(sqlite3_stmt *q, struct ledger_invite *ret)
{
    ret->admin = sqlite3_column_int64(q, 0) != 0;
    ret->uses = sqlite3_column_int64(q, 1);
    ret->expires = sqlite3_column_int64(q, 2);
    ret->created = sqlite3_column_int64(q, 3);
    ret->created_by = sqlite3_column_int64(q, 4);
}

static int invite_get(struct ledger *l, const uint8_t hash[32], int64_t now,
                      struct ledger_invite *ret, struct problem *why)
{
    keel_auto(rows) sqlite3_stmt *q = NULL;
    int rc;

    rc = db_rows(l, SQL_INVITE_FIND, &q, why, "ki", hash, now);
    if (rc < 0)
        return rc;
    if (rc == 0)
        return problem(why, INVITE_INVALID);
    memcpy(ret->hash, hash, sizeof ret->hash);
    invite_row(q, ret);
    return 0;
}

static int home_add(struct ledger *l, int64_t account,
                    const struct ledger_registration *r, struct problem *why)
{
    char dir[33];

    space_dir_new(dir);
    return db_run(l, SQL_SPACE_ADD, why, "ttiii", dir, "", account,
                  r->quota_bytes, r->quota_files);
}

static int register_run(struct ledger *l, void *arg, struct problem *why)
{
    struct register_call *c = arg;
    const struct ledger_registration *r = c->r;
    bool admin = r->admin;
    int rc;

    /* The invite first: without one nobody learns which names are taken. */
    if (r->invite) {
        struct ledger_invite invite;

        rc = invite_get(l, r->invite, r->now, &invite, why);
        if (rc < 0)
            return rc;
        admin = invite.admin;
        rc = db_run(l, SQL_INVITE_USE, why, "k", r->invite);
        if (rc < 0)
            return rc;
    }
    rc = account_get(l, r->name, &c->account, why);
    if (rc < 0)
        return rc;
    if (rc > 0)
        return problem(why, ACCOUNT_EXISTS, .name = r->name);
    rc = db_run(l, SQL_ACCOUNT_ADD, why, "tiiibkk", r->name, (int64_t)admin,
                r->now, (int64_t)r->scram.iterations, r->scram.salt,
                (int)r->scram.salt_size, r->scram.stored_key,
                r->scram.server_key);
    if (rc < 0)
        return rc;
    rc = home_add(l, sqlite3_last_insert_rowid(l->db), r, why);
    if (rc >= 0)
        rc = db_run(l, SQL_INVITE_DROP, why, "i", (int64_t)LEDGER_FIRST);
    if (rc < 0)
        return rc;
    rc = account_get(l, r->name, &c->account, why);
    if (rc == 0)
        return db_damaged(l, why, "an account that was added is not there");
    return rc < 0 ? rc : 0;
}

int ledger_register(struct ledger *l, const struct ledger_registration *r,
                    struct ledger_account *ret, struct problem *why)
{
    struct register_call c = {.r = r};
    int rc;

    keel_assert(r->quota_bytes >= 0 && r->quota_files >= 0);
    keel_assert(r->scram.salt_size >= 1 &&
                r->scram.salt_size <= sizeof r->scram.salt);
    keel_assert(strlen(r->name) <= ACCOUNT_NAME_BYTES);
    rc = ledger_write(l, register_run, &c, why);
    if (rc == 0)
        *ret = c.account;
    keel_wipe(&c, sizeof c);
    return rc;
}

struct account_find_call {
    const char *name;
    struct ledger_account account;
};

static int account_find_run(struct ledger *l, void *arg, struct problem *why)
{
    struct account_find_call *c = arg;
    int rc = account_get(l, c->name, &c->account, why);

    if (rc == 0)
        return problem(why, ACCOUNT_UNKNOWN, .name = c->name);
    return rc < 0 ? rc : 0;
}

int ledger_account_find(struct ledger *l, const char *name,
                        struct ledger_account *ret, struct problem *why)
{
    struct account_find_call c = {.name = name};
    int rc;

    rc = ledger_read(l, account_find_run, &c, why);
    if (rc == 0)
        *ret = c.account;
    keel_wipe(&c, sizeof c);
    return rc;
}

static int account_unknown(int64_t account, struct problem *why)
{
    char name[32];

    snprintf(name, sizeof name, "number %lld", (long long)account);
    return problem(why, ACCOUNT_UNKNOWN, .name = name);
}

int account_by_id(struct ledger *l, int64_t account, struct ledger_account *ret,
                  struct problem *why)
{
    keel_auto(rows) sqlite3_stmt *q = NULL;
    int rc;

    rc = db_rows(l, SQL_ACCOUNT_GET, &q, why, "i", account);
    if (rc < 0)
        return rc;
    return rc == 0 ? account_unknown(account, why)
                   : account_row(l, q, ret, why);
}

struct account_get_call {
    int64_t id;
    struct ledger_account account;
};

static int account_get_run(struct ledger *l, void *arg, struct problem *why)
{
    struct account_get_call *c = arg;

    return account_by_id(l, c->id, &c->account, why);
}

int ledger_account_get(struct ledger *l, int64_t account,
                       struct ledger_account *ret, struct problem *why)
{
    struct account_get_call c = {.id = account};
    int rc;

    rc = ledger_read(l, account_get_run, &c, why);
    if (rc == 0)
        *ret = c.account;
    keel_wipe(&c, sizeof c);
    return rc;
}

struct account_list_call {
    const char *after;
    struct ledger_account *ret;
    unsigned max;
};

static int account_list_run(struct ledger *l, void *arg, struct problem *why)
{
    keel_auto(rows) sqlite3_stmt *q = NULL;
    struct account_list_call *c = arg;
    int count = 0, rc;

    rc = db_rows(l, SQL_ACCOUNT_LIST, &q, why, "ti", c->after, (int64_t)c->max);
    while (rc > 0) {
        rc = account_row(l, q, &c->ret[count], why);
        if (rc < 0)
            return rc;
        count++;
        rc = db_next(l, q, why);
    }
    return rc < 0 ? rc : count;
}

int ledger_account_list(struct ledger *l, const char *after,
                        struct ledger_account *ret, unsigned max,
                        struct problem *why)
{
    struct account_list_call c = {.after = after, .ret = ret, .max = max};

    return max == 0 ? 0 : ledger_read(l, account_list_run, &c, why);
}

struct account_change {
    int64_t account;
    const struct ledger_scram *scram;
    bool disabled;
};

static int account_changed(int changed, int64_t account, struct problem *why)
{
    if (changed != 0)
        return changed < 0 ? changed : 0;
    return account_unknown(account, why);
}

static int account_scram_run(struct ledger *l, void *arg, struct problem *why)
{
    struct account_change *c = arg;
    const struct ledger_scram *s = c->scram;

    return account_changed(db_run(l, SQL_ACCOUNT_SCRAM, why, "iibkk",
                                  c->account, (int64_t)s->iterations, s->salt,
                                  (int)s->salt_size, s->stored_key,
                                  s->server_key),
                           c->account, why);
}

int ledger_account_scram(struct ledger *l, int64_t account,
                         const struct ledger_scram *s, struct problem *why)
{
    struct account_change c = {.account = account, .scram = s};

    keel_assert(s->salt_size >= 1 && s->salt_size <= sizeof s->salt);
    return ledger_write(l, account_scram_run, &c, why);
}

static int account_disable_run(struct ledger *l, void *arg, struct problem *why)
{
    struct account_change *c = arg;

    return account_changed(db_run(l, SQL_ACCOUNT_DISABLE, why, "ii", c->account,
                                  (int64_t)c->disabled),
                           c->account, why);
}

int ledger_account_disable(struct ledger *l, int64_t account, bool disabled,
                           struct problem *why)
{
    struct account_change c = {.account = account, .disabled = disabled};

    return ledger_write(l, account_disable_run, &c, why);
}

/* ---- invites -------------------------------------------------------------------- */
static int invite_add_run(struct ledger *l, void *arg, struct problem *why)
{
    const struct ledger_invite *i = arg;
    int rc;

    /* Those that are over are not worth a chore of their own. */
    rc = db_run(l, SQL_INVITE_SWEEP, why, "i", i->created);
    if (rc < 0)
        return rc;
    rc = db_run(l, SQL_INVITE_ADD, why, "kiiiii", i->hash, (int64_t)i->admin,
                i->uses, i->expires, i->created, i->created_by);
    return rc < 0 ? rc : 0;
}

int ledger_invite_add(struct ledger *l, const struct ledger_invite *i,
                      struct problem *why)
{
    struct ledger_invite copy = *i;

    keel_assert(i->uses > 0);
    return ledger_write(l, invite_add_run, &copy, why);
}

struct invite_list_call {
    uint8_t after[32];
    int64_t now;
    struct ledger_invite *ret;
    unsigned max;
};

static int invite_list_run(struct ledger *l, void *arg, struct problem *why)
{
    keel_auto(rows) sqlite3_stmt *q = NULL;
    struct invite_list_call *c = arg;
    int count = 0, rc;

    rc = db_rows(l, SQL_INVITE_LIST, &q, why, "kii", c->after, c->now,
                 (int64_t)c->max);
    while (rc > 0) {
        struct ledger_invite *i = &c->ret[count++];

        invite_row(q, i);
        rc = db_bytes(l, q, 5, i->hash, sizeof i->hash, why);
        if (rc == 0)
            rc = db_next(l, q, why);
    }
    return rc < 0 ? rc : count;
}

int ledger_invite_list(struct ledger *l, const uint8_t after[32], int64_t now,
                       struct ledger_invite *ret, unsigned max,
                       struct problem *why)
{
    struct invite_list_call c = {.now = now, .ret = ret, .max = max};

    if (after)
        memcpy(c.after, after, sizeof c.after);
    return max == 0 ? 0 : ledger_read(l, invite_list_run, &c, why);
}

struct invite_range {
    uint8_t first[32], last[32];
};

static int invite_revoke_run(struct ledger *l, void *arg, struct problem *why)
{
    const struct invite_range *r = arg;

    return db_run(l, SQL_INVITE_REVOKE, why, "kk", r->first, r->last);
}

int ledger_invite_revoke(struct ledger *l, const uint8_t *hash, size_t size,
                         struct problem *why)
{
    struct invite_range r;

    keel_assert(size <= sizeof r.first);
    memset(r.first, 0, sizeof r.first);
    memset(r.last, 0xff, sizeof r.last);
    memcpy(r.first, hash, size);
    memcpy(r.last, hash, size);
    return ledger_write(l, invite_revoke_run, &r, why);
}

static int invite_drop_run(struct ledger *l, void *arg, struct problem *why)
{
    int rc = db_run(l, SQL_INVITE_DROP, why, "i", *(const int64_t *)arg);

    return rc < 0 ? rc : 0;
}

int ledger_invite_drop(struct ledger *l, int64_t created_by,
                       struct problem *why)
{
    return ledger_write(l, invite_drop_run, &created_by, why);
}

/* ---- devices ---------------------------------------------------------------------- */
static int device_row(struct ledger *l, sqlite3_stmt *q,
                      struct ledger_device *ret, struct problem *why)
{
    struct ledger_device d = {.id = sqlite3_column_int64(q, 0),
                              .account = sqlite3_column_int64(q, 1),
                              .created = sqlite3_column_int64(q, 4),
                              .used = sqlite3_column_int64(q, 5)};
    int rc;

    rc = db_text(l, q, 2, d.name, sizeof d.name, why);
    if (rc == 0)
        rc = db_bytes(l, q, 3, d.public_key, sizeof d.public_key, why);
    if (rc < 0)
        return rc;
    for (unsigned i = 0; i < l->touch_count; i++) {
        if (l->touches[i].device == d.id && l->touches[i].used > d.used)
            d.used = l->touches[i].used;
    }
    *ret = d;
    return 0;
}

static int device_add_run(struct ledger *l, void *arg, struct problem *why)
{
    keel_auto(rows) sqlite3_stmt *q = NULL;
    struct ledger_device *d = arg;
    int rc;

    rc = db_rows(l, SQL_DEVICE_COUNT, &q, why, "i", d->account);
    if (rc < 0)
        return rc;
    if (rc > 0 && sqlite3_column_int64(q, 0) >= LEDGER_DEVICES)
        return problem(why, REQUEST_INVALID,
                       .detail = "the account has 64 devices, the most there "
                                 "can be; remove one first");
    rc = db_run(l, SQL_DEVICE_ADD, why, "itkii", d->account, d->name,
                d->public_key, d->created, d->used);
    if (rc < 0)
        return rc;
    d->id = sqlite3_last_insert_rowid(l->db);
    return 0;
}

int ledger_device_add(struct ledger *l, struct ledger_device *d,
                      struct problem *why)
{
    struct ledger_device copy = *d;
    int rc;

    rc = ledger_write(l, device_add_run, &copy, why);
    if (rc == 0)
        d->id = copy.id;
    return rc;
}

struct device_call {
    int64_t account, id;
    struct ledger_device *ret;
    unsigned max;
};

static int device_find_run(struct ledger *l, void *arg, struct problem *why)
{
    keel_auto(rows) sqlite3_stmt *q = NULL;
    struct device_call *c = arg;
    int rc;

    rc = db_rows(l, SQL_DEVICE_FIND, &q, why, "i", c->id);
    if (rc < 0)
        return rc;
    return rc == 0 ? problem(why, DEVICE_UNKNOWN)
                   : device_row(l, q, c->ret, why);
}

int ledger_device_find(struct ledger *l, int64_t id, struct ledger_device *ret,
                       struct problem *why)
{
    struct device_call c = {.id = id, .ret = ret};

    return ledger_read(l, device_find_run, &c, why);
}

static int device_list_run(struct ledger *l, void *arg, struct problem *why)
{
    keel_auto(rows) sqlite3_stmt *q = NULL;
    struct device_call *c = arg;
    int count = 0, rc;

    rc =
        db_rows(l, SQL_DEVICE_LIST, &q, why, "ii", c->account, (int64_t)c->max);
    while (rc > 0) {
        rc = device_row(l, q, &c->ret[count], why);
        if (rc < 0)
            return rc;
        count++;
        rc = db_next(l, q, why);
    }
    return rc < 0 ? rc : count;
}

int ledger_device_list(struct ledger *l, int64_t account,
                       struct ledger_device *ret, unsigned max,
                       struct problem *why)
{
    struct device_call c = {.account = account, .ret = ret, .max = max};

    return max == 0 ? 0 : ledger_read(l, device_list_run, &c, why);
}

static int device_remove_run(struct ledger *l, void *arg, struct problem *why)
{
    struct device_call *c = arg;
    int rc = db_run(l, SQL_DEVICE_REMOVE, why, "ii", c->account, c->id);

    if (rc == 0)
        return problem(why, DEVICE_UNKNOWN);
    return rc < 0 ? rc : 0;
}

int ledger_device_remove(struct ledger *l, int64_t account, int64_t id,
                         struct problem *why)
{
    struct device_call c = {.account = account, .id = id};

    return ledger_write(l, device_remove_run, &c, why);
}

/* Not written: remembered for the next transaction.  With no room left the
 * oldest is forgotten, which is all that a crash could do, too. */
static int device_touch_run(struct ledger *l, void *arg, struct problem *why)
{
    struct touch *t = arg;
    unsigned i = 0;

    (void)why;
    while (i < l->touch_count && l->touches[i].device != t->device)
        i++;
    if (i == LEDGER_TOUCHES) {
        i = LEDGER_TOUCHES - 1;
        memmove(l->touches, l->touches + 1, i * sizeof *l->touches);
    }
    if (i == l->touch_count)
        l->touch_count++;
    l->touches[i] = *t;
    return 0;
}

int ledger_device_touch(struct ledger *l, int64_t id, int64_t now,
                        struct problem *why)
{
    struct touch t = {.device = id, .used = now};

    return ledger_read(l, device_touch_run, &t, why);
}
