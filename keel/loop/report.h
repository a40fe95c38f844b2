/* SPDX-License-Identifier: MIT */
/* Inside keel: what the dump and the reports have in common, on paper. */
#ifndef KEEL_REPORT_H
#define KEEL_REPORT_H

#include <keel/debug.h>

#include "census.h"

enum { FRAMES_MOST = 24 };

/* Text that grows; what memory does not suffice for is left out. */
struct page {
    char *text;
    size_t used, size;
    bool fixed;       /* is not to grow */
    bool census_held; /* by who writes the page */
};

void page_print(struct page *p, const char *format, ...)
    __attribute__((format(printf, 2, 3)));
/* "0.500 s" behind `before`. */
void page_seconds(struct page *p, const char *before, keel_ns span);
/* Writes it to `fd` and begins anew. */
void page_flush(struct page *p, int fd);
void page_fini(struct page *p);

/* Where one is: its frames, innermost first. */
struct frames {
    int count;
    void *pc[FRAMES_MOST];
};
/* Follows the frame pointers from `frame` up, within [low, top): code built
 * without them ends the walk early, but never leads off the stack. */
void frames_walk(struct frames *f, void *frame, uintptr_t low, uintptr_t top);
/* The caller's own, from `frame` on: coroutine or thread. */
void frames_here(struct frames *f, void *frame);
void frames_parked(struct frames *f, const struct body *b);
/* Of a thread of the census that sleeps, its `hold` held. */
void frames_thread(struct frames *f, const struct presence *p);

void page_frames(struct page *p, const struct frames *f);
/* The caller of keel: ", at serve+0x1c"; nothing where no name is known. */
void page_place(struct page *p, const struct frames *f);
/* The call of keel that these frames are in; or the program's own function. */
void page_call(struct page *p, const struct frames *f);

/* What `w` waits for, and who has it.  Only coroutines of `l` are looked at,
 * the caller's own; NULL: of all loops, which sleep. */
void page_what(struct page *p, const struct waiter *w,
               const struct keel_loop *l);

/* A loop that nobody has. */
#define NOBODYS ((const struct keel_loop *)1)

/* Set by process.c when there are any. */
extern void (*_Atomic dump_processes)(struct page *p);

/* Gives the text to the hook, or standard error. */
void report(enum keel_report kind, struct page *p);

#endif
