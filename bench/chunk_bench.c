/* SPDX-License-Identifier: MIT */
/* What the chunk engine costs: chunk_bench DIR [MIB]
 *
 *   hash     one core, whole chunks
 *   journal  a record, and opening the journal of 280 GiB
 *   part     MIB received in chunks, 8 at a time, until it is synced
 *   source   the same file read and hashed, 8 at a time
 *   small    unnamed parts of 4 KiB, one after the other, not synced
 *
 * Compare the figures of one run with each other only. */
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <keel/co.h>
#include <keel/file.h>

#include "chunk/part.h"
#include "chunk/source.h"

#define DEPTH 8

struct bench {
    int dir;
    uint64_t size;
    enum chunk_hash hash;
    struct buffer_pool *pool;
    struct part *part;
    struct source *source;
    uint64_t next;
};

static void say(const char *what, double amount, const char *unit, keel_ns t)
{
    printf("%-28s %10.1f %s\n", what, amount / ((double)t / 1e9), unit);
}

static void check(int rc, const char *what)
{
    if (rc < 0) {
        fprintf(stderr, "%s: %s\n", what, strerror(-rc));
        exit(1);
    }
}

static void bench_hash(void)
{
    uint8_t *bytes = malloc(CHUNK_BYTES);

    memset(bytes, 7, CHUNK_BYTES);
    for (enum chunk_hash h = CHUNK_SHA256; h <= CHUNK_XXH128; h++) {
        int count = h == CHUNK_SHA256 ? 300 : 3000;
        struct digest d;
        keel_ns t = keel_now();

        for (int i = 0; i < count; i++)
            chunk_leaf(h, bytes, CHUNK_BYTES, &d);
        say(chunk_hash_name(h), count, "MiB/s", keel_now() - t);
    }
    free(bytes);
}

static void bench_journal(int dir)
{
    struct journal_key key = {.size = 280ull << 30, .hash = CHUNK_SHA256};
    uint64_t count = chunk_count(key.size);
    struct digest leaf = {{1}};
    struct journal *j;
    keel_ns t;

    (void)keel_file_unlink(dir, "bench.log");
    check(journal_open(dir, "bench.log", &key, &j), "journal");
    t = keel_now();
    for (uint64_t i = 0; i < count; i++)
        check(journal_add(j, i, &leaf), "journal");
    t = keel_now() - t;
    printf("%-28s %10.2f us\n", "journal, a record",
           (double)t / 1e3 / (double)count);
    journal_close(j);
    t = keel_now();
    check(journal_open(dir, "bench.log", &key, &j), "journal");
    t = keel_now() - t;
    printf("%-28s %10.1f ms\n", "journal of 280 GiB, open", (double)t / 1e6);
    journal_close(j);
    (void)keel_file_unlink(dir, "bench.log");
}

static int receive_some(void *arg)
{
    struct bench *b = arg;

    while (b->next < chunk_count(b->size)) {
        keel_auto(buffer) struct buffer *buf = NULL;
        uint64_t i = b->next++;

        check(buffer_take(b->pool, KEEL_FOREVER, &buf), "buffer");
        memset(buf->bytes, (int)i, CHUNK_BYTES); /* as a receiver would */
        check(part_write(b->part, i, buf, NULL), "part_write");
    }
    return 0;
}

static int read_some(void *arg)
{
    struct bench *b = arg;

    while (b->next < chunk_count(b->size)) {
        keel_auto(buffer) struct buffer *buf = NULL;
        uint64_t i = b->next++;

        check(buffer_take(b->pool, KEEL_FOREVER, &buf), "buffer");
        check(source_read(b->source, i, buf, NULL), "source_read");
    }
    return 0;
}

static void side_by_side(struct bench *b, int (*fn)(void *arg))
{
    keel_auto(group) struct keel_group *g = NULL;
    struct keel_spawn how = {0};

    check(keel_group_new(0, &g), "group");
    how.group = g;
    b->next = 0;
    for (int i = 0; i < DEPTH; i++)
        check(keel_spawn(&how, fn, b, NULL), "spawn");
    check(keel_group_join(g, KEEL_FOREVER), "join");
}

static void bench_large(struct bench *b)
{
    struct part_options o = {.dir = b->dir,
                             .name = "bench",
                             .size = b->size,
                             .hash = b->hash,
                             .mode = 0600};
    double mib = (double)(b->size >> 20);
    char what[64];
    keel_ns t = keel_now();
    int fd;

    check(part_open(&o, &b->part, NULL), "part_open");
    side_by_side(b, receive_some);
    check(part_sync(b->part, NULL), "part_sync");
    snprintf(what, sizeof what, "part, %s, synced", chunk_hash_name(b->hash));
    say(what, mib, "MiB/s", keel_now() - t);

    fd = keel_file_open(b->dir, "bench", O_RDONLY, 0);
    check(fd, "open");
    t = keel_now();
    check(source_open(fd, b->hash, "bench", &b->source, NULL), "source_open");
    side_by_side(b, read_some);
    snprintf(what, sizeof what, "source, %s", chunk_hash_name(b->hash));
    say(what, mib, "MiB/s", keel_now() - t);
    source_close(b->source);
    part_drop(b->part);
}

static void bench_small(struct bench *b)
{
    struct part_options o = {
        .dir = b->dir, .size = 4096, .hash = CHUNK_SHA256, .mode = 0600};
    keel_auto(buffer) struct buffer *buf = NULL;
    enum { FILES = 5000 };
    keel_ns t;

    check(buffer_take(b->pool, KEEL_FOREVER, &buf), "buffer");
    memset(buf->bytes, 1, 4096);
    t = keel_now();
    for (int i = 0; i < FILES; i++) {
        keel_auto(part) struct part *p = NULL;
        struct digest root;

        check(part_open(&o, &p, NULL), "part_open");
        check(part_write(p, 0, buf, NULL), "part_write");
        check(part_root(p, &root), "part_root");
    }
    say("small parts of 4 KiB", FILES, "/s", keel_now() - t);
}

static int run(void *arg)
{
    struct bench *b = arg;

    bench_large(b);
    b->hash = CHUNK_XXH128;
    bench_large(b);
    bench_small(b);
    return 0;
}

int main(int argc, char **argv)
{
    struct bench b = {.hash = CHUNK_SHA256};

    if (argc < 2) {
        fprintf(stderr, "chunk_bench DIR [MIB]\n");
        return 2;
    }
    b.size = (uint64_t)(argc > 2 ? atoi(argv[2]) : 1024) << 20;
    b.dir = keel_file_open_any(argv[1], O_RDONLY | O_DIRECTORY, 0);
    check(b.dir, argv[1]);
    check(buffer_pool_new(2 * DEPTH, &b.pool), "buffers");
    bench_hash();
    bench_journal(b.dir);
    check(keel_run(run, &b), "run");
    buffer_pool_free(b.pool);
    keel_file_close(b.dir);
    return 0;
}
