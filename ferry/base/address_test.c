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

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(a_login_has_a_port_in_the_end),
        cmocka_unit_test(a_login_that_is_none_is_refused),
        cmocka_unit_test(an_invite_goes_there_and_back),
        cmocka_unit_test(an_invite_cut_anywhere_is_refused),
        cmocka_unit_test(a_colon_before_the_first_slash_is_remote),
        cmocka_unit_test(an_url_is_decoded_once),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
