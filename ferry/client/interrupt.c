/* SPDX-License-Identifier: MIT */
#include "client/interrupt.h"

#include <errno.h>
#include <signal.h>
#include <stdatomic.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

#include "client/text.h"

/* Written by the program, read by the handler. */
static atomic_bool transfer, progress, terminal;
static atomic_int told = -1;
static int terminal_fd;
static struct termios terminal_before, terminal_now;
static _Atomic(const char *) prompt;
static int prompt_fd;
static atomic_uint resumed_count;

/* Made before: a handler may not look it up. */
static char goodbye[512];

/* Here and below write(2) itself: handlers run in the middle of anything, and
 * may call only what signal-safety(7) lists, so nothing of keel. */
static void say(const char *words)
{
    ssize_t ignored = write(2, words, strlen(words));

    (void)ignored;
}

static void tell(char what)
{
    int fd = atomic_load(&told), error = errno;
    ssize_t ignored = fd >= 0 ? write(fd, &what, 1) : 0;

    (void)ignored; /* a full pipe wakes its reader all the same */
    errno = error;
}

static void resized(int number)
{
    (void)number;
    tell('w');
}

void interrupt_tell(int fd)
{
    struct sigaction action = {.sa_handler = fd >= 0 ? resized : SIG_DFL,
                               .sa_flags = SA_RESTART};

    atomic_store(&told, fd);
    sigaction(SIGWINCH, &action, NULL);
}

/* Whether the terminal is ours: after ^Z, or with &, it is the shell's.  Where
 * nobody controls it there is nobody to disturb. */
static bool in_front(int fd)
{
    pid_t front = tcgetpgrp(fd);

    return front < 0 || front == getpgrp();
}

static void line_clear(void)
{
    if (atomic_load(&progress) && in_front(2))
        say("\r\x1b[K");
}

static void interrupted(int number)
{
    if (number == SIGINT && atomic_load(&told) >= 0) {
        line_clear();
        tell('i');
        return;
    }
    if (atomic_exchange(&terminal, false) && in_front(terminal_fd)) {
        tcsetattr(terminal_fd, TCSANOW, &terminal_before);
        say("\n");
    }
    line_clear();
    if (atomic_load(&transfer))
        say(goodbye);
    signal(number, SIG_DFL);
    raise(number);
}

/* Whoever asks asks again. */
static void prompt_again(void)
{
    const char *words = atomic_load(&prompt);
    ssize_t ignored = words ? write(prompt_fd, words, strlen(words)) : 0;

    (void)ignored;
    atomic_fetch_add(&resumed_count, 1);
}

/* Stops here, inside the handler, and goes on here: the terminal is given back
 * for that while.  Only the thread that takes the signal runs this, the others
 * stop with it. */
static void stopped(int number)
{
    struct sigaction plain = {.sa_handler = SIG_DFL}, ours;
    bool changed = atomic_exchange(&terminal, false);
    int error = errno;
    sigset_t one;

    if (changed)
        tcsetattr(terminal_fd, TCSANOW, &terminal_before);
    line_clear();
    sigaction(number, &plain, &ours);
    sigemptyset(&one);
    sigaddset(&one, number);
    raise(number);
    pthread_sigmask(SIG_UNBLOCK, &one, NULL); /* here it stops */
    pthread_sigmask(SIG_BLOCK, &one, NULL);
    sigaction(number, &ours, NULL);
    /* In the background this stops us once more, until the terminal is ours:
     * an answer typed before would be seen. */
    if (changed) {
        tcsetattr(terminal_fd, TCSANOW, &terminal_now);
        atomic_store(&terminal, true);
    }
    prompt_again();
    tell('c');
    errno = error;
}

void interrupt_suspend(void)
{
    raise(SIGTSTP);
}

void interrupt_install(void)
{
    static const int numbers[] = {SIGINT, SIGTERM, SIGHUP, SIGQUIT};
    struct sigaction action = {.sa_handler = interrupted};
    struct sigaction stop = {.sa_handler = stopped, .sa_flags = SA_RESTART};
    struct sigaction tstp;

    snprintf(goodbye, sizeof(goodbye), "%s",
             _("ferry: Interrupted. Repeat the command to continue.\n"
               "What was sent is kept by the server; what was received of a "
               "large file, in .ferry-HEX.part and .part.log beside it.\n"));
    for (unsigned i = 0; i < sizeof(numbers) / sizeof(*numbers); i++) {
        struct sigaction before;

        /* nohup and the like have their reasons. */
        if (sigaction(numbers[i], NULL, &before) == 0 &&
            before.sa_handler != SIG_IGN)
            sigaction(numbers[i], &action, NULL);
    }
    if (sigaction(SIGTSTP, NULL, &tstp) == 0 && tstp.sa_handler != SIG_IGN)
        sigaction(SIGTSTP, &stop, NULL);
}

void interrupt_transfer(bool under_way, bool line)
{
    atomic_store(&progress, line);
    atomic_store(&transfer, under_way);
}

void interrupt_terminal(int fd, const struct termios *before,
                        const struct termios *now)
{
    atomic_store(&terminal, false);
    if (!before)
        return;
    terminal_fd = fd;
    terminal_before = *before;
    terminal_now = *now;
    atomic_store(&terminal, true);
}

void interrupt_prompt(int fd, const char *words)
{
    prompt_fd = fd;
    atomic_store(&prompt, words);
}

unsigned interrupt_resumed(void)
{
    return atomic_load(&resumed_count);
}
