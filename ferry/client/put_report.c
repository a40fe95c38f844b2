/* SPDX-License-Identifier: MIT */
#include <stdio.h>
#include <string.h>

#include "client/put_inside.h"
#include "client/text.h"

/* Failures that are kept for the list at the end; the rest is counted. */
#define FAILURES_MOST 1000

struct failure {
    struct failure *next;
    struct problem why;
    char local[];
};

void report_init(struct report *r)
{
    memset(r, 0, sizeof(*r));
    r->last = &r->first;
}

static void local_shown(const struct item *i, char *ret, size_t size)
{
    char local[PATH_BYTES + 1];

    item_local(i, local, sizeof(local));
    text_slashes(local);
    text_escape(local, strlen(local), ret, size);
}

static json_t *json_local(const struct item *i)
{
    char local[PATH_BYTES + 1];

    item_local(i, local, sizeof(local));
    return text_to_json(local, strlen(local));
}

static json_t *json_path(const struct item *i)
{
    struct path path;

    if (node_path(i->node, i->name, &path, NULL) < 0)
        return json_null();
    return path_to_json(path.text, path.size);
}

/* Lines of files are for -v, and for files that were named themselves. */
static bool says(const struct tree *t, const struct item *i)
{
    return !t->c->json &&
           (t->c->verbose > 0 || (t->c->verbose == 0 && t->c->dry_run) ||
            (t->c->verbose == 0 && i->source && !t->c->recursive));
}

static void say_item(struct tree *t, const struct item *i, const char *what)
{
    char local[1024], shown[1024];
    struct path path;

    if (!says(t, i))
        return;
    local_shown(i, local, sizeof(local));
    if (node_path(i->node, i->name, &path, NULL) < 0)
        return;
    path_print(&path, shown, sizeof(shown));
    progress_clear(&t->progress);
    cli_say(t->c, "%s -> :%s%s%s  %s", local, *t->o->space ? "@" : "",
            t->o->space, shown, what);
}

/* ---- what went well ---------------------------------------------------------------- */

void report_file(struct tree *t, const struct item *i,
                 const struct upload_result *r)
{
    char digest[DIGEST_TEXT_BYTES], size[32];

    progress_file_done(&t->progress);
    t->report.files++;
    t->report.bytes += r->size;
    if (t->c->json && t->c->dry_run) {
        cli_json(t->c, json_pack("{s:s, s:o, s:o, s:I, s:b, s:b}", "do", "put",
                                 "local", json_local(i), "path", json_path(i),
                                 "size", (json_int_t)r->size, "dry_run", 1,
                                 "replaces", i->replaces));
    } else if (t->c->json) {
        digest_print(t->hash, &r->root, digest);
        cli_json(t->c,
                 json_pack("{s:s, s:o, s:o, s:I, s:I, s:s, s:s}", "do", "put",
                           "local", json_local(i), "path", json_path(i), "size",
                           (json_int_t)r->size, "sent", (json_int_t)r->sent,
                           "root", digest, "level", put_level(t->c)));
    } else if (says(t, i)) {
        char what[64];

        text_bytes(r->size, size);
        snprintf(what, sizeof(what), "%s%s", size,
                 !t->c->dry_run ? ""
                 : i->replaces  ? _(", would be replaced")
                                : _(", would be sent"));
        say_item(t, i, what);
    }
}

void report_same(struct tree *t, const struct item *i)
{
    progress_same(&t->progress, i->size);
    t->report.same++;
    if (t->c->json)
        cli_json(t->c, json_pack("{s:s, s:o, s:o, s:I, s:I, s:b}", "do", "put",
                                 "local", json_local(i), "path", json_path(i),
                                 "size", (json_int_t)i->size, "sent",
                                 (json_int_t)0, "unchanged", 1));
    else if (t->c->verbose > 0)
        say_item(t, i, _("unchanged"));
}

void report_link(struct tree *t, const struct item *i)
{
    progress_file_done(&t->progress);
    t->report.links++;
    if (t->c->json)
        cli_json(t->c,
                 json_pack("{s:s, s:o, s:o, s:o, s:b}", "do", "link", "local",
                           json_local(i), "path", json_path(i), "target",
                           text_to_json(i->target, strlen(i->target)),
                           "dry_run", t->c->dry_run));
    else
        say_item(t, i, t->c->dry_run ? _("would be a link") : _("link"));
}

void report_directory(struct tree *t, const struct node *n)
{
    char path[1024];

    if (!n->fresh)
        return;
    t->report.directories++;
    if (t->c->json) {
        cli_json(t->c, json_pack("{s:s, s:o, s:b}", "do", "mkdir", "path",
                                 path_to_json(n->path->text, n->path->size),
                                 "dry_run", t->c->dry_run));
    } else if (t->c->verbose > 0 || (t->c->verbose == 0 && t->c->dry_run)) {
        path_print(n->path, path, sizeof(path));
        progress_clear(&t->progress);
        cli_say(t->c, ":%s%s%s/  %s", *t->o->space ? "@" : "", t->o->space,
                path, t->c->dry_run ? _("would be made") : _("made"));
    }
}

/* ---- what did not -------------------------------------------------------------------- */

static void failure_json(struct tree *t, const char *local,
                         const struct path *path, const struct problem *why)
{
    cli_json(
        t->c,
        json_pack("{s:o, s:o, s:o}", "problem", problem_to_people(why), "local",
                  text_to_json(local, strlen(local)), "path",
                  path ? path_to_json(path->text, path->size) : json_null()));
}

void report_failed(struct tree *t, const char *local, const struct path *path,
                   const struct problem *why)
{
    size_t size = strlen(local) + 1;
    struct failure *f;

    /* The connection's fault is told once, at the end. */
    if (batch_broken(t->o->batch))
        return;
    t->report.failed++;
    cli_problem_trace(t->c, why);
    if (t->c->json)
        failure_json(t, local, path, why);
    if (t->report.kept == FAILURES_MOST)
        return;
    f = keel_alloc(sizeof(*f) + size);
    if (!f)
        return;
    f->next = NULL;
    f->why = *why;
    memcpy(f->local, local, size);
    *t->report.last = f;
    t->report.last = &f->next;
    t->report.kept++;
}

void report_item_failed(struct tree *t, const struct item *i,
                        const struct problem *why)
{
    char local[PATH_BYTES + 1];
    struct problem memory;
    struct path path;
    bool named = node_path(i->node, i->name, &path, NULL) == 0;

    if (!why) {
        problem(&memory, NO_MEMORY);
        why = &memory;
    }
    item_local(i, local, sizeof(local));
    progress_file_done(&t->progress);
    progress_skip(&t->progress, (int64_t)i->size);
    report_failed(t, local, named ? &path : NULL, why);
}

static void failure_say(const struct failure *f)
{
    char words[1024], local[1024];

    problem_sentence(&f->why, words, sizeof(words));
    text_escape(f->local, strlen(f->local), local, sizeof(local));
    /* Some sentences begin with the name already. */
    if (strncmp(words, local, strlen(local)) == 0)
        fprintf(stderr, "ferry: %s (%s)\n", words, problem_code(&f->why));
    else
        fprintf(stderr, "ferry: %s: %s (%s)\n", local, words,
                problem_code(&f->why));
}

/* ---- the end --------------------------------------------------------------------------- */

static void sum_print(const struct tree *t, bool broken, char *ret, size_t size)
{
    const struct report *r = &t->report;
    char files[64], sum[160];

    text_some(N_FILES, r->files, files, sizeof(files));
    progress_summary(&t->progress, sum, sizeof(sum));
    if (t->c->dry_run)
        snprintf(ret, size, _("%s would be sent"), files);
    else if (r->files > 0)
        snprintf(ret, size, _("%s, %s, %s"), files, sum, put_level(t->c));
    else
        snprintf(ret, size, _("%s, %s"), files, sum);
    if (t->c->dry_run)
        text_and(N_WOULD_MAKE, r->directories, ret, size);
    else
        text_and(N_MADE, r->directories, ret, size);
    text_and(N_LINKS, r->links, ret, size);
    text_and(N_SAME, r->same, ret, size);
    text_and(N_FAILED, r->failed, ret, size);
    if (broken)
        text_more(_("; the rest was not done"), ret, size);
}

static void sum_say(const struct tree *t, bool broken)
{
    const struct report *r = &t->report;
    char text[512];

    if (t->c->json) {
        cli_json(t->c,
                 json_pack("{s:{s:I, s:I, s:I, s:I, s:I, s:I, s:b}}", "sum",
                           "files", (json_int_t)r->files, "bytes",
                           (json_int_t)r->bytes, "unchanged",
                           (json_int_t)r->same, "links", (json_int_t)r->links,
                           "directories", (json_int_t)r->directories, "failed",
                           (json_int_t)r->failed, "dry_run", t->c->dry_run));
        return;
    }
    sum_print(t, broken, text, sizeof(text));
    cli_say(t->c, "%s", text);
}

int report_end(struct tree *t, int rc)
{
    struct report *r = &t->report;
    struct cli_list list = {{0}};
    bool nothing =
        r->files + r->same + r->links + r->directories == 0 && r->kept > 0;

    /* Nothing was done: then the last failure is the command's. */
    while (r->first) {
        struct failure *f = r->first;

        r->first = f->next;
        if (rc == 0 && nothing && !r->first) {
            *t->c->why = f->why;
            rc = -problem_row(f->why.id)->errno_;
        } else if (!t->c->json && cli_listed(&list, &f->why)) {
            failure_say(f);
        }
        keel_free(f);
    }
    cli_list_end(&list);
    if (r->failed > r->kept && !t->c->json)
        fprintf(stderr, _("ferry: and %llu more\n"),
                (unsigned long long)(r->failed - r->kept));
    if (!nothing)
        sum_say(t, rc < 0);
    return rc < 0 ? rc : r->failed > 0 ? CLI_PARTLY : 0;
}
