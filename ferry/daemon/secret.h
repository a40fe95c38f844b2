/* SPDX-License-Identifier: MIT */
/* A new password for somebody: never on the command line. */
#ifndef FERRY_SECRET_H
#define FERRY_SECRET_H

#include <jansson.h>

#include "base/problem.h"
#include "ledger/ledger.h"

/* The first line of `file` ("-": standard input), or of standard input where
 * that is no terminal, else what is typed twice at the terminal.  What leaves
 * this function are the keys a server keeps, as an admin request carries them.
 * PASSWORD_WEAK, USAGE */
int secret_ask(const char *file, const char *account, json_t **ret_scram,
               struct problem *why);
/* A request's "scram", on the other side. */
int secret_scram(const json_t *request, struct ledger_scram *ret,
                 struct problem *why);

#endif
