/* SPDX-License-Identifier: MIT */
/* One file of this machine to the server.
 *
 * 1. The source is opened, and its leaves known from an earlier run are taken
 *    from its journal (files of 16 MiB and more have one, named by a hash of
 *    user, path and the file's identity).
 * 2. `put` says what the server has of it already.
 * 3. What is missing is sent; each leaf goes into the journal.
 * 4. Leaves still unknown (the server has the chunk, our journal does not) are
 *    hashed here; `put.commit` carries the root.  Where the server's sum
 *    differs, it is told our leaves and asks for what differs. */
#include "client/upload.h"

#include <errno.h>
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>

#include <keel/file.h>

#include "base/base64.h"
#include "chunk/journal.h"
#include "client/remote.h"
#include "transfer/transfer.h"

#define JOURNAL_LEAST ((uint64_t)16 << 20)
#define POOL_BUFFERS 16
#define LEAVES_MOST 1024
#define REPAIRS_MOST 3

struct upload {
    const struct upload_order *o;
    struct session *s;
    struct source *source;
    uint8_t fingerprint[16];
    struct journal *journal; /* NULL: too small, or it could not be had */
    char journal_name[40];
    uint64_t journaled; /* chunks below were looked at */
};

/* Who the file is, for whom and where to: another fingerprint, another upload.
 * The server's address is not part of it: it may be reached by several. */
static void upload_fingerprint(struct upload *u)
{
    const struct statx *st = source_stat(u->source);
    char text[PATH_BYTES + 400];
    struct digest d;
    bool shared = u->o->space[0] != 0;
    int size = snprintf(
        text, sizeof(text), "%s %s%s/%s %u:%u:%llu %llu %lld.%u %lld.%u %d",
        u->s->profile.login.user, shared ? "@" : "", u->o->space,
        u->o->path->text, st->stx_dev_major, st->stx_dev_minor,
        (unsigned long long)st->stx_ino, (unsigned long long)st->stx_size,
        (long long)st->stx_mtime.tv_sec, st->stx_mtime.tv_nsec,
        (long long)st->stx_ctime.tv_sec, st->stx_ctime.tv_nsec,
        (int)u->o->hash);

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
        .hash = u->o->hash,
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
        cli_trace(u->o->c, "no journal: %s", strerror(-state));
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

    progress_part_moved(u->o->progress, u->o->part, bytes);
    upload_journal_add(u);
}

/* ---- step 2 ------------------------------------------------------------------------- */

static int upload_call(struct upload *u, struct exchange **ret,
                       struct problem *why)
{
    const struct statx *st = source_stat(u->source);
    json_t *fields = path_fields_in(u->o->space, u->o->path);

    if (fields && u->o->c->match &&
        json_object_set_new(fields, "match", json_string(u->o->c->match)) < 0) {
        json_decref(fields);
        return problem(why, NO_MEMORY);
    }
    if (!fields ||
        json_object_update_new(
            fields,
            json_pack("{s:I, s:s, s:I, s:i, s:o, s:b}", "size",
                      (json_int_t)st->stx_size, "hash",
                      chunk_hash_name(u->o->hash), "mtime_ns",
                      (json_int_t)ns_of(&st->stx_mtime), "mode",
                      (int)(st->stx_mode & 07777), "source",
                      bytes_to_json(u->fingerprint, sizeof(u->fingerprint)),
                      "no_replace", u->o->c->no_replace)) < 0) {
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

const char *put_level(const struct cli *c)
{
    return c->level ? c->level : "committed";
}

int put_level_check(const struct cli *c, const json_t *ok, struct problem *why)
{
    const char *level;
    int rc = answer_check(field_text(ok, "level", 15, &level, why), why);

    if (rc == 0 && strcmp(level, put_level(c)) != 0)
        rc = problem(why, PROTOCOL_BROKEN,
                     .detail = "it promises another level than was asked for");
    return rc;
}

/* A request about the upload names no space: its refusal is told where it is. */
static int upload_refused(const struct upload *u, int rc, struct problem *why)
{
    if (why->name[0] == '/')
        snprintf(why->space, sizeof(why->space), "%s", u->o->space);
    return rc;
}

static int upload_commit(struct upload *u, struct exchange *x,
                         const struct digest *root, struct problem *why)
{
    char text[DIGEST_TEXT_BYTES];
    json_t *ok;
    int rc;

    digest_print(u->o->hash, root, text);
    /* The server's disk takes its time, and says so by the reply. */
    rc =
        link_ask(u->s->link, "put.commit",
                 json_pack("{s:I, s:s, s:s}", "put", (json_int_t)exchange_id(x),
                           "root", text, "level", put_level(u->o->c)),
                 KEEL_FOREVER, &ok, why);
    if (rc < 0)
        return upload_refused(u, rc, why);
    rc = put_level_check(u->o->c, ok, why);
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
            return upload_refused(u, rc, why);
        rc = answer_check(ranges_from_json(json_object_get(ok, "missing"),
                                           chunks, RANGES_MOST, &missing,
                                           &missing_count, why),
                          why);
        json_decref(ok);
        if (rc < 0)
            return rc;
        if (missing_count > 0)
            rc = transfer_send(u->source, x, missing, missing_count, u->o->pool,
                               0, watch, why);
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
                         struct digest *ret_root, struct problem *why)
{
    json_t *ok;
    int rc = upload_hash_rest(u, why);

    if (rc == 0)
        rc = source_root(u->source, ret_root, why);
    if (rc < 0)
        return rc;
    for (int tries = 0;; tries++) {
        rc = upload_commit(u, x, ret_root, why);
        if (rc != -EBADMSG || tries == REPAIRS_MOST)
            break;
        cli_trace(u->o->c, "the server has something else; comparing leaves");
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

/* ---- the whole ------------------------------------------------------------------------ */

static void upload_began(struct upload *u, uint64_t there)
{
    struct progress *p = u->o->progress;
    const char *name = path_leaf(u->o->path);
    uint64_t size = source_size(u->source);

    if (!p->tree)
        progress_start(p, u->o->c, name, size);
    progress_begin(p, u->o->part, name, size, there);
    if (there > 0)
        cli_trace(u->o->c, "the server has %llu bytes already",
                  (unsigned long long)there);
    upload_journal_add(u);
}

static void upload_ended(struct upload *u, int rc)
{
    if (rc < 0)
        progress_broken(u->o->progress, u->o->part);
    else
        progress_ended(u->o->progress, u->o->part);
    if (rc == 0 && u->journal)
        keel_file_unlink(u->s->home.journals, u->journal_name);
}

static int upload_send(struct upload *u, struct upload_result *ret,
                       struct problem *why)
{
    struct transfer_watch watch = {upload_moved, u};
    keel_auto(exchange) struct exchange *x = NULL;
    uint64_t size = source_size(u->source);
    struct range *missing = NULL;
    size_t count = 0;
    int rc;

    rc = upload_call(u, &x, why);
    if (rc == 0)
        rc = upload_missing(u, x, &missing, &count, why);
    if (rc < 0)
        return rc;
    upload_began(u, size - ranges_bytes(missing, count, size));
    if (count > 0)
        rc = transfer_send(u->source, x, missing, count, u->o->pool, 0, &watch,
                           why);
    keel_free(missing);
    if (rc == 0)
        rc = upload_finish(u, x, &watch, &ret->root, why);
    upload_ended(u, rc);
    if (rc < 0)
        return rc;
    snprintf(ret->level, sizeof(ret->level), "%s", put_level(u->o->c));
    ret->size = size;
    ret->sent = u->o->part->sent;
    return 0;
}

/* Files of /proc have no size, and yet something in them. */
static int check_empty(int fd, const char *name, struct problem *why)
{
    struct statx st;
    char byte;

    if (keel_file_stat(fd, NULL, &st) < 0 || !S_ISREG(st.stx_mode) ||
        st.stx_size > 0 || keel_file_read(fd, &byte, 1, 0) <= 0)
        return 0;
    return problem(why, FILE_NOT_REGULAR, .name = name);
}

int upload_run(struct session *s, const struct upload_order *o, int fd,
               struct upload_result *ret, struct problem *why)
{
    struct upload u = {.o = o, .s = s};
    int rc = check_empty(fd, o->local, why);

    if (rc == 0)
        rc = source_open(fd, o->hash, o->local, &u.source, why);
    if (rc < 0) {
        keel_file_close(fd);
        return rc;
    }
    upload_fingerprint(&u);
    upload_journal_open(&u);
    rc = upload_send(&u, ret, why);
    journal_close(u.journal);
    source_close(u.source);
    return rc;
}

/* ---- old journals ------------------------------------------------------------------------ */

#define JOURNAL_KEPT (30 * 86400 * KEEL_SECOND)

static int journal_old(const char *name, unsigned char type, void *arg)
{
    const struct home *h = arg;
    size_t size = strlen(name);
    struct statx st;

    (void)type;
    if (size > 4 && strcmp(name + size - 4, ".log") == 0 &&
        keel_file_stat(h->journals, name, &st) == 0 && S_ISREG(st.stx_mode) &&
        keel_wall_ns() - ns_of(&st.stx_mtime) > JOURNAL_KEPT)
        keel_file_unlink(h->journals, name);
    return 0;
}

void upload_journals_clean(const struct home *h)
{
    /* A journal that stays costs nothing but its room. */
    (void)keel_file_list(h->journals, journal_old, (void *)(uintptr_t)h);
}
