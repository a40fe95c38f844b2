/* SPDX-License-Identifier: MIT */
#include "client/begun.h"

#include <fcntl.h>
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include <keel/file.h>

#include "base/base64.h"
#include "chunk/tree.h"
#include "client/home.h"

void begun_of(const char *verb, const struct login_address *login,
              const char *space, const struct path *remote, const char *local,
              struct begun *ret)
{
    size_t most = SERVER_BYTES + 3 * (size_t)PATH_BYTES;
    keel_auto(str) char *text = keel_alloc(most);
    char id[BASE64_TEXT_BYTES(16)];
    struct digest d;
    size_t size;

    *ret = (struct begun){{0}};
    if (!text)
        return;
    /* With a NUL behind each: names may have any other byte. */
    size = (size_t)snprintf(text, most, "%s%c%s%c%s%c%s%c%s%c", verb, 0,
                            login->user, 0, login->server, 0, space, 0,
                            remote->text, 0);
    if (*local != '/' && getcwd(text + size, PATH_BYTES))
        size += strlen(text + size);
    size += (size_t)snprintf(text + size, most - size, "/%s", local);
    chunk_leaf(CHUNK_SHA256, text, size < most ? size : most, &d);
    base64_encode(BASE64_URL, d.bytes, 16, id);
    snprintf(ret->name, sizeof(ret->name), "begun-%s.log", id);
}

bool begun_is(const struct begun *b)
{
    struct statx st;
    struct home h;
    bool is;

    if (!*b->name || home_open(&h, NULL) < 0)
        return false;
    is = keel_file_stat(h.journals, b->name, &st) == 0;
    home_close(&h);
    return is;
}

void begun_set(const struct begun *b)
{
    struct home h;
    int fd;

    if (!*b->name || home_open(&h, NULL) < 0)
        return;
    fd =
        keel_file_open(h.journals, b->name, O_WRONLY | O_CREAT | O_TRUNC, 0600);
    if (fd >= 0)
        keel_file_close(fd);
    home_close(&h);
}

void begun_drop(const struct begun *b)
{
    struct home h;

    if (!*b->name || home_open(&h, NULL) < 0)
        return;
    (void)keel_file_unlink(h.journals, b->name);
    home_close(&h);
}
