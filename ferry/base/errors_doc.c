/* SPDX-License-Identifier: MIT */
/* Prints docs/errors.md from the catalogue. */
#include <stdio.h>
#include <string.h>

#include "base/errors_doc.h"
#include "base/problem.h"

int errors_doc_print(FILE *to)
{
    fputs("# Problems and what to do about them\n\n"
          "<!-- Generated from ferry/base/problems.def by `make docs`. -->\n\n"
          "`ferry explain CODE` prints the same. A code never changes its "
          "meaning; scripts may\nrely on it and on the exit status. *Such "
          "words* stand for values of the case at hand.\n",
          to);
    for (enum problem_id id = PROBLEM_NONE + 1; id < PROBLEM_COUNT; id++) {
        const struct problem_row *row = problem_row(id);

        char shape[1024];

        /* "<limit>" would be a tag to Markdown. */
        problem_shape(row->sentence, shape, sizeof(shape));
        for (char *at = shape; *at; at++) {
            if (*at == '<' || *at == '>')
                *at = '*';
        }
        fprintf(to, "\n## %s\n\n%s\n", row->code, shape);
        if (*row->advice)
            fprintf(to, "\n%s\n", row->advice);
        fprintf(to, "\nExit status %d, `%s`.\n", row->exit_status,
                strerrorname_np(row->errno_));
    }
    return ferror(to) ? -1 : 0;
}
