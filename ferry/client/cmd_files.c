/* SPDX-License-Identifier: MIT */
/* mkdir, mv, rm: names on the server. */
#include <errno.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

#include "client/cli.h"
#include "client/listing.h"
#include "client/local_make.h"
#include "client/password.h"
#include "client/text.h"

/* Does `one` for each of the first `count` arguments, over one connection. */
typedef int one_fn(struct cli *c, struct session *s, const struct place *place,
                   void *arg, struct problem *why);

/* `begin`, if not NULL, is for all of them: when it fails, none is tried. */
static int each_after(struct cli *c, int count,
                      int (*begin)(struct cli *c, struct session *s, void *arg),
                      one_fn *one, void *arg)
{
    struct place place;
    struct session s;
    int failed = 0, rc = places_parse(c->argv, c->argc, &place, c->why);

    if (rc == 0)
        rc = session_open(c, &place, &s, c->why);
    if (rc < 0)
        return rc;
    if (begin)
        rc = begin(c, &s, arg);
    for (int i = 0; i < count && rc == 0; i++) {
        struct problem why = {0};

        rc = place_parse(c->argv[i], &place, &why);
        if (rc == 0)
            rc = one(c, &s, &place, arg, &why);
        rc = cli_failed(c, rc, &why, count, &failed);
    }
    session_close(&s);
    return rc < 0 ? rc : failed ? CLI_PARTLY : 0;
}

static int each(struct cli *c, int count, one_fn *one, void *arg)
{
    return each_after(c, count, NULL, one, arg);
}

static json_t *path_json(const struct path *path)
{
    return path_to_json(path->text, path->size);
}

/* ---- mkdir ----------------------------------------------------------------------------- */

static int mkdir_one(struct cli *c, struct session *s,
                     const struct place *place, void *arg, struct problem *why)
{
    json_t *fields = place_fields(place);
    int rc;

    (void)arg;
    if (fields &&
        ((c->parents &&
          json_object_set_new(fields, "parents", json_true()) < 0) ||
         json_object_set_new(fields, "mode", json_integer(local_mask())) < 0)) {
        json_decref(fields);
        fields = NULL;
    }
    if (!fields)
        return problem(why, NO_MEMORY);
    rc = link_ask(s->link, "mkdir", fields, keel_after(ASK_TIME), NULL, why);
    if (rc < 0)
        return rc;
    cli_json(c, json_pack("{s:s, s:o}", "do", "mkdir", "path",
                          path_json(&place->path)));
    return 0;
}

int cmd_mkdir(struct cli *c)
{
    return each(c, c->argc, mkdir_one, NULL);
}

/* ---- mv --------------------------------------------------------------------------------- */

struct moving {
    struct place to;
    bool into; /* into: `to` is a directory */
};

/* Whether the goal is a directory that is there, found out once. */
static int moving_look(struct cli *c, struct session *s, void *arg)
{
    struct moving *m = arg;
    struct problem *why = c->why;
    struct remote_entry e = {.type = 'd'};
    struct problem trouble = {0};
    bool needed = c->argc > 2 || m->to.directory;
    char shown[PROBLEM_TEXT_BYTES];
    int rc = 0;

    if (m->to.path.count > 0)
        rc = remote_stat_place(s, &m->to, &e, NULL, &trouble);
    /* Who may move and not look is taken at their word. */
    if (rc < 0 && trouble.id == PROBLEM_RIGHT_MISSING) {
        m->into = needed;
        return 0;
    }
    if (rc < 0 && (needed || trouble.id != PROBLEM_FILE_MISSING)) {
        *why = trouble;
        return rc;
    }
    m->into = rc == 0 && e.type == 'd';
    if (needed && !m->into) {
        place_print(&m->to, shown, sizeof(shown));
        return problem(why, FILE_NOT_DIRECTORY, .name = shown);
    }
    return 0;
}

static int mv_one(struct cli *c, struct session *s, const struct place *place,
                  void *arg, struct problem *why)
{
    struct moving *m = arg;
    char shown[PROBLEM_TEXT_BYTES], goal[PROBLEM_TEXT_BYTES];
    struct place to;
    json_t *fields;
    int rc = 0;

    to = m->to;
    place_print(place, shown, sizeof(shown));
    if (strcmp(place->space, to.space) != 0)
        return problem(why, FILE_OTHER_SPACE, .name = shown);
    rc = remote_slash_check(s, place, why);
    if (rc == 0 && m->into)
        rc = path_append(&to.path, path_leaf(&place->path), why);
    if (rc < 0)
        return rc;
    fields = place_fields(place);
    if (!fields || json_object_set_new(fields, "to", path_json(&to.path)) < 0 ||
        (c->no_replace &&
         json_object_set_new(fields, "no_replace", json_true()) < 0)) {
        json_decref(fields);
        return problem(why, NO_MEMORY);
    }
    rc = link_ask(s->link, "move", fields, keel_after(ASK_TIME), NULL, why);
    if (rc < 0)
        return rc;
    place_print(&to, goal, sizeof(goal));
    cli_trace(c, "%s -> %s", shown, goal);
    cli_json(c, json_pack("{s:s, s:o, s:o}", "do", "mv", "path",
                          path_json(&place->path), "to", path_json(&to.path)));
    return 0;
}

int cmd_mv(struct cli *c)
{
    struct moving m = {.into = false};
    int rc = place_parse(c->argv[c->argc - 1], &m.to, c->why);

    return rc < 0 ? rc : each_after(c, c->argc - 1, moving_look, mv_one, &m);
}

/* ---- rm --------------------------------------------------------------------------------- */

static void rm_would(struct cli *c, const struct place *place,
                     const struct path *path, char type)
{
    struct place p = *place;
    char shown[PATH_BYTES * 4];

    p.path = *path;
    place_print(&p, shown, sizeof(shown));
    cli_say(c, "would remove %s%s", shown, type == 'd' ? "/" : "");
    cli_json(c, json_pack("{s:s, s:b, s:o, s:s#}", "do", "rm", "dry_run", 1,
                          "path", path_json(path), "type", &type, 1));
}

static int rm_dry(struct cli *c, struct session *s, const struct place *place,
                  struct problem *why)
{
    keel_auto(listing) struct listing *all = NULL;
    struct listing_options o = {.recursive = true};
    struct listing_entry e;
    struct remote_entry top;
    char shown[PROBLEM_TEXT_BYTES];
    int rc = remote_stat_place(s, place, &top, NULL, why);

    if (rc < 0)
        return rc;
    if (top.type == 'd' && !c->recursive) {
        place_print(place, shown, sizeof(shown));
        return problem(why, FILE_IS_DIRECTORY, .name = shown);
    }
    if (top.type == 'd')
        rc = listing_new(s, place, &o, &all, why);
    while (rc == 0 && all && (rc = listing_next(all, &e, why)) > 0) {
        rm_would(c, place, e.path, e.e.type);
        rc = 0;
    }
    if (rc == 0)
        rm_would(c, place, &place->path, top.type);
    return rc;
}

/* At a terminal nobody loses a tree by a slip: as careful as rm -I.  Without one
 * it is a script that knows what it does, as with rm(1). */
static int rm_ask(struct cli *c, struct session *s, const struct place *place,
                  struct problem *why)
{
    char shown[PROBLEM_TEXT_BYTES], question[PROBLEM_TEXT_BYTES * 2];
    struct problem trouble = {0};
    struct remote_entry e;
    int rc;

    if (!c->recursive || c->yes || !isatty(0) || !isatty(2))
        return 0;
    rc = remote_stat_place(s, place, &e, NULL, &trouble);
    /* Who may remove and not look does not know, and is asked. */
    if (rc < 0 && trouble.id != PROBLEM_RIGHT_MISSING) {
        *why = trouble;
        return rc;
    }
    if (rc == 0 && e.type != 'd')
        return 0;
    place_print(place, shown, sizeof(shown));
    snprintf(question, sizeof(question),
             _("Remove %s and all that is in it? [y/N] "), shown);
    rc = ask_yes(question);
    return rc == 1 ? 0 : problem(why, NOT_REMOVED, .name = shown);
}

static void removed_say(struct cli *c, const char *shown, uint64_t files,
                        uint64_t directories)
{
    char some[64], others[64];

    text_some(N_FILES, files, some, sizeof(some));
    text_some(N_DIRECTORIES, directories, others, sizeof(others));
    cli_say(c, "Removed %s: %s, %s", shown, some, others);
}

static int rm_do(struct cli *c, struct session *s, const struct place *place,
                 struct problem *why)
{
    char shown[PROBLEM_TEXT_BYTES];
    uint64_t files, directories;
    json_t *fields = place_fields(place), *ok;
    int rc;

    if (fields && c->recursive &&
        json_object_set_new(fields, "recursive", json_true()) < 0) {
        json_decref(fields);
        fields = NULL;
    }
    if (!fields)
        return problem(why, NO_MEMORY);
    /* A large tree takes its time: no deadline but the connection's. */
    rc = link_ask(s->link, "remove", fields, KEEL_FOREVER, &ok, why);
    if (rc < 0)
        return rc;
    rc = field_u64(ok, "files", INT64_MAX, &files, why);
    if (rc == 0)
        rc = field_u64(ok, "directories", INT64_MAX, &directories, why);
    json_decref(ok);
    rc = answer_check(rc, why);
    if (rc < 0)
        return rc;
    place_print(place, shown, sizeof(shown));
    if (c->recursive)
        removed_say(c, shown, files, directories);
    cli_json(c, json_pack("{s:s, s:o, s:I, s:I}", "do", "rm", "path",
                          path_json(&place->path), "files", (json_int_t)files,
                          "directories", (json_int_t)directories));
    return 0;
}

static int rm_one(struct cli *c, struct session *s, const struct place *place,
                  void *arg, struct problem *why)
{
    int rc;

    (void)arg;
    if (place->path.count == 0)
        return problem(why, USAGE,
                       .detail = "what is in ':/' can be removed, ':/' cannot");
    if (c->dry_run) {
        rc = rm_dry(c, s, place, why);
    } else {
        rc = remote_slash_check(s, place, why);
        if (rc == 0)
            rc = rm_ask(c, s, place, why);
        if (rc == 0)
            rc = rm_do(c, s, place, why);
    }
    if (rc < 0 && c->yes && why->id == PROBLEM_FILE_MISSING)
        return 0;
    return rc;
}

int cmd_rm(struct cli *c)
{
    return each(c, c->argc, rm_one, NULL);
}
