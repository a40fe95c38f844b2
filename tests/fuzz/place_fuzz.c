/* SPDX-License-Identifier: MIT */
/* Places, logins, servers and invite links as people write them. */
#include <stdlib.h>
#include <string.h>

#include "base/address.h"

static void server_is_whole(const char *server)
{
    char again[SERVER_BYTES];
    struct problem why;

    keel_assert(strlen(server) < SERVER_BYTES && strrchr(server, ':'));
    keel_assert(server_parse(server, strlen(server), again, &why) == 0);
    keel_assert(!strcmp(server, again));
}

static void login_is_whole(const struct login_address *l)
{
    keel_assert(account_name_check(l->user, NULL) == 0);
    server_is_whole(l->server);
}

static void place(const char *text)
{
    struct problem why;
    struct place p;

    if (place_parse(text, &p, &why) < 0)
        return;
    if (!p.remote) {
        keel_assert(p.local == text);
        return;
    }
    if (p.login.user[0])
        login_is_whole(&p.login);
    keel_assert(strlen(p.space) <= SPACE_NAME_BYTES &&
                strspn(p.space, "abcdefghijklmnopqrstuvwxyz0123456789._-") ==
                    strlen(p.space));
    keel_assert(strlen(p.profile) <= PROFILE_BYTES);
    keel_assert(p.path.size == strlen(p.path.text) &&
                p.path.count <= PATH_DEPTH);
    for (unsigned i = 0; i < p.path.count; i++) {
        size_t end =
            i + 1 < p.path.count ? p.path.start[i + 1] - 1u : p.path.size;

        keel_assert(name_check(p.path.text + p.path.start[i],
                               end - p.path.start[i], NULL) == 0);
    }
}

static void invite(const char *text)
{
    char printed[INVITE_LINK_BYTES];
    struct invite_link l, again;
    struct problem why;

    if (invite_link_parse(text, &l, &why) < 0)
        return;
    server_is_whole(l.server);
    invite_link_print(&l, printed);
    keel_assert(invite_link_parse(printed, &again, &why) == 0);
    keel_assert(!strcmp(l.server, again.server) &&
                !strcmp(l.secret, again.secret) &&
                !memcmp(l.pin, again.pin, sizeof(l.pin)));
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);
int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    char server[SERVER_BYTES], *text = malloc(size + 1);
    struct login_address login;
    struct problem why;

    keel_assert(text);
    if (size)
        memcpy(text, data, size);
    text[size] = 0;
    place(text);
    invite(text);
    if (login_address_parse(text, &login, &why) == 0)
        login_is_whole(&login);
    if (server_parse(text, size, server, &why) == 0)
        server_is_whole(server);
    free(text);
    return 0;
}
