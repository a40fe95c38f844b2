/* SPDX-License-Identifier: MIT */
/* Uploads that are not finished: what they hold, and giving them up. */
#include <errno.h>
#include <inttypes.h>
#include <string.h>

#include "base/log.h"
#include "native/native_inside.h"

/* A page is a REPLY of at most 1 MiB, and a byte of a path takes six at worst. */
#define UPLOADS_MOST 100
#define UPLOAD_BYTES ((size_t)400)
#define PAGE_BYTES ((size_t)1000 << 10)

struct uploads {
    json_t *list;
    size_t bytes;
    bool more;
};

static json_t *upload_to_json(const struct vault_upload *u)
{
    char id[UPLOAD_ID_TEXT];

    upload_id_print(u->id, id);
    return json_pack("{s:s, s:s, s:o, s:I, s:I, s:I, s:I, s:b}", "upload", id,
                     "space", u->space_name, "path",
                     text_to_json(u->path, strlen(u->path)), "size",
                     (json_int_t)u->size, "held", (json_int_t)u->held,
                     "created", (json_int_t)u->created, "expires",
                     (json_int_t)u->expires, "active", u->active);
}

static int upload_add(const struct vault_upload *u, void *arg)
{
    struct uploads *all = arg;
    size_t bytes = UPLOAD_BYTES + 6 * strlen(u->path);

    if (json_array_size(all->list) == UPLOADS_MOST ||
        all->bytes + bytes > PAGE_BYTES) {
        all->more = true;
        return -E2BIG;
    }
    all->bytes += bytes;
    return json_array_append_new(all->list, upload_to_json(u)) < 0 ? -ENOMEM
                                                                   : 0;
}

static int field_upload(const json_t *body, const char *key, uint8_t ret[16],
                        struct problem *why)
{
    const char *text;
    int rc = field_text(body, key, UPLOAD_ID_TEXT - 1, &text, why);

    if (rc < 0)
        return rc;
    if (upload_id_parse(text, ret) < 0)
        return problem(why, REQUEST_INVALID, .detail = key);
    return 0;
}

int verb_uploads(struct conn *c, struct exchange *x, const struct request *q,
                 struct problem *why)
{
    struct uploads all = {.list = NULL};
    uint8_t after[16] = {0};
    int rc = 0;

    if (json_object_get(q->body, "after"))
        rc = field_upload(q->body, "after", after, why);
    if (rc < 0)
        return rc;
    all.list = json_array();
    if (!all.list)
        return problem(why, NO_MEMORY);
    rc = vault_uploads(c->native->o.vault, c->actor.account, after, upload_add,
                       &all, why);
    if (rc == -ENOMEM && why->id == PROBLEM_NONE)
        rc = problem(why, NO_MEMORY);
    if (rc < 0 && rc != -E2BIG) {
        json_decref(all.list);
        return rc;
    }
    return answer(
        x, json_pack("{s:o, s:b}", "uploads", all.list, "more", all.more), why);
}

int verb_upload_drop(struct conn *c, struct exchange *x,
                     const struct request *q, struct problem *why)
{
    char shown[UPLOAD_ID_TEXT];
    uint8_t id[16];
    int rc = field_upload(q->body, "upload", id, why);

    if (rc == 0)
        rc = vault_upload_drop(c->native->o.vault, c->actor.account, id, why);
    if (rc < 0)
        return rc;
    upload_id_print(id, shown);
    log_info("trace=%s-%" PRIu32 " account=%s upload %s given up", c->id,
             exchange_id(x), c->actor.name, shown);
    return exchange_answer(x, NULL);
}
