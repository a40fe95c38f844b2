/* SPDX-License-Identifier: MIT */
/* ls, stat. */
#include <errno.h>
#include <stdio.h>
#include <string.h>
#include <time.h>

#include <keel/file.h>

#include "client/cli.h"
#include "client/columns.h"
#include "client/listing.h"
#include "client/text.h"

/* ---- an entry in words ---------------------------------------------------------------- */

/* "drwxr-x---" */
static void mode_print(char type, mode_t mode, char ret[11])
{
    static const char bits[] = "rwxrwxrwx";

    ret[0] = type == 'f' ? '-' : type;
    for (int i = 0; i < 9; i++)
        ret[1 + i] = mode & (0400 >> i) ? bits[i] : '-';
    if (mode & S_ISUID)
        ret[3] = mode & 0100 ? 's' : 'S';
    if (mode & S_ISGID)
        ret[6] = mode & 0010 ? 's' : 'S';
    if (mode & S_ISVTX)
        ret[9] = mode & 0001 ? 't' : 'T';
    ret[10] = 0;
}

void date_print(int64_t ns, const char *format, char ret[40])
{
    int64_t left = ns % 1000000000;
    time_t seconds = (time_t)(ns / 1000000000 - (left < 0));
    struct tm tm;

    if (!localtime_r(&seconds, &tm) || !strftime(ret, 40, format, &tm))
        snprintf(ret, 40, "%lld", (long long)seconds);
}

static json_t *entry_json(const struct remote_entry *e, const char *target,
                          const struct path *path)
{
    char digest[DIGEST_TEXT_BYTES];
    json_t *j;

    j = json_pack("{s:o, s:o, s:s#, s:I, s:I, s:i}", "name",
                  text_to_json(e->name, strlen(e->name)), "path",
                  path_to_json(path->text, path->size), "type", &e->type, 1,
                  "size", (json_int_t)e->size, "mtime_ns",
                  (json_int_t)e->mtime_ns, "mode", (int)e->mode);
    if (j && target)
        json_object_set_new(j, "target", text_to_json(target, strlen(target)));
    if (j && e->hash) {
        digest_print(e->hash, &e->root, digest);
        json_object_set_new(j, "hash", json_string(digest));
    }
    return j;
}

/* ---- ls ------------------------------------------------------------------------------ */

struct list {
    struct cli *c;
    const char *asked; /* the argument's text, when there are several */
    bool begun;        /* and it is not the first */
    struct columns columns;
};

static const char *mark(char type)
{
    return type == 'd' ? "/" : type == 'l' ? "@" : type == '?' ? "?" : "";
}

static void long_say(const struct remote_entry *e, const char *shown,
                     const char *target)
{
    char mode[11], size[32], date[40], to[512];

    mode_print(e->type, e->mode, mode);
    text_bytes(e->size, size);
    if (e->type != 'f')
        strcpy(size, "-");
    date_print(e->mtime_ns, "%Y-%m-%d %H:%M", date);
    printf("%s %*s%s  %s  %s", mode,
           text_columns(size) < 10 ? (int)(10 - text_columns(size)) : 0, "",
           size, date, shown);
    if (target) {
        text_escape(target, strlen(target), to, sizeof(to));
        printf(" -> %s", to);
    } else {
        fputs(mark(e->type), stdout);
    }
    putchar('\n');
}

static int entry_say(struct list *l, const struct listing_entry *e)
{
    struct cli *c = l->c;
    char shown[PATH_BYTES * 4 + 8];
    const char *name = e->below;

    if (c->json) {
        json_t *j = entry_json(&e->e, e->target, e->path);

        if (!j)
            return problem(c->why, NO_MEMORY);
        json_dumpf(j, stdout, JSON_COMPACT | JSON_ENSURE_ASCII);
        putchar('\n');
        json_decref(j);
    } else {
        text_escape(name, strlen(name), shown, sizeof(shown) - 2);
        if (c->long_list) {
            long_say(&e->e, shown, e->target);
        } else {
            strcat(shown, mark(e->e.type));
            if (columns_add(&l->columns, shown, stdout) < 0)
                return problem(c->why, NO_MEMORY);
        }
    }
    if (e->last) {
        columns_flush(&l->columns, stdout);
        cli_flush();
    }
    return 0;
}

static int list_directory(struct list *l, struct session *s,
                          const struct place *place, struct problem *why)
{
    static const char *const sorts[] = {"name", "size", "time"};
    keel_auto(listing) struct listing *all = NULL;
    struct listing_options o = {.recursive = l->c->recursive,
                                .reverse = l->c->reverse};
    struct listing_entry e;
    int rc;

    for (int i = 0; i < 3; i++) {
        if (l->c->sort && strcmp(l->c->sort, sorts[i]) == 0)
            o.sort = (enum listing_sort)i;
    }
    rc = listing_new(s, place, &o, &all, why);
    while (rc == 0 && (rc = listing_next(all, &e, why)) > 0)
        rc = entry_say(l, &e);
    columns_flush(&l->columns, stdout);
    return rc;
}

/* A file is a list of one, under the name that it was asked by when there are
 * several. */
static int list_file(struct list *l, struct session *s,
                     const struct place *place, struct problem *why)
{
    keel_auto(str) char *target = NULL;
    struct listing_entry e = {.path = &place->path, .last = !l->asked};
    int rc = remote_stat_place(s, place, &e.e, &target, why);

    if (rc < 0)
        return rc;
    e.below = l->asked ? l->asked : e.e.name;
    e.target = target;
    return entry_say(l, &e);
}

/* What is no directory is a file. */
static int list_one(struct list *l, struct session *s,
                    const struct place *place, struct problem *why)
{
    int rc = remote_slash_check(s, place, why);

    if (rc == 0)
        rc = list_directory(l, s, place, why);
    if (rc == 0 || why->id != PROBLEM_FILE_NOT_DIRECTORY || place->directory)
        return rc;
    *why = (struct problem){0};
    return list_file(l, s, place, why);
}

/* Of several: files in the first turn, in the second directories, each with a
 * headline. */
static int list_turn(struct list *l, struct session *s, char **names, int count,
                     bool directories, struct problem *why)
{
    int rc = 0;

    for (int i = 0; i < count && rc == 0; i++) {
        struct remote_entry e = {.type = 'd'};
        char shown[PROBLEM_TEXT_BYTES];
        struct place place;

        l->asked = names[i];
        rc = place_parse(names[i], &place, why);
        if (rc == 0)
            rc = remote_stat_place(s, &place, &e, NULL, why);
        if (rc < 0 || (e.type == 'd') != directories)
            continue;
        if (!directories) {
            rc = list_file(l, s, &place, why);
        } else {
            place_print(&place, shown, sizeof(shown));
            if (!l->c->json)
                printf("%s%s:\n", l->begun ? "\n" : "", shown);
            rc = list_directory(l, s, &place, why);
        }
        l->begun = true;
    }
    columns_flush(&l->columns, stdout);
    return rc;
}

static int list_all(struct list *l, struct session *s, char **names, int count,
                    struct problem *why)
{
    struct place place;
    int rc;

    if (count == 1) {
        rc = place_parse(names[0], &place, why);
        return rc < 0 ? rc : list_one(l, s, &place, why);
    }
    rc = list_turn(l, s, names, count, false, why);
    return rc < 0 ? rc : list_turn(l, s, names, count, true, why);
}

int cmd_ls(struct cli *c)
{
    char *root[] = {":/"};
    char **names = c->argc > 0 ? c->argv : root;
    int count = c->argc > 0 ? c->argc : 1, rc;
    struct list *l = keel_calloc(1, sizeof(*l));
    struct session s;
    struct place first;

    if (!l)
        return problem(c->why, NO_MEMORY);
    l->c = c;
    if (!c->recursive)
        l->columns.width = text_terminal(1);
    rc = places_parse(names, count, &first, c->why);
    if (rc == 0)
        rc = session_open(c, &first, &s, c->why);
    if (rc == 0) {
        rc = list_all(l, &s, names, count, c->why);
        session_close(&s);
    }
    columns_fini(&l->columns);
    keel_free(l);
    fflush(stdout);
    return rc;
}

/* ---- stat ----------------------------------------------------------------------------- */

static void stat_say(struct cli *c, const struct place *place,
                     const struct remote_entry *e, const char *target)
{
    char name[PROBLEM_TEXT_BYTES * 4], mode[11], date[40], size[32],
        to[PROBLEM_TEXT_BYTES * 4], digest[DIGEST_TEXT_BYTES];

    place_print(place, name, sizeof(name));
    mode_print(e->type, e->mode, mode);
    date_print(e->mtime_ns, "%Y-%m-%d %H:%M:%S %z", date);
    text_bytes(e->size, size);
    cli_say(c, "%s", name);
    cli_say(c, "  type      %s",
            e->type == 'f'   ? _("file")
            : e->type == 'd' ? _("directory")
            : e->type == 'l' ? _("symbolic link")
                             : _("something else"));
    if (e->type == 'f')
        cli_say(c, "  size      %llu (%s)", (unsigned long long)e->size, size);
    if (target) {
        text_escape(target, strlen(target), to, sizeof(to));
        cli_say(c, "  target    %s", to);
    }
    cli_say(c, "  mode      %04o (%s)", (unsigned)e->mode, mode);
    cli_say(c, "  modified  %s", date);
    if (e->hash) {
        digest_print(e->hash, &e->root, digest);
        cli_say(c, "  hash      %s", digest);
    }
}

static int stat_one(struct cli *c, struct session *s, const char *text,
                    struct problem *why)
{
    keel_auto(str) char *target = NULL;
    struct remote_entry e;
    struct place place;
    int rc = place_parse(text, &place, why);

    if (rc == 0)
        rc = remote_stat_place(s, &place, &e, &target, why);
    if (rc < 0)
        return rc;
    stat_say(c, &place, &e, target);
    cli_json(c, entry_json(&e, target, &place.path));
    return 0;
}

int cmd_stat(struct cli *c)
{
    struct place first;
    struct session s;
    int failed = 0, rc = places_parse(c->argv, c->argc, &first, c->why);

    if (rc == 0)
        rc = session_open(c, &first, &s, c->why);
    if (rc < 0)
        return rc;
    for (int i = 0; i < c->argc && rc == 0; i++) {
        struct problem why = {0};

        rc = stat_one(c, &s, c->argv[i], &why);
        rc = cli_failed(c, rc, &why, c->argc, &failed);
    }
    session_close(&s);
    return rc < 0 ? rc : failed ? CLI_PARTLY : 0;
}
