/* SPDX-License-Identifier: MIT */
/* Names, paths and problems from outside. */
#include <stdlib.h>
#include <string.h>

#include "base/name.h"
#include "base/problem.h"

static void paths(const char *bytes, size_t size)
{
    struct path p, again;

    if (path_parse(bytes, size, &p, NULL) < 0)
        return;
    keel_assert(p.size == strlen(p.text) && p.count <= PATH_DEPTH);
    for (unsigned i = 0; i < p.count; i++) {
        size_t end = i + 1 < p.count ? p.start[i + 1] - 1u : p.size;

        keel_assert(name_check(p.text + p.start[i], end - p.start[i], NULL) ==
                    0);
    }
    /* What was parsed parses to itself. */
    keel_assert(path_parse(p.text, p.size, &again, NULL) == 0);
    keel_assert(again.count == p.count && !strcmp(again.text, p.text));
}

static void terminal(const char *bytes, size_t size)
{
    size_t room = size % 97 + 1;
    char *text = malloc(room);

    keel_assert(text);
    text_escape(bytes, size, text, room);
    keel_assert(strlen(text) < room);
    for (const char *c = text; *c; c++)
        keel_assert((uint8_t)*c >= 0x20 && *c != 0x7f);
    free(text);
}

static void problems(const char *bytes, size_t size)
{
    json_t *j = json_loadb(bytes, size, JSON_DECODE_ANY | JSON_ALLOW_NUL, NULL);
    char sentence[3000];
    struct problem p, q;

    if (!j)
        return;
    problem_from_json(j, &p);
    json_decref(j);
    problem_sentence(&p, sentence, sizeof sentence);
    for (const char *c = sentence; *c; c++)
        keel_assert((uint8_t)*c >= 0x20 && *c != 0x7f);
    j = problem_to_json(&p);
    keel_assert(j);
    problem_from_json(j, &q);
    json_decref(j);
    keel_assert(!strcmp(problem_code(&p), problem_code(&q)));
    keel_assert(p.limit == q.limit && !strcmp(p.name, q.name));
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);
int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    paths((const char *)data, size);
    terminal((const char *)data, size);
    problems((const char *)data, size);
    return 0;
}
