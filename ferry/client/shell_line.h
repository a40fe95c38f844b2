/* SPDX-License-Identifier: MIT */
/* A line of the prompt, in words.
 *
 *     put "my file" it\'s 'a b'   # quotes and backslashes as in a shell
 *     get \xff\x1b                any byte, as names are shown by ls
 *
 *     get *.txt                   a pattern: '*', '?' or '[' outside quotes
 *
 * Within '...' everything stands for itself; within "..." a backslash does its
 * work.  What follows '#' at the beginning of a word is a comment.  There are no
 * variables. */
#ifndef FERRY_SHELL_LINE_H
#define FERRY_SHELL_LINE_H

#include <keel/base.h>

#include "base/problem.h"

#define SHELL_LINE_BYTES 65536
#define SHELL_WORDS 1024

struct shell_words {
    int count;
    char *words[SHELL_WORDS + 1]; /* in `text`; NULL behind the last */
    /* The word as fnmatch(3) reads it, or NULL: it is no pattern. */
    char *patterns[SHELL_WORDS];
    char *text;
};
/* USAGE: a quote that does not end, "\x" without two digits, a NUL byte, a line
 * too long, too many words. */
int shell_split(const char *line, size_t size, struct shell_words *ret,
                struct problem *why);
void shell_words_fini(struct shell_words *w);

/* Whether an invite may be in it, which is a secret: "join" is one of its words,
 * or a link's beginning and the sign before the secret. */
bool shell_secret(const char *line, size_t size);

/* The word that a line ends in, for completing it: where it starts, and what it
 * means so far (into `ret`, cut when short). Quotes may be open. The number of
 * words before it is returned. */
int shell_last_word(const char *line, size_t size, size_t *ret_start, char *ret,
                    size_t ret_size);

/* `name` so that shell_split gives it back as one word; -EMSGSIZE. */
int shell_quote(const char *name, char *ret, size_t size);

#endif
