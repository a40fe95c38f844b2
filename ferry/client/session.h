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
    struct keel_group *watch; /* over the link, once logged in */
    struct session *lender;   /* of a borrowed one; else NULL */
    bool lent;
};

/* Opens the home, loads the profile of `place` (or of --as, or the default) and
 * logs in: by its device key, else by the password. */
int session_open(struct cli *c, const struct place *place, struct session *ret,
                 struct problem *why);
/* With c->kept (the prompt's) a session of the same login is opened there once
 * and lent to one command after another, until its link is over; a second one
 * at the same time is opened anew. */
/* Says goodbye and lets go, of a borrowed one without goodbye.  A session stays where it was opened: `ret`. */
void session_close(struct session *s);
/* The profile a place is reached by, and its login. */
int session_profile(struct cli *c, const struct home *h,
                    const struct place *place, struct profile *ret,
                    struct problem *why);

/* For register, join and login: connects to s->profile.login.server without
 * logging in.  `pin` NULL: the stored one, else the user is asked (or
 * --accept-key said yes), and it is stored once known. */
int session_connect(struct cli *c, struct session *s, const uint8_t *pin,
                    struct problem *why);
/* Asks for the password, and logs in with it; who types may try three times, and
 * take their time. */
int session_password_ask(struct cli *c, struct session *s, struct problem *why);
int session_password_login(struct cli *c, struct session *s,
                           const char *password, struct problem *why);
int session_register(struct cli *c, struct session *s, const char *invite,
                     const char *password, struct problem *why);
/* Registers a device key and stores the profile with it. */
int session_add_device(struct session *s, struct problem *why);

/* How long a server may be silent: FERRY_TIMEOUT seconds, or a minute.  A
 * request that takes longer has no deadline of its own: from logging in to
 * session_close a watch asks the server for a sign of life whenever nothing
 * moves, and ends the link (CONNECT_TIMEOUT) when there is none. */
keel_ns session_patience(void);
/* USAGE when FERRY_TIMEOUT is something else. */
int session_patience_check(struct problem *why);
#define ASK_TIME session_patience()

/* field_* speak of a bad request.  In an answer it is the server's fault:
 * passes `rc` on, with such a problem turned into PROTOCOL_BROKEN. */
int answer_check(int rc, struct problem *why);

#endif
