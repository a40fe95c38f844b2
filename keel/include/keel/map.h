/* SPDX-License-Identifier: MIT */
/* A hash map that any coroutine and thread may use at any time.
 *
 * Keys are bytes, copied; values are pointers, borrowed: what they point to is
 * the callers' to keep alive.  A pointer that was got may be removed and freed by
 * somebody else the next moment: where that can be, keel_map_look takes a
 * reference while the entry cannot go, and keel_map_update drops it.
 *
 * The hash is SipHash under a key of each map's own, so nobody outside can choose
 * keys that meet.  Entries lie in 64 parts, each with a lock: calls wait for each
 * other only in the same part, for as long as one takes, and are not cancelled.
 * Not in signal handlers. */
#ifndef KEEL_MAP_H
#define KEEL_MAP_H

#include <keel/base.h>

struct keel_map;

/* Bytes of the longest key. */
#define KEEL_MAP_KEY_BYTES 65535

/* -ENOMEM */
KEEL_API int keel_map_new(struct keel_map **ret);
/* Nobody may use it any more; values are not freed (keel_map_clear). */
KEEL_API void keel_map_free(struct keel_map *m);
KEEL_AUTO(map, struct keel_map *, keel_map_free)

/* The value of the key; NULL: there is none. */
KEEL_API void *keel_map_get(struct keel_map *m, const void *key, size_t size);
/* The key has `value` (not NULL) from now on; the one before, or NULL, is in
 * `ret_old` (may be NULL).  -ENOMEM, -EINVAL the key is too long */
KEEL_API int keel_map_put(struct keel_map *m, const void *key, size_t size,
                          void *value, void **ret_old);
/* The same only if there is none: -EEXIST, with that value in `ret_there` (may
 * be NULL).  -ENOMEM, -EINVAL */
KEEL_API int keel_map_add(struct keel_map *m, const void *key, size_t size,
                          void *value, void **ret_there);
/* Takes the key out; its value, NULL when there was none. */
KEEL_API void *keel_map_remove(struct keel_map *m, const void *key,
                               size_t size);

/* ---- while the entry stands still ---------------------------------------------- */
/* The functions are run under the lock of the key's part: they may not wait, nor
 * use the same map. */

/* Returns fn(value, arg).  -ENOENT */
KEEL_API int keel_map_look(struct keel_map *m, const void *key, size_t size,
                           int (*fn)(void *value, void *arg), void *arg);
/* The key has fn(value, arg) from now on: `value` is NULL when there was none,
 * and NULL takes it out.  -ENOMEM before fn is called; -EINVAL */
KEEL_API int keel_map_update(struct keel_map *m, const void *key, size_t size,
                             void *(*fn)(void *value, void *arg), void *arg);

/* ---- all of it -------------------------------------------------------------------- */
/* How it was a moment ago, when others use it too. */
KEEL_API size_t keel_map_count(struct keel_map *m);
/* Calls fn for each entry, in no order; a value other than 0 ends the walk and is
 * returned.  What is there from beginning to end is met once; what comes or goes
 * meanwhile, once or not. */
KEEL_API int keel_map_each(struct keel_map *m,
                           int (*fn)(const void *key, size_t size, void *value,
                                     void *arg),
                           void *arg);
/* Takes all out; `drop` (may be NULL) gets each value, under no lock. */
KEEL_API void keel_map_clear(struct keel_map *m, void (*drop)(void *value));

#endif
