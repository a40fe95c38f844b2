/* SPDX-License-Identifier: MIT */
/* Inside account. */
#ifndef FERRY_ACCOUNT_OWN_H
#define FERRY_ACCOUNT_OWN_H

#include <gsasl.h>

#include "account/account.h"
#include "account/delay.h"

/* `decoy` makes the answers for names that do not exist. */
struct accounts {
    struct accounts_options options;
    uint8_t decoy[32], nobodys_key[32];
    Gsasl *library;
    struct delays *delays;
};

/* Marks `who` as in. */
void actor_of(struct actor *ret, const struct ledger_account *account,
              int64_t device);
int64_t account_now(void); /* seconds since 1970 */
/* The library asks for nothing on the server's side: all is set before. */
int login_answer(Gsasl *library, Gsasl_session *s, Gsasl_property what);

#endif
