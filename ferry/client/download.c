/* SPDX-License-Identifier: MIT */
#include "client/download.h"

#include <errno.h>
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>

#include <keel/file.h>

#include "chunk/part.h"
#include "transfer/transfer.h"

#define RANGES_A_GET 1000
#define LEAVES_A_TIME 16384
#define REPAIRS_MOST 3
/* In a tree, what is smaller has no name until it is whole, and begins anew
 * when it was cut. */
#define NAMED_LEAST ((uint64_t)4 << 20)

struct download {
    const struct download_order *o;
    struct session *s;
    struct remote_entry entry;
    struct part *part;
    struct digest root;
    bool root_known;
};

/* ---- receiving --------------------------------------------------------------------------- */

static void download_moved(void *arg, uint64_t bytes)
{
    struct download *d = arg;

    progress_part_moved(d->o->progress, d->o->part, bytes);
}

static int download_call(struct download *d, const struct range *ranges,
                         size_t count, struct exchange **ret,
                         struct problem *why)
{
    json_t *fields = place_fields(d->o->place);
    char text[DIGEST_TEXT_BYTES];

    json_add(&fields, "hash", json_string(chunk_hash_name(d->o->hash)));
    json_add(&fields, "chunks", ranges_to_json(ranges, count));
    if (d->o->match) {
        json_add(&fields, "match", json_string(d->o->match));
    } else if (d->entry.hash == d->o->hash) {
        digest_print(d->o->hash, &d->entry.root, text);
        json_add(&fields, "match", json_string(text));
    }
    if (!fields)
        return problem(why, NO_MEMORY);
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
        rc = problem(why, FILE_CHANGED, .name = path_leaf(&d->o->place->path));
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
        rc = transfer_receive(d->part, x, ranges, count, d->o->pool, 0, &watch,
                              why);
    if (rc == 0)
        rc = exchange_reply(x, KEEL_FOREVER, &ok, why);
    if (rc < 0)
        return rc;
    if (json_object_get(ok, "root")) {
        rc = answer_check(field_text(ok, "root", DIGEST_TEXT_BYTES, &text, why),
                          why);
        if (rc == 0 &&
            (digest_parse(text, &of, &d->root) < 0 || of != d->o->hash))
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
        json_t *fields = place_fields(d->o->place), *ok;
        size_t size;
        int rc;

        if (!fields || json_object_update_new(
                           fields, json_pack("{s:s, s:I, s:I}", "hash",
                                             chunk_hash_name(d->o->hash),
                                             "from", (json_int_t)from, "count",
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
    uint64_t size;
    struct digest ours;
    int rc;

    for (int tries = 0;; tries++) {
        if (!d->root_known) {
            rc = remote_hash_place(d->s, d->o->place, d->o->hash, &d->root,
                                   &size, why);
            if (rc == 0 && size != d->entry.size)
                rc = problem(why, FILE_CHANGED,
                             .name = path_leaf(&d->o->place->path));
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
            return problem(why, TRANSFER_DAMAGED,
                           .name = path_leaf(&d->o->place->path));
        cli_trace(d->o->c, "the hash differs; comparing leaves");
        rc = download_withdraw(d, why);
        if (rc == 0)
            rc = download_missing(d, why);
        if (rc < 0)
            return rc;
    }
}

/* ---- its name -------------------------------------------------------------------------------- */

/* Verified: now it may take its name. */
static int download_publish(struct download *d, struct problem *why)
{
    const struct local_new *to = &d->o->to;
    int fd = part_fd(d->part), rc = 0;

    if (d->o->lasting)
        rc = part_sync(d->part, why);
    if (rc < 0)
        return rc;
    rc = keel_file_chmod(fd, d->entry.mode & local_mask());
    if (rc == 0)
        rc = keel_file_set_mtime(fd, d->entry.mtime_ns);
    if (rc < 0)
        return local_problem(to->dir, to->name, 0, rc, why);
    if (part_name(d->part))
        rc = local_rename(to, part_name(d->part), why);
    else
        rc = local_name(to, fd, why);
    if (rc < 0)
        return rc;
    part_published(d->part);
    rc = d->o->lasting ? keel_file_sync(to->dir) : 0;
    return rc < 0 ? local_problem(to->dir, to->name, 0, rc, why) : 0;
}

/* ---- the whole ------------------------------------------------------------------------------------ */

static void part_id(const struct download *d, uint8_t ret[16], char name[64])
{
    char text[SERVER_BYTES + SPACE_NAME_BYTES + PATH_BYTES + 400];
    const struct login_address *login = &d->s->profile.login;
    struct digest id;
    int size;

    /* Named by the place, not by the version: another version (size, mtime)
     * starts the same part afresh, and none is left behind. */
    size = snprintf(text, sizeof(text), "%s@%s/%s%s%s %s", login->user,
                    login->server, d->o->place->path.text,
                    *d->o->place->space ? " @" : "", d->o->place->space,
                    d->o->to.name);
    chunk_leaf(CHUNK_SHA256, text, (size_t)size, &id);
    memcpy(ret, id.bytes, 16);
    size = snprintf(name, 64, ".ferry-");
    for (int i = 0; i < 8; i++)
        size += snprintf(name + size, 64 - (size_t)size, "%02x", ret[i]);
    snprintf(name + size, 64 - (size_t)size, ".part");
}

static int download_part(struct download *d, struct problem *why)
{
    struct part_options o = {
        .dir = d->o->to.dir,
        .size = d->entry.size,
        .hash = d->o->hash,
        .source_mtime_ns = d->entry.mtime_ns,
        .mode = 0600,
        .holes = true,
    };
    char name[64];
    int rc = -EOPNOTSUPP;

    part_id(d, o.id, name);
    if (d->o->progress->tree && d->entry.size < NAMED_LEAST)
        rc = part_open(&o, &d->part, why);
    if (rc == -EOPNOTSUPP) {
        o.name = name;
        rc = part_open(&o, &d->part, why);
    }
    /* The part's own name would tell nobody anything. */
    if (rc < 0 && why->id == PROBLEM_TRANSFER_BUSY)
        return problem(why, TRANSFER_BUSY, .name = d->o->dest);
    if (rc < 0 && why->id == PROBLEM_FILE_LOCAL)
        return problem(why, FILE_LOCAL, .errno_ = -rc, .name = d->o->dest);
    return rc;
}

static void download_began(struct download *d)
{
    struct progress *p = d->o->progress;
    const char *name = path_leaf(&d->o->place->path);
    uint64_t there = part_bytes(d->part);

    if (!p->tree)
        progress_start(p, d->o->c, name, d->entry.size);
    progress_begin(p, d->o->part, name, d->entry.size, there);
    if (there > 0)
        cli_trace(d->o->c, "%llu bytes are here already",
                  (unsigned long long)there);
}

/* What will not be continued under this name is not left behind. */
static bool is_over(const struct download *d, const struct problem *why)
{
    return part_bytes(d->part) == 0 || why->id == PROBLEM_FILE_MISSING ||
           why->id == PROBLEM_RIGHT_MISSING ||
           why->id == PROBLEM_FILE_ESCAPES || why->id == PROBLEM_FILE_EXISTS ||
           why->id == PROBLEM_FILE_COLLIDES ||
           why->id == PROBLEM_FILE_IS_DIRECTORY ||
           why->id == PROBLEM_DISK_FULL || why->id == PROBLEM_SYNC_FAILED;
}

int download_run(struct session *s, const struct download_order *o,
                 const struct remote_entry *entry, struct download_result *ret,
                 struct problem *why)
{
    struct download d = {.o = o, .s = s, .entry = *entry};
    int rc = download_part(&d, why);

    if (rc < 0)
        return rc;
    download_began(&d);
    rc = download_missing(&d, why);
    if (rc == 0)
        rc = download_verify(&d, why);
    if (rc == 0)
        rc = download_publish(&d, why);
    if (rc < 0) /* it may begin again */
        progress_broken(o->progress, o->part);
    else
        progress_ended(o->progress, o->part);
    if (rc < 0 && is_over(&d, why)) {
        part_rest(d.part);
        part_drop(d.part);
        return rc;
    }
    part_close(d.part);
    if (rc == 0)
        *ret = (struct download_result){d.root, d.entry.size, o->part->sent};
    return rc;
}
