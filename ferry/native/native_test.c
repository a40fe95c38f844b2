/* SPDX-License-Identifier: MIT */
/* The front end over a real vault, with plain streams instead of TLS: what a
 * client's calls find, and what changes under them. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <keel/co.h>
#include <keel/file.h>
#include <keel/stream.h>

#include "native/native_inside.h"
#include "vault/world_test.h"

#define FOR_EVER KEEL_FOREVER

static struct {
    char dir[64];
    struct world world;
    struct keel_loop *loop;
    struct native *native;
} t;

/* Assertions leave by longjmp, and each test has its own coroutine and loop. */
static void ok_at(int rc, const struct problem *why, int line)
{
    char words[512] = "";

    if (rc >= 0)
        return;
    if (why && why->id != PROBLEM_NONE)
        problem_sentence(why, words, sizeof(words));
    print_error("line %d: %d %s\n", line, rc, words);
    fail();
}
#define OK(rc, why) ok_at((rc), (why), __LINE__)
#define REFUSED(rc, why, ID)                                                   \
    do {                                                                       \
        assert_true((rc) < 0);                                                 \
        assert_string_equal(problem_row((why)->id)->id, #ID);                  \
    } while (0)

static void town_open(void)
{
    struct native_options o = {.loop_count = 1, .agent = "test"};
    struct problem why;
    int data;

    strcpy(t.dir, "/tmp/ferry-native-XXXXXX");
    assert_non_null(mkdtemp(t.dir));
    data = keel_file_open_any(t.dir, O_RDONLY | O_DIRECTORY, 0);
    assert_true(data >= 0);
    OK(world_open(&t.world, data, &why), &why);
    OK(keel_loop_start("serve", &t.loop), NULL);
    o.vault = t.world.vault;
    o.accounts = t.world.accounts;
    o.ledger = t.world.ledger;
    o.registration = REGISTRATION_OPEN;
    o.loops = &t.loop;
    OK(native_new(&o, &t.native), NULL);
}

static void town_close(void)
{
    char command[128];

    native_drain(t.native, keel_after(KEEL_SECOND));
    keel_loop_stop(t.loop);
    assert_int_equal(native_connections(t.native), 0);
    native_free(t.native);
    world_close(&t.world);
    snprintf(command, sizeof(command), "rm -rf %s", t.dir);
    assert_int_equal(system(command), 0);
}

static struct link *come(const char *name)
{
    const struct link_options o = {.agent = "test"};
    struct keel_stream *pair[2];
    struct problem why;
    uint8_t key[32] = {1};
    struct link *l;

    OK(keel_stream_pair(1 << 20, pair), NULL);
    OK(native_connection(t.native, pair[0]), NULL);
    OK(link_open(pair[1], &o, &l, &why), &why);
    if (name)
        OK(link_ask(l, "register",
                    json_pack("{s:s, s:{s:i, s:o, s:o, s:o}}", "name", name,
                              "scram", "iterations", 600000, "salt",
                              bytes_to_json(key, 16), "stored",
                              bytes_to_json(key, 32), "server",
                              bytes_to_json(key, 32)),
                    FOR_EVER, NULL, &why),
           &why);
    return l;
}

static void leave(struct link *l)
{
    link_goodbye(l, NULL, keel_after(KEEL_SECOND));
    link_close(l);
}

static json_t *put_json(const char *space, const char *path, const void *data,
                        size_t size, bool at_once)
{
    struct digest leaf, root;
    char text[DIGEST_TEXT_BYTES];
    uint8_t source[16] = {7};
    json_t *j =
        json_pack("{s:s, s:I, s:s, s:i, s:i, s:o}", "path", path, "size",
                  (json_int_t)size, "hash", "sha256", "mtime_ns", 5, "mode",
                  0644, "source", bytes_to_json(source, 16));

    if (*space)
        json_object_set_new(j, "space", json_string(space));
    if (!at_once)
        return j;
    chunk_leaf(CHUNK_SHA256, data, size, &leaf);
    chunk_root(CHUNK_SHA256, &leaf, size > 0, &root);
    digest_print(CHUNK_SHA256, &root, text);
    json_object_set_new(j, "root", json_string(text));
    json_object_set_new(j, "level", json_string("committed"));
    return j;
}

static int put_now(struct link *l, const char *space, const char *path,
                   const void *data, size_t size, struct problem *why)
{
    struct exchange *x;
    int rc = transfer_put_small(l, put_json(space, path, data, size, true),
                                data, size, &x, why);

    if (rc < 0)
        return rc;
    rc = exchange_reply(x, FOR_EVER, NULL, why);
    exchange_free(x);
    return rc;
}

static int stat_of(struct link *l, const char *path, struct problem *why)
{
    return link_ask(l, "stat", json_pack("{s:s}", "path", path), FOR_EVER, NULL,
                    why);
}

/* ---- small files --------------------------------------------------------------- */

static void small_files_go_and_come_back(void)
{
    enum { FILES = 300, SIZE = 5000 };
    static uint8_t data[SIZE], got[FILES][SIZE];
    struct exchange *x[FILES];
    struct small_get *g[FILES];
    struct small_got what;
    struct problem why;
    struct link *l = come("ada");
    char path[16];

    keel_random(data, sizeof(data));
    for (int i = 0; i < FILES; i++) {
        snprintf(path, sizeof(path), "/f%d", i);
        OK(transfer_put_small(l, put_json("", path, data, (size_t)i * 16, true),
                              data, (size_t)i * 16, &x[i], &why),
           &why);
        if (i < 200)
            continue;
        OK(exchange_reply(x[i - 200], FOR_EVER, NULL, &why), &why);
        exchange_free(x[i - 200]);
    }
    for (int i = FILES - 200; i < FILES; i++) {
        OK(exchange_reply(x[i], FOR_EVER, NULL, &why), &why);
        exchange_free(x[i]);
    }
    for (int i = 0; i < 250; i++) {
        snprintf(path, sizeof(path), "/f%d", i);
        OK(transfer_get_small(l, json_pack("{s:s}", "path", path), CHUNK_SHA256,
                              got[i], (size_t)i * 16, &g[i], &why),
           &why);
    }
    for (int i = 249; i >= 0; i--) {
        OK(small_get_wait(g[i], FOR_EVER, &what, &why), &why);
        assert_int_equal(what.size, i * 16);
        assert_int_equal(what.mtime_ns, 5);
        assert_memory_equal(got[i], data, what.size);
        small_get_free(g[i]);
    }
    leave(l);
}

static void a_file_that_grew_is_not_taken_for_small(void)
{
    uint8_t data[100] = {0}, got[50];
    struct small_got what;
    struct small_get *g;
    struct problem why;
    struct link *l = come("ada");

    OK(put_now(l, "", "/f", data, 100, &why), &why);
    OK(transfer_get_small(l, json_pack("{s:s}", "path", "/f"), CHUNK_SHA256,
                          got, 50, &g, &why),
       &why);
    REFUSED(small_get_wait(g, FOR_EVER, &what, &why), &why, FILE_CHANGED);
    small_get_free(g);
    OK(transfer_get_small(l, json_pack("{s:s}", "path", "/none"), CHUNK_SHA256,
                          got, 50, &g, &why),
       &why);
    REFUSED(small_get_wait(g, FOR_EVER, &what, &why), &why, FILE_MISSING);
    small_get_free(g);
    OK(put_now(l, "", "/g", data, 10, &why), &why);
    OK(transfer_get_small(l, json_pack("{s:s}", "path", "/g"), CHUNK_SHA256,
                          got, 50, &g, &why),
       &why);
    OK(small_get_wait(g, FOR_EVER, &what, &why), &why);
    assert_int_equal(what.size, 10);
    small_get_free(g);
    leave(l);
}

/* ---- what changes in the middle ---------------------------------------------- */

static struct exchange *open_put(struct link *l, const char *space,
                                 const char *path, size_t size)
{
    struct exchange *x;
    struct problem why;
    json_t *note;

    OK(link_call(l, "put", put_json(space, path, NULL, size, false), &x, &why),
       &why);
    OK(exchange_note(x, FOR_EVER, &note, &why), &why);
    json_decref(note);
    return x;
}

static void send_all(struct exchange *x, const uint8_t *data, size_t size)
{
    struct problem why;

    for (size_t at = 0; at < size; at += CHUNK_BYTES)
        OK(exchange_send(x, at, data + at, chunk_size(size, at / CHUNK_BYTES),
                         FOR_EVER, &why),
           &why);
}

static int commit(struct link *l, struct exchange *put, const uint8_t *data,
                  size_t size, const char *level, struct problem *why)
{
    struct digest leaves[8], root;
    char text[DIGEST_TEXT_BYTES];

    for (uint64_t i = 0; i < chunk_count(size); i++)
        chunk_leaf(CHUNK_SHA256, data + i * CHUNK_BYTES, chunk_size(size, i),
                   &leaves[i]);
    chunk_root(CHUNK_SHA256, leaves, chunk_count(size), &root);
    digest_print(CHUNK_SHA256, &root, text);
    return link_ask(l, "put.commit",
                    json_pack("{s:i, s:s, s:s}", "put", (int)exchange_id(put),
                              "root", text, "level", level),
                    FOR_EVER, NULL, why);
}

static void an_account_that_is_disabled_stops_where_it_is(void)
{
    char trace[PROBLEM_TRACE_BYTES];
    struct link *l = come("eve");
    struct problem why = {0};
    struct exchange *put, *get;
    uint8_t *data = keel_calloc(1, 3 << 20);
    json_t *note;

    assert_non_null(data);
    put = open_put(l, "", "/big", 3 << 20);
    send_all(put, data, 3 << 20);
    OK(commit(l, put, data, 3 << 20, "committed", &why), &why);
    OK(exchange_reply(put, FOR_EVER, NULL, &why), &why);
    exchange_free(put);

    put = open_put(l, "", "/f", 3 << 20);
    OK(link_call(l, "get",
                 json_pack("{s:s, s:s}", "path", "/big", "hash", "sha256"),
                 &get, &why),
       &why);
    OK(exchange_note(get, FOR_EVER, &note, &why), &why);
    json_decref(note);
    OK(account_disable(t.world.accounts, "eve", true, &why), &why);
    REFUSED(stat_of(l, "/big", &why), &why, LOGIN_DISABLED);
    link_trace(l, exchange_id(get) + 1, trace);
    assert_string_equal(why.trace, trace);
    REFUSED(put_now(l, "", "/small", data, 10, &why), &why, LOGIN_DISABLED);
    REFUSED(exchange_reply(put, FOR_EVER, NULL, &why), &why, LOGIN_DISABLED);
    REFUSED(exchange_reply(get, FOR_EVER, NULL, &why), &why, LOGIN_DISABLED);
    exchange_free(put);
    exchange_free(get);
    OK(account_disable(t.world.accounts, "eve", false, &why), &why);
    REFUSED(stat_of(l, "/f", &why), &why, FILE_MISSING);
    REFUSED(stat_of(l, "/small", &why), &why, FILE_MISSING);
    leave(l);
    keel_free(data);
}

static void a_grant_that_is_withdrawn_ends_what_it_allowed(void)
{
    const unsigned all = RIGHT_READ | RIGHT_WRITE | RIGHT_LIST;
    struct accounts *a = t.world.accounts;
    struct link *l = come("eve");
    uint8_t *data = keel_calloc(1, 2 << 20);
    struct problem why = {0};
    struct exchange *put;

    assert_non_null(data);
    OK(space_add(a, "team", "mara", 0, 0, &why), &why);
    REFUSED(put_now(l, "team", "/f", data, 5, &why), &why, SPACE_UNKNOWN);
    OK(grant_set(a, "team", "/", "eve", all, &why), &why);
    OK(put_now(l, "team", "/f", data, 5, &why), &why);

    /* While it waits for data. */
    put = open_put(l, "team", "/g", 2 << 20);
    OK(grant_set(a, "team", "/", "eve", RIGHT_READ, &why), &why);
    REFUSED(exchange_reply(put, FOR_EVER, NULL, &why), &why, RIGHT_MISSING);
    exchange_free(put);

    /* Between the last byte and the commit. */
    OK(grant_set(a, "team", "/", "eve", all, &why), &why);
    put = open_put(l, "team", "/g", 2 << 20);
    send_all(put, data, 2 << 20);
    OK(grant_set(a, "team", "/", "eve", RIGHT_READ | RIGHT_LIST, &why), &why);
    REFUSED(commit(l, put, data, 2 << 20, "received", &why), &why,
            RIGHT_MISSING);
    exchange_free(put);
    REFUSED(put_now(l, "team", "/h", data, 5, &why), &why, RIGHT_MISSING);

    /* Who may still make new names replaces nothing: f stays as it was. */
    for (int late = 0; late < 2; late++) {
        OK(grant_set(a, "team", "/", "eve", all, &why), &why);
        put = open_put(l, "team", "/f", 2 << 20);
        if (late)
            send_all(put, data, 2 << 20);
        OK(grant_set(a, "team", "/", "eve", RIGHT_DROP | RIGHT_LIST, &why),
           &why);
        if (late)
            REFUSED(commit(l, put, data, 2 << 20, "received", &why), &why,
                    RIGHT_MISSING);
        else
            REFUSED(exchange_reply(put, FOR_EVER, NULL, &why), &why,
                    RIGHT_MISSING);
        exchange_free(put);
    }
    REFUSED(link_ask(l, "stat",
                     json_pack("{s:s, s:s}", "path", "/g", "space", "team"),
                     FOR_EVER, NULL, &why),
            &why, FILE_MISSING);
    leave(l);
    keel_free(data);
}

/* Bytes are reserved when an upload opens; files are counted at its end. */
static void a_quota_that_is_lowered_takes_no_reservation_back(void)
{
    struct accounts *a = t.world.accounts;
    struct link *l = come("eve");
    uint8_t *data = keel_calloc(1, 2 << 20);
    struct problem why = {0};
    struct exchange *put;

    assert_non_null(data);
    OK(put_now(l, "", "/small", data, 10, &why), &why);
    put = open_put(l, "", "/f", 2 << 20);
    send_all(put, data, 2 << 20);
    OK(space_quota(a, "eve", true, 1 << 20, 1, &why), &why);
    REFUSED(commit(l, put, data, 2 << 20, "committed", &why), &why,
            QUOTA_FILES);
    REFUSED(stat_of(l, "/f", &why), &why, FILE_MISSING);
    OK(space_quota(a, "eve", true, 1 << 20, 0, &why), &why);
    OK(commit(l, put, data, 2 << 20, "committed", &why), &why);
    OK(exchange_reply(put, FOR_EVER, NULL, &why), &why);
    exchange_free(put);
    OK(stat_of(l, "/f", &why), &why);
    REFUSED(put_now(l, "", "/g", data, 10, &why), &why, QUOTA_BYTES);
    leave(l);
    keel_free(data);
}

/* ---- who is here ----------------------------------------------------------------- */

static void connections_are_listed_counted_and_ended(void)
{
    struct native_session s[4];
    struct native_counters n;
    struct problem why = {0};
    struct link *ada = come("ada"), *nobody = come(NULL);
    char trace[PROBLEM_TRACE_BYTES];
    struct exchange *put;
    uint8_t data[10] = {0};
    unsigned other = 0;

    OK(put_now(ada, "", "/f", data, 10, &why), &why);
    REFUSED(put_now(nobody, "", "/f", data, 10, &why), &why, LOGIN_NEEDED);
    put = open_put(ada, "", "/a\033b", 2 << 20);

    assert_int_equal(native_sessions(t.native, s, 4), 2);
    assert_string_equal(s[0].account, "ada");
    assert_string_equal(s[1].account, "");
    assert_string_equal(s[0].doing, "put '/a\\x1bb'");
    assert_string_equal(s[1].doing, "idle");
    assert_int_equal(s[0].bytes_in, 10);
    assert_int_equal(native_sessions(t.native, s, 1), 2);
    link_trace(ada, 17, trace);
    assert_memory_equal(trace, s[0].id, 8);
    assert_string_equal(trace + 8, "-17");

    native_stats(t.native, &n);
    assert_int_equal(n.connections_accepted, 2);
    assert_int_equal(n.connections_now, 2);
    assert_int_equal(n.sessions_now, 1);
    assert_int_equal(n.puts_now, 1);
    assert_int_equal(n.requests_now, 1);
    assert_int_equal(n.bytes_in, 20);
    assert_int_equal(n.inline_bytes_now, 0);
    for (unsigned i = 0; i < n.verb_count; i++) {
        other +=
            i + 1 == n.verb_count && strcmp(native_verb_name(i), "other") == 0;
        if (strcmp(native_verb_name(i), "put") == 0) {
            assert_int_equal(n.verbs[i].ok, 1);
            assert_int_equal(n.verbs[i].refused, 1);
        }
    }
    assert_int_equal(other, 1);
    assert_null(native_verb_name(n.verb_count));

    assert_int_equal(native_kick(t.native, "nobody"), -ENOENT);
    OK(native_kick(t.native, s[0].id), NULL);
    REFUSED(link_wait(ada, FOR_EVER, &why), &why, SESSION_KICKED);
    exchange_free(put);
    link_close(ada);
    assert_int_equal(native_kick_account(t.native, 0, &why), 0);
    leave(nobody);
}

static void limits_change_while_it_runs(void)
{
    struct native_options o = {.connections_max = 2};
    struct keel_stream *pair[2];
    struct link *one = come("one"), *two = come("two"), *three;
    struct link_options lo;
    const json_t *hello;
    struct problem why;

    native_configure(t.native, &o);
    OK(keel_stream_pair(4096, pair), NULL);
    OK(native_connection(t.native, pair[0]), NULL);
    memset(&lo, 0, sizeof(lo));
    lo.agent = "test";
    OK(link_open(pair[1], &lo, &three, &why), &why);
    REFUSED(link_wait(three, FOR_EVER, &why), &why, SERVER_FULL);
    assert_int_equal(why.limit, 2);
    link_close(three);
    assert_int_equal(native_connections(t.native), 2);
    native_turned_away(t.native);
    o.connections_max = 3;
    o.registration = REGISTRATION_CLOSED_;
    native_configure(t.native, &o);
    leave(two);
    two = come(NULL);
    hello = link_peer_hello(two);
    assert_string_equal(
        json_string_value(json_object_get(hello, "registration")), "closed");
    leave(one);
    leave(two);
}

/* ---- running ------------------------------------------------------------------------ */

static int in_loop(void *arg)
{
    town_open();
    ((void (*)(void))(uintptr_t)arg)();
    town_close();
    return 0;
}

#define TEST(name)                                                             \
    static void name##_(void **state)                                          \
    {                                                                          \
        (void)state;                                                           \
        assert_int_equal(keel_run(in_loop, (void *)(uintptr_t)name), 0);       \
    }
TEST(small_files_go_and_come_back)
TEST(a_file_that_grew_is_not_taken_for_small)
TEST(an_account_that_is_disabled_stops_where_it_is)
TEST(a_grant_that_is_withdrawn_ends_what_it_allowed)
TEST(a_quota_that_is_lowered_takes_no_reservation_back)
TEST(connections_are_listed_counted_and_ended)
TEST(limits_change_while_it_runs)

int main(void)
{
#define T(name)                                                                \
    {                                                                          \
#name, name##_, NULL, NULL, NULL                                       \
    }
    const struct CMUnitTest tests[] = {
        T(small_files_go_and_come_back),
        T(a_file_that_grew_is_not_taken_for_small),
        T(an_account_that_is_disabled_stops_where_it_is),
        T(a_grant_that_is_withdrawn_ends_what_it_allowed),
        T(a_quota_that_is_lowered_takes_no_reservation_back),
        T(connections_are_listed_counted_and_ended),
        T(limits_change_while_it_runs),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
