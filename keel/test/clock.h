/* SPDX-License-Identifier: MIT */
/* A clock that moves only when told, or when a loop has nothing else to do. */
#ifndef KEEL_TEST_CLOCK_H
#define KEEL_TEST_CLOCK_H

#include <keel/seam.h>

void test_clock_install(void); /* starts at 1 s, date 2026-01-01 */
void test_clock_advance(keel_ns span);
void test_clock_remove(void);

#endif
