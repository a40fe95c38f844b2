/* SPDX-License-Identifier: MIT */
#include "client/shell_match.h"

#include <errno.h>
#include <fnmatch.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <keel/file.h>

#include "client/listing.h"
#include "client/text.h"

void shell_matches_fini(struct shell_matches *m)
{
    for (size_t i = 0; i < m->count; i++)
        keel_free(m->names[i]);
    keel_free(m->names);
    *m = (struct shell_matches){0};
}

/* PREFIX and NAME in one. */
static int add(struct shell_matches *m, const char *prefix, size_t prefix_size,
               const char *name)
{
    size_t size = strlen(name) + 1;
    char *text;

    if (m->count == SHELL_MATCHES)
        return -E2BIG;
    if (m->count == m->room) {
        size_t room = m->room ? m->room * 2 : 16;
        char **more = keel_realloc(m->names, room * sizeof(*more));

        if (!more)
            return -ENOMEM;
        m->names = more;
        m->room = room;
    }
    text = keel_alloc(prefix_size + size);
    if (!text)
        return -ENOMEM;
    memcpy(text, prefix, prefix_size);
    memcpy(text + prefix_size, name, size);
    m->names[m->count++] = text;
    return 0;
}

static int failed(int rc, struct problem *why)
{
    return rc == -E2BIG
               ? problem(why, USAGE,
                         .detail = "a pattern stands for too many names")
               : problem(why, NO_MEMORY);
}

static int add_word(struct cli *c, const char *word, struct shell_matches *m)
{
    int rc = add(m, "", 0, word);

    return rc < 0 ? failed(rc, c->why) : 0;
}

/* The part of the pattern that names are compared with; NULL, and the problem,
 * when one stands before it. */
static const char *last_part(const char *pattern, struct problem *why)
{
    const char *slash = strrchr(pattern, '/');

    for (const char *at = pattern; slash && at < slash; at++) {
        if (*at == '\\') {
            at++;
        } else if (strchr("*?[", *at)) {
            problem(why, USAGE,
                    .detail = "a pattern is in the last part of a name only");
            return NULL;
        }
    }
    if (slash)
        return slash + 1;
    /* ":*.c", "work:*.c" */
    return pattern + (strchr(pattern, ':') ? strcspn(pattern, ":") + 1 : 0);
}

static bool matches(const char *pattern, const char *name)
{
    return fnmatch(pattern, name, FNM_PERIOD) == 0;
}

/* ---- there --------------------------------------------------------------------------- */

static int remote_add(struct listing *all, const char *pattern,
                      const char *word, size_t prefix, struct shell_matches *m,
                      struct problem *why)
{
    struct listing_entry entry;
    int rc;

    while ((rc = listing_next(all, &entry, why)) > 0) {
        const char *name = entry.e.name;
        /* A colon would make it another place. */
        bool bare = prefix == 0 && name[strcspn(name, ":/")] == ':';

        if (!matches(pattern, name))
            continue;
        rc = bare ? add(m, "./", 2, name) : add(m, word, prefix, name);
        if (rc < 0)
            return failed(rc, why);
    }
    return rc;
}

static int remote_list(struct shell *s, struct cli *c, const char *word,
                       const char *pattern, struct shell_matches *m)
{
    struct listing_options o = {.recursive = false};
    keel_auto(listing) struct listing *all = NULL;
    size_t prefix = strlen(word);
    struct session session;
    struct place dir;
    char *text;
    int rc;

    while (prefix > 0 && !strchr("/:", word[prefix - 1]))
        prefix--;
    text = keel_strdup(word);
    if (!text)
        return problem(c->why, NO_MEMORY);
    text[prefix] = 0;
    rc = shell_resolve(&s->here, text, &dir, c->why);
    keel_free(text);
    if (rc == 0)
        rc = session_open(c, &dir, &session, c->why);
    if (rc < 0)
        return rc;
    rc = listing_new(&session, &dir, &o, &all, c->why);
    if (rc == 0)
        rc = remote_add(all, pattern, word, prefix, m, c->why);
    listing_free(keel_take(all));
    session_close(&session);
    return rc;
}

int shell_match_remote(struct shell *s, struct cli *c, const char *word,
                       const char *pattern, struct shell_matches *m)
{
    size_t before = m->count;
    int rc;

    if (!pattern)
        return add_word(c, word, m);
    pattern = last_part(pattern, c->why);
    if (!pattern)
        return -EINVAL;
    rc = remote_list(s, c, word, pattern, m);
    return rc == 0 && m->count == before ? add_word(c, word, m) : rc;
}

/* ---- here ------------------------------------------------------------------------------ */

struct looking {
    const char *pattern, *word;
    size_t prefix;
    struct shell_matches *m;
    int rc;
};

static int local_found(const char *name, unsigned char type, void *arg)
{
    struct looking *l = arg;

    (void)type;
    if (matches(l->pattern, name))
        l->rc = add(l->m, l->word, l->prefix, name);
    return l->rc;
}

static int by_text(const void *a, const void *b)
{
    return strcmp(*(char *const *)a, *(char *const *)b);
}

int shell_match_local(struct cli *c, const char *word, const char *pattern,
                      struct shell_matches *m)
{
    const char *slash = strrchr(word, '/');
    struct looking l = {.word = word, .m = m};
    size_t before = m->count;
    char *dir;
    int fd, rc;

    if (!pattern)
        return add_word(c, word, m);
    l.pattern = strchr(word, '/') ? last_part(pattern, c->why) : pattern;
    if (!l.pattern)
        return -EINVAL;
    l.prefix = slash ? (size_t)(slash - word) + 1 : 0;
    dir = keel_strdup(slash ? word : ".");
    if (!dir)
        return problem(c->why, NO_MEMORY);
    if (slash)
        dir[l.prefix] = 0;
    fd = keel_file_open_any(dir, O_RDONLY | O_DIRECTORY, 0);
    rc = fd < 0 ? fd : keel_file_list(fd, local_found, &l);
    keel_file_close(fd);
    if (rc < 0 && l.rc == 0)
        problem(c->why, FILE_LOCAL, .errno_ = -rc, .name = dir);
    keel_free(dir);
    if (l.rc < 0)
        return failed(l.rc, c->why);
    if (rc < 0)
        return rc;
    qsort(m->names + before, m->count - before, sizeof(*m->names), by_text);
    return m->count == before ? add_word(c, word, m) : 0;
}
