/* SPDX-License-Identifier: MIT */
/* Between keel and libkeel-patch, which makes libc's blocking calls park
 * (<keel/patch.h>).
 *
 * The library never looks for keel: keel may lie in the program, with no symbol
 * to find it by, or in libkeel.so, or in both.  Each keel looks for the library
 * when its first loop opens, among the symbols of the process, and lends it
 * this table.  Without the library nothing happens, and without keel the
 * library passes every call on. */
#ifndef KEEL_PATCHED_H
#define KEEL_PATCHED_H

#include <poll.h>
#include <stdbool.h>
#include <stddef.h>

#include <keel/base.h>

/* Changes with the table: the two may be of different installations. */
#define PATCHED_VERSION 1u
#define PATCHED_ATTACH "keel_patch_attach"

struct patched {
    unsigned version;
    /* True in a coroutine of this keel; safe in a signal handler. */
    bool (*inside)(void);
    /* The current coroutine. */
    const void *(*self)(void);
    const char *(*name)(void);
    keel_ns (*now)(void);
    /* -ECANCELED when a wait that begins now would be cancelled, else 0. */
    int (*allowed)(void);
    /* Parks until one of them may have an event, which is to be looked for:
     * 0, -ETIMEDOUT, -ECANCELED, -ENOMEM.  `what` is for the dump. */
    int (*wait)(const struct pollfd *fds, size_t count, keel_ns deadline,
                const char *what);
    int (*sleep)(keel_ns deadline);
    void (*yield)(void);
    /* As keel_blocking. */
    int (*blocking)(int (*fn)(void *arg), void *arg);
    /* From now on `hook` (or, with NULL, nothing) is called whenever a
     * coroutine is about to park; `what` it waits for may be NULL. */
    void (*watch)(void (*hook)(const char *what));
};

/* libkeel-patch's side: -EINVAL, when it is not of this version. */
typedef int patched_attach(const struct patched *keel);

/* keel's side, at the opening of a loop. */
void patched_offer(void);

#endif
