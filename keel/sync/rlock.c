/* SPDX-License-Identifier: MIT */
/* A plain lock, and who holds it how often.  `owner` and `count` are written
 * under the lock; a stranger who reads `owner` may see any other than
 * himself, which is all he asks. */
#include <keel/lock.h>

#include "lock_order.h"
#include "loop/sched.h"

#undef keel_rlock_take
#undef keel_rlock_hold

static const void *owner_of(const struct keel_rlock *l)
{
    return __atomic_load_n(&l->owner, __ATOMIC_RELAXED);
}

static void set_owner(struct keel_rlock *l, const void *owner)
{
    __atomic_store_n(&l->owner, owner, __ATOMIC_RELAXED);
}

void keel_rlock_init(struct keel_rlock *l)
{
    *l = (struct keel_rlock)KEEL_RLOCK_INIT;
    keel_lock_init(&l->lock);
}

void keel_rlock_fini(struct keel_rlock *l)
{
    keel_lock_fini(&l->lock);
}

static int take(struct keel_rlock *l, keel_ns deadline, bool always,
                struct place at)
{
    const void *me = worker_self();
    int rc;

    if (owner_of(l) == me) {
        l->count++;
        return 0;
    }
    rc = lock_take(&l->lock, deadline, always, at);
    if (rc < 0)
        return rc;
    set_owner(l, me);
    l->count = 1;
    return 0;
}

int keel_rlock_take(struct keel_rlock *l, keel_ns deadline)
{
    return take(l, deadline, false, HERE(NULL));
}

int keel_rlock_take_at(struct keel_rlock *l, keel_ns deadline,
                       const char *place)
{
    return take(l, deadline, false, HERE(place));
}

void keel_rlock_hold(struct keel_rlock *l)
{
    take(l, KEEL_FOREVER, true, HERE(NULL));
}

void keel_rlock_hold_at(struct keel_rlock *l, const char *place)
{
    take(l, KEEL_FOREVER, true, HERE(place));
}

void keel_rlock_drop(struct keel_rlock *l)
{
    if (owner_of(l) != worker_self())
        misuse("keel_rlock_drop", l, "the caller is not its owner");
    if (--l->count > 0)
        return;
    set_owner(l, NULL);
    keel_lock_drop(&l->lock);
}
