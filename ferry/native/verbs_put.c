/* SPDX-License-Identifier: MIT */
/* Uploads: one `put` request lives from its opening to its publishing; data
 * comes to it, `put.commit` and `put.leaves` name it.
 *
 *   RECEIVING --all chunks are here--> COMPLETE --put.commit--> PUBLISHING --> DONE
 *      ^                                  |                         |
 *      +------put.leaves withdrew some----+------damaged, refused---+
 *
 *   RECEIVING   the put handler is in transfer_receive
 *   COMPLETE    it waits for what the client says next
 *   PUBLISHING  a put.commit handler has the draft; nobody else touches it
 *   DONE        published: the put handler answers and ends
 *
 * A draft without a part is COMPLETE from the start.
 *
 * All handlers of a connection run on its loop: the state needs no lock. */
#include <errno.h>
#include <inttypes.h>
#include <string.h>

#include "base/log.h"
#include "native/native_inside.h"

enum put_state { PUT_RECEIVING, PUT_COMPLETE, PUT_PUBLISHING, PUT_DONE };

struct put {
    LIST_ENTRY(put) node;
    const struct request *q; /* its own, for the place */
    uint32_t id;
    enum put_state state;
    struct draft *draft;
    enum chunk_hash hash;
    uint8_t draft_id[4];       /* its beginning, for the log */
    uint64_t size, bytes;      /* likewise; bytes at the start or the end */
    unsigned users;            /* handlers of put.commit, put.leaves inside */
    bool ended;                /* the put handler is leaving */
    const struct problem *why; /* then: what it is refused with, or NULL */
    struct keel_event changed; /* state, users or ended */
};

static void put_change(struct put *p, enum put_state state)
{
    p->state = state;
    keel_event_set(&p->changed);
}

static int put_wait(struct put *p)
{
    keel_event_clear(&p->changed);
    return keel_event_wait(&p->changed, KEEL_FOREVER);
}

static int field_level(const json_t *body, enum vault_level *ret,
                       struct problem *why)
{
    const char *text;
    int rc = field_text(body, "level", 16, &text, why);

    if (rc < 0)
        return rc;
    for (enum vault_level l = VAULT_RECEIVED; l <= VAULT_COMMITTED; l++) {
        if (strcmp(text, vault_level_name(l)) == 0) {
            *ret = l;
            return 0;
        }
    }
    return problem(why, REQUEST_INVALID, .detail = "level");
}

static int field_root(const json_t *body, enum chunk_hash *ret_hash,
                      struct digest *ret, struct problem *why)
{
    const char *text;
    int rc = field_text(body, "root", DIGEST_TEXT_BYTES, &text, why);

    if (rc < 0)
        return rc;
    if (digest_parse(text, ret_hash, ret) < 0)
        return problem(why, REQUEST_INVALID, .detail = "root");
    return 0;
}

/* Both are there: the data came with the request. */
static bool at_once(const json_t *body)
{
    return json_object_get(body, "root") && json_object_get(body, "level");
}

size_t verb_put_inline(const json_t *body, void *arg)
{
    const char *verb = json_string_value(json_object_get(body, "do"));
    uint64_t size;

    (void)arg;
    if (!verb || strcmp(verb, "put") != 0 || !at_once(body) ||
        field_u64(body, "size", SMALL_BYTES, &size, NULL) < 0)
        return 0;
    return (size_t)size;
}

static int put_fields(const struct request *q, struct vault_put *put,
                      struct digest *match, struct problem *why)
{
    const json_t *body = q->body;
    uint64_t mode, size;
    bool matching;
    int rc;

    memset(put, 0, sizeof(*put));
    put->space = q->space;
    put->path = &q->path;
    rc = field_u64(body, "size", INT64_MAX, &size, why);
    if (rc < 0)
        return rc;
    put->size = size;
    rc = field_hash(body, &put->hash, why);
    if (rc < 0)
        return rc;
    rc = field_i64(body, "mtime_ns", &put->mtime_ns, why);
    if (rc < 0)
        return rc;
    rc = field_u64(body, "mode", 07777, &mode, why);
    if (rc < 0)
        return rc;
    put->mode = (mode_t)mode;
    rc = at_once(body) && !json_object_get(body, "source")
             ? 0
             : field_bytes(body, "source", put->source, sizeof(put->source),
                           why);
    if (rc < 0)
        return rc;
    rc = field_bool_or(body, "no_replace", false, &put->no_replace, why);
    if (rc < 0)
        return rc;
    rc = field_match(body, put->hash, &matching, match, why);
    if (rc < 0)
        return rc;
    put->match = matching ? match : NULL;
    return 0;
}

/* Step 2 of docs/protocol.md: what is here already. */
static int put_tell(struct put *p, struct exchange *x, struct problem *why)
{
    const struct part *part = draft_part(p->draft);
    keel_auto(mem) void *memory = NULL;
    uint64_t chunks = chunk_count(p->size), missing = chunks;
    struct range all = {0, chunks}, *have = &all;
    size_t count = chunks > 0;
    json_t *note;
    int rc;

    if (part) {
        rc = part_ranges(part, false, RANGES_MOST, &have, &count);
        if (rc < 0)
            return problem(why, NO_MEMORY);
        memory = have;
    }
    for (size_t i = 0; i < count; i++)
        missing -= have[i].to - have[i].from;
    note = json_pack(
        "{s:o, s:o, s:I}", "draft", bytes_to_json(draft_id(p->draft), 16),
        "have", ranges_to_json(have, count), "missing", (json_int_t)missing);
    if (!note)
        return problem(why, NO_MEMORY);
    return exchange_tell(x, note);
}

/* Receives what is missing now. */
static int put_receive(struct conn *c, struct put *p, struct exchange *x,
                       struct problem *why)
{
    struct part *part = draft_part(p->draft);
    keel_auto(mem) void *memory = NULL;
    struct range *missing;
    size_t count;
    int rc;

    rc = part_ranges(part, true, RANGES_MOST, &missing, &count);
    if (rc < 0)
        return problem(why, NO_MEMORY);
    memory = missing;
    if (count == 0)
        return 0;
    rc = conn_transfer_begin(c, why);
    if (rc < 0)
        return rc;
    rc = transfer_receive(part, x, missing, count,
                          vault_buffers(c->native->o.vault), 0, NULL, why);
    conn_transfer_end(c);
    return rc;
}

static int put_run(struct conn *c, struct put *p, struct exchange *x,
                   struct problem *why)
{
    int rc = put_tell(p, x, why);

    if (rc < 0)
        return rc;
    for (;;) {
        switch (p->state) {
        case PUT_RECEIVING:
            rc = put_receive(c, p, x, why);
            if (rc < 0)
                return rc;
            if (p->state == PUT_RECEIVING)
                put_change(p, PUT_COMPLETE);
            break;
        case PUT_COMPLETE:
        case PUT_PUBLISHING:
            rc = put_wait(p);
            if (rc < 0 && p->state != PUT_DONE)
                return problem(why, CANCELLED);
            break;
        case PUT_DONE:
            return exchange_answer(x, NULL);
        }
    }
}

/* A line about an upload: which, whose, how far. */
static void put_log(const struct conn *c, const struct put *p, const char *what)
{
    char name[256];

    text_quote(p->q->path.text, p->q->path.size, name, sizeof(name));
    log_info("trace=%s-%" PRIu32 " account=%s xfer=%02x%02x%02x%02x path=%s "
             "%s: has %" PRIu64 " of %" PRIu64 " bytes",
             c->id, p->id, c->actor.name, p->draft_id[0], p->draft_id[1],
             p->draft_id[2], p->draft_id[3], name, what, p->bytes, p->size);
}

/* The end of a put, however it came: handlers that use it leave first.  A
 * publish in progress runs to its end, so this waits for the disk, not for
 * the peer.  True: another run of the same command has asked for the draft. */
static bool put_end(struct conn *c, struct put *p, const struct problem *why)
{
    bool taken = false;

    keel_shield();
    p->ended = true;
    p->why = why;
    keel_event_set(&p->changed);
    while (p->users > 0)
        put_wait(p);
    LIST_REMOVE(p, node);
    if (p->draft) {
        struct part *part = draft_part(p->draft);

        p->bytes = part ? part_bytes(part) : p->size;
        taken = draft_taken(p->draft);
        draft_close(p->draft);
        put_log(c, p, part ? "kept for a resume" : "left as it is");
    }
    keel_unshield();
    return taken;
}

static int put_answer(struct exchange *x, enum vault_level level,
                      enum chunk_hash hash, const struct digest *root,
                      struct problem *why)
{
    char text[DIGEST_TEXT_BYTES];

    digest_print(hash, root, text);
    return answer(
        x,
        json_pack("{s:s, s:s}", "level", vault_level_name(level), "root", text),
        why);
}

/* "At once": the bytes are here, and nothing of them is kept when it fails. */
static int put_small(struct conn *c, struct exchange *x,
                     const struct request *q, struct problem *why)
{
    enum vault_level level = VAULT_COMMITTED;
    struct digest match, root;
    enum chunk_hash hash;
    struct vault_put put;
    struct draft *draft;
    size_t size;
    int rc;

    rc = put_fields(q, &put, &match, why);
    if (rc < 0)
        return rc;
    rc = field_root(q->body, &hash, &root, why);
    if (rc < 0)
        return rc;
    if (hash != put.hash)
        return problem(why, REQUEST_INVALID, .detail = "root");
    rc = field_level(q->body, &level, why);
    if (rc < 0)
        return rc;
    if (put.size > SMALL_BYTES)
        return problem(why, REQUEST_INVALID, .detail = "size");
    put.content = exchange_inline(x, &size);
    rc = vault_draft_open(c->native->o.vault, &c->actor, &put, &draft, why);
    exchange_inline_drop(x);
    if (rc < 0)
        return rc;
    rc = draft_publish(draft, &root, level, why);
    if (rc < 0) {
        /* What cannot be dropped goes when its time is up, or at a start. */
        (void)draft_drop(draft, NULL);
        return rc;
    }
    return put_answer(x, level, hash, &root, why);
}

/* From the opening to the end, looked at while it lasts. */
static int put_large(struct conn *c, struct exchange *x, struct put *p,
                     struct problem *why)
{
    struct watched w = {.space = p->q->space,
                        .path = &p->q->path,
                        .need = draft_right(p->draft)};
    const struct part *part = draft_part(p->draft);
    bool taken;
    int rc;

    memcpy(p->draft_id, draft_id(p->draft), sizeof(p->draft_id));
    p->bytes = part ? part_bytes(part) : p->size;
    p->state = part ? PUT_RECEIVING : PUT_COMPLETE;
    keel_event_init(&p->changed);
    LIST_INSERT_HEAD(&c->puts, p, node);
    put_log(c, p, "opened");
    conn_watch(c, &w);
    rc = conn_unwatch(c, &w, put_run(c, p, x, why), why);
    taken = put_end(
        c, p,
        rc < 0 && rc != -ECANCELED && why->id != PROBLEM_NONE ? why : NULL);
    /* A publish runs to its end also when its put was cancelled meanwhile. */
    if (p->state == PUT_DONE && rc < 0)
        return exchange_answer(x, NULL);
    if (taken)
        return problem(why, TRANSFER_TAKEN,
                       .name = shown_path(p->q->path.text).text);
    return rc;
}

static int put_begin(struct conn *c, struct exchange *x,
                     const struct request *q, struct problem *why)
{
    struct put p = {.id = exchange_id(x), .q = q, .state = PUT_RECEIVING};
    struct vault_put put;
    struct digest match;
    int rc;

    if (json_object_get(q->body, "root"))
        return problem(why, REQUEST_INVALID, .detail = "'level' is missing");
    if (json_object_get(q->body, "level"))
        return problem(why, REQUEST_INVALID, .detail = "'root' is missing");
    rc = put_fields(q, &put, &match, why);
    if (rc < 0)
        return rc;
    put.holder = keel_current();
    rc = vault_draft_open(c->native->o.vault, &c->actor, &put, &p.draft, why);
    if (rc < 0)
        return rc;
    p.hash = put.hash;
    p.size = put.size;
    return put_large(c, x, &p, why);
}

int verb_put(struct conn *c, struct exchange *x, const struct request *q,
             struct problem *why)
{
    struct native *n = c->native;
    int rc;

    n->counters.puts++;
    rc = at_once(q->body) ? put_small(c, x, q, why) : put_begin(c, x, q, why);
    n->counters.puts--;
    return rc;
}

/* Finds an upload by the "put" field, waits until all its data has been
 * written, and counts the caller in; put_leave is the counterpart. */
static int put_enter(struct conn *c, const json_t *body, struct put **ret,
                     struct problem *why)
{
    struct put *p;
    uint64_t id;
    int rc = field_u64(body, "put", INT32_MAX, &id, why);

    if (rc < 0)
        return rc;
    LIST_FOREACH (p, &c->puts, node) {
        if (p->id == id)
            break;
    }
    if (!p || p->ended)
        return problem(why, TRANSFER_UNKNOWN);
    p->users++;
    while (p->state == PUT_RECEIVING && !p->ended) {
        rc = put_wait(p);
        if (rc < 0)
            break;
    }
    if (rc < 0 || p->ended || p->state != PUT_COMPLETE) {
        p->users--;
        keel_event_set(&p->changed);
        if (rc < 0)
            return problem(why, CANCELLED);
        if (!p->ended || !p->why)
            return problem(why, TRANSFER_UNKNOWN);
        *why = *p->why; /* a full disk, say: that is what ended both */
        return -problem_row(why->id)->errno_;
    }
    *ret = p;
    return 0;
}

static void put_leave(struct put *p)
{
    p->users--;
    keel_event_set(&p->changed);
}

int verb_put_commit(struct conn *c, struct exchange *x, const struct request *q,
                    struct problem *why)
{
    enum vault_level level = VAULT_COMMITTED;
    enum chunk_hash hash;
    struct digest root;
    struct put *p;
    int rc;

    rc = field_root(q->body, &hash, &root, why);
    if (rc < 0)
        return rc;
    rc = field_level(q->body, &level, why);
    if (rc < 0)
        return rc;
    rc = put_enter(c, q->body, &p, why);
    if (rc < 0)
        return rc;
    if (hash != p->hash) {
        put_leave(p);
        return problem(why, REQUEST_INVALID, .detail = "root");
    }
    put_change(p, PUT_PUBLISHING);
    /* A grant may have been withdrawn since the data came. */
    rc = conn_still(c, p->q->space, &p->q->path, draft_right(p->draft), why);
    if (rc == 0)
        rc = draft_publish(p->draft, &root, level, why);
    if (rc < 0) {
        put_change(p, PUT_COMPLETE);
        put_leave(p);
        return rc;
    }
    p->draft = NULL; /* used up */
    rc = put_answer(x, level, hash, &root, why);
    put_change(p, PUT_DONE);
    put_leave(p);
    return rc;
}

/* The client's own leaves: chunks whose leaf differs are withdrawn, to be sent
 * again.  {"put", "from", "leaves"} -> {"missing": ranges} */
#define LEAVES_MOST 1024

int verb_put_leaves(struct conn *c, struct exchange *x, const struct request *q,
                    struct problem *why)
{
    keel_auto(mem) void *memory = NULL;
    struct digest *theirs;
    const struct digest *ours;
    size_t size, count;
    struct range *missing;
    uint64_t from;
    struct put *p;
    struct part *part;
    json_t *ok = NULL;
    int rc;

    rc = field_u64(q->body, "from", INT64_MAX, &from, why);
    if (rc < 0)
        return rc;
    theirs = memory = keel_calloc(LEAVES_MOST, sizeof(*theirs));
    if (!theirs)
        return problem(why, NO_MEMORY);
    rc = field_blob(q->body, "leaves", sizeof(*theirs),
                    LEAVES_MOST * sizeof(*theirs), theirs, &size, why);
    if (rc < 0)
        return rc;
    rc = put_enter(c, q->body, &p, why);
    if (rc < 0)
        return rc;
    part = draft_part(p->draft);
    count = size / sizeof(*theirs);
    if (!part || size % sizeof(*theirs) ||
        from > chunk_count(part_size(part)) ||
        count > chunk_count(part_size(part)) - from) {
        put_leave(p);
        return problem(why, REQUEST_INVALID, .detail = "leaves");
    }
    put_change(p, PUT_PUBLISHING); /* nobody else may have the part now */
    ours = part_leaves(part) + from;
    rc = 0;
    for (size_t i = 0; i < count && rc == 0; i++) {
        if (memcmp(&ours[i], &theirs[i], sizeof(*theirs)) != 0)
            rc = part_withdraw(part, from + i, why);
    }
    if (rc == 0) {
        rc = part_ranges(part, true, RANGES_MOST, &missing, &count);
        if (rc == 0) {
            ok = json_one("missing", ranges_to_json(missing, count));
            keel_free(missing);
        }
    }
    put_change(p, part_missing(part, 0) < chunk_count(part_size(part))
                      ? PUT_RECEIVING
                      : PUT_COMPLETE);
    put_leave(p);
    if (rc < 0)
        return rc;
    return answer(x, ok, why);
}
