/* SPDX-License-Identifier: MIT */
/* Digests as text, and leaves as the other end sends them, made into a root. */
#include <stdlib.h>
#include <string.h>

#include "chunk/tree.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static void text(const uint8_t *data, size_t size)
{
    char *words = malloc(size + 1), again[DIGEST_TEXT_BYTES];
    enum chunk_hash hash;
    struct digest d;

    keel_assert(words);
    if (size)
        memcpy(words, data, size);
    words[size] = 0;
    if (digest_parse(words, &hash, &d) == 0) {
        keel_assert(chunk_hash_by_name(chunk_hash_name(hash)) == hash);
        digest_print(hash, &d, again);
        keel_assert(strcmp(words, again) == 0);
    }
    free(words);
}

static void leaves(enum chunk_hash hash, const uint8_t *data, size_t size)
{
    size_t count = size / sizeof(struct digest);
    struct digest *copy = malloc((count + 1) * sizeof *copy), root, other;

    keel_assert(copy);
    if (count)
        memcpy(copy, data, count * sizeof *copy);
    chunk_root(hash, copy, count, &root);
    /* One leaf more is another file. */
    memset(&copy[count], 0, sizeof *copy);
    chunk_root(hash, copy, count + 1, &other);
    keel_assert(memcmp(&root, &other, sizeof root) != 0);
    free(copy);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    text(data, size);
    leaves(CHUNK_SHA256, data, size);
    leaves(CHUNK_XXH128, data, size);
    return 0;
}
