/* SPDX-License-Identifier: MIT */
/* Options: a table, and the reading of a command line with it.
 *
 *     -r --json --sort size --sort=size -j8 -j 8 -rf
 *
 * Options and arguments may be mixed, and options may come before the command;
 * behind "--" all are arguments. */
#ifndef FERRY_OPTIONS_H
#define FERRY_OPTIONS_H

#include "client/cli.h"

enum {
    /* every command's */
    OPTION_QUIET = 1 << 0,
    OPTION_VERBOSE = 1 << 1,
    OPTION_JSON = 1 << 2,
    OPTION_AS = 1 << 3,
    OPTION_PASSWORD_FILE = 1 << 4,
    OPTION_ACCEPT_KEY = 1 << 5,
    OPTION_NEW_KEY = 1 << 6,
    OPTION_HELP = 1 << 7,
    OPTION_VERSION = 1 << 8,
    OPTIONS_GLOBAL = (1 << 9) - 1,
    /* some commands' */
    OPTION_RECURSIVE = 1 << 9,
    OPTION_DRY_RUN = 1 << 10,
    OPTION_PARENTS = 1 << 11,
    OPTION_FORCE = 1 << 12,
    OPTION_LONG = 1 << 13,
    OPTION_REVERSE = 1 << 14,
    OPTION_SORT = 1 << 15,
    OPTION_NO_REPLACE = 1 << 16,
    OPTION_IF_MATCH = 1 << 17,
    OPTION_LEVEL = 1 << 18,
    OPTION_HASH = 1 << 19,
    OPTION_RETRY = 1 << 20,
    OPTION_CONNECTIONS = 1 << 21,
    OPTION_EXCLUDE = 1 << 22,
    OPTION_INCLUDE = 1 << 23,
    OPTION_ALL = 1 << 24,
};

struct option_row {
    uint64_t bit;
    char letter;        /* 0: none */
    const char *name;   /* "json" */
    const char *value;  /* what it takes, as help calls it; NULL: nothing */
    const char *values; /* the only ones, "a b c"; NULL: any */
    const char *help;   /* lines of help, '\n' between */
    bool file;          /* the value is a file here */
};
/* The row at `i`, NULL behind the last. */
const struct option_row *option_at(size_t i);

/* Reads argv[1] and so on into `c`: fields, c->argc and c->argv (argv's own
 * array, arguments moved to its front).  With `named` the first argument is the
 * command; else *ret_command is what the caller says.  NULL: no command was
 * named.  USAGE: c->why says which word is wrong. */
int options_parse(struct cli *c, int argc, char **argv, bool named,
                  const struct command **ret_command);
/* "ferry ls [-lr] ..." into `ret`. */
void options_help(uint64_t options, FILE *to);

/* USAGE: there is no such command, but perhaps one that is called alike. */
int options_wrong_command(struct cli *c, const char *name);

#endif
