/* SPDX-License-Identifier: MIT */
/* A connection that is logged in. */
#ifndef FERRY_SESSION_H
#define FERRY_SESSION_H

#include <keel/base.h>

#include "base/problem.h"
#include "client/cli.h"
#include "client/home.h"
#include "wire/link.h"

struct session {
    struct home home;
    struct profile profile;
    struct link *link;
    uint8_t exporter[32];
};

/* Opens the home, loads the profile of `place` (or of --as, or the default) and
 * logs in: by its device key, else by the password. */
int session_open(struct cli *c, const struct place *place, struct session *ret,
                 struct problem *why);
/* Says goodbye and lets go. */
void session_close(struct session *s);

/* For register, join and login: connects to s->profile.login.server without
 * logging in.  `pin` NULL: the stored one, else the user is asked (or
 * --accept-key said yes), and it is stored once known. */
int session_connect(struct cli *c, struct session *s, const uint8_t *pin,
                    struct problem *why);
int session_password_login(struct cli *c, struct session *s,
                           const char *password, struct problem *why);
int session_register(struct cli *c, struct session *s, const char *invite,
                     const char *password, struct problem *why);
/* Registers a device key and stores the profile with it. */
int session_add_device(struct session *s, struct problem *why);

#define ASK_TIME (60 * KEEL_SECOND)

#endif
