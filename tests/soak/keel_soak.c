/* SPDX-License-Identifier: MIT */
/* keel under everything at once must stay as it is: keel_soak [SECONDS]
 *
 * Coroutines, queues, locks, timers, pools, processes and their pool, servers in
 * their three modes, datagrams and files, again and again, on three loops.  What
 * comes out of each is compared with what must.  Between the second quarter of
 * the time and its second half, memory, descriptors and threads may not grow,
 * neither the program's nor its spawner's; when all is over, descriptors,
 * threads and processes are those of the beginning.  Less than ten seconds say
 * nothing about growth: then only the end counts, and blocking threads that are
 * idle are not waited for.  Exits 1 with a sentence. */
#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <stdarg.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include <keel/co.h>
#include <keel/file.h>
#include <keel/lock.h>
#include <keel/net.h>
#include <keel/pool.h>
#include <keel/process.h>
#include <keel/procpool.h>
#include <keel/queue.h>
#include <keel/seam.h>
#include <keel/server.h>
#include <keel/shqueue.h>
#include <keel/system.h>
#include <keel/thread.h>
#include <keel/udp.h>

enum { LOOPS = 3, SAMPLES = 400, LONG = 10 /* seconds */ };

static struct keel_loop *loops[LOOPS];
static keel_ns until;

__attribute__((format(printf, 1, 2), noreturn)) static void
die(const char *format, ...)
{
    va_list args;

    va_start(args, format);
    fprintf(stderr, "keel_soak: ");
    vfprintf(stderr, format, args);
    fprintf(stderr, "\n");
    va_end(args);
    _exit(1);
}

static void check(const char *what, int rc)
{
    if (rc < 0)
        die("%s: %s", what, strerror(-rc));
}

static void expect(const char *what, long got, long wanted)
{
    if (got != wanted)
        die("%s: %ld instead of %ld", what, got, wanted);
}

static unsigned chance(unsigned below)
{
    unsigned n;

    keel_random(&n, sizeof(n));
    return n % below;
}

/* Whatever waits here for longer hangs. */
static keel_ns soon(void)
{
    return keel_after(60 * KEEL_SECOND);
}

/* ---- coroutines: sleep, yield, end early, are cancelled ---------------------- */

static int member(void *arg)
{
    (void)arg;
    for (unsigned i = chance(4); i > 0; i--) {
        struct keel_timeout t;
        int rc;

        keel_yield();
        keel_timeout_begin(&t, keel_after(chance(3) * KEEL_MS));
        rc = keel_sleep(keel_after(KEEL_MS));
        keel_timeout_end(&t);
        if (rc == -ECANCELED)
            return rc;
    }
    return 0;
}

static void coroutines(void)
{
    keel_auto(group) struct keel_group *g = NULL;
    int rc;

    check("group", keel_group_new(0, &g));
    for (int i = 0; i < 200; i++) {
        struct keel_spawn how = {
            .name = "member", .group = g, .loop = loops[i % LOOPS]};

        check("spawn", keel_spawn(&how, member, NULL, NULL));
    }
    if (chance(2) == 0)
        keel_group_cancel(g);
    rc = keel_group_join(g, soon());
    if (rc < 0 && rc != -ECANCELED)
        die("group: %s", strerror(-rc));
}

/* ---- queues between loops ---------------------------------------------------- */

enum { PUTTERS = 3, EACH = 2000 };

struct flow {
    struct keel_queue *queue;
    _Atomic long sum;
};

static int put_numbers(void *arg)
{
    struct flow *f = arg;

    for (intptr_t i = 1; i <= EACH; i++)
        check("put", keel_queue_put(f->queue, (void *)i, soon()));
    return 0;
}

static int get_numbers(void *arg)
{
    struct flow *f = arg;
    void *item;
    int rc;

    while ((rc = keel_queue_get(f->queue, soon(), &item)) == 0) {
        atomic_fetch_add(&f->sum, (intptr_t)item);
        check("done", keel_queue_task_done(f->queue));
    }
    expect("the end of a queue", rc, -EPIPE);
    return 0;
}

static void queues(void)
{
    struct flow f = {0};
    keel_auto(group) struct keel_group *putters = NULL;
    keel_auto(group) struct keel_group *getters = NULL;

    check("queue", keel_queue_new(1 + chance(64), KEEL_QUEUE_SHARED, &f.queue));
    check("group", keel_group_new(0, &putters));
    check("group", keel_group_new(0, &getters));
    for (int i = 0; i < PUTTERS; i++) {
        struct keel_spawn put = {.loop = loops[i % LOOPS], .group = putters};
        struct keel_spawn get = {.loop = loops[(i + 1) % LOOPS],
                                 .group = getters};

        check("spawn", keel_spawn(&put, put_numbers, &f, NULL));
        check("spawn", keel_spawn(&get, get_numbers, &f, NULL));
    }
    check("putters", keel_group_join(putters, soon()));
    check("join", keel_queue_join(f.queue, soon()));
    keel_queue_close(f.queue);
    check("getters", keel_group_join(getters, soon()));
    expect("the sum", f.sum, (long)PUTTERS * EACH * (EACH + 1) / 2);
    keel_queue_free(f.queue);
}

/* ---- locks -------------------------------------------------------------------- */

enum { HOLDERS = 8, TURNS = 200 };

struct shared {
    struct keel_lock lock;
    struct keel_cond changed;
    long count;
};

static int turns(void *arg)
{
    struct shared *s = arg;

    for (int i = 0; i < TURNS; i++) {
        check("lock", keel_lock_take(&s->lock, soon()));
        s->count++;
        if (i == TURNS - 1)
            keel_cond_broadcast(&s->changed);
        keel_lock_drop(&s->lock);
    }
    return 0;
}

static void locks(void)
{
    keel_auto(group) struct keel_group *g = NULL;
    struct shared s = {.count = 0};

    keel_lock_init(&s.lock);
    keel_cond_init(&s.changed);
    check("group", keel_group_new(0, &g));
    for (int i = 0; i < HOLDERS; i++) {
        struct keel_spawn how = {.loop = loops[i % LOOPS], .group = g};

        check("spawn", keel_spawn(&how, turns, &s, NULL));
    }
    check("lock", keel_lock_take(&s.lock, soon()));
    while (s.count < HOLDERS * TURNS)
        check("wait", keel_cond_wait(&s.changed, &s.lock, soon()));
    keel_lock_drop(&s.lock);
    check("group", keel_group_join(g, soon()));
    expect("the count", s.count, HOLDERS * TURNS);
    keel_cond_fini(&s.changed);
    keel_lock_fini(&s.lock);
}

/* ---- timers ------------------------------------------------------------------- */

static void rung(void *arg)
{
    atomic_fetch_add((_Atomic int *)arg, 1);
}

static void timers(void)
{
    enum { COUNT = 50 };
    struct keel_timer *t[COUNT];
    _Atomic int rings = 0;
    int stopped = 0;

    for (int i = 0; i < COUNT; i++)
        check("timer", keel_timer_start(keel_after(chance(5) * KEEL_MS), rung,
                                        &rings, &t[i]));
    keel_yield();
    for (int i = 0; i < COUNT; i++) {
        if (i % 2)
            stopped += keel_timer_cancel(t[i]);
        check("timer", keel_timer_join(t[i], soon()));
        keel_timer_free(t[i]);
    }
    expect("timers", rings + stopped, COUNT);
}

/* ---- pools of threads ------------------------------------------------------------ */

static int twice(void *arg)
{
    return 2 * (int)(intptr_t)arg;
}

static void submit_to(struct keel_pool *p)
{
    enum { JOBS = 100 };
    struct keel_future *f[JOBS];

    for (intptr_t i = 0; i < JOBS; i++)
        check("submit", keel_pool_submit(p, twice, (void *)i, soon(), &f[i]));
    for (int i = 0; i < JOBS; i++) {
        expect("a job", keel_future_result(f[i], soon(), NULL), 2 * i);
        keel_future_free(f[i]);
    }
}

static struct keel_pool *long_pool;

static void pools(void)
{
    const struct keel_pool_how how = {.name = "short", .size = 2};
    keel_auto(pool) struct keel_pool *short_pool = NULL;

    submit_to(long_pool);
    check("pool", keel_pool_new(&how, &short_pool));
    submit_to(short_pool);
    expect("blocking", keel_blocking(twice, (void *)21), 42);
}

/* ---- processes, their pool, and a queue between them ------------------------------ */

KEEL_TASK(double_it)
{
    *(int *)out = 2 * *(const int *)in;
    *ret_size = sizeof(int);
    return 0;
}

KEEL_TASK(die_of_it)
{
    kill(getpid(), SIGKILL);
    return 0;
}

KEEL_TASK(never_end)
{
    for (;;)
        pause();
    return 0;
}

static struct keel_procpool *procpool;

static void tasks(void)
{
    enum { TASKS = 60, KILLED = 17, ENDLESS = 31 };
    struct keel_proctask t[TASKS];

    for (int i = 0; i < TASKS; i++) {
        const char *task = i == KILLED    ? "die_of_it"
                           : i == ENDLESS ? "never_end"
                                          : "double_it";
        keel_ns limit = i == ENDLESS ? keel_after(20 * KEEL_MS) : KEEL_FOREVER;

        check("submit", keel_procpool_submit(procpool, task, &i, sizeof(i),
                                             limit, soon(), &t[i]));
    }
    for (int i = 0; i < TASKS; i++) {
        struct keel_proctask_end end;
        int out = 0;

        check("result", keel_procpool_result(procpool, t[i], &out, sizeof(out),
                                             soon(), &end));
        expect("a task's end", end.result,
               i == KILLED    ? -EOWNERDEAD
               : i == ENDLESS ? -ETIMEDOUT
                              : 0);
        expect("a task", out, i == KILLED || i == ENDLESS ? 0 : 2 * i);
    }
}

KEEL_PROCESS(producer)
{
    keel_auto(shqueue) struct keel_shqueue *q = NULL;
    int rc = keel_shqueue_open(arg->fds[0], &q);

    for (int i = 1; rc == 0 && i <= 100; i++)
        rc = keel_shqueue_put(q, &i, sizeof(i), soon());
    return rc == 0 ? 7 : 1;
}

static void processes(void)
{
    keel_auto(shqueue) struct keel_shqueue *q = NULL;
    keel_auto(process) struct keel_process *p = NULL;
    struct keel_process_how how = {.fd_count = 1};
    int fd, code, i;
    size_t size;

    check("queue", keel_shqueue_new(8, sizeof(int), &q));
    fd = keel_shqueue_fd(q);
    how.fds = &fd;
    check("process", keel_process_start("producer", &how, &p));
    for (int wanted = 1; wanted <= 100; wanted++) {
        check("get", keel_shqueue_get(q, &i, sizeof(i), soon(), &size));
        expect("a message", i, wanted);
    }
    check("join", keel_process_join(p, soon(), NULL));
    check("exit code", keel_process_exitcode(p, &code));
    expect("exit code", code, 7);
}

/* ---- servers and who asks them ------------------------------------------------------ */

KEEL_HANDLER(echo)
{
    char buf[4096];
    ssize_t got;
    int rc = 0;

    while (rc == 0 &&
           (got = keel_stream_read(conn->stream, buf, sizeof(buf), soon())) > 0)
        rc = keel_stream_write(conn->stream, buf, (size_t)got, soon());
    return rc;
}

struct serving {
    struct keel_server *server;
    struct keel_co *co;
};

static int serve(void *arg)
{
    return keel_server_run(arg);
}

static void serving_begin(struct serving *s, enum keel_server_mode mode)
{
    const struct keel_server_how how = {.handler = "echo",
                                        .mode = mode,
                                        .loops = loops,
                                        .loop_count = LOOPS,
                                        .grace = 10 * KEEL_SECOND};

    check("server", keel_server_new(&how, &s->server));
    check("listen", keel_server_listen(s->server, "127.0.0.1:0"));
    check("spawn", keel_spawn(NULL, serve, s->server, &s->co));
}

static void serving_end(struct serving *s)
{
    int result;

    check("stop", keel_server_shutdown(s->server, soon()));
    check("join", keel_join(s->co, soon(), &result));
    check("server", result);
    keel_server_free(s->server);
}

/* One in four leaves without the answer. */
static void ask(const struct serving *s, size_t most)
{
    keel_auto(stream) struct keel_stream *c = NULL;
    char sent[8192], got[8192];
    size_t size = 1 + chance((unsigned)most);

    check("dial", keel_dial(keel_server_address(s->server, 0), soon(), &c));
    keel_random(sent, size);
    check("write", keel_stream_write(c, sent, size, soon()));
    if (chance(4) == 0)
        return;
    check("read", keel_stream_read_all(c, got, size, NULL, soon()));
    expect("the echo", memcmp(sent, got, size), 0);
}

static struct serving long_server, threads_server, processes_server;

static int ask_often(void *arg)
{
    (void)arg;
    for (int i = 0; i < 5; i++)
        ask(&long_server, 8192);
    return 0;
}

static void connections(void)
{
    keel_auto(group) struct keel_group *g = NULL;

    check("group", keel_group_new(0, &g));
    for (int i = 0; i < 20; i++) {
        struct keel_spawn how = {.loop = loops[i % LOOPS], .group = g};

        check("spawn", keel_spawn(&how, ask_often, NULL, NULL));
    }
    check("group", keel_group_join(g, soon()));
}

static void servers(void)
{
    struct serving brief;

    for (int i = 0; i < 3; i++)
        ask(&threads_server, 1000);
    ask(&processes_server, 1000);
    serving_begin(&brief, KEEL_SERVE_COROUTINE);
    ask(&brief, 1000);
    serving_end(&brief);
}

/* ---- datagrams and files -------------------------------------------------------------- */

static void datagrams(void)
{
    keel_auto(udp) struct keel_udp *a = NULL;
    keel_auto(udp) struct keel_udp *b = NULL;
    struct keel_address to;

    check("udp", keel_udp_open("127.0.0.1:0", 0, &a));
    check("udp", keel_udp_open("127.0.0.1:0", 0, &b));
    check("address", keel_udp_local(b, &to));
    for (int i = 0; i < 20; i++) {
        int got = -1;
        ssize_t size;

        check("send", keel_udp_send_to(a, &to, &i, sizeof(i), soon()));
        size =
            keel_udp_recv(b, &got, sizeof(got), keel_after(KEEL_SECOND), NULL);
        if (size == -ETIMEDOUT) /* datagrams may be lost */
            return;
        check("recv", (int)size);
        expect("a datagram", got, i);
    }
}

static void files(void)
{
    char sent[20000], got[sizeof(sent)];
    int fd = keel_file_open_any("/tmp", O_TMPFILE | O_RDWR, 0600);

    check("file", fd);
    keel_random(sent, sizeof(sent));
    check("write", keel_file_write(fd, sent, sizeof(sent), 4096));
    check("read", (int)keel_file_read(fd, got, sizeof(got), 4096));
    expect("the file", memcmp(sent, got, sizeof(sent)), 0);
    keel_file_close(fd);
}

/* ---- all of it, again and again -------------------------------------------------------- */

static struct work {
    const char *name;
    void (*round)(void);
    int at_once;
    _Atomic long rounds;
} works[] = {
    {"coroutines", coroutines, 2, 0}, {"queues", queues, 2, 0},
    {"locks", locks, 2, 0},           {"timers", timers, 2, 0},
    {"pools", pools, 1, 0},           {"tasks", tasks, 2, 0},
    {"processes", processes, 1, 0},   {"connections", connections, 2, 0},
    {"servers", servers, 1, 0},       {"datagrams", datagrams, 1, 0},
    {"files", files, 2, 0},
};
enum { WORKS = sizeof(works) / sizeof(*works) };

static int rounds(void *arg)
{
    struct work *w = arg;

    do {
        w->round();
        atomic_fetch_add(&w->rounds, 1);
    } while (keel_now() < until);
    return 0;
}

/* ---- what may not grow ------------------------------------------------------------------ */

enum {
    MEMORY,
    DESCRIPTORS,
    THREADS,
    SPAWNER_MEMORY,
    SPAWNER_DESCRIPTORS,
    SEEN
};

static const struct {
    const char *name;
    long slack; /* a peak that came later */
} seen_of[SEEN] = {
    [MEMORY] = {"bytes of memory", 8 << 20},
    [DESCRIPTORS] = {"descriptors", 64},
    [THREADS] = {"threads", 8},
    [SPAWNER_MEMORY] = {"bytes of the spawner's memory", 1 << 20},
    [SPAWNER_DESCRIPTORS] = {"descriptors of the spawner", 16},
};

/* A number of /proc/PID/status, in bytes where it says kB; 0: it is gone. */
static long status(pid_t pid, const char *field)
{
    char path[64], line[256], unit[8] = "";
    size_t size = strlen(field);
    long value = 0;
    FILE *f;

    snprintf(path, sizeof(path), "/proc/%d/status", (int)pid);
    f = fopen(path, "r");
    if (!f)
        return 0;
    while (fgets(line, sizeof(line), f))
        if (strncmp(line, field, size) == 0 && line[size] == ':') {
            if (sscanf(line + size + 1, "%ld %7s", &value, unit) < 1)
                value = 0;
            break;
        }
    fclose(f);
    return strcmp(unit, "kB") == 0 ? value * 1024 : value;
}

static long entries(const char *path)
{
    DIR *d = opendir(path);
    long count = 0;

    if (!d)
        return 0;
    while (readdir(d))
        count++;
    closedir(d);
    return count;
}

static pid_t spawner_pid(void)
{
    char path[64], name[32] = "";
    int pid = 0;
    FILE *f;

    snprintf(path, sizeof(path), "/proc/self/task/%d/children", (int)getpid());
    f = fopen(path, "r");
    if (!f)
        die("the kernel does not tell of children");
    while (fscanf(f, "%d", &pid) == 1) {
        FILE *comm;

        snprintf(path, sizeof(path), "/proc/%d/comm", pid);
        comm = fopen(path, "r");
        if (comm && fscanf(comm, "%31s", name) != 1)
            name[0] = '\0';
        if (comm)
            fclose(comm);
        if (strcmp(name, "keel-spawner") == 0)
            break;
    }
    fclose(f);
    if (strcmp(name, "keel-spawner") != 0)
        die("there is no spawner");
    return pid;
}

/* A sanitizer's own notes of addresses, coroutines and freed blocks grow by
 * hundreds of megabytes while the program holds the same 300 KB: there it is
 * asked what the program holds. */
#if defined(__has_feature)
#if __has_feature(address_sanitizer) || __has_feature(thread_sanitizer)
#define SANITIZED 1
#endif
#endif
#if defined(__SANITIZE_ADDRESS__) || defined(__SANITIZE_THREAD__)
#define SANITIZED 1
#endif
#if defined(SANITIZED)
size_t __sanitizer_get_current_allocated_bytes(void);
#endif

static long memory(void)
{
#if defined(SANITIZED)
    return (long)__sanitizer_get_current_allocated_bytes();
#else
    return (long)keel_process_memory();
#endif
}

static void look(pid_t spawner, long seen[SEEN])
{
    char path[64];

    snprintf(path, sizeof(path), "/proc/%d/fd", (int)spawner);
    seen[MEMORY] = memory();
    seen[DESCRIPTORS] = keel_process_descriptors();
    seen[THREADS] = status(getpid(), "Threads");
    seen[SPAWNER_MEMORY] = status(spawner, "VmRSS");
    seen[SPAWNER_DESCRIPTORS] = entries(path);
}

struct watch {
    keel_ns begun, seconds;
    pid_t spawner;
    long early[SEEN], late[SEEN];
};

static int watching(void *arg)
{
    struct watch *w = arg;
    keel_ns all = until - w->begun;

    while (keel_now() < until) {
        keel_ns gone = keel_now() - w->begun;
        long *most = gone < all / 2 ? w->early : w->late;
        long seen[SEEN];

        look(w->spawner, seen);
        for (int i = 0; gone >= all / 4 && i < SEEN; i++)
            if (seen[i] > most[i])
                most[i] = seen[i];
        if (keel_sleep(keel_after(all / SAMPLES + KEEL_MS)) < 0)
            break;
    }
    return 0;
}

static void judge(const struct watch *w)
{
    for (int i = 0; i < SEEN; i++) {
        printf("keel_soak: %s: %ld then %ld\n", seen_of[i].name, w->early[i],
               w->late[i]);
        if (w->seconds >= LONG && w->late[i] > w->early[i] + seen_of[i].slack)
            die("%s grew", seen_of[i].name);
    }
}

static int soak(void *arg)
{
    struct watch *w = arg;
    const struct keel_pool_how pool_how = {.name = "long", .size = 3};
    const struct keel_procpool_how procpool_how = {.workers = 2,
                                                   .per_child = 500};
    keel_auto(group) struct keel_group *g = NULL;

    loops[0] = keel_loop_current();
    for (int i = 1; i < LOOPS; i++)
        check("loop", keel_loop_start("soak", &loops[i]));
    check("pool", keel_pool_new(&pool_how, &long_pool));
    check("pool", keel_procpool_new(&procpool_how, &procpool));
    serving_begin(&long_server, KEEL_SERVE_COROUTINE);
    serving_begin(&threads_server, KEEL_SERVE_THREAD);
    serving_begin(&processes_server, KEEL_SERVE_PROCESS);

    check("group", keel_group_new(0, &g));
    for (int i = 0; i < WORKS; i++)
        for (int n = 0; n < works[i].at_once; n++) {
            struct keel_spawn how = {.name = works[i].name, .group = g};

            check("spawn", keel_spawn(&how, rounds, &works[i], NULL));
        }
    check("spawn",
          keel_spawn(&(struct keel_spawn){.group = g}, watching, w, NULL));
    check("work", keel_group_join(g, KEEL_FOREVER));

    serving_end(&processes_server);
    serving_end(&threads_server);
    serving_end(&long_server);
    keel_procpool_free(procpool);
    keel_pool_free(long_pool);
    for (int i = 1; i < LOOPS; i++)
        keel_loop_stop(loops[i]);
    return 0;
}

/* Blocking threads end when they have been idle for a while. */
static void settle(const char *what, long (*count)(void), long wanted)
{
    keel_ns deadline = soon();

    while (count() > wanted) {
        if (keel_now() > deadline)
            die("%s are left: %ld, at the beginning %ld", what, count(),
                wanted);
        keel_sleep(keel_after(20 * KEEL_MS));
    }
}

static long descriptors(void)
{
    return keel_process_descriptors();
}

static long threads(void)
{
    return status(getpid(), "Threads");
}

static long children(void)
{
    return (long)keel_process_count();
}

/* What keel starts at first use, and keeps: a pool of processes, and a wait of
 * a coroutine between processes. */
static int first_use(void *arg)
{
    const struct keel_procpool_how how = {.workers = 1};
    keel_auto(procpool) struct keel_procpool *p = NULL;
    keel_auto(shqueue) struct keel_shqueue *q = NULL;
    char buf[8];
    size_t size;

    (void)arg;
    check("pool", keel_procpool_new(&how, &p));
    check("queue", keel_shqueue_new(8, sizeof(buf), &q));
    expect("a wait in vain",
           keel_shqueue_get(q, buf, sizeof(buf), keel_after(KEEL_MS), &size),
           -ETIMEDOUT);
    return 0;
}

int main(int argc, char **argv)
{
    struct watch w = {.seconds = argc > 1 ? atoi(argv[1]) : 120};
    long descriptors_first, threads_first;

    if (argc > 2 || w.seconds < 1)
        die("usage: keel_soak [SECONDS]");
    keel_descriptors_most();
    check("run", keel_run(first_use, NULL));
    w.spawner = spawner_pid();
    descriptors_first = descriptors();
    threads_first = threads();
    w.begun = keel_now();
    until = w.begun + w.seconds * KEEL_SECOND;

    check("run", keel_run(soak, &w));

    for (int i = 0; i < WORKS; i++) {
        printf("keel_soak: %s: %ld rounds\n", works[i].name,
               (long)works[i].rounds);
        if (works[i].rounds == 0)
            die("%s did nothing", works[i].name);
    }
    settle("processes", children, 0);
    if (w.seconds >= LONG)
        settle("threads", threads, threads_first);
    settle("descriptors", descriptors, descriptors_first);
    judge(&w);
    return 0;
}
