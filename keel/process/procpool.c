/* SPDX-License-Identifier: MIT */
/* Tasks are rows of a table in shared memory; hints (hints.h) tell the workers
 * which to look at, and a thread of the program, the warden, sees to deaths,
 * limits and replacements.  The warden never waits for a worker.
 *
 * A row's word says whose turn it is, and changes by compare-and-swap:
 *
 *     63      32 31     16 15     3 2     0
 *    +----------+---------+--------+-------+
 *    | turn     | worker  | AWAITED| state |     worker 0: nobody's yet
 *    +----------+---------+--------+-------+
 *
 *   IDLE --submit--> QUEUED --worker w takes it--> QUEUED(w)
 *                      |  ^                           |  |
 *                      |  +------w died, the warden---+  | w begins
 *                      | cancel, limit, terminate        v
 *                      v                              RUNNING(w) --w--> ENDED
 *                    ENDED                               |
 *                                  limit, the warden     v
 *                     ENDED <--w is dead, the warden-- STOPPING(w)
 *   ENDED --result is taken--> IDLE, next turn
 *
 * Only the row counts: whoever moves it to QUEUED(w) has the task, and a hint to
 * a row that is not QUEUED is out of date.  When a worker dies, what bore its
 * name is QUEUED again, and all hints are given anew, since it may have taken
 * some with it.
 *
 * A worker whose tasks were short takes several at a time, and shows those that
 * it has not begun in its hand: a worker that finds nothing else helps itself
 * there, so that a task that turns out long keeps none waiting.
 *
 * A limit kills a worker only after the row is STOPPING, which the worker cannot
 * leave: the next task is never hit. */
#include <keel/procpool.h>

#include <errno.h>
#include <poll.h>
#include <pthread.h>
#include <signal.h>
#include <stdatomic.h>
#include <stdio.h>
#include <string.h>
#include <sys/eventfd.h>
#include <unistd.h>

#include <keel/co.h>
#include <keel/lock.h>
#include <keel/process.h>
#include <keel/shared.h>
#include <keel/system.h>
#include <keel/thread.h>

#include "entry.h"
#include "family.h"
#include "hints.h"
#include "loop/loop.h"
#include "loop/worker.h"

enum {
    WORKERS_MOST = 256,
    TASKS_MOST = 1 << 16,
    BYTES_MOST = 1 << 24,
    TAKE_MOST = 8, /* rows at once, where they are short */
    STILLBORN_MOST = 3,
};

enum { IDLE, QUEUED, RUNNING, STOPPING, ENDED };
#define AWAITED 8U
#define STATE(w) ((uint32_t)(w)&7)
#define WORKER(w) ((uint32_t)(w) >> 16 & 0xffff)
#define TURN(w) ((uint32_t)((w) >> 32))
#define WORD(turn, worker, state)                                              \
    ((uint64_t)(turn) << 32 | (uint64_t)(worker) << 16 | (state))

struct row {
    _Alignas(64) _Atomic uint64_t word;
    uint32_t task;
    uint32_t size;     /* of the input */
    uint32_t items;    /* 0: one task; else as many of size / items bytes */
    uint32_t item_out; /* bytes of output for each */
    int32_t result;
    int32_t signal;
    uint32_t out_size;
    _Atomic int64_t limit;
};

/* What a worker has taken and not begun: places + 1. */
struct hand {
    _Alignas(64) _Atomic uint32_t place[TAKE_MOST];
};

struct world {
    uint32_t tasks, workers, per_child, in_most, out_most;
    uint64_t hints_at, data_at, stride;
    uint32_t initializer; /* a task's number, or NONE */
    uint32_t arg_size;
    _Atomic int32_t broken; /* the initializer's error */
    _Atomic uint32_t ready[WORKERS_MOST + 1];
    struct hand hand[WORKERS_MOST + 1];
    struct row row[]; /* then the hints, the argument, and the rows' data */
};
#define NONE UINT32_MAX

/* A row as it was when it was taken. */
struct ticket {
    uint32_t place, turn;
};

/* `process` NULL: to be started. */
struct worker {
    struct keel_process *process;
};

static const keel_ns retry = 10 * KEEL_MS;
#define SHORT_NS (4 * KEEL_US) /* for what was taken at once */
#define BUSY_NS ((keel_ns)500)
#define LOOK_NS KEEL_MS
#define GATHER_SPINS 240

/* Under `spin`: the free places, a ring, of which `room` counts those inside;
 * and who puts hints.  Workers are the warden's, but for `alive`. */
struct keel_procpool {
    char name[KEEL_PROCESS_NAME_MOST + 1];
    struct keel_shared *memory;
    struct world *w;
    struct hints *hints;
    struct keel_semaphore room;
    struct keel_waitlist spin;
    uint32_t *free;
    uint64_t free_first, free_last; /* free_last - free_first are inside */
    struct rusage *usage;           /* by place: of a worker that died in it */
    struct keel_thread *warden;
    struct keel_event over; /* the warden has ended */
    int bell;               /* an eventfd: the warden looks */
    _Atomic int64_t looks;  /* when it looks by itself */
    _Atomic bool closed, killed;
    unsigned worker_count;
    _Atomic unsigned alive;
    _Atomic uint64_t replaced;
    struct worker worker[];
};

/* ---- the registered tasks: the same numbers in all processes ---- */

static struct keel_task *tasks;
static uint32_t task_count;

void keel_task_register(struct keel_task *task)
{
    task->number = task_count++;
    task->next = tasks;
    tasks = task;
}

static const struct keel_task *task_named(const char *name)
{
    for (const struct keel_task *t = tasks; t; t = t->next)
        if (t->name == name || !strcmp(t->name, name))
            return t;
    return NULL;
}

static const struct keel_task *task_numbered(uint32_t number)
{
    for (const struct keel_task *t = tasks; t; t = t->next)
        if (t->number == number)
            return t;
    return NULL;
}

/* ---- rows ---- */

static uint8_t *arg_of(struct world *w)
{
    return (uint8_t *)w + w->data_at - (w->in_most + 63) / 64 * 64;
}

static uint8_t *in_of(struct world *w, uint32_t place)
{
    return (uint8_t *)w + w->data_at + place * w->stride;
}

static uint8_t *out_of(struct world *w, uint32_t place)
{
    return in_of(w, place) + (w->in_most + 15) / 16 * 16;
}

/* The low half: what waiters for a result sleep on. */
static _Atomic uint32_t *bell_of(struct row *r)
{
    return (_Atomic uint32_t *)(void *)&r->word;
}

/* Moves the row's state; false: it was not in `from` any more.  Keeps AWAITED
 * until the end, which wakes. */
static bool move(struct row *r, uint64_t from, uint64_t to)
{
    uint64_t was = atomic_load(&r->word);

    do
        if ((was & ~(uint64_t)AWAITED) != from)
            return false;
    while (!atomic_compare_exchange_weak(
        &r->word, &was, STATE(to) == ENDED ? to : to | (was & AWAITED)));
    if (STATE(to) == ENDED && was & AWAITED)
        family_wake(bell_of(r), INT32_MAX);
    return true;
}

/* The outcome is written only by who could have moved it: it is nobody's else
 * then, since a QUEUED row is first given to a worker that does not exist. */
static bool end_queued(struct row *r, uint64_t was, int result)
{
    uint64_t clean = was & ~(uint64_t)AWAITED;
    uint64_t mine = WORD(TURN(was), 0xffff, QUEUED);

    if (STATE(was) != QUEUED || WORKER(was) == 0xffff || !move(r, clean, mine))
        return false;
    r->result = result;
    r->signal = 0;
    r->out_size = 0;
    return move(r, mine, WORD(TURN(was), 0, ENDED));
}

/* ---- the worker ---- */

static struct world *world;
static struct hints *hints;
static uint32_t me; /* 1 + the worker's number */

static void run_items(struct row *r, const struct keel_task *task,
                      const uint8_t *in, uint8_t *out)
{
    uint32_t size = r->size / r->items;

    r->result = 0;
    r->out_size = r->items * r->item_out;
    memset(out, 0, r->out_size);
    for (uint32_t i = 0; i < r->items; i++) {
        size_t got = 0;
        int rc = task->fn(in + i * size, size, out + i * r->item_out,
                          r->item_out, &got);

        if (rc < 0 && r->result == 0)
            r->result = rc;
    }
}

static void run(struct ticket t)
{
    struct row *r = &world->row[t.place];
    const struct keel_task *task;
    uint8_t *in = in_of(world, t.place), *out = out_of(world, t.place);

    if (!move(r, WORD(t.turn, me, QUEUED), WORD(t.turn, me, RUNNING)))
        return;
    task = task_numbered(r->task);
    if (r->items > 0) {
        run_items(r, task, in, out);
    } else {
        size_t size = 0;

        r->result = task->fn(in, r->size, out, world->out_most, &size);
        r->out_size =
            (uint32_t)(size < world->out_most ? size : world->out_most);
    }
    r->signal = 0;
    if (!move(r, WORD(t.turn, me, RUNNING), WORD(t.turn, me, ENDED)))
        for (;;)
            pause(); /* its limit came: the kill is on its way */
}

static int begin(void)
{
    const struct keel_task *task;
    uint8_t *out = NULL;
    size_t size = 0;
    int rc = 0;

    if (world->initializer != NONE) {
        task = task_numbered(world->initializer);
        out = keel_alloc(world->out_most);
        if (!out)
            return -ENOMEM;
        rc = task->fn(arg_of(world), world->arg_size, out, world->out_most,
                      &size);
        keel_free(out);
    }
    if (rc < 0)
        atomic_store(&world->broken, rc);
    else
        atomic_store(&world->ready[me], 1);
    return rc < 0 ? rc : 0;
}

struct pace {
    keel_ns asked_at, found_at, looked_at;
    uint64_t put;
    unsigned most, spins;
    bool busy, full;
};

/* Takes a row that bears the name `from`, 0: nobody's. */
static bool take(uint32_t place, uint32_t from, struct ticket *ret)
{
    struct row *r = &world->row[place];
    uint64_t was = atomic_load(&r->word);
    uint32_t turn = TURN(was);

    if (STATE(was) != QUEUED || WORKER(was) != from ||
        !move(r, WORD(turn, from, QUEUED), WORD(turn, me, QUEUED)))
        return false;
    *ret = (struct ticket){place, turn};
    return true;
}

static unsigned take_hinted(struct ticket *ret, unsigned most)
{
    uint32_t notes[TAKE_MOST];
    unsigned n, count = 0;

    while (count == 0 && (n = hints_take(hints, notes, most)) > 0) {
        for (unsigned i = 0; i < n; i++)
            __builtin_prefetch(&world->row[notes[i]], 1);
        for (unsigned i = 0; i < n; i++)
            count += take(notes[i], 0, &ret[count]);
    }
    if (count < 2)
        return count;
    for (unsigned i = 1; i < count; i++)
        atomic_store_explicit(&world->hand[me].place[i], ret[i].place + 1,
                              memory_order_relaxed);
    /* Who is about to sleep sees the hand, or we see that it sleeps. */
    atomic_thread_fence(memory_order_seq_cst);
    hints_tell(hints);
    return count;
}

/* A row in another's hand. */
static bool lies_in_hand(uint32_t worker, unsigned i, uint32_t *ret_place)
{
    uint32_t place = atomic_load(&world->hand[worker].place[i]);
    uint64_t was;

    if (place == 0 || place > world->tasks)
        return false;
    was = atomic_load(&world->row[place - 1].word);
    *ret_place = place - 1;
    return STATE(was) == QUEUED && WORKER(was) == worker;
}

static bool another_has_some(void)
{
    uint32_t place;

    for (uint32_t w = 1; w <= world->workers; w++)
        for (unsigned i = 1; w != me && i < TAKE_MOST; i++)
            if (lies_in_hand(w, i, &place))
                return true;
    return false;
}

static unsigned take_from_others(struct ticket *ret)
{
    uint32_t place;

    for (uint32_t w = 1; w <= world->workers; w++)
        for (unsigned i = 1; w != me && i < TAKE_MOST; i++)
            if (lies_in_hand(w, i, &place) && take(place, w, ret))
                return 1;
    return 0;
}

/* More at a time while they are short; at times a look at the others' hands,
 * for where there is always something new. */
static unsigned take_some(struct ticket *ret, struct pace *pace)
{
    uint64_t put;
    keel_ns now;
    unsigned n;

    if (pace->busy && !pace->full)
        for (int i = 0; i < GATHER_SPINS; i++)
            cpu_relax();
    now = keel_now();
    if (now - pace->asked_at > SHORT_NS)
        pace->most = 1;
    else if (pace->most < TAKE_MOST)
        pace->most *= 2;
    pace->asked_at = now;
    if (now - pace->looked_at > LOOK_NS) {
        pace->looked_at = now;
        if (take_from_others(ret))
            return 1;
    }
    n = take_hinted(ret, pace->most);
    if (n == 0)
        return take_from_others(ret);
    put = hints_put_count(hints);
    pace->busy = now - pace->found_at < (keel_ns)(put - pace->put) * BUSY_NS;
    pace->found_at = now;
    pace->put = put;
    pace->full = n == TAKE_MOST;
    return n;
}

static int work(void)
{
    struct pace pace = {.most = 1};
    uint32_t done = 0;

    for (;;) {
        struct ticket t[TAKE_MOST];
        unsigned count = take_some(t, &pace);

        if (count == 0) {
            if (atomic_load(&hints->closed))
                return 0;
            hints_wait(hints, me, pace.busy, another_has_some, &pace.spins);
        } else if (hints_any(hints)) {
            hints_tell(hints);
        }
        for (unsigned i = 0; i < count; i++) {
            run(t[i]);
            if (i > 0)
                atomic_store_explicit(&world->hand[me].place[i], 0,
                                      memory_order_relaxed);
        }
        done += count;
        if (world->per_child && done >= world->per_child)
            return 0;
    }
}

PROCESS_ENTRY(keel_procpool_worker)
{
    keel_auto(shared) struct keel_shared *memory = NULL;

    if (keel_shared_open(arg->fds[0], &memory) < 0)
        return 1;
    world = keel_shared_memory(memory);
    hints = (struct hints *)((uint8_t *)world + world->hints_at);
    me = *(const uint32_t *)arg->data;
    return begin() < 0 ? 2 : work();
}

/* ---- the warden ---- */

static void kick(struct keel_procpool *p)
{
    const uint64_t one = 1;

    if (write(p->bell, &one, sizeof(one)) < 0)
        keel_assert(errno == EAGAIN);
}

/* Under `spin`: all that wait, as if nobody had been told.  There are twice as
 * many slots as rows. */
static void hint_all(struct keel_procpool *p)
{
    hints_clear(p->hints);
    for (uint32_t place = 0; place < p->w->tasks; place++) {
        uint64_t was = atomic_load(&p->w->row[place].word);

        if (STATE(was) == QUEUED && WORKER(was) == 0)
            keel_assert(hints_put(p->hints, place));
    }
}

static void hint(struct keel_procpool *p, uint32_t place)
{
    waitlist_hold(&p->spin);
    if (!hints_put(p->hints, place))
        hint_all(p); /* of hints that are out of date */
    waitlist_drop(&p->spin);
    hints_tell(p->hints);
}

static void end_of(struct row *r, uint64_t was, int result, int signal)
{
    r->result = result;
    r->signal = signal;
    r->out_size = 0;
    (void)move(r, was & ~(uint64_t)AWAITED, WORD(TURN(was), 0, ENDED));
}

/* Worker `i` is dead: what it had taken goes back, what it ran ends. */
static void bury(struct keel_procpool *p, unsigned i)
{
    struct keel_process *dead = p->worker[i].process;
    int code = 0;

    (void)keel_process_exitcode(dead, &code);
    hints_forget(p->hints, i + 1);
    for (uint32_t place = 0; place < p->w->tasks; place++) {
        struct row *r = &p->w->row[place];
        uint64_t was = atomic_load(&r->word);

        if (WORKER(was) != i + 1)
            continue;
        if (STATE(was) == QUEUED) {
            (void)move(r, was & ~(uint64_t)AWAITED, WORD(TURN(was), 0, QUEUED));
        } else if (STATE(was) == RUNNING || STATE(was) == STOPPING) {
            (void)keel_process_usage(dead, &p->usage[place]);
            end_of(r, was,
                   p->killed               ? -ECANCELED
                   : STATE(was) == RUNNING ? -EOWNERDEAD
                                           : -ETIMEDOUT,
                   code < 0 ? -code : 0);
        }
    }
    for (unsigned k = 0; k < TAKE_MOST; k++)
        atomic_store(&p->w->hand[i + 1].place[k], 0);
    waitlist_hold(&p->spin);
    hint_all(p);
    waitlist_drop(&p->spin);
    hints_tell(p->hints);
    keel_process_free(dead);
    p->worker[i].process = NULL;
}

/* ---- the warden's round ---- */

/* All that has not ended ends. */
static void fail_queued(struct keel_procpool *p, int result)
{
    for (uint32_t i = 0; i < p->w->tasks; i++) {
        struct row *r = &p->w->row[i];

        (void)end_queued(r, atomic_load(&r->word), result);
    }
}

/* True: it would have looked later. */
static bool looks_by(struct keel_procpool *p, keel_ns at)
{
    keel_ns was = atomic_load(&p->looks);

    while (at < was)
        if (atomic_compare_exchange_weak(&p->looks, &was, at))
            return true;
    return false;
}

static void stop(struct keel_procpool *p, struct row *r, uint64_t was)
{
    struct keel_process *w = p->worker[WORKER(was) - 1].process;

    if (move(r, was & ~(uint64_t)AWAITED,
             WORD(TURN(was), WORKER(was), STOPPING)) &&
        w)
        (void)keel_process_kill(w);
}

/* `looks` is forgotten first: a limit that is set meanwhile rings.  The warden
 * itself does not, or it would never sleep while there is a limit. */
static void mind_limits(struct keel_procpool *p)
{
    keel_ns next = KEEL_FOREVER, now = keel_now();

    atomic_store(&p->looks, KEEL_FOREVER);
    for (uint32_t i = 0; i < p->w->tasks; i++) {
        struct row *r = &p->w->row[i];
        uint64_t was = atomic_load(&r->word);
        keel_ns limit = atomic_load(&r->limit);

        if ((STATE(was) != QUEUED && STATE(was) != RUNNING) ||
            limit == KEEL_FOREVER)
            continue;
        if (limit > now)
            next = limit < next ? limit : next;
        else if (STATE(was) == RUNNING)
            stop(p, r, was);
        else if (!end_queued(r, was, -ETIMEDOUT))
            next = now; /* it has just begun: look again */
    }
    (void)looks_by(p, next);
}

static bool pending(struct keel_procpool *p)
{
    for (uint32_t i = 0; i < p->w->tasks; i++) {
        uint32_t s = STATE(atomic_load(&p->w->row[i].word));

        if (s == QUEUED || s == RUNNING || s == STOPPING)
            return true;
    }
    return false;
}

static int hire(struct keel_procpool *p, unsigned i)
{
    uint32_t number = i + 1;
    int fds[1] = {keel_shared_fd(p->memory)}, rc;

    atomic_store(&p->w->ready[number], 0);
    rc = keel_process_start(
        "keel_procpool_worker",
        &(struct keel_process_how){.name = p->name,
                                   .daemon = true,
                                   .arg = &number,
                                   .arg_size = sizeof(number),
                                   .fds = fds,
                                   .fd_count = 1},
        &p->worker[i].process);
    if (rc == 0)
        atomic_fetch_add(&p->alive, 1);
    return rc;
}

static void look_after(struct keel_procpool *p, unsigned *stillborn)
{
    for (unsigned i = 0; i < p->worker_count; i++) {
        struct keel_process *w = p->worker[i].process;

        if (!w || keel_process_is_alive(w))
            continue;
        *stillborn = atomic_load(&p->w->ready[i + 1]) ? 0 : *stillborn + 1;
        if (*stillborn >= STILLBORN_MOST)
            atomic_store(&p->w->broken, -EOWNERDEAD);
        bury(p, i);
        atomic_fetch_sub(&p->alive, 1);
        atomic_fetch_add(&p->replaced, 1);
    }
}

/* False: a start failed, and is tried again. */
static bool refill(struct keel_procpool *p)
{
    for (unsigned i = 0; i < p->worker_count; i++)
        if (!p->worker[i].process && hire(p, i) < 0)
            return false;
    return true;
}

static void kill_all(struct keel_procpool *p)
{
    for (unsigned i = 0; i < p->worker_count; i++)
        if (p->worker[i].process)
            (void)keel_process_kill(p->worker[i].process);
}

static void doze(struct keel_procpool *p, bool soon)
{
    struct pollfd fds[WORKERS_MOST + 1] = {{.fd = p->bell, .events = POLLIN}};
    keel_ns span = KEEL_SECOND, at = atomic_load(&p->looks);
    uint64_t rings;
    nfds_t n = 1;

    for (unsigned i = 0; i < p->worker_count; i++)
        if (p->worker[i].process)
            fds[n++] = (struct pollfd){
                .fd = keel_process_sentinel(p->worker[i].process),
                .events = POLLIN};
    if (soon)
        span = retry;
    if (at - keel_now() < span)
        span = at - keel_now();
    if (span < 0)
        span = 0;
    (void)ppoll(fds, n,
                &(struct timespec){span / KEEL_SECOND, span % KEEL_SECOND},
                NULL);
    if (read(p->bell, &rings, sizeof(rings)) < 0)
        keel_assert(errno == EAGAIN || errno == EINTR);
}

static int warden(void *arg)
{
    struct keel_procpool *p = arg;
    unsigned stillborn = 0;
    bool closed = false, soon = false;

    for (;;) {
        bool killed, broken;

        look_after(p, &stillborn);
        killed = p->killed;
        broken = atomic_load(&p->w->broken) != 0;
        if (killed || broken)
            fail_queued(p, killed ? -ECANCELED : -ENOTRECOVERABLE);
        if (killed)
            kill_all(p);
        mind_limits(p);
        if (p->closed && !closed && !pending(p)) {
            closed = true;
            hints_close(p->hints);
        }
        if (atomic_load(&p->alive) == 0 && (killed || closed))
            break;
        soon = p->closed;
        if (!killed && !broken && !closed && !refill(p))
            soon = true;
        doze(p, soon);
    }
    fail_queued(p, -ECANCELED);
    keel_event_set(&p->over);
    return 0;
}

/* ---- the pool ---- */

void keel_procpool_free(struct keel_procpool *p)
{
    keel_ns *scope = wait_scope(), outer = *scope;

    if (!p)
        return;
    if (p->warden) {
        keel_procpool_terminate(p);
        *scope = KEEL_FOREVER;
        keel_shield();
        keel_assert(keel_thread_join(p->warden, KEEL_FOREVER, NULL) == 0);
        keel_unshield();
        *scope = outer;
    }
    for (unsigned i = 0; i < p->worker_count; i++)
        keel_process_free(p->worker[i].process);
    if (p->bell >= 0)
        (void)close(p->bell);
    keel_shared_free(p->memory);
    keel_free(p->usage);
    keel_free(p->free);
    keel_free(p);
}

static int world_new(struct keel_procpool *p,
                     const struct keel_procpool_how *how, uint32_t initializer)
{
    uint64_t count = how->tasks ? how->tasks : 1024;
    uint64_t in = how->in_most ? how->in_most : 64;
    uint64_t out = how->out_most ? how->out_most : 64;
    uint64_t hints_at = sizeof(struct world) + count * sizeof(struct row), at;
    uint32_t slots = 1;
    uint64_t stride = ((in + 15) / 16 * 16 + out + 63) / 64 * 64;
    int rc;

    while (slots < 2 * count)
        slots *= 2;
    at = hints_at + hints_bytes(slots) + (in + 63) / 64 * 64;
    rc = keel_shared_new(at + count * stride, &p->memory);
    if (rc < 0)
        return rc;
    p->w = keel_shared_memory(p->memory);
    p->w->tasks = (uint32_t)count;
    p->w->workers = p->worker_count;
    p->w->hints_at = hints_at;
    p->hints = (struct hints *)((uint8_t *)p->w + hints_at);
    p->hints->slots = slots;
    p->w->per_child = how->per_child;
    p->w->in_most = (uint32_t)in;
    p->w->out_most = (uint32_t)out;
    p->w->data_at = at;
    p->w->stride = stride;
    p->w->initializer = initializer;
    p->w->arg_size = (uint32_t)how->arg_size;
    if (how->arg_size)
        memcpy(arg_of(p->w), how->arg, how->arg_size);
    for (uint64_t i = 0; i < count; i++)
        atomic_init(&p->w->row[i].limit, KEEL_FOREVER);
    return 0;
}

static int pool_init(struct keel_procpool *p,
                     const struct keel_procpool_how *how, uint32_t initializer)
{
    int rc = world_new(p, how, initializer);

    if (rc < 0)
        return rc;
    p->bell = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);
    if (p->bell < 0)
        return -errno;
    p->free = keel_calloc(p->w->tasks, sizeof(*p->free));
    p->usage = keel_calloc(p->w->tasks, sizeof(*p->usage));
    if (!p->free || !p->usage)
        return -ENOMEM;
    for (uint32_t i = 0; i < p->w->tasks; i++)
        p->free[p->free_last++] = i;
    keel_semaphore_init(&p->room, p->w->tasks, 0);
    for (unsigned i = 0; i < p->worker_count; i++) {
        rc = hire(p, i);
        if (rc < 0)
            return rc;
    }
    rc = keel_thread_new(
        &(struct keel_thread_how){.name = "keel-warden", .daemon = true},
        warden, p, &p->warden);
    if (rc == 0)
        rc = keel_thread_begin(p->warden);
    return rc;
}

int keel_procpool_new(const struct keel_procpool_how *how,
                      struct keel_procpool **ret)
{
    static const struct keel_procpool_how plain;
    const struct keel_task *initializer = NULL;
    struct keel_procpool *p;
    unsigned workers;
    int rc;

    if (worker_is_simulated())
        return -EOPNOTSUPP;
    if (!how)
        how = &plain;
    workers = how->workers ? how->workers : keel_cpu_count();
    if (workers > WORKERS_MOST || how->tasks > TASKS_MOST ||
        how->in_most > BYTES_MOST || how->out_most > BYTES_MOST ||
        (how->name && strlen(how->name) > KEEL_PROCESS_NAME_MOST))
        return -EINVAL;
    if (how->arg_size > (how->in_most ? how->in_most : 64))
        return -E2BIG;
    if (how->initializer && !(initializer = task_named(how->initializer)))
        return -ENOENT;
    p = keel_calloc(1, sizeof(*p) + workers * sizeof(*p->worker));
    if (!p)
        return -ENOMEM;
    (void)snprintf(p->name, sizeof(p->name), "%s",
                   how->name ? how->name : "pool");
    p->bell = -1;
    p->worker_count = workers;
    atomic_init(&p->looks, KEEL_FOREVER);
    keel_event_init(&p->over);
    rc = pool_init(p, how, initializer ? initializer->number : NONE);
    if (rc < 0) {
        if (p->warden) /* it has not begun */
            keel_thread_free(keel_take(p->warden));
        kill_all(p);
        keel_procpool_free(p);
        return rc;
    }
    *ret = p;
    return 0;
}

int keel_procpool_shutdown(struct keel_procpool *p, bool cancel,
                           keel_ns deadline)
{
    p->closed = true;
    if (cancel)
        fail_queued(p, -ECANCELED);
    kick(p);
    return keel_event_wait(&p->over, deadline);
}

void keel_procpool_terminate(struct keel_procpool *p)
{
    p->closed = true;
    p->killed = true;
    kick(p);
}

unsigned keel_procpool_size(struct keel_procpool *p)
{
    return atomic_load(&p->alive);
}

uint64_t keel_procpool_replaced(struct keel_procpool *p)
{
    return atomic_load(&p->replaced);
}

/* ---- submit ---- */

static uint32_t place_take(struct keel_procpool *p)
{
    uint32_t place;

    waitlist_hold(&p->spin);
    place = p->free[p->free_first++ % p->w->tasks];
    waitlist_drop(&p->spin);
    return place;
}

static void place_give(struct keel_procpool *p, uint32_t place)
{
    waitlist_hold(&p->spin);
    p->free[p->free_last++ % p->w->tasks] = place;
    waitlist_drop(&p->spin);
    (void)keel_semaphore_give(&p->room);
}

/* A free place, or why there is none. */
static int reserve(struct keel_procpool *p, keel_ns deadline, uint32_t *ret)
{
    int rc;

    if (atomic_load_explicit(&p->w->broken, memory_order_relaxed))
        return -ENOTRECOVERABLE;
    if (p->closed)
        return -EPIPE;
    rc = keel_semaphore_take(&p->room, deadline);
    if (rc < 0)
        return rc;
    *ret = place_take(p);
    return 0;
}

/* The row is filled: off it goes. */
static void launch(struct keel_procpool *p, uint32_t place, keel_ns limit,
                   struct keel_proctask *ret)
{
    struct row *r = &p->w->row[place];
    uint32_t turn = TURN(atomic_load_explicit(&r->word, memory_order_relaxed));

    atomic_store_explicit(&r->limit, limit, memory_order_relaxed);
    atomic_store(&r->word, WORD(turn, 0, QUEUED));
    hint(p, place);
    if (looks_by(p, limit))
        kick(p);
    /* Who ended the pool may have looked before this. */
    if (p->killed || atomic_load(&p->w->broken))
        (void)end_queued(r, atomic_load(&r->word),
                         p->killed ? -ECANCELED : -ENOTRECOVERABLE);
    *ret = (struct keel_proctask){place, turn};
}

int keel_procpool_submit(struct keel_procpool *p, const char *name,
                         const void *in, size_t size, keel_ns limit,
                         keel_ns deadline, struct keel_proctask *ret)
{
    const struct keel_task *task = task_named(name);
    uint32_t place = 0;
    struct row *r;
    int rc;

    if (!task)
        return -ENOENT;
    if (size > p->w->in_most)
        return -E2BIG;
    rc = reserve(p, deadline, &place);
    if (rc < 0)
        return rc;
    r = &p->w->row[place];
    r->task = task->number;
    r->size = (uint32_t)size;
    r->items = 0;
    if (size > 0)
        memcpy(in_of(p->w, place), in, size);
    launch(p, place, limit, ret);
    return 0;
}

/* ---- results ---- */

static struct row *row_of(struct keel_procpool *p, struct keel_proctask t)
{
    struct row *r;

    if (t.place >= p->w->tasks)
        return NULL;
    r = &p->w->row[t.place];
    return TURN(atomic_load(&r->word)) == t.turn ? r : NULL;
}

static int await(struct row *r, uint32_t turn, keel_ns deadline)
{
    unsigned spins = 0;

    for (;;) {
        uint32_t deaths = family_deaths();
        uint64_t was = atomic_load(&r->word);
        int rc;

        if (TURN(was) != turn || STATE(was) == IDLE)
            return -EINVAL;
        if (STATE(was) == ENDED)
            return 0;
        if (deadline != KEEL_NOW && family_spin(&spins))
            continue;
        if (deadline != KEEL_NOW && !(was & AWAITED) &&
            !atomic_compare_exchange_strong(&r->word, &was, was | AWAITED))
            continue;
        rc = family_sleep(bell_of(r), (uint32_t)was | AWAITED, deaths, deadline,
                          false, "process pool, result");
        if (rc < 0)
            return rc;
    }
}

static int take_result(struct keel_procpool *p, struct keel_proctask t,
                       void *out, size_t room, keel_ns deadline,
                       struct keel_proctask_end *ret)
{
    struct row *r = row_of(p, t);
    struct keel_proctask_end end = {0};
    uint64_t was;
    int rc = r ? await(r, t.turn, deadline) : -EINVAL;

    if (rc < 0)
        return rc;
    /* Places are given in turn: the next ones asked for, mostly. */
    __builtin_prefetch(&p->w->row[(t.place + 2) % p->w->tasks], 1);
    was = atomic_load(&r->word);
    end.result = r->result;
    end.signal = (int)r->signal;
    end.size = r->out_size;
    if (r->result == -EOWNERDEAD || r->result == -ETIMEDOUT) {
        end.usage = p->usage[t.place];
        memset(&p->usage[t.place], 0, sizeof(end.usage));
    }
    if (room > 0)
        memcpy(out, out_of(p->w, t.place), end.size < room ? end.size : room);
    if (TURN(was) != t.turn || !atomic_compare_exchange_strong(
                                   &r->word, &was, WORD(t.turn + 1, 0, IDLE)))
        return -EINVAL; /* two took it at the same time */
    place_give(p, t.place);
    *ret = end;
    return 0;
}

int keel_procpool_result(struct keel_procpool *p, struct keel_proctask t,
                         void *out, size_t room, keel_ns deadline,
                         struct keel_proctask_end *ret)
{
    int rc = take_result(p, t, out, room, deadline, ret);

    if (rc == -EINVAL)
        return mistake("keel_procpool_result", p, "it was taken before", rc);
    return rc;
}

bool keel_procpool_cancel(struct keel_procpool *p, struct keel_proctask t)
{
    struct row *r = row_of(p, t);
    uint64_t was;

    if (!r)
        return false;
    was = atomic_load(&r->word);
    return TURN(was) == t.turn && end_queued(r, was, -ECANCELED);
}

bool keel_procpool_done(struct keel_procpool *p, struct keel_proctask t)
{
    struct row *r = row_of(p, t);

    return !r || STATE(atomic_load(&r->word)) == ENDED;
}

/* ---- map ---- */

struct map {
    struct keel_procpool *p;
    const struct keel_task *task;
    const uint8_t *items;
    uint8_t *results;
    size_t item_bytes, result_bytes, count, chunk;
    keel_ns deadline;
};

static int map_send(struct map *m, size_t chunk, struct keel_proctask *ret)
{
    size_t first = chunk * m->chunk, n = m->count - first;
    uint32_t place = 0;
    struct row *r;
    int rc = reserve(m->p, m->deadline, &place);

    if (rc < 0)
        return rc;
    if (n > m->chunk)
        n = m->chunk;
    r = &m->p->w->row[place];
    r->task = m->task->number;
    r->size = (uint32_t)(n * m->item_bytes);
    r->items = (uint32_t)n;
    r->item_out = (uint32_t)m->result_bytes;
    memcpy(in_of(m->p->w, place), m->items + first * m->item_bytes, r->size);
    launch(m->p, place, m->deadline, ret);
    return 0;
}

/* Its limit is the deadline: it ends soon after that, whatever happens. */
static int map_take(struct map *m, size_t chunk, struct keel_proctask t)
{
    size_t first = chunk * m->chunk, n = m->count - first;
    struct keel_proctask_end end;
    keel_ns *scope = wait_scope(), outer = *scope;
    int rc;

    *scope = KEEL_FOREVER;
    keel_shield();
    rc = keel_procpool_result(m->p, t, m->results + first * m->result_bytes,
                              (n < m->chunk ? n : m->chunk) * m->result_bytes,
                              KEEL_FOREVER, &end);
    keel_unshield();
    *scope = outer;
    return rc < 0 ? rc : end.result < 0 ? end.result : 0;
}

/* At most `window` chunks are under way: the oldest is taken before another is
 * sent. */
static int map_run(struct map *m, struct keel_proctask *t, size_t window)
{
    size_t chunks = (m->count + m->chunk - 1) / m->chunk, sent = 0, taken = 0;
    int first = 0, rc = 0;

    while (taken < chunks && !(rc < 0 && taken == sent)) {
        while (rc == 0 && sent < chunks && sent - taken < window) {
            rc = map_send(m, sent, &t[sent % window]);
            if (rc == 0)
                sent++;
        }
        /* Cancelled or too late: what is on its way is not wanted. */
        for (size_t i = taken; rc < 0 && i < sent; i++)
            (void)keel_procpool_cancel(m->p, t[i % window]);
        if (taken < sent) {
            int one = map_take(m, taken, t[taken % window]);

            taken++;
            if (first == 0)
                first = one;
        }
    }
    return rc < 0 ? rc : first;
}

static size_t chunk_that_suits(struct keel_procpool *p, size_t item_bytes,
                               size_t result_bytes, size_t count)
{
    size_t fit = p->w->in_most / item_bytes;
    size_t chunk = count / (p->worker_count * 4UL);

    if (result_bytes && p->w->out_most / result_bytes < fit)
        fit = p->w->out_most / result_bytes;
    if (chunk > fit)
        chunk = fit;
    return chunk ? chunk : 1;
}

int keel_procpool_map(struct keel_procpool *p, const char *name,
                      const void *items, size_t item_bytes, size_t count,
                      void *results, size_t result_bytes, size_t chunk,
                      keel_ns deadline)
{
    struct map m = {.p = p,
                    .task = task_named(name),
                    .items = items,
                    .results = results,
                    .item_bytes = item_bytes,
                    .result_bytes = result_bytes,
                    .count = count,
                    .deadline = deadline};
    size_t window = p->worker_count * 8UL;
    struct keel_proctask *t;
    int rc;

    if (!m.task)
        return -ENOENT;
    if (count == 0)
        return 0;
    if (item_bytes < 1)
        return -EINVAL;
    if (chunk == 0)
        chunk = chunk_that_suits(p, item_bytes, result_bytes, count);
    if (item_bytes > p->w->in_most || result_bytes > p->w->out_most ||
        chunk > p->w->in_most / item_bytes ||
        (result_bytes && chunk > p->w->out_most / result_bytes))
        return -E2BIG;
    m.chunk = chunk;
    if (window > p->w->tasks)
        window = p->w->tasks;
    t = keel_calloc(window, sizeof(*t));
    if (!t)
        return -ENOMEM;
    rc = map_run(&m, t, window);
    keel_free(t);
    return rc;
}
