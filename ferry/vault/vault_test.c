/* SPDX-License-Identifier: MIT */
/* What the vault does for those who use it, crashes aside (publish_test.c). */
#include <errno.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdatomic.h>
#include <stddef.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include <cmocka.h>

#include <keel/co.h>
#include <keel/file.h>
#include <keel/thread.h>

#include "base/log.h"
#include "vault_inside.h"
#include "sim/disk.h"
#include "world_test.h"

enum { LARGE = 2 * CHUNK_BYTES + 4321 };

/* ---- worlds ---------------------------------------------------------------------- */

static void open_or_say(struct world *w, int data)
{
    struct problem why;
    char words[400];

    if (world_open(w, data, &why) < 0) {
        problem_sentence(&why, words, sizeof words);
        fail_msg("open: %s", words);
    }
}

/* A layer before the test disk and the clock, there before any thread is and
 * told what to do by an atomic. */
enum trick { HONEST, NO_TMPFILE, GONE_FIRST, TAKEN_FIRST, BAD_FILES, BAD_DIRS };
static struct {
    const struct keel_disk *disk;
    struct keel_disk table;
    _Atomic int trick;
    _Atomic int home;
    _Atomic unsigned taken;
    int64_t (*wall)(void);
    _Atomic int64_t future_ns;
} layer;

static int layer_open(int dir, const char *path, const struct open_how *how)
{
    if (layer.trick == NO_TMPFILE && (how->flags & O_TMPFILE) == O_TMPFILE)
        return -EOPNOTSUPP;
    /* Somebody removes the directory just before us: as ext4 answers. */
    if (layer.trick == GONE_FIRST && (how->flags & O_TMPFILE) == O_TMPFILE) {
        (void)layer.disk->unlinkat(layer.home, "dir", AT_REMOVEDIR);
        return -EPERM;
    }
    return layer.disk->openat2(dir, path, how);
}

/* Somebody makes a file of that name just before us. */
static int layer_linkfd(int fd, int to_dir, const char *to)
{
    struct open_how how = {.flags = O_CREAT | O_WRONLY, .mode = 0600};

    if (layer.trick == TAKEN_FIRST && !layer.taken++)
        (void)layer.disk->close(layer.disk->openat2(to_dir, to, &how));
    return layer.disk->linkfd(fd, to_dir, to);
}

static bool is_bad(int fd)
{
    struct statx x;

    if (layer.trick != BAD_FILES && layer.trick != BAD_DIRS)
        return false;
    if (layer.disk->statx(fd, "", AT_EMPTY_PATH, STATX_BASIC_STATS, &x) < 0)
        return false;
    return layer.trick == BAD_DIRS ? S_ISDIR(x.stx_mode)
                                   : S_ISREG(x.stx_mode) && x.stx_size == LARGE;
}

static int layer_fsync(int fd)
{
    return is_bad(fd) ? -EIO : layer.disk->fsync(fd);
}

static int layer_fdatasync(int fd)
{
    return is_bad(fd) ? -EIO : layer.disk->fdatasync(fd);
}

static int64_t layer_wall(void)
{
    return layer.wall() + layer.future_ns;
}

static void layer_on(void)
{
    layer.disk = keel_seam.disk;
    layer.table = *layer.disk;
    layer.table.openat2 = layer_open;
    layer.table.linkfd = layer_linkfd;
    layer.table.fsync = layer_fsync;
    layer.table.fdatasync = layer_fdatasync;
    layer.wall = keel_seam.wall_ns;
    layer.trick = HONEST;
    layer.future_ns = 0;
    layer.taken = 0;
    keel_seam.disk = &layer.table;
    keel_seam.wall_ns = layer_wall;
}

static void layer_off(void)
{
    keel_seam.disk = layer.disk;
    keel_seam.wall_ns = layer.wall;
}

static int on_test_disk(void **state)
{
    static struct world w;

    test_disk_install((uint64_t)64 << 20);
    layer_on();
    open_or_say(&w, world_test_data());
    *state = &w;
    return 0;
}

static int off_test_disk(void **state)
{
    world_close(*state);
    layer_off();
    test_disk_remove();
    return 0;
}

/* On the real disk, for what the test disk has not: links and races. */
static char real_path[64];
static int on_real_disk(void **state)
{
    static struct world w;

    strcpy(real_path, "/tmp/vault-test-XXXXXX");
    if (!mkdtemp(real_path))
        return -1;
    open_or_say(&w, keel_file_open_any(real_path, O_RDONLY | O_DIRECTORY, 0));
    *state = &w;
    return 0;
}

static void remove_tree(int dir);
struct removing {
    int dir;
    char names[256][256];
    unsigned count;
};

static int removing_keep(const char *name, unsigned char type, void *arg)
{
    struct removing *r = arg;

    (void)type;
    if (r->count < 256)
        (void)snprintf(r->names[r->count++], 256, "%s", name);
    return 0;
}

static void remove_entry(int dir, const char *name)
{
    int below;

    if (keel_file_unlink(dir, name) == 0)
        return;
    below = keel_file_open(dir, name, O_RDONLY | O_DIRECTORY, 0);
    if (below < 0)
        return;
    remove_tree(below);
    keel_file_close(below);
    (void)keel_file_rmdir(dir, name);
}

static void remove_tree(int dir)
{
    struct removing *r = keel_alloc(sizeof *r);

    keel_assert(r);
    do {
        r->count = 0;
        (void)keel_file_list(dir, removing_keep, r);
        for (unsigned i = 0; i < r->count; i++)
            remove_entry(dir, r->names[i]);
    } while (r->count == 256);
    keel_free(r);
}

static int off_real_disk(void **state)
{
    int dir;

    world_close(*state);
    dir = keel_file_open_any(real_path, O_RDONLY | O_DIRECTORY, 0);
    remove_tree(dir);
    keel_file_close(dir);
    return rmdir(real_path);
}

/* The directory of the account's home. */
static int home_dir(struct world *w)
{
    struct ledger_space s;
    int fd;

    assert_int_equal(ledger_space_get(w->ledger, w->who.home, &s, NULL), 0);
    fd = store_dir(w->vault->store, s.dir, "", 0);
    assert_true(fd >= 0);
    return fd;
}

static void home_mkdir(struct world *w, const char *name)
{
    keel_auto(file) int home = home_dir(w);

    assert_int_equal(keel_file_mkdir(home, name, 0700), 0);
}

static void home_write(struct world *w, const char *name, unsigned tag,
                       size_t size)
{
    keel_auto(file) int home = home_dir(w);
    keel_auto(file) int fd =
        keel_file_open(home, name, O_WRONLY | O_CREAT | O_TRUNC, 0600);
    keel_auto(mem) void *bytes = keel_alloc(size + 8);

    assert_true(fd >= 0);
    assert_non_null(bytes);
    content_fill(tag, 0, bytes, size);
    assert_int_equal(keel_file_write(fd, bytes, size, 0), 0);
}

static void old_times(struct world *w)
{
    (void)w;
    (void)keel_sleep(keel_after(3 * CLOCK_TICK));
}

static int put(struct world *w, const char *path, unsigned tag, uint64_t size,
               struct problem *why)
{
    struct world_put p = {
        .path = path, .tag = tag, .size = size, .level = VAULT_COMMITTED};

    return world_put(w, &p, why);
}

static void must_put(struct world *w, const char *path, unsigned tag,
                     uint64_t size)
{
    struct problem why;
    char words[300];

    if (put(w, path, tag, size, &why) == 0)
        return;
    problem_sentence(&why, words, sizeof words);
    fail_msg("put %s: %s", path, words);
}

static void must_refuse(struct world *w, const struct world_put *p,
                        enum problem_id id)
{
    struct problem why = {.id = PROBLEM_NONE};

    assert_true(world_put(w, p, &why) < 0);
    assert_int_equal(why.id, id);
}

static struct vault_entry entry_of(struct world *w, const char *text)
{
    struct vault_entry e;
    struct path path;

    assert_int_equal(world_path(text, &path), 0);
    assert_int_equal(vault_stat(w->vault, &w->who, 0, &path, &e, NULL), 0);
    return e;
}

static enum problem_id hash_of(struct world *w, const char *text,
                               enum chunk_hash hash, struct digest *ret)
{
    struct problem why = {.id = PROBLEM_NONE};
    struct path path;
    uint64_t size;

    assert_int_equal(world_path(text, &path), 0);
    (void)vault_hash(w->vault, &w->who, 0, &path, hash, ret, &size, &why);
    if (why.id == PROBLEM_NONE)
        assert_int_equal(size, entry_of(w, text).size);
    return why.id;
}

static struct vault_put draft_request(struct path *path, const char *text,
                                      uint64_t size)
{
    assert_int_equal(world_path(text, path), 0);
    return (struct vault_put){
        .path = path, .size = size, .hash = CHUNK_XXH128, .mode = 0600};
}

static int count_one(const uint8_t id[DRAFT_ID_BYTES], void *arg)
{
    unsigned *count = arg;

    (void)id;
    ++*count;
    return 0;
}

static unsigned names_in_drafts(struct world *w)
{
    unsigned count = 0;

    /* a journal is removed after the acknowledgement */
    committer_drain(w->vault->committer);
    assert_int_equal(store_draft_each(w->vault->store, count_one, &count), 0);
    return count;
}

static int64_t reserved(struct world *w)
{
    struct ledger_space s;

    assert_int_equal(ledger_space_get(w->ledger, w->who.home, &s, NULL), 0);
    return s.reserved_bytes;
}

/* ---- uploads ------------------------------------------------------------------------ */

static void what_was_put_is_read_back(void **state)
{
    struct world *w = *state;
    struct vault_entry e;
    struct digest root = content_root(2, LARGE, CHUNK_XXH128);

    must_put(w, "/small", 1, 1000);
    must_put(w, "/large", 2, LARGE);
    must_put(w, "/empty", 3, 0);
    assert_int_equal(world_holds(w, "small", 1, 1000), 1);
    assert_int_equal(world_holds(w, "large", 2, LARGE), 1);
    assert_int_equal(world_holds(w, "empty", 3, 0), 1);
    committer_drain(w->vault->committer);
    old_times(w);
    e = entry_of(w, "/large");
    assert_string_equal(e.name, "large");
    assert_int_equal(e.type, 'f');
    assert_int_equal(e.size, LARGE);
    assert_int_equal(e.mtime_ns, 1000000000000000002);
    assert_int_equal(e.mode, 0644);
    assert_int_equal(e.hash, CHUNK_XXH128);
    assert_memory_equal(&e.root, &root, sizeof root);
    assert_int_equal(names_in_drafts(w), 0);
    assert_int_equal(reserved(w), 0);
}

static void a_put_replaces(void **state)
{
    struct world *w = *state;

    must_put(w, "/name", 1, 1000);
    must_put(w, "/name", 2, 500);
    assert_int_equal(world_holds(w, "name", 2, 500), 1);
    must_put(w, "/name", 3, LARGE);
    assert_int_equal(world_holds(w, "name", 3, LARGE), 1);
    must_put(w, "/name", 4, 7);
    assert_int_equal(world_holds(w, "name", 4, 7), 1);
    assert_int_equal(names_in_drafts(w), 0);
}

static void the_parent_must_be_a_directory(void **state)
{
    struct world *w = *state;

    must_put(w, "/file", 1, 10);
    home_mkdir(w, "dir");
    must_put(w, "/dir/file", 2, 10);
    assert_int_equal(world_holds(w, "dir/file", 2, 10), 1);
    must_refuse(w, &(struct world_put){.path = "/none/x"},
                PROBLEM_FILE_MISSING);
    must_refuse(w, &(struct world_put){.path = "/file/x"},
                PROBLEM_FILE_NOT_DIRECTORY);
    must_refuse(w, &(struct world_put){.path = "/dir"},
                PROBLEM_FILE_IS_DIRECTORY);
    must_refuse(w, &(struct world_put){.path = "/dir", .size = LARGE},
                PROBLEM_FILE_IS_DIRECTORY);
    must_refuse(w, &(struct world_put){.path = "/"}, PROBLEM_FILE_IS_DIRECTORY);
    assert_int_equal(names_in_drafts(w), 0);
}

static void conditions_are_kept(void **state)
{
    struct world *w = *state;
    struct digest one = content_root(1, 10, CHUNK_XXH128);
    struct digest two = content_root(2, 10, CHUNK_XXH128);
    struct world_put p = {.path = "/name",
                          .tag = 1,
                          .size = 10,
                          .level = VAULT_COMMITTED,
                          .no_replace = true};

    assert_int_equal(world_put(w, &p, NULL), 0);
    must_refuse(w, &p, PROBLEM_FILE_EXISTS);
    p.no_replace = false;
    p.match = &two;
    must_refuse(w, &p, PROBLEM_FILE_MATCH);
    p.match = &one;
    p.tag = 2;
    assert_int_equal(world_put(w, &p, NULL), 0);
    must_refuse(w, &p, PROBLEM_FILE_MATCH);
    p.path = "/none";
    must_refuse(w, &p, PROBLEM_FILE_MATCH);
    /* a file that the ledger does not know is read for it */
    home_write(w, "foreign", 1, 10);
    p.path = "/foreign";
    assert_int_equal(world_put(w, &p, NULL), 0);
    assert_int_equal(world_holds(w, "foreign", 2, 10), 1);
}

static void a_cut_put_continues(void **state)
{
    struct world *w = *state;
    struct world_put p = {.path = "/large",
                          .tag = 1,
                          .size = LARGE,
                          .level = VAULT_COMMITTED,
                          .stop = 2};
    struct path path;
    struct vault_put again = draft_request(&path, "/large", LARGE);
    struct draft *d, *second;
    struct problem why;

    assert_int_equal(world_put(w, &p, NULL), 0);
    assert_int_equal(reserved(w), LARGE);
    again.source[0] = 1;
    again.mtime_ns = 1000000000000000001;
    assert_int_equal(vault_draft_open(w->vault, &w->who, &again, &d, NULL), 0);
    assert_int_equal(part_missing(draft_part(d), 0), 2);
    assert_int_equal(vault_draft_open(w->vault, &w->who, &again, &second, &why),
                     -EBUSY);
    assert_int_equal(why.id, PROBLEM_FILE_BUSY);
    draft_close(d);
    p.stop = 0;
    assert_int_equal(world_put(w, &p, NULL), 0);
    assert_int_equal(world_holds(w, "large", 1, LARGE), 1);
    assert_int_equal(reserved(w), 0);
    assert_int_equal(names_in_drafts(w), 0);
}

/* The holder of a draft waits on a line that is dead. */
struct holding {
    struct world *world;
    struct draft *draft;
    struct keel_event held;
    int result;
};

static int hold_draft(void *arg)
{
    struct holding *h = arg;
    struct keel_event never;
    struct path path;
    struct vault_put put = draft_request(&path, "/large", LARGE);

    put.holder = keel_current();
    h->result = vault_draft_open(h->world->vault, &h->world->who, &put,
                                 &h->draft, NULL);
    keel_event_set(&h->held);
    if (h->result < 0)
        return h->result;
    keel_event_init(&never);
    h->result = keel_event_wait(&never, keel_after(60 * KEEL_SECOND));
    draft_close(h->draft);
    return 0;
}

static int take_over(void *arg)
{
    struct holding *h = arg;
    struct keel_co *co;
    struct path path;
    struct vault_put put = draft_request(&path, "/large", LARGE);
    struct draft *d;
    int rc;

    keel_event_init(&h->held);
    assert_int_equal(keel_spawn(NULL, hold_draft, h, &co), 0);
    assert_int_equal(keel_event_wait(&h->held, KEEL_FOREVER), 0);
    assert_int_equal(h->result, 0);
    rc = vault_draft_open(h->world->vault, &h->world->who, &put, &d, NULL);
    assert_int_equal(rc, 0);
    assert_int_equal(draft_drop(d, NULL), 0);
    assert_int_equal(keel_join(co, KEEL_FOREVER, NULL), 0);
    return 0;
}

static void the_same_sender_again_takes_its_draft_over(void **state)
{
    struct world *w = *state;
    struct holding h = {.world = w};

    assert_int_equal(keel_run(take_over, &h), 0);
    assert_int_equal(h.result, -ECANCELED);
    assert_int_equal(names_in_drafts(w), 0);
}

static void a_draft_survives_a_restart_and_can_be_dropped(void **state)
{
    struct world *w = *state;
    struct world_put p = {.path = "/large", .tag = 1, .size = LARGE, .stop = 2};
    struct path path;
    struct vault_put again = draft_request(&path, "/large", LARGE);
    struct draft *d;

    assert_int_equal(world_put(w, &p, NULL), 0);
    world_close(w);
    open_or_say(w, world_test_data());
    again.source[0] = 1;
    again.mtime_ns = 1000000000000000001;
    assert_int_equal(vault_draft_open(w->vault, &w->who, &again, &d, NULL), 0);
    assert_int_equal(part_missing(draft_part(d), 0), 2);
    assert_int_equal(draft_drop(d, NULL), 0);
    assert_int_equal(reserved(w), 0);
    assert_int_equal(names_in_drafts(w), 0);
}

/* From 16 MiB on its names are worth two syncs of directories. */
static void a_large_draft_survives_a_power_cut(void **state)
{
    struct world *w = *state;
    uint64_t size = 17 * CHUNK_BYTES;
    struct world_put large = {.path = "/large", .size = size, .stop = 1};
    struct world_put less = {.path = "/less", .size = LARGE, .stop = 1};

    assert_int_equal(world_put(w, &large, NULL), 0);
    assert_int_equal(world_put(w, &less, NULL), 0);
    world_close(w);
    test_disk_reboot(TEST_DISK_KEEP_NONE);
    open_or_say(w, world_test_data());
    assert_int_equal(reserved(w), size);
    assert_int_equal(names_in_drafts(w), 2);
}

static void drafts_expire(void **state)
{
    struct world *w = *state;
    struct world_put p = {.path = "/large", .tag = 1, .size = LARGE, .stop = 1};

    assert_int_equal(world_put(w, &p, NULL), 0);
    assert_int_equal(vault_expire(w->vault, NULL), 0);
    assert_int_equal(names_in_drafts(w), 2);
    layer.future_ns = (int64_t)8 * 24 * 3600 * KEEL_SECOND;
    assert_int_equal(vault_expire(w->vault, NULL), 1);
    assert_int_equal(names_in_drafts(w), 0);
    assert_int_equal(reserved(w), 0);
}

static void a_wrong_root_is_refused_and_the_draft_stays(void **state)
{
    struct world *w = *state;
    struct path path;
    struct vault_put request = draft_request(&path, "/name", 100);
    struct digest root = content_root(1, 100, CHUNK_XXH128);
    struct digest wrong = content_root(2, 100, CHUNK_XXH128);
    struct draft *d;
    struct buffer *b;
    struct problem why;

    assert_int_equal(vault_draft_open(w->vault, &w->who, &request, &d, NULL),
                     0);
    assert_true(draft_publish(d, &root, VAULT_COMMITTED, &why) < 0);
    assert_int_equal(why.id, PROBLEM_TRANSFER_INCOMPLETE);
    assert_int_equal(buffer_take(vault_buffers(w->vault), KEEL_FOREVER, &b), 0);
    content_fill(1, 0, b->bytes, 100);
    assert_int_equal(part_write(draft_part(d), 0, b, NULL), 0);
    buffer_give(b);
    assert_true(draft_publish(d, &wrong, VAULT_COMMITTED, &why) < 0);
    assert_int_equal(why.id, PROBLEM_TRANSFER_DAMAGED);
    assert_int_equal(draft_publish(d, &root, VAULT_COMMITTED, NULL), 0);
    assert_int_equal(world_holds(w, "name", 1, 100), 1);
}

static void a_lower_level_is_published_all_the_same(void **state)
{
    struct world *w = *state;
    struct world_put p = {.path = "/received", .tag = 1, .size = 100};

    assert_int_equal(world_put(w, &p, NULL), 0);
    p.path = "/synced";
    p.level = VAULT_SYNCED;
    assert_int_equal(world_put(w, &p, NULL), 0);
    committer_drain(w->vault->committer);
    assert_int_equal(world_holds(w, "received", 1, 100), 1);
    assert_int_equal(world_holds(w, "synced", 1, 100), 1);
}

static void the_quota_refuses_at_the_start(void **state)
{
    struct world *w = *state;
    struct world_put p = {.path = "/a", .size = 600, .level = VAULT_COMMITTED};

    assert_int_equal(ledger_space_quota(w->ledger, w->who.home, 1000, 2, NULL),
                     0);
    assert_int_equal(world_put(w, &p, NULL), 0);
    p.path = "/b";
    must_refuse(w, &p, PROBLEM_QUOTA_BYTES);
    p.size = LARGE;
    must_refuse(w, &p, PROBLEM_QUOTA_BYTES);
    p.size = 10;
    assert_int_equal(world_put(w, &p, NULL), 0);
    p.path = "/c";
    must_refuse(w, &p, PROBLEM_QUOTA_FILES);
    assert_int_equal(names_in_drafts(w), 0);
}

static void a_full_disk_refuses_at_the_start(void **state)
{
    struct world *w = *state;
    struct world_put p = {.path = "/a", .size = (uint64_t)100 << 20};

    must_refuse(w, &p, PROBLEM_DISK_FULL);
    assert_int_equal(names_in_drafts(w), 0);
    assert_int_equal(reserved(w), 0);
}

/* It appears where its path leads when it is published. */
static void a_parent_that_moved_is_not_followed(void **state)
{
    struct world *w = *state;
    keel_auto(file) int home = home_dir(w);
    struct path path;
    struct vault_put request;
    struct digest root = content_root(1, 100, CHUNK_XXH128);
    struct draft *d;
    struct buffer *b;

    home_mkdir(w, "dir");
    request = draft_request(&path, "/dir/name", 100);
    assert_int_equal(vault_draft_open(w->vault, &w->who, &request, &d, NULL),
                     0);
    assert_int_equal(buffer_take(vault_buffers(w->vault), KEEL_FOREVER, &b), 0);
    content_fill(1, 0, b->bytes, 100);
    assert_int_equal(part_write(draft_part(d), 0, b, NULL), 0);
    buffer_give(b);
    assert_int_equal(keel_file_rename(home, "dir", home, "moved", 0), 0);
    home_mkdir(w, "dir");
    assert_int_equal(draft_publish(d, &root, VAULT_COMMITTED, NULL), 0);
    assert_int_equal(world_holds(w, "dir/name", 1, 100), 1);
    assert_int_equal(world_holds(w, "moved/name", 1, 100), -ENOENT);
}

/* ---- disks with a will of their own ---------------------------------------------------- */

static void a_file_system_without_nameless_files_will_do(void **state)
{
    struct world *w = *state;

    layer.trick = NO_TMPFILE;
    must_put(w, "/small", 1, 100);
    must_put(w, "/small", 2, 200);
    assert_int_equal(world_holds(w, "small", 2, 200), 1);
    assert_int_equal(names_in_drafts(w), 0);
    assert_int_equal(reserved(w), 0);
}

static void a_directory_removed_in_between_is_missing(void **state)
{
    struct world *w = *state;
    keel_auto(file) int home = world_home_dir(w);
    struct world_put p = {.path = "/dir/name", .tag = 1, .size = 100};

    home_mkdir(w, "dir");
    layer.home = home;
    layer.trick = GONE_FIRST;
    must_refuse(w, &p, PROBLEM_FILE_MISSING);
    assert_int_equal(reserved(w), 0);
}

static void a_name_taken_in_between_is_replaced_all_the_same(void **state)
{
    struct world *w = *state;
    struct world_put p = {.path = "/other",
                          .tag = 2,
                          .size = 100,
                          .level = VAULT_COMMITTED,
                          .no_replace = true};
    struct ledger_space s;

    layer.trick = TAKEN_FIRST;
    must_put(w, "/name", 1, 100);
    assert_int_equal(world_holds(w, "name", 1, 100), 1);
    layer.taken = 0;
    must_refuse(w, &p, PROBLEM_FILE_EXISTS);
    assert_int_equal(names_in_drafts(w), 0);
    assert_int_equal(ledger_space_get(w->ledger, w->who.home, &s, NULL), 0);
    assert_int_equal(s.used_bytes, 100);
    assert_int_equal(s.used_files, 1);
}

static void a_failed_sync_is_for_good(void **state)
{
    struct world *w = *state;
    struct world_put p = {
        .path = "/large", .tag = 1, .size = LARGE, .level = VAULT_COMMITTED};

    layer.trick = BAD_FILES;
    must_refuse(w, &p, PROBLEM_SYNC_FAILED);
    layer.trick = HONEST;
    assert_int_equal(names_in_drafts(w), 0);
    assert_int_equal(reserved(w), 0);
    /* it starts afresh */
    assert_int_equal(world_put(w, &p, NULL), 0);
    assert_int_equal(world_holds(w, "large", 1, LARGE), 1);
}

static void a_name_that_cannot_be_synced_waits_for_a_restart(void **state)
{
    struct world *w = *state;
    struct world_put p = {
        .path = "/name", .tag = 2, .size = 100, .level = VAULT_COMMITTED};

    must_put(w, "/name", 1, 50);
    committer_drain(w->vault->committer);
    layer.trick = BAD_DIRS;
    must_refuse(w, &p, PROBLEM_SYNC_FAILED);
    layer.trick = HONEST;
    must_refuse(w, &p, PROBLEM_SYNC_FAILED);
    world_close(w);
    open_or_say(w, world_test_data());
    assert_int_equal(world_holds(w, "name", 2, 100), 1);
    must_put(w, "/name", 3, 70);
}

/* ---- reading ------------------------------------------------------------------------------ */

static void a_list_is_ordered_and_comes_in_pages(void **state)
{
    struct world *w = *state;
    enum { FILES = 700, PAGE = 64 };
    struct vault_entry *page = keel_calloc(PAGE, sizeof *page);
    char last[NAME_BYTES + 1] = "";
    struct path root;
    unsigned seen = 0;
    int count;

    assert_non_null(page);
    for (unsigned i = 0; i < FILES; i++) {
        char name[20];

        (void)snprintf(name, sizeof name, "f%u", i * 7919 % FILES);
        home_write(w, name, i, 1);
    }
    home_mkdir(w, "a");
    assert_int_equal(world_path("/", &root), 0);
    while ((count = vault_list(w->vault, &w->who, 0, &root, last, page, PAGE,
                               NULL)) > 0) {
        for (int i = 0; i < count; i++) {
            assert_true(strcmp(last, page[i].name) < 0);
            strcpy(last, page[i].name);
            assert_int_equal(page[i].type, strcmp(last, "a") ? 'f' : 'd');
            seen++;
        }
    }
    assert_int_equal(count, 0);
    assert_int_equal(seen, FILES + 1);
    /* a file lists itself */
    assert_int_equal(world_path("/f1", &root), 0);
    assert_int_equal(
        vault_list(w->vault, &w->who, 0, &root, "", page, PAGE, NULL), 1);
    assert_string_equal(page[0].name, "f1");
    assert_int_equal(
        vault_list(w->vault, &w->who, 0, &root, "f1", page, PAGE, NULL), 0);
    keel_free(page);
}

static void a_digest_is_computed_once_and_believed_while_it_holds(void **state)
{
    struct world *w = *state;
    struct digest root, expected = content_root(1, 5000, CHUNK_SHA256);
    struct ledger_file row;

    home_write(w, "f", 1, 5000);
    old_times(w);
    assert_int_equal(entry_of(w, "/f").hash, 0);
    assert_int_equal(hash_of(w, "/f", CHUNK_SHA256, &root), PROBLEM_NONE);
    assert_memory_equal(&root, &expected, sizeof root);
    assert_int_equal(ledger_file_get(w->ledger, w->who.home, "f", &row, NULL),
                     0);
    assert_int_equal(entry_of(w, "/f").hash, CHUNK_SHA256);
    /* another kind is computed, and does not displace the first */
    expected = content_root(1, 5000, CHUNK_XXH128);
    assert_int_equal(hash_of(w, "/f", CHUNK_XXH128, &root), PROBLEM_NONE);
    assert_memory_equal(&root, &expected, sizeof root);
    assert_int_equal(entry_of(w, "/f").hash, CHUNK_SHA256);
    home_write(w, "f", 2, 5000);
    assert_int_equal(entry_of(w, "/f").hash, 0);
    expected = content_root(2, 5000, CHUNK_SHA256);
    assert_int_equal(hash_of(w, "/f", CHUNK_SHA256, &root), PROBLEM_NONE);
    assert_memory_equal(&root, &expected, sizeof root);
    assert_int_equal(hash_of(w, "/none", CHUNK_SHA256, &root),
                     PROBLEM_FILE_MISSING);
    assert_int_equal(hash_of(w, "/", CHUNK_SHA256, &root),
                     PROBLEM_FILE_IS_DIRECTORY);
}

/* ---- links and races, on the real disk ----------------------------------------------------- */

static void links_are_never_followed(void **state)
{
    struct world *w = *state;
    keel_auto(file) int home = home_dir(w);
    struct world_put p = {.path = "/link/x", .level = VAULT_COMMITTED};
    struct vault_entry e;
    struct digest root;

    assert_int_equal(symlinkat("/tmp", home, "link"), 0);
    assert_int_equal(symlinkat("/etc/passwd", home, "file"), 0);
    must_refuse(w, &p, PROBLEM_FILE_ESCAPES);
    p.path = "/file";
    must_refuse(w, &p, PROBLEM_FILE_ESCAPES);
    p.size = LARGE;
    must_refuse(w, &p, PROBLEM_FILE_ESCAPES);
    e = entry_of(w, "/file");
    assert_int_equal(e.type, 'l');
    vault_entry_fini(&e);
    assert_int_equal(hash_of(w, "/file", CHUNK_SHA256, &root),
                     PROBLEM_FILE_ESCAPES);
    assert_int_equal(hash_of(w, "/link/x", CHUNK_SHA256, &root),
                     PROBLEM_FILE_ESCAPES);
    assert_int_equal(mkfifoat(home, "fifo", 0600), 0);
    assert_int_equal(hash_of(w, "/fifo", CHUNK_SHA256, &root),
                     PROBLEM_FILE_NOT_REGULAR);
    p.path = "/fifo";
    must_refuse(w, &p, PROBLEM_FILE_NOT_REGULAR);
}

struct swapping {
    int home;
    _Atomic bool stop;
    _Atomic unsigned swaps;
};

static int swap(void *arg)
{
    struct swapping *s = arg;

    while (!s->stop) {
        (void)keel_file_rename(s->home, "dir", s->home, "trap",
                               2 /* RENAME_EXCHANGE */);
        s->swaps++;
    }
    return 0;
}

static int nothing_here(const char *name, unsigned char type, void *arg)
{
    (void)type;
    (void)arg;
    return !strcmp(name, "secret") ? 0 : 1;
}

/* For a second a directory and a link to the outside change places: nothing is
 * put outside and nothing is read from there. */
static void a_directory_swapped_for_a_link_leads_nowhere(void **state)
{
    struct world *w = *state;
    keel_auto(file) int home = home_dir(w);
    struct swapping s = {.home = home};
    struct keel_thread *thread;
    char outside[100], name[40];
    unsigned done = 0, refused = 0;
    keel_ns end;
    int dir, fd;

    (void)snprintf(outside, sizeof outside, "%s/outside", real_path);
    assert_int_equal(mkdir(outside, 0700), 0);
    dir = keel_file_open_any(outside, O_RDONLY | O_DIRECTORY, 0);
    fd = keel_file_open(dir, "secret", O_CREAT | O_WRONLY, 0600);
    keel_file_close(fd);
    home_mkdir(w, "dir");
    home_write(w, "dir/secret", 9, 100);
    assert_int_equal(symlinkat(outside, home, "trap"), 0);
    assert_int_equal(keel_thread_start("swap", swap, &s, &thread), 0);
    end = keel_after(KEEL_SECOND);
    for (unsigned i = 0; keel_now() < end; i++) {
        (void)snprintf(name, sizeof name, "/dir/f%u", i);
        if (put(w, name, i, 100, NULL) == 0)
            done++;
        else
            refused++;
        int got = world_holds(w, "dir/secret", 9, 100);

        assert_true(got != 0); /* inside, or refused */
    }
    s.stop = true;
    assert_int_equal(keel_thread_join(thread, KEEL_FOREVER, NULL), 0);
    print_message("%u swaps, %u put, %u refused\n", s.swaps, done, refused);
    assert_true(done > 0 && refused > 0);
    assert_int_equal(keel_file_list(dir, nothing_here, NULL), 0);
    keel_file_close(dir);
    assert_int_equal(names_in_drafts(w), 0);
}

/* ---- in coroutines ------------------------------------------------------------------------------ */

struct cancelling {
    struct world *world;
    struct problem why;
    int rc;
};

static int put_slowly(void *arg)
{
    struct cancelling *c = arg;

    c->rc = put(c->world, "/name", 1, 100, &c->why);
    return c->rc;
}

static int cancel_one(void *arg)
{
    struct cancelling *c = arg;
    struct committer *committer = c->world->vault->committer;
    struct keel_co *co;
    int rc;

    committer_hold(committer, true);
    assert_int_equal(keel_spawn(NULL, put_slowly, c, &co), 0);
    while (committer_waiting(committer) == 0)
        keel_yield();
    keel_cancel(co);
    assert_int_equal(keel_join(co, KEEL_FOREVER, &rc), 0);
    committer_hold(committer, false);
    return 0;
}

static void an_upload_is_cancelled_while_it_waits(void **state)
{
    struct cancelling c = {.world = *state};

    assert_int_equal(keel_run(cancel_one, &c), 0);
    assert_int_equal(c.rc, -ECANCELED);
    assert_int_equal(c.why.id, PROBLEM_CANCELLED);
    must_put(*state, "/name", 2, 100);
    assert_int_equal(world_holds(*state, "name", 2, 100), 1);
}

struct crowd {
    struct world *world;
    unsigned number;
    int rc;
};

static int crowd_put(void *arg)
{
    struct crowd *c = arg;
    char name[20];

    (void)snprintf(name, sizeof name, "/n%u", c->number % 20);
    c->rc = put(c->world, name, c->number % 20, 50 + c->number % 20, NULL);
    return 0;
}

static int crowd_run(void *arg)
{
    static struct crowd members[60];
    struct keel_group *g;

    assert_int_equal(keel_group_new(0, &g), 0);
    for (unsigned i = 0; i < 60; i++) {
        members[i] = (struct crowd){.world = arg, .number = i, .rc = 1};
        assert_int_equal(keel_spawn(&(struct keel_spawn){.group = g}, crowd_put,
                                    &members[i], NULL),
                         0);
    }
    assert_int_equal(keel_group_join(g, KEEL_FOREVER), 0);
    keel_group_free(g);
    for (unsigned i = 0; i < 60; i++)
        assert_int_equal(members[i].rc, 0);
    return 0;
}

static void sixty_coroutines_publish_twenty_names(void **state)
{
    struct world *w = *state;

    assert_int_equal(keel_run(crowd_run, w), 0);
    for (unsigned i = 0; i < 20; i++) {
        char name[20];

        (void)snprintf(name, sizeof name, "n%u", i);
        assert_int_equal(world_holds(w, name, i, 50 + i), 1);
    }
    assert_int_equal(names_in_drafts(w), 0);
}

#define ON_TEST_DISK(t)                                                        \
    cmocka_unit_test_setup_teardown(t, on_test_disk, off_test_disk)
#define ON_REAL_DISK(t)                                                        \
    cmocka_unit_test_setup_teardown(t, on_real_disk, off_real_disk)

int main(void)
{
    const struct CMUnitTest tests[] = {
        ON_TEST_DISK(what_was_put_is_read_back),
        ON_REAL_DISK(what_was_put_is_read_back),
        ON_TEST_DISK(a_put_replaces),
        ON_REAL_DISK(the_same_sender_again_takes_its_draft_over),
        ON_TEST_DISK(the_same_sender_again_takes_its_draft_over),
        ON_REAL_DISK(a_put_replaces),
        ON_TEST_DISK(the_parent_must_be_a_directory),
        ON_REAL_DISK(the_parent_must_be_a_directory),
        ON_TEST_DISK(conditions_are_kept),
        ON_TEST_DISK(a_cut_put_continues),
        ON_REAL_DISK(a_cut_put_continues),
        ON_TEST_DISK(a_draft_survives_a_restart_and_can_be_dropped),
        ON_TEST_DISK(a_large_draft_survives_a_power_cut),
        ON_TEST_DISK(drafts_expire),
        ON_TEST_DISK(a_wrong_root_is_refused_and_the_draft_stays),
        ON_TEST_DISK(a_parent_that_moved_is_not_followed),
        ON_TEST_DISK(a_lower_level_is_published_all_the_same),
        ON_TEST_DISK(the_quota_refuses_at_the_start),
        ON_TEST_DISK(a_full_disk_refuses_at_the_start),
        ON_TEST_DISK(a_file_system_without_nameless_files_will_do),
        ON_TEST_DISK(a_directory_removed_in_between_is_missing),
        ON_TEST_DISK(a_name_taken_in_between_is_replaced_all_the_same),
        ON_TEST_DISK(a_failed_sync_is_for_good),
        ON_TEST_DISK(a_name_that_cannot_be_synced_waits_for_a_restart),
        ON_TEST_DISK(a_list_is_ordered_and_comes_in_pages),
        ON_TEST_DISK(a_digest_is_computed_once_and_believed_while_it_holds),
        ON_REAL_DISK(a_digest_is_computed_once_and_believed_while_it_holds),
        ON_REAL_DISK(links_are_never_followed),
        ON_REAL_DISK(a_directory_swapped_for_a_link_leads_nowhere),
        ON_TEST_DISK(an_upload_is_cancelled_while_it_waits),
        ON_TEST_DISK(sixty_coroutines_publish_twenty_names),
        ON_REAL_DISK(sixty_coroutines_publish_twenty_names),
    };

    log_open(-1, LOG_ERROR); /* what goes wrong here is ordered */
    return cmocka_run_group_tests(tests, NULL, NULL);
}
