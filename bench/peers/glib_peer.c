/* SPDX-License-Identifier: MIT */
/* What the same pieces cost with GLib: glib_peer FIGURE, or glib_peer echo PORT
 * LOOPS.  Prints one number, as keel_bench does; threads are pinned likewise.
 * A GAsyncQueue has no bound: its putters never wait. */
#include <sched.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <gio/gio.h>

enum {
    LOCAL_ITEMS = 2000000,
    ITEMS = 500000,
    JOBS = 300000,
    WINDOW = 1024,
    TRIPS = 20000,
};

static size_t cpus[CPU_SETSIZE];
static int cpu_count;

static void find_cpus(void)
{
    cpu_set_t set;

    sched_getaffinity(0, sizeof set, &set);
    for (size_t i = 0; i < CPU_SETSIZE; i++)
        if (CPU_ISSET(i, &set))
            cpus[cpu_count++] = i;
}

static void pin(int nth)
{
    cpu_set_t set;

    CPU_ZERO(&set);
    CPU_SET(cpus[nth % cpu_count], &set);
    sched_setaffinity(0, sizeof set, &set);
}

static double per(gint64 begun, long count)
{
    return (double)(g_get_monotonic_time() - begun) * 1e3 / (double)count;
}

/* ---- queues --------------------------------------------------------------- */

static GAsyncQueue *queue;
static int item;
static gint ready, started;

struct task {
    int cpu;
    bool gets;
    long count;
};

static gpointer items(gpointer arg)
{
    const struct task *t = arg;

    pin(t->cpu);
    g_atomic_int_inc(&ready);
    while (!g_atomic_int_get(&started))
        g_thread_yield();
    for (long i = 0; i < t->count; i++) {
        if (t->gets)
            g_async_queue_pop(queue);
        else
            g_async_queue_push(queue, &item);
    }
    return NULL;
}

static double across(int pairs)
{
    GThread *thread[16];
    struct task task[16];
    gint64 begun;

    queue = g_async_queue_new();
    for (int i = 0; i < 2 * pairs; i++) {
        task[i] = (struct task){i, i % 2, ITEMS / pairs};
        thread[i] = g_thread_new("bench", items, &task[i]);
    }
    while (g_atomic_int_get(&ready) < 2 * pairs)
        g_thread_yield();
    begun = g_get_monotonic_time();
    g_atomic_int_set(&started, 1);
    for (int i = 0; i < 2 * pairs; i++)
        g_thread_join(thread[i]);
    return per(begun, ITEMS / pairs * pairs);
}

/* In one thread: as many put as fit a bounded one, then as many taken. */
static double local(void)
{
    gint64 begun = g_get_monotonic_time();

    queue = g_async_queue_new();
    for (long i = 0; i < LOCAL_ITEMS; i += WINDOW) {
        for (int j = 0; j < WINDOW; j++)
            g_async_queue_push(queue, &item);
        for (int j = 0; j < WINDOW; j++)
            g_async_queue_pop(queue);
    }
    return per(begun, (LOCAL_ITEMS + WINDOW - 1) / WINDOW * WINDOW);
}

/* ---- the pool ------------------------------------------------------------- */

static void job(gpointer data, gpointer results)
{
    g_async_queue_push(results, data);
}

/* Nanoseconds a job, every result taken, `window` under way. */
static double run_jobs(long count, long window, int workers)
{
    GAsyncQueue *results = g_async_queue_new();
    GThreadPool *p = g_thread_pool_new(job, results, workers, TRUE, NULL);
    gint64 begun = g_get_monotonic_time();

    for (long i = 0; i < count + window; i++) {
        if (i >= window)
            g_async_queue_pop(results);
        if (i < count)
            g_thread_pool_push(p, &item, NULL);
    }
    return per(begun, count);
}

static int worker_count(void)
{
    return cpu_count > 1 ? cpu_count - 1 : 1;
}

/* ---- the echo server ------------------------------------------------------ */

static gboolean readable(GSocket *c, GIOCondition why, gpointer arg)
{
    char buf[4096];
    gssize got = g_socket_receive(c, buf, sizeof buf, NULL, NULL);

    (void)why;
    (void)arg;
    if (got > 0 && g_socket_send(c, buf, (gsize)got, NULL, NULL) == got)
        return G_SOURCE_CONTINUE;
    g_socket_close(c, NULL);
    return G_SOURCE_REMOVE;
}

static void watch(GSocket *s, GSocketSourceFunc fn)
{
    GSource *source = g_socket_create_source(s, G_IO_IN, NULL);

    g_source_set_callback(source, G_SOURCE_FUNC(fn), NULL, NULL);
    g_source_attach(source, NULL);
    g_source_unref(source);
}

static gboolean acceptable(GSocket *listener, GIOCondition why, gpointer arg)
{
    GSocket *c = g_socket_accept(listener, NULL, NULL);

    (void)why;
    (void)arg;
    if (!c)
        return G_SOURCE_CONTINUE;
    g_socket_set_blocking(c, FALSE);
    watch(c, readable);
    g_object_unref(c); /* the source holds it */
    return G_SOURCE_CONTINUE;
}

static int echo(guint16 port)
{
    GSocket *s = g_socket_new(G_SOCKET_FAMILY_IPV4, G_SOCKET_TYPE_STREAM,
                              G_SOCKET_PROTOCOL_TCP, NULL);
    GSocketAddress *a =
        g_inet_socket_address_new_from_string("127.0.0.1", port);

    if (!s || !g_socket_bind(s, a, TRUE, NULL))
        return 1;
    g_socket_set_listen_backlog(s, 4096);
    if (!g_socket_listen(s, NULL))
        return 1;
    g_socket_set_blocking(s, FALSE);
    a = g_socket_get_local_address(s, NULL);
    printf("listening on 127.0.0.1:%d (glib)\n",
           g_inet_socket_address_get_port(G_INET_SOCKET_ADDRESS(a)));
    fflush(stdout);
    watch(s, acceptable);
    g_main_loop_run(g_main_loop_new(NULL, FALSE));
    return 0;
}

int main(int argc, char **argv)
{
    const char *what = argc > 1 ? argv[1] : "";

    find_cpus();
    if (argc == 4 && strcmp(what, "echo") == 0)
        return echo((guint16)atoi(argv[2]));
    if (strcmp(what, "queue_local_ns") == 0)
        printf("%.3f\n", local());
    else if (strcmp(what, "queue_1p1c_ns") == 0)
        printf("%.3f\n", across(1));
    else if (strcmp(what, "queue_4p4c_ns") == 0)
        printf("%.3f\n", across(4));
    else if (strcmp(what, "pool_bulk_per_s") == 0)
        printf("%.1f\n", 1e9 / run_jobs(JOBS, WINDOW, worker_count()));
    else if (strncmp(what, "pool_roundtrip", 14) == 0)
        printf("%.1f\n", run_jobs(TRIPS, 1, 1));
    else
        return 2;
    return 0;
}
