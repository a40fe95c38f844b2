/* SPDX-License-Identifier: MIT */
#include "wire/frame.h"

#include <errno.h>
#include <string.h>

#include "wire/json.h"

/* What a kind is: how much may follow the kind byte. */
static const struct kind {
    bool json, reply; /* reply: of the larger JSON limit */
    uint32_t least, most;
} kinds[] = {
    [WIRE_HELLO] = {.json = true},
    [WIRE_REQUEST] = {.json = true},
    [WIRE_REPLY] = {.json = true, .reply = true},
    [WIRE_DATA] = {.least = WIRE_DATA_HEAD_BYTES + 1,
                   .most = WIRE_DATA_HEAD_BYTES + WIRE_DATA_BYTES},
    [WIRE_CREDIT] = {.least = 8, .most = 8},
    [WIRE_CANCEL] = {.least = 4, .most = 4},
    [WIRE_GOODBYE] = {.json = true},
    [WIRE_NOTE] = {.json = true, .reply = true},
};

static int lost(struct problem *why, int rc)
{
    if (rc == -ECANCELED)
        return problem(why, CANCELLED);
    return problem(why, CONNECT_LOST, .errno_ = -rc);
}

static int broken(struct problem *why, const char *detail)
{
    return problem(why, PROTOCOL_BROKEN, .detail = detail);
}

/* Compares `size`, the bytes after the kind, before anything is read. */
static int check_size(const struct kind *k, const struct wire_limits *limits,
                      uint32_t size, struct problem *why)
{
    size_t most = k->most;

    if (k->json)
        most = k->reply ? limits->reply_bytes : limits->json_bytes;
    if (size > most)
        return problem(why, PROTOCOL_TOO_LONG, .size = size, .limit = most);
    if (size < (k->json ? 2 : k->least))
        return broken(why, "a frame is too short for its kind");
    return 0;
}

static int check_id(uint32_t id, struct problem *why)
{
    if (id == 0 || id > INT32_MAX)
        return broken(why, "a request's id is not within 1 and 2^31-1");
    return 0;
}

static int read_json(struct keel_stream *s, const struct wire_limits *limits,
                     uint32_t size, json_t **ret, keel_ns deadline,
                     struct problem *why)
{
    keel_auto(str) char *text = keel_alloc(size);
    int rc;

    if (!text)
        return problem(why, NO_MEMORY);
    rc = keel_stream_read_all(s, text, size, NULL, deadline);
    if (rc < 0)
        return lost(why, rc);
    return wire_json_parse_most(text, size,
                                limits->json_bytes <= WIRE_JSON_EARLY_BYTES
                                    ? WIRE_JSON_EARLY_VALUES
                                    : WIRE_JSON_VALUES,
                                ret, why);
}

static int read_binary(struct keel_stream *s, uint32_t size,
                       struct wire_frame *f, keel_ns deadline,
                       struct problem *why)
{
    uint8_t head[WIRE_DATA_HEAD_BYTES];
    size_t head_size = f->kind == WIRE_DATA ? sizeof(head) : size;
    int rc = keel_stream_read_all(s, head, head_size, NULL, deadline);

    if (rc < 0)
        return lost(why, rc);
    f->id = keel_be32(head);
    if (f->kind == WIRE_CREDIT)
        f->size = keel_be32(head + 4);
    if (f->kind == WIRE_CREDIT && (f->size == 0 || f->size > WIRE_CREDIT_MOST))
        return broken(why, "a credit is not within 1 and 2^30 bytes");
    if (f->kind == WIRE_DATA) {
        f->offset = keel_be64(head + 4);
        f->size = size - WIRE_DATA_HEAD_BYTES;
        if (f->offset > (uint64_t)INT64_MAX - f->size)
            return broken(why, "data lies beyond 2^63-1");
    }
    return check_id(f->id, why);
}

/* Length and kind.  A length of 0 has no kind behind it, so that nobody waits
 * for one. */
static int read_head(struct keel_stream *s, uint8_t head[WIRE_HEAD_BYTES],
                     keel_ns deadline, struct problem *why)
{
    size_t got = 0;

    while (got < WIRE_HEAD_BYTES) {
        ssize_t n =
            keel_stream_read(s, head + got, WIRE_HEAD_BYTES - got, deadline);

        if ((n == 0 || n == -ECONNABORTED) && got == 0)
            return -ENODATA;
        if (n <= 0)
            return lost(why, n < 0 ? (int)n : -ECONNABORTED);
        got += (size_t)n;
        if (got >= 4 && keel_be32(head) == 0)
            return broken(why, "a frame is too short for its kind");
    }
    return 0;
}

int wire_read(struct keel_stream *s, const struct wire_limits *limits,
              struct wire_frame *ret, keel_ns deadline, struct problem *why)
{
    uint8_t head[WIRE_HEAD_BYTES];
    struct wire_frame f = {.json = NULL};
    uint32_t length;
    int rc = read_head(s, head, deadline, why);

    if (rc < 0)
        return rc;
    length = keel_be32(head);
    f.kind = head[4];
    if (f.kind < WIRE_HELLO || f.kind > WIRE_NOTE ||
        !(limits->kinds & 1u << f.kind))
        return broken(why, "a frame is of a kind that has no place here");
    rc = check_size(&kinds[f.kind], limits, length - 1, why);
    if (rc < 0)
        return rc;
    rc = kinds[f.kind].json
             ? read_json(s, limits, length - 1, &f.json, deadline, why)
             : read_binary(s, length - 1, &f, deadline, why);
    if (rc < 0)
        return rc;
    if (f.json)
        f.size = length - 1;
    *ret = f;
    return 0;
}

void wire_frame_fini(struct wire_frame *f)
{
    json_decref(f->json);
    f->json = NULL;
}

int wire_json_encode_room(enum wire_kind kind, const json_t *j, size_t room,
                          uint8_t **ret, size_t *ret_size)
{
    const struct kind *k = &kinds[kind];
    size_t most = k->reply ? WIRE_REPLY_BYTES : WIRE_JSON_BYTES, size;
    uint8_t *bytes;

    keel_assert(k->json && json_is_object(j));
    size = json_dumpb(j, NULL, 0, JSON_COMPACT);
    if (size == 0)
        return -ENOMEM;
    if (size > most)
        return -EMSGSIZE;
    bytes = keel_alloc(WIRE_HEAD_BYTES + size + room);
    if (!bytes)
        return -ENOMEM;
    keel_be32_put(bytes, (uint32_t)size + 1);
    bytes[4] = (uint8_t)kind;
    /* It may fail this time: jansson takes memory to detect circles. */
    if (json_dumpb(j, (char *)bytes + WIRE_HEAD_BYTES, size, JSON_COMPACT) !=
        size) {
        keel_free(bytes);
        return -ENOMEM;
    }
    *ret = bytes;
    *ret_size = WIRE_HEAD_BYTES + size;
    return 0;
}

int wire_json_encode(enum wire_kind kind, const json_t *j, uint8_t **ret,
                     size_t *ret_size)
{
    return wire_json_encode_room(kind, j, 0, ret, ret_size);
}

void wire_data_head(uint32_t id, uint64_t offset, uint32_t size,
                    uint8_t ret[WIRE_HEAD_BYTES + WIRE_DATA_HEAD_BYTES])
{
    keel_be32_put(ret, 1 + (uint32_t)WIRE_DATA_HEAD_BYTES + size);
    ret[4] = WIRE_DATA;
    keel_be32_put(ret + 5, id);
    keel_be64_put(ret + 9, offset);
}

size_t wire_small(enum wire_kind kind, uint32_t id, uint32_t bytes,
                  uint8_t ret[16])
{
    size_t body = kind == WIRE_CREDIT ? 8 : 4;

    keel_be32_put(ret, 1 + (uint32_t)body);
    ret[4] = (uint8_t)kind;
    keel_be32_put(ret + 5, id);
    if (kind == WIRE_CREDIT)
        keel_be32_put(ret + 9, bytes);
    return WIRE_HEAD_BYTES + body;
}
