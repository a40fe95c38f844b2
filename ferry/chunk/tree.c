/* SPDX-License-Identifier: MIT */
#include "chunk/tree.h"

#include <errno.h>
#include <stdatomic.h>
#include <string.h>

#include <openssl/evp.h>
/* With the whole hash inline, its state may lie on the stack. */
#define XXH_INLINE_ALL
#include <xxhash.h>

static const struct {
    const char *name;
    size_t size;
} kinds[] = {
    [CHUNK_SHA256] = {"sha256", 32},
    [CHUNK_XXH128] = {"xxh128", 16},
};
#define KINDS (sizeof kinds / sizeof *kinds)

static bool known(enum chunk_hash h)
{
    return (size_t)h < KINDS && kinds[h].name;
}

enum chunk_hash chunk_hash_by_name(const char *name)
{
    for (size_t h = 1; h < KINDS; h++)
        if (!strcmp(name, kinds[h].name))
            return (enum chunk_hash)h;
    return 0;
}

const char *chunk_hash_name(enum chunk_hash h)
{
    return known(h) ? kinds[h].name : NULL;
}

void digest_print(enum chunk_hash h, const struct digest *d,
                  char ret[DIGEST_TEXT_BYTES])
{
    static const char digits[] = "0123456789abcdef";
    const char *name = chunk_hash_name(h);
    size_t at;

    keel_assert(name);
    at = strlen(name);
    memcpy(ret, name, at);
    ret[at++] = ':';
    for (size_t i = 0; i < kinds[h].size; i++) {
        ret[at++] = digits[d->bytes[i] >> 4];
        ret[at++] = digits[d->bytes[i] & 15];
    }
    ret[at] = '\0';
}

static int digit(char c)
{
    if (c >= '0' && c <= '9')
        return c - '0';
    if (c >= 'a' && c <= 'f')
        return c - 'a' + 10;
    return -1;
}

int digest_parse(const char *text, enum chunk_hash *ret_hash,
                 struct digest *ret)
{
    for (size_t h = 1; h < KINDS; h++) {
        size_t name = strlen(kinds[h].name);
        const char *in = text + name + 1;
        struct digest d = {{0}};

        if (strncmp(text, kinds[h].name, name) != 0 || text[name] != ':')
            continue;
        if (strnlen(in, DIGEST_TEXT_BYTES) != 2 * kinds[h].size)
            return -EINVAL;
        for (size_t i = 0; i < kinds[h].size; i++) {
            int high = digit(in[2 * i]), low = digit(in[2 * i + 1]);

            if (high < 0 || low < 0)
                return -EINVAL;
            d.bytes[i] = (uint8_t)(high << 4 | low);
        }
        *ret_hash = (enum chunk_hash)h;
        *ret = d;
        return 0;
    }
    return -EINVAL;
}

/* ---- the two hashes */

/* Fetched once: EVP_sha256() would be looked up anew at each digest. */
static const EVP_MD *sha256(void)
{
    static _Atomic(EVP_MD *) fetched;
    EVP_MD *md = atomic_load_explicit(&fetched, memory_order_acquire), *none;

    if (md)
        return md;
    md = EVP_MD_fetch(NULL, "SHA256", NULL);
    keel_assert(md);
    none = NULL;
    if (!atomic_compare_exchange_strong(&fetched, &none, md)) {
        EVP_MD_free(md); /* another thread was first */
        md = none;
    }
    return md;
}

/* A place to compute in: made once for a whole tree. */
struct hasher {
    enum chunk_hash kind;
    EVP_MD_CTX *sha;
};

static void hasher_init(struct hasher *c, enum chunk_hash h)
{
    keel_assert(known(h));
    c->kind = h;
    c->sha = NULL;
    if (h == CHUNK_SHA256) {
        c->sha = EVP_MD_CTX_new();
        /* OpenSSL's own few hundred bytes: a caller could do nothing. */
        keel_assert(c->sha);
    }
}

static void hasher_fini(struct hasher *c)
{
    EVP_MD_CTX_free(c->sha);
}

/* H(prefix || bytes); without the prefix when it is negative. */
static void hasher_run(struct hasher *c, int prefix, const void *bytes,
                       size_t size, struct digest *ret)
{
    uint8_t first = (uint8_t)prefix;

    if (c->kind == CHUNK_SHA256) {
        int good = EVP_DigestInit_ex2(c->sha, sha256(), NULL);

        if (prefix >= 0)
            good &= EVP_DigestUpdate(c->sha, &first, 1);
        good &= EVP_DigestUpdate(c->sha, bytes, size);
        good &= EVP_DigestFinal_ex(c->sha, ret->bytes, NULL);
        keel_assert(good);
        return;
    }

    XXH3_state_t state;
    XXH128_canonical_t canonical;

    XXH3_INITSTATE(&state);
    XXH3_128bits_reset(&state);
    if (prefix >= 0)
        XXH3_128bits_update(&state, &first, 1);
    XXH3_128bits_update(&state, bytes, size);
    XXH128_canonicalFromHash(&canonical, XXH3_128bits_digest(&state));
    memset(ret, 0, sizeof *ret);
    memcpy(ret->bytes, canonical.digest, sizeof canonical.digest);
}

void chunk_leaf(enum chunk_hash h, const void *bytes, size_t size,
                struct digest *ret)
{
    struct hasher c;

    hasher_init(&c, h);
    hasher_run(&c, 0, bytes, size, ret);
    hasher_fini(&c);
}

/* As deep as the count has bits. */
static void root(struct hasher *c, const struct digest *leaves, uint64_t count,
                 struct digest *ret)
{
    size_t size = kinds[c->kind].size;
    struct digest left, right;
    uint8_t both[2 * sizeof left.bytes];
    uint64_t split = 1;

    if (count == 1) {
        *ret = *leaves;
        return;
    }
    while (split < count - split)
        split *= 2;
    root(c, leaves, split, &left);
    root(c, leaves + split, count - split, &right);
    memcpy(both, left.bytes, size);
    memcpy(both + size, right.bytes, size);
    hasher_run(c, 1, both, 2 * size, ret);
}

void chunk_root(enum chunk_hash h, const struct digest *leaves, uint64_t count,
                struct digest *ret)
{
    struct hasher c;

    hasher_init(&c, h);
    if (count == 0)
        hasher_run(&c, -1, "", 0, ret);
    else
        root(&c, leaves, count, ret);
    hasher_fini(&c);
}
