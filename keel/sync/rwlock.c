/* SPDX-License-Identifier: MIT */
/* Unlike the other locks this one is handed over: who is woken has it, which
 * is sound because a wait that was woken never reports anything else.
 *
 * Invariants between calls, under the hold of `readers`:
 *   writing: reading is 0
 *   a reader waits only while somebody writes or a writer waits
 *   a writer waits only while somebody writes or reads */
#include <keel/lock.h>

#include "lock_order.h"
#include "loop/loop.h"

#undef keel_rwlock_take_read
#undef keel_rwlock_take_write

static void hold(struct keel_rwlock *l)
{
    waitlist_hold(&l->readers);
}

static void drop(struct keel_rwlock *l)
{
    waitlist_drop(&l->readers);
}

void keel_rwlock_init(struct keel_rwlock *l)
{
    *l = (struct keel_rwlock)KEEL_RWLOCK_INIT;
    if (lock_order_watched())
        lock_order_forget(l);
}

void keel_rwlock_fini(struct keel_rwlock *l)
{
    hold(l);
    if (l->reading || l->writing)
        misuse("keel_rwlock_fini", l, "somebody has it");
    if (l->readers.head || l->writers.head)
        misuse("keel_rwlock_fini", l, "somebody waits for it");
    drop(l);
    waitlist_end(&l->readers);
    if (lock_order_watched())
        lock_order_forget(l);
}

/* ---- handing over, under the hold ---- */

static void admit_readers(struct keel_rwlock *l)
{
    struct waiter *w;

    while ((w = waitlist_choose(&l->readers))) {
        l->reading++;
        waiter_post(w);
    }
}

static void admit_writer(struct keel_rwlock *l)
{
    struct waiter *w = waitlist_choose(&l->writers);

    if (!w)
        return;
    l->writing = true;
    waiter_post(w);
}

/* Nobody has it: the readers who waited for a writer, else the next writer. */
static void after_write(struct keel_rwlock *l)
{
    admit_readers(l);
    if (l->reading == 0)
        admit_writer(l);
}

/* Held, and dropped here: a waiter's frame is in `list` while it sleeps. */
static int sleep_on(struct keel_rwlock *l, struct keel_waitlist *list,
                    keel_ns deadline, const char *what)
{
    struct waiter w;
    int rc;

    waiter_arm(&w, what);
    w.on = l;
    waitlist_link(list, &w);
    drop(l);
    rc = waiter_sleep(&w, deadline);
    if (rc == 0)
        return 0;
    hold(l);
    waitlist_unlink(list, &w);
    /* A writer who gave up was perhaps what the readers waited for. */
    if (!l->writing && !l->writers.head)
        admit_readers(l);
    drop(l);
    return rc;
}

/* ---- taking and dropping ---- */

static int take_read(struct keel_rwlock *l, keel_ns deadline, struct place at)
{
    int rc = 0;

    lock_order_before(l, deadline, at);
    hold(l);
    if (!l->writing && !l->writers.head) {
        l->reading++;
        drop(l);
    } else {
        rc = sleep_on(l, &l->readers, deadline, "read lock");
    }
    if (rc == 0)
        lock_order_after(l, at);
    return rc;
}

/* For the reports: one who was woken learns of it only by now. */
static void note_writer(struct keel_rwlock *l)
{
    struct owner me = owner_here();

    __atomic_store_n(&l->writer_age, me.age, __ATOMIC_RELAXED);
    __atomic_store_n(&l->writer, me.who, __ATOMIC_RELAXED);
}

static int take_write(struct keel_rwlock *l, keel_ns deadline, struct place at)
{
    int rc = 0;

    lock_order_before(l, deadline, at);
    hold(l);
    if (!l->writing && l->reading == 0) {
        l->writing = true;
        drop(l);
    } else {
        rc = sleep_on(l, &l->writers, deadline, "write lock");
    }
    if (rc < 0)
        return rc;
    note_writer(l);
    lock_order_after(l, at);
    return 0;
}

int keel_rwlock_take_read(struct keel_rwlock *l, keel_ns deadline)
{
    return take_read(l, deadline, HERE(NULL));
}

int keel_rwlock_take_read_at(struct keel_rwlock *l, keel_ns deadline,
                             const char *place)
{
    return take_read(l, deadline, HERE(place));
}

int keel_rwlock_take_write(struct keel_rwlock *l, keel_ns deadline)
{
    return take_write(l, deadline, HERE(NULL));
}

int keel_rwlock_take_write_at(struct keel_rwlock *l, keel_ns deadline,
                              const char *place)
{
    return take_write(l, deadline, HERE(place));
}

void keel_rwlock_drop(struct keel_rwlock *l)
{
    if (lock_order_watched())
        lock_order_drop(l);
    hold(l);
    if (l->writing) {
        l->writing = false;
        after_write(l);
    } else {
        if (l->reading == 0)
            misuse("keel_rwlock_drop", l, "nobody has it");
        if (--l->reading == 0)
            admit_writer(l);
    }
    drop(l);
}
