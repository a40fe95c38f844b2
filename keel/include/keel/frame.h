/* SPDX-License-Identifier: MIT */
/* Messages on a stream: a length of 4 bytes, big-endian, and that many bytes. */
#ifndef KEEL_FRAME_H
#define KEEL_FRAME_H

#include <keel/stream.h>

/* Reads one message of at most `max_bytes` into fresh memory (keel_free).  The
 * length is compared before memory is taken.  Returns its size; 0-byte
 * messages are legal.
 * -ENODATA        the stream ended between messages, in order
 * -EMSGSIZE       longer than `max_bytes`; the stream is of no more use
 * -ECONNABORTED   ended inside; *ret_missing (may be NULL) bytes were missing */
KEEL_API ssize_t keel_frame_read(struct keel_stream *s, size_t max_bytes,
                                 void **ret, size_t *ret_missing,
                                 keel_ns deadline);
KEEL_API int keel_frame_write(struct keel_stream *s, const void *body,
                              size_t size, keel_ns deadline);

#endif
