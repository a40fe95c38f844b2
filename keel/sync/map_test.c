/* SPDX-License-Identifier: MIT */
#include <keel/map.h>

#include "test/test_abort.h"

#include <stdio.h>

#include <keel/thread.h>

#include "test/fault.h"

static struct keel_map *map_new(void)
{
    struct keel_map *m = NULL;

    assert_int_equal(keel_map_new(&m), 0);
    return m;
}

/* Any pointer that is not NULL. */
static void *value_of(size_t n)
{
    static char values[1 << 20];

    return &values[n];
}

static void a_key_has_the_value_last_put(void **state)
{
    keel_auto(map) struct keel_map *m = map_new();
    void *old = value_of(9);

    (void)state;
    assert_null(keel_map_get(m, "a", 1));
    assert_int_equal(keel_map_put(m, "a", 1, value_of(1), &old), 0);
    assert_null(old);
    assert_int_equal(keel_map_put(m, "a", 1, value_of(2), &old), 0);
    assert_ptr_equal(old, value_of(1));
    assert_ptr_equal(keel_map_get(m, "a", 1), value_of(2));
    assert_int_equal(keel_map_count(m), 1);
    assert_ptr_equal(keel_map_remove(m, "a", 1), value_of(2));
    assert_null(keel_map_remove(m, "a", 1));
    assert_null(keel_map_get(m, "a", 1));
    assert_int_equal(keel_map_count(m), 0);
}

static void keys_are_bytes_and_are_copied(void **state)
{
    keel_auto(map) struct keel_map *m = map_new();
    static char large[KEEL_MAP_KEY_BYTES + 1];
    char key[] = "a\0b";

    (void)state;
    assert_int_equal(keel_map_put(m, key, 3, value_of(1), NULL), 0);
    assert_int_equal(keel_map_put(m, key, 1, value_of(2), NULL), 0);
    assert_int_equal(keel_map_put(m, NULL, 0, value_of(3), NULL), 0);
    key[2] = 'c';
    assert_ptr_equal(keel_map_get(m, "a\0b", 3), value_of(1));
    assert_null(keel_map_get(m, key, 3));
    assert_ptr_equal(keel_map_get(m, "a", 1), value_of(2));
    assert_ptr_equal(keel_map_get(m, "", 0), value_of(3));
    assert_int_equal(
        keel_map_put(m, large, KEEL_MAP_KEY_BYTES, value_of(4), NULL), 0);
    assert_int_equal(
        keel_map_put(m, large, KEEL_MAP_KEY_BYTES + 1, value_of(4), NULL),
        -EINVAL);
    assert_int_equal(keel_map_count(m), 4);
}

static void add_leaves_what_is_there(void **state)
{
    keel_auto(map) struct keel_map *m = map_new();
    void *there = NULL;

    (void)state;
    assert_int_equal(keel_map_add(m, "a", 1, value_of(1), &there), 0);
    assert_null(there);
    assert_int_equal(keel_map_add(m, "a", 1, value_of(2), &there), -EEXIST);
    assert_ptr_equal(there, value_of(1));
    assert_ptr_equal(keel_map_get(m, "a", 1), value_of(1));
}

static int index_of(void *value, void *arg)
{
    (void)arg;
    return (int)((char *)value - (char *)value_of(0));
}

static void *next_or_gone(void *value, void *arg)
{
    int *most = arg, n = value ? index_of(value, NULL) : 0;

    return n < *most ? value_of((size_t)n + 1) : NULL;
}

static void look_and_update_see_the_entry_stand_still(void **state)
{
    keel_auto(map) struct keel_map *m = map_new();
    int most = 2;

    (void)state;
    assert_int_equal(keel_map_look(m, "n", 1, index_of, NULL), -ENOENT);
    assert_int_equal(keel_map_update(m, "n", 1, next_or_gone, &most), 0);
    assert_int_equal(keel_map_look(m, "n", 1, index_of, NULL), 1);
    assert_int_equal(keel_map_update(m, "n", 1, next_or_gone, &most), 0);
    assert_int_equal(keel_map_look(m, "n", 1, index_of, NULL), 2);
    assert_int_equal(keel_map_update(m, "n", 1, next_or_gone, &most), 0);
    assert_int_equal(keel_map_look(m, "n", 1, index_of, NULL), -ENOENT);
    assert_int_equal(keel_map_count(m), 0);
}

/* Against a plain array, through growth and many removals. */
static void it_agrees_with_an_array(void **state)
{
    enum { KEYS = 3000 };
    keel_auto(map) struct keel_map *m = map_new();
    static void *expected[KEYS];
    size_t count = 0;
    uint32_t chance = 1;

    (void)state;
    for (int i = 0; i < 200000; i++) {
        char key[16];
        size_t size;
        unsigned n;

        chance = chance * 1664525 + 1013904223;
        /* In waves, so that it fills and empties. */
        n = (chance >> 8) % KEYS;
        size = (size_t)snprintf(key, sizeof key, "key %u", n);
        if (chance >> 31 == ((unsigned)i / 20000 & 1)) {
            void *old = NULL;

            assert_int_equal(
                keel_map_put(m, key, size, value_of((size_t)i), &old), 0);
            assert_ptr_equal(old, expected[n]);
            count += !old;
            expected[n] = value_of((size_t)i);
        } else {
            assert_ptr_equal(keel_map_remove(m, key, size), expected[n]);
            count -= expected[n] != NULL;
            expected[n] = NULL;
        }
        assert_int_equal(keel_map_count(m), count);
    }
    for (unsigned n = 0; n < KEYS; n++) {
        char key[16];
        size_t size = (size_t)snprintf(key, sizeof key, "key %u", n);

        assert_ptr_equal(keel_map_get(m, key, size), expected[n]);
    }
}

static int seen[1000], stop_at;

static int see(const void *key, size_t size, void *value, void *arg)
{
    unsigned n;

    (void)arg;
    assert_int_equal(size, sizeof n);
    memcpy(&n, key, sizeof n);
    assert_ptr_equal(value, value_of(n));
    seen[n]++;
    return --stop_at == 0 ? -EINTR : 0;
}

static int dropped;

static void drop(void *value)
{
    assert_non_null(value);
    dropped++;
}

static void each_meets_all_once_and_clear_takes_all(void **state)
{
    keel_auto(map) struct keel_map *m = map_new();

    (void)state;
    for (unsigned n = 0; n < 1000; n++)
        assert_int_equal(keel_map_put(m, &n, sizeof n, value_of(n), NULL), 0);
    stop_at = 0;
    assert_int_equal(keel_map_each(m, see, NULL), 0);
    for (int n = 0; n < 1000; n++)
        assert_int_equal(seen[n], 1);
    stop_at = 10;
    assert_int_equal(keel_map_each(m, see, NULL), -EINTR);
    assert_int_equal(stop_at, 0);
    keel_map_clear(m, drop);
    assert_int_equal(dropped, 1000);
    assert_int_equal(keel_map_count(m), 0);
}

static void a_call_survives_each_allocation_failure(void **state)
{
    struct keel_map *m = NULL;

    (void)state;
    fault_fail_alloc(1);
    assert_int_equal(keel_map_new(&m), -ENOMEM);
    assert_null(m);
    m = map_new();
    for (unsigned nth = 1;; nth++) {
        int rc;

        fault_fail_alloc(nth);
        rc = keel_map_put(m, "a", 1, value_of(1), NULL);
        if (!fault_fired()) {
            assert_int_equal(rc, 0);
            break;
        }
        assert_int_equal(rc, -ENOMEM);
        assert_int_equal(keel_map_count(m), 0);
        assert_null(keel_map_get(m, "a", 1));
    }
    fault_clear();
    keel_map_free(m);
}

static void put_null(void)
{
    struct keel_map *m = map_new();

    keel_map_put(m, "a", 1, NULL, NULL);
}

static void null_is_no_value(void **state)
{
    (void)state;
    assert_aborts(put_null, "value");
}

/* ---- many at once ---- */

enum { WORKERS = 4, ROUNDS = 4000, COUNTERS = 50 };

struct counter {
    int refs, count; /* under the lock of its part */
};
static struct keel_map *shared;

static void *count_up(void *value, void *arg)
{
    struct counter *c = value ? value : keel_calloc(1, sizeof *c);

    (void)arg;
    assert_non_null(c);
    c->count++;
    return c;
}

static int work(void *arg)
{
    struct keel_map *m = shared;

    for (int i = 0; i < ROUNDS; i++) {
        intptr_t own[2] = {(intptr_t)arg, i};
        int counter = i % COUNTERS;

        assert_int_equal(
            keel_map_update(m, &counter, sizeof counter, count_up, NULL), 0);
        /* Its own key: nobody else's doing. */
        assert_int_equal(
            keel_map_add(m, own, sizeof own, value_of((size_t)i), NULL), 0);
        assert_ptr_equal(keel_map_get(m, own, sizeof own), value_of((size_t)i));
        if (i % 3)
            assert_ptr_equal(keel_map_remove(m, own, sizeof own),
                             value_of((size_t)i));
        if (i % 100 == 0)
            keel_yield();
    }
    return 0;
}

static int run_work(void *arg)
{
    return keel_run(work, arg);
}

static int count_of(void *value, void *arg)
{
    (void)arg;
    return ((struct counter *)value)->count;
}

static void threads_and_loops_lose_nothing(void **state)
{
    struct keel_thread *t[WORKERS];

    (void)state;
    shared = map_new();
    for (int i = 0; i < WORKERS; i++)
        assert_int_equal(keel_thread_start("work", i % 2 ? work : run_work,
                                           (void *)(intptr_t)i, &t[i]),
                         0);
    for (int i = 0; i < WORKERS; i++)
        assert_int_equal(keel_thread_join(t[i], KEEL_FOREVER, NULL), 0);
    for (int c = 0; c < COUNTERS; c++) {
        assert_int_equal(keel_map_look(shared, &c, sizeof c, count_of, NULL),
                         WORKERS * ROUNDS / COUNTERS);
        keel_free(keel_map_remove(shared, &c, sizeof c));
    }
    assert_int_equal(keel_map_count(shared), WORKERS * ((ROUNDS + 2) / 3));
    keel_map_free(shared);
}

/* Who looks takes a reference before somebody else can remove the entry. */
static int take_reference(void *value, void *arg)
{
    struct counter *c = value;

    __atomic_fetch_add(&c->refs, 1, __ATOMIC_RELAXED);
    *(struct counter **)arg = c;
    return 0;
}

static void drop_reference(struct counter *c)
{
    if (__atomic_fetch_sub(&c->refs, 1, __ATOMIC_ACQ_REL) == 1)
        keel_free(c);
}

static int put_and_remove(void *arg)
{
    for (int i = 0; i < ROUNDS; i++) {
        struct counter *c = keel_calloc(1, sizeof *c);
        void *old = NULL;

        assert_non_null(c);
        c->refs = 1;
        assert_int_equal(keel_map_put(shared, "c", 1, c, &old), 0);
        if (old)
            drop_reference(old);
        if (i % 2 && (old = keel_map_remove(shared, "c", 1)))
            drop_reference(old);
    }
    (void)arg;
    return 0;
}

static int look_and_use(void *arg)
{
    int used = 0;

    (void)arg;
    for (int i = 0; i < ROUNDS; i++) {
        struct counter *c = NULL;

        if (keel_map_look(shared, "c", 1, take_reference, &c) < 0)
            continue;
        used += __atomic_load_n(&c->refs, __ATOMIC_RELAXED) > 0;
        drop_reference(c);
    }
    return used;
}

static void a_reference_taken_by_look_outlives_the_entry(void **state)
{
    struct keel_thread *t[WORKERS];
    void *left;

    (void)state;
    shared = map_new();
    for (int i = 0; i < WORKERS; i++)
        assert_int_equal(
            keel_thread_start("refs", i % 2 ? put_and_remove : look_and_use,
                              NULL, &t[i]),
            0);
    for (int i = 0; i < WORKERS; i++)
        assert_int_equal(keel_thread_join(t[i], KEEL_FOREVER, NULL), 0);
    left = keel_map_remove(shared, "c", 1);
    if (left)
        drop_reference(left);
    keel_map_free(shared);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        /* First: TSan wants no threads before a fork. */
        cmocka_unit_test(null_is_no_value),
        cmocka_unit_test(a_key_has_the_value_last_put),
        cmocka_unit_test(keys_are_bytes_and_are_copied),
        cmocka_unit_test(add_leaves_what_is_there),
        cmocka_unit_test(look_and_update_see_the_entry_stand_still),
        cmocka_unit_test(it_agrees_with_an_array),
        cmocka_unit_test(each_meets_all_once_and_clear_takes_all),
        cmocka_unit_test(a_call_survives_each_allocation_failure),
        cmocka_unit_test(threads_and_loops_lose_nothing),
        cmocka_unit_test(a_reference_taken_by_look_outlives_the_entry),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
