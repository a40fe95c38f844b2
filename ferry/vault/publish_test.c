/* SPDX-License-Identifier: MIT */
/* Publishing, on a disk that forgets what was not synced.
 *
 * A scenario is a list of uploads.  Those of phase 0 are there before; those
 * of phase 1 run while the power is cut at the nth changing operation of the
 * disk, for n = 1, 2, ... until all of it ran.  Each of those moments is
 * rebooted with several seeds, each time another choice of what survives; the
 * vault is opened, and the rules are checked:
 *
 *   - what was acknowledged as committed is there, whole
 *   - a name shows one upload whole: the last one acknowledged, or one that
 *     was under way
 *   - the ledger's row is that file: identity, root and ctime
 *   - the quota is the sum of the files, the reservation that of the drafts
 *   - a draft has row and file, or neither
 *   - an event stands for each published upload, none for others, none held
 *   - no intent is left
 *
 * And once more without a reboot between: the program was killed, goes on with
 * what the kill left, and what it then acknowledges is there after a power cut.
 *
 * Then the same with one sync left out (a mutation): the rules must be found
 * broken, or this test would prove nothing.
 *
 * Single faults follow: each operation of the seam and each allocation fails
 * once, the vault is closed, and the same rules must hold.
 *
 * A share of all moments is tried; with KEEL_TEST_LONG set all of them, with
 * more seeds and every kind of fault. */
#include <errno.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdatomic.h>
#include <stddef.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include <keel/co.h>
#include <keel/file.h>
#include <keel/thread.h>

#include "base/log.h"
#include "vault_inside.h"
#include "sim/disk.h"
#include "test/fault.h"
#include "world_test.h"

enum { UPLOADS_MOST = 80, LARGE = 2 * CHUNK_BYTES + 300007 };

struct upload {
    char path[32];
    uint64_t size;
    unsigned tag, phase;
    bool prefilled; /* its draft is there before, with all its chunks synced */
    bool acked;     /* of this run */
};

struct scenario {
    const char *name;
    struct upload uploads[UPLOADS_MOST];
    unsigned count;
    bool together; /* phase 1 is one group, each upload from its own thread */
};

static bool tier_long;

/* ---- breaking the disk's promises ------------------------------------------------ */

enum mutation {
    HONEST,
    NO_DATA_SYNC,
    NO_TIMES_SYNC, /* data only, as fdatasync does */
    NO_LEDGER_SYNC,
    NO_DIRECTORY_SYNC,
    NO_SPACES_SYNC,   /* of the directory in which a space's is made */
    NO_RECOVERY_SYNC, /* of names, while what was cut is recovered */
    NO_NAMES_SYNC,    /* the same, in force */
    NO_REDO_SYNC,     /* of directories alone, while it is recovered */
    NO_GROUND_SYNC,   /* of all, before it is */
    NO_FIRST_SYNCFS,
    NO_SECOND_SYNCFS,
};

/* A layer before the test disk, so that a sync can be left out by purpose. */
static struct {
    const struct keel_disk *disk;
    _Atomic int mutation;
    _Atomic unsigned syncfs_count;
    _Atomic int ledger_fd[8];
    _Atomic int spaces_fd;
} layer;

static int layer_open(int dir, const char *path, const struct open_how *how)
{
    int fd = layer.disk->openat2(dir, path, how);

    if (fd >= 0 && !strcmp(path, "spaces"))
        layer.spaces_fd = fd;
    if (fd >= 0 && strstr(path, "ledger.db"))
        for (size_t i = 0; i < 8; i++) {
            int none = 0;

            if (atomic_compare_exchange_strong(&layer.ledger_fd[i], &none, fd))
                break;
        }
    return fd;
}

static int layer_close(int fd)
{
    for (size_t i = 0; i < 8; i++) {
        int same = fd;

        (void)atomic_compare_exchange_strong(&layer.ledger_fd[i], &same, 0);
    }
    return layer.disk->close(fd);
}

static bool left_out(int fd)
{
    struct statx x;
    bool ledger = false, dir;

    for (size_t i = 0; i < 8; i++)
        ledger |= layer.ledger_fd[i] == fd;
    if (ledger)
        return layer.mutation == NO_LEDGER_SYNC;
    if (layer.disk->statx(fd, "", AT_EMPTY_PATH, STATX_BASIC_STATS, &x) < 0)
        return false;
    dir = S_ISDIR(x.stx_mode);
    if (layer.mutation == NO_SPACES_SYNC)
        return fd == layer.spaces_fd;
    if (dir && layer.mutation == NO_NAMES_SYNC)
        return true;
    return layer.mutation == (dir ? NO_DIRECTORY_SYNC : NO_DATA_SYNC);
}

static int layer_fdatasync(int fd)
{
    return left_out(fd) ? 0 : layer.disk->fdatasync(fd);
}

static int layer_fsync(int fd)
{
    struct statx x;

    if (left_out(fd))
        return 0;
    if (layer.mutation == NO_TIMES_SYNC &&
        layer.disk->statx(fd, "", AT_EMPTY_PATH, STATX_BASIC_STATS, &x) == 0 &&
        S_ISREG(x.stx_mode))
        return layer.disk->fdatasync(fd);
    return layer.disk->fsync(fd);
}

static int layer_syncfs(int fd)
{
    unsigned n = layer.syncfs_count++;

    if (layer.mutation == NO_NAMES_SYNC)
        return 0;
    if (layer.mutation == (n ? NO_SECOND_SYNCFS : NO_FIRST_SYNCFS))
        return 0;
    return layer.disk->syncfs(fd);
}

static void layer_install(void)
{
    static struct keel_disk table;

    test_disk_install((uint64_t)256 << 20);
    layer.disk = keel_seam.disk;
    table = *layer.disk;
    table.openat2 = layer_open;
    table.close = layer_close;
    table.fsync = layer_fsync;
    table.fdatasync = layer_fdatasync;
    table.syncfs = layer_syncfs;
    keel_seam.disk = &table;
}

static void layer_remove(void)
{
    keel_seam.disk = layer.disk;
    test_disk_remove();
}

/* ---- running the uploads ------------------------------------------------------------ */

struct uploader {
    struct world *world;
    struct upload *upload;
    struct keel_thread *thread;
    _Atomic unsigned *done;
};

static int uploader_run(void *arg)
{
    struct uploader *u = arg;
    struct world_put put = {
        .path = u->upload->path,
        .size = u->upload->size,
        .tag = u->upload->tag,
        .level = VAULT_COMMITTED,
    };

    u->upload->acked = world_put(u->world, &put, NULL) == 0;
    ++*u->done;
    return 0;
}

static void run_together(struct world *w, struct scenario *s, unsigned phase)
{
    struct uploader u[UPLOADS_MOST];
    _Atomic unsigned done = 0;
    unsigned count = 0;

    committer_hold(w->vault->committer, true);
    for (unsigned i = 0; i < s->count; i++) {
        if (s->uploads[i].phase != phase)
            continue;
        u[count] = (struct uploader){
            .world = w, .upload = &s->uploads[i], .done = &done};
        assert_int_equal(
            keel_thread_start("put", uploader_run, &u[count], &u[count].thread),
            0);
        count++;
    }
    /* All that can be queued are: the rest failed, or waits for a name. */
    while (done + committer_waiting(w->vault->committer) < count)
        keel_yield();
    committer_hold(w->vault->committer, false);
    for (unsigned i = 0; i < count; i++)
        assert_int_equal(keel_thread_join(u[i].thread, KEEL_FOREVER, NULL), 0);
}

static void run_phase(struct world *w, struct scenario *s, unsigned phase)
{
    _Atomic unsigned done = 0;

    if (phase == 1 && s->together) {
        run_together(w, s, phase);
        return;
    }
    for (unsigned i = 0; i < s->count; i++) {
        struct uploader u = {
            .world = w, .upload = &s->uploads[i], .done = &done};

        if (s->uploads[i].phase == phase)
            (void)uploader_run(&u);
    }
}

/* ---- the rules ------------------------------------------------------------------------ */

/* The first rule found broken, in words. */
struct verdict {
    bool broken, power_cut, fault;
    char text[300];
};

static void broken(struct verdict *v, const char *format, ...)
    __attribute__((format(printf, 2, 3)));
static void broken(struct verdict *v, const char *format, ...)
{
    va_list a;

    if (v->broken)
        return;
    v->broken = true;
    va_start(a, format);
    (void)vsnprintf(v->text, sizeof v->text, format, a);
    va_end(a);
}

struct counts {
    struct scenario *scenario;
    struct verdict *verdict;
    unsigned events[UPLOADS_MOST]; /* of the path of upload i */
    unsigned intents, drafts;
    uint64_t reserved;
    struct world *world;
};

static int count_event(const struct ledger_event *e, void *arg)
{
    struct counts *c = arg;
    bool known = false;

    if (e->held)
        broken(c->verdict, "the event of %s is held", e->path);
    for (unsigned i = 0; i < c->scenario->count; i++)
        if (!strcmp(c->scenario->uploads[i].path, e->path)) {
            c->events[i]++;
            known = true;
        }
    if (!known)
        broken(c->verdict, "an event for %s", e->path);
    return 0;
}

static int count_intent(const struct ledger_intent *i, void *arg)
{
    struct counts *c = arg;

    broken(c->verdict, "an intent for %s is left", i->path);
    return 0;
}

static int count_draft_row(const struct ledger_draft *d, void *arg)
{
    struct counts *c = arg;
    struct statx x;

    c->drafts++;
    c->reserved += d->reserved;
    if (store_draft_look(c->world->vault->store, d->id, &x) < 0)
        broken(c->verdict, "a draft's row without its file");
    return 0;
}

static int count_draft_file(const uint8_t id[DRAFT_ID_BYTES], void *arg)
{
    unsigned *files = arg;

    (void)id;
    ++*files;
    return 0;
}

/* Whether upload i may be what its name shows: none of its path that came
 * later was acknowledged. */
static bool may_show(const struct scenario *s, unsigned i)
{
    for (unsigned k = 0; k < s->count; k++)
        if (!strcmp(s->uploads[k].path, s->uploads[i].path) &&
            s->uploads[k].phase > s->uploads[i].phase && s->uploads[k].acked)
            return false;
    return true;
}

static bool first_of_path(const struct scenario *s, unsigned i)
{
    for (unsigned k = 0; k < i; k++)
        if (!strcmp(s->uploads[k].path, s->uploads[i].path))
            return false;
    return true;
}

static void check_row(struct world *w, struct verdict *v, const char *path,
                      const struct upload *shown, const struct digest *root)
{
    struct ledger_file row, there;
    struct path p;
    struct statx x;
    int dir;

    if (ledger_file_get(w->ledger, w->who.home, path, &row, NULL) < 0) {
        broken(v, "%s has no row", path);
        return;
    }
    if (memcmp(&row.root, root, sizeof *root) != 0)
        broken(v, "%s has another root in the ledger", path);
    if (row.hash != CHUNK_XXH128 || row.size != shown->size)
        broken(v, "%s has another size or hash in the ledger", path);
    assert_int_equal(world_path(path, &p), 0);
    struct ledger_space space;

    assert_int_equal(ledger_space_get(w->ledger, w->who.home, &space, NULL), 0);
    dir = store_dir(w->vault->store, space.dir, path, parent_size(path));
    if (dir < 0 || store_look(dir, leaf_of(path), &x) < 0) {
        broken(v, "%s cannot be looked at", path);
        keel_file_close(dir);
        return;
    }
    keel_file_close(dir);
    store_identity(&x, &there);
    if (there.inode != row.inode || there.device != row.device ||
        there.mtime_ns != row.mtime_ns)
        broken(v, "%s is another file than the ledger's", path);
    /* A power cut may leave the file with its earlier ctime: the digest is
     * then not believed.  A look that fails leaves it unknown. */
    if (!v->power_cut && row.ctime_ns != there.ctime_ns &&
        (!v->fault || row.ctime_ns != 0))
        broken(v, "%s has another ctime than the ledger's", path);
    if (x.stx_nlink != 1)
        broken(v, "%s has %u links", path, x.stx_nlink);
}

/* What the name of upload i (the first of its path) shows; its size. */
static uint64_t check_name(struct world *w, struct scenario *s,
                           struct verdict *v, unsigned i, bool *ret_exists)
{
    const char *path = s->uploads[i].path;
    bool must = false;
    struct path p;
    struct vault_entry e;
    int rc;

    assert_int_equal(world_path(path, &p), 0);
    for (unsigned k = i; k < s->count; k++)
        must |= !strcmp(s->uploads[k].path, path) && s->uploads[k].acked;
    rc = vault_stat(w->vault, &w->who, 0, &p, &e, NULL);
    *ret_exists = rc == 0;
    if (rc < 0) {
        struct ledger_file row;

        if (must)
            broken(v, "%s was acknowledged and is lost (%d)", path, rc);
        if (ledger_file_get(w->ledger, w->who.home, path, &row, NULL) == 0)
            broken(v, "%s has a row and no file", path);
        return 0;
    }
    for (unsigned k = i; k < s->count; k++) {
        struct upload *u = &s->uploads[k];
        struct digest root;

        if (strcmp(u->path, path) != 0 || e.size != u->size ||
            world_holds(w, path, u->tag, u->size) != 1)
            continue;
        if (!may_show(s, k))
            broken(v, "%s shows content older than acknowledged", path);
        root = content_root(u->tag, u->size, CHUNK_XXH128);
        check_row(w, v, path, u, &root);
        return e.size;
    }
    broken(v, "%s shows what nobody sent", path);
    return e.size;
}

/* Each acknowledged or visible upload left an event, and at most as many as
 * there were uploads. */
static void check_events(struct counts *c, unsigned i, bool exists)
{
    const struct scenario *s = c->scenario;
    unsigned acked = 0, all = 0;

    for (unsigned k = i; k < s->count; k++) {
        if (strcmp(s->uploads[k].path, s->uploads[i].path) != 0)
            continue;
        acked += s->uploads[k].acked;
        all++;
    }
    if (c->events[i] < acked)
        broken(c->verdict, "%s lost an event", s->uploads[i].path);
    if (c->events[i] > all)
        broken(c->verdict, "%s has an event too many", s->uploads[i].path);
    if ((c->events[i] > 0) != exists)
        broken(c->verdict, "%s: file and events part", s->uploads[i].path);
}

static void check_space(struct counts *c, uint64_t bytes, int64_t files)
{
    struct world *w = c->world;
    struct ledger_space space;
    unsigned draft_files = 0;

    assert_int_equal(ledger_space_get(w->ledger, w->who.home, &space, NULL), 0);
    if (space.used_bytes != (int64_t)bytes || space.used_files != files)
        broken(c->verdict,
               "quota says %lld bytes in %lld files, not %llu in %lld",
               (long long)space.used_bytes, (long long)space.used_files,
               (unsigned long long)bytes, (long long)files);
    assert_int_equal(
        ledger_draft_list(w->ledger, INT64_MAX, count_draft_row, c, NULL), 0);
    if (space.reserved_bytes != (int64_t)c->reserved)
        broken(c->verdict, "%lld bytes are reserved, the drafts have %llu",
               (long long)space.reserved_bytes,
               (unsigned long long)c->reserved);
    assert_int_equal(
        store_draft_each(w->vault->store, count_draft_file, &draft_files), 0);
    /* file and journal each */
    if (draft_files < c->drafts || draft_files > 2 * c->drafts)
        broken(c->verdict, "%u names in drafts/ for %u drafts", draft_files,
               c->drafts);
}

static void check_rules(struct world *w, struct scenario *s, struct verdict *v)
{
    struct counts c = {.scenario = s, .verdict = v, .world = w};
    struct problem why;
    uint64_t bytes = 0;
    int64_t files = 0;

    assert_int_equal(ledger_intent_list(w->ledger, count_intent, &c, NULL), 0);
    assert_int_equal(ledger_outbox_list(w->ledger, 0, count_event, &c, NULL),
                     0);
    for (unsigned i = 0; i < s->count; i++) {
        bool exists;

        if (!first_of_path(s, i))
            continue;
        bytes += check_name(w, s, v, i, &exists);
        files += exists;
        check_events(&c, i, exists);
    }
    check_space(&c, bytes, files);
    if (ledger_check(w->ledger, &why) < 0)
        broken(v, "the ledger is damaged: %s", why.detail);
}

/* ---- the sweep --------------------------------------------------------------------------- */

struct sweep {
    enum mutation mutation;
    unsigned stride, seeds;
    bool opening_too, recovery_too, fault;
    unsigned runs, moments;
    struct verdict first;
};

static uint64_t seed_of(unsigned n, unsigned k)
{
    if (k == 0)
        return TEST_DISK_KEEP_ALL;
    if (k == 1)
        return TEST_DISK_KEEP_NONE;
    return (uint64_t)n * 1000 + k;
}

static void world_must_open(struct world *w)
{
    struct problem why;
    char words[400];
    int rc = world_open(w, world_test_data(), &why);

    if (rc < 0) {
        problem_sentence(&why, words, sizeof words);
        print_message("open: %d %s\n", rc, words);
    }
    assert_int_equal(rc, 0);
}

/* After a crash: the vault opens and the rules hold.  With `again`, the
 * opening is itself cut first, at that operation. */
static void judge(struct scenario *s, struct sweep *sweep, unsigned n,
                  uint64_t seed, unsigned again)
{
    struct verdict v = {.power_cut = seed != TEST_DISK_KEEP_ALL,
                        .fault = sweep->fault};
    struct problem why = {.id = PROBLEM_NONE};
    struct world w;
    int rc;

    test_disk_reboot(seed);
    if (again) {
        test_disk_crash_at(again);
        if (sweep->mutation == NO_RECOVERY_SYNC)
            layer.mutation = NO_NAMES_SYNC;
        if (sweep->mutation == NO_REDO_SYNC)
            layer.mutation = NO_DIRECTORY_SYNC;
        if (world_open(&w, world_test_data(), NULL) == 0)
            world_close(&w);
        test_disk_reboot(seed == TEST_DISK_KEEP_ALL ? TEST_DISK_KEEP_NONE
                                                    : seed + 1);
        v.power_cut = true;
    }
    sweep->runs++;
    layer.mutation = HONEST;
    rc = world_open(&w, world_test_data(), &why);
    if (rc < 0) {
        broken(&v, "the vault does not open: %s %s", problem_code(&why),
               why.detail);
    } else {
        check_rules(&w, s, &v);
        world_close(&w);
    }
    if (v.broken && !sweep->first.broken) {
        sweep->first.broken = true;
        (void)snprintf(sweep->first.text, sizeof sweep->first.text,
                       "%.40s: cut at %u, seed %llu, again %u: %.200s", s->name,
                       n, (unsigned long long)seed, again, v.text);
    }
}

/* After a kill: the vault goes on, and what it acknowledges is there when the
 * power is cut then. */
static void go_on(struct scenario *s, struct sweep *sweep, unsigned n)
{
    struct world_put later = {
        .path = "later", .size = 700, .tag = 99, .level = VAULT_COMMITTED};
    bool acked = false, there = false;
    struct world w;

    test_disk_reboot(TEST_DISK_KEEP_ALL);
    layer.mutation =
        sweep->mutation == NO_GROUND_SYNC ? NO_FIRST_SYNCFS : HONEST;
    layer.syncfs_count = 0;
    if (world_open(&w, world_test_data(), NULL) == 0) {
        acked = world_put(&w, &later, NULL) == 0;
        world_close(&w);
    }
    layer.mutation = HONEST;
    sweep->runs++;
    test_disk_reboot(TEST_DISK_KEEP_NONE);
    if (world_open(&w, world_test_data(), NULL) == 0) {
        there = world_holds(&w, later.path, later.tag, later.size) == 1;
        world_close(&w);
    }
    if ((!acked || !there) && !sweep->first.broken) {
        sweep->first.broken = true;
        (void)snprintf(sweep->first.text, sizeof sweep->first.text,
                       "%.40s: killed at %u: what came later is %s", s->name, n,
                       acked ? "lost" : "refused");
    }
}

/* True when the run met its cut. */
static bool run_to(struct scenario *s, struct sweep *sweep, unsigned n)
{
    struct world w;
    bool cut;

    for (unsigned i = 0; i < s->count; i++)
        s->uploads[i].acked = s->uploads[i].phase == 0;
    layer.mutation = sweep->mutation;
    test_disk_crash_at(n);
    if (world_open(&w, world_test_data(), NULL) == 0) {
        layer.syncfs_count = 0;
        run_phase(&w, s, 1);
        world_close(&w);
    }
    cut = test_disk_crashed();
    test_disk_crash_at(0);
    return cut;
}

static void prefill(struct world *w, const struct upload *u)
{
    struct world_put put = {.path = u->path,
                            .size = u->size,
                            .tag = u->tag,
                            .stop = chunk_count(u->size)};

    assert_int_equal(world_put(w, &put, NULL), 0);
    assert_int_equal(keel_file_sync_all(w->data), 0);
}

/* What is there before. */
static struct test_disk_image *base_make(struct scenario *s)
{
    struct world w;

    world_must_open(&w);
    run_phase(&w, s, 0);
    for (unsigned i = 0; i < s->count; i++) {
        assert_true(s->uploads[i].phase == 1 || s->uploads[i].acked);
        if (s->uploads[i].prefilled)
            prefill(&w, &s->uploads[i]);
    }
    world_close(&w);
    return test_disk_save();
}

/* All that is judged of one moment. */
static void moment(struct scenario *s, struct sweep *sweep, unsigned n,
                   const struct test_disk_image *cut)
{
    test_disk_load(cut);
    if (!sweep->mutation || sweep->mutation == NO_GROUND_SYNC)
        go_on(s, sweep, n);
    for (unsigned k = 0; k < sweep->seeds; k++) {
        test_disk_load(cut);
        judge(s, sweep, n, seed_of(n, k), 0);
        if (!sweep->recovery_too || k == 1 || (!tier_long && k > 2))
            continue;
        if (k > 0 || tier_long) {
            test_disk_load(cut);
            judge(s, sweep, n, seed_of(n, k), 1 + (n * 7 + k * 3) % 40);
        }
        /* and once more when it is through */
        test_disk_load(cut);
        judge(s, sweep, n, seed_of(n, k), 1000);
    }
}

/* Operations of opening alone. */
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

/* A power cut after the end counts as well: what was acknowledged stays. */
static void sweep_run(struct scenario *s, struct sweep *sweep)
{
    struct test_disk_image *base, *cut;
    unsigned n = 1;
    bool met = true;

    layer_install();
    base = base_make(s);
    if (!sweep->opening_too)
        n = opening_ops(base);
    for (; met; n += sweep->stride) {
        test_disk_load(base);
        met = run_to(s, sweep, n);
        sweep->moments++;
        cut = test_disk_save();
        moment(s, sweep, n, cut);
        test_disk_image_free(cut);
        if (sweep->mutation && sweep->first.broken)
            break;
    }
    test_disk_image_free(base);
    layer_remove();
}

/* ---- scenarios ------------------------------------------------------------------------------ */

static struct upload *add(struct scenario *s, unsigned phase, const char *path,
                          uint64_t size)
{
    struct upload *u = &s->uploads[s->count++];

    *u = (struct upload){.phase = phase, .size = size, .tag = s->count};
    (void)snprintf(u->path, sizeof u->path, "%s", path);
    return u;
}

static struct scenario small_put(void)
{
    struct scenario s = {.name = "a small put"};

    add(&s, 1, "small", 5000);
    return s;
}

static struct scenario large_put(void)
{
    struct scenario s = {.name = "a large put"};

    add(&s, 1, "large", LARGE);
    return s;
}

static struct scenario resumed_put(void)
{
    struct scenario s = {.name = "the end of a large put"};

    add(&s, 1, "large", LARGE)->prefilled = true;
    return s;
}

static struct scenario race(void)
{
    struct scenario s = {.name = "two for one name", .together = true};

    add(&s, 1, "name", 5000);
    add(&s, 1, "name", 6000);
    return s;
}

static struct scenario small_replacement(void)
{
    struct scenario s = {.name = "a small replacement"};

    add(&s, 0, "name", 4000);
    add(&s, 1, "name", 6000);
    return s;
}

static struct scenario large_replacement(void)
{
    struct scenario s = {.name = "a large replacement"};

    add(&s, 0, "name", 4000);
    add(&s, 0, "other", 100);
    add(&s, 1, "name", LARGE);
    add(&s, 1, "other", 0);
    return s;
}

static struct scenario group(void)
{
    struct scenario s = {.name = "64 in one group", .together = true};
    char path[32];

    add(&s, 0, "f05", 77);
    for (unsigned i = 0; i < 64; i++) {
        (void)snprintf(path, sizeof path, "f%02u", i);
        add(&s, 1, path, 100 + 17 * i);
    }
    return s;
}

static void holds(struct scenario s, unsigned stride, unsigned seeds)
{
    struct sweep sweep = {.stride = tier_long ? 1 : stride,
                          .seeds = tier_long ? 12 : seeds,
                          .opening_too = tier_long || stride == 1,
                          .recovery_too = true};

    sweep_run(&s, &sweep);
    print_message("%s: %u moments, %u reboots\n", s.name, sweep.moments,
                  sweep.runs);
    if (sweep.first.broken)
        print_error("%s\n", sweep.first.text);
    assert_false(sweep.first.broken);
}

static void is_found(struct scenario s, enum mutation mutation, unsigned stride)
{
    struct sweep sweep = {.mutation = mutation,
                          .stride = stride,
                          .seeds = 8,
                          .recovery_too = mutation == NO_RECOVERY_SYNC ||
                                          mutation == NO_REDO_SYNC};

    sweep_run(&s, &sweep);
    print_message("%s, mutation %d: %s\n", s.name, mutation,
                  sweep.first.broken ? sweep.first.text : "NOT FOUND");
    assert_true(sweep.first.broken);
}

/* ---- single faults ------------------------------------------------------------------------- */

/* What a reader does; a fault may refuse it, and must not deceive it. */
static void read_about(struct world *w, const struct scenario *s)
{
    struct vault_entry *entries = calloc(8, sizeof *entries);
    struct path path;

    assert_non_null(entries);
    assert_int_equal(world_path("", &path), 0);
    (void)vault_list(w->vault, &w->who, 0, &path, "", entries, 8, NULL);
    free(entries);
    for (unsigned i = 0; i < s->count; i++) {
        struct digest root, expected;
        uint64_t size;
        bool known = false;

        assert_int_equal(world_path(s->uploads[i].path, &path), 0);
        if (vault_hash(w->vault, &w->who, 0, &path, CHUNK_XXH128, &root, &size,
                       NULL) < 0)
            continue;
        for (unsigned k = 0; k < s->count; k++) {
            expected = content_root(s->uploads[k].tag, s->uploads[k].size,
                                    CHUNK_XXH128);
            known |= !memcmp(&root, &expected, sizeof root);
        }
        assert_true(known);
    }
}

/* The nth operation of the kind fails, for n = 1, 2, ... until it is not
 * reached any more. */
static void survives(struct scenario s, enum keel_op op, int error,
                     unsigned stride)
{
    struct sweep sweep = {.seeds = 1, .fault = true};
    struct test_disk_image *base;
    struct world w;
    bool fired = true;
    unsigned nth, tries = 0;

    if (tier_long)
        stride = 1;
    layer_install();
    base = base_make(&s);
    for (nth = 1; fired; nth += stride, tries++) {
        test_disk_load(base);
        for (unsigned i = 0; i < s.count; i++)
            s.uploads[i].acked = s.uploads[i].phase == 0;
        if (op == KEEL_OP_ALLOC)
            fault_fail_alloc(nth);
        else
            fault_fail(op, nth, error);
        if (world_open(&w, world_test_data(), NULL) == 0) {
            run_phase(&w, &s, 1);
            read_about(&w, &s);
            world_close(&w);
        }
        fired = fault_fired();
        fault_clear();
        judge(&s, &sweep, nth, TEST_DISK_KEEP_ALL, 0);
        if (sweep.first.broken)
            print_error("%s failing: %s\n", keel_op_name(op), sweep.first.text);
        assert_false(sweep.first.broken);
    }
    print_message("%s with %d: %u times\n", keel_op_name(op), error, tries);
    test_disk_image_free(base);
    layer_remove();
}

static const enum keel_op file_ops[] = {
    KEEL_OP_OPEN,    KEEL_OP_READ,   KEEL_OP_WRITE,  KEEL_OP_SYNC,
    KEEL_OP_RESERVE, KEEL_OP_STAT,   KEEL_OP_RENAME, KEEL_OP_LINK,
    KEEL_OP_UNLINK,  KEEL_OP_MKDIR,  KEEL_OP_LIST,   KEEL_OP_LOCK,
    KEEL_OP_MODE,    KEEL_OP_THREAD,
};

static void any_operation_may_fail_once(void **state)
{
    (void)state;
    for (size_t i = 0; i < sizeof file_ops / sizeof *file_ops; i++) {
        survives(large_replacement(), file_ops[i], EIO, 5);
        if (!tier_long)
            continue;
        survives(large_replacement(), file_ops[i], ENOSPC, 1);
        survives(large_replacement(), file_ops[i], EINTR, 1);
    }
    survives(large_replacement(), KEEL_OP_WRITE, FAULT_SHORT, 7);
    survives(large_replacement(), KEEL_OP_READ, FAULT_SHORT, 7);
}

static void any_allocation_may_fail_once(void **state)
{
    (void)state;
    survives(large_replacement(), KEEL_OP_ALLOC, ENOMEM, 41);
}

static void a_small_put_is_whole_or_absent_after_any_crash(void **state)
{
    (void)state;
    holds(small_put(), 1, 4);
}

static void a_large_put_is_whole_or_absent_after_any_crash(void **state)
{
    (void)state;
    holds(large_put(), 5, 4);
    holds(resumed_put(), 3, 4);
}

static void two_for_one_name_leave_one_whole_after_any_crash(void **state)
{
    (void)state;
    holds(race(), 3, 4);
}

static void a_replaced_name_is_old_or_new_after_any_crash(void **state)
{
    (void)state;
    holds(small_replacement(), 2, 4);
    holds(large_replacement(), 7, 4);
}

static void a_group_of_64_keeps_what_it_acknowledged(void **state)
{
    (void)state;
    holds(group(), 41, 4);
}

static void leaving_out_the_data_sync_is_found(void **state)
{
    (void)state;
    is_found(small_put(), NO_DATA_SYNC, 1);
}

static void leaving_out_the_sync_of_times_is_found(void **state)
{
    (void)state;
    is_found(resumed_put(), NO_TIMES_SYNC, 1);
}

static void leaving_out_the_ledgers_sync_is_found(void **state)
{
    (void)state;
    is_found(small_put(), NO_LEDGER_SYNC, 1);
}

static void leaving_out_the_directory_sync_is_found(void **state)
{
    (void)state;
    is_found(small_put(), NO_DIRECTORY_SYNC, 1);
}

static void leaving_out_the_sync_of_a_new_space_is_found(void **state)
{
    (void)state;
    is_found(small_put(), NO_SPACES_SYNC, 1);
}

static void leaving_out_recoverys_syncs_is_found(void **state)
{
    (void)state;
    is_found(small_put(), NO_RECOVERY_SYNC, 1);
    is_found(resumed_put(), NO_REDO_SYNC, 1);
    is_found(small_put(), NO_GROUND_SYNC, 1);
}

static void leaving_out_either_syncfs_is_found(void **state)
{
    (void)state;
    is_found(group(), NO_FIRST_SYNCFS, 16);
    is_found(group(), NO_SECOND_SYNCFS, 16);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(a_small_put_is_whole_or_absent_after_any_crash),
        cmocka_unit_test(a_large_put_is_whole_or_absent_after_any_crash),
        cmocka_unit_test(two_for_one_name_leave_one_whole_after_any_crash),
        cmocka_unit_test(a_replaced_name_is_old_or_new_after_any_crash),
        cmocka_unit_test(a_group_of_64_keeps_what_it_acknowledged),
        cmocka_unit_test(leaving_out_the_data_sync_is_found),
        cmocka_unit_test(leaving_out_the_sync_of_times_is_found),
        cmocka_unit_test(leaving_out_the_ledgers_sync_is_found),
        cmocka_unit_test(leaving_out_the_directory_sync_is_found),
        cmocka_unit_test(leaving_out_the_sync_of_a_new_space_is_found),
        cmocka_unit_test(leaving_out_recoverys_syncs_is_found),
        cmocka_unit_test(leaving_out_either_syncfs_is_found),
        cmocka_unit_test(any_operation_may_fail_once),
        cmocka_unit_test(any_allocation_may_fail_once),
    };

    tier_long = getenv("KEEL_TEST_LONG") != NULL;
    log_open(-1, LOG_ERROR); /* the faults are ordered */
    return cmocka_run_group_tests(tests, NULL, NULL);
}
