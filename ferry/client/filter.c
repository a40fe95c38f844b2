/* SPDX-License-Identifier: MIT */
#include "client/filter.h"

#include <fnmatch.h>
#include <string.h>

#include "base/name.h"

static bool matches(const char *pattern, const char *path, bool directory)
{
    const char *leaf = strrchr(path, '/');
    size_t size = strlen(pattern);
    char text[PATH_BYTES + 1];

    if (size == 0 || size > PATH_BYTES)
        return false;
    memcpy(text, pattern, size + 1);
    if (text[size - 1] == '/') {
        if (!directory)
            return false;
        text[size - 1] = 0;
    }
    if (!strchr(text, '/'))
        return fnmatch(text, leaf ? leaf + 1 : path, 0) == 0;
    return fnmatch(text[0] == '/' ? text + 1 : text, path, FNM_PATHNAME) == 0;
}

bool filter_keeps(const struct filter *filters, unsigned count,
                  const char *path, bool directory)
{
    for (unsigned i = 0; i < count; i++) {
        if (matches(filters[i].pattern, path, directory))
            return filters[i].include;
    }
    return true;
}
