/* SPDX-License-Identifier: MIT */
#include "client/shell_place.h"

#include <errno.h>
#include <stdio.h>
#include <string.h>

/* One name after the other onto `ret`. */
static int descend(struct place *ret, const char *name, struct problem *why)
{
    while (*name) {
        size_t size = strcspn(name, "/");
        char part[NAME_BYTES + 2];
        int rc = 0;

        if (size > NAME_BYTES)
            return name_check(name, size, why);
        memcpy(part, name, size);
        part[size] = 0;
        if (strcmp(part, "..") == 0)
            path_parent(&ret->path, &ret->path);
        else if (size > 0 && strcmp(part, ".") != 0)
            rc = path_append(&ret->path, part, why);
        if (rc < 0)
            return rc;
        name += size;
        name += *name == '/';
    }
    return 0;
}

int shell_resolve(const struct place *here, const char *name, struct place *ret,
                  struct problem *why)
{
    size_t size = strlen(name);

    if (name[strcspn(name, ":/")] == ':')
        return place_parse(name, ret, why);
    *ret = *here;
    if (name[0] == '/' && path_parse("/", 1, &ret->path, why) < 0)
        return -EINVAL;
    ret->directory = size == 0 || name[size - 1] == '/' ||
                     strcmp(name, ".") == 0 || strcmp(name, "..") == 0 ||
                     (size > 2 && strcmp(name + size - 3, "/..") == 0);
    return descend(ret, name, why);
}

/* Letters, digits and what else RFC 3986 never reserves stand for themselves. */
static size_t percent_encode(const char *in, size_t size, char *ret)
{
    static const char digits[] = "0123456789ABCDEF";
    size_t at = 0;

    for (size_t i = 0; i < size; i++) {
        uint8_t c = (uint8_t)in[i];

        if ((c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z') ||
            (c >= '0' && c <= '9') || (c && strchr("-._~/", c))) {
            ret[at++] = (char)c;
            continue;
        }
        ret[at++] = '%';
        ret[at++] = digits[c >> 4];
        ret[at++] = digits[c & 15];
    }
    return at;
}

int shell_place_text(const struct place *p, char **ret)
{
    size_t room = sizeof(struct place) + PATH_BYTES * 3;
    char *text = keel_alloc(room);
    int at;

    if (!text)
        return -ENOMEM;
    if (p->login.user[0])
        at = snprintf(text, room, "ferry://%s@%s/%s%s", p->login.user,
                      p->login.server, p->space[0] ? "@" : "", p->space);
    else
        at = snprintf(text, room, "%s:%s%s", p->profile, p->space[0] ? "@" : "",
                      p->space);
    if (!p->login.user[0] || p->space[0])
        text[at++] = '/';
    if (p->login.user[0]) {
        at += (int)percent_encode(p->path.text, p->path.size, text + at);
    } else {
        memcpy(text + at, p->path.text, p->path.size);
        at += p->path.size;
    }
    if (p->directory && text[at - 1] != '/')
        text[at++] = '/';
    text[at] = 0;
    *ret = text;
    return 0;
}
