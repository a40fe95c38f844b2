/* SPDX-License-Identifier: MIT */
/* The entries of a listing, as the client takes them from a server that it does
 * not trust: one by one, and as a page of a walk. */
#include <string.h>

#include "client/walk_page.h"
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

/* Files and directories apart, each name behind the one before. */
static void page_is_whole(const struct walk_page *p, bool dirs,
                          const char *last)
{
    for (unsigned i = 0; i < p->count; i++) {
        const struct walk_entry *e = &p->entries[i];

        keel_assert((e->type == 'd') == dirs);
        keel_assert(name_check(e->name, strlen(e->name), NULL) == 0);
        keel_assert(i == 0 || strcmp(e[-1].name, e->name) < 0);
        keel_assert(strcmp(e->name, last) <= 0);
        keel_assert(!e->target || (e->type == 'l' && e->target[0]));
    }
}

static void page(const json_t *j)
{
    struct walk_answer a;
    struct problem why;

    if (walk_answer_parse(j, "B", &a, &why) < 0)
        return;
    page_is_whole(a.files, false, a.last);
    page_is_whole(a.dirs, true, a.last);
    keel_assert(!a.more || a.files->count + a.dirs->count > 0);
    walk_answer_fini(&a);
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
    page(j);
    json_decref(j);
    return 0;
}
