/* SPDX-License-Identifier: MIT */
/* What a pattern of the prompt stands for: the names in one directory, there or
 * here, that match its last part as fnmatch(3) does, in order.  A leading dot
 * is matched by a dot alone. */
#ifndef FERRY_SHELL_MATCH_H
#define FERRY_SHELL_MATCH_H

#include "client/shell_inside.h"

#define SHELL_MATCHES 10000

struct shell_matches {
    char **names;
    size_t count, room;
};
void shell_matches_fini(struct shell_matches *m);

/* Adds what the `word` means (relative to where the prompt is), each name with
 * the directory that it was written with; the word itself when `pattern` is
 * NULL or nothing matches.
 * USAGE: a pattern before the last '/', or more than SHELL_MATCHES names */
int shell_match_remote(struct shell *s, struct cli *c, const char *word,
                       const char *pattern, struct shell_matches *m);
int shell_match_local(struct cli *c, const char *word, const char *pattern,
                      struct shell_matches *m);

#endif
