/* SPDX-License-Identifier: MIT */
#include <errno.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>
#include <openssl/sha.h>
#include <xxhash.h>

#include "chunk/tree.h"

/* H(prefix || a || b), computed from one piece of memory. */
static struct digest plain(enum chunk_hash h, int prefix, const void *a,
                           size_t a_size, const void *b, size_t b_size)
{
    size_t size = a_size + b_size, at = 0;
    uint8_t *all = malloc(size + 1);
    struct digest d = {{0}};

    if (prefix >= 0)
        all[at++] = (uint8_t)prefix;
    if (a_size)
        memcpy(all + at, a, a_size);
    if (b_size)
        memcpy(all + at + a_size, b, b_size);
    size += at;
    if (h == CHUNK_SHA256) {
        SHA256(all, size, d.bytes);
    } else {
        XXH128_hash_t x = XXH3_128bits(all, size);

        for (int i = 0; i < 8; i++) {
            d.bytes[i] = (uint8_t)(x.high64 >> (56 - 8 * i));
            d.bytes[8 + i] = (uint8_t)(x.low64 >> (56 - 8 * i));
        }
    }
    free(all);
    return d;
}

/* The same tree from the bottom up: equal neighbours are joined as they come,
 * and what is left is joined from the right. */
static struct digest mountains(enum chunk_hash h, const struct digest *leaves,
                               size_t count)
{
    size_t size = h == CHUNK_SHA256 ? 32 : 16, depth = 0;
    struct {
        struct digest d;
        size_t leaves;
    } peak[64];

    for (size_t i = 0; i < count; i++) {
        peak[depth].d = leaves[i];
        peak[depth++].leaves = 1;
        while (depth > 1 && peak[depth - 1].leaves == peak[depth - 2].leaves) {
            depth--;
            peak[depth - 1].d =
                plain(h, 1, &peak[depth - 1].d, size, &peak[depth].d, size);
            peak[depth - 1].leaves *= 2;
        }
    }
    if (depth == 0)
        return plain(h, -1, NULL, 0, NULL, 0);
    for (; depth > 1; depth--)
        peak[depth - 2].d =
            plain(h, 1, &peak[depth - 2].d, size, &peak[depth - 1].d, size);
    return peak[0].d;
}

/* The test vectors of Certificate Transparency's reference implementation. */
static void roots_are_those_of_rfc_9162(void **state)
{
    static const char *const inputs[] = {"",
                                         "00",
                                         "10",
                                         "2021",
                                         "3031",
                                         "40414243",
                                         "5051525354555657",
                                         "606162636465666768696a6b6c6d6e6f"};
    static const char *const roots[] = {
        "e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855",
        "6e340b9cffb37a989ca544e6bb780a2c78901d3fb33738768511a30617afa01d",
        "fac54203e7cc696cf0dfcb42c92a1d9dbaf70ad9e621f4bd8d98662f00e3c125",
        "aeb6bcfe274b70a14fb067a5e5578264db0fa9b51af5e0ba159158f329e06e77",
        "d37ee418976dd95753c1c73862b9398fa2a2cf9b4ff0fdfe8b30cd95209614b7",
        "4e3bbb1f7b478dcfe71fb631631519a3bca12c9aefca1612bfce4c13a86264d4",
        "76e67dadbcdf1e10e1b74ddc608abd2f98dfb16fbce75277b5232a127f2087ef",
        "ddb89be403809e325750d3d263cd78929c2942b7942a34b77e122c9594a74c8c",
        "5dc9da79a70659a9ad559cb701ded9a2ab9d823aad2f4960cfe370eff4604328"};
    struct digest leaves[8], root;
    char text[DIGEST_TEXT_BYTES];

    (void)state;
    for (size_t i = 0; i < 8; i++) {
        uint8_t bytes[16];
        size_t size = strlen(inputs[i]) / 2;

        for (size_t k = 0; k < size; k++) {
            unsigned v;

            assert_int_equal(sscanf(inputs[i] + 2 * k, "%2x", &v), 1);
            bytes[k] = (uint8_t)v;
        }
        chunk_leaf(CHUNK_SHA256, bytes, size, &leaves[i]);
    }
    for (size_t count = 0; count <= 8; count++) {
        chunk_root(CHUNK_SHA256, leaves, count, &root);
        digest_print(CHUNK_SHA256, &root, text);
        assert_memory_equal(text, "sha256:", 7);
        assert_string_equal(text + 7, roots[count]);
    }
}

static void both_hashes_agree_with_a_tree_made_another_way(void **state)
{
    static struct digest leaves[300];
    static uint8_t bytes[5000];

    (void)state;
    for (size_t i = 0; i < sizeof bytes; i++)
        bytes[i] = (uint8_t)(i * 131 + i / 256);
    for (enum chunk_hash h = CHUNK_SHA256; h <= CHUNK_XXH128; h++) {
        for (size_t i = 0; i < 300; i++) {
            /* Lengths around XXH3's internal limits: 16, 128, 240, 256. */
            size_t size = i < 280 ? i : i * 16;
            struct digest expected = plain(h, 0, bytes, size, NULL, 0);

            chunk_leaf(h, bytes, size, &leaves[i]);
            assert_memory_equal(&leaves[i], &expected, sizeof expected);
        }
        for (size_t count = 0; count <= 300; count++) {
            struct digest expected = mountains(h, leaves, count), root;

            chunk_root(h, leaves, count, &root);
            assert_memory_equal(&root, &expected, sizeof root);
        }
    }
}

static void a_chunk_covers_its_part_of_the_file(void **state)
{
    (void)state;
    assert_int_equal(chunk_count(0), 0);
    assert_int_equal(chunk_count(1), 1);
    assert_int_equal(chunk_count(CHUNK_BYTES), 1);
    assert_int_equal(chunk_count(CHUNK_BYTES + 1), 2);
    assert_int_equal(chunk_count(UINT64_MAX), 1ull << 44);
    assert_int_equal(chunk_size(1, 0), 1);
    assert_int_equal(chunk_size(CHUNK_BYTES, 0), CHUNK_BYTES);
    assert_int_equal(chunk_size(CHUNK_BYTES + 7, 0), CHUNK_BYTES);
    assert_int_equal(chunk_size(CHUNK_BYTES + 7, 1), 7);
}

static void a_digest_survives_its_text(void **state)
{
    static const char *const bad[] = {
        "",
        "sha256",
        "sha256:",
        "sha256:00",
        "md5:00",
        "xxh128:",
        "xxh128:0123456789abcdef0123456789abcdeg",
        "xxh128:0123456789ABCDEF0123456789abcdef",
        "xxh128:0123456789abcdef0123456789abcdef0",
        "sha256:0123456789abcdef0123456789abcdef"};

    (void)state;
    for (enum chunk_hash h = CHUNK_SHA256; h <= CHUNK_XXH128; h++) {
        struct digest d, back;
        enum chunk_hash kind;
        char text[DIGEST_TEXT_BYTES];

        chunk_leaf(h, "x", 1, &d);
        digest_print(h, &d, text);
        assert_int_equal(digest_parse(text, &kind, &back), 0);
        assert_int_equal(kind, h);
        assert_memory_equal(&d, &back, sizeof d);
        assert_int_equal(chunk_hash_by_name(chunk_hash_name(h)), h);
    }
    for (size_t i = 0; i < sizeof bad / sizeof *bad; i++) {
        struct digest d;
        enum chunk_hash kind;

        assert_int_equal(digest_parse(bad[i], &kind, &d), -EINVAL);
    }
    assert_int_equal(chunk_hash_by_name("md5"), 0);
    assert_null(chunk_hash_name((enum chunk_hash)0));
    assert_null(chunk_hash_name((enum chunk_hash)3));
    assert_null(chunk_hash_name((enum chunk_hash) - 1));
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(roots_are_those_of_rfc_9162),
        cmocka_unit_test(both_hashes_agree_with_a_tree_made_another_way),
        cmocka_unit_test(a_chunk_covers_its_part_of_the_file),
        cmocka_unit_test(a_digest_survives_its_text),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
