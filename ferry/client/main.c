/* SPDX-License-Identifier: MIT */
/* ferry: the command line, the table of commands, and how problems are said. */
#include <errno.h>
#include <getopt.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include <keel/co.h>

#include "client/cli.h"
#include "client/interrupt.h"

static const struct command commands[] = {
    {"register", 1, 1, cmd_register, "USER@HOST[:PORT]",
     "Makes an account on a server that takes new ones, and logs in.\n\n"
     "    ferry register ada@files.example.org\n"},
    {"join", 1, 2, cmd_join, "LINK [NAME]",
     "Makes an account with an invite, and logs in.  The invite carries the\n"
     "server's address and key.  With '-' it is read from standard input.\n\n"
     "    ferry join 'ferry://files.example.org:9001/#...' ada\n"},
    {"login", 1, 1, cmd_login, "USER@HOST[:PORT]",
     "Logs in with the password and registers a key of this device, so that\n"
     "the password is not asked again.\n\n"
     "    ferry login ada@files.example.org\n"
     "    ferry login ada@files.example.org --as work\n"},
    {"logout", 0, 0, cmd_logout, "",
     "Forgets this device's key, here and on the server.\n"},
    {"whoami", 0, 0, cmd_whoami, "",
     "Says who is logged in where, and what is used.\n"},
    {"put", 1, -1, cmd_put, "FILE... [REMOTE]",
     "Sends files.  Without REMOTE they go to ':/'.  A transfer that was cut "
     "is\n"
     "continued by the same command.\n\n"
     "  --no-replace   refuse when the name is taken\n"
     "  --level LEVEL  wait until it is received, synced or committed "
     "(default)\n"
     "  --hash NAME    sha256 (default) or xxh128\n\n"
     "    ferry put maps.tar\n"
     "    ferry put maps.tar :/2026/maps.tar\n"},
    {"get", 1, -1, cmd_get, "REMOTE... [DEST]",
     "Fetches files.  Without DEST they come to the current directory.  A\n"
     "transfer that was cut is continued by the same command.\n\n"
     "    ferry get :/maps.tar\n"
     "    ferry get :/2026/maps.tar /tmp/\n"},
    {"ls", 0, 1, cmd_ls, "[REMOTE]",
     "Lists a directory of the server, ':/' by default.\n"},
    {"hash", 1, -1, cmd_hash, "FILE|REMOTE...",
     "Prints the hash of a file here or there: the root of its chunk tree.\n\n"
     "    ferry hash maps.tar :/maps.tar\n"},
    {"explain", 0, 1, cmd_explain, "[CODE]",
     "Says what a problem's code means, and what to do about it.\n\n"
     "    ferry explain quota.bytes\n"},
};
#define COMMANDS (sizeof(commands) / sizeof(*commands))

static const char global_help[] =
    "  -q, -v                 say less, or more\n"
    "  --json                 one JSON object a line on standard output\n"
    "  --as PROFILE           the login to use (default: FERRY_PROFILE, or the "
    "last)\n"
    "  --password-file FILE   the password, in place of asking (or "
    "FERRY_PASSWORD)\n"
    "  --accept-key           trust a server whose key is not known yet\n"
    "  --new-key              trust a server whose key has changed\n"
    "  --help, --version\n"
    "\n"
    "FERRY_TIMEOUT is how many seconds a server may be silent (default: 60).\n";

const struct command *command_find(const char *name)
{
    for (size_t i = 0; i < COMMANDS; i++) {
        if (strcmp(commands[i].name, name) == 0)
            return &commands[i];
    }
    return NULL;
}

/* ---- saying ------------------------------------------------------------------------- */

void cli_say(const struct cli *c, const char *format, ...)
{
    va_list list;

    if (c->verbose < 0 || c->json)
        return;
    va_start(list, format);
    vprintf(format, list);
    va_end(list);
    putchar('\n');
    fflush(stdout);
}

void cli_trace(const struct cli *c, const char *format, ...)
{
    va_list list;

    if (c->verbose <= 0)
        return;
    fputs("ferry: ", stderr);
    va_start(list, format);
    vfprintf(stderr, format, list);
    va_end(list);
    fputc('\n', stderr);
}

void cli_json(const struct cli *c, json_t *j)
{
    if (c->json && j) {
        json_dumpf(j, stdout, JSON_COMPACT | JSON_ENSURE_ASCII);
        putchar('\n');
        fflush(stdout);
    }
    json_decref(j);
}

void cli_problem(const struct cli *c, const struct problem *p)
{
    bool color = isatty(2) && !getenv("NO_COLOR");
    const char *advice = problem_advice(p);
    char words[1024];

    problem_sentence(p, words, sizeof(words));
    if (c->json) {
        json_t *j = problem_to_json(p);

        if (j)
            json_object_set_new(j, "message", json_string(words));
        cli_json(c, json_pack("{s:o}", "problem", j));
        return;
    }
    fprintf(stderr, "%sferry: %s%s\n", color ? "\x1b[31m" : "", words,
            color ? "\x1b[0m" : "");
    if (advice[0])
        fprintf(stderr, "ferry: %s\n", advice);
    if (p->id != PROBLEM_USAGE) /* --help says more than 'explain' */
        fprintf(stderr, "ferry: ('ferry explain %s' says more)\n",
                problem_code(p));
}

int cli_failed(const struct cli *c, int rc, const struct problem *p, int count,
               int *failed)
{
    if (rc >= 0)
        return 0;
    if (++*failed < count && problem_exit_status(p) == 1) {
        cli_problem(c, p);
        return 0; /* the others may do better, or did */
    }
    *c->why = *p;
    return rc;
}

/* ---- the command line ------------------------------------------------------------------ */

static void help_all(FILE *f)
{
    fputs("usage: ferry COMMAND [option]... [argument]...\n\n"
          "Carries files to and from a ferryd.\n\n",
          f);
    for (size_t i = 0; i < COMMANDS; i++)
        fprintf(f, "  ferry %-9s%s\n", commands[i].name, commands[i].usage);
    fprintf(f,
            "\nA REMOTE has a colon before its first slash: ':/path', "
            "'PROFILE:/path', or\n"
            "ferry://USER@HOST[:PORT]/path.  'ferry COMMAND --help' says "
            "more.\n\n%s",
            global_help);
}

static void help_one(const struct command *k)
{
    printf("usage: ferry %s [option]... %s\n\n%s\n%s", k->name, k->usage,
           k->help, global_help);
}

enum {
    JSON = 256,
    AS,
    PASSWORD_FILE,
    ACCEPT_KEY,
    NEW_KEY,
    NO_REPLACE,
    LEVEL,
    HASH,
    HELP,
    VERSION
};
static const struct option options[] = {
    {"json", no_argument, NULL, JSON},
    {"as", required_argument, NULL, AS},
    {"password-file", required_argument, NULL, PASSWORD_FILE},
    {"accept-key", no_argument, NULL, ACCEPT_KEY},
    {"new-key", no_argument, NULL, NEW_KEY},
    {"no-replace", no_argument, NULL, NO_REPLACE},
    {"level", required_argument, NULL, LEVEL},
    {"hash", required_argument, NULL, HASH},
    {"help", no_argument, NULL, HELP},
    {"version", no_argument, NULL, VERSION},
    {NULL, 0, NULL, 0},
};

/* 1: done already; 2: wrong, and getopt said why. */
static int parse(struct cli *c, const struct command *k, int argc, char **argv)
{
    int option;

    while ((option = getopt_long(argc, argv, "qv", options, NULL)) != -1) {
        switch (option) {
        case 'q':
            c->verbose = -1;
            break;
        case 'v':
            c->verbose = 1;
            break;
        case JSON:
            c->json = true;
            break;
        case AS:
            c->profile = optarg;
            break;
        case PASSWORD_FILE:
            c->password_file = optarg;
            break;
        case ACCEPT_KEY:
            c->accept_key = true;
            break;
        case NEW_KEY:
            c->new_key = true;
            break;
        case NO_REPLACE:
            c->no_replace = true;
            break;
        case LEVEL:
            c->level = optarg;
            break;
        case HASH:
            c->hash = optarg;
            break;
        case HELP:
            help_one(k);
            return 1;
        case VERSION:
            puts("ferry " FERRY_VERSION);
            return 1;
        default:
            return 2;
        }
    }
    c->argc = argc - optind;
    c->argv = argv + optind;
    return 0;
}

static int bad_usage(const struct cli *c, const char *detail, const char *usage)
{
    problem(c->why, USAGE, .detail = detail);
    cli_problem(c, c->why);
    if (usage)
        fprintf(stderr, "usage: %s\n", usage);
    return 2;
}

struct running {
    struct cli *c;
    const struct command *k;
};

static int run(void *arg)
{
    struct running *r = arg;

    return r->k->run(r->c);
}

static int level_ok(const char *level)
{
    return !level || strcmp(level, "committed") == 0 ||
           strcmp(level, "synced") == 0 || strcmp(level, "received") == 0;
}

int main(int argc, char **argv)
{
    struct problem why = {0};
    struct cli c = {.why = &why};
    struct running r = {&c, NULL};
    char usage[256], detail[128];
    int rc;

    if (argc < 2 || strcmp(argv[1], "help") == 0) {
        help_all(argc < 2 ? stderr : stdout);
        return argc < 2 ? 2 : 0;
    }
    r.k = command_find(argv[1]);
    if (!r.k && argv[1][0] != '-') {
        snprintf(detail, sizeof(detail), "'%.60s' is not a command", argv[1]);
        return bad_usage(&c, detail,
                         "ferry COMMAND ...; 'ferry help' lists them");
    }
    if (!r.k) {
        /* ferry --help, ferry --version */
        if (strcmp(argv[1], "--help") == 0 || strcmp(argv[1], "-h") == 0)
            help_all(stdout);
        else if (strcmp(argv[1], "--version") == 0)
            puts("ferry " FERRY_VERSION);
        else
            return bad_usage(&c, "the command comes first",
                             "ferry COMMAND [option]...");
        return 0;
    }
    argv[1] = argv[0]; /* getopt's complaints begin with it */
    rc = parse(&c, r.k, argc - 1, argv + 1);
    snprintf(usage, sizeof(usage), "ferry %s [option]... %s", r.k->name,
             r.k->usage);
    if (rc == 1)
        return 0;
    if (rc == 2 || c.argc < r.k->least ||
        (r.k->most >= 0 && c.argc > r.k->most) || !level_ok(c.level)) {
        snprintf(detail, sizeof(detail), "%s: %s", r.k->name,
                 rc == 2 ? "an option is wrong"
                 : !level_ok(c.level)
                     ? "--level is committed, synced or received"
                 : c.argc < r.k->least ? "an argument is missing"
                                       : "too many arguments");
        return bad_usage(&c, detail, usage);
    }
    interrupt_install();
    rc = keel_run(run, &r);
    if (rc == CLI_PARTLY)
        return CLI_PARTLY;
    if (rc >= 0)
        return 0;
    if (why.id == PROBLEM_NONE)
        problem(&why, INTERNAL, .errno_ = -rc, .detail = r.k->name);
    cli_problem(&c, &why);
    return problem_exit_status(&why);
}
