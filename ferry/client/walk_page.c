/* SPDX-License-Identifier: MIT */
#include "client/walk_page.h"

#include <errno.h>
#include <string.h>

#include <keel/base.h>

#define TARGET_BYTES 4095

/* A page being filled: entries from the front, texts from the back of what was
 * measured first. */
struct filling {
    struct walk_page *page;
    char *text;
};

void walk_page_hold(struct walk_page *p)
{
    p->refs++;
}

void walk_page_drop(struct walk_page *p)
{
    if (p && --p->refs == 0)
        keel_free(p);
}

void walk_answer_fini(struct walk_answer *a)
{
    walk_page_drop(a->files);
    walk_page_drop(a->dirs);
    a->files = a->dirs = NULL;
}

static bool is_dir(const json_t *j)
{
    const char *type = json_string_value(json_object_get(j, "type"));

    return type && strcmp(type, "d") == 0;
}

/* A bound on what a text of JSON takes: base64 takes more than its bytes. */
static size_t text_most(const json_t *j)
{
    const json_t *b64 = json_is_object(j) ? json_object_get(j, "b64") : j;

    return json_is_string(b64) ? json_string_length(b64) + 1 : 1;
}

static int filling_begin(const json_t *entries, bool dirs, struct filling *ret)
{
    size_t count = 0, text = 0, i, bytes;
    const json_t *j;

    json_array_foreach((json_t *)(uintptr_t)entries, i, j)
    {
        if (is_dir(j) != dirs)
            continue;
        count++;
        text += text_most(json_object_get(j, "name")) +
                text_most(json_object_get(j, "target"));
    }
    bytes = sizeof(struct walk_page) + count * sizeof(struct walk_entry) + text;
    ret->page = keel_alloc(bytes);
    if (!ret->page)
        return -ENOMEM;
    *ret->page = (struct walk_page){.refs = 1, .bytes = bytes};
    ret->text = (char *)&ret->page->entries[count];
    return 0;
}

static const char *filling_text(struct filling *f, const char *text,
                                size_t size)
{
    char *at = f->text;

    memcpy(at, text, size);
    at[size] = 0;
    f->text += size + 1;
    return at;
}

static int entry_target(const json_t *j, struct filling *f,
                        struct walk_entry *ret, struct problem *why)
{
    const json_t *target = json_object_get(j, "target");
    keel_auto(str) char *text = NULL;
    size_t size;
    int rc;

    ret->target = NULL;
    if (!target || ret->type != 'l')
        return 0;
    rc = text_from_json(target, TARGET_BYTES, &text, &size);
    if (rc == -ENOMEM)
        return problem(why, NO_MEMORY);
    if (rc < 0 || size == 0 || memchr(text, 0, size))
        return problem(why, PROTOCOL_BROKEN, .detail = "a link's text is none");
    ret->target = filling_text(f, text, size);
    return 0;
}

static int filling_add(struct filling *f, const json_t *j,
                       const struct remote_entry *e, struct problem *why)
{
    struct walk_entry *to = &f->page->entries[f->page->count++];

    *to = (struct walk_entry){
        .name = filling_text(f, e->name, strlen(e->name)),
        .size = e->size,
        .mtime_ns = e->mtime_ns,
        .mode = e->mode,
        .type = e->type,
        .hash = e->hash,
        .root = e->root,
    };
    return entry_target(j, f, to, why);
}

static int broken(struct problem *why, const char *detail)
{
    return problem(why, PROTOCOL_BROKEN, .detail = detail);
}

/* Names in order: a server that repeats itself would never end. */
static int fill(const json_t *entries, struct filling *files,
                struct filling *dirs, char last[NAME_BYTES + 1],
                struct problem *why)
{
    struct remote_entry e;
    const json_t *j;
    size_t i;
    int rc;

    json_array_foreach((json_t *)(uintptr_t)entries, i, j)
    {
        rc = remote_entry_parse(j, &e, why);
        if (rc == 0 && strcmp(e.name, last) <= 0)
            rc = broken(why, "names in disorder");
        if (rc == 0)
            rc = filling_add(e.type == 'd' ? dirs : files, j, &e, why);
        if (rc < 0)
            return rc;
        memcpy(last, e.name, strlen(e.name) + 1);
    }
    return 0;
}

int walk_answer_parse(const json_t *ok, const char *after,
                      struct walk_answer *ret, struct problem *why)
{
    const json_t *entries = json_object_get(ok, "entries");
    const json_t *more = json_object_get(ok, "more");
    struct filling files = {NULL, NULL}, dirs = {NULL, NULL};
    struct walk_answer a = {.more = json_is_true(more)};
    int rc = 0;

    if (!json_is_array(entries) || !json_is_boolean(more))
        return broken(why, "it sent no list");
    if (a.more && json_array_size(entries) == 0)
        return broken(why, "an empty page");
    memcpy(a.last, after, strlen(after) + 1);
    if (filling_begin(entries, false, &files) < 0 ||
        filling_begin(entries, true, &dirs) < 0)
        rc = problem(why, NO_MEMORY);
    if (rc == 0)
        rc = fill(entries, &files, &dirs, a.last, why);
    a.files = files.page;
    a.dirs = dirs.page;
    if (rc < 0)
        walk_answer_fini(&a);
    else
        *ret = a;
    return rc;
}
