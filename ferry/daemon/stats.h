/* SPDX-License-Identifier: MIT */
/* What `ferryd stats` shows: one flat JSON object, made by whoever has the
 * house, shown in three forms by the command. */
#ifndef FERRY_STATS_H
#define FERRY_STATS_H

#include <stdio.h>

#include "daemon/house.h"

/* The object of docs/man/ferryd.8's table; without a daemon only what is kept
 * in DATA.  The caller's. */
int stats_take(struct house *h, json_t **ret, struct problem *why);
/* For people. */
void stats_text(const json_t *stats, FILE *out);
/* Prometheus' text format, version 0.0.4. */
void stats_prometheus(const json_t *stats, FILE *out);

#endif
