/* SPDX-License-Identifier: MIT */
#include "conform.h"

#include <fcntl.h>
#include <stdio.h>
#include <unistd.h>

#include <keel/pool.h>
#include <keel/procpool.h>

static int work(const struct sync_verbs *sync, struct world *w, enum work what,
                int arg)
{
    int rc;

    switch (what) {
    case SQUARE:
        return arg * arg;
    case GATE:
        sync->event_set(w, 0);
        rc = sync->event_wait(w, 1, SOON);
        return rc < 0 ? rc : arg;
    case COUNT:
        atomic_fetch_add(&w->number[0], arg);
        return arg;
    case NAP:
        rc = keel_sleep(keel_after(arg * KEEL_MS));
        return rc < 0 ? rc : arg;
    default:
        return -EACCES;
    }
}

/* ---- threads ---- */

static int failing_start(void *arg)
{
    (void)arg;
    return -EACCES;
}

static int threads_new(struct conform *c, unsigned workers, bool failing)
{
    struct keel_pool_how how = {.size = workers,
                                .initializer = failing ? failing_start : NULL};

    return keel_pool_new(&how, &c->pool_here);
}

static void threads_free(struct conform *c)
{
    keel_pool_free(keel_take(c->pool_here));
}

static int thread_work(void *arg)
{
    struct ticket *t = arg;

    return work(&sync_here, t->c->w, t->work, t->arg);
}

static int threads_submit(struct conform *c, enum work what, int arg,
                          struct ticket *ret)
{
    *ret = (struct ticket){.c = c, .work = what, .arg = arg};
    return keel_pool_submit(c->pool_here, thread_work, ret, SOON, &ret->future);
}

static int threads_result(struct ticket *t, keel_ns deadline, int *ret)
{
    int rc = keel_future_result(t->future, deadline, NULL);

    if (!keel_future_done(t->future))
        return rc;
    keel_future_free(keel_take(t->future));
    *ret = rc;
    return 0;
}

static bool threads_cancel(struct ticket *t)
{
    return keel_future_cancel(t->future);
}

static bool threads_done(struct ticket *t)
{
    return keel_future_done(t->future);
}

struct thread_map {
    struct conform *c;
    enum work what;
    int *results;
};

static int thread_map_work(void *arg, size_t index)
{
    struct thread_map *m = arg;

    m->results[index] = work(&sync_here, m->c->w, m->what, (int)index);
    return m->results[index] < 0 ? m->results[index] : 0;
}

static int threads_map(struct conform *c, enum work what, int count,
                       int *results, keel_ns deadline)
{
    struct thread_map m = {c, what, results};

    return keel_pool_map(c->pool_here, 0, (size_t)count, thread_map_work, &m,
                         deadline);
}

static int threads_shutdown(struct conform *c, bool cancel, keel_ns deadline)
{
    return keel_pool_shutdown(c->pool_here, cancel, deadline);
}

static unsigned threads_size(struct conform *c)
{
    return keel_pool_size(c->pool_here);
}

const struct pool_verbs pool_of_threads = {
    .new = threads_new,
    .free = threads_free,
    .submit = threads_submit,
    .result = threads_result,
    .cancel = threads_cancel,
    .done = threads_done,
    .map = threads_map,
    .shutdown = threads_shutdown,
    .size = threads_size,
};

/* ---- processes ---- */

/* A task is sent the number that the world's descriptor has in its parent, and
 * opens that. */
struct order {
    int fd;
    enum work what;
    int arg;
};

static struct world *world_of(int fd)
{
    static struct keel_shared *memory;
    char path[64];

    if (!memory) {
        (void)snprintf(path, sizeof(path), "/proc/%d/fd/%d",
                       (int)keel_process_parent(), fd);
        fd = open(path, O_RDWR | O_CLOEXEC);
        if (fd < 0 || keel_shared_open(fd, &memory) < 0)
            return NULL;
    }
    return keel_shared_memory(memory);
}

KEEL_TASK(conform_task)
{
    const struct order *o = in;
    struct world *w = world_of(o->fd);
    int result = w ? work(&sync_between, w, o->what, o->arg) : -ENOTCONN;

    *(int *)out = result;
    *ret_size = sizeof(result);
    return result < 0 ? result : 0;
}

KEEL_TASK(conform_failing_start)
{
    return -EACCES;
}

static int processes_new(struct conform *c, unsigned workers, bool failing)
{
    struct keel_procpool_how how = {
        .workers = workers,
        .initializer = failing ? "conform_failing_start" : NULL};

    return keel_procpool_new(&how, &c->pool_between);
}

static void processes_free(struct conform *c)
{
    keel_procpool_free(keel_take(c->pool_between));
}

static int processes_submit(struct conform *c, enum work what, int arg,
                            struct ticket *ret)
{
    struct order o = {keel_shared_fd(c->memory), what, arg};
    struct keel_proctask t;
    int rc = keel_procpool_submit(c->pool_between, "conform_task", &o,
                                  sizeof(o), KEEL_FOREVER, SOON, &t);

    if (rc < 0)
        return rc;
    *ret = (struct ticket){.c = c, .place = t.place, .turn = t.turn};
    return 0;
}

static struct keel_proctask task_of(const struct ticket *t)
{
    return (struct keel_proctask){t->place, t->turn};
}

static int processes_result(struct ticket *t, keel_ns deadline, int *ret)
{
    struct keel_proctask_end end;
    int result = 0, rc;

    rc = keel_procpool_result(t->c->pool_between, task_of(t), &result,
                              sizeof(result), deadline, &end);
    if (rc < 0)
        return rc;
    *ret = end.result < 0 ? end.result : result;
    return 0;
}

static bool processes_cancel(struct ticket *t)
{
    return keel_procpool_cancel(t->c->pool_between, task_of(t));
}

static bool processes_done(struct ticket *t)
{
    return keel_procpool_done(t->c->pool_between, task_of(t));
}

static int processes_map(struct conform *c, enum work what, int count,
                         int *results, keel_ns deadline)
{
    struct order orders[NUMBERS];

    keel_assert(count <= NUMBERS);
    for (int i = 0; i < count; i++)
        orders[i] = (struct order){keel_shared_fd(c->memory), what, i};
    return keel_procpool_map(c->pool_between, "conform_task", orders,
                             sizeof(*orders), (size_t)count, results,
                             sizeof(*results), 1, deadline);
}

static int processes_shutdown(struct conform *c, bool cancel, keel_ns deadline)
{
    return keel_procpool_shutdown(c->pool_between, cancel, deadline);
}

static unsigned processes_size(struct conform *c)
{
    return keel_procpool_size(c->pool_between);
}

const struct pool_verbs pool_of_processes = {
    .new = processes_new,
    .free = processes_free,
    .submit = processes_submit,
    .result = processes_result,
    .cancel = processes_cancel,
    .done = processes_done,
    .map = processes_map,
    .shutdown = processes_shutdown,
    .size = processes_size,
};
