/* SPDX-License-Identifier: MIT */
/* The program's side: it asks the spawner (spawner.h), and a thread of its own
 * sorts the notes that come back. */
#include <keel/process.h>

#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <pthread.h>
#include <signal.h>
#include <spawn.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <unistd.h>

#include <keel/co.h>
#include <keel/lock.h>
#include <keel/seam.h>

#include "family.h"
#include "loop/census.h"
#include "loop/loop.h"
#include "loop/report.h"
#include "loop/sanitize.h"
#include "seam/limit.h"
#include "spawner.h"
#include "loop/worker.h"

#define ASK_MOST (10 * KEEL_SECOND) /* for the spawner to take a request */

extern char **environ;

/* The user has one reference, the table of the living another.  pid, pidfd and
 * error are written before `started` is set, status, usage and lost before
 * `ended`; the rest never changes. */
struct keel_process {
    struct keel_process *next; /* in the table, under `lock` */
    _Atomic int references;
    uint64_t id;
    bool daemon;
    char name[KEEL_PROCESS_NAME_MOST + 1];
    struct keel_event started, ended;
    pid_t pid;
    int pidfd;
    int error;
    int status;
    bool lost; /* the spawner was killed before it */
    struct rusage usage;
    keel_ns began;
};

/* `socket` -1: there is no spawner.  The table holds those of the spawner
 * that runs.  Under `lock`. */
static struct {
    pthread_mutex_t lock;
    int socket;
    pid_t pid;
    uint64_t last_id;
    struct keel_process *table;
    bool hooked;
} here = {.lock = PTHREAD_MUTEX_INITIALIZER, .socket = -1};
static struct keel_lock preparing = KEEL_LOCK_INIT;

/* ---- entry points ---- */

static struct keel_process_entry *entries;

void keel_process_register(struct keel_process_entry *entry)
{
    entry->next = entries;
    entries = entry;
}

keel_process_fn *process_entry(const char *name)
{
    for (struct keel_process_entry *e = entries; e; e = e->next)
        if (!strcmp(e->name, name))
            return e->fn;
    return NULL;
}

/* No other descriptors: an end of somebody's pipe that the spawner kept would
 * keep the pipe open. */
static void keep_only(int a, int b)
{
    int low = a < b ? a : b, high = a < b ? b : a;

    (void)syscall(SYS_close_range, 3, low - 1, 0);
    if (high > low + 1)
        (void)syscall(SYS_close_range, low + 1, high - 1, 0);
    (void)syscall(SYS_close_range, high + 1, ~0U, 0);
}

/* Runs before main; in the spawner it does not return. */
void keel_process_begin(void)
{
    static bool looked;
    const char *env;
    int socket, family, type = 0, fd;
    socklen_t size = sizeof(type);

    if (looked)
        return;
    looked = true;
    env = secure_getenv(SPAWNER_ENV);
    if (!env)
        return;
    if (sscanf(env, "%d,%d", &socket, &family) != 2 || socket < 3 ||
        family < 3 || socket == family ||
        getsockopt(socket, SOL_SOCKET, SO_TYPE, &type, &size) < 0 ||
        type != SOCK_SEQPACKET)
        return;
    (void)unsetenv(SPAWNER_ENV);
    (void)fcntl(socket, F_SETFD, FD_CLOEXEC);
    (void)fcntl(family, F_SETFD, FD_CLOEXEC);
    keep_only(socket, family);
    do /* what is received must not be a standard descriptor */
        fd = open("/dev/null", O_RDWR);
    while (fd >= 0 && fd <= 2);
    if (fd >= 0)
        (void)close(fd);
    if (family_adopt(family) < 0)
        _exit(1);
    spawner_main(socket);
}

/* ---- notes ---- */

static void unref(struct keel_process *p)
{
    if (atomic_fetch_sub(&p->references, 1) > 1)
        return;
    keel_event_fini(&p->started);
    keel_event_fini(&p->ended);
    if (p->pidfd >= 0)
        (void)close(p->pidfd);
    keel_free(p);
}

/* Out of the table, and all are woken that wait for it: nothing more comes from
 * there, as far as a deadlock is concerned. */
static void gone(struct keel_process *p)
{
    atomic_fetch_sub(&processes_under_way, 1);
    unref(p);
}

static struct keel_process *table_find(uint64_t id, bool take)
{
    struct keel_process **at, *p;

    (void)pthread_mutex_lock(&here.lock);
    for (at = &here.table; *at && (*at)->id != id; at = &(*at)->next)
        ;
    p = *at;
    if (p && take)
        *at = p->next;
    (void)pthread_mutex_unlock(&here.lock);
    return p;
}

static void on_started(const struct spawn_note *n, int pidfd)
{
    /* Its starter waits, and keeps it. */
    struct keel_process *p = table_find(n->id, n->error < 0);

    keel_assert(p);
    p->pid = n->pid;
    p->pidfd = pidfd;
    p->error = n->error;
    keel_event_set(&p->started);
    if (n->error < 0)
        gone(p);
}

static void on_ended(const struct spawn_note *n)
{
    struct keel_process *p = table_find(n->id, true);

    keel_assert(p);
    p->status = n->status;
    p->usage = n->usage;
    keel_event_set(&p->ended);
    gone(p);
}

/* The spawner is gone: nobody will tell of its processes. */
static void all_lost(void)
{
    struct keel_process *table, *p;
    pid_t spawner;
    int fd;

    (void)pthread_mutex_lock(&here.lock);
    table = here.table;
    here.table = NULL;
    spawner = here.pid;
    fd = here.socket;
    here.socket = -1;
    (void)pthread_mutex_unlock(&here.lock);
    (void)close(fd);
    (void)waitpid(spawner, NULL, 0);
    while ((p = table)) {
        table = p->next;
        p->lost = true;
        if (!keel_event_is_set(&p->started))
            p->error = -ECHILD;
        keel_event_set(&p->started);
        keel_event_set(&p->ended);
        gone(p);
    }
    family_bury();
}

static void *reader(void *arg)
{
    int socket = (int)(intptr_t)arg;
    struct spawn_note n;
    int fds[SPAWN_FDS_MOST];
    size_t count;

    (void)pthread_setname_np(pthread_self(), "keel-processes");
    presence_serve("keel-processes");
    while (spawn_receive(socket, &n, sizeof(n), fds, &count) ==
           (ssize_t)sizeof(n)) {
        if (n.kind == NOTE_STARTED)
            on_started(&n, count ? fds[0] : -1);
        else
            on_ended(&n);
    }
    all_lost();
    return NULL;
}

/* ---- the spawner's start ---- */

/* As multiprocessing does it: daemons are killed, others waited for. */
static void at_exit(void)
{
    struct keel_process *p;

    (void)pthread_mutex_lock(&here.lock);
    for (p = here.table; p; p = p->next)
        if (p->daemon && keel_event_is_set(&p->started))
            (void)keel_process_kill(p);
    do {
        for (p = here.table; p && p->daemon; p = p->next)
            ;
        if (p) {
            atomic_fetch_add(&p->references, 1);
            (void)pthread_mutex_unlock(&here.lock);
            (void)keel_process_join(p, KEEL_FOREVER, NULL);
            unref(p);
            (void)pthread_mutex_lock(&here.lock);
        }
    } while (p);
    (void)pthread_mutex_unlock(&here.lock);
}

/* For the dump. */
static void page_processes(struct page *page)
{
    keel_ns now = keel_now();
    struct keel_process *p;
    size_t count = 0;

    (void)pthread_mutex_lock(&here.lock);
    for (p = here.table; p; p = p->next)
        count++;
    page_print(page, "processes: %zu\n", count);
    for (p = here.table; p; p = p->next) {
        page_print(page, "  '%s' ", p->name);
        if (keel_event_is_set(&p->started))
            page_print(page, "[%ld]%s running", (long)p->pid,
                       p->daemon ? " daemon," : "");
        else
            page_print(page, "starting");
        page_seconds(page, ", for ", now - p->began);
        page_print(page, "\n");
    }
    (void)pthread_mutex_unlock(&here.lock);
}

/* A program that forks by itself: the copy has no processes. */
static void forked(void)
{
    (void)pthread_mutex_init(&here.lock, NULL);
    if (here.socket >= 0)
        (void)close(here.socket);
    here.socket = -1;
    here.table = NULL;
    atomic_store(&processes_under_way, 0);
    keel_lock_init(&preparing);
}

/* Under valgrind the link is valgrind; reading it, it tells the program.  The
 * processes then run without it, unless it follows children. */
static const char *own_file(char *room, size_t size)
{
    const char *link = "/proc/self/exe";
    ssize_t n;

    if (!RUNNING_ON_VALGRIND)
        return link;
    n = readlink(link, room, size - 1);
    if (n < 0)
        return link;
    room[n] = '\0';
    return room;
}

static int spawner_exec(int socket, int family, pid_t *ret_pid)
{
    posix_spawn_file_actions_t actions;
    posix_spawnattr_t attr;
    char *argv[] = {(char *)"keel-spawner", NULL};
    char mark[64], file[4096], **env;
    sigset_t none, all;
    size_t n = 0;
    int rc;

    while (environ[n])
        n++;
    env = keel_calloc(n + 2, sizeof(*env));
    if (!env)
        return -ENOMEM;
    memcpy(env, environ, n * sizeof(*env));
    (void)snprintf(mark, sizeof(mark), SPAWNER_ENV "=%d,%d", socket, family);
    env[n] = mark;

    (void)posix_spawn_file_actions_init(&actions);
    (void)posix_spawnattr_init(&attr);
    sigemptyset(&none);
    sigfillset(&all);
    (void)posix_spawnattr_setsigmask(&attr, &none);
    (void)posix_spawnattr_setsigdefault(&attr, &all);
    (void)posix_spawnattr_setflags(&attr, POSIX_SPAWN_SETSIGMASK |
                                              POSIX_SPAWN_SETSIGDEF);
    /* Onto itself: only clears close-on-exec. */
    rc = posix_spawn_file_actions_adddup2(&actions, socket, socket);
    if (!rc)
        rc = posix_spawn_file_actions_adddup2(&actions, family, family);
    if (!rc)
        rc = posix_spawn(ret_pid, own_file(file, sizeof(file)), &actions, &attr,
                         argv, env);
    (void)posix_spawnattr_destroy(&attr);
    (void)posix_spawn_file_actions_destroy(&actions);
    keel_free(env);
    return rc == ENOMEM || rc == EAGAIN ? -rc : rc ? -ECHILD : 0;
}

static int reader_start(int socket)
{
    sigset_t all, before;
    pthread_t id;
    int rc;

    sigfillset(&all);
    (void)pthread_sigmask(SIG_SETMASK, &all, &before);
    rc = pthread_create(&id, NULL, reader, (void *)(intptr_t)socket);
    (void)pthread_sigmask(SIG_SETMASK, &before, NULL);
    if (rc)
        return -rc;
    (void)pthread_detach(id);
    return 0;
}

/* Descriptors 0 to 2 may be closed here, and are not to become the pair's. */
static int above_standard(int *fd)
{
    int to;

    if (*fd > 2)
        return 0;
    to = fcntl(*fd, F_DUPFD_CLOEXEC, 3);
    if (to < 0)
        return -errno;
    (void)close(*fd);
    *fd = to;
    return 0;
}

static int spawner_start(void)
{
    int pair[2] = {-1, -1}, family = family_fd(), rc = 0;
    pid_t pid = 0;

    if (family < 0)
        return family;
    if (socketpair(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC, 0, pair) < 0)
        return -errno;
    if ((rc = above_standard(&pair[0])) == 0 &&
        (rc = above_standard(&pair[1])) == 0)
        rc = spawner_exec(pair[1], family, &pid);
    (void)close(pair[1]);
    if (rc < 0) {
        (void)close(pair[0]);
        return rc;
    }
    (void)pthread_mutex_lock(&here.lock);
    here.socket = pair[0];
    here.pid = pid;
    if (!here.hooked) {
        here.hooked = true;
        atomic_store(&dump_processes, page_processes);
        (void)atexit(at_exit);
        (void)pthread_atfork(NULL, NULL, forked);
    }
    (void)pthread_mutex_unlock(&here.lock);
    rc = reader_start(pair[0]);
    if (rc < 0)
        all_lost(); /* the spawner ends when it finds the socket closed */
    return rc;
}

static bool spawner_runs(void)
{
    bool runs;

    (void)pthread_mutex_lock(&here.lock);
    runs = here.socket >= 0;
    (void)pthread_mutex_unlock(&here.lock);
    return runs;
}

static int prepare(const char *call, const void *object)
{
    keel_guard(&preparing);

    if (worker_is_simulated())
        return -EOPNOTSUPP;
    if (keel_process_is_daemon())
        return mistake(call, object, "a daemon may not have children", -EPERM);
    return spawner_runs() ? 0 : spawner_start();
}

int keel_process_prepare(void)
{
    return prepare("keel_process_prepare", &here);
}

/* ---- starting ---- */

/* Outlives deadline scopes and cancels: what it waits for is at hand. */
static void wait_surely(struct keel_event *e)
{
    keel_ns *scope = wait_scope(), outer = *scope;

    *scope = KEEL_FOREVER;
    keel_shield();
    (void)keel_event_wait(e, KEEL_FOREVER);
    keel_unshield();
    *scope = outer;
}

/* The spawner reads at once; a stopped one must not stop a loop. */
static int ask(const struct iovec *parts, const int *fds, size_t fd_count)
{
    keel_ns give_up = keel_after(ASK_MOST);
    ssize_t rc;

    for (;;) {
        int socket;

        (void)pthread_mutex_lock(&here.lock);
        socket = here.socket;
        rc = socket < 0
                 ? -ECHILD
                 : spawn_send(socket, parts, 2, fds, fd_count, MSG_DONTWAIT);
        (void)pthread_mutex_unlock(&here.lock);
        if (rc >= 0)
            return 0;
        if (rc == -EPIPE || rc == -ECONNRESET)
            return -ECHILD;
        if (rc != -EAGAIN || keel_now() >= give_up)
            return (int)rc;
        rc = keel_sleep(keel_after(KEEL_MS));
        if (rc < 0)
            return (int)rc;
    }
}

static int request(struct keel_process *p, const char *entry,
                   const struct keel_process_how *how)
{
    static const char pad[64];
    struct {
        struct spawn_request r;
        _Alignas(64) char end[64];
    } m = {.r = {.id = p->id,
                 .arg_size = (uint32_t)how->arg_size,
                 .fd_count = (uint32_t)how->fd_count,
                 .daemon = how->daemon}};
    struct iovec parts[2] = {
        {&m, offsetof(__typeof__(m), end)},
        {(void *)(uintptr_t)(how->arg_size ? how->arg : pad), how->arg_size}};
    int fds[SPAWN_FDS_MOST], cwd, rc;
    size_t n = 0;

    (void)snprintf(m.r.entry, sizeof(m.r.entry), "%s", entry);
    memcpy(m.r.name, p->name, sizeof(p->name));
    cwd = open(".", O_PATH | O_DIRECTORY | O_CLOEXEC);
    m.r.given[0] = cwd >= 0;
    if (cwd >= 0)
        fds[n++] = cwd;
    for (int i = 0; i <= 2; i++)
        if (fcntl(i, F_GETFD) >= 0) {
            m.r.given[1 + i] = true;
            fds[n++] = i;
        }
    if (how->fd_count)
        memcpy(fds + n, how->fds, how->fd_count * sizeof(*fds));
    rc = ask(parts, fds, n + how->fd_count);
    if (cwd >= 0)
        (void)close(cwd);
    return rc;
}

static int check(const char *entry, const struct keel_process_how *how)
{
    const char *name = how->name ? how->name : entry;

    if (!*name || strlen(name) > KEEL_PROCESS_NAME_MOST ||
        strlen(entry) > KEEL_PROCESS_NAME_MOST)
        return -EINVAL;
    if (how->arg_size > KEEL_PROCESS_ARG_MOST ||
        how->fd_count > KEEL_PROCESS_FDS_MOST)
        return -E2BIG;
    return process_entry(entry) ? 0 : -ENOENT;
}

static int process_new(const char *name, bool daemon, struct keel_process **ret)
{
    struct keel_process *p = keel_calloc(1, sizeof(*p));

    if (!p)
        return -ENOMEM;
    (void)snprintf(p->name, sizeof(p->name), "%s", name);
    p->daemon = daemon;
    p->began = keel_now();
    p->pidfd = -1;
    keel_event_init(&p->started);
    keel_event_init(&p->ended);
    atomic_init(&p->references, 2);
    atomic_fetch_add(&processes_under_way, 1);
    (void)pthread_mutex_lock(&here.lock);
    p->id = ++here.last_id;
    p->next = here.table;
    here.table = p;
    (void)pthread_mutex_unlock(&here.lock);
    *ret = p;
    return 0;
}

int keel_process_start(const char *entry, const struct keel_process_how *how,
                       struct keel_process **ret)
{
    static const struct keel_process_how plain;
    struct keel_process *p = NULL;
    int rc;

    if (!how)
        how = &plain;
    rc = check(entry, how);
    if (rc == 0)
        rc = keel_seam_enter(KEEL_OP_PROCESS, NULL);
    if (rc == 0) {
        rc = prepare("keel_process_start", entry);
        if (rc < 0)
            return limit_met(LIMIT_PROCESS, rc);
    }
    if (rc == 0)
        rc = process_new(how->name ? how->name : entry, how->daemon, &p);
    if (rc < 0)
        return rc;
    rc = request(p, entry, how);
    if (rc < 0) {
        if (table_find(p->id, true))
            gone(p);
        unref(p);
        return rc;
    }
    wait_surely(&p->started);
    if (p->error < 0) {
        rc = limit_met(LIMIT_PROCESS, p->error);
        unref(p);
        return rc;
    }
    *ret = p;
    return 0;
}

void keel_process_free(struct keel_process *p)
{
    if (p)
        unref(p);
}

/* ---- what becomes of it ---- */

/* The kernel says that it has ended: the note is on its way. */
static bool has_ended(struct keel_process *p)
{
    struct pollfd fd = {.fd = p->pidfd, .events = POLLIN};

    if (keel_event_is_set(&p->ended))
        return true;
    if (p->pidfd < 0 || poll(&fd, 1, 0) <= 0)
        return false;
    wait_surely(&p->ended);
    return true;
}

/* One whose spawner was killed may still run. */
static bool runs_alone(const struct keel_process *p)
{
    struct pollfd fd = {.fd = p->pidfd, .events = POLLIN};

    return p->lost && p->pidfd >= 0 && poll(&fd, 1, 0) == 0;
}

static int wait_for_end(struct keel_process *p, keel_ns deadline)
{
    int rc = keel_event_wait(&p->ended, deadline);

    if (rc == -ETIMEDOUT && has_ended(p))
        rc = 0;
    while (rc == 0 && runs_alone(p)) {
        keel_ns next = keel_after(10 * KEEL_MS);

        if (keel_now() >= deadline)
            return -ETIMEDOUT;
        rc = keel_sleep(next < deadline ? next : deadline);
    }
    return rc;
}

static int result_of(const struct keel_process *p)
{
    return WIFSIGNALED(p->status) ? -WTERMSIG(p->status)
                                  : WEXITSTATUS(p->status);
}

int keel_process_join(struct keel_process *p, keel_ns deadline, int *ret_result)
{
    int rc = wait_for_end(p, deadline);

    if (rc < 0 || !ret_result)
        return rc;
    if (p->lost)
        return -ECHILD;
    *ret_result = result_of(p);
    return 0;
}

bool keel_process_is_alive(struct keel_process *p)
{
    return !has_ended(p) || runs_alone(p);
}

static int over(struct keel_process *p)
{
    if (keel_process_is_alive(p))
        return -EBUSY;
    return p->lost ? -ECHILD : 0;
}

int keel_process_exitcode(struct keel_process *p, int *ret_code)
{
    int rc = over(p);

    if (rc < 0)
        return rc;
    *ret_code = result_of(p);
    return 0;
}

int keel_process_usage(struct keel_process *p, struct rusage *ret)
{
    int rc = over(p);

    if (rc < 0)
        return rc;
    *ret = p->usage;
    return 0;
}

int keel_process_signal(struct keel_process *p, int signal)
{
    if (keel_event_is_set(&p->ended) && !p->lost)
        return -ESRCH;
    if (p->pidfd < 0)
        return -ESRCH;
    if (syscall(SYS_pidfd_send_signal, p->pidfd, signal, NULL, 0) == 0)
        return 0;
    /* valgrind 3.19 does not know the call: by the number then, which is the
     * process's own until the spawner has reaped it. */
    if (errno == ENOSYS && RUNNING_ON_VALGRIND && kill(p->pid, signal) == 0)
        return 0;
    return -errno;
}

void keel_process_cancel(struct keel_process *p)
{
    (void)keel_process_signal(p, PROCESS_CANCEL_SIGNAL);
}

int keel_process_terminate(struct keel_process *p)
{
    return keel_process_signal(p, SIGTERM);
}

int keel_process_kill(struct keel_process *p)
{
    return keel_process_signal(p, SIGKILL);
}

int keel_process_interrupt(struct keel_process *p)
{
    return keel_process_signal(p, SIGINT);
}

pid_t keel_process_pid(const struct keel_process *p)
{
    return p->pid;
}

const char *keel_process_name(const struct keel_process *p)
{
    return p->name;
}

int keel_process_sentinel(const struct keel_process *p)
{
    return p->pidfd;
}

size_t keel_process_count(void)
{
    size_t n = 0;

    (void)pthread_mutex_lock(&here.lock);
    for (struct keel_process *p = here.table; p; p = p->next)
        n++;
    (void)pthread_mutex_unlock(&here.lock);
    return n;
}
