/* SPDX-License-Identifier: MIT */
/* Looking and downloading. */
#include <errno.h>
#include <string.h>

#include "native/native_inside.h"

static json_t *entry_to_json(const struct vault_entry *e)
{
    char type[2] = {e->type, 0};
    char digest[DIGEST_TEXT_BYTES];
    json_t *j = json_pack("{s:o, s:s, s:I, s:I, s:i}", "name",
                          text_to_json(e->name, strlen(e->name)), "type", type,
                          "size", (json_int_t)e->size, "mtime_ns",
                          (json_int_t)e->mtime_ns, "mode", (int)e->mode);

    if (e->hash) {
        digest_print(e->hash, &e->root, digest);
        json_add(&j, "hash", json_string(digest));
    }
    if (e->target)
        json_add(&j, "target", text_to_json(e->target, strlen(e->target)));
    return j;
}

int verb_stat(struct conn *c, struct exchange *x, const struct request *q,
              struct problem *why)
{
    struct vault_entry e;
    json_t *ok;
    int rc =
        vault_stat(c->native->o.vault, &c->actor, q->space, &q->path, &e, why);

    if (rc < 0)
        return rc;
    ok = entry_to_json(&e);
    vault_entry_fini(&e);
    return answer(x, ok, why);
}

/* Entries asked of the vault at a time.  A page ends earlier where its JSON
 * might not fit a REPLY (1 MiB): a byte of a name or
 * target takes six at worst (\u0001),
 * the rest of an entry (six fields, a hash) less than ENTRY_BYTES. */
#define PAGE 1000
#define PAGE_BYTES ((size_t)1000 << 10)
#define ENTRY_BYTES 300

static size_t entry_bytes_most(const struct vault_entry *e)
{
    return ENTRY_BYTES + 6 * strlen(e->name) +
           (e->target ? 6 * strlen(e->target) : 0);
}

static int field_after(const json_t *body, char ret[NAME_BYTES + 1],
                       struct problem *why)
{
    const json_t *j = json_object_get(body, "after");
    keel_auto(str) char *bytes = NULL;
    size_t size;

    ret[0] = 0;
    if (!j)
        return 0;
    if (text_from_json(j, NAME_BYTES, &bytes, &size) < 0)
        return problem(why, REQUEST_INVALID, .detail = "after");
    memcpy(ret, bytes, size);
    ret[size] = 0;
    return 0;
}

static int list_page(const struct vault_entry *e, int count, int max,
                     json_t *list, int *ret_given)
{
    size_t bytes = 0;
    int given = 0;

    while (given < count && given < max) {
        bytes += entry_bytes_most(&e[given]);
        if (bytes > PAGE_BYTES)
            break;
        if (json_array_append_new(list, entry_to_json(&e[given++])) < 0)
            return -ENOMEM;
    }
    *ret_given = given;
    return 0;
}

int verb_list(struct conn *c, struct exchange *x, const struct request *q,
              struct problem *why)
{
    keel_auto(mem) void *memory = NULL;
    struct vault_entry *e;
    char after[NAME_BYTES + 1];
    uint64_t max;
    json_t *list;
    int rc, count, given;

    rc = field_after(q->body, after, why);
    if (rc < 0)
        return rc;
    rc = field_u64_or(q->body, "max", PAGE, PAGE, &max, why);
    if (rc < 0)
        return rc;
    if (max == 0)
        return problem(why, REQUEST_INVALID, .detail = "max");
    /* One more than wanted tells whether there is more. */
    e = memory = keel_calloc(max + 1, sizeof(*e));
    list = json_array();
    if (!e || !list) {
        json_decref(list);
        return problem(why, NO_MEMORY);
    }
    count = vault_list(c->native->o.vault, &c->actor, q->space, &q->path, after,
                       e, (unsigned)max + 1, why);
    if (count < 0) {
        json_decref(list);
        return count;
    }
    rc = list_page(e, count, (int)max, list, &given);
    for (int i = 0; i < count; i++)
        vault_entry_fini(&e[i]);
    if (rc < 0) {
        json_decref(list);
        return problem(why, NO_MEMORY);
    }
    return answer(
        x, json_pack("{s:o, s:b}", "entries", list, "more", count > given),
        why);
}

int verb_hash(struct conn *c, struct exchange *x, const struct request *q,
              struct problem *why)
{
    char text[DIGEST_TEXT_BYTES];
    enum chunk_hash hash;
    struct digest root;
    uint64_t size;
    int rc;

    rc = field_hash(q->body, &hash, why);
    if (rc < 0)
        return rc;
    rc = conn_hashing_begin(c, why);
    if (rc < 0)
        return rc;
    rc = vault_hash(c->native->o.vault, &c->actor, q->space, &q->path, hash,
                    &root, &size, why);
    conn_hashing_end(c);
    if (rc < 0)
        return rc;
    digest_print(hash, &root, text);
    return answer(
        x, json_pack("{s:s, s:I}", "root", text, "size", (json_int_t)size),
        why);
}

/* Leaves of a stored file, for finding the chunk that arrived damaged: read
 * and hashed anew, since the stored bytes may be what is damaged. */
#define LEAVES_MOST 16384

int verb_leaves(struct conn *c, struct exchange *x, const struct request *q,
                struct problem *why)
{
    keel_auto(source) struct source *s = NULL;
    uint64_t from, count, chunks;
    enum chunk_hash hash;
    struct vault_entry e;
    int rc;

    rc = field_hash(q->body, &hash, why);
    if (rc < 0)
        return rc;
    rc = vault_file_open(c->native->o.vault, &c->actor, q->space, &q->path,
                         hash, &s, &e, why);
    if (rc < 0)
        return rc;
    chunks = chunk_count(source_size(s));
    rc = field_u64(q->body, "from", chunks, &from, why);
    if (rc < 0)
        return rc;
    rc = field_u64(q->body, "count", LEAVES_MOST, &count, why);
    if (rc < 0)
        return rc;
    if (count > chunks - from)
        count = chunks - from;
    rc = conn_hashing_begin(c, why);
    if (rc < 0)
        return rc;
    for (uint64_t i = from; i < from + count && rc == 0; i++)
        rc =
            keel_cancelled() ? problem(why, CANCELLED) : source_hash(s, i, why);
    conn_hashing_end(c);
    if (rc < 0)
        return rc;
    return answer(x,
                  json_one("leaves", bytes_to_json(source_leaves(s) + from,
                                                   (size_t)count *
                                                       sizeof(struct digest))),
                  why);
}

static int get_tell(struct exchange *x, const struct vault_entry *e,
                    struct problem *why)
{
    json_t *note =
        json_pack("{s:I, s:I, s:i}", "size", (json_int_t)e->size, "mtime_ns",
                  (json_int_t)e->mtime_ns, "mode", (int)e->mode);
    char text[DIGEST_TEXT_BYTES];

    if (e->hash) {
        digest_print(e->hash, &e->root, text);
        json_add(&note, "root", json_string(text));
    }
    if (!note)
        return problem(why, NO_MEMORY);
    return exchange_tell(x, note);
}

static int get_send(struct conn *c, struct exchange *x, const struct request *q,
                    struct source *s, const struct range *ranges, size_t count,
                    struct problem *why)
{
    struct native *n = c->native;
    struct watched w = {
        .space = q->space, .path = &q->path, .need = RIGHT_READ};
    int rc;

    conn_watch(c, &w);
    n->counters.gets++;
    rc = conn_transfer_begin(c, why);
    if (rc == 0) {
        rc = transfer_send(s, x, ranges, count, vault_buffers(n->o.vault), 0,
                           NULL, why);
        conn_transfer_end(c);
    }
    n->counters.gets--;
    return conn_unwatch(c, &w, rc, why);
}

int verb_get(struct conn *c, struct exchange *x, const struct request *q,
             struct problem *why)
{
    keel_auto(source) struct source *s = NULL;
    keel_auto(mem) void *memory = NULL;
    struct range all, *ranges = &all;
    struct digest match, root;
    char text[DIGEST_TEXT_BYTES];
    const json_t *chunks = json_object_get(q->body, "chunks");
    enum chunk_hash hash;
    struct vault_entry e;
    size_t count = 1;
    bool matching;
    json_t *ok;
    int rc;

    rc = field_hash(q->body, &hash, why);
    if (rc < 0)
        return rc;
    rc = field_match(q->body, hash, &matching, &match, why);
    if (rc < 0)
        return rc;
    rc = vault_file_open(c->native->o.vault, &c->actor, q->space, &q->path,
                         hash, &s, &e, why);
    if (rc < 0)
        return rc;
    if (matching && (e.hash != hash || memcmp(&e.root, &match, sizeof(match))))
        return problem(why, FILE_MATCH, .name = shown_path(q->path.text).text);
    if (e.hash == hash) /* hashing again would find what the client finds */
        source_trust(s);
    all = (struct range){0, chunk_count(e.size)};
    count = all.to > 0;
    if (chunks) {
        rc = ranges_from_json(chunks, chunk_count(e.size), 1000, &ranges,
                              &count, why);
        if (rc < 0)
            return rc;
        memory = ranges;
    }
    rc = get_tell(x, &e, why);
    if (rc < 0)
        return rc;
    rc = get_send(c, x, q, s, ranges, count, why);
    if (rc < 0)
        return rc;
    /* The identity is compared also where the ledger knew the root. */
    ok = json_object();
    rc = source_root(s, &root, why);
    if (rc == 0 && e.hash != hash)
        digest_print(hash, &root, text);
    else if (e.hash == hash && (rc == 0 || rc == -ENODATA))
        digest_print(e.hash, &e.root, text);
    else if (rc == -ENODATA)
        return exchange_answer(x, ok); /* not all was sent, nothing is known */
    else {
        json_decref(ok);
        return rc;
    }
    if (json_object_set_new(ok, "root", json_string(text)) < 0) {
        json_decref(ok);
        return problem(why, NO_MEMORY);
    }
    return exchange_answer(x, ok);
}
