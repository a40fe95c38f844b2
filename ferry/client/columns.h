/* SPDX-License-Identifier: MIT */
/* Names side by side, as ls shows them on a terminal: down, then across, as
 * wide as the terminal is. */
#ifndef FERRY_COLUMNS_H
#define FERRY_COLUMNS_H

#include <stdio.h>

#include <keel/base.h>

#define COLUMNS_NAMES 1000

struct columns {
    unsigned width; /* of the terminal; 0: one name a line, at once */
    unsigned count;
    char *names[COLUMNS_NAMES];
    unsigned wide[COLUMNS_NAMES];
};
/* `name` is escaped already.  Prints what has gathered when it is full.
 * -ENOMEM */
int columns_add(struct columns *k, const char *name, FILE *to);
void columns_flush(struct columns *k, FILE *to);
/* Drops what was not printed. */
void columns_fini(struct columns *k);

#endif
