/* SPDX-License-Identifier: MIT */
/* All that administration acts on: the daemon's own, or, under DATA's lock, a
 * command's. */
#ifndef FERRY_HOUSE_H
#define FERRY_HOUSE_H

#include <keel/co.h>

#include "account/account.h"
#include "base/address.h"
#include "base/problem.h"
#include "daemon/data.h"
#include "ledger/ledger.h"
#include "native/native.h"
#include "vault/vault.h"

struct house {
    int dir; /* DATA; borrowed */
    struct accounts *accounts;
    struct ledger *ledger;
    struct vault *vault;
    char server[SERVER_BYTES]; /* what invites carry; "": nobody knows */
    uint8_t pin[32];
    int64_t quota_bytes, quota_files; /* of a new home; 0: none */
    /* of a daemon that runs: */
    struct native *native; /* NULL: none does */
    struct keel_loop *const *loops;
    unsigned loop_count;
    keel_ns started;
};

/* Under the lock, on a loop.  `public_address` NULL: that of the last start.
 * What a crash left is recovered first.  house_close accepts what a failed open
 * left. */
int house_open(struct house *h, struct data *d, const char *public_address,
               struct problem *why);
void house_close(struct house *h);

#endif
