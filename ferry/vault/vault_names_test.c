/* SPDX-License-Identifier: MIT */
/* Directories, links, times, moving and removing; crashes aside. */
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
#include <keel/seam.h>
#include <keel/thread.h>

#include "base/log.h"
#include "vault_inside.h"
#include "world_test.h"

static char real_path[64];
static struct problem why;

static int setup(void **state)
{
    static struct world w;

    if (world_open(&w, world_real_data(real_path), &why) < 0)
        return -1;
    *state = &w;
    return 0;
}

static int teardown(void **state)
{
    struct world *w = *state;

    assert_int_equal(world_findings(w, w->who.home), 0);
    assert_int_equal(ledger_check(w->ledger, &why), 0);
    world_close(w);
    return world_real_remove(real_path);
}

/* ---- in short --------------------------------------------------------------------- */

static struct path path_of(const char *text)
{
    struct path p;

    assert_int_equal(world_path(text, &p), 0);
    return p;
}

static int make(struct world *w, const char *text, bool parents)
{
    struct path p = path_of(text);

    return vault_mkdir(w->vault, &w->who, 0, &p, 0755, parents, &why);
}

static int put(struct world *w, const char *text, unsigned tag, uint64_t size)
{
    struct world_put p = {
        .path = text, .tag = tag, .size = size, .level = VAULT_COMMITTED};

    return world_put(w, &p, &why);
}

static int move(struct world *w, const char *from, const char *to)
{
    struct path a = path_of(from), b = path_of(to);

    return vault_move(w->vault, &w->who, 0, &a, &b, false, &why);
}

static int rm(struct world *w, const char *text, bool recursive,
              struct vault_removed *ret)
{
    struct vault_removed removed;
    struct path p = path_of(text);

    return vault_remove(w->vault, &w->who, 0, &p, recursive,
                        ret ? ret : &removed, &why);
}

static int link_to(struct world *w, const char *text, const char *target)
{
    struct path p = path_of(text);

    return vault_link(w->vault, &w->who, 0, &p, target, 5 * KEEL_SECOND, false,
                      &why);
}

static int look(struct world *w, const char *text, struct vault_entry *ret)
{
    struct path p = path_of(text);

    return vault_stat(w->vault, &w->who, 0, &p, ret, &why);
}

static char type_of(struct world *w, const char *text)
{
    struct vault_entry e;

    if (look(w, text, &e) < 0)
        return why.id == PROBLEM_FILE_MISSING ? '-' : '!';
    vault_entry_fini(&e);
    return e.type;
}

#define refused(call, ID)                                                      \
    do {                                                                       \
        assert_true((call) < 0);                                               \
        assert_int_equal(why.id, PROBLEM_##ID);                                \
    } while (0)

static int64_t used_bytes(struct world *w)
{
    struct ledger_space s;

    assert_int_equal(ledger_space_get(w->ledger, w->who.home, &s, NULL), 0);
    return s.used_bytes;
}

static int count_name(const char *name, unsigned char type, void *arg)
{
    (void)name;
    (void)type;
    ++*(unsigned *)arg;
    return 0;
}

static unsigned in_trash(struct world *w)
{
    unsigned count = 0;

    assert_int_equal(
        keel_file_list(store_trash(w->vault->store), count_name, &count), 0);
    return count;
}

/* ---- one after the other -------------------------------------------------------------- */

static void directories_are_made(void **state)
{
    struct world *w = *state;

    refused(make(w, "/a/b", false), FILE_MISSING);
    assert_int_equal(make(w, "/a", false), 0);
    assert_int_equal(make(w, "/a/b", false), 0);
    refused(make(w, "/a/b", false), FILE_EXISTS);
    assert_int_equal(make(w, "/a/b", true), 0);
    assert_int_equal(make(w, "/a/c/d/e/f", true), 0);
    assert_int_equal(type_of(w, "/a/c/d/e/f"), 'd');
    assert_int_equal(make(w, "/", true), 0);
    refused(make(w, "/", false), FILE_EXISTS);
    assert_int_equal(put(w, "/a/file", 1, 10), 0);
    refused(make(w, "/a/file", true), FILE_EXISTS);
    refused(make(w, "/a/file/below", true), FILE_NOT_DIRECTORY);
    assert_int_equal(link_to(w, "/a/link", "c"), 0);
    refused(make(w, "/a/link/below", true), FILE_ESCAPES);
    refused(make(w, "/a/link", true), FILE_EXISTS);
}

static void links_are_kept_and_not_followed(void **state)
{
    struct world *w = *state;
    struct path p = path_of("/l");
    struct vault_entry e;
    char longest[4097];

    assert_int_equal(link_to(w, "/l", "../../etc/passwd"), 0);
    assert_int_equal(look(w, "/l", &e), 0);
    assert_int_equal(e.type, 'l');
    assert_string_equal(e.target, "../../etc/passwd");
    assert_true(e.mtime_ns == 5 * KEEL_SECOND);
    vault_entry_fini(&e);
    refused(vault_link(w->vault, &w->who, 0, &p, "x", 0, true, &why),
            FILE_EXISTS);
    assert_int_equal(link_to(w, "/l", "elsewhere"), 0);
    assert_int_equal(look(w, "/l", &e), 0);
    assert_string_equal(e.target, "elsewhere");
    vault_entry_fini(&e);

    /* in place of a file, whose row and quota go */
    assert_int_equal(put(w, "/f", 1, 1000), 0);
    assert_int_equal(used_bytes(w), 1000);
    assert_int_equal(link_to(w, "/f", "to"), 0);
    assert_int_equal(type_of(w, "/f"), 'l');
    assert_int_equal(used_bytes(w), 0);
    assert_int_equal(in_trash(w), 0);
    refused(put(w, "/f", 1, 1000), FILE_ESCAPES);

    assert_int_equal(make(w, "/d", false), 0);
    refused(link_to(w, "/d", "x"), FILE_IS_DIRECTORY);
    refused(link_to(w, "/", "x"), FILE_IS_DIRECTORY);
    refused(link_to(w, "/none/l", "x"), FILE_MISSING);
    refused(link_to(w, "/e", ""), REQUEST_INVALID);
    memset(longest, 'x', 4096);
    longest[4096] = '\0';
    refused(link_to(w, "/e", longest), REQUEST_INVALID);
    longest[4095] = '\0';
    assert_int_equal(link_to(w, "/e", longest), 0);
    assert_int_equal(look(w, "/e", &e), 0);
    assert_string_equal(e.target, longest);
    vault_entry_fini(&e);
}

/* Waits for the ctime of what was done last to be a tick of the clock old. */
static void tick(void)
{
    keel_sleep(keel_after(3 * CLOCK_TICK));
}

static void a_file_keeps_its_digest_when_its_times_are_set(void **state)
{
    struct world *w = *state;
    struct digest root = content_root(1, 5000, CHUNK_XXH128);
    struct path p = path_of("/f"), d = path_of("/d"), l = path_of("/l");
    mode_t before = umask(0077);
    struct ledger_file row;
    struct vault_entry e;

    assert_int_equal(put(w, "/f", 1, 5000), 0);
    committer_drain(w->vault->committer);
    tick();
    assert_int_equal(look(w, "/f", &e), 0);
    assert_int_equal(e.hash, CHUNK_XXH128);
    assert_int_equal(vault_set(w->vault, &w->who, 0, &p, 07753, -5, &why), 0);
    tick();
    assert_int_equal(look(w, "/f", &e), 0);
    assert_int_equal(e.mode, 0753);
    assert_true(e.mtime_ns == -5);
    assert_int_equal(e.hash, CHUNK_XXH128);
    assert_memory_equal(&e.root, &root, sizeof root);
    assert_int_equal(ledger_file_get(w->ledger, w->who.home, "f", &row, NULL),
                     0);
    assert_true(row.mtime_ns == -5);
    assert_int_equal(vault_set(w->vault, &w->who, 0, &p, 0, INT64_MIN, &why),
                     0);
    assert_int_equal(look(w, "/f", &e), 0);
    assert_int_equal(e.mode, 0400);
    assert_true(e.mtime_ns == -5);

    assert_int_equal(make(w, "/d", false), 0);
    assert_int_equal(look(w, "/d", &e), 0);
    assert_int_equal(e.mode, 0755); /* whatever the umask is */
    assert_int_equal(
        vault_set(w->vault, &w->who, 0, &d, 03555, KEEL_SECOND, &why), 0);
    assert_int_equal(look(w, "/d", &e), 0);
    assert_true(e.mtime_ns == KEEL_SECOND);
    assert_int_equal(e.mode, 0755);
    assert_int_equal(vault_set(w->vault, &w->who, 0, &d, 0, KEEL_SECOND, &why),
                     0);
    assert_int_equal(look(w, "/d", &e), 0);
    assert_int_equal(e.mode, 0700);
    assert_int_equal(link_to(w, "/l", "f"), 0);
    refused(vault_set(w->vault, &w->who, 0, &l, 0600, 1, &why), FILE_ESCAPES);
    p = path_of("/none");
    refused(vault_set(w->vault, &w->who, 0, &p, 0600, 1, &why), FILE_MISSING);
    p = path_of("/");
    assert_int_equal(
        vault_set(w->vault, &w->who, 0, &p, 0777, KEEL_SECOND, &why), 0);
    assert_int_equal(look(w, "/", &e), 0);
    assert_int_equal(e.mode, 0700); /* the space's own */
    umask(before);
}

static void names_move_with_their_rows(void **state)
{
    struct world *w = *state;
    struct path a = path_of("/d/a"), b = path_of("/b");
    struct vault_entry e;

    assert_int_equal(make(w, "/d/deep", true), 0);
    assert_int_equal(put(w, "/d/a", 1, 5000), 0);
    assert_int_equal(put(w, "/d/deep/c", 2, 700), 0);
    assert_int_equal(put(w, "/b", 3, 100), 0);
    refused(vault_move(w->vault, &w->who, 0, &a, &b, true, &why), FILE_EXISTS);
    assert_int_equal(move(w, "/d/a", "/b"), 0); /* replaces */
    assert_int_equal(used_bytes(w), 5700);
    assert_int_equal(world_holds(w, "b", 1, 5000), 1);
    assert_int_equal(type_of(w, "/d/a"), '-');
    assert_int_equal(move(w, "/d", "/moved"), 0);
    assert_int_equal(world_holds(w, "moved/deep/c", 2, 700), 1);
    assert_int_equal(used_bytes(w), 5700);
    tick();
    assert_int_equal(look(w, "/moved/deep/c", &e), 0);
    assert_int_equal(e.hash, CHUNK_XXH128);

    refused(move(w, "/moved", "/moved/deep/x"), FILE_INSIDE);
    refused(move(w, "/", "/x"), FILE_INSIDE);
    refused(move(w, "/moved", "/"), FILE_IS_DIRECTORY);
    refused(move(w, "/none", "/x"), FILE_MISSING);
    refused(move(w, "/b", "/none/x"), FILE_MISSING);
    refused(move(w, "/b", "/moved/deep"), FILE_IS_DIRECTORY);
    refused(move(w, "/moved", "/b"), FILE_EXISTS);
    refused(move(w, "/b", "/b"), FILE_EXISTS);
    assert_int_equal(link_to(w, "/l", "b"), 0);
    assert_int_equal(move(w, "/l", "/l2"), 0);
    assert_int_equal(type_of(w, "/l2"), 'l');
    assert_int_equal(move(w, "/b", "/l2"), 0);
    assert_int_equal(world_holds(w, "l2", 1, 5000), 1);
}

static void removing_gives_the_quota_back(void **state)
{
    struct world *w = *state;
    struct vault_removed removed;
    char text[300];

    assert_int_equal(put(w, "/f", 1, 5000), 0);
    assert_int_equal(rm(w, "/f", false, &removed), 0);
    assert_int_equal(removed.files, 1);
    assert_int_equal(used_bytes(w), 0);
    refused(rm(w, "/f", false, NULL), FILE_MISSING);
    assert_int_equal(make(w, "/d/e", true), 0);
    refused(rm(w, "/d", false, NULL), FILE_NOT_EMPTY);
    assert_int_equal(rm(w, "/d/e", false, &removed), 0);
    assert_int_equal(removed.directories, 1);
    assert_int_equal(type_of(w, "/d/e"), '-');
    refused(rm(w, "/", true, NULL), RIGHT_MISSING);

    for (unsigned i = 0; i < 50; i++) {
        (void)snprintf(text, sizeof text, "/d/%u/%u/%u", i % 3, i % 7, i);
        assert_int_equal(make(w, text, true), 0);
        strcat(text, "/f");
        assert_int_equal(put(w, text, i, 10), 0);
    }
    assert_int_equal(link_to(w, "/d/l", "/etc"), 0);
    assert_int_equal(used_bytes(w), 500);
    assert_int_equal(rm(w, "/d", true, &removed), 0);
    assert_int_equal(removed.files, 51);
    assert_int_equal(removed.directories, 1 + 3 + 21 + 50);
    assert_int_equal(type_of(w, "/d"), '-');
    assert_int_equal(used_bytes(w), 0);
    assert_int_equal(in_trash(w), 0);
    assert_int_equal(make(w, "/d", false), 0);
}

static void what_another_run_left_in_the_trash_goes(void **state)
{
    struct world *w = *state;
    int trash = store_trash(w->vault->store), data;

    assert_int_equal(keel_file_mkdir(trash, "0123-4.0", 0700), 0);
    for (unsigned i = 0; i < 400; i++) {
        char name[40];

        (void)snprintf(name, sizeof name, "left%u", i);
        assert_int_equal(keel_file_symlink("x", trash, name), 0);
    }
    data = keel_file_open_any(real_path, O_RDONLY | O_DIRECTORY, 0);
    world_close(w);
    assert_int_equal(world_open(w, data, &why), 0);
    while (in_trash(w) > 0)
        keel_sleep(keel_after(KEEL_MS));
}

/* ---- rights -------------------------------------------------------------------------------- */

static void who_may_only_drop_does_not_replace(void **state)
{
    struct world *w = *state;
    struct ledger_registration r = {.name = "joe", .now = 1};
    struct ledger_account joe;
    struct actor mara = w->who;
    struct vault_entry e[4];
    struct path p = path_of("/in/f"), root = path_of("/"), in = path_of("/in");
    struct vault_put put_joe = {
        .path = &p, .size = 3, .hash = CHUNK_XXH128, .content = "abc"};
    struct vault_put other_joe = {
        .path = &p, .size = 3, .hash = CHUNK_XXH128, .content = "xyz"};
    struct digest leaf, top;
    struct draft *d, *other;
    int64_t space;

    r.scram.iterations = 600000;
    r.scram.salt_size = 16;
    assert_int_equal(ledger_register(w->ledger, &r, &joe, &why), 0);
    assert_int_equal(space_add(w->accounts, "team", "mara", 0, 0, &why), 0);
    assert_int_equal(account_space(w->accounts, &mara, "team", &space, &why),
                     0);
    assert_int_equal(
        vault_mkdir(w->vault, &mara, space, &in, 0700, false, &why), 0);
    p = path_of("/other");
    assert_int_equal(vault_mkdir(w->vault, &mara, space, &p, 0700, false, &why),
                     0);
    assert_int_equal(
        grant_set(w->accounts, "team", "/in", "joe", RIGHT_DROP, &why), 0);
    w->who = (struct actor){.account = joe.id, .home = joe.home};
    strcpy(w->who.name, "joe");

    put_joe.space = other_joe.space = space;
    p = path_of("/in/f");
    chunk_leaf(CHUNK_XXH128, "abc", 3, &leaf);
    chunk_root(CHUNK_XXH128, &leaf, 1, &top);
    assert_int_equal(vault_draft_open(w->vault, &w->who, &put_joe, &d, &why),
                     0);
    assert_int_equal(
        vault_draft_open(w->vault, &w->who, &other_joe, &other, &why), 0);
    assert_int_equal(draft_publish(d, &top, VAULT_COMMITTED, &why), 0);
    chunk_leaf(CHUNK_XXH128, "xyz", 3, &leaf);
    chunk_root(CHUNK_XXH128, &leaf, 1, &top);
    refused(draft_publish(other, &top, VAULT_COMMITTED, &why), RIGHT_MISSING);
    draft_close(other);
    other_joe.size = 2;
    refused(vault_draft_open(w->vault, &w->who, &other_joe, &d, &why),
            RIGHT_MISSING);
    refused(vault_link(w->vault, &w->who, space, &p, "x", 0, false, &why),
            RIGHT_MISSING);
    refused(vault_set(w->vault, &w->who, space, &p, 0600, 0, &why),
            RIGHT_MISSING);
    refused(vault_list(w->vault, &w->who, space, &in, "", e, 4, &why),
            RIGHT_MISSING);
    /* what leads to it, and nothing else */
    assert_int_equal(
        vault_list(w->vault, &w->who, space, &root, "", e, 4, &why), 1);
    assert_string_equal(e[0].name, "in");
    p = path_of("/in/new/dir");
    assert_int_equal(
        vault_mkdir(w->vault, &w->who, space, &p, 0700, true, &why), 0);
    p = path_of("/other/dir");
    refused(vault_mkdir(w->vault, &w->who, space, &p, 0700, true, &why),
            RIGHT_MISSING);
    p = path_of("/in/f");
    refused(vault_move(w->vault, &w->who, space, &p, &p, false, &why),
            RIGHT_MISSING);
    w->who = mara;
    assert_int_equal(vault_list(w->vault, &mara, space, &root, "", e, 4, &why),
                     2);
    assert_int_equal(world_findings(w, space), 0);
}

/* To move away is to delete there, and so is to take a name's place. */
static void a_move_over_a_name_asks_for_the_right_to_delete_it(void **state)
{
    struct world *w = *state;
    struct ledger_registration r = {.name = "joe", .now = 1};
    struct ledger_account joe;
    struct actor mara = w->who;
    struct path from = path_of("/a/f"), to = path_of("/b/f"),
                fresh = path_of("/b/new");
    int64_t space;

    r.scram.iterations = 600000;
    r.scram.salt_size = 16;
    assert_int_equal(ledger_register(w->ledger, &r, &joe, &why), 0);
    assert_int_equal(space_add(w->accounts, "team", "mara", 0, 0, &why), 0);
    assert_int_equal(account_space(w->accounts, &mara, "team", &space, &why),
                     0);
    for (const char *const *d = (const char *const[]){"/a", "/b", NULL}; *d;
         d++) {
        struct path p = path_of(*d);

        assert_int_equal(
            vault_mkdir(w->vault, &mara, space, &p, 0700, false, &why), 0);
    }
    for (const struct path **p = (const struct path *[]){&from, &to, NULL}; *p;
         p++) {
        struct vault_put put = {
            .space = space, .path = *p, .hash = CHUNK_XXH128, .content = ""};
        struct digest top;
        struct draft *d;

        chunk_root(CHUNK_XXH128, NULL, 0, &top);
        assert_int_equal(vault_draft_open(w->vault, &mara, &put, &d, &why), 0);
        assert_int_equal(draft_publish(d, &top, VAULT_COMMITTED, &why), 0);
    }
    assert_int_equal(grant_set(w->accounts, "team", "/a", "joe",
                               RIGHT_WRITE | RIGHT_DELETE, &why),
                     0);
    assert_int_equal(
        grant_set(w->accounts, "team", "/b", "joe", RIGHT_WRITE, &why), 0);
    w->who = (struct actor){.account = joe.id, .home = joe.home};
    strcpy(w->who.name, "joe");
    refused(vault_move(w->vault, &w->who, space, &from, &to, false, &why),
            RIGHT_MISSING);
    assert_string_equal(why.detail, "remove");
    assert_string_equal(why.name, "/b/f");
    assert_int_equal(
        vault_move(w->vault, &w->who, space, &from, &fresh, false, &why), 0);
    w->who = mara;
    assert_int_equal(world_findings(w, space), 0);
}

/* ---- at the same time ------------------------------------------------------------------------- */

static void a_draft_below_a_removed_directory_is_not_published(void **state)
{
    struct world *w = *state;
    struct path p = path_of("/d/f");
    struct vault_put small = {
        .path = &p, .size = 3, .hash = CHUNK_XXH128, .content = "abc"};
    struct digest leaf, top;
    struct draft *a, *b;

    chunk_leaf(CHUNK_XXH128, "abc", 3, &leaf);
    chunk_root(CHUNK_XXH128, &leaf, 1, &top);
    assert_int_equal(make(w, "/d", false), 0);
    assert_int_equal(vault_draft_open(w->vault, &w->who, &small, &a, &why), 0);
    assert_int_equal(vault_draft_open(w->vault, &w->who, &small, &b, &why), 0);
    assert_int_equal(rm(w, "/d", true, NULL), 0);
    refused(draft_publish(a, &top, VAULT_COMMITTED, &why), FILE_MISSING);
    draft_close(a);
    assert_int_equal(make(w, "/d", false), 0);
    assert_int_equal(draft_publish(b, &top, VAULT_COMMITTED, &why), 0);
    assert_int_equal(type_of(w, "/d/f"), 'f');
    assert_int_equal(used_bytes(w), 3);
}

struct putting {
    struct world *world;
    const char *path;
    _Atomic int rc;
    _Atomic bool done;
};

static int put_aside(void *arg)
{
    struct putting *p = arg;

    p->rc = put(p->world, p->path, 1, 100);
    p->done = true;
    return 0;
}

static int move_aside(void *arg)
{
    struct putting *p = arg;

    p->rc = move(p->world, p->path, "/moved");
    p->done = true;
    return 0;
}

/* The upload is first: the move waits for it, and a second upload for the
 * move. */
static void a_move_and_uploads_below_wait_for_each_other(void **state)
{
    struct world *w = *state;
    struct putting first = {.world = w, .path = "/d/one"};
    struct putting mover = {.world = w, .path = "/d"};
    struct putting second = {.world = w, .path = "/d/two"};
    struct committer *c = w->vault->committer;
    struct keel_thread *t[3];

    assert_int_equal(make(w, "/d", false), 0);
    committer_hold(c, true);
    assert_int_equal(keel_thread_start("put", put_aside, &first, &t[0]), 0);
    while (committer_waiting(c) < 1)
        keel_sleep(keel_after(KEEL_MS / 10));
    assert_int_equal(keel_thread_start("move", move_aside, &mover, &t[1]), 0);
    while (committer_waiting(c) < 2)
        keel_sleep(keel_after(KEEL_MS / 10));
    assert_int_equal(keel_thread_start("put", put_aside, &second, &t[2]), 0);
    while (committer_waiting(c) < 3)
        keel_sleep(keel_after(KEEL_MS / 10));
    assert_false(mover.done || second.done);
    committer_hold(c, false);
    for (unsigned i = 0; i < 3; i++)
        assert_int_equal(keel_thread_join(t[i], KEEL_FOREVER, NULL), 0);
    assert_int_equal(first.rc, 0);
    assert_int_equal(mover.rc, 0);
    assert_int_equal(second.rc, -ENOENT);
    assert_int_equal(world_holds(w, "moved/one", 1, 100), 1);
}

/* Syncs are counted, and made slow enough for others to come meanwhile. */
static struct {
    const struct keel_disk *disk;
    struct keel_disk table;
    _Atomic unsigned syncs;
} layer;

static int layer_fsync(int fd)
{
    layer.syncs++;
    usleep(2000);
    return layer.disk->fsync(fd);
}

static int layer_syncfs(int fd)
{
    layer.syncs++;
    usleep(2000);
    return layer.disk->syncfs(fd);
}

struct crowd {
    struct world *world;
    unsigned number;
};

static int crowd_make(void *arg)
{
    struct crowd *c = arg;
    char text[40];

    (void)snprintf(text, sizeof text, "/top/%u/sub", c->number);
    return make(c->world, text, true);
}

static int crowd_run(void *arg)
{
    struct world *w = arg;
    static struct crowd c[100];
    struct keel_spawn how = {.name = "mkdir"};
    struct keel_group *g;

    assert_int_equal(keel_group_new(0, &g), 0);
    how.group = g;
    for (unsigned i = 0; i < 100; i++) {
        c[i] = (struct crowd){w, i};
        assert_int_equal(keel_spawn(&how, crowd_make, &c[i], NULL), 0);
    }
    assert_int_equal(keel_group_join(g, KEEL_FOREVER), 0);
    keel_group_free(g);
    return 0;
}

static void a_hundred_directories_share_their_syncs(void **state)
{
    struct world *w = *state;
    char text[40];

    layer.disk = keel_seam.disk;
    layer.table = *layer.disk;
    layer.table.fsync = layer_fsync;
    layer.table.syncfs = layer_syncfs;
    layer.syncs = 0;
    keel_seam.disk = &layer.table;
    assert_int_equal(keel_run(crowd_run, w), 0);
    keel_seam.disk = layer.disk;
    print_message("100 directories of 2: %u syncs\n", layer.syncs);
    assert_true(layer.syncs < 100);
    for (unsigned i = 0; i < 100; i++) {
        (void)snprintf(text, sizeof text, "/top/%u/sub", i);
        assert_int_equal(type_of(w, text), 'd');
    }
}

/* Threads that do anything to few names: in the end rows and disk agree
 * (teardown), and nobody waits for ever. */
struct chaos {
    struct world *world;
    unsigned seed;
    unsigned done;
    struct keel_thread *thread;
};

static unsigned roll(struct chaos *c, unsigned sides)
{
    c->seed = c->seed * 1103515245u + 12345u;
    return (c->seed >> 16) % sides;
}

static void chaos_name(struct chaos *c, char ret[32])
{
    static const char *const names[] = {"/a",   "/b",   "/a/c",   "/b/c",
                                        "/a/d", "/b/d", "/a/c/e", "/b/c/e"};

    strcpy(ret, names[roll(c, 8)]);
}

static int chaos_run(void *arg)
{
    struct chaos *c = arg;
    struct world *w = c->world;

    for (unsigned i = 0; i < 150; i++) {
        struct vault_removed removed;
        struct problem said;
        char text[32], other[32];
        struct path p, q;
        int rc = 0;

        chaos_name(c, text);
        chaos_name(c, other);
        p = path_of(text);
        q = path_of(other);
        switch (roll(c, 8)) {
        case 0:
        case 1:
            rc = vault_mkdir(w->vault, &w->who, 0, &p, 0700, true, &said);
            break;
        case 2:
            rc = vault_move(w->vault, &w->who, 0, &p, &q, false, &said);
            break;
        case 3:
            rc = vault_remove(w->vault, &w->who, 0, &p, true, &removed, &said);
            break;
        case 4:
            rc = vault_link(w->vault, &w->who, 0, &p, "x", 0, false, &said);
            break;
        case 5:
            rc = vault_set(w->vault, &w->who, 0, &p, 0600, i, &said);
            break;
        default: {
            struct world_put u = {.path = text,
                                  .tag = i,
                                  .size = 1 + roll(c, 9000),
                                  .level = (enum vault_level)roll(c, 3)};

            rc = world_put(w, &u, &said);
        }
        }
        c->done += rc == 0;
        if (rc < 0 &&
            (said.id == PROBLEM_SYNC_FAILED || said.id == PROBLEM_INTERNAL ||
             said.id == PROBLEM_DATA_ACCESS)) {
            print_error("%s: %s\n", text, problem_code(&said));
            return -EIO;
        }
    }
    return 0;
}

static void any_changes_at_once_leave_rows_and_disk_in_agreement(void **state)
{
    struct world *w = *state;
    struct chaos c[4];
    unsigned done = 0;

    for (unsigned i = 0; i < 4; i++) {
        c[i] = (struct chaos){.world = w, .seed = i + 1};
        assert_int_equal(
            keel_thread_start("chaos", chaos_run, &c[i], &c[i].thread), 0);
    }
    for (unsigned i = 0; i < 4; i++) {
        int rc;

        assert_int_equal(keel_thread_join(c[i].thread, KEEL_FOREVER, &rc), 0);
        assert_int_equal(rc, 0);
        done += c[i].done;
    }
    committer_drain(w->vault->committer);
    print_message("%u of 600 done\n", done);
    assert_true(done > 100);
    assert_int_equal(in_trash(w), 0);
}

/* ---- hostile hands ------------------------------------------------------------------------------ */

struct swapping {
    int home;
    _Atomic bool stop;
};

static int swap(void *arg)
{
    struct swapping *s = arg;

    /* Twice: in the end each has its own name, so that rows can be compared. */
    while (!s->stop)
        for (int i = 0; i < 2; i++)
            (void)keel_file_rename(s->home, "dir", s->home, "trap",
                                   RENAME_EXCHANGE);
    return 0;
}

static void a_directory_swapped_for_a_link_leads_no_change_outside(void **state)
{
    struct world *w = *state;
    keel_auto(file) int home = world_home_dir(w);
    struct swapping s = {.home = home};
    struct vault_removed removed;
    struct keel_thread *thread;
    char outside[100], text[120];
    unsigned done = 0, refusals = 0;
    struct path p, q;
    struct stat st;
    keel_ns end;

    (void)snprintf(outside, sizeof outside, "%s/outside", real_path);
    assert_int_equal(mkdir(outside, 0700), 0);
    (void)snprintf(text, sizeof text, "%s/secret", outside);
    assert_int_equal(mkdir(text, 0751), 0);
    assert_int_equal(make(w, "/dir/secret", true), 0);
    assert_int_equal(symlinkat(outside, home, "trap"), 0);
    assert_int_equal(keel_thread_start("swap", swap, &s, &thread), 0);
    end = keel_after(KEEL_SECOND / 2);
    for (unsigned i = 0; keel_now() < end || !done || !refusals; i++) {
        int rc;

        (void)snprintf(text, sizeof text, "/dir/n%u", i);
        p = path_of(text);
        q = path_of("/dir/to");
        rc = vault_mkdir(w->vault, &w->who, 0, &p, 0700, true, NULL);
        done += rc == 0;
        refusals += rc < 0;
        (void)vault_link(w->vault, &w->who, 0, &q, "x", 0, false, NULL);
        (void)vault_move(w->vault, &w->who, 0, &p, &q, false, NULL);
        (void)vault_remove(w->vault, &w->who, 0, &q, true, &removed, NULL);
        q = path_of("/dir/secret");
        (void)vault_set(w->vault, &w->who, 0, &q, 0, 0, NULL);
    }
    s.stop = true;
    assert_int_equal(keel_thread_join(thread, KEEL_FOREVER, NULL), 0);
    print_message("%u made, %u refused\n", done, refusals);
    (void)snprintf(text, sizeof text, "%s/secret", outside);
    assert_int_equal(stat(text, &st), 0);
    assert_int_equal(st.st_mode & 07777, 0751);
    assert_true(st.st_mtime > 0);
    assert_int_equal(stat(outside, &st), 0);
    assert_int_equal(st.st_nlink, 3); /* nothing was made there */
}

/* ---- the check ------------------------------------------------------------------------------------ */

struct findings {
    unsigned rows, sums, repaired;
    struct vault_outside outside;
};

static int found(const struct vault_finding *f, void *arg)
{
    struct findings *c = arg;

    if (f->outside)
        c->outside = *f->outside;
    else if (*f->path)
        c->rows++;
    else
        c->sums++;
    c->repaired += f->repaired;
    return 0;
}

static int stop_at_once(const struct vault_finding *f, void *arg)
{
    (void)f;
    (void)arg;
    return -EINTR;
}

static void the_check_finds_and_repairs_what_is_not_there(void **state)
{
    struct world *w = *state;
    keel_auto(file) int home = world_home_dir(w);
    struct findings c = {0};
    char text[32];

    for (unsigned i = 0; i < 300; i++) {
        (void)snprintf(text, sizeof text, "/f%u", i);
        assert_int_equal(put(w, text, 1, 10), 0);
    }
    committer_drain(w->vault->committer);
    assert_int_equal(keel_file_unlink(home, "f7"), 0);
    assert_int_equal(keel_file_unlink(home, "f299"), 0);
    assert_int_equal(keel_file_mkdir(home, "f299", 0700), 0);
    assert_int_equal(
        vault_check(w->vault, w->who.home, false, stop_at_once, NULL, &why),
        -EINTR);
    assert_int_equal(vault_check(w->vault, w->who.home, false, found, &c, &why),
                     0);
    assert_int_equal(c.rows, 2);
    assert_int_equal(c.repaired, 0);
    assert_int_equal(used_bytes(w), 3000);
    c = (struct findings){0};
    assert_int_equal(vault_check(w->vault, w->who.home, true, found, &c, &why),
                     0);
    assert_int_equal(c.repaired, 2);
    assert_int_equal(used_bytes(w), 2980);
    c = (struct findings){0};
    assert_int_equal(vault_check(w->vault, w->who.home, true, found, &c, &why),
                     0);
    assert_int_equal(c.rows + c.sums, 0);
}

static void the_check_sees_what_others_did(void **state)
{
    struct world *w = *state;
    keel_auto(file) int home = world_home_dir(w);
    struct path p = path_of("/set");
    struct findings c = {0};
    int fd;

    assert_int_equal(make(w, "/d", false), 0);
    assert_int_equal(put(w, "/d/same", 1, 10), 0);
    assert_int_equal(put(w, "/d/written", 2, 10), 0);
    assert_int_equal(put(w, "/d/replaced", 3, 10), 0);
    assert_int_equal(put(w, "/set", 4, 10), 0);
    committer_drain(w->vault->committer);
    for (int i = 0; i < 3; i++) /* also twice within a tick of the clock */
        assert_int_equal(vault_set(w->vault, &w->who, 0, &p, 0600, i, &why), 0);
    tick();
    assert_int_equal(vault_check(w->vault, w->who.home, false, found, &c, &why),
                     0);
    assert_int_equal(c.rows + c.sums, 0);
    assert_int_equal(c.outside.files + c.outside.links + c.outside.others, 0);

    fd = openat(home, "d/written", O_WRONLY);
    assert_int_equal(pwrite(fd, "!", 1, 3), 1);
    assert_int_equal(close(fd), 0);
    fd = openat(home, "d/foreign", O_WRONLY | O_CREAT, 0600);
    assert_int_equal(close(fd), 0);
    assert_int_equal(unlinkat(home, "d/replaced", 0), 0);
    assert_int_equal(linkat(home, "d/foreign", home, "d/replaced", 0), 0);
    assert_int_equal(symlinkat("/etc", home, "out"), 0);
    assert_int_equal(symlinkat("../../up", home, "d/up"), 0);
    assert_int_equal(symlinkat("../set/./..", home, "d/in"), 0);
    assert_int_equal(mkfifoat(home, "d/pipe", 0600), 0);
    assert_int_equal(vault_check(w->vault, w->who.home, false, found, &c, &why),
                     0);
    assert_int_equal(c.rows, 2);
    assert_int_equal(c.sums, 0);
    assert_int_equal(c.outside.files, 1);
    assert_int_equal(c.outside.links, 2);
    assert_int_equal(c.outside.others, 1);

    c = (struct findings){0};
    assert_int_equal(vault_check(w->vault, w->who.home, true, found, &c, &why),
                     0);
    assert_int_equal(c.repaired, 2);
    assert_int_equal(used_bytes(w), 20);
    c = (struct findings){0};
    assert_int_equal(vault_check(w->vault, w->who.home, true, found, &c, &why),
                     0);
    assert_int_equal(c.rows + c.sums, 0);
    assert_int_equal(c.outside.files, 3);
}

static void a_missing_directory_is_found_and_nothing_dropped(void **state)
{
    struct world *w = *state;
    char from[200], to[200];
    struct findings c = {0};
    struct ledger_space s;

    assert_int_equal(vault_check(w->vault, w->who.home, true, found, &c, &why),
                     0);
    assert_int_equal(c.sums, 0); /* it is made with the first file */
    assert_int_equal(put(w, "/f", 1, 10), 0);
    committer_drain(w->vault->committer);
    assert_int_equal(ledger_space_get(w->ledger, w->who.home, &s, &why), 0);
    (void)snprintf(from, sizeof from, "%s/spaces/%s", real_path, s.dir);
    (void)snprintf(to, sizeof to, "%s/away", real_path);
    assert_int_equal(rename(from, to), 0);
    assert_int_equal(vault_check(w->vault, w->who.home, true, found, &c, &why),
                     0);
    assert_int_equal(c.rows, 0);
    assert_int_equal(c.sums, 1);
    assert_int_equal(c.repaired, 0);
    assert_int_equal(access(from, F_OK), -1);
    assert_int_equal(rename(to, from), 0);

    /* All of spaces/, put aside while it is used. */
    (void)snprintf(from, sizeof from, "%s/spaces", real_path);
    assert_int_equal(rename(from, to), 0);
    assert_int_equal(mkdir(from, 0700), 0);
    assert_int_equal(vault_check(w->vault, w->who.home, true, found, &c, &why),
                     0);
    assert_int_equal(c.sums, 2);
    assert_int_equal(c.repaired, 0);
    assert_int_equal(rmdir(from), 0);
    assert_int_equal(rename(to, from), 0);
    assert_int_equal(used_bytes(w), 10);
}

int main(void)
{
#define T(name) cmocka_unit_test_setup_teardown(name, setup, teardown)
    const struct CMUnitTest tests[] = {
        T(directories_are_made),
        T(links_are_kept_and_not_followed),
        T(a_file_keeps_its_digest_when_its_times_are_set),
        T(names_move_with_their_rows),
        T(the_check_sees_what_others_did),
        T(a_missing_directory_is_found_and_nothing_dropped),
        T(removing_gives_the_quota_back),
        T(what_another_run_left_in_the_trash_goes),
        T(who_may_only_drop_does_not_replace),
        T(a_move_over_a_name_asks_for_the_right_to_delete_it),
        T(a_draft_below_a_removed_directory_is_not_published),
        T(a_move_and_uploads_below_wait_for_each_other),
        T(a_hundred_directories_share_their_syncs),
        T(any_changes_at_once_leave_rows_and_disk_in_agreement),
        T(a_directory_swapped_for_a_link_leads_no_change_outside),
        T(the_check_finds_and_repairs_what_is_not_there),
    };

    log_open(-1, LOG_ERROR);
    return cmocka_run_group_tests(tests, NULL, NULL);
}
