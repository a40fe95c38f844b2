/* SPDX-License-Identifier: MIT */
/* The entries of a listing, as the client takes them from a server that it does
 * not trust. */
#include <string.h>

#include "client/remote.h"
#include "wire/frame.h"

static void entry(const json_t *j)
{
    struct remote_entry e;
    struct problem why;
    char shown[4 * NAME_BYTES + 1], sentence[3000];

    if (remote_entry_parse(j, &e, &why) < 0) {
        problem_sentence(&why, sentence, sizeof(sentence));
        return;
    }
    keel_assert(name_check(e.name, strlen(e.name), NULL) == 0);
    keel_assert(strchr("fdl?", e.type) && e.type);
    keel_assert(e.size <= INT64_MAX && (e.mode & ~07777u) == 0);
    keel_assert(e.hash == 0 || chunk_hash_name(e.hash));
    text_escape(e.name, strlen(e.name), shown, sizeof(shown));
    for (const char *c = shown; *c; c++)
        keel_assert((uint8_t)*c >= 0x20 && *c != 0x7f);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);
int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    struct problem why;
    json_t *j, *value;
    size_t i;

    if (size > WIRE_JSON_BYTES)
        return 0;
    if (wire_json_parse((const char *)data, size, &j, &why) < 0)
        return 0;
    json_array_foreach(json_object_get(j, "entries"), i, value) entry(value);
    json_decref(j);
    return 0;
}
