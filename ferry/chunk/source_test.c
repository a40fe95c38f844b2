/* SPDX-License-Identifier: MIT */
#include <errno.h>
#include <fcntl.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include <cmocka.h>

#include <keel/co.h>
#include <keel/thread.h>

#include "chunk/source.h"
#include "test/fault.h"

static char path[] = "/tmp/ferry-source-XXXXXX";
static struct buffer_pool *pool;

static void write_file(uint64_t size)
{
    int fd = open(path, O_RDWR | O_TRUNC);
    uint8_t *bytes = malloc(CHUNK_BYTES);

    for (uint64_t at = 0; at < size; at += CHUNK_BYTES) {
        size_t n = chunk_size(size, at / CHUNK_BYTES);

        for (size_t i = 0; i < n; i++)
            bytes[i] = (uint8_t)(i * 7 + at / CHUNK_BYTES);
        assert_int_equal(write(fd, bytes, n), n);
    }
    free(bytes);
    close(fd);
}

static struct source *opened(enum chunk_hash hash)
{
    struct source *s = NULL;
    int fd = open(path, O_RDWR);

    assert_int_equal(source_open(fd, hash, "words", &s, NULL), 0);
    return s;
}

/* The root, from the bytes on the disk. */
static struct digest root_of(enum chunk_hash hash, uint64_t size)
{
    static struct digest leaves[80];
    uint8_t *bytes = malloc(CHUNK_BYTES);
    int fd = open(path, O_RDONLY);
    struct digest root;

    for (uint64_t i = 0; i < chunk_count(size); i++) {
        ssize_t n = read(fd, bytes, CHUNK_BYTES);

        assert_int_equal(n, chunk_size(size, i));
        chunk_leaf(hash, bytes, (size_t)n, &leaves[i]);
    }
    chunk_root(hash, leaves, chunk_count(size), &root);
    free(bytes);
    close(fd);
    return root;
}

static void a_file_is_read_and_hashed_chunk_by_chunk(void **state)
{
    static const uint64_t sizes[] = {0, 1, CHUNK_BYTES, 3 * CHUNK_BYTES + 5,
                                     65 * CHUNK_BYTES + 4097};

    (void)state;
    for (size_t k = 0; k < sizeof sizes / sizeof *sizes; k++) {
        keel_auto(source) struct source *s = NULL;
        keel_auto(buffer) struct buffer *b = NULL;
        struct digest root, expected;

        write_file(sizes[k]);
        s = opened(CHUNK_XXH128);
        assert_int_equal(source_size(s), sizes[k]);
        assert_int_equal(buffer_take(pool, KEEL_NOW, &b), 0);
        for (uint64_t i = chunk_count(sizes[k]); i-- > 0;) {
            assert_false(source_hashed(s, i));
            assert_int_equal(source_read(s, i, b, NULL), 0);
            assert_true(source_hashed(s, i));
            assert_int_equal(b->bytes[0], (uint8_t)i);
            memset(b->bytes, 0, 1);
        }
        expected = root_of(CHUNK_XXH128, sizes[k]);
        assert_int_equal(source_root(s, &root, NULL), 0);
        assert_memory_equal(&root, &expected, sizeof root);
    }
}

static void without_a_hash_nothing_is_hashed(void **state)
{
    keel_auto(source) struct source *s = NULL;
    keel_auto(buffer) struct buffer *b = NULL;
    struct digest root;

    (void)state;
    write_file(100);
    s = opened(0);
    assert_int_equal(buffer_take(pool, KEEL_NOW, &b), 0);
    assert_int_equal(source_read(s, 0, b, NULL), 0);
    assert_false(source_hashed(s, 0));
    assert_null(source_leaves(s));
    assert_int_equal(source_root(s, &root, NULL), -ENODATA);
}

static void a_trusted_source_is_not_hashed_but_must_not_change(void **state)
{
    keel_auto(source) struct source *s = NULL;
    keel_auto(buffer) struct buffer *b = NULL;
    struct problem why;
    struct digest root;

    (void)state;
    write_file(100);
    s = opened(CHUNK_SHA256);
    source_trust(s);
    assert_int_equal(buffer_take(pool, KEEL_NOW, &b), 0);
    assert_int_equal(source_read(s, 0, b, NULL), 0);
    assert_false(source_hashed(s, 0));
    assert_int_equal(source_root(s, &root, NULL), -ENODATA);
    assert_int_equal(truncate(path, 99), 0);
    assert_int_equal(source_root(s, &root, &why), -ESTALE);
    assert_int_equal(why.id, PROBLEM_FILE_CHANGED);
}

static void a_known_leaf_is_believed(void **state)
{
    keel_auto(source) struct source *s = NULL;
    struct digest leaf = {{42}}, root;

    (void)state;
    write_file(100);
    s = opened(CHUNK_SHA256);
    source_know(s, 0, &leaf);
    assert_int_equal(source_hash(s, 0, NULL), 0);
    assert_int_equal(source_root(s, &root, NULL), 0);
    assert_memory_equal(&root, &leaf, sizeof root);
    leaf.bytes[0] = 43; /* and the first one stays */
    source_know(s, 0, &leaf);
    assert_int_equal(source_leaves(s)[0].bytes[0], 42);
}

static void a_source_that_changes_is_refused(void **state)
{
    (void)state;
    for (int how = 0; how < 4; how++) {
        keel_auto(source) struct source *s = NULL;
        keel_auto(buffer) struct buffer *b = NULL;
        const struct timespec past[2] = {{.tv_sec = 1}, {.tv_sec = 1}};
        struct problem why;
        struct digest root;
        int fd;

        write_file(2 * CHUNK_BYTES);
        s = opened(CHUNK_XXH128);
        assert_int_equal(buffer_take(pool, KEEL_NOW, &b), 0);
        assert_int_equal(source_read(s, 0, b, &why), 0);
        fd = open(path, O_WRONLY);
        if (how == 0) { /* shrinks: seen by the read */
            assert_int_equal(ftruncate(fd, CHUNK_BYTES + 1), 0);
            assert_int_equal(source_read(s, 1, b, &why), -ESTALE);
            assert_int_equal(why.id, PROBLEM_FILE_CHANGED);
            assert_string_equal(why.name, "words");
            assert_int_equal(source_root(s, &root, &why), -ESTALE);
            close(fd);
            continue;
        }
        assert_int_equal(source_root(s, &root, NULL), -ENODATA);
        assert_int_equal(source_hash(s, 1, &why), 0);
        if (how == 1) /* grows */
            assert_int_equal(pwrite(fd, "x", 1, 2 * CHUNK_BYTES), 1);
        else if (how == 2) /* is given another date */
            assert_int_equal(futimens(fd, past), 0);
        else
            assert_int_equal(fchmod(fd, 0640), 0);
        close(fd);
        assert_int_equal(source_root(s, &root, &why), -ESTALE);
        assert_int_equal(why.id, PROBLEM_FILE_CHANGED);
    }
}

static void what_has_more_bytes_than_it_says_is_refused(void **state)
{
    keel_auto(source) struct source *s = NULL;
    struct problem why = {0};
    struct digest root;
    int fd = open("/proc/self/stat", O_RDONLY);

    (void)state;
    assert_int_equal(source_open(fd, CHUNK_SHA256, "words", &s, NULL), 0);
    assert_int_equal(source_size(s), 0);
    assert_true(source_root(s, &root, &why) < 0);
    assert_int_equal(why.id, PROBLEM_FILE_CHANGED);
}

static void what_is_no_file_is_refused_and_stays_the_callers(void **state)
{
    struct source *s;
    struct problem why;
    int p[2], fd;

    (void)state;
    fd = open("/tmp", O_RDONLY);
    assert_int_equal(source_open(fd, CHUNK_SHA256, "/tmp", &s, &why), -EISDIR);
    assert_int_equal(why.id, PROBLEM_FILE_IS_DIRECTORY);
    assert_int_equal(close(fd), 0);
    assert_int_equal(pipe(p), 0);
    assert_int_equal(source_open(p[0], CHUNK_SHA256, "p", &s, &why), -EINVAL);
    assert_int_equal(why.id, PROBLEM_FILE_NOT_REGULAR);
    assert_int_equal(close(p[0]), 0);
    assert_int_equal(close(p[1]), 0);
}

static int hash_all(void *arg)
{
    struct source *s = arg;

    for (uint64_t i = 0; i < chunk_count(source_size(s)); i++)
        if (source_hash(s, i, NULL) < 0 || !source_hashed(s, i))
            return -1;
    return 0;
}

static void several_may_read_the_same_chunks(void **state)
{
    keel_auto(source) struct source *s = NULL;
    struct keel_thread *t[4];
    struct digest root, expected;

    (void)state;
    write_file(8 * CHUNK_BYTES + 3);
    s = opened(CHUNK_XXH128);
    for (int i = 0; i < 4; i++)
        assert_int_equal(keel_thread_start("reader", hash_all, s, &t[i]), 0);
    for (int i = 0; i < 4; i++) {
        int result = -1;

        assert_int_equal(keel_thread_join(t[i], KEEL_FOREVER, &result), 0);
        assert_int_equal(result, 0);
    }
    expected = root_of(CHUNK_XXH128, source_size(s));
    assert_int_equal(source_root(s, &root, NULL), 0);
    assert_memory_equal(&root, &expected, sizeof root);
}

/* ---- in coroutines */

struct work {
    struct source *source;
    uint64_t first;
    struct buffer_pool *pool;
};

static int read_some(void *arg)
{
    struct work *w = arg;

    for (uint64_t i = w->first; i < chunk_count(source_size(w->source));
         i += 4) {
        keel_auto(buffer) struct buffer *b = NULL;
        int rc = buffer_take(w->pool, KEEL_FOREVER, &b);

        if (rc == 0)
            rc = source_read(w->source, i, b, NULL);
        if (rc < 0)
            return rc;
        if (b->bytes[1] != (uint8_t)(7 + i))
            return -EBADMSG;
    }
    return 0;
}

static int read_ahead(void *arg)
{
    keel_auto(group) struct keel_group *g = NULL;
    struct keel_spawn how = {0};
    struct work w[4];

    if (keel_group_new(0, &g) < 0)
        return -1;
    how.group = g;
    for (uint64_t i = 0; i < 4; i++) {
        w[i] = (struct work){arg, i, pool};
        if (keel_spawn(&how, read_some, &w[i], NULL) < 0)
            return -1;
    }
    return keel_group_join(g, KEEL_FOREVER);
}

static void coroutines_read_ahead(void **state)
{
    keel_auto(source) struct source *s = NULL;
    struct digest root, expected;

    (void)state;
    write_file(70 * CHUNK_BYTES + 3);
    s = opened(CHUNK_SHA256);
    assert_int_equal(keel_run(read_ahead, s), 0);
    expected = root_of(CHUNK_SHA256, source_size(s));
    assert_int_equal(source_root(s, &root, NULL), 0);
    assert_memory_equal(&root, &expected, sizeof root);
}

/* ---- faults */

/* 0, or the error; whatever fails, nothing is left behind (the sanitizers
 * say so) and a good root is only of the true bytes. */
static int whole_read(const struct digest *expected)
{
    keel_auto(source) struct source *s = NULL;
    keel_auto(buffer) struct buffer *b = NULL;
    struct problem why;
    struct digest root;
    int fd = open(path, O_RDONLY), rc;

    rc = source_open(fd, CHUNK_XXH128, "words", &s, &why);
    if (rc < 0) {
        close(fd);
        return rc;
    }
    assert_int_equal(buffer_take(pool, KEEL_NOW, &b), 0);
    for (uint64_t i = 0; i < chunk_count(source_size(s)); i++) {
        rc = i % 2 ? source_hash(s, i, &why) : source_read(s, i, b, &why);
        if (rc < 0)
            return rc;
    }
    rc = source_root(s, &root, &why);
    if (rc == 0)
        assert_memory_equal(&root, expected, sizeof root);
    return rc;
}

static void each_fault_is_reported(void **state)
{
    static const struct {
        enum keel_op op;
        int error, result;
    } faults[] = {
        {KEEL_OP_ALLOC, ENOMEM, -ENOMEM}, {KEEL_OP_READ, EIO, -EIO},
        {KEEL_OP_READ, EINTR, 0},         {KEEL_OP_READ, FAULT_SHORT, 0},
        {KEEL_OP_STAT, EIO, -EIO},
    };
    static const uint64_t sizes[] = {3 * CHUNK_BYTES + 9, 65 * CHUNK_BYTES};

    (void)state;
    for (size_t k = 0; k < 2; k++) {
        struct digest expected;

        write_file(sizes[k]);
        expected = root_of(CHUNK_XXH128, sizes[k]);
        for (size_t i = 0; i < sizeof faults / sizeof *faults; i++)
            for (unsigned nth = 1;; nth += k ? 13 : 1) {
                int rc;

                fault_fail(faults[i].op, nth, faults[i].error);
                rc = whole_read(&expected);
                if (!fault_fired()) {
                    assert_int_equal(rc, 0);
                    break;
                }
                assert_int_equal(rc, faults[i].result);
            }
    }
}

static void a_small_file_is_loaded_whole(void **state)
{
    static const uint64_t not_small[] = {0, (32 << 10) + 1, 3 * CHUNK_BYTES};
    struct digest root, expected;
    struct source *s;

    (void)state;
    write_file(5000);
    s = opened(CHUNK_XXH128);
    assert_null(source_small(s));
    source_load(s);
    assert_non_null(source_small(s));
    assert_int_equal(((const uint8_t *)source_small(s))[1], 7);
    expected = root_of(CHUNK_XXH128, 5000);
    assert_int_equal(source_root(s, &root, NULL), 0);
    assert_memory_equal(&root, &expected, sizeof root);
    assert_int_equal(truncate(path, 4999), 0);
    assert_int_equal(source_root(s, &root, NULL), -ESTALE);
    source_close(s);

    s = opened(0); /* it became shorter since it was opened */
    assert_int_equal(truncate(path, 4998), 0);
    source_load(s);
    assert_null(source_small(s));
    source_close(s);
    for (size_t i = 0; i < sizeof not_small / sizeof *not_small; i++) {
        write_file(not_small[i]);
        s = opened(0);
        source_load(s);
        assert_null(source_small(s));
        source_close(s);
    }
}

static void what_is_loaded_in_all_is_bounded(void **state)
{
    enum { MANY = 200, FIT = (4 << 20) / (32 << 10) };
    struct source *s[MANY];

    (void)state;
    write_file(32 << 10);
    for (int round = 0; round < 2; round++) {
        for (int i = 0; i < MANY; i++) {
            s[i] = opened(0);
            source_load(s[i]);
            source_load(s[i]); /* counts once */
            assert_int_equal(source_small(s[i]) != NULL, i < FIT);
        }
        for (int i = 0; i < MANY; i++)
            source_close(s[i]);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(a_file_is_read_and_hashed_chunk_by_chunk),
        cmocka_unit_test(without_a_hash_nothing_is_hashed),
        cmocka_unit_test(a_trusted_source_is_not_hashed_but_must_not_change),
        cmocka_unit_test(a_known_leaf_is_believed),
        cmocka_unit_test(a_source_that_changes_is_refused),
        cmocka_unit_test(what_has_more_bytes_than_it_says_is_refused),
        cmocka_unit_test(what_is_no_file_is_refused_and_stays_the_callers),
        cmocka_unit_test(several_may_read_the_same_chunks),
        cmocka_unit_test(coroutines_read_ahead),
        cmocka_unit_test(a_small_file_is_loaded_whole),
        cmocka_unit_test(what_is_loaded_in_all_is_bounded),
        cmocka_unit_test(each_fault_is_reported),
    };
    int fd = mkstemp(path), rc;

    if (fd < 0 || buffer_pool_new(6, &pool) < 0)
        return 1;
    close(fd);
    rc = cmocka_run_group_tests(tests, NULL, NULL);
    buffer_pool_free(pool);
    unlink(path);
    return rc;
}
