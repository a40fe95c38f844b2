/* SPDX-License-Identifier: MIT */
/* A vault with ledger and one account, for tests: on the test disk or on a
 * directory of the real one. */
#ifndef FERRY_VAULT_WORLD_TEST_H
#define FERRY_VAULT_WORLD_TEST_H

#include "vault.h"

struct world {
    int data;
    struct ledger *ledger;
    struct accounts *accounts;
    struct vault *vault;
    struct actor who;
};

/* Opens all of it over DATA (taken); the account is made when it is not there.
 * On an error nothing is left open. */
int world_open(struct world *w, int data, struct problem *why);
void world_close(struct world *w);
/* "/disk/data" of the test disk, made when it is not there. */
int world_test_data(void);

/* The same on the real disk, for what the test disk has not: a new directory in
 * /tmp, whose path is left in `ret_path`; and its end, with all that is in it. */
int world_real_data(char ret_path[64]);
int world_real_remove(const char *path);
/* Of the account's home. */
int world_home_dir(struct world *w);
/* Rows and disk agree, and the space says what its rows come to; prints what
 * does not, and returns how much that is. */
unsigned world_findings(struct world *w, int64_t space);

/* What an upload holds: bytes that follow from `tag` alone. */
void content_fill(unsigned tag, uint64_t at, uint8_t *buf, size_t size);
struct digest content_root(unsigned tag, uint64_t size, enum chunk_hash hash);

struct world_put {
    const char *path;
    uint64_t size;
    unsigned tag;
    enum vault_level level;
    bool no_replace;
    const struct digest *match;
    uint64_t stop; /* not 0: fill this many chunks and close the draft */
};
/* The whole way of an upload.  Hash is XXH128. */
int world_put(struct world *w, const struct world_put *put,
              struct problem *why);
int world_path(const char *text, struct path *ret);
/* 1 when the file under `path` is whole the content of `tag`, 0 when not. */
int world_holds(struct world *w, const char *path, unsigned tag, uint64_t size);

#endif
