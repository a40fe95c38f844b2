/* SPDX-License-Identifier: MIT */
/* Rights, spaces, and that a change holds from the next call on. */
#include <errno.h>
#include <fcntl.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include <keel/co.h>
#include <keel/file.h>
#include <keel/thread.h>

#include "account/account.h"
#include "account/scram.h"
#include "test/clock.h"
#include "sim/disk.h"
#include "test/fault.h"

/* Ada owns the space "team"; Bob and Cy are guests; Root is an admin. */
struct house {
    struct ledger *ledger;
    struct accounts *accounts;
    struct actor ada, bob, cy, root;
    int64_t team;
    int dir;
};

static _Atomic unsigned looked_up;

int __real_ledger_account_get(struct ledger *l, int64_t account,
                              struct ledger_account *ret, struct problem *why);
int __wrap_ledger_account_get(struct ledger *l, int64_t account,
                              struct ledger_account *ret, struct problem *why);
int __wrap_ledger_account_get(struct ledger *l, int64_t account,
                              struct ledger_account *ret, struct problem *why)
{
    looked_up++;
    return __real_ledger_account_get(l, account, ret, why);
}

static _Atomic unsigned listed;

int __real_ledger_grant_list(struct ledger *l, int64_t space, int64_t account,
                             int (*each)(const struct ledger_grant *g,
                                         void *arg),
                             void *arg, struct problem *why);
int __wrap_ledger_grant_list(struct ledger *l, int64_t space, int64_t account,
                             int (*each)(const struct ledger_grant *g,
                                         void *arg),
                             void *arg, struct problem *why);
int __wrap_ledger_grant_list(struct ledger *l, int64_t space, int64_t account,
                             int (*each)(const struct ledger_grant *g,
                                         void *arg),
                             void *arg, struct problem *why)
{
    listed++;
    return __real_ledger_grant_list(l, space, account, each, arg, why);
}

/* Without a password that anybody knows. */
static struct actor person(struct house *h, const char *name, bool admin)
{
    struct ledger_registration r = {
        .name = name, .admin = admin, .scram.salt_size = 1, .now = 1};
    struct ledger_account account;
    struct actor who;

    assert_int_equal(ledger_register(h->ledger, &r, &account, NULL), 0);
    who = (struct actor){
        .account = account.id, .home = account.home, .admin = admin};
    strcpy(who.name, name);
    return who;
}

static int setup(void **state)
{
    struct house *h = calloc(1, sizeof *h);
    struct accounts_options o = {0};
    struct problem why;

    test_clock_install();
    test_disk_install(64 << 20);
    h->dir = keel_file_open_any("/disk", O_RDONLY | O_DIRECTORY, 0);
    assert_true(h->dir >= 0);
    assert_int_equal(ledger_open(h->dir, &h->ledger, &why), 0);
    o.ledger = h->ledger;
    assert_int_equal(accounts_open(&o, &h->accounts, &why), 0);
    h->ada = person(h, "ada", false);
    h->bob = person(h, "bob", false);
    h->cy = person(h, "cy", false);
    h->root = person(h, "root", true);
    assert_int_equal(space_add(h->accounts, "team", "ada", 0, 0, &why), 0);
    assert_int_equal(
        account_space(h->accounts, &h->ada, "team", &h->team, &why), 0);
    *state = h;
    return 0;
}

static int teardown(void **state)
{
    struct house *h = *state;

    fault_clear();
    accounts_close(h->accounts);
    ledger_close(h->ledger);
    keel_file_close(h->dir);
    test_disk_remove();
    test_clock_remove();
    free(h);
    return 0;
}

#define assert_refused(call, ID)                                               \
    do {                                                                       \
        assert_true((call) < 0);                                               \
        assert_int_equal(why.id, PROBLEM_##ID);                                \
    } while (0)

static void grants(struct house *h, const char *path, const char *account,
                   unsigned rights)
{
    struct problem why;

    assert_int_equal(
        grant_set(h->accounts, "team", path, account, rights, &why), 0);
}

static struct path path_of(const char *text)
{
    struct path p;

    assert_int_equal(path_parse(text, strlen(text), &p, NULL), 0);
    return p;
}

static bool may(struct house *h, const struct actor *who, const char *text,
                unsigned need)
{
    struct path p = path_of(text);
    struct problem why = {0};
    int rc = account_may(h->accounts, who, h->team, &p, (enum right)need, &why);

    if (rc < 0)
        assert_int_equal(why.id, PROBLEM_RIGHT_MISSING);
    return rc == 0;
}

/* ---- words ------------------------------------------------------------------------- */
static void rights_are_written_and_read(void **state)
{
    static const char *const bad[] = {
        "",          ",",     "read,", ",read",      "read,,list",
        "Read",      "reads", "read ", "read write", "none,",
        "none,read", "7",     "rea",   "x,read",     "alll"};
    unsigned set;
    char text[64];

    (void)state;
    for (unsigned i = 0; i < 64; i++) {
        rights_print(i, text);
        assert_int_equal(rights_parse(text, &set), 0);
        assert_int_equal(set, i);
    }
    rights_print(0, text);
    assert_string_equal(text, "none");
    rights_print(RIGHT_READ | RIGHT_WRITE, text);
    assert_string_equal(text, "read,write");
    assert_int_equal(rights_parse("drop,list,drop", &set), 0);
    assert_int_equal(set, RIGHT_LIST | RIGHT_DROP);
    assert_int_equal(rights_parse("all", &set), 0);
    assert_int_equal(set, RIGHTS_ALL);
    set = 99;
    for (size_t i = 0; i < sizeof bad / sizeof *bad; i++)
        assert_int_equal(rights_parse(bad[i], &set), -EINVAL);
    assert_int_equal(set, 99);
}

/* ---- who may what -------------------------------------------------------------------- */
static void owner_and_admin_have_every_right_and_others_none(void **state)
{
    static const unsigned all[] = {RIGHT_READ,   RIGHT_WRITE, RIGHT_LIST,
                                   RIGHT_DELETE, RIGHT_DROP,  RIGHTS_ALL};
    struct house *h = *state;

    for (size_t i = 0; i < sizeof all / sizeof *all; i++) {
        assert_true(may(h, &h->ada, "a/b", all[i]));
        assert_true(may(h, &h->root, "a/b", all[i]));
        assert_false(may(h, &h->bob, "a/b", all[i]));
        assert_false(may(h, &h->bob, "/", all[i]));
    }
    assert_false(may(h, &h->ada, "a", RIGHT_ADMIN));
    assert_true(may(h, &h->root, "a", RIGHT_ADMIN));
    assert_false(may(h, &h->ada, "a", RIGHT_NONE));
    assert_false(may(h, &h->root, "a", RIGHT_NONE));
}

static void a_home_has_no_guests(void **state)
{
    struct house *h = *state;
    struct ledger_grant g = {.space = h->ada.home, .rights = RIGHTS_ALL};
    struct path p = path_of("a");
    struct problem why;

    /* Nobody can grant it by name; and what the ledger says counts not. */
    assert_int_equal(ledger_grant_set(h->ledger, &g, &why), 0);
    accounts_changed(h->accounts);
    assert_refused(
        account_may(h->accounts, &h->bob, h->ada.home, &p, RIGHT_READ, &why),
        RIGHT_MISSING);
    assert_refused(
        account_may(h->accounts, &h->root, h->ada.home, &p, RIGHT_LIST, &why),
        RIGHT_MISSING);
    assert_int_equal(account_may(h->accounts, &h->ada, 0, &p, RIGHTS_ALL, &why),
                     0);
    assert_int_equal(
        account_may(h->accounts, &h->ada, h->ada.home, NULL, RIGHT_READ, &why),
        0);
}

static void a_grant_holds_at_its_path_and_below(void **state)
{
    static const char *const in[] = {"a/b", "a/b/c", "a/b/c/d", "/a/b/"};
    static const char *const out[] = {"/",     "a",       "a/bc", "a/b.",
                                      "a/c",   "b",       "ab",   "a/B",
                                      "b/a/b", "a/b\xff", "a/a/b"};
    struct house *h = *state;

    grants(h, "/a/b", "bob", RIGHT_READ);
    for (size_t i = 0; i < sizeof in / sizeof *in; i++) {
        assert_true(may(h, &h->bob, in[i], RIGHT_READ));
        assert_false(may(h, &h->bob, in[i], RIGHT_WRITE));
        assert_false(may(h, &h->bob, in[i], RIGHT_READ | RIGHT_LIST));
        assert_false(may(h, &h->cy, in[i], RIGHT_READ));
    }
    for (size_t i = 0; i < sizeof out / sizeof *out; i++)
        assert_false(may(h, &h->bob, out[i], RIGHT_READ));
}

static void grants_add_up(void **state)
{
    struct house *h = *state;

    grants(h, "", NULL, RIGHT_LIST);
    grants(h, "a", "bob", RIGHT_READ);
    grants(h, "a/b", "bob", RIGHT_WRITE);
    grants(h, "a/b", NULL, RIGHT_DELETE);
    grants(h, "a/b/c", "cy", RIGHT_WRITE);
    assert_true(may(h, &h->bob, "/", RIGHT_LIST));
    assert_false(may(h, &h->bob, "/", RIGHT_READ));
    assert_true(may(h, &h->bob, "a/x", RIGHT_LIST | RIGHT_READ));
    assert_false(may(h, &h->bob, "a/x", RIGHT_WRITE));
    assert_true(may(h, &h->bob, "a/b/c/d", RIGHTS_ALL));
    assert_true(may(h, &h->cy, "a/b", RIGHT_LIST | RIGHT_DELETE));
    assert_false(may(h, &h->cy, "a/b", RIGHT_READ));
    /* WRITE contains DROP. */
    assert_true(may(h, &h->cy, "a/b/c", RIGHT_DROP));
    assert_false(may(h, &h->cy, "a/b", RIGHT_DROP));
}

static void who_drops_replaces_and_sees_nothing(void **state)
{
    struct house *h = *state;
    struct path p = path_of("in/x");
    struct problem why;

    grants(h, "in", NULL, RIGHT_DROP);
    assert_true(may(h, &h->bob, "in/x", RIGHT_DROP));
    assert_refused(
        account_may(h->accounts, &h->bob, h->team, &p, RIGHT_WRITE, &why),
        RIGHT_MISSING);
    assert_string_equal(why.detail, "replace");
    assert_string_equal(why.name, "/in/x");
    assert_refused(
        account_may(h->accounts, &h->bob, h->team, &p, RIGHT_DELETE, &why),
        RIGHT_MISSING);
    assert_string_equal(why.detail, "remove");
    assert_false(may(h, &h->bob, "in/x", RIGHT_READ));
    assert_false(may(h, &h->bob, "in", RIGHT_LIST));
}

static void what_leads_to_a_grant_is_seen(void **state)
{
    struct house *h = *state;
    struct path root = path_of(""), a = path_of("a"), ab = path_of("a/b"),
                abc = path_of("a/b/c"), ac = path_of("a/c"), a0 = path_of("a0");

    grants(h, "a/b/c", "bob", RIGHT_DROP);
    grants(h, "a/c", "cy", RIGHT_LIST);
    assert_true(may(h, &h->bob, "/", RIGHT_LIST));
    assert_true(may(h, &h->bob, "a/b", RIGHT_LIST));
    assert_false(may(h, &h->bob, "a/b/c", RIGHT_LIST));
    assert_false(may(h, &h->bob, "a/c", RIGHT_LIST));
    assert_false(may(h, &h->bob, "a0", RIGHT_LIST));
    assert_false(may(h, &h->bob, "a", RIGHT_LIST | RIGHT_READ));

    assert_false(account_list_all(h->accounts, &h->bob, h->team, &root));
    assert_false(account_list_all(h->accounts, &h->bob, h->team, &ab));
    assert_true(account_list_all(h->accounts, &h->cy, h->team, &ac));
    assert_false(account_list_all(h->accounts, &h->cy, h->team, &a));
    assert_true(account_list_all(h->accounts, &h->ada, h->team, &a));
    assert_true(account_list_all(h->accounts, &h->bob, 0, &a));

    assert_true(account_leads(h->accounts, &h->bob, h->team, &a));
    assert_true(account_leads(h->accounts, &h->bob, h->team, &ab));
    assert_true(account_leads(h->accounts, &h->bob, h->team, &abc));
    assert_false(account_leads(h->accounts, &h->bob, h->team, &ac));
    assert_false(account_leads(h->accounts, &h->bob, h->team, &a0));
    assert_true(account_leads(h->accounts, &h->cy, h->team, &ac));
    assert_true(account_leads(h->accounts, &h->root, h->team, &a0));
    assert_false(account_leads(h->accounts, &h->cy, h->ada.home, &root));
}

static void who_may_read_or_is_led_there_may_look(void **state)
{
    static const struct {
        unsigned rights; /* bob's, at a/b */
        const char *path;
        bool may;
    } rows[] = {
        {RIGHT_READ, "a/b/c", true},
        {RIGHT_READ, "a/b", true},
        {RIGHT_READ, "a", true},
        {RIGHT_READ, "", true},
        {RIGHT_READ, "a/c", false},
        {RIGHT_LIST, "a/b/c", true},
        {RIGHT_DROP, "a/b", true},
        {RIGHT_DROP, "a", true},
        {RIGHT_DROP, "a/b/c", false},
        {RIGHT_WRITE | RIGHT_DELETE, "a/b/c", false},
    };
    struct house *h = *state;
    struct path p = path_of("a/b/c");
    struct problem why;

    for (size_t i = 0; i < sizeof rows / sizeof *rows; i++) {
        grants(h, "a/b", "bob", rows[i].rights);
        if (may(h, &h->bob, rows[i].path, RIGHT_LOOK) != rows[i].may)
            fail_msg("row %zu: %s", i, rows[i].path);
    }
    assert_refused(
        account_may(h->accounts, &h->bob, h->team, &p, RIGHT_LOOK, &why),
        RIGHT_MISSING);
    assert_string_equal(why.detail, "read");
    assert_true(may(h, &h->ada, "a/b/c", RIGHT_LOOK));
    assert_true(may(h, &h->root, "a/b/c", RIGHT_LOOK));
    assert_false(may(h, &h->cy, "a/b", RIGHT_LOOK));
}

static void what_is_inherited_leads_nowhere(void **state)
{
    static const struct {
        unsigned above; /* for everybody, at the root */
        const char *at; /* bob has something here */
        unsigned rights;
        const char *path;
        bool leads;
    } rows[] = {
        {RIGHT_DROP, "project", RIGHT_LIST, "q1", false},
        {RIGHT_DROP, "project", RIGHT_LIST, "project", true},
        {RIGHT_DROP, "project", RIGHT_LIST, "project/x", true},
        {RIGHT_DROP, "project", RIGHT_DROP, "q1", false},
        {RIGHT_DROP, "project", RIGHT_DROP, "project", true},
        {RIGHT_DROP, "project", RIGHT_DROP, "project/x", false},
        {RIGHT_DROP, "project/deep", RIGHT_READ, "project", true},
        {RIGHT_DROP, "project/deep", RIGHT_READ, "project/other", false},
        {RIGHT_DROP, "project/deep", RIGHT_READ, "project0", false},
        {RIGHT_READ, "project", RIGHT_DROP, "q1", false},
        {RIGHT_READ | RIGHT_WRITE | RIGHT_DELETE, "a/b", RIGHT_READ, "q1",
         false},
        {RIGHT_LIST, "project", RIGHT_DROP, "q1", true},
        {RIGHT_LIST, "project", RIGHT_DROP, "project/x", true},
    };
    struct house *h = *state;

    for (size_t i = 0; i < sizeof rows / sizeof *rows; i++) {
        struct path path = path_of(rows[i].path);

        grants(h, "", NULL, rows[i].above);
        grants(h, rows[i].at, "bob", rows[i].rights);
        if (account_leads(h->accounts, &h->bob, h->team, &path) !=
            rows[i].leads)
            fail_msg("row %zu: %s", i, rows[i].path);
        grants(h, rows[i].at, "bob", RIGHT_NONE);
        grants(h, "", NULL, RIGHT_NONE);
    }
}

/* ---- spaces ------------------------------------------------------------------------------ */
static void a_space_is_known_to_who_may_enter(void **state)
{
    struct house *h = *state;
    struct problem why;
    int64_t id = 0;

    assert_int_equal(account_space(h->accounts, &h->bob, "", &id, &why), 0);
    assert_int_equal(id, h->bob.home);
    assert_refused(account_space(h->accounts, &h->bob, "team", &id, &why),
                   SPACE_UNKNOWN);
    assert_string_equal(why.name, "team");
    assert_refused(account_space(h->accounts, &h->bob, "none", &id, &why),
                   SPACE_UNKNOWN);
    assert_int_equal(account_space(h->accounts, &h->root, "team", &id, &why),
                     0);
    assert_int_equal(id, h->team);
    grants(h, "deep/down", "bob", RIGHT_DROP);
    assert_int_equal(account_space(h->accounts, &h->bob, "team", &id, &why), 0);
    assert_refused(account_space(h->accounts, &h->cy, "team", &id, &why),
                   SPACE_UNKNOWN);
    grants(h, "deep/down", "bob", 0);
    assert_refused(account_space(h->accounts, &h->bob, "team", &id, &why),
                   SPACE_UNKNOWN);
}

static void spaces_are_listed_home_first(void **state)
{
    struct house *h = *state;
    struct space_entry e[8];
    struct problem why;

    assert_int_equal(space_add(h->accounts, "zoo", "cy", 5, 6, &why), 0);
    assert_int_equal(space_add(h->accounts, "arc", "cy", 0, 0, &why), 0);
    assert_int_equal(space_add(h->accounts, "hid", "cy", 0, 0, &why), 0);
    grants(h, "x", "bob", RIGHT_READ);
    grants(h, "y", "bob", RIGHT_DROP);
    grants(h, "y", "ada", RIGHT_DROP);
    assert_int_equal(grant_set(h->accounts, "zoo", "", NULL, RIGHT_LIST, &why),
                     0);
    assert_int_equal(
        grant_set(h->accounts, "arc", "", "bob", RIGHT_WRITE, &why), 0);
    assert_int_equal(account_spaces(h->accounts, &h->bob, e, 8, &why), 4);
    assert_int_equal(e[0].space.id, h->bob.home);
    assert_string_equal(e[0].space.name, "");
    assert_int_equal(e[0].rights, RIGHTS_ALL);
    assert_string_equal(e[1].space.name, "arc");
    assert_int_equal(e[1].rights, RIGHT_WRITE);
    assert_string_equal(e[2].space.name, "team");
    assert_int_equal(e[2].rights, RIGHT_READ | RIGHT_DROP);
    assert_int_equal(e[2].space.owner, h->ada.account);
    assert_string_equal(e[3].space.name, "zoo");
    assert_int_equal(e[3].space.quota_bytes, 5);
    assert_int_equal(e[3].space.quota_files, 6);
    assert_int_equal(account_spaces(h->accounts, &h->bob, e, 2, &why), 2);
    assert_int_equal(account_spaces(h->accounts, &h->bob, e, 0, &why), 0);
    assert_int_equal(account_spaces(h->accounts, &h->root, e, 8, &why), 5);
    assert_int_equal(e[4].rights, RIGHTS_ALL);
}

/* ---- changes ------------------------------------------------------------------------------- */
static void a_change_holds_from_the_next_call_on(void **state)
{
    struct house *h = *state;
    struct problem why;
    unsigned before;

    assert_false(may(h, &h->bob, "a", RIGHT_READ));
    grants(h, "a", "bob", RIGHT_READ);
    assert_true(may(h, &h->bob, "a", RIGHT_READ));
    grants(h, "a", "bob", RIGHT_WRITE);
    assert_false(may(h, &h->bob, "a", RIGHT_READ));
    assert_true(may(h, &h->bob, "a", RIGHT_WRITE));
    before = listed;
    for (int i = 0; i < 100; i++)
        assert_true(may(h, &h->bob, "a/b", RIGHT_WRITE));
    assert_int_equal(listed, before);

    assert_int_equal(space_delete(h->accounts, "team", &why), 0);
    assert_false(may(h, &h->bob, "a", RIGHT_WRITE));
    assert_false(may(h, &h->ada, "a", RIGHT_WRITE));
    assert_refused(space_delete(h->accounts, "team", &why), SPACE_NONE);
}

static void who_was_withdrawn_is_found_out(void **state)
{
    struct house *h = *state;
    struct actor phone = h->bob;
    struct ledger_device d = {.account = h->bob.account, .name = "phone"};
    struct problem why = {0};
    unsigned before;

    assert_int_equal(ledger_device_add(h->ledger, &d, &why), 0);
    phone.device = d.id;
    assert_int_equal(account_still(h->accounts, &h->bob, &why), 0);
    assert_int_equal(account_still(h->accounts, &phone, &why), 0);
    before = looked_up;
    for (int i = 0; i < 100; i++) {
        assert_int_equal(account_still(h->accounts, &h->bob, &why), 0);
        assert_int_equal(account_still(h->accounts, &phone, &why), 0);
    }
    assert_int_equal(looked_up, before);

    /* Another's device is none of his. */
    phone.account = h->cy.account;
    assert_refused(account_still(h->accounts, &phone, &why), DEVICE_UNKNOWN);
    phone.account = h->bob.account;
    assert_int_equal(account_device_remove(h->accounts, &h->bob, d.id, &why),
                     0);
    assert_refused(account_still(h->accounts, &phone, &why), DEVICE_UNKNOWN);
    assert_int_equal(account_still(h->accounts, &h->bob, &why), 0);

    assert_int_equal(account_disable(h->accounts, "bob", true, &why), 0);
    assert_refused(account_still(h->accounts, &h->bob, &why), LOGIN_DISABLED);
    assert_string_equal(why.name, "bob");
    assert_int_equal(account_still(h->accounts, &h->cy, &why), 0);
    assert_int_equal(account_disable(h->accounts, "bob", false, &why), 0);
    assert_int_equal(account_still(h->accounts, &h->bob, &why), 0);
    assert_int_equal(account_delete(h->accounts, "bob", &why), 0);
    assert_refused(account_still(h->accounts, &h->bob, &why), ACCOUNT_UNKNOWN);
    assert_string_equal(why.name, "bob");
    assert_refused(account_disable(h->accounts, "bob", true, &why),
                   ACCOUNT_UNKNOWN);
}

static void a_change_of_the_ledger_itself_is_announced(void **state)
{
    struct house *h = *state;
    struct ledger_grant g = {
        .space = h->team, .account = h->bob.account, .rights = RIGHT_READ};
    struct problem why;

    assert_false(may(h, &h->bob, "a", RIGHT_READ));
    assert_int_equal(account_still(h->accounts, &h->cy, &why), 0);
    assert_int_equal(ledger_grant_set(h->ledger, &g, &why), 0);
    assert_int_equal(
        ledger_account_disable(h->ledger, h->cy.account, true, &why), 0);
    accounts_changed(h->accounts);
    assert_true(may(h, &h->bob, "a", RIGHT_READ));
    assert_refused(account_still(h->accounts, &h->cy, &why), LOGIN_DISABLED);
}

/* ---- administration ---------------------------------------------------------------------- */
static void what_the_operator_asks_is_looked_at(void **state)
{
    struct house *h = *state;
    struct accounts *a = h->accounts;
    struct ledger_space s;
    struct problem why;

    assert_refused(space_add(a, "Team", "ada", 0, 0, &why), SPACE_NAME);
    assert_refused(space_add(a, "team", "ada", 0, 0, &why), SPACE_EXISTS);
    assert_refused(space_add(a, "new", "nobody", 0, 0, &why), ACCOUNT_UNKNOWN);
    assert_refused(space_add(a, "new", "ada", -1, 0, &why), REQUEST_INVALID);
    assert_refused(space_quota(a, "team", false, 0, -1, &why), REQUEST_INVALID);
    assert_refused(space_quota(a, "none", false, 0, 0, &why), SPACE_NONE);
    assert_refused(space_quota(a, "team", true, 0, 0, &why), ACCOUNT_UNKNOWN);
    assert_int_equal(space_quota(a, "team", false, 10, 20, &why), 0);
    assert_int_equal(ledger_space_get(h->ledger, h->team, &s, &why), 0);
    assert_int_equal(s.quota_bytes, 10);
    assert_int_equal(s.quota_files, 20);
    assert_int_equal(space_quota(a, "ada", true, 30, 40, &why), 0);
    assert_int_equal(ledger_space_get(h->ledger, h->ada.home, &s, &why), 0);
    assert_int_equal(s.quota_bytes, 30);
    assert_int_equal(s.quota_files, 40);

    assert_refused(grant_set(a, "none", "", "bob", 1, &why), SPACE_NONE);
    assert_refused(grant_set(a, "team", "", "nobody", 1, &why),
                   ACCOUNT_UNKNOWN);
    assert_refused(grant_set(a, "team", "a/../b", "bob", 1, &why),
                   NAME_INVALID);
    assert_refused(grant_set(a, "team", "", "bob", RIGHT_ADMIN, &why),
                   REQUEST_INVALID);
    assert_refused(grant_set(a, "team", "", "bob", 64, &why), REQUEST_INVALID);
    assert_refused(account_delete(a, "dan", &why), ACCOUNT_UNKNOWN);
}

static void an_account_with_files_is_not_deleted(void **state)
{
    struct house *h = *state;
    struct ledger_publish p = {.space = h->team,
                               .account = h->bob.account,
                               .path = "x",
                               .file = {.size = 1, .hash = CHUNK_SHA256}};
    struct problem why;

    assert_int_equal(ledger_publish(h->ledger, &p, 1, NULL, 0, &why), 0);
    assert_refused(account_delete(h->accounts, "ada", &why), SPACE_NOT_EMPTY);
    assert_string_equal(why.name, "@team");
    assert_int_equal(why.used, 1);
    assert_refused(space_delete(h->accounts, "team", &why), SPACE_NOT_EMPTY);
    assert_true(may(h, &h->ada, "x", RIGHT_READ));
    assert_int_equal(account_still(h->accounts, &h->ada, &why), 0);
    assert_int_equal(ledger_undo(h->ledger, p.intent, &why), 0);
    assert_int_equal(account_delete(h->accounts, "ada", &why), 0);
    assert_refused(account_space(h->accounts, &h->root, "team", &h->team, &why),
                   SPACE_UNKNOWN);
}

/* ---- at the same time ------------------------------------------------------------------------ */
enum { ASKERS = 3, ROUNDS = 60 };

struct race {
    struct house *house;
    _Atomic bool over;
    _Atomic unsigned answers;
};

static int ask(void *arg)
{
    struct race *r = arg;
    struct house *h = r->house;
    struct path p = path_of("a/b");
    struct space_entry e[4];
    struct problem why = {0};

    do {
        int rc = account_may(h->accounts, &h->bob, h->team, &p,
                             RIGHT_READ | RIGHT_WRITE, &why);

        if (rc < 0 && why.id != PROBLEM_RIGHT_MISSING)
            return 1;
        rc = account_spaces(h->accounts, &h->bob, e, 4, &why);
        if (rc < 1 || rc > 2)
            return 2;
        rc = account_still(h->accounts, &h->bob, &why);
        if (rc < 0 && why.id != PROBLEM_LOGIN_DISABLED)
            return 3;
        r->answers++;
    } while (!r->over);
    return 0;
}

/* Whoever changed something finds it changed, while others read it anew. */
static void threads_ask_while_it_changes(void **state)
{
    struct house *h = *state;
    struct race r = {.house = h};
    struct keel_thread *threads[ASKERS];
    struct problem why;

    for (int i = 0; i < ASKERS; i++)
        assert_int_equal(keel_thread_start("ask", ask, &r, &threads[i]), 0);
    for (int i = 0; i < ROUNDS || r.answers < ASKERS; i++) {
        grants(h, "a", "bob", RIGHT_READ | RIGHT_WRITE);
        assert_true(may(h, &h->bob, "a/b", RIGHT_READ | RIGHT_WRITE));
        grants(h, "a", "bob", 0);
        assert_false(may(h, &h->bob, "a/b", RIGHT_READ));
        assert_int_equal(account_disable(h->accounts, "bob", true, &why), 0);
        assert_refused(account_still(h->accounts, &h->bob, &why),
                       LOGIN_DISABLED);
        assert_int_equal(account_disable(h->accounts, "bob", false, &why), 0);
        assert_int_equal(account_still(h->accounts, &h->bob, &why), 0);
    }
    r.over = true;
    for (int i = 0; i < ASKERS; i++) {
        int result = -1;

        assert_int_equal(keel_thread_join(threads[i], KEEL_FOREVER, &result),
                         0);
        assert_int_equal(result, 0);
    }
}

/* ---- what fails --------------------------------------------------------------------------------- */
/* Nothing is given that cannot be looked up. */
static void without_memory_nobody_gets_in(void **state)
{
    struct house *h = *state;
    struct path p = path_of("a");

    grants(h, "a", "bob", RIGHT_READ);
    for (unsigned nth = 1;; nth++) {
        struct problem why = {0};
        bool fired;
        int rc;

        accounts_changed(h->accounts);
        fault_fail_alloc(nth);
        rc = account_may(h->accounts, &h->bob, h->team, &p, RIGHT_READ, &why);
        if (rc == 0)
            rc = account_still(h->accounts, &h->bob, &why);
        fired = fault_fired();
        fault_clear();
        if (!fired) {
            assert_int_equal(rc, 0);
            assert_true(nth > 3);
            break;
        }
        /* SQLite can do without some of its. */
        if (rc < 0)
            assert_int_equal(why.id, PROBLEM_NO_MEMORY);
        assert_false(may(h, &h->cy, "a", RIGHT_READ));
        assert_true(may(h, &h->bob, "a", RIGHT_READ));
    }
}

static void a_change_that_was_not_written_is_not_believed(void **state)
{
    struct house *h = *state;
    struct problem why;

    assert_false(may(h, &h->bob, "a", RIGHT_READ));
    fault_fail_times(KEEL_OP_WRITE, 1, ENOSPC, 0);
    assert_refused(grant_set(h->accounts, "team", "a", "bob", RIGHT_READ, &why),
                   DISK_FULL);
    assert_false(may(h, &h->bob, "a", RIGHT_READ));
    assert_refused(account_disable(h->accounts, "bob", true, &why), DISK_FULL);
    assert_int_equal(account_still(h->accounts, &h->bob, &why), 0);
    fault_clear();
    grants(h, "a", "bob", RIGHT_READ);
    assert_true(may(h, &h->bob, "a", RIGHT_READ));
}

/* After a failed sync the ledger says nothing any more, and nobody may
 * anything that is not known from before. */
static void a_ledger_that_says_nothing_gives_nothing(void **state)
{
    struct house *h = *state;
    struct path p = path_of("a");
    struct problem why;

    grants(h, "a", "bob", RIGHT_READ);
    test_disk_fail_sync(1);
    assert_refused(grant_set(h->accounts, "team", "a", "bob", 0, &why),
                   SYNC_FAILED);
    assert_refused(
        account_may(h->accounts, &h->bob, h->team, &p, RIGHT_READ, &why),
        SYNC_FAILED);
    assert_false(account_leads(h->accounts, &h->bob, h->team, &p));
    assert_false(account_list_all(h->accounts, &h->ada, h->team, &p));
    assert_refused(account_space(h->accounts, &h->bob, "team", &h->team, &why),
                   SYNC_FAILED);
}

#define T(f) cmocka_unit_test_setup_teardown(f, setup, teardown)

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(rights_are_written_and_read),
        T(owner_and_admin_have_every_right_and_others_none),
        T(a_home_has_no_guests),
        T(a_grant_holds_at_its_path_and_below),
        T(grants_add_up),
        T(who_drops_replaces_and_sees_nothing),
        T(what_leads_to_a_grant_is_seen),
        T(who_may_read_or_is_led_there_may_look),
        T(what_is_inherited_leads_nowhere),
        T(a_space_is_known_to_who_may_enter),
        T(spaces_are_listed_home_first),
        T(a_change_holds_from_the_next_call_on),
        T(who_was_withdrawn_is_found_out),
        T(a_change_of_the_ledger_itself_is_announced),
        T(what_the_operator_asks_is_looked_at),
        T(an_account_with_files_is_not_deleted),
        T(threads_ask_while_it_changes),
        T(without_memory_nobody_gets_in),
        T(a_change_that_was_not_written_is_not_believed),
        T(a_ledger_that_says_nothing_gives_nothing),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
