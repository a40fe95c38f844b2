/* SPDX-License-Identifier: MIT */
/* Inside the prompt: shell.c runs lines, shell_edit.c reads them from a
 * terminal. */
#ifndef FERRY_SHELL_INSIDE_H
#define FERRY_SHELL_INSIDE_H

#include <keel/co.h>

#include "client/cli.h"
#include "client/home.h"
#include "client/session.h"
#include "client/shell_line.h"
#include "client/shell_place.h"

struct editor;

struct shell {
    struct cli base; /* the options of `ferry shell`, for every command */
    struct home home;
    struct session kept;
    struct place here;
    struct editor *editor;   /* NULL: no terminal */
    struct keel_co *running; /* the command, or the line being read */
    struct keel_co *whole;   /* the prompt's own */
    struct place before;     /* for `cd -` */
    bool interrupted;        /* it was, by ^C */
    bool leave;
};

/* A word of the prompt's own, beside ferry's commands. */
struct shell_word {
    const char *name;
    int least, most;
    int (*run)(struct shell *s, struct cli *c);
    const char *usage, *help;
    enum argument_kind arguments;
    uint64_t options;
};
/* The row at `i`, NULL behind the last. */
const struct shell_word *shell_word_at(size_t i);
/* Whether ferry's command is one at the prompt too. */
bool shell_has(const struct command *k);
/* ferry's command of that name, or of another that programs of the kind have for
 * it, as `mput`; *ret_all: every argument is a source. */
const struct command *shell_command(const char *name, bool *ret_all);
/* The kind of the argument at `at`, 0 first. */
enum argument_kind shell_kind(enum argument_kind kind, const char *command,
                              int at);

/* ---- shell_edit.c ---- */
int editor_new(struct shell *s, struct editor **ret, struct problem *why);
void editor_free(struct editor *e); /* saves the history; accepts NULL */
/* A line without its end, lent until the next call; in a coroutine with a stack
 * of EDITOR_STACK.  -ENODATA at the end, -ECANCELED after ^C. */
#define EDITOR_STACK ((size_t)512 << 10)
int editor_read(struct editor *e, const char **ret, size_t *ret_size);
/* The terminal has another size ('w'), or the program went on ('c'). */
void editor_told(struct editor *e, char what);
/* Names of the server may have changed. */
void editor_forget(struct editor *e);

#endif
