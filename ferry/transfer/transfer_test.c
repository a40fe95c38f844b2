/* SPDX-License-Identifier: MIT */
#include "transfer/transfer.h"

#include <errno.h>
#include <fcntl.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include <keel/co.h>
#include <keel/file.h>
#include <keel/lock.h>

#include "test/clock.h"
#include "sim/disk.h"
#include "test/fault.h"

#define FRAME WIRE_DATA_BYTES

/* ---- files: their bytes follow from offset and name ------------------------- */

static int dir = -1;

static void chunk_fill(uint8_t *bytes, uint64_t index)
{
    for (size_t i = 0; i < CHUNK_BYTES; i += 8) {
        uint64_t word = (i / 8 + 1 + index * 131072) * 0x9e3779b97f4a7c15u;

        memcpy(bytes + i, &word, 8);
    }
}

static void file_make(const char *name, uint64_t size)
{
    uint8_t *bytes = malloc(CHUNK_BYTES);
    int fd = keel_file_open(dir, name, O_RDWR | O_CREAT | O_TRUNC, 0600);

    assert_true(fd >= 0);
    for (uint64_t i = 0; i < chunk_count(size); i++) {
        chunk_fill(bytes, i);
        assert_int_equal(
            keel_file_write(fd, bytes, chunk_size(size, i), i * CHUNK_BYTES),
            0);
    }
    keel_file_close(fd);
    free(bytes);
}

static void part_check(struct part *p, uint64_t from, uint64_t to)
{
    uint8_t *bytes = malloc(CHUNK_BYTES), *expected = malloc(CHUNK_BYTES);

    for (uint64_t i = from; i < to; i++) {
        size_t n = chunk_size(part_size(p), i);

        assert_true(part_has(p, i));
        chunk_fill(expected, i);
        assert_int_equal(keel_file_read(part_fd(p), bytes, n, i * CHUNK_BYTES),
                         n);
        assert_memory_equal(bytes, expected, n);
    }
    free(bytes);
    free(expected);
}

static struct part *part_of(const char *name, uint64_t size,
                            struct problem *why)
{
    struct part_options o = {.dir = dir,
                             .name = name,
                             .size = size,
                             .hash = CHUNK_XXH128,
                             .id = "0123456789abcde",
                             .mode = 0600};
    struct part *p = NULL;

    return part_open(&o, &p, why) < 0 ? NULL : p;
}

static struct source *source_of(const char *name, struct problem *why)
{
    struct source *s;
    int fd = keel_file_open(dir, name, O_RDONLY, 0);

    if (fd < 0)
        return NULL;
    if (source_open(fd, CHUNK_XXH128, name, &s, why) < 0) {
        keel_file_close(fd);
        return NULL;
    }
    return s;
}

/* ---- a server that puts and gets --------------------------------------------- */

/* Server's and client's: two that share one could each wait for the other. */
static struct buffer_pool *pool, *near_pool;

static int serve_put(struct exchange *x, const json_t *body,
                     struct problem *why)
{
    keel_auto(part) struct part *p = NULL;
    keel_auto(mem) void *missing_memory = NULL;
    struct range *have, *missing;
    size_t have_count, missing_count;
    const char *name;
    uint64_t size;
    int rc = field_u64(body, "size", INT64_MAX, &size, why);

    if (rc == 0)
        rc = field_text(body, "name", 100, &name, why);
    if (rc < 0)
        return rc;
    p = part_of(name, size, why);
    if (!p)
        return -EIO;
    if (part_ranges(p, false, RANGES_MOST, &have, &have_count) < 0)
        return problem(why, NO_MEMORY);
    rc = exchange_tell(
        x, json_pack("{s:o}", "have", ranges_to_json(have, have_count)));
    keel_free(have);
    if (rc < 0)
        return problem(why, NO_MEMORY);
    if (part_ranges(p, true, RANGES_MOST, &missing, &missing_count) < 0)
        return problem(why, NO_MEMORY);
    missing_memory = missing;
    rc = transfer_receive(p, x, missing, missing_count, pool, 0, NULL, why);
    return rc < 0 ? rc : exchange_answer(x, NULL);
}

static int serve_get(struct exchange *x, const json_t *body,
                     struct problem *why)
{
    keel_auto(source) struct source *s = NULL;
    keel_auto(mem) void *memory = NULL;
    struct range *r;
    const char *name;
    size_t count;
    int rc = field_text(body, "name", 100, &name, why);

    if (rc < 0)
        return rc;
    s = source_of(name, why);
    if (!s)
        return -EIO;
    rc = ranges_from_json(json_object_get(body, "chunks"),
                          chunk_count(source_size(s)), 1000, &r, &count, why);
    if (rc < 0)
        return rc;
    memory = r;
    rc = transfer_send(s, x, r, count, pool, 0, NULL, why);
    return rc < 0 ? rc : exchange_answer(x, NULL);
}

static int serve(struct exchange *x, const char *verb, const json_t *body,
                 void *arg, struct problem *why)
{
    (void)arg;
    if (strcmp(verb, "put") == 0)
        return serve_put(x, body, why);
    if (strcmp(verb, "get") == 0)
        return serve_get(x, body, why);
    if (strcmp(verb, "ping") == 0)
        return exchange_answer(x, NULL);
    return problem(why, REQUEST_UNKNOWN, .name = verb);
}

static int server_open(struct keel_stream *s, struct link **ret)
{
    const struct link_options o = {
        .server = true, .agent = "server", .request = serve};
    struct problem why;
    int rc = link_open(s, &o, ret, &why);

    if (rc == 0)
        link_trust(*ret);
    return rc;
}

struct both {
    struct keel_stream *end[2];
    struct link *client, *server;
    struct keel_co *opener;
};

static int open_run(void *arg)
{
    struct both *b = arg;
    int rc = server_open(b->end[1], &b->server);

    if (rc < 0)
        keel_stream_close(b->end[1]);
    b->end[1] = NULL;
    return rc;
}

static int both_try(struct both *b)
{
    const struct link_options o = {.agent = "client"};
    struct problem why;
    int rc;

    memset(b, 0, sizeof(*b));
    rc = keel_stream_pair(400000, b->end);
    if (rc == 0)
        rc = keel_spawn(NULL, open_run, b, &b->opener);
    if (rc == 0)
        rc = link_open(b->end[0], &o, &b->client, &why);
    if (rc == 0)
        b->end[0] = NULL;
    return rc;
}

static void both_close(struct both *b)
{
    int rc;

    link_close(b->client);
    keel_stream_close(b->end[0]);
    if (b->opener)
        assert_int_equal(keel_join(b->opener, KEEL_FOREVER, &rc), 0);
    link_close(b->server);
    keel_stream_close(b->end[1]);
}

static void both_open(struct both *b)
{
    assert_int_equal(both_try(b), 0);
}

/* ---- a client ------------------------------------------------------------------ */

/* Cuts the link when `frames` have moved. */
struct cut {
    struct link *link;
    uint64_t bytes, most;
};

static void cut_moved(void *arg, uint64_t bytes)
{
    struct cut *c = arg;

    c->bytes += bytes;
    if (c->most && c->bytes >= c->most)
        link_cut(c->link);
}

static int complement(const json_t *have, uint64_t chunks, struct range **ret,
                      size_t *ret_count)
{
    struct range *h, *r;
    uint64_t at = 0;
    size_t count;

    if (ranges_from_json(have, chunks, RANGES_MOST, &h, &count, NULL) < 0)
        return -EINVAL;
    r = keel_calloc(count + 1, sizeof(*r));
    *ret_count = 0;
    for (size_t i = 0; r && i <= count; i++) {
        uint64_t to = i < count ? h[i].from : chunks;

        if (at < to)
            r[(*ret_count)++] = (struct range){at, to};
        at = i < count ? h[i].to : chunks;
    }
    keel_free(h);
    *ret = r;
    return r ? 0 : -ENOMEM;
}

static int put_as(struct link *l, const char *from, const char *name,
                  uint64_t frames, struct problem *why)
{
    keel_auto(exchange) struct exchange *x = NULL;
    keel_auto(source) struct source *s = source_of(from, why);
    keel_auto(mem) void *memory = NULL;
    struct cut cut = {l, 0, frames * FRAME};
    struct transfer_watch watch = {cut_moved, &cut};
    struct range *r;
    json_t *note;
    size_t count;
    int rc;

    if (!s)
        return -ENOENT;
    rc = link_call(l, "put",
                   json_pack("{s:I,s:s}", "size", (json_int_t)source_size(s),
                             "name", name),
                   &x, why);
    if (rc < 0)
        return rc;
    rc = exchange_note(x, KEEL_FOREVER, &note, why);
    if (rc == -ENODATA)
        return exchange_reply(x, KEEL_FOREVER, NULL, why);
    if (rc < 0)
        return rc;
    rc = complement(json_object_get(note, "have"), chunk_count(source_size(s)),
                    &r, &count);
    json_decref(note);
    if (rc < 0)
        return rc;
    memory = r;
    rc = transfer_send(s, x, r, count, near_pool, 0, &watch, why);
    return rc < 0 ? rc : exchange_reply(x, KEEL_FOREVER, NULL, why);
}

static int get_as(struct link *l, const char *from, struct part *p,
                  uint64_t frames, struct problem *why)
{
    keel_auto(exchange) struct exchange *x = NULL;
    keel_auto(mem) void *memory = NULL;
    struct cut cut = {l, 0, frames * FRAME};
    struct transfer_watch watch = {cut_moved, &cut};
    struct range *r;
    size_t count;
    int rc = part_ranges(p, true, 999, &r, &count);

    if (rc < 0)
        return rc;
    memory = r;
    rc = link_call(l, "get",
                   json_pack("{s:s,s:o}", "name", from, "chunks",
                             ranges_to_json(r, count)),
                   &x, why);
    if (rc < 0)
        return rc;
    rc = transfer_receive(p, x, r, count, near_pool, 0, &watch, why);
    return rc < 0 ? rc : exchange_reply(x, KEEL_FOREVER, NULL, why);
}

static void whole(const char *name, uint64_t size)
{
    struct problem why;
    struct part *p = part_of(name, size, &why);

    assert_non_null(p);
    assert_int_equal(part_missing(p, 0), chunk_count(size));
    part_check(p, 0, chunk_count(size));
    part_drop(p);
}

/* ---- the tests' frame ------------------------------------------------------------ */

static int house(int (*fn)(void *arg), unsigned buffers, bool virtual_time)
{
    int rc;

    if (virtual_time)
        test_clock_install();
    test_disk_install((uint64_t)512 << 20);
    dir = keel_file_open_any("/disk", O_RDONLY | O_DIRECTORY, 0);
    assert_true(dir >= 0);
    assert_int_equal(buffer_pool_new(buffers, &pool), 0);
    assert_int_equal(buffer_pool_new(buffers, &near_pool), 0);
    rc = keel_run(fn, NULL);
    buffer_pool_free(pool); /* asserts that all came back */
    buffer_pool_free(near_pool);
    keel_file_close(dir);
    test_disk_remove();
    test_clock_remove();
    return rc;
}

#define LOOP_TEST(name, buffers, virtual_time)                                 \
    static int name##_main(void *arg);                                         \
    static void name(void **state)                                             \
    {                                                                          \
        (void)state;                                                           \
        assert_int_equal(house(name##_main, buffers, virtual_time), 0);        \
    }                                                                          \
    static int name##_main(void *arg __attribute__((unused)))

/* ---- whole files ------------------------------------------------------------------ */

LOOP_TEST(files_of_any_size_cross_both_ways, 16, false)
{
    static const uint64_t sizes[] = {
        0,
        1,
        FRAME,
        CHUNK_BYTES - 1,
        CHUNK_BYTES,
        CHUNK_BYTES + 1,
        5 * CHUNK_BYTES,
        9 * CHUNK_BYTES + 300000,
        17 * CHUNK_BYTES + 5,
    };
    struct problem why;
    struct part *p;
    struct both b;

    both_open(&b);
    for (size_t i = 0; i < sizeof(sizes) / sizeof(*sizes); i++) {
        file_make("src", sizes[i]);
        assert_int_equal(put_as(b.client, "src", "up", 0, &why), 0);
        whole("up", sizes[i]);
        p = part_of("down", sizes[i], &why);
        assert_non_null(p);
        assert_int_equal(get_as(b.client, "src", p, 0, &why), 0);
        part_check(p, 0, chunk_count(sizes[i]));
        part_drop(p);
    }
    both_close(&b);
    return 0;
}

LOOP_TEST(only_the_chunks_asked_for_are_sent, 8, false)
{
    const struct range wanted[] = {{0, 1}, {3, 5}, {9, 10}};
    const uint64_t size = 9 * CHUNK_BYTES + 77;
    uint64_t in, out;
    struct exchange *x;
    struct problem why;
    struct part *p;
    struct both b;

    both_open(&b);
    file_make("src", size);
    p = part_of("down", size, &why);
    assert_int_equal(link_call(b.client, "get",
                               json_pack("{s:s,s:o}", "name", "src", "chunks",
                                         ranges_to_json(wanted, 3)),
                               &x, &why),
                     0);
    assert_int_equal(transfer_receive(p, x, wanted, 3, pool, 0, NULL, &why), 0);
    assert_int_equal(exchange_reply(x, KEEL_FOREVER, NULL, &why), 0);
    exchange_free(x);
    link_counters(b.client, &in, &out);
    assert_int_equal(in, 3 * CHUNK_BYTES + 77);
    part_check(p, 0, 1);
    part_check(p, 3, 5);
    part_check(p, 9, 10);
    assert_int_equal(part_missing(p, 0), 1);
    assert_int_equal(part_missing(p, 3), 5);
    part_drop(p);
    both_close(&b);
    return 0;
}

/* ---- cuts and resumes -------------------------------------------------------------- */

LOOP_TEST(an_upload_cut_at_any_frame_is_continued, 8, false)
{
    const uint64_t size = 3 * CHUNK_BYTES + 300000;
    struct problem why;
    struct both b;

    file_make("src", size);
    for (uint64_t cut = 1; cut <= 14; cut++) {
        both_open(&b);
        (void)put_as(b.client, "src", "up", cut, &why);
        both_close(&b);
        both_open(&b);
        assert_int_equal(put_as(b.client, "src", "up", 0, &why), 0);
        both_close(&b);
        whole("up", size);
    }
    return 0;
}

LOOP_TEST(a_download_cut_at_any_frame_is_continued, 8, false)
{
    const uint64_t size = 3 * CHUNK_BYTES + 300000;
    struct problem why;
    struct part *p;
    struct both b;

    file_make("src", size);
    for (uint64_t cut = 1; cut <= 14; cut++) {
        both_open(&b);
        p = part_of("down", size, &why);
        (void)get_as(b.client, "src", p, cut, &why);
        part_close(p);
        both_close(&b);
        both_open(&b);
        p = part_of("down", size, &why);
        assert_non_null(p);
        assert_int_equal(get_as(b.client, "src", p, 0, &why), 0);
        part_close(p);
        both_close(&b);
        whole("down", size);
    }
    return 0;
}

/* What came whole is kept: at most the chunk under way and those granted
 * beyond it are sent again. */
LOOP_TEST(forty_chunks_cross_a_line_that_breaks_all_the_time, 12, false)
{
    const uint64_t size = 39 * CHUNK_BYTES + 1234;
    struct problem why;
    struct both b;

    file_make("src", size);
    for (uint64_t frames = 5; frames <= 14; frames += 3) {
        unsigned sessions = 0;
        int rc;

        do {
            both_open(&b);
            rc = put_as(b.client, "src", "up", frames, &why);
            both_close(&b);
            assert_true(++sessions <= 60);
        } while (rc < 0);
        assert_true(sessions > 5);
        whole("up", size);
    }
    return 0;
}

LOOP_TEST(a_cancelled_upload_keeps_what_came_whole, 8, false)
{
    const uint64_t size = 6 * CHUNK_BYTES;
    struct exchange *x;
    struct source *s;
    struct problem why;
    struct part *p;
    struct both b;
    json_t *note;

    both_open(&b);
    file_make("src", size);
    s = source_of("src", &why);
    assert_int_equal(link_call(b.client, "put",
                               json_pack("{s:I,s:s}", "size", (json_int_t)size,
                                         "name", "up"),
                               &x, &why),
                     0);
    assert_int_equal(exchange_note(x, KEEL_FOREVER, &note, &why), 0);
    json_decref(note);
    assert_int_equal(
        transfer_send(s, x, &(struct range){0, 2}, 1, pool, 0, NULL, &why), 0);
    exchange_free(x); /* CANCEL */
    assert_int_equal(link_ask(b.client, "ping", NULL, KEEL_FOREVER, NULL, &why),
                     0);
    both_close(&b);
    source_close(s);
    p = part_of("up", size, &why);
    part_check(p, 0, 2);
    assert_int_equal(part_missing(p, 0), 2);
    part_drop(p);
    return 0;
}

/* ---- many at once -------------------------------------------------------------------- */

struct job {
    struct link *link;
    char name[16];
    bool up;
    uint64_t size;
};

static int job_run(void *arg)
{
    struct job *j = arg;
    struct problem why;
    struct part *p;

    if (j->up) {
        assert_int_equal(put_as(j->link, "src", j->name, 0, &why), 0);
    } else {
        p = part_of(j->name, j->size, &why);
        assert_non_null(p);
        assert_int_equal(get_as(j->link, "src", p, 0, &why), 0);
        part_close(p);
    }
    whole(j->name, j->size);
    return 0;
}

static void many(unsigned count)
{
    const uint64_t size = 4 * CHUNK_BYTES + 99;
    struct keel_group *g;
    struct job jobs[12];
    struct both b;

    both_open(&b);
    file_make("src", size);
    assert_int_equal(keel_group_new(0, &g), 0);
    for (unsigned i = 0; i < count; i++) {
        jobs[i] = (struct job){.link = b.client, .up = i % 2, .size = size};
        snprintf(jobs[i].name, sizeof(jobs[i].name), "job%u", i);
        assert_int_equal(keel_spawn(&(struct keel_spawn){.group = g}, job_run,
                                    &jobs[i], NULL),
                         0);
    }
    assert_int_equal(keel_group_join(g, KEEL_FOREVER), 0);
    keel_group_free(g);
    both_close(&b);
}

LOOP_TEST(twelve_transfers_share_one_buffer, 1, false)
{
    many(12);
    return 0;
}

LOOP_TEST(twelve_transfers_share_three_buffers, 3, false)
{
    many(12);
    return 0;
}

LOOP_TEST(twelve_transfers_share_thirty_buffers, 30, false)
{
    many(12);
    return 0;
}

LOOP_TEST(a_transfer_that_waits_for_a_buffer_delays_no_request, 2, false)
{
    struct buffer *taken[2];
    struct exchange *x;
    struct problem why;
    struct both b;

    both_open(&b);
    assert_int_equal(buffer_take(pool, KEEL_NOW, &taken[0]), 0);
    assert_int_equal(buffer_take(pool, KEEL_NOW, &taken[1]), 0);
    assert_int_equal(
        link_call(b.client, "put",
                  json_pack("{s:i,s:s}", "size", 100, "name", "up"), &x, &why),
        0);
    for (int i = 0; i < 10; i++)
        assert_int_equal(
            link_ask(b.client, "ping", NULL, KEEL_FOREVER, NULL, &why), 0);
    exchange_free(x);
    buffer_give(taken[0]);
    buffer_give(taken[1]);
    both_close(&b);
    return 0;
}

/* ---- a peer of the test's own --------------------------------------------------------- */

static void raw_json(struct keel_stream *s, enum wire_kind kind,
                     const char *text)
{
    uint8_t head[5];

    keel_be32_put(head, (uint32_t)strlen(text) + 1);
    head[4] = (uint8_t)kind;
    assert_int_equal(keel_stream_write(s, head, 5, KEEL_FOREVER), 0);
    assert_int_equal(keel_stream_write(s, text, strlen(text), KEEL_FOREVER), 0);
}

static void raw_data(struct keel_stream *s, uint32_t id, uint64_t offset,
                     const void *bytes, uint32_t size)
{
    uint8_t head[17];

    wire_data_head(id, offset, size, head);
    assert_int_equal(keel_stream_write(s, head, 17, KEEL_FOREVER), 0);
    assert_int_equal(keel_stream_write(s, bytes, size, KEEL_FOREVER), 0);
}

static int raw_read(struct keel_stream *s, struct wire_frame *f)
{
    static const struct wire_limits any = {0x1fe, WIRE_REPLY_BYTES,
                                           WIRE_REPLY_BYTES};

    return wire_read(s, &any, f, KEEL_FOREVER, NULL);
}

static void raw_open(struct both *b)
{
    struct wire_frame f;
    int rc;

    memset(b, 0, sizeof(*b));
    assert_int_equal(keel_stream_pair(4 << 20, b->end), 0);
    assert_int_equal(keel_spawn(NULL, open_run, b, &b->opener), 0);
    raw_json(b->end[0], WIRE_HELLO, "{\"version\":1}");
    assert_int_equal(raw_read(b->end[0], &f), 0);
    wire_frame_fini(&f);
    assert_int_equal(keel_join(b->opener, KEEL_FOREVER, &rc), 0);
    b->opener = NULL;
    assert_int_equal(rc, 0);
}

static uint64_t dice = 1;

static unsigned roll(unsigned sides)
{
    dice ^= dice << 13;
    dice ^= dice >> 7;
    dice ^= dice << 17;
    return (unsigned)(dice >> 11) % sides;
}

struct raw_sender {
    struct keel_stream *s;
    uint64_t credit;
    bool replied;
};

/* Waits for more credit. */
static void raw_credit(struct raw_sender *r)
{
    struct wire_frame f;

    assert_int_equal(raw_read(r->s, &f), 0);
    if (f.kind == WIRE_CREDIT)
        r->credit += f.size;
    else if (f.kind == WIRE_REPLY) {
        assert_non_null(json_object_get(f.json, "ok"));
        r->replied = true;
    } else
        assert_int_equal(f.kind, WIRE_NOTE);
    wire_frame_fini(&f);
}

static void raw_chunk(struct raw_sender *r, uint64_t size, uint64_t index)
{
    uint8_t *bytes = malloc(CHUNK_BYTES);
    size_t n, whole_size = chunk_size(size, index);

    chunk_fill(bytes, index);
    for (size_t at = 0; at < whole_size; at += n) {
        while (r->credit == 0)
            raw_credit(r);
        n = 1 + roll(FRAME);
        n = n < whole_size - at ? n : whole_size - at;
        n = n < r->credit ? n : (size_t)r->credit;
        r->credit -= n;
        raw_data(r->s, 1, index * CHUNK_BYTES + at, bytes + at, (uint32_t)n);
    }
    free(bytes);
}

/* A sender that uses every byte of credit, whatever the order of chunks, never
 * meets a receiver without a buffer. */
LOOP_TEST(chunks_come_in_any_order_within_any_credit, 3, false)
{
    static const size_t tails[] = {1, 1000, FRAME + 1, CHUNK_BYTES - 1,
                                   CHUNK_BYTES};
    char text[64];
    struct both b;

    for (unsigned seed = 1; seed <= 20; seed++) {
        unsigned chunks = 1 + seed % 6, order[6];
        uint64_t size = (chunks - 1) * CHUNK_BYTES + tails[seed % 5];
        struct raw_sender r = {.credit = 0};

        dice = seed * 0x9e3779b97f4a7c15u;
        for (unsigned i = 0; i < chunks; i++) {
            unsigned other = roll(i + 1);

            order[i] = order[other];
            order[other] = i;
        }
        raw_open(&b);
        r.s = b.end[0];
        snprintf(text, sizeof(text),
                 "{\"id\":1,\"do\":\"put\",\"name\":\"up\",\"size\":%llu}",
                 (unsigned long long)size);
        raw_json(b.end[0], WIRE_REQUEST, text);
        for (unsigned i = 0; i < chunks; i++)
            raw_chunk(&r, size, order[i]);
        while (!r.replied)
            raw_credit(&r);
        assert_int_equal(r.credit, 0);
        both_close(&b);
        whole("up", size);
    }
    return 0;
}

static uint32_t raw_put(struct both *b, uint64_t size)
{
    struct wire_frame f;
    char text[80];

    raw_open(b);
    snprintf(text, sizeof(text),
             "{\"id\":1,\"do\":\"put\",\"name\":\"up\",\"size\":%llu}",
             (unsigned long long)size);
    raw_json(b->end[0], WIRE_REQUEST, text);
    assert_int_equal(raw_read(b->end[0], &f), 0);
    assert_int_equal(f.kind, WIRE_NOTE);
    wire_frame_fini(&f);
    assert_int_equal(raw_read(b->end[0], &f), 0);
    assert_int_equal(f.kind, WIRE_CREDIT);
    return f.size;
}

static void raw_told(struct both *b, enum wire_kind kind, const char *code)
{
    struct wire_frame f;

    do {
        assert_int_equal(raw_read(b->end[0], &f), 0);
        if (f.kind == kind)
            assert_string_equal(
                json_string_value(json_object_get(
                    json_object_get(f.json, "problem"), "code")),
                code);
        wire_frame_fini(&f);
    } while (f.kind != kind);
}

LOOP_TEST(data_that_was_not_asked_for_ends_the_link, 8, false)
{
    static const struct {
        uint64_t first, second;
        uint32_t size;
    } row[] = {
        {2 * CHUNK_BYTES + 100, 0, 1}, /* behind the end */
        {2 * CHUNK_BYTES + 99, 0, 2},  /* over the end */
        {1, 0, 1},                     /* not from a chunk's start */
        {0, 5, 1},                     /* with a hole */
        {0, 0, 1},                     /* twice */
        {0, CHUNK_BYTES, 1},           /* another before the end of one */
        {(uint64_t)INT64_MAX - 1, 0, 1},
    };
    uint8_t bytes[2] = {0};
    struct both b;

    for (size_t i = 0; i < sizeof(row) / sizeof(*row); i++) {
        raw_put(&b, 2 * CHUNK_BYTES + 100);
        raw_data(b.end[0], 1, row[i].first, bytes, row[i].size);
        raw_data(b.end[0], 1, row[i].second, bytes, 1);
        raw_told(&b, WIRE_GOODBYE, "transfer.range");
        both_close(&b);
    }
    return 0;
}

/* With a whole chunk of credit for the last one, which is a byte shorter, that
 * byte would begin a third. */
LOOP_TEST(the_first_credit_is_for_as_many_chunks_as_there_are_buffers, 8, false)
{
    struct both b;

    assert_int_equal(raw_put(&b, 3 * CHUNK_BYTES), 2 * CHUNK_BYTES);
    both_close(&b);
    assert_int_equal(raw_put(&b, 3 * CHUNK_BYTES - 1), 2 * CHUNK_BYTES - 1);
    both_close(&b);
    assert_int_equal(raw_put(&b, 2 * CHUNK_BYTES + 1), CHUNK_BYTES + 1);
    both_close(&b);
    assert_int_equal(raw_put(&b, 7), 7);
    both_close(&b);
    return 0;
}

LOOP_TEST(a_frame_does_not_cross_the_end_of_its_chunk, 8, false)
{
    uint8_t *bytes = calloc(1, FRAME);
    struct both b;

    raw_put(&b, 3 * CHUNK_BYTES);
    raw_data(b.end[0], 1, 0, bytes, 1);
    for (size_t i = 0; i < 4; i++)
        raw_data(b.end[0], 1, 1 + i * FRAME, bytes, FRAME);
    raw_told(&b, WIRE_GOODBYE, "transfer.range");
    both_close(&b);
    free(bytes);
    return 0;
}

LOOP_TEST(who_has_credit_and_sends_nothing_gives_the_buffers_back, 8, true)
{
    struct both b;
    keel_ns began;

    raw_put(&b, 3 * CHUNK_BYTES);
    began = keel_now();
    raw_told(&b, WIRE_REPLY, "transfer.cut");
    assert_true(keel_now() - began >= 60 * KEEL_SECOND &&
                keel_now() - began < 90 * KEEL_SECOND);
    both_close(&b);
    return 0;
}

LOOP_TEST(who_grants_part_of_a_chunk_only_gives_the_buffer_back, 8, true)
{
    struct wire_frame f;
    uint8_t small[16], byte;
    struct both b;

    file_make("src", 3 * CHUNK_BYTES);
    raw_open(&b);
    raw_json(b.end[0], WIRE_REQUEST,
             "{\"id\":1,\"do\":\"get\",\"name\":\"src\",\"chunks\":[[0,3]]}");
    assert_int_equal(keel_stream_write(b.end[0], small,
                                       wire_small(WIRE_CREDIT, 1, 1, small),
                                       KEEL_FOREVER),
                     0);
    assert_int_equal(raw_read(b.end[0], &f), 0);
    assert_true(f.kind == WIRE_DATA && f.size == 1);
    assert_int_equal(
        keel_stream_read_all(b.end[0], &byte, 1, NULL, KEEL_FOREVER), 0);
    raw_told(&b, WIRE_REPLY, "transfer.cut");
    both_close(&b);
    return 0;
}

/* A peer that grants nothing has no buffer, however long it waits. */
LOOP_TEST(who_grants_nothing_holds_nothing, 1, true)
{
    struct buffer *b0;
    struct both b;

    file_make("src", 3 * CHUNK_BYTES);
    raw_open(&b);
    raw_json(b.end[0], WIRE_REQUEST,
             "{\"id\":1,\"do\":\"get\",\"name\":\"src\",\"chunks\":[[0,3]]}");
    keel_sleep(keel_after(3600 * KEEL_SECOND));
    assert_int_equal(buffer_take(pool, KEEL_NOW, &b0), 0);
    buffer_give(b0);
    both_close(&b);
    return 0;
}

LOOP_TEST(a_reply_before_the_data_is_no_success, 8, false)
{
    const struct link_options o = {.agent = "client"};
    struct both b = {.opener = NULL};
    struct exchange *x;
    struct problem why;
    struct part *p;

    for (int refused = 0; refused <= 1; refused++) {
        assert_int_equal(keel_stream_pair(1 << 20, b.end), 0);
        raw_json(b.end[0], WIRE_HELLO, "{\"version\":1}");
        assert_int_equal(link_open(b.end[1], &o, &b.client, &why), 0);
        b.end[1] = NULL;
        p = part_of("down", 5 * CHUNK_BYTES, &why);
        assert_int_equal(link_call(b.client, "get", NULL, &x, &why), 0);
        raw_json(b.end[0], WIRE_REPLY,
                 refused ? "{\"id\":1,\"problem\":{\"code\":\"file.missing\"}}"
                         : "{\"id\":1,\"ok\":{}}");
        assert_true(transfer_receive(p, x, &(struct range){0, 5}, 1, pool, 0,
                                     NULL, &why) < 0);
        assert_int_equal(why.id, refused ? PROBLEM_FILE_MISSING
                                         : PROBLEM_PROTOCOL_BROKEN);
        exchange_free(x);
        part_drop(p);
        both_close(&b);
        memset(&b, 0, sizeof(b));
    }
    return 0;
}

/* ---- disks and memory that fail --------------------------------------------------------- */

LOOP_TEST(a_disk_that_fails_ends_the_transfer_with_its_reason, 8, false)
{
    const uint64_t size = 5 * CHUNK_BYTES;
    unsigned failed = 0;
    struct problem why;
    struct both b;
    int rc;

    file_make("src", size);
    for (unsigned nth = 1; nth <= 12; nth++) {
        both_open(&b);
        fault_fail(KEEL_OP_WRITE, nth, ENOSPC);
        rc = put_as(b.client, "src", "up", 0, &why);
        if (fault_fired() && rc < 0) {
            failed++;
            assert_int_equal(link_wait(b.server, KEEL_NOW, NULL), -ETIMEDOUT);
        }
        fault_clear();
        assert_int_equal(put_as(b.client, "src", "up", 0, &why), 0);
        both_close(&b);
        whole("up", size);
    }
    assert_true(failed >= 5);
    return 0;
}

LOOP_TEST(a_source_that_cannot_be_read_is_refused, 8, false)
{
    const uint64_t size = 5 * CHUNK_BYTES;
    struct problem why;
    struct part *p;
    struct both b;
    int rc;

    file_make("src", size);
    for (unsigned nth = 1; nth <= 3; nth++) {
        both_open(&b);
        p = part_of("down", size, &why);
        fault_fail(KEEL_OP_READ, nth, EIO);
        rc = get_as(b.client, "src", p, 0, &why);
        assert_true(fault_fired());
        assert_true(rc < 0);
        assert_int_equal(get_as(b.client, "src", p, 0, &why), 0);
        part_drop(p);
        both_close(&b);
    }
    return 0;
}

LOOP_TEST(every_allocation_may_fail, 8, true)
{
    const uint64_t size = 2 * CHUNK_BYTES + 5;
    struct problem why;
    struct part *p;
    struct both b;
    bool fired = true;
    unsigned nth;

    file_make("src", size);
    for (nth = 1; fired; nth++) {
        fault_fail_alloc(nth);
        if (both_try(&b) == 0) {
            if (put_as(b.client, "src", "up", 0, &why) == 0) {
                p = part_of("down", size, &why);
                if (p)
                    (void)get_as(b.client, "src", p, 0, &why);
                part_drop(p);
            }
        }
        fired = fault_fired();
        fault_clear();
        both_close(&b);
        p = part_of("up", size, &why);
        assert_non_null(p);
        part_drop(p);
    }
    assert_true(nth > 50);
    return 0;
}

/* ---- two loops ------------------------------------------------------------------------------ */

static int far_run(void *arg)
{
    struct both *b = arg;
    struct problem why;

    assert_int_equal(server_open(b->end[1], &b->server), 0);
    b->end[1] = NULL;
    assert_int_equal(link_wait(b->server, KEEL_FOREVER, &why), 0);
    link_close(b->server);
    b->server = NULL;
    return 0;
}

LOOP_TEST(the_ends_may_be_on_different_loops, 16, false)
{
    const struct link_options o = {.agent = "client"};
    const uint64_t size = 20 * CHUNK_BYTES + 4097;
    struct both b = {.opener = NULL};
    struct keel_loop *loop;
    struct keel_co *server;
    struct problem why;
    struct part *p;
    int rc;

    file_make("src", size);
    assert_int_equal(keel_stream_pair(300000, b.end), 0);
    assert_int_equal(keel_loop_start("far", &loop), 0);
    assert_int_equal(
        keel_spawn(&(struct keel_spawn){.loop = loop}, far_run, &b, &server),
        0);
    assert_int_equal(link_open(b.end[0], &o, &b.client, &why), 0);
    b.end[0] = NULL;
    assert_int_equal(put_as(b.client, "src", "up", 0, &why), 0);
    p = part_of("down", size, &why);
    assert_int_equal(get_as(b.client, "src", p, 0, &why), 0);
    part_check(p, 0, chunk_count(size));
    part_drop(p);
    link_goodbye(b.client, NULL, keel_after(5 * KEEL_SECOND));
    link_close(b.client);
    assert_int_equal(keel_join(server, KEEL_FOREVER, &rc), 0);
    keel_loop_stop(loop);
    whole("up", size);
    return 0;
}

/* ---- ranges ----------------------------------------------------------------------------------- */

static void ranges_are_in_order_and_within_the_file(void **state)
{
    static const struct {
        const char *text;
        int count; /* -1: refused */
    } row[] = {
        {"[]", 0},
        {"[[0,10]]", 1},
        {"[[0,1],[2,3],[9,10]]", 3},
        {"[[0,11]]", -1},
        {"[[1,1]]", -1},
        {"[[2,1]]", -1},
        {"[[0,1],[1,2]]", -1}, /* touching */
        {"[[3,4],[0,1]]", -1},
        {"[[-1,4]]", -1},
        {"[[0]]", -1},
        {"[[0,1,2]]", -1},
        {"[[0,\"1\"]]", -1},
        {"[[0,1.0]]", -1},
        {"[0,1]", -1},
        {"{}", -1},
        {"[[0,1],[2,3],[4,5],[6,7]]", -1}, /* more than 3 */
        {"[[9223372036854775806,9223372036854775807]]", -1},
    };
    struct problem why;
    struct range *r;
    size_t count;

    (void)state;
    for (size_t i = 0; i < sizeof(row) / sizeof(*row); i++) {
        json_t *j = json_loads(row[i].text, 0, NULL), *back;
        int rc = ranges_from_json(j, 10, 3, &r, &count, &why);

        if (row[i].count < 0) {
            assert_int_equal(rc, -EINVAL);
            assert_int_equal(why.id, PROBLEM_REQUEST_INVALID);
        } else {
            assert_int_equal(rc, 0);
            assert_int_equal(count, row[i].count);
            back = ranges_to_json(r, count);
            assert_true(json_equal(back, j));
            json_decref(back);
            keel_free(r);
        }
        json_decref(j);
    }
    assert_int_equal(ranges_from_json(NULL, 10, 3, &r, &count, &why), -EINVAL);
}

static void ranges_check(struct part *p, bool missing, size_t most,
                         const char *expected)
{
    struct range *r;
    size_t count;
    json_t *j;
    char *text;

    assert_int_equal(part_ranges(p, missing, most, &r, &count), 0);
    j = ranges_to_json(r, count);
    text = json_dumps(j, JSON_COMPACT);
    assert_string_equal(text, expected);
    keel_free(text);
    json_decref(j);
    keel_free(r);
}

LOOP_TEST(what_is_beyond_the_most_ranges_counts_as_missing, 2, false)
{
    static const uint64_t there[] = {0, 1, 3, 6, 7};
    struct problem why;
    struct part *p = part_of("p", 9 * CHUNK_BYTES, &why);
    struct buffer *buffer;

    ranges_check(p, false, 9, "[]");
    ranges_check(p, true, 9, "[[0,9]]");
    assert_int_equal(buffer_take(pool, KEEL_NOW, &buffer), 0);
    for (size_t i = 0; i < 5; i++) {
        chunk_fill(buffer->bytes, there[i]);
        assert_int_equal(part_write(p, there[i], buffer, &why), 0);
    }
    buffer_give(buffer);
    ranges_check(p, false, 9, "[[0,2],[3,4],[6,8]]");
    ranges_check(p, true, 9, "[[2,3],[4,6],[8,9]]");
    ranges_check(p, false, 2, "[[0,2],[3,4]]");
    ranges_check(p, true, 2, "[[2,3],[4,9]]");
    ranges_check(p, false, 0, "[]");
    ranges_check(p, true, 0, "[[0,9]]");
    part_drop(p);
    return 0;
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(files_of_any_size_cross_both_ways),
        cmocka_unit_test(only_the_chunks_asked_for_are_sent),
        cmocka_unit_test(an_upload_cut_at_any_frame_is_continued),
        cmocka_unit_test(a_download_cut_at_any_frame_is_continued),
        cmocka_unit_test(forty_chunks_cross_a_line_that_breaks_all_the_time),
        cmocka_unit_test(a_cancelled_upload_keeps_what_came_whole),
        cmocka_unit_test(twelve_transfers_share_one_buffer),
        cmocka_unit_test(twelve_transfers_share_three_buffers),
        cmocka_unit_test(twelve_transfers_share_thirty_buffers),
        cmocka_unit_test(a_transfer_that_waits_for_a_buffer_delays_no_request),
        cmocka_unit_test(chunks_come_in_any_order_within_any_credit),
        cmocka_unit_test(data_that_was_not_asked_for_ends_the_link),
        cmocka_unit_test(
            the_first_credit_is_for_as_many_chunks_as_there_are_buffers),
        cmocka_unit_test(a_frame_does_not_cross_the_end_of_its_chunk),
        cmocka_unit_test(
            who_has_credit_and_sends_nothing_gives_the_buffers_back),
        cmocka_unit_test(who_grants_part_of_a_chunk_only_gives_the_buffer_back),
        cmocka_unit_test(who_grants_nothing_holds_nothing),
        cmocka_unit_test(a_reply_before_the_data_is_no_success),
        cmocka_unit_test(a_disk_that_fails_ends_the_transfer_with_its_reason),
        cmocka_unit_test(a_source_that_cannot_be_read_is_refused),
        cmocka_unit_test(every_allocation_may_fail),
        cmocka_unit_test(the_ends_may_be_on_different_loops),
        cmocka_unit_test(what_is_beyond_the_most_ranges_counts_as_missing),
        cmocka_unit_test(ranges_are_in_order_and_within_the_file),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
