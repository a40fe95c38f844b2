/* SPDX-License-Identifier: MIT */
/* Requests about uploads that are not finished:
 *
 *     uploads        -> rows: id, account, space, path, size, held, created,
 *                    expires, active
 *     uploads.drop   id (its first digits, 8 at least) -> id, held
 */
#include <errno.h>
#include <stdio.h>
#include <string.h>

#include "base/log.h"
#include "daemon/admin.h"
#include "wire/frame.h"

#define ID_LEAST 8

struct listing {
    struct house *house;
    const struct teller *teller;
    struct problem *why;
};

static int each_upload(const struct vault_upload *u, void *arg)
{
    struct listing *with = arg;
    struct ledger_account who = {0};
    char id[UPLOAD_ID_TEXT];
    int rc =
        ledger_account_get(with->house->ledger, u->account, &who, with->why);

    if (rc < 0)
        return rc;
    upload_id_print(u->id, id);
    return admin_row(with->teller,
                     json_pack("{s:s, s:s, s:s, s:o, s:I, s:I, s:I, s:I, s:b}",
                               "id", id, "account", who.name, "space",
                               u->space_name, "path",
                               text_to_json(u->path, strlen(u->path)), "size",
                               (json_int_t)u->size, "held", (json_int_t)u->held,
                               "created", (json_int_t)u->created, "expires",
                               (json_int_t)u->expires, "active", u->active),
                     with->why);
}

static int answer_uploads(struct house *h, const json_t *request,
                          const struct teller *t, json_t **ret_ok,
                          struct problem *why)
{
    static const uint8_t start[16];
    struct listing with = {h, t, why};
    int rc = vault_uploads(h->vault, 0, start, each_upload, &with, why);

    (void)request;
    return rc < 0 ? rc : admin_ok(json_object(), ret_ok, why);
}

struct finding {
    const char *text;
    unsigned count;
    uint8_t id[16];
    uint64_t held;
};

static int find_one(const struct vault_upload *u, void *arg)
{
    struct finding *f = arg;
    char id[UPLOAD_ID_TEXT];

    upload_id_print(u->id, id);
    if (strncmp(id, f->text, strlen(f->text)) != 0)
        return 0;
    f->count++;
    f->held = u->held;
    memcpy(f->id, u->id, sizeof(f->id));
    return 0;
}

static int answer_drop(struct house *h, const json_t *request,
                       const struct teller *t, json_t **ret_ok,
                       struct problem *why)
{
    static const uint8_t start[16];
    struct finding f = {0};
    char id[UPLOAD_ID_TEXT];
    int rc = field_text(request, "id", UPLOAD_ID_TEXT - 1, &f.text, why);

    (void)t;
    if (rc == 0 && strlen(f.text) < ID_LEAST)
        rc = problem(why, USAGE,
                     .detail = "an upload's ID has 8 digits at least");
    if (rc == 0)
        rc = vault_uploads(h->vault, 0, start, find_one, &f, why);
    if (rc < 0)
        return rc;
    if (f.count > 1)
        return problem(why, USAGE,
                       .detail = "more than one upload's ID begins so");
    if (f.count == 0)
        return problem(why, UPLOAD_NONE, .name = f.text);
    rc = vault_upload_drop(h->vault, 0, f.id, why);
    if (rc < 0)
        return rc;
    upload_id_print(f.id, id);
    log_info("upload %s given up by the operator", id);
    return admin_ok(
        json_pack("{s:s, s:I}", "id", id, "held", (json_int_t)f.held), ret_ok,
        why);
}

const struct admin_request uploads_requests[] = {
    {"uploads", answer_uploads},
    {"uploads.drop", answer_drop},
    {NULL, NULL},
};
