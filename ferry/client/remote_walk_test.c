/* SPDX-License-Identifier: MIT */
/* Walks through trees that are made up, served page by page by a server that
 * answers in any order, fails or lies. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include <keel/co.h>

#include "client/remote_walk.h"
#include "test/fault.h"

/* What session.c has for remote.c. */
int answer_check(int rc, struct problem *why)
{
    return rc < 0 && why && why->id == PROBLEM_REQUEST_INVALID
               ? problem(why, PROTOCOL_BROKEN, .detail = "answer")
               : rc;
}

keel_ns session_patience(void)
{
    return KEEL_SECOND;
}

/* ---- a made-up server -------------------------------------------------------- */

struct node {
    char name[16];
    bool dir, refused;
    struct node *sub; /* in order of names */
    unsigned count;
};

static unsigned seed;

static unsigned pick(unsigned below)
{
    seed = seed * 1103515245 + 12345;
    return (seed >> 16) % below;
}

static void grow(struct node *n, unsigned depth, unsigned *left)
{
    n->count = depth == 0 ? 30 : pick(12);
    n->sub = calloc(n->count + 1, sizeof(*n->sub));
    for (unsigned i = 0; i < n->count; i++) {
        struct node *s = &n->sub[i];

        snprintf(s->name, sizeof(s->name), "%c%03u", 'a' + (char)pick(3), i);
        s->dir = depth < 6 && *left > 0 && pick(2);
        *left -= s->dir;
    }
    /* Names count up behind a letter: in order once sorted. */
    for (unsigned i = 0; i < n->count; i++)
        n->sub[i].name[0] = (char)('a' + i * 3 / n->count);
    for (unsigned i = 0; i < n->count; i++)
        if (n->sub[i].dir)
            grow(&n->sub[i], depth + 1, left);
}

static void fell(struct node *n)
{
    for (unsigned i = 0; i < n->count; i++)
        fell(&n->sub[i]);
    free(n->sub);
}

static struct node *find(struct node *root, const struct path *p)
{
    struct node *n = root;

    for (unsigned i = 0; i < p->count; i++) {
        const char *name = p->text + p->start[i];
        size_t size = strcspn(name, "/");
        struct node *next = NULL;

        for (unsigned k = 0; k < n->count; k++)
            if (strlen(n->sub[k].name) == size &&
                memcmp(n->sub[k].name, name, size) == 0)
                next = &n->sub[k];
        assert_non_null(next);
        n = next;
    }
    return n;
}

struct server {
    struct node root;
    unsigned page, asked, waiting, most;
    enum { HONEST, LOST, DISORDER, EMPTY, LOOP } trick;
};

static json_t *entry(const char *name, bool dir)
{
    return json_pack("{s:s, s:s, s:i, s:i, s:i}", "name", name, "type",
                     dir ? "d" : "f", "size", dir ? 0 : 5, "mtime_ns", 7,
                     "mode", 0644);
}

static int ask(void *arg, const struct path *dir, const char *after,
               json_t **ret_ok, struct problem *why)
{
    struct server *s = arg;
    json_t *list = json_array();
    struct node *n;
    unsigned given = 0, i = 0;

    s->asked++;
    if (++s->waiting > s->most)
        s->most = s->waiting;
    for (unsigned k = pick(6); k > 0; k--)
        keel_yield();
    s->waiting--;
    if (s->trick == LOST && s->asked > 5) {
        json_decref(list);
        return problem(why, CONNECT_LOST);
    }
    if (s->trick == LOOP) {
        json_array_append_new(list, entry("d", true));
        *ret_ok = json_pack("{s:o, s:b}", "entries", list, "more", 0);
        return 0;
    }
    n = find(&s->root, dir);
    if (n->refused) {
        json_decref(list);
        return problem(why, RIGHT_MISSING);
    }
    while (i < n->count && strcmp(n->sub[i].name, after) <= 0)
        i++;
    for (; i < n->count && given < s->page; i++, given++) {
        if (json_array_append_new(list, entry(n->sub[i].name, n->sub[i].dir)) <
            0) {
            json_decref(list);
            return problem(why, NO_MEMORY);
        }
    }
    if (s->trick == DISORDER && *after)
        json_array_append_new(list, entry(after, false));
    if (s->trick == EMPTY && *after)
        json_array_clear(list);
    *ret_ok = json_pack("{s:o, s:b}", "entries", list, "more",
                        i < n->count || s->trick >= DISORDER);
    return *ret_ok ? 0 : problem(why, NO_MEMORY);
}

/* ---- what the walk tells -------------------------------------------------------- */

/* Each file and directory of the model is told once, in its directory, between
 * its ENTER and its LEAVE. */
struct seen {
    struct node *at[PATH_DEPTH + 1];
    unsigned told[PATH_DEPTH + 1];
    unsigned depth, files, dirs, failed;
};

static void told_page(struct seen *s, const struct remote_step *step)
{
    struct node *n = s->at[s->depth - 1];

    for (unsigned k = 0; k < step->page->count; k++) {
        const struct walk_entry *e = &step->page->entries[k];
        unsigned *at = &s->told[s->depth - 1];

        while (*at < n->count && n->sub[*at].dir)
            ++*at;
        assert_true(*at < n->count);
        assert_string_equal(e->name, n->sub[*at].name);
        assert_int_equal(e->size, 5);
        ++*at;
        s->files++;
    }
}

static void told(struct seen *s, struct server *v,
                 const struct remote_step *step)
{
    switch (step->kind) {
    case REMOTE_ENTER:
        s->at[s->depth] = find(&v->root, step->path);
        assert_true(s->depth == 0 || s->at[s->depth]->dir);
        if (s->depth > 0)
            assert_string_equal(step->entry->name, path_leaf(step->path));
        s->told[s->depth++] = 0;
        s->dirs++;
        return;
    case REMOTE_PAGE:
        assert_ptr_equal(find(&v->root, step->path), s->at[s->depth - 1]);
        told_page(s, step);
        return;
    case REMOTE_LEAVE:
        assert_ptr_equal(find(&v->root, step->path), s->at[--s->depth]);
        return;
    case REMOTE_FAILED:
        s->failed++;
        return;
    }
}

static void count(const struct node *n, unsigned *files, unsigned *dirs)
{
    ++*dirs;
    for (unsigned i = 0; i < n->count && !n->refused; i++) {
        if (n->sub[i].dir)
            count(&n->sub[i], files, dirs);
        else
            ++*files;
    }
}

static int walk_all(struct server *v, struct seen *s, struct problem *why)
{
    keel_auto(remote_walk) struct remote_walk *w = NULL;
    struct path root = {.count = 0};
    struct remote_step step;
    int rc = remote_walk_new(&root, ask, v, &w, why);

    while (rc >= 0) {
        rc = remote_walk_next(w, &step, why);
        if (rc <= 0)
            break;
        told(s, v, &step);
    }
    return rc;
}

static void server_begin(struct server *v, unsigned with)
{
    unsigned left = 200;

    memset(v, 0, sizeof(*v));
    seed = with;
    v->page = 1 + with % 9;
    grow(&v->root, 0, &left);
}

#define IN_LOOP(name)                                                          \
    static void name(void **state)                                             \
    {                                                                          \
        (void)state;                                                           \
        assert_int_equal(keel_run(name##_co, NULL), 0);                        \
    }

static int every_name_is_told_once_in_its_place_co(void *arg)
{
    (void)arg;
    for (unsigned with = 1; with < 60; with++) {
        unsigned files = 0, dirs = 0;
        struct problem why = {0};
        struct seen s = {.depth = 0};
        struct server v;

        server_begin(&v, with);
        assert_int_equal(walk_all(&v, &s, &why), 0);
        count(&v.root, &files, &dirs);
        assert_int_equal(s.files, files);
        assert_int_equal(s.dirs, dirs);
        assert_int_equal(s.depth, 0);
        assert_int_equal(s.failed, 0);
        assert_true(dirs < 8 || v.most > 1); /* several at a time */
        assert_true(v.most <= 64);
        fell(&v.root);
    }
    return 0;
}
IN_LOOP(every_name_is_told_once_in_its_place)

static int a_directory_that_is_refused_is_one_of_many_co(void *arg)
{
    unsigned files = 0, dirs = 0, refused = 0;
    struct seen s = {.depth = 0};
    struct problem why;
    struct server v;

    (void)arg;
    server_begin(&v, 3);
    for (unsigned i = 0; i < v.root.count; i++)
        if (v.root.sub[i].dir && i % 2)
            refused += v.root.sub[i].refused = true;
    assert_int_equal(walk_all(&v, &s, &why), 0);
    count(&v.root, &files, &dirs);
    assert_true(refused > 0);
    assert_int_equal(s.failed, refused);
    assert_int_equal(s.files, files);
    assert_int_equal(s.dirs, dirs);
    fell(&v.root);
    return 0;
}
IN_LOOP(a_directory_that_is_refused_is_one_of_many)

static int a_server_that_is_gone_or_lies_ends_it_co(void *arg)
{
    static const enum problem_id ids[] = {
        [LOST] = PROBLEM_CONNECT_LOST,
        [DISORDER] = PROBLEM_PROTOCOL_BROKEN,
        [EMPTY] = PROBLEM_PROTOCOL_BROKEN,
    };

    (void)arg;
    for (int trick = LOST; trick <= EMPTY; trick++) {
        struct seen s = {.depth = 0};
        struct problem why;
        struct server v;

        server_begin(&v, 5);
        v.trick = (unsigned)trick;
        assert_true(walk_all(&v, &s, &why) < 0);
        assert_int_equal(why.id, ids[trick]);
        fell(&v.root);
    }
    return 0;
}
IN_LOOP(a_server_that_is_gone_or_lies_ends_it)

static int a_tree_without_end_comes_to_one_co(void *arg)
{
    keel_auto(remote_walk) struct remote_walk *w = NULL;
    struct path root = {.count = 0};
    struct server v = {.trick = LOOP};
    struct remote_step step;
    struct problem why;
    unsigned dirs = 0, failed = 0;

    (void)arg;
    assert_int_equal(remote_walk_new(&root, ask, &v, &w, &why), 0);
    while (remote_walk_next(w, &step, &why) == 1) {
        dirs += step.kind == REMOTE_ENTER;
        if (step.kind == REMOTE_FAILED) {
            assert_int_equal(why.id, PROBLEM_PATH_TOO_DEEP);
            assert_string_equal(step.entry->name, "d");
            failed++;
        }
    }
    assert_int_equal(dirs, PATH_DEPTH + 1);
    assert_int_equal(failed, 1);
    return 0;
}
IN_LOOP(a_tree_without_end_comes_to_one)

static int what_is_skipped_is_not_told_co(void *arg)
{
    keel_auto(remote_walk) struct remote_walk *w = NULL;
    struct path root = {.count = 0};
    struct remote_step step;
    struct problem why;
    struct server v;
    int depth = 0, rc;

    (void)arg;
    server_begin(&v, 8);
    assert_int_equal(remote_walk_new(&root, ask, &v, &w, &why), 0);
    while ((rc = remote_walk_next(w, &step, &why)) == 1) {
        if (step.kind == REMOTE_ENTER && ++depth == 2) {
            remote_walk_skip(w);
            depth--;
        }
        depth -= step.kind == REMOTE_LEAVE;
        assert_in_range(depth, 0, 1);
    }
    assert_int_equal(rc, 0);
    fell(&v.root);
    return 0;
}
IN_LOOP(what_is_skipped_is_not_told)

/* Left in the middle, with fetches under way. */
static int a_walk_may_be_left_at_any_step_co(void *arg)
{
    (void)arg;
    for (unsigned steps = 1; steps < 80; steps += 3) {
        struct path root = {.count = 0};
        struct remote_walk *w = NULL;
        struct remote_step step;
        struct problem why;
        struct server v;

        server_begin(&v, 7);
        assert_int_equal(remote_walk_new(&root, ask, &v, &w, &why), 0);
        for (unsigned i = 0; i < steps; i++)
            assert_true(remote_walk_next(w, &step, &why) >= 0);
        remote_walk_free(w);
        assert_int_equal(v.waiting, 0);
        fell(&v.root);
    }
    return 0;
}
IN_LOOP(a_walk_may_be_left_at_any_step)

static int pages_outlive_their_step_co(void *arg)
{
    struct path root = {.count = 0};
    struct remote_walk *w = NULL;
    struct walk_page *held[64];
    struct remote_step step;
    struct problem why;
    unsigned count = 0;
    struct server v;

    (void)arg;
    server_begin(&v, 9);
    assert_int_equal(remote_walk_new(&root, ask, &v, &w, &why), 0);
    while (count < 64 && remote_walk_next(w, &step, &why) == 1) {
        if (step.kind == REMOTE_PAGE) {
            held[count++] = step.page;
            walk_page_hold(step.page);
        }
    }
    remote_walk_free(w);
    for (unsigned i = 0; i < count; i++) {
        for (unsigned k = 0; k < held[i]->count; k++)
            assert_int_equal(strlen(held[i]->entries[k].name), 4);
        walk_page_drop(held[i]);
    }
    fell(&v.root);
    return 0;
}
IN_LOOP(pages_outlive_their_step)

static int each_failing_allocation_is_survived_co(void *arg)
{
    (void)arg;
    for (unsigned nth = 1; nth < 400; nth++) {
        struct seen s = {.depth = 0};
        struct problem why = {0};
        struct server v;
        int rc;

        server_begin(&v, 2);
        fault_fail_alloc(nth);
        rc = walk_all(&v, &s, &why);
        fault_clear();
        if (rc < 0 && why.id != PROBLEM_NO_MEMORY)
            fail_msg("allocation %u: %s", nth, problem_code(&why));
        fell(&v.root);
    }
    return 0;
}
IN_LOOP(each_failing_allocation_is_survived)

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(every_name_is_told_once_in_its_place),
        cmocka_unit_test(a_directory_that_is_refused_is_one_of_many),
        cmocka_unit_test(a_server_that_is_gone_or_lies_ends_it),
        cmocka_unit_test(a_tree_without_end_comes_to_one),
        cmocka_unit_test(what_is_skipped_is_not_told),
        cmocka_unit_test(a_walk_may_be_left_at_any_step),
        cmocka_unit_test(pages_outlive_their_step),
        cmocka_unit_test(each_failing_allocation_is_survived),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
