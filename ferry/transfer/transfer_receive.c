/* SPDX-License-Identifier: MIT */
/* Receiving: room is granted in whole chunks, each complete one is written by a
 * coroutine of its own.
 *
 * How much may be granted.  The sender chooses the order of the chunks, so a
 * buffer has no chunk until the first byte comes.  Let E be the empty buffers,
 * P what the chunk under way still lacks, and s the size of the file's last
 * chunk while it has not begun, and is shorter.  The sender may use credit of
 *     P + E chunks                 without a short one to come
 *     P + (E - 1) chunks + s       with it
 * without ever beginning more than E chunks: with a whole chunk of credit for
 * the short one, the rest of it would begin another.
 *
 * How many buffers.  One is waited for, when the transfer holds none; more are
 * taken when the pool has them, as many as arrive in HORIZON.  So a slow line
 * holds one or two, and the pool is for those that are fast. */
#include <errno.h>
#include <string.h>

#include <keel/co.h>
#include <keel/lock.h>

#include "transfer/transfer.h"
#include "transfer/transfer_inside.h"

#define WINDOW 8
#define WINDOW_FIRST 2
#define HORIZON (500 * KEEL_MS)
/* A sender with credit that sends nothing, on a link that brings nothing. */
#define STALL (60 * KEEL_SECOND)

enum slot_state { SLOT_FREE, SLOT_EMPTY, SLOT_FILLING, SLOT_WRITING };

struct slot {
    struct receive *receive;
    enum slot_state state;
    struct buffer *buffer; /* unless FREE */
    uint64_t index;        /* FILLING, WRITING */
};

/* Invariants between waits:
 *   `due` has a bit for each wanted chunk that has not begun, counted from
 *   `first`; due_bytes are their bytes, due_count their number
 *   at most one slot is FILLING: `filling`, with its first `filled` bytes
 *   empty, held: slots that are EMPTY; that are not FREE
 *   empty <= due_count, so that no more is granted than will come
 *   granted: credit that the sender has not used, at most what is said above */
struct receive {
    struct part *part;
    struct exchange *x;
    struct buffer_pool *pool;
    const struct transfer_watch *watch;
    uint64_t size, chunks;
    uint64_t first, last, due_bytes, due_count, granted;
    uint64_t *due;
    struct slot *filling;
    size_t filled;
    keel_ns begun; /* filling's first byte */
    struct keel_group *writers;
    struct keel_event changed;
    unsigned window, target, held, empty;
    int rc;
    struct problem why;
    struct slot slots[];
};

static bool is_due(const struct receive *r, uint64_t index)
{
    uint64_t bit = index - r->first;

    return index >= r->first && index < r->last &&
           (r->due[bit / 64] >> bit % 64 & 1);
}

static void due_set(struct receive *r, uint64_t index, bool on)
{
    uint64_t bit = index - r->first, mask = (uint64_t)1 << bit % 64;
    size_t size = chunk_size(r->size, index);

    r->due[bit / 64] = on ? r->due[bit / 64] | mask : r->due[bit / 64] & ~mask;
    r->due_bytes += on ? size : -size;
    r->due_count += on ? 1 : (uint64_t)-1;
}

static size_t lacking(const struct receive *r)
{
    return r->filling ? chunk_size(r->size, r->filling->index) - r->filled : 0;
}

/* What the sender may have in credit. */
static uint64_t allowed(const struct receive *r)
{
    uint64_t begin = (uint64_t)r->empty * CHUNK_BYTES;

    if (r->empty > 0 && r->chunks > 0 && is_due(r, r->chunks - 1))
        begin -= CHUNK_BYTES - chunk_size(r->size, r->chunks - 1);
    return lacking(r) + begin;
}

/* A link that is over says so elsewhere. */
static void grant(struct receive *r)
{
    uint64_t most = allowed(r);

    if (most <= r->granted)
        return;
    (void)exchange_grant(r->x, (uint32_t)(most - r->granted));
    r->granted = most;
}

static void fail(struct receive *r, int rc, const struct problem *why)
{
    if (r->rc == 0) {
        r->rc = rc;
        r->why = *why;
    }
    keel_event_set(&r->changed);
}

/* ---- from buffer to disk ---------------------------------------------------- */

static int writer_run(void *arg)
{
    struct slot *slot = arg;
    struct receive *r = slot->receive;
    struct problem why;
    int rc = part_write(r->part, slot->index, slot->buffer, &why);

    if (rc < 0)
        fail(r, rc, &why);
    buffer_give(slot->buffer);
    slot->state = SLOT_FREE;
    r->held--;
    keel_event_set(&r->changed);
    return 0;
}

/* As many chunks as come in HORIZON at the pace of the last one. */
static void adapt(struct receive *r)
{
    keel_ns took = keel_now() - r->begun;
    uint64_t fit = 1 + (uint64_t)(HORIZON / (took > 0 ? took : 1));

    if (fit > 2 * r->target)
        fit = 2 * r->target;
    r->target = fit < r->window ? (unsigned)fit : r->window;
}

static void chunk_complete(struct receive *r)
{
    struct slot *slot = r->filling;
    struct problem why;

    r->filling = NULL;
    slot->state = SLOT_WRITING;
    adapt(r);
    if (keel_spawn(
            &(struct keel_spawn){.name = "write-behind", .group = r->writers},
            writer_run, slot, NULL) < 0)
        fail(r, problem(&why, NO_MEMORY), &why);
    keel_event_set(&r->changed);
}

/* ---- from link to buffer; called by the link's reader ------------------------- */

static void chunk_begin(struct receive *r, uint64_t index)
{
    struct slot *slot = NULL;

    for (unsigned i = 0; i < r->window && !slot; i++)
        if (r->slots[i].state == SLOT_EMPTY)
            slot = &r->slots[i];
    if (!slot) /* only by credit left over from before */
        return;
    slot->state = SLOT_FILLING;
    slot->index = index;
    r->empty--;
    r->filling = slot;
    r->filled = 0;
    r->begun = keel_now();
    due_set(r, index, false);
}

static void *place(void *arg, uint64_t offset, uint32_t size,
                   struct problem *why)
{
    struct receive *r = arg;
    uint64_t index = offset / CHUNK_BYTES;
    bool fits = offset < r->size && size <= r->size - offset &&
                offset % CHUNK_BYTES + size <= CHUNK_BYTES &&
                size <= r->granted;

    if (fits && !r->filling && offset % CHUNK_BYTES == 0 && is_due(r, index))
        chunk_begin(r, index);
    if (!fits || !r->filling || r->filling->index != index ||
        offset % CHUNK_BYTES != r->filled) {
        problem(why, TRANSFER_RANGE, .bytes = offset, .size = r->size);
        return NULL;
    }
    return r->filling->buffer->bytes + r->filled;
}

static void landed(void *arg, uint64_t offset, uint32_t size)
{
    struct receive *r = arg;

    (void)offset;
    r->filled += size;
    r->granted -= size;
    if (r->filled == chunk_size(r->size, r->filling->index))
        chunk_complete(r);
    grant(r);
    if (r->watch)
        r->watch->moved(r->watch->arg, size);
}

static void ended(void *arg)
{
    struct receive *r = arg;

    keel_event_set(&r->changed);
}

/* ---- the transfer ------------------------------------------------------------- */

/* Buffers for chunks that have none: the first is waited for, others are
 * taken if they are there. */
static int take_buffers(struct receive *r, struct problem *why)
{
    struct buffer *b;
    int rc;

    for (unsigned i = 0; i < r->window; i++) {
        struct slot *slot = &r->slots[i];

        if (slot->state != SLOT_FREE)
            continue;
        if (r->held >= r->target || r->empty >= r->due_count)
            break;
        rc = r->held == 0 ? transfer_buffer(r->pool, r->x, false, &b, why)
                          : buffer_take(r->pool, KEEL_NOW, &b);
        if (rc < 0)
            return r->held == 0 ? rc : 0;
        *slot = (struct slot){r, SLOT_EMPTY, b, 0};
        r->held++;
        r->empty++;
    }
    return 0;
}

static int stalled(struct receive *r, struct problem *why)
{
    return problem(why, TRANSFER_CUT, .errno_ = ETIMEDOUT,
                   .name = "the transfer", .bytes = part_bytes(r->part),
                   .size = r->size);
}

/* Waits for a chunk to come or to be written.  As long as anything comes over
 * the link the sender may be waiting for its turn. */
static int wait_change(struct receive *r, struct problem *why)
{
    uint64_t before, after, out;
    int rc;

    do {
        link_counters(exchange_link(r->x), &before, &out);
        rc = keel_event_wait(&r->changed,
                             r->granted > 0 ? keel_after(STALL) : KEEL_FOREVER);
        link_counters(exchange_link(r->x), &after, &out);
    } while (rc == -ETIMEDOUT && after != before);
    keel_event_clear(&r->changed);
    if (rc == -ETIMEDOUT)
        return stalled(r, why);
    return rc < 0 ? problem(why, CANCELLED) : 0;
}

/* A REPLY behind the last byte is no reason to stop: what has come is being
 * written. */
static int still_open(struct receive *r, struct problem *why)
{
    int rc = exchange_check(r->x, why);

    if (rc == 1 || (rc == 0 && r->due_bytes == 0 && !r->filling))
        return 0;
    if (rc == 0)
        return problem(why, PROTOCOL_BROKEN,
                       .detail = "the reply came before all data");
    return rc;
}

static int receive_all(struct receive *r, struct problem *why)
{
    int rc = 0;

    while (rc == 0 && r->rc == 0 &&
           (r->due_count > 0 || r->filling || r->held > 0)) {
        rc = still_open(r, why);
        if (rc == 0)
            rc = take_buffers(r, why);
        if (rc == 0) {
            grant(r);
            rc = wait_change(r, why);
        }
    }
    if (rc == 0 && r->rc < 0) {
        *why = r->why;
        rc = r->rc;
    }
    return rc;
}

static int receive_begin(struct receive *r, const struct range *ranges,
                         size_t count, struct problem *why)
{
    uint64_t bits;

    r->first = ranges[0].from;
    r->last = ranges[count - 1].to;
    bits = r->last - r->first;
    r->due = keel_calloc(bits / 64 + 1, sizeof(*r->due));
    if (!r->due || keel_group_new(0, &r->writers) < 0)
        return problem(why, NO_MEMORY);
    for (size_t i = 0; i < count; i++)
        for (uint64_t c = ranges[i].from; c < ranges[i].to; c++)
            due_set(r, c, true);
    return 0;
}

static void receive_free(struct receive *r)
{
    exchange_data_off(r->x);
    transfer_join(r->writers);
    for (unsigned i = 0; i < r->window; i++)
        if (r->slots[i].state != SLOT_FREE)
            buffer_give(r->slots[i].buffer);
    keel_event_fini(&r->changed);
    keel_free(r->due);
    keel_free(r);
}

int transfer_receive(struct part *p, struct exchange *x,
                     const struct range *ranges, size_t count,
                     struct buffer_pool *pool, unsigned window,
                     const struct transfer_watch *watch, struct problem *why)
{
    struct problem unseen;
    struct receive *r;
    int rc;

    window = window ? window : WINDOW;
    why = why ? why : &unseen;
    if (count == 0)
        return 0;
    r = keel_calloc(1, sizeof(*r) + window * sizeof(*r->slots));
    if (!r)
        return problem(why, NO_MEMORY);
    r->part = p;
    r->x = x;
    r->pool = pool;
    r->watch = watch;
    r->size = part_size(p);
    r->chunks = chunk_count(r->size);
    r->window = window;
    r->target = window < WINDOW_FIRST ? window : WINDOW_FIRST;
    keel_event_init(&r->changed);
    rc = receive_begin(r, ranges, count, why);
    if (rc == 0) {
        exchange_data_on(x, &(struct exchange_sink){place, landed, ended, r});
        rc = receive_all(r, why);
    }
    receive_free(r);
    return rc;
}
