/* SPDX-License-Identifier: MIT */
/* A library that calls libc while it is initialised, which is before
 * libkeel-patch is when that is preloaded: libc's own answers, all of them. */
#include <keel/base.h>

#include <errno.h>
#include <netdb.h>
#include <poll.h>
#include <pthread.h>
#include <sys/epoll.h>
#include <sys/select.h>
#include <sys/socket.h>
#include <sys/uio.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

static pthread_mutex_t mutex = PTHREAD_MUTEX_INITIALIZER;
static const char *wrong;

#define EXPECT(call)                                                           \
    do {                                                                       \
        if (!(call) && !wrong)                                                 \
            wrong = #call;                                                     \
    } while (0)

/* What was not as expected; NULL: nothing. */
KEEL_API const char *early_wrong(void)
{
    return wrong;
}

static void sockets(void)
{
    struct iovec v = {(char[8]){"hello"}, 5};
    struct msghdr msg = {.msg_iov = &v, .msg_iovlen = 1};
    struct epoll_event ev = {.events = EPOLLIN};
    struct timespec none = {0, 0};
    struct timeval no_time = {0, 0};
    int s[2] = {-1, -1}, ep = epoll_create1(0);
    struct pollfd p;
    char buf[8];
    fd_set r;

    EXPECT(socketpair(AF_UNIX, SOCK_STREAM, 0, s) == 0);
    p = (struct pollfd){.fd = s[0], .events = POLLIN};
    EXPECT(poll(&p, 1, 0) == 0);
    EXPECT(poll(&p, 1, 1) == 0);
    EXPECT(write(s[1], "hello", 5) == 5 && read(s[0], buf, 8) == 5);
    EXPECT(writev(s[1], &v, 1) == 5 && readv(s[0], &v, 1) == 5);
    EXPECT(send(s[1], "hello", 5, 0) == 5 && recv(s[0], buf, 8, 0) == 5);
    EXPECT(sendto(s[1], "hello", 5, 0, NULL, 0) == 5);
    EXPECT(recvfrom(s[0], buf, 8, 0, NULL, NULL) == 5);
    EXPECT(sendmsg(s[1], &msg, 0) == 5);
    EXPECT(ppoll(&p, 1, NULL, NULL) == 1 && p.revents == POLLIN);
    FD_ZERO(&r);
    FD_SET(s[0], &r);
    EXPECT(select(s[0] + 1, &r, NULL, NULL, &no_time) == 1);
    EXPECT(pselect(s[0] + 1, &r, NULL, NULL, &none, NULL) == 1);
    EXPECT(epoll_ctl(ep, EPOLL_CTL_ADD, s[0], &ev) == 0);
    EXPECT(epoll_wait(ep, &ev, 1, -1) == 1);
    EXPECT(epoll_pwait(ep, &ev, 1, -1, NULL) == 1);
    EXPECT(recvmsg(s[0], &msg, 0) == 5);
    EXPECT(accept(s[0], NULL, NULL) == -1 && errno == EINVAL);
    EXPECT(connect(-1, (struct sockaddr *)buf, 8) == -1 && errno == EBADF);
    close(ep);
    close(s[0]);
    close(s[1]);
}

__attribute__((constructor)) static void early(void)
{
    struct timespec t = {0, 1000};
    struct addrinfo hints = {.ai_flags = AI_NUMERICHOST}, *a = NULL;

    sockets();
    EXPECT(pthread_mutex_lock(&mutex) == 0);
    EXPECT(pthread_mutex_trylock(&mutex) == EBUSY);
    EXPECT(pthread_mutex_unlock(&mutex) == 0);
    EXPECT(usleep(1) == 0 && sleep(0) == 0 && nanosleep(&t, &t) == 0);
    EXPECT(clock_nanosleep(CLOCK_MONOTONIC, 0, &t, NULL) == 0);
    EXPECT(waitpid(-1, NULL, WNOHANG) == -1 && errno == ECHILD);
    EXPECT(getaddrinfo("127.0.0.1", NULL, &hints, &a) == 0);
    if (a)
        freeaddrinfo(a);
}
