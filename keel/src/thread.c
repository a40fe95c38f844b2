/* SPDX-License-Identifier: MIT */
#include <keel/thread.h>

#include <errno.h>
#include <pthread.h>
#include <signal.h>
#include <string.h>

#include <keel/lock.h>
#include <keel/seam.h>

enum { NAME_BYTES_MOST = 15 }; /* what the kernel keeps of a thread's name */

/* `id` is written by pthread_create in the starter, and read by joiners only,
 * to whom the handle came from the starter.  `result` is written before `ended`
 * is set, and read after it. */
struct keel_thread {
    pthread_t id;
    char name[NAME_BYTES_MOST + 1];
    int (*fn)(void *arg);
    void *arg;
    int result;
    struct keel_event ended;
};

static void *thread_main(void *arg)
{
    struct keel_thread *t = arg;

    pthread_setname_np(pthread_self(), t->name);
    t->result = t->fn(t->arg);
    keel_event_set(&t->ended);
    return NULL;
}

/* All signals are for the threads that asked for them, but those by which the
 * processor reports a fault: blocked, they kill without a word. */
static void thread_signals(sigset_t *ret)
{
    static const int faults[] = {SIGSEGV, SIGBUS,  SIGILL, SIGFPE,
                                 SIGTRAP, SIGABRT, SIGSYS};

    sigfillset(ret);
    for (size_t i = 0; i < sizeof faults / sizeof *faults; i++)
        sigdelset(ret, faults[i]);
}

int keel_thread_start(const char *name, int (*fn)(void *arg), void *arg,
                      struct keel_thread **ret)
{
    struct keel_thread *t;
    sigset_t blocked, before;
    int rc;

    rc = keel_seam_enter(KEEL_OP_THREAD, NULL);
    if (rc < 0)
        return rc;
    t = keel_calloc(1, sizeof *t);
    if (!t)
        return -ENOMEM;
    strncpy(t->name, name, NAME_BYTES_MOST);
    t->fn = fn;
    t->arg = arg;
    keel_event_init(&t->ended);

    /* A thread is born with its maker's mask: set it before, so that no signal
     * arrives in between. */
    thread_signals(&blocked);
    pthread_sigmask(SIG_SETMASK, &blocked, &before);
    rc = pthread_create(&t->id, NULL, thread_main, t);
    pthread_sigmask(SIG_SETMASK, &before, NULL);
    if (rc) {
        keel_free(t);
        return -rc;
    }
    *ret = t;
    return 0;
}

int keel_thread_join(struct keel_thread *t, keel_ns deadline, int *ret_result)
{
    int rc;

    if (pthread_equal(t->id, pthread_self()))
        return -EDEADLK;
    rc = keel_event_wait(&t->ended, deadline);
    if (rc < 0)
        return rc;
    /* The thread has a few instructions left: this does not wait for anything
     * but them, and only after it is the event nobody's. */
    pthread_join(t->id, NULL);
    keel_event_fini(&t->ended);
    if (ret_result)
        *ret_result = t->result;
    keel_free(t);
    return 0;
}
