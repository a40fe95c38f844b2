/* SPDX-License-Identifier: MIT */
/* put --dry-run: what the server would refuse, as far as it can be asked.  What
 * cannot be known for sure is taken to go well. */
#include <string.h>

#include "client/put_inside.h"

/* ---- before the first of them ----------------------------------------------------- */

/* Who may only drop learns nothing of what is there. */
static bool hidden(const struct problem *p)
{
    return p->id == PROBLEM_RIGHT_MISSING;
}

/* Where there is something under a name of its own, the directory above must be
 * there; the directory that sources go into was looked at. */
static int above_look(struct session *s, const struct tree *t,
                      struct problem *why)
{
    const struct path *above = t->o->target;
    struct problem missing;
    char shown[PROBLEM_TEXT_BYTES];
    struct remote_entry e;
    int rc;

    if (!t->o->as || above->count == 0)
        return 0;
    rc = remote_stat_in(s, t->o->space, above, &e, &missing);
    path_print(above, shown, sizeof(shown));
    if (rc == 0 && e.type != 'd')
        return problem(why, FILE_NOT_DIRECTORY, .name = shown);
    if (rc < 0 && !hidden(&missing)) {
        *why = missing;
        return rc;
    }
    return 0;
}

/* --if-match: of a file whose hash is not on record nobody knows. */
static int match_look(struct session *s, const struct tree *t,
                      struct problem *why)
{
    char name[NAME_BYTES + 1], shown[PROBLEM_TEXT_BYTES];
    struct path path = *t->o->target;
    struct remote_entry e;
    struct digest root;
    enum chunk_hash of;
    struct problem missing;
    int rc;

    if (!t->c->match || digest_parse(t->c->match, &of, &root) < 0)
        return 0;
    source_name(t->o, t->o->sources[0], name);
    rc = path_append(&path, name, why);
    if (rc < 0)
        return rc;
    path_print(&path, shown, sizeof(shown));
    rc = remote_stat_in(s, t->o->space, &path, &e, &missing);
    if (rc < 0 && missing.id != PROBLEM_FILE_MISSING && !hidden(&missing)) {
        *why = missing;
        return rc;
    }
    if ((rc < 0 && !hidden(&missing)) ||
        (rc == 0 && e.type == 'f' && e.hash == of &&
         memcmp(&e.root, &root, sizeof(root)) != 0))
        return problem(why, FILE_MATCH, .name = shown);
    return 0;
}

static uint64_t number(const json_t *j, const char *key)
{
    json_int_t n = json_integer_value(json_object_get(j, key));

    return n < 0 ? 0 : (uint64_t)n;
}

static int room_look(struct session *s, struct tree *t, struct problem *why)
{
    const json_t *j;
    json_t *ok;
    size_t i;
    int rc = link_ask(s->link, "spaces", NULL, keel_after(ASK_TIME), &ok, why);

    if (rc < 0)
        return rc;
    json_array_foreach(json_object_get(ok, "spaces"), i, j)
    {
        const char *name = json_string_value(json_object_get(j, "name"));

        if (!name || strcmp(name, t->o->space) != 0)
            continue;
        t->room_there = (struct put_room){.bytes = number(j, "quota_bytes"),
                                          .files = number(j, "quota_files"),
                                          .used = number(j, "used_bytes"),
                                          .used_files = number(j, "used_files"),
                                          .held = number(j, "reserved_bytes")};
    }
    json_decref(ok);
    return 0;
}

int put_would_look(struct session *s, void *arg, struct problem *why)
{
    struct tree *t = arg;
    int rc = above_look(s, t, why);

    if (rc == 0)
        rc = match_look(s, t, why);
    return rc < 0 ? rc : room_look(s, t, why);
}

/* ---- one of them ------------------------------------------------------------------- */

struct replaced {
    const struct tree *tree;
    const struct path *path;
    uint64_t size;
};

static int replaced_look(struct session *s, void *arg, struct problem *why)
{
    struct replaced *r = arg;
    struct remote_entry e;
    int rc = remote_stat_in(s, r->tree->o->space, r->path, &e, why);

    if (rc == 0)
        r->size = e.type == 'f' ? e.size : 0;
    return rc;
}

/* Both are far below 2^63 each, but a server says what it likes. */
static uint64_t plus(uint64_t a, uint64_t b)
{
    return a > UINT64_MAX - b ? UINT64_MAX : a + b;
}

/* What unfinished uploads hold may be held by these very files: the repeated
 * command takes it over.  So of both only the larger counts. */
static int room_take(struct tree *t, const struct item *i,
                     const struct path *path, struct problem *why)
{
    struct put_room *room = &t->room_there;
    struct replaced old = {t, path, 0};
    uint64_t planned, more;
    int rc;

    if (!room->bytes && !room->files)
        return 0;
    if (!i->replaces && room->files && room->used_files >= room->files)
        return problem(why, QUOTA_FILES, .limit = room->files);
    rc = i->replaces ? batch_run(t->o->batch, replaced_look, &old, why) : 0;
    if (rc < 0)
        return rc;
    more = i->size > old.size ? i->size - old.size : 0;
    planned = plus(room->planned, more);
    if (room->bytes && more > 0 &&
        plus(room->used, planned > room->held ? planned : room->held) >
            room->bytes)
        return problem(why, QUOTA_BYTES, .limit = room->bytes,
                       .used = plus(room->used, room->planned),
                       .bytes = room->held, .size = i->size);
    room->planned = planned;
    room->used_files += !i->replaces;
    return 0;
}

/* Names as the server would. */
int put_would(struct tree *t, const struct item *i, struct problem *why)
{
    const struct known *known = i->node->known;
    char shown[PROBLEM_TEXT_BYTES];
    struct path path;
    int rc = node_path(i->node, i->name, &path, why);

    if (rc < 0)
        return rc;
    if (known && known_type(known, i->name) == 'd') {
        path_print(&path, shown, sizeof(shown));
        return problem(why, FILE_IS_DIRECTORY, .name = shown);
    }
    return i->outcome == OUT_LARGE ? room_take(t, i, &path, why) : 0;
}
