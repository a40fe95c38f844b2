/* SPDX-License-Identifier: MIT */
#include "link_fixture.h"

/* ---- a server ------------------------------------------------------------- */

uint8_t pattern(uint64_t at)
{
    return (uint8_t)(at * 2654435761u >> 13 ^ at);
}

void *serve_place(void *arg, uint64_t offset, uint32_t size,
                  struct problem *why)
{
    struct serve *s = arg;

    if (size > s->into_size || offset > s->into_size - size) {
        problem(why, TRANSFER_RANGE, .bytes = offset, .size = s->into_size);
        return NULL;
    }
    return s->into + offset;
}

void serve_landed(void *arg, uint64_t offset, uint32_t size)
{
    struct serve *s = arg;

    for (uint64_t i = offset; i < offset + size; i++)
        assert_int_equal(s->into[i], pattern(i));
    s->landed += size;
    if (s->landed >= s->granted)
        keel_event_set(&s->whole);
}

static void serve_ended(void *arg)
{
    struct serve *s = arg;

    keel_event_set(&s->whole);
}

/* Takes "size" bytes, granting "step" at a time. */
static int serve_sink(struct exchange *x, const json_t *body,
                      struct problem *why)
{
    struct serve s = {.landed = 0};
    uint64_t step;
    int rc = field_u64(body, "size", 64 * MIB, &s.into_size, why);

    if (rc < 0)
        return rc;
    rc = field_u64_or(body, "step", 64 * MIB, s.into_size, &step, why);
    if (rc < 0)
        return rc;
    s.into = keel_alloc(s.into_size + 1);
    if (!s.into)
        return problem(why, NO_MEMORY);
    keel_event_init(&s.whole);
    exchange_data_on(
        x, &(struct exchange_sink){serve_place, serve_landed, serve_ended, &s});
    while (rc == 0 && s.granted < s.into_size) {
        uint64_t n = s.into_size - s.granted;

        n = step < n ? step : n;
        s.granted += n;
        (void)exchange_grant(x, (uint32_t)n);
        while (rc == 0 && s.landed < s.granted) {
            keel_event_clear(&s.whole);
            rc = keel_event_wait(&s.whole, KEEL_FOREVER);
            if (exchange_check(x, why) != 1)
                rc = -ECANCELED;
        }
    }
    exchange_data_off(x);
    keel_free(s.into);
    if (rc < 0)
        return problem(why, CANCELLED);
    return exchange_answer(x, json_pack("{s:I}", "sum", (json_int_t)s.landed));
}

static int serve_source(struct exchange *x, const json_t *body,
                        struct problem *why)
{
    uint8_t *bytes;
    uint64_t size, at = 0;
    int rc = field_u64(body, "size", 64 * MIB, &size, why);

    if (rc < 0)
        return rc;
    bytes = keel_alloc(MIB);
    if (!bytes)
        return problem(why, NO_MEMORY);
    while (rc == 0 && at < size) {
        size_t n = size - at < MIB ? (size_t)(size - at) : MIB;

        for (size_t i = 0; i < n; i++)
            bytes[i] = pattern(at + i);
        rc = exchange_send(x, at, bytes, n, KEEL_FOREVER, why);
        at += n;
    }
    keel_free(bytes);
    return rc < 0 ? rc : exchange_answer(x, NULL);
}

static int serve_notes(struct exchange *x, const json_t *body,
                       struct problem *why)
{
    uint64_t count;
    int rc = field_u64(body, "count", 1000, &count, why);

    for (uint64_t i = 0; rc == 0 && i < count; i++)
        rc = exchange_tell(x, json_pack("{s:I}", "n", (json_int_t)i));
    return rc < 0 ? rc : exchange_answer(x, NULL);
}

static int serve_big(struct exchange *x, const json_t *body,
                     struct problem *why)
{
    uint64_t size;
    int rc = field_u64(body, "size", 2 * MIB, &size, why);
    char *text;
    json_t *ok;

    if (rc < 0)
        return rc;
    text = keel_alloc(size);
    if (!text)
        return problem(why, NO_MEMORY);
    memset(text, 'x', size);
    ok = json_pack("{s:s%}", "text", text, (size_t)size);
    keel_free(text);
    return exchange_answer(x, ok);
}

static int serve_one(struct serve *s, struct exchange *x, const char *verb,
                     const json_t *body, struct problem *why)
{
    int rc;

    if (!*verb)
        return problem(why, REQUEST_INVALID, .detail = "'do' is missing");
    if (strcmp(verb, "echo") == 0)
        return exchange_answer(
            x, json_pack("{s:O}", "text", json_object_get(body, "text")));
    if (strcmp(verb, "gate") == 0) {
        keel_event_set(&s->entered);
        rc = keel_event_wait(&s->gate, KEEL_FOREVER);
        s->cancelled += rc == -ECANCELED;
        return rc < 0 ? rc : exchange_answer(x, NULL);
    }
    if (strcmp(verb, "trust") == 0) {
        link_trust(exchange_link(x));
        return exchange_answer(x, NULL);
    }
    if (strcmp(verb, "refuse") == 0)
        return problem(why, QUOTA_BYTES, .limit = 5, .used = 4, .size = 3);
    if (strcmp(verb, "silent") == 0)
        return 0;
    if (strcmp(verb, "wordless") == 0)
        return -EIO;
    if (strcmp(verb, "notes") == 0)
        return serve_notes(x, body, why);
    if (strcmp(verb, "told") == 0) {
        rc = exchange_tell(x, json_object());
        return rc < 0 ? rc : serve_source(x, body, why);
    }
    if (strcmp(verb, "big") == 0)
        return serve_big(x, body, why);
    if (strcmp(verb, "sink") == 0)
        return serve_sink(x, body, why);
    if (strcmp(verb, "source") == 0)
        return serve_source(x, body, why);
    if (strcmp(verb, "cut") == 0) {
        link_cut(exchange_link(x));
        return exchange_answer(x, NULL);
    }
    return problem(why, REQUEST_UNKNOWN, .name = verb);
}

static int serve_request(struct exchange *x, const char *verb,
                         const json_t *body, void *arg, struct problem *why)
{
    struct serve *s = arg;
    int rc;

    s->running++;
    s->served++;
    rc = serve_one(s, x, verb, body, why);
    s->running--;
    return rc;
}

void serve_init(struct serve *s)
{
    *s = (struct serve){.link = NULL};
    keel_event_init(&s->gate);
    keel_event_init(&s->entered);
}

struct link_options server_options(struct serve *s)
{
    return (struct link_options){
        .server = true,
        .agent = "server 1",
        .request = serve_request,
        .arg = s,
    };
}

/* ---- both ends ------------------------------------------------------------ */

int open_server(void *arg)
{
    struct both *b = arg;
    struct link_options o = server_options(&b->serve);

    o.hello = b->hello;
    b->rc = link_open(b->end[1], &o, &b->server, &b->why);
    if (b->rc == 0)
        b->end[1] = NULL;
    b->serve.link = b->server;
    return 0;
}

void raw_begin(struct both *b, size_t buffer)
{
    memset(b, 0, sizeof(*b));
    serve_init(&b->serve);
    assert_int_equal(keel_stream_pair(buffer, b->end), 0);
    assert_int_equal(keel_spawn(NULL, open_server, b, &b->opener), 0);
}

void raw_opened(struct both *b)
{
    int rc;

    assert_int_equal(keel_join(b->opener, KEEL_FOREVER, &rc), 0);
    b->opener = NULL;
}

void both_open(struct both *b, size_t buffer)
{
    struct link_options o = {.agent = "client 1"};
    struct problem why;

    raw_begin(b, buffer);
    assert_int_equal(link_open(b->end[0], &o, &b->client, &why), 0);
    b->end[0] = NULL;
    raw_opened(b);
    assert_int_equal(b->rc, 0);
    link_trust(b->server);
}

void both_close(struct both *b)
{
    if (b->opener)
        raw_opened(b);
    link_close(b->client);
    link_close(b->server);
    keel_stream_close(b->end[0]);
    keel_stream_close(b->end[1]);
    assert_int_equal(b->serve.running, 0);
}

json_t *text_json(const char *text)
{
    return json_pack("{s:s}", "text", text);
}

void echo(struct link *l, const char *text)
{
    struct problem why;
    json_t *ok;

    assert_int_equal(
        link_ask(l, "echo", text_json(text), KEEL_FOREVER, &ok, &why), 0);
    assert_string_equal(json_string_value(json_object_get(ok, "text")), text);
    json_decref(ok);
}

/* ---- a raw peer ----------------------------------------------------------- */

void raw_write(struct both *b, const void *bytes, size_t size)
{
    assert_int_equal(
        keel_stream_write(b->end[0], bytes, size, keel_after(KEEL_SECOND)), 0);
}

void raw_json(struct both *b, enum wire_kind kind, const char *text)
{
    uint8_t head[5];

    keel_be32_put(head, (uint32_t)strlen(text) + 1);
    head[4] = (uint8_t)kind;
    raw_write(b, head, 5);
    raw_write(b, text, strlen(text));
}

void raw_small(struct both *b, enum wire_kind kind, uint32_t id, uint32_t bytes)
{
    uint8_t small[16];

    raw_write(b, small, wire_small(kind, id, bytes, small));
}

void raw_data(struct both *b, uint32_t id, uint64_t offset, uint32_t size)
{
    uint8_t head[17], *bytes = malloc(size);

    for (uint32_t i = 0; i < size; i++)
        bytes[i] = pattern(offset + i);
    wire_data_head(id, offset, size, head);
    raw_write(b, head, 17);
    raw_write(b, bytes, size);
    free(bytes);
}

int raw_read(struct both *b, struct wire_frame *f)
{
    static const struct wire_limits any = {0x1fe, WIRE_REPLY_BYTES,
                                           WIRE_REPLY_BYTES};

    return wire_read(b->end[0], &any, f, keel_after(60 * KEEL_SECOND), NULL);
}

void raw_expect(struct both *b, enum wire_kind kind)
{
    struct wire_frame f;

    assert_int_equal(raw_read(b, &f), 0);
    assert_int_equal(f.kind, kind);
    wire_frame_fini(&f);
}

static void raw_hello(struct both *b)
{
    raw_json(b, WIRE_HELLO, HELLO);
    raw_expect(b, WIRE_HELLO);
    raw_opened(b);
    assert_int_equal(b->rc, 0);
}

void raw_open(struct both *b)
{
    raw_begin(b, 64 * 1024);
    raw_hello(b);
}

static const char *code_of(const json_t *frame)
{
    const char *code = json_string_value(
        json_object_get(json_object_get(frame, "problem"), "code"));

    return code ? code : "";
}

void raw_goodbye(struct both *b, const char *code)
{
    struct wire_frame f;
    const json_t *j;

    do {
        assert_int_equal(raw_read(b, &f), 0);
        if (f.kind != WIRE_GOODBYE)
            wire_frame_fini(&f);
    } while (f.kind != WIRE_GOODBYE);
    j = f.json;
    assert_string_equal(code_of(j), code);
    wire_frame_fini(&f);
    assert_int_equal(raw_read(b, &f), -ENODATA);
}

/* Reads frames until the REPLY to `id`; its JSON is the caller's. */
static json_t *raw_reply(struct both *b, int id)
{
    struct wire_frame f;

    for (;;) {
        assert_int_equal(raw_read(b, &f), 0);
        if (f.kind == WIRE_REPLY &&
            json_integer_value(json_object_get(f.json, "id")) == id)
            return f.json;
        wire_frame_fini(&f);
    }
}

void raw_answered(struct both *b, int id)
{
    json_t *j = raw_reply(b, id);

    assert_non_null(json_object_get(j, "ok"));
    json_decref(j);
}

void raw_refused(struct both *b, int id, const char *code)
{
    json_t *j = raw_reply(b, id);

    assert_string_equal(code_of(j), code);
    json_decref(j);
}

void sink_open(struct both *b, const char *request, uint32_t credit)
{
    struct wire_frame f;

    raw_open(b);
    raw_json(b, WIRE_REQUEST, request);
    assert_int_equal(raw_read(b, &f), 0);
    assert_true(f.kind == WIRE_CREDIT && f.id == 1 && f.size == credit);
}

/* ---- a transfer ----------------------------------------------------------- */

int mover_run(void *arg)
{
    struct mover *m = arg;
    struct exchange *x;
    struct problem why;
    int rc;

    assert_int_equal(link_call(m->link, m->up ? "sink" : "source",
                               json_pack("{s:I,s:i}", "size",
                                         (json_int_t)m->size, "step", 300000),
                               &x, &why),
                     0);
    if (m->up) {
        uint8_t *bytes = malloc(MIB);

        for (uint64_t at = 0; at < m->size; at += MIB) {
            size_t n = m->size - at < MIB ? (size_t)(m->size - at) : MIB;

            for (size_t i = 0; i < n; i++)
                bytes[i] = pattern(at + i);
            assert_int_equal(exchange_send(x, at, bytes, n, KEEL_FOREVER, &why),
                             0);
        }
        free(bytes);
    } else {
        struct serve s = {
            .into = malloc(m->size), .into_size = m->size, .granted = m->size};

        keel_event_init(&s.whole);
        exchange_data_on(
            x, &(struct exchange_sink){serve_place, serve_landed, NULL, &s});
        assert_int_equal(exchange_grant(x, (uint32_t)m->size), 0);
        assert_int_equal(keel_event_wait(&s.whole, KEEL_FOREVER), 0);
        exchange_data_off(x);
        free(s.into);
    }
    rc = exchange_reply(x, KEEL_FOREVER, NULL, &why);
    assert_int_equal(rc, 0);
    exchange_free(x);
    return 0;
}
