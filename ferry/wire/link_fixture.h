/* SPDX-License-Identifier: MIT */
/* What the tests of links share: a server with a verb for each thing that can
 * happen, both ends of a link, and a peer that writes frames by hand.  Checks
 * with cmocka. */
#ifndef FERRY_WIRE_LINK_FIXTURE_H
#define FERRY_WIRE_LINK_FIXTURE_H

#include <errno.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include <keel/co.h>
#include <keel/lock.h>

#include "test/clock.h"
#include "wire/link.h"
#include "wire/link_inside.h"

#define MIB ((size_t)1 << 20)

/* A test is a coroutine on a loop of its own, on the test clock. */
#define LOOP_TEST(name)                                                        \
    static void name##_co(void);                                               \
    static int name##_main(void *arg)                                          \
    {                                                                          \
        (void)arg;                                                             \
        name##_co();                                                           \
        return 0;                                                              \
    }                                                                          \
    static void name(void **state)                                             \
    {                                                                          \
        (void)state;                                                           \
        test_clock_install();                                                  \
        assert_int_equal(keel_run(name##_main, NULL), 0);                      \
        test_clock_remove();                                                   \
    }                                                                          \
    static void name##_co(void)

/* ---- a server ------------------------------------------------------------- */

/* The byte of a transfer at `at`. */
uint8_t pattern(uint64_t at);

struct serve {
    struct link *link;
    struct keel_event gate, entered;
    unsigned cancelled, running, served;
    /* sink */
    uint8_t *into;
    uint64_t into_size, granted, landed;
    struct keel_event whole;
};

/* A sink's: into `into`, checking the pattern. */
void *serve_place(void *serve, uint64_t offset, uint32_t size,
                  struct problem *why);
void serve_landed(void *serve, uint64_t offset, uint32_t size);

void serve_init(struct serve *s);
struct link_options server_options(struct serve *s);

/* ---- both ends ------------------------------------------------------------ */

struct both {
    struct keel_stream *end[2]; /* client, server; a link's when opened */
    struct link *client, *server;
    struct serve serve;
    struct keel_co *opener;
    json_t *hello; /* more for the server's */
    int rc;
    struct problem why;
};

/* The server's link_open, in a coroutine of its own. */
int open_server(void *both);
void both_open(struct both *b, size_t buffer);
void both_close(struct both *b);

json_t *text_json(const char *text);
void echo(struct link *l, const char *text);

/* ---- a raw peer ----------------------------------------------------------- */

#define HELLO "{\"version\":1,\"agent\":\"raw\",\"features\":[]}"

/* Only the server is a link; the client is the test's raw stream. */
void raw_begin(struct both *b, size_t buffer);
void raw_opened(struct both *b);
/* All that, and the hellos. */
void raw_open(struct both *b);

void raw_write(struct both *b, const void *bytes, size_t size);
void raw_json(struct both *b, enum wire_kind kind, const char *text);
void raw_small(struct both *b, enum wire_kind kind, uint32_t id,
               uint32_t bytes);
void raw_data(struct both *b, uint32_t id, uint64_t offset, uint32_t size);
int raw_read(struct both *b, struct wire_frame *f);
void raw_expect(struct both *b, enum wire_kind kind);
/* The server says why it leaves, and then closes its half. */
void raw_goodbye(struct both *b, const char *code);
/* The next REPLY to `id` is an answer, a refusal. */
void raw_answered(struct both *b, int id);
void raw_refused(struct both *b, int id, const char *code);

/* Opens, sends the request, and sees so much credit granted. */
void sink_open(struct both *b, const char *request, uint32_t credit);

/* ---- a transfer ----------------------------------------------------------- */

struct mover {
    struct link *link;
    uint64_t size;
    bool up;
};
/* A "sink" or "source" of that size. */
int mover_run(void *mover);

#endif
