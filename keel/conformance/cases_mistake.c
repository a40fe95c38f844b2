/* SPDX-License-Identifier: MIT */
/* Programmer's mistakes (base.h): each writes a line that names the call, the
 * object and the worker that made it; then the program stops, or the call
 * returns its error. */
#include "conform.h"

#include <signal.h>
#include <stdio.h>
#include <sys/mman.h>
#include <sys/wait.h>
#include <unistd.h>

typedef int mistake_fn(struct conform *c);

/* A mistake and what is to be said of it; error 0: it stops. */
struct mistake {
    mistake_fn *make;
    const char *call;
    const void *object;
    const char *what;
    int error;
};

/* Makes it with standard error in `fd`; the result of the call. */
static int make_into(struct conform *c, const struct mistake *m, int fd)
{
    int before = dup(STDERR_FILENO), rc;

    (void)dup2(fd, STDERR_FILENO);
    rc = m->make(c);
    (void)dup2(before, STDERR_FILENO);
    (void)close(before);
    return rc;
}

/* The same in a copy of this process, which is to die of it; 0: it did. */
static int die_into(struct conform *c, const struct mistake *m, int fd)
{
    pid_t pid = fork();
    int status;

    if (pid == 0) {
        (void)signal(SIGABRT, SIG_DFL);
        (void)dup2(fd, STDERR_FILENO);
        (void)m->make(c);
        _exit(0);
    }
    EXPECT(pid > 0 && waitpid(pid, &status, 0) == pid);
    EXPECT(WIFSIGNALED(status) && WTERMSIG(status) == SIGABRT);
    return 0;
}

/* By the worker that calls, whose name is 'erring'. */
static int is_told(struct conform *c, const struct mistake *m)
{
    int fd = memfd_create("said", MFD_CLOEXEC), rc;
    char said[2048] = "", line[256];
    ssize_t got;

    EXPECT(fd >= 0);
    rc = m->error ? make_into(c, m, fd) : die_into(c, m, fd);
    got = pread(fd, said, sizeof(said) - 1, 0);
    (void)close(fd);
    EXPECT(rc == m->error);
    EXPECT(got > 0);
    (void)snprintf(line, sizeof(line), "%s(%p): %s, in 'erring'\n", m->call,
                   m->object, m->what);
    if (!strstr(said, line))
        (void)fprintf(stderr, "said: %sinstead of: %s", said, line);
    EXPECT(strstr(said, line) != NULL);
    return 7;
}

/* ---- the mistakes ---- */

static int joins_itself(struct conform *c)
{
    return c->worker->join_itself(SOON);
}

static int join_of_oneself(struct conform *c, int arg)
{
    bool thread = c->kind->is == THREAD;
    const struct mistake m = {.make = joins_itself,
                              .call = thread ? "keel_thread_join" : "keel_join",
                              .object = thread ? (void *)keel_thread_current()
                                               : keel_current(),
                              .what = "it is the caller itself",
                              .error = -EDEADLK};

    (void)arg;
    return is_told(c, &m);
}

static void a_join_of_oneself_is_told(struct conform *c)
{
    assert_int_equal(end(begin_named(c, "erring", join_of_oneself, 0)), 7);
}

static int nothing(void *arg)
{
    return arg != NULL;
}

static _Thread_local struct keel_thread *begun;

static int begins_it_again(struct conform *c)
{
    (void)c;
    return keel_thread_begin(begun);
}

static int start_twice(struct conform *c, int arg)
{
    struct mistake m = {.make = begins_it_again,
                        .call = "keel_thread_begin",
                        .what = "it began before",
                        .error = -EALREADY};
    struct keel_thread *t = NULL;
    int rc;

    (void)arg;
    EXPECT(keel_thread_start("begun", nothing, NULL, &t) == 0);
    m.object = begun = t;
    rc = is_told(c, &m);
    EXPECT(keel_thread_join(t, SOON, NULL) == 0);
    return rc;
}

static void a_thread_started_twice_is_told(struct conform *c)
{
    assert_int_equal(end(begin_named(c, "erring", start_twice, 0)), 7);
}

static int drops_the_rlock(struct conform *c)
{
    return c->sync->rlock_drop(c->w);
}

static int drop_of_anothers_rlock(struct conform *c, int arg)
{
    bool between = c->kind->is == PROCESS;
    const struct mistake m = {
        .make = drops_the_rlock,
        .call = between ? "keel_shrlock_drop" : "keel_rlock_drop",
        .object = between ? (void *)&c->w->between.rlock : &c->w->here.rlock,
        .what = "the caller is not its owner",
        .error = between ? -EPERM : 0};

    (void)arg;
    return is_told(c, &m);
}

static void an_rlock_dropped_by_a_stranger_is_told(struct conform *c)
{
    struct worker *w;

    assert_int_equal(c->sync->rlock_take(c->w, SOON), 0);
    w = begin_named(c, "erring", drop_of_anothers_rlock, 0);
    assert_int_equal(end(w), 7);
    assert_int_equal(c->sync->rlock_drop(c->w), 0);
    w = begin_named(c, "erring", drop_of_anothers_rlock, 0);
    assert_int_equal(end(w), 7);
}

static int drops_the_lock(struct conform *c)
{
    return c->sync->drop(c->w);
}

static int drop_of_a_free_lock(struct conform *c, int arg)
{
    bool between = c->kind->is == PROCESS;
    const struct mistake m = {
        .make = drops_the_lock,
        .call = between ? "keel_shlock_drop" : "keel_lock_drop",
        .object = between ? (void *)&c->w->between.lock : &c->w->here.lock,
        .what = "nobody holds it",
        .error = between ? -EPERM : 0};

    (void)arg;
    return is_told(c, &m);
}

static void a_drop_of_what_nobody_holds_is_told(struct conform *c)
{
    struct worker *w = begin_named(c, "erring", drop_of_a_free_lock, 0);

    assert_int_equal(end(w), 7);
}

static bool never(void *arg)
{
    (void)arg;
    return false;
}

static int waits_for_what_never_comes(struct conform *c)
{
    return c->sync->cond_wait_for(c->w, never, NULL, SOON);
}

static int wait_without_the_lock(struct conform *c, int arg)
{
    bool between = c->kind->is == PROCESS;
    const struct mistake m = {
        .make = waits_for_what_never_comes,
        .call = between ? "keel_shcond_wait" : "keel_cond_wait",
        .object = between ? (void *)&c->w->between.lock : &c->w->here.lock,
        .what = "nobody holds it",
        .error = between ? -EPERM : 0};

    (void)arg;
    return is_told(c, &m);
}

static void a_wait_without_the_conditions_lock_is_told(struct conform *c)
{
    struct worker *w = begin_named(c, "erring", wait_without_the_lock, 0);

    assert_int_equal(end(w), 7);
}

static int gives_one(struct conform *c)
{
    return c->sync->semaphore_give(c->w);
}

static int one_unit_too_many(struct conform *c, int arg)
{
    bool between = c->kind->is == PROCESS;
    const struct mistake m = {
        .make = gives_one,
        .call = between ? "keel_shsemaphore_give" : "keel_semaphore_give",
        .object =
            between ? (void *)&c->w->between.semaphore : &c->w->here.semaphore,
        .what = "it is full",
        .error = -EOVERFLOW};

    (void)arg;
    return is_told(c, &m);
}

static void one_unit_too_many_is_told(struct conform *c)
{
    assert_int_equal(c->sync->semaphore_init(c->w, 2, 2), 0);
    assert_int_equal(end(begin_named(c, "erring", one_unit_too_many, 0)), 7);
}

static int is_done_with_one(struct conform *c)
{
    return c->queue->task_done(c);
}

static int one_task_done_too_many(struct conform *c, int arg)
{
    bool between = c->kind->is == PROCESS;
    const struct mistake m = {
        .make = is_done_with_one,
        .call = between ? "keel_shqueue_task_done" : "keel_queue_task_done",
        .object = between ? (void *)c->queue_between : c->queue_here,
        .what = "nothing is unfinished",
        .error = -EINVAL};

    (void)arg;
    return is_told(c, &m);
}

static void one_task_done_too_many_is_told(struct conform *c)
{
    assert_int_equal(c->queue->new (c, 4), 0);
    assert_int_equal(end(begin_named(c, "erring", one_task_done_too_many, 0)),
                     7);
}

const struct conform_case mistake_cases[] = {
    {"a join of oneself is told",
     a_join_of_oneself_is_told,
     {[PROCESS] = "a process has no handle of itself"}},
    {"a thread started twice is told", a_thread_started_twice_is_told},
    {"an rlock dropped by a stranger is told",
     an_rlock_dropped_by_a_stranger_is_told},
    {"a drop of what nobody holds is told",
     a_drop_of_what_nobody_holds_is_told},
    {"a wait without the condition's lock is told",
     a_wait_without_the_conditions_lock_is_told},
    {"one unit too many is told", one_unit_too_many_is_told},
    {"one task_done too many is told", one_task_done_too_many_is_told},
};
const size_t mistake_case_count =
    sizeof(mistake_cases) / sizeof(*mistake_cases);
