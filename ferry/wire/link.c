/* SPDX-License-Identifier: MIT */
/* A link's life, and its reader.  Everything the reader does ends without
 * waiting, except reading itself: a reader that waited for the writer could
 * wait for ever, for the peer may do the same. */
#include "wire/link.h"

#include <errno.h>
#include <inttypes.h>
#include <stdio.h>
#include <string.h>

#include <keel/stream.h>

#include "wire/json.h"
#include "wire/link_inside.h"

#define VERSION 1
#define REQUESTS_EARLY 8
#define REQUESTS_MOST 256
#define HELLO_TIMEOUT (10 * KEEL_SECOND)
/* For GOODBYE to leave and the peer to close, when the peer broke something. */
#define PART_PATIENCE (2 * KEEL_SECOND)
#define FEATURES_MOST 32

/* ---- bells ---------------------------------------------------------------- */

void bell_init(struct bell *b)
{
    TAILQ_INIT(&b->waiting);
}

int bell_wait(struct bell *b, keel_ns deadline)
{
    struct bell_rope rope;
    int rc;

    keel_event_init(&rope.pulled);
    TAILQ_INSERT_TAIL(&b->waiting, &rope, node);
    rc = keel_event_wait(&rope.pulled, deadline);
    TAILQ_REMOVE(&b->waiting, &rope, node);
    keel_event_fini(&rope.pulled);
    return rc;
}

void bell_ring(struct bell *b)
{
    struct bell_rope *rope;

    TAILQ_FOREACH (rope, &b->waiting, node)
        keel_event_set(&rope->pulled);
}

/* ---- the end -------------------------------------------------------------- */

int wait_failed(int rc, keel_ns began, struct problem *why)
{
    if (rc == -ETIMEDOUT)
        return problem(why, CONNECT_TIMEOUT, .name = "The other side",
                       .when = (keel_now() - began) / KEEL_SECOND);
    if (rc == -ECANCELED)
        return problem(why, CANCELLED);
    return problem(why, CONNECT_LOST, .errno_ = -rc);
}

int link_reason(const struct link *l, struct problem *why)
{
    if (!l->why)
        return problem(why, CONNECT_LOST, .errno_ = l->rc < 0 ? -l->rc : EPIPE);
    if (why)
        *why = *l->why;
    return l->rc;
}

/* The first reason stays. */
static void link_blame(struct link *l, int rc, const struct problem *why)
{
    l->rc = rc;
    if (!why || rc == 0)
        return;
    l->why = keel_alloc(sizeof(*l->why));
    if (l->why)
        *l->why = *why;
}

void link_end(struct link *l, int rc, const struct problem *why)
{
    if (l->state == LINK_OVER)
        return;
    if (l->state == LINK_OPEN)
        link_blame(l, rc, why);
    l->state = LINK_OVER;
    if (l->reader && l->reader != keel_current())
        keel_cancel(l->reader);
    if (l->writer && l->writer != keel_current())
        keel_cancel(l->writer);
    exchanges_end(l);
    bell_ring(&l->room);
    keel_event_set(&l->opened);
    keel_event_set(&l->over);
}

static json_t *goodbye_json(const struct problem *why)
{
    json_t *j = json_object(), *p = why ? problem_to_json(why) : json_null();

    if (j && json_object_set_new(j, "problem", p) == 0)
        return j;
    json_decref(j);
    return NULL;
}

void link_part(struct link *l, int rc, const struct problem *why,
               keel_ns deadline)
{
    json_t *j = goodbye_json(why);
    uint8_t *bytes = NULL;
    size_t size = 0;
    bool said;

    if (l->state != LINK_OPEN) {
        json_decref(j);
        return;
    }
    link_blame(l, rc, why);
    l->state = LINK_PARTING;
    l->part_by = deadline;
    said = j && wire_json_encode(WIRE_GOODBYE, j, &bytes, &size) == 0 &&
           out_frame(l, bytes, size) == 0;
    json_decref(j);
    if (!said) {
        link_end(l, rc, why);
        return;
    }
    exchanges_end(l);
    bell_ring(&l->room);
}

void link_cut(struct link *l)
{
    struct problem why;
    int rc = problem(&why, CANCELLED);

    link_end(l, rc, &why);
}

int link_wait(struct link *l, keel_ns deadline, struct problem *why)
{
    keel_ns began = keel_now();
    int rc = keel_event_wait(&l->over, deadline);

    if (rc < 0)
        return wait_failed(rc, began, why);
    return l->rc < 0 ? link_reason(l, why) : 0;
}

void link_goodbye(struct link *l, const struct problem *p, keel_ns deadline)
{
    link_part(l, p ? -problem_row(p->id)->errno_ : 0, p, deadline);
    (void)keel_event_wait(&l->over, deadline);
    link_end(l, 0, NULL);
}

/* ---- the reader ----------------------------------------------------------- */

static int broken(struct problem *why, const char *detail)
{
    return problem(why, PROTOCOL_BROKEN, .detail = detail);
}

static int take_goodbye(struct link *l, const struct wire_frame *f)
{
    const json_t *p = json_object_get(f->json, "problem");
    struct problem why;

    if (!p || json_is_null(p)) {
        link_end(l, 0, NULL);
        return 0;
    }
    problem_from_json(p, &why);
    link_trace(l, 0, why.trace);
    link_end(l, -problem_row(why.id)->errno_, &why);
    return 0;
}

static int take_frame(struct link *l, struct wire_frame *f, struct problem *why)
{
    switch (f->kind) {
    case WIRE_REQUEST:
        return exchange_request(l, f, why);
    case WIRE_REPLY:
        return exchange_replied(l, f, why);
    case WIRE_NOTE:
        return exchange_noted(l, f, why);
    case WIRE_DATA:
        return exchange_data(l, f, why);
    case WIRE_CREDIT:
        return exchange_credited(l, f, why);
    case WIRE_CANCEL:
        return exchange_cancelled(l, f, why);
    case WIRE_GOODBYE:
        return take_goodbye(l, f);
    case WIRE_HELLO:
        break;
    }
    return broken(why, "a second HELLO");
}

/* Version: the highest a side speaks, `least` the lowest; both go on with the
 * lower of the highest ones. */
static int check_hello(const json_t *j, struct problem *why)
{
    const json_t *features = json_object_get(j, "features");
    const json_t *agent = json_object_get(j, "agent");
    uint64_t version, least;

    if (field_u64(j, "version", UINT32_MAX, &version, why) < 0 ||
        field_u64_or(j, "least", UINT32_MAX, 1, &least, why) < 0)
        return broken(why, "its HELLO names no version");
    if (version < VERSION || least > VERSION)
        return problem(why, PROTOCOL_VERSION,
                       .used = version < VERSION ? version : least,
                       .limit = VERSION);
    if (features &&
        (!json_is_array(features) || json_array_size(features) > FEATURES_MOST))
        return broken(why, "the features in its HELLO are no short list");
    if (agent && !json_is_string(agent))
        return broken(why, "the agent in its HELLO is no text");
    return 0;
}

static int read_hello(struct link *l, keel_ns deadline, struct problem *why)
{
    const struct wire_limits limits = {
        .kinds = 1u << WIRE_HELLO | 1u << WIRE_GOODBYE,
        .json_bytes = WIRE_JSON_EARLY_BYTES,
    };
    struct wire_frame f;
    int rc = wire_read(l->stream, &limits, &f, deadline, why);

    if (rc == -ENODATA)
        return problem(why, CONNECT_LOST, .errno_ = ECONNABORTED);
    if (rc < 0)
        return rc;
    if (f.kind == WIRE_GOODBYE) {
        rc = take_goodbye(l, &f);
        wire_frame_fini(&f);
        return rc;
    }
    l->hello = f.json;
    rc = check_hello(l->hello, why);
    if (rc < 0)
        return rc;
    l->greeted = true;
    keel_event_set(&l->opened);
    out_kick(l);
    /* link_open returns before the first request is looked at. */
    keel_yield();
    return 0;
}

static int read_frames(struct link *l, struct problem *why)
{
    struct wire_frame f;
    unsigned run = 0;
    int rc;

    while (l->state == LINK_OPEN) {
        rc = wire_read(l->stream, &l->limits, &f, KEEL_FOREVER, why);
        if (rc < 0)
            return rc;
        if (l->state == LINK_OPEN)
            rc = take_frame(l, &f, why);
        wire_frame_fini(&f);
        if (rc < 0)
            return rc;
        /* A peer that always has more to read must not keep the loop. */
        if (f.kind == WIRE_DATA || ++run % 16 == 0)
            keel_yield();
    }
    return 0;
}

/* The peer may be in the middle of writing much: closing with bytes unread
 * would reset the connection, and our GOODBYE with it. */
static void drain(struct link *l)
{
    uint8_t few[512];

    while (l->state == LINK_PARTING &&
           keel_stream_read(l->stream, few, sizeof(few), l->part_by) > 0)
        continue;
    l->drained = true;
    if (l->state == LINK_PARTING && !l->said)
        (void)keel_event_wait(&l->over, l->part_by);
}

static void reader_ended(struct link *l, int rc, struct problem *why)
{
    if (rc == -ENODATA) {
        /* The end of the stream between frames is polite enough when nothing
         * was in progress. */
        rc = LIST_EMPTY(&l->open)
                 ? 0
                 : problem(why, CONNECT_LOST, .errno_ = ECONNABORTED);
        link_end(l, rc, why);
    } else if (why->id == PROBLEM_CONNECT_LOST ||
               why->id == PROBLEM_CANCELLED) {
        link_end(l, rc, why);
    } else {
        link_part(l, rc, why, keel_after(PART_PATIENCE));
    }
}

static int reader_run(void *arg)
{
    struct link *l = arg;
    struct problem why;
    int rc;

    l->reader = keel_current();
    rc = read_hello(l, l->part_by, &why);
    if (rc == 0)
        rc = read_frames(l, &why);
    if (rc < 0 && l->state == LINK_OPEN)
        reader_ended(l, rc, &why);
    drain(l);
    link_end(l, 0, NULL);
    l->reader = NULL;
    return 0;
}

/* ---- opening and closing -------------------------------------------------- */

static int hello_frame(const struct link_options *o, uint8_t **ret,
                       size_t *ret_size)
{
    json_t *j = json_pack("{s:i, s:s, s:[]}", "version", VERSION, "agent",
                          o->agent ? o->agent : "ferry", "features");
    int rc;

    if (!j)
        return -ENOMEM;
    rc = o->hello && json_object_update(j, o->hello) < 0
             ? -ENOMEM
             : wire_json_encode(WIRE_HELLO, j, ret, ret_size);
    json_decref(j);
    return rc;
}

static void link_free(struct link *l)
{
    keel_group_free(l->group); /* cancels and joins them */
    out_drop_all(l);
    exchanges_drop(l);
    keel_assert(l->held == 0);
    json_decref(l->hello);
    keel_free(l->why);
    keel_free(l);
}

static struct link *link_new(struct keel_stream *stream,
                             const struct link_options *o)
{
    const uint32_t both =
        1u << WIRE_DATA | 1u << WIRE_CREDIT | 1u << WIRE_GOODBYE;
    struct link *l = keel_calloc(1, sizeof(*l));

    keel_assert(!o->inline_bytes || o->room);

    if (!l)
        return NULL;
    l->stream = stream;
    l->loop = keel_loop_current();
    l->server = o->server;
    l->request = o->request;
    l->inline_of = o->inline_bytes;
    l->inline_room = o->room;
    l->inline_cost = o->inline_cost;
    l->gate_of = o->gate;
    for (int i = 0; i < LINK_GATES; i++)
        TAILQ_INIT(&l->gates[i].waiting);
    l->arg = o->arg;
    l->limits.kinds = both | (o->server ? 1u << WIRE_REQUEST | 1u << WIRE_CANCEL
                                        : 1u << WIRE_REPLY | 1u << WIRE_NOTE);
    l->limits.json_bytes = o->server ? WIRE_JSON_EARLY_BYTES : WIRE_JSON_BYTES;
    l->limits.reply_bytes = WIRE_REPLY_BYTES;
    l->requests_max = o->requests_max ? o->requests_max : REQUESTS_MOST;
    l->trusted = !o->server;
    l->part_by =
        keel_after(o->hello_timeout ? o->hello_timeout : HELLO_TIMEOUT);
    keel_event_init(&l->opened);
    keel_event_init(&l->over);
    LIST_INIT(&l->open);
    TAILQ_INIT(&l->out);
    TAILQ_INIT(&l->sendings);
    bell_init(&l->room);
    if (keel_group_new(0, &l->group) < 0) {
        keel_free(l);
        return NULL;
    }
    return l;
}

int link_open(struct keel_stream *stream, const struct link_options *o,
              struct link **ret, struct problem *why)
{
    uint8_t *hello;
    size_t hello_size;
    struct link *l;
    int rc;

    keel_assert(keel_current());
    rc = hello_frame(o, &hello, &hello_size);
    if (rc < 0)
        return problem(why, NO_MEMORY);
    l = link_new(stream, o);
    if (!l) {
        keel_free(hello);
        return problem(why, NO_MEMORY);
    }
    rc = out_frame(l, hello, hello_size);
    if (rc == 0)
        rc = keel_spawn(
            &(struct keel_spawn){.name = "link-reader", .group = l->group},
            reader_run, l, NULL);
    if (rc < 0) {
        problem(why, NO_MEMORY);
    } else {
        rc = keel_event_wait(&l->opened, KEEL_FOREVER);
        if (rc < 0)
            wait_failed(rc, 0, why);
        else if (!l->greeted)
            rc = link_reason(l, why);
    }
    if (rc < 0) {
        link_cut(l);
        link_free(l);
        return rc;
    }
    *ret = l;
    return 0;
}

void link_close(struct link *l)
{
    struct keel_stream *stream;

    if (!l)
        return;
    keel_assert(keel_loop_current() == l->loop);
    stream = l->stream;
    link_cut(l);
    link_free(l);
    keel_stream_close(stream);
}

/* ---- small ones ----------------------------------------------------------- */

const json_t *link_peer_hello(const struct link *l)
{
    return l->hello;
}

struct keel_stream *link_stream(struct link *l)
{
    return l->stream;
}

void link_trace(const struct link *l, uint32_t id,
                char ret[PROBLEM_TRACE_BYTES])
{
    static const char plain[] = "0123456789abcdefghijklmnopqrstuvwxyz";
    const char *conn =
        json_string_value(json_object_get(l->hello, "connection"));

    *ret = 0;
    /* The peer's text goes to a terminal. */
    if (!conn || !*conn || strlen(conn) > 16 || conn[strspn(conn, plain)])
        return;
    if (id)
        snprintf(ret, PROBLEM_TRACE_BYTES, "%s-%" PRIu32, conn, id);
    else
        snprintf(ret, PROBLEM_TRACE_BYTES, "%s", conn);
}

void link_trust(struct link *l)
{
    l->trusted = true;
    l->limits.json_bytes = WIRE_JSON_BYTES;
}

unsigned link_requests_most(const struct link *l)
{
    return l->trusted || l->requests_max < REQUESTS_EARLY ? l->requests_max
                                                          : REQUESTS_EARLY;
}

void link_counters(const struct link *l, uint64_t *ret_in, uint64_t *ret_out)
{
    *ret_in = __atomic_load_n(&l->bytes_in, __ATOMIC_RELAXED);
    *ret_out = __atomic_load_n(&l->bytes_out, __ATOMIC_RELAXED);
}
