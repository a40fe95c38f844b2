/* SPDX-License-Identifier: MIT */
/* Uploads of those who may only drop: again, and what they learn. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <string.h>

#include <cmocka.h>

#include <keel/co.h>
#include <keel/file.h>
#include <keel/thread.h>

#include "base/log.h"
#include "vault_inside.h"
#include "world_test.h"

#define LARGE (CHUNK_BYTES + 1000)

/* @team of mara's, where joe and eve may drop into /in. */
static struct world w;
static struct actor mara, joe, eve;
static int64_t team;
static struct path in_f;
static char real_path[64];
static struct problem why;

static struct actor joined(const char *name)
{
    struct ledger_registration r = {.name = name, .now = 1};
    struct ledger_account a;
    struct actor who;

    r.scram.iterations = 600000;
    r.scram.salt_size = 16;
    assert_int_equal(ledger_register(w.ledger, &r, &a, &why), 0);
    who = (struct actor){.account = a.id, .home = a.home};
    strcpy(who.name, name);
    assert_int_equal(
        grant_set(w.accounts, "team", "/in", name, RIGHT_DROP, &why), 0);
    return who;
}

static int setup(void **state)
{
    struct path in;

    (void)state;
    if (world_open(&w, world_real_data(real_path), &why) < 0)
        return -1;
    mara = w.who;
    assert_int_equal(space_add(w.accounts, "team", "mara", 0, 0, &why), 0);
    assert_int_equal(account_space(w.accounts, &mara, "team", &team, &why), 0);
    assert_int_equal(world_path("/in", &in), 0);
    assert_int_equal(world_path("/in/f", &in_f), 0);
    assert_int_equal(vault_mkdir(w.vault, &mara, team, &in, 0700, false, &why),
                     0);
    joe = joined("joe");
    eve = joined("eve");
    return 0;
}

static int teardown(void **state)
{
    (void)state;
    assert_int_equal(world_findings(&w, team), 0);
    assert_int_equal(ledger_check(w.ledger, &why), 0);
    world_close(&w);
    return world_real_remove(real_path);
}

/* An upload's content follows from its tag and size; so does its source. */
struct up {
    const struct actor *who;
    unsigned tag;
    uint64_t size;
    bool no_replace;
};

static int up_open(const struct up *u, struct draft **ret)
{
    struct vault_put p = {
        .space = team,
        .path = &in_f,
        .size = u->size,
        .hash = CHUNK_XXH128,
        .mtime_ns = 1000000000,
        .mode = 0644,
        .no_replace = u->no_replace,
    };

    memcpy(p.source, &u->tag, sizeof u->tag);
    return vault_draft_open(w.vault, u->who, &p, ret, &why);
}

static void up_fill(const struct up *u, struct draft *d)
{
    keel_auto(buffer) struct buffer *b = NULL;

    assert_non_null(draft_part(d));
    assert_int_equal(buffer_take(vault_buffers(w.vault), KEEL_FOREVER, &b), 0);
    for (uint64_t i = 0; i < chunk_count(u->size); i++) {
        content_fill(u->tag, i * CHUNK_BYTES, b->bytes, chunk_size(u->size, i));
        assert_int_equal(part_write(draft_part(d), i, b, &why), 0);
    }
}

static int up_publish(const struct up *u, struct draft *d)
{
    struct digest root = content_root(u->tag, u->size, CHUNK_XXH128);
    int rc = draft_publish(d, &root, VAULT_COMMITTED, &why);

    if (rc < 0)
        draft_close(d);
    return rc;
}

/* The whole way; `sent`: its bytes were asked for. */
static int up(const struct up *u, bool *ret_sent)
{
    struct draft *d;
    int rc = up_open(u, &d);

    *ret_sent = false;
    if (rc < 0)
        return rc;
    *ret_sent = draft_part(d) != NULL;
    if (*ret_sent)
        up_fill(u, d);
    return up_publish(u, d);
}

static void is_refused(int rc)
{
    assert_true(rc < 0);
    assert_int_equal(why.id, PROBLEM_RIGHT_MISSING);
    assert_string_equal(why.detail, "replace");
}

static struct ledger_space sums(void)
{
    struct ledger_space s;

    committer_drain(w.vault->committer);
    assert_int_equal(ledger_space_get(w.ledger, team, &s, &why), 0);
    return s;
}

static const uint64_t sizes[] = {0, 3, LARGE};
#define EACH_SIZE(s) for (size_t i_ = 0; i_ < 3 && (s = sizes[i_], true); i_++)

static void clean(void)
{
    struct vault_removed r;

    assert_int_equal(vault_remove(w.vault, &mara, team, &in_f, false, &r, &why),
                     0);
}

/* ---- again ----------------------------------------------------------------------- */

static void what_one_dropped_is_dropped_again(void **state)
{
    uint64_t size;
    bool sent;

    (void)state;
    EACH_SIZE(size)
    {
        struct up u = {.who = &joe, .tag = 1, .size = size};
        struct ledger_space before;

        assert_int_equal(up(&u, &sent), 0);
        assert_true(sent);
        before = sums();
        for (int again = 0; again < 2; again++) {
            assert_int_equal(up(&u, &sent), 0);
            assert_false(sent);
        }
        assert_int_equal(sums().used_bytes, before.used_bytes);
        assert_int_equal(sums().used_files, before.used_files);
        assert_int_equal(sums().reserved_bytes, 0);
        clean();
    }
}

static void two_that_drop_the_same_at_once_both_have(void **state)
{
    uint64_t size;

    (void)state;
    EACH_SIZE(size)
    {
        struct up a = {.who = &joe, .tag = 1, .size = size}, b = a;
        struct draft *first, *second;

        /* Another source of the same content: drafts of their own. */
        assert_int_equal(up_open(&a, &first), 0);
        up_fill(&a, first);
        b.tag = size > CHUNK_BYTES ? 2 : 1;
        assert_int_equal(up_open(&b, &second), 0);
        b.tag = 1;
        up_fill(&b, second);
        assert_int_equal(up_publish(&a, first), 0);
        assert_int_equal(up_publish(&b, second), 0);
        assert_int_equal(sums().used_bytes, (int64_t)size);
        assert_int_equal(sums().reserved_bytes, 0);
        clean();
    }
}

static int open_again(void *arg)
{
    struct draft **ret = arg;
    struct up u = {.who = &joe, .tag = 1, .size = LARGE};

    return up_open(&u, ret);
}

static bool somebody_waits(void)
{
    keel_guard(&w.vault->lock);

    return w.vault->released.waiters.head != NULL;
}

/* As when a line breaks while the server publishes: what comes of it is waited
 * for, and not asked for a second time. */
static void who_comes_back_while_it_is_published_finds_it_there(void **state)
{
    struct up u = {.who = &joe, .tag = 1, .size = LARGE};
    struct digest root = content_root(1, LARGE, CHUNK_XXH128);
    struct keel_thread *t;
    struct draft *first, *second = NULL;
    int result;

    (void)state;
    assert_int_equal(up_open(&u, &first), 0);
    up_fill(&u, first);
    committer_hold(w.vault->committer, true);
    /* It goes on without its caller. */
    assert_int_equal(draft_publish(first, &root, VAULT_RECEIVED, &why), 0);
    assert_int_equal(keel_thread_start("again", open_again, &second, &t), 0);
    while (!somebody_waits())
        keel_yield();
    committer_hold(w.vault->committer, false);
    assert_int_equal(keel_thread_join(t, KEEL_FOREVER, &result), 0);
    assert_int_equal(result, 0);
    assert_null(draft_part(second));
    assert_int_equal(up_publish(&u, second), 0);
    assert_int_equal(sums().used_bytes, LARGE);
}

/* ---- not ------------------------------------------------------------------------------ */

/* Not the size, not the content: the first look already says no. */
static void of_anothers_file_nothing_is_told(void **state)
{
    uint64_t size;
    bool sent;

    (void)state;
    EACH_SIZE(size)
    {
        const struct up others[] = {
            {.who = &eve, .tag = 1, .size = size},
            {.who = &eve, .tag = 2, .size = size},
            {.who = &eve, .tag = 1, .size = size + 1},
        };
        struct up u = {.who = &joe, .tag = 1, .size = size};

        assert_int_equal(up(&u, &sent), 0);
        for (unsigned i = 0; i < 3; i++) {
            is_refused(up(&others[i], &sent));
            assert_false(sent);
        }
        clean();
        /* The owner's, too. */
        u.who = &mara;
        assert_int_equal(up(&u, &sent), 0);
        is_refused(up(&others[0], &sent));
        assert_false(sent);
        clean();
    }
}

/* Who sends while another publishes hears no more either. */
static void of_anothers_file_that_came_meanwhile_nothing_is_told(void **state)
{
    uint64_t size;

    (void)state;
    EACH_SIZE(size)
    {
        struct up a = {.who = &joe, .tag = 1, .size = size};
        struct up b = {.who = &eve, .tag = 1, .size = size};
        struct draft *first, *second;

        assert_int_equal(up_open(&a, &first), 0);
        up_fill(&a, first);
        assert_int_equal(up_open(&b, &second), 0);
        up_fill(&b, second);
        assert_int_equal(up_publish(&a, first), 0);
        is_refused(up_publish(&b, second));
        clean();
    }
    assert_int_equal(vault_expire(w.vault, &why), 0);
}

static void other_content_replaces_nothing(void **state)
{
    uint64_t size;
    bool sent;

    (void)state;
    EACH_SIZE(size)
    {
        struct up u = {.who = &joe, .tag = 1, .size = size};
        struct draft *d;

        assert_int_equal(up(&u, &sent), 0);
        u.tag = 2;
        if (size > 0)
            is_refused(up(&u, &sent));
        u.size++;
        is_refused(up(&u, &sent));
        /* A new name was asked for. */
        u = (struct up){&joe, 1, size, true};
        is_refused(up_open(&u, &d));
        clean();
    }
}

static void what_others_made_of_it_is_theirs(void **state)
{
    struct up u = {.who = &joe, .tag = 1, .size = LARGE};
    struct up owners = {.who = &mara, .tag = 1, .size = LARGE};
    struct path aside;
    bool sent;

    (void)state;
    assert_int_equal(world_path("/aside", &aside), 0);
    assert_int_equal(up(&u, &sent), 0);
    /* Moved away and back, and dated, it is what it was. */
    assert_int_equal(
        vault_move(w.vault, &mara, team, &in_f, &aside, false, &why), 0);
    assert_int_equal(
        vault_move(w.vault, &mara, team, &aside, &in_f, false, &why), 0);
    assert_int_equal(
        vault_set(w.vault, &mara, team, &in_f, 0600, 2000000000, &why), 0);
    assert_int_equal(up(&u, &sent), 0);
    assert_false(sent);
    /* Replaced by the same content, it is hers. */
    assert_int_equal(up(&owners, &sent), 0);
    is_refused(up(&u, &sent));
    assert_false(sent);
}

int main(void)
{
#define T(name) cmocka_unit_test_setup_teardown(name, setup, teardown)
    const struct CMUnitTest tests[] = {
        T(what_one_dropped_is_dropped_again),
        T(two_that_drop_the_same_at_once_both_have),
        T(who_comes_back_while_it_is_published_finds_it_there),
        T(of_anothers_file_nothing_is_told),
        T(of_anothers_file_that_came_meanwhile_nothing_is_told),
        T(other_content_replaces_nothing),
        T(what_others_made_of_it_is_theirs),
    };

    log_open(-1, LOG_ERROR);
    return cmocka_run_group_tests(tests, NULL, NULL);
}
