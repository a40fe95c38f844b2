/* SPDX-License-Identifier: MIT */
/* A stream of bytes in both directions: a socket, TLS over one, a pipe in
 * memory.  What is written for a stream runs on all of them.
 *
 * One coroutine may read while another writes; both belong to one loop.
 * -ECONNABORTED is the end of the stream where more was expected: the peer
 * closed too early, or cut TLS without its closing alert. */
#ifndef KEEL_STREAM_H
#define KEEL_STREAM_H

#include <sys/uio.h>

#include <keel/base.h>

struct keel_stream;

/* What a kind of stream provides.  A concrete stream begins with
 * struct keel_stream. */
struct keel_stream_class {
    const char *name;
    /* At least one byte; 0 at the orderly end. */
    ssize_t (*read)(struct keel_stream *s, void *buf, size_t size,
                    keel_ns deadline);
    /* All of it: 0. */
    int (*writev)(struct keel_stream *s, const struct iovec *iov, int count,
                  keel_ns deadline);
    int (*finish)(struct keel_stream *s, keel_ns deadline);
    void (*close)(struct keel_stream *s);
    /* The socket below, -1 if none. */
    int (*fd)(struct keel_stream *s);
};
struct keel_stream {
    const struct keel_stream_class *is;
};

KEEL_API ssize_t keel_stream_read(struct keel_stream *s, void *buf, size_t size,
                                  keel_ns deadline);
/* Exactly `size` bytes: 0.  -ECONNABORTED with *ret_got (may be NULL) bytes
 * received when the stream ends before. */
KEEL_API int keel_stream_read_all(struct keel_stream *s, void *buf, size_t size,
                                  size_t *ret_got, keel_ns deadline);
/* All of it: 0.  -EPIPE, -ECONNRESET: the peer is gone. */
KEEL_API int keel_stream_write(struct keel_stream *s, const void *buf,
                               size_t size, keel_ns deadline);
KEEL_API int keel_stream_writev(struct keel_stream *s, const struct iovec *iov,
                                int count, keel_ns deadline);
/* No more will be written: flushes and tells the peer (half close, or TLS's
 * closing alert).  Reading goes on. */
KEEL_API int keel_stream_finish(struct keel_stream *s, keel_ns deadline);
/* Lets go at once and frees; accepts NULL; never waits.  A coroutine that
 * waits on it must have been joined before. */
KEEL_API void keel_stream_close(struct keel_stream *s);
KEEL_API int keel_stream_fd(struct keel_stream *s);
KEEL_AUTO(stream, struct keel_stream *, keel_stream_close)

/* A pair joined by two buffers of `size` bytes, for tests: what is written to
 * one is read from the other.  Between coroutines of one loop, or threads. */
KEEL_API int keel_stream_pair(size_t size, struct keel_stream *ret[2]);

/* A buffered reader over a stream: exact, by line, until a byte.  Borrows the
 * stream. */
struct keel_reader;
KEEL_API int keel_reader_new(struct keel_stream *s, size_t buffer_bytes,
                             struct keel_reader **ret);
KEEL_API void keel_reader_free(struct keel_reader *r);
KEEL_API int keel_reader_exact(struct keel_reader *r, void *buf, size_t size,
                               keel_ns deadline);
/* Up to and with `end`; lends the bytes until the next call.  -EMSGSIZE when
 * the buffer fills without it; 0 bytes at the orderly end. */
KEEL_API ssize_t keel_reader_until(struct keel_reader *r, char end,
                                   const char **ret, keel_ns deadline);
/* The same for an end of several bytes, as "\r\n\r\n"; not empty. */
KEEL_API ssize_t keel_reader_until_text(struct keel_reader *r, const char *end,
                                        const char **ret, keel_ns deadline);
/* A line without its end, "\n" or "\r\n", and a NUL behind it; lent until the
 * next call.  Returns its size, 0 for an empty one.
 * -ENODATA       the stream ended, in order
 * -ECONNABORTED  it ended inside a line
 * -EMSGSIZE      longer than the buffer */
KEEL_API ssize_t keel_reader_line(struct keel_reader *r, const char **ret,
                                  keel_ns deadline);
/* What is there: at least one byte, or 0 at the orderly end. */
KEEL_API ssize_t keel_reader_read(struct keel_reader *r, void *buf, size_t size,
                                  keel_ns deadline);
KEEL_AUTO(reader, struct keel_reader *, keel_reader_free)

/* A buffered writer over a stream: small pieces go together.  Borrows the
 * stream.  After an error the stream is of no more use for writing. */
struct keel_writer;
KEEL_API int keel_writer_new(struct keel_stream *s, size_t buffer_bytes,
                             struct keel_writer **ret);
/* Never waits: what was not flushed is lost. */
KEEL_API void keel_writer_free(struct keel_writer *w);
/* Takes all of it: 0.  Waits only when the buffer is full, and then for the
 * stream to take what is in it and this. */
KEEL_API int keel_writer_put(struct keel_writer *w, const void *data,
                             size_t size, keel_ns deadline);
/* What was put is the stream's; finishing it is the stream's too. */
KEEL_API int keel_writer_flush(struct keel_writer *w, keel_ns deadline);
KEEL_AUTO(writer, struct keel_writer *, keel_writer_free)

#endif
