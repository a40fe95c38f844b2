/* SPDX-License-Identifier: MIT */
/* A life of a ledger, cut off at every operation of its disk.
 *
 * The life is STEPS calls, one transaction each, with a restart in the middle.
 * A first run without faults notes what can be seen after each step.  After a
 * crash in step k the ledger must show exactly what it showed after step k - 1
 * or after step k: what was acknowledged is there, what was not is there whole
 * or not at all. */
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
#include <keel/lock.h>
#include <keel/thread.h>

#include "ledger/ledger_inside.h"
#include "test/clock.h"
#include "sim/disk.h"
#include "test/fault.h"

enum { DISK_BYTES = 16 << 20, VIEW_BYTES = 8192, PATHS = 5 };

static bool is_long;

static int root_open(void)
{
    int (*hook)(enum keel_op, size_t *) = keel_seam.fault;
    int fd;

    /* An order for faults is for the ledger. */
    keel_seam.fault = NULL;
    fd = keel_file_open_any("/disk", O_RDONLY | O_DIRECTORY, 0);
    keel_seam.fault = hook;
    assert_true(fd >= 0);
    return fd;
}

/* ---- what can be seen ------------------------------------------------------------ */
struct view {
    char text[VIEW_BYTES];
    size_t size;
};

static void see(struct view *v, const char *format, ...)
    __attribute__((format(printf, 2, 3)));
static void see(struct view *v, const char *format, ...)
{
    va_list values;
    int n;

    va_start(values, format);
    n = vsnprintf(v->text + v->size, VIEW_BYTES - v->size, format, values);
    va_end(values);
    assert_true(n >= 0 && v->size + (size_t)n < VIEW_BYTES);
    v->size += (size_t)n;
}

static int see_draft(const struct ledger_draft *d, void *arg)
{
    see(arg, "draft %d %s %llu %lld\n", d->id[0], d->path,
        (unsigned long long)d->size, (long long)d->expires);
    return 0;
}

static int see_intent(const struct ledger_intent *i, void *arg)
{
    see(arg, "intent %lld %s %llu\n", (long long)i->intent, i->path,
        (unsigned long long)i->inode);
    return 0;
}

static int see_event(const struct ledger_event *e, void *arg)
{
    see(arg, "event %lld %s %d\n", (long long)e->id, e->path, e->held);
    return 0;
}

static int see_change(const struct ledger_change *c, void *arg)
{
    see(arg, "change %lld %s %s\n", (long long)c->id, c->path,
        c->to ? c->to : "away");
    return 0;
}

static int see_grant(const struct ledger_grant *g, void *arg)
{
    see(arg, "grant %lld %s %lld %u\n", (long long)g->space, g->path,
        (long long)g->account, g->rights);
    return 0;
}

static void see_people(struct ledger *l, struct view *v)
{
    struct ledger_account a[8];
    struct ledger_space s[8];
    struct ledger_device d[8];
    struct ledger_invite invites[8];
    int n;

    n = ledger_account_list(l, "", a, 8, NULL);
    assert_true(n >= 0);
    for (int k = 0; k < n; k++) {
        int devices = ledger_device_list(l, a[k].id, d, 8, NULL);

        assert_true(devices >= 0);
        see(v, "account %s %d %d %u, %d devices\n", a[k].name, a[k].admin,
            a[k].disabled, a[k].scram.iterations, devices);
    }
    n = ledger_invite_list(l, NULL, 0, invites, 8, NULL);
    assert_true(n >= 0);
    for (int k = 0; k < n; k++)
        see(v, "invite %lld\n", (long long)invites[k].uses);
    n = ledger_space_list(l, 0, s, 8, NULL);
    assert_true(n >= 0);
    for (int i = 0; i < n; i++)
        see(v, "space %lld: %lld of %lld in %lld, %lld reserved\n",
            (long long)s[i].id, (long long)s[i].used_bytes,
            (long long)s[i].quota_bytes, (long long)s[i].used_files,
            (long long)s[i].reserved_bytes);
}

static void see_all(struct ledger *l, struct view *v)
{
    static const char *const paths[] = {"a",   "b",   "c", "d",   "e",
                                        "x/1", "x/2", "y", "z/1", "z/2"};
    struct problem why = {0};

    v->size = 0;
    v->text[0] = '\0';
    see_people(l, v);
    for (size_t i = 0; i < sizeof paths / sizeof *paths; i++) {
        struct ledger_file f;

        if (ledger_file_get(l, 1, paths[i], &f, NULL) == 0)
            see(v, "file %s %llu %llu %lld\n", paths[i],
                (unsigned long long)f.size, (unsigned long long)f.inode,
                (long long)f.ctime_ns);
    }
    assert_int_equal(ledger_draft_list(l, INT64_MAX, see_draft, v, NULL), 0);
    assert_int_equal(ledger_intent_list(l, see_intent, v, NULL), 0);
    assert_int_equal(ledger_outbox_list(l, 0, see_event, v, NULL), 0);
    assert_int_equal(ledger_change_list(l, see_change, v, NULL), 0);
    assert_int_equal(ledger_grant_list(l, 0, -1, see_grant, v, NULL), 0);
    if (ledger_check(l, &why) < 0)
        fail_msg("not sound: %s", why.detail);
}

/* ---- a life -------------------------------------------------------------------------- */
static int registers(struct ledger *l, const char *name, bool invited,
                     struct problem *why)
{
    static const uint8_t hash[32] = {1};
    struct ledger_registration r = {.name = name,
                                    .invite = invited ? hash : NULL,
                                    .scram = {.iterations = 5, .salt_size = 1},
                                    .quota_bytes = 1000,
                                    .now = 1};
    struct ledger_account a;

    return ledger_register(l, &r, &a, why);
}

static int drafts(struct ledger *l, uint8_t id, const char *path, uint64_t size,
                  struct problem *why)
{
    struct ledger_draft d = {.id = {id},
                             .space = 1,
                             .account = 1,
                             .path = path,
                             .size = size,
                             .hash = CHUNK_SHA256,
                             .expires = id};

    return ledger_draft_open(l, &d, why);
}

/* Publishes `count` names from `path` on; `draft` is the first one's. */
static int publishes(struct ledger *l, const char *const *path, unsigned count,
                     uint64_t inode, uint8_t draft, int64_t settled,
                     struct problem *why)
{
    struct ledger_settle s = {.intent = settled, .ctime_ns = 77};
    struct ledger_publish p[PATHS];
    int rc;

    for (unsigned i = 0; i < count; i++)
        p[i] = (struct ledger_publish){.space = 1,
                                       .account = 1,
                                       .path = path[i],
                                       .file = {.size = 10 + inode,
                                                .inode = inode + i,
                                                .hash = CHUNK_SHA256},
                                       .replace = true};
    p[0].draft[0] = draft;
    rc = ledger_publish(l, p, count, &s, settled ? 1 : 0, why);
    for (unsigned i = 0; rc == 0 && i < count; i++)
        assert_int_equal(p[i].result, 0);
    return rc;
}

static int settles(struct ledger *l, int64_t from, int64_t to,
                   struct problem *why)
{
    struct ledger_settle s[PATHS];
    unsigned count = 0;

    for (int64_t i = from; i <= to; i++)
        s[count++] = (struct ledger_settle){.intent = i, .ctime_ns = 100 + i};
    return ledger_settle(l, s, count, why);
}

static int begins(struct ledger *l, const char *path, const char *to,
                  struct problem *why)
{
    struct ledger_change c = {.kind = to ? LEDGER_MOVE : LEDGER_REMOVE,
                              .space = 1,
                              .account = 1,
                              .path = path,
                              .to = to};

    return ledger_change_begin(l, &c, why);
}

enum { RESTART = 11, STEPS = 32 };

static int step(struct ledger *l, int k, struct problem *why)
{
    static const char *const abc[] = {"a", "b", "c"}, *const de[] = {"d", "e"};
    static const char *const xy[] = {"x/1", "x/2", "y"};
    struct ledger_space team = {.name = "team", .owner = 2};
    struct ledger_grant grant = {
        .space = 3, .account = 1, .path = "in", .rights = 5};
    struct ledger_invite invite = {.hash = {1}, .uses = 2, .expires = 9};
    struct ledger_device device = {.account = 1, .name = "x"};
    struct ledger_scram scram = {.iterations = 7, .salt_size = 2};
    struct ledger_file found = {
        .size = 3, .inode = 99, .ctime_ns = 4, .hash = CHUNK_XXH128};
    uint8_t id[16] = {2};

    switch (k) {
    case 0:
        return registers(l, "anna", false, why);
    case 1:
        return ledger_invite_add(l, &invite, why);
    case 2:
        return registers(l, "bert", true, why);
    case 3:
        return drafts(l, 1, "a", 110, why);
    case 4:
        return drafts(l, 2, "b", 300, why);
    case 5:
        return publishes(l, abc, 3, 100, 1, 0, why);
    case 6:
        return ledger_device_add(l, &device, why);
    case 7:
        return settles(l, 1, 2, why);
    case 8:
        return publishes(l, abc, 1, 200, 0, 3, why);
    case 9:
        return ledger_undo(l, 4, why);
    case 10:
        return ledger_draft_drop(l, id, why);
    case RESTART:
        return ledger_account_scram(l, 2, &scram, why);
    case 12:
        return ledger_file_digest(l, 1, "e", &found, why);
    case 13:
        return publishes(l, de, 2, 300, 0, 0, why);
    case 14:
        return ledger_undo(l, 6, why);
    case 15:
        return settles(l, 5, 5, why);
    case 16:
        return ledger_outbox_done(l, 1, why);
    case 17:
        return ledger_file_remove(l, 1, "b", why);
    case 18:
        return ledger_account_disable(l, 2, true, why);
    case 19:
        return ledger_space_quota(l, 1, 500, 9, why);
    case 20:
        return ledger_space_add(l, &team, why);
    case 21:
        return ledger_grant_set(l, &grant, why);
    case 22:
        return ledger_space_quota(l, 1, 0, 0, why);
    case 23:
        return publishes(l, xy, 3, 400, 0, 0, why);
    case 24:
        return settles(l, 7, 9, why);
    case 25:
        return begins(l, "x", "z", why);
    case 26:
        return begins(l, "y", NULL, why);
    case 27:
        return ledger_change_end(l, 2, false, why);
    case 28:
        return ledger_change_end(l, 1, true, why);
    case 29:
        return begins(l, "z", "y", why);
    case 30:
        return ledger_change_end(l, 3, true, why);
    case 31:
        return ledger_account_delete(l, 2, why);
    }
    keel_assert(k < STEPS);
    return 0;
}

/* Opens and goes through the steps from `from`; how many were acknowledged in
 * all.  `views` (or NULL) gets what is seen after each. */
static int live(int from, struct view *views, struct problem *why)
{
    int dir = root_open(), k = from;
    struct ledger *l = NULL;

    if (ledger_open(dir, &l, why) < 0)
        goto out;
    for (; k < STEPS; k++) {
        if (k == RESTART && from != RESTART) {
            ledger_close(l);
            l = NULL;
            if (ledger_open(dir, &l, why) < 0)
                break;
        }
        if (step(l, k, why) < 0)
            break;
        if (views)
            see_all(l, &views[k + 1]);
    }
out:
    ledger_close(l);
    keel_file_close(dir);
    return k;
}

/* What it should be after each number of steps; [0] is an empty ledger. */
static struct view expected[STEPS + 1];

static void live_once(void)
{
    struct problem why = {0};
    struct ledger *l = NULL;
    int dir;

    test_disk_install(DISK_BYTES);
    dir = root_open();
    assert_int_equal(ledger_open(dir, &l, &why), 0);
    see_all(l, &expected[0]);
    ledger_close(l);
    keel_file_close(dir);
    assert_int_equal(live(0, expected, &why), STEPS);
    for (int k = 1; k <= STEPS; k++)
        assert_string_not_equal(expected[k - 1].text, expected[k].text);
}

/* The state after `done` acknowledged steps, or after the one in flight.
 * False: neither, or it does not open. */
static bool as_expected(int done, int *ret_state)
{
    static struct view now;
    struct problem why = {0};
    struct ledger *l = NULL;
    int dir = root_open();
    bool good = false;

    if (ledger_open(dir, &l, &why) == 0) {
        see_all(l, &now);
        for (int k = done; k <= done + 1 && k <= STEPS && !good; k++) {
            good = strcmp(now.text, expected[k].text) == 0;
            *ret_state = k;
        }
    }
    ledger_close(l);
    keel_file_close(dir);
    return good;
}

/* Crashes at operation `nth`, looks at it with some seeds, and lives on from
 * what was found to the end.  False: the life ended before. */
static bool crash_at(unsigned nth, unsigned seeds, const char *lie,
                     unsigned *ret_bad)
{
    struct test_disk_image *image;
    struct problem why = {0};
    bool crashed;
    int done;

    test_disk_install(DISK_BYTES);
    test_disk_lie(lie, "ledger.db-wal");
    test_disk_crash_at(nth);
    done = live(0, NULL, &why);
    crashed = test_disk_crashed();
    test_disk_lie(NULL, NULL);
    image = test_disk_save();
    for (unsigned seed = 0; seed < seeds; seed++) {
        int state = 0;

        test_disk_load(image);
        test_disk_reboot(seed == 0   ? TEST_DISK_KEEP_NONE
                         : seed == 1 ? TEST_DISK_KEEP_ALL
                                     : nth * 1000 + seed);
        if (!as_expected(done, &state)) {
            ++*ret_bad;
            continue;
        }
        if (seed == 0 && nth % 8 == 0)
            assert_int_equal(live(state, NULL, &why), STEPS);
    }
    test_disk_image_free(image);
    return crashed;
}

static void what_was_acknowledged_survives_a_crash_anywhere(void **state)
{
    unsigned nth = 1, bad = 0;

    (void)state;
    while (crash_at(nth, is_long ? 20 : 3, NULL, &bad))
        nth += is_long ? 1 : 3;
    assert_int_equal(bad, 0);
    assert_true(nth > 100);
}

/* The sweep above would notice: a log whose sync is left out loses what was
 * acknowledged. */
static void a_log_that_is_not_synced_is_noticed(void **state)
{
    unsigned bad = 0;

    (void)state;
    for (unsigned nth = 40; nth < 200 && bad == 0; nth += 20)
        crash_at(nth, 1, "fdatasync", &bad);
    assert_true(bad > 0);
}

/* ---- changes of many rows --------------------------------------------------------- */
enum { MANY = LEDGER_CHANGE_ROWS + 100, SMALL_DISK = 16 << 20 };

/* MANY rows below "from" and as many below "to", on the disk. */
static struct test_disk_image *many_rows(void)
{
    struct ledger_publish *p = calloc(2 * MANY, sizeof *p);
    struct ledger_settle *s = calloc(2 * MANY, sizeof *s);
    char(*paths)[16] = calloc(2 * MANY, sizeof *paths);
    struct problem why = {0};
    struct ledger *l = NULL;
    struct test_disk_image *image;
    int dir;

    assert_true(p && s && paths);
    test_disk_install(SMALL_DISK);
    dir = root_open();
    assert_int_equal(ledger_open(dir, &l, &why), 0);
    assert_int_equal(registers(l, "anna", false, &why), 0);
    assert_int_equal(ledger_space_quota(l, 1, 0, 0, &why), 0);
    for (int i = 0; i < 2 * MANY; i++) {
        snprintf(paths[i], sizeof paths[i], "%s/%d", i % 2 ? "from" : "to",
                 i / 2);
        p[i] = (struct ledger_publish){
            .space = 1,
            .account = 1,
            .path = paths[i],
            .file = {.size = i % 2 ? 3 : 2, .hash = CHUNK_SHA256}};
    }
    assert_int_equal(ledger_publish(l, p, 2 * MANY, NULL, 0, &why), 0);
    for (int i = 0; i < 2 * MANY; i++) {
        assert_int_equal(p[i].result, 0);
        s[i].intent = p[i].intent;
    }
    assert_int_equal(ledger_settle(l, s, 2 * MANY, &why), 0);
    ledger_close(l);
    keel_file_close(dir);
    free(p);
    free(s);
    free(paths);
    image = test_disk_save();
    return image;
}

static int count_live(const struct ledger_change *c, void *arg)
{
    assert_string_equal(c->path, "from");
    assert_string_equal(c->to, "to");
    ++*(int *)arg;
    return 0;
}

static int64_t files_of(struct ledger *l, int64_t *ret_bytes)
{
    struct ledger_space s;

    assert_int_equal(ledger_space_get(l, 1, &s, NULL), 0);
    *ret_bytes = s.used_bytes;
    return s.used_files;
}

/* From open to close: moves "from" to "to" until something fails.  How far it
 * got: 1 begun, 2 ended. */
static int move_many(struct problem *why)
{
    struct ledger_change c = {.kind = LEDGER_MOVE,
                              .space = 1,
                              .account = 1,
                              .path = "from",
                              .to = "to"};
    int dir = root_open(), done = 0;
    struct ledger *l = NULL;

    if (ledger_open(dir, &l, why) == 0 &&
        ledger_change_begin(l, &c, why) == 0) {
        done = 1;
        if (ledger_change_end(l, c.id, true, why) == 0)
            done = 2;
    }
    ledger_close(l);
    keel_file_close(dir);
    return done;
}

/* Listed or ended, never both or neither; and what is listed is brought to its
 * end, though it be said that nothing was done once rows have gone. */
static int half_way; /* how often some rows had gone, and others not */

static void look_at_many(int done, bool say_done)
{
    struct problem why = {0};
    struct ledger *l = NULL;
    int dir = root_open(), live = 0;
    int64_t bytes, files;

    assert_int_equal(ledger_open(dir, &l, &why), 0);
    assert_int_equal(ledger_check(l, &why), 0);
    assert_int_equal(ledger_change_list(l, count_live, &live, &why), 0);
    files = files_of(l, &bytes);
    if (live == 0) {
        struct ledger_file f;
        bool ended = ledger_file_get(l, 1, "from/0", &f, NULL) < 0;

        assert_true(ended ? done >= 1 : done == 0);
        assert_int_equal(files, ended ? MANY : 2 * MANY);
    } else {
        bool decided = files < 2 * MANY;

        assert_true(done <= 1);
        half_way += decided;
        assert_int_equal(ledger_change_end(l, 1, say_done, &why), 0);
        files = files_of(l, &bytes);
        assert_int_equal(files, say_done || decided ? MANY : 2 * MANY);
        assert_int_equal(bytes, say_done || decided ? 3 * MANY : 5 * MANY);
        live = 0;
        assert_int_equal(ledger_change_list(l, count_live, &live, &why), 0);
        assert_int_equal(live, 0);
        assert_int_equal(ledger_check(l, &why), 0);
    }
    ledger_close(l);
    keel_file_close(dir);
}

static void a_change_of_many_rows_is_listed_or_ended(void **state)
{
    struct test_disk_image *start = many_rows();
    struct problem why = {0};
    unsigned tried = 0;
    bool crashed = true;

    (void)state;
    for (unsigned nth = 1; crashed; nth += is_long ? 3 : 47) {
        struct test_disk_image *image;
        int done;

        test_disk_load(start);
        test_disk_crash_at(nth);
        done = move_many(&why);
        crashed = test_disk_crashed();
        image = test_disk_save();
        for (unsigned seed = 0; seed < 3; seed++) {
            test_disk_load(image);
            test_disk_reboot(seed == 0   ? TEST_DISK_KEEP_NONE
                             : seed == 1 ? TEST_DISK_KEEP_ALL
                                         : nth * 1000 + seed);
            look_at_many(done, nth % 2 == 0);
        }
        test_disk_image_free(image);
        tried++;
    }

    assert_true(tried > 5 && half_way > 0);
    test_disk_image_free(start);
}

/* A fault that is no crash leaves it live, and to be ended again. */
static void a_change_of_many_rows_survives_each_fault(void **state)
{
    static const struct {
        enum keel_op op;
        int error;
        unsigned stride;
    } orders[] = {{KEEL_OP_ALLOC, ENOMEM, 1201},
                  {KEEL_OP_WRITE, ENOSPC, 307},
                  {KEEL_OP_WRITE, EIO, 311},
                  {KEEL_OP_READ, EIO, 313}};
    struct test_disk_image *start = many_rows();

    (void)state;
    for (size_t i = 0; i < sizeof orders / sizeof *orders; i++) {
        bool fired = true;

        for (unsigned nth = 1; fired;
             nth += orders[i].stride / (is_long ? 20 : 1)) {
            struct problem why = {0};
            int done;

            test_disk_load(start);
            if (orders[i].op == KEEL_OP_ALLOC)
                fault_fail_alloc(nth);
            else
                fault_fail(orders[i].op, nth, orders[i].error);
            done = move_many(&why);
            fired = fault_fired();
            fault_clear();
            assert_true(fired || done == 2);
            look_at_many(done, true);
        }
    }
    test_disk_image_free(start);
}

/* ---- faults that are no crash ------------------------------------------------------------ */
/* Fails the nth operation; the same life, begun again where it stopped, must
 * come to the same end.  False: it was not reached. */
static bool fault_at(enum keel_op op, unsigned nth, int error)
{
    struct problem why = {0};
    bool fired;
    int done, state = 0;

    test_disk_install(DISK_BYTES);
    if (op == KEEL_OP_ALLOC)
        fault_fail_alloc(nth);
    else
        fault_fail(op, nth, error);
    done = live(0, NULL, &why);
    fired = fault_fired();
    fault_clear();
    if (done < STEPS)
        assert_true(fired);
    /* Nothing was lost to the disk itself: whatever it says is well kept. */
    if (!as_expected(done, &state))
        fail_msg("%s %u (%d): after step %d it is something else",
                 keel_op_name(op), nth, error, done);
    assert_int_equal(live(state, NULL, &why), STEPS);
    assert_true(as_expected(STEPS, &state));
    return fired;
}

static void each_fault_leaves_what_was_acknowledged(void **state)
{
    static const struct {
        enum keel_op op;
        int error;
        unsigned stride;
    } orders[] = {
        {KEEL_OP_ALLOC, ENOMEM, 37}, {KEEL_OP_WRITE, EIO, 5},
        {KEEL_OP_WRITE, ENOSPC, 5},  {KEEL_OP_WRITE, FAULT_SHORT, 9},
        {KEEL_OP_SYNC, EIO, 2},      {KEEL_OP_SYNC, ENOSPC, 5},
        {KEEL_OP_READ, EIO, 5},      {KEEL_OP_OPEN, EIO, 1},
        {KEEL_OP_STAT, EIO, 9},
    };

    (void)state;
    for (size_t i = 0; i < sizeof orders / sizeof *orders; i++) {
        unsigned stride = is_long ? 1 : orders[i].stride, nth = 1;

        while (fault_at(orders[i].op, nth, orders[i].error))
            nth += stride;
        assert_true(nth > 1);
    }
}

static void a_full_disk_refuses_and_the_ledger_goes_on(void **state)
{
    struct problem why = {0};
    struct ledger *l = NULL;
    static struct view before, after;
    int dir;

    (void)state;
    test_disk_install(DISK_BYTES);
    dir = root_open();
    assert_int_equal(ledger_open(dir, &l, &why), 0);
    for (int k = 0; k < 5; k++)
        assert_int_equal(step(l, k, &why), 0);
    see_all(l, &before);
    fault_fail_times(KEEL_OP_WRITE, 1, ENOSPC, 0);
    assert_int_equal(step(l, 5, &why), -ENOSPC);
    assert_int_equal(why.id, PROBLEM_DISK_FULL);
    fault_clear();
    see_all(l, &after);
    assert_string_equal(before.text, after.text);
    assert_int_equal(step(l, 5, &why), 0);
    ledger_close(l);
    keel_file_close(dir);
}

/* After a failed sync nobody knows what is on the disk: a second one that
 * succeeded would be believed wrongly, so there is none. */
static void a_failed_sync_is_the_last(void **state)
{
    struct problem why = {0};
    struct ledger *l = NULL;
    struct ledger_account a;
    int dir, done = 0;

    (void)state;
    test_disk_install(DISK_BYTES);
    dir = root_open();
    assert_int_equal(ledger_open(dir, &l, &why), 0);
    for (int k = 0; k < 5; k++)
        assert_int_equal(step(l, k, &why), 0);
    test_disk_fail_sync(1);
    assert_int_equal(step(l, 5, &why), -EIO);
    assert_int_equal(why.id, PROBLEM_SYNC_FAILED);
    for (int i = 0; i < 2; i++) {
        why.id = PROBLEM_NONE;
        assert_true(ledger_account_find(l, "anna", &a, &why) < 0);
        assert_int_equal(why.id, PROBLEM_SYNC_FAILED);
        assert_true(step(l, 6, &why) < 0);
        assert_int_equal(why.id, PROBLEM_SYNC_FAILED);
    }
    ledger_close(l);
    keel_file_close(dir);
    test_disk_reboot(TEST_DISK_KEEP_NONE);
    assert_true(as_expected(5, &done));
}

/* ---- together ----------------------------------------------------------------------------- */
enum { TOGETHER = 6 };

struct together {
    struct ledger *ledger;
    struct keel_event *held, *go;
    int number, rc;
    struct problem why;
};

static int hold_owner(struct ledger *l, void *arg, struct problem *why)
{
    struct together *t = arg;

    (void)l;
    (void)why;
    keel_event_set(t->held);
    return keel_event_wait(t->go, KEEL_FOREVER);
}

static int hold(void *arg)
{
    struct together *t = arg;

    return ledger_read(t->ledger, hold_owner, t, NULL);
}

static _Atomic int draft_ids;

static int one_draft(void *arg)
{
    struct together *t = arg;
    uint8_t id = (uint8_t)++draft_ids;

    /* The first asks for more than there is: refused, if anything is said
     * about it at all. */
    t->rc = drafts(t->ledger, id, "x", t->number == 0 ? 5000 : 10, &t->why);
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

/* One transaction of all, committed (`order` NULL) or failing. */
static void run_together(struct together *all, struct ledger *l,
                         void (*order)(void))
{
    struct keel_event held, go;
    struct keel_thread *holder, *threads[TOGETHER];
    struct together first = {.ledger = l, .held = &held, .go = &go};

    keel_event_init(&held);
    keel_event_init(&go);
    assert_int_equal(keel_thread_start("holder", hold, &first, &holder), 0);
    assert_int_equal(keel_event_wait(&held, KEEL_FOREVER), 0);
    for (int i = 0; i < TOGETHER; i++) {
        all[i] = (struct together){.ledger = l, .number = i};
        assert_int_equal(
            keel_thread_start("draft", one_draft, &all[i], &threads[i]), 0);
    }
    while (waiting(l) < TOGETHER)
        keel_yield();
    if (order)
        order();
    keel_event_set(&go);
    assert_int_equal(keel_thread_join(holder, KEEL_FOREVER, NULL), 0);
    for (int i = 0; i < TOGETHER; i++)
        assert_int_equal(keel_thread_join(threads[i], KEEL_FOREVER, NULL), 0);
    keel_event_fini(&held);
    keel_event_fini(&go);
}

static void fail_write(void)
{
    fault_fail(KEEL_OP_WRITE, 1, ENOSPC);
}

static void fail_sync(void)
{
    test_disk_fail_sync(1);
}

static void those_in_one_transaction_share_its_failure(void **state)
{
    struct together all[TOGETHER];
    struct problem why = {0};
    struct ledger_space s;
    struct ledger *l = NULL;
    int dir;

    (void)state;
    test_disk_install(DISK_BYTES);
    dir = root_open();
    assert_int_equal(ledger_open(dir, &l, &why), 0);
    assert_int_equal(registers(l, "anna", false, &why), 0);

    run_together(all, l, fail_write);
    assert_true(fault_fired());
    for (int i = 0; i < TOGETHER; i++) {
        assert_int_equal(all[i].rc, -ENOSPC);
        assert_int_equal(all[i].why.id, PROBLEM_DISK_FULL);
    }
    assert_int_equal(ledger_space_get(l, 1, &s, &why), 0);
    assert_int_equal(s.reserved_bytes, 0);

    run_together(all, l, NULL);
    for (int i = 0; i < TOGETHER; i++)
        assert_int_equal(all[i].why.id, i ? 0 : PROBLEM_QUOTA_BYTES);
    assert_int_equal(ledger_space_get(l, 1, &s, &why), 0);
    assert_int_equal(s.reserved_bytes, 10 * (TOGETHER - 1));

    run_together(all, l, fail_sync);
    for (int i = 0; i < TOGETHER; i++)
        assert_int_equal(all[i].why.id, PROBLEM_SYNC_FAILED);
    ledger_close(l);
    keel_file_close(dir);
}

static int begin(void **state)
{
    (void)state;
    test_clock_install(); /* so that nothing is written back by the clock */
    return 0;
}

static int end(void **state)
{
    (void)state;
    fault_clear();
    test_disk_lie(NULL, NULL);
    test_disk_remove();
    test_clock_remove();
    return 0;
}

#define T(f) cmocka_unit_test_setup_teardown(f, begin, end)

int main(void)
{
    const struct CMUnitTest tests[] = {
        T(what_was_acknowledged_survives_a_crash_anywhere),
        T(a_log_that_is_not_synced_is_noticed),
        T(a_change_of_many_rows_is_listed_or_ended),
        T(a_change_of_many_rows_survives_each_fault),
        T(each_fault_leaves_what_was_acknowledged),
        T(a_full_disk_refuses_and_the_ledger_goes_on),
        T(a_failed_sync_is_the_last),
        T(those_in_one_transaction_share_its_failure),
    };

    is_long = getenv("KEEL_TEST_LONG") != NULL;
    test_clock_install();
    live_once();
    test_disk_remove();
    test_clock_remove();
    return cmocka_run_group_tests(tests, NULL, NULL);
}
