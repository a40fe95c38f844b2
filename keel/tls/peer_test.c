/* SPDX-License-Identifier: MIT */
#include <keel/peer.h>

#include "test/test.h"

#include <openssl/evp.h>
#include <openssl/hmac.h>

#include <keel/net.h>

#define SOON (keel_after(10 * KEEL_SECOND))

enum { CHALLENGE = 36, ANSWER = 68, VERDICT = 36 };

static const struct keel_peer_key
    key = {.secret = "0123456789abcdef0123456789abcdef", .secret_size = 32},
    wrong = {.secret = "0123456789abcdef0123456789abcdeg", .secret_size = 32};

/* The real one in a coroutine, while the test plays the other end. */
struct real {
    struct keel_stream *stream;
    const struct keel_peer_key *key;
    int (*call)(struct keel_stream *s, const struct keel_peer_key *key,
                keel_ns deadline);
    keel_ns deadline;
    struct keel_co *co;
};

static int real_run(void *arg)
{
    struct real *r = arg;

    return r->call(r->stream, r->key, r->deadline);
}

static void begin(struct real *r)
{
    if (!r->deadline)
        r->deadline = SOON;
    r->co = test_spawn(real_run, r);
}

static int end(struct real *r, struct keel_stream *ours)
{
    int rc = test_join(r->co);

    keel_stream_close(r->stream);
    keel_stream_close(ours);
    return rc;
}

static struct real server(struct keel_stream **ret_ours, size_t room)
{
    struct keel_stream *pair[2];
    struct real r = {.key = &key, .call = keel_peer_challenge};

    assert_int_equal(keel_stream_pair(room, pair), 0);
    r.stream = pair[0];
    *ret_ours = pair[1];
    return r;
}

static struct real client(struct keel_stream **ret_ours)
{
    struct real r = server(ret_ours, 1000);

    r.call = keel_peer_answer;
    return r;
}

static void put(struct keel_stream *s, const void *bytes, size_t size)
{
    assert_int_equal(keel_stream_write(s, bytes, size, SOON), 0);
}

static void get(struct keel_stream *s, void *ret, size_t size)
{
    assert_int_equal(keel_stream_read_all(s, ret, size, NULL, SOON), 0);
}

/* The MAC by the header's words alone. */
static void mac(const struct keel_peer_key *k, const char *role, const char *s,
                const char *c, char ret[32])
{
    char in[16 + 32 + 32 + 256] = {0};
    unsigned size = 0;

    strcpy(in, role);
    memcpy(in + 16, s, 32);
    memcpy(in + 48, c, 32);
    if (k->context)
        memcpy(in + 80, k->context, k->context_size);
    assert_non_null(HMAC(EVP_sha256(), k->secret, (int)k->secret_size,
                         (const unsigned char *)in, 80 + k->context_size,
                         (unsigned char *)ret, &size));
    assert_int_equal(size, 32);
}

/* Our answer to a challenge. */
static void answer_make(const struct keel_peer_key *k,
                        const char asked[CHALLENGE], char ret[ANSWER])
{
    memcpy(ret, "KPA1", 4);
    memset(ret + 4, 'c', 32);
    mac(k, "answer", asked + 4, ret + 4, ret + 36);
}

/* ---- who has the key ---- */

static int both(const struct keel_peer_key *a, const struct keel_peer_key *b,
                int *ret_client)
{
    struct keel_stream *pair[2];
    struct real s = {.key = a, .call = keel_peer_challenge},
                c = {.key = b, .call = keel_peer_answer};
    int rc;

    assert_int_equal(keel_stream_pair(1000, pair), 0);
    s.stream = pair[0];
    c.stream = pair[1];
    begin(&s);
    begin(&c);
    rc = test_join(s.co);
    *ret_client = end(&c, s.stream);
    return rc;
}

CO_TEST(two_that_have_the_key_are_legitimate_to_each_other)
{
    int c;

    assert_int_equal(both(&key, &key, &c), 0);
    assert_int_equal(c, 0);
    return 0;
}

CO_TEST(a_wrong_key_is_refused_and_told_so)
{
    int c;

    assert_int_equal(both(&key, &wrong, &c), -EACCES);
    assert_int_equal(c, -EACCES);
    return 0;
}

CO_TEST(a_key_is_bound_to_the_context_where_one_is_given)
{
    struct keel_peer_key here = key, there = key;
    int c;

    here.context = "this connection";
    here.context_size = 15;
    there.context = "another one    ";
    there.context_size = 15;
    assert_int_equal(both(&here, &here, &c), 0);
    assert_int_equal(both(&here, &there, &c), -EACCES);
    assert_int_equal(both(&here, &key, &c), -EACCES);
    there.context = here.context;
    there.context_size = 14;
    assert_int_equal(both(&here, &there, &c), -EACCES);
    return 0;
}

CO_TEST(a_key_beyond_the_limits_is_refused_before_anything_is_said)
{
    static const char much[KEEL_PEER_SECRET_MOST + 1];
    const struct keel_peer_key bad[] = {
        {.secret = much, .secret_size = KEEL_PEER_SECRET_LEAST - 1},
        {.secret = much, .secret_size = KEEL_PEER_SECRET_MOST + 1},
        {.secret = much,
         .secret_size = 32,
         .context = much,
         .context_size = KEEL_PEER_CONTEXT_MOST + 1},
    };
    struct keel_stream *pair[2];
    char byte;

    assert_int_equal(keel_stream_pair(1000, pair), 0);
    for (size_t i = 0; i < 3; i++) {
        assert_int_equal(keel_peer_challenge(pair[0], &bad[i], SOON), -EINVAL);
        assert_int_equal(keel_peer_answer(pair[0], &bad[i], SOON), -EINVAL);
    }
    assert_int_equal(keel_stream_read(pair[1], &byte, 1, KEEL_NOW), -ETIMEDOUT);
    keel_stream_close(pair[0]);
    keel_stream_close(pair[1]);
    return 0;
}

/* ---- the bytes ---- */

CO_TEST(the_bytes_are_as_drawn_and_nonces_are_fresh)
{
    char asked[2][CHALLENGE], mine[ANSWER], said[VERDICT], right[32];

    for (int i = 0; i < 2; i++) {
        struct keel_stream *ours;
        struct real r = server(&ours, 1000);

        begin(&r);
        get(ours, asked[i], CHALLENGE);
        assert_memory_equal(asked[i], "KPC1", 4);
        answer_make(&key, asked[i], mine);
        put(ours, mine, ANSWER);
        get(ours, said, VERDICT);
        assert_memory_equal(said, "KPW1", 4);
        mac(&key, "welcome", asked[i] + 4, mine + 4, right);
        assert_memory_equal(said + 4, right, 32);
        assert_int_equal(end(&r, ours), 0);
    }
    assert_memory_not_equal(asked[0] + 4, asked[1] + 4, 32);
    return 0;
}

CO_TEST(a_wrong_key_costs_the_server_one_round_trip_and_no_more)
{
    struct keel_stream *ours;
    struct real r = server(&ours, 1000);
    char asked[CHALLENGE], mine[2 * ANSWER] = {0}, said[VERDICT];
    static const char zeros[32];

    begin(&r);
    get(ours, asked, CHALLENGE);
    answer_make(&wrong, asked, mine);
    put(ours, mine, sizeof(mine)); /* and more, which it does not read */
    assert_int_equal(test_join(r.co), -EACCES);
    get(ours, said, VERDICT);
    assert_memory_equal(said, "KPN1", 4);
    assert_memory_equal(said + 4, zeros, 32); /* nothing made with the key */
    /* The second answer still lies there. */
    get(r.stream, mine, ANSWER);
    assert_int_equal(keel_stream_read(r.stream, mine, 1, KEEL_NOW), -ETIMEDOUT);
    keel_stream_close(r.stream);
    keel_stream_close(ours);
    return 0;
}

CO_TEST(who_is_refused_and_does_not_read_holds_nobody_up)
{
    struct keel_stream *ours;
    struct real r = server(&ours, CHALLENGE); /* full with that */
    char mine[ANSWER] = "KPA1";

    r.deadline = KEEL_FOREVER;
    begin(&r);
    put(ours, mine, ANSWER);
    assert_int_equal(end(&r, ours), -EACCES);
    return 0;
}

CO_TEST(each_changed_byte_of_an_answer_is_noticed)
{
    for (size_t at = 0; at < ANSWER; at++) {
        struct keel_stream *ours;
        struct real r = server(&ours, 1000);
        char asked[CHALLENGE], mine[ANSWER];

        begin(&r);
        get(ours, asked, CHALLENGE);
        answer_make(&key, asked, mine);
        mine[at] = (char)(mine[at] ^ (1 << at % 8));
        put(ours, mine, ANSWER);
        assert_int_equal(end(&r, ours), at < 4 ? -EPROTO : -EACCES);
    }
    return 0;
}

/* ---- reflection and replay ---- */

CO_TEST(what_one_said_comes_back_in_vain)
{
    struct keel_stream *ours;
    struct real r = client(&ours);
    char asked[CHALLENGE] = "KPC1", theirs[ANSWER], said[VERDICT] = "KPW1";

    /* A server without the key sends the client's own proof back. */
    begin(&r);
    put(ours, asked, CHALLENGE);
    get(ours, theirs, ANSWER);
    memcpy(said + 4, theirs + 36, 32);
    put(ours, said, VERDICT);
    assert_int_equal(end(&r, ours), -EACCES);

    /* A client without it sends the server's nonce back for its own, with a
     * proof that somebody made in the server's role. */
    r = server(&ours, 1000);
    begin(&r);
    get(ours, asked, CHALLENGE);
    memcpy(theirs, "KPA1", 4);
    memcpy(theirs + 4, asked + 4, 32);
    mac(&key, "welcome", asked + 4, asked + 4, theirs + 36);
    put(ours, theirs, ANSWER);
    assert_int_equal(end(&r, ours), -EACCES);
    return 0;
}

CO_TEST(what_was_said_before_is_of_no_use_again)
{
    struct keel_stream *ours;
    struct real r = server(&ours, 1000);
    char asked[CHALLENGE], mine[ANSWER], said[VERDICT];

    begin(&r);
    get(ours, asked, CHALLENGE);
    answer_make(&key, asked, mine);
    put(ours, mine, ANSWER);
    get(ours, said, VERDICT);
    assert_int_equal(end(&r, ours), 0);

    r = server(&ours, 1000);
    begin(&r);
    put(ours, mine, ANSWER);
    assert_int_equal(end(&r, ours), -EACCES);

    r = client(&ours);
    begin(&r);
    put(ours, asked, CHALLENGE);
    put(ours, said, VERDICT);
    assert_int_equal(end(&r, ours), -EACCES);
    return 0;
}

/* ---- who is no peer at all ---- */

CO_TEST(who_says_nothing_is_waited_for_until_the_deadline)
{
    struct keel_stream *ours;
    struct real r = server(&ours, 1000);

    r.deadline = keel_after(20 * KEEL_MS);
    begin(&r);
    assert_int_equal(end(&r, ours), -ETIMEDOUT);
    r = client(&ours);
    r.deadline = keel_after(20 * KEEL_MS);
    begin(&r);
    assert_int_equal(end(&r, ours), -ETIMEDOUT);
    return 0;
}

CO_TEST(who_leaves_in_the_middle_is_told_from_who_does_not_know)
{
    struct keel_stream *ours;

    for (size_t sent = 0; sent < ANSWER; sent += 3) {
        struct real r = server(&ours, 1000);
        char asked[CHALLENGE], mine[ANSWER] = "KPA1";

        begin(&r);
        get(ours, asked, CHALLENGE);
        if (sent)
            put(ours, mine, sent);
        keel_stream_close(ours);
        assert_int_equal(end(&r, NULL), -ECONNABORTED);
    }
    return 0;
}

CO_TEST(another_protocol_is_noticed_by_four_bytes)
{
    struct keel_stream *ours;
    struct real r = server(&ours, 1000);

    r.deadline = KEEL_FOREVER;
    begin(&r);
    put(ours, "GET / HTTP/1.1\r\n\r\n", 18);
    assert_int_equal(end(&r, ours), -EPROTO);

    r = client(&ours);
    r.deadline = KEEL_FOREVER;
    begin(&r);
    put(ours, "220 mail.example\r\n", 18);
    assert_int_equal(end(&r, ours), -EPROTO);

    r = client(&ours); /* a good beginning does not help */
    r.deadline = KEEL_FOREVER;
    begin(&r);
    put(ours, "KPC1................................", CHALLENGE);
    put(ours, "what?", 5);
    assert_int_equal(end(&r, ours), -EPROTO);
    return 0;
}

/* ---- threads ---- */

static void *dials(void *arg)
{
    struct keel_stream *s = NULL;
    int rc = keel_dial(arg, SOON, &s);

    if (rc == 0)
        rc = keel_peer_answer(s, &key, SOON);
    keel_stream_close(s);
    return (void *)(intptr_t)rc;
}

static void threads_prove_it_to_each_other_over_a_socket(void **state)
{
    struct keel_listener *l;
    struct keel_stream *s;
    pthread_t id;
    void *rc;

    (void)state;
    assert_int_equal(keel_listen("127.0.0.1:0", &l), 0);
    assert_int_equal(
        pthread_create(&id, NULL, dials,
                       (void *)(uintptr_t)keel_listener_address(l)),
        0);
    assert_int_equal(keel_accept(l, SOON, &s), 0);
    assert_int_equal(keel_peer_challenge(s, &key, SOON), 0);
    assert_int_equal(pthread_join(id, &rc), 0);
    assert_int_equal((intptr_t)rc, 0);
    keel_stream_close(s);
    keel_listener_close(l);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(two_that_have_the_key_are_legitimate_to_each_other),
        cmocka_unit_test(a_wrong_key_is_refused_and_told_so),
        cmocka_unit_test(a_key_is_bound_to_the_context_where_one_is_given),
        cmocka_unit_test(
            a_key_beyond_the_limits_is_refused_before_anything_is_said),
        cmocka_unit_test(the_bytes_are_as_drawn_and_nonces_are_fresh),
        cmocka_unit_test(
            a_wrong_key_costs_the_server_one_round_trip_and_no_more),
        cmocka_unit_test(who_is_refused_and_does_not_read_holds_nobody_up),
        cmocka_unit_test(each_changed_byte_of_an_answer_is_noticed),
        cmocka_unit_test(what_one_said_comes_back_in_vain),
        cmocka_unit_test(what_was_said_before_is_of_no_use_again),
        cmocka_unit_test(who_says_nothing_is_waited_for_until_the_deadline),
        cmocka_unit_test(
            who_leaves_in_the_middle_is_told_from_who_does_not_know),
        cmocka_unit_test(another_protocol_is_noticed_by_four_bytes),
        cmocka_unit_test(threads_prove_it_to_each_other_over_a_socket),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
