/* SPDX-License-Identifier: MIT */
/* put: files of this machine to the server.
 *
 * 1. The source is opened, and its leaves known from an earlier run are taken
 *    from its journal (files of 16 MiB and more have one, named by a hash of
 *    user, path and the file's identity).
 * 2. `put` says what the server has of it already.
 * 3. What is missing is sent; each leaf goes into the journal.
 * 4. Leaves still unknown (the server has the chunk, our journal does not) are
 *    hashed here; `put.commit` carries the root.  Where the server's sum
 *    differs, it is told our leaves and asks for what differs. */
#include <errno.h>
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>

#include <keel/file.h>

#include "base/base64.h"
#include "chunk/journal.h"
#include "client/cli.h"
#include "client/progress.h"
#include "client/remote.h"
#include "transfer/transfer.h"

#define JOURNAL_LEAST ((uint64_t)16 << 20)
#define POOL_BUFFERS 16
#define LEAVES_MOST 1024
#define REPAIRS_MOST 3

struct upload {
    struct cli *c;
    struct session *s;
    const char *local;
    struct path path;
    enum chunk_hash hash;
    struct source *source;
    uint8_t fingerprint[16];
    struct journal *journal; /* NULL: too small, or it could not be had */
    char journal_name[40];
    uint64_t journaled; /* chunks below were looked at */
    struct buffer_pool *pool;
    struct progress progress;
};

/* Who the file is, for whom and where to: another fingerprint, another upload.
 * The server's address is not part of it: it may be reached by several. */
static void upload_fingerprint(struct upload *u)
{
    const struct statx *st = source_stat(u->source);
    char text[PATH_BYTES + 400];
    struct digest d;
    int size = snprintf(
        text, sizeof(text), "%s /%s %u:%u:%llu %llu %lld.%u %lld.%u %d",
        u->s->profile.login.user, u->path.text, st->stx_dev_major,
        st->stx_dev_minor, (unsigned long long)st->stx_ino,
        (unsigned long long)st->stx_size, (long long)st->stx_mtime.tv_sec,
        st->stx_mtime.tv_nsec, (long long)st->stx_ctime.tv_sec,
        st->stx_ctime.tv_nsec, (int)u->hash);

    chunk_leaf(CHUNK_SHA256, text, (size_t)size, &d);
    memcpy(u->fingerprint, d.bytes, sizeof(u->fingerprint));
}

static int64_t ns_of(const struct statx_timestamp *t)
{
    return t->tv_sec * 1000000000 + t->tv_nsec;
}

/* A journal that cannot be had only costs hashing on a resume. */
static void upload_journal_open(struct upload *u)
{
    const struct statx *st = source_stat(u->source);
    struct journal_key key = {
        .size = st->stx_size,
        .device = (uint64_t)st->stx_dev_major << 32 | st->stx_dev_minor,
        .inode = st->stx_ino,
        .source_mtime_ns = ns_of(&st->stx_mtime),
        .source_ctime_ns = ns_of(&st->stx_ctime),
        .hash = u->hash,
    };
    char name[BASE64_TEXT_BYTES(16)];
    int state;

    if (st->stx_size < JOURNAL_LEAST)
        return;
    /* Changed within a tick of the clock: equal times would prove nothing. */
    if (keel_wall_ns() - ns_of(&st->stx_mtime) < 10 * KEEL_MS)
        return;
    memcpy(key.id, u->fingerprint, sizeof(key.id));
    base64_encode(BASE64_URL, u->fingerprint, sizeof(u->fingerprint), name);
    snprintf(u->journal_name, sizeof(u->journal_name), "%s.log", name);
    state =
        journal_open(u->s->home.journals, u->journal_name, &key, &u->journal);
    if (state < 0) {
        cli_trace(u->c, "no journal: %s", strerror(-state));
        u->journal = NULL;
        return;
    }
    for (uint64_t i = 0; i < chunk_count(st->stx_size); i++) {
        /* A leaf is a fact about the source, whatever was synced. */
        if (journal_has(u->journal, i))
            source_know(u->source, i, journal_leaves(u->journal) + i);
    }
}

static void upload_journal_add(struct upload *u)
{
    uint64_t chunks = chunk_count(source_size(u->source));

    while (u->journal && u->journaled < chunks &&
           source_hashed(u->source, u->journaled)) {
        uint64_t i = u->journaled++;

        if (!journal_has(u->journal, i) &&
            journal_add(u->journal, i, source_leaves(u->source) + i) < 0) {
            journal_close(u->journal);
            u->journal = NULL;
        }
    }
}

static void upload_moved(void *arg, uint64_t bytes)
{
    struct upload *u = arg;

    progress_moved(&u->progress, bytes);
    upload_journal_add(u);
}

/* ---- step 2 ------------------------------------------------------------------------- */

static int upload_call(struct upload *u, struct exchange **ret,
                       struct problem *why)
{
    const struct statx *st = source_stat(u->source);
    json_t *fields = path_fields(&u->path);

    if (!fields ||
        json_object_update_new(
            fields,
            json_pack("{s:I, s:s, s:I, s:i, s:o, s:b}", "size",
                      (json_int_t)st->stx_size, "hash",
                      chunk_hash_name(u->hash), "mtime_ns",
                      (json_int_t)ns_of(&st->stx_mtime), "mode",
                      (int)(st->stx_mode & 07777), "source",
                      bytes_to_json(u->fingerprint, sizeof(u->fingerprint)),
                      "no_replace", u->c->no_replace)) < 0) {
        json_decref(fields);
        return problem(why, NO_MEMORY);
    }
    return link_call(u->s->link, "put", fields, ret, why);
}

/* From what the server has to what it lacks. */
static void ranges_invert(const struct range *have, size_t count,
                          uint64_t chunks, struct range *ret, size_t *ret_count)
{
    uint64_t at = 0;
    size_t n = 0;

    for (size_t i = 0; i < count; i++) {
        if (have[i].from > at)
            ret[n++] = (struct range){at, have[i].from};
        at = have[i].to;
    }
    if (at < chunks)
        ret[n++] = (struct range){at, chunks};
    *ret_count = n;
}

static uint64_t ranges_bytes(const struct range *r, size_t count, uint64_t size)
{
    uint64_t bytes = 0;

    for (size_t i = 0; i < count; i++) {
        uint64_t to = r[i].to * CHUNK_BYTES;

        bytes += (to > size ? size : to) - r[i].from * CHUNK_BYTES;
    }
    return bytes;
}

static int upload_missing(struct upload *u, struct exchange *x,
                          struct range **ret, size_t *ret_count,
                          struct problem *why)
{
    uint64_t chunks = chunk_count(source_size(u->source));
    struct range *have = NULL;
    json_t *note, *ok;
    size_t count;
    int rc = exchange_note(x, keel_after(ASK_TIME), &note, why);

    if (rc == -ENODATA) { /* it answered at once: a refusal */
        rc = exchange_reply(x, KEEL_NOW, &ok, why);
        if (rc == 0) {
            json_decref(ok);
            rc = problem(why, PROTOCOL_BROKEN, .detail = "put has no note");
        }
        return rc;
    }
    if (rc < 0)
        return rc;
    rc = answer_check(ranges_from_json(json_object_get(note, "have"), chunks,
                                       RANGES_MOST, &have, &count, why),
                      why);
    json_decref(note);
    if (rc < 0)
        return rc;
    *ret = keel_calloc(count + 1, sizeof(**ret));
    if (!*ret)
        rc = problem(why, NO_MEMORY);
    else
        ranges_invert(have, count, chunks, *ret, ret_count);
    keel_free(have);
    return rc;
}

/* ---- step 4 ------------------------------------------------------------------------------ */

static int upload_hash_rest(struct upload *u, struct problem *why)
{
    uint64_t chunks = chunk_count(source_size(u->source));

    for (uint64_t i = 0; i < chunks; i++) {
        int rc =
            source_hashed(u->source, i) ? 0 : source_hash(u->source, i, why);

        if (rc < 0)
            return rc;
    }
    upload_journal_add(u);
    return 0;
}

static int upload_commit(struct upload *u, struct exchange *x,
                         const struct digest *root, char ret_level[16],
                         struct problem *why)
{
    char text[DIGEST_TEXT_BYTES];
    const char *asked = u->c->level ? u->c->level : "committed", *level;
    json_t *ok;
    int rc;

    digest_print(u->hash, root, text);
    /* The server's disk takes its time, and says so by the reply. */
    rc =
        link_ask(u->s->link, "put.commit",
                 json_pack("{s:I, s:s, s:s}", "put", (json_int_t)exchange_id(x),
                           "root", text, "level", asked),
                 KEEL_FOREVER, &ok, why);
    if (rc < 0)
        return rc;
    rc = answer_check(field_text(ok, "level", 15, &level, why), why);
    if (rc == 0 && strcmp(level, asked) != 0)
        rc = problem(why, PROTOCOL_BROKEN,
                     .detail = "it promises another level than was asked for");
    if (rc == 0)
        snprintf(ret_level, 16, "%s", level);
    json_decref(ok);
    return rc;
}

/* The server's sum differs: it compares our leaves with its own, and gets again
 * what differs. */
static int upload_repair(struct upload *u, struct exchange *x,
                         const struct transfer_watch *watch,
                         struct problem *why)
{
    uint64_t chunks = chunk_count(source_size(u->source));

    for (uint64_t from = 0; from < chunks; from += LEAVES_MOST) {
        size_t count =
            chunks - from < LEAVES_MOST ? (size_t)(chunks - from) : LEAVES_MOST;
        struct range *missing;
        size_t missing_count;
        json_t *ok;
        int rc;

        rc = link_ask(u->s->link, "put.leaves",
                      json_pack("{s:I, s:I, s:o}", "put",
                                (json_int_t)exchange_id(x), "from",
                                (json_int_t)from, "leaves",
                                bytes_to_json(source_leaves(u->source) + from,
                                              count * sizeof(struct digest))),
                      keel_after(ASK_TIME), &ok, why);
        if (rc < 0)
            return rc;
        rc = answer_check(ranges_from_json(json_object_get(ok, "missing"),
                                           chunks, RANGES_MOST, &missing,
                                           &missing_count, why),
                          why);
        json_decref(ok);
        if (rc < 0)
            return rc;
        if (missing_count > 0)
            rc = transfer_send(u->source, x, missing, missing_count, u->pool, 0,
                               watch, why);
        keel_free(missing);
        if (rc < 0)
            return rc;
    }
    return 0;
}

static int upload_refusal(struct exchange *x, int rc, struct problem *why)
{
    struct problem said;
    int said_rc = exchange_check(x, &said);

    if (said_rc >= 0)
        return rc;
    *why = said;
    return said_rc;
}

static int upload_finish(struct upload *u, struct exchange *x,
                         const struct transfer_watch *watch,
                         struct digest *ret_root, char ret_level[16],
                         struct problem *why)
{
    json_t *ok;
    int rc = upload_hash_rest(u, why);

    if (rc == 0)
        rc = source_root(u->source, ret_root, why);
    if (rc < 0)
        return rc;
    for (int tries = 0;; tries++) {
        rc = upload_commit(u, x, ret_root, ret_level, why);
        if (rc != -EBADMSG || tries == REPAIRS_MOST)
            break;
        cli_trace(u->c, "the server has something else; comparing leaves");
        rc = upload_repair(u, x, watch, why);
        if (rc < 0)
            break;
    }
    /* The put was refused before the commit came: that says why. */
    if (rc < 0 && why->id == PROBLEM_TRANSFER_UNKNOWN)
        return upload_refusal(x, rc, why);
    if (rc < 0)
        return rc;
    rc = exchange_reply(x, keel_after(ASK_TIME), &ok, why);
    if (rc == 0)
        json_decref(ok);
    return rc;
}

/* ---- the whole ----------------------------------------------------------------------------- */

static void upload_say(struct upload *u, const struct digest *root,
                       const char *level)
{
    char path[512], digest[DIGEST_TEXT_BYTES], name[256], sum[128];

    path_print(&u->path, path, sizeof(path));
    text_escape(u->local, strlen(u->local), name, sizeof(name));
    digest_print(u->hash, root, digest);
    progress_summary(&u->progress, sum, sizeof(sum));
    cli_say(u->c, "%s -> :%s  %s, %s", name, path, sum, level);
    cli_trace(u->c, "%s", digest);
    cli_json(u->c,
             json_pack("{s:s, s:o, s:o, s:I, s:I, s:s, s:s}", "do", "put",
                       "local", text_to_json(u->local, strlen(u->local)),
                       "path", text_to_json(u->path.text, u->path.size), "size",
                       (json_int_t)source_size(u->source), "sent",
                       (json_int_t)(u->progress.done - u->progress.began_with),
                       "root", digest, "level", level));
}

static int upload_send(struct upload *u, struct problem *why)
{
    struct transfer_watch watch = {upload_moved, u};
    keel_auto(exchange) struct exchange *x = NULL;
    uint64_t size = source_size(u->source);
    struct range *missing = NULL;
    struct digest root;
    char level[16];
    size_t count = 0;
    int rc;

    rc = upload_call(u, &x, why);
    if (rc == 0)
        rc = upload_missing(u, x, &missing, &count, why);
    if (rc < 0)
        return rc;
    progress_start(&u->progress, u->c, path_leaf(&u->path), size,
                   size - ranges_bytes(missing, count, size));
    if (u->progress.began_with > 0)
        cli_trace(u->c, "the server has %llu bytes already",
                  (unsigned long long)u->progress.began_with);
    upload_journal_add(u);
    if (count > 0)
        rc = transfer_send(u->source, x, missing, count, u->pool, 0, &watch,
                           why);
    keel_free(missing);
    if (rc == 0)
        rc = upload_finish(u, x, &watch, &root, level, why);
    progress_stop(&u->progress);
    if (rc < 0)
        return rc;
    if (u->journal)
        keel_file_unlink(u->s->home.journals, u->journal_name);
    upload_say(u, &root, level);
    return 0;
}

static int upload_open(struct upload *u, struct problem *why)
{
    struct statx st;
    int fd = keel_file_open_any(u->local, O_RDONLY | O_NONBLOCK, 0), rc;

    if (fd < 0)
        return problem(why, FILE_LOCAL, .errno_ = -fd, .name = u->local);
    rc = keel_file_stat(fd, NULL, &st);
    if (rc == 0 && S_ISDIR(st.stx_mode))
        rc = problem(why, FILE_IS_DIRECTORY, .name = u->local);
    else if (rc == 0 && !S_ISREG(st.stx_mode))
        rc = problem(why, FILE_NOT_REGULAR, .name = u->local);
    else if (rc < 0)
        rc = problem(why, FILE_LOCAL, .errno_ = -rc, .name = u->local);
    if (rc == 0)
        rc = source_open(fd, u->hash, u->local, &u->source, why);
    if (rc < 0)
        keel_file_close(fd);
    return rc;
}

/* Into a directory that exists: under its own name, as cp does. */
static int target_of(struct session *s, const struct place *to,
                     const char *local, bool several, struct path *ret,
                     struct problem *why)
{
    const char *leaf = strrchr(local, '/');
    struct remote_entry e = {.type = 'd'};
    struct problem missing;
    int rc = 0;

    *ret = to->path;
    if (to->path.count > 0)
        rc = remote_stat(s, &to->path, &e, &missing);
    if (rc < 0 && missing.id != PROBLEM_FILE_MISSING) {
        *why = missing;
        return rc;
    }
    if (rc == 0 && e.type == 'd')
        return path_append(ret, leaf ? leaf + 1 : local, why);
    if (several || to->directory) {
        char path[PROBLEM_TEXT_BYTES];

        path_print(&to->path, path, sizeof(path));
        if (rc == 0)
            return problem(why, FILE_NOT_DIRECTORY, .name = path);
        *why = missing;
        return rc;
    }
    return 0;
}

static int upload_one(struct cli *c, struct session *s,
                      struct buffer_pool *pool, const char *local,
                      const struct place *to, bool several, struct problem *why)
{
    struct upload u = {.c = c, .s = s, .pool = pool, .local = local};
    int rc = cli_hash(c, &u.hash, why);

    if (rc == 0)
        rc = upload_open(&u, why);
    if (rc < 0)
        return rc;
    rc = target_of(s, to, local, several, &u.path, why);
    if (rc == 0) {
        upload_fingerprint(&u);
        upload_journal_open(&u);
        rc = upload_send(&u, why);
    }
    journal_close(u.journal);
    source_close(u.source);
    return rc;
}

int cmd_put(struct cli *c)
{
    struct place to = {.remote = true, .directory = true}, last, source;
    struct buffer_pool *pool;
    struct session s;
    int count = c->argc, failed = 0, rc;

    rc = place_parse(c->argv[count - 1], &last, c->why);
    if (rc < 0)
        return rc;
    if (last.remote) {
        to = last;
        count--;
    }
    if (count == 0)
        return problem(c->why, USAGE, .detail = "put needs a file to send");
    for (int i = 0; i < count; i++) {
        rc = place_parse(c->argv[i], &source, c->why);
        if (rc == 0 && source.remote)
            rc = problem(c->why, USAGE,
                         .detail = "what put sends is on this machine; "
                                   "a name with a colon is written ./a:b");
        if (rc < 0)
            return rc;
    }
    rc = session_open(c, &to, &s, c->why);
    if (rc < 0)
        return rc;
    rc = buffer_pool_new(POOL_BUFFERS, &pool);
    if (rc < 0) {
        session_close(&s);
        return problem(c->why, NO_MEMORY);
    }
    for (int i = 0; i < count; i++) {
        struct problem why = {0};

        rc = upload_one(c, &s, pool, c->argv[i], &to, count > 1, &why);
        rc = cli_failed(c, rc, &why, count, &failed);
        if (rc < 0)
            break;
    }
    session_close(&s);
    buffer_pool_free(pool);
    return rc < 0 ? rc : failed ? CLI_PARTLY : 0;
}
