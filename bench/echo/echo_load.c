/* SPDX-License-Identifier: MIT */
/* Load for an echo server: connections that each send a message, wait for its
 * echo, and send the next.
 *
 *     echo_load PORT CONNECTIONS SECONDS [THREADS [BYTES]]
 *
 * THREADS 1, BYTES 64 by default; each thread wants a processor of its own,
 * since it never sleeps: how soon a sleeping processor wakes, and who has to
 * wake it, is no property of the server.  A quarter of a second warms up before
 * the clock starts.  Prints one line of JSON; exits 1 when an echo was wrong or
 * a connection failed. */
#include <arpa/inet.h>
#include <errno.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <pthread.h>
#include <stdatomic.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/socket.h>
#include <time.h>
#include <unistd.h>

enum { THREADS_MOST = 64, BYTES_MOST = 4096, EVENTS = 256 };

static struct sockaddr_in server = {.sin_family = AF_INET};
static size_t message_bytes = 64;
static double seconds;
static _Atomic int counting, stopping;
static pthread_barrier_t connected;

struct worker {
    pthread_t thread;
    int count; /* of its connections */
    uint64_t requests;
    char pad[64];
};

static void die(const char *what)
{
    fprintf(stderr, "echo_load: %s: %s\n", what, strerror(errno));
    exit(1);
}

static int dial(void)
{
    const int on = 1;
    int fd = socket(AF_INET, SOCK_STREAM, 0);

    if (fd < 0 || connect(fd, (struct sockaddr *)&server, sizeof server) < 0)
        die("connect");
    setsockopt(fd, IPPROTO_TCP, TCP_NODELAY, &on, sizeof on);
    return fd;
}

/* Each connection's message begins with its number, so that an echo given to
 * the wrong one is noticed. */
static void ask(int fd)
{
    char buf[BYTES_MOST] = {0};

    memcpy(buf, &fd, sizeof fd);
    if (send(fd, buf, message_bytes, MSG_NOSIGNAL) != (ssize_t)message_bytes)
        die("send");
}

static void check(int fd)
{
    char buf[BYTES_MOST];
    ssize_t got = recv(fd, buf, message_bytes, MSG_WAITALL);

    if (got != (ssize_t)message_bytes || memcmp(buf, &fd, sizeof fd)) {
        fprintf(stderr, "echo_load: wrong echo\n");
        exit(1);
    }
}

static void *work(void *arg)
{
    struct worker *w = arg;
    int epfd = epoll_create1(0);
    struct epoll_event events[EVENTS];

    for (int i = 0; i < w->count; i++) {
        struct epoll_event ev = {.events = EPOLLIN, .data.fd = dial()};

        if (epoll_ctl(epfd, EPOLL_CTL_ADD, ev.data.fd, &ev) < 0)
            die("epoll_ctl");
        ask(ev.data.fd);
    }
    pthread_barrier_wait(&connected);
    while (!atomic_load_explicit(&stopping, memory_order_relaxed)) {
        int n = epoll_wait(epfd, events, EVENTS, 0);

        for (int i = 0; i < n; i++) {
            check(events[i].data.fd);
            ask(events[i].data.fd);
        }
        if (n > 0 && atomic_load_explicit(&counting, memory_order_relaxed))
            w->requests += (uint64_t)n;
    }
    return NULL;
}

static double now(void)
{
    struct timespec t;

    clock_gettime(CLOCK_MONOTONIC, &t);
    return (double)t.tv_sec + (double)t.tv_nsec * 1e-9;
}

static void pause_for(double s)
{
    struct timespec t = {(time_t)s, (long)((s - (double)(time_t)s) * 1e9)};

    nanosleep(&t, NULL);
}

int main(int argc, char **argv)
{
    static struct worker workers[THREADS_MOST];
    int connections, threads;
    uint64_t requests = 0;
    double begun, took;

    if (argc < 4 || argc > 6) {
        fprintf(stderr, "usage: echo_load PORT CONNECTIONS SECONDS "
                        "[THREADS [BYTES]]\n");
        return 2;
    }
    server.sin_port = htons((uint16_t)atoi(argv[1]));
    server.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
    connections = atoi(argv[2]);
    seconds = atof(argv[3]);
    threads = argc > 4 ? atoi(argv[4]) : 1;
    if (argc > 5)
        message_bytes = (size_t)atoi(argv[5]);
    if (connections < 1 || threads < 1 || threads > THREADS_MOST ||
        threads > connections || message_bytes < sizeof(int) ||
        message_bytes > BYTES_MOST || !(seconds > 0)) {
        fprintf(stderr, "echo_load: a number is out of range\n");
        return 2;
    }
    pthread_barrier_init(&connected, NULL, (unsigned)threads + 1);
    for (int i = 0; i < threads; i++) {
        workers[i].count = connections / threads + (i < connections % threads);
        if (pthread_create(&workers[i].thread, NULL, work, &workers[i]))
            die("pthread_create");
    }
    pthread_barrier_wait(&connected);
    pause_for(0.25);
    begun = now();
    counting = 1;
    pause_for(seconds);
    counting = 0;
    took = now() - begun;
    stopping = 1;
    for (int i = 0; i < threads; i++) {
        pthread_join(workers[i].thread, NULL);
        requests += workers[i].requests;
    }
    printf("{\"connections\": %d, \"threads\": %d, \"bytes\": %zu, "
           "\"seconds\": %.3f, \"requests\": %llu, "
           "\"requests_per_second\": %.0f}\n",
           connections, threads, message_bytes, took,
           (unsigned long long)requests, (double)requests / took);
    return 0;
}
