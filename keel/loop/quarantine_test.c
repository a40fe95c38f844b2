/* SPDX-License-Identifier: MIT */
/* Use after free, in a program compiled with KEEL_DEBUG: one of each kind of
 * object is made, freed and used, each in a process of its own, because it is to
 * die of that. */
#define KEEL_DEBUG

#include "test/test.h"

#include <signal.h>
#include <stdio.h>
#include <sys/wait.h>
#include <unistd.h>

#include <keel/future.h>
#include <keel/lock.h>
#include <keel/log.h>
#include <keel/map.h>
#include <keel/pipe.h>
#include <keel/pool.h>
#include <keel/queue.h>
#include <keel/shqueue.h>
#include <keel/stream.h>
#include <keel/thread.h>
#include <keel/udp.h>

#include "loop/sanitize.h"

#define MAKE(call)                                                             \
    do {                                                                       \
        if ((call) < 0)                                                        \
            _exit(2);                                                          \
    } while (0)

/* What is a thread's too, who may let go a moment later. */
#define UNTIL_IT_IS_GONE(call)                                                 \
    for (int looks = 0; looks < 5000; looks++) {                               \
        call;                                                                  \
        keel_sleep(keel_after(KEEL_MS));                                       \
    }

static int nothing(void *arg)
{
    return arg != NULL;
}

static void ring(void)
{
    struct keel_queue *q;

    MAKE(keel_queue_new(4, KEEL_QUEUE_SHARED, &q));
    keel_queue_free(q);
    keel_queue_put(q, "x", KEEL_NOW);
}

static void local_ring(void)
{
    struct keel_queue *q;
    void *got;

    MAKE(keel_queue_new(4, KEEL_QUEUE_LOCAL, &q));
    keel_queue_free(q);
    keel_queue_get(q, KEEL_NOW, &got);
}

static void channel(void)
{
    struct keel_queue *q;
    void *got;

    MAKE(keel_queue_new(0, KEEL_QUEUE_SHARED, &q));
    keel_queue_free(q);
    keel_queue_get(q, KEEL_NOW, &got);
}

static void lifo(void)
{
    struct keel_queue *q;

    MAKE(keel_queue_new_lifo(4, &q));
    keel_queue_free(q);
    keel_queue_close(q);
}

static void group(void)
{
    struct keel_group *g;

    MAKE(keel_group_new(0, &g));
    keel_group_free(g);
    keel_group_join(g, KEEL_NOW);
}

static void future(void)
{
    struct keel_future *f;

    MAKE(keel_future_new(&f));
    keel_future_free(f);
    keel_future_free(f);
    keel_future_done(f);
}

static void completed(void)
{
    struct keel_completed *c;
    struct keel_future *f;

    MAKE(keel_completed_new(NULL, 0, &c));
    keel_completed_free(c);
    keel_completed_next(c, KEEL_NOW, &f);
}

static void pool(void)
{
    const struct keel_pool_how how = {.size = 1};
    struct keel_pool *p;

    MAKE(keel_pool_new(&how, &p));
    keel_pool_free(p);
    UNTIL_IT_IS_GONE(keel_pool_size(p));
}

static void map(void)
{
    struct keel_map *m;

    MAKE(keel_map_new(&m));
    keel_map_free(m);
    keel_map_count(m);
}

static void thread(void)
{
    struct keel_thread *t;

    MAKE(keel_thread_start("t", nothing, NULL, &t));
    MAKE(keel_thread_join(t, KEEL_FOREVER, NULL));
    UNTIL_IT_IS_GONE(keel_thread_join(t, KEEL_FOREVER, NULL));
}

static void never(void *arg)
{
    (void)arg;
}

static void timer(void)
{
    struct keel_timer *t;

    MAKE(keel_timer_start(keel_after(KEEL_SECOND), never, NULL, &t));
    keel_timer_cancel(t);
    keel_timer_free(t);
    UNTIL_IT_IS_GONE(keel_timer_cancel(t));
}

static void pipe_end(void)
{
    struct keel_pipe *a, *b;

    MAKE(keel_pipe_new(&a, &b));
    keel_pipe_free(a);
    keel_pipe_put(a, "x", 1, KEEL_NOW);
}

static void shared_queue(void)
{
    struct keel_shqueue *q;

    MAKE(keel_shqueue_new(4, 16, &q));
    keel_shqueue_free(q);
    keel_shqueue_put(q, "x", 1, KEEL_NOW);
}

static void stream(void)
{
    struct keel_stream *ends[2];
    char byte;

    MAKE(keel_stream_pair(64, ends));
    keel_stream_close(ends[1]);
    keel_stream_close(ends[0]);
    keel_stream_read(ends[0], &byte, 1, KEEL_NOW);
}

static void socket_of_datagrams(void)
{
    struct keel_udp *u;

    MAKE(keel_udp_open("127.0.0.1:0", 0, &u));
    keel_udp_close(u);
    keel_udp_fd(u);
}

static void log_of_its_own(void)
{
    struct keel_log *log;

    MAKE(keel_log_new(STDERR_FILENO, KEEL_LOG_INFO, &log));
    keel_log_free(log);
    keel_log_dropped(log);
}

static void memory(void)
{
    char *text = keel_strdup("gone");

    keel_free(text);
    if (((volatile char *)text)[1] == 'o')
        _exit(3);
}

struct use {
    void (*fn)(void);
    const char *call, *freed;
};

static const struct use uses[] = {
    {ring, "keel_queue_put", "keel_queue_free"},
    {local_ring, "keel_queue_get", "keel_queue_free"},
    {channel, "keel_queue_get", "keel_queue_free"},
    {lifo, "keel_queue_close", "keel_queue_free"},
    {group, "keel_group_join", "keel_group_free"},
    {future, "keel_future_done", "keel_future_free"},
    {completed, "keel_completed_next", "keel_completed_free"},
    {pool, "keel_pool_size", "keel_pool_free"},
    {map, "keel_map_count", "keel_map_free"},
    {thread, "keel_thread_join", "keel_thread_join"},
    {timer, "keel_timer_cancel", ""},
    {pipe_end, "keel_pipe_put", "keel_pipe_free"},
    {shared_queue, "keel_shqueue_put", "keel_shqueue_free"},
    {stream, "keel_stream_read", "keel_stream_close"},
    {socket_of_datagrams, "keel_udp_fd", "keel_udp_close"},
    {log_of_its_own, "keel_log_dropped", "keel_log_free"},
    {memory, "memory", "keel_free"},
};

static int run(void *arg)
{
    const struct use *u = arg;

    u->fn();
    return 0;
}

static int run_named(void *arg)
{
    const struct keel_spawn how = {.name = "careless"};
    struct keel_co *co;

    MAKE(keel_spawn(&how, run, arg, &co));
    return keel_join(co, KEEL_FOREVER, NULL);
}

/* keel's, from before cmocka put its own in their place. */
static struct sigaction segv;

/* In a child; what it said, and how it ended. */
static int said_by(int (*fn)(void *arg), const void *arg, char *said,
                   size_t size)
{
    int out[2], status;
    size_t n = 0;
    ssize_t got;
    pid_t pid;

    assert_int_equal(pipe(out), 0);
    pid = fork();
    if (pid == 0) {
        dup2(out[1], STDERR_FILENO);
        signal(SIGABRT, SIG_DFL);
        sigaction(SIGSEGV, &segv, NULL);
        _exit(fn((void *)(uintptr_t)arg));
    }
    close(out[1]);
    while ((got = read(out[0], said + n, size - 1 - n)) > 0)
        n += (size_t)got;
    said[n] = '\0';
    close(out[0]);
    assert_int_equal(waitpid(pid, &status, 0), pid);
    return status;
}

static void must_say(const char *said, const char *what)
{
    if (!strstr(said, what))
        fail_msg("no '%s' in:\n%s", what, said);
}

/* This program has no frame pointers, so that of a call of keel that ends in a
 * jump to another the other is named.
 *
 * ASan's own report stands for ours, where the program is built with it. */
static void assert_told(const struct use *u, int status, const char *said,
                        const char *name)
{
    char text[128];

    if (status == 0)
        fail_msg("%s: was let pass", u->call);
#ifdef KEEL_ASAN
    must_say(said, "use-after-free");
    return;
#endif
#ifdef KEEL_TSAN
    /* It has the last word, and meets the fault itself where it is an atomic
     * operation's. */
    (void)u->call;
#else
    if (!WIFSIGNALED(status) || WTERMSIG(status) != SIGSEGV)
        fail_msg("%s: ended with %#x:\n%s", u->call, (unsigned)status, said);
    snprintf(text, sizeof text, "keel: use after free: %s", u->call);
    must_say(said, text);
#endif
    snprintf(text, sizeof text, "): it was freed by %s", u->freed);
    must_say(said, text);
    snprintf(text, sizeof text, ", in '%s'", name);
    must_say(said, text);
    must_say(said, "    freed\n");
}

static int in_a_coroutine(void *arg)
{
    return keel_run(run_named, arg);
}

static void what_was_freed_is_not_used_in_a_coroutine(void **state)
{
    char said[16384];

    (void)state;
    for (size_t i = 0; i < sizeof uses / sizeof *uses; i++) {
        int status = said_by(in_a_coroutine, &uses[i], said, sizeof said);

        assert_told(&uses[i], status, said, "careless");
    }
}

static int in_a_thread(void *arg)
{
    struct keel_thread *t;

    MAKE(keel_thread_start("reckless", run, arg, &t));
    return keel_thread_join(t, KEEL_FOREVER, NULL);
}

static void what_was_freed_is_not_used_in_a_thread(void **state)
{
    char said[16384];

    (void)state;
    for (size_t i = 0; i < sizeof uses / sizeof *uses; i++) {
        int status;

        if (uses[i].fn == local_ring || uses[i].fn == group)
            continue; /* a coroutine's */
        status = said_by(in_a_thread, &uses[i], said, sizeof said);
        assert_told(&uses[i], status, said, "reckless");
    }
}

/* ---- what stops by itself ---- */

static struct keel_event event;
static struct keel_lock lock;
static struct keel_rwlock rwlock;
static struct keel_semaphore semaphore;
static struct keel_barrier barrier;
static struct keel_cond cond;

static void ended_event(void)
{
    keel_event_fini(&event);
    keel_event_set(&event);
}

static void ended_lock(void)
{
    keel_lock_fini(&lock);
    keel_lock_hold(&lock);
    keel_lock_drop(&lock); /* else the call before were a jump */
}

static void ended_rwlock(void)
{
    keel_rwlock_fini(&rwlock);
    keel_rwlock_take_read(&rwlock, KEEL_NOW);
    keel_rwlock_drop(&rwlock); /* likewise */
}

static void ended_semaphore(void)
{
    keel_semaphore_init(&semaphore, 1, 1);
    keel_semaphore_fini(&semaphore);
    keel_semaphore_take(&semaphore, KEEL_NOW);
}

static void ended_barrier(void)
{
    keel_barrier_init(&barrier, 2, NULL, NULL);
    keel_barrier_fini(&barrier);
    keel_barrier_abort(&barrier);
}

static void ended_cond(void)
{
    keel_cond_fini(&cond);
    keel_cond_signal(&cond);
}

/* Its memory is the pool's, and used again. */
static void future_of_a_job(void)
{
    const struct keel_pool_how how = {.size = 1};
    struct keel_pool *p;
    struct keel_future *f;

    MAKE(keel_pool_new(&how, &p));
    MAKE(keel_pool_submit(p, nothing, NULL, KEEL_FOREVER, &f));
    MAKE(keel_future_result(f, KEEL_FOREVER, NULL));
    keel_future_free(f);
    UNTIL_IT_IS_GONE(keel_future_done(f));
}

static void freed_twice(void)
{
    void *p = keel_alloc(10);

    keel_free(p);
    keel_free(p);
}

static void joins_itself(void)
{
    keel_join(keel_current(), KEEL_NOW, NULL);
}

static void begins_twice(void)
{
    struct keel_thread *t;

    MAKE(keel_thread_new(NULL, nothing, NULL, &t));
    MAKE(keel_thread_begin(t));
    keel_thread_begin(t);
}

static const struct use stops[] = {
    {ended_event, "keel_event_set", "it has ended (_fini"},
    {ended_lock, "keel_lock_hold_at", "it has ended (_fini"},
    {ended_rwlock, "keel_rwlock_take_read_at", "it has ended (_fini"},
    {ended_semaphore, "keel_semaphore_take", "it has ended (_fini"},
    {ended_barrier, "keel_barrier_abort", "it has ended (_fini"},
    {ended_cond, "keel_cond_signal", "it has ended (_fini"},
    {future_of_a_job, "keel_future_done", "it has ended (_fini or _free)"},
    {freed_twice, "keel_free", "it was freed already"},
    {joins_itself, "keel_join", "it is the caller itself"},
    {begins_twice, "keel_thread_begin", "it began before"},
};

static void what_has_ended_is_not_used(void **state)
{
    char said[16384], text[128];

    (void)state;
    for (size_t i = 0; i < sizeof stops / sizeof *stops; i++) {
        int status = said_by(in_a_coroutine, &stops[i], said, sizeof said);

#ifdef KEEL_ASAN
        if (stops[i].fn == freed_twice) {
            must_say(said, "double-free");
            continue;
        }
#endif
        if (!WIFSIGNALED(status) || WTERMSIG(status) != SIGABRT)
            fail_msg("%s: ended with %#x:\n%s", stops[i].call, (unsigned)status,
                     said);
        snprintf(text, sizeof text, "assertion failed: %s", stops[i].call);
        must_say(said, text);
        must_say(said, stops[i].freed);
        must_say(said, ", in 'careless'");
    }
}

/* ---- what is not freed ---- */

static int use_a_lot(void *arg)
{
    enum { MANY = 20000 };
    static char *piece[MANY];

    (void)arg;
    for (int i = 0; i < MANY; i++) {
        MAKE((piece[i] = keel_calloc(1, (size_t)i % 9000 + 1)) ? 0 : -1);
        if (piece[i][i % 9000] != 0)
            _exit(3);
        piece[i][0] = (char)i;
    }
    for (int i = 0; i < MANY; i++) {
        MAKE((piece[i] = keel_realloc(piece[i], 20000)) ? 0 : -1);
        piece[i][19999] = 1;
    }
    for (int i = 0; i < MANY; i++) {
        if (piece[i][0] != (char)i)
            _exit(4);
        keel_free(piece[i]);
    }
    return 0;
}

static void more_than_can_be_watched_is_memory_all_the_same(void **state)
{
    char said[16384];

    (void)state;
    assert_int_equal(said_by(use_a_lot, NULL, said, sizeof said), 0);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(what_was_freed_is_not_used_in_a_coroutine),
        cmocka_unit_test(what_was_freed_is_not_used_in_a_thread),
        cmocka_unit_test(what_has_ended_is_not_used),
        cmocka_unit_test(more_than_can_be_watched_is_memory_all_the_same),
    };

    sigaction(SIGSEGV, NULL, &segv);
    return cmocka_run_group_tests(tests, NULL, NULL);
}
