/* SPDX-License-Identifier: MIT */
#include "client/filter.h"

#include <fnmatch.h>
#include <string.h>

#include "base/name.h"

/* The end of the name that `path` begins with. */
static const char *name_end(const char *path)
{
    return path + strcspn(path, "/");
}

static bool name_matches(const char *pattern, const char *name)
{
    size_t p = strcspn(pattern, "/"), n = strcspn(name, "/");
    char what[NAME_BYTES + 1], whom[NAME_BYTES + 1];

    if (p >= sizeof(what) || n >= sizeof(whom))
        return false;
    memcpy(what, pattern, p);
    memcpy(whom, name, n);
    what[p] = whom[n] = 0;
    return fnmatch(what, whom, 0) == 0;
}

static bool is_any(const char *pattern)
{
    return strncmp(pattern, "**", 2) == 0 && name_end(pattern) == pattern + 2;
}

static const char *next(const char *end)
{
    return end + (*end == '/');
}

/* Name by name; "**" is any number of names, and what a later one takes is
 * never given back to an earlier one, which could take no more by it. */
static bool path_matches(const char *pattern, const char *path)
{
    const char *behind = NULL, *mark = NULL;

    while (*path) {
        if (*pattern && is_any(pattern)) {
            behind = next(name_end(pattern));
            mark = path;
            pattern = behind;
            if (!*pattern)
                return true;
        } else if (*pattern && name_matches(pattern, path)) {
            pattern = next(name_end(pattern));
            path = next(name_end(path));
        } else if (behind) {
            mark = next(name_end(mark));
            path = mark;
            pattern = behind;
        } else {
            return false;
        }
    }
    return !*pattern;
}

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
    return path_matches(text[0] == '/' ? text + 1 : text, path);
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
