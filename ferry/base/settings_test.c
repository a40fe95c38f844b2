/* SPDX-License-Identifier: MIT */
#include <errno.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include <cmocka.h>

#include "base/settings.h"

struct conf {
    int64_t workers, room, ttl;
    bool pin;
    char *listen;
};

static const struct setting table[] = {
    {"server", "workers", setting_number, offsetof(struct conf, workers), 1, 64,
     "loops"},
    {"server", "pin", setting_bool, offsetof(struct conf, pin), 0, 0, "pin"},
    {"server", "listen", setting_text, offsetof(struct conf, listen), 3, 20,
     "address"},
    {"vault", "room", setting_bytes, offsetof(struct conf, room), 1024,
     INT64_MAX, "room"},
    {"vault", "draft_ttl", setting_span, offsetof(struct conf, ttl), 60, 864000,
     "time"},
};

static char path[] = "/tmp/ferry-settings-XXXXXX";

static int read_bytes(const char *text, size_t size, struct conf *ret,
                      struct problem *why)
{
    FILE *f = fopen(path, "w");

    assert_non_null(f);
    assert_int_equal(fwrite(text, 1, size, f), size);
    fclose(f);
    return settings_read(path, table, sizeof table / sizeof *table, ret, why);
}

static int read_text(const char *text, struct conf *ret, struct problem *why)
{
    return read_bytes(text, strlen(text), ret, why);
}

static void a_file_sets_what_it_names(void **state)
{
    struct conf c = {.workers = 5, .listen = keel_strdup("old")};
    struct problem why;

    (void)state;
    assert_int_equal(read_text("# a comment\n"
                               "[server]\n"
                               "  pin = yes  ; indented, commented\r\n"
                               "listen=0.0.0.0:9001\n"
                               "\n"
                               "[vault]\n"
                               "room = 10 GiB\n"
                               "draft_ttl = 7d",
                               &c, &why),
                     0);
    assert_int_equal(c.workers, 5);
    assert_true(c.pin);
    assert_string_equal(c.listen, "0.0.0.0:9001");
    assert_int_equal(c.room, 10ll << 30);
    assert_int_equal(c.ttl, 7 * 86400);
    keel_free(c.listen);
}

static void an_indented_key_is_a_key(void **state)
{
    struct conf c = {0};

    (void)state;
    assert_int_equal(
        read_text("[server]\nworkers = 3\n\tpin = yes\n", &c, NULL), 0);
    assert_int_equal(c.workers, 3);
    assert_true(c.pin);
}

/* What the file says, and what is said about it. */
static void mistakes_name_line_and_limits(void **state)
{
    static const struct {
        const char *text, *sentence;
    } cases[] = {
        {"[server]\n\nworker = 1\n",
         "F, line 3: there is no setting 'server.worker'; the nearest one is "
         "'server.workers'."},
        {"[valt]\nroom = 1m\n",
         "F, line 2: there is no section [valt]; the nearest one is [vault]."},
        {"room = 1m\n",
         "F, line 1: there is no section above it, such as [server]."},
        {"[server]\nworkers = 65\n",
         "F, line 2: workers must be between 1 and 64."},
        {"[server]\nworkers = 99999999999999999999\n",
         "F, line 2: workers must be between 1 and 64."},
        {"[server]\nworkers = -99999999999999999999\n",
         "F, line 2: workers must be between 1 and 64."},
        {"[server]\nworkers = 6x\n", "F, line 2: workers is not a number."},
        {"[server]\nworkers =\n", "F, line 2: workers is not a number."},
        {"[server]\npin = maybe\n", "F, line 2: pin is either yes or no."},
        {"[server]\nlisten = ab\n",
         "F, line 2: listen must have between 3 and 20 bytes."},
        {"[vault]\nroom = 1 PiB\n",
         "F, line 2: room needs a value such as 512k or 10 GiB."},
        {"[vault]\nroom = -5k\n",
         "F, line 2: room needs a value such as 512k or 10 GiB."},
        {"[vault]\nroom = 1\n",
         "F, line 2: room must be between 1 KiB and 8.0 EiB."},
        {"[vault]\nroom = 9999999999999 TiB\n",
         "F, line 2: room must be between 1 KiB and 8.0 EiB."},
        {"[vault]\ndraft_ttl = 5s\n",
         "F, line 2: draft_ttl must be between 1m and 10d."},
        {"[vault]\ndraft_ttl = 5\n",
         "F, line 2: draft_ttl needs a value such as 30s, 5m, 2h or 7d."},
        {"[server]\nnonsense\n",
         "F, line 2: it is neither '[section]' nor 'key = value'."},
        {"[server]\nworkers = 1\n[vault]\n[server]\nworkers = 1\n",
         "F, line 5: workers was given in line 2 already."},
        {"[server\nworkers = 1\n",
         "F, line 1: it is neither '[section]' nor 'key = value'."},
    };

    (void)state;
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        struct conf c = {0};
        struct problem why;
        char text[512];

        if (read_text(cases[i].text, &c, &why) != -EINVAL)
            fail_msg("taken for good: %s", cases[i].text);
        assert_int_equal(problem_exit_status(&why), 2);
        strcpy(why.name, "F");
        problem_sentence(&why, text, sizeof text);
        assert_string_equal(text, cases[i].sentence);
        keel_free(c.listen);
    }
}

static void long_lines_and_files_and_nuls_are_refused(void **state)
{
    static char text[70000];
    struct problem why;
    struct conf c = {0};

    (void)state;
    memset(text, '#', sizeof text);
    assert_int_equal(read_bytes(text, 300, &c, &why), -EINVAL);
    assert_int_equal(why.id, PROBLEM_SETTING_INVALID);
    assert_int_equal(why.limit, 1);

    for (size_t at = 79; at < sizeof text; at += 80)
        text[at] = '\n';
    assert_int_equal(read_bytes(text, 65536, &c, &why), 0);
    assert_int_equal(read_bytes(text, 65537, &c, &why), -EFBIG);
    assert_int_equal(why.size, 65537);
    assert_int_equal(read_bytes("\n\0\n", 3, &c, &why), -EINVAL);
    assert_int_equal(why.limit, 2);
}

static void a_missing_file_is_named(void **state)
{
    struct problem why;
    struct conf c = {0};

    (void)state;
    assert_int_equal(settings_read("/nonexistent/f", table, 5, &c, &why),
                     -ENOENT);
    assert_int_equal(why.id, PROBLEM_FILE_LOCAL);
    assert_string_equal(why.name, "/nonexistent/f");
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(a_file_sets_what_it_names),
        cmocka_unit_test(an_indented_key_is_a_key),
        cmocka_unit_test(mistakes_name_line_and_limits),
        cmocka_unit_test(long_lines_and_files_and_nuls_are_refused),
        cmocka_unit_test(a_missing_file_is_named),
    };
    int fd = mkstemp(path), rc;

    if (fd < 0)
        return 1;
    close(fd);
    rc = cmocka_run_group_tests(tests, NULL, NULL);
    unlink(path);
    return rc;
}
