/* SPDX-License-Identifier: MIT */
/* Asking people: the terminal is /dev/tty, whatever the standard streams are. */
#ifndef FERRY_PASSWORD_H
#define FERRY_PASSWORD_H

#include <keel/base.h>

#include "base/problem.h"
#include "client/cli.h"

#define PASSWORD_BYTES 1025

/* From --password-file (its first line), FERRY_PASSWORD, or the terminal
 * without echo; `twice` asks again and compares.  Wipe it after use.
 * USAGE when there is nobody to ask. */
int password_get(struct cli *c, const char *prompt, bool twice,
                 char ret[PASSWORD_BYTES], struct problem *why);
/* Whether somebody types it: then a wrong one may be a typing error. */
bool password_typed(const struct cli *c);
/* A new one, for passwd: the second line of --password-file, FERRY_NEW_PASSWORD,
 * or the terminal, twice. */
int password_new(struct cli *c, const char *prompt, char ret[PASSWORD_BYTES],
                 struct problem *why);
/* Yes or no at the terminal; -ENOTTY without one. */
int ask_yes(const char *question);
/* A line at the terminal, with echo. */
int ask_line(const char *prompt, char *ret, size_t size, struct problem *why);

#endif
