/* SPDX-License-Identifier: MIT */
#include "client/home.h"

#include <errno.h>
#include <fcntl.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include <cmocka.h>

#include "test/fault.h"

static char root[64];
static struct home h;
static struct problem why;

static void remove_below(const char *path)
{
    char command[256];

    snprintf(command, sizeof(command), "rm -rf '%s'", path);
    assert_int_equal(system(command), 0);
}

static int begin(void **state)
{
    (void)state;
    snprintf(root, sizeof(root), "/tmp/ferry-home-test.XXXXXX");
    assert_non_null(mkdtemp(root));
    unsetenv("FERRY_PROFILE");
    setenv("FERRY_HOME", root, 1);
    assert_int_equal(home_open(&h, &why), 0);
    return 0;
}

static int end(void **state)
{
    (void)state;
    fault_clear();
    home_close(&h);
    remove_below(root);
    return 0;
}

static struct profile profile_of(const char *name, const char *user)
{
    struct profile p = {.device = 7};

    snprintf(p.name, sizeof(p.name), "%s", name);
    snprintf(p.login.user, sizeof(p.login.user), "%s", user);
    snprintf(p.login.server, sizeof(p.login.server), "[::1]:9001");
    for (unsigned i = 0; i < sizeof(p.key); i++)
        p.key[i] = (uint8_t)(i * 7 + (unsigned char)user[0]);
    return p;
}

static void write_file(const char *name, const char *text)
{
    char path[256];
    FILE *f;

    snprintf(path, sizeof(path), "%s/%s", root, name);
    f = fopen(path, "w");
    assert_non_null(f);
    fputs(text, f);
    fclose(f);
}

static mode_t mode_of(const char *name)
{
    char path[256];
    struct stat st;

    snprintf(path, sizeof(path), "%s/%s", root, name);
    assert_int_equal(stat(path, &st), 0);
    return st.st_mode & 07777;
}

static void assert_same(const struct profile *a, const struct profile *b)
{
    assert_string_equal(a->name, b->name);
    assert_string_equal(a->login.user, b->login.user);
    assert_string_equal(a->login.server, b->login.server);
    assert_int_equal(a->device, b->device);
    assert_memory_equal(a->key, b->key, sizeof(a->key));
}

/* ---- profiles ------------------------------------------------------------ */

static void a_profile_comes_back_as_it_was_and_is_the_default(void **state)
{
    struct profile ada = profile_of("work", "ada"), bo = profile_of("bo", "bo");
    struct profile got;

    (void)state;
    assert_int_equal(profile_load(&h, NULL, &got, &why), -ENOKEY);
    assert_string_equal(problem_code(&why), "login.needed");
    assert_int_equal(profile_store(&h, &ada, &why), 0);
    assert_int_equal(profile_store(&h, &bo, &why), 0);
    assert_int_equal(profile_load(&h, NULL, &got, &why), 0);
    assert_same(&got, &bo);
    assert_int_equal(profile_load(&h, "work", &got, &why), 0);
    assert_same(&got, &ada);
    setenv("FERRY_PROFILE", "work", 1);
    assert_int_equal(profile_load(&h, NULL, &got, &why), 0);
    assert_same(&got, &ada);
}

static void keys_are_for_their_owner_only(void **state)
{
    struct profile ada = profile_of("work", "ada");
    const uint8_t pin[32] = {1};

    (void)state;
    assert_int_equal(profile_store(&h, &ada, &why), 0);
    assert_int_equal(pin_store(&h, "host:1", pin, &why), 0);
    assert_int_equal(mode_of("profiles"), 0700);
    assert_int_equal(mode_of("profiles/work.json"), 0600);
    assert_int_equal(mode_of("pins.json"), 0600);
}

static void names_that_lead_elsewhere_are_refused(void **state)
{
    static const char *const names[] = {
        "",
        ".",
        "..",
        ".hidden",
        "a/b",
        "a b",
        "a\n",
        "\303\251",
        "0123456789012345678901234567890123456789012345678901234567890123x"};
    struct profile p = profile_of("x", "ada");

    (void)state;
    for (size_t i = 0; i < sizeof(names) / sizeof(*names); i++) {
        snprintf(p.name, sizeof(p.name), "%s", names[i]);
        assert_true(profile_name_check(names[i], &why) < 0);
        if (strlen(names[i]) <= PROFILE_BYTES)
            assert_true(profile_store(&h, &p, &why) < 0);
        assert_true(profile_remove(&h, names[i], &why) < 0);
    }
    assert_int_equal(profile_name_check("ada@host.example-1_x", &why), 0);
}

static void a_damaged_profile_is_named_and_no_login(void **state)
{
    static const char *const texts[] = {
        "", "{", "[]", "7", "{}", "{\"user\":7,\"server\":\"h:1\"}",
        "{\"user\":\"ada\",\"server\":\"\"}",
        "{\"user\":\"ada\",\"user\":\"bo\",\"server\":\"h:1\"}",
        /* a device without its key, and with half of one */
        "{\"user\":\"ada\",\"server\":\"h:1\",\"device\":3}",
        "{\"user\":\"ada\",\"server\":\"h:1\",\"device\":3,\"key\":\"AAAA\"}",
        "{\"server\":\"h:1\",\"user\":\"an-account-has-no-such-long-names\"}"};
    struct profile got;

    (void)state;
    for (size_t i = 0; i < sizeof(texts) / sizeof(*texts); i++) {
        write_file("profiles/bad.json", texts[i]);
        assert_true(profile_load(&h, "bad", &got, &why) < 0);
        assert_string_equal(problem_code(&why), "setting.invalid");
        assert_string_equal(why.name, "bad.json");
    }
}

static void who_logs_out_of_the_default_has_none(void **state)
{
    struct profile ada = profile_of("work", "ada"), bo = profile_of("bo", "bo");
    struct profile got;

    (void)state;
    assert_int_equal(profile_store(&h, &ada, &why), 0);
    assert_int_equal(profile_store(&h, &bo, &why), 0);
    assert_int_equal(profile_remove(&h, "work", &why), 0);
    assert_int_equal(profile_load(&h, NULL, &got, &why), 0);
    assert_same(&got, &bo);
    assert_int_equal(profile_remove(&h, "bo", &why), 0);
    assert_int_equal(profile_load(&h, NULL, &got, &why), -ENOKEY);
    assert_int_equal(profile_remove(&h, "bo", &why), 0); /* gone is gone */
}

/* Each operation of storing fails once: what is found then is old or new. */
static void storing_is_all_or_nothing(void **state)
{
    static const enum keel_op ops[] = {KEEL_OP_OPEN, KEEL_OP_WRITE,
                                       KEEL_OP_SYNC, KEEL_OP_RENAME};
    struct profile old = profile_of("work", "ada"),
                   new = profile_of("work", "bo"), got;

    (void)state;
    for (size_t i = 0; i < sizeof(ops) / sizeof(*ops); i++) {
        for (unsigned nth = 1;; nth++) {
            int rc;

            assert_int_equal(profile_store(&h, &old, &why), 0);
            fault_fail(ops[i], nth, EIO);
            rc = profile_store(&h, &new, &why);
            if (!fault_fired()) {
                assert_int_equal(rc, 0);
                break;
            }
            assert_int_equal(rc, -EIO);
            assert_string_equal(problem_code(&why), "file.local");
            assert_int_equal(profile_load(&h, "work", &got, &why), 0);
            assert_same(&got, strcmp(got.login.user, "bo") == 0 ? &new : &old);
        }
    }
}

static void storing_survives_each_allocation_failure(void **state)
{
    struct profile ada = profile_of("work", "ada"), got;

    (void)state;
    for (unsigned nth = 1;; nth++) {
        int rc;

        fault_fail_alloc(nth);
        rc = profile_store(&h, &ada, &why);
        if (rc == 0)
            rc = profile_load(&h, NULL, &got, &why);
        if (!fault_fired()) {
            assert_int_equal(rc, 0);
            assert_same(&got, &ada);
            return;
        }
        assert_int_equal(rc, -ENOMEM);
    }
}

/* ---- pins ------------------------------------------------------------------- */

static void pins_are_kept_by_server(void **state)
{
    const uint8_t one[32] = {1}, two[32] = {2};
    uint8_t got[32];
    bool known = true;

    (void)state;
    assert_int_equal(pin_load(&h, "a:1", &known, got, &why), 0);
    assert_false(known);
    assert_int_equal(pin_store(&h, "a:1", one, &why), 0);
    assert_int_equal(pin_store(&h, "b:1", two, &why), 0);
    assert_int_equal(pin_store(&h, "b:1", one, &why), 0);
    assert_int_equal(pin_store(&h, "b:1", two, &why), 0);
    assert_int_equal(pin_load(&h, "a:1", &known, got, &why), 0);
    assert_true(known);
    assert_memory_equal(got, one, 32);
    assert_int_equal(pin_load(&h, "b:1", &known, got, &why), 0);
    assert_true(known);
    assert_memory_equal(got, two, 32);
    assert_int_equal(pin_load(&h, "a:2", &known, got, &why), 0);
    assert_false(known);
}

/* Or a damaged file would make the client trust whoever answers. */
static void a_damaged_pin_is_not_the_absence_of_one(void **state)
{
    static const char *const texts[] = {"{\"a:1\":\"AAAA\"}",
                                        "{\"a:1\":\"!\"}",
                                        "{\"a:1\":\"\"}",
                                        "{\"a:1\":7}",
                                        "{\"a:1\":null}",
                                        "{",
                                        "",
                                        "[]"};
    uint8_t got[32];
    bool known;

    (void)state;
    for (size_t i = 0; i < sizeof(texts) / sizeof(*texts); i++) {
        write_file("pins.json", texts[i]);
        assert_true(pin_load(&h, "a:1", &known, got, &why) < 0);
        assert_false(known);
        assert_string_equal(problem_code(&why), "setting.invalid");
    }
}

/* ---- where it is ---------------------------------------------------------------- */

static void missing_directories_are_made_for_the_owner(void **state)
{
    char path[128];
    struct home deep;

    (void)state;
    snprintf(path, sizeof(path), "%s/y//z/", root);
    setenv("FERRY_HOME", path, 1);
    assert_int_equal(home_open(&deep, &why), 0);
    home_close(&deep);
    assert_int_equal(mode_of("y"), 0700);
    assert_int_equal(mode_of("y/z/journals"), 0700);
    write_file("file", "");
    snprintf(path, sizeof(path), "%s/file/x", root);
    setenv("FERRY_HOME", path, 1);
    assert_int_equal(home_open(&deep, &why), -ENOTDIR);
}

#define TEST(name) cmocka_unit_test_setup_teardown(name, begin, end)

int main(void)
{
    const struct CMUnitTest tests[] = {
        TEST(a_profile_comes_back_as_it_was_and_is_the_default),
        TEST(keys_are_for_their_owner_only),
        TEST(names_that_lead_elsewhere_are_refused),
        TEST(a_damaged_profile_is_named_and_no_login),
        TEST(who_logs_out_of_the_default_has_none),
        TEST(storing_is_all_or_nothing),
        TEST(storing_survives_each_allocation_failure),
        TEST(pins_are_kept_by_server),
        TEST(a_damaged_pin_is_not_the_absence_of_one),
        TEST(missing_directories_are_made_for_the_owner),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
