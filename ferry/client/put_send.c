/* SPDX-License-Identifier: MIT */
#include <errno.h>
#include <string.h>

#include <keel/file.h>

#include "client/put_inside.h"

/* Bytes of small files that are read and not acknowledged. */
#define HELD_MOST ((uint64_t)12 << 20)
/* Reads, encrypts and sends: more than a request does. */
#define LARGE_STACK ((size_t)128 << 10)

struct sending {
    struct tree *tree;
    struct item item;
    struct upload_result result;
    struct progress_part part;
};

static void sending_free(struct sending *s)
{
    struct tree *t = s->tree;

    if (s->item.outcome == OUT_SMALL) {
        t->held -= s->item.size;
        keel_event_set(&t->room);
    }
    item_free(&s->item);
    keel_free(s);
}

/* ---- small files ------------------------------------------------------------------- */

static json_t *small_fields(const struct sending *s, const struct path *path)
{
    const struct item *i = &s->item;
    struct cli *c = s->tree->c;
    json_t *fields = path_fields_in(s->tree->o->space, path);
    char root[DIGEST_TEXT_BYTES];

    digest_print(s->tree->hash, &i->root, root);
    if (!fields ||
        json_object_set_new(fields, "size", json_integer((json_int_t)i->size)) <
            0 ||
        json_object_set_new(fields, "hash",
                            json_string(chunk_hash_name(s->tree->hash))) < 0 ||
        json_object_set_new(fields, "mtime_ns", json_integer(i->mtime_ns)) <
            0 ||
        json_object_set_new(fields, "mode", json_integer((int)i->mode)) < 0 ||
        json_object_set_new(
            fields, "source",
            bytes_to_json(i->fingerprint, sizeof(i->fingerprint))) < 0 ||
        (c->no_replace &&
         json_object_set_new(fields, "no_replace", json_true()) < 0) ||
        json_object_set_new(fields, "root", json_string(root)) < 0 ||
        json_object_set_new(fields, "level", json_string(put_level(c))) < 0) {
        json_decref(fields);
        return NULL;
    }
    return fields;
}

static int small_send(struct session *session, void *arg, struct problem *why)
{
    keel_auto(exchange) struct exchange *x = NULL;
    struct sending *s = arg;
    struct item *i = &s->item;
    struct path path;
    json_t *fields, *ok;
    int rc = node_path(i->node, i->name, &path, why);

    if (rc < 0)
        return rc;
    fields = small_fields(s, &path);
    if (!fields)
        return problem(why, NO_MEMORY);
    progress_file(&s->tree->progress, i->name, strlen(i->name));
    rc = transfer_put_small(session->link, fields, i->bytes, (size_t)i->size,
                            &x, why);
    if (rc == 0)
        rc = exchange_reply(x, KEEL_FOREVER, &ok, why);
    if (rc < 0)
        return rc;
    rc = put_level_check(s->tree->c, ok, why);
    json_decref(ok);
    return rc;
}

static void small_done(void *arg, int rc, const struct problem *why)
{
    struct sending *s = arg;
    struct tree *t = s->tree;

    if (rc < 0) {
        report_item_failed(t, &s->item, why);
    } else {
        progress_moved(&t->progress, s->item.size);
        s->result.size = s->result.sent = s->item.size;
        s->result.root = s->item.root;
        report_file(t, &s->item, &s->result);
    }
    sending_free(s);
}

static void held_take(struct tree *t, uint64_t size)
{
    while (t->held > 0 && t->held + size > HELD_MOST) {
        keel_event_clear(&t->room);
        if (keel_event_wait(&t->room, KEEL_FOREVER) < 0)
            break;
    }
    t->held += size;
}

/* ---- links --------------------------------------------------------------------------- */

static int link_send(struct session *session, void *arg, struct problem *why)
{
    struct sending *s = arg;
    struct item *i = &s->item;
    struct path path;
    json_t *fields;
    int rc = node_path(i->node, i->name, &path, why);

    if (rc < 0)
        return rc;
    fields = path_fields_in(s->tree->o->space, &path);
    if (!fields ||
        json_object_set_new(fields, "target",
                            text_to_json(i->target, strlen(i->target))) < 0 ||
        json_object_set_new(fields, "mtime_ns", json_integer(i->mtime_ns)) <
            0 ||
        (s->tree->c->no_replace &&
         json_object_set_new(fields, "no_replace", json_true()) < 0)) {
        json_decref(fields);
        return problem(why, NO_MEMORY);
    }
    return link_ask(session->link, "link", fields, KEEL_FOREVER, NULL, why);
}

static void link_done(void *arg, int rc, const struct problem *why)
{
    struct sending *s = arg;

    if (rc < 0)
        report_item_failed(s->tree, &s->item, why);
    else
        report_link(s->tree, &s->item);
    sending_free(s);
}

/* ---- large files ---------------------------------------------------------------------- */

static int large_send(struct session *session, void *arg, struct problem *why)
{
    struct sending *s = arg;
    struct tree *t = s->tree;
    char local[PATH_BYTES + 1];
    struct path path;
    struct upload_order o = {
        .c = t->c,
        .local = local,
        .space = t->o->space,
        .path = &path,
        .hash = t->hash,
        .pool = t->pool,
        .progress = &t->progress,
        .part = &s->part,
    };
    int rc = node_path(s->item.node, s->item.name, &path, why), fd;

    if (rc < 0)
        return rc;
    item_local(&s->item, local, sizeof(local));
    fd = put_open(&s->item, why);
    if (fd < 0)
        return fd;
    progress_file(&t->progress, s->item.name, strlen(s->item.name));
    return upload_run(session, &o, fd, &s->result, why);
}

static int large_run(void *arg)
{
    struct sending *s = arg;
    struct tree *t = s->tree;
    struct problem why = {0};
    int rc = batch_run(t->o->batch, large_send, s, &why);

    node_read(s->item.node);
    if (rc < 0)
        report_item_failed(t, &s->item, &why);
    else
        report_file(t, &s->item, &s->result);
    sending_free(s);
    return 0;
}

/* ---- which way -------------------------------------------------------------------------- */

static int start(struct sending *s, struct problem *why)
{
    struct keel_spawn how = {
        .name = "large", .group = s->tree->large, .stack_bytes = LARGE_STACK};
    struct batch *b = s->tree->o->batch;

    switch (s->item.outcome) {
    case OUT_SMALL:
        held_take(s->tree, s->item.size);
        return batch_go(b, small_send, small_done, s, why);
    case OUT_LINK:
        return batch_go(b, link_send, link_done, s, why);
    default:
        return keel_spawn(&how, large_run, s, NULL) < 0
                   ? problem(why, NO_MEMORY)
                   : 0;
    }
}

static void dry_send(struct tree *t, struct item *i)
{
    struct upload_result none = {.size = i->size};
    struct problem why = {0};
    int rc = put_would(t, i, &why);

    if (i->outcome == OUT_LARGE)
        node_read(i->node);
    if (rc < 0)
        report_item_failed(t, i, &why);
    else if (i->outcome == OUT_LARGE)
        report_file(t, i, &none);
    else
        report_link(t, i);
    item_free(i);
}

void put_send(struct tree *t, struct item *i)
{
    struct problem why = {0};
    struct sending *s;

    if (i->outcome == OUT_SAME || i->outcome == OUT_FAILED) {
        if (i->outcome == OUT_SAME)
            report_same(t, i);
        else
            report_item_failed(t, i, i->why);
        item_free(i);
        return;
    }
    i->node->touched = true;
    if (t->c->dry_run) {
        dry_send(t, i);
        return;
    }
    s = keel_calloc(1, sizeof(*s));
    if (!s) {
        problem(&why, NO_MEMORY);
        if (i->outcome == OUT_LARGE)
            node_read(i->node);
        report_item_failed(t, i, &why);
        item_free(i);
        return;
    }
    s->tree = t;
    s->item = *i;
    memset(i, 0, sizeof(*i)); /* taken */
    if (start(s, &why) < 0) {
        if (s->item.outcome == OUT_LARGE)
            node_read(s->item.node);
        report_item_failed(t, &s->item, &why);
        sending_free(s);
    }
}
