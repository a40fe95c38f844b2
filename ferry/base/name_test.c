/* SPDX-License-Identifier: MIT */
#include <errno.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "base/name.h"

static int parse(const char *text, struct path *ret, struct problem *why)
{
    return path_parse(text, strlen(text), ret, why);
}

static void a_path_is_its_components(void **state)
{
    static const struct {
        const char *in, *text, *leaf, *parent;
        unsigned count;
    } cases[] = {
        {"", "", "", "", 0},
        {"/", "", "", "", 0},
        {"///", "", "", "", 0},
        {"a", "a", "a", "", 1},
        {"/a/b", "a/b", "b", "a", 2},
        {"a//b///c/", "a/b/c", "c", "a/b", 3},
        {"/...", "...", "...", "", 1},
        {"/\xff\xfe/ ", "\xff\xfe/ ", " ", "\xff\xfe", 2},
    };

    (void)state;
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        struct path p, up;

        assert_int_equal(parse(cases[i].in, &p, NULL), 0);
        assert_string_equal(p.text, cases[i].text);
        assert_int_equal(p.size, strlen(cases[i].text));
        assert_int_equal(p.count, cases[i].count);
        assert_string_equal(path_leaf(&p), cases[i].leaf);
        path_parent(&p, &up);
        assert_string_equal(up.text, cases[i].parent);
        assert_int_equal(up.count, cases[i].count ? cases[i].count - 1 : 0);
        path_parent(&p, &p);
        assert_string_equal(p.text, cases[i].parent);
    }
}

static void a_path_with_an_illegal_component_is_refused(void **state)
{
    static const char *const bad[] = {".", "..", "/a/../b", "a/./b", "a/.."};
    struct path p = {.count = 77};
    struct problem why;

    (void)state;
    for (size_t i = 0; i < sizeof bad / sizeof *bad; i++) {
        assert_int_equal(parse(bad[i], &p, &why), -EINVAL);
        assert_int_equal(why.id, PROBLEM_NAME_INVALID);
    }
    assert_int_equal(path_parse("a\0b", 3, &p, &why), -EINVAL);
    assert_int_equal(p.count, 77);
}

static void limits_of_a_path_are_kept(void **state)
{
    char text[PATH_BYTES + 2];
    struct problem why;
    struct path p;

    (void)state;
    memset(text, 'a', sizeof text);
    assert_int_equal(path_parse(text, 255, &p, &why), 0);
    assert_int_equal(path_parse(text, 256, &p, &why), -EINVAL);
    assert_int_equal(strlen(why.name), PROBLEM_TEXT_BYTES - 1);

    for (size_t at = 100; at < sizeof text; at += 100)
        text[at] = '/';
    assert_int_equal(path_parse(text, PATH_BYTES, &p, &why), 0);
    assert_int_equal(p.size, PATH_BYTES);
    assert_int_equal(path_append(&p, "b", &why), -ENAMETOOLONG);
    assert_int_equal(p.size, PATH_BYTES);
    assert_int_equal(path_parse(text, PATH_BYTES + 1, &p, &why), -ENAMETOOLONG);
    assert_int_equal(why.id, PROBLEM_PATH_TOO_LONG);
    assert_int_equal(why.limit, PATH_BYTES);

    for (size_t at = 0; at < sizeof text; at++)
        text[at] = at % 2 ? '/' : 'a';
    assert_int_equal(path_parse(text, 2 * PATH_DEPTH, &p, &why), 0);
    assert_int_equal(p.count, PATH_DEPTH);
    assert_int_equal(path_parse(text, 2 * PATH_DEPTH + 1, &p, &why),
                     -ENAMETOOLONG);
    assert_int_equal(why.id, PROBLEM_PATH_TOO_DEEP);
}

static void append_extends_the_text(void **state)
{
    struct path p;

    (void)state;
    assert_int_equal(parse("/", &p, NULL), 0);
    assert_int_equal(path_append(&p, "x", NULL), 0);
    assert_int_equal(path_append(&p, "yz", NULL), 0);
    assert_string_equal(p.text, "x/yz");
    assert_string_equal(path_leaf(&p), "yz");
    assert_int_equal(path_append(&p, "a/b", NULL), -EINVAL);
    assert_int_equal(path_append(&p, "..", NULL), -EINVAL);
    assert_int_equal(path_append(&p, "", NULL), -EINVAL);
    assert_string_equal(p.text, "x/yz");
}

static void account_names_are_short_and_plain(void **state)
{
    static const char *const good[] = {"a", "0", "mara", "a.b-c_d",
                                       "abcdefghijklmnopqrstuvwxyz012345"};
    static const char *const bad[] = {
        "",    ".a",  "-a",       "_a",  "A",
        "a b", "a/b", "\xc3\xa9", "a\n", "abcdefghijklmnopqrstuvwxyz0123456"};

    (void)state;
    for (size_t i = 0; i < sizeof good / sizeof *good; i++)
        assert_int_equal(account_name_check(good[i], NULL), 0);
    for (size_t i = 0; i < sizeof bad / sizeof *bad; i++)
        assert_int_equal(account_name_check(bad[i], NULL), -EINVAL);
}

static void space_names_are_a_bit_longer(void **state)
{
    static const char longest[] = "abcdefghijklmnopqrstuvwxyz012345"
                                  "abcdefghijklmnopqrstuvwxyz012345";
    static const char *const bad[] = {
        "", ".a", "-a", "_a", "A", "@a", "a b", "a/b", "\xc3\xa9", "a\n", "a:b",
    };
    char longer[sizeof longest + 1];
    struct problem why;

    (void)state;
    assert_int_equal(space_name_check("a", NULL), 0);
    assert_int_equal(space_name_check("0a.b-c_d", NULL), 0);
    assert_int_equal(strlen(longest), SPACE_NAME_BYTES);
    assert_int_equal(space_name_check(longest, NULL), 0);
    snprintf(longer, sizeof longer, "%sx", longest);
    assert_true(space_name_check(longer, NULL) < 0);
    for (size_t i = 0; i < sizeof bad / sizeof *bad; i++) {
        assert_true(space_name_check(bad[i], &why) < 0);
        assert_int_equal(why.id, PROBLEM_SPACE_NAME);
        assert_string_equal(why.name, bad[i]);
    }
}

static void a_terminal_gets_nothing_but_text(void **state)
{
    static const struct {
        const char *in, *out;
    } cases[] = {
        {"plain", "plain"},
        {"\xc3\xa9\xe2\x82\xac\xf0\x9f\x98\x80",
         "\xc3\xa9\xe2\x82\xac\xf0\x9f\x98\x80"},
        {"a\x1b[2Jb", "a\\x1b[2Jb"},
        {"\n\r\t\x7f", "\\x0a\\x0d\\x09\\x7f"},
        {"\\", "\\\\"},
        {"\xc2\x9b", "\\xc2\\x9b"}, /* C1: CSI */
        {"\xc2\xa0", "\xc2\xa0"},   /* no-break space is text */
        {"\xff", "\\xff"},
        {"\xc0\xaf", "\\xc0\\xaf"}, /* overlong */
        {"\xe0\x80\xaf", "\\xe0\\x80\\xaf"},
        {"\xed\xa0\x80", "\\xed\\xa0\\x80"}, /* a surrogate */
        {"\xf4\x90\x80\x80", "\\xf4\\x90\\x80\\x80"},
        {"\xe2\x82", "\\xe2\\x82"},          /* cut short */
        {"\xe2\x80\xae", "\\xe2\\x80\\xae"}, /* turns the text around */
        {"\xe2\x81\xa6", "\\xe2\\x81\\xa6"},
        {"\xe2\x80\x93", "\xe2\x80\x93"}, /* a dash */
    };
    char out[64];

    (void)state;
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        text_escape(cases[i].in, strlen(cases[i].in), out, sizeof out);
        assert_string_equal(out, cases[i].out);
    }
    text_escape("a\0b", 3, out, sizeof out);
    assert_string_equal(out, "a\\x00b");
}

static void a_text_without_room_ends_in_dots(void **state)
{
    static const char in[] = "ab\x1b"
                             "cd\xe2\x82\xac";

    (void)state;
    for (size_t size = 1; size < 20; size++) {
        char *out = malloc(size);

        text_escape(in, strlen(in), out, size);
        assert_true(strlen(out) < size);
        if (size >= 12) /* "ab\x1bcd" and the euro sign: 11 bytes and NUL */
            assert_string_equal(out, "ab\\x1b"
                                     "cd\xe2\x82\xac");
        else if (size > 4)
            assert_string_equal(out + strlen(out) - 3, "...");
        free(out);
    }
    char out[10];

    text_escape("\x1b\x1b\x1b", 3, out, sizeof out);
    assert_string_equal(out, "\\x1b...");
}

static void a_quoted_text_ends_where_it_says(void **state)
{
    static const struct {
        const char *in, *once, *again;
    } cases[] = {
        {"", "''", "''"},
        {"a b", "'a b'", "'a b'"},
        {"a' result=ok b='c", "'a\\' result=ok b=\\'c'",
         "'a\\' result=ok b=\\'c'"},
        {"\\", "'\\\\'", "'\\\\'"},
        {"\\'", "'\\\\\\''", "'\\\\\\''"},
        {"\\\\'", "'\\\\\\\\\\''", "'\\\\\\''"},
        {"\\x1b", "'\\\\x1b'", "'\\x1b'"},
        {"\\xyz", "'\\\\xyz'", "'\\\\xyz'"},
        {"\n", "'\\x0a'", "'\\x0a'"},
    };
    char out[64];

    (void)state;
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        const char *in = cases[i].in;

        assert_string_equal(text_quote(in, strlen(in), out, sizeof out),
                            cases[i].once);
        assert_string_equal(text_quote_shown(in, out, sizeof out),
                            cases[i].again);
    }
    for (size_t size = 3; size < 20; size++) { /* wherever it is cut */
        char *cut = malloc(size);
        size_t n;

        text_quote("a'b\\'''", 7, cut, size);
        n = strlen(cut);
        assert_true(n >= 2 && n < size);
        assert_true(cut[0] == '\'' && cut[n - 1] == '\'');
        for (size_t i = 1; i + 1 < n; i++) {
            if (cut[i] == '\\')
                i++;
            else
                assert_true(cut[i] != '\'');
            assert_true(i + 1 < n); /* the last quote is no part of it */
        }
        free(cut);
    }
}

static void sizes_read_well(void **state)
{
    static const struct {
        uint64_t bytes;
        const char *text;
    } cases[] = {
        {0, "0 bytes"},
        {1, "1 byte"},
        {1023, "1023 bytes"},
        {1024, "1 KiB"},
        {1025, "1.0 KiB"},
        {1536, "1.5 KiB"},
        {1048575, "1.0 MiB"},
        {1048576, "1 MiB"},
        {10ull << 30, "10 GiB"},
        {(1ull << 40) * 3 / 2, "1.5 TiB"},
        {(1ull << 60) - 1, "1.0 EiB"},
        {UINT64_MAX, "16.0 EiB"},
    };
    char text[32];

    (void)state;
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        text_bytes(cases[i].bytes, text);
        assert_string_equal(text, cases[i].text);
    }
}

static void distance_counts_changed_letters(void **state)
{
    (void)state;
    assert_int_equal(text_distance("", ""), 0);
    assert_int_equal(text_distance("abc", "abc"), 0);
    assert_int_equal(text_distance("", "abc"), 3);
    assert_int_equal(text_distance("kitten", "sitting"), 3);
    assert_int_equal(text_distance("draft_tl", "draft_ttl"), 1);

    char a[200], b[200];

    memset(a, 'a', sizeof a);
    memset(b, 'b', sizeof b);
    a[199] = b[199] = '\0';
    assert_int_equal(text_distance(a, b), 63);
}

static void any_bytes_survive_json(void **state)
{
    (void)state;
    for (size_t size = 0; size < 12; size++) {
        char in[12];

        for (size_t i = 0; i < size; i++)
            in[i] = (char)(0xf0 + i * 7);
        for (int text = 0; text < 2; text++) {
            char *out = NULL;
            size_t out_size = 77;
            json_t *j;

            if (text)
                memcpy(in, "a\xc3\xa9 \xe2\x82\xac_\xf0\x9f\x98", size);
            j = text_to_json(in, size);
            assert_non_null(j);
            assert_int_equal(text_from_json(j, size, &out, &out_size), 0);
            assert_int_equal(out_size, size);
            assert_memory_equal(out, in, size);
            assert_int_equal(out[size], '\0');
            keel_free(out);
            if (size)
                assert_int_equal(text_from_json(j, size - 1, &out, &out_size),
                                 -EMSGSIZE);
            json_decref(j);
        }
    }
    json_t *j = text_to_json("a\0b", 3);

    assert_true(json_is_object(j));
    json_decref(j);
}

static void what_is_no_text_is_refused(void **state)
{
    static const char *const bad[] = {
        "7",
        "[]",
        "{}",
        "null",
        "{\"b64\": 7}",
        "{\"b64\": \"A\"}",
        "{\"b64\": \"A===\"}",
        "{\"b64\": \"====\"}",
        "{\"b64\": \"AA A\"}",
        "{\"b64\": \" AAAA\"}",
        "{\"b64\": \"AA==AAAA\"}",
        "{\"b64\": \"AA=A\"}",
        "{\"b64\": \"A-_A\"}",
        "{\"b64\": \"L3h=\"}", /* bits left over */
    };
    size_t size;
    char *out;

    (void)state;
    for (size_t i = 0; i < sizeof bad / sizeof *bad; i++) {
        json_t *j = json_loads(bad[i], JSON_DECODE_ANY, NULL);

        assert_int_equal(text_from_json(j, 100, &out, &size), -EINVAL);
        json_decref(j);
    }
    assert_int_equal(text_from_json(NULL, 100, &out, &size), -EINVAL);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(a_path_is_its_components),
        cmocka_unit_test(a_path_with_an_illegal_component_is_refused),
        cmocka_unit_test(limits_of_a_path_are_kept),
        cmocka_unit_test(append_extends_the_text),
        cmocka_unit_test(account_names_are_short_and_plain),
        cmocka_unit_test(space_names_are_a_bit_longer),
        cmocka_unit_test(a_terminal_gets_nothing_but_text),
        cmocka_unit_test(a_text_without_room_ends_in_dots),
        cmocka_unit_test(a_quoted_text_ends_where_it_says),
        cmocka_unit_test(sizes_read_well),
        cmocka_unit_test(distance_counts_changed_letters),
        cmocka_unit_test(any_bytes_survive_json),
        cmocka_unit_test(what_is_no_text_is_refused),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
