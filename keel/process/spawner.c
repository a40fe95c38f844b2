/* SPDX-License-Identifier: MIT */
/* The spawner has one thread, so that fork is safe in it, and has run nothing
 * but constructors, so that fork is cheap.
 *
 * Ends of others that it must notice:
 *   the program   its pidfd, or the end of the socket, is readable: daemons are
 *                 killed, the others reaped as they end, then it is over
 *   itself        daemons have asked the kernel to die with it
 *                 (PR_SET_PDEATHSIG, which is about the thread that forked: the
 *                 only one here) */
#include "spawner.h"

#include <errno.h>
#include <poll.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/signalfd.h>
#include <sys/socket.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <unistd.h>

#include "family.h"
#include "loop/loop.h"
#include "loop/sanitize.h"

struct kid {
    uint64_t id;
    pid_t pid;
    bool daemon;
};

struct spawner {
    int socket, children; /* children: a signalfd */
    int program;          /* a pidfd */
    pid_t program_pid, pid;
    bool orphan;
    struct kid *kids;
    size_t count, room;
};

/* What a process knows of itself. */
static struct {
    char name[KEEL_PROCESS_NAME_MOST + 1];
    bool started, daemon;
    pid_t parent;
    int parent_fd;
    struct thread_stop stop;
} self = {.parent_fd = -1};

const char *keel_process_name_here(void)
{
    return self.started ? self.name : NULL;
}

bool keel_process_is_daemon(void)
{
    return self.daemon;
}

pid_t keel_process_parent(void)
{
    return self.started ? self.parent : getppid();
}

int keel_process_parent_sentinel(void)
{
    return self.parent_fd;
}

/* ---- messages ---- */

ssize_t spawn_send(int socket, const struct iovec *parts, size_t part_count,
                   const int *fds, size_t fd_count, int flags)
{
    _Alignas(
        struct cmsghdr) char room[CMSG_SPACE(sizeof(int) * SPAWN_FDS_MOST)];
    struct msghdr m = {.msg_iov = (struct iovec *)(uintptr_t)parts,
                       .msg_iovlen = part_count};
    ssize_t rc;

    if (fd_count > 0) {
        size_t size = sizeof(int) * fd_count;
        struct cmsghdr *c;

        memset(room, 0, sizeof(room));
        m.msg_control = room;
        m.msg_controllen = CMSG_SPACE(size);
        c = CMSG_FIRSTHDR(&m);
        c->cmsg_len = CMSG_LEN(size);
        c->cmsg_level = SOL_SOCKET;
        c->cmsg_type = SCM_RIGHTS;
        memcpy(CMSG_DATA(c), fds, size);
    }
    do
        rc = sendmsg(socket, &m, flags | MSG_NOSIGNAL);
    while (rc < 0 && errno == EINTR);
    return rc < 0 ? -errno : rc;
}

ssize_t spawn_receive(int socket, void *buf, size_t size, int *ret_fds,
                      size_t *ret_count)
{
    _Alignas(
        struct cmsghdr) char room[CMSG_SPACE(sizeof(int) * SPAWN_FDS_MOST)];
    struct iovec part = {buf, size};
    struct msghdr m = {.msg_iov = &part,
                       .msg_iovlen = 1,
                       .msg_control = room,
                       .msg_controllen = sizeof(room)};
    ssize_t rc;

    do
        rc = recvmsg(socket, &m, MSG_CMSG_CLOEXEC);
    while (rc < 0 && errno == EINTR);
    if (rc < 0)
        return -errno;
    *ret_count = 0;
    for (struct cmsghdr *c = CMSG_FIRSTHDR(&m); c; c = CMSG_NXTHDR(&m, c)) {
        size_t bytes = c->cmsg_len - CMSG_LEN(0);

        if (c->cmsg_level != SOL_SOCKET || c->cmsg_type != SCM_RIGHTS)
            continue;
        memcpy(ret_fds, CMSG_DATA(c), bytes);
        *ret_count = bytes / sizeof(int);
    }
    return rc;
}

/* ---- the process, just forked ---- */

/* keel_process_cancel.  For the entry's thread, which is the process's first,
 * whoever the kernel interrupts. */
static void on_cancel(int signal)
{
    int error = errno;

    if (gettid() == getpid())
        thread_stop_interrupt(&self.stop);
    else
        (void)syscall(SYS_tgkill, getpid(), getpid(), signal);
    errno = error;
}

/* A signal that came since the fork is pending, and has its effect now. */
static void child_signals(void)
{
    struct sigaction sa = {.sa_handler = on_cancel};
    sigset_t none;

#ifndef KEEL_TSAN /* which hands signals on between calls only */
    sa.sa_flags = SA_RESTART;
#endif
    thread_stop_here = &self.stop;
    (void)sigaction(PROCESS_CANCEL_SIGNAL, &sa, NULL);
    sigemptyset(&none);
    (void)sigprocmask(SIG_SETMASK, &none, NULL);
}

/* The directory and the standard descriptors; returns where the user's
 * descriptors begin.  Received ones are above 2, which the spawner keeps
 * open. */
static const int *child_places(const struct spawn_request *r, const int *fds)
{
    for (int i = 0; i < SPAWN_PLACES; i++) {
        if (!r->given[i]) {
            if (i > 0)
                (void)close(i - 1);
            continue;
        }
        if (i == 0) {
            if (fchdir(*fds) < 0)
                perror("keel: the directory to start a process in");
        } else {
            (void)dup2(*fds, i - 1);
        }
        (void)close(*fds++);
    }
    return fds;
}

static _Noreturn void child(struct spawner *s, const struct spawn_request *r,
                            const void *data, const int *fds)
{
    struct keel_process_arg arg = {
        .data = data, .size = r->arg_size, .fd_count = r->fd_count};
    int code;

    if (r->daemon) {
        (void)prctl(PR_SET_PDEATHSIG, SIGKILL);
        if (getppid() != s->pid)
            _exit(255); /* it died before we asked */
    }
    (void)close(s->socket);
    (void)close(s->children);
    free(s->kids);
    arg.fds = child_places(r, fds);
    child_signals();
    (void)prctl(PR_SET_NAME, r->name);

    memcpy(self.name, r->name, sizeof(self.name));
    process_name = self.name;
    self.started = true;
    self.daemon = r->daemon;
    self.parent = s->program_pid;
    self.parent_fd = s->program;
    code = process_entry(r->entry)(&arg);
    exit(code < 0 || code > 255 ? 255 : code);
}

/* ---- the spawner ---- */

static void tell(struct spawner *s, const struct spawn_note *n, int fd)
{
    struct iovec part = {(void *)(uintptr_t)n, sizeof(*n)};

    (void)spawn_send(s->socket, &part, 1, &fd, fd >= 0, 0);
}

static int kid_room(struct spawner *s)
{
    struct kid *more;

    if (s->count < s->room)
        return 0;
    more = realloc(s->kids, (s->room * 2 + 16) * sizeof(*more));
    if (!more)
        return -ENOMEM;
    s->kids = more;
    s->room = s->room * 2 + 16;
    return 0;
}

static void start(struct spawner *s, const struct spawn_request *r,
                  const void *arg, const int *fds)
{
    struct spawn_note n = {.id = r->id, .kind = NOTE_STARTED};
    int pidfd = -1;

    n.error = kid_room(s);
    if (!n.error && !process_entry(r->entry))
        n.error = -ENOENT;
    if (!n.error) {
        n.pid = fork();
        if (n.pid == 0)
            child(s, r, arg, fds);
        if (n.pid < 0)
            n.error = -errno;
    }
    if (!n.error) {
        pidfd = (int)syscall(SYS_pidfd_open, n.pid, 0);
        s->kids[s->count++] = (struct kid){r->id, n.pid, r->daemon};
    }
    tell(s, &n, pidfd);
    if (pidfd >= 0)
        (void)close(pidfd);
}

static void on_request(struct spawner *s)
{
    /* Aligned, for the argument behind the request. */
    static _Alignas(64) struct {
        struct spawn_request r;
        _Alignas(64) char arg[KEEL_PROCESS_ARG_MOST];
    } m;
    int fds[SPAWN_FDS_MOST];
    size_t count = 0, places = 0;
    ssize_t got = spawn_receive(s->socket, &m, sizeof(m), fds, &count);

    if (got <= 0) {
        s->orphan = true;
        return;
    }
    for (int i = 0; i < SPAWN_PLACES; i++)
        places += m.r.given[i];
    if ((size_t)got == offsetof(__typeof__(m), arg) + m.r.arg_size &&
        count == places + m.r.fd_count) {
        start(s, &m.r, m.arg, fds);
    } else { /* descriptors beyond the limit are dropped on the way */
        struct spawn_note n = {
            .id = m.r.id, .kind = NOTE_STARTED, .error = -EMFILE};

        tell(s, &n, -1);
    }
    for (size_t i = 0; i < count; i++)
        (void)close(fds[i]);
}

static void reap(struct spawner *s)
{
    struct spawn_note n = {.kind = NOTE_ENDED};

    while ((n.pid = wait4(-1, &n.status, WNOHANG, &n.usage)) > 0) {
        family_bury();
        for (size_t i = 0; i < s->count; i++)
            if (s->kids[i].pid == n.pid) {
                n.id = s->kids[i].id;
                s->kids[i] = s->kids[--s->count];
                tell(s, &n, -1);
                break;
            }
    }
}

static void on_child(struct spawner *s)
{
    struct signalfd_siginfo info;

    while (read(s->children, &info, sizeof(info)) > 0)
        ;
    reap(s);
}

/* The program has ended. */
static _Noreturn void wind_up(struct spawner *s)
{
    family_bury();
    for (size_t i = 0; i < s->count; i++)
        if (s->kids[i].daemon)
            (void)kill(s->kids[i].pid, SIGKILL);
    while (s->count > 0) {
        siginfo_t info;

        if (waitid(P_ALL, 0, &info, WEXITED | WNOWAIT) < 0 && errno != EINTR)
            break;
        reap(s);
    }
    _exit(0);
}

static void spawner_init(struct spawner *s)
{
    sigset_t set;

    /* Those for the whole group, as of Ctrl-C, are not meant for us.  Blocked
     * and not ignored: one that a child gets before it has reset anything is
     * not lost. */
    sigfillset(&set);
    (void)sigprocmask(SIG_SETMASK, &set, NULL);
    sigemptyset(&set);
    sigaddset(&set, SIGCHLD);
    s->children = signalfd(-1, &set, SFD_CLOEXEC | SFD_NONBLOCK);
    s->pid = getpid();
    s->program_pid = getppid();
    s->program = (int)syscall(SYS_pidfd_open, s->program_pid, 0);
    if (s->children < 0 || s->program < 0 || getppid() != s->program_pid)
        _exit(1);
    (void)prctl(PR_SET_NAME, "keel-spawner");
}

_Noreturn void spawner_main(int socket)
{
    struct spawner s = {.socket = socket};

    spawner_init(&s);
    for (;;) {
        struct pollfd p[] = {{.fd = s.socket, .events = POLLIN},
                             {.fd = s.children, .events = POLLIN},
                             {.fd = s.program, .events = POLLIN}};

        if (poll(p, 3, -1) < 0)
            continue;
        if (p[1].revents)
            on_child(&s);
        if (p[0].revents)
            on_request(&s);
        if (s.orphan || p[2].revents)
            wind_up(&s);
    }
}
