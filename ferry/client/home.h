/* SPDX-License-Identifier: MIT */
/* What the client keeps: FERRY_HOME, else $XDG_CONFIG_HOME/ferry, else
 * ~/.config/ferry.  Directories 0700, files 0600, replaced whole.
 *
 *     profiles/NAME.json   {"user", "server", "device", "key"}
 *     pins.json            {"HOST:PORT": base64 SHA-256 of the server's key}
 *     default              the last login's profile
 *     journals/            leaves of files on their way up
 */
#ifndef FERRY_HOME_H
#define FERRY_HOME_H

#include <keel/base.h>

#include "base/address.h"
#include "base/problem.h"

struct home {
    int fd, profiles, journals;
};
int home_open(struct home *ret, struct problem *why);
void home_close(struct home *h);

struct profile {
    char name[PROFILE_BYTES + 1];
    struct login_address login;
    int64_t device; /* 0: none, the password is asked */
    uint8_t key[32];
};
/* `name` NULL: FERRY_PROFILE's, else the last login's.  LOGIN_NEEDED when there
 * is none. */
int profile_load(const struct home *h, const char *name, struct profile *ret,
                 struct problem *why);
/* Stores it, and makes it the default. */
int profile_store(const struct home *h, const struct profile *p,
                  struct problem *why);
int profile_make_default(const struct home *h, const char *name,
                         struct problem *why);
/* Calls `fn` for the name of each profile, in order; it may not store any.  At
 * most 1,000 are looked at. */
int profile_each(const struct home *h, int (*fn)(const char *name, void *arg),
                 void *arg, struct problem *why);
int profile_remove(const struct home *h, const char *name, struct problem *why);
/* 1 to 64 of letters, digits, '.', '_', '-', '@'. */
int profile_name_check(const char *name, struct problem *why);

/* false: no pin for that server yet. */
int pin_load(const struct home *h, const char *server, bool *ret_known,
             uint8_t ret[32], struct problem *why);
int pin_store(const struct home *h, const char *server, const uint8_t pin[32],
              struct problem *why);

#endif
