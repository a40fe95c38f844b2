/* SPDX-License-Identifier: MIT */
/* The table of verbs: a verb without an entry is refused. */
#include <errno.h>
#include <string.h>

#include "native/native_inside.h"

/* RIGHT_NONE: nothing of a space is touched, or an upload that was looked at
 * when it was opened. */
static const struct verb table[] = {
    {"register", VERB_EARLY, RIGHT_NONE, LOG_LOUD, GATE_NONE, verb_register},
    {"login.start", VERB_EARLY, RIGHT_NONE, LOG_QUIET, GATE_NONE,
     verb_login_start},
    {"login.finish", VERB_EARLY, RIGHT_NONE, LOG_QUIET, GATE_NONE,
     verb_login_finish},
    {"login.device", VERB_EARLY, RIGHT_NONE, LOG_QUIET, GATE_NONE,
     verb_login_device},
    {"device.add", VERB_LOGIN, RIGHT_NONE, LOG_LOUD, GATE_NONE,
     verb_device_add},
    {"device.remove", VERB_LOGIN, RIGHT_NONE, LOG_LOUD, GATE_NONE,
     verb_device_remove},
    {"device.list", VERB_LOGIN, RIGHT_NONE, LOG_QUIET, GATE_QUICK,
     verb_device_list},
    {"whoami", VERB_LOGIN, RIGHT_NONE, LOG_QUIET, GATE_QUICK, verb_whoami},
    {"password", VERB_LOGIN, RIGHT_NONE, LOG_LOUD, GATE_NONE, verb_password},
    {"spaces", VERB_LOGIN, RIGHT_NONE, LOG_QUIET, GATE_QUICK, verb_spaces},
    {"ping", VERB_LOGIN, RIGHT_NONE, LOG_QUIET, GATE_NONE, verb_ping},
    {"list", VERB_LOGIN, RIGHT_LIST, LOG_QUIET, GATE_QUICK, verb_list,
     .large = true},
    {"stat", VERB_LOGIN, RIGHT_LOOK, LOG_QUIET, GATE_QUICK, verb_stat},
    {"hash", VERB_LOGIN, RIGHT_READ, LOG_QUIET, GATE_HASH, verb_hash},
    {"leaves", VERB_LOGIN, RIGHT_READ, LOG_QUIET, GATE_HASH, verb_leaves,
     .large = true},
    {"get", VERB_LOGIN, RIGHT_READ, LOG_LARGE, GATE_GET, verb_get},
    {"put", VERB_LOGIN, RIGHT_DROP, LOG_LARGE, GATE_NONE, verb_put},
    {"put.commit", VERB_LOGIN, RIGHT_NONE, LOG_QUIET, GATE_NONE,
     verb_put_commit},
    {"put.leaves", VERB_LOGIN, RIGHT_NONE, LOG_QUIET, GATE_NONE,
     verb_put_leaves},
    {"uploads", VERB_LOGIN, RIGHT_NONE, LOG_QUIET, GATE_QUICK, verb_uploads,
     .large = true},
    {"upload.drop", VERB_LOGIN, RIGHT_NONE, LOG_LOUD, GATE_QUICK,
     verb_upload_drop},
    {"mkdir", VERB_LOGIN, RIGHT_DROP, LOG_QUIET, GATE_QUICK, verb_mkdir},
    {"link", VERB_LOGIN, RIGHT_DROP, LOG_QUIET, GATE_QUICK, verb_link},
    {"set", VERB_LOGIN, RIGHT_WRITE, LOG_QUIET, GATE_QUICK, verb_set},
    {"move", VERB_LOGIN, RIGHT_DELETE, LOG_LOUD, GATE_QUICK, verb_move},
    {"remove", VERB_LOGIN, RIGHT_DELETE, LOG_LOUD, GATE_QUICK, verb_remove},
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

unsigned verb_gate(const json_t *body, void *arg)
{
    const char *name = json_string_value(json_object_get(body, "do"));
    const struct verb *v = name ? verb_find(name) : NULL;

    (void)arg;
    return v ? v->gate : GATE_NONE;
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

static int invalid(struct problem *why, const char *key)
{
    return problem(why, REQUEST_INVALID, .detail = key);
}

int field_path(const json_t *body, const char *key, struct path *ret,
               struct problem *why)
{
    const json_t *j = json_object_get(body, key);
    keel_auto(str) char *bytes = NULL;
    size_t size;
    int rc = j ? text_from_json(j, PATH_BYTES, &bytes, &size) : -EINVAL;

    if (rc == -EMSGSIZE)
        return problem(why, PATH_TOO_LONG, .limit = PATH_BYTES,
                       .size = json_string_length(j));
    if (rc == -ENOMEM)
        return problem(why, NO_MEMORY);
    if (rc < 0)
        return invalid(why, key);
    return path_parse(bytes, size, ret, why);
}

#define SPACE_NAME_BYTES 64

int field_space(struct conn *c, const json_t *body, int64_t *ret,
                struct problem *why)
{
    const char *name;
    int rc;

    *ret = c->actor.home;
    if (!json_object_get(body, "space"))
        return 0;
    rc = field_text(body, "space", SPACE_NAME_BYTES, &name, why);
    if (rc < 0)
        return rc;
    if (!*name)
        return invalid(why, "space");
    return account_space(c->native->o.accounts, &c->actor, name, ret, why);
}

int field_raw(const json_t *body, const char *key, size_t least, size_t most,
              char **ret, struct problem *why)
{
    const json_t *j = json_object_get(body, key);
    keel_auto(str) char *bytes = NULL;
    size_t size = 0;
    int rc = j ? text_from_json(j, most, &bytes, &size) : -EINVAL;
    char *text;

    if (rc == -ENOMEM)
        return problem(why, NO_MEMORY);
    if (rc < 0 || size < least || memchr(bytes, 0, size))
        return invalid(why, key);
    text = keel_alloc(size + 1);
    if (!text)
        return problem(why, NO_MEMORY);
    memcpy(text, bytes, size);
    text[size] = 0;
    *ret = text;
    return 0;
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
