/* SPDX-License-Identifier: MIT */
/* How a command talks: to people, to programs, about problems. */
#include "client/cli.h"

#include <poll.h>
#include <signal.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "client/progress.h"
#include "client/text.h"

/* A pipe that nobody reads any more. */
static bool reader_left(void)
{
    struct pollfd p = {.fd = STDOUT_FILENO, .events = POLLOUT};

    /* A look, that waits for nothing; also where no loop runs yet. */
    return poll(&p, 1, 0) > 0 && (p.revents & POLLERR);
}

void cli_flush(void)
{
    if ((fflush(stdout) == 0 && !ferror(stdout)) || !reader_left())
        return;
    progress_aside();
    signal(SIGPIPE, SIG_DFL);
    raise(SIGPIPE);
}

void cli_say(const struct cli *c, const char *format, ...)
{
    va_list list;

    if (c->verbose < 0 || c->json)
        return;
    va_start(list, format);
    if (*format)
        vprintf(_(format), list);
    va_end(list);
    putchar('\n');
    fflush(stdout);
}

void cli_trace(const struct cli *c, const char *format, ...)
{
    va_list list;

    if (c->verbose <= 0)
        return;
    progress_aside();
    fputs("ferry: ", stderr);
    va_start(list, format);
    vfprintf(stderr, _(format), list);
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

void cli_problem_trace(const struct cli *c, const struct problem *p)
{
    if (p->trace[0])
        cli_trace(c, "the server's log has it as trace=%s", p->trace);
}

void cli_problem(const struct cli *c, const struct problem *p)
{
    bool color = isatty(2) && !getenv("NO_COLOR");
    const char *advice = problem_advice(p);
    char words[1024];

    /* It advises -r, which was given. */
    if (p->id == PROBLEM_FILE_IS_DIRECTORY && c->recursive)
        advice = "";

    if (c->json) {
        cli_json(c, json_pack("{s:o}", "problem", problem_to_people(p)));
        return;
    }
    problem_sentence(p, words, sizeof(words));
    if (p->id == PROBLEM_NOT_REMOVED) { /* as was wished: no failure */
        fprintf(stderr, "ferry: %s\n", words);
        return;
    }
    fprintf(stderr, "%sferry: %s%s\n", color ? "\x1b[31m" : "", words,
            color ? "\x1b[0m" : "");
    if (advice[0])
        fprintf(stderr, "ferry: %s\n", advice);
    if (p->id != PROBLEM_USAGE) { /* --help says more than 'explain' */
        fputs("ferry: ", stderr);
        fprintf(stderr, _("('ferry explain %s' says more)"), problem_code(p));
        fputc('\n', stderr);
    }
    cli_problem_trace(c, p);
}

#define LISTED_MOST 20

bool cli_listed(struct cli_list *l, const struct problem *p)
{
    return ++l->shown[p->id] <= LISTED_MOST || !isatty(2);
}

void cli_list_end(const struct cli_list *l)
{
    for (size_t id = 0; id < PROBLEM_COUNT && isatty(2); id++) {
        if (l->shown[id] <= LISTED_MOST)
            continue;
        fprintf(stderr, _("ferry: ... and %u more (%s)"),
                l->shown[id] - LISTED_MOST,
                problem_row((enum problem_id)id)->code);
        fputc('\n', stderr);
    }
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

static void help_json(const struct cli *c, const struct command *k)
{
    if (!k->hidden)
        cli_json(c, json_pack("{s:s, s:s, s:s}", "command", k->name, "usage",
                              k->usage, "help", k->help));
}

void cli_help_json(const struct cli *c, const struct command *k)
{
    if (k) {
        help_json(c, k);
        return;
    }
    for (size_t i = 0; command_at(i); i++)
        help_json(c, command_at(i));
}
