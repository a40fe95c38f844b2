/* SPDX-License-Identifier: MIT */
/* Changes of names, on a disk that forgets what was not synced.
 *
 * A scenario has a state before and one change.  The power is cut at the nth
 * changing operation of the disk while the change is made, for each n until all
 * of it ran; each moment is rebooted with several seeds, and once more while it
 * is recovered.  Then, from what people see:
 *
 *   - the names are those before or those after, and after when the change was
 *     acknowledged (directories made in one call may be there in part)
 *   - each file, directory and link has its row and each row its name; the quota
 *     is their sum
 *   - no change and no intent is left, and the trash is empty
 *
 * With the directories' syncs left out, of the change or of what recovery puts
 * right, the rules must be found broken, or this would prove nothing.  Then single faults: each operation and each allocation
 * fails once, and the same rules hold after a restart.
 *
 * A share of the faults and seeds is tried; with KEEL_TEST_LONG set all of
 * them. */
#include <errno.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include <keel/file.h>

#include "base/log.h"
#include "vault_inside.h"
#include "sim/disk.h"
#include "test/fault.h"
#include "world_test.h"

enum { STATE_BYTES = 4096, LIST_MOST = 32 };

struct scenario {
    const char *name;
    void (*before)(struct world *w);
    int (*change)(struct world *w);
    bool in_part; /* what it makes may be there in part */
};

static bool tier_long;

/* ---- what people see ----------------------------------------------------------------- */

static void see(struct world *w, const struct path *dir, char *ret, size_t *at)
{
    struct vault_entry *e = calloc(LIST_MOST, sizeof *e);
    int count = vault_list(w->vault, &w->who, 0, dir, "", e, LIST_MOST, NULL);

    assert_true(count >= 0 && count < LIST_MOST);
    for (int i = 0; i < count; i++) {
        struct path p = *dir;

        assert_int_equal(path_append(&p, e[i].name, NULL), 0);
        *at += (size_t)snprintf(
            ret + *at, STATE_BYTES - *at, "%s %c %llu %s\n", p.text, e[i].type,
            e[i].type == 'f' ? (unsigned long long)e[i].size : 0,
            e[i].target ? e[i].target : "");
        assert_true(*at < STATE_BYTES);
        if (e[i].type == 'd')
            see(w, &p, ret, at);
        vault_entry_fini(&e[i]);
    }
    free(e);
}

static void state_of(struct world *w, char ret[STATE_BYTES])
{
    struct path root;
    size_t at = 0;

    assert_int_equal(world_path("", &root), 0);
    ret[0] = '\0';
    see(w, &root, ret, &at);
}

/* Every line of `a` is one of `b`. */
static bool lines_within(const char *a, const char *b)
{
    while (*a) {
        size_t size = strcspn(a, "\n") + 1;
        const char *at = b;

        while (*at && strncmp(at, a, size) != 0)
            at += strcspn(at, "\n") + 1;
        if (!*at)
            return false;
        a += size;
    }
    return true;
}

static unsigned count_names(const char *state)
{
    unsigned count = 0;

    for (const char *at = state; *at; at += strcspn(at, "\n") + 1)
        count++;
    return count;
}

/* ---- the rules --------------------------------------------------------------------------- */

struct verdict {
    bool broken;
    char text[400];
};

static void broken(struct verdict *v, const char *what, const char *detail)
{
    if (v->broken)
        return;
    v->broken = true;
    (void)snprintf(v->text, sizeof v->text, "%s: %.300s", what, detail);
}

static int one_change(const struct ledger_change *c, void *arg)
{
    broken(arg, "a change is left", c->path);
    return 0;
}

static int one_intent(const struct ledger_intent *i, void *arg)
{
    broken(arg, "an intent is left", i->path);
    return 0;
}

static int one_name(const char *name, unsigned char type, void *arg)
{
    (void)type;
    broken(arg, "left in the trash", name);
    return 0;
}

static int one_finding(const struct vault_finding *f, void *arg)
{
    if (!f->outside || f->outside->names)
        broken(arg, f->what, f->path);
    return 0;
}

static void check_rules(struct world *w, struct verdict *v, const char *state)
{
    struct ledger_space s;
    struct problem why;

    assert_int_equal(ledger_change_list(w->ledger, one_change, v, NULL), 0);
    assert_int_equal(ledger_intent_list(w->ledger, one_intent, v, NULL), 0);
    assert_int_equal(keel_file_list(store_trash(w->vault->store), one_name, v),
                     0);
    assert_int_equal(
        vault_check(w->vault, w->who.home, false, one_finding, v, NULL), 0);
    if (ledger_check(w->ledger, &why) < 0)
        broken(v, "the ledger is damaged", why.detail);
    assert_int_equal(ledger_space_get(w->ledger, w->who.home, &s, NULL), 0);
    if (s.used_files != count_names(state))
        broken(v, "another number of rows than of names", state);
}

/* ---- the sweep ------------------------------------------------------------------------------ */

struct sweep {
    struct scenario *scenario;
    char before[STATE_BYTES], after[STATE_BYTES];
    unsigned moments, runs;
    bool recovery_lies; /* its syncs of directories do nothing */
    struct verdict first;
};

static void world_must_open(struct world *w)
{
    struct problem why;
    char words[400];

    if (world_open(w, world_test_data(), &why) < 0) {
        problem_sentence(&why, words, sizeof words);
        fail_msg("open: %s", words);
    }
}

static void judge_state(struct sweep *s, struct verdict *v, const char *state,
                        bool acked)
{
    if (!strcmp(state, s->after))
        return;
    if (acked)
        broken(v, "acknowledged and not there", state);
    if (!strcmp(state, s->before))
        return;
    if (!s->scenario->in_part || !lines_within(state, s->after) ||
        !lines_within(s->before, state))
        broken(v, "neither before nor after", state);
}

/* After a crash; with `again` the opening is itself cut at that operation. */
static void judge(struct sweep *s, unsigned n, uint64_t seed, unsigned again,
                  bool acked)
{
    struct verdict v = {0};
    char state[STATE_BYTES];
    struct problem why;
    struct world w;

    test_disk_reboot(seed);
    if (again) {
        test_disk_crash_at(again);
        if (s->recovery_lies)
            test_disk_lie("fsync", "");
        if (world_open(&w, world_test_data(), NULL) == 0)
            world_close(&w);
        test_disk_lie(NULL, NULL);
        test_disk_reboot(seed == TEST_DISK_KEEP_ALL ? TEST_DISK_KEEP_NONE
                                                    : seed + 1);
    }
    s->runs++;
    if (world_open(&w, world_test_data(), &why) < 0) {
        broken(&v, "the vault does not open", problem_code(&why));
    } else {
        state_of(&w, state);
        judge_state(s, &v, state, acked);
        check_rules(&w, &v, state);
        world_close(&w);
    }
    if (v.broken && !s->first.broken) {
        s->first.broken = true;
        (void)snprintf(s->first.text, sizeof s->first.text,
                       "%.40s: cut at %u, seed %llu, again %u: %.280s",
                       s->scenario->name, n, (unsigned long long)seed, again,
                       v.text);
    }
}

/* The states before and after, and an image of the first. */
static struct test_disk_image *sweep_base(struct sweep *s)
{
    struct test_disk_image *base;
    struct world w;

    world_must_open(&w);
    s->scenario->before(&w);
    state_of(&w, s->before);
    world_close(&w);
    base = test_disk_save();
    world_must_open(&w);
    assert_int_equal(s->scenario->change(&w), 0);
    state_of(&w, s->after);
    world_close(&w);
    return base;
}

static unsigned opening_ops(const struct test_disk_image *base)
{
    unsigned before, after;
    struct world w;

    test_disk_load(base);
    before = test_disk_ops();
    world_must_open(&w);
    after = test_disk_ops();
    world_close(&w);
    return after - before;
}

/* True when it met its cut. */
static bool run_to(struct sweep *s, unsigned n, const char *lie,
                   bool *ret_acked)
{
    struct world w;
    bool cut;

    *ret_acked = false;
    test_disk_crash_at(n);
    if (world_open(&w, world_test_data(), NULL) == 0) {
        if (lie)
            test_disk_lie(lie, "");
        *ret_acked = s->scenario->change(&w) == 0;
        world_close(&w);
    }
    cut = test_disk_crashed();
    test_disk_crash_at(0);
    test_disk_lie(NULL, NULL);
    return cut;
}

static uint64_t seed_of(unsigned n, unsigned k)
{
    if (k < 2)
        return k ? TEST_DISK_KEEP_NONE : TEST_DISK_KEEP_ALL;
    return (uint64_t)n * 1000 + k;
}

static void moment(struct sweep *s, unsigned n, bool acked)
{
    struct test_disk_image *cut = test_disk_save();
    unsigned seeds = tier_long || s->recovery_lies ? 40 : 4;

    for (unsigned k = 0; k < seeds; k++) {
        test_disk_load(cut);
        if (!s->recovery_lies)
            judge(s, n, seed_of(n, k), 0, acked);
        if (k != (n & 1 ? 0 : 2) && !tier_long && !s->recovery_lies)
            continue;
        test_disk_load(cut);
        judge(s, n, seed_of(n, k), 1 + (n * 7 + k * 3) % 30, acked);
        /* and once more when it is through */
        test_disk_load(cut);
        judge(s, n, seed_of(n, k), 1000, acked);
    }
    test_disk_image_free(cut);
}

static void sweep_run(struct sweep *s, const char *lie)
{
    struct test_disk_image *base;
    bool met = true, acked;

    test_disk_install((uint64_t)64 << 20);
    base = sweep_base(s);
    for (unsigned n = opening_ops(base) + 1; met; n++) {
        test_disk_load(base);
        met = run_to(s, n, lie, &acked);
        s->moments++;
        moment(s, n, acked);
        if ((lie || s->recovery_lies) && s->first.broken)
            break;
    }
    test_disk_image_free(base);
    test_disk_remove();
}

static void holds(struct scenario *scenario)
{
    struct sweep s = {.scenario = scenario};

    sweep_run(&s, NULL);
    print_message("%s: %u moments, %u reboots\n", scenario->name, s.moments,
                  s.runs);
    if (s.first.broken)
        print_error("%s\n", s.first.text);
    assert_false(s.first.broken);
}

static void is_found(struct scenario *scenario, bool recovery_lies)
{
    struct sweep s = {.scenario = scenario, .recovery_lies = recovery_lies};

    sweep_run(&s, recovery_lies ? NULL : "fsync");
    print_message("%s without %s: %s\n", scenario->name,
                  recovery_lies ? "recovery's" : "syncs",
                  s.first.broken ? s.first.text : "NOT FOUND");
    assert_true(s.first.broken);
}

/* ---- single faults ------------------------------------------------------------------------------- */

static void survives(struct scenario *scenario, enum keel_op op, int error)
{
    struct sweep s = {.scenario = scenario};
    struct test_disk_image *base;
    bool fired = true;
    unsigned nth;

    test_disk_install((uint64_t)64 << 20);
    base = sweep_base(&s);
    for (nth = 1; fired; nth++) {
        bool acked = false;
        struct world w;

        test_disk_load(base);
        world_must_open(&w);
        if (op == KEEL_OP_ALLOC)
            fault_fail_alloc(nth);
        else
            fault_fail(op, nth, error);
        acked = scenario->change(&w) == 0;
        fired = fault_fired();
        fault_clear();
        world_close(&w);
        judge(&s, nth, TEST_DISK_KEEP_ALL, 0, acked);
        if (s.first.broken)
            print_error("%s failing: %s\n", keel_op_name(op), s.first.text);
        assert_false(s.first.broken);
    }
    test_disk_image_free(base);
    test_disk_remove();
}

/* ---- scenarios ---------------------------------------------------------------------------------------- */

static void put(struct world *w, const char *text, unsigned tag, uint64_t size)
{
    struct world_put p = {
        .path = text, .tag = tag, .size = size, .level = VAULT_COMMITTED};

    assert_int_equal(world_put(w, &p, NULL), 0);
}

static int make(struct world *w, const char *text, bool parents)
{
    struct path p;

    assert_int_equal(world_path(text, &p), 0);
    return vault_mkdir(w->vault, &w->who, 0, &p, 0700, parents, NULL);
}

static int link_to(struct world *w, const char *text, const char *target)
{
    struct path p;

    assert_int_equal(world_path(text, &p), 0);
    return vault_link(w->vault, &w->who, 0, &p, target, KEEL_SECOND, false,
                      NULL);
}

static int move(struct world *w, const char *from, const char *to)
{
    struct path a, b;

    assert_int_equal(world_path(from, &a), 0);
    assert_int_equal(world_path(to, &b), 0);
    return vault_move(w->vault, &w->who, 0, &a, &b, false, NULL);
}

static int rm(struct world *w, const char *text)
{
    struct vault_removed removed;
    struct path p;

    assert_int_equal(world_path(text, &p), 0);
    return vault_remove(w->vault, &w->who, 0, &p, true, &removed, NULL);
}

static void before_all(struct world *w)
{
    put(w, "f", 1, 1000);
    put(w, "g", 2, 2000);
    assert_int_equal(make(w, "d/e", true), 0);
    put(w, "d/f", 3, 300);
    put(w, "d/e/f", 4, 40);
    assert_int_equal(make(w, "x", false), 0);
    assert_int_equal(link_to(w, "l", "f"), 0);
}

static int change_move_file(struct world *w)
{
    return move(w, "f", "x/f");
}
static int change_move_over(struct world *w)
{
    return move(w, "f", "g");
}
static int change_move_tree(struct world *w)
{
    return move(w, "d", "x/d");
}
static int change_remove_file(struct world *w)
{
    return rm(w, "f");
}
static int change_remove_tree(struct world *w)
{
    return rm(w, "d");
}
static int change_make(struct world *w)
{
    return make(w, "x/new", false);
}
static int change_make_many(struct world *w)
{
    return make(w, "x/1/2/3", true);
}
static int change_link(struct world *w)
{
    return link_to(w, "x/l", "f");
}
static int change_link_over_file(struct world *w)
{
    return link_to(w, "f", "g");
}
static int change_link_over_link(struct world *w)
{
    return link_to(w, "l", "g");
}
static int change_set(struct world *w)
{
    struct path p;

    assert_int_equal(world_path("f", &p), 0);
    return vault_set(w->vault, &w->who, 0, &p, 0600, 7 * KEEL_SECOND, NULL);
}

static struct scenario scenarios[] = {
    {"a moved file", before_all, change_move_file, false},
    {"a file moved over another", before_all, change_move_over, false},
    {"a moved tree", before_all, change_move_tree, false},
    {"a removed file", before_all, change_remove_file, false},
    {"a removed tree", before_all, change_remove_tree, false},
    {"a directory", before_all, change_make, false},
    {"directories", before_all, change_make_many, true},
    {"a link", before_all, change_link, false},
    {"a link in place of a file", before_all, change_link_over_file, false},
    {"a link in place of a link", before_all, change_link_over_link, false},
    {"times and mode", before_all, change_set, false},
};
enum { SCENARIOS = sizeof scenarios / sizeof *scenarios, SET = SCENARIOS - 1 };

static void each_change_is_whole_or_absent_after_any_crash(void **state)
{
    (void)state;
    for (unsigned i = 0; i < SCENARIOS; i++)
        holds(&scenarios[i]);
}

static void leaving_out_the_syncs_of_directories_is_found(void **state)
{
    (void)state;
    for (unsigned i = 0; i < SET; i++)
        is_found(&scenarios[i], false);
}

static void leaving_out_recoverys_sync_of_a_move_is_found(void **state)
{
    (void)state;
    is_found(&scenarios[0], true);
}

/* The time of x/l; 0: there is none. */
static int64_t time_of_link(struct world *w)
{
    struct vault_entry e;
    struct path p;
    int64_t t;

    assert_int_equal(world_path("x/l", &p), 0);
    if (vault_stat(w->vault, &w->who, 0, &p, &e, NULL) < 0)
        return 0;
    t = e.mtime_ns;
    vault_entry_fini(&e);
    return t;
}

static void a_kill_leaves_a_link_with_its_time_or_none(void **state)
{
    struct scenario link = {"a link", before_all, change_link, false};
    struct sweep s = {.scenario = &link};
    struct test_disk_image *base;
    bool met = true, acked, made = false;

    (void)state;
    test_disk_install((uint64_t)64 << 20);
    base = sweep_base(&s);
    for (unsigned n = opening_ops(base) + 1; met; n++) {
        struct world w;
        int64_t t;

        test_disk_load(base);
        met = run_to(&s, n, NULL, &acked);
        test_disk_reboot(TEST_DISK_KEEP_ALL);
        world_must_open(&w);
        t = time_of_link(&w);
        world_close(&w);
        assert_true(t == KEEL_SECOND || (t == 0 && !acked));
        made = made || t != 0;
    }
    assert_true(made);
    test_disk_image_free(base);
    test_disk_remove();
}

static const enum keel_op ops[] = {
    KEEL_OP_OPEN, KEEL_OP_READ,   KEEL_OP_WRITE, KEEL_OP_SYNC,
    KEEL_OP_STAT, KEEL_OP_RENAME, KEEL_OP_LINK,  KEEL_OP_UNLINK,
    KEEL_OP_LIST, KEEL_OP_MKDIR,  KEEL_OP_MODE,
};

static void any_operation_may_fail_once(void **state)
{
    (void)state;
    for (unsigned i = 0; i < SCENARIOS; i++)
        for (size_t k = 0; k < sizeof ops / sizeof *ops; k++)
            if (tier_long || i == SET || (i + k) % 3 == 0)
                survives(&scenarios[i], ops[k], EIO);
}

static void any_allocation_may_fail_once(void **state)
{
    (void)state;
    for (unsigned i = 0; i < SCENARIOS; i += tier_long ? 1 : 3)
        survives(&scenarios[i], KEEL_OP_ALLOC, ENOMEM);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(each_change_is_whole_or_absent_after_any_crash),
        cmocka_unit_test(a_kill_leaves_a_link_with_its_time_or_none),
        cmocka_unit_test(leaving_out_the_syncs_of_directories_is_found),
        cmocka_unit_test(leaving_out_recoverys_sync_of_a_move_is_found),
        cmocka_unit_test(any_operation_may_fail_once),
        cmocka_unit_test(any_allocation_may_fail_once),
    };

    tier_long = getenv("KEEL_TEST_LONG") != NULL;
    log_open(-1, LOG_ERROR); /* the faults are ordered */
    return cmocka_run_group_tests(tests, NULL, NULL);
}
