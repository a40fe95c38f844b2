/* SPDX-License-Identifier: MIT */
/* Buffers of one chunk, aligned to 4 KiB, from a pool of fixed size: the
 * pool's size is the back-pressure, and bounds a server's memory.  Memory is
 * touched when first used and kept.
 *
 * Who receives holds buffers while it waits for a peer, and that peer may need
 * one to send.  Were all of them held like this on both sides, nobody could
 * ever go on.  So a pool has a few more, the spare ones, that only senders
 * take: they hold a buffer only for what the other side has room for. */
#ifndef FERRY_BUFFER_H
#define FERRY_BUFFER_H

#include <keel/base.h>

#include "chunk/tree.h"

struct buffer_pool;
struct buffer {
    uint8_t *bytes; /* CHUNK_BYTES of them */
    struct buffer_pool *pool;
    struct buffer *next; /* the pool's, or the holder's while held */
    bool spare;          /* the pool's: of which kind it counts */
};

/* Of `count` buffers and one spare for each sixteen, at least one.  -ENOMEM */
int buffer_pool_new(unsigned count, struct buffer_pool **ret);
/* All must have been given back. */
void buffer_pool_free(struct buffer_pool *p);
/* Waits for a free one; the one given back last is lent first, since its pages
 * are warm.  From any loop or thread.  Who does not wait (KEEL_NOW) leaves to
 * those who do what is given back.  -ETIMEDOUT, -ECANCELED */
int buffer_take(struct buffer_pool *p, keel_ns deadline, struct buffer **ret);
/* The same; when there is none, waits for a spare one. */
int buffer_take_spare(struct buffer_pool *p, keel_ns deadline,
                      struct buffer **ret);
void buffer_give(struct buffer *b); /* accepts NULL */
KEEL_AUTO(buffer, struct buffer *, buffer_give)

#endif
