/* SPDX-License-Identifier: MIT */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdio.h>
#include <string.h>

#include <cmocka.h>

#include "client/progress.h"

#define MIB ((uint64_t)1 << 20)

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
         "-of-eighty-columns-and-then-some.tar")};
    char line[512];

    (void)state;
    for (size_t i = 0; i < sizeof(names) / sizeof(*names); i++) {
        struct progress p = half_done(names[i]);

        for (unsigned columns = 0; columns < 300; columns++) {
            progress_line(&p, KEEL_SECOND, columns, line, sizeof(line));
            assert_true(strlen(line) <= columns + 4);
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

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(the_line_says_what_a_person_asks),
        cmocka_unit_test(no_terminal_is_too_narrow),
        cmocka_unit_test(nothing_done_yet_and_nothing_to_do),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
