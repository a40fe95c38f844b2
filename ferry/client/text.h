/* SPDX-License-Identifier: MIT */
/* Words for people: their language, and how wide they are on a terminal.
 *
 * The catalogue of messages is gettext's, domain "ferry".  Where a sentence is
 * printed it is looked up (cli_say, problems, help); where it is written it is
 * marked for xgettext by N_(), or stands in cli_say, cli_trace, .detail or
 * problems.def, which scripts/pot.py knows.  --json is never translated. */
#ifndef FERRY_TEXT_H
#define FERRY_TEXT_H

#include <libintl.h>
#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>
#include <wchar.h>

#define _(text) gettext(text)
#define N_(text) text
#define NP_(one, many) one, many

/* Takes the language from the environment, unless `plain`. */
void text_begin(bool plain);
/* English from now on, or again what it was: for one command at the prompt. */
void text_plain(bool plain);
/* "12 files": what is counted, and how many of it. */
#define N_FILES NP_("%llu file", "%llu files")
/* Of files, directories and links: what a quota counts. */
#define N_NAMES NP_("%llu name", "%llu names")
#define N_DIRECTORIES NP_("%llu directory", "%llu directories")
#define N_MADE NP_("%llu directory made", "%llu directories made")
#define N_WOULD_MAKE                                                           \
    NP_("%llu directory would be made", "%llu directories would be made")
#define N_LINKS NP_("%llu link", "%llu links")
#define N_SAME NP_("%llu unchanged", "%llu unchanged")
#define N_FAILED NP_("%llu failed", "%llu failed")
#define text_some(what, n, ret, size) text_some_of(what, n, ret, size)
void text_some_of(const char *one, const char *many, uint64_t n, char *ret,
                  size_t size);
/* `more` behind what is in `ret`, as far as there is room. */
void text_more(const char *more, char *ret, size_t size);
/* "; 12 links" behind what is in `ret`, unless there are none. */
#define text_and(what, n, ret, size) text_and_of(what, n, ret, size)
void text_and_of(const char *one, const char *many, uint64_t n, char *ret,
                 size_t size);
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
/* A path as people see it: no slash behind another. */
void text_slashes(char *path);
/* Blanks behind `text`, printed already, up to `columns`, at least one. */
void text_pad(const char *text, unsigned columns, FILE *to);
/* Of the terminal at `fd`; 0: it is none. */
unsigned text_terminal(int fd);

#endif
