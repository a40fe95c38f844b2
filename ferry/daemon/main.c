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

static int daemon_or_command(int argc, char **argv)
{
    struct problem why = {0};
    char words[1024];
    const char *advice;
    char *help[4] = {NULL};
    int rc = poller_check(&why), asked = help_asked(argc, argv, help);

    if (asked) {
        argc = asked;
        argv = help;
    }
    if (rc == 0)
        rc = command_first(argc, argv) ? command_run(argc - 1, argv + 1, &why)
                                       : serve(argc, argv, &why);

    if (rc >= 0)
        return 0;
    fflush(stdout);
    problem_sentence(&why, words, sizeof(words));
    fprintf(stderr, "ferryd: %s\n", words);
    advice = problem_advice(&why);
    if (advice[0])
        fprintf(stderr, "ferryd: %s\n", advice);
    return problem_exit_status(&why);
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
