/* SPDX-License-Identifier: MIT */
/* The simulated world itself: what its clock, network, disk and threads do, and
 * how a run ends. */
#include "test/test.h"

#include <poll.h>
#include <stdio.h>
#include <sys/wait.h>
#include <unistd.h>

#include <keel/file.h>
#include <keel/io.h>
#include <keel/lock.h>
#include <keel/net.h>
#include <keel/pipe.h>
#include <keel/process.h>
#include <keel/procpool.h>
#include <keel/queue.h>
#include <keel/shared.h>
#include <keel/sim.h>
#include <keel/thread.h>
#include <keel/udp.h>

#define SOON (keel_after(5 * KEEL_SECOND))

/* ---- running ------------------------------------------------------------------ */

static int in_loop(void *arg)
{
    return keel_run((int (*)(void *))(uintptr_t)arg, NULL);
}

/* `fn` as the first coroutine of a loop. */
static struct keel_sim_result run_co(struct keel_sim_how how,
                                     int (*fn)(void *arg))
{
    struct keel_sim_result r;

    assert_int_equal(keel_sim_run(&how, in_loop, (void *)(uintptr_t)fn, &r), 0);
    assert_int_equal(r.value, 0);
    return r;
}

static struct keel_sim_result run_thread(struct keel_sim_how how,
                                         int (*fn)(void *arg))
{
    struct keel_sim_result r;

    assert_int_equal(keel_sim_run(&how, fn, NULL, &r), 0);
    assert_int_equal(r.value, 0);
    return r;
}

/* A run that does not end leaves its workers: in a child. */
static int in_child(int (*fn)(void), char *said, size_t room)
{
    int out[2], status;
    size_t n = 0;
    ssize_t got;
    pid_t pid;

    assert_int_equal(pipe(out), 0);
    pid = fork();
    if (pid == 0) {
        dup2(out[1], STDERR_FILENO);
        _exit(fn());
    }
    close(out[1]);
    while ((got = read(out[0], said + n, room - 1 - n)) > 0)
        n += (size_t)got;
    said[n] = '\0';
    close(out[0]);
    assert_int_equal(waitpid(pid, &status, 0), pid);
    return WIFEXITED(status) ? WEXITSTATUS(status) : -1;
}

/* What a run leaves for the test that made it. */
static uint64_t left[4];

/* ---- the seed ------------------------------------------------------------------- */

static int some_work(void *arg)
{
    struct keel_queue *q = arg;

    for (int i = 0; i < 20; i++)
        if (keel_queue_put(q, q, KEEL_FOREVER) < 0)
            return -1;
    return 0;
}

static int three_threads(void *arg)
{
    struct keel_thread *t[3];
    struct keel_queue *q;
    void *got;

    (void)arg;
    assert_int_equal(keel_queue_new(2, KEEL_QUEUE_SHARED, &q), 0);
    for (int i = 0; i < 3; i++)
        assert_int_equal(keel_thread_start("worker", some_work, q, &t[i]), 0);
    for (int i = 0; i < 60; i++)
        assert_int_equal(keel_queue_get(q, KEEL_FOREVER, &got), 0);
    for (int i = 0; i < 3; i++)
        assert_int_equal(keel_thread_join(t[i], KEEL_FOREVER, NULL), 0);
    keel_queue_free(q);
    return 0;
}

static size_t slurp(const char *path, char *ret, size_t room)
{
    FILE *f = fopen(path, "re");
    size_t size;

    assert_non_null(f);
    size = fread(ret, 1, room, f);
    fclose(f);
    unlink(path);
    return size;
}

static void the_same_seed_gives_the_same_trace_byte_for_byte(void **state)
{
    static char text[3][1 << 20];
    const uint64_t seeds[] = {5, 5, 6};
    struct keel_sim_result r[3];
    char path[] = "/tmp/keel-sim-XXXXXX";
    size_t size[3];

    (void)state;
    close(mkstemp(path));
    for (int i = 0; i < 3; i++) {
        r[i] =
            run_thread((struct keel_sim_how){.seed = seeds[i], .trace = path},
                       three_threads);
        size[i] = slurp(path, text[i], sizeof text[i]);
        assert_true(size[i] > 100 && size[i] < sizeof text[i]);
    }
    assert_int_equal(r[0].trace, r[1].trace);
    assert_int_equal(size[0], size[1]);
    assert_memory_equal(text[0], text[1], size[0]);
    assert_int_not_equal(r[0].trace, r[2].trace);
}

static int draws(void *arg)
{
    (void)arg;
    assert_true(keel_sim_runs());
    for (int i = 0; i < 2; i++)
        left[i] = keel_sim_draw(UINT64_C(1) << 60);
    keel_random(&left[2], 2 * sizeof *left);
    return 0;
}

static void randomness_is_the_seeds(void **state)
{
    uint64_t first[4];

    (void)state;
    run_thread((struct keel_sim_how){.seed = 1}, draws);
    memcpy(first, left, sizeof first);
    run_thread((struct keel_sim_how){.seed = 1}, draws);
    assert_memory_equal(first, left, sizeof first);
    run_thread((struct keel_sim_how){.seed = 2}, draws);
    assert_memory_not_equal(first, left, sizeof first);
    assert_false(keel_sim_runs());
    assert_true(keel_sim_draw(3) < 3);
}

/* ---- how a run ends ---------------------------------------------------------- */

static int waits_for_nothing(void *arg)
{
    struct keel_event never;

    (void)arg;
    keel_event_init(&never);
    return keel_event_wait(&never, KEEL_FOREVER);
}

static int joins_a_sleeper(void *arg)
{
    const struct keel_spawn how = {.name = "sleeper"};
    struct keel_co *co;

    (void)arg;
    assert_int_equal(keel_spawn(&how, waits_for_nothing, NULL, &co), 0);
    return keel_join(co, KEEL_FOREVER, NULL);
}

static int deadlock(void)
{
    const struct keel_sim_how how = {.seed = 3};
    struct keel_sim_result r;
    int rc =
        keel_sim_run(&how, in_loop, (void *)(uintptr_t)joins_a_sleeper, &r);
    int again = keel_sim_run(&how, draws, NULL, &r);

    return rc == -EDEADLK && again == -ENOTRECOVERABLE ? 0 : 1;
}

static void a_deadlock_is_a_result_that_says_who_waits_for_what(void **state)
{
    char said[4096];

    (void)state;
    assert_int_equal(in_child(deadlock, said, sizeof said), 0);
    assert_non_null(strstr(said, "seed 3: nobody can go on"));
    assert_non_null(strstr(said, "1:program waits"));
    assert_non_null(strstr(said, "'sleeper' waits: event"));
    assert_non_null(strstr(said, "'main' waits: join"));
}

static int spins(void *arg)
{
    (void)arg;
    for (;;)
        keel_yield();
    return 0;
}

static int livelock(void)
{
    const struct keel_sim_how how = {.steps_most = 1000};
    struct keel_sim_result r;

    return keel_sim_run(&how, spins, NULL, &r) == -ETIME && r.steps == 1001 ? 0
                                                                            : 1;
}

static int sleeps_for_ever(void *arg)
{
    (void)arg;
    for (;;)
        keel_sleep(keel_after(KEEL_SECOND));
    return 0;
}

static int too_long(void)
{
    const struct keel_sim_how how = {.time_most = 60 * KEEL_SECOND};
    struct keel_sim_result r;

    return keel_sim_run(&how, sleeps_for_ever, NULL, &r) == -ETIME &&
                   r.time > 60 * KEEL_SECOND && r.time < 62 * KEEL_SECOND
               ? 0
               : 1;
}

static void steps_and_time_have_a_limit(void **state)
{
    char said[4096];

    (void)state;
    assert_int_equal(in_child(livelock, said, sizeof said), 0);
    assert_non_null(strstr(said, "it does not end"));
    assert_int_equal(in_child(too_long, said, sizeof said), 0);
}

static int runs_inside(void *arg)
{
    const struct keel_sim_how how = {0};
    struct keel_sim_result r;

    (void)arg;
    assert_int_equal(keel_sim_run(&how, draws, NULL, &r), -EBUSY);
    return 0;
}

static void one_run_at_a_time_and_bad_spans_are_refused(void **state)
{
    struct keel_sim_how how = {.latency_least = 2, .latency_most = 1};
    struct keel_sim_result r;

    (void)state;
    run_thread((struct keel_sim_how){0}, runs_inside);
    assert_int_equal(keel_run(runs_inside, NULL), 0);
    assert_int_equal(keel_sim_run(&how, draws, NULL, &r), -EINVAL);
    how = (struct keel_sim_how){.trace = "/nowhere/at/all"};
    assert_int_equal(keel_sim_run(&how, draws, NULL, &r), -ENOENT);
}

static int refuses(void *arg)
{
    struct keel_pipe *a, *b;
    struct keel_shared *shared;
    struct keel_procpool *pool;
    struct keel_address to[1];

    (void)arg;
    assert_int_equal(keel_process_prepare(), -EOPNOTSUPP);
    assert_int_equal(keel_pipe_new(&a, &b), -EOPNOTSUPP);
    assert_int_equal(keel_shared_new(4096, &shared), -EOPNOTSUPP);
    assert_int_equal(keel_procpool_new(NULL, &pool), -EOPNOTSUPP);
    assert_int_equal(keel_resolve("localhost:1", SOON, to, 1), -ENOENT);
    return 0;
}

static void processes_and_names_are_refused(void **state)
{
    (void)state;
    run_thread((struct keel_sim_how){0}, refuses);
    run_co((struct keel_sim_how){0}, refuses);
}

/* ---- time and threads ------------------------------------------------------------ */

#define MONTH (30 * 24 * 3600 * KEEL_SECOND)

static int sleeps_a_month(void *arg)
{
    keel_ns begun = keel_now();
    int64_t date = keel_wall_ns();

    (void)arg;
    assert_int_equal(keel_sleep(keel_after(MONTH)), 0);
    assert_true(keel_now() - begun >= MONTH);
    assert_true(keel_wall_ns() - date == keel_now() - begun);
    return 0;
}

static void a_month_takes_no_time(void **state)
{
    const struct keel_sim_how how = {.time_most = 2 * MONTH};

    (void)state;
    assert_true(run_thread(how, sleeps_a_month).steps < 10);
    run_co(how, sleeps_a_month);
}

static unsigned destroyed;
static struct keel_local *local;

static void destroy(void *value)
{
    destroyed += value == &destroyed;
}

static int uses_local(void *arg)
{
    (void)arg;
    assert_null(keel_local_get(local));
    assert_int_equal(keel_local_set(local, &destroyed), 0);
    keel_yield();
    assert_ptr_equal(keel_local_get(local), &destroyed);
    assert_string_equal(keel_name(), "user");
    return 7;
}

static int locals(void *arg)
{
    struct keel_thread *t[2];
    int result;

    (void)arg;
    destroyed = 0;
    assert_int_equal(keel_local_new(destroy, &local), 0);
    for (int i = 0; i < 2; i++)
        assert_int_equal(keel_thread_start("user", uses_local, NULL, &t[i]), 0);
    assert_int_equal(keel_local_set(local, &local), 0);
    for (int i = 0; i < 2; i++) {
        assert_int_equal(keel_thread_join(t[i], KEEL_FOREVER, &result), 0);
        assert_int_equal(result, 7);
    }
    assert_ptr_equal(keel_local_get(local), &local);
    assert_int_equal(destroyed, 2);
    assert_int_equal(keel_local_set(local, NULL), 0);
    keel_local_free(local);
    return 0;
}

static void each_thread_is_itself(void **state)
{
    (void)state;
    run_thread((struct keel_sim_how){0}, locals);
}

static int counted;

static int count_without_a_lock(void *arg)
{
    (void)arg;
    for (int i = 0; i < 5; i++) {
        int now = counted;

        keel_yield();
        counted = now + 1;
    }
    return 0;
}

static int race(void *arg)
{
    struct keel_thread *t[2];

    (void)arg;
    counted = 0;
    for (int i = 0; i < 2; i++)
        assert_int_equal(
            keel_thread_start("racer", count_without_a_lock, NULL, &t[i]), 0);
    for (int i = 0; i < 2; i++)
        assert_int_equal(keel_thread_join(t[i], KEEL_FOREVER, NULL), 0);
    return 0;
}

static void the_seed_draws_who_goes_on(void **state)
{
    bool seen[11] = {false};
    unsigned different = 0;

    (void)state;
    for (uint64_t seed = 0; seed < 200; seed++) {
        run_thread((struct keel_sim_how){.seed = seed}, race);
        assert_in_range(counted, 2, 10);
        different += !seen[counted];
        seen[counted] = true;
    }
    assert_true(different >= 4);
}

/* ---- the network -------------------------------------------------------------------- */

static struct keel_stream *pair[2];

static int accepts_one(void *arg)
{
    return keel_accept(arg, KEEL_FOREVER, &pair[1]);
}

/* A connection: pair[0] dialled, pair[1] accepted. */
static void connect_at(const char *address)
{
    struct keel_listener *l;
    struct keel_thread *t;
    struct keel_co *co = NULL;
    int rc;

    assert_int_equal(keel_listen(address, &l), 0);
    if (keel_current())
        co = test_spawn(accepts_one, l);
    else
        assert_int_equal(keel_thread_start("accepts", accepts_one, l, &t), 0);
    assert_int_equal(keel_dial(keel_listener_address(l), SOON, &pair[0]), 0);
    if (co)
        rc = test_join(co);
    else
        assert_int_equal(keel_thread_join(t, KEEL_FOREVER, &rc), 0);
    assert_int_equal(rc, 0);
    keel_listener_close(l);
}

static void hang_up(void)
{
    keel_stream_close(pair[0]);
    keel_stream_close(pair[1]);
}

static int talks(void *arg)
{
    static const char *const addresses[] = {"127.0.0.1:0", "[::1]:0",
                                            "10.1.2.3:99", "unix:/no/file"};
    char name[KEEL_ADDRESS_BYTES], got[6];

    (void)arg;
    for (size_t i = 0; i < sizeof addresses / sizeof *addresses; i++) {
        keel_ns begun;

        connect_at(addresses[i]);
        begun = keel_now();
        assert_int_equal(keel_stream_write(pair[0], "hello", 6, SOON), 0);
        assert_int_equal(keel_stream_read_all(pair[1], got, 6, NULL, SOON), 0);
        assert_string_equal(got, "hello");
        if (i < 3)
            assert_in_range(keel_now() - begun, KEEL_MS, 100 * KEEL_MS);
        assert_int_equal(keel_stream_peer(pair[1], name), 0);
        assert_int_equal(keel_stream_finish(pair[1], SOON), 0);
        assert_int_equal(keel_stream_read(pair[0], got, 1, SOON), 0);
        assert_int_equal(keel_stream_write(pair[0], "x", 1, SOON), 0);
        assert_int_equal(keel_stream_read(pair[1], got, 1, SOON), 1);
        hang_up();
    }
    return 0;
}

static void streams_talk_with_a_latency(void **state)
{
    const struct keel_sim_how how = {.latency_least = KEEL_MS,
                                     .latency_most = 3 * KEEL_MS};

    (void)state;
    run_co(how, talks);
    run_thread(how, talks);
}

static int writes_much(void *arg)
{
    size_t size = 1 << 20;
    char *much = calloc(1, size);
    int rc = keel_stream_write(pair[0], much, size, KEEL_FOREVER);

    free(much);
    *(bool *)arg = true;
    return rc ? rc : keel_stream_finish(pair[0], SOON);
}

static int much_goes_through(void *arg)
{
    bool written = false;
    struct keel_co *co;
    char buf[5000];
    size_t got = 0;
    ssize_t n;

    (void)arg;
    connect_at("127.0.0.1:0");
    co = test_spawn(writes_much, &written);
    assert_int_equal(keel_sleep(keel_after(KEEL_SECOND)), 0);
    assert_false(written);
    while ((n = keel_stream_read(pair[1], buf, sizeof buf, SOON)) > 0)
        got += (size_t)n;
    assert_int_equal(n, 0);
    assert_int_equal(got, 1 << 20);
    assert_int_equal(test_join(co), 0);
    hang_up();
    return 0;
}

static void who_does_not_read_holds_up_who_writes(void **state)
{
    (void)state;
    run_co((struct keel_sim_how){0}, much_goes_through);
}

static int meets_refusals(void *arg)
{
    struct keel_listener *l, *twice;
    struct keel_stream *s;

    (void)arg;
    assert_int_equal(keel_dial("127.0.0.1:9", SOON, &s), -ECONNREFUSED);
    assert_int_equal(keel_dial("unix:/none", SOON, &s), -ECONNREFUSED);
    assert_int_equal(keel_listen("127.0.0.1:80", &l), 0);
    assert_int_equal(keel_listen("127.0.0.1:80", &twice), -EADDRINUSE);
    assert_int_equal(keel_accept(l, keel_after(KEEL_MS), &s), -ETIMEDOUT);
    keel_listener_close(l);
    assert_int_equal(keel_dial("127.0.0.1:80", SOON, &s), -ECONNREFUSED);
    return 0;
}

static void where_nobody_listens_is_refused(void **state)
{
    (void)state;
    run_co((struct keel_sim_how){0}, meets_refusals);
    run_thread((struct keel_sim_how){0}, meets_refusals);
}

static int talks_until_lost(void *arg)
{
    char byte = 0;
    int rc = 0;

    (void)arg;
    connect_at("127.0.0.1:0");
    while (rc >= 0) {
        rc = keel_stream_write(pair[0], &byte, 1, SOON);
        if (rc == 0)
            rc = (int)keel_stream_read(pair[1], &byte, 1,
                                       keel_after(KEEL_SECOND));
        keel_sleep(keel_after(10 * KEEL_MS));
    }
    left[0] = rc == -ETIMEDOUT;
    assert_true(left[0] || rc == -ECONNRESET || rc == -EPIPE);
    if (left[0]) { /* silent: in the end the keepalive finds out */
        rc = (int)keel_stream_read(pair[1], &byte, 1, KEEL_FOREVER);
        assert_int_equal(rc, -ETIMEDOUT);
    }
    hang_up();
    return 0;
}

static void connections_are_lost_by_chance(void **state)
{
    struct keel_sim_how how = {.lost_ppm = 1000000};
    unsigned silent = 0, lost = 0;

    (void)state;
    for (; how.seed < 40; how.seed++) {
        lost += run_co(how, talks_until_lost).lost;
        silent += left[0] != 0;
    }
    assert_int_equal(lost, 40);
    assert_in_range(silent, 3, 25);
}

static int dials_badly(void *arg)
{
    struct keel_listener *l;
    struct keel_stream *s;
    char byte;
    int rc;

    (void)arg;
    assert_int_equal(keel_listen("127.0.0.1:80", &l), 0);
    rc = keel_dial("127.0.0.1:80", KEEL_FOREVER, &s);
    assert_true(rc == -ECONNREFUSED || rc == -ETIMEDOUT);
    left[rc == -ETIMEDOUT]++;
    keel_sim_calm();
    assert_int_equal(keel_dial("127.0.0.1:80", KEEL_FOREVER, &s), 0);
    keel_sim_cut();
    rc = (int)keel_stream_read(s, &byte, 1, KEEL_FOREVER);
    assert_true(rc == -ECONNRESET || rc == -ETIMEDOUT);
    keel_stream_close(s);
    keel_listener_close(l);
    return 0;
}

static void connecting_fails_by_chance_until_it_is_calm(void **state)
{
    struct keel_sim_how how = {.refused_ppm = 1000000};

    (void)state;
    memset(left, 0, sizeof left);
    for (; how.seed < 20; how.seed++)
        run_co(how, dials_badly);
    assert_true(left[0] > 2 && left[1] > 2);
}

static int reads_one(void *arg)
{
    char byte;

    (void)arg;
    return (int)keel_stream_read(pair[1], &byte, 1, KEEL_FOREVER);
}

/* What the pollers promise: poller.h. */
static int ends_waits(void *arg)
{
    struct keel_co *co;
    int fd;

    (void)arg;
    assert_string_equal(keel_poller_name(), "simulated");
    connect_at("127.0.0.1:0");
    fd = keel_stream_fd(pair[1]);
    assert_int_equal(keel_fd_poll(fd, POLLIN, keel_after(KEEL_MS)), -ETIMEDOUT);
    assert_int_equal(keel_fd_poll(fd, POLLOUT, SOON), POLLOUT);
    co = test_spawn(reads_one, NULL);
    keel_yield();
    keel_cancel(co);
    assert_int_equal(test_join(co), -ECANCELED);
    /* Who waits first is served first. */
    co = test_spawn(reads_one, NULL);
    keel_sleep(keel_after(KEEL_MS));
    assert_int_equal(keel_stream_write(pair[0], "ab", 2, SOON), 0);
    assert_int_equal(test_join(co), 1);
    assert_int_equal(reads_one(NULL), 1);
    /* Closed under who waits. */
    co = test_spawn(reads_one, NULL);
    keel_sleep(keel_after(KEEL_MS));
    keel_stream_close(pair[1]);
    assert_int_equal(test_join(co), -EBADF);
    assert_int_equal(keel_fd_poll(fd, POLLIN, SOON), -EBADF);
    keel_stream_close(pair[0]);
    return 0;
}

static int ends_a_threads_waits(void *arg)
{
    struct keel_thread *t;
    int rc;

    (void)arg;
    connect_at("127.0.0.1:0");
    assert_int_equal(keel_thread_start("reads", reads_one, NULL, &t), 0);
    keel_sleep(keel_after(KEEL_MS));
    keel_thread_cancel(t);
    assert_int_equal(keel_thread_join(t, KEEL_FOREVER, &rc), 0);
    assert_int_equal(rc, -ECANCELED);
    assert_int_equal(keel_thread_start("reads", reads_one, NULL, &t), 0);
    keel_sleep(keel_after(KEEL_MS));
    keel_stream_close(pair[1]);
    assert_int_equal(keel_thread_join(t, KEEL_FOREVER, &rc), 0);
    assert_int_equal(rc, -EBADF);
    keel_stream_close(pair[0]);
    return 0;
}

static void waits_end_by_cancel_deadline_and_close(void **state)
{
    struct keel_sim_how how = {0};

    (void)state;
    for (; how.seed < 10; how.seed++) {
        run_co(how, ends_waits);
        run_thread(how, ends_a_threads_waits);
    }
}

static int datagrams(void *arg)
{
    keel_auto(udp) struct keel_udp *a = NULL, *b = NULL;
    struct keel_datagram news;
    struct keel_address to;
    unsigned number, last = 0;

    (void)arg;
    assert_int_equal(keel_udp_open("127.0.0.1:0", 0, &a), 0);
    assert_int_equal(keel_udp_local(a, &to), 0);
    assert_int_equal(keel_udp_open("127.0.0.1:0", 0, &b), 0);
    for (number = 0; number < 200; number++)
        assert_int_equal(keel_udp_send_to(b, &to, &number, sizeof number, SOON),
                         0);
    memset(left, 0, sizeof left);
    while (keel_udp_recv(a, &number, sizeof number, keel_after(KEEL_SECOND),
                         &news) == sizeof number) {
        left[0]++;
        left[1] += number < last;
        last = number;
    }
    return 0;
}

static void datagrams_are_lost_doubled_and_overtaken(void **state)
{
    (void)state;
    run_co((struct keel_sim_how){0}, datagrams);
    assert_int_equal(left[0], 200);
    assert_true(left[1] > 0);
    run_co((struct keel_sim_how){.datagram_lost_ppm = 500000}, datagrams);
    assert_in_range(left[0], 60, 190);
}

static int reads_a_pipe(void *arg)
{
    int ends[2];
    char byte;

    (void)arg;
    assert_int_equal(pipe(ends), 0);
    assert_int_equal(write(ends[1], "x", 1), 1);
    assert_int_equal(keel_fd_adopt(ends[0]), 0);
    assert_int_equal(keel_fd_read(ends[0], &byte, 1, SOON), 1);
    close(ends[1]);
    assert_int_equal(keel_fd_read(ends[0], &byte, 1, SOON), 0);
    keel_fd_close(ends[0]);
    return 0;
}

static void the_kernels_descriptors_pass_through(void **state)
{
    (void)state;
    run_co((struct keel_sim_how){0}, reads_a_pipe);
    run_thread((struct keel_sim_how){0}, reads_a_pipe);
}

/* ---- the disk --------------------------------------------------------------------------- */

static int root_open(void)
{
    return keel_file_open_any("/disk", O_RDONLY | O_DIRECTORY, 0);
}

static int read_back(int root, const char *name, char ret[4])
{
    keel_auto(file) int fd = keel_file_open(root, name, O_RDONLY, 0);

    return fd < 0 ? fd : (int)keel_file_read(fd, ret, 4, 0);
}

static int make(int root, const char *name, bool sync)
{
    keel_auto(file) int fd = keel_file_open(root, name, O_RDWR | O_CREAT, 0600);
    int rc = fd < 0 ? fd : keel_file_write(fd, "text", 4, 0);

    if (rc == 0 && sync)
        rc = keel_file_sync(fd);
    if (rc == 0 && sync)
        rc = keel_file_sync(root);
    return rc;
}

static int loses_power(void *arg)
{
    int root = root_open(), rc;
    keel_ns begun = keel_now();
    char text[4];

    (void)arg;
    assert_true(root >= 0);
    assert_int_equal(make(root, "kept", true), 0);
    assert_true(keel_now() - begun >= 4 * KEEL_MS);
    assert_int_equal(make(root, "volatile", false), 0);
    assert_false(keel_sim_crashed());
    keel_sim_crash();
    assert_true(keel_sim_crashed());
    assert_int_equal(make(root, "late", false), -EIO);
    keel_sim_reboot();
    assert_false(keel_sim_crashed());
    assert_int_equal(read_back(root, "kept", text), -EBADF);
    root = root_open();
    assert_int_equal(read_back(root, "kept", text), 4);
    assert_memory_equal(text, "text", 4);
    assert_int_equal(read_back(root, "late", text), -ENOENT);
    rc = read_back(root, "volatile", text);
    left[rc == 4 && !memcmp(text, "text", 4)]++;
    keel_file_close(root);
    return 0;
}

static void a_crash_forgets_what_was_not_synced(void **state)
{
    struct keel_sim_how how = {.disk_least = KEEL_MS, .disk_most = 2 * KEEL_MS};

    (void)state;
    memset(left, 0, sizeof left);
    for (; how.seed < 40; how.seed++) {
        run_thread(how, loses_power);
        run_co(how, loses_power);
    }
    assert_true(left[0] > 5 && left[1] > 5);
}

static int writes_until_it_crashes(void *arg)
{
    int root = root_open(), rc = 0;
    char name[16];

    (void)arg;
    for (int i = 0; rc == 0; i++) {
        snprintf(name, sizeof name, "f%d", i);
        rc = make(root, name, true);
    }
    assert_int_equal(rc, -EIO);
    assert_true(keel_sim_crashed());
    return 0;
}

static void the_power_is_cut_by_chance(void **state)
{
    (void)state;
    assert_int_equal(run_co((struct keel_sim_how){.crash_within = 50},
                            writes_until_it_crashes)
                         .crashes,
                     1);
}

static int tries_in_vain(void *arg)
{
    struct keel_thread *t;
    int root = root_open();
    void *p = keel_alloc(10);

    (void)arg;
    assert_null(p);
    assert_int_equal(keel_thread_start("none", draws, NULL, &t), -ENOMEM);
    assert_int_equal(make(root, "f", true), -EIO);
    keel_sim_calm();
    p = keel_alloc(10);
    assert_non_null(p);
    keel_free(p);
    assert_int_equal(make(root, "f", true), 0);
    keel_file_close(root);
    return 0;
}

static void operations_fail_by_kind_until_it_is_calm(void **state)
{
    struct keel_sim_how how = {.seed = 1};

    (void)state;
    how.fault_ppm[KEEL_OP_ALLOC] = how.fault_ppm[KEEL_OP_SYNC] = 1000000;
    assert_int_equal(run_thread(how, tries_in_vain).faults, 3);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        /* First: TSan does not follow the child of a process that has had
         * fibers. */
        cmocka_unit_test(a_deadlock_is_a_result_that_says_who_waits_for_what),
        cmocka_unit_test(steps_and_time_have_a_limit),
        cmocka_unit_test(the_same_seed_gives_the_same_trace_byte_for_byte),
        cmocka_unit_test(randomness_is_the_seeds),
        cmocka_unit_test(one_run_at_a_time_and_bad_spans_are_refused),
        cmocka_unit_test(processes_and_names_are_refused),
        cmocka_unit_test(a_month_takes_no_time),
        cmocka_unit_test(each_thread_is_itself),
        cmocka_unit_test(the_seed_draws_who_goes_on),
        cmocka_unit_test(streams_talk_with_a_latency),
        cmocka_unit_test(who_does_not_read_holds_up_who_writes),
        cmocka_unit_test(where_nobody_listens_is_refused),
        cmocka_unit_test(connections_are_lost_by_chance),
        cmocka_unit_test(connecting_fails_by_chance_until_it_is_calm),
        cmocka_unit_test(waits_end_by_cancel_deadline_and_close),
        cmocka_unit_test(datagrams_are_lost_doubled_and_overtaken),
        cmocka_unit_test(the_kernels_descriptors_pass_through),
        cmocka_unit_test(a_crash_forgets_what_was_not_synced),
        cmocka_unit_test(the_power_is_cut_by_chance),
        cmocka_unit_test(operations_fail_by_kind_until_it_is_calm),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
