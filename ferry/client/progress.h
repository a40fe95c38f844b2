/* SPDX-License-Identifier: MIT */
/* The progress of a transfer: a line on the terminal that redraws itself ten
 * times a second, or nothing where standard error is no terminal, with -q or
 * --json.  It takes what the terminal takes at once: one that stands still, or
 * is gone, stops nothing.
 *
 *     big.bin  45% [###########               ] 461 MiB/1 GiB 812 MB/s 0:01
 *     45% [######     ] 4,503/10,000 files 18 MiB/40 MiB 61 MB/s 0:01 src/a.c
 *
 * The rate is that of the last seconds; what was there before, and what is
 * taken back before a retry, is not part of it. */
#ifndef FERRY_PROGRESS_H
#define FERRY_PROGRESS_H

#include <stdatomic.h>

#include <keel/co.h>

#include "client/cli.h"
#include "transfer/transfer.h"

struct progress {
    char name[128]; /* escaped; of a tree: the current file's */
    uint64_t total, done, began_with;
    keel_ns started;
    bool shown;
    struct keel_co *drawer;
    /* a tree's */
    bool tree;
    uint64_t files_total, files_done;
    atomic_uint_fast64_t counted_files, counted_bytes;
    atomic_bool counting; /* the totals still grow */
    /* where the rate is measured from; 0: from the start */
    keel_ns since, mark;
    uint64_t since_done, mark_done;
    /* waiting to try again: what for, and until when; 0: it does not */
    char waiting[160];
    keel_ns waiting_until;
};
/* One file; `done` bytes are there already, from an earlier run. */
void progress_start(struct progress *p, const struct cli *c, const char *name,
                    uint64_t total, uint64_t done);
/* Many files.  Totals are told as they are found, from any thread, until
 * progress_counted; never counted they are not shown. */
void progress_start_tree(struct progress *p, const struct cli *c);
void progress_count(struct progress *p, uint64_t files, uint64_t bytes);
void progress_counted(struct progress *p);
/* The file that is under way, and that it is done. */
void progress_file(struct progress *p, const char *name, size_t size);
void progress_file_done(struct progress *p);

/* Bytes moved; for transfer_watch. */
void progress_moved(void *progress, uint64_t bytes);
/* Bytes that need not move: they are there, or their file failed.  Negative: it
 * turned out otherwise. */
void progress_skip(struct progress *p, int64_t bytes);
/* Bytes moved in vain: they will move again. */
void progress_back(struct progress *p, uint64_t bytes);
/* Shows a countdown to `until` in place of the rest; NULL: it is over. */
void progress_waiting(struct progress *p, const char *what, keel_ns until);
/* Clears the line, for something to be printed; the next redraw brings it back.
 * Accepts one that was never started (zeroed). */
void progress_clear(struct progress *p);
/* Clears the line for good. */
void progress_stop(struct progress *p);
/* "1.0 GiB in 1.2 s, 870 MB/s" */
void progress_summary(const struct progress *p, char *ret, size_t size);

/* The line for a terminal of `columns`, wide characters counted as such; for
 * tests. */
void progress_line(const struct progress *p, keel_ns now, unsigned columns,
                   char *ret, size_t size);

#endif
