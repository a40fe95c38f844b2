/* SPDX-License-Identifier: MIT */
/* Exchanges: a client's calls, a server's handlers, and the data of both. */
#include <errno.h>
#include <string.h>

#include "wire/link_inside.h"
#include "wire/room.h"

/* The text of the requests that are open at once. */
#define OPEN_BYTES ((size_t)1 << 20)
/* NOTEs of one request that nobody has fetched. */
#define NOTES_MOST 64
#define NOTES_BYTES ((size_t)4 << 20)
/* Credit and cancels for requests that are over: a few cross their REPLY on the
 * way, and each request pays for some. */
#define STRAYS_MOST 1024
#define STRAYS_PAID 64
/* Data of requests that are their own credit: what the peer may send before it
 * sees their REPLYs. */
#define INLINE_BYTES ((size_t)8 << 20)
/* It has begun to come, and holds room that others wait for. */
#define INLINE_PATIENCE (60 * KEEL_SECOND)
/* Credit that a peer has not used. */
#define CREDIT_OPEN_MOST ((uint64_t)1 << 32)
#define SEND_MOST ((size_t)1 << 20)
#define VERB_SHOWN 23

static int broken(struct problem *why, const char *detail)
{
    return problem(why, PROTOCOL_BROKEN, .detail = detail);
}

/* ---- the list of open ones ------------------------------------------------ */

struct exchange *exchange_find(struct link *l, uint32_t id)
{
    struct exchange *x;

    LIST_FOREACH (x, &l->by_id[id % LINK_BUCKETS], same)
        if (x->id == id)
            return x;
    return NULL;
}

static struct exchange *exchange_new(struct link *l, uint32_t id)
{
    struct exchange *x = keel_calloc(1, sizeof(*x));

    if (!x)
        return NULL;
    x->link = l;
    x->id = id;
    x->credit = (struct out){.kind = OUT_CREDIT, .x = x};
    x->last = (struct out){.kind = OUT_CANCEL, .x = x};
    bell_init(&x->bell);
    return x;
}

static void exchange_list(struct exchange *x, size_t text_bytes,
                          uint32_t inline_bytes)
{
    struct link *l = x->link;

    x->listed = true;
    x->text_bytes = text_bytes;
    x->inline_bytes = inline_bytes;
    l->open_count++;
    l->open_bytes += text_bytes;
    l->inline_bytes += inline_bytes;
    LIST_INSERT_HEAD(&l->open, x, node);
    LIST_INSERT_HEAD(&l->by_id[x->id % LINK_BUCKETS], x, same);
    l->strays -= l->strays < STRAYS_PAID ? l->strays : STRAYS_PAID;
}

/* Its id is free from here on.  What the client may still send within the
 * credit it was granted is dropped when it comes; a server sends nothing after
 * its REPLY. */
static void exchange_unlist(struct exchange *x)
{
    struct link *l = x->link;

    if (!x->listed)
        return;
    x->listed = false;
    LIST_REMOVE(x, node);
    LIST_REMOVE(x, same);
    l->open_count--;
    l->open_bytes -= x->text_bytes;
    l->inline_bytes -= x->inline_bytes;
    if (l->server)
        l->stray_credit += x->credit_in;
    x->credit_in = x->grant_due = 0;
    out_remove(l, &x->credit);
    bell_ring(&l->room);
}

static void exchange_drop(struct exchange *x)
{
    exchange_data_off(x);
    keel_assert(!x->sending && TAILQ_EMPTY(&x->bell.waiting));
    exchange_unlist(x);
    if (x->waiting)
        TAILQ_REMOVE(&x->link->gates[x->gate - 1].waiting, x, behind);
    exchange_inline_drop(x);
    if (x->charge > 0)
        room_give(x->link->inline_room, x->charge);
    out_remove(x->link, &x->last);
    json_decref(x->body);
    json_decref(x->reply);
    json_decref(x->notes);
    json_decref(x->space);
    keel_free(x);
}

/* Whoever waits for something of `x` looks again. */
static void exchange_wake(struct exchange *x)
{
    bell_ring(&x->bell);
    if (x->sending)
        keel_event_set(&x->sending->changed);
    if (x->sink.ended)
        x->sink.ended(x->sink.arg);
}

static void gate_pass(struct exchange *x);

static void exchange_cancel(struct exchange *x)
{
    x->cancelled = true;
    if (x->waiting && x->link->state == LINK_OPEN)
        gate_pass(x); /* it will not be long */
    if (x->co)
        keel_cancel(x->co);
    exchange_wake(x);
}

void exchanges_end(struct link *l)
{
    struct exchange *x;

    LIST_FOREACH (x, &l->open, node) {
        if (l->server)
            exchange_cancel(x);
        else
            exchange_wake(x);
    }
}

void exchanges_drop(struct link *l)
{
    struct exchange *x;

    while ((x = LIST_FIRST(&l->open))) {
        keel_assert(l->server || x->abandoned);
        exchange_drop(x);
    }
}

static int frame_id(const json_t *j, uint32_t *ret, struct problem *why)
{
    uint64_t id = 0;

    if (field_u64(j, "id", INT32_MAX, &id, NULL) < 0 || id == 0)
        return broken(why, "a request's id is not within 1 and 2^31-1");
    *ret = (uint32_t)id;
    return 0;
}

/* Something that finds nothing to do is no error, as long as it is rare. */
static int stray(struct link *l, struct problem *why)
{
    if (++l->strays > STRAYS_MOST)
        return broken(why, "too many frames are for requests that are over");
    return 0;
}

/* ---- server --------------------------------------------------------------- */

static int reply_frame(struct exchange *x, const char *key, json_t *value)
{
    json_t *j = json_pack("{s:i}", "id", (int)x->id);
    uint8_t *bytes;
    size_t size;
    int rc;

    if (!j) {
        json_decref(value);
        return -ENOMEM;
    }
    rc = json_object_set_new(j, key, value) < 0 /* also when it is NULL */
             ? -ENOMEM
             : wire_json_encode(WIRE_REPLY, j, &bytes, &size);
    json_decref(j);
    return rc < 0 ? rc : out_frame(x->link, bytes, size);
}

static int reply_too_long(struct exchange *x)
{
    struct problem p;

    problem(&p, INTERNAL, .errno_ = EMSGSIZE, .detail = "the answer");
    return reply_frame(x, "problem", problem_to_json(&p));
}

static void reply_no_memory(struct exchange *x)
{
    x->refusal = PROBLEM_NO_MEMORY;
    x->last.kind = OUT_REFUSAL;
    out_queue(x->link, &x->last);
    if (!x->last.queued) /* the link ended */
        exchange_unlist(x);
}

static int reply(struct exchange *x, const char *key, json_t *value)
{
    int rc, second;

    keel_assert(x->link->server);
    if (x->answered) {
        json_decref(value);
        return -EALREADY;
    }
    keel_shield();
    rc = out_room(x->link, NULL);
    keel_unshield();
    x->answered = true;
    if (rc < 0) {
        json_decref(value);
        exchange_unlist(x);
        return rc;
    }
    rc = second = reply_frame(x, key, value);
    if (rc == -EMSGSIZE)
        second = reply_too_long(x);
    if (second == 0)
        exchange_unlist(x);
    else
        reply_no_memory(x);
    return rc;
}

int exchange_answer(struct exchange *x, json_t *ok)
{
    return reply(x, "ok", ok ? ok : json_object());
}

int exchange_refuse(struct exchange *x, const struct problem *p)
{
    return reply(x, "problem", problem_to_json(p));
}

void exchange_refused(struct exchange *x)
{
    exchange_unlist(x);
    if (!x->running)
        exchange_drop(x);
}

int exchange_tell(struct exchange *x, json_t *note)
{
    uint8_t *bytes;
    size_t size;
    int rc;

    keel_assert(x->link->server);
    rc = note ? out_room(x->link, NULL) : -ENOMEM;
    if (rc == 0 && x->answered)
        rc = -EALREADY;
    if (rc == 0 &&
        json_object_set_new(note, "id", json_integer((int)x->id)) < 0)
        rc = -ENOMEM;
    if (rc == 0)
        rc = wire_json_encode(WIRE_NOTE, note, &bytes, &size);
    json_decref(note);
    return rc < 0 ? rc : out_frame(x->link, bytes, size);
}

struct link *exchange_link(struct exchange *x)
{
    return x->link;
}

static const char *request_verb(const json_t *body)
{
    const json_t *verb = json_object_get(body, "do");

    return json_is_string(verb) ? json_string_value(verb) : NULL;
}

static void handler_refuse(struct exchange *x, const char *verb, int rc,
                           struct problem *why)
{
    if (rc == -ECANCELED && why->id == PROBLEM_NONE)
        problem(why, CANCELLED);
    if (rc >= 0)
        problem(why, INTERNAL, .detail = verb, .errno_ = ENODATA);
    else if (why->id == PROBLEM_NONE)
        problem(why, INTERNAL, .detail = verb, .errno_ = -rc);
    (void)exchange_refuse(x, why);
}

/* The oldest one that waits at the gate has its turn. */
static void gate_leave(struct exchange *x)
{
    struct link *l = x->link;
    struct gate *g;
    struct exchange *next;

    if (x->gate == 0)
        return;
    g = &l->gates[x->gate - 1];
    g->inside--;
    next = TAILQ_FIRST(&g->waiting);
    if (next && l->state == LINK_OPEN && g->inside < LINK_GATE_MOST)
        gate_pass(next);
}

static int handler_run(void *arg)
{
    struct exchange *x = arg;
    struct link *l = x->link;
    const char *named = request_verb(x->body), *verb = named ? named : "";
    struct problem why = {.id = PROBLEM_NONE};
    int rc;

    x->co = keel_current();
    if (x->cancelled) /* before it ran */
        keel_cancel(x->co);
    rc = l->request(x, verb, x->body, l->arg, &why);
    if (!x->answered)
        handler_refuse(x, verb, rc, &why);
    x->co = NULL;
    x->running = false;
    gate_leave(x);
    exchange_data_off(x);
    keel_assert(!x->sending);
    if (!x->last.queued)
        exchange_drop(x);
    return 0;
}

/* A verb is the peer's text, and a coroutine's name is shown on terminals. */
static const char *handler_name(const char *verb)
{
    if (!verb || !*verb || strlen(verb) > VERB_SHOWN ||
        verb[strspn(verb, "abcdefghijklmnopqrstuvwxyz._")])
        return "request";
    return verb;
}

/* ---- data that comes with a REQUEST --------------------------------------- */

static int lost(ssize_t rc, struct problem *why)
{
    if (rc == -ECANCELED)
        return problem(why, CANCELLED);
    return problem(why, CONNECT_LOST,
                   .errno_ = rc < 0 ? (int)-rc : ECONNABORTED);
}

static int data_drop(struct link *l, size_t size, struct problem *why)
{
    keel_auto(mem) void *scratch = NULL;
    size_t most = size < 65536 ? size : 65536;
    ssize_t n;

    scratch = keel_alloc(most);
    if (!scratch)
        return problem(why, NO_MEMORY);
    while (size > 0) {
        n = keel_stream_read(l->stream, scratch, size < most ? size : most,
                             KEEL_FOREVER);
        if (n <= 0)
            return lost(n, why);
        size -= (size_t)n;
    }
    return 0;
}

const void *exchange_inline(const struct exchange *x, size_t *ret_size)
{
    *ret_size = x->data ? x->inline_bytes : 0;
    return x->data;
}

void exchange_inline_drop(struct exchange *x)
{
    if (!x->data)
        return;
    keel_free(x->data);
    x->data = NULL;
    x->charge -= x->inline_bytes;
    room_give(x->link->inline_room, x->inline_bytes);
}

/* The frame behind the REQUEST, and nothing else, is its data. */
static int inline_head(struct link *l, const struct exchange *x,
                       struct problem *why)
{
    struct wire_limits limits = l->limits;
    struct wire_frame f;
    int rc;

    limits.kinds = 1u << WIRE_DATA;
    rc = wire_read(l->stream, &limits, &f, keel_after(INLINE_PATIENCE), why);
    if (rc == -ENODATA)
        return problem(why, CONNECT_LOST, .errno_ = ECONNABORTED);
    if (rc < 0)
        return rc;
    if (f.id != x->id || f.offset != 0)
        return broken(why, "a request's data does not follow it");
    if (f.size != x->inline_bytes)
        return problem(why, TRANSFER_CREDIT, .size = f.size,
                       .limit = x->inline_bytes);
    return 0;
}

/* Reads it, whatever becomes of the request. */
static int inline_read(struct link *l, struct exchange *x, struct problem *why)
{
    int rc;

    if (l->trusted) {
        size_t charge = x->inline_bytes + l->inline_cost;

        rc = room_take(l->inline_room, charge, KEEL_FOREVER);
        if (rc < 0)
            return problem(why, CANCELLED);
        x->charge = charge;
        x->data = keel_alloc(x->inline_bytes);
        if (!x->data) {
            x->charge = l->inline_cost;
            room_give(l->inline_room, x->inline_bytes);
        }
    }
    rc = inline_head(l, x, why);
    if (rc < 0)
        return rc;
    __atomic_fetch_add(&l->bytes_in, x->inline_bytes, __ATOMIC_RELAXED);
    x->moved += x->inline_bytes;
    if (!x->data)
        return data_drop(l, x->inline_bytes, why);
    rc = keel_stream_read_all(l->stream, x->data, x->inline_bytes, NULL,
                              keel_after(INLINE_PATIENCE));
    return rc < 0 ? lost(rc, why) : 0;
}

/* How much of it there is. */
static int inline_size(struct link *l, const struct wire_frame *f,
                       uint32_t *ret, struct problem *why)
{
    size_t size = l->inline_of ? l->inline_of(f->json, l->arg) : 0;

    keel_assert(size <= WIRE_DATA_BYTES);
    if (size > INLINE_BYTES - l->inline_bytes)
        return problem(why, TRANSFER_CREDIT, .size = l->inline_bytes + size,
                       .limit = INLINE_BYTES);
    *ret = (uint32_t)size;
    return 0;
}

static void request_no_memory(struct exchange *x)
{
    x->running = false;
    gate_leave(x);
    x->answered = true;
    reply_no_memory(x);
    if (!x->last.queued)
        exchange_drop(x);
}

static void request_start(struct link *l, struct exchange *x)
{
    int rc = keel_spawn(
        &(struct keel_spawn){.name = handler_name(request_verb(x->body)),
                             .group = l->group},
        handler_run, x, NULL);

    if (rc < 0)
        request_no_memory(x);
}

/* Into the gate, with or without a place; its handler begins. */
static void gate_pass(struct exchange *x)
{
    struct gate *g = &x->link->gates[x->gate - 1];

    if (x->waiting)
        TAILQ_REMOVE(&g->waiting, x, behind);
    x->waiting = false;
    g->inside++;
    request_start(x->link, x);
}

static void request_gate(struct link *l, struct exchange *x)
{
    struct gate *g;

    x->gate = l->gate_of && l->trusted ? l->gate_of(x->body, l->arg) : 0;
    if (x->gate == 0) {
        request_start(l, x);
        return;
    }
    keel_assert(x->gate <= LINK_GATES);
    g = &l->gates[x->gate - 1];
    if (g->inside < LINK_GATE_MOST) {
        gate_pass(x);
        return;
    }
    x->waiting = true;
    TAILQ_INSERT_TAIL(&g->waiting, x, behind);
}

int exchange_request(struct link *l, struct wire_frame *f, struct problem *why)
{
    struct exchange *x;
    uint32_t id = 0, inline_bytes = 0;
    int rc = frame_id(f->json, &id, why);

    if (rc < 0)
        return rc;
    if (exchange_find(l, id))
        return broken(why, "a request has the id of one that is open");
    if (l->open_count >= link_requests_most(l))
        return problem(why, REQUEST_TOO_MANY, .limit = link_requests_most(l));
    if (f->size > OPEN_BYTES - l->open_bytes)
        return broken(why, "the open requests have more than 1 MiB of text");
    rc = inline_size(l, f, &inline_bytes, why);
    if (rc < 0)
        return rc;
    x = exchange_new(l, id);
    if (!x)
        return problem(why, NO_MEMORY);
    exchange_list(x, f->size, inline_bytes);
    x->body = f->json;
    f->json = NULL;
    x->running = true;
    if (inline_bytes > 0) {
        rc = inline_read(l, x, why);
        if (rc < 0 || l->state != LINK_OPEN) {
            exchange_drop(x);
            return rc;
        }
    }
    if (inline_bytes > 0 && l->trusted && !x->data)
        request_no_memory(x);
    else
        request_gate(l, x);
    return 0;
}

int exchange_cancelled(struct link *l, const struct wire_frame *f,
                       struct problem *why)
{
    struct exchange *x = exchange_find(l, f->id);

    if (!x || x->cancelled || x->answered)
        return stray(l, why);
    exchange_cancel(x);
    return 0;
}

/* ---- client --------------------------------------------------------------- */

/* Requests with data leave one place to the others. */
static bool call_fits(const struct link *l, const void *data, size_t size)
{
    unsigned most = link_requests_most(l) - (data && link_requests_most(l) > 1);

    return l->open_count < most &&
           l->open_bytes <= OPEN_BYTES - WIRE_JSON_BYTES &&
           l->inline_bytes <= INLINE_BYTES - size;
}

static int call_room(struct link *l, const void *data, size_t size,
                     struct problem *why)
{
    int rc = 0;

    while (rc == 0 && l->state == LINK_OPEN && !call_fits(l, data, size))
        rc = bell_wait(&l->room, KEEL_FOREVER);
    if (rc < 0)
        return wait_failed(rc, 0, why);
    return out_room(l, why);
}

static uint32_t call_id(struct link *l)
{
    do {
        l->next_id = l->next_id < INT32_MAX ? l->next_id + 1 : 1;
    } while (exchange_find(l, l->next_id));
    return l->next_id;
}

/* Both frames are one piece of the queue: nothing comes between them. */
static int call_frame(struct link *l, uint32_t id, const char *verb,
                      json_t *fields, const void *data, size_t data_size,
                      size_t *ret_text, struct problem *why)
{
    const size_t head = WIRE_HEAD_BYTES + WIRE_DATA_HEAD_BYTES;
    uint8_t *bytes;
    size_t size;
    int rc;

    if (!fields ||
        json_object_set_new(fields, "id", json_integer((int)id)) < 0 ||
        json_object_set_new(fields, "do", json_string(verb)) < 0)
        return problem(why, NO_MEMORY);
    rc = wire_json_encode_room(WIRE_REQUEST, fields,
                               data_size ? head + data_size : 0, &bytes, &size);
    if (rc == -EMSGSIZE)
        return problem(why, PROTOCOL_TOO_LONG, .size = WIRE_JSON_BYTES + 1,
                       .limit = WIRE_JSON_BYTES);
    if (rc < 0)
        return problem(why, NO_MEMORY);
    *ret_text = size - WIRE_HEAD_BYTES;
    if (data_size > 0) {
        wire_data_head(id, 0, (uint32_t)data_size, bytes + size);
        memcpy(bytes + size + head, data, data_size);
        size += head + data_size;
    }
    return out_frame(l, bytes, size) < 0 ? problem(why, NO_MEMORY) : 0;
}

static int call(struct link *l, const char *verb, json_t *fields,
                const void *data, size_t size, struct exchange **ret,
                struct problem *why)
{
    struct exchange *x = NULL;
    size_t text_bytes = 0;
    json_t *space;
    int rc;

    keel_assert(!l->server && size <= WIRE_DATA_BYTES);
    fields = fields ? fields : json_object();
    space = json_incref(json_object_get(fields, "space"));
    do {
        rc = call_room(l, data, size, why);
    } while (rc == 0 && !call_fits(l, data, size));
    if (rc == 0) {
        x = exchange_new(l, call_id(l));
        rc =
            x ? call_frame(l, x->id, verb, fields, data, size, &text_bytes, why)
              : problem(why, NO_MEMORY);
    }
    json_decref(fields);
    if (rc < 0) {
        json_decref(space);
        keel_free(x);
        return rc;
    }
    x->space = space;
    exchange_list(x, text_bytes, (uint32_t)size);
    __atomic_fetch_add(&l->bytes_out, size, __ATOMIC_RELAXED);
    l->held++;
    *ret = x;
    return 0;
}

int link_call(struct link *l, const char *verb, json_t *fields,
              struct exchange **ret, struct problem *why)
{
    return call(l, verb, fields, NULL, 0, ret, why);
}

int link_call_data(struct link *l, const char *verb, json_t *fields,
                   const void *data, size_t size, struct exchange **ret,
                   struct problem *why)
{
    return call(l, verb, fields, data ? data : "", size, ret, why);
}

int exchange_replied(struct link *l, struct wire_frame *f, struct problem *why)
{
    const json_t *ok = json_object_get(f->json, "ok");
    const json_t *no = json_object_get(f->json, "problem");
    struct exchange *x;
    uint32_t id = 0;
    int rc = frame_id(f->json, &id, why);

    if (rc < 0)
        return rc;
    x = exchange_find(l, id);
    if (!x)
        return broken(why, "a reply is to no open request");
    if (!ok == !no || !json_is_object(ok ? ok : no))
        return broken(why, "a reply says neither 'ok' nor what the problem is");
    x->reply = f->json;
    f->json = NULL;
    x->answered = true;
    exchange_unlist(x);
    exchange_wake(x);
    if (x->abandoned)
        exchange_drop(x);
    return 0;
}

int exchange_noted(struct link *l, struct wire_frame *f, struct problem *why)
{
    struct exchange *x;
    uint32_t id = 0;
    int rc = frame_id(f->json, &id, why);

    if (rc < 0)
        return rc;
    x = exchange_find(l, id);
    if (!x)
        return broken(why, "a note is to no open request");
    if (x->abandoned || x->notes_off)
        return 0;
    if (json_array_size(x->notes) >= NOTES_MOST ||
        f->size > NOTES_BYTES - x->note_bytes)
        return broken(why, "too many notes come to one request");
    if (!x->notes)
        x->notes = json_array();
    if (!x->notes || json_array_append(x->notes, f->json) < 0)
        return problem(why, NO_MEMORY);
    x->note_bytes += f->size;
    bell_ring(&x->bell);
    return 0;
}

int exchange_note(struct exchange *x, keel_ns deadline, json_t **ret_note,
                  struct problem *why)
{
    keel_ns began = keel_now();
    int rc;

    while (json_array_size(x->notes) == 0) {
        if (x->answered)
            return -ENODATA;
        if (x->link->state != LINK_OPEN)
            return link_reason(x->link, why);
        rc = bell_wait(&x->bell, deadline);
        if (rc < 0)
            return wait_failed(rc, began, why);
    }
    *ret_note = json_incref(json_array_get(x->notes, 0));
    json_array_remove(x->notes, 0);
    if (json_array_size(x->notes) == 0)
        x->note_bytes = 0;
    return 0;
}

/* What the REPLY says. */
static int reply_result(const struct exchange *x, struct problem *why)
{
    const json_t *no = json_object_get(x->reply, "problem");
    struct problem p;

    if (!no)
        return 0;
    problem_from_json(no, &p);
    link_trace(x->link, x->id, p.trace);
    if (json_is_string(x->space))
        snprintf(p.space, sizeof(p.space), "%s", json_string_value(x->space));
    if (why)
        *why = p;
    return p.errno_ ? -p.errno_ : -problem_row(p.id)->errno_;
}

int exchange_reply(struct exchange *x, keel_ns deadline, json_t **ret_ok,
                   struct problem *why)
{
    keel_ns began = keel_now();
    int rc;

    x->notes_off = true;
    json_decref(x->notes);
    x->notes = NULL;
    while (!x->reply) {
        if (x->link->state != LINK_OPEN)
            return link_reason(x->link, why);
        rc = bell_wait(&x->bell, deadline);
        if (rc < 0)
            return wait_failed(rc, began, why);
    }
    rc = reply_result(x, why);
    if (rc == 0 && ret_ok)
        *ret_ok = json_incref(json_object_get(x->reply, "ok"));
    return rc;
}

int link_ask(struct link *l, const char *verb, json_t *fields, keel_ns deadline,
             json_t **ret_ok, struct problem *why)
{
    struct exchange *x;
    int rc = link_call(l, verb, fields, &x, why);

    if (rc < 0)
        return rc;
    rc = exchange_reply(x, deadline, ret_ok, why);
    exchange_free(x);
    return rc;
}

void exchange_free(struct exchange *x)
{
    struct link *l;

    if (!x)
        return;
    l = x->link;
    keel_assert(!l->server && !x->abandoned && l->held > 0);
    l->held--;
    exchange_data_off(x);
    if (x->answered || l->state != LINK_OPEN) {
        exchange_drop(x);
        return;
    }
    keel_assert(!x->sending && TAILQ_EMPTY(&x->bell.waiting));
    x->abandoned = true;
    x->grant_due = 0;
    out_remove(l, &x->credit);
    json_decref(x->notes);
    x->notes = NULL;
    out_queue(l, &x->last);
}

/* ---- both: data ----------------------------------------------------------- */

uint64_t exchange_moved(const struct exchange *x)
{
    return x->moved;
}

uint32_t exchange_id(const struct exchange *x)
{
    return x->id;
}

int exchange_check(const struct exchange *x, struct problem *why)
{
    if (x->answered)
        return reply_result(x, why);
    if (x->link->state != LINK_OPEN)
        return link_reason(x->link, why);
    if (x->cancelled)
        return problem(why, CANCELLED);
    return 1;
}

/* As exchange_check, where an exchange that ended well ended too early. */
static int send_check(const struct exchange *x, struct problem *why)
{
    int rc = exchange_check(x, why);

    if (rc == 0)
        return broken(why, "the reply came before the data was sent");
    return rc < 0 ? rc : 0;
}

/* The writer has the caller's memory until the frame is written. */
static void sending_withdraw(struct sending *s)
{
    s->withdrawn = true;
    keel_shield();
    while (s->busy) {
        keel_event_clear(&s->changed);
        (void)keel_event_wait(&s->changed, KEEL_FOREVER);
    }
    keel_unshield();
    TAILQ_REMOVE(&s->x->link->sendings, s, node);
    s->x->sending = NULL;
    keel_event_fini(&s->changed);
}

int exchange_send(struct exchange *x, uint64_t offset, const void *bytes,
                  size_t size, keel_ns deadline, struct problem *why)
{
    struct link *l = x->link;
    struct sending s = {.x = x,
                        .bytes = bytes,
                        .offset = offset,
                        .left = size,
                        .after = l->out_number};
    keel_ns began = keel_now();
    int rc = send_check(x, why);

    keel_assert(size > 0 && size <= SEND_MOST && !x->sending);
    if (rc < 0)
        return rc;
    keel_event_init(&s.changed);
    TAILQ_INSERT_TAIL(&l->sendings, &s, node);
    x->sending = &s;
    if (x->credit_out > 0)
        out_kick(l);
    while (rc == 0 && s.left > 0) {
        rc = send_check(x, why);
        if (rc < 0)
            break;
        keel_event_clear(&s.changed);
        rc = keel_event_wait(&s.changed, deadline);
        if (rc < 0)
            wait_failed(rc, began, why);
    }
    sending_withdraw(&s);
    return s.left == 0 ? 0 : rc;
}

uint64_t exchange_credit(const struct exchange *x)
{
    return x->credit_out;
}

int exchange_credit_wait(struct exchange *x, uint64_t bytes, keel_ns deadline,
                         struct problem *why)
{
    keel_ns began = keel_now();
    int rc;

    while (x->credit_out <= bytes) {
        rc = send_check(x, why);
        if (rc < 0)
            return rc;
        rc = bell_wait(&x->bell, deadline);
        if (rc < 0)
            return wait_failed(rc, began, why);
    }
    return 0;
}

int exchange_credited(struct link *l, const struct wire_frame *f,
                      struct problem *why)
{
    struct exchange *x = exchange_find(l, f->id);

    if (!x || x->answered || x->abandoned)
        return stray(l, why);
    if (f->size > CREDIT_OPEN_MOST - x->credit_out)
        return broken(why, "more than 2^32 bytes of credit are open");
    x->credit_out += f->size;
    if (x->sending)
        out_kick(l);
    bell_ring(&x->bell);
    return 0;
}

void exchange_data_on(struct exchange *x, const struct exchange_sink *sink)
{
    x->sink = *sink;
}

void exchange_data_off(struct exchange *x)
{
    x->sink = (struct exchange_sink){.place = NULL};
    if (x->link->landing == x)
        x->link->landing = NULL;
}

int exchange_grant(struct exchange *x, uint32_t bytes)
{
    keel_assert(bytes > 0);
    if (!x->listed || x->answered || x->link->state != LINK_OPEN)
        return -EPIPE;
    x->grant_due += bytes;
    out_queue(x->link, &x->credit);
    return 0;
}

/* Reads what is there into lent memory, and waits with none: so that
 * exchange_data_off can take it back at any moment.  Returns 0 when `l` has let
 * go of it; *done counts on. */
static ssize_t data_some(struct link *l, struct exchange *x, uint8_t *to,
                         size_t left)
{
    uint8_t few[64];
    ssize_t n = keel_stream_read(l->stream, to, left, KEEL_NOW);

    if (n != -ETIMEDOUT)
        return n;
    n = keel_stream_read(l->stream, few,
                         left < sizeof(few) ? left : sizeof(few), KEEL_FOREVER);
    if (n > 0 && l->landing == x)
        memcpy(to, few, (size_t)n);
    return n;
}

static int data_land(struct link *l, struct exchange *x, uint8_t *to,
                     size_t size, struct problem *why)
{
    size_t done = 0;
    ssize_t n;

    l->landing = x;
    while (done < size && l->landing == x) {
        n = data_some(l, x, to + done, size - done);
        if (n <= 0) {
            l->landing = NULL;
            return lost(n, why);
        }
        done += (size_t)n;
    }
    if (l->landing != x)
        return done < size ? data_drop(l, size - done, why) : 0;
    l->landing = NULL;
    return 1;
}

int exchange_data(struct link *l, const struct wire_frame *f,
                  struct problem *why)
{
    struct exchange *x = exchange_find(l, f->id);
    uint64_t *credit = x ? &x->credit_in : &l->stray_credit;
    void *to;
    int rc;

    if (f->size > *credit)
        return problem(why, TRANSFER_CREDIT, .size = f->size, .limit = *credit);
    *credit -= f->size;
    if (x)
        x->moved += f->size;
    __atomic_fetch_add(&l->bytes_in, f->size, __ATOMIC_RELAXED);
    if (!x || !x->sink.place)
        return data_drop(l, f->size, why);
    why->id = PROBLEM_NONE;
    to = x->sink.place(x->sink.arg, f->offset, f->size, why);
    if (!to && why->id == PROBLEM_NONE)
        return problem(why, TRANSFER_RANGE, .bytes = f->offset);
    if (!to)
        return -problem_row(why->id)->errno_;
    rc = data_land(l, x, to, f->size, why);
    if (rc == 1)
        x->sink.landed(x->sink.arg, f->offset, f->size);
    return rc < 0 ? rc : 0;
}
