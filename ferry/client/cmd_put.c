/* SPDX-License-Identifier: MIT */
/* put: which files go where.  One file goes by itself (upload.h), several and
 * trees together (put_tree.h). */
#include <errno.h>
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>

#include <keel/file.h>

#include "client/begun.h"
#include "client/put_known.h"
#include "client/put_tree.h"
#include "client/text.h"
#include "client/upload.h"

struct put {
    struct cli *c;
    struct place to;
    struct path target;
    bool inside; /* `to` is a directory there */
    int count;
    struct buffer_pool *pool;
    struct progress progress;
    struct progress_part part;
    struct upload_result result;
    struct statx local; /* of the one file */
    bool same;          /* it is there already */
};

/* ---- where to --------------------------------------------------------------------- */

/* Into a directory that exists under its own name, as cp does. */
static int target_ask(struct session *s, void *arg, struct problem *why)
{
    struct put *p = arg;
    struct remote_entry e = {.type = 'd'};
    struct problem missing;
    char path[PROBLEM_TEXT_BYTES];
    int rc = 0;

    /* The top of a space is a directory, who may only drop there need not ask.
     * Nor can they learn what else is there: it is what they say. */
    if (p->to.path.count > 0)
        rc = remote_stat_in(s, p->to.space, &p->to.path, &e, &missing);
    if (rc < 0 && missing.id == PROBLEM_RIGHT_MISSING) {
        p->inside = p->to.directory || p->count > 1;
        return 0;
    }
    if (rc < 0 && missing.id != PROBLEM_FILE_MISSING) {
        *why = missing;
        return rc;
    }
    p->inside = rc == 0 && e.type == 'd';
    if (p->inside)
        return 0;
    /* A tree makes its own directory. */
    if (p->count == 1 && (!p->to.directory || (p->c->recursive && rc < 0)))
        return 0;
    path_print(&p->to.path, path, sizeof(path));
    if (rc == 0)
        return problem(why, FILE_NOT_DIRECTORY, .name = path);
    *why = missing;
    return rc;
}

/* ---- one file ----------------------------------------------------------------------- */

static void one_say(struct put *p, const char *local)
{
    const struct upload_result *r = &p->result;
    char path[512], digest[DIGEST_TEXT_BYTES], name[256], sum[128];
    enum chunk_hash hash = 0;

    (void)cli_hash(p->c, &hash, NULL);
    path_print(&p->target, path, sizeof(path));
    text_escape(local, strlen(local), name, sizeof(name));
    text_slashes(name);
    digest_print(hash, &r->root, digest);
    progress_summary(&p->progress, sum, sizeof(sum));
    cli_say(p->c, "%s -> :%s%s%s  %s, %s", name, *p->to.space ? "@" : "",
            p->to.space, path, sum, r->level);
    cli_trace(p->c, "%s", digest);
    cli_json(p->c,
             json_pack("{s:s, s:o, s:o, s:I, s:I, s:s, s:s}", "do", "put",
                       "local", text_to_json(local, strlen(local)), "path",
                       path_to_json(p->target.text, p->target.size), "size",
                       (json_int_t)r->size, "sent", (json_int_t)r->sent, "root",
                       digest, "level", r->level));
}

static int one_send(struct session *s, void *arg, struct problem *why)
{
    struct put *p = arg;
    struct upload_order o = {
        .c = p->c,
        .local = p->c->argv[0],
        .space = p->to.space,
        .path = &p->target,
        .pool = p->pool,
        .progress = &p->progress,
        .part = &p->part,
    };
    int rc = cli_hash(p->c, &o.hash, why), fd;

    if (rc < 0)
        return rc;
    fd = keel_file_open_any(o.local, O_RDONLY | O_NONBLOCK, 0);
    if (fd < 0)
        return problem(why, FILE_LOCAL, .errno_ = -fd, .name = o.local);
    return upload_run(s, &o, fd, &p->result, why);
}

/* Before anybody is asked for anything. */
static int one_check(const char *local, struct statx *ret, struct problem *why)
{
    int fd = keel_file_open_any(local, O_RDONLY | O_NONBLOCK, 0), rc;

    if (fd < 0)
        return problem(why, FILE_LOCAL, .errno_ = -fd, .name = local);
    rc = keel_file_stat(fd, NULL, ret);
    keel_file_close(fd);
    if (rc < 0)
        return problem(why, FILE_LOCAL, .errno_ = -rc, .name = local);
    if (S_ISDIR(ret->stx_mode))
        return problem(why, FILE_IS_DIRECTORY, .name = local);
    return 0;
}

/* --no-replace lets what is there unchanged pass, as in a tree: the command that
 * is repeated ends well. */
static int one_compare(struct session *s, void *arg, struct problem *why)
{
    struct put *p = arg;
    keel_auto(known) struct known *there = NULL;
    const struct statx *st = &p->local;
    struct known_version v = {.type = 'f',
                              .size = st->stx_size,
                              .mtime_ns = st->stx_mtime.tv_sec * 1000000000 +
                                          st->stx_mtime.tv_nsec,
                              .mode = st->stx_mode & 07777};
    int rc;

    if (known_new(&there) < 0)
        return problem(why, NO_MEMORY);
    rc = known_stat(there, s, p->to.space, &p->target, why);
    p->same = rc == 0 && S_ISREG(st->stx_mode) &&
              known_ask(there, path_leaf(&p->target), &v) == KNOWN_SAME;
    return rc;
}

static void one_same_say(struct put *p, const char *local)
{
    char path[512], name[256];

    path_print(&p->target, path, sizeof(path));
    text_escape(local, strlen(local), name, sizeof(name));
    text_slashes(name);
    cli_say(p->c, "%s -> :%s%s%s  unchanged", name, *p->to.space ? "@" : "",
            p->to.space, path);
    cli_json(p->c,
             json_pack("{s:s, s:o, s:o, s:I, s:I, s:b}", "do", "put", "local",
                       text_to_json(local, strlen(local)), "path",
                       path_to_json(p->target.text, p->target.size), "size",
                       (json_int_t)p->local.stx_size, "sent", (json_int_t)0,
                       "unchanged", 1));
}

static int put_one(struct put *p, struct batch *b)
{
    const char *local = p->c->argv[0], *leaf = strrchr(local, '/');
    int rc = one_check(local, &p->local, p->c->why);

    if (rc == 0)
        rc = batch_run(b, target_ask, p, p->c->why);
    if (rc < 0)
        return rc;
    p->target = p->to.path;
    if (p->inside)
        rc = path_append(&p->target, leaf ? leaf + 1 : local, p->c->why);
    if (rc == 0 && p->c->no_replace)
        rc = batch_run(b, one_compare, p, p->c->why);
    if (rc == 0 && p->same) {
        one_same_say(p, local);
        return 0;
    }
    if (rc == 0 && buffer_pool_new(UPLOAD_BUFFERS, &p->pool) < 0)
        rc = problem(p->c->why, NO_MEMORY);
    if (rc < 0)
        return rc;
    batch_progress(b, &p->progress);
    rc = batch_run(b, one_send, p, p->c->why);
    batch_progress(b, NULL);
    progress_stop(&p->progress);
    if (rc == 0)
        one_say(p, local);
    buffer_pool_free(p->pool);
    return rc;
}

/* ---- several, and trees --------------------------------------------------------------- */

/* A tree under a new name: the command that is repeated goes on in it. */
static void begun_look(struct put *p, const struct login_address *login,
                       struct begun *begun)
{
    bool under_name = p->count == 1 && p->c->recursive && p->to.path.count > 0;

    *begun = (struct begun){{0}};
    if (!under_name)
        return;
    begun_of("put", login, p->to.space, &p->to.path, p->c->argv[0], begun);
    if (p->inside && begun_is(begun))
        p->inside = false;
    else if (!p->inside && !p->c->dry_run)
        begun_set(begun);
}

static int put_many(struct put *p, struct batch *b)
{
    struct put_order o = {
        .c = p->c,
        .batch = b,
        .space = p->to.space,
        .target = &p->target,
        .sources = p->c->argv,
        .count = p->count,
    };
    struct begun begun;
    int rc = batch_run(b, target_ask, p, p->c->why);

    if (rc < 0)
        return rc;
    begun_look(p, &batch_session(b)->profile.login, &begun);
    p->target = p->to.path;
    if (!p->inside) {
        path_parent(&p->target, &p->target);
        o.as = path_leaf(&p->to.path);
    }
    rc = put_tree(&o);
    if (rc == 0 && !p->c->dry_run)
        begun_drop(&begun);
    return rc;
}

/* ---- the command ------------------------------------------------------------------------ */

static bool is_directory(const char *local)
{
    int fd = keel_file_open_any(local, O_RDONLY | O_DIRECTORY, 0);

    if (fd >= 0)
        keel_file_close(fd);
    return fd >= 0;
}

/* A remote alone, as "we:ird" is: a file here may have that name. */
static int nothing_to_send(const struct cli *c)
{
    const char *name = c->argv[0];
    char detail[PROBLEM_TEXT_BYTES];
    struct statx st;

    if (keel_file_stat(AT_FDCWD, name, &st) < 0)
        return problem(c->why, USAGE, .detail = "put needs a file to send");
    snprintf(
        detail, sizeof(detail),
        _("'%.60s' with a colon is a place on the server; the file here is "
          "'./%.60s'"),
        name, name);
    return problem(c->why, USAGE, .detail = detail);
}

static int sources_check(const struct cli *c, int count)
{
    char detail[PROBLEM_TEXT_BYTES];
    enum chunk_hash hash;
    struct place source;

    if (count == 0)
        return nothing_to_send(c);
    /* As with cp the last would be where to: that lacks its colon. */
    if (count > 1 && count == c->argc && !c->recursive &&
        is_directory(c->argv[count - 1])) {
        snprintf(detail, sizeof(detail),
                 _("'%.60s' is a directory here; a place on the server has a "
                   "colon, as in ':/name', and -r sends directories"),
                 c->argv[count - 1]);
        return problem(c->why, USAGE, .detail = detail);
    }
    if (c->match && (count > 1 || c->recursive))
        return problem(c->why, USAGE, .detail = "--if-match is for one file");
    for (int i = 0; i < count; i++) {
        int rc;

        if (!*c->argv[i])
            return problem(c->why, NAME_INVALID, .detail = "it is empty");
        if (strcmp(c->argv[i], "-") == 0)
            return problem(c->why, USAGE,
                           .detail = "put sends files, not standard input; a "
                                     "file of that name is './-'");
        rc = place_parse(c->argv[i], &source, c->why);

        if (rc == 0 && source.remote)
            rc = problem(c->why, USAGE,
                         .detail = "what put sends is on this machine; "
                                   "a name with a colon is written ./a:b");
        if (rc < 0)
            return rc;
    }
    return cli_hash(c, &hash, c->why);
}

int cmd_put(struct cli *c)
{
    struct put p = {.c = c, .to = {.remote = true, .directory = true}};
    struct batch_options o = {.c = c, .place = &p.to};
    keel_auto(batch) struct batch *b = NULL;
    struct place last;
    int rc;

    p.count = c->argc;
    rc = place_parse(c->argv[p.count - 1], &last, c->why);
    if (rc < 0)
        return rc;
    if (last.remote) {
        p.to = last;
        p.count--;
    }
    rc = sources_check(c, p.count);
    if (rc == 0)
        rc = batch_open(&o, &b, c->why);
    if (rc < 0)
        return rc;
    upload_journals_clean(&batch_session(b)->home);
    if (p.count == 1 && !c->recursive && !c->dry_run)
        return put_one(&p, b);
    return put_many(&p, b);
}
