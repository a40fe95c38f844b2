/* SPDX-License-Identifier: MIT */
/* Messages with a header of text, as JSON, and a body of any length: requests
 * and files over one stream.  keel reads the header's bytes, not their meaning.
 *
 *      0      4        4 + H         12 + H           12 + H + B
 *     +------+--------+-------------+----------------+
 *     | H    | header | B           | body           |
 *     +------+--------+-------------+----------------+
 *
 * H, 4 bytes, and the header are a frame of <keel/frame.h>; B has 8 bytes; both
 * are big-endian.  The header is UTF-8 (RFC 3629) without NUL.
 *
 * The body is not held in memory: after its header it is written or read piece
 * by piece, exactly B bytes, before the next message of that direction. */
#ifndef KEEL_MESSAGE_H
#define KEEL_MESSAGE_H

#include <keel/stream.h>

/* A message on its way.  The caller's storage; not touched while it has bytes
 * to come. */
struct keel_message {
    struct keel_stream *stream; /* borrowed */
    char *header;               /* read: owned, a NUL behind it */
    size_t header_size;
    uint64_t body_size;
    uint64_t left; /* of the body, to be written or read */
};

/* Writes the header; the body's bytes follow.
 * -EILSEQ    the header is not UTF-8, or has a NUL
 * -EMSGSIZE  the header has 4 GiB or more
 * and keel_stream_write's */
KEEL_API int keel_message_begin(struct keel_stream *s, const char *header,
                                size_t header_size, uint64_t body_size,
                                keel_ns deadline, struct keel_message *ret);
/* The next bytes of the body.  -EMSGSIZE: more than were promised; nothing of
 * them is written */
KEEL_API int keel_message_put(struct keel_message *m, const void *data,
                              size_t size, keel_ns deadline);
/* A whole one, header and body in one write. */
KEEL_API int keel_message_write(struct keel_stream *s, const char *header,
                                size_t header_size, const void *body,
                                size_t body_size, keel_ns deadline);

/* Reads a header of at most `header_most` bytes into fresh memory; its length
 * is compared before that is taken, and the body's with `body_most`.
 * keel_message_fini releases it.
 * -ENODATA        the stream ended between messages, in order
 * -EMSGSIZE       header or body are longer; the stream is of no more use
 * -EILSEQ         the header is no text; likewise
 * -ECONNABORTED   ended inside; of the length, header or length of the body
 *                 that it ended in, *ret_missing (may be NULL) bytes were
 *                 missing */
KEEL_API int keel_message_read(struct keel_stream *s, size_t header_most,
                               uint64_t body_most, keel_ns deadline,
                               struct keel_message *ret, size_t *ret_missing);
/* The next bytes of the body, at least one; 0 when it is complete.
 * -ECONNABORTED   the stream ended inside: m->left bytes were missing */
KEEL_API ssize_t keel_message_get(struct keel_message *m, void *buf,
                                  size_t size, keel_ns deadline);
/* All that is left of it, which must not be more than `size`: -EMSGSIZE before
 * anything is read.  Returns how much that was. */
KEEL_API ssize_t keel_message_get_all(struct keel_message *m, void *buf,
                                      size_t size, keel_ns deadline);
/* Reads on to its end and drops what comes. */
KEEL_API int keel_message_skip(struct keel_message *m, keel_ns deadline);
/* Releases the header; accepts one of all zeros. */
KEEL_API void keel_message_fini(struct keel_message *m);
static inline void keel_auto_message(struct keel_message *m)
{
    keel_message_fini(m);
}

#endif
