/* SPDX-License-Identifier: MIT */
/* Inside a link: what link.c, link_out.c and exchange.c share.
 *
 *   OPEN --link_part: GOODBYE is queued--> PARTING --link_end--> OVER
 *     +------------------link_end---------------------------------^
 *
 *   OPEN     frames are read and written
 *   PARTING  what is queued is written, GOODBYE last, then the stream is
 *            finished; what arrives is dropped until the peer closes
 *   OVER     nothing moves; waiting calls have been woken, handlers cancelled
 *
 * Everything of a link is touched by the coroutines of one loop only, and
 * state changes between two waits: it needs no lock. */
#ifndef FERRY_LINK_INSIDE_H
#define FERRY_LINK_INSIDE_H

#include <sys/queue.h>

#include <keel/lock.h>

#include "wire/link.h"

/* ---- waiting for a state that several may wait for ------------------------- */
struct bell_rope {
    TAILQ_ENTRY(bell_rope) node;
    struct keel_event pulled;
};
struct bell {
    TAILQ_HEAD(, bell_rope) waiting;
};
void bell_init(struct bell *b);
/* Until somebody rings; the caller looks at the state again. */
int bell_wait(struct bell *b, keel_ns deadline);
void bell_ring(struct bell *b);

/* ---- what waits to be written ---------------------------------------------- */
/* CREDIT, CANCEL and a refusal that found no memory are part of their
 * exchange, so that they can always be queued. */
enum out_kind { OUT_FRAME, OUT_CREDIT, OUT_CANCEL, OUT_REFUSAL };
struct out {
    TAILQ_ENTRY(out) node;
    enum out_kind kind;
    bool queued;
    uint64_t number; /* of all that were queued */
    size_t size;     /* FRAME */
    uint8_t *bytes;
    struct exchange *x; /* the others */
};

/* One exchange_send, on the sender's stack.  While `busy` the writer uses
 * `bytes`. */
struct sending {
    TAILQ_ENTRY(sending) node;
    struct exchange *x;
    const uint8_t *bytes;
    uint64_t offset;
    size_t left;
    uint64_t after; /* small frames up to this number go first */
    bool busy, withdrawn;
    struct keel_event changed;
};

/* Invariants:
 *   `listed`: it is in its link's list of open exchanges, and its id is taken
 *   server: listed until its REPLY is queued; alive until the handler ended
 *   client: listed until its REPLY came; alive until exchange_free, or, when
 *           that came before (`abandoned`), until the REPLY
 *   credit_in is what the peer was granted in CREDIT frames handed to the
 *   writer and has not used; grant_due is what was granted since */
struct exchange {
    LIST_ENTRY(exchange) node;
    LIST_ENTRY(exchange) same; /* in its bucket */
    struct link *link;
    uint32_t id;
    bool listed, cancelled, abandoned, answered, running;
    uint64_t credit_in, credit_out, grant_due;
    struct out credit, last; /* last: CANCEL, or the refusal */
    struct sending *sending;
    struct exchange_sink sink; /* place is NULL: none */
    struct bell bell;          /* NOTE, REPLY, credit, the end */
    size_t text_bytes;         /* of its REQUEST */
    uint32_t inline_bytes;     /* of the data that came with it */
    uint64_t moved;            /* data, in and out */
    /* server */
    struct keel_co *co; /* the handler's, while it runs */
    json_t *body;
    uint8_t *data; /* that came with the REQUEST, until it is dropped */
    size_t charge; /* of the room */
    unsigned gate; /* 0: none */
    bool waiting;  /* at the gate */
    TAILQ_ENTRY(exchange) behind;
    enum problem_id refusal;
    /* client */
    json_t *reply; /* the whole frame */
    json_t *space; /* of its REQUEST, or NULL */
    json_t *notes; /* an array, or NULL */
    size_t note_bytes;
    bool notes_off;
};

enum link_state { LINK_OPEN, LINK_PARTING, LINK_OVER };

#define LINK_BUCKETS 64

struct link {
    struct keel_stream *stream;
    struct keel_loop *loop;
    struct keel_group *group;        /* reader, writer, handlers */
    struct keel_co *reader, *writer; /* NULL: does not run */
    bool server, trusted, greeted;
    bool writing;       /* a writer is spawned */
    bool said, drained; /* GOODBYE has left; nothing more will come */
    enum link_state state;
    int rc; /* how it ended */
    struct problem *why;
    struct keel_event opened, over; /* opened: HELLO came, or it is over */
    keel_ns part_by;
    struct wire_limits limits;
    unsigned requests_max;
    int (*request)(struct exchange *x, const char *verb, const json_t *body,
                   void *arg, struct problem *why);
    size_t (*inline_of)(const json_t *body, void *arg);
    struct room *inline_room;
    size_t inline_cost;
    unsigned (*gate_of)(const json_t *body, void *arg);
    struct gate {
        TAILQ_HEAD(, exchange) waiting;
        unsigned inside;
    } gates[LINK_GATES];
    void *arg;
    json_t *hello;

    LIST_HEAD(, exchange) open;
    LIST_HEAD(, exchange) by_id[LINK_BUCKETS]; /* the open ones */
    unsigned open_count, held; /* held: by the client's callers */
    size_t open_bytes;         /* text of the open requests */
    size_t inline_bytes;       /* data that came with them */
    uint32_t next_id;
    unsigned strays;       /* frames that found nothing to do */
    uint64_t stray_credit; /* granted, and its exchange ended before its use */
    struct exchange *landing; /* whose memory the reader is filling */

    TAILQ_HEAD(, out) out;
    size_t out_bytes;
    uint64_t out_number;
    TAILQ_HEAD(, sending) sendings;
    struct bell room; /* in the queue, or for another request */
    uint64_t bytes_in, bytes_out;
};

/* ---- link.c */
void link_end(struct link *l, int rc, const struct problem *why);
/* Says GOODBYE: `why` is NULL when all is in order. */
void link_part(struct link *l, int rc, const struct problem *why,
               keel_ns deadline);
/* Why nothing more can be sent or received; -EPIPE and more. */
int link_reason(const struct link *l, struct problem *why);
/* The problem for a wait that failed. */
int wait_failed(int rc, keel_ns began, struct problem *why);

/* Requests that may be open at once, now. */
unsigned link_requests_most(const struct link *l);

/* ---- link_out.c */
/* Waits until the queue has room. */
int out_room(struct link *l, struct problem *why);
/* Queues a frame; takes `bytes` also on error. */
int out_frame(struct link *l, uint8_t *bytes, size_t size);
void out_queue(struct link *l, struct out *o);
void out_remove(struct link *l, struct out *o);
/* Starts the writer unless it runs. */
void out_kick(struct link *l);
void out_drop_all(struct link *l);

/* ---- exchange.c */
struct exchange *exchange_find(struct link *l, uint32_t id);
/* Wakes everybody who waits for something of any exchange, cancels handlers. */
void exchanges_end(struct link *l);
void exchanges_drop(struct link *l);
/* Frames, from the reader.  Negative: the peer broke the protocol. */
int exchange_request(struct link *l, struct wire_frame *f, struct problem *why);
int exchange_replied(struct link *l, struct wire_frame *f, struct problem *why);
int exchange_noted(struct link *l, struct wire_frame *f, struct problem *why);
int exchange_credited(struct link *l, const struct wire_frame *f,
                      struct problem *why);
int exchange_cancelled(struct link *l, const struct wire_frame *f,
                       struct problem *why);
int exchange_data(struct link *l, const struct wire_frame *f,
                  struct problem *why);
/* The refusal of this exchange has been written. */
void exchange_refused(struct exchange *x);

#endif
