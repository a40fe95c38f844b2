/* SPDX-License-Identifier: MIT */
/* Shared spaces, grants, the end of accounts, and quota where a file replaces
 * another. */
#include "ledger/ledger_test.h"

static struct ledger_space space_new(struct ledger *l, const char *name,
                                     int64_t owner)
{
    struct ledger_space s = {
        .owner = owner, .quota_bytes = 100, .quota_files = 10};
    struct problem why;

    strcpy(s.name, name);
    assert_int_equal(ledger_space_add(l, &s, &why), 0);
    return s;
}

static struct ledger_draft draft_in(const struct ledger_account *a,
                                    int64_t space, uint8_t id, const char *path,
                                    uint64_t size)
{
    struct ledger_draft d = {.space = space,
                             .account = a->id,
                             .path = path,
                             .size = size,
                             .hash = CHUNK_SHA256,
                             .created = 1,
                             .expires = 100};

    memset(d.id, id, sizeof d.id);
    return d;
}

/* Publishes, settled, what draft `id` brought. */
static int publish_draft(struct ledger *l, const struct ledger_draft *d,
                         uint64_t inode, struct problem *why)
{
    struct ledger_account a = {.id = d->account, .home = d->space};
    struct ledger_publish p = item(&a, d->path, d->size, inode);
    int rc;

    memcpy(p.draft, d->id, sizeof p.draft);
    rc = publish(l, &p, why);
    if (rc == 0)
        settle(l, p.intent, 9);
    return rc;
}

/* ---- spaces ------------------------------------------------------------------------ */
static void a_shared_space_is_found_by_its_name(void **state)
{
    struct house *h = *state;
    struct ledger_account a = account_new(h->ledger, "mara", 0, 0);
    struct ledger_space team = space_new(h->ledger, "team", a.id), s;
    struct ledger_space twin = {.name = "team", .owner = a.id};
    struct ledger_space orphan = {.name = "orphan", .owner = 77};
    struct problem why;

    assert_int_equal(strlen(team.dir), 32);
    assert_true(team.id != a.home);
    reopen(h);
    assert_int_equal(ledger_space_find(h->ledger, "team", &s, &why), 0);
    assert_int_equal(s.id, team.id);
    assert_string_equal(s.dir, team.dir);
    assert_int_equal(s.owner, a.id);
    assert_int_equal(s.quota_bytes, 100);
    assert_int_equal(s.quota_files, 10);
    assert_int_equal(s.used_bytes, 0);
    assert_refused(ledger_space_add(h->ledger, &twin, &why), SPACE_EXISTS);
    assert_string_equal(why.name, "team");
    assert_refused(ledger_space_add(h->ledger, &orphan, &why), ACCOUNT_UNKNOWN);
    assert_refused(ledger_space_find(h->ledger, "Team", &s, &why),
                   SPACE_UNKNOWN);
    /* A home has no name by which anybody finds it. */
    assert_refused(ledger_space_find(h->ledger, "", &s, &why), SPACE_UNKNOWN);
    assert_sound(h->ledger);
}

static void shared_spaces_are_listed_by_name_without_homes(void **state)
{
    struct house *h = *state;
    struct ledger_account a = account_new(h->ledger, "mara", 0, 0);
    struct ledger_space page[2];
    struct problem why;

    assert_int_equal(ledger_space_shared(h->ledger, "", page, 2, &why), 0);
    space_new(h->ledger, "c", a.id);
    space_new(h->ledger, "a", a.id);
    space_new(h->ledger, "b", a.id);
    assert_int_equal(ledger_space_shared(h->ledger, "", page, 2, &why), 2);
    assert_string_equal(page[0].name, "a");
    assert_string_equal(page[1].name, "b");
    assert_int_equal(ledger_space_shared(h->ledger, "b", page, 2, &why), 1);
    assert_string_equal(page[0].name, "c");
}

static void an_account_is_found_by_its_number(void **state)
{
    struct house *h = *state;
    struct ledger_account a = account_new(h->ledger, "mara", 0, 0), b;
    struct problem why;

    assert_int_equal(ledger_account_get(h->ledger, a.id, &b, &why), 0);
    assert_string_equal(b.name, "mara");
    assert_int_equal(b.home, a.home);
    assert_refused(ledger_account_get(h->ledger, a.id + 1, &b, &why),
                   ACCOUNT_UNKNOWN);
}

/* ---- grants -------------------------------------------------------------------------- */
static int grant(struct ledger *l, int64_t space, const char *path,
                 int64_t account, unsigned rights, struct problem *why)
{
    struct ledger_grant g = {
        .space = space, .account = account, .rights = rights};

    assert_true(strlen(path) < sizeof g.path);
    strcpy(g.path, path);
    return ledger_grant_set(l, &g, why);
}

struct text {
    char text[2048];
    size_t size;
};

static int write_grant(const struct ledger_grant *g, void *arg)
{
    struct text *t = arg;

    t->size += (size_t)snprintf(t->text + t->size, sizeof t->text - t->size,
                                "%lld/%s:%lld=%u ", (long long)g->space,
                                g->path, (long long)g->account, g->rights);
    assert_true(t->size < sizeof t->text);
    return 0;
}

static void assert_grants(struct ledger *l, int64_t space, int64_t account,
                          const char *expected)
{
    struct text t = {0};
    struct problem why;

    assert_int_equal(
        ledger_grant_list(l, space, account, write_grant, &t, &why), 0);
    assert_string_equal(t.text, expected);
}

static void grants_are_set_and_taken_away(void **state)
{
    struct house *h = *state;
    struct ledger *l = h->ledger;
    struct ledger_account a = account_new(l, "mara", 0, 0),
                          b = account_new(l, "ines", 0, 0);
    int64_t one = space_new(l, "one", a.id).id,
            two = space_new(l, "two", a.id).id;
    char longest[PATH_BYTES + 2];
    struct problem why;

    assert_int_equal(one, 3);
    assert_int_equal(grant(l, two, "x", b.id, 4, &why), 0);
    assert_int_equal(grant(l, two, "", 0, 1, &why), 0);
    assert_int_equal(grant(l, one, "x/\xff", b.id, 3, &why), 0);
    assert_int_equal(grant(l, one, "x", a.id, 7, &why), 0);
    assert_int_equal(grant(l, one, "x", b.id, 5, &why), 0);
    assert_int_equal(grant(l, one, "x", b.id, 6, &why), 0);
    l = (reopen(h), h->ledger);
    assert_grants(l, one, -1, "3/x:1=7 3/x:2=6 3/x/\xff:2=3 ");
    assert_grants(l, two, -1, "4/:0=1 4/x:2=4 ");
    assert_grants(l, 0, -1, "3/x:1=7 3/x:2=6 3/x/\xff:2=3 4/:0=1 4/x:2=4 ");
    assert_grants(l, 0, a.id, "3/x:1=7 4/:0=1 ");
    assert_grants(l, two, a.id, "4/:0=1 ");
    assert_grants(l, two, 0, "4/:0=1 ");
    assert_grants(l, a.home, -1, "");

    assert_int_equal(grant(l, one, "x", b.id, 0, &why), 0);
    assert_refused(grant(l, one, "x", b.id, 0, &why), GRANT_UNKNOWN);
    assert_grants(l, one, -1, "3/x:1=7 3/x/\xff:2=3 ");
    assert_refused(grant(l, 77, "x", b.id, 1, &why), FILE_MISSING);
    assert_refused(grant(l, one, "x", 77, 1, &why), ACCOUNT_UNKNOWN);
    memset(longest, 'a', sizeof longest);
    longest[PATH_BYTES] = '\0';
    assert_int_equal(grant(l, one, longest, 0, 1, &why), 0);
    assert_sound(l);
}

static int count_grants(const struct ledger_grant *g, void *arg)
{
    int *count = arg;
    char path[16];

    snprintf(path, sizeof path, "p%03d", *count);
    assert_string_equal(g->path, path);
    return ++*count == 190 ? -EINTR : 0;
}

static void grants_are_listed_in_pages(void **state)
{
    struct house *h = *state;
    struct ledger_account a = account_new(h->ledger, "mara", 0, 0);
    int64_t team = space_new(h->ledger, "team", a.id).id;
    struct problem why;
    int count = 0;

    for (int i = 0; i < 192; i++) {
        char path[16];

        snprintf(path, sizeof path, "p%03d", i);
        assert_int_equal(
            grant(h->ledger, team, path, i % 2 ? a.id : 0, 1, &why), 0);
    }
    assert_int_equal(
        ledger_grant_list(h->ledger, 0, a.id, count_grants, &count, &why),
        -EINTR);
    assert_int_equal(count, 190);
}

/* ---- ends ------------------------------------------------------------------------------ */
static void an_account_goes_with_all_that_is_its_own(void **state)
{
    struct house *h = *state;
    struct ledger *l = h->ledger;
    struct ledger_account a = account_new(l, "mara", 0, 0),
                          b = account_new(l, "ines", 0, 0), again;
    int64_t team = space_new(l, "team", b.id).id,
            own = space_new(l, "own", a.id).id;
    struct ledger_device device = {.account = a.id, .name = "phone"};
    struct ledger_invite invite = {
        .hash = {1}, .uses = 1, .expires = 9000, .created_by = a.id};
    struct ledger_draft mine = draft_in(&a, team, 1, "x", 30),
                        home = draft_in(&a, a.home, 2, "x", 40),
                        theirs = draft_in(&b, own, 3, "x", 50),
                        other = draft_in(&b, team, 4, "y", 20);
    struct ledger_space s;
    struct problem why;

    assert_int_equal(ledger_device_add(l, &device, &why), 0);
    assert_int_equal(ledger_invite_add(l, &invite, &why), 0);
    assert_int_equal(ledger_draft_open(l, &mine, &why), 0);
    assert_int_equal(ledger_draft_open(l, &home, &why), 0);
    assert_int_equal(ledger_draft_open(l, &theirs, &why), 0);
    assert_int_equal(ledger_draft_open(l, &other, &why), 0);
    assert_int_equal(grant(l, team, "x", a.id, 1, &why), 0);
    assert_int_equal(grant(l, own, "", b.id, 1, &why), 0);
    assert_int_equal(grant(l, team, "x", 0, 2, &why), 0);

    assert_int_equal(ledger_account_delete(l, a.id, &why), 0);
    assert_refused(ledger_account_find(l, "mara", &again, &why),
                   ACCOUNT_UNKNOWN);
    assert_refused(ledger_account_delete(l, a.id, &why), ACCOUNT_UNKNOWN);
    assert_refused(ledger_device_find(l, device.id, &device, &why),
                   DEVICE_UNKNOWN);
    assert_false(invite_good(l, invite.hash, 0, &invite));
    assert_refused(ledger_space_get(l, a.home, &s, &why), FILE_MISSING);
    assert_refused(ledger_space_find(l, "own", &s, &why), SPACE_UNKNOWN);
    assert_int_equal(space_of(l, team).reserved_bytes, 20);
    assert_grants(l, 0, -1, "3/x:0=2 ");
    assert_sound(l);

    /* Its number is never another's. */
    again = account_new(l, "mara", 0, 0);
    assert_true(again.id > b.id);
    assert_true(again.home > own);
    assert_sound(l);
}

static void an_account_stays_while_a_space_of_it_has_files(void **state)
{
    struct house *h = *state;
    struct ledger *l = h->ledger;
    struct ledger_account a = account_new(l, "mara", 0, 0),
                          b = account_new(l, "ines", 0, 0), in_own = a;
    struct ledger_publish x = item(&a, "x", 1, 1), y = item(&a, "y", 1, 2), z;
    struct ledger_file found = {.size = 1, .hash = CHUNK_SHA256};
    struct ledger_change c = {
        .kind = LEDGER_REMOVE, .space = a.home, .path = "dir"};
    struct problem why;

    in_own.home = space_new(l, "own", a.id).id;
    z = item(&in_own, "z", 1, 3);
    assert_int_equal(publish(l, &x, &why), 0);
    assert_int_equal(publish(l, &y, &why), 0);
    assert_int_equal(publish(l, &z, &why), 0);
    settle(l, x.intent, 9);
    settle(l, y.intent, 9);
    settle(l, z.intent, 9);

    assert_refused(ledger_account_delete(l, a.id, &why), SPACE_NOT_EMPTY);
    assert_string_equal(why.name, "mara");
    assert_int_equal(why.used, 2);
    assert_int_equal(ledger_file_remove(l, a.home, "x", &why), 0);
    assert_int_equal(ledger_file_remove(l, a.home, "y", &why), 0);
    assert_refused(ledger_account_delete(l, a.id, &why), SPACE_NOT_EMPTY);
    assert_string_equal(why.name, "@own");
    assert_int_equal(why.used, 1);
    assert_refused(ledger_space_delete(l, in_own.home, &why), SPACE_NOT_EMPTY);
    assert_int_equal(ledger_file_remove(l, in_own.home, "z", &why), 0);

    /* In nobody's quota, but there. */
    assert_int_equal(ledger_file_digest(l, a.home, "found", &found, &why), 0);
    assert_refused(ledger_account_delete(l, a.id, &why), SPACE_NOT_EMPTY);
    assert_int_equal(ledger_file_remove(l, a.home, "found", &why), 0);
    assert_int_equal(ledger_change_begin(l, &c, &why), 0);
    assert_refused(ledger_account_delete(l, a.id, &why), FILE_BUSY);
    assert_int_equal(space_of(l, in_own.home).owner, a.id);
    assert_int_equal(ledger_change_end(l, c.id, true, &why), 0);
    assert_int_equal(ledger_space_delete(l, in_own.home, &why), 0);
    assert_refused(ledger_space_delete(l, in_own.home, &why), FILE_MISSING);
    assert_int_equal(ledger_account_delete(l, a.id, &why), 0);
    assert_int_equal(ledger_account_find(l, "ines", &b, &why), 0);
    assert_sound(l);
}

/* ---- a file in place of another ------------------------------------------------------------ */
static void a_full_space_takes_what_is_no_larger(void **state)
{
    struct house *h = *state;
    struct ledger *l = h->ledger;
    struct ledger_account a = account_new(l, "mara", 100, 1);
    struct ledger_publish p = item(&a, "x", 100, 1);
    struct ledger_draft d = draft_in(&a, a.home, 1, "x", 100);
    struct problem why;

    assert_int_equal(publish(l, &p, &why), 0);
    settle(l, p.intent, 9);
    assert_int_equal(ledger_draft_open(l, &d, &why), 0);
    assert_int_equal(space_of(l, a.home).reserved_bytes, 0);
    assert_sound(l);
    assert_int_equal(publish_draft(l, &d, 2, &why), 0);
    assert_int_equal(space_of(l, a.home).used_bytes, 100);

    d = draft_in(&a, a.home, 2, "x", 101);
    assert_refused(ledger_draft_open(l, &d, &why), QUOTA_BYTES);
    assert_int_equal(why.limit, 100);
    assert_int_equal(why.used, 100);
    assert_int_equal(why.size, 1);
    d = draft_in(&a, a.home, 2, "y", 1);
    assert_refused(ledger_draft_open(l, &d, &why), QUOTA_FILES);

    d = draft_in(&a, a.home, 2, "x", 40);
    assert_int_equal(ledger_draft_open(l, &d, &why), 0);
    assert_int_equal(publish_draft(l, &d, 3, &why), 0);
    assert_int_equal(space_of(l, a.home).used_bytes, 40);
    d = draft_in(&a, a.home, 3, "x", 90);
    assert_int_equal(ledger_draft_open(l, &d, &why), 0);
    assert_int_equal(space_of(l, a.home).reserved_bytes, 50);
    assert_sound(l);
    assert_int_equal(publish_draft(l, &d, 4, &why), 0);
    assert_int_equal(space_of(l, a.home).used_bytes, 90);
    assert_int_equal(space_of(l, a.home).reserved_bytes, 0);
    assert_sound(l);
}

/* What was to be replaced is gone when the upload ends: then it counts whole,
 * and is refused when there is no room for that any more. */
static void what_is_replaced_may_go_meanwhile(void **state)
{
    struct house *h = *state;
    struct ledger *l = h->ledger;
    struct ledger_account a = account_new(l, "mara", 100, 0);
    struct ledger_publish x = item(&a, "x", 60, 1), y = item(&a, "y", 50, 2);
    struct ledger_draft d = draft_in(&a, a.home, 1, "x", 70);
    struct problem why;

    assert_int_equal(publish(l, &x, &why), 0);
    settle(l, x.intent, 9);
    assert_int_equal(ledger_draft_open(l, &d, &why), 0);
    assert_int_equal(space_of(l, a.home).reserved_bytes, 10);
    assert_int_equal(ledger_file_remove(l, a.home, "x", &why), 0);
    assert_int_equal(publish(l, &y, &why), 0);
    settle(l, y.intent, 9);
    assert_refused(publish_draft(l, &d, 3, &why), QUOTA_BYTES);
    assert_int_equal(space_of(l, a.home).used_bytes, 50);
    assert_int_equal(space_of(l, a.home).reserved_bytes, 10);
    assert_sound(l);
    assert_int_equal(ledger_file_remove(l, a.home, "y", &why), 0);
    assert_int_equal(publish_draft(l, &d, 3, &why), 0);
    assert_int_equal(space_of(l, a.home).used_bytes, 70);
    assert_int_equal(space_of(l, a.home).reserved_bytes, 0);
    assert_sound(l);
}

static void two_replace_the_same_file(void **state)
{
    struct house *h = *state;
    struct ledger *l = h->ledger;
    struct ledger_account a = account_new(l, "mara", 200, 0);
    struct ledger_publish x = item(&a, "x", 60, 1);
    struct ledger_draft one = draft_in(&a, a.home, 1, "x", 80),
                        two = draft_in(&a, a.home, 2, "x", 75),
                        three = draft_in(&a, a.home, 3, "x", 66);
    struct problem why;

    assert_int_equal(publish(l, &x, &why), 0);
    settle(l, x.intent, 9);
    assert_int_equal(ledger_draft_open(l, &one, &why), 0);
    assert_int_equal(ledger_draft_open(l, &two, &why), 0);
    /* Only one of them can have the room of what it replaces. */
    assert_int_equal(space_of(l, a.home).reserved_bytes, 95);
    assert_refused(ledger_draft_open(l, &three, &why), QUOTA_BYTES);
    assert_int_equal(publish_draft(l, &two, 2, &why), 0);
    assert_int_equal(space_of(l, a.home).used_bytes, 75);
    assert_int_equal(space_of(l, a.home).reserved_bytes, 20);
    assert_int_equal(publish_draft(l, &one, 3, &why), 0);
    assert_int_equal(space_of(l, a.home).used_bytes, 80);
    assert_int_equal(space_of(l, a.home).reserved_bytes, 0);
    assert_sound(l);
}

#define T(f) cmocka_unit_test_setup_teardown(f, setup, teardown)

int main(void)
{
    const struct CMUnitTest tests[] = {
        T(a_shared_space_is_found_by_its_name),
        T(shared_spaces_are_listed_by_name_without_homes),
        T(an_account_is_found_by_its_number),
        T(grants_are_set_and_taken_away),
        T(grants_are_listed_in_pages),
        T(an_account_goes_with_all_that_is_its_own),
        T(an_account_stays_while_a_space_of_it_has_files),
        T(a_full_space_takes_what_is_no_larger),
        T(what_is_replaced_may_go_meanwhile),
        T(two_replace_the_same_file),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
