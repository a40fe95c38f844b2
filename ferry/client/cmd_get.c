/* SPDX-License-Identifier: MIT */
/* get: files of the server to this machine.
 *
 * The bytes gather in a part beside the destination (".ferry-ID.part" and its
 * journal) that another run continues; whole, verified and synced it takes the
 * destination's name.  Names, sizes and hashes come from a server that is not
 * trusted: nothing is written but under the name that was asked for. */
#include <errno.h>
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include <keel/file.h>

#include "chunk/part.h"
#include "client/cli.h"
#include "client/progress.h"
#include "client/remote.h"
#include "transfer/transfer.h"

#define POOL_BUFFERS 16
#define RANGES_A_GET 1000
#define LEAVES_A_TIME 16384
#define REPAIRS_MOST 3

struct download {
    struct cli *c;
    struct session *s;
    const struct path *path;
    enum chunk_hash hash;
    struct remote_entry entry;
    struct part *part;
    struct buffer_pool *pool;
    struct progress progress;
    struct digest root;
    bool root_known;
};

/* ---- where it goes ------------------------------------------------------------------ */

struct target {
    int dir;
    char name[NAME_BYTES + 1];
    bool in_place; /* DEST is the file, not a directory for it */
};

static int target_open(const char *dest, bool directory, const char *leaf,
                       struct target *ret, struct problem *why)
{
    keel_auto(str) char *copy = keel_strdup(dest);
    const char *name = leaf;
    struct statx st;
    char *slash;
    int rc;

    if (!copy)
        return problem(why, NO_MEMORY);
    ret->dir = keel_file_open_any(dest, O_RDONLY | O_DIRECTORY, 0);
    if (ret->dir == -ENOTDIR && directory)
        return problem(why, FILE_NOT_DIRECTORY, .name = dest);
    ret->in_place = ret->dir < 0 && !directory;
    if (ret->in_place) {
        slash = strrchr(copy, '/');
        name = slash ? slash + 1 : copy;
        if (slash)
            *slash = 0;
        ret->dir = keel_file_open_any(!slash          ? "."
                                      : slash == copy ? "/"
                                                      : copy,
                                      O_RDONLY | O_DIRECTORY, 0);
    }
    if (ret->dir < 0)
        return problem(why, FILE_LOCAL, .errno_ = -ret->dir, .name = dest);
    rc = name_check(name, strlen(name), why);
    /* Rather now than when all of it has come. */
    if (rc == 0 && keel_file_stat(ret->dir, name, &st) == 0 &&
        S_ISDIR(st.stx_mode))
        rc = problem(why, FILE_IS_DIRECTORY, .name = name);
    if (rc < 0) {
        keel_file_close(ret->dir);
        return rc;
    }
    snprintf(ret->name, sizeof(ret->name), "%s", name);
    return 0;
}

/* ---- receiving --------------------------------------------------------------------------- */

static void download_moved(void *arg, uint64_t bytes)
{
    struct download *d = arg;

    progress_moved(&d->progress, bytes);
}

static int download_call(struct download *d, const struct range *ranges,
                         size_t count, struct exchange **ret,
                         struct problem *why)
{
    json_t *fields = path_fields(d->path);
    char text[DIGEST_TEXT_BYTES];

    if (!fields)
        return problem(why, NO_MEMORY);
    json_object_set_new(fields, "hash", json_string(chunk_hash_name(d->hash)));
    json_object_set_new(fields, "chunks", ranges_to_json(ranges, count));
    if (d->entry.hash == d->hash) {
        digest_print(d->hash, &d->entry.root, text);
        json_object_set_new(fields, "match", json_string(text));
    }
    return link_call(d->s->link, "get", fields, ret, why);
}

/* The note says what it is now; it must be what `stat` said. */
static int download_same(struct download *d, struct exchange *x,
                         struct problem *why)
{
    uint64_t size;
    int64_t mtime;
    json_t *note, *ok;
    int rc = exchange_note(x, keel_after(ASK_TIME), &note, why);

    if (rc == -ENODATA) {
        rc = exchange_reply(x, KEEL_NOW, &ok, why);
        if (rc == 0) {
            json_decref(ok);
            rc = problem(why, PROTOCOL_BROKEN, .detail = "get has no note");
        }
        return rc;
    }
    if (rc < 0)
        return rc;
    rc = field_u64(note, "size", INT64_MAX, &size, why);
    if (rc == 0)
        rc = field_i64(note, "mtime_ns", &mtime, why);
    rc = answer_check(rc, why);
    json_decref(note);
    if (rc == 0 && (size != d->entry.size || mtime != d->entry.mtime_ns))
        rc = problem(why, FILE_CHANGED, .name = path_leaf(d->path));
    return rc;
}

static int download_ranges(struct download *d, const struct range *ranges,
                           size_t count, struct problem *why)
{
    struct transfer_watch watch = {download_moved, d};
    keel_auto(exchange) struct exchange *x = NULL;
    enum chunk_hash of;
    const char *text;
    json_t *ok;
    int rc = download_call(d, ranges, count, &x, why);

    if (rc == 0)
        rc = download_same(d, x, why);
    if (rc == 0 && count > 0)
        rc = transfer_receive(d->part, x, ranges, count, d->pool, 0, &watch,
                              why);
    if (rc == 0)
        rc = exchange_reply(x, KEEL_FOREVER, &ok, why);
    if (rc < 0)
        return rc;
    if (json_object_get(ok, "root")) {
        rc = answer_check(field_text(ok, "root", DIGEST_TEXT_BYTES, &text, why),
                          why);
        if (rc == 0 && (digest_parse(text, &of, &d->root) < 0 || of != d->hash))
            rc = problem(why, PROTOCOL_BROKEN, .detail = "a hash");
        d->root_known = rc == 0;
    }
    json_decref(ok);
    return rc;
}

static int download_missing(struct download *d, struct problem *why)
{
    for (;;) {
        struct range *missing;
        size_t count;
        int rc = part_ranges(d->part, true, RANGES_A_GET, &missing, &count);

        if (rc < 0)
            return problem(why, NO_MEMORY);
        if (count == 0) {
            keel_free(missing);
            return 0;
        }
        rc = download_ranges(d, missing, count, why);
        keel_free(missing);
        if (rc < 0)
            return rc;
    }
}

/* ---- verifying --------------------------------------------------------------------------------- */

/* Compares leaf by leaf and withdraws what differs. */
static int download_withdraw(struct download *d, struct problem *why)
{
    uint64_t chunks = chunk_count(d->entry.size);
    keel_auto(mem) void *memory =
        keel_calloc(LEAVES_A_TIME, sizeof(struct digest));
    struct digest *theirs = memory;

    if (!theirs)
        return problem(why, NO_MEMORY);
    for (uint64_t from = 0; from < chunks; from += LEAVES_A_TIME) {
        uint64_t count =
            chunks - from < LEAVES_A_TIME ? chunks - from : LEAVES_A_TIME;
        json_t *fields = path_fields(d->path), *ok;
        size_t size;
        int rc;

        if (!fields || json_object_update_new(
                           fields, json_pack("{s:s, s:I, s:I}", "hash",
                                             chunk_hash_name(d->hash), "from",
                                             (json_int_t)from, "count",
                                             (json_int_t)count)) < 0)
            return problem(why, NO_MEMORY);
        rc = link_ask(d->s->link, "leaves", fields, KEEL_FOREVER, &ok, why);
        if (rc < 0)
            return rc;
        rc = answer_check(field_blob(ok, "leaves", count * sizeof(*theirs),
                                     count * sizeof(*theirs), theirs, &size,
                                     why),
                          why);
        json_decref(ok);
        for (uint64_t i = 0; i < count && rc == 0; i++) {
            if (memcmp(&theirs[i], part_leaves(d->part) + from + i,
                       sizeof(*theirs)) != 0)
                rc = part_withdraw(d->part, from + i, why);
        }
        if (rc < 0)
            return rc;
    }
    return 0;
}

static int download_verify(struct download *d, struct problem *why)
{
    struct digest ours;
    int rc;

    for (int tries = 0;; tries++) {
        if (!d->root_known) {
            rc = remote_hash(d->s, d->path, d->hash, &d->root, why);
            if (rc < 0)
                return rc;
            d->root_known = true;
        }
        rc = part_root(d->part, &ours);
        if (rc < 0)
            return problem(why, INTERNAL, .errno_ = -rc, .detail = "the root");
        if (memcmp(&ours, &d->root, sizeof(ours)) == 0)
            return 0;
        if (tries == REPAIRS_MOST)
            return problem(why, TRANSFER_DAMAGED, .name = path_leaf(d->path));
        cli_trace(d->c, "the hash differs; comparing leaves");
        rc = download_withdraw(d, why);
        if (rc == 0)
            rc = download_missing(d, why);
        if (rc < 0)
            return rc;
    }
}

/* Verified: now it may take its name. */
static int download_publish(struct download *d, const struct target *t,
                            struct problem *why)
{
    mode_t mask = umask(0);
    int rc;

    umask(mask);
    rc = part_sync(d->part, why);
    if (rc < 0)
        return rc;
    rc = keel_file_chmod(part_fd(d->part), (d->entry.mode & 0777) & ~mask);
    if (rc == 0)
        rc = keel_file_set_mtime(part_fd(d->part), d->entry.mtime_ns);
    if (rc == 0)
        rc = keel_file_rename(t->dir, part_name(d->part), t->dir, t->name, 0);
    if (rc < 0)
        return problem(why, FILE_LOCAL, .errno_ = -rc, .name = t->name);
    part_published(d->part);
    rc = keel_file_sync(t->dir);
    if (rc < 0)
        return problem(why, FILE_LOCAL, .errno_ = -rc, .name = t->name);
    return 0;
}

/* ---- the whole ------------------------------------------------------------------------------------ */

static int download_part(struct download *d, const struct target *t,
                         const char *dest, struct problem *why)
{
    struct part_options o = {
        .dir = t->dir,
        .size = d->entry.size,
        .hash = d->hash,
        .source_mtime_ns = d->entry.mtime_ns,
        .mode = 0600,
    };
    char text[SERVER_BYTES + PATH_BYTES + 400], name[64];
    struct digest id;
    int size, rc;

    /* Named by the place, not by the version: another version (size, mtime)
     * starts the same part afresh, and none is left behind. */
    size = snprintf(text, sizeof(text), "%s@%s/%s %s", d->s->profile.login.user,
                    d->s->profile.login.server, d->path->text, t->name);
    chunk_leaf(CHUNK_SHA256, text, (size_t)size, &id);
    memcpy(o.id, id.bytes, sizeof(o.id));
    snprintf(name, sizeof(name), ".ferry-%02x%02x%02x%02x%02x%02x%02x%02x.part",
             o.id[0], o.id[1], o.id[2], o.id[3], o.id[4], o.id[5], o.id[6],
             o.id[7]);
    o.name = name;
    rc = part_open(&o, &d->part, why);
    /* The part's own name would tell nobody anything. */
    if (rc < 0 && why->id == PROBLEM_TRANSFER_BUSY)
        return problem(why, TRANSFER_BUSY, .name = dest);
    if (rc < 0 && why->id == PROBLEM_FILE_LOCAL)
        return problem(why, FILE_LOCAL, .errno_ = -rc, .name = dest);
    return rc;
}

/* `leaf` NULL: DEST is the file itself. */
static void download_say(struct download *d, const char *dest, const char *leaf)
{
    char path[512], digest[DIGEST_TEXT_BYTES], sum[128], name[512];
    char shown[PATH_BYTES + NAME_BYTES + 2];
    size_t size = strlen(dest);

    if (!leaf)
        snprintf(shown, sizeof(shown), "%s", dest);
    else if (strcmp(dest, ".") == 0)
        snprintf(shown, sizeof(shown), "%s", leaf);
    else
        snprintf(shown, sizeof(shown), "%s%s%s", dest,
                 size > 0 && dest[size - 1] == '/' ? "" : "/", leaf);
    path_print(d->path, path, sizeof(path));
    text_escape(shown, strlen(shown), name, sizeof(name));
    digest_print(d->hash, &d->root, digest);
    progress_summary(&d->progress, sum, sizeof(sum));
    cli_say(d->c, ":%s -> %s  %s, verified", path, name, sum);
    cli_trace(d->c, "%s", digest);
    cli_json(d->c,
             json_pack("{s:s, s:o, s:o, s:I, s:I, s:s}", "do", "get", "path",
                       text_to_json(d->path->text, d->path->size), "local",
                       text_to_json(shown, strlen(shown)), "size",
                       (json_int_t)d->entry.size, "received",
                       (json_int_t)(d->progress.done - d->progress.began_with),
                       "root", digest));
}

static int download_run(struct download *d, const struct target *t,
                        const char *dest, struct problem *why)
{
    int rc = download_part(d, t, dest, why);

    if (rc < 0)
        return rc;
    progress_start(&d->progress, d->c, path_leaf(d->path), d->entry.size,
                   part_bytes(d->part));
    if (d->progress.began_with > 0)
        cli_trace(d->c, "%llu bytes are here already",
                  (unsigned long long)d->progress.began_with);
    rc = download_missing(d, why);
    if (rc == 0)
        rc = download_verify(d, why);
    progress_stop(&d->progress);
    if (rc == 0)
        rc = download_publish(d, t, why);
    part_close(d->part);
    return rc;
}

static int download_one(struct cli *c, struct session *s,
                        struct buffer_pool *pool, const struct place *from,
                        const char *dest, bool directory, struct problem *why)
{
    struct download d = {.c = c, .s = s, .path = &from->path, .pool = pool};
    char path[PROBLEM_TEXT_BYTES];
    struct target t;
    int rc;

    path_print(&from->path, path, sizeof(path));
    rc = cli_hash(c, &d.hash, why);
    if (rc < 0)
        return rc;
    rc = remote_stat(s, &from->path, &d.entry, why);
    if (rc < 0)
        return rc;
    if (d.entry.type == 'd')
        return problem(why, FILE_IS_DIRECTORY, .name = path);
    if (d.entry.type != 'f')
        return problem(why, FILE_NOT_REGULAR, .name = path);
    rc = target_open(dest, directory, path_leaf(&from->path), &t, why);
    if (rc < 0)
        return rc;
    rc = download_run(&d, &t, dest, why);
    if (rc == 0)
        download_say(&d, dest, t.in_place ? NULL : t.name);
    keel_file_close(t.dir);
    return rc;
}

/* All of them are looked at before the first is fetched.  There is one
 * connection, and it is the first one's. */
static int places_check(char **names, int count, struct place *ret_first,
                        struct problem *why)
{
    struct place place;

    for (int i = 0; i < count; i++) {
        struct place *p = i == 0 ? ret_first : &place;
        int rc = place_parse(names[i], p, why);

        if (rc < 0)
            return rc;
        if (!p->remote)
            return problem(why, USAGE,
                           .detail =
                               "what get fetches is on the server: ':/name'");
        if (strcmp(p->profile, ret_first->profile) != 0 ||
            strcmp(p->login.user, ret_first->login.user) != 0 ||
            strcmp(p->login.server, ret_first->login.server) != 0)
            return problem(why, USAGE,
                           .detail = "one 'get' fetches from one server, with "
                                     "one login");
    }
    return 0;
}

int cmd_get(struct cli *c)
{
    struct place first, from, last;
    struct buffer_pool *pool;
    const char *dest = ".";
    struct session s;
    int count = c->argc, failed = 0, rc;

    rc = place_parse(c->argv[count - 1], &last, c->why);
    if (rc < 0)
        return rc;
    if (!last.remote) {
        dest = last.local;
        count--;
    }
    if (count == 0)
        return problem(c->why, USAGE,
                       .detail = "get needs a file on the server, as in "
                                 "'ferry get :/name'");
    rc = places_check(c->argv, count, &first, c->why);
    if (rc < 0)
        return rc;
    rc = session_open(c, &first, &s, c->why);
    if (rc < 0)
        return rc;
    rc = buffer_pool_new(POOL_BUFFERS, &pool);
    if (rc < 0) {
        session_close(&s);
        return problem(c->why, NO_MEMORY);
    }
    for (int i = 0; i < count; i++) {
        struct problem why = {0};

        rc = place_parse(c->argv[i], &from, &why);
        if (rc == 0)
            rc = download_one(c, &s, pool, &from, dest,
                              count > 1 || (!last.remote && last.directory),
                              &why);
        rc = cli_failed(c, rc, &why, count, &failed);
        if (rc < 0)
            break;
    }
    session_close(&s);
    buffer_pool_free(pool);
    return rc < 0 ? rc : failed ? CLI_PARTLY : 0;
}
