/* SPDX-License-Identifier: MIT */
/* People: who may come in, and as whom.
 *
 * Login by password is SCRAM-SHA-256-PLUS (RFC 5802, 7677) bound to the TLS
 * connection by tls-exporter (RFC 9266), through GNU SASL; the server keeps
 * StoredKey and ServerKey only.  Unknown names get a salt of HMAC(secret, name)
 * and go through the same steps, words and time.  After it a device key
 * (Ed25519) signs "ferry device login v1\0" || exporter instead.
 *
 * Failed logins are delayed per (address or /64, account), doubling from 0.5 s
 * to 30 s, in a table of bounded size; nobody is locked out by them. */
#ifndef FERRY_ACCOUNT_H
#define FERRY_ACCOUNT_H

#include <keel/base.h>

#include "base/name.h"
#include "base/problem.h"
#include "ledger/ledger.h"

struct accounts;

enum registration {
    REGISTRATION_OPEN,
    REGISTRATION_INVITE_ONLY,
    REGISTRATION_CLOSED_
};

struct accounts_options {
    struct ledger *ledger;
    enum registration registration;
    int64_t quota_bytes, quota_files; /* of new home spaces; 0: none */
};
int accounts_open(const struct accounts_options *o, struct accounts **ret,
                  struct problem *why);
void accounts_close(struct accounts *a);
/* Settings that may change while others call (a reload): registration and the
 * quotas of new homes; the rest of `o` is not looked at. */
void accounts_configure(struct accounts *a, const struct accounts_options *o);

/* Somebody who is in.  Only the functions below make one; every call of the
 * vault wants it. */
struct actor {
    int64_t account;
    char name[ACCOUNT_NAME_BYTES + 1];
    bool admin;
    int64_t home;
    int64_t device; /* 0: by password */
};

/* ---- registering --------------------------------------------------------------- */
/* An invite's secret: 32 random bytes as base64url, 43 characters. */
#define INVITE_TEXT_BYTES 44
int account_invite_new(struct accounts *a, bool admin, int64_t uses,
                       int64_t lifetime_s, int64_t created_by,
                       char ret_secret[INVITE_TEXT_BYTES], struct problem *why);
/* `invite` NULL: none.  The client has derived `scram` itself; iterations
 * below 600,000 are refused. */
int account_register(struct accounts *a, const char *name, const char *invite,
                     const struct ledger_scram *scram, struct actor *ret,
                     struct problem *why);

/* ---- logging in ------------------------------------------------------------------ */
struct login; /* one exchange; bounded, freed by its owner */
void login_free(struct login *l);
/* `peer` is the printable address.  `client_first` and the like are the texts
 * of RFC 5802, at most 2 KiB each; those returned are for keel_free.  Waits here
 * for the turn of somebody who failed before; CANCELLED, LOGIN_SLOW (a timeout
 * around the call ended). */
int login_start(struct accounts *a, const char *peer, const char *name,
                const uint8_t exporter[32], const char *client_first,
                struct login **ret, char **ret_server_first,
                struct problem *why);
/* LOGIN_REFUSED in the same words and time for a wrong password, an unknown
 * name and a relayed exchange; LOGIN_DISABLED only after a right password. */
int login_finish(struct login *l, const char *client_final,
                 char **ret_server_final, struct actor *ret,
                 struct problem *why);
int login_device(struct accounts *a, const char *peer, const char *name,
                 int64_t device, const uint8_t exporter[32],
                 const uint8_t signature[64], struct actor *ret,
                 struct problem *why);
KEEL_AUTO(login, struct login *, login_free)

/* ---- devices ---------------------------------------------------------------------- */
int account_device_add(struct accounts *a, const struct actor *who,
                       const char *name, const uint8_t public_key[32],
                       int64_t *ret_id, struct problem *why);
int account_device_remove(struct accounts *a, const struct actor *who,
                          int64_t id, struct problem *why);
int account_device_list(struct accounts *a, const struct actor *who,
                        struct ledger_device *ret, unsigned max,
                        struct problem *why);

/* The account and what is used of its home, for whoami. */
int account_home(struct accounts *a, const struct actor *who,
                 struct ledger_space *ret, struct problem *why);

/* A new password, for somebody who has logged in by the old one on this
 * connection (actor.device 0; PASSWORD_NEEDED otherwise).  Devices stay. */
int account_password(struct accounts *a, const struct actor *who,
                     const struct ledger_scram *scram, struct problem *why);
/* Looks again at somebody who came in earlier: LOGIN_DISABLED,
 * ACCOUNT_UNKNOWN, DEVICE_UNKNOWN.  Cheap: answered from memory unless an
 * account or device was changed since. */
int account_still(struct accounts *a, const struct actor *who,
                  struct problem *why);

/* ---- spaces and rights ------------------------------------------------------- */
enum right {
    RIGHT_NONE,
    RIGHT_READ = 1,
    RIGHT_WRITE = 2,
    RIGHT_LIST = 4,
    RIGHT_DELETE = 8,
    RIGHT_DROP = 16,
    RIGHT_ADMIN = 32,
    /* Is only asked for: to be told of the one path what it is.  Who may list or
     * read has it, and who is led there by a grant. */
    RIGHT_LOOK = 64
};
/* What can be granted, and what the owner of a space has. */
#define RIGHTS_ALL                                                             \
    (RIGHT_READ | RIGHT_WRITE | RIGHT_LIST | RIGHT_DELETE | RIGHT_DROP)

/* The space of that name, "" the actor's home.  SPACE_UNKNOWN also when the
 * actor has no right anywhere in it: whoever may not enter does not learn that
 * it exists. */
int account_space(struct accounts *a, const struct actor *who, const char *name,
                  int64_t *ret, struct problem *why);
/* The spaces that the actor may enter, home first ("" its name), then by name;
 * `rights` are the union of all grants in it.  Returns a count, at most `max`.
 */
struct space_entry {
    struct ledger_space space;
    unsigned rights;
};
int account_spaces(struct accounts *a, const struct actor *who,
                   struct space_entry *ret, unsigned max, struct problem *why);
/* "read,write", and back: -EINVAL.  `ret` 64 bytes.  No right at all is "none";
 * "all", when read, is RIGHTS_ALL. */
void rights_print(unsigned rights, char ret[64]);
int rights_parse(const char *text, unsigned *ret);
/* 0, or RIGHT_MISSING: the one place where rights are decided.  Space 0 is the
 * home.  Its owner has every right in a space, and an admin in every shared one;
 * in a home nobody else has any.  Others have the union of the grants to them
 * and to everybody at the path or above it, component by component.  Grants are
 * kept in memory and read again after a change.
 *
 * WRITE contains DROP.  DROP alone is to write what is new: whoever writes asks
 * for RIGHT_DROP when nothing lies under the name, and for RIGHT_WRITE when
 * something is replaced.
 *
 * RIGHT_LIST is also given in a directory above a grant, whatever that grants,
 * but then shows only what leads to it: see account_list_all. */
int account_may(struct accounts *a, const struct actor *who, int64_t space,
                const struct path *path, enum right need, struct problem *why);
/* After account_may gave RIGHT_LIST at `path`: true when all that is in it is
 * shown, false when only names are for which account_leads holds. */
bool account_list_all(struct accounts *a, const struct actor *who,
                      int64_t space, const struct path *path);
/* The actor may know of `path`: its list is his, or something is granted at the
 * very path or below it.  A right that it has from above does not count: who may
 * drop into a directory does not see what others dropped. */
bool account_leads(struct accounts *a, const struct actor *who, int64_t space,
                   const struct path *path);

/* ---- administration --------------------------------------------------------------- */
/* For whoever has been found to be the operator: on the admin socket, or with
 * DATA's lock in hand.  What is changed through these holds from the next
 * call of account_still and account_may on. */

/* ACCOUNT_UNKNOWN */
int account_disable(struct accounts *a, const char *name, bool disabled,
                    struct problem *why);
/* With its devices, grants, invites and unfinished uploads, its home and the
 * shared spaces it owns: SPACE_NOT_EMPTY (and how many files) when one of them
 * has files.  ACCOUNT_UNKNOWN, FILE_BUSY */
int account_delete(struct accounts *a, const char *name, struct problem *why);

/* A shared space of `owner`, an account.  Quota 0: none.
 * SPACE_NAME, SPACE_EXISTS, ACCOUNT_UNKNOWN */
int space_add(struct accounts *a, const char *name, const char *owner,
              int64_t quota_bytes, int64_t quota_files, struct problem *why);
/* The shared space of that name, for the operator: SPACE_NONE, as below. */
int space_find(struct accounts *a, const char *name, struct ledger_space *ret,
               struct problem *why);
/* With its grants and unfinished uploads.
 * SPACE_NONE, SPACE_NOT_EMPTY, FILE_BUSY */
int space_delete(struct accounts *a, const char *name, struct problem *why);
/* `name` is a space's, or with `home` an account's.
 * SPACE_NONE, ACCOUNT_UNKNOWN, REQUEST_INVALID (below 0) */
int space_quota(struct accounts *a, const char *name, bool home,
                int64_t quota_bytes, int64_t quota_files, struct problem *why);
/* `account` NULL: everybody.  `path` as people write it, "/" or "" for all of
 * the space.  `rights` of RIGHTS_ALL; 0 takes the grant away.
 * SPACE_NONE, ACCOUNT_UNKNOWN, NAME_INVALID ..., REQUEST_INVALID,
 * GRANT_UNKNOWN */
int grant_set(struct accounts *a, const char *space, const char *path,
              const char *account, unsigned rights, struct problem *why);
/* For who changed the ledger in another way: all that is kept in memory is read
 * again. */
void accounts_changed(struct accounts *a);

#endif
