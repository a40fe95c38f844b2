/* SPDX-License-Identifier: MIT */
#include "account/account.h"

#include <errno.h>
#include <string.h>

#include "account/account_own.h"
#include "account/scram.h"
#include "account/scram_keys.h"
#include "base/base64.h"

enum { SECRET_BYTES = 32, DEVICE_NAME_MOST = 64 };

int64_t account_now(void)
{
    return keel_wall_ns() / KEEL_SECOND;
}

void actor_of(struct actor *ret, const struct ledger_account *account,
              int64_t device)
{
    *ret = (struct actor){.account = account->id,
                          .admin = account->admin,
                          .home = account->home,
                          .device = device};
    memcpy(ret->name, account->name, sizeof ret->name);
}

/* ---- open and close ---------------------------------------------------------------- */
KEEL_AUTO(accounts, struct accounts *, accounts_close)

int accounts_open(const struct accounts_options *o, struct accounts **ret,
                  struct problem *why)
{
    keel_auto(accounts) struct accounts *a = keel_calloc(1, sizeof *a);
    uint8_t forgotten[32];
    int rc;

    if (!a)
        return problem(why, NO_MEMORY);
    keel_assert(o->quota_bytes >= 0 && o->quota_files >= 0);
    a->options = *o;
    rc = ledger_secret(o->ledger, "decoy", a->decoy, why);
    if (rc < 0)
        return rc;
    rc = device_key_new(forgotten, a->nobodys_key);
    keel_wipe(forgotten, sizeof forgotten);
    if (rc < 0 || delays_new(&a->delays) < 0 ||
        gsasl_init(&a->library) != GSASL_OK)
        return problem(why, NO_MEMORY);
    gsasl_callback_set(a->library, login_answer);
    *ret = keel_take(a);
    return 0;
}

void accounts_close(struct accounts *a)
{
    if (!a)
        return;
    if (a->library)
        gsasl_done(a->library);
    delays_free(a->delays);
    keel_wipe(a, sizeof *a);
    keel_free(a);
}

/* ---- registering --------------------------------------------------------------------- */
int account_invite_new(struct accounts *a, bool admin, int64_t uses,
                       int64_t lifetime_s, int64_t created_by,
                       char ret_secret[INVITE_TEXT_BYTES], struct problem *why)
{
    struct ledger_invite invite = {.admin = admin,
                                   .uses = uses,
                                   .created = account_now(),
                                   .created_by = created_by};
    uint8_t secret[SECRET_BYTES];
    int rc;

    if (uses < 1 || lifetime_s < 1 ||
        __builtin_add_overflow(invite.created, lifetime_s, &invite.expires))
        return problem(why, REQUEST_INVALID,
                       .detail = "an invite has at least one use and a second");
    keel_random(secret, sizeof secret);
    rc = scram_sha256(secret, sizeof secret, invite.hash);
    if (rc < 0)
        rc = problem(why, NO_MEMORY);
    else
        rc = ledger_invite_add(a->options.ledger, &invite, why);
    if (rc == 0)
        base64_encode(BASE64_URL, secret, sizeof secret, ret_secret);
    keel_wipe(secret, sizeof secret);
    return rc;
}

static int invite_hash(const char *invite, uint8_t ret[32], struct problem *why)
{
    uint8_t secret[SECRET_BYTES];
    size_t size = strnlen(invite, INVITE_TEXT_BYTES);
    int rc;

    if (base64_decode(BASE64_URL, invite, size, secret, sizeof secret) !=
        sizeof secret)
        return problem(why, INVITE_INVALID);
    rc = scram_sha256(secret, sizeof secret, ret);
    keel_wipe(secret, sizeof secret);
    return rc < 0 ? problem(why, NO_MEMORY) : 0;
}

static int registration_open(const struct accounts *a, const char *invite,
                             struct problem *why)
{
    if (a->options.registration == REGISTRATION_CLOSED_)
        return problem(why, REGISTRATION_CLOSED);
    if (a->options.registration == REGISTRATION_INVITE_ONLY && !invite)
        return problem(why, REGISTRATION_INVITE);
    return 0;
}

/* One size of salt for all, which is the decoys', too. */
static int scram_check(const struct ledger_scram *s, struct problem *why)
{
    if (s->iterations < SCRAM_ITERATIONS ||
        s->iterations > SCRAM_ITERATIONS_MOST)
        return problem(why, REQUEST_INVALID,
                       .detail = "the password was derived with too few or "
                                 "too many iterations");
    if (s->salt_size != SCRAM_SALT_BYTES)
        return problem(why, REQUEST_INVALID,
                       .detail = "the salt has not 16 bytes");
    return 0;
}

int account_register(struct accounts *a, const char *name, const char *invite,
                     const struct ledger_scram *scram, struct actor *ret,
                     struct problem *why)
{
    struct ledger_registration r = {.name = name,
                                    .scram = *scram,
                                    .quota_bytes = a->options.quota_bytes,
                                    .quota_files = a->options.quota_files,
                                    .now = account_now()};
    struct ledger_account account;
    uint8_t hash[32];
    int rc;

    rc = registration_open(a, invite, why);
    if (rc == 0)
        rc = account_name_check(name, why);
    if (rc == 0)
        rc = scram_check(scram, why);
    if (rc == 0 && invite) {
        rc = invite_hash(invite, hash, why);
        r.invite = hash;
    }
    if (rc == 0)
        rc = ledger_register(a->options.ledger, &r, &account, why);
    if (rc == 0)
        actor_of(ret, &account, 0);
    return rc;
}

/* ---- devices ---------------------------------------------------------------------------- */
static int device_name_check(const char *name, struct problem *why)
{
    size_t size = strnlen(name, DEVICE_NAME_MOST + 1);

    if (size == 0 || size > DEVICE_NAME_MOST)
        return problem(why, REQUEST_INVALID,
                       .detail = "a device's name has 1 to 64 bytes");
    for (size_t at = 0, n; at < size; at += n) {
        n = text_utf8(name + at, size - at);
        if (n == 0 || (uint8_t)name[at] < 0x20 || name[at] == 0x7f)
            return problem(why, REQUEST_INVALID,
                           .detail = "a device's name is plain text");
    }
    return 0;
}

int account_device_add(struct accounts *a, const struct actor *who,
                       const char *name, const uint8_t public_key[32],
                       int64_t *ret_id, struct problem *why)
{
    struct ledger_device d = {.account = who->account,
                              .created = account_now()};
    int rc;

    rc = device_name_check(name, why);
    if (rc < 0)
        return rc;
    memcpy(d.name, name, strlen(name));
    memcpy(d.public_key, public_key, sizeof d.public_key);
    d.used = d.created;
    rc = ledger_device_add(a->options.ledger, &d, why);
    if (rc == 0)
        *ret_id = d.id;
    return rc;
}

int account_device_remove(struct accounts *a, const struct actor *who,
                          int64_t id, struct problem *why)
{
    return ledger_device_remove(a->options.ledger, who->account,
                                id ? id : who->device, why);
}

int account_device_list(struct accounts *a, const struct actor *who,
                        struct ledger_device *ret, unsigned max,
                        struct problem *why)
{
    return ledger_device_list(a->options.ledger, who->account, ret, max, why);
}

int account_home(struct accounts *a, const struct actor *who,
                 struct ledger_space *ret, struct problem *why)
{
    return ledger_space_get(a->options.ledger, who->home, ret, why);
}

/* ---- rights ------------------------------------------------------------------------------- */
/* What somebody is to a space, and what that gives.  An admin's flag gives no
 * right to anybody's files. */
enum relation { STRANGER, OWNER, RELATIONS };

static const unsigned rights_of[RELATIONS] = {
    [STRANGER] = RIGHT_NONE,
    [OWNER] = RIGHT_READ | RIGHT_WRITE | RIGHT_LIST | RIGHT_DELETE | RIGHT_DROP,
};

static const struct {
    enum right right;
    const char *verb;
} verbs[] = {
    {RIGHT_READ, "read"},     {RIGHT_WRITE, "write"},
    {RIGHT_LIST, "list"},     {RIGHT_DELETE, "remove"},
    {RIGHT_DROP, "put into"}, {RIGHT_ADMIN, "administer"},
};

int account_may(struct accounts *a, const struct actor *who, int64_t space,
                const struct path *path, enum right need, struct problem *why)
{
    enum relation relation = space == who->home ? OWNER : STRANGER;
    unsigned has = rights_of[relation] | (who->admin ? RIGHT_ADMIN : 0u);
    unsigned missing = (unsigned)need & ~has;
    const char *verb = "do that to";

    (void)a;
    /* Nothing needed is a verb that nobody thought of: refused, too. */
    if (!missing && need != RIGHT_NONE)
        return 0;
    for (size_t i = 0; i < sizeof verbs / sizeof *verbs; i++) {
        if (missing & (unsigned)verbs[i].right) {
            verb = verbs[i].verb;
            break;
        }
    }
    return problem(why, RIGHT_MISSING, .detail = verb,
                   .name = path && path->count ? path->text : "/");
}
