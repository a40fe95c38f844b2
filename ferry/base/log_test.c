/* SPDX-License-Identifier: MIT */
#include <errno.h>
#include <fcntl.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include <cmocka.h>

#include <keel/seam.h>

#include "base/log.h"

static int64_t fixed_date(void)
{
    return 1767323045678000000; /* 2026-01-02T03:04:05.678Z */
}

static int pipe_open(int ret[2])
{
    keel_seam.wall_ns = fixed_date;
    return pipe(ret);
}

/* Everything the pipe holds. */
static char *drain(int fd)
{
    size_t size = 1 << 20, at = 0;
    char *text = malloc(size + 1);
    ssize_t n;

    fcntl(fd, F_SETFL, O_NONBLOCK);
    while ((n = read(fd, text + at, size - at)) > 0)
        at += (size_t)n;
    text[at] = '\0';
    return text;
}

static void a_line_has_date_level_and_words(void **state)
{
    int p[2];
    char *text;

    (void)state;
    assert_int_equal(pipe_open(p), 0);
    log_open(p[1], LOG_INFO);
    log_warn("xfer=%d failed", 7);
    log_debug("not wanted");
    text = drain(p[0]);
    assert_string_equal(
        text,
        "time=2026-01-02T03:04:05.678Z level=warn sub=base xfer=7 failed\n");
    free(text);
    close(p[0]);
    close(p[1]);
}

static void one_event_is_one_line(void **state)
{
    char words[5000];
    char *text;
    int p[2];

    (void)state;
    memset(words, 'x', sizeof words);
    words[sizeof words - 1] = '\0';
    words[3] = '\n';
    words[4] = '\x1b';
    assert_int_equal(pipe_open(p), 0);
    log_open(p[1], LOG_INFO);
    log_info("%s", words);
    text = drain(p[0]);
    assert_int_equal(strlen(text), 2048);
    assert_ptr_equal(strchr(text, '\n'), text + 2047);
    assert_memory_equal(text + 2047 - 3, "...", 3);
    assert_null(strchr(text, '\x1b'));
    free(text);
    close(p[0]);
    close(p[1]);
}

static void a_stuck_reader_never_blocks_and_learns_what_it_missed(void **state)
{
    int p[2], lines = 0;
    char *text;

    (void)state;
    assert_int_equal(pipe_open(p), 0);
    log_open(p[1], LOG_INFO); /* a blocking pipe: a plain write would hang */
    for (int i = 0; i < 20000; i++)
        log_info("line %d of a flood", i);
    text = drain(p[0]);
    for (char *c = text; (c = strchr(c, '\n')); c++)
        lines++;
    assert_in_range(lines, 100, 19999);
    free(text);

    log_info("after it");
    text = drain(p[0]);
    char expected[300];

    snprintf(expected, sizeof expected,
             "time=2026-01-02T03:04:05.678Z level=warn log: %d lines "
             "were dropped for want of room\n"
             "time=2026-01-02T03:04:05.678Z level=info sub=base after it\n",
             20000 - lines);
    assert_string_equal(text, expected);
    free(text);
    close(p[0]);
    close(p[1]);
}

static void a_service_manager_gets_its_prefix(void **state)
{
    struct stat st;
    char own[64], *text;
    int p[2];

    (void)state;
    assert_int_equal(pipe_open(p), 0);
    assert_int_equal(fstat(p[1], &st), 0);
    snprintf(own, sizeof own, "%llu:%llu", (unsigned long long)st.st_dev,
             (unsigned long long)st.st_ino);
    setenv("JOURNAL_STREAM", own, 1);
    log_open(p[1], LOG_DEBUG);
    log_error("e");
    log_debug("d");
    text = drain(p[0]);
    assert_string_equal(text, "<3>sub=base e\n<7>sub=base d\n");
    free(text);

    setenv("JOURNAL_STREAM", "1:2", 1); /* somebody else's stream */
    log_open(p[1], LOG_DEBUG);
    log_error("e");
    text = drain(p[0]);
    assert_memory_equal(text, "time=2026", 9);
    free(text);
    unsetenv("JOURNAL_STREAM");
    close(p[0]);
    close(p[1]);
}

static void a_file_takes_lines_too(void **state)
{
    FILE *f = tmpfile();
    char line[200] = "";

    (void)state;
    keel_seam.wall_ns = fixed_date;
    log_open(fileno(f), LOG_INFO);
    log_info("one");
    log_info("two");
    rewind(f);
    assert_non_null(fgets(line, sizeof line, f));
    assert_non_null(fgets(line, sizeof line, f));
    assert_string_equal(
        line, "time=2026-01-02T03:04:05.678Z level=info sub=base two\n");
    fclose(f);
}

/* Reads a whole small file. */
static void slurp(const char *path, char *ret, size_t size)
{
    FILE *f = fopen(path, "r");

    assert_non_null(f);
    ret[fread(ret, 1, size - 1, f)] = '\0';
    fclose(f);
}

static void a_rotated_file_is_opened_anew(void **state)
{
    char dir[] = "/tmp/log-test-XXXXXX", path[64], old[64], text[1000];

    (void)state;
    keel_seam.wall_ns = fixed_date;
    assert_non_null(mkdtemp(dir));
    snprintf(path, sizeof path, "%s/log", dir);
    snprintf(old, sizeof old, "%s/log.1", dir);
    log_open(2, LOG_INFO);
    assert_int_equal(log_file(path), 0);
    log_info("before");
    assert_int_equal(rename(path, old), 0);
    log_info("still there");
    assert_int_equal(log_file(path), 0);
    log_info("after");
    slurp(old, text, sizeof text);
    assert_non_null(strstr(text, "still there"));
    slurp(path, text, sizeof text);
    assert_string_equal(
        text, "time=2026-01-02T03:04:05.678Z level=info sub=base after\n");

    /* What cannot be opened changes nothing. */
    assert_int_equal(log_file(dir), -EISDIR);
    log_info("as ever");
    slurp(path, text, sizeof text);
    assert_non_null(strstr(text, "as ever"));
    assert_int_equal(unlink(path) | unlink(old) | rmdir(dir), 0);
}

static void a_full_disk_drops_lines_and_their_count_is_logged(void **state)
{
    char dir[] = "/tmp/log-test-XXXXXX", path[64], text[1000];
    uint64_t before = log_dropped();

    (void)state;
    keel_seam.wall_ns = fixed_date;
    assert_non_null(mkdtemp(dir));
    snprintf(path, sizeof path, "%s/log", dir);
    assert_int_equal(log_file("/dev/full"), 0);
    for (int i = 0; i < 5; i++)
        log_info("line %d", i);
    assert_int_equal(log_dropped() - before, 5);
    assert_int_equal(log_file(path), 0);
    log_info("room again");
    slurp(path, text, sizeof text);
    assert_non_null(strstr(text, "5 lines were dropped"));
    assert_non_null(strstr(text, "room again"));
    assert_int_equal(unlink(path) | rmdir(dir), 0);
}

static void a_reader_that_is_gone_ends_nobody(void **state)
{
    uint64_t before = log_dropped();
    int p[2];

    (void)state;
    assert_int_equal(pipe_open(p), 0);
    log_open(p[1], LOG_INFO);
    close(p[0]);
    log_info("to nobody");
    assert_int_equal(log_dropped() - before, 1);
    close(p[1]);
}

static void levels_have_names(void **state)
{
    enum log_level level = LOG_ERROR;

    (void)state;
    assert_int_equal(log_level_parse("debug", &level), 0);
    assert_int_equal(level, LOG_DEBUG);
    assert_int_equal(log_level_parse("loud", &level), -EINVAL);
    assert_string_equal(log_level_name(LOG_WARN), "warn");
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(a_line_has_date_level_and_words),
        cmocka_unit_test(one_event_is_one_line),
        cmocka_unit_test(a_stuck_reader_never_blocks_and_learns_what_it_missed),
        cmocka_unit_test(a_service_manager_gets_its_prefix),
        cmocka_unit_test(a_file_takes_lines_too),
        cmocka_unit_test(a_rotated_file_is_opened_anew),
        cmocka_unit_test(a_full_disk_drops_lines_and_their_count_is_logged),
        cmocka_unit_test(a_reader_that_is_gone_ends_nobody),
        cmocka_unit_test(levels_have_names),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
