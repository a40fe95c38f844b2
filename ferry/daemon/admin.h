/* SPDX-License-Identifier: MIT */
/* Administration: a closed list of requests, answered by the running daemon on
 * DATA/admin.sock or, when none runs, by the command itself under DATA's lock.
 *
 * On the socket a request and its answer are one frame each (<keel/frame.h>)
 * of at most 64 KiB JSON:
 *     {"do": "invite", "admin": false, "uses": 1, "lifetime_s": 604800}
 *     {"ok": {"link": "ferry://..."}} or {"problem": {...}}
 * Only the daemon's own user and root are served (SO_PEERCRED). */
#ifndef FERRY_ADMIN_H
#define FERRY_ADMIN_H

#include <jansson.h>

#include <keel/net.h>

#include "account/account.h"
#include "base/address.h"
#include "base/problem.h"

/* What the requests act on. */
struct house {
    struct accounts *accounts;
    struct ledger *ledger;
    char server[SERVER_BYTES]; /* what invites carry */
    uint8_t pin[32];
};

/* Answers one request; `ret_ok` is the caller's. */
int admin_answer(struct house *h, const json_t *request, json_t **ret_ok,
                 struct problem *why);
/* Makes an invite and its link. */
int admin_invite(struct house *h, bool admin, int64_t uses, int64_t lifetime_s,
                 char ret_link[INVITE_LINK_BYTES], struct problem *why);

/* Serves a listener until cancelled. */
int admin_serve(struct house *h, struct keel_listener *l);
int admin_listen(int data_dir, struct keel_listener **ret, struct problem *why);
/* Asks the daemon that runs on the directory.  -ECONNREFUSED, -ENOENT: none
 * does. */
int admin_ask(int data_dir, const json_t *request, json_t **ret_ok,
              struct problem *why);

#endif
