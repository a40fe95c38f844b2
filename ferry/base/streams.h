/* SPDX-License-Identifier: MIT */
/* Standard input, output and error of a program. */
#ifndef FERRY_STREAMS_H
#define FERRY_STREAMS_H

/* First thing in main: those that are closed lead to /dev/null.  The next file
 * or socket would have their number otherwise, and be printed into. */
void streams_begin(void);

/* Last thing: 0, or the errno of what kept standard output from taking all that
 * was printed.  A reader who went away has read what he wanted: 0. */
int streams_end(void);

#endif
