/* SPDX-License-Identifier: MIT */
#include <keel/connection.h>

#include "test/test.h"

#include <stdio.h>
#include <unistd.h>

#include <keel/process.h>

#include "test/fault.h"

#define SOON (keel_after(20 * KEEL_SECOND))

enum { MOST = 1 << 20 };

static const struct keel_peer_key
    key = {.secret = "0123456789abcdef0123456789abcdef", .secret_size = 32},
    wrong = {.secret = "0123456789abcdef0123456789abcdeg", .secret_size = 32};

static const char *own_path(void)
{
    static char path[80];

    snprintf(path, sizeof(path), "unix:/tmp/keel_connection_test_%d", getpid());
    return path;
}

static struct keel_connection_listener *listener(const char *address)
{
    struct keel_connection_listener *l = NULL;

    assert_int_equal(keel_connection_listen(address, &key, &l), 0);
    return l;
}

static struct keel_connection *dial(struct keel_connection_listener *l)
{
    struct keel_connection *c = NULL;

    assert_int_equal(keel_connection_dial(keel_connection_listener_address(l),
                                          &key, SOON, &c),
                     0);
    return c;
}

static struct keel_connection *accepted(struct keel_connection_listener *l)
{
    struct keel_connection *c = NULL;

    assert_int_equal(keel_connection_accept(l, SOON, &c), 0);
    return c;
}

/* Both ends of one. */
static void pair(struct keel_connection_listener *l,
                 struct keel_connection *ret[2])
{
    ret[0] = dial(l);
    ret[1] = accepted(l);
}

static void put(struct keel_connection *c, const char *text)
{
    assert_int_equal(keel_connection_put(c, text, strlen(text), SOON), 0);
}

static void expect(struct keel_connection *c, const char *text)
{
    void *got = NULL;

    assert_int_equal(keel_connection_get(c, MOST, &got, SOON), strlen(text));
    assert_memory_equal(got, text, strlen(text));
    keel_free(got);
}

static struct keel_stream *stranger(struct keel_connection_listener *l)
{
    struct keel_stream *s = NULL;

    assert_int_equal(keel_dial(keel_connection_listener_address(l), SOON, &s),
                     0);
    return s;
}

/* ---- messages ---- */

CO_TEST(messages_arrive_whole_and_in_order_both_ways)
{
    const char *const addresses[] = {"127.0.0.1:0", own_path()};

    for (size_t a = 0; a < 2; a++) {
        struct keel_connection_listener *l = listener(addresses[a]);
        struct keel_connection *c[2];

        pair(l, c);
        for (int end = 0; end < 2; end++) {
            put(c[end], "one");
            put(c[end], "");
            put(c[end], "three");
            expect(c[1 - end], "one");
            expect(c[1 - end], "");
            expect(c[1 - end], "three");
        }
        keel_connection_close(c[0]);
        keel_connection_close(c[1]);
        keel_connection_listener_close(l);
    }
    return 0;
}

static int put_large(void *arg)
{
    char *large = keel_calloc(1, MOST);
    int rc;

    memset(large, 'L', MOST);
    rc = keel_connection_put(arg, large, MOST, SOON);
    keel_free(large);
    return rc;
}

CO_TEST(a_large_message_crosses_while_its_other_end_reads)
{
    struct keel_connection_listener *l = listener("127.0.0.1:0");
    struct keel_connection *c[2];
    struct keel_co *co;
    void *got = NULL;

    pair(l, c);
    co = test_spawn(put_large, c[0]);
    assert_int_equal(keel_connection_get(c[1], MOST, &got, SOON), MOST);
    assert_int_equal(((char *)got)[MOST - 1], 'L');
    keel_free(got);
    assert_int_equal(test_join(co), 0);
    keel_connection_close(c[0]);
    keel_connection_close(c[1]);
    keel_connection_listener_close(l);
    return 0;
}

CO_TEST(a_message_that_is_too_long_stays_for_who_has_room)
{
    struct keel_connection_listener *l = listener("127.0.0.1:0");
    struct keel_connection *c[2];
    void *got = NULL;

    pair(l, c);
    put(c[0], "12345");
    assert_int_equal(keel_connection_get(c[1], 4, &got, SOON), -EMSGSIZE);
    assert_int_equal(keel_connection_get(c[1], 4, &got, SOON), -EMSGSIZE);
    fault_fail_alloc(1);
    assert_int_equal(keel_connection_get(c[1], 5, &got, SOON), -ENOMEM);
    fault_clear();
    assert_int_equal(keel_connection_get(c[1], 5, &got, SOON), 5);
    assert_memory_equal(got, "12345", 5);
    keel_free(got);
    keel_connection_close(c[0]);
    keel_connection_close(c[1]);
    keel_connection_listener_close(l);
    return 0;
}

CO_TEST(a_get_that_ran_out_of_time_has_lost_nothing)
{
    static const char message[] = "\0\0\0\5hello";
    struct keel_connection_listener *l = listener("127.0.0.1:0");
    struct keel_connection *c[2];
    void *got = NULL;

    pair(l, c);
    for (size_t i = 0; i < 9; i++) {
        assert_int_equal(keel_stream_write(keel_connection_stream(c[0]),
                                           message + i, 1, SOON),
                         0);
        if (i < 8)
            assert_int_equal(
                keel_connection_get(c[1], MOST, &got, keel_after(2 * KEEL_MS)),
                -ETIMEDOUT);
    }
    expect(c[1], "hello");
    keel_connection_close(c[0]);
    keel_connection_close(c[1]);
    keel_connection_listener_close(l);
    return 0;
}

CO_TEST(a_put_that_ran_out_of_time_is_the_last)
{
    struct keel_connection_listener *l = listener("127.0.0.1:0");
    struct keel_connection *c[2];
    char *large = keel_calloc(32, MOST);
    void *got;

    pair(l, c);
    assert_int_equal(keel_connection_put(c[0], large, 32 * (size_t)MOST,
                                         keel_after(10 * KEEL_MS)),
                     -ETIMEDOUT);
    assert_int_equal(keel_connection_put(c[0], "x", 1, SOON), -EPIPE);
    put(c[1], "it can still get");
    expect(c[0], "it can still get");
    keel_connection_close(c[0]);
    assert_int_equal(keel_connection_get(c[1], 32 * (size_t)MOST, &got, SOON),
                     -ECONNABORTED);
    keel_connection_close(c[1]);
    keel_connection_listener_close(l);
    keel_free(large);
    return 0;
}

CO_TEST(the_end_between_messages_is_told_from_the_end_inside_one)
{
    static const char *const cut[] = {"", "\0", "\0\0\0\5", "\0\0\0\5hell"};
    static const size_t size[] = {0, 1, 4, 8};
    struct keel_connection_listener *l = listener("127.0.0.1:0");
    struct keel_connection *c[2];
    void *got;

    for (size_t i = 0; i < 4; i++) {
        pair(l, c);
        put(c[0], "whole");
        assert_int_equal(keel_stream_write(keel_connection_stream(c[0]), cut[i],
                                           size[i], SOON),
                         0);
        keel_connection_close(c[0]);
        expect(c[1], "whole");
        assert_int_equal(keel_connection_get(c[1], MOST, &got, SOON),
                         i == 0 ? -ENODATA : -ECONNABORTED);
        keel_connection_close(c[1]);
    }
    keel_connection_listener_close(l);
    return 0;
}

/* ---- who may come ---- */

CO_TEST(a_wrong_key_never_reaches_accept)
{
    struct keel_connection_listener *l = listener("127.0.0.1:0");
    struct keel_connection *c = NULL;

    assert_int_equal(keel_connection_dial(keel_connection_listener_address(l),
                                          &wrong, SOON, &c),
                     -EACCES);
    assert_int_equal(keel_connection_accept(l, keel_after(10 * KEEL_MS), &c),
                     -ETIMEDOUT);
    while (keel_connection_refused(l) < 1)
        keel_sleep(keel_after(KEEL_MS));
    keel_connection_listener_close(l);
    return 0;
}

CO_TEST(who_says_nothing_or_vanishes_keeps_nobody_waiting)
{
    struct keel_connection_listener *l = listener("127.0.0.1:0");
    struct keel_stream *silent[20];
    struct keel_connection *c[2];

    for (size_t i = 0; i < 20; i++) {
        silent[i] = stranger(l);
        if (i % 2)
            keel_stream_close(keel_take(silent[i]));
    }
    pair(l, c);
    put(c[0], "served meanwhile");
    expect(c[1], "served meanwhile");
    keel_connection_close(c[0]);
    keel_connection_close(c[1]);
    keel_connection_listener_close(l); /* waits for none of them */
    for (size_t i = 0; i < 20; i++)
        keel_stream_close(silent[i]);
    return 0;
}

CO_TEST(who_has_proven_the_key_and_left_is_told_from_who_never_came)
{
    struct keel_connection_listener *l = listener("127.0.0.1:0");
    struct keel_connection *c = dial(l);
    void *got;

    put(c, "farewell");
    keel_connection_close(c);
    c = accepted(l);
    expect(c, "farewell");
    assert_int_equal(keel_connection_get(c, MOST, &got, SOON), -ENODATA);
    keel_connection_close(c);
    keel_connection_listener_close(l);
    return 0;
}

CO_TEST(more_than_are_accepted_wait_in_order)
{
    enum { MANY = 100 };
    struct keel_connection_listener *l = listener("127.0.0.1:0");
    struct keel_connection *c[MANY];

    for (int i = 0; i < MANY; i++) {
        c[i] = dial(l);
        put(c[i], "x");
    }
    for (int i = 0; i < MANY; i++) {
        struct keel_connection *s = accepted(l);

        expect(s, "x");
        keel_connection_close(s);
    }
    for (int i = 0; i < MANY; i++)
        keel_connection_close(c[i]);
    keel_connection_listener_close(l);
    return 0;
}

CO_TEST(a_key_without_enough_bytes_or_with_context_is_refused)
{
    struct keel_peer_key bad = key;
    struct keel_connection_listener *l = NULL;

    bad.secret_size = KEEL_PEER_SECRET_LEAST - 1;
    assert_int_equal(keel_connection_listen("127.0.0.1:0", &bad, &l), -EINVAL);
    bad = key;
    bad.context = "a connection that is not there yet";
    bad.context_size = 10;
    assert_int_equal(keel_connection_listen("127.0.0.1:0", &bad, &l), -EINVAL);
    assert_int_equal(keel_connection_listen("nowhere", &key, &l), -EINVAL);
    return 0;
}

static int accept_in(void *arg)
{
    struct keel_connection *c = NULL;

    return keel_connection_accept(arg, KEEL_FOREVER, &c);
}

CO_TEST(closing_the_listener_closes_who_was_not_accepted)
{
    struct keel_connection_listener *l = listener("127.0.0.1:0");
    struct keel_co *co = test_spawn(accept_in, l);
    struct keel_connection *left;
    void *got;
    ssize_t rc;

    keel_yield();
    keel_cancel(co);
    assert_int_equal(test_join(co), -ECANCELED);
    left = dial(l);
    keel_connection_listener_close(l);
    rc = keel_connection_get(left, MOST, &got, SOON);
    assert_true(rc == -ENODATA || rc == -ECONNRESET);
    keel_connection_close(left);
    return 0;
}

/* ---- between processes, and in threads ---- */

KEEL_PROCESS(doubles)
{
    struct keel_connection *c = NULL;
    void *got = NULL;
    ssize_t size;

    if (keel_connection_dial(arg->data, &key, SOON, &c) < 0)
        return 1;
    while ((size = keel_connection_get(c, sizeof(int), &got, SOON)) ==
           sizeof(int)) {
        int n = *(int *)got * 2;

        keel_free(got);
        if (keel_connection_put(c, &n, sizeof(n), SOON) < 0)
            return 2;
    }
    keel_connection_close(c);
    return size == -ENODATA ? 0 : 3;
}

static void a_plain_thread_talks_to_a_process(void **state)
{
    const char *const addresses[] = {"127.0.0.1:0", own_path()};

    (void)state;
    for (size_t a = 0; a < 2; a++) {
        struct keel_connection_listener *l = listener(addresses[a]);
        const char *address = keel_connection_listener_address(l);
        const struct keel_process_how how = {.arg = address,
                                             .arg_size = strlen(address) + 1};
        struct keel_process *p = NULL;
        struct keel_connection *c;
        int code;

        assert_int_equal(keel_process_start("doubles", &how, &p), 0);
        c = accepted(l);
        for (int n = 0; n < 100; n++) {
            void *got = NULL;

            assert_int_equal(keel_connection_put(c, &n, sizeof(n), SOON), 0);
            assert_int_equal(keel_connection_get(c, MOST, &got, SOON),
                             sizeof(n));
            assert_int_equal(*(int *)got, 2 * n);
            keel_free(got);
        }
        keel_connection_close(c);
        assert_int_equal(keel_process_join(p, SOON, NULL), 0);
        assert_int_equal(keel_process_exitcode(p, &code), 0);
        assert_int_equal(code, 0);
        keel_process_free(p);
        keel_connection_listener_close(l);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(messages_arrive_whole_and_in_order_both_ways),
        cmocka_unit_test(a_large_message_crosses_while_its_other_end_reads),
        cmocka_unit_test(a_message_that_is_too_long_stays_for_who_has_room),
        cmocka_unit_test(a_get_that_ran_out_of_time_has_lost_nothing),
        cmocka_unit_test(a_put_that_ran_out_of_time_is_the_last),
        cmocka_unit_test(
            the_end_between_messages_is_told_from_the_end_inside_one),
        cmocka_unit_test(a_wrong_key_never_reaches_accept),
        cmocka_unit_test(who_says_nothing_or_vanishes_keeps_nobody_waiting),
        cmocka_unit_test(
            who_has_proven_the_key_and_left_is_told_from_who_never_came),
        cmocka_unit_test(more_than_are_accepted_wait_in_order),
        cmocka_unit_test(a_key_without_enough_bytes_or_with_context_is_refused),
        cmocka_unit_test(closing_the_listener_closes_who_was_not_accepted),
        cmocka_unit_test(a_plain_thread_talks_to_a_process),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
