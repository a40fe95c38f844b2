/* SPDX-License-Identifier: MIT */
#include <keel/lock.h>

#include "test/test_abort.h"

#include <keel/thread.h>

static struct keel_rwlock rwlock = KEEL_RWLOCK_INIT;
static char trace[32];
static size_t traced;

static void note(char c)
{
    trace[traced++] = c;
    trace[traced] = '\0';
}

static int reads(void *arg)
{
    int rc = keel_rwlock_take_read(&rwlock, KEEL_FOREVER);

    (void)arg;
    if (rc < 0)
        return rc;
    note('r');
    keel_yield();
    keel_rwlock_drop(&rwlock);
    return 0;
}

static int writes(void *arg)
{
    int rc = keel_rwlock_take_write(&rwlock, *(keel_ns *)arg);

    if (rc < 0)
        return rc;
    note('w');
    keel_yield();
    keel_rwlock_drop(&rwlock);
    return 0;
}

static keel_ns forever = KEEL_FOREVER;

CO_TEST(many_read_at_once_and_one_writes_alone)
{
    keel_rwlock_init(&rwlock);
    assert_int_equal(keel_rwlock_take_read(&rwlock, KEEL_NOW), 0);
    assert_int_equal(keel_rwlock_take_read(&rwlock, KEEL_NOW), 0);
    assert_int_equal(keel_rwlock_take_write(&rwlock, KEEL_NOW), -ETIMEDOUT);
    keel_rwlock_drop(&rwlock);
    keel_rwlock_drop(&rwlock);
    assert_int_equal(keel_rwlock_take_write(&rwlock, KEEL_NOW), 0);
    assert_int_equal(keel_rwlock_take_write(&rwlock, KEEL_NOW), -ETIMEDOUT);
    assert_int_equal(keel_rwlock_take_read(&rwlock, KEEL_NOW), -ETIMEDOUT);
    keel_rwlock_drop(&rwlock);
    keel_rwlock_fini(&rwlock);
    return 0;
}

CO_TEST(neither_readers_nor_writers_starve)
{
    struct keel_co *co[5];

    traced = 0;
    assert_int_equal(keel_rwlock_take_read(&rwlock, KEEL_NOW), 0);
    co[0] = test_spawn(writes, &forever);
    keel_yield();
    /* Behind the writer, though others read. */
    co[1] = test_spawn(reads, NULL);
    co[2] = test_spawn(writes, &forever);
    co[3] = test_spawn(reads, NULL);
    co[4] = test_spawn(reads, NULL);
    keel_yield();
    keel_rwlock_drop(&rwlock);
    for (int i = 0; i < 5; i++)
        assert_int_equal(test_join(co[i]), 0);
    assert_string_equal(trace, "wrrrw");
    return 0;
}

CO_TEST(a_writer_who_gives_up_lets_the_readers_in)
{
    keel_ns soon = keel_after(5 * KEEL_MS);
    struct keel_co *writer, *reader;

    traced = 0;
    assert_int_equal(keel_rwlock_take_read(&rwlock, KEEL_NOW), 0);
    writer = test_spawn(writes, &soon);
    keel_yield();
    reader = test_spawn(reads, NULL);
    assert_int_equal(test_join(writer), -ETIMEDOUT);
    assert_int_equal(test_join(reader), 0);
    writer = test_spawn(writes, &forever);
    keel_yield();
    reader = test_spawn(reads, NULL);
    keel_yield();
    keel_cancel(writer);
    assert_int_equal(test_join(writer), -ECANCELED);
    assert_int_equal(test_join(reader), 0);
    assert_string_equal(trace, "rr");
    keel_rwlock_drop(&rwlock);
    keel_rwlock_fini(&rwlock);
    return 0;
}

static void drop_free(void)
{
    keel_rwlock_drop(&rwlock);
}

static void dropping_what_nobody_has_is_asserted(void **state)
{
    (void)state;
    assert_aborts(drop_free, "keel_rwlock_drop(0x");
}

static int one, other; /* always equal to who may look */

static int read_or_write(void *arg)
{
    int writer = *(int *)arg;

    for (int i = 0; i < 3000; i++) {
        keel_ns deadline = i % 5 ? KEEL_FOREVER : keel_after(KEEL_US);
        int rc = writer ? keel_rwlock_take_write(&rwlock, deadline)
                        : keel_rwlock_take_read(&rwlock, deadline);

        if (rc == -ETIMEDOUT)
            continue;
        if (writer) {
            one++;
            other++;
        } else if (one != other) {
            return -EIO;
        }
        keel_rwlock_drop(&rwlock);
    }
    return 0;
}

static void threads_read_what_was_written_whole(void **state)
{
    static int is_writer[4] = {1, 0, 1, 0};
    struct keel_thread *t[4];
    int result;

    (void)state;
    for (int i = 0; i < 4; i++)
        assert_int_equal(
            keel_thread_start("rw", read_or_write, &is_writer[i], &t[i]), 0);
    for (int i = 0; i < 4; i++) {
        assert_int_equal(keel_thread_join(t[i], KEEL_FOREVER, &result), 0);
        assert_int_equal(result, 0);
    }
    keel_rwlock_fini(&rwlock);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        /* First: TSan wants no threads before a fork. */
        cmocka_unit_test(dropping_what_nobody_has_is_asserted),
        cmocka_unit_test(many_read_at_once_and_one_writes_alone),
        cmocka_unit_test(neither_readers_nor_writers_starve),
        cmocka_unit_test(a_writer_who_gives_up_lets_the_readers_in),
        cmocka_unit_test(threads_read_what_was_written_whole),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
