/* SPDX-License-Identifier: MIT */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>

#include <cmocka.h>

#include <errno.h>
#include <pthread.h>
#include <string.h>

#include <keel/co.h>
#include <keel/seam.h>
#include <keel/stream.h>

static struct keel_stream *a, *b;

static void pair_open(size_t size)
{
    struct keel_stream *ends[2];

    assert_int_equal(keel_stream_pair(size, ends), 0);
    a = ends[0];
    b = ends[1];
}

static void pair_shut(void)
{
    keel_stream_close(a);
    keel_stream_close(b);
    a = b = NULL;
}

/* A deadline that no working test reaches. */
static keel_ns soon(void)
{
    return keel_after(20 * KEEL_SECOND);
}

/* ---- the pair --------------------------------------------------------------- */

static void what_is_written_to_one_end_is_read_from_the_other(void **state)
{
    struct iovec iov[3] = {{"he", 2}, {"", 0}, {"llo", 3}};
    char buf[16];

    (void)state;
    pair_open(8);
    assert_int_equal(keel_stream_writev(a, iov, 3, KEEL_NOW), 0);
    assert_int_equal(keel_stream_write(b, "back", 4, KEEL_NOW), 0);
    assert_int_equal(keel_stream_read(b, buf, sizeof buf, KEEL_NOW), 5);
    assert_memory_equal(buf, "hello", 5);
    assert_int_equal(keel_stream_read(a, buf, sizeof buf, KEEL_NOW), 4);
    assert_memory_equal(buf, "back", 4);
    assert_int_equal(keel_stream_read(a, buf, 0, KEEL_NOW), 0);
    assert_int_equal(keel_stream_fd(a), -1);
    pair_shut();
}

static void a_wait_ends_at_its_deadline(void **state)
{
    char buf[16];

    (void)state;
    pair_open(4);
    assert_int_equal(keel_stream_read(a, buf, 1, KEEL_NOW), -ETIMEDOUT);
    assert_int_equal(keel_stream_read(a, buf, 1, keel_after(KEEL_MS)),
                     -ETIMEDOUT);
    assert_int_equal(keel_stream_write(a, "12345", 5, keel_after(KEEL_MS)),
                     -ETIMEDOUT);
    assert_int_equal(keel_stream_read(b, buf, sizeof buf, KEEL_NOW), 4);
    pair_shut();
}

static void finish_ends_one_direction_and_leaves_the_other(void **state)
{
    char buf[16];

    (void)state;
    pair_open(8);
    assert_int_equal(keel_stream_write(a, "last", 4, KEEL_NOW), 0);
    assert_int_equal(keel_stream_finish(a, KEEL_NOW), 0);
    assert_int_equal(keel_stream_write(a, "x", 1, KEEL_NOW), -EPIPE);
    assert_int_equal(keel_stream_read(b, buf, sizeof buf, KEEL_NOW), 4);
    assert_int_equal(keel_stream_read(b, buf, sizeof buf, KEEL_NOW), 0);
    assert_int_equal(keel_stream_read(b, buf, sizeof buf, KEEL_NOW), 0);
    assert_int_equal(keel_stream_write(b, "reply", 5, KEEL_NOW), 0);
    assert_int_equal(keel_stream_read(a, buf, sizeof buf, KEEL_NOW), 5);
    pair_shut();
}

static void
the_peer_of_a_closed_end_reads_the_rest_and_cannot_write(void **state)
{
    char buf[16];

    (void)state;
    pair_open(8);
    assert_int_equal(keel_stream_write(a, "rest", 4, KEEL_NOW), 0);
    keel_stream_close(a);
    a = NULL;
    assert_int_equal(keel_stream_read(b, buf, sizeof buf, KEEL_NOW), 4);
    assert_int_equal(keel_stream_read(b, buf, sizeof buf, KEEL_NOW), 0);
    assert_int_equal(keel_stream_write(b, "x", 1, KEEL_NOW), -EPIPE);
    pair_shut();
}

static void closing_with_bytes_unread_is_a_reset(void **state)
{
    char buf[16];

    (void)state;
    pair_open(8);
    assert_int_equal(keel_stream_write(b, "unread", 6, KEEL_NOW), 0);
    keel_stream_close(a);
    a = NULL;
    assert_int_equal(keel_stream_read(b, buf, sizeof buf, KEEL_NOW),
                     -ECONNRESET);
    pair_shut();
}

enum { MANY = 300000 };

static int pour(void *arg)
{
    struct keel_stream *s = arg;
    unsigned char chunk[7000];
    size_t sent = 0;

    while (sent < MANY) {
        size_t n = 1 + sent % sizeof chunk;

        if (n > MANY - sent)
            n = MANY - sent;
        for (size_t i = 0; i < n; i++)
            chunk[i] = (unsigned char)((sent + i) * 31 >> 3);
        assert_int_equal(keel_stream_write(s, chunk, n, soon()), 0);
        sent += n;
    }
    assert_int_equal(keel_stream_finish(s, soon()), 0);
    return 0;
}

static int drink(void *arg)
{
    struct keel_stream *s = arg;
    unsigned char chunk[5000];
    size_t got = 0;

    for (;;) {
        ssize_t n = keel_stream_read(s, chunk, sizeof chunk, soon());

        assert_true(n >= 0);
        if (n == 0)
            break;
        for (ssize_t i = 0; i < n; i++)
            if (chunk[i] != (unsigned char)((got + (size_t)i) * 31 >> 3))
                fail();
        got += (size_t)n;
    }
    assert_int_equal(got, MANY);
    return 0;
}

static int both_ways_in_coroutines(void *arg)
{
    struct keel_co *co[4];
    int rc;

    (void)arg;
    pair_open(1000);
    assert_int_equal(keel_spawn(NULL, pour, a, &co[0]), 0);
    assert_int_equal(keel_spawn(NULL, drink, b, &co[1]), 0);
    assert_int_equal(keel_spawn(NULL, pour, b, &co[2]), 0);
    assert_int_equal(keel_spawn(NULL, drink, a, &co[3]), 0);
    for (int i = 0; i < 4; i++)
        assert_int_equal(keel_join(co[i], soon(), &rc), 0);
    pair_shut();
    return 0;
}

static void coroutines_pass_more_than_the_buffers_hold(void **state)
{
    (void)state;
    assert_int_equal(keel_run(both_ways_in_coroutines, NULL), 0);
}

static void *pour_in_thread(void *arg)
{
    (void)pour(arg);
    keel_stream_close(arg);
    return NULL;
}

static void *drink_in_loop(void *arg)
{
    assert_int_equal(keel_run(drink, arg), 0);
    keel_stream_close(arg);
    return NULL;
}

static void threads_and_loops_pass_bytes_and_may_close_at_once(void **state)
{
    pthread_t t[2];

    (void)state;
    for (int i = 0; i < 5; i++) {
        pair_open(777);
        assert_int_equal(pthread_create(&t[0], NULL, pour_in_thread, a), 0);
        assert_int_equal(pthread_create(&t[1], NULL, drink_in_loop, b), 0);
        pthread_join(t[0], NULL);
        pthread_join(t[1], NULL);
    }
}

static int read_one(void *arg)
{
    char c;

    return (int)keel_stream_read(arg, &c, 1, KEEL_FOREVER);
}

static int cancel_a_reader(void *arg)
{
    struct keel_co *co;
    int rc = 1;

    (void)arg;
    pair_open(8);
    assert_int_equal(keel_spawn(NULL, read_one, a, &co), 0);
    keel_yield();
    keel_cancel(co);
    assert_int_equal(keel_join(co, soon(), &rc), 0);
    assert_int_equal(rc, -ECANCELED);
    /* nothing was lost */
    assert_int_equal(keel_stream_write(b, "x", 1, KEEL_NOW), 0);
    assert_int_equal(read_one(a), 1);
    pair_shut();
    return 0;
}

static void a_cancelled_reader_leaves_the_stream_whole(void **state)
{
    (void)state;
    assert_int_equal(keel_run(cancel_a_reader, NULL), 0);
}

/* ---- reading exactly ----------------------------------------------------------- */

static void read_all_says_how_much_came_before_the_end(void **state)
{
    char buf[16];
    size_t got = 99;

    (void)state;
    pair_open(8);
    assert_int_equal(keel_stream_write(a, "abcde", 5, KEEL_NOW), 0);
    assert_int_equal(keel_stream_read_all(b, buf, 3, &got, KEEL_NOW), 0);
    assert_int_equal(got, 3);
    assert_int_equal(keel_stream_read_all(b, buf, 3, &got, KEEL_NOW),
                     -ETIMEDOUT);
    assert_int_equal(got, 2);
    assert_int_equal(keel_stream_finish(a, KEEL_NOW), 0);
    assert_int_equal(keel_stream_read_all(b, buf, 3, &got, KEEL_NOW),
                     -ECONNABORTED);
    assert_int_equal(got, 0);
    assert_int_equal(keel_stream_read_all(b, buf, 3, NULL, KEEL_NOW),
                     -ECONNABORTED);
    pair_shut();
}

/* ---- the reader ------------------------------------------------------------------ */

static void a_reader_finds_lines_across_reads(void **state)
{
    keel_auto(reader) struct keel_reader *r = NULL;
    const char *line = NULL;
    char rest[4];

    (void)state;
    pair_open(64);
    assert_int_equal(keel_reader_new(b, 8, &r), 0);
    assert_int_equal(keel_stream_write(a, "one\ntwo\n\nfo", 11, KEEL_NOW), 0);
    assert_int_equal(keel_reader_until(r, '\n', &line, KEEL_NOW), 4);
    assert_memory_equal(line, "one\n", 4);
    assert_int_equal(keel_reader_until(r, '\n', &line, KEEL_NOW), 4);
    assert_memory_equal(line, "two\n", 4);
    assert_int_equal(keel_reader_until(r, '\n', &line, KEEL_NOW), 1);
    assert_int_equal(keel_reader_until(r, '\n', &line, KEEL_NOW), -ETIMEDOUT);
    assert_int_equal(keel_stream_write(a, "ur\n12345", 8, KEEL_NOW), 0);
    assert_int_equal(keel_reader_until(r, '\n', &line, KEEL_NOW), 5);
    assert_memory_equal(line, "four\n", 5);
    assert_int_equal(keel_reader_exact(r, rest, 4, KEEL_NOW), 0);
    assert_memory_equal(rest, "1234", 4);
    assert_int_equal(keel_stream_finish(a, KEEL_NOW), 0);
    assert_int_equal(keel_reader_exact(r, rest, 1, KEEL_NOW), 0);
    assert_int_equal(keel_reader_until(r, '\n', &line, KEEL_NOW), 0);
    assert_int_equal(keel_reader_exact(r, rest, 1, KEEL_NOW), -ECONNABORTED);
    pair_shut();
}

static void a_line_longer_than_the_buffer_is_refused(void **state)
{
    keel_auto(reader) struct keel_reader *r = NULL;
    const char *line = NULL;

    (void)state;
    pair_open(64);
    assert_int_equal(keel_reader_new(b, 8, &r), 0);
    assert_int_equal(keel_stream_write(a, "1234567\n", 8, KEEL_NOW), 0);
    assert_int_equal(keel_reader_until(r, '\n', &line, KEEL_NOW), 8);
    assert_int_equal(keel_stream_write(a, "12345678\n", 9, KEEL_NOW), 0);
    assert_int_equal(keel_reader_until(r, '\n', &line, KEEL_NOW), -EMSGSIZE);
    pair_shut();
}

static void a_line_that_is_cut_is_not_an_orderly_end(void **state)
{
    keel_auto(reader) struct keel_reader *r = NULL;
    const char *line = NULL;

    (void)state;
    pair_open(64);
    assert_int_equal(keel_reader_new(b, 8, &r), 0);
    assert_int_equal(keel_stream_write(a, "cut", 3, KEEL_NOW), 0);
    assert_int_equal(keel_stream_finish(a, KEEL_NOW), 0);
    assert_int_equal(keel_reader_until(r, '\n', &line, KEEL_NOW),
                     -ECONNABORTED);
    pair_shut();
}

static void a_reader_gives_lines_without_their_ends(void **state)
{
    keel_auto(reader) struct keel_reader *r = NULL;
    const char *line;

    (void)state;
    pair_open(64);
    assert_int_equal(keel_reader_new(b, 16, &r), 0);
    assert_int_equal(
        keel_stream_write(a, "one\ntwo\r\n\n\r\nfi\rve\ncut", 21, KEEL_NOW), 0);
    assert_int_equal(keel_reader_line(r, &line, KEEL_NOW), 3);
    assert_string_equal(line, "one");
    assert_int_equal(keel_reader_line(r, &line, KEEL_NOW), 3);
    assert_string_equal(line, "two");
    assert_int_equal(keel_reader_line(r, &line, KEEL_NOW), 0);
    assert_string_equal(line, "");
    assert_int_equal(keel_reader_line(r, &line, KEEL_NOW), 0);
    assert_int_equal(keel_reader_line(r, &line, KEEL_NOW), 5);
    assert_string_equal(line, "fi\rve");
    assert_int_equal(keel_reader_line(r, &line, KEEL_NOW), -ETIMEDOUT);
    assert_int_equal(keel_stream_write(a, " not\n", 5, KEEL_NOW), 0);
    assert_int_equal(keel_reader_line(r, &line, KEEL_NOW), 7);
    assert_string_equal(line, "cut not");
    assert_int_equal(keel_stream_write(a, "cut", 3, KEEL_NOW), 0);
    assert_int_equal(keel_stream_finish(a, KEEL_NOW), 0);
    assert_int_equal(keel_reader_line(r, &line, KEEL_NOW), -ECONNABORTED);
    pair_shut();

    pair_open(64);
    keel_reader_free(keel_take(r));
    assert_int_equal(keel_reader_new(b, 4, &r), 0);
    assert_int_equal(keel_stream_write(a, "abc\nabcd\n", 9, KEEL_NOW), 0);
    assert_int_equal(keel_reader_line(r, &line, KEEL_NOW), 3);
    assert_int_equal(keel_reader_line(r, &line, KEEL_NOW), -EMSGSIZE);
    pair_shut();

    pair_open(64);
    keel_reader_free(keel_take(r));
    assert_int_equal(keel_reader_new(b, 4, &r), 0);
    assert_int_equal(keel_stream_finish(a, KEEL_NOW), 0);
    assert_int_equal(keel_reader_line(r, &line, KEEL_NOW), -ENODATA);
    pair_shut();
}

/* The end may come in parts, and may have begun and not been one. */
static void a_reader_finds_an_end_of_several_bytes(void **state)
{
    static const char text[] = "a\r\nb\r\r\n\r\nrest";
    const char *got;

    (void)state;
    for (size_t cut = 1; cut < sizeof text - 1; cut++) {
        keel_auto(reader) struct keel_reader *r = NULL;
        char rest[8];

        pair_open(64);
        assert_int_equal(keel_reader_new(b, 32, &r), 0);
        assert_int_equal(keel_stream_write(a, text, cut, KEEL_NOW), 0);
        if (cut < 9)
            assert_int_equal(
                keel_reader_until_text(r, "\r\n\r\n", &got, KEEL_NOW),
                -ETIMEDOUT);
        assert_int_equal(
            keel_stream_write(a, text + cut, sizeof text - 1 - cut, KEEL_NOW),
            0);
        assert_int_equal(keel_reader_until_text(r, "\r\n\r\n", &got, KEEL_NOW),
                         9);
        assert_memory_equal(got, text, 9);
        assert_int_equal(keel_reader_read(r, rest, 2, KEEL_NOW), 2);
        assert_memory_equal(rest, "re", 2);
        /* what is in the buffer; then the stream's own */
        while (keel_reader_read(r, rest, 1, KEEL_NOW) == 1)
            ;
        assert_int_equal(*rest, 't');
        assert_int_equal(keel_stream_write(a, "more", 4, KEEL_NOW), 0);
        assert_int_equal(keel_reader_read(r, rest, 8, KEEL_NOW), 4);
        assert_int_equal(keel_stream_finish(a, KEEL_NOW), 0);
        assert_int_equal(keel_reader_read(r, rest, 8, KEEL_NOW), 0);
        assert_int_equal(keel_reader_until_text(r, "\r\n\r\n", &got, KEEL_NOW),
                         0);
        pair_shut();
    }
}

static void a_writer_joins_small_pieces_and_keeps_their_order(void **state)
{
    keel_auto(writer) struct keel_writer *w = NULL;
    char buf[64];

    (void)state;
    pair_open(64);
    assert_int_equal(keel_writer_new(a, 8, &w), 0);
    assert_int_equal(keel_writer_flush(w, KEEL_NOW), 0);
    assert_int_equal(keel_writer_put(w, NULL, 0, KEEL_NOW), 0);
    assert_int_equal(keel_writer_put(w, "12345", 5, KEEL_NOW), 0);
    assert_int_equal(keel_writer_put(w, "678", 3, KEEL_NOW), 0); /* full */
    assert_int_equal(keel_stream_read(b, buf, sizeof buf, KEEL_NOW),
                     -ETIMEDOUT);
    assert_int_equal(keel_writer_put(w, "9", 1, KEEL_NOW), 0);
    assert_int_equal(keel_stream_read(b, buf, sizeof buf, KEEL_NOW), 9);
    assert_memory_equal(buf, "123456789", 9);
    assert_int_equal(keel_writer_put(w, "ab", 2, KEEL_NOW), 0);
    /* longer than the buffer: not copied */
    assert_int_equal(keel_writer_put(w, "cdefghijklm", 11, KEEL_NOW), 0);
    assert_int_equal(keel_writer_put(w, "n", 1, KEEL_NOW), 0);
    assert_int_equal(keel_writer_flush(w, KEEL_NOW), 0);
    assert_int_equal(keel_stream_read(b, buf, sizeof buf, KEEL_NOW), 14);
    assert_memory_equal(buf, "abcdefghijklmn", 14);

    assert_int_equal(keel_writer_put(w, "lost", 4, KEEL_NOW), 0);
    keel_writer_free(keel_take(w));
    assert_int_equal(keel_stream_read(b, buf, sizeof buf, KEEL_NOW),
                     -ETIMEDOUT);
    assert_int_equal(keel_writer_new(a, 8, &w), 0);
    assert_int_equal(keel_writer_put(w, "x", 1, KEEL_NOW), 0);
    keel_stream_close(b);
    b = NULL;
    assert_int_equal(keel_writer_flush(w, KEEL_NOW), -EPIPE);
    pair_shut();
}

/* ---- memory --------------------------------------------------------------------- */

static _Atomic int allocs_left;

static int fail_alloc(enum keel_op op, size_t *size)
{
    (void)size;
    return op == KEEL_OP_ALLOC && --allocs_left == 0 ? -ENOMEM : 0;
}

static void constructors_survive_each_allocation_failure(void **state)
{
    struct keel_stream *ends[2] = {NULL, NULL};
    struct keel_reader *r = NULL;
    struct keel_writer *w = NULL;

    (void)state;
    for (int nth = 1; nth <= 3; nth++) {
        allocs_left = nth;
        keel_seam.fault = fail_alloc;
        assert_int_equal(keel_stream_pair(16, ends), -ENOMEM);
        keel_seam.fault = NULL;
        assert_null(ends[0]);
    }
    allocs_left = 1;
    keel_seam.fault = fail_alloc;
    assert_int_equal(keel_reader_new(NULL, 16, &r), -ENOMEM);
    keel_seam.fault = NULL;
    assert_int_equal(keel_reader_new(NULL, SIZE_MAX, &r), -ENOMEM);
    allocs_left = 1;
    keel_seam.fault = fail_alloc;
    assert_int_equal(keel_writer_new(NULL, 16, &w), -ENOMEM);
    keel_seam.fault = NULL;
    assert_int_equal(keel_writer_new(NULL, SIZE_MAX, &w), -ENOMEM);
    assert_null(w);
    keel_writer_free(NULL);
    assert_null(r);
    keel_stream_close(NULL);
    keel_reader_free(NULL);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(what_is_written_to_one_end_is_read_from_the_other),
        cmocka_unit_test(a_wait_ends_at_its_deadline),
        cmocka_unit_test(finish_ends_one_direction_and_leaves_the_other),
        cmocka_unit_test(
            the_peer_of_a_closed_end_reads_the_rest_and_cannot_write),
        cmocka_unit_test(closing_with_bytes_unread_is_a_reset),
        cmocka_unit_test(coroutines_pass_more_than_the_buffers_hold),
        cmocka_unit_test(threads_and_loops_pass_bytes_and_may_close_at_once),
        cmocka_unit_test(a_cancelled_reader_leaves_the_stream_whole),
        cmocka_unit_test(read_all_says_how_much_came_before_the_end),
        cmocka_unit_test(a_reader_finds_lines_across_reads),
        cmocka_unit_test(a_line_longer_than_the_buffer_is_refused),
        cmocka_unit_test(a_line_that_is_cut_is_not_an_orderly_end),
        cmocka_unit_test(a_reader_gives_lines_without_their_ends),
        cmocka_unit_test(a_reader_finds_an_end_of_several_bytes),
        cmocka_unit_test(a_writer_joins_small_pieces_and_keeps_their_order),
        cmocka_unit_test(constructors_survive_each_allocation_failure),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
