/* SPDX-License-Identifier: MIT */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdio.h>
#include <string.h>

#include <cmocka.h>

#include "client/progress.h"
#include "client/text.h"

#define MIB ((uint64_t)1 << 20)
#define DOTS "\xe2\x80\xa6"

static struct progress half_done(const char *name)
{
    struct progress p = {.total = 1024 * MIB, .done = 512 * MIB};

    p.began_with = 112 * MIB;
    snprintf(p.name, sizeof(p.name), "%s", name);
    return p;
}

static void the_line_says_what_a_person_asks(void **state)
{
    struct progress p = half_done("big.bin");
    char line[512];

    (void)state;
    /* 400 MiB in this run took 4 s: 105 MB/s, and 512 MiB are left. */
    progress_line(&p, 4 * KEEL_SECOND, 79, line, sizeof(line));
    assert_non_null(strstr(line, "big.bin"));
    assert_non_null(strstr(line, " 50% "));
    assert_non_null(strstr(line, "512 MiB/1 GiB"));
    assert_non_null(strstr(line, "105 MB/s 0:05"));
    assert_non_null(strchr(line, '['));
}

static void no_terminal_is_too_narrow(void **state)
{
    static const char *const names[] = {
        "", "f", "\xe6\x96\x87\xe4\xbb\xb6.bin",
        ("a-name-that-is-rather-long-for-a-line"
         "-of-eighty-columns-and-then-some.tar"),
        "\\x1b[31m\\xff\\xfe\\\\a\\x1b[0m.tar"};
    char line[512];

    (void)state;
    for (size_t i = 0; i < sizeof(names) / sizeof(*names); i++) {
        struct progress p = half_done(names[i]);

        for (unsigned columns = 0; columns < 300; columns++) {
            progress_line(&p, KEEL_SECOND, columns, line, sizeof(line));
            assert_true(text_columns(line) <= columns);
            /* A name is cut between characters, of two columns each here. */
            if (i == 2 && columns > 40)
                assert_true((line[0] & 0xc0) != 0x80);
            for (size_t at = 0; line[at]; at++) {
                if ((unsigned char)line[at] >= 0xe0)
                    assert_true((line[at + 1] & 0xc0) == 0x80 &&
                                (line[at + 2] & 0xc0) == 0x80);
            }
        }
    }
}

static void nothing_done_yet_and_nothing_to_do(void **state)
{
    struct progress p = {.name = "f", .total = MIB};
    char line[200];

    (void)state;
    progress_line(&p, 0, 79, line, sizeof(line));
    assert_non_null(strstr(line, "  0%"));
    assert_non_null(strstr(line, "--:--"));
    p.total = 0;
    progress_line(&p, KEEL_SECOND, 79, line, sizeof(line));
    assert_non_null(strstr(line, "100%"));
}

static struct progress tree_half(const char *name)
{
    struct progress p = {.tree = true, .done = 18 * MIB, .files_done = 4503};

    progress_count(&p, 10000, 40 * MIB);
    progress_counted(&p);
    snprintf(p.name, sizeof(p.name), "%s", name);
    return p;
}

static void a_tree_tells_files_and_bytes(void **state)
{
    struct progress p = tree_half("src/a.c");
    char line[512];

    (void)state;
    progress_line(&p, KEEL_SECOND, 99, line, sizeof(line));
    assert_non_null(strstr(line, " 45% ["));
    assert_non_null(strstr(line, "4,503/10,000 files"));
    assert_non_null(strstr(line, "18 MiB/40 MiB"));
    assert_non_null(strstr(line, "19 MB/s 0:01 src/a.c"));
    /* Twenty columns have the most important of it. */
    progress_line(&p, KEEL_SECOND, 19, line, sizeof(line));
    assert_string_equal(line, " 45% 19 MB/s 0:01");
}

static void empty_files_take_their_time_too(void **state)
{
    struct progress p = {.tree = true, .files_done = 250};
    char line[512];

    (void)state;
    progress_count(&p, 1000, 0);
    progress_counted(&p);
    progress_line(&p, 5 * KEEL_SECOND, 79, line, sizeof(line));
    assert_non_null(strstr(line, " 25% ["));
    assert_non_null(strstr(line, "250/1,000 files 0 bytes 0 MB/s 0:15"));
}

static void while_it_counts_it_says_so(void **state)
{
    struct progress p = tree_half("src/a.c");
    char line[512];

    (void)state;
    progress_count(&p, 1, 0);
    progress_line(&p, KEEL_SECOND, 79, line, sizeof(line));
    assert_int_equal(strncmp(line, "counting", 8), 0);
    assert_non_null(strstr(line, "4,503/10,001+ files"));
    assert_null(strchr(line, '%'));
    progress_line(&p, KEEL_SECOND, 19, line, sizeof(line));
    assert_string_equal(line, "counting 19 MB/s");
}

static void wide_names_are_measured_in_columns(void **state)
{
    struct progress p = tree_half("\xe6\x96\x87\xe4\xbb\xb6"
                                  "\xe6\x96\x87\xe4\xbb\xb6"
                                  "\xe6\x96\x87\xe4\xbb\xb6"
                                  "\xe6\x96\x87\xe4\xbb\xb6"
                                  "\xe6\x96\x87\xe4\xbb\xb6");
    char line[512];

    (void)state;
    for (unsigned columns = 0; columns < 200; columns++) {
        progress_line(&p, KEEL_SECOND, columns, line, sizeof(line));
        assert_true(text_columns(line) <= columns);
    }
    assert_non_null(strstr(line, p.name));
    p.tree = false;
    p.total = 36 * MIB;
    for (unsigned columns = 0; columns < 200; columns++) {
        progress_line(&p, KEEL_SECOND, columns, line, sizeof(line));
        assert_true(text_columns(line) <= columns);
    }
}

static void a_retry_takes_back_what_will_move_again(void **state)
{
    struct progress p = {.tree = true};
    struct progress_part part = {0};
    char line[512];

    (void)state;
    progress_count(&p, 2, 20 * MIB);
    progress_counted(&p);
    progress_begin(&p, &part, "f", 20 * MIB,
                   5 * MIB); /* from before: no speed of ours */
    progress_part_moved(&p, &part, 5 * MIB);
    progress_line(&p, KEEL_SECOND, 99, line, sizeof(line));
    assert_non_null(strstr(line, "10 MiB/20 MiB 5.2 MB/s"));
    progress_broken(&p, &part);
    progress_line(&p, KEEL_SECOND, 99, line, sizeof(line));
    assert_non_null(strstr(line, " 0%"));
    assert_non_null(strstr(line, "0 bytes/20 MiB 0 MB/s --:--"));
    progress_begin(&p, &part, "f", 20 * MIB,
                   10 * MIB); /* the first attempt's are there now */
    progress_part_moved(&p, &part, 10 * MIB);
    progress_file_done(&p);
    progress_file_done(&p);
    progress_line(&p, 2 * KEEL_SECOND, 99, line, sizeof(line));
    assert_non_null(strstr(line, "100%"));
    assert_non_null(strstr(line, "2/2 files 20 MiB/20 MiB 7.9 MB/s 0:00"));
    assert_int_equal(part.sent, 15 * MIB);
}

/* As a file goes up that was there in part, breaks off twice, and finds less of
 * it than it left. */
static void the_sum_of_one_file_is_that_of_all_attempts(void **state)
{
    struct progress p = {.total = 100 * MIB, .started = keel_now()};
    struct progress_part part = {0};
    char sum[128];

    (void)state;
    progress_begin(&p, &part, "f", 20 * MIB, 10 * MIB);
    progress_part_moved(&p, &part, 50 * MIB);
    progress_broken(&p, &part);
    assert_int_equal(p.done, 0);
    progress_begin(&p, &part, "f", 20 * MIB, 60 * MIB);
    assert_int_equal(p.done, 60 * MIB);
    assert_int_equal(p.began_with, 10 * MIB);
    progress_broken(&p, &part);
    progress_begin(&p, &part, "f", 20 * MIB, 4 * MIB);
    progress_part_moved(&p, &part, 96 * MIB);
    assert_int_equal(p.done, 100 * MIB);
    assert_int_equal(p.began_with, 4 * MIB);
    p.started = keel_now() - 2 * KEEL_SECOND;
    progress_summary(&p, sum, sizeof(sum));
    assert_string_equal(sum,
                        "100 MiB in 2.0 s, 50 MB/s; 4 MiB were there already");
    p.started = keel_now() - 3725 * KEEL_SECOND;
    p.began_with = 0;
    progress_summary(&p, sum, sizeof(sum));
    assert_string_equal(sum, "100 MiB in 1:02:05, 28 kB/s");
}

static void a_long_name_is_shortened_in_its_middle(void **state)
{
    struct progress p = half_done("holiday-pictures-of-the-summer-of-2026-in-"
                                  "the-mountains-all-of-them-raw.tar");
    char line[512];

    (void)state;
    progress_line(&p, 4 * KEEL_SECOND, 77, line, sizeof(line));
    assert_string_equal(line, "holiday-picture" DOTS "of-them-raw.tar  50% "
                              "[#####     ] 512 MiB/1 GiB 105 MB/s 0:05");
    progress_line(&p, 4 * KEEL_SECOND, 47, line, sizeof(line));
    assert_string_equal(line, "holiday" DOTS "aw.tar  50% "
                              "512 MiB/1 GiB 105 MB/s 0:05");
    /* Twenty columns have the most important. */
    progress_line(&p, 4 * KEEL_SECOND, 19, line, sizeof(line));
    assert_string_equal(line, " 50% 105 MB/s 0:05");
}

/* Escapes are four columns, or two of a backslash, and never cut. */
static void names_are_cut_between_what_belongs_together(void **state)
{
    static const char *const names[] = {
        "\\x1b[31m\\\\\\x1b[0m\\xff\\xfe\\x07.bin",
        "e\xcc\x81"
        "e\xcc\x81"
        "e\xcc\x81"
        "e\xcc\x81"
        "e\xcc\x81"
        "e\xcc\x81",
        "\xe6\x96\x87\xe4\xbb\xb6\xe6\x96\x87\xe4\xbb\xb6.bin",
    };
    char out[512];

    (void)state;
    for (size_t i = 0; i < sizeof(names) / sizeof(*names); i++) {
        for (unsigned columns = 0; columns < 40; columns++) {
            text_shorten(names[i], columns, out, sizeof(out));
            assert_true(text_columns(out) <= columns);
            assert_true(text_columns(names[i]) > columns ||
                        strcmp(names[i], out) == 0);
            /* As much as there is room for, but for what belongs together. */
            if (columns < text_columns(names[i]))
                assert_true(text_columns(out) + 7 > columns);
            for (char *at = out; *at; at++) {
                if (*at == '\\' && at[1] == '\\')
                    at++;
                else if (*at == '\\')
                    assert_true(at[1] == 'x' && at[2] && at[3]);
                /* A mark has its letter. */
                if (*at == '\xcc')
                    assert_true(at > out && at[-1] == 'e');
            }
        }
    }
    text_shorten("a-name.tar.gz", 8, out, sizeof(out));
    assert_string_equal(out, "a-na" DOTS ".gz");
    text_shorten("a-name.tar.gz", 1, out, sizeof(out));
    assert_string_equal(out, DOTS);
}

static void a_large_file_of_a_tree_has_a_share_of_its_own(void **state)
{
    struct progress p = {.tree = true, .files_done = 7};
    struct progress_part film = {0}, disk = {0}, small = {0};
    char line[512];

    (void)state;
    progress_count(&p, 10, 200 * MIB);
    progress_counted(&p);
    snprintf(p.name, sizeof(p.name), "a.c");
    /* What is there from before is a share of it, too. */
    progress_begin(&p, &film, "film.mov", 100 * MIB, 10 * MIB);
    progress_part_moved(&p, &film, 35 * MIB);
    progress_line(&p, KEEL_SECOND, 99, line, sizeof(line));
    assert_non_null(strstr(line, " 22% ["));
    assert_string_equal(strrchr(line, ':') + 3, " film.mov 45%");
    /* A second one waits its turn, a small one has none. */
    progress_begin(&p, &disk, "disk\x1b.img", 50 * MIB, 0);
    progress_begin(&p, &small, "small", MIB - 1, 0);
    progress_part_moved(&p, &disk, 5 * MIB);
    progress_line(&p, KEEL_SECOND, 99, line, sizeof(line));
    assert_non_null(strstr(line, " film.mov 45%"));
    /* The first is broken, and begins again behind the other. */
    progress_broken(&p, &film);
    progress_line(&p, KEEL_SECOND, 99, line, sizeof(line));
    assert_non_null(strstr(line, " disk\\x1b.img 10%"));
    progress_begin(&p, &film, "film.mov", 100 * MIB, 45 * MIB);
    progress_line(&p, KEEL_SECOND, 99, line, sizeof(line));
    assert_non_null(strstr(line, " disk\\x1b.img 10%"));
    progress_ended(&p, &disk);
    progress_part_moved(&p, &film, 60 * MIB); /* a chunk of it twice */
    progress_line(&p, KEEL_SECOND, 99, line, sizeof(line));
    assert_non_null(strstr(line, " film.mov 100%"));
    progress_ended(&p, &film);
    progress_ended(&p, &small);
    progress_line(&p, KEEL_SECOND, 99, line, sizeof(line));
    assert_non_null(strstr(line, " a.c"));
}

static void a_share_stands_where_there_is_room(void **state)
{
    static const char *const names[] = {
        "f", "film.mov",
        "holiday-pictures-of-the-summer-of-2026-in-the-mountains.tar",
        ("\xe6\x96\x87\xe4\xbb\xb6\xe6\x96\x87\xe4\xbb\xb6"
         "\xe6\x96\x87\xe4\xbb\xb6\xe6\x96\x87\xe4\xbb\xb6.bin")};
    char line[2048], whole[128], longest[4096];

    (void)state;
    memset(longest, 'x', sizeof(longest) - 1);
    longest[sizeof(longest) - 1] = 0;
    for (size_t i = 0; i <= sizeof(names) / sizeof(*names); i++) {
        const char *name =
            i < sizeof(names) / sizeof(*names) ? names[i] : longest;
        struct progress p = tree_half("src/a.c");
        struct progress_part part = {0};

        progress_begin(&p, &part, name, 20 * MIB, 9 * MIB);
        for (unsigned columns = 0; columns < 300; columns++) {
            progress_line(&p, KEEL_SECOND, columns, line, sizeof(line));
            assert_true(text_columns(line) <= columns);
            /* Whole numbers, and of this file. */
            if (strchr(line, '%') != strrchr(line, '%'))
                assert_string_equal(strrchr(line, ' '), " 45%");
        }
        assert_string_equal(strrchr(line, ' '), " 45%");
        if (name != longest) {
            snprintf(whole, sizeof(whole), " %.100s 45%%", name);
            assert_non_null(strstr(line, whole));
        }
    }
    /* Twenty columns are for the whole. */
    struct progress p = tree_half("src/a.c");
    struct progress_part part = {0};

    progress_begin(&p, &part, "film.mov", 20 * MIB, 0);
    progress_part_moved(&p, &part, 9 * MIB);
    progress_line(&p, KEEL_SECOND, 19, line, sizeof(line));
    assert_string_equal(line, " 56% 28 MB/s 0:01");
}

static void waiting_counts_down(void **state)
{
    struct progress p = tree_half("f");
    char line[512];

    (void)state;
    snprintf(p.waiting, sizeof(p.waiting), "Cannot reach host.");
    p.waiting_until = 100 * KEEL_SECOND;
    progress_line(&p, 93 * KEEL_SECOND, 79, line, sizeof(line));
    assert_string_equal(line, "Again in 0:07: Cannot reach host.");
    progress_line(&p, 93 * KEEL_SECOND, 19, line, sizeof(line));
    assert_string_equal(line, "Again in 0:07: Can" DOTS);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(the_line_says_what_a_person_asks),
        cmocka_unit_test(no_terminal_is_too_narrow),
        cmocka_unit_test(nothing_done_yet_and_nothing_to_do),
        cmocka_unit_test(a_tree_tells_files_and_bytes),
        cmocka_unit_test(empty_files_take_their_time_too),
        cmocka_unit_test(while_it_counts_it_says_so),
        cmocka_unit_test(wide_names_are_measured_in_columns),
        cmocka_unit_test(a_retry_takes_back_what_will_move_again),
        cmocka_unit_test(the_sum_of_one_file_is_that_of_all_attempts),
        cmocka_unit_test(a_long_name_is_shortened_in_its_middle),
        cmocka_unit_test(names_are_cut_between_what_belongs_together),
        cmocka_unit_test(a_large_file_of_a_tree_has_a_share_of_its_own),
        cmocka_unit_test(a_share_stands_where_there_is_room),
        cmocka_unit_test(waiting_counts_down),
    };

    text_begin(true);
    return cmocka_run_group_tests(tests, NULL, NULL);
}
