/* SPDX-License-Identifier: MIT */
/* get: files and trees of the server to this machine.
 *
 * A single file comes by download.h, which continues what was cut; trees and
 * several files by get_tree.h.  Names, sizes and hashes come from a server that
 * is not trusted: nothing is written but under the names that were asked for,
 * and beneath them. */
#include <errno.h>
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>

#include <keel/file.h>

#include "client/batch.h"
#include "client/cli.h"
#include "client/download.h"
#include "client/get_tree.h"
#include "client/text.h"
#include "client/upload.h"

struct getting_one {
    struct cli *c;
    const struct place *from;
    const char *dest;
    bool directory; /* DEST is one, or it is wrong */
    enum chunk_hash hash;
    struct buffer_pool *pool;
    struct progress *progress;
    struct progress_part part;
};

/* ---- where it goes ------------------------------------------------------------- */

struct target {
    int dir;
    char name[NAME_BYTES + 1];
    bool in_place; /* DEST is the file, not a directory for it */
};

/* Whether a link stands for something that a process has open: /dev/stdout. */
static bool is_open_file(const struct target *t)
{
    static const char proc[] = "/proc/";
    char text[sizeof(proc)] = "";

    return keel_file_readlink(t->dir, t->name, text, sizeof(text) - 1) > 0 &&
           strcmp(text, proc) == 0;
}

static void one_local(const struct getting_one *g, const struct target *t,
                      char ret[PATH_BYTES + NAME_BYTES + 2])
{
    size_t size = strlen(g->dest), most = PATH_BYTES + NAME_BYTES + 2;

    if (t->in_place)
        snprintf(ret, most, "%s", g->dest);
    else if (strcmp(g->dest, ".") == 0)
        snprintf(ret, most, "%s", t->name);
    else
        snprintf(ret, most, "%s%s%s", g->dest,
                 size > 0 && g->dest[size - 1] == '/' ? "" : "/", t->name);
    text_slashes(ret);
}

/* A file comes under its name in place of what is there.  Devices, pipes and
 * sockets are the machine's own, and nothing that a file may take the place
 * of. */
static int target_free(const struct getting_one *g, const struct target *t,
                       struct problem *why)
{
    char local[PATH_BYTES + NAME_BYTES + 2];
    struct statx st;

    if (keel_file_stat(t->dir, t->name, &st) < 0)
        return 0;
    one_local(g, t, local);
    if (S_ISDIR(st.stx_mode))
        return problem(why, FILE_IS_DIRECTORY, .name = local);
    if (S_ISLNK(st.stx_mode) ? is_open_file(t) : !S_ISREG(st.stx_mode))
        return problem(why, FILE_NOT_REGULAR, .name = local);
    return g->c->no_replace ? problem(why, FILE_EXISTS, .name = local) : 0;
}

static int target_open(const struct getting_one *g, struct target *ret,
                       struct problem *why)
{
    keel_auto(str) char *copy = keel_strdup(g->dest);
    const char *name = path_leaf(&g->from->path);
    const char *parent;
    char *slash;
    int rc;

    if (!copy)
        return problem(why, NO_MEMORY);
    ret->dir = keel_file_open_any(g->dest, O_RDONLY | O_DIRECTORY, 0);
    if (ret->dir == -ENOTDIR && g->directory)
        return problem(why, FILE_NOT_DIRECTORY, .name = g->dest);
    ret->in_place = ret->dir < 0 && !g->directory;
    if (ret->in_place) {
        slash = strrchr(copy, '/');
        name = slash ? slash + 1 : copy;
        if (slash)
            *slash = 0;
        parent = !slash ? "." : slash == copy ? "/" : copy;
        ret->dir = keel_file_open_any(parent, O_RDONLY | O_DIRECTORY, 0);
        if (ret->dir < 0) /* not the file, which need not be there */
            return problem(why, FILE_LOCAL, .errno_ = -ret->dir,
                           .name = parent);
    }
    if (ret->dir < 0)
        return problem(why, FILE_LOCAL, .errno_ = -ret->dir, .name = g->dest);
    rc = name_check(name, strlen(name), why);
    if (rc == 0)
        snprintf(ret->name, sizeof(ret->name), "%s", name);
    /* Rather now than when all of it has come. */
    if (rc == 0)
        rc = target_free(g, ret, why);
    if (rc < 0)
        keel_file_close(ret->dir);
    return rc;
}

/* ---- one file ---------------------------------------------------------------------- */

static void one_say(const struct getting_one *g, const struct target *t,
                    const struct download_result *got)
{
    char path[512], digest[DIGEST_TEXT_BYTES], sum[128], name[512];
    char local[PATH_BYTES + NAME_BYTES + 2];

    one_local(g, t, local);
    place_print(g->from, path, sizeof(path));
    text_escape(local, strlen(local), name, sizeof(name));
    digest_print(g->hash, &got->root, digest);
    progress_summary(g->progress, sum, sizeof(sum));
    cli_say(g->c, "%s -> %s  %s, verified", path, name, sum);
    cli_trace(g->c, "%s", digest);
    cli_json(g->c,
             json_pack("{s:s, s:o, s:o, s:I, s:I, s:s}", "do", "get", "path",
                       path_to_json(g->from->path.text, g->from->path.size),
                       "local", text_to_json(local, strlen(local)), "size",
                       (json_int_t)got->size, "received",
                       (json_int_t)got->received, "root", digest));
}

static int one_would(const struct getting_one *g, const struct target *t,
                     const struct remote_entry *e)
{
    char local[PATH_BYTES + NAME_BYTES + 2], name[512], path[512], size[32];

    one_local(g, t, local);
    place_print(g->from, path, sizeof(path));
    text_escape(local, strlen(local), name, sizeof(name));
    text_bytes(e->size, size);
    cli_say(g->c, "%s -> %s  %s, would be fetched", path, name, size);
    cli_json(g->c,
             json_pack("{s:s, s:b, s:o, s:o, s:I}", "do", "get", "dry_run", 1,
                       "path",
                       path_to_json(g->from->path.text, g->from->path.size),
                       "local", text_to_json(local, strlen(local)), "size",
                       (json_int_t)e->size));
    return 0;
}

static int one_fetch(struct session *s, struct getting_one *g,
                     const struct target *t, const struct remote_entry *e,
                     struct problem *why)
{
    struct download_result got;
    struct download_order o = {
        .c = g->c,
        .place = g->from,
        .hash = g->hash,
        .match = g->c->match,
        .pool = g->pool,
        .to = {.dir = t->dir, .name = t->name, .no_replace = g->c->no_replace},
        .dest = g->dest,
        .lasting = true,
        .progress = g->progress,
        .part = &g->part,
    };
    int rc = download_run(s, &o, e, &got, why);

    if (rc < 0)
        return rc;
    progress_stop(g->progress);
    one_say(g, t, &got);
    return 0;
}

/* 1: it is no single file, and -r was given. */
static int one_task(struct session *s, void *arg, struct problem *why)
{
    struct getting_one *g = arg;
    char words[PROBLEM_TEXT_BYTES];
    struct remote_entry e;
    struct target t;
    int rc = remote_stat_place(s, g->from, &e, NULL, why);

    if (rc < 0)
        return rc;
    place_print(g->from, words, sizeof(words));
    if (e.type != 'f' && g->c->recursive && !g->c->match)
        return 1;
    if (e.type == 'd')
        return problem(why, FILE_IS_DIRECTORY, .name = words);
    if (e.type != 'f')
        return problem(why, FILE_NOT_REGULAR, .name = words);
    rc = target_open(g, &t, why);
    if (rc < 0)
        return rc;
    rc = g->c->dry_run ? one_would(g, &t, &e) : one_fetch(s, g, &t, &e, why);
    keel_file_close(t.dir);
    return rc;
}

/* ---- the command ----------------------------------------------------------------------- */

static int hash_of(struct cli *c, int count, enum chunk_hash *ret)
{
    if (c->match && count > 1)
        return problem(c->why, USAGE,
                       .detail = "--if-match is for a single file");
    return cli_hash(c, ret, c->why);
}

static int get_run(struct cli *c, const struct get_order *order, bool directory)
{
    struct get_order o = *order;
    struct batch_options options = {.c = c, .place = o.places};
    struct progress progress = {.total = 0};
    struct getting_one one = {c,      o.places, o.dest,   directory,
                              o.hash, NULL,     &progress};
    keel_auto(batch) struct batch *b = NULL;
    int rc;

    options.progress = &progress;
    rc = batch_open(&options, &b, c->why);
    if (rc < 0)
        return rc;
    upload_journals_clean(&batch_session(b)->home);
    if (buffer_pool_new(o.count > 1 || c->recursive ? GET_BUFFERS
                                                    : DOWNLOAD_BUFFERS,
                        &o.pool) < 0)
        return problem(c->why, NO_MEMORY);
    one.pool = o.pool;
    o.batch = b;
    rc = o.count == 1 ? batch_run(b, one_task, &one, c->why) : 1;
    progress_stop(&progress);
    if (rc == 1)
        rc = get_tree(&o);
    batch_close(keel_take(b));
    buffer_pool_free(o.pool);
    return rc;
}

int cmd_get(struct cli *c)
{
    keel_auto(mem) void *memory = NULL;
    struct place *places, last, first;
    struct get_order o = {.c = c, .dest = "."};
    int count = c->argc, rc;

    rc = place_parse(c->argv[count - 1], &last, c->why);
    if (rc < 0)
        return rc;
    if (!last.remote) {
        o.dest = last.local;
        count--;
    }
    if (strcmp(o.dest, "-") == 0)
        return problem(c->why, USAGE,
                       .detail = "get writes files, not standard output; a "
                                 "file of that name is './-'");
    if (count == 0)
        return problem(c->why, USAGE,
                       .detail = "get needs a file on the server, as in "
                                 "'ferry get :/name'");
    rc = hash_of(c, count, &o.hash);
    if (rc == 0)
        rc = places_parse(c->argv, count, &first, c->why);
    if (rc < 0)
        return rc;
    places = memory = keel_calloc((size_t)count, sizeof(*places));
    if (!places)
        return problem(c->why, NO_MEMORY);
    for (int i = 0; i < count; i++) {
        rc = place_parse(c->argv[i], &places[i], c->why);
        if (rc < 0)
            return rc;
    }
    o.places = places;
    o.count = (unsigned)count;
    return get_run(c, &o, !last.remote && last.directory);
}
