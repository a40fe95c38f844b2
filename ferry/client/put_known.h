/* SPDX-License-Identifier: MIT */
/* What a directory of the server has, to tell what need not be sent: of each
 * name its type, and a sum over what would change with its content. */
#ifndef FERRY_PUT_KNOWN_H
#define FERRY_PUT_KNOWN_H

#include "client/remote.h"

struct known;

struct known_version {
    char type; /* 'f', 'd', 'l' */
    uint64_t size;
    int64_t mtime_ns;
    mode_t mode;
    const char *target; /* of a link */
};
enum known_answer {
    KNOWN_ABSENT,
    KNOWN_OTHER, /* the name is there, with something else */
    KNOWN_SAME,  /* size, time and mode are equal, and its hash is on record */
};
/* What a server keeps of a mode: the permission bits, and what it needs itself. */
unsigned mode_kept(char type, mode_t mode);

/* Lists `path` of `space`. */
int known_list(struct session *s, const char *space, const struct path *path,
               struct known **ret, struct problem *why);
/* From single names, with known_stat; of what is not asked for nothing is
 * known. */
int known_new(struct known **ret);
/* A name that is not there is no error. */
int known_stat(struct known *k, struct session *s, const char *space,
               const struct path *path, struct problem *why);
void known_free(struct known *k);
enum known_answer known_ask(const struct known *k, const char *name,
                            const struct known_version *v);
/* 0: not there. */
char known_type(const struct known *k, const char *name);
KEEL_AUTO(known, struct known *, known_free)

#endif
