/* SPDX-License-Identifier: MIT */
/* ferry: reads the command line, runs the command, says how it ended. */
#include <stdio.h>
#include <string.h>
#include <unistd.h>

#include <keel/co.h>

#include "base/environment.h"
#include "base/streams.h"
#include "client/cli.h"
#include "client/interrupt.h"
#include "client/options.h"
#include "client/session.h"
#include "client/text.h"

/* Whether --json is there, before anything is read: what is wrong with the
 * other options is said as it asks. */
static bool json_asked(int argc, char **argv)
{
    for (int i = 1; i < argc && strcmp(argv[i], "--") != 0; i++) {
        if (strcmp(argv[i], "--json") == 0)
            return true;
    }
    return false;
}

static int bad_usage(const struct cli *c, const struct command *k)
{
    cli_problem(c, c->why);
    if (k && !c->json)
        fprintf(stderr, _("usage: ferry %s [option]...%s%s\n"), k->name,
                *k->usage ? " " : "", command_usage(k));
    return problem_exit_status(c->why);
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

static int command_run(struct cli *c, const struct command *k)
{
    struct running r = {c, k};
    int rc;

    interrupt_install();
    rc = keel_run(run, &r);
    if (rc >= 0)
        return rc;
    if (c->why->id == PROBLEM_NONE)
        run_failed(rc, k->name, c->why);
    cli_problem(c, c->why);
    return problem_exit_status(c->why);
}

static int client(int argc, char **argv)
{
    struct problem why = {0};
    struct cli c = {.why = &why, .json = json_asked(argc, argv)};
    const struct command *k = NULL;
    int rc;

    text_begin(c.json);
    rc = options_parse(&c, argc, argv, true, &k);
    if (rc < 0)
        return bad_usage(&c, k);
    if (c.version && c.json)
        cli_json(&c, json_pack("{s:s}", "version", FERRY_VERSION));
    else if (c.version)
        puts("ferry " FERRY_VERSION);
    if (c.version)
        return 0;
    /* Nothing but ferry, at a terminal: the prompt. */
    if (!k && !c.help && isatty(0) && isatty(1))
        k = command_find("shell");
    if (c.json && (c.help || !k))
        cli_help_json(&c, k);
    else if (c.help || !k)
        cli_help(k, c.help ? stdout : stderr);
    if (c.help || !k)
        return c.help ? 0 : 2;
    if (session_patience_check(&why) < 0 || poller_check(&why) < 0)
        return bad_usage(&c, NULL);
    return command_run(&c, k);
}

/* What is not there where it was to go must not look like success: a full disk
 * behind 'ferry ls --json >list'. */
static int output_lost(int error)
{
    struct problem why = {0};
    struct cli c = {.why = &why};

    problem(&why, FILE_LOCAL, .errno_ = error, .name = _("standard output"));
    cli_problem(&c, &why);
    return problem_exit_status(&why);
}

int main(int argc, char **argv)
{
    int status, lost;

    streams_begin();
    status = client(argc, argv);
    lost = streams_end();
    return lost && status == 0 ? output_lost(lost) : status;
}
