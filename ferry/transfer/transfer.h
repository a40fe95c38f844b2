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
/* JSON [[from, to], ...]; REQUEST_INVALID unless ordered and within `chunks`.
 * `ret` is for keel_free, here and below, also when there is no range. */
int ranges_from_json(const json_t *j, uint64_t chunks, size_t most,
                     struct range **ret, size_t *ret_count,
                     struct problem *why);
json_t *ranges_to_json(const struct range *r, size_t count);
/* What a part has, at most `most` ranges; what it has beyond them counts as
 * missing.  Or, with the same `most`, what it is missing: up to most + 1. */
int part_ranges(const struct part *p, bool missing, size_t most,
                struct range **ret, size_t *ret_count);

/* Told as bytes move; called in the transfer's loop, must not wait. */
struct transfer_watch {
    void (*moved)(void *arg, uint64_t bytes);
    void *arg;
};

/* Sends the chunks of `ranges`, `ahead` of them read ahead (0: 4) as far as the
 * peer has granted credit. Chunks outside are not touched.  The peer's refusal
 * ends it early.  TRANSFER_CUT when the credit for a begun chunk does not
 * come. */
int transfer_send(struct source *s, struct exchange *x,
                  const struct range *ranges, size_t count,
                  struct buffer_pool *pool, unsigned ahead,
                  const struct transfer_watch *watch, struct problem *why);

/* Receives into `p` all chunks of `ranges`, each once, with up to `window`
 * chunks granted (0: 8), and returns when they are written.  Data outside is
 * TRANSFER_RANGE and ends the link.  Returns early with the problem when the
 * exchange ends, is refused or cancelled; what came whole is written first.
 * TRANSFER_CUT when the peer sends nothing for a minute. */
int transfer_receive(struct part *p, struct exchange *x,
                     const struct range *ranges, size_t count,
                     struct buffer_pool *pool, unsigned window,
                     const struct transfer_watch *watch, struct problem *why);

#endif
