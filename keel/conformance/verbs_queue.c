/* SPDX-License-Identifier: MIT */
#include "conform.h"

#include <keel/queue.h>
#include <keel/shqueue.h>

/* ---- in one program: the number is the pointer ---- */

static int here_new(struct conform *c, size_t slots)
{
    /* That of one loop, where there is only one. */
    enum keel_queue_kind kind = c->kind->is == COROUTINE && !c->kind->far_away
                                    ? KEEL_QUEUE_LOCAL
                                    : KEEL_QUEUE_SHARED;

    return keel_queue_new(slots, kind, &c->queue_here);
}

static void here_free(struct conform *c)
{
    keel_queue_free(keel_take(c->queue_here));
}

static int here_put(struct conform *c, int number, keel_ns deadline)
{
    return keel_queue_put(c->queue_here, (void *)(intptr_t)number, deadline);
}

static int here_get(struct conform *c, keel_ns deadline, int *ret)
{
    void *item;
    int rc = keel_queue_get(c->queue_here, deadline, &item);

    if (rc == 0)
        *ret = (int)(intptr_t)item;
    return rc;
}

static int here_peek(struct conform *c, int *ret)
{
    void *item;
    int rc = keel_queue_peek(c->queue_here, &item);

    if (rc == 0)
        *ret = (int)(intptr_t)item;
    return rc;
}

static size_t here_count(struct conform *c)
{
    return keel_queue_count(c->queue_here);
}

static bool here_empty(struct conform *c)
{
    return keel_queue_empty(c->queue_here);
}

static bool here_full(struct conform *c)
{
    return keel_queue_full(c->queue_here);
}

static int here_task_done(struct conform *c)
{
    return keel_queue_task_done(c->queue_here);
}

static int here_join(struct conform *c, keel_ns deadline)
{
    return keel_queue_join(c->queue_here, deadline);
}

static void here_close(struct conform *c)
{
    keel_queue_close(c->queue_here);
}

static void here_close_now(struct conform *c)
{
    keel_queue_close_now(c->queue_here, NULL);
}

const struct queue_verbs queue_here = {
    .new = here_new,
    .free = here_free,
    .put = here_put,
    .get = here_get,
    .peek = here_peek,
    .count = here_count,
    .empty = here_empty,
    .full = here_full,
    .task_done = here_task_done,
    .join = here_join,
    .close = here_close,
    .close_now = here_close_now,
};

/* ---- between processes: the number is the message ---- */

static int between_new(struct conform *c, size_t slots)
{
    return keel_shqueue_new(slots, sizeof(int), &c->queue_between);
}

static void between_free(struct conform *c)
{
    keel_shqueue_free(keel_take(c->queue_between));
}

static int between_put(struct conform *c, int number, keel_ns deadline)
{
    return keel_shqueue_put(c->queue_between, &number, sizeof(number),
                            deadline);
}

static int between_get(struct conform *c, keel_ns deadline, int *ret)
{
    size_t size;
    int rc =
        keel_shqueue_get(c->queue_between, ret, sizeof(*ret), deadline, &size);

    return rc == 0 && size != sizeof(*ret) ? -EPROTO : rc;
}

static int between_peek(struct conform *c, int *ret)
{
    size_t size;

    return keel_shqueue_peek(c->queue_between, ret, sizeof(*ret), &size);
}

static size_t between_count(struct conform *c)
{
    return keel_shqueue_count(c->queue_between);
}

static bool between_empty(struct conform *c)
{
    return keel_shqueue_empty(c->queue_between);
}

static bool between_full(struct conform *c)
{
    return keel_shqueue_full(c->queue_between);
}

static int between_task_done(struct conform *c)
{
    return keel_shqueue_task_done(c->queue_between);
}

static int between_join(struct conform *c, keel_ns deadline)
{
    return keel_shqueue_join(c->queue_between, deadline);
}

static void between_close(struct conform *c)
{
    keel_shqueue_close(c->queue_between);
}

static void between_close_now(struct conform *c)
{
    (void)keel_shqueue_close_now(c->queue_between);
}

const struct queue_verbs queue_between = {
    .new = between_new,
    .free = between_free,
    .put = between_put,
    .get = between_get,
    .peek = between_peek,
    .count = between_count,
    .empty = between_empty,
    .full = between_full,
    .task_done = between_task_done,
    .join = between_join,
    .close = between_close,
    .close_now = between_close_now,
};
