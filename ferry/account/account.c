/* SPDX-License-Identifier: MIT */
#include "account/account.h"

#include <errno.h>
#include <string.h>

#include "account/account_inside.h"
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
    keel_lock_init(&a->lock);
    keel_cond_init(&a->loaded);
    a->people = a->sharing = 1; /* what is empty is older */
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
    sharing_free(a->shared);
    keel_cond_fini(&a->loaded);
    keel_lock_fini(&a->lock);
    keel_wipe(a, sizeof *a);
    keel_free(a);
}

void accounts_configure(struct accounts *a, const struct accounts_options *o)
{
    keel_assert(o->quota_bytes >= 0 && o->quota_files >= 0);
    __atomic_store_n(&a->options.registration, o->registration,
                     __ATOMIC_RELAXED);
    __atomic_store_n(&a->options.quota_bytes, o->quota_bytes, __ATOMIC_RELAXED);
    __atomic_store_n(&a->options.quota_files, o->quota_files, __ATOMIC_RELAXED);
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
    enum registration now =
        __atomic_load_n(&a->options.registration, __ATOMIC_RELAXED);

    if (now == REGISTRATION_CLOSED_)
        return problem(why, REGISTRATION_CLOSED);
    if (now == REGISTRATION_INVITE_ONLY && !invite)
        return problem(why, REGISTRATION_INVITE);
    return 0;
}

/* One size of salt for all, which is the decoys', too. */
int account_scram_check(const struct ledger_scram *s, struct problem *why)
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
    struct ledger_registration r = {
        .name = name,
        .scram = *scram,
        .quota_bytes =
            __atomic_load_n(&a->options.quota_bytes, __ATOMIC_RELAXED),
        .quota_files =
            __atomic_load_n(&a->options.quota_files, __ATOMIC_RELAXED),
        .now = account_now()};
    struct ledger_account account;
    uint8_t hash[32];
    int rc;

    rc = registration_open(a, invite, why);
    if (rc == 0)
        rc = account_name_check(name, why);
    if (rc == 0)
        rc = account_scram_check(scram, why);
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
    int rc = ledger_device_remove(a->options.ledger, who->account,
                                  id ? id : who->device, why);

    people_changed(a);
    return rc;
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

int account_password(struct accounts *a, const struct actor *who,
                     const struct ledger_scram *scram, struct problem *why)
{
    int rc;

    if (who->device != 0)
        return problem(why, PASSWORD_NEEDED);
    rc = account_scram_check(scram, why);
    if (rc == 0)
        rc = account_still(a, who, why);
    if (rc == 0)
        rc = ledger_account_scram(a->options.ledger, who->account, scram, why);
    return rc;
}

/* ---- still ------------------------------------------------------------------------------- */
/* Who was looked up since the last change to people is in a table; another that
 * falls on the same place is looked up again. */
static struct still *still_slot(struct accounts *a, const struct actor *who)
{
    uint64_t n = (uint64_t)who->account * 0x9e3779b97f4a7c15u +
                 (uint64_t)who->device * 0xc2b2ae3d27d4eb4fu;

    return &a->still[(n >> 32) % STILL_SLOTS];
}

static int still_look(struct accounts *a, const struct actor *who,
                      struct problem *why)
{
    struct ledger_account account;
    struct ledger_device device;
    struct problem said = {0};
    int rc;

    rc = ledger_account_get(a->options.ledger, who->account, &account, &said);
    keel_wipe(&account.scram, sizeof account.scram);
    if (rc < 0 && said.id == PROBLEM_ACCOUNT_UNKNOWN)
        return problem(why, ACCOUNT_UNKNOWN, .name = who->name);
    if (rc == 0 && account.disabled)
        return problem(why, LOGIN_DISABLED, .name = who->name);
    if (rc == 0 && who->device != 0) {
        rc = ledger_device_find(a->options.ledger, who->device, &device, &said);
        if (rc == 0 && device.account != who->account)
            rc = problem(&said, DEVICE_UNKNOWN);
    }
    if (rc < 0 && why)
        *why = said;
    return rc;
}

int account_still(struct accounts *a, const struct actor *who,
                  struct problem *why)
{
    struct still *slot = still_slot(a, who), now = {who->account, who->device};
    int rc;

    {
        keel_guard(&a->lock);

        if (slot->people == a->people && slot->account == who->account &&
            slot->device == who->device)
            return 0;
        /* A change that comes while we look makes the answer old at once. */
        now.people = a->people;
    }
    rc = still_look(a, who, why);
    if (rc == 0) {
        keel_guard(&a->lock);

        *slot = now;
    }
    return rc;
}

void people_changed(struct accounts *a)
{
    keel_guard(&a->lock);

    a->people++;
}
