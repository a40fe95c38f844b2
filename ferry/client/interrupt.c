/* SPDX-License-Identifier: MIT */
#include "client/interrupt.h"

#include <signal.h>
#include <stdatomic.h>
#include <string.h>
#include <unistd.h>

/* Written by the program, read by the handler. */
static atomic_bool transfer, progress, terminal;
static int terminal_fd;
static struct termios terminal_before;

static void say(const char *words)
{
    ssize_t ignored = write(2, words, strlen(words));

    (void)ignored;
}

static void interrupted(int number)
{
    if (atomic_load(&terminal)) {
        tcsetattr(terminal_fd, TCSANOW, &terminal_before);
        say("\n");
    }
    if (atomic_load(&progress))
        say("\r\x1b[K");
    if (atomic_load(&transfer))
        say("ferry: Interrupted. Repeat the command to continue.\n");
    signal(number, SIG_DFL);
    raise(number);
}

void interrupt_install(void)
{
    static const int numbers[] = {SIGINT, SIGTERM, SIGHUP};
    struct sigaction action = {.sa_handler = interrupted};

    for (unsigned i = 0; i < sizeof(numbers) / sizeof(*numbers); i++) {
        struct sigaction before;

        /* nohup and the like have their reasons. */
        if (sigaction(numbers[i], NULL, &before) == 0 &&
            before.sa_handler != SIG_IGN)
            sigaction(numbers[i], &action, NULL);
    }
}

void interrupt_transfer(bool under_way, bool line)
{
    atomic_store(&progress, line);
    atomic_store(&transfer, under_way);
}

void interrupt_terminal(int fd, const struct termios *before)
{
    atomic_store(&terminal, false);
    if (!before)
        return;
    terminal_fd = fd;
    terminal_before = *before;
    atomic_store(&terminal, true);
}
