/* SPDX-License-Identifier: MIT */
#include "client/put_known.h"

#include <stdio.h>
#include <string.h>

/* 64 bits of a hash of the name, and as many of what it has: of two names that
 * are taken for one by chance a file would still have to be equal in the other
 * 64 to be left out. */
struct record {
    uint64_t name; /* 0: free */
    uint64_t version;
};
#define TYPE_BITS 2

/* Invariant: open addressing, at most three quarters are taken. */
struct known {
    struct record *records;
    size_t room, count; /* room: a power of two */
};

static const char types[] = "?fdl";

static uint64_t sum(const void *bytes, size_t size)
{
    struct digest d;

    chunk_leaf(CHUNK_XXH128, bytes, size, &d);
    return keel_be64(d.bytes);
}

static uint64_t sum_name(const char *name)
{
    return sum(name, strlen(name)) | 1; /* never 0 */
}

unsigned mode_kept(char type, mode_t mode)
{
    if (type == 'l')
        return 0;
    return (mode & 0777) | (type == 'd' ? 0700 : 0400);
}

static uint64_t sum_version(const struct known_version *v)
{
    const char *type = strchr(types, v->type);
    char text[128 + 4096];
    int size = snprintf(text, sizeof(text), "%c %llu %lld %o %s", v->type,
                        (unsigned long long)(v->type == 'f' ? v->size : 0),
                        (long long)v->mtime_ns, mode_kept(v->type, v->mode),
                        v->target ? v->target : "");

    return sum(text, (size_t)size) << TYPE_BITS |
           (type ? (uint64_t)(type - types) : 0);
}

static struct record *find(const struct known *k, uint64_t name)
{
    size_t at = (size_t)(name >> 1) & (k->room - 1);

    while (k->records[at].name && k->records[at].name != name)
        at = (at + 1) & (k->room - 1);
    return &k->records[at];
}

static int grow(struct known *k)
{
    struct known wider = {.room = k->room ? k->room * 2 : 64};

    wider.records = keel_calloc(wider.room, sizeof(*wider.records));
    if (!wider.records)
        return -1;
    for (size_t i = 0; i < k->room; i++) {
        if (k->records[i].name)
            *find(&wider, k->records[i].name) = k->records[i];
    }
    keel_free(k->records);
    k->records = wider.records;
    k->room = wider.room;
    return 0;
}

static int add(struct known *k, const char *name, uint64_t version,
               struct problem *why)
{
    struct record *r;

    if ((k->count + 1) * 4 > k->room * 3 && grow(k) < 0)
        return problem(why, NO_MEMORY);
    r = find(k, sum_name(name));
    if (!r->name)
        k->count++;
    *r = (struct record){sum_name(name), version};
    return 0;
}

static int add_entry(struct known *k, const char *name,
                     const struct remote_entry *e, const json_t *j,
                     struct problem *why)
{
    keel_auto(str) char *target = NULL;
    struct known_version v = {e->type, e->size, e->mtime_ns, e->mode, NULL};
    size_t size;

    if (e->type == 'l' &&
        text_from_json(json_object_get(j, "target"), 4095, &target, &size) == 0)
        v.target = target;
    /* Without a hash on record nobody knows what came of it: sent again. */
    if (e->type == 'f' && !e->hash)
        v.mtime_ns = INT64_MIN;
    return add(k, name, sum_version(&v), why);
}

int known_new(struct known **ret)
{
    keel_auto(known) struct known *k = keel_calloc(1, sizeof(*k));

    if (!k || grow(k) < 0)
        return -1;
    *ret = keel_take(k);
    return 0;
}

void known_free(struct known *k)
{
    if (k)
        keel_free(k->records);
    keel_free(k);
}

static int page_add(struct known *k, const json_t *entries,
                    char last[NAME_BYTES + 1], struct problem *why)
{
    struct remote_entry e;
    const json_t *j;
    size_t i;
    int rc = 0;

    json_array_foreach(entries, i, j)
    {
        rc = remote_entry_parse(j, &e, why);
        /* In order, or it would never end. */
        if (rc == 0 && strcmp(e.name, last) <= 0)
            rc = problem(why, PROTOCOL_BROKEN,
                         .detail = "a list is not in order");
        if (rc == 0)
            rc = add_entry(k, e.name, &e, j, why);
        if (rc < 0)
            return rc;
        memcpy(last, e.name, sizeof(e.name));
    }
    return rc;
}

int known_list(struct session *s, const char *space, const struct path *path,
               struct known **ret, struct problem *why)
{
    keel_auto(known) struct known *k = NULL;
    char last[NAME_BYTES + 1] = "";
    bool more = true;

    if (known_new(&k) < 0)
        return problem(why, NO_MEMORY);
    while (more) {
        json_t *fields = path_fields_in(space, path), *ok;
        int rc;

        if (!fields || (*last && json_object_set_new(
                                     fields, "after",
                                     text_to_json(last, strlen(last))) < 0)) {
            json_decref(fields);
            return problem(why, NO_MEMORY);
        }
        rc = link_ask(s->link, "list", fields, KEEL_FOREVER, &ok, why);
        if (rc < 0)
            return rc;
        rc = answer_check(field_bool_or(ok, "more", false, &more, why), why);
        if (rc == 0)
            rc = page_add(k, json_object_get(ok, "entries"), last, why);
        if (rc == 0 && more &&
            json_array_size(json_object_get(ok, "entries")) == 0)
            more = false;
        json_decref(ok);
        if (rc < 0)
            return rc;
    }
    *ret = keel_take(k);
    return 0;
}

int known_stat(struct known *k, struct session *s, const char *space,
               const struct path *path, struct problem *why)
{
    struct remote_entry e;
    struct problem missing;
    int rc = remote_stat_in(s, space, path, &e, &missing);

    /* Who may only drop learns nothing of what is there. */
    if (rc < 0 && (missing.id == PROBLEM_FILE_MISSING ||
                   missing.id == PROBLEM_RIGHT_MISSING))
        return 0;
    if (rc < 0) {
        *why = missing;
        return rc;
    }
    return add_entry(k, path_leaf(path), &e, NULL, why);
}

enum known_answer known_ask(const struct known *k, const char *name,
                            const struct known_version *v)
{
    const struct record *r = find(k, sum_name(name));

    if (!r->name)
        return KNOWN_ABSENT;
    return r->version == sum_version(v) ? KNOWN_SAME : KNOWN_OTHER;
}

char known_type(const struct known *k, const char *name)
{
    const struct record *r = find(k, sum_name(name));

    return r->name ? types[r->version & ((1 << TYPE_BITS) - 1)] : 0;
}
