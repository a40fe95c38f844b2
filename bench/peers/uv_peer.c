/* SPDX-License-Identifier: MIT */
/* What the same pieces cost with libuv: uv_peer FIGURE, or uv_peer echo PORT
 * LOOPS.  Prints one number, as keel_bench does. */
#include <arpa/inet.h>
#include <netinet/in.h>
#include <pthread.h>
#include <sched.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

#include <uv.h>

enum { JOBS = 500000, WINDOW = 1024, TRIPS = 20000, LOOPS_MOST = 64 };

static void check(const char *what, int rc)
{
    if (rc >= 0)
        return;
    fprintf(stderr, "uv_peer: %s: %s\n", what, uv_strerror(rc));
    exit(1);
}

/* ---- the pool ------------------------------------------------------------- */

static long left, done;

static void job(uv_work_t *req)
{
    req->data = req;
}

static void job_done(uv_work_t *req, int status)
{
    check("job", status);
    done++;
    if (left == 0)
        return;
    left--;
    check("submit", uv_queue_work(req->loop, req, job, job_done));
}

/* Nanoseconds a job, `window` under way. */
static double run_jobs(long count, long window, unsigned workers)
{
    static uv_work_t reqs[WINDOW];
    uv_loop_t *loop = uv_default_loop();
    uint64_t begun;
    char size[16];

    snprintf(size, sizeof size, "%u", workers);
    setenv("UV_THREADPOOL_SIZE", size, 1);
    begun = uv_hrtime();
    left = count - window;
    for (long i = 0; i < window; i++)
        check("submit", uv_queue_work(loop, &reqs[i], job, job_done));
    uv_run(loop, UV_RUN_DEFAULT);
    if (done != count)
        exit(1);
    return (double)(uv_hrtime() - begun) / (double)count;
}

static unsigned worker_count(void)
{
    cpu_set_t set;
    int count = 1;

    if (sched_getaffinity(0, sizeof set, &set) == 0)
        count = CPU_COUNT(&set) - 1;
    return count > 0 ? (unsigned)count : 1;
}

/* ---- the echo server ------------------------------------------------------ */

static char buffer[LOOPS_MOST][4096];

static void lend(uv_handle_t *h, size_t size, uv_buf_t *ret)
{
    (void)size;
    *ret = uv_buf_init(h->loop->data, sizeof buffer[0]);
}

static void closed(uv_handle_t *h)
{
    free(h);
}

static void readable(uv_stream_t *s, ssize_t got, const uv_buf_t *buf)
{
    uv_buf_t out = uv_buf_init(buf->base, got > 0 ? (unsigned)got : 0);

    if (got == 0)
        return;
    /* A peer that does not read is cut off: the load always reads. */
    if (got < 0 || uv_try_write(s, &out, 1) != got)
        uv_close((uv_handle_t *)s, closed);
}

static void connected(uv_stream_t *listener, int status)
{
    uv_tcp_t *c = malloc(sizeof *c);

    check("connection", status);
    if (!c)
        exit(1);
    check("init", uv_tcp_init(listener->loop, c));
    check("accept", uv_accept(listener, (uv_stream_t *)c));
    uv_tcp_nodelay(c, 1);
    check("read", uv_read_start((uv_stream_t *)c, lend, readable));
}

struct echo {
    uv_loop_t loop;
    uv_tcp_t listener;
};

/* Each loop has a listener of its own; returns the port. */
static int echo_listen(struct echo *e, int nth, int port)
{
    struct sockaddr_in addr;
    const int on = 1;
    int size = sizeof addr;
    uv_os_fd_t fd;

    check("loop", uv_loop_init(&e->loop));
    e->loop.data = buffer[nth];
    check("socket", uv_tcp_init_ex(&e->loop, &e->listener, AF_INET));
    check("socket", uv_fileno((uv_handle_t *)&e->listener, &fd));
    setsockopt(fd, SOL_SOCKET, SO_REUSEPORT, &on, sizeof on);
    uv_ip4_addr("127.0.0.1", port, &addr);
    check("bind", uv_tcp_bind(&e->listener, (struct sockaddr *)&addr, 0));
    check("listen", uv_listen((uv_stream_t *)&e->listener, 4096, connected));
    check("name",
          uv_tcp_getsockname(&e->listener, (struct sockaddr *)&addr, &size));
    return ntohs(addr.sin_port);
}

static void *echo_run(void *arg)
{
    struct echo *e = arg;

    uv_run(&e->loop, UV_RUN_DEFAULT);
    return NULL;
}

static void echo(int port, int loops)
{
    static struct echo e[LOOPS_MOST];
    pthread_t t;

    for (int i = 0; i < loops; i++)
        port = echo_listen(&e[i], i, port);
    printf("listening on 127.0.0.1:%d (libuv)\n", port);
    fflush(stdout);
    for (int i = 1; i < loops; i++)
        if (pthread_create(&t, NULL, echo_run, &e[i]))
            exit(1);
    echo_run(&e[0]);
}

int main(int argc, char **argv)
{
    if (argc == 4 && strcmp(argv[1], "echo") == 0) {
        int loops = atoi(argv[3]);

        if (loops < 1 || loops > LOOPS_MOST)
            return 2;
        echo(atoi(argv[2]), loops);
    }
    if (argc != 2)
        return 2;
    if (strcmp(argv[1], "pool_bulk_per_s") == 0)
        printf("%.1f\n", 1e9 / run_jobs(JOBS, WINDOW, worker_count()));
    else if (strncmp(argv[1], "pool_roundtrip", 14) == 0)
        printf("%.1f\n", run_jobs(TRIPS, 1, 1));
    else
        return 2;
    return 0;
}
