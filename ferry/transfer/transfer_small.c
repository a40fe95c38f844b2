/* SPDX-License-Identifier: MIT */
/* Small files from the client's side: one round trip each, many in flight. */
#include <errno.h>
#include <string.h>

#include "transfer/transfer.h"

int transfer_put_small(struct link *l, json_t *fields, const void *data,
                       size_t size, struct exchange **ret, struct problem *why)
{
    return link_call_data(l, "put", fields, data, size, ret, why);
}

/* Invariant: `to` has the file's first `got` bytes, at most `size`. */
struct small_get {
    struct exchange *x;
    enum chunk_hash hash;
    uint8_t *to;
    size_t size, got;
    void (*done)(void *arg);
    void *arg;
};

static void *place(void *arg, uint64_t offset, uint32_t size,
                   struct problem *why)
{
    struct small_get *g = arg;

    if (offset != g->got || size > g->size - g->got) {
        problem(why, TRANSFER_RANGE, .bytes = offset, .size = g->size);
        return NULL;
    }
    return g->to + g->got;
}

static void landed(void *arg, uint64_t offset, uint32_t size)
{
    struct small_get *g = arg;

    (void)offset;
    g->got += size;
}

static void ended(void *arg)
{
    struct small_get *g = arg;

    if (g->done)
        g->done(g->arg);
}

int transfer_get_small(struct link *l, json_t *fields, enum chunk_hash hash,
                       void *to, size_t size, struct small_get **ret,
                       struct problem *why)
{
    struct small_get *g = keel_calloc(1, sizeof(*g));
    int rc;

    keel_assert(size <= SMALL_BYTES);
    if (!g || json_object_set_new(fields, "hash",
                                  json_string(chunk_hash_name(hash))) < 0) {
        json_decref(fields);
        keel_free(g);
        return problem(why, NO_MEMORY);
    }
    g->hash = hash;
    g->to = to;
    g->size = size;
    rc = link_call(l, "get", fields, &g->x, why);
    if (rc < 0) {
        keel_free(g);
        return rc;
    }
    exchange_data_on(g->x, &(struct exchange_sink){place, landed, ended, g});
    /* A link that ended meanwhile says so to the wait. */
    if (size > 0)
        (void)exchange_grant(g->x, (uint32_t)size);
    *ret = g;
    return 0;
}

void small_get_watch(struct small_get *g, void (*done)(void *arg), void *arg)
{
    g->done = done;
    g->arg = arg;
}

static int odd(struct problem *why)
{
    return problem(why, PROTOCOL_BROKEN,
                   .detail = "the answer to 'get' is not as described");
}

/* The NOTE: what the file is now. */
static int small_get_head(struct small_get *g, const json_t *note,
                          struct small_got *ret, struct problem *why)
{
    uint64_t size, mode;

    if (field_u64(note, "size", INT64_MAX, &size, NULL) < 0 ||
        field_i64(note, "mtime_ns", &ret->mtime_ns, NULL) < 0 ||
        field_u64(note, "mode", 07777, &mode, NULL) < 0)
        return odd(why);
    if (size > g->size)
        return problem(why, FILE_CHANGED, .name = "The file", .size = size);
    ret->size = (size_t)size;
    ret->mode = (mode_t)mode;
    return 0;
}

/* What the server says the root is, and what came. */
static int small_get_check(struct small_get *g, const json_t *ok,
                           struct small_got *ret, struct problem *why)
{
    enum chunk_hash hash;
    struct digest leaf, root;
    const char *text;

    if (g->got != ret->size ||
        field_text(ok, "root", DIGEST_TEXT_BYTES, &text, NULL) < 0 ||
        digest_parse(text, &hash, &root) < 0 || hash != g->hash)
        return odd(why);
    if (ret->size > 0)
        chunk_leaf(hash, g->to, ret->size, &leaf);
    chunk_root(hash, &leaf, ret->size > 0, &ret->root);
    if (memcmp(&root, &ret->root, sizeof(root)) != 0)
        return problem(why, TRANSFER_DAMAGED, .name = "The file");
    return 0;
}

int small_get_wait(struct small_get *g, keel_ns deadline, struct small_got *ret,
                   struct problem *why)
{
    struct small_got got = {.size = 0};
    json_t *note, *ok;
    int rc = exchange_note(g->x, deadline, &note, why);

    if (rc == -ENODATA) { /* refused, or no answer to `get` */
        rc = exchange_reply(g->x, deadline, NULL, why);
        return rc < 0 ? rc : odd(why);
    }
    if (rc < 0)
        return rc;
    rc = small_get_head(g, note, &got, why);
    json_decref(note);
    if (rc < 0)
        return rc;
    rc = exchange_reply(g->x, deadline, &ok, why);
    if (rc < 0)
        return rc;
    rc = small_get_check(g, ok, &got, why);
    json_decref(ok);
    if (rc == 0)
        *ret = got;
    return rc;
}

void small_get_free(struct small_get *g)
{
    if (!g)
        return;
    exchange_free(g->x);
    keel_free(g);
}
