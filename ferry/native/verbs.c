/* SPDX-License-Identifier: MIT */
/* The table of verbs: a verb without an entry is refused. */
#include <errno.h>
#include <string.h>

#include "native/conn.h"

static const struct verb table[] = {
    {"register", VERB_EARLY, verb_register, LOG_ALWAYS},
    {"login.start", VERB_EARLY, verb_login_start, LOG_NEVER},
    {"login.finish", VERB_EARLY, verb_login_finish, LOG_NEVER},
    {"login.device", VERB_EARLY, verb_login_device, LOG_NEVER},
    {"device.add", VERB_LOGIN, verb_device_add, LOG_ALWAYS},
    {"device.remove", VERB_LOGIN, verb_device_remove, LOG_ALWAYS},
    {"device.list", VERB_LOGIN, verb_device_list, LOG_NEVER},
    {"whoami", VERB_LOGIN, verb_whoami, LOG_NEVER},
    {"ping", VERB_LOGIN, verb_ping, LOG_NEVER},
    {"list", VERB_LOGIN, verb_list, LOG_NEVER, .large = true},
    {"stat", VERB_LOGIN, verb_stat, LOG_NEVER},
    {"hash", VERB_LOGIN, verb_hash, LOG_NEVER},
    {"leaves", VERB_LOGIN, verb_leaves, LOG_NEVER, .large = true},
    {"get", VERB_LOGIN, verb_get, LOG_LARGE},
    {"put", VERB_LOGIN, verb_put, LOG_LARGE},
    {"put.commit", VERB_LOGIN, verb_put_commit, LOG_NEVER},
    {"put.leaves", VERB_LOGIN, verb_put_leaves, LOG_NEVER},
};
#define VERBS (sizeof(table) / sizeof(*table))
_Static_assert(VERBS < NATIVE_VERBS, "the counters have a place for each");

const struct verb *verb_find(const char *name)
{
    for (size_t i = 0; i < VERBS; i++) {
        if (strcmp(table[i].name, name) == 0)
            return &table[i];
    }
    return NULL;
}

unsigned verb_number(const struct verb *v)
{
    return v ? (unsigned)(v - table) : VERBS;
}

const char *native_verb_name(unsigned i)
{
    if (i > VERBS)
        return NULL;
    return i < VERBS ? table[i].name : "other";
}

json_t *json_one(const char *key, json_t *value)
{
    json_t *j = json_object();

    if (json_object_set_new(j, key, value) < 0) {
        json_decref(j);
        return NULL;
    }
    return j;
}

int answer(struct exchange *x, json_t *ok, struct problem *why)
{
    if (!ok)
        return problem(why, NO_MEMORY);
    return exchange_answer(x, ok);
}

int field_path(const json_t *body, struct path *ret, struct problem *why)
{
    const json_t *j = json_object_get(body, "path");
    keel_auto(str) char *bytes = NULL;
    size_t size;
    int rc = j ? text_from_json(j, PATH_BYTES, &bytes, &size) : -EINVAL;

    if (rc == -EMSGSIZE)
        return problem(why, PATH_TOO_LONG, .limit = PATH_BYTES,
                       .size = json_string_length(j));
    if (rc == -ENOMEM)
        return problem(why, NO_MEMORY);
    if (rc < 0)
        return problem(why, REQUEST_INVALID, .detail = "path");
    return path_parse(bytes, size, ret, why);
}

int field_hash(const json_t *body, enum chunk_hash *ret, struct problem *why)
{
    const char *name;
    int rc = field_text(body, "hash", 16, &name, why);

    if (rc < 0)
        return rc;
    *ret = chunk_hash_by_name(name);
    if (!*ret)
        return problem(why, REQUEST_INVALID, .detail = "hash");
    return 0;
}

int field_match(const json_t *body, enum chunk_hash hash, bool *ret_given,
                struct digest *ret, struct problem *why)
{
    enum chunk_hash of;
    const char *text;
    int rc;

    *ret_given = false;
    if (!json_object_get(body, "match"))
        return 0;
    rc = field_text(body, "match", DIGEST_TEXT_BYTES, &text, why);
    if (rc < 0)
        return rc;
    if (digest_parse(text, &of, ret) < 0 || of != hash)
        return problem(why, REQUEST_INVALID, .detail = "match");
    *ret_given = true;
    return 0;
}
