/* SPDX-License-Identifier: MIT */
/* Patterns of --exclude and --include over the paths of a tree: a byte for both
 * flags, the pattern, a NUL, the path. */
#include <stdlib.h>
#include <string.h>

#include "client/filter.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

/* What has nothing special in it is meant as it is written. */
static void check_plain(const char *pattern, const char *path, bool directory,
                        bool kept)
{
    size_t size = strlen(pattern);
    const char *leaf = strrchr(path, '/');

    if (size == 0 || size > PATH_BYTES)
        keel_assert(kept);
    else if (!strpbrk(pattern, "*?[]\\/"))
        keel_assert(kept == (strcmp(pattern, leaf ? leaf + 1 : path) != 0));
    else if (pattern[size - 1] == '/' && !directory)
        keel_assert(kept);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    struct filter f[2] = {{.include = false}, {.include = true}};
    char *text = malloc(size + 2);
    const char *path;
    bool directory, kept;

    keel_assert(text);
    if (size)
        memcpy(text, data, size);
    text[size] = text[size + 1] = 0;
    directory = text[0] & 1;
    if (size) {
        f[0].pattern = text + 1;
        path = f[0].pattern + strlen(f[0].pattern) + 1;
        if (path > text + size + 1)
            path = text + size + 1;
        kept = filter_keeps(f, 1, path, directory);
        check_plain(f[0].pattern, path, directory, kept);
        /* The first that matches decides. */
        f[1].pattern = f[0].pattern;
        keel_assert(filter_keeps(f, 2, path, directory) == kept);
        keel_assert(filter_keeps(f + 1, 1, path, directory));
    }
    free(text);
    return 0;
}
