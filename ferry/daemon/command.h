/* SPDX-License-Identifier: MIT */
/* Administration's command line: ferryd GROUP [NAME] WORD... --data DIR.
 *
 * A command makes one request of admin.h and shows the answer: a table for
 * people, an object a line with --json.  It asks the daemon that runs on DATA,
 * and does the work itself under DATA's lock when none does; which of the two
 * it was shows nowhere. */
#ifndef FERRY_COMMAND_H
#define FERRY_COMMAND_H

#include <getopt.h>

#include "base/problem.h"
#include "base/settings.h"
#include "daemon/admin.h"

#define WORDS_MOST 4

/* What the command line said. */
struct order {
    const char *data, *public_address, *password_file, *path, *owner;
    bool json, prometheus, admin, invite, everybody, repair, yes;
    int64_t uses, lifetime_s;
    int64_t quota_bytes, quota_files; /* -1: not given */
    char *words[WORDS_MOST];
    unsigned count;
    json_t *scram; /* of the password that was asked for; or NULL */
    struct problem *why;
};

/* Options that a command takes besides --data, --json and --help. */
enum {
    TAKES_PUBLIC = 1 << 0,
    TAKES_PASSWORD = 1 << 1, /* and asks for one */
    TAKES_PATH = 1 << 2,
    TAKES_OWNER = 1 << 3,
    TAKES_PROMETHEUS = 1 << 4,
    TAKES_ADMIN = 1 << 5,
    TAKES_INVITE = 1 << 6,
    TAKES_EVERYBODY = 1 << 7,
    TAKES_REPAIR = 1 << 8,
    TAKES_USES = 1 << 9,
    TAKES_EXPIRES = 1 << 10,
    TAKES_QUOTA = 1 << 11,
    TAKES_YES = 1 << 12,
};
struct command {
    const char *group, *name; /* name NULL: the group is the command */
    unsigned least, most;     /* words */
    unsigned takes;
    int (*run)(struct order *o); /* on a loop */
    const char *words;           /* for usage */
};
extern const struct command people_commands[], space_commands[],
    uploads_commands[], look_commands[]; /* each ends in a row of zeros */
extern const char help_user[], help_space[], help_invite[], help_uploads[],
    help_sessions[], help_check[], help_stats[];

/* Whether argv[1] begins an administration command. */
bool command_is(const char *word);
/* Whether a command is what argv is about.  Its word may stand behind options
 * that every command takes, as in `ferryd --data DIR user list`: it is moved
 * to argv[1] before them. */
bool command_first(int argc, char **argv);
/* The command that was meant by a word that is none; or NULL. */
const char *command_near(const char *word);
/* argv from the group's word on.  Prints; returns 0, 1 after help, or a
 * problem. */
int command_run(int argc, char **argv, struct problem *why);

/* Makes the request, takes it, and gives each row of the answer to `row` (NULL:
 * none come).  `ret_ok` is the caller's; NULL: not wanted. */
int command_ask(struct order *o, json_t *request,
                int (*row)(const json_t *row, void *arg), void *arg,
                json_t **ret_ok);
int command_print(const json_t *j, struct problem *why); /* one line */
/* {"problem": {...}}, as `ferry --json` has it.  NO_MEMORY */
int command_print_problem(const struct problem *p);
/* Makes the request, and shows its answer: itself with --json, else by `say`. */
int command_show(struct order *o, json_t *request,
                 void (*say)(const json_t *ok));
/* The same with a line: `mark`, the answer's "name", and what was `done`. */
int command_tell(struct order *o, json_t *request, const char *mark,
                 const char *done);
/* The same for rows: a table for people, filled by `row`, or `none`. */
int command_list(struct order *o, json_t *request, const char *const *heads,
                 int (*row)(const json_t *row, void *table), const char *none);
/* A request about `name`, with the quota that was given. */
json_t *command_about(const struct order *o, const char *what,
                      const char *name);

/* The words for an option that getopt_long ('?' or ':') did not take: it runs
 * with opterr 0, so that this is said once, by main. */
int option_wrong(int what, int argc, char **argv, struct problem *why);
/* A value by one of settings.h's readers: "--uses: ..." */
int option_value(setting_reader *read, const char *name, int64_t low,
                 int64_t high, const char *value, int64_t *ret,
                 struct problem *why);

#endif
