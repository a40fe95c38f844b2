/* SPDX-License-Identifier: MIT */
#include "ledger/ledger_test.h"

#include <keel/co.h>
#include <keel/lock.h>
#include <keel/thread.h>

#include "ledger/ledger_inside.h"

/* ---- accounts ------------------------------------------------------------------ */
static void an_account_is_kept_with_its_home(void **state)
{
    struct house *h = *state;
    struct ledger_account a = account_new(h->ledger, "mara", 1000, 10), b;
    struct ledger_space s = space_of(h->ledger, a.home);
    struct problem why;

    assert_int_equal(s.owner, a.id);
    assert_int_equal(s.quota_bytes, 1000);
    assert_int_equal(s.quota_files, 10);
    assert_int_equal(strlen(s.dir), 32);
    assert_string_equal(s.name, "");

    reopen(h);
    assert_int_equal(ledger_account_find(h->ledger, "mara", &b, &why), 0);
    assert_int_equal(b.id, a.id);
    assert_int_equal(b.home, a.home);
    assert_int_equal(b.scram.iterations, 600000);
    assert_int_equal(b.scram.salt_size, 4);
    assert_memory_equal(b.scram.salt, "salt", 4);
    assert_int_equal(b.scram.stored_key[31], 7);
    assert_int_equal(b.scram.server_key[0], 8);
    assert_int_equal(b.created, 1000);
    assert_false(b.admin || b.disabled);
    assert_refused(ledger_account_find(h->ledger, "mar", &b, &why),
                   ACCOUNT_UNKNOWN);
    assert_string_equal(why.name, "mar");
    assert_sound(h->ledger);
}

static void a_name_is_given_once(void **state)
{
    struct house *h = *state;
    struct ledger_registration r = {.name = "mara", .scram.salt_size = 1};
    struct ledger_account a;
    struct ledger_space spaces[4];
    struct problem why;

    account_new(h->ledger, "mara", 0, 0);
    assert_refused(ledger_register(h->ledger, &r, &a, &why), ACCOUNT_EXISTS);
    assert_int_equal(ledger_space_list(h->ledger, 0, spaces, 4, &why), 1);
}

static void accounts_are_listed_by_name_in_pages(void **state)
{
    struct house *h = *state;
    struct ledger_account page[2];
    struct problem why;

    account_new(h->ledger, "carl", 0, 0);
    account_new(h->ledger, "anna", 0, 0);
    account_new(h->ledger, "bert", 0, 0);
    assert_int_equal(ledger_account_list(h->ledger, "", page, 2, &why), 2);
    assert_string_equal(page[0].name, "anna");
    assert_string_equal(page[1].name, "bert");
    assert_int_equal(ledger_account_list(h->ledger, "bert", page, 2, &why), 1);
    assert_string_equal(page[0].name, "carl");
    assert_int_equal(ledger_account_list(h->ledger, "carl", page, 2, &why), 0);
}

static void passwords_and_locks_change(void **state)
{
    struct house *h = *state;
    struct ledger_account a = account_new(h->ledger, "mara", 0, 0);
    struct ledger_scram s = {.iterations = 700000, .salt_size = 32};
    struct problem why;

    memset(s.salt, 3, sizeof s.salt);
    assert_int_equal(ledger_account_scram(h->ledger, a.id, &s, &why), 0);
    assert_int_equal(ledger_account_disable(h->ledger, a.id, true, &why), 0);
    assert_int_equal(ledger_account_find(h->ledger, "mara", &a, &why), 0);
    assert_true(a.disabled);
    assert_int_equal(a.scram.iterations, 700000);
    assert_int_equal(a.scram.salt_size, 32);
    assert_int_equal(a.scram.salt[31], 3);
    assert_refused(ledger_account_scram(h->ledger, a.id + 1, &s, &why),
                   ACCOUNT_UNKNOWN);
    assert_refused(ledger_account_disable(h->ledger, 99, true, &why),
                   ACCOUNT_UNKNOWN);
}

static void an_invite_is_used_as_often_as_it_says(void **state)
{
    struct house *h = *state;
    struct ledger_invite i = {.admin = true,
                              .uses = 2,
                              .expires = 5000,
                              .created = 1000},
                         found;
    struct ledger_registration r = {
        .name = "a", .scram.salt_size = 1, .invite = i.hash, .now = 4999};
    struct ledger_account a;
    struct problem why;

    memset(i.hash, 9, sizeof i.hash);
    assert_refused(ledger_register(h->ledger, &r, &a, &why), INVITE_INVALID);
    assert_int_equal(ledger_invite_add(h->ledger, &i, &why), 0);
    assert_true(invite_good(h->ledger, i.hash, 4999, &found));
    assert_int_equal(found.uses, 2);
    assert_false(invite_good(h->ledger, i.hash, 5000, &found));

    assert_int_equal(ledger_register(h->ledger, &r, &a, &why), 0);
    assert_true(a.admin);
    /* A name that is taken does not use it up. */
    assert_refused(ledger_register(h->ledger, &r, &a, &why), ACCOUNT_EXISTS);
    r.name = "b";
    r.now = 5000;
    assert_refused(ledger_register(h->ledger, &r, &a, &why), INVITE_INVALID);
    r.now = 4999;
    assert_int_equal(ledger_register(h->ledger, &r, &a, &why), 0);
    r.name = "c";
    assert_refused(ledger_register(h->ledger, &r, &a, &why), INVITE_INVALID);
    assert_false(invite_good(h->ledger, i.hash, 0, &found));
}

static void a_secret_is_made_once(void **state)
{
    struct house *h = *state;
    uint8_t one[32], two[32], other[32];
    struct problem why;

    assert_int_equal(ledger_secret(h->ledger, "decoy", one, &why), 0);
    assert_int_equal(ledger_secret(h->ledger, "other", other, &why), 0);
    reopen(h);
    assert_int_equal(ledger_secret(h->ledger, "decoy", two, &why), 0);
    assert_memory_equal(one, two, 32);
    assert_memory_not_equal(one, other, 32);
}

static void devices_come_and_go(void **state)
{
    struct house *h = *state;
    struct ledger_account a = account_new(h->ledger, "mara", 0, 0),
                          b = account_new(h->ledger, "bert", 0, 0);
    struct ledger_device d = {.account = a.id, .name = "laptop", .created = 5},
                         found, list[LEDGER_DEVICES];
    struct problem why;

    memset(d.public_key, 4, 32);
    assert_int_equal(ledger_device_add(h->ledger, &d, &why), 0);
    assert_int_equal(ledger_device_find(h->ledger, d.id, &found, &why), 0);
    assert_string_equal(found.name, "laptop");
    assert_int_equal(found.public_key[31], 4);
    /* Another's device cannot be removed. */
    assert_refused(ledger_device_remove(h->ledger, b.id, d.id, &why),
                   DEVICE_UNKNOWN);

    for (int i = 1; i < LEDGER_DEVICES; i++)
        assert_int_equal(ledger_device_add(h->ledger, &d, &why), 0);
    assert_refused(ledger_device_add(h->ledger, &d, &why), REQUEST_INVALID);
    assert_int_equal(ledger_device_list(h->ledger, a.id, list, 64, &why), 64);
    assert_int_equal(ledger_device_list(h->ledger, b.id, list, 64, &why), 0);

    assert_int_equal(ledger_device_remove(h->ledger, a.id, d.id, &why), 0);
    assert_refused(ledger_device_find(h->ledger, d.id, &found, &why),
                   DEVICE_UNKNOWN);
    assert_refused(ledger_device_remove(h->ledger, a.id, d.id, &why),
                   DEVICE_UNKNOWN);
}

static void a_touch_rides_along_with_a_transaction(void **state)
{
    struct house *h = *state;
    struct ledger_account a = account_new(h->ledger, "mara", 0, 0);
    struct ledger_device d = {.account = a.id, .name = "x", .used = 10}, found;
    unsigned commits;
    struct problem why;

    assert_int_equal(ledger_device_add(h->ledger, &d, &why), 0);
    commits = h->ledger->commits;
    assert_int_equal(ledger_device_touch(h->ledger, d.id, 20, &why), 0);
    assert_int_equal(ledger_device_find(h->ledger, d.id, &found, &why), 0);
    assert_int_equal(found.used, 20);
    assert_int_equal(h->ledger->commits, commits);
    /* More than there is room for: the oldest is forgotten, no more. */
    for (int64_t i = 1; i <= LEDGER_TOUCHES; i++)
        assert_int_equal(ledger_device_touch(h->ledger, 1000 + i, 1, &why), 0);
    assert_int_equal(ledger_device_touch(h->ledger, d.id, 30, &why), 0);

    reopen(h);
    assert_int_equal(ledger_device_find(h->ledger, d.id, &found, &why), 0);
    assert_int_equal(found.used, 30);
}

/* ---- drafts --------------------------------------------------------------------- */
static struct ledger_draft draft(const struct ledger_account *a, char id,
                                 const char *path, uint64_t size)
{
    struct ledger_draft d = {.space = a->home,
                             .account = a->id,
                             .path = path,
                             .size = size,
                             .hash = CHUNK_SHA256,
                             .created = 1,
                             .expires = 100};

    memset(d.id, id, sizeof d.id);
    return d;
}

static void a_draft_reserves_and_gives_back(void **state)
{
    struct house *h = *state;
    struct ledger_account a = account_new(h->ledger, "mara", 100, 0);
    struct ledger_draft one = draft(&a, 1, "x", 60),
                        two = draft(&a, 2, "y", 41);
    struct problem why;

    assert_int_equal(ledger_draft_open(h->ledger, &one, &why), 0);
    assert_int_equal(space_of(h->ledger, a.home).reserved_bytes, 60);
    assert_refused(ledger_draft_open(h->ledger, &two, &why), QUOTA_BYTES);
    assert_int_equal(why.limit, 100);
    assert_int_equal(why.used, 0);
    assert_int_equal(why.bytes, 60);
    assert_int_equal(why.size, 41);
    two.size = 40;
    assert_int_equal(ledger_draft_open(h->ledger, &two, &why), 0);
    assert_sound(h->ledger);

    assert_int_equal(ledger_draft_drop(h->ledger, one.id, &why), 0);
    assert_int_equal(space_of(h->ledger, a.home).reserved_bytes, 40);
    assert_int_equal(ledger_draft_drop(h->ledger, one.id, &why), 0);
    assert_int_equal(space_of(h->ledger, a.home).reserved_bytes, 40);
    assert_sound(h->ledger);
}

/* Mistakes of a caller end its own request. */
static void what_the_schema_forbids_is_refused(void **state)
{
    struct house *h = *state;
    struct ledger_account a = account_new(h->ledger, "mara", 100, 0);
    struct ledger_draft one = draft(&a, 1, "x", 60), two;
    struct problem why;

    assert_int_equal(ledger_draft_open(h->ledger, &one, &why), 0);
    two = one, two.size = 1;
    assert_refused(ledger_draft_open(h->ledger, &two, &why), INTERNAL);
    two = draft(&a, 2, "y", 1), two.account = 77;
    assert_refused(ledger_draft_open(h->ledger, &two, &why), INTERNAL);
    two = draft(&a, 2, "y", 1), two.space = 77;
    assert_refused(ledger_draft_open(h->ledger, &two, &why), FILE_MISSING);
    assert_int_equal(space_of(h->ledger, a.home).reserved_bytes, 60);
    assert_sound(h->ledger);
}

static void sizes_at_the_edge_of_64_bits_do_not_wrap(void **state)
{
    struct house *h = *state;
    struct ledger_account a = account_new(h->ledger, "mara", 0, 0);
    struct ledger_draft d = draft(&a, 1, "x", (uint64_t)INT64_MAX + 1);
    struct ledger_publish p = item(&a, "y", 2, 1);
    struct problem why;

    assert_refused(ledger_draft_open(h->ledger, &d, &why), FILE_TOO_LARGE);
    d.size = UINT64_MAX;
    assert_refused(ledger_draft_open(h->ledger, &d, &why), FILE_TOO_LARGE);
    d.size = INT64_MAX - 1;
    assert_int_equal(ledger_draft_open(h->ledger, &d, &why), 0);
    assert_refused(publish(h->ledger, &p, &why), QUOTA_BYTES);
    assert_true(why.limit == INT64_MAX);
    p = item(&a, "y", 1, 1);
    assert_int_equal(publish(h->ledger, &p, &why), 0);
    d = draft(&a, 2, "z", 1);
    assert_refused(ledger_draft_open(h->ledger, &d, &why), QUOTA_BYTES);
    p = item(&a, "z", UINT64_MAX, 1);
    assert_refused(publish(h->ledger, &p, &why), FILE_TOO_LARGE);
    assert_sound(h->ledger);
}

static void a_draft_is_found_by_what_it_was_made_of(void **state)
{
    struct house *h = *state;
    struct ledger_account a = account_new(h->ledger, "mara", 0, 0);
    struct ledger_draft d = draft(&a, 1, "dir/x", 60), like;
    uint8_t id[16];
    struct problem why;

    assert_int_equal(ledger_draft_open(h->ledger, &d, &why), 0);
    assert_int_equal(ledger_draft_find(h->ledger, &d, 200, id, &why), 0);
    assert_memory_equal(id, d.id, 16);
    like = d, like.size++;
    assert_refused(ledger_draft_find(h->ledger, &like, 1, id, &why),
                   TRANSFER_UNKNOWN);
    like = d, like.path = "dir/y";
    assert_refused(ledger_draft_find(h->ledger, &like, 1, id, &why),
                   TRANSFER_UNKNOWN);
    like = d, like.hash = CHUNK_XXH128;
    assert_refused(ledger_draft_find(h->ledger, &like, 1, id, &why),
                   TRANSFER_UNKNOWN);
    like = d, like.source[15] ^= 1;
    assert_refused(ledger_draft_find(h->ledger, &like, 1, id, &why),
                   TRANSFER_UNKNOWN);
    like = d, like.account++;
    assert_refused(ledger_draft_find(h->ledger, &like, 1, id, &why),
                   TRANSFER_UNKNOWN);
}

struct listed {
    struct ledger *ledger;
    int count, stop_at;
    int64_t last;
};

static int draft_listed(const struct ledger_draft *d, void *arg)
{
    struct listed *seen = arg;

    assert_true(d->expires >= seen->last);
    assert_string_equal(d->path, "x");
    seen->last = d->expires;
    seen->count++;
    /* The list may be changed from inside. */
    if (seen->ledger)
        assert_int_equal(ledger_draft_drop(seen->ledger, d->id, NULL), 0);
    return seen->count == seen->stop_at ? -ECANCELED : 0;
}

static void drafts_past_their_time_are_listed(void **state)
{
    struct house *h = *state;
    struct ledger_account a = account_new(h->ledger, "mara", 0, 0);
    struct listed seen = {0};
    struct problem why;

    for (int i = 0; i < 200; i++) {
        struct ledger_draft d = draft(&a, (char)i, "x", 3);

        d.expires = i / 2;
        assert_int_equal(ledger_draft_open(h->ledger, &d, &why), 0);
    }
    assert_int_equal(
        ledger_draft_list(h->ledger, 90, draft_listed, &seen, &why), 0);
    assert_int_equal(seen.count, 180);
    seen = (struct listed){.stop_at = 70};
    assert_int_equal(
        ledger_draft_list(h->ledger, 90, draft_listed, &seen, &why),
        -ECANCELED);
    assert_int_equal(seen.count, 70);
    seen = (struct listed){.ledger = h->ledger};
    assert_int_equal(
        ledger_draft_list(h->ledger, INT64_MAX, draft_listed, &seen, &why), 0);
    assert_int_equal(seen.count, 200);
    assert_int_equal(space_of(h->ledger, a.home).reserved_bytes, 0);
    assert_sound(h->ledger);
}

/* ---- publishing ------------------------------------------------------------------- */
static int count_event(const struct ledger_event *e, void *arg)
{
    int *counts = arg;

    assert_string_equal(e->kind, "file.published");
    counts[e->held]++;
    return 0;
}

static void assert_events(struct ledger *l, int held, int released)
{
    int counts[2] = {0};

    assert_int_equal(ledger_outbox_list(l, 0, count_event, counts, NULL), 0);
    assert_int_equal(counts[1], held);
    assert_int_equal(counts[0], released);
}

static int keep_intent(const struct ledger_intent *i, void *arg)
{
    struct ledger_intent *ret = arg;

    assert_int_equal(ret->intent, 0); /* the tests have one at most */
    *ret = *i;
    ret->path = NULL;
    return 0;
}

static void published_then_settled(void **state)
{
    struct house *h = *state;
    struct ledger_account a = account_new(h->ledger, "mara", 100, 2);
    struct ledger_draft d = draft(&a, 1, "x", 60);
    struct ledger_publish p = item(&a, "x", 60, 77);
    struct ledger_intent intent = {0};
    struct ledger_file f;
    struct ledger_space s;
    struct problem why;

    assert_int_equal(ledger_draft_open(h->ledger, &d, &why), 0);
    memcpy(p.draft, d.id, 16);
    p.named = true;
    assert_int_equal(publish(h->ledger, &p, &why), 0);
    s = space_of(h->ledger, a.home);
    assert_int_equal(s.used_bytes, 60);
    assert_int_equal(s.used_files, 1);
    assert_int_equal(s.reserved_bytes, 0);
    assert_int_equal(ledger_outbox_done(h->ledger, p.intent, &why), 0);
    assert_events(h->ledger, 1, 0); /* held: not to be done with */
    assert_sound(h->ledger);

    reopen(h);
    assert_int_equal(ledger_intent_list(h->ledger, keep_intent, &intent, &why),
                     0);
    assert_int_equal(intent.intent, p.intent);
    assert_int_equal(intent.space, a.home);
    assert_memory_equal(intent.draft, d.id, 16);
    assert_true(intent.named);
    assert_int_equal(intent.inode, 77);
    assert_int_equal(intent.device, 1);
    assert_int_equal(intent.size, 60);
    assert_int_equal(intent.mtime_ns, 5);
    assert_int_equal(ledger_file_get(h->ledger, a.home, "x", &f, &why), 0);
    assert_int_equal(f.ctime_ns, 0);

    settle(h->ledger, p.intent, 123);
    settle(h->ledger, p.intent, 456); /* said twice: no harm */
    assert_int_equal(ledger_file_get(h->ledger, a.home, "x", &f, &why), 0);
    assert_int_equal(f.ctime_ns, 123);
    assert_int_equal(f.inode, 77);
    assert_int_equal(f.root.bytes[31], 77);
    assert_int_equal(f.account, a.id);
    assert_events(h->ledger, 0, 1);
    intent.intent = 0;
    assert_int_equal(ledger_intent_list(h->ledger, keep_intent, &intent, &why),
                     0);
    assert_int_equal(intent.intent, 0);
    assert_sound(h->ledger);
}

static void undo_brings_the_replaced_file_back(void **state)
{
    struct house *h = *state;
    struct ledger_account a = account_new(h->ledger, "mara", 100, 2);
    struct ledger_publish old = item(&a, "x", 60, 1),
                          new = item(&a, "x", 90, 2);
    struct ledger_space s;
    struct ledger_file f;
    struct problem why;

    assert_int_equal(publish(h->ledger, &old, &why), 0);
    settle(h->ledger, old.intent, 123);
    assert_int_equal(publish(h->ledger, &new, &why), 0);
    s = space_of(h->ledger, a.home);
    assert_int_equal(s.used_bytes, 90);
    assert_int_equal(s.used_files, 1);
    assert_events(h->ledger, 1, 1);
    /* A quota that was lowered meanwhile does not stop an undo. */
    assert_int_equal(ledger_space_quota(h->ledger, a.home, 10, 1, &why), 0);

    assert_int_equal(ledger_undo(h->ledger, new.intent, &why), 0);
    assert_int_equal(ledger_undo(h->ledger, new.intent, &why), 0);
    assert_int_equal(ledger_file_get(h->ledger, a.home, "x", &f, &why), 0);
    assert_int_equal(f.inode, 1);
    assert_int_equal(f.size, 60);
    assert_int_equal(f.ctime_ns, 123);
    assert_int_equal(f.root.bytes[0], 1);
    s = space_of(h->ledger, a.home);
    assert_int_equal(s.used_bytes, 60);
    assert_int_equal(s.used_files, 1);
    assert_events(h->ledger, 0, 1);
    assert_sound(h->ledger);
}

static void undo_of_a_new_name_leaves_nothing(void **state)
{
    struct house *h = *state;
    struct ledger_account a = account_new(h->ledger, "mara", 0, 0);
    struct ledger_publish p = item(&a, "x", 60, 1);
    struct ledger_space s;
    struct ledger_file f;
    struct problem why;

    assert_int_equal(publish(h->ledger, &p, &why), 0);
    assert_int_equal(ledger_undo(h->ledger, p.intent, &why), 0);
    assert_refused(ledger_file_get(h->ledger, a.home, "x", &f, &why),
                   FILE_MISSING);
    s = space_of(h->ledger, a.home);
    assert_int_equal(s.used_bytes + s.used_files, 0);
    assert_events(h->ledger, 0, 0);
    assert_sound(h->ledger);
}

static void a_name_belongs_to_its_live_intent(void **state)
{
    struct house *h = *state;
    struct ledger_account a = account_new(h->ledger, "mara", 0, 0);
    struct ledger_publish p = item(&a, "x", 60, 1), q = item(&a, "x", 61, 2);
    struct problem why;

    assert_int_equal(publish(h->ledger, &p, &why), 0);
    assert_refused(publish(h->ledger, &q, &why), FILE_BUSY);
    assert_refused(ledger_file_remove(h->ledger, a.home, "x", &why), FILE_BUSY);
    assert_refused(ledger_file_digest(h->ledger, a.home, "x", &q.file, &why),
                   FILE_BUSY);
    settle(h->ledger, p.intent, 1);
    assert_int_equal(publish(h->ledger, &q, &why), 0);
    assert_sound(h->ledger);
}

static void conditions_are_looked_at_where_it_is_decided(void **state)
{
    struct house *h = *state;
    struct ledger_account a = account_new(h->ledger, "mara", 0, 0);
    struct ledger_publish p = item(&a, "x", 60, 1), q;
    struct digest one = p.file.root, other = {.bytes = {1}};
    struct problem why;

    p.match = &one;
    assert_refused(publish(h->ledger, &p, &why), FILE_MATCH);
    p.match = NULL;
    p.replace = false;
    assert_int_equal(publish(h->ledger, &p, &why), 0);
    settle(h->ledger, p.intent, 1);
    q = item(&a, "x", 5, 2);
    q.replace = false;
    assert_refused(publish(h->ledger, &q, &why), FILE_EXISTS);
    q.replace = true;
    q.match = &other;
    assert_refused(publish(h->ledger, &q, &why), FILE_MATCH);
    q.match = &one;
    assert_int_equal(publish(h->ledger, &q, &why), 0);
    assert_sound(h->ledger);
}

static void a_group_goes_on_without_what_is_refused(void **state)
{
    struct house *h = *state;
    struct ledger_account a = account_new(h->ledger, "mara", 100, 3);
    struct ledger_draft d = draft(&a, 9, "late", 10);
    struct ledger_publish group[] = {
        item(&a, "a", 40, 1),   item(&a, "b", 70, 2), /* 70: too much */
        item(&a, "a", 1, 3),                          /* twice in a group */
        item(&a, "c", 30, 4),   item(&a, "", 1, 5),
        item(&a, "d", 1, 6),    item(&a, "e", 1, 7), /* the fourth file */
        item(&a, "late", 10, 8)};                    /* its draft is unknown */
    enum { COUNT = sizeof group / sizeof *group };
    static const enum problem_id want[COUNT] = {0,
                                                PROBLEM_QUOTA_BYTES,
                                                PROBLEM_FILE_BUSY,
                                                0,
                                                PROBLEM_NAME_INVALID,
                                                0,
                                                PROBLEM_QUOTA_FILES,
                                                PROBLEM_TRANSFER_UNKNOWN};
    struct problem why[COUNT] = {0};
    struct ledger_settle done[2];
    struct ledger_space s;
    struct problem whole;

    memcpy(group[7].draft, d.id, 16);
    for (int i = 0; i < COUNT; i++)
        group[i].why = &why[i];
    assert_int_equal(ledger_publish(h->ledger, group, COUNT, NULL, 0, &whole),
                     0);
    for (int i = 0; i < COUNT; i++) {
        assert_int_equal(group[i].result < 0, want[i] != 0);
        assert_int_equal(why[i].id, want[i]);
    }
    s = space_of(h->ledger, a.home);
    assert_int_equal(s.used_bytes, 71);
    assert_int_equal(s.used_files, 3);
    assert_sound(h->ledger);

    /* The next group settles what this one left. */
    done[0] = (struct ledger_settle){group[0].intent, 5};
    done[1] = (struct ledger_settle){group[3].intent, 5};
    group[0] = item(&a, "a", 69, 9);
    assert_int_equal(ledger_publish(h->ledger, group, 1, done, 2, &whole), 0);
    assert_int_equal(group[0].result, 0);
    assert_events(h->ledger, 2, 2);
    assert_int_equal(space_of(h->ledger, a.home).used_bytes, 100);
    assert_sound(h->ledger);
}

static void a_draft_with_a_name_needs_no_row(void **state)
{
    struct house *h = *state;
    struct ledger_account a = account_new(h->ledger, "mara", 0, 0);
    struct ledger_publish p = item(&a, "x", 60, 1);
    struct ledger_intent intent = {0};
    struct problem why;

    memset(p.draft, 7, sizeof p.draft);
    p.named = true;
    assert_refused(publish(h->ledger, &p, &why), TRANSFER_UNKNOWN);
    p.no_row = true;
    assert_int_equal(publish(h->ledger, &p, &why), 0);
    assert_int_equal(ledger_intent_list(h->ledger, keep_intent, &intent, &why),
                     0);
    assert_memory_equal(intent.draft, p.draft, 16);
    assert_sound(h->ledger);
}

static void a_refused_item_keeps_its_draft(void **state)
{
    struct house *h = *state;
    struct ledger_account a = account_new(h->ledger, "mara", 0, 1);
    struct ledger_draft d = draft(&a, 1, "x", 60);
    struct ledger_publish p = item(&a, "x", 60, 1), other = item(&a, "y", 1, 2);
    uint8_t id[16];
    struct problem why;

    assert_int_equal(ledger_draft_open(h->ledger, &d, &why), 0);
    assert_int_equal(publish(h->ledger, &other, &why), 0);
    memcpy(p.draft, d.id, 16);
    assert_refused(publish(h->ledger, &p, &why), QUOTA_FILES);
    assert_int_equal(ledger_draft_find(h->ledger, &d, 1, id, &why), 0);
    assert_int_equal(space_of(h->ledger, a.home).reserved_bytes, 60);
    d = draft(&a, 2, "z", 1);
    assert_refused(ledger_draft_open(h->ledger, &d, &why), QUOTA_FILES);
    assert_sound(h->ledger);
}

static void a_found_file_is_in_nobodys_quota(void **state)
{
    struct house *h = *state;
    struct ledger_account a = account_new(h->ledger, "mara", 100, 1);
    struct ledger_publish p = item(&a, "x", 60, 1), q = item(&a, "x", 30, 2);
    struct ledger_file f;
    struct problem why;

    p.file.ctime_ns = 9;
    assert_int_equal(ledger_file_digest(h->ledger, a.home, "x", &p.file, &why),
                     0);
    assert_int_equal(space_of(h->ledger, a.home).used_bytes, 0);
    assert_int_equal(ledger_file_get(h->ledger, a.home, "x", &f, &why), 0);
    assert_int_equal(f.ctime_ns, 9);
    /* Published over, it counts; undone, it does not. */
    assert_int_equal(publish(h->ledger, &q, &why), 0);
    assert_int_equal(space_of(h->ledger, a.home).used_files, 1);
    assert_int_equal(ledger_undo(h->ledger, q.intent, &why), 0);
    assert_int_equal(space_of(h->ledger, a.home).used_files, 0);
    assert_int_equal(ledger_file_get(h->ledger, a.home, "x", &f, &why), 0);
    assert_int_equal(f.ctime_ns, 9);
    assert_sound(h->ledger);
    assert_int_equal(ledger_file_remove(h->ledger, a.home, "x", &why), 0);
    assert_sound(h->ledger);

    /* A published file that another hand changed keeps its charge. */
    assert_int_equal(publish(h->ledger, &q, &why), 0);
    settle(h->ledger, q.intent, 1);
    assert_int_equal(ledger_file_digest(h->ledger, a.home, "x", &p.file, &why),
                     0);
    assert_int_equal(space_of(h->ledger, a.home).used_bytes, 30);
    assert_sound(h->ledger);
    assert_int_equal(ledger_file_remove(h->ledger, a.home, "x", &why), 0);
    assert_int_equal(space_of(h->ledger, a.home).used_bytes, 0);
    assert_refused(ledger_file_remove(h->ledger, a.home, "x", &why),
                   FILE_MISSING);
    assert_sound(h->ledger);
}

static void paths_are_bytes(void **state)
{
    struct house *h = *state;
    struct ledger_account a = account_new(h->ledger, "mara", 0, 0);
    char longest[PATH_BYTES + 2];
    struct ledger_publish p = item(&a, "\xff\xfe' OR 1=1 --", 1, 1);
    struct ledger_file f;
    struct problem why;

    assert_int_equal(publish(h->ledger, &p, &why), 0);
    assert_int_equal(ledger_file_get(h->ledger, a.home, p.path, &f, &why), 0);
    memset(longest, 'x', sizeof longest);
    longest[PATH_BYTES] = '\0';
    p = item(&a, longest, 1, 1);
    assert_int_equal(publish(h->ledger, &p, &why), 0);
    assert_int_equal(ledger_undo(h->ledger, p.intent, &why), 0);
    longest[PATH_BYTES] = 'x';
    longest[PATH_BYTES + 1] = '\0';
    p = item(&a, longest, 1, 1);
    assert_refused(publish(h->ledger, &p, &why), PATH_TOO_LONG);
    assert_refused(ledger_file_get(h->ledger, a.home, longest, &f, &why),
                   PATH_TOO_LONG);
}

static void what_follows_is_done_once(void **state)
{
    struct house *h = *state;
    struct ledger_account a = account_new(h->ledger, "mara", 0, 0);
    char path[16];
    int counts[2] = {0};
    struct problem why;

    for (int i = 0; i < 150; i++) {
        struct ledger_publish p;

        snprintf(path, sizeof path, "f%d", i);
        p = item(&a, path, 1, 1);
        assert_int_equal(publish(h->ledger, &p, &why), 0);
        settle(h->ledger, p.intent, 1);
    }
    assert_events(h->ledger, 0, 150);
    assert_int_equal(
        ledger_outbox_list(h->ledger, 100, count_event, counts, &why), 0);
    assert_int_equal(counts[0], 50);
    assert_int_equal(ledger_outbox_done(h->ledger, 1, &why), 0);
    assert_int_equal(ledger_outbox_done(h->ledger, 1, &why), 0);
    assert_events(h->ledger, 0, 149);
}

/* ---- several at once ----------------------------------------------------------------- */
enum { THREADS = 8, ROUNDS = 40 };

struct racer {
    struct ledger *ledger;
    const struct ledger_account *account;
    const uint8_t *invite;
    int number, won;
    struct keel_event *start, *held;
};

static int race_publish(void *arg)
{
    struct racer *r = arg;
    struct problem why;
    char path[32];

    for (int i = 0; i < ROUNDS; i++) {
        struct ledger_publish p;

        snprintf(path, sizeof path, "%d", i % 5);
        p = item(r->account, path, (uint64_t)r->number + 1,
                 (uint64_t)(r->number * ROUNDS + i));
        if (publish(r->ledger, &p, &why) == 0) {
            r->won++;
            if (i % 3 == 0)
                assert_int_equal(ledger_undo(r->ledger, p.intent, &why), 0);
            else
                settle(r->ledger, p.intent, 1);
        } else {
            assert_int_equal(why.id, PROBLEM_FILE_BUSY);
        }
    }
    return 0;
}

static int race_invite(void *arg)
{
    struct racer *r = arg;
    struct ledger_registration reg = {
        .scram.salt_size = 1, .invite = r->invite, .now = 1};
    struct ledger_account a;
    struct problem why;
    char name[16];

    snprintf(name, sizeof name, "racer%d", r->number);
    reg.name = name;
    keel_event_wait(r->start, KEEL_FOREVER);
    if (ledger_register(r->ledger, &reg, &a, &why) == 0)
        r->won++;
    else
        assert_int_equal(why.id, PROBLEM_INVITE_INVALID);
    return 0;
}

static int race(struct racer *racers, int (*fn)(void *arg))
{
    struct keel_thread *threads[THREADS];
    struct keel_event start;
    int won = 0;

    keel_event_init(&start);
    for (int i = 0; i < THREADS; i++) {
        racers[i] = racers[0];
        racers[i].number = i;
        racers[i].start = &start;
    }
    for (int i = 0; i < THREADS; i++) {
        assert_int_equal(
            keel_thread_start("racer", fn, &racers[i], &threads[i]), 0);
    }
    keel_event_set(&start);
    for (int i = 0; i < THREADS; i++) {
        assert_int_equal(keel_thread_join(threads[i], KEEL_FOREVER, NULL), 0);
        won += racers[i].won;
    }
    keel_event_fini(&start);
    return won;
}

static void threads_race_for_names(void **state)
{
    struct house *h = *state;
    struct ledger_account a = account_new(h->ledger, "mara", 0, 0);
    struct racer racers[THREADS] = {{.ledger = h->ledger, .account = &a}};

    assert_true(race(racers, race_publish) >= ROUNDS);
    assert_sound(h->ledger);
    assert_true(space_of(h->ledger, a.home).used_files <= 5);
}

static void one_of_eight_gets_the_last_use(void **state)
{
    struct house *h = *state;
    struct ledger_invite i = {.uses = 1, .expires = 10};
    struct racer racers[THREADS] = {{.ledger = h->ledger, .invite = i.hash}};
    struct problem why;

    assert_int_equal(ledger_invite_add(h->ledger, &i, &why), 0);
    assert_int_equal(race(racers, race_invite), 1);
    assert_sound(h->ledger);
}

/* Keeps the owner busy until `start`, so that what comes meanwhile waits
 * together. */
static int hold_owner(struct ledger *l, void *arg, struct problem *why)
{
    struct racer *r = arg;

    (void)l;
    (void)why;
    keel_event_set(r->held);
    return keel_event_wait(r->start, KEEL_FOREVER);
}

static int hold(void *arg)
{
    struct racer *r = arg;

    return ledger_read(r->ledger, hold_owner, r, NULL);
}

static int race_draft(void *arg)
{
    struct racer *r = arg;
    struct ledger_draft d = draft(r->account, (char)r->number, "x", 10);
    struct problem why;

    if (ledger_draft_open(r->ledger, &d, &why) == 0)
        r->won++;
    else
        assert_int_equal(why.id, PROBLEM_QUOTA_BYTES);
    return 0;
}

static int waiting(struct ledger *l)
{
    keel_guard(&l->lock);
    struct request *r;
    int count = 0;

    STAILQ_FOREACH (r, &l->waiting, next)
        count++;
    return count;
}

static void those_waiting_together_share_one_commit(void **state)
{
    struct house *h = *state;
    struct ledger_account a = account_new(h->ledger, "mara", 55, 0);
    struct racer racers[THREADS], holder = {.ledger = h->ledger};
    struct keel_thread *threads[THREADS], *first;
    struct keel_event go, held;
    unsigned commits;
    int won = 0;

    keel_event_init(&go);
    keel_event_init(&held);
    holder.start = &go;
    holder.held = &held;
    assert_int_equal(keel_thread_start("holder", hold, &holder, &first), 0);
    assert_int_equal(keel_event_wait(&held, KEEL_FOREVER), 0);
    for (int i = 0; i < THREADS; i++) {
        racers[i] =
            (struct racer){.ledger = h->ledger, .account = &a, .number = i + 1};
        assert_int_equal(
            keel_thread_start("racer", race_draft, &racers[i], &threads[i]), 0);
    }
    while (waiting(h->ledger) < THREADS)
        keel_yield();
    commits = h->ledger->commits;
    keel_event_set(&go);
    assert_int_equal(keel_thread_join(first, KEEL_FOREVER, NULL), 0);
    for (int i = 0; i < THREADS; i++) {
        assert_int_equal(keel_thread_join(threads[i], KEEL_FOREVER, NULL), 0);
        won += racers[i].won;
    }
    keel_event_fini(&held);
    keel_event_fini(&go);
    /* Five of ten bytes fit; the three refusals cost the others nothing. */
    assert_int_equal(won, 5);
    assert_int_equal(h->ledger->commits, commits + 1);
    assert_int_equal(space_of(h->ledger, a.home).reserved_bytes, 50);
    assert_sound(h->ledger);
}

/* ---- the file ------------------------------------------------------------------------- */
static void sql(struct house *h, const char *text)
{
    char path[128];
    sqlite3 *db;

    snprintf(path, sizeof path, "%s/ledger.db", h->path);
    assert_int_equal(sqlite3_open(path, &db), SQLITE_OK);
    assert_int_equal(sqlite3_exec(db, text, NULL, NULL, NULL), SQLITE_OK);
    assert_int_equal(sqlite3_close(db), SQLITE_OK);
}

static void contents(struct house *h, const char *file, void **ret, size_t *n)
{
    struct stat st;
    int fd = openat(h->dir, file, O_RDONLY | O_CLOEXEC);

    *n = 0;
    *ret = NULL;
    if (fd < 0)
        return;
    assert_int_equal(fstat(fd, &st), 0);
    *n = (size_t)st.st_size;
    *ret = malloc(*n + 1);
    assert_int_equal(read(fd, *ret, *n), *n);
    close(fd);
}

static void assert_refused_unchanged(struct house *h, enum problem_id id)
{
    struct problem why = {0};
    struct ledger *l = NULL;
    void *before, *after;
    size_t n_before, n_after;

    contents(h, "ledger.db", &before, &n_before);
    assert_true(ledger_open(h->dir, &l, &why) < 0);
    assert_null(l);
    assert_int_equal(why.id, id);
    assert_true(why.detail[0] != '\0');
    contents(h, "ledger.db", &after, &n_after);
    assert_int_equal(n_before, n_after);
    assert_memory_equal(before, after, n_before);
    free(before);
    free(after);
}

static void a_newer_version_is_refused(void **state)
{
    struct house *h = *state;

    ledger_close(h->ledger);
    h->ledger = NULL;
    sql(h, "PRAGMA user_version = 1000000");
    assert_refused_unchanged(h, PROBLEM_DATA_FORMAT);
}

static void another_programs_database_is_refused(void **state)
{
    struct house *h = *state;

    ledger_close(h->ledger);
    h->ledger = NULL;
    sql(h, "PRAGMA application_id = 1");
    assert_refused_unchanged(h, PROBLEM_DATA_FORMAT);
    sql(h, "PRAGMA application_id = 0; PRAGMA user_version = 0");
    assert_refused_unchanged(h, PROBLEM_DATA_FORMAT);
}

static void overwrite(struct house *h, off_t at, size_t size)
{
    char junk[4096];
    int fd = openat(h->dir, "ledger.db", O_RDWR | O_CLOEXEC);

    memset(junk, 0x5a, sizeof junk);
    assert_true(fd >= 0);
    assert_int_equal(pwrite(fd, junk, size, at), size);
    close(fd);
}

static void a_damaged_file_is_refused_and_left_alone(void **state)
{
    struct house *h = *state;

    account_new(h->ledger, "mara", 0, 0);
    ledger_close(h->ledger);
    h->ledger = NULL;
    overwrite(h, 4096 * 5, 4096);
    assert_refused_unchanged(h, PROBLEM_DATA_DAMAGED);
    overwrite(h, 0, 64);
    assert_refused_unchanged(h, PROBLEM_DATA_DAMAGED);
}

static void the_check_finds_sums_that_do_not_add_up(void **state)
{
    struct house *h = *state;
    struct ledger_account a = account_new(h->ledger, "mara", 0, 0);
    struct ledger_publish p = item(&a, "x", 60, 1);
    struct problem why;

    assert_int_equal(publish(h->ledger, &p, &why), 0);
    ledger_close(h->ledger);
    h->ledger = NULL;
    sql(h, "UPDATE space SET used_bytes = 61");
    assert_int_equal(ledger_open(h->dir, &h->ledger, &why), 0);
    assert_refused(ledger_check(h->ledger, &why), DATA_DAMAGED);
    assert_non_null(strstr(why.detail, "61 bytes"));

    ledger_close(h->ledger);
    h->ledger = NULL;
    sql(h, "UPDATE space SET used_bytes = 60; DELETE FROM outbox");
    assert_int_equal(ledger_open(h->dir, &h->ledger, &why), 0);
    assert_refused(ledger_check(h->ledger, &why), DATA_DAMAGED);

    ledger_close(h->ledger);
    h->ledger = NULL;
    sql(h, "UPDATE file SET inode = 5");
    assert_int_equal(ledger_open(h->dir, &h->ledger, &why), 0);
    assert_refused(ledger_check(h->ledger, &why), DATA_DAMAGED);

    ledger_close(h->ledger);
    h->ledger = NULL;
    sql(h, "UPDATE space SET owner = 99");
    assert_int_equal(ledger_open(h->dir, &h->ledger, &why), 0);
    assert_refused(ledger_check(h->ledger, &why), DATA_DAMAGED);
}

/* A version 1 as it was left by the first release, with a bit of everything. */
static void version_1_is_migrated_with_what_is_in_it(void **state)
{
    static const char rows[] =
        "INSERT INTO account VALUES(1, 'mara', 0, 0, 1, 600000, x'00', "
        "zeroblob(32), zeroblob(32));"
        "INSERT INTO space VALUES(1, 'd', '', 1, 100, 0, 60, 1, 30);"
        "INSERT INTO draft VALUES(zeroblob(16), 1, 1, x'61', 30, 1, "
        "zeroblob(16), 1, 2);"
        "INSERT INTO file VALUES(1, x'61', 60, 1, 7, 5, 0, 1, zeroblob(32), 1, "
        "60);"
        "INSERT INTO outbox VALUES(1, 1, 1, 1, 'file.published', x'61');"
        "INSERT INTO audit VALUES(1, 1, 1, 1, x'61', 'file.published', 60);"
        "INSERT INTO intent(id, space, path, draft, named, device, inode, "
        "size, mtime_ns) VALUES(1, 1, x'61', zeroblob(16), 0, 1, 7, 60, 5)";
    struct house *h = *state;
    struct ledger_file f;
    struct problem why = {0};
    char path[128];
    sqlite3 *db;

    ledger_close(h->ledger);
    h->ledger = NULL;
    assert_int_equal(unlinkat(h->dir, "ledger.db", 0), 0);
    snprintf(path, sizeof path, "%s/ledger.db", h->path);
    assert_int_equal(sqlite3_open(path, &db), SQLITE_OK);
    assert_int_equal(ledger_schema_migrate(db, ledger_schema, 1, &why), 0);
    assert_int_equal(sqlite3_exec(db, rows, NULL, NULL, NULL), SQLITE_OK);
    assert_int_equal(sqlite3_close(db), SQLITE_OK);

    assert_int_equal(ledger_open(h->dir, &h->ledger, &why), 0);
    assert_sound(h->ledger);
    assert_int_equal(space_of(h->ledger, 1).reserved_bytes, 30);
    assert_int_equal(ledger_file_get(h->ledger, 1, "a", &f, &why), 0);
    assert_int_equal(f.inode, 7);
    assert_int_equal(ledger_draft_drop(h->ledger, (uint8_t[16]){0}, &why), 0);
    assert_int_equal(space_of(h->ledger, 1).reserved_bytes, 0);
    assert_int_equal(ledger_undo(h->ledger, 1, &why), 0);
    assert_int_equal(space_of(h->ledger, 1).used_bytes, 0);
    assert_sound(h->ledger);
}

/* The next version's step is a test's own: it takes the file of today, with
 * what is in it, and a step that fails leaves it as it was. */
static void an_older_version_is_migrated(void **state)
{
    struct house *h = *state;
    const unsigned today = ledger_schema_count;
    const char *steps[16];
    struct problem why = {0};
    char path[128];
    sqlite3 *db;
    sqlite3_stmt *q;

    assert_true(today + 2 <= sizeof steps / sizeof *steps);
    memcpy(steps, ledger_schema, today * sizeof *steps);
    steps[today] = "ALTER TABLE account ADD COLUMN mail TEXT;"
                   "UPDATE account SET mail = name || '@here'";
    steps[today + 1] = "CREATE TABLE later(x INTEGER) STRICT; "
                       "INSERT INTO nowhere VALUES(1)";
    account_new(h->ledger, "mara", 0, 0);
    ledger_close(h->ledger);
    h->ledger = NULL;
    snprintf(path, sizeof path, "%s/ledger.db", h->path);
    assert_int_equal(sqlite3_open(path, &db), SQLITE_OK);
    assert_int_equal(ledger_schema_migrate(db, steps, today, &why), 0);
    assert_int_equal(ledger_schema_migrate(db, steps, today + 1, &why), 0);
    assert_int_equal(ledger_schema_migrate(db, steps, today + 1, &why), 0);
    assert_int_equal(ledger_schema_migrate(db, steps, today + 2, &why), 1);
    assert_true(ledger_schema_migrate(db, steps, today, &why) < 0);
    assert_int_equal(why.id, PROBLEM_DATA_FORMAT);

    assert_int_equal(
        sqlite3_prepare_v2(db,
                           "SELECT mail, (SELECT count(*) FROM sqlite_schema "
                           "WHERE name = 'later'), (SELECT user_version FROM "
                           "pragma_user_version) FROM account",
                           -1, &q, NULL),
        SQLITE_OK);
    assert_int_equal(sqlite3_step(q), SQLITE_ROW);
    assert_string_equal(sqlite3_column_text(q, 0), "mara@here");
    assert_int_equal(sqlite3_column_int(q, 1), 0);
    assert_int_equal(sqlite3_column_int(q, 2), (int)today + 1);
    sqlite3_finalize(q);
    assert_int_equal(sqlite3_close(db), SQLITE_OK);
}

static void two_ledgers_on_one_file_are_refused(void **state)
{
    struct house *h = *state;
    struct ledger *l = NULL;
    struct problem why;

    assert_refused(ledger_open(h->dir, &l, &why), DATA_LOCKED);
    assert_null(l);
}

/* One transaction of more than 16 MiB of log: it is written back before the
 * next one, and the log begins anew. */
static void a_long_log_is_written_back(void **state)
{
    struct house *h = *state;
    struct ledger_account a = account_new(h->ledger, "mara", 0, 0);
    enum { COUNT = 4000 };
    static struct ledger_publish group[COUNT];
    static char paths[COUNT][PATH_BYTES + 1];
    struct problem why;

    for (int i = 0; i < COUNT; i++) {
        memset(paths[i], 'x', 3000);
        snprintf(paths[i], 16, "%d", i);
        paths[i][strlen(paths[i])] = '/';
        group[i] = item(&a, paths[i], 1, 1);
    }
    assert_int_equal(ledger_publish(h->ledger, group, COUNT, NULL, 0, &why), 0);
    assert_true(h->ledger->log_pages >= LEDGER_LOG_PAGES);
    assert_int_equal(ledger_file_remove(h->ledger, a.home, "no", &why),
                     -ENOENT);
    assert_int_equal(ledger_space_quota(h->ledger, a.home, 0, 0, &why), 0);
    assert_true(h->ledger->log_pages < 100);
    assert_sound(h->ledger);
}

#define T(f) cmocka_unit_test_setup_teardown(f, setup, teardown)

int main(void)
{
    const struct CMUnitTest tests[] = {
        T(an_account_is_kept_with_its_home),
        T(a_name_is_given_once),
        T(accounts_are_listed_by_name_in_pages),
        T(passwords_and_locks_change),
        T(an_invite_is_used_as_often_as_it_says),
        T(a_secret_is_made_once),
        T(devices_come_and_go),
        T(a_touch_rides_along_with_a_transaction),
        T(a_draft_reserves_and_gives_back),
        T(what_the_schema_forbids_is_refused),
        T(sizes_at_the_edge_of_64_bits_do_not_wrap),
        T(a_draft_is_found_by_what_it_was_made_of),
        T(drafts_past_their_time_are_listed),
        T(published_then_settled),
        T(undo_brings_the_replaced_file_back),
        T(undo_of_a_new_name_leaves_nothing),
        T(a_name_belongs_to_its_live_intent),
        T(conditions_are_looked_at_where_it_is_decided),
        T(a_group_goes_on_without_what_is_refused),
        T(a_draft_with_a_name_needs_no_row),
        T(a_refused_item_keeps_its_draft),
        T(a_found_file_is_in_nobodys_quota),
        T(paths_are_bytes),
        T(what_follows_is_done_once),
        T(threads_race_for_names),
        T(one_of_eight_gets_the_last_use),
        T(those_waiting_together_share_one_commit),
        T(a_newer_version_is_refused),
        T(another_programs_database_is_refused),
        T(a_damaged_file_is_refused_and_left_alone),
        T(the_check_finds_sums_that_do_not_add_up),
        T(version_1_is_migrated_with_what_is_in_it),
        T(an_older_version_is_migrated),
        T(two_ledgers_on_one_file_are_refused),
        T(a_long_log_is_written_back),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
