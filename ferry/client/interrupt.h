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
/* The terminal `fd` is changed to `now`; NULL: it is as it was again.  While the
 * program is stopped (SIGTSTP) it is as it was before, too. */
void interrupt_terminal(int fd, const struct termios *before,
                        const struct termios *now);
/* A question stands on the terminal `fd`, and is asked again when the program
 * goes on after a stop.  Lends `words`; NULL: it has its answer. */
void interrupt_prompt(int fd, const char *words);
/* How often the program went on after a stop. */
unsigned interrupt_resumed(void);
/* The prompt: from now on an interrupt ends nothing, but is told to the pipe `fd`
 * (non-blocking) as a byte 'i'; a terminal of another size is 'w', and going on
 * after a stop 'c'.  -1: as before. */
void interrupt_tell(int fd);
/* Stops as ^Z does, and returns when it goes on. */
void interrupt_suspend(void);

#endif
