/* SPDX-License-Identifier: MIT */
/* Inside account. */
#ifndef FERRY_ACCOUNT_INSIDE_H
#define FERRY_ACCOUNT_INSIDE_H

#include <gsasl.h>

#include <keel/lock.h>

#include "account/account.h"
#include "account/delay.h"

enum { STILL_SLOTS = 1024 };

/* Somebody who was found to be in order when `people` was this. */
struct still {
    int64_t account, device;
    uint64_t people;
};

/* `decoy` makes the answers for names that do not exist.
 *
 * `people` and `sharing` count the changes to accounts and devices, and to
 * spaces and grants.  A change is written to the ledger first and counted then,
 * also when writing failed; what is read from the ledger carries the count from
 * before the reading.  So:
 *
 *   a still whose `people` is the count was true after the last change
 *   `shared`, when its `sharing` is the count, likewise
 *   at most one coroutine reads spaces and grants (`loading`), others wait for
 *   it on `loaded`
 *
 * All of this is read and written under `lock`, which is held for a look-up or
 * a swap of pointers, never across a wait and never while the ledger is asked;
 * threads and coroutines of every loop take it. */
struct accounts {
    struct accounts_options options;
    uint8_t decoy[32], nobodys_key[32];
    Gsasl *library;
    struct delays *delays;

    struct keel_lock lock;
    struct keel_cond loaded;
    bool loading;
    uint64_t people, sharing;
    struct sharing *shared; /* NULL: never read */
    struct still still[STILL_SLOTS];
};

void people_changed(struct accounts *a);
void sharing_changed(struct accounts *a);
void sharing_free(struct sharing *s);
/* At least SCRAM_ITERATIONS, and our size of salt.  REQUEST_INVALID */
int account_scram_check(const struct ledger_scram *s, struct problem *why);

/* Marks `who` as in. */
void actor_of(struct actor *ret, const struct ledger_account *account,
              int64_t device);
int64_t account_now(void); /* seconds since 1970 */
/* The library asks for nothing on the server's side: all is set before. */
int login_answer(Gsasl *library, Gsasl_session *s, Gsasl_property what);

#endif
