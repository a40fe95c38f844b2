/* SPDX-License-Identifier: MIT */
/* One file of the server to this machine, by chunks: what is large, or comes
 * alone.
 *
 * The bytes gather in a part beside the destination (".ferry-ID.part" and its
 * journal), which another run continues, or, of a few MiB in a tree, in a file
 * without a name.  Whole and verified it takes the destination's name.  Blocks
 * of zeros become holes. */
#ifndef FERRY_DOWNLOAD_H
#define FERRY_DOWNLOAD_H

#include "client/cli.h"
#include "client/local_make.h"
#include "client/progress.h"
#include "client/remote.h"

struct download_order {
    struct cli *c;
    const struct place *place;
    enum chunk_hash hash;
    const char *match; /* the root that it must have; NULL: any */
    struct buffer_pool *pool;
    /* Where it goes: dir, name, fresh, no_replace of it. */
    struct local_new to;
    const char *dest; /* for words */
    bool lasting;     /* on stable storage when it returns */
    /* A tree's; or this file's alone, zeroed before the first attempt: it is
     * started with the first byte, and the caller's to stop. */
    struct progress *progress;
    struct progress_part *part; /* of all attempts */
};
struct download_result {
    struct digest root;
    uint64_t size, received; /* received: by all attempts */
};
#define DOWNLOAD_BUFFERS 16 /* of a pool for one of them */

/* `entry` is what `stat` or a list said; another size or time by now is
 * FILE_CHANGED.  Repeated after it failed it continues where it stopped.
 * FILE_*, TRANSFER_*, DISK_FULL, LINK_IN_WAY ... */
int download_run(struct session *s, const struct download_order *o,
                 const struct remote_entry *entry, struct download_result *ret,
                 struct problem *why);

#endif
