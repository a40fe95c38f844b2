/* SPDX-License-Identifier: MIT */
/* Process, thread or coroutine?  The same two jobs by each of them.
 *
 *     cc workers.c $(pkg-config --cflags --libs keel) && ./a.out --times
 *
 * One job computes: it counts primes.  The other waits: it asks a server that
 * answers after 20 ms.  Each is done 32 times, by four processes, by four
 * threads, and by coroutines of one thread.  With --times it also says how long
 * that took, which differs from run to run: what computes gains by each
 * processor that processes and threads can have, coroutines share one; what
 * waits gains by how many wait at once, and there may be any number of
 * coroutines. */
#include <stdio.h>
#include <string.h>

#include <keel/co.h>
#include <keel/net.h>
#include <keel/pool.h>
#include <keel/procpool.h>

enum { JOBS = 32, WORKERS = 4, BELOW = 50000, PRIMES = 5133 };

static char server[KEEL_ADDRESS_BYTES];

/* ---- the two jobs ---------------------------------------------------------- */

static int compute(void)
{
    int count = 0;

    for (int i = 2; i < BELOW; i++) {
        int d = 2;

        while (d * d <= i && i % d)
            d++;
        count += d * d > i;
    }
    return count;
}

/* The answer is the question. */
static int ask(const char *address, int question)
{
    keel_auto(stream) struct keel_stream *s = NULL;
    int rc = keel_dial(address, KEEL_FOREVER, &s), answer = 0;

    if (rc == 0)
        rc = keel_stream_write(s, &question, sizeof question, KEEL_FOREVER);
    if (rc == 0)
        rc =
            keel_stream_read_all(s, &answer, sizeof answer, NULL, KEEL_FOREVER);
    return rc < 0 ? rc : answer;
}

/* ---- the server: a coroutine for each connection ------------------------------ */

static int answer(void *arg)
{
    keel_auto(stream) struct keel_stream *s = arg;
    int question;

    if (keel_stream_read_all(s, &question, sizeof question, NULL,
                             KEEL_FOREVER) < 0)
        return 0;
    (void)keel_sleep(keel_after(20 * KEEL_MS));
    return keel_stream_write(s, &question, sizeof question, KEEL_FOREVER);
}

static int serve(void *arg)
{
    struct keel_listener *l = arg;
    struct keel_stream *s;

    while (keel_accept(l, KEEL_FOREVER, &s) == 0)
        if (keel_spawn(NULL, answer, s, NULL) < 0)
            keel_stream_close(s);
    keel_listener_close(l);
    return 0;
}

/* ---- each job by each kind of worker -------------------------------------------- */

static void put(int (*results)[JOBS], size_t i, int result)
{
    (*results)[i] = result;
}

static int compute_once(void *arg, size_t i)
{
    put(arg, i, compute());
    return 0;
}

static int ask_once(void *arg, size_t i)
{
    put(arg, i, ask(server, (int)i));
    return 0;
}

KEEL_TASK(compute_task)
{
    *(int *)out = compute();
    *ret_size = sizeof(int);
    return 0;
}

struct question {
    char server[KEEL_ADDRESS_BYTES];
    int number;
};

KEEL_TASK(ask_task)
{
    const struct question *q = in;

    *(int *)out = ask(q->server, q->number);
    *ret_size = sizeof(int);
    return 0;
}

static struct keel_procpool *processes;
static struct keel_pool *threads;

static int by_processes(bool waits, int (*results)[JOBS])
{
    struct question q[JOBS];

    for (int i = 0; i < JOBS; i++) {
        strcpy(q[i].server, server);
        q[i].number = i;
    }
    return keel_procpool_map(processes, waits ? "ask_task" : "compute_task", q,
                             sizeof *q, JOBS, results, sizeof(int), 1,
                             KEEL_FOREVER);
}

static int by_threads(bool waits, int (*results)[JOBS])
{
    return keel_pool_map(threads, 0, JOBS, waits ? ask_once : compute_once,
                         results, KEEL_FOREVER);
}

static int by_coroutines(bool waits, int (*results)[JOBS])
{
    return keel_group_map(JOBS, JOBS, waits ? ask_once : compute_once, results,
                          KEEL_FOREVER);
}

/* ---- the table --------------------------------------------------------------------- */

static int right(bool waits, int (*results)[JOBS])
{
    int n = 0;

    for (int i = 0; i < JOBS; i++)
        n += (*results)[i] == (waits ? i : PRIMES);
    return n;
}

static bool times;

static void row(const char *who, int (*by)(bool waits, int (*results)[JOBS]))
{
    static const char *const what[] = {"computed", "asked"};

    printf("%-10s", who);
    for (int waits = 0; waits < 2; waits++) {
        keel_ns begun = keel_now();
        int results[JOBS] = {0}, rc = by(waits, &results);

        printf("  %d of %d %s", rc < 0 ? 0 : right(waits, &results), JOBS,
               what[waits]);
        if (times)
            printf(" in %4d ms", (int)((keel_now() - begun) / KEEL_MS));
    }
    printf("\n");
}

static int table(void *arg)
{
    (void)arg;
    row("processes", by_processes);
    row("threads", by_threads);
    row("coroutines", by_coroutines);
    return 0;
}

int main(int argc, char **argv)
{
    const struct keel_procpool_how how = {.workers = WORKERS,
                                          .in_most = sizeof(struct question)};
    const struct keel_pool_how thread_how = {.size = WORKERS};
    keel_auto(procpool) struct keel_procpool *process_pool = NULL;
    keel_auto(pool) struct keel_pool *thread_pool = NULL;
    struct keel_spawn where = {.name = "server"};
    struct keel_listener *l;
    int rc;

    times = argc > 1 && strcmp(argv[1], "--times") == 0;
    if (keel_procpool_new(&how, &process_pool) < 0 ||
        keel_pool_new(&thread_how, &thread_pool) < 0)
        return 1;
    processes = process_pool;
    threads = thread_pool;
    if (keel_listen("127.0.0.1:0", &l) < 0 ||
        keel_loop_start("server", &where.loop) < 0)
        return 1;
    strcpy(server, keel_listener_address(l));
    if (keel_spawn(&where, serve, l, NULL) < 0)
        return 1;
    rc = keel_run(table, NULL);
    keel_loop_stop(where.loop);
    return rc < 0;
}
