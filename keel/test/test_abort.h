/* SPDX-License-Identifier: MIT */
/* For tests of programmer's mistakes. */
#ifndef KEEL_TEST_ABORT_H
#define KEEL_TEST_ABORT_H

#include "test.h"

#include <signal.h>
#include <sys/wait.h>
#include <unistd.h>

static inline int aborts_in_co(void *arg)
{
    void (*const *fn)(void) = arg;

    (*fn)();
    return 0;
}

/* In a child, because it dies: `fn`, run by coroutine 'main', and what it is
 * to say. */
static inline void assert_aborts(void (*fn)(void), const char *what)
{
    int out[2], status;
    char said[4096];
    size_t n = 0;
    ssize_t got;
    pid_t pid;

    assert_int_equal(pipe(out), 0);
    pid = fork();
    if (pid == 0) {
        dup2(out[1], STDERR_FILENO);
        signal(SIGABRT, SIG_DFL);
        keel_run(aborts_in_co, &fn);
        _exit(0);
    }
    close(out[1]);
    while ((got = read(out[0], said + n, sizeof said - 1 - n)) > 0)
        n += (size_t)got;
    said[n] = '\0';
    close(out[0]);
    assert_int_equal(waitpid(pid, &status, 0), pid);
    assert_true(WIFSIGNALED(status) && WTERMSIG(status) == SIGABRT);
    assert_non_null(strstr(said, "assertion failed"));
    assert_non_null(strstr(said, what));
    assert_non_null(strstr(said, "in 'main'"));
}

#endif
