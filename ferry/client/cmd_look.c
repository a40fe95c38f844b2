/* SPDX-License-Identifier: MIT */
/* hash, explain. */
#include <errno.h>
#include <stdio.h>
#include <string.h>

#include <keel/file.h>

#include "chunk/source.h"
#include "client/cli.h"
#include "client/remote.h"

/* ---- hash ----------------------------------------------------------------------------- */

static void hash_say(struct cli *c, const char *name, enum chunk_hash hash,
                     const struct digest *root, uint64_t size)
{
    char digest[DIGEST_TEXT_BYTES], shown[512];

    digest_print(hash, root, digest);
    text_escape(name, strlen(name), shown, sizeof(shown));
    cli_say(c, "%s  %s", digest, shown);
    cli_json(c, json_pack("{s:o, s:s, s:I}", "name",
                          text_to_json(name, strlen(name)), "root", digest,
                          "size", (json_int_t)size));
}

static int hash_local(struct cli *c, const char *name, enum chunk_hash hash,
                      struct digest *ret, uint64_t *ret_size)
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
    if (rc == 0)
        rc = source_root(s, ret, c->why);
    if (rc == 0)
        *ret_size = source_size(s);
    return rc;
}

int cmd_hash(struct cli *c)
{
    for (int i = 0; i < c->argc; i++) {
        enum chunk_hash hash;
        struct digest root;
        uint64_t size = 0;
        struct place place;
        struct session s;
        int rc = place_parse(c->argv[i], &place, c->why);

        if (rc == 0)
            rc = cli_hash(c, &hash, c->why);
        if (rc == 0 && !place.remote) {
            rc = hash_local(c, c->argv[i], hash, &root, &size);
        } else if (rc == 0) {
            rc = session_open(c, &place, &s, c->why);
            if (rc == 0) {
                rc = remote_hash_place(&s, &place, hash, &root, &size, c->why);
                session_close(&s);
            }
        }
        if (rc < 0)
            return rc;
        hash_say(c, c->argv[i], hash, &root, size);
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
