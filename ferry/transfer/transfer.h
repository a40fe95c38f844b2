/* SPDX-License-Identifier: MIT */
/* The transfer engine: chunks of a source onto exchanges, and from exchanges
 * into a part.  Server and client use the same two functions in opposite
 * roles.  Reading, hashing, encrypting, sending and, on the other side,
 * receiving, hashing and writing overlap: each chunk on its way is a coroutine
 * with a buffer of the pool. */
#ifndef FERRY_TRANSFER_H
#define FERRY_TRANSFER_H

#include <keel/base.h>

#include "chunk/part.h"
#include "chunk/source.h"
#include "wire/link.h"

/* Half-open ranges of chunks, in order, not touching. */
struct range {
    uint64_t from, to;
};
#define RANGES_MOST 4096
/* JSON [[from, to], ...]; REQUEST_INVALID unless ordered and within `chunks`. */
int ranges_from_json(const json_t *j, uint64_t chunks, size_t most,
                     struct range **ret, size_t *ret_count,
                     struct problem *why);
json_t *ranges_to_json(const struct range *r, size_t count);
/* What a part has, or lacks; at most `most`, the rest counts as missing. */
int part_ranges(const struct part *p, bool missing, size_t most,
                struct range **ret, size_t *ret_count);

/* Told as bytes move; called in the transfer's loop, must not wait. */
struct transfer_watch {
    void (*moved)(void *arg, uint64_t bytes);
    void *arg;
};

/* Sends the chunks of `ranges`, `ahead` of them read ahead (0: 4). Chunks
 * outside are not touched. */
int transfer_send(struct source *s, struct exchange *x,
                  const struct range *ranges, size_t count,
                  struct buffer_pool *pool, unsigned ahead,
                  const struct transfer_watch *watch, struct problem *why);

/* Receives into `p` until none of `ranges` is missing, with up to `window`
 * chunks granted (0: 8).  Data outside is TRANSFER_RANGE.  Returns early with
 * the problem when the exchange ends, is refused or cancelled. */
int transfer_receive(struct part *p, struct exchange *x,
                     const struct range *ranges, size_t count,
                     struct buffer_pool *pool, unsigned window,
                     const struct transfer_watch *watch, struct problem *why);

#endif
