/* SPDX-License-Identifier: MIT */
/* Whoever looks at a file that was acknowledged finds its digest: at once, and
 * while others replace, move and set it. */
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
#include "world_test.h"

enum { SMALL = 5000, LARGE = CHUNK_BYTES + 5000, PAGE = 200 };

static char real_path[64];
static struct vault_entry page[PAGE];
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
    world_close(*state);
    return world_real_remove(real_path);
}

static struct path path_of(const char *text)
{
    struct path p;

    assert_int_equal(world_path(text, &p), 0);
    return p;
}

static int put(struct world *w, const char *path, unsigned tag, uint64_t size)
{
    struct world_put p = {
        .path = path, .tag = tag, .size = size, .level = VAULT_COMMITTED};

    return world_put(w, &p, &why);
}

/* The content follows from the size. */
static void is_known(const struct vault_entry *e)
{
    struct digest root;

    assert_int_equal(e->hash, CHUNK_XXH128);
    assert_true(e->size == SMALL || e->size == LARGE);
    root = content_root(e->size == SMALL, e->size, CHUNK_XXH128);
    assert_memory_equal(&e->root, &root, sizeof root);
}

static void stat_knows(struct world *w, const char *path)
{
    struct path p = path_of(path);
    struct vault_entry e;

    assert_int_equal(vault_stat(w->vault, &w->who, 0, &p, &e, &why), 0);
    is_known(&e);
}

static void open_knows(struct world *w, const char *path)
{
    struct path p = path_of(path);
    struct vault_entry e;
    struct source *s;

    assert_int_equal(
        vault_file_open(w->vault, &w->who, 0, &p, CHUNK_XXH128, &s, &e, &why),
        0);
    is_known(&e);
    assert_int_equal(source_size(s), e.size);
    source_close(s);
}

/* A directory, or one file. */
static int list_knows(struct world *w, const char *path)
{
    struct path p = path_of(path);
    int count = vault_list(w->vault, &w->who, 0, &p, "", page, PAGE, &why);

    assert_true(count >= 0);
    for (int i = 0; i < count; i++)
        is_known(&page[i]);
    return count;
}

static void a_digest_is_there_when_a_put_is_answered(void **state)
{
    struct world *w = *state;
    struct digest root = content_root(1, SMALL, CHUNK_XXH128);
    struct world_put again = {
        .tag = 1, .size = SMALL, .level = VAULT_COMMITTED, .match = &root};

    for (unsigned i = 0; i < 60; i++) {
        char name[20];

        (void)snprintf(name, sizeof name, "/f%u", i);
        assert_int_equal(put(w, name, 1, SMALL), 0);
        if (i % 4 == 0)
            stat_knows(w, name);
        if (i % 4 == 1)
            open_knows(w, name);
        if (i % 4 == 2)
            assert_int_equal(list_knows(w, name), 1);
        if (i % 4 == 3)
            assert_int_equal(list_knows(w, "/"), (int)i + 1);
        again.path = name;
        assert_int_equal(world_put(w, &again, &why), 0);
        open_knows(w, name);
    }
    assert_int_equal(put(w, "/large", 0, LARGE), 0);
    assert_int_equal(list_knows(w, "/"), 61);
    committer_drain(w->vault->committer);
    assert_int_equal(list_knows(w, "/"), 61);
}

/* ---- while others change it ---------------------------------------------------- */

struct changing {
    struct world *world;
    int (*change)(struct world *w, unsigned i);
    _Atomic bool stop, failed;
};

static int change_run(void *arg)
{
    struct changing *c = arg;

    for (unsigned i = 0; !c->stop; i++)
        if (c->change(c->world, i) < 0)
            c->failed = true;
    return 0;
}

/* Looks in all ways, for a while and at least so often. */
static void look_while(struct world *w, int (*change)(struct world *, unsigned),
                       void (*look)(struct world *w))
{
    struct changing c = {.world = w, .change = change};
    keel_ns end = keel_after(KEEL_SECOND / 2);
    struct keel_thread *thread;

    assert_int_equal(keel_thread_start("change", change_run, &c, &thread), 0);
    for (unsigned i = 0; i < 50 || keel_now() < end; i++)
        look(w);
    c.stop = true;
    assert_int_equal(keel_thread_join(thread, KEEL_FOREVER, NULL), 0);
    assert_false(c.failed);
}

static int replace(struct world *w, unsigned i)
{
    struct problem said;
    struct world_put p = {.path = "/f",
                          .tag = i % 2,
                          .size = i % 2 ? SMALL : LARGE,
                          .level = VAULT_COMMITTED};

    return world_put(w, &p, &said);
}

static void look_at_f(struct world *w)
{
    stat_knows(w, "/f");
    open_knows(w, "/f");
    assert_int_equal(list_knows(w, "/"), 1);
    assert_int_equal(list_knows(w, "/f"), 1);
}

static void a_file_that_is_replaced_is_known_throughout(void **state)
{
    assert_int_equal(put(*state, "/f", 1, SMALL), 0);
    look_while(*state, replace, look_at_f);
}

static int set(struct world *w, unsigned i)
{
    struct path p;
    struct problem said;
    int rc = world_path("/f", &p);

    return rc < 0 ? rc
                  : vault_set(w->vault, &w->who, 0, &p, i % 2 ? 0600 : 0644,
                              (int64_t)i, &said);
}

static void a_file_whose_times_are_set_is_known_throughout(void **state)
{
    assert_int_equal(put(*state, "/f", 1, SMALL), 0);
    look_while(*state, set, look_at_f);
}

static int move(struct world *w, unsigned i)
{
    static const char *const names[] = {"/d/a", "/d/b"};
    struct path from, to;
    struct problem said;

    if (world_path(names[i % 2], &from) < 0 ||
        world_path(names[1 - i % 2], &to) < 0)
        return -1;
    return vault_move(w->vault, &w->who, 0, &from, &to, true, &said);
}

/* It is known wherever it is. */
static void look_in_d(struct world *w)
{
    struct path p = path_of("/d/a");
    struct vault_entry e;
    int rc = vault_stat(w->vault, &w->who, 0, &p, &e, &why);

    if (rc == 0)
        is_known(&e);
    else
        assert_int_equal(why.id, PROBLEM_FILE_MISSING);
}

static void a_file_that_moves_is_known_throughout(void **state)
{
    struct world *w = *state;
    struct path d = path_of("/d");

    assert_int_equal(vault_mkdir(w->vault, &w->who, 0, &d, 0700, false, &why),
                     0);
    assert_int_equal(put(w, "/d/a", 1, SMALL), 0);
    look_while(w, move, look_in_d);
}

/* What another hand changed has no digest, and is not waited for. */
static void what_another_hand_changed_is_not_known(void **state)
{
    struct world *w = *state;
    keel_auto(file) int home = world_home_dir(w);
    struct path p = path_of("/f");
    struct vault_entry e;
    int fd;

    assert_int_equal(put(w, "/f", 1, SMALL), 0);
    fd = keel_file_open(home, "f", O_WRONLY, 0);
    assert_true(fd >= 0);
    assert_int_equal(keel_file_write(fd, "x", 1, 0), 0);
    keel_file_close(fd);
    for (int i = 0; i < 2; i++) {
        assert_int_equal(vault_stat(w->vault, &w->who, 0, &p, &e, &why), 0);
        assert_int_equal(e.hash, 0);
        assert_int_equal(
            vault_list(w->vault, &w->who, 0, &p, "", page, PAGE, &why), 1);
        assert_int_equal(page[0].hash, 0);
        committer_drain(w->vault->committer);
    }
}

int main(void)
{
#define T(name) cmocka_unit_test_setup_teardown(name, setup, teardown)
    const struct CMUnitTest tests[] = {
        T(a_digest_is_there_when_a_put_is_answered),
        T(a_file_that_is_replaced_is_known_throughout),
        T(a_file_whose_times_are_set_is_known_throughout),
        T(a_file_that_moves_is_known_throughout),
        T(what_another_hand_changed_is_not_known),
    };

    log_open(-1, LOG_ERROR);
    return cmocka_run_group_tests(tests, NULL, NULL);
}
