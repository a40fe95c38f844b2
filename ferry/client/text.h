/* SPDX-License-Identifier: MIT */
/* Words for people: their language, and how wide they are on a terminal.
 *
 * The catalogue of messages is gettext's, domain "ferry".  Where a sentence is
 * printed it is looked up (cli_say, problems, help); where it is written it is
 * marked for xgettext by N_(), or stands in cli_say, cli_trace, .detail or
 * problems.def, which scripts/pot.sh knows.  --json is never translated. */
#ifndef FERRY_TEXT_H
#define FERRY_TEXT_H

#include <libintl.h>
#include <stdbool.h>
#include <stdio.h>
#include <wchar.h>

#define _(text) gettext(text)
#define N_(text) text

/* Takes the language from the environment, unless `plain`. */
void text_begin(bool plain);
/* Columns of UTF-8 text that is escaped already. */
unsigned text_columns(const char *text);
/* The character of `size` bytes, as text_utf8 counts them. */
wchar_t text_decode(const char *text, size_t size);
/* How many bytes of it fit into `columns`, and how many of these they take:
 * whole characters with their marks, and whole escapes. */
size_t text_fit(const char *text, unsigned columns, unsigned *ret_taken);
/* It, or what fits of it: shortened in the middle ("a-long…ame.tar"), or at the
 * end ("a long sen…"). */
void text_shorten(const char *text, unsigned columns, char *ret, size_t size);
void text_cut(const char *text, unsigned columns, char *ret, size_t size);
/* Blanks behind `text`, printed already, up to `columns`, at least one. */
void text_pad(const char *text, unsigned columns, FILE *to);
/* Of the terminal at `fd`; 0: it is none. */
unsigned text_terminal(int fd);

#endif
