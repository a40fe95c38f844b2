/* SPDX-License-Identifier: MIT */
/* ferryd: the daemon or a command, and the words and exit status for a
 * problem. */
#include <stdio.h>
#include <string.h>

#include "base/environment.h"
#include "base/streams.h"
#include "daemon/command.h"
#include "daemon/serve.h"

/* "ferryd help user" is "ferryd user --help". */
static int help_asked(int argc, char **argv, char **ret)
{
    static char help[] = "--help";

    if (argc < 2 || strcmp(argv[1], "help") != 0)
        return 0;
    ret[0] = argv[0];
    ret[1] = argc > 2 && command_is(argv[2]) ? argv[2] : help;
    ret[2] = help;
    return 3;
}

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

static int say_problem(const struct problem *why, bool json)
{
    const char *advice = problem_advice(why);
    char words[1024];

    /* On a full standard output the object is not seen. */
    if (json && command_print_problem(why) == 0 && streams_end() == 0)
        return problem_exit_status(why);
    problem_sentence(why, words, sizeof(words));
    fprintf(stderr, "ferryd: %s\n", words);
    if (advice[0])
        fprintf(stderr, "ferryd: %s\n", advice);
    return problem_exit_status(why);
}

static int daemon_or_command(int argc, char **argv)
{
    struct problem why = {0};
    char *help[4] = {NULL};
    int rc = poller_check(&why), asked = help_asked(argc, argv, help);
    bool command;

    if (asked) {
        argc = asked;
        argv = help;
    }
    command = command_first(argc, argv);
    if (rc == 0)
        rc = command ? command_run(argc - 1, argv + 1, &why)
                     : serve(argc, argv, &why);

    if (rc >= 0)
        return 0;
    fflush(stdout);
    return say_problem(&why, command && json_asked(argc, argv));
}

int main(int argc, char **argv)
{
    int status, lost;

    streams_begin();
    status = daemon_or_command(argc, argv);
    lost = streams_end();
    if (!lost || status != 0)
        return status;
    fprintf(stderr, "ferryd: standard output: %s.\n", strerror(lost));
    return 1;
}
