/* SPDX-License-Identifier: MIT */
#include <keel/shlock.h>

#include "shtest.h"

#include <keel/thread.h>

/* What the processes of a test share. */
struct table {
    struct keel_shlock lock;
    struct keel_shrlock rlock;
    struct keel_shcond cond;
    struct keel_shsemaphore semaphore;
    struct keel_shevent event, there;
    struct keel_shbarrier barrier;
    int count;
    int results[4];
};
static struct table *t;
static struct keel_shared *memory;
static int fd;

static int setup(void **state)
{
    (void)state;
    t = test_memory(sizeof(*t), &memory);
    fd = keel_shared_fd(memory);
    return 0;
}

static int teardown(void **state)
{
    (void)state;
    keel_shared_free(memory);
    return 0;
}

static struct keel_process *begin(const char *entry)
{
    return test_start(entry, NULL, 0, &fd, 1);
}

static void wait_there(void)
{
    assert_int_equal(keel_shevent_wait(&t->there, SOON), 0);
    keel_shevent_clear(&t->there);
}

/* ---- lock ---- */

KEEL_PROCESS(counts_under_the_lock)
{
    t = test_opened(arg);
    for (int i = 0; i < 5000; i++) {
        int seen;

        if (keel_shlock_take(&t->lock, SOON) != 0)
            return 1;
        seen = t->count;
        if (i % 64 == 0)
            usleep(1); /* others fall asleep */
        t->count = seen + 1;
        if (keel_shlock_drop(&t->lock) != 0)
            return 2;
    }
    return 0;
}

static void a_lock_is_held_by_one_of_all(void **state)
{
    struct keel_process *p[3];

    (void)state;
    for (int i = 0; i < 3; i++)
        p[i] = begin("counts_under_the_lock");
    for (int i = 0; i < 3; i++)
        assert_int_equal(test_finish(p[i]), 0);
    assert_int_equal(t->count, 15000);
}

KEEL_PROCESS(keeps_everything)
{
    t = test_opened(arg);
    if (keel_shlock_take(&t->lock, SOON) < 0 ||
        keel_shrlock_take(&t->rlock, SOON) < 0 ||
        keel_shsemaphore_take(&t->semaphore, SOON) < 0)
        return 1;
    keel_shevent_set(&t->there);
    pause();
    return 0;
}

static void a_killed_process_leaves_no_lock_held(void **state)
{
    struct keel_process *p;

    (void)state;
    assert_int_equal(keel_shsemaphore_init(&t->semaphore, 1, 1), 0);
    p = begin("keeps_everything");
    wait_there();
    assert_int_equal(keel_shlock_take(&t->lock, KEEL_NOW), -ETIMEDOUT);
    assert_int_equal(keel_shlock_take(&t->lock, keel_after(KEEL_MS)),
                     -ETIMEDOUT);
    keel_process_kill(p);
    assert_int_equal(keel_shlock_take(&t->lock, SOON), 1);
    assert_int_equal(keel_shrlock_take(&t->rlock, SOON), 1);
    assert_int_equal(keel_shsemaphore_take(&t->semaphore, SOON), 0);
    assert_int_equal(keel_shlock_drop(&t->lock), 0);
    assert_int_equal(keel_shlock_take(&t->lock, KEEL_NOW), 0);
    assert_int_equal(keel_shlock_drop(&t->lock), 0);
    assert_int_equal(keel_shrlock_drop(&t->rlock), 0);
    assert_int_equal(test_finish(p), -SIGKILL);
}

static int drops_it(void *arg)
{
    (void)arg;
    return keel_shlock_drop(&t->lock);
}

static int drops_the_rlock(void *arg)
{
    (void)arg;
    return keel_shrlock_drop(&t->rlock);
}

static int in_thread(int (*fn)(void *arg))
{
    struct keel_thread *thread = NULL;
    int result = 1000;

    assert_int_equal(keel_thread_start("test", fn, NULL, &thread), 0);
    assert_int_equal(keel_thread_join(thread, SOON, &result), 0);
    return result;
}

static void a_lock_is_dropped_by_any_and_not_twice(void **state)
{
    (void)state;
    assert_int_equal(keel_shlock_take(&t->lock, SOON), 0);
    assert_int_equal(in_thread(drops_it), 0);
    assert_int_equal(keel_shlock_drop(&t->lock), -EPERM);
}

static void an_rlock_has_an_owner_and_a_count(void **state)
{
    (void)state;
    assert_int_equal(keel_shrlock_drop(&t->rlock), -EPERM);
    assert_int_equal(keel_shrlock_take(&t->rlock, SOON), 0);
    assert_int_equal(keel_shrlock_take(&t->rlock, SOON), 0);
    assert_int_equal(in_thread(drops_the_rlock), -EPERM);
    assert_int_equal(keel_shrlock_drop(&t->rlock), 0);
    assert_int_equal(keel_shrlock_drop(&t->rlock), 0);
    assert_int_equal(keel_shrlock_drop(&t->rlock), -EPERM);
}

/* ---- coroutines ---- */

static int takes(void *arg)
{
    int rc = keel_shlock_take(&t->lock, SOON);

    (void)arg;
    if (rc < 0)
        return rc;
    t->count++;
    keel_yield(); /* a lock is held across a wait */
    return keel_shlock_drop(&t->lock);
}

static int takes_the_rlock(void *arg)
{
    (void)arg;
    return keel_shrlock_take(&t->rlock, KEEL_NOW);
}

CO_TEST(a_coroutine_parks_and_can_be_cancelled)
{
    enum { COUNT = 150 }; /* more than one watcher sees to */
    struct keel_co *co[COUNT], *cancelled;

    assert_int_equal(keel_shlock_take(&t->lock, SOON), 0);
    cancelled = test_spawn(takes, NULL);
    for (int i = 0; i < COUNT; i++)
        co[i] = test_spawn(takes, NULL);
    keel_sleep(keel_after(2 * KEEL_MS));
    keel_cancel(cancelled);
    assert_int_equal(test_join(cancelled), -ECANCELED);
    assert_int_equal(keel_shlock_drop(&t->lock), 0);
    for (int i = 0; i < COUNT; i++)
        assert_int_equal(test_join(co[i]), 0);
    assert_int_equal(t->count, COUNT);
    /* an rlock's owner is the coroutine, not its thread */
    assert_int_equal(keel_shrlock_take(&t->rlock, SOON), 0);
    assert_int_equal(test_join(test_spawn(takes_the_rlock, NULL)), -ETIMEDOUT);
    assert_int_equal(keel_shrlock_drop(&t->rlock), 0);
    return 0;
}

/* ---- condition ---- */

static int waits_for_the_rlock(void *arg)
{
    (void)arg;
    return keel_shrlock_take(&t->rlock, SOON);
}

/* Not when it looks next, a second later. */
static int is_told_at_once(int (*fn)(void *arg))
{
    struct keel_thread *thread = NULL;
    int result = 1000;
    keel_ns begun;

    assert_int_equal(keel_thread_start("waits", fn, NULL, &thread), 0);
    assert_int_equal(keel_thread_join(thread, keel_after(20 * KEEL_MS), NULL),
                     -ETIMEDOUT);
    begun = keel_now();
    keel_thread_cancel(thread);
    assert_int_equal(keel_thread_join(thread, SOON, &result), 0);
    assert_true(keel_now() - begun < 500 * KEEL_MS);
    return result;
}

static void a_thread_that_waits_is_told_of_its_cancel_at_once(void **state)
{
    (void)state;
    assert_int_equal(keel_shlock_take(&t->lock, SOON), 0);
    assert_int_equal(keel_shrlock_take(&t->rlock, SOON), 0);
    assert_int_equal(is_told_at_once(takes), -ECANCELED);
    assert_int_equal(is_told_at_once(waits_for_the_rlock), -ECANCELED);
    assert_int_equal(keel_shlock_drop(&t->lock), 0);
    assert_int_equal(keel_shrlock_drop(&t->rlock), 0);
}

KEEL_PROCESS(raises_the_count)
{
    t = test_opened(arg);
    for (int i = 0; i < 100; i++) {
        if (keel_shlock_take(&t->lock, SOON) != 0)
            return 1;
        t->count++;
        keel_shcond_signal(&t->cond);
        if (keel_shlock_drop(&t->lock) != 0)
            return 1;
    }
    return 0;
}

static bool counted(void *arg)
{
    return t->count >= *(int *)arg;
}

static void a_condition_waits_for_what_another_process_does(void **state)
{
    struct keel_process *p;
    int all = 100, more = 101;

    (void)state;
    assert_int_equal(keel_shlock_take(&t->lock, SOON), 0);
    p = begin("raises_the_count");
    assert_int_equal(
        keel_shcond_wait_for(&t->cond, &t->lock, counted, &all, SOON), 0);
    assert_int_equal(keel_shcond_wait_for(&t->cond, &t->lock, counted, &more,
                                          keel_after(5 * KEEL_MS)),
                     -ETIMEDOUT);
    assert_int_equal(keel_shlock_drop(&t->lock), 0); /* it was taken again */
    assert_int_equal(test_finish(p), 0);
    assert_int_equal(keel_shcond_wait(&t->cond, &t->lock, SOON), -EPERM);
}

/* ---- semaphore ---- */

KEEL_PROCESS(gives_and_takes)
{
    t = test_opened(arg);
    for (int i = 0; i < 2000; i++)
        if (keel_shsemaphore_take(&t->semaphore, SOON) != 0 ||
            keel_shsemaphore_give(&t->semaphore) != 0)
            return 1;
    return 0;
}

static void a_semaphore_counts_and_is_bounded(void **state)
{
    (void)state;
    assert_int_equal(keel_shsemaphore_init(&t->semaphore, 3, 2), -EINVAL);
    assert_int_equal(keel_shsemaphore_init(&t->semaphore, 1, 65), -EINVAL);
    for (uint32_t bound = 0; bound <= 2; bound += 2) {
        struct keel_process *p[3];

        assert_int_equal(keel_shsemaphore_init(&t->semaphore, 2, bound), 0);
        for (int i = 0; i < 3; i++)
            p[i] = begin("gives_and_takes");
        for (int i = 0; i < 3; i++)
            assert_int_equal(test_finish(p[i]), 0);
        assert_int_equal(keel_shsemaphore_take(&t->semaphore, KEEL_NOW), 0);
        assert_int_equal(keel_shsemaphore_take(&t->semaphore, KEEL_NOW), 0);
        assert_int_equal(keel_shsemaphore_take(&t->semaphore, KEEL_NOW),
                         -ETIMEDOUT);
        assert_int_equal(keel_shsemaphore_give(&t->semaphore), 0);
        assert_int_equal(keel_shsemaphore_give(&t->semaphore), 0);
        assert_int_equal(keel_shsemaphore_give(&t->semaphore),
                         bound ? -EOVERFLOW : 0);
    }
    /* units that nobody took yet can be given */
    assert_int_equal(keel_shsemaphore_init(&t->semaphore, 0, 1), 0);
    assert_int_equal(keel_shsemaphore_take(&t->semaphore, KEEL_NOW),
                     -ETIMEDOUT);
    assert_int_equal(keel_shsemaphore_give(&t->semaphore), 0);
    assert_int_equal(keel_shsemaphore_take(&t->semaphore, KEEL_NOW), 0);
}

/* ---- event ---- */

KEEL_PROCESS(answers_events)
{
    t = test_opened(arg);
    for (int i = 0; i < 200; i++) {
        if (keel_shevent_wait(&t->event, SOON) != 0)
            return 1;
        keel_shevent_clear(&t->event);
        keel_shevent_set(&t->there);
    }
    return 0;
}

static void an_event_stays_set_until_cleared(void **state)
{
    struct keel_process *p = begin("answers_events");

    (void)state;
    for (int i = 0; i < 200; i++) {
        keel_shevent_set(&t->event);
        wait_there();
    }
    assert_int_equal(test_finish(p), 0);
    assert_int_equal(keel_shevent_wait(&t->event, keel_after(KEEL_MS)),
                     -ETIMEDOUT);
    keel_shevent_set(&t->event);
    assert_true(keel_shevent_is_set(&t->event));
    assert_int_equal(keel_shevent_wait(&t->event, KEEL_NOW), 0);
}

/* ---- barrier ---- */

KEEL_PROCESS(comes_to_the_barrier)
{
    t = test_opened(arg);
    for (int i = 0; i < 300; i++) {
        int place = keel_shbarrier_wait(&t->barrier, SOON);

        if (place < 0 || place > 2)
            return 1;
        if (place == 0)
            t->count++;
    }
    return 0;
}

KEEL_PROCESS(waits_at_the_barrier)
{
    t = test_opened(arg);
    keel_shevent_set(&t->there);
    return -keel_shbarrier_wait(&t->barrier, SOON);
}

static void a_barrier_lets_all_go_when_all_have_come(void **state)
{
    struct keel_process *p[3];

    (void)state;
    assert_int_equal(keel_shbarrier_init(&t->barrier, 0), -EINVAL);
    assert_int_equal(keel_shbarrier_init(&t->barrier, 65), -EINVAL);
    assert_int_equal(keel_shbarrier_init(&t->barrier, 3), 0);
    for (int i = 0; i < 3; i++)
        p[i] = begin("comes_to_the_barrier");
    for (int i = 0; i < 3; i++)
        assert_int_equal(test_finish(p[i]), 0);
    assert_int_equal(t->count, 300);
}

static struct keel_process *one_waits(void)
{
    struct keel_process *p = begin("waits_at_the_barrier");

    wait_there();
    while (keel_shbarrier_waiting(&t->barrier) == 0)
        keel_sleep(keel_after(KEEL_MS));
    return p;
}

static void a_barrier_breaks_for_all(void **state)
{
    struct keel_process *p;

    (void)state;
    assert_int_equal(keel_shbarrier_init(&t->barrier, 3), 0);
    /* by a deadline */
    p = one_waits();
    assert_int_equal(keel_shbarrier_wait(&t->barrier, keel_after(KEEL_MS)),
                     -ETIMEDOUT);
    assert_int_equal(test_finish(p), EPIPE);
    assert_true(keel_shbarrier_is_broken(&t->barrier));
    assert_int_equal(keel_shbarrier_wait(&t->barrier, SOON), -EPIPE);
    /* by reset, which also mends it */
    assert_int_equal(keel_shbarrier_reset(&t->barrier), 0);
    p = one_waits();
    assert_int_equal(keel_shbarrier_reset(&t->barrier), 0);
    assert_int_equal(test_finish(p), EPIPE);
    assert_false(keel_shbarrier_is_broken(&t->barrier));
    /* by abort */
    p = one_waits();
    assert_int_equal(keel_shbarrier_abort(&t->barrier), 0);
    assert_int_equal(test_finish(p), EPIPE);
    assert_int_equal(keel_shbarrier_reset(&t->barrier), 0);
    /* by a death */
    p = one_waits();
    keel_process_kill(p);
    assert_int_equal(keel_shbarrier_wait(&t->barrier, SOON), -EPIPE);
    assert_int_equal(test_finish(p), -SIGKILL);
}

int main(void)
{
#define TEST(name) cmocka_unit_test_setup_teardown(name, setup, teardown)
    const struct CMUnitTest tests[] = {
        TEST(a_lock_is_held_by_one_of_all),
        TEST(a_killed_process_leaves_no_lock_held),
        TEST(a_lock_is_dropped_by_any_and_not_twice),
        TEST(an_rlock_has_an_owner_and_a_count),
        TEST(a_coroutine_parks_and_can_be_cancelled),
        TEST(a_thread_that_waits_is_told_of_its_cancel_at_once),
        TEST(a_condition_waits_for_what_another_process_does),
        TEST(a_semaphore_counts_and_is_bounded),
        TEST(an_event_stays_set_until_cleared),
        TEST(a_barrier_lets_all_go_when_all_have_come),
        TEST(a_barrier_breaks_for_all),
    };

    alarm(100);
    return cmocka_run_group_tests(tests, NULL, NULL);
}
