/* SPDX-License-Identifier: MIT */
/* hash, explain. */
#include <errno.h>
#include <stdio.h>
#include <string.h>

#include <keel/file.h>

#include "chunk/source.h"
#include "client/cli.h"
#include "client/remote.h"
#include "client/text.h"

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

static int hash_local(const char *name, enum chunk_hash hash,
                      struct digest *ret, uint64_t *ret_size,
                      struct problem *why)
{
    keel_auto(source) struct source *s = NULL;
    int fd = keel_file_open_any(name, O_RDONLY | O_NONBLOCK, 0);
    int rc;

    if (fd < 0)
        return problem(why, FILE_LOCAL, .errno_ = -fd, .name = name);
    rc = source_open(fd, hash, name, &s, why);
    if (rc < 0) {
        keel_file_close(fd);
        return rc;
    }
    for (uint64_t i = 0; i < chunk_count(source_size(s)) && rc == 0; i++)
        rc = source_hash(s, i, why);
    if (rc == 0)
        rc = source_root(s, ret, why);
    if (rc == 0)
        *ret_size = source_size(s);
    return rc;
}

/* The last login's, for one argument after the other. */
struct hashing {
    struct cli *c;
    enum chunk_hash hash;
    struct place place;
    struct session s;
    bool open;
};

static void hashing_close(struct hashing *h)
{
    if (h->open)
        session_close(&h->s);
    h->open = false;
}

static int hash_remote(struct hashing *h, const struct place *place,
                       struct digest *ret, uint64_t *ret_size,
                       struct problem *why)
{
    int rc = 0;

    if (h->open && !place_same_login(&h->place, place))
        hashing_close(h);
    if (!h->open)
        rc = session_open(h->c, place, &h->s, why);
    if (rc < 0)
        return rc;
    h->open = true;
    h->place = *place;
    rc = remote_slash_check(&h->s, place, why);
    return rc < 0
               ? rc
               : remote_hash_place(&h->s, place, h->hash, ret, ret_size, why);
}

static int hash_one(struct hashing *h, const char *name, struct problem *why)
{
    struct digest root;
    uint64_t size = 0;
    struct place place;
    int rc = place_parse(name, &place, why);

    if (rc == 0)
        rc = place.remote ? hash_remote(h, &place, &root, &size, why)
                          : hash_local(name, h->hash, &root, &size, why);
    if (rc == 0)
        hash_say(h->c, name, h->hash, &root, size);
    return rc;
}

int cmd_hash(struct cli *c)
{
    struct hashing h = {.c = c};
    int rc = cli_hash(c, &h.hash, c->why), failed = 0;

    for (int i = 0; i < c->argc && rc == 0; i++) {
        struct problem why = {0};

        rc = cli_failed(c, hash_one(&h, c->argv[i], &why), &why, c->argc,
                        &failed);
    }
    hashing_close(&h);
    return rc < 0 ? rc : failed > 0 ? CLI_PARTLY : 0;
}

/* ---- explain -------------------------------------------------------------------------- */

static void explain_one(struct cli *c, const struct problem_row *row)
{
    const char *advice = row->advice[0] ? _(row->advice) : "";
    char shape[1024];

    problem_shape(row->sentence, shape, sizeof(shape));
    cli_say(c, "%s\n    %s%s%s\n    Exit status %d.", row->code, shape,
            advice[0] ? "\n    " : "", advice, row->exit_status);
    cli_json(c, json_pack("{s:s, s:s, s:s, s:i}", "code", row->code, "sentence",
                          row->sentence, "advice", row->advice, "exit",
                          row->exit_status));
}

#define NEAR_MOST 4

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
        if (near && text_distance(c->argv[0], near) <= NEAR_MOST)
            snprintf(detail, sizeof(detail),
                     _("there is no code '%.60s'; did you mean '%.60s'?"),
                     c->argv[0], near);
        else
            snprintf(detail, sizeof(detail),
                     _("there is no code '%.60s'; 'ferry explain' lists them"),
                     c->argv[0]);
        return problem(c->why, USAGE, .detail = detail);
    }
    explain_one(c, problem_row(id));
    return 0;
}
