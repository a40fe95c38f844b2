/* SPDX-License-Identifier: MIT */
/* JSON from outside, and every kind of field taken from it. */
#include <string.h>

#include "base/name.h"
#include "transfer/transfer.h"
#include "wire/frame.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static void take_fields(const json_t *j, const char *key)
{
    struct problem why, of;
    uint8_t bytes[64];
    struct range *r;
    const char *text;
    uint64_t n;
    int64_t i;
    size_t count;
    bool b;

    if (field_u64(j, key, 1000, &n, &why) == 0)
        keel_assert(n <= 1000);
    (void)field_i64(j, key, &i, &why);
    (void)field_bool_or(j, key, true, &b, &why);
    if (field_text(j, key, 32, &text, &why) == 0)
        keel_assert(strlen(text) <= 32);
    if (field_blob(j, key, 3, sizeof(bytes), bytes, &count, &why) == 0)
        keel_assert(count >= 3 && count <= sizeof(bytes));
    (void)field_bytes(j, key, bytes, 16, &why);
    problem_from_json(json_object_get(j, key), &of);
    if (ranges_from_json(json_object_get(j, key), 100, 10, &r, &count, &why) ==
        0) {
        for (size_t k = 0; k < count; k++)
            keel_assert(r[k].from < r[k].to && r[k].to <= 100 &&
                        (k == 0 || r[k].from > r[k - 1].to));
        keel_free(r);
    }
}

/* What was accepted comes back the same, unless it grew beyond the limit: a
 * real number may print longer than it was. */
static void round_trip(const json_t *j)
{
    struct problem why;
    json_t *back;
    uint8_t *frame;
    size_t size;

    if (wire_json_encode(WIRE_REPLY, j, &frame, &size) < 0)
        return;
    keel_assert(wire_json_parse((const char *)frame + WIRE_HEAD_BYTES,
                                size - WIRE_HEAD_BYTES, &back, &why) == 0);
    keel_assert(json_equal(j, back));
    json_decref(back);
    keel_free(frame);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    struct problem why;
    const char *key;
    json_t *j, *value;

    if (size > WIRE_JSON_BYTES)
        return 0;
    if (wire_json_parse((const char *)data, size, &j, &why) < 0)
        return 0;
    json_object_foreach(j, key, value) take_fields(j, key);
    round_trip(j);
    json_decref(j);
    return 0;
}
