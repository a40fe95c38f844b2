/* SPDX-License-Identifier: MIT */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include <string.h>

#include "client/options.h"

static const struct command table[] = {
    {.name = "ls",
     .most = 2,
     .options = OPTION_LONG | OPTION_SORT | OPTION_RECURSIVE},
    {.name = "put",
     .least = 1,
     .most = -1,
     .options = OPTION_CONNECTIONS | OPTION_EXCLUDE | OPTION_INCLUDE},
};

const struct command *command_at(size_t i)
{
    return i < 2 ? &table[i] : NULL;
}

const struct command *command_find(const char *name)
{
    for (size_t i = 0; i < 2; i++) {
        if (strcmp(table[i].name, name) == 0)
            return &table[i];
    }
    return NULL;
}

static struct cli c;
static struct problem why;
static const struct command *command;
static char store[1024], *words[FILTERS_MOST * 2 + 8];

/* A line of words between blanks. */
static int parse(const char *line)
{
    int count = 0;
    char *rest;

    memset(&c, 0, sizeof(c));
    memset(&why, 0, sizeof(why));
    c.why = &why;
    command = NULL;
    assert_true(strlen(line) < sizeof(store));
    strcpy(store, line);
    for (char *w = strtok_r(store, " ", &rest); w;
         w = strtok_r(NULL, " ", &rest))
        words[count++] = w;
    return options_parse(&c, count, words, true, &command);
}

static void options_stand_anywhere(void **state)
{
    (void)state;
    assert_int_equal(parse("ferry --json -v ls a -rl --sort=size b"), 0);
    assert_ptr_equal(command, &table[0]);
    assert_true(c.json && c.recursive && c.long_list);
    assert_int_equal(c.verbose, 1);
    assert_string_equal(c.sort, "size");
    assert_int_equal(c.argc, 2);
    assert_string_equal(c.argv[0], "a");
    assert_string_equal(c.argv[1], "b");
}

static void behind_two_dashes_all_are_arguments(void **state)
{
    (void)state;
    assert_int_equal(parse("ferry put -- -r --json --"), 0);
    assert_int_equal(c.argc, 3);
    assert_string_equal(c.argv[0], "-r");
    assert_string_equal(c.argv[2], "--");
    assert_false(c.json);
    /* A single dash is an argument. */
    assert_int_equal(parse("ferry put -"), 0);
    assert_int_equal(c.argc, 1);
}

static void a_value_is_joined_or_follows(void **state)
{
    static const char *const lines[] = {"ferry put -j8 a", "ferry put -j 8 a",
                                        "ferry put a --connections 8",
                                        "ferry -j 8 put --connections=8 a"};

    (void)state;
    for (size_t i = 0; i < sizeof(lines) / sizeof(*lines); i++) {
        assert_int_equal(parse(lines[i]), 0);
        assert_int_equal(c.connections, 8);
        assert_int_equal(c.argc, 1);
    }
}

static void filters_keep_their_order(void **state)
{
    (void)state;
    assert_int_equal(parse("ferry put --include *.c x --exclude * --include=y"),
                     0);
    assert_int_equal(c.filter_count, 3);
    assert_true(c.filters[0].include);
    assert_string_equal(c.filters[1].pattern, "*");
    assert_false(c.filters[1].include);
    assert_string_equal(c.filters[2].pattern, "y");
}

static void the_filters_have_a_limit(void **state)
{
    char line[1024] = "ferry put a";

    (void)state;
    for (int i = 0; i < FILTERS_MOST; i++)
        strcat(line, " --include=a");
    assert_int_equal(parse(line), 0);
    assert_int_equal(c.filter_count, FILTERS_MOST);
    strcat(line, " --include=a");
    assert_true(parse(line) < 0);
    assert_int_equal(why.id, PROBLEM_USAGE);
}

static void what_is_wrong_is_named(void **state)
{
    static const struct {
        const char *line, *words;
    } cases[] = {
        {"ferry put --jsn a", "there is no option --jsn; did you mean --json?"},
        {"ferry --frobnicate put a", "there is no option --frobnicate."},
        {"ferry put -z a", "there is no option -z."},
        {"ferry put --sort size a", "'put' takes no option --sort."},
        {"ferry -l put a", "'put' takes no option -l, --long."},
        {"ferry pt a", "'pt' is not a command; did you mean 'put'?"},
        {"ferry frobnicate", "'frobnicate' is not a command."},
        {"ferry put", "put: an argument is missing."},
        {"ferry ls a b c", "ls: 'c' is one argument too many."},
        {"ferry ls --sort", "--sort needs a value: KEY."},
        {"ferry put a -j", "-j needs a value: N."},
        {"ferry put a -j 0", "-j is a number from 1 to 16, not '0'."},
        {"ferry put a -j 17", "-j is a number from 1 to 16, not '17'."},
        {"ferry put a -j 8x", "-j is a number from 1 to 16, not '8x'."},
        {"ferry ls --sort=siz", "--sort is one of: name size time; not 'siz'."},
        {"ferry ls --json=yes", "--json takes no value."},
    };
    char words_said[512];

    (void)state;
    for (size_t i = 0; i < sizeof(cases) / sizeof(*cases); i++) {
        assert_true(parse(cases[i].line) < 0);
        assert_int_equal(why.id, PROBLEM_USAGE);
        problem_sentence(&why, words_said, sizeof(words_said));
        assert_string_equal(words_said, cases[i].words);
    }
}

static void help_needs_no_arguments(void **state)
{
    (void)state;
    assert_int_equal(parse("ferry put --help"), 0);
    assert_true(c.help);
    assert_ptr_equal(command, &table[1]);
    assert_int_equal(parse("ferry -h"), 0);
    assert_true(c.help);
    assert_null(command);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(options_stand_anywhere),
        cmocka_unit_test(behind_two_dashes_all_are_arguments),
        cmocka_unit_test(a_value_is_joined_or_follows),
        cmocka_unit_test(filters_keep_their_order),
        cmocka_unit_test(the_filters_have_a_limit),
        cmocka_unit_test(what_is_wrong_is_named),
        cmocka_unit_test(help_needs_no_arguments),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
