/* SPDX-License-Identifier: MIT */
/* SCRAM-SHA-256-PLUS, the client's half, and the keys a password makes.  The
 * client uses this; the server's half is behind account.h.
 *
 * Deriving costs 0.1 s of computing: it runs on the blocking pool. */
#ifndef FERRY_SCRAM_H
#define FERRY_SCRAM_H

#include <keel/base.h>

#include "base/problem.h"
#include "ledger/ledger.h"

#define SCRAM_ITERATIONS 600000
#define SCRAM_SALT_BYTES 16 /* of the salts made here, and of no other size */
/* A server that asks for fewer or more is not answered. */
#define SCRAM_ITERATIONS_LEAST 100000
#define SCRAM_ITERATIONS_MOST 5000000
#define PASSWORD_LEAST 8
#define PASSWORD_MOST 1024

/* Whether a new password will do: as scram_derive says, before it is typed once
 * more. */
int scram_password_check(const char *password, struct problem *why);

/* A fresh salt and the keys of `password`, for registering and passwd.
 * PASSWORD_WEAK, NAME_INVALID (not UTF-8, or SASLprep refuses it) */
int scram_derive(const char *password, struct ledger_scram *ret,
                 struct problem *why);

struct scram_client;
int scram_client_new(const char *name, const char *password,
                     const uint8_t exporter[32], struct scram_client **ret,
                     struct problem *why);
void scram_client_free(struct scram_client *c); /* wipes */
/* Texts are the caller's, for keel_free. */
int scram_client_first(struct scram_client *c, char **ret, struct problem *why);
/* SCRAM_PARAMETERS before anything is derived from a strange count. */
int scram_client_final(struct scram_client *c, const char *server_first,
                       char **ret, struct problem *why);
/* The server proves that it knows the account: SERVER_CHANGED if not. */
int scram_client_verify(struct scram_client *c, const char *server_final,
                        struct problem *why);
KEEL_AUTO(scram_client, struct scram_client *, scram_client_free)

/* Device keys: Ed25519 (RFC 8032). */
int device_key_new(uint8_t ret_private[32], uint8_t ret_public[32]);
int device_key_sign(const uint8_t private_key[32], const uint8_t exporter[32],
                    uint8_t ret[64]);
bool device_key_verify(const uint8_t public_key[32], const uint8_t exporter[32],
                       const uint8_t signature[64]);

#endif
