/* SPDX-License-Identifier: MIT */
/* Which parts of a file's bytes need no room on a disk. */
#ifndef FERRY_HOLES_H
#define FERRY_HOLES_H

#include <keel/base.h>

/* Blocks as file systems have them, and as O_DIRECT wants them. */
#define HOLE_BLOCK ((size_t)4096)

/* How many bytes from the start of `bytes` (`size` > 0) are all of one kind:
 * blocks of zeros, or blocks that hold something.  Whole blocks, but for the
 * last one. */
size_t hole_run(const uint8_t *bytes, size_t size, bool *ret_zero);

#endif
