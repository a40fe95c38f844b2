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

/* ---- small files, many at once; client ------------------------------------- */
/* What goes with its REQUEST, and comes back in the same round trip. */
#define SMALL_BYTES WIRE_DATA_BYTES

/* A `put` with its data ("At once" in docs/protocol.md): `fields` are put's
 * with `root` and `level`, taken, also on error; `data` has `size` bytes, 0 to
 * SMALL_BYTES, and is the caller's again when this returns.  Waits while 255
 * requests are open, or 8 MiB of such data are without REPLY.
 *
 * The REPLY {"level", "root"} or its problem comes by exchange_reply, in any
 * order among many: a caller with many in flight sets an exchange_sink whose
 * `ended` says which is done, or waits for the oldest.  exchange_free as
 * ever. */
int transfer_put_small(struct link *l, json_t *fields, const void *data,
                       size_t size, struct exchange **ret, struct problem *why);

/* A `get` of a whole file of up to SMALL_BYTES bytes, `size` as a list said: the
 * credit follows the REQUEST, and the data lands in `to` (`size` bytes, lent
 * until small_get_free) whatever the caller does meanwhile: nothing of it waits
 * for a disk.  `fields` are get's `path`, `space`, `match`; taken, also on
 * error; `hash` is added.  As many as 255 at once. */
struct small_get;
struct small_got {
    size_t size; /* bytes in `to`: may be fewer than were asked for */
    int64_t mtime_ns;
    mode_t mode;
    struct digest root;
};
int transfer_get_small(struct link *l, json_t *fields, enum chunk_hash hash,
                       void *to, size_t size, struct small_get **ret,
                       struct problem *why);
/* `done` is called (may not wait or free) when small_get_wait would not wait. */
void small_get_watch(struct small_get *g, void (*done)(void *arg), void *arg);
/* The bytes are there, and have the root that the server says: TRANSFER_DAMAGED.
 * FILE_CHANGED: the file is larger than `size` now; a common get fetches it. */
int small_get_wait(struct small_get *g, keel_ns deadline, struct small_got *ret,
                   struct problem *why);
/* Lets go, with CANCEL if it is not done.  Never waits. */
void small_get_free(struct small_get *g);
KEEL_AUTO(small_get, struct small_get *, small_get_free)

#endif
