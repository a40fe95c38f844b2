/* SPDX-License-Identifier: MIT */
/* What both halves of SCRAM share: texts, keys, and the library's habits.
 *
 * GNU SASL's header says that STOREDKEY and SERVERKEY are hex: its code wants
 * base64.  SALTED_PASSWORD is hex, CB_TLS_EXPORTER base64. */
#ifndef FERRY_SCRAM_KEYS_H
#define FERRY_SCRAM_KEYS_H

#include <gsasl.h>

#include <keel/base.h>

#include "base/problem.h"

/* Every text of an exchange. */
#define SCRAM_TEXT_BYTES 2048

/* StoredKey and ServerKey of a salted password (RFC 5802 section 3).
 * -ENOMEM */
int scram_keys(const uint8_t salted[32], uint8_t ret_stored[32],
               uint8_t ret_server[32]);
/* HMAC-SHA-256 of two parts.  -ENOMEM */
int scram_hmac(const void *key, size_t key_size, const char *label,
               const char *text, uint8_t ret[32]);
int scram_sha256(const void *bytes, size_t size, uint8_t ret[32]);

/* PROTOCOL_TOO_LONG */
int scram_text_check(const char *text, struct problem *why);
/* A turn of `s`; the library's result.  `ret` is set when that is GSASL_OK or
 * GSASL_NEEDS_MORE. */
int scram_step(Gsasl_session *s, const char *in, char **ret);
void scram_session_wipe(Gsasl_session *s);
uint64_t scram_iterations(const char *text);

#endif
