/* SPDX-License-Identifier: MIT */
#include "chunk/source.h"

#include <errno.h>
#include <stdatomic.h>
#include <string.h>

#include <keel/co.h>
#include <keel/file.h>

/* A file that is larger would push others' pages out of the cache. */
#define ONCE_BYTES ((uint64_t)64 << 20)

enum { UNKNOWN, BEING_SET, KNOWN };

/* Up to here, going to another thread costs more than it spares this one. */
#define INLINE_BYTES ((size_t)32 << 10)

/* Of files that were loaded, in all sources. */
#define LOADED_MOST ((size_t)4 << 20)
static _Atomic size_t loaded_bytes;

/* Invariant: a chunk whose state is KNOWN has its leaf in `leaves`, for good. */
struct source {
    int fd;
    enum chunk_hash hash; /* 0: nothing is hashed */
    struct statx st;
    uint64_t chunks;
    struct digest *leaves;
    _Atomic uint8_t *hashed; /* the state of each chunk's leaf */
    uint8_t *loaded;         /* all of it, counted in loaded_bytes; or NULL */
    char name[];             /* for words */
};

static struct source *source_new(const char *name, enum chunk_hash hash,
                                 const struct statx *st)
{
    size_t size = strlen(name) + 1;
    struct source *s = keel_calloc(1, sizeof *s + size);

    if (!s)
        return NULL;
    memcpy(s->name, name, size);
    s->fd = -1;
    s->hash = hash;
    s->st = *st;
    s->chunks = chunk_count(st->stx_size);
    if (hash == 0)
        return s;
    s->leaves = keel_calloc(s->chunks + 1, sizeof *s->leaves);
    s->hashed = keel_calloc(s->chunks + 1, sizeof *s->hashed);
    if (!s->leaves || !s->hashed) {
        source_close(s);
        return NULL;
    }
    return s;
}

int source_open(int fd, enum chunk_hash hash, const char *name,
                struct source **ret, struct problem *why)
{
    struct source *s;
    struct statx st;
    int rc;

    rc = keel_file_stat(fd, NULL, &st);
    if (rc < 0)
        return problem(why, FILE_LOCAL, .errno_ = -rc, .name = name);
    if (S_ISDIR(st.stx_mode))
        return problem(why, FILE_IS_DIRECTORY, .name = name);
    if (!S_ISREG(st.stx_mode))
        return problem(why, FILE_NOT_REGULAR, .name = name);
    s = source_new(name, hash, &st);
    if (!s)
        return problem(why, NO_MEMORY);
    s->fd = fd;
    *ret = s;
    return 0;
}

void source_close(struct source *s)
{
    if (!s)
        return;
    keel_file_close(s->fd);
    if (s->loaded)
        atomic_fetch_sub(&loaded_bytes, s->st.stx_size);
    keel_free(s->loaded);
    keel_free(s->leaves);
    keel_free((void *)s->hashed);
    keel_free(s);
}

const struct statx *source_stat(const struct source *s)
{
    return &s->st;
}

uint64_t source_size(const struct source *s)
{
    return s->st.stx_size;
}

bool source_hashed(const struct source *s, uint64_t index)
{
    keel_assert(index < s->chunks);
    return s->hashed && atomic_load(&s->hashed[index]) == KNOWN;
}

const struct digest *source_leaves(const struct source *s)
{
    return s->leaves;
}

/* A chunk may be read by two at once: the first leaf stays, and the second
 * caller returns when it is there. */
void source_know(struct source *s, uint64_t index, const struct digest *leaf)
{
    uint8_t state = UNKNOWN;

    keel_assert(s->hash && index < s->chunks);
    if (atomic_compare_exchange_strong(&s->hashed[index], &state, BEING_SET)) {
        s->leaves[index] = *leaf;
        atomic_store(&s->hashed[index], KNOWN);
        return;
    }
    while (atomic_load(&s->hashed[index]) == BEING_SET)
        keel_yield();
}

void source_trust(struct source *s)
{
    s->hash = 0;
}

/* ---- reading */

struct reading {
    struct source *source;
    uint64_t index;
    uint8_t *bytes; /* NULL: only the hash is wanted */
    ssize_t got;
};

/* On a thread of the pool, where a read may block and a hash may last; a small
 * one on the loop, where the read parks. */
static int read_job(void *arg)
{
    struct reading *r = arg;
    struct source *s = r->source;
    keel_auto(str) char *own = r->bytes ? NULL : keel_alloc(CHUNK_BYTES);
    uint8_t *bytes = r->bytes ? r->bytes : (uint8_t *)own;
    size_t size = chunk_size(s->st.stx_size, r->index);
    uint64_t at = r->index * CHUNK_BYTES;
    struct digest leaf;

    if (!bytes)
        return -ENOMEM;
    r->got = s->st.stx_size >= ONCE_BYTES
                 ? keel_file_read_once(s->fd, bytes, size, at)
                 : keel_file_read(s->fd, bytes, size, at);
    if (r->got == (ssize_t)size && s->hash && !source_hashed(s, r->index)) {
        chunk_leaf(s->hash, bytes, size, &leaf);
        source_know(s, r->index, &leaf);
    }
    return 0;
}

static int read_chunk(struct source *s, uint64_t index, uint8_t *bytes,
                      struct problem *why)
{
    struct reading r = {.source = s, .index = index, .bytes = bytes};
    int rc;

    keel_assert(index < s->chunks);
    rc = chunk_size(s->st.stx_size, index) <= INLINE_BYTES
             ? read_job(&r)
             : keel_blocking(read_job, &r);
    if (rc == -EAGAIN) /* no thread to be had */
        rc = read_job(&r);
    if (rc == -ENOMEM)
        return problem(why, NO_MEMORY);
    if (rc == 0 && r.got < 0)
        rc = (int)r.got;
    if (rc < 0)
        return problem(why, FILE_LOCAL, .errno_ = -rc, .name = s->name);
    if ((size_t)r.got < chunk_size(s->st.stx_size, index))
        return problem(why, FILE_CHANGED, .name = s->name);
    return 0;
}

void source_load(struct source *s)
{
    size_t size = s->st.stx_size;
    uint8_t *bytes;

    if (size == 0 || size > INLINE_BYTES || s->loaded)
        return;
    if (atomic_fetch_add(&loaded_bytes, size) + size <= LOADED_MOST) {
        bytes = keel_alloc(size);
        if (bytes && keel_file_read(s->fd, bytes, size, 0) == (ssize_t)size) {
            s->loaded = bytes;
            return;
        }
        keel_free(bytes);
    }
    atomic_fetch_sub(&loaded_bytes, size);
}

const void *source_small(struct source *s)
{
    struct digest leaf;

    if (s->loaded && s->hash && !source_hashed(s, 0)) {
        chunk_leaf(s->hash, s->loaded, s->st.stx_size, &leaf);
        source_know(s, 0, &leaf);
    }
    return s->loaded;
}

int source_read(struct source *s, uint64_t index, struct buffer *b,
                struct problem *why)
{
    return read_chunk(s, index, b->bytes, why);
}

int source_hash(struct source *s, uint64_t index, struct problem *why)
{
    keel_assert(s->hash);
    if (source_hashed(s, index))
        return 0;
    return read_chunk(s, index, NULL, why);
}

/* ---- at the end */

static bool same_time(struct statx_timestamp a, struct statx_timestamp b)
{
    return a.tv_sec == b.tv_sec && a.tv_nsec == b.tv_nsec;
}

static int check_identity(struct source *s, struct problem *why)
{
    struct statx st;
    uint8_t more;
    ssize_t rc;

    rc = keel_file_stat(s->fd, NULL, &st);
    /* A file of /proc says 0 and has more. */
    if (rc == 0)
        rc = keel_file_read(s->fd, &more, 1, s->st.stx_size);
    if (rc < 0)
        return problem(why, FILE_LOCAL, .errno_ = (int)-rc, .name = s->name);
    if (rc > 0 || st.stx_ino != s->st.stx_ino ||
        st.stx_size != s->st.stx_size ||
        !same_time(st.stx_mtime, s->st.stx_mtime) ||
        !same_time(st.stx_ctime, s->st.stx_ctime))
        return problem(why, FILE_CHANGED, .name = s->name);
    return 0;
}

struct rooting {
    const struct source *source;
    struct digest *ret;
};

static int root_job(void *arg)
{
    const struct rooting *r = arg;

    chunk_root(r->source->hash, r->source->leaves, r->source->chunks, r->ret);
    return 0;
}

int source_root(struct source *s, struct digest *ret, struct problem *why)
{
    struct rooting r = {s, ret};
    int rc;

    rc = check_identity(s, why);
    if (rc < 0)
        return rc;
    if (s->hash == 0)
        return -ENODATA;
    for (uint64_t i = 0; i < s->chunks; i++)
        if (!source_hashed(s, i))
            return -ENODATA;
    if (s->chunks < 256 || keel_blocking(root_job, &r) < 0)
        root_job(&r);
    return 0;
}
