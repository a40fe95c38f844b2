/* SPDX-License-Identifier: MIT */
#include "base/streams.h"

#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <stdbool.h>
#include <stdio.h>
#include <unistd.h>

#include <keel/file.h>

void streams_begin(void)
{
    for (int fd = STDIN_FILENO; fd <= STDERR_FILENO; fd++) {
        /* The lowest number that is free: this one. */
        if (fcntl(fd, F_GETFD) < 0)
            (void)!keel_file_open_any("/dev/null", O_RDWR, 0);
    }
}

static bool nobody_reads(void)
{
    struct pollfd p = {.fd = STDOUT_FILENO, .events = POLLOUT};

    return poll(&p, 1, 0) == 1 && (p.revents & (POLLERR | POLLHUP));
}

/* What failed earlier is not kept.  What was printed is not whole and ends
 * somewhere: one more byte, the end of that line, is refused for the same
 * reason, or the reason is gone. */
static int ask_again(void)
{
    clearerr(stdout);
    errno = 0;
    return putchar('\n') == EOF || fflush(stdout) != 0 ? errno : EIO;
}

int streams_end(void)
{
    int rc = 0;

    errno = 0;
    if (fflush(stdout) != 0)
        rc = errno;
    else if (ferror(stdout))
        rc = nobody_reads() ? 0 : ask_again();
    return rc == 0 || nobody_reads() ? 0 : rc;
}
