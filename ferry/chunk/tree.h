/* SPDX-License-Identifier: MIT */
/* The chunk tree: what a file's bytes are, in one digest.
 *
 * A file is cut into chunks of 1 MiB, the last one shorter; each is a leaf of a
 * Merkle tree as in RFC 9162 section 2.1: leaf = H(0x00 || bytes), node =
 * H(0x01 || left || right), split at the largest power of two below the count.
 * An empty file's root is H("").  H is named by an id that stands in the
 * protocol and in journals.  `left` and `right` are as long as H's value: 32
 * bytes of SHA-256, 16 of XXH3-128 (in its canonical, big-endian form). */
#ifndef FERRY_TREE_H
#define FERRY_TREE_H

#include <keel/base.h>

#define CHUNK_BYTES ((size_t)1 << 20)

/* Values on the wire and on disk. */
enum chunk_hash {
    CHUNK_SHA256 = 1, /* finds damage and malice */
    CHUNK_XXH128 = 2, /* finds damage; 16 bytes, then zeros */
};
struct digest {
    uint8_t bytes[32];
};

/* "sha256", "xxh128"; 0: unknown. */
enum chunk_hash chunk_hash_by_name(const char *name);
/* NULL: no hash that this version knows. */
const char *chunk_hash_name(enum chunk_hash h);
/* "sha256:" + 64 hex digits, or "xxh128:" + 32 */
#define DIGEST_TEXT_BYTES 80
void digest_print(enum chunk_hash h, const struct digest *d,
                  char ret[DIGEST_TEXT_BYTES]);
/* Exactly what digest_print prints.  -EINVAL */
int digest_parse(const char *text, enum chunk_hash *ret_hash,
                 struct digest *ret);

static inline uint64_t chunk_count(uint64_t size_bytes)
{
    return size_bytes / CHUNK_BYTES + (size_bytes % CHUNK_BYTES != 0);
}
/* Bytes of chunk `index` of a file of that size. */
static inline size_t chunk_size(uint64_t size_bytes, uint64_t index)
{
    uint64_t at = index * CHUNK_BYTES;

    return size_bytes - at < CHUNK_BYTES ? (size_t)(size_bytes - at)
                                         : CHUNK_BYTES;
}

/* Plain computing, no waiting: call it on the blocking pool for whole chunks.
 * `h` is known (asserted). */
void chunk_leaf(enum chunk_hash h, const void *bytes, size_t size,
                struct digest *ret);
void chunk_root(enum chunk_hash h, const struct digest *leaves, uint64_t count,
                struct digest *ret);

#endif
