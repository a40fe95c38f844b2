/* SPDX-License-Identifier: MIT */
/* Scenarios: programs run in a simulated world (<keel/sim.h>) with one seed
 * after another, by a test program of its own:
 *
 *     PROGRAM [NAME...]      SEEDS=N of them each (else as many as it says), from
 *                            KEEL_SIM_FIRST=N (else 1) on
 *     KEEL_SIM_SEED=N PROGRAM NAME
 *                            one, as printed when it failed; KEEL_SIM_TRACE=FILE
 *                            has its trace written
 *
 * Checked of each scenario: each of the first seeds, and one in 16 of the
 * others, gives the same trace again; another process, with its addresses
 * elsewhere, gives the same traces; no two seeds give the same one. */
#ifndef KEEL_TEST_SCENARIO_H
#define KEEL_TEST_SCENARIO_H

#include <keel/sim.h>

struct scenario {
    const char *name;
    /* Returns 0; what it finds wrong it says by SIM_CHECK. */
    int (*program)(void *arg);
    /* NULL, or says what may happen; how->seed is set. */
    void (*world)(struct keel_sim_how *how);
    unsigned seeds; /* in the unit tests */
};

int scenario_main(int argc, char **argv, const struct scenario *all,
                  size_t count);

_Noreturn void scenario_failed(const char *file, int line, const char *what);
/* Ends the program, with what is needed to repeat it. */
#define SIM_CHECK(expr)                                                        \
    ((expr) ? (void)0 : scenario_failed(__FILE__, __LINE__, #expr))

#endif
