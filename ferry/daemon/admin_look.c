/* SPDX-License-Identifier: MIT */
/* Requests that look:
 *
 *     sessions       -> rows
 *     sessions.kick  id
 *     check          repair -> a row for each finding; findings, unrepaired
 *     stats          -> the object of stats.h
 */
#include <dirent.h>
#include <errno.h>
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
        return admin_row(c->teller,
                         json_pack("{s:s, s:s, s:s, s:b, s:b, s:I, s:I, s:I}",
                                   "where", c->owner, "path", "", "what",
                                   f->what, "repaired", 0, "information", 1,
                                   "files", (json_int_t)f->outside->files,
                                   "links", (json_int_t)f->outside->links,
                                   "others", (json_int_t)f->outside->others),
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

/* Deeper than any path can be. */
#define DEPTH_MOST PATH_BYTES

struct walk {
    int dir;
    unsigned depth;
};

static int each_inside(const char *name, unsigned char type, void *arg)
{
    const struct walk *above = arg;
    struct walk w = {-1, above->depth + 1};
    int rc;

    if (type != DT_DIR || w.depth > DEPTH_MOST)
        return 1;
    w.dir = keel_file_open(above->dir, name, O_RDONLY | O_DIRECTORY, 0);
    rc = w.dir < 0 ? w.dir : keel_file_list(w.dir, each_inside, &w);
    keel_file_close(w.dir);
    return rc;
}

struct strays {
    struct house *house;
    struct checking *check;
    int dir;
};

/* Whether the ledger knows it.  A space that was deleted may have left empty
 * directories: nothing is lost with them. */
static int each_space_dir(const char *name, unsigned char type, void *arg)
{
    struct strays *s = arg;
    struct checking *c = s->check;
    const struct vault_finding f = {
        name, "has files, and the ledger has no space there", false, NULL};
    struct walk w = {s->dir, 0};
    struct ledger_space any;
    struct problem why = {0};
    int rc = ledger_space_in(s->house->ledger, name, &any, &why);

    if (rc == 0)
        return 0;
    if (why.id != PROBLEM_SPACE_UNKNOWN) {
        *c->why = why;
        return rc;
    }
    rc = each_inside(name, type, &w);
    if (rc < 0 && rc != -ENOENT)
        return problem(c->why, DATA_ACCESS, .errno_ = -rc, .name = name);
    return rc > 0 ? each_finding(&f, c) : 0;
}

static int check_strays(struct house *h, struct checking *c,
                        struct problem *why)
{
    keel_auto(file) int dir =
        keel_file_open(h->dir, "spaces", O_RDONLY | O_DIRECTORY, 0);
    struct strays s = {h, c, dir};
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
