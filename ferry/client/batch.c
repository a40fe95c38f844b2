/* SPDX-License-Identifier: MIT */
#include "client/batch.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include <keel/lock.h>

#include "client/retry.h"

#define TASKS_A_CONNECTION 250
#define CONNECTIONS_MOST 16
/* A login needs more room than a request. */
#define KEEPER_STACK ((size_t)256 << 10)
/* How often one of the further connections is opened again. */
#define MENDS_MOST 8

/* One connection.
 *
 *   DOWN --slot_open--> UP --lost--> LEAVING --no user is left--> DOWN
 *
 * Invariants:
 *   `users` functions run on `s`; only in UP do they become more
 *   slot 0's keeper waits and opens it again as long as that is worth while;
 *   the others are opened when slot 0 is there, and done without otherwise */
enum slot_state { SLOT_DOWN, SLOT_UP, SLOT_LEAVING };
struct slot {
    struct session s;
    enum slot_state state;
    unsigned users, mends;
    struct keel_event idle; /* set while there is no user */
};

struct batch {
    struct batch_options o;
    struct slot slots[CONNECTIONS_MOST];
    unsigned slot_count;
    struct keel_group *tasks, *keepers;
    struct keel_semaphore room;
    struct keel_event changed; /* a slot is up, or the batch is broken */
    struct retry retry;
    bool broken, keeping;
    struct problem why;
    struct problem lost; /* why slot 0 was */
};

struct task {
    struct batch *batch;
    batch_fn *fn;
    batch_done_fn *done;
    void *arg;
};

/* ---- connections ------------------------------------------------------------- */

static void batch_break(struct batch *b, const struct problem *why)
{
    if (!b->broken)
        b->why = *why;
    b->broken = true;
    keel_event_set(&b->changed);
}

static int slot_open(struct batch *b, struct slot *slot, struct problem *why)
{
    int rc = session_open(b->o.c, b->o.place, &slot->s, why);

    if (rc < 0)
        return rc;
    slot->state = SLOT_UP;
    keel_event_set(&b->changed);
    return 0;
}

/* Its tasks have returned, or do so now. */
static int slot_leave(struct slot *slot)
{
    int rc = keel_event_wait(&slot->idle, KEEL_FOREVER);

    if (rc < 0)
        return rc;
    session_close(&slot->s);
    slot->state = SLOT_DOWN;
    return 0;
}

/* Somebody would have to type the password again. */
static bool logs_in_alone(const struct batch *b)
{
    return b->slots[0].s.profile.device || b->o.c->password_file ||
           getenv("FERRY_PASSWORD");
}

static int keep_first(struct batch *b)
{
    struct slot *first = &b->slots[0];
    struct problem why = b->lost;
    int rc = slot_leave(first);

    while (rc == 0 && first->state == SLOT_DOWN) {
        rc = retry_wait(&b->retry, b->o.c, b->o.progress, &why);
        if (rc == 0 && slot_open(b, first, &why) < 0 && !retry_worth(&why)) {
            batch_break(b, &why);
            return -EPIPE;
        }
    }
    return rc;
}

/* The further ones, as far as they can be had. */
static int keep_others(struct batch *b)
{
    int rc = 0;

    for (unsigned i = 1; i < b->slot_count && rc == 0; i++) {
        struct slot *slot = &b->slots[i];
        struct problem why;

        if (slot->state == SLOT_LEAVING)
            rc = slot_leave(slot);
        if (rc < 0 || slot->state == SLOT_UP || slot->mends == MENDS_MOST)
            continue;
        slot->mends++;
        if (slot_open(b, slot, &why) < 0) {
            cli_trace(b->o.c, "connection %u could not be had (%s)", i + 1,
                      problem_code(&why));
            break;
        }
    }
    return rc;
}

static int keeper_run(void *arg)
{
    struct batch *b = arg;
    int rc = 0;

    /* The first may be lost again while the others are being opened. */
    while (rc == 0 && !b->broken) {
        if (b->slots[0].state != SLOT_UP)
            rc = keep_first(b);
        if (rc == 0)
            rc = keep_others(b);
        if (b->slots[0].state == SLOT_UP)
            break;
    }
    b->keeping = false;
    return 0;
}

/* One keeper at a time.  What is lost while it is busy elsewhere is seen by the
 * next task that finds no connection, or another loss. */
static void keeper_start(struct batch *b)
{
    struct keel_spawn how = {
        .name = "keeper", .group = b->keepers, .stack_bytes = KEEPER_STACK};
    struct problem why;

    if (b->keeping)
        return;
    b->keeping = true;
    if (keel_spawn(&how, keeper_run, b, NULL) < 0) {
        b->keeping = false;
        problem(&why, NO_MEMORY);
        batch_break(b, &why);
    }
}

/* The connection with the fewest tasks; waits for one. */
static int slot_take(struct batch *b, struct slot **ret, struct problem *why)
{
    for (;;) {
        struct slot *best = NULL;
        int rc;

        for (unsigned i = 0; i < b->slot_count; i++) {
            struct slot *slot = &b->slots[i];

            if (slot->state == SLOT_UP && (!best || slot->users < best->users))
                best = slot;
        }
        if (b->broken) {
            *why = b->why;
            return -EPIPE;
        }
        if (best) {
            best->users++;
            keel_event_clear(&best->idle);
            *ret = best;
            return 0;
        }
        keeper_start(b);
        keel_event_clear(&b->changed);
        rc = keel_event_wait(&b->changed, KEEL_FOREVER);
        if (rc < 0)
            return problem(why, CANCELLED);
    }
}

static void slot_give(struct slot *slot)
{
    if (--slot->users == 0)
        keel_event_set(&slot->idle);
}

/* Is the connection to blame?  Then *why becomes its reason. */
static bool slot_lost(const struct batch *b, const struct slot *slot,
                      struct problem *why)
{
    struct problem said = {0};
    int rc;

    if (slot->state != SLOT_UP) /* somebody saw it before; it tells the same */
        return true;
    rc = link_wait(slot->s.link, KEEL_NOW, &said);
    if (rc == 0 && !retry_worth(why))
        problem(why, CONNECT_LOST, .errno_ = ECONNRESET);
    else if (rc < 0 && rc != -ETIMEDOUT && said.id != PROBLEM_NONE &&
             !(retry_worth(why) && retry_worth(&said)))
        *why = said; /* a reason that was given, before what was noticed */
    if (rc != -ETIMEDOUT)
        return true;
    return why->id == PROBLEM_CONNECT_LOST ||
           why->id == PROBLEM_CONNECT_TIMEOUT ||
           why->id == PROBLEM_SERVER_STOPPING ||
           (b->o.c->retry && why->id == PROBLEM_TRANSFER_CUT);
}

static void slot_mend(struct batch *b, struct slot *slot,
                      const struct problem *why)
{
    if (slot->state != SLOT_UP)
        return;
    slot->state = SLOT_LEAVING;
    /* A server that stops lets what it has begun come to its end. */
    if (why->id != PROBLEM_SERVER_STOPPING)
        link_cut(slot->s.link);
    if (slot == &b->slots[0])
        b->lost = *why;
    keeper_start(b);
}

/* ---- tasks --------------------------------------------------------------------- */

int batch_run(struct batch *b, batch_fn *fn, void *arg, struct problem *why)
{
    struct problem own;

    why = why ? why : &own;
    for (;;) {
        struct slot *slot = NULL;
        int rc = slot_take(b, &slot, why);

        if (!slot)
            return rc;
        memset(why, 0, sizeof(*why));
        rc = fn(&slot->s, arg, why);
        if (rc >= 0)
            retry_reset(&b->retry);
        if (rc < 0 && !keel_cancelled() && slot_lost(b, slot, why)) {
            if (b->o.c->retry && (retry_worth(why) || slot->state != SLOT_UP)) {
                slot_mend(b, slot, why);
                slot_give(slot);
                continue;
            }
            batch_break(b, why);
        }
        slot_give(slot);
        return rc;
    }
}

static int task_run(void *arg)
{
    struct task *t = arg;
    struct batch *b = t->batch;
    struct problem why = {0};
    int rc = batch_run(b, t->fn, t->arg, &why);

    if (t->done)
        t->done(t->arg, rc, &why);
    keel_free(t);
    keel_semaphore_give(&b->room);
    return 0;
}

int batch_go(struct batch *b, batch_fn *fn, batch_done_fn *done, void *arg,
             struct problem *why)
{
    struct keel_spawn how = {.name = "task", .group = b->tasks};
    struct task *t;
    int rc = keel_semaphore_take(&b->room, KEEL_FOREVER);

    if (rc < 0)
        return problem(why, CANCELLED);
    if (b->broken) {
        keel_semaphore_give(&b->room);
        if (why)
            *why = b->why;
        return -EPIPE;
    }
    t = keel_alloc(sizeof(*t));
    if (t) {
        *t = (struct task){b, fn, done, arg};
        rc = keel_spawn(&how, task_run, t, NULL);
    }
    if (!t || rc < 0) {
        keel_free(t);
        keel_semaphore_give(&b->room);
        return problem(why, NO_MEMORY);
    }
    return 0;
}

int batch_join(struct batch *b, struct problem *why)
{
    int rc = keel_group_join(b->tasks, KEEL_FOREVER);

    if (b->broken) {
        if (why)
            *why = b->why;
        return -EPIPE;
    }
    return rc < 0 ? problem(why, CANCELLED) : 0;
}

bool batch_broken(const struct batch *b)
{
    return b->broken;
}

const struct session *batch_session(const struct batch *b)
{
    return &b->slots[0].s;
}

/* ---- the whole ------------------------------------------------------------------ */

void batch_progress(struct batch *b, struct progress *p)
{
    b->o.progress = p;
}

static int batch_first(struct batch *b, struct problem *why)
{
    for (;;) {
        int rc = slot_open(b, &b->slots[0], why);

        if (rc == 0 || !b->o.c->retry || !retry_worth(why))
            return rc;
        rc = retry_wait(&b->retry, b->o.c, b->o.progress, why);
        if (rc < 0)
            return rc;
    }
}

int batch_open(const struct batch_options *o, struct batch **ret,
               struct problem *why)
{
    keel_auto(batch) struct batch *b = keel_calloc(1, sizeof(*b));
    unsigned connections = o->c->connections;
    int rc;

    if (!b)
        return problem(why, NO_MEMORY);
    b->o = *o;
    b->slot_count = connections > CONNECTIONS_MOST ? CONNECTIONS_MOST
                    : connections > 0              ? connections
                                                   : 1;
    keel_semaphore_init(
        &b->room, o->window ? o->window : TASKS_A_CONNECTION * b->slot_count,
        0);
    keel_event_init(&b->changed);
    for (unsigned i = 0; i < CONNECTIONS_MOST; i++) {
        keel_event_init(&b->slots[i].idle);
        keel_event_set(&b->slots[i].idle);
    }
    if (keel_group_new(0, &b->tasks) < 0 || keel_group_new(0, &b->keepers) < 0)
        return problem(why, NO_MEMORY);
    rc = batch_first(b, why);
    if (rc < 0)
        return rc;
    retry_reset(&b->retry);
    if (!logs_in_alone(b))
        b->slot_count = 1;
    if (b->slot_count > 1)
        keeper_start(b);
    *ret = keel_take(b);
    return 0;
}

void batch_close(struct batch *b)
{
    if (!b)
        return;
    keel_group_free(b->tasks);
    keel_group_free(b->keepers);
    for (unsigned i = 0; i < CONNECTIONS_MOST; i++) {
        if (b->slots[i].state != SLOT_DOWN)
            session_close(&b->slots[i].s);
    }
    keel_free(b);
}
