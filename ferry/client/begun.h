/* SPDX-License-Identifier: MIT */
/* A tree that gets a new name, "get -r :/photos copy", goes inside of `copy` once
 * that exists.  The command that was cut and is repeated has to go on in it
 * instead: so it is remembered, among the journals, from its beginning until
 * all is done, or for as long as journals are kept. */
#ifndef FERRY_BEGUN_H
#define FERRY_BEGUN_H

#include <stdbool.h>

#include "base/address.h"

struct begun {
    char name[40]; /* of its file; empty: none, which the others accept */
};
/* Which command that is: `verb`, with `login`, between a path of the server and
 * one of this machine as it was written. */
void begun_of(const char *verb, const struct login_address *login,
              const char *space, const struct path *remote, const char *local,
              struct begun *ret);
bool begun_is(const struct begun *b);
/* What cannot be written is not remembered. */
void begun_set(const struct begun *b);
void begun_drop(const struct begun *b);

#endif
