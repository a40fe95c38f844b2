/* SPDX-License-Identifier: MIT */
#include "client/remote.h"

#include <errno.h>
#include <stdio.h>
#include <string.h>

json_t *path_to_json(const char *text, size_t size)
{
    /* Paths for words, which may be cut, have a name more. */
    char full[PATH_BYTES + NAME_BYTES + 3];

    if (size > sizeof(full) - 2)
        size = sizeof(full) - 2;
    full[0] = '/';
    memcpy(full + 1, text, size);
    return text_to_json(full, size + 1);
}

json_t *path_fields(const struct path *path)
{
    return json_pack("{s:o}", "path", path_to_json(path->text, path->size));
}

json_t *path_fields_in(const char *space, const struct path *path)
{
    json_t *fields = path_fields(path);

    if (fields && *space &&
        json_object_set_new(fields, "space", json_string(space)) < 0) {
        json_decref(fields);
        return NULL;
    }
    return fields;
}

json_t *place_fields(const struct place *place)
{
    return path_fields_in(place->space, &place->path);
}

void place_print(const struct place *place, char *ret, size_t size)
{
    int before = snprintf(ret, size, "%s:%s%s", place->profile,
                          place->space[0] ? "@" : "", place->space);

    if (before >= 0 && (size_t)before + 1 < size)
        path_print(&place->path, ret + before, size - (size_t)before);
}

bool place_same_login(const struct place *a, const struct place *b)
{
    return strcmp(a->profile, b->profile) == 0 &&
           strcmp(a->login.user, b->login.user) == 0 &&
           strcmp(a->login.server, b->login.server) == 0;
}

/* Of the server, and reached by the same login as `first`. */
static int place_check(const struct place *p, const struct place *first,
                       struct problem *why)
{
    if (!p->remote)
        return problem(why, USAGE,
                       .detail = "what is on the server has a colon before "
                                 "its first slash: ':/name'");
    if (!place_same_login(p, first))
        return problem(why, USAGE,
                       .detail = "one command works on one server, with one "
                                 "login; a name there with a colon is "
                                 "':/a:b'");
    return 0;
}

int places_parse(char **names, int count, struct place *ret_first,
                 struct problem *why)
{
    struct place place;

    for (int i = 0; i < count; i++) {
        struct place *p = i == 0 ? ret_first : &place;
        int rc = place_parse(names[i], p, why);

        if (rc == 0)
            rc = place_check(p, ret_first, why);
        if (rc < 0)
            return rc;
    }
    return 0;
}

void path_print(const struct path *path, char *ret, size_t size)
{
    keel_assert(size > 1);
    ret[0] = '/';
    text_escape(path->text, path->size, ret + 1, size - 1);
}

int cli_hash(const struct cli *c, enum chunk_hash *ret, struct problem *why)
{
    struct digest root;
    enum chunk_hash of;

    *ret = c->hash ? chunk_hash_by_name(c->hash) : CHUNK_SHA256;
    if (!*ret)
        return problem(why, USAGE, .detail = "--hash is sha256 or xxh128");
    if (!c->match)
        return 0;
    if (digest_parse(c->match, &of, &root) < 0 || (c->hash && of != *ret))
        return problem(why, USAGE,
                       .detail = "--if-match takes a hash as 'ferry hash' "
                                 "prints it");
    *ret = of;
    return 0;
}

static int entry_name(const json_t *j, struct remote_entry *ret,
                      struct problem *why)
{
    keel_auto(str) char *name = NULL;
    size_t size;
    int rc;

    rc = text_from_json(json_object_get(j, "name"), NAME_BYTES, &name, &size);
    if (rc == -ENOMEM)
        return problem(why, NO_MEMORY);
    if (rc < 0)
        return problem(why, PROTOCOL_BROKEN, .detail = "an entry has no name");
    rc = name_check(name, size, why);
    if (rc == 0)
        memcpy(ret->name, name, size + 1);
    return rc;
}

static int entry_facts(const json_t *j, struct remote_entry *ret,
                       struct problem *why)
{
    const char *type, *hash;
    uint64_t mode;
    int rc;

    rc = field_text(j, "type", 1, &type, why);
    if (rc < 0)
        return rc;
    if (!*type || !strchr("fdl?", *type))
        return problem(why, REQUEST_INVALID, .detail = "type");
    ret->type = type[0];
    rc = field_u64(j, "size", INT64_MAX, &ret->size, why);
    if (rc < 0)
        return rc;
    rc = field_i64(j, "mtime_ns", &ret->mtime_ns, why);
    if (rc < 0)
        return rc;
    rc = field_u64(j, "mode", 07777, &mode, why);
    if (rc < 0)
        return rc;
    ret->mode = (mode_t)mode;
    if (!json_object_get(j, "hash"))
        return 0;
    rc = field_text(j, "hash", DIGEST_TEXT_BYTES, &hash, why);
    if (rc == 0 && digest_parse(hash, &ret->hash, &ret->root) < 0)
        rc = problem(why, REQUEST_INVALID, .detail = "hash");
    return rc;
}

int remote_entry_parse(const json_t *j, struct remote_entry *ret,
                       struct problem *why)
{
    int rc;

    memset(ret, 0, sizeof(*ret));
    rc = entry_name(j, ret, why);
    return rc < 0 ? rc : answer_check(entry_facts(j, ret, why), why);
}

int remote_stat_in(struct session *s, const char *space,
                   const struct path *path, struct remote_entry *ret,
                   struct problem *why)
{
    json_t *ok;
    int rc = link_ask(s->link, "stat", path_fields_in(space, path),
                      keel_after(ASK_TIME), &ok, why);

    if (rc < 0)
        return rc;
    memset(ret, 0, sizeof(*ret));
    /* Its name was asked for; the root has none. */
    rc = answer_check(entry_facts(ok, ret, why), why);
    json_decref(ok);
    return rc;
}

int remote_target(const json_t *j, char **ret, struct problem *why)
{
    const json_t *target = json_object_get(j, "target");
    size_t size;
    int rc;

    *ret = NULL;
    if (!target)
        return 0;
    rc = text_from_json(target, PATH_BYTES - 1, ret, &size);
    if (rc == -ENOMEM)
        return problem(why, NO_MEMORY);
    if (rc < 0)
        return problem(why, PROTOCOL_BROKEN, .detail = "a link's text");
    return 0;
}

/* As with POSIX a slash at the end asks for a directory.  Where a link leads is
 * the server's to say. */
static int slash_check(const struct place *place, char type,
                       struct problem *why)
{
    char shown[PROBLEM_TEXT_BYTES];

    if (!place->directory || place->path.count == 0 || type == 'd' ||
        type == 'l')
        return 0;
    place_print(place, shown, sizeof(shown));
    return problem(why, FILE_NOT_DIRECTORY, .name = shown);
}

int remote_slash_check(struct session *s, const struct place *place,
                       struct problem *why)
{
    struct problem trouble = {0};
    struct remote_entry e;
    int rc;

    if (!place->directory || place->path.count == 0)
        return 0;
    rc = remote_stat_in(s, place->space, &place->path, &e, &trouble);
    if (rc == 0)
        return slash_check(place, e.type, why);
    /* Who may not look is taken at their word. */
    if (trouble.id == PROBLEM_RIGHT_MISSING)
        return 0;
    *why = trouble;
    return rc;
}

int remote_stat_place(struct session *s, const struct place *place,
                      struct remote_entry *ret, char **ret_target,
                      struct problem *why)
{
    json_t *ok;
    int rc = link_ask(s->link, "stat", place_fields(place),
                      keel_after(ASK_TIME), &ok, why);

    if (rc < 0)
        return rc;
    memset(ret, 0, sizeof(*ret));
    snprintf(ret->name, sizeof(ret->name), "%s", path_leaf(&place->path));
    rc = answer_check(entry_facts(ok, ret, why), why);
    if (rc == 0)
        rc = slash_check(place, ret->type, why);
    if (rc == 0 && ret_target)
        rc = remote_target(ok, ret_target, why);
    json_decref(ok);
    return rc;
}

int remote_hash_place(struct session *s, const struct place *place,
                      enum chunk_hash hash, struct digest *ret,
                      uint64_t *ret_size, struct problem *why)
{
    json_t *fields = place_fields(place);
    json_t *ok;
    enum chunk_hash of;
    const char *text;
    int rc;

    if (!fields || json_object_set_new(fields, "hash",
                                       json_string(chunk_hash_name(hash))) < 0)
        return problem(why, NO_MEMORY);
    /* It may have to read all of it: no deadline but the connection's. */
    rc = link_ask(s->link, "hash", fields, KEEL_FOREVER, &ok, why);
    if (rc < 0)
        return rc;
    rc = answer_check(field_text(ok, "root", DIGEST_TEXT_BYTES, &text, why),
                      why);
    if (rc == 0)
        rc = answer_check(field_u64(ok, "size", INT64_MAX, ret_size, why), why);
    if (rc == 0 && (digest_parse(text, &of, ret) < 0 || of != hash))
        rc = problem(why, PROTOCOL_BROKEN, .detail = "a hash");
    json_decref(ok);
    return rc;
}
