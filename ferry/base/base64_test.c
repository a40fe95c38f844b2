/* SPDX-License-Identifier: MIT */
#include <errno.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <string.h>

#include <cmocka.h>

#include "base/base64.h"

/* RFC 4648 section 10 */
static const char *const vectors[][3] = {
    {"", "", ""},
    {"f", "Zg==", "Zg"},
    {"fo", "Zm8=", "Zm8"},
    {"foo", "Zm9v", "Zm9v"},
    {"foob", "Zm9vYg==", "Zm9vYg"},
    {"fooba", "Zm9vYmE=", "Zm9vYmE"},
    {"foobar", "Zm9vYmFy", "Zm9vYmFy"},
    {"\xfb\xff\xbf", "+/+/", "-_-_"},
};

static void the_vectors_of_the_rfc_go_both_ways(void **state)
{
    char text[BASE64_TEXT_BYTES(6)], bytes[6];

    (void)state;
    for (size_t i = 0; i < sizeof(vectors) / sizeof(*vectors); i++) {
        for (enum base64 kind = BASE64_STANDARD; kind <= BASE64_URL; kind++) {
            const char *coded = vectors[i][1 + kind];
            size_t size = strlen(vectors[i][0]);

            base64_encode(kind, vectors[i][0], size, text);
            assert_string_equal(text, coded);
            assert_int_equal(
                base64_decode(kind, coded, strlen(coded), bytes, 6), size);
            assert_memory_equal(bytes, vectors[i][0], size);
        }
    }
}

static void what_is_not_base64_is_refused(void **state)
{
    static const char *const bad[] = {
        "Zg=",    "Z",    "Zh==", "Zm9=",    "Zm 9v",
        "Zm9v\n", "-_-_", "====", "Zg==Zg=="};
    char bytes[16];

    (void)state;
    for (size_t i = 0; i < sizeof(bad) / sizeof(*bad); i++)
        assert_int_equal(base64_decode(BASE64_STANDARD, bad[i], strlen(bad[i]),
                                       bytes, sizeof(bytes)),
                         -EINVAL);
    assert_int_equal(base64_decode(BASE64_URL, "Zg==", 4, bytes, 16), -EINVAL);
    assert_int_equal(base64_decode(BASE64_URL, "Zm\0v", 4, bytes, 16), -EINVAL);
}

static void more_than_fits_is_refused(void **state)
{
    char bytes[5];

    (void)state;
    assert_int_equal(base64_decode(BASE64_URL, "Zm9vYmFy", 8, bytes, 5),
                     -EMSGSIZE);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(the_vectors_of_the_rfc_go_both_ways),
        cmocka_unit_test(what_is_not_base64_is_refused),
        cmocka_unit_test(more_than_fits_is_refused),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
