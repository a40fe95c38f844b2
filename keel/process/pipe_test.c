/* SPDX-License-Identifier: MIT */
#include <keel/pipe.h>

#include "shtest.h"

#include <fcntl.h>

static char big[KEEL_PIPE_MESSAGE_MOST + 1], got[KEEL_PIPE_MESSAGE_MOST];

/* Sends back what comes, with the descriptors, until the other end is gone. */
KEEL_PROCESS(echoes)
{
    keel_auto(pipe) struct keel_pipe *p = NULL;
    int fds[KEEL_PIPE_FDS_MOST], rc;
    size_t size, count;

    if (keel_pipe_open(arg->fds[0], &p) < 0)
        return 1;
    while ((rc = keel_pipe_get_fds(p, got, sizeof(got), fds, SOON, &size,
                                   &count)) == 0) {
        if (keel_pipe_put_fds(p, got, size, fds, count, SOON) < 0)
            return 2;
        for (size_t i = 0; i < count; i++)
            close(fds[i]);
    }
    return rc == -EPIPE ? 0 : 3;
}

static struct keel_process *echo(struct keel_pipe **ret)
{
    struct keel_pipe *theirs = NULL;
    struct keel_process *p;
    int fd;

    assert_int_equal(keel_pipe_new(ret, &theirs), 0);
    fd = keel_pipe_fd(theirs);
    p = test_start("echoes", NULL, 0, &fd, 1);
    keel_pipe_free(theirs);
    return p;
}

static void messages_arrive_whole_and_both_ways(void **state)
{
    static const size_t sizes[] = {1, 2, 1000, KEEL_PIPE_MESSAGE_MOST, 3};
    struct keel_pipe *p = NULL;
    struct keel_process *child = echo(&p);
    size_t size = 0;

    (void)state;
    for (size_t i = 0; i < sizeof(big); i++)
        big[i] = (char)(i * 31 + i / 257);
    for (int lap = 0; lap < 20; lap++) {
        for (size_t i = 0; i < 5; i++)
            assert_int_equal(keel_pipe_put(p, big, sizes[i], SOON), 0);
        for (size_t i = 0; i < 5; i++) {
            assert_int_equal(keel_pipe_get(p, got, sizeof(got), SOON, &size),
                             0);
            assert_int_equal(size, sizes[i]);
            assert_memory_equal(got, big, size);
        }
    }
    keel_pipe_free(p);
    assert_int_equal(test_finish(child), 0);
}

static void sizes_are_checked(void **state)
{
    struct keel_pipe *a = NULL, *b = NULL;
    size_t size = 0;
    int fds[2];

    (void)state;
    assert_int_equal(keel_pipe_new(&a, &b), 0);
    assert_int_equal(keel_pipe_put(a, big, sizeof(big), SOON), -EMSGSIZE);
    assert_int_equal(keel_pipe_put(a, big, 0, SOON), -EMSGSIZE);
    assert_int_equal(keel_pipe_put(a, "hello", 5, SOON), 0);
    assert_int_equal(keel_pipe_get(b, got, 4, SOON, &size), -EMSGSIZE);
    assert_int_equal(keel_pipe_get(b, got, 5, SOON, &size), 0);
    assert_int_equal(size, 5);
    assert_int_equal(keel_pipe_get(b, got, 5, KEEL_NOW, &size), -ETIMEDOUT);
    while (keel_pipe_put(a, big, 60000, KEEL_NOW) == 0)
        ;
    assert_int_equal(keel_pipe_put(a, big, 60000, keel_after(KEEL_MS)),
                     -ETIMEDOUT);
    keel_pipe_free(a);
    while (keel_pipe_get(b, got, sizeof(got), SOON, &size) == 0)
        assert_int_equal(size, 60000);
    assert_int_equal(keel_pipe_get(b, got, sizeof(got), SOON, &size), -EPIPE);
    assert_int_equal(keel_pipe_put(b, "x", 1, SOON), -EPIPE);
    assert_int_equal(pipe2(fds, O_CLOEXEC), 0);
    assert_int_equal(keel_pipe_open(fds[0], &a), -EINVAL);
    close(fds[0]);
    close(fds[1]);
    keel_pipe_free(b);
}

static void descriptors_travel(void **state)
{
    struct keel_pipe *p = NULL;
    struct keel_process *child = echo(&p);
    int fds[2], back[KEEL_PIPE_FDS_MOST];
    size_t size, count = 0;
    char c = 0;

    (void)state;
    assert_int_equal(pipe2(fds, O_CLOEXEC), 0);
    assert_int_equal(keel_pipe_put_fds(p, "fd", 2, fds, 2, SOON), 0);
    close(fds[0]);
    close(fds[1]);
    assert_int_equal(
        keel_pipe_get_fds(p, got, sizeof(got), back, SOON, &size, &count), 0);
    assert_int_equal(count, 2);
    assert_int_equal(write(back[1], "y", 1), 1);
    assert_int_equal(read(back[0], &c, 1), 1);
    assert_int_equal(c, 'y');
    /* unasked for, they are closed */
    assert_int_equal(keel_pipe_put_fds(p, "fd", 2, back, 2, SOON), 0);
    close(back[1]);
    assert_int_equal(keel_pipe_get(p, got, sizeof(got), SOON, &size), 0);
    keel_pipe_free(p);
    assert_int_equal(test_finish(child), 0);
    assert_int_equal(read(back[0], &c, 1), 0);
    close(back[0]);
}

static void a_killed_peer_is_an_error_not_a_hang(void **state)
{
    struct keel_pipe *p = NULL;
    struct keel_process *child = echo(&p);
    size_t size;

    (void)state;
    assert_int_equal(keel_pipe_get(p, got, 9, keel_after(KEEL_MS), &size),
                     -ETIMEDOUT);
    keel_process_kill(child);
    assert_int_equal(keel_pipe_get(p, got, 9, SOON, &size), -EPIPE);
    assert_int_equal(test_finish(child), -SIGKILL);
    keel_pipe_free(p);
}

static int gets_one(void *arg)
{
    size_t size = 0;
    int rc = keel_pipe_get(arg, got, sizeof(got), SOON, &size);

    return rc < 0 ? rc : (int)size;
}

CO_TEST(a_coroutine_parks_in_get)
{
    struct keel_pipe *p = NULL;
    struct keel_process *child = echo(&p);
    struct keel_co *co = test_spawn(gets_one, p);

    keel_yield();
    assert_int_equal(keel_pipe_put(p, "abc", 3, SOON), 0);
    assert_int_equal(test_join(co), 3);
    keel_pipe_free(p);
    assert_int_equal(test_finish(child), 0);
    return 0;
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(messages_arrive_whole_and_both_ways),
        cmocka_unit_test(sizes_are_checked),
        cmocka_unit_test(descriptors_travel),
        cmocka_unit_test(a_killed_peer_is_an_error_not_a_hang),
        cmocka_unit_test(a_coroutine_parks_in_get),
    };

    alarm(100);
    return cmocka_run_group_tests(tests, NULL, NULL);
}
