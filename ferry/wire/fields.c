/* SPDX-License-Identifier: MIT */
#include <errno.h>
#include <stdio.h>
#include <string.h>

#include "base/base64.h"
#include "wire/frame.h"

static int invalid(struct problem *why, const char *key, const char *wrong)
{
    char detail[PROBLEM_TEXT_BYTES];

    snprintf(detail, sizeof(detail), "'%s' %s", key, wrong);
    return problem(why, REQUEST_INVALID, .detail = detail);
}

int field_u64(const json_t *j, const char *key, uint64_t max, uint64_t *ret,
              struct problem *why)
{
    const json_t *v = json_object_get(j, key);

    if (!v)
        return invalid(why, key, "is missing");
    if (!json_is_integer(v) || json_integer_value(v) < 0)
        return invalid(why, key, "is no number from 0 up");
    if ((uint64_t)json_integer_value(v) > max)
        return invalid(why, key, "is too large");
    *ret = (uint64_t)json_integer_value(v);
    return 0;
}

int field_u64_or(const json_t *j, const char *key, uint64_t max,
                 uint64_t fallback, uint64_t *ret, struct problem *why)
{
    if (!json_object_get(j, key)) {
        *ret = fallback;
        return 0;
    }
    return field_u64(j, key, max, ret, why);
}

int field_i64(const json_t *j, const char *key, int64_t *ret,
              struct problem *why)
{
    const json_t *v = json_object_get(j, key);

    if (!v)
        return invalid(why, key, "is missing");
    if (!json_is_integer(v))
        return invalid(why, key, "is no whole number");
    *ret = json_integer_value(v);
    return 0;
}

int field_bool_or(const json_t *j, const char *key, bool fallback, bool *ret,
                  struct problem *why)
{
    const json_t *v = json_object_get(j, key);

    if (v && !json_is_boolean(v))
        return invalid(why, key, "is neither true nor false");
    *ret = v ? json_is_true(v) : fallback;
    return 0;
}

int field_text(const json_t *j, const char *key, size_t max, const char **ret,
               struct problem *why)
{
    const json_t *v = json_object_get(j, key);

    if (!v)
        return invalid(why, key, "is missing");
    if (!json_is_string(v))
        return invalid(why, key, "is no text");
    if (json_string_length(v) > max)
        return invalid(why, key, "is too long");
    /* Not from the parser, which refuses \u0000, but json_t may be ours. */
    if (strlen(json_string_value(v)) != json_string_length(v))
        return invalid(why, key, "has a NUL inside");
    *ret = json_string_value(v);
    return 0;
}

int field_blob(const json_t *j, const char *key, size_t least, size_t most,
               void *ret, size_t *ret_size, struct problem *why)
{
    const json_t *v = json_object_get(j, key);
    ssize_t size;

    if (!v)
        return invalid(why, key, "is missing");
    if (!json_is_string(v))
        return invalid(why, key, "is no base64");
    size = base64_decode(BASE64_STANDARD, json_string_value(v),
                         json_string_length(v), ret, most);
    if (size == -EINVAL)
        return invalid(why, key, "is no base64");
    if (size < 0 || (size_t)size < least)
        return invalid(why, key, "has not the right number of bytes");
    *ret_size = (size_t)size;
    return 0;
}

int field_bytes(const json_t *j, const char *key, void *ret, size_t size,
                struct problem *why)
{
    size_t got;

    return field_blob(j, key, size, size, ret, &got, why);
}

json_t *bytes_to_json(const void *bytes, size_t size)
{
    keel_auto(str) char *text = NULL;

    text = keel_alloc(BASE64_TEXT_BYTES(size));
    if (!text)
        return NULL;
    base64_encode(BASE64_STANDARD, bytes, size, text);
    return json_string_nocheck(text);
}
