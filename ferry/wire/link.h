/* SPDX-License-Identifier: MIT */
/* A link: one connection of the native protocol, either end.
 *
 * One coroutine reads the stream and one writes it.  Requests in progress are
 * exchanges: a client's call waiting for its reply, a server's handler
 * answering one; each has its id, its credit and its place for data.  All of
 * a link's coroutines belong to one loop.
 *
 * The writer sends small frames (replies, credit) before data, and data of
 * several exchanges in turn, so that a long transfer delays nothing. */
#ifndef FERRY_LINK_H
#define FERRY_LINK_H

#include <jansson.h>

#include <keel/co.h>
#include <keel/stream.h>

#include "base/problem.h"
#include "wire/frame.h"

struct link;
struct exchange;
struct room;

struct link_options {
    bool server;
    const char *agent;     /* "ferryd 0.1.0" */
    json_t *hello;         /* more fields for our HELLO, borrowed; or NULL */
    unsigned requests_max; /* server: open at once after login; 0: 256 */
    keel_ns hello_timeout; /* 0: 10 s */
    /* Server: called by the reader for each request, in a coroutine of its own
     * named after the verb; ends with exchange_answer or exchange_refuse (a
     * return value < 0 without either refuses with `why`).  `verb` and `body`
     * are lent until it returns; a request that names no verb has "". */
    int (*request)(struct exchange *x, const char *verb, const json_t *body,
                   void *arg, struct problem *why);
    /* Server, may be NULL: the data that comes right behind this REQUEST as its
     * own credit, 0 to WIRE_DATA_BYTES bytes.  It is read before the handler
     * begins, which has it by exchange_inline; before login it is dropped. */
    size_t (*inline_bytes)(const json_t *body, void *arg);
    /* Server, with inline_bytes: counts that data and `inline_cost` bytes for
     * each such handler.  The link is not read while there is no room. */
    struct room *room;
    size_t inline_cost;
    /* Server, may be NULL: through which gate a request goes, 1 to LINK_GATES: of
     * its requests LINK_GATE_MOST have a handler at a time, and the others wait
     * without one; or 0: its handler begins at once, as that of one whose end
     * others wait for must. */
    unsigned (*gate)(const json_t *body, void *arg);
    void *arg;
};
#define LINK_GATES 3
#define LINK_GATE_MOST 64

/* Takes the stream on success (also frees it); on failure it is still the
 * caller's, to be closed.  Exchanges HELLOs.  A link lives on the loop of the
 * coroutine that opens it, and all its calls are for coroutines of that loop.
 * PROTOCOL_BROKEN, PROTOCOL_VERSION, CONNECT_LOST, or what the peer's GOODBYE
 * says */
int link_open(struct keel_stream *stream, const struct link_options *o,
              struct link **ret, struct problem *why);
const json_t *link_peer_hello(const struct link *l);
struct keel_stream *link_stream(struct link *l); /* lent: exporter, peer */
/* Server: before login JSON is limited to 8 KiB and requests to 8. */
void link_trust(struct link *l);
/* Waits until the connection is over, for whatever reason; 0: in order. */
int link_wait(struct link *l, keel_ns deadline, struct problem *why);
/* Says GOODBYE with `p` (NULL: in order), flushes, waits for the peer to close
 * until `deadline`, ends.  Handlers that still run are cancelled. */
void link_goodbye(struct link *l, const struct problem *p, keel_ns deadline);
/* Ends at once: every call in progress returns, handlers are cancelled.  From
 * anywhere on the loop, also from a handler; link_close is still due. */
void link_cut(struct link *l);
/* Ends at once, cancels and joins handlers, frees.  Not from a handler; a
 * client's exchanges have been freed before. */
void link_close(struct link *l);
KEEL_AUTO(link, struct link *, link_close)
/* Bytes moved, for figures: data only.  From any thread. */
void link_counters(const struct link *l, uint64_t *ret_in, uint64_t *ret_out);

/* ---- client: calls -------------------------------------------------------------- */
/* Sends {"id", "do": verb, ...fields}; takes `fields` (may be NULL), also on
 * error.  Waits while 256 requests, or 1 MiB of them, are open. */
int link_call(struct link *l, const char *verb, json_t *fields,
              struct exchange **ret, struct problem *why);
/* Likewise, with `size` bytes of data (0 to WIRE_DATA_BYTES) in one DATA frame
 * right behind the REQUEST, for verbs whose requests are their own credit.
 * Copied.  Waits while 255 requests are open, or 8 MiB of such data have no
 * REPLY yet. */
int link_call_data(struct link *l, const char *verb, json_t *fields,
                   const void *data, size_t size, struct exchange **ret,
                   struct problem *why);
/* One coroutine at a time waits for an exchange's notes and reply.  No answer
 * before the deadline is CONNECT_TIMEOUT; the exchange stays open. */
/* The next NOTE (0, *ret_note) or -ENODATA, `why` untouched, when the REPLY has
 * come instead. */
int exchange_note(struct exchange *x, keel_ns deadline, json_t **ret_note,
                  struct problem *why);
/* The REPLY's "ok" (owned by the caller; once), or its problem in `why`.  NOTEs
 * not fetched before are dropped.  `ret_ok` may be NULL. */
int exchange_reply(struct exchange *x, keel_ns deadline, json_t **ret_ok,
                   struct problem *why);
/* A refusal of a REQUEST with a "space" says which (struct problem). */
/* link_call, exchange_reply, exchange_free in one. */
int link_ask(struct link *l, const char *verb, json_t *fields, keel_ns deadline,
             json_t **ret_ok, struct problem *why);
/* Lets go; sends CANCEL when no REPLY has come.  Never waits. */
void exchange_free(struct exchange *x);
KEEL_AUTO(exchange, struct exchange *, exchange_free)

/* How the server's log names a request of this connection: CONNECTION-ID, from
 * the "connection" of its HELLO, or CONNECTION alone when `id` is 0; "" when it
 * said none.  A REPLY's problem and a GOODBYE's carry it (struct problem). */
void link_trace(const struct link *l, uint32_t id,
                char ret[PROBLEM_TRACE_BYTES]);

/* ---- server: handlers -------------------------------------------------------------- */
/* A CANCEL, or the end of the link, cancels the handler's coroutine.  The REPLY
 * is sent all the same, and waits for room in the link's queue whether
 * cancelled or not.  After it the id is the client's again: no data, no notes.
 * A second answer is -EALREADY; an answer longer than the peer accepts is
 * -EMSGSIZE, and memory out -ENOMEM: then the request has been refused. */
int exchange_answer(struct exchange *x, json_t *ok); /* takes `ok`; NULL: {} */
int exchange_refuse(struct exchange *x, const struct problem *p);
/* NOTE; takes, also on error; NULL is -ENOMEM.  Waits for room in the link's
 * queue. */
int exchange_tell(struct exchange *x, json_t *note);
struct link *exchange_link(struct exchange *x);
/* The data that came with the REQUEST, lent until the handler ends or drops it,
 * which makes room for others; NULL when there is none. */
const void *exchange_inline(const struct exchange *x, size_t *ret_size);
void exchange_inline_drop(struct exchange *x);

/* ---- both: data ------------------------------------------------------------------------ */
uint32_t exchange_id(const struct exchange *x);
/* Bytes of data that have come or left for it. */
uint64_t exchange_moved(const struct exchange *x);
/* 1 while it is open; 0 when its REPLY came and is no refusal; negative: it was
 * refused (the REPLY's problem), cancelled, or the link is over. */
int exchange_check(const struct exchange *x, struct problem *why);
/* Sends `size` bytes (1 to 1 MiB, inside one chunk), in DATA frames, as credit
 * allows; returns when they have left the caller's memory.  One at a time on an
 * exchange.  Cancelled or out of time in the middle of a frame it waits for the
 * end of that frame, unless the link ends: link_cut. */
int exchange_send(struct exchange *x, uint64_t offset, const void *bytes,
                  size_t size, keel_ns deadline, struct problem *why);
/* Credit not used yet, and waiting until there is more than `bytes` of it. */
uint64_t exchange_credit(const struct exchange *x);
int exchange_credit_wait(struct exchange *x, uint64_t bytes, keel_ns deadline,
                         struct problem *why);
/* Where data goes.  `place` is called by the reader for each DATA frame and
 * lends memory for `size` bytes at `offset`, or returns NULL: protocol broken,
 * `why` says how.  `landed` follows when they are there.  `ended` (may be NULL)
 * is called when exchange_check would no longer be 1, and may then be all there
 * is: a client's way to hear of many replies without waiting for each.  None of
 * them waits or frees, and none is called after exchange_data_off, which never
 * waits either: the link lets go of the memory at once.  Data that comes while
 * there is no `place` is dropped. */
struct exchange_sink {
    void *(*place)(void *arg, uint64_t offset, uint32_t size,
                   struct problem *why);
    void (*landed)(void *arg, uint64_t offset, uint32_t size);
    void (*ended)(void *arg);
    void *arg;
};
void exchange_data_on(struct exchange *x, const struct exchange_sink *sink);
void exchange_data_off(struct exchange *x);
/* Grants the peer `bytes` more; never waits.  -EPIPE: the exchange or the link
 * is over. */
int exchange_grant(struct exchange *x, uint32_t bytes);

#endif
