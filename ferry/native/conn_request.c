/* SPDX-License-Identifier: MIT */
/* A request, from its verb to its line in the log. */
#include <errno.h>
#include <inttypes.h>
#include <stdio.h>
#include <string.h>

#include <keel/base.h>

#include "base/log.h"
#include "native/native_inside.h"

/* A request in progress keeps a stopping connection open. */
static void conn_busy(struct conn *c, const struct verb *v, const json_t *body)
{
    const char *path = json_string_value(json_object_get(body, "path"));

    if (c->requests++ == 0)
        keel_event_clear(&c->quiet);
    keel_guard(&c->look);
    c->verb = v;
    strncpy(c->shown, path ? path : "", sizeof(c->shown) - 1);
}

static void conn_idle(struct conn *c)
{
    keel_assert(c->requests > 0);
    if (--c->requests == 0)
        keel_event_set(&c->quiet);
}

static int run_verb(struct conn *c, const struct verb *v, struct exchange *x,
                    const struct request *q, struct problem *why)
{
    int rc = v->large ? keel_semaphore_take(&c->large, KEEL_FOREVER) : 0;

    if (rc < 0)
        return rc;
    rc = v->run(c, x, q, why);
    if (v->large)
        keel_semaphore_give(&c->large);
    return rc;
}

/* Whose place it is, and whether the actor may do this there. */
static int verb_place(struct conn *c, const struct verb *v, struct request *q,
                      struct problem *why)
{
    struct accounts *a = c->native->o.accounts;
    int rc = account_still(a, &c->actor, why);

    if (rc < 0 || v->right == RIGHT_NONE)
        return rc;
    rc = field_path(q->body, "path", &q->path, why);
    if (rc < 0)
        return rc;
    rc = field_space(c, q->body, &q->space, why);
    if (rc < 0)
        return rc;
    return account_may(a, &c->actor, q->space, &q->path, v->right, why);
}

/* The one place that asks for a login, whether it still holds, and for the
 * right. */
static int conn_verb(struct conn *c, const struct verb *v, const char *verb,
                     struct exchange *x, const json_t *body,
                     struct problem *why)
{
    bool in = c->actor.account != 0;
    struct request q;
    int rc;

    if (c->away.id != PROBLEM_NONE) {
        *why = c->away;
        return -problem_row(why->id)->errno_;
    }
    if (!v && !json_is_string(json_object_get(body, "do")))
        return problem(why, REQUEST_INVALID, .detail = "'do' is missing");
    if (!v)
        return problem(why, REQUEST_UNKNOWN, .name = verb);
    if (v->needs == VERB_LOGIN && !in)
        return problem(why, LOGIN_NEEDED);
    if (v->needs == VERB_EARLY && in)
        return problem(why, REQUEST_INVALID, .detail = "already logged in");
    q.body = body;
    rc = v->needs == VERB_LOGIN ? verb_place(c, v, &q, why) : 0;
    return rc < 0 ? rc : run_verb(c, v, x, &q, why);
}

static bool worth_a_line(const struct verb *v, const struct exchange *x)
{
    return v->log == LOG_LOUD ||
           (v->log == LOG_LARGE && exchange_moved(x) > SMALL_BYTES);
}

/* The peer's bytes, for the log: what stands under `key`, quoted. */
static const char *shown_field(const json_t *body, const char *key, char *ret,
                               size_t size)
{
    const json_t *j = json_object_get(body, key);
    keel_auto(str) char *bytes = NULL;
    size_t bytes_size = 0;

    if (j)
        (void)text_from_json(j, PATH_BYTES, &bytes, &bytes_size);
    return text_quote(bytes ? bytes : "", bytes_size, ret, size);
}

/* A space's name as it is; what is none, quoted. */
static const char *shown_space(const json_t *body, char *ret, size_t size)
{
    const char *name = json_string_value(json_object_get(body, "space"));

    if (!json_object_get(body, "space"))
        return "";
    if (name && space_name_check(name, NULL) == 0)
        return name;
    return shown_field(body, "space", ret, size);
}

/* " name='bo'": as whom somebody wants in. */
static const char *shown_name(const struct conn *c, const struct verb *v,
                              const json_t *body, char *ret, size_t size)
{
    char name[4 * ACCOUNT_NAME_BYTES];

    *ret = 0;
    if (!v || v->needs != VERB_EARLY)
        return ret;
    if (json_object_get(body, "name"))
        shown_field(body, "name", name, sizeof(name));
    else if (c->asked[0])
        text_quote(c->asked, strlen(c->asked), name, sizeof(name));
    else
        return ret;
    snprintf(ret, size, " name=%s", name);
    return ret;
}

/* One line a request, under the name that the client can show:
 *     trace=1f00ab12-17 peer=... account=mara verb=get space=team path='/a/b'
 *         bytes=4096 ms=2 result=file.missing words='There is no /a/b.' */
static void conn_log(struct conn *c, const struct verb *v, struct exchange *x,
                     const json_t *body, keel_ns began, int rc,
                     const struct problem *why)
{
    char path[256], space[80], name[4 * ACCOUNT_NAME_BYTES + 8];
    char words[600] = "", said[512];
    bool told = why->id != PROBLEM_NONE;
    bool line = rc < 0 || (v && worth_a_line(v, x));

    if (!log_wanted(line ? LOG_INFO : LOG_DEBUG))
        return;
    if (rc < 0 && told)
        problem_sentence(why, said, sizeof(said));
    else if (rc < 0) /* the link broke: nobody is left to be told why */
        snprintf(said, sizeof(said), "%s", strerror(-rc));
    if (rc < 0)
        text_quote_shown(said, words, sizeof(words));
    log_line(line ? LOG_INFO : LOG_DEBUG, __FILE__,
             "trace=%s-%" PRIu32 " peer=%s account=%s%s verb=%s space=%s "
             "path=%s bytes=%" PRIu64 " ms=%" PRId64 " result=%s%s%s",
             c->id, exchange_id(x), c->peer,
             c->actor.account ? c->actor.name : "-",
             shown_name(c, v, body, name, sizeof(name)), v ? v->name : "?",
             shown_space(body, space, sizeof(space)),
             shown_field(body, "path", path, sizeof(path)), exchange_moved(x),
             (keel_now() - began) / KEEL_MS,
             rc >= 0 ? "ok"
             : told  ? problem_code(why)
                     : "cut",
             rc < 0 ? " words=" : "", words);
}

static void conn_count(struct native *n, const struct verb *v, int rc,
                       const struct problem *why)
{
    unsigned i = verb_number(v);

    if (rc >= 0)
        n->counters.verbs[i].ok++;
    else if (why->id == PROBLEM_NONE)
        n->counters.verbs[i].cut++;
    else
        n->counters.verbs[i].refused++;
    if (rc < 0 && v && strncmp(v->name, "login.", 6) == 0)
        n->counters.logins_refused++;
}

/* Every request comes through here. */
int conn_request(struct exchange *x, const char *verb, const json_t *body,
                 void *arg, struct problem *why)
{
    struct conn *c = arg;
    struct native *n = c->native;
    const struct verb *v = verb_find(verb);
    keel_ns began = keel_now();
    int rc;

    conn_busy(c, v, body);
    n->counters.requests++;
    rc = conn_verb(c, v, verb, x, body, why);
    n->counters.requests--;
    conn_count(n, v, rc, why);
    conn_log(c, v, x, body, began, rc, why);
    conn_idle(c);
    return rc;
}
