/* SPDX-License-Identifier: MIT */
/* Servers and places as people write them.
 *
 *     ada@host, ada@host:9001, ada@[::1]:9001        a login
 *     ferry://host:9001/#SECRET.PIN                  an invite: SECRET and PIN
 *                                                    are 32 bytes, base64url
 *     :/path, work:/path, ferry://ada@host/path      a remote place
 *     :@team/path, ferry://ada@host/@team/path       in the space "team"
 *     ./a:b, /a:b, plain                             a local one
 *
 * A place is remote when a colon comes before the first slash.  In an URL the
 * path is percent-encoded (RFC 3986 2.1), elsewhere it is as it is.  A space
 * stands right behind the colon: `:/@x` is the home's file "@x", as is `/%40x`
 * in an URL. */
#ifndef FERRY_ADDRESS_H
#define FERRY_ADDRESS_H

#include <keel/base.h>

#include "base/name.h"
#include "base/problem.h"

#define FERRY_PORT 9001
#define HOST_BYTES 253
/* "[" host "]:" port and NUL */
#define SERVER_BYTES (HOST_BYTES + 9)
#define PROFILE_BYTES 64

struct login_address {
    char user[ACCOUNT_NAME_BYTES + 1];
    char server[SERVER_BYTES]; /* "host:port", the port always there */
};
/* USAGE, ACCOUNT_NAME */
int login_address_parse(const char *text, struct login_address *ret,
                        struct problem *why);
/* "host", "host:port", "[v6]:port" -> with the port. */
int server_parse(const char *text, size_t size, char ret[SERVER_BYTES],
                 struct problem *why);

struct invite_link {
    char server[SERVER_BYTES];
    char secret[44]; /* as account_invite_new gives it */
    uint8_t pin[32]; /* SHA-256 of the server's key */
};
#define INVITE_LINK_BYTES (SERVER_BYTES + 120)
void invite_link_print(const struct invite_link *l,
                       char ret[INVITE_LINK_BYTES]);
/* USAGE: not such a link. */
int invite_link_parse(const char *text, struct invite_link *ret,
                      struct problem *why);

struct place {
    bool remote;
    char profile[PROFILE_BYTES + 1];  /* "": the default one */
    struct login_address login;       /* of an URL; user "" otherwise */
    char space[SPACE_NAME_BYTES + 1]; /* "": the account's home */
    struct path path;                 /* remote: in that space */
    bool directory;                   /* the text ends in '/' */
    const char *local;                /* local: the text itself, lent */
};
/* USAGE, SPACE_NAME, NAME_INVALID, PATH_TOO_LONG, PATH_TOO_DEEP */
int place_parse(const char *text, struct place *ret, struct problem *why);

#endif
