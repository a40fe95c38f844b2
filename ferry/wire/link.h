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

struct link_options {
    bool server;
    const char *agent; /* "ferryd 0.1.0" */
    json_t *hello;     /* more fields for our HELLO, borrowed; or NULL */
    unsigned requests_max; /* server: open at once */
    keel_ns hello_timeout;
    /* Server: called by the reader for each request, in a coroutine of its own
     * named after the verb; ends with exchange_answer or exchange_refuse (a
     * return value < 0 without either refuses with `why`).  `verb` and `body`
     * are lent until it returns. */
    int (*request)(struct exchange *x, const char *verb, const json_t *body,
                   void *arg, struct problem *why);
    void *arg;
};

/* Takes the stream on success (also frees it).  Exchanges HELLOs.
 * PROTOCOL_BROKEN, PROTOCOL_VERSION, CONNECT_LOST */
int link_open(struct keel_stream *stream, const struct link_options *o,
              struct link **ret, struct problem *why);
const json_t *link_peer_hello(const struct link *l);
struct keel_stream *link_stream(struct link *l); /* lent: exporter, peer */
/* Server: before login JSON is limited to 8 KiB and requests to 8. */
void link_trust(struct link *l);
/* Waits until the connection is over, for whatever reason; 0: in order. */
int link_wait(struct link *l, keel_ns deadline, struct problem *why);
/* Says GOODBYE with `p` (NULL: in order), flushes, ends. */
void link_goodbye(struct link *l, const struct problem *p, keel_ns deadline);
/* Ends at once, cancels and joins handlers, frees.  Not from a handler. */
void link_close(struct link *l);
KEEL_AUTO(link, struct link *, link_close)
/* Bytes moved, for figures: data only. */
void link_counters(const struct link *l, uint64_t *ret_in, uint64_t *ret_out);

/* ---- client: calls -------------------------------------------------------------- */
/* Sends {"id", "do": verb, ...fields}; takes `fields` (may be NULL). */
int link_call(struct link *l, const char *verb, json_t *fields,
              struct exchange **ret, struct problem *why);
/* The next NOTE (0, *ret_note) or -ENODATA when the REPLY has come instead. */
int exchange_note(struct exchange *x, keel_ns deadline, json_t **ret_note,
                  struct problem *why);
/* The REPLY's "ok" (owned by the caller), or its problem in `why`. */
int exchange_reply(struct exchange *x, keel_ns deadline, json_t **ret_ok,
                   struct problem *why);
/* link_call, exchange_reply, exchange_free in one. */
int link_ask(struct link *l, const char *verb, json_t *fields,
             keel_ns deadline, json_t **ret_ok, struct problem *why);
/* Lets go; sends CANCEL when no REPLY has come. */
void exchange_free(struct exchange *x);
KEEL_AUTO(exchange, struct exchange *, exchange_free)

/* ---- server: handlers -------------------------------------------------------------- */
int exchange_answer(struct exchange *x, json_t *ok); /* takes `ok`; NULL: {} */
int exchange_refuse(struct exchange *x, const struct problem *p);
int exchange_tell(struct exchange *x, json_t *note); /* NOTE; takes */
struct link *exchange_link(struct exchange *x);

/* ---- both: data ------------------------------------------------------------------------ */
uint32_t exchange_id(const struct exchange *x);
/* The open exchange with that id, whose handler runs; NULL: none. */
struct exchange *link_exchange(struct link *l, uint32_t id);
/* Sends `size` bytes (<= 1 MiB, inside one chunk), in DATA frames, as credit
 * allows; returns when they have left the caller's memory. */
int exchange_send(struct exchange *x, uint64_t offset, const void *bytes,
                  size_t size, keel_ns deadline, struct problem *why);
/* Where data goes.  `place` is called by the reader for each DATA frame and
 * lends memory for `size` bytes at `offset`, or returns NULL: protocol broken,
 * `why` says how.  It never waits.  `landed` follows when they are there.
 * Neither is called after exchange_data_off returns. */
struct exchange_sink {
    void *(*place)(void *arg, uint64_t offset, uint32_t size,
                   struct problem *why);
    void (*landed)(void *arg, uint64_t offset, uint32_t size);
    void *arg;
};
void exchange_data_on(struct exchange *x, const struct exchange_sink *sink);
void exchange_data_off(struct exchange *x);
/* Grants the peer `bytes` more. */
int exchange_grant(struct exchange *x, uint32_t bytes);

#endif
