/* SPDX-License-Identifier: MIT */
/* ^C and its kind: the terminal is left as it was found, and what was begun is
 * said to go on by the same command.  The signal then ends the program as it
 * would have. */
#ifndef FERRY_INTERRUPT_H
#define FERRY_INTERRUPT_H

#include <stdbool.h>
#include <termios.h>

void interrupt_install(void);
/* A transfer is under way; `line`: its progress stands on the terminal. */
void interrupt_transfer(bool under_way, bool line);
/* The terminal `fd` was changed; NULL: it is as it was again. */
void interrupt_terminal(int fd, const struct termios *before);

#endif
