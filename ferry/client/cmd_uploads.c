/* SPDX-License-Identifier: MIT */
/* uploads: those that are not finished, and giving them up. */
#include <errno.h>
#include <stdio.h>
#include <string.h>

#include "client/cli.h"
#include "client/remote.h"
#include "client/text.h"

enum {
    ID_BYTES = 32, /* hex digits */
    ID_LEAST = 8,  /* which a person types, and a list shows */
    /* Each holds more than 1 MiB, or a server is not what it seems. */
    UPLOADS_MOST = 100000,
};

/* ---- all of them ---------------------------------------------------------------- */

static const char *id_of(const json_t *upload)
{
    const char *id = json_string_value(json_object_get(upload, "upload"));

    return id && strlen(id) == ID_BYTES &&
                   strspn(id, "0123456789abcdef") == ID_BYTES
               ? id
               : NULL;
}

/* A page's uploads go to the end of `all`; `ret_more` with the last one's id. */
static int page_take(json_t *all, const json_t *ok, char after[ID_BYTES + 1],
                     bool *ret_more, struct problem *why)
{
    const json_t *list = json_object_get(ok, "uploads"), *u;
    size_t i;

    if (!json_is_array(list))
        return problem(why, PROTOCOL_BROKEN, .detail = "it sent no list");
    json_array_foreach((json_t *)(uintptr_t)list, i, u)
    {
        if (!id_of(u) || json_array_size(all) == UPLOADS_MOST)
            return problem(why, PROTOCOL_BROKEN,
                           .detail = "its list of uploads is none");
        if (json_array_append(all, (json_t *)(uintptr_t)u) < 0)
            return problem(why, NO_MEMORY);
        snprintf(after, ID_BYTES + 1, "%s", id_of(u));
    }
    *ret_more = i > 0 && json_is_true(json_object_get(ok, "more"));
    return 0;
}

static int ask_uploads(struct session *s, json_t **ret, struct problem *why)
{
    char after[ID_BYTES + 1] = "";
    json_t *all = json_array();
    bool more = true;
    int rc = all ? 0 : problem(why, NO_MEMORY);

    while (rc == 0 && more) {
        json_t *ok = NULL;

        rc = link_ask(s->link, "uploads",
                      *after ? json_pack("{s:s}", "after", after) : NULL,
                      keel_after(ASK_TIME), &ok, why);
        if (rc == 0)
            rc = page_take(all, ok, after, &more, why);
        json_decref(ok);
    }
    if (rc < 0)
        json_decref(all);
    else
        *ret = all;
    return rc;
}

static uint64_t number(const json_t *j, const char *key)
{
    json_int_t n = json_integer_value(json_object_get(j, key));

    return n < 0 ? 0 : (uint64_t)n;
}

/* ":/2026/maps.tar" or ":@team/maps.tar", escaped. */
static void place_shown(const json_t *u, char *ret, size_t size)
{
    const char *space = json_string_value(json_object_get(u, "space"));
    char shown_space[4 * SPACE_NAME_BYTES + 1] = "";
    keel_auto(str) char *path = NULL;
    char shown[PROBLEM_TEXT_BYTES];
    size_t length = 0;

    if (space && strlen(space) <= SPACE_NAME_BYTES)
        text_escape(space, strlen(space), shown_space, sizeof(shown_space));
    if (text_from_json(json_object_get(u, "path"), PATH_BYTES, &path, &length) <
        0)
        length = 0;
    text_escape(path ? path : "", length, shown, sizeof(shown));
    snprintf(ret, size, ":%s%s/%s", *shown_space ? "@" : "", shown_space,
             shown);
}

static void upload_say(const json_t *u)
{
    char place[PROBLEM_TEXT_BYTES + 300], bytes[32], until[40];
    bool active = json_is_true(json_object_get(u, "active"));

    place_shown(u, place, sizeof(place));
    text_bytes(number(u, "held"), bytes);
    date_print((int64_t)number(u, "expires") * 1000000000, "%Y-%m-%d %H:%M",
               until);
    printf("%.*s  ", ID_LEAST, id_of(u));
    if (active)
        printf(_("holds %s, is being sent"), bytes);
    else
        printf(_("holds %s until %s"), bytes, until);
    printf("  %s\n", place);
}

static int uploads_list(struct cli *c, struct session *s)
{
    json_t *all, *u;
    size_t i;
    int rc = ask_uploads(s, &all, c->why);

    if (rc < 0)
        return rc;
    json_array_foreach(all, i, u)
    {
        if (c->json)
            cli_json(c, json_incref(u));
        else
            upload_say(u);
    }
    if (i == 0)
        cli_say(c, "No upload is unfinished.");
    json_decref(all);
    fflush(stdout);
    return 0;
}

/* ---- giving up -------------------------------------------------------------------- */

static int drop_one(struct cli *c, struct session *s, const json_t *u,
                    struct problem *why)
{
    char place[PROBLEM_TEXT_BYTES + 300], bytes[32];
    int rc =
        link_ask(s->link, "upload.drop", json_pack("{s:s}", "upload", id_of(u)),
                 keel_after(ASK_TIME), NULL, why);

    if (rc < 0)
        return rc;
    place_shown(u, place, sizeof(place));
    text_bytes(number(u, "held"), bytes);
    cli_say(c, "Gave up %s, which held %s", place, bytes);
    cli_json(c, json_pack("{s:s, s:s, s:I}", "do", "drop", "upload", id_of(u),
                          "held", (json_int_t)number(u, "held")));
    return 0;
}

static int drop_named(struct cli *c, struct session *s, const json_t *all,
                      const char *word, struct problem *why)
{
    const json_t *u, *found = NULL;
    char shown[64], detail[128];
    size_t i;

    if (strlen(word) < ID_LEAST ||
        strspn(word, "0123456789abcdef") != strlen(word)) {
        snprintf(detail, sizeof(detail), _("'%.60s' is no upload's ID"), word);
        return problem(why, USAGE, .detail = detail);
    }
    json_array_foreach((json_t *)(uintptr_t)all, i, u)
    {
        if (strncmp(id_of(u), word, strlen(word)) != 0)
            continue;
        if (found)
            return problem(why, USAGE,
                           .detail = "more than one upload's ID begins so");
        found = u;
    }
    snprintf(shown, sizeof(shown), "%s", word);
    return found ? drop_one(c, s, found, why)
                 : problem(why, UPLOAD_NONE, .name = shown);
}

static int uploads_drop(struct cli *c, struct session *s)
{
    bool every = c->argc == 2 && strcmp(c->argv[1], "all") == 0;
    int failed = 0, count;
    json_t *all;
    int rc = ask_uploads(s, &all, c->why);

    if (rc < 0)
        return rc;
    count = every ? (int)json_array_size(all) : c->argc - 1;
    for (int i = 0; i < count && rc == 0; i++) {
        struct problem why = {0};

        rc = every ? drop_one(c, s, json_array_get(all, (size_t)i), &why)
                   : drop_named(c, s, all, c->argv[i + 1], &why);
        rc = cli_failed(c, rc, &why, count, &failed);
    }
    if (every && count == 0)
        cli_say(c, "No upload is unfinished.");
    json_decref(all);
    return rc < 0 ? rc : failed ? CLI_PARTLY : 0;
}

int cmd_uploads(struct cli *c)
{
    struct session s;
    int rc;

    if (c->argc == 1 || (c->argc > 1 && strcmp(c->argv[0], "drop") != 0)) {
        char detail[160];

        snprintf(detail, sizeof(detail), _("it is 'ferry %s'"),
                 "uploads [drop ID... | drop all]");
        return problem(c->why, USAGE, .detail = detail);
    }
    rc = session_open(c, NULL, &s, c->why);
    if (rc < 0)
        return rc;
    rc = c->argc == 0 ? uploads_list(c, &s) : uploads_drop(c, &s);
    session_close(&s);
    return rc;
}
