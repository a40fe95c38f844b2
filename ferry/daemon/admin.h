/* SPDX-License-Identifier: MIT */
/* Administration: a closed list of requests, answered by the running daemon on
 * DATA/admin.sock or, when none runs, by the command itself under DATA's lock.
 *
 * On the socket each message is one frame (<keel/frame.h>) of at most 64 KiB of
 * JSON, limited as docs/protocol.md limits it:
 *
 *     {"do": "user.list"}
 *     {"row": {...}}             any number of them, for lists
 *     {"ok": {...}} or {"problem": {...}}
 *
 * Only the daemon's own user and root are served (SO_PEERCRED).  The requests
 * and their fields stand in admin_people.c, admin_space.c, admin_look.c. */
#ifndef FERRY_ADMIN_H
#define FERRY_ADMIN_H

#include <jansson.h>

#include <keel/net.h>

#include "base/problem.h"
#include "daemon/house.h"

#define INVITE_USES_MOST 10000
#define INVITE_LIFETIME_MOST ((int64_t)10 * 31536000)

/* Takes the rows of a list as they come, on the asker's loop; a negative result
 * ends the list. */
struct teller {
    int (*row)(const json_t *row, void *arg);
    void *arg;
};
/* Answers one request; `ret_ok` is the caller's. */
int admin_answer(struct house *h, const json_t *request, const struct teller *t,
                 json_t **ret_ok, struct problem *why);
/* Makes an invite and its link; `created_by` as in the ledger. */
int admin_invite(struct house *h, bool admin, int64_t uses, int64_t lifetime_s,
                 int64_t created_by, char ret_link[INVITE_LINK_BYTES],
                 struct problem *why);

/* Serves a listener until cancelled. */
int admin_serve(struct house *h, struct keel_listener *l);
int admin_listen(int data_dir, struct keel_listener **ret, struct problem *why);
/* Asks the daemon that runs on the directory.  CONNECT_FAILED: none does. */
int admin_ask(int data_dir, const json_t *request, const struct teller *t,
              json_t **ret_ok, struct problem *why);

/* ---- for the requests' own files -------------------------------------------------- */
typedef int admin_fn(struct house *h, const json_t *request,
                     const struct teller *t, json_t **ret_ok,
                     struct problem *why);
struct admin_request {
    const char *name;
    admin_fn *answer;
};
/* Each ends in a row of zeros. */
extern const struct admin_request people_requests[], space_requests[],
    uploads_requests[], look_requests[];
/* Tells a row, which it takes; NULL is NO_MEMORY. */
int admin_row(const struct teller *t, json_t *row, struct problem *why);
/* {"name": ...}, or what json_pack could not make. */
int admin_ok(json_t *ok, json_t **ret_ok, struct problem *why);
/* The account in a field.  ACCOUNT_UNKNOWN, ACCOUNT_NAME */
int admin_account(struct house *h, const json_t *request, const char *key,
                  struct ledger_account *ret, struct problem *why);
/* "quota_bytes" and "quota_files" into `space`, each left as it is where
 * absent. */
int admin_quota(const json_t *request, struct ledger_space *space,
                struct problem *why);
/* All spaces, homes too; an error of `each` ends it. */
int admin_spaces(struct house *h,
                 int (*each)(struct house *h, const struct ledger_space *s,
                             void *arg, struct problem *why),
                 void *arg, struct problem *why);

#endif
