/* SPDX-License-Identifier: MIT */
#include "base/address.h"

#include <ctype.h>
#include <errno.h>
#include <stdio.h>
#include <string.h>

#include "base/base64.h"

static bool port_ok(const char *text, size_t size)
{
    unsigned value = 0;

    if (size == 0 || size > 5)
        return false;
    for (size_t i = 0; i < size; i++) {
        if (!isdigit((unsigned char)text[i]))
            return false;
        value = value * 10 + (unsigned)(text[i] - '0');
    }
    return value <= 65535;
}

static bool host_ok(const char *text, size_t size, bool v6)
{
    if (size == 0 || size > HOST_BYTES)
        return false;
    for (size_t i = 0; i < size; i++) {
        unsigned char c = (unsigned char)text[i];

        if (!isalnum(c) && c != '.' && c != '-' && c != '_' &&
            !(v6 && (c == ':' || c == '%')))
            return false;
    }
    return true;
}

int server_parse(const char *text, size_t size, char ret[SERVER_BYTES],
                 struct problem *why)
{
    const char *end = text + size, *host = text, *port = NULL;
    size_t host_size = size;
    bool v6 = size > 0 && text[0] == '[';

    if (v6) {
        const char *close = memchr(text, ']', size);

        host = text + 1;
        host_size = close ? (size_t)(close - host) : 0;
        if (close && close + 1 < end)
            port = close[1] == ':' ? close + 2 : end;
    } else {
        const char *colon = memchr(text, ':', size);

        if (colon) {
            host_size = (size_t)(colon - host);
            port = colon + 1;
        }
    }
    if (!host_ok(host, host_size, v6) ||
        (port && !port_ok(port, (size_t)(end - port))))
        return problem(why, USAGE,
                       .detail = "a server is HOST, HOST:PORT or [V6]:PORT");

    snprintf(ret, SERVER_BYTES, v6 ? "[%.*s]:" : "%.*s:", (int)host_size, host);
    if (port)
        strncat(ret, port, (size_t)(end - port));
    else
        snprintf(ret + strlen(ret), 6, "%d", FERRY_PORT);
    return 0;
}

int login_address_parse(const char *text, struct login_address *ret,
                        struct problem *why)
{
    const char *at = strchr(text, '@');
    struct login_address a;
    int rc;

    if (!at || (size_t)(at - text) >= sizeof(a.user))
        return problem(why, USAGE,
                       .detail = "a login is USER@HOST or USER@HOST:PORT");
    snprintf(a.user, sizeof(a.user), "%.*s", (int)(at - text), text);
    rc = account_name_check(a.user, why);
    if (rc < 0)
        return rc;
    rc = server_parse(at + 1, strlen(at + 1), a.server, why);
    if (rc < 0)
        return rc;
    *ret = a;
    return 0;
}

/* ---- invites ------------------------------------------------------------------ */

void invite_link_print(const struct invite_link *l, char ret[INVITE_LINK_BYTES])
{
    char pin[BASE64_TEXT_BYTES(32)];

    base64_encode(BASE64_URL, l->pin, sizeof(l->pin), pin);
    snprintf(ret, INVITE_LINK_BYTES, "ferry://%s/#%s.%s", l->server, l->secret,
             pin);
}

static const char scheme[] = "ferry://";

int invite_link_parse(const char *text, struct invite_link *ret,
                      struct problem *why)
{
    const char *server = text + sizeof(scheme) - 1, *slash, *dot;
    struct invite_link l;
    uint8_t secret[32];

    if (strncmp(text, scheme, sizeof(scheme) - 1) != 0 ||
        !(slash = strchr(server, '/')) || slash[1] != '#' ||
        !(dot = strchr(slash, '.')))
        goto bad;
    /* The secret's own form is checked here, its truth by the server. */
    if (dot - (slash + 2) != 43 ||
        base64_decode(BASE64_URL, slash + 2, 43, secret, 32) != 32 ||
        base64_decode(BASE64_URL, dot + 1, strlen(dot + 1), l.pin, 32) != 32)
        goto bad;
    keel_wipe(secret, sizeof(secret));
    memcpy(l.secret, slash + 2, 43);
    l.secret[43] = 0;
    if (server_parse(server, (size_t)(slash - server), l.server, why) < 0)
        goto bad;
    *ret = l;
    return 0;
bad:
    return problem(why, USAGE,
                   .detail = "an invite is ferry://HOST:PORT/#SECRET.PIN, "
                             "whole and unchanged");
}

/* ---- places --------------------------------------------------------------------- */

static int hex(char c)
{
    if (c >= '0' && c <= '9')
        return c - '0';
    c = (char)(c | 0x20);
    return c >= 'a' && c <= 'f' ? c - 'a' + 10 : -1;
}

static int percent_decode(const char *text, char *ret, size_t size,
                          size_t *ret_size)
{
    size_t count = 0;

    for (; *text; text++) {
        int high = *text == '%' ? hex(text[1]) : 0;
        int low = *text == '%' && high >= 0 ? hex(text[2]) : 0;

        if (high < 0 || low < 0)
            return -EINVAL;
        if (count == size)
            return -EMSGSIZE;
        ret[count++] = *text == '%' ? (char)(high << 4 | low) : *text;
        if (*text == '%')
            text += 2;
    }
    *ret_size = count;
    return 0;
}

/* "/@team/x" of an URL, "@team/x" of a place with a colon: the space's name is
 * taken off the front.  What follows is the path in it, and the whole space
 * when nothing does. */
static int place_space(const char **path, size_t *size, struct place *ret,
                       struct problem *why)
{
    const char *slash = memchr(*path, '/', *size);
    size_t name_size = (slash ? (size_t)(slash - *path) : *size) - 1;

    /* A NUL inside, which an URL can write, is no letter of a name. */
    snprintf(ret->space, sizeof(ret->space), "%.*s", (int)name_size, *path + 1);
    if (name_size >= sizeof(ret->space) || strlen(ret->space) != name_size) {
        char shown[SPACE_NAME_BYTES + 4];

        snprintf(shown, sizeof(shown), "%s...", ret->space);
        return problem(why, SPACE_NAME, .name = shown);
    }
    *path += name_size + 1;
    *size -= name_size + 1;
    return space_name_check(ret->space, why);
}

static int place_url(const char *text, struct place *ret, struct problem *why)
{
    const char *rest = text + sizeof(scheme) - 1;
    const char *slash = strchr(rest, '/');
    size_t login_size = slash ? (size_t)(slash - rest) : strlen(rest);
    char login[ACCOUNT_NAME_BYTES + 1 + SERVER_BYTES], decoded[PATH_BYTES];
    const char *path = decoded;
    size_t path_size;
    int rc;

    if (login_size >= sizeof(login))
        return problem(why, USAGE, .detail = "the address is too long");
    snprintf(login, sizeof(login), "%.*s", (int)login_size, rest);
    rc = login_address_parse(login, &ret->login, why);
    if (rc < 0)
        return rc;
    rc = percent_decode(slash ? slash : "/", decoded, sizeof(decoded),
                        &path_size);
    if (rc == -EMSGSIZE)
        return problem(why, PATH_TOO_LONG, .size = strlen(slash),
                       .limit = PATH_BYTES);
    if (rc < 0)
        return problem(why, USAGE,
                       .detail = "a '%' in an address is followed "
                                 "by two hexadecimal digits");
    ret->directory = path_size > 0 && path[path_size - 1] == '/';
    /* As it is written: "/%40team" is a file of the home. */
    if (slash && slash[1] == '@') {
        path++;
        path_size--;
        rc = place_space(&path, &path_size, ret, why);
        if (rc < 0)
            return rc;
        ret->directory |= path_size == 0;
    }
    return path_parse(path, path_size, &ret->path, why);
}

int place_parse(const char *text, struct place *ret, struct problem *why)
{
    size_t before = strcspn(text, ":/"), size = strlen(text);
    const char *path;
    int rc;

    memset(ret, 0, sizeof(*ret));
    if (text[before] != ':') {
        ret->local = text;
        ret->directory = size > 0 && text[size - 1] == '/';
        return 0;
    }
    ret->remote = true;
    if (strncmp(text, scheme, sizeof(scheme) - 1) == 0)
        return place_url(text, ret, why);
    if (before > PROFILE_BYTES)
        return problem(why, USAGE, .detail = "the profile's name is too long");
    memcpy(ret->profile, text, before);
    path = text + before + 1;
    size -= before + 1;
    ret->directory = size == 0 || path[size - 1] == '/';
    if (path[0] == '@') {
        rc = place_space(&path, &size, ret, why);
        if (rc < 0)
            return rc;
        ret->directory |= size == 0;
    }
    return path_parse(path, size, &ret->path, why);
}
