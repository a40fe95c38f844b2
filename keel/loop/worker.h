/* SPDX-License-Identifier: MIT */
/* Inside keel: what a simulation (keel/sim) puts in the place of the kernel's
 * threads, beside the seam's clock, disk and network.
 *
 * A simulated thread is a fiber of the one thread that runs the simulation.
 * Whatever keel keeps for each thread in a thread-local is exchanged when the
 * fiber changes, in one place: words_exchange in sim/turns.c. */
#ifndef KEEL_WORKER_H
#define KEEL_WORKER_H

#include <pthread.h>
#include <sched.h>
#include <stdatomic.h>

#include "loop.h"

struct presence;

struct worker_class {
    const struct poller_class *poller; /* of every loop */
    /* As pthread_create, join and detach; 0 or a negative errno. */
    int (*start)(const char *name, size_t stack_bytes, void *(*fn)(void *arg),
                 void *arg, pthread_t *ret);
    int (*join)(pthread_t thread);
    void (*detach)(pthread_t thread);
    void (*yield)(void);
    /* Somebody else could go on now: perhaps he does. */
    void (*posted)(void);
    void (*point)(void); /* the same, less often */
    /* As FUTEX_WAIT until the seam's clock shows `until`, and FUTEX_WAKE. */
    void (*doze)(_Atomic uint32_t *word, uint32_t value, keel_ns until,
                 const struct waiter *w);
    void (*rouse)(_Atomic uint32_t *word);
    /* How many switches the loop may make before it looks round. */
    unsigned (*budget)(unsigned most);
    void *(*local_get)(const void *key);
    int (*local_set)(const void *key, void (*destroy)(void *value),
                     void *value);
    /* The stack of the caller, who is no coroutine. */
    void (*stack)(void **ret_low, size_t *ret_size);
};
/* NULL: threads are the kernel's.  Changes only while there is one thread. */
extern const struct worker_class *worker_class;

static inline bool worker_is_simulated(void)
{
    return __builtin_expect(worker_class != NULL, 0);
}

/* For who waits for a few instructions of another thread. */
static inline void worker_yield(void)
{
    if (worker_is_simulated())
        worker_class->yield();
    else
        sched_yield();
}

/* `attr` may be NULL. */
int worker_start(const char *name, const pthread_attr_t *attr,
                 void *(*fn)(void *arg), void *arg, pthread_t *ret);
int worker_join(pthread_t thread);
void worker_detach(pthread_t thread);
/* What the kernel calls the calling thread, unless it is simulated. */
void worker_name(const char *name);
/* Processors as a simulation has them; 0: as they are.  No spins there. */
void loop_cpus_simulate(unsigned count);

/* ---- what is kept for each thread, besides what loop.h declares ---- */
extern _Thread_local struct keel_thread *thread_self;
/* Its entry in the census; `next` is the caller's. */
struct presence *presence_exchange(struct presence *next);
/* The entry leaves the census. */
void presence_leave(struct presence *p);

#endif
