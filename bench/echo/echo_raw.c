/* SPDX-License-Identifier: MIT */
/* Echo as a plain epoll loop in C: what keel is measured against.
 *
 *     echo_raw PORT LOOPS
 *
 * Each loop is a thread with an epoll set and a listener (SO_REUSEPORT) of its
 * own; level-triggered, one recv and one send for a message, nothing else. */
#include <arpa/inet.h>
#include <errno.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/socket.h>
#include <unistd.h>

enum { EVENTS = 256, MESSAGE_BYTES = 4096 };

static unsigned short port;

static void die(const char *what)
{
    fprintf(stderr, "echo_raw: %s: %s\n", what, strerror(errno));
    exit(1);
}

static int listen_on(void)
{
    struct sockaddr_in addr = {
        .sin_family = AF_INET,
        .sin_port = htons(port),
        .sin_addr.s_addr = htonl(INADDR_LOOPBACK),
    };
    const int on = 1;
    int fd = socket(AF_INET, SOCK_STREAM | SOCK_NONBLOCK, 0);

    setsockopt(fd, SOL_SOCKET, SO_REUSEADDR, &on, sizeof on);
    setsockopt(fd, SOL_SOCKET, SO_REUSEPORT, &on, sizeof on);
    setsockopt(fd, IPPROTO_TCP, TCP_NODELAY, &on, sizeof on);
    if (bind(fd, (struct sockaddr *)&addr, sizeof addr) < 0)
        die("bind");
    if (listen(fd, 4096) < 0)
        die("listen");
    return fd;
}

static void add(int epfd, int fd)
{
    struct epoll_event ev = {.events = EPOLLIN, .data.fd = fd};

    if (epoll_ctl(epfd, EPOLL_CTL_ADD, fd, &ev) < 0)
        die("epoll_ctl");
}

static void echo(int fd)
{
    char buf[MESSAGE_BYTES];
    ssize_t got = recv(fd, buf, sizeof buf, 0);

    if (got < 0 && errno == EAGAIN)
        return;
    /* A peer that does not read is cut off: the load always reads. */
    if (got <= 0 || send(fd, buf, (size_t)got, MSG_NOSIGNAL) != got)
        close(fd);
}

static void *loop(void *arg)
{
    int listener = *(int *)arg;
    int epfd = epoll_create1(0);
    struct epoll_event events[EVENTS];

    add(epfd, listener);
    for (;;) {
        int n = epoll_wait(epfd, events, EVENTS, -1);

        for (int i = 0; i < n; i++) {
            int fd = events[i].data.fd;

            if (fd != listener) {
                echo(fd);
                continue;
            }
            while ((fd = accept4(listener, NULL, NULL, SOCK_NONBLOCK)) >= 0)
                add(epfd, fd);
        }
    }
    return NULL;
}

int main(int argc, char **argv)
{
    int loops = argc == 3 ? atoi(argv[2]) : 0;
    int listeners[64];

    if (loops < 1 || loops > 64) {
        fprintf(stderr, "usage: echo_raw PORT LOOPS\n");
        return 2;
    }
    port = (unsigned short)atoi(argv[1]);
    for (int i = 0; i < loops; i++) {
        struct sockaddr_in own;
        socklen_t size = sizeof own;

        listeners[i] = listen_on();
        /* port 0: the kernel chose for the first, the rest share it */
        if (getsockname(listeners[i], (struct sockaddr *)&own, &size) < 0)
            die("getsockname");
        port = ntohs(own.sin_port);
    }
    printf("listening on 127.0.0.1:%hu (raw)\n", port);
    fflush(stdout);
    for (int i = 1; i < loops; i++) {
        pthread_t t;

        if (pthread_create(&t, NULL, loop, &listeners[i]))
            die("pthread_create");
    }
    loop(&listeners[0]);
    return 0;
}
