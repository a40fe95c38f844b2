/* SPDX-License-Identifier: MIT */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include <errno.h>
#include <string.h>

#include "client/shell_line.h"

static struct shell_words w;

static int split(const char *line)
{
    shell_words_fini(&w);
    return shell_split(line, strlen(line), &w, NULL);
}

static void a_line_is_split_at_blanks(void **state)
{
    (void)state;
    assert_int_equal(split("  put a\tb \r\n"), 0);
    assert_int_equal(w.count, 3);
    assert_string_equal(w.words[0], "put");
    assert_string_equal(w.words[2], "b");
    assert_null(w.words[3]);
    assert_int_equal(split(""), 0);
    assert_int_equal(w.count, 0);
    assert_int_equal(split(" \t"), 0);
    assert_int_equal(w.count, 0);
    shell_words_fini(&w);
}

static void quotes_and_backslashes(void **state)
{
    static const struct {
        const char *line, *word;
    } cases[] = {
        {"'a b'", "a b"},
        {"\"a b\"", "a b"},
        {"a\\ b", "a b"},
        {"'a\\b'", "a\\b"},
        {"\"a\\\"b\"", "a\"b"},
        {"it\\'s", "it's"},
        {"a'b c'd\" e\"", "ab cd e"},
        {"''", ""},
        {"\\\\", "\\"},
        {"\\x41\\xff", "A\xff"},
        {"a#b", "a#b"},
        {"\\#a", "#a"},
        {"a\\", "a\\"},
        {"\"'\"", "'"},
    };

    (void)state;
    for (size_t i = 0; i < sizeof(cases) / sizeof(*cases); i++) {
        assert_int_equal(split(cases[i].line), 0);
        assert_int_equal(w.count, 1);
        assert_string_equal(w.words[0], cases[i].word);
    }
    shell_words_fini(&w);
}

static void bare_stars_make_a_pattern(void **state)
{
    static const struct {
        const char *line, *pattern; /* NULL: none */
    } cases[] = {
        {"*.txt", "*.txt"},       {"a?[b]", "a?[b]"},
        {"'*'.txt", NULL},        {"\\*", NULL},
        {"\\x2a", NULL},          {"'a*'*", "a\\**"},
        {"\"?\"[ab]", "\\?[ab]"}, {"\\\\*", "\\\\*"},
        {"plain", NULL},
    };

    (void)state;
    for (size_t i = 0; i < sizeof(cases) / sizeof(*cases); i++) {
        assert_int_equal(split(cases[i].line), 0);
        assert_int_equal(w.count, 1);
        if (cases[i].pattern)
            assert_string_equal(w.patterns[0], cases[i].pattern);
        else
            assert_null(w.patterns[0]);
    }
    assert_int_equal(split("get * '*' ?"), 0);
    assert_null(w.patterns[0]);
    assert_string_equal(w.patterns[1], "*");
    assert_null(w.patterns[2]);
    assert_string_equal(w.patterns[3], "?");
    shell_words_fini(&w);
}

static void a_comment_begins_a_word(void **state)
{
    (void)state;
    assert_int_equal(split("# all of it"), 0);
    assert_int_equal(w.count, 0);
    assert_int_equal(split("ls # it 'is"), 0);
    assert_int_equal(w.count, 1);
    shell_words_fini(&w);
}

static void what_cannot_be_is_refused(void **state)
{
    static const char *const lines[] = {"'a",   "\"a",   "a'b",
                                        "\\x4", "\\xzz", "\\x00"};
    char many[SHELL_WORDS * 2 + 3], longer[] = "a\0b";

    (void)state;
    for (size_t i = 0; i < sizeof(lines) / sizeof(*lines); i++)
        assert_int_equal(split(lines[i]), -EINVAL);
    assert_int_equal(shell_split(longer, 3, &w, NULL), -EINVAL);
    for (int i = 0; i <= SHELL_WORDS; i++)
        memcpy(many + i * 2, "a ", 2);
    many[SHELL_WORDS * 2] = 0;
    assert_int_equal(split(many), 0);
    assert_int_equal(w.count, SHELL_WORDS);
    many[SHELL_WORDS * 2] = 'a';
    many[SHELL_WORDS * 2 + 1] = 0;
    assert_int_equal(split(many), -EINVAL);
    assert_int_equal(shell_split(many, SHELL_LINE_BYTES + 1, &w, NULL),
                     -EINVAL);
}

static void what_is_quoted_comes_back(void **state)
{
    static const char *const names[] = {
        "plain",        "",    "a b",      "it's \"so\"",
        "\\",           "#x",  "\x1b[31m", "\xff\xfe",
        "\xe8\xa1\xa8", "\n",  "-r",       "\xe2\x80\xae!",
        "a\x7f",        "~$*?"};
    char quoted[256];

    (void)state;
    for (size_t i = 0; i < sizeof(names) / sizeof(*names); i++) {
        assert_int_equal(shell_quote(names[i], quoted, sizeof(quoted)), 0);
        assert_int_equal(split(quoted), 0);
        assert_int_equal(w.count, 1);
        assert_string_equal(w.words[0], names[i]);
        for (size_t size = 0; size <= strlen(quoted); size++)
            assert_int_equal(shell_quote(names[i], quoted, size), -EMSGSIZE);
    }
    assert_int_equal(shell_quote("\x1b", quoted, sizeof(quoted)), 0);
    assert_string_equal(quoted, "\\x1b");
    shell_words_fini(&w);
}

static void the_last_word_may_be_open(void **state)
{
    static const struct {
        const char *line;
        int before;
        size_t start;
        const char *word;
    } cases[] = {
        {"", 0, 0, ""},
        {"ge", 0, 0, "ge"},
        {"get ", 1, 4, ""},
        {"get ma", 1, 4, "ma"},
        {"get 'a b", 1, 4, "a b"},
        {"get a\\ b", 1, 4, "a b"},
        {"put x \"y", 2, 6, "y"},
        {"get a\\", 1, 4, "a\\"},
    };
    char word[32];
    size_t start;

    (void)state;
    for (size_t i = 0; i < sizeof(cases) / sizeof(*cases); i++) {
        assert_int_equal(shell_last_word(cases[i].line, strlen(cases[i].line),
                                         &start, word, sizeof(word)),
                         cases[i].before);
        assert_int_equal(start, cases[i].start);
        assert_string_equal(word, cases[i].word);
    }
    shell_last_word("abcdef", 6, &start, word, 4);
    assert_string_equal(word, "abc");
}

static void lines_with_an_invite_are_secret(void **state)
{
    static const char *const secret[] = {
        "join ferry://h:1/#s.p",
        "--json join x",
        "-v \"jo\"in x",
        "join",
        "put f 'ferry://h/#s.p'",
        "ferry://h/#s.p",
        "join 'ferry",
        "ferry join x",
    };
    static const char *const plain[] = {
        "ls", "joined", "put join.txt :/x", "ls ferry://ada@h/x", "ls # x", "",
    };

    (void)state;
    for (size_t i = 0; i < sizeof(secret) / sizeof(*secret); i++)
        if (!shell_secret(secret[i], strlen(secret[i])))
            fail_msg("kept: %s", secret[i]);
    for (size_t i = 0; i < sizeof(plain) / sizeof(*plain); i++)
        if (shell_secret(plain[i], strlen(plain[i])))
            fail_msg("not kept: %s", plain[i]);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(a_line_is_split_at_blanks),
        cmocka_unit_test(quotes_and_backslashes),
        cmocka_unit_test(bare_stars_make_a_pattern),
        cmocka_unit_test(a_comment_begins_a_word),
        cmocka_unit_test(what_cannot_be_is_refused),
        cmocka_unit_test(what_is_quoted_comes_back),
        cmocka_unit_test(the_last_word_may_be_open),
        cmocka_unit_test(lines_with_an_invite_are_secret),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
