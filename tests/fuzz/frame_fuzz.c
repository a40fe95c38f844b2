/* SPDX-License-Identifier: MIT */
/* Frames from outside: the first byte chooses the limits, the rest is what the
 * stream brings. */
#include <stdlib.h>

#include "wire/frame.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

/* What was accepted keeps to what docs/protocol.md says. */
static void check(const struct wire_frame *f, const struct wire_limits *limits)
{
    keel_assert(limits->kinds & 1u << f->kind);
    switch (f->kind) {
    case WIRE_DATA:
        keel_assert(f->size >= 1 && f->size <= WIRE_DATA_BYTES);
        keel_assert(f->offset <= (uint64_t)INT64_MAX - f->size);
        break;
    case WIRE_CREDIT:
        keel_assert(f->size >= 1 && f->size <= WIRE_CREDIT_MOST);
        break;
    case WIRE_CANCEL:
        break;
    default:
        keel_assert(json_is_object(f->json));
        return;
    }
    keel_assert(!f->json && f->id >= 1 && f->id <= INT32_MAX);
}

static void read_all(struct keel_stream *s, const struct wire_limits *limits)
{
    static uint8_t payload[WIRE_DATA_BYTES];
    struct problem why;
    struct wire_frame f;

    while (wire_read(s, limits, &f, KEEL_NOW, &why) == 0) {
        check(&f, limits);
        wire_frame_fini(&f);
        if (f.kind == WIRE_DATA &&
            keel_stream_read_all(s, payload, f.size, NULL, KEEL_NOW) < 0)
            return;
    }
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    struct wire_limits limits = {.kinds = 0x1fe,
                                 .json_bytes = WIRE_JSON_BYTES,
                                 .reply_bytes = WIRE_REPLY_BYTES};
    struct keel_stream *pair[2];

    if (size < 2 || keel_stream_pair(size, pair) < 0)
        return 0;
    if (data[0] & 1)
        limits.json_bytes = WIRE_JSON_EARLY_BYTES;
    if (data[0] & 2)
        limits.kinds = 1u << WIRE_HELLO | 1u << WIRE_GOODBYE;
    if (keel_stream_write(pair[0], data + 1, size - 1, KEEL_NOW) == 0 &&
        keel_stream_finish(pair[0], KEEL_NOW) == 0)
        read_all(pair[1], &limits);
    keel_stream_close(pair[0]);
    keel_stream_close(pair[1]);
    return 0;
}
