/* SPDX-License-Identifier: MIT */
/* ferryd: the command line, and the words and exit status for a problem. */
#include <stdio.h>
#include <string.h>

#include "base/log.h"
#include "daemon/conf.h"
#include "daemon/serve.h"

static const struct {
    const char *name;
    int (*run)(int argc, char **argv, struct problem *why);
} commands[] = {
    {"invite", command_invite},
};

static int run_daemon(int argc, char **argv, struct problem *why)
{
    struct conf c;
    int rc;

    conf_init(&c);
    rc = conf_parse(&c, argc, argv, why);
    if (rc == 0) {
        log_open(2, c.verbose > 0   ? LOG_DEBUG
                    : c.verbose < 0 ? LOG_WARN
                                    : LOG_INFO);
        rc = serve(&c, why);
    }
    conf_fini(&c);
    return rc;
}

int main(int argc, char **argv)
{
    struct problem why = {0};
    char words[1024];
    const char *advice;
    int (*run)(int, char **, struct problem *) = run_daemon;
    int rc;

    for (size_t i = 0; i < sizeof(commands) / sizeof(*commands); i++) {
        if (argc > 1 && strcmp(argv[1], commands[i].name) == 0) {
            run = commands[i].run;
            argc--;
            argv++;
            break;
        }
    }
    rc = run(argc, argv, &why);
    if (rc >= 0)
        return 0;
    problem_sentence(&why, words, sizeof(words));
    fprintf(stderr, "ferryd: %s\n", words);
    advice = problem_advice(&why);
    if (advice[0])
        fprintf(stderr, "ferryd: %s\n", advice);
    return problem_exit_status(&why);
}
