/* SPDX-License-Identifier: MIT */
#include "wire/room.h"

void room_init(struct room *r, size_t size)
{
    keel_lock_init(&r->turn);
    keel_lock_init(&r->lock);
    keel_cond_init(&r->given);
    r->size = r->left = size;
}

void room_fini(struct room *r)
{
    keel_assert(r->left == r->size);
    keel_cond_fini(&r->given);
    keel_lock_fini(&r->lock);
    keel_lock_fini(&r->turn);
}

static int take_held(struct room *r, size_t bytes, keel_ns deadline)
{
    keel_guard(&r->lock);

    while (r->left < bytes) {
        int rc = keel_cond_wait(&r->given, &r->lock, deadline);

        if (rc < 0)
            return rc;
    }
    r->left -= bytes;
    return 0;
}

int room_take(struct room *r, size_t bytes, keel_ns deadline)
{
    int rc;

    keel_assert(bytes <= r->size);
    rc = keel_lock_take(&r->turn, deadline);
    if (rc < 0)
        return rc;
    rc = take_held(r, bytes, deadline);
    keel_lock_drop(&r->turn);
    return rc;
}

void room_give(struct room *r, size_t bytes)
{
    keel_guard(&r->lock);

    r->left += bytes;
    keel_assert(r->left <= r->size);
    keel_cond_signal(&r->given);
}

size_t room_taken(struct room *r)
{
    keel_guard(&r->lock);

    return r->size - r->left;
}
