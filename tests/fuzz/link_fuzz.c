/* SPDX-License-Identifier: MIT */
/* A whole link against a peer that says anything.  The first byte: 1 our side
 * is the client, 2 HELLO is said for the peer, 4 the peer closes at once rather
 * than ending its half, 8 logged in; the second how much it says between two
 * looks of the others; the rest is what it says.  Time is virtual. */
#include <errno.h>
#include <stdlib.h>

#include <keel/co.h>

#include "test/clock.h"
#include "wire/link.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

struct run {
    const uint8_t *data;
    size_t size, step;
    unsigned flags;
    struct keel_stream *end[2];
    unsigned handlers;
};

static uint8_t landing[1000];

static void *place(void *arg, uint64_t offset, uint32_t size,
                   struct problem *why)
{
    (void)arg;
    if (size > sizeof(landing) || offset > sizeof(landing) - size) {
        problem(why, TRANSFER_RANGE, .bytes = offset);
        return NULL;
    }
    return landing + offset;
}

static void landed(void *arg, uint64_t offset, uint32_t size)
{
    (void)arg;
    keel_assert(offset + size <= sizeof(landing));
}

static int serve_one(struct exchange *x, const char *verb, const json_t *body,
                     struct problem *why)
{
    static const uint8_t bytes[3000];

    switch (verb[0]) {
    case 'e':
        return exchange_answer(x, json_deep_copy(body));
    case 'n':
        (void)exchange_tell(x, json_object());
        return exchange_answer(x, NULL);
    case 'd': /* data to us */
        exchange_data_on(x, &(struct exchange_sink){place, landed, NULL, x});
        (void)exchange_grant(x, 700);
        (void)keel_sleep(keel_after(KEEL_SECOND));
        (void)exchange_grant(x, 1000);
        (void)keel_sleep(keel_after(KEEL_SECOND));
        exchange_data_off(x);
        return exchange_answer(x, NULL);
    case 's': /* data from us */
        if (exchange_send(x, 0, bytes, sizeof(bytes), keel_after(KEEL_SECOND),
                          why) < 0)
            return -ECANCELED;
        return exchange_answer(x, NULL);
    case 'w':
        return keel_sleep(keel_after(3 * KEEL_SECOND));
    case 'c':
        link_cut(exchange_link(x));
        return 0;
    default:
        return problem(why, REQUEST_UNKNOWN, .name = verb);
    }
}

static int serve(struct exchange *x, const char *verb, const json_t *body,
                 void *arg, struct problem *why)
{
    struct run *r = arg;
    int rc;

    r->handlers++;
    rc = serve_one(x, verb, body, why);
    r->handlers--;
    return rc;
}

static void hello(struct run *r)
{
    static const char frame[] = "\0\0\0\x0e\1{\"version\":1}";

    (void)keel_stream_write(r->end[0], frame, sizeof(frame) - 1, KEEL_FOREVER);
}

/* Reads all the time, so that nobody stalls on it. */
static int listen_run(void *arg)
{
    struct run *r = arg;
    uint8_t bytes[512];

    while (keel_stream_read(r->end[0], bytes, sizeof(bytes), KEEL_FOREVER) > 0)
        continue;
    return 0;
}

static int talk_run(void *arg)
{
    struct run *r = arg;
    size_t n;

    if (r->flags & 2)
        hello(r);
    for (size_t at = 0; at < r->size; at += n) {
        n = r->size - at < r->step ? r->size - at : r->step;
        if (keel_stream_write(r->end[0], r->data + at, n, KEEL_FOREVER) < 0)
            break;
        keel_yield();
    }
    if (!(r->flags & 4))
        (void)keel_stream_finish(r->end[0], KEEL_FOREVER);
    return 0;
}

/* As a client we ask for everything at once. */
static void call(struct link *l)
{
    struct exchange *x[3] = {NULL};
    struct problem why;
    json_t *note;

    for (int i = 0; i < 3; i++)
        if (link_call(l, "x", NULL, &x[i], &why) < 0)
            x[i] = NULL;
    if (x[1]) {
        exchange_data_on(x[1], &(struct exchange_sink){place, landed, NULL, x});
        (void)exchange_grant(x[1], 1000);
    }
    if (x[0] && exchange_note(x[0], keel_after(KEEL_SECOND), &note, &why) == 0)
        json_decref(note);
    if (x[2])
        (void)exchange_send(x[2], 0, landing, 500, keel_after(KEEL_SECOND),
                            &why);
    for (int i = 0; i < 3; i++) {
        if (x[i] && i != 1)
            (void)exchange_reply(x[i], keel_after(KEEL_SECOND), NULL, &why);
        exchange_free(x[i]);
    }
}

static int main_run(void *arg)
{
    struct run *r = arg;
    const struct link_options o = {
        .server = !(r->flags & 1), .agent = "fuzz", .request = serve, .arg = r};
    struct keel_co *listener = NULL, *talker = NULL;
    struct link *l = NULL;
    struct problem why;

    if (keel_stream_pair(300, r->end) < 0 ||
        keel_spawn(NULL, listen_run, r, &listener) < 0 ||
        keel_spawn(NULL, talk_run, r, &talker) < 0)
        abort();
    if (link_open(r->end[1], &o, &l, &why) == 0) {
        r->end[1] = NULL;
        if (r->flags & 8)
            link_trust(l);
        if (r->flags & 1)
            call(l);
        (void)link_wait(l, keel_after(20 * KEEL_SECOND), &why);
        link_close(l);
    }
    keel_stream_close(r->end[1]);
    keel_assert(r->handlers == 0);
    keel_cancel(talker);
    keel_cancel(listener);
    keel_join(talker, KEEL_FOREVER, NULL);
    keel_join(listener, KEEL_FOREVER, NULL);
    keel_stream_close(r->end[0]);
    return 0;
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    struct run r = {.data = data + 2, .size = size - 2};

    if (size < 2)
        return 0;
    r.flags = data[0];
    r.step = data[1] + 1u;
    test_clock_install();
    if (keel_run(main_run, &r) < 0)
        abort();
    test_clock_remove();
    return 0;
}
