/* SPDX-License-Identifier: MIT */
#include <keel/shared.h>

#include "shtest.h"

#include <sys/mman.h>

KEEL_PROCESS(adds)
{
    struct keel_shvalue *v = test_opened(arg);

    for (int i = 0; i < 20000; i++)
        keel_shvalue_add(v, 1);
    return 0;
}

KEEL_PROCESS(sets_items)
{
    struct keel_sharray *a = NULL;
    double d = 2.5;

    if (keel_sharray_open(arg->fds[0], &a) < 0)
        return 1;
    for (size_t i = 0; i < keel_sharray_count(a); i++)
        if (keel_sharray_set(a, i, &d, SOON) != 0)
            return 2;
    keel_sharray_free(a);
    return 0;
}

KEEL_PROCESS(dies_with_the_array)
{
    struct keel_sharray *a = NULL;

    if (keel_sharray_open(arg->fds[0], &a) < 0 || keel_sharray_take(a, SOON))
        return 1;
    raise(SIGKILL);
    return 0;
}

static void memory_is_the_same_in_all_processes(void **state)
{
    keel_auto(shared) struct keel_shared *s = NULL;
    struct keel_shvalue *v = test_memory(sizeof(*v), &s);
    struct keel_process *p[3];
    int fd = keel_shared_fd(s);
    int64_t from = 5;

    (void)state;
    for (int i = 0; i < 3; i++)
        p[i] = test_start("adds", NULL, 0, &fd, 1);
    for (int i = 0; i < 3; i++)
        assert_int_equal(test_finish(p[i]), 0);
    assert_int_equal(keel_shvalue_get(v), 60000);
    assert_false(keel_shvalue_swap(v, &from, 7));
    assert_int_equal(from, 60000);
    assert_true(keel_shvalue_swap(v, &from, 7));
    keel_shvalue_set(v, keel_shvalue_get(v) + 1);
    assert_int_equal(keel_shvalue_add(v, -3), 5);
}

static void an_array_is_shared_and_bounded(void **state)
{
    keel_auto(sharray) struct keel_sharray *a = NULL;
    double d = 0;
    int fd;

    (void)state;
    assert_int_equal(keel_sharray_new(0, 8, &a), -EINVAL);
    assert_int_equal(keel_sharray_new(SIZE_MAX / 4, 8, &a), -EINVAL);
    assert_int_equal(keel_sharray_new(10, sizeof(d), &a), 0);
    fd = keel_sharray_fd(a);
    assert_int_equal(test_finish(test_start("sets_items", NULL, 0, &fd, 1)), 0);
    assert_int_equal(keel_sharray_get(a, 9, &d, SOON), 0);
    assert_true(d == 2.5);
    assert_int_equal(keel_sharray_get(a, 10, &d, SOON), -ERANGE);
    assert_int_equal(keel_sharray_set(a, 10, &d, SOON), -ERANGE);
    /* several of them under one hold; the dead one's is taken over */
    assert_int_equal(
        test_finish(test_start("dies_with_the_array", NULL, 0, &fd, 1)),
        -SIGKILL);
    assert_int_equal(keel_sharray_take(a, SOON), 1);
    assert_int_equal(keel_sharray_set(a, 0, &d, SOON), 0);
    assert_int_equal(keel_sharray_drop(a), 0);
    assert_int_equal(keel_sharray_drop(a), -EPERM);
}

static void only_what_is_ours_is_opened(void **state)
{
    struct keel_shared *s = NULL;
    struct keel_sharray *a = NULL;
    int fd = memfd_create("other", MFD_CLOEXEC);

    (void)state;
    assert_int_equal(ftruncate(fd, 4096), 0);
    assert_int_equal(keel_shared_open(fd, &s), -EINVAL);
    assert_int_equal(keel_shared_open(-1, &s), -EBADF);
    assert_int_equal(keel_shared_new(0, &s), -EINVAL);
    close(fd);
    assert_int_equal(keel_shared_new(100000, &s), 0);
    assert_int_equal(keel_sharray_open(keel_shared_fd(s), &a), -EINVAL);
    assert_int_equal(ftruncate(keel_shared_fd(s), 1), -1); /* sealed */
    assert_int_equal(keel_shared_size(s), 100000);
    keel_shared_free(s);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(memory_is_the_same_in_all_processes),
        cmocka_unit_test(an_array_is_shared_and_bounded),
        cmocka_unit_test(only_what_is_ours_is_opened),
    };

    alarm(100);
    return cmocka_run_group_tests(tests, NULL, NULL);
}
