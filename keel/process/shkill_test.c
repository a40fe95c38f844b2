/* SPDX-License-Identifier: MIT */
/* Proof by killing.
 *
 *   every step   a process dies at its first STEP() of an operation, at its
 *                second, and so on until it survives; and the same while it
 *                sleeps and is woken
 *   at random    producers, consumers and holders of locks are killed at any
 *                time and replaced, thousands of times with KEEL_TEST_LONG
 *
 * After each death the others go on: nothing blocks, nothing is there twice or
 * damaged, and only what the dead had in its hands is missing. */
#include "shtest.h"

#include <stdio.h>
#include <sys/mman.h>
#include <time.h>

#include <keel/shlock.h>
#include <keel/shqueue.h>

#include "family.h"

#ifdef __SANITIZE_THREAD__
#define SLOW 8
#else
#define SLOW 1
#endif

enum { LAP = 8, FAR = 3000 };

/* ---- dying ---- */

static int die_at, steps;

static void step(void)
{
    if (die_at && ++steps == die_at)
        kill(getpid(), SIGKILL);
}

/* ---- scenes ---- */

enum scene {
    PUT,
    GET,
    SLEEPY_PUT,
    SLEEPY_GET,
    FAR_PUT,
    PEEK,
    CLOSE,
    TASK_DONE,
    LOCK,
    SLEEPY_LOCK,
    RLOCK,
    COND_WAIT,
    SEMAPHORE,
    BOUNDED,
    SLEEPY_BOUNDED,
    EVENT,
    BARRIER_LAST,
    BARRIER_FIRST,
    ARRAY,
    SCENES
};

struct table {
    struct keel_shlock lock;
    struct keel_shrlock rlock;
    struct keel_shcond cond;
    struct keel_shsemaphore semaphore, bounded;
    struct keel_shevent event, begun;
    struct keel_shbarrier barrier;
};

struct order {
    enum scene scene;
    int at;
};

static struct table *t;
static struct keel_shqueue *q;
static struct keel_sharray *array;
static uint8_t big[FAR];

static void act(enum scene s)
{
    uint64_t m = 777, items[4] = {777, 777, 777, 777};
    size_t size;

    switch (s) {
    case PUT:
    case SLEEPY_PUT:
        keel_shqueue_put(q, &m, sizeof(m), SOON);
        break;
    case FAR_PUT:
        keel_shqueue_put(q, big, sizeof(big), SOON);
        break;
    case GET:
    case SLEEPY_GET:
        keel_shqueue_get(q, big, sizeof(big), SOON, &size);
        break;
    case PEEK:
        keel_shqueue_peek(q, big, sizeof(big), &size);
        break;
    case CLOSE:
        keel_shqueue_close(q);
        keel_shqueue_close_now(q);
        break;
    case TASK_DONE:
        keel_shqueue_get(q, big, sizeof(big), SOON, &size);
        keel_shqueue_task_done(q);
        break;
    case LOCK:
    case SLEEPY_LOCK:
        keel_shlock_take(&t->lock, SOON);
        keel_shlock_drop(&t->lock);
        break;
    case RLOCK:
        keel_shrlock_take(&t->rlock, SOON);
        keel_shrlock_take(&t->rlock, SOON);
        keel_shrlock_drop(&t->rlock);
        keel_shrlock_drop(&t->rlock);
        break;
    case COND_WAIT:
        keel_shlock_take(&t->lock, SOON);
        keel_shcond_wait(&t->cond, &t->lock, SOON);
        keel_shcond_signal(&t->cond);
        keel_shlock_drop(&t->lock);
        break;
    case SEMAPHORE:
        keel_shsemaphore_take(&t->semaphore, SOON);
        keel_shsemaphore_give(&t->semaphore);
        break;
    case BOUNDED:
    case SLEEPY_BOUNDED:
        keel_shsemaphore_take(&t->bounded, SOON);
        keel_shsemaphore_give(&t->bounded);
        break;
    case EVENT:
        keel_shevent_set(&t->event);
        break;
    case BARRIER_LAST:
    case BARRIER_FIRST:
        keel_shbarrier_wait(&t->barrier, SOON);
        break;
    case ARRAY:
        keel_sharray_set(array, 1, items, SOON);
        break;
    default:
        break;
    }
}

KEEL_PROCESS(victim)
{
    const struct order *o = arg->data;

    t = test_opened(arg);
    if (keel_shqueue_open(arg->fds[1], &q) < 0 ||
        keel_sharray_open(arg->fds[2], &array) < 0)
        return 1;
    memset(big, 7, sizeof(big));
    keel_shevent_set(&t->begun);
    die_at = o->at;
    keel_test_step = step;
    act(o->scene);
    return 0;
}

static bool sleepy(enum scene s)
{
    return s == SLEEPY_PUT || s == SLEEPY_GET || s == SLEEPY_LOCK ||
           s == COND_WAIT || s == SLEEPY_BOUNDED || s == BARRIER_FIRST;
}

/* Messages before the victim comes. */
static uint64_t before(enum scene s)
{
    return s == SLEEPY_PUT ? LAP : s == SLEEPY_GET ? 0 : 3;
}

static void prepare(enum scene s)
{
    for (uint64_t v = 0; v < before(s); v++)
        assert_int_equal(keel_shqueue_put(q, &v, sizeof(v), KEEL_NOW), 0);
    assert_int_equal(keel_shsemaphore_init(&t->semaphore, 2, 0), 0);
    assert_int_equal(keel_shsemaphore_init(&t->bounded, 1, 1), 0);
    assert_int_equal(keel_shbarrier_init(&t->barrier, 2), 0);
    if (s == SLEEPY_LOCK)
        assert_int_equal(keel_shlock_take(&t->lock, KEEL_NOW), 0);
    if (s == SLEEPY_BOUNDED)
        assert_int_equal(keel_shsemaphore_take(&t->bounded, KEEL_NOW), 0);
}

/* Who dies before it has come is waited for, until the deadline. */
static void comes_too(void)
{
    int rc = keel_shbarrier_wait(&t->barrier, keel_after(50 * KEEL_MS));

    assert_true(rc == 0 || rc == 1 || rc == -EPIPE || rc == -ETIMEDOUT);
}

/* What the sleeping victim waits for happens.  It may be dead already. */
static void rouse(enum scene s)
{
    uint64_t v = 0;
    size_t size;

    keel_sleep(keel_after(2 * KEEL_MS));
    switch (s) {
    case SLEEPY_PUT:
        assert_int_equal(keel_shqueue_get(q, big, sizeof(big), KEEL_NOW, &size),
                         0);
        assert_int_equal(keel_shqueue_task_done(q), 0);
        break;
    case SLEEPY_GET:
        keel_shqueue_put(q, &v, sizeof(v), KEEL_NOW);
        break;
    case SLEEPY_LOCK:
        assert_int_equal(keel_shlock_drop(&t->lock), 0);
        break;
    case COND_WAIT:
        keel_shcond_broadcast(&t->cond);
        break;
    case SLEEPY_BOUNDED:
        assert_int_equal(keel_shsemaphore_give(&t->bounded), 0);
        break;
    default:
        comes_too();
    }
}

static void queue_goes_on(enum scene s, bool dead)
{
    int left = 0, least = 0, most = (int)before(s) + 1;
    uint64_t v;
    size_t size;

    while (keel_shqueue_get(q, big, sizeof(big), keel_after(KEEL_MS), &size) ==
           0) {
        memcpy(&v, big, sizeof(v));
        assert_true((size == 8 && (v == 777 || v < LAP)) ||
                    (size == FAR && big[FAR - 1] == 7));
        assert_int_equal(keel_shqueue_task_done(q), 0);
        left++;
    }
    memset(big, 7, sizeof(big));
    if (s == CLOSE) {
        uint64_t m = 1;

        if (keel_shqueue_put(q, &m, sizeof(m), KEEL_NOW) == 0)
            assert_true(dead); /* before it closed */
        return;
    }
    least = s == SLEEPY_GET                                 ? 0
            : s == SLEEPY_PUT || s == GET || s == TASK_DONE ? (int)before(s) - 1
                                                            : (int)before(s);
    assert_in_range(left, least, most);
    for (int lap = 0; lap < 3; lap++) {
        for (v = 0; v < LAP; v++)
            assert_int_equal(keel_shqueue_put(q, &v, sizeof(v), SOON), 0);
        assert_int_equal(keel_shqueue_put(q, &v, sizeof(v), KEEL_NOW),
                         -ETIMEDOUT);
        for (uint64_t i = 0; i < LAP; i++) {
            assert_int_equal(keel_shqueue_get(q, &v, sizeof(v), SOON, &size),
                             0);
            assert_int_equal(v, i);
            assert_int_equal(keel_shqueue_task_done(q), 0);
        }
    }
    assert_int_equal(keel_shqueue_join(q, SOON), 0);
}

static void locks_go_on(void)
{
    uint64_t items[4];
    int rc, units = 0;

    assert_in_range(keel_shlock_take(&t->lock, SOON), 0, 1);
    assert_int_equal(keel_shlock_drop(&t->lock), 0);
    assert_int_equal(keel_shlock_take(&t->lock, KEEL_NOW), 0);
    assert_int_equal(keel_shlock_drop(&t->lock), 0);
    assert_in_range(keel_shrlock_take(&t->rlock, SOON), 0, 1);
    assert_int_equal(keel_shrlock_drop(&t->rlock), 0);
    assert_int_equal(keel_shrlock_drop(&t->rlock), -EPERM);
    while (keel_shsemaphore_take(&t->semaphore, KEEL_NOW) == 0)
        units++;
    assert_in_range(units, 1, 2);
    assert_int_equal(keel_shsemaphore_take(&t->bounded, SOON), 0);
    assert_int_equal(keel_shsemaphore_take(&t->bounded, KEEL_NOW), -ETIMEDOUT);
    assert_int_equal(keel_shsemaphore_give(&t->bounded), 0);
    rc = keel_shbarrier_wait(&t->barrier, keel_after(KEEL_MS));
    assert_true(rc == -EPIPE || rc == -ETIMEDOUT || rc == 1);
    assert_int_equal(keel_shbarrier_reset(&t->barrier), 0);
    /* an item is the old one or the new, whole */
    assert_int_equal(keel_sharray_get(array, 1, items, SOON), 0);
    for (int i = 0; i < 4; i++)
        assert_int_equal(items[i], items[0]);
    assert_true(items[0] == 0 || items[0] == 777);
}

/* True: the victim lived to the end. */
static bool dies_at(enum scene s, int at)
{
    keel_auto(shared) struct keel_shared *memory = NULL;
    struct order o = {s, at};
    struct keel_process *p;
    int code;

    t = test_memory(sizeof(*t), &memory);
    assert_int_equal(keel_shqueue_new(LAP, FAR, &q), 0);
    assert_int_equal(keel_sharray_new(3, 32, &array), 0);
    prepare(s);
    p = test_start("victim", &o, sizeof(o),
                   (int[]){keel_shared_fd(memory), keel_shqueue_fd(q),
                           keel_sharray_fd(array)},
                   3);
    assert_int_equal(keel_shevent_wait(&t->begun, SOON), 0);
    if (sleepy(s))
        rouse(s);
    else if (s == BARRIER_LAST)
        comes_too();
    code = test_finish(p);
    assert_true(code == 0 || code == -SIGKILL);
    queue_goes_on(s, code != 0);
    locks_go_on();
    keel_sharray_free(array);
    keel_shqueue_free(q);
    return code == 0;
}

static void a_death_at_any_step_blocks_and_breaks_nothing(void **state)
{
    int deaths = 0;

    (void)state;
    memset(big, 7, sizeof(big));
    for (enum scene s = 0; s < SCENES; s++)
        /* A sleeper's spins are steps too: over them in strides. */
        for (int at = 1; !dies_at(s, at); at += at < 60 ? 1 : at / 4)
            deaths++;
    printf("%d deaths at steps\n", deaths);
    assert_true(deaths > 100);
}

/* ---- at random ---- */

enum { SIDE = 3, PER_LANE = 1 << 22 };
struct book {
    struct keel_shlock lock;
    struct keel_shsemaphore bounded;
    _Atomic uint64_t inside;          /* of the lock */
    _Atomic uint64_t moved[2 * SIDE]; /* operations, by place */
    _Atomic uint32_t lane[SIDE];      /* numbers given by that producer */
    _Atomic uint64_t twice, damaged, disorder, together, failed;
    _Atomic bool stop;
    uint32_t seen[SIDE][SIDE];
    _Atomic uint8_t got[SIDE][PER_LANE];
};

static void produce(struct book *b, int place)
{
    uint8_t m[200];
    /* numbered before the put: a number may be skipped, never used again */
    uint32_t k = atomic_fetch_add(&b->lane[place], 1);
    uint64_t item = (uint64_t)place << 32 | k;
    size_t n = 16 + k % 150;

    if (k >= PER_LANE) {
        usleep(1000);
        return;
    }
    memset(m, (int)(k & 255), n);
    memcpy(m, &item, sizeof(item));
    if (keel_shqueue_put(q, m, n, SOON) != 0)
        atomic_fetch_add(&b->failed, 1);
}

static void consume(struct book *b, int place)
{
    uint8_t m[200];
    uint64_t item;
    size_t n = 0;
    uint32_t p, k;
    int rc = keel_shqueue_get(q, m, sizeof(m), keel_after(100 * KEEL_MS), &n);

    if (rc < 0) {
        if (rc != -ETIMEDOUT)
            atomic_fetch_add(&b->failed, 1);
        return;
    }
    memcpy(&item, m, sizeof(item));
    p = (uint32_t)(item >> 32);
    k = (uint32_t)item;
    if (p >= SIDE || k >= PER_LANE || n != 16 + k % 150 || m[8] != (k & 255) ||
        m[n - 1] != (k & 255)) {
        atomic_fetch_add(&b->damaged, 1);
        return;
    }
    if (atomic_fetch_add(&b->got[p][k], 1))
        atomic_fetch_add(&b->twice, 1);
    if (k < b->seen[place - SIDE][p])
        atomic_fetch_add(&b->disorder, 1);
    b->seen[place - SIDE][p] = k + 1;
}

/* Alone within the lock: what the dead left inside is told by the 1. */
static void hold(struct book *b)
{
    int rc = keel_shlock_take(&b->lock, SOON);

    if (rc < 0) {
        atomic_fetch_add(&b->failed, 1);
        return;
    }
    if (rc == 1)
        atomic_store(&b->inside, 0);
    if (atomic_fetch_add(&b->inside, 1) != 0)
        atomic_fetch_add(&b->together, 1);
    atomic_fetch_sub(&b->inside, 1);
    keel_shlock_drop(&b->lock);
    if (keel_shsemaphore_take(&b->bounded, SOON) < 0)
        atomic_fetch_add(&b->failed, 1);
    else
        keel_shsemaphore_give(&b->bounded);
}

KEEL_PROCESS(worker)
{
    int place = *(const int *)arg->data;
    struct book *b = test_opened(arg);

    if (keel_shqueue_open(arg->fds[1], &q) < 0)
        return 1;
    while (!b->stop) {
        if (place < SIDE)
            produce(b, place);
        else
            consume(b, place);
        hold(b);
        atomic_fetch_add(&b->moved[place], 1);
    }
    return 0;
}

static int fds[2];
static struct keel_process *hire(int place)
{
    return test_start("worker", &place, sizeof(place), fds, 2);
}

static uint64_t stuck(struct book *b)
{
    uint64_t was[2 * SIDE], n = 0;

    for (int i = 0; i < 2 * SIDE; i++)
        was[i] = b->moved[i];
    for (int i = 0; i < 2 * SIDE; i++) {
        keel_ns give_up = keel_after(10 * KEEL_SECOND);

        while (b->moved[i] == was[i] && keel_now() < give_up)
            keel_sleep(keel_after(KEEL_MS));
        n += b->moved[i] == was[i];
    }
    return n;
}

static void random_kills_block_and_lose_nothing_else(void **state)
{
    keel_auto(shared) struct keel_shared *memory = NULL;
    struct book *b = test_memory(sizeof(*b), &memory);
    int kills_most = getenv("KEEL_TEST_LONG") ? 10000 : 300 / SLOW;
    uint64_t seed = 42, kills = 0, put = 0, missing = 0;
    struct keel_process *p[2 * SIDE];

    (void)state;
    assert_int_equal(keel_shsemaphore_init(&b->bounded, 2, 2), 0);
    assert_int_equal(keel_shqueue_new(64, 4096, &q), 0);
    fds[0] = keel_shared_fd(memory);
    fds[1] = keel_shqueue_fd(q);
    for (int i = 0; i < 2 * SIDE; i++)
        p[i] = hire(i);
    while (kills < (uint64_t)kills_most) {
        int i;

        seed = seed * 6364136223846793005U + 1442695040888963407U;
        i = (int)(seed >> 40) % (2 * SIDE);
        keel_sleep(keel_after((keel_ns)(seed >> 33) % (700 * KEEL_US)));
        keel_process_kill(p[i]);
        kills++;
        /* every other one is replaced only later: the others go on alone */
        if (kills % 100 == 0) {
            assert_int_equal(test_finish(p[i]), -SIGKILL);
            p[i] = hire(i);
            assert_int_equal(stuck(b), 0);
        } else {
            assert_int_equal(test_finish(p[i]), -SIGKILL);
            p[i] = hire(i);
        }
    }
    for (int i = 0; i < SIDE; i++) { /* producers end, consumers drain */
        keel_process_kill(p[i]);
        assert_int_equal(test_finish(p[i]), -SIGKILL);
        kills++;
    }
    for (int i = 0; i < 5000 && !keel_shqueue_empty(q); i++)
        keel_sleep(keel_after(KEEL_MS));
    atomic_store(&b->stop, true);
    for (int i = SIDE; i < 2 * SIDE; i++)
        assert_int_equal(test_finish(p[i]), 0);
    for (int i = 0; i < SIDE; i++) {
        uint32_t n = b->lane[i] < PER_LANE ? b->lane[i] : PER_LANE;

        put += n;
        for (uint32_t k = 0; k < n; k++)
            missing += b->got[i][k] == 0;
    }
    printf("%lu kills under %lu messages, %lu missing\n", (unsigned long)kills,
           (unsigned long)put, (unsigned long)missing);
    assert_true(put > 0);
    assert_true(missing <= kills);
    assert_int_equal(b->twice, 0);
    assert_int_equal(b->damaged, 0);
    assert_int_equal(b->together, 0);
    assert_int_equal(b->failed, 0);
    keel_shqueue_free(q);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(a_death_at_any_step_blocks_and_breaks_nothing),
        cmocka_unit_test(random_kills_block_and_lose_nothing_else),
    };

    alarm(getenv("KEEL_TEST_LONG") ? 1500 : 150);
    return cmocka_run_group_tests(tests, NULL, NULL);
}
