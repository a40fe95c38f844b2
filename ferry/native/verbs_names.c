/* SPDX-License-Identifier: MIT */
/* Changing names, and what stands at them beside bytes. */
#include <errno.h>
#include <string.h>

#include "native/native_inside.h"

static int field_mode_or(const json_t *body, mode_t fallback, mode_t *ret,
                         struct problem *why)
{
    uint64_t mode;
    int rc;

    *ret = fallback;
    if (!json_object_get(body, "mode"))
        return 0;
    rc = field_u64(body, "mode", 07777, &mode, why);
    if (rc == 0)
        *ret = (mode_t)mode;
    return rc;
}

static int field_time_or(const json_t *body, int64_t fallback, int64_t *ret,
                         struct problem *why)
{
    *ret = fallback;
    return json_object_get(body, "mtime_ns")
               ? field_i64(body, "mtime_ns", ret, why)
               : 0;
}

int verb_mkdir(struct conn *c, struct exchange *x, const struct request *q,
               struct problem *why)
{
    bool parents;
    mode_t mode;
    int rc = field_mode_or(q->body, 0755, &mode, why);

    if (rc < 0)
        return rc;
    rc = field_bool_or(q->body, "parents", false, &parents, why);
    if (rc < 0)
        return rc;
    rc = vault_mkdir(c->native->o.vault, &c->actor, q->space, &q->path, mode,
                     parents, why);
    return rc < 0 ? rc : exchange_answer(x, NULL);
}

#define TARGET_BYTES 4095

int verb_link(struct conn *c, struct exchange *x, const struct request *q,
              struct problem *why)
{
    keel_auto(str) char *target = NULL;
    int64_t mtime_ns;
    bool no_replace;
    int rc;

    rc = field_raw(q->body, "target", 1, TARGET_BYTES, &target, why);
    if (rc < 0)
        return rc;
    rc = field_time_or(q->body, keel_wall_ns(), &mtime_ns, why);
    if (rc < 0)
        return rc;
    rc = field_bool_or(q->body, "no_replace", false, &no_replace, why);
    if (rc < 0)
        return rc;
    rc = vault_link(c->native->o.vault, &c->actor, q->space, &q->path, target,
                    mtime_ns, no_replace, why);
    return rc < 0 ? rc : exchange_answer(x, NULL);
}

int verb_set(struct conn *c, struct exchange *x, const struct request *q,
             struct problem *why)
{
    int64_t mtime_ns;
    mode_t mode;
    int rc = field_mode_or(q->body, (mode_t)-1, &mode, why);

    if (rc < 0)
        return rc;
    rc = field_time_or(q->body, INT64_MIN, &mtime_ns, why);
    if (rc < 0)
        return rc;
    rc = vault_set(c->native->o.vault, &c->actor, q->space, &q->path, mode,
                   mtime_ns, why);
    return rc < 0 ? rc : exchange_answer(x, NULL);
}

int verb_move(struct conn *c, struct exchange *x, const struct request *q,
              struct problem *why)
{
    bool no_replace;
    struct path to;
    int rc = field_path(q->body, "to", &to, why);

    if (rc < 0)
        return rc;
    rc = field_bool_or(q->body, "no_replace", false, &no_replace, why);
    if (rc < 0)
        return rc;
    rc = vault_move(c->native->o.vault, &c->actor, q->space, &q->path, &to,
                    no_replace, why);
    return rc < 0 ? rc : exchange_answer(x, NULL);
}

int verb_remove(struct conn *c, struct exchange *x, const struct request *q,
                struct problem *why)
{
    struct vault_removed removed = {0};
    bool recursive;
    int rc = field_bool_or(q->body, "recursive", false, &recursive, why);

    if (rc < 0)
        return rc;
    rc = vault_remove(c->native->o.vault, &c->actor, q->space, &q->path,
                      recursive, &removed, why);
    if (rc < 0)
        return rc;
    return answer(x,
                  json_pack("{s:I, s:I}", "files", (json_int_t)removed.files,
                            "directories", (json_int_t)removed.directories),
                  why);
}
