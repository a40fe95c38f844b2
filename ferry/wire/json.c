/* SPDX-License-Identifier: MIT */
/* JSON from outside.  jansson parses by recursion, to a depth of 2048, and
 * makes 50 to 250 bytes of memory of the three of "[]," or "{},": so depth and
 * number of values are counted before it sees the text. */
#include "wire/json.h"

#include <errno.h>
#include <string.h>

/* jansson's memory comes through the seam like all other memory. */
__attribute__((constructor)) static void json_memory(void)
{
    json_set_alloc_funcs(keel_alloc, keel_free);
}

struct scan {
    size_t depth, values;
    bool quoted;
};

/* Returns what is wrong with one byte outside strings, or NULL. */
static const char *scan_byte(struct scan *s, char c)
{
    switch (c) {
    case '[':
    case '{':
        s->values++;
        return ++s->depth > WIRE_JSON_DEPTH ? "JSON is nested too deep" : NULL;
    case ']':
    case '}':
        s->depth -= s->depth > 0;
        return NULL;
    case ',':
        s->values++;
        return NULL;
    default:
        return NULL;
    }
}

/* Whether the text is JSON at all is the parser's to find out. */
static const char *scan(const char *text, size_t size, size_t values_max)
{
    struct scan s = {.values = 0};

    for (size_t i = 0; i < size; i++) {
        const char *wrong = NULL;

        if (text[i] == '"')
            s.quoted = !s.quoted;
        else if (s.quoted)
            i += text[i] == '\\';
        else
            wrong = scan_byte(&s, text[i]);
        if (wrong)
            return wrong;
        if (s.values > values_max)
            return "JSON has too many values";
    }
    return NULL;
}

int wire_json_parse_most(const char *text, size_t size, size_t values_max,
                         json_t **ret, struct problem *why)
{
    const char *wrong = scan(text, size, values_max);
    json_error_t error = {0};
    json_t *j;

    if (wrong)
        return problem(why, PROTOCOL_BROKEN, .detail = wrong);
    j = json_loadb(text, size, JSON_REJECT_DUPLICATES, &error);
    /* The parser's own first allocation fails without a code. */
    if (!j && (json_error_code(&error) == json_error_out_of_memory ||
               json_error_code(&error) == json_error_unknown))
        return problem(why, NO_MEMORY);
    if (!j)
        return problem(why, PROTOCOL_BROKEN, .detail = error.text);
    if (!json_is_object(j)) {
        json_decref(j);
        return problem(why, PROTOCOL_BROKEN, .detail = "JSON is no object");
    }
    *ret = j;
    return 0;
}

int wire_json_parse(const char *text, size_t size, json_t **ret,
                    struct problem *why)
{
    return wire_json_parse_most(text, size, WIRE_JSON_VALUES, ret, why);
}
