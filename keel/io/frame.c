/* SPDX-License-Identifier: MIT */
#include <keel/frame.h>

#include <errno.h>
#include <limits.h>

enum { HEAD_BYTES = 4 };

/* Reads `size` bytes; says how many were missing when the stream ended. */
static int read_part(struct keel_stream *s, void *buf, size_t size,
                     size_t *ret_missing, keel_ns deadline)
{
    size_t got = 0;
    int rc = keel_stream_read_all(s, buf, size, &got, deadline);

    if (rc == -ECONNABORTED && ret_missing)
        *ret_missing = size - got;
    return rc;
}

ssize_t keel_frame_read(struct keel_stream *s, size_t max_bytes, void **ret,
                        size_t *ret_missing, keel_ns deadline)
{
    uint8_t head[HEAD_BYTES];
    keel_auto(mem) void *body = NULL;
    size_t missing = 0;
    uint32_t size;
    int rc;

    rc = read_part(s, head, sizeof head, &missing, deadline);
    if (rc == -ECONNABORTED && missing == sizeof head)
        return -ENODATA;
    if (rc < 0) {
        if (rc == -ECONNABORTED && ret_missing)
            *ret_missing = missing;
        return rc;
    }
    size = keel_be32(head);
    if (size > max_bytes)
        return -EMSGSIZE;
    body = keel_alloc(size ? size : 1);
    if (!body)
        return -ENOMEM;
    rc = read_part(s, body, size, ret_missing, deadline);
    if (rc < 0)
        return rc;
    *ret = keel_take(body);
    return (ssize_t)size;
}

int keel_frame_write(struct keel_stream *s, const void *body, size_t size,
                     keel_ns deadline)
{
    uint8_t head[HEAD_BYTES];
    /* iovec serves reads too; writev does not write by it. */
    struct iovec iov[2] = {{head, sizeof head},
                           {(void *)(uintptr_t)body, size}};

    if (size > UINT32_MAX)
        return -EMSGSIZE;
    keel_be32_put(head, (uint32_t)size);
    return keel_stream_writev(s, iov, size ? 2 : 1, deadline);
}
