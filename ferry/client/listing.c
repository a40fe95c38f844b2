/* SPDX-License-Identifier: MIT */
#include "client/listing.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define PAGE_FIRST 200 /* the first is shown soon */
#define PAGE_MOST 1000
#define PAGE_LEAST 16

/* What a sorted directory keeps of an entry. */
struct kept {
    char type;
    bool has_target;
    mode_t mode;
    enum chunk_hash hash;
    uint64_t size;
    int64_t mtime_ns;
    struct digest root;
    char text[]; /* the name, NUL, the target, NUL */
};

/* A directory that is being listed.  It has a page, or, sorted, all of its
 * entries: those before `at` have been told. */
struct level {
    json_t *page;
    struct kept **all;
    size_t at, count, room;
    size_t bytes;               /* that `all` takes, counted in the listing */
    bool more, sorted;          /* more: behind this page */
    char after[NAME_BYTES + 1]; /* the last name of the page */
};

/* levels[0] to levels[depth - 1] are open; `dir` is the last one's path.  With
 * `enter` the entry that was told last is a directory to go into. */
struct listing {
    struct session *s;
    const struct place *place;
    struct listing_options o;
    struct level *levels;
    unsigned depth;
    struct path dir, entry;
    char *target;
    size_t bytes;
    bool enter;
    char name[NAME_BYTES + 1]; /* to go into */
};

static void level_close(struct listing *l, struct level *v)
{
    json_decref(v->page);
    for (size_t i = 0; i < v->count && v->all; i++)
        keel_free(v->all[i]);
    keel_free(v->all);
    l->bytes -= v->bytes;
    memset(v, 0, sizeof(*v));
}

int listing_new(struct session *s, const struct place *place,
                const struct listing_options *o, struct listing **ret,
                struct problem *why)
{
    keel_auto(listing) struct listing *l = keel_calloc(1, sizeof(*l));

    if (!l)
        return problem(why, NO_MEMORY);
    l->levels = keel_calloc(PATH_DEPTH + 1, sizeof(*l->levels));
    if (!l->levels)
        return problem(why, NO_MEMORY);
    l->s = s;
    l->place = place;
    l->o = *o;
    l->dir = place->path;
    l->depth = 1;
    l->levels[0].more = true;
    *ret = keel_take(l);
    return 0;
}

void listing_free(struct listing *l)
{
    if (!l)
        return;
    for (unsigned i = 0; l->levels && i < l->depth; i++)
        level_close(l, &l->levels[i]);
    keel_free(l->levels);
    keel_free(l->target);
    keel_free(l);
}

/* ---- pages ----------------------------------------------------------------------------- */

static unsigned page_size(const struct listing *l, const struct level *v)
{
    unsigned size = l->depth > 7 ? PAGE_LEAST : PAGE_MOST >> (l->depth - 1);

    if (!v->after[0] && size > PAGE_FIRST && !l->o.recursive)
        return PAGE_FIRST;
    return size < PAGE_LEAST ? PAGE_LEAST : size;
}

static int page_ask(struct listing *l, struct level *v, struct problem *why)
{
    json_t *fields = path_fields_in(l->place->space, &l->dir), *ok, *entries;
    int rc;

    json_decref(v->page);
    v->page = NULL;
    v->at = v->count = 0;
    if (!fields ||
        json_object_set_new(fields, "max", json_integer(page_size(l, v))) < 0 ||
        (v->after[0] &&
         json_object_set_new(fields, "after",
                             text_to_json(v->after, strlen(v->after))) < 0)) {
        json_decref(fields);
        return problem(why, NO_MEMORY);
    }
    rc = link_ask(l->s->link, "list", fields, keel_after(ASK_TIME), &ok, why);
    if (rc < 0)
        return rc;
    entries = json_object_get(ok, "entries");
    v->more = json_is_true(json_object_get(ok, "more"));
    if (!json_is_array(entries) ||
        !json_is_boolean(json_object_get(ok, "more")))
        rc = problem(why, PROTOCOL_BROKEN, .detail = "it sent no list");
    else if (v->more && json_array_size(entries) == 0)
        rc = problem(why, PROTOCOL_BROKEN, .detail = "an empty page");
    if (rc == 0) {
        v->page = json_incref(entries);
        v->count = json_array_size(entries);
    }
    json_decref(ok);
    return rc;
}

/* The next in the order of names; 0: the end of the directory. */
static int page_next(struct listing *l, struct level *v,
                     struct remote_entry *ret, struct problem *why)
{
    const json_t *j;
    int rc;

    if (v->at == v->count) {
        if (!v->more)
            return 0;
        rc = page_ask(l, v, why);
        if (rc < 0)
            return rc;
        if (v->count == 0)
            return 0;
    }
    j = json_array_get(v->page, v->at++);
    rc = remote_entry_parse(j, ret, why);
    /* Names in order: a server that repeats itself would never end. */
    if (rc == 0 && strcmp(ret->name, v->after) <= 0)
        rc = problem(why, PROTOCOL_BROKEN, .detail = "names in disorder");
    if (rc < 0)
        return rc;
    memcpy(v->after, ret->name, sizeof(v->after));
    keel_free(keel_take(l->target));
    rc = remote_target(j, &l->target, why);
    return rc < 0 ? rc : 1;
}

/* ---- sorting ------------------------------------------------------------------------- */

static int keep(struct listing *l, struct level *v,
                const struct remote_entry *e, struct problem *why)
{
    size_t name = strlen(e->name) + 1;
    size_t target = l->target ? strlen(l->target) + 1 : 0;
    size_t bytes = sizeof(struct kept) + name + target + sizeof(void *) * 2;
    struct kept *k;

    if (l->bytes + bytes > LISTING_BYTES) {
        char path[PROBLEM_TEXT_BYTES];

        place_print(l->place, path, sizeof(path));
        return problem(why, LIST_TOO_LONG, .name = path, .used = v->room,
                       .limit = LISTING_BYTES);
    }
    /* `room` counts what is kept, a power of two has room. */
    if ((v->room & (v->room - 1)) == 0) {
        struct kept **more =
            keel_realloc(v->all, (v->room ? v->room * 2 : 1) * sizeof(*more));

        if (!more)
            return problem(why, NO_MEMORY);
        v->all = more;
    }
    k = keel_alloc(sizeof(*k) + name + target);
    if (!k)
        return problem(why, NO_MEMORY);
    *k = (struct kept){.type = e->type,
                       .has_target = target > 0,
                       .mode = e->mode,
                       .hash = e->hash,
                       .size = e->size,
                       .mtime_ns = e->mtime_ns,
                       .root = e->root};
    memcpy(k->text, e->name, name);
    if (target)
        memcpy(k->text + name, l->target, target);
    v->all[v->room++] = k;
    v->bytes += bytes;
    l->bytes += bytes;
    return 0;
}

/* Largest and newest first, the same ones by name. */
static int compare(const void *a, const void *b, void *arg)
{
    const struct kept *x = *(struct kept *const *)a;
    const struct kept *y = *(struct kept *const *)b;
    const struct listing_options *o = arg;
    int order = 0;

    if (o->sort == SORT_SIZE)
        order = x->size < y->size ? 1 : x->size > y->size ? -1 : 0;
    else if (o->sort == SORT_TIME)
        order = x->mtime_ns < y->mtime_ns   ? 1
                : x->mtime_ns > y->mtime_ns ? -1
                                            : 0;
    if (order == 0)
        order = strcmp(x->text, y->text);
    return o->reverse ? -order : order;
}

static int level_sort(struct listing *l, struct level *v, struct problem *why)
{
    struct remote_entry e;
    int rc;

    while ((rc = page_next(l, v, &e, why)) > 0) {
        rc = keep(l, v, &e, why);
        if (rc < 0)
            break;
    }
    json_decref(v->page);
    v->page = NULL;
    v->at = 0;
    v->count = v->room;
    v->sorted = true;
    if (rc < 0)
        return rc;
    if (v->count > 1)
        qsort_r(v->all, v->count, sizeof(struct kept *), compare, &l->o);
    return 0;
}

static int kept_next(struct listing *l, struct level *v,
                     struct remote_entry *ret, struct problem *why)
{
    struct kept *k;

    if (v->at == v->count)
        return 0;
    k = v->all[v->at++];
    *ret = (struct remote_entry){.type = k->type,
                                 .mode = k->mode,
                                 .hash = k->hash,
                                 .size = k->size,
                                 .mtime_ns = k->mtime_ns,
                                 .root = k->root};
    snprintf(ret->name, sizeof(ret->name), "%s", k->text);
    keel_free(keel_take(l->target));
    if (!k->has_target)
        return 1;
    l->target = keel_strdup(k->text + strlen(k->text) + 1);
    return l->target ? 1 : problem(why, NO_MEMORY);
}

/* ---- the walk --------------------------------------------------------------------------- */

static int level_next(struct listing *l, struct level *v,
                      struct remote_entry *ret, struct problem *why)
{
    if (l->o.sort == SORT_NAME && !l->o.reverse)
        return page_next(l, v, ret, why);
    if (!v->sorted) {
        int rc = level_sort(l, v, why);

        if (rc < 0)
            return rc;
    }
    return kept_next(l, v, ret, why);
}

int listing_next(struct listing *l, struct listing_entry *ret,
                 struct problem *why)
{
    size_t root = l->place->path.size;
    struct problem trouble = {0};
    struct level *v;
    int rc;

    if (l->enter) {
        l->enter = false;
        rc = path_append(&l->dir, l->name, why);
        if (rc < 0)
            return rc;
        l->levels[l->depth++].more = true;
    }
    for (;;) {
        v = &l->levels[l->depth - 1];
        rc = level_next(l, v, &ret->e, &trouble);
        /* Somebody removed the directory meanwhile: then nothing is in it. */
        if (rc < 0 && l->depth > 1 && trouble.id == PROBLEM_FILE_MISSING)
            rc = 0;
        if (rc != 0)
            break;
        if (l->depth == 1)
            return 0;
        level_close(l, v);
        l->depth--;
        path_parent(&l->dir, &l->dir);
    }
    if (rc < 0) {
        if (why)
            *why = trouble;
        return rc;
    }
    l->entry = l->dir;
    rc = path_append(&l->entry, ret->e.name, why);
    if (rc < 0)
        return rc;
    if (l->o.recursive && ret->e.type == 'd' && l->depth <= PATH_DEPTH) {
        l->enter = true;
        memcpy(l->name, ret->e.name, sizeof(l->name));
    }
    ret->target = l->target;
    ret->path = &l->entry;
    ret->below = l->entry.text + root + (root > 0);
    ret->last = v->at == v->count;
    return 1;
}
