/* SPDX-License-Identifier: MIT */
/* One file to the server, by chunks: what is large, or goes alone. */
#ifndef FERRY_UPLOAD_H
#define FERRY_UPLOAD_H

#include "client/cli.h"
#include "client/progress.h"
#include "client/remote.h"

struct upload_order {
    struct cli *c;
    const char *local; /* for words */
    const char *space;
    const struct path *path;
    enum chunk_hash hash;
    struct buffer_pool *pool;
    /* A tree's; or this file's alone, zeroed before the first attempt: it is
     * started with the first byte, and the caller's to stop. */
    struct progress *progress;
    struct progress_part *part; /* of all attempts */
};
struct upload_result {
    struct digest root;
    char level[16];
    uint64_t size, sent; /* sent: by all attempts */
};
#define UPLOAD_BUFFERS 16 /* of a pool for one or two of them */

/* Takes `fd`, also on error.  Repeated after it failed it continues where it
 * stopped: FILE_*, TRANSFER_*, QUOTA_* ... */
int upload_run(struct session *s, const struct upload_order *o, int fd,
               struct upload_result *ret, struct problem *why);
/* "committed", unless --level says something else. */
const char *put_level(const struct cli *c);
/* The level in a put's reply is the one that was asked for: PROTOCOL_BROKEN */
int put_level_check(const struct cli *c, const json_t *ok, struct problem *why);
/* Removes journals that nobody has touched for 30 days. */
void upload_journals_clean(const struct home *h);

#endif
