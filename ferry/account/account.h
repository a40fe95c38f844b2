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

/* ---- spaces and rights ------------------------------------------------------------------------- */
enum right {
    RIGHT_NONE,
    RIGHT_READ = 1,
    RIGHT_WRITE = 2,
    RIGHT_LIST = 4,
    RIGHT_DELETE = 8,
    RIGHT_DROP = 16,
    RIGHT_ADMIN = 32
};
/* The space of that name, "" the actor's home.  SPACE_UNKNOWN also when the
 * actor has no right anywhere in it: whoever may not enter does not learn that
 * it exists. */
int account_space(struct accounts *a, const struct actor *who, const char *name,
                  int64_t *ret, struct problem *why);
/* The spaces that the actor may enter, home first ("" its name), then by name;
 * `rights` are the union of all grants in it. */
struct space_entry {
    struct ledger_space space;
    unsigned rights;
};
int account_spaces(struct accounts *a, const struct actor *who,
                   struct space_entry *ret, unsigned max, struct problem *why);
/* "read,write", and back: -EINVAL.  `ret` 64 bytes. */
void rights_print(unsigned rights, char ret[64]);
int rights_parse(const char *text, unsigned *ret);
/* 0, or RIGHT_MISSING: the one place where rights are decided.  Space 0 is the
 * home.  The owner of a space and an admin have every right; others the union of
 * the grants to them and to everybody at the path or above it.  DROP is write
 * without replacing, reading or listing.  RIGHT_LIST of a directory above a
 * grant shows only what leads to it.  Grants are kept in memory and read again
 * after a change. */
int account_may(struct accounts *a, const struct actor *who, int64_t space,
                const struct path *path, enum right need, struct problem *why);

#endif
