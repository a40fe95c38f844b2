/* SPDX-License-Identifier: MIT */
#include "conform.h"

/* ---- in one program ---- */

static int here_take(struct world *w, keel_ns deadline)
{
    return keel_lock_take(&w->here.lock, deadline);
}

static int here_drop(struct world *w)
{
    keel_lock_drop(&w->here.lock);
    return 0;
}

static int here_rlock_take(struct world *w, keel_ns deadline)
{
    return keel_rlock_take(&w->here.rlock, deadline);
}

static int here_rlock_drop(struct world *w)
{
    keel_rlock_drop(&w->here.rlock);
    return 0;
}

static int here_cond_wait_for(struct world *w, bool (*test)(void *arg),
                              void *arg, keel_ns deadline)
{
    return keel_cond_wait_for(&w->here.cond, &w->here.lock, test, arg,
                              deadline);
}

static void here_cond_signal(struct world *w)
{
    keel_cond_signal(&w->here.cond);
}

static void here_cond_broadcast(struct world *w)
{
    keel_cond_broadcast(&w->here.cond);
}

static int here_semaphore_init(struct world *w, unsigned count, unsigned bound)
{
    keel_semaphore_init(&w->here.semaphore, count, bound);
    return 0;
}

static int here_semaphore_take(struct world *w, keel_ns deadline)
{
    return keel_semaphore_take(&w->here.semaphore, deadline);
}

static int here_semaphore_give(struct world *w)
{
    return keel_semaphore_give(&w->here.semaphore);
}

static void here_event_set(struct world *w, int which)
{
    keel_event_set(&w->here.event[which]);
}

static void here_event_clear(struct world *w, int which)
{
    keel_event_clear(&w->here.event[which]);
}

static bool here_event_is_set(struct world *w, int which)
{
    return keel_event_is_set(&w->here.event[which]);
}

static int here_event_wait(struct world *w, int which, keel_ns deadline)
{
    return keel_event_wait(&w->here.event[which], deadline);
}

static int here_barrier_init(struct world *w, unsigned parties)
{
    keel_barrier_init(&w->here.barrier, parties, NULL, NULL);
    return 0;
}

static int here_barrier_wait(struct world *w, keel_ns deadline)
{
    return keel_barrier_wait(&w->here.barrier, deadline);
}

static int here_barrier_reset(struct world *w)
{
    keel_barrier_reset(&w->here.barrier);
    return 0;
}

static int here_barrier_abort(struct world *w)
{
    keel_barrier_abort(&w->here.barrier);
    return 0;
}

static bool here_barrier_is_broken(struct world *w)
{
    return keel_barrier_is_broken(&w->here.barrier);
}

static unsigned here_barrier_waiting(struct world *w)
{
    return (unsigned)keel_barrier_waiting(&w->here.barrier);
}

const struct sync_verbs sync_here = {
    .take = here_take,
    .drop = here_drop,
    .rlock_take = here_rlock_take,
    .rlock_drop = here_rlock_drop,
    .cond_wait_for = here_cond_wait_for,
    .cond_signal = here_cond_signal,
    .cond_broadcast = here_cond_broadcast,
    .semaphore_init = here_semaphore_init,
    .semaphore_take = here_semaphore_take,
    .semaphore_give = here_semaphore_give,
    .event_set = here_event_set,
    .event_clear = here_event_clear,
    .event_is_set = here_event_is_set,
    .event_wait = here_event_wait,
    .barrier_init = here_barrier_init,
    .barrier_wait = here_barrier_wait,
    .barrier_reset = here_barrier_reset,
    .barrier_abort = here_barrier_abort,
    .barrier_is_broken = here_barrier_is_broken,
    .barrier_waiting = here_barrier_waiting,
};

/* ---- between processes ---- */

static int between_take(struct world *w, keel_ns deadline)
{
    return keel_shlock_take(&w->between.lock, deadline);
}

static int between_drop(struct world *w)
{
    return keel_shlock_drop(&w->between.lock);
}

static int between_rlock_take(struct world *w, keel_ns deadline)
{
    return keel_shrlock_take(&w->between.rlock, deadline);
}

static int between_rlock_drop(struct world *w)
{
    return keel_shrlock_drop(&w->between.rlock);
}

static int between_cond_wait_for(struct world *w, bool (*test)(void *arg),
                                 void *arg, keel_ns deadline)
{
    return keel_shcond_wait_for(&w->between.cond, &w->between.lock, test, arg,
                                deadline);
}

static void between_cond_signal(struct world *w)
{
    keel_shcond_signal(&w->between.cond);
}

static void between_cond_broadcast(struct world *w)
{
    keel_shcond_broadcast(&w->between.cond);
}

static int between_semaphore_init(struct world *w, unsigned count,
                                  unsigned bound)
{
    return keel_shsemaphore_init(&w->between.semaphore, count, bound);
}

static int between_semaphore_take(struct world *w, keel_ns deadline)
{
    return keel_shsemaphore_take(&w->between.semaphore, deadline);
}

static int between_semaphore_give(struct world *w)
{
    return keel_shsemaphore_give(&w->between.semaphore);
}

static void between_event_set(struct world *w, int which)
{
    keel_shevent_set(&w->between.event[which]);
}

static void between_event_clear(struct world *w, int which)
{
    keel_shevent_clear(&w->between.event[which]);
}

static bool between_event_is_set(struct world *w, int which)
{
    return keel_shevent_is_set(&w->between.event[which]);
}

static int between_event_wait(struct world *w, int which, keel_ns deadline)
{
    return keel_shevent_wait(&w->between.event[which], deadline);
}

static int between_barrier_init(struct world *w, unsigned parties)
{
    return keel_shbarrier_init(&w->between.barrier, parties);
}

static int between_barrier_wait(struct world *w, keel_ns deadline)
{
    return keel_shbarrier_wait(&w->between.barrier, deadline);
}

static int between_barrier_reset(struct world *w)
{
    return keel_shbarrier_reset(&w->between.barrier);
}

static int between_barrier_abort(struct world *w)
{
    return keel_shbarrier_abort(&w->between.barrier);
}

static bool between_barrier_is_broken(struct world *w)
{
    return keel_shbarrier_is_broken(&w->between.barrier);
}

static unsigned between_barrier_waiting(struct world *w)
{
    return keel_shbarrier_waiting(&w->between.barrier);
}

const struct sync_verbs sync_between = {
    .take = between_take,
    .drop = between_drop,
    .rlock_take = between_rlock_take,
    .rlock_drop = between_rlock_drop,
    .cond_wait_for = between_cond_wait_for,
    .cond_signal = between_cond_signal,
    .cond_broadcast = between_cond_broadcast,
    .semaphore_init = between_semaphore_init,
    .semaphore_take = between_semaphore_take,
    .semaphore_give = between_semaphore_give,
    .event_set = between_event_set,
    .event_clear = between_event_clear,
    .event_is_set = between_event_is_set,
    .event_wait = between_event_wait,
    .barrier_init = between_barrier_init,
    .barrier_wait = between_barrier_wait,
    .barrier_reset = between_barrier_reset,
    .barrier_abort = between_barrier_abort,
    .barrier_is_broken = between_barrier_is_broken,
    .barrier_waiting = between_barrier_waiting,
};
