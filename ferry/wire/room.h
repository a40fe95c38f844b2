/* SPDX-License-Identifier: MIT */
/* Room: bytes of memory that many links share.
 *
 * What has come and waits for a disk is counted here, whichever connection
 * brought it.  Who finds no room waits, oldest first; a link's reader that
 * waits reads nothing, so that TCP holds its peer back.  From any loop. */
#ifndef FERRY_ROOM_H
#define FERRY_ROOM_H

#include <keel/lock.h>

/* Invariant: left <= size; who waits for more than is left holds `turn`, so
 * that small ones do not overtake it for ever. */
struct room {
    struct keel_lock turn, lock;
    struct keel_cond given;
    size_t size, left;
};
void room_init(struct room *r, size_t size);
void room_fini(struct room *r);
/* At most the whole size.  -ECANCELED, -ETIMEDOUT */
int room_take(struct room *r, size_t bytes, keel_ns deadline);
void room_give(struct room *r, size_t bytes);
size_t room_taken(struct room *r);

#endif
