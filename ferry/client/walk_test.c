/* SPDX-License-Identifier: MIT */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include <cmocka.h>

#include <keel/file.h>

#include "client/walk.h"

static char root[64];

static void make(const char *path)
{
    char text[PATH_BYTES];
    size_t size = strlen(path);
    int fd;

    snprintf(text, sizeof(text), "%s/%s", root, path);
    if (path[size - 1] == '/') {
        assert_int_equal(mkdir(text, 0700), 0);
        return;
    }
    fd = open(text, O_CREAT | O_WRONLY, 0600);
    assert_true(fd >= 0);
    close(fd);
}

static int setup(void **state)
{
    (void)state;
    snprintf(root, sizeof(root), "/tmp/walk_test.XXXXXX");
    return mkdtemp(root) ? 0 : -1;
}

static int teardown(void **state)
{
    char command[128];

    (void)state;
    snprintf(command, sizeof(command), "rm -rf %s", root);
    return system(command);
}

/* ---- what was seen, a line an event, in any order of a directory's names */

#define SEEN_MOST 2000
struct seen {
    char lines[SEEN_MOST][300];
    int count, stop_at;
};

static int see(const struct walk_event *e, void *arg)
{
    static const char kinds[] = "<>fl?!";
    struct seen *s = arg;

    assert_true(s->count < SEEN_MOST);
    snprintf(s->lines[s->count++], 300, "%c%.200s %s", kinds[e->kind], e->path,
             e->why ? problem_code(e->why) : "");
    if (s->stop_at && s->count >= s->stop_at)
        return 1;
    return 0;
}

static int order(const void *a, const void *b)
{
    return strcmp(a, b);
}

static int walked(const struct walk_options *o, struct seen *ret)
{
    int fd = open(root, O_RDONLY | O_DIRECTORY), rc;

    assert_true(fd >= 0);
    rc = walk(o, fd, see, ret);
    close(fd);
    return rc;
}

static bool saw(const struct seen *s, const char *line)
{
    for (int i = 0; i < s->count; i++) {
        if (strcmp(s->lines[i], line) == 0)
            return true;
    }
    return false;
}

static void everything_is_told_once_and_links_are_not_followed(void **state)
{
    struct walk_options o = {.name = "root"};
    struct seen *s = calloc(1, sizeof(*s));
    char link[128];

    (void)state;
    make("a/");
    make("a/b/");
    make("a/b/file");
    make("empty/");
    make("new\nline");
    snprintf(link, sizeof(link), "%s/up", root);
    assert_int_equal(symlink("/", link), 0);
    snprintf(link, sizeof(link), "%s/fifo", root);
    assert_int_equal(mkfifo(link, 0600), 0);
    assert_int_equal(walked(&o, s), 0);
    /* A directory's content lies between its ENTER and its LEAVE. */
    assert_string_equal(s->lines[0], "< ");
    assert_string_equal(s->lines[s->count - 1], "> ");
    qsort(s->lines, (size_t)s->count, sizeof(s->lines[0]), order);
    assert_int_equal(s->count, 12);
    assert_true(saw(s, "<a/b ") && saw(s, ">a/b "));
    assert_true(saw(s, "<empty ") && saw(s, ">empty "));
    assert_true(saw(s, "fa/b/file ") && saw(s, "fnew\nline "));
    assert_true(saw(s, "lup ") && saw(s, "?fifo "));
    free(s);
}

static void excluded_directories_are_not_entered(void **state)
{
    const struct filter filters[] = {
        {"keep.o", true}, {"*.o", false}, {"/build/", false}, {"a/*.c", false}};
    struct walk_options o = {
        .name = "root", .filters = filters, .filter_count = 4};
    struct seen *s = calloc(1, sizeof(*s));

    (void)state;
    make("a/");
    make("a/x.c");
    make("a/x.o");
    make("a/keep.o");
    make("a/build/");
    make("a/build/y.c");
    make("build/");
    make("build/z");
    make("x.c");
    assert_int_equal(walked(&o, s), 0);
    assert_int_equal(s->count, 9);
    assert_true(saw(s, "fx.c ") && saw(s, "fa/keep.o "));
    assert_true(saw(s, "fa/build/y.c "));
    free(s);
}

static void what_the_other_side_cannot_name_is_a_problem(void **state)
{
    struct walk_options o = {.name = "root", .base_depth = PATH_DEPTH - 2};
    struct seen *s = calloc(1, sizeof(*s));

    (void)state;
    make("a/");
    make("a/b/");
    make("a/b/c");
    make("a/d");
    assert_int_equal(walked(&o, s), 0);
    assert_true(saw(s, "fa/d "));
    assert_true(saw(s, "!a/b/c path.too_deep"));
    s->count = 0;
    o.base_depth = 0;
    o.base_size = PATH_BYTES - 4;
    assert_int_equal(walked(&o, s), 0);
    assert_true(saw(s, "fa/d "));
    assert_true(saw(s, "!a/b/c path.too_long"));
    free(s);
}

/* Each of two directories takes the other one away when it is entered. */
static int remove_other(const struct walk_event *e, void *arg)
{
    char other[128];

    if (e->kind == WALK_ENTER && *e->path) {
        snprintf(other, sizeof(other), "%s/%c", root,
                 *e->path == 'x' ? 'y' : 'x');
        assert_int_equal(rmdir(other), 0);
    }
    return see(e, arg);
}

static void a_directory_that_vanishes_does_not_stop_the_rest(void **state)
{
    struct walk_options o = {.name = "root"};
    struct seen *s = calloc(1, sizeof(*s));
    int fd = open(root, O_RDONLY | O_DIRECTORY);

    (void)state;
    make("x/");
    make("y/");
    make("file");
    assert_int_equal(walk(&o, fd, remove_other, s), 0);
    close(fd);
    assert_true(saw(s, "ffile "));
    assert_true(saw(s, "<x ") != saw(s, "<y "));
    assert_true(saw(s, "!x file.local") != saw(s, "!y file.local"));
    free(s);
}

static void the_walk_ends_when_it_is_told_to(void **state)
{
    struct walk_options o = {.name = "root"};
    struct seen *s = calloc(1, sizeof(*s));
    int open = 0;

    (void)state;
    make("a/");
    make("a/b/");
    make("a/b/c/");
    make("a/b/c/d");
    s->stop_at = 5;
    assert_int_equal(walked(&o, s), 1);
    for (int i = 0; i < s->count; i++)
        open += s->lines[i][0] == '<' ? 1 : s->lines[i][0] == '>' ? -1 : 0;
    assert_int_equal(open, 0); /* each that was entered is left */
    free(s);
}

static void patterns_match_as_in_gitignore(void **state)
{
    static const struct {
        const char *pattern, *path;
        bool directory, matches;
    } cases[] = {
        {"*.o", "a.o", false, true},
        {"*.o", "src/a.o", false, true},
        {"*.o", "a.o/b", false, false},
        {"src/*.o", "src/a.o", false, true},
        {"src/*.o", "lib/src/a.o", false, false},
        {"src/*.o", "src/deep/a.o", false, false},
        {"/a", "a", false, true},
        {"/a", "b/a", false, false},
        {"a/", "b/a", true, true},
        {"a/", "b/a", false, false},
        {"[ab]?", "b1", false, true},
        {"*", ".hidden", false, true},
        {"\xff*", "\xff\xfe", false, true},
        {"", "a", false, false},
    };

    (void)state;
    for (size_t i = 0; i < sizeof(cases) / sizeof(*cases); i++) {
        struct filter f = {cases[i].pattern, false};

        assert_int_equal(filter_keeps(&f, 1, cases[i].path, cases[i].directory),
                         !cases[i].matches);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup_teardown(
            everything_is_told_once_and_links_are_not_followed, setup,
            teardown),
        cmocka_unit_test_setup_teardown(excluded_directories_are_not_entered,
                                        setup, teardown),
        cmocka_unit_test_setup_teardown(
            what_the_other_side_cannot_name_is_a_problem, setup, teardown),
        cmocka_unit_test_setup_teardown(
            a_directory_that_vanishes_does_not_stop_the_rest, setup, teardown),
        cmocka_unit_test_setup_teardown(the_walk_ends_when_it_is_told_to, setup,
                                        teardown),
        cmocka_unit_test(patterns_match_as_in_gitignore),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
