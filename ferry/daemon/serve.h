/* SPDX-License-Identifier: MIT */
/* The daemon itself. */
#ifndef FERRY_SERVE_H
#define FERRY_SERVE_H

#include "base/problem.h"
#include "daemon/conf.h"

/* Serves until SIGTERM or SIGINT. */
int serve(const struct conf *c, struct problem *why);

/* `ferryd invite ...`: argv from the word "invite" on; prints the link. */
int command_invite(int argc, char **argv, struct problem *why);

#endif
