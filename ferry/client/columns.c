/* SPDX-License-Identifier: MIT */
#include "client/columns.h"

#include <errno.h>

#include "client/text.h"

#define GAP 2

int columns_add(struct columns *k, const char *name, FILE *to)
{
    if (k->width == 0) {
        fprintf(to, "%s\n", name);
        return 0;
    }
    if (k->count == COLUMNS_NAMES)
        columns_flush(k, to);
    k->names[k->count] = keel_strdup(name);
    if (!k->names[k->count])
        return -ENOMEM;
    k->wide[k->count] = text_columns(name);
    k->count++;
    return 0;
}

void columns_fini(struct columns *k)
{
    for (unsigned i = 0; i < k->count; i++)
        keel_free(k->names[i]);
    k->count = 0;
}

/* How wide the names are in `rows` lines; fills `ret` for each column. */
static unsigned width_of(const struct columns *k, unsigned rows, unsigned *ret)
{
    unsigned width = 0;

    for (unsigned first = 0, column = 0; first < k->count;
         first += rows, column++) {
        unsigned most = 0;

        for (unsigned i = first; i < first + rows && i < k->count; i++)
            most = k->wide[i] > most ? k->wide[i] : most;
        ret[column] = most + GAP;
        width += most + GAP;
    }
    return width - GAP; /* none behind the last */
}

void columns_flush(struct columns *k, FILE *to)
{
    unsigned widths[COLUMNS_NAMES], rows = 1;

    if (k->count == 0)
        return;
    /* The fewest lines that fit; a name too long for any has its own. */
    while (rows < k->count && width_of(k, rows, widths) > k->width)
        rows++;
    width_of(k, rows, widths);
    for (unsigned row = 0; row < rows; row++) {
        for (unsigned i = row, column = 0; i < k->count; i += rows, column++) {
            fputs(k->names[i], to);
            if (i + rows < k->count)
                text_pad(k->names[i], widths[column], to);
        }
        fputc('\n', to);
    }
    columns_fini(k);
}
