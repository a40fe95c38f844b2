/* SPDX-License-Identifier: MIT */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <string.h>

#include <cmocka.h>

#include "base/address.h"

static void a_login_has_a_port_in_the_end(void **state)
{
    static const char *const good[][3] = {
        {"ada@host", "ada", "host:9001"},
        {"ada@host:1", "ada", "host:1"},
        {"a.b_c-d@10.0.0.1:65535", "a.b_c-d", "10.0.0.1:65535"},
        {"ada@[::1]", "ada", "[::1]:9001"},
        {"ada@[fe80::1%eth0]:7", "ada", "[fe80::1%eth0]:7"},
    };
    struct login_address a;

    (void)state;
    for (size_t i = 0; i < sizeof(good) / sizeof(*good); i++) {
        assert_int_equal(login_address_parse(good[i][0], &a, NULL), 0);
        assert_string_equal(a.user, good[i][1]);
        assert_string_equal(a.server, good[i][2]);
    }
}

static void a_login_that_is_none_is_refused(void **state)
{
    static const char *const bad[] = {
        "",        "ada",      "@host",       "ada@",       "ada@:1",
        "ada@h:",  "ada@h:x",  "ada@h:65536", "ada@h:1:2",  "Ada@h",
        "ada@h/x", "ada@[::1", "ada@[]:1",    "ada@[::1]x", "ada@a b"};
    struct login_address a;
    struct problem why;

    (void)state;
    for (size_t i = 0; i < sizeof(bad) / sizeof(*bad); i++)
        assert_true(login_address_parse(bad[i], &a, &why) < 0);
}

static void an_invite_goes_there_and_back(void **state)
{
    struct invite_link l = {.server = "host:9001"}, back;
    char text[INVITE_LINK_BYTES];

    (void)state;
    memset(l.secret, 'A', 43);
    memset(l.pin, 0xa5, 32);
    invite_link_print(&l, text);
    assert_int_equal(invite_link_parse(text, &back, NULL), 0);
    assert_string_equal(back.server, l.server);
    assert_string_equal(back.secret, l.secret);
    assert_memory_equal(back.pin, l.pin, 32);
}

static void an_invite_cut_anywhere_is_refused(void **state)
{
    struct invite_link l = {.server = "host:9001"}, back;
    char text[INVITE_LINK_BYTES];

    (void)state;
    memset(l.secret, 'A', 43);
    memset(l.pin, 0xa5, 32);
    invite_link_print(&l, text);
    for (size_t n = strlen(text); n-- > 0;) {
        text[n] = 0;
        assert_true(invite_link_parse(text, &back, NULL) < 0);
    }
}

static void a_colon_before_the_first_slash_is_remote(void **state)
{
    struct place p;

    (void)state;
    assert_int_equal(place_parse("a/b:c", &p, NULL), 0);
    assert_false(p.remote);
    assert_string_equal(p.local, "a/b:c");
    assert_int_equal(place_parse("./a:b", &p, NULL), 0);
    assert_false(p.remote);
    assert_int_equal(place_parse(":/a//b/", &p, NULL), 0);
    assert_true(p.remote && p.directory);
    assert_string_equal(p.path.text, "a/b");
    assert_string_equal(p.profile, "");
    assert_int_equal(place_parse("work:c", &p, NULL), 0);
    assert_true(p.remote && !p.directory);
    assert_string_equal(p.profile, "work");
    assert_string_equal(p.path.text, "c");
    assert_int_equal(place_parse(":", &p, NULL), 0);
    assert_true(p.remote && p.directory && p.path.count == 0);
}

static void an_url_is_decoded_once(void **state)
{
    struct place p;

    (void)state;
    assert_int_equal(place_parse("ferry://ada@host:7/a%20b/%2541", &p, NULL),
                     0);
    assert_string_equal(p.login.user, "ada");
    assert_string_equal(p.login.server, "host:7");
    assert_string_equal(p.path.text, "a b/%41");
    assert_int_equal(place_parse("ferry://ada@host", &p, NULL), 0);
    assert_int_equal(p.path.count, 0);
    assert_true(place_parse("ferry://ada@host/%2", &p, NULL) < 0);
    assert_true(place_parse("ferry://ada@host/%zz", &p, NULL) < 0);
    assert_true(place_parse("ferry://ada@host/%00", &p, NULL) < 0);
    assert_true(place_parse("ferry://host/x", &p, NULL) < 0);
}

static void an_at_behind_the_colon_is_a_space(void **state)
{
    static const struct {
        const char *text, *profile, *user, *space, *path;
        bool directory;
    } good[] = {
        {":@team/x", "", "", "team", "x", false},
        {":@team/x/", "", "", "team", "x", true},
        {":@team", "", "", "team", "", true},
        {":@team/", "", "", "team", "", true},
        {":@team//a//b", "", "", "team", "a/b", false},
        {":@t-1_2.3/@u", "", "", "t-1_2.3", "@u", false},
        {"profile:@team/x", "profile", "", "team", "x", false},
        {"ferry://ada@host/@team/x", "", "ada", "team", "x", false},
        {"ferry://ada@host/@team/x/", "", "ada", "team", "x", true},
        {"ferry://ada@host/@team", "", "ada", "team", "", true},
        {"ferry://ada@host/@team/%40x%20y", "", "ada", "team", "@x y", false},
        {":/@x", "", "", "", "@x", false},
        {":/@x/y", "", "", "", "@x/y", false},
        {":x/@y", "", "", "", "x/@y", false},
        {"ferry://ada@host/%40x", "", "ada", "", "@x", false},
        {"ferry://ada@host//@x", "", "ada", "", "@x", false},
    };
    struct place p;

    (void)state;
    for (size_t i = 0; i < sizeof(good) / sizeof(*good); i++) {
        assert_int_equal(place_parse(good[i].text, &p, NULL), 0);
        assert_true(p.remote);
        assert_string_equal(p.profile, good[i].profile);
        assert_string_equal(p.login.user, good[i].user);
        assert_string_equal(p.space, good[i].space);
        assert_string_equal(p.path.text, good[i].path);
        assert_int_equal(p.directory, good[i].directory);
    }
    assert_int_equal(place_parse("./@x", &p, NULL), 0);
    assert_false(p.remote);
    assert_string_equal(p.local, "./@x");
    assert_int_equal(place_parse("@team/x", &p, NULL), 0);
    assert_false(p.remote);
    assert_int_equal(place_parse("./@team:x", &p, NULL), 0);
    assert_false(p.remote);
}

static void a_space_with_a_bad_name_is_refused(void **state)
{
    static const char *const bad[] = {
        ":@",        ":@/x",    ":@Team/x",        ":@a b/x",
        ":@.x",      ":@a@b/x", "ferry://a@h/@/x", "ferry://a@h/@te%00am/x",
        ":@..",      "p:@-",    ":@\xc3\xa9",      ":@team:x",
        "p:@a\x1b/", ":@a%41",
    };
    char text[3 + SPACE_NAME_BYTES + 2];
    struct problem why;
    struct place p;

    (void)state;
    for (size_t i = 0; i < sizeof(bad) / sizeof(*bad); i++) {
        assert_true(place_parse(bad[i], &p, &why) < 0);
        assert_int_equal(why.id, PROBLEM_SPACE_NAME);
    }
    memset(text, 'a', sizeof(text));
    memcpy(text, ":@", 2);
    text[2 + SPACE_NAME_BYTES] = 0;
    assert_int_equal(place_parse(text, &p, &why), 0);
    assert_int_equal(strlen(p.space), SPACE_NAME_BYTES);
    text[2 + SPACE_NAME_BYTES] = 'a';
    text[2 + SPACE_NAME_BYTES + 1] = 0;
    assert_true(place_parse(text, &p, &why) < 0);
    assert_int_equal(why.id, PROBLEM_SPACE_NAME);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(a_login_has_a_port_in_the_end),
        cmocka_unit_test(a_login_that_is_none_is_refused),
        cmocka_unit_test(an_invite_goes_there_and_back),
        cmocka_unit_test(an_invite_cut_anywhere_is_refused),
        cmocka_unit_test(a_colon_before_the_first_slash_is_remote),
        cmocka_unit_test(an_url_is_decoded_once),
        cmocka_unit_test(an_at_behind_the_colon_is_a_space),
        cmocka_unit_test(a_space_with_a_bad_name_is_refused),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
