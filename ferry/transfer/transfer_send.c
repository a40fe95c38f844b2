/* SPDX-License-Identifier: MIT */
/* Sending: chunks are read ahead by coroutines and sent in order.
 *
 * Only what the peer has granted credit for is read ahead, and only the first
 * buffer is waited for: a transfer that waits for the pool holds nothing of
 * it, so that transfers cannot starve each other for ever, and a peer that
 * grants nothing holds no buffer. */
#include <errno.h>
#include <string.h>

#include <keel/co.h>
#include <keel/lock.h>

#include "transfer/transfer.h"
#include "transfer/transfer_inside.h"

#define AHEAD 4
/* Credit that covers only part of a chunk must be followed by the rest. */
#define STALL (120 * KEEL_SECOND)

struct slot {
    struct send *send;
    struct buffer *buffer;
    uint64_t index;
    int rc;
    bool done;
    struct problem why;
};

/* Invariants:
 *   the chunks in hand are slots[head], slots[head + 1], ... modulo ahead,
 *   `count` of them, `hand_bytes` in all; each has its buffer
 *   the next chunk to read is `next` of ranges[range] */
struct send {
    struct source *source;
    struct exchange *x;
    struct buffer_pool *pool;
    const struct transfer_watch *watch;
    const struct range *ranges;
    size_t range_count, range;
    uint64_t next, size, hand_bytes;
    struct keel_group *readers;
    struct keel_event read; /* some slot is done */
    unsigned ahead, head, count;
    struct slot slots[];
};

static int reader_run(void *arg)
{
    struct slot *slot = arg;
    struct send *s = slot->send;

    slot->rc = source_read(s->source, slot->index, slot->buffer, &slot->why);
    slot->done = true;
    keel_event_set(&s->read);
    return 0;
}

static bool more(const struct send *s)
{
    return s->range < s->range_count;
}

static void advance(struct send *s)
{
    if (++s->next < s->ranges[s->range].to)
        return;
    if (++s->range < s->range_count)
        s->next = s->ranges[s->range].from;
}

static int read_one(struct send *s, struct buffer *b, struct problem *why)
{
    struct slot *slot = &s->slots[(s->head + s->count) % s->ahead];
    int rc;

    slot->send = s;
    slot->buffer = b;
    slot->index = s->next;
    slot->done = false;
    s->count++;
    s->hand_bytes += chunk_size(s->size, s->next);
    advance(s);
    rc = keel_spawn(
        &(struct keel_spawn){.name = "read-ahead", .group = s->readers},
        reader_run, slot, NULL);
    return rc < 0 ? problem(why, NO_MEMORY) : 0;
}

/* Starts reading what credit and pool allow. */
static int read_ahead(struct send *s, struct problem *why)
{
    struct buffer *b;
    int rc;

    while (s->count < s->ahead && more(s) &&
           s->hand_bytes < exchange_credit(s->x)) {
        rc = s->count == 0 ? transfer_buffer(s->pool, s->x, true, &b, why)
                           : buffer_take(s->pool, KEEL_NOW, &b);
        if (rc < 0)
            return s->count == 0 ? rc : 0;
        rc = read_one(s, b, why);
        if (rc < 0)
            return rc;
    }
    return 0;
}

static int stalled(struct send *s, uint64_t at, struct problem *why)
{
    return problem(why, TRANSFER_CUT, .errno_ = ETIMEDOUT,
                   .name = "the transfer", .bytes = at, .size = s->size);
}

static int send_chunk(struct send *s, uint64_t index, const uint8_t *bytes,
                      struct problem *why)
{
    uint64_t at = index * CHUNK_BYTES, credit;
    size_t left = chunk_size(s->size, index), n;
    int rc;

    for (; left > 0; left -= n, bytes += n, at += n) {
        rc = exchange_credit_wait(s->x, 0, keel_after(STALL), why);
        if (rc == -ETIMEDOUT)
            return stalled(s, at, why);
        if (rc < 0)
            return rc;
        credit = exchange_credit(s->x);
        n = left < WIRE_DATA_BYTES ? left : WIRE_DATA_BYTES;
        n = n < credit ? n : (size_t)credit;
        rc = exchange_send(s->x, at, bytes, n, KEEL_FOREVER, why);
        if (rc < 0)
            return rc;
        if (s->watch)
            s->watch->moved(s->watch->arg, n);
    }
    return 0;
}

/* Waits for the first chunk in hand, sends it, gives its buffer back. */
static int send_first(struct send *s, struct problem *why)
{
    struct slot *slot = &s->slots[s->head];
    int rc;

    while (!slot->done) {
        keel_event_clear(&s->read);
        rc = keel_event_wait(&s->read, KEEL_FOREVER);
        if (rc < 0)
            return problem(why, CANCELLED);
    }
    if (slot->rc < 0) {
        *why = slot->why;
        return slot->rc;
    }
    rc = send_chunk(s, slot->index, slot->buffer->bytes, why);
    if (rc < 0)
        return rc;
    buffer_give(slot->buffer);
    s->hand_bytes -= chunk_size(s->size, slot->index);
    s->head = (s->head + 1) % s->ahead;
    s->count--;
    /* Those who wait for a buffer come before our next. */
    keel_yield();
    return 0;
}

static int send_all(struct send *s, struct problem *why)
{
    int rc = 0;

    while (rc == 0 && (more(s) || s->count > 0)) {
        rc = read_ahead(s, why);
        if (rc == 0)
            rc = s->count > 0
                     ? send_first(s, why)
                     : exchange_credit_wait(s->x, 0, KEEL_FOREVER, why);
    }
    return rc;
}

static void send_free(struct send *s)
{
    transfer_join(s->readers);
    for (; s->count > 0; s->count--)
        buffer_give(s->slots[(s->head + s->count - 1) % s->ahead].buffer);
    keel_event_fini(&s->read);
    keel_free(s);
}

/* A file that its source has whole needs neither reader nor buffer. */
static int send_small(struct source *source, struct exchange *x,
                      const uint8_t *bytes, const struct transfer_watch *watch,
                      struct problem *why)
{
    struct send s = {
        .source = source, .x = x, .watch = watch, .size = source_size(source)};

    return send_chunk(&s, 0, bytes, why);
}

int transfer_send(struct source *source, struct exchange *x,
                  const struct range *ranges, size_t count,
                  struct buffer_pool *pool, unsigned ahead,
                  const struct transfer_watch *watch, struct problem *why)
{
    const void *small;
    struct problem unseen;
    struct send *s;
    int rc;

    ahead = ahead ? ahead : AHEAD;
    why = why ? why : &unseen;
    if (count == 0)
        return 0;
    small = source_small(source);
    if (small && count == 1 && ranges[0].from == 0)
        return send_small(source, x, small, watch, why);
    s = keel_calloc(1, sizeof(*s) + ahead * sizeof(*s->slots));
    if (!s)
        return problem(why, NO_MEMORY);
    s->source = source;
    s->x = x;
    s->pool = pool;
    s->watch = watch;
    s->ranges = ranges;
    s->range_count = count;
    s->next = ranges[0].from;
    s->size = source_size(source);
    s->ahead = ahead;
    keel_event_init(&s->read);
    rc = keel_group_new(0, &s->readers) < 0 ? problem(why, NO_MEMORY)
                                            : send_all(s, why);
    send_free(s);
    return rc;
}
