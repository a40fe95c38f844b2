/* SPDX-License-Identifier: MIT */
/* What every command shares: the global options, and how it talks to people
 * (standard error), to programs (--json on standard output, one object a line)
 * and to the shell (the exit status). */
#ifndef FERRY_CLI_H
#define FERRY_CLI_H

#include <stdio.h>

#include <jansson.h>

#include <keel/base.h>

#include "base/address.h"
#include "base/problem.h"

#define FERRY_VERSION "0.1.0"

#define FILTERS_MOST 64

struct cli {
    int verbose; /* -1 -q, 0, 1 -v */
    bool json;
    const char *profile; /* --as, or FERRY_PROFILE; NULL: the last login */
    const char *password_file; /* --password-file */
    bool accept_key, new_key;  /* login, register */
    bool no_replace;           /* put */
    const char *level;         /* put: committed, synced, received */
    const char *hash;          /* put, get, hash: sha256, xxh128 */
    bool recursive;            /* -r: put, get, rm, ls */
    bool dry_run;              /* put, get, rm: say what would be done */
    bool parents;              /* -p: mkdir */
    bool yes;                  /* -f: rm asks nothing */
    bool long_list, reverse;   /* -l: ls; --reverse */
    bool all;                  /* -a: lls at the prompt */
    const char *sort;          /* ls: name, size, time */
    const char *match;         /* --if-match ROOT: put, get */
    bool retry;                /* put, get: wait and go on by itself */
    unsigned connections;      /* -j: put, get; 1 to 16, 0: not given */
    struct filter {
        const char *pattern;
        bool include;
    } filters[FILTERS_MOST]; /* --exclude, --include: the first match decides */
    unsigned filter_count;
    bool help, version; /* --help, --version */
    int argc;           /* what is no option */
    char **argv;
    struct problem *why;
    struct session *kept; /* the prompt's, for one command after another */
};

/* What a command returns besides 0 and a negative errno with `why` filled: the
 * exit status, when all has been said.  CLI_PARTLY: some of its arguments
 * failed. */
#define CLI_PARTLY 5

/* A command's row in commands.c.  The help of a person, the completions of the
 * shells and the manual page's test all read it. */
enum argument_kind {
    ARGUMENT_NONE,
    ARGUMENT_LOCAL,
    ARGUMENT_REMOTE,
    ARGUMENT_BOTH,
    ARGUMENT_LOGIN,   /* USER@HOST */
    ARGUMENT_CODE,    /* of a problem */
    ARGUMENT_COMMAND, /* of ferry */
    ARGUMENT_WORDS,   /* one of `words`, then anything */
};
struct command {
    const char *name;
    int least, most; /* arguments; most -1: any number */
    int (*run)(struct cli *c);
    const char *usage;    /* what follows "ferry NAME" */
    const char *help;     /* a paragraph, its first sentence a summary */
    const char *examples; /* lines, each indented by four; NULL: none */
    uint64_t options;     /* of options.h, beside the global ones */
    enum argument_kind arguments;
    const char *words; /* "list remove" */
    bool hidden;       /* for the shells' completions */
    bool answers;      /* what it prints is what was asked for, also with -q */
};
const struct command *command_find(const char *name);
/* Its `usage` in the language of people. */
const char *command_usage(const struct command *k);
/* The row at `i`, NULL behind the last. */
const struct command *command_at(size_t i);

/* cmd_account.c */
int cmd_register(struct cli *c), cmd_join(struct cli *c),
    cmd_login(struct cli *c), cmd_logout(struct cli *c),
    cmd_whoami(struct cli *c);
/* cmd_people.c */
int cmd_spaces(struct cli *c), cmd_passwd(struct cli *c),
    cmd_devices(struct cli *c), cmd_profiles(struct cli *c),
    cmd_uploads(struct cli *c);
/* cmd_completion.c */
int cmd_completion(struct cli *c), cmd_complete_names(struct cli *c);
/* shell.c */
int cmd_shell(struct cli *c);
/* cmd_put.c, cmd_get.c, cmd_look.c */
int cmd_put(struct cli *c), cmd_get(struct cli *c), cmd_hash(struct cli *c),
    cmd_explain(struct cli *c);
/* cmd_ls.c, cmd_files.c */
int cmd_ls(struct cli *c), cmd_stat(struct cli *c), cmd_mkdir(struct cli *c),
    cmd_mv(struct cli *c), cmd_rm(struct cli *c);

/* "5 GiB of 10 GiB, 12 files of 10000, 1 MiB in unfinished uploads", of what
 * whoami and spaces answer. */
void usage_print(const json_t *j, char *ret, size_t size);
/* A date of nanoseconds since 1970, the time here, in strftime's words. */
void date_print(int64_t ns, const char *format, char ret[40])
    __attribute__((format(strftime, 2, 0)));
/* A line for people on standard output, unless -q or --json. */
void cli_say(const struct cli *c, const char *format, ...)
    __attribute__((format(printf, 2, 3)));
/* A page of a list is out.  A reader that left ("| head") ends the program as it
 * ends others, by SIGPIPE; what else went wrong is told in the end.  Nothing of
 * the kind stops a command that does more than show: cli_say, cli_json. */
void cli_flush(void);
/* A line on standard error with -v. */
void cli_trace(const struct cli *c, const char *format, ...)
    __attribute__((format(printf, 2, 3)));
/* An object for programs, with --json only; takes `j`. */
void cli_json(const struct cli *c, json_t *j);
/* The failures of many, as they are listed at the end.  A terminal shows the
 * first 20 of a kind: nobody reads a thousand lines that say the same.  Zeroed
 * at first. */
struct cli_list {
    unsigned shown[PROBLEM_COUNT];
};
/* Whether this one is to be printed. */
bool cli_listed(struct cli_list *l, const struct problem *p);
/* Says how many of each kind were not. */
void cli_list_end(const struct cli_list *l);
/* After one of `count` arguments, with its result `rc`.  What failed is counted;
 * 0 when the next one is to be tried, and the problem was said.  A negative rc
 * ends the command, with the problem in c->why: nothing was done and nothing is
 * left to try, or the server is out of reach. */
int cli_failed(const struct cli *c, int rc, const struct problem *p, int count,
               int *failed);
/* The problem, for whoever listens; on standard error, or as JSON. */
void cli_problem(const struct cli *c, const struct problem *p);
/* With -v: where the server's log has it. */
void cli_problem_trace(const struct cli *c, const struct problem *p);
/* The help of one command, or of all (k NULL). */
void cli_help(const struct command *k, FILE *to);
/* The same as an object a command. */
void cli_help_json(const struct cli *c, const struct command *k);

#endif
