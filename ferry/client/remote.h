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
/* In the space of that name ("": the account's home). */
int remote_stat_in(struct session *s, const char *space,
                   const struct path *path, struct remote_entry *ret,
                   struct problem *why);
/* What `place` names.  `ret_target`, may be NULL: a link's text (keel_free),
 * NULL for anything else. */
/* A slash at the end of `place` asks for a directory; refused where there is
 * something else, as remote_stat_place() does.  Asks nothing without one. */
int remote_slash_check(struct session *s, const struct place *place,
                       struct problem *why);
int remote_stat_place(struct session *s, const struct place *place,
                      struct remote_entry *ret, char **ret_target,
                      struct problem *why);
/* An entry's "target" into fresh memory; NULL: it has none. */
int remote_target(const json_t *j, char **ret, struct problem *why);
/* The root as the server knows or computes it, and the size that goes with
 * it. */
int remote_hash_place(struct session *s, const struct place *place,
                      enum chunk_hash hash, struct digest *ret,
                      uint64_t *ret_size, struct problem *why);
/* "/a/b" of "a/b", as a request and --json have it. */
json_t *path_to_json(const char *text, size_t size);
/* {"path": ...} for a request; NULL when memory is out. */
json_t *path_fields(const struct path *path);
/* Likewise in the space of that name ("": the account's home). */
json_t *path_fields_in(const char *space, const struct path *path);
/* {"path", "space"?} of a place. */
json_t *place_fields(const struct place *place);
/* ":/a/b", "work:@team/a", escaped for people. */
void place_print(const struct place *place, char *ret, size_t size);
/* Whether one login reaches both. */
bool place_same_login(const struct place *a, const struct place *b);
/* Parses `count` places, all of the server and reached by one login, so that
 * one connection serves them; the first is kept. */
int places_parse(char **names, int count, struct place *ret_first,
                 struct problem *why);
/* "/a/b", escaped for people */
void path_print(const struct path *path, char *ret, size_t size);
/* --hash, that of --if-match, or sha256. */
int cli_hash(const struct cli *c, enum chunk_hash *ret, struct problem *why);

#endif
