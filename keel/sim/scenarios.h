/* SPDX-License-Identifier: MIT */
/* Scenarios of keel's own, each in a file of its name. */
#ifndef KEEL_SIM_SCENARIOS_H
#define KEEL_SIM_SCENARIOS_H

#include "test/scenario.h"

int brief_program(void *arg);
int queue_program(void *arg);
int pool_program(void *arg);
int server_program(void *arg);
void server_world(struct keel_sim_how *how);

#endif
