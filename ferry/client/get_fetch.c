/* SPDX-License-Identifier: MIT */
/* A file's way from the server: a small one by one request among many, a larger
 * one by chunks.  What changed since it was listed is looked at again. */
#include <stdio.h>
#include <string.h>

#include "client/download.h"
#include "client/get_inside.h"
#include "transfer/transfer.h"

/* At once, and bytes of small files that are in memory: on their way or not yet
 * written. */
#define ITEMS_MOST 1024
#define HELD_MOST ((uint64_t)8 << 20)
#define TRIES_MOST 4

static int item_place(const struct item *i, struct place *ret,
                      struct problem *why)
{
    int rc =
        path_parse(i->dir->remote, strlen(i->dir->remote), &ret->path, why);

    ret->remote = true;
    snprintf(ret->space, sizeof(ret->space), "%s", i->space);
    return rc < 0 ? rc : path_append(&ret->path, i->name, why);
}

/* {"path"} without the detour of a struct path. */
static json_t *item_fields(const struct item *i)
{
    char text[PATH_BYTES + NAME_BYTES + 3];
    size_t dir = strlen(i->dir->remote), name = strlen(i->name), at = 0;
    json_t *fields = json_object();

    keel_assert(dir <= PATH_BYTES && name <= NAME_BYTES);
    text[at++] = '/';
    memcpy(text + at, i->dir->remote, dir);
    at += dir;
    if (dir > 0)
        text[at++] = '/';
    memcpy(text + at, i->name, name);
    if (fields &&
        json_object_set_new(fields, "path", text_to_json(text, at + name)) ==
            0 &&
        (!*i->space ||
         json_object_set_new(fields, "space", json_string(i->space)) == 0))
        return fields;
    json_decref(fields);
    return NULL;
}

/* ---- small ones ----------------------------------------------------------------------- */

/* The sums of a list and of the file itself are of the same version. */
static bool agrees(const struct item *i, const struct small_got *got)
{
    return i->entry.hash != i->g->hash || i->entry.size != got->size ||
           i->entry.mtime_ns != got->mtime_ns ||
           memcmp(&i->entry.root, &got->root, sizeof(got->root)) == 0;
}

static int small_once(struct session *s, struct item *i, struct problem *why)
{
    keel_auto(small_get) struct small_get *x = NULL;
    size_t size = (size_t)i->entry.size;
    json_t *fields = item_fields(i);
    struct small_got got;
    int rc;

    keel_free(i->bytes);
    i->bytes = keel_alloc(size ? size : 1);
    if (!fields || !i->bytes) {
        json_decref(fields);
        return problem(why, NO_MEMORY);
    }
    rc = transfer_get_small(s->link, fields, i->g->hash, i->bytes, size, &x,
                            why);
    if (rc == 0)
        rc = small_get_wait(x, KEEL_FOREVER, &got, why);
    if (rc < 0)
        return rc;
    if (!agrees(i, &got))
        return problem(why, FILE_CHANGED, .name = i->name);
    i->entry.size = got.size;
    i->entry.mtime_ns = got.mtime_ns;
    i->entry.mode = got.mode;
    i->root = got.root;
    i->whole = true;
    i->received = got.size;
    progress_moved(&i->g->progress, got.size);
    return 0;
}

/* ---- larger ones -------------------------------------------------------------------------- */

static int large_once(struct session *s, struct item *i, struct problem *why)
{
    struct download_result result;
    struct place place = {.remote = true};
    struct download_order o = {
        .c = i->g->c,
        .place = &place,
        .hash = i->g->hash,
        .pool = i->g->pool,
        .to = {.dir = i->dir->fd,
               .name = i->name,
               .fresh = i->dir->fresh,
               .no_replace = i->g->c->no_replace},
        .dest = i->name,
        .progress = &i->g->progress,
        .part = &i->part,
    };
    int rc = item_place(i, &place, why);

    if (rc == 0)
        rc = download_run(s, &o, &i->entry, &result, why);
    if (rc == 0)
        i->root = result.root;
    if (rc == 0)
        i->received = result.received;
    return rc;
}

/* ---- both ------------------------------------------------------------------------------------ */

static bool is_small(const struct item *i)
{
    return i->entry.size <= SMALL_BYTES;
}

/* What it is now. */
static int look_again(struct session *s, struct item *i, struct problem *why)
{
    struct place place = {.remote = true};
    char words[PROBLEM_TEXT_BYTES];
    struct remote_entry e;
    int rc = item_place(i, &place, why);

    if (rc == 0)
        rc = remote_stat_place(s, &place, &e, NULL, why);
    if (rc < 0)
        return rc;
    place_print(&place, words, sizeof(words));
    if (e.type == 'd')
        return problem(why, FILE_IS_DIRECTORY, .name = words);
    if (e.type != 'f')
        return problem(why, FILE_NOT_REGULAR, .name = words);
    i->entry = e;
    return 0;
}

static bool is_worth_another(const struct problem *why)
{
    return why->id == PROBLEM_FILE_CHANGED || why->id == PROBLEM_FILE_MATCH ||
           why->id == PROBLEM_TRANSFER_DAMAGED;
}

static int fetch_task(struct session *s, void *arg, struct problem *why)
{
    struct item *i = arg;
    int rc;

    for (;;) {
        progress_file(&i->g->progress, i->name, strlen(i->name));
        rc = is_small(i) ? small_once(s, i, why) : large_once(s, i, why);
        if (rc == 0 || !is_worth_another(why) || ++i->tries >= TRIES_MOST)
            return rc;
        rc = look_again(s, i, why);
        if (rc < 0)
            return rc;
    }
}

static void small_done(void *arg, int rc, const struct problem *why)
{
    struct item *i = arg;

    if (rc == 0 && i->whole)
        get_write(i);
    else
        get_done(i, rc, why);
}

static void large_done(void *arg, int rc, const struct problem *why)
{
    struct item *i = arg;

    keel_semaphore_give(&i->g->large);
    small_done(i, rc, why); /* it may have become small */
}

static int wait_room(struct getting *g, uint64_t bytes)
{
    int rc = 0;

    while (rc == 0 && (g->items >= ITEMS_MOST ||
                       (g->held > 0 && g->held + bytes > HELD_MOST))) {
        keel_event_clear(&g->room);
        rc = keel_event_wait(&g->room, KEEL_FOREVER);
    }
    return rc;
}

int get_fetch(struct item *i, struct problem *why)
{
    struct getting *g = i->g;
    bool small = is_small(i);
    uint64_t bytes = small ? i->entry.size : 0;
    int rc = wait_room(g, bytes);

    if (rc == 0 && !small)
        rc = keel_semaphore_take(&g->large, KEEL_FOREVER);
    g->items++;
    g->held += i->held = bytes;
    if (rc < 0) {
        problem(why, CANCELLED);
    } else {
        rc = batch_go(g->batch, fetch_task, small ? small_done : large_done, i,
                      why);
        if (rc < 0 && !small)
            keel_semaphore_give(&g->large);
    }
    if (rc < 0)
        get_done(i, rc, why);
    return rc;
}
