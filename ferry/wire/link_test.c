/* SPDX-License-Identifier: MIT */
#include "wire/link.h"

#include <errno.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include <keel/co.h>
#include <keel/lock.h>

#include "test/clock.h"
#include "test/fault.h"
#include "wire/link_inside.h"

#define MIB ((size_t)1 << 20)

/* A test is a coroutine on a loop of its own, on the test clock. */
#define LOOP_TEST(name)                                                        \
    static void name##_co(void);                                               \
    static int name##_main(void *arg)                                          \
    {                                                                          \
        (void)arg;                                                             \
        name##_co();                                                           \
        return 0;                                                              \
    }                                                                          \
    static void name(void **state)                                             \
    {                                                                          \
        (void)state;                                                           \
        test_clock_install();                                                  \
        assert_int_equal(keel_run(name##_main, NULL), 0);                      \
        test_clock_remove();                                                   \
    }                                                                          \
    static void name##_co(void)

/* ---- a server ------------------------------------------------------------- */

static uint8_t pattern(uint64_t at)
{
    return (uint8_t)(at * 2654435761u >> 13 ^ at);
}

struct serve {
    struct link *link;
    struct keel_event gate, entered;
    unsigned cancelled, running, served;
    /* sink */
    uint8_t *into;
    uint64_t into_size, granted, landed;
    struct keel_event whole;
};

static void *serve_place(void *arg, uint64_t offset, uint32_t size,
                         struct problem *why)
{
    struct serve *s = arg;

    if (size > s->into_size || offset > s->into_size - size) {
        problem(why, TRANSFER_RANGE, .bytes = offset, .size = s->into_size);
        return NULL;
    }
    return s->into + offset;
}

static void serve_landed(void *arg, uint64_t offset, uint32_t size)
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

static void serve_init(struct serve *s)
{
    *s = (struct serve){.link = NULL};
    keel_event_init(&s->gate);
    keel_event_init(&s->entered);
}

static struct link_options server_options(struct serve *s)
{
    return (struct link_options){
        .server = true,
        .agent = "server 1",
        .request = serve_request,
        .arg = s,
    };
}

/* ---- both ends ------------------------------------------------------------ */

struct both {
    struct keel_stream *end[2]; /* client, server; a link's when opened */
    struct link *client, *server;
    struct serve serve;
    struct keel_co *opener;
    json_t *hello; /* more for the server's */
    int rc;
    struct problem why;
};

static int open_server(void *arg)
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

/* Only the server is a link; the client is the test's raw stream. */
static void raw_begin(struct both *b, size_t buffer)
{
    memset(b, 0, sizeof(*b));
    serve_init(&b->serve);
    assert_int_equal(keel_stream_pair(buffer, b->end), 0);
    assert_int_equal(keel_spawn(NULL, open_server, b, &b->opener), 0);
}

static void raw_opened(struct both *b)
{
    int rc;

    assert_int_equal(keel_join(b->opener, KEEL_FOREVER, &rc), 0);
    b->opener = NULL;
}

static void both_open(struct both *b, size_t buffer)
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

static void both_close(struct both *b)
{
    if (b->opener)
        raw_opened(b);
    link_close(b->client);
    link_close(b->server);
    keel_stream_close(b->end[0]);
    keel_stream_close(b->end[1]);
    assert_int_equal(b->serve.running, 0);
}

static json_t *text_json(const char *text)
{
    return json_pack("{s:s}", "text", text);
}

static void echo(struct link *l, const char *text)
{
    struct problem why;
    json_t *ok;

    assert_int_equal(
        link_ask(l, "echo", text_json(text), KEEL_FOREVER, &ok, &why), 0);
    assert_string_equal(json_string_value(json_object_get(ok, "text")), text);
    json_decref(ok);
}

/* ---- a raw peer ----------------------------------------------------------- */

static void raw_write(struct both *b, const void *bytes, size_t size)
{
    assert_int_equal(
        keel_stream_write(b->end[0], bytes, size, keel_after(KEEL_SECOND)), 0);
}

static void raw_json(struct both *b, enum wire_kind kind, const char *text)
{
    uint8_t head[5];

    keel_be32_put(head, (uint32_t)strlen(text) + 1);
    head[4] = (uint8_t)kind;
    raw_write(b, head, 5);
    raw_write(b, text, strlen(text));
}

static void raw_small(struct both *b, enum wire_kind kind, uint32_t id,
                      uint32_t bytes)
{
    uint8_t small[16];

    raw_write(b, small, wire_small(kind, id, bytes, small));
}

static void raw_data(struct both *b, uint32_t id, uint64_t offset,
                     uint32_t size)
{
    uint8_t head[17], *bytes = malloc(size);

    for (uint32_t i = 0; i < size; i++)
        bytes[i] = pattern(offset + i);
    wire_data_head(id, offset, size, head);
    raw_write(b, head, 17);
    raw_write(b, bytes, size);
    free(bytes);
}

static int raw_read(struct both *b, struct wire_frame *f)
{
    static const struct wire_limits any = {0x1fe, WIRE_REPLY_BYTES,
                                           WIRE_REPLY_BYTES};

    return wire_read(b->end[0], &any, f, keel_after(60 * KEEL_SECOND), NULL);
}

static void raw_expect(struct both *b, enum wire_kind kind)
{
    struct wire_frame f;

    assert_int_equal(raw_read(b, &f), 0);
    assert_int_equal(f.kind, kind);
    wire_frame_fini(&f);
}

#define HELLO "{\"version\":1,\"agent\":\"raw\",\"features\":[]}"

static void raw_hello(struct both *b)
{
    raw_json(b, WIRE_HELLO, HELLO);
    raw_expect(b, WIRE_HELLO);
    raw_opened(b);
    assert_int_equal(b->rc, 0);
}

static void raw_open(struct both *b)
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

/* The server says why it leaves, and then closes its half. */
static void raw_goodbye(struct both *b, const char *code)
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

static void raw_answered(struct both *b, int id)
{
    json_t *j = raw_reply(b, id);

    assert_non_null(json_object_get(j, "ok"));
    json_decref(j);
}

static void raw_refused(struct both *b, int id, const char *code)
{
    json_t *j = raw_reply(b, id);

    assert_string_equal(code_of(j), code);
    json_decref(j);
}

/* ---- hello ---------------------------------------------------------------- */

LOOP_TEST(hello_tells_each_side_who_the_other_is)
{
    json_t *more = json_pack("{s:s}", "registration", "invite");
    struct link_options o = {.agent = "client 1"};
    struct both b = {.rc = 0};
    struct problem why;

    serve_init(&b.serve);
    b.hello = more;
    assert_int_equal(keel_stream_pair(16, b.end), 0);
    assert_int_equal(keel_spawn(NULL, open_server, &b, &b.opener), 0);
    assert_int_equal(link_open(b.end[0], &o, &b.client, &why), 0);
    b.end[0] = NULL;
    raw_opened(&b);
    assert_string_equal(
        json_string_value(json_object_get(link_peer_hello(b.client), "agent")),
        "server 1");
    assert_string_equal(
        json_string_value(json_object_get(link_peer_hello(b.server), "agent")),
        "client 1");
    assert_int_equal(json_integer_value(
                         json_object_get(link_peer_hello(b.server), "version")),
                     1);
    assert_string_equal(json_string_value(json_object_get(
                            link_peer_hello(b.client), "registration")),
                        "invite");
    json_decref(more);
    both_close(&b);
}

LOOP_TEST(a_hello_that_does_not_fit_is_told_why)
{
    static const struct {
        const char *text, *code;
    } row[] = {
        {"{\"version\":0}", "protocol.version"},
        {"{\"version\":2,\"least\":2}", "protocol.version"},
        {"{\"version\":\"1\"}", "protocol.broken"},
        {"{}", "protocol.broken"},
        {"{\"version\":1,\"features\":{}}", "protocol.broken"},
        {"{\"version\":1,\"agent\":7}", "protocol.broken"},
        {"[]", "protocol.broken"},
    };
    struct both b;

    for (size_t i = 0; i < sizeof(row) / sizeof(*row); i++) {
        raw_begin(&b, 4096);
        raw_json(&b, WIRE_HELLO, row[i].text);
        raw_goodbye(&b, row[i].code);
        raw_opened(&b);
        assert_true(b.rc < 0);
        assert_string_equal(problem_code(&b.why), row[i].code);
        both_close(&b);
    }
}

LOOP_TEST(a_newer_side_that_still_speaks_ours_is_welcome)
{
    struct both b;

    raw_begin(&b, 4096);
    raw_json(&b, WIRE_HELLO, "{\"version\":9,\"least\":1,\"new\":[{}]}");
    raw_opened(&b);
    assert_int_equal(b.rc, 0);
    both_close(&b);
}

static void hello_of(struct both *b, size_t size, char **text)
{
    *text = malloc(size + 1);
    memset(*text, ' ', size);
    memcpy(*text, "{\"version\":1", 12);
    (*text)[size - 1] = '}';
    (*text)[size] = 0;
    raw_begin(b, 64 * 1024);
    raw_json(b, WIRE_HELLO, *text);
    free(*text);
}

LOOP_TEST(a_hello_has_at_most_8_kib)
{
    struct both b;
    char *text;

    hello_of(&b, 8191, &text);
    raw_opened(&b);
    assert_int_equal(b.rc, 0);
    both_close(&b);
    hello_of(&b, 8192, &text);
    raw_opened(&b);
    assert_int_equal(b.rc, 0);
    both_close(&b);
    hello_of(&b, 8193, &text);
    raw_goodbye(&b, "protocol.too_long");
    both_close(&b);
}

LOOP_TEST(at_most_32_features_are_named)
{
    struct both b;
    char text[256];

    for (int count = 31; count <= 33; count++) {
        char *at = stpcpy(text, "{\"version\":1,\"features\":[0");

        for (int i = 1; i < count; i++)
            at = stpcpy(at, ",0");
        strcpy(at, "]}");
        raw_begin(&b, 4096);
        raw_json(&b, WIRE_HELLO, text);
        if (count > 32)
            raw_goodbye(&b, "protocol.broken");
        raw_opened(&b);
        assert_int_equal(b.rc, count > 32 ? -EPROTO : 0);
        both_close(&b);
    }
}

LOOP_TEST(who_says_no_hello_is_left_after_ten_seconds)
{
    struct both b;
    keel_ns began = keel_now();

    raw_begin(&b, 4096);
    raw_opened(&b);
    assert_int_equal(b.rc, -ETIMEDOUT);
    assert_int_equal(b.why.id, PROBLEM_CONNECT_LOST);
    assert_true(keel_now() - began >= 10 * KEEL_SECOND &&
                keel_now() - began < 11 * KEEL_SECOND);
    both_close(&b);
}

LOOP_TEST(a_hello_by_drops_is_left_after_ten_seconds)
{
    struct both b;
    keel_ns began = keel_now();
    uint8_t head[] = {0, 0, 1, 0, WIRE_HELLO};

    raw_begin(&b, 4096);
    raw_write(&b, head, sizeof(head));
    while (b.rc == 0 && keel_now() - began < 20 * KEEL_SECOND) {
        (void)keel_stream_write(b.end[0], " ", 1, KEEL_FOREVER);
        keel_sleep(keel_after(KEEL_SECOND));
    }
    assert_int_equal(b.rc, -ETIMEDOUT);
    assert_true(keel_now() - began < 12 * KEEL_SECOND);
    both_close(&b);
}

LOOP_TEST(a_request_before_hello_breaks_the_protocol)
{
    struct both b;

    raw_begin(&b, 4096);
    raw_json(&b, WIRE_REQUEST, "{\"id\":1,\"do\":\"echo\"}");
    raw_goodbye(&b, "protocol.broken");
    both_close(&b);
}

LOOP_TEST(a_goodbye_instead_of_hello_brings_its_reason)
{
    struct both b;

    raw_begin(&b, 4096);
    raw_json(&b, WIRE_GOODBYE,
             "{\"problem\":{\"code\":\"server.full\",\"limit\":9}}");
    raw_opened(&b);
    assert_int_equal(b.rc, -EUSERS);
    assert_int_equal(b.why.id, PROBLEM_SERVER_FULL);
    assert_int_equal(b.why.limit, 9);
    both_close(&b);
}

LOOP_TEST(opening_can_be_cancelled)
{
    struct both b;
    int rc;

    raw_begin(&b, 4096);
    keel_yield();
    keel_cancel(b.opener);
    assert_int_equal(keel_join(b.opener, KEEL_FOREVER, &rc), 0);
    b.opener = NULL;
    assert_int_equal(b.rc, -ECANCELED);
    both_close(&b);
}

/* ---- requests ------------------------------------------------------------- */

LOOP_TEST(requests_are_answered_in_any_order)
{
    struct exchange *slow;
    struct problem why;
    struct both b;

    both_open(&b, 4096);
    assert_int_equal(link_call(b.client, "gate", NULL, &slow, &why), 0);
    for (int i = 0; i < 10; i++)
        echo(b.client, "quick");
    assert_int_equal(exchange_reply(slow, keel_after(KEEL_SECOND), NULL, &why),
                     -ETIMEDOUT);
    assert_int_equal(why.id, PROBLEM_CONNECT_TIMEOUT);
    assert_int_equal(exchange_check(slow, &why), 1);
    keel_event_set(&b.serve.gate);
    assert_int_equal(exchange_reply(slow, KEEL_FOREVER, NULL, &why), 0);
    assert_int_equal(exchange_check(slow, &why), 0);
    exchange_free(slow);
    both_close(&b);
}

LOOP_TEST(a_refusal_brings_its_numbers)
{
    struct problem why;
    struct both b;

    both_open(&b, 4096);
    assert_int_equal(
        link_ask(b.client, "refuse", NULL, KEEL_FOREVER, NULL, &why), -EDQUOT);
    assert_int_equal(why.id, PROBLEM_QUOTA_BYTES);
    assert_true(why.limit == 5 && why.used == 4 && why.size == 3);
    assert_int_equal(
        link_ask(b.client, "nonsense", NULL, KEEL_FOREVER, NULL, &why),
        -ENOSYS);
    assert_string_equal(why.name, "nonsense");
    both_close(&b);
}

LOOP_TEST(every_request_gets_a_reply_whatever_its_handler_does)
{
    struct problem why;
    struct both b;

    both_open(&b, 4096);
    assert_true(link_ask(b.client, "silent", NULL, KEEL_FOREVER, NULL, &why) <
                0);
    assert_int_equal(why.id, PROBLEM_INTERNAL);
    assert_true(link_ask(b.client, "wordless", NULL, KEEL_FOREVER, NULL, &why) <
                0);
    assert_int_equal(why.id, PROBLEM_INTERNAL);
    assert_int_equal(why.errno_, EIO);
    assert_true(link_ask(b.client, "big", json_pack("{s:i}", "size", 2 << 20),
                         KEEL_FOREVER, NULL, &why) < 0);
    assert_int_equal(why.id, PROBLEM_INTERNAL);
    assert_int_equal(why.errno_, EMSGSIZE);
    echo(b.client, "still here");
    both_close(&b);
}

LOOP_TEST(a_cancelled_request_is_answered_too)
{
    struct both b;

    raw_open(&b);
    raw_json(&b, WIRE_REQUEST, "{\"id\":5,\"do\":\"gate\"}");
    assert_int_equal(keel_event_wait(&b.serve.entered, KEEL_FOREVER), 0);
    raw_small(&b, WIRE_CANCEL, 5, 0);
    raw_refused(&b, 5, "cancelled");
    assert_int_equal(b.serve.cancelled, 1);
    /* The id is free again. */
    raw_json(&b, WIRE_REQUEST, "{\"id\":5,\"do\":\"echo\",\"text\":1}");
    raw_answered(&b, 5);
    both_close(&b);
}

LOOP_TEST(a_cancel_right_behind_its_request_counts)
{
    struct both b;

    raw_open(&b);
    raw_json(&b, WIRE_REQUEST, "{\"id\":5,\"do\":\"gate\"}");
    raw_small(&b, WIRE_CANCEL, 5, 0);
    raw_refused(&b, 5, "cancelled");
    both_close(&b);
}

LOOP_TEST(letting_go_of_an_exchange_cancels_it)
{
    struct exchange *x;
    struct problem why;
    struct both b;

    both_open(&b, 4096);
    assert_int_equal(link_call(b.client, "gate", NULL, &x, &why), 0);
    assert_int_equal(keel_event_wait(&b.serve.entered, KEEL_FOREVER), 0);
    exchange_free(x);
    echo(b.client, "on");
    assert_int_equal(b.serve.cancelled, 1);
    assert_int_equal(b.client->open_count, 0);
    both_close(&b);
}

LOOP_TEST(notes_come_before_their_reply)
{
    struct exchange *x;
    struct problem why;
    struct both b;
    json_t *note;

    both_open(&b, 4096);
    assert_int_equal(
        link_call(b.client, "notes", json_pack("{s:i}", "count", 60), &x, &why),
        0);
    for (int i = 0; i < 60; i++) {
        assert_int_equal(exchange_note(x, KEEL_FOREVER, &note, &why), 0);
        assert_int_equal(json_integer_value(json_object_get(note, "n")), i);
        json_decref(note);
    }
    assert_int_equal(exchange_note(x, KEEL_FOREVER, &note, &why), -ENODATA);
    assert_int_equal(exchange_reply(x, KEEL_FOREVER, NULL, &why), 0);
    exchange_free(x);
    /* Who asks for the reply only gets past them. */
    assert_int_equal(link_ask(b.client, "notes",
                              json_pack("{s:i}", "count", 500), KEEL_FOREVER,
                              NULL, &why),
                     0);
    both_close(&b);
}

LOOP_TEST(a_flood_of_notes_ends_the_link)
{
    struct exchange *x;
    struct problem why;
    struct both b;

    for (int count = 63; count <= 65; count++) {
        both_open(&b, 4096);
        assert_int_equal(link_call(b.client, "notes",
                                   json_pack("{s:i}", "count", count), &x,
                                   &why),
                         0);
        keel_sleep(keel_after(KEEL_SECOND));
        assert_int_equal(exchange_check(x, &why), count > 64 ? -EPROTO : 0);
        exchange_free(x);
        both_close(&b);
    }
}

LOOP_TEST(a_verb_from_outside_is_not_trusted_with_a_terminal)
{
    struct both b;

    raw_open(&b);
    raw_json(&b, WIRE_REQUEST, "{\"id\":1,\"do\":\"\\u001b[31m\"}");
    raw_refused(&b, 1, "request.unknown");
    raw_json(&b, WIRE_REQUEST, "{\"id\":1,\"do\":7}");
    raw_refused(&b, 1, "request.invalid");
    raw_json(&b, WIRE_REQUEST, "{\"id\":1}");
    raw_refused(&b, 1, "request.invalid");
    both_close(&b);
}

LOOP_TEST(ids_are_checked)
{
    static const char *const bad[] = {
        "{\"do\":\"echo\"}",
        "{\"id\":0,\"do\":\"echo\"}",
        "{\"id\":-1,\"do\":\"echo\"}",
        "{\"id\":2147483648,\"do\":\"echo\"}",
        "{\"id\":\"1\",\"do\":\"echo\"}",
        "{\"id\":1.0,\"do\":\"echo\"}",
        "{\"id\":7,\"do\":\"gate\"}", /* open already */
    };
    struct both b;

    for (size_t i = 0; i < sizeof(bad) / sizeof(*bad); i++) {
        raw_open(&b);
        raw_json(&b, WIRE_REQUEST, "{\"id\":7,\"do\":\"gate\"}");
        raw_json(&b, WIRE_REQUEST,
                 "{\"id\":2147483647,\"do\":\"echo\",\"text\":1}");
        raw_answered(&b, 2147483647);
        raw_json(&b, WIRE_REQUEST, bad[i]);
        raw_goodbye(&b, "protocol.broken");
        assert_int_equal(link_wait(b.server, KEEL_FOREVER, NULL), -EPROTO);
        both_close(&b);
    }
}

static void open_many(struct both *b, int count)
{
    char text[64];

    for (int i = 1; i <= count; i++) {
        snprintf(text, sizeof(text), "{\"id\":%d,\"do\":\"gate\"}", i);
        raw_json(b, WIRE_REQUEST, text);
    }
}

LOOP_TEST(open_requests_are_counted)
{
    static const struct {
        bool trusted;
        int most;
    } row[] = {{false, 8}, {true, 256}};
    struct both b;

    for (size_t i = 0; i < 2; i++) {
        for (int count = row[i].most - 1; count <= row[i].most + 1; count++) {
            raw_open(&b);
            if (row[i].trusted)
                link_trust(b.server);
            open_many(&b, count);
            if (count <= row[i].most) {
                keel_sleep(keel_after(KEEL_SECOND));
                assert_int_equal(b.serve.running, (unsigned)count);
                raw_small(&b, WIRE_CANCEL, 3, 0);
                raw_refused(&b, 3, "cancelled");
            } else {
                raw_goodbye(&b, "request.too_many");
            }
            both_close(&b);
        }
    }
}

LOOP_TEST(before_login_texts_are_short)
{
    char *text = malloc(16384);
    struct both b;

    for (int size = 8191; size <= 8193; size++) {
        raw_open(&b);
        snprintf(text, 16384, "{\"id\":1,\"do\":\"echo\",\"text\":\"%*s\"}",
                 size - 30, "");
        assert_int_equal(strlen(text), size);
        raw_json(&b, WIRE_REQUEST, text);
        if (size <= 8192)
            raw_answered(&b, 1);
        else
            raw_goodbye(&b, "protocol.too_long");
        both_close(&b);
        raw_open(&b);
        link_trust(b.server);
        raw_json(&b, WIRE_REQUEST, text);
        raw_answered(&b, 1);
        both_close(&b);
    }
    free(text);
}

LOOP_TEST(before_login_values_are_few)
{
    char text[512], *at;
    struct both b;

    for (int values = 63; values <= 65; values++) {
        raw_open(&b);
        at = stpcpy(text, "{\"id\":1,\"do\":\"echo\",\"text\":[0");
        for (int i = 4; i < values; i++)
            at = stpcpy(at, ",0");
        strcpy(at, "]}");
        raw_json(&b, WIRE_REQUEST, text);
        if (values <= 64)
            raw_answered(&b, 1);
        else
            raw_goodbye(&b, "protocol.broken");
        both_close(&b);
    }
}

/* 16 requests of 64 KiB make a megabyte. */
LOOP_TEST(open_requests_have_at_most_a_megabyte_of_text)
{
    char *text = malloc(70000);
    struct both b;
    int n;

    for (int more = 0; more <= 1; more++) {
        raw_open(&b);
        link_trust(b.server);
        for (int id = 1; id <= 16; id++) {
            n = snprintf(text, 70000, "{\"id\":%d,\"do\":\"gate\",\"x\":\"",
                         id);
            snprintf(text + n, (size_t)(70000 - n), "%*s\"}", 65536 - n - 2,
                     "");
            raw_json(&b, WIRE_REQUEST, text);
        }
        if (more) {
            raw_json(&b, WIRE_REQUEST, "{\"id\":17,\"do\":\"gate\"}");
            raw_goodbye(&b, "protocol.broken");
        } else {
            raw_small(&b, WIRE_CANCEL, 16, 0);
            raw_refused(&b, 16, "cancelled");
            raw_json(&b, WIRE_REQUEST, "{\"id\":17,\"do\":\"gate\"}");
            raw_small(&b, WIRE_CANCEL, 17, 0);
            raw_refused(&b, 17, "cancelled");
        }
        both_close(&b);
    }
    free(text);
}

static int call_many(void *arg)
{
    struct both *b = arg;
    char *text = malloc(60000);
    struct problem why;

    memset(text, 'x', 59999);
    text[59999] = 0;
    for (int i = 0; i < 2; i++)
        assert_int_equal(link_ask(b->client, "echo", text_json(text),
                                  KEEL_FOREVER, NULL, &why),
                         0);
    free(text);
    return 0;
}

LOOP_TEST(a_client_counts_its_own_requests)
{
    struct keel_group *g;
    struct both b;

    both_open(&b, 65536);
    assert_int_equal(keel_group_new(0, &g), 0);
    for (int i = 0; i < 300; i++)
        assert_int_equal(
            keel_spawn(&(struct keel_spawn){.group = g}, call_many, &b, NULL),
            0);
    assert_int_equal(keel_group_join(g, KEEL_FOREVER), 0);
    keel_group_free(g);
    assert_int_equal(b.serve.served, 600);
    both_close(&b);
}

LOOP_TEST(cancels_for_nothing_are_bounded)
{
    struct both b;

    for (int over = 0; over <= 1; over++) {
        raw_open(&b);
        for (int i = 0; i < 1024 + over; i++)
            raw_small(&b, i % 2 ? WIRE_CANCEL : WIRE_CREDIT, 9, 1);
        raw_json(&b, WIRE_REQUEST, "{\"id\":1,\"do\":\"echo\",\"text\":1}");
        if (over) {
            raw_goodbye(&b, "protocol.broken");
        } else {
            raw_answered(&b, 1);
            /* It has paid for some. */
            for (int i = 0; i < 64; i++)
                raw_small(&b, WIRE_CANCEL, 1, 0);
            raw_json(&b, WIRE_REQUEST, "{\"id\":1,\"do\":\"echo\",\"text\":1}");
            raw_answered(&b, 1);
        }
        both_close(&b);
    }
}

LOOP_TEST(kinds_that_have_no_place_break_the_protocol)
{
    static const uint8_t bad[] = {0, WIRE_HELLO, WIRE_REPLY, WIRE_NOTE, 9, 255};
    struct both b;

    for (size_t i = 0; i < sizeof(bad); i++) {
        raw_open(&b);
        raw_json(&b, bad[i], "{\"id\":1,\"version\":1,\"ok\":{}}");
        raw_goodbye(&b, "protocol.broken");
        both_close(&b);
    }
}

LOOP_TEST(a_client_does_not_trust_its_server)
{
    static const struct {
        uint8_t kind;
        const char *text;
    } bad[] = {
        {WIRE_REPLY, "{\"id\":9,\"ok\":{}}"},
        {WIRE_REPLY, "{\"id\":1}"},
        {WIRE_REPLY, "{\"id\":1,\"ok\":7}"},
        {WIRE_REPLY, "{\"id\":1,\"ok\":{},\"problem\":{}}"},
        {WIRE_NOTE, "{\"id\":9}"},
        {WIRE_NOTE, "{}"},
        {WIRE_REQUEST, "{\"id\":1,\"do\":\"x\"}"},
        {WIRE_HELLO, HELLO},
        {WIRE_CANCEL, "\1\1\1\1"},
        {WIRE_DATA, "\0\0\0\1........x"},
    };
    struct link_options o = {.agent = "client"};
    struct exchange *x;
    struct problem why;
    struct both b;

    for (size_t i = 0; i < sizeof(bad) / sizeof(*bad); i++) {
        memset(&b, 0, sizeof(b));
        assert_int_equal(keel_stream_pair(4096, b.end), 0);
        raw_json(&b, WIRE_HELLO, HELLO);
        assert_int_equal(link_open(b.end[1], &o, &b.client, &why), 0);
        b.end[1] = NULL;
        assert_int_equal(link_call(b.client, "x", NULL, &x, &why), 0);
        raw_json(&b, bad[i].kind, bad[i].text);
        raw_goodbye(&b, "protocol.broken");
        assert_int_equal(exchange_reply(x, KEEL_FOREVER, NULL, &why), -EPROTO);
        assert_int_equal(why.id, PROBLEM_PROTOCOL_BROKEN);
        exchange_free(x);
        both_close(&b);
    }
}

/* ---- back-pressure -------------------------------------------------------- */

LOOP_TEST(replies_that_nobody_reads_stall_their_handlers)
{
    struct both b;
    char text[64];

    raw_open(&b);
    link_trust(b.server);
    for (int i = 1; i <= 200; i++) {
        snprintf(text, sizeof(text),
                 "{\"id\":%d,\"do\":\"big\",\"size\":200000}", i);
        raw_json(&b, WIRE_REQUEST, text);
    }
    keel_sleep(keel_after(KEEL_SECOND));
    assert_int_equal(b.serve.served, 200);
    assert_true(b.serve.running > 190);
    assert_true(b.server->out_bytes < 512 * 1024);
    for (int i = 1; i <= 200; i++)
        raw_expect(&b, WIRE_REPLY);
    keel_sleep(keel_after(KEEL_SECOND));
    assert_int_equal(b.serve.running, 0);
    assert_int_equal(b.server->out_bytes, 0);
    both_close(&b);
}

LOOP_TEST(a_peer_that_never_reads_is_cut_off)
{
    struct problem why;
    struct both b;

    raw_open(&b);
    raw_json(&b, WIRE_REQUEST, "{\"id\":1,\"do\":\"big\",\"size\":500000}");
    assert_int_equal(link_wait(b.server, keel_after(119 * KEEL_SECOND), &why),
                     -ETIMEDOUT);
    assert_int_equal(why.id, PROBLEM_CONNECT_TIMEOUT);
    assert_int_equal(link_wait(b.server, keel_after(3 * KEEL_SECOND), &why),
                     -ETIMEDOUT);
    assert_int_equal(why.id, PROBLEM_CONNECT_LOST);
    both_close(&b);
}

LOOP_TEST(a_cancelled_handler_that_waits_for_room_answers_when_there_is)
{
    struct both b;

    raw_open(&b);
    raw_json(&b, WIRE_REQUEST, "{\"id\":9,\"do\":\"gate\"}");
    for (int i = 1; i <= 3; i++) {
        char text[64];

        snprintf(text, sizeof(text),
                 "{\"id\":%d,\"do\":\"big\",\"size\":200000}", i);
        raw_json(&b, WIRE_REQUEST, text);
    }
    keel_sleep(keel_after(KEEL_SECOND));
    raw_small(&b, WIRE_CANCEL, 9, 0);
    keel_sleep(keel_after(KEEL_SECOND));
    assert_int_equal(b.serve.cancelled, 1);
    assert_true(b.serve.running > 0);
    raw_refused(&b, 9, "cancelled");
    both_close(&b);
}

LOOP_TEST(data_never_overtakes_what_announces_it)
{
    struct wire_frame f;
    bool told = false;
    char text[64];
    struct both b;

    raw_open(&b);
    link_trust(b.server);
    /* The writer is stuck while the queue grows. */
    raw_json(&b, WIRE_REQUEST, "{\"id\":201,\"do\":\"big\",\"size\":200000}");
    keel_sleep(keel_after(KEEL_SECOND));
    for (int i = 1; i <= 100; i++) {
        snprintf(text, sizeof(text), "{\"id\":%d,\"do\":\"echo\",\"text\":1}",
                 i);
        raw_json(&b, WIRE_REQUEST, text);
    }
    raw_json(&b, WIRE_REQUEST, "{\"id\":200,\"do\":\"told\",\"size\":1}");
    raw_small(&b, WIRE_CREDIT, 200, 1);
    keel_sleep(keel_after(KEEL_SECOND));
    do {
        assert_int_equal(raw_read(&b, &f), 0);
        told |= f.kind == WIRE_NOTE;
        wire_frame_fini(&f);
    } while (f.kind != WIRE_DATA);
    assert_true(told);
    both_close(&b);
}

LOOP_TEST(data_of_several_requests_takes_turns)
{
    struct wire_frame f;
    uint8_t *bytes = malloc(WIRE_DATA_BYTES);
    struct both b;

    raw_open(&b);
    for (uint32_t id = 1; id <= 3; id++) {
        char text[64];

        snprintf(text, sizeof(text),
                 "{\"id\":%u,\"do\":\"source\",\"size\":1048576}", id);
        raw_json(&b, WIRE_REQUEST, text);
        raw_small(&b, WIRE_CREDIT, id, 1 << 20);
    }
    keel_sleep(keel_after(KEEL_SECOND));
    for (uint32_t i = 0; i < 12; i++) {
        do {
            assert_int_equal(raw_read(&b, &f), 0);
            wire_frame_fini(&f);
        } while (f.kind == WIRE_REPLY);
        assert_int_equal(f.kind, WIRE_DATA);
        /* The first frame may go before the others have asked. */
        if (i >= 3)
            assert_int_equal(f.offset, i / 3 * WIRE_DATA_BYTES);
        assert_int_equal(f.size, WIRE_DATA_BYTES);
        assert_int_equal(
            keel_stream_read_all(b.end[0], bytes, f.size, NULL, KEEL_FOREVER),
            0);
    }
    free(bytes);
    both_close(&b);
}

struct mover {
    struct link *link;
    uint64_t size;
    bool up;
};

static int mover_run(void *arg)
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

static int chatter_run(void *arg)
{
    struct mover *m = arg;
    size_t size = m->size < MIB ? 2000 : 20000;
    char *text = malloc(size);

    memset(text, 'y', size - 1);
    text[size - 1] = 0;
    for (int i = 0; i < 50; i++)
        echo(m->link, text);
    free(text);
    return 0;
}

LOOP_TEST(full_buffers_in_both_directions_stop_nothing)
{
    static const size_t buffers[] = {1, 7, 64, 5000, 300000};
    struct keel_group *g;
    struct mover m[4];
    struct both b;

    for (size_t k = 0; k < sizeof(buffers) / sizeof(*buffers); k++) {
        uint64_t size = buffers[k] < 64 ? 20000 : 3 * MIB + 17;

        both_open(&b, buffers[k]);
        assert_int_equal(keel_group_new(0, &g), 0);
        for (int i = 0; i < 4; i++) {
            m[i] = (struct mover){b.client, size, i % 2 == 0};
            assert_int_equal(keel_spawn(&(struct keel_spawn){.group = g},
                                        mover_run, &m[i], NULL),
                             0);
            assert_int_equal(keel_spawn(&(struct keel_spawn){.group = g},
                                        chatter_run, &m[i], NULL),
                             0);
        }
        assert_int_equal(keel_group_join(g, KEEL_FOREVER), 0);
        keel_group_free(g);
        assert_int_equal(b.server->bytes_in, 2 * size);
        assert_int_equal(b.client->bytes_in, 2 * size);
        both_close(&b);
    }
}

/* ---- credit --------------------------------------------------------------- */

static void sink_open(struct both *b, const char *request, uint32_t credit)
{
    struct wire_frame f;

    raw_open(b);
    raw_json(b, WIRE_REQUEST, request);
    assert_int_equal(raw_read(b, &f), 0);
    assert_true(f.kind == WIRE_CREDIT && f.id == 1 && f.size == credit);
}

LOOP_TEST(data_up_to_the_credit_is_taken_and_no_byte_more)
{
    struct both b;

    sink_open(&b, "{\"id\":1,\"do\":\"sink\",\"size\":2000,\"step\":1000}",
              1000);
    raw_data(&b, 1, 0, 999);
    raw_data(&b, 1, 999, 1);
    raw_expect(&b, WIRE_CREDIT);
    raw_data(&b, 1, 1000, 1000);
    raw_answered(&b, 1);
    both_close(&b);

    sink_open(&b, "{\"id\":1,\"do\":\"sink\",\"size\":2000,\"step\":1000}",
              1000);
    raw_data(&b, 1, 0, 1001);
    raw_goodbye(&b, "transfer.credit");
    both_close(&b);

    sink_open(&b, "{\"id\":1,\"do\":\"sink\",\"size\":2000,\"step\":1000}",
              1000);
    raw_data(&b, 1, 0, 500);
    raw_data(&b, 1, 500, 501);
    raw_goodbye(&b, "transfer.credit");
    both_close(&b);
}

LOOP_TEST(data_that_has_no_place_breaks_the_protocol)
{
    struct both b;

    sink_open(&b, "{\"id\":1,\"do\":\"sink\",\"size\":2000}", 2000);
    raw_data(&b, 1, 1500, 501);
    raw_goodbye(&b, "transfer.range");
    both_close(&b);
}

LOOP_TEST(data_for_no_request_is_beyond_the_credit)
{
    struct both b;

    raw_open(&b);
    raw_data(&b, 1, 0, 1);
    raw_goodbye(&b, "transfer.credit");
    both_close(&b);
    raw_open(&b);
    raw_json(&b, WIRE_REQUEST, "{\"id\":1,\"do\":\"gate\"}");
    raw_data(&b, 1, 0, 1);
    raw_goodbye(&b, "transfer.credit");
    both_close(&b);
}

LOOP_TEST(data_that_crossed_the_reply_is_dropped_within_its_credit)
{
    struct both b;

    for (uint32_t over = 0; over <= 1; over++) {
        sink_open(&b, "{\"id\":1,\"do\":\"sink\",\"size\":2000}", 2000);
        raw_data(&b, 1, 0, 500);
        raw_small(&b, WIRE_CANCEL, 1, 0);
        raw_refused(&b, 1, "cancelled");
        raw_data(&b, 1, 500, 1000);
        raw_data(&b, 1, 1500, 500 + over);
        raw_json(&b, WIRE_REQUEST, "{\"id\":1,\"do\":\"echo\",\"text\":1}");
        if (over)
            raw_goodbye(&b, "transfer.credit");
        else
            raw_answered(&b, 1);
        both_close(&b);
    }
}

LOOP_TEST(a_sender_sends_what_was_granted)
{
    struct wire_frame f;
    uint8_t byte;
    struct both b;

    raw_open(&b);
    raw_json(&b, WIRE_REQUEST, "{\"id\":1,\"do\":\"source\",\"size\":3}");
    keel_sleep(keel_after(KEEL_SECOND));
    for (uint64_t i = 0; i < 3; i++) {
        raw_small(&b, WIRE_CREDIT, 1, i < 2 ? 1 : 100);
        assert_int_equal(raw_read(&b, &f), 0);
        assert_true(f.kind == WIRE_DATA && f.offset == i && f.size == 1);
        assert_int_equal(
            keel_stream_read_all(b.end[0], &byte, 1, NULL, KEEL_FOREVER), 0);
        assert_int_equal(byte, pattern(i));
    }
    raw_answered(&b, 1);
    both_close(&b);
}

LOOP_TEST(open_credit_is_bounded)
{
    struct both b;

    for (int over = 0; over <= 1; over++) {
        raw_open(&b);
        raw_json(&b, WIRE_REQUEST, "{\"id\":1,\"do\":\"gate\"}");
        for (int i = 0; i < 4; i++)
            raw_small(&b, WIRE_CREDIT, 1, 1 << 30);
        if (over) {
            raw_small(&b, WIRE_CREDIT, 1, 1);
            raw_goodbye(&b, "protocol.broken");
        } else {
            raw_small(&b, WIRE_CANCEL, 1, 0);
            raw_refused(&b, 1, "cancelled");
        }
        both_close(&b);
    }
}

LOOP_TEST(a_transfer_without_credit_delays_nobody)
{
    struct exchange *x;
    struct problem why;
    struct both b;

    both_open(&b, 4096);
    assert_int_equal(link_call(b.client, "source",
                               json_pack("{s:i}", "size", 1 << 20), &x, &why),
                     0);
    for (int i = 0; i < 20; i++)
        echo(b.client, "quick");
    assert_int_equal(b.client->bytes_in, 0);
    exchange_free(x);
    both_close(&b);
}

/* ---- ends ----------------------------------------------------------------- */

LOOP_TEST(goodbye_in_order_is_an_end_in_order)
{
    struct problem why;
    struct both b;

    both_open(&b, 4096);
    echo(b.client, "x");
    link_goodbye(b.client, NULL, keel_after(KEEL_SECOND));
    assert_int_equal(link_wait(b.client, KEEL_FOREVER, &why), 0);
    assert_int_equal(link_wait(b.server, KEEL_FOREVER, &why), 0);
    assert_int_equal(link_ask(b.client, "echo", NULL, KEEL_FOREVER, NULL, &why),
                     -EPIPE);
    both_close(&b);
}

LOOP_TEST(goodbye_brings_its_reason_to_who_waits)
{
    struct exchange *x;
    struct problem bye, why;
    struct both b;

    both_open(&b, 4096);
    assert_int_equal(link_call(b.client, "gate", NULL, &x, &why), 0);
    keel_event_wait(&b.serve.entered, KEEL_FOREVER);
    problem(&bye, SERVER_STOPPING);
    link_goodbye(b.server, &bye, keel_after(KEEL_SECOND));
    assert_int_equal(b.serve.cancelled, 1);
    assert_int_equal(exchange_reply(x, KEEL_FOREVER, NULL, &why), -ESHUTDOWN);
    assert_int_equal(why.id, PROBLEM_SERVER_STOPPING);
    assert_int_equal(link_wait(b.client, KEEL_FOREVER, &why), -ESHUTDOWN);
    exchange_free(x);
    both_close(&b);
}

LOOP_TEST(goodbye_to_who_does_not_read_ends_at_its_deadline)
{
    struct both b;
    keel_ns began;

    raw_open(&b);
    raw_json(&b, WIRE_REQUEST, "{\"id\":1,\"do\":\"big\",\"size\":500000}");
    keel_sleep(keel_after(KEEL_SECOND));
    began = keel_now();
    link_goodbye(b.server, NULL, keel_after(3 * KEEL_SECOND));
    assert_true(keel_now() - began < 4 * KEEL_SECOND);
    both_close(&b);
}

LOOP_TEST(the_end_of_the_stream_is_in_order_only_when_nothing_is_open)
{
    struct problem why;
    struct both b;

    raw_open(&b);
    keel_stream_finish(b.end[0], KEEL_FOREVER);
    assert_int_equal(link_wait(b.server, KEEL_FOREVER, &why), 0);
    both_close(&b);
    raw_open(&b);
    raw_json(&b, WIRE_REQUEST, "{\"id\":1,\"do\":\"gate\"}");
    keel_stream_finish(b.end[0], KEEL_FOREVER);
    assert_int_equal(link_wait(b.server, KEEL_FOREVER, &why), -ECONNABORTED);
    keel_sleep(keel_after(KEEL_SECOND));
    assert_int_equal(b.serve.cancelled, 1);
    both_close(&b);
}

LOOP_TEST(who_breaks_the_protocol_and_stops_writing_still_hears_why)
{
    struct both b;

    raw_open(&b);
    raw_json(&b, 99, "{}");
    keel_stream_finish(b.end[0], KEEL_FOREVER);
    raw_goodbye(&b, "protocol.broken");
    both_close(&b);
}

static int cutter_run(void *arg)
{
    struct both *b = arg;

    keel_sleep(keel_after(KEEL_SECOND));
    link_cut(b->client);
    return 0;
}

LOOP_TEST(a_cut_ends_a_send_that_is_stuck_in_a_frame)
{
    struct both b = {.rc = 0};
    struct link_options o = {.agent = "client"};
    uint8_t *bytes = calloc(1, MIB);
    struct exchange *x;
    struct problem why;

    assert_int_equal(keel_stream_pair(4096, b.end), 0);
    raw_json(&b, WIRE_HELLO, HELLO);
    assert_int_equal(link_open(b.end[1], &o, &b.client, &why), 0);
    b.end[1] = NULL;
    assert_int_equal(link_call(b.client, "x", NULL, &x, &why), 0);
    raw_small(&b, WIRE_CREDIT, 1, 1 << 20);
    assert_int_equal(keel_spawn(NULL, cutter_run, &b, NULL), 0);
    assert_int_equal(exchange_send(x, 0, bytes, MIB, KEEL_FOREVER, &why),
                     -ECANCELED);
    free(bytes);
    exchange_free(x);
    both_close(&b);
}

/* The memory that place lends is the caller's again after data_off, though the
 * peer is in the middle of a frame. */
LOOP_TEST(data_off_takes_the_memory_back_in_the_middle_of_a_frame)
{
    struct both b = {.rc = 0};
    struct link_options o = {.agent = "client"};
    struct serve s = {.into_size = 1000, .granted = 1000};
    uint8_t head[17], bytes[1000] = {0};
    struct exchange *x;
    struct problem why;

    assert_int_equal(keel_stream_pair(4096, b.end), 0);
    raw_json(&b, WIRE_HELLO, HELLO);
    assert_int_equal(link_open(b.end[1], &o, &b.client, &why), 0);
    b.end[1] = NULL;
    assert_int_equal(link_call(b.client, "x", NULL, &x, &why), 0);
    s.into = malloc(1000);
    exchange_data_on(
        x, &(struct exchange_sink){serve_place, serve_landed, NULL, &s});
    assert_int_equal(exchange_grant(x, 2000), 0);
    keel_sleep(keel_after(KEEL_SECOND));
    wire_data_head(1, 0, 1000, head);
    raw_write(&b, head, 17);
    raw_write(&b, bytes, 500);
    keel_sleep(keel_after(KEEL_SECOND));
    exchange_data_off(x);
    free(s.into);
    raw_write(&b, bytes, 500);
    raw_json(&b, WIRE_REPLY, "{\"id\":1,\"ok\":{}}");
    assert_int_equal(exchange_reply(x, KEEL_FOREVER, NULL, &why), 0);
    assert_int_equal(s.landed, 0);
    exchange_free(x);
    both_close(&b);
}

LOOP_TEST(a_handler_may_cut_its_link)
{
    struct problem why;
    struct both b;

    both_open(&b, 4096);
    assert_true(link_ask(b.client, "cut", NULL, keel_after(KEEL_SECOND), NULL,
                         &why) < 0);
    both_close(&b);
}

LOOP_TEST(closing_ends_everything_that_is_in_progress)
{
    struct exchange *x[4];
    struct problem why;
    struct both b;

    both_open(&b, 4096);
    assert_int_equal(link_call(b.client, "gate", NULL, &x[0], &why), 0);
    assert_int_equal(link_call(b.client, "source",
                               json_pack("{s:i}", "size", 1 << 20), &x[1],
                               &why),
                     0);
    assert_int_equal(link_call(b.client, "sink",
                               json_pack("{s:i}", "size", 1 << 20), &x[2],
                               &why),
                     0);
    assert_int_equal(link_call(b.client, "big",
                               json_pack("{s:i}", "size", 1000000), &x[3],
                               &why),
                     0);
    assert_int_equal(exchange_grant(x[1], 1000), 0);
    keel_sleep(keel_after(100 * KEEL_MS));
    link_close(b.server);
    b.server = NULL;
    for (int i = 0; i < 4; i++) {
        (void)exchange_reply(x[i], KEEL_FOREVER, NULL, &why);
        exchange_free(x[i]);
    }
    assert_int_equal(b.serve.running, 0);
    both_close(&b);
}

/* ---- a conversation, cut everywhere ---------------------------------------- */

static void conversation(struct both *b)
{
    raw_json(b, WIRE_HELLO, HELLO);
    raw_json(b, WIRE_REQUEST, "{\"id\":1,\"do\":\"echo\",\"text\":\"x\"}");
    raw_json(b, WIRE_REQUEST, "{\"id\":2,\"do\":\"gate\"}");
    raw_json(b, WIRE_REQUEST, "{\"id\":3,\"do\":\"sink\",\"size\":300}");
    raw_json(b, WIRE_REQUEST, "{\"id\":4,\"do\":\"source\",\"size\":200}");
    raw_small(b, WIRE_CREDIT, 4, 150);
    raw_small(b, WIRE_CANCEL, 2, 0);
}

/* What a client says, `bytes` of it, with data that had its credit. */
static size_t recorded(uint8_t *bytes, size_t most)
{
    struct keel_stream *pair[2];
    struct both b = {.rc = 0};
    ssize_t n;

    assert_int_equal(keel_stream_pair(most, pair), 0);
    b.end[0] = pair[0];
    conversation(&b);
    n = keel_stream_read(pair[1], bytes, most, KEEL_NOW);
    assert_true(n > 0);
    keel_stream_close(pair[0]);
    keel_stream_close(pair[1]);
    return (size_t)n;
}

/* Closed at once, closed after the server did what it could, or only half
 * closed. */
LOOP_TEST(a_peer_may_vanish_at_any_byte)
{
    uint8_t bytes[1024];
    size_t size = recorded(bytes, sizeof(bytes));
    struct both b;

    for (size_t cut = 0; cut <= size; cut++) {
        for (int way = 0; way < 3; way++) {
            raw_begin(&b, 4096);
            raw_write(&b, bytes, cut);
            if (way > 0)
                keel_sleep(keel_after(KEEL_MS));
            if (way == 2)
                keel_stream_finish(b.end[0], KEEL_FOREVER);
            if (way < 2) {
                keel_stream_close(b.end[0]);
                b.end[0] = NULL;
            }
            raw_opened(&b);
            if (b.rc == 0)
                (void)link_wait(b.server, KEEL_FOREVER, NULL);
            both_close(&b);
        }
    }
}

LOOP_TEST(a_peer_may_vanish_at_any_byte_of_its_data)
{
    struct both b;
    uint8_t bytes[317];

    wire_data_head(1, 0, 300, bytes);
    for (size_t i = 0; i < 300; i++)
        bytes[17 + i] = pattern(i);
    for (size_t cut = 0; cut < sizeof(bytes); cut++) {
        sink_open(&b, "{\"id\":1,\"do\":\"sink\",\"size\":300}", 300);
        raw_write(&b, bytes, cut);
        keel_yield();
        keel_stream_close(b.end[0]);
        b.end[0] = NULL;
        assert_true(link_wait(b.server, KEEL_FOREVER, NULL) < 0);
        both_close(&b);
    }
}

LOOP_TEST(a_link_may_be_closed_after_any_byte)
{
    uint8_t bytes[1024];
    size_t size = recorded(bytes, sizeof(bytes));
    struct both b;

    for (size_t cut = 45; cut <= size; cut++) {
        raw_begin(&b, 16); /* replies fill it at once */
        for (size_t i = 0; i < cut; i++)
            if (keel_stream_write(b.end[0], bytes + i, 1, keel_after(KEEL_MS)) <
                0)
                break;
        if (b.server)
            link_close(keel_take(b.server));
        both_close(&b);
    }
}

/* ---- memory ---------------------------------------------------------------- */

static int small_talk(struct both *b)
{
    struct link_options o = {.agent = "client"};
    struct exchange *x = NULL;
    struct problem why;
    json_t *j = NULL;
    int rc;

    memset(b, 0, sizeof(*b));
    serve_init(&b->serve);
    rc = keel_stream_pair(4096, b->end);
    if (rc < 0)
        return rc;
    rc = keel_spawn(NULL, open_server, b, &b->opener);
    if (rc < 0)
        return rc;
    rc = link_open(b->end[0], &o, &b->client, &why);
    if (rc < 0)
        return rc;
    b->end[0] = NULL;
    rc = link_ask(b->client, "echo", text_json("x"), KEEL_FOREVER, &j, &why);
    json_decref(j);
    if (rc < 0)
        return rc;
    rc =
        link_call(b->client, "notes", json_pack("{s:i}", "count", 2), &x, &why);
    if (rc < 0)
        return rc;
    while ((rc = exchange_note(x, KEEL_FOREVER, &j, &why)) == 0)
        json_decref(j);
    if (rc == -ENODATA)
        rc = exchange_reply(x, KEEL_FOREVER, NULL, &why);
    exchange_free(x);
    if (rc < 0)
        return rc;
    rc = link_call(b->client, "source", json_pack("{s:i}", "size", 10), &x,
                   &why);
    if (rc < 0)
        return rc;
    if (exchange_grant(x, 10) == 0)
        rc = exchange_reply(x, KEEL_FOREVER, NULL, &why);
    exchange_free(x);
    if (rc < 0)
        return rc;
    rc = link_call(b->client, "gate", NULL, &x, &why);
    if (rc < 0)
        return rc;
    keel_yield();
    exchange_free(x);
    link_goodbye(b->client, NULL, keel_after(KEEL_SECOND));
    return link_wait(b->client, KEEL_FOREVER, &why);
}

LOOP_TEST(every_allocation_may_fail)
{
    struct both b;
    bool fired = true;
    unsigned nth;

    for (nth = 1; fired; nth++) {
        fault_fail_alloc(nth);
        (void)small_talk(&b);
        fired = fault_fired();
        fault_clear();
        both_close(&b);
    }
    assert_true(nth > 50);
    /* Without a fault all went well. */
    assert_int_equal(small_talk(&b), 0);
    both_close(&b);
}

/* ---- anything at any time ---------------------------------------------------- */

static _Thread_local uint64_t dice = 1;

static unsigned roll(unsigned sides)
{
    dice ^= dice << 13;
    dice ^= dice >> 7;
    dice ^= dice << 17;
    return (unsigned)(dice >> 11) % sides;
}

static void pause_somehow(void)
{
    for (unsigned i = roll(3); i > 0; i--)
        keel_yield();
    if (roll(12) == 0)
        keel_sleep(keel_after((keel_ns)roll(1000) * KEEL_US));
}

static int upload_somehow(struct exchange *x, uint64_t size,
                          struct problem *why)
{
    uint8_t *bytes = malloc(size);
    int rc = 0;

    for (uint64_t i = 0; i < size; i++)
        bytes[i] = pattern(i);
    for (uint64_t at = 0, n; rc == 0 && at < size; at += n) {
        n = 1 + roll(size < 50000 ? 5000 : 200000);
        n = n < size - at ? n : size - at;
        pause_somehow();
        rc = exchange_send(x, at, bytes + at, n,
                           roll(8) ? KEEL_FOREVER
                                   : keel_after((keel_ns)roll(900) * KEEL_US),
                           why);
    }
    free(bytes);
    return rc;
}

/* One client's coroutine: whatever happens to others, what is answered is
 * right. */
static int somehow_run(void *arg)
{
    struct link *l = arg;
    struct exchange *x;
    struct problem why;
    char text[16];
    int rc;

    for (int i = 0; i < 12; i++) {
        uint64_t size = 1 + roll(300000);

        pause_somehow();
        switch (roll(5)) {
        case 0:
            snprintf(text, sizeof(text), "%u", roll(1000));
            echo(l, text);
            break;
        case 1:
            if (link_call(l, roll(2) ? "gate" : "notes",
                          json_pack("{s:i}", "count", roll(60)), &x,
                          &why) == 0) {
                pause_somehow();
                exchange_free(x);
            }
            break;
        case 2:
        case 3:
            assert_int_equal(
                link_call(l, "sink",
                          json_pack("{s:I,s:i}", "size", (json_int_t)size,
                                    "step", 1 + roll(100000)),
                          &x, &why),
                0);
            rc = upload_somehow(x, size, &why);
            if (rc == 0)
                rc = exchange_reply(x, KEEL_FOREVER, NULL, &why);
            assert_true(rc == 0 || rc == -ETIMEDOUT);
            exchange_free(x);
            break;
        default: {
            struct mover m = {l, size, false};

            mover_run(&m);
        }
        }
    }
    return 0;
}

LOOP_TEST(any_order_of_events_keeps_every_promise)
{
    struct keel_group *g;
    struct both b;

    for (uint64_t seed = 1; seed <= 12; seed++) {
        dice = seed * 0x9e3779b97f4a7c15u;
        both_open(&b, 1 + roll(roll(2) ? 100 : 400000));
        keel_event_set(&b.serve.gate);
        assert_int_equal(keel_group_new(0, &g), 0);
        for (int i = 0; i < 6; i++)
            assert_int_equal(keel_spawn(&(struct keel_spawn){.group = g},
                                        somehow_run, b.client, NULL),
                             0);
        assert_int_equal(keel_group_join(g, KEEL_FOREVER), 0);
        keel_group_free(g);
        echo(b.client, "the end"); /* behind every cancel */
        assert_int_equal(b.client->open_count, 0);
        assert_int_equal(b.client->held, 0);
        assert_int_equal(b.server->open_count, 0);
        assert_int_equal(b.serve.running, 0);
        assert_true(TAILQ_EMPTY(&b.client->out));
        assert_int_equal(b.server->out_bytes, 0);
        both_close(&b);
    }
}

/* ---- two loops --------------------------------------------------------------- */

struct far {
    struct both *b;
    struct keel_event done;
};

static int far_run(void *arg)
{
    struct far *f = arg;
    struct both *b = f->b;
    struct link_options o = server_options(&b->serve);
    struct problem why;

    assert_int_equal(link_open(b->end[1], &o, &b->server, &why), 0);
    b->end[1] = NULL;
    link_trust(b->server);
    assert_int_equal(link_wait(b->server, KEEL_FOREVER, &why), 0);
    assert_int_equal(b->server->open_count, 0);
    link_close(b->server);
    b->server = NULL;
    return 0;
}

static int two_loops_main(void *arg)
{
    struct link_options o = {.agent = "client"};
    struct keel_loop *loop;
    struct keel_co *server;
    struct keel_group *g;
    struct problem why;
    struct both b = {.rc = 0};
    struct far f = {.b = &b};
    int rc;

    (void)arg;
    for (uint64_t seed = 1; seed <= 3; seed++) {
        dice = seed * 0x9e3779b97f4a7c15u;
        serve_init(&b.serve);
        keel_event_set(&b.serve.gate);
        assert_int_equal(keel_stream_pair(1 + roll(100000), b.end), 0);
        assert_int_equal(keel_loop_start("far", &loop), 0);
        assert_int_equal(keel_spawn(&(struct keel_spawn){.loop = loop}, far_run,
                                    &f, &server),
                         0);
        assert_int_equal(link_open(b.end[0], &o, &b.client, &why), 0);
        b.end[0] = NULL;
        assert_int_equal(keel_group_new(0, &g), 0);
        for (int i = 0; i < 6; i++)
            assert_int_equal(keel_spawn(&(struct keel_spawn){.group = g},
                                        somehow_run, b.client, NULL),
                             0);
        assert_int_equal(keel_group_join(g, KEEL_FOREVER), 0);
        keel_group_free(g);
        echo(b.client, "the end");
        link_goodbye(b.client, NULL, keel_after(5 * KEEL_SECOND));
        assert_int_equal(link_wait(b.client, KEEL_FOREVER, &why), 0);
        link_close(b.client);
        b.client = NULL;
        assert_int_equal(keel_join(server, KEEL_FOREVER, &rc), 0);
        keel_loop_stop(loop);
    }
    return 0;
}

static void the_ends_may_be_on_different_loops(void **state)
{
    (void)state;
    assert_int_equal(keel_run(two_loops_main, NULL), 0);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(hello_tells_each_side_who_the_other_is),
        cmocka_unit_test(a_hello_that_does_not_fit_is_told_why),
        cmocka_unit_test(a_newer_side_that_still_speaks_ours_is_welcome),
        cmocka_unit_test(a_hello_has_at_most_8_kib),
        cmocka_unit_test(at_most_32_features_are_named),
        cmocka_unit_test(who_says_no_hello_is_left_after_ten_seconds),
        cmocka_unit_test(a_hello_by_drops_is_left_after_ten_seconds),
        cmocka_unit_test(a_request_before_hello_breaks_the_protocol),
        cmocka_unit_test(a_goodbye_instead_of_hello_brings_its_reason),
        cmocka_unit_test(opening_can_be_cancelled),
        cmocka_unit_test(requests_are_answered_in_any_order),
        cmocka_unit_test(a_refusal_brings_its_numbers),
        cmocka_unit_test(every_request_gets_a_reply_whatever_its_handler_does),
        cmocka_unit_test(a_cancelled_request_is_answered_too),
        cmocka_unit_test(a_cancel_right_behind_its_request_counts),
        cmocka_unit_test(letting_go_of_an_exchange_cancels_it),
        cmocka_unit_test(notes_come_before_their_reply),
        cmocka_unit_test(a_flood_of_notes_ends_the_link),
        cmocka_unit_test(a_verb_from_outside_is_not_trusted_with_a_terminal),
        cmocka_unit_test(ids_are_checked),
        cmocka_unit_test(open_requests_are_counted),
        cmocka_unit_test(before_login_texts_are_short),
        cmocka_unit_test(before_login_values_are_few),
        cmocka_unit_test(open_requests_have_at_most_a_megabyte_of_text),
        cmocka_unit_test(a_client_counts_its_own_requests),
        cmocka_unit_test(cancels_for_nothing_are_bounded),
        cmocka_unit_test(kinds_that_have_no_place_break_the_protocol),
        cmocka_unit_test(a_client_does_not_trust_its_server),
        cmocka_unit_test(replies_that_nobody_reads_stall_their_handlers),
        cmocka_unit_test(a_peer_that_never_reads_is_cut_off),
        cmocka_unit_test(
            a_cancelled_handler_that_waits_for_room_answers_when_there_is),
        cmocka_unit_test(data_never_overtakes_what_announces_it),
        cmocka_unit_test(data_of_several_requests_takes_turns),
        cmocka_unit_test(full_buffers_in_both_directions_stop_nothing),
        cmocka_unit_test(data_up_to_the_credit_is_taken_and_no_byte_more),
        cmocka_unit_test(data_that_has_no_place_breaks_the_protocol),
        cmocka_unit_test(data_for_no_request_is_beyond_the_credit),
        cmocka_unit_test(
            data_that_crossed_the_reply_is_dropped_within_its_credit),
        cmocka_unit_test(a_sender_sends_what_was_granted),
        cmocka_unit_test(open_credit_is_bounded),
        cmocka_unit_test(a_transfer_without_credit_delays_nobody),
        cmocka_unit_test(goodbye_in_order_is_an_end_in_order),
        cmocka_unit_test(goodbye_brings_its_reason_to_who_waits),
        cmocka_unit_test(goodbye_to_who_does_not_read_ends_at_its_deadline),
        cmocka_unit_test(
            the_end_of_the_stream_is_in_order_only_when_nothing_is_open),
        cmocka_unit_test(
            who_breaks_the_protocol_and_stops_writing_still_hears_why),
        cmocka_unit_test(a_cut_ends_a_send_that_is_stuck_in_a_frame),
        cmocka_unit_test(
            data_off_takes_the_memory_back_in_the_middle_of_a_frame),
        cmocka_unit_test(a_handler_may_cut_its_link),
        cmocka_unit_test(closing_ends_everything_that_is_in_progress),
        cmocka_unit_test(a_peer_may_vanish_at_any_byte),
        cmocka_unit_test(a_peer_may_vanish_at_any_byte_of_its_data),
        cmocka_unit_test(a_link_may_be_closed_after_any_byte),
        cmocka_unit_test(every_allocation_may_fail),
        cmocka_unit_test(any_order_of_events_keeps_every_promise),
        cmocka_unit_test(the_ends_may_be_on_different_loops),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
