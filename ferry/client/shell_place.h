/* SPDX-License-Identifier: MIT */
/* Where the prompt is on the server, and what its relative names mean there. */
#ifndef FERRY_SHELL_PLACE_H
#define FERRY_SHELL_PLACE_H

#include "base/address.h"

/* "a", "../b", "/c" from `here`; ":/x", "work:@team" as they are.  "." and ".."
 * are taken off before the server sees them; above "/" is "/".  USAGE and what
 * place_parse says. */
int shell_resolve(const struct place *here, const char *name, struct place *ret,
                  struct problem *why);
/* The text that place_parse makes `p` of, in fresh memory (keel_free). */
int shell_place_text(const struct place *p, char **ret);

#endif
