/* SPDX-License-Identifier: MIT */
/* keel under simulation: see scenarios.h. */
#include "scenarios.h"

static const struct scenario all[] = {
    {"queue", queue_program, NULL, 150},
    {"brief", brief_program, NULL, 150},
    {"pool", pool_program, NULL, 150},
    {"server", server_program, server_world, 100},
};

int main(int argc, char **argv)
{
    return scenario_main(argc, argv, all, sizeof all / sizeof *all);
}
