/* SPDX-License-Identifier: MIT */
/* The progress of a transfer: a line on the terminal that redraws itself ten
 * times a second, or nothing where standard error is no terminal, with -q or
 * --json.  It takes what the terminal takes at once: one that stands still, or
 * is gone, stops nothing.
 *
 *     big.bin  45% [###########               ] 461 MiB/1 GiB 812 MB/s 0:01
 *     45% [######     ] 4,503/10,000 files 18 MiB/40 MiB 61 MB/s 0:01 a.c
 *     45% [######     ] 7/10 files 1 GiB/2 GiB 61 MB/s 0:17 film.mov 62%
 *
 * A tree's line ends with the current file: of several large ones the one that
 * began first, with its own share, else the last small one.  A name that is too long is shortened in its middle.  The rate is that of the
 * last seconds; what was there before, and what is taken back before a retry,
 * is not part of it.  In the background it draws nothing. */
#ifndef FERRY_PROGRESS_H
#define FERRY_PROGRESS_H

#include <stdatomic.h>
#include <stdbool.h>

#include <keel/co.h>

#include "client/cli.h"
#include "transfer/transfer.h"

struct progress {
    char name[1024]; /* escaped; of a tree: the current file's */
    uint64_t total, done, began_with;
    keel_ns started;
    bool shown;
    struct keel_co *drawer;
    /* a tree's */
    bool tree;
    struct progress_part *large; /* under way, in the order they began */
    uint64_t files_total, files_done;
    atomic_uint_fast64_t counted_files, counted_bytes;
    atomic_bool counting; /* the totals still grow */
    /* where the rate is measured from; 0: from the start */
    keel_ns since, mark;
    uint64_t since_done, mark_done, since_files, mark_files;
    /* waiting to try again: what for, and until when; 0: it does not */
    char waiting[512];
    keel_ns waiting_until;
};
/* One file of `total` bytes.  Once more, for another attempt: it goes on, and its
 * time is that of all.  Zero the struct before the first. */
void progress_start(struct progress *p, const struct cli *c, const char *name,
                    uint64_t total);
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
/* Bytes that need not move: they are there, or their file failed. */
void progress_skip(struct progress *p, int64_t bytes);
/* A whole file that need not move. */
void progress_same(struct progress *p, uint64_t bytes);
/* A file that comes by parts, and may need several attempts.  Zeroed before the
 * first; each begins with what is there, and is broken when it failed: then
 * nothing of the file counts until it begins again.  What one attempt moved and
 * the next finds there has moved. */
struct progress_part {
    uint64_t first; /* there at the first attempt: from an earlier command */
    uint64_t there, moved; /* of this attempt */
    uint64_t sent;         /* moved in all attempts, also in vain */
    bool begun;
    /* progress.c's: of a tree, while it is under way and large */
    const char *name;
    uint64_t size;
    struct progress_part *next;
};
/* `name` is lent until it is broken or ended, one of which follows. */
void progress_begin(struct progress *p, struct progress_part *part,
                    const char *name, uint64_t size, uint64_t there);
void progress_part_moved(struct progress *p, struct progress_part *part,
                         uint64_t bytes);
void progress_broken(struct progress *p, struct progress_part *part);
void progress_ended(struct progress *p, struct progress_part *part);
/* Shows a countdown to `until` in place of the rest; NULL: it is over. */
void progress_waiting(struct progress *p, const char *what, keel_ns until);
/* Clears the line, for something to be printed; the next redraw brings it back.
 * Accepts one that was never started (zeroed). */
void progress_clear(struct progress *p);
/* The same for the one that is on the terminal, if any. */
void progress_aside(void);
/* Nothing is drawn from here on: somebody is being asked.  False: it goes on. */
void progress_hush(bool quiet);
/* Clears the line for good.  Accepts one that was never started. */
void progress_stop(struct progress *p);
/* "1.0 GiB in 1.2 s, 870 MB/s": of one file its size, and what was there
 * already; of a tree what moved. */
void progress_summary(const struct progress *p, char *ret, size_t size);

/* The line for a terminal of `columns`, wide characters counted as such; for
 * tests. */
void progress_line(const struct progress *p, keel_ns now, unsigned columns,
                   char *ret, size_t size);

#endif
