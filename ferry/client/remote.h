/* SPDX-License-Identifier: MIT */
/* Small questions to the server that several commands ask. */
#ifndef FERRY_REMOTE_H
#define FERRY_REMOTE_H

#include "chunk/tree.h"
#include "client/session.h"

struct remote_entry {
    char name[NAME_BYTES + 1]; /* raw; print escaped */
    char type;
    uint64_t size;
    int64_t mtime_ns;
    mode_t mode;
    enum chunk_hash hash; /* 0: none known */
    struct digest root;
};
/* One of a list, every field checked: the server is not trusted either. */
int remote_entry_parse(const json_t *j, struct remote_entry *ret,
                       struct problem *why);
int remote_stat(struct session *s, const struct path *path,
                struct remote_entry *ret, struct problem *why);
/* The root as the server knows or computes it. */
int remote_hash(struct session *s, const struct path *path,
                enum chunk_hash hash, struct digest *ret, struct problem *why);
/* {"path": ...} for a request; NULL when memory is out. */
json_t *path_fields(const struct path *path);
/* Likewise in the space of that name ("": the account's home). */
json_t *path_fields_in(const char *space, const struct path *path);
/* "/a/b", escaped for people */
void path_print(const struct path *path, char *ret, size_t size);
/* --hash, or sha256. */
int cli_hash(const struct cli *c, enum chunk_hash *ret, struct problem *why);

#endif
