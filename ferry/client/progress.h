/* SPDX-License-Identifier: MIT */
/* The progress of one transfer: a line on the terminal that redraws itself ten
 * times a second, or nothing where standard error is no terminal, with -q or
 * --json.
 *
 *     big.bin  45% [###########               ] 461 MiB/1 GiB 812 MB/s 0:01
 */
#ifndef FERRY_PROGRESS_H
#define FERRY_PROGRESS_H

#include <keel/co.h>

#include "client/cli.h"
#include "transfer/transfer.h"

struct progress {
    char name[128]; /* escaped */
    uint64_t total, done, began_with;
    keel_ns started;
    bool shown;
    struct keel_co *drawer;
};
/* `done` bytes are there already, from an earlier run. */
void progress_start(struct progress *p, const struct cli *c, const char *name,
                    uint64_t total, uint64_t done);
/* For transfer_watch. */
void progress_moved(void *progress, uint64_t bytes);
/* Clears the line. */
void progress_stop(struct progress *p);
/* "1.0 GiB in 1.2 s, 870 MB/s" */
void progress_summary(const struct progress *p, char *ret, size_t size);

/* The line for a terminal of `columns`; for tests. */
void progress_line(const struct progress *p, keel_ns now, unsigned columns,
                   char *ret, size_t size);

#endif
