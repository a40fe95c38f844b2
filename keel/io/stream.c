/* SPDX-License-Identifier: MIT */
#include <keel/stream.h>

#include <errno.h>
#include <limits.h>
#include <stdatomic.h>
#include <string.h>

#include <keel/lock.h>

/* ---- the calls ------------------------------------------------------------------ */

ssize_t keel_stream_read(struct keel_stream *s, void *buf, size_t size,
                         keel_ns deadline)
{
    keel_assert(size <= SSIZE_MAX);
    return size ? s->is->read(s, buf, size, deadline) : 0;
}

int keel_stream_read_all(struct keel_stream *s, void *buf, size_t size,
                         size_t *ret_got, keel_ns deadline)
{
    size_t got = 0;
    int rc = 0;

    while (got < size) {
        ssize_t n =
            keel_stream_read(s, (char *)buf + got, size - got, deadline);
        if (n <= 0) {
            rc = n < 0 ? (int)n : -ECONNABORTED;
            break;
        }
        got += (size_t)n;
    }
    if (ret_got)
        *ret_got = got;
    return rc;
}

int keel_stream_write(struct keel_stream *s, const void *buf, size_t size,
                      keel_ns deadline)
{
    /* iovec serves reads too; writev does not write by it. */
    struct iovec iov = {(void *)(uintptr_t)buf, size};

    return keel_stream_writev(s, &iov, 1, deadline);
}

int keel_stream_writev(struct keel_stream *s, const struct iovec *iov,
                       int count, keel_ns deadline)
{
    keel_assert(count >= 0);
    return s->is->writev(s, iov, count, deadline);
}

int keel_stream_finish(struct keel_stream *s, keel_ns deadline)
{
    return s->is->finish(s, deadline);
}

void keel_stream_close(struct keel_stream *s)
{
    if (s)
        s->is->close(s);
}

int keel_stream_fd(struct keel_stream *s)
{
    return s->is->fd(s);
}

/* ---- a pair in memory --------------------------------------------------------------- */

/* One direction.  Invariants, under the pair's lock:
 *   count <= size; the bytes are buf[head], buf[head + 1], ... modulo size
 *   once `finished` or `writer_gone`, count only falls */
struct pipe_half {
    char *buf;
    size_t size, head, count;
    bool finished;    /* no more will be written, in order */
    bool writer_gone; /* its stream is closed */
    bool reader_gone;
    bool reset; /* the writer was closed with bytes for it unread */
    struct keel_cond readable, writable;
};

struct pair;
struct end {
    struct keel_stream stream;
    struct pair *pair;
    struct pipe_half *in, *out;
};

/* `refs` is the number of ends not closed.  It falls after the lock was
 * released, so that who frees the pair knows nobody to be inside the lock. */
struct pair {
    struct keel_lock lock;
    _Atomic int refs;
    struct end ends[2];
    struct pipe_half halves[2];
};

static size_t least(size_t a, size_t b)
{
    return a < b ? a : b;
}

static size_t half_get(struct pipe_half *h, char *buf, size_t size)
{
    size_t n = least(size, h->count);
    size_t first = least(n, h->size - h->head);

    memcpy(buf, h->buf + h->head, first);
    memcpy(buf + first, h->buf, n - first);
    h->head = (h->head + n) % h->size;
    h->count -= n;
    return n;
}

static size_t half_put(struct pipe_half *h, const char *buf, size_t size)
{
    size_t n = least(size, h->size - h->count);
    size_t tail = (h->head + h->count) % h->size;
    size_t first = least(n, h->size - tail);

    memcpy(h->buf + tail, buf, first);
    memcpy(h->buf, buf + first, n - first);
    h->count += n;
    return n;
}

static ssize_t pair_read(struct keel_stream *s, void *buf, size_t size,
                         keel_ns deadline)
{
    struct end *e = (struct end *)(void *)s;
    struct pipe_half *h = e->in;
    ssize_t got;

    keel_guard(&e->pair->lock);
    while (h->count == 0) {
        int rc;

        if (h->reset)
            return -ECONNRESET;
        if (h->finished || h->writer_gone)
            return 0;
        rc = keel_cond_wait(&h->readable, &e->pair->lock, deadline);
        if (rc < 0)
            return rc;
    }
    got = (ssize_t)half_get(h, buf, size);
    keel_cond_broadcast(&h->writable);
    return got;
}

static int half_write(struct end *e, const char *buf, size_t size,
                      keel_ns deadline)
{
    struct pipe_half *h = e->out;

    while (size) {
        size_t n;

        if (h->finished || h->reader_gone)
            return -EPIPE;
        if (h->count == h->size) {
            int rc = keel_cond_wait(&h->writable, &e->pair->lock, deadline);

            if (rc < 0)
                return rc;
            continue;
        }
        n = half_put(h, buf, size);
        buf += n;
        size -= n;
        keel_cond_broadcast(&h->readable);
    }
    return 0;
}

static int pair_writev(struct keel_stream *s, const struct iovec *iov,
                       int count, keel_ns deadline)
{
    struct end *e = (struct end *)(void *)s;

    keel_guard(&e->pair->lock);
    for (int i = 0; i < count; i++) {
        int rc = half_write(e, iov[i].iov_base, iov[i].iov_len, deadline);

        if (rc < 0)
            return rc;
    }
    return 0;
}

static int pair_finish(struct keel_stream *s, keel_ns deadline)
{
    struct end *e = (struct end *)(void *)s;

    (void)deadline;
    keel_guard(&e->pair->lock);
    e->out->finished = true;
    keel_cond_broadcast(&e->out->readable);
    return 0;
}

static void pair_release(struct pair *p)
{
    if (atomic_fetch_sub(&p->refs, 1) > 1)
        return;
    for (int i = 0; i < 2; i++) {
        keel_cond_fini(&p->halves[i].readable);
        keel_cond_fini(&p->halves[i].writable);
        keel_free(p->halves[i].buf);
    }
    keel_lock_fini(&p->lock);
    keel_free(p);
}

static void pair_close(struct keel_stream *s)
{
    struct end *e = (struct end *)(void *)s;
    struct pair *p = e->pair;

    keel_lock_hold(&p->lock);
    e->out->writer_gone = true;
    /* As TCP does: closing with unread bytes tells the peer that they did not
     * arrive, unless it had been told before that all is well. */
    if (e->in->count && !e->out->finished)
        e->out->reset = true;
    e->in->reader_gone = true;
    keel_cond_broadcast(&e->out->readable);
    keel_cond_broadcast(&e->in->writable);
    keel_lock_drop(&p->lock);
    pair_release(p);
}

static int pair_fd(struct keel_stream *s)
{
    (void)s;
    return -1;
}

static const struct keel_stream_class pair_class = {
    .name = "pair",
    .read = pair_read,
    .writev = pair_writev,
    .finish = pair_finish,
    .close = pair_close,
    .fd = pair_fd,
};

int keel_stream_pair(size_t size, struct keel_stream *ret[2])
{
    struct pair *p;

    keel_assert(size > 0);
    p = keel_calloc(1, sizeof *p);
    if (!p)
        return -ENOMEM;
    keel_lock_init(&p->lock);
    p->refs = 1;
    for (int i = 0; i < 2; i++) {
        keel_cond_init(&p->halves[i].readable);
        keel_cond_init(&p->halves[i].writable);
        p->halves[i].size = size;
        p->ends[i] = (struct end){
            .stream.is = &pair_class,
            .pair = p,
            .in = &p->halves[i],
            .out = &p->halves[1 - i],
        };
    }
    for (int i = 0; i < 2; i++) {
        p->halves[i].buf = keel_alloc(size);
        if (!p->halves[i].buf) {
            pair_release(p);
            return -ENOMEM;
        }
    }
    p->refs = 2;
    ret[0] = &p->ends[0].stream;
    ret[1] = &p->ends[1].stream;
    return 0;
}

/* ---- a buffered reader -------------------------------------------------------------------- */

/* The bytes read and not yet taken are buf[start .. end). */
struct keel_reader {
    struct keel_stream *stream;
    size_t size, start, end;
    char buf[];
};

int keel_reader_new(struct keel_stream *s, size_t buffer_bytes,
                    struct keel_reader **ret)
{
    struct keel_reader *r;
    size_t size;

    keel_assert(buffer_bytes > 0);
    if (__builtin_add_overflow(sizeof *r, buffer_bytes, &size))
        return -ENOMEM;
    r = keel_alloc(size);
    if (!r)
        return -ENOMEM;
    *r = (struct keel_reader){.stream = s, .size = buffer_bytes};
    *ret = r;
    return 0;
}

void keel_reader_free(struct keel_reader *r)
{
    keel_free(r);
}

int keel_reader_exact(struct keel_reader *r, void *buf, size_t size,
                      keel_ns deadline)
{
    size_t n = least(size, r->end - r->start);

    memcpy(buf, r->buf + r->start, n);
    r->start += n;
    /* What is missing goes past the buffer, where it would be copied twice. */
    return keel_stream_read_all(r->stream, (char *)buf + n, size - n, NULL,
                                deadline);
}

/* Reads more behind what is there; 0 at the end of the stream. */
static ssize_t reader_more(struct keel_reader *r, keel_ns deadline)
{
    ssize_t got;

    if (r->start) {
        memmove(r->buf, r->buf + r->start, r->end - r->start);
        r->end -= r->start;
        r->start = 0;
    }
    if (r->end == r->size)
        return -EMSGSIZE;
    got = keel_stream_read(r->stream, r->buf + r->end, r->size - r->end,
                           deadline);
    if (got > 0)
        r->end += (size_t)got;
    return got;
}

static ssize_t reader_until(struct keel_reader *r, const char *end,
                            size_t end_size, char **ret, keel_ns deadline)
{
    size_t looked = 0; /* no end begins before */

    for (;;) {
        char *at = r->buf + r->start;
        size_t have = r->end - r->start;
        const char *hit = memmem(at + looked, have - looked, end, end_size);
        ssize_t got;

        if (hit) {
            size_t size = (size_t)(hit - at) + end_size;

            r->start += size;
            *ret = at;
            return (ssize_t)size;
        }
        if (have >= end_size)
            looked = have - end_size + 1;
        got = reader_more(r, deadline);
        if (got < 0)
            return got;
        if (got == 0)
            return have ? -ECONNABORTED : 0;
    }
}

ssize_t keel_reader_until(struct keel_reader *r, char end, const char **ret,
                          keel_ns deadline)
{
    char *at;
    ssize_t size = reader_until(r, &end, 1, &at, deadline);

    if (size > 0)
        *ret = at;
    return size;
}

ssize_t keel_reader_until_text(struct keel_reader *r, const char *end,
                               const char **ret, keel_ns deadline)
{
    char *at;
    ssize_t size;

    keel_assert(*end);
    size = reader_until(r, end, strlen(end), &at, deadline);
    if (size > 0)
        *ret = at;
    return size;
}

ssize_t keel_reader_line(struct keel_reader *r, const char **ret,
                         keel_ns deadline)
{
    char *at;
    ssize_t size = reader_until(r, "\n", 1, &at, deadline);

    if (size <= 0)
        return size < 0 ? size : -ENODATA;
    size--;
    if (size && at[size - 1] == '\r')
        size--;
    at[size] = '\0';
    *ret = at;
    return size;
}

ssize_t keel_reader_read(struct keel_reader *r, void *buf, size_t size,
                         keel_ns deadline)
{
    size_t n = least(size, r->end - r->start);

    if (n == 0)
        return keel_stream_read(r->stream, buf, size, deadline);
    memcpy(buf, r->buf + r->start, n);
    r->start += n;
    return (ssize_t)n;
}

/* ---- a buffered writer -------------------------------------------------------------------- */

/* What was put and not written is buf[0 .. used). */
struct keel_writer {
    struct keel_stream *stream;
    size_t size, used;
    char buf[];
};

int keel_writer_new(struct keel_stream *s, size_t buffer_bytes,
                    struct keel_writer **ret)
{
    struct keel_writer *w;
    size_t size;

    keel_assert(buffer_bytes > 0);
    if (__builtin_add_overflow(sizeof *w, buffer_bytes, &size))
        return -ENOMEM;
    w = keel_alloc(size);
    if (!w)
        return -ENOMEM;
    *w = (struct keel_writer){.stream = s, .size = buffer_bytes};
    *ret = w;
    return 0;
}

void keel_writer_free(struct keel_writer *w)
{
    keel_free(w);
}

int keel_writer_put(struct keel_writer *w, const void *data, size_t size,
                    keel_ns deadline)
{
    /* iovec serves reads too; writev does not write by it. */
    struct iovec iov[2] = {{w->buf, w->used}, {(void *)(uintptr_t)data, size}};
    int rc;

    if (size == 0)
        return 0;
    if (size <= w->size - w->used) {
        memcpy(w->buf + w->used, data, size);
        w->used += size;
        return 0;
    }
    rc = keel_stream_writev(w->stream, iov, 2, deadline);
    if (rc < 0)
        return rc;
    w->used = 0;
    return 0;
}

int keel_writer_flush(struct keel_writer *w, keel_ns deadline)
{
    int rc;

    if (w->used == 0)
        return 0;
    rc = keel_stream_write(w->stream, w->buf, w->used, deadline);
    if (rc < 0)
        return rc;
    w->used = 0;
    return 0;
}
