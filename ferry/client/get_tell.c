/* SPDX-License-Identifier: MIT */
#include <errno.h>
#include <stdio.h>
#include <string.h>

#include <keel/co.h>

#include "client/get_inside.h"
#include "client/remote.h"
#include "client/text.h"

void get_path(const char *dir, const char *name, char ret[SHOWN_BYTES])
{
    snprintf(ret, SHOWN_BYTES, "%s%s%s", dir, *dir && *name ? "/" : "", name);
}

/* Lines of files are for -v, and for files that were named themselves. */
static bool says(const struct getting *g)
{
    const struct cli *c = g->c;

    return !c->json && (c->verbose > 0 ||
                        (c->verbose == 0 && (c->dry_run || !c->recursive)));
}

static json_t *text_json(const char *text)
{
    return text_to_json(text, strlen(text));
}

static json_t *remote_json(const char *path)
{
    return path_to_json(path, strlen(path));
}

/* ---- what failed ----------------------------------------------------------------- */

/* A sentence that names the file names it with its path, where that fits. */
static void full_name(struct problem *why, const char *path)
{
    const char *slash = strrchr(path, '/');

    if (strcmp(why->name, slash ? slash + 1 : path) == 0 &&
        strlen(path) < sizeof(why->name))
        snprintf(why->name, sizeof(why->name), "%s", path);
}

static void failure_json(const struct getting *g, const char *local,
                         const char *remote, const struct problem *why)
{
    cli_json(g->c,
             json_pack("{s:o, s:o, s:o}", "problem", problem_to_people(why),
                       "local", local ? text_json(local) : json_null(), "path",
                       remote ? remote_json(remote) : json_null()));
}

void get_failed(struct getting *g, const char *local, const char *remote,
                const struct problem *why)
{
    struct failure *f = &g->failures[g->failures_kept];

    g->failed++;
    g->last = *why;
    cli_problem_trace(g->c, why);
    if (local)
        full_name(&g->last, local);
    if (g->c->json)
        failure_json(g, local, remote, why);
    if (g->c->json || g->failures_kept == FAILURES_KEPT)
        return;
    f->path = keel_strdup(local ? local : remote);
    f->why = g->last;
    if (f->path)
        g->failures_kept++;
}

void get_failures(struct getting *g)
{
    struct cli_list list = {{0}};

    for (unsigned k = 0; k < g->failures_kept; k++) {
        struct failure *f = &g->failures[k];
        char path[1024], words[1024];

        if (!cli_listed(&list, &f->why))
            continue;

        text_escape(f->path, strlen(f->path), path, sizeof(path));
        problem_sentence(&f->why, words, sizeof(words));
        if (strstr(words, path))
            fprintf(stderr, "ferry: %s (%s)\n", words, problem_code(&f->why));
        else
            fprintf(stderr, "ferry: %s: %s (%s)\n", path, words,
                    problem_code(&f->why));
    }
    cli_list_end(&list);
    if (g->failed > g->failures_kept && !g->c->json) {
        fprintf(stderr, _("ferry: and %llu more\n"),
                (unsigned long long)(g->failed - g->failures_kept));
    }
}

void get_failures_but_last(struct getting *g)
{
    if (g->failures_kept > 0 && g->failed == g->failures_kept)
        keel_free(g->failures[--g->failures_kept].path);
    g->failed--;
    get_failures(g);
}

/* ---- what was done ----------------------------------------------------------------- */

struct told {
    const char *space;
    char remote[SHOWN_BYTES], local[SHOWN_BYTES];
};

static void paths_of(const struct local_dir *dir, const char *name,
                     struct told *ret)
{
    ret->space = dir->space;
    get_path(dir->remote, name, ret->remote);
    get_path(dir->local, name, ret->local);
    text_slashes(ret->local);
}

static void line_say(struct getting *g, const struct told *t, const char *what)
{
    char remote[1024], local[1024];

    if (!says(g))
        return;
    text_escape(t->remote, strlen(t->remote), remote, sizeof(remote));
    text_escape(t->local, strlen(t->local), local, sizeof(local));
    progress_clear(&g->progress);
    cli_say(g->c, ":%s%s/%s -> %s  %s", *t->space ? "@" : "", t->space, remote,
            local, what);
}

static void file_say(struct getting *g, const struct told *t, uint64_t size)
{
    char what[64], bytes[32];

    if (!says(g))
        return;
    text_bytes(size, bytes);
    snprintf(what, sizeof(what), "%s%s", bytes,
             g->c->dry_run ? _(", would be fetched") : _(", verified"));
    line_say(g, t, what);
}

void get_told_same(struct getting *g, const struct local_dir *dir,
                   const struct walk_entry *e)
{
    struct told t;

    g->unchanged++;
    progress_same(&g->progress, e->size);
    if (g->c->verbose <= 0 && !g->c->json)
        return;
    paths_of(dir, e->name, &t);
    if (g->c->json)
        cli_json(g->c,
                 json_pack("{s:s, s:o, s:o, s:I, s:I, s:b}", "do", "get",
                           "path", remote_json(t.remote), "local",
                           text_json(t.local), "size", (json_int_t)e->size,
                           "received", (json_int_t)0, "unchanged", 1));
    else
        line_say(g, &t, _("unchanged"));
}

static void link_told(struct getting *g, const struct told *t,
                      const char *target)
{
    g->links++;
    if (g->c->json)
        cli_json(g->c, json_pack("{s:s, s:o, s:o, s:o, s:b}", "do", "link",
                                 "path", remote_json(t->remote), "local",
                                 text_json(t->local), "target",
                                 text_json(target), "dry_run", g->c->dry_run));
    else
        line_say(g, t, g->c->dry_run ? _("would be a link") : _("link"));
}

void get_told_would(struct getting *g, const struct local_dir *dir,
                    const struct walk_entry *e)
{
    struct told t;

    paths_of(dir, e->name, &t);
    if (e->type == 'l') {
        link_told(g, &t, e->target);
        return;
    }
    g->files++;
    g->bytes += e->size;
    file_say(g, &t, e->size);
    cli_json(g->c, json_pack("{s:s, s:o, s:o, s:I, s:b}", "do", "get", "path",
                             remote_json(t.remote), "local", text_json(t.local),
                             "size", (json_int_t)e->size, "dry_run", 1));
}

void get_told_directory(struct getting *g, const struct local_dir *d)
{
    struct told t;

    if (!d->fresh)
        return;
    g->dirs++;
    if (g->c->json) {
        cli_json(g->c,
                 json_pack("{s:s, s:o, s:o, s:b}", "do", "mkdir", "path",
                           remote_json(d->remote), "local", text_json(d->local),
                           "dry_run", g->c->dry_run));
        return;
    }
    paths_of(d, "", &t);
    line_say(g, &t, g->c->dry_run ? _("would be made") : _("made"));
}

static void file_told(struct item *i, const struct told *t)
{
    struct getting *g = i->g;
    char digest[DIGEST_TEXT_BYTES];

    g->files++;
    g->bytes += i->entry.size;
    g->received += i->received;
    if (!g->c->json) {
        file_say(g, t, i->entry.size);
        return;
    }
    digest_print(g->hash, &i->root, digest);
    cli_json(g->c,
             json_pack("{s:s, s:o, s:o, s:I, s:I, s:s}", "do", "get", "path",
                       remote_json(t->remote), "local", text_json(t->local),
                       "size", (json_int_t)i->entry.size, "received",
                       (json_int_t)i->received, "root", digest));
}

/* A disk that has no room for a small file has none for the next one. */
static void note_full(struct getting *g, const struct item *i,
                      const struct problem *why)
{
    if (why->id == PROBLEM_DISK_FULL && i->bytes)
        g->full = true;
}

/* Who makes a file knows the last of its path. */
static void name_whole(const struct item *i, const char *local,
                       struct problem *why)
{
    if (strcmp(why->name, i->name) == 0)
        snprintf(why->name, sizeof(why->name), "%s", local);
}

void get_done(struct item *i, int rc, const struct problem *why)
{
    struct getting *g = i->g;
    struct problem whole;
    struct told t;

    if (rc < 0 || says(g) || g->c->json)
        paths_of(i->dir, i->name, &t);
    if (rc == 0 && i->kind == ITEM_LINK) {
        link_told(g, &t, i->target);
    } else if (rc == 0) {
        file_told(i, &t);
    } else if (!batch_broken(g->batch) && why->id != PROBLEM_CANCELLED) {
        /* What the connection's end took along is told once, by its end. */
        whole = *why;
        name_whole(i, t.local, &whole);
        get_failed(g, t.local, t.remote, &whole);
        note_full(g, i, why);
        if (i->kind == ITEM_FILE && !i->whole)
            progress_skip(&g->progress, (int64_t)i->entry.size);
    }
    progress_file_done(&g->progress);
    g->items--;
    g->held -= i->held;
    keel_event_set(&g->room);
    keel_free(i->bytes);
    walk_page_drop(i->page);
    get_dir_drop(g, i->dir);
    keel_free(i);
}

/* ---- the sums ---------------------------------------------------------------------------- */

static void sum_say(const struct getting *g, bool broken)
{
    char text[512], files[64], sum[160];

    text_some(N_FILES, g->files, files, sizeof(files));
    progress_summary(&g->progress, sum, sizeof(sum));
    if (g->c->dry_run)
        snprintf(text, sizeof(text), _("%s would be fetched"), files);
    else
        snprintf(text, sizeof(text), _("%s, %s%s"), files, sum,
                 g->files == 0 ? "" : _(", verified"));
    if (g->c->dry_run)
        text_and(N_WOULD_MAKE, g->dirs, text, sizeof(text));
    else
        text_and(N_MADE, g->dirs, text, sizeof(text));
    text_and(N_LINKS, g->links, text, sizeof(text));
    text_and(N_SAME, g->unchanged, text, sizeof(text));
    text_and(N_FAILED, g->failed, text, sizeof(text));
    if (broken)
        text_more(_("; the rest was not done"), text, sizeof(text));
    cli_say(g->c, "%s", text);
}

int get_summary(struct getting *g, int rc)
{
    get_failures(g);
    sum_say(g, rc < 0);
    cli_json(g->c,
             json_pack("{s:{s:I, s:I, s:I, s:I, s:I, s:I, s:b}}", "sum",
                       "files", (json_int_t)g->files, "bytes",
                       (json_int_t)g->bytes, "unchanged",
                       (json_int_t)g->unchanged, "links", (json_int_t)g->links,
                       "directories", (json_int_t)g->dirs, "failed",
                       (json_int_t)g->failed, "dry_run", g->c->dry_run));
    return rc < 0 ? rc : g->failed ? CLI_PARTLY : 0;
}
