/* SPDX-License-Identifier: MIT */
/* Queues: order, bounds, ends, what is unfinished. */
#include "conform.h"

static void fill(struct conform *c, size_t slots, int count)
{
    assert_int_equal(c->queue->new (c, slots), 0);
    for (int i = 1; i <= count; i++)
        assert_int_equal(c->queue->put(c, i, KEEL_NOW), 0);
}

static void got(struct conform *c, int expected)
{
    int n = 0;

    assert_int_equal(c->queue->get(c, SOON, &n), 0);
    assert_int_equal(n, expected);
}

/* ---- order and bounds ---- */

static int gets_in_order(struct conform *c, int count)
{
    for (int i = 1; i <= count; i++) {
        int n = 0;

        EXPECT(c->queue->get(c, SOON, &n) == 0);
        EXPECT(n == i);
    }
    return 7;
}

static void first_in_is_first_out(struct conform *c)
{
    struct worker *w;

    fill(c, 4, 4);
    w = begin(c, gets_in_order, 20);
    for (int i = 5; i <= 20; i++)
        assert_int_equal(c->queue->put(c, i, SOON), 0);
    assert_int_equal(end(w), 7);
}

static int puts_one(struct conform *c, int number)
{
    c->sync->event_set(c->w, 0);
    EXPECT(c->queue->put(c, number, SOON) == 0);
    return 7;
}

static void put_waits_while_it_is_full(struct conform *c)
{
    struct worker *w;

    fill(c, 2, 2);
    w = begin(c, puts_one, 3);
    wait_event(c, 0);
    assert_int_equal(c->worker->join(w, SHORTLY, NULL), -ETIMEDOUT);
    assert_int_equal(c->queue->count(c), 2);
    got(c, 1);
    assert_int_equal(end(w), 7);
    got(c, 2);
    got(c, 3);
}

static void get_waits_while_it_is_empty(struct conform *c)
{
    struct worker *w;

    fill(c, 2, 0);
    w = begin(c, gets_in_order, 1);
    assert_int_equal(c->worker->join(w, SHORTLY, NULL), -ETIMEDOUT);
    assert_int_equal(c->queue->put(c, 1, SOON), 0);
    assert_int_equal(end(w), 7);
}

static void deadlines_of_put_and_get_pass(struct conform *c)
{
    keel_ns at;
    int n = -1;

    fill(c, 1, 0);
    assert_int_equal(c->queue->get(c, KEEL_NOW, &n), -ETIMEDOUT);
    assert_int_equal(c->queue->get(c, -7, &n), -ETIMEDOUT);
    at = SHORTLY;
    assert_int_equal(c->queue->get(c, at, &n), -ETIMEDOUT);
    assert_true(keel_now() >= at);
    assert_int_equal(n, -1);
    assert_int_equal(c->queue->put(c, 1, KEEL_NOW), 0);
    assert_int_equal(c->queue->put(c, 2, KEEL_NOW), -ETIMEDOUT);
    at = SHORTLY;
    assert_int_equal(c->queue->put(c, 2, at), -ETIMEDOUT);
    assert_true(keel_now() >= at);
    got(c, 1); /* what timed out was not put */
    assert_int_equal(c->queue->get(c, KEEL_NOW, &n), -ETIMEDOUT);
}

static int gets_until_cancelled(struct conform *c, int arg)
{
    int n;

    c->sync->event_set(c->w, 0);
    EXPECT(c->queue->get(c, SOON, &n) == -ECANCELED);
    return arg;
}

static int puts_until_cancelled(struct conform *c, int arg)
{
    c->sync->event_set(c->w, 0);
    EXPECT(c->queue->put(c, 9, SOON) == -ECANCELED);
    return arg;
}

static void who_waits_can_be_cancelled_and_nothing_is_lost(struct conform *c)
{
    struct worker *w;

    fill(c, 1, 0);
    w = begin(c, gets_until_cancelled, 3);
    wait_event(c, 0);
    c->worker->cancel(w);
    assert_int_equal(end(w), 3);
    assert_int_equal(c->queue->put(c, 1, KEEL_NOW), 0);
    c->sync->event_clear(c->w, 0);
    w = begin(c, puts_until_cancelled, 4);
    wait_event(c, 0);
    c->worker->cancel(w);
    assert_int_equal(end(w), 4);
    got(c, 1);
    assert_true(c->queue->empty(c));
}

static void peek_leaves_it_inside(struct conform *c)
{
    int n = -1;

    fill(c, 2, 0);
    assert_int_equal(c->queue->peek(c, &n), -EAGAIN);
    assert_int_equal(n, -1);
    assert_int_equal(c->queue->put(c, 5, KEEL_NOW), 0);
    assert_int_equal(c->queue->peek(c, &n), 0);
    assert_int_equal(n, 5);
    assert_int_equal(c->queue->count(c), 1);
    got(c, 5);
}

static void it_says_whether_it_is_empty_or_full(struct conform *c)
{
    fill(c, 2, 0);
    assert_true(c->queue->empty(c) && !c->queue->full(c));
    assert_int_equal(c->queue->count(c), 0);
    assert_int_equal(c->queue->put(c, 1, KEEL_NOW), 0);
    assert_true(!c->queue->empty(c) && !c->queue->full(c));
    assert_int_equal(c->queue->put(c, 2, KEEL_NOW), 0);
    assert_true(!c->queue->empty(c) && c->queue->full(c));
    assert_int_equal(c->queue->count(c), 2);
}

enum { EACH = 200 };

static int produces(struct conform *c, int first)
{
    for (int i = 0; i < EACH; i++)
        EXPECT(c->queue->put(c, first + i, SOON) == 0);
    return 7;
}

/* Until it is closed; adds up what it got. */
static int consumes(struct conform *c, int arg)
{
    int n, rc;

    (void)arg;
    while ((rc = c->queue->get(c, SOON, &n)) == 0) {
        atomic_fetch_add(&c->w->number[0], 1);
        atomic_fetch_add(&c->w->number[1], n);
        EXPECT(c->queue->task_done(c) == 0);
    }
    EXPECT(rc == -EPIPE);
    return 7;
}

static void several_put_and_get_and_nothing_is_lost(struct conform *c)
{
    struct worker *in[3], *out[3];
    int sum = 0;

    fill(c, 8, 0);
    for (int i = 0; i < 3; i++) {
        out[i] = begin(c, consumes, 0);
        in[i] = begin(c, produces, 1 + i * EACH);
    }
    for (int i = 0; i < 3; i++)
        assert_int_equal(end(in[i]), 7);
    assert_int_equal(c->queue->join(c, SOON), 0);
    c->queue->close(c);
    for (int i = 0; i < 3; i++)
        assert_int_equal(end(out[i]), 7);
    for (int i = 1; i <= 3 * EACH; i++)
        sum += i;
    assert_int_equal(c->w->number[0], 3 * EACH);
    assert_int_equal(c->w->number[1], sum);
}

/* ---- close ---- */

static void after_close_put_fails_and_get_drains_first(struct conform *c)
{
    int n = -1;

    fill(c, 4, 2);
    c->queue->close(c);
    c->queue->close(c); /* twice: no change */
    assert_int_equal(c->queue->put(c, 3, SOON), -EPIPE);
    assert_int_equal(c->queue->put(c, 3, KEEL_NOW), -EPIPE);
    got(c, 1);
    got(c, 2);
    assert_int_equal(c->queue->get(c, SOON, &n), -EPIPE);
    assert_int_equal(c->queue->get(c, KEEL_NOW, &n), -EPIPE);
    assert_int_equal(n, -1);
}

static int is_told_of_the_close(struct conform *c, int put)
{
    int n;

    EXPECT((put ? c->queue->put(c, 9, SOON) : c->queue->get(c, SOON, &n)) ==
           -EPIPE);
    return 7;
}

static void close_wakes_who_waits(struct conform *c)
{
    struct worker *w[2];

    for (int put = 0; put < 2; put++) {
        fill(c, 1, put);
        for (int i = 0; i < 2; i++)
            w[i] = begin(c, is_told_of_the_close, put);
        assert_int_equal(c->worker->join(w[0], SHORTLY, NULL), -ETIMEDOUT);
        c->queue->close(c);
        for (int i = 0; i < 2; i++)
            assert_int_equal(end(w[i]), 7);
        c->queue->free(c);
    }
}

static int joins_the_queue(struct conform *c, int arg)
{
    (void)arg;
    EXPECT(c->queue->join(c, SOON) == 0);
    return 7;
}

static void
close_now_lowers_what_is_unfinished_by_what_it_drained(struct conform *c)
{
    struct worker *w;
    int n;

    fill(c, 4, 3);
    got(c, 1); /* and has not been done */
    w = begin(c, joins_the_queue, 0);
    c->queue->close_now(c);
    assert_true(c->queue->empty(c));
    assert_int_equal(c->queue->get(c, KEEL_NOW, &n), -EPIPE);
    assert_int_equal(c->worker->join(w, SHORTLY, NULL), -ETIMEDOUT);
    assert_int_equal(c->queue->join(c, KEEL_NOW), -ETIMEDOUT);
    assert_int_equal(c->queue->task_done(c), 0);
    assert_int_equal(end(w), 7);
    assert_int_equal(c->queue->task_done(c), -EINVAL);
}

static void close_now_wakes_join_when_nothing_is_left(struct conform *c)
{
    struct worker *w;

    fill(c, 4, 3);
    w = begin(c, joins_the_queue, 0);
    assert_int_equal(c->worker->join(w, SHORTLY, NULL), -ETIMEDOUT);
    c->queue->close_now(c);
    assert_int_equal(end(w), 7);
}

/* ---- task_done and join ---- */

static void one_task_done_too_many_is_an_error(struct conform *c)
{
    fill(c, 2, 1);
    got(c, 1);
    assert_int_equal(c->queue->task_done(c), 0);
    assert_int_equal(c->queue->task_done(c), -EINVAL);
    assert_int_equal(c->queue->join(c, KEEL_NOW), 0);
}

static int does_two_tasks(struct conform *c, int arg)
{
    int n;

    (void)arg;
    for (int i = 0; i < 2; i++) {
        EXPECT(c->sync->event_wait(c->w, i, SOON) == 0);
        EXPECT(c->queue->get(c, SOON, &n) == 0);
        EXPECT(c->queue->task_done(c) == 0);
    }
    return 7;
}

static void join_waits_until_all_that_were_put_are_done(struct conform *c)
{
    struct worker *w;

    fill(c, 2, 2);
    w = begin(c, does_two_tasks, 0);
    assert_int_equal(c->queue->join(c, KEEL_NOW), -ETIMEDOUT);
    c->sync->event_set(c->w, 0);
    assert_int_equal(c->queue->join(c, SHORTLY), -ETIMEDOUT);
    c->sync->event_set(c->w, 1);
    assert_int_equal(c->queue->join(c, SOON), 0);
    assert_int_equal(end(w), 7);
}

const struct conform_case queue_cases[] = {
    {"first in is first out", first_in_is_first_out},
    {"put waits while it is full", put_waits_while_it_is_full},
    {"get waits while it is empty", get_waits_while_it_is_empty},
    {"deadlines of put and get pass", deadlines_of_put_and_get_pass},
    {"who waits can be cancelled, and nothing is lost",
     who_waits_can_be_cancelled_and_nothing_is_lost},
    {"peek leaves it inside", peek_leaves_it_inside},
    {"it says whether it is empty or full",
     it_says_whether_it_is_empty_or_full},
    {"several put and get, and nothing is lost",
     several_put_and_get_and_nothing_is_lost},
    {"after close put fails and get drains first",
     after_close_put_fails_and_get_drains_first},
    {"close wakes who waits", close_wakes_who_waits},
    {"close_now lowers what is unfinished by what it drained",
     close_now_lowers_what_is_unfinished_by_what_it_drained},
    {"close_now wakes join when nothing is left",
     close_now_wakes_join_when_nothing_is_left},
    {"one task_done too many is an error", one_task_done_too_many_is_an_error},
    {"join waits until all that were put are done",
     join_waits_until_all_that_were_put_are_done},
};
const size_t queue_case_count = sizeof(queue_cases) / sizeof(*queue_cases);
