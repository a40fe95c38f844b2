/* SPDX-License-Identifier: MIT */
/* What keel's pieces cost.
 *
 *     keel_bench FIGURE
 *
 * measures one figure once, in a process of its own, and prints the number
 * (and a second one: the peer's, where there is a plain form to compare with).
 * Threads are pinned to the processors this process may use, in order.  Rounds
 * and medians are bench/keel.py's. */
#include <errno.h>
#include <pthread.h>
#include <sched.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <time.h>
#include <ucontext.h>
#include <unistd.h>

#include <keel/co.h>
#include <keel/lock.h>
#include <keel/pool.h>
#include <keel/procpool.h>
#include <keel/queue.h>
#include <keel/thread.h>

#include "../keel/loop/switch.h"

enum {
    SWITCHES = 20000000,
    YIELDS = 10000000,
    SPAWNS = 2000000,
    PARKED = 100000,
    MILLION = 1000000,
    ITEMS = 2000000,
    PEER_TIMES = 500000,
    JOBS = 2000000,
    JOB_WINDOW = 1024,
    TRIPS = 200000,
    LINE_TRIPS = 1000000,
    SLOTS = 1024,
    STACK = 65536,
    CPUS_MOST = 1024,
};

static size_t cpus[CPUS_MOST];
static int cpu_count;

static void die(const char *what)
{
    fprintf(stderr, "keel_bench: %s\n", what);
    exit(1);
}

static void check(const char *what, int rc)
{
    if (rc >= 0)
        return;
    fprintf(stderr, "keel_bench: %s: %s\n", what, strerror(-rc));
    exit(1);
}

static void find_cpus(void)
{
    cpu_set_t set;

    if (sched_getaffinity(0, sizeof set, &set) < 0)
        die("no processors known");
    for (size_t i = 0; i < CPUS_MOST && i < CPU_SETSIZE; i++)
        if (CPU_ISSET(i, &set))
            cpus[cpu_count++] = i;
}

static void pin(int nth)
{
    cpu_set_t set;

    CPU_ZERO(&set);
    CPU_SET(cpus[nth % cpu_count], &set);
    if (sched_setaffinity(0, sizeof set, &set) < 0)
        die("cannot be pinned");
}

static double per(keel_ns begun, long count)
{
    return (double)(keel_now() - begun) / (double)count;
}

/* What stays on one thread and never waits is measured in that thread's own
 * time: others on the machine do not count. */
static keel_ns own_time(void)
{
    struct timespec t;

    clock_gettime(CLOCK_THREAD_CPUTIME_ID, &t);
    return t.tv_sec * KEEL_SECOND + t.tv_nsec;
}

static double own_per(keel_ns begun, long count)
{
    return (double)(own_time() - begun) / (double)count;
}

/* ---- a switch ------------------------------------------------------------- */

static void *sides[2];

/* Both sides run the same code, as coroutines of one scheduler do when they
 * switch: the processor then foresees where each returns to. */
static __attribute__((noinline)) void switches(int side)
{
    for (long i = 0; i < SWITCHES / 2; i++)
        switch_stacks(&sides[side], sides[!side]);
}

static void other_side(void)
{
    for (;;)
        switches(1);
}

static ucontext_t peer_here, peer_there;

static void peer_bounce(void)
{
    for (;;)
        swapcontext(&peer_there, &peer_here);
}

static double swapcontext_ns(void *stack)
{
    keel_ns begun;

    getcontext(&peer_there);
    peer_there.uc_stack = (stack_t){.ss_sp = stack, .ss_size = STACK};
    makecontext(&peer_there, peer_bounce, 0);
    begun = own_time();
    for (long i = 0; i < PEER_TIMES / 2; i++)
        swapcontext(&peer_here, &peer_there);
    return own_per(begun, PEER_TIMES);
}

static void measure_switch(void)
{
    void *stack = aligned_alloc(4096, STACK);
    keel_ns begun;
    double ns;

    if (!stack)
        die("no memory");
    sides[1] = switch_prepare(stack, (char *)stack + STACK, other_side);
    begun = own_time();
    switches(0);
    ns = own_per(begun, SWITCHES);
    printf("%.3f %.3f\n", ns, swapcontext_ns(stack));
}

/* ---- the scheduler -------------------------------------------------------- */

/* Both sides run the same code, as in measure_switch. */
static __attribute__((noinline)) int yielder(void *arg)
{
    (void)arg;
    for (long i = 0; i < YIELDS / 2; i++)
        keel_yield();
    return 0;
}

static int yields(void *arg)
{
    struct keel_co *other;
    keel_ns begun = own_time();

    (void)arg;
    check("spawn", keel_spawn(NULL, yielder, NULL, &other));
    yielder(NULL);
    check("join", keel_join(other, KEEL_FOREVER, NULL));
    printf("%.3f\n", own_per(begun, YIELDS));
    return 0;
}

static int nothing(void *arg)
{
    (void)arg;
    return 0;
}

static void *nothing_thread(void *arg)
{
    return arg;
}

static double pthread_ns(void)
{
    enum { TIMES = 2000 };
    keel_ns begun = keel_now();
    pthread_t t;

    for (long i = 0; i < TIMES; i++) {
        if (pthread_create(&t, NULL, nothing_thread, NULL) != 0)
            die("no thread");
        pthread_join(t, NULL);
    }
    return per(begun, TIMES);
}

static int spawns(void *arg)
{
    struct keel_co *co;
    keel_ns begun = 0;
    double ns;

    (void)arg;
    for (long i = -1000; i < SPAWNS; i++) {
        if (i == 0)
            begun = own_time();
        check("spawn", keel_spawn(NULL, nothing, NULL, &co));
        check("join", keel_join(co, KEEL_FOREVER, NULL));
    }
    ns = own_per(begun, SPAWNS); /* before the peer's own time is added */
    printf("%.3f %.3f\n", ns, pthread_ns());
    return 0;
}

/* ---- memory --------------------------------------------------------------- */

/* Resident pages and page tables, in bytes. */
static double memory(void)
{
    FILE *f = fopen("/proc/self/status", "r");
    long total = 0, kib;
    char line[256];

    if (!f)
        die("no /proc");
    while (fgets(line, sizeof line, f))
        if (sscanf(line, "VmRSS: %ld", &kib) == 1 ||
            sscanf(line, "VmPTE: %ld", &kib) == 1)
            total += kib;
    fclose(f);
    return (double)total * 1024;
}

static struct keel_event release;
static long parked;

static int park(void *arg)
{
    (void)arg;
    parked++;
    return keel_event_wait(&release, KEEL_FOREVER);
}

static int parks(void *arg)
{
    double before;

    (void)arg;
    keel_event_init(&release);
    before = memory();
    for (long i = 0; i < PARKED; i++) {
        if (keel_spawn(NULL, park, NULL, NULL) < 0)
            die(keel_stack_error());
    }
    while (parked < PARKED)
        keel_yield();
    keel_yield(); /* the last to run has not waited yet, until it has */
    printf("%.1f\n", (memory() - before) / PARKED);
    keel_event_set(&release);
    return 0;
}

/* A million at once: bytes each while they are parked, and the seconds that
 * all of them take from the first spawn to the last join. */
static int million(void *arg)
{
    struct keel_co **co = calloc(MILLION, sizeof(struct keel_co *));
    double before, bytes;
    keel_ns begun, took;

    (void)arg;
    if (!co)
        die("no memory");
    keel_event_init(&release);
    memset(co, 1, MILLION * sizeof(struct keel_co *)); /* its pages are there */
    before = memory();
    begun = keel_now();
    for (long i = 0; i < MILLION; i++) {
        if (keel_spawn(NULL, park, NULL, &co[i]) < 0)
            die(keel_stack_error());
    }
    while (parked < MILLION)
        keel_yield();
    keel_yield();
    took = keel_now() - begun;
    bytes = (memory() - before) / MILLION;
    begun = keel_now();
    keel_event_set(&release);
    for (long i = 0; i < MILLION; i++)
        check("join", keel_join(co[i], KEEL_FOREVER, NULL));
    took += keel_now() - begun;
    printf("%.1f %.4f\n", bytes, (double)took / 1e9);
    free(co);
    return 0;
}

/* ---- a line between two processors ---------------------------------------- */

/* What a hand-over is made of: the same word, or a word for each direction, is
 * written here, seen there, written there and seen here. */
static struct {
    _Alignas(128) _Atomic long word;
} line[2];

static void see(int which, long value)
{
    while (atomic_load_explicit(&line[which].word, memory_order_acquire) !=
           value)
        if (cpu_count < 2)
            sched_yield();
}

static void show(int which, long value)
{
    atomic_store_explicit(&line[which].word, value, memory_order_release);
}

static int answers(void *arg)
{
    int back = *(const int *)arg;

    pin(1);
    for (long i = 1; i < 2 * LINE_TRIPS; i += 2) {
        see(0, i);
        show(back, i + 1);
    }
    return 0;
}

static void measure_line(int back)
{
    struct keel_thread *t;
    keel_ns begun = 0;

    pin(0);
    check("thread", keel_thread_start("bench", answers, &back, &t));
    for (long i = 1; i < 2 * LINE_TRIPS; i += 2) {
        if (i == 20001)
            begun = keel_now();
        show(0, i);
        see(back, i + 1);
    }
    printf("%.3f\n", per(begun, LINE_TRIPS - 10000));
    check("join", keel_thread_join(t, KEEL_FOREVER, NULL));
}

static void measure_one_line(void)
{
    measure_line(0);
}

static void measure_two_lines(void)
{
    measure_line(1);
}

/* ---- queues --------------------------------------------------------------- */

/* What everybody writes first: a ring, a lock and two conditions. */
static struct plain {
    pthread_mutex_t lock;
    pthread_cond_t some, room;
    void *items[SLOTS];
    size_t head, count;
} plain = {.lock = PTHREAD_MUTEX_INITIALIZER,
           .some = PTHREAD_COND_INITIALIZER,
           .room = PTHREAD_COND_INITIALIZER};

static void plain_put(void *item)
{
    pthread_mutex_lock(&plain.lock);
    while (plain.count == SLOTS)
        pthread_cond_wait(&plain.room, &plain.lock);
    plain.items[(plain.head + plain.count++) % SLOTS] = item;
    pthread_cond_signal(&plain.some);
    pthread_mutex_unlock(&plain.lock);
}

static void plain_get(void)
{
    pthread_mutex_lock(&plain.lock);
    while (plain.count == 0)
        pthread_cond_wait(&plain.some, &plain.lock);
    plain.head = (plain.head + 1) % SLOTS;
    plain.count--;
    pthread_cond_signal(&plain.room);
    pthread_mutex_unlock(&plain.lock);
}

static struct keel_queue *queue;
static int item; /* its address is what goes through */

/* Everybody is there before the clock starts. */
static _Atomic int ready, started;

static void ready_wait(void)
{
    atomic_fetch_add(&ready, 1);
    while (!atomic_load(&started))
        keel_yield();
}

static void ready_go(int count)
{
    while (atomic_load(&ready) < count)
        keel_yield();
    atomic_store(&started, 1);
}

static int put_items(void *arg)
{
    ready_wait();
    for (long i = *(const long *)arg; i > 0; i--)
        check("put", keel_queue_put(queue, &item, KEEL_FOREVER));
    return 0;
}

static int get_items(void *arg)
{
    void *got;

    ready_wait();
    for (long i = *(const long *)arg; i > 0; i--)
        check("get", keel_queue_get(queue, KEEL_FOREVER, &got));
    return 0;
}

static int plain_put_items(void *arg)
{
    ready_wait();
    for (long i = *(const long *)arg; i > 0; i--)
        plain_put(&item);
    return 0;
}

static int plain_get_items(void *arg)
{
    ready_wait();
    for (long i = *(const long *)arg; i > 0; i--)
        plain_get();
    return 0;
}

static int local_items(void *arg)
{
    long count = ITEMS;
    struct keel_co *putter;
    keel_ns begun;

    (void)arg;
    check("queue", keel_queue_new(SLOTS, KEEL_QUEUE_LOCAL, &queue));
    atomic_store(&started, 1);
    begun = own_time();
    check("spawn", keel_spawn(NULL, put_items, &count, &putter));
    get_items(&count);
    check("join", keel_join(putter, KEEL_FOREVER, NULL));
    printf("%.3f\n", own_per(begun, ITEMS));
    keel_queue_free(queue);
    return 0;
}

static int pin_here(void *arg)
{
    pin(*(const int *)arg);
    return 0;
}

/* `pairs` putters and getters, on loops: for one pair a loop each, else each
 * loop has one of both. */
static void across_loops(int pairs)
{
    int loops = pairs == 1 ? 2 : pairs;
    long count = ITEMS / pairs;
    struct keel_loop *loop[8];
    struct keel_co *co[16], *pinner;
    keel_ns begun;
    int n = 0;

    check("queue", keel_queue_new(SLOTS, KEEL_QUEUE_SHARED, &queue));
    for (int i = 0; i < loops; i++) {
        struct keel_spawn how = {.name = "bench"};

        check("loop", keel_loop_start("bench", &how.loop));
        loop[i] = how.loop;
        check("spawn", keel_spawn(&how, pin_here, &i, &pinner));
        check("join", keel_join(pinner, KEEL_FOREVER, NULL));
        if (pairs > 1 || i == 0)
            check("spawn", keel_spawn(&how, put_items, &count, &co[n++]));
        if (pairs > 1 || i == 1)
            check("spawn", keel_spawn(&how, get_items, &count, &co[n++]));
    }
    ready_go(n);
    begun = keel_now();
    while (n > 0)
        check("join", keel_join(co[--n], KEEL_FOREVER, NULL));
    printf("%.3f", per(begun, count * pairs));
    for (int i = 0; i < loops; i++)
        keel_loop_stop(loop[i]);
    keel_queue_free(queue);
}

struct task {
    int (*fn)(void *arg);
    long count;
    int cpu;
};

static int pinned_task(void *arg)
{
    struct task *t = arg;

    pin(t->cpu);
    return t->fn(&t->count);
}

static double plain_ns(int pairs)
{
    struct keel_thread *thread[16];
    struct task task[16];
    keel_ns begun;

    atomic_store(&ready, 0);
    atomic_store(&started, 0);
    for (int i = 0; i < 2 * pairs; i++) {
        task[i] = (struct task){i % 2 ? plain_get_items : plain_put_items,
                                PEER_TIMES / pairs, i};
        check("thread",
              keel_thread_start("bench", pinned_task, &task[i], &thread[i]));
    }
    ready_go(2 * pairs);
    begun = keel_now();
    for (int i = 0; i < 2 * pairs; i++)
        check("join", keel_thread_join(thread[i], KEEL_FOREVER, NULL));
    return per(begun, PEER_TIMES / pairs * pairs);
}

static void measure_across(int pairs)
{
    across_loops(pairs);
    printf(" %.3f\n", plain_ns(pairs));
}

/* ---- pools ---------------------------------------------------------------- */

/* The caller has the first processor, the workers have the others. */
static int worker_count(void)
{
    return cpu_count > 1 ? cpu_count - 1 : 1;
}

static int pin_worker(void *arg)
{
    static _Atomic int count;

    (void)arg;
    pin(cpu_count > 1 ? 1 + atomic_fetch_add(&count, 1) % worker_count() : 0);
    return 0;
}

static int job(void *arg)
{
    (void)arg;
    return 1;
}

static struct keel_pool *pool_new(int workers)
{
    const struct keel_pool_how how = {
        .name = "bench", .size = (unsigned)workers, .initializer = pin_worker};
    struct keel_pool *p = NULL;

    pin(0);
    check("pool", keel_pool_new(&how, &p));
    return p;
}

static long pool_take(struct keel_future *f)
{
    int rc = keel_future_result(f, KEEL_FOREVER, NULL);

    check("job", rc);
    keel_future_free(f);
    return rc;
}

/* Every result is asked for; so many are under way. */
static double pool_per_s(struct keel_pool *p, long count)
{
    static struct keel_future *f[JOB_WINDOW];
    keel_ns begun = keel_now();
    long sum = 0;

    for (long i = 0; i < count + JOB_WINDOW; i++) {
        if (i >= JOB_WINDOW)
            sum += pool_take(f[i % JOB_WINDOW]);
        if (i < count)
            check("submit", keel_pool_submit(p, job, NULL, KEEL_FOREVER,
                                             &f[i % JOB_WINDOW]));
    }
    if (sum != count)
        die("jobs are missing");
    return 1e9 / per(begun, count);
}

static int run_plain_items(void *arg)
{
    ready_wait();
    for (long i = *(const long *)arg; i > 0; i--)
        plain_get(), job(NULL);
    return 0;
}

static double plain_per_s(void)
{
    int workers = worker_count();
    long count = PEER_TIMES / workers;
    struct keel_thread *thread[CPUS_MOST];
    struct task task[CPUS_MOST];
    keel_ns begun;

    for (int i = 0; i < workers; i++) {
        task[i] =
            (struct task){run_plain_items, count, cpu_count > 1 ? 1 + i : 0};
        check("thread",
              keel_thread_start("bench", pinned_task, &task[i], &thread[i]));
    }
    ready_go(workers);
    begun = keel_now();
    for (long i = 0; i < count * workers; i++)
        plain_put(&item);
    for (int i = 0; i < workers; i++)
        check("join", keel_thread_join(thread[i], KEEL_FOREVER, NULL));
    return 1e9 / per(begun, count * workers);
}

static void measure_pool_bulk(void)
{
    keel_auto(pool) struct keel_pool *p = pool_new(worker_count());

    pool_per_s(p, JOBS / 20);
    printf("%.1f", pool_per_s(p, JOBS));
    printf(" %.1f\n", plain_per_s());
}

static void measure_pool_trip(void)
{
    keel_auto(pool) struct keel_pool *p = pool_new(1);
    struct keel_future *f;
    keel_ns begun = 0;

    for (long i = -1000; i < TRIPS; i++) {
        if (i == 0)
            begun = keel_now();
        check("submit", keel_pool_submit(p, job, NULL, KEEL_FOREVER, &f));
        pool_take(f);
    }
    printf("%.1f\n", per(begun, TRIPS));
}

/* A worker knows no number: each takes the first processor whose name in the
 * abstract namespace of sockets nobody has. */
KEEL_TASK(bench_pin)
{
    int count = *(const int *)in;

    find_cpus();
    for (int i = 0; i < count; i++) {
        struct sockaddr_un name = {.sun_family = AF_UNIX};
        int fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0);

        snprintf(name.sun_path + 1, sizeof name.sun_path - 1,
                 "keel-bench-%d-%d", (int)getppid(), i);
        if (fd >= 0 && bind(fd, (struct sockaddr *)&name, sizeof name) == 0) {
            pin(cpu_count > 1 ? 1 + i : 0);
            return 0; /* and keeps the socket */
        }
        close(fd);
    }
    return -EBUSY;
}

KEEL_TASK(bench_task)
{
    return 1;
}

static struct keel_procpool *procpool_new(int workers)
{
    int arg = worker_count();
    const struct keel_procpool_how how = {.name = "bench",
                                          .workers = (unsigned)workers,
                                          .initializer = "bench_pin",
                                          .arg = &arg,
                                          .arg_size = sizeof arg};
    struct keel_procpool *p = NULL;

    /* First, for processes have the affinity of who starts them. */
    check("pool", keel_procpool_new(&how, &p));
    pin(0);
    return p;
}

static void procpool_send(struct keel_procpool *p, struct keel_proctask *t)
{
    check("submit", keel_procpool_submit(p, "bench_task", NULL, 0, KEEL_FOREVER,
                                         KEEL_FOREVER, t));
}

static void procpool_take(struct keel_procpool *p, struct keel_proctask t)
{
    struct keel_proctask_end end;

    check("result", keel_procpool_result(p, t, NULL, 0, KEEL_FOREVER, &end));
    if (end.result != 1)
        die("a task is missing");
}

static double procpool_per_s(struct keel_procpool *p, long count)
{
    static struct keel_proctask t[JOB_WINDOW];
    keel_ns begun = keel_now();

    for (long i = 0; i < count + JOB_WINDOW; i++) {
        if (i >= JOB_WINDOW)
            procpool_take(p, t[i % JOB_WINDOW]);
        if (i < count)
            procpool_send(p, &t[i % JOB_WINDOW]);
    }
    return 1e9 / per(begun, count);
}

static double procpool_trip_us(struct keel_procpool *p, long count)
{
    struct keel_proctask t;
    keel_ns begun = 0;

    for (long i = -1000; i < count; i++) {
        if (i == 0)
            begun = keel_now();
        procpool_send(p, &t);
        procpool_take(p, t);
    }
    return per(begun, count) / 1e3;
}

static void measure_procpool_bulk(void)
{
    keel_auto(procpool) struct keel_procpool *p = procpool_new(worker_count());

    procpool_per_s(p, JOBS / 20);
    printf("%.1f\n", procpool_per_s(p, JOBS));
}

static void measure_procpool_trip(void)
{
    keel_auto(procpool) struct keel_procpool *p = procpool_new(1);

    printf("%.4f\n", procpool_trip_us(p, TRIPS));
}

/* ---- the table ------------------------------------------------------------ */

static void measure_1p1c(void)
{
    measure_across(1);
}

static void measure_4p4c(void)
{
    measure_across(4);
}

static const struct figure {
    const char *name;
    void (*run)(void);      /* by itself */
    int (*loop)(void *arg); /* as the first coroutine of a pinned loop */
} figures[] = {
    {.name = "switch_ns", .run = measure_switch},
    {.name = "yield_ns", .loop = yields},
    {.name = "spawn_join_ns", .loop = spawns},
    {.name = "parked_rss_bytes", .loop = parks},
    {.name = "million_co_bytes", .loop = million},
    {.name = "line_trip_ns", .run = measure_one_line},
    {.name = "two_lines_trip_ns", .run = measure_two_lines},
    {.name = "queue_local_ns", .loop = local_items},
    {.name = "queue_1p1c_ns", .run = measure_1p1c},
    {.name = "queue_4p4c_ns", .run = measure_4p4c},
    {.name = "pool_bulk_per_s", .run = measure_pool_bulk},
    {.name = "pool_roundtrip_ns", .run = measure_pool_trip},
    {.name = "pool_roundtrip_asleep_ns", .run = measure_pool_trip},
    {.name = "procpool_bulk_per_s", .run = measure_procpool_bulk},
    {.name = "procpool_roundtrip_us", .run = measure_procpool_trip},
    {.name = "procpool_roundtrip_asleep_us", .run = measure_procpool_trip},
};

int main(int argc, char **argv)
{
    find_cpus();
    for (size_t i = 0; argc == 2 && i < sizeof figures / sizeof *figures; i++) {
        const struct figure *f = &figures[i];

        if (strcmp(argv[1], f->name) != 0)
            continue;
        if (f->loop) {
            pin(cpu_count > 1 ? 1 : 0);
            check(f->name, keel_run(f->loop, NULL));
        } else {
            if (f->run == measure_switch)
                pin(cpu_count > 1 ? 1 : 0);
            f->run();
        }
        return 0;
    }
    fprintf(stderr, "usage: keel_bench FIGURE, which is one of\n");
    for (size_t i = 0; i < sizeof figures / sizeof *figures; i++)
        fprintf(stderr, "    %s\n", figures[i].name);
    return 2;
}
