/* SPDX-License-Identifier: MIT */
/* Requests that look:
 *
 *     sessions       -> rows
 *     sessions.kick  id
 *     check          repair -> a row for each finding; findings, unrepaired
 *     stats          -> the object of stats.h
 */
#include <errno.h>
#include <stdio.h>
#include <string.h>

#include <keel/file.h>

#include "base/log.h"
#include "daemon/admin.h"
#include "daemon/stats.h"
#include "wire/frame.h"

/* ---- sessions ------------------------------------------------------------------ */

static int running(struct house *h, struct problem *why)
{
    return h->native ? 0 : problem(why, DATA_IDLE);
}

static int session_row(const struct native_session *s, const struct teller *t,
                       struct problem *why)
{
    return admin_row(t,
                     json_pack("{s:s, s:s, s:s, s:I, s:I, s:i, s:I, s:I, s:s}",
                               "id", s->id, "peer", s->peer, "account",
                               s->account, "device", (json_int_t)s->device,
                               "since", (json_int_t)s->since, "requests",
                               (int)s->requests, "bytes_in",
                               (json_int_t)s->bytes_in, "bytes_out",
                               (json_int_t)s->bytes_out, "doing", s->doing),
                     why);
}

static int answer_sessions(struct house *h, const json_t *request,
                           const struct teller *t, json_t **ret_ok,
                           struct problem *why)
{
    struct native_session *all;
    unsigned count, room;
    int rc = 0;

    (void)request;
    /* Where nobody serves, nobody is connected. */
    if (!h->native)
        return admin_ok(json_pack("{s:i}", "count", 0), ret_ok, why);
    room = native_connections(h->native) + 16;
    all = keel_calloc(room, sizeof(*all));
    if (!all)
        return problem(why, NO_MEMORY);
    count = native_sessions(h->native, all, room);
    for (unsigned i = 0; i < count && i < room && rc == 0; i++)
        rc = session_row(&all[i], t, why);
    keel_free(all);
    if (rc < 0)
        return rc;
    return admin_ok(json_pack("{s:i}", "count", (int)count), ret_ok, why);
}

static int answer_kick(struct house *h, const json_t *request,
                       const struct teller *t, json_t **ret_ok,
                       struct problem *why)
{
    const char *id;
    int rc = running(h, why);

    (void)t;
    if (rc == 0)
        rc = field_text(request, "id", 32, &id, why);
    if (rc < 0)
        return rc;
    if (native_kick(h->native, id) < 0)
        return problem(why, SESSION_UNKNOWN, .name = id);
    log_info("conn=%s ended by the operator", id);
    return admin_ok(json_pack("{s:s}", "id", id), ret_ok, why);
}

/* ---- check ---------------------------------------------------------------------- */

struct checking {
    const struct teller *teller;
    bool repair;
    const char *owner; /* "mara" or "@team" */
    json_int_t findings, unrepaired;
    struct problem *why;
};

static int each_finding(const struct vault_finding *f, void *arg)
{
    struct checking *c = arg;

    if (f->outside)
        return admin_row(
            c->teller,
            json_pack("{s:s, s:s, s:s, s:b, s:b, s:I, s:I, s:I, s:I}", "where",
                      c->owner, "path", "", "what", f->what, "repaired", 0,
                      "information", 1, "files", (json_int_t)f->outside->files,
                      "names", (json_int_t)f->outside->names, "links",
                      (json_int_t)f->outside->links, "others",
                      (json_int_t)f->outside->others),
            c->why);
    c->findings++;
    if (!f->repaired)
        c->unrepaired++;
    return admin_row(c->teller,
                     json_pack("{s:s, s:o, s:s, s:b}", "where", c->owner,
                               "path", text_to_json(f->path, strlen(f->path)),
                               "what", f->what, "repaired", f->repaired),
                     c->why);
}

static int check_space(struct house *h, const struct ledger_space *s, void *arg,
                       struct problem *why)
{
    struct checking *c = arg;
    struct ledger_account owner = {0};
    char name[SPACE_NAME_BYTES + 2] = "@";

    if (s->name[0]) {
        memcpy(name + 1, s->name, sizeof(s->name));
        c->owner = name;
    } else if (ledger_account_get(h->ledger, s->owner, &owner, NULL) == 0) {
        c->owner = owner.name;
    } else {
        c->owner = "?";
    }
    return vault_check(h->vault, s->id, c->repair, each_finding, c, why);
}

/* ---- directories of nobody ---- */

struct strays {
    struct house *house;
    struct checking *check;
};

static void stray_words(const struct vault_tree *t, char *ret, size_t size)
{
    (void)snprintf(
        ret, size,
        "the ledger has no space there; in it: files: %llu (%llu bytes); "
        "links: %llu; others: %llu; directories: %llu",
        (unsigned long long)t->files, (unsigned long long)t->bytes,
        (unsigned long long)t->links, (unsigned long long)t->others,
        (unsigned long long)t->directories);
}

/* Whether the ledger knows it.  A space that was deleted may have left empty
 * directories: nothing is lost with them, and a repair takes them away. */
static int each_space_dir(const char *name, unsigned char type, void *arg)
{
    struct strays *s = arg;
    struct checking *c = s->check;
    struct vault_finding f = {.path = name};
    struct vault_tree t;
    struct ledger_space any;
    struct problem why = {0};
    char what[240];
    int rc = ledger_space_in(s->house->ledger, name, &any, &why);

    (void)type;
    if (rc == 0)
        return 0;
    if (why.id != PROBLEM_SPACE_UNKNOWN) {
        *c->why = why;
        return rc;
    }
    rc = vault_stray(s->house->vault, name, c->repair, &t, c->why);
    if (rc < 0 || t.files + t.links + t.others == 0)
        return rc < 0 ? rc : 0;
    stray_words(&t, what, sizeof(what));
    f.what = what;
    f.repaired = rc > 0;
    return each_finding(&f, c);
}

static int check_strays(struct house *h, struct checking *c,
                        struct problem *why)
{
    keel_auto(file) int dir =
        keel_file_open(h->dir, "spaces", O_RDONLY | O_DIRECTORY, 0);
    struct strays s = {h, c};
    int rc;

    c->owner = "spaces/";
    rc = dir < 0 ? dir : keel_file_list(dir, each_space_dir, &s);
    if (rc < 0 && why->id == PROBLEM_NONE)
        return problem(why, DATA_ACCESS, .errno_ = -rc, .name = "spaces/");
    return rc;
}

static int answer_check(struct house *h, const json_t *request,
                        const struct teller *t, json_t **ret_ok,
                        struct problem *why)
{
    struct checking c = {.teller = t, .why = why};
    int rc = field_bool_or(request, "repair", false, &c.repair, why);

    if (rc == 0)
        rc = ledger_check(h->ledger, why);
    if (rc == 0)
        rc = admin_spaces(h, check_space, &c, why);
    if (rc == 0)
        rc = check_strays(h, &c, why);
    if (rc < 0)
        return rc;
    log_info("checked%s: %lld finding%s, %lld left",
             c.repair ? " and repaired" : "", (long long)c.findings,
             text_plural(c.findings), (long long)c.unrepaired);
    return admin_ok(json_pack("{s:I, s:I}", "findings", c.findings,
                              "unrepaired", c.unrepaired),
                    ret_ok, why);
}

static int answer_stats(struct house *h, const json_t *request,
                        const struct teller *t, json_t **ret_ok,
                        struct problem *why)
{
    (void)request;
    (void)t;
    return stats_take(h, ret_ok, why);
}

const struct admin_request look_requests[] = {
    {"sessions", answer_sessions},
    {"sessions.kick", answer_kick},
    {"check", answer_check},
    {"stats", answer_stats},
    {NULL, NULL},
};
