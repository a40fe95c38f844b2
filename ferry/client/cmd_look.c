/* SPDX-License-Identifier: MIT */
/* ls, hash, explain. */
#include <errno.h>
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>
#include <time.h>

#include <keel/file.h>

#include "chunk/source.h"
#include "client/cli.h"
#include "client/remote.h"

/* ---- ls ------------------------------------------------------------------------------ */

static void entry_say(struct cli *c, const struct remote_entry *e)
{
    char name[NAME_BYTES * 4 + 1], size[32], date[32],
        digest[DIGEST_TEXT_BYTES];
    time_t seconds = (time_t)(e->mtime_ns / 1000000000);
    struct tm tm;
    json_t *j;

    text_escape(e->name, strlen(e->name), name, sizeof(name));
    text_bytes(e->size, size);
    localtime_r(&seconds, &tm);
    strftime(date, sizeof(date), "%Y-%m-%d %H:%M", &tm);
    cli_say(c, "%10s  %s  %s%s", e->type == 'd' ? "-" : size, date, name,
            e->type == 'd'   ? "/"
            : e->type == 'l' ? "@"
                             : "");
    if (!c->json)
        return;
    j = json_pack("{s:o, s:s#, s:I, s:I, s:i}", "name",
                  text_to_json(e->name, strlen(e->name)), "type", &e->type, 1,
                  "size", (json_int_t)e->size, "mtime_ns",
                  (json_int_t)e->mtime_ns, "mode", (int)e->mode);
    if (j && e->hash) {
        digest_print(e->hash, &e->root, digest);
        json_object_set_new(j, "hash", json_string(digest));
    }
    cli_json(c, j);
}

/* One page; `after` becomes the last name of it. */
static int ls_page(struct cli *c, struct session *s, const struct path *path,
                   char after[NAME_BYTES + 1], bool *ret_more)
{
    json_t *fields = path_fields(path), *ok, *entries, *j;
    struct remote_entry e;
    size_t i;
    int rc;

    if (!fields || json_object_set_new(fields, "after",
                                       text_to_json(after, strlen(after))) < 0)
        return problem(c->why, NO_MEMORY);
    rc = link_ask(s->link, "list", fields, keel_after(ASK_TIME), &ok, c->why);
    if (rc < 0)
        return rc;
    entries = json_object_get(ok, "entries");
    *ret_more = json_is_true(json_object_get(ok, "more"));
    if (!json_is_array(entries) ||
        !json_is_boolean(json_object_get(ok, "more")))
        rc = problem(c->why, PROTOCOL_BROKEN, .detail = "it sent no list");
    if (rc < 0) {
        json_decref(ok);
        return rc;
    }
    json_array_foreach(entries, i, j)
    {
        rc = remote_entry_parse(j, &e, c->why);
        /* Names in order: a server that repeats itself would never end. */
        if (rc == 0 && strcmp(e.name, after) <= 0)
            rc =
                problem(c->why, PROTOCOL_BROKEN, .detail = "names in disorder");
        if (rc < 0)
            break;
        entry_say(c, &e);
        memcpy(after, e.name, sizeof(e.name));
    }
    if (rc == 0 && *ret_more && json_array_size(entries) == 0)
        rc = problem(c->why, PROTOCOL_BROKEN, .detail = "an empty page");
    json_decref(ok);
    return rc;
}

int cmd_ls(struct cli *c)
{
    struct place place = {.remote = true};
    char after[NAME_BYTES + 1] = "";
    struct session s;
    bool more = true;
    int rc = 0;

    if (c->argc > 0)
        rc = place_parse(c->argv[0], &place, c->why);
    if (rc == 0 && !place.remote)
        rc =
            problem(c->why, USAGE,
                    .detail = "ls lists the server's files: 'ferry ls :/path'");
    if (rc == 0)
        rc = session_open(c, &place, &s, c->why);
    if (rc < 0)
        return rc;
    while (rc == 0 && more)
        rc = ls_page(c, &s, &place.path, after, &more);
    session_close(&s);
    return rc;
}

/* ---- hash ----------------------------------------------------------------------------- */

static void hash_say(struct cli *c, const char *name, enum chunk_hash hash,
                     const struct digest *root)
{
    char digest[DIGEST_TEXT_BYTES], shown[512];

    digest_print(hash, root, digest);
    text_escape(name, strlen(name), shown, sizeof(shown));
    cli_say(c, "%s  %s", digest, shown);
    cli_json(c, json_pack("{s:o, s:s}", "name",
                          text_to_json(name, strlen(name)), "root", digest));
}

static int hash_local(struct cli *c, const char *name, enum chunk_hash hash,
                      struct digest *ret)
{
    keel_auto(source) struct source *s = NULL;
    int fd = keel_file_open_any(name, O_RDONLY | O_NONBLOCK, 0);
    int rc;

    if (fd < 0)
        return problem(c->why, FILE_LOCAL, .errno_ = -fd, .name = name);
    rc = source_open(fd, hash, name, &s, c->why);
    if (rc < 0) {
        keel_file_close(fd);
        return rc;
    }
    for (uint64_t i = 0; i < chunk_count(source_size(s)) && rc == 0; i++)
        rc = source_hash(s, i, c->why);
    return rc < 0 ? rc : source_root(s, ret, c->why);
}

int cmd_hash(struct cli *c)
{
    for (int i = 0; i < c->argc; i++) {
        enum chunk_hash hash;
        struct digest root;
        struct place place;
        struct session s;
        int rc = place_parse(c->argv[i], &place, c->why);

        if (rc == 0)
            rc = cli_hash(c, &hash, c->why);
        if (rc == 0 && !place.remote) {
            rc = hash_local(c, c->argv[i], hash, &root);
        } else if (rc == 0) {
            rc = session_open(c, &place, &s, c->why);
            if (rc == 0) {
                rc = remote_hash(&s, &place.path, hash, &root, c->why);
                session_close(&s);
            }
        }
        if (rc < 0)
            return rc;
        hash_say(c, c->argv[i], hash, &root);
    }
    return 0;
}

/* ---- explain -------------------------------------------------------------------------- */

static void explain_one(struct cli *c, const struct problem_row *row)
{
    cli_say(c, "%s\n    %s%s%s\n    Exit status %d.", row->code, row->sentence,
            row->advice[0] ? "\n    " : "", row->advice, row->exit_status);
    cli_json(c, json_pack("{s:s, s:s, s:s, s:i}", "code", row->code, "sentence",
                          row->sentence, "advice", row->advice, "exit",
                          row->exit_status));
}

int cmd_explain(struct cli *c)
{
    const char *near = NULL;
    enum problem_id id;
    char detail[200];

    if (c->argc == 0) {
        for (int i = PROBLEM_NONE + 1; i < PROBLEM_COUNT; i++)
            explain_one(c, problem_row((enum problem_id)i));
        return 0;
    }
    id = problem_by_code(c->argv[0], &near);
    if (id == PROBLEM_NONE) {
        snprintf(detail, sizeof(detail), "there is no code '%.60s'%s%.60s%s",
                 c->argv[0], near ? "; did you mean '" : "", near ? near : "",
                 near ? "'?" : "");
        return problem(c->why, USAGE, .detail = detail);
    }
    explain_one(c, problem_row(id));
    return 0;
}
