/* SPDX-License-Identifier: MIT */
/* Frames of the native protocol, read from and written to a stream.  Formats
 * and limits: docs/protocol.md.  Every length is compared before memory is
 * taken or bytes are read. */
#ifndef FERRY_FRAME_H
#define FERRY_FRAME_H

#include <jansson.h>

#include <keel/stream.h>

#include "base/problem.h"

enum wire_kind {
    WIRE_HELLO = 1,
    WIRE_REQUEST,
    WIRE_REPLY,
    WIRE_DATA,
    WIRE_CREDIT,
    WIRE_CANCEL,
    WIRE_GOODBYE,
    WIRE_NOTE,
};
#define WIRE_DATA_BYTES ((size_t)256 << 10)
#define WIRE_JSON_BYTES ((size_t)64 << 10)
#define WIRE_JSON_EARLY_BYTES ((size_t)8 << 10) /* before login */
#define WIRE_REPLY_BYTES ((size_t)1 << 20)
#define WIRE_JSON_DEPTH 16
#define WIRE_JSON_VALUES 16384    /* '[', '{' and ',' outside strings */
#define WIRE_JSON_EARLY_VALUES 64 /* where json_bytes is the early limit */
#define WIRE_CREDIT_MOST ((uint32_t)1 << 30)
#define WIRE_HEAD_BYTES 5
#define WIRE_DATA_HEAD_BYTES 12

struct wire_frame {
    enum wire_kind kind;
    json_t *json;    /* owned; kinds with JSON */
    uint32_t id;     /* DATA, CREDIT, CANCEL */
    uint64_t offset; /* DATA */
    uint32_t size;   /* DATA: bytes that follow in the stream, not yet read;
                        CREDIT: bytes granted; JSON: bytes of its text */
};
/* What a side accepts; the other kinds are PROTOCOL_BROKEN. */
struct wire_limits {
    uint32_t kinds; /* 1u << kind, ... */
    size_t json_bytes, reply_bytes;
};

/* -ENODATA, `why` untouched: the stream ended between frames, in order.
 * CONNECT_LOST, CANCELLED; the stream is of no more use after any error.
 * PROTOCOL_BROKEN, PROTOCOL_TOO_LONG, NO_MEMORY */
int wire_read(struct keel_stream *s, const struct wire_limits *limits,
              struct wire_frame *ret, keel_ns deadline, struct problem *why);
void wire_frame_fini(struct wire_frame *f);

/* Parses one JSON object as docs/protocol.md limits it. */
int wire_json_parse(const char *text, size_t size, json_t **ret,
                    struct problem *why);
/* Encodes a whole JSON frame, header included, into fresh memory (keel_free).
 * -EMSGSIZE: longer than a peer accepts. */
int wire_json_encode(enum wire_kind kind, const json_t *j, uint8_t **ret,
                     size_t *ret_size);
/* Likewise, with `room` bytes behind it that ret_size does not count. */
int wire_json_encode_room(enum wire_kind kind, const json_t *j, size_t room,
                          uint8_t **ret, size_t *ret_size);
/* The 17 bytes before a DATA frame's payload. */
void wire_data_head(uint32_t id, uint64_t offset, uint32_t size,
                    uint8_t ret[WIRE_HEAD_BYTES + WIRE_DATA_HEAD_BYTES]);
/* CREDIT and CANCEL; returns the size. */
size_t wire_small(enum wire_kind kind, uint32_t id, uint32_t bytes,
                  uint8_t ret[16]);

/* Fields of a request or reply: what is missing or not of its kind is
 * REQUEST_INVALID with the field's name.  `fallback` forms: absent is fine. */
int field_u64(const json_t *j, const char *key, uint64_t max, uint64_t *ret,
              struct problem *why);
int field_u64_or(const json_t *j, const char *key, uint64_t max,
                 uint64_t fallback, uint64_t *ret, struct problem *why);
int field_i64(const json_t *j, const char *key, int64_t *ret,
              struct problem *why);
int field_bool_or(const json_t *j, const char *key, bool fallback, bool *ret,
                  struct problem *why);
/* Lent from `j`; no NUL inside, at most `max` bytes. */
int field_text(const json_t *j, const char *key, size_t max, const char **ret,
               struct problem *why);
/* Exactly `size` bytes of base64. */
int field_bytes(const json_t *j, const char *key, void *ret, size_t size,
                struct problem *why);
/* Between `least` and `most` bytes of base64; on error too `ret` may have been
 * written to. */
int field_blob(const json_t *j, const char *key, size_t least, size_t most,
               void *ret, size_t *ret_size, struct problem *why);
json_t *bytes_to_json(const void *bytes, size_t size); /* base64 */

#endif
