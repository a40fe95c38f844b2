/* SPDX-License-Identifier: MIT */
/* The way out of a link: a queue of small frames, the list of data senders, and
 * the coroutine that writes both.
 *
 * The writer runs only while there is something to write, so that an idle link
 * has one stack.  A round is one writev: the small frames at the head of the
 * queue, then one DATA frame of the sender whose turn it is.  A sender's data
 * never overtakes small frames queued before it began, which include the
 * REQUEST or NOTE that announces it. */
#include <errno.h>
#include <stdio.h>
#include <string.h>

#include "wire/link_inside.h"

/* Bytes in the queue from which newcomers wait.  One frame may go beyond. */
#define QUEUE_BYTES ((size_t)256 << 10)
/* What a queued frame takes besides its text. */
#define FRAME_COST (sizeof(struct out) + 32)
/* A peer that does not take one round in this time is gone. */
#define STALL (120 * KEEL_SECOND)
/* What the peer may still have to say after it stopped listening. */
#define LAST_WORDS KEEL_SECOND
#define BATCH 15
/* Small frames go together up to this, so that a round on a slow line ends in
 * time and data gets its turn. */
#define BATCH_BYTES ((size_t)64 << 10)

struct batch {
    struct out *frames[BATCH];
    uint8_t small[BATCH][16];
    uint8_t head[WIRE_HEAD_BYTES + WIRE_DATA_HEAD_BYTES];
    struct iovec iov[BATCH + 2];
    int count;
    size_t bytes;
    struct sending *sending;
    uint32_t data_bytes;
    bool goodbye;
};

/* ---- the queue ------------------------------------------------------------ */

static void out_append(struct link *l, struct out *o)
{
    o->queued = true;
    o->number = ++l->out_number;
    TAILQ_INSERT_TAIL(&l->out, o, node);
}

int out_room(struct link *l, struct problem *why)
{
    keel_ns began = keel_now();
    int rc;

    while (l->state == LINK_OPEN && l->out_bytes >= QUEUE_BYTES) {
        rc = bell_wait(&l->room, KEEL_FOREVER);
        if (rc < 0)
            return wait_failed(rc, began, why);
    }
    return l->state == LINK_OPEN ? 0 : link_reason(l, why);
}

int out_frame(struct link *l, uint8_t *bytes, size_t size)
{
    struct out *o = keel_alloc(sizeof(*o));

    if (!o) {
        keel_free(bytes);
        return -ENOMEM;
    }
    *o = (struct out){.kind = OUT_FRAME, .bytes = bytes, .size = size};
    l->out_bytes += size + FRAME_COST;
    out_append(l, o);
    out_kick(l);
    return 0;
}

void out_queue(struct link *l, struct out *o)
{
    if (o->queued || l->state != LINK_OPEN)
        return;
    out_append(l, o);
    out_kick(l);
}

void out_remove(struct link *l, struct out *o)
{
    if (!o->queued)
        return;
    TAILQ_REMOVE(&l->out, o, node);
    o->queued = false;
}

static void frame_free(struct link *l, struct out *o)
{
    l->out_bytes -= o->size + FRAME_COST;
    keel_free(o->bytes);
    keel_free(o);
}

void out_drop_all(struct link *l)
{
    struct out *o;

    while ((o = TAILQ_FIRST(&l->out))) {
        out_remove(l, o);
        if (o->kind == OUT_FRAME)
            frame_free(l, o);
        else if (o->kind == OUT_REFUSAL)
            exchange_refused(o->x);
    }
}

/* ---- a round -------------------------------------------------------------- */

static void batch_add(struct batch *b, void *bytes, size_t size)
{
    b->iov[b->count++] = (struct iovec){bytes, size};
    b->bytes += size;
}

/* A credit counts from here on: the peer can use it once it is written. */
static void batch_credit(struct batch *b, struct out *o)
{
    struct exchange *x = o->x;
    uint32_t bytes = x->grant_due < WIRE_CREDIT_MOST ? (uint32_t)x->grant_due
                                                     : WIRE_CREDIT_MOST;
    uint8_t *small = b->small[b->count];

    x->grant_due -= bytes;
    x->credit_in += bytes;
    batch_add(b, small, wire_small(WIRE_CREDIT, x->id, bytes, small));
    if (x->grant_due > 0)
        out_queue(x->link, o);
}

/* Takes the first of the queue.  Exchanges may end while the batch is written:
 * what is in the batch does not point to them. */
static void batch_take(struct link *l, struct batch *b)
{
    struct out *o = TAILQ_FIRST(&l->out);
    uint8_t *small = b->small[b->count];

    out_remove(l, o);
    b->frames[b->count] = o->kind == OUT_FRAME ? o : NULL;
    switch (o->kind) {
    case OUT_FRAME:
        b->goodbye = o->bytes[4] == WIRE_GOODBYE;
        batch_add(b, o->bytes, o->size);
        return;
    case OUT_CREDIT:
        batch_credit(b, o);
        return;
    case OUT_CANCEL:
        batch_add(b, small, wire_small(WIRE_CANCEL, o->x->id, 0, small));
        return;
    case OUT_REFUSAL:
        keel_assert(false && "a refusal goes alone");
    }
}

/* Without memory for anything else: a code, and no values. */
static int write_refusal(struct link *l, struct out *o)
{
    char frame[128];
    struct problem p = {.id = o->x->refusal};
    int size =
        snprintf(frame + WIRE_HEAD_BYTES, sizeof(frame) - WIRE_HEAD_BYTES,
                 "{\"id\":%u,\"problem\":{\"code\":\"%s\"}}", o->x->id,
                 problem_code(&p));

    keel_be32_put((uint8_t *)frame, (uint32_t)size + 1);
    frame[4] = WIRE_REPLY;
    out_remove(l, o);
    exchange_refused(o->x);
    return keel_stream_write(l->stream, frame, WIRE_HEAD_BYTES + (size_t)size,
                             keel_after(STALL));
}

/* What was queued before it began has been taken, or taken back.  The queue is
 * in the order of its numbers. */
static bool is_announced(struct link *l, const struct sending *s)
{
    const struct out *first = TAILQ_FIRST(&l->out);

    return !first || first->number > s->after;
}

static struct sending *sending_next(struct link *l)
{
    struct sending *s;

    if (l->state != LINK_OPEN || !l->greeted)
        return NULL;
    TAILQ_FOREACH (s, &l->sendings, node) {
        if (s->left > 0 && !s->withdrawn && s->x->credit_out > 0 &&
            is_announced(l, s))
            return s;
    }
    return NULL;
}

static void batch_data(struct link *l, struct batch *b)
{
    struct sending *s = sending_next(l);
    size_t size;

    if (!s)
        return;
    size = s->left < WIRE_DATA_BYTES ? s->left : WIRE_DATA_BYTES;
    if (size > s->x->credit_out)
        size = (size_t)s->x->credit_out;
    s->x->credit_out -= size;
    s->busy = true;
    b->sending = s;
    b->data_bytes = (uint32_t)size;
    wire_data_head(s->x->id, s->offset, b->data_bytes, b->head);
    batch_add(b, b->head, sizeof(b->head));
    /* writev does not write to it. */
    batch_add(b, (void *)(uintptr_t)s->bytes, size);
    /* The next turn is another sender's. */
    TAILQ_REMOVE(&l->sendings, s, node);
    TAILQ_INSERT_TAIL(&l->sendings, s, node);
}

static void batch_done(struct link *l, struct batch *b, int rc)
{
    struct sending *s = b->sending;
    bool full = l->out_bytes >= QUEUE_BYTES;

    for (int i = 0; i < BATCH && i < b->count; i++)
        if (b->frames[i])
            frame_free(l, b->frames[i]);
    if (full && l->out_bytes < QUEUE_BYTES)
        bell_ring(&l->room);
    if (!s)
        return;
    s->busy = false;
    if (rc == 0) {
        s->bytes += b->data_bytes;
        s->offset += b->data_bytes;
        s->left -= b->data_bytes;
        s->x->moved += b->data_bytes;
        __atomic_fetch_add(&l->bytes_out, b->data_bytes, __ATOMIC_RELAXED);
    }
    if (s->left == 0 || s->withdrawn || rc < 0)
        keel_event_set(&s->changed);
}

static int write_round(struct link *l, bool *ret_goodbye)
{
    struct batch b = {.count = 0};
    struct out *o;
    int rc;

    while ((o = TAILQ_FIRST(&l->out)) && b.count < BATCH &&
           b.bytes < BATCH_BYTES && o->kind != OUT_REFUSAL)
        batch_take(l, &b);
    if (o && b.count == 0)
        return write_refusal(l, o);
    batch_data(l, &b);
    rc = keel_stream_writev(l->stream, b.iov, b.count, keel_after(STALL));
    batch_done(l, &b, rc);
    *ret_goodbye = b.goodbye;
    return rc;
}

static bool out_pending(struct link *l)
{
    return l->state != LINK_OVER &&
           (!TAILQ_EMPTY(&l->out) || sending_next(l) != NULL);
}

/* ---- the writer ----------------------------------------------------------- */

/* The peer does not listen any more, but what it said before may explain it:
 * the reader has a moment to find that. */
static void write_failed(struct link *l, int rc)
{
    struct problem why;

    problem(&why, CONNECT_LOST, .errno_ = -rc);
    if (rc != -ETIMEDOUT && rc != -ECANCELED)
        (void)keel_event_wait(&l->over, keel_after(LAST_WORDS));
    link_end(l, rc, &why);
}

static int writer_run(void *arg)
{
    struct link *l = arg;
    bool goodbye = false;
    int rc = 0;

    l->writer = keel_current();
    while (rc == 0 && !goodbye && out_pending(l))
        rc = write_round(l, &goodbye);
    if (rc < 0) {
        write_failed(l, rc);
    } else if (goodbye && l->state != LINK_OVER) {
        (void)keel_stream_finish(l->stream, l->part_by);
        l->said = true;
        if (!l->drained)
            (void)keel_event_wait(&l->over, l->part_by);
        link_end(l, 0, NULL);
    }
    l->writer = NULL;
    l->writing = false;
    return 0;
}

void out_kick(struct link *l)
{
    struct problem why;
    int rc;

    if (l->writing || l->state == LINK_OVER)
        return;
    l->writing = true;
    rc = keel_spawn(
        &(struct keel_spawn){.name = "link-writer", .group = l->group},
        writer_run, l, NULL);
    if (rc < 0) {
        l->writing = false;
        problem(&why, NO_MEMORY);
        link_end(l, rc, &why);
    }
}
