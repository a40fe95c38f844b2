/* SPDX-License-Identifier: MIT */
#include "conform.h"

#include <fcntl.h>
#include <stdio.h>
#include <unistd.h>

#include <keel/shqueue.h>

static int run_job(void *arg)
{
    struct worker *w = arg;

    return w->fn(w->c, w->arg);
}

/* ---- coroutines ---- */

static struct keel_spawn co_how(struct worker *w)
{
    return (struct keel_spawn){
        .name = w->name, .loop = w->c->kind->far_away ? w->c->loop : NULL};
}

static int co_start(struct worker *w)
{
    struct keel_spawn how = co_how(w);

    return keel_spawn(&how, run_job, w, &w->co);
}

static int co_start_cancelled(struct worker *w)
{
    int rc = co_start(w);

    if (rc == 0)
        keel_cancel(w->co);
    return rc;
}

static int co_join(struct worker *w, keel_ns deadline, int *ret_result)
{
    return keel_join(w->co, deadline, ret_result);
}

static void co_cancel(struct worker *w)
{
    keel_cancel(w->co);
}

static void co_let_go(struct worker *w)
{
    struct keel_spawn how = co_how(w);

    assert_int_equal(keel_spawn(&how, run_job, w, NULL), 0);
}

static int co_join_itself(keel_ns deadline)
{
    return keel_join(keel_current(), deadline, NULL);
}

static size_t co_count(struct conform *c)
{
    return keel_loop_load(c->kind->far_away ? c->loop : keel_loop_current());
}

const struct worker_verbs coroutines = {
    .start = co_start,
    .start_cancelled = co_start_cancelled,
    .join = co_join,
    .cancel = co_cancel,
    .let_go = co_let_go,
    .join_itself = co_join_itself,
    .own_name = keel_name,
    .count = co_count,
};

/* ---- threads ---- */

static int thread_start(struct worker *w)
{
    return keel_thread_start(w->name, run_job, w, &w->thread);
}

static int thread_start_cancelled(struct worker *w)
{
    const struct keel_thread_how how = {.name = w->name};
    int rc = keel_thread_new(&how, run_job, w, &w->thread);

    if (rc < 0)
        return rc;
    keel_thread_cancel(w->thread);
    return keel_thread_begin(w->thread);
}

static int thread_join(struct worker *w, keel_ns deadline, int *ret_result)
{
    return keel_thread_join(w->thread, deadline, ret_result);
}

static void thread_cancel(struct worker *w)
{
    keel_thread_cancel(w->thread);
}

static void thread_let_go(struct worker *w)
{
    assert_int_equal(thread_start(w), 0);
    keel_thread_free(w->thread);
}

static int thread_join_itself(keel_ns deadline)
{
    return keel_thread_join(keel_thread_current(), deadline, NULL);
}

static size_t thread_count(struct conform *c)
{
    (void)c;
    return keel_thread_enumerate(NULL, 0);
}

static bool thread_is_alive(struct worker *w)
{
    return keel_thread_is_alive(w->thread);
}

const struct worker_verbs threads = {
    .start = thread_start,
    .start_cancelled = thread_start_cancelled,
    .join = thread_join,
    .cancel = thread_cancel,
    .let_go = thread_let_go,
    .join_itself = thread_join_itself,
    .own_name = keel_name,
    .count = thread_count,
    .is_alive = thread_is_alive,
};

/* ---- processes ---- */

/* A job's address differs between runs of the program; its distance from this
 * one does not. */
static int anchor(struct conform *c, int arg)
{
    (void)c;
    return arg;
}

/* What a process is sent, with the world's descriptor and perhaps a queue's. */
struct letter {
    int kind, arg;
    intptr_t job;
};

KEEL_PROCESS(conform_worker)
{
    const struct letter *l = arg->data;
    struct conform c = {.kind = &kinds[l->kind]};
    job_fn *fn = (job_fn *)((intptr_t)anchor + l->job);
    int rc;

    c.worker = c.kind->worker;
    c.sync = c.kind->sync;
    c.queue = c.kind->queue;
    c.pool = c.kind->pool;
    if (keel_shared_open(arg->fds[0], &c.memory) < 0)
        return 251;
    c.w = keel_shared_memory(c.memory);
    if (arg->fd_count > 1 &&
        keel_shqueue_open(arg->fds[1], &c.queue_between) < 0)
        return 252;
    rc = fn(&c, l->arg);
    keel_shqueue_free(c.queue_between);
    keel_shared_free(c.memory);
    return rc;
}

static int process_start(struct worker *w)
{
    struct letter l = {.kind = (int)(w->c->kind - kinds),
                       .arg = w->arg,
                       .job = (intptr_t)w->fn - (intptr_t)anchor};
    int fds[2] = {keel_shared_fd(w->c->memory)};
    struct keel_process_how how = {.name = w->name,
                                   .arg = &l,
                                   .arg_size = sizeof(l),
                                   .fds = fds,
                                   .fd_count = 1};

    if (w->c->queue_between)
        fds[how.fd_count++] = keel_shqueue_fd(w->c->queue_between);
    return keel_process_start("conform_worker", &how, &w->process);
}

static int process_start_cancelled(struct worker *w)
{
    int rc = process_start(w);

    if (rc == 0)
        keel_process_cancel(w->process);
    return rc;
}

static int process_join(struct worker *w, keel_ns deadline, int *ret_result)
{
    return keel_process_join(w->process, deadline, ret_result);
}

static void process_cancel(struct worker *w)
{
    keel_process_cancel(w->process);
}

static void process_let_go(struct worker *w)
{
    assert_int_equal(process_start(w), 0);
    keel_process_free(keel_take(w->process));
}

static size_t process_count(struct conform *c)
{
    (void)c;
    return keel_process_count();
}

static bool process_is_alive(struct worker *w)
{
    return keel_process_is_alive(w->process);
}

const struct worker_verbs processes = {
    .start = process_start,
    .start_cancelled = process_start_cancelled,
    .join = process_join,
    .cancel = process_cancel,
    .let_go = process_let_go,
    .own_name = keel_name,
    .count = process_count,
    .is_alive = process_is_alive,
};

/* ---- all of them ---- */

#define HERE .sync = &sync_here, .queue = &queue_here, .pool = &pool_of_threads
#define BETWEEN                                                                \
    .sync = &sync_between, .queue = &queue_between, .pool = &pool_of_processes

const struct kind kinds[] = {
    {"coroutine", COROUTINE, true, false, .worker = &coroutines, HERE},
    {"coroutine-loops", COROUTINE, false, true, .worker = &coroutines, HERE},
    {"thread", THREAD, false, false, .worker = &threads, HERE},
    {"thread-parks", THREAD, true, false, .worker = &threads, HERE},
    {"process", PROCESS, false, false, .worker = &processes, BETWEEN},
    {"process-parks", PROCESS, true, false, .worker = &processes, BETWEEN},
};
const size_t kind_count = sizeof(kinds) / sizeof(*kinds);

/* ---- for cases and jobs ---- */

static struct worker *fresh(struct conform *c, const char *name, job_fn *fn,
                            int arg)
{
    struct worker *w = &c->workers[c->started];

    keel_assert(c->started < NUMBERS);
    c->started++;
    *w = (struct worker){.c = c, .fn = fn, .arg = arg};
    (void)snprintf(w->name, sizeof(w->name), "%s", name);
    return w;
}

struct worker *begin_named(struct conform *c, const char *name, job_fn *fn,
                           int arg)
{
    struct worker *w = fresh(c, name, fn, arg);

    assert_int_equal(c->worker->start(w), 0);
    return w;
}

struct worker *begin(struct conform *c, job_fn *fn, int arg)
{
    return begin_named(c, "worker", fn, arg);
}

const struct worker_verbs *begin_here(struct conform *c, job_fn *fn, int arg,
                                      struct worker **ret)
{
    const struct worker_verbs *verbs = c->kind->parks ? &coroutines : &threads;
    struct worker *w = fresh(c, "here", fn, arg);

    assert_int_equal(verbs->start(w), 0);
    *ret = w;
    return verbs;
}

int end(struct worker *w)
{
    int result = -1;

    assert_int_equal(w->c->worker->join(w, SOON, &result), 0);
    keel_process_free(keel_take(w->process));
    return result;
}

void wait_event(struct conform *c, int which)
{
    assert_int_equal(c->sync->event_wait(c->w, which, SOON), 0);
}

int conform_fault(const char *what, const char *file, int line)
{
    (void)fprintf(stderr, "%s:%d: a job expected %s\n", file, line, what);
    return 250;
}
