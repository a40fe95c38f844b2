/* SPDX-License-Identifier: MIT */
#include <keel/pool.h>

#include <stdio.h>
#include <sys/wait.h>
#include <unistd.h>

#include <keel/lock.h>
#include <keel/queue.h>
#include <keel/thread.h>

#include "test/fault.h"
#include "test/test.h"

static struct keel_pool *pool_of(unsigned size, enum keel_pool_policy policy)
{
    const struct keel_pool_how how = {
        .name = "test", .size = size, .policy = policy};
    struct keel_pool *p = NULL;

    assert_int_equal(keel_pool_new(&how, &p), 0);
    return p;
}

static struct keel_future *submit(struct keel_pool *p, int (*fn)(void *arg),
                                  void *arg)
{
    struct keel_future *f = NULL;

    assert_int_equal(keel_pool_submit(p, fn, arg, KEEL_FOREVER, &f), 0);
    return f;
}

static int result(struct keel_future *f)
{
    int rc = keel_future_result(f, KEEL_FOREVER, NULL);

    keel_future_free(f);
    return rc;
}

static int twice(void *arg)
{
    return 2 * *(int *)arg;
}

static int count(void *arg)
{
    atomic_fetch_add((_Atomic int *)arg, 1);
    return 0;
}

/* A job that says that it runs, and waits to be let go. */
struct gate {
    struct keel_event entered, open;
};

static int pass(void *arg)
{
    struct gate *g = arg;

    keel_event_set(&g->entered);
    return keel_event_wait(&g->open, KEEL_FOREVER);
}

static struct keel_future *close_gate(struct keel_pool *p, struct gate *g)
{
    struct keel_future *f;

    *g = (struct gate){0};
    f = submit(p, pass, g);
    assert_int_equal(keel_event_wait(&g->entered, KEEL_FOREVER), 0);
    return f;
}

/* ---- the program's end; first, while there is one thread --------------------- */

static int late(void *arg)
{
    (void)keel_sleep(keel_after(20 * KEEL_MS));
    return (int)write(*(int *)arg, "done", 4);
}

static void exit_waits_for_what_is_pending(void **state)
{
    int fds[2], status;
    char text[8] = "";
    pid_t child;

    (void)state;
    assert_int_equal(pipe(fds), 0);
    child = fork();
    if (child == 0) {
        struct keel_pool *p = pool_of(1, KEEL_POOL_FIRST_COME);

        keel_future_free(submit(p, late, &fds[1]));
        keel_future_free(submit(p, late, &fds[1]));
        exit(0);
    }
    close(fds[1]);
    assert_int_equal(waitpid(child, &status, 0), child);
    assert_int_equal(status, 0);
    assert_int_equal(read(fds[0], text, 4), 4);
    assert_int_equal(read(fds[0], text + 4, 4), 4);
    assert_memory_equal(text, "donedone", 8);
    close(fds[0]);
}

/* ---- submit -------------------------------------------------------------------- */

static void a_job_has_its_result_and_its_argument_in_the_future(void **state)
{
    struct keel_pool *p = pool_of(2, KEEL_POOL_FIRST_COME);
    struct keel_future *f;
    void *value = NULL;
    int n = 21;

    (void)state;
    f = submit(p, twice, &n);
    assert_int_equal(keel_future_result(f, KEEL_FOREVER, &value), 42);
    assert_ptr_equal(value, &n);
    keel_future_free(f);
    keel_pool_free(p);
}

CO_TEST(a_coroutine_submits_and_parks)
{
    struct keel_pool *p = pool_of(2, KEEL_POOL_FIRST_COME);
    struct keel_future *f[100];
    int n[100];

    for (int i = 0; i < 100; i++) {
        n[i] = i;
        f[i] = submit(p, twice, &n[i]);
    }
    for (int i = 0; i < 100; i++)
        assert_int_equal(result(f[i]), 2 * i);
    keel_pool_free(p);
    return 0;
}

static int name_is(void *arg)
{
    return strcmp(keel_thread_name(NULL), arg) == 0;
}

static void threads_bear_the_prefix_and_a_number(void **state)
{
    struct keel_pool *p = pool_of(1, KEEL_POOL_FIRST_COME);

    (void)state;
    assert_int_equal(result(submit(p, name_is, "test-0")), 1);
    assert_int_equal(keel_pool_size(p), 1);
    keel_pool_free(p);
}

static int main_of_loop(void *arg)
{
    return keel_current() ? *(int *)arg : -1;
}

static int call_keel(void *arg)
{
    struct keel_queue *q = arg;
    void *item = NULL;
    int n = 7;

    if (keel_sleep(keel_after(KEEL_US)) < 0)
        return -1;
    if (keel_queue_get(q, KEEL_FOREVER, &item) < 0 || item != q)
        return -2;
    return keel_run(main_of_loop, &n); /* a loop in the job */
}

static void calls_of_keel_work_in_a_job(void **state)
{
    struct keel_pool *p = pool_of(1, KEEL_POOL_FIRST_COME);
    struct keel_queue *q;
    struct keel_future *f;

    (void)state;
    assert_int_equal(keel_queue_new(1, KEEL_QUEUE_SHARED, &q), 0);
    f = submit(p, call_keel, q);
    assert_int_equal(keel_queue_put(q, q, KEEL_FOREVER), 0);
    assert_int_equal(result(f), 7);
    keel_queue_free(q);
    keel_pool_free(p);
}

static void note_thread(struct keel_future *f, void *arg)
{
    assert_int_equal(keel_future_result(f, KEEL_NOW, NULL), 0);
    strcpy(arg, keel_thread_name(NULL));
}

static void callbacks_run_where_the_job_ran(void **state)
{
    struct keel_pool *p = pool_of(1, KEEL_POOL_FIRST_COME);
    struct keel_future *f;
    char name[16] = "";
    struct gate g;

    (void)state;
    f = close_gate(p, &g);
    assert_int_equal(keel_future_on_done(f, note_thread, name), 0);
    keel_event_set(&g.open);
    assert_int_equal(keel_pool_shutdown(p, false, KEEL_FOREVER), 0);
    assert_string_equal(name, "test-0");
    assert_int_equal(result(f), 0);
    keel_pool_free(p);
}

static void a_job_that_is_cancelled_before_never_begins(void **state)
{
    struct keel_pool *p = pool_of(1, KEEL_POOL_FIRST_COME);
    struct keel_future *first, *f;
    _Atomic int ran = 0;
    struct gate g;

    (void)state;
    first = close_gate(p, &g);
    f = submit(p, count, &ran);
    assert_true(keel_future_cancel(f));
    assert_false(keel_future_cancel(first)); /* it runs */
    keel_event_set(&g.open);
    assert_int_equal(result(f), -ECANCELED);
    assert_int_equal(result(first), 0);
    assert_int_equal(keel_pool_shutdown(p, false, KEEL_FOREVER), 0);
    assert_int_equal(ran, 0);
    keel_pool_free(p);
}

static void nobody_need_want_the_future(void **state)
{
    struct keel_pool *p = pool_of(3, KEEL_POOL_FIRST_COME);
    _Atomic int ran = 0;

    (void)state;
    for (int i = 0; i < 1000; i++)
        assert_int_equal(keel_pool_submit(p, count, &ran, KEEL_NOW, NULL), 0);
    assert_int_equal(keel_pool_shutdown(p, false, KEEL_FOREVER), 0);
    assert_int_equal(ran, 1000);
    keel_pool_free(p);
}

static void futures_outlive_the_pool(void **state)
{
    struct keel_pool *p = pool_of(2, KEEL_POOL_FIRST_COME);
    struct keel_future *f[200];
    int n = 4;

    (void)state;
    for (int i = 0; i < 200; i++)
        f[i] = submit(p, twice, &n);
    assert_int_equal(keel_pool_shutdown(p, false, KEEL_FOREVER), 0);
    keel_pool_free(p);
    for (int i = 0; i < 200; i++)
        assert_int_equal(result(f[i]), 8);
}

static void a_bounded_pool_makes_submit_wait(void **state)
{
    const struct keel_pool_how how = {.size = 1, .waiting_most = 2};
    struct keel_future *first;
    struct keel_pool *p;
    _Atomic int ran = 0;
    struct gate g;

    (void)state;
    assert_int_equal(keel_pool_new(&how, &p), 0);
    first = close_gate(p, &g);
    assert_int_equal(keel_pool_submit(p, count, &ran, KEEL_NOW, NULL), 0);
    assert_int_equal(keel_pool_submit(p, count, &ran, KEEL_NOW, NULL), 0);
    assert_int_equal(keel_pool_submit(p, count, &ran, KEEL_NOW, NULL),
                     -ETIMEDOUT);
    assert_int_equal(
        keel_pool_submit(p, count, &ran, keel_after(KEEL_MS), NULL),
        -ETIMEDOUT);
    keel_event_set(&g.open);
    for (int i = 0; i < 100; i++)
        assert_int_equal(keel_pool_submit(p, count, &ran, KEEL_FOREVER, NULL),
                         0);
    assert_int_equal(result(first), 0);
    assert_int_equal(keel_pool_shutdown(p, false, KEEL_FOREVER), 0);
    assert_int_equal(ran, 102);
    keel_pool_free(p);
}

struct pair {
    struct keel_event *event;
    bool waits;
};

static int pair_run(void *arg)
{
    struct pair *pair = arg;

    if (pair->waits)
        return keel_event_wait(pair->event, KEEL_FOREVER);
    keel_event_set(pair->event);
    return 0;
}

/* Among small jobs, which are taken several at once, one waits for the job
 * after it. */
static void a_long_job_keeps_no_other_waiting(void **state)
{
    struct keel_pool *p = pool_of(2, KEEL_POOL_USUAL);
    _Atomic int ran = 0;

    (void)state;
    for (int round = 0; round < 50; round++) {
        struct keel_event event = {0};
        struct pair waits = {&event, true}, sets = {&event, false};
        struct keel_future *f, *last;

        for (int i = 0; i < 200 + round; i++)
            assert_int_equal(keel_pool_submit(p, count, &ran, KEEL_NOW, NULL),
                             0);
        f = submit(p, pair_run, &waits);
        last = submit(p, pair_run, &sets);
        assert_int_equal(result(f), 0);
        assert_int_equal(result(last), 0);
    }
    keel_pool_free(p);
}

static _Atomic int order_count;
static int order[400];

static int order_run(void *arg)
{
    order[order_count++] = *(int *)arg;
    return 0;
}

/* One thread is kept, after many small jobs, with whatever it took; what the
 * other then runs is to be in order. */
static void first_come_is_strict_among_small_jobs_too(void **state)
{
    static int number[400];
    struct keel_pool *p = pool_of(2, KEEL_POOL_FIRST_COME);
    _Atomic int ran = 0;

    (void)state;
    for (int i = 0; i < 400; i++)
        number[i] = i;
    for (int round = 0; round < 50; round++) {
        struct gate g = {0};
        struct keel_future *f;

        for (int i = 0; i < 200 + round; i++)
            assert_int_equal(keel_pool_submit(p, count, &ran, KEEL_NOW, NULL),
                             0);
        f = submit(p, pass, &g);
        order_count = 0;
        for (int i = 0; i < 400; i++)
            assert_int_equal(
                keel_pool_submit(p, order_run, &number[i], KEEL_NOW, NULL), 0);
        while (order_count < 400)
            keel_yield();
        keel_event_set(&g.open);
        assert_int_equal(result(f), 0);
        for (int i = 0; i < 400; i++)
            assert_int_equal(order[i], i);
    }
    keel_pool_free(p);
}

enum { SUBMITTERS = 4, EACH = 5000 };
struct crowd {
    struct keel_pool *pool;
    _Atomic int ran;
};

static int submit_many(void *arg)
{
    struct crowd *c = arg;
    struct keel_future *f[64] = {NULL};

    for (int i = 0; i < EACH; i++) {
        if (f[i % 64])
            result(f[i % 64]);
        f[i % 64] = submit(c->pool, count, &c->ran);
    }
    for (int i = 0; i < 64; i++)
        result(f[i]);
    return 0;
}

static void many_submitters_lose_no_job(void **state)
{
    for (int policy = 0; policy <= KEEL_POOL_FEEDBACK; policy++) {
        struct crowd c = {pool_of(3, (enum keel_pool_policy)policy), 0};
        struct keel_thread *t[SUBMITTERS];

        (void)state;
        for (int i = 0; i < SUBMITTERS; i++)
            assert_int_equal(
                keel_thread_start("submitter", submit_many, &c, &t[i]), 0);
        for (int i = 0; i < SUBMITTERS; i++)
            assert_int_equal(keel_thread_join(t[i], KEEL_FOREVER, NULL), 0);
        assert_int_equal(c.ran, SUBMITTERS * EACH);
        keel_pool_free(c.pool);
    }
}

/* Shut down while others submit: each job runs, or its submit failed. */
static int submit_until_refused(void *arg)
{
    struct crowd *c = arg;
    int n = 0;

    while (keel_pool_submit(c->pool, count, &c->ran, KEEL_NOW, NULL) == 0)
        n++;
    return n;
}

static void each_job_is_run_or_refused(void **state)
{
    (void)state;
    for (int round = 0; round < 20; round++) {
        struct crowd c = {pool_of(2, KEEL_POOL_USUAL), 0};
        struct keel_thread *t[2];
        int n[2];

        for (int i = 0; i < 2; i++)
            assert_int_equal(
                keel_thread_start("submitter", submit_until_refused, &c, &t[i]),
                0);
        while (atomic_load(&c.ran) < 100)
            keel_yield();
        assert_int_equal(keel_pool_shutdown(c.pool, false, KEEL_FOREVER), 0);
        for (int i = 0; i < 2; i++)
            assert_int_equal(keel_thread_join(t[i], KEEL_FOREVER, &n[i]), 0);
        assert_int_equal(c.ran, n[0] + n[1]);
        keel_pool_free(c.pool);
    }
}

/* ---- whose turn it is ------------------------------------------------------------ */

/* What ran, a letter for each step. */
static char trace[64];

struct stepper {
    char letter;
    int steps;
    struct keel_pool *pool; /* adds `other` when `at` steps are left */
    struct stepper *other;
    int at;
};

static int step(void *arg)
{
    struct stepper *s = arg;
    size_t n = strlen(trace);

    trace[n] = s->letter;
    trace[n + 1] = 0;
    if (s->other && s->steps == s->at)
        assert_int_equal(keel_pool_submit_cost(s->pool,
                                               (uint64_t)s->other->steps, step,
                                               s->other, KEEL_NOW, NULL),
                         0);
    return --s->steps > 0 ? KEEL_POOL_AGAIN : 0;
}

static void run_steps(struct keel_pool *p, struct stepper *s, int n)
{
    struct keel_future *first, *f[8];
    struct gate g;

    trace[0] = 0;
    first = close_gate(p, &g);
    for (int i = 0; i < n; i++)
        assert_int_equal(keel_pool_submit_cost(p, (uint64_t)s[i].steps, step,
                                               &s[i], KEEL_NOW, &f[i]),
                         0);
    keel_event_set(&g.open);
    assert_int_equal(result(first), 0);
    for (int i = 0; i < n; i++)
        assert_int_equal(result(f[i]), 0);
    assert_int_equal(keel_pool_shutdown(p, false, KEEL_FOREVER), 0);
    keel_pool_free(p);
}

static void first_come_is_first_served_to_its_end(void **state)
{
    struct stepper s[] = {{'A', 3}, {'B', 1}, {'C', 2}};

    (void)state;
    run_steps(pool_of(1, KEEL_POOL_FIRST_COME), s, 3);
    assert_string_equal(trace, "AAABCC");
}

static void the_shortest_job_comes_first_equal_ones_in_order(void **state)
{
    struct stepper s[] = {{'A', 3}, {'B', 1}, {'C', 2}, {'D', 1},
                          {'E', 2}, {'F', 5}, {'G', 1}};

    (void)state;
    run_steps(pool_of(1, KEEL_POOL_SHORTEST), s, 7);
    assert_string_equal(trace, "BDGCCEEAAAFFFFF");
}

static void a_shorter_job_that_comes_between_steps_goes_first(void **state)
{
    struct keel_pool *p = pool_of(1, KEEL_POOL_SHORTEST);
    struct stepper other = {'B', 1}, s[] = {{'A', 3, p, &other, 3}};

    (void)state;
    run_steps(p, s, 1);
    assert_string_equal(trace, "ABAA");
}

static void round_robin_gives_each_a_step_in_turn(void **state)
{
    struct stepper s[] = {{'A', 3}, {'B', 1}, {'C', 2}};

    (void)state;
    run_steps(pool_of(1, KEEL_POOL_ROUND_ROBIN), s, 3);
    assert_string_equal(trace, "ABCACA");
}

static void round_robin_goes_by_quanta(void **state)
{
    const struct keel_pool_how how = {
        .size = 1, .policy = KEEL_POOL_ROUND_ROBIN, .quantum = 2};
    struct stepper s[] = {{'A', 5}, {'B', 3}};
    struct keel_pool *p;

    (void)state;
    assert_int_equal(keel_pool_new(&how, &p), 0);
    run_steps(p, s, 2);
    assert_string_equal(trace, "AABBAABA");
}

static void feedback_lets_short_jobs_pass(void **state)
{
    struct stepper s[] = {{'A', 8}, {'B', 2}, {'C', 1}};

    (void)state;
    /* Levels of 1, 2, 4 steps. */
    run_steps(pool_of(1, KEEL_POOL_FEEDBACK), s, 3);
    assert_string_equal(trace, "ABCAABAAAAA");
}

static void feedback_interrupts_a_quantum_for_a_newcomer(void **state)
{
    struct keel_pool *p = pool_of(1, KEEL_POOL_FEEDBACK);
    struct stepper other = {'B', 1}, s[] = {{'A', 6, p, &other, 5}};

    (void)state;
    /* B comes in the first of A's two steps on the second level. */
    run_steps(p, s, 1);
    assert_string_equal(trace, "AABAAAA");
}

static void feedback_boosts_those_that_starve(void **state)
{
    const struct keel_pool_how how = {
        .size = 1, .policy = KEEL_POOL_FEEDBACK, .levels = 2, .boost = 4};
    struct stepper s[] = {{'A', 6}, {'B', 6}};
    struct keel_pool *p;

    (void)state;
    assert_int_equal(keel_pool_new(&how, &p), 0);
    run_steps(p, s, 2);
    /* A B on the first level, AA on the second: boost.  B is first there, and
     * so on. */
    assert_string_equal(trace, "ABAABABBABAB");
}

/* ---- shutdown --------------------------------------------------------------------- */

static void submit_after_shutdown_is_an_error(void **state)
{
    struct keel_pool *p = pool_of(2, KEEL_POOL_FIRST_COME);
    struct keel_future *f = NULL;

    (void)state;
    assert_int_equal(keel_pool_shutdown(p, false, KEEL_FOREVER), 0);
    assert_int_equal(keel_pool_submit(p, twice, NULL, KEEL_NOW, &f), -EPIPE);
    assert_null(f);
    assert_int_equal(keel_pool_map(p, 0, 1, NULL, NULL, KEEL_FOREVER), -EPIPE);
    assert_int_equal(keel_pool_shutdown(p, true, KEEL_FOREVER), 0);
    assert_int_equal(keel_pool_size(p), 0);
    keel_pool_free(p);
}

static void shutdown_without_wait_still_runs_what_is_pending(void **state)
{
    for (int policy = 0; policy <= KEEL_POOL_FEEDBACK; policy++) {
        struct keel_pool *p = pool_of(1, (enum keel_pool_policy)policy);
        struct keel_future *first;
        _Atomic int ran = 0;
        struct gate g;

        (void)state;
        first = close_gate(p, &g);
        for (int i = 0; i < 50; i++)
            assert_int_equal(keel_pool_submit(p, count, &ran, KEEL_NOW, NULL),
                             0);
        assert_int_equal(keel_pool_shutdown(p, false, KEEL_NOW), -ETIMEDOUT);
        keel_event_set(&g.open);
        assert_int_equal(result(first), 0);
        keel_pool_free(p); /* after shutdown, it waits and cancels nothing */
        assert_int_equal(ran, 50);
    }
}

static void shutdown_can_cancel_what_has_not_begun(void **state)
{
    for (int policy = 0; policy <= KEEL_POOL_FEEDBACK; policy++) {
        struct keel_pool *p = pool_of(1, (enum keel_pool_policy)policy);
        struct keel_future *first, *f[50];
        _Atomic int ran = 0;
        struct gate g;

        (void)state;
        first = close_gate(p, &g);
        for (int i = 0; i < 50; i++)
            f[i] = submit(p, count, &ran);
        assert_int_equal(keel_pool_shutdown(p, true, KEEL_NOW), -ETIMEDOUT);
        for (int i = 0; i < 50; i++)
            assert_int_equal(result(f[i]), -ECANCELED); /* at once */
        keel_event_set(&g.open);
        assert_int_equal(result(first), 0);
        assert_int_equal(keel_pool_shutdown(p, false, KEEL_FOREVER), 0);
        assert_int_equal(ran, 0);
        keel_pool_free(p);
    }
}

struct steps_at_gate {
    struct gate gate;
    int steps;
};

static int step_at_gate(void *arg)
{
    struct steps_at_gate *s = arg;

    if (s->steps == 3)
        pass(&s->gate);
    return --s->steps > 0 ? KEEL_POOL_AGAIN : 5;
}

static void what_has_begun_ends_its_steps_after_a_cancel(void **state)
{
    struct keel_pool *p = pool_of(1, KEEL_POOL_ROUND_ROBIN);
    struct steps_at_gate s = {.steps = 3};
    struct keel_future *f;

    (void)state;
    f = submit(p, step_at_gate, &s);
    assert_int_equal(keel_event_wait(&s.gate.entered, KEEL_FOREVER), 0);
    assert_int_equal(keel_pool_shutdown(p, true, KEEL_NOW), -ETIMEDOUT);
    keel_event_set(&s.gate.open);
    assert_int_equal(result(f), 5);
    keel_pool_free(p);
}

static void free_cancels_what_has_not_begun_and_waits_for_the_rest(void **state)
{
    struct keel_pool *p = pool_of(2, KEEL_POOL_FIRST_COME);
    struct keel_future *f[100];
    _Atomic int ran = 0;
    int done = 0;

    (void)state;
    for (int i = 0; i < 100; i++)
        f[i] = submit(p, count, &ran);
    keel_pool_free(p);
    for (int i = 0; i < 100; i++) {
        assert_true(keel_future_done(f[i]));
        done += result(f[i]) == 0;
    }
    assert_int_equal(ran, done);
}

static int shut_down_own(void *arg)
{
    return keel_pool_shutdown(arg, false, KEEL_FOREVER);
}

static void waiting_for_its_own_pool_is_a_deadlock_that_is_told(void **state)
{
    struct keel_pool *p = pool_of(1, KEEL_POOL_FIRST_COME);

    (void)state;
    assert_int_equal(result(submit(p, shut_down_own, p)), -EDEADLK);
    assert_int_equal(keel_pool_submit(p, twice, NULL, KEEL_NOW, NULL), -EPIPE);
    keel_pool_free(p);
}

CO_TEST(shutdown_has_a_deadline_in_a_coroutine_too)
{
    struct keel_pool *p = pool_of(1, KEEL_POOL_FIRST_COME);
    struct keel_future *first;
    struct gate g;

    first = close_gate(p, &g);
    assert_int_equal(keel_pool_shutdown(p, false, keel_after(KEEL_MS)),
                     -ETIMEDOUT);
    keel_event_set(&g.open);
    assert_int_equal(keel_pool_shutdown(p, false, KEEL_FOREVER), 0);
    assert_int_equal(result(first), 0);
    keel_pool_free(p);
    return 0;
}

/* ---- the initializer ----------------------------------------------------------------- */

static _Thread_local int prepared;

static int prepare(void *arg)
{
    prepared = 1;
    atomic_fetch_add((_Atomic int *)arg, 1);
    return 0;
}

static int is_prepared(void *arg)
{
    (void)arg;
    return prepared;
}

static void the_initializer_runs_once_in_each_thread_first(void **state)
{
    _Atomic int times = 0;
    const struct keel_pool_how how = {
        .size = 3, .initializer = prepare, .arg = &times};
    struct keel_pool *p;

    (void)state;
    assert_int_equal(keel_pool_new(&how, &p), 0);
    for (int i = 0; i < 100; i++)
        assert_int_equal(result(submit(p, is_prepared, NULL)), 1);
    assert_int_equal(keel_pool_error(p), 0);
    assert_int_equal(keel_pool_shutdown(p, false, KEEL_FOREVER), 0);
    assert_int_equal(times, 3);
    keel_pool_free(p);
}

static int fail_at_gate(void *arg)
{
    pass(arg);
    return -ENODEV;
}

static void a_failing_initializer_breaks_the_pool(void **state)
{
    for (int policy = 0; policy <= KEEL_POOL_FEEDBACK; policy++) {
        struct gate g = {0};
        const struct keel_pool_how how = {.size = 2,
                                          .policy =
                                              (enum keel_pool_policy)policy,
                                          .initializer = fail_at_gate,
                                          .arg = &g};
        struct keel_future *f[20];
        struct keel_pool *p;
        _Atomic int ran = 0;

        (void)state;
        assert_int_equal(keel_pool_new(&how, &p), 0);
        for (int i = 0; i < 20; i++)
            f[i] = submit(p, count, &ran);
        assert_true(keel_future_cancel(f[19]));
        keel_event_set(&g.open);
        for (int i = 0; i < 19; i++)
            assert_int_equal(result(f[i]), -ENOTRECOVERABLE);
        assert_int_equal(result(f[19]), -ECANCELED);
        assert_int_equal(keel_pool_submit(p, count, &ran, KEEL_NOW, NULL),
                         -ENOTRECOVERABLE);
        assert_int_equal(keel_pool_error(p), -ENODEV);
        assert_int_equal(keel_pool_shutdown(p, false, KEEL_FOREVER), 0);
        assert_int_equal(ran, 0);
        keel_pool_free(p);
    }
}

/* ---- map --------------------------------------------------------------------------- */

struct sums {
    int out[1000];
    _Atomic int begun, under_way, most;
    int fails; /* the index at which fn fails; 0: none does */
};

static int square(void *arg, size_t index)
{
    struct sums *s = arg;
    int now = atomic_fetch_add(&s->under_way, 1) + 1;
    int most = atomic_load(&s->most);

    while (most < now && !atomic_compare_exchange_weak(&s->most, &most, now))
        ;
    atomic_fetch_add(&s->begun, 1);
    s->out[index] = (int)(index * index);
    atomic_fetch_sub(&s->under_way, 1);
    return s->fails && (int)index >= s->fails ? -(int)index : (int)index;
}

static void map_runs_all(void **state)
{
    static struct sums s;
    struct keel_pool *p = pool_of(3, KEEL_POOL_FIRST_COME);

    (void)state;
    assert_int_equal(keel_pool_map(p, 0, 1000, square, &s, KEEL_FOREVER), 0);
    for (int i = 0; i < 1000; i++)
        assert_int_equal(s.out[i], i * i);
    assert_int_equal(keel_pool_map(p, 0, 0, square, &s, KEEL_FOREVER), 0);
    keel_pool_free(p);
}

static void map_gives_results_in_order(void **state)
{
    static struct sums s;
    struct keel_pool *p = pool_of(3, KEEL_POOL_FIRST_COME);
    struct keel_pool_map *m;
    int rc, n = 0, got;

    (void)state;
    assert_int_equal(
        keel_pool_map_begin(p, 7, 500, square, &s, KEEL_FOREVER, &m), 0);
    while ((rc = keel_pool_map_next(m, &got)) == 0)
        assert_int_equal(got, n++);
    assert_int_equal(rc, -ENOENT);
    assert_int_equal(n, 500);
    keel_pool_map_free(m);
    keel_pool_free(p);
}

static void map_is_bounded_in_flight(void **state)
{
    static struct sums s;
    struct keel_pool *p = pool_of(4, KEEL_POOL_FIRST_COME);
    struct keel_pool_map *m;
    int got;

    (void)state;
    assert_int_equal(keel_pool_map(p, 2, 1000, square, &s, KEEL_FOREVER), 0);
    assert_in_range(s.most, 1, 2);
    /* Nor is who is slow to ask overrun. */
    s.begun = 0;
    assert_int_equal(
        keel_pool_map_begin(p, 3, 100, square, &s, KEEL_FOREVER, &m), 0);
    for (int i = 0; i < 10; i++)
        assert_int_equal(keel_pool_map_next(m, &got), 0);
    assert_int_equal(keel_pool_shutdown(p, false, KEEL_FOREVER), 0);
    assert_in_range(s.begun, 10, 13);
    for (int i = 10; i < s.begun; i++)
        assert_int_equal(keel_pool_map_next(m, &got), 0);
    assert_int_equal(keel_pool_map_next(m, &got), -EPIPE);
    keel_pool_map_free(m);
    keel_pool_free(p);
}

static void map_ends_with_the_first_error_in_order(void **state)
{
    static struct sums s = {.fails = 20};
    struct keel_pool *p = pool_of(3, KEEL_POOL_FIRST_COME);

    (void)state;
    assert_int_equal(keel_pool_map(p, 10, 1000, square, &s, KEEL_FOREVER), -20);
    assert_in_range(s.begun, 21, 31);
    keel_pool_free(p);
}

struct slow {
    struct gate gate;
    keel_ns begun;
    _Atomic int ran;
};

static int slow_item(void *arg, size_t index)
{
    struct slow *s = arg;

    atomic_fetch_add(&s->ran, 1);
    return index == 2 ? pass(&s->gate) : 0;
}

static int open_gate_later(void *arg)
{
    struct slow *s = arg;

    /* On a busy machine the deadline of the map may pass before; and who waits
     * must have had a turn after it, or all is done when it looks. */
    (void)keel_event_wait(&s->gate.entered, keel_after(KEEL_SECOND));
    (void)keel_sleep(keel_after(200 * KEEL_MS));
    keel_event_set(&s->gate.open);
    return 0;
}

static void the_deadline_of_map_counts_from_the_call(void **state)
{
    struct keel_pool *p = pool_of(1, KEEL_POOL_FIRST_COME);
    struct slow s = {0};
    struct keel_pool_map *m;
    struct keel_thread *t;
    int got;

    (void)state;
    /* Not from each result: two are there in time, the third never. */
    assert_int_equal(keel_pool_map_begin(p, 0, 9, slow_item, &s,
                                         keel_after(20 * KEEL_MS), &m),
                     0);
    assert_int_equal(keel_event_wait(&s.gate.entered, KEEL_FOREVER), 0);
    assert_int_equal(keel_pool_map_next(m, &got), 0);
    assert_int_equal(keel_pool_map_next(m, &got), 0);
    assert_int_equal(keel_pool_map_next(m, &got), -ETIMEDOUT);
    assert_int_equal(keel_pool_map_next(m, &got), -ETIMEDOUT);
    keel_event_set(&s.gate.open);
    keel_pool_map_free(m);
    /* And what runs is waited for. */
    s = (struct slow){0};
    assert_int_equal(keel_thread_start("opens", open_gate_later, &s, &t), 0);
    assert_int_equal(
        keel_pool_map(p, 0, 9, slow_item, &s, keel_after(20 * KEEL_MS)),
        -ETIMEDOUT);
    assert_int_equal(keel_thread_join(t, KEEL_FOREVER, NULL), 0);
    assert_in_range(s.ran, 0, 9);
    keel_pool_free(p);
}

static int map_in_co(void *arg)
{
    struct slow *s = arg;
    struct keel_pool *p = pool_of(2, KEEL_POOL_FIRST_COME);
    int rc = keel_pool_map(p, 2, 9, slow_item, s, KEEL_FOREVER);

    keel_pool_free(p);
    return rc;
}

CO_TEST(a_cancelled_caller_ends_its_map)
{
    struct slow s = {0};
    struct keel_co *co = test_spawn(map_in_co, &s);

    assert_int_equal(keel_event_wait(&s.gate.entered, KEEL_FOREVER), 0);
    keel_cancel(co);
    keel_yield();
    keel_event_set(&s.gate.open);
    assert_int_equal(test_join(co), -ECANCELED);
    return 0;
}

/* ---- limits and failures ----------------------------------------------------------- */

static void limits_are_told(void **state)
{
    struct keel_pool *p = NULL;

    (void)state;
    assert_int_equal(keel_pool_new(&(struct keel_pool_how){.size = 1025}, &p),
                     -EINVAL);
    assert_int_equal(keel_pool_new(&(struct keel_pool_how){.levels = 9}, &p),
                     -EINVAL);
    assert_int_equal(
        keel_pool_new(
            &(struct keel_pool_how){.policy = (enum keel_pool_policy)7}, &p),
        -EINVAL);
    assert_null(p);
}

static void new_survives_each_allocation_failure(void **state)
{
    const struct keel_pool_how how = {.size = 2};

    (void)state;
    for (unsigned nth = 1;; nth++) {
        struct keel_pool *p = NULL;
        int rc;

        fault_fail_alloc(nth);
        rc = keel_pool_new(&how, &p);
        if (!fault_fired()) {
            fault_clear();
            assert_int_equal(rc, 0);
            keel_pool_free(p);
            return;
        }
        assert_int_equal(rc, -ENOMEM);
        assert_null(p);
    }
}

static void new_survives_a_thread_that_cannot_start(void **state)
{
    const struct keel_pool_how how = {.size = 3};

    (void)state;
    for (unsigned nth = 1; nth <= 3; nth++) {
        struct keel_pool *p = NULL;

        fault_fail(KEEL_OP_THREAD, nth, EAGAIN);
        assert_int_equal(keel_pool_new(&how, &p), -EAGAIN);
        assert_null(p);
    }
    fault_clear();
}

static void submit_without_memory_changes_nothing(void **state)
{
    struct keel_pool *p = pool_of(1, KEEL_POOL_FIRST_COME);
    struct keel_future *f = NULL;
    int n = 1;

    (void)state;
    fault_fail_alloc(1);
    assert_int_equal(keel_pool_submit(p, twice, &n, KEEL_NOW, &f), -ENOMEM);
    assert_null(f);
    assert_int_equal(result(submit(p, twice, &n)), 2);
    fault_clear();
    keel_pool_free(p);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(exit_waits_for_what_is_pending),
        cmocka_unit_test(a_job_has_its_result_and_its_argument_in_the_future),
        cmocka_unit_test(a_coroutine_submits_and_parks),
        cmocka_unit_test(threads_bear_the_prefix_and_a_number),
        cmocka_unit_test(calls_of_keel_work_in_a_job),
        cmocka_unit_test(callbacks_run_where_the_job_ran),
        cmocka_unit_test(a_job_that_is_cancelled_before_never_begins),
        cmocka_unit_test(nobody_need_want_the_future),
        cmocka_unit_test(futures_outlive_the_pool),
        cmocka_unit_test(a_bounded_pool_makes_submit_wait),
        cmocka_unit_test(a_long_job_keeps_no_other_waiting),
        cmocka_unit_test(first_come_is_strict_among_small_jobs_too),
        cmocka_unit_test(many_submitters_lose_no_job),
        cmocka_unit_test(each_job_is_run_or_refused),
        cmocka_unit_test(first_come_is_first_served_to_its_end),
        cmocka_unit_test(the_shortest_job_comes_first_equal_ones_in_order),
        cmocka_unit_test(a_shorter_job_that_comes_between_steps_goes_first),
        cmocka_unit_test(round_robin_gives_each_a_step_in_turn),
        cmocka_unit_test(round_robin_goes_by_quanta),
        cmocka_unit_test(feedback_lets_short_jobs_pass),
        cmocka_unit_test(feedback_interrupts_a_quantum_for_a_newcomer),
        cmocka_unit_test(feedback_boosts_those_that_starve),
        cmocka_unit_test(submit_after_shutdown_is_an_error),
        cmocka_unit_test(shutdown_without_wait_still_runs_what_is_pending),
        cmocka_unit_test(shutdown_can_cancel_what_has_not_begun),
        cmocka_unit_test(what_has_begun_ends_its_steps_after_a_cancel),
        cmocka_unit_test(
            free_cancels_what_has_not_begun_and_waits_for_the_rest),
        cmocka_unit_test(waiting_for_its_own_pool_is_a_deadlock_that_is_told),
        cmocka_unit_test(shutdown_has_a_deadline_in_a_coroutine_too),
        cmocka_unit_test(the_initializer_runs_once_in_each_thread_first),
        cmocka_unit_test(a_failing_initializer_breaks_the_pool),
        cmocka_unit_test(map_runs_all),
        cmocka_unit_test(map_gives_results_in_order),
        cmocka_unit_test(map_is_bounded_in_flight),
        cmocka_unit_test(map_ends_with_the_first_error_in_order),
        cmocka_unit_test(the_deadline_of_map_counts_from_the_call),
        cmocka_unit_test(a_cancelled_caller_ends_its_map),
        cmocka_unit_test(limits_are_told),
        cmocka_unit_test(new_survives_each_allocation_failure),
        cmocka_unit_test(new_survives_a_thread_that_cannot_start),
        cmocka_unit_test(submit_without_memory_changes_nothing),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
