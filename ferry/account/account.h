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

/* ---- rights ------------------------------------------------------------------------- */
enum right {
    RIGHT_NONE,
    RIGHT_READ = 1,
    RIGHT_WRITE = 2,
    RIGHT_LIST = 4,
    RIGHT_DELETE = 8,
    RIGHT_DROP = 16,
    RIGHT_ADMIN = 32
};
/* 0, or RIGHT_MISSING: the one place where rights are decided.  */
int account_may(struct accounts *a, const struct actor *who, int64_t space,
                const struct path *path, enum right need, struct problem *why);

#endif
