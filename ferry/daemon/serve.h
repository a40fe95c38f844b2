/* SPDX-License-Identifier: MIT */
/* The daemon itself. */
#ifndef FERRY_SERVE_H
#define FERRY_SERVE_H

#include "base/problem.h"

/* Reads the command line and serves until SIGTERM or SIGINT.  argv is read
 * again at a reload.  Returns 0, 1 after help, or a problem. */
int serve(int argc, char **argv, struct problem *why);

#endif
