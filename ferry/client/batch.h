/* SPDX-License-Identifier: MIT */
/* Many requests at once, over one connection or several.
 *
 * A task is a function that makes its requests on the session it is given, in
 * a coroutine of its own; the window bounds how many there are.  A link may be
 * lost under them: then all its tasks return what the link says, and
 *
 *   with --retry      the batch waits, logs in again and runs each of these
 *                     tasks once more from its beginning (retry.h);
 *   without           the batch is broken: no task is begun any more, and
 *                     batch_join tells why.
 *
 * A batch, its tasks and its callers are on one loop. */
#ifndef FERRY_BATCH_H
#define FERRY_BATCH_H

#include "client/cli.h"
#include "client/progress.h"
#include "client/session.h"

struct batch;

struct batch_options {
    struct cli *c;             /* `retry` and `connections` are looked at */
    const struct place *place; /* borrowed until batch_close */
    unsigned window;           /* tasks at once, in all; 0: 250 a connection */
    struct progress *progress; /* told of waiting; may be NULL, or set later */
};

/* Logs in, once now; the other connections of -j follow when there is work for
 * them, and those that cannot be had are done without.  What session_open may
 * say. */
int batch_open(const struct batch_options *o, struct batch **ret,
               struct problem *why);
/* Cancels what runs, says goodbye, frees.  Accepts NULL. */
void batch_close(struct batch *b);
void batch_progress(struct batch *b, struct progress *p);

/* 0, or negative with `why` filled.  May be called several times with --retry,
 * the calls of one task one after the other. `s` is lent until it returns, and
 * all its exchanges must have been freed by then. */
typedef int batch_fn(struct session *s, void *arg, struct problem *why);
/* After the last call of a task's function, in its coroutine; may wait. */
typedef void batch_done_fn(void *arg, int rc, const struct problem *why);

/* Waits for a place in the window, then starts the task.  On error neither
 * function is called: the batch is broken (its problem in `why`), memory is
 * out, or the caller was cancelled.  `done` may be NULL. */
int batch_go(struct batch *b, batch_fn *fn, batch_done_fn *done, void *arg,
             struct problem *why);
/* The same here and now, outside of the window: returns fn's result. */
int batch_run(struct batch *b, batch_fn *fn, void *arg, struct problem *why);
/* Waits for all tasks.  Negative: the batch is broken. */
int batch_join(struct batch *b, struct problem *why);
/* Then a task's failure is the connection's, told once by batch_join, and not
 * one of its own. */
bool batch_broken(const struct batch *b);
/* The first session, when nothing else is under way. */
const struct session *batch_session(const struct batch *b);
KEEL_AUTO(batch, struct batch *, batch_close)

#endif
