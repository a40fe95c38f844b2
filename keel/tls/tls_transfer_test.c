/* SPDX-License-Identifier: MIT */
#include "tls_fixture.h"

static const size_t many_sizes[] = {1,     2,      13,     511,     16383,
                                    16384, 16385,  32768,  65537,   262143,
                                    3,     262144, 262145, 1 << 20, 999999};
#define MANY (sizeof many_sizes / sizeof *many_sizes)

static int many_sizes_in(void *arg)
{
    (void)arg;
    for (size_t pipe = 1000; pipe <= 1000000; pipe *= 1000) {
        struct talk t = {0};

        talk_open(&t, pipe);
        assert_int_equal(t.rc[0], 0);
        assert_int_equal(t.rc[1], 0);
        cross(&t, many_sizes, MANY, 6 * MIB);
        assert_int_equal(tls_buffers_lent(), 0);
        talk_close(&t);
    }
    return 0;
}

static void bytes_of_any_size_cross_both_ways_at_once(void **state)
{
    (void)state;
    on_a_loop(many_sizes_in, NULL);
}

static int tcp_in(void *arg)
{
    static const size_t sizes[] = {262144, 262157};
    struct talk t = {0};

    (void)arg;
    talk_dial(&t);
    assert_int_equal(t.rc[0], 0);
    assert_int_equal(t.rc[1], 0);
    assert_true(keel_stream_fd(t.tls[0]) >= 0);
    cross(&t, sizes, 2, 64 * MIB);
    assert_int_equal(tls_buffers_lent(), 0);
    talk_close(&t);
    return 0;
}

static void sixty_four_mebibytes_cross_a_socket_unchanged(void **state)
{
    (void)state;
    on_a_loop(tcp_in, NULL);
}

/* Each end on a loop, that is a thread, of its own. */
struct far {
    struct talk talk;
    struct keel_event done;
};

static int far_end(void *arg)
{
    struct far *f = arg;
    struct flow down = {.from = NULL,
                        .sizes = many_sizes,
                        .count = MANY,
                        .total = 4 * MIB,
                        .seed = 3};

    accept_in(&f->talk);
    assert_int_equal(f->talk.rc[0], 0);
    down.from = f->talk.tls[0];
    flow_write(&down);
    assert_int_equal(keel_stream_finish(f->talk.tls[0], keel_after(SOON)), 0);
    assert_int_equal(
        keel_stream_read(f->talk.tls[0], &(char){0}, 1, keel_after(SOON)), 0);
    keel_event_set(&f->done);
    return 0;
}

static int two_loops_in(void *arg)
{
    struct keel_loop *loop = NULL;
    struct far f = {.talk = {.config = {server_config, client_config},
                             .deadline = keel_after(SOON)}};
    struct keel_spawn there = {.name = "far"};
    struct flow down = {
        .sizes = many_sizes, .count = MANY, .total = 4 * MIB, .seed = 3};

    (void)arg;
    keel_event_init(&f.done);
    assert_int_equal(keel_loop_start("far", &loop), 0);
    assert_int_equal(keel_stream_pair(100000, f.talk.below), 0);
    there.loop = loop;
    assert_int_equal(keel_spawn(&there, far_end, &f, NULL), 0);
    connect_in(&f.talk);
    assert_int_equal(f.talk.rc[1], 0);
    down.to = f.talk.tls[1];
    flow_read(&down);
    assert_int_equal(keel_stream_read(down.to, &(char){0}, 1, keel_after(SOON)),
                     0);
    assert_int_equal(keel_stream_finish(down.to, keel_after(SOON)), 0);
    assert_int_equal(keel_event_wait(&f.done, keel_after(SOON)), 0);
    keel_loop_stop(loop);
    talk_close(&f.talk);
    keel_event_fini(&f.done);
    return 0;
}

static void two_loops_talk_with_one_config(void **state)
{
    (void)state;
    on_a_loop(two_loops_in, NULL);
}

/* ---- pieces ------------------------------------------------------------------------------ */

enum { PIECES = 1500 };
struct scatter {
    struct talk talk;
    uint8_t *bytes;
    size_t total;
    struct iovec iov[PIECES];
};

/* Nothing, small, about a record, large; never in step. */
static void scatter_lay(struct scatter *s)
{
    for (size_t i = 0; i < PIECES; i++) {
        size_t size = i % 5 == 0    ? 0
                      : i % 97 == 0 ? 70000 + i
                      : i % 31 == 0 ? TLS_RECORD
                                    : i * 37 % 900;

        s->iov[i] = (struct iovec){s->bytes + s->total, size};
        s->total += size;
    }
    assert_true(s->total > MIB && s->total < 4 * MIB);
    pattern_fill(s->bytes, s->total, 0, 5);
}

static int scatter_write(void *arg)
{
    struct scatter *s = arg;

    assert_int_equal(
        keel_stream_writev(s->talk.tls[0], s->iov, PIECES, keel_after(SOON)),
        0);
    assert_int_equal(
        keel_stream_writev(s->talk.tls[0], s->iov, 0, keel_after(SOON)), 0);
    assert_int_equal(keel_stream_finish(s->talk.tls[0], keel_after(SOON)), 0);
    return 0;
}

static int scatter_read(void *arg)
{
    struct scatter *s = arg;
    uint8_t *got = malloc(s->total + 1);
    size_t n;

    assert_int_equal(keel_stream_read_all(s->talk.tls[1], got, s->total + 1, &n,
                                          keel_after(SOON)),
                     -ECONNABORTED);
    assert_int_equal(n, s->total);
    pattern_check(got, n, 0, 5);
    free(got);
    return 0;
}

static int scatter_in(void *arg)
{
    struct scatter *s = calloc(1, sizeof *s);

    (void)arg;
    s->bytes = malloc(4 * MIB);
    scatter_lay(s);
    talk_open(&s->talk, 30000);
    both(scatter_write, scatter_read, s);
    talk_close(&s->talk);
    free(s->bytes);
    free(s);
    return 0;
}

static void many_small_pieces_are_written_as_one(void **state)
{
    (void)state;
    on_a_loop(scatter_in, NULL);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(bytes_of_any_size_cross_both_ways_at_once),
        cmocka_unit_test(sixty_four_mebibytes_cross_a_socket_unchanged),
        cmocka_unit_test(two_loops_talk_with_one_config),
        cmocka_unit_test(many_small_pieces_are_written_as_one),
    };

    return cmocka_run_group_tests(tests, set_up, tear_down);
}
